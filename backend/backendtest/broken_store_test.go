package backendtest

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// brokenStore is a store that breaks one promise: each function, if set, bends
// the arguments of a call before, or the results after it.
type brokenStore struct {
	backend.Store
	fault *storeFault
}

// storeFault is one way to break a promise, and the case that must notice.
type storeFault struct {
	name    string
	notices string // the case, as group/name

	context   func(context.Context) context.Context
	join      func(*backend.Node, *time.Duration)
	renew     func(error) error
	open      func(*backend.OpenRequest)
	opened    func(*backend.Opened)
	subscribe func(subs, replay []backend.Subscription) (s, r []backend.Subscription)
	existed   func([]bool)
	release   func(*backend.ReleaseRequest)
	chores    func([]backend.Chore) []backend.Chore // of Open and Release
	lease     func(error) error                     // of Advance and Forget
	standing  func(*backend.Standing)
	msgs      func([]*backend.Message) []*backend.Message
	appended  func([]backend.Append)
	enqueued  func(uint64) uint64
	page      func(*int)
	fetched   func([]backend.Entry, *bool) []backend.Entry
	progress  func(*backend.Progress)
	forget    func([]uint16) []uint16
	taken     func([]backend.Entry, *bool) []backend.Entry
	requeue   func(from *backend.ClientID)
	retain    func([]*backend.Message) []*backend.Message
	matched   func(filter string, list []*backend.Message, more *bool) []*backend.Message
	due       func([]backend.Chore) []backend.Chore
	finish    func([]backend.Chore) []backend.Chore
	shares    func(bool) bool
}

func (b *brokenStore) ctx(ctx context.Context) context.Context {
	if f := b.fault.context; f != nil {
		return f(ctx)
	}
	return ctx
}

func (b *brokenStore) Join(ctx context.Context, n backend.Node, ttl time.Duration) error {
	if f := b.fault.join; f != nil {
		f(&n, &ttl)
	}
	return b.Store.Join(b.ctx(ctx), n, ttl)
}

func (b *brokenStore) Renew(ctx context.Context, id backend.NodeID) error {
	err := b.Store.Renew(ctx, id)
	if f := b.fault.renew; f != nil {
		err = f(err)
	}
	return err
}

func (b *brokenStore) Open(ctx context.Context, r backend.OpenRequest) (*backend.Opened, error) {
	if f := b.fault.open; f != nil {
		f(&r)
	}
	o, err := b.Store.Open(ctx, r)
	if err != nil {
		return nil, err
	}
	if f := b.fault.opened; f != nil {
		f(o)
	}
	if f := b.fault.chores; f != nil {
		o.Due = f(o.Due)
	}
	return o, nil
}

func (b *brokenStore) Subscribe(ctx context.Context, l backend.Lease, subs, replay []backend.Subscription) ([]bool, error) {
	if f := b.fault.subscribe; f != nil {
		subs, replay = f(slices.Clone(subs), replay)
	}
	existed, err := b.Store.Subscribe(ctx, l, subs, replay)
	if f := b.fault.existed; f != nil {
		f(existed)
	}
	return existed, err
}

func (b *brokenStore) Release(ctx context.Context, l backend.Lease, r backend.ReleaseRequest) ([]backend.Chore, error) {
	if f := b.fault.release; f != nil {
		f(&r)
	}
	due, err := b.Store.Release(ctx, l, r)
	if f := b.fault.chores; f != nil {
		due = f(due)
	}
	return due, err
}

func (b *brokenStore) Append(ctx context.Context, msgs []*backend.Message, out []backend.Append) error {
	if f := b.fault.msgs; f != nil {
		msgs = f(slices.Clone(msgs))
		out = out[:len(msgs)]
	}
	err := b.Store.Append(ctx, msgs, out)
	if f := b.fault.appended; f != nil {
		f(out)
	}
	return err
}

func (b *brokenStore) Requeue(ctx context.Context, from backend.ClientID, e []backend.Entry, out []backend.Append) error {
	if f := b.fault.requeue; f != nil {
		f(&from)
	}
	return b.Store.Requeue(ctx, from, e, out)
}

