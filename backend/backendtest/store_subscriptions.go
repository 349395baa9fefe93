package backendtest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

var subscriptionCases = []storeCase{
	{name: "live on return", promise: "a subscription takes part in every gateway's Append that begins after Subscribe returned: none is missed", run: subscribedOnReturn},
	{name: "gone on return", promise: "nothing published after Unsubscribe returned is matched to the subscription; what is in the inbox stays", run: unsubscribedOnReturn},
	{name: "existed", promise: "Subscribe and Unsubscribe tell for each filter whether it existed before", run: existed},
	{name: "replaced", promise: "a subscription to the same filter replaces the earlier one with all its options [MQTT-3.8.4-3]", run: replaced},
	{name: "twice in one call", promise: "of two subscriptions to one filter in one call the later holds", run: twiceInOneCall},
	{name: "all or none", promise: "Subscribe adds all or none: ErrFull if the session would have too many, and nothing has changed", options: StoreOptions{Subscriptions: 3}, run: subscriptionLimit},
	{name: "ephemeral", promise: "an ephemeral session's subscriptions that are not shared take no part in Append", run: ephemeralSubscription},
	{name: "many", promise: "a session may have many subscriptions and gets all of them back", run: manySubscriptions},
	{name: "detached", promise: "the subscriptions of a durable session hold while it is not connected", run: detachedSubscription},
}

func subscribedOnReturn(t *testing.T, c *cluster) {
	const tries = 1000
	gates := []*gate{c.a, c.b}
	sessions := []*backend.Opened{c.a.open(t, "at a"), c.b.open(t, "at b")}
	for i := range tries {
		at, other := i%2, (i+1)%2
		filter := []string{fmt.Sprintf("live/%d/x", i), fmt.Sprintf("live/%d/+", i), fmt.Sprintf("live/%d/#", i)}[i%3]
		gates[at].subscribe(t, sessions[at].Lease, sub(filter, 1))
		out := gates[other].append(t, text(fmt.Sprintf("live/%d/x", i), fmt.Sprint(i), 1))
		if !out[0].Matched || len(out[0].Targets) != 1 {
			t.Fatalf("try %d: the Append after Subscribe(%q) has the outcome %+v", i, filter, out[0])
		}
	}
	for at, g := range gates {
		var want []string
		for i := at; i < tries; i += 2 {
			want = append(want, fmt.Sprint(i))
		}
		wantPayloads(t, "inbox at "+string(g.id), g.inbox(t, sessions[at].Lease), want)
	}
}

func unsubscribedOnReturn(t *testing.T, c *cluster) {
	const tries = 300
	o := c.a.open(t, "client")
	for i := range tries {
		topic := fmt.Sprintf("gone/%d", i)
		filter := []string{topic, fmt.Sprintf("+/%d", i), topic + "/#"}[i%3]
		c.a.subscribe(t, o.Lease, sub(filter, 1))
		c.b.append(t, text(topic, fmt.Sprint(i), 1))
		c.a.unsubscribe(t, o.Lease, filter)
		if out := c.b.append(t, text(topic, "late", 1)); out[0].Matched || len(out[0].Targets) != 0 {
			t.Fatalf("try %d: the Append after Unsubscribe(%q) has the outcome %+v", i, filter, out[0])
		}
	}
	wantPayloads(t, "inbox", c.a.inbox(t, o.Lease), count(0, tries))
}

func existed(t *testing.T, c *cluster) {
	o := c.a.open(t, "client")
	want := func(what string, got []bool, want ...bool) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	want("new", c.a.subscribe(t, o.Lease, sub("a", 1), sub("a/+", 0), sub("$share/g/a", 1)), false, false, false)
	want("some again", c.a.subscribe(t, o.Lease, sub("b", 1), sub("a", 2), sub("$share/g/a", 1), sub("$share/h/a", 1)), false, true, true, false)
	want("removed", c.a.unsubscribe(t, o.Lease, "a", "never", "$share/g/a", "$share/x/a"), true, false, true, false)
	want("removed again", c.a.unsubscribe(t, o.Lease, "a", "b", "$share/g/a"), false, true, false)
	o = c.b.open(t, "client")
	want("after a takeover", c.b.subscribe(t, o.Lease, sub("a", 1), sub("a/+", 1)), false, true)
	o = c.a.open(t, "client", clean)
	want("after a clean start", c.a.subscribe(t, o.Lease, sub("a", 1)), false)
	want("of a clean session", c.a.unsubscribe(t, o.Lease, "a/+"), false)
}

func replaced(t *testing.T, c *cluster) {
	o := c.a.open(t, "client")
	first := backend.Subscription{Filter: "a/+", QoS: 2, NoLocal: true, ID: 7, RetainHandling: 2}
	second := backend.Subscription{Filter: "a/+", QoS: 1, RetainAsPublished: true, ID: 8}
	c.a.subscribe(t, o.Lease, first)
	c.a.subscribe(t, o.Lease, second)
	m := text("a/b", "x", 2)
	m.Publisher, m.Retain = "client", true
	c.b.append(t, m)
	list := c.a.inbox(t, o.Lease)
	if len(list) != 1 || list[0].QoS != 1 || !list[0].Retain || !slices.Equal(list[0].SubscriptionIDs, []uint32{8}) {
		t.Errorf("inbox %+v, want one entry as the second subscription says", list)
	}
	if got := c.b.open(t, "client").Subscriptions; len(got) != 1 || got[0] != second {
		t.Errorf("subscriptions %+v, want %+v", got, second)
	}
}

