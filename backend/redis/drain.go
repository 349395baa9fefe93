package redis

import (
	"context"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/index"
)

// drainAtOnce is how many messages of a group are given to members in one go.
const drainAtOnce = 64

// drain gives what waits for a group to its connected members, in order: a
// gateway died that had taken some for a member. Only members with an inbox are
// given any, because nobody is told here; others take it when they attach.
func (s *Store) drain(ctx context.Context, group string) error {
	for {
		g := s.replica.index.Group(group)
		if g == nil || !s.canTake(g) {
			return nil
		}
		list, left, err := s.take(ctx, group, drainAtOnce)
		if err != nil || len(list) == 0 {
			return err
		}
		for i, t := range list {
			given, err := s.hand(ctx, group, t)
			if err != nil {
				return err
			}
			if !given {
				if err := s.confirm(ctx, group, list[:i]); err != nil {
					return err
				}
				_, _, err := s.giveBack(ctx, group, list[i:])
				return err
			}
		}
		if err := s.confirm(ctx, group, list); err != nil || left == 0 {
			return err
		}
	}
}

// canTake reports whether a member with an inbox is connected.
func (s *Store) canTake(g *index.Group) bool {
	c, outcome := s.replica.index.Choose(g, index.ChooseRequest{
		Message: &backend.Message{QoS: 1}, Local: s.local(), Park: func(*index.Group) {},
	})
	return outcome == index.Chosen && c.Session.Durable && c.QoS > 0
}

// hand puts a message from the queue of a group into the inbox of a member.
// False is that nobody could take it.
func (s *Store) hand(ctx context.Context, group string, t taken) (bool, error) {
	letters := []letter{{
		m: t.entry.Message, out: &backend.Append{}, only: group, id: queueIdentity(group, t.number),
	}}
	for {
		s.planShares(&letters[0])
		if err := s.keepChoices(ctx, letters); err != nil {
			return false, err
		}
		send := unsent(letters)
		if len(send) != 1 || send[0].to == nil {
			return false, nil
		}
		v, err := s.post(ctx, send)
		if err != nil || send[0].state == stored {
			return err == nil, err
		}
		if err := s.replica.reach(ctx, v); err != nil {
			return false, err
		}
		if err := s.mendDisplaced(ctx, send); err != nil {
			return false, err
		}
		if err := s.reviewShare(ctx, letters[0].shares[0], true); err != nil {
			return false, err
		}
	}
}

// reclaimAtOnce is how many groups one Due looks after.
const reclaimAtOnce = 16

// reclaim puts messages back into the queues of their groups whose taker did
// not say that it has stored them, and gives them to members that are there.
func (s *Store) reclaim(ctx context.Context) error {
	r, err := s.runOne(ctx, dueScript, []string{s.keys.queues()}, reclaimAtOnce, milliseconds(takeClaim))
	if err != nil {
		return err
	}
	groups := r.list(3)
	for i := range groups {
		group := groups.str(i)
		queued, next, err := s.giveBack(ctx, group, nil)
		if err != nil {
			return err
		}
		if queued > 0 {
			if err := s.drain(ctx, group); err != nil {
				return err
			}
		}
		err = s.run(ctx, &call{script: settledScript, keys: []string{s.keys.queues()}, args: []any{group, r.int(2), next}})
		if err != nil {
			return err
		}
	}
	return nil
}
