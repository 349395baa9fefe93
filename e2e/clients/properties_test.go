package clients_test

import (
	"cmp"
	"reflect"
	"slices"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/clients/line"
	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// TestProperties has every MQTT 5 client send every application property to every
// other one: they arrive unaltered [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16]
// [MQTT-3.3.2-17] [MQTT-3.3.2-20], the expiry counted down [MQTT-3.3.2-6], with the
// identifier of the receiver's subscription [MQTT-3.3.4-3].
func TestProperties(t *testing.T) {
	g := harness.Shared(t)
	topic := wire.Unique("properties")
	var all []*client
	for _, v := range present(t) {
		if v.version == 5 && commands(v) {
			c := v.connect(t, g, line.Connect{Clean: true})
			c.subscribeAs(268_435_455, filter(topic+"/#", 1)) // the largest there is
			defer c.disconnect()
			all = append(all, c)
		}
	}
	const expiry = 3600
	for _, from := range all {
		sent := line.Properties{
			PayloadFormat: 1, Expiry: expiry, ContentType: "text/plain; charset=utf-8",
			ResponseTopic: topic + "/answers", Correlation: []byte("c-1"),
			// The name twice, in an order that must stay [MQTT-3.3.2-18].
			User: [][2]string{{"trace", "b"}, {"trace", "a"}, {"unit", "°C"}},
		}
		from.publish(line.Message{Topic: topic + "/" + from.variant.String(), Payload: []byte("x"), QoS: 1, Properties: &sent})
		want := sent
		want.SubscriptionIDs = []int{268_435_455}
		for _, to := range all {
			m := to.receive()
			if m.Properties == nil {
				t.Fatalf("from %s to %s: no properties", from.variant, to.variant)
			}
			got := *m.Properties
			if got.Expiry > expiry || got.Expiry < expiry-60 {
				t.Errorf("from %s to %s: expiry %d of %d", from.variant, to.variant, got.Expiry, expiry)
			}
			got.Expiry = expiry
			// MQTT.js keeps the order within a name only.
			slices.SortStableFunc(got.User, func(a, b [2]string) int { return cmp.Compare(a[0], b[0]) })
			if !reflect.DeepEqual(got, want) {
				t.Errorf("from %s to %s:\ngot  %+v\nwant %+v", from.variant, to.variant, got, want)
			}
		}
	}
}

// TestOverlap subscribes twice to the same messages with different identifiers. A
// message comes once, at the higher QoS, with both of them [MQTT-3.3.4-2]
// [MQTT-3.3.4-4].
func TestOverlap(t *testing.T) {
	g := harness.Shared(t)
	// Of the libraries, these two show more than one identifier.
	both := func(v variant) bool { return v.version == 5 && (v.client == "mqttjs" || v.client == "paho-python") }
	each(t, both, func(t *testing.T, v variant) {
		topic := wire.Unique("overlap")
		c := v.connect(t, g, line.Connect{Clean: true})
		c.subscribeAs(1, filter(topic+"/#", 0))
		c.subscribeAs(2, filter(topic+"/+", 2))
		for _, payload := range []string{"first", "second"} {
			c.publish(message(topic+"/a", payload, 2))
			m := c.receive()
			if string(m.Payload) != payload || m.QoS != 2 || m.Properties == nil || !slices.Equal(m.Properties.SubscriptionIDs, []int{1, 2}) {
				t.Fatalf("got %s with %+v, want %q at QoS 2 with identifiers 1 and 2", show(m), m.Properties, payload)
			}
		}
		c.disconnect()
	})
}