func (b *brokenStore) Enqueue(ctx context.Context, l backend.Lease, e []backend.Entry) (uint64, error) {
	first, err := b.Store.Enqueue(ctx, l, e)
	if f := b.fault.enqueued; f != nil {
		first = f(first)
	}
	return first, err
}

func (b *brokenStore) Fetch(ctx context.Context, l backend.Lease, after uint64, limit, maxBytes int) ([]backend.Entry, bool, error) {
	if f := b.fault.page; f != nil {
		f(&limit)
	}
	list, more, err := b.Store.Fetch(ctx, l, after, limit, maxBytes)
	if f := b.fault.fetched; f != nil {
		list = f(list, &more)
	}
	return list, more, err
}

func (b *brokenStore) Advance(ctx context.Context, l backend.Lease, p backend.Progress) error {
	if f := b.fault.progress; f != nil {
		f(&p)
	}
	err := b.Store.Advance(ctx, l, p)
	if f := b.fault.lease; f != nil {
		err = f(err)
	}
	return err
}

func (b *brokenStore) Forget(ctx context.Context, l backend.Lease, ids []uint16) error {
	if f := b.fault.forget; f != nil {
		ids = f(ids)
	}
	return b.Store.Forget(ctx, l, ids)
}

func (b *brokenStore) Review(ctx context.Context, leases []backend.Lease, out []backend.Standing) error {
	err := b.Store.Review(ctx, leases, out)
	for i := range out {
		if f := b.fault.standing; f != nil {
			f(&out[i])
		}
	}
	return err
}

func (b *brokenStore) TakeShared(ctx context.Context, l backend.Lease, filter string, limit int) ([]backend.Entry, bool, error) {
	list, more, err := b.Store.TakeShared(ctx, l, filter, limit)
	if f := b.fault.taken; f != nil {
		list = f(list, &more)
	}
	return list, more, err
}

func (b *brokenStore) Retain(ctx context.Context, msgs []*backend.Message) error {
	if f := b.fault.retain; f != nil {
		msgs = f(slices.Clone(msgs))
	}
	return b.Store.Retain(ctx, msgs)
}

func (b *brokenStore) Match(ctx context.Context, filter, after string, limit int) ([]*backend.Message, bool, error) {
	list, more, err := b.Store.Match(ctx, filter, after, limit)
	if f := b.fault.matched; f != nil {
		list = f(filter, list, &more)
	}
	return list, more, err
}

func (b *brokenStore) Due(ctx context.Context, node backend.NodeID, limit int) ([]backend.Chore, time.Duration, error) {
	list, wait, err := b.Store.Due(ctx, node, limit)
	if f := b.fault.due; f != nil {
		list = f(list)
	}
	return list, wait, err
}

func (b *brokenStore) Finish(ctx context.Context, done []backend.Chore) error {
	if f := b.fault.finish; f != nil {
		done = f(done)
	}
	return b.Store.Finish(ctx, done)
}

func (b *brokenStore) Shares(topic string) bool {
	yes := b.Store.Shares(topic)
	if f := b.fault.shares; f != nil {
		yes = f(yes)
	}
	return yes
}

// each returns a copy of msgs, changed one by one.
func each(change func(*backend.Message)) func([]*backend.Message) []*backend.Message {
	return func(msgs []*backend.Message) []*backend.Message {
		for i, m := range msgs {
			c := *m
			change(&c)
			msgs[i] = &c
		}
		return msgs
	}
}

