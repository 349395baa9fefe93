package redis

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/backendtest"
)

// scaleOf returns how many of something a test makes: few, or what SCALE says.
func scaleOf(t *testing.T, few int) int {
	text := os.Getenv("SCALE")
	if text == "" {
		return few
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1000 {
		t.Fatalf("SCALE = %q: allowed is a number from 1000 on", text)
	}
	return n
}

// measured reports whether times are to be held to their limits: on a machine
// that does other things as well they say nothing.
func measured() bool { return os.Getenv("SCALE") != "" }

// slowest is how long one call may hold up the server, and everybody else.
const slowest = 10 * time.Millisecond

// bigServer runs a server that notes each call of more than slowest, and returns
// what fails the test if there is one that takes that long every time. A call's
// time is that of a clock: what else the machine does is in it. So again, which
// makes each kind of call, on the same data, is called a few times, and only what
// is slow each time is an error.
func bigServer(t *testing.T) (srv *server, noSlow func(again func())) {
	t.Helper()
	srv = startServer(t, "--appendonly", "no", "--slowlog-log-slower-than", fmt.Sprint(slowest.Microseconds()), "--slowlog-max-len", "10000")
	direct := srv.direct(t)
	return srv, func(again func()) {
		t.Helper()
		slow := slowCalls(t, direct)
		for try := 0; try < 5 && len(slow) > 0; try++ {
			again()
			now := slowCalls(t, direct)
			for call, took := range slow {
				if n, still := now[call]; still {
					slow[call] = min(took, n)
				} else {
					delete(slow, call)
				}
			}
		}
		for call, took := range slow {
			t.Errorf("takes %v at best, more than %v: %s", took, slowest, call)
		}
	}
}

// slowCalls empties the server's log of slow calls, and returns the best time of
// each: those that read are told apart by their arguments, which are the same
// when they are repeated, all others by their script alone.
func slowCalls(t *testing.T, direct *goredis.Client) map[string]time.Duration {
	t.Helper()
	list, err := direct.SlowLogGet(t.Context(), 10_000).Result()
	if err == nil {
		err = direct.SlowLogReset(t.Context()).Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	best := make(map[string]time.Duration)
	for _, c := range list {
		call := strings.ToLower(c.Args[0])
		if name := scriptNames[c.Args[min(1, len(c.Args)-1)]]; name == "scan" || name == "dump" {
			call = name + fmt.Sprintf(" %q", c.Args[2:])
		} else if name != "" {
			call = name
		}
		t.Logf("took %v: %.300s", c.Duration, call)
		if took, known := best[call]; !known || c.Duration < took {
			best[call] = c.Duration
		}
	}
	return best
}

// atOnce calls f for 0 to n-1, some at once; on a busy machine again.
func atOnce(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	const workers = 64
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := w; i < n && !t.Failed(); i += workers {
				err := f(i)
				for try := 0; errors.Is(err, backend.ErrUnavailable) && try < 20; try++ {
					err = f(i)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// TestManySubscriptions: a gateway that joins a cluster with many durable
// subscriptions has them all, for a bounded price each, and soon sees one more
// of another gateway. No call holds up the server.
func TestManySubscriptions(t *testing.T) {
	const each = 10
	subscriptions := scaleOf(t, 20_000)
	ctx := context.Background()
	srv, noSlow := bigServer(t)
	o := optionsFor(t, "redis://"+srv.address, backendtest.StoreOptions{})
	first := open(t, o)
	join(t, first, "first")
	start := time.Now()
	atOnce(t, subscriptions/each, func(i int) error {
		client := backend.ClientID(fmt.Sprintf("device-%07d", i))
		opened, err := first.Open(ctx, backend.OpenRequest{Client: client, Node: "first", Expiry: 3600})
		if err != nil {
			return err
		}
		subs := make([]backend.Subscription, each)
		for k := range subs {
			subs[k] = backend.Subscription{Filter: fmt.Sprintf("site/%d/%s/cmd", k, client), QoS: 1}
		}
		_, err = first.Subscribe(ctx, opened.Lease, subs, nil)
		return err
	})
	t.Logf("%d subscriptions of %d sessions made in %v", subscriptions, subscriptions/each, time.Since(start).Round(time.Millisecond))
	used := parseNumber(parseInfo(srv.direct(t).Info(ctx, "memory").Val())["used_memory"])
	t.Logf("redis: %d bytes a subscription", used/uint64(subscriptions))

	before := liveBytes()
	second := open(t, o)
	start = time.Now()
	join(t, second, "second")
	took := time.Since(start)
	bytes := (liveBytes() - before) / int64(subscriptions)
	has, _ := second.replica.index.Len()
	t.Logf("a gateway: %d bytes a subscription, loaded in %v", bytes, took.Round(time.Millisecond))
	if has != subscriptions {
		t.Errorf("the index has %d subscriptions, want %d", has, subscriptions)
	}
	if bytes > 512 {
		t.Errorf("%d bytes a subscription, more than 512", bytes)
	}
	if perSecond := float64(subscriptions) / took.Seconds(); measured() && perSecond < 50_000 {
		t.Errorf("%.0f subscriptions a second are loaded, less than 50,000", perSecond)
	}

	var lags []time.Duration
	for i := range 20 {
		late := backend.ClientID(fmt.Sprint("late-", i))
		openSession(t, first, "first", late, subscription(string(late)))
		start = time.Now()
		waitFor(t, "one more subscription", func() bool {
			_, ver := second.replica.lookUp(late)
			return ver != 0
		})
		lags = append(lags, time.Since(start))
	}
	slices.Sort(lags)
	t.Logf("one more is seen after %v, at most %v", lags[len(lags)/2], lags[len(lags)-1])
	if measured() && lags[len(lags)-1] > time.Second {
		t.Errorf("one more was seen after %v", lags[len(lags)-1])
	}
	// An append does not wait for that: it looks for itself.
	at := openSession(t, first, "first", "last", subscription("last"))
	appendTo(t, second, message("last", "there"))
	wantInbox(t, first, at.Lease, "there")
	noSlow(func() {
		again := open(t, o)
		join(t, again, "again")
		openSession(t, again, "again", "once more", subscription("more"))
		appendTo(t, again, message("more", "there"))
		if err := again.Leave(ctx, "again"); err != nil {
			t.Error(err)
		}
		again.Close()
	})
}

// cost is what reads have cost the server.
type cost struct{ calls, microseconds, bytes int64 }

// costOf returns what reading all of a filter costs, and how much it finds.
func costOf(t *testing.T, s peered, direct *goredis.Client, filter string) (found int, c cost) {
	t.Helper()
	count := func() (c cost) {
		for line := range strings.Lines(direct.Info(t.Context(), "commandstats").Val()) {
			name, rest, _ := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":")
			var calls, usec int64
			if _, err := fmt.Sscanf(rest, "calls=%d,usec=%d", &calls, &usec); err != nil {
				continue
			}
			switch name {
			case "info", "ping", "del", "hmget": // of those who look after the server
			case "evalsha", "eval": // has the time of what it calls
				c.microseconds += usec
			default:
				c.calls += calls
			}
		}
		c.bytes = int64(parseNumber(parseInfo(direct.Info(t.Context(), "stats").Val())["total_net_output_bytes"]))
		return c
	}
	before := count()
	for after, more := "", true; more; {
		var page []*backend.Message
		var err error
		if page, more, err = s.Match(t.Context(), filter, after, 500); err != nil {
			t.Fatalf("Match(%q): %v", filter, err)
		}
		if found += len(page); more {
			after = page[len(page)-1].Topic
		}
	}
	now := count()
	return found, cost{now.calls - before.calls, now.microseconds - before.microseconds, now.bytes - before.bytes}
}

// TestManyRetained: what a SUBSCRIBE costs the server follows from what it
// matches, not from what there is: the same reads among ten times as many
// topics cost the same, and all of "#" in proportion.
func TestManyRetained(t *testing.T) {
	const sites = 100
	topics := scaleOf(t, 20_000)
	srv, noSlow := bigServer(t)
	direct := srv.direct(t)
	o := optionsFor(t, "redis://"+srv.address, backendtest.StoreOptions{RetainedMessages: -1, RetainedBytes: -1})
	s := open(t, o)
	join(t, s, "node")
	fill := func(from, to int) { // devices of each site
		atOnce(t, sites, func(i int) error {
			batch := []*backend.Message{{Topic: fmt.Sprintf("site%d/status", i), Payload: []byte("on"), Retain: true}}
			for k := from; k < to; k++ {
				batch = append(batch, &backend.Message{Topic: fmt.Sprintf("site%d/dev%d/state", i, k), Payload: []byte("on"), Retain: true})
				if len(batch) == 200 || k == to-1 {
					if err := s.Retain(context.Background(), batch); err != nil {
						return err
					}
					batch = nil
				}
			}
			return nil
		})
	}
	filters := []struct {
		filter string
		grows  bool // with what there is
	}{
		{"site7/status", false}, {"site7/dev9/state", false}, {"+/status", false}, {"site7/dev9/#", false}, {"+/dev9/state", false},
		{"site7/#", true}, {"#", true},
	}
	many := topics / sites
	few := many / 10
	costs := make(map[string][2]cost)
	founds := make(map[string][2]int)
	for round, size := range []int{few, many} {
		start := time.Now()
		fill(round*few, size)
		t.Logf("%d topics, filled in %v", sites*(size+1), time.Since(start).Round(time.Millisecond))
		for _, f := range filters {
			start := time.Now()
			found, c := costOf(t, s, direct, f.filter)
			t.Logf("%9d topics %-17s finds %7d: %8d commands, %9.2f ms of redis, %11d bytes, %v in all",
				sites*(size+1), f.filter, found, c.calls, float64(c.microseconds)/1000, c.bytes, time.Since(start).Round(10*time.Microsecond))
			both, n := costs[f.filter], founds[f.filter]
			both[round], n[round] = c, found
			costs[f.filter], founds[f.filter] = both, n
		}
	}
	for _, f := range filters {
		c, n := costs[f.filter], founds[f.filter]
		if !f.grows && n[0] != n[1] || f.grows && n[1] < 9*n[0] {
			t.Errorf("%s finds %d and %d", f.filter, n[0], n[1])
			continue
		}
		// The looking after the server costs some calls as well.
		if limit := 1.3*float64(c[0].calls)*float64(n[1])/float64(n[0]) + 100; float64(c[1].calls) > limit {
			t.Errorf("%s costs %d commands among many, %d among few, where it finds %d and %d: limit is %.0f", f.filter, c[1].calls, c[0].calls, n[1], n[0], limit)
		}
	}
	noSlow(func() {
		for _, f := range filters {
			costOf(t, s, direct, f.filter)
		}
		var batch []*backend.Message
		for k := range 200 {
			batch = append(batch, &backend.Message{Topic: fmt.Sprintf("site7/dev%d/state", k), Payload: []byte("on"), Retain: true})
		}
		if err := s.Retain(t.Context(), batch); err != nil {
			t.Error(err)
		}
	})
}
