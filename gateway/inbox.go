package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

const (
	// fetchMax and fetchBytes bound one page out of an inbox.
	fetchMax   = 256
	fetchBytes = 256 << 10
	// retryPump is how long a store that did not answer is left alone.
	retryPump = time.Second
)

// mail gives a connection an entry that was appended to its inbox.
func (b *batch) mail(c *conn, e *backend.Entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.up || c.ended {
		return
	}
	if c.box.size() > c.g.opt.Limits.OutboxBytes {
		c.out.Miss(e.Seq) // it is fetched when the socket has room
		return
	}
	if !c.out.Mail(*e) {
		if c.out.Stalled() {
			c.startPump()
		}
		c.pollLocked()
		return
	}
	b.release(c, e)
	for {
		next, ok := c.out.Stashed()
		if !ok {
			return
		}
		b.release(c, &next)
	}
}

// release sends an entry to a client that may still have it. The connection's
// lock is held and the window has room.
func (b *batch) release(c *conn, e *backend.Entry) {
	if c.g.opt.Authorizer != nil && e.State != backend.Released {
		a := Access{Action: Receive, Topic: e.Message.Topic, QoS: e.QoS, Retain: e.Retain}
		if c.g.authorize(context.Background(), &c.client, a) != nil {
			c.g.drop(DropDenied, &c.client, e.Message, 1)
			c.out.Skip(e)
			return
		}
	}
	b.sendEntry(c, e)
}

// offer gives a connection a message that is in no inbox: its client is an
// ephemeral member of a shared group that was chosen for it.
func (b *batch) offer(c *conn, e *backend.Entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.up || c.ended:
		c.g.requeueLater(c.client.ID, *e)
	case e.QoS == 0 || c.readyLocked():
		b.release(c, e)
	default:
		b.queue(c, *e)
	}
}

// pollLocked makes sure that mail which does not come is looked for: the
// doorbell of an entry may be lost.
func (c *conn) pollLocked() {
	if c.polling || !c.out.Behind() || c.out.Missed() {
		return
	}
	c.polling = true
	time.AfterFunc(c.g.opt.Timing.Poll, func() {
		c.mu.Lock()
		c.polling = false
		if c.out.Behind() {
			c.out.Miss(0)
		}
		look := c.out.Missed()
		c.mu.Unlock()
		if look {
			c.pump(context.Background())
		}
	})
}

// startPump lets a goroutine of its own look for what can be sent. It ends when
// nothing can.
func (c *conn) startPump() { go c.pump(context.Background()) }

// pump sends what waited for room: messages of the queue, entries of the
// inbox, retained messages, messages of shared groups; as much as the client's
// window and its socket take. Who acknowledges, or empties the socket, calls
// it again. One goroutine at a time is in it.
func (c *conn) pump(ctx context.Context) {
	defer c.recovered() // it is often in a goroutine of its own
	c.mu.Lock()
	if c.pumping {
		c.repump = true
		c.mu.Unlock()
		return
	}
	if !c.waitingLocked() {
		c.mu.Unlock()
		return
	}
	c.pumping = true
	c.mu.Unlock()
	b := newBatch(c.g, nil)
	defer b.free()
	for {
		again := c.pumpOnce(ctx, b)
		b.flush()
		if !again {
			c.mu.Lock()
			if !c.repump || c.ended {
				c.pumping = false
				c.mu.Unlock()
				return
			}
			c.repump = false
			c.mu.Unlock()
		}
	}
}

// waitingLocked reports whether there is anything to pump.
func (c *conn) waitingLocked() bool {
	return c.up && !c.ended && (c.resync || c.out.Missed() || c.out.Queued() > 0 || len(c.tasks) > 0)
}

// pumpOnce makes one step and reports whether another one makes sense.
func (c *conn) pumpOnce(ctx context.Context, b *batch) bool {
	c.mu.Lock()
	if !c.waitingLocked() {
		c.mu.Unlock()
		return false
	}
	if c.box.size() > c.g.opt.Limits.OutboxBytes/2 {
		c.mu.Unlock()
		c.flush() // whoever empties the socket pumps on
		c.mu.Lock()
		full := c.box.size() > c.g.opt.Limits.OutboxBytes/2
		c.mu.Unlock()
		return !full
	}
	c.mu.Unlock()
	b.sendQueue(c)
	c.mu.Lock()
	room := c.out.Room()
	switch {
	case c.out.Stalled():
		c.mu.Unlock()
		if err := c.advance(ctx); err != nil {
			c.fail(err)
			return false
		}
		return true
	case (c.resync || c.out.Missed()) && room > 0:
		after, known := c.out.Next()-1, c.out.Last()
		c.mu.Unlock()
		return c.fetch(ctx, b, after, known, min(room, fetchMax))
	case len(c.tasks) > 0 && !c.out.Missed():
		t := c.tasks[0]
		c.mu.Unlock()
		return c.step(ctx, b, t, room)
	}
	more := c.out.Queued() > 0 && room > 0
	c.mu.Unlock()
	return more
}

// sendQueue sends what waits in the queue of an ephemeral session, as far as
// window and socket allow.
func (b *batch) sendQueue(c *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.ended && c.out.Queued() > 0 && c.box.size() <= c.g.opt.Limits.OutboxBytes/2 {
		e, ok := c.out.Pop()
		if !ok {
			return
		}
		c.g.stats.queued.Add(-1)
		b.release(c, &e)
	}
}

// fetch reads a page of the inbox and sends it.
func (c *conn) fetch(ctx context.Context, b *batch, after, known uint64, most int) bool {
	sctx, cancel := c.g.storeContext(ctx)
	entries, more, err := c.g.store.Fetch(sctx, c.lease, after, most, fetchBytes)
	cancel()
	if err != nil {
		return c.pumpFailed(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	for i := range entries {
		e := &entries[i]
		if e.Seq < c.out.Next() {
			continue // it came by mail meanwhile
		}
		if c.out.Room() <= 0 || c.box.size() > c.g.opt.Limits.OutboxBytes {
			c.out.Miss(e.Seq)
			return true
		}
		b.release(c, e)
	}
	if !more {
		if n := len(entries); n > 0 {
			known = max(known, entries[n-1].Seq)
		}
		c.resync = false
		c.out.Fetched(known)
	} else {
		c.out.Miss(c.out.Next())
	}
	return true
}

// pumpFailed decides what becomes of a pump whose store call failed.
func (c *conn) pumpFailed(err error) bool {
	c.g.storeFailed(err)
	if errors.Is(err, backend.ErrFenced) || errors.Is(err, backend.ErrClosed) {
		c.fail(err)
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.retrying {
		c.retrying = true
		time.AfterFunc(retryPump, func() {
			c.mu.Lock()
			c.retrying = false
			c.mu.Unlock()
			c.pump(context.Background())
		})
	}
	return false
}
