package clients_test

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/clients/line"
	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// TestReconnect cuts the line of a client three times while it publishes to itself,
// and leaves the rest to the library's own reconnection: at QoS 1 every message
// arrives, at QoS 2 exactly once [MQTT-4.3.2-4] [MQTT-4.3.3-10] [MQTT-4.4.0-1].
func TestReconnect(t *testing.T) {
	g := harness.Shared(t)
	again := func(v variant) bool { return speaksLine(v) && v.client != "paho.golang" }
	for qos := 1; qos <= 2; qos++ {
		t.Run(fmt.Sprintf("qos %d", qos), func(t *testing.T) {
			each(t, again, func(t *testing.T, v variant) { testReconnect(t, g, v, qos) })
		})
	}
}

func testReconnect(t *testing.T, g *harness.Gateway, v variant, qos int) {
	const count = 100 // a round
	server, err := url.Parse(v.url(t, g))
	if err != nil {
		t.Fatal(err)
	}
	cutter := newWireCutter(t, server.Host)
	server.Host = cutter.addr
	topic := wire.Unique("reconnect")
	c := v.connect(t, g, line.Connect{URL: server.String(), Expiry: hour, Reconnect: true})
	c.subscribe(filter(topic+"/+", qos))
	seen := map[string]int{}
	for round := 1; round <= 3; round++ {
		messages := numbered(fmt.Sprintf("%s/%d", topic, round), qos, count)
		published := make(chan error, 1)
		go func() { published <- c.conn.publish(messages) }() // ends with the last acknowledgement
		before := len(seen)
		for up := false; !up || len(seen) < round*count; {
			r := c.event()
			switch {
			case r.Up:
				up = true
				// MQTT 3.1 does not say it, and paho.mqtt.golang only at the first connection.
				if v.version > 3 && v.client != "paho.mqtt.golang" && !r.SessionPresent {
					t.Error("no session present after a reconnection")
				}
			case r.Message != nil:
				what := r.Message.Topic + " " + string(r.Message.Payload)
				if len(seen) == before && seen[what] == 0 { // the first of this round
					cutter.cut()
				}
				seen[what]++
			}
		}
		if err := <-published; err != nil {
			t.Fatal(err)
		}
	}
	for what, n := range seen {
		// Exactly once takes two. paho.mqtt.golang sends the PUBLISH again after it
		// has sent PUBREL, and hands over a repeated PUBLISH of QoS 2 at once.
		if qos == 2 && n != 1 && v.client != "paho.mqtt.golang" {
			t.Errorf("message %s came %d times", what, n)
		}
	}
	c.disconnect()
}
