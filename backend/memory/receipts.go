package memory

import (
	"context"
	"sync"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// receipts remember the QoS 2 publishes of one session, so that one that comes
// again is not appended again [MQTT-4.3.3-10].
type receipts struct {
	mu  sync.Mutex
	ids map[uint16]receipt
}

// receipt is what is known of a packet identifier.
type receipt struct {
	generation uint32 // how often it was forgotten before
	held       bool   // appended and not forgotten since
}

// had reports whether the publish was appended, now or in an earlier
// generation of its packet identifier.
func (r *receipts) had(id backend.PublishID) bool {
	known, ok := r.ids[id.PacketID]
	return ok && (id.Generation < known.generation || id.Generation == known.generation && known.held)
}

// list returns what a gateway that takes over has to know.
func (r *receipts) list() (received, generations map[uint16]uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	received, generations = make(map[uint16]uint32), make(map[uint16]uint32)
	for id, known := range r.ids {
		if known.held {
			received[id] = known.generation
		} else {
			generations[id] = known.generation
		}
	}
	return received, generations
}

// appendOnce appends m unless its identity has been appended before. The lock
// is held until it is done: a repetition that finds it done may rely on it.
func (s *Store) appendOnce(m *backend.Message, out *backend.Append) {
	local := s.local(m)
	r := s.receiptsOf(m.ID)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.had(m.ID) {
		out.Duplicate = true
		return
	}
	if found := s.index.Match(m.Topic); found != nil {
		s.append(m, found, local, out)
	}
	if r.ids == nil {
		r.ids = make(map[uint16]receipt)
	}
	r.ids[m.ID.PacketID] = receipt{m.ID.Generation, true}
}

// receiptsOf returns the receipts for the publisher of id.
func (s *state) receiptsOf(id backend.PublishID) *receipts {
	who := publisher{id.Client, id.Incarnation}
	ss := s.find(id.Client)
	if ss == nil || ss.incarnation != id.Incarnation {
		return s.strangers.get(who, s.now())
	}
	if r := ss.receipts.Load(); r != nil {
		return r
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.ended {
		return s.strangers.get(who, s.now())
	}
	if ss.receipts.Load() == nil {
		ss.receipts.Store(new(receipts))
	}
	return ss.receipts.Load()
}

// Forget implements [backend.Inboxes].
func (s *Store) Forget(ctx context.Context, l backend.Lease, ids []uint16) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	sh := s.shard(l.Client)
	sh.mu.RLock() // keeps the lease as it is
	defer sh.mu.RUnlock()
	ss := sh.sessions[l.Client]
	if ss == nil || !ss.leased(l, s.now()) {
		return errFenced
	}
	r := ss.receipts.Load()
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		switch known := r.ids[id]; {
		case !known.held:
		case ss.Durable:
			r.ids[id] = receipt{known.generation + 1, false}
		default: // nobody will ask for its generation
			delete(r.ids, id)
		}
	}
	return nil
}

// leased is heldBy for callers that do not hold the session's lock.
func (ss *session) leased(l backend.Lease, now time.Duration) bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.heldBy(l, now)
}

// publisher is one incarnation of a client.
type publisher struct {
	client      backend.ClientID
	incarnation uint64
}

const (
	// keepStrangers is for how long an identity is remembered whose session
	// has ended: longer than any gateway repeats an append.
	keepStrangers = 5 * time.Minute
	// maxStrangers bounds how many publishers that is done for.
	maxStrangers = 65_536
)

// strangers are the receipts of publishers whose session is not there (any
// more).
type strangers struct {
	mu    sync.Mutex
	byWho map[publisher]*receipts
	order []stranger // oldest first
}

type stranger struct {
	who   publisher
	since time.Duration
}

func (s *strangers) init() { s.byWho = make(map[publisher]*receipts) }

func (s *strangers) get(who publisher, now time.Duration) *receipts {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.byWho[who]; r != nil {
		return r
	}
	r := new(receipts)
	s.put(who, r, now)
	return r
}

func (s *strangers) add(who publisher, r *receipts, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byWho[who] == nil {
		s.put(who, r, now)
	}
}

func (s *strangers) put(who publisher, r *receipts, now time.Duration) {
	if len(s.order) >= maxStrangers {
		s.drop(1)
	}
	s.byWho[who] = r
	s.order = append(s.order, stranger{who, now})
}

// forget lets go of those that have been kept long enough.
func (s *strangers) forget(now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n < len(s.order) && now-s.order[n].since >= keepStrangers {
		n++
	}
	s.drop(n)
}

func (s *strangers) drop(n int) {
	for _, old := range s.order[:n] {
		delete(s.byWho, old.who)
	}
	clear(s.order[:n])
	if s.order = s.order[n:]; len(s.order) == 0 {
		s.order = nil
	}
}
