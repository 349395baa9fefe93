package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

func TestWebSocketUpgrade(t *testing.T) {
	tests := []struct {
		name           string
		paths, origins []string
		path           string
		headers        []string
		status         int
		subprotocol    string
	}{
		{name: "mqtt [MQTT-6.0.0-4]", headers: []string{"Sec-WebSocket-Protocol: mqtt"}, status: 101, subprotocol: "mqtt"},
		{name: "mqtt among others", headers: []string{"Sec-WebSocket-Protocol: soap, mqttv3.1, mqtt"}, status: 101, subprotocol: "mqtt"},
		{name: "in two headers", headers: []string{"Sec-WebSocket-Protocol: soap", "Sec-WebSocket-Protocol: mqtt"}, status: 101, subprotocol: "mqtt"},
		{name: "of MQTT 3.1", headers: []string{"Sec-WebSocket-Protocol: mqttv3.1"}, status: 101, subprotocol: "mqttv3.1"},
		{name: "no subprotocol", status: 101},
		{name: "another one only [MQTT-6.0.0-3]", headers: []string{"Sec-WebSocket-Protocol: soap, amqp"}, status: 400},
		{name: "compression is not negotiated", headers: []string{"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"}, status: 101},
		{name: "another path", path: "/", status: 404},
		{name: "path below", path: "/mqtt/x", status: 404},
		{name: "query", path: "/mqtt?token=1", status: 101},
		{name: "any path", paths: []string{"*"}, path: "/ws/any", status: 101},
		{name: "second path", paths: []string{"/mqtt", "/ws"}, path: "/ws", status: 101},
		{name: "any origin", headers: []string{"Origin: https://evil.example"}, status: 101},
		{name: "no origin", origins: []string{"https://a.example"}, status: 101},
		{name: "its origin", origins: []string{"https://a.example"}, headers: []string{"Origin: https://A.example"}, status: 101},
		{name: "foreign origin", origins: []string{"https://a.example"}, headers: []string{"Origin: https://b.example"}, status: 403},
		{name: "null origin", origins: []string{"https://a.example"}, headers: []string{"Origin: null"}, status: 403},
		{name: "other scheme", origins: []string{"https://a.example"}, headers: []string{"Origin: http://a.example"}, status: 403},
		{name: "other port", origins: []string{"https://a.example"}, headers: []string{"Origin: https://a.example:81"}, status: 403},
		{name: "its host", origins: []string{"a.example"}, headers: []string{"Origin: http://a.example"}, status: 101},
		{name: "host that contains it", origins: []string{"a.example"}, headers: []string{"Origin: http://a.example.evil"}, status: 403},
		{name: "wildcard", origins: []string{"https://*.a.example"}, headers: []string{"Origin: https://x.a.example"}, status: 101},
		{name: "wildcard is not the bare host", origins: []string{"https://*.a.example"}, headers: []string{"Origin: https://a.example"}, status: 403},
		{name: "any by star", origins: []string{"*"}, headers: []string{"Origin: https://b.example"}, status: 101},
		{name: "64 KiB of headers", headers: []string{"X: " + strings.Repeat("x", 64<<10)}, status: 431},
		{name: "many headers", headers: strings.Split(strings.Repeat("X: 0123456789,", 4000), ","), status: 431},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.paths == nil {
				test.paths = []string{"/mqtt"}
			}
			if test.path == "" {
				test.path = "/mqtt"
			}
			address := startWebSocket(t, test.paths, test.origins, func(net.Conn) {})
			_, _, answer := request(t, address, test.path, test.headers...)
			if answer.StatusCode != test.status {
				t.Errorf("status %d, want %d", answer.StatusCode, test.status)
			}
			if got := answer.Header.Get("Sec-WebSocket-Protocol"); got != test.subprotocol {
				t.Errorf("subprotocol %q, want %q", got, test.subprotocol)
			}
			if got := answer.Header.Get("Sec-WebSocket-Extensions"); got != "" {
				t.Errorf("extensions %q, want none", got)
			}
			if up := answer.Header.Get("Upgrade"); (up != "") != (test.status == 101) {
				t.Errorf("Upgrade %q with status %d", up, answer.StatusCode)
			}
		})
	}
}

