package backendtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

var storeFaultCases = []storeCase{
	{name: "killed after each write", promise: "what a call returned nil for is there after the service was killed and started again", run: killedAfterEachWrite},
	{name: "killed while appending", promise: "of messages appended around a kill every acknowledged one is there, in order, those with an identity once", run: killedWhileAppending},
	{name: "away", promise: "while the service is away every method returns ErrUnavailable in time, and works again afterwards", run: storeAway},
	{name: "paused", promise: "while the service does not answer every method returns ErrUnavailable within the context's deadline", run: storePaused},
	{name: "reply lost", promise: "a call whose reply was lost may be repeated: its effect is there once", run: replyLost},
	{name: "append interrupted", promise: "an Append with an identity that failed half way is completed by its repetition, and doubles nothing", run: appendInterrupted},
	{name: "caches flushed", promise: "a service that lost its caches changes nothing that is seen", run: cachesFlushed},
}

// restart kills the service and starts it again, and waits until the store
// answers: renewing may fail until its connection is made anew.
func (c *cluster) restart(t *testing.T) {
	t.Helper()
	c.h.Faults.Kill(t)
	startOnce(t, c.h.Faults)()
	c.recovered(t)
}

// recovered waits until both gateways reach the service again.
func (c *cluster) recovered(t *testing.T) {
	t.Helper()
	for _, g := range []*gate{c.a, c.b} {
		eventually(t, c.h.Patience, "the store answers at "+string(g.id), func() bool {
			ctx, cancel := context.WithTimeout(c.ctx, callLimit)
			defer cancel()
			return g.Renew(ctx, g.id) == nil
		})
	}
}

func killedAfterEachWrite(t *testing.T, c *cluster) {
	zero := uint32(0)
	o := c.a.open(t, "client", leaving("will", 0))
	c.restart(t)
	c.a.subscribe(t, o.Lease, sub("a/#", 2), sub("b", 1), sub(pool, 1)) // the lease holds
	c.restart(t)
	c.a.replay(t, o.Lease, sub("r", 1))
	c.restart(t)
	c.a.replayed(t, o.Lease, "r", "r/5", false)
	c.restart(t)
	c.a.unsubscribe(t, o.Lease, "b")
	c.restart(t)
	if out := c.b.append(t, numbered("a/x", 5, 2)...); !out[4].Matched {
		t.Errorf("outcome %+v: the subscription is lost", out[4])
	}
	c.restart(t)
	wantPayloads(t, "inbox", c.a.inbox(t, o.Lease), count(0, 5))
	c.a.advance(t, o.Lease, backend.Progress{Base: 1, Released: []uint64{2}, Done: []uint64{4}})
	c.restart(t)
	if got := states(c.a.inbox(t, o.Lease)); got != "2:1 3:0 5:0 " {
		t.Errorf("sequences and states %q", got)
	}
	if first, err := c.a.Enqueue(c.ctx, o.Lease, []backend.Entry{{Message: text("r/6", "6", 1), QoS: 1, Retain: true}}); err != nil || first != 6 {
		t.Errorf("Enqueue: first %d, %v; want 6", first, err)
	}
	m := identified(o, 7, 0, "x")
	c.a.append(t, m)
	c.restart(t)
	if out := c.b.append(t, m)[0]; !out.Duplicate {
		t.Errorf("outcome %+v, want a duplicate", out)
	}
	c.a.forget(t, o.Lease, 7)
	c.restart(t)
	c.a.retain(t, retained("kept", "1"), retained("gone", "1"), retained("gone", ""))
	c.restart(t)
	c.b.wantOne(t, "kept", "1")
	c.b.wantOne(t, "gone", "")
	o = c.b.open(t, "client", leaving("second will", 0))
	if topics := willTopics(o.Due); len(topics) != 1 || topics[0] != "will" {
		t.Errorf("wills %q due, want that of the first connection", topics)
	}
	c.b.finish(t, o.Due...)
	c.restart(t)
	wantKnown(t, "after all", o, nil, map[uint16]uint32{7: 1})
	wantReplays(t, "after all", o, backend.Replay{Subscription: sub("r", 1), After: "r/5"})
	if want := []backend.Subscription{sub("a/#", 2), sub(pool, 1), sub("r", 1)}; !sameSet(o.Subscriptions, want, bySubscription) {
		t.Errorf("subscriptions %+v, want %+v", o.Subscriptions, want)
	}
	wantFenced(t, c.a, backend.Lease{Client: "client", Node: c.a.id, Epoch: o.Previous.Epoch})
	due := c.b.release(t, o.Lease, backend.ReleaseRequest{KeepWill: true, Expiry: &zero})
	c.restart(t)
	// Nobody finished what Release returned: it comes again.
	all := c.a.collect(t, nil, "will and end of the session", func(all []backend.Chore) bool { return len(all) >= len(due) })
	if topics := willTopics(all); len(topics) != 1 || topics[0] != "second will" || !has(backend.ChoreEnded, "client")(all) {
		t.Errorf("chores %+v, want the second will and the end", all)
	}
	c.restart(t)
	if list := c.b.due(t); len(list) != 0 {
		t.Errorf("%d chores after they were finished", len(list))
	}
	wantNothing(t, c.b, c.b.open(t, "client"))
}

