package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/sluice-mqtt/sluice/protocol"
)

// rules are an authorizer that forbids what is in it; the key is the client, the
// action and the topic or filter.
type rules struct {
	mu     sync.RWMutex
	forbid map[string]error
}

func (r *rules) Authorize(_ context.Context, c *Client, a Access) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.forbid[fmt.Sprint(c.ID, " ", a.Action, " ", a.Topic)]
}

func (r *rules) deny(err error, what ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.forbid == nil {
		r.forbid = make(map[string]error)
	}
	for _, w := range what {
		r.forbid[w] = err
	}
}

// withRules returns gateways that share an authorizer.
func withRules(t *testing.T, n int) (*cluster, *rules) {
	r := &rules{}
	return newCluster(t, n, func(_ int, o *Options) { o.Authorizer = r }), r
}

// secret forbids s to receive a/secret.
const secret = "s receive a/secret"

// TestReceiveDenied: a topic that a client may not receive does not reach it by
// any path, though it has a subscription that matches; everything else does.
func TestReceiveDenied(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		expiry uint32
		filter string
		qos    byte
		from   int // the publisher's gateway
	}{
		{"live", 0, "a/#", 0, 0},
		{"live, of another gateway", 0, "a/#", 0, 1},
		{"live, QoS 1", 0, "a/#", 1, 0},
		{"inbox", 1000, "a/#", 1, 0},
		{"inbox, of another gateway", 1000, "a/#", 2, 1},
		{"shared", 0, "$share/g/a/#", 0, 0},
		{"shared, QoS 1", 0, "$share/g/a/#", 1, 1},
		{"shared, durable", 1000, "$share/g/a/#", 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cl, r := withRules(t, 2)
			r.deny(ErrNotAuthorized, secret)
			s := join(t, cl.nodes[0], "s", durable(tt.expiry))
			s.subscribe(tt.qos, tt.filter)
			p := join(t, cl.nodes[tt.from], "p")
			for i, topic := range []string{"a/secret", "a/open", "a/secret", "a/open"} {
				p.send(publish(topic, fmt.Sprint(i), tt.qos, uint16(i+1)*uint16(min(tt.qos, 1))))
			}
			for _, want := range []string{"1", "3"} {
				m := s.next().(*protocol.Publish)
				if string(m.Topic) != "a/open" || string(m.Payload) != want {
					t.Fatalf("got %s, want message %s", describe(m), want)
				}
			}
			s.ping()
			if n := cl.nodes[0].Stats().InFlight; n != int64(2*min(tt.qos, 1)) {
				t.Errorf("%d deliveries are in flight", n)
			}
		})
	}
}

// TestReceiveDeniedRetained: neither are retained messages delivered, of any
// QoS, to any session.
func TestReceiveDeniedRetained(t *testing.T) {
	t.Parallel()
	for _, expiry := range []uint32{0, 1000} {
		for qos := range byte(3) {
			t.Run(fmt.Sprintf("expiry %d, QoS %d", expiry, qos), func(t *testing.T) {
				t.Parallel()
				cl, r := withRules(t, 1)
				r.deny(ErrNotAuthorized, secret)
				p := join(t, cl.nodes[0], "p")
				for _, topic := range []string{"a/open", "a/secret", "a/too"} {
					p.send(retained(topic, "x", 1, 1))
					p.next()
				}
				s := join(t, cl.nodes[0], "s", durable(expiry))
				s.subscribe(qos, "a/#")
				for _, topic := range []string{"a/open", "a/too"} {
					if m := s.next().(*protocol.Publish); string(m.Topic) != topic {
						t.Errorf("got %s, want %s", describe(m), topic)
					}
				}
				s.ping()
			})
		}
	}
}

// TestReceiveDeniedAlias: an alias of the server's does not get around it.
func TestReceiveDeniedAlias(t *testing.T) {
	t.Parallel()
	cl, r := withRules(t, 1)
	g := cl.nodes[0]
	s := join(t, g, "s", func(p *protocol.Connect) { p.TopicAliasMaximum = 10 })
	s.subscribe(0, "a/#")
	p := join(t, g, "p")
	p.send(publish("a/secret", "1", 0, 0), publish("a/secret", "2", 0, 0))
	s.expect("PUBLISH a/secret=1", "PUBLISH =2")
	r.deny(ErrNotAuthorized, secret)
	g.Reauthorize(context.Background())
	p.send(publish("a/secret", "3", 0, 0), publish("a/open", "4", 0, 0))
	s.expect("PUBLISH a/open=4")
}

