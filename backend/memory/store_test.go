package memory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// next waits as a gateway does, for as long as Due says and no longer, until
// there are chores; it finishes them and returns what they are and how long it
// took.
func (g *gate) next() (chores string, after time.Duration) {
	g.t.Helper()
	began := time.Now()
	for {
		due, wait, err := g.Due(g.t.Context(), g.id, 100)
		g.must(err)
		if len(due) > 0 {
			g.must(g.Finish(g.t.Context(), due))
			return names(due), time.Since(began)
		}
		if wait <= 0 || wait > longestWait {
			g.t.Fatalf("nothing is due, and Due says to wait %v", wait)
		}
		if time.Since(began) > 24*time.Hour {
			return "nothing", time.Since(began)
		}
		time.Sleep(wait)
	}
}

// names tells chores as "will:client ended:client requeue:client(2)".
func names(chores []backend.Chore) string {
	var list []string
	for _, c := range chores {
		switch c.Kind {
		case backend.ChoreWill:
			list = append(list, "will:"+string(c.Will.Payload))
		case backend.ChoreEnded:
			list = append(list, "ended:"+string(c.Client))
		case backend.ChoreRequeue:
			list = append(list, fmt.Sprintf("requeue:%s(%d)", c.Client, len(c.Entries)))
		}
	}
	return strings.Join(list, " ")
}

// TestChoresAreDueToTheMoment follows what Due says to wait, on a clock that
// does nothing else: each chore comes when it must, not a tick later.
func TestChoresAreDueToTheMoment(t *testing.T) {
	const lease = 3 * time.Second
	tests := []struct {
		name string
		do   func(g, dying *gate)
		want string
		at   time.Duration
	}{
		{"session expires", func(g, _ *gate) { g.release(g.open("c", expiry(5)).Lease) }, "ended:c", 5 * time.Second},
		{"will delay", func(g, _ *gate) { g.release(g.open("c", will(7)).Lease) }, "will:c", 7 * time.Second},
		{"will cut short [MQTT-3.1.3-9]", func(g, _ *gate) { g.release(g.open("c", expiry(4), will(7)).Lease) }, "will:c ended:c", 4 * time.Second},
		{"will before the end", func(g, _ *gate) { g.release(g.open("c", expiry(9), will(7)).Lease) }, "will:c", 7 * time.Second},
		{"gateway dies", func(_, d *gate) { d.open("c", will(0)) }, "will:c", lease},
		{"gateway dies, will delay from the end of the lease", func(_, d *gate) { d.open("c", will(2)) }, "will:c", lease + 2*time.Second},
		{"gateway dies, ephemeral", func(_, d *gate) { d.open("c", ephemeral, will(50)) }, "will:c ended:c", lease},
		{"gateway dies, expiry from the end of the lease", func(_, d *gate) { d.open("c", expiry(2)) }, "ended:c", lease + 2*time.Second},
		{"gateway leaves", func(g, d *gate) { d.open("c", will(0)); g.must(g.Leave(g.t.Context(), d.id)) }, "will:c", 0},
		{"gateway joins again", func(g, d *gate) { d.open("c", will(0)); joinStore(g.t, g.Store, d.id, time.Hour) }, "will:c", 0},
		{"not finished by who was told", func(g, _ *gate) { g.release(g.open("c", will(0)).Lease) }, "will:c", backend.ChoreClaim},
		{"taken over in time", func(g, d *gate) { d.open("c", will(2)); g.open("c") }, "nothing", 0},
		{"resumed in time", func(g, _ *gate) { g.release(g.open("c", will(2)).Lease); g.open("c") }, "nothing", 0},
		{"resumed and lost again", func(g, _ *gate) {
			g.release(g.open("c", will(2), expiry(3)).Lease)
			time.Sleep(time.Second)
			g.release(g.open("c", expiry(3)).Lease)
		}, "ended:c", 3 * time.Second},
		{"returned after the gateway died, before anybody looked", func(g, d *gate) {
			d.open("c", will(1))
			time.Sleep(lease + 500*time.Millisecond)
			g.open("c")
		}, "nothing", 0},
		{"returned too late, before anybody looked", func(g, d *gate) {
			d.open("c", will(1))
			time.Sleep(lease + time.Second)
			g.open("c")
		}, "will:c", 0},
		{"two at once", func(g, _ *gate) {
			g.release(g.open("b", expiry(2)).Lease)
			g.release(g.open("a", expiry(2)).Lease)
			g.release(g.open("z", expiry(1)).Lease)
			g.next()
		}, "ended:b ended:a", time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := NewStore(Options{})
				g := joinStore(t, s, "living", 365*24*time.Hour)
				tt.do(g, joinStore(t, s.Peer(), "dying", lease))
				got, after := g.next()
				if tt.want == "nothing" {
					after = 0
				}
				if !slices.Equal(slices.Sorted(strings.FieldsSeq(got)), slices.Sorted(strings.FieldsSeq(tt.want))) || after != tt.at {
					t.Errorf("%q after %v, want %q after %v", got, after, tt.want, tt.at)
				}
			})
		})
	}
}

