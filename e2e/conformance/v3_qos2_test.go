package conformance

import (
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// [MQTT-4.3.3-2]: until PUBREL an identifier is one message, however often it
// is sent; after PUBCOMP it is a new one.
func TestV3QoS2Receiver(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-4.3.3-2", "MQTT-2.3.1-6")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic := unique("t")
		sub := join3(t, v)
		sub.Subscribe(topic, 2)
		pub := join3(t, v)
		m := wire.Publish{Topic: topic, QoS: 2, ID: 7, Payload: "one"}
		again := m
		again.Dup = true
		pub.Send(m, again, m)
		pub.Expect(wire.Pubrec(7), wire.Pubrec(7), wire.Pubrec(7))
		pub.Send(wire.Pubrel(7), wire.Pubrel(7))
		pub.Expect(wire.Pubcomp(7), wire.Pubcomp(7))
		m.Payload = "two"
		pub.PublishPacket(m)
		again.Payload = "three" // new in spite of its DUP
		pub.PublishPacket(again)
		if got := payloads(sub, 3); got[0] != "one" || got[1] != "two" || got[2] != "three" {
			t.Errorf("got %q", got)
		}
		sub.ExpectNothing()
	})
}

// [MQTT-4.3.3-2] across connections: the publisher's session remembers what
// was received and not yet released.
func TestV3QoS2ReceiverReconnects(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-4.3.3-2", "MQTT-4.1.0-1")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic, id := unique("t"), unique("c")
		sub := join3(t, v)
		sub.Subscribe(topic, 2)
		m := wire.Publish{Topic: topic, QoS: 2, ID: 7, Payload: "one"}
		pub := dial(t).Connect(durable(v, id))
		pub.Send(m)
		pub.Expect(wire.Pubrec(7))
		pub.Drop() // PUBREC was lost on the way, say
		m.Dup = true
		for range 3 {
			pub = dial(t).Connect(durable(v, id))
			pub.Send(m)
			pub.Expect(wire.Pubrec(7))
			pub.Drop()
		}
		pub = dial(t).Connect(durable(v, id))
		pub.Send(wire.Pubrel(7))
		pub.Expect(wire.Pubcomp(7))
		pub.Drop() // and now PUBCOMP
		pub = dial(t).Connect(durable(v, id))
		pub.Send(wire.Pubrel(7))
		pub.Expect(wire.Pubcomp(7))
		m.Payload = "two"
		pub.PublishPacket(m)
		pub.Disconnect()
		if got := payloads(sub, 2); got[0] != "one" || got[1] != "two" {
			t.Errorf("got %q", got)
		}
		sub.ExpectNothing()
	})
}

// [MQTT-4.3.3-1], [MQTT-4.4.0-1]: once the client has sent PUBREC, only PUBREL
// is repeated, at each reconnection, until PUBCOMP; the message never again.
func TestV3QoS2Sender(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-4.3.3-1", "MQTT-4.4.0-1", "MQTT-2.3.1-4")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic, id := unique("t"), unique("c")
		sub := dial(t).Connect(durable(v, id))
		sub.Subscribe(topic, 2)
		join3(t, v).Publish(topic, 2, "once")
		m := wire.Next[wire.Publish](sub)
		sub.Send(wire.Pubrec(m.ID))
		sub.Expect(wire.Pubrel(m.ID))
		sub.Send(wire.Pubrec(m.ID)) // again: PUBREL again
		sub.Expect(wire.Pubrel(m.ID))
		for range 3 {
			sub.Drop()
			sub = dial(t).Connect(durable(v, id))
			sub.Expect(wire.Pubrel(m.ID))
			sub.ExpectNothing()
		}
		sub.Send(wire.Pubcomp(m.ID))
		sub.Ping()
		sub.Drop()
		sub = dial(t).Connect(durable(v, id))
		sub.ExpectNothing()
		sub.Disconnect()
	})
}

// [MQTT-4.6.0-4]: PUBREL packets leave in the order of the PUBRECs, here and
// [MQTT-4.6.0-1] at reconnection, whatever the order of the messages was.
func TestV3PubrelOrder(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-4.6.0-4")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic, id := unique("t"), unique("c")
		sub := dial(t).Connect(durable(v, id))
		sub.Subscribe(topic, 2)
		pub := join3(t, v)
		var ids []uint16
		for range 5 {
			pub.Publish(topic, 2, "x")
			ids = append(ids, wire.Next[wire.Publish](sub).ID)
		}
		var recs, rels []wire.Packet
		for _, i := range []int{3, 0, 4, 1, 2} {
			recs, rels = append(recs, wire.Pubrec(ids[i])), append(rels, wire.Pubrel(ids[i]))
		}
		sub.Send(recs...)
		sub.Expect(rels...)
		sub.ExpectNothing()
		dial(t).Connect(wire.Connect{Version: v, ClientID: id, Clean: true}).Disconnect()
	})
}