// TestReceiveRevoked: what waited in an inbox, or was sent and not acknowledged,
// is not delivered after the permission is gone. What the client had promised
// for a QoS 2 delivery is still taken.
func TestReceiveRevoked(t *testing.T) {
	t.Parallel()
	cl, r := withRules(t, 2)
	s := join(t, cl.nodes[0], "s", durable(1000), receiveMaximum(3))
	s.subscribe(2, "a/#")
	p := join(t, cl.nodes[1], "p")
	for i, topic := range []string{"a/secret", "a/secret", "a/open", "a/secret", "a/open"} {
		p.send(publish(topic, fmt.Sprint(i), 2, uint16(i+1)))
		p.next()
	}
	s.expect("PUBLISH a/secret=0 q2 #1", "PUBLISH a/secret=1 q2 #2", "PUBLISH a/open=2 q2 #3")
	s.send(ack(protocol.PUBREC, 1))
	s.expect("PUBREL #1")
	s.cut()
	r.deny(ErrNotAuthorized, secret)
	s = rejoin(t, cl.nodes[1], "s")
	s.expect("PUBREL #1", "PUBLISH a/open=2 q2 #3 dup")
	m := s.next().(*protocol.Publish)
	if string(m.Topic) != "a/open" || string(m.Payload) != "4" {
		t.Errorf("got %s", describe(m))
	}
	// The client had taken number 2 and says so now.
	s.send(ack(protocol.PUBREC, 2), ack(protocol.PUBCOMP, 1))
	s.expect("PUBREL #2 0x92")
	s.ping()
}

// TestReceiveRevokedInQueue: neither is what waited for room in the window of an
// ephemeral session.
func TestReceiveRevokedInQueue(t *testing.T) {
	t.Parallel()
	cl, r := withRules(t, 1)
	g := cl.nodes[0]
	s := join(t, g, "s", receiveMaximum(1))
	s.subscribe(1, "a/#")
	p := join(t, g, "p")
	for i, topic := range []string{"a/open", "a/secret", "a/open"} {
		p.send(publish(topic, fmt.Sprint(i), 1, uint16(i+1)))
		p.next()
	}
	s.expect("PUBLISH a/open=0 q1 #1")
	r.deny(ErrNotAuthorized, secret)
	g.Reauthorize(context.Background())
	s.send(ack(protocol.PUBACK, 1))
	s.expect("PUBLISH a/open=2 q1 #2")
}

// TestReauthorize: subscriptions that are not allowed any more are gone, from
// this connection, from the store, and for messages that are on their way; the
// others stay.
func TestReauthorize(t *testing.T) {
	t.Parallel()
	cl, r := withRules(t, 2)
	s := join(t, cl.nodes[0], "s", durable(1000))
	s.subscribe(1, "a", "b", "$share/g/c")
	p := join(t, cl.nodes[1], "p")
	r.deny(ErrNotAuthorized, "s subscribe a", "s subscribe c")
	cl.nodes[0].Reauthorize(context.Background())
	for i, topic := range []string{"a", "c", "b"} {
		p.send(publish(topic, "x", 1, uint16(i+1)))
		p.next()
	}
	s.expect("PUBLISH b=x q1 #1")
	s.cut()
	s = rejoin(t, cl.nodes[1], "s")
	s.expect("PUBLISH b=x q1 #1 dup")
	s.send(&protocol.Unsubscribe{PacketID: 5, Filters: []string{"a", "b", "$share/g/c"}})
	s.expect("UNSUBACK #5 0x11 0x00 0x11")
}

