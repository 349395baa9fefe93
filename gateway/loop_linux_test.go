package gateway

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// overTCP connects a client through the listener named "tcp".
func overTCP(t *testing.T, g *Gateway, id string, change ...func(*protocol.Connect)) *client {
	t.Helper()
	nc, err := net.Dial("tcp", g.Addr("tcp").String())
	if err != nil {
		t.Fatal(err)
	}
	p := connectPacket(id, change...)
	c := newClient(t, nc, p.Version)
	c.send(p)
	return c
}

// isQuiet reports whether a client is in a loop, and nobody reads from it.
func (g *Gateway) isQuiet(id string) bool {
	c := g.clients.get(backend.ClientID(id))
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.loop != nil && c.role.Load() == nobodyReads
}

// looked counts the connections that the loops look after.
func (g *Gateway) looked() (n int) {
	for _, l := range g.loops.all() {
		l.mu.Lock()
		for _, c := range l.conns {
			if c != nil {
				n++
			}
		}
		l.mu.Unlock()
	}
	return n
}

func withTCP(o *Options) {
	o.Listeners = append(o.Listeners, Listener{Name: "tcp", Address: "127.0.0.1:0"})
}

// inLoops runs a test for each kind of stream that is read in loops, given what
// makes the listener and what connects a client through it.
func inLoops(t *testing.T, test func(t *testing.T, listen func(*Options), dial dialer)) {
	t.Parallel()
	t.Run("TCP", func(t *testing.T) {
		t.Parallel()
		test(t, withTCP, overTCP)
	})
	t.Run("TLS", func(t *testing.T) {
		t.Parallel()
		p := newPKI(t)
		test(t, withTLS(p.options), func(t *testing.T, g *Gateway, id string, change ...func(*protocol.Connect)) *client {
			return overTLS(t, g, p.config(), connectPacket(id, change...))
		})
	})
}

type dialer func(t *testing.T, g *Gateway, id string, change ...func(*protocol.Connect)) *client

// TestLoop: a client that says nothing has no goroutine, and one that speaks
// now and then gives it back each time. Whatever happens to it reaches it.
func TestLoop(t *testing.T) { inLoops(t, testLoop) }

func testLoop(t *testing.T, listen func(*Options), dial dialer) {
	g := newGateway(t, listen)
	c := dial(t, g, "c", durable(3600))
	c.expect("CONNACK")
	eventually(t, "quiet after CONNACK", func() bool { return g.isQuiet("c") })
	for range 3 {
		c.ping()
		eventually(t, "quiet after a ping", func() bool { return g.isQuiet("c") })
	}
	c.subscribe(1, "a")
	eventually(t, "quiet after SUBSCRIBE", func() bool { return g.isQuiet("c") })
	p := join(t, g, "p")
	p.send(publish("a", "x", 1, 1))
	p.expect("PUBACK #1")
	p.goodbye()
	c.expect("PUBLISH a=x q1 #1")
	if !g.isQuiet("c") {
		t.Error("a delivery needs a reader")
	}
	c.write([]byte{0x40, 2, 0}) // the beginning of a PUBACK
	eventually(t, "quiet with half a packet", func() bool { return g.isQuiet("c") })
	c.write([]byte{1})
	eventually(t, "acknowledged", func() bool { return g.Stats().InFlight == 0 })

	second := dial(t, g, "c", durable(3600))
	c.expect("DISCONNECT 0x8E")
	second.expect("CONNACK present")
	second.nc.Close()
	eventually(t, "its end is seen", func() bool { return g.clients.get("c") == nil })
	eventually(t, "the loops forget it", func() bool { return g.looked() == 0 })
}

