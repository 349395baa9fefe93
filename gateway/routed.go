package gateway

import (
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

const (
	routedShards = 32
	// routedWindow is the most identities that are remembered of a publisher:
	// as many QoS 2 publishes as it may have under way by default.
	routedWindow = 1024
	// routedTime is for how long identities are remembered, if there is room:
	// longer than any client waits before it comes back and repeats.
	routedTime = time.Minute
	// routedPublishers bounds the publishers of one shard.
	routedPublishers = 2048
)

// ownIdentity begins the publisher of identities that are no client's: each is for
// one message, which may come by several gateways in any order, so that the one
// that is not the first need not say so. There is one to compare with, or none.
const ownIdentity = "$one/"

// oneMessage is the identity of a message that has a name of its own.
func oneMessage(name string) backend.PublishID {
	return backend.PublishID{Client: backend.ClientID(ownIdentity + name), Incarnation: 1, PacketID: 1}
}

// routed remembers which QoS 2 publishes were routed to the live sessions here,
// be it to none, so that one that is routed again (it may not have come here the
// first time) is not delivered twice, nor to who came in between [MQTT-4.3.3-2].
type routed struct {
	once   sync.Once
	seed   maphash.Seed
	shards [routedShards]routedShard
}

// routedShard has two generations: what is only in the older one, and nobody
// asks for, is gone at the next turn.
type routedShard struct {
	sync.Mutex
	newer, older map[backend.ClientID]*recent
	turned       time.Duration
}

// recent are the newest identities of one publisher's session, in a ring.
type recent struct {
	incarnation uint64
	ring        []delivered
	next        int // the oldest one, if the ring is full
}

type delivered struct {
	generation uint32
	at         uint32 // seconds on the gateway's clock
	packet     uint16
}

// remember marks those publishes with an identity (of QoS 2, and wills) that
// were delivered here before as had, and remembers the others.
func (g *Gateway) remember(pubs []pub) {
	var s *routedShard
	var r *recent
	var client backend.ClientID
	var own bool
	now := g.now()
	for i := range pubs {
		u := &pubs[i]
		if u.msg.QoS == 0 || u.done || u.msg.ID.PacketID == 0 {
			continue
		}
		if s == nil || client != u.msg.ID.Client {
			if s != nil {
				s.Unlock()
			}
			client = u.msg.ID.Client
			s = g.routed.shard(client)
			s.Lock()
			r = s.of(client, now)
			own = strings.HasPrefix(string(client), ownIdentity)
		}
		if (u.again || own) && r.has(u.msg.ID) {
			u.had = true
			continue
		}
		r.add(u.msg.ID, uint32(now/time.Second))
	}
	if s != nil {
		s.Unlock()
	}
}

func (r *routed) shard(id backend.ClientID) *routedShard {
	r.once.Do(func() { r.seed = maphash.MakeSeed() })
	return &r.shards[maphash.String(r.seed, string(id))%routedShards]
}

// of returns what is remembered of a publisher.
func (s *routedShard) of(id backend.ClientID, now time.Duration) *recent {
	if r := s.newer[id]; r != nil {
		return r
	}
	if s.newer == nil || len(s.newer) >= routedPublishers || now-s.turned > routedTime {
		s.newer, s.older = make(map[backend.ClientID]*recent), s.newer
		s.turned = now
	}
	r := s.older[id]
	if r == nil {
		r = new(recent)
	}
	s.newer[id] = r
	return r
}

func (r *recent) has(id backend.PublishID) bool {
	if r.incarnation != id.Incarnation {
		return false
	}
	for i := range r.ring {
		if r.ring[i].packet == id.PacketID && r.ring[i].generation == id.Generation {
			return true
		}
	}
	return false
}

func (r *recent) add(id backend.PublishID, now uint32) {
	d := delivered{generation: id.Generation, at: now, packet: id.PacketID}
	if r.incarnation != id.Incarnation {
		*r = recent{incarnation: id.Incarnation, ring: r.ring[:0]}
	}
	if len(r.ring) < cap(r.ring) {
		r.ring = append(r.ring, d)
		return
	}
	if oldest := &r.ring; len(*oldest) == 0 || len(*oldest) < routedWindow && now-(*oldest)[r.next].at < uint32(routedTime/time.Second) {
		// Grown, with the oldest in front.
		grown := make([]delivered, 0, max(8, 2*len(r.ring)))
		grown = append(append(grown, r.ring[r.next:]...), r.ring[:r.next]...)
		r.ring, r.next = append(grown, d), 0
		return
	}
	r.ring[r.next] = d
	r.next = (r.next + 1) % len(r.ring)
}
