package redis

import (
	"context"
	"errors"
	"sync"

	"github.com/sluice-mqtt/sluice/backend"
)

// unfinished are sessions whose last call failed with an unknown outcome, and
// that nobody would look after: their gateway lives, and does not know them any
// more. They are brought to their end in the background. If the gateway dies,
// who reaps it does that.
type unfinished struct {
	mu   sync.Mutex
	list map[backend.ClientID]farewell
}

// farewell is how a session is to be left.
type farewell struct {
	lease   backend.Lease // without epoch: that of the ticket
	ticket  string
	release backend.ReleaseRequest
}

func (u *unfinished) add(c backend.ClientID, f farewell) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.list == nil {
		u.list = make(map[backend.ClientID]farewell)
	}
	u.list[c] = f
}

func (u *unfinished) any() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.list) > 0
}

// take returns all and forgets them.
func (u *unfinished) take() map[backend.ClientID]farewell {
	u.mu.Lock()
	defer u.mu.Unlock()
	list := u.list
	u.list = nil
	return list
}

// putBack adds those that nothing newer is known of.
func (u *unfinished) putBack(list map[backend.ClientID]farewell) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.list == nil {
		u.list = make(map[backend.ClientID]farewell)
	}
	for c, f := range list {
		if _, newer := u.list[c]; !newer {
			u.list[c] = f
		}
	}
}

// finishUp brings unfinished calls to their end.
func (s *Store) finishUp(ctx context.Context) error {
	list := s.unfinished.take()
	for c, f := range list {
		if err := s.sayFarewell(ctx, c, f); err != nil {
			s.unfinished.putBack(list)
			return err
		}
		delete(list, c)
	}
	return nil
}

// sayFarewell releases a session if that has not happened, and has it looked
// after, so that nothing of what may have happened is lost.
func (s *Store) sayFarewell(ctx context.Context, c backend.ClientID, f farewell) error {
	if f.lease.Epoch == 0 && f.lease.Node != "" {
		v, err := s.client.HMGet(ctx, s.keys.session(c).meta(), "epoch", "node", "ticket").Result()
		if err != nil {
			return err
		}
		if r := reply(v); r.str(1) == string(f.lease.Node) && r.str(2) == f.ticket {
			f.lease.Epoch = parseNumber(r.str(0))
		}
	}
	if f.lease.Epoch != 0 {
		if _, err := s.release(ctx, f.lease, f.release); err != nil && !errors.Is(err, backend.ErrFenced) {
			return err
		}
	}
	return s.run(ctx, s.schedule(c, 1))
}
