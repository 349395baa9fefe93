package conformance

import (
	"reflect"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// forwarded are the properties of a message that every subscriber gets as they
// were sent, user properties with names that repeat, in an order of their own.
func forwarded() wire.Props {
	return wire.Props{
		wire.User("b", "1"), wire.User("a", "2"), wire.User("b", "1"), wire.User("", ""), wire.User("\uFEFFü", "\uFEFF"),
		wire.ByteProp(wire.PayloadFormatID, 1), wire.StringProp(wire.ContentTypeID, "text/plain; ü"),
		wire.StringProp(wire.ResponseTopicID, "reply/to here"), wire.StringProp(wire.CorrelationDataID, "\x00\xff\x80"),
	}
}

// sameForwarded checks that a delivered message has them all.
func sameForwarded(t *testing.T, got wire.Publish) {
	t.Helper()
	want := forwarded()
	if !reflect.DeepEqual(got.Props.Users(), want.Users()) {
		t.Errorf("user properties %q, want %q", got.Props.Users(), want.Users())
	}
	for _, id := range []byte{wire.PayloadFormatID, wire.ContentTypeID, wire.ResponseTopicID, wire.CorrelationDataID} {
		if g, w := got.Props.All(id), want.All(id); !reflect.DeepEqual(g, w) {
			t.Errorf("property 0x%02x: % x, want % x", id, g, w)
		}
	}
}

// Properties of a message reach its subscribers unaltered and in order, live,
// from an inbox and as retained message [MQTT-3.3.2-4] [MQTT-3.3.2-15]
// [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20].
func TestV5PropertiesForwarded(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.2-4", "MQTT-3.3.2-13", "MQTT-3.3.2-15", "MQTT-3.3.2-16", "MQTT-3.3.2-17", "MQTT-3.3.2-18", "MQTT-3.3.2-19",
		"MQTT-3.3.2-20", "MQTT-1.5.4-3", "MQTT-1.5.7-1")
	rounds(t, func(t *testing.T, qos byte) {
		topic, id := unique("t"), unique("c")
		offline := dial(t).Connect(resume(id))
		offline.Subscribe(topic, 2)
		offline.Disconnect()
		live := join(t)
		live.Subscribe(topic, 2)

		pub := join(t)
		p := message(topic, qos, "m", forwarded()...)
		p.Retain = true
		pub.PublishPacket(p)
		sameForwarded(t, receives(t, live, "m"))
		if qos == 0 {
			awaitRetained(t, topic, "m")
		}
		late := join(t)
		late.Subscribe(topic, 2)
		sameForwarded(t, receives(t, late, "m"))
		if qos > 0 {
			sameForwarded(t, receives(t, dial(t).Connect(resume(id)), "m"))
		}
		pub.PublishPacket(wire.Publish{Topic: topic, QoS: 1, Retain: true})
	})
}

// A message without properties is delivered without any, and the
// acknowledgement of one with user properties does not echo them.
func TestV5NoPropertiesAdded(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-2.2.2-1", "MQTT-3.3.2-17")
	sub, topic := watch(t, 2)
	pub := join(t)
	for qos := range byte(3) {
		pub.Publish(topic, qos, "bare")
		if m := receives(t, sub, "bare"); len(m.Props) > 0 {
			t.Errorf("properties from nowhere: %+v", m)
		}
	}
	pub.Send(wire.Publish{Topic: topic, QoS: 1, ID: 91, Payload: "m", Props: forwarded()})
	if a := pub.AwaitAck(wire.PUBACK, 91); len(a.Props) > 0 {
		t.Errorf("PUBACK with properties of the message: %+v", a)
	}
	pub.Send(wire.Publish{Topic: topic, QoS: 2, ID: 92, Payload: "m", Props: forwarded()})
	if a := pub.AwaitAck(wire.PUBREC, 92); len(a.Props) > 0 {
		t.Errorf("PUBREC with properties of the message: %+v", a)
	}
}

// A request finds its way to a responder, and the response back.
func TestV5RequestResponse(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.2-15", "MQTT-3.3.2-16")
	requests, replies := unique("req"), unique("rep")
	a, b := join(t), join(t)
	a.Subscribe(replies, 1)
	b.Subscribe(requests, 1|wire.NoLocal)
	a.PublishPacket(message(requests, 1, "question", wire.StringProp(wire.ResponseTopicID, replies), wire.StringProp(wire.CorrelationDataID, "\x001")))
	q := receives(t, b, "question")
	to, _ := q.Props.Text(wire.ResponseTopicID)
	data, _ := q.Props.Text(wire.CorrelationDataID)
	b.PublishPacket(message(to, 1, "answer", wire.StringProp(wire.CorrelationDataID, data)))
	if r := receives(t, a, "answer"); !reflect.DeepEqual(r.Props.All(wire.CorrelationDataID), [][]byte{wire.Str("\x001")}) {
		t.Errorf("%+v", r)
	}
}

