package backendtest

import (
	"sync"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

var choreCases = []storeCase{
	{name: "once", promise: "Due hands each chore to one gateway, however many ask at once", run: choreOnce},
	{name: "again", promise: "a chore that is not finished is handed out again after its claim, not before; one that is finished never", run: choreAgain},
	{name: "claimed by the caller", promise: "work that Open, Release and Destroy return is claimed: it is handed out again only if the caller does not finish it", run: choreClaimed},
	{name: "claimant gone", promise: "a chore of a gateway that left is handed out again", run: choreClaimantGone},
	{name: "max", promise: "Due hands out at most max chores, and the others afterwards", run: choreMax},
	{name: "unknown", promise: "finishing what is unknown, or was finished, is no error", run: choreUnknown},
	{name: "wait", promise: "wait is how long until there may be more: a gateway that sleeps so long misses nothing", run: choreWait},
	{name: "identifiers", promise: "chores have identifiers of their own", run: choreIDs},
}

// bothCollect polls at both gateways at once until done, finishing all.
func bothCollect(t *testing.T, c *cluster, done func([]backend.Chore) bool) []backend.Chore {
	t.Helper()
	var mu sync.Mutex
	var all []backend.Chore
	var group sync.WaitGroup
	deadline := time.Now().Add(c.h.Patience)
	for _, g := range []*gate{c.a, c.b, c.a, c.b} {
		group.Go(func() {
			for time.Now().Before(deadline) {
				list, _, err := g.Due(g.ctx, g.id, 3)
				if err == nil {
					err = g.Finish(g.ctx, list)
				}
				if err != nil {
					t.Errorf("Due and Finish at %s: %v", g.id, err)
					return
				}
				mu.Lock()
				all = append(all, list...)
				ready := done(all)
				mu.Unlock()
				if ready {
					return
				}
				if len(list) == 0 {
					time.Sleep(between)
				}
			}
		})
	}
	group.Wait()
	if !done(all) {
		t.Fatalf("waited %v in vain for chores; %d came", c.h.Patience, len(all))
	}
	return all
}

func choreOnce(t *testing.T, c *cluster) {
	const clients = 100
	for _, id := range clientNames(clients) {
		o := c.a.open(t, id, leaving("will", 1))
		c.a.release(t, o.Lease, backend.ReleaseRequest{KeepWill: true})
	}
	got := make(map[backend.ClientID]int)
	for _, chore := range bothCollect(t, c, func(list []backend.Chore) bool { return len(list) >= clients }) {
		got[chore.Client]++
	}
	for _, chore := range c.afterExpiry(t, nil) {
		got[chore.Client]++
	}
	for _, id := range clientNames(clients) {
		if got[id] != 1 {
			t.Errorf("the will of %s was handed out %d times", id, got[id])
		}
	}
}

// lost makes a will of each client come due, handed to by, and returns them in
// order.
func (c *cluster) lost(t *testing.T, by *gate, clients ...backend.ClientID) []backend.Chore {
	t.Helper()
	for _, id := range clients {
		o := c.a.open(t, id, leaving("will/"+string(id), 1))
		c.a.release(t, o.Lease, backend.ReleaseRequest{KeepWill: true})
	}
	var due []backend.Chore
	eventually(t, c.h.Patience, "the wills of all", func() bool {
		due = append(due, by.due(t)...)
		return len(due) >= len(clients)
	})
	var list []backend.Chore
	for _, id := range clients {
		wills := of(due, backend.ChoreWill, id)
		if len(wills) != 1 {
			t.Fatalf("%d wills of %s", len(wills), id)
		}
		list = append(list, wills[0])
	}
	return list
}

func choreAgain(t *testing.T, c *cluster) {
	list := c.lost(t, c.a, "kept", "done")
	claimed := time.Now()
	kept := list[0]
	c.a.finish(t, list[1])
	var again []backend.Chore
	eventually(t, c.h.Patience+backend.ChoreClaim, "the chore again", func() bool {
		again = append(again, c.b.due(t)...)
		return has(backend.ChoreWill, "kept")(again)
	})
	if passed := time.Since(claimed); passed < backend.ChoreClaim-time.Second {
		// It was claimed up to the wait for both before we looked.
		t.Errorf("the chore came again after %v, the claim is %v", passed, backend.ChoreClaim)
	}
	if got := of(again, backend.ChoreWill, "kept")[0]; got.ID != kept.ID || sameMessage(got.Will, kept.Will) != "" {
		t.Errorf("the chore %+v came again as %+v", kept, got)
	}
	c.b.finish(t, again...)
	again = append(again, c.afterExpiry(t, nil)...) // a second later
	if len(of(again, backend.ChoreWill, "kept")) != 1 || len(of(again, backend.ChoreWill, "done")) != 0 {
		t.Errorf("chores %+v came again, want the one that was not finished, once", again)
	}
}

func choreClaimed(t *testing.T, c *cluster) {
	released := c.a.open(t, "released", leaving("will", 0))
	c.a.open(t, "taken over", leaving("will", 0))
	c.a.open(t, "destroyed", leaving("will", 0))
	ended := c.a.open(t, "ended", ephemeral)
	start := time.Now()
	due := c.a.release(t, released.Lease, backend.ReleaseRequest{KeepWill: true})
	due = append(due, c.a.open(t, "taken over").Due...)
	_, destroyed, err := c.a.Destroy(c.ctx, "destroyed")
	if err != nil {
		t.Fatalf("Destroy: %v", err)
	}
	due = append(due, destroyed...)
	due = append(due, c.a.release(t, ended.Lease, backend.ReleaseRequest{})...)
	if len(due) != 5 {
		t.Errorf("%d chores, want three wills and two ends", len(due))
	}
	again := make(map[string]bool)
	eventually(t, c.h.Patience+backend.ChoreClaim, "all chores again", func() bool {
		for _, chore := range c.b.due(t) {
			again[chore.ID] = true
			if passed := time.Since(start); passed < backend.ChoreClaim-clockSlack {
				t.Errorf("a chore came again after %v, the claim is %v", passed, backend.ChoreClaim)
			}
		}
		return len(again) >= len(due)
	})
	for _, chore := range due {
		if !again[chore.ID] {
			t.Errorf("the chore %+v did not come again", chore)
		}
	}
}

func choreClaimantGone(t *testing.T, c *cluster) {
	g := c.join(t, c.b.Store, backend.Node{ID: "claimant"}, aWhile)
	chore := c.lost(t, g, "client")[0]
	if err := g.Leave(g.ctx, g.id); err != nil {
		t.Fatalf("Leave: %v", err)
	}
	all := c.a.collect(t, nil, "the chore again", has(backend.ChoreWill, "client"))
	if all[0].ID != chore.ID {
		t.Errorf("the chore %+v came again as %+v", chore, all[0])
	}
}

func choreMax(t *testing.T, c *cluster) {
	const clients, limit = 10, 3
	g := c.join(t, c.b.Store, backend.Node{ID: "leaving"}, aWhile)
	for _, id := range clientNames(clients) {
		g.open(t, id, leaving("will", 0))
	}
	if err := g.Leave(g.ctx, g.id); err != nil {
		t.Fatalf("Leave: %v", err)
	}
	got := make(map[backend.ClientID]bool)
	eventually(t, c.h.Patience, "all wills", func() bool {
		list, _, err := c.a.Due(c.ctx, c.a.id, limit)
		if err != nil || len(list) > limit {
			t.Fatalf("Due: %d chores, at most %d were asked for; %v", len(list), limit, err)
		}
		for _, chore := range list {
			got[chore.Client] = true
		}
		return len(got) == clients
	})
}

func choreUnknown(t *testing.T, c *cluster) {
	chore := c.lost(t, c.a, "client")[0]
	c.a.finish(t, chore)
	c.a.finish(t, chore)
	c.b.finish(t, chore, backend.Chore{ID: "never was"}, backend.Chore{ID: ""}, backend.Chore{ID: "} :*", Kind: backend.ChoreWill, Client: "x"})
	c.b.finish(t)
}

func choreWait(t *testing.T, c *cluster) {
	// A second will is armed while the gateway may be asleep already: wait
	// is at most a second or so, so that it is late by no more.
	o := c.a.open(t, "first", leaving("will", 1))
	c.a.release(t, o.Lease, backend.ReleaseRequest{KeepWill: true})
	start := time.Now()
	got := make(map[backend.ClientID]time.Duration)
	armed := false
	for len(got) < 2 && time.Since(start) < c.h.Patience {
		list, wait, err := c.b.Due(c.ctx, c.b.id, 10)
		if err != nil {
			t.Fatalf("Due: %v", err)
		}
		for _, chore := range list {
			got[chore.Client] = time.Since(start)
		}
		c.b.finish(t, list...)
		if !armed {
			armed = true
			o := c.a.open(t, "second", leaving("will", 2))
			c.a.release(t, o.Lease, backend.ReleaseRequest{KeepWill: true})
		}
		lapse(wait)
	}
	for id, delay := range map[backend.ClientID]time.Duration{"first": time.Second, "second": 2 * time.Second} {
		if at, ok := got[id]; !ok || at > delay+3500*time.Millisecond {
			t.Errorf("the will of %s with a delay of %v came after %v", id, delay, at)
		}
	}
}

func choreIDs(t *testing.T, c *cluster) {
	seen := make(map[string]bool)
	for i := range 3 {
		for _, id := range append([]string{"a", "a:b", "}"}, awkward[:20]...) {
			o := c.a.open(t, backend.ClientID(id), ephemeral, leaving("will", 0))
			due := c.a.release(t, o.Lease, backend.ReleaseRequest{KeepWill: true})
			if i == 0 && len(due) != 2 {
				t.Errorf("%q: %d chores, want will and end", id, len(due))
			}
			for _, chore := range due {
				if chore.ID == "" || seen[chore.ID] {
					t.Errorf("%q: the identifier %q is empty or not new", id, chore.ID)
				}
				seen[chore.ID] = true
				if string(chore.Client) != id {
					t.Errorf("chore of %q for %q", id, chore.Client)
				}
			}
			if i > 0 {
				c.a.finish(t, due...) // identifiers are not used again either
			}
		}
	}
}
