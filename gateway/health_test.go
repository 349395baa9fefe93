package gateway

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/memory"
)

// illBus is a bus that knows what is wrong with it.
type illBus struct {
	backend.Backend
	wrong atomic.Value // of error
}

func (b *illBus) Health() error { return b.wrong.Load().(fault).error }

// fault is an error or none, in a type that is always the same.
type fault struct{ error }

func newIllBus(b backend.Backend) *illBus {
	ill := &illBus{Backend: b}
	ill.set(nil)
	return ill
}

func (b *illBus) set(err error) { b.wrong.Store(fault{err}) }

// TestReadyAsksDrivers: a driver that says it is of no use makes the gateway not
// ready, by name, until it is well again.
func TestReadyAsksDrivers(t *testing.T) {
	t.Parallel()
	bus := newIllBus(memory.NewBus().Gateway())
	g, err := New(plainOptions(memory.NewStore(memory.Options{}), bus))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	defer g.Shutdown(context.Background())
	if err := g.Ready(); err != nil {
		t.Errorf("well, and %v", err)
	}
	bus.set(errors.New("two probes did not come back"))
	if err := g.Ready(); err == nil || !strings.Contains(err.Error(), "bus: two probes") {
		t.Errorf("ill, and %v", err)
	}
	bus.set(nil)
	if err := g.Ready(); err != nil {
		t.Errorf("well again, and %v", err)
	}
}
