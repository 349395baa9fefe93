package gateway

//lint:file-ignore SA1019 all of nhooyr.io/websocket is deprecated, in favour of
// another path for the same package; see the import.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	// The package goes on under the path github.com/coder/websocket, with the
	// same interface: moving there changes this line.
	"nhooyr.io/websocket"
)

const (
	// webSocketHeaders bounds the header of an upgrade request. Browsers send
	// about 1 KiB, cookies included; net/http adds 4 KiB of its own before it
	// answers 431.
	webSocketHeaders = 8 << 10
	// webSocketFirst is how much is read from a socket that was silent: a
	// frame with a PINGREQ or with a small PUBLISH. It is part of each
	// connection, so that a silent one holds no other buffer.
	webSocketFirst = 32
	// webSocketBuffer is how much is read from a socket that has more.
	webSocketBuffer = 16 << 10
	// webSocketParting is how long the frame that tells the peer why it is
	// disconnected may take. The socket's buffer takes it at once, or the peer
	// does not read and would not learn it either way.
	webSocketParting = 20 * time.Millisecond
)

// webSocketSubprotocols in order of preference: the one that the standard
// asks for [MQTT-6.0.0-4], and that of MQTT 3.1, which clients still offer.
var webSocketSubprotocols = []string{"mqtt", "mqttv3.1"}

// errTextFrame ends a connection that sent something else than binary frames.
var errTextFrame = errors.New("websocket: text frame [MQTT-6.0.0-1]")

// webSocketServer serves [webSocketHandler]. A client has until connect to
// send its request. The server has no address and is not started.
func webSocketServer(paths, origins []string, connect time.Duration, log *slog.Logger, serve func(*http.Request, net.Conn)) *http.Server {
	return &http.Server{
		Handler:           webSocketHandler(paths, origins, serve),
		ReadHeaderTimeout: connect,
		IdleTimeout:       connect,
		WriteTimeout:      connect,
		MaxHeaderBytes:    webSocketHeaders,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// webSocketHandler upgrades requests to paths ("*": any) and hands each
// connection to serve, which must return at once. It refuses other paths (404),
// browsers that come from a page of another origin than those given (403), and
// clients that offer subprotocols of which none is MQTT's (400); a client that
// offers none at all is taken.
//
// An origin is "https://app.example.com", or the host alone for any scheme; a
// '*' in it stands for anything but a slash. None, or "*", lets every page in.
//
// The connection it hands over differs from a TCP one in this:
//
//   - A Write is one binary message; where messages begin and end is not seen
//     by Read, as the standard asks [MQTT-6.0.0-2].
//   - A deadline that passes inside a Read or Write leaves a frame half done.
//     The connection is of no more use then, but to be closed.
//   - Ping and empty frames are answered or skipped inside of Read, and do not
//     prolong its deadline.
//   - Close closes at once. Before it, CloseWrite tells the peer that this is
//     the orderly end; then Read goes on until the peer has agreed.
func webSocketHandler(paths, origins []string, serve func(*http.Request, net.Conn)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(paths, "*") && !slices.Contains(paths, r.URL.Path) {
			http.NotFound(w, r)
			return
		}
		if !originAllowed(origins, r.Header.Get("Origin")) {
			http.Error(w, "origin not allowed", http.StatusForbidden)
			return
		}
		if !offersMQTT(r.Header.Values("Sec-WebSocket-Protocol")) {
			http.Error(w, "subprotocol not supported, use mqtt", http.StatusBadRequest)
			return
		}
		h := hijacker{ResponseWriter: w}
		frames, err := websocket.Accept(&h, r, &websocket.AcceptOptions{
			Subprotocols:       webSocketSubprotocols,
			InsecureSkipVerify: true, // Checked above, by our own rules.
		})
		if err != nil {
			return // It has been answered.
		}
		frames.SetReadLimit(-1) // Packets have their limit; messages need none.
		if own, ok := h.socket.Conn.(*requestConn); ok {
			h.socket.Conn = own.Conn // It is not the server's any more.
		}
		serve(r, &webSocketConn{webSocketSocket: h.socket, frames: frames})
	})
}

// originAllowed checks an Origin header against a list of origins.
func originAllowed(origins []string, origin string) bool {
	if origin == "" || len(origins) == 0 {
		return true
	}
	origin = strings.ToLower(origin)
	host := origin
	if u, err := url.Parse(origin); err == nil {
		host = u.Host
	}
	return slices.ContainsFunc(origins, func(allowed string) bool {
		if allowed == "*" {
			return true
		}
		of := host
		if strings.Contains(allowed, "://") {
			of = origin
		}
		ok, err := path.Match(strings.ToLower(allowed), of)
		return ok && err == nil
	})
}

// offersMQTT reports whether one of the offered subprotocols is ours. A client
// must offer mqtt [MQTT-6.0.0-3]; those that offer nothing do no harm.
func offersMQTT(headers []string) bool {
	for _, h := range headers {
		for offer := range strings.SplitSeq(h, ",") {
			if slices.ContainsFunc(webSocketSubprotocols, func(s string) bool {
				return strings.EqualFold(s, strings.TrimSpace(offer))
			}) {
				return true
			}
		}
	}
	return len(headers) == 0
}

// hijacker takes a connection over from net/http without the two buffers of
// 4 KiB that come with it.
type hijacker struct {
	http.ResponseWriter
	socket *webSocketSocket
}

// Hijack returns buffers that are just large enough for the header of a frame
// to read and for a control frame to write.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, from, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	early, _ := from.Reader.Peek(from.Reader.Buffered())
	h.socket = &webSocketSocket{Conn: conn, unread: bytes.Clone(early)}
	h.socket.header = bufio.NewReaderSize(h.socket, 16)
	return h.socket, bufio.NewReadWriter(h.socket.header, bufio.NewWriterSize(h.socket, 128)), nil
}

