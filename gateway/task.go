package gateway

import (
	"context"
	"math"
	"slices"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// taskPage is how many retained messages, or messages of a shared group, are
// read at once.
const taskPage = 64

// task is a delivery that goes on at the pace of the client: the retained
// messages of a subscription, or what waited for a shared group.
type task struct {
	sub    backend.Subscription
	shared bool
	// after is the last topic that was delivered.
	after string
}

// tasksFor sets the tasks of a session that was opened. The lock is held.
func (c *conn) tasksFor(subs []backend.Subscription, replays []backend.Replay) {
	for _, r := range replays {
		if slices.ContainsFunc(subs, func(s backend.Subscription) bool { return s.Filter == r.Subscription.Filter }) {
			c.tasks = append(c.tasks, task{sub: r.Subscription, after: r.After})
		}
	}
	for _, s := range subs {
		if _, _, shared := protocol.SplitShare(s.Filter); shared {
			c.tasks = append(c.tasks, task{sub: s, shared: true})
		}
	}
}

// replaceTaskLocked starts the task of a subscription, or starts it again.
func (c *conn) replaceTaskLocked(t task) {
	c.dropTaskLocked(t.sub.Filter)
	c.tasks = append(c.tasks, t)
}

func (c *conn) dropTaskLocked(filter string) {
	c.tasks = slices.DeleteFunc(c.tasks, func(t task) bool { return t.sub.Filter == filter })
	if len(c.tasks) == 0 {
		c.tasks = nil
	}
}

// step carries the first task one page further and reports whether to go on.
func (c *conn) step(ctx context.Context, b *batch, t task, room int) bool {
	if room <= 0 && (t.sub.QoS > 0 || t.shared) {
		return false // an acknowledgement makes room
	}
	n := taskPage
	if t.sub.QoS > 0 {
		n = min(n, room)
	}
	if t.shared {
		return c.drainGroup(ctx, b, t, n)
	}
	if isSys(t.sub.Filter) {
		return c.replaySys(b, t)
	}
	return c.replay(ctx, b, t, n)
}

// replay delivers a page of retained messages (MQTT 5 §3.3.1.3).
func (c *conn) replay(ctx context.Context, b *batch, t task, n int) bool {
	sctx, cancel := c.g.storeContext(ctx)
	defer cancel()
	page, more, err := c.g.store.Match(sctx, t.sub.Filter, t.after, n)
	if err != nil {
		return c.pumpFailed(err)
	}
	entries := make([]backend.Entry, 0, len(page))
	for _, m := range page {
		if e, ok := c.retainedEntry(m, &t.sub); ok {
			entries = append(entries, e)
		}
	}
	after := t.after
	if len(page) > 0 {
		after = page[len(page)-1].Topic
	}
	if n := c.fitting(entries); n < len(entries) {
		entries, after, more = entries[:n], entries[n-1].Message.Topic, true
	}
	if c.durable {
		// What is in the inbox is not read again, even if the connection ends
		// here.
		err := c.enqueue(sctx, entries)
		if err == nil {
			err = c.g.store.Replayed(sctx, c.lease, t.sub.Filter, after, !more)
		}
		if err != nil {
			return c.pumpFailed(err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	b.patient = true
	for i := range entries {
		b.entryLocked(c, &entries[i])
	}
	b.patient = false
	// The task may have been dropped or started anew meanwhile.
	if i := slices.Index(c.tasks, t); i >= 0 {
		if c.tasks[i].after = after; !more {
			c.tasks = slices.Delete(c.tasks, i, i+1)
		}
	}
	return true
}

// retainedEntry is a retained message for a subscription, if it is to be
// delivered.
func (c *conn) retainedEntry(m *backend.Message, s *backend.Subscription) (backend.Entry, bool) {
	if s.NoLocal && m.Publisher == c.client.ID || c.g.expired(m) {
		return backend.Entry{}, false
	}
	e := backend.Entry{Message: m, QoS: min(m.QoS, s.QoS), Retain: true} // [MQTT-3.3.1-8]
	if s.ID != 0 {
		e.SubscriptionIDs = []uint32{s.ID}
	}
	return e, true
}

// enqueue puts the entries with QoS 1 and 2 into the session's own inbox, which
// gives them their sequences.
func (c *conn) enqueue(ctx context.Context, entries []backend.Entry) error {
	var acked []backend.Entry
	for i := range entries {
		if entries[i].QoS > 0 {
			acked = append(acked, entries[i])
		}
	}
	if len(acked) == 0 {
		return nil
	}
	seq, err := c.g.store.Enqueue(ctx, c.lease, acked)
	if err != nil {
		return err
	}
	for i := range entries {
		if entries[i].QoS > 0 {
			entries[i].Seq = seq
			seq++
		}
	}
	return nil
}

// fitting is how many of the entries the outbox takes, at least one. Those with
// QoS 1 and 2 do not count: where they have no room they wait elsewhere.
func (c *conn) fitting(entries []backend.Entry) int {
	c.mu.Lock()
	size := c.box.size()
	c.mu.Unlock()
	for i := range entries {
		if entries[i].QoS > 0 {
			continue
		}
		if size += entries[i].Message.Size(); i > 0 && size > c.g.opt.Limits.OutboxBytes {
			return i
		}
	}
	return len(entries)
}

// entryLocked sends an entry of a task: from the inbox if it is in it, else at
// once or, where the window is full after all, from the queue.
func (b *batch) entryLocked(c *conn, e *backend.Entry) {
	switch {
	case e.QoS == 0:
		b.release(c, e)
	case e.Seq > 0 && c.box.size() > c.g.opt.Limits.OutboxBytes:
		c.out.Miss(e.Seq) // it is fetched when the socket has room
	case e.Seq > 0:
		if !c.out.Mail(*e) {
			c.pollLocked()
			return
		}
		b.release(c, e)
		for next, ok := c.out.Stashed(); ok; next, ok = c.out.Stashed() {
			b.release(c, &next)
		}
	case c.readyLocked():
		b.release(c, e)
	default:
		// It was read from where it waited, so it may not be dropped now.
		c.out.Push(*e, math.MaxInt, math.MaxInt)
		c.g.stats.queued.Add(1)
	}
}

// drainGroup takes a page of what waited for a shared group of which the
// client is a member.
func (c *conn) drainGroup(ctx context.Context, b *batch, t task, n int) bool {
	sctx, cancel := c.g.storeContext(ctx)
	defer cancel()
	entries, more, err := c.g.store.TakeShared(sctx, c.lease, t.sub.Filter, n)
	if err != nil {
		return c.pumpFailed(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		if len(entries) > 0 {
			c.g.requeueLater(c.client.ID, entries...)
		}
		return false
	}
	if c.durable {
		c.resync = true // they are in the inbox
	}
	for i := range entries {
		b.entryLocked(c, &entries[i])
	}
	if i := slices.Index(c.tasks, t); i >= 0 && !more {
		c.tasks = slices.Delete(c.tasks, i, i+1)
	}
	return true
}
