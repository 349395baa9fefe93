package conformance

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// retain stores a retained message and removes it when the test ends.
func retain(t *testing.T, topic string, qos byte, payload string, props ...wire.Prop) {
	t.Helper()
	p := message(topic, qos, payload, props...)
	p.Retain = true
	join(t).PublishPacket(p)
	if qos == 0 {
		awaitRetained(t, topic, payload)
	}
	t.Cleanup(func() {
		join(t).PublishPacket(wire.Publish{Topic: topic, QoS: 1, Retain: true})
	})
}

// awaitRetained waits until a new subscriber gets exactly these retained
// messages. It asks again and again: nothing says when a message of QoS 0 has
// been stored.
func awaitRetained(t *testing.T, topic string, want ...string) {
	t.Helper()
	var got []string
	for deadline := time.Now().Add(wire.Timeout); time.Now().Before(deadline); {
		c := join(t)
		c.Subscribe(topic, 0)
		got = nil
		for _, m := range c.Collect() {
			got = append(got, m.Payload)
		}
		c.Disconnect()
		if slices.Equal(got, want) {
			return
		}
	}
	t.Fatalf("retained %q, want %q", got, want)
}

// A retained message replaces the one before and reaches later subscribers,
// with RETAIN set and at the lower QoS [MQTT-3.3.1-5] [MQTT-3.8.4-8].
func TestV5Retained(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.1-5", "MQTT-3.3.1-9", "MQTT-3.8.4-8")
	for published := range byte(3) {
		t.Run("qos"+string('0'+rune(published)), func(t *testing.T) {
			t.Parallel()
			topic := unique("r")
			retain(t, topic, 1, "old")
			retain(t, topic, published, "new")
			for granted := range byte(3) {
				c := join(t)
				c.Subscribe(topic, granted)
				if m := receives(t, c, "new"); !m.Retain || m.Dup || m.QoS != min(published, granted) {
					t.Errorf("granted %d: %+v", granted, m)
				}
				c.ExpectNothing()
			}
		})
	}
}

// An empty payload removes the retained message and is not stored itself; to
// subscribers who are there it is a message like any other [MQTT-3.3.1-6]
// [MQTT-3.3.1-7].
func TestV5RetainedRemoved(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.1-6", "MQTT-3.3.1-7")
	rounds(t, func(t *testing.T, qos byte) {
		topic := unique("r")
		retain(t, topic, 1, "stored")
		pub := join(t)
		pub.Subscribe(topic, 2|wire.RetainAsPublished|wire.RetainNever)
		pub.PublishPacket(wire.Publish{Topic: topic, QoS: qos, Retain: true})
		if m := receives(t, pub, ""); !m.Retain {
			t.Errorf("%+v", m)
		}
		if qos == 0 {
			awaitRetained(t, topic)
		}
		late := join(t)
		late.Subscribe(topic, 1)
		late.ExpectNothing()
	})
}

// Without RETAIN a message neither replaces nor removes the retained one
// [MQTT-3.3.1-8].
func TestV5NotRetained(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.1-8")
	for _, payload := range []string{"live", ""} {
		topic := unique("r")
		retain(t, topic, 1, "stored")
		pub := join(t)
		for qos := range byte(3) {
			pub.Publish(topic, qos, payload)
		}
		late := join(t)
		late.Subscribe(topic, 1)
		retained := slices.DeleteFunc(late.Collect(), func(m wire.Publish) bool { return !m.Retain }) // a live one may still come
		if len(retained) != 1 || retained[0].Payload != "stored" {
			t.Errorf("after %q: %+v", payload, retained)
		}
	}
}

// Retain Handling: 0 always, 1 with a new subscription, 2 never
// [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11] [MQTT-3.8.4-4].
func TestV5RetainHandling(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.1-9", "MQTT-3.3.1-10", "MQTT-3.3.1-11", "MQTT-3.8.4-4", "MQTT-3.8.4-3")
	base := unique("r")
	retain(t, base+"/a", 1, "stored")
	for _, tc := range []struct {
		name        string
		option      byte
		first, then bool
	}{
		{"0", 0, true, true}, {"1", wire.RetainIfNew, true, false}, {"2", wire.RetainNever, false, false},
	} {
		for _, filter := range []string{base + "/a", base + "/+", base + "/#"} {
			c := join(t)
			for _, comes := range []bool{tc.first, tc.then, tc.then} {
				c.Subscribe(filter, 1|tc.option)
				if comes {
					receives(t, c, "stored")
				}
				c.ExpectNothing()
			}
			// After UNSUBSCRIBE the subscription is a new one.
			c.Unsubscribe(filter)
			c.Subscribe(filter, 1|tc.option)
			if tc.first {
				receives(t, c, "stored")
			}
			c.ExpectNothing()
		}
	}
}

// A subscription of a resumed session exists: Retain Handling 1 sends nothing
// [MQTT-3.3.1-10]. Resuming alone sends nothing either.
func TestV5RetainHandlingAfterResumption(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.1-10")
	topic, id := unique("r"), unique("c")
	retain(t, topic, 1, "stored")
	a := dial(t).Connect(resume(id))
	a.Subscribe(topic, 1|wire.RetainIfNew)
	receives(t, a, "stored")
	a.Ping() // the acknowledgement has been read
	a.Disconnect()
	b := dial(t).Connect(resume(id))
	b.ExpectNothing()
	b.Subscribe(topic, 1|wire.RetainIfNew)
	b.ExpectNothing()
	b.Subscribe(topic, 1)
	receives(t, b, "stored")
}

