package topictree

import (
	"strings"
	"sync"
	"sync/atomic"
)

// trie holds the filters with wildcards, one node a level. The lock guards all
// of it. A match takes it for stretches of bounded length and visits what it
// found in between: a node that a match stands on and that leaves the trie
// meanwhile is empty, so nothing that stays is missed.
type trie[S comparable, V any] struct {
	mu    sync.RWMutex
	root  node[S, V]
	count atomic.Int64 // filters; without any, a match needs no lock
}

const (
	// stackLevels is how many open branches a match holds without
	// allocating.
	stackLevels = 64

	// A match gives the lock back, at least for a moment, when it has found
	// foundAtOnce filters or has taken stepsAtOnce steps.
	foundAtOnce = 16
	stepsAtOnce = 1024
)

func (t *trie[S, V]) set(filter string, p pair[S, V]) (newFilter, replaced bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, at := &t.root, &t.root.below
	for rest, more := filter, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		if level == "#" {
			at = &n.below
			break
		}
		n = n.make(level, len(filter))
		at = &n.here
	}
	if newFilter = *at == nil; newFilter {
		*at = new(subscribers[S, V])
		t.count.Add(1)
	}
	return newFilter, (*at).set(p)
}

func (t *trie[S, V]) delete(filter string, s S) (lastOfFilter, existed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	type step struct {
		from  *node[S, V]
		level string
	}
	var buf [16]step
	path := buf[:0]
	n, at := &t.root, &t.root.below
	for rest, more := filter, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		if level == "#" {
			at = &n.below
			break
		}
		path = append(path, step{n, level})
		if n = n.find(level); n == nil {
			return false, false
		}
		at = &n.here
	}
	if *at == nil || !(*at).delete(s) {
		return false, false
	}
	if !(*at).empty() {
		return false, true
	}
	*at = nil
	t.count.Add(-1)
	for i := len(path) - 1; i >= 0 && n.empty(); i-- {
		n = path[i].from
		n.remove(path[i].level)
	}
	return true, true
}

// branch is a node reached by the levels of the topic before pos, which is the
// start of the next level; past the end of the topic when none is left.
type branch[S comparable, V any] struct {
	n   *node[S, V]
	pos int
}

func (t *trie[S, V]) match(topic string, visit func(S, V)) {
	if t.count.Load() == 0 {
		return
	}
	var openBuf [stackLevels]branch[S, V]
	var foundBuf [foundAtOnce + 2]subscribers[S, V]
	open := append(openBuf[:0], branch[S, V]{&t.root, 0})
	for len(open) > 0 {
		found := foundBuf[:0]
		t.mu.RLock()
		for steps := 0; len(open) > 0 && len(found) < foundAtOnce && steps < stepsAtOnce; steps++ {
			b := open[len(open)-1]
			open = open[:len(open)-1]
			// A wildcard at the first level does not match a topic that
			// begins with '$' [MQTT-4.7.2-1].
			hidden := b.pos == 0 && strings.HasPrefix(topic, "$")
			if b.n.below != nil && !hidden {
				found = append(found, *b.n.below) // the parent level included [MQTT-4.7.1-2]
			}
			if b.pos > len(topic) {
				if b.n.here != nil {
					found = append(found, *b.n.here)
				}
				continue
			}
			end := len(topic)
			if i := strings.IndexByte(topic[b.pos:], '/'); i >= 0 {
				end = b.pos + i
			}
			if b.n.plus != nil && !hidden {
				open = append(open, branch[S, V]{b.n.plus, end + 1})
			}
			if c := b.n.child(topic[b.pos:end]); c != nil {
				open = append(open, branch[S, V]{c, end + 1})
			}
		}
		t.mu.RUnlock()
		for i := range found {
			found[i].each(visit)
		}
	}
}
