package cluster_test

import (
	"encoding/base64"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// exchange is one QoS 2 message from a publisher by way of one gateway to a
// subscriber at another, and everything that both remember of it.
type exchange struct {
	t        *testing.T
	c        *harness.Cluster
	v        wire.Version
	pub, sub *wire.Client
	m        wire.Publish
	pending  map[uint16]bool // identifiers that the subscriber has handed on
	got      []string
}

func newExchange(t *testing.T, v wire.Version) *exchange {
	x := &exchange{t: t, v: v, pending: map[uint16]bool{}}
	x.c = harness.StartCluster(t, harness.ClusterOptions{Env: settings(), Proxies: true})
	x.sub = dial(t, x.c.Gateways[1], durable(v, "sub"))
	x.sub.Subscribe("a", 2)
	x.pub = dial(t, x.c.Gateways[0], durable(v, "pub"))
	x.m = wire.Publish{Topic: "a", QoS: 2, ID: 7, Payload: "the one message"}
	return x
}

// tag is what every request to the store about a client has in it.
func tag(client string) string {
	return "{c:" + base64.RawURLEncoding.EncodeToString([]byte(client)) + "}"
}

// killOf kills the gateway of the publisher (0) or of the subscriber (1), and
// the client comes back at the third.
func (x *exchange) kill(i int) {
	x.t.Helper()
	x.c.Gateways[i].Kill(x.t)
	if i == 0 {
		x.pub = resume(x.t, x.c.Gateways[2], durable(x.v, "pub"))
	} else {
		x.sub = resume(x.t, x.c.Gateways[2], durable(x.v, "sub"))
	}
}

func (x *exchange) release() {
	x.t.Helper()
	x.pub.Send(wire.Pubrel(x.m.ID))
	if ack := x.pub.AwaitAck(wire.PUBCOMP, x.m.ID); ack.Code != 0 {
		x.t.Errorf("PUBREL was answered %+v", ack)
	}
}

// receive answers all that comes to the subscriber up to the message "end",
// which must follow the one message.
func (x *exchange) receive() {
	x.t.Helper()
	x.pub.Publish("a", 2, "end")
	for ended := false; !ended; {
		switch p := x.sub.Next().(type) {
		case wire.Publish:
			x.take(p)
			x.sub.Send(wire.Pubrec(p.ID))
		case wire.Ack:
			delete(x.pending, p.ID)
			x.sub.Send(wire.Pubcomp(p.ID))
			ended = len(x.got) > 0 && x.got[len(x.got)-1] == "end" && len(x.pending) == 0
		default:
			x.t.Fatalf("got %T%+v", p, p)
		}
	}
	if len(x.got) != 2 || x.got[0] != x.m.Payload {
		x.t.Errorf("the subscriber has handed on %q", x.got)
	}
}

// take hands a message on unless it is a repetition.
func (x *exchange) take(p wire.Publish) {
	if !x.pending[p.ID] {
		x.pending[p.ID] = true
		x.got = append(x.got, p.Payload)
	}
}

// F03: kill -9 at each step of a QoS 2 exchange, on the side of the publisher
// and of the subscriber: the message is handed on exactly once, and a PUBREL
// that is sent again is answered with PUBCOMP.
func TestF03KillInQoS2(t *testing.T) {
	t.Parallel()
	steps := map[string]func(x *exchange){
		"publisher, PUBLISH stored": func(x *exchange) {
			stored := x.c.ToRedis[0].Swallow(x.m.Payload)
			x.pub.Send(x.m)
			await(x.t, stored, "the append")
			x.kill(0)
			x.m.Dup = true
			x.pub.Send(x.m)
			x.pub.AwaitAck(wire.PUBREC, x.m.ID)
			x.release()
		},
		"publisher, PUBREC sent": func(x *exchange) {
			x.pub.Send(x.m)
			x.pub.AwaitAck(wire.PUBREC, x.m.ID)
			x.kill(0)
			x.release()
		},
		"publisher, PUBREC lost": func(x *exchange) {
			x.pub.Send(x.m)
			x.pub.AwaitAck(wire.PUBREC, x.m.ID)
			x.kill(0)
			x.m.Dup = true
			x.pub.Send(x.m)
			x.pub.AwaitAck(wire.PUBREC, x.m.ID)
			x.release()
		},
		"publisher, PUBREL seen": func(x *exchange) {
			x.pub.Send(x.m)
			x.pub.AwaitAck(wire.PUBREC, x.m.ID)
			seen := x.c.ToRedis[0].Swallow(tag("pub"))
			x.pub.Send(wire.Pubrel(x.m.ID))
			await(x.t, seen, "the release")
			x.kill(0)
			x.release()
		},
		"publisher, PUBCOMP lost": func(x *exchange) {
			x.pub.Send(x.m)
			x.pub.AwaitAck(wire.PUBREC, x.m.ID)
			x.release()
			x.kill(0)
			x.release()
		},
		"subscriber, PUBLISH sent": func(x *exchange) {
			x.pub.PublishPacket(x.m)
			p := wire.Next[wire.Publish](x.sub)
			x.kill(1)
			again := wire.Next[wire.Publish](x.sub)
			if !again.Dup || again.ID != p.ID || again.Payload != p.Payload {
				x.t.Errorf("got %+v after %+v", again, p)
			}
			x.take(again)
			x.sub.Send(wire.Pubrec(again.ID))
		},
		"subscriber, PUBREC seen": func(x *exchange) {
			x.pub.PublishPacket(x.m)
			p := wire.Next[wire.Publish](x.sub)
			x.take(p)
			seen := x.c.ToRedis[1].Swallow(tag("sub"))
			x.sub.Send(wire.Pubrec(p.ID))
			await(x.t, seen, "the mark of PUBREC")
			x.kill(1)
		},
		"subscriber, PUBREL sent": func(x *exchange) {
			x.pub.PublishPacket(x.m)
			p := wire.Next[wire.Publish](x.sub)
			x.take(p)
			x.sub.Send(wire.Pubrec(p.ID))
			x.sub.AwaitAck(wire.PUBREL, p.ID)
			x.kill(1)
			if ack := wire.Next[wire.Ack](x.sub); ack.Type != wire.PUBREL || ack.ID != p.ID {
				x.t.Errorf("got %+v, want PUBREL again", ack)
			}
			delete(x.pending, p.ID)
			x.sub.Send(wire.Pubcomp(p.ID))
		},
		"subscriber, PUBCOMP seen": func(x *exchange) {
			x.pub.PublishPacket(x.m)
			p := x.sub.Receive()
			x.got = append(x.got, p.Payload)
			x.sub.Ping()
			x.kill(1)
		},
	}
	for name, step := range steps {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, v := range pick([]wire.Version{wire.V5}, []wire.Version{wire.V5, wire.V311}) {
				x := newExchange(t, v)
				step(x)
				x.receive()
			}
		})
	}
}

