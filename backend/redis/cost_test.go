package redis

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/backendtest"
)

// work is what a server has done: calls by command, and bytes in and out.
type work struct {
	calls   map[string]int
	in, out int
}

var (
	callsLine = regexp.MustCompile(`cmdstat_([^:]+):calls=(\d+)`)
	bytesLine = regexp.MustCompile(`total_net_(input|output)_bytes:(\d+)`)
)

func workOf(t *testing.T, c *goredis.Client) work {
	t.Helper()
	ctx := context.Background()
	w := work{calls: make(map[string]int)}
	text, err := c.Info(ctx, "commandstats", "stats").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range callsLine.FindAllStringSubmatch(text, -1) {
		w.calls[m[1]], _ = strconv.Atoi(m[2])
	}
	for _, m := range bytesLine.FindAllStringSubmatch(text, -1) {
		n, _ := strconv.Atoi(m[2])
		if m[1] == "input" {
			w.in = n
		} else {
			w.out = n
		}
	}
	return w
}

// What a message of QoS 1 costs the server on its way through the inbox of a
// client that is connected, here or at another gateway: one command that
// appends it, whatever the size of the batch, its share of one trim, and
// nothing that reads it.
func TestCostOfDelivery(t *testing.T) {
	const rounds, payload = 200, 100
	for _, batch := range []int{1, 20} {
		for _, where := range []string{"same gateway", "another gateway"} {
			t.Run(fmt.Sprintf("%d at once, %s", batch, where), func(t *testing.T) {
				ctx := context.Background()
				srv := startServer(t, "--appendonly", "no")
				o := optionsFor(t, srv.url(), backendtest.StoreOptions{})
				o.patience = suitePatience
				publishing := open(t, o)
				join(t, publishing, "publishing")
				serving, node := publishing, backend.NodeID("publishing")
				if where != "same gateway" {
					serving, node = open(t, o), "serving"
					join(t, serving, node)
				}
				client := openSession(t, serving, node, "subscriber", subscription("a"))
				msgs := make([]*backend.Message, batch)
				for i := range msgs {
					msgs[i] = &backend.Message{Topic: "a", QoS: 1, Payload: make([]byte, payload), Publisher: "publisher"}
				}
				out := make([]backend.Append, batch)
				if err := publishing.Append(ctx, msgs, out); err != nil { // knows the session now
					t.Fatal(err)
				}
				if err := serving.Advance(ctx, client.Lease, backend.Progress{Base: 1}); err != nil { // has the script now
					t.Fatal(err)
				}
				direct := srv.direct(t)
				before, began := workOf(t, direct), time.Now()
				for range rounds {
					if err := publishing.Append(ctx, msgs, out); err != nil {
						t.Fatal(err)
					}
					last := out[batch-1]
					if len(last.Targets) != 1 || last.Targets[0].Node != node {
						t.Fatalf("targets %+v", last.Targets)
					}
					if err := serving.Advance(ctx, client.Lease, backend.Progress{Base: last.Targets[0].Entry.Seq}); err != nil {
						t.Fatal(err)
					}
				}
				after, took := workOf(t, direct), time.Since(began)
				// Whoever follows the index, or looks whether the server is
				// well, does so meanwhile.
				idle := 40 + int(took/(10*time.Millisecond))
				for command, most := range map[string]int{"rpushx": rounds, "evalsha": rounds + idle, "lrange": 0, "lpop": 0, "eval": 0} {
					if n := after.calls[command] - before.calls[command]; n > most {
						t.Errorf("%d times %s, want %d at most", n, command, most)
					}
				}
				t.Logf("for each message %d bytes in, %d out", (after.in-before.in)/(rounds*batch), (after.out-before.out)/(rounds*batch))
				in, all := (after.in-before.in)/(rounds*batch), rounds*batch
				if most := payload + 100 + (1000+100*idle/rounds)/batch; in > most {
					t.Errorf("%d bytes to the server for each of %d messages of %d bytes, want %d at most", in, all, payload, most)
				}
				if reply, most := (after.out-before.out)/(rounds*batch), (400+1000*idle/rounds)/batch; reply > most {
					t.Errorf("%d bytes from the server for each message, want %d at most", reply, most)
				}
			})
		}
	}
}

// TestCostOfQoS2: a publish of QoS 2 that is known to be fresh costs two round
// trips, one that is in doubt a third.
func TestCostOfQoS2(t *testing.T) {
	srv := startServer(t, "--appendonly", "no")
	s := open(t, optionsFor(t, srv.url(), backendtest.StoreOptions{}))
	join(t, s, "node")
	openSession(t, s, "node", "subscriber", backend.Subscription{Filter: "a", QoS: 2})
	p := openSession(t, s, "node", "publisher")
	trips := func(fresh bool, packet uint16) int64 {
		m := message("a", "x")
		m.QoS, m.Fresh = 2, fresh
		m.ID = backend.PublishID{Client: "publisher", Incarnation: p.Incarnation, PacketID: packet}
		counter := &roundTrips{}
		s.client.AddHook(counter)
		appendTo(t, s, m)
		counter.over.Store(true)
		return counter.n.Load()
	}
	trips(false, 1) // the server knows the scripts now
	if doubt, fresh := trips(false, 2), trips(true, 3); doubt != 3 || fresh != 2 {
		t.Errorf("%d round trips in doubt, %d for what is fresh; want 3, 2", doubt, fresh)
	}
}

// roundTrips counts those that append: others look at the index meanwhile.
type roundTrips struct {
	n    atomic.Int64
	over atomic.Bool
}

func (r *roundTrips) DialHook(next goredis.DialHook) goredis.DialHook { return next }

func (r *roundTrips) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error {
		r.count(operation(cmd))
		return next(ctx, cmd)
	}
}

func (r *roundTrips) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []goredis.Cmder) error {
		r.count(operationOf(cmds))
		return next(ctx, cmds)
	}
}

func (r *roundTrips) count(operation string) {
	if !r.over.Load() && (operation == "hget" || operation == "append" || operation == "receive") {
		r.n.Add(1)
	}
}
