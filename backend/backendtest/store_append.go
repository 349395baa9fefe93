package backendtest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

var appendCases = []storeCase{
	{name: "matching", promise: "Append reaches the sessions whose filters match, and no others: wildcards, '$', empty levels, awkward bytes", run: appendMatching},
	{name: "effective QoS", promise: "an entry has the lower QoS of publish and subscription; QoS 0 puts nothing into an inbox", run: effectiveQoS},
	{name: "overlapping", promise: "overlapping subscriptions give one entry, with the highest QoS and every subscription identifier [MQTT-3.3.4-2] [MQTT-3.3.4-3]", run: overlapping},
	{name: "no local", promise: "No Local keeps a message from its publisher, by that subscription alone [MQTT-3.8.3-3]", run: noLocal},
	{name: "retain as published", promise: "the retain flag is kept only where the subscription asks for it [MQTT-3.3.1-12] [MQTT-3.3.1-13]", run: retainAsPublished},
	{name: "outcome", promise: "Append fills out anew for every message: who matched, and where it is connected", run: appendOutcome},
	{name: "order", promise: "messages keep their order in every inbox", run: appendOrder},
	{name: "order of callers", promise: "messages of each caller keep their order in every inbox, whoever else appends", run: appendOrderOfCallers},
	{name: "content", promise: "an entry's message has every field unchanged, at any gateway", run: appendContent},
	{name: "borrowed", promise: "Append borrows messages; what it hands out is immutable and may be kept", run: appendBorrowed},
	{name: "across gateways", promise: "a message that is appended at one gateway is in the inbox at another when Append returns", run: appendAcross},
	{name: "expired", promise: "a message whose time is over is not delivered [MQTT-3.3.2-5]", run: appendExpired},
	{name: "empty batch", promise: "an empty batch is no error", run: appendEmpty},
}

func appendMatching(t *testing.T, c *cluster) {
	all := allFilters()
	leases := make(map[string]backend.Lease)
	for i, filter := range all {
		leases[filter] = c.a.member(t, backend.ClientID(fmt.Sprintf("session %d", i)), sub(filter, 1)).Lease
	}
	out := make([]backend.Append, len(topics))
	messages := make([]*backend.Message, len(topics))
	for i, topic := range topics {
		messages[i] = text(topic, fmt.Sprint(i), 1)
	}
	if err := c.b.Append(c.ctx, messages, out); err != nil {
		t.Fatalf("Append: %v", err)
	}
	for _, filter := range all {
		var want []string
		for i, topic := range topics {
			if matches(filter, topic) {
				want = append(want, fmt.Sprint(i))
			}
		}
		got := payloads(c.a.inbox(t, leases[filter]))
		for i, topic := range topics {
			switch have := slices.Contains(got, fmt.Sprint(i)); {
			case have && !matches(filter, topic):
				t.Errorf("filter %q got topic %q", filter, topic)
			case !have && matches(filter, topic):
				t.Errorf("filter %q missed topic %q", filter, topic)
			}
		}
		if len(got) != len(want) {
			t.Errorf("filter %q: %d messages, want %d", filter, len(got), len(want))
		}
	}
	for i, topic := range topics {
		targets := 0
		for _, filter := range all {
			if matches(filter, topic) {
				targets++
			}
		}
		if out[i].Matched != (targets > 0) || len(out[i].Targets) != targets {
			t.Errorf("topic %q: matched %v with %d targets, want %d", topic, out[i].Matched, len(out[i].Targets), targets)
		}
	}
}

func effectiveQoS(t *testing.T, c *cluster) {
	var leases [3]backend.Lease
	for qos := range leases {
		leases[qos] = c.a.member(t, backend.ClientID(fmt.Sprint(qos)), sub("a", byte(qos))).Lease
	}
	if out := c.b.append(t, text("a", "0", 0), text("a", "1", 1), text("a", "2", 2))[0]; len(out.Targets) != 0 {
		t.Errorf("a message of QoS 0 has targets without a group: %+v", out.Targets)
	}
	for granted := range leases {
		list := c.a.inbox(t, leases[granted])
		var want []string
		for published := 1; published <= 2 && granted > 0; published++ {
			want = append(want, fmt.Sprint(published))
		}
		wantPayloads(t, fmt.Sprintf("granted QoS %d", granted), list, want)
		for i, e := range list {
			if published := i + 1; int(e.QoS) != min(granted, published) {
				t.Errorf("published QoS %d, granted %d: entry has %d", published, granted, e.QoS)
			}
		}
	}
}

