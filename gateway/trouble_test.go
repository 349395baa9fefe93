package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// TestStoreHold: while the store is away nothing that needs it is acknowledged,
// and QoS 0 flows on. Who needs it is held for Timing.Hold and then closed with
// 0x89, so that it sends again what was not acknowledged.
func TestStoreHold(t *testing.T) {
	t.Parallel()
	const closing = "DISCONNECT 0x89"
	for _, tt := range []struct {
		name   string
		before []protocol.Packet // sent while the store is there
		said   []string
		held   protocol.Packet
		answer string // when the store is back in time
		fails  string // when it is not
	}{
		{"QoS 1", nil, nil, publish("a", "x", 1, 7), "PUBACK #7", closing},
		{"QoS 2", nil, nil, publish("a", "x", 2, 7), "PUBREC #7", closing},
		{"PUBREL", []protocol.Packet{publish("a", "x", 2, 7)}, []string{"PUBREC #7"}, ack(protocol.PUBREL, 7), "PUBCOMP #7", closing},
		{"retained", nil, nil, retained("a", "x", 1, 7), "PUBACK #7", closing},
		{"UNSUBSCRIBE", []protocol.Packet{subscribePacket(1, 1, "b")}, []string{"SUBACK #1 0x01"},
			&protocol.Unsubscribe{PacketID: 2, Filters: []string{"b"}}, "UNSUBACK #2 0x00", "UNSUBACK #2 0x80"},
	} {
		for _, back := range []bool{true, false} {
			answer := tt.answer
			if !back {
				answer = tt.fails
			}
			t.Run(fmt.Sprintf("%s, back %v", tt.name, back), func(t *testing.T) {
				inBubble(t, func(t *testing.T) { testHold(t, tt.before, tt.said, tt.held, answer, back) })
			})
		}
	}
}

func testHold(t *testing.T, before []protocol.Packet, said []string, held protocol.Packet, answer string, back bool) {
	cl := newCluster(t, 1)
	g, store := cl.nodes[0], cl.stores[0]
	reader, other := join(t, g, "reader"), join(t, g, "other")
	reader.subscribe(0, "flows")
	join(t, g, "sink").subscribe(0, "a")
	c := join(t, g, "c", durable(1000))
	for i, p := range before {
		c.send(p)
		c.expect(said[i])
	}
	store.away()
	c.send(held)
	for range 4 {
		time.Sleep(time.Second)
		other.send(publish("flows", "on", 0, 0))
		reader.expect("PUBLISH flows=on")
		c.quiet()
	}
	if back {
		store.mend()
		time.Sleep(2 * holdPause)
		synctest.Wait()
		c.expect(answer)
		c.ping()
		return
	}
	c.endsAt(time.Second, 2*holdPause, answer)
	other.ping()
	if g.Stats().StoreErrors == 0 {
		t.Error("no error of the store is counted")
	}
}

// TestStoreAway: CONNECT is refused and SUBSCRIBE fails at once, with the
// reason codes that say so; both work again when the store is back.
func TestStoreAway(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cl := newCluster(t, 1)
		g := cl.nodes[0]
		c := join(t, g, "c", durable(1000))
		cl.stores[0].away()
		dial(t, g, connectPacket("d")).expect("CONNACK 0x88", "closed")
		three := dial(t, g, connectPacket("e", v311))
		three.expect("CONNACK 0x03", "closed")
		c.send(subscribePacket(1, 1, "a"))
		c.expect("SUBACK #1 0x80")
		time.Sleep(6 * time.Second) // a renewal has failed
		if g.Ready() == nil {
			t.Error("ready without a store")
		}
		cl.stores[0].mend()
		time.Sleep(6 * time.Second)
		if err := g.Ready(); err != nil {
			t.Errorf("with the store back: %v", err)
		}
		c.subscribe(1, "a")
		join(t, g, "d")
	})
}

