package conformance

import (
	"reflect"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// covers311 says that the running test proves these statements of MQTT 3.1.1.
func covers311(t *testing.T, ids ...string) {
	t.Helper()
	covers(t, "3.1.1", ids...)
}

// eachV3 runs a test for MQTT 3.1 and for 3.1.1.
func eachV3(t *testing.T, test func(t *testing.T, v wire.Version)) {
	t.Helper()
	for name, v := range map[string]wire.Version{"3.1": wire.V31, "3.1.1": wire.V311} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, v)
		})
	}
}

// clean3 is a CONNECT of a new client with clean session.
func clean3(v wire.Version) wire.Connect {
	return wire.Connect{Version: v, ClientID: unique("c"), Clean: true}
}

// join3 connects a new client with clean session.
func join3(t *testing.T, v wire.Version) *wire.Client {
	t.Helper()
	return dial(t).Connect(clean3(v))
}

// durable is a CONNECT without clean session.
func durable(v wire.Version, id string) wire.Connect {
	return wire.Connect{Version: v, ClientID: id}
}

// [MQTT-3.1.4-4], [MQTT-3.2.0-1], [MQTT-3.3.4-1], [MQTT-2.3.1-6],
// [MQTT-2.3.1-7], [MQTT-3.12.4-1]: one of everything, answered as it should be.
// [MQTT-7.0.0-2], [MQTT-7.1.1-1]: over plain TCP, without extensions.
func TestV3Exchange(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.1.4-4", "MQTT-3.2.0-1", "MQTT-3.3.4-1", "MQTT-2.3.1-6", "MQTT-2.3.1-7", "MQTT-3.12.4-1",
		"MQTT-3.8.4-1", "MQTT-3.8.4-2", "MQTT-3.10.4-4", "MQTT-7.0.0-2", "MQTT-7.1.1-1")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic := unique("t")
		c := dial(t)
		c.Send(clean3(v))
		c.Expect(wire.Connack{})
		c.Send(wire.Sub(0x1234, topic, 2))
		c.Expect(wire.Suback{ID: 0x1234, Codes: []byte{2}})
		c.Send(wire.Publish{Topic: topic + "/nobody", Payload: "x"}, wire.Pingreq{})
		c.Expect(wire.Pingresp{})
		c.Send(wire.Publish{Topic: topic + "/nobody", QoS: 1, ID: 0xffff})
		c.Expect(wire.Puback(0xffff))
		c.Send(wire.Publish{Topic: topic + "/nobody", QoS: 2, ID: 0x100})
		c.Expect(wire.Pubrec(0x100))
		c.Send(wire.Pubrel(0x100))
		c.Expect(wire.Pubcomp(0x100))
		c.Send(wire.Unsub(0x4321, topic))
		c.Expect(wire.Unsuback{ID: 0x4321})
		c.Send(wire.Disconnect{})
		c.ExpectClosed()
	})
}

// [MQTT-3.14.4-2]: what a client sends after DISCONNECT is not processed.
func TestV3NothingAfterDisconnect(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.14.4-2")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic := unique("t")
		sub := join3(t, v)
		sub.Subscribe(topic, 1)
		c := join3(t, v)
		c.Send(wire.Disconnect{}, wire.Publish{Topic: topic, QoS: 1, ID: 1, Payload: "late"})
		c.ExpectClosed()
		join3(t, v).Publish(topic, 1, "other")
		if got := sub.Receive(); got.Payload != "other" {
			t.Errorf("got %+v", got)
		}
	})
}

// Packet sizes where the remaining length takes one byte more, and one that
// needs many reads.
func TestV3Sizes(t *testing.T) {
	t.Parallel()
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic := unique("t")
		c := join3(t, v)
		c.Subscribe(topic, 0)
		overhead := 2 + len(topic)
		for _, remaining := range []int{overhead, 127, 128, 16383, 16384, 200_000} {
			payload := make([]byte, remaining-overhead)
			for i := range payload {
				payload[i] = byte(i * 7)
			}
			want := wire.Publish{Topic: topic, Payload: string(payload)}
			c.Send(want)
			if got := c.Receive(); got.Payload != want.Payload || got.Topic != topic {
				t.Fatalf("remaining length %d: %d bytes came back", remaining, len(got.Payload))
			}
		}
	})
}

// A byte at a time, and everything in one write: the stream has no borders.
func TestV3Stream(t *testing.T) {
	t.Parallel()
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic := unique("t")
		packets := []wire.Packet{clean3(v), wire.Sub(1, topic, 1), wire.Publish{Topic: topic, QoS: 1, ID: 2, Payload: "x"}, wire.Pingreq{}}
		check := func(c *wire.Client) {
			t.Helper()
			c.Expect(wire.Connack{}, wire.Suback{ID: 1, Codes: []byte{1}})
			c.Ping() // the answers to the two PINGREQs: this one and that in packets
			seen := map[string]bool{}
			for range 3 {
				switch p := c.Next().(type) {
				case wire.Publish:
					seen["message"] = p.Payload == "x"
				case wire.Ack:
					seen["ack"] = p.ID == 2 && p.Type == wire.PUBACK
				case wire.Pingresp:
					seen["pong"] = true
				}
			}
			if len(seen) != 3 {
				t.Errorf("got only %v", seen)
			}
		}
		whole := dial(t)
		whole.Send(packets...)
		check(whole)
		packets[0] = clean3(v)
		packets[1] = wire.Sub(1, topic+"/2", 1)
		packets[2] = wire.Publish{Topic: topic + "/2", QoS: 1, ID: 2, Payload: "x"}
		pieces := dial(t)
		for _, p := range packets {
			for _, b := range wire.Encode(p, v) {
				pieces.SendRaw([]byte{b})
			}
		}
		check(pieces)
	})
}

// samePublish compares messages of 3.x, which have no properties.
func samePublish(a, b wire.Publish) bool { return reflect.DeepEqual(a, b) }

// payloads receives n messages and returns their payloads in order.
func payloads(c *wire.Client, n int) []string {
	var got []string
	for range n {
		got = append(got, c.Receive().Payload)
	}
	return got
}
