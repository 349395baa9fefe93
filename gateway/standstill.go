package gateway

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

const (
	beatEvery = 250 * time.Millisecond
	// standstillFrom is from when on a missing beat counts: a client has hardly
	// come back at another gateway sooner.
	standstillFrom = 3 * beatEvery
)

// standstill notices that the program did not run for a while: it was stopped,
// its machine slept, or had no time for it. What it reads after that may be
// from a client that another gateway serves by now, and has waited in the
// socket. Calls under a lease are fenced by the store; a PUBLISH is not.
type standstill struct {
	beat  atomic.Int64  // the time of the last one, on the gateway's clock
	times atomic.Uint32 // that it happened
}

// keepBeat beats until the context ends.
func (g *Gateway) keepBeat(ctx context.Context) {
	for ok := true; ok; ok = sleep(ctx, beatEvery) {
		now := g.now()
		if last := g.standstill.beat.Swap(int64(now)); now-time.Duration(last) > standstillFrom {
			g.standstill.times.Add(1)
		}
	}
}

// reassure returns an error if the client may publish no more under this
// connection, which is asked of the store when the gateway has stood still
// since it was asked last.
func (c *conn) reassure(ctx context.Context) error {
	s := &c.g.standstill
	times := s.times.Load()
	if c.stoodStill == times && c.g.now()-time.Duration(s.beat.Load()) <= standstillFrom {
		return nil
	}
	if c.g.alone() {
		return nil
	}
	if err := c.askStanding(ctx); err != nil {
		return err
	}
	c.stoodStill = times
	return nil
}

func (c *conn) askStanding(ctx context.Context) error {
	var out [1]backend.Standing
	err := c.hold(ctx, func(ctx context.Context) error {
		return c.g.store.Review(ctx, []backend.Lease{c.lease}, out[:])
	})
	if err == nil && out[0].Fenced {
		err = backend.ErrFenced
	}
	return err
}
