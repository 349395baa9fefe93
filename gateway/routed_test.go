package gateway

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// audience are sessions of all kinds at all gateways, each with one subscription
// to "a".
type audience struct {
	live, stored []*client
	qos          []byte // of live
}

func gatherAudience(t *testing.T, cl *cluster) *audience {
	a := &audience{}
	for i, g := range cl.nodes {
		for qos := range byte(3) {
			c := join(t, g, fmt.Sprintf("live %d %d", i, qos))
			c.subscribe(qos, "a")
			a.live, a.qos = append(a.live, c), append(a.qos, qos)
		}
		c := join(t, g, fmt.Sprint("stored ", i), durable(1000))
		c.subscribe(2, "a")
		a.stored = append(a.stored, c)
	}
	return a
}

// has checks that everybody got one message, the nth, and nothing else.
func (a *audience) has(payload string, n int) {
	a.hasQoS(payload, 2, n)
}

// hasQoS is has for a message that was published with that QoS.
func (a *audience) hasQoS(payload string, qos byte, n int) {
	for i, c := range a.live {
		want := "PUBLISH a=" + payload
		if a.qos[i] > 0 {
			want += fmt.Sprintf(" q%d #%d", min(qos, a.qos[i]), n)
		}
		c.quietBut(want)
	}
	for _, c := range a.stored {
		c.quietBut(fmt.Sprintf("PUBLISH a=%s q%d #%d", payload, qos, n))
	}
}

func (a *audience) quiet() {
	for _, c := range append(a.live, a.stored...) {
		c.quiet()
	}
}

func repetition(topic, payload string, id uint16) *protocol.Publish {
	p := publish(topic, payload, 2, id)
	p.Dup = true
	return p
}

// TestRoutedAgain: a QoS 2 publish whose gateway stored it and could not do the
// rest reaches everybody once when its publisher repeats it at another gateway,
// sessions without an inbox included, whether or not they had it before
// [MQTT-4.3.3-2]. Further repetitions reach nobody.
func TestRoutedAgain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		fail func(cl *cluster)
	}{
		{"no other gateway reached", func(cl *cluster) {
			cl.buses[0].fault(func(call string, about any) (bool, error) {
				if m, ok := about.(*backend.Message); ok && m.Topic == "a" {
					return false, unavailable(call)
				}
				return false, nil
			})
		}},
		{"not routed at all", func(cl *cluster) {
			cl.stores[0].after(func(call string) error {
				if call == "Append" {
					return unavailable(call)
				}
				return nil
			})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				cl := newCluster(t, 3)
				a := gatherAudience(t, cl)
				p := join(t, cl.nodes[0], "p", durable(1000))
				tt.fail(cl)
				p.send(publish("a", "x", 2, 7))
				p.endsAt(5*time.Second, 2*holdPause, "DISCONNECT 0x89", "closed")
				cl.buses[0].mend()
				cl.stores[0].mend()
				for i := range 4 {
					p = rejoin(t, cl.nodes[(i+1)%3], "p")
					p.send(repetition("a", "x", 7), repetition("a", "x", 7))
					p.expect("PUBREC #7", "PUBREC #7")
					if i == 0 {
						time.Sleep(5 * time.Second) // to a review
						a.has("x", 1)
					}
				}
				p.send(ack(protocol.PUBREL, 7), publish("a", "y", 2, 7))
				p.expect("PUBCOMP #7", "PUBREC #7")
				a.has("y", 2)
			})
		})
	}
}

// TestReplyLost: a publish whose append the store has carried out without an
// answer is appended again by its gateway, and is then delivered and
// acknowledged like any other. Who was not told of its mail finds it soon (F11).
func TestReplyLost(t *testing.T) {
	t.Parallel()
	for _, expiry := range []uint32{0, 1000} { // of the publisher
		t.Run(fmt.Sprint("expiry ", expiry), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				cl := newCluster(t, 3)
				a := gatherAudience(t, cl)
				p := join(t, cl.nodes[0], "p", durable(expiry))
				var lost atomic.Int64
				cl.stores[0].after(func(call string) error {
					if call == "Append" && lost.Add(1) <= 3 {
						return unavailable(call)
					}
					return nil
				})
				p.send(publish("a", "x", 2, 7))
				time.Sleep(4 * holdPause)
				p.endsAt(0, 0, "PUBREC #7")
				time.Sleep(cl.nodes[0].opt.Timing.Poll)
				a.has("x", 1)
				a.quiet()
			})
		})
	}
}

