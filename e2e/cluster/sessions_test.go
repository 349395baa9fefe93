package cluster_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// F26: SUBACK on one gateway, then PUBLISH on another, no pause, fresh filters,
// QoS 0 and 1, durable sessions and others: everything arrives, and after
// UNSUBACK nothing does.
func TestF26SubackThenPublish(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{})
	rounds := pick(250, 1000)
	for qos := range byte(2) {
		for _, clean := range []bool{true, false} {
			t.Run(fmt.Sprintf("qos%d clean %v", qos, clean), func(t *testing.T) {
				t.Parallel()
				id := wire.Unique("c")
				sub := dial(t, c.Gateways[0], wire.Connect{ClientID: id, Clean: clean})
				pub := dial(t, c.Gateways[1], wire.Connect{ClientID: wire.Unique("p"), Clean: true})
				for n := range rounds {
					topic := fmt.Sprintf("%s/%d", id, n)
					sub.Subscribe(topic, qos)
					pub.Publish(topic, qos, topic)
					if got := sub.Receive(); got.Payload != topic || got.QoS != qos {
						t.Fatalf("round %d: got %+v", n, got)
					}
					sub.Unsubscribe(topic)
					pub.Publish(topic, qos, "late") // a next round would see it
				}
				sub.ExpectNothing()
			})
		}
	}
}

// calm is how often one identifier is taken over: those that fight are slowed
// down.
const calm = 4

// peer is a connection whose packets come on a channel, for tests in which it
// is not known which of several is served.
type peer struct {
	conn    net.Conn
	packets chan wire.Packet // closed at the end of the connection
}

func dialPeer(t *testing.T, g *harness.Gateway, p wire.Connect) *peer {
	t.Helper()
	conn, err := net.DialTimeout("tcp", g.TCP, wire.Timeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &peer{conn, make(chan wire.Packet, 100)}
	c.send(t, p.Version, p)
	go func() { // ends with the connection
		defer close(c.packets)
		for in := bufio.NewReader(conn); ; {
			packet, err := wire.Read(in, p.Version)
			if err != nil {
				return
			}
			c.packets <- packet
		}
	}()
	return c
}

func (c *peer) send(t *testing.T, v wire.Version, packets ...wire.Packet) {
	t.Helper()
	for _, p := range packets {
		if _, err := c.conn.Write(wire.Encode(p, v)); errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
	}
}

// F28: one client identifier connects to two gateways at the same instant.
// Exactly one stays; the other is told 0x8E (MQTT 5) or closed within 1 s. What
// is published afterwards comes once, to the one that stayed.
func TestF28ConnectTwiceAtOnce(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{})
	versions(t, func(t *testing.T, v wire.Version) {
		var id string
		pub := dial(t, c.Gateways[2], wire.Connect{ClientID: wire.Unique("p"), Clean: true})
		for n := range pick(100, 1000) {
			if n%calm == 0 {
				id = wire.Unique("c")
				first := dial(t, c.Gateways[2], durable(v, id))
				first.Subscribe(id, 2)
				first.Disconnect()
			}
			both := []*peer{dialPeer(t, c.Gateways[0], durable(v, id)), dialPeer(t, c.Gateways[1], durable(v, id))}
			loser := firstToEnd(t, v, both...)
			text := fmt.Sprint(n)
			pub.Publish(id, 2, text)
			stayed := both[1-loser]
			stayed.take(t, v, text)
			stayed.conn.Close()
		}
	})
}

// firstToEnd waits until one of two connections has ended, and returns which.
func firstToEnd(t *testing.T, v wire.Version, both ...*peer) int {
	t.Helper()
	connected := [2]bool{}
	limit := time.After(wire.Timeout)
	for {
		var i int
		var p wire.Packet
		var open bool
		select {
		case p, open = <-both[0].packets:
		case p, open = <-both[1].packets:
			i = 1
		case <-limit:
			t.Fatalf("both stay; connected %v", connected)
		}
		switch p := p.(type) {
		case nil:
			if open {
				continue
			}
			if v == wire.V5 && connected[i] {
				t.Fatalf("connection %d ended without DISCONNECT", i)
			}
			return i
		case wire.Connack:
			connected[i] = p.Code == 0
		case wire.Disconnect:
			if p.Code != 0x8E {
				t.Fatalf("got %+v", p)
			}
			return i
		default:
			t.Fatalf("got %+v", p)
		}
	}
}

// take expects one message of QoS 2 next, completes its exchange, and expects
// nothing after it.
func (c *peer) take(t *testing.T, v wire.Version, text string) {
	t.Helper()
	messages := 0
	limit := time.After(wire.Timeout)
	for {
		select {
		case p, open := <-c.packets:
			if !open {
				t.Fatalf("the connection that stayed was closed, %d messages", messages)
			}
			switch p := p.(type) {
			case wire.Publish:
				if messages++; messages > 1 || p.Payload != text {
					t.Fatalf("got %+v, want %s once", p, text)
				}
				c.send(t, v, wire.Pubrec(p.ID))
			case wire.Ack:
				c.send(t, v, wire.Pubcomp(p.ID), wire.Pingreq{})
			case wire.Pingresp:
				return
			case wire.Connack:
				if p.Code != 0 || !p.SessionPresent {
					t.Fatalf("got %+v", p)
				}
			default:
				t.Fatalf("got %+v", p)
			}
		case <-limit:
			t.Fatalf("%s did not come", text)
		}
	}
}

// A takeover between gateways, from CONNECT to CONNACK and to the end of the
// old connection: p99 under 50 ms.
func TestTakeoverTime(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{})
	var id string
	var old *peer
	var connack, end []time.Duration
	for n := range pick(200, 2000) {
		if n%calm == 0 {
			id = wire.Unique("c")
			old = dialPeer(t, c.Gateways[2], durable(wire.V5, id))
			<-old.packets
		}
		begin := time.Now()
		next := dialPeer(t, c.Gateways[n%3], durable(wire.V5, id))
		if p, ok := (<-next.packets).(wire.Connack); !ok || p.Code != 0 || !p.SessionPresent {
			t.Fatalf("got %+v", p)
		}
		connack = append(connack, time.Since(begin))
		if p, ok := (<-old.packets).(wire.Disconnect); !ok || p.Code != 0x8E {
			t.Fatalf("got %+v, want 0x8E", p)
		}
		end = append(end, time.Since(begin))
		old.conn.Close()
		old = next
	}
	for name, d := range map[string][]time.Duration{"CONNACK": connack, "end of the old connection": end} {
		slices.Sort(d)
		p50, p99 := d[len(d)/2], d[len(d)*99/100]
		t.Logf("%s: p50 %v p99 %v", name, p50, p99)
		// The short form shares its cores with other tests and is instrumented.
		if limit := pick(time.Second, 50*time.Millisecond); p99 > limit {
			t.Errorf("%s: p99 %v, want %v", name, p99, limit)
		}
	}
}
