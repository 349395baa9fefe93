package gateway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// listener accepts the connections of one [Listener].
type listener struct {
	Listener
	g  *Gateway
	ln net.Listener
}

// tcpKeepAlive resets the idle timers of balancers and firewalls on the way,
// and finds peers that vanished without a word and asked for no keep-alive.
var tcpKeepAlive = net.KeepAliveConfig{Enable: true, Idle: 60 * time.Second, Interval: 15 * time.Second, Count: 4}

func listen(g *Gateway, l Listener) (*listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: tcpKeepAlive}
	ln, err := lc.Listen(context.Background(), "tcp", l.Address)
	if err != nil {
		return nil, &ConfigError{Field: "listener " + l.Name, Value: l.Address, Cause: err}
	}
	return &listener{Listener: l, g: g, ln: ln}, nil
}

// serve accepts until the listener is closed.
func (l *listener) serve(ctx context.Context) {
	if len(l.WebSocketPaths) > 0 {
		l.serveWebSocket(ctx)
		return
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
		c, err := l.g.newConn(nc, l.Name)
		if err != nil {
			nc.Close()
			continue
		}
		go func() { // ends when the client is connected or refused
			if !c.arrive(context.WithoutCancel(ctx)) {
				l.g.serving.Done()
				return
			}
			go func() { // ends with the connection
				defer l.g.serving.Done()
				c.stay(context.WithoutCancel(ctx))
			}()
		}()
	}
}

func (l *listener) serveWebSocket(ctx context.Context) {
	server := webSocketServer(l.WebSocketPaths, l.Origins, l.g.opt.Timing.Connect, l.g.log, func(nc net.Conn) {
		c, err := l.g.newConn(nc, l.Name)
		if err != nil {
			nc.Close()
			return
		}
		defer l.g.serving.Done()
		c.serve(context.WithoutCancel(ctx))
	})
	err := server.Serve(l.ln)
	server.Close() // requests that are not upgraded yet
	if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		l.g.log.Error("listener failed", "listener", l.Name, "err", err)
	}
}

// close stops accepting. Connections go on.
func (l *listener) close() { l.ln.Close() }
