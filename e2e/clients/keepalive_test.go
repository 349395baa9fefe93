package clients_test

import (
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/clients/line"
	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// TestKeepAlive has every library keep a connection with nothing to say alive by
// PINGREQ, well past one and a half times its keep-alive [MQTT-3.12.4-1]. What they
// wait for, on the server's clock, is a will with a delay.
func TestKeepAlive(t *testing.T) {
	g := harness.Shared(t)
	topic := wire.Unique("alive")
	var quiet []*client
	for _, v := range present(t) {
		if speaksLine(v) {
			c := v.connect(t, g, line.Connect{Clean: true, KeepAlive: 2})
			c.subscribe(filter(topic, 1))
			quiet = append(quiet, c)
		}
	}
	if len(quiet) == 0 {
		t.Skip("no client is installed")
	}
	will := message(topic, "four seconds later", 1)
	bell := wire.Dial(t, g.AnyTCP()).Connect(wire.Connect{
		Version: wire.V5, ClientID: wire.Unique("bell"), Clean: true,
		Props: wire.Props{wire.U32Prop(wire.SessionExpiryID, hour)},
		Will: &wire.Will{
			Topic: will.Topic, Payload: string(will.Payload), QoS: 1,
			Props: wire.Props{wire.U32Prop(wire.WillDelayID, 4)},
		},
	})
	bell.Drop()
	for _, c := range quiet {
		c.expect(will)
		c.disconnect()
	}
}
