package memory

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

var wide = bounds{1 << 30, 1 << 40, DropNewest}

// TestInboxAgainstModel makes random changes to an inbox and to a plain list.
func TestInboxAgainstModel(t *testing.T) {
	type entry struct {
		seq   uint64
		state backend.EntryState
	}
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 3))
	var b inbox
	var model []entry // those that are not done
	last := uint64(0)
	near := func() uint64 { // a sequence that is there, or almost
		return b.base + rnd.Uint64N(uint64(b.n)+3)
	}
	for step := range 50_000 {
		switch rnd.IntN(10) {
		case 0, 1, 2, 3, 4:
			for range 1 + rnd.IntN(1+step%60) {
				last++
				if seq, full := b.add(backend.Entry{Message: text("t", "x", 1)}, wide); seq != last || full {
					t.Fatalf("seed %d: sequence %d (full %v), want %d", seed, seq, full, last)
				}
				model = append(model, entry{seq: last})
			}
		case 5, 6, 7:
			p := backend.Progress{Base: near()}
			if rnd.IntN(3) > 0 {
				p.Base = min(p.Base, b.base+uint64(rnd.IntN(30)))
			}
			b.advance(p)
			model = slices.DeleteFunc(model, func(e entry) bool { return e.seq <= p.Base })
		case 8:
			p := backend.Progress{Done: []uint64{near(), near()}}
			b.advance(p)
			model = slices.DeleteFunc(model, func(e entry) bool { return slices.Contains(p.Done, e.seq) })
		case 9:
			p := backend.Progress{Released: []uint64{near()}}
			b.advance(p)
			for i := range model {
				if model[i].seq == p.Released[0] {
					model[i].state = backend.Released
				}
			}
		}
		var got []entry
		for seq := b.base + 1; seq <= b.last(); seq++ {
			if e := b.at(seq); e.state != backend.Done {
				got = append(got, entry{seq, e.state})
			}
		}
		base := last
		if len(model) > 0 {
			base = model[0].seq - 1
		}
		if !slices.Equal(got, model) || b.last() != last || b.base != base || b.live != len(model) || b.bytes != int64(2*len(model)) {
			t.Fatalf("seed %d, step %d: inbox %v base %d last %d live %d bytes %d\nwant %v base %d last %d", seed, step, got, b.base, b.last(), b.live, b.bytes, model, base, last)
		}
		if len(b.ring) > 16 && len(b.ring) >= 8*b.n {
			t.Fatalf("seed %d, step %d: room for %d, %d are there", seed, step, len(b.ring), b.n)
		}
	}
}

func TestDrainedInboxHoldsNoMemory(t *testing.T) {
	var b inbox
	for range 10_000 {
		b.push(backend.Entry{Message: text("t", "x", 1)})
	}
	b.advance(backend.Progress{Base: 10_000})
	if b.ring != nil || b.last() != 10_000 || b.bytes != 0 || b.live != 0 {
		t.Errorf("%+v", b)
	}
}

func TestFullInbox(t *testing.T) {
	tests := []struct {
		name    string
		limits  bounds
		answer  backend.Progress // after the fifth message
		want    []string
		refused int
	}{
		{"newest by number", bounds{5, 1 << 30, DropNewest}, backend.Progress{}, numbers(0, 5), 5},
		{"newest by bytes", bounds{100, 10, DropNewest}, backend.Progress{}, numbers(0, 5), 5},
		{"newest, some answered", bounds{5, 1 << 30, DropNewest}, backend.Progress{Base: 2, Done: []uint64{4}}, []string{"2", "4", "5", "6", "7"}, 2},
		{"oldest by number", bounds{5, 1 << 30, DropOldest}, backend.Progress{}, numbers(5, 10), 5},
		{"oldest by bytes", bounds{100, 10, DropOldest}, backend.Progress{}, numbers(5, 10), 5},
		{"oldest, but not what was received", bounds{5, 1 << 30, DropOldest}, backend.Progress{Released: []uint64{1, 3}}, []string{"0", "2", "7", "8", "9"}, 5},
		{"all received", bounds{5, 1 << 30, DropOldest}, backend.Progress{Released: []uint64{1, 2, 3, 4, 5}}, numbers(0, 5), 5},
		{"no room for one", bounds{100, 1, DropOldest}, backend.Progress{}, nil, 10},
		{"no limit", bounds{limit(-1, 0), limit(int64(-1), 0), DropNewest}, backend.Progress{}, numbers(0, 10), 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b inbox
			refused := 0
			for i, m := range numbered("t", 0, 10) {
				if i == 5 {
					b.advance(tt.answer)
				}
				if _, full := b.add(backend.Entry{Message: m}, tt.limits); full {
					refused++
				}
			}
			var got []string
			for seq := b.base + 1; seq <= b.last(); seq++ {
				if e := b.at(seq); e.state != backend.Done {
					got = append(got, string(e.message.Payload))
				}
			}
			if !slices.Equal(got, tt.want) || refused != tt.refused {
				t.Errorf("%d lost, left %q; want %d, %q", refused, got, tt.refused, tt.want)
			}
		})
	}
}