// TestLoopWebSocket: a client over WebSocket has no goroutine either, and may
// be silent in the middle of a frame.
func TestLoopWebSocket(t *testing.T) {
	t.Parallel()
	g := newGateway(t, func(o *Options) {
		o.Listeners = append(o.Listeners, Listener{Name: "ws", Address: "127.0.0.1:0", WebSocketPaths: []string{"/mqtt"}})
	})
	nc, from, _ := request(t, g.Addr("ws").String(), "/mqtt", "Sec-WebSocket-Protocol: mqtt")
	send := func(b []byte) {
		if _, err := nc.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(first byte, payload string) { t.Helper(); expectFrame(t, from, first, payload) }
	connect, err := protocol.AppendPacket(nil, connectPacket("c"), protocol.V5)
	if err != nil {
		t.Fatal(err)
	}
	send(frame(frameBinary, connect))
	expect(frameBinary, "")
	eventually(t, "quiet after CONNACK", func() bool { return g.isQuiet("c") })
	ping := frame(frameBinary, []byte{0xC0, 0})
	for cut := range len(ping) {
		send(ping[:cut])
		eventually(t, "quiet in the middle", func() bool { return g.isQuiet("c") })
		send(ping[cut:])
		expect(frameBinary, "\xd0\x00")
	}
	send(frame(framePing, []byte("x")))
	expect(framePong, "x")
	eventually(t, "quiet after a ping", func() bool { return g.isQuiet("c") })
	send(frame(frameClose, []byte{0x03, 0xE8}))
	expect(frameClose, "\x03\xe8")
	eventually(t, "gone", func() bool { return g.clients.get("c") == nil })
}

// TestLoopShutdown: clients without a goroutine are told of a shutdown too,
// and those whose sockets are closed by force let it come to an end.
func TestLoopShutdown(t *testing.T) { inLoops(t, testLoopShutdown) }

func testLoopShutdown(t *testing.T, listen func(*Options), dial dialer) {
	for _, tt := range []struct {
		name  string
		limit time.Duration
	}{{"in order", patience}, {"by force", 0}} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGateway(t, listen)
			c := dial(t, g, "c")
			c.expect("CONNACK")
			eventually(t, "quiet", func() bool { return g.isQuiet("c") })
			ctx, cancel := context.WithTimeout(context.Background(), tt.limit)
			defer cancel()
			g.Shutdown(ctx) // by force it says that it was in a hurry
			if n := g.Stats().Connections; n != 0 {
				t.Errorf("%d connections are left", n)
			}
		})
	}
}

// TestLoopKeepAlive: a client that is not there any more is found out.
func TestLoopKeepAlive(t *testing.T) {
	t.Parallel()
	g := newGateway(t, withTCP)
	c := overTCP(t, g, "c", func(p *protocol.Connect) { p.KeepAlive = 1 })
	c.expect("CONNACK")
	c.expect("DISCONNECT 0x8D")
}

// TestLoopLeft: while the store keeps a client waiting, others of the same loop
// go on; and a client that waits itself is not read from.
func TestLoopLeft(t *testing.T) {
	t.Parallel()
	cl := newCluster(t, 1, func(_ int, o *Options) { withTCP(o) })
	g := cl.nodes[0]
	const n = 3 * followers // more wait than a loop keeps goroutines for
	waiters := make([]*client, n)
	for i := range waiters {
		waiters[i] = overTCP(t, g, fmt.Sprint("w", i))
		waiters[i].expect("CONNACK")
	}
	other := overTCP(t, g, "other")
	other.expect("CONNACK")
	other.subscribe(0, "o")
	for range 2 {
		goOn := make(chan struct{})
		release := sync.OnceFunc(func() { close(goOn) })
		t.Cleanup(release)
		var stuck atomic.Int32
		cl.stores[0].fault(func(call string) error {
			if call == "Append" {
				stuck.Add(1)
				<-goOn
			}
			return nil
		})
		for _, w := range waiters {
			w.send(publish("a", "x", 1, 1))
		}
		eventually(t, "all wait", func() bool { return int(stuck.Load()) == n })
		other.send(publish("o", "live", 0, 0))
		other.expect("PUBLISH o=live")
		for _, w := range waiters {
			w.send(&protocol.Pingreq{})
		}
		other.ping()
		release()
		for _, w := range waiters {
			w.expect("PUBACK #1 0x10", "PINGRESP")
		}
	}
	eventually(t, "nobody reads", func() bool {
		for i := range waiters {
			if !g.isQuiet(fmt.Sprint("w", i)) {
				return false
			}
		}
		return true
	})
}

// TestLoopFullSocket: what a socket does not take at once is written when it
// does, in order and whole, also over WebSocket; and a client that takes
// nothing for the write time is ended.
func TestLoopFullSocket(t *testing.T) { inLoops(t, testLoopFullSocket) }

