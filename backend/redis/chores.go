package redis

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

const (
	// longestWait is how long Due lets its caller sleep: what another gateway
	// makes due is not announced.
	longestWait = time.Second

	// purgeAtOnce is how many retained messages that have expired one Due
	// removes from each bucket.
	purgeAtOnce = 128

	// purgeInterval is how often a gateway does that.
	purgeInterval = time.Second
)

// Due implements [backend.Chores].
func (s *Store) Due(ctx context.Context, id backend.NodeID, atMost int) (due []backend.Chore, wait time.Duration, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, 0, err
	}
	n := s.node(id)
	if n == nil {
		return nil, 0, errFenced
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	due, wait, err = s.due(ctx, id, atMost)
	if err != nil {
		n.missed.Store(true)
		return nil, 0, s.failed("due", err)
	}
	return due, wait, nil
}

func (s *Store) due(ctx context.Context, id backend.NodeID, atMost int) (due []backend.Chore, wait time.Duration, err error) {
	nextLease, left, err := s.reapDead(ctx, id)
	if err != nil {
		return nil, 0, err
	}
	if now := time.Now().UnixNano(); now-s.purged.Load() > int64(purgeInterval) {
		if err := s.purge(ctx); err != nil {
			return nil, 0, err
		}
		s.purged.Store(now)
	}
	if err := s.reclaim(ctx); err != nil {
		return nil, 0, err
	}
	claims, now, next, err := s.claimDue(ctx, atMost)
	if err != nil {
		return nil, 0, err
	}
	due, more, err := s.settleDue(ctx, claims, atMost)
	if err != nil {
		return nil, 0, err
	}
	if left || more || len(claims) >= atMost {
		return due, 0, nil
	}
	wait = longestWait
	for _, t := range []int64{nextLease, next} {
		if t != 0 {
			wait = min(wait, millisecondsUntil(t, now))
		}
	}
	return due, wait, nil
}

// claim is a client that is ours to look after until a time.
type claim struct {
	client backend.ClientID
	until  int64
}

// claimDue claims clients for which something may be due, about atMost, and
// returns when the next one is due, 0 for never.
func (s *Store) claimDue(ctx context.Context, atMost int) (claims []claim, now, next int64, err error) {
	calls := make([]*call, dueBuckets)
	for b := range calls {
		calls[b] = &call{
			script: dueScript,
			keys:   []string{s.keys.due(b)},
			args:   []any{max(1, (atMost+dueBuckets-1)/dueBuckets), milliseconds(backend.ChoreClaim)},
		}
	}
	if err := s.run(ctx, calls...); err != nil {
		return nil, 0, 0, err
	}
	for _, c := range calls {
		now = max(now, c.reply.int(0))
		if t := c.reply.int(1); t != 0 && (next == 0 || t < next) {
			next = t
		}
		list := c.reply.list(3)
		for i := range list {
			claims = append(claims, claim{backend.ClientID(list.str(i)), c.reply.int(2)})
		}
	}
	return claims, now, next, nil
}

// settleDue does what is due for the clients and returns up to atMost chores;
// more says that some are left.
func (s *Store) settleDue(ctx context.Context, claims []claim, atMost int) (due []backend.Chore, more bool, err error) {
	clients := make([]backend.ClientID, len(claims))
	for i, c := range claims {
		clients[i] = c.client
	}
	// A client has few chores, so that it is not done in vain to ask the
	// first ones for all there is room for.
	for len(clients) > 0 && atMost > len(due) {
		room := atMost - len(due)
		part := clients[:min(len(clients), room)]
		outcomes, err := s.settle(ctx, part, dead{}, max(1, room/len(part)))
		if err != nil {
			return nil, false, err
		}
		var calls []*call
		for i, o := range outcomes {
			if o == nil {
				continue // it comes up again when the claim has ended
			}
			due = append(due, o.due...)
			more = more || o.next != 0 && o.next <= claims[i].until-milliseconds(backend.ChoreClaim)
			calls = append(calls, s.settled(o.client, claims[i].until, o.next))
		}
		if err := s.runMerged(ctx, calls); err != nil {
			return nil, false, err
		}
		clients, claims = clients[len(part):], claims[len(part):]
	}
	// Those that there was no room for come up again at once.
	calls := make([]*call, len(clients))
	for i, c := range claims {
		calls[i] = s.schedule(c.client, c.until-milliseconds(backend.ChoreClaim))
	}
	return due, more || len(clients) > 0, s.runMerged(ctx, calls)
}

