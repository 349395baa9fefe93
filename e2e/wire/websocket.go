package wire

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// WebSocket frame types (RFC 6455, 5.2).
const (
	WSContinuation = 0x0
	WSText         = 0x1
	WSBinary       = 0x2
	WSClose        = 0x8
	WSPing         = 0x9
	WSPong         = 0xA
)

// WebSocket is a connection whose Write sends one binary frame and whose Read
// returns the content of binary frames. WriteFrame sends anything. Read ends
// with io.EOF after a close frame or at the end of the connection.
type WebSocket struct {
	net.Conn
	// Closed is the status code of the close frame received, 0 if none came.
	Closed uint16
	// Pongs counts the pong frames received.
	Pongs int

	in   *bufio.Reader
	left uint64 // of the frame being read
}

// DialWS opens a WebSocket to a URL like ws://host:port/mqtt with the
// subprotocol "mqtt" and expects both to be accepted.
func DialWS(t testing.TB, rawURL string) *Client {
	t.Helper()
	ws, resp, err := OpenWS(rawURL, http.Header{"Sec-Websocket-Protocol": {"mqtt"}})
	if err != nil {
		t.Fatalf("wire: %v", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-Websocket-Protocol") != "mqtt" {
		t.Fatalf("wire: WebSocket upgrade: %s %v", resp.Status, resp.Header)
	}
	return New(t, ws)
}

// OpenWS asks for a WebSocket with these headers added and returns the
// server's answer, whatever it is. The connection is nil unless the status is
// 101.
func OpenWS(rawURL string, header http.Header) (*WebSocket, *http.Response, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, nil, err
	}
	conn, err := net.DialTimeout("tcp", u.Host, Timeout)
	if err != nil {
		return nil, nil, err
	}
	conn.SetDeadline(time.Now().Add(Timeout))
	var nonce [16]byte
	rand.Read(nonce[:])
	req := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {base64.StdEncoding.EncodeToString(nonce[:])},
	}}
	for name, values := range header {
		req.Header[name] = values
	}
	in := bufio.NewReader(conn)
	if err := req.Write(conn); err != nil && !closedByPeer(err) {
		conn.Close()
		return nil, nil, err
	}
	resp, err := http.ReadResponse(in, req)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		conn.Close()
		return nil, resp, err
	}
	conn.SetDeadline(time.Time{})
	return &WebSocket{Conn: conn, in: in}, resp, nil
}

// Write sends b as one binary frame.
func (w *WebSocket) Write(b []byte) (int, error) {
	return len(b), w.WriteFrame(0x80|WSBinary, b)
}

// WriteFrame sends one masked frame. The first byte is the type, 0x80 for the
// last frame of a message, and whatever reserved bits a test wants.
func (w *WebSocket) WriteFrame(first byte, content []byte) error {
	b := []byte{first}
	switch n := len(content); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := [4]byte{0x5a, 0xa5, 0x3c, 0xc3}
	b = append(b, mask[:]...)
	for i, c := range content {
		b = append(b, c^mask[i%4])
	}
	_, err := w.Conn.Write(b)
	return err
}

// Read returns the content of binary frames. A server that sends MQTT in any
// other kind of frame gives an error ([MQTT-6.0.0-1] of both versions).
func (w *WebSocket) Read(b []byte) (int, error) {
	for w.left == 0 {
		if err := w.header(); err != nil {
			return 0, err
		}
	}
	n, err := w.in.Read(b[:min(uint64(len(b)), w.left)])
	w.left -= uint64(n)
	return n, err
}

// header reads up to the content of the next binary frame.
func (w *WebSocket) header() error {
	var head [2]byte
	if _, err := io.ReadFull(w.in, head[:]); err != nil {
		return err
	}
	n := uint64(head[1])
	switch n {
	case 126:
		var ext [2]byte
		if _, err := io.ReadFull(w.in, ext[:]); err != nil {
			return err
		}
		n = uint64(binary.BigEndian.Uint16(ext[:]))
	case 127:
		var ext [8]byte
		if _, err := io.ReadFull(w.in, ext[:]); err != nil {
			return err
		}
		n = binary.BigEndian.Uint64(ext[:])
	}
	if head[1]&0x80 != 0 {
		return errors.New("websocket: frame from a server is masked")
	}
	if head[0]&0x70 != 0 {
		return fmt.Errorf("websocket: reserved bits in %02x", head[0])
	}
	switch kind := head[0] & 0xf; kind {
	case WSBinary, WSContinuation:
		w.left = n
		return nil
	case WSClose, WSPing, WSPong:
		content := make([]byte, n)
		if _, err := io.ReadFull(w.in, content); err != nil {
			return err
		}
		return w.control(kind, content)
	default:
		return fmt.Errorf("websocket: frame of type %d", kind)
	}
}

func (w *WebSocket) control(kind byte, content []byte) error {
	switch kind {
	case WSPing:
		return w.WriteFrame(0x80|WSPong, content)
	case WSPong:
		w.Pongs++
	case WSClose:
		if len(content) >= 2 {
			w.Closed = binary.BigEndian.Uint16(content)
		}
		return io.EOF
	}
	return nil
}
