package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// choresAtOnce bounds how many wills and the like are taken on at one time.
const choresAtOnce = 64

// readStore reads the store's own figures, for Stats and $SYS.
func (g *Gateway) readStore(ctx context.Context) {
	sctx, cancel := g.storeContext(ctx)
	defer cancel()
	count, bytes, err := g.store.RetainedStats(sctx)
	if err != nil {
		g.storeFailed(err)
		return
	}
	g.stats.retainedCount.Store(count)
	g.stats.retainedBytes.Store(bytes)
	if counter, ok := g.store.(backend.Census); ok {
		if n, err := counter.CountSessions(sctx); g.storeFailed(err) == nil {
			g.stats.allSessions.Store(n)
		}
	}
}

// doChores carries out what is due, for whatever gateway it was left by, until
// the context ends.
func (g *Gateway) doChores(ctx context.Context) {
	for {
		sctx, cancel := g.storeContext(ctx)
		due, wait, err := g.store.Due(sctx, g.opt.ID, choresAtOnce)
		cancel()
		if err != nil && ctx.Err() == nil {
			g.storeFailed(err)
			wait = time.Second
		}
		g.carryOut(ctx, due, nil, willLater)
		if !sleep(ctx, max(wait, time.Millisecond)) {
			return
		}
	}
}

// carryOut does chores and tells the store. One that fails is handed out
// again, here or elsewhere. Of is the client whose connection has just ended
// here, if it is one that left them; cause is why they are due.
func (g *Gateway) carryOut(ctx context.Context, due []backend.Chore, of *Client, cause willCause) {
	if len(due) == 0 {
		return
	}
	done := make([]backend.Chore, 0, len(due))
	for _, ch := range due {
		g.measures.chore(ch.Kind, choreTaken)
		if err := g.chore(ctx, &ch, of, cause); err != nil {
			g.measures.chore(ch.Kind, choreFailed)
			g.log.Warn("chore failed, it will be tried again", "kind", int(ch.Kind), "client", string(ch.Client), "err", err)
			continue
		}
		done = append(done, ch)
	}
	sctx, cancel := g.storeContext(ctx)
	defer cancel()
	outcome := choreDone
	if err := g.store.Finish(sctx, done); err != nil {
		g.storeFailed(err)
		outcome = choreFailed
	}
	for _, ch := range done {
		g.measures.chore(ch.Kind, outcome)
	}
}

func (g *Gateway) chore(ctx context.Context, ch *backend.Chore, of *Client, cause willCause) error {
	switch ch.Kind {
	case backend.ChoreWill:
		if !g.mayPublishWill(ctx, ch, of) {
			return nil
		}
		will := *ch.Will
		if will.QoS > 0 {
			// A chore that is handed out twice is one message all the same.
			will.ID = oneMessage("will/" + ch.ID)
		}
		err := g.publishWill(ctx, &will)
		if errors.Is(err, backend.ErrTooLarge) {
			err = nil // it never fits; what could be stored and delivered was
		}
		if err != nil {
			return err
		}
		g.stats.wills.Add(1)
		g.measures.wills[cause].Add(1)
		g.observe(Event{Kind: EventWill, Client: &Client{ID: ch.Client}, Message: ch.Will})
	case backend.ChoreEnded:
		g.observe(Event{Kind: EventSessionEnded, Client: &Client{ID: ch.Client}})
	case backend.ChoreRequeue:
		return g.requeue(ctx, ch.Client, ch.Entries)
	}
	return nil
}

// requeue gives what a member of shared groups has left to other members.
func (g *Gateway) requeue(ctx context.Context, from backend.ClientID, entries []backend.Entry) error {
	out := make([]backend.Append, len(entries))
	sctx, cancel := g.storeContext(ctx)
	defer cancel()
	if err := g.store.Requeue(sctx, from, entries, out); err != nil {
		return g.storeFailed(err)
	}
	b := newBatch(g, nil)
	defer b.free()
	for i := range out {
		if out[i].Matched {
			g.measures.requeued.Add(1)
		} else {
			g.drop(DropGone, nil, entries[i].Message, 1)
		}
		if out[i].Refused > 0 {
			g.drop(DropInboxFull, nil, entries[i].Message, out[i].Refused)
		}
		b.tellTargets(ctx, out[i].Targets)
	}
	g.soon.Flush()
	b.flush()
	return nil
}

// load tells the store how many messages a client here has still to take,
// negative if it can take none.
func (g *Gateway) load(id backend.ClientID) int {
	c := g.clients.get(id)
	if c == nil {
		return -1
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.out.Queued()
	if !c.up || c.ended || n >= g.opt.Limits.OutboxMessages {
		return -1
	}
	return n + c.out.InFlight()
}
