package backendtest

import (
	"context"
	"errors"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

var fencingCases = []storeCase{
	{name: "by takeover", promise: "every call under an older lease returns ErrFenced", run: fencedByTakeover},
	{name: "by clean start", promise: "every call under a lease of an earlier session returns ErrFenced", run: fencedByCleanStart},
	{name: "by destroy", promise: "every call under a lease of a session that was destroyed returns ErrFenced", run: fencedByDestroy},
	{name: "by the end of the gateway", promise: "every call under a lease of a gateway whose own lease has ended returns ErrFenced", run: fencedByReaping},
	{name: "changes nothing", promise: "a call that is fenced changes nothing", run: fencedChangesNothing},
	{name: "released late", promise: "a gateway that releases a session it has lost does not detach the newer connection", run: lateRelease},
}

// leaseCalls are the methods that act under a lease.
func leaseCalls(s backend.Store, l backend.Lease) map[string]func(ctx context.Context) error {
	entry := backend.Entry{Message: text("fenced", "x", 1), QoS: 1}
	zero := uint32(0)
	return map[string]func(ctx context.Context) error{
		"Subscribe": func(ctx context.Context) error {
			_, err := s.Subscribe(ctx, l, []backend.Subscription{sub("fenced", 2)}, []backend.Subscription{sub("fenced", 2)})
			return err
		},
		"Unsubscribe": func(ctx context.Context) error {
			_, err := s.Unsubscribe(ctx, l, []string{"rich/#", "$share/group/rich/é/#"})
			return err
		},
		"Replayed": func(ctx context.Context) error { return s.Replayed(ctx, l, "rich/#", "", true) },
		"Release": func(ctx context.Context) error {
			_, err := s.Release(ctx, l, backend.ReleaseRequest{KeepWill: true, Expiry: &zero, Sent: 1})
			return err
		},
		"Enqueue": func(ctx context.Context) error {
			_, err := s.Enqueue(ctx, l, []backend.Entry{entry})
			return err
		},
		"Fetch": func(ctx context.Context) error {
			_, _, err := s.Fetch(ctx, l, 0, 10, 1<<20)
			return err
		},
		"Advance": func(ctx context.Context) error {
			return s.Advance(ctx, l, backend.Progress{Released: []uint64{2}, Done: []uint64{3}})
		},
		"Review": func(ctx context.Context) error {
			out := make([]backend.Standing, 1)
			if err := s.Review(ctx, []backend.Lease{l}, out); err != nil {
				return err
			}
			if out[0].Fenced {
				return backend.ErrFenced
			}
			return nil
		},
		"Forget": func(ctx context.Context) error { return s.Forget(ctx, l, []uint16{7}) },
		"TakeShared": func(ctx context.Context) error {
			_, _, err := s.TakeShared(ctx, l, "$share/group/rich/é/#", 10)
			return err
		},
	}
}

// wantFenced fails if any call under l is let through.
func wantFenced(t *testing.T, g *gate, l backend.Lease) {
	t.Helper()
	for name, call := range leaseCalls(g.Store, l) {
		if err := call(g.ctx); !errors.Is(err, backend.ErrFenced) {
			t.Errorf("%s under a lease that was lost: %v, want ErrFenced", name, err)
		}
	}
}

func fencedByTakeover(t *testing.T, c *cluster) {
	for _, changes := range [][]change{nil, {ephemeral}} {
		old := c.a.open(t, "client", changes...)
		c.b.open(t, "client", changes...)
		wantFenced(t, c.a, old.Lease)
		wantFenced(t, c.b, old.Lease) // whoever asks
	}
}

func fencedByCleanStart(t *testing.T, c *cluster) {
	old := c.a.open(t, "client")
	middle := c.b.open(t, "client", clean)
	c.b.release(t, middle.Lease, backend.ReleaseRequest{})
	c.b.open(t, "client")
	wantFenced(t, c.a, old.Lease)
	wantFenced(t, c.a, middle.Lease)
}

func fencedByDestroy(t *testing.T, c *cluster) {
	old := c.a.open(t, "client")
	if _, _, err := c.b.Destroy(c.ctx, "client"); err != nil {
		t.Fatalf("Destroy: %v", err)
	}
	wantFenced(t, c.a, old.Lease)
	c.b.open(t, "client")
	wantFenced(t, c.a, old.Lease)
}

func fencedByReaping(t *testing.T, c *cluster) {
	g := c.mortal(t, "dying")
	old := g.open(t, "client")
	short := g.open(t, "short", ephemeral)
	c.a.collect(t, nil, "the end of the ephemeral session", has(backend.ChoreEnded, "short"))
	wantFenced(t, g, old.Lease)
	wantFenced(t, g, short.Lease)
}

func fencedChangesNothing(t *testing.T, c *cluster) {
	old := c.a.open(t, "client")
	subs, replays := rich(t, c.a, old.Lease)
	own := &backend.Message{Topic: "nobody", QoS: 2, Publisher: "client", ID: backend.PublishID{Client: "client", Incarnation: old.Incarnation, PacketID: 7}}
	c.a.append(t, own)
	current := c.b.open(t, "client", leaving("will", 0))
	wantFenced(t, c.a, old.Lease)
	// The newer connection goes on.
	c.b.subscribe(t, current.Lease, subs[0])
	if list := c.b.due(t); len(list) != 0 {
		t.Errorf("%d chores after calls that were fenced", len(list))
	}
	wantPayloads(t, "inbox", c.b.inbox(t, current.Lease), []string{"1", "2", "3"})
	o := c.a.open(t, "client")
	switch {
	case !o.Present || !o.Durable || o.Previous != current.Lease || o.Incarnation != old.Incarnation:
		t.Errorf("opened: %+v after %+v", o, current)
	case !sameSet(o.Subscriptions, subs, bySubscription):
		t.Errorf("subscriptions %+v, want %+v", o.Subscriptions, subs)
	case !sameSet(o.Replays, replays, byReplay):
		t.Errorf("replays %+v, want %+v", o.Replays, replays)
	case o.Base != 0 || o.Last != 3:
		t.Errorf("base %d, last %d; want 0, 3", o.Base, o.Last)
	case len(o.Received) != 1 || o.Received[7] != 0 || len(o.Generations) != 0:
		t.Errorf("received %v, generations %v; want packet identifier 7 with generation 0, and none", o.Received, o.Generations)
	case len(of(o.Due, backend.ChoreWill, "client")) != 1 || len(o.Due) != 1:
		t.Errorf("chores %+v, want the will", o.Due)
	}
}

func lateRelease(t *testing.T, c *cluster) {
	old := c.a.open(t, "client", leaving("old will", 0))
	current := c.b.member(t, "client", sub("a", 1), leaving("new will", 0))
	c.b.finish(t, current.Due...)
	_, err := c.a.Release(c.ctx, old.Lease, backend.ReleaseRequest{KeepWill: true})
	if !errors.Is(err, backend.ErrFenced) {
		t.Errorf("Release: %v, want ErrFenced", err)
	}
	if list := c.b.due(t); len(list) != 0 {
		t.Errorf("%d chores of a connection that is up", len(list))
	}
	for _, target := range c.a.append(t, text("a", "x", 1))[0].Targets {
		if target.Node != c.b.id || target.Epoch != current.Lease.Epoch {
			t.Errorf("target %+v, want node %s and epoch %d", target, c.b.id, current.Lease.Epoch)
		}
	}
}
