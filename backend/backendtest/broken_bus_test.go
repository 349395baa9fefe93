package backendtest

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// busFault is one way for a bus to break a promise, and the case that must
// notice. Each function, if set, takes the place of a call.
type busFault struct {
	name    string
	notices string

	subscribe   func(b *brokenBus, filter string, class backend.Class) error
	unsubscribe func(b *brokenBus, filter string, class backend.Class) error
	publish     func(b *brokenBus, m *backend.Message) error
	soon        func(b *brokenBus, m *backend.Message) error
	notify      func(b *brokenBus, to backend.NodeID, n backend.Notice) error
	close       func(b *brokenBus) error
	message     func(h backend.Handler, m *backend.Message)
	gap         func(h backend.Handler, reason error)
	flush       func(h backend.Handler)
	context     func(context.Context) context.Context
}

// brokenBus is one gateway's place on a bus with a fault.
type brokenBus struct {
	backend.Backend
	fault *busFault
	own   *serialHandler
}

func (b *brokenBus) PublishSoon(ctx context.Context, m *backend.Message) error {
	if f := b.fault.soon; f != nil {
		return f(b, m)
	}
	return b.Publish(ctx, m)
}

func (b *brokenBus) NotifySoon(ctx context.Context, to backend.NodeID, n backend.Notice) error {
	return b.Notify(ctx, to, n)
}

func (b *brokenBus) Flush() {}

// brokenHandler bends what the bus brings.
type brokenHandler struct {
	backend.Handler
	fault *busFault
}

func (h *brokenHandler) HandleMessage(m *backend.Message) {
	if f := h.fault.message; f != nil {
		f(h.Handler, m)
		return
	}
	h.Handler.HandleMessage(m)
}

func (h *brokenHandler) HandleGap(reason error) {
	if f := h.fault.gap; f != nil {
		f(h.Handler, reason)
		return
	}
	h.Handler.HandleGap(reason)
}

func (h *brokenHandler) HandleFlush() {
	if f := h.fault.flush; f != nil {
		f(h.Handler)
		return
	}
	h.Handler.HandleFlush()
}

func (b *brokenBus) Start(ctx context.Context, id backend.NodeID, h backend.Handler) error {
	b.own = &serialHandler{Handler: &brokenHandler{h, b.fault}}
	return b.Backend.Start(ctx, id, b.own)
}

func (b *brokenBus) Subscribe(ctx context.Context, filter string, class backend.Class) error {
	if f := b.fault.subscribe; f != nil {
		return f(b, filter, class)
	}
	return b.Backend.Subscribe(ctx, filter, class)
}

func (b *brokenBus) Unsubscribe(ctx context.Context, filter string, class backend.Class) error {
	if f := b.fault.unsubscribe; f != nil {
		return f(b, filter, class)
	}
	return b.Backend.Unsubscribe(ctx, filter, class)
}

func (b *brokenBus) Publish(ctx context.Context, m *backend.Message) error {
	if f := b.fault.context; f != nil {
		ctx = f(ctx)
	}
	if f := b.fault.publish; f != nil {
		return f(b, m)
	}
	return b.Backend.Publish(ctx, m)
}

func (b *brokenBus) Notify(ctx context.Context, to backend.NodeID, n backend.Notice) error {
	if f := b.fault.notify; f != nil {
		return f(b, to, n)
	}
	return b.Backend.Notify(ctx, to, n)
}

func (b *brokenBus) Close() error {
	if f := b.fault.close; f != nil {
		return f(b)
	}
	return b.Backend.Close()
}

