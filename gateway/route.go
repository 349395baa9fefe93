package gateway

import (
	"cmp"
	"context"
	"hash/maphash"
	"slices"
	"sync"

	"github.com/sluice-mqtt/sluice/protocol"
)

// subscription is what the topic tree keeps of one.
type subscription struct {
	id      uint32
	qos     byte
	noLocal bool
	rap     bool // retain as published
}

// target is one connection that live messages of a topic go to, with all its
// matching subscriptions merged [MQTT-3.3.4-2].
type target struct {
	c   *conn
	qos byte // the highest granted
	rap bool
	// simple: the bytes that everybody gets are right for it.
	simple bool
	// noLocal: own, which may be nil, is in force for what the client
	// published itself [MQTT-3.8.3-3].
	noLocal bool
	own     *target
	ids     []uint32
}

// route is where live messages of one topic go, as of a state of the tree.
type route struct {
	topic      string
	generation uint64
	revision   uint64 // of the authorizer's answers
	// fault refuses the topic as such: too long, too deep.
	fault protocol.ReasonCode
	// reserved: the topic is not for clients to publish to.
	reserved bool
	targets  []target
}

const (
	routeShards = 32
	// routesPerShard bounds the cache; a shard that is full starts anew,
	// which costs a walk of the tree for each topic that is still in use.
	routesPerShard = 2048
)

// routes caches routes by topic.
type routes struct {
	once   sync.Once
	seed   maphash.Seed
	shards [routeShards]struct {
		sync.RWMutex
		m map[string]*route
	}
}

// route returns the route of a valid topic name.
func (g *Gateway) route(ctx context.Context, topic []byte) *route {
	g.routes.once.Do(func() { g.routes.seed = maphash.MakeSeed() })
	s := &g.routes.shards[maphash.Bytes(g.routes.seed, topic)%routeShards]
	s.RLock()
	r := s.m[string(topic)]
	s.RUnlock()
	if r != nil && g.fresh(r) {
		return r
	}
	name := ""
	if r != nil {
		name = r.topic
	} else {
		name = string(topic)
	}
	r = g.makeRoute(ctx, name)
	s.Lock()
	if s.m == nil || len(s.m) >= routesPerShard {
		s.m = make(map[string]*route)
	}
	s.m[name] = r
	s.Unlock()
	return r
}

// fresh reports whether a route still holds.
func (g *Gateway) fresh(r *route) bool {
	return r.generation == g.tree.Generation() && r.revision == g.authRevision.Load()
}

// mayName reports whether clients may publish to a topic, whoever they are.
func (g *Gateway) mayName(topic string) bool {
	if topic == "" || topic[0] != '$' {
		return true
	}
	return g.opt.DollarPublish && !isSys(topic) && !isPeerTopic(topic)
}

// makeRoute asks the tree. The generation is read first, so that a route is
// never taken for newer than it is.
func (g *Gateway) makeRoute(ctx context.Context, topic string) *route {
	r := &route{topic: topic, generation: g.tree.Generation(), revision: g.authRevision.Load()}
	lim := &g.opt.Limits
	if len(topic) > lim.TopicLength || protocol.Levels(topic) > lim.TopicLevels {
		r.fault = protocol.TopicNameInvalid
		return r
	}
	r.reserved = !g.mayName(topic)
	type match struct {
		c *conn
		s subscription
	}
	var found []match
	g.tree.Match(topic, func(c *conn, s subscription) { found = append(found, match{c, s}) })
	if len(found) > 1 {
		slices.SortStableFunc(found, func(a, b match) int { return cmp.Compare(a.c.serial, b.c.serial) })
	}
	r.targets = make([]target, 0, len(found))
	for i := 0; i < len(found); {
		c, j := found[i].c, i
		for j < len(found) && found[j].c == c {
			j++
		}
		same := found[i:j]
		i = j
		if g.opt.Authorizer != nil && g.authorize(ctx, &c.client, Access{Action: Receive, Topic: topic}) != nil {
			continue
		}
		t := target{c: c}
		for _, m := range same {
			t.merge(m.s)
		}
		if slices.ContainsFunc(same, func(m match) bool { return m.s.noLocal }) {
			t.noLocal = true
			for _, m := range same {
				if m.s.noLocal {
					continue
				}
				if t.own == nil {
					t.own = &target{c: c}
				}
				t.own.merge(m.s)
			}
		}
		t.simple = len(t.ids) == 0 && !c.aliases.Enabled()
		if t.own != nil {
			t.own.simple = len(t.own.ids) == 0 && !c.aliases.Enabled()
		}
		r.targets = append(r.targets, t)
	}
	return r
}

// merge adds one more matching subscription.
func (t *target) merge(s subscription) {
	t.qos = max(t.qos, s.qos)
	t.rap = t.rap || s.rap
	if s.id != 0 && !slices.Contains(t.ids, s.id) { // [MQTT-3.3.4-4]
		t.ids = append(t.ids, s.id)
	}
}

// to is the target in force for a message of the given publisher, nil if it
// does not get it.
func (t *target) to(publisher string) *target {
	if t.noLocal && publisher == string(t.c.client.ID) {
		return t.own
	}
	return t
}

// anyFor reports whether a message of the given publisher has any target.
func (r *route) anyFor(publisher string) bool {
	for i := range r.targets {
		if r.targets[i].to(publisher) != nil {
			return true
		}
	}
	return false
}
