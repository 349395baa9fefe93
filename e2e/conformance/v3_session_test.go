package conformance

import (
	"fmt"
	"slices"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// [MQTT-3.1.2-4], [MQTT-3.1.2-6], [MQTT-3.2.2-1], [MQTT-3.2.2-2],
// [MQTT-3.2.2-3]: when a session is there and when not, with and without
// subscriptions. MQTT 3.1 has sessions and no bit to say so.
func TestV3SessionPresent(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.1.2-4", "MQTT-3.1.2-6", "MQTT-3.1.4-3", "MQTT-3.2.2-1", "MQTT-3.2.2-2", "MQTT-3.2.2-3", "MQTT-4.1.0-1")
	for _, subscribe := range []bool{false, true} {
		t.Run(fmt.Sprint("subscription ", subscribe), func(t *testing.T) {
			t.Parallel()
			id, topic := unique("c"), unique("t")
			for i, tt := range []struct{ clean, present bool }{
				{false, false}, {false, true}, {false, true}, // made, resumed
				{true, false}, {false, false}, {false, true}, // discarded, made anew
				{true, false}, {true, false}, {false, false}, // clean ones leave nothing
			} {
				c := dial(t).Connect(wire.Connect{ClientID: id, Clean: tt.clean})
				if c.Connack.SessionPresent != tt.present {
					t.Errorf("connection %d: %+v", i, c.Connack)
				}
				if subscribe {
					c.Subscribe(topic, 1)
				}
				if i%2 == 0 {
					c.Disconnect()
				} else {
					c.Drop()
				}
			}
			dial(t).Connect(wire.Connect{ClientID: id, Clean: true}).Disconnect()
		})
	}
}

// [MQTT-3.1.2-5], [MQTT-4.5.0-1]: messages for absent sessions are kept for
// each of them, come in order and without DUP: they were never sent before.
func TestV3Offline(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.1.2-4", "MQTT-3.1.2-5", "MQTT-4.5.0-1", "MQTT-3.3.1-1", "MQTT-4.1.0-1", "MQTT-4.3.2-1", "MQTT-4.3.3-1")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic, will := unique("t"), unique("t")
		watcher := join3(t, v)
		watcher.Subscribe(will, 1)
		ids := []string{unique("c"), unique("c")}
		for i, id := range ids {
			p := durable(v, id)
			p.Will = &wire.Will{Topic: will}
			c := dial(t).Connect(p)
			c.Subscribe(topic+"/+", byte(i+1))
			if i == 0 {
				c.Disconnect()
			} else {
				c.Drop()
				watcher.Receive() // the server has seen it
			}
		}
		pub := join3(t, v)
		const n = 30
		for i := range n {
			pub.Publish(fmt.Sprintf("%s/%d", topic, i%3), byte(1+i%2), fmt.Sprint(i))
		}
		for s, id := range ids {
			c := dial(t).Connect(durable(v, id))
			last := map[string]int{} // [MQTT-4.6.0-6]: order is per topic and QoS
			for range n {
				got := c.Receive()
				var i int
				fmt.Sscan(got.Payload, &i)
				order := fmt.Sprint(got.Topic, got.QoS)
				if before, seen := last[order]; got.Dup || got.Retain || got.QoS != min(byte(s+1), byte(1+i%2)) || seen && before >= i {
					t.Errorf("session %d: got %+v after %d", s, got, before)
				}
				last[order] = i
			}
			c.ExpectNothing()
			dial(t).Connect(wire.Connect{Version: v, ClientID: id, Clean: true}).Disconnect()
		}
	})
}

// [MQTT-4.4.0-1], [MQTT-4.6.0-1], [MQTT-3.3.1-1]: what was sent and not
// acknowledged is sent again at once at each reconnection: same identifiers,
// same order, DUP, and before anything newer.
func TestV3Redelivery(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-4.4.0-1", "MQTT-4.6.0-1", "MQTT-3.3.1-1", "MQTT-2.3.1-4", "MQTT-3.1.2-4")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic, id := unique("t"), unique("c")
		c, pub := dial(t).Connect(durable(v, id)), join3(t, v)
		c.Subscribe(topic, 2)
		var open []wire.Publish
		for i := range 8 {
			pub.Publish(topic, byte(1+i%2), fmt.Sprint(i))
			open = append(open, wire.Next[wire.Publish](c))
		}
		if len(slices.CompactFunc(open, func(a, b wire.Publish) bool { return a.ID == b.ID })) != 8 || open[0].Dup {
			t.Fatalf("got %+v", open)
		}
		c.Send(wire.Puback(open[2].ID)) // out of order: leaves a hole
		open = slices.Delete(open, 2, 3)
		c.Disconnect() // and not Drop: newer must not be sent to a connection that is gone
		pub.Publish(topic, 1, "newer")
		for round := range 3 {
			c = dial(t).Connect(durable(v, id))
			for _, want := range open {
				want.Dup = true
				if got := wire.Next[wire.Publish](c); !samePublish(got, want) {
					t.Fatalf("reconnection %d: got  %+v\nwant %+v", round, got, want)
				}
			}
			newer := wire.Next[wire.Publish](c)
			if newer.Payload != "newer" || newer.Dup != (round > 0) || slices.ContainsFunc(open, func(m wire.Publish) bool { return m.ID == newer.ID }) {
				t.Fatalf("reconnection %d: got %+v after %+v", round, newer, open)
			}
			c.ExpectNothing()
			c.Drop()
		}
		c = dial(t).Connect(durable(v, id))
		for range len(open) + 1 {
			c.Receive()
		}
		c.ExpectNothing()
		c.Disconnect()
		c = dial(t).Connect(durable(v, id))
		c.ExpectNothing()
		dial(t).Connect(wire.Connect{Version: v, ClientID: id, Clean: true}).Disconnect()
	})
}

