package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/gateway/session"
	"github.com/sluice-mqtt/sluice/protocol"
)

// conn is one connection. Its reader, which is one goroutine at a time and none
// while the connection is silent in a loop, owns the fields above mu; those below
// are for whoever holds mu. No two connections are locked at once, and neither
// the store nor the bus is called under a lock.
type conn struct {
	g       *Gateway
	serial  uint64          // tells connections apart, in the order of accepting
	nc      net.Conn        // nil in a loop; is changed under mu
	raw     syscall.RawConn // of the socket; nil where there is no non-blocking access, and in a loop
	tls     *tlsSocket      // where raw or the loop is below TLS
	frames  *webSocketConn  // nc, where raw or the loop is below WebSocket frames
	client  Client          // complete and constant once connected
	came    *arrival        // nil once connected
	visitor *visitor        // nil where addresses have no limits
	pace    *pace           // nil where clients have no rates
	lease   backend.Lease
	// stoodStill is how often the gateway had when the lease was asked about.
	stoodStill uint32
	open       bool // a session was opened under lease
	counted    bool // as connected, and observers were told
	durable    bool // the session has an inbox
	v5         bool
	problems   bool         // the client wants reason strings [MQTT-3.1.2-29]
	hosted     bool         // somebody waits in ServeConn, with a goroutine
	traced     atomic.Bool  // its packets are logged
	role       atomic.Int32 // who reads, in a loop

	in session.Inbound
	// inflight is what the gateway's figures have of in.
	inflight int
	held     []byte // the beginning of a packet that is not complete
	last     *route // of the last PUBLISH
	// permitted is the last publish that was allowed.
	permitted permit
	// expiry is the session expiry interval in force, in seconds.
	expiry     uint32
	maxPacket  uint32 // the client's, 0 is none
	window     uint16 // deliveries under way at most
	hasWill    bool   // given with CONNECT
	willless   bool   // the client said goodbye: no will
	goodbye    protocol.ReasonCode
	hasGoodbye bool
	enhanced   *enhanced
	authTimer  *time.Timer   // ends the connection when its credentials do
	newExpiry  *uint32       // said with goodbye
	keepAlive  time.Duration // with the grace; 0 is none
	seen       atomic.Int64  // when bytes came last, in ns since the start
	since      time.Duration // when it was connected, since the start

	mu      sync.Mutex
	box     outbox
	out     session.Outbound
	aliases session.Aliases
	subs    map[string]subscription // without shared ones
	shared  map[string]subscription
	tasks   []task // deliveries that go on at the client's pace
	// up: CONNACK is written and nothing has ended the connection yet.
	up      bool
	ended   bool
	endCode protocol.ReasonCode
	untold  bool // why, until the session is released
	pumping bool // a goroutine is in pump
	repump  bool // it is to look again
	resync  bool // the inbox is to be read, whatever is known of it
	polling bool // a timer is set that looks for lost mail
	// retrying: a timer is set for a store that did not answer a pump.
	retrying bool
	loop     *loop // that reads, once one does; it stays what it is
	fd       int   // the socket, in a loop; -1 when it is closed
	endText  string
	touched  uint64
	gone     chan struct{} // closed by finish, made by whoever waits
	// overtaken is the newest epoch that was given out for the client while
	// this connection was opening its session.
	overtaken uint64
}

var connSerials atomic.Uint64

func newConn(g *Gateway, a *arrival) *conn {
	c := &conn{g: g, serial: connSerials.Add(1), nc: a.nc, came: a, visitor: a.visitor, problems: true, fd: -1}
	c.client.Listener, c.client.Remote = a.listener, a.remote
	c.client.Certificate, c.client.PeerIdentity = a.certificate, a.identity
	socket := a.nc
	if w, ok := socket.(*webSocketConn); ok {
		c.frames, socket = w, w.Conn
	}
	if t, ok := socket.(*tls.Conn); ok {
		if s, ok := t.NetConn().(*tlsSocket); ok {
			c.tls, socket = s, s.Conn
		}
	}
	switch s := socket.(type) {
	case *net.TCPConn:
		c.raw, _ = s.SyscallConn()
	case *net.UnixConn:
		c.raw, _ = s.SyscallConn()
	default:
		c.frames, c.tls = nil, nil // somebody's own
	}
	if c.tls != nil {
		c.tls.apart = true
	}
	if c.frames != nil {
		c.frames.emit = c.emit
	}
	return c
}

