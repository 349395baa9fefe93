package memory

import (
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// inbox is the inbox of one session. The sequence of its entries has no gaps:
// what is done leaves from the front, and stays as a mark elsewhere.
type inbox struct {
	base uint64 // all up to it are done and gone
	ring []item // entry seq is at seq modulo the length, a power of two
	n    int    // entries above base

	live   int   // of them, not done
	shared int   // of those that are live, for the member of a shared group
	bytes  int64 // of the messages of those that are live
	// earliest is a time, in Unix milliseconds, before which no live entry
	// expires; 0 if none ever does.
	earliest int64
	// oldest is a sequence below which no entry is pending.
	oldest uint64
	// keep: entries up to it may have been sent, so that they do not expire
	// any more [MQTT-4.3.3-7].
	keep uint64
}

// item is an entry in an inbox.
type item struct {
	message *backend.Message // nil: done
	ids     []uint32
	share   string
	qos     byte
	retain  bool
	state   backend.EntryState
}

// bounds are the limits of an inbox and of the queue of a shared group.
type bounds struct {
	messages int
	bytes    int64
	policy   FullPolicy
}

// fits reports whether one more message of the given size is allowed.
func (b bounds) fits(n int, bytes int64, size int) bool {
	return n < b.messages && bytes+int64(size) <= b.bytes
}

func (b *inbox) last() uint64 { return b.base + uint64(b.n) }

// at returns the entry with the given sequence, which is there.
func (b *inbox) at(seq uint64) *item { return &b.ring[seq&uint64(len(b.ring)-1)] }

func (e *item) entry(seq uint64) backend.Entry {
	return backend.Entry{
		Seq: seq, Message: e.message, QoS: e.qos, Retain: e.retain,
		State: e.state, SubscriptionIDs: e.ids, Share: e.share,
	}
}

// add puts an entry at the end and returns its sequence. Without room it is
// refused, or older ones go; full says that a message was lost either way.
func (b *inbox) add(e backend.Entry, limits bounds) (seq uint64, full bool) {
	size := e.Message.Size()
	if !limits.fits(b.live, b.bytes, size) {
		b.expire(time.Now(), b.keep)
	}
	for !limits.fits(b.live, b.bytes, size) {
		full = true
		if limits.policy == DropNewest || int64(size) > limits.bytes || !b.dropOldest() {
			return 0, true
		}
	}
	return b.push(e), full
}

// push puts an entry at the end whatever the limits say.
func (b *inbox) push(e backend.Entry) (seq uint64) {
	if b.n == len(b.ring) {
		b.resize(max(4, 2*len(b.ring)))
	}
	b.n++
	seq = b.last()
	*b.at(seq) = item{message: e.Message, ids: e.SubscriptionIDs, share: e.Share, qos: e.QoS, retain: e.Retain}
	b.live++
	if e.Share != "" {
		b.shared++
	}
	b.bytes += int64(e.Message.Size())
	if x := e.Message.Expires; x != 0 && (b.earliest == 0 || x < b.earliest) {
		b.earliest = x
	}
	return seq
}

// maxSequence is what no inbox gets to: a higher one is an error of who names it.
const maxSequence = 1 << 53

// reach makes an inbox that is not there yet end with the given sequence, or one
// with the same packet identifier; what is missing is done. A store in memory
// loses nothing, but promises the same.
func (b *inbox) reach(last uint64) {
	if last <= b.last() || last > maxSequence {
		return
	}
	if b.n == 0 {
		b.base = last
		return
	}
	for range (last-b.last()-1)%backend.MaxInFlight + 1 {
		if b.n == len(b.ring) {
			b.resize(max(4, 2*len(b.ring)))
		}
		b.n++
		*b.at(b.last()) = item{state: backend.Done}
	}
}

// finish marks an entry that is not done as done.
func (b *inbox) finish(seq uint64) {
	e := b.at(seq)
	b.live--
	if e.share != "" {
		b.shared--
	}
	b.bytes -= int64(e.message.Size())
	*e = item{state: backend.Done}
}

// trim lets go of what is done at the front, and of memory that is not needed
// any more.
func (b *inbox) trim() {
	for b.n > 0 && b.at(b.base+1).state == backend.Done {
		b.base++
		b.n--
	}
	if b.n == 0 {
		b.ring, b.earliest = nil, 0
		return
	}
	size := len(b.ring)
	for size > 16 && b.n <= size/4 {
		size /= 2
	}
	if size < len(b.ring) {
		b.resize(size)
	}
}

func (b *inbox) resize(size int) {
	old := *b
	b.ring = make([]item, size)
	for seq := b.base + 1; seq <= b.last(); seq++ {
		*b.at(seq) = *old.at(seq)
	}
}

// expire marks the pending entries above sent as done whose messages have
// expired [MQTT-3.3.2-5]. Those that may have been sent go on to their end.
func (b *inbox) expire(now time.Time, sent uint64) {
	if b.earliest == 0 || now.UnixMilli() < b.earliest {
		return
	}
	b.earliest = 0
	for seq := max(b.base, sent) + 1; seq <= b.last(); seq++ {
		e := b.at(seq)
		switch {
		case e.state != backend.Pending || e.message.Expires == 0:
		case e.message.Expired(now):
			b.finish(seq)
		case b.earliest == 0 || e.message.Expires < b.earliest:
			b.earliest = e.message.Expires
		}
	}
	b.trim()
}

// dropOldest gives up the oldest pending entry, if there is one.
func (b *inbox) dropOldest() bool {
	for seq := max(b.oldest, b.base+1); seq <= b.last(); seq++ {
		b.oldest = seq
		if b.at(seq).state == backend.Pending {
			b.finish(seq)
			b.trim()
			return true
		}
	}
	return false
}

// advance records what the client has answered.
func (b *inbox) advance(p backend.Progress) {
	for _, seq := range p.Released {
		if b.has(seq) && b.at(seq).state == backend.Pending {
			b.at(seq).state = backend.Released
		}
	}
	for _, seq := range p.Done {
		b.done(seq)
	}
	for seq := b.base + 1; seq <= min(p.Base, b.last()); seq++ {
		b.done(seq)
	}
	b.trim()
}

func (b *inbox) has(seq uint64) bool { return b.base < seq && seq <= b.last() }

func (b *inbox) done(seq uint64) {
	if b.has(seq) && b.at(seq).state != backend.Done {
		b.finish(seq)
	}
}
