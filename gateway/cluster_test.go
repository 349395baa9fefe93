package gateway

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// TestLiveAcrossGateways: what is published at one gateway reaches the
// ephemeral and durable sessions of all, once, with the lower QoS of the two
// [MQTT-3.8.4-8], in the order of publishing [MQTT-4.6.0-5].
func TestLiveAcrossGateways(t *testing.T) {
	t.Parallel()
	cl := newCluster(t, 3)
	var subs []*client
	var granted []byte
	for i, g := range cl.nodes {
		for qos := range byte(3) {
			for _, expiry := range []uint32{0, 1000} {
				s := join(t, g, fmt.Sprintf("s%d-%d-%d", i, qos, expiry), durable(expiry))
				s.subscribe(qos, "a/+")
				subs, granted = append(subs, s), append(granted, qos)
			}
		}
	}
	p := join(t, cl.nodes[1], "p")
	for qos := range byte(3) {
		id := uint16(0)
		if qos > 0 {
			id = uint16(qos)
		}
		p.send(publish("a/b", fmt.Sprint("one ", qos), qos, id), publish("x/b", "not for them", qos, id+10*uint16(min(qos, 1))))
	}
	p.expect("PUBACK #1", "PUBACK #11", "PUBREC #2", "PUBREC #12")
	for i, s := range subs {
		var got []string
		for range 3 {
			m := s.next().(*protocol.Publish)
			got = append(got, fmt.Sprintf("%s q%d", m.Payload, m.QoS))
		}
		slices.Sort(got) // between QoS there is no order
		want := []string{"one 0 q0", fmt.Sprintf("one 1 q%d", min(1, granted[i])), fmt.Sprintf("one 2 q%d", min(2, granted[i]))}
		if !slices.Equal(got, want) {
			t.Errorf("subscriber %d of QoS %d got %q, want %q", i, granted[i], got, want)
		}
		s.ping()
	}
	for i := range 300 {
		p.send(publish("a/order", fmt.Sprint(i), 1, uint16(i+100)))
	}
	for i := range 300 {
		p.expect(describe(ack(protocol.PUBACK, uint16(i+100))))
	}
	for k, s := range subs {
		for i := range 300 {
			m := s.next().(*protocol.Publish)
			if string(m.Payload) != fmt.Sprint(i) {
				t.Fatalf("subscriber %d got %s at place %d", k, m.Payload, i)
			}
			if m.QoS > 0 {
				s.send(ack(protocol.PUBACK, m.PacketID))
			}
		}
	}
}

// TestSubscribeThenPublish: once SUBACK is there, nothing that is published
// anywhere is missed (F26).
func TestSubscribeThenPublish(t *testing.T) {
	t.Parallel()
	cl := newCluster(t, 2)
	live, mail := join(t, cl.nodes[1], "live"), join(t, cl.nodes[1], "mail", durable(100))
	p := join(t, cl.nodes[0], "p")
	for i := range 300 {
		topic := fmt.Sprint("t", i)
		live.subscribe(0, topic)
		mail.subscribe(1, topic)
		p.send(publish(topic, "x", 1, 1), publish(topic, "y", 0, 0))
		p.expect("PUBACK #1")
		// Across QoS there is no order: QoS 0 does not wait for the store.
		both := []string{describe(live.next()), describe(live.next())}
		slices.Sort(both)
		if !slices.Equal(both, []string{"PUBLISH " + topic + "=x", "PUBLISH " + topic + "=y"}) {
			t.Fatalf("got %q", both)
		}
		got := []string{describe(mail.next()), describe(mail.next())}
		slices.Sort(got)
		want := []string{fmt.Sprintf("PUBLISH %s=x q1 #%d", topic, i+1), "PUBLISH " + topic + "=y"}
		if !slices.Equal(got, want) {
			t.Fatalf("got %q", got)
		}
		mail.send(ack(protocol.PUBACK, uint16(i+1)))
	}
}