func overlapping(t *testing.T, c *cluster) {
	o := c.a.open(t, "client")
	c.a.subscribe(t, o.Lease,
		backend.Subscription{Filter: "a/b", QoS: 1, ID: 11},
		backend.Subscription{Filter: "a/+", QoS: 2, ID: 22},
		backend.Subscription{Filter: "a/#", QoS: 0, ID: 33},
		backend.Subscription{Filter: "#", QoS: 1},
		backend.Subscription{Filter: "+/b", QoS: 1, ID: 11},
		backend.Subscription{Filter: "a/c", QoS: 2, ID: 44},
	)
	c.b.append(t, text("a/b", "x", 2))
	list := c.a.inbox(t, o.Lease)
	if len(list) != 1 || list[0].QoS != 2 {
		t.Fatalf("inbox %+v, want one entry of QoS 2", list)
	}
	ids := slices.Clone(list[0].SubscriptionIDs)
	slices.Sort(ids)
	if ids = slices.Compact(ids); !slices.Equal(ids, []uint32{11, 22, 33}) {
		t.Errorf("subscription identifiers %v, want 11, 22, 33", list[0].SubscriptionIDs)
	}
}

func noLocal(t *testing.T, c *cluster) {
	publisher, other := c.a.open(t, "publisher"), c.a.open(t, "other")
	for _, o := range []*backend.Opened{publisher, other} {
		c.a.subscribe(t, o.Lease,
			backend.Subscription{Filter: "a/+", QoS: 2, NoLocal: true, ID: 1},
			backend.Subscription{Filter: "a/both", QoS: 1, ID: 2},
		)
	}
	for _, topic := range []string{"a/one", "a/both"} {
		m := text(topic, topic, 2)
		m.Publisher = "publisher"
		c.b.append(t, m)
	}
	own := c.a.inbox(t, publisher.Lease)
	wantPayloads(t, "the publisher's inbox", own, []string{"a/both"})
	if own[0].QoS != 1 || !slices.Equal(own[0].SubscriptionIDs, []uint32{2}) {
		t.Errorf("entry %+v, want it as by the subscription without No Local", own[0])
	}
	wantPayloads(t, "the other's inbox", c.a.inbox(t, other.Lease), []string{"a/one", "a/both"})
	// A message of the server has no publisher and is local to nobody.
	c.b.append(t, text("a/server", "server", 1))
	wantPayloads(t, "the publisher's inbox", c.a.inbox(t, publisher.Lease), []string{"a/both", "server"})
}

func retainAsPublished(t *testing.T, c *cluster) {
	plain := c.a.member(t, "plain", sub("a", 1))
	asPublished := c.a.member(t, "as published", backend.Subscription{Filter: "a", QoS: 1, RetainAsPublished: true})
	kept := text("a", "retained", 1)
	kept.Retain = true
	c.b.append(t, kept, text("a", "live", 1))
	for _, tt := range []struct {
		o    *backend.Opened
		want []bool
	}{{plain, []bool{false, false}}, {asPublished, []bool{true, false}}} {
		list := c.a.inbox(t, tt.o.Lease)
		if len(list) != 2 || list[0].Retain != tt.want[0] || list[1].Retain != tt.want[1] {
			t.Errorf("%s: %+v, want the retain flags %v", tt.o.Lease.Client, list, tt.want)
		}
	}
}

// targetOf returns the target of a client; it fails if there are several.
func targetOf(t *testing.T, out backend.Append, client backend.ClientID) *backend.Target {
	t.Helper()
	var found *backend.Target
	for i := range out.Targets {
		if out.Targets[i].Client == client {
			if found != nil {
				t.Errorf("%s is a target twice", client)
			}
			found = &out.Targets[i]
		}
	}
	return found
}

