package gateway

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// TestTakeover: a second CONNECT takes the session over at once, wherever the
// first is: the old connection gets 0x8E [MQTT-3.1.4-3], the session goes on
// with the same packet identifiers, in the same order and with DUP where
// something was sent before [MQTT-4.4.0-1], [MQTT-4.6.0-1].
func TestTakeover(t *testing.T) {
	t.Parallel()
	for _, to := range []int{0, 1} {
		t.Run(fmt.Sprintf("to g%d", to), func(t *testing.T) {
			inBubble(t, func(t *testing.T) { testTakeover(t, to) })
		})
	}
}

func testTakeover(t *testing.T, to int) {
	cl := newCluster(t, 3)
	old := join(t, cl.nodes[0], "s", durable(1000), receiveMaximum(4))
	old.subscribe(2, "a")
	p := join(t, cl.nodes[2], "p")
	send := func(id uint16, qos byte) {
		t.Helper()
		p.send(publish("a", fmt.Sprint("m", id), qos, id))
		if kind := protocol.PUBACK; qos == 1 {
			p.expect(describe(ack(kind, id)))
		} else {
			p.expect(describe(ack(protocol.PUBREC, id)))
		}
	}
	send(1, 1) // acknowledged
	send(2, 1) // sent only
	send(3, 2) // sent only
	send(4, 2) // released, PUBCOMP is due
	send(5, 2) // complete before older ones
	old.expect("PUBLISH a=m1 q1 #1", "PUBLISH a=m2 q1 #2", "PUBLISH a=m3 q2 #3", "PUBLISH a=m4 q2 #4")
	old.send(ack(protocol.PUBACK, 1))
	old.expect("PUBLISH a=m5 q2 #5")
	old.send(ack(protocol.PUBREC, 4), ack(protocol.PUBREC, 5))
	old.expect("PUBREL #4", "PUBREL #5")
	old.send(ack(protocol.PUBCOMP, 5))
	send(6, 1)
	send(7, 1) // does not fit the window any more
	old.expect("PUBLISH a=m6 q1 #6")
	old.ping()

	s := rejoin(t, cl.nodes[to], "s")
	old.expect("DISCONNECT 0x8E", "closed")
	// What a gateway that is fenced has sent is known by its window: not m7.
	s.expect("PUBLISH a=m2 q1 #2 dup", "PUBLISH a=m3 q2 #3 dup", "PUBREL #4", "PUBLISH a=m6 q1 #6 dup", "PUBLISH a=m7 q1 #7")
	s.send(ack(protocol.PUBREC, 3), ack(protocol.PUBCOMP, 4))
	s.expect("PUBREL #3")
	s.send(ack(protocol.PUBCOMP, 3), ack(protocol.PUBACK, 2), ack(protocol.PUBACK, 6), ack(protocol.PUBACK, 7))
	send(8, 2)
	s.expect("PUBLISH a=m8 q2 #8")
	s.send(ack(protocol.PUBREC, 8))
	s.expect("PUBREL #8")
	s.send(ack(protocol.PUBCOMP, 8))
	s.ping()

	again := rejoin(t, cl.nodes[2-to], "s")
	s.expect("DISCONNECT 0x8E", "closed")
	again.quiet() // everything was done
	var n uint64
	for _, g := range cl.nodes {
		n += g.Stats().Takeovers
	}
	if n != 2 {
		t.Errorf("%d takeovers are counted, want 2", n)
	}
}

// TestTakeoverOfPublisher: a QoS 2 publish that was begun at one gateway and is
// sent again and finished at others arrives once [MQTT-4.3.3-10]; the
// identifier is free for a new message after that.
func TestTakeoverOfPublisher(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cl := newCluster(t, 3)
		s := join(t, cl.nodes[2], "s", durable(1000))
		s.subscribe(2, "a")
		e := join(t, cl.nodes[2], "e")
		e.subscribe(1, "a")
		p := join(t, cl.nodes[0], "p", durable(1000))
		p.send(publish("a", "1", 2, 9))
		p.expect("PUBREC #9")
		repeat := publish("a", "1", 2, 9)
		repeat.Dup = true
		for i := range 3 {
			p = rejoin(t, cl.nodes[(i+1)%3], "p")
			p.send(repeat)
			p.expect("PUBREC #9")
		}
		p.send(ack(protocol.PUBREL, 9))
		p.expect("PUBCOMP #9")
		p = rejoin(t, cl.nodes[1], "p")
		p.send(ack(protocol.PUBREL, 9)) // as if PUBCOMP had been lost
		p.expect("PUBCOMP #9")
		p.send(publish("a", "2", 2, 9))
		p.expect("PUBREC #9")
		synctest.Wait()
		s.expect("PUBLISH a=1 q2 #1", "PUBLISH a=2 q2 #2")
		e.expect("PUBLISH a=1 q1 #1", "PUBLISH a=2 q1 #2")
		s.quiet()
		e.quiet()
	})
}

