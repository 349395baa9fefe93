package clients_test

import (
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/clients/line"
	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// TestRetained keeps, replaces and removes a retained message with every client.
// An established subscription gets it as a new message, without the flag; a later
// one gets the newest, with it; after the empty payload, none. The numbers are
// those of 3.1.1 [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-8] [MQTT-3.3.1-9]
// [MQTT-3.3.1-10] [MQTT-3.3.1-11] [MQTT-3.3.1-12]; 5 says the same.
func TestRetained(t *testing.T) {
	g := harness.Shared(t)
	each(t, commands, func(t *testing.T, v variant) { testRetained(t, g, v) })
}

func testRetained(t *testing.T, g *harness.Gateway, v variant) {
	topic := wire.Unique("retained")
	early := v.connect(t, g, line.Connect{Clean: true})
	early.subscribe(filter(topic, 2))
	for _, m := range []line.Message{retained(topic, "old", 0), retained(topic, "new", 2), message(topic, "passing", 1)} {
		early.publish(m)
		m.Retain = false
		early.expect(m) // one by one: order is promised within one QoS only
	}

	late := v.connect(t, g, line.Connect{Clean: true})
	late.subscribe(filter(topic+"/#", 1))
	late.expect(retained(topic, "new", 1)) // at the QoS of the subscription

	early.publish(retained(topic, "", 1))
	early.expect(message(topic, "", 1))
	late.expect(message(topic, "", 1))

	none := v.connect(t, g, line.Connect{Clean: true})
	none.subscribe(filter(topic, 1))
	none.publish(message(topic, "end", 1))
	for _, c := range []*client{early, late, none} {
		c.expect(message(topic, "end", 1))
		c.disconnect()
	}
}

// TestRetainOptions tries the subscription options of MQTT 5: retain handling
// [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11], retain as published
// [MQTT-3.3.1-12] [MQTT-3.3.1-13] and no local [MQTT-3.8.3-3].
func TestRetainOptions(t *testing.T) {
	g := harness.Shared(t)
	each(t, func(v variant) bool { return speaksLine(v) && v.version == 5 }, func(t *testing.T, v variant) {
		topic := wire.Unique("options")
		c := v.connect(t, g, line.Connect{Clean: true})
		other := v.connect(t, g, line.Connect{Clean: true})
		// Heard live first: of a cluster the other gateway, too, has it behind it.
		c.subscribe(filter(topic, 1))
		other.publish(retained(topic, "kept", 1))
		c.expect(message(topic, "kept", 1))
		c.unsubscribe(filter(topic, 0))
		kept, end := retained(topic, "kept", 1), message(topic, "end", 1)

		for _, step := range []struct {
			name string
			line.Filter
			want []line.Message
		}{
			{"handling 2 sends none", line.Filter{RetainHandling: 2}, nil},
			{"handling 1 sends none to a subscription that exists", line.Filter{RetainHandling: 1}, nil},
			{"handling 0 sends it again", line.Filter{RetainHandling: 0}, []line.Message{kept}},
		} {
			step.Filter.Filter, step.QoS = topic, 1
			c.subscribe(step.Filter)
			other.publish(end)
			for _, want := range append(step.want, end) {
				if got := c.receive(); !same(got, want) {
					t.Fatalf("%s: got %s, want %s", step.name, show(got), show(want))
				}
			}
		}
		c.unsubscribe(filter(topic, 0))
		c.subscribe(line.Filter{Filter: topic, QoS: 1, RetainHandling: 1, RetainAsPublished: true, NoLocal: true})
		c.expect(kept) // handling 1 sends it to a new subscription
		c.publish(message(topic, "own", 1), retained(topic, "own", 1))
		other.publish(end, retained(topic, "flag", 1), retained(topic, "", 1))
		c.expect(end, retained(topic, "flag", 1), retained(topic, "", 1))
		c.disconnect()
		other.disconnect()
	})
}
