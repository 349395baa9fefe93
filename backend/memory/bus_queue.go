package memory

import (
	"fmt"
	"sync"

	"github.com/sluice-mqtt/sluice/backend"
)

// delivery is one call of a handler: exactly one of message, notice and gap is
// set.
type delivery struct {
	message *backend.Message
	notice  *backend.Notice
	gap     error
	size    int // of the message, for the limit
}

// queue is what waits for the handler of one gateway: bounded, first in first
// out, many writers, one reader. Writers never wait.
//
// When it is full a stall begins: what is pushed is dropped until the reader
// has taken everything that waited, and then the reader gets one gap. So there
// is one gap for a stall, after all that came before the loss and before all
// that comes after it, and it is not late when the load never ends.
type queue struct {
	maxCount, maxBytes int

	mu sync.Mutex
	// ready is signalled when an empty queue gets something or is closed.
	ready sync.Cond
	// ring holds count deliveries from head on; its length is a power of two.
	ring    []delivery
	head    int
	count   int
	bytes   int
	dropped int // in the present stall; 0 is no stall
	closed  bool
}

// idleRing is the length of a ring that is kept while nothing waits.
const idleRing = 1024

func newQueue(maxCount, maxBytes int) *queue {
	q := &queue{maxCount: maxCount, maxBytes: maxBytes}
	q.ready.L = &q.mu
	return q
}

// push adds d, or drops and counts it.
func (q *queue) push(d delivery) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	full := q.count > 0 && (q.count >= q.maxCount || q.bytes+d.size > q.maxBytes)
	if full || q.dropped > 0 {
		q.dropped++
		return
	}
	if q.count == len(q.ring) {
		q.grow()
	}
	q.ring[(q.head+q.count)&(len(q.ring)-1)] = d
	q.count++
	q.bytes += d.size
	if q.count == 1 {
		q.ready.Signal()
	}
}

// grow doubles the ring. q.mu is held.
func (q *queue) grow() {
	next := make([]delivery, max(idleRing, 2*len(q.ring)))
	n := copy(next, q.ring[q.head:])
	copy(next[n:], q.ring[:q.head])
	q.ring, q.head = next, 0
}

// pop waits for the next delivery and tells whether more is waiting. It returns
// false when the queue was closed, whatever waits.
func (q *queue) pop() (d delivery, more, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.count == 0 && q.dropped == 0 && !q.closed {
		q.ready.Wait()
	}
	switch {
	case q.closed:
		return delivery{}, false, false
	case q.count == 0:
		gap := fmt.Errorf("memory: bus: %d deliveries dropped: %w", q.dropped, backend.ErrFull)
		q.dropped = 0
		return delivery{gap: gap}, false, true
	}
	d = q.ring[q.head]
	q.ring[q.head] = delivery{}
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.count--
	q.bytes -= d.size
	if q.count == 0 && len(q.ring) > idleRing {
		q.ring, q.head = nil, 0
	}
	return d, q.count > 0 || q.dropped > 0, true
}

// close drops what waits and ends the reader.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.ring, q.head, q.count, q.bytes = nil, 0, 0, 0
	q.ready.Signal()
}
