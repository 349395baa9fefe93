package redis

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/backendtest"
)

// inParallel calls f for 0 to n-1, some at once.
func inParallel(b *testing.B, n int, f func(i int) error) {
	b.Helper()
	const workers = 64
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := w; i < n; i += workers {
				err := f(i)
				for try := 0; errors.Is(err, backend.ErrUnavailable) && try < 10; try++ {
					err = f(i) // a busy machine
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
}

func liveBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkIndexLoad is the start of a gateway in a cluster with many durable
// subscriptions, and how late it sees one more of another gateway.
func BenchmarkIndexLoad(b *testing.B) {
	for _, size := range []struct{ sessions, subscriptions int }{{10_000, 1}, {100_000, 1}, {1000, 1000}, {1_000_000, 1}} {
		b.Run(fmt.Sprintf("%d sessions of %d", size.sessions, size.subscriptions), func(b *testing.B) {
			ctx := context.Background()
			srv := startServer(b, "--appendonly", "no")
			o := optionsFor(b, "redis://"+srv.address, backendtest.StoreOptions{})
			first := open(b, o)
			join(b, first, "first")
			inParallel(b, size.sessions, func(i int) error {
				client := backend.ClientID(fmt.Sprintf("device-%07d", i))
				opened, err := first.Open(ctx, backend.OpenRequest{Client: client, Node: "first", Expiry: 3600})
				if err != nil {
					return err
				}
				subs := make([]backend.Subscription, size.subscriptions)
				for k := range subs {
					subs[k] = backend.Subscription{Filter: fmt.Sprintf("site/%d/%s/cmd", k, client), QoS: 1}
				}
				_, err = first.Subscribe(ctx, opened.Lease, subs, nil)
				return err
			})
			if b.Failed() {
				b.FailNow()
			}
			total := float64(size.sessions * size.subscriptions)
			b.ResetTimer()
			for b.Loop() {
				b.StopTimer()
				before := liveBytes()
				second := open(b, o)
				b.StartTimer()
				join(b, second, "second")
				b.StopTimer()
				b.ReportMetric(float64(liveBytes()-before)/total, "B/subscription")
				start := time.Now()
				late := openSession(b, first, "first", "late", subscription("late"))
				waitFor(b, "one more subscription", func() bool {
					_, ver := second.replica.lookUp("late")
					return ver != 0
				})
				b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms-lag")
				if _, err := first.Release(ctx, late.Lease, backend.ReleaseRequest{Expiry: new(uint32)}); err != nil {
					b.Fatal(err)
				}
				if err := second.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkRetainedMatch reads pages of retained messages, among few and among
// many: the cost is that of what matches.
func BenchmarkRetainedMatch(b *testing.B) {
	for _, sites := range []int{100, 10_000} {
		const devices = 100
		ctx := context.Background()
		srv := startServer(b, "--appendonly", "no")
		o := optionsFor(b, "redis://"+srv.address, backendtest.StoreOptions{RetainedMessages: -1, RetainedBytes: -1})
		s := open(b, o)
		join(b, s, "node")
		inParallel(b, sites, func(i int) error {
			var batch []*backend.Message
			for k := range devices - 1 {
				batch = append(batch, &backend.Message{Topic: fmt.Sprintf("site%d/dev%d/state", i, k), Payload: []byte("on"), Retain: true})
			}
			return s.Retain(ctx, append(batch, &backend.Message{Topic: fmt.Sprintf("site%d/status", i), Payload: []byte("on"), Retain: true}))
		})
		for _, filter := range []string{"+/status", "site7/#", "site7/+/state", "site7/status", "site7/dev9/state", "#", "+/dev9/state"} {
			b.Run(fmt.Sprintf("%d topics, %s", sites*devices, filter), func(b *testing.B) {
				found := 0
				for b.Loop() {
					page, _, err := s.Match(ctx, filter, "", 100)
					if err != nil {
						b.Fatal(err)
					}
					found = len(page)
				}
				b.ReportMetric(float64(found), "messages")
			})
		}
	}
}
