package redis

import (
	"errors"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sluice-mqtt/sluice/backend"
)

// TestBackUnderItsName: who finds that a gateway's lease has ended and takes its
// time to reap it takes nothing from the gateway that has come back meanwhile.
func TestBackUnderItsName(t *testing.T) {
	p := newPair(t, nil)
	ctx, keys := t.Context(), p.b.keys
	old := openSession(t, p.a, "a", "c", subscription("a"))
	run := p.direct.Get(ctx, keys.run("a")).Val()
	ends := p.direct.Time(ctx).Val().UnixMilli()
	if err := p.direct.ZAdd(ctx, keys.nodes(), goredis.Z{Score: float64(ends), Member: "a"}).Err(); err != nil {
		t.Fatal(err)
	}
	late := dead{"a", ends, firstTicket(ends)}
	if err := p.a.Renew(ctx, "a"); !errors.Is(err, backend.ErrFenced) {
		t.Fatalf("Renew after the end: %v", err)
	}

	join(t, p.a, "a")
	again := openSession(t, p.a, "a", "c")
	if _, err := p.b.settle(ctx, []backend.ClientID{"c"}, late, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := p.b.runOne(ctx, unnameScript, []string{keys.run("a")}, run); err != nil {
		t.Fatal(err)
	}
	if left, err := p.b.reap(ctx, late); left || err != nil {
		t.Errorf("reap: left %v, %v", left, err)
	}
	appendTo(t, p.b, message("a", "1"))
	wantInbox(t, p.a, again.Lease, "1")
	if _, _, err := p.a.Fetch(ctx, old.Lease, 0, 1, 1); !errors.Is(err, backend.ErrFenced) && !errors.Is(err, backend.ErrNotOwner) {
		t.Errorf("the old lease: %v", err)
	}
	openSession(t, p.a, "a", "other")

	// Without the name of its run it could not note anybody.
	if err := p.direct.Del(ctx, keys.run("a")).Err(); err != nil {
		t.Fatal(err)
	}
	if err := p.a.Renew(ctx, "a"); !errors.Is(err, backend.ErrFenced) {
		t.Errorf("Renew without a run: %v, want fenced", err)
	}
}
