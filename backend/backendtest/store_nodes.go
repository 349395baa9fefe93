package backendtest

import (
	"errors"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

var nodeCases = []storeCase{
	{name: "renew keeps", promise: "Renew extends the lease by the ttl of Join: a gateway that renews keeps its sessions for longer than one lease", run: renewKeeps},
	{name: "renew after the end", promise: "Renew returns ErrFenced if the lease had ended, whether or not anybody noticed", run: renewLate},
	{name: "leave detaches", promise: "Leave detaches the sessions that are still attached, with their wills due", run: leaveDetaches},
	{name: "leave ends the lease", promise: "after Leave calls of the node are fenced; it may join under a new name", run: leaveEnds},
	{name: "leave spares others", promise: "Leave touches no session that another gateway has taken over", run: leaveSparesOthers},
	{name: "reaped", promise: "Due detaches the sessions of gateways whose lease has ended: wills due, ephemeral sessions ended, durable ones kept", run: reaped},
	{name: "not reaped early", promise: "a gateway is not reaped before its lease has ended", run: notReapedEarly},
	{name: "reaped once", promise: "several reapers at once hand each will of a dead gateway out once", run: reapedOnce},
	{name: "owner gone before reaping", promise: "a client that returns before its dead gateway was reaped resumes, and that gateway is its Previous", run: returnBeforeReaping},
}

// leaseMargin is what is added to a lease to be sure that it has ended.
func (c *cluster) leaseMargin() time.Duration { return c.h.Lease/2 + 100*time.Millisecond }

// mortal makes a gateway with the short lease, on the store of b.
func (c *cluster) mortal(t *testing.T, id backend.NodeID) *gate {
	t.Helper()
	return c.join(t, c.b.Store, backend.Node{ID: id}, c.h.Lease)
}

func renewKeeps(t *testing.T, c *cluster) {
	inTime(t, func(attempt string) bool { return c.renewInTime(t, "renewing"+attempt) })
}

// renewInTime keeps a gateway with one session for three leases, while another
// reaps. It returns false if half a lease passed between two renewals.
func (c *cluster) renewInTime(t *testing.T, name string) bool {
	t.Helper()
	last := time.Now()
	g := c.mortal(t, backend.NodeID(name))
	o, err := g.Open(g.ctx, g.request(backend.ClientID(name)))
	for end := last.Add(3 * c.h.Lease); err == nil && time.Now().Before(end); {
		lapse(c.h.Lease / 10)
		if err = g.Renew(g.ctx, g.id); err == nil {
			c.a.due(t)
			_, err = g.Subscribe(g.ctx, o.Lease, []backend.Subscription{sub("a", 1)}, nil)
		}
		if time.Since(last) > c.h.Lease/2 {
			return false
		}
		last = time.Now()
	}
	if err != nil {
		t.Fatalf("Open, Renew or Subscribe: %v", err)
	}
	return true
}

func renewLate(t *testing.T, c *cluster) {
	g := c.mortal(t, "late")
	lapse(c.h.Lease + c.leaseMargin())
	if err := g.Renew(g.ctx, g.id); !errors.Is(err, backend.ErrFenced) {
		t.Errorf("Renew after the end of the lease: %v, want ErrFenced", err)
	}
	if err := g.Renew(g.ctx, g.id); !errors.Is(err, backend.ErrFenced) {
		t.Errorf("Renew again: %v, want ErrFenced", err)
	}
	if _, err := g.Open(g.ctx, g.request("client")); !errors.Is(err, backend.ErrFenced) {
		t.Errorf("Open by a gateway whose lease has ended: %v, want ErrFenced", err)
	}
	if err := g.Join(g.ctx, backend.Node{ID: "late again"}, aWhile); err != nil {
		t.Fatalf("Join under a new name: %v", err)
	}
	g.id = "late again"
	g.open(t, "client")
}

func leaveDetaches(t *testing.T, c *cluster) {
	g := c.join(t, c.b.Store, backend.Node{ID: "leaving"}, aWhile)
	durable := g.member(t, "durable", sub("a", 1), leaving("will/durable", 0))
	g.open(t, "ephemeral", ephemeral, leaving("will/ephemeral", 3600))
	g.open(t, "quiet")
	if err := g.Leave(g.ctx, g.id); err != nil {
		t.Fatalf("Leave: %v", err)
	}
	all := c.a.collect(t, nil, "both wills and the end of the ephemeral session", func(all []backend.Chore) bool {
		return has(backend.ChoreWill, "durable")(all) && has(backend.ChoreWill, "ephemeral")(all) && has(backend.ChoreEnded, "ephemeral")(all)
	})
	if len(all) != 3 {
		t.Errorf("%d chores, want 3", len(all))
	}
	for _, e := range c.a.append(t, text("a", "x", 1))[0].Targets {
		if e.Node != "" {
			t.Errorf("a detached session is said to be connected to %s", e.Node)
		}
	}
	o := c.a.open(t, "durable")
	if !o.Present || o.Incarnation != durable.Incarnation || o.Previous != (backend.Lease{}) {
		t.Errorf("resumed: %+v", o)
	}
	wantPayloads(t, "inbox", c.a.inbox(t, o.Lease), []string{"x"})
	if o := c.a.open(t, "ephemeral"); o.Present {
		t.Error("an ephemeral session outlived its gateway")
	}
	if o := c.a.open(t, "quiet"); !o.Present || o.Previous != (backend.Lease{}) {
		t.Errorf("resumed: %+v", o)
	}
}

func leaveEnds(t *testing.T, c *cluster) {
	g := c.join(t, c.b.Store, backend.Node{ID: "leaving"}, aWhile)
	o := g.open(t, "client")
	if err := g.Leave(g.ctx, g.id); err != nil {
		t.Fatalf("Leave: %v", err)
	}
	if err := g.Renew(g.ctx, g.id); !errors.Is(err, backend.ErrFenced) {
		t.Errorf("Renew: %v, want ErrFenced", err)
	}
	wantFenced(t, g, o.Lease)
	if _, err := g.Open(g.ctx, g.request("other")); !errors.Is(err, backend.ErrFenced) {
		t.Errorf("Open: %v, want ErrFenced", err)
	}
	again := c.join(t, g.Store, backend.Node{ID: "leaving, second run"}, aWhile)
	if o := again.open(t, "client"); !o.Present {
		t.Error("the durable session is gone")
	}
}

func leaveSparesOthers(t *testing.T, c *cluster) {
	g := c.join(t, c.b.Store, backend.Node{ID: "leaving"}, aWhile)
	g.open(t, "client")
	o := c.a.open(t, "client", leaving("will", 0))
	if err := g.Leave(g.ctx, g.id); err != nil {
		t.Fatalf("Leave: %v", err)
	}
	if list := c.a.due(t); len(list) != 0 {
		t.Errorf("Due gives %d chores", len(list))
	}
	c.a.subscribe(t, o.Lease, sub("a", 1))
}

func reaped(t *testing.T, c *cluster) {
	g := c.mortal(t, "dying")
	durable := g.member(t, "durable", sub("a", 1), leaving("will/durable", 0))
	g.open(t, "ephemeral", ephemeral, leaving("will/ephemeral", 3600))
	all := c.a.collect(t, nil, "both wills and the end of the ephemeral session", func(all []backend.Chore) bool {
		return has(backend.ChoreWill, "durable")(all) && has(backend.ChoreWill, "ephemeral")(all) && has(backend.ChoreEnded, "ephemeral")(all)
	})
	if len(all) != 3 {
		t.Errorf("%d chores, want 3", len(all))
	}
	wantFenced(t, g, durable.Lease)
	for _, target := range c.a.append(t, text("a", "x", 1))[0].Targets {
		if target.Node != "" {
			t.Errorf("a reaped session is said to be connected to %s", target.Node)
		}
	}
	o := c.a.open(t, "durable")
	if !o.Present || o.Previous != (backend.Lease{}) {
		t.Errorf("resumed: %+v", o)
	}
	wantPayloads(t, "inbox", c.a.inbox(t, o.Lease), []string{"x"})
	if o := c.a.open(t, "ephemeral"); o.Present {
		t.Error("an ephemeral session outlived its gateway")
	}
}

func notReapedEarly(t *testing.T, c *cluster) {
	inTime(t, func(attempt string) bool {
		client := backend.ClientID("client" + attempt)
		joined := time.Now()
		g := c.mortal(t, backend.NodeID("short"+attempt))
		if _, err := g.Open(g.ctx, g.request(client, leaving("will", 0))); err != nil && time.Since(joined) < c.h.Lease-clockSlack {
			t.Fatalf("Open: %v", err)
		}
		lapse(c.h.Lease / 2)
		renewed := time.Now()
		err := g.Renew(g.ctx, g.id)
		if time.Since(joined) >= c.h.Lease-clockSlack {
			return false
		}
		if err != nil {
			t.Fatalf("Renew: %v", err)
		}
		c.a.collect(t, nil, "the will", has(backend.ChoreWill, client))
		if passed := time.Since(renewed); passed < c.h.Lease-clockSlack {
			t.Errorf("reaped %v after a renewal of %v", passed, c.h.Lease)
		}
		return true
	})
}

func reapedOnce(t *testing.T, c *cluster) {
	const clients = 50
	g := c.join(t, c.b.Store, backend.Node{ID: "dying"}, 3*c.h.Lease) // time for a client even on a busy machine
	for _, id := range clientNames(clients) {
		g.open(t, id, leaving("will", 0))
		if err := g.Renew(g.ctx, g.id); err != nil {
			t.Fatalf("Renew: %v", err)
		}
	}
	wills := make(map[backend.ClientID]int)
	list := bothCollect(t, c, func(list []backend.Chore) bool { return len(list) >= clients })
	for _, chore := range list {
		wills[chore.Client]++
	}
	// What would come twice would come with the next ones.
	last := c.a.open(t, "last", ephemeral, leaving("will", 0))
	due := c.a.release(t, last.Lease, backend.ReleaseRequest{KeepWill: true})
	for _, chore := range c.b.collect(t, due, "the last will", has(backend.ChoreWill, "last")) {
		if chore.Client != "last" {
			wills[chore.Client]++
		}
	}
	for _, id := range clientNames(clients) {
		if wills[id] != 1 {
			t.Errorf("the will of %s was handed out %d times", id, wills[id])
		}
	}
}

func returnBeforeReaping(t *testing.T, c *cluster) {
	g := c.mortal(t, "dying")
	old := g.open(t, "client", leaving("will", 5))
	lapse(c.h.Lease + c.leaseMargin())
	o := c.a.open(t, "client")
	if !o.Present || o.Incarnation != old.Incarnation || o.Lease.Epoch <= old.Lease.Epoch {
		t.Errorf("resumed: %+v after %+v", o, old)
	}
	wantFenced(t, g, old.Lease)
	// The delayed will of a session that was resumed in time is not
	// published [MQTT-3.1.3-9]; that of one that left later is.
	other := c.a.open(t, "other", leaving("will", 5))
	c.a.release(t, other.Lease, backend.ReleaseRequest{KeepWill: true})
	all := c.b.collect(t, o.Due, "the will of the other client", has(backend.ChoreWill, "other"))
	if len(of(all, backend.ChoreWill, "client")) != 0 {
		t.Error("the will of a session that was resumed in time came due")
	}
	// The new connection is untouched by the reaping of the old one.
	c.a.subscribe(t, o.Lease, sub("a", 1))
}
