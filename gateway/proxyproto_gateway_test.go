package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/protocol"
)

// behindBalancer is a gateway with a listener of each kind that trusts
// 127.0.0.1; seen gets the request of each client that was let in.
func behindBalancer(t *testing.T, change ...func(*Options)) (g *Gateway, p *pki, seen chan *ConnectRequest, log *lines) {
	t.Helper()
	p, log, seen = newPKI(t), &lines{}, make(chan *ConnectRequest, 1)
	all := append([]func(*Options){withTLS(p.options), func(o *Options) {
		o.Listeners = append(o.Listeners, Listener{Name: "tcp", Address: "127.0.0.1:0"},
			Listener{Name: "ws", Address: "127.0.0.1:0", WebSocketPaths: []string{"/mqtt"}})
		o.Logger = log.logger()
		o.ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
		o.Authenticator = AuthenticatorFunc(func(_ context.Context, r *ConnectRequest) (Identity, error) {
			seen <- r
			return Identity{}, nil
		})
	}}, change...)
	return newGateway(t, all...), p, seen, log
}

// dialFrom connects from one of this machine's own addresses.
func dialFrom(t *testing.T, from string, g *Gateway, listener string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	nc, err := d.Dial("tcp", g.Addr(listener).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(patience))
	return nc
}

const upgradeRequest = "GET /mqtt HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
	"Sec-WebSocket-Key: MDEyMzQ1Njc4OTAxMjM0NQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"

// TestF50ProxyProtocol: what a balancer says of its client counts, over every
// transport, and only where the balancer is trusted, which must say it.
func TestF50ProxyProtocol(t *testing.T) {
	t.Parallel()
	g, p, seen, log := behindBalancer(t)
	v1 := []byte("PROXY TCP4 192.0.2.7 192.0.2.1 50000 1883\r\n")
	v2 := v2Header(v2Proxy, v2TCP6, append(bytes.Clone(v6Block), 0x02, 0, 4, 'a', '\r', '\n', 0x1b))
	connect, _ := protocol.AppendPacket(nil, connectPacket("c"), protocol.V5)
	for _, tt := range []struct {
		name, from string
		header     []byte
		want       string // address that is seen, or its beginning; empty: cut off
	}{
		{"version 1", "127.0.0.1", v1, "192.0.2.7:50000"},
		{"version 2, control bytes in a TLV", "127.0.0.1", v2, "[2001:db8::7]:50000"},
		{"local", "127.0.0.1", v2Header(v2Local, 0, nil), "127.0.0.1:"},
		{"unknown", "127.0.0.1", []byte("PROXY UNKNOWN\r\n"), "127.0.0.1:"},
		{"missing", "127.0.0.1", nil, ""},
		{"too long", "127.0.0.1", v2Header(v2Proxy, v2TCP6, make([]byte, 5000)), ""},
		{"wrong", "127.0.0.1", []byte("PROXY TCP4 192.0.2.7\r\n"), ""},
		{"untrusted", "127.0.0.2", v1, ""},
		{"untrusted, version 2", "127.0.0.2", v2, ""},
		{"untrusted without header", "127.0.0.2", nil, "127.0.0.2:"},
	} {
		for _, listener := range []string{"tcp", "tls", "ws", "wss"} {
			t.Run(tt.name+"/"+listener, func(t *testing.T) {
				nc := dialFrom(t, tt.from, g, listener)
				nc.Write(tt.header)
				if listener == "tls" || listener == "wss" {
					config := p.config()
					config.ServerName = "127.0.0.1"
					nc = tls.Client(nc, config)
				}
				first := connect
				if strings.HasPrefix(listener, "ws") {
					first = append([]byte(upgradeRequest), frame(frameBinary, connect)...)
				}
				nc.Write(first)
				if tt.want == "" {
					// To garbage an HTTP server has an answer.
					answer, _ := io.ReadAll(nc)
					if len(answer) > 0 && !bytes.HasPrefix(answer, []byte("HTTP/1.1 400")) {
						t.Errorf("answer %q", answer)
					}
					return
				}
				var r *ConnectRequest
				select {
				case r = <-seen:
				case <-time.After(patience):
					t.Fatal("it never reached the authenticator")
				}
				if got := r.Client.Remote.String(); !strings.HasPrefix(got, tt.want) {
					t.Errorf("address %s, want %s", got, tt.want)
				}
				if _, ok := r.Conn.(*net.TCPConn); listener == "tcp" && !ok {
					t.Errorf("served through %T: it costs every connection something", r.Conn)
				}
				nc.Close()
			})
		}
	}
	eventually(t, "gone", func() bool { return g.Stats().Connections == 0 })
	if n := g.Stats().Refused[RefusedProxy]; n != 3*4 {
		t.Errorf("%d counted as refused, want 12", n)
	}
	for text, want := range map[string]int{
		"no PROXY header that could be used": 3 * 4, `err="no PROXY header"`: 4, "PROXY header is too long": 4,
		"PROXY header from an address that is not trusted": 2, // WebSocket and TLS have their own words
	} {
		if n := log.count(text); n != want {
			t.Errorf("%q is logged %d times, want %d", text, n, want)
		}
	}
	if n := log.count(`remote=192.0.2.7:50000 listener=tcp`); n < 1 {
		t.Error("the address is not in the log")
	}
}

// TestProxyProtocolSlow: a header that does not come in time ends the
// connection, though CONNECT would have more time; and one whose sender only
// looks whether the port is open is no news.
func TestProxyProtocolSlow(t *testing.T) {
	t.Parallel()
	g, _, _, log := behindBalancer(t, func(o *Options) { o.Timing.Connect = 2 * time.Second })
	dialFrom(t, "127.0.0.1", g, "tcp").Close()
	nc := dialFrom(t, "127.0.0.1", g, "tcp")
	nc.Write([]byte("PROXY TCP4 192.0"))
	if _, err := nc.Read(make([]byte, 1)); err == nil {
		t.Error("answered")
	}
	eventually(t, "two refusals", func() bool { return g.Stats().Refused[RefusedProxy] == 2 })
	eventually(t, "one line", func() bool { return log.count("no PROXY header that could be used") == 1 })

	server, client := net.Pipe()
	defer client.Close()
	a := &arrival{nc: deadlines{server, make(chan time.Time, 2)}, deadline: time.Now().Add(time.Hour)}
	go client.Write([]byte("PROXY UNKNOWN\r\n"))
	if err := a.readProxyHeader(); err != nil {
		t.Fatal(err)
	}
	set := a.nc.(deadlines).set
	if d := time.Until(<-set); d > proxyWait || d < proxyWait-patience {
		t.Errorf("it waits for %v, want %v", d, proxyWait)
	}
	if d := <-set; d != a.deadline {
		t.Errorf("after the header the deadline is %v, want %v", d, a.deadline)
	}
}

// deadlines notes the deadlines of a connection.
type deadlines struct {
	net.Conn
	set chan time.Time
}

func (d deadlines) SetReadDeadline(t time.Time) error {
	d.set <- t
	return d.Conn.SetReadDeadline(t)
}
