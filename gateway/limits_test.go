package gateway

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// waiting is how many bytes wait for the socket of a client.
func (g *Gateway) waiting(id string) int {
	c := g.clients.get(backend.ClientID(id))
	if c == nil {
		return -1
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.box.size()
}

// TestOutboxBytes: what QoS 0 sends to a client that does not read is bounded,
// and what does not fit is dropped and counted. What was taken arrives, in order.
func TestOutboxBytes(t *testing.T) {
	t.Parallel()
	const limit = 16 << 10
	g := newGateway(t, func(o *Options) { o.Limits.OutboxBytes = limit })
	s := join(t, g, "s")
	s.subscribe(0, "a")
	s.stop()
	p := join(t, g, "p")
	const n = 100
	for i := range n {
		p.send(publish("a", fmt.Sprintf("%04d", i)+strings.Repeat("x", 1000), 0, 0))
		p.ping()
		if w := g.waiting("s"); w > limit {
			t.Fatalf("%d bytes wait, the limit is %d", w, limit)
		}
	}
	dropped := int(g.Stats().Dropped[DropOutboxFull])
	if dropped < n-limit/1000-5 || dropped >= n {
		t.Errorf("%d of %d messages are counted as dropped", dropped, n)
	}
	s.resume()
	last := ""
	for range n - dropped {
		m := s.next().(*protocol.Publish)
		if number := string(m.Payload[:4]); number <= last {
			t.Fatalf("%s after %s", number, last)
		} else {
			last = number
		}
	}
	s.ping()
	p.send(publish("a", "again", 0, 0))
	s.expect("PUBLISH a=again")
}

// TestOutboxMessages: an ephemeral session keeps a number of QoS 1 and 2
// messages beyond its window; newer ones are dropped and counted, and the
// publisher is acknowledged.
func TestOutboxMessages(t *testing.T) {
	t.Parallel()
	g := newGateway(t, func(o *Options) { o.Limits.OutboxMessages = 10 })
	s := join(t, g, "s", receiveMaximum(5))
	s.subscribe(1, "a")
	p := join(t, g, "p")
	for i := range 20 {
		p.send(publish("a", fmt.Sprint(i), 1, uint16(i+1)))
		p.expect(describe(ack(protocol.PUBACK, uint16(i+1))))
	}
	st := g.Stats()
	if st.Dropped[DropQueueFull] != 5 || st.Queued != 10 || st.InFlight != 5 {
		t.Errorf("%d dropped, %d queued, %d in flight; want 5, 10, 5", st.Dropped[DropQueueFull], st.Queued, st.InFlight)
	}
	for i := range 15 {
		s.expect(fmt.Sprintf("PUBLISH a=%d q1 #%d", i, i+1))
		s.send(ack(protocol.PUBACK, uint16(i+1)))
	}
	s.ping()
	st = g.Stats()
	if st.Queued != 0 || st.InFlight != 0 {
		t.Errorf("%d queued, %d in flight at the end", st.Queued, st.InFlight)
	}
}

// TestSlowDurable: a durable subscriber that stops reading loses nothing: what
// its socket does not take waits in the inbox, the gateway holds no more than
// its limits, and the rest arrives in order. That it asks for life signs
// meanwhile is no offence.
func TestSlowDurable(t *testing.T) {
	t.Parallel()
	const limit, size, n = 16 << 10, 3000, 300
	g := newGateway(t, func(o *Options) { o.Limits.OutboxBytes, o.Timing.Write = limit, time.Hour })
	s := join(t, g, "s", durable(1000), receiveMaximum(100))
	s.subscribe(1, "a")
	s.stop()
	p := join(t, g, "p")
	for i := range n {
		p.send(publish("a", fmt.Sprintf("%04d", i)+strings.Repeat("x", size), 1, uint16(i+1)))
		p.expect(describe(ack(protocol.PUBACK, uint16(i+1))))
		if w := g.waiting("s"); w > limit+size+100 {
			t.Fatalf("%d bytes wait, the limit is %d", w, limit)
		}
	}
	s.send(&protocol.Pingreq{})
	p.ping()
	s.resume()
	pong := false
	for i := 0; i < n; {
		switch m := s.next().(type) {
		case *protocol.Pingresp:
			pong = true
		case *protocol.Publish:
			if string(m.Payload[:4]) != fmt.Sprintf("%04d", i) || m.Dup {
				t.Fatalf("%s, dup %v, at place %d", m.Payload[:4], m.Dup, i)
			}
			s.send(ack(protocol.PUBACK, m.PacketID))
			i++
		default:
			t.Fatalf("%s after %d messages", describe(m), i)
		}
	}
	if !pong {
		t.Error("PINGREQ was not answered")
	}
	if st := g.Stats(); len(st.Dropped) > 0 && st.Dropped[DropOutboxFull]+st.Dropped[DropQueueFull]+st.Dropped[DropInboxFull] > 0 {
		t.Errorf("dropped: %v", st.Dropped)
	}
}

// TestRetainedAtClientsPace: no retained message is dropped, whatever its size
// and QoS, and however slowly the client reads.
func TestRetainedAtClientsPace(t *testing.T) {
	t.Parallel()
	const limit, size, n = 16 << 10, 2000, 100
	for _, expiry := range []uint32{0, 1000} {
		for qos := range byte(3) {
			t.Run(fmt.Sprintf("expiry %d, QoS %d", expiry, qos), func(t *testing.T) {
				t.Parallel()
				g := newGateway(t, func(o *Options) { o.Limits.OutboxBytes, o.Limits.OutboxMessages = limit, 10 })
				p := join(t, g, "p")
				for i := range n {
					p.send(retained(fmt.Sprintf("r/%04d", i), strings.Repeat("x", size), qos, uint16(i+1)*uint16(min(qos, 1))))
					if qos > 0 {
						p.next()
					}
				}
				p.ping()
				s := join(t, g, "s", durable(expiry), receiveMaximum(20))
				s.stop()
				s.send(subscribePacket(1, qos, "r/#"))
				s.resume()
				s.expect(fmt.Sprintf("SUBACK #1 0x%02X", qos))
				for i := range n {
					m := s.next().(*protocol.Publish)
					if string(m.Topic) != fmt.Sprintf("r/%04d", i) || m.QoS != qos {
						t.Fatalf("%s at place %d; dropped: %v", describe(m), i, g.Stats().Dropped)
					}
					switch qos {
					case 1:
						s.send(ack(protocol.PUBACK, m.PacketID))
					case 2: // refused, which makes room at once
						s.send(&protocol.Ack{Kind: protocol.PUBREC, PacketID: m.PacketID, Code: protocol.QuotaExceeded})
					}
				}
				s.ping()
			})
		}
	}
}

// TestPingsNotRead: who asks and does not take the answers is ended, and costs
// no more than the outbox allows.
func TestPingsNotRead(t *testing.T) {
	t.Parallel()
	const limit = 4096
	for _, tt := range []struct {
		name   string
		packet protocol.Packet
	}{
		{"PINGREQ", &protocol.Pingreq{}},
		{"PUBLISH", publish("a", "", 1, 1)},
		{"SUBSCRIBE", subscribePacket(1, 0, "a")},
		{"UNSUBSCRIBE", &protocol.Unsubscribe{PacketID: 1, Filters: []string{"a"}}},
		{"PUBREL", ack(protocol.PUBREL, 1)},
		{"PUBREC", ack(protocol.PUBREC, 1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, func(o *Options) { o.Limits.OutboxBytes = limit })
			c := join(t, g, "c")
			c.stop()
			one, err := protocol.AppendPacket(nil, tt.packet, protocol.V5)
			if err != nil {
				t.Fatal(err)
			}
			many := bytes.Repeat(one, 50)
			for range 10000 {
				c.nc.SetWriteDeadline(time.Now().Add(patience))
				if _, err := c.nc.Write(many); err != nil {
					break
				}
				// The answers to one read cross the line, and then comes DISCONNECT.
				if w := g.waiting("c"); w > 2*limit+smallRead+64 {
					t.Fatalf("%d bytes wait, the limit is %d", w, limit)
				}
			}
			eventually(t, "the client is gone", func() bool { return g.Stats().Connections == 0 })
			if n := g.Stats().Disconnects[protocol.QuotaExceeded]; n != 1 {
				t.Errorf("ended for %v", g.Stats().Disconnects)
			}
		})
	}
}

