package redis

import (
	"context"
	"sync"
)

// callsAtOnce is how many scripts one pipeline carries.
const callsAtOnce = 512

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

// joined is a call whose caller waits.
type joined struct {
	call
	ctx  context.Context
	done chan struct{}
}

// run carries a script out with those of others, in no order.
func (t *together) run(ctx context.Context, sc *script, keys []string, args ...any) (reply, error) {
	j := &joined{call{script: sc, keys: keys, args: args}, ctx, make(chan struct{})}
	t.mu.Lock()
	t.list = append(t.list, j)
	if !t.busy {
		t.busy = true
		go t.work() // ends when there is nothing left to run
	}
	t.mu.Unlock()
	select {
	case <-j.done:
		return j.reply, j.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
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
				calls = append(calls, &j.call)
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
