package backendtest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/memory"
)

// service plays the part of a server behind a driver, for the cases that break
// one: it can be away, frozen, or lose the replies of requests that it has
// carried out.
type service struct {
	mu    sync.Mutex
	away  bool
	pause chan struct{} // closed by Resume; nil if the service runs
	drop  int           // replies still to lose
	deaf  bool
	back  []func() // called when the service is as it should be again
}

func (s *service) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// heal is set, and tells those who wait for it.
func (s *service) heal(change func()) {
	s.set(change)
	for _, f := range s.back {
		f()
	}
}

func (s *service) Kill(*testing.T)          { s.set(func() { s.away = true }) }
func (s *service) Start(*testing.T)         { s.heal(func() { s.away = false }) }
func (s *service) Pause(*testing.T)         { s.set(func() { s.pause = make(chan struct{}) }) }
func (s *service) Drop(_ *testing.T, n int) { s.set(func() { s.drop = n }) }
func (s *service) Flush(*testing.T)         {}
func (s *service) Deafen(*testing.T)        { s.set(func() { s.deaf = true }) }
func (s *service) Hear(*testing.T)          { s.heal(func() { s.deaf = false }) }
func (s *service) Resume(*testing.T) {
	s.heal(func() {
		close(s.pause)
		s.pause = nil
	})
}

// request carries a call out, or not, or does and loses the answer.
func (s *service) request(ctx context.Context, call func() error) error {
	s.mu.Lock()
	away, pause, lose := s.away || s.deaf, s.pause, s.drop > 0
	if lose && !away && pause == nil {
		s.drop--
	}
	s.mu.Unlock()
	switch {
	case away:
		return fmt.Errorf("service: connection refused: %w", backend.ErrUnavailable)
	case pause != nil:
		select {
		case <-ctx.Done():
			return fmt.Errorf("service: %w: %w", backend.ErrUnavailable, ctx.Err())
		case <-pause:
		}
	}
	err := call()
	if lose {
		return fmt.Errorf("service: reply lost: %w", backend.ErrUnavailable)
	}
	return err
}

// remoteStore is a store whose every call is a request to a service.
type remoteStore struct {
	backend.Store
	s *service
}

// ask makes a request that has an answer, which may be lost.
func ask[T any](ctx context.Context, s *service, call func() (T, error)) (T, error) {
	var answer, none T
	err := s.request(ctx, func() error {
		var err error
		answer, err = call()
		return err
	})
	if err != nil {
		return none, err
	}
	return answer, nil
}

// page is an answer of two.
type page[T any] struct {
	list []T
	more bool
}

func askPage[T any](ctx context.Context, s *service, call func() ([]T, bool, error)) ([]T, bool, error) {
	p, err := ask(ctx, s, func() (page[T], error) {
		list, more, err := call()
		return page[T]{list, more}, err
	})
	return p.list, p.more, err
}

func (r *remoteStore) Join(ctx context.Context, n backend.Node, ttl time.Duration) error {
	return r.s.request(ctx, func() error { return r.Store.Join(ctx, n, ttl) })
}

func (r *remoteStore) Renew(ctx context.Context, id backend.NodeID) error {
	return r.s.request(ctx, func() error { return r.Store.Renew(ctx, id) })
}

func (r *remoteStore) Leave(ctx context.Context, id backend.NodeID) error {
	return r.s.request(ctx, func() error { return r.Store.Leave(ctx, id) })
}

func (r *remoteStore) Open(ctx context.Context, q backend.OpenRequest) (*backend.Opened, error) {
	return ask(ctx, r.s, func() (*backend.Opened, error) { return r.Store.Open(ctx, q) })
}

func (r *remoteStore) Subscribe(ctx context.Context, l backend.Lease, subs, replay []backend.Subscription) ([]bool, error) {
	return ask(ctx, r.s, func() ([]bool, error) { return r.Store.Subscribe(ctx, l, subs, replay) })
}

