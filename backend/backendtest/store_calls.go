package backendtest

import (
	"context"
	"errors"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

var callCases = []storeCase{
	{name: "cancelled context", promise: "every method returns at once for a cancelled context, with an error", run: callsCancelled},
	{name: "cancelled context changes nothing seen", promise: "calls with a cancelled context leave the store in order", run: cancelledThenGood},
	{name: "after close", promise: "a store that was closed answers ErrClosed", run: callsAfterClose},
}

// allCalls are the methods of a store that take a context, with arguments
// under which they change something.
func allCalls(g *gate, l backend.Lease) map[string]func(ctx context.Context) error {
	s := g.Store
	calls := leaseCalls(s, l)
	calls["Join"] = func(ctx context.Context) error { return s.Join(ctx, backend.Node{ID: "one more"}, aWhile) }
	calls["Renew"] = func(ctx context.Context) error { return s.Renew(ctx, g.id) }
	calls["Leave"] = func(ctx context.Context) error { return s.Leave(ctx, g.id) }
	calls["Open"] = func(ctx context.Context) error {
		_, err := s.Open(ctx, g.request("one more"))
		return err
	}
	calls["Destroy"] = func(ctx context.Context) error {
		_, _, err := s.Destroy(ctx, l.Client)
		return err
	}
	calls["Append"] = func(ctx context.Context) error {
		return s.Append(ctx, []*backend.Message{text("rich/x", "x", 1)}, make([]backend.Append, 1))
	}
	calls["Requeue"] = func(ctx context.Context) error {
		return s.Requeue(ctx, "departed", []backend.Entry{{Message: text("work/x", "x", 1), QoS: 1, Share: pool}}, make([]backend.Append, 1))
	}
	calls["Retain"] = func(ctx context.Context) error { return s.Retain(ctx, []*backend.Message{retained("a", "x")}) }
	calls["Match"] = func(ctx context.Context) error {
		_, _, err := s.Match(ctx, "#", "", 10)
		return err
	}
	calls["RetainedStats"] = func(ctx context.Context) error {
		_, _, err := s.RetainedStats(ctx)
		return err
	}
	calls["Due"] = func(ctx context.Context) error {
		_, _, err := s.Due(ctx, g.id, 10)
		return err
	}
	calls["Finish"] = func(ctx context.Context) error { return s.Finish(ctx, []backend.Chore{{ID: "x"}}) }
	return calls
}

func callsCancelled(t *testing.T, c *cluster) {
	o := c.a.member(t, "client", sub("rich/#", 1))
	for name, call := range allCalls(c.a, o.Lease) {
		if err := within(t, atOnce, name, func() error { return call(cancelled()) }); err == nil {
			t.Errorf("%s: no error", name)
		} else if errors.Is(err, backend.ErrFenced) || errors.Is(err, backend.ErrClosed) {
			t.Errorf("%s: %v, which is not true", name, err)
		}
	}
}

func cancelledThenGood(t *testing.T, c *cluster) {
	o := c.a.member(t, "client", sub("rich/#", 1))
	for range 20 {
		for name, call := range allCalls(c.a, o.Lease) {
			switch name {
			case "Leave", "Destroy", "Release": // may have been carried out
			default:
				_ = call(cancelled())
			}
		}
	}
	again := c.b.open(t, "another")
	c.b.subscribe(t, again.Lease, sub("a", 1))
	c.a.append(t, text("a", "x", 1))
	wantPayloads(t, "inbox", c.b.inbox(t, again.Lease), []string{"x"})
	c.a.subscribe(t, o.Lease, sub("b", 1))
}

func callsAfterClose(t *testing.T, c *cluster) {
	g := &gate{Store: c.h.Open(t, StoreOptions{}), ctx: c.ctx, id: "gateway", patience: c.h.Patience}
	if err := g.Join(g.ctx, backend.Node{ID: g.id}, aWhile); err != nil {
		t.Fatalf("Join: %v", err)
	}
	o := g.open(t, "client")
	if err := g.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	for name, call := range allCalls(g, o.Lease) {
		if err := within(t, c.h.Patience, name, func() error { return call(g.ctx) }); !errors.Is(err, backend.ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", name, err)
		}
	}
	if err := g.Close(); err != nil {
		t.Errorf("Close again: %v", err)
	}
}
