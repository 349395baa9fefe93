package redis

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/backendtest"
)

var readsLine = regexp.MustCompile(`total_reads_processed:(\d+)`)

// What clients cost the server that connect at the same time, and whose sessions
// end with their connections: one command that looks, one that writes, and only
// a share of the scripts, of other writes and of what it reads from its sockets.
func TestCostOfConnect(t *testing.T) {
	const clients = 400
	ctx := context.Background()
	srv := startServer(t, "--appendonly", "no")
	o := optionsFor(t, srv.url(), backendtest.StoreOptions{})
	o.patience = suitePatience
	s := open(t, o)
	join(t, s, "node")
	openSession(t, s, "node", "first") // the server has the scripts now
	direct := srv.direct(t)
	reads := func() int {
		text, err := direct.Info(ctx, "stats").Result()
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(readsLine.FindStringSubmatch(text)[1])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before, readBefore, began := workOf(t, direct), reads(), time.Now()
	var all sync.WaitGroup
	leases := make([]backend.Lease, clients)
	for i := range clients {
		all.Go(func() {
			r := backend.OpenRequest{Client: backend.ClientID(fmt.Sprint("c", i)), Node: "node", CleanStart: true}
			o, err := s.Open(ctx, r)
			if err != nil {
				t.Error(err)
				return
			}
			leases[i] = o.Lease
		})
	}
	all.Wait()
	after, read, took := workOf(t, direct), reads()-readBefore, time.Since(began)
	// Whoever follows the index, or looks whether the server is well, does so
	// meanwhile.
	idle := 40 + int(took/(10*time.Millisecond))
	for command, most := range map[string]int{"evalsha": clients + idle, "hset": clients + clients*3/4 + idle, "exists": clients, "hmget": idle, "hgetall": idle} {
		if n := after.calls[command] - before.calls[command]; n > most {
			t.Errorf("%d times %s, want %d at most", n, command, most)
		}
	}
	if most := clients + idle; read > most {
		t.Errorf("%d reads for %d clients, want %d at most", read, clients, most)
	}
	t.Logf("%d reads for %d clients, %d scripts", read, clients, after.calls["evalsha"]-before.calls["evalsha"])
	costOfGoing(t, s, direct, leases)
}

// costOfGoing is the same for when they go: a script each, which ends what has
// to be told of that, a share of others, and nobody who looks after them later.
func costOfGoing(t *testing.T, s peered, direct *goredis.Client, leases []backend.Lease) {
	ctx := context.Background()
	if t.Failed() {
		return
	}
	before, began := workOf(t, direct), time.Now()
	var all sync.WaitGroup
	for _, l := range leases {
		all.Go(func() {
			due, err := s.Release(ctx, l, backend.ReleaseRequest{})
			if err == nil {
				err = s.Finish(ctx, due)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	after, took := workOf(t, direct), time.Since(began)
	idle := 40 + int(took/(10*time.Millisecond))
	if n, most := after.calls["evalsha"]-before.calls["evalsha"], 2*len(leases)+idle; n > most {
		t.Errorf("%d scripts for %d clients that go, want %d at most", n, len(leases), most)
	}
	for b := range dueBuckets {
		if n := direct.ZCard(ctx, s.keys.due(b)).Val(); n != 0 {
			t.Errorf("%d clients come up again", n)
		}
	}
	t.Logf("%d scripts for %d clients that go", after.calls["evalsha"]-before.calls["evalsha"], len(leases))
}
