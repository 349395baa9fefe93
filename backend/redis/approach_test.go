package redis

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sluice-mqtt/sluice/backend"
)

// TestOpenTogether: sessions that many clients open at once are each as if it
// had come alone: its own will, principal and window, and what was there before.
func TestOpenTogether(t *testing.T) {
	const clients = 240
	p := newPair(t, nil)
	ctx := t.Context()
	request := func(i int) backend.OpenRequest {
		r := backend.OpenRequest{
			Client: backend.ClientID(fmt.Sprint("c", i)), Node: "a", CleanStart: i%2 == 0,
			Principal: fmt.Sprint("p", i%3), Window: uint16(i),
		}
		if i%3 == 0 {
			seconds := uint32(i)
			r.Will = &backend.Will{Message: message("will", r.Principal+string(r.Client)), Delay: uint32(i % 2), MessageExpiry: &seconds}
			if i%2 == 0 {
				r.Will.Owner = []byte(r.Client)
			}
		}
		switch i % 8 {
		case 5:
			r.Expiry = 3600
		case 6, 7: // has a session at the other gateway already
			if _, err := p.b.Open(ctx, backend.OpenRequest{Client: r.Client, Node: "b", Principal: r.Principal, Expiry: uint32(i % 8 % 2)}); err != nil {
				t.Fatal(err)
			}
		}
		return r
	}
	var all sync.WaitGroup
	requests, opened := make([]backend.OpenRequest, clients), make([]*backend.Opened, clients)
	for i := range requests {
		requests[i] = request(i)
	}
	for i, r := range requests {
		all.Go(func() {
			o, err := p.a.Open(ctx, r)
			if err != nil {
				t.Errorf("client %d: %v", i, err)
			}
			opened[i] = o
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	for i, r := range requests {
		checkMeta(t, p.a, r, opened[i])
		before := backend.NodeID("")
		if i%8 > 5 {
			before = "b"
		}
		// One of an expiry of 1 that is taken over while it is connected is
		// there still, if the client wants it.
		if o := opened[i]; o.Previous.Node != before || o.Present != (i%8 == 7 && !r.CleanStart) {
			t.Errorf("client %d: %+v", i, o)
		}
		if _, err := p.a.Release(ctx, opened[i].Lease, backend.ReleaseRequest{}); err != nil {
			t.Errorf("client %d: release: %v", i, err)
		}
	}
}

// checkMeta looks whether meta has what was asked for.
func checkMeta(t *testing.T, s peered, r backend.OpenRequest, o *backend.Opened) {
	t.Helper()
	meta, err := s.client.HGetAll(t.Context(), s.keys.session(r.Client).meta()).Result()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"epoch": fmt.Sprint(o.Lease.Epoch), "inc": fmt.Sprint(o.Incarnation), "node": "a", "principal": r.Principal,
		"expiry": fmt.Sprint(r.Expiry), "window": fmt.Sprint(r.Window), "durable": flag(o.Durable), "sent": "0",
	}
	if w := r.Will; w != nil {
		want["will"] = string(backend.AppendMessage(nil, w.Message))
		want["wdelay"], want["wexpiry"], want["wowner"] = fmt.Sprint(w.Delay), fmt.Sprint(*w.MessageExpiry), string(w.Owner)
	}
	for _, field := range []string{"epoch", "inc", "node", "principal", "expiry", "window", "durable", "sent", "will", "wdelay", "wexpiry", "wowner"} {
		if meta[field] != want[field] {
			t.Errorf("client %s: %s is %q, want %q", r.Client, field, meta[field], want[field])
		}
	}
	listed, err := s.client.HGet(t.Context(), s.keys.clients("a"), string(r.Client)).Result()
	if err != nil || listed != meta["ticket"] {
		t.Errorf("client %s: ticket %q, that of the gateway's list %q (%v)", r.Client, meta["ticket"], listed, err)
	}
}

// TestOpenTwiceAtOnce: of connections of one client that come at the same time
// each has an epoch of its own, and only the last one has the session.
func TestOpenTwiceAtOnce(t *testing.T) {
	p := newPair(t, nil)
	var all sync.WaitGroup
	var mu sync.Mutex
	leases := make(map[uint64]backend.Lease)
	for i := range 40 {
		s := p.a
		node := backend.NodeID("a")
		if i%4 == 3 {
			s, node = p.b, "b"
		}
		all.Go(func() {
			o, err := s.Open(t.Context(), backend.OpenRequest{Client: "c", Node: node, CleanStart: i%2 == 0})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			leases[o.Lease.Epoch] = o.Lease
		})
	}
	all.Wait()
	if len(leases) != 40 {
		t.Errorf("%d epochs, want 40", len(leases))
	}
	last := uint64(0)
	for epoch := range leases {
		last = max(last, epoch)
	}
	for epoch, l := range leases {
		if _, err := p.a.Subscribe(t.Context(), l, nil, nil); errors.Is(err, backend.ErrFenced) != (epoch != last) {
			t.Errorf("lease of epoch %d, the last is %d: %v", epoch, last, err)
		}
	}
}

// TestBeginFenced: a gateway whose lease ends, or whose run is gone, after a
// connection came begins no session.
func TestBeginFenced(t *testing.T) {
	p := newPair(t, nil)
	ctx := t.Context()
	n := p.a.node("a")
	a := p.a.approach(n, backend.OpenRequest{Client: "c", Node: "a"})
	if err := p.a.run(ctx, a.next()...); err != nil {
		t.Fatal(err)
	}
	n.void.Store(true) // its lease is 0 from now on
	if err := p.a.run(ctx, a.next()...); err != nil {
		t.Fatal(err)
	}
	if o, err := a.opened(); !errors.Is(err, backend.ErrFenced) || len(a.next()) != 0 {
		t.Errorf("opened %+v, %v; want ErrFenced", o, err)
	}
	n.void.Store(false)
	if err := p.b.Leave(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if o, err := p.a.Open(ctx, backend.OpenRequest{Client: "c", Node: "a"}); !errors.Is(err, backend.ErrFenced) {
		t.Errorf("opened %+v, %v; want ErrFenced", o, err)
	}
	if at, _, err := p.b.look(ctx, "c"); at != noSeat || err != nil {
		t.Errorf("there is a session at %+v, %v", at, err)
	}
}

// TestOpenGivenUp: nothing is begun for a caller that has gone, and that has
// not noted that there may be a session.
func TestOpenGivenUp(t *testing.T) {
	p := newPair(t, nil)
	a := p.a.approach(p.a.node("a"), backend.OpenRequest{Client: "c", Node: "a"})
	if err := p.a.run(t.Context(), a.next()...); err != nil {
		t.Fatal(err)
	}
	if !a.claims.CompareAndSwap(notYet, gaveUp) {
		t.Fatal("the session may be the connection's already")
	}
	if calls := a.next(); len(calls) != 0 {
		t.Errorf("goes on with %s", scriptNames[calls[0].script.sha])
	}
}

// dueOf returns when a client comes up, 0 for never.
func dueOf(t *testing.T, s peered, c backend.ClientID) float64 {
	t.Helper()
	at, err := s.client.ZScore(t.Context(), s.keys.due(bucketOf(string(c), dueBuckets)), string(c)).Result()
	if err != nil && !errors.Is(err, goredis.Nil) {
		t.Fatal(err)
	}
	return at
}

// TestFinishedAndGone: a client comes up no more when the end of its session has
// been told, but for what else there is to do.
func TestFinishedAndGone(t *testing.T) {
	p := newPair(t, nil)
	ctx := t.Context()
	openIt := func(r backend.OpenRequest) *backend.Opened {
		t.Helper()
		r.Client, r.Node = "c", "a"
		o, err := p.a.Open(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	release := func(o *backend.Opened) []backend.Chore {
		t.Helper()
		due, err := p.a.Release(ctx, o.Lease, backend.ReleaseRequest{KeepWill: true})
		if err != nil {
			t.Fatal(err)
		}
		return due
	}
	finish := func(due []backend.Chore) {
		t.Helper()
		if err := p.a.Finish(ctx, due); err != nil {
			t.Fatal(err)
		}
	}
	will := &backend.Will{Message: message("will", "")}

	due := release(openIt(backend.OpenRequest{Will: will}))
	if len(due) != 2 || dueOf(t, p.a, "c") == 0 {
		t.Fatalf("chores %+v at %v, want the will and the end, and somebody to look after them", due, dueOf(t, p.a, "c"))
	}
	finish(due[:1])
	if dueOf(t, p.a, "c") == 0 {
		t.Error("nobody looks after the other chore")
	}
	finish(due[1:])
	if at := dueOf(t, p.a, "c"); at != 0 {
		t.Errorf("comes up at %v though there is nothing left", at)
	}

	// A session that expires some time.
	finish(release(openIt(backend.OpenRequest{Will: will, Expiry: 3600})))
	if dueOf(t, p.a, "c") == 0 {
		t.Error("nobody looks when the session expires")
	}
	// One that came and went before the end of the one before was told.
	due = release(openIt(backend.OpenRequest{CleanStart: true}))
	release(openIt(backend.OpenRequest{Expiry: 3600}))
	finish(due)
	if dueOf(t, p.a, "c") == 0 {
		t.Error("nobody looks when the newer session expires")
	}
	// One that is scheduled while it is put away.
	if err := p.a.run(ctx, p.a.schedule("d", 1000), p.a.schedule("d", 2000), p.a.settled("d", 1000, 0)); err != nil {
		t.Fatal(err)
	}
	if at := dueOf(t, p.a, "d"); at != 999 {
		t.Errorf("comes up at %v, want 999: it was scheduled anew", at)
	}
}
