// Package topictree finds the subscribers whose topic filters match a topic.
//
// Filters without wildcards, by far the most, live in a sharded hash map and
// cost one look-up a match however many there are. Filters with wildcards live
// in a trie by topic level, of which a match walks only the nodes that agree
// with the topic. No lock is held while subscribers are visited.
package topictree

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

// Tree maps topic filters to subscribers, each with a value. Filters are legal
// MQTT topic filters without "$share/group/" in front; what is not legal is
// not noticed and matches nothing sensible. A Tree is safe for concurrent use
// and must not be copied.
//
// A subscription that exists during the whole of a Match is visited exactly
// once by it. One that is set or deleted meanwhile may be visited or not, and
// twice if it is deleted and set again.
type Tree[S comparable, V any] struct {
	seed  maphash.Seed
	exact [exactShards]exactShard[S, V]
	trie  trie[S, V]

	generation    atomic.Uint64
	filters       atomic.Int64
	subscriptions atomic.Int64
}

// New returns an empty tree.
func New[S comparable, V any]() *Tree[S, V] {
	return &Tree[S, V]{seed: maphash.MakeSeed()}
}

// Set makes s a subscriber of filter with value v, or replaces its value. It
// keeps filter. The change is seen by every Match that begins after Set has
// returned. The cost does not grow with the number of subscribers.
func (t *Tree[S, V]) Set(filter string, s S, v V) (replaced bool) {
	var newFilter bool
	if hasWildcard(filter) {
		newFilter, replaced = t.trie.set(filter, pair[S, V]{s, v})
	} else {
		newFilter, replaced = t.shard(filter).set(filter, pair[S, V]{s, v})
	}
	if newFilter {
		t.filters.Add(1)
	}
	if !replaced {
		t.subscriptions.Add(1)
	}
	t.generation.Add(1)
	return replaced
}

// Delete ends the subscription of s to filter and tells whether there was
// one. No Match that begins after Delete has returned visits it.
func (t *Tree[S, V]) Delete(filter string, s S) (existed bool) {
	var lastOfFilter bool
	if hasWildcard(filter) {
		lastOfFilter, existed = t.trie.delete(filter, s)
	} else {
		lastOfFilter, existed = t.shard(filter).delete(filter, s)
	}
	if !existed {
		return false
	}
	if lastOfFilter {
		t.filters.Add(-1)
	}
	t.subscriptions.Add(-1)
	t.generation.Add(1)
	return true
}

// Match calls visit for every subscription whose filter matches topic, in no
// order that may be relied on; a subscriber with several matching filters is
// visited for each. A filter that begins with a wildcard does not match a
// topic that begins with '$' [MQTT-4.7.2-1]. Visit may change the tree. Match
// does not allocate, save for topics with more than [stackLevels] levels that
// are matched by as many nested "+".
func (t *Tree[S, V]) Match(topic string, visit func(s S, v V)) {
	subs, ok := t.shard(topic).find(topic)
	if ok {
		subs.each(visit)
	}
	t.trie.match(topic, visit)
}

// Generation returns a number that has changed whenever a Match may give
// another result than before. A caller that keeps the result of a Match reads
// the generation before the Match and uses the result for as long as the
// generation is still the same.
func (t *Tree[S, V]) Generation() uint64 { return t.generation.Load() }

// Len returns the number of different filters and of subscriptions.
func (t *Tree[S, V]) Len() (filters, subscriptions int) {
	return int(t.filters.Load()), int(t.subscriptions.Load())
}

func (t *Tree[S, V]) shard(filter string) *exactShard[S, V] {
	return &t.exact[maphash.String(t.seed, filter)%exactShards]
}

// hasWildcard reports whether filter has a wildcard. In a legal filter the two
// characters stand nowhere else [MQTT-4.7.1-1], [MQTT-4.7.1-2].
func hasWildcard(filter string) bool { return strings.ContainsAny(filter, "+#") }
