package memory

import (
	"slices"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/index"
)

// parked holds the messages of a shared group for which no member is there, in
// order. It is guarded by the group.
type parked struct {
	list     []*backend.Message
	bytes    int64
	earliest int64 // no message expires before; 0 if none ever does
}

func parkedOf(g *index.Group) *parked {
	q, _ := g.Value.(*parked)
	if q == nil {
		q = new(parked)
		g.Value = q
	}
	return q
}

// add puts m at the end. Full says that a message was lost.
func (q *parked) add(m *backend.Message, limits bounds) (full bool) {
	size := m.Size()
	if !limits.fits(len(q.list), q.bytes, size) {
		q.expire(time.Now())
	}
	for !limits.fits(len(q.list), q.bytes, size) {
		if full = true; limits.policy == DropNewest || len(q.list) == 0 {
			return true
		}
		q.drop(1)
	}
	q.list = append(q.list, m)
	q.bytes += int64(size)
	if m.Expires != 0 && (q.earliest == 0 || m.Expires < q.earliest) {
		q.earliest = m.Expires
	}
	return full
}

// take removes up to atMost messages from the front.
func (q *parked) take(atMost int) (taken []*backend.Message, more bool) {
	q.expire(time.Now())
	taken = slices.Clone(q.list[:min(max(atMost, 0), len(q.list))])
	q.drop(len(taken))
	return taken, len(q.list) > 0
}

// drop lets go of the first n messages.
func (q *parked) drop(n int) {
	for _, m := range q.list[:n] {
		q.bytes -= int64(m.Size())
	}
	clear(q.list[:n])
	if q.list = q.list[n:]; len(q.list) == 0 {
		*q = parked{}
	}
}

func (q *parked) expire(now time.Time) {
	if q.earliest == 0 || now.UnixMilli() < q.earliest {
		return
	}
	live := parked{}
	for _, m := range q.list {
		if m.Expired(now) {
			continue
		}
		live.list = append(live.list, m)
		live.bytes += int64(m.Size())
		if m.Expires != 0 && (live.earliest == 0 || m.Expires < live.earliest) {
			live.earliest = m.Expires
		}
	}
	*q = live
}
