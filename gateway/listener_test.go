package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/protocol"
)

func withUnix(path string, mode fs.FileMode) func(*Options) {
	return func(o *Options) {
		o.Listeners = append(o.Listeners, Listener{Name: "unix", Network: NetworkUnix, Address: path, Mode: mode})
	}
}

// TestUnixListener: a client connects through the file system, the socket has
// its permissions, and is gone at the end.
func TestUnixListener(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	g := newGateway(t, withUnix(path, 0o600))
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, nc, protocol.V5)
	c.send(connectPacket("c"))
	c.expect("CONNACK")
	c.subscribe(1, "a")
	c.send(publish("a", "x", 1, 1))
	c.expect("PUBLISH a=x q1 #1", "PUBACK #1")
	c.goodbye()
	if err := g.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// TestUnixListenerPlace: only a socket that nobody listens on makes room.
func TestUnixListenerPlace(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		put  func(t *testing.T, path string)
		ok   bool
	}{
		{"stale socket", func(t *testing.T, path string) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			l.Close()
		}, true},
		{"live socket", func(t *testing.T, path string) {
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
		}, false},
		{"file", func(t *testing.T, path string) { write(t, path, []byte("precious")) }, false},
		{"directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "s")
			tt.put(t, path)
			l, err := listenUnix(&Listener{Address: path, Mode: 0o660})
			if (err == nil) != tt.ok {
				t.Errorf("%v", err)
			}
			if err == nil {
				l.Close()
			} else if _, err := os.Lstat(path); err != nil {
				t.Errorf("it is gone: %v", err)
			}
		})
	}
}

// TestWSS: MQTT in WebSocket in TLS.
func TestWSS(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	g := newGateway(t, withTLS(p.options))
	nc, err := dialTLS(t, g, "wss", p.config())
	if err != nil {
		t.Fatal(err)
	}
	from, _ := upgrade(t, nc, "/mqtt", "Sec-WebSocket-Protocol: mqtt")
	send := func(packet protocol.Packet) {
		b, err := protocol.AppendPacket(nil, packet, protocol.V5)
		if err != nil {
			t.Fatal(err)
		}
		nc.Write(frame(frameBinary, b))
	}
	expect := func(kind protocol.Type) {
		t.Helper()
		if first, b, err := readFrame(from); err != nil || first != frameBinary || protocol.Type(b[0]>>4) != kind {
			t.Fatalf("frame %x %x, %v; want one with %v", first, b, err, kind)
		}
	}
	send(connectPacket("c"))
	expect(protocol.CONNACK)
	send(subscribePacket(1, 0, "a"))
	expect(protocol.SUBACK)
	send(publish("a", strings.Repeat("x", 40_000), 0, 0))
	expect(protocol.PUBLISH)
	send(&protocol.Disconnect{})
	eventually(t, "gone", func() bool { return g.Stats().Connections == 0 })
}