// F04: kill the gateway of a subscriber with a full window of 16 that it has
// not acknowledged: after the resume come the same 16 identifiers with DUP, in
// the order they had, before anything new.
func TestF04KillWithFullWindow(t *testing.T) {
	t.Parallel()
	const window = 16
	for qos := byte(1); qos <= 2; qos++ {
		t.Run("qos"+string('0'+rune(qos)), func(t *testing.T) {
			t.Parallel()
			c := harness.StartCluster(t, harness.ClusterOptions{Env: settings()})
			p := durable(wire.V5, "sub")
			p.Props = append(p.Props, wire.U16Prop(wire.ReceiveMaximumID, window))
			sub := dial(t, c.Gateways[0], p)
			sub.Subscribe("a", qos)
			pub := dial(t, c.Gateways[1], durable(wire.V5, "pub"))
			for i := range window + 4 {
				pub.Publish("a", qos, string('a'+rune(i)))
			}
			var sent []wire.Publish
			for range window {
				sent = append(sent, wire.Next[wire.Publish](sub))
			}
			sub.ExpectNothing()
			c.Gateways[0].Kill(t)
			sub = resume(t, c.Gateways[2], p)
			for i, m := range sent {
				if i != 0 && m.ID == sent[0].ID || m.Dup {
					t.Errorf("first sent %+v", m)
				}
				m.Dup = true
				sub.Expect(m)
			}
			sub.ExpectNothing()
			for _, m := range sent {
				if qos == 1 {
					sub.Send(wire.Puback(m.ID))
					continue
				}
				sub.Send(wire.Pubrec(m.ID))
				sub.AwaitAck(wire.PUBREL, m.ID)
				sub.Send(wire.Pubcomp(m.ID))
			}
			for i := range 4 {
				if m := sub.Receive(); m.Payload != string('a'+rune(window+i)) || m.Dup {
					t.Errorf("new %+v", m)
				}
			}
		})
	}
}
