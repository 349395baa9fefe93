package conformance

import (
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

func TestSmoke(t *testing.T) {
	t.Parallel()
	for _, v := range []wire.Version{wire.V31, wire.V311, wire.V5} {
		topic := unique("t")
		sub := dial(t).Connect(wire.Connect{Version: v, ClientID: unique("s"), Clean: true})
		sub.Subscribe(topic+"/+", 2)
		pub := dial(t).Connect(wire.Connect{Version: v, ClientID: unique("p"), Clean: true})
		for q := range byte(3) {
			pub.Publish(topic+"/a", q, "hello")
			if got := sub.Receive(); got.QoS != q || got.Payload != "hello" {
				t.Errorf("%+v", got)
			}
		}
		sub.ExpectNothing()
		sub.Unsubscribe(topic + "/+")
		pub.Publish(topic+"/a", 1, "x")
		sub.ExpectNothing()
		sub.Disconnect()
	}
}
