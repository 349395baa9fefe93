package conformance

import (
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// An accepted message at QoS 1 or 2 is answered by PUBACK or PUBREC with its
// identifier, and says where nobody subscribed [MQTT-4.3.2-4] [MQTT-4.3.3-8]
// [MQTT-3.4.2-1] [MQTT-3.5.2-1].
func TestV5Acknowledged(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.3.2-4", "MQTT-4.3.3-8", "MQTT-4.3.3-11", "MQTT-3.3.4-1", "MQTT-2.2.1-5", "MQTT-2.2.1-2", "MQTT-3.4.2-1", "MQTT-3.5.2-1",
		"MQTT-3.7.2-1")
	c, topic := join(t), unique("t")
	c.Send(wire.Publish{Topic: topic, QoS: 1, ID: 65_535, Payload: "m"})
	if a := wire.Next[wire.Ack](c); a.Type != wire.PUBACK || a.ID != 65_535 || !nobody(t, a.Code) {
		t.Errorf("without subscribers: %+v", a)
	}
	c.Send(wire.Publish{Topic: topic, QoS: 2, ID: 65_534, Payload: "m"})
	if a := wire.Next[wire.Ack](c); a.Type != wire.PUBREC || a.ID != 65_534 || !nobody(t, a.Code) {
		t.Errorf("without subscribers: %+v", a)
	}
	c.Send(wire.Pubrel(65_534))
	c.Expect(wire.Pubcomp(65_534))

	sub := join(t)
	sub.Subscribe(topic, 0)
	c.Send(wire.Publish{Topic: topic, QoS: 1, ID: 1, Payload: "m"})
	c.Expect(wire.Puback(1))
	c.Send(wire.Publish{Topic: topic, QoS: 2, ID: 2, Payload: "m"})
	c.Expect(wire.Pubrec(2))
	c.Send(wire.Pubrel(2))
	c.Expect(wire.Pubcomp(2))
	c.Send(message(topic, 0, "m"))
	c.ExpectNothing() // QoS 0 has no answer
}

// A repeated PUBLISH at QoS 1 is a new message once it was acknowledged
// [MQTT-4.3.2-5].
func TestV5QoS1IdentifierUsedAgain(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.3.2-5")
	sub, topic := watch(t, 1)
	c := join(t)
	for _, dup := range []bool{false, true, false} {
		c.Send(wire.Publish{Topic: topic, QoS: 1, ID: 9, Payload: "m", Dup: dup})
		c.Expect(wire.Puback(9))
		receives(t, sub, "m")
	}
}

// A repeated PUBLISH at QoS 2 is only acknowledged until its PUBREL, with DUP
// or without, on the same connection and the next [MQTT-4.3.3-10]; after
// PUBCOMP it is a new message [MQTT-4.3.3-12].
func TestV5QoS2Repeated(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.3.3-10", "MQTT-4.3.3-12", "MQTT-4.3.3-11", "MQTT-4.4.0-1")
	sub, topic := watch(t, 2)
	id := unique("c")
	c := dial(t).Connect(resume(id))
	p := wire.Publish{Topic: topic, QoS: 2, ID: 5, Payload: "once"}
	c.Send(p)
	c.Expect(wire.Pubrec(5))
	for _, dup := range []bool{true, false} {
		p.Dup = dup
		c.Send(p)
		c.Expect(wire.Pubrec(5))
	}
	c.Drop()
	for range 2 { // two quick reconnections
		c = dial(t).Connect(resume(id))
		p.Dup = true
		c.Send(p)
		c.Expect(wire.Pubrec(5))
		c.Drop()
	}
	c = dial(t).Connect(resume(id))
	c.Send(wire.Pubrel(5))
	c.Expect(wire.Pubcomp(5))
	receives(t, sub, "once")
	p.Payload, p.Dup = "a new one", false
	c.Send(p)
	c.Expect(wire.Pubrec(5))
	receives(t, sub, "a new one")
	c.Send(wire.Pubrel(5))
	c.Expect(wire.Pubcomp(5))
}

// An identifier that a QoS 2 exchange uses is not free for QoS 1
// [MQTT-2.2.1-3]: 0x91, and the message is not taken.
func TestV5IdentifierInUse(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-2.2.1-3")
	sub, topic := watch(t, 2)
	c := join(t)
	c.Send(wire.Publish{Topic: topic, QoS: 2, ID: 5, Payload: "first"})
	c.Expect(wire.Pubrec(5))
	c.Send(wire.Publish{Topic: topic, QoS: 1, ID: 5, Payload: "refused"})
	if a := c.AwaitAck(wire.PUBACK, 5); a.Code != packetIDInUse {
		t.Errorf("%+v", a)
	}
	c.Send(wire.Pubrel(5))
	c.Expect(wire.Pubcomp(5))
	receives(t, sub, "first")
	c.Publish(topic, 1, "next")
	receives(t, sub, "next")
}

