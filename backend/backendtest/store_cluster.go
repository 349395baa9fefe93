package backendtest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// cluster is one state with two gateways on it that live as long as the case.
type cluster struct {
	h   StoreHarness
	ctx context.Context
	a   *gate
	b   *gate
}

// gate is a gateway's view of the store.
type gate struct {
	backend.Store
	ctx      context.Context
	id       backend.NodeID
	patience time.Duration
}

// aWhile is a lease, a delay or an expiry that no case waits for.
const aWhile = time.Hour

// patientCase is longer than any case takes.
const patientCase = 5 * time.Minute

func gather(t *testing.T, h StoreHarness, o StoreOptions) *cluster {
	t.Helper()
	// A store bounds a call that has no deadline; on a busy machine that may
	// be too short for cases that call it from everywhere at once.
	ctx, cancel := context.WithTimeout(t.Context(), patientCase)
	t.Cleanup(cancel)
	c := &cluster{h: h, ctx: ctx}
	first := h.Open(t, o)
	c.a = c.join(t, first, backend.Node{ID: "gateway-a"}, aWhile)
	c.b = c.join(t, h.Peer(t, first), backend.Node{ID: "gateway-b"}, aWhile)
	return c
}

// join makes one more gateway, on a store that another may use as well.
func (c *cluster) join(t *testing.T, s backend.Store, n backend.Node, lease time.Duration) *gate {
	t.Helper()
	if err := s.Join(c.ctx, n, lease); err != nil {
		t.Fatalf("Join(%s): %v", n.ID, err)
	}
	return &gate{Store: s, ctx: c.ctx, id: n.ID, patience: c.h.Patience}
}

// change adjusts a request to open a session.
type change func(*backend.OpenRequest)

func clean(r *backend.OpenRequest)              { r.CleanStart = true }
func ephemeral(r *backend.OpenRequest)          { r.Expiry = 0 }
func expires(seconds uint32) change             { return func(r *backend.OpenRequest) { r.Expiry = seconds } }
func as(principal string) change                { return func(r *backend.OpenRequest) { r.Principal = principal } }
func leaving(topic string, delay uint32) change { return leavingWill(will(topic, delay)) }
func leavingWill(w *backend.Will) change        { return func(r *backend.OpenRequest) { r.Will = w } }
func will(topic string, delay uint32) *backend.Will {
	return &backend.Will{Message: text(topic, "gone", 1), Delay: delay}
}

// request asks for a durable session.
func (g *gate) request(client backend.ClientID, changes ...change) backend.OpenRequest {
	r := backend.OpenRequest{Client: client, Node: g.id, Principal: "principal", Expiry: uint32(aWhile / time.Second)}
	for _, c := range changes {
		c(&r)
	}
	return r
}

// open opens a session, durable unless a change says otherwise.
func (g *gate) open(t *testing.T, client backend.ClientID, changes ...change) *backend.Opened {
	t.Helper()
	o, err := g.Open(g.ctx, g.request(client, changes...))
	if err != nil {
		t.Fatalf("Open(%.40q) at %s: %v", client, g.id, err)
	}
	if o.Lease.Client != client || o.Lease.Node != g.id || o.Lease.Epoch == 0 {
		t.Fatalf("Open(%.40q) at %s gave the lease %+v", client, g.id, o.Lease)
	}
	return o
}

func (g *gate) release(t *testing.T, l backend.Lease, r backend.ReleaseRequest) []backend.Chore {
	t.Helper()
	due, err := g.Release(g.ctx, l, r)
	if err != nil {
		t.Fatalf("Release(%.40q) at %s: %v", l.Client, g.id, err)
	}
	return due
}

// sub is a subscription without frills.
func sub(filter string, qos byte) backend.Subscription {
	return backend.Subscription{Filter: filter, QoS: qos}
}

func (g *gate) subscribe(t *testing.T, l backend.Lease, subs ...backend.Subscription) []bool {
	t.Helper()
	existed, err := g.Subscribe(g.ctx, l, subs, nil)
	if err != nil {
		t.Fatalf("Subscribe(%.40q, %d filters) at %s: %v", l.Client, len(subs), g.id, err)
	}
	if len(existed) != len(subs) {
		t.Fatalf("Subscribe told %d answers for %d filters", len(existed), len(subs))
	}
	return existed
}

func (g *gate) unsubscribe(t *testing.T, l backend.Lease, filters ...string) []bool {
	t.Helper()
	existed, err := g.Unsubscribe(g.ctx, l, filters)
	if err != nil {
		t.Fatalf("Unsubscribe(%.40q, %d filters) at %s: %v", l.Client, len(filters), g.id, err)
	}
	if len(existed) != len(filters) {
		t.Fatalf("Unsubscribe told %d answers for %d filters", len(existed), len(filters))
	}
	return existed
}

