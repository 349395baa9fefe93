package backendtest

import (
	"fmt"
	"sync"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

var groupQueueCases = []storeCase{
	{name: "waits", promise: "while no member is connected and one is durable messages wait, and TakeShared moves them to the next in order", run: queueWaits},
	{name: "pages", promise: "TakeShared moves up to max messages and says whether more are left", run: queuePages},
	{name: "ephemeral member", promise: "TakeShared gives an ephemeral member its messages in hand, without sequence", run: queueToEphemeral},
	{name: "shared among takers", promise: "what several members take at once each gets alone, and nothing is lost", run: queueToSeveral},
	{name: "direct again", promise: "after it was drained messages go to the member directly", run: queueThenDirect},
	{name: "QoS 0", promise: "messages of QoS 0 do not wait", run: queueQoS0},
	{name: "no durable member", promise: "without a durable member nothing waits", run: queueNobody},
	{name: "members only", promise: "who is no member takes nothing", run: queueStranger},
	{name: "ends with the group", promise: "what waits is dropped when the last member has gone for good", run: queueEnds},
	{name: "limit", promise: "a full queue refuses the newest message and counts it", options: StoreOptions{InboxMessages: 3}, run: queueLimit},
	{name: "identity", promise: "two appends with one identity wait once", run: queueIdentity},
}

// wait puts messages into the queue of the pool: a durable member that is away
// is all it has.
func (c *cluster) wait(t *testing.T, messages int) {
	t.Helper()
	o := c.a.member(t, "durable", sub(pool, 1))
	c.a.release(t, o.Lease, backend.ReleaseRequest{})
	for i, out := range c.b.append(t, numbered("work/x", messages, 1)...) {
		if !out.Matched || out.Refused != 0 {
			t.Fatalf("message %d: %+v, want a match", i, out)
		}
		for _, target := range out.Targets {
			if target.Node != "" {
				t.Fatalf("message %d: target %+v, nobody is connected", i, target)
			}
		}
	}
}

func (g *gate) takeShared(t *testing.T, l backend.Lease, filter string, limit int) ([]backend.Entry, bool) {
	t.Helper()
	entries, more, err := g.TakeShared(g.ctx, l, filter, limit)
	if err != nil {
		t.Fatalf("TakeShared(%.40q, %q): %v", l.Client, filter, err)
	}
	return entries, more
}

// takeAll takes what waits and returns it: what is in hand, or for a durable
// session its inbox.
func (g *gate) takeAll(t *testing.T, o *backend.Opened, filter string) []backend.Entry {
	t.Helper()
	var all []backend.Entry
	for more := true; more; {
		var entries []backend.Entry
		entries, more = g.takeShared(t, o.Lease, filter, 3)
		if more && !o.Durable && len(entries) == 0 {
			t.Fatal("TakeShared gave nothing and says that there is more")
		}
		all = append(all, entries...)
	}
	if !o.Durable {
		return all
	}
	if len(all) != 0 {
		t.Errorf("TakeShared gave %d entries in hand to a durable session", len(all))
	}
	return g.inbox(t, o.Lease)
}

func queueWaits(t *testing.T, c *cluster) {
	const messages = 20
	c.wait(t, messages)
	o := c.b.open(t, "durable")
	list := c.b.takeAll(t, o, pool)
	wantPayloads(t, "inbox", list, count(0, messages))
	for _, e := range list {
		if e.Share != pool || e.QoS != 1 || e.State != backend.Pending {
			t.Fatalf("entry %+v, want QoS 1 of the group", e)
		}
	}
	// They are in the inbox, and nowhere else.
	o = c.a.open(t, "durable")
	wantPayloads(t, "inbox after a takeover", c.a.takeAll(t, o, pool), count(0, messages))
	if o.Last != messages {
		t.Errorf("last %d, want %d", o.Last, messages)
	}
}

func queuePages(t *testing.T, c *cluster) {
	c.wait(t, 5)
	o := c.b.open(t, "durable")
	for _, step := range []struct {
		max, have int
		more      bool
	}{{2, 2, true}, {2, 4, true}, {2, 5, false}, {2, 5, false}} {
		_, more := c.b.takeShared(t, o.Lease, pool, step.max)
		wantPayloads(t, "inbox", c.b.inbox(t, o.Lease), count(0, step.have))
		if more != step.more {
			t.Errorf("%d taken: more %v, want %v", step.have, more, step.more)
		}
	}
}

func queueToEphemeral(t *testing.T, c *cluster) {
	const messages = 8
	c.wait(t, messages)
	o := c.b.member(t, "ephemeral", backend.Subscription{Filter: pool, QoS: 1, ID: 6}, ephemeral)
	list := c.b.takeAll(t, o, pool)
	wantPayloads(t, "in hand", list, count(0, messages))
	for _, e := range list {
		if e.Seq != 0 || e.Share != pool || e.QoS != 1 {
			t.Fatalf("entry %+v, want no sequence, QoS 1, the group", e)
		}
	}
	durable := c.a.open(t, "durable")
	wantPayloads(t, "left for the durable member", c.a.takeAll(t, durable, pool), nil)
}

func queueToSeveral(t *testing.T, c *cluster) {
	const messages, takers = 200, 4
	c.wait(t, messages)
	got := make([][]backend.Entry, takers)
	opened := make([]*backend.Opened, takers)
	for i, id := range clientNames(takers) {
		opened[i] = []*gate{c.a, c.b}[i%2].member(t, id, sub(pool, 1), ephemeral)
	}
	var group sync.WaitGroup
	for i, o := range opened {
		group.Go(func() {
			for more := true; more; {
				var entries []backend.Entry
				var err error
				entries, more, err = []*gate{c.a, c.b}[i%2].TakeShared(c.ctx, o.Lease, pool, 7)
				if err != nil {
					t.Errorf("TakeShared: %v", err)
					return
				}
				got[i] = append(got[i], entries...)
			}
		})
	}
	group.Wait()
	all := make(map[string]int)
	for i, list := range got {
		last := -1
		for _, e := range list {
			var n int
			if _, err := fmt.Sscan(string(e.Message.Payload), &n); err != nil || n <= last {
				t.Errorf("taker %d got message %s after %d", i, e.Message.Payload, last)
			}
			last = n
			all[string(e.Message.Payload)]++
		}
	}
	wantOnceEach(t, "taken", all, count(0, messages))
}

func queueThenDirect(t *testing.T, c *cluster) {
	c.wait(t, 3)
	o := c.b.open(t, "durable")
	c.b.takeAll(t, o, pool)
	out := c.a.append(t, text("work/x", "3", 1))[0]
	if len(out.Targets) != 1 || out.Targets[0].Client != "durable" || out.Targets[0].Node != c.b.id || out.Targets[0].Entry.Seq != 4 {
		t.Errorf("outcome %+v, want the member's inbox, sequence 4", out)
	}
	wantPayloads(t, "inbox", c.b.inbox(t, o.Lease), count(0, 4))
}

func queueQoS0(t *testing.T, c *cluster) {
	c.wait(t, 1)
	zero := c.a.member(t, "zero", sub("$share/zero/work/#", 0))
	c.a.release(t, zero.Lease, backend.ReleaseRequest{})
	c.b.append(t, text("work/x", "dropped", 0), text("work/x", "1", 1))
	wantPayloads(t, "inbox", c.b.takeAll(t, c.b.open(t, "durable"), pool), count(0, 2))
}

func queueNobody(t *testing.T, c *cluster) {
	o := c.a.member(t, "first", sub(pool, 1), ephemeral)
	c.a.release(t, o.Lease, backend.ReleaseRequest{})
	if out := c.b.append(t, text("work/x", "x", 1))[0]; out.Matched {
		t.Errorf("outcome %+v, want no match", out)
	}
	o = c.a.member(t, "second", sub(pool, 1))
	wantPayloads(t, "inbox", c.a.takeAll(t, o, pool), nil)
}

func queueStranger(t *testing.T, c *cluster) {
	c.wait(t, 2)
	stranger := c.a.open(t, "stranger", ephemeral)
	c.a.subscribe(t, stranger.Lease, sub("work/#", 1), sub("$share/other/work/#", 1))
	if entries, _, err := c.a.TakeShared(c.ctx, stranger.Lease, pool, 10); err == nil && len(entries) != 0 {
		t.Errorf("a stranger took %q", payloads(entries))
	}
	wantPayloads(t, "inbox", c.b.takeAll(t, c.b.open(t, "durable"), pool), count(0, 2))
}

func queueEnds(t *testing.T, c *cluster) {
	for i, end := range []func(o *backend.Opened){
		func(o *backend.Opened) { c.b.unsubscribe(t, o.Lease, pool) },
		func(*backend.Opened) { c.b.open(t, "durable", clean) },
		func(*backend.Opened) {
			if _, _, err := c.b.Destroy(c.ctx, "durable"); err != nil {
				t.Fatalf("Destroy: %v", err)
			}
		},
	} {
		c.wait(t, 3)
		end(c.b.open(t, "durable"))
		o := c.a.member(t, "new", sub(pool, 1), ephemeral)
		wantPayloads(t, fmt.Sprintf("end %d: taken by a new member", i), c.a.takeAll(t, o, pool), nil)
		c.a.release(t, o.Lease, backend.ReleaseRequest{})
		c.a.open(t, "durable", clean)
	}
}

func queueLimit(t *testing.T, c *cluster) {
	c.wait(t, 3)
	if out := c.b.append(t, text("work/x", "refused", 1))[0]; out.Refused != 1 {
		t.Errorf("outcome %+v, want one refusal", out)
	}
	o := c.b.member(t, "taker", sub(pool, 1), ephemeral)
	wantPayloads(t, "taken", c.b.takeAll(t, o, pool), count(0, 3))
}

func queueIdentity(t *testing.T, c *cluster) {
	publisher := c.a.open(t, "publisher")
	c.wait(t, 1)
	m := identified(publisher, 7, 0, "1")
	m.Topic = "work/x"
	c.a.append(t, m)
	if out := c.b.append(t, m)[0]; !out.Duplicate {
		t.Errorf("again: %+v, want a duplicate", out)
	}
	wantPayloads(t, "inbox", c.b.takeAll(t, c.b.open(t, "durable"), pool), count(0, 2))
}