// TestLeaseHasEndedThoughNobodyLooked checks that time alone fences.
func TestLeaseHasEndedThoughNobodyLooked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := joinStore(t, NewStore(Options{}), "short", time.Second)
		o := g.open("client")
		time.Sleep(999 * time.Millisecond)
		g.must(g.Renew(t.Context(), g.id))
		time.Sleep(999 * time.Millisecond)
		g.subscribe(o.Lease, "a")
		time.Sleep(time.Millisecond)
		ctx := t.Context()
		_, openErr := g.Open(ctx, backend.OpenRequest{Client: "other", Node: g.id})
		_, _, dueErr := g.Due(ctx, g.id, 1)
		for name, err := range map[string]error{
			"Renew":   g.Renew(ctx, g.id),
			"Advance": g.Advance(ctx, o.Lease, backend.Progress{}),
			"Forget":  g.Forget(ctx, o.Lease, nil),
			"Open":    openErr,
			"Due":     dueErr,
		} {
			if !errors.Is(err, backend.ErrFenced) {
				t.Errorf("%s: %v, want ErrFenced", name, err)
			}
		}
	})
}

// TestManySessionsEndTogether ends more than one Due takes on.
func TestManySessionsEndTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, Options{})
		const n = settleAtOnce + 100
		for i := range n {
			g.release(g.open(fmt.Sprint(i), expiry(1)).Lease)
		}
		time.Sleep(time.Second)
		ended := 0
		for ended < n {
			due, wait, err := g.Due(t.Context(), g.id, 1000)
			if g.must(err); len(due) == 0 || ended+len(due) < n && wait != 0 {
				t.Fatalf("after %d: %d chores, wait %v", ended, len(due), wait)
			}
			ended += len(due)
			g.must(g.Finish(t.Context(), due))
		}
		if due, wait, _ := g.Due(t.Context(), g.id, 1000); len(due) != 0 || wait != longestWait {
			t.Errorf("%d chores left, wait %v", len(due), wait)
		}
	})
}

// TestNothingIsLeftOfASession ends sessions that have something of everything.
func TestNothingIsLeftOfASession(t *testing.T) {
	g := newGate(t, Options{})
	for i := range 50 {
		o := g.open(fmt.Sprint("c", i%10), will(5))
		g.subscribe(o.Lease, "a/#", "b", "$share/g/a/#", fmt.Sprintf("$share/g/%d", i))
		g.append(numbered("a/b", 0, 10)...)
		m := text("b", "x", 2)
		m.ID = backend.PublishID{Client: o.Lease.Client, Incarnation: o.Incarnation, PacketID: uint16(i)}
		g.append(m)
		if i%2 == 0 {
			g.release(o.Lease)
		}
	}
	for i := range 10 {
		_, due, err := g.Destroy(t.Context(), backend.ClientID(fmt.Sprint("c", i)))
		g.must(err)
		g.must(g.Finish(t.Context(), due))
	}
	g.chores.finish(g.chores.take(1<<62, 1<<30))
	sessions := 0
	for i := range g.shards {
		sessions += len(g.shards[i].sessions)
	}
	subs, groups := g.index.Len()
	if n := sessions + subs + groups + len(g.timers.heap) + len(g.node(g.id).attached) + len(g.chores.byID) + len(g.chores.heap); n != 0 {
		t.Errorf("left: %d sessions, %d subscriptions, %d groups, %d timers, %d attached, %d chores", sessions, subs, groups, len(g.timers.heap), len(g.node(g.id).attached), len(g.chores.byID))
	}
	// Identities are remembered a little longer.
	g.strangers.forget(g.now() + keepStrangers)
	if len(g.strangers.byWho) != 0 || g.strangers.order != nil {
		t.Errorf("left: %d publishers", len(g.strangers.byWho))
	}
}

