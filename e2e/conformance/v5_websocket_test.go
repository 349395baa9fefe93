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

// What works over TCP works over WebSocket, and the two hear each other.
func TestV5WebSocket(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-6.0.0-1", "MQTT-6.0.0-4", "MQTT-4.2.0-1")
	topic := unique("t")
	sub := dialWS(t).Connect(clean(unique("c")))
	sub.Subscribe(topic, 2)
	for qos := range byte(3) {
		join(t).PublishPacket(message(topic, qos, long(70_000), forwarded()...))
		sameForwarded(t, receives(t, sub, long(70_000)))
		sub.Publish(topic, qos, "own")
		receives(t, sub, "own")
	}
	sub.Disconnect()
}

// Pings and empty frames are no MQTT packets: they keep no connection alive.
func TestV5WebSocketFlood(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.2-22")
	for name, frame := range map[string]byte{"pings": 0x80 | wire.WSPing, "empty frames": 0x80 | wire.WSBinary, "endless fragments": wire.WSContinuation} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := clean(unique("c"))
			p.KeepAlive = 1
			c, ws := frames(t)
			c.Connect(p)
			if frame == wire.WSContinuation {
				ws.WriteFrame(wire.WSBinary, nil)
			}
			done := make(chan struct{})
			go func() { // ends with the connection
				defer close(done)
				io.Copy(io.Discard, c.Conn())
			}()
			start, tick := time.Now(), time.NewTicker(10*time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-done:
					if d := time.Since(start); d < time.Second {
						t.Errorf("closed after %v, want 1.5 s", d)
					}
					return
				case <-tick.C:
					if time.Since(start) > 15*time.Second {
						t.Fatal("the connection is still there after 15 s with keep alive 1")
					}
					ws.WriteFrame(frame, nil) // fails when it is closed, which done tells
				}
			}
		})
	}
}

// Another path than that of MQTT has no WebSocket.
func TestV5WebSocketPath(t *testing.T) {
	t.Parallel()
	url := harness.Shared(t).AnyWS(t)
	ws, resp, err := wire.OpenWS(strings.TrimSuffix(url, "/mqtt")+"/other", http.Header{"Sec-Websocket-Protocol": {"mqtt"}})
	if err != nil {
		t.Fatal(err)
	}
	if ws != nil {
		ws.Close()
	}
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("%s, want 404", resp.Status)
	}
}

// Pages of origins that are not allowed get no connection, others do, and so
// do clients that are no page.
func TestV5WebSocketOrigin(t *testing.T) {
	t.Parallel()
	g := harness.Start(t, "MQTT_WS_ORIGINS=https://app.example.com")
	for origin, status := range map[string]int{"": 101, "https://app.example.com": 101, "https://evil.example.com": 403, "http://app.example.com": 403, "null": 403} {
		header := http.Header{"Sec-Websocket-Protocol": {"mqtt"}}
		if origin != "" {
			header.Set("Origin", origin)
		}
		ws, resp, err := wire.OpenWS(g.AnyWS(t), header)
		if err != nil {
			t.Fatal(err)
		}
		if ws != nil {
			ws.Close()
		}
		if resp.StatusCode != status {
			t.Errorf("origin %q: %s, want %d", origin, resp.Status, status)
		}
	}
}
