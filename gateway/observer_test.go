package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend/memory"
	"github.com/sluice-mqtt/sluice/protocol"
)

// diary writes down events in words.
type diary struct {
	kinds EventKind
	mu    sync.Mutex
	lines []string
}

func (d *diary) Events() EventKind { return d.kinds }

func (d *diary) Observe(e Event) {
	s := e.Kind.String()
	if e.Client != nil {
		s += " client=" + string(e.Client.ID)
	}
	if e.Message != nil {
		s += fmt.Sprintf(" message=%s:%s", e.Message.Topic, e.Message.Payload)
	}
	if e.Filter != "" {
		s += " filter=" + e.Filter
	}
	if e.Code != 0 {
		s += fmt.Sprintf(" code=0x%02X", byte(e.Code))
	}
	if e.Kind == EventDropped {
		s += " drop=" + e.Drop.String()
	}
	if e.Packet != 0 {
		s += " packet=" + e.Packet.String()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, s)
}

// take returns what was written since the last time, in the order of the words.
func (d *diary) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.lines
	d.lines = nil
	slices.Sort(l)
	return l
}

const allEvents = eventsEnd - 1

// TestEvents goes through everything that can be observed and checks that each
// event comes, once, with the fields that belong to it.
func TestEvents(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := &diary{kinds: allEvents &^ (EventPacketReceived | EventPacketSent)}
		r := &rules{}
		r.deny(ErrNotAuthorized, "c publish no", "c receive hidden")
		s, b := memory.NewStore(memory.Options{}), memory.NewBus().Gateway()
		o := plainOptions(s, b)
		o.Observer, o.Authorizer = d, r
		o.Authenticator = AuthenticatorFunc(func(_ context.Context, q *ConnectRequest) (Identity, error) {
			if q.Client.ID == "bad" {
				return Identity{}, ErrBadCredentials
			}
			return Identity{}, nil
		})
		g, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		step := func(what string, want ...string) {
			t.Helper()
			time.Sleep(2 * time.Second)
			slices.Sort(want)
			if got := d.take(); !slices.Equal(got, want) {
				t.Errorf("%s:\n got %s\nwant %s", what, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
			}
		}
		if err := g.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		step("start", "starting", "started")
		dial(t, g, connectPacket("bad")).expect("CONNACK 0x86", "closed")
		step("refused", "refused client=bad code=0x86")
		c := join(t, g, "c", durable(1000), will(protocol.Will{Topic: "w", Payload: []byte("bye")}))
		step("connect", "connected client=c")
		c.subscribe(1, "a", "w", "hidden")
		step("subscribe", "subscribed client=c filter=a", "subscribed client=c filter=w", "subscribed client=c filter=hidden")
		c.send(publish("a", "0", 0, 0))
		c.expect("PUBLISH a=0")
		step("QoS 0", "received client=c message=a:0", "delivered client=c message=a:0")
		c.send(publish("a", "1", 1, 1))
		got := []string{describe(c.next()), describe(c.next())}
		if slices.Sort(got); !slices.Equal(got, []string{"PUBACK #1", "PUBLISH a=1 q1 #1"}) {
			t.Errorf("got %q", got)
		}
		step("QoS 1", "received client=c message=a:1", "delivered client=c message=a:1")
		c.send(retained("r", "x", 0, 0))
		step("retained", "received client=c message=r:x", "retained client=c message=r:x")
		c.send(publish("no", "x", 1, 2))
		c.expect("PUBACK #2 0x87")
		step("may not publish", "dropped client=c message=no:x drop=denied")
		c.send(publish("hidden", "x", 1, 3))
		c.expect("PUBACK #3")
		step("may not receive", "received client=c message=hidden:x", "dropped client=c message=hidden:x drop=denied")
		c.send(&protocol.Unsubscribe{PacketID: 4, Filters: []string{"hidden", "unknown"}})
		c.expect("UNSUBACK #4 0x00 0x11")
		step("unsubscribe", "unsubscribed client=c filter=hidden")
		c.cut()
		step("cut", "disconnected client=c code=0x80", "will client=c message=w:bye")
		c = rejoin(t, g, "c")
		for range 2 {
			c.next() // the message that was not acknowledged, and one of QoS 0 would not be there
			if len(c.packets) == 0 {
				break
			}
		}
		step("resumed", "connected client=c", "delivered client=c message=a:1")
		c.send(&protocol.Disconnect{HasSessionExpiry: true})
		c.expect("closed")
		step("the session ends", "disconnected client=c", "session_ended client=c")
		if err := g.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		step("stop", "stopping", "stopped")
	})
}

