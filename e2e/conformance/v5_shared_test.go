package conformance

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// group is the filter of a shared subscription that no other test has.
func group(topic string) string { return "$share/" + unique("g") + "/" + topic }

// Shared subscriptions that are malformed are refused with 0x8F each, those
// that are right are granted [MQTT-4.8.2-1] [MQTT-4.8.2-2].
func TestV5SharedFilters(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.8.2-1", "MQTT-4.8.2-2")
	c, topic := join(t), unique("t")
	for _, tc := range []struct {
		filter string
		ok     bool
	}{
		{"$share/g/" + topic, true},
		{"$share/g/" + topic + "/#", true},
		{"$share/g/+/" + topic, true},
		{"$share/g//" + topic, true}, // of the filter /topic
		{"$share/a b!ü/" + topic, true},
		{"$share", true}, // a topic like any other that begins with $
		{"$shared/g/" + topic, true},
		{"$SHARE/g/" + topic, true},
		{"$share/", false},
		{"$share/g", false},
		{"$share/g/", false},
		{"$share//" + topic, false},
		{"$share/+/" + topic, false},
		{"$share/#/" + topic, false},
		{"$share/g+/" + topic, false},
		{"$share/g#/" + topic, false},
		{"$share/#", false},
		{"$share/g/a/#/" + topic, false},
		{"$share/g/a+", false},
	} {
		id := c.NextID()
		c.Send(wire.Sub(id, tc.filter, 1))
		s := wire.Next[wire.Suback](c)
		want := []byte{topicFilterInvalid}
		if tc.ok {
			want = []byte{1}
		}
		if s.ID != id || !bytes.Equal(s.Codes, want) {
			// Whether $share alone and other $ filters may be subscribed to is the server's decision.
			if tc.ok && tc.filter[:7] != "$share/" && s.Codes[0] >= 0x80 {
				continue
			}
			t.Errorf("%q: %+v, want % x", tc.filter, s, want)
		}
	}
}

// Every message goes to one member of a group, every member gets some, other
// groups and subscriptions that are not shared get all of them.
func TestV5SharedDistribution(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.8.2-1", "MQTT-3.3.2-3")
	rounds(t, func(t *testing.T, qos byte) {
		topic := unique("t")
		one, other := group(topic), group(topic)
		members := []*wire.Client{join(t), join(t), join(t)}
		for _, m := range members {
			m.Subscribe(one, 2)
		}
		alone, plain := join(t), join(t)
		alone.Subscribe(other, 2)
		plain.Subscribe(topic, 2)
		pub := join(t)
		const n = 60
		for i := range n {
			pub.Publish(topic, qos, fmt.Sprint(i))
		}
		seen := map[string]int{}
		got := make([]int, len(members))
		for deadline := time.Now().Add(wire.Timeout); len(seen) < n && time.Now().Before(deadline); {
			for i, m := range members {
				for _, p := range m.Collect() {
					seen[p.Payload]++
					got[i]++
				}
			}
		}
		for i := range members {
			if got[i] == 0 || got[i] == n {
				t.Errorf("member %d got %d of %d messages", i, got[i], n)
			}
		}
		for i := range n {
			if seen[fmt.Sprint(i)] != 1 {
				t.Errorf("message %d reached %d members of the group", i, seen[fmt.Sprint(i)])
			}
			receives(t, alone, fmt.Sprint(i))
			receives(t, plain, fmt.Sprint(i))
		}
		for _, c := range append(members, alone, plain) {
			c.ExpectNothing()
		}
	})
}

// A client with a shared subscription and one that is not shared has both, and
// the shared one at the QoS it was granted [MQTT-4.8.2-3].
func TestV5SharedAndPlain(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.8.2-3")
	c, topic := join(t), unique("t")
	subscribes(t, c, group(topic), 0, 1)
	subscribes(t, c, topic, 2, 2)
	c.Publish(topic, 2, "m")
	for range 2 {
		switch m := receives(t, c, "m"); {
		case sameIDs(m, 1) && m.QoS == 0, sameIDs(m, 2) && m.QoS == 2:
		default:
			t.Errorf("%+v", m)
		}
	}
	c.ExpectNothing()
}

