package redis

import (
	"context"
	"slices"
	"sync"

	"github.com/sluice-mqtt/sluice/backend"
)

// callsAtOnce is how many scripts one pipeline carries.
const callsAtOnce = 512

// mergedAtOnce is how many calls are made as one, so that no run of a script holds
// up others for long.
const mergedAtOnce = 128

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

// joined are calls whose caller waits, step by step.
type joined struct {
	ctx   context.Context
	calls []*call
	// next returns the calls of the step after those, none at the end.
	next func() []*call
	err  error
	done chan struct{}
}

// step moves on to the next step, and reports whether there is one.
func (j *joined) step() bool {
	for _, c := range j.calls {
		if j.err = c.err; j.err != nil {
			return false
		}
	}
	if j.wanted() {
		j.calls = j.next()
	}
	return j.err == nil && len(j.calls) > 0
}

// wanted reports whether the caller waits still.
func (j *joined) wanted() bool {
	if j.ctx.Err() != nil {
		j.err = context.Cause(j.ctx)
	}
	return j.err == nil
}

// run carries a script out with those of others, in no order.
func (t *together) run(ctx context.Context, sc *script, keys []string, args ...any) (reply, error) {
	c := &call{script: sc, keys: keys, args: args}
	if err := t.carryOut(ctx, only(c)); err != nil {
		return nil, err
	}
	return c.reply, nil
}

// only returns the one step that calls make.
func only(calls ...*call) func() []*call {
	return func() (now []*call) {
		now, calls = calls, nil
		return now
	}
}

// carryOut carries out calls with those of others, in order: those that next
// returns until it returns none. It returns the first error, which is the end.
// After that of the context the calls, and next, may be under way still, and
// nothing of theirs must be looked at.
func (t *together) carryOut(ctx context.Context, next func() []*call) error {
	j := &joined{ctx: ctx, next: next, done: make(chan struct{})}
	if !j.step() {
		return j.err
	}
	t.mu.Lock()
	t.list = append(t.list, j)
	if !t.busy {
		t.busy = true
		go t.work() // ends when there is nothing left to run
	}
	t.mu.Unlock()
	select {
	case <-j.done:
		return j.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t *together) work() {
	var part []*joined
	for {
		if part = t.fill(part); len(part) == 0 {
			return
		}
		calls := make([]*call, 0, 2*len(part))
		for _, j := range part {
			calls = append(calls, j.calls...)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*max(replyTimeout, t.store.options.patience))
		_ = t.store.runMerged(ctx, calls) // each has its own error
		cancel()
		open := part[:0]
		for _, j := range part {
			if j.step() {
				open = append(open, j)
			} else {
				close(j.done)
			}
		}
		part = open
	}
}

// fill adds those that have come to what one pipeline is to carry. Without any
// there is nothing to run, and who comes next begins anew.
func (t *together) fill(part []*joined) []*joined {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.list) > 0 && len(part) < callsAtOnce {
		j := t.list[0]
		t.list = t.list[1:]
		if j.wanted() {
			part = append(part, j)
		} else {
			close(j.done)
		}
	}
	if len(part) == 0 {
		t.list, t.busy = nil, false
	}
	return part
}

// runMerged carries out calls of many callers. Those that may be made as one come
// before all others, among them the notes of what is to be looked after, but
// that what takes such a note away comes last.
func (s *Store) runMerged(ctx context.Context, calls []*call) error {
	var starts, ends []*merged
	var others []*call
	for _, c := range calls {
		switch {
		case c.more == nil:
			others = append(others, c)
		case c.script == dismissScript:
			ends = s.merge(ends, c)
		default:
			starts = s.merge(starts, c)
		}
	}
	all := make([]*call, 0, len(starts)+len(others)+len(ends))
	for _, m := range starts {
		all = append(all, &m.call)
	}
	all = append(all, others...)
	for _, m := range ends {
		all = append(all, &m.call)
	}
	err := s.run(ctx, all...)
	for _, m := range append(starts, ends...) {
		for i, c := range m.of {
			c.reply, c.err = m.reply, m.err
			if m.err == nil && c.script.each {
				c.reply = m.reply[i : i+1]
			}
		}
	}
	return err
}

// merged is one call in place of several.
type merged struct {
	call
	of []*call
}

// merge adds a call to the one of the list that it may be made with.
func (s *Store) merge(list []*merged, c *call) []*merged {
	for _, m := range list {
		if m.script != c.script || len(m.of) == mergedAtOnce || !slices.Equal(m.args, c.args) {
			continue
		}
		if c.script.each && !s.clustered {
			m.keys = append(m.keys, c.keys...)
		} else if !slices.Equal(m.keys, c.keys) {
			continue
		}
		m.more, m.of = append(m.more, c.more...), append(m.of, c)
		return list
	}
	return append(list, &merged{
		call{script: c.script, keys: slices.Clone(c.keys), args: c.args, more: slices.Clone(c.more)}, []*call{c},
	})
}

// trims returns what runs the trims of a session.
func (s *Store) trims(k sessionKeys) *together {
	return s.trimmers[bucketOf(string(k), len(s.trimmers))]
}

// joinIn carries out calls about one client, in order: those that next returns
// until it returns none. Where there is one server, clients that come and go at
// the same time share its pipelines: a system call each, and a connection of the
// pool, is what most of it would cost. In a cluster a shard that does not answer
// would hold up the others.
func (s *Store) joinIn(ctx context.Context, c backend.ClientID, next func() []*call) error {
	if !s.clustered {
		return s.porters[bucketOf(string(c), len(s.porters))].carryOut(ctx, next)
	}
	for calls := next(); len(calls) > 0; calls = next() {
		if err := s.run(ctx, calls...); err != nil {
			return err
		}
	}
	return nil
}
