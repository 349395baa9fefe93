package backendtest

import (
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

var replayCases = []storeCase{
	{name: "until done", promise: "an unfinished replay comes back with every resumption until Replayed says that it is finished", run: replayUntilDone},
	{name: "mark", promise: "Replayed moves the mark of one replay", run: replayMark},
	{name: "again", promise: "a replay that is asked for again begins again", run: replayAgain},
	{name: "only what was named", promise: "only subscriptions that are named in replay are replayed", run: replayNamed},
	{name: "ends with the session", promise: "replays end with their session", run: replayEnds},
}

func (g *gate) replay(t *testing.T, l backend.Lease, subs ...backend.Subscription) {
	t.Helper()
	if _, err := g.Subscribe(g.ctx, l, subs, subs); err != nil {
		t.Fatalf("Subscribe: %v", err)
	}
}

func (g *gate) replayed(t *testing.T, l backend.Lease, filter, after string, done bool) {
	t.Helper()
	if err := g.Replayed(g.ctx, l, filter, after, done); err != nil {
		t.Fatalf("Replayed(%q, %q, %v): %v", filter, after, done, err)
	}
}

func wantReplays(t *testing.T, what string, o *backend.Opened, want ...backend.Replay) {
	t.Helper()
	if !sameSet(o.Replays, want, byReplay) {
		t.Errorf("%s: replays %+v, want %+v", what, o.Replays, want)
	}
}

func replayUntilDone(t *testing.T, c *cluster) {
	s := backend.Subscription{Filter: "a/#", QoS: 1, ID: 5, RetainAsPublished: true}
	o := c.a.open(t, "client")
	c.a.replay(t, o.Lease, s)
	o = c.b.open(t, "client")
	wantReplays(t, "after a takeover", o, backend.Replay{Subscription: s})
	c.b.release(t, o.Lease, backend.ReleaseRequest{})
	o = c.a.open(t, "client")
	wantReplays(t, "after a release", o, backend.Replay{Subscription: s})
	c.a.replayed(t, o.Lease, s.Filter, "a/b", true)
	wantReplays(t, "finished", c.b.open(t, "client"))
}

func replayMark(t *testing.T, c *cluster) {
	first, second := sub("a/#", 1), sub("b/+/#", 0)
	o := c.a.open(t, "client")
	c.a.replay(t, o.Lease, first, second)
	c.a.replayed(t, o.Lease, first.Filter, "a/1", false)
	c.a.replayed(t, o.Lease, first.Filter, "a/2 é}", false)
	o = c.b.open(t, "client")
	wantReplays(t, "moved", o, backend.Replay{Subscription: first, After: "a/2 é}"}, backend.Replay{Subscription: second})
	c.b.replayed(t, o.Lease, second.Filter, "b/x", false)
	c.b.replayed(t, o.Lease, first.Filter, "", true)
	wantReplays(t, "one finished", c.a.open(t, "client"), backend.Replay{Subscription: second, After: "b/x"})
}

func replayAgain(t *testing.T, c *cluster) {
	s := sub("a/#", 1)
	o := c.a.open(t, "client")
	c.a.replay(t, o.Lease, s)
	c.a.replayed(t, o.Lease, s.Filter, "a/5", false)
	s.QoS, s.ID = 2, 9
	c.a.replay(t, o.Lease, s)
	o = c.b.open(t, "client")
	wantReplays(t, "asked for again", o, backend.Replay{Subscription: s})
	c.b.replayed(t, o.Lease, s.Filter, "", true)
	c.b.replay(t, o.Lease, s)
	wantReplays(t, "after it was finished", c.a.open(t, "client"), backend.Replay{Subscription: s})
}

func replayNamed(t *testing.T, c *cluster) {
	o := c.a.open(t, "client")
	subs := []backend.Subscription{sub("a", 1), sub("b", 1), sub("c", 1)}
	if _, err := c.a.Subscribe(c.ctx, o.Lease, subs, subs[1:2]); err != nil {
		t.Fatalf("Subscribe: %v", err)
	}
	wantReplays(t, "one of three", c.b.open(t, "client"), backend.Replay{Subscription: subs[1]})
}

func replayEnds(t *testing.T, c *cluster) {
	o := c.a.open(t, "client")
	c.a.replay(t, o.Lease, sub("a", 1))
	wantReplays(t, "after a clean start", c.b.open(t, "client", clean))
	wantReplays(t, "resumed after a clean start", c.a.open(t, "client"))
}