// TestWebSocketStream sends the same bytes in many shapes [MQTT-6.0.0-2].
func TestWebSocketStream(t *testing.T) {
	want := make([]byte, 3000)
	for i := range want {
		want[i] = byte(i * 7)
	}
	large := bytes.Repeat(want, 100)
	join := func(frames ...[]byte) []byte { return bytes.Join(frames, nil) }
	single := func(size int) []byte {
		var b []byte
		for i := 0; i < len(want); i += size {
			b = append(b, frame(frameBinary, want[i:min(i+size, len(want))])...)
		}
		return b
	}
	tests := []struct {
		name string
		wire []byte
		want []byte
	}{
		{"one frame", frame(frameBinary, want), want},
		{"length in 64 bits", frame(frameBinary, large), large},
		{"a frame a byte", single(1), want},
		{"frames of 31", single(31), want},
		{"frames of 126", single(126), want},
		{"fragments", join(frame(frameOpen, want[:10]), frame(frameContinue, want[10:2000]), frame(frameLast, want[2000:])), want},
		{"ping between fragments", join(frame(frameOpen, want[:10]), frame(framePing, []byte("x")), frame(frameLast, want[10:])), want},
		{"empty frames", join(frame(frameBinary, nil), frame(frameBinary, want[:9]), frame(frameBinary, nil), frame(frameBinary, want[9:])), want},
		{"empty fragments", join(frame(frameOpen, nil), frame(frameContinue, nil), frame(frameContinue, want), frame(frameLast, nil)), want},
		{"unasked pong", join(frame(framePong, []byte("x")), frame(frameBinary, want)), want},
	}
	for _, test := range tests {
		for _, chunk := range []int{1 << 30, 1000, 33, 7} {
			if chunk < 1000 && len(test.wire) > 100_000 {
				continue // A system call each: nothing new for its time.
			}
			t.Run(fmt.Sprintf("%s in pieces of %d", test.name, chunk), func(t *testing.T) {
				client, _, server := openWebSocket(t)
				written := make(chan struct{})
				go func() {
					defer close(written)
					for b := test.wire; len(b) > 0; {
						n := min(chunk, len(b))
						client.Write(b[:n])
						b = b[n:]
					}
				}()
				got := make([]byte, len(test.want))
				if _, err := io.ReadFull(server, got); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, test.want) {
					t.Fatal("other bytes arrived")
				}
				<-written // Empty frames may still be on their way.
				client.Write(frame(frameClose, []byte{0x03, 0xE8}))
				if n, err := server.Read(got); n != 0 || err != io.EOF {
					t.Fatalf("after the close frame: %d, %v, want EOF", n, err)
				}
			})
		}
	}
}

// TestWebSocketHalfRequest: who does not finish a request within the time to
// connect is cut off.
func TestWebSocketHalfRequest(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := webSocketServer([]string{"*"}, nil, 50*time.Millisecond, slog.New(slog.DiscardHandler), func(_ *http.Request, c net.Conn) { c.Close() })
	go s.Serve(l) // Ends with Close.
	defer s.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: ")
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("%v, want the connection closed", err)
	}
}

// TestWebSocketWithRequest: a client may send its first frame before it has
// seen the answer to its request.
func TestWebSocketWithRequest(t *testing.T) {
	got := make(chan string, 1)
	address := startWebSocket(t, []string{"*"}, nil, func(c net.Conn) {
		b := make([]byte, 5)
		io.ReadFull(c, b)
		got <- string(b)
	})
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OTAxMjM0NQ==\r\n\r\n%s", frame(frameBinary, []byte("hello")))
	if s := <-got; s != "hello" {
		t.Errorf("got %q", s)
	}
}

// TestWebSocketPartOfFrame: what has arrived of a frame that will never be
// complete can be read.
func TestWebSocketPartOfFrame(t *testing.T) {
	client, _, server := openWebSocket(t)
	huge := []byte{frameBinary, 0x80 | 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0} // 2^40 bytes, mask 0
	client.Write(huge)
	b := make([]byte, 4096)
	for _, packet := range []string{"\xc0\x00", strings.Repeat("x", 500), "\xc0\x00"} {
		io.WriteString(client, packet)
		got := 0
		for got < len(packet) { // Each Read has room for more than will come.
			server.SetReadDeadline(time.Now().Add(10 * time.Second))
			n, err := server.Read(b[got:])
			if err != nil {
				t.Fatalf("%v after %d bytes of %d", err, got, len(packet))
			}
			got += n
		}
		if string(b[:got]) != packet {
			t.Fatalf("%q, want %q", b[:got], packet)
		}
	}
}

// notWaited is less than the patience with a peer, and more than a busy machine needs.
const notWaited = webSocketPatience / 2