func killedWhileAppending(t *testing.T, c *cluster) {
	const messages = 60
	publisher := c.a.open(t, "publisher")
	subscriber := c.b.member(t, "subscriber", sub("qos2", 2))
	subscriber1 := c.b.member(t, "subscriber of QoS 1", sub("qos1", 1))
	acked := make(map[string]bool)
	for i := range messages {
		back := func() {}
		if i%20 == 10 {
			c.h.Faults.Kill(t)
			back = startOnce(t, c.h.Faults)
		}
		payload := fmt.Sprint(i)
		batch := []*backend.Message{identified(publisher, uint16(i+1), 0, payload), text("qos1", payload, 1)}
		out := make([]backend.Append, len(batch))
		attempts := 0
		eventually(t, c.h.Patience, "the append goes through", func() bool {
			ctx, cancel := context.WithTimeout(c.ctx, callLimit)
			defer cancel()
			err := c.a.Append(ctx, batch, out)
			if err != nil && !errors.Is(err, backend.ErrUnavailable) {
				t.Fatalf("Append: %v, want ErrUnavailable", err)
			}
			if attempts++; attempts == 2 {
				back()
			}
			if err == nil && attempts == 1 {
				back()
			}
			return err == nil
		})
		acked[payload] = true
	}
	c.recovered(t)
	wantPayloads(t, "QoS 2", c.b.inbox(t, subscriber.Lease), count(0, messages))
	list := payloads(c.b.inbox(t, subscriber1.Lease))
	if got := slices.Compact(list); !slices.Equal(got, count(0, messages)) {
		t.Errorf("QoS 1: %q, want all in order, some perhaps twice", got)
	}
}

// wantUnavailable calls everything at once, each with a deadline.
func (c *cluster) wantUnavailable(t *testing.T, g *gate, l backend.Lease) {
	t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, callLimit)
	defer cancel()
	type result struct {
		name string
		err  error
	}
	results := make(chan result)
	waiting := make(map[string]bool)
	for name, call := range allCalls(g, l) {
		waiting[name] = true
		go func() { // ends with the call, or with the test if that hangs
			select {
			case results <- result{name, call(ctx)}:
			case <-c.ctx.Done():
			}
		}()
	}
	timeout := time.NewTimer(callLimit + callGrace)
	defer timeout.Stop()
	for len(waiting) > 0 {
		select {
		case r := <-results:
			delete(waiting, r.name)
			if !errors.Is(r.err, backend.ErrUnavailable) {
				t.Errorf("%s: %v, want ErrUnavailable", r.name, r.err)
			}
		case <-timeout.C:
			t.Fatalf("%v did not return within %v", slices.Sorted(maps.Keys(waiting)), callLimit+callGrace)
		}
	}
}