// storeFaultTable is made anew for every process: some count calls.
func storeFaultTable() []*storeFault {
	var mu sync.Mutex
	calls := 0
	var earlier []backend.Chore
	every := func(n int) bool {
		mu.Lock()
		defer mu.Unlock()
		calls++
		return calls%n == 0
	}
	subscription := func(change func(*backend.Subscription)) func(s, r []backend.Subscription) ([]backend.Subscription, []backend.Subscription) {
		return func(subs, replay []backend.Subscription) ([]backend.Subscription, []backend.Subscription) {
			for i := range subs {
				change(&subs[i])
			}
			return subs, replay
		}
	}
	return []*storeFault{
		{name: "none"}, // or the suite fails for another reason
		{name: "lease too long", notices: "nodes/reaped", join: func(_ *backend.Node, ttl *time.Duration) { *ttl *= 100 }},
		{name: "lease too short", notices: "nodes/not reaped early", join: func(_ *backend.Node, ttl *time.Duration) { *ttl = *ttl * 3 / 5 }},
		{name: "renew always good", notices: "nodes/renew after the end", renew: func(error) error { return nil }},
		{name: "cancelled context ignored", notices: "calls/cancelled context", context: context.WithoutCancel},
		{name: "load ignored", notices: "shared/member that takes nothing", join: func(n *backend.Node, _ *time.Duration) { n.Load = nil }},
		{name: "clean start ignored", notices: "sessions/clean start", open: func(r *backend.OpenRequest) { r.CleanStart = false }},
		{name: "always clean", notices: "sessions/resume", open: func(r *backend.OpenRequest) { r.CleanStart = true }},
		{name: "principal ignored", notices: "sessions/principal", open: func(r *backend.OpenRequest) { r.Principal = "" }},
		{name: "never expires", notices: "expiry/ends", open: func(r *backend.OpenRequest) { r.Expiry = backend.NeverExpires }},
		{name: "longest expiry taken for none", notices: "expiry/never", open: func(r *backend.OpenRequest) { r.Expiry %= 1<<31 - 1 }},
		{name: "will without delay", notices: "wills/when due", open: func(r *backend.OpenRequest) {
			if r.Will != nil {
				w := *r.Will
				w.Delay = 0
				r.Will = &w
			}
		}},
		{name: "will without expiry", notices: "wills/message", open: func(r *backend.OpenRequest) {
			if r.Will != nil {
				w := *r.Will
				w.MessageExpiry = nil
				r.Will = &w
			}
		}},
		{name: "will lost", notices: "wills/when due", release: func(r *backend.ReleaseRequest) { r.KeepWill = false }},
		{name: "will kept", notices: "wills/when due", release: func(r *backend.ReleaseRequest) { r.KeepWill = true }},
		{name: "expiry of release ignored", notices: "sessions/release replaces expiry", release: func(r *backend.ReleaseRequest) { r.Expiry = nil }},
		{name: "sent ignored", notices: "sessions/sent after release", release: func(r *backend.ReleaseRequest) { r.Sent = 0 }},
		{name: "sent forgotten at takeover", notices: "sessions/sent after a crash", opened: func(o *backend.Opened) {
			if o.Previous.Epoch != 0 {
				o.Sent = 0
			}
		}},
		{name: "no previous", notices: "sessions/two at once", opened: func(o *backend.Opened) { o.Previous = backend.Lease{} }},
		{name: "one incarnation", notices: "sessions/incarnation", opened: func(o *backend.Opened) { o.Incarnation = 1 }},
		{name: "replays lost", notices: "replays/until done", subscribe: func(s, _ []backend.Subscription) ([]backend.Subscription, []backend.Subscription) { return s, nil }},
		{name: "everything replayed", notices: "replays/only what was named", subscribe: func(s, _ []backend.Subscription) ([]backend.Subscription, []backend.Subscription) { return s, s }},
		{name: "existed never", notices: "subscriptions/existed", existed: func(e []bool) { clear(e) }},
		{name: "no local ignored", notices: "append/no local", subscribe: subscription(func(s *backend.Subscription) { s.NoLocal = false })},
		{name: "retain as published ignored", notices: "append/retain as published", subscribe: subscription(func(s *backend.Subscription) { s.RetainAsPublished = false })},
		{name: "identifiers lost", notices: "append/overlapping", subscribe: subscription(func(s *backend.Subscription) { s.ID = 0 })},
		{name: "QoS not lowered", notices: "append/effective QoS", subscribe: subscription(func(s *backend.Subscription) { s.QoS = 2 })},
		{name: "subscription lost now and then", notices: "subscriptions/live on return", subscribe: func(s, r []backend.Subscription) ([]backend.Subscription, []backend.Subscription) {
			if every(100) {
				s[0].Filter = "lost"
			}
			return s, r
		}},
		{name: "identity ignored", notices: "qos2/once", msgs: each(func(m *backend.Message) { m.ID = backend.PublishID{} })},
		{name: "identity without generation", notices: "qos2/generation", msgs: each(func(m *backend.Message) { m.ID.Generation = 0 })},
		{name: "identity without incarnation", notices: "qos2/incarnation", msgs: each(func(m *backend.Message) { m.ID.Incarnation = 1 })},
		{name: "nothing forgotten", notices: "qos2/several identifiers", forget: func([]uint16) []uint16 { return nil }},
		{name: "batch reversed", notices: "append/order", msgs: func(m []*backend.Message) []*backend.Message { slices.Reverse(m); return m }},
		{name: "one in 500 lost", notices: "concurrency/model", msgs: func(m []*backend.Message) []*backend.Message {
			if every(500) {
				m[0] = text("lost", "", 1)
			}
			return m
		}},
		{name: "one in 500 twice", notices: "concurrency/subscribing while publishing", fetched: func(e []backend.Entry, _ *bool) []backend.Entry {
			if len(e) > 2 && every(20) {
				e[1] = e[0]
			}
			return e
		}},
		{name: "targets forgotten", notices: "append/outcome", appended: func(out []backend.Append) {
			for i := range out {
				out[i].Targets = nil
			}
		}},
		{name: "target without epoch", notices: "append/outcome", appended: func(out []backend.Append) {
			for i := range out {
				for k := range out[i].Targets {
					out[i].Targets[k].Epoch = 0
				}
			}
		}},
		{name: "refusals not counted", notices: "limits/by messages", appended: func(out []backend.Append) {
			for i := range out {
				out[i].Refused = 0
			}
		}},
		{name: "inbox that was lost is trimmed", notices: "inboxes/advance beyond the end", lease: func(error) error { return nil }},
		{name: "places given out again", notices: "sent/beyond the end", release: func(r *backend.ReleaseRequest) { r.Sent = 0 }},
		{name: "page longer than asked", notices: "inboxes/pages", page: func(limit *int) { *limit++ }},
		{name: "more at the end", notices: "inboxes/pages", fetched: func(e []backend.Entry, more *bool) []backend.Entry { *more = true; return e }},
		{name: "page without its last", notices: "inboxes/pages", fetched: func(e []backend.Entry, _ *bool) []backend.Entry { return e[:len(e)/2] }},
		{name: "released ignored", notices: "inboxes/advance released", progress: func(p *backend.Progress) { p.Released = nil }},
		{name: "done ignored", notices: "inboxes/advance done", progress: func(p *backend.Progress) { p.Done = nil }},
		{name: "base ignored", notices: "inboxes/advance base", progress: func(p *backend.Progress) { p.Base = 0 }},
		{name: "fenced in silence", notices: "fencing/by takeover", lease: func(error) error { return nil }},
		{name: "review sees no takeover", notices: "review/fenced", standing: func(s *backend.Standing) { s.Fenced = false }},
		{name: "review sees no mail", notices: "review/newest entry", standing: func(s *backend.Standing) { s.Last = 0 }},
		{name: "first of enqueue wrong", notices: "inboxes/enqueue", enqueued: func(n uint64) uint64 { return n + 1 }},
		{name: "group queue reversed", notices: "group queue/ephemeral member", taken: func(e []backend.Entry, _ *bool) []backend.Entry { slices.Reverse(e); return e }},
		{name: "group queue cut", notices: "group queue/shared among takers", taken: func(e []backend.Entry, _ *bool) []backend.Entry { return e[:min(len(e), 2)] }},
		{name: "requeue to the departed", notices: "requeue/to others", requeue: func(from *backend.ClientID) { *from = "nobody" }},
		{name: "first retained wins", notices: "retained/last in a batch", retain: func(m []*backend.Message) []*backend.Message { slices.Reverse(m); return m }},
		{name: "retained for ever", notices: "retained/expired", retain: each(func(m *backend.Message) { m.Expires = 0 })},
		{name: "empty retained kept", notices: "retained/removal", retain: each(func(m *backend.Message) {
			if len(m.Payload) == 0 {
				m.Payload = []byte(" ")
			}
		})},
		{name: "parent not matched", notices: "retained/matching", matched: func(filter string, list []*backend.Message, _ *bool) []*backend.Message {
			return slices.DeleteFunc(list, func(m *backend.Message) bool { return m.Topic+"/#" == filter })
		}},
		{name: "empty level not matched", notices: "retained/matching", matched: func(filter string, list []*backend.Message, _ *bool) []*backend.Message {
			return slices.DeleteFunc(list, func(m *backend.Message) bool {
				return strings.HasSuffix(m.Topic, "/") && strings.HasSuffix(filter, "+")
			})
		}},
		{name: "retained without more", notices: "retained/pages", matched: func(_ string, list []*backend.Message, more *bool) []*backend.Message { *more = false; return list }},
		{name: "chores handed out twice", notices: "chores/once", due: func(list []backend.Chore) []backend.Chore {
			mu.Lock()
			defer mu.Unlock()
			both := append(earlier, list...)
			earlier = list
			return both
		}},
		{name: "chores at once forgotten", notices: "chores/claimed by the caller", chores: func([]backend.Chore) []backend.Chore { return nil }},
		{name: "nothing finished", notices: "chores/again", finish: func([]backend.Chore) []backend.Chore { return nil }},
		{name: "no shares", notices: "shared/Shares", shares: func(bool) bool { return false }},
	}
}