func testLoopFullSocket(t *testing.T, listen func(*Options), dial dialer) {
	const messages, size = 300, 40_000
	g := newGateway(t, listen, func(o *Options) { o.Limits.OutboxBytes, o.Timing.Write = messages*(size+100), time.Hour })
	s := dial(t, g, "s")
	s.expect("CONNACK")
	s.subscribe(0, "a")
	s.stop()
	p := dial(t, g, "p")
	p.expect("CONNACK")
	payload := func(i int) string { return fmt.Sprintf("%d:%s", i, strings.Repeat("x", size)) }
	for i := range messages {
		p.send(publish("a", payload(i), 0, 0))
	}
	p.ping()
	if g.waiting("s") == 0 {
		t.Error("the socket has taken everything")
	}
	s.resume()
	for i := range messages {
		m, ok := s.next().(*protocol.Publish)
		if !ok || string(m.Payload) != payload(i) {
			t.Fatalf("message %d is %.40v", i, m)
		}
	}
	s.ping()
	eventually(t, "quiet", func() bool { return g.isQuiet("s") })
}

// TestLoopWriteTime: a client that takes nothing for the write time is ended.
func TestLoopWriteTime(t *testing.T) { inLoops(t, testLoopWriteTime) }

func testLoopWriteTime(t *testing.T, listen func(*Options), dial dialer) {
	g := newGateway(t, listen, func(o *Options) { o.Timing.Write = 300 * time.Millisecond })
	s := dial(t, g, "s")
	s.expect("CONNACK")
	s.subscribe(0, "a")
	s.stop()
	p := dial(t, g, "p")
	p.expect("CONNACK")
	for g.Stats().Dropped[DropOutboxFull] == 0 && g.clients.get("s") != nil {
		p.send(publish("a", strings.Repeat("x", 100_000), 0, 0))
		p.ping()
	}
	eventually(t, "it is gone", func() bool { return g.clients.get("s") == nil && g.looked() == 1 })
	p.ping()
}

// TestLoopBacklog: a client for which more waits than its socket takes at once
// gets all of it, whoever began to write.
func TestLoopBacklog(t *testing.T) { inLoops(t, testLoopBacklog) }

func testLoopBacklog(t *testing.T, listen func(*Options), dial dialer) {
	const messages, size = 200, 50_000
	g := newGateway(t, listen)
	s := dial(t, g, "s", durable(3600))
	s.expect("CONNACK")
	s.subscribe(1, "a")
	s.goodbye()
	eventually(t, "it is away", func() bool { return g.clients.get("s") == nil })
	p := dial(t, g, "p")
	p.expect("CONNACK")
	payload := func(i int) string { return fmt.Sprintf("%d:%s", i, strings.Repeat("x", size)) }
	for i := range messages {
		p.send(publish("a", payload(i), 1, 1))
		p.expect("PUBACK #1")
	}
	for range 2 { // without an acknowledgement everything comes again
		s = dial(t, g, "s", durable(3600))
		s.expect("CONNACK present")
		for i := range messages {
			m, ok := s.next().(*protocol.Publish)
			if !ok || string(m.Payload) != payload(i) {
				t.Fatalf("message %d is %.40v", i, m)
			}
		}
		s.cut()
		eventually(t, "it is away", func() bool { return g.clients.get("s") == nil })
	}
}

// TestLoopFlood: clients that always have more to read keep neither each other
// waiting nor one that says something now and then.
func TestLoopFlood(t *testing.T) {
	t.Parallel()
	g := newGateway(t, withTCP)
	one, err := protocol.AppendPacket(nil, publish("nobody", strings.Repeat("x", 100), 0, 0), protocol.V5)
	if err != nil {
		t.Fatal(err)
	}
	many := bytes.Repeat(one, 2000)
	done := make(chan struct{})
	var floods sync.WaitGroup
	for i := range 3 {
		f := overTCP(t, g, fmt.Sprint("f", i))
		f.expect("CONNACK")
		floods.Go(func() { // ends with the test
			for {
				select {
				case <-done:
					return
				default:
					if _, err := f.nc.Write(many); err != nil {
						return
					}
				}
			}
		})
	}
	defer floods.Wait()
	defer close(done)
	c := overTCP(t, g, "c")
	c.expect("CONNACK")
	start := time.Now()
	for range 10 { // a tenth of a second in all; six where others have the machine
		c.ping()
	}
	if d := time.Since(start); d > patience {
		t.Errorf("10 answers took %v", d)
	}
}
