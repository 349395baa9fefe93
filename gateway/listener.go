package gateway

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// listener accepts the connections of one [Listener].
type listener struct {
	Listener
	g      *Gateway
	ln     net.Listener
	secure *certificates // nil: without TLS
	web    *conveyor     // nil: not a WebSocket
}

// tcpKeepAlive resets the idle timers of balancers and firewalls on the way,
// and finds peers that vanished without a word and asked for no keep-alive.
var tcpKeepAlive = net.KeepAliveConfig{Enable: true, Idle: 60 * time.Second, Interval: 15 * time.Second, Count: 4}

func listen(g *Gateway, l Listener) (*listener, error) {
	open := listenTCP
	if l.Network == NetworkUnix {
		open = listenUnix
	}
	ln, err := open(&l)
	if err != nil {
		return nil, &ConfigError{Field: "listener " + l.Name, Value: l.Address, Cause: err}
	}
	li := &listener{Listener: l, g: g, ln: ln, secure: g.certificatesFor(&l)}
	if len(l.WebSocketPaths) > 0 {
		li.web = newConveyor(ln.Addr())
	}
	return li, nil
}

func listenTCP(l *Listener) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: tcpKeepAlive}
	return lc.Listen(context.Background(), "tcp", l.Address)
}

// listenUnix opens a socket in the file system. One that a process has left
// behind that did not end in an orderly way is removed; anything else at its
// place is not.
func listenUnix(l *Listener) (net.Listener, error) {
	if info, err := os.Lstat(l.Address); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, errors.New("a file that is no socket is there")
		}
		if c, err := net.DialTimeout("unix", l.Address, time.Second); err == nil {
			c.Close()
			return nil, errors.New("another process listens there")
		}
		if err := os.Remove(l.Address); err != nil {
			return nil, err
		}
	}
	ln, err := net.Listen("unix", l.Address)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(l.Address, l.Mode); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

// serve accepts until the listener is closed.
func (l *listener) serve(ctx context.Context) {
	if l.web != nil {
		go l.serveWebSocket(ctx) // ends when the conveyor is closed, below
		defer l.web.Close()
	}
	var pause time.Duration
	for {
		nc, err := l.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of file descriptors, mostly: wait for some to come back.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			l.g.log.Warn("accept failed", "listener", l.Name, "err", err, "pause", pause)
			if !sleep(ctx, pause) {
				return
			}
			continue
		}
		pause = 0
		a := l.g.arrived(nc, l.Name)
		if !l.g.admit(a) {
			continue
		}
		if !l.g.admission.pause(ctx) {
			l.g.dismiss(a)
			nc.Close()
			return
		}
		go l.welcome(context.WithoutCancel(ctx), a) // ends when the client is connected or refused
	}
}

// welcome takes a connection through what comes before MQTT, and up to CONNACK.
func (l *listener) welcome(ctx context.Context, a *arrival) {
	if trusted(l.g.opt.ProxyProtocolFrom, addressOf(a.remote)) && !l.g.introduce(a) {
		return
	}
	if l.secure != nil {
		if err := l.g.secure(l.secure, a); err != nil {
			l.g.turnAway(a, RefusedTLS, err)
			return
		}
	}
	if l.web != nil {
		l.web.put(&requestConn{Conn: a.nc, g: l.g, arrival: a})
		return
	}
	l.g.meet(ctx, a)
}

func (l *listener) serveWebSocket(ctx context.Context) {
	server := webSocketServer(l.WebSocketPaths, l.Origins, l.g.opt.Timing.Connect, l.g.log, func(r *http.Request, nc net.Conn) {
		a := arrivalOf(r)
		a.nc = nc
		a.remote = forwardedFor(l.g.opt.TrustedProxies, a.remote, r.Header.Values("X-Forwarded-For"))
		if a.visitor == nil {
			if why, ok := l.g.admission.enter(a); !ok {
				l.g.turnAway(a, why, nil)
				return
			}
		}
		// A goroutine of its own, instead of this one, frees the request, its
		// buffers and the deep stack that the upgrade has taken.
		go l.g.meet(context.WithoutCancel(ctx), a)
	})
	server.ConnContext = withArrival
	err := server.Serve(l.web)
	server.Close() // requests that are not upgraded yet
	if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		l.g.log.Error("listener failed", "listener", l.Name, "err", err)
	}
}

// close stops accepting. Connections go on.
func (l *listener) close() { l.ln.Close() }

// conveyor hands connections that were accepted elsewhere to a server that
// wants to accept them itself.
type conveyor struct {
	at    net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newConveyor(at net.Addr) *conveyor {
	return &conveyor{at: at, conns: make(chan net.Conn), done: make(chan struct{})}
}

// put waits until the connection is accepted; at the end it closes it.
func (v *conveyor) put(nc net.Conn) {
	select {
	case v.conns <- nc:
	case <-v.done:
		nc.Close()
	}
}

// Accept returns net.ErrClosed after Close.
func (v *conveyor) Accept() (net.Conn, error) {
	select {
	case nc := <-v.conns:
		return nc, nil
	case <-v.done:
		return nil, net.ErrClosed
	}
}

// Close may be called several times.
func (v *conveyor) Close() error {
	v.once.Do(func() { close(v.done) })
	return nil
}

// Addr is that of the listener which accepted the connections.
func (v *conveyor) Addr() net.Addr { return v.at }

// requestConn is a connection while it is the HTTP server's, whose own time
// limits for the request do not extend the arrival's.
type requestConn struct {
	net.Conn
	g *Gateway
	*arrival
}

func (r *requestConn) cap(t time.Time) time.Time {
	if t.IsZero() || t.After(r.deadline) {
		return r.deadline
	}
	return t
}

func (r *requestConn) SetDeadline(t time.Time) error      { return r.Conn.SetDeadline(r.cap(t)) }
func (r *requestConn) SetReadDeadline(t time.Time) error  { return r.Conn.SetReadDeadline(r.cap(t)) }
func (r *requestConn) SetWriteDeadline(t time.Time) error { return r.Conn.SetWriteDeadline(r.cap(t)) }

// Close is what the server does to a connection that did not get upgraded.
func (r *requestConn) Close() error {
	err := r.Conn.Close()
	r.g.dismiss(r.arrival)
	return err
}

type arrivalKey struct{}

// withArrival is the server's ConnContext.
func withArrival(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, arrivalKey{}, nc.(*requestConn))
}

// arrivalOf finds the arrival that a request came by.
func arrivalOf(r *http.Request) *arrival {
	return r.Context().Value(arrivalKey{}).(*requestConn).arrival
}
