package backendtest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

var inputCases = []storeCase{
	{name: "client identifiers", promise: "any client identifier works, and no two share anything", run: anyClient},
	{name: "topics", promise: "any topic works, and no two share anything", run: anyTopic},
	{name: "groups", promise: "any name of a shared group works, and no two share anything", run: anyGroup},
	{name: "principals", promise: "any identity works, and no two are the same", run: anyPrincipal},
	{name: "payloads", promise: "any payload works", run: anyPayload},
	{name: "many at one client", promise: "many calls on one client with everything awkward at once", run: anyTogether},
}

// awkwardClients are all client identifiers that are tried.
func awkwardClients() []backend.ClientID {
	var list []backend.ClientID
	for _, id := range append(append([]string(nil), awkward...), awkwardIDs...) {
		list = append(list, backend.ClientID(id))
	}
	return append(list, backend.ClientID(strings.Repeat("L", 65535)), backend.ClientID(strings.Repeat("L", 65534)+"M"))
}

func anyClient(t *testing.T, c *cluster) {
	ids := awkwardClients()
	opened := make([]*backend.Opened, len(ids))
	for i, id := range ids {
		opened[i] = c.a.open(t, id, leaving(fmt.Sprintf("will/%d", i), 0))
		c.a.subscribe(t, opened[i].Lease, sub(fmt.Sprintf("to/%d", i), 2), sub("$share/g/shared/"+fmt.Sprint(i), 1))
	}
	for i, id := range ids {
		m := identified(opened[i], 7, 0, fmt.Sprint(i))
		m.Topic = fmt.Sprintf("to/%d", i)
		out := c.b.append(t, m)[0]
		if len(out.Targets) != 1 || out.Targets[0].Client != id {
			t.Fatalf("%.40q: %d targets", id, len(out.Targets))
		}
		if out := c.b.append(t, text(fmt.Sprintf("shared/%d", i), "s", 1))[0]; len(out.Targets) != 1 || out.Targets[0].Client != id {
			t.Fatalf("%.40q: %d targets of its group", id, len(out.Targets))
		}
	}
	for i, id := range ids {
		previous := opened[i]
		o := c.b.open(t, id)
		if !o.Present || o.Previous != previous.Lease || len(o.Subscriptions) != 2 {
			t.Errorf("%.40q: resumed as %+v", id, o)
		}
		wantKnown(t, fmt.Sprintf("%.40q", id), o, map[uint16]uint32{7: 0}, nil)
		wills := of(o.Due, backend.ChoreWill, id)
		if len(wills) != 1 || wills[0].Will.Topic != fmt.Sprintf("will/%d", i) {
			t.Errorf("%.40q: chores %+v, want its will", id, o.Due)
		}
		c.b.finish(t, o.Due...)
		list := c.b.inbox(t, o.Lease)
		wantPayloads(t, fmt.Sprintf("%.40q", id), list, []string{fmt.Sprint(i), "s"})
		if list[0].Message.Publisher != id || list[0].Message.ID.Client != id {
			t.Errorf("%.40q: published by %.40q", id, list[0].Message.Publisher)
		}
		c.b.advance(t, o.Lease, backend.Progress{Base: 2})
		c.b.forget(t, o.Lease, 7)
		c.b.release(t, o.Lease, backend.ReleaseRequest{Sent: 2})
	}
	for i, id := range ids {
		if i%2 == 0 {
			if _, due, err := c.a.Destroy(c.ctx, id); err != nil || len(of(due, backend.ChoreEnded, id)) != 1 {
				t.Errorf("Destroy(%.40q): %d chores, %v", id, len(due), err)
			}
		}
	}
	for i, id := range ids {
		if o := c.a.open(t, id); o.Present != (i%2 == 1) {
			t.Errorf("%.40q: present %v after half of them were destroyed", id, o.Present)
		}
	}
}