// A PUBREL that is repeated is answered again, with 0x92 at the latest when
// nothing is known of it any more.
func TestV5PubrelRepeated(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.3.3-11", "MQTT-3.7.2-1")
	c, topic := join(t), unique("t")
	c.Subscribe(topic, 0)
	c.Send(wire.Publish{Topic: topic, QoS: 2, ID: 5, Payload: "m"})
	c.AwaitAck(wire.PUBREC, 5)
	c.Send(wire.Pubrel(5))
	if a := c.AwaitAck(wire.PUBCOMP, 5); a.Code != 0 {
		t.Errorf("%+v", a)
	}
	c.Send(wire.Pubrel(5))
	if a := c.AwaitAck(wire.PUBCOMP, 5); a.Code != packetIDNotFound {
		t.Errorf("%+v", a)
	}
}

// Acknowledgements of identifiers that are not in use: PUBREL and PUBREC are
// answered with 0x92 (§3.6.2.1, §3.7.2.1), the others are left without an
// answer. The connection lives.
func TestV5UnknownIdentifiers(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.6.2-1", "MQTT-3.7.2-1", "MQTT-3.6.1-1")
	c := join(t)
	c.Send(wire.Pubrel(4711))
	if a := c.AwaitAck(wire.PUBCOMP, 4711); a.Code != packetIDNotFound {
		t.Errorf("%+v", a)
	}
	c.Send(wire.Pubrec(4711))
	if a := c.AwaitAck(wire.PUBREL, 4711); a.Code != packetIDNotFound {
		t.Errorf("%+v", a)
	}
	c.Send(wire.Pubcomp(4711).With(packetIDNotFound))
	c.Send(wire.Puback(4711))
	c.ExpectNothing()
}

// Delivery at QoS 1 and 2: an unused identifier, DUP 0, and nothing more of the
// message until it is acknowledged [MQTT-2.2.1-4] [MQTT-4.3.2-1]
// [MQTT-4.3.3-1] [MQTT-4.4.0-1].
func TestV5Delivery(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-2.2.1-4", "MQTT-4.3.2-1", "MQTT-4.3.2-2", "MQTT-4.3.2-3", "MQTT-4.3.3-1", "MQTT-4.3.3-2", "MQTT-4.3.3-3", "MQTT-4.3.3-4",
		"MQTT-4.3.3-5", "MQTT-2.2.1-5", "MQTT-3.6.1-1", "MQTT-3.6.2-1", "MQTT-4.4.0-1")
	for qos := byte(1); qos <= 2; qos++ {
		sub, topic := watch(t, qos)
		pub := join(t)
		inUse := map[uint16]bool{}
		var first []wire.Publish
		for range 5 {
			pub.Publish(topic, qos, "m")
			m := wire.Next[wire.Publish](sub)
			if m.Dup || m.QoS != qos || inUse[m.ID] {
				t.Errorf("%+v with %v in use", m, inUse)
			}
			inUse[m.ID] = true
			first = append(first, m)
		}
		sub.ExpectNothing()
		for _, m := range first {
			if qos == 1 {
				sub.Send(wire.Puback(m.ID))
				continue
			}
			sub.Send(wire.Pubrec(m.ID))
			sub.Expect(wire.Pubrel(m.ID))
			sub.Send(wire.Pubrec(m.ID)) // again: PUBREL again, no PUBLISH [MQTT-4.3.3-6]
			sub.Expect(wire.Pubrel(m.ID))
			sub.Send(wire.Pubcomp(m.ID))
		}
		sub.ExpectNothing()
	}
}

