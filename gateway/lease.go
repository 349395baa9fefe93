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

// leaseLost starts anew after the lease has ended: other gateways may have
// given the sessions away. Every connection is dropped, what is still attached
// to this gateway is left, and only then it joins again.
func (g *Gateway) leaseLost(ctx context.Context) {
	g.stats.leaseLost.Add(1)
	g.setTrouble("lease", errors.New("lost; connections are dropped"))
	g.clients.overtakeAll()
	all := g.clients.all()
	g.log.Warn("lease lost, dropping all connections", "clients", len(all))
	for _, c := range all {
		c.end(protocol.ServerBusy, "gateway lost its lease")
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
			err = g.store.Join(sctx, backend.Node{ID: g.opt.ID, Load: g.load}, g.opt.Timing.Lease)
		}
		cancel()
		if err == nil {
			g.setTrouble("lease", nil)
			return
		}
		g.storeFailed(err)
		if !sleep(ctx, time.Second) {
			return
		}
	}
}
