package gateway

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// plainListener adds a listener "tcp".
func plainListener(o *Options) {
	o.Listeners = append(o.Listeners, Listener{Name: "tcp", Address: "127.0.0.1:0"})
}

// from connects from another loopback address.
func from(t testing.TB, g *Gateway, address string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: patience}
	nc, err := d.Dial("tcp", g.Addr("tcp").String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return nc
}

func joinFrom(t *testing.T, g *Gateway, address string, p *protocol.Connect) *client {
	t.Helper()
	c := newClient(t, from(t, g, address), p.Version)
	b, err := protocol.AppendPacket(nil, p, p.Version)
	if err != nil {
		t.Fatal(err)
	}
	c.nc.Write(b) // It may be closed already, which expect sees.
	return c
}

// TestAddressConnections: an address may have so many connections, others have
// theirs, and one that ends makes room.
func TestAddressConnections(t *testing.T) {
	t.Parallel()
	g := newGateway(t, plainListener, func(o *Options) { o.Limits.AddressConnections = 2 })
	first := joinFrom(t, g, "127.0.0.1", connectPacket("a"))
	first.expect("CONNACK")
	joinFrom(t, g, "127.0.0.1", connectPacket("b")).expect("CONNACK")
	over := joinFrom(t, g, "127.0.0.1", connectPacket("c"))
	over.expect("CONNACK 0x97", "closed")
	joinFrom(t, g, "127.0.0.1", connectPacket("d", v311)).expect("CONNACK 0x03", "closed")
	joinFrom(t, g, "127.0.0.2", connectPacket("e")).expect("CONNACK")
	first.goodbye()
	eventually(t, "room", func() bool { return g.Stats().Connections == 2 })
	joinFrom(t, g, "127.0.0.1", connectPacket("f")).expect("CONNACK")
	if n := g.Stats().Refused[RefusedAddressConnections]; n != 2 {
		t.Errorf("%d refusals counted, want 2", n)
	}
	// Beyond twice the limit nobody is told.
	for range 2 {
		from(t, g, "127.0.0.1")
	}
	eventually(t, "four are open", func() bool { return g.Stats().Connections == 5 })
	joinFrom(t, g, "127.0.0.1", connectPacket("g")).expect("closed")
}

// TestF47HammeringAddress: one address connects as fast as it can. It gets in
// as often as it may and no more, nobody is asked who it is beyond that, and
// others get in at once: none of what the gateway may take is spent on it.
func TestF47HammeringAddress(t *testing.T) {
	t.Parallel()
	const rate, hammered = 5, 400
	var asked atomic.Int64
	g := newGateway(t, plainListener, func(o *Options) {
		o.Limits.AddressRate, o.Limits.AcceptRate, o.Limits.ConnectRate = rate, 200, 200
		o.Authenticator = AuthenticatorFunc(func(_ context.Context, r *ConnectRequest) (Identity, error) {
			if strings.HasPrefix(r.Client.Remote.String(), "127.0.0.66:") {
				asked.Add(1)
			}
			return Identity{}, nil
		})
	})
	start := time.Now()
	done := make(chan int, 1)
	go func() { // ends after so many connections
		in := 0
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 66)}, Timeout: patience}
		b, _ := protocol.AppendPacket(nil, connectPacket("hammer"), protocol.V5)
		for range hammered {
			nc, err := d.Dial("tcp", g.Addr("tcp").String())
			if err != nil {
				continue
			}
			nc.Write(b)
			nc.SetReadDeadline(time.Now().Add(patience))
			if n, _ := nc.Read(make([]byte, 64)); n > 0 {
				in++
			}
			nc.Close()
		}
		done <- in
	}()
	for i := range 20 {
		// Each has an address of its own, as clients have.
		joinFrom(t, g, fmt.Sprint("127.0.1.", i+1), connectPacket(fmt.Sprint("c", i))).expect("CONNACK")
	}
	in := <-done
	most := burstSeconds*rate + int(time.Since(start).Seconds()*rate) + 1
	if in < burstSeconds*rate || in > most || asked.Load() > int64(most) {
		t.Errorf("the hammering address got in %d times and was asked about %d times, want %d to %d", in, asked.Load(), burstSeconds*rate, most)
	}
	if n := g.Stats().Refused[RefusedAddressRate]; n != uint64(hammered-in) {
		t.Errorf("%d refusals counted of %d", n, hammered-in)
	}
	if n := g.Stats().Refused[RefusedConnectRate]; n > 0 {
		t.Errorf("%d were refused for the rate of all", n)
	}
}