// TestFencedOwner: an owner that was paused while its session went elsewhere,
// and heard nothing of that, can not change the session when it wakes up:
// nothing is acknowledged, its client gets 0x8E.
func TestFencedOwner(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, call string
		packet     protocol.Packet
	}{
		{"SUBSCRIBE", "Subscribe", subscribePacket(2, 1, "b")},
		{"UNSUBSCRIBE", "Unsubscribe", &protocol.Unsubscribe{PacketID: 3, Filters: []string{"a"}}},
		{"PUBREL", "Forget", ack(protocol.PUBREL, 1)},
		{"PUBACK", "Advance", ack(protocol.PUBACK, 1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) { testFenced(t, tt.call, tt.packet) })
		})
	}
}

func testFenced(t *testing.T, pausedCall string, packet protocol.Packet) {
	cl := newCluster(t, 2)
	old := join(t, cl.nodes[0], "s", durable(1000))
	old.subscribe(1, "a")
	old.send(publish("elsewhere", "", 2, 1))
	old.expect("PUBREC #1")
	p := join(t, cl.nodes[1], "p")
	p.send(publish("a", "x", 1, 1))
	p.expect("PUBACK #1")
	old.expect("PUBLISH a=x q1 #1")

	paused, wake := make(chan struct{}), make(chan struct{})
	var once sync.Once
	cl.stores[0].fault(func(call string) error {
		if call == pausedCall {
			once.Do(func() { close(paused) })
			<-wake
		}
		return nil
	})
	cl.buses[1].fault(func(call string, _ any) (bool, error) { return call == "Notify", nil })
	old.send(packet)
	<-paused
	s := rejoin(t, cl.nodes[1], "s")
	s.expect("PUBLISH a=x q1 #1 dup")
	cl.buses[1].mend()
	close(wake)
	synctest.Wait()
	old.expect("DISCONNECT 0x8E", "closed")
	s.send(ack(protocol.PUBACK, 1))
	s.ping()
	// The session is as it was: one subscription, one publish not released.
	s.send(publish("elsewhere", "", 2, 1), ack(protocol.PUBREL, 1))
	s.expect("PUBREC #1", "PUBCOMP #1")
	p.send(publish("b", "y", 1, 2), publish("a", "y", 1, 3))
	p.expect("PUBACK #2", "PUBACK #3")
	s.expect("PUBLISH a=y q1 #2")
	if n := cl.nodes[0].Stats().Fenced; n != 1 {
		t.Errorf("%d fenced connections are counted", n)
	}
}

// TestLateOwner: a gateway that has claimed a session, and loses it before its
// client has got CONNACK, does not keep the connection: there is one connection
// per client identifier, whichever of the two was faster [MQTT-3.1.4-3]. Nothing
// of it is left behind.
func TestLateOwner(t *testing.T) {
	t.Parallel()
	for _, expiry := range []uint32{0, 1000} {
		t.Run(fmt.Sprintf("expiry %d", expiry), func(t *testing.T) {
			inBubble(t, func(t *testing.T) { testLateOwner(t, expiry) })
		})
	}
}

func testLateOwner(t *testing.T, expiry uint32) {
	d := &diary{kinds: EventConnected | EventDisconnected}
	cl := newCluster(t, 2, func(i int, o *Options) {
		if i == 0 {
			o.Observer = d
		}
	})
	first := join(t, cl.nodes[1], "c", durable(expiry))
	first.subscribe(1, "a", "$share/g/b")
	first.cut()
	opened, goOn := make(chan struct{}), make(chan struct{})
	cl.stores[0].after(func(call string) error {
		if call == "Open" {
			close(opened)
			<-goOn
		}
		return nil
	})
	late := dial(t, cl.nodes[0], connectPacket("c", durable(expiry)))
	<-opened
	winner := dial(t, cl.nodes[1], connectPacket("c", durable(expiry)))
	synctest.Wait() // the notice has come
	cl.stores[0].mend()
	close(goOn)
	time.Sleep(time.Minute)
	synctest.Wait()
	g := cl.nodes[0]
	s := g.Stats()
	if s.Connections != 0 || s.Sessions != 0 || s.SharedSubscriptions != 0 || s.Subscriptions != 0 || len(g.interests.m) != 0 {
		t.Errorf("left behind: %d connections, %d sessions, %d and %d subscriptions, %d interests",
			s.Connections, s.Sessions, s.Subscriptions, s.SharedSubscriptions, len(g.interests.m))
	}
	events := d.take()
	if n := len(events); n%2 != 0 {
		t.Errorf("events without their counterpart: %q", events)
	}
	late.cut()
	winner.next()
	winner.ping()
}

