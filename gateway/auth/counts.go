package auth

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/gateway"
)

// counts are the answers of a chain, by source and outcome. There are as many as
// there are sources, and two more.
type counts struct{ m sync.Map }

type answer struct{ source, outcome string }

// count notes what a source has said, nobody's being "none".
func (c *counts) count(source string, err error) {
	outcome := "accepted"
	var refused *gateway.RefusalError
	switch {
	case errors.As(err, &refused):
		outcome = "refused"
	case err != nil:
		outcome = "failed"
	}
	key := answer{source, outcome}
	n, ok := c.m.Load(key)
	if !ok {
		n, _ = c.m.LoadOrStore(key, new(atomic.Uint64))
	}
	n.(*atomic.Uint64).Add(1)
}

var _ backend.Measured = (*Chain)(nil)

// Figures are how often each source has decided what.
func (c *Chain) Figures() []backend.Figure {
	all := map[answer]uint64{}
	for _, l := range c.Links {
		for _, outcome := range []string{"accepted", "refused", "failed"} {
			all[answer{l.Name, outcome}] = 0
		}
	}
	c.counts.m.Range(func(key, n any) bool {
		all[key.(answer)] = n.(*atomic.Uint64).Load()
		return true
	})
	f := backend.Figure{
		Name: "auth_results_total", Help: "CONNECTs by the source that decided and its answer; none: no source knew the client. Enhanced authentication is apart.",
		Labels: []string{"source", "outcome"},
	}
	keys := slices.SortedFunc(maps.Keys(all), func(a, b answer) int {
		return slices.Compare([]string{a.source, a.outcome}, []string{b.source, b.outcome})
	})
	for _, k := range keys {
		f.Values = append(f.Values, backend.Value{Labels: []string{k.source, k.outcome}, Number: float64(all[k])})
	}
	return []backend.Figure{f}
}
