package nats

import (
	"sync/atomic"

	"github.com/sluice-mqtt/sluice/backend"
)

// deliverer reads frames whose turn has come and calls the handler, one call
// at a time.
type deliverer struct {
	queue    *queue
	foreign  *foreign
	messages atomic.Uint64    // and notices that were handed on
	since    int              // of them since the handler was flushed
	gaps     [4]atomic.Uint64 // by gapReasons
}

// run calls h until the queue is closed.
func (d *deliverer) run(h backend.Handler) {
	for d.next(h) {
	}
}

// next waits for one delivery and hands it on. It returns false when the queue
// is closed.
func (d *deliverer) next(h backend.Handler) bool {
	next, more, ok := d.queue.pop()
	if !ok {
		return false
	}
	var err error
	switch {
	case next.gap != nil:
		d.gaps[gapReason(next.gap)].Add(1)
		h.HandleGap(next.gap)
	case next.notice != nil:
		h.HandleNotice(*next.notice)
		d.handed(h)
	case next.kind == kindNotice:
		err = d.notice(h, next.frame)
	default:
		err = d.frame(h, next.frame, next.count)
	}
	if err != nil {
		d.foreign.refuse(err)
	}
	if !more && d.since > 0 {
		d.flush(h)
	}
	return true
}

// handed counts what was handed on, and ends a run that is long enough.
func (d *deliverer) handed(h backend.Handler) {
	if d.since++; d.since == backend.MaxRun {
		d.flush(h)
	}
}

func (d *deliverer) flush(h backend.Handler) {
	d.since = 0
	h.HandleFlush()
}

// frame hands on the messages of a frame. Of one that is damaged, those in
// front of the damage are handed on.
func (d *deliverer) frame(h backend.Handler, b []byte, count int) error {
	for range count {
		m, rest, err := backend.DecodeMessage(b)
		if err != nil {
			return err
		}
		b = rest
		d.messages.Add(1)
		h.HandleMessage(m)
		d.handed(h)
	}
	return nothing(b)
}

func (d *deliverer) notice(h backend.Handler, b []byte) error {
	n, rest, err := backend.DecodeNotice(b)
	if err != nil {
		return err
	}
	if err := nothing(rest); err != nil {
		return err
	}
	d.messages.Add(1)
	h.HandleNotice(n)
	d.handed(h)
	return nil
}

// nothing must follow.
func nothing(rest []byte) error {
	if len(rest) > 0 {
		return backend.ErrMalformed
	}
	return nil
}
