package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sluice-mqtt/sluice/backend"
)

// nodes are the gateways that joined through this Store.
type nodes struct {
	mu   sync.RWMutex
	byID map[backend.NodeID]*node
	last atomic.Pointer[node]

	// reapFrom is from when on gateways whose lease has ended may be reaped,
	// by the process's monotonic clock; see [Store.answered].
	reapFrom atomic.Int64
}

// node is one gateway.
type node struct {
	backend.Node
	ttl     time.Duration
	run     string        // names this run of it
	until   atomic.Int64  // the end of its lease on the store's clock, in ms
	tickets atomic.Uint64 // the last that was given out; see firstTicket
	missed  atomic.Bool   // the store did not answer lately
	void    atomic.Bool   // its lease has ended whatever the store says; see lineage
}

func (s *Store) node(id backend.NodeID) *node {
	s.nodes.mu.RLock()
	defer s.nodes.mu.RUnlock()
	return s.nodes.byID[id]
}

// until returns the end of the lease of a gateway, in ms on the store's clock,
// as an argument of scripts.
func (s *Store) until(ctx context.Context, id backend.NodeID) (any, error) {
	if n := s.node(id); n != nil {
		return leaseEnd{n}, nil
	}
	ends, err := s.client.ZScore(ctx, s.keys.nodes(), string(id)).Result()
	if errors.Is(err, goredis.Nil) {
		return nil, errFenced
	}
	return int64(ends), err
}

// Join implements [backend.Nodes]. A node that joins again is a new run: it
// loses the sessions of the one before, as if it had left. When it returns the
// index is loaded.
func (s *Store) Join(ctx context.Context, n backend.Node, ttl time.Duration) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	if ttl < time.Millisecond || n.ID == "" {
		return errors.New("redis: join: a node needs a name and a lease of at least a millisecond")
	}
	return s.failed("join", s.join(ctx, n, ttl))
}

func (s *Store) join(ctx context.Context, n backend.Node, ttl time.Duration) error {
	if err := s.replica.catchUp(ctx); err != nil {
		return err
	}
	if err := s.leave(ctx, n.ID); err != nil {
		return err
	}
	joined := &node{Node: n, ttl: ttl, run: newName()}
	// In the list of all gateways first: what is only there is found and
	// cleared away.
	r, err := s.runOne(ctx, joinScript, []string{s.keys.nodes()}, string(n.ID), milliseconds(ttl))
	if err != nil {
		return err
	}
	s.clock.heard(r.int(1))
	if _, err := s.runOne(ctx, runScript, []string{s.keys.run(n.ID)}, joined.run); err != nil {
		return err
	}
	joined.until.Store(r.int(0))
	joined.tickets.Store(uint64(firstTicket(r.int(1))))
	s.nodes.mu.Lock()
	s.nodes.byID[n.ID] = joined
	s.nodes.mu.Unlock()
	s.nodes.last.Store(joined)
	return nil
}

// Renew implements [backend.Nodes].
func (s *Store) Renew(ctx context.Context, id backend.NodeID) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	n := s.node(id)
	if n == nil || n.void.Load() {
		return errFenced
	}
	r, err := s.renew(ctx, n)
	if err != nil {
		n.missed.Store(true)
		return s.failed("renew", err)
	}
	s.clock.heard(r.int(1))
	if r.int(0) == 0 {
		s.answered(n)
		s.forgetNode(n)
		return errFenced
	}
	n.until.Store(r.int(0))
	if n.void.Load() { // by what that call has found
		return errFenced
	}
	s.answered(n)
	return nil
}

// renew answers as the renew script, and that the lease has ended where the run
// has no name any more: no client could be noted at it.
func (s *Store) renew(ctx context.Context, n *node) (reply, error) {
	run, err := s.client.Get(ctx, s.keys.run(n.ID)).Result()
	if err != nil && !errors.Is(err, goredis.Nil) {
		return nil, err
	}
	r, err := s.runOne(ctx, renewScript, []string{s.keys.nodes()}, string(n.ID), milliseconds(n.ttl))
	if err == nil && run != n.run {
		r[0] = int64(0)
	}
	return r, err
}

// answered notes that the store answers n. If it did not for a while, other
// gateways could not renew their leases either: they get a full lease to come
// back before anybody is reaped.
func (s *Store) answered(n *node) {
	if n.missed.Swap(false) {
		s.nodes.reapFrom.Store(int64(time.Since(s.clock.began) + n.ttl))
	}
}

func (s *Store) forgetNode(n *node) {
	s.nodes.mu.Lock()
	defer s.nodes.mu.Unlock()
	if s.nodes.byID[n.ID] == n {
		delete(s.nodes.byID, n.ID)
	}
}

// Leave implements [backend.Nodes]. A node that is not known has left.
func (s *Store) Leave(ctx context.Context, id backend.NodeID) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	n := s.node(id)
	if err := s.leave(ctx, id); err != nil {
		return s.failed("leave", err)
	}
	if n != nil {
		s.forgetNode(n)
	}
	return nil
}