// TestAckAfterStore: PUBACK and PUBREC do not leave before the store has the
// message, SUBACK not before it has the subscription; what does not wait for
// the store does not wait for them.
func TestAckAfterStore(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cl := newCluster(t, 1)
		g := cl.nodes[0]
		c := join(t, g, "c", durable(1000))
		for _, tt := range []struct {
			call   string
			packet protocol.Packet
			want   string
		}{
			{"Subscribe", subscribePacket(1, 1, "elsewhere"), "SUBACK #1 0x01"},
			{"Append", publish("a", "x", 1, 2), "PUBACK #2 0x10"},
			{"Append", publish("a", "x", 2, 3), "PUBREC #3 0x10"},
			{"Forget", ack(protocol.PUBREL, 3), "PUBCOMP #3"},
		} {
			waiting, letGo := make(chan struct{}), make(chan struct{})
			cl.stores[0].fault(func(call string) error {
				if call == tt.call {
					close(waiting)
					<-letGo
				}
				return nil
			})
			c.send(tt.packet)
			<-waiting
			c.quiet()
			cl.stores[0].mend()
			close(letGo)
			c.expect(tt.want)
		}
	})
}

// TestBusAway: QoS 0 is lost and counted; QoS 1 and 2 are held as for the
// store. What was appended before is delivered all the same.
func TestBusAway(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cl := newCluster(t, 2)
		g := cl.nodes[0]
		s := join(t, g, "s", durable(1000))
		s.subscribe(1, "a")
		p := join(t, g, "p")
		cl.buses[0].fault(func(call string, _ any) (bool, error) { return false, unavailable(call) })
		p.send(publish("b", "x", 0, 0))
		p.ping()
		if n := g.Stats().Dropped[DropBus]; n != 1 {
			t.Errorf("%d messages are counted as lost, want 1", n)
		}
		p.send(publish("a", "x", 1, 1))
		p.endsAt(5*time.Second, 2*holdPause, "DISCONNECT 0x89", "closed")
		time.Sleep(6 * time.Second) // longer than Timing.Poll
		s.expect("PUBLISH a=x q1 #1")
	})
}

// TestLeaseLost: a gateway whose lease has ended drops all its connections,
// since their sessions may be elsewhere, and starts anew.
func TestLeaseLost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cl := newCluster(t, 2)
		g := cl.nodes[0]
		five, three := join(t, g, "five", durable(1000)), join(t, g, "three", v311)
		five.subscribe(1, "a")
		other := join(t, cl.nodes[1], "other")
		watch := join(t, cl.nodes[1], "watch")
		watch.subscribe(0, "will")
		join(t, g, "w", will(protocol.Will{Topic: "will", Payload: []byte("x")}))

		cl.stores[0].away() // of this gateway alone
		time.Sleep(16 * time.Second)
		synctest.Wait()
		watch.expect("PUBLISH will=x")
		cl.stores[0].mend()
		// Not 0x8E: nobody has taken over their sessions.
		five.endsAt(time.Millisecond, 5*time.Second, "DISCONNECT 0x89", "closed")
		three.expect("closed")
		time.Sleep(5 * time.Second) // to the next renewal
		if n := g.Stats().LeaseLost; n != 1 {
			t.Errorf("%d lost leases are counted", n)
		}
		if err := g.Ready(); err != nil {
			t.Errorf("after a new start: %v", err)
		}
		other.send(publish("a", "x", 1, 1))
		other.expect("PUBACK #1")
		five = rejoin(t, g, "five")
		five.expect("PUBLISH a=x q1 #1")
		time.Sleep(time.Minute)
		five.ping()
		watch.quiet() // the will came once
	})
}

// TestDoorbellOftenLost: lost notices leave nothing behind that would slow down
// what follows: mail whose notice is not lost arrives at once, always.
func TestDoorbellOftenLost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cl := newCluster(t, 2)
		s := join(t, cl.nodes[0], "s", durable(1000))
		s.subscribe(1, "a")
		p := join(t, cl.nodes[1], "p")
		id := uint16(0)
		send := func(lost bool) {
			t.Helper()
			id++
			cl.buses[1].fault(func(call string, _ any) (bool, error) { return lost && call == "Notify", nil })
			p.send(publish("a", "x", 1, id))
			p.expect(describe(ack(protocol.PUBACK, id)))
		}
		receive := func(count int) {
			t.Helper()
			var want []string
			for i := range count {
				n := id - uint16(count-1-i)
				want = append(want, fmt.Sprintf("PUBLISH a=x q1 #%d", n))
				defer s.send(ack(protocol.PUBACK, n))
			}
			s.quietBut(want...)
		}
		for range 100 {
			send(true)
			send(false)
			time.Sleep(5*time.Second + time.Millisecond)
			receive(2)
			send(false)
			receive(1)
		}
	})
}