// TestConnectionLimit: one more connection than allowed is refused with 0x97,
// and let in when another has gone.
func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	g := newGateway(t, func(o *Options) { o.Limits.Connections = 2 })
	a := join(t, g, "a")
	join(t, g, "b")
	dial(t, g, connectPacket("c")).expect("CONNACK 0x97", "closed")
	dial(t, g, connectPacket("c", v311)).expect("CONNACK 0x03", "closed")
	a.goodbye()
	eventually(t, "two places", func() bool { return g.Stats().Connections == 1 })
	join(t, g, "c")
}

// TestSubscriptionLimit: one more subscription than allowed fails with 0x97,
// alone; one that is replaced does not count twice.
func TestSubscriptionLimit(t *testing.T) {
	t.Parallel()
	g := newGateway(t, func(o *Options) { o.Limits.Subscriptions = 3 })
	for _, expiry := range []uint32{0, 1000} {
		c := join(t, g, fmt.Sprint("c", expiry), durable(expiry))
		c.send(subscribePacket(1, 1, "a", "b", "$share/g/c", "d", "a"))
		c.expect("SUBACK #1 0x01 0x01 0x01 0x97 0x01")
		c.send(&protocol.Unsubscribe{PacketID: 2, Filters: []string{"$share/g/c"}})
		c.expect("UNSUBACK #2 0x00")
		c.send(subscribePacket(3, 1, "d"))
		c.expect("SUBACK #3 0x01")
	}
}