// TestInterests: the bus is asked once for what several clients need, and told
// when nobody needs it any more: after UNSUBSCRIBE, a lower QoS, and the end of
// a connection of any kind.
func TestInterests(t *testing.T) {
	t.Parallel()
	cl := newCluster(t, 2)
	g := cl.nodes[0]
	live := func() string {
		g.interests.mu.Lock()
		defer g.interests.mu.Unlock()
		var s []string
		for f, i := range g.interests.m {
			i.mu.Lock()
			s = append(s, fmt.Sprintf("%s:%d", f, i.live))
			i.mu.Unlock()
		}
		slices.Sort(s)
		return strings.Join(s, " ")
	}
	check := func(want string) {
		t.Helper()
		eventually(t, fmt.Sprintf("interests are %q", want), func() bool { return live() == want })
	}
	const qos0, both = backend.ClassQoS0, backend.ClassQoS0 | backend.ClassAcked
	e1, e2 := join(t, g, "e1"), join(t, g, "e2")
	d := join(t, g, "d", durable(1000))
	e1.subscribe(0, "a", "$share/g/s") // shared ones come by the store
	check(fmt.Sprintf("a:%d", both))
	d.subscribe(1, "a", "b")
	check(fmt.Sprintf("a:%d b:%d", both, qos0))
	d.subscribe(0, "b") // now it needs the others live too
	check(fmt.Sprintf("a:%d b:%d", both, both))
	d.subscribe(2, "b")
	check(fmt.Sprintf("a:%d b:%d", both, qos0))
	e2.subscribe(1, "a", "b")
	e1.goodbye()
	check(fmt.Sprintf("a:%d b:%d", both, both))
	e2.send(&protocol.Unsubscribe{PacketID: 9, Filters: []string{"a", "b", "a"}})
	e2.expect("UNSUBACK #9 0x00 0x00 0x11")
	check(fmt.Sprintf("a:%d b:%d", qos0, qos0))
	d.cut()
	check("")
	rejoin(t, g, "d")
	check(fmt.Sprintf("a:%d b:%d", qos0, qos0))
	other := rejoin(t, cl.nodes[1], "d")
	check("")
	back := rejoin(t, g, "d")
	check(fmt.Sprintf("a:%d b:%d", qos0, qos0))
	other.expect("DISCONNECT 0x8E", "closed")
	_ = back
	// A connection that does not come up leaves nothing behind.
	nc := dial(t, g, func() *protocol.Connect {
		p := connectPacket("d", durable(1000))
		p.MaximumPacketSize = 8 // too little for CONNACK
		return p
	}())
	nc.expect("closed")
	check("")
	if n := g.Stats().Sessions; n != 0 {
		t.Errorf("%d durable sessions are counted, none is connected", n)
	}
}

// TestBusRefusesInterest: a subscription that the bus does not take fails and
// leaves nothing behind, neither in the store nor in the tree.
func TestBusRefusesInterest(t *testing.T) {
	t.Parallel()
	cl := newCluster(t, 2)
	s := join(t, cl.nodes[0], "s", durable(1000))
	cl.buses[0].fault(func(call string, _ any) (bool, error) { return false, unavailable(call) })
	s.send(subscribePacket(1, 1, "a"))
	s.expect("SUBACK #1 0x80")
	cl.buses[0].mend()
	p := join(t, cl.nodes[1], "p")
	join(t, cl.nodes[1], "witness").subscribe(1, "a")
	p.send(publish("a", "x", 1, 1), publish("a", "x", 0, 0))
	p.expect("PUBACK #1")
	s.ping()
	s.cut()
	s = rejoin(t, cl.nodes[0], "s")
	s.ping()
}

