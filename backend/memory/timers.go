package memory

import (
	"container/heap"
	"sync"
	"time"
)

// timers are the detached sessions for which something falls due later, the
// next one first.
type timers struct {
	mu   sync.Mutex
	heap timerHeap
}

// timer is the place of a session among the timers.
type timer struct {
	at    time.Duration
	place int // in the heap, from 1; 0 is none
}

// set makes the session come up at the given time.
func (t *timers) set(ss *session, at time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case at == never:
		t.take(ss)
	case ss.timer.place != 0:
		ss.timer.at = at
		heap.Fix(&t.heap, ss.timer.place-1)
	default:
		ss.timer.at = at
		heap.Push(&t.heap, ss)
	}
}

func (t *timers) remove(ss *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.take(ss)
}

func (t *timers) take(ss *session) {
	if ss.timer.place != 0 {
		heap.Remove(&t.heap, ss.timer.place-1)
	}
}

// pop takes out the next session that is due at now, or returns nil.
func (t *timers) pop(now time.Duration) *session {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.heap) == 0 || t.heap[0].timer.at > now {
		return nil
	}
	return heap.Pop(&t.heap).(*session)
}

// next returns when the next session is due.
func (t *timers) next() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.heap) == 0 {
		return never
	}
	return t.heap[0].timer.at
}

// timerHeap implements [heap.Interface].
type timerHeap []*session

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].timer.at < h[j].timer.at }

func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].timer.place, h[j].timer.place = i+1, j+1
}

func (h *timerHeap) Push(x any) {
	ss := x.(*session)
	*h = append(*h, ss)
	ss.timer.place = len(*h)
}

func (h *timerHeap) Pop() any {
	last := len(*h) - 1
	ss := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	ss.timer.place = 0
	return ss
}
