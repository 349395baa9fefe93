package conformance

import (
	"fmt"
	"slices"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// [MQTT-3.8.4-6]: the QoS delivered is the lower of that published and that
// granted. [MQTT-3.3.1-2], [MQTT-4.3.1-1], [MQTT-2.3.1-5]: at QoS 0 there is
// neither DUP nor identifier, which the client here checks in all it reads.
func TestV3QoS(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.8.4-6", "MQTT-3.8.4-5", "MQTT-3.3.1-2", "MQTT-4.3.1-1", "MQTT-2.3.1-5", "MQTT-3.3.4-1", "MQTT-4.5.0-1")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic := unique("t")
		pub := join3(t, v)
		for granted := range byte(3) {
			sub := join3(t, v)
			sub.Subscribe(topic, granted)
			for published := range byte(3) {
				pub.Publish(topic, published, "x")
				got := sub.Receive()
				want := wire.Publish{Topic: topic, QoS: min(granted, published), ID: got.ID, Payload: "x"}
				if !samePublish(got, want) {
					t.Errorf("published %d, granted %d: got %+v", published, granted, got)
				}
			}
			sub.ExpectNothing()
			sub.Disconnect()
		}
	})
}

// [MQTT-3.3.1-3]: the DUP of a publisher says nothing to subscribers.
func TestV3DupNotPassedOn(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.3.1-3")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic := unique("t")
		sub := join3(t, v)
		sub.Subscribe(topic, 2)
		pub := join3(t, v)
		for qos := byte(1); qos <= 2; qos++ {
			pub.PublishPacket(wire.Publish{Topic: topic, QoS: qos, Dup: true, Payload: "x"})
			if got := sub.Receive(); got.Dup {
				t.Errorf("QoS %d: %+v", qos, got)
			}
		}
	})
}

// [MQTT-4.3.2-2]: once PUBACK is sent, the same identifier is a new message,
// whatever its DUP says.
func TestV3QoS1Again(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-4.3.2-2", "MQTT-2.3.1-6")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic := unique("t")
		sub := join3(t, v)
		sub.Subscribe(topic, 1)
		pub := join3(t, v)
		for i, dup := range []bool{false, true, false} {
			payload := fmt.Sprint(i)
			pub.Send(wire.Publish{Topic: topic, QoS: 1, ID: 5, Dup: dup, Payload: payload})
			pub.Expect(wire.Puback(5))
			if got := sub.Receive(); got.Payload != payload {
				t.Errorf("got %+v", got)
			}
		}
	})
}

// [MQTT-4.6.0-2], [MQTT-4.6.0-3]: acknowledgements leave in the order in which
// the messages came, though all came in one write.
func TestV3AckOrder(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-4.6.0-2", "MQTT-4.6.0-3")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic := unique("t")
		ids := []uint16{9, 3, 65535, 1, 7, 300, 2, 8, 4, 6}
		for qos, ack := range map[byte]func(uint16) wire.Ack{1: wire.Puback, 2: wire.Pubrec} {
			c := join3(t, v)
			var send, want []wire.Packet
			for _, id := range ids {
				send = append(send, wire.Publish{Topic: topic, QoS: qos, ID: id})
				want = append(want, ack(id))
			}
			c.Send(send...)
			c.Expect(want...)
			if qos == 2 {
				send, want = nil, nil
				for _, id := range slices.Backward(ids) {
					send, want = append(send, wire.Pubrel(id)), append(want, wire.Pubcomp(id))
				}
				c.Send(send...)
				c.Expect(want...)
			}
		}
	})
}

// [MQTT-4.6.0-5], [MQTT-4.6.0-6]: messages of a client on a topic arrive in the
// order of sending, at each QoS, from two publishers at a time.
func TestV3Order(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-4.6.0-5", "MQTT-4.6.0-6")
	const n = 200
	for qos := range byte(3) {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			t.Parallel()
			topic := unique("t")
			sub := join3(t, wire.V311)
			sub.Subscribe(topic, qos)
			pubs := []*wire.Client{join3(t, wire.V311), join3(t, wire.V311)}
			for i := range n {
				for p, pub := range pubs {
					m := wire.Publish{Topic: topic, QoS: qos, ID: uint16(i + 1), Payload: fmt.Sprintf("%d %d", p, i)}
					if qos == 2 { // a server may hold it back until PUBREL
						pub.PublishPacket(m)
					} else {
						pub.Send(m)
					}
				}
			}
			next := [2]int{}
			for range len(pubs) * n {
				var p, i int
				fmt.Sscan(sub.Receive().Payload, &p, &i)
				if i != next[p] {
					t.Fatalf("publisher %d: message %d came when %d was due", p, i, next[p])
				}
				next[p]++
			}
			sub.ExpectNothing()
		})
	}
}

