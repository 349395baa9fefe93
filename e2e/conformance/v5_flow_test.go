package conformance

import (
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// No more than the client's Receive Maximum of messages at QoS 1 and 2 are
// under way; PUBACK, PUBCOMP and a PUBREC of 0x80 or more make room, PUBREC
// does not [MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2]. Nothing else is held
// up [MQTT-3.3.4-10] [MQTT-4.9.0-3].
func TestV5ClientReceiveMaximum(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.4-9", "MQTT-3.3.4-10", "MQTT-4.9.0-1", "MQTT-4.9.0-2", "MQTT-4.9.0-3")
	for _, maximum := range []int{1, 2, 7} {
		for qos := byte(1); qos <= 2; qos++ {
			for _, online := range []bool{true, false} {
				id, topic, other := unique("c"), unique("t"), unique("t")
				connect := resume(id, receiveMaximum(uint16(maximum)))
				c, pub := dial(t).Connect(connect), join(t)
				c.Subscribe(topic, qos)
				c.Subscribe(other, 0)
				if !online {
					c.Disconnect()
				}
				total := maximum + 4
				for i := range total {
					pub.Publish(topic, qos, string(rune('a'+i)))
				}
				if !online {
					c = dial(t).Connect(connect)
				}
				pub.Publish(other, 0, "QoS 0 is not held up")
				var underWay []uint16
				for range maximum + 1 {
					if m := wire.Next[wire.Publish](c); m.QoS > 0 {
						underWay = append(underWay, m.ID)
					}
				}
				if len(underWay) != maximum {
					t.Fatalf("%d under way of %d", len(underWay), maximum)
				}
				c.Subscribe(unique("t"), 1) // answered, with nothing before the answer
				c.ExpectNothing()
				for i := maximum; i < total; i++ {
					free := underWay[0]
					underWay = underWay[1:]
					if qos == 1 {
						c.Send(wire.Puback(free))
					} else if i%2 == 0 {
						c.Send(wire.Pubrec(free).With(unspecifiedError))
					} else {
						c.Send(wire.Pubrec(free))
						c.Expect(wire.Pubrel(free))
						c.ExpectNothing() // PUBREC makes no room
						c.Send(wire.Pubcomp(free))
					}
					m := wire.Next[wire.Publish](c)
					if m.Payload != string(rune('a'+i)) {
						t.Fatalf("got %+v, want %q", m, rune('a'+i))
					}
					underWay = append(underWay, m.ID)
					c.ExpectNothing()
				}
			}
		}
	}
}

// After a resumption the new Receive Maximum counts, for what is sent again
// too.
func TestV5ReceiveMaximumLowered(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.4-9", "MQTT-4.9.0-1")
	id, topic := unique("c"), unique("t")
	c, pub := dial(t).Connect(resume(id)), join(t)
	c.Subscribe(topic, 1)
	for i := range 5 {
		pub.Publish(topic, 1, string(rune('a'+i)))
		wire.Next[wire.Publish](c)
	}
	c.Drop()
	c = dial(t).Connect(resume(id, receiveMaximum(2)))
	var last uint16
	for i := range 5 {
		m := wire.Next[wire.Publish](c)
		if m.Payload != string(rune('a'+i)) || !m.Dup {
			t.Fatalf("%+v", m)
		}
		if i == 1 {
			c.ExpectNothing()
		}
		if i >= 1 {
			c.Send(wire.Puback(last))
		}
		last = m.ID
	}
}

// More messages under way than the server's Receive Maximum end the connection
// with 0x93; as many as it says do not (§3.3.4, [MQTT-3.3.4-7]).
func TestV5ServerReceiveMaximum(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.4-7")
	c, topic := join(t), unique("t")
	maximum := 65_535
	if n, ok := c.Connack.Props.Int(wire.ReceiveMaximumID); ok {
		maximum = n
	}
	if maximum == 65_535 {
		t.Skip("the server does not limit what is under way")
	}
	for id := 1; id <= maximum; id++ {
		c.Send(wire.Publish{Topic: topic, QoS: 2, ID: uint16(id), Payload: "m"})
	}
	for id := 1; id <= maximum; id++ {
		c.AwaitAck(wire.PUBREC, uint16(id))
	}
	// Repetitions and QoS 0 are no more of them.
	c.Send(wire.Publish{Topic: topic, QoS: 2, ID: 1, Payload: "m", Dup: true})
	c.AwaitAck(wire.PUBREC, 1)
	c.Send(message(topic, 0, "m"))
	// One that ends makes room for one.
	c.Send(wire.Pubrel(1))
	c.AwaitAck(wire.PUBCOMP, 1)
	c.Send(wire.Publish{Topic: topic, QoS: 2, ID: 1, Payload: "m"})
	c.AwaitAck(wire.PUBREC, 1)
	c.ExpectNothing()
	c.Send(wire.Publish{Topic: topic, QoS: 2, ID: uint16(maximum + 1), Payload: "m"})
	c.AwaitDisconnect(receiveMaximumExceeded)
}

// The same, with everything in one write and no answer read.
func TestV5ServerReceiveMaximumFlood(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.4-7")
	c, topic := join(t), unique("t")
	maximum, ok := c.Connack.Props.Int(wire.ReceiveMaximumID)
	if !ok {
		t.Skip("the server does not limit what is under way")
	}
	var flood []byte
	for id := 1; id <= maximum+1; id++ {
		flood = append(flood, wire.Encode(wire.Publish{Topic: topic, QoS: 2, ID: uint16(id), Payload: "m"}, wire.V5)...)
	}
	c.SendRaw(flood)
	c.AwaitDisconnect(receiveMaximumExceeded)
}

// One identifier published a thousand times without PUBREL is one message and
// one place.
func TestV5OneIdentifierManyTimes(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.3.3-10", "MQTT-3.3.4-7")
	sub, topic := watch(t, 2)
	c := join(t)
	p := wire.Encode(wire.Publish{Topic: topic, QoS: 2, ID: 3, Payload: "m", Dup: true}, wire.V5)
	var flood []byte
	for range 1000 {
		flood = append(flood, p...)
	}
	c.SendRaw(flood)
	for range 1000 {
		c.Expect(wire.Pubrec(3))
	}
	c.Send(wire.Pubrel(3))
	c.Expect(wire.Pubcomp(3))
	c.Publish(topic, 2, "marker")
	receives(t, sub, "m")
	receives(t, sub, "marker")
}

// Messages to a client that acknowledges slowly and messages from it go on in
// both directions.
func TestV5BothDirections(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.9.0-3", "MQTT-3.3.4-10")
	c, topic := join(t, receiveMaximum(1)), unique("t")
	c.Subscribe(topic, 2)
	const n = 20
	for i := range n {
		c.Send(wire.Publish{Topic: topic, QoS: 1 + byte(i%2), ID: uint16(i + 1), Payload: string(rune('a' + i))})
	}
	for i := range n { // all are accepted though none was received
		if i%2 == 0 {
			c.AwaitAck(wire.PUBACK, uint16(i+1))
		} else {
			c.AwaitAck(wire.PUBREC, uint16(i+1))
			c.Send(wire.Pubrel(uint16(i + 1)))
			c.AwaitAck(wire.PUBCOMP, uint16(i+1))
		}
	}
	got := map[string]bool{}
	for range n {
		got[c.Receive().Payload] = true
	}
	if len(got) != n {
		t.Errorf("received %d messages of %d", len(got), n)
	}
}
