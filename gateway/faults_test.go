package gateway

import (
	"fmt"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/protocol"
)

// TestWindowSurvivesDeath: a client whose gateway dies with its whole window
// unacknowledged gets the same messages elsewhere, with the same packet
// identifiers, DUP, and in order, before anything new [MQTT-4.4.0-1],
// [MQTT-4.6.0-1].
func TestWindowSurvivesDeath(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const window, all = 16, 40
		cl := newCluster(t, 2)
		s := join(t, cl.nodes[0], "s", durable(1000), receiveMaximum(window))
		s.subscribe(1, "a")
		p := join(t, cl.nodes[1], "p")
		for id := range uint16(all) {
			p.send(publish("a", fmt.Sprint(id+1), 1, id+1))
			p.expect(describe(ack(protocol.PUBACK, id+1)))
		}
		for id := range uint16(window) {
			s.expect(fmt.Sprintf("PUBLISH a=%d q1 #%d", id+1, id+1))
		}
		s.quiet()
		cl.kill(0)
		s = rejoin(t, cl.nodes[1], "s", receiveMaximum(window))
		for id := range uint16(window) {
			s.expect(fmt.Sprintf("PUBLISH a=%d q1 #%d dup", id+1, id+1))
		}
		s.quiet()
		for id := range uint16(all) {
			s.send(ack(protocol.PUBACK, id+1))
			if next := id + 1 + window; next <= all {
				s.expect(fmt.Sprintf("PUBLISH a=%d q1 #%d", next, next))
			}
		}
		s.ping()
	})
}

// TestCutOffFromStore: a gateway that alone has lost the store acknowledges
// nothing; its clients go on elsewhere, and what it still wants to write when the
// store is back changes nothing.
func TestCutOffFromStore(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cl := newCluster(t, 2)
		old := join(t, cl.nodes[0], "s", durable(1000))
		old.subscribe(1, "a")
		q := join(t, cl.nodes[0], "q")
		p := join(t, cl.nodes[1], "p")
		p.send(publish("a", "1", 1, 1))
		p.expect("PUBACK #1")
		old.expect("PUBLISH a=1 q1 #1")

		cl.stores[0].away()
		q.send(publish("a", "never", 1, 1))
		old.send(ack(protocol.PUBACK, 1)) // it is held with the gateway
		s := rejoin(t, cl.nodes[1], "s")
		s.expect("PUBLISH a=1 q1 #1 dup")
		old.endsAt(0, 0, "DISCONNECT 0x8E")
		time.Sleep(holdPause)
		old.endsAt(0, 0, "closed") // though it was held
		q.endsAt(5*time.Second-holdPause, 2*holdPause, "DISCONNECT 0x89", "closed")
		p.send(publish("a", "2", 1, 2))
		p.expect("PUBACK #2")
		s.expect("PUBLISH a=2 q1 #2")
		time.Sleep(time.Minute) // the lease is over
		cl.stores[0].mend()
		time.Sleep(20 * time.Second)
		if err := cl.nodes[0].Ready(); err != nil {
			t.Errorf("with the store back: %v", err)
		}
		s.send(ack(protocol.PUBACK, 1), ack(protocol.PUBACK, 2))
		s.ping()
		s = rejoin(t, cl.nodes[0], "s")
		p.send(publish("a", "3", 1, 3))
		p.expect("PUBACK #3")
		s.quietBut("PUBLISH a=3 q1 #3")
	})
}

// TestManyWindows: clients with the smallest and the largest Receive Maximum
// never have more under way than that, whatever waits [MQTT-3.3.4-9] (F33).
func TestManyWindows(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGateway(t, func(o *Options) { o.Limits.InFlight = 65535 })
		p := join(t, g, "p")
		for _, tt := range []struct {
			id  string
			max uint16
		}{{"one", 1}, {"all", 65535}} {
			join(t, g, tt.id, durable(1000), receiveMaximum(tt.max)).subscribe(1, "a")
		}
		const all = 2000
		for i := range all {
			p.send(publish("a", "x", 1, uint16(i+1)))
			p.expect(describe(ack(protocol.PUBACK, uint16(i+1))))
		}
		one := rejoin(t, g, "one", receiveMaximum(1))
		for i := range all {
			m := one.next().(*protocol.Publish)
			if int(m.PacketID) != i+1 {
				t.Fatalf("identifier %d at place %d", m.PacketID, i)
			}
			if i%100 == 0 {
				one.quiet()
			}
			one.send(ack(protocol.PUBACK, m.PacketID))
		}
		many := rejoin(t, g, "all", receiveMaximum(65535))
		seen := map[uint16]bool{}
		for range all {
			seen[many.next().(*protocol.Publish).PacketID] = true
		}
		if len(seen) != all {
			t.Errorf("%d identifiers for %d messages under way", len(seen), all)
		}
	})
}
