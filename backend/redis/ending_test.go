package redis

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

// TestEndTogether: sessions that end with their connections, many at once, are
// each as if it had ended alone, whatever it had.
func TestEndTogether(t *testing.T) {
	const clients = 160
	p := newPair(t, nil)
	ctx := t.Context()
	leases, want := make([]backend.Lease, clients), make([][]backend.ChoreKind, clients)
	for i := range leases {
		r := backend.OpenRequest{Client: backend.ClientID(fmt.Sprint("c", i)), Node: "a"}
		if i%3 == 0 {
			r.Will = &backend.Will{Message: message("will", fmt.Sprint(i))}
		}
		o, err := p.a.Open(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		leases[i] = o.Lease
		switch i % 4 {
		case 1:
			_, err = p.a.Subscribe(ctx, o.Lease, []backend.Subscription{subscription("a")}, nil)
		case 2:
			_, err = p.a.Subscribe(ctx, o.Lease, []backend.Subscription{subscription("$share/g/a")}, nil)
		case 3: // another connection has it
			s, node := p.b, backend.NodeID("b")
			if i%8 == 3 {
				s, node = p.a, "a"
			}
			if o, err = s.Open(ctx, backend.OpenRequest{Client: r.Client, Node: node}); err == nil {
				defer func() {
					if _, err := s.Release(ctx, o.Lease, backend.ReleaseRequest{}); err != nil {
						t.Errorf("client %d, the newer connection: %v", i, err)
					}
				}()
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if want[i] = []backend.ChoreKind{backend.ChoreEnded}; i%3 == 0 && i%2 == 0 {
			want[i] = []backend.ChoreKind{backend.ChoreWill, backend.ChoreEnded}
		}
	}
	var all sync.WaitGroup
	for i, l := range leases {
		all.Go(func() {
			due, err := p.a.Release(ctx, l, backend.ReleaseRequest{KeepWill: i%2 == 0})
			if i%4 == 3 {
				if !errors.Is(err, backend.ErrFenced) {
					t.Errorf("client %d: %v, want ErrFenced", i, err)
				}
				return
			}
			got := make([]backend.ChoreKind, len(due))
			for j, ch := range due {
				got[j] = ch.Kind
			}
			if err != nil || fmt.Sprint(got) != fmt.Sprint(want[i]) {
				t.Errorf("client %d: chores %v, %v; want %v", i, got, err, want[i])
			}
			if dueOf(t, p.a, l.Client) == 0 {
				t.Errorf("client %d: nobody looks whether that is told", i)
			}
			if err := p.a.Finish(ctx, due); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
			left, err := p.direct.Keys(ctx, string(p.a.keys.session(l.Client))+"*").Result()
			if err != nil || len(left) != 0 {
				t.Errorf("client %d: left are %q, %v", i, left, err)
			}
		})
	}
	all.Wait()
	listed, err := p.direct.HLen(ctx, p.a.keys.clients("a")).Result()
	if err != nil || listed != clients/8 {
		t.Errorf("%d clients are in the list of the gateway, %v; want the %d whose newer connection it has", listed, err, clients/8)
	}
	members, err := p.direct.HLen(ctx, p.a.keys.group("$share/g/a").members()).Result()
	if err != nil || members != 0 {
		t.Errorf("%d members are left in the shared group, %v", members, err)
	}
}

// TestEndUntold: a gateway that dies when it has ended a session has another one
// tell of that.
func TestEndUntold(t *testing.T) {
	t.Parallel() // it waits for a claim to end
	p := newPair(t, nil)
	ctx := t.Context()
	o, err := p.a.Open(ctx, backend.OpenRequest{Client: "c", Node: "a"})
	if err != nil {
		t.Fatal(err)
	}
	stop(t, p, p.a, endScript, func() error {
		_, err := p.a.Release(ctx, o.Lease, backend.ReleaseRequest{})
		return err
	})
	if err := p.b.Leave(ctx, "a"); err != nil { // as its lease ends
		t.Fatal(err)
	}
	waitFor(t, "the end of the session", func() bool {
		due, _, err := p.b.Due(ctx, "b", 10)
		return err == nil && len(due) == 1 && due[0].Kind == backend.ChoreEnded && due[0].Client == "c"
	})
}
