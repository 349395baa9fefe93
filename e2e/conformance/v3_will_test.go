package conformance

import (
	"net"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// [MQTT-3.1.2-8], [MQTT-3.1.2-16], [MQTT-3.1.2-17]: a will is published when
// the connection breaks, at its QoS, once, and retained if it asks for that.
func TestV3Will(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.1.2-8", "MQTT-3.1.2-9", "MQTT-3.1.2-10", "MQTT-3.1.2-16", "MQTT-3.1.2-17")
	eachV3(t, func(t *testing.T, v wire.Version) {
		watcher := join3(t, v)
		for qos := range byte(3) {
			for _, retain := range []bool{false, true} {
				topic, id := unique("t"), unique("c")
				watcher.Subscribe(topic, 2)
				p := wire.Connect{Version: v, ClientID: id, Clean: qos == 1, Will: &wire.Will{Topic: topic, Payload: "gone", QoS: qos, Retain: retain}}
				dial(t).Connect(p).Drop()
				got := watcher.Receive()
				if want := (wire.Publish{Topic: topic, QoS: qos, ID: got.ID, Payload: "gone"}); !samePublish(got, want) {
					t.Errorf("got  %+v\nwant %+v", got, want)
				}
				late := join3(t, v)
				late.Subscribe(topic, 2)
				if retain {
					if kept := late.Receive(); !kept.Retain || kept.Payload != "gone" || kept.QoS != qos {
						t.Errorf("got %+v", kept)
					}
					late.PublishPacket(wire.Publish{Topic: topic, QoS: 1, Retain: true})
					late.Receive()
					watcher.Receive()
				}
				late.ExpectNothing()
				// [MQTT-3.1.2-10]: published once; the next connection has none.
				p.Will = nil
				dial(t).Connect(p).Drop()
				dial(t).Connect(wire.Connect{Version: v, ClientID: id, Clean: true}).Drop()
			}
		}
		watcher.ExpectNothing()
	})
}

// [MQTT-3.14.4-3], [MQTT-3.1.2-10], [MQTT-3.1.2-12]: no will after DISCONNECT,
// and none from a connection that has none.
func TestV3NoWill(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.14.4-3", "MQTT-3.1.2-10", "MQTT-3.1.2-12")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic, id := unique("t"), unique("c")
		watcher := join3(t, v)
		watcher.Subscribe(topic, 1)
		p := durable(v, id)
		p.Will = &wire.Will{Topic: topic, Payload: "gone", QoS: 1}
		dial(t).Connect(p).Disconnect()
		dial(t).Connect(durable(v, id)).Drop() // resumes a session whose last connection had a will
		dial(t).Connect(p).Disconnect()
		c := dial(t).Connect(p)
		c.Send(wire.Disconnect{})
		c.Conn().(*net.TCPConn).CloseWrite() // at once, as most clients do
		c.ExpectClosed()
		dial(t).Connect(wire.Connect{Version: v, ClientID: id, Clean: true}).Disconnect()
		join3(t, v).Publish(topic, 1, "next")
		if got := watcher.Receive(); got.Payload != "next" {
			t.Errorf("got %+v", got)
		}
	})
}

// An empty will is legal and is published; retained, it removes what is there.
func TestV3EmptyWill(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.1.2-17", "MQTT-3.3.1-10")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic := unique("t")
		pub := join3(t, v)
		pub.PublishPacket(wire.Publish{Topic: topic, QoS: 1, Retain: true, Payload: "online"})
		watcher := join3(t, v)
		watcher.Subscribe(topic, 1)
		watcher.Receive()
		p := clean3(v)
		p.Will = &wire.Will{Topic: topic, Retain: true}
		dial(t).Connect(p).Drop()
		if got := watcher.Receive(); got.Payload != "" || got.Retain {
			t.Errorf("got %+v", got)
		}
		late := join3(t, v)
		late.Subscribe(topic, 1)
		late.ExpectNothing()
	})
}

// [MQTT-3.1.2-24]: a client that is silent for one and a half times its keep
// alive is dropped as if the network had failed. Part of a packet is silence;
// any whole packet is not; without a keep alive silence is allowed.
func TestV3KeepAlive(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.1.2-24", "MQTT-3.1.2-8")
	const grace = 1500 * time.Millisecond
	tests := []struct {
		name    string
		seconds uint16
		dropped bool
		send    func(c *wire.Client) // at the start, or every second if that is not dropped
	}{
		{"silent", 1, true, func(*wire.Client) {}},
		{"part of a packet", 1, true, func(c *wire.Client) { c.SendHex("30") }},
		{"PINGREQ", 3, false, func(c *wire.Client) { c.Ping() }},
		{"QoS 0", 3, false, func(c *wire.Client) { c.Publish("t", 0, "") }},
		{"no keep alive", 0, false, func(*wire.Client) {}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			eachV3(t, func(t *testing.T, v wire.Version) {
				topic := unique("t")
				watcher := join3(t, v)
				watcher.Subscribe(topic, 0)
				p := clean3(v)
				p.KeepAlive, p.Will = tt.seconds, &wire.Will{Topic: topic, Payload: "silent"}
				start := time.Now()
				c := dial(t).Connect(p)
				if tt.dropped {
					tt.send(c)
					c.ExpectClosedWithin(10 * grace)
					if after := time.Since(start); after < grace {
						t.Errorf("closed after %v", after)
					}
					watcher.Expect(wire.Publish{Topic: topic, Payload: "silent"})
					return
				}
				tick := time.NewTicker(time.Second)
				defer tick.Stop()
				for range 6 { // beyond the grace
					<-tick.C
					tt.send(c)
				}
				c.Ping()
				watcher.ExpectNothing()
			})
		})
	}
}
