package backendtest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

var busLifeCases = []backendCase{
	{name: "handler one at a time", promise: "the handler's methods are called one at a time", run: oneAtATime},
	{name: "slow handler", promise: "a handler that is too slow costs its own gateway messages and one gap, and nobody else anything", options: BackendOptions{QueueMessages: stalledQueue}, run: slowHandler},
	{name: "close waits", promise: "no handler method runs after Close returned", run: closeWaits},
	{name: "close drops what waits", promise: "no handler method runs after Close returned, also with messages waiting", run: closeUnderLoad},
	{name: "close leaves others", promise: "a gateway that closes takes nothing from the others", run: closeLeavesOthers},
	{name: "calls after close", promise: "a driver that was closed answers ErrClosed", run: afterClose},
	{name: "cancelled context", promise: "a call with a cancelled context returns at once, with an error", run: busCancelled},
	{name: "alone", promise: "a backend that can tell says that it is alone exactly while no other gateway can receive anything", run: alone},
	{name: "start with cancelled context", promise: "Start with a cancelled context fails at once and calls no handler", run: startCancelled},
}

func oneAtATime(t *testing.T, r *room) {
	const each = 300
	r.subscribe(t, 0, "busy/#", everyClass)
	r.ears[0].setGate(runtime.Gosched) // a second call, if any, gets its turn
	var group sync.WaitGroup
	for from := 1; from < busGateways; from++ {
		group.Go(func() {
			for n := range each {
				err := errors.Join(
					r.buses[from].Publish(r.ctx, &backend.Message{Topic: fmt.Sprintf("busy/%d/%d", from, n)}),
					r.buses[from].Notify(r.ctx, node(0), backend.Notice{Kind: backend.NoticeKick}),
				)
				if err != nil {
					t.Errorf("%s: %v", node(from), err)
					return
				}
			}
		})
	}
	group.Wait()
	e := r.ears[0]
	const want = each * (busGateways - 1)
	e.wait(t, r.h.Patience, "all messages and notices", func() bool { return len(e.messages) >= want && len(e.notices) >= want })
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.overlaps > 0 {
		t.Errorf("%d calls began while another ran", e.overlaps)
	}
}

// stalledQueue is the length of the queue in the case of a slow handler.
const stalledQueue = 1000

// slowHandler is F23: the handler of one gateway stands still.
func slowHandler(t *testing.T, r *room) {
	const messages = 20 * stalledQueue
	for _, i := range []int{1, 2} {
		r.subscribe(t, i, "slow/#", everyClass)
	}
	for stall := 1; stall <= 2; stall++ {
		held, release := make(chan struct{}), make(chan struct{})
		var once sync.Once
		r.ears[1].setGate(func() {
			once.Do(func() { close(held) })
			<-release
		})
		letGo := sync.OnceFunc(func() { close(release) })
		t.Cleanup(letGo) // or Close would wait for ever
		topic := fmt.Sprintf("slow/%d", stall)
		first := &backend.Message{Topic: topic, Payload: make([]byte, 100)}
		r.publish(t, 0, first)
		<-held
		// The others take at their own pace: the publisher waits for the
		// quick one so that only the slow one's queue can overflow.
		quick := r.ears[2]
		for n := 1; n < messages; n++ {
			r.publish(t, 0, first)
			if n%(stalledQueue/4) == 0 {
				quick.waitTopic(t, r.h.Patience, topic, n+1)
			}
		}
		quick.waitTopic(t, r.h.Patience, topic, messages)
		r.ears[1].setGate(nil)
		letGo()
		slow := r.ears[1]
		slow.wait(t, r.h.Patience, fmt.Sprintf("gap %d", stall), func() bool { return len(slow.gaps) >= stall })
		// It hears again, without help.
		r.settle(t, 0, 1, fmt.Sprintf("slow-%d", stall))
		slow.mu.Lock()
		gaps, heard := len(slow.gaps), slow.counts[topic]
		slow.mu.Unlock()
		if gaps != stall {
			t.Errorf("%d gaps after %d stalls", gaps, stall)
		}
		if heard >= messages {
			t.Errorf("nothing of %d messages was dropped: the queue has no bound", messages)
		}
	}
	if n := len(r.ears[2].gaps); n != 0 {
		t.Errorf("%d gaps at the quick gateway", n)
	}
}