func (r *remoteStore) Unsubscribe(ctx context.Context, l backend.Lease, filters []string) ([]bool, error) {
	return ask(ctx, r.s, func() ([]bool, error) { return r.Store.Unsubscribe(ctx, l, filters) })
}

func (r *remoteStore) Replayed(ctx context.Context, l backend.Lease, filter, after string, done bool) error {
	return r.s.request(ctx, func() error { return r.Store.Replayed(ctx, l, filter, after, done) })
}

func (r *remoteStore) Release(ctx context.Context, l backend.Lease, q backend.ReleaseRequest) ([]backend.Chore, error) {
	return ask(ctx, r.s, func() ([]backend.Chore, error) { return r.Store.Release(ctx, l, q) })
}

func (r *remoteStore) Destroy(ctx context.Context, c backend.ClientID) (previous backend.Lease, due []backend.Chore, err error) {
	err = r.s.request(ctx, func() (err error) {
		previous, due, err = r.Store.Destroy(ctx, c)
		return err
	})
	if err != nil {
		return backend.Lease{}, nil, err
	}
	return previous, due, nil
}

func (r *remoteStore) Review(ctx context.Context, leases []backend.Lease, out []backend.Standing) error {
	return r.s.request(ctx, func() error { return r.Store.Review(ctx, leases, out) })
}

func (r *remoteStore) Append(ctx context.Context, msgs []*backend.Message, out []backend.Append) error {
	return r.s.request(ctx, func() error { return r.Store.Append(ctx, msgs, out) })
}

func (r *remoteStore) Requeue(ctx context.Context, from backend.ClientID, e []backend.Entry, out []backend.Append) error {
	return r.s.request(ctx, func() error { return r.Store.Requeue(ctx, from, e, out) })
}

func (r *remoteStore) Enqueue(ctx context.Context, l backend.Lease, e []backend.Entry) (uint64, error) {
	return ask(ctx, r.s, func() (uint64, error) { return r.Store.Enqueue(ctx, l, e) })
}

func (r *remoteStore) Fetch(ctx context.Context, l backend.Lease, after uint64, limit, maxBytes int) ([]backend.Entry, bool, error) {
	return askPage(ctx, r.s, func() ([]backend.Entry, bool, error) { return r.Store.Fetch(ctx, l, after, limit, maxBytes) })
}

func (r *remoteStore) Advance(ctx context.Context, l backend.Lease, p backend.Progress) error {
	return r.s.request(ctx, func() error { return r.Store.Advance(ctx, l, p) })
}

func (r *remoteStore) Forget(ctx context.Context, l backend.Lease, ids []uint16) error {
	return r.s.request(ctx, func() error { return r.Store.Forget(ctx, l, ids) })
}

func (r *remoteStore) TakeShared(ctx context.Context, l backend.Lease, filter string, limit int) ([]backend.Entry, bool, error) {
	return askPage(ctx, r.s, func() ([]backend.Entry, bool, error) { return r.Store.TakeShared(ctx, l, filter, limit) })
}

func (r *remoteStore) Retain(ctx context.Context, msgs []*backend.Message) error {
	return r.s.request(ctx, func() error { return r.Store.Retain(ctx, msgs) })
}

func (r *remoteStore) Match(ctx context.Context, filter, after string, limit int) ([]*backend.Message, bool, error) {
	return askPage(ctx, r.s, func() ([]*backend.Message, bool, error) { return r.Store.Match(ctx, filter, after, limit) })
}

func (r *remoteStore) RetainedStats(ctx context.Context) (count, bytes int64, err error) {
	err = r.s.request(ctx, func() (err error) {
		count, bytes, err = r.Store.RetainedStats(ctx)
		return err
	})
	return count, bytes, err
}

