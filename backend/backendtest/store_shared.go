package backendtest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

var sharedCases = []storeCase{
	{name: "one member", promise: "a message goes to one member of each group, over all gateways, and none is lost", run: sharedOne},
	{name: "entry", promise: "the entry for a member names the group's filter, the lower QoS, the member's identifier and its connection", run: sharedEntry},
	{name: "group", promise: "a group is its whole filter: the same name with another filter, and another name, are other groups", run: sharedGroups},
	{name: "matching", promise: "a group's filter matches as any filter does, '$' rules included [MQTT-4.7.2-1]", run: sharedMatching},
	{name: "connected members only", promise: "a member that is not connected is not chosen while another is", run: sharedConnected},
	{name: "member that takes nothing", promise: "a member whose gateway says that it can take nothing is not chosen while another can", run: sharedLoad},
	{name: "QoS 0", promise: "a message of QoS 0, or for a member of QoS 0, goes to a connected member without an inbox", run: sharedQoS0},
	{name: "beside others", promise: "a group's choice takes nothing from subscriptions that are not shared", run: sharedBeside},
	{name: "joins on return", promise: "a member takes part in every gateway's Append when Subscribe returns", run: sharedJoins},
	{name: "leaves on return", promise: "a member is not chosen any more when Unsubscribe or Release returns", run: sharedLeaves},
	{name: "takeover", promise: "a member that was taken over is chosen at its new connection", run: sharedTakeover},
	{name: "each member its own options", promise: "members of one group may have different QoS and identifiers", run: sharedOptions},
	{name: "nobody", promise: "a group without members, or with none that ever returns, matches nothing", run: sharedNobody},
	{name: "Shares", promise: "Shares says yes where a message might go to a group, without fail", run: sharesSaysYes},
	{name: "Shares is free", promise: "Shares does not allocate: it is asked for every publish", alone: true, run: sharesIsFree},
}

const pool = "$share/pool/work/#"

// crew is a group with its members: what each got is told by Append alone, in
// the order of appending.
type crew map[backend.ClientID][]string

// record notes the targets of out, which must be of the group.
func (w crew) record(t *testing.T, m *backend.Message, out backend.Append) {
	t.Helper()
	for _, target := range out.Targets {
		if target.Entry.Share == "" || target.Node == "" {
			t.Fatalf("target %+v of no group, or not connected", target)
		}
		w[target.Client] = append(w[target.Client], string(m.Payload))
	}
}

// total returns all that the members got, sorted as numbers.
func (w crew) total() map[string]int {
	all := make(map[string]int)
	for _, list := range w {
		for _, p := range list {
			all[p]++
		}
	}
	return all
}

