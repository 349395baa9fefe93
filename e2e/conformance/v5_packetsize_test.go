package conformance

import (
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// payloadOf returns how many bytes of payload make p a packet of a given size.
// There is such a number unless the remaining length grows by a byte there.
func payloadOf(size int, p wire.Publish) int {
	n := size - len(wire.Encode(p, wire.V5))
	for {
		p.Payload = long(n)
		if len(wire.Encode(p, wire.V5)) <= size {
			return n
		}
		n--
	}
}

// What is larger than the client's Maximum Packet Size is not sent, and counts
// as delivered: what follows comes, and the place in the client's Receive
// Maximum is free [MQTT-3.1.2-24] [MQTT-3.1.2-25]. A packet of exactly that
// size is sent.
func TestV5ClientMaximumPacketSize(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.2-24", "MQTT-3.1.2-25")
	rounds(t, func(t *testing.T, qos byte) {
		const maximum = 150
		topic := unique("t")
		c := dialLimited(t, maximum).Connect(clean(unique("c"), maximumPacketSize(maximum), receiveMaximum(1)))
		c.Subscribe(topic, qos)
		pub := join(t)
		fits := payloadOf(maximum, wire.Publish{Topic: topic, QoS: qos, ID: 1})
		for _, n := range []int{fits + 1, fits, 1000, fits - 1, 100_000, 0} {
			pub.Publish(topic, qos, long(n))
		}
		for _, n := range []int{fits, fits - 1, 0} {
			if p := c.Receive(); len(p.Payload) != n {
				t.Fatalf("got %+v, want a payload of %d bytes", p, n)
			}
		}
		c.ExpectNothing()
	})
}

// The same for messages that waited: of an inbox, retained, and with
// properties that make them too large.
func TestV5ClientMaximumPacketSizeStored(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.2-24", "MQTT-3.1.2-25")
	id, base := unique("c"), unique("t")
	c := dial(t).Connect(resume(id))
	c.Subscribe(base+"/inbox", 1)
	c.Disconnect()
	pub := join(t)
	pub.Publish(base+"/inbox", 1, long(500))
	pub.PublishPacket(message(base+"/inbox", 1, "m", wire.User("n", long(500))))
	pub.Publish(base+"/inbox", 1, "fits")
	retain(t, base+"/retained/1", 1, long(500))
	retain(t, base+"/retained/2", 1, "fits")
	c = dial(t).Connect(resume(id, maximumPacketSize(200), receiveMaximum(1)))
	receives(t, c, "fits")
	c.ExpectNothing()
	c.Subscribe(base+"/retained/+", 1)
	receives(t, c, "fits")
	c.ExpectNothing()
	c.Ping()
	c.Drop()
	// They count as delivered: with a larger maximum they do not come again.
	c = dial(t).Connect(resume(id))
	c.ExpectNothing()
}

// Reason strings and user properties give way where they would make a packet
// too large: every acknowledgement of a failure comes, and fits
// [MQTT-3.2.2-19] [MQTT-3.4.2-2] [MQTT-3.9.2-1] [MQTT-3.11.2-1] [MQTT-3.14.2-3].
func TestV5ReasonsFit(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.2.2-19", "MQTT-3.2.2-20", "MQTT-3.4.2-2", "MQTT-3.4.2-3", "MQTT-3.5.2-2", "MQTT-3.5.2-3", "MQTT-3.6.2-2", "MQTT-3.6.2-3",
		"MQTT-3.7.2-2", "MQTT-3.7.2-3", "MQTT-3.9.2-1", "MQTT-3.9.2-2", "MQTT-3.11.2-1", "MQTT-3.11.2-2", "MQTT-3.14.2-3", "MQTT-3.14.2-4")
	const maximum = 48 // room for CONNACK, and for no sentence
	c := dialLimited(t, maximum).Connect(clean(unique("c"), maximumPacketSize(maximum), wire.ByteProp(wire.RequestProblemInfoID, 1)))
	deep := make([]byte, 1000)
	for i := range deep {
		deep[i] = '/'
	}
	c.Send(wire.Sub(1, "$share//x", 0), wire.Unsub(2, unique("t")), wire.Pubrel(3), wire.Pubrec(4),
		wire.Publish{Topic: string(deep), QoS: 1, ID: 5}, wire.Publish{Topic: string(deep), QoS: 2, ID: 6},
		wire.Publish{Topic: unique("t"), QoS: 1, ID: 7}, wire.Publish{Topic: unique("t"), QoS: 2, ID: 8}, clean("again"))
	got := map[uint16]bool{}
	for len(got) < 8 {
		switch p := c.Next().(type) {
		case wire.Suback:
			got[p.ID] = true
		case wire.Unsuback:
			got[p.ID] = true
		case wire.Ack:
			got[p.ID] = true
		default:
			t.Fatalf("%+v", p)
		}
	}
	c.ExpectDisconnect(protocolError)

	dialLimited(t, 20).RefusedFor(clean(unique("c"), method(long(300)), maximumPacketSize(20)), badAuthMethod)
}

// With Request Problem Information 0 there is no reason string and no user
// property in any packet but PUBLISH, CONNACK and DISCONNECT [MQTT-3.1.2-29].
func TestV5NoProblemInformation(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.2-29")
	c, topic := join(t, wire.ByteProp(wire.RequestProblemInfoID, 0)), unique("t")
	deep := make([]byte, 1000)
	for i := range deep {
		deep[i] = '/'
	}
	c.Subscribe(topic, 0)
	c.Send(wire.Sub(101, "$share//x", 0), wire.Unsub(102, unique("t")), wire.Pubrel(103), wire.Pubrec(104),
		wire.Publish{Topic: string(deep), QoS: 1, ID: 105}, wire.Publish{Topic: string(deep), QoS: 2, ID: 106},
		wire.Publish{Topic: unique("t"), QoS: 1, ID: 107}, wire.Publish{Topic: unique("t"), QoS: 2, ID: 108})
	for range 8 {
		var props wire.Props
		switch p := c.Next().(type) {
		case wire.Suback:
			props = p.Props
		case wire.Unsuback:
			props = p.Props
		case wire.Ack:
			props = p.Props
		default:
			t.Fatalf("%+v", p)
		}
		if len(props) > 0 {
			t.Errorf("%+v", props)
		}
	}
	c.PublishPacket(message(topic, 0, "m", wire.User("a", "b"))) // a message keeps its own
	if m := receives(t, c, "m"); len(m.Props.Users()) != 1 {
		t.Errorf("%+v", m)
	}
}

// A packet larger than the server's Maximum Packet Size ends the connection
// with 0x95, on its header; one of that size is taken (§3.2.2.3.6) (F25).
func TestV5ServerMaximumPacketSize(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.2.2-15")
	c, topic := join(t), unique("t")
	maximum, ok := c.Connack.Props.Int(wire.MaximumPacketSizeID)
	if !ok || maximum > 64<<20 {
		t.Skip("the server has no limit that a test could reach")
	}
	c.Subscribe(topic, 0)
	n := payloadOf(maximum, message(topic, 0, ""))
	c.Send(message(topic, 0, long(n)))
	if m := c.Receive(); len(m.Payload) != n {
		t.Errorf("payload of %d bytes, want %d", len(m.Payload), n)
	}
	header := wire.Cat([]byte{0x30}, wire.Varint(maximum)) // with the header more than that
	c.SendRaw(header)
	c.AwaitDisconnect(packetTooLarge)
}
