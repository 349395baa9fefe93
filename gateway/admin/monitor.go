package admin

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/gateway"
)

const (
	// watchedInterval is between two looks at the cluster while somebody
	// looks at the page, idleInterval otherwise.
	watchedInterval = 2 * time.Second
	idleInterval    = 10 * time.Second
	// watchedFor is how long after its last request a page counts as looked
	// at.
	watchedFor = 30 * time.Second
	// keptSamples and keptTime bound what the charts show.
	keptSamples = 900
	keptTime    = 30 * time.Minute
	// keptEvents bounds the list of gateways that came and went.
	keptEvents = 50
)

// sample is the cluster at one moment.
type sample struct {
	at    time.Time
	nodes []gateway.NodeState
}

// event is a gateway that came or went.
type event struct {
	At      time.Time `json:"at"`
	Gateway string    `json:"gateway"`
	What    string    `json:"what"`
}

// monitor looks at the cluster from time to time.
type monitor struct {
	options Options
	looked  atomic.Int64 // when the page was looked at last, in Unix ns
	wake    chan struct{}

	mu       sync.Mutex
	samples  []sample
	events   []event
	known    map[backend.NodeID]string // gateways of the last sample, and how they are
	revision uint64                    // of samples
	err      error                     // of the last look
}

func newMonitor(o Options) *monitor {
	return &monitor{options: o, wake: make(chan struct{}, 1)}
}

// run looks until the context ends.
func (m *monitor) run(ctx context.Context) {
	for {
		m.look(ctx)
		wait := idleInterval
		if time.Since(time.Unix(0, m.looked.Load())) < watchedFor {
			wait = watchedInterval
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		case <-m.wake: // somebody looks again
			t.Stop()
		}
	}
}

// watched notes that somebody looks at the page.
func (m *monitor) watched() {
	now := time.Now().UnixNano()
	if before := m.looked.Swap(now); time.Duration(now-before) > watchedFor {
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
}

// look takes one sample.
func (m *monitor) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, watchedInterval)
	defer cancel()
	var nodes []gateway.NodeState
	var err error
	if m.options.Cluster != nil {
		nodes, err = m.options.Cluster.Cluster(ctx)
	}
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err = err; err != nil {
		return
	}
	m.compare(now, nodes)
	m.samples = append(m.samples, sample{now, nodes})
	drop := max(len(m.samples)-keptSamples, 0)
	for drop < len(m.samples) && now.Sub(m.samples[drop].at) > keptTime {
		drop++
	}
	m.samples = slices.Delete(m.samples, 0, drop)
	m.revision++
}

// compare notes which gateways came and went. The lock is held.
func (m *monitor) compare(now time.Time, nodes []gateway.NodeState) {
	is := make(map[backend.NodeID]string, len(nodes))
	note := func(id backend.NodeID, what string) {
		m.events = append(m.events, event{now.UTC(), string(id), what})
		m.events = slices.Delete(m.events, 0, max(len(m.events)-keptEvents, 0))
	}
	for i := range nodes {
		n := &nodes[i]
		state := "ready"
		switch {
		case n.Left < 0:
			state = "lease ended"
		case n.Figures == nil:
			state = "silent"
		case n.Figures.NotReady != "":
			state = "not ready"
		}
		is[n.ID] = state
		before, was := m.known[n.ID]
		switch {
		case m.known == nil:
		case !was:
			note(n.ID, "came")
		case before != state:
			note(n.ID, state)
		}
	}
	for id := range m.known {
		if _, still := is[id]; !still {
			note(id, "left")
		}
	}
	m.known = is
}

// history returns the samples, which are not changed any more, with their
// revision.
func (m *monitor) history() ([]sample, uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.samples), m.revision
}

func (m *monitor) eventList() []event {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := slices.Clone(m.events)
	slices.Reverse(list)
	return list
}

// figuresOf returns those of a gateway in a sample, nil if it is not there.
func (s *sample) figuresOf(id backend.NodeID) *gateway.NodeFigures {
	for i := range s.nodes {
		if s.nodes[i].ID == id {
			return s.nodes[i].Figures
		}
	}
	return nil
}

// rate is the growth a second of a counter between two samples, over all
// gateways that are in both with the same start.
func rate(from, to *sample, counter func(*gateway.NodeFigures) float64) float64 {
	seconds := to.at.Sub(from.at).Seconds()
	if seconds <= 0 {
		return 0
	}
	sum := 0.0
	for i := range to.nodes {
		sum += grown(from, to, to.nodes[i].ID, counter)
	}
	return sum / seconds
}

// grown is the growth of a counter of one gateway.
func grown(from, to *sample, id backend.NodeID, counter func(*gateway.NodeFigures) float64) float64 {
	a, b := from.figuresOf(id), to.figuresOf(id)
	if a == nil || b == nil || !a.Started.Equal(b.Started) {
		return 0
	}
	return max(counter(b)-counter(a), 0)
}

// total is a sum over the gateways of a sample.
func (s *sample) total(gauge func(*gateway.NodeFigures) float64) (sum float64) {
	for i := range s.nodes {
		if f := s.nodes[i].Figures; f != nil {
			sum += gauge(f)
		}
	}
	return sum
}
