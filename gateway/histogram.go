package gateway

import (
	"sync/atomic"
	"time"
)

// latencyBounds are the upper bounds of the buckets of a latency histogram:
// from what a store in memory takes to the time-outs.
var latencyBounds = [...]time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second,
}

// histogram counts durations. Observing costs three adds and no memory.
type histogram struct {
	buckets [len(latencyBounds) + 1]atomic.Uint64
	sum     atomic.Int64 // nanoseconds
}

// observe counts n events that took d each.
func (h *histogram) observe(d time.Duration, n int) {
	i := 0
	for i < len(latencyBounds) && d > latencyBounds[i] {
		i++
	}
	h.buckets[i].Add(uint64(n))
	h.sum.Add(int64(d) * int64(n))
}

// Histogram is how often something took how long.
type Histogram struct {
	// Buckets has for each upper bound, in seconds, how many took no longer.
	Buckets map[float64]uint64
	Count   uint64
	// Sum of all, in seconds.
	Sum float64
}

func (h *histogram) read() Histogram {
	r := Histogram{Buckets: make(map[float64]uint64, len(latencyBounds))}
	for i := range h.buckets {
		r.Count += h.buckets[i].Load()
		if i < len(latencyBounds) {
			r.Buckets[latencyBounds[i].Seconds()] = r.Count
		}
	}
	r.Sum = time.Duration(h.sum.Load()).Seconds()
	return r
}