func closeWaits(t *testing.T, r *room) {
	held, release := make(chan struct{}), make(chan struct{})
	letGo := sync.OnceFunc(func() { close(release) })
	t.Cleanup(letGo)
	var once sync.Once
	r.subscribe(t, 1, "held", everyClass)
	r.ears[1].setGate(func() {
		once.Do(func() { close(held) })
		<-release
	})
	r.publish(t, 0, &backend.Message{Topic: "held"})
	<-held
	closed := make(chan error, 1)
	go func() { closed <- r.buses[1].Close() }() // ends after release
	select {
	case <-closed:
		t.Fatal("Close returned while a handler method ran")
	case <-time.After(50 * time.Millisecond):
		// Long enough for a Close that does not wait; one that does is never
		// blamed wrongly.
	}
	letGo()
	if err := within(t, r.h.Patience, "Close", func() error { return <-closed }); err != nil {
		t.Errorf("Close: %v", err)
	}
	if r.ears[1].running() {
		t.Error("a handler method runs after Close returned")
	}
}

// running reports whether a call is running.
func (e *ear) running() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.inside > 0
}

func closeUnderLoad(t *testing.T, r *room) {
	r.subscribe(t, 1, "load/#", everyClass)
	var closed, late atomic.Bool
	r.ears[1].setGate(func() {
		if closed.Load() {
			late.Store(true)
		}
	})
	stop := make(chan struct{})
	var group sync.WaitGroup
	for _, from := range []int{0, 2} {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				err := errors.Join(
					r.buses[from].Publish(r.ctx, &backend.Message{Topic: "load/x", QoS: 1}),
					r.buses[from].Notify(r.ctx, node(1), backend.Notice{Kind: backend.NoticeKick}),
				)
				if err != nil {
					t.Errorf("%s: %v", node(from), err)
					return
				}
			}
		})
	}
	r.ears[1].waitTopic(t, r.h.Patience, "load/x", 100)
	err := within(t, r.h.Patience, "Close", r.buses[1].Close)
	closed.Store(true)
	if err != nil {
		t.Errorf("Close: %v", err)
	}
	// The others go on until one of them has heard something newer.
	r.subscribe(t, 2, "still", everyClass)
	for range 100 {
		r.publish(t, 0, &backend.Message{Topic: "still"})
	}
	r.ears[2].waitTopic(t, r.h.Patience, "still", 100)
	close(stop)
	group.Wait()
	if late.Load() {
		t.Error("a handler method was called after Close returned")
	}
}

func closeLeavesOthers(t *testing.T, r *room) {
	for i := range busGateways {
		r.subscribe(t, i, "others/+", everyClass)
	}
	if err := r.buses[1].Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	r.publish(t, 0, &backend.Message{Topic: "others/0"})
	r.ears[2].waitTopic(t, r.h.Patience, "others/0", 1)
	r.publish(t, 2, &backend.Message{Topic: "others/2", QoS: 1})
	r.ears[0].waitTopic(t, r.h.Patience, "others/2", 1)
}

// busCalls are the methods that take a context.
func busCalls(b backend.Backend) map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"Subscribe":   func(ctx context.Context) error { return b.Subscribe(ctx, "a/b", everyClass) },
		"Unsubscribe": func(ctx context.Context) error { return b.Unsubscribe(ctx, "a/b", everyClass) },
		"Publish":     func(ctx context.Context) error { return b.Publish(ctx, &backend.Message{Topic: "a/b"}) },
		"Notify": func(ctx context.Context) error {
			return b.Notify(ctx, node(2), backend.Notice{Kind: backend.NoticeKick})
		},
	}
}

func afterClose(t *testing.T, r *room) {
	if err := r.buses[1].Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	for name, call := range busCalls(r.buses[1]) {
		err := within(t, r.h.Patience, name, func() error { return call(r.ctx) })
		if !errors.Is(err, backend.ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", name, err)
		}
	}
	if err := r.buses[1].Close(); err != nil {
		t.Errorf("Close again: %v", err)
	}
}

func busCancelled(t *testing.T, r *room) {
	for name, call := range busCalls(r.buses[1]) {
		if err := within(t, atOnce, name, func() error { return call(cancelled()) }); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// The bus takes no harm.
	r.settle(t, 0, 1, "cancelled")
}

func startCancelled(t *testing.T, r *room) {
	b, e := r.h.Open(t, 1, BackendOptions{})[0], newEar()
	err := within(t, atOnce, "Start", func() error { return b.Start(cancelled(), "late", e) })
	if err == nil {
		t.Error("Start: no error")
	}
	if err := within(t, r.h.Patience, "Close", b.Close); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func alone(t *testing.T, r *room) {
	who, ok := r.buses[0].(backend.Solitary)
	if !ok {
		t.Skip("it can not tell")
	}
	for left := busGateways - 1; left > 0; left-- {
		if who.Alone() {
			t.Errorf("alone with %d others", left)
		}
		if err := r.buses[left].Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	eventually(t, r.h.Patience, "it is alone", who.Alone)
	r.publish(t, 0, &backend.Message{Topic: "nobody"})
}
