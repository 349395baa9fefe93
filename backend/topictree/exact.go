package topictree

import (
	"maps"
	"sync"
)

// exactShards spreads filters without wildcards over this many maps, so that
// subscribers of different filters seldom wait for each other.
const exactShards = 64

// exactShard holds a part of the filters without wildcards.
type exactShard[S comparable, V any] struct {
	mu   sync.RWMutex
	subs map[string]subscribers[S, V]
	peak int      // of len(subs)
	_    [24]byte // fills a cache line, so that shards do not share one
}

func (e *exactShard[S, V]) set(filter string, p pair[S, V]) (newFilter, replaced bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.subs == nil {
		e.subs = make(map[string]subscribers[S, V])
	}
	subs, ok := e.subs[filter]
	replaced = subs.set(p)
	e.subs[filter] = subs
	e.peak = max(e.peak, len(e.subs))
	return !ok, replaced
}

func (e *exactShard[S, V]) delete(filter string, s S) (lastOfFilter, existed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	subs, ok := e.subs[filter]
	if !ok || !subs.delete(s) {
		return false, false
	}
	if !subs.empty() {
		e.subs[filter] = subs
		return false, true
	}
	delete(e.subs, filter)
	e.subs = shrunk(e.subs, &e.peak)
	return true, true
}

func (e *exactShard[S, V]) find(topic string) (subscribers[S, V], bool) {
	e.mu.RLock()
	subs, ok := e.subs[topic]
	e.mu.RUnlock()
	return subs, ok
}

// shrunk returns m, or a copy of it when most of what it held at its peak is
// gone: a map does not shrink by itself.
func shrunk[V any](m map[string]V, peak *int) map[string]V {
	const small = 64
	if *peak <= small || len(m) > *peak/4 {
		return m
	}
	next := make(map[string]V, len(m))
	maps.Copy(next, m)
	*peak = len(m)
	return next
}
