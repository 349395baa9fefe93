// Package gateway is an MQTT 3.1, 3.1.1 and 5.0 server that keeps nothing to
// itself: sessions, their messages and retained messages are in a
// [backend.Store], other gateways are reached through a [backend.Backend].
//
// A program creates a [Gateway] with [New] and either lets it open listeners
// ([Gateway.Run]) or hands it connections ([Gateway.ServeConn]).
package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/topictree"
	"github.com/sluice-mqtt/sluice/protocol"
)

// Gateway serves MQTT clients. Its methods may be called concurrently.
type Gateway struct {
	opt     Options
	log     *slog.Logger
	store   backend.Store
	bus     backend.Backend
	soon    backend.Bundler // the bus
	started time.Time
	watched EventKind // what the observer wants
	waits   bool      // the store may

	certificates []*certificates // of all listeners
	handshakes   chan struct{}   // places for those that compute
	admission    *admission

	stats    counters
	measures measures
	// tree holds the subscriptions of the clients connected here, shared ones
	// excepted, for live deliveries.
	tree *topictree.Tree[*conn, subscription]
	// routes caches what tree answers, by topic.
	routes routes
	// authRevision moves on when the authorizer may answer differently.
	authRevision atomic.Uint64
	clients      clients
	interests    interests
	routed       routed
	fights       fights
	peers        peers
	standstill   standstill
	doubts       doubts
	durable      atomic.Int64  // sessions with an inbox and subscriptions that are here, counted now and then
	reviewed     time.Duration // when the last review began; its goroutine's own
	renewNow     chan struct{} // the lease is to be renewed before its time
	forsaken     chan forsaken // to be given to other members of shared groups
	leaseGone    atomic.Bool   // the lease has ended and was not joined anew yet
	wheel        wheel
	loops        loops
	sys          sysTopics
	asking       asking
	bans         bans

	mu        sync.Mutex
	state     state
	listeners []*listener
	conns     map[*conn]struct{}
	arrivals  map[*arrival]struct{} // that do not speak MQTT yet
	// cancel ends everything that Start began, background are its goroutines.
	cancel     context.CancelFunc
	background sync.WaitGroup
	serving    sync.WaitGroup // connections
	over       chan struct{}  // closed when Shutdown is done

	traces traces // guarded by mu

	// trouble holds the parts that are not ready, by name.
	trouble sync.Map
}

type state uint8

const (
	stateNew state = iota
	stateRunning
	stateLeaving // not ready, but nobody is turned away yet
	stateDraining
	stateStopped
)

// New checks the options and makes a gateway. An error names every
// [ConfigError] that was found.
func New(o Options) (*Gateway, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	g := &Gateway{
		opt:        o,
		log:        o.Logger,
		store:      o.Store,
		bus:        o.Backend,
		soon:       bundler(o.Backend),
		tree:       topictree.New[*conn, subscription](),
		conns:      make(map[*conn]struct{}),
		arrivals:   make(map[*arrival]struct{}),
		handshakes: make(chan struct{}, o.Limits.Handshakes),
		over:       make(chan struct{}),

		renewNow: make(chan struct{}, 1),
		forsaken: make(chan forsaken, maxRequeues),
	}
	g.measures.offer(o.Enhanced)
	g.admission = newAdmission(&g.opt.Limits)
	g.asking.questions = make(chan question, waitingQuestions)
	if o.Authenticator == nil {
		g.opt.Authenticator = allowAll{}
	}
	instant, ok := g.store.(backend.Immediate)
	g.waits = !ok || !instant.Immediate()
	if o.Observer != nil {
		g.watched = o.Observer.Events()
	}
	if err := g.loadCertificates(); err != nil {
		return nil, err
	}
	return g, nil
}