// TestAddressOfNetwork: the addresses of an IPv6 subscriber are one, mapped
// IPv4 ones are what they are, and a unix socket has no limits.
func TestAddressOfNetwork(t *testing.T) {
	m := newAdmission(&Limits{AddressRate: 1})
	enter := func(address string) bool {
		_, ok := m.enter(&arrival{remote: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))})
		return ok
	}
	for i, tt := range []struct {
		address string
		ok      bool
	}{
		{"[2001:db8:1:2::1]:1", true}, {"[2001:db8:1:2::2]:1", true}, {"[2001:db8:1:2:3::]:1", false},
		{"[2001:db8:1:3::1]:1", true},
		{"192.0.2.1:1", true}, {"[::ffff:192.0.2.1]:2", true}, {"192.0.2.1:3", false},
		{"192.0.2.2:1", true},
	} {
		if got := enter(tt.address); got != tt.ok {
			t.Errorf("%d: %s: %v", i, tt.address, got)
		}
	}
	for range 10 {
		if _, ok := m.enter(&arrival{remote: &net.UnixAddr{Name: "@", Net: "unix"}}); !ok {
			t.Error("a unix socket was refused")
		}
	}
}

// TestAdmissionForgets: what is remembered of addresses and clients is bounded
// by those that matter.
func TestAdmissionForgets(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newAdmission(&Limits{AddressRate: 1, Flaps: 1, FlapBan: time.Minute})
		for i := range 100 * leastSweep {
			a := &arrival{remote: &net.TCPAddr{IP: net.IPv4(10, byte(i>>16), byte(i>>8), byte(i))}}
			m.enter(a)
			m.leave(a.visitor)
			m.disconnected(backend.ClientID(fmt.Sprint(i)))
			if i%100 == 0 {
				time.Sleep(time.Second)
			}
		}
		if n := len(m.visitors); n > 2*leastSweep {
			t.Errorf("%d addresses are remembered", n)
		}
		// Of clients, those of the last minute matter: 6,000.
		if n := len(m.restless); n > 4*6000 {
			t.Errorf("%d clients are remembered", n)
		}
	})
}

// TestConnectRate: CONNECTs above the rate wait for their turn; those for
// which that would take too long are refused before anybody is asked who they
// are (F47).
func TestConnectRate(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var asked atomic.Int64
		g := newGateway(t, unhurried, func(o *Options) {
			o.Limits.ConnectRate, o.Timing.Connect = 2, 4*time.Second
			o.Authenticator = AuthenticatorFunc(func(context.Context, *ConnectRequest) (Identity, error) {
				asked.Add(1)
				return Identity{}, nil
			})
		})
		start := time.Now()
		// Four at once, then two a second for the two seconds that they wait.
		for i := range 4 {
			join(t, g, fmt.Sprint("at once ", i))
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("the first waited %v", took)
		}
		var waiting []*client
		for i := range 4 {
			waiting = append(waiting, dial(t, g, connectPacket(fmt.Sprint("waits ", i))))
			synctest.Wait()
		}
		dial(t, g, connectPacket("late")).expect("CONNACK 0x9F", "closed")
		dial(t, g, connectPacket("late", v311)).expect("CONNACK 0x03", "closed")
		for _, c := range waiting {
			c.expect("CONNACK")
		}
		if took := time.Since(start); took < 2*time.Second || took > 2100*time.Millisecond {
			t.Errorf("the last waited %v, want 2 s", took)
		}
		if n := asked.Load(); n != 8 {
			t.Errorf("the authenticator was asked %d times, want 8", n)
		}
		if n := g.Stats().Refused[RefusedConnectRate]; n != 2 {
			t.Errorf("%d refusals counted, want 2", n)
		}
	})
}

// TestAcceptRate: connections above the rate are accepted later, and none is
// refused.
func TestAcceptRate(t *testing.T) {
	t.Parallel()
	g := newGateway(t, plainListener, func(o *Options) { o.Limits.AcceptRate = 20 })
	start := time.Now()
	for i := range 50 {
		joinFrom(t, g, "127.0.0.1", connectPacket(fmt.Sprint("c", i))).expect("CONNACK")
	}
	if took := time.Since(start); took < 400*time.Millisecond { // 10 of them are above the burst of 40
		t.Errorf("50 connections took %v", took)
	}
}

// TestFlapping: who disconnects too often is kept out for a while, others are
// not, and the ban ends.
func TestFlapping(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGateway(t, unhurried, func(o *Options) { o.Limits.Flaps, o.Limits.FlapBan = 3, 5*time.Minute })
		for range 3 {
			join(t, g, "c").goodbye()
			synctest.Wait()
		}
		join(t, g, "c").cut()
		synctest.Wait()
		dial(t, g, connectPacket("c")).expect("CONNACK 0x9F", "closed")
		dial(t, g, connectPacket("c", v311)).expect("CONNACK 0x03", "closed")
		join(t, g, "d").goodbye()
		time.Sleep(5*time.Minute - time.Second)
		dial(t, g, connectPacket("c")).expect("CONNACK 0x9F", "closed")
		time.Sleep(time.Second)
		join(t, g, "c").goodbye()
		join(t, g, "c").goodbye()
		if n := g.Stats().Refused[RefusedFlapping]; n != 3 {
			t.Errorf("%d refusals counted, want 3", n)
		}
		// Three a minute, all the time, is no offence.
		for range 20 {
			time.Sleep(20 * time.Second)
			join(t, g, "c").goodbye()
			synctest.Wait()
		}
	})
}

