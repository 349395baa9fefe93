package conformance

import (
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// watch subscribes a new client to a topic of its own.
func watch(t *testing.T, options byte) (c *wire.Client, topic string) {
	t.Helper()
	c, topic = join(t), unique("w")
	c.Subscribe(topic, options)
	return c, topic
}

// noWill makes sure that the will of c's client does not come: the client's
// session is taken through Clean Start and ended in order, so that nothing of
// it is left to wait for, and then another message comes first.
func noWill(t *testing.T, sub *wire.Client, id, topic string) {
	t.Helper()
	c := dial(t).Connect(clean(id))
	c.Publish(topic, 1, "instead of the will")
	receives(t, sub, "instead of the will")
	c.Disconnect()
}

// The will is published when a connection ends in any way but DISCONNECT 0x00,
// with its QoS, and only once [MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.1.2-10].
func TestV5WillPublished(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.2-7", "MQTT-3.1.2-8", "MQTT-3.1.2-9", "MQTT-3.1.2-10", "MQTT-3.1.2-12")
	for name, end := range map[string]func(c *wire.Client){
		"lost":                    func(c *wire.Client) { c.Drop() },
		"DISCONNECT 0x04":         func(c *wire.Client) { c.Send(wire.Disconnect{Code: disconnectWithWill}); c.ExpectClosed() },
		"DISCONNECT 0x80":         func(c *wire.Client) { c.Send(wire.Disconnect{Code: unspecifiedError}); c.ExpectClosed() },
		"DISCONNECT 0x93":         func(c *wire.Client) { c.Send(wire.Disconnect{Code: receiveMaximumExceeded}); c.ExpectClosed() },
		"protocol error":          func(c *wire.Client) { c.Send(clean("x")); c.ExpectDisconnect(protocolError) },
		"malformed packet":        func(c *wire.Client) { c.SendHex("82 00"); c.AwaitDisconnect(malformedPacket) },
		"half-closed by a client": func(c *wire.Client) { closeWrite(c) },
	} {
		for qos := range byte(3) {
			t.Run(name+" qos"+string('0'+rune(qos)), func(t *testing.T) {
				t.Parallel()
				sub, topic := watch(t, 2)
				p := willTo(topic)
				p.Will.QoS = qos
				end(dial(t).Connect(p))
				if m := receives(t, sub, "bye"); m.QoS != qos || m.Retain || m.Topic != topic {
					t.Errorf("%+v", m)
				}
				noWill(t, sub, p.ClientID, topic)
			})
		}
	}
}

func closeWrite(c *wire.Client) { c.Conn().(interface{ CloseWrite() error }).CloseWrite() }

// DISCONNECT 0x00 removes the will [MQTT-3.14.4-3] [MQTT-3.1.2-10], in all
// the forms that such a packet has.
func TestV5WillDiscarded(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.14.4-3", "MQTT-3.1.2-10", "MQTT-3.1.2-8")
	for name, packet := range map[string]wire.Packet{
		"no code":      wire.Disconnect{},
		"code":         wire.Frame{First: 0xE0, Body: []byte{0}},
		"no props":     wire.Frame{First: 0xE0, Body: []byte{0, 0}},
		"with a delay": wire.Disconnect{Props: wire.Props{expiry(100)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sub, topic := watch(t, 2)
			p := willTo(topic)
			p.Props = wire.Props{expiry(100)}
			c := dial(t).Connect(p)
			c.Send(packet)
			c.ExpectClosed()
			noWill(t, sub, p.ClientID, topic)
		})
	}
}

// A will is retained or not as its flag says [MQTT-3.1.2-14] [MQTT-3.1.2-15].
func TestV5WillRetain(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.2-14", "MQTT-3.1.2-15")
	for name, retain := range map[string]bool{"retained": true, "not retained": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sub, topic := watch(t, 1|wire.RetainAsPublished)
			p := willTo(topic)
			p.Will.Retain, p.Will.QoS = retain, 1
			c := dial(t).Connect(p)
			c.Drop()
			if m := receives(t, sub, "bye"); m.Retain != retain {
				t.Errorf("%+v", m)
			}
			late := join(t)
			late.Subscribe(topic, 1)
			if retain {
				if m := receives(t, late, "bye"); !m.Retain {
					t.Errorf("%+v", m)
				}
				sub.PublishPacket(wire.Publish{Topic: topic, QoS: 1, Retain: true})
			} else {
				join(t).Publish(topic, 1, "no will before this")
				receives(t, late, "no will before this")
			}
		})
	}
}

