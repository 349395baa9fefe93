package redis

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

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
	for i := range clients {
		all.Go(func() {
			r := backend.OpenRequest{Client: backend.ClientID(fmt.Sprint("c", i)), Node: "node", CleanStart: true}
			if _, err := s.Open(ctx, r); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	after, read, took := workOf(t, direct), reads()-readBefore, time.Since(began)
	// Whoever follows the index, or looks whether the server is well, does so
	// meanwhile.
	idle := 40 + int(took/(10*time.Millisecond))
	for command, most := range map[string]int{"evalsha": clients/2 + idle, "hset": clients + clients/2 + idle, "exists": clients, "hmget": idle, "hgetall": idle} {
		if n := after.calls[command] - before.calls[command]; n > most {
			t.Errorf("%d times %s, want %d at most", n, command, most)
		}
	}
	if most := clients + idle; read > most {
		t.Errorf("%d reads for %d clients, want %d at most", read, clients, most)
	}
	t.Logf("%d reads for %d clients, %d scripts", read, clients, after.calls["evalsha"]-before.calls["evalsha"])
}
