package gateway

//lint:file-ignore SA1019 all of nhooyr.io/websocket is deprecated, in favour of
// another path for the same package; see the import.

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
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
)

// webSocketSubprotocols in order of preference: the one that the standard
// asks for [MQTT-6.0.0-4], and that of MQTT 3.1, which clients still offer.
var webSocketSubprotocols = []string{"mqtt", "mqttv3.1"}

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
//   - A Read of a frame that breaks RFC 6455 tells the peer so, as far as that
//     is possible at once, and returns an error. Nothing more is read.
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
		upgrade, err := websocket.Accept(&h, r, &websocket.AcceptOptions{
			Subprotocols:       webSocketSubprotocols,
			InsecureSkipVerify: true, // Checked above, by our own rules.
		})
		if err != nil {
			return // It has been answered.
		}
		upgrade.CloseNow() // It has done its part; the frames are read and written here.
		if own, ok := h.socket.Conn.(*requestConn); ok {
			h.socket.Conn = own.Conn // It is not the server's any more.
		}
		serve(r, h.socket)
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

// hijacker takes a connection over from net/http, without the two buffers of
// 4 KiB that come with it, and keeps it from the package that upgrades it.
type hijacker struct {
	http.ResponseWriter
	socket *webSocketConn
}

// Hijack gives a connection away that does nothing.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, from, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	early, _ := from.Reader.Peek(from.Reader.Buffered())
	h.socket = &webSocketConn{Conn: conn, early: bytes.Clone(early)}
	return nobody{}, bufio.NewReadWriter(bufio.NewReaderSize(nobody{}, 16), bufio.NewWriterSize(nobody{}, 128)), nil
}

// nobody is the end of a connection at which nothing comes and nothing counts.
type nobody struct{ net.Conn }

func (nobody) Read([]byte) (int, error)    { return 0, io.EOF }
func (nobody) Write(p []byte) (int, error) { return len(p), nil }
func (nobody) Close() error                { return nil }
