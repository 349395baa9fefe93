package redis

import (
	"context"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/backendtest"
)

// figureOf returns a value of a figure by its label, "" for one without.
func figureOf(t *testing.T, m backend.Measured, name, label string) backend.Value {
	t.Helper()
	for _, f := range m.Figures() {
		for _, v := range f.Values {
			if f.Name == name && (label == "" || v.Labels[0] == label) {
				return v
			}
		}
	}
	return backend.Value{}
}

// TestFigures: what the store did is in its figures.
func TestFigures(t *testing.T) {
	p := newPair(t, nil)
	number := func(name, label string) float64 { return figureOf(t, p.a, name, label).Number }
	openSession(t, p.b, "b", "c", subscription("a"), subscription("$share/g/b"))
	waitFor(t, "the other's subscription", func() bool { return number("store_index_subscriptions", "") == 1 })
	if n := number("store_index_groups", ""); n != 1 {
		t.Errorf("%v groups, want 1", n)
	}
	if n := number("store_index_reloads_total", ""); n != indexBuckets {
		t.Errorf("%v reloads, want those of the start, %d", n, indexBuckets)
	}
	appendTo(t, p.a, message("a", "1"), message("a", "2"), message("a", "3"))
	if v := figureOf(t, p.a, "store_append_batch_messages", ""); v.Spread.Count != 1 || v.Spread.Sum != 3 {
		t.Errorf("batches %+v, want one of 3", v.Spread)
	}
	if v := figureOf(t, p.a, "store_call_duration_seconds", "append"); v.Spread == nil || v.Spread.Count == 0 || v.Spread.Sum <= 0 {
		t.Errorf("durations of append: %+v", v.Spread)
	}
	if v := figureOf(t, p.b, "store_call_duration_seconds", "subscribe"); v.Spread == nil || v.Spread.Count == 0 {
		t.Errorf("durations of a script: %+v", v.Spread)
	}
	if lag := number("store_index_lag_seconds", ""); lag <= 0 || lag > 60 {
		t.Errorf("lag %v s", lag)
	}
	if n := number("store_condition", "unreachable"); n != 0 {
		t.Errorf("unreachable is %v", n)
	}

	p.server.Kill(t)
	awaitHealth(t, p.a.Store, "can not be reached")
	if n := number("store_condition", "unreachable"); n != 1 {
		t.Errorf("unreachable is %v, want 1", n)
	}
	before := number("store_call_errors_total", "unreachable")
	if err := p.a.Append(context.Background(), []*backend.Message{message("a", "4")}, make([]backend.Append, 1)); err == nil {
		t.Error("a message was stored at nobody's")
	}
	if n := number("store_call_errors_total", "unreachable"); n <= before {
		t.Errorf("%v errors, had %v before one more", n, before)
	}
	p.server.Start(t)
	awaitHealth(t, p.a.Store, "")
	if n := number("store_condition_changes_total", ""); n != 2 {
		t.Errorf("%v changes, want 2", n)
	}
}

// TestFiguresOfAFullServer: being full is a condition, and no reason to send
// clients away.
func TestFiguresOfAFullServer(t *testing.T) {
	srv := startServer(t)
	s := open(t, optionsFor(t, srv.url(), backendtest.StoreOptions{}))
	limitMemory(t, srv, -100_000)
	waitFor(t, "the condition", func() bool { return figureOf(t, s, "store_condition", "full").Number == 1 })
	if err := s.Health(); err != nil {
		t.Errorf("Health: %v", err)
	}
}
