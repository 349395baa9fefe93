package memory

import (
	"fmt"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// gate is a Store with one gateway that has joined.
type gate struct {
	*Store
	t  *testing.T
	id backend.NodeID
}

func newGate(t *testing.T, o Options) *gate {
	return joinStore(t, NewStore(o), "gateway", time.Hour)
}

func joinStore(t *testing.T, s *Store, id backend.NodeID, ttl time.Duration) *gate {
	t.Helper()
	g := &gate{s, t, id}
	g.must(s.Join(t.Context(), backend.Node{ID: id}, ttl))
	return g
}

func (g *gate) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

// open opens a session that lasts for an hour.
func (g *gate) open(client string, changes ...func(*backend.OpenRequest)) *backend.Opened {
	g.t.Helper()
	r := backend.OpenRequest{Client: backend.ClientID(client), Node: g.id, Expiry: 3600}
	for _, c := range changes {
		c(&r)
	}
	o, err := g.Open(g.t.Context(), r)
	g.must(err)
	return o
}

func ephemeral(r *backend.OpenRequest) { r.Expiry = 0 }

func expiry(seconds uint32) func(*backend.OpenRequest) {
	return func(r *backend.OpenRequest) { r.Expiry = seconds }
}

func will(delay uint32) func(*backend.OpenRequest) {
	return func(r *backend.OpenRequest) {
		r.Will = &backend.Will{Message: text("will", string(r.Client), 1), Delay: delay}
	}
}

func (g *gate) subscribe(l backend.Lease, filters ...string) {
	g.t.Helper()
	subs := make([]backend.Subscription, len(filters))
	for i, f := range filters {
		subs[i] = backend.Subscription{Filter: f, QoS: 2}
	}
	_, err := g.Subscribe(g.t.Context(), l, subs, nil)
	g.must(err)
}

func (g *gate) release(l backend.Lease) []backend.Chore {
	g.t.Helper()
	due, err := g.Release(g.t.Context(), l, backend.ReleaseRequest{KeepWill: true})
	g.must(err)
	return due
}

func (g *gate) append(msgs ...*backend.Message) []backend.Append {
	g.t.Helper()
	out := make([]backend.Append, len(msgs))
	g.must(g.Append(g.t.Context(), msgs, out))
	return out
}

func (g *gate) inbox(l backend.Lease) (payloads []string) {
	g.t.Helper()
	for after, more := uint64(0), true; more; {
		var page []backend.Entry
		var err error
		page, more, err = g.Fetch(g.t.Context(), l, after, 7, 1<<20)
		g.must(err)
		for _, e := range page {
			after = e.Seq
			payloads = append(payloads, string(e.Message.Payload))
		}
	}
	return payloads
}

func text(topic, payload string, qos byte) *backend.Message {
	return &backend.Message{Topic: topic, Payload: []byte(payload), QoS: qos}
}

func numbered(topic string, from, to int) []*backend.Message {
	var list []*backend.Message
	for i := from; i < to; i++ {
		list = append(list, text(topic, fmt.Sprint(i), 1))
	}
	return list
}

func numbers(from, to int) []string {
	list := []string{}
	for i := from; i < to; i++ {
		list = append(list, fmt.Sprint(i))
	}
	return list
}