// TestResumeAuthorized: a session that is resumed loses the subscriptions that
// its client may not have any more.
func TestResumeAuthorized(t *testing.T) {
	t.Parallel()
	cl, r := withRules(t, 2)
	s := join(t, cl.nodes[0], "s", durable(1000))
	s.subscribe(1, "a", "b")
	s.cut()
	r.deny(ErrNotAuthorized, "s subscribe a")
	s = rejoin(t, cl.nodes[1], "s")
	p := join(t, cl.nodes[0], "p")
	p.send(publish("a", "x", 1, 1), publish("b", "x", 1, 2))
	p.next()
	p.next()
	s.expect("PUBLISH b=x q1 #1")
}

// TestDenials checks the answers to what a client may not do, for every kind of
// answer of an authorizer and every version. Whatever an authorizer says but
// yes is no.
func TestDenials(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		err       error
		publish   string // the code of PUBACK and PUBREC
		subscribe string
	}{
		{"not authorized", ErrNotAuthorized, " 0x87", " 0x87"},
		{"a code of its own", &RefusalError{Code: protocol.QuotaExceeded}, " 0x97", " 0x97"},
		{"does not know", errors.New("the directory does not answer"), " 0x87", " 0x87"},
		{"no code", &RefusalError{Reason: "no"}, " 0x87", " 0x87"},
		{"a code that means yes", &RefusalError{Code: protocol.GrantedQoS1}, " 0x87", " 0x87"},
		{"a code that is for CONNACK", ErrBadCredentials, " 0x87", " 0x87"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cl, r := withRules(t, 1)
			g := cl.nodes[0]
			r.deny(tt.err, "five publish no", "five subscribe no", "three publish no", "three subscribe no")
			watch := join(t, g, "watch")
			watch.subscribe(0, "no")
			five, three := join(t, g, "five"), join(t, g, "three", v311)
			for _, c := range []*client{five, three} {
				c.send(publish("no", "x", 0, 0))
				c.ping()
			}
			five.send(publish("no", "x", 1, 1), publish("no", "x", 2, 2))
			five.expect("PUBACK #1"+tt.publish, "PUBREC #2"+tt.publish)
			five.send(publish("yes", "x", 2, 2)) // the identifier is free again
			five.expect("PUBREC #2 0x10")
			five.send(subscribePacket(3, 1, "no", "$share/g/no", "yes"))
			five.expect("SUBACK #3" + tt.subscribe + tt.subscribe + " 0x01")
			// MQTT 3 has no code for it: it is acknowledged and goes nowhere.
			three.send(publish("no", "x", 1, 1), publish("no", "x", 2, 2))
			three.expect("PUBACK #1", "PUBREC #2")
			three.send(subscribePacket(3, 1, "no", "yes"))
			three.expect("SUBACK #3 0x80 0x01")
			watch.ping()
		})
	}
}

// TestDeniedDisconnect: by the other policy a client of MQTT 3 is cut off, and
// what it may not publish is not acknowledged [MQTT-3.3.5-2].
func TestDeniedDisconnect(t *testing.T) {
	t.Parallel()
	r := &rules{}
	r.deny(ErrNotAuthorized, "c publish no")
	g := newGateway(t, func(o *Options) { o.Authorizer, o.DeniedPublish = r, DeniedDisconnect })
	for qos := range byte(3) {
		c := join(t, g, "c", v311)
		c.send(publish("no", "x", qos, uint16(qos)))
		c.expect("closed")
	}
	c := join(t, g, "c")
	c.send(publish("no", "x", 1, 1))
	c.expect("PUBACK #1 0x87")
	c.ping()
}

// TestAuthorizerPanics: a panic of the authorizer is a no and harms nobody.
func TestAuthorizerPanics(t *testing.T) {
	t.Parallel()
	g := newGateway(t, func(o *Options) {
		o.Authorizer = AuthorizerFunc(func(_ context.Context, _ *Client, a Access) error {
			if a.Topic == "panic" {
				panic("no rule")
			}
			return nil
		})
	})
	c := join(t, g, "c")
	c.subscribe(0, "#") // and then every message is asked for
	c.send(publish("panic", "x", 1, 1), subscribePacket(2, 0, "panic"), publish("fine", "x", 0, 0))
	c.expect("PUBACK #1 0x87", "SUBACK #2 0x87", "PUBLISH fine=x")
	if n := g.Stats().Panics; n < 2 {
		t.Errorf("%d panics are counted", n)
	}
}
