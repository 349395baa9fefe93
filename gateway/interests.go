package gateway

import (
	"context"
	"sync"

	"github.com/sluice-mqtt/sluice/backend"
)

// interests counts which filters this gateway needs from the bus, and asks for
// each class of each filter once.
type interests struct {
	mu sync.Mutex
	m  map[string]*interest
}

// interest is one filter. Its own lock is held while the bus is asked, so that
// nobody takes an interest for live that is still on its way.
type interest struct {
	users int // under interests.mu: who holds a pointer or a count

	mu          sync.Mutex
	qos0, acked int
	live        backend.Class
}

func (i *interest) needed() (c backend.Class) {
	if i.qos0 > 0 {
		c |= backend.ClassQoS0
	}
	if i.acked > 0 {
		c |= backend.ClassAcked
	}
	return c
}

func (i *interest) count(c backend.Class, n int) {
	if c&backend.ClassQoS0 != 0 {
		i.qos0 += n
	}
	if c&backend.ClassAcked != 0 {
		i.acked += n
	}
}

// add makes the interest live at every gateway before it returns.
func (in *interests) add(ctx context.Context, g *Gateway, filter string, c backend.Class) error {
	in.mu.Lock()
	if in.m == nil {
		in.m = make(map[string]*interest)
	}
	i := in.m[filter]
	if i == nil {
		i = &interest{}
		in.m[filter] = i
	}
	i.users++
	in.mu.Unlock()

	i.mu.Lock()
	defer i.mu.Unlock()
	i.count(c, 1)
	missing := i.needed() &^ i.live
	if missing == 0 {
		return nil
	}
	ctx, cancel := g.storeContext(ctx)
	defer cancel()
	if err := g.bus.Subscribe(ctx, filter, missing); err != nil {
		i.count(c, -1)
		in.leave(filter, i)
		g.log.Warn("bus did not take an interest", "filter", filter, "err", err)
		return err
	}
	i.live |= missing
	return nil
}

// remove withdraws what add of the same filter and class has added.
func (in *interests) remove(g *Gateway, filter string, c backend.Class) {
	in.mu.Lock()
	i := in.m[filter]
	in.mu.Unlock()
	if i == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.count(c, -1)
	if gone := i.live &^ i.needed(); gone != 0 {
		ctx, cancel := g.storeContext(context.Background())
		defer cancel()
		if err := g.bus.Unsubscribe(ctx, filter, gone); err != nil {
			// Over-delivery is harmless: the tree decides.
			g.log.Debug("bus did not drop an interest", "filter", filter, "err", err)
		}
		i.live &^= gone
	}
	in.leave(filter, i)
}

func (in *interests) leave(filter string, i *interest) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if i.users--; i.users == 0 {
		delete(in.m, filter)
	}
}
