package gateway

import (
	"hash/maphash"
	"sync"

	"github.com/sluice-mqtt/sluice/backend"
)

const clientShards = 64

// clients finds the connection of a client by its identifier.
type clients struct {
	once   sync.Once
	seed   maphash.Seed
	shards [clientShards]struct {
		sync.RWMutex
		m map[backend.ClientID]*conn
	}
}

func (r *clients) shard(id backend.ClientID) *struct {
	sync.RWMutex
	m map[backend.ClientID]*conn
} {
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

func (r *clients) all() []*conn {
	var all []*conn
	for i := range r.shards {
		s := &r.shards[i]
		s.RLock()
		for _, c := range s.m {
			all = append(all, c)
		}
		s.RUnlock()
	}
	return all
}
