package nats

import (
	"fmt"
	"sync"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// delivery is something for the handler: exactly one of frame, notice and gap
// is set. A frame is read only when its turn comes: what is dropped costs
// nothing, and the reader of the connection is not held up.
type delivery struct {
	frame  []byte // what follows the header
	kind   kind   // of the frame
	notice *backend.Notice
	gap    error
	// count and size are what it counts for in the limits.
	count, size int
}

// queue is what waits for the handler: bounded by messages and bytes, first in
// first out, one reader. Writers never wait.
//
// When it is full a stall begins: what comes is dropped until the reader has
// taken everything that waited, and then the reader gets one gap. So there is
// one gap for a stall, after all that came before the loss and before all that
// comes after it, and it is not late when the load never ends.
type queue struct {
	maxCount, maxBytes int

	mu sync.Mutex
	// ready is signalled when an empty queue gets something or is closed.
	ready sync.Cond
	// ring holds count deliveries from head on; its length is a power of two.
	ring    []delivery
	head    int
	count   int
	pending int // messages and notices
	bytes   int
	stalled int // dropped in the present stall; 0 is no stall
	closed  bool

	dropped uint64    // in all
	gaps    uint64    // reported
	lastGap time.Time // when the newest gap was queued
}

// idleRing is the length of a ring that is kept while nothing waits.
const idleRing = 1024

func newQueue(maxCount, maxBytes int) *queue {
	q := &queue{maxCount: maxCount, maxBytes: maxBytes, lastGap: time.Now()}
	q.ready.L = &q.mu
	return q
}

// push adds what fits and drops the rest.
func (q *queue) push(list ...delivery) {
	if len(list) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range list {
		full := q.count > 0 && (q.pending+list[i].count > q.maxCount || q.bytes+list[i].size > q.maxBytes)
		if full || q.stalled > 0 {
			q.stall(list[i].count)
			continue
		}
		q.add(list[i])
	}
	q.ready.Signal()
}

// lost says that something never reached the queue, because what is in front
// of it ran over.
func (q *queue) lost() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stall(1)
	q.ready.Signal()
}

// gap queues a gap, above all limits. One that is waiting with nothing behind
// it, or for the end of a stall, is enough.
func (q *queue) gap(reason error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lastGap = time.Now()
	if q.stalled > 0 || q.count > 0 && q.ring[(q.head+q.count-1)&(len(q.ring)-1)].gap != nil {
		return
	}
	q.add(delivery{gap: reason})
	q.ready.Signal()
}

// newestGap returns when the newest gap was queued.
func (q *queue) newestGap() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lastGap
}

// counts returns how many gaps were reported and how many deliveries dropped.
func (q *queue) counts() (gaps, dropped uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.gaps, q.dropped
}

// stall drops n. q.mu is held.
func (q *queue) stall(n int) {
	if q.closed {
		return
	}
	q.stalled += n
	q.dropped += uint64(n)
}

// add appends d. q.mu is held.
func (q *queue) add(d delivery) {
	if q.closed {
		return
	}
	if q.count == len(q.ring) {
		next := make([]delivery, max(idleRing, 2*len(q.ring)))
		n := copy(next, q.ring[q.head:])
		copy(next[n:], q.ring[:q.head])
		q.ring, q.head = next, 0
	}
	q.ring[(q.head+q.count)&(len(q.ring)-1)] = d
	q.count++
	q.pending += d.count
	q.bytes += d.size
}

// pop waits for the next delivery and tells whether more is waiting. It returns
// false when the queue was closed, whatever waits.
func (q *queue) pop() (d delivery, more, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.count == 0 && q.stalled == 0 && !q.closed {
		q.ready.Wait()
	}
	switch {
	case q.closed:
		return delivery{}, false, false
	case q.count == 0:
		gap := fmt.Errorf("nats: %d deliveries dropped: %w", q.stalled, backend.ErrFull)
		q.stalled = 0
		q.gaps++
		q.lastGap = time.Now()
		return delivery{gap: gap}, false, true
	}
	d = q.ring[q.head]
	q.ring[q.head] = delivery{}
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.count--
	q.pending -= d.count
	q.bytes -= d.size
	if d.gap != nil {
		q.gaps++
	}
	if q.count == 0 && len(q.ring) > idleRing {
		q.ring, q.head = nil, 0
	}
	return d, q.count > 0 || q.stalled > 0, true
}

// close drops what waits and ends the reader.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.ring, q.head, q.count, q.pending, q.bytes = nil, 0, 0, 0, 0
	q.ready.Signal()
}
