package redis

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sluice-mqtt/sluice/backend"
)

// version is which data there is and how many changes of the index it has
// seen.
type version struct {
	data string
	n    uint64
}

// Fields of the version's key.
const (
	versionData  = "data"
	versionCount = "n"
)

func readVersion(values []any) version {
	r := reply(values)
	return version{r.str(0), parseNumber(r.str(1))}
}

// current reads the version, and names the data if nobody has.
func (s *Store) current(ctx context.Context) (version, error) {
	for {
		values, err := s.client.HMGet(ctx, s.keys.version(), versionData, versionCount).Result()
		if err != nil {
			return version{}, err
		}
		if v := readVersion(values); v.data != "" {
			return v, nil
		}
		if err := s.client.HSetNX(ctx, s.keys.version(), versionData, newName()).Err(); err != nil {
			return version{}, err
		}
	}
}

// catchUp makes the index reflect every change that was complete when it was
// called.
func (r *replica) catchUp(ctx context.Context) error {
	v, err := r.store.current(ctx)
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := r.reach(ctx, v); err != nil {
		return err
	}
	r.store.figures.followed.Store(begun.UnixNano())
	return nil
}

// reach makes the index reflect v, which has been read before.
func (r *replica) reach(ctx context.Context, v version) error {
	if v.data == "" {
		return r.catchUp(ctx)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if *r.data.Load() != v.data {
		if err := r.reload(ctx, v); err != nil {
			return err
		}
	}
	has := r.applied.Load()
	if has >= v.n {
		return nil
	}
	r.store.figures.behind.Store(int64(v.n - has))
	all := make([]int, indexBuckets)
	for b := range all {
		all[b] = b
	}
	if err := r.readLogs(ctx, all); err != nil {
		return err
	}
	r.applied.Store(max(r.applied.Load(), v.n))
	r.store.figures.behind.Store(0)
	return nil
}

// logPage is how many changes of a bucket are read at once.
const logPage = 512

// readLogs applies what the logs of buckets have beyond what was read.
func (r *replica) readLogs(ctx context.Context, buckets []int) error {
	for len(buckets) > 0 {
		p := r.store.client.Pipeline()
		cmds := make([]*goredis.XMessageSliceCmd, len(buckets))
		for i, b := range buckets {
			cmds[i] = p.XRangeN(ctx, r.store.keys.log(b), fmt.Sprintf("%d-0", r.read[b]+1), "+", logPage)
		}
		if _, err := p.Exec(ctx); err != nil {
			return err
		}
		var unclear []backend.ClientID
		var again []int
		for i, b := range buckets {
			list := cmds[i].Val()
			if len(list) > 0 && changeNumber(list[0]) != r.read[b]+1 {
				// It fell off the end of the log.
				if err := r.loadBucket(ctx, b); err != nil {
					return err
				}
				again = append(again, b)
				continue
			}
			for _, m := range list {
				text, _ := m.Values["c"].(string)
				c, err := decodeChange(text)
				if err != nil {
					r.store.log.Warn("a change of the index can not be read", "bucket", b, "id", m.ID, "err", err)
				} else if !r.apply(c) {
					unclear = append(unclear, c.client)
				}
				r.read[b] = changeNumber(m)
			}
			if len(list) == logPage {
				again = append(again, b)
			}
		}
		if err := r.readWhole(ctx, unclear); err != nil {
			return err
		}
		buckets = again
	}
	return nil
}

// changeNumber returns the number of a change in its log, 0 for what is not
// one.
func changeNumber(m goredis.XMessage) uint64 {
	var n uint64
	if _, err := fmt.Sscanf(m.ID, "%d-0", &n); err != nil {
		return 0
	}
	return n
}

// indexLoad is how far a load of the whole index has come.
type indexLoad struct {
	version // when it began
	next    int
}

// reload loads the index of other data than before from the beginning. One that
// a caller had no time to finish goes on with the next call.
func (r *replica) reload(ctx context.Context, v version) error {
	if before := *r.data.Load(); before != "" && !r.store.wasAnnounced(v.data) {
		r.store.log.Warn("redis has other data than before: sessions are gone, or it is another server", "before", before, "now", v.data)
		r.store.forgetBeat()
	}
	r.data.Store(new(string))
	r.applied.Store(0)
	if r.loading.data != v.data {
		for _, rec := range r.records {
			r.remove(rec)
		}
		r.loading = indexLoad{version: v}
	}
	for ; r.loading.next < indexBuckets; r.loading.next++ {
		if err := r.loadBucket(ctx, r.loading.next); err != nil {
			return err
		}
	}
	// What has changed since it began is in the logs.
	r.applied.Store(r.loading.n)
	data := r.loading.data
	r.data.Store(&data)
	r.loading = indexLoad{}
	return nil
}

// loadPage is how many sessions are read at once while the index is loaded.
const loadPage = 500

// pageTries is how often a page is asked for before a load is given up.
const pageTries = 3

// loadBucket reads all sessions of a bucket. What changes meanwhile is in the
// log behind the place that is noted first.
func (r *replica) loadBucket(ctx context.Context, b int) error {
	s := r.store
	s.figures.reloads.Add(1)
	n, err := s.client.Get(ctx, s.keys.changes(b)).Uint64()
	if err != nil && !errors.Is(err, goredis.Nil) {
		return err
	}
	listed := make(map[backend.ClientID]struct{})
	tries := 0
	for cursor := uint64(0); ; {
		// Loading may take long; what counts is each reply.
		step, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		page, next, err := s.client.HScan(step, s.keys.directory(b), cursor, "", loadPage).Result()
		if err == nil {
			var list []backend.ClientID
			for i := 0; i+1 < len(page); i += 2 {
				c := backend.ClientID(page[i])
				listed[c] = struct{}{}
				list = append(list, c)
			}
			err = r.readWhole(step, list)
		}
		cancel()
		if tries++; err != nil && ctx.Err() == nil && tries < pageTries {
			continue // one late reply among thousands is no reason to begin anew
		}
		if err = errors.Join(err, context.Cause(ctx)); err != nil {
			return err
		}
		tries = 0
		if cursor = next; cursor == 0 {
			break
		}
	}
	for c, rec := range r.records {
		if _, ok := listed[c]; !ok && bucketOf(string(c), indexBuckets) == b {
			r.remove(rec)
		}
	}
	r.read[b] = n
	return nil
}

// readWhole reads sessions anew, each of one moment, into the index.
func (r *replica) readWhole(ctx context.Context, clients []backend.ClientID) error {
	for len(clients) > 0 {
		part := clients[:min(len(clients), loadPage)]
		clients = clients[len(part):]
		changes, err := r.store.dump(ctx, part)
		if err != nil {
			return err
		}
		for _, c := range changes {
			r.apply(c)
		}
	}
	return nil
}

// dump reads all that the index has to know of sessions.
func (s *Store) dump(ctx context.Context, clients []backend.ClientID) ([]*change, error) {
	calls := make([]*call, len(clients))
	for i, c := range clients {
		k := s.keys.session(c)
		calls[i] = &call{script: dumpScript, keys: []string{k.meta(), k.subs()}}
	}
	if err := s.run(ctx, calls...); err != nil {
		return nil, err
	}
	changes := make([]*change, len(clients))
	for i, c := range calls {
		ver := c.reply.int(0)
		whole := &change{client: clients[i], whole: true, gone: ver < 0, ver: uint64(max(ver, -ver))}
		changes[i] = whole
		if whole.gone {
			continue
		}
		whole.box, whole.durable = c.reply.str(1), c.reply.int(2) == 1
		whole.node, whole.epoch = backend.NodeID(c.reply.str(3)), uint64(c.reply.int(4))
		subs, err := decodeSubscriptions(c.reply.list(5))
		if err != nil {
			return nil, err
		}
		whole.set = subs
	}
	return changes, nil
}

// largestDelta is from which length on a change is not in the log itself, which
// would grow large otherwise: who follows reads the session.
const largestDelta = 1024

// logged returns a change as it is in the log.
func (c *change) logged() []byte {
	b := c.encode()
	if len(b) <= largestDelta {
		return b
	}
	// It follows on no version before it.
	return (&change{client: c.client, prev: c.ver, ver: c.ver}).encode()
}

// publish records changes for all gateways, and applies them here. When it
// returns every append sees them.
func (s *Store) publish(ctx context.Context, changes ...*change) error {
	if len(changes) == 0 {
		return nil
	}
	logs := make([]*call, len(changes))
	for i, c := range changes {
		b := bucketOf(string(c.client), indexBuckets)
		logs[i] = &call{
			script: logScript,
			keys:   []string{s.keys.directory(b), s.keys.log(b), s.keys.changes(b)},
			args:   []any{string(c.client), strconv.FormatUint(c.ver, 10), c.logged(), c.listing(), logLength},
		}
	}
	n, err := s.record(ctx, logs)
	if err != nil {
		return err
	}
	r := s.replica
	r.mu.Lock()
	defer r.mu.Unlock()
	clear := true
	for _, c := range changes {
		clear = r.apply(c) && clear
	}
	if clear {
		r.applied.CompareAndSwap(n-1, n)
	}
	return nil
}

// record writes logs, and then raises the number of changes, which it returns.
func (s *Store) record(ctx context.Context, logs []*call) (uint64, error) {
	if !s.clustered {
		p := s.client.Pipeline()
		cmds := make([]*goredis.Cmd, len(logs))
		for i, c := range logs {
			cmds[i] = p.EvalSha(ctx, c.script.sha, c.keys, c.args...)
		}
		raised := p.HIncrBy(ctx, s.keys.version(), versionCount, 1)
		_, err := p.Exec(ctx)
		if !missing(err) {
			return uint64(raised.Val()), err
		}
	}
	if err := s.run(ctx, logs...); err != nil {
		return 0, err
	}
	n, err := s.client.HIncrBy(ctx, s.keys.version(), versionCount, 1).Result()
	return uint64(n), err
}

// mend looks what has become of sessions whose inbox was not where the index
// has it, although that is up to date: a gateway died half way through a
// change, or is half way through it. It completes the change.
func (s *Store) mend(ctx context.Context, clients []backend.ClientID) error {
	if len(clients) == 0 {
		return nil
	}
	changes, err := s.dump(ctx, clients)
	if err != nil {
		return err
	}
	var fresh []*change
	for _, c := range changes {
		rec, ver := s.replica.lookUp(c.client)
		switch {
		case c.gone && rec != nil:
			if c.ver == 1 { // a new session that is not for the index
				c.ver = ver + 1
			}
			if err := s.leaveGroups(ctx, c.client, c.ver, s.replica.filters(rec)); err != nil {
				return err
			}
			fresh = append(fresh, c)
		case c.gone:
		case c.ver > ver:
			fresh = append(fresh, c)
		}
	}
	return s.publish(ctx, fresh...)
}

// filters returns the filters of a record.
func (r *replica) filters(rec *record) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), rec.filters...)
}

// tail follows the changes of other gateways, and finishes what was left
// unfinished here, until Close.
func (s *Store) tail() {
	tick := time.NewTicker(tailInterval)
	defer tick.Stop()
	troubled := false
	for {
		select {
		case <-s.done:
			return
		case <-tick.C:
		}
		if s.nodes.last.Load() == nil {
			continue // nobody has joined
		}
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		err := s.replica.catchUp(ctx)
		if err == nil && s.unfinished.any() {
			err = s.finishUp(ctx)
		}
		cancel()
		if err != nil && !troubled && !s.closed.Load() {
			s.log.Warn("the index of subscriptions can not be followed", "err", err)
		} else if err == nil && troubled {
			s.log.Info("the index of subscriptions is followed again")
		}
		troubled = err != nil
	}
}

// millisecondsUntil returns how long it is from now to then, both in ms on the
// store's clock.
func millisecondsUntil(then, now int64) time.Duration {
	return time.Duration(min(max(then-now, 0), math.MaxInt32)) * time.Millisecond
}