// brokenVariable names the fault for a process of its own.
const brokenVariable = "BACKENDTEST_BROKEN"

// TestBrokenStore runs the suite on a store with one fault. It is run by
// TestSuiteNotices, in processes of their own.
func TestBrokenStore(t *testing.T) {
	name := os.Getenv(brokenVariable)
	if name == "" {
		t.Skip("run by TestSuiteNotices")
	}
	table := storeFaultTable()
	i := slices.IndexFunc(table, func(f *storeFault) bool { return f.name == name })
	TestStore(t, StoreHarness{
		Open: func(t *testing.T, o StoreOptions) backend.Store {
			return &brokenStore{openMemory(t, o), table[i]}
		},
		Peer: func(t *testing.T, of backend.Store) backend.Store {
			return &brokenStore{peerOf(t, of.(*brokenStore).Store), table[i]}
		},
		Lease:    200 * time.Millisecond,
		Patience: 3 * time.Second,
	})
}

// TestSuiteNotices shows that the suite can fail: each fault is noticed by the
// case whose promise it breaks.
func TestSuiteNotices(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the suite many times")
	}
	for _, f := range storeFaultTable() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			wantNoticed(t, "TestBrokenStore", f.name, f.notices, "promises/(sessions|fencing|subscriptions|append|inboxes|limits|qos2)/")
		})
	}
}

// wantNoticed runs the case that is to notice a fault in a process of its own,
// with the fault. For no fault, all cases that match good must pass.
func wantNoticed(t *testing.T, test, fault, notices, good string) {
	t.Helper()
	pattern := good
	if notices != "" {
		notices = "promises/" + strings.ReplaceAll(notices, " ", "_")
		pattern = strings.ReplaceAll(notices, "/", "$/^") + "$"
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+test+"$/^"+pattern, "-test.v", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), brokenVariable+"="+fault)
	out, err := cmd.CombinedOutput()
	switch {
	case notices == "" && err != nil:
		t.Errorf("without a fault: %v\n%s", err, out)
	case notices != "" && !strings.Contains(string(out), "--- FAIL: "+test+"/"+notices):
		t.Errorf("%q did not notice; %v\n%s", notices, err, out)
	}
}
