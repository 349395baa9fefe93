package gateway

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// faultyStore is a Store whose calls can be made to fail, wait or panic. The
// hook gets the name of each call before it is made; an error of the hook is
// that of the call, which is not made then. The after hook runs when the call
// has been made, before its outcome is returned.
type faultyStore struct {
	backend.Store
	hook, afterHook atomic.Pointer[func(call string) error]
	known           *identities // of all stores of a cluster
}

// identities are those of QoS 2 publishes that an Append was called with.
type identities struct {
	t    testing.TB
	mu   sync.Mutex
	seen map[backend.PublishID]struct{}
}

// note checks that what is said to be fresh is.
func (i *identities) note(msgs []*backend.Message) {
	if i == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, m := range msgs {
		if _, seen := i.seen[m.ID]; seen && m.Fresh {
			i.t.Errorf("%+v is said to be fresh, and was appended before", m.ID)
		}
		if m.ID != (backend.PublishID{}) {
			i.seen[m.ID] = struct{}{}
		}
	}
}

func (s *faultyStore) fault(hook func(call string) error) { s.hook.Store(&hook) }

// after sets the hook for calls that have been made.
func (s *faultyStore) after(hook func(call string) error) { s.afterHook.Store(&hook) }

// away makes every call fail until mend.
func (s *faultyStore) away() { s.fault(unavailable) }

func (s *faultyStore) mend() { s.hook.Store(nil); s.afterHook.Store(nil) }

func unavailable(call string) error {
	return fmt.Errorf("test: %s: %w", call, backend.ErrUnavailable)
}

func (s *faultyStore) before(call string) error {
	if h := s.hook.Load(); h != nil {
		return (*h)(call)
	}
	return nil
}

func (s *faultyStore) done(call string, err error) error {
	if h := s.afterHook.Load(); h != nil && err == nil {
		return (*h)(call)
	}
	return err
}

// Immediate implements [backend.Immediate]: a fault may be that it waits.
func (s *faultyStore) Immediate() bool { return false }

func (s *faultyStore) Join(ctx context.Context, n backend.Node, ttl time.Duration) error {
	if err := s.before("Join"); err != nil {
		return err
	}
	return s.Store.Join(ctx, n, ttl)
}

func (s *faultyStore) Renew(ctx context.Context, id backend.NodeID) error {
	if err := s.before("Renew"); err != nil {
		return err
	}
	return s.Store.Renew(ctx, id)
}

func (s *faultyStore) Leave(ctx context.Context, id backend.NodeID) error {
	if err := s.before("Leave"); err != nil {
		return err
	}
	return s.Store.Leave(ctx, id)
}

func (s *faultyStore) Open(ctx context.Context, r backend.OpenRequest) (*backend.Opened, error) {
	if err := s.before("Open"); err != nil {
		return nil, err
	}
	o, err := s.Store.Open(ctx, r)
	return o, s.done("Open", err)
}

func (s *faultyStore) Subscribe(ctx context.Context, l backend.Lease, subs, replay []backend.Subscription) ([]bool, error) {
	if err := s.before("Subscribe"); err != nil {
		return nil, err
	}
	existed, err := s.Store.Subscribe(ctx, l, subs, replay)
	return existed, s.done("Subscribe", err)
}

func (s *faultyStore) Unsubscribe(ctx context.Context, l backend.Lease, filters []string) ([]bool, error) {
	if err := s.before("Unsubscribe"); err != nil {
		return nil, err
	}
	return s.Store.Unsubscribe(ctx, l, filters)
}

func (s *faultyStore) Replayed(ctx context.Context, l backend.Lease, filter, after string, done bool) error {
	if err := s.before("Replayed"); err != nil {
		return err
	}
	return s.Store.Replayed(ctx, l, filter, after, done)
}

func (s *faultyStore) Release(ctx context.Context, l backend.Lease, r backend.ReleaseRequest) ([]backend.Chore, error) {
	if err := s.before("Release"); err != nil {
		return nil, err
	}
	return s.Store.Release(ctx, l, r)
}

func (s *faultyStore) Append(ctx context.Context, msgs []*backend.Message, out []backend.Append) error {
	if err := s.before("Append"); err != nil {
		return err
	}
	s.known.note(msgs)
	return s.done("Append", s.Store.Append(ctx, msgs, out))
}

func (s *faultyStore) Enqueue(ctx context.Context, l backend.Lease, entries []backend.Entry) (uint64, error) {
	if err := s.before("Enqueue"); err != nil {
		return 0, err
	}
	return s.Store.Enqueue(ctx, l, entries)
}

func (s *faultyStore) Fetch(ctx context.Context, l backend.Lease, after uint64, most, maxBytes int) ([]backend.Entry, bool, error) {
	if err := s.before("Fetch"); err != nil {
		return nil, false, err
	}
	return s.Store.Fetch(ctx, l, after, most, maxBytes)
}

func (s *faultyStore) Advance(ctx context.Context, l backend.Lease, p backend.Progress) error {
	if err := s.before("Advance"); err != nil {
		return err
	}
	return s.Store.Advance(ctx, l, p)
}

func (s *faultyStore) Review(ctx context.Context, leases []backend.Lease, out []backend.Standing) error {
	if err := s.before("Review"); err != nil {
		return err
	}
	return s.Store.Review(ctx, leases, out)
}

func (s *faultyStore) Forget(ctx context.Context, l backend.Lease, ids []uint16) error {
	if err := s.before("Forget"); err != nil {
		return err
	}
	return s.Store.Forget(ctx, l, ids)
}

func (s *faultyStore) TakeShared(ctx context.Context, l backend.Lease, filter string, most int) ([]backend.Entry, bool, error) {
	if err := s.before("TakeShared"); err != nil {
		return nil, false, err
	}
	return s.Store.TakeShared(ctx, l, filter, most)
}

func (s *faultyStore) Requeue(ctx context.Context, from backend.ClientID, entries []backend.Entry, out []backend.Append) error {
	if err := s.before("Requeue"); err != nil {
		return err
	}
	return s.Store.Requeue(ctx, from, entries, out)
}

func (s *faultyStore) Retain(ctx context.Context, msgs []*backend.Message) error {
	if err := s.before("Retain"); err != nil {
		return err
	}
	return s.Store.Retain(ctx, msgs)
}

func (s *faultyStore) Match(ctx context.Context, filter, after string, most int) ([]*backend.Message, bool, error) {
	if err := s.before("Match"); err != nil {
		return nil, false, err
	}
	return s.Store.Match(ctx, filter, after, most)
}

func (s *faultyStore) Due(ctx context.Context, node backend.NodeID, most int) ([]backend.Chore, time.Duration, error) {
	if err := s.before("Due"); err != nil {
		return nil, 0, err
	}
	return s.Store.Due(ctx, node, most)
}

func (s *faultyStore) Finish(ctx context.Context, done []backend.Chore) error {
	if err := s.before("Finish"); err != nil {
		return err
	}
	return s.Store.Finish(ctx, done)
}
