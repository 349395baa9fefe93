package redis

import (
	"context"
	"errors"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/backendtest"
)

// TestFullSessions: what sessions can do while the server has no room at all, as
// docs/redis.md says it. What is refused may be allowed one day; what works has to
// stay.
func TestFullSessions(t *testing.T) {
	ctx := context.Background()
	end := uint32(0)
	shared := subscription("$share/g/b")
	type session struct {
		at     *backend.Opened
		client backend.ClientID
	}
	reopen := func(clean bool) func(s peered, x session) error {
		return func(s peered, x session) error {
			_, err := s.Open(ctx, backend.OpenRequest{Client: x.client, Node: "node", Expiry: 3600, CleanStart: clean})
			return err
		}
	}
	release := func(r backend.ReleaseRequest) func(s peered, x session) error {
		return func(s peered, x session) error { _, err := s.Release(ctx, x.at.Lease, r); return err }
	}
	unsubscribe := func(filters ...string) func(s peered, x session) error {
		return func(s peered, x session) error { _, err := s.Unsubscribe(ctx, x.at.Lease, filters); return err }
	}
	subscribe := func(sub backend.Subscription) func(s peered, x session) error {
		return func(s peered, x session) error {
			_, err := s.Subscribe(ctx, x.at.Lease, []backend.Subscription{sub}, nil)
			return err
		}
	}
	plain, member := []backend.Subscription{subscription("a")}, []backend.Subscription{subscription("a"), shared}
	for _, tt := range []struct {
		name  string
		subs  []backend.Subscription
		away  bool // its connection has gone before
		do    func(s peered, x session) error
		works bool
	}{
		{"come back", plain, true, reopen(false), true},
		{"come back, with a shared subscription", member, true, reopen(false), false},
		{"take over", plain, false, reopen(false), true},
		{"take over, with a shared subscription", member, false, reopen(false), false},
		{"another, for its connection", plain, true, func(s peered, _ session) error {
			_, err := s.Open(ctx, backend.OpenRequest{Client: "new", Node: "node"})
			return err
		}, false},
		{"take messages", plain, false, func(s peered, x session) error {
			list, _, err := s.Fetch(ctx, x.at.Lease, 0, 10, 1<<20)
			if err == nil && len(list) != 1 {
				t.Errorf("%d messages wait, want 1", len(list))
			}
			if err != nil {
				return err
			}
			return s.Advance(ctx, x.at.Lease, backend.Progress{Base: list[0].Seq})
		}, true},
		{"begin anew", plain, true, reopen(true), false},
		{"begin anew, with a shared subscription", member, true, reopen(true), false},
		{"begin anew, without subscriptions", nil, true, reopen(true), true},
		{"end, without subscriptions", nil, false, release(backend.ReleaseRequest{Expiry: &end}), true},
		{"retain", plain, false, func(s peered, _ session) error {
			return s.Retain(ctx, []*backend.Message{{Topic: "r", Payload: []byte("x"), Retain: true}})
		}, false},
		{"append", plain, false, func(s peered, _ session) error {
			return s.Append(ctx, []*backend.Message{message("a", "x")}, make([]backend.Append, 1))
		}, false},
		{"go", plain, false, release(backend.ReleaseRequest{}), true},
		{"go, with a shared subscription", member, false, release(backend.ReleaseRequest{}), false},
		{"end", plain, false, release(backend.ReleaseRequest{Expiry: &end}), false},
		{"end, with a shared subscription", member, false, release(backend.ReleaseRequest{Expiry: &end}), false},
		{"unsubscribe", plain, false, unsubscribe("a"), false},
		{"leave a shared subscription", member, false, unsubscribe("$share/g/b"), false},
		{"subscribe", plain, false, subscribe(subscription("c")), false},
		{"subscribe again", plain, false, subscribe(subscription("a")), false},
		{"join a shared subscription", plain, false, subscribe(shared), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := startServer(t)
			s := open(t, optionsFor(t, srv.url(), backendtest.StoreOptions{}))
			join(t, s, "node")
			x := session{openSession(t, s, "node", "one", tt.subs...), "one"}
			openSession(t, s, "node", "other", member...)
			appendTo(t, s, message("a", "waits"))
			if tt.away {
				if _, err := s.Release(ctx, x.at.Lease, backend.ReleaseRequest{}); err != nil {
					t.Fatal(err)
				}
			}
			limitMemory(t, srv, -1<<20) // no room for anything
			err := tt.do(s, x)
			if tt.works != (err == nil) || err != nil && !errors.Is(err, backend.ErrUnavailable) {
				t.Errorf("%v; works is to be %v", err, tt.works)
			}
		})
	}
}
