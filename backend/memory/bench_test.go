package memory

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// newBench returns a Store with sessions that are all subscribed to "all" and
// each to "dev/<n>/#", and their leases.
func newBench(b *testing.B, sessions int) (*Store, []backend.Lease) {
	b.Helper()
	ctx := context.Background()
	s := NewStore(Options{InboxMessages: -1, InboxBytes: -1})
	if err := s.Join(ctx, backend.Node{ID: "n"}, time.Hour); err != nil {
		b.Fatal(err)
	}
	leases := make([]backend.Lease, sessions)
	for i := range leases {
		o, err := s.Open(ctx, backend.OpenRequest{Client: backend.ClientID(fmt.Sprint("c", i)), Node: "n", Expiry: 3600})
		if err != nil {
			b.Fatal(err)
		}
		subs := []backend.Subscription{{Filter: "all", QoS: 1}, {Filter: fmt.Sprintf("dev/%d/#", i), QoS: 1}}
		if _, err := s.Subscribe(ctx, o.Lease, subs, nil); err != nil {
			b.Fatal(err)
		}
		leases[i] = o.Lease
	}
	return s, leases
}

// batchOf returns 32 messages: what a gateway appends at once under load.
func batchOf(topic string, qos byte) ([]*backend.Message, []backend.Append) {
	msgs := make([]*backend.Message, 32)
	for i := range msgs {
		msgs[i] = &backend.Message{Topic: topic, Payload: make([]byte, 64), QoS: qos, Publisher: "p"}
	}
	return msgs, make([]backend.Append, len(msgs))
}

func perMessage(b *testing.B, n int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/message")
}

// BenchmarkAppend appends batches of 32 messages and, where there is an inbox,
// keeps that from growing.
func BenchmarkAppend(b *testing.B) {
	ctx := context.Background()
	s, leases := newBench(b, 1000)
	var stray []backend.Lease
	for _, bm := range []struct {
		name, topic string
		to          []backend.Lease
	}{
		{"no match", "other/topic", stray},
		{"one inbox", "dev/7/x", leases[7:8]},
		{"1000 inboxes", "all", leases},
	} {
		b.Run(bm.name, func(b *testing.B) {
			msgs, out := batchOf(bm.topic, 1)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if err := s.Append(ctx, msgs, out); err != nil {
					b.Fatal(err)
				}
				if i%16 == 15 {
					for _, l := range bm.to {
						if err := s.Advance(ctx, l, backend.Progress{Base: 1 << 62}); err != nil {
							b.Fatal(err)
						}
					}
				}
			}
			perMessage(b, len(msgs)*max(1, len(bm.to)))
		})
	}
}

func BenchmarkAppendParallel(b *testing.B) {
	ctx := context.Background()
	s, leases := newBench(b, 1000)
	for _, topic := range []string{"other/topic", "dev/%d/x"} {
		b.Run(topic, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				msgs, out := batchOf(topic, 1)
				for i := 0; pb.Next(); i++ {
					l := leases[i%len(leases)]
					if topic != "other/topic" {
						for _, m := range msgs {
							m.Topic = "dev/" + string(l.Client[1:]) + "/x"
						}
					}
					if err := s.Append(ctx, msgs, out); err != nil {
						b.Error(err)
					}
					if err := s.Advance(ctx, l, backend.Progress{Base: 1 << 62}); err != nil {
						b.Error(err)
					}
				}
			})
			perMessage(b, 32)
		})
	}
}

func BenchmarkAppendQoS2(b *testing.B) {
	ctx := context.Background()
	s, leases := newBench(b, 1)
	o, err := s.Open(ctx, backend.OpenRequest{Client: "p", Node: "n", Expiry: 3600})
	if err != nil {
		b.Fatal(err)
	}
	msgs, out := batchOf("dev/0/x", 2)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		ids := make([]uint16, 0, len(msgs))
		for j, m := range msgs {
			m.ID = backend.PublishID{Client: "p", Incarnation: o.Incarnation, PacketID: uint16(j + 1), Generation: uint32(i)}
			ids = append(ids, m.ID.PacketID)
		}
		if err := s.Append(ctx, msgs, out); err != nil {
			b.Fatal(err)
		}
		if err := s.Forget(ctx, o.Lease, ids); err != nil {
			b.Fatal(err)
		}
		if err := s.Advance(ctx, leases[0], backend.Progress{Base: 1 << 62}); err != nil {
			b.Fatal(err)
		}
	}
	perMessage(b, len(msgs))
}

func BenchmarkAppendShared(b *testing.B) {
	ctx := context.Background()
	s, leases := newBench(b, 10)
	for _, l := range leases {
		if _, err := s.Subscribe(ctx, l, []backend.Subscription{{Filter: "$share/g/jobs/#", QoS: 1}}, nil); err != nil {
			b.Fatal(err)
		}
	}
	msgs, out := batchOf("jobs/1", 1)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Append(ctx, msgs, out); err != nil {
			b.Fatal(err)
		}
		for _, l := range leases {
			if err := s.Advance(ctx, l, backend.Progress{Base: 1 << 62}); err != nil {
				b.Fatal(err)
			}
		}
	}
	perMessage(b, len(msgs))
}