// TestLiveDoesNotWaitForStore: a QoS 0 message does not wait for the store at
// any gateway, even if one of QoS 1 came in the same packet of the network.
func TestLiveDoesNotWaitForStore(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cl := newCluster(t, 2)
		here, there := join(t, cl.nodes[0], "here"), join(t, cl.nodes[1], "there")
		here.subscribe(0, "a")
		there.subscribe(0, "a")
		p := join(t, cl.nodes[0], "p")
		cl.stores[0].away()
		p.send(publish("a", "live", 0, 0), publish("b", "waits", 1, 1))
		here.quietBut("PUBLISH a=live")
		there.quietBut("PUBLISH a=live")
		p.quiet()
	})
}

// TestGap: when the bus may have lost something, inboxes are looked into at
// once; sessions without one are counted, or ended if the policy says so.
func TestGap(t *testing.T) {
	t.Parallel()
	for _, policy := range []GapPolicy{GapCount, GapDisconnect} {
		t.Run(string(policy), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				cl := newCluster(t, 2, func(_ int, o *Options) { o.GapPolicy = policy })
				g := cl.nodes[0]
				s, e := join(t, g, "s", durable(1000)), join(t, g, "e")
				s.subscribe(1, "a")
				p := join(t, cl.nodes[1], "p")
				cl.buses[1].fault(func(call string, _ any) (bool, error) { return call == "Notify", nil })
				p.send(publish("a", "1", 1, 1), publish("a", "2", 1, 2))
				p.expect("PUBACK #1", "PUBACK #2")
				s.quiet()
				(&handler{g: g}).HandleGap(errors.New("too slow"))
				synctest.Wait()
				s.expect("PUBLISH a=1 q1 #1", "PUBLISH a=2 q1 #2")
				if policy == GapCount {
					e.ping()
				} else {
					e.expect("DISCONNECT 0x80", "closed")
				}
				if n := g.Stats().Gaps; n != 1 {
					t.Errorf("%d gaps are counted", n)
				}
			})
		})
	}
}

// TestStoreAwayForInbox: an inbox that can not be read is read when the store
// is back, without anything else happening.
func TestStoreAwayForInbox(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cl := newCluster(t, 2)
		s := join(t, cl.nodes[0], "s", durable(1000))
		s.subscribe(1, "a")
		s.cut()
		p := join(t, cl.nodes[1], "p")
		p.send(publish("a", "x", 1, 1))
		p.expect("PUBACK #1")
		cl.stores[0].fault(func(call string) error {
			if call == "Fetch" {
				return unavailable(call)
			}
			return nil
		})
		s = rejoin(t, cl.nodes[0], "s")
		time.Sleep(10 * time.Second)
		s.quiet()
		cl.stores[0].mend()
		time.Sleep(retryPump + time.Millisecond)
		synctest.Wait()
		s.expect("PUBLISH a=x q1 #1")
	})
}

// TestWriteDeadline: a client that leaves its socket full is cut off after
// Timing.Write; until then and after, the others get everything.
func TestWriteDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGateway(t)
		deaf, good := join(t, g, "deaf", will(protocol.Will{Topic: "will"})), join(t, g, "good")
		deaf.subscribe(0, "a")
		good.subscribe(0, "#")
		deaf.stop()
		p := join(t, g, "p")
		for i := range 10 { // the first is taken by a Read that waits already
			p.send(publish("a", fmt.Sprint(i), 0, 0))
			good.expect(fmt.Sprintf("PUBLISH a=%d", i))
		}
		good.endsAt(10*time.Second, time.Second, "PUBLISH will=")
		p.send(publish("a", "x", 0, 0))
		good.expect("PUBLISH a=x")
		if n := g.Stats().Connections; n != 2 {
			t.Errorf("%d connections, want 2", n)
		}
	})
}