// A payload that is not the UTF-8 it claims to be is no reason to lose what is
// well-formed: it is delivered as it is, or refused with 0x99 (§3.3.2.3.2).
func TestV5PayloadFormatNotChecked(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.2-4")
	sub, topic := watch(t, 1)
	pub := join(t)
	pub.Send(wire.Publish{Topic: topic, QoS: 1, ID: 1, Payload: "\xff\x00", Props: wire.Props{wire.ByteProp(wire.PayloadFormatID, 1)}})
	switch a := pub.AwaitAck(wire.PUBACK, 1); a.Code {
	case 0:
		receives(t, sub, "\xff\x00")
	case 0x99:
	default:
		t.Errorf("%+v", a)
	}
}

// DUP and RETAIN on the way out do not follow those on the way in
// [MQTT-3.3.1-3] [MQTT-3.3.1-12] [MQTT-3.3.1-2].
func TestV5FlagsOnTheWayOut(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.1-2", "MQTT-3.3.1-3", "MQTT-3.3.1-12", "MQTT-4.3.1-1", "MQTT-4.3.2-2", "MQTT-4.3.3-2")
	rounds(t, func(t *testing.T, qos byte) {
		sub, topic := watch(t, 2)
		p := message(topic, qos, "m")
		p.Dup, p.Retain = qos > 0, true
		join(t).PublishPacket(p)
		if m := receives(t, sub, "m"); m.Dup || m.Retain || m.QoS != qos {
			t.Errorf("%+v", m)
		}
		p.Payload, p.Dup = "", false
		p.QoS = 1
		join(t).PublishPacket(p)
	})
}

// Delivery is at the lower of the published and the granted QoS
// [MQTT-3.8.4-8].
func TestV5QoSOfDelivery(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.8.4-8", "MQTT-3.8.4-7", "MQTT-3.3.4-1")
	for granted := range byte(3) {
		for published := range byte(3) {
			sub, topic := watch(t, granted)
			join(t).Publish(topic, published, "m")
			if m := receives(t, sub, "m"); m.QoS != min(granted, published) {
				t.Errorf("granted %d, published %d: %+v", granted, published, m)
			}
		}
	}
}

// So is what waited for its client; what was published at QoS 0 need not wait.
func TestV5QoSOfDeliveryOffline(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.8.4-8", "MQTT-4.5.0-1")
	id, base := unique("c"), unique("t")
	c := dial(t).Connect(resume(id))
	c.Subscribe(base+"/1", 1)
	c.Subscribe(base+"/2", 2)
	c.Disconnect()
	pub := join(t)
	for _, m := range []struct {
		topic string
		qos   byte
	}{{"/1", 1}, {"/1", 2}, {"/2", 1}, {"/2", 2}} {
		pub.Publish(base+m.topic, m.qos, string('0'+rune(m.qos)))
	}
	c = dial(t).Connect(resume(id))
	got := map[string]byte{}
	for range 4 {
		m := c.Receive()
		got[m.Topic[len(base):]+" "+m.Payload] = m.QoS
	}
	if want := map[string]byte{"/1 1": 1, "/1 2": 1, "/2 1": 1, "/2 2": 2}; !reflect.DeepEqual(got, want) {
		t.Errorf("received %v, want %v", got, want)
	}
}

// Messages of one client on one topic and QoS arrive in their order, to every
// subscriber [MQTT-4.6.0-5] [MQTT-4.6.0-6].
func TestV5Order(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.6.0-5", "MQTT-4.6.0-6")
	rounds(t, func(t *testing.T, qos byte) {
		topic, id := unique("t"), unique("c")
		live := join(t)
		live.Subscribe(topic, qos)
		offline := dial(t).Connect(resume(id))
		offline.Subscribe(topic, qos)
		offline.Disconnect()
		pub := join(t)
		const n = 60
		for i := range n {
			pub.Publish(topic, qos, string(rune('A'+i)))
		}
		for i := range n {
			receives(t, live, string(rune('A'+i)))
		}
		if qos > 0 {
			back := dial(t).Connect(resume(id))
			for i := range n {
				if m := receives(t, back, string(rune('A'+i))); m.Dup {
					t.Fatalf("DUP on the first delivery: %+v", m)
				}
			}
		}
	})
}

// Payloads of any length up to what a packet holds arrive whole: the lengths
// around which the header grows by a byte.
func TestV5PayloadLengths(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-1.5.5-1")
	sub, topic := watch(t, 1)
	pub := join(t)
	overhead := len(wire.Encode(wire.Publish{Topic: topic, QoS: 1, ID: 1}, wire.V5)) - 2
	for _, remaining := range []int{127, 128, 16_383, 16_384, 200_000} {
		pub.Publish(topic, 1, long(remaining-overhead))
		if m := sub.Receive(); len(m.Payload) != remaining-overhead {
			t.Errorf("remaining length %d: payload of %d bytes", remaining, len(m.Payload))
		}
	}
	pub.Publish(topic, 1, "")
	receives(t, sub, "")
}