// TestTopicLimits: names and filters that are too deep or too long get the
// reason code for it, which for a PUBLISH of MQTT 3 is the end; nobody sees
// them.
func TestTopicLimits(t *testing.T) {
	t.Parallel()
	g := newGateway(t, func(o *Options) { o.Limits.TopicLevels, o.Limits.TopicLength = 5, 50 })
	watch := join(t, g, "watch")
	watch.subscribe(0, "#")
	for _, topic := range []string{strings.Repeat("/", 5), strings.Repeat("x", 51)} {
		c := join(t, g, "c")
		c.send(publish(topic, "", 1, 1), publish(topic, "", 2, 2), publish(topic, "", 0, 0))
		c.expect("PUBACK #1 0x90", "PUBREC #2 0x90")
		c.send(subscribePacket(3, 0, topic, "$share/g/"+topic, "fine"))
		c.expect("SUBACK #3 0x8F 0x8F 0x00")
		dial(t, g, connectPacket("w", will(protocol.Will{Topic: topic}))).expect("CONNACK 0x90", "closed")
		for qos := range byte(3) {
			three := join(t, g, "three", v311)
			three.send(subscribePacket(3, 0, topic))
			three.expect("SUBACK #3 0x80")
			three.send(publish(topic, "", qos, uint16(qos)))
			three.expect("closed")
		}
	}
	c := join(t, g, "c")
	c.send(publish("a/b/c/d/e", "", 1, 1))
	c.expect("PUBACK #1")
	c.send(publish(strings.Repeat("y", 50), "", 0, 0))
	watch.expect("PUBLISH a/b/c/d/e=", "PUBLISH "+strings.Repeat("y", 50)+"=")
}

// TestPacketSizes: packets above the server's limits end the connection, on
// their header; those at the limit do not [MQTT-3.2.2-15].
func TestPacketSizes(t *testing.T) {
	t.Parallel()
	g := newGateway(t, func(o *Options) { o.Limits.PacketSize, o.Limits.ConnectPacketSize = 1000, 500 })
	c := join(t, g, "c")
	c.subscribe(0, "a")
	c.send(publish("a", strings.Repeat("x", 1000-7), 0, 0))
	c.expect("PUBLISH a=(993 bytes)")
	big, _ := protocol.AppendPacket(nil, publish("a", strings.Repeat("x", 1000-6), 0, 0), protocol.V5)
	c.write(big[:10])
	c.expect("DISCONNECT 0x95", "closed")
	first, _ := protocol.AppendPacket(nil, connectPacket(strings.Repeat("c", 500)), protocol.V5)
	nc := newClient(t, pipe(t, g), protocol.V5)
	nc.write(first[:3])
	nc.expect("closed")
}