// BenchmarkDrain takes an inbox of 10,000 in pages of 100.
func BenchmarkDrain(b *testing.B) {
	ctx := context.Background()
	s, leases := newBench(b, 1)
	const n, page = 10_000, 100
	msgs, out := batchOf("dev/0/x", 1)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		for range n / len(msgs) {
			if err := s.Append(ctx, msgs, out); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		for after, more := uint64(0), true; more; {
			var entries []backend.Entry
			var err error
			if entries, more, err = s.Fetch(ctx, leases[0], after, page, 1<<20); err != nil {
				b.Fatal(err)
			}
			after = entries[len(entries)-1].Seq
			if err := s.Advance(ctx, leases[0], backend.Progress{Base: after}); err != nil {
				b.Fatal(err)
			}
		}
	}
	perMessage(b, n/len(msgs)*len(msgs))
}

func BenchmarkOpenRelease(b *testing.B) {
	ctx := context.Background()
	s, _ := newBench(b, 1000)
	r := backend.OpenRequest{Client: "c7", Node: "n", Expiry: 3600}
	b.ReportAllocs()
	for b.Loop() {
		o, err := s.Open(ctx, r)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Release(ctx, o.Lease, backend.ReleaseRequest{}); err != nil {
			b.Fatal(err)
		}
	}
}

func retainMany(b *testing.B, s *Store, devices int) {
	b.Helper()
	for d := range devices {
		for _, leaf := range []string{"a", "b", "c", "config", "info", "log", "status", "temp", "up", "x"} {
			m := text(fmt.Sprintf("dev/%06d/%s", d, leaf), "on", 0)
			if err := s.Retain(context.Background(), []*backend.Message{m}); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkRetainedMatch reads pages of 100 out of a million.
func BenchmarkRetainedMatch(b *testing.B) {
	ctx := context.Background()
	s, _ := newBench(b, 1)
	retainMany(b, s, 100_000)
	for _, bm := range []struct{ filter, after string }{
		{"dev/004711/status", ""},
		{"dev/004711/#", ""},
		{"#", "dev/050000/a"},
		{"dev/+/status", "dev/050000/status"},
		{"+/050000/+", ""},
		{"nothing/+/x", ""},
	} {
		b.Run(bm.filter, func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				page, _, err := s.Match(ctx, bm.filter, bm.after, 100)
				if err != nil {
					b.Fatal(err)
				}
				n = len(page)
			}
			b.ReportMetric(float64(n), "messages")
		})
	}
}

func BenchmarkRetain(b *testing.B) {
	ctx := context.Background()
	s, _ := newBench(b, 1)
	retainMany(b, s, 99_000)
	known := []*backend.Message{text("dev/004711/status", "on", 0)}
	fresh := []*backend.Message{text("dev/004711/fresh", "on", 0), text("dev/004711/fresh", "", 0)}
	for name, msgs := range map[string][]*backend.Message{"replace": known, "add and remove": fresh} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Retain(ctx, msgs); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkMemory reports what sessions, queued and retained messages cost.
func BenchmarkMemory(b *testing.B) {
	ctx := context.Background()
	const n = 100_000
	report := func(name, unit string, n int, fill func(s *Store)) {
		b.Run(name, func(b *testing.B) {
			var bytes uint64
			for b.Loop() {
				s, _ := newBench(b, 1)
				before := heapInUse()
				fill(s)
				bytes = heapInUse() - before
				runtime.KeepAlive(s)
			}
			b.ReportMetric(float64(bytes)/float64(n), unit)
		})
	}
	report("detached sessions with one subscription", "B/session", n, func(s *Store) {
		for i := range n {
			o, _ := s.Open(ctx, backend.OpenRequest{Client: backend.ClientID(fmt.Sprintf("client-%06d", i)), Node: "n", Expiry: 3600})
			_, _ = s.Subscribe(ctx, o.Lease, []backend.Subscription{{Filter: fmt.Sprintf("dev/%06d/cmd", i), QoS: 1}}, nil)
			_, _ = s.Release(ctx, o.Lease, backend.ReleaseRequest{})
		}
	})
	msgs, out := batchOf("dev/0/x", 1)
	report("queued messages of 64 bytes", "B/message", n, func(s *Store) {
		for range n / len(msgs) {
			_ = s.Append(ctx, msgs, out)
		}
	})
	report("retained messages of 64 bytes", "B/message", n, func(s *Store) {
		for i := range n {
			_ = s.Retain(ctx, []*backend.Message{{Topic: fmt.Sprintf("dev/%06d/state", i), Payload: make([]byte, 64)}})
		}
	})
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