// TestForwardedFor: who stands behind X-Forwarded-For, and when it is believed.
func TestForwardedFor(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, tt := range []struct {
		name, peer string
		headers    []string
		want       string
	}{
		{"no header", "10.0.0.1:99", nil, "10.0.0.1:99"},
		{"one proxy", "10.0.0.1:99", []string{"192.0.2.7"}, "192.0.2.7:0"},
		{"untrusted peer", "192.0.2.1:99", []string{"198.51.100.1"}, "192.0.2.1:99"},
		{"peer that maps to IPv6", "[::ffff:10.0.0.1]:99", []string{"192.0.2.7"}, "192.0.2.7:0"},
		{"invented by the client", "10.0.0.1:99", []string{"198.51.100.1, 192.0.2.7"}, "192.0.2.7:0"},
		{"two proxies", "10.0.0.1:99", []string{"198.51.100.1, 192.0.2.7, 10.0.0.2"}, "192.0.2.7:0"},
		{"two headers", "10.0.0.1:99", []string{"198.51.100.1, 192.0.2.7", "10.0.0.2"}, "192.0.2.7:0"},
		{"proxies only", "10.0.0.1:99", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3:0"},
		{"with port", "10.0.0.1:99", []string{"192.0.2.7:1234"}, "192.0.2.7:0"},
		{"IPv6", "[fd00::1]:99", []string{"2001:db8::7"}, "[2001:db8::7]:0"},
		{"nonsense", "10.0.0.1:99", []string{"192.0.2.7, unknown"}, "10.0.0.1:99"},
		{"empty", "10.0.0.1:99", []string{""}, "10.0.0.1:99"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			remote := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(tt.peer))
			if got := forwardedFor(proxies, remote, tt.headers).String(); got != remote.String() && got != tt.want || (got == remote.String()) != (tt.want == tt.peer) {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
	unix := &net.UnixAddr{Name: "@", Net: "unix"}
	if got := forwardedFor(proxies, unix, []string{"192.0.2.7"}); got != net.Addr(unix) {
		t.Errorf("on a unix socket %v", got)
	}
}

// TestForwardedForReaches: the authenticator sees the client behind a trusted
// proxy, and the proxy where it is not trusted.
func TestForwardedForReaches(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		proxies []netip.Prefix
		want    string
	}{
		{[]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, "192.0.2.7:0"},
		{nil, "127.0.0.1:"},
	} {
		seen := make(chan string, 1)
		g := newGateway(t, func(o *Options) {
			o.TrustedProxies = tt.proxies
			o.Listeners = []Listener{{Name: "ws", Address: "127.0.0.1:0", WebSocketPaths: []string{"/mqtt"}}}
			o.Authenticator = AuthenticatorFunc(func(_ context.Context, r *ConnectRequest) (Identity, error) {
				seen <- r.Client.Remote.String()
				return Identity{}, nil
			})
		})
		nc, _, _ := request(t, g.Addr("ws").String(), "/mqtt", "X-Forwarded-For: 192.0.2.7")
		b, _ := protocol.AppendPacket(nil, connectPacket("c"), protocol.V5)
		nc.Write(frame(frameBinary, b))
		if got := <-seen; !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s, want %s", got, tt.want)
		}
	}
}

// TestF37SlowArrivals: whatever a client is slow at, be it the handshake, the
// upgrade or CONNECT, it is cut off at one moment counted from accept, sending
// a byte now and then does not move it, and nothing is left behind.
func TestF37SlowArrivals(t *testing.T) {
	t.Parallel()
	const limit = 300 * time.Millisecond
	p := newPKI(t)
	g := newGateway(t, withTLS(p.options), func(o *Options) {
		o.Timing.Connect = limit
		o.Listeners = append(o.Listeners, Listener{Name: "tcp", Address: "127.0.0.1:0"},
			Listener{Name: "ws", Address: "127.0.0.1:0", WebSocketPaths: []string{"/mqtt"}})
	})
	hello := clientHello(t, p.config())
	connect, _ := protocol.AppendPacket(nil, connectPacket("c"), protocol.V5)
	upgrade := []byte("GET /mqtt HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: MDEyMzQ1Njc4OTAxMjM0NQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n")
	upgraded := append(append([]byte(nil), upgrade...), frame(frameBinary, connect)...)
	for _, tt := range []struct {
		name, listener string
		secure         bool   // after a handshake that is not slow
		quick          int    // bytes sent at once
		slow           []byte // of which the last one never comes
	}{
		{"silence", "tcp", false, 0, nil},
		{"CONNECT", "tcp", false, 0, connect},
		{"silence at TLS", "tls", false, 0, nil},
		{"TLS hello", "tls", false, 0, hello},
		{"no answer to the TLS hello", "tls", false, len(hello), hello},
		{"silence in TLS", "tls", true, 0, nil},
		{"CONNECT in TLS", "tls", true, 0, connect},
		{"silence at WebSocket", "ws", false, 0, nil},
		{"upgrade", "ws", false, 0, upgrade},
		{"silence after the upgrade", "ws", false, len(upgrade), upgrade},
		{"CONNECT after the upgrade", "ws", false, len(upgrade), upgraded},
		{"TLS hello at WebSocket", "wss", false, 0, hello},
		{"upgrade in TLS", "wss", true, 0, upgrade},
		{"CONNECT after the upgrade in TLS", "wss", true, len(upgrade), upgraded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now() // before accept
			nc, err := net.Dial("tcp", g.Addr(tt.listener).String())
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if tt.secure {
				config := p.config()
				config.ServerName = "127.0.0.1"
				nc = tls.Client(nc, config)
			}
			over := make(chan time.Duration, 1)
			if len(tt.slow) > 0 {
				nc.Write(tt.slow[:tt.quick])
			}
			go func() { // ends when the gateway has closed
				io.Copy(io.Discard, nc)
				over <- time.Since(start)
			}()
			for i := tt.quick; ; i++ {
				select {
				case took := <-over:
					if took < limit {
						t.Errorf("cut off after %v, the limit is %v", took, limit)
					}
					return
				case <-time.After(limit / 20):
					if i < len(tt.slow)-1 {
						nc.Write(tt.slow[i : i+1])
					}
				}
				if time.Since(start) > patience {
					t.Fatal("never cut off")
				}
			}
		})
	}
	eventually(t, "nothing is left", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.arrivals)+len(g.conns)+len(g.handshakes) == 0
	})
	// The other handshakes may take too long as well, on a busy machine.
	if n := g.Stats().Refused[RefusedTLS]; n < 4 {
		t.Errorf("%d handshakes counted as failed, want 4", n)
	}
}

// TestArrivalsEnd: Shutdown does not wait for those that have not got as far
// as MQTT.
func TestArrivalsEnd(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	g := newGateway(t, withTLS(p.options), func(o *Options) { o.Timing.Connect = time.Hour })
	for _, listener := range []string{"tls", "wss"} {
		nc, err := net.Dial("tcp", g.Addr(listener).String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
	}
	half, err := dialTLS(t, g, "wss", p.config())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(half, "GET /mqtt HTTP/1.1\r\n")
	eventually(t, "arrived", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.arrivals) == 3
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := g.Shutdown(ctx); err != nil || ctx.Err() != nil {
		t.Errorf("%v, %v", err, ctx.Err())
	}
	eventually(t, "none is left", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.arrivals) == 0
	})
}
