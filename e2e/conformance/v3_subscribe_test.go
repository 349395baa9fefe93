package conformance

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// [MQTT-3.9.3-1], [MQTT-3.8.4-4]: many filters in one SUBSCRIBE, codes in
// their order; of a filter named twice the last counts.
func TestV3ManyFilters(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.9.3-1", "MQTT-3.9.3-2", "MQTT-3.8.4-4", "MQTT-3.8.4-5", "MQTT-3.10.4-6")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic := unique("t")
		pub := join3(t, v)
		pub.PublishPacket(wire.Publish{Topic: topic + "/c", QoS: 1, Retain: true, Payload: "kept"})
		c := join3(t, v)
		c.Send(wire.Subscribe{ID: 3, Filters: []wire.Filter{{Topic: topic + "/a", Options: 2}, {Topic: topic + "/b"}, {Topic: topic + "/c", Options: 1}, {Topic: topic + "/a"}}})
		var ack wire.Suback
		var kept wire.Publish
		for range 2 { // the retained message may come first
			switch p := c.Next().(type) {
			case wire.Suback:
				ack = p
			case wire.Publish:
				kept = p
				c.Send(wire.Puback(p.ID))
			}
		}
		if ack.ID != 3 || !slices.Equal(ack.Codes, []byte{2, 0, 1, 0}) || kept.Payload != "kept" || !kept.Retain {
			t.Fatalf("got %+v and %+v", ack, kept)
		}
		for _, tt := range []struct {
			level string
			qos   byte
		}{{"/a", 0}, {"/b", 0}, {"/c", 1}} {
			pub.Publish(topic+tt.level, 2, tt.level)
			if got := c.Receive(); got.Payload != tt.level || got.QoS != tt.qos {
				t.Errorf("got %+v", got)
			}
		}
		c.Send(wire.Unsub(4, topic+"/a", topic+"/never", topic+"/c"))
		c.Expect(wire.Unsuback{ID: 4})
		for _, level := range []string{"/a", "/c", "/b"} {
			pub.Publish(topic+level, 1, level)
		}
		if got := c.Receive(); got.Payload != "/b" {
			t.Errorf("got %+v", got)
		}
		pub.PublishPacket(wire.Publish{Topic: topic + "/c", Retain: true})
	})
}

// A filter that the server refuses gets 0x80 and the others are granted.
func TestV3RefusedFilter(t *testing.T) {
	t.Parallel()
	if harness.Shared(t).External() {
		t.Skip("the limits of another broker are not known")
	}
	covers311(t, "MQTT-3.8.4-5", "MQTT-3.9.3-2", "MQTT-3.9.3-1")
	topic := unique("t")
	c := join3(t, wire.V311)
	c.Send(wire.Subscribe{ID: 1, Filters: []wire.Filter{{Topic: topic + "/a", Options: 1}, {Topic: strings.Repeat("/", 65535), Options: 1}, {Topic: topic + "/b"}}})
	c.Expect(wire.Suback{ID: 1, Codes: []byte{1, 0x80, 0}})
	pub := join3(t, wire.V311)
	pub.Publish(topic+"/a", 0, "a")
	pub.Publish(topic+"/b", 0, "b")
	if got := payloads(c, 2); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("got %q", got)
	}
}

// [MQTT-3.3.5-1]: a message that several subscriptions of a client match comes
// once, at the highest QoS granted.
func TestV3Overlap(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.3.5-1")
	eachV3(t, func(t *testing.T, v wire.Version) {
		pub := join3(t, v)
		for _, order := range [][]byte{{0, 1, 2}, {2, 1, 0}, {1, 2, 0}} {
			topic := unique("t")
			c := join3(t, v)
			c.Subscribe(topic+"/a", order[0])
			c.Subscribe(topic+"/+", order[1])
			c.Subscribe(topic+"/#", order[2])
			for qos := range byte(3) {
				pub.Publish(topic+"/a", qos, "x")
				if got := c.Receive(); got.QoS != qos {
					t.Errorf("published %d: got %+v", qos, got)
				}
				c.ExpectNothing()
			}
		}
	})
}