// What was not acknowledged comes again when the session is resumed, at once,
// with its identifiers, DUP and in its order, before anything new
// [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT-4.3.2-3] [MQTT-4.3.3-3]. What was never
// sent comes without DUP.
func TestV5Redelivery(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.4.0-1", "MQTT-3.3.1-1", "MQTT-4.3.2-3", "MQTT-4.3.3-3", "MQTT-4.5.0-1", "MQTT-4.6.0-5")
	for qos := byte(1); qos <= 2; qos++ {
		id, topic := unique("c"), unique("t")
		c, pub := dial(t).Connect(resume(id, receiveMaximum(4))), join(t)
		c.Subscribe(topic, qos)
		for i := range 6 {
			pub.Publish(topic, qos, string(rune('a'+i)))
		}
		var sent []wire.Publish
		for range 4 {
			sent = append(sent, wire.Next[wire.Publish](c))
		}
		for range 2 {
			c.Drop()
			c = dial(t).Connect(resume(id, receiveMaximum(4)))
			for _, m := range sent {
				m.Dup = true
				c.Expect(m)
			}
		}
		pub.Publish(topic, qos, "g")
		for i, m := range sent {
			if qos == 1 {
				c.Send(wire.Puback(m.ID))
			} else {
				c.Send(wire.Pubrec(m.ID))
				if got := c.AwaitAck(wire.PUBREL, m.ID); got.Code != 0 {
					t.Fatalf("%+v", got)
				}
				c.Send(wire.Pubcomp(m.ID))
			}
			if i < 3 {
				if next := wire.Await[wire.Publish](c); next.Dup || next.Payload != string(rune('e'+i)) {
					t.Errorf("got %+v, want the first delivery of %q", next, rune('e'+i))
				}
			}
		}
	}
}

// Once PUBREL is out the PUBLISH is not sent again: PUBREL is, at each
// reconnection, until PUBCOMP [MQTT-4.3.3-5] [MQTT-4.3.3-6].
func TestV5PubrelRedelivered(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.3.3-5", "MQTT-4.3.3-6", "MQTT-4.4.0-1", "MQTT-3.6.1-1")
	id, topic := unique("c"), unique("t")
	c := dial(t).Connect(resume(id))
	c.Subscribe(topic, 2)
	join(t).Publish(topic, 2, "m")
	m := wire.Next[wire.Publish](c)
	c.Send(wire.Pubrec(m.ID))
	c.Expect(wire.Pubrel(m.ID))
	for range 3 {
		c.Drop()
		c = dial(t).Connect(resume(id))
		c.Expect(wire.Pubrel(m.ID))
	}
	c.Send(wire.Pubcomp(m.ID))
	c.Ping()
	c.Drop()
	c = dial(t).Connect(resume(id))
	c.ExpectNothing()
}

// A delivery that the client refuses is over: no PUBREL, no repetition
// [MQTT-4.3.3-4] [MQTT-4.4.0-2].
func TestV5DeliveryRefused(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.4.0-2", "MQTT-4.3.3-4")
	for _, refusal := range []wire.Ack{
		wire.Puback(0).With(unspecifiedError), wire.Puback(0).With(implementationError, wire.StringProp(wire.ReasonStringID, "no")),
		wire.Pubrec(0).With(unspecifiedError), wire.Pubrec(0).With(packetIDInUse, wire.User("a", "b")),
	} {
		id, topic := unique("c"), unique("t")
		qos := byte(1)
		if refusal.Type == wire.PUBREC {
			qos = 2
		}
		c := dial(t).Connect(resume(id))
		c.Subscribe(topic, qos)
		pub := join(t)
		pub.Publish(topic, qos, "refused")
		refusal.ID = wire.Next[wire.Publish](c).ID
		c.Send(refusal)
		c.ExpectNothing()
		c.Drop()
		c = dial(t).Connect(resume(id))
		pub.Publish(topic, qos, "next")
		receives(t, c, "next")
	}
}

// A PUBLISH that the server refused at QoS 2 leaves its identifier free
// [MQTT-4.3.3-9].
func TestV5QoS2Refused(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.3.3-9")
	sub, topic := watch(t, 2)
	deep := make([]byte, 2000)
	for i := range deep {
		deep[i] = '/'
	}
	c := join(t)
	c.Send(wire.Publish{Topic: topic + string(deep), QoS: 2, ID: 5, Payload: "refused"})
	if a := c.AwaitAck(wire.PUBREC, 5); a.Code < 0x80 {
		t.Skipf("the server takes topics of 2,000 levels: %+v", a)
	}
	c.Send(wire.Publish{Topic: topic, QoS: 2, ID: 5, Payload: "new"})
	c.Expect(wire.Pubrec(5))
	receives(t, sub, "new")
	c.Send(wire.Pubrel(5))
	c.Expect(wire.Pubcomp(5))
}

