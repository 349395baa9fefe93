package backendtest

import (
	"fmt"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

var reviewCases = []storeCase{
	{name: "fenced", promise: "Review tells of each lease whether it holds, whoever asks", run: reviewFenced},
	{name: "newest entry", promise: "Review tells the newest entry of each inbox, whether or not older ones are done", run: reviewLast},
	{name: "many", promise: "one Review is about any number of sessions", run: reviewMany},
}

func (g *gate) review(t *testing.T, leases ...backend.Lease) []backend.Standing {
	t.Helper()
	out := make([]backend.Standing, len(leases))
	for i := range out {
		out[i] = backend.Standing{Fenced: i%2 == 0, Last: 7} // of an earlier call
	}
	if err := g.Review(g.ctx, leases, out); err != nil {
		t.Fatalf("Review of %d: %v", len(leases), err)
	}
	return out
}

func reviewFenced(t *testing.T, c *cluster) {
	held := c.a.open(t, "held").Lease
	lost := c.a.open(t, "lost").Lease
	won := c.b.open(t, "lost").Lease
	released := c.a.open(t, "released").Lease
	c.a.release(t, released, backend.ReleaseRequest{})
	passing := c.a.open(t, "passing", ephemeral).Lease
	gone := c.a.open(t, "gone", ephemeral).Lease
	c.a.release(t, gone, backend.ReleaseRequest{})
	never := backend.Lease{Client: "never", Node: held.Node, Epoch: 1}
	stranger := backend.Lease{Client: "held", Node: "nowhere", Epoch: held.Epoch}
	for _, g := range []*gate{c.a, c.b} {
		out := g.review(t, held, lost, won, released, passing, gone, never, stranger)
		for i, want := range []bool{false, true, false, true, false, true, true, true} {
			if out[i].Fenced != want || out[i].Last != 0 {
				t.Errorf("lease %d: %+v, want fenced %v and no entry", i, out[i], want)
			}
		}
	}
}

func reviewLast(t *testing.T, c *cluster) {
	o, other := c.a.member(t, "client", sub("a", 1)), c.a.member(t, "other", sub("b", 1))
	want := func(last uint64) {
		t.Helper()
		out := c.a.review(t, o.Lease, other.Lease)
		if out[0] != (backend.Standing{Last: last}) || out[1] != (backend.Standing{}) {
			t.Errorf("%+v, want entry %d and none", out, last)
		}
	}
	want(0)
	c.b.append(t, numbered("a", 3, 1)...)
	want(3)
	if err := c.a.Advance(c.a.ctx, o.Lease, backend.Progress{Base: 1, Done: []uint64{3}}); err != nil {
		t.Fatal(err)
	}
	want(3)
	if err := c.a.Advance(c.a.ctx, o.Lease, backend.Progress{Base: 3}); err != nil {
		t.Fatal(err)
	}
	want(3)
	c.b.append(t, numbered("a", 1, 1)...)
	want(4)
	again := c.b.open(t, "client")
	out := c.a.review(t, o.Lease, again.Lease)
	if out[0] != (backend.Standing{Fenced: true}) || out[1] != (backend.Standing{Last: 4}) {
		t.Errorf("after a takeover: %+v", out)
	}
}

func reviewMany(t *testing.T, c *cluster) {
	const sessions = 600
	leases := make([]backend.Lease, sessions)
	for i := range leases {
		leases[i] = c.a.open(t, backend.ClientID(fmt.Sprint("client", i))).Lease
	}
	for i := 0; i < sessions; i += 100 {
		c.b.open(t, leases[i].Client)
	}
	for i, s := range c.a.review(t, leases...) {
		if s.Fenced != (i%100 == 0) {
			t.Errorf("session %d: %+v", i, s)
		}
	}
	c.a.review(t)
}
