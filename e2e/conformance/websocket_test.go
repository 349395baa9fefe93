package conformance

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// frames opens a WebSocket to play with its frames.
func frames(t *testing.T) (*wire.Client, *wire.WebSocket) {
	t.Helper()
	c := dialWS(t)
	return c, c.Conn().(*wire.WebSocket)
}

// coversBoth says that the running test proves statements which have the same
// identifier in both standards: chapter 6 did not change.
func coversBoth(t *testing.T, ids ...string) {
	t.Helper()
	covers(t, "3.1.1", ids...)
	covers(t, "5.0", ids...)
}

// [MQTT-6.0.0-2]: packets may begin and end anywhere in frames and in
// fragmented messages.
func TestWebSocketBorders(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-7.1.1-1")
	coversBoth(t, "MQTT-6.0.0-2", "MQTT-6.0.0-3", "MQTT-6.0.0-4")
	// stream is what each connection sends, as a client of its own.
	stream := func(v wire.Version) (all []byte) {
		topic := unique("t")
		for _, p := range []wire.Packet{clean3(v), wire.Sub(1, topic, 1), wire.Publish{Topic: topic, Payload: strings.Repeat("x", 300)}} {
			all = append(all, wire.Encode(p, v)...)
		}
		return all
	}
	const last = 0x80
	tests := []struct {
		name string
		send func(ws *wire.WebSocket, stream []byte)
	}{
		{"all in one frame", func(ws *wire.WebSocket, stream []byte) { ws.WriteFrame(last|wire.WSBinary, stream) }},
		{"a byte a frame", func(ws *wire.WebSocket, stream []byte) {
			for i := range stream {
				ws.WriteFrame(last|wire.WSBinary, stream[i:i+1])
			}
		}},
		{"a fragmented message", func(ws *wire.WebSocket, stream []byte) {
			ws.WriteFrame(wire.WSBinary, stream[:5])
			ws.WriteFrame(wire.WSContinuation, stream[5:70])
			ws.WriteFrame(last|wire.WSContinuation, stream[70:])
		}},
		{"with control and empty frames between", func(ws *wire.WebSocket, stream []byte) {
			ws.WriteFrame(last|wire.WSPing, []byte("a"))
			ws.WriteFrame(last|wire.WSBinary, nil)
			ws.WriteFrame(wire.WSBinary, stream[:5])
			ws.WriteFrame(last|wire.WSPing, []byte("b"))
			ws.WriteFrame(last|wire.WSContinuation, stream[5:])
			ws.WriteFrame(last|wire.WSPong, nil)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, v := range []wire.Version{wire.V31, wire.V311, wire.V5} {
				c, ws := frames(t)
				c.Speak(v)
				tt.send(ws, stream(v))
				wire.Next[wire.Connack](c)
				c.Expect(wire.Suback{ID: 1, Codes: []byte{1}})
				if got := c.Receive(); len(got.Payload) != 300 {
					t.Errorf("got %+v", got)
				}
				c.Send(wire.Disconnect{})
				c.ExpectClosed()
			}
		})
	}
}

// [MQTT-6.0.0-1]: text, and what breaks RFC 6455, ends the connection at once.
func TestWebSocketBadFrames(t *testing.T) {
	t.Parallel()
	coversBoth(t, "MQTT-6.0.0-1")
	const last = 0x80
	tests := []struct {
		name string
		send func(ws *wire.WebSocket)
	}{
		{"text", func(ws *wire.WebSocket) { ws.WriteFrame(last|wire.WSText, wire.Encode(wire.Pingreq{}, wire.V311)) }},
		{"fragmented text", func(ws *wire.WebSocket) { ws.WriteFrame(wire.WSText, []byte("x")) }},
		{"reserved type", func(ws *wire.WebSocket) { ws.WriteFrame(last|0x3, []byte("x")) }},
		{"reserved bit", func(ws *wire.WebSocket) {
			ws.WriteFrame(last|0x40|wire.WSBinary, wire.Encode(wire.Pingreq{}, wire.V311))
		}},
		{"continuation of nothing", func(ws *wire.WebSocket) { ws.WriteFrame(last|wire.WSContinuation, []byte{0xc0}) }},
		{"fragmented ping", func(ws *wire.WebSocket) { ws.WriteFrame(wire.WSPing, nil) }},
		{"ping of 126 bytes", func(ws *wire.WebSocket) { ws.WriteFrame(last|wire.WSPing, make([]byte, 126)) }},
		{"not masked", func(ws *wire.WebSocket) { ws.Conn.Write([]byte{last | wire.WSBinary, 2, 0xc0, 0}) }},
		{"length with the top bit", func(ws *wire.WebSocket) {
			ws.Conn.Write(append([]byte{last | wire.WSBinary, 0xff, 0x80}, make([]byte, 7+4)...))
		}},
		{"close", func(ws *wire.WebSocket) { ws.WriteFrame(last|wire.WSClose, []byte{0x03, 0xe8}) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, ws := frames(t)
			c.Connect(clean3(wire.V311))
			start := time.Now()
			tt.send(ws)
			c.ExpectClosed()
			// The answer to a close frame may be waited for, not longer.
			ws.SetReadDeadline(time.Now().Add(wire.Timeout))
			if _, err := io.Copy(io.Discard, ws.Conn); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("the TCP connection stays open: %v", err)
			}
			if d := time.Since(start); d > 4*time.Second {
				t.Errorf("closed after %v", d)
			}
		})
	}
}

