package clients_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/clients/line"
	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// TestMatrix has every client publish to itself at every pair of QoS: a hundred
// messages arrive once, in order, unchanged, at the lower of the two QoS, without
// retain and without DUP [MQTT-3.3.1-2] [MQTT-4.6.0-6]; the QoS is [MQTT-3.8.4-6] in
// 3.1.1 and [MQTT-3.8.4-8] in 5.
func TestMatrix(t *testing.T) {
	g := harness.Shared(t)
	each(t, commands, func(t *testing.T, v variant) { testMatrix(t, g, v) })
}

func testMatrix(t *testing.T, g *harness.Gateway, v variant) {
	topic := wire.Unique("matrix")
	publisher := v.connect(t, g, line.Connect{Clean: true})
	defer publisher.disconnect()
	for sub := range 3 {
		subscriber := v.connect(t, g, line.Connect{Clean: true})
		subscriber.subscribe(filter(fmt.Sprintf("%s/%d/+", topic, sub), sub))
		for pub := range 3 {
			messages := numbered(fmt.Sprintf("%s/%d/%d", topic, sub, pub), pub, 100)
			publisher.publish(messages...)
			subscriber.expect(at(sub, messages)...)
		}
		subscriber.disconnect()
	}
}

// TestEveryoneToEveryone has every client hear every other one, itself too, at
// every QoS, whatever the versions and transports of the two.
func TestEveryoneToEveryone(t *testing.T) {
	g := harness.Shared(t)
	topic := wire.Unique("ring")
	var all []*client
	here := present(t)
	if slices.ContainsFunc(here, inPage) {
		startBrowser(t)
	}
	for _, v := range here {
		c := v.connect(t, g, line.Connect{Clean: true})
		c.subscribe(filter(topic+"/#", 2))
		defer c.disconnect()
		all = append(all, c)
	}
	for _, from := range all {
		for qos := range 3 {
			m := message(fmt.Sprintf("%s/%d/%s", topic, qos, from.variant), fmt.Sprintf("grüße from %s", from.variant), qos)
			from.publish(m)
			for _, to := range all {
				to.expect(m)
			}
		}
	}
}