// stillGood checks that a session that was there before a fault goes on, at a
// gateway that was not asked to leave meanwhile.
func (c *cluster) stillGood(t *testing.T) {
	t.Helper()
	o := c.b.open(t, "good")
	wantPayloads(t, "inbox", c.b.inbox(t, o.Lease), []string{"before"})
	c.a.append(t, text("good", "after", 1))
	wantPayloads(t, "inbox", c.b.inbox(t, o.Lease), []string{"before", "after"})
}

func (c *cluster) good(t *testing.T) {
	t.Helper()
	c.b.member(t, "good", sub("good", 1))
	c.a.append(t, text("good", "before", 1))
}

func storeAway(t *testing.T, c *cluster) {
	c.good(t)
	g := c.join(t, c.a.Store, backend.Node{ID: "cut off"}, aWhile)
	o := g.open(t, "client")
	c.h.Faults.Kill(t)
	back := startOnce(t, c.h.Faults)
	c.wantUnavailable(t, g, o.Lease)
	back()
	c.recovered(t)
	c.stillGood(t)
}

func storePaused(t *testing.T, c *cluster) {
	c.good(t)
	g := c.join(t, c.a.Store, backend.Node{ID: "cut off"}, aWhile)
	o := g.open(t, "client")
	c.h.Faults.Pause(t)
	back := resumeOnce(t, c.h.Faults)
	c.wantUnavailable(t, g, o.Lease)
	back()
	c.recovered(t)
	c.stillGood(t)
}

// again swallows the reply of a call, and repeats the call until it succeeds.
// A driver that repeats by itself needs one attempt.
func (c *cluster) again(t *testing.T, name string, call func(ctx context.Context) error) {
	t.Helper()
	c.h.Faults.Drop(t, 1)
	eventually(t, c.h.Patience, name+" goes through", func() bool {
		ctx, cancel := context.WithTimeout(c.ctx, callLimit)
		defer cancel()
		err := call(ctx)
		if err != nil && !errors.Is(err, backend.ErrUnavailable) {
			t.Fatalf("%s: %v, want ErrUnavailable", name, err)
		}
		return err == nil
	})
}

