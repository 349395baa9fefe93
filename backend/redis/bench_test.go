package redis

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/backendtest"
)

// commandCalls returns how often each command was called, as the server
// counts.
func commandCalls(b testing.TB, c *goredis.Client) map[string]int64 {
	b.Helper()
	text, err := c.Info(context.Background(), "commandstats").Result()
	if err != nil {
		b.Fatal(err)
	}
	calls := make(map[string]int64)
	for line := range strings.Lines(text) {
		var n int64
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":")
		if _, err := fmt.Sscanf(rest, "calls=%d", &n); ok && err == nil {
			calls[name] = n
		}
	}
	return calls
}

// reportCalls reports the commands for each of n messages that were called
// since before.
func reportCalls(b *testing.B, c *goredis.Client, before map[string]int64, n int) {
	after := commandCalls(b, c)
	var names []string
	for name := range after {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if per := float64(after[name]-before[name]) / float64(n); per >= 0.005 {
			b.ReportMetric(per, name+"/message")
		}
	}
}

// BenchmarkDurable sends QoS 1 messages to one durable session, which
// acknowledges every 64th with all before it, from some callers at once.
func BenchmarkDurable(b *testing.B) {
	s := startServer(b)
	for _, callers := range []int{1, 64} {
		for _, where := range []string{"same gateway", "another gateway"} {
			b.Run(fmt.Sprintf("%d callers, %s", callers, where), func(b *testing.B) {
				ctx := context.Background()
				o := optionsFor(b, s.url(), backendtest.StoreOptions{})
				owner := open(b, o)
				publisher := owner
				if where != "same gateway" {
					publisher = open(b, o)
				}
				for i, st := range []peered{owner, publisher} {
					if err := st.Join(ctx, backend.Node{ID: backend.NodeID(fmt.Sprint("node", i))}, time.Hour); err != nil {
						b.Fatal(err)
					}
				}
				opened, err := owner.Open(ctx, backend.OpenRequest{Client: "c", Node: "node0", Expiry: 3600})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := owner.Subscribe(ctx, opened.Lease, []backend.Subscription{{Filter: "dev/+/x", QoS: 1}}, nil); err != nil {
					b.Fatal(err)
				}
				var newest atomic.Uint64
				direct := s.direct(b)
				before := commandCalls(b, direct)
				b.SetParallelism(max(1, callers/2))
				b.ReportAllocs()
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					m := []*backend.Message{{Topic: "dev/7/x", Payload: make([]byte, 64), QoS: 1, Publisher: "p"}}
					out := make([]backend.Append, 1)
					for pb.Next() {
						if err := publisher.Append(ctx, m, out); err != nil {
							b.Error(err)
							return
						}
						seq := out[0].Targets[0].Entry.Seq
						if old := newest.Load(); seq > old {
							newest.CompareAndSwap(old, seq)
						}
						if seq%64 == 0 {
							if err := owner.Advance(ctx, opened.Lease, backend.Progress{Base: seq}); err != nil {
								b.Error(err)
							}
						}
					}
				})
				b.StopTimer()
				reportCalls(b, direct, before, b.N)
			})
		}
	}
}

// BenchmarkOpen has clients connect and go that have no session, 200 at a time.
func BenchmarkOpen(b *testing.B) {
	ctx := context.Background()
	srv := startServer(b)
	s := open(b, optionsFor(b, srv.url(), backendtest.StoreOptions{}))
	join(b, s, "node")
	var n atomic.Int64
	b.SetParallelism(100)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			r := backend.OpenRequest{Client: backend.ClientID(fmt.Sprint("client-", n.Add(1))), Node: "node", CleanStart: true}
			if _, err := s.Open(ctx, r); err != nil {
				b.Error(err)
			}
		}
	})
}
