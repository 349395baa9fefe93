package gateway

import (
	"hash/maphash"
	"math"
	"slices"
	"sync"

	"github.com/sluice-mqtt/sluice/backend"
)

const clientShards = 64

// clients finds the connection of a client by its identifier.
type clients struct {
	once   sync.Once
	seed   maphash.Seed
	shards [clientShards]clientShard
}

type clientShard struct {
	sync.RWMutex
	m map[backend.ClientID]*conn
	// coming are connections that open their session just now.
	coming map[backend.ClientID][]*conn
}

func (r *clients) shard(id backend.ClientID) *clientShard {
	r.once.Do(func() { r.seed = maphash.MakeSeed() })
	return &r.shards[maphash.String(r.seed, string(id))%clientShards]
}

func (r *clients) get(id backend.ClientID) *conn {
	s := r.shard(id)
	s.RLock()
	defer s.RUnlock()
	return s.m[id]
}

// put makes c the connection of its client, unless there is one with a newer
// lease. It returns the connection that c replaced.
func (r *clients) put(c *conn) (replaced *conn, ok bool) {
	s := r.shard(c.client.ID)
	s.Lock()
	defer s.Unlock()
	old := s.m[c.client.ID]
	if old != nil && old.lease.Epoch > c.lease.Epoch {
		return nil, false
	}
	if s.m == nil {
		s.m = make(map[backend.ClientID]*conn)
	}
	s.m[c.client.ID] = c
	return old, true
}

// remove takes c out, unless another has taken its place.
func (r *clients) remove(c *conn) {
	s := r.shard(c.client.ID)
	s.Lock()
	defer s.Unlock()
	if s.m[c.client.ID] == c {
		delete(s.m, c.client.ID)
	}
}

// opening notes that c is about to claim the session of its client.
func (r *clients) opening(c *conn) {
	s := r.shard(c.client.ID)
	s.Lock()
	defer s.Unlock()
	if s.coming == nil {
		s.coming = make(map[backend.ClientID][]*conn)
	}
	s.coming[c.client.ID] = append(s.coming[c.client.ID], c)
}

// opened ends what opening began.
func (r *clients) opened(c *conn) {
	s := r.shard(c.client.ID)
	s.Lock()
	defer s.Unlock()
	left := slices.DeleteFunc(s.coming[c.client.ID], func(o *conn) bool { return o == c })
	if len(left) == 0 {
		delete(s.coming, c.client.ID)
	} else {
		s.coming[c.client.ID] = left
	}
}

// overtake tells every connection of a client, and those that are about to be
// one, that a lease of the given epoch was given out. It returns the connection
// that has lost its session by that, if there is one.
func (r *clients) overtake(id backend.ClientID, epoch uint64) *conn {
	s := r.shard(id)
	s.RLock()
	defer s.RUnlock()
	for _, c := range s.coming[id] {
		c.mu.Lock()
		c.overtaken = max(c.overtaken, epoch)
		c.mu.Unlock()
	}
	if c := s.m[id]; c != nil && c.lease.Epoch < epoch {
		return c
	}
	return nil
}

// overtakeAll tells every connection that is about to be one that its lease, if
// it has one yet, has ended with the gateway's.
func (r *clients) overtakeAll() {
	for i := range r.shards {
		s := &r.shards[i]
		s.RLock()
		for _, coming := range s.coming {
			for _, c := range coming {
				c.mu.Lock()
				c.overtaken = math.MaxUint64
				c.mu.Unlock()
			}
		}
		s.RUnlock()
	}
}

// some returns the connections of one shard.
func (r *clients) some(shard int) []*conn {
	s := &r.shards[shard]
	s.RLock()
	defer s.RUnlock()
	some := make([]*conn, 0, len(s.m))
	for _, c := range s.m {
		some = append(some, c)
	}
	return some
}

func (r *clients) all() (all []*conn) {
	for i := range r.shards {
		all = append(all, r.some(i)...)
	}
	return all
}