// TestLeaseLostWhileConnecting: neither does a gateway keep a connection whose
// session it claimed before it lost its lease.
func TestLeaseLostWhileConnecting(t *testing.T) {
	t.Parallel()
	for _, expiry := range []uint32{0, 1000} {
		t.Run(fmt.Sprintf("expiry %d", expiry), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				cl := newCluster(t, 2, func(_ int, o *Options) { o.Timing.Connect = time.Minute })
				opened, goOn := make(chan struct{}), make(chan struct{})
				cl.stores[0].after(func(call string) error {
					if call == "Open" {
						close(opened)
						<-goOn
					}
					return nil
				})
				c := dial(t, cl.nodes[0], connectPacket("c", durable(expiry)))
				<-opened
				cl.stores[0].fault(func(call string) error {
					if call == "Renew" {
						return unavailable(call)
					}
					return nil
				})
				time.Sleep(16 * time.Second)
				cl.stores[0].mend()
				time.Sleep(16 * time.Second)
				if n := cl.nodes[0].Stats().LeaseLost; n != 1 {
					t.Fatalf("%d leases are lost", n)
				}
				close(goOn)
				time.Sleep(16 * time.Second) // a lease
				synctest.Wait()
				if n := cl.nodes[0].Stats().Connections; n != 0 {
					t.Error("connected with a session that it does not own")
				}
				c.cut()
			})
		})
	}
}

// TestSameClientTwice: one client identifier at two gateways in the same
// instant, many times. Exactly one connection survives, and it is the owner:
// what is published afterwards arrives there, once.
func TestSameClientTwice(t *testing.T) {
	t.Parallel()
	const rounds = 200
	cl := newCluster(t, 2)
	p := join(t, cl.nodes[0], "p")
	seen := 0
	for round := range rounds {
		id := fmt.Sprint("c", round%7)
		var both [2]*client
		var start, connected sync.WaitGroup
		start.Add(1)
		for i := range both {
			connected.Go(func() {
				nc := pipe(t, cl.nodes[i])
				both[i] = newClient(t, nc, protocol.V5)
				start.Wait()
				both[i].send(connectPacket(id, durable(1000)), subscribePacket(1, 1, "to/"+id))
			})
		}
		start.Done()
		connected.Wait()
		winner := survivor(t, cl, backend.ClientID(id), both)
		if winner == nil {
			t.Fatalf("round %d: nobody or both survived", round)
		}
		winner.send(subscribePacket(2, 1, "to/"+id))
		for describe(winner.next()) != "SUBACK #2 0x01" {
		}
		p.send(publish("to/"+id, fmt.Sprint(round), 1, 1))
		p.expect("PUBACK #1")
		m := winner.next().(*protocol.Publish)
		if string(m.Payload) != fmt.Sprint(round) {
			t.Fatalf("round %d: got %s", round, describe(m))
		}
		winner.send(ack(protocol.PUBACK, m.PacketID))
		winner.ping()
		winner.cut()
		seen++
	}
	if seen != rounds {
		t.Errorf("%d rounds of %d", seen, rounds)
	}
}

// survivor waits until one connection of the client is left in the cluster and
// returns it.
func survivor(t *testing.T, cl *cluster, id backend.ClientID, both [2]*client) *client {
	t.Helper()
	var ended [2]atomic.Bool
	live := func() (n int) {
		for i, g := range cl.nodes {
			if c := g.clients.get(id); c == nil {
				ended[i].Store(true)
			} else {
				ended[i].Store(false)
				n++
			}
		}
		return n
	}
	for until := time.Now().Add(patience); ; {
		connections := cl.nodes[0].Stats().Connections + cl.nodes[1].Stats().Connections
		if live() == 1 && connections == 2 { // the publisher and the survivor
			break
		}
		if time.Now().After(until) {
			return nil
		}
		time.Sleep(100 * time.Microsecond)
	}
	if ended[0].Load() {
		return both[1]
	}
	return both[0]
}