func TestWebSocketIllegalFrames(t *testing.T) {
	tests := []struct {
		name string
		wire []byte
		code []byte // of the close frame that comes back; nil: none has to
		err  error
	}{
		{"text [MQTT-6.0.0-1]", frame(frameText, []byte("hello")), []byte{0x03, 0xEB}, errTextFrame},
		{"text with nothing", frame(frameText, nil), []byte{0x03, 0xEB}, errTextFrame},
		{"first part of text", frame(0x01, []byte("hello")), []byte{0x03, 0xEB}, errTextFrame},
		{"2^63 bytes", []byte{frameBinary, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, nil, nil},
		{"not masked", []byte{frameBinary, 2, 'h', 'i'}, nil, nil},
		{"reserved bit", frame(frameBinary|0x40, []byte("hello")), []byte{0x03, 0xEA}, nil},
		{"unknown opcode", frame(0x83, []byte("hello")), []byte{0x03, 0xEA}, nil},
		{"continues nothing", frame(frameLast, []byte("hello")), []byte{0x03, 0xEA}, nil},
		{"ping of 126 bytes", frame(framePing, make([]byte, 126)), []byte{0x03, 0xEA}, nil},
		{"ping in parts", frame(framePing&^0x80, nil), []byte{0x03, 0xEA}, nil},
		{"message in a message", append(frame(frameOpen, nil), frame(frameBinary, nil)...), []byte{0x03, 0xEA}, nil},
		{"close with half a status", frame(frameClose, []byte{3}), []byte{0x03, 0xEA}, nil},
		{"close with a status that is none", frame(frameClose, []byte{0x03, 0xED}), []byte{0x03, 0xEA}, nil},
		{"close with a bad reason", frame(frameClose, []byte{0x03, 0xE8, 0xFF}), []byte{0x03, 0xEF}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			client, from, server := openWebSocket(t)
			client.Write(test.wire)
			start := time.Now()
			n, err := server.Read(make([]byte, 100))
			if n != 0 || err == nil || err == io.EOF {
				t.Fatalf("Read: %d, %v, want an error", n, err)
			}
			if test.err != nil && !errors.Is(err, test.err) {
				t.Errorf("Read: %v, want %v", err, test.err)
			}
			server.Close()
			if d := time.Since(start); d > notWaited {
				t.Errorf("closed after %v, must not wait for the peer", d)
			}
			if test.code == nil {
				return
			}
			first, reason, err := readFrame(from)
			if err != nil || first != frameClose || !bytes.HasPrefix(reason, test.code) {
				t.Errorf("answer %#x %x, %v, want close %x", first, reason, err, test.code)
			}
		})
	}
}

// TestWebSocketTextFromDeaf: a peer that does not take the answer holds nobody
// up.
func TestWebSocketTextFromDeaf(t *testing.T) {
	client, _, server := openWebSocket(t)
	fillSocket(t, server)
	client.Write(frame(frameText, []byte("hello")))
	start := time.Now()
	if _, err := server.Read(make([]byte, 10)); !errors.Is(err, errTextFrame) {
		t.Fatal(err)
	}
	if d := time.Since(start); d > notWaited {
		t.Errorf("after %v, must not wait for the peer", d)
	}
}

// fillSocket writes below the frames until the peer's window is full.
func fillSocket(t *testing.T, c *webSocketConn) {
	t.Helper()
	b := frame(framePong, nil)[:2] // An empty one, without the mask's bit.
	b[1] = 0
	b = bytes.Repeat(b, 1<<19)
	for {
		c.NetConn().SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		// Some may be taken at first, and make room for more.
		if n, err := c.NetConn().Write(b); err != nil && n == 0 {
			break
		}
	}
	c.NetConn().SetWriteDeadline(time.Time{})
}

// TestWebSocketReadDeadline: a deadline is a point in time, whatever the peer
// sends meanwhile that is not data.
func TestWebSocketReadDeadline(t *testing.T) {
	tests := []struct {
		name         string
		first, flood []byte
	}{
		{"silence", nil, nil},
		{"pings", nil, frame(framePing, []byte("x"))},
		{"empty messages", nil, frame(frameBinary, nil)},
		{"endless fragments", frame(frameOpen, nil), frame(frameContinue, nil)},
		{"half a header", []byte{frameBinary, 0xFF, 0}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			client, from, server := openWebSocket(t)
			client.Write(test.first)
			if test.flood != nil {
				go io.Copy(io.Discard, from) // Ends with the connection.
				go func() {                  // Likewise.
					b := bytes.Repeat(test.flood, 4000)
					for {
						if _, err := client.Write(b); err != nil {
							return
						}
					}
				}()
			}
			start := time.Now()
			server.SetReadDeadline(start.Add(200 * time.Millisecond))
			n, err := server.Read(make([]byte, 100))
			var timeout net.Error
			if n != 0 || !errors.As(err, &timeout) || !timeout.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("%d, %v, want a timeout", n, err)
			}
			if d := time.Since(start); d < 200*time.Millisecond || d > patience {
				t.Errorf("after %v, want 200ms", d)
			}
		})
	}
}

