package gateway

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

const (
	// reviewSpacing is the least between two reviews, however many doubts
	// there are.
	reviewSpacing = time.Second
	// calmPolls is how many times Timing.Poll pass between two reviews while
	// nothing is in doubt: they are for losses that nobody knows of.
	calmPolls = 12
	// reviewAtOnce is how many sessions one call to the store asks about.
	reviewAtOnce = 256
)

// doubts say whether notices of the bus may have been lost just now. While they
// may, the store is asked once in every Timing.Poll which sessions have been
// taken over and which inboxes have more than was heard of.
type doubts struct {
	once  sync.Once
	wake  chan struct{}
	mu    sync.Mutex
	until time.Duration // on the gateway's clock
}

func (d *doubts) woken() chan struct{} {
	d.once.Do(func() { d.wake = make(chan struct{}, 1) })
	return d.wake
}

// doubt begins a time of doubt, or prolongs it; the first review follows soon.
func (g *Gateway) doubt(why string) {
	now := g.now()
	g.doubts.mu.Lock()
	calm := g.doubts.until <= now
	g.doubts.until = now + 2*g.opt.Timing.Poll
	g.doubts.mu.Unlock()
	if calm {
		g.log.Debug("notices may have been lost, sessions are reviewed", "reason", why)
		g.reviewSoon()
	}
}

func (g *Gateway) reviewSoon() {
	select {
	case g.doubts.woken() <- struct{}{}:
	default:
	}
}

// keepReviewing reviews the sessions here when something is in doubt, and now
// and then when nothing is, until the context ends.
func (g *Gateway) keepReviewing(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	for first := true; ; first = false {
		t.Reset(g.reviewPause())
		select {
		case <-ctx.Done():
			return
		case <-g.doubts.woken():
		case <-t.C:
			if g.alone() {
				continue // nobody who could have sent a notice
			}
		}
		if !first && !sleep(ctx, reviewSpacing-(g.now()-g.reviewed)) && ctx.Err() != nil {
			return
		}
		g.reviewed = g.now()
		g.review(ctx)
	}
}

// reviewPause is how long the next review may wait, spread so that gateways do
// not ask in step.
func (g *Gateway) reviewPause() time.Duration {
	g.doubts.mu.Lock()
	doubtful := g.doubts.until > g.now()
	g.doubts.mu.Unlock()
	d := g.opt.Timing.Poll
	if !doubtful {
		d *= calmPolls
	}
	return d/2 + rand.N(d/2)
}

// review asks the store about every session that is connected here. Those that
// were taken over are ended, inboxes with something new are looked into.
func (g *Gateway) review(ctx context.Context) {
	leases := make([]backend.Lease, 0, reviewAtOnce)
	conns := make([]*conn, 0, reviewAtOnce)
	for shard := range clientShards {
		for _, c := range g.clients.some(shard) {
			leases, conns = append(leases, c.lease), append(conns, c)
			if len(conns) < reviewAtOnce {
				continue
			}
			if !g.reviewSome(ctx, leases, conns) {
				return
			}
			leases, conns = leases[:0], conns[:0]
		}
	}
	g.reviewSome(ctx, leases, conns)
}

// reviewSome is a part of review. It reports whether to go on.
func (g *Gateway) reviewSome(ctx context.Context, leases []backend.Lease, conns []*conn) bool {
	if len(leases) == 0 {
		return true
	}
	out := make([]backend.Standing, len(leases))
	sctx, cancel := g.storeContext(ctx)
	err := g.store.Review(sctx, leases, out)
	cancel()
	if err != nil {
		g.storeFailed(err)
		return false // in doubt or not, there is a next time
	}
	checked := false
	for i, c := range conns {
		switch {
		case !out[i].Fenced:
			c.heardOf(out[i].Last)
		case !checked && !g.holdsLease(ctx):
			return false
		default:
			checked = true
			c.fail(backend.ErrFenced)
		}
	}
	return true
}

// holdsLease makes sure that it is the session that was lost, and not the
// gateway's own lease: that concerns all connections, and is not their fault.
func (g *Gateway) holdsLease(ctx context.Context) bool {
	sctx, cancel := g.storeContext(ctx)
	defer cancel()
	err := g.store.Renew(sctx, g.opt.ID)
	if err != nil {
		g.storeFailed(err)
		g.renewSoon()
	}
	return err == nil
}

// heardOf tells a connection which is the newest entry of its inbox.
func (c *conn) heardOf(last uint64) {
	c.mu.Lock()
	look := false
	if c.durable && c.up && !c.ended {
		c.out.Miss(last)
		look = c.out.Missed() && c.out.Room() > 0
	}
	c.mu.Unlock()
	if look {
		c.startPump()
	}
}