func wantOnceEach(t *testing.T, what string, got map[string]int, want []string) {
	t.Helper()
	for _, p := range want {
		if got[p] != 1 {
			t.Errorf("%s: message %s came %d times, want once", what, p, got[p])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d different messages, want %d", what, len(got), len(want))
	}
}

func sharedOne(t *testing.T, c *cluster) {
	const messages = 300
	members := []*backend.Opened{
		c.a.member(t, "durable at a", sub(pool, 1)),
		c.b.member(t, "durable at b", sub(pool, 2)),
		c.a.member(t, "ephemeral at a", sub(pool, 1), ephemeral),
		c.b.member(t, "ephemeral at b", sub(pool, 1), ephemeral),
	}
	w := make(crew)
	for i := range messages {
		g := []*gate{c.a, c.b}[i%2]
		m := text("work/x", fmt.Sprint(i), 1)
		out := g.append(t, m)[0]
		if !out.Matched || len(out.Targets) != 1 {
			t.Fatalf("message %d: %+v, want one target", i, out)
		}
		w.record(t, m, out)
	}
	wantOnceEach(t, "targets", w.total(), count(0, messages))
	for i, g := range []*gate{c.a, c.b} {
		o := members[i]
		wantPayloads(t, string(o.Lease.Client), g.inbox(t, o.Lease), w[o.Lease.Client])
	}
}

func sharedEntry(t *testing.T, c *cluster) {
	for _, tt := range []struct {
		name      string
		ephemeral bool
		granted   byte
		seq       uint64
		qos       byte
	}{
		{"durable", false, 1, 1, 1},
		{"ephemeral", true, 1, 0, 1},
		{"durable, granted 2", false, 2, 1, 2},
		{"ephemeral, granted 2", true, 2, 0, 2},
	} {
		filter := "$share/" + tt.name + "/" + tt.name + "/+"
		changes := []change{}
		if tt.ephemeral {
			changes = append(changes, ephemeral)
		}
		s := backend.Subscription{Filter: filter, QoS: tt.granted, ID: 42, RetainAsPublished: true}
		o := c.b.member(t, backend.ClientID(tt.name), s, changes...)
		m := sample(tt.name + "/x")
		m.ID = backend.PublishID{}
		out := c.a.append(t, m)[0]
		target := targetOf(t, out, o.Lease.Client)
		if target == nil || len(out.Targets) != 1 || target.Node != c.b.id || target.Epoch != o.Lease.Epoch {
			t.Errorf("%s: outcome %+v, want the member at %+v", tt.name, out, o.Lease)
			continue
		}
		want := backend.Entry{Seq: tt.seq, Message: m, QoS: tt.qos, Retain: true, SubscriptionIDs: []uint32{42}, Share: filter}
		if diff := sameEntry(target.Entry, want); diff != "" {
			t.Errorf("%s: target: %s", tt.name, diff)
		}
		if !tt.ephemeral {
			list := c.b.inbox(t, o.Lease)
			if len(list) != 1 {
				t.Fatalf("%s: %d entries, want one", tt.name, len(list))
			}
			if diff := sameEntry(list[0], want); diff != "" {
				t.Errorf("%s: inbox: %s", tt.name, diff)
			}
		}
	}
}

func sharedGroups(t *testing.T, c *cluster) {
	groups := []string{"$share/one/work/#", "$share/one/work/+", "$share/two/work/#", "$share/two/#", "$share/ONE/work/#", "$share/on/e/work/#"}
	for _, filter := range groups {
		for i := range 2 {
			c.a.member(t, backend.ClientID(fmt.Sprintf("%d %s", i, filter)), sub(filter, 1), ephemeral)
		}
	}
	for i := range 10 {
		got := make(map[string]int)
		for _, target := range c.b.append(t, text("work/x", fmt.Sprint(i), 1))[0].Targets {
			got[target.Entry.Share]++
		}
		wantOnceEach(t, fmt.Sprintf("message %d, groups", i), got, groups[:5])
	}
}

func sharedMatching(t *testing.T, c *cluster) {
	all := allFilters()
	for i, filter := range all {
		c.a.member(t, backend.ClientID(fmt.Sprintf("session %d", i)), sub("$share/g/"+filter, 1), ephemeral)
	}
	for i, topic := range topics {
		var want []string
		for _, filter := range all {
			if matches(filter, topic) {
				want = append(want, "$share/g/"+filter)
			}
		}
		got := make(map[string]int)
		for _, target := range c.b.append(t, text(topic, fmt.Sprint(i), byte(i%3)))[0].Targets {
			got[target.Entry.Share]++
		}
		wantOnceEach(t, fmt.Sprintf("topic %q", topic), got, want)
	}
}

func sharedConnected(t *testing.T, c *cluster) {
	const messages = 50
	away := c.a.member(t, "away", sub(pool, 1))
	c.a.release(t, away.Lease, backend.ReleaseRequest{})
	here := c.b.member(t, "here", sub(pool, 1), ephemeral)
	for i := range messages {
		out := c.a.append(t, text("work/x", fmt.Sprint(i), 1))[0]
		if len(out.Targets) != 1 || out.Targets[0].Client != here.Lease.Client {
			t.Fatalf("message %d: %+v, want the member that is connected", i, out)
		}
	}
	if list := c.a.inbox(t, c.a.open(t, "away").Lease); len(list) != 0 {
		t.Errorf("%d messages in the inbox of a member that is away", len(list))
	}
}

func sharedLoad(t *testing.T, c *cluster) {
	const messages = 30
	// Both members are at the gateway that appends, whose word counts for
	// its own clients.
	g := c.join(t, c.a.Store, backend.Node{ID: "weighing", Load: func(id backend.ClientID) int {
		if id == "stuck" {
			return -1
		}
		return 1000
	}}, aWhile)
	g.member(t, "stuck", sub(pool, 1))
	g.member(t, "busy", sub(pool, 1))
	for i := range messages {
		out := g.append(t, text("work/x", fmt.Sprint(i), 1))[0]
		if len(out.Targets) != 1 || out.Targets[0].Client != "busy" {
			t.Fatalf("message %d: %+v, want the member that can take it", i, out)
		}
	}
}

func sharedQoS0(t *testing.T, c *cluster) {
	for _, tt := range []struct {
		name               string
		published, granted byte
		changes            []change
	}{
		{"published 0, durable member", 0, 2, nil},
		{"published 0, ephemeral member", 0, 2, []change{ephemeral}},
		{"granted 0, durable member", 2, 0, nil},
		{"granted 0, ephemeral member", 1, 0, []change{ephemeral}},
	} {
		topic := "work/" + tt.name
		o := c.b.member(t, backend.ClientID(tt.name), sub("$share/g/"+topic, tt.granted), tt.changes...)
		out := c.a.append(t, text(topic, "x", tt.published))[0]
		if !out.Matched || len(out.Targets) != 1 {
			t.Errorf("%s: %+v, want one target", tt.name, out)
			continue
		}
		got := out.Targets[0]
		if got.Client != o.Lease.Client || got.Node != c.b.id || got.Entry.Seq != 0 || got.Entry.QoS != 0 || got.Entry.Message == nil {
			t.Errorf("%s: target %+v, want QoS 0 without sequence", tt.name, got)
		}
		if o.Durable {
			if list := c.b.inbox(t, o.Lease); len(list) != 0 {
				t.Errorf("%s: %d entries in the inbox", tt.name, len(list))
			}
		}
	}
}

func sharedBeside(t *testing.T, c *cluster) {
	one := c.a.member(t, "one", sub("work/+", 1))
	other := c.a.member(t, "other", sub("#", 2))
	c.b.member(t, "member 1", sub(pool, 1))
	c.b.member(t, "member 2", sub(pool, 1), ephemeral)
	const messages = 20
	got := make(crew)
	for i := range messages {
		m := text("work/x", fmt.Sprint(i), 1)
		for _, target := range c.b.append(t, m)[0].Targets {
			if target.Entry.Share != "" {
				got[target.Client] = append(got[target.Client], string(m.Payload))
			}
		}
	}
	wantOnceEach(t, "the group", got.total(), count(0, messages))
	wantPayloads(t, "one", c.a.inbox(t, one.Lease), count(0, messages))
	wantPayloads(t, "other", c.a.inbox(t, other.Lease), count(0, messages))
}

func sharedJoins(t *testing.T, c *cluster) {
	const tries = 200
	gates := []*gate{c.a, c.b}
	for i := range tries {
		changes := []change{ephemeral}
		if i%4 < 2 {
			changes = nil
		}
		filter := fmt.Sprintf("$share/g%d/joins/%d/#", i, i)
		gates[i%2].member(t, backend.ClientID(fmt.Sprint(i)), sub(filter, 1), changes...)
		if out := gates[(i+1)%2].append(t, text(fmt.Sprintf("joins/%d", i), "x", 1))[0]; !out.Matched || len(out.Targets) != 1 {
			t.Fatalf("try %d: %+v, want the member", i, out)
		}
	}
}

func sharedLeaves(t *testing.T, c *cluster) {
	const tries = 100
	stays := c.a.member(t, "stays", sub("$share/g/leaves/#", 1), ephemeral)
	for i := range tries {
		id := backend.ClientID(fmt.Sprint(i))
		changes := []change{ephemeral}
		if i%4 < 2 {
			changes = nil
		}
		o := c.b.member(t, id, sub("$share/g/leaves/#", 1), changes...)
		if i%2 == 0 {
			c.b.unsubscribe(t, o.Lease, "$share/g/leaves/#")
		} else {
			c.b.release(t, o.Lease, backend.ReleaseRequest{})
		}
		for range 2 {
			out := c.a.append(t, text("leaves/x", "x", 1))[0]
			if len(out.Targets) != 1 || out.Targets[0].Client != stays.Lease.Client {
				t.Fatalf("try %d: %+v, want the member that stays", i, out)
			}
		}
	}
}

func sharedTakeover(t *testing.T, c *cluster) {
	for i, changes := range [][]change{nil, {ephemeral}} {
		id := clientNames(2)[i]
		filter := fmt.Sprintf("$share/g/takeover/%d", i)
		c.a.member(t, id, sub(filter, 1), changes...)
		o := c.b.open(t, id, changes...)
		out := c.a.append(t, text(filter[len("$share/g/"):], "x", 1))[0]
		if !o.Present { // an ephemeral session ended, its membership with it
			if out.Matched || len(out.Targets) != 0 {
				t.Errorf("outcome %+v, want no match", out)
			}
			continue
		}
		if len(out.Targets) != 1 || out.Targets[0].Node != c.b.id || out.Targets[0].Epoch != o.Lease.Epoch {
			t.Errorf("outcome %+v, want the connection %+v", out, o.Lease)
		}
	}
}

func sharedOptions(t *testing.T, c *cluster) {
	want := map[backend.ClientID]backend.Subscription{
		"zero": {Filter: pool, QoS: 0, ID: 1},
		"one":  {Filter: pool, QoS: 1, ID: 2},
		"two":  {Filter: pool, QoS: 2},
	}
	for id, s := range want {
		c.a.member(t, id, s)
	}
	seen := make(map[backend.ClientID]bool)
	for range 30 {
		for _, target := range c.b.append(t, text("work/x", "x", 2))[0].Targets {
			s := want[target.Client]
			seen[target.Client] = true
			var ids []uint32
			if s.ID != 0 {
				ids = []uint32{s.ID}
			}
			if target.Entry.QoS != s.QoS || !slices.Equal(target.Entry.SubscriptionIDs, ids) {
				t.Errorf("entry %+v for the subscription %+v", target.Entry, s)
			}
		}
	}
	if len(seen) != len(want) {
		t.Errorf("%d members were chosen of %d", len(seen), len(want))
	}
}

func sharedNobody(t *testing.T, c *cluster) {
	nothing := func(what string) {
		t.Helper()
		for i, out := range c.b.append(t, text("work/x", "x", 1), text("work/x", "x", 0)) {
			if out.Matched || len(out.Targets) != 0 || out.Refused != 0 {
				t.Errorf("%s, QoS %d: %+v, want nothing", what, 1-i, out)
			}
		}
	}
	nothing("before the first")
	o := c.a.member(t, "client", sub(pool, 1), ephemeral)
	c.a.release(t, o.Lease, backend.ReleaseRequest{})
	nothing("after the last")
	o = c.a.member(t, "durable", sub(pool, 1))
	c.a.unsubscribe(t, o.Lease, pool)
	nothing("after it unsubscribed")
	c.a.subscribe(t, o.Lease, sub(pool, 1))
	c.a.open(t, "durable", clean)
	nothing("after a clean start")
}

func sharesSaysYes(t *testing.T, c *cluster) {
	if c.a.Shares("work/x") {
		t.Log("Shares says yes in doubt")
	}
	for i, filter := range filters {
		o := c.a.member(t, backend.ClientID(fmt.Sprint(i)), sub("$share/g/"+filter, 0), ephemeral)
		for _, topic := range topics {
			if !matches(filter, topic) {
				continue
			}
			if !c.a.Shares(topic) {
				t.Errorf("Shares(%q) is false where the filter is %q", topic, filter)
			}
			eventually(t, c.h.Patience, fmt.Sprintf("Shares(%q) at the other gateway, filter %q", topic, filter), func() bool { return c.b.Shares(topic) })
		}
		c.a.release(t, o.Lease, backend.ReleaseRequest{})
	}
}

func sharesIsFree(t *testing.T, c *cluster) {
	c.a.member(t, "plain", sub("work/#", 1))
	c.a.member(t, "member", sub(pool, 1))
	for _, topic := range []string{"work/x", "other/x"} {
		if n := testing.AllocsPerRun(100, func() { c.a.Shares(topic) }); n != 0 {
			t.Errorf("Shares(%q) allocates %v times", topic, n)
		}
	}
}