// TestParkedMessagesAreBounded does the same for the queue of a shared group.
func TestParkedMessagesAreBounded(t *testing.T) {
	for _, tt := range []struct {
		limits  bounds
		want    []string
		refused int
	}{
		{bounds{5, 1 << 30, DropNewest}, numbers(0, 5), 5},
		{bounds{5, 1 << 30, DropOldest}, numbers(5, 10), 5},
		{bounds{100, 10, DropOldest}, numbers(5, 10), 5},
		{bounds{100, 1, DropOldest}, []string{}, 10},
	} {
		t.Run(fmt.Sprint(tt.limits), func(t *testing.T) {
			var q parked
			refused := 0
			for _, m := range numbered("t", 0, 10) {
				if q.add(m, tt.limits) {
					refused++
				}
			}
			got := []string{}
			for more := true; more; {
				var page []*backend.Message
				page, more = q.take(2)
				for _, m := range page {
					got = append(got, string(m.Payload))
				}
			}
			if !slices.Equal(got, tt.want) || refused != tt.refused {
				t.Errorf("%d lost, left %q; want %d, %q", refused, got, tt.refused, tt.want)
			}
			if q.list != nil || q.bytes != 0 {
				t.Errorf("left: %+v", q)
			}
		})
	}
}

// TestExpiredMessagesAreNotDelivered lets messages expire in an inbox and in
// the queue of a group [MQTT-3.3.2-5].
func TestExpiredMessagesAreNotDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, Options{InboxMessages: 4})
		inSeconds := func(topic, payload string, n int) *backend.Message {
			m := text(topic, payload, 2)
			m.Expires = time.Now().Add(time.Duration(n) * time.Second).UnixMilli()
			return m
		}
		o := g.open("client")
		g.subscribe(o.Lease, "a", "$share/g/b")
		g.append(inSeconds("a", "5s", 5), inSeconds("a", "10s", 10), text("a", "never", 2), inSeconds("a", "6s", 6))
		g.must(g.Advance(t.Context(), o.Lease, backend.Progress{Released: []uint64{4}}))
		g.release(o.Lease)
		g.append(inSeconds("b", "5s", 5), inSeconds("b", "10s", 10), text("b", "never", 2), inSeconds("b", "3s", 3))
		if out := g.append(text("a", "full", 1), text("b", "full", 1)); out[0].Refused != 1 || out[1].Refused != 1 {
			t.Errorf("full: %+v", out)
		}
		time.Sleep(7 * time.Second)
		// Room is made by what has expired.
		if out := g.append(text("a", "new", 1), text("b", "new", 1)); out[0].Refused != 0 || out[1].Refused != 0 {
			t.Errorf("after some expired: %+v", out)
		}
		o = g.open("client")
		if got := g.inbox(o.Lease); !slices.Equal(got, []string{"10s", "never", "6s", "new"}) { // 6s was received
			t.Errorf("inbox %q", got)
		}
		_, more, err := g.TakeShared(t.Context(), o.Lease, "$share/g/b", 1)
		g.must(err)
		if got := g.inbox(o.Lease); !more || got[4] != "10s" {
			t.Errorf("after TakeShared: more %v, %q", more, got)
		}
		time.Sleep(4 * time.Second)
		if got := g.inbox(o.Lease); !slices.Equal(got, []string{"never", "6s", "new"}) {
			t.Errorf("inbox %q", got)
		}
		if _, more, err = g.TakeShared(t.Context(), o.Lease, "$share/g/b", 10); err != nil || more {
			t.Errorf("more %v, %v", more, err)
		}
		if o := g.open("client"); o.Base != 2 {
			t.Errorf("base %d, want 2: what has expired is done", o.Base)
		}
	})
}

func TestOneCopyForAllInboxes(t *testing.T) {
	g := newGate(t, Options{})
	var leases []backend.Lease
	for i := range 3 {
		o := g.open(fmt.Sprint("client", i))
		g.subscribe(o.Lease, "a/#", "$share/g/a/#")
		leases = append(leases, o.Lease)
	}
	m := text("a/b", "payload", 1)
	out := g.append(m)
	m.Payload[0] = '?'
	var kept *backend.Message
	for _, target := range out[0].Targets {
		if kept == nil {
			kept = target.Entry.Message
		}
		if target.Entry.Message != kept || kept == m || string(kept.Payload) != "payload" {
			t.Errorf("target %+v", target)
		}
	}
	if len(out[0].Targets) != 4 {
		t.Errorf("%d targets, want three sessions and a member", len(out[0].Targets))
	}
	// A retained message goes to many inboxes as it is.
	g.must(g.Retain(t.Context(), []*backend.Message{text("r", "retained", 1)}))
	page, _, err := g.Match(t.Context(), "#", "", 10)
	g.must(err)
	for _, l := range leases {
		_, err := g.Enqueue(t.Context(), l, []backend.Entry{{Message: page[0], QoS: 1}})
		g.must(err)
		ss := g.find(l.Client)
		if e := ss.inbox.at(ss.inbox.last()); e.message != page[0] {
			t.Error("a retained message was copied")
		}
	}
}