// member opens a session and subscribes it.
func (g *gate) member(t *testing.T, client backend.ClientID, s backend.Subscription, changes ...change) *backend.Opened {
	t.Helper()
	o := g.open(t, client, changes...)
	g.subscribe(t, o.Lease, s)
	return o
}

func text(topic, payload string, qos byte) *backend.Message {
	return &backend.Message{Topic: topic, Payload: []byte(payload), QoS: qos}
}

// numbered returns n messages on topic with the payloads 0 to n-1.
func numbered(topic string, n int, qos byte) []*backend.Message {
	list := make([]*backend.Message, n)
	for i := range list {
		list[i] = text(topic, fmt.Sprint(i), qos)
	}
	return list
}

func (g *gate) append(t *testing.T, msgs ...*backend.Message) []backend.Append {
	t.Helper()
	out := make([]backend.Append, len(msgs))
	if err := g.Append(g.ctx, msgs, out); err != nil {
		t.Fatalf("Append of %d messages at %s: %v", len(msgs), g.id, err)
	}
	return out
}

// inbox reads the whole inbox, in pages.
func (g *gate) inbox(t *testing.T, l backend.Lease) []backend.Entry {
	t.Helper()
	var all []backend.Entry
	after := uint64(0)
	for {
		page, more, err := g.Fetch(g.ctx, l, after, 100, 1<<20)
		if err != nil {
			t.Fatalf("Fetch(%.40q, after %d) at %s: %v", l.Client, after, g.id, err)
		}
		for _, e := range page {
			if e.Seq <= after {
				t.Fatalf("Fetch(%.40q, after %d) gave the entry %d", l.Client, after, e.Seq)
			}
			if e.Message == nil {
				t.Fatalf("Fetch(%.40q) gave the entry %d without message", l.Client, e.Seq)
			}
			after = e.Seq
		}
		all = append(all, page...)
		if !more {
			return all
		}
		if len(page) == 0 {
			t.Fatalf("Fetch(%.40q, after %d) gave nothing and says that there is more", l.Client, after)
		}
	}
}

func (g *gate) advance(t *testing.T, l backend.Lease, p backend.Progress) {
	t.Helper()
	if err := g.Advance(g.ctx, l, p); err != nil {
		t.Fatalf("Advance(%.40q, %+v) at %s: %v", l.Client, p, g.id, err)
	}
}

func payloads(entries []backend.Entry) []string {
	list := make([]string, len(entries))
	for i, e := range entries {
		list[i] = string(e.Message.Payload)
	}
	return list
}

// count returns the numbers from 'from' to 'to'-1, as payloads.
func count(from, to int) []string {
	list := make([]string, 0, to-from)
	for i := from; i < to; i++ {
		list = append(list, fmt.Sprint(i))
	}
	return list
}

func wantPayloads(t *testing.T, what string, entries []backend.Entry, want []string) {
	t.Helper()
	got := payloads(entries)
	if slices.Equal(got, want) {
		return
	}
	if len(got) > 20 || len(want) > 20 {
		t.Fatalf("%s: %d messages beginning with %.10q, want %d beginning with %.10q", what, len(got), got[:min(len(got), 20)], len(want), want[:min(len(want), 20)])
	}
	t.Fatalf("%s: the messages are %q, want %q", what, got, want)
}

// due asks once for chores.
func (g *gate) due(t *testing.T) []backend.Chore {
	t.Helper()
	list, wait, err := g.Due(g.ctx, g.id, 100)
	if err != nil {
		t.Fatalf("Due at %s: %v", g.id, err)
	}
	if wait < 0 || wait > 5*time.Second {
		t.Fatalf("Due says to wait %v, at most a second or so is promised", wait)
	}
	return list
}

// collect adds to had, and returns, what Due gives until done is satisfied. It
// finishes what it gets, as a gateway that has done it, requeues excepted.
func (g *gate) collect(t *testing.T, had []backend.Chore, what string, done func([]backend.Chore) bool) []backend.Chore {
	t.Helper()
	var all []backend.Chore
	next := had
	eventually(t, g.patience, what, func() bool {
		for _, c := range append(next, g.due(t)...) {
			all = append(all, c)
			if c.Kind != backend.ChoreRequeue {
				g.finish(t, c)
			}
		}
		next = nil
		return done(all)
	})
	return all
}

func (g *gate) finish(t *testing.T, chores ...backend.Chore) {
	t.Helper()
	if err := g.Finish(g.ctx, chores); err != nil {
		t.Fatalf("Finish of %d chores at %s: %v", len(chores), g.id, err)
	}
}

// of returns the chores of kind for client.
func of(chores []backend.Chore, kind backend.ChoreKind, client backend.ClientID) []backend.Chore {
	var list []backend.Chore
	for _, c := range chores {
		if c.Kind == kind && c.Client == client {
			list = append(list, c)
		}
	}
	return list
}

func has(kind backend.ChoreKind, client backend.ClientID) func([]backend.Chore) bool {
	return func(chores []backend.Chore) bool { return len(of(chores, kind, client)) > 0 }
}
