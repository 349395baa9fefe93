package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// The lease is renewed three times before it ends, and fifteen times while that
// fails.
const (
	renewals      = 3
	urgentRenewal = 15
)

// keepLease renews the gateway's lease in the store until the context ends.
//
// While the store is away the connections stay, as long as the bus is heard:
// whoever takes a session over says so there, and what the store is needed for
// is not acknowledged. Without both, a client might be served here and
// elsewhere at once: then whoever has a session or a will is sent away before
// the lease ends, and may find a gateway that is better off.
func (g *Gateway) keepLease(ctx context.Context) {
	renewed := g.now() // by Join
	pause := g.opt.Timing.Lease / renewals
	for g.waitRenewal(ctx, pause) {
		asked := g.now()
		sctx, cancel := g.storeContext(ctx)
		err := g.store.Renew(sctx, g.opt.ID)
		cancel()
		switch {
		case errors.Is(err, backend.ErrFenced):
			g.leaseLost(ctx)
			renewed, pause = g.now(), g.opt.Timing.Lease/renewals
		case err != nil && ctx.Err() == nil:
			g.storeFailed(err)
			g.setTrouble("store", err)
			pause = g.opt.Timing.Lease / urgentRenewal
			if wrong := g.busTrouble(); wrong != nil && g.now()-renewed >= g.opt.Timing.Lease*2/3 {
				g.cutOff(err, wrong)
			}
		default:
			g.setTrouble("store", nil)
			renewed, pause = asked, g.opt.Timing.Lease/renewals
			g.readStore(ctx)
		}
	}
}

// waitRenewal waits until the lease is to be renewed, and reports whether it is.
func (g *Gateway) waitRenewal(ctx context.Context, pause time.Duration) bool {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-g.renewNow:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// cutOff sends the clients away whose sessions may soon be given to others
// without this gateway hearing of it.
func (g *Gateway) cutOff(store, bus error) {
	sent := 0
	for _, c := range g.clients.all() {
		if c.durable || c.hasWill {
			c.end(protocol.ServerBusy, "gateway is cut off")
			sent++
		}
	}
	if sent > 0 {
		g.log.Warn("neither store nor bus is there, clients with a session or a will are sent away", "clients", sent, "store", store, "bus", bus)
	}
}

// node is what the store is told of this gateway.
func (g *Gateway) node() backend.Node {
	return backend.Node{ID: g.opt.ID, Load: g.load, Fenced: g.fenced}
}

// fenced is called by the store when it has found that the lease has ended.
func (g *Gateway) fenced() {
	g.leaseGone.Store(true)
	g.renewSoon()
}

// renewSoon has the lease renewed now, or what follows when it has ended.
func (g *Gateway) renewSoon() {
	select {
	case g.renewNow <- struct{}{}:
	default:
	}
}

// leaseLost starts anew after the lease has ended: other gateways may have
// given the sessions away. Every connection is dropped, what is still attached
// to this gateway is left, and only then it joins again.
//
// Each session is released before its client is told, as far as the store
// allows that: a client that comes back at once must not find an inbox that
// does not know what was sent to it.
func (g *Gateway) leaseLost(ctx context.Context) {
	g.stats.leaseLost.Add(1)
	g.leaseGone.Store(true)
	g.setTrouble("lease", errors.New("lost; connections are dropped"))
	g.clients.overtakeAll()
	all := g.clients.all()
	g.log.Warn("lease lost, dropping all connections", "clients", len(all))
	for _, c := range all {
		c.endReleased(protocol.ServerBusy, "gateway lost its lease")
	}
	for sleep(ctx, 50*time.Millisecond) {
		if len(g.clients.all()) == 0 {
			break
		}
	}
	for {
		sctx, cancel := g.storeContext(ctx)
		err := g.store.Leave(sctx, g.opt.ID)
		if err == nil {
			err = g.store.Join(sctx, g.node(), g.opt.Timing.Lease)
		}
		cancel()
		if err == nil {
			g.leaseGone.Store(false)
			g.setTrouble("lease", nil)
			return
		}
		g.storeFailed(err)
		if !sleep(ctx, time.Second) {
			return
		}
	}
}
