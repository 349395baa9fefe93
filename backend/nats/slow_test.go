package nats_test

import (
	"errors"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

// slowEar is a handler that can be held up.
type slowEar struct {
	*ear
	held atomic.Pointer[chan struct{}]
}

func (e *slowEar) HandleMessage(m *backend.Message) {
	if c := e.held.Load(); c != nil {
		<-*c
	}
	e.ear.HandleMessage(m)
}

// TestSlowHandler: a gateway whose handler stands still while much comes drops
// what is above its limits and takes no more memory than those; each stall is
// one gap, which comes when it is over; other gateways miss nothing (F23).
func TestSlowHandler(t *testing.T) {
	const (
		perStall  = 40_000
		atOnce    = 4_000 // less than what waits for a handler at most
		queueMost = 16 << 20
	)
	s := startService(t, program(t, "installed"), 1)
	list := gateways(t, s, 2, nil)
	publisher, other := list[0], list[1]
	other.subscribe(t, "load")
	o := publisher.beside(s, 0)
	o.QueueBytes = queueMost
	b := newBackend(t, o)
	e := &slowEar{ear: newEar()}
	if err := b.Start(t.Context(), "slow", e); err != nil {
		t.Fatal(err)
	}
	for _, filter := range []string{"load", "end"} {
		if err := b.Subscribe(t.Context(), filter, backend.ClassQoS0|backend.ClassAcked); err != nil {
			t.Fatal(err)
		}
	}
	m := &backend.Message{Topic: "load", Payload: make([]byte, 256)}
	heap := func() int64 {
		runtime.GC()
		var ms runtime.MemStats
		runtime.ReadMemStats(&ms)
		return int64(ms.HeapAlloc)
	}
	before := heap()
	for stall := 1; stall <= 2; stall++ {
		release := make(chan struct{})
		e.held.Store(&release)
		dropped := b.Stats().Dropped
		for sent := (stall - 1) * perStall; sent < stall*perStall; sent += atOnce {
			for range atOnce {
				if err := publisher.Publish(t.Context(), m); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "the other has all", func() bool { return other.count("load") == sent+atOnce })
		}
		eventually(t, "messages are dropped", func() bool { return b.Stats().Dropped > dropped })
		if grown := heap() - before; grown > queueMost+4<<20 {
			t.Errorf("the heap grew by %d bytes while the handler stood still", grown)
		}
		if n := len(e.gapList()); n != stall-1 {
			t.Errorf("%d gaps during stall %d", n, stall)
		}
		e.held.Store(nil)
		close(release)
		e.wait(t, "the gap", func() bool { return len(e.gaps) == stall })
		if err := e.gapList()[stall-1]; !errors.Is(err, backend.ErrFull) {
			t.Errorf("gap: %v, want ErrFull", err)
		}
		if err := b.Health(); err != nil {
			t.Errorf("Health: %v", err)
		}
	}
	publisher.publish(t, "end")
	e.wait(t, "what comes after", func() bool { return e.heard["end"] == 1 })
	if gaps := other.gapList(); len(gaps) != 0 {
		t.Errorf("the other gateway had gaps: %v", gaps)
	}
	if n := figureOf(b, "bus_gap_causes_total", "slow_handler").Number; n != 2 {
		t.Errorf("%v gaps for a slow handler, want 2", n)
	}
}
