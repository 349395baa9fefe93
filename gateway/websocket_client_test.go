package gateway

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"
)

// Opcodes of frames, with the bit that ends a message where it is set.
const (
	frameContinue = 0x00
	frameText     = 0x81
	frameBinary   = 0x82
	frameClose    = 0x88
	framePing     = 0x89
	framePong     = 0x8A
	frameOpen     = 0x02 // the first of several
	frameLast     = 0x80 // the last of several
)

// frame returns a masked frame as a client sends it.
func frame(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n <= 0xFFFF:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := [4]byte{0x11, 0x82, 0xF3, 0x04}
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i%4])
	}
	return b
}

// expectFrame reads a frame with this first byte and, unless it is empty, payload.
func expectFrame(t *testing.T, r io.Reader, first byte, payload string) {
	t.Helper()
	f, got, err := readFrame(r)
	if err != nil || f != first || payload != "" && string(got) != payload {
		t.Fatalf("frame %#x %q, %v; want %#x %q", f, got, err, first, payload)
	}
}

// readFrame reads a frame as a server sends it.
func readFrame(r io.Reader) (first byte, payload []byte, err error) {
	var head [10]byte
	if _, err := io.ReadFull(r, head[:2]); err != nil {
		return 0, nil, err
	}
	first = head[0]
	n := uint64(head[1])
	switch n {
	case 126:
		_, err = io.ReadFull(r, head[:2])
		n = uint64(binary.BigEndian.Uint16(head[:]))
	case 127:
		_, err = io.ReadFull(r, head[:8])
		n = binary.BigEndian.Uint64(head[:])
	}
	if err != nil {
		return 0, nil, err
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(r, payload)
	return first, payload, err
}

// startWebSocket serves on a socket of its own until the end of the test.
func startWebSocket(t testing.TB, paths, origins []string, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := webSocketServer(paths, origins, 10*time.Second, slog.New(slog.DiscardHandler), func(_ *http.Request, c net.Conn) {
		go func() { // Ends with serve.
			defer c.Close()
			serve(c)
		}()
	})
	go s.Serve(l) // Ends with Close.
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

// request sends an upgrade request and returns the answer.
func request(t testing.TB, address, path string, headers ...string) (net.Conn, *bufio.Reader, *http.Response) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	r, answer := upgrade(t, c, path, headers...)
	return c, r, answer
}

// upgrade asks for a WebSocket on a connection.
func upgrade(t testing.TB, c net.Conn, path string, headers ...string) (*bufio.Reader, *http.Response) {
	t.Helper()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OTAxMjM0NQ==\r\n", path)
	for _, h := range headers {
		fmt.Fprintf(c, "%s\r\n", h)
	}
	io.WriteString(c, "\r\n")
	r := bufio.NewReader(c)
	answer, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r, answer
}

// openWebSocket returns both ends of a connection.
func openWebSocket(t testing.TB) (client net.Conn, from *bufio.Reader, server *webSocketConn) {
	t.Helper()
	conns, done := make(chan net.Conn, 1), make(chan struct{})
	address := startWebSocket(t, []string{"/mqtt"}, nil, func(c net.Conn) {
		conns <- c
		<-done
	})
	t.Cleanup(func() { close(done) })
	client, from, answer := request(t, address, "/mqtt", "Sec-WebSocket-Protocol: mqtt")
	if answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(answer.Status)
	}
	return client, from, (<-conns).(*webSocketConn)
}
