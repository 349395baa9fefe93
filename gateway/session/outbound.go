package session

import (
	"slices"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// slot is the state of one delivery that was sent.
type slot uint8

const (
	slotDone     slot = iota // acknowledged, or never sent and not to be
	slotSent1                // QoS 1, waits for PUBACK
	slotSent2                // QoS 2, waits for PUBREC
	slotReleased             // QoS 2, waits for PUBCOMP
)

// maxStash is how many deliveries that overtook an older one are kept until
// it comes. Only goroutines that append at the same instant overtake each
// other, so there are few; what does not fit is fetched.
const maxStash = 64

// Outbound are the deliveries with QoS 1 and 2 to one client, by sequence.
// A durable session's sequences are the places in its inbox; an ephemeral
// one's are counted here. Either way the packet identifier is
// [backend.PacketID] of the sequence.
//
// Everything up to base is done. What lies between base and next was sent, and
// its state is in slots. Everything from next on waits: in the store's inbox
// for a durable session, in queue for an ephemeral one.
type Outbound struct {
	durable  bool
	limit    uint16 // deliveries in flight at most
	inflight uint16 // deliveries that wait for PUBACK, PUBREC or PUBCOMP
	// missed: mail could not be sent when it came; it is to be fetched.
	missed bool

	base, next uint64
	// last is the newest inbox entry known of; resent: entries up to it may
	// have been sent over an earlier connection.
	last, resent uint64

	slots []slot // a ring; the slot of seq is slots[seq&(len-1)]
	stash []backend.Entry
	queue []backend.Entry
	head  int // of queue
	bytes int // of the messages in queue

	// kept are unacknowledged deliveries of shared subscriptions of an
	// ephemeral session: another member gets them when this one goes.
	kept map[uint64]backend.Entry

	taken    uint64 // base when Progress was last taken
	released []uint64
	done     []uint64
	// unstored are deliveries of a durable session that are done, which the
	// store has not been told yet; storing of them it is being told. They
	// count in the window: by that the store knows what may have been sent
	// (backend.OpenRequest.Window).
	unstored, storing int
}

// NewOutbound returns the outbound half of a session that was opened. Limit is
// the lower of the client's Receive Maximum [MQTT-3.3.4-9] and the server's own
// bound.
func NewOutbound(o *backend.Opened, limit uint16) Outbound {
	s := Outbound{durable: o.Durable, limit: limit}
	if o.Durable {
		s.base, s.next, s.last, s.resent = o.Base, o.Base+1, o.Last, o.Sent
		s.taken = o.Base
		s.missed = s.next <= s.last
	} else {
		s.next = 1
	}
	return s
}

// Room is how many more deliveries may be sent now.
func (s *Outbound) Room() int {
	window := int(s.limit) - int(s.inflight) - s.unstored
	// Identifiers of entries that are not done stay unique.
	return min(window, backend.MaxInFlight-int(s.next-1-s.base))
}

// Stalled reports whether there is no room only because the store has not been
// told what is done, and nobody is about to do so.
func (s *Outbound) Stalled() bool {
	return s.unstored > 0 && s.storing == 0 && s.Room() <= 0 && s.inflight < s.limit
}

// InFlight is how many deliveries wait for an acknowledgement.
func (s *Outbound) InFlight() int { return int(s.inflight) }

// Next is the sequence of the next delivery.
func (s *Outbound) Next() uint64 { return s.next }

// Last is the newest inbox entry known of.
func (s *Outbound) Last() uint64 { return s.last }

// Depth is how many inbox entries are not done, those in between that are
// included.
func (s *Outbound) Depth() uint64 {
	if !s.durable || s.last < s.base {
		return 0
	}
	return s.last - s.base
}

// Behind reports whether entries of the inbox are known that were not sent.
func (s *Outbound) Behind() bool { return s.durable && s.next <= s.last }

// Missed reports whether entries have to be fetched from the inbox, as far as
// the window allows.
func (s *Outbound) Missed() bool { return s.missed && s.next <= s.last }

// Miss makes [Outbound.Missed] true if anything is behind: the doorbell may
// have been lost. Newer is the newest entry that is known to exist, or 0.
func (s *Outbound) Miss(newer uint64) {
	s.last = max(s.last, newer)
	s.missed = s.missed || s.next <= s.last
}

// Resent reports whether the entry may have been sent over an earlier
// connection, and so is sent with DUP [MQTT-3.3.1-1].
func (s *Outbound) Resent(seq uint64) bool { return seq <= s.resent }

// Mail takes a new entry of the inbox and reports whether it is to be sent
// now. If not, it is sent later from the stash or fetched from the inbox; the
// caller need not keep it.
func (s *Outbound) Mail(e backend.Entry) bool {
	if e.Seq < s.next {
		return false
	}
	s.last = max(s.last, e.Seq)
	switch {
	case s.missed:
		return false
	case s.Room() <= 0 || len(s.stash) >= maxStash:
		s.missed = true
		return false
	case e.Seq == s.next:
		return true
	}
	s.stash = append(s.stash, e)
	return false
}

// Stashed returns the next entry, if it came before and may be sent now.
func (s *Outbound) Stashed() (backend.Entry, bool) {
	if len(s.stash) == 0 {
		return backend.Entry{}, false
	}
	if s.missed {
		s.stash = nil
		return backend.Entry{}, false
	}
	for i := range s.stash {
		if s.stash[i].Seq != s.next {
			continue
		}
		if s.Room() <= 0 {
			s.missed, s.stash = true, nil
			return backend.Entry{}, false
		}
		e := s.stash[i]
		s.stash = slices.Delete(s.stash, i, i+1)
		return e, true
	}
	return backend.Entry{}, false
}

// Fetched tells that everything in the inbox up to seq has been handed to
// Sent or Skip, or is not there any more.
func (s *Outbound) Fetched(seq uint64) {
	if seq >= s.next {
		s.skipTo(seq + 1)
	}
	s.stash = slices.DeleteFunc(s.stash, func(e backend.Entry) bool { return e.Seq < s.next }) // it was fetched
	if s.next > s.last {
		s.missed = false
	}
}

// Push keeps a message for an ephemeral session whose window is full, unless as
// many wait already, or as many bytes. One message always fits.
func (s *Outbound) Push(e backend.Entry, messages, bytes int) bool {
	size := e.Message.Size()
	if n := s.Queued(); n >= messages || n > 0 && s.bytes+size > bytes {
		return false
	}
	s.queue = append(s.queue, e)
	s.bytes += size
	return true
}

// Queued is how many messages wait in the queue.
func (s *Outbound) Queued() int { return len(s.queue) - s.head }

// Pop returns the oldest message of the queue if it may be sent now.
func (s *Outbound) Pop() (backend.Entry, bool) {
	if s.Queued() == 0 || s.Room() <= 0 {
		return backend.Entry{}, false
	}
	e := s.queue[s.head]
	s.bytes -= e.Message.Size()
	s.queue[s.head] = backend.Entry{}
	s.head++
	switch {
	case s.head == len(s.queue):
		s.queue, s.head = s.queue[:0], 0
		if cap(s.queue) > 64 {
			s.queue = nil
		}
	case s.head >= 256 && s.head*2 >= len(s.queue):
		n := copy(s.queue, s.queue[s.head:])
		clear(s.queue[n:])
		s.queue, s.head = s.queue[:n], 0
	}
	return e, true
}

// Sent notes that the entry is being sent and returns its packet identifier.
// An ephemeral session's entry gets the next sequence; a durable session's
// has one, not below Next, and those in between are done.
func (s *Outbound) Sent(e *backend.Entry) uint16 {
	seq := s.next
	if s.durable {
		seq = e.Seq
		s.skipTo(seq)
	}
	st := slotSent1
	switch {
	case e.State == backend.Released:
		st = slotReleased
	case e.QoS == 2:
		st = slotSent2
	}
	s.put(seq, st)
	s.next = seq + 1
	s.inflight++
	if !s.durable && e.Share != "" {
		if s.kept == nil {
			s.kept = make(map[uint64]backend.Entry)
		}
		s.kept[seq] = *e
	}
	return backend.PacketID(seq)
}

// Skip notes that the entry will not be sent and counts as done: it has
// expired, is too large for the client [MQTT-3.1.2-25], or denied.
func (s *Outbound) Skip(e *backend.Entry) {
	if !s.durable || e.Seq < s.next {
		return
	}
	s.skipTo(e.Seq + 1)
}

// skipTo moves next, with everything in between done.
func (s *Outbound) skipTo(next uint64) {
	for ; s.next < next; s.next++ {
		s.unstored++
		if s.next == s.base+1 {
			s.base++
			continue
		}
		s.put(s.next, slotDone)
		s.done = append(s.done, s.next)
	}
}

func (s *Outbound) put(seq uint64, st slot) {
	need := int(seq - s.base)
	if need > len(s.slots) {
		grown := make([]slot, max(16, ceilPow2(need)))
		for i := s.base + 1; i < s.next; i++ {
			grown[i&uint64(len(grown)-1)] = s.slots[i&uint64(len(s.slots)-1)]
		}
		s.slots = grown
	}
	s.slots[seq&uint64(len(s.slots)-1)] = st
}

func ceilPow2(n int) int {
	p := 1
	for p < n {
		p <<= 1
	}
	return p
}

// find returns the sequence of a packet identifier that is in use.
func (s *Outbound) find(packet uint16) (seq uint64, st *slot) {
	if packet == 0 || s.next == s.base+1 {
		return 0, nil
	}
	first := backend.PacketID(s.base + 1)
	off := (int(packet) - int(first) + backend.MaxInFlight) % backend.MaxInFlight
	seq = s.base + 1 + uint64(off)
	if seq >= s.next {
		return 0, nil
	}
	st = &s.slots[seq&uint64(len(s.slots)-1)]
	if *st == slotDone {
		return 0, nil
	}
	return seq, st
}

// finish makes a delivery done.
func (s *Outbound) finish(seq uint64, st *slot) {
	*st = slotDone
	s.inflight--
	if s.kept != nil {
		delete(s.kept, seq)
	}
	if s.durable {
		s.unstored++
	}
	if seq != s.base+1 {
		if s.durable {
			s.done = append(s.done, seq)
		}
		return
	}
	s.base++
	for s.base+1 < s.next && s.slots[(s.base+1)&uint64(len(s.slots)-1)] == slotDone {
		s.base++
	}
}

func wrongType(got string) error {
	return &protocol.Error{Code: protocol.ProtocolError, Detail: got + " does not fit the delivery with that packet identifier"}
}

// Puback ends a QoS 1 delivery. One that is not known is ignored.
func (s *Outbound) Puback(packet uint16) error {
	seq, st := s.find(packet)
	if st == nil {
		return nil
	}
	if *st != slotSent1 {
		return wrongType("PUBACK")
	}
	s.finish(seq, st)
	return nil
}

// Pubrec takes the client's answer to a QoS 2 delivery: Release, after which
// PUBREL leaves; Answer, PUBREL with the code at once; or Ignore, for a refusal,
// which ends the delivery (MQTT 5 §4.3.3).
func (s *Outbound) Pubrec(packet uint16, refused bool) (Do, protocol.ReasonCode, error) {
	seq, st := s.find(packet)
	switch {
	case st == nil && refused:
		return Ignore, 0, nil
	case st == nil:
		return Answer, protocol.PacketIdentifierNotFound, nil
	case *st == slotSent1:
		return Ignore, 0, wrongType("PUBREC")
	case refused:
		s.finish(seq, st)
		return Ignore, 0, nil
	case *st == slotReleased:
		return Answer, protocol.Success, nil
	}
	*st = slotReleased
	if s.kept != nil {
		delete(s.kept, seq)
	}
	if !s.durable {
		return Answer, protocol.Success, nil
	}
	s.released = append(s.released, seq)
	return Release, protocol.Success, nil
}

// Pubcomp ends a QoS 2 delivery. One that is not known is ignored.
func (s *Outbound) Pubcomp(packet uint16) error {
	seq, st := s.find(packet)
	if st == nil {
		return nil
	}
	if *st != slotReleased {
		return wrongType("PUBCOMP")
	}
	s.finish(seq, st)
	return nil
}

// Progress returns what the store has not been told of a durable session, and
// how many deliveries that ends: when the store has it, [Outbound.Stored] is to
// be called with that.
func (s *Outbound) Progress() (p backend.Progress, n int, changed bool) {
	if !s.durable || (s.base == s.taken && len(s.released) == 0 && len(s.done) == 0) {
		return p, 0, false
	}
	p.Base = s.base
	p.Released = slices.DeleteFunc(s.released, func(seq uint64) bool { return seq <= s.base })
	p.Done = slices.DeleteFunc(s.done, func(seq uint64) bool { return seq <= s.base })
	s.taken, s.released, s.done = s.base, nil, nil
	n = s.unstored - s.storing
	s.storing += n
	return p, n, true
}

// Stored tells that the store knows that n deliveries are done.
func (s *Outbound) Stored(n int) { s.unstored, s.storing = s.unstored-n, s.storing-n }

// Unfinished returns what an ephemeral session still had to do for shared
// subscriptions, for other members: QoS 1 messages that were not acknowledged
// and everything that was not sent. QoS 2 messages that were sent stay
// undelivered (MQTT 5 §4.8.2).
func (s *Outbound) Unfinished() []backend.Entry {
	var out []backend.Entry
	for seq := s.base + 1; seq < s.next && len(s.kept) > 0; seq++ {
		if e, ok := s.kept[seq]; ok && e.QoS == 1 {
			out = append(out, e)
		}
	}
	for _, e := range s.queue[s.head:] {
		if e.Share != "" {
			out = append(out, e)
		}
	}
	return out
}