// An acknowledgement of the wrong type for a delivery that is under way is a
// protocol error, and no acknowledgement.
func TestV5WrongAcknowledgement(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.3.2-3", "MQTT-4.3.3-3", "MQTT-4.13.1-1")
	for name, tc := range map[string]struct {
		qos byte
		typ wire.Type
	}{
		"PUBREC for QoS 1":                {1, wire.PUBREC},
		"PUBCOMP for QoS 1":               {1, wire.PUBCOMP},
		"PUBACK for QoS 2":                {2, wire.PUBACK},
		"PUBCOMP for QoS 2 before PUBREC": {2, wire.PUBCOMP},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id, topic := unique("c"), unique("t")
			c := dial(t).Connect(resume(id))
			c.Subscribe(topic, tc.qos)
			join(t).Publish(topic, tc.qos, "m")
			m := wire.Next[wire.Publish](c)
			c.Send(wire.Ack{Type: tc.typ, ID: m.ID})
			c.AwaitDisconnect(protocolError)
			c = dial(t).Connect(resume(id))
			if again := receives(t, c, "m"); again.ID != m.ID || !again.Dup {
				t.Errorf("first %+v, then %+v", m, again)
			}
		})
	}
}

// Acknowledgements in all the forms that they have, with properties too.
func TestV5FormsOfAcknowledgement(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.4.2-1", "MQTT-3.5.2-1", "MQTT-2.2.2-1")
	c, topic := join(t), unique("t")
	c.Subscribe(topic, 2)
	for _, rest := range []string{"", "\x00", "\x00\x00", "\x00\x04\x1f\x00\x01x", "\x00\x07\x26\x00\x01a\x00\x01b"} {
		c.Send(wire.Publish{Topic: topic, QoS: 1, ID: 1, Payload: "m"})
		c.AwaitAck(wire.PUBACK, 1)
		m := wire.Await[wire.Publish](c)
		c.Send(wire.Frame{First: 0x40, Body: append(wire.U16(m.ID), rest...)})
		c.Send(wire.Publish{Topic: topic, QoS: 2, ID: 2, Payload: "m"})
		c.AwaitAck(wire.PUBREC, 2)
		c.Send(wire.Frame{First: 0x62, Body: append(wire.U16(2), rest...)})
		if a := c.AwaitAck(wire.PUBCOMP, 2); a.Code != 0 {
			t.Errorf("%+v", a)
		}
		m = wire.Await[wire.Publish](c)
		c.Send(wire.Frame{First: 0x50, Body: append(wire.U16(m.ID), rest...)})
		if a := c.AwaitAck(wire.PUBREL, m.ID); a.Code != 0 {
			t.Errorf("%+v", a)
		}
		c.Send(wire.Frame{First: 0x70, Body: append(wire.U16(m.ID), rest...)})
	}
	c.ExpectNothing()
}

// Acknowledgements that are malformed end the connection [MQTT-2.1.3-1]
// [MQTT-3.6.1-1].
func TestV5MalformedAcknowledgements(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-2.1.3-1", "MQTT-3.6.1-1", "MQTT-3.4.2-1", "MQTT-3.5.2-1", "MQTT-3.6.2-1", "MQTT-3.7.2-1")
	malformed, either := []byte{malformedPacket}, []byte{malformedPacket, protocolError}
	for name, first := range map[string]byte{"PUBACK": 0x40, "PUBREC": 0x50, "PUBREL": 0x62, "PUBCOMP": 0x70} {
		frame := func(first byte, body ...byte) wire.Frame { return wire.Frame{First: first, Body: body} }
		ends(t, map[string]fault{
			name + " flag 0":                  {frame(first^1, 0, 1), malformed},
			name + " flag 1":                  {frame(first^2, 0, 1), malformed},
			name + " flag 3":                  {frame(first^8, 0, 1), malformed},
			name + " empty":                   {frame(first), malformed},
			name + " identifier cut":          {frame(first, 0), malformed},
			name + " identifier 0":            {frame(first, 0, 0), either},
			name + " reason code unknown":     {frame(first, 0, 1, 0x77), either},
			name + " reason code of others":   {frame(first, 0, 1, 0x8E), either},
			name + " property length missing": {frame(first, 0, 1, 0, 5), malformed},
			name + " property cut":            {frame(first, 0, 1, 0, 4, 0x1F, 0, 9, 'x'), malformed},
			name + " property of others":      {frame(first, 0, 1, 0, 3, 0x23, 0, 1), malformed},
			name + " reason string twice":     {frame(first, 0, 1, 0, 8, 0x1F, 0, 1, 'x', 0x1F, 0, 1, 'x'), []byte{protocolError}},
			name + " bytes after the end":     {frame(first, 0, 1, 0, 0, 0), malformed},
			name + " NUL in a reason string":  {frame(first, 0, 1, 0, 4, 0x1F, 0, 1, 0), malformed},
		})
	}
}

// nobody reports whether code is the answer to a message that nobody
// subscribed to. A gateway of a cluster can not always know, and then says
// nothing of it, which is its right (§3.4.2.1).
func nobody(t *testing.T, code byte) bool {
	t.Helper()
	return code == noMatchingSubscribers || clustered(t) && code == 0
}
