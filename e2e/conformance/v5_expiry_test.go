package conformance

import (
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

func messageExpiry(seconds uint32) wire.Prop { return wire.U32Prop(wire.MessageExpiryID, seconds) }

// lasting checks that a message has an expiry between two bounds.
func lasting(t *testing.T, m wire.Publish, least, most int) {
	t.Helper()
	if n, ok := m.Props.Int(wire.MessageExpiryID); !ok || n < least || n > most {
		t.Errorf("%q: message expiry %d, want %d to %d", m.Payload, n, least, most)
	}
}

// A message that waits is delivered with what is left of its expiry, or not at
// all [MQTT-3.3.2-5] [MQTT-3.3.2-6]: from an inbox, as retained message, and
// behind a full receive maximum. One without expiry has none on the way out.
func TestV5MessageExpiry(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.2-5", "MQTT-3.3.2-6")
	id, base := unique("c"), unique("t")
	offline := dial(t).Connect(resume(id))
	offline.Subscribe(base+"/offline", 2)
	offline.Disconnect()
	busy := join(t, receiveMaximum(1))
	busy.Subscribe(base+"/busy", 1)
	pub := join(t)
	pub.Publish(base+"/busy", 1, "keeps it busy")
	first := wire.Next[wire.Publish](busy)

	start := time.Now()
	for _, where := range []string{"/offline", "/busy", "/retained/"} {
		for qos := byte(1); qos <= 2; qos++ {
			for name, props := range map[string][]wire.Prop{
				"short": {messageExpiry(1)}, "long": {messageExpiry(30)}, "longest": {messageExpiry(never)}, "without": nil,
			} {
				p := message(base+where, qos, name, props...)
				if where == "/retained/" {
					p.Topic, p.Retain = base+where+name+string('0'+rune(qos)), true
					t.Cleanup(func() { join(t).PublishPacket(wire.Publish{Topic: p.Topic, QoS: 1, Retain: true}) })
				}
				pub.PublishPacket(p)
			}
		}
	}
	time.Sleep(2100 * time.Millisecond) // only time makes them expire

	check := func(where string, c *wire.Client) {
		t.Helper()
		got := map[string]int{}
		for range 6 {
			m := c.Receive()
			got[m.Payload]++
			waited := int(time.Since(start) / time.Second)
			switch m.Payload {
			case "long":
				lasting(t, m, 30-waited-1, 28)
			case "longest":
				lasting(t, m, never-waited-1, never-2)
			case "without":
				if m.Props.Has(wire.MessageExpiryID) {
					t.Errorf("%s: %+v", where, m)
				}
			}
		}
		if got["long"] != 2 || got["longest"] != 2 || got["without"] != 2 {
			t.Errorf("%s: received %v", where, got)
		}
		c.ExpectNothing()
	}
	check("offline", dial(t).Connect(resume(id)))
	busy.Send(wire.Puback(first.ID))
	check("busy", busy)
	late := join(t)
	late.Subscribe(base+"/retained/#", 2)
	check("retained", late)
}

// A message delivered at once has the expiry it came with, and may lose a
// second.
func TestV5MessageExpiryLive(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.2-6")
	rounds(t, func(t *testing.T, qos byte) {
		sub, topic := watch(t, 2)
		join(t).PublishPacket(message(topic, qos, "m", messageExpiry(100)))
		lasting(t, receives(t, sub, "m"), 98, 100)
	})
}

// A message that was sent does not expire: at QoS 2 its exchange is completed
// on the next connection [MQTT-4.3.3-7].
func TestV5NoExpiryOnceSent(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.3.3-7")
	id, topic := unique("c"), unique("t")
	c := dial(t).Connect(resume(id))
	c.Subscribe(topic, 2)
	join(t).PublishPacket(message(topic, 2, "m", messageExpiry(3)))
	m := wire.Next[wire.Publish](c)
	c.Drop()
	time.Sleep(4100 * time.Millisecond) // only time could make it expire
	c = dial(t).Connect(resume(id))
	if again := receives(t, c, "m"); again.ID != m.ID || !again.Dup {
		t.Errorf("first %+v, then %+v", m, again)
	}
}

// The exchanges of QoS 2 go on where the message has expired meanwhile, the
// sender's and the receiver's [MQTT-4.3.3-13].
func TestV5ExchangeOutlivesExpiry(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.3.3-13", "MQTT-4.3.3-7")
	sub, topic := watch(t, 2)
	pub := join(t)
	pub.Send(wire.Publish{Topic: topic, QoS: 2, ID: 1, Payload: "m", Props: wire.Props{messageExpiry(3)}})
	pub.Expect(wire.Pubrec(1))
	m := wire.Next[wire.Publish](sub)
	time.Sleep(4100 * time.Millisecond) // only time could make it expire
	pub.Send(wire.Pubrel(1))
	pub.Expect(wire.Pubcomp(1))
	sub.Send(wire.Pubrec(m.ID))
	sub.Expect(wire.Pubrel(m.ID))
	sub.Send(wire.Pubcomp(m.ID))
	sub.ExpectNothing()
}

// Expired messages at the front of an inbox leave the identifiers and the
// order of the others alone.
func TestV5ExpiredBetweenOthers(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.2-5", "MQTT-4.6.0-5", "MQTT-4.4.0-1")
	id, topic := unique("c"), unique("t")
	c, pub := dial(t).Connect(resume(id, receiveMaximum(2))), join(t)
	c.Subscribe(topic, 1)
	pub.Publish(topic, 1, "a")
	pub.Publish(topic, 1, "b")
	a, b := wire.Next[wire.Publish](c), wire.Next[wire.Publish](c)
	for range 3 {
		pub.PublishPacket(message(topic, 1, "short", messageExpiry(1)))
	}
	pub.Publish(topic, 1, "c")
	pub.PublishPacket(message(topic, 1, "short", messageExpiry(1)))
	pub.Publish(topic, 1, "d")
	c.Drop()
	time.Sleep(2100 * time.Millisecond) // only time makes them expire
	c = dial(t).Connect(resume(id, receiveMaximum(2)))
	a.Dup, b.Dup = true, true
	c.Expect(a, b)
	c.Send(wire.Puback(a.ID), wire.Puback(b.ID))
	receives(t, c, "c")
	receives(t, c, "d")
	c.ExpectNothing()
}
