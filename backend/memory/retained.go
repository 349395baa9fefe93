package memory

import (
	"container/heap"
	"context"
	"strings"
	"sync"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// retained are the retained messages: by topic for those who know it, and in
// order for those who look for a pattern.
type retained struct {
	mu       sync.RWMutex
	byTopic  map[string]*kept
	peak     int // of len(byTopic)
	ordered  ordered
	expiring expiryHeap
	bytes    int64

	maxCount int
	maxBytes int64
}

// kept is one retained message. It is replaced, never changed, but for its
// place.
type kept struct {
	message *backend.Message
	place   int // among expiring, from 1; 0 is none
}

func (r *retained) init(maxCount int, maxBytes int64) {
	r.byTopic = make(map[string]*kept)
	r.maxCount, r.maxBytes = maxCount, maxBytes
}

// Retain implements [backend.Retained].
func (s *Store) Retain(ctx context.Context, msgs []*backend.Message) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	s.retained.expire(time.Now())
	var full bool
	for _, m := range msgs {
		if len(m.Payload) == 0 {
			s.retained.remove(m.Topic)
		} else if !s.retained.set(m.Clone()) {
			full = true
		}
	}
	if full {
		return errFull
	}
	return nil
}

// RetainedStats implements [backend.Retained].
func (s *Store) RetainedStats(ctx context.Context) (count, bytes int64, err error) {
	if err := s.enter(ctx); err != nil {
		return 0, 0, err
	}
	r := &s.retained
	r.expire(time.Now())
	r.mu.RLock()
	defer r.mu.RUnlock()
	return int64(len(r.byTopic)), r.bytes, nil
}

// set keeps m, which is the store's own, if the limits allow it.
func (r *retained) set(m *backend.Message) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.byTopic[m.Topic]
	count, bytes := len(r.byTopic)+1, r.bytes+int64(m.Size())
	if old != nil {
		count, bytes = count-1, bytes-int64(old.message.Size())
	}
	// What makes it smaller is allowed even above the limit.
	if count > r.maxCount || bytes > r.maxBytes && bytes > r.bytes {
		return false
	}
	k := &kept{message: m}
	if old == nil {
		r.ordered.insert(k)
	} else {
		r.ordered.replace(k)
		r.unwatch(old)
	}
	r.byTopic[m.Topic] = k
	r.peak = max(r.peak, len(r.byTopic))
	r.bytes = bytes
	if m.Expires != 0 {
		heap.Push(&r.expiring, k)
	}
	return true
}

func (r *retained) remove(topic string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.byTopic[topic]; k != nil {
		r.drop(k)
	}
}

func (r *retained) drop(k *kept) {
	r.unwatch(k)
	r.ordered.remove(k.message.Topic)
	r.bytes -= int64(k.message.Size())
	delete(r.byTopic, k.message.Topic)
	// A map does not shrink by itself.
	if r.peak > 1024 && len(r.byTopic) < r.peak/4 {
		smaller := make(map[string]*kept, len(r.byTopic))
		for topic, k := range r.byTopic {
			smaller[topic] = k
		}
		r.byTopic, r.peak = smaller, len(smaller)
	}
}

func (r *retained) unwatch(k *kept) {
	if k.place != 0 {
		heap.Remove(&r.expiring, k.place-1)
	}
}

// expire removes the messages whose time is over.
func (r *retained) expire(now time.Time) {
	for r.overdue(now) {
		r.mu.Lock()
		for range stretch {
			if len(r.expiring) == 0 || !r.expiring[0].message.Expired(now) {
				break
			}
			r.drop(r.expiring[0])
		}
		r.mu.Unlock()
	}
}

func (r *retained) overdue(now time.Time) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.expiring) > 0 && r.expiring[0].message.Expired(now)
}

// own returns a message like m that may be kept: m itself if it came out of
// here, so that one retained message in many inboxes is there once.
func (r *retained) own(m *backend.Message) *backend.Message {
	r.mu.RLock()
	k := r.byTopic[m.Topic]
	r.mu.RUnlock()
	if k != nil && k.message == m {
		return m
	}
	return m.Clone()
}

// compareTopics puts topics in the order of the store: by byte, with '/' before
// all others, so that the topics below a level stand together right behind
// it.
func compareTopics(a, b string) int {
	for i := range min(len(a), len(b)) {
		switch {
		case a[i] == b[i]:
		case a[i] == '/':
			return -1
		case b[i] == '/':
			return 1
		case a[i] < b[i]:
			return -1
		default:
			return 1
		}
	}
	return len(a) - len(b)
}

// within reports whether topic is root or below it.
func within(topic, root string) bool {
	rest, ok := strings.CutPrefix(topic, root)
	return ok && (rest == "" || rest[0] == '/')
}

// expiryHeap implements [heap.Interface]: the message that expires next is the
// first.
type expiryHeap []*kept

func (h expiryHeap) Len() int           { return len(h) }
func (h expiryHeap) Less(i, j int) bool { return h[i].message.Expires < h[j].message.Expires }

func (h expiryHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i+1, j+1
}

func (h *expiryHeap) Push(x any) {
	k := x.(*kept)
	*h = append(*h, k)
	k.place = len(*h)
}

func (h *expiryHeap) Pop() any {
	last := len(*h) - 1
	k := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	k.place = 0
	return k
}