// TestDrain: a gateway that is told to stop is not ready at once, takes no more
// connections, and sends its clients away one by one over the drain time, with
// 0x8B or, where it can name another server, 0x9C [MQTT-3.14.4-1]. Sessions are
// left in the store.
func TestDrain(t *testing.T) {
	t.Parallel()
	for _, reference := range []string{"", "mqtt.example.org"} {
		t.Run("reference "+reference, func(t *testing.T) {
			inBubble(t, func(t *testing.T) { testDrain(t, reference) })
		})
	}
}

func testDrain(t *testing.T, reference string) {
	cl := newCluster(t, 2, func(_ int, o *Options) {
		o.Timing.Drain, o.Timing.DrainDelay = 10*time.Second, 3*time.Second
		o.ServerReference = reference
	})
	g := cl.nodes[0]
	watch := join(t, cl.nodes[1], "watch")
	watch.subscribe(0, "will")
	const n = 20
	start := time.Now()
	var mu sync.Mutex
	var at []time.Duration
	var all sync.WaitGroup
	for i := range n {
		c := join(t, g, fmt.Sprint("c", i), durable(100), will(protocol.Will{Topic: "will"}))
		all.Go(func() {
			p, _ := (<-c.packets).(*protocol.Disconnect)
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Since(start))
			code := protocol.ServerShuttingDown
			if reference != "" {
				code = protocol.UseAnotherServer
			}
			if p == nil || p.Code != code || p.ServerReference != reference {
				t.Errorf("client %d: %+v", i, p)
			}
		})
	}
	stopped := make(chan error, 1)
	go func() { stopped <- g.Shutdown(context.Background()) }() // ends with the drain
	synctest.Wait()
	if err := g.Ready(); err == nil || !strings.Contains(err.Error(), "draining") {
		t.Errorf("ready while draining: %v", err)
	}
	serve := func() error {
		ours, theirs := net.Pipe()
		ours.Close()
		return g.ServeConn(context.Background(), theirs, "pipe")
	}
	if err := serve(); err != nil {
		t.Errorf("ServeConn before balancers have noticed: %v", err)
	}
	time.Sleep(3*time.Second + time.Millisecond)
	if err := serve(); !errors.Is(err, ErrStopped) {
		t.Errorf("ServeConn while draining: %v", err)
	}
	all.Wait()
	if err := <-stopped; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if at[0] < 3*time.Second || !slices.IsSorted(at) {
		t.Errorf("the first was sent away after %v, the delay is 3 s", at[0])
	}
	for i := 1; i < n; i++ {
		if gap := at[i] - at[i-1]; gap < 400*time.Millisecond || gap > 600*time.Millisecond {
			t.Errorf("%v between clients %d and %d of %d, want half a second", gap, i-1, i, n)
		}
	}
	if took := time.Since(start); took > 13*time.Second+100*time.Millisecond {
		t.Errorf("Shutdown took %v", took)
	}
	if err := g.Ready(); !errors.Is(err, ErrStopped) {
		t.Errorf("ready after Shutdown: %v", err)
	}
	rejoin(t, cl.nodes[1], "c0")
	// A connection that ends without DISCONNECT of the client's has its will
	// published, and so has one that the server ends [MQTT-3.1.2-8].
	time.Sleep(2 * time.Second)
	synctest.Wait()
	for range n {
		watch.expect("PUBLISH will=")
	}
	watch.quiet()
}

// TestDisconnectNotice: an operator's notice ends the connection with the code
// that it names.
func TestDisconnectNotice(t *testing.T) {
	t.Parallel()
	cl := newCluster(t, 2)
	c := join(t, cl.nodes[0], "c")
	n := backend.Notice{Kind: backend.NoticeKick, Client: "c", Code: byte(protocol.AdministrativeAction)}
	if err := cl.nodes[1].bus.Notify(context.Background(), "g0", n); err != nil {
		t.Fatal(err)
	}
	c.expect("DISCONNECT 0x98", "closed")
	d := join(t, cl.nodes[0], "d")
	if !cl.nodes[0].Disconnect("d", protocol.QuotaExceeded, "enough") || cl.nodes[0].Disconnect("e", 0x80, "") {
		t.Error("Disconnect does not know who is there")
	}
	if p := d.next().(*protocol.Disconnect); p.Code != protocol.QuotaExceeded || p.Reason != "enough" {
		t.Errorf("%+v", p)
	}
}
