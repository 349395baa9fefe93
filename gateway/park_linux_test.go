package gateway

import (
	"context"
	"net"
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

// isParked tells of a client whether its connection is parked.
func (g *Gateway) isParked(id string) (parked bool) {
	c := g.clients.get(backend.ClientID(id))
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.parked
}

func (l *lot) chatting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.chatty)
}

// occupied counts the slots that hold a connection.
func (l *lot) occupied() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.slots {
		if c != nil {
			n++
		}
	}
	return n
}

// long makes a connection one that was silent for a long time.
func (g *Gateway) long(id string) { g.clients.get(backend.ClientID(id)).seen.Store(-int64(time.Hour)) }

func withTCP(o *Options) {
	o.Listeners = append(o.Listeners, Listener{Name: "tcp", Address: "127.0.0.1:0"})
}

// TestParked: a client that says nothing has no goroutine, and one that speaks
// now and then gives it back each time. Whatever happens to it reaches it.
func TestParked(t *testing.T) {
	t.Parallel()
	g := newGateway(t, withTCP)
	c := overTCP(t, g, "c", durable(3600))
	c.expect("CONNACK")
	eventually(t, "parked after CONNACK", func() bool { return g.isParked("c") })
	for range 3 {
		g.long("c")
		c.ping()
		eventually(t, "parked after a ping", func() bool { return g.isParked("c") })
	}
	if n := g.lot.chatting(); n != 0 {
		t.Errorf("%d keep their goroutine, of which none was chatty", n)
	}
	g.long("c")
	c.subscribe(1, "a")
	eventually(t, "parked after SUBSCRIBE", func() bool { return g.isParked("c") })
	p := join(t, g, "p")
	p.send(publish("a", "x", 1, 1))
	p.expect("PUBACK #1")
	c.expect("PUBLISH a=x q1 #1")
	if !g.isParked("c") {
		t.Error("a delivery needs a reader")
	}
	g.long("c")
	c.write([]byte{0x40, 2, 0}) // the beginning of a PUBACK
	eventually(t, "parked with half a packet", func() bool { return g.isParked("c") })
	c.write([]byte{1})
	eventually(t, "acknowledged", func() bool { return g.Stats().InFlight == 0 })

	second := overTCP(t, g, "c", durable(3600))
	c.expect("DISCONNECT 0x8E")
	second.expect("CONNACK present")
	second.nc.Close()
	eventually(t, "a parked client's end is seen", func() bool { return g.clients.get("c") == nil })
	eventually(t, "nobody is kept in a slot", func() bool { return g.lot.occupied() == 0 })
}

// TestParkedWebSocket: a client over WebSocket has no goroutine either, and may
// be silent in the middle of a frame.
func TestParkedWebSocket(t *testing.T) {
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
	expect := func(first byte, payload string) {
		t.Helper()
		f, got, err := readFrame(from)
		if err != nil || f != first || payload != "" && string(got) != payload {
			t.Fatalf("frame %#x %q, %v; want %#x %q", f, got, err, first, payload)
		}
	}
	connect, err := protocol.AppendPacket(nil, connectPacket("c"), protocol.V5)
	if err != nil {
		t.Fatal(err)
	}
	send(frame(frameBinary, connect))
	expect(frameBinary, "")
	eventually(t, "parked after CONNACK", func() bool { return g.isParked("c") })
	ping := frame(frameBinary, []byte{0xC0, 0})
	for cut := range len(ping) {
		g.long("c")
		send(ping[:cut])
		eventually(t, "parked in the middle", func() bool { return g.isParked("c") })
		send(ping[cut:])
		expect(frameBinary, "\xd0\x00")
	}
	g.long("c")
	send(frame(framePing, []byte("x")))
	expect(framePong, "x")
	eventually(t, "parked after a ping", func() bool { return g.isParked("c") })
	send(frame(frameClose, []byte{0x03, 0xE8}))
	expect(frameClose, "\x03\xe8")
	eventually(t, "gone", func() bool { return g.clients.get("c") == nil })
}

// TestChatty: a client that speaks again at once keeps its goroutine until it
// has been silent for a while.
func TestChatty(t *testing.T) {
	t.Parallel()
	g := newGateway(t, withTCP)
	c := overTCP(t, g, "c")
	c.expect("CONNACK")
	eventually(t, "chatty", func() bool {
		c.ping()
		return g.lot.chatting() == 1
	})
	g.lot.hush(g.now())
	if g.isParked("c") || g.lot.chatting() != 1 {
		t.Error("parked while it speaks")
	}
	for range 10 {
		c.ping()
	}
	g.lot.hush(g.now() + quietTime)
	eventually(t, "parked", func() bool { return g.isParked("c") })
	if n := g.lot.chatting(); n != 0 {
		t.Errorf("%d are chatty", n)
	}
	c.ping()
}

// TestParkedShutdown: clients without a goroutine are told of a shutdown too,
// and those whose sockets are closed by force let it come to an end.
func TestParkedShutdown(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		limit time.Duration
	}{{"in order", patience}, {"by force", 0}} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGateway(t, withTCP)
			c := overTCP(t, g, "c")
			c.expect("CONNACK")
			eventually(t, "parked", func() bool { return g.isParked("c") })
			ctx, cancel := context.WithTimeout(context.Background(), tt.limit)
			defer cancel()
			g.Shutdown(ctx) // by force it says that it was in a hurry
			if n := g.Stats().Connections; n != 0 {
				t.Errorf("%d connections are left", n)
			}
		})
	}
}

// TestParkedKeepAlive: a client that is not there any more is found out.
func TestParkedKeepAlive(t *testing.T) {
	t.Parallel()
	g := newGateway(t, withTCP)
	c := overTCP(t, g, "c", func(p *protocol.Connect) { p.KeepAlive = 1 })
	c.expect("CONNACK")
	c.expect("DISCONNECT 0x8D")
}
