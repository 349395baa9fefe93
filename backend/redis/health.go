package redis

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// healthInterval is between two looks at the service. With a second look after
// one that was not answered within replyTimeout, an outage shows within 2.5 s.
const healthInterval = 500 * time.Millisecond

// startTries is how often a service that does not answer is looked at first.
const startTries = 3

// health is how the service was when it was looked at last.
type health struct {
	trouble atomic.Pointer[trouble] // nil: fit for use
	full    atomic.Bool
	refused atomic.Bool // a call was, for want of memory, since the last look

	mu      sync.Mutex // serializes report
	since   time.Time  // of trouble
	changes atomic.Uint64
}

// Health implements [backend.Healthy]: nil, or what the last look at the
// service, at most about a second ago, has found. A server that is full is no
// error: clients can still take what fills it, if they can connect.
func (s *Store) Health() error {
	if s.closed.Load() {
		return errClosed
	}
	if t := s.health.trouble.Load(); t != nil {
		return t.err
	}
	return nil
}

// begin is the first look. What a gateway can not begin with is an error; what
// leaves it alive but not ready is not.
func (s *Store) begin(ctx context.Context) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	f := s.examine(ctx)
	for try := 1; f.trouble != nil && f.trouble.condition == unreachable && try < startTries && ctx.Err() == nil; try++ {
		f = s.examine(ctx) // once may be a moment on a busy machine
	}
	if t := f.trouble; t != nil && t.condition != evicts {
		if t.condition == tooOld {
			return fmt.Errorf("redis: start: %w: %w", backend.ErrRefused, t.err)
		}
		return s.failed("start", t.err)
	}
	if f.forgetful {
		s.log.Warn("redis does not write an append-only file: what is acknowledged is lost when it stops", "setting", "appendonly")
	}
	if t := s.identify(ctx); t != nil {
		return t.err
	}
	s.report(f)
	return nil
}

// watch looks at the service until Close.
func (s *Store) watch() {
	tick := time.NewTicker(healthInterval)
	defer tick.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-tick.C:
		}
		f := s.glance()
		if t := f.trouble; t != nil && t.condition == unreachable && s.health.trouble.Load() == nil {
			f = s.glance() // once may be a moment on a busy machine
		}
		if !s.closed.Load() {
			s.report(f)
		}
	}
}

// glance looks at the service and at whose data it has.
func (s *Store) glance() *finding {
	ctx, cancel := context.WithTimeout(context.Background(), replyTimeout)
	defer cancel()
	f := s.examine(ctx)
	if f.trouble == nil {
		f.trouble = s.recognize(ctx)
	}
	if f.trouble == nil {
		if err := s.lookBack(ctx, f.servers); err != nil {
			f.addError(err)
		}
	}
	return f
}

// report keeps a finding, and logs what is new in it.
func (s *Store) report(f *finding) {
	h := &s.health
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.trouble.Swap(f.trouble)
	switch {
	case f.trouble != nil && (before == nil || before.condition != f.trouble.condition):
		if before == nil {
			h.since = time.Now()
		}
		h.changes.Add(1)
		s.log.Warn("redis is not fit for use", "condition", string(f.trouble.condition), "err", f.trouble.err)
	case f.trouble == nil && before != nil:
		h.changes.Add(1)
		s.log.Info("redis is fit for use again", "after", time.Since(h.since).Round(time.Millisecond))
	}
	if f.trouble != nil {
		return
	}
	was := h.full.Load()
	is := f.full || h.refused.Swap(false) || was && !f.roomy
	if was == is {
		return
	}
	h.full.Store(is)
	h.changes.Add(1)
	if is {
		s.log.Warn("redis is full: nothing more can be stored until clients take what is there, or maxmemory is raised", "setting", "maxmemory")
	} else {
		s.log.Info("redis has room again")
	}
}