// Start joins the store and the bus and opens the listeners; everything is
// live when it returns. An error is a [ConfigError] for a listener that can
// not be opened, an [ExtensionError] for a store or bus that fails.
// The context bounds the start, not the life of the gateway.
func (g *Gateway) Start(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state != stateNew {
		return errors.New("gateway: started before")
	}
	g.observe(Event{Kind: EventStarting})
	g.started = time.Now()
	if err := g.store.Join(ctx, g.node(), g.opt.Timing.Lease); err != nil {
		return &ExtensionError{Extension: "Store", Err: err}
	}
	if err := g.bus.Start(ctx, g.opt.ID, &handler{g: g}); err != nil {
		return errors.Join(&ExtensionError{Extension: "Backend", Err: err}, g.store.Leave(ctx, g.opt.ID))
	}
	if err := g.bus.Subscribe(ctx, peerRoot+"#", backend.ClassQoS0); err != nil {
		return errors.Join(&ExtensionError{Extension: "Backend", Err: err}, g.bus.Close(), g.store.Leave(ctx, g.opt.ID))
	}
	g.refreshBans(ctx) // before anybody is let in
	for _, l := range g.opt.Listeners {
		ln, err := listen(g, l)
		if err != nil {
			for _, open := range g.listeners {
				open.close()
			}
			return errors.Join(err, g.bus.Close(), g.store.Leave(ctx, g.opt.ID))
		}
		g.listeners = append(g.listeners, ln)
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	g.cancel = cancel
	g.state = stateRunning
	g.loops.prepare(life, g)
	g.background.Go(func() { g.wheel.run(life, g) })      // until cancel
	g.background.Go(func() { g.keepLease(life) })         // until cancel
	g.background.Go(func() { g.doChores(life) })          // until cancel
	g.background.Go(func() { g.publishSys(life) })        // until cancel
	g.background.Go(func() { g.beat(life) })              // until cancel
	g.background.Go(func() { g.keepReviewing(life) })     // until cancel
	g.background.Go(func() { g.keepRequeuing(life) })     // until cancel
	g.background.Go(func() { g.keepBeat(life) })          // until cancel
	g.background.Go(func() { g.watchCertificates(life) }) // until cancel
	g.attend(life)                                        // until cancel
	for _, l := range g.listeners {
		g.background.Go(func() { l.serve(life) }) // until the listener is closed
	}
	g.observe(Event{Kind: EventStarted})
	return nil
}

// Run starts the gateway, waits for the context to end, and shuts it down in
// an orderly way, for which it takes the drain time and a little more.
func (g *Gateway) Run(ctx context.Context) error {
	if err := g.Start(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	limit := g.opt.Timing.DrainDelay + max(g.opt.Timing.Drain, 0) + 5*time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	return g.Shutdown(ctx)
}

// Addr is the address of an open listener, nil if there is none of that name.
func (g *Gateway) Addr(name string) net.Addr {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, l := range g.listeners {
		if l.Name == name {
			return l.ln.Addr()
		}
	}
	return nil
}

// Ready reports what keeps this gateway from serving clients: nil, or an error
// that names every part that is not ready.
func (g *Gateway) Ready() error {
	g.mu.Lock()
	st := g.state
	g.mu.Unlock()
	switch st {
	case stateNew:
		return errors.New("not started")
	case stateLeaving, stateDraining:
		return errors.New("draining")
	case stateStopped:
		return ErrStopped
	}
	var errs []error
	g.trouble.Range(func(part, err any) bool {
		errs = append(errs, fmt.Errorf("%s: %w", part, err.(error)))
		return true
	})
	for part, driver := range map[string]any{"bus": g.bus, "store": g.store, "forwarder": g.opt.Forwarder} {
		if h, ok := driver.(backend.Healthy); ok {
			if err := h.Health(); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", part, err))
			}
		}
	}
	return errors.Join(errs...)
}

// setTrouble notes that a part has failed, or is well again with nil, and
// logs the change.
func (g *Gateway) setTrouble(part string, err error) {
	if err != nil {
		if _, was := g.trouble.Swap(part, err); !was {
			g.log.Warn("not ready", "part", part, "err", err)
		}
		return
	}
	if _, was := g.trouble.LoadAndDelete(part); was {
		g.log.Info("ready again", "part", part)
	}
}

// Shutdown stops in an orderly way: not ready at once, then no new
// connections, then the clients are sent away over the drain time, MQTT 5
// clients with 0x8B or 0x9C; their sessions are left in the store. When the
// context ends first, the rest is closed at once. A second call waits too.
func (g *Gateway) Shutdown(ctx context.Context) error {
	g.mu.Lock()
	if g.state != stateRunning {
		st := g.state
		g.mu.Unlock()
		if st == stateNew {
			return ErrStopped
		}
		select {
		case <-g.over:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	g.state = stateLeaving
	g.mu.Unlock()
	g.observe(Event{Kind: EventStopping})
	sleep(ctx, g.opt.Timing.DrainDelay)
	for _, l := range g.listeners {
		l.close()
	}
	g.mu.Lock()
	g.state = stateDraining
	for a := range g.arrivals {
		a.socket.Close()
	}
	g.mu.Unlock()
	g.drain(ctx)

	closed := make(chan struct{})
	go func() { g.serving.Wait(); close(closed) }() // ends with the last connection
	select {
	case <-closed:
	case <-ctx.Done():
		g.mu.Lock()
		for c := range g.conns {
			c.hangUp()
		}
		g.mu.Unlock()
		<-closed
	}
	g.cancel()
	g.background.Wait()
	busErr := g.bus.Close()
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.opt.Timing.Store)
	defer cancel()
	storeErr := g.store.Leave(leave, g.opt.ID)
	g.mu.Lock()
	g.state = stateStopped
	close(g.over)
	g.mu.Unlock()
	g.observe(Event{Kind: EventStopped})
	return errors.Join(busErr, storeErr)
}

// drain ends the connections in random order, spread over the drain time.
func (g *Gateway) drain(ctx context.Context) {
	g.mu.Lock()
	all := make([]*conn, 0, len(g.conns))
	for c := range g.conns {
		all = append(all, c)
	}
	g.mu.Unlock()
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	code := protocol.ServerShuttingDown
	if g.opt.ServerReference != "" {
		code = protocol.UseAnotherServer
	}
	// A pause every so many keeps the timer's resolution out of the pace.
	const step = 20 * time.Millisecond
	steps := int(max(g.opt.Timing.Drain, 0) / step)
	for i, c := range all {
		c.end(code, "server is shutting down")
		if pause := (i+1)*steps/len(all) - i*steps/len(all); pause > 0 && i+1 < len(all) {
			sleep(ctx, step*time.Duration(pause))
		}
	}
}

// sleep waits for d or the end of the context, and reports whether it was d.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// ServeConn serves one connection that was accepted elsewhere, as if it had
// come in by the listener of that name, and returns when it is over. The
// connection is closed in any case. The end of the context ends it.
func (g *Gateway) ServeConn(ctx context.Context, nc net.Conn, listener string) error {
	a := g.arrived(nc, listener)
	if t, ok := nc.(*tls.Conn); ok {
		if err := t.HandshakeContext(ctx); err != nil {
			nc.Close()
			return err
		}
		a.identify(t, nil)
	}
	c, err := g.newConn(a)
	if err != nil {
		nc.Close()
		return err
	}
	stop := context.AfterFunc(ctx, func() { c.end(protocol.ServerShuttingDown, "connection was cancelled") })
	defer stop()
	c.serve(context.WithoutCancel(ctx))
	return nil
}

// Reauthorize makes the gateway ask its [Authorizer] anew: for publishes and
// deliveries from now on, and for the subscriptions of every connected client,
// which loses those that are not allowed any more. Where the [Authenticator] is
// a [Verifier], clients that it would not let in any more are sent away first.
func (g *Gateway) Reauthorize(ctx context.Context) {
	g.ForgetAnswers()
	for _, c := range g.clients.all() {
		if err := g.verify(ctx, &c.client); err != nil {
			c.end(refusalCode(err, protocol.DISCONNECT), "credentials are not valid any more")
			continue
		}
		c.reauthorize(ctx)
	}
}

// ForgetAnswers makes the gateway ask its [Authorizer] anew for publishes and
// deliveries from now on. Subscriptions stay.
func (g *Gateway) ForgetAnswers() { g.authRevision.Add(1) }

// verify asks the authenticator whether a client may stay. A panic of it is no
// reason to send anybody away.
func (g *Gateway) verify(ctx context.Context, c *Client) (err error) {
	v, ok := g.opt.Authenticator.(Verifier)
	if !ok {
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			g.stats.panics.Add(1)
			g.log.Error("authenticator panicked", "client", string(c.ID), "panic", p)
			err = nil
		}
	}()
	return v.Verify(ctx, c)
}

// observe tells the observer of e, if it wants to know. What it does wrong
// stays its own.
func (g *Gateway) observe(e Event) {
	if g.watched&e.Kind == 0 {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			g.stats.panics.Add(1)
			g.log.Error("observer panicked", "event", uint32(e.Kind), "panic", p)
		}
	}()
	g.opt.Observer.Observe(e)
}

// authorize asks the authorizer. A panic of it is a refusal.
func (g *Gateway) authorize(ctx context.Context, c *Client, a Access) (err error) {
	if g.opt.Authorizer == nil {
		return nil
	}
	leave(ctx)
	defer func() {
		if p := recover(); p != nil {
			g.stats.panics.Add(1)
			err = &ExtensionError{Extension: "Authorizer", Err: fmt.Errorf("panic: %v", p)}
			g.log.Error("authorizer panicked", "client", string(c.ID), "panic", p)
		}
	}()
	if err = g.opt.Authorizer.Authorize(ctx, c, a); err != nil {
		g.measures.denied(a.Action, err)
	}
	return err
}

// refusalCode is the reason code for an authorizer's no, if it is one that the
// answer can carry.
func refusalCode(err error, answer protocol.Type) protocol.ReasonCode {
	var r *RefusalError
	if errors.As(err, &r) && r.Code >= protocol.UnspecifiedError && r.Code.ValidIn(answer) {
		return r.Code
	}
	return protocol.NotAuthorized
}
