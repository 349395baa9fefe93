package redis

import (
	"context"
	"sync"

	"github.com/sluice-mqtt/sluice/backend"
)

// callsAtOnce is how many scripts one pipeline carries.
const callsAtOnce = 512

// porters is how many pipelines open and release sessions at one time.
const porters = 2

// together runs scripts of many callers in few pipelines: while one is under
// way the next collects. What is called often by many, and waited for by no
// client, costs a fraction that way. It has a goroutine only while there is
// work.
type together struct {
	store *Store
	mu    sync.Mutex
	list  []*joined
	busy  bool
}

// joined are calls whose caller waits.
type joined struct {
	calls []*call
	ctx   context.Context
	err   error // none of them was made
	done  chan struct{}
}

// run carries a script out with those of others, in no order.
func (t *together) run(ctx context.Context, sc *script, keys []string, args ...any) (reply, error) {
	c := &call{script: sc, keys: keys, args: args}
	if err := t.carryOut(ctx, c); err != nil {
		return nil, err
	}
	return c.reply, nil
}

// carryOut carries calls out, in order, with those of others. It returns the
// first error. After that of the context the calls may be under way still, and
// must not be looked at.
func (t *together) carryOut(ctx context.Context, calls ...*call) error {
	j := &joined{calls: calls, ctx: ctx, done: make(chan struct{})}
	t.mu.Lock()
	t.list = append(t.list, j)
	if !t.busy {
		t.busy = true
		go t.work() // ends when there is nothing left to run
	}
	t.mu.Unlock()
	select {
	case <-j.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if j.err != nil {
		return j.err
	}
	for _, c := range calls {
		if c.err != nil {
			return c.err
		}
	}
	return nil
}

func (t *together) work() {
	for {
		part := t.next()
		if part == nil {
			return
		}
		calls := make([]*call, 0, len(part))
		for _, j := range part {
			if j.err = j.ctx.Err(); j.err == nil { // else nobody waits for it
				calls = append(calls, j.calls...)
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*max(replyTimeout, t.store.options.patience))
		_ = t.store.run(ctx, calls...) // each has its own error
		cancel()
		for _, j := range part {
			close(j.done)
		}
	}
}

// next returns the calls of one pipeline, nil if there are none.
func (t *together) next() []*joined {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := min(len(t.list), callsAtOnce)
	if n == 0 {
		t.list, t.busy = nil, false
		return nil
	}
	part := t.list[:n:n]
	t.list = t.list[n:]
	return part
}

// trims returns what runs the trims of a session.
func (s *Store) trims(k sessionKeys) *together {
	return s.trimmers[bucketOf(string(k), len(s.trimmers))]
}

// joinIn carries calls about one client out, in order. Where there is one
// server, clients that come and go at the same time share its pipelines: a
// system call each, and a connection of the pool, is what most of it would
// cost. In a cluster a shard that does not answer would hold up the others.
func (s *Store) joinIn(ctx context.Context, c backend.ClientID, calls ...*call) error {
	if s.clustered || len(calls) == 0 {
		return s.run(ctx, calls...)
	}
	return s.porters[bucketOf(string(c), len(s.porters))].carryOut(ctx, calls...)
}
