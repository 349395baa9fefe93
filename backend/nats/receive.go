package nats

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/sluice-mqtt/sluice/backend"
)

const (
	// maxSenders bounds what is remembered of senders. Each run of each
	// gateway is one.
	maxSenders = 4096
	// maxTaken is how many frames are read before the handler's queue gets
	// them.
	maxTaken = 256
)

// receiver reads frames and hands on what is in them. It never waits for
// anyone.
type receiver struct {
	b       *Backend
	mu      sync.Mutex // of drain
	senders map[uint64]*window
	batch   []delivery
	bytes   atomic.Uint64
	// repeated counts frames that came before, for another interest.
	repeated atomic.Uint64
}

func newReceiver(b *Backend) *receiver {
	return &receiver{b: b, senders: make(map[uint64]*window)}
}

// drain takes what l has brought. It is called by who reads the connection,
// and when that has ended.
func (r *receiver) drain(l *link) {
	if len(l.in) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		select {
		case m := <-l.in:
			r.read(m)
			if len(r.batch) >= maxTaken {
				r.hand()
			}
		default:
			r.hand()
			return
		}
	}
}

// hand gives what was read to the handler's queue.
func (r *receiver) hand() {
	r.b.queue.push(r.batch...)
	clear(r.batch)
	r.batch = r.batch[:0]
}

// read takes one NATS message, whatever is in it.
func (r *receiver) read(m *natsgo.Msg) {
	r.bytes.Add(uint64(len(m.Data)))
	if err := r.frame(m.Data); err != nil {
		r.b.foreign.refuse(err)
	}
}

func (r *receiver) frame(b []byte) error {
	h, body, err := readHeader(b, r.b.out.cluster)
	if err != nil {
		return err
	}
	if h.kind == kindEcho { // from a post, which has no sequence of its own
		return r.echo(h, body)
	}
	if h.sender == r.b.out.sender {
		return nil // own: NATS does not send it back, but who knows
	}
	if r.seen(h) {
		r.repeated.Add(1)
		return nil
	}
	switch h.kind {
	case kindMessages:
		if len(body) == 0 || body[0] == 0 {
			return backend.ErrMalformed
		}
		r.batch = append(r.batch, delivery{frame: body[1:], kind: h.kind, count: int(body[0]), size: len(b)})
		return nil
	case kindNotice:
		r.batch = append(r.batch, delivery{frame: body, kind: h.kind, count: 1, size: len(b)})
		return nil
	case kindLoss:
		return r.loss(body)
	}
	return fmt.Errorf("frame of kind %d: %w", h.kind, backend.ErrVersion)
}

func (r *receiver) echo(h header, b []byte) error {
	number, b, err := readNumber(b)
	if err != nil {
		return err
	}
	if h.sender == r.b.out.sender {
		post, _, err := readNumber(b)
		if err != nil {
			return err
		}
		r.b.posts.heard(number, post)
	}
	return nil
}

// loss: another gateway lost its connection and perhaps what it had sent.
func (r *receiver) loss(b []byte) error {
	ago, _, err := readNumber(b)
	if err != nil {
		return err
	}
	r.hand() // the gap comes after what came before it
	r.b.peerLoss(time.Duration(min(ago, uint64(time.Hour/time.Millisecond))) * time.Millisecond)
	return nil
}

// seen reports whether the frame came before.
func (r *receiver) seen(h header) bool {
	w := r.senders[h.sender]
	if w == nil {
		if len(r.senders) >= maxSenders {
			clear(r.senders) // the worst of it is a message twice
		}
		w = &window{}
		r.senders[h.sender] = w
	}
	return w.repeated(h.sequence)
}