// Retain As Published, 0 and 1, with RETAIN set and not, live and from an inbox
// [MQTT-3.3.1-12] [MQTT-3.3.1-13]. What comes because of a SUBSCRIBE has it set
// in any case (§3.3.1.3).
func TestV5RetainAsPublished(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.1-12", "MQTT-3.3.1-13")
	for _, option := range []byte{0, wire.RetainAsPublished} {
		for _, set := range []bool{false, true} {
			topic, id := unique("r"), unique("c")
			offline := dial(t).Connect(resume(id))
			offline.Subscribe(topic, 1|option)
			offline.Disconnect()
			live := join(t)
			live.Subscribe(topic, 1|option)
			join(t).PublishPacket(wire.Publish{Topic: topic, QoS: 1, Retain: set, Payload: "m"})
			want := set && option != 0
			if m := receives(t, live, "m"); m.Retain != want {
				t.Errorf("option %d, RETAIN %v, live: %+v", option, set, m)
			}
			if m := receives(t, dial(t).Connect(resume(id)), "m"); m.Retain != want {
				t.Errorf("option %d, RETAIN %v, offline: %+v", option, set, m)
			}
			if set {
				late := join(t)
				late.Subscribe(topic, 1|option)
				if m := receives(t, late, "m"); !m.Retain {
					t.Errorf("option %d, new subscription: %+v", option, m)
				}
				join(t).PublishPacket(wire.Publish{Topic: topic, QoS: 1, Retain: true})
			}
		}
	}
}

// A retained message comes with the identifier of the subscription that asked
// for it [MQTT-3.3.4-3], and only that.
func TestV5RetainedSubscriptionIdentifier(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.4-3")
	base := unique("r")
	retain(t, base+"/a", 1, "stored")
	c := join(t)
	c.Send(wire.Subscribe{ID: 1, Props: wire.Props{subscriptionID(7)}, Filters: []wire.Filter{{Topic: base + "/+", Options: 1}}})
	wire.Next[wire.Suback](c)
	if m := receives(t, c, "stored"); !sameIDs(m, 7) {
		t.Errorf("%+v", m)
	}
	c.Subscribe(base+"/#", 1)
	if m := receives(t, c, "stored"); !sameIDs(m) {
		t.Errorf("%+v", m)
	}
}

// Shared subscriptions get no retained messages (§4.8.2).
func TestV5RetainedNotShared(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.1-9")
	topic := unique("r")
	retain(t, topic, 1, "stored")
	c := join(t)
	c.Subscribe("$share/g/"+topic, 1)
	c.ExpectNothing()
}

// Retained messages that every kind of filter finds, and those that it must
// not [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-4].
func TestV5RetainedMatching(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.7.3-4", "MQTT-3.3.1-9")
	base := unique("r")
	topics := []string{"a", "a/", "a/b", "a/B", "a/b/c", "a/x/b", "a/x/b/c", "a//b", "/a", "b", "a b", "aa"}
	for _, topic := range topics {
		retain(t, base+"/"+topic, 1, topic)
	}
	for filter, want := range map[string][]string{
		"#":       topics,
		"a/#":     {"a", "a/", "a/b", "a/B", "a/b/c", "a/x/b", "a/x/b/c", "a//b"},
		"a/+":     {"a/", "a/b", "a/B"},
		"a/+/b/#": {"a/x/b", "a/x/b/c", "a//b"},
		"a/+/b":   {"a/x/b", "a//b"},
		"+/b":     {"a/b"},
		"+":       {"a", "b", "a b", "aa"},
		"+/+":     {"a/", "a/b", "a/B", "/a"},
		"/+":      {"/a"},
		"a/b":     {"a/b"},
		"a/b/#":   {"a/b", "a/b/c"},
		"a//#":    {"a/", "a//b"},
		"+/#":     topics,
		"a b/#":   {"a b"},
	} {
		t.Run(filter, func(t *testing.T) {
			t.Parallel()
			c := join(t)
			c.Subscribe(base+"/"+filter, 1)
			left := map[string]bool{}
			for _, w := range want {
				left[w] = true
			}
			for range want {
				m := c.Receive()
				if !left[m.Payload] || m.Topic != base+"/"+m.Payload {
					t.Fatalf("%+v", m)
				}
				delete(left, m.Payload)
			}
			c.ExpectNothing()
		})
	}
}

// Many retained messages come at the pace of the client, none lost, whatever
// its receive maximum is.
func TestV5RetainedAtTheClientsPace(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.1-9", "MQTT-3.3.4-9")
	base := unique("r")
	const n = 400
	pub := join(t)
	topic := func(i int) string { return fmt.Sprintf("%s/%d/%d", base, i%7, i) }
	for i := range n {
		pub.PublishPacket(wire.Publish{Topic: topic(i), QoS: 1, Retain: true, Payload: "m"})
	}
	t.Cleanup(func() {
		c := join(t)
		for i := range n {
			c.PublishPacket(wire.Publish{Topic: topic(i), QoS: 1, Retain: true})
		}
	})
	c := join(t, receiveMaximum(3))
	c.Subscribe(base+"/#", 1)
	seen := map[string]bool{}
	for range n {
		m := receives(t, c, "m")
		if seen[m.Topic] {
			t.Fatalf("%q twice", m.Topic)
		}
		seen[m.Topic] = true
	}
	c.ExpectNothing()
}