// All properties of a will are those of the message, user properties in their
// order [MQTT-3.1.3-10]; the will delay is not one of them.
func TestV5WillProperties(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.3-10", "MQTT-3.1.3-1")
	sub, topic := watch(t, 2)
	p := willTo(topic)
	p.Will.QoS = 2
	p.Will.Props = append(forwarded(), wire.U32Prop(wire.MessageExpiryID, 100), wire.U32Prop(wire.WillDelayID, 0))
	dial(t).Connect(p).Drop()
	m := receives(t, sub, "bye")
	sameForwarded(t, m)
	if n, ok := m.Props.Int(wire.MessageExpiryID); !ok || n < 95 || n > 100 {
		t.Errorf("message expiry %d", n)
	}
}

// An empty payload is a will as well, and payloads are binary.
func TestV5WillPayload(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.2-7")
	for _, payload := range []string{"", "\x00\xff\x80", long(65_535)} {
		sub, topic := watch(t, 0)
		p := willTo(topic)
		p.Will.Payload = payload
		dial(t).Connect(p).Drop()
		receives(t, sub, payload)
	}
}

// The will delay passes before the will comes, unless the session ends first
// or its client is back [MQTT-3.1.2-8] [MQTT-3.1.3-9].
func TestV5WillDelay(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.2-8", "MQTT-3.1.3-9")
	drop := func(c *wire.Client) { c.Drop() }
	with04 := func(c *wire.Client) { c.Send(wire.Disconnect{Code: disconnectWithWill}) }
	with04End := func(c *wire.Client) {
		c.Send(wire.Disconnect{Code: disconnectWithWill, Props: wire.Props{expiry(0)}})
	}
	for _, tc := range []struct {
		name            string
		expiry, delay   uint32
		end             func(c *wire.Client)
		after, atLatest time.Duration
	}{
		{"1 s", 600, 1, drop, 900 * time.Millisecond, 6 * time.Second},
		{"1 s after DISCONNECT 0x04", 600, 1, with04, 900 * time.Millisecond, 6 * time.Second},
		{"cut short by session expiry 1", 1, 600, drop, 900 * time.Millisecond, 6 * time.Second},
		{"cut short by session expiry 0", 0, 600, drop, 0, 6 * time.Second},
		{"cut short by session expiry 0 in DISCONNECT", 600, 600, with04End, 0, 6 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			sub, topic := watch(t, 1)
			p := willTo(topic)
			p.Props, p.Will.QoS = wire.Props{expiry(tc.expiry)}, 1
			p.Will.Props = wire.Props{wire.U32Prop(wire.WillDelayID, tc.delay)}
			c := dial(t).Connect(p)
			start := time.Now()
			tc.end(c)
			receives(t, sub, "bye")
			if d := time.Since(start); d < tc.after || d > tc.atLatest {
				t.Errorf("the will came after %v, want %v to %v", d, tc.after, tc.atLatest)
			}
		})
	}
}