// now is the time on the gateway's monotonic clock.
func (g *Gateway) now() time.Duration { return time.Since(g.started) }

// serve takes the connection from CONNECT to its end, in one goroutine.
func (c *conn) serve(ctx context.Context) {
	c.hosted = true
	if c.arrive(ctx) {
		c.settleIn()
		c.stay(ctx)
	}
}

// arrive takes the connection up to CONNACK. If it does not get there, it is
// over when arrive returns false.
func (c *conn) arrive(ctx context.Context) (up bool) {
	defer func() {
		if !up {
			c.finish(ctx)
		}
	}()
	defer c.recovered()
	c.socket().SetReadDeadline(c.came.deadline)
	c.socket().SetWriteDeadline(time.Time{})
	defer func() { c.came = nil }()
	return c.admit(ctx)
}

// settleIn begins the life of a connection that is up.
func (c *conn) settleIn() {
	c.socket().SetReadDeadline(time.Time{})
	c.touch()
	c.pace = c.g.opt.Limits.newPace()
	c.g.wheel.add(c)
}

// stay reads until the connection is over, and clears up. It runs in a goroutine
// whose stack is as small as it gets.
func (c *conn) stay(ctx context.Context) {
	defer c.finish(ctx)
	defer c.recovered()
	// Its deadline may have been wiped out; and what was read before comes first.
	process := func(b []byte) bool { return c.process(ctx, b) }
	if !c.isOver() && process(nil) {
		c.readAll(process)
	}
}

// recovered keeps a fault in the handling of one client's packets from
// harming others.
func (c *conn) recovered() {
	p := recover()
	if p == nil {
		return
	}
	c.g.stats.panics.Add(1)
	c.g.log.Error("panic while serving a client", "client", string(c.client.ID), "panic", p, "stack", string(debug.Stack()))
	c.end(protocol.UnspecifiedError, "internal error")
}

// end ends the connection from the server's side: DISCONNECT with the code for
// an MQTT 5 client that is connected, then close. Only the first call counts.
// It may be called by any goroutine, and does not wait.
func (c *conn) end(code protocol.ReasonCode, text string) {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return
	}
	c.ended, c.endCode, c.endText = true, code, text
	if c.up && c.v5 {
		c.tellLocked()
	}
	c.mu.Unlock()
	c.flush()
	c.interrupt()
}

// endReleased is end for a client that is to be told only when its session has
// been released.
func (c *conn) endReleased(code protocol.ReasonCode, text string) {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return
	}
	c.ended, c.endCode, c.endText = true, code, text
	c.untold = c.up && c.v5
	c.mu.Unlock()
	c.interrupt()
}

// tellLocked tells an MQTT 5 client why its connection has ended.
func (c *conn) tellLocked() {
	d := protocol.Disconnect{Code: c.endCode}
	if c.problems {
		d.Reason = c.endText
	}
	if c.endCode == protocol.UseAnotherServer {
		d.ServerReference = c.g.opt.ServerReference
	}
	c.packLocked(&d)
}

// fail ends the connection for an error that its own packets caused.
func (c *conn) fail(err error) {
	var pe *protocol.Error
	code, text := ending(err)
	switch {
	case errors.As(err, &pe):
		c.g.countFault(pe.Code)
	case errors.Is(err, backend.ErrFenced) && c.g.leaseGone.Load():
		// It is not the session that was lost, but the gateway's lease.
		c.endReleased(protocol.ServerBusy, "gateway lost its lease")
		return
	case errors.Is(err, backend.ErrFenced):
		c.g.stats.fenced.Add(1)
	}
	c.end(code, text)
}