// TestIdentitiesOutliveTheirSession repeats a QoS 2 publish whose session has
// ended, and one whose session was never there [MQTT-4.3.3-10].
func TestIdentitiesOutliveTheirSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, Options{})
		reader := g.open("reader", expiry(backend.NeverExpires))
		g.subscribe(reader.Lease, "a")
		o := g.open("publisher", ephemeral)
		known, unknown := text("a", "known", 2), text("a", "unknown", 2)
		known.ID = backend.PublishID{Client: "publisher", Incarnation: o.Incarnation, PacketID: 1}
		unknown.ID = backend.PublishID{Client: "nobody", Incarnation: 99, PacketID: 1}
		if out := g.append(known, unknown); out[0].Duplicate || out[1].Duplicate {
			t.Errorf("first: %+v", out)
		}
		g.release(o.Lease)
		time.Sleep(keepStrangers - time.Second)
		if out := g.append(known, unknown); !out[0].Duplicate || !out[1].Duplicate {
			t.Errorf("again: %+v", out)
		}
		if got := g.inbox(reader.Lease); !slices.Equal(got, []string{"known", "unknown"}) {
			t.Errorf("inbox %q", got)
		}
	})
}

func TestStrangersAreBounded(t *testing.T) {
	var s strangers
	s.init()
	for i := range maxStrangers + 10 {
		s.get(publisher{"p", uint64(i)}, 0)
	}
	if len(s.byWho) != maxStrangers || len(s.order) != maxStrangers {
		t.Errorf("%d, %d publishers are remembered", len(s.byWho), len(s.order))
	}
}

// TestDropOldestPolicy checks the policy from end to end; the details are in
// TestFullInbox.
func TestDropOldestPolicy(t *testing.T) {
	g := newGate(t, Options{InboxMessages: 3, InboxFull: DropOldest})
	o := g.open("client")
	g.subscribe(o.Lease, "a")
	lost := 0
	for _, out := range g.append(numbered("a", 0, 10)...) {
		lost += out.Refused
	}
	if got := g.inbox(o.Lease); lost != 7 || !slices.Equal(got, numbers(7, 10)) {
		t.Errorf("%d lost, left %q", lost, got)
	}
}

func TestOptions(t *testing.T) {
	g := newGate(t, Options{})
	if g.options.InboxMessages != 10_000 || g.options.InboxBytes != 64<<20 || g.options.Subscriptions != 1000 ||
		g.options.RetainedMessages != 1_000_000 || g.options.RetainedBytes != 1<<30 {
		t.Errorf("defaults %+v", g.options)
	}
	g = newGate(t, Options{InboxMessages: -1, InboxBytes: -1, Subscriptions: -1, RetainedMessages: -1, RetainedBytes: -1})
	o := g.open("client")
	filters := make([]string, 2000)
	for i := range filters {
		filters[i] = fmt.Sprint("t", i)
	}
	g.subscribe(o.Lease, filters...)
	for _, out := range g.append(numbered("t1", 0, 11_000)...) {
		if out.Refused != 0 {
			t.Fatal("refused without a limit")
		}
	}
	g.must(g.Retain(t.Context(), []*backend.Message{text("r", "x", 0)}))
}

func TestPeersAreClosedOnTheirOwn(t *testing.T) {
	s := NewStore(Options{})
	p := s.Peer()
	g := joinStore(t, p, "gateway", time.Hour)
	o := g.open("client")
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := s.Advance(t.Context(), o.Lease, backend.Progress{}); !errors.Is(err, backend.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	g.must(p.Advance(t.Context(), o.Lease, backend.Progress{}))
}

func TestCancelledContext(t *testing.T) {
	g := newGate(t, Options{})
	o := g.open("client")
	g.subscribe(o.Lease, "a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := g.Append(ctx, []*backend.Message{text("a", "x", 1)}, make([]backend.Append, 1))
	if !errors.Is(err, context.Canceled) || !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("Append: %v", err)
	}
	if got := g.inbox(o.Lease); len(got) != 0 {
		t.Errorf("inbox %q", got)
	}
}

func TestSubscriptionsOfASession(t *testing.T) {
	var l subscriptions
	const n = 5 * shortList
	for i := range n {
		sub := backend.Subscription{Filter: fmt.Sprint(i), QoS: 1}
		if l.set(sub) || !l.set(sub) {
			t.Fatalf("%d: set tells wrongly", i)
		}
	}
	if got := l.growth([]backend.Subscription{{Filter: "0"}, {Filter: "new"}, {Filter: "new"}}); got != 1 {
		t.Errorf("growth %d, want 1", got)
	}
	for i := range n {
		if l.find(fmt.Sprint(i)) < 0 || !l.delete(fmt.Sprint(i)) || l.delete(fmt.Sprint(i)) || l.find(fmt.Sprint(i)) >= 0 {
			t.Fatalf("%d: delete tells wrongly", i)
		}
		for j := i + 1; j < n; j++ {
			if at := l.find(fmt.Sprint(j)); at < 0 || l.list[at].Filter != fmt.Sprint(j) {
				t.Fatalf("%d is lost with %d", j, i)
			}
		}
	}
}
