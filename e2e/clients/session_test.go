package clients_test

import (
	"net/url"
	"slices"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/clients/line"
	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// hour is a session expiry that no test lives to see.
const hour = 3600

// TestQueuedMessages keeps messages for a client that is away, gives them to it
// when it is back, each once and in order, and forgets the session at a clean
// start [MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.2.2-2]
// [MQTT-3.2.2-3] [MQTT-4.6.0-6].
func TestQueuedMessages(t *testing.T) {
	g := harness.Shared(t)
	each(t, commands, func(t *testing.T, v variant) {
		topic, id := wire.Unique("queued"), wire.Unique("d")
		filters := []line.Filter{filter(topic+"/1", 2), filter(topic+"/2", 2)}
		publisher := v.connect(t, g, line.Connect{Clean: true})
		server, err := url.Parse(v.url(t, g))
		if err != nil {
			t.Fatal(err)
		}
		cutter := newWireCutter(t, server.Host)
		server.Host = cutter.addr
		present := func(c *client, want bool) {
			t.Helper()
			// MQTT 3.1 does not say it, nor does mosquitto_sub.
			if v.version > 3 && v.client != "mosquitto" && c.answer.SessionPresent != want {
				t.Fatalf("session present is %v, want %v", !want, want)
			}
		}
		// back is a reconnection. mosquitto_sub has no way not to subscribe again,
		// which changes nothing.
		back := func() *client {
			t.Helper()
			c := v.connect(t, g, line.Connect{URL: server.String(), ClientID: id, Expiry: hour})
			if v.client == "mosquitto" {
				c.subscribe(filters...)
			}
			return c
		}

		c := v.connect(t, g, line.Connect{URL: server.String(), ClientID: id, Expiry: hour})
		present(c, false)
		c.subscribe(filters...)
		for round := range 2 {
			c.disconnect()
			cutter.quiet() // or the server may still send, and later repeat, to who is leaving
			one, two := numbered(topic+"/1", 1, 20), numbered(topic+"/2", 2, 20)
			publisher.publish(one...)
			publisher.publish(two...)
			c = back()
			present(c, true)
			var got [2][]line.Message
			for len(got[0])+len(got[1]) < 40 {
				m := c.receive()
				if round > 0 && m.Dup {
					continue // of the round before: its client left before it had acknowledged the last ones
				}
				got[m.QoS-1] = append(got[m.QoS-1], m)
			}
			for i, want := range [][]line.Message{one, two} {
				same := func(a, b line.Message) bool { return same(a, b) }
				if !slices.EqualFunc(got[i], want, same) {
					t.Fatalf("round %d: got %d messages of QoS %d, want 20 in order:\n%s", round+1, len(got[i]), i+1, showAll(got[i]))
				}
			}
		}
		c.disconnect()

		publisher.publish(message(topic+"/1", "never seen", 1))
		c = v.connect(t, g, line.Connect{ClientID: id, Clean: true})
		present(c, false)
		c.subscribe(filter(topic+"/end", 1))
		publisher.publish(message(topic+"/1", "nor this", 1), message(topic+"/end", "end", 1))
		c.expect(message(topic+"/end", "end", 1))
		c.disconnect()
		publisher.disconnect()
	})
}

// TestTakeover connects a second time under one client id: the first connection
// is closed, and the second one works: [MQTT-3.1.4-2] in 3.1.1, [MQTT-3.1.4-3] with
// 0x8E in 5.
func TestTakeover(t *testing.T) {
	g := harness.Shared(t)
	// mosquitto_sub is left out: it would connect again, and the two take turns.
	each(t, speaksLine, func(t *testing.T, v variant) {
		topic, id := wire.Unique("takeover"), wire.Unique("t")
		first := v.connect(t, g, line.Connect{ClientID: id, Clean: true})
		first.subscribe(filter(topic, 1))
		second := v.connect(t, g, line.Connect{ClientID: id, Clean: true})
		if reason := first.expectDown(); v.version == 5 && reason != 0x8e {
			t.Errorf("reason %#x, want 0x8e", reason)
		}
		second.subscribe(filter(topic, 1))
		second.publish(message(topic, "mine now", 1))
		second.expect(message(topic, "mine now", 1))
		second.disconnect()
	})
}
