package gateway

import (
	"context"
	"sync"
	"time"
)

const (
	// chatTime tells connections that are spoken on from those that are silent
	// but for a ping now and then: who says something again so soon keeps its
	// goroutine.
	chatTime = time.Second
	// quietTime is how long a connection that has kept its goroutine is silent
	// before it is parked.
	quietTime = 5 * time.Second
)

// lot is where connections are parked that have nothing to say: they have no
// goroutine, and so no stack, but are known to a poller. When bytes come, a
// goroutine is taken that reads and goes away again. A connection that is
// spoken on keeps its goroutine, waiting in the socket as usual, until it has
// been silent for a while; on it nothing is different than without a lot.
//
// Whoever clears conn.parked, under the connection's lock, takes the goroutine.
type lot struct {
	// open is called for the first connection that could be parked.
	open   func()
	resume func(*conn)
	poller *poller // nil: the system has none, and nobody is parked

	mu sync.Mutex
	// slots are the parked connections by file descriptor. One that was ended
	// by somebody else may still be in its slot, until it is closed.
	slots []*conn
	// chatty are those that keep their goroutine.
	chatty []*conn
}

// prepare makes the lot one that is opened when it is needed. Life ends it.
func (l *lot) prepare(life context.Context, g *Gateway) {
	l.resume = func(c *conn) { go c.stay(context.WithoutCancel(life)) } // until the client is silent or gone
	l.open = sync.OnceFunc(func() {
		p, err := newPoller()
		if err != nil {
			g.log.Debug("idle connections keep a goroutine", "err", err)
			return
		}
		l.poller = p
		g.background.Go(func() { l.run(life, g) })   // until life ends
		g.background.Go(func() { l.sweep(life, g) }) // until life ends
	})
}

// run wakes parked connections until the context ends.
func (l *lot) run(ctx context.Context, g *Gateway) {
	stop := context.AfterFunc(ctx, l.poller.close)
	defer stop()
	if err := l.poller.run(l.wake); ctx.Err() == nil {
		g.log.Error("poller failed", "err", err)
	}
}

// wake takes a connection out of its slot. The event may be late: for a
// connection that is gone already, or another that has got its descriptor,
// which then looks and is parked again.
func (l *lot) wake(fd int) {
	l.mu.Lock()
	var c *conn
	if fd < len(l.slots) {
		c, l.slots[fd] = l.slots[fd], nil
	}
	l.mu.Unlock()
	if c != nil {
		c.unpark()
	}
}

// sweep turns over the chatty until the context ends.
func (l *lot) sweep(ctx context.Context, g *Gateway) {
	for sleep(ctx, quietTime) {
		l.hush(g.now())
	}
}

// hush sends those to park that have kept their goroutine and are silent.
func (l *lot) hush(now time.Duration) {
	l.mu.Lock()
	look := l.chatty
	l.chatty = nil
	l.mu.Unlock()
	keep := look[:0]
	for _, c := range look {
		c.mu.Lock()
		switch {
		case c.ended:
		case now-time.Duration(c.seen.Load()) < quietTime:
			keep = append(keep, c)
		default:
			c.nc.SetReadDeadline(longAgo) // its reader finds out
		}
		c.mu.Unlock()
	}
	clear(look[len(keep):])
	l.mu.Lock()
	l.chatty = append(keep, l.chatty...)
	l.mu.Unlock()
}

// put has the poller look after a connection; its lock is held.
func (l *lot) put(c *conn, fd int) error {
	l.mu.Lock()
	if fd >= len(l.slots) {
		l.slots = append(l.slots, make([]*conn, fd+1-len(l.slots))...)
	}
	l.slots[fd] = c
	l.mu.Unlock()
	return l.poller.arm(fd)
}

// remove takes a connection that is about to be closed out of its slot.
func (l *lot) remove(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if fd := int(c.parkedAs); fd < len(l.slots) && l.slots[fd] == c {
		l.slots[fd] = nil
	}
}

// parks reports whether the connection can be parked at all.
func (c *conn) parks() bool {
	if c.raw == nil || c.hosted {
		return false
	}
	c.g.lot.open()
	return c.g.lot.poller != nil
}

// wokenUp decides whether the reader, which has just got a goroutine, keeps it.
func (c *conn) wokenUp() {
	l := &c.g.lot
	parks := c.parks()
	c.attentive = !parks || c.g.now()-time.Duration(c.seen.Load()) < chatTime
	if c.attentive && parks {
		l.mu.Lock()
		l.chatty = append(l.chatty, c)
		l.mu.Unlock()
	}
}

// park ends the reader's part until there is something to read. If it returns
// true, another goroutine may be the reader already. If it returns false, the
// connection is over or keeps its goroutine.
func (c *conn) park() bool {
	if !c.parks() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	c.parked = true
	var failed error
	err := c.raw.Control(func(fd uintptr) {
		c.parkedAs = int32(fd)
		failed = c.g.lot.put(c, int(fd))
	})
	c.parked = err == nil && failed == nil
	return c.parked
}

// unpark gives a parked connection its reader back.
func (c *conn) unpark() {
	c.mu.Lock()
	was := c.parked
	c.parked = false
	c.mu.Unlock()
	if was {
		c.g.lot.resume(c)
	}
}

// longAgo is a deadline that interrupts whoever reads.
var longAgo = time.Unix(1, 0)

// interrupt makes the reader look whether the connection is over.
func (c *conn) interrupt() {
	c.nc.SetReadDeadline(longAgo)
	c.unpark()
}
