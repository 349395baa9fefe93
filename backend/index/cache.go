package index

import (
	"hash/maphash"
	"sync"
)

const (
	cacheShards = 64

	// longTopic is from which length on a topic is not worth its memory.
	longTopic = 256

	// sessionsInShard bounds the memory of results: so many matched sessions
	// a shard, 50 bytes each or a little more.
	sessionsInShard = 8192
)

// cache keeps results of matches by topic, with the generation at which they
// were taken. A shard that is full is emptied: that bounds it without any
// bookkeeping on the way of a hit, and costs a match a topic, now and then.
type cache struct {
	seed   maphash.Seed
	topics int // a shard; 0 switches it off
	shards [cacheShards]cacheShard
}

type cacheShard struct {
	mu       sync.RWMutex
	results  map[string]result
	sessions int
	_        [24]byte // fills a cache line, so that shards do not share one
}

type result struct {
	generation uint64
	found      *Matches // nil: nothing matches
}

// weight is what a result counts in a shard.
func (r result) weight() int {
	if r.found == nil {
		return 0
	}
	return len(r.found.Sessions) + len(r.found.Groups)
}

func (c *cache) init(topics int) {
	c.seed = maphash.MakeSeed()
	if topics > 0 {
		c.topics = max(1, topics/cacheShards)
	}
}

func (c *cache) get(topic string, generation uint64) (found *Matches, ok bool) {
	if c.topics == 0 || len(topic) >= longTopic {
		return nil, false
	}
	s := c.shard(topic)
	s.mu.RLock()
	r, ok := s.results[topic]
	s.mu.RUnlock()
	return r.found, ok && r.generation == generation
}

func (c *cache) put(topic string, generation uint64, found *Matches) {
	r := result{generation, found}
	if c.topics == 0 || len(topic) >= longTopic || r.weight() > sessionsInShard/2 {
		return
	}
	s := c.shard(topic)
	s.mu.Lock()
	defer s.mu.Unlock()
	old, replaces := s.results[topic]
	if replaces && old.generation > generation {
		return // someone else was later
	}
	s.sessions += r.weight() - old.weight()
	if s.sessions > sessionsInShard || !replaces && len(s.results) >= c.topics {
		clear(s.results)
		s.sessions = r.weight()
	}
	if s.results == nil {
		s.results = make(map[string]result)
	}
	s.results[topic] = r
}

func (c *cache) shard(topic string) *cacheShard {
	return &c.shards[maphash.String(c.seed, topic)%cacheShards]
}