func twiceInOneCall(t *testing.T, c *cluster) {
	o := c.a.open(t, "client")
	later := backend.Subscription{Filter: "a", QoS: 1, ID: 2}
	c.a.subscribe(t, o.Lease, backend.Subscription{Filter: "a", QoS: 2, ID: 1}, later)
	c.b.append(t, text("a", "x", 2))
	if list := c.a.inbox(t, o.Lease); len(list) != 1 || list[0].QoS != 1 {
		t.Errorf("inbox %+v, want one entry of QoS 1", list)
	}
	if got := c.b.open(t, "client").Subscriptions; len(got) != 1 || got[0] != later {
		t.Errorf("subscriptions %+v, want %+v", got, later)
	}
}

func subscriptionLimit(t *testing.T, c *cluster) {
	for _, changes := range [][]change{nil, {ephemeral}} {
		o := c.a.open(t, "client", changes...)
		c.a.subscribe(t, o.Lease, sub("a", 1), sub("b", 1))
		refused := []backend.Subscription{sub("c", 2), sub("a", 2), sub("$share/g/d", 2)}
		if _, err := c.a.Subscribe(c.ctx, o.Lease, refused, refused); !errors.Is(err, backend.ErrFull) {
			t.Fatalf("a fourth subscription: %v, want ErrFull", err)
		}
		for i, out := range c.b.append(t, text("c", "x", 2), text("$x/d", "x", 2), text("d", "x", 2)) {
			if out.Matched {
				t.Errorf("a refused subscription takes part in Append: message %d", i)
			}
		}
		if o.Durable {
			c.b.append(t, text("a", "x", 2))
			if list := c.a.inbox(t, o.Lease); len(list) != 1 || list[0].QoS != 1 {
				t.Errorf("inbox %+v, want one entry of QoS 1: a refused call has replaced a subscription", list)
			}
		}
		// Up to the limit, and replacing at the limit, is allowed.
		c.a.subscribe(t, o.Lease, sub("c", 1))
		c.a.subscribe(t, o.Lease, sub("c", 2), sub("a", 0), sub("b", 2))
		// Removing makes room.
		c.a.unsubscribe(t, o.Lease, "b")
		c.a.subscribe(t, o.Lease, sub("$share/g/d", 1))
		if _, err := c.a.Subscribe(c.ctx, o.Lease, []backend.Subscription{sub("e", 1)}, nil); !errors.Is(err, backend.ErrFull) {
			t.Errorf("a fourth subscription: %v, want ErrFull", err)
		}
		o = c.b.open(t, "client", changes...)
		if o.Durable {
			want := []backend.Subscription{sub("c", 2), sub("a", 0), sub("$share/g/d", 1)}
			if !sameSet(o.Subscriptions, want, bySubscription) || len(o.Replays) != 0 {
				t.Errorf("subscriptions %+v and replays %+v, want %+v and none", o.Subscriptions, o.Replays, want)
			}
		}
		if _, _, err := c.b.Destroy(c.ctx, "client"); err != nil {
			t.Fatalf("Destroy: %v", err)
		}
	}
}

func ephemeralSubscription(t *testing.T, c *cluster) {
	o := c.a.open(t, "client", ephemeral)
	c.a.subscribe(t, o.Lease, sub("a/#", 2), sub("$share/g/b", 2))
	out := c.b.append(t, text("a/b", "x", 1), text("b", "x", 1))
	if out[0].Matched || len(out[0].Targets) != 0 {
		t.Errorf("outcome %+v, want no match", out[0])
	}
	if !out[1].Matched || len(out[1].Targets) != 1 {
		t.Errorf("outcome %+v, want the member of the shared group", out[1])
	}
}

func manySubscriptions(t *testing.T, c *cluster) {
	const many = 500
	o := c.a.open(t, "client")
	subs := make([]backend.Subscription, many)
	for i := range subs {
		subs[i] = backend.Subscription{Filter: fmt.Sprintf("many/+/%d", i), QoS: byte(i % 3), ID: uint32(i)}
	}
	c.a.subscribe(t, o.Lease, subs...)
	var out []backend.Append
	for i := range subs {
		out = append(out, c.b.append(t, text(fmt.Sprintf("many/x/%d", i), "x", 2))...)
	}
	want := 0
	for i, a := range out {
		if !a.Matched {
			t.Errorf("message %d found no match", i)
		}
		if subs[i].QoS > 0 {
			want++
		}
	}
	if list := c.a.inbox(t, o.Lease); len(list) != want {
		t.Errorf("%d entries, want %d", len(list), want)
	}
	if o = c.b.open(t, "client"); !sameSet(o.Subscriptions, subs, bySubscription) {
		t.Errorf("%d subscriptions came back, want %d", len(o.Subscriptions), many)
	}
	filters := make([]string, many)
	for i := range filters {
		filters[i] = subs[i].Filter
	}
	if slices.Contains(c.b.unsubscribe(t, o.Lease, filters...), false) {
		t.Error("Unsubscribe did not know all filters")
	}
	if o = c.a.open(t, "client"); len(o.Subscriptions) != 0 {
		t.Errorf("%d subscriptions are left", len(o.Subscriptions))
	}
}

func detachedSubscription(t *testing.T, c *cluster) {
	o := c.a.member(t, "client", sub("a/#", 1))
	c.a.release(t, o.Lease, backend.ReleaseRequest{})
	for i, g := range []*gate{c.a, c.b} {
		out := g.append(t, text("a", fmt.Sprint(i), 1))[0]
		if !out.Matched || out.Refused != 0 {
			t.Errorf("outcome %+v, want a match", out)
		}
		for _, target := range out.Targets {
			if target.Node != "" {
				t.Errorf("target %+v of a session that is not connected", target)
			}
		}
	}
	wantPayloads(t, "inbox", c.b.inbox(t, c.b.open(t, "client").Lease), count(0, 2))
}
