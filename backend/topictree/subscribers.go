package topictree

import (
	"slices"
	"sync/atomic"
)

// pair is one subscription to the filter that it is kept under.
type pair[S comparable, V any] struct {
	s S
	v V
}

// subscribers are the subscriptions to one filter. Changes are made under the
// lock of what holds it; a copy of the struct taken under that lock may then
// be read without.
type subscribers[S comparable, V any] struct {
	few  []pair[S, V] // never written to once it is here: changes copy
	many *many[S, V]  // instead of few, when there are more than maxFew
}

const (
	// maxFew is up to how many subscribers a change copies them all.
	maxFew = 32
	// chunkSize is how many a change copies when there are more.
	chunkSize = 64
)

func (f *subscribers[S, V]) empty() bool { return len(f.few) == 0 && f.many == nil }

func (f *subscribers[S, V]) set(p pair[S, V]) (replaced bool) {
	if f.many != nil {
		return f.many.set(p)
	}
	i := slices.IndexFunc(f.few, func(q pair[S, V]) bool { return q.s == p.s })
	if i < 0 && len(f.few) == maxFew {
		f.many, f.few = newMany(f.few), nil
		return f.many.set(p)
	}
	if i < 0 {
		i = len(f.few)
	}
	next := make([]pair[S, V], max(i+1, len(f.few)))
	copy(next, f.few)
	next[i] = p
	replaced = len(next) == len(f.few)
	f.few = next
	return replaced
}

func (f *subscribers[S, V]) delete(s S) (existed bool) {
	if f.many != nil {
		if !f.many.delete(s) {
			return false
		}
		if len(f.many.where) <= maxFew/2 {
			f.few, f.many = f.many.all(), nil
		}
		return true
	}
	i := slices.IndexFunc(f.few, func(q pair[S, V]) bool { return q.s == s })
	if i < 0 {
		return false
	}
	if len(f.few) == 1 {
		f.few = nil
		return true
	}
	next := make([]pair[S, V], 0, len(f.few)-1)
	next = append(next, f.few[:i]...)
	f.few = append(next, f.few[i+1:]...)
	return true
}

func (f *subscribers[S, V]) each(visit func(S, V)) {
	for i := range f.few {
		visit(f.few[i].s, f.few[i].v)
	}
	if f.many != nil {
		f.many.each(visit)
	}
}

// many is a set of subscriptions that costs a change a bounded amount of work,
// and that is read without a lock. Subscriptions lie in chunks. One is added
// at the end of a chunk that has room and published by raising the chunk's
// length; otherwise a chunk is immutable, and a change replaces it. No
// subscription ever moves from one chunk of a directory to another, so that a
// reader neither misses one nor sees it twice.
type many[S comparable, V any] struct {
	dir atomic.Pointer[directory[S, V]]

	// What follows is for writers only.

	where map[S]uint32 // the chunk of each subscriber
	room  []uint32     // the chunks that are not full
	used  int          // chunks in the directory
}

type directory[S comparable, V any] struct {
	chunks []atomic.Pointer[chunk[S, V]] // nil: not used yet
}

type chunk[S comparable, V any] struct {
	n     atomic.Int32
	pairs [chunkSize]pair[S, V]
}

func newMany[S comparable, V any](from []pair[S, V]) *many[S, V] {
	m := &many[S, V]{}
	m.rebuild(from)
	return m
}

// rebuild makes everything anew out of from. Readers of the directory before
// it are not disturbed.
func (m *many[S, V]) rebuild(from []pair[S, V]) {
	dir := &directory[S, V]{chunks: make([]atomic.Pointer[chunk[S, V]], 2*len(from)/chunkSize+1)}
	m.where, m.room, m.used = make(map[S]uint32, len(from)), nil, 0
	for len(from) > 0 {
		c := &chunk[S, V]{}
		n := copy(c.pairs[:], from)
		for _, p := range from[:n] {
			m.where[p.s] = uint32(m.used)
		}
		c.n.Store(int32(n))
		dir.chunks[m.used].Store(c)
		if n < chunkSize {
			m.room = append(m.room, uint32(m.used))
		}
		m.used++
		from = from[n:]
	}
	m.dir.Store(dir)
}

func (m *many[S, V]) set(p pair[S, V]) (replaced bool) {
	if i, ok := m.where[p.s]; ok {
		slot := &m.dir.Load().chunks[i]
		c := slot.Load().without(p.s)
		c.add(p)
		slot.Store(c)
		return true
	}
	if len(m.room) == 0 {
		m.grow()
	}
	i := m.room[len(m.room)-1]
	c := m.dir.Load().chunks[i].Load()
	if c.add(p) == chunkSize {
		m.room = m.room[:len(m.room)-1]
	}
	m.where[p.s] = i
	return false
}

// grow adds an empty chunk, and doubles the directory when it is full.
func (m *many[S, V]) grow() {
	dir := m.dir.Load()
	if m.used == len(dir.chunks) {
		bigger := &directory[S, V]{chunks: make([]atomic.Pointer[chunk[S, V]], 2*m.used)}
		for i := range dir.chunks {
			bigger.chunks[i].Store(dir.chunks[i].Load())
		}
		dir = bigger
		m.dir.Store(dir)
	}
	dir.chunks[m.used].Store(&chunk[S, V]{})
	m.room = append(m.room, uint32(m.used))
	m.used++
}

func (m *many[S, V]) delete(s S) (existed bool) {
	i, ok := m.where[s]
	if !ok {
		return false
	}
	slot := &m.dir.Load().chunks[i]
	old := slot.Load()
	if old.n.Load() == chunkSize {
		m.room = append(m.room, i)
	}
	slot.Store(old.without(s))
	delete(m.where, s)
	if len(m.where) < m.used*chunkSize/4 {
		m.rebuild(m.all())
	}
	return true
}

func (m *many[S, V]) all() []pair[S, V] {
	all := make([]pair[S, V], 0, len(m.where))
	m.each(func(s S, v V) { all = append(all, pair[S, V]{s, v}) })
	return all
}

func (m *many[S, V]) each(visit func(S, V)) {
	dir := m.dir.Load()
	for i := range dir.chunks {
		c := dir.chunks[i].Load()
		if c == nil {
			return
		}
		for j := range c.n.Load() {
			visit(c.pairs[j].s, c.pairs[j].v)
		}
	}
}

// add puts p at the end of c, which has room, and returns the new length.
func (c *chunk[S, V]) add(p pair[S, V]) int {
	n := c.n.Load()
	c.pairs[n] = p
	c.n.Store(n + 1)
	return int(n + 1)
}

// without returns a copy of c that lacks s.
func (c *chunk[S, V]) without(s S) *chunk[S, V] {
	d := &chunk[S, V]{}
	for i := range c.n.Load() {
		if c.pairs[i].s != s {
			d.add(c.pairs[i])
		}
	}
	return d
}