// ending is what a client is told of an error that ends its connection.
func ending(err error) (protocol.ReasonCode, string) {
	var pe *protocol.Error
	switch {
	case errors.As(err, &pe):
		return pe.Code, pe.Detail
	case errors.Is(err, backend.ErrFenced):
		return protocol.SessionTakenOver, "session was taken over"
	case errors.Is(err, backend.ErrTooLarge):
		return protocol.PacketTooLarge, "message is too large for the store"
	case errors.Is(err, backend.ErrFull):
		return protocol.QuotaExceeded, "a limit of the store is reached"
	case errors.Is(err, backend.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return protocol.ServerBusy, "store is not available"
	}
	return protocol.UnspecifiedError, err.Error()
}

// lost notes that the socket failed or the peer closed it.
func (c *conn) lost(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended, c.endCode = true, protocol.UnspecifiedError
	switch {
	case errors.Is(err, io.EOF):
		c.endText = "closed by the client"
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.endText = noConnect
	default:
		c.endText = err.Error()
	}
}

const noConnect = "no CONNECT in time"

// touch notes that the client is alive.
func (c *conn) touch() { c.seen.Store(int64(c.g.now())) }

// kick ends the connection because its session was taken over, and returns a
// channel that is closed when it has let go of the session.
func (c *conn) kick() <-chan struct{} {
	c.g.stats.takeovers.Add(1)
	c.g.observe(Event{Kind: EventTakenOver, Client: &c.client})
	c.end(protocol.SessionTakenOver, "session was taken over")
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone == nil {
		c.gone = make(chan struct{})
	}
	return c.gone
}

// lingerTime bounds how long a closed connection waits for its peer to close
// too. Closing with input unread would reset the connection and destroy what
// is still on its way, the DISCONNECT with its reason above all.
const lingerTime = time.Second

// finish lets go of everything. It runs in the reader's goroutine, last.
func (c *conn) finish(ctx context.Context) {
	defer c.g.serving.Done()
	c.mu.Lock()
	c.ended, c.up = true, false
	code, text := c.endCode, c.endText
	c.mu.Unlock()
	if c.authTimer != nil {
		c.authTimer.Stop()
	}
	if c.open {
		c.detach(ctx)
	}
	if c.counted {
		if c.hasGoodbye {
			code, text = c.goodbye, "client disconnected"
		}
		c.g.stats.disconnects[code].Add(1)
		c.wasHere()
		c.g.log.Info("disconnected", "client", string(c.client.ID), "user", c.client.Username, "remote", c.client.Remote, "listener", c.client.Listener, "code", code, "reason", text)
		c.g.observe(Event{Kind: EventDisconnected, Client: &c.client, Code: code, Reason: text})
	}
	c.mu.Lock()
	if c.gone == nil {
		c.gone = make(chan struct{})
	}
	close(c.gone)
	if c.untold {
		c.tellLocked()
	}
	c.mu.Unlock()
	c.wait()
	if c.frames != nil {
		c.frames.emit = nil // its own writer again
	}
	// After DISCONNECT the client closes [MQTT-3.14.4-2], and nothing of ours is
	// on its way.
	linger := !c.hasGoodbye || c.goodbye != protocol.Success
	if c.loop != nil {
		c.moveOut(linger)
	}
	if c.tls != nil {
		c.tls.apart = false
	}
	if c.nc != nil {
		if linger {
			c.linger()
		}
		c.nc.Close()
	}
	c.g.forget(c)
}

// linger sends the end of the stream and takes what is still coming.
func (c *conn) linger() {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.nc.SetReadDeadline(time.Now().Add(lingerTime))
	b := make([]byte, 1024)
	for range 256 {
		if _, err := c.nc.Read(b); err != nil {
			return
		}
	}
}

// detach leaves the session in the store.
func (c *conn) detach(ctx context.Context) {
	c.g.withdraw(c)
	c.mu.Lock()
	code := c.endCode
	left := c.out.Unfinished()
	c.g.stats.inflight.Add(-int64(c.out.InFlight()))
	c.g.stats.queued.Add(-int64(c.out.Queued()))
	sent := max(c.out.Next(), 1) - 1 // a connection that was refused has sent nothing
	progress, _, changed := c.out.Progress()
	c.mu.Unlock()
	c.g.stats.inboundInFlight.Add(-int64(c.inflight))
	if c.counted && c.durable {
		c.g.stats.sessions.Add(-1)
	}
	if changed {
		sctx, cancel := c.g.storeContext(ctx)
		c.g.storeFailed(c.g.store.Advance(sctx, c.lease, progress))
		cancel()
	}
	sctx, cancel := c.g.storeContext(ctx)
	due, err := c.g.store.Release(sctx, c.lease, backend.ReleaseRequest{KeepWill: !c.willless, Expiry: c.newExpiry, Sent: sent})
	cancel()
	c.g.clients.remove(c)
	if err != nil && !errors.Is(err, backend.ErrFenced) {
		// The lease of the gateway, or the next owner, does it instead.
		c.g.storeFailed(err)
		c.g.log.Warn("session was not released", "client", string(c.client.ID), "err", err)
	}
	if len(left) > 0 {
		c.g.requeue(ctx, c.client.ID, left)
	}
	c.g.carryOut(ctx, due, &c.client, causeOf(c, code))
}