// TestRefusedByBus: a QoS 2 publish that is answered with an error, after it has
// been stored, frees its packet identifier for another message (MQTT 5 §4.3.3).
func TestRefusedByBus(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cl := newCluster(t, 2)
		s := join(t, cl.nodes[1], "s", durable(1000))
		s.subscribe(2, "a")
		p := join(t, cl.nodes[0], "p", durable(1000))
		cl.buses[0].fault(func(call string, _ any) (bool, error) {
			if call == "Publish" {
				return false, fmt.Errorf("test: %w", backend.ErrTooLarge)
			}
			return false, nil
		})
		p.send(publish("a", "1", 2, 7))
		p.expect("PUBREC #7 0x83")
		p.send(publish("a", "2", 2, 7))
		p.expect("PUBREC #7 0x83")
		cl.buses[0].mend()
		p = rejoin(t, cl.nodes[0], "p")
		p.send(publish("a", "3", 2, 7))
		p.expect("PUBREC #7")
		p = rejoin(t, cl.nodes[1], "p")
		p.send(ack(protocol.PUBREL, 7), publish("a", "4", 2, 7))
		p.expect("PUBCOMP #7", "PUBREC #7")
		s.quietBut("PUBLISH a=1 q2 #1", "PUBLISH a=2 q2 #2", "PUBLISH a=3 q2 #3", "PUBLISH a=4 q2 #4")
	})
}

// TestWillRoutedAgain: a will that could not be forwarded is published again,
// and reaches everybody once, at QoS 1 too: a will fires once.
func TestWillRoutedAgain(t *testing.T) {
	for qos := byte(1); qos <= 2; qos++ {
		t.Run(fmt.Sprint("qos", qos), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				cl := newCluster(t, 2)
				a := gatherAudience(t, cl)
				c := join(t, cl.nodes[0], "c", will(protocol.Will{Topic: "a", Payload: []byte("x"), QoS: qos}))
				for i := range cl.nodes {
					cl.buses[i].fault(func(call string, _ any) (bool, error) { return false, unavailable(call) })
				}
				c.cut()
				time.Sleep(time.Second)
				for i := range cl.nodes {
					cl.buses[i].mend()
				}
				time.Sleep(2 * backend.ChoreClaim)
				a.hasQoS("x", qos, 1)
				time.Sleep(time.Minute)
				a.quiet()
			})
		})
	}
}

// TestRecent: of one publisher the newest identities are remembered, all of the
// last minute up to a bound, and only those of its newest session.
func TestRecent(t *testing.T) {
	id := func(n int) backend.PublishID {
		return backend.PublishID{Client: "c", Incarnation: 1, PacketID: uint16(n%100) + 1, Generation: uint32(n / 100)}
	}
	var r recent
	for n := range 3 * routedWindow {
		r.add(id(n), 0)
		for _, back := range []int{0, 1, n / 2, routedWindow - 1} {
			if back <= n && !r.has(id(n-back)) && back < routedWindow {
				t.Fatalf("%d is not known after %d", n-back, n)
			}
		}
		if n >= routedWindow && r.has(id(n-routedWindow)) {
			t.Fatalf("%d is still known after %d", n-routedWindow, n)
		}
	}
	r = recent{}
	for n := range 1000 { // one a second
		r.add(id(n), uint32(n))
		if n > 60 && !r.has(id(n-59)) {
			t.Fatalf("%d is not known a minute later", n-59)
		}
	}
	if len(r.ring) > 128 {
		t.Errorf("%d are kept of a slow publisher", len(r.ring))
	}
	next := id(5)
	next.Incarnation++
	if r.add(next, 0); !r.has(next) || r.has(id(999)) {
		t.Error("what is known is not that of the newest session")
	}
	var s routedShard
	for n := range 3 * routedPublishers {
		s.of(backend.ClientID(fmt.Sprint(n)), time.Duration(n))
	}
	if n := len(s.newer) + len(s.older); n > 2*routedPublishers {
		t.Errorf("%d publishers are remembered", n)
	}
}

// TestOneMessageManyGateways: a message with a name of its own that several
// gateways are given comes once to who is connected to any of them, whichever is
// the first and whatever is still on its way.
func TestOneMessageManyGateways(t *testing.T) {
	t.Parallel()
	cl := newCluster(t, 3)
	var readers []*client
	for i, g := range cl.nodes {
		c := join(t, g, fmt.Sprint("r", i))
		c.subscribe(2, "#")
		readers = append(readers, c)
	}
	const rounds = 50
	var all sync.WaitGroup
	for i := range rounds {
		for _, g := range cl.nodes {
			all.Go(func() {
				m := backend.Message{Topic: fmt.Sprint(i), QoS: 1}
				if err := g.Inject(context.Background(), &m, fmt.Sprint("name ", i)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	for _, c := range readers {
		got := map[string]int{}
		for range rounds {
			p, ok := c.next().(*protocol.Publish)
			if !ok {
				t.Fatal("something else came")
			}
			got[string(p.Topic)]++
			c.send(ack(protocol.PUBACK, p.PacketID))
		}
		c.ping()
		if len(got) != rounds {
			t.Errorf("%d messages of %d", len(got), rounds)
		}
	}
}