// [MQTT-3.8.4-3]: the same filter again replaces the subscription and brings
// the retained messages again.
func TestV3Resubscribe(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.8.4-3", "MQTT-3.3.1-6", "MQTT-3.3.1-8")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic := unique("t")
		pub := join3(t, v)
		pub.PublishPacket(wire.Publish{Topic: topic, QoS: 2, Retain: true, Payload: "kept"})
		c := join3(t, v)
		for _, qos := range []byte{2, 0, 1, 1} {
			c.Subscribe(topic, qos)
			if got := c.Receive(); got.Payload != "kept" || !got.Retain || got.QoS != qos {
				t.Errorf("subscribed at %d: got %+v", qos, got)
			}
			pub.Publish(topic, 2, "new")
			if got := c.Receive(); got.Payload != "new" || got.Retain || got.QoS != qos {
				t.Errorf("subscribed at %d: got %+v", qos, got)
			}
			c.ExpectNothing()
		}
		pub.PublishPacket(wire.Publish{Topic: topic, QoS: 1, Retain: true})
	})
}

// [MQTT-3.8.4-3]: replacing a subscription interrupts no flow.
func TestV3ResubscribeUnderLoad(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.8.4-3")
	const n = 100
	topic := unique("t")
	pub, c := join3(t, wire.V311), join3(t, wire.V311)
	c.Subscribe(topic, 1)
	for i := range n {
		pub.Send(wire.Publish{Topic: topic, QoS: 1, ID: uint16(i + 1), Payload: fmt.Sprint(i)})
		if i%5 == 0 {
			c.Subscribe(topic, 1)
		}
	}
	for i, got := range payloads(c, n) {
		if got != fmt.Sprint(i) {
			t.Fatalf("got %q in place of %d", got, i)
		}
	}
	c.ExpectNothing()
}

// [MQTT-3.10.4-1]: only the very same filter ends a subscription.
// [MQTT-3.10.4-5]: UNSUBACK comes in any case.
func TestV3Unsubscribe(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.10.4-1", "MQTT-3.10.4-2", "MQTT-3.10.4-4", "MQTT-3.10.4-5")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic := unique("t")
		c, pub := join3(t, v), join3(t, v)
		c.Subscribe(topic+"/+", 1)
		for i, other := range []string{topic + "/a", topic + "/#", "#", "+/+", topic, topic + "/+/", strings.ToUpper(topic) + "/+", topic + "/+"} {
			pub.Publish(topic+"/a", 1, fmt.Sprint(i))
			if got := c.Receive(); got.Payload != fmt.Sprint(i) {
				t.Fatalf("got %+v", got)
			}
			c.Send(wire.Unsub(uint16(100+i), other))
			c.Expect(wire.Unsuback{ID: uint16(100 + i)})
		}
		c.Subscribe(topic+"/end", 1)
		pub.Publish(topic+"/a", 1, "after")
		pub.Publish(topic+"/end", 1, "end")
		if got := c.Receive(); got.Payload != "end" {
			t.Errorf("got %+v", got)
		}
	})
}

// [MQTT-3.10.4-3]: what was on its way when the subscription ended is
// completed, also across a reconnection.
func TestV3UnsubscribeInFlight(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.10.4-3")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic, id := unique("t"), unique("c")
		c, pub := dial(t).Connect(durable(v, id)), join3(t, v)
		c.Subscribe(topic, 2)
		pub.Publish(topic, 1, "one")
		pub.Publish(topic, 2, "two")
		one, two := wire.Next[wire.Publish](c), wire.Next[wire.Publish](c)
		c.Unsubscribe(topic)
		c.Send(wire.Pubrec(two.ID))
		c.Expect(wire.Pubrel(two.ID))
		c.Drop()
		c = dial(t).Connect(durable(v, id))
		one.Dup = true
		got := []wire.Packet{c.Next(), c.Next()}
		for _, want := range []wire.Packet{one, wire.Pubrel(two.ID)} {
			if !slices.ContainsFunc(got, func(p wire.Packet) bool { return fmt.Sprintf("%#v", p) == fmt.Sprintf("%#v", want) }) {
				t.Errorf("got %+v, want %+v among them", got, want)
			}
		}
		c.Send(wire.Puback(one.ID), wire.Pubcomp(two.ID))
		c.ExpectNothing()
		c.Disconnect()
	})
}

// A subscriber does hear itself: No Local came with MQTT 5.
func TestV3OwnMessages(t *testing.T) {
	t.Parallel()
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic := unique("t")
		c := join3(t, v)
		c.Subscribe(topic, 2)
		for qos := range byte(3) {
			c.Publish(topic, qos, "x")
			if got := c.Receive(); got.QoS != qos {
				t.Errorf("got %+v", got)
			}
		}
	})
}