// Each member gets messages at its own granted QoS [MQTT-4.8.2-3].
func TestV5SharedQoS(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.8.2-3")
	for granted := range byte(3) {
		c, pub, topic := join(t), join(t), unique("t")
		c.Subscribe(group(topic), granted)
		// QoS 0 comes last: of a group that is new on another gateway a publish
		// of QoS 0 may know a moment later, as one of QoS 1 or 2 may not.
		for _, published := range []byte{2, 1, 0} {
			pub.Publish(topic, published, "m")
			if m := receives(t, c, "m"); m.QoS != min(granted, published) {
				t.Errorf("granted %d, published %d: %+v", granted, published, m)
			}
		}
	}
}

// The order of one member's messages is that of their publication where it is
// the only member.
func TestV5SharedOrder(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.6.0-5")
	c, topic := join(t), unique("t")
	c.Subscribe(group(topic), 1)
	pub := join(t)
	for i := range 50 {
		pub.Publish(topic, 1, fmt.Sprint(i))
	}
	for i := range 50 {
		receives(t, c, fmt.Sprint(i))
	}
}

// UNSUBSCRIBE and the end of a session take a member out of its group: nothing
// more is sent its way.
func TestV5SharedMemberLeaves(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.10.4-2", "MQTT-3.10.4-1")
	for name, leave := range map[string]func(c *wire.Client, filter string){
		"UNSUBSCRIBE": func(c *wire.Client, filter string) { c.Unsubscribe(filter) },
		"DISCONNECT":  func(c *wire.Client, filter string) { c.Disconnect() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topic := unique("t")
			filter := group(topic)
			stays, goes := join(t), join(t)
			stays.Subscribe(filter, 1)
			goes.Subscribe(filter, 1)
			leave(goes, filter)
			pub := join(t)
			for i := range 20 {
				pub.Publish(topic, 1, fmt.Sprint(i))
				receives(t, stays, fmt.Sprint(i))
			}
			if name == "UNSUBSCRIBE" {
				goes.ExpectNothing()
			}
		})
	}
}

// What a member had not acknowledged at QoS 1 when its connection ended goes
// to another member at once, whether its session is over or kept.
func TestV5SharedRedistribution(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.4.0-1")
	for name, kept := range map[string]bool{"session over": false, "session kept": true} {
		for end, leave := range map[string]func(c *wire.Client){
			"lost":       func(c *wire.Client) { c.Drop() },
			"DISCONNECT": func(c *wire.Client) { c.Disconnect() },
		} {
			t.Run(name+", "+end, func(t *testing.T) {
				t.Parallel()
				topic, id := unique("t"), unique("c")
				filter := group(topic)
				connect := clean(id)
				if kept {
					connect = resume(id)
				}
				goes, stays := dial(t).Connect(connect), join(t)
				goes.Subscribe(filter, 1)
				pub := join(t)
				left := map[string]bool{}
				for i := range 5 {
					pub.Publish(topic, 1, fmt.Sprint(i))
					left[wire.Next[wire.Publish](goes).Payload] = true
				}
				stays.Subscribe(filter, 1)
				leave(goes)
				for len(left) > 0 {
					m := stays.Receive()
					if !left[m.Payload] {
						t.Fatalf("%+v twice or from nowhere", m)
					}
					delete(left, m.Payload)
				}
				pub.Publish(topic, 1, "marker")
				receives(t, stays, "marker")
			})
		}
	}
}

