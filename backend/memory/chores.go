package memory

import (
	"container/heap"
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// chores are those that are not finished, the one that is to be handed out
// next first.
type chores struct {
	mu   sync.Mutex
	last uint64
	byID map[string]*chore
	heap choreHeap
}

type chore struct {
	backend.Chore
	ready time.Duration // when it is to be handed out
	order uint64        // among those that are ready at the same time
	place int           // in the heap
}

func (c *chores) init() { c.byID = make(map[string]*chore) }

// add makes a chore. It is added to claimed, if that is not nil, as handed out
// to the caller; otherwise it is left to Due.
func (c *chores) add(what backend.Chore, now time.Duration, claimed *[]backend.Chore) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	what.ID = strconv.FormatUint(c.last, 36)
	ch := &chore{Chore: what, ready: now, order: c.last}
	if claimed != nil {
		ch.ready += backend.ChoreClaim
		*claimed = append(*claimed, what)
	}
	c.byID[what.ID] = ch
	heap.Push(&c.heap, ch)
}

// take hands out up to atMost chores that are ready at now.
func (c *chores) take(now time.Duration, atMost int) (due []backend.Chore) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(due) < atMost && len(c.heap) > 0 && c.heap[0].ready <= now {
		ch := c.heap[0]
		ch.ready = now + backend.ChoreClaim
		heap.Fix(&c.heap, 0)
		due = append(due, ch.Chore)
	}
	return due
}

// next returns when the next chore is ready.
func (c *chores) next() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.heap) == 0 {
		return never
	}
	return c.heap[0].ready
}

func (c *chores) finish(done []backend.Chore) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range done {
		if ch := c.byID[d.ID]; ch != nil {
			delete(c.byID, d.ID)
			heap.Remove(&c.heap, ch.place)
		}
	}
}

const (
	// longestWait is how long Due lets its caller sleep: a chore that another
	// gateway makes is not announced.
	longestWait = time.Second

	// settleAtOnce is how many sessions one Due ends at most, so that a
	// million that end together do not stall a gateway.
	settleAtOnce = 4096
)

// Due implements [backend.Chores].
func (s *Store) Due(ctx context.Context, id backend.NodeID, atMost int) (due []backend.Chore, wait time.Duration, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, 0, err
	}
	now := s.now()
	if n := s.node(id); n == nil || !n.alive(now) {
		return nil, 0, errFenced
	}
	next := s.reapDead(now)
	for range settleAtOnce {
		ss := s.timers.pop(now)
		if ss == nil {
			break
		}
		sh := s.shard(ss.Client)
		sh.mu.Lock()
		ss.mu.Lock()
		s.settle(ss, now)
		ss.mu.Unlock()
		sh.mu.Unlock()
	}
	s.retained.expire(time.Now())
	s.strangers.forget(now)
	due = s.chores.take(s.now(), atMost)
	next = min(next, s.timers.next(), s.chores.next(), now+longestWait)
	return due, max(next-s.now(), 0), nil
}

// Finish implements [backend.Chores].
func (s *Store) Finish(ctx context.Context, done []backend.Chore) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	s.chores.finish(done)
	return nil
}

// choreHeap implements [heap.Interface].
type choreHeap []*chore

func (h choreHeap) Len() int { return len(h) }

func (h choreHeap) Less(i, j int) bool {
	return h[i].ready < h[j].ready || h[i].ready == h[j].ready && h[i].order < h[j].order
}

func (h choreHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *choreHeap) Push(x any) {
	ch := x.(*chore)
	ch.place = len(*h)
	*h = append(*h, ch)
}

func (h *choreHeap) Pop() any {
	last := len(*h) - 1
	ch := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return ch
}
