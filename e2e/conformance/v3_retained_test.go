package conformance

import (
	"fmt"
	"slices"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// retain3 publishes a retained message and waits until it is stored. That of
// QoS 0 has no acknowledgement, but that of a later message nearby comes after
// both are stored.
func retain3(c *wire.Client, topic string, qos byte, payload string) {
	c.PublishPacket(wire.Publish{Topic: topic, QoS: qos, Retain: true, Payload: payload})
	if qos == 0 {
		c.PublishPacket(wire.Publish{Topic: topic + "/stored", QoS: 1, Retain: true})
	}
}

// [MQTT-3.3.1-5], [MQTT-3.3.1-6], [MQTT-3.3.1-8]: a retained message waits for
// later subscribers, with its QoS lowered to that of the subscription.
func TestV3Retained(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.3.1-5", "MQTT-3.3.1-6", "MQTT-3.3.1-8", "MQTT-3.8.4-6", "MQTT-3.3.1-7", "MQTT-3.1.2-7")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic := unique("t")
		for published := range byte(3) {
			payload := fmt.Sprint("QoS ", published)
			pub := join3(t, v)
			retain3(pub, topic, published, payload)
			pub.Disconnect() // with its clean session: what it retained stays [MQTT-3.1.2-7]
			for granted := range byte(3) {
				sub := join3(t, v)
				sub.Subscribe(topic, granted)
				got := sub.Receive()
				want := wire.Publish{Topic: topic, QoS: min(published, granted), ID: got.ID, Retain: true, Payload: payload}
				if !samePublish(got, want) {
					t.Errorf("published %d, granted %d: got %+v", published, granted, got)
				}
				sub.ExpectNothing()
			}
		}
		join3(t, v).PublishPacket(wire.Publish{Topic: topic, QoS: 1, Retain: true})
	})
}

// [MQTT-3.3.1-9]: who is subscribed already gets it without the flag.
// [MQTT-3.3.1-10], [MQTT-3.3.1-11]: an empty one is delivered too, removes what
// was retained, and is not retained itself.
func TestV3RetainedRemoved(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.3.1-9", "MQTT-3.3.1-10", "MQTT-3.3.1-11")
	eachV3(t, func(t *testing.T, v wire.Version) {
		pub := join3(t, v)
		for qos := range byte(3) {
			topic := unique("t")
			sub := join3(t, v)
			sub.Subscribe(topic, 2)
			for _, payload := range []string{"kept", ""} {
				retain3(pub, topic, qos, payload)
				got := sub.Receive()
				if got.Retain || got.Payload != payload {
					t.Errorf("QoS %d: got %+v", qos, got)
				}
			}
			late := join3(t, v)
			late.Subscribe(topic, 2)
			late.ExpectNothing()
		}
	})
}

// [MQTT-3.3.1-12]: a message without the flag changes nothing of what is
// retained. [MQTT-3.3.1-7]: one with it, of QoS 0 too, replaces it.
func TestV3RetainedReplaced(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.3.1-12", "MQTT-3.3.1-7")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic := unique("t")
		pub := join3(t, v)
		for i, tt := range []struct {
			send wire.Publish
			kept string // afterwards
		}{
			{wire.Publish{QoS: 1, Payload: "not retained"}, ""},
			{wire.Publish{QoS: 1, Retain: true, Payload: "one"}, "one"},
			{wire.Publish{QoS: 1, Payload: "not retained"}, "one"},
			{wire.Publish{QoS: 1}, "one"}, // empty, but without the flag
			{wire.Publish{Payload: "not retained"}, "one"},
			{wire.Publish{Retain: true, Payload: "two"}, "two"},
			{wire.Publish{QoS: 2, Retain: true, Payload: "three"}, "three"},
			{wire.Publish{Retain: true}, ""},
		} {
			tt.send.Topic = topic
			pub.PublishPacket(tt.send)
			retain3(pub, topic+"/other", 0, "") // waits for the one before, too
			sub := join3(t, v)
			sub.Subscribe(topic, 2)
			if tt.kept != "" {
				if got := sub.Receive(); got.Payload != tt.kept {
					t.Errorf("step %d: got %+v", i, got)
				}
			}
			sub.ExpectNothing()
		}
	})
}

// Retained messages come at the pace of the subscriber: more of them than any
// window or queue holds, none dropped, while others are published.
func TestV3RetainedMany(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.3.1-6")
	const n = 1500
	topic := unique("t")
	pub := join3(t, wire.V311)
	var acks []wire.Packet
	for i := range n {
		pub.Send(wire.Publish{Topic: fmt.Sprintf("%s/%d", topic, i), QoS: 1, ID: uint16(i + 1), Retain: true, Payload: fmt.Sprint(i)})
		acks = append(acks, wire.Puback(uint16(i+1)))
	}
	pub.Expect(acks...)
	sub := join3(t, wire.V311)
	sub.Send(wire.Sub(1, topic+"/#", 1))
	var got []string
	for len(got) < n {
		switch p := sub.Next().(type) {
		case wire.Publish:
			got = append(got, p.Topic)
			sub.Send(wire.Puback(p.ID))
		case wire.Suback:
			if !slices.Equal(p.Codes, []byte{1}) {
				t.Fatalf("got %+v", p)
			}
		}
	}
	sub.ExpectNothing()
	slices.Sort(got)
	if got = slices.Compact(got); len(got) != n {
		t.Errorf("%d of %d topics came", len(got), n)
	}
	for i := range n {
		pub.Send(wire.Publish{Topic: fmt.Sprintf("%s/%d", topic, i), Retain: true})
	}
	pub.Ping()
}
