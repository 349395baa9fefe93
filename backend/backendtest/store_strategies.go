package backendtest

import (
	"fmt"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

var strategyCases = []storeCase{
	{name: "default", promise: "without a choice members take turns", run: roundRobin},
	{name: "round robin", promise: "members take turns", options: StoreOptions{Share: RoundRobin}, run: roundRobin},
	{name: "random", promise: "every member is chosen now and then", options: StoreOptions{Share: Random}, run: randomMember},
	{name: "least in flight", promise: "the member with the least still to take is chosen", options: StoreOptions{Share: LeastInFlight}, run: leastInFlight},
	{name: "sticky", promise: "one member is chosen until it goes, then another", options: StoreOptions{Share: Sticky}, run: stickyMember},
	{name: "hash of client identifier", promise: "all messages of a publisher go to one member", options: StoreOptions{Share: HashClientID}, run: hashClientID},
	{name: "hash of topic", promise: "all messages on a topic go to one member", options: StoreOptions{Share: HashTopic}, run: hashTopic},
	{name: "local first: all", promise: "every message goes to one member", options: StoreOptions{Share: LocalFirst}, run: sharedOne},
	{name: "least in flight: all", promise: "every message goes to one member", options: StoreOptions{Share: LeastInFlight}, run: sharedOne},
	{name: "random: all", promise: "every message goes to one member", options: StoreOptions{Share: Random}, run: sharedOne},
	{name: "sticky: all", promise: "every message goes to one member", options: StoreOptions{Share: Sticky}, run: sharedOne},
	{name: "hash of topic: all", promise: "every message goes to one member", options: StoreOptions{Share: HashTopic}, run: sharedOne},
	{name: "hash of client identifier: all", promise: "every message goes to one member", options: StoreOptions{Share: HashClientID}, run: sharedOne},
	{name: "sticky: connected members only", promise: "a member that is not connected is not chosen while another is", options: StoreOptions{Share: Sticky}, run: sharedConnected},
	{name: "hash of topic: connected members only", promise: "a member that is not connected is not chosen while another is", options: StoreOptions{Share: HashTopic}, run: sharedConnected},
	{name: "hash of client identifier: leaves", promise: "a member is not chosen any more when Unsubscribe or Release returns", options: StoreOptions{Share: HashClientID}, run: sharedLeaves},
}

// chosen appends m at g and returns the one member that it went to.
func (g *gate) chosen(t *testing.T, m *backend.Message) backend.ClientID {
	t.Helper()
	out := g.append(t, m)[0]
	if len(out.Targets) != 1 {
		t.Fatalf("outcome %+v, want one target", out)
	}
	return out.Targets[0].Client
}

// hire makes n ephemeral members of the pool at g.
func (g *gate) hire(t *testing.T, n int) []*backend.Opened {
	t.Helper()
	list := make([]*backend.Opened, n)
	for i, id := range clientNames(n) {
		list[i] = g.member(t, id, sub(pool, 1), ephemeral)
	}
	return list
}

func roundRobin(t *testing.T, c *cluster) {
	const members, rounds = 5, 20
	c.a.hire(t, members)
	got := make(map[backend.ClientID]int)
	for i := range members * rounds {
		got[c.a.chosen(t, text(fmt.Sprintf("work/%d", i%3), "x", 1))]++
	}
	for id, n := range got {
		if n != rounds {
			t.Errorf("%s was chosen %d times of %d, want %d", id, n, members*rounds, rounds)
		}
	}
}

func randomMember(t *testing.T, c *cluster) {
	const members, messages = 4, 1000
	c.a.hire(t, members)
	got := make(map[backend.ClientID]int)
	for range messages {
		got[c.a.chosen(t, text("work/x", "x", 1))]++
	}
	// 250 each are to be expected; fewer than 150 come once in 10^13 times.
	for _, id := range clientNames(members) {
		if got[id] < 150 {
			t.Errorf("%s was chosen %d times of %d", id, got[id], messages)
		}
	}
}

func leastInFlight(t *testing.T, c *cluster) {
	loads := map[backend.ClientID]int{"client-0": 3, "client-1": 1, "client-2": 2, "client-3": -1}
	// Its word is asked for under Append only, one at a time here.
	g := c.join(t, c.a.Store, backend.Node{ID: "weighing", Load: func(id backend.ClientID) int { return loads[id] }}, aWhile)
	g.hire(t, len(loads))
	for _, step := range []struct {
		client backend.ClientID // whose load changes
		load   int
		want   backend.ClientID
	}{
		{"client-1", 1, "client-1"},
		{"client-1", 9, "client-2"},
		{"client-0", 0, "client-0"},
		{"client-0", -1, "client-2"},
		{"client-2", 10, "client-1"},
		{"client-3", 8, "client-3"},
	} {
		loads[step.client] = step.load
		for range 3 {
			if got := g.chosen(t, text("work/x", "x", 1)); got != step.want {
				t.Errorf("loads %v: %s was chosen, want %s", loads, got, step.want)
			}
		}
	}
}

func stickyMember(t *testing.T, c *cluster) {
	members := c.a.hire(t, 4)
	gone := make(map[backend.ClientID]bool)
	for range members {
		stays := c.a.chosen(t, text("work/0", "x", 1))
		if gone[stays] {
			t.Fatalf("%s was chosen after it went", stays)
		}
		for i := range 20 {
			if got := c.a.chosen(t, text(fmt.Sprintf("work/%d", i), "x", byte(i%3))); got != stays {
				t.Errorf("%s was chosen while %s is connected", got, stays)
			}
		}
		gone[stays] = true
		for _, o := range members {
			if o.Lease.Client == stays {
				c.a.release(t, o.Lease, backend.ReleaseRequest{})
			}
		}
	}
}

// sameFor checks that messages with the same key go to one member, and that
// keys are spread over the members.
func sameFor(t *testing.T, c *cluster, message func(key, i int) *backend.Message) {
	t.Helper()
	const members, keys, messages = 4, 200, 5
	c.a.hire(t, members)
	member := make(map[int]backend.ClientID)
	got := make(map[backend.ClientID]int)
	for i := range messages {
		for key := range keys {
			id := c.a.chosen(t, message(key, i))
			if i == 0 {
				member[key] = id
				got[id]++
			} else if id != member[key] {
				t.Fatalf("key %d went to %s and to %s", key, member[key], id)
			}
		}
	}
	for _, id := range clientNames(members) {
		if got[id] < keys/members/5 {
			t.Errorf("%s got %d keys of %d", id, got[id], keys)
		}
	}
}

func hashClientID(t *testing.T, c *cluster) {
	sameFor(t, c, func(key, i int) *backend.Message {
		m := text(fmt.Sprintf("work/%d", i), "x", 1)
		m.Publisher = backend.ClientID(fmt.Sprintf("publisher %d", key))
		return m
	})
}

func hashTopic(t *testing.T, c *cluster) {
	sameFor(t, c, func(key, i int) *backend.Message {
		m := text(fmt.Sprintf("work/%d", key), "x", 1)
		m.Publisher = backend.ClientID(fmt.Sprintf("publisher %d", i))
		return m
	})
}
