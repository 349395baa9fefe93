package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/memory"
	"github.com/sluice-mqtt/sluice/protocol"
)

// away is a forwarder that writes down what it is given.
type away struct {
	mu    sync.Mutex
	fail  error
	calls int
	got   []string
}

func (a *away) Forward(_ context.Context, _ time.Time, messages []*backend.Message) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls++
	if a.fail != nil {
		return a.fail
	}
	for _, m := range messages {
		a.got = append(a.got, fmt.Sprintf("%s=%s q%d", m.Topic, m.Payload, m.QoS))
	}
	return nil
}

func (a *away) failing(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fail = err
}

func (a *away) take() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	got := a.got
	a.got = nil
	slices.Sort(got)
	return got
}

// TestForward: each message is forwarded once, by the gateway that took it, be
// it of a client, a will or the server's own; a QoS 2 publish that is repeated is
// not.
func TestForward(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		forwarders := []*away{{}, {}}
		cl := newCluster(t, 2, func(i int, o *Options) { o.Forwarder = forwarders[i] })
		join(t, cl.nodes[1], "s", durable(100)).subscribe(2, "#")
		c := join(t, cl.nodes[0], "c", durable(100), will(protocol.Will{Topic: "w", Payload: []byte("bye"), QoS: 1}))
		for qos := range byte(3) {
			c.send(publish("a", "x", qos, uint16(qos)))
		}
		c.expect("PUBACK #1", "PUBREC #2")
		c.cut()
		c = rejoin(t, cl.nodes[0], "c")
		p := publish("a", "x", 2, 2)
		p.Dup = true
		c.send(p)
		c.expect("PUBREC #2")
		if err := cl.nodes[0].Publish(context.Background(), &backend.Message{Topic: "own", QoS: 1}); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute) // $SYS is published meanwhile
		want := []string{"a=x q0", "a=x q1", "a=x q2", "own= q1", "w=bye q1"}
		if got := forwarders[0].take(); !slices.Equal(got, want) {
			t.Errorf("forwarded %q, want %q", got, want)
		}
		if got := forwarders[1].take(); len(got) > 0 {
			t.Errorf("the other gateway forwarded %q", got)
		}
	})
}

// TestForwardFails: what can not be forwarded is not acknowledged; it is tried
// again for a while where nothing was given away, and never where nobody knows.
// QoS 0 is dropped and counted.
func TestForwardFails(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &away{}
		g := newGateway(t, func(o *Options) { o.Forwarder = f })
		sink := join(t, g, "sink")
		sink.subscribe(0, "#")
		c := join(t, g, "c")
		f.failing(fmt.Errorf("test: %w", backend.ErrUnavailable))
		c.send(publish("a", "0", 0, 0))
		sink.expect("PUBLISH a=0")
		c.ping()
		if n := g.Stats().Dropped[DropForward]; n != 1 {
			t.Errorf("%d dropped, want 1", n)
		}
		c.send(publish("a", "1", 1, 1))
		time.Sleep(time.Second)
		c.quiet()
		f.failing(nil)
		time.Sleep(time.Second)
		c.expect("PUBACK #1")

		f.failing(errors.New("test: nobody knows"))
		calls := f.calls
		c.send(publish("a", "2", 1, 2))
		time.Sleep(10 * time.Second)
		if p := describe(c.next()); p == "PUBACK #2" {
			t.Error("acknowledged")
		}
		if f.calls != calls+1 {
			t.Errorf("%d calls, want 1", f.calls-calls)
		}
	})
}

// TestInject: a message from outside keeps the limits of clients.
func TestInject(t *testing.T) {
	t.Parallel()
	one := byte(1)
	g := newGateway(t, func(o *Options) {
		o.Limits.MaximumQoS, o.Limits.TopicLevels, o.Limits.PacketSize, o.Limits.MessageExpiry = &one, 2, 256, 60
	})
	for _, c := range []struct {
		m    backend.Message
		want protocol.ReasonCode
	}{
		{backend.Message{Topic: "a/b"}, protocol.Success},
		{backend.Message{Topic: "a/b/c"}, protocol.TopicNameInvalid},
		{backend.Message{Topic: "a/+"}, protocol.TopicNameInvalid},
		{backend.Message{Topic: ""}, protocol.TopicNameInvalid},
		{backend.Message{Topic: "$SYS/a"}, protocol.TopicNameInvalid},
		{backend.Message{Topic: "$x"}, protocol.TopicNameInvalid},
		{backend.Message{Topic: "a", QoS: 2}, protocol.QoSNotSupported},
		{backend.Message{Topic: "a", Payload: make([]byte, 256)}, protocol.PacketTooLarge},
	} {
		err := g.Inject(context.Background(), &c.m, "")
		var r *RefusalError
		if code := protocol.Success; (errors.As(err, &r) && r.Code != c.want) || (err == nil) != (c.want == code) {
			t.Errorf("%q: %v, want %v", c.m.Topic, err, c.want)
		}
	}
	m := backend.Message{Topic: "a"}
	if err := g.Inject(context.Background(), &m, ""); err != nil || m.Expires == 0 {
		t.Errorf("expires %d, %v", m.Expires, err)
	}
}

// TestPublishBeyondRetainedLimit: who publishes for the server is told that the
// message can not be retained; a will is published without.
func TestPublishBeyondRetainedLimit(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		o := plainOptions(memory.NewStore(memory.Options{RetainedMessages: 1}), memory.NewBus().Gateway())
		g, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		defer g.Shutdown(context.Background())
		c := join(t, g, "c")
		c.subscribe(1, "#")
		for i := range 2 {
			for qos := range byte(2) {
				err := g.Publish(context.Background(), &backend.Message{Topic: fmt.Sprint(i), Payload: []byte("x"), QoS: qos, Retain: true})
				var r *RefusalError
				if refused := errors.As(err, &r) && r.Code == protocol.QuotaExceeded; refused != (i == 1) || err != nil && !refused {
					t.Errorf("message %d, QoS %d: %v", i, qos, err)
				}
			}
		}
		c.expect("PUBLISH 0=x", "PUBLISH 0=x q1 #1", "PUBLISH 1=x") // with QoS 0 it goes to who is there
		c.send(ack(protocol.PUBACK, 1))
		for qos := range byte(2) {
			join(t, g, "w", will(protocol.Will{Topic: "w", Payload: []byte("x"), Retain: true, QoS: qos})).cut()
			time.Sleep(time.Second)
			want := "PUBLISH w=x"
			if qos == 1 {
				want = "PUBLISH w=x q1 #2"
			}
			c.expect(want)
			c.quiet()
		}
	})
}