// What becomes of the will when the same client connects again, while the
// first connection is there or after it was lost (§3.1.3.2.2, §3.1.4).
func TestV5WillAtReconnection(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.3-9", "MQTT-3.1.2-8", "MQTT-3.1.4-3")
	for _, tc := range []struct {
		name      string
		delay     uint32
		clean     bool
		lost      bool // the first connection is lost before the second comes
		published bool
	}{
		{"taken over, no delay", 0, false, false, true},
		{"taken over, no delay, clean", 0, true, false, true},
		{"taken over, delay", 600, false, false, false},
		{"taken over, delay, clean", 600, true, false, true},
		{"back, delay", 600, false, true, false},
		{"back, delay, clean", 600, true, true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			sub, topic := watch(t, 1)
			p := willTo(topic)
			p.Props, p.Will.QoS = wire.Props{expiry(600)}, 1
			if tc.delay > 0 {
				p.Will.Props = wire.Props{wire.U32Prop(wire.WillDelayID, tc.delay)}
			}
			a := dial(t).Connect(p)
			if tc.lost {
				a.Drop()
			}
			second := resume(p.ClientID)
			second.Clean = tc.clean
			b := dial(t).Connect(second)
			if tc.published {
				receives(t, sub, "bye")
			}
			b.Publish(topic, 1, "back")
			receives(t, sub, "back")
			b.Disconnect()
		})
	}
}

// A client that is back within the will delay has cancelled its will for good
// [MQTT-3.1.3-9], on the connection that brings it back and after its end.
func TestV5WillCancelled(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.3-9", "MQTT-3.1.2-10")
	sub, topic := watch(t, 1)
	p := willTo(topic)
	p.Props, p.Will.Props = wire.Props{expiry(600)}, wire.Props{wire.U32Prop(wire.WillDelayID, 4)}
	dial(t).Connect(p).Drop()
	stays, leaves := dial(t).Connect(resume(p.ClientID)), willTo(topic)
	leaves.Props, leaves.Will.Props = p.Props, p.Will.Props
	dial(t).Connect(leaves).Drop()
	dial(t).Connect(resume(leaves.ClientID)).Disconnect()
	time.Sleep(4600 * time.Millisecond) // only time could make them come
	stays.Publish(topic, 1, "instead of the wills")
	receives(t, sub, "instead of the wills")
}

// A resumed session has the will of its new CONNECT, or none.
func TestV5WillReplacedAtResumption(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.2-10", "MQTT-3.1.3-9")
	sub, topic := watch(t, 1)
	p := willTo(topic)
	p.Props, p.Will.Props = wire.Props{expiry(600)}, wire.Props{wire.U32Prop(wire.WillDelayID, 600)}
	dial(t).Connect(p).Drop()
	second := again(p)
	second.Will = &wire.Will{Topic: topic, Payload: "second will", QoS: 1}
	b := dial(t).Connect(second)
	b.Drop()
	receives(t, sub, "second will")
	dial(t).Connect(resume(p.ClientID)).Drop() // without a will
	noWill(t, sub, p.ClientID, topic)
}

// The client itself gets its will if it subscribed and is back.
func TestV5WillToItsOwnSession(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.2-8", "MQTT-4.5.0-1")
	topic := unique("w")
	p := willTo(topic)
	p.Props, p.Will.QoS = wire.Props{expiry(600)}, 1
	c := dial(t).Connect(p)
	c.Subscribe(topic, 1)
	c.Drop()
	receives(t, dial(t).Connect(resume(p.ClientID)), "bye")
}

// A connection that ends right after its CONNECT, before CONNACK is read, has
// a will as well, and its session ends when it should.
func TestV5WillOfShortConnection(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.2-8")
	sub, topic := watch(t, 1)
	for range 5 {
		p := willTo(topic)
		c := dial(t)
		c.Send(p)
		closeWrite(c)
		receives(t, sub, "bye")
		if d := dial(t).Connect(again(p)); d.Connack.SessionPresent {
			t.Error("the session was kept")
		} else {
			d.Disconnect()
		}
	}
}

// The will's own expiry counts from its publication.
func TestV5WillExpires(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.2-5")
	live, topic := watch(t, 1)
	id := unique("c")
	offline := dial(t).Connect(resume(id))
	offline.Subscribe(topic, 1)
	offline.Disconnect()
	p := willTo(topic)
	p.Will.QoS, p.Will.Props = 1, wire.Props{wire.U32Prop(wire.MessageExpiryID, 3)}
	dial(t).Connect(p).Drop()
	receives(t, live, "bye")
	time.Sleep(4100 * time.Millisecond) // only time makes it expire
	live.Publish(topic, 1, "after the will")
	receives(t, dial(t).Connect(resume(id)), "after the will")
}