// [MQTT-3.1.2-6]: of a clean session nothing is used again: neither its
// subscriptions, nor its messages, nor what it had received at QoS 2.
func TestV3CleanSession(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.1.2-6", "MQTT-3.1.4-3", "MQTT-4.1.0-2")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic, id, other := unique("t"), unique("c"), unique("t")
		watcher := join3(t, v)
		watcher.Subscribe(other, 2)
		pub := join3(t, v)
		for _, first := range []bool{true, false} { // the session that is lost was clean, or is discarded
			c := dial(t).Connect(wire.Connect{Version: v, ClientID: id, Clean: first})
			c.Subscribe(topic, 2)
			pub.Publish(topic, 1, "in flight")
			wire.Next[wire.Publish](c)
			c.Send(wire.Publish{Topic: other, QoS: 2, ID: 7, Payload: "old"})
			c.Expect(wire.Pubrec(7))
			c.Drop()
			pub.Publish(topic, 1, "while away")
			c = dial(t).Connect(wire.Connect{Version: v, ClientID: id, Clean: true})
			pub.Publish(topic, 1, "not subscribed")
			c.ExpectNothing()
			c.PublishPacket(wire.Publish{Topic: other, QoS: 2, ID: 7, Payload: "new"})
			for got := watcher.Receive().Payload; got != "new"; got = watcher.Receive().Payload {
				if got != "old" {
					t.Errorf("got %q", got)
				}
			}
			c.Drop()
		}
	})
}

// Reconnecting fast under one identifier works each time.
func TestV3QuickReconnects(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.1.2-4", "MQTT-3.2.2-2")
	id, topic := unique("c"), unique("t")
	pub := join3(t, wire.V311)
	for i := range 20 {
		c := dial(t).Connect(durable(wire.V311, id))
		if c.Connack.SessionPresent != (i > 0) {
			t.Fatalf("connection %d: %+v", i, c.Connack)
		}
		if i == 0 {
			c.Subscribe(topic, 1)
		} else {
			got := c.Receive()
			for clustered(t) && got.Dup && got.Payload != fmt.Sprint(i-1) { // the PUBACK had come to another gateway only
				got = c.Receive()
			}
			if got.Payload != fmt.Sprint(i-1) {
				t.Fatalf("connection %d: got %+v", i, got)
			}
		}
		if c.Ping(); i%2 == 0 {
			c.Drop()
		} else {
			c.Send(wire.Disconnect{})
			c.Drop()
		}
		pub.Publish(topic, 1, fmt.Sprint(i))
	}
	dial(t).Connect(wire.Connect{ClientID: id, Clean: true}).Disconnect()
}

// [MQTT-3.1.4-2]: a second client under the same identifier takes the session
// over, and the first is disconnected, its will published.
func TestV3TakeOver(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.1.4-2", "MQTT-3.1.2-8")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic, id := unique("t"), unique("c")
		watcher := join3(t, v)
		watcher.Subscribe(topic+"/will", 1)
		pub := join3(t, v)
		p := durable(v, id)
		p.Will = &wire.Will{Topic: topic + "/will", Payload: "taken over", QoS: 1}
		old := dial(t).Connect(p)
		old.Subscribe(topic, 1)
		for i := range 3 {
			c := dial(t).Connect(p)
			old.ExpectClosed()
			if got := watcher.Receive(); got.Payload != "taken over" {
				t.Errorf("got %+v", got)
			}
			pub.Publish(topic, 1, fmt.Sprint(i))
			if got := c.Receive(); got.Payload != fmt.Sprint(i) {
				t.Errorf("got %+v", got)
			}
			c.ExpectNothing()
			old = c
		}
		p.Clean = true
		c := dial(t).Connect(p)
		old.ExpectClosed()
		if got := watcher.Receive(); got.Payload != "taken over" {
			t.Errorf("got %+v", got)
		}
		c.Disconnect()
		watcher.ExpectNothing()
	})
}