// A ping is answered; a will goes out when the WebSocket ends.
func TestWebSocketPingAndWill(t *testing.T) {
	t.Parallel()
	topic := unique("t")
	sub := join3(t, wire.V311)
	sub.Subscribe(topic, 1)
	c, ws := frames(t)
	p := clean3(wire.V311)
	p.Will = &wire.Will{Topic: topic, Payload: "gone"}
	c.Connect(p)
	ws.WriteFrame(0x80|wire.WSPing, []byte("are you there"))
	c.Ping()
	if ws.Pongs != 1 {
		t.Errorf("%d pongs", ws.Pongs)
	}
	c.Drop()
	sub.Expect(wire.Publish{Topic: topic, Payload: "gone"})
}

// [MQTT-6.0.0-3], [MQTT-6.0.0-4]: the subprotocol is mqtt; who does not offer
// it is not upgraded. Compression is not taken: it costs memory for each
// connection and lets a client send bombs.
func TestWebSocketUpgrade(t *testing.T) {
	t.Parallel()
	coversBoth(t, "MQTT-6.0.0-3", "MQTT-6.0.0-4")
	const name = "Sec-Websocket-Protocol"
	tests := []struct {
		what     string
		header   http.Header
		upgraded bool
	}{
		{"mqtt", http.Header{name: {"mqtt"}}, true},
		{"mqtt among others", http.Header{name: {"chat, mqtt", "other"}}, true},
		{"mqtt in another line", http.Header{name: {"chat", "mqtt"}}, true},
		{"a page from elsewhere", http.Header{name: {"mqtt"}, "Origin": {"https://example.org"}}, true},
		{"compression offered", http.Header{name: {"mqtt"}, "Sec-Websocket-Extensions": {"permessage-deflate; client_max_window_bits"}}, true},
		{"another subprotocol", http.Header{name: {"chat"}}, false},
		{"another version", http.Header{name: {"mqtt"}, "Sec-Websocket-Version": {"12"}}, false},
		{"no key", http.Header{name: {"mqtt"}, "Sec-Websocket-Key": {""}}, false},
		{"64 KiB of header", http.Header{name: {"mqtt"}, "X-Long": {strings.Repeat("x", 64<<10)}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			ws, resp, err := wire.OpenWS(harness.Shared(t).AnyWS(t), tt.header)
			if err != nil {
				t.Fatal(err)
			}
			if !tt.upgraded {
				if resp.StatusCode < 400 || resp.StatusCode > 499 {
					t.Errorf("status %s", resp.Status)
				}
				return
			}
			if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get(name) != "mqtt" || resp.Header.Get("Sec-Websocket-Extensions") != "" {
				t.Fatalf("%s %v", resp.Status, resp.Header)
			}
			wire.New(t, ws).Connect(clean3(wire.V311)).Ping()
		})
	}
}

// Who offers no subprotocol at all may be let in, but then none is selected.
func TestWebSocketNoSubprotocol(t *testing.T) {
	t.Parallel()
	ws, resp, err := wire.OpenWS(harness.Shared(t).AnyWS(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if ws == nil {
		if resp.StatusCode < 400 || resp.StatusCode > 499 {
			t.Errorf("status %s", resp.Status)
		}
		return
	}
	if got := resp.Header.Get("Sec-Websocket-Protocol"); got != "" {
		t.Errorf("selected %q", got)
	}
	wire.New(t, ws).Connect(clean3(wire.V311)).Ping()
}

// What is not an upgrade, or is for another path, is answered like HTTP.
func TestWebSocketPlainHTTP(t *testing.T) {
	t.Parallel()
	url := "http" + strings.TrimPrefix(harness.Shared(t).AnyWS(t), "ws")
	for _, u := range []string{url, url + "/elsewhere"} {
		resp, err := http.Get(u)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode < 400 || resp.StatusCode > 499 {
			t.Errorf("%s: %s", u, resp.Status)
		}
	}
}

// Frames without MQTT in them are no sign of life [MQTT-3.1.2-24].
func TestWebSocketFlood(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]byte{"pings": 0x80 | wire.WSPing, "pongs": 0x80 | wire.WSPong, "empty frames": 0x80 | wire.WSBinary} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, ws := frames(t)
			p := clean3(wire.V311)
			p.KeepAlive = 1
			start := time.Now()
			c.Connect(p)
			closed := make(chan error, 1)
			go func() { // ends with the connection
				_, err := io.Copy(io.Discard, ws)
				closed <- err
			}()
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					ws.WriteFrame(kind, nil)
					if time.Since(start) < 15*time.Second {
						continue
					}
					t.Fatal("still open")
				case <-closed:
				}
				break
			}
			if d := time.Since(start); d < 1500*time.Millisecond {
				t.Errorf("closed after %v", d)
			}
		})
	}
}