func (s *Store) leave(ctx context.Context, id backend.NodeID) error {
	r, err := s.runOne(ctx, leaveScript, []string{s.keys.nodes()}, string(id))
	if err != nil || r.int(0) < 0 {
		return err
	}
	// The run first: nothing is added to its clients from now on.
	if err := s.client.Del(ctx, s.keys.run(id)).Err(); err != nil {
		return err
	}
	for {
		left, err := s.reap(ctx, dead{id, r.int(0), anyTicket})
		if err != nil || !left {
			return err
		}
	}
}

// firstTicket is the one from which on a run of a gateway that began at a time,
// in ms on the store's clock, gives them out: beyond those of the runs before,
// which gave out fewer than a thousand in a millisecond.
func firstTicket(at int64) int64 { return (at + 1) * 1000 }

// anyTicket is beyond all tickets: there is no newer run.
const anyTicket = 1 << 53

// reapAtOnce is how many clients of a gateway that is gone are looked after in
// one go, so that nobody waits long for the next.
const reapAtOnce = 512

// reap takes a stretch of the clients of a gateway from it, whose lease has
// ended, and forgets it when none is left. Of several that try each client is
// taken by one. The gateway may come back under its name meanwhile: what the new
// run has is left alone.
func (s *Store) reap(ctx context.Context, d dead) (left bool, err error) {
	run, err := s.client.Get(ctx, s.keys.run(d.id)).Result()
	if err != nil && !errors.Is(err, goredis.Nil) {
		return false, err
	}
	// A run is named after its lease has begun: one that was named already
	// while the lease is the one that has ended is the dead one's.
	ends, err := s.client.ZScore(ctx, s.keys.nodes(), string(d.id)).Result()
	if errors.Is(err, goredis.Nil) || err == nil && int64(ends) != d.at {
		return false, nil // somebody else was faster, or it is back
	}
	if err != nil {
		return false, err
	}
	page, cursor, err := s.client.HScan(ctx, s.keys.clients(d.id), 0, "", reapAtOnce).Result()
	if err != nil {
		return false, err
	}
	var list []backend.ClientID
	var taken []any
	for i := 0; i+1 < len(page); i += 2 {
		if n, _ := strconv.ParseInt(page[i+1], 10, 64); n < d.newer {
			list = append(list, backend.ClientID(page[i]))
			taken = append(taken, page[i], page[i+1])
		}
	}
	if _, err := s.settle(ctx, list, d, 0); err != nil {
		return false, err
	}
	if len(taken) > 0 {
		if _, err := s.runOne(ctx, dismissScript, []string{s.keys.clients(d.id)}, taken...); err != nil {
			return false, err
		}
	}
	if cursor != 0 || len(page) > 0 {
		return true, nil
	}
	if run != "" {
		if _, err := s.runOne(ctx, unnameScript, []string{s.keys.run(d.id)}, run); err != nil {
			return false, err
		}
	}
	_, err = s.runOne(ctx, removeScript, []string{s.keys.nodes()}, string(d.id))
	return false, err
}

// clockMargin is how far the clocks of the servers of a cluster may be apart: a
// gateway is reaped so much later than its lease ends by one of them.
const clockMargin = time.Second

// reapDead takes clients from gateways whose lease has ended, a stretch of
// them, and returns when the next lease ends, in ms on the store's clock; 0 is
// never. The gateway that asks must not be one of them.
func (s *Store) reapDead(ctx context.Context, asks backend.NodeID) (next int64, left bool, err error) {
	p := s.client.Pipeline()
	clock := p.Time(ctx)
	all := p.ZRangeWithScores(ctx, s.keys.nodes(), 0, -1)
	if _, err := p.Exec(ctx); err != nil {
		return 0, false, err
	}
	margin := int64(0)
	if s.clustered {
		margin = milliseconds(clockMargin)
	}
	now, alive := clock.Val().UnixMilli(), false
	for _, z := range all.Val() {
		id, ends := backend.NodeID(fmt.Sprint(z.Member)), int64(z.Score)
		switch {
		case ends > now && id == asks:
			alive = true
			fallthrough
		case ends+margin > now:
			if next == 0 || ends+margin < next {
				next = ends + margin
			}
		case int64(time.Since(s.clock.began)) < s.nodes.reapFrom.Load():
		default:
			more, err := s.reap(ctx, dead{id, ends, firstTicket(ends)})
			if err != nil {
				return 0, false, err
			}
			left = left || more
		}
	}
	if !alive {
		return 0, false, errFenced
	}
	return next, left, nil
}

// ticket returns a new one.
func (n *node) ticket() string { return strconv.FormatUint(n.tickets.Add(1), 10) }

// enlist notes a client in the list of a gateway under a ticket.
func (s *Store) enlist(n *node, c backend.ClientID, ticket string) call {
	return call{
		script: enlistScript,
		keys:   []string{s.keys.run(n.ID), s.keys.clients(n.ID)},
		args:   []any{n.run, leaseEnd{n}},
		more:   []any{string(c), ticket},
	}
}

func (s *Store) dismiss(id backend.NodeID, c backend.ClientID, ticket string) *call {
	return &call{script: dismissScript, keys: []string{s.keys.clients(id)}, more: []any{string(c), ticket}}
}
