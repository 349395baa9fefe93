package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/memory"
)

// cluster is a number of gateways on one store and one bus, in one process.
type cluster struct {
	t      testing.TB
	store  *memory.Store
	bus    *memory.Bus
	nodes  []*Gateway
	stores []*faultyStore
	buses  []*faultyBus
	known  *identities
}

// newCluster starts gateways g0, g1, …; change adapts the options of each. They
// are shut down at the end of the test.
func newCluster(t testing.TB, n int, change ...func(i int, o *Options)) *cluster {
	t.Helper()
	cl := &cluster{t: t, store: memory.NewStore(memory.Options{}), bus: memory.NewBus(),
		known: &identities{t: t, seen: make(map[backend.PublishID]struct{})}}
	for i := range n {
		cl.add(fmt.Sprintf("g%d", i), change...)
	}
	return cl
}

// newGateway starts one gateway alone.
func newGateway(t testing.TB, change ...func(o *Options)) *Gateway {
	t.Helper()
	return newCluster(t, 1, func(_ int, o *Options) {
		for _, f := range change {
			f(o)
		}
	}).nodes[0]
}

func (cl *cluster) add(id string, change ...func(i int, o *Options)) *Gateway {
	cl.t.Helper()
	store := &faultyStore{Store: cl.store.Peer(), known: cl.known}
	bus := &faultyBus{Backend: cl.bus.Gateway()}
	o := plainOptions(store, bus)
	o.ID = backend.NodeID(id)
	for _, f := range change {
		f(len(cl.nodes), &o)
	}
	g, err := New(o)
	if err != nil {
		cl.t.Fatal(err)
	}
	if err := g.Start(context.Background()); err != nil {
		cl.t.Fatal(err)
	}
	cl.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		store.mend()
		bus.mend()
		if err := g.Shutdown(ctx); err != nil {
			cl.t.Errorf("Shutdown: %v", err)
		}
	})
	cl.nodes = append(cl.nodes, g)
	cl.stores = append(cl.stores, store)
	cl.buses = append(cl.buses, bus)
	return g
}

// plainOptions are those of a gateway that says nothing, measures nothing, lets
// clients be idle for ever, and goes at once when it is told to.
func plainOptions(s backend.Store, b backend.Backend) Options {
	return Options{
		Store: s, Backend: b, Logger: slog.New(slog.DiscardHandler),
		Limits: Limits{KeepAlive: -1},
		Timing: Timing{Sys: -1, Drain: -1},
	}
}

// eventually waits until the condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for until := time.Now().Add(patience); !holds(); {
		if time.Now().After(until) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// faultyBus is a Backend whose calls can be made to fail or to do nothing. The
// hook gets the name of each call and what it is about; what it returns as
// error the call returns, and with lost the call returns nil without being
// made.
type faultyBus struct {
	backend.Backend
	hook atomic.Pointer[func(call string, about any) (lost bool, err error)]
}

func (b *faultyBus) fault(hook func(call string, about any) (lost bool, err error)) {
	b.hook.Store(&hook)
}

func (b *faultyBus) mend() { b.hook.Store(nil) }

func (b *faultyBus) ask(call string, about any) (bool, error) {
	if h := b.hook.Load(); h != nil {
		return (*h)(call, about)
	}
	return false, nil
}

func (b *faultyBus) Subscribe(ctx context.Context, filter string, class backend.Class) error {
	if lost, err := b.ask("Subscribe", filter); lost || err != nil {
		return err
	}
	return b.Backend.Subscribe(ctx, filter, class)
}

func (b *faultyBus) Publish(ctx context.Context, m *backend.Message) error {
	if lost, err := b.ask("Publish", m); lost || err != nil {
		return err
	}
	return b.Backend.Publish(ctx, m)
}

func (b *faultyBus) Notify(ctx context.Context, to backend.NodeID, n backend.Notice) error {
	if lost, err := b.ask("Notify", n); lost || err != nil {
		return err
	}
	return b.Backend.Notify(ctx, to, n)
}

// Alone implements [backend.Solitary].
func (b *faultyBus) Alone() bool { return b.Backend.(backend.Solitary).Alone() }
