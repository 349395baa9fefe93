package gateway

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/protocol"
)

// tap is the socket below a client's TLS. While it is held, what TLS writes is
// kept for the test.
type tap struct {
	net.Conn
	mu   sync.Mutex
	held bool
	kept []byte
	came atomic.Int64 // bytes
}

func (s *tap) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held {
		s.kept = append(s.kept, p...)
		return len(p), nil
	}
	return s.Conn.Write(p)
}

func (s *tap) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	s.came.Add(int64(n))
	return n, err
}

// hold keeps what is written from now on, taken takes it.
func (s *tap) hold() {
	s.mu.Lock()
	s.held = true
	s.mu.Unlock()
}

func (s *tap) taken() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.kept
	s.held, s.kept = false, nil
	return b
}

// tapped dials the listener "tls" without a handshake.
func tapped(t *testing.T, g *Gateway, config *tls.Config) (*tls.Conn, *tap) {
	t.Helper()
	nc, err := net.Dial("tcp", g.Addr("tls").String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(patience))
	config.ServerName = "127.0.0.1"
	s := &tap{Conn: nc}
	return tls.Client(s, config), s
}

func wireOf(t *testing.T, packets ...protocol.Packet) (b []byte) {
	t.Helper()
	for _, p := range packets {
		var err error
		if b, err = protocol.AppendPacket(b, p, protocol.V5); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// TestTLSPieces: a record may come in any pieces, with silence in between, and
// several in one.
func TestTLSPieces(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	g := newGateway(t, withTLS(p.options))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := p.config()
		config.MaxVersion = version
		nc, below := tapped(t, g, config)
		c := newClient(t, nc, protocol.V5)
		c.send(connectPacket("c"))
		c.expect("CONNACK")
		eventually(t, "quiet after CONNACK", func() bool { return g.isQuiet("c") })
		below.hold()
		c.send(&protocol.Pingreq{})
		record := below.taken()
		for cut := range record {
			if cut > 0 {
				below.Write(record[cut-1 : cut])
			}
			eventually(t, "quiet in the middle", func() bool { return g.isQuiet("c") })
		}
		if len(c.packets) > 0 {
			t.Error("an answer came before the record was complete")
		}
		below.Write(record[len(record)-1:])
		c.expect("PINGRESP")

		below.hold()
		for range 100 {
			c.send(&protocol.Pingreq{})
		}
		many := below.taken()
		below.Write(many[:len(many)-1])
		for range 99 {
			c.expect("PINGRESP")
		}
		below.Write(many[len(many)-1:])
		c.expect("PINGRESP")
		c.goodbye()
	}
}

// TestTLSEarly: what comes with the end of the handshake, or right behind
// CONNECT, is not lost, however much it is.
func TestTLSEarly(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	g := newGateway(t, withTLS(p.options))
	for _, size := range []int{0, 10, 5 * readBuffer} {
		nc, below := tapped(t, g, p.config())
		below.hold()
		shaken := make(chan error)
		go func() { shaken <- nc.Handshake() }() // until the first flight is answered
		eventually(t, "ClientHello", func() bool {
			below.mu.Lock()
			defer below.mu.Unlock()
			return len(below.kept) > 0
		})
		below.Conn.Write(below.taken())
		below.hold()
		if err := <-shaken; err != nil {
			t.Fatal(err)
		}
		payload := strings.Repeat("x", size)
		nc.Write(wireOf(t, connectPacket("c"), subscribePacket(1, 0, "a")))
		nc.Write(wireOf(t, publish("a", payload, 0, 0), &protocol.Pingreq{}))
		if _, err := below.Conn.Write(below.taken()); err != nil {
			t.Fatal(err)
		}
		c := newClient(t, nc, protocol.V5)
		c.expect("CONNACK", "SUBACK #1 0x00")
		if m, ok := c.next().(*protocol.Publish); !ok || string(m.Payload) != payload {
			t.Errorf("%.40v came of %d bytes", m, size)
		}
		c.expect("PINGRESP")
		eventually(t, "quiet", func() bool { return g.isQuiet("c") })
		c.goodbye()
		eventually(t, "gone", func() bool { return g.clients.get("c") == nil })
	}
}

// TestTLSEnds: either side's end is said in TLS too.
func TestTLSEnds(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	g := newGateway(t, withTLS(p.options))
	for _, tt := range []struct {
		name string
		end  func(nc *tls.Conn, below *tap)
		err  string // of the client's Read
	}{
		{"client says goodbye", func(nc *tls.Conn, _ *tap) { nc.Write(wireOf(t, &protocol.Disconnect{})) }, ""},
		{"client closes", func(nc *tls.Conn, _ *tap) { nc.CloseWrite() }, ""},
		{"fault of MQTT", func(nc *tls.Conn, _ *tap) { nc.Write([]byte{0xF1, 0}) }, ""},
		{"no record", func(_ *tls.Conn, below *tap) { below.Write(bytes.Repeat([]byte{0x17, 3, 3, 0, 20}, 5)) }, "remote error: tls: bad record MAC"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			nc, below := tapped(t, g, p.config())
			nc.Write(wireOf(t, connectPacket("c")))
			nc.Read(make([]byte, 1)) // of CONNACK
			eventually(t, "quiet", func() bool { return g.isQuiet("c") })
			before := below.came.Load()
			tt.end(nc, below)
			_, err := io.Copy(io.Discard, nc)
			switch {
			case tt.err == "" && err != nil, tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("%v, want %q", err, tt.err)
			case below.came.Load() == before:
				t.Error("no alert came")
			}
			eventually(t, "gone", func() bool { return g.clients.get("c") == nil && g.looked() == 0 })
		})
	}
}