// QoS 2 that was sent to a member is completed with that member when it is
// back [MQTT-4.8.2-4].
func TestV5SharedQoS2StaysWithItsMember(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.8.2-4")
	topic, id := unique("t"), unique("c")
	filter := group(topic)
	goes, stays, pub := dial(t).Connect(resume(id)), join(t), join(t)
	goes.Subscribe(filter, 2)
	pub.Publish(topic, 2, "m")
	m := wire.Next[wire.Publish](goes)
	stays.Subscribe(filter, 2)
	goes.Drop()
	back := dial(t).Connect(resume(id))
	if again := receives(t, back, "m"); again.ID != m.ID || !again.Dup {
		t.Errorf("first %+v, then %+v", m, again)
	}
	back.Ping()
	back.Disconnect()
	for i := range 4 {
		pub.Publish(topic, 2, fmt.Sprint(i))
		receives(t, stays, fmt.Sprint(i))
	}
	stays.ExpectNothing()
}

// It goes to nobody else when that member's session ends first
// [MQTT-4.8.2-5]; what was not sent yet does.
func TestV5SharedQoS2EndsWithItsMember(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.8.2-5")
	for name, tc := range map[string]struct {
		connect func(id string, props ...wire.Prop) wire.Connect
		end     func(c *wire.Client)
	}{
		"connection lost":          {clean, func(c *wire.Client) { c.Drop() }},
		"DISCONNECT with expiry 0": {resume, func(c *wire.Client) { c.Send(wire.Disconnect{Props: wire.Props{expiry(0)}}); c.ExpectClosed() }},
		"Clean Start":              {resume, func(c *wire.Client) { c.Drop() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topic, id := unique("t"), unique("c")
			filter := group(topic)
			goes, stays, pub := dial(t).Connect(tc.connect(id, receiveMaximum(1))), join(t), join(t)
			goes.Subscribe(filter, 2)
			pub.Publish(topic, 2, "sent")
			pub.Publish(topic, 2, "not sent")
			wire.Next[wire.Publish](goes)
			goes.Ping()
			stays.Subscribe(filter, 2)
			tc.end(goes)
			dial(t).Connect(clean(id)).Ping() // so the server knows of the end
			receives(t, stays, "not sent")
			for i := range 4 {
				pub.Publish(topic, 2, fmt.Sprint(i))
				receives(t, stays, fmt.Sprint(i))
			}
			stays.ExpectNothing()
		})
	}
}

// A message that a member refuses is discarded, not offered to others
// [MQTT-4.8.2-6].
func TestV5SharedRefused(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.8.2-6", "MQTT-4.4.0-2")
	for _, refusal := range []wire.Ack{wire.Puback(0).With(unspecifiedError), wire.Pubrec(0).With(unspecifiedError)} {
		topic, qos := unique("t"), byte(1)
		if refusal.Type == wire.PUBREC {
			qos = 2
		}
		filter := group(topic)
		refuses, other := join(t), join(t)
		refuses.Subscribe(filter, qos)
		pub := join(t)
		pub.Publish(topic, qos, "refused")
		refusal.ID = wire.Next[wire.Publish](refuses).ID
		other.Subscribe(filter, qos)
		refuses.Send(refusal)
		refuses.ExpectNothing()
		refuses.Disconnect()
		pub.Publish(topic, qos, "next")
		receives(t, other, "next")
	}
}

// A member that is away gets nothing while another is connected; what comes
// while all are away waits for the first that is back.
func TestV5SharedAway(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.5.0-1")
	topic := unique("t")
	filter := group(topic)
	a, b := unique("c"), unique("c")
	away, here := dial(t).Connect(resume(a)), dial(t).Connect(resume(b))
	away.Subscribe(filter, 1)
	here.Subscribe(filter, 1)
	away.Disconnect()
	pub := join(t)
	for i := range 10 {
		pub.Publish(topic, 1, fmt.Sprint(i))
		receives(t, here, fmt.Sprint(i))
	}
	here.Ping()
	here.Disconnect()
	for i := range 10 {
		pub.Publish(topic, 1, fmt.Sprint(i))
	}
	back := dial(t).Connect(resume(a))
	for i := range 10 {
		receives(t, back, fmt.Sprint(i))
	}
	back.ExpectNothing()
}
