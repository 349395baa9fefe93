package backendtest

import (
	"slices"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

var requeueCases = []storeCase{
	{name: "to others", promise: "Requeue gives messages to other members of their group alone, never back, and fills out for each", run: requeueToOthers},
	{name: "nobody left", promise: "messages whose group has no member left are dropped", run: requeueNobody},
	{name: "nobody connected", promise: "messages whose group has only members that are away wait for the next", run: requeueWaits},
	{name: "departed member", promise: "what a departed durable member had not acknowledged goes to others: QoS 1 at once", run: requeueDeparted},
	{name: "dead gateway", promise: "what a member at a dead gateway had not acknowledged goes to others", run: requeueDead},
	{name: "acknowledged", promise: "what a departed member had acknowledged stays acknowledged", run: requeueAcknowledged},
	{name: "QoS 2 stays", promise: "QoS 2 stays with its member while the session lives", run: requeueQoS2Stays},
	{name: "QoS 2 unsent", promise: "QoS 2 that was not sent goes to others when the session ends; what was sent does not [MQTT-4.8.2-5]", run: requeueQoS2Unsent},
	{name: "sole member", promise: "a message whose only member departed is kept for it", run: requeueSole},
	{name: "others away", promise: "a message whose other members are away is not lost when its member departs", run: requeueOthersAway},
	{name: "back before the requeue", promise: "a member that returns before its messages were given away loses none", run: requeueBack},
	{name: "member of several groups", promise: "each message goes to a member of its own group", run: requeueSeveralGroups},
	{name: "not shared", promise: "what came by a subscription that is not shared stays with its session", run: requeueNotShared},
}

// requeue gives entries of a departed member to others.
func (g *gate) requeue(t *testing.T, from backend.ClientID, entries []backend.Entry) []backend.Append {
	t.Helper()
	out := make([]backend.Append, len(entries))
	if err := g.Requeue(g.ctx, from, entries, out); err != nil {
		t.Fatalf("Requeue(%.40q, %d entries): %v", from, len(entries), err)
	}
	return out
}

// carry does what requeues among chores ask for, and returns the targets with
// the messages' payloads.
func (g *gate) carry(t *testing.T, chores []backend.Chore) crew {
	t.Helper()
	w := make(crew)
	for _, chore := range chores {
		if chore.Kind == backend.ChoreRequeue {
			for i, out := range g.requeue(t, chore.Client, chore.Entries) {
				w.record(t, chore.Entries[i].Message, out)
			}
		}
		g.finish(t, chore)
	}
	return w
}

// requeues collects chores until n entries of client are to be given away.
func (g *gate) requeues(t *testing.T, had []backend.Chore, client backend.ClientID, n int) []backend.Chore {
	t.Helper()
	return g.collect(t, had, "the requeue", func(all []backend.Chore) bool {
		entries := 0
		for _, chore := range of(all, backend.ChoreRequeue, client) {
			entries += len(chore.Entries)
		}
		return entries >= n
	})
}

func requeueToOthers(t *testing.T, c *cluster) {
	from := c.a.member(t, "from", sub(pool, 1)) // still connected
	c.a.subscribe(t, from.Lease, sub("$share/other/work/#", 1))
	c.b.member(t, "durable", backend.Subscription{Filter: pool, QoS: 1, ID: 3})
	c.b.member(t, "ephemeral", sub(pool, 1), ephemeral)
	c.b.member(t, "elsewhere", sub("$share/other/work/#", 1), ephemeral)
	plain := c.b.member(t, "plain", sub("work/#", 1))
	var entries []backend.Entry
	for i, m := range numbered("work/x", 20, 1) {
		entries = append(entries, backend.Entry{Seq: uint64(i), Message: m, QoS: 1, Share: pool})
	}
	w := make(crew)
	for i, out := range c.a.requeue(t, "from", entries) {
		if !out.Matched || len(out.Targets) != 1 {
			t.Fatalf("entry %d: %+v, want one target", i, out)
		}
		w.record(t, entries[i].Message, out)
	}
	if len(w["from"])+len(w["elsewhere"]) != 0 || len(w["durable"]) == 0 || len(w["ephemeral"]) == 0 {
		t.Errorf("targets %v, want the two other members of the group", w)
	}
	wantOnceEach(t, "requeued", w.total(), count(0, 20))
	wantPayloads(t, "a subscription that is not shared", c.b.inbox(t, plain.Lease), nil)
	durable := c.a.open(t, "durable")
	list := c.a.inbox(t, durable.Lease)
	wantPayloads(t, "the durable member's inbox", list, w["durable"])
	if e := list[0]; e.Share != pool || e.QoS != 1 || !slices.Equal(e.SubscriptionIDs, []uint32{3}) {
		t.Errorf("entry %+v, want it as by the member's own subscription", e)
	}
}

func requeueNobody(t *testing.T, c *cluster) {
	c.b.member(t, "other", sub("$share/other/work/#", 1), ephemeral)
	entries := []backend.Entry{
		{Message: text("work/x", "dropped", 1), QoS: 1, Share: pool},
		{Message: text("work/x", "given", 1), QoS: 1, Share: "$share/other/work/#"},
	}
	out := c.a.requeue(t, "from", entries)
	if out[0].Matched || len(out[0].Targets) != 0 {
		t.Errorf("outcome %+v, want nothing", out[0])
	}
	if len(out[1].Targets) != 1 || out[1].Targets[0].Client != "other" {
		t.Errorf("outcome %+v, want the member of the other group", out[1])
	}
}

func requeueWaits(t *testing.T, c *cluster) {
	c.wait(t, 0)
	entries := []backend.Entry{{Message: text("work/x", "0", 1), QoS: 1, Share: pool}, {Message: text("work/x", "1", 1), QoS: 1, Share: pool}}
	c.a.requeue(t, "from", entries)
	wantPayloads(t, "inbox", c.b.takeAll(t, c.b.open(t, "durable"), pool), count(0, 2))
}

// busyMember is a durable member with the messages 0 to n-1 in its inbox, and
// another member that joined after them.
func (c *cluster) busyMember(t *testing.T, g *gate, n int, qos byte) *backend.Opened {
	t.Helper()
	o := g.member(t, "departs", sub(pool, qos))
	c.b.append(t, numbered("work/x", n, qos)...)
	c.b.member(t, "stays", sub(pool, qos), ephemeral)
	return o
}

func requeueDeparted(t *testing.T, c *cluster) {
	const messages = 10
	o := c.busyMember(t, c.a, messages, 1)
	due := c.a.release(t, o.Lease, backend.ReleaseRequest{Sent: 4})
	w := c.b.carry(t, c.b.requeues(t, due, "departs", messages))
	wantOnceEach(t, "requeued", w.total(), count(0, messages))
	if !slices.Equal(w["stays"], count(0, messages)) {
		t.Errorf("targets %v, want all at the member that stays, in order", w)
	}
	o = c.a.open(t, "departs")
	wantPayloads(t, "the departed member's inbox", c.a.inbox(t, o.Lease), nil)
	if o.Last != messages {
		t.Errorf("last %d, want %d: sequences are not used again", o.Last, messages)
	}
}

func requeueDead(t *testing.T, c *cluster) {
	const messages = 10
	g := c.mortal(t, "dying")
	c.busyMember(t, g, messages, 1)
	w := c.b.carry(t, c.b.requeues(t, nil, "departs", messages))
	if !slices.Equal(w["stays"], count(0, messages)) {
		t.Errorf("targets %v, want all at the member that stays, in order", w)
	}
	wantPayloads(t, "the departed member's inbox", c.a.inbox(t, c.a.open(t, "departs").Lease), nil)
}

func requeueAcknowledged(t *testing.T, c *cluster) {
	o := c.busyMember(t, c.a, 6, 1)
	c.a.advance(t, o.Lease, backend.Progress{Base: 2, Done: []uint64{4}})
	due := c.a.release(t, o.Lease, backend.ReleaseRequest{Sent: 6})
	w := c.b.carry(t, c.b.requeues(t, due, "departs", 3))
	wantOnceEach(t, "requeued", w.total(), []string{"2", "4", "5"})
}

func requeueQoS2Stays(t *testing.T, c *cluster) {
	o := c.busyMember(t, c.a, 4, 2)
	// One of QoS 1, so that there is a requeue to wait for.
	stays := c.b.open(t, "stays", ephemeral) // not a member any more
	c.b.append(t, text("work/x", "4", 1))
	c.b.subscribe(t, stays.Lease, sub(pool, 2))
	c.a.advance(t, o.Lease, backend.Progress{Released: []uint64{1}})
	due := c.a.release(t, o.Lease, backend.ReleaseRequest{Sent: 3})
	w := c.b.carry(t, c.b.requeues(t, due, "departs", 1))
	wantOnceEach(t, "requeued", w.total(), []string{"4"})
	list := c.a.inbox(t, c.a.open(t, "departs").Lease)
	wantPayloads(t, "the departed member's inbox", list, count(0, 4))
	if list[0].State != backend.Released {
		t.Errorf("entry %+v, want it released", list[0])
	}
}

func requeueQoS2Unsent(t *testing.T, c *cluster) {
	o := c.busyMember(t, c.a, 5, 2)
	zero := uint32(0)
	due := c.a.release(t, o.Lease, backend.ReleaseRequest{Sent: 3, Expiry: &zero})
	w := c.b.carry(t, c.b.requeues(t, due, "departs", 2))
	wantOnceEach(t, "requeued", w.total(), []string{"3", "4"})
}

func requeueSole(t *testing.T, c *cluster) {
	const messages = 5
	o := c.a.member(t, "sole", sub(pool, 1))
	c.b.append(t, numbered("work/x", messages, 1)...)
	due := c.a.release(t, o.Lease, backend.ReleaseRequest{Sent: 2})
	c.a.carry(t, due)
	c.a.carry(t, c.a.due(t))
	o = c.b.open(t, "sole")
	all := make(map[string]int)
	for _, p := range payloads(c.b.takeAll(t, o, pool)) {
		all[p]++
	}
	wantOnceEach(t, "kept", all, count(0, messages))
}

// wantNoneLost opens the members, takes what they have, and checks that with
// what was given to others every message is there.
func (c *cluster) wantNoneLost(t *testing.T, given crew, messages int, members ...backend.ClientID) {
	t.Helper()
	all := given.total()
	for _, id := range members {
		o := c.b.open(t, id)
		for _, p := range payloads(c.b.takeAll(t, o, pool)) {
			all[p]++
		}
	}
	for _, p := range count(0, messages) {
		if all[p] == 0 {
			t.Errorf("message %s is lost", p)
		}
	}
}

func requeueOthersAway(t *testing.T, c *cluster) {
	const messages = 6
	away := c.b.member(t, "away", sub(pool, 1))
	c.b.release(t, away.Lease, backend.ReleaseRequest{})
	o := c.a.member(t, "departs", sub(pool, 1))
	c.b.append(t, numbered("work/x", messages, 1)...)
	due := c.a.release(t, o.Lease, backend.ReleaseRequest{Sent: 3})
	given := c.a.carry(t, append(due, c.a.due(t)...))
	c.wantNoneLost(t, given, messages, "away", "departs")
}

func requeueBack(t *testing.T, c *cluster) {
	const messages = 6
	o := c.busyMember(t, c.a, messages, 1)
	due := c.a.release(t, o.Lease, backend.ReleaseRequest{Sent: 3})
	due = c.a.requeues(t, due, "departs", messages)
	o = c.a.open(t, "departs") // the chores are claimed, not done
	before := payloads(c.a.inbox(t, o.Lease))
	given := c.a.carry(t, due)
	given["departs"] = append(given["departs"], before...)
	c.wantNoneLost(t, given, messages, "departs")
}

func requeueSeveralGroups(t *testing.T, c *cluster) {
	const other = "$share/other/work/#"
	o := c.a.open(t, "departs")
	c.a.subscribe(t, o.Lease, sub(pool, 1), sub(other, 1))
	c.b.append(t, numbered("work/x", 3, 1)...) // one copy for each group
	c.b.member(t, "of the pool", sub(pool, 1), ephemeral)
	c.b.member(t, "of the other", sub(other, 1))
	due := c.a.release(t, o.Lease, backend.ReleaseRequest{Sent: 6})
	w := c.b.carry(t, c.b.requeues(t, due, "departs", 6))
	for _, id := range []backend.ClientID{"of the pool", "of the other"} {
		if !slices.Equal(w[id], count(0, 3)) {
			t.Errorf("%s got %q, want all three", id, w[id])
		}
	}
}

func requeueNotShared(t *testing.T, c *cluster) {
	o := c.busyMember(t, c.a, 2, 1)
	c.a.subscribe(t, o.Lease, sub("own/#", 1))
	c.b.append(t, text("own/x", "mine", 1))
	due := c.a.release(t, o.Lease, backend.ReleaseRequest{Sent: 3})
	w := c.b.carry(t, c.b.requeues(t, due, "departs", 2))
	wantOnceEach(t, "requeued", w.total(), count(0, 2))
	wantPayloads(t, "the departed member's inbox", c.a.inbox(t, c.a.open(t, "departs").Lease), []string{"mine"})
}
