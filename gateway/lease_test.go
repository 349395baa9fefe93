package gateway

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// TestStoreAwayLong: without the store, but with the bus, connections outlive
// the gateway's lease, and QoS 0 flows. Without either, clients with a session or a will are
// sent away before the lease ends (15 s), and only they.
func TestStoreAwayLong(t *testing.T) {
	t.Parallel()
	for _, bus := range []bool{true, false} {
		t.Run(fmt.Sprintf("bus %v", bus), func(t *testing.T) {
			inBubble(t, func(t *testing.T) { testStoreAwayLong(t, bus) })
		})
	}
}

func testStoreAwayLong(t *testing.T, bus bool) {
	var ill *illBus
	cl := newCluster(t, 2, func(i int, o *Options) {
		if i == 0 {
			ill = newIllBus(o.Backend)
			o.Backend = ill
		}
	})
	g := cl.nodes[0]
	session, armed := join(t, g, "session", durable(1000)), join(t, g, "armed", will(protocol.Will{Topic: "will"}))
	plain, other := join(t, g, "plain"), join(t, g, "other")
	session.subscribe(0, "a")
	plain.subscribe(0, "a")
	time.Sleep(12 * time.Second) // somewhere between two renewals
	away := time.Now()
	cl.stores[0].away()
	if !bus {
		ill.set(errors.New("deaf"))
	}
	if !bus {
		for until := away.Add(15 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			if time.Now().After(until) {
				t.Fatal("nobody was sent away before the lease ended")
			}
			if len(session.packets) > 0 && len(armed.packets) > 0 {
				break
			}
		}
		session.endsAt(0, 0, "DISCONNECT 0x89", "closed")
		armed.endsAt(0, 0, "DISCONNECT 0x89", "closed")
		if d := time.Since(away); d < 5*time.Second {
			t.Errorf("sent away after %v already", d)
		}
		other.send(publish("a", "x", 0, 0))
		plain.quietBut("PUBLISH a=x")
		return
	}
	for range 40 { // with the lease long over
		time.Sleep(time.Second)
		other.send(publish("a", "x", 0, 0))
		session.quietBut("PUBLISH a=x")
		plain.quietBut("PUBLISH a=x")
		armed.quiet()
	}
	// What needs the store is not acknowledged meanwhile.
	other.send(publish("a", "unstored", 1, 1))
	other.endsAt(5*time.Second, 2*holdPause, "DISCONNECT 0x89", "closed")
}

// TestRefusedInTime: while the store does not answer, CONNECT and SUBSCRIBE are
// refused soon, however many filters there are.
func TestRefusedInTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cl := newCluster(t, 1)
		g := cl.nodes[0]
		c := join(t, g, "c", durable(1000))
		same := join(t, g, "same", durable(1000))
		cl.stores[0].fault(func(call string) error {
			time.Sleep(g.opt.Timing.Store)
			return unavailable(call)
		})
		start := time.Now()
		c.send(subscribePacket(1, 1, "a", "b", "c", "d"))
		c.expect("SUBACK #1 0x80 0x80 0x80 0x80")
		if d := time.Since(start); d > 2500*time.Millisecond {
			t.Errorf("SUBACK after %v", d)
		}
		for _, tt := range []struct {
			packet *protocol.Connect
			want   string
		}{
			{connectPacket("new"), "CONNACK 0x88"},
			{connectPacket("three", v311), "CONNACK 0x03"},
			{connectPacket("same", durable(1000)), "CONNACK 0x88"},
		} {
			start := time.Now()
			dial(t, g, tt.packet).expect(tt.want, "closed")
			if d := time.Since(start); d > 2500*time.Millisecond {
				t.Errorf("%s after %v", tt.want, d)
			}
		}
		cl.stores[0].mend()
		same.ping()
		c.subscribe(1, "a")
	})
}

// TestStoreFences: a store that finds by itself that the lease has ended, since
// the service behind it has lost what it had answered, is not left waiting for
// the next renewal. All connections are dropped at once, each client is told
// after its session was released with what was sent to it, nobody hears that
// the session was taken over, and the gateway goes on under a new lease.
func TestStoreFences(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cl := newCluster(t, 2)
		g, store := cl.nodes[0], cl.stores[0]
		s, idle := join(t, g, "s", durable(1000)), join(t, g, "idle", durable(1000))
		s.subscribe(1, "a")
		p := join(t, cl.nodes[1], "p")
		p.send(publish("a", "1", 1, 1))
		p.expect("PUBACK #1")
		s.expect("PUBLISH a=1 q1 #1")

		var void atomic.Bool
		void.Store(true)
		released := make(chan int, 8) // what the client had heard that had heard less
		store.fault(func(call string) error {
			switch {
			case call == "Release":
				released <- min(len(s.packets), len(idle.packets))
			case call == "Leave", call == "Join":
				void.Store(false)
			case void.Load():
				return fmt.Errorf("test: %s: %w", call, backend.ErrFenced)
			}
			return nil
		})
		g.fenced()
		// Is not stored any more, if it gets through at all.
		s.nc.Write(protocol.AppendAck(nil, protocol.PUBACK, 1, protocol.Success, s.v))
		s.endsAt(0, time.Second, "DISCONNECT 0x89", "closed")
		idle.endsAt(0, time.Second, "DISCONNECT 0x89", "closed")
		if heard := <-released + <-released; heard > 0 {
			t.Error("a client had heard of the end of its session before that was released")
		}
		for g.leaseGone.Load() {
			time.Sleep(time.Millisecond)
		}
		if st := g.Stats(); st.LeaseLost != 1 || st.Fenced != 0 {
			t.Errorf("%d leases lost, %d sessions taken over; want 1, 0", st.LeaseLost, st.Fenced)
		}
		s = rejoin(t, g, "s")
		s.expect("PUBLISH a=1 q1 #1 dup")
	})
}

// TestOpenFenced: a gateway that can open no session because its lease is not
// what it takes it for finds out by the first client, and begins anew.
func TestOpenFenced(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cl := newCluster(t, 1)
		g, store := cl.nodes[0], cl.stores[0]
		var void atomic.Bool
		void.Store(true)
		store.fault(func(call string) error {
			switch {
			case call == "Leave", call == "Join":
				void.Store(false)
			case void.Load() && (call == "Open" || call == "Renew"):
				return fmt.Errorf("test: %s: %w", call, backend.ErrFenced)
			}
			return nil
		})
		before := g.now()
		dial(t, g, connectPacket("c")).expect("CONNACK 0x88")
		for g.Stats().LeaseLost == 0 || g.leaseGone.Load() {
			time.Sleep(time.Millisecond)
		}
		if took := g.now() - before; took > time.Second {
			t.Errorf("it took %v", took)
		}
		join(t, g, "c")
	})
}