// TestClientsMaximumPacketSize: a message above it is not sent, is done with,
// and holds up nothing [MQTT-3.1.2-24], [MQTT-3.1.2-25]. An alias, which makes
// the first packet of a topic longer, does not make it too long.
func TestClientsMaximumPacketSize(t *testing.T) {
	t.Parallel()
	const limit = 100
	for _, aliases := range []uint16{0, 5} {
		for qos := range byte(2) {
			for _, expiry := range []uint32{0, 1000} {
				t.Run(fmt.Sprintf("aliases %d, QoS %d, expiry %d", aliases, qos, expiry), func(t *testing.T) {
					t.Parallel()
					g := newGateway(t)
					s := join(t, g, "s", durable(expiry), receiveMaximum(2), func(p *protocol.Connect) {
						p.MaximumPacketSize, p.TopicAliasMaximum = limit, aliases
					})
					s.subscribe(qos, "#")
					p := join(t, g, "p")
					over := int(2 + 2 + 1 + 1 + 2*qos) // header, topic and no properties
					for i := range 4 {
						for _, size := range []int{limit - over + 1, limit - over} {
							p.send(publish(string(rune('a'+i)), strings.Repeat("x", size), qos, 1*uint16(qos)))
							if qos > 0 {
								p.next()
							}
						}
						m := s.next().(*protocol.Publish)
						if len(m.Payload) != limit-over {
							t.Fatalf("%s", describe(m))
						}
						if qos > 0 {
							s.send(ack(protocol.PUBACK, m.PacketID))
						}
					}
					s.ping()
					if n := g.Stats().Dropped[DropTooLarge]; n != 4 {
						t.Errorf("%d messages are counted as too large, want 4", n)
					}
				})
			}
		}
	}
}

// TestOneStopped: of a thousand subscribers one stops reading. The others get
// every message, and no later than without it.
func TestOneStopped(t *testing.T) {
	t.Parallel()
	const n, messages = 1000, 20
	g := newGateway(t, func(o *Options) {
		o.Listeners = []Listener{{Name: "tcp", Address: "127.0.0.1:0"}}
		o.Limits.OutboxBytes = 256 << 10
		o.Timing.Write = time.Minute // a busy machine takes its time
	})
	address := g.Addr("tcp").String()
	subscribers := make([]*client, n)
	for i := range subscribers {
		nc, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		subscribers[i] = newClient(t, nc, protocol.V5)
		subscribers[i].send(connectPacket(fmt.Sprint("s", i)), subscribePacket(1, 0, "a"))
	}
	for _, s := range subscribers {
		s.expect("CONNACK", "SUBACK #1 0x00")
	}
	deaf := subscribers[n/2]
	deaf.nc.(*net.TCPConn).SetReadBuffer(4096)
	deaf.stop()
	p := join(t, g, "p")
	// Fill the deaf one's socket and outbox, alone.
	deaf.send(subscribePacket(2, 0, "deaf"))
	eventually(t, "it has subscribed", func() bool { return g.Stats().Filters == 2 })
	for g.Stats().Dropped[DropOutboxFull] == 0 {
		p.send(publish("deaf", strings.Repeat("x", 100_000), 0, 0))
		p.ping()
	}
	for i := range messages {
		p.send(publish("a", fmt.Sprint(i), 0, 0))
	}
	for k, s := range subscribers {
		if s == deaf {
			continue
		}
		for i := range messages {
			m, ok := s.next().(*protocol.Publish)
			if !ok || string(m.Payload) != fmt.Sprint(i) {
				t.Fatalf("subscriber %d at message %d: %v", k, i, m)
			}
		}
	}
	if g.Stats().Connections != n+1 {
		t.Error("the stopped one was ended before its time was over")
	}
}
