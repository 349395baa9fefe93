package topictree

import (
	"fmt"
	"runtime"
	"testing"
)

// value is of the size that a gateway keeps with a subscription.
type value [2]uint32

func BenchmarkMatch(b *testing.B) {
	const n = 1_000_000
	tree := New[*int, value]()
	who := new(int)
	for i := range n {
		tree.Set(fmt.Sprintf("dev/%d/state", i), who, value{})
	}
	for i := range n / 10 {
		tree.Set(fmt.Sprintf("dev/%d/+/log", i), who, value{})
	}
	hits := 0
	visit := func(*int, value) { hits++ }
	for _, bm := range []struct{ name, topic string }{
		{"one exact of 1M", "dev/4711/state"},
		{"one wildcard of 100k", "dev/4711/x/log"},
		{"none", "dev/4711/x/y"},
		{"none at the first level", "other/x"},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				tree.Match(bm.topic, visit)
			}
		})
	}
}

func BenchmarkMatchParallel(b *testing.B) {
	tree := New[*int, value]()
	who := new(int)
	for i := range 1000 {
		tree.Set(fmt.Sprintf("dev/%d/state", i), who, value{})
		tree.Set(fmt.Sprintf("dev/%d/#", i), who, value{})
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		hits := 0
		visit := func(*int, value) { hits++ }
		for pb.Next() {
			tree.Match("dev/7/state", visit)
		}
	})
}

func BenchmarkMatchFanOut(b *testing.B) {
	const n = 100_000
	tree := New[int, value]()
	for i := range n {
		tree.Set("all", i, value{})
	}
	hits := 0
	visit := func(int, value) { hits++ }
	b.ReportAllocs()
	for b.Loop() {
		tree.Match("all", visit)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/subscriber")
}

// BenchmarkChange sets and deletes one more subscription beside many.
func BenchmarkChange(b *testing.B) {
	for _, filter := range []string{"all", "all/#"} {
		for _, n := range []int{0, 100_000} {
			b.Run(fmt.Sprintf("%s beside %d", filter, n), func(b *testing.B) {
				tree := New[int, value]()
				for i := range n {
					tree.Set(filter, i, value{})
				}
				b.ReportAllocs()
				for b.Loop() {
					tree.Set(filter, -1, value{})
					tree.Delete(filter, -1)
				}
			})
		}
	}
}

// BenchmarkMemory reports the bytes of a subscription, without the text of its
// filter.
func BenchmarkMemory(b *testing.B) {
	const n = 1_000_000
	for _, bm := range []struct {
		name   string
		n      int
		filter func(i int) string
	}{
		{"1M exact filters", n, func(i int) string { return fmt.Sprintf("dev/%d/state", i) }},
		{"1M wildcard filters", n, func(i int) string { return fmt.Sprintf("dev/%d/#", i) }},
		{"1M deeper wildcard filters", n, func(i int) string { return fmt.Sprintf("dev/%d/+/log", i) }},
		{"100k subscribers of one filter", n / 10, func(int) string { return "all" }},
	} {
		b.Run(bm.name, func(b *testing.B) {
			filters := make([]string, bm.n)
			who := make([]int, bm.n)
			for i := range filters {
				filters[i] = bm.filter(i)
			}
			var bytes int64
			for b.Loop() {
				before := heap()
				tree := New[*int, value]()
				for i := range filters {
					tree.Set(filters[i], &who[i], value{})
				}
				bytes = heap() - before
				runtime.KeepAlive(tree)
			}
			b.ReportMetric(float64(bytes)/float64(bm.n), "B/subscription")
		})
	}
}
