package nats

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	natsgo "github.com/nats-io/nats.go"

	"github.com/sluice-mqtt/sluice/backend"
)

// link is one connection to a server, from its beginning to its end. It is
// never mended: the next one is new.
type link struct {
	nc     *natsgo.Conn
	dialer *dialer
	// in takes what comes for all subscriptions, until the client library
	// reads on.
	in         chan *natsgo.Msg
	wire       *wire
	bare       bool // frames are written to wire; else by the library
	maxPayload int
	server     string // its identity
	host       string // of its URL

	once sync.Once
	// down is closed when the link has failed; then reason says why.
	down   chan struct{}
	reason error

	mu    sync.Mutex
	fault error // an error of the server that does not end the link
}

// inLink is how many frames the client library may parse before it reads on: it
// reads 32 KiB at a time, which a frame takes at least 16 bytes of.
const inLink = 4096

var errTooSmall = errors.New("max_payload of the server is too small")

// connect makes a link. Cancelling ctx ends the attempt, not the link.
func (b *Backend) connect(ctx context.Context) (*link, error) {
	c, err := b.opt.client()
	if err != nil {
		return nil, err
	}
	l := &link{
		dialer: &dialer{ctx: ctx, base: net.Dialer{Timeout: b.opt.ConnectTimeout}},
		in:     make(chan *natsgo.Msg, inLink),
		down:   make(chan struct{}),
	}
	l.dialer.wrap = func(c net.Conn) net.Conn {
		l.wire = newWire(c, func() { b.receiver.drain(l) })
		return l.wire
	}
	c.Servers = b.order()
	c.NoRandomize = true
	c.Name = "sluice " + string(b.node)
	c.NoEcho = true
	c.AllowReconnect = false
	c.CustomDialer = l.dialer
	c.AsyncErrorCB = func(_ *natsgo.Conn, _ *natsgo.Subscription, err error) { b.asyncError(l, err) }
	c.ClosedCB = func(nc *natsgo.Conn) { l.fail(closedReason(nc.LastError())) }
	stop := context.AfterFunc(ctx, l.dialer.end)
	l.nc, err = c.Connect()
	if !stop() {
		if err == nil {
			l.close()
		}
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", b.opt.redacted(), explain(err))
	}
	l.bare = l.plain()
	l.maxPayload, l.server, l.host = int(l.nc.MaxPayload()), l.nc.ConnectedServerId(), hostOf(l.nc.ConnectedUrl())
	if need := b.opt.MaxMessage + overhead; b.opt.MaxMessage > 0 && l.maxPayload < need {
		l.close()
		return nil, fmt.Errorf("%w: it is %d bytes, messages of %d bytes need %d", errTooSmall, l.maxPayload, b.opt.MaxMessage, need)
	}
	return l, nil
}

// plain reports whether what is written to the wire is what the server reads:
// no TLS or WebSocket is in between.
func (l *link) plain() bool {
	_, err := l.nc.TLSConnectionState()
	return errors.Is(err, natsgo.ErrConnectionNotTLS) && !strings.HasPrefix(l.nc.ConnectedUrl(), "ws")
}

func closedReason(err error) error {
	if err == nil {
		return errors.New("connection closed by the server")
	}
	return err
}

// explain says in plain words what the client library's error means.
func explain(err error) error {
	switch {
	case errors.Is(err, natsgo.ErrNoServers):
		return errors.New("connection refused")
	case errors.Is(err, natsgo.ErrAuthorization), errors.Is(err, natsgo.ErrAuthExpired), errors.Is(err, natsgo.ErrAuthRevoked):
		return fmt.Errorf("credentials refused: %w", err)
	}
	return err
}

// startError is why Start failed, told apart by whether waiting can help.
func startError(err error) error {
	kind := backend.ErrUnavailable
	if backend.RefusedTLS(err) || slices.ContainsFunc(lasting, func(l error) bool { return errors.Is(err, l) }) {
		kind = backend.ErrRefused
	}
	return fmt.Errorf("nats: start: %w: %w", kind, err)
}

// lasting are the errors that stay until an operator changes something.
var lasting = []error{
	natsgo.ErrAuthorization, natsgo.ErrAuthExpired, natsgo.ErrAuthRevoked, natsgo.ErrAccountAuthExpired,
	natsgo.ErrPermissionViolation, natsgo.ErrSecureConnRequired, natsgo.ErrSecureConnWanted,
}

// asyncError takes what the client library reports on its own.
func (b *Backend) asyncError(l *link, err error) {
	switch {
	case errors.Is(err, natsgo.ErrSlowConsumer):
		b.queue.lost()
	case refused(err):
		// Which subscriptions the server has is not known any more.
		l.fail(err)
	default:
		l.mu.Lock()
		fresh := l.fault == nil
		l.fault = err
		l.mu.Unlock()
		if fresh {
			b.log.Warn("bus reports an error", "err", err)
		}
	}
}

// refused reports whether err says that the server did not take a
// subscription.
func refused(err error) bool {
	return errors.Is(err, natsgo.ErrMaxSubscriptionsExceeded) ||
		errors.Is(err, natsgo.ErrPermissionViolation) && strings.Contains(strings.ToLower(err.Error()), "subscription")
}

// flush waits until the server has done all that was asked of it before.
func (l *link) flush() error {
	if err := l.nc.FlushTimeout(l.nc.Opts.Timeout); err != nil {
		return err
	}
	return l.refusal()
}

// refusal returns why the link can not be relied on after a round trip: it is
// down, or the server has refused a subscription, which ends it. What was
// refused is known before the answer comes.
func (l *link) refusal() error {
	// First the library's error: one that ended the link has replaced it.
	err := l.nc.LastError()
	if l.isDown() {
		return l.reason
	}
	if err == nil || !refused(err) {
		return nil
	}
	l.fail(err)
	return err
}

// fail ends the link for the reason given first.
func (l *link) fail(reason error) {
	l.once.Do(func() {
		l.reason = reason
		close(l.down)
		l.dialer.end()
	})
}

func (l *link) isDown() bool {
	select {
	case <-l.down:
		return true
	default:
		return false
	}
}

// lastFault returns an error of the server that did not end the link.
func (l *link) lastFault() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fault
}

// close sends what is written and ends the link.
func (l *link) close() {
	l.nc.Close()
	l.fail(backend.ErrClosed)
}