// replyLost is F11: the answer of every call that writes is lost once.
func replyLost(t *testing.T, c *cluster) {
	o := c.a.open(t, "client")
	subs := []backend.Subscription{sub("a", 2), sub("qos2", 2)}
	c.again(t, "Subscribe", func(ctx context.Context) error {
		_, err := c.a.Subscribe(ctx, o.Lease, subs, subs[:1])
		return err
	})
	m := identified(o, 7, 0, "0")
	c.again(t, "Append", func(ctx context.Context) error {
		return c.a.Append(ctx, []*backend.Message{m}, make([]backend.Append, 1))
	})
	c.again(t, "Append of another", func(ctx context.Context) error {
		return c.a.Append(ctx, []*backend.Message{identified(o, 8, 0, "1")}, make([]backend.Append, 1))
	})
	wantPayloads(t, "inbox", c.a.inbox(t, o.Lease), count(0, 2))
	c.again(t, "Forget", func(ctx context.Context) error { return c.a.Forget(ctx, o.Lease, []uint16{7}) })
	c.again(t, "Advance", func(ctx context.Context) error {
		return c.a.Advance(ctx, o.Lease, backend.Progress{Base: 1, Released: []uint64{2}})
	})
	c.again(t, "Replayed", func(ctx context.Context) error { return c.a.Replayed(ctx, o.Lease, "a", "a/1", false) })
	c.again(t, "Retain", func(ctx context.Context) error {
		return c.a.Retain(ctx, []*backend.Message{retained("r", "x")})
	})
	c.again(t, "Unsubscribe", func(ctx context.Context) error {
		_, err := c.a.Unsubscribe(ctx, o.Lease, []string{"a"})
		return err
	})
	var next *backend.Opened
	c.again(t, "Open", func(ctx context.Context) error {
		var err error
		next, err = c.b.Open(ctx, c.b.request("client", leaving("will", 0)))
		return err
	})
	if !next.Present || next.Incarnation != o.Incarnation || next.Lease.Epoch <= o.Lease.Epoch || next.Base != 1 || next.Last != 2 {
		t.Errorf("opened: %+v after %+v", next, o)
	}
	wantKnown(t, "opened", next, map[uint16]uint32{8: 0}, map[uint16]uint32{7: 1})
	if len(next.Subscriptions) != 1 || next.Subscriptions[0] != subs[1] {
		t.Errorf("subscriptions %+v, want %+v", next.Subscriptions, subs[1])
	}
	if got := states(c.b.inbox(t, next.Lease)); got != "2:1 " {
		t.Errorf("sequences and states %q", got)
	}
	c.b.wantOne(t, "r", "x")
	if n, _, err := c.b.RetainedStats(c.ctx); err != nil || n != 1 {
		t.Errorf("%d retained, %v; want one", n, err)
	}
	c.b.finish(t, next.Due...)
	// The will of a release whose reply was lost is handed out by Due.
	c.h.Faults.Drop(t, 1)
	ctx, cancel := context.WithTimeout(c.ctx, callLimit)
	defer cancel()
	due, err := c.b.Release(ctx, next.Lease, backend.ReleaseRequest{KeepWill: true})
	if err != nil && !errors.Is(err, backend.ErrUnavailable) {
		t.Fatalf("Release: %v, want ErrUnavailable", err)
	}
	wills := of(c.a.collect(t, due, "the will", has(backend.ChoreWill, "client")), backend.ChoreWill, "client")
	if len(wills) != 1 {
		t.Errorf("%d wills", len(wills))
	}
}

func appendInterrupted(t *testing.T, c *cluster) {
	const subscribers, messages = 10, 20
	publisher := c.a.open(t, "publisher")
	var leases []backend.Lease
	for _, id := range clientNames(subscribers) {
		leases = append(leases, c.b.member(t, id, sub("qos2", 2)).Lease)
	}
	for i := range messages {
		// However many requests an Append makes, one of these loses a reply
		// in the middle of it.
		c.h.Faults.Drop(t, 1+i%4)
		m := identified(publisher, uint16(i+1), 0, fmt.Sprint(i))
		out := make([]backend.Append, 1)
		g := c.a
		eventually(t, c.h.Patience, "the append goes through", func() bool {
			ctx, cancel := context.WithTimeout(c.ctx, callLimit)
			defer cancel()
			err := g.Append(ctx, []*backend.Message{m}, out)
			if err != nil && !errors.Is(err, backend.ErrUnavailable) {
				t.Fatalf("Append: %v, want ErrUnavailable", err)
			}
			g = c.b // the client comes back elsewhere
			return err == nil
		})
	}
	c.recovered(t)
	for _, l := range leases {
		wantPayloads(t, string(l.Client), c.b.inbox(t, l), count(0, messages))
	}
}

// cachesFlushed is F19, NOSCRIPT.
func cachesFlushed(t *testing.T, c *cluster) {
	o := c.a.open(t, "client")
	calls := allCalls(c.a, o.Lease)
	for name, call := range calls {
		switch name {
		case "Leave", "Destroy", "Release":
			continue // they come last
		}
		c.a.subscribe(t, o.Lease, sub("$share/group/rich/é/#", 1)) // for TakeShared
		c.h.Faults.Flush(t)
		if err := call(c.ctx); err != nil {
			t.Errorf("%s after a flush: %v", name, err)
		}
	}
	for _, name := range []string{"Release", "Destroy", "Leave"} {
		c.h.Faults.Flush(t)
		if err := calls[name](c.ctx); err != nil {
			t.Errorf("%s after a flush: %v", name, err)
		}
	}
}
