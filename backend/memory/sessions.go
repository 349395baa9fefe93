package memory

import (
	"context"
	"fmt"
	"slices"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/index"
)

// Open implements [backend.Sessions].
func (s *Store) Open(ctx context.Context, r backend.OpenRequest) (*backend.Opened, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	n := s.node(r.Node)
	if n == nil {
		return nil, errFenced
	}
	sh := s.shard(r.Client)
	sh.mu.Lock()
	defer sh.mu.Unlock()

	old := sh.sessions[r.Client]
	previous := old.connected()
	if old != nil {
		old.mu.Lock()
		s.settle(old, s.now())
		old.mu.Unlock()
		if old.ended {
			old = nil
		} else if old.principal != r.Principal {
			return nil, fmt.Errorf("memory: %w", backend.ErrNotOwner)
		}
	}
	ss := old
	// A session of expiry 0 ends with its connection, which ends here.
	if old == nil || r.CleanStart || old.node != nil && old.expiry == 0 {
		ss = s.newSession(r)
	}
	// The last thing that can fail. From here on the lease is given out.
	if !n.attach(ss, s.now()) {
		return nil, errFenced
	}
	o := &backend.Opened{Present: ss == old, Durable: ss.Durable, Incarnation: ss.incarnation, Previous: previous}
	if old != nil && old != ss {
		old.mu.Lock()
		s.end(old, &o.Due)
		old.mu.Unlock()
	}
	sh.sessions[r.Client] = ss
	ss.mu.Lock()
	if ss == old {
		if from := old.node; from != nil && from != n {
			from.detach(old)
		}
		s.takeOver(old, &o.Due)
	}
	s.attach(ss, n, r)
	o.Lease = ss.lease()
	o.Subscriptions = slices.Clone(ss.subs.list)
	o.Replays = slices.Clone(ss.replays)
	o.Base, o.Last, o.Sent = ss.inbox.base, ss.inbox.last(), max(ss.sent, ss.inbox.base)
	ss.mu.Unlock()
	// The lock of the receipts comes before that of the session; the shard's
	// keeps the session ours.
	if r := ss.receipts.Load(); r != nil {
		o.Received, o.Generations = r.list()
	}
	return o, nil
}

func (s *state) newSession(r backend.OpenRequest) *session {
	ss := &session{
		Session:     index.Session{Client: r.Client, Durable: r.Expiry > 0},
		incarnation: s.incarnations.Add(1),
		principal:   r.Principal,
	}
	ss.Value = ss
	return ss
}

// connected returns the lease of the connection that the session has, nil
// session included. The session's shard is held.
func (ss *session) connected() backend.Lease {
	if ss == nil {
		return backend.Lease{}
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.node == nil {
		return backend.Lease{}
	}
	return ss.lease()
}

// Release implements [backend.Sessions].
func (s *Store) Release(ctx context.Context, l backend.Lease, r backend.ReleaseRequest) ([]backend.Chore, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	sh := s.shard(l.Client)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	ss := sh.sessions[l.Client]
	if ss == nil {
		return nil, errFenced
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	now := s.now()
	if !ss.heldBy(l, now) {
		return nil, errFenced
	}
	if r.Expiry != nil {
		ss.expiry = *r.Expiry
	}
	var due []backend.Chore
	s.detach(ss, departure{at: now, keepWill: r.KeepWill, released: true, sent: r.Sent}, &due)
	return due, nil
}

// Destroy implements [backend.Sessions].
func (s *Store) Destroy(ctx context.Context, c backend.ClientID) (previous backend.Lease, due []backend.Chore, err error) {
	if err := s.enter(ctx); err != nil {
		return backend.Lease{}, nil, err
	}
	sh := s.shard(c)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	ss := sh.sessions[c]
	if ss == nil {
		return backend.Lease{}, nil, nil
	}
	previous = ss.connected()
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if s.settle(ss, s.now()); ss.ended {
		return previous, nil, nil
	}
	s.end(ss, &due)
	return previous, due, nil
}
