package memory

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// nodes are the gateways whose sessions have not been taken from them.
type nodes struct {
	mu   sync.RWMutex
	byID map[backend.NodeID]*node
}

func (n *nodes) init() { n.byID = make(map[backend.NodeID]*node) }

// node is one gateway.
type node struct {
	backend.Node
	ttl   time.Duration
	until atomic.Int64 // the end of its lease, as a time.Duration

	mu       sync.Mutex
	gone     bool // its sessions are being taken from it
	attached map[*session]struct{}
}

// alive reports whether the lease lasts at now. Once it does not, it never
// will again.
func (n *node) alive(now time.Duration) bool { return now < time.Duration(n.until.Load()) }

// attach adds a session, unless the lease has ended.
func (n *node) attach(ss *session, now time.Duration) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone || !n.alive(now) {
		return false
	}
	n.attached[ss] = struct{}{}
	return true
}

func (n *node) detach(ss *session) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.attached, ss)
}

func (s *state) node(id backend.NodeID) *node {
	s.nodes.mu.RLock()
	defer s.nodes.mu.RUnlock()
	return s.nodes.byID[id]
}

// Join implements [backend.Nodes]. A node that joins again is a new run: it
// loses the sessions of the one before, as if it had left.
func (s *Store) Join(ctx context.Context, n backend.Node, ttl time.Duration) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	if ttl <= 0 || n.ID == "" {
		return errors.New("memory: join: a node needs a name and a lease above 0")
	}
	if old := s.node(n.ID); old != nil {
		s.reap(old, s.now())
	}
	joined := &node{Node: n, ttl: ttl, attached: make(map[*session]struct{})}
	joined.until.Store(int64(s.now() + ttl))
	s.nodes.mu.Lock()
	s.nodes.byID[n.ID] = joined
	s.nodes.mu.Unlock()
	s.joined.Store(&n.ID)
	return nil
}

// Renew implements [backend.Nodes].
func (s *Store) Renew(ctx context.Context, id backend.NodeID) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	n := s.node(id)
	if n == nil {
		return errFenced
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := s.now()
	if n.gone || !n.alive(now) {
		return errFenced
	}
	n.until.Store(int64(now + n.ttl))
	return nil
}

// Leave implements [backend.Nodes]. A node that is not known has left.
func (s *Store) Leave(ctx context.Context, id backend.NodeID) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	if n := s.node(id); n != nil {
		s.reap(n, s.now())
	}
	return nil
}

// reapDead detaches the sessions of all nodes whose lease has ended, and
// returns when the next lease ends.
func (s *state) reapDead(now time.Duration) (next time.Duration) {
	s.nodes.mu.RLock()
	all := slices.Collect(maps.Values(s.nodes.byID))
	s.nodes.mu.RUnlock()
	next = never
	for _, n := range all {
		if n.alive(now) {
			next = min(next, time.Duration(n.until.Load()))
		} else {
			s.reap(n, now)
		}
	}
	return next
}

// reap ends the lease of n now, if it has not ended before, takes all sessions
// from n and forgets it. Of several that try one does it.
func (s *state) reap(n *node, now time.Duration) {
	n.mu.Lock()
	if n.gone {
		n.mu.Unlock()
		return
	}
	n.gone = true
	at := min(now, time.Duration(n.until.Load()))
	n.until.Store(int64(at))
	lost := n.attached
	n.attached = nil
	n.mu.Unlock()
	for ss := range lost {
		sh := s.shard(ss.Client)
		sh.mu.Lock()
		ss.mu.Lock()
		if ss.node == n {
			s.detach(ss, departure{at: at, keepWill: true}, nil)
		}
		ss.mu.Unlock()
		sh.mu.Unlock()
	}
	s.nodes.mu.Lock()
	if s.nodes.byID[n.ID] == n {
		delete(s.nodes.byID, n.ID)
	}
	s.nodes.mu.Unlock()
}