func appendOutcome(t *testing.T, c *cluster) {
	here := c.a.open(t, "here")
	there := c.b.open(t, "there")
	away := c.a.open(t, "away")
	c.a.subscribe(t, here.Lease, backend.Subscription{Filter: "a/#", QoS: 1, ID: 3})
	c.b.subscribe(t, there.Lease, sub("a/b", 2))
	c.a.subscribe(t, away.Lease, sub("+/b", 1))
	c.a.release(t, away.Lease, backend.ReleaseRequest{})
	messages := []*backend.Message{text("a/b", "all", 2), text("nobody", "none", 1), text("a", "one", 1)}
	out := make([]backend.Append, len(messages))
	for round := range 3 {
		// What is left in out from before must not show.
		if round == 2 {
			for i := range out {
				out[i].Duplicate, out[i].Refused, out[i].Matched = true, 9, true
			}
		}
		if err := c.a.Append(c.ctx, messages, out); err != nil {
			t.Fatalf("Append: %v", err)
		}
		for i, want := range []bool{true, false, true} {
			if out[i].Matched != want || out[i].Refused != 0 || out[i].Duplicate {
				t.Errorf("message %d: %+v, want matched %v, nothing refused, no duplicate", i, out[i], want)
			}
		}
		if len(out[1].Targets) != 0 {
			t.Errorf("a message that nobody wants has targets: %+v", out[1].Targets)
		}
		for _, want := range []struct {
			message int
			o       *backend.Opened
			entry   backend.Entry
		}{
			{0, here, backend.Entry{Seq: uint64(2*round + 1), Message: messages[0], QoS: 1, SubscriptionIDs: []uint32{3}}},
			{0, there, backend.Entry{Seq: uint64(round + 1), Message: messages[0], QoS: 2}},
			{2, here, backend.Entry{Seq: uint64(2*round + 2), Message: messages[2], QoS: 1, SubscriptionIDs: []uint32{3}}},
		} {
			got := targetOf(t, out[want.message], want.o.Lease.Client)
			if got == nil || got.Node != want.o.Lease.Node || got.Epoch != want.o.Lease.Epoch {
				t.Fatalf("message %d: target %+v, want the connection %+v", want.message, got, want.o.Lease)
			}
			if diff := sameEntry(got.Entry, want.entry); diff != "" {
				t.Errorf("message %d for %s: %s", want.message, got.Client, diff)
			}
		}
		if got := targetOf(t, out[0], "away"); got != nil && got.Node != "" {
			t.Errorf("target %+v of a session that is not connected", got)
		}
	}
}

func appendOrder(t *testing.T, c *cluster) {
	const messages, batch = 600, 50
	var leases []backend.Lease
	for _, id := range clientNames(3) {
		leases = append(leases, c.a.member(t, id, sub("order/#", 2)).Lease)
	}
	list := make([]*backend.Message, messages)
	for i := range list {
		list[i] = text(fmt.Sprintf("order/%d", i%7), fmt.Sprint(i), byte(1+i%2))
	}
	for i := 0; i < messages; i += batch {
		c.b.append(t, list[i:i+batch]...)
	}
	for _, l := range leases {
		entries := c.a.inbox(t, l)
		wantPayloads(t, string(l.Client), entries, count(0, messages))
		for i, e := range entries {
			if e.Seq != uint64(i+1) || e.State != backend.Pending {
				t.Fatalf("entry %d has sequence %d and state %d", i, e.Seq, e.State)
			}
		}
	}
}

func appendOrderOfCallers(t *testing.T, c *cluster) {
	const callers, messages, batch = 8, 200, 5
	var leases []backend.Lease
	for _, id := range clientNames(2) {
		leases = append(leases, c.a.member(t, id, sub("order/+", 1)).Lease)
	}
	var group sync.WaitGroup
	for caller := range callers {
		group.Go(func() {
			g := []*gate{c.a, c.b}[caller%2]
			out := make([]backend.Append, batch)
			list := numbered(fmt.Sprintf("order/%d", caller), messages, 1)
			for i := 0; i < messages; i += batch {
				if err := g.Append(c.ctx, list[i:i+batch], out); err != nil {
					t.Errorf("Append: %v", err)
					return
				}
			}
		})
	}
	group.Wait()
	for _, l := range leases {
		next := make(map[string]int)
		entries := c.b.inbox(t, l)
		if len(entries) != callers*messages {
			t.Errorf("%d entries, want %d", len(entries), callers*messages)
		}
		for _, e := range entries {
			if want := fmt.Sprint(next[e.Message.Topic]); string(e.Message.Payload) != want {
				t.Fatalf("%s: message %s of %s came where %s was due", l.Client, e.Message.Payload, e.Message.Topic, want)
			}
			next[e.Message.Topic]++
		}
	}
}