func (r *remoteStore) Due(ctx context.Context, node backend.NodeID, limit int) (due []backend.Chore, wait time.Duration, err error) {
	err = r.s.request(ctx, func() (err error) {
		due, wait, err = r.Store.Due(ctx, node, limit)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	return due, wait, nil
}

func (r *remoteStore) Finish(ctx context.Context, done []backend.Chore) error {
	return r.s.request(ctx, func() error { return r.Store.Finish(ctx, done) })
}

// TestStoreFaultCases runs the cases that break a service on a store that has
// none, behind one that is played: the cases are right, and a driver that
// answers as remoteStore does passes them.
func TestStoreFaultCases(t *testing.T) {
	s := &service{}
	storeFaults(t, StoreHarness{
		Open: func(t *testing.T, _ StoreOptions) backend.Store {
			return &remoteStore{openMemory(t, StoreOptions{}), s}
		},
		Peer: func(t *testing.T, of backend.Store) backend.Store {
			return &remoteStore{peerOf(t, of.(*remoteStore).Store), s}
		},
		Faults: s,
	})
}

func openMemory(t *testing.T, o StoreOptions) backend.Store {
	s := memory.NewStore(memory.Options{
		InboxMessages: o.InboxMessages, InboxBytes: int64(o.InboxBytes), Subscriptions: o.Subscriptions,
		RetainedMessages: o.RetainedMessages, RetainedBytes: int64(o.RetainedBytes),
	})
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func peerOf(t *testing.T, s backend.Store) backend.Store {
	p := s.(*memory.Store).Peer()
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// remoteBus is a bus whose every call is a request to a service. When the
// service is back each gateway hears of a gap.
type remoteBus struct {
	backend.Backend
	s *service
	h *serialHandler
}

// serialHandler serializes the calls of the bus and those of remoteBus.
type serialHandler struct {
	mu sync.Mutex
	backend.Handler
}

func (h *serialHandler) HandleMessage(m *backend.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Handler.HandleMessage(m)
}

func (h *serialHandler) HandleNotice(n backend.Notice) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Handler.HandleNotice(n)
}

func (h *serialHandler) HandleGap(reason error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Handler.HandleGap(reason)
}

func (h *serialHandler) HandleFlush() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Handler.HandleFlush()
}

func (b *remoteBus) Start(ctx context.Context, id backend.NodeID, h backend.Handler) error {
	b.h = &serialHandler{Handler: h}
	b.s.set(func() { b.s.back = append(b.s.back, func() { b.h.HandleGap(backend.ErrUnavailable) }) })
	return b.s.request(ctx, func() error { return b.Backend.Start(ctx, id, b.h) })
}

func (b *remoteBus) Subscribe(ctx context.Context, filter string, class backend.Class) error {
	return b.s.request(ctx, func() error { return b.Backend.Subscribe(ctx, filter, class) })
}

func (b *remoteBus) Unsubscribe(ctx context.Context, filter string, class backend.Class) error {
	return b.s.request(ctx, func() error { return b.Backend.Unsubscribe(ctx, filter, class) })
}

func (b *remoteBus) Publish(ctx context.Context, m *backend.Message) error {
	return b.s.request(ctx, func() error { return b.Backend.Publish(ctx, m) })
}

func (b *remoteBus) Notify(ctx context.Context, to backend.NodeID, n backend.Notice) error {
	return b.s.request(ctx, func() error { return b.Backend.Notify(ctx, to, n) })
}

// TestBackendFaultCases does for the bus what TestStoreFaultCases does.
func TestBackendFaultCases(t *testing.T) {
	s := &service{}
	busFaults(t, BackendHarness{
		Open: func(t *testing.T, n int, o BackendOptions) []backend.Backend {
			return openBus(t, n, o, func(b backend.Backend) backend.Backend { return &remoteBus{Backend: b, s: s} })
		},
		Faults: s,
	})
}

func openBus(t *testing.T, n int, o BackendOptions, wrap func(backend.Backend) backend.Backend) []backend.Backend {
	bus := memory.NewBus()
	if o.MaxMessage != 0 {
		bus.MaxMessage = o.MaxMessage
	}
	if o.QueueMessages != 0 {
		bus.QueueMessages = o.QueueMessages
	}
	list := make([]backend.Backend, n)
	for i := range list {
		list[i] = wrap(bus.Gateway())
		t.Cleanup(func() { _ = list[i].Close() })
	}
	return list
}