// TestSharedAcrossGateways: each message of a shared subscription goes to one
// member of the group in the cluster [MQTT-4.8.2-1], in turn, whether the
// member is durable or not and wherever it is.
func TestSharedAcrossGateways(t *testing.T) {
	t.Parallel()
	cl := newCluster(t, 3)
	var members []*client
	for i, g := range cl.nodes {
		e, d := join(t, g, fmt.Sprint("e", i)), join(t, g, fmt.Sprint("d", i), durable(1000))
		e.subscribe(1, "$share/g/a/#")
		d.subscribe(2, "$share/g/a/#")
		members = append(members, e, d)
	}
	p := join(t, cl.nodes[0], "p")
	const each = 20
	n := each * len(members)
	for i := range n {
		qos := byte(i % 3)
		id := uint16(0)
		if qos > 0 {
			id = uint16(i + 1)
		}
		p.send(publish("a/b", fmt.Sprint(i), qos, id))
		if qos > 0 {
			p.next()
		}
	}
	seen := make([]bool, n)
	for k, m := range members {
		for range each {
			x, ok := m.next().(*protocol.Publish)
			if !ok {
				t.Fatalf("member %d got something else", k)
			}
			i, err := strconv.Atoi(string(x.Payload))
			if err != nil || seen[i] {
				t.Fatalf("member %d got %s again", k, describe(x))
			}
			seen[i] = true
		}
	}
	if i := slices.Index(seen, false); i >= 0 {
		t.Errorf("message %d did not come", i)
	}
	for _, m := range members {
		m.ping()
	}
}

// TestSharedRedistribution: what a member of a group has not acknowledged goes
// to another when its connection ends: QoS 1 at once, QoS 2 that was sent stays
// with a session that goes on [MQTT-4.8.2-4], [MQTT-4.8.2-5].
func TestSharedRedistribution(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		expiry uint32
		end    func(cl *cluster, c *client)
	}{
		{"ephemeral, cut", 0, func(_ *cluster, c *client) { c.cut() }},
		{"durable, cut", 1000, func(_ *cluster, c *client) { c.cut() }},
		{"durable, goodbye", 1000, func(_ *cluster, c *client) { c.goodbye() }},
		{"its gateway dies", 1000, func(cl *cluster, _ *client) { cl.kill(0) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				cl := newCluster(t, 3)
				m := join(t, cl.nodes[0], "m", durable(tt.expiry), receiveMaximum(3))
				m.subscribe(2, "$share/g/a")
				p := join(t, cl.nodes[1], "p")
				for i, qos := range []byte{1, 1, 2, 1} {
					p.send(publish("a", fmt.Sprint(i), qos, uint16(i+1)))
					p.next()
				}
				m.expect("PUBLISH a=0 q1 #1", "PUBLISH a=1 q1 #2", "PUBLISH a=2 q2 #3")
				m.send(ack(protocol.PUBACK, 1))
				m.expect("PUBLISH a=3 q1 #4")
				m.ping()
				other := join(t, cl.nodes[2], "other")
				other.subscribe(2, "$share/g/a")
				other.quiet()
				tt.end(cl, m)
				time.Sleep(21 * time.Second) // a lease and one chore
				synctest.Wait()
				other.expect("PUBLISH a=1 q1 #1", "PUBLISH a=3 q1 #2")
				other.quiet()
				if tt.expiry == 0 {
					return
				}
				m = rejoin(t, cl.nodes[2], "m", receiveMaximum(3))
				m.expect("PUBLISH a=2 q2 #3 dup")
				m.quiet()
			})
		})
	}
}