func anyTopic(t *testing.T, c *cluster) {
	names := append(append([]string(nil), topics...), awkward...)
	seen := make(map[string]bool)
	o := c.a.open(t, "client")
	all := c.a.member(t, "all", sub("any/#", 1))
	var want []string
	for i, name := range names {
		topic := "any/" + name
		if len(topic) > 65535 || seen[topic] {
			continue
		}
		seen[topic] = true
		payload := fmt.Sprint(i)
		c.a.subscribe(t, o.Lease, backend.Subscription{Filter: topic, QoS: 1, ID: uint32(i + 1)})
		if out := c.b.append(t, text(topic, payload, 1))[0]; len(out.Targets) != 2 {
			t.Errorf("topic %.40q: %d targets, want 2", topic, len(out.Targets))
		}
		c.a.retain(t, retained(topic, payload))
		want = append(want, payload)
	}
	list := c.a.inbox(t, o.Lease)
	wantPayloads(t, "by each topic", list, want)
	wantPayloads(t, "by wildcard", c.a.inbox(t, all.Lease), want)
	for _, e := range list {
		if e.Message.Topic != "any/"+names[e.SubscriptionIDs[0]-1] {
			t.Errorf("topic %.40q came by the subscription to %.40q", e.Message.Topic, names[e.SubscriptionIDs[0]-1])
		}
		c.b.wantOne(t, e.Message.Topic, string(e.Message.Payload))
	}
	if got := c.b.match(t, "any/#", 10); len(got) != len(want) {
		t.Errorf("%d retained, want %d", len(got), len(want))
	}
}

func anyGroup(t *testing.T, c *cluster) {
	const rest = "/awkward/+"
	var filters []string
	for _, name := range awkward { // '/', '+' and '#' are not allowed in it
		if len(name) < 65000 {
			filters = append(filters, "$share/"+name+rest)
		}
	}
	for i, filter := range filters {
		o := c.a.member(t, backend.ClientID(fmt.Sprint(i)), sub(filter, 1))
		c.a.release(t, o.Lease, backend.ReleaseRequest{})
	}
	c.b.append(t, numbered("awkward/x", 2, 1)...)
	for i, filter := range filters {
		o := c.b.open(t, backend.ClientID(fmt.Sprint(i)))
		list := c.b.takeAll(t, o, filter)
		wantPayloads(t, fmt.Sprintf("group %.40q", filter), list, count(0, 2))
		if list[0].Share != filter {
			t.Errorf("share %.40q, want %.40q", list[0].Share, filter)
		}
	}
}

func anyPrincipal(t *testing.T, c *cluster) {
	identities := append([]string{""}, awkward...)
	for i, identity := range identities {
		id := backend.ClientID(fmt.Sprint(i))
		o := c.a.open(t, id, as(identity))
		c.a.release(t, o.Lease, backend.ReleaseRequest{})
		other := identities[(i+1)%len(identities)]
		if _, err := c.b.Open(c.ctx, c.b.request(id, as(other))); err == nil {
			t.Errorf("%.40q got the session of %.40q", other, identity)
		}
		if !c.b.open(t, id, as(identity)).Present {
			t.Errorf("%.40q did not get its session", identity)
		}
	}
}

func anyPayload(t *testing.T, c *cluster) {
	o := c.a.member(t, "client", sub("a", 1))
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	list := [][]byte{nil, {0}, []byte("\r\n"), []byte("nil"), []byte("-1"), []byte("{}"), []byte(strings.Repeat("\x00", 70_000)), every, []byte(strings.Repeat(string(every), 1000))}
	var want []string
	for _, payload := range list {
		c.b.append(t, &backend.Message{Topic: "a", Payload: payload, QoS: 1})
		want = append(want, string(payload))
	}
	wantPayloads(t, "inbox", c.a.inbox(t, o.Lease), want)
}

func anyTogether(t *testing.T, c *cluster) {
	id := backend.ClientID(strings.Repeat("{x}*:", 1000))
	o := c.a.open(t, id, as("}{"))
	var filters []string
	for i, name := range awkward {
		if len(name) > 60_000 {
			continue
		}
		filters = append(filters, fmt.Sprintf("%d/%s/#", i, name))
	}
	for i, filter := range filters {
		s := backend.Subscription{Filter: filter, QoS: byte(i % 3), ID: uint32(i + 1)}
		c.a.replay(t, o.Lease, s)
		c.a.replayed(t, o.Lease, filter, strings.TrimSuffix(filter, "#")+"}", false)
	}
	o = c.b.open(t, id, as("}{"))
	if len(o.Subscriptions) != len(filters) || len(o.Replays) != len(filters) {
		t.Fatalf("%d subscriptions and %d replays, want %d", len(o.Subscriptions), len(o.Replays), len(filters))
	}
	for _, r := range o.Replays {
		if want := strings.TrimSuffix(r.Subscription.Filter, "#") + "}"; r.After != want {
			t.Errorf("%.40q: after %.40q, want %.40q", r.Subscription.Filter, r.After, want)
		}
	}
}
