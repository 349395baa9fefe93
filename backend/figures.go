package backend

import (
	"sync/atomic"
	"time"
)

// Measured is implemented by a driver, or whatever else a gateway is given, that
// counts what it does.
type Measured interface {
	// Figures returns the counts of this moment, at once. It may be called
	// concurrently. Counters only grow.
	Figures() []Figure
}

// Figure is a family of values of one meaning.
type Figure struct {
	// Name is in small letters with underscores, ends in the unit, and in
	// _total for a counter. It begins with the role: store_, bus_, events_.
	Name string
	// Help is one sentence.
	Help string
	Kind FigureKind
	// Labels are the names of the labels that every value has.
	Labels []string
	Values []Value
}

// FigureKind says how the values of a figure are to be read.
type FigureKind uint8

const (
	// Counter values only grow.
	Counter FigureKind = iota
	// Gauge values go up and down.
	Gauge
	// Distribution values are histograms.
	Distribution
)

// Value is one value of a [Figure].
type Value struct {
	// Labels are the values of the figure's labels, in their order.
	Labels []string
	Number float64
	// Spread is set instead of Number for a [Distribution].
	Spread *Spread
}

// Single returns the values of a figure without labels.
func Single(number float64) []Value { return []Value{{Number: number}} }

// Spread is a histogram at one moment.
type Spread struct {
	Count uint64
	Sum   float64
	// Below has for each upper bound how many were not above it.
	Below map[float64]uint64
}

// Histogram counts observations in buckets. It is made by [NewHistogram] and
// may be used concurrently.
type Histogram struct {
	bounds  []float64
	buckets []atomic.Uint64 // one more than bounds
	sum     atomic.Uint64   // in millionths
}

// NewHistogram returns a Histogram with the upper bounds given, which ascend.
func NewHistogram(bounds ...float64) *Histogram {
	return &Histogram{bounds: bounds, buckets: make([]atomic.Uint64, len(bounds)+1)}
}

// NewDurations returns a Histogram for calls to a service, in seconds.
func NewDurations() *Histogram {
	return NewHistogram(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
}

// Observe counts v, which is not negative.
func (h *Histogram) Observe(v float64) {
	i := 0
	for i < len(h.bounds) && v > h.bounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(uint64(v * 1e6))
}

// Took counts d, in seconds.
func (h *Histogram) Took(d time.Duration) { h.Observe(d.Seconds()) }

// Spread returns what was counted.
func (h *Histogram) Spread() *Spread {
	s := &Spread{Below: make(map[float64]uint64, len(h.bounds)), Sum: float64(h.sum.Load()) / 1e6}
	for i := range h.buckets {
		s.Count += h.buckets[i].Load()
		if i < len(h.bounds) {
			s.Below[h.bounds[i]] = s.Count
		}
	}
	return s
}
