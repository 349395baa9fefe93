package gateway

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/protocol"
)

// badge is what an authenticator of these tests attaches; it can be stored.
type badge string

func (b badge) MarshalBinary() ([]byte, error) { return []byte("badge of " + b), nil }

// gatekeeper lets nobody publish who has no badge, or of whom it was said so. It
// notes who asked to publish a will after CONNECT.
type gatekeeper struct {
	mu    sync.Mutex
	deny  error
	asked []Client
	torn  bool // what is stored can not be read
}

func (k *gatekeeper) Authenticate(_ context.Context, r *ConnectRequest) (Identity, error) {
	return Identity{Principal: "principal of " + string(r.Client.ID), Data: badge(r.Client.ID)}, nil
}

func (k *gatekeeper) Authorize(_ context.Context, c *Client, a Access) error {
	if a.Action != Publish {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked = append(k.asked, *c)
	if _, ok := c.Data.(badge); !ok {
		return ErrNotAuthorized
	}
	return k.deny
}

func (k *gatekeeper) Restore(data []byte) (any, error) {
	if k.torn {
		return nil, errors.New("not a badge")
	}
	return badge(data[len("badge of "):]), nil
}

func (k *gatekeeper) from(deny error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.deny, k.asked = deny, nil
}

// willWays are the ways by which a will comes to be published, on a clock that
// is set forward; the second gateway alone does chores.
var willWays = []struct {
	name  string
	delay uint32
	end   func(t *testing.T, cl *cluster, w *client)
}{
	{"connection lost", 0, func(_ *testing.T, _ *cluster, w *client) { w.cut() }},
	{"delay, published elsewhere", 10, func(_ *testing.T, _ *cluster, w *client) {
		w.cut()
		time.Sleep(15 * time.Second)
	}},
	{"session ends before the delay", 100, func(_ *testing.T, _ *cluster, w *client) {
		w.cut()
		time.Sleep(65 * time.Second)
	}},
	{"taken over by another gateway", 0, func(t *testing.T, cl *cluster, _ *client) { rejoin(t, cl.nodes[1], "w") }},
	{"clean start at another gateway", 100, func(t *testing.T, cl *cluster, _ *client) { join(t, cl.nodes[1], "w") }},
	{"session deleted", 100, func(t *testing.T, cl *cluster, _ *client) {
		if _, _, err := cl.store.Destroy(context.Background(), "w"); err != nil {
			t.Fatal(err)
		}
	}},
	{"gateway dead", 0, func(_ *testing.T, cl *cluster, _ *client) {
		cl.kill(0)
		time.Sleep(30 * time.Second)
	}},
	{"gateway dead, delay", 20, func(_ *testing.T, cl *cluster, _ *client) {
		cl.kill(0)
		time.Sleep(50 * time.Second)
	}},
}

// TestWillAuthorized: however a will comes to be published, and by whichever
// gateway, it is asked for then, as what its client was, and one that is not
// allowed any more is dropped (V11).
func TestWillAuthorized(t *testing.T) {
	t.Parallel()
	for _, tt := range willWays {
		for _, then := range []struct {
			name string
			deny error
			want bool
		}{
			{"allowed", nil, true}, {"denied", ErrNotAuthorized, false}, {"can not be told", errors.New("server is down"), false},
		} {
			t.Run(tt.name+", "+then.name, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					k := &gatekeeper{}
					cl := newCluster(t, 2, func(i int, o *Options) { o.Authenticator, o.Authorizer = k, k })
					cl.stores[0].fault(func(call string) error {
						if call == "Due" {
							return unavailable(call)
						}
						return nil
					})
					watch := join(t, cl.nodes[1], "watch")
					watch.subscribe(1, "gone")
					w := join(t, cl.nodes[0], "w", durable(60), will(protocol.Will{Topic: "gone", Payload: []byte("w"), QoS: 1, Delay: tt.delay}))
					k.from(then.deny)
					tt.end(t, cl, w)
					if then.want {
						watch.expect("PUBLISH gone=w q1 #1")
					}
					time.Sleep(10 * time.Second)
					watch.quiet()
					k.mu.Lock()
					defer k.mu.Unlock()
					if len(k.asked) != 1 {
						t.Fatalf("it was asked for %d times, want once", len(k.asked))
					}
					if c := k.asked[0]; c.ID != "w" || c.Principal != "principal of w" || c.Data != badge("w") || c.Version != protocol.V5 || c.Listener != "pipe" {
						t.Errorf("it was asked for as %+v", c)
					}
				})
			})
		}
	}
}

// TestWillOfNobody: where it can not be read whose a will is, it is dropped.
func TestWillOfNobody(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		k := &gatekeeper{torn: true}
		cl := newCluster(t, 2, func(_ int, o *Options) { o.Authenticator, o.Authorizer = k, k })
		watch := join(t, cl.nodes[1], "watch")
		watch.subscribe(1, "gone")
		w := join(t, cl.nodes[0], "w", durable(60), will(protocol.Will{Topic: "gone", Delay: 1}))
		w.cut()
		time.Sleep(10 * time.Second)
		watch.quiet()
		if n := cl.nodes[0].Stats().Dropped[DropDenied] + cl.nodes[1].Stats().Dropped[DropDenied]; n != 1 {
			t.Errorf("%d dropped as denied, want 1", n)
		}
	})
}

// TestPermissionsNotTold: a client whose subscriptions nobody can judge is sent
// away, or not let in, and keeps them.
func TestPermissionsNotTold(t *testing.T) {
	t.Parallel()
	cl, r := withRules(t, 2)
	s := join(t, cl.nodes[0], "s", durable(1000))
	s.subscribe(1, "a", "b")
	r.deny(errors.New("server is down"), "s subscribe a")
	r.deny(ErrNotAuthorized, "s subscribe b")
	cl.nodes[0].Reauthorize(t.Context())
	s.expect("DISCONNECT 0x89", "closed")
	dial(t, cl.nodes[1], connectPacket("s", durable(1000))).expect("CONNACK 0x88", "closed")
	p := join(t, cl.nodes[0], "p")
	p.send(publish("a", "x", 1, 1))
	p.expect("PUBACK #1")
	r.deny(nil, "s subscribe a")
	s = rejoin(t, cl.nodes[1], "s")
	s.expect("PUBLISH a=x q1 #1")
	p.send(publish("b", "y", 1, 1), publish("a", "z", 1, 2))
	s.expect("PUBLISH a=z q1 #2")
}

// TestDrainWills: as it is told to stop, a gateway publishes the wills of those it
// sends away [MQTT-3.1.2-8], but for those with a delay whose clients are back
// elsewhere before it has passed.
func TestDrainWills(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cl := newCluster(t, 2)
		watch := join(t, cl.nodes[1], "watch")
		watch.subscribe(1, "gone/#")
		for id, delay := range map[string]uint32{"none": 0, "back": 10, "away": 10} {
			join(t, cl.nodes[0], id, durable(60), will(protocol.Will{Topic: "gone/" + id, QoS: 1, Delay: delay}))
		}
		if err := cl.nodes[0].Shutdown(context.Background()); err != nil {
			t.Fatal(err)
		}
		watch.expect("PUBLISH gone/none= q1 #1")
		rejoin(t, cl.nodes[1], "back")
		time.Sleep(9 * time.Second)
		watch.quiet()
		time.Sleep(5 * time.Second)
		watch.expect("PUBLISH gone/away= q1 #2")
		time.Sleep(time.Minute)
		watch.quiet()
	})
}