// TestSharedGroupQueue: while no member is connected and one is durable,
// messages wait for the group, and the first to come back gets them in order.
func TestSharedGroupQueue(t *testing.T) {
	t.Parallel()
	for _, expiry := range []uint32{0, 1000} {
		t.Run(fmt.Sprintf("drained with expiry %d", expiry), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				cl := newCluster(t, 2)
				keeper := join(t, cl.nodes[0], "keeper", durable(1000))
				keeper.subscribe(1, "$share/g/a")
				keeper.cut()
				p := join(t, cl.nodes[1], "p")
				const n = 150 // more than a page and more than a window
				for i := range n {
					p.send(publish("a", fmt.Sprint(i), 1, uint16(i+1)))
					p.next()
				}
				m := join(t, cl.nodes[1], "m", durable(expiry), receiveMaximum(10))
				m.send(subscribePacket(1, 1, "$share/g/a"))
				m.expect("SUBACK #1 0x01")
				for i := range n {
					x := m.next().(*protocol.Publish)
					if string(x.Payload) != fmt.Sprint(i) || x.Dup {
						t.Fatalf("%s at place %d", describe(x), i)
					}
					m.send(ack(protocol.PUBACK, x.PacketID))
				}
				m.quiet()
				rejoin(t, cl.nodes[0], "keeper").quiet()
			})
		})
	}
}

// TestRetainedEverywhere: after the acknowledgement of a retained message, every
// later SUBSCRIBE at every gateway brings it, or does not after its removal
// [MQTT-3.3.1-6].
func TestRetainedEverywhere(t *testing.T) {
	t.Parallel()
	cl := newCluster(t, 3)
	p := join(t, cl.nodes[0], "p")
	for round := range 50 {
		value := fmt.Sprint(round)
		if round%5 == 4 {
			value = ""
		}
		p.send(retained("r", value, 1, 1))
		p.next()
		for i, g := range cl.nodes {
			s := join(t, g, fmt.Sprint("s", i))
			s.subscribe(1, "r")
			if value != "" {
				s.expect("PUBLISH r=" + value + " q1 #1 retained")
			}
			s.ping()
			s.goodbye()
		}
	}
}

// kill makes a gateway die as a process does: from one moment to the next it
// reaches nothing and nobody. Its connections break.
func (cl *cluster) kill(i int) {
	cl.t.Helper()
	cl.stores[i].away()
	cl.buses[i].fault(func(call string, _ any) (bool, error) { return false, unavailable(call) })
	if err := cl.buses[i].Backend.Close(); err != nil {
		cl.t.Fatal(err)
	}
	g := cl.nodes[i]
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		c.nc.Close()
	}
}

// TestGatewayDies: the wills of its clients are published once each, when its
// lease has ended and after their delay; not those of clients that have resumed
// their session meanwhile. The death of another gateway doubles none.
func TestGatewayDies(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cl := newCluster(t, 3)
		watch := join(t, cl.nodes[2], "watch", durable(1000))
		watch.subscribe(1, "will/#")
		const n = 20
		for i := range n {
			for _, delay := range []uint32{0, 10} {
				id := fmt.Sprintf("%d-%d", delay, i)
				join(t, cl.nodes[0], id, durable(1000), will(protocol.Will{Topic: "will/" + id, QoS: 1, Delay: delay}))
			}
		}
		cl.kill(0)
		for i := range n / 2 {
			for _, delay := range []uint32{0, 10} {
				rejoin(t, cl.nodes[1], fmt.Sprintf("%d-%d", delay, i))
			}
		}
		got := map[string]int{}
		collect := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
			for len(watch.packets) > 0 {
				m := watch.next().(*protocol.Publish)
				got[string(m.Topic)]++
				watch.send(ack(protocol.PUBACK, m.PacketID))
				synctest.Wait()
			}
		}
		collect(14 * time.Second)
		if len(got) != n/2 {
			t.Errorf("%d wills before the lease has ended; those of the %d fenced connections without delay are due", len(got), n/2)
		}
		collect(6 * time.Second)
		if len(got) != n {
			t.Errorf("%d wills after the lease, want %d", len(got), n)
		}
		cl.kill(1)
		collect(time.Hour)
		if len(got) != n+n/2 {
			t.Errorf("%d wills in the end, want %d", len(got), n+n/2)
		}
		for topic, times := range got {
			if times != 1 {
				t.Errorf("%s came %d times", topic, times)
			}
		}
	})
}