func appendContent(t *testing.T, c *cluster) {
	o := c.a.member(t, "client", backend.Subscription{Filter: "#", QoS: 2, RetainAsPublished: true, ID: 9})
	full, bare, big := sample("content/é "), text("bare", "", 1), text("big", "", 1)
	big.Payload, big.Properties = make([]byte, 200_000), make([]byte, 3000)
	for i := range big.Payload {
		big.Payload[i] = byte(i * i)
	}
	c.b.append(t, full, bare, big)
	list := c.a.inbox(t, o.Lease)
	if len(list) != 3 {
		t.Fatalf("%d entries, want 3", len(list))
	}
	for i, m := range []*backend.Message{full, bare, big} {
		want := backend.Entry{Seq: uint64(i + 1), Message: m, QoS: m.QoS, Retain: m.Retain, SubscriptionIDs: []uint32{9}}
		if diff := sameEntry(list[i], want); diff != "" {
			t.Errorf("%s: %s", m.Topic, diff)
		}
	}
}

func appendBorrowed(t *testing.T, c *cluster) {
	const messages = 100
	o := c.a.member(t, "client", backend.Subscription{Filter: "a", QoS: 1, ID: 1})
	m := sample("a")
	m.ID = backend.PublishID{}
	var outcomes []backend.Append
	for i := range messages {
		m.Payload = append(m.Payload[:0], fmt.Sprint(i)...)
		m.Properties = append(m.Properties[:0], fmt.Sprint(-i)...)
		outcomes = append(outcomes, c.a.append(t, m)...)
		copy(m.Payload, "????")
		copy(m.Properties, "????")
		m.QoS, m.Retain = 2, true
	}
	fetched := c.b.inbox(t, o.Lease)
	wantPayloads(t, "inbox", fetched, count(0, messages))
	c.b.advance(t, o.Lease, backend.Progress{Base: messages})
	c.a.append(t, numbered("a", messages, 1)...) // might use memory again
	wantPayloads(t, "entries that were kept", fetched, count(0, messages))
	for i, e := range fetched {
		if string(e.Message.Properties) != fmt.Sprint(-i) {
			t.Fatalf("entry %d has the properties %q", i, e.Message.Properties)
		}
		if target := outcomes[i].Targets[0].Entry.Message; string(target.Payload) != fmt.Sprint(i) {
			t.Fatalf("target %d has the payload %q", i, target.Payload)
		}
	}
}

func appendAcross(t *testing.T, c *cluster) {
	const tries = 300
	o := c.b.member(t, "client", sub("a/#", 1))
	for i := range tries {
		c.a.append(t, text("a/b", fmt.Sprint(i), 1))
		list, _, err := c.b.Fetch(c.ctx, o.Lease, uint64(i), 10, 1<<20)
		if err != nil || len(list) != 1 || string(list[0].Message.Payload) != fmt.Sprint(i) {
			t.Fatalf("try %d: fetched %d entries, %v", i, len(list), err)
		}
	}
}

func appendExpired(t *testing.T, c *cluster) {
	o := c.a.member(t, "client", sub("a", 1))
	short, long, past := text("a", "short", 1), text("a", "long", 1), text("a", "past", 1)
	short.Expires = time.Now().Add(time.Second).UnixMilli()
	long.Expires = time.Now().Add(aWhile).UnixMilli()
	past.Expires = time.Now().Add(-aWhile).UnixMilli()
	c.b.append(t, past, short, text("a", "forever", 1), long)
	lapse(time.Second + clockSlack)
	eventually(t, c.h.Patience, "what has expired is not fetched", func() bool {
		return slices.Equal(payloads(c.a.inbox(t, o.Lease)), []string{"forever", "long"})
	})
	// It still has its place in the order of packet identifiers.
	if list := c.a.inbox(t, o.Lease); list[0].Seq >= list[1].Seq {
		t.Errorf("sequences %d and %d", list[0].Seq, list[1].Seq)
	}
}

func appendEmpty(t *testing.T, c *cluster) {
	if err := c.a.Append(c.ctx, nil, nil); err != nil {
		t.Errorf("Append: %v", err)
	}
}
