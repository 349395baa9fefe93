package nats

import (
	"errors"
	"fmt"
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
	// complaintEvery is how often the log says that foreign bytes come.
	complaintEvery = time.Minute
)

// receiver reads frames and hands on what is in them. It never waits for
// anyone but the connection.
type receiver struct {
	b       *Backend
	senders map[uint64]*window
	batch   []delivery
	count   inCounts
	// complained is when the log was told of each kind of foreign bytes.
	complained map[error]time.Time
}

type inCounts struct {
	messages, bytes                        atomic.Uint64
	repeated, malformed, versions, foreign atomic.Uint64
}

func newReceiver(b *Backend) *receiver {
	return &receiver{b: b, senders: make(map[uint64]*window), complained: make(map[error]time.Time)}
}

// run reads what l brings, until l is down and all is read.
func (r *receiver) run(l *link) {
	for {
		select {
		case m := <-l.in:
			r.read(m)
		case <-l.down:
			for len(l.in) > 0 {
				r.read(<-l.in)
			}
			r.hand()
			return
		}
		for n := min(len(l.in), maxTaken); n > 0; n-- {
			r.read(<-l.in)
		}
		r.hand()
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
	r.count.bytes.Add(uint64(len(m.Data)))
	if err := r.frame(m.Data); err != nil {
		r.refuse(err, m.Subject)
	}
}

// frame reads one frame. Of a frame that is cut short, what could be read is
// kept.
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
	if r.repeated(h) {
		r.count.repeated.Add(1)
		return nil
	}
	switch h.kind {
	case kindMessages:
		return r.messages(body)
	case kindNotice:
		return r.notice(body)
	case kindLoss:
		return r.loss(body)
	}
	return fmt.Errorf("frame of kind %d: %w", h.kind, backend.ErrVersion)
}

func (r *receiver) messages(b []byte) error {
	for len(b) > 0 {
		m, rest, err := backend.DecodeMessage(b)
		if err != nil {
			return err
		}
		b = rest
		r.batch = append(r.batch, delivery{message: m, size: m.Size()})
		r.count.messages.Add(1)
	}
	return nil
}

func (r *receiver) notice(b []byte) error {
	n, rest, err := backend.DecodeNotice(b)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return backend.ErrMalformed
	}
	size := 0
	if n.Entry.Message != nil {
		size = n.Entry.Message.Size()
	}
	r.batch = append(r.batch, delivery{notice: &n, size: size})
	r.count.messages.Add(1)
	return nil
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

// repeated reports whether the frame came before, for another interest.
func (r *receiver) repeated(h header) bool {
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

// refuse counts a frame that can not be read.
func (r *receiver) refuse(err error, subject string) {
	kind := backend.ErrMalformed
	switch {
	case errors.Is(err, backend.ErrVersion):
		kind = backend.ErrVersion
		r.count.versions.Add(1)
	case errors.Is(err, errForeign):
		kind = errForeign
		r.count.foreign.Add(1)
	default:
		r.count.malformed.Add(1)
	}
	if now := time.Now(); now.Sub(r.complained[kind]) >= complaintEvery {
		r.complained[kind] = now
		r.b.log.Warn("a message on the bus is not for this cluster, or of another version; it is dropped", "subject", subject, "err", err)
	}
}