var webSocketBuffers = sync.Pool{New: func() any { return new([webSocketBuffer]byte) }}

// webSocketSocket is the socket below the frames. It holds a buffer only
// while there is something in it. One goroutine reads.
type webSocketSocket struct {
	net.Conn
	first  [webSocketFirst]byte
	pooled *[webSocketBuffer]byte
	unread []byte // in first, in pooled, or what came with the request
	more   bool   // the last read filled what it was given
	header *bufio.Reader

	write  sync.Mutex // makes frames whole; guards what follows
	broken error      // a frame was left half done
	head   [10]byte   // of the frame being written
	two    [2][]byte
	parts  net.Buffers // of two; here because it would escape
}

// fill waits until something can be read without waiting.
func (s *webSocketSocket) fill() error {
	if len(s.unread)+s.header.Buffered() > 0 {
		return nil
	}
	s.release()
	into := s.first[:]
	if s.more {
		s.pooled = webSocketBuffers.Get().(*[webSocketBuffer]byte)
		into = s.pooled[:]
	}
	n, err := s.Conn.Read(into)
	s.unread, s.more = into[:n], n == len(into)
	if n == 0 {
		s.release()
		return err
	}
	return nil // An error comes again with the next call.
}

// release gives the buffer back. It must have been read to its end.
func (s *webSocketSocket) release() {
	if s.pooled != nil {
		webSocketBuffers.Put(s.pooled)
		s.pooled = nil
	}
	s.unread = nil
}

// Read takes bytes of frames.
func (s *webSocketSocket) Read(p []byte) (int, error) {
	if len(s.unread) == 0 {
		n, err := s.Conn.Read(p)
		s.more = n == len(p)
		return n, err
	}
	n := copy(p, s.unread)
	if s.unread = s.unread[n:]; len(s.unread) == 0 {
		s.release()
	}
	return n, nil
}

// Write writes one whole frame.
func (s *webSocketSocket) Write(p []byte) (int, error) { return s.writeParts(nil, p) }

// writeParts writes head and body in one system call where the connection can.
// It returns how much of the body was written.
func (s *webSocketSocket) writeParts(head, body []byte) (int, error) {
	s.write.Lock()
	defer s.write.Unlock()
	if s.broken != nil {
		return 0, s.broken
	}
	n := copy(s.head[:], head)
	s.two = [2][]byte{s.head[:n], body}
	s.parts = s.two[:]
	written, err := s.parts.WriteTo(s.Conn)
	s.two = [2][]byte{}
	s.broken = err
	return max(0, int(written)-n), err
}

// webSocketConn is the stream of bytes that the data frames carry.
type webSocketConn struct {
	*webSocketSocket
	frames  *websocket.Conn
	message io.Reader // of which some may be left; nil between messages
}

// NetConn returns the connection below, as that of a tls.Conn does.
func (c *webSocketConn) NetConn() net.Conn { return c.webSocketSocket.Conn }

// WaitRead returns when Read has something to look at, or with the error that
// Read would return. While it waits no buffer is held, neither here nor, if
// the caller takes one only then, there.
func (c *webSocketConn) WaitRead() error { return c.readError(c.fill()) }

// Read reads what the peer's binary messages contain. It returns io.EOF after
// the peer's close frame.
func (c *webSocketConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if err := c.fill(); err != nil {
			return 0, c.readError(err)
		}
		if c.message == nil {
			kind, message, err := c.frames.Reader(context.Background())
			if err != nil {
				return 0, c.readError(err)
			}
			if kind != websocket.MessageBinary {
				c.part(websocket.StatusUnsupportedData)
				return 0, errTextFrame
			}
			c.message = message
			continue
		}
		// A message reader waits until p is full or its frame at an end, so
		// it must not be asked for more than has arrived: the packet in the
		// first half of a frame does not wait for the second.
		n, err := c.message.Read(p[:min(len(p), len(c.unread)+c.header.Buffered())])
		if err == io.EOF {
			c.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, c.readError(err)
		}
	}
}

// readError makes err what a TCP connection would have returned.
func (c *webSocketConn) readError(err error) error {
	var timeout net.Error
	switch {
	case err == nil:
		return nil
	case websocket.CloseStatus(err) >= 0, errors.Is(err, io.EOF):
		return io.EOF
	case errors.As(err, &timeout) && timeout.Timeout():
		return timeout
	}
	return err
}

// Write sends p as one binary message in one frame.
func (c *webSocketConn) Write(p []byte) (int, error) {
	var frame [10]byte
	head := append(frame[:0], 0x80|byte(websocket.MessageBinary))
	switch n := len(p); {
	case n < 126:
		head = append(head, byte(n))
	case n <= 0xFFFF:
		head = binary.BigEndian.AppendUint16(append(head, 126), uint16(n))
	default:
		head = binary.BigEndian.AppendUint64(append(head, 127), uint64(n))
	}
	return c.writeParts(head, p)
}

// CloseWrite sends a close frame and ends the outgoing half of the connection.
func (c *webSocketConn) CloseWrite() error {
	if err := c.writeClose(websocket.StatusNormalClosure); err != nil {
		return err
	}
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

func (c *webSocketConn) writeClose(code websocket.StatusCode) error {
	_, err := c.writeParts([]byte{0x88, 2, byte(code >> 8), byte(code)}, nil)
	return err
}

// part closes the connection after an attempt to say why.
func (c *webSocketConn) part(code websocket.StatusCode) {
	c.SetWriteDeadline(time.Now().Add(webSocketParting))
	c.writeClose(code)
	c.Close()
}

// Close closes the connection without a word.
func (c *webSocketConn) Close() error { return c.frames.CloseNow() }