// [MQTT-2.3.1-4], [MQTT-4.3.2-1], [MQTT-4.3.3-1]: the server's identifiers are
// not in use already, and messages not acknowledged are not sent again while
// the connection lives.
func TestV3ServerIdentifiers(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-2.3.1-4", "MQTT-4.3.2-1", "MQTT-4.3.3-1")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic := unique("t")
		sub, pub := join3(t, v), join3(t, v)
		sub.Subscribe(topic, 2)
		open := map[uint16]wire.Publish{}
		for i := range 27 {
			pub.Publish(topic, byte(1+i%2), fmt.Sprint(i))
			got := wire.Next[wire.Publish](sub)
			if old, used := open[got.ID]; used || got.Dup || got.Payload != fmt.Sprint(i) {
				t.Fatalf("got %+v while %+v is open", got, old)
			}
			open[got.ID] = got
			if i%3 != 0 { // 18 are never acknowledged: servers send 20 or more at a time
				continue
			}
			switch got.QoS {
			case 1:
				sub.Send(wire.Puback(got.ID))
			case 2:
				sub.Send(wire.Pubrec(got.ID))
				sub.Expect(wire.Pubrel(got.ID))
				sub.Send(wire.Pubcomp(got.ID))
			}
			delete(open, got.ID)
		}
		sub.ExpectNothing()
	})
}

// [MQTT-3.3.5-2]: a client may not write what the server says of itself. The
// PUBLISH is acknowledged or the connection closed, and nobody hears of it.
func TestV3PublishNotAllowed(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.3.5-2")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic := "$SYS/" + unique("t")
		sub := join3(t, v)
		sub.Subscribe(topic, 2)
		for qos, want := range []wire.Packet{wire.Pingresp{}, wire.Puback(9), wire.Pubrec(9)} {
			pub := join3(t, v)
			pub.Send(wire.Publish{Topic: topic, QoS: byte(qos), ID: 9, Retain: true, Payload: "forged"})
			if qos == 0 {
				pub.Send(wire.Pingreq{})
			}
			if p, closed := pub.NextOrClosed(); !closed && fmt.Sprint(p) != fmt.Sprint(want) {
				t.Errorf("QoS %d: got %T%+v", qos, p, p)
			}
		}
		sub.ExpectNothing()
		late := join3(t, v)
		late.Subscribe(topic, 2)
		late.ExpectNothing()
	})
}

// Messages of every QoS that come in one write reach subscribers without
// waiting for anything else, in order within a QoS, and each once.
func TestV3OneWrite(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.3.4-1", "MQTT-4.6.0-6")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic, id := unique("t"), unique("c")
		live, kept, pub := join3(t, v), dial(t).Connect(durable(v, id)), join3(t, v)
		live.Subscribe(topic, 2)
		kept.Subscribe(topic, 2)
		var send []wire.Packet
		for i := range 12 {
			send = append(send, wire.Publish{Topic: topic, QoS: byte(i % 3), ID: uint16(i + 1), Retain: i%4 == 1, Payload: fmt.Sprint(i)})
		}
		pub.Send(send...)
		for i := range 12 {
			switch i % 3 {
			case 1:
				pub.Expect(wire.Puback(uint16(i + 1)))
			case 2:
				pub.Expect(wire.Pubrec(uint16(i + 1)))
			}
		}
		for i := 2; i < 12; i += 3 { // a server may hold these back until PUBREL
			pub.Send(wire.Pubrel(uint16(i + 1)))
			pub.Expect(wire.Pubcomp(uint16(i + 1)))
		}
		for name, sub := range map[string]*wire.Client{"live": live, "durable": kept} {
			last := [3]int{-1, -1, -1}
			for range 12 {
				got := sub.Receive()
				var i int
				fmt.Sscan(got.Payload, &i)
				if got.QoS != byte(i%3) || got.Retain || last[got.QoS] >= i {
					t.Errorf("%s: got %+v after %v", name, got, last)
				}
				last[got.QoS] = i
			}
			sub.ExpectNothing()
		}
		pub.PublishPacket(wire.Publish{Topic: topic, QoS: 1, Retain: true})
		dial(t).Connect(wire.Connect{Version: v, ClientID: id, Clean: true}).Disconnect()
	})
}