// TestPublishRate: a client that publishes faster than it may is slowed down.
// Nothing is lost, it stays connected, and so do its life signs.
func TestPublishRate(t *testing.T) {
	for _, tt := range []struct {
		name  string
		limit func(*Limits)
		took  time.Duration // for 100 publishes of 1,000 bytes
	}{
		{"none", func(*Limits) {}, 0},
		{"publishes", func(l *Limits) { l.PublishRate = 10 }, 9 * time.Second},
		{"bytes", func(l *Limits) { l.PublishBytes = 20_000 }, 4 * time.Second},
		{"packets above the burst", func(l *Limits) { l.PublishBytes = 500 }, 199 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				g := newGateway(t, unhurried, func(o *Options) { tt.limit(&o.Limits) })
				s := join(t, g, "s")
				s.subscribe(0, "a")
				p := join(t, g, "p", keepAlive(2))
				start := time.Now()
				for i := range 100 {
					payload := fmt.Sprintf("%03d", i)
					p.nc.SetWriteDeadline(time.Time{})
					b, _ := protocol.AppendPacket(nil, publish("a", payload+strings.Repeat("x", 990), 1, uint16(i+1)), p.v)
					if _, err := p.nc.Write(b); err != nil {
						t.Fatal(err)
					}
					if m := s.receive().(*protocol.Publish); string(m.Payload[:3]) != payload {
						t.Fatalf("%s at place %d", m.Payload[:3], i)
					}
				}
				took := time.Since(start)
				if took < tt.took*9/10 || took > tt.took*11/10+100*time.Millisecond {
					t.Errorf("took %v, want %v", took, tt.took)
				}
				for range 100 {
					if m, ok := p.receive().(*protocol.Ack); !ok || m.Code != protocol.Success && m.Code != protocol.NoMatchingSubscribers {
						t.Fatalf("%v", m)
					}
				}
				if n := g.Stats().Refused[RefusedPublishRate]; (n > 0) != (tt.took > 0) {
					t.Errorf("%d pauses counted", n)
				}
			})
		})
	}
}

// receive waits for the next packet as long as it takes.
func (c *client) receive() protocol.Packet { return <-c.packets }

// TestPublishRateEnds: a client that is made to wait is ended at once when it
// connects elsewhere, and when the gateway shuts down.
func TestPublishRateEnds(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGateway(t, unhurried, func(o *Options) { o.Limits.PublishBytes = 100 })
		c := join(t, g, "c")
		c.send(publish("a", strings.Repeat("x", 100_000), 0, 0))
		synctest.Wait()
		start := time.Now()
		join(t, g, "c").goodbye()
		c.expect("DISCONNECT 0x8E", "closed")
		if took := time.Since(start); took > time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// TestRefusals: each limit that a packet can meet is counted by its name.
func TestRefusals(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 50)
	for _, tt := range []struct {
		why    Refusal
		first  protocol.Packet // CONNECT
		second protocol.Packet
		expect string
	}{
		{RefusedConnectSize, connectPacket(strings.Repeat("x", 300)), nil, "closed"},
		{RefusedTopic, connectPacket("c", will(protocol.Will{Topic: long})), nil, "CONNACK 0x90"},
		{RefusedPacketSize, connectPacket("c"), publish("a", strings.Repeat("x", 300), 0, 0), "DISCONNECT 0x95"},
		{RefusedTopic, connectPacket("c"), publish(long, "", 1, 1), "PUBACK #1 0x90"},
		{RefusedTopic, connectPacket("c"), publish("a/b/c", "", 1, 1), "PUBACK #1 0x90"},
		{RefusedTopic, connectPacket("c"), subscribePacket(1, 0, long), "SUBACK #1 0x8F"},
		{RefusedTopic, connectPacket("c"), subscribePacket(1, 0, "a/b/c"), "SUBACK #1 0x8F"},
		{RefusedSubscriptions, connectPacket("c"), subscribePacket(1, 0, "a", "b"), "SUBACK #1 0x00 0x97"},
		{RefusedTimeout, nil, nil, "closed"},
	} {
		t.Run(tt.why.String()+" "+tt.expect, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, func(o *Options) {
				o.Limits.ConnectPacketSize, o.Limits.PacketSize = 256, 256
				o.Limits.TopicLength, o.Limits.TopicLevels, o.Limits.Subscriptions = 40, 2, 1
				if tt.first == nil {
					o.Timing.Connect = 20 * time.Millisecond
				}
			})
			c := newClient(t, pipe(t, g), protocol.V5)
			if tt.first != nil {
				b, _ := protocol.AppendPacket(nil, tt.first, protocol.V5)
				c.nc.Write(b) // It may be closed before it has taken all.
			}
			if tt.second != nil {
				c.expect("CONNACK")
				b, _ := protocol.AppendPacket(nil, tt.second, protocol.V5)
				c.nc.Write(b)
			}
			c.expect(tt.expect)
			eventually(t, "counted once", func() bool { return g.Stats().Refused[tt.why] == 1 })
		})
	}
}