// settled puts away a client that was to come up at the time of a claim.
func (s *Store) settled(c backend.ClientID, claim, next int64) *call {
	return &call{
		script: settledScript,
		keys:   []string{s.keys.due(bucketOf(string(c), dueBuckets))},
		more:   []any{string(c), claim, next},
	}
}

// settle does what is overdue for clients, some of which may be attached to a
// gateway that is dead. With atMost above 0 it takes so many chores of each.
func (s *Store) settle(ctx context.Context, clients []backend.ClientID, lost dead, atMost int) ([]*outcome, error) {
	if len(clients) == 0 {
		return nil, nil
	}
	at, err := s.lookAll(ctx, clients)
	if err != nil {
		return nil, err
	}
	args := []any{string(lost.id), lost.at, atMost, lost.newer}
	outcomes, _, err := s.whole(ctx, settleScript, clients, at, func(int) []any { return args })
	if err != nil {
		return nil, err
	}
	if err := s.conclude(ctx, lost.id != "", nil, outcomes...); err != nil {
		return nil, err
	}
	return outcomes, s.mendOutdated(ctx, outcomes)
}

// mendOutdated completes changes of the index that a gateway died half way
// through: those of sessions that are not as the index has them.
func (s *Store) mendOutdated(ctx context.Context, outcomes []*outcome) error {
	outdated := func() (list []backend.ClientID) {
		for _, o := range outcomes {
			if o == nil || o.change != nil {
				continue
			}
			if _, ver := s.replica.lookUp(o.client); ver != uint64(o.more.int(0)) {
				list = append(list, o.client)
			}
		}
		return list
	}
	if len(outdated()) == 0 {
		return nil
	}
	if err := s.replica.catchUp(ctx); err != nil {
		return err
	}
	return s.mend(ctx, outdated())
}

// Finish implements [backend.Chores].
func (s *Store) Finish(ctx context.Context, done []backend.Chore) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	byClient := make(map[backend.ClientID][]any, 1)
	for _, c := range done {
		byClient[c.Client] = append(byClient[c.Client], c.ID)
	}
	var clients []backend.ClientID
	var calls []*call
	for c, ids := range byClient {
		k := s.keys.session(c)
		what, when := k.chores()
		clients = append(clients, c)
		calls = append(calls, &call{script: finishScript, keys: []string{what, when, k.meta()}, args: ids})
	}
	if len(clients) == 0 {
		return nil
	}
	return s.failed("finish", s.finish(ctx, clients, calls))
}

// finish makes the calls that end chores of clients, and puts the clients away of
// which nothing is left: they need not come up when the claims end.
func (s *Store) finish(ctx context.Context, clients []backend.ClientID, calls []*call) error {
	first := true
	next := func() []*call {
		if first {
			first = false
			return calls
		}
		var away []*call
		for i, c := range calls {
			if claim := c.reply.int(0); claim > 0 {
				away = append(away, s.settled(clients[i], claim, 0))
			}
		}
		calls = nil
		return away
	}
	if len(clients) == 1 {
		return s.joinIn(ctx, clients[0], next)
	}
	if err := s.run(ctx, next()...); err != nil {
		return err
	}
	return s.runMerged(ctx, next())
}

// raise makes n at least v.
func raise(n *atomic.Uint64, v uint64) {
	for {
		old := n.Load()
		if old >= v || n.CompareAndSwap(old, v) {
			return
		}
	}
}
