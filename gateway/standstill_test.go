package gateway

import (
	"testing"
	"time"
)

// TestStandstill: what a gateway reads after it stood still, from a client that
// another gateway serves by now, is not published: the store is asked first.
func TestStandstill(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cl := newCluster(t, 2)
		s := join(t, cl.nodes[1], "s", durable(1000))
		s.subscribe(1, "a")
		c := join(t, cl.nodes[0], "c", durable(1000))
		cl.buses[1].fault(func(call string, _ any) (bool, error) { return false, unavailable(call) }) // nobody is told
		next := rejoin(t, cl.nodes[1], "c")
		cl.buses[1].mend()

		cl.nodes[0].standstill.beat.Store(-int64(time.Hour))
		c.send(publish("a", "late", 1, 7))
		c.expect("DISCONNECT 0x8E", "closed")
		s.quiet()
		next.send(publish("a", "x", 1, 7))
		next.expect("PUBACK #7")
		s.quietBut("PUBLISH a=x q1 #1")
	})
}
