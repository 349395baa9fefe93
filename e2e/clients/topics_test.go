package clients_test

import (
	"crypto/rand"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/clients/line"
	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// TestWildcards subscribes to filters of every shape and publishes to topics that
// match one of them, or none (4.7.1), character by character [MQTT-4.7.3-4].
func TestWildcards(t *testing.T) {
	g := harness.Shared(t)
	each(t, commands, func(t *testing.T, v variant) { testWildcards(t, g, v) })
}

func testWildcards(t *testing.T, g *harness.Gateway, v variant) {
	filters := []string{"a/+/c", "b/#", "+/only", "/x", "ü/+", "s p/+/1.*>"}
	topics := []struct {
		topic   string
		matches bool
	}{
		{"a/1/c", true},
		{"a//c", true}, // + stands for an empty level too
		{"a/1/d", false},
		{"a/1/c/2", false},
		{"b", true}, // # includes its parent
		{"b/1/2/3", true},
		{"bb", false},
		{"1/only", true},
		{"1/2/only", false},
		{"/x", true},
		{"x", false},
		{"ü/grün", true},
		{"Ü/grün", false},
		{"s p/2/1.*>", true},
		{"s p/2/1.2", false},
		{"b/end", true},
	}
	root := wire.Unique("wild") + "/"
	c := v.connect(t, g, line.Connect{Clean: true})
	var asked []line.Filter
	for _, f := range filters {
		asked = append(asked, filter(root+f, 1))
	}
	c.subscribe(asked...)
	var want, got []string
	for _, one := range topics {
		c.publish(message(root+one.topic, one.topic, 1))
		if one.matches {
			want = append(want, one.topic)
		}
	}
	for range want {
		m := c.receive()
		if strings.TrimPrefix(m.Topic, root) != string(m.Payload) {
			t.Fatalf("payload of another topic: %s", show(m))
		}
		got = append(got, string(m.Payload))
	}
	// The order between topics is nobody's promise.
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Fatalf("got  %q\nwant %q", got, want)
	}
	c.disconnect()
}

// TestUnsubscribe expects nothing more of a filter after its UNSUBACK, and the
// other filter untouched [MQTT-3.10.4-1] [MQTT-3.10.4-2].
func TestUnsubscribe(t *testing.T) {
	g := harness.Shared(t)
	each(t, speaksLine, func(t *testing.T, v variant) {
		topic := wire.Unique("unsub")
		c := v.connect(t, g, line.Connect{Clean: true})
		c.subscribe(filter(topic+"/a", 1), filter(topic+"/b", 1))
		c.unsubscribe(filter(topic+"/a", 0))
		c.publish(message(topic+"/a", "no", 1), message(topic+"/b", "yes", 1))
		c.expect(message(topic+"/b", "yes", 1))
		c.disconnect()
	})
}

// TestPayloads sends what is hard to carry: nothing at all, every byte, and
// 300 KiB, at every QoS.
func TestPayloads(t *testing.T) {
	g := harness.Shared(t)
	var bytes [256]byte
	for i := range bytes {
		bytes[i] = byte(i)
	}
	large := make([]byte, 300<<10)
	rand.Read(large)
	for name, payload := range map[string][]byte{"empty": nil, "every byte": bytes[:], "300 KiB": large} {
		t.Run(name, func(t *testing.T) {
			each(t, commands, func(t *testing.T, v variant) { testPayload(t, g, v, payload) })
		})
	}
}

func testPayload(t *testing.T, g *harness.Gateway, v variant, payload []byte) {
	topic := wire.Unique("payload")
	c := v.connect(t, g, line.Connect{Clean: true})
	c.subscribe(filter(topic, 2))
	for qos := range 3 {
		m := line.Message{Topic: topic, Payload: payload, QoS: qos}
		c.publish(m)
		c.expect(m)
	}
	c.disconnect()
}

// TestRequestResponse has mosquitto_rr ask, and every client that shows properties
// answer on the response topic, with the correlation data [MQTT-3.3.2-15]
// [MQTT-3.3.2-16].
func TestRequestResponse(t *testing.T) {
	g := harness.Shared(t)
	each(t, func(v variant) bool { return speaksLine(v) && v.version == 5 }, func(t *testing.T, v variant) {
		request, response := wire.Unique("request"), wire.Unique("response")
		c := v.connect(t, g, line.Connect{Clean: true})
		c.subscribe(filter(request, 1))
		asked := runRR(t, g, 5, request, response, "what time is it?")
		m := c.receive()
		if m.Properties == nil || m.Properties.ResponseTopic != response || string(m.Payload) != "what time is it?" {
			t.Fatalf("got %s %+v", show(m), m.Properties)
		}
		c.publish(line.Message{
			Topic: m.Properties.ResponseTopic, Payload: []byte("late"), QoS: 1,
			Properties: &line.Properties{Correlation: m.Properties.Correlation},
		})
		if got := <-asked; got != "late" {
			t.Fatalf("mosquitto_rr said %q", got)
		}
		c.disconnect()
	})
	each(t, func(v variant) bool { return v.client == "mosquitto" && v.version != 5 }, func(t *testing.T, v variant) {
		request, response := wire.Unique("request"), wire.Unique("response")
		c := v.connect(t, g, line.Connect{Clean: true})
		c.subscribe(filter(request, 1))
		asked := runRR(t, g, v.version, request, response, "ping")
		c.expect(message(request, "ping", 1))
		c.publish(message(response, "pong", 1))
		if got := <-asked; got != "pong" {
			t.Fatalf("mosquitto_rr said %q", got)
		}
		c.disconnect()
	})
}

// speaksLine is the clients that are programs which speak package line.
func speaksLine(v variant) bool { _, ok := programs[v.client]; return ok }