func TestWebSocketWrite(t *testing.T) {
	_, from, server := openWebSocket(t)
	for _, size := range []int{0, 1, 125, 126, 65_535, 65_536, 300_000} {
		payload := bytes.Repeat([]byte{byte(size)}, size)
		result := make(chan error, 1)
		go func() {
			n, err := server.Write(payload)
			if err == nil && n != size {
				err = fmt.Errorf("wrote %d", n)
			}
			result <- err
		}()
		first, got, err := readFrame(from)
		if err != nil || first != frameBinary || !bytes.Equal(got, payload) {
			t.Errorf("%d bytes: frame %#x with %d bytes, %v", size, first, len(got), err)
		}
		if err := <-result; err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// TestWebSocketWholeFrames: messages and pongs from two goroutines do not cut
// into each other.
func TestWebSocketWholeFrames(t *testing.T) {
	const count = 500
	client, from, server := openWebSocket(t)
	go server.Read(make([]byte, 1)) // Answers the pings; ends with the connection.
	go func() {
		for range count {
			client.Write(frame(framePing, []byte("ping")))
		}
	}()
	for w := range 2 {
		go func() {
			for range count {
				server.Write(bytes.Repeat([]byte{byte('a' + w)}, 200))
			}
		}()
	}
	messages, pongs := 0, 0
	for messages < 2*count || pongs < count {
		first, payload, err := readFrame(from)
		switch {
		case err != nil:
			t.Fatal(err)
		case first == frameBinary && len(payload) == 200 && bytes.Count(payload, payload[:1]) == 200:
			messages++
		case first == framePong && string(payload) == "ping":
			pongs++
		default:
			t.Fatalf("frame %#x with %d bytes", first, len(payload))
		}
	}
}

func TestWebSocketWriteDeadline(t *testing.T) {
	_, _, server := openWebSocket(t)
	start := time.Now()
	server.SetWriteDeadline(start.Add(100 * time.Millisecond))
	var err error
	for err == nil {
		_, err = server.Write(make([]byte, 1<<20))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%v, want a timeout", err)
	}
	if d := time.Since(start); d > patience {
		t.Errorf("after %v, want 100ms", d)
	}
	server.SetWriteDeadline(time.Time{})
	if _, err := server.Write([]byte("x")); err == nil {
		t.Error("a frame was written into the middle of another")
	}
}

func TestWebSocketClose(t *testing.T) {
	t.Run("at once", func(t *testing.T) {
		client, from, server := openWebSocket(t)
		client.Write(frame(frameBinary, make([]byte, 100))[:50])
		read := make(chan error, 1)
		go func() {
			_, err := io.ReadFull(server, make([]byte, 100))
			read <- err
		}()
		start := time.Now()
		server.Close()
		if err := <-read; err == nil {
			t.Error("Read goes on")
		}
		if d := time.Since(start); d > notWaited {
			t.Errorf("took %v", d)
		}
		if b, err := from.ReadByte(); err == nil {
			t.Errorf("client got %#x", b)
		}
		if _, err := server.Write([]byte("x")); err == nil {
			t.Error("Write goes on")
		}
	})
	t.Run("orderly", func(t *testing.T) {
		client, from, server := openWebSocket(t)
		start := time.Now()
		server.Write([]byte("bye"))
		if err := server.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > notWaited {
			t.Errorf("took %v, must not wait for the peer", d)
		}
		got, err := io.ReadAll(from)
		if want := "\x82\x03bye\x88\x02\x03\xe8"; err != nil || string(got) != want {
			t.Errorf("client got %q, %v, want %q", got, err, want)
		}
		client.Write(append(frame(frameBinary, []byte("late")), frame(frameClose, []byte{0x03, 0xE8})...))
		late, err := io.ReadAll(server)
		if string(late) != "late" || err != nil {
			t.Errorf("server got %q, %v", late, err)
		}
	})
	t.Run("by the client", func(t *testing.T) {
		client, _, server := openWebSocket(t)
		client.Close()
		if n, err := server.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%d, %v", n, err)
		}
	})
}

func TestWebSocketAddresses(t *testing.T) {
	client, _, server := openWebSocket(t)
	if got, want := server.RemoteAddr().String(), client.LocalAddr().String(); got != want {
		t.Errorf("remote %s, want %s", got, want)
	}
	if got, want := server.LocalAddr().String(), client.RemoteAddr().String(); got != want {
		t.Errorf("local %s, want %s", got, want)
	}
}