// TestTLSWebSocketLoop: WebSocket over TLS is read in a loop as well.
func TestTLSWebSocketLoop(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	g := newGateway(t, withTLS(p.options))
	nc, err := dialTLS(t, g, "wss", p.config())
	if err != nil {
		t.Fatal(err)
	}
	from, _ := upgrade(t, nc, "/mqtt", "Sec-WebSocket-Protocol: mqtt")
	expect := func(first byte, payload string) { t.Helper(); expectFrame(t, from, first, payload) }
	nc.Write(frame(frameBinary, wireOf(t, connectPacket("c"), subscribePacket(1, 0, "a"))))
	expect(frameBinary, "")
	expect(frameBinary, "")
	eventually(t, "quiet", func() bool { return g.isQuiet("c") })
	nc.Write(frame(framePing, []byte("x")))
	expect(framePong, "x")
	for _, size := range []int{10, 1000, 3 * readBuffer} {
		m := wireOf(t, publish("a", strings.Repeat("x", size), 0, 0))
		nc.Write(frame(frameBinary, m))
		var got []byte
		for len(got) < len(m) {
			f, part, err := readFrame(from)
			if err != nil || f != frameBinary {
				t.Fatalf("frame %#x, %v", f, err)
			}
			got = append(got, part...)
		}
		if !bytes.Equal(got, m) {
			t.Errorf("%.60q came, want %.60q", got, m)
		}
		eventually(t, "quiet", func() bool { return g.isQuiet("c") })
	}
	nc.Write(frame(frameClose, []byte{0x03, 0xE8}))
	expect(frameClose, "\x03\xe8")
	if _, err := io.Copy(io.Discard, from); err != nil {
		t.Error(err)
	}
	eventually(t, "gone", func() bool { return g.clients.get("c") == nil })
}

// shaken is a tlsSocket after the handshake, apart, and its client.
func shaken(t *testing.T) (s *tlsSocket, client *tls.Conn, below *tap) {
	t.Helper()
	p := newPKI(t)
	certificate, err := tls.LoadX509KeyPair(p.options.CertFile, p.options.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	here, there := net.Pipe()
	below = &tap{Conn: there}
	client = tls.Client(below, &tls.Config{InsecureSkipVerify: true})
	s = &tlsSocket{Conn: here}
	s.conn = tls.Server(s, &tls.Config{Certificates: []tls.Certificate{certificate}, SessionTicketsDisabled: true})
	go client.Handshake() // the server's fails if this does
	if err := s.conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	s.apart = true
	return s, client, below
}

// TestTLSAnswers: a client that makes TLS answer, and does not read, is ended
// before the answers take more than twice what deliveries may.
func TestTLSAnswers(t *testing.T) {
	t.Parallel()
	const limit = 4096
	g := newGateway(t, func(o *Options) { o.Limits.OutboxBytes = limit })
	s, client, below := shaken(t)
	c := &conn{g: g, tls: s}
	c.box.writing = true // a write that does not end
	ping := func() []byte {
		below.hold()
		client.Write([]byte{0xC0, 0})
		return below.taken()
	}
	key := make([]byte, 27) // as long as a KeyUpdate
	goOn := func([]byte) bool { return true }
	for n := 0; c.decrypt(goOn, ping()); n += len(key) {
		if n > 2*limit {
			t.Fatalf("%d bytes wait", n)
		}
		s.Write(key)
	}
	if c.endCode != protocol.QuotaExceeded || len(s.out) <= limit {
		t.Errorf("ended with %v at %d bytes", c.endCode, len(s.out))
	}
}

// TestDecryptStops: whoever stops in the middle of what came finds the rest the
// next time, also when the bytes it came in are used for something else.
func TestDecryptStops(t *testing.T) {
	t.Parallel()
	s, client, below := shaken(t)
	want := make([]byte, 3*readBuffer)
	for i := range want {
		want[i] = byte(i >> 8)
	}
	below.hold()
	client.Write(want)
	c := &conn{tls: s}
	var got []byte
	process := func(goOn bool) func(b []byte) bool {
		return func(b []byte) bool { got = append(got, b...); return goOn }
	}
	records := below.taken()
	if c.decrypt(process(false), records) || len(got) == 0 || len(got) == len(want) {
		t.Fatalf("%d bytes at first", len(got))
	}
	clear(records)
	if !c.decrypt(process(true), nil) || !bytes.Equal(got, want) {
		t.Errorf("%d bytes in all, want %d, or others", len(got), len(want))
	}
}