// TestPacketEvents: every packet of a connection is seen, both ways.
func TestPacketEvents(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := &diary{kinds: EventPacketReceived | EventPacketSent}
		g := newGateway(t, func(o *Options) { o.Observer = d })
		c := join(t, g, "c")
		c.subscribe(2, "a")
		c.send(publish("a", "x", 2, 1))
		c.expect("PUBLISH a=x q2 #1", "PUBREC #1")
		c.send(ack(protocol.PUBREL, 1), ack(protocol.PUBREC, 1))
		c.expect("PUBCOMP #1", "PUBREL #1")
		c.send(ack(protocol.PUBCOMP, 1), &protocol.Unsubscribe{PacketID: 2, Filters: []string{"a"}})
		c.expect("UNSUBACK #2 0x00")
		c.ping()
		c.goodbye()
		want := []string{}
		for _, p := range []protocol.Type{protocol.CONNECT, protocol.SUBSCRIBE, protocol.PUBLISH, protocol.PUBREL, protocol.PUBREC,
			protocol.PUBCOMP, protocol.UNSUBSCRIBE, protocol.PINGREQ, protocol.DISCONNECT} {
			want = append(want, fmt.Sprintf("packet_received client=c packet=%v", p))
		}
		for _, p := range []protocol.Type{protocol.CONNACK, protocol.SUBACK, protocol.PUBREC, protocol.PUBLISH, protocol.PUBCOMP,
			protocol.PUBREL, protocol.UNSUBACK, protocol.PINGRESP} {
			want = append(want, fmt.Sprintf("packet_sent client=c packet=%v", p))
		}
		slices.Sort(want)
		if got := d.take(); !slices.Equal(got, want) {
			t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// TestObserverSelects: an observer gets the events that it named and no others.
func TestObserverSelects(t *testing.T) {
	t.Parallel()
	d := &diary{kinds: EventSubscribed}
	g := newGateway(t, func(o *Options) { o.Observer = d })
	c := join(t, g, "c")
	c.subscribe(0, "a")
	c.send(publish("a", "x", 0, 0))
	c.expect("PUBLISH a=x")
	c.goodbye()
	if got := d.take(); !slices.Equal(got, []string{"subscribed client=c filter=a"}) {
		t.Errorf("got %q", got)
	}
}

// spoiler panics at every event.
type spoiler struct{}

func (spoiler) Events() EventKind { return allEvents }
func (spoiler) Observe(Event)     { panic(errors.New("an observer that does not work")) }

// TestObserverPanics: an observer that panics is counted and changes nothing,
// from the start to the end.
func TestObserverPanics(t *testing.T) {
	t.Parallel()
	g := newGateway(t, func(o *Options) { o.Observer = spoiler{} })
	before := g.Stats().Panics
	c := join(t, g, "c", durable(1000))
	c.subscribe(1, "a")
	c.send(publish("a", "x", 0, 0))
	c.expect("PUBLISH a=x")
	c.goodbye()
	rejoin(t, g, "c")
	if before < 2 || g.Stats().Panics < before+8 {
		t.Errorf("%d panics at the start, %d now", before, g.Stats().Panics)
	}
}

// TestTakenOverEvent: who loses its session to another connection is told apart
// from who just goes, with the reason in words.
func TestTakenOverEvent(t *testing.T) {
	t.Parallel()
	d := &diary{kinds: EventTakenOver | EventDisconnected}
	g := newGateway(t, func(o *Options) { o.Observer = d })
	first := join(t, g, "c")
	second := join(t, g, "c")
	first.expect("DISCONNECT 0x8E", "closed")
	second.goodbye()
	if got := d.take(); !slices.Equal(got, []string{"disconnected client=c", "disconnected client=c code=0x8E", "taken_over client=c"}) {
		t.Errorf("got %q", got)
	}
}

// TestEventNames: each kind has a name of its own.
func TestEventNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{"unknown": true}
	for _, k := range EventKinds() {
		if seen[k.String()] {
			t.Errorf("the name %s has two meanings", k)
		}
		seen[k.String()] = true
	}
	if n := len(seen); 1<<(n-1) != int(eventsEnd) {
		t.Errorf("%d names", n)
	}
	for _, k := range []EventKind{0, EventStarted | EventStopped, eventsEnd} {
		if k.String() != "unknown" {
			t.Errorf("%b is %s", k, k)
		}
	}
}
