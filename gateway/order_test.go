package gateway

import (
	"fmt"
	"slices"
	"testing"

	"github.com/sluice-mqtt/sluice/protocol"
)

// TestReleaseOrder: PUBRELs leave in the order of the PUBRECs that they answer,
// also where one of them has to be stored first and another not
// [MQTT-4.6.0-4].
func TestReleaseOrder(t *testing.T) {
	t.Parallel()
	for _, expiry := range []uint32{0, 1000} {
		t.Run(fmt.Sprintf("expiry %d", expiry), func(t *testing.T) {
			t.Parallel()
			g := newGateway(t)
			s := join(t, g, "s", durable(expiry))
			s.subscribe(2, "a")
			p := join(t, g, "p")
			for i := range 3 {
				p.send(publish("a", fmt.Sprint(i), 2, uint16(i+1)))
				p.next()
				s.expect(fmt.Sprintf("PUBLISH a=%d q2 #%d", i, i+1))
			}
			s.send(ack(protocol.PUBREC, 1))
			s.expect("PUBREL #1")
			s.send(ack(protocol.PUBREC, 2), ack(protocol.PUBREC, 1), ack(protocol.PUBREC, 3))
			s.expect("PUBREL #2", "PUBREL #1", "PUBREL #3")
		})
	}
}

// TestAckOrder: PUBACKs and PUBRECs leave in the order of the publishes, refused
// ones and repetitions among them [MQTT-4.6.0-2], [MQTT-4.6.0-3].
func TestAckOrder(t *testing.T) {
	t.Parallel()
	r := &rules{}
	r.deny(ErrNotAuthorized, "p publish no")
	g := newGateway(t, func(o *Options) { o.Authorizer = r })
	join(t, g, "s", durable(1000)).subscribe(2, "#")
	p := join(t, g, "p", durable(1000))
	var out []protocol.Packet
	var want []string
	for i := range uint16(600) { // more than one batch
		qos := byte(1 + i%2)
		id, topic, code := i+1, "yes", protocol.Success
		switch i % 7 {
		case 3:
			topic, code = "no", protocol.NotAuthorized
		case 5:
			if qos == 2 && i > 14 {
				id = 2 // again, and it is not released
			}
		}
		kind := map[byte]protocol.Type{1: protocol.PUBACK, 2: protocol.PUBREC}[qos]
		out = append(out, publish(topic, "x", qos, id))
		want = append(want, describe(&protocol.Ack{Kind: kind, PacketID: id, Code: code}))
	}
	p.send(out...)
	p.expect(want...)
}

// TestReceiveMaximumAfterResume: a client that resumes its session may have as
// many new publishes under way as the gateway's receive maximum says, whatever
// it has still to release (MQTT 5 §4.9), and not one more [MQTT-3.3.4-9].
func TestReceiveMaximumAfterResume(t *testing.T) {
	t.Parallel()
	const most = 5
	g := newGateway(t, func(o *Options) { o.Limits.ReceiveMaximum = most })
	p := join(t, g, "p", durable(1000))
	for id := range uint16(most) {
		p.send(publish("a", "x", 2, id+1))
		p.next()
	}
	p.cut()
	p = rejoin(t, g, "p")
	for id := range uint16(most) { // sends PUBREL for the old ones later
		p.send(publish("a", "x", 2, id+100))
		p.expect(fmt.Sprintf("PUBREC #%d 0x10", id+100))
	}
	for id := range uint16(most) {
		p.send(ack(protocol.PUBREL, id+1), ack(protocol.PUBREL, id+100))
		p.expect(fmt.Sprintf("PUBCOMP #%d", id+1), fmt.Sprintf("PUBCOMP #%d", id+100))
	}
	for id := range uint16(most) {
		p.send(publish("a", "x", 2, id+1))
		p.next()
	}
	p.send(publish("a", "x", 2, 77))
	p.expect("DISCONNECT 0x93", "closed")
}

// TestPublisherOrder: the messages of one publisher arrive in their order, for
// each QoS, through windows that are full, at subscribers of all kinds
// [MQTT-4.6.0-5], while others publish the same topic.
func TestPublisherOrder(t *testing.T) {
	t.Parallel()
	cl := newCluster(t, 2)
	var subs []*client
	for i, g := range cl.nodes {
		for _, expiry := range []uint32{0, 1000} {
			s := join(t, g, fmt.Sprint("s", i, expiry), durable(expiry), receiveMaximum(3))
			s.subscribe(2, "a")
			subs = append(subs, s)
		}
	}
	const publishers, each = 3, 200
	for k := range publishers {
		p := join(t, cl.nodes[k%2], fmt.Sprint("p", k))
		for i := range each {
			p.send(publish("a", fmt.Sprint(k, " ", i), 1, uint16(i+1)))
		}
	}
	for k, s := range subs {
		next := make([]int, publishers)
		for range publishers * each {
			m, ok := s.next().(*protocol.Publish)
			if !ok {
				t.Fatalf("subscriber %d got something else", k)
			}
			var from, i int
			fmt.Sscan(string(m.Payload), &from, &i)
			if i != next[from] {
				t.Fatalf("subscriber %d got message %d of publisher %d, want %d", k, i, from, next[from])
			}
			next[from]++
			s.send(ack(protocol.PUBACK, m.PacketID))
		}
		if !slices.Equal(next, []int{each, each, each}) {
			t.Errorf("subscriber %d got %v", k, next)
		}
	}
}