// busFaultTable is made anew for every process: some count calls.
func busFaultTable() []*busFault {
	ctx := context.Background()
	var mu sync.Mutex
	calls := 0
	held := make(map[backend.Handler]*backend.Message)
	every := func(n int) bool {
		mu.Lock()
		defer mu.Unlock()
		calls++
		return calls%n == 0
	}
	return []*busFault{
		{name: "none"}, // or the suite fails for another reason
		{name: "late interest", notices: "live on return", subscribe: func(b *brokenBus, filter string, class backend.Class) error {
			time.AfterFunc(time.Millisecond, func() { _ = b.Backend.Subscribe(ctx, filter, class) })
			return nil
		}},
		{name: "unsubscribe of everything", notices: "classes", unsubscribe: func(b *brokenBus, filter string, _ backend.Class) error {
			return b.Backend.Unsubscribe(ctx, filter, everyClass)
		}},
		{name: "echo", notices: "no echo", publish: func(b *brokenBus, m *backend.Message) error {
			b.own.HandleMessage(m.Clone())
			return b.Backend.Publish(ctx, m)
		}},
		{name: "large ones in silence", notices: "largest message", publish: func(b *brokenBus, m *backend.Message) error {
			if err := b.Backend.Publish(ctx, m); !errors.Is(err, backend.ErrTooLarge) {
				return err
			}
			return nil
		}},
		{name: "one in 300 lost", notices: "order", publish: func(b *brokenBus, m *backend.Message) error {
			if every(300) {
				return nil
			}
			return b.Backend.Publish(ctx, m)
		}},
		{name: "not flushed", notices: "soon", soon: func(b *brokenBus, m *backend.Message) error {
			if string(m.Payload) == "499" {
				return nil
			}
			return b.Backend.Publish(ctx, m)
		}},
		{name: "context ignored", notices: "cancelled context", context: context.WithoutCancel},
		{name: "twice", notices: "once each", message: func(h backend.Handler, m *backend.Message) {
			h.HandleMessage(m)
			h.HandleMessage(m)
		}},
		{name: "swapped", notices: "order", message: func(h backend.Handler, m *backend.Message) {
			mu.Lock()
			before := held[h]
			held[h] = nil
			if before == nil && string(m.Payload) == "7" {
				held[h] = m
				mu.Unlock()
				return
			}
			mu.Unlock()
			h.HandleMessage(m)
			if before != nil {
				h.HandleMessage(before)
			}
		}},
		{name: "two at once", notices: "handler one at a time", message: func(h backend.Handler, m *backend.Message) {
			go h.HandleMessage(m)
			h.HandleMessage(&backend.Message{})
		}},
		{name: "properties lost", notices: "content", message: func(h backend.Handler, m *backend.Message) {
			c := *m
			c.Properties = nil
			h.HandleMessage(&c)
		}},
		{name: "changed later", notices: "kept", message: func(h backend.Handler, m *backend.Message) {
			h.HandleMessage(m)
			clear(m.Payload)
		}},
		{name: "'$' for wildcards only", notices: "matching", message: func(h backend.Handler, m *backend.Message) {
			if !strings.HasPrefix(m.Topic, "$") {
				h.HandleMessage(m)
			}
		}},
		{name: "never flushed", notices: "runs end", flush: func(backend.Handler) {}},
		{name: "flushed now and then", notices: "runs end", flush: func(h backend.Handler) {
			if every(5) {
				h.HandleFlush()
			}
		}},
		{name: "gap in silence", notices: "slow handler", gap: func(backend.Handler, error) {}},
		{name: "gap twice", notices: "slow handler", gap: func(h backend.Handler, reason error) {
			h.HandleGap(reason)
			h.HandleGap(reason)
		}},
		{name: "notice to all", notices: "notices only to their node", notify: func(b *brokenBus, to backend.NodeID, n backend.Notice) error {
			for i := range busGateways {
				_ = b.Backend.Notify(ctx, node(i), n)
			}
			return nil
		}},
		{name: "code of a notice lost", notices: "notice content", notify: func(b *brokenBus, to backend.NodeID, n backend.Notice) error {
			n.Code = 0
			return b.Backend.Notify(ctx, to, n)
		}},
		{name: "close does not wait", notices: "close waits", close: func(b *brokenBus) error {
			go func() { _ = b.Backend.Close() }()
			return nil
		}},
		{name: "closed in silence", notices: "calls after close", publish: func(b *brokenBus, m *backend.Message) error {
			_ = b.Backend.Publish(ctx, m)
			return nil
		}},
	}
}

// TestBrokenBus runs the suite on a bus with one fault. It is run by
// TestBusSuiteNotices, in processes of their own.
func TestBrokenBus(t *testing.T) {
	name := os.Getenv(brokenVariable)
	if name == "" {
		t.Skip("run by TestBusSuiteNotices")
	}
	table := busFaultTable()
	i := slices.IndexFunc(table, func(f *busFault) bool { return f.name == name })
	TestBackend(t, BackendHarness{
		Open: func(t *testing.T, n int, o BackendOptions) []backend.Backend {
			return openBus(t, n, o, func(b backend.Backend) backend.Backend { return &brokenBus{Backend: b, fault: table[i]} })
		},
		Patience: 3 * time.Second,
	})
}

// TestBusSuiteNotices shows that the suite of the bus can fail.
func TestBusSuiteNotices(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the suite many times")
	}
	for _, f := range busFaultTable() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			wantNoticed(t, "TestBrokenBus", f.name, f.notices, "promises")
		})
	}
}
