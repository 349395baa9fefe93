package redis

import (
	"context"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/index"
)

// Subscribe implements [backend.Sessions].
func (s *Store) Subscribe(ctx context.Context, l backend.Lease, subs, replay []backend.Subscription) ([]bool, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	args := []any{s.options.Subscriptions, len(subs)}
	for _, sub := range subs {
		args = append(args, sub.Filter, encodeSubscription(sub))
	}
	for _, sub := range replay {
		args = append(args, sub.Filter, encodeReplay(sub))
	}
	existed, err := s.resubscribe(ctx, l, subscribeScript, subs, nil, args)
	return existed, s.failed("subscribe", err)
}

// Unsubscribe implements [backend.Sessions].
func (s *Store) Unsubscribe(ctx context.Context, l backend.Lease, filters []string) ([]bool, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	args := make([]any, len(filters))
	for i, filter := range filters {
		args[i] = filter
	}
	existed, err := s.resubscribe(ctx, l, unsubscribeScript, nil, filters, args)
	return existed, s.failed("unsubscribe", err)
}

// resubscribe changes the subscriptions of a session, and tells the groups and
// the index.
func (s *Store) resubscribe(ctx context.Context, l backend.Lease, sc *script, set []backend.Subscription, deleted []string, args []any) ([]bool, error) {
	next := s.names.next()
	r, at, err := s.leased(ctx, l, sc, func(k sessionKeys, at seat) []string {
		return []string{k.meta(), k.subs(), k.replays(), k.inbox(at.box), k.inbox(next)}
	}, append([]any{next}, args...)...)
	if err != nil {
		return nil, err
	}
	answers := r.list(1)
	existed := make([]bool, len(answers))
	for i := range existed {
		existed[i] = answers.int(i) == 1
	}
	c := &change{
		client: l.Client, prev: uint64(r.int(2)), ver: uint64(r.int(3)), durable: r.int(4) == 1,
		node: l.Node, epoch: l.Epoch, set: set, deleted: deleted,
	}
	if c.prev == c.ver {
		return existed, nil // not for the index
	}
	if c.durable {
		c.box = next
		s.seats.replace(l.Client, at, seat{next, at.inc})
	}
	joins := make([]*call, 0, len(set))
	for _, sub := range set {
		if _, _, shared := index.Shared(sub.Filter); shared {
			joins = append(joins, s.joinGroup(l.Client, c.ver, sub.Filter))
		}
	}
	if err := s.run(ctx, joins...); err != nil {
		return nil, err
	}
	if err := s.publish(ctx, c); err != nil {
		return nil, err
	}
	// Calls for one session at once overtake each other on the way to the
	// index; what is not in it now is read from the session.
	if err := s.assureIndexed(ctx, l.Client, c.ver); err != nil {
		return nil, err
	}
	var left []string
	for i, filter := range deleted {
		if _, _, shared := index.Shared(filter); shared && existed[i] {
			left = append(left, filter)
		}
	}
	return existed, s.leaveGroups(ctx, l.Client, c.ver, left)
}

// Replayed implements [backend.Sessions].
func (s *Store) Replayed(ctx context.Context, l backend.Lease, filter, after string, done bool) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	_, _, err := s.leased(ctx, l, replayedScript, func(k sessionKeys, _ seat) []string {
		return []string{k.meta(), k.replays()}
	}, filter, after, flag(done))
	return s.failed("replayed", err)
}
