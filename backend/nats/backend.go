package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/sluice-mqtt/sluice/backend"
)

// Backend is one gateway's place on the bus. It is made by [New].
type Backend struct {
	opt      Options
	log      *slog.Logger
	subjects subjects
	node     backend.NodeID
	queue    *queue
	out      *outbox
	receiver *receiver
	deliver  deliverer
	foreign  foreign

	mu     sync.Mutex // serializes Start and Close
	state  atomic.Int32
	cancel context.CancelFunc // ends run

	// Made by Start.
	interests *interests
	posts     *posts
	running   sync.WaitGroup // goroutines that Close waits for
	written   chan struct{}  // closed when the writer has ended

	// found are servers that a server told of; left is the host of the one
	// that was left last. Owned by Start, then by run.
	found []string
	left  string
	// maxPayload of the newest server.
	maxPayload atomic.Int64
	// peerLost: another gateway lost messages; a gap is due with the next
	// probe.
	peerLost   atomic.Bool
	reconnects atomic.Uint64
	probes     *backend.Histogram // from sending to the last answer
}

// Where a Backend is in its life.
const (
	created int32 = iota
	live
	closed
)

var (
	errNotStarted = errors.New("nats: not started")
	errClosed     = fmt.Errorf("nats: %w", backend.ErrClosed)
)

// New checks the options. It does not connect. The error names all that is
// wrong, one line each.
func New(o Options) (*Backend, error) {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	if _, err := o.client(); err != nil {
		return nil, err
	}
	b := &Backend{probes: backend.NewDurations(), opt: o, log: o.Logger, subjects: newSubjects(o.SubjectPrefix)}
	b.queue = newQueue(o.QueueMessages, o.QueueBytes)
	b.out = newOutbox(&b.subjects, clusterID(o.Cluster), rand.Uint64())
	b.receiver = newReceiver(b)
	b.foreign = foreign{log: b.log, told: make(map[error]time.Time)}
	b.deliver = deliverer{queue: b.queue, foreign: &b.foreign}
	return b, nil
}

// Start implements [backend.Backend]. It connects and fails if it can not: with
// [backend.ErrUnavailable] if no server answers, with [backend.ErrRefused] if one
// refuses the credentials, the rights or the certificate, and with an error of its own if the server's max_payload is too small. After
// a Start that failed the Backend is closed.
func (b *Backend) Start(ctx context.Context, node backend.NodeID, h backend.Handler) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.state.Load() {
	case live:
		return errors.New("nats: started before")
	case closed:
		return errClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	b.node = node
	if n := len(b.subjects.node(node)); n > maxSubject {
		return fmt.Errorf("nats: start: the name of the node makes a subject of %d bytes; allowed are %d", n, maxSubject)
	}
	b.interests = newInterests(b, []string{b.subjects.all, b.subjects.node(node)})
	b.posts = newPosts(b)
	b.written = make(chan struct{})
	l, err := b.connect(ctx)
	if err != nil {
		b.state.Store(closed)
		if errors.Is(err, errTooSmall) {
			return fmt.Errorf("nats: start: %w", err)
		}
		return startError(err)
	}
	go func() { // ends when close of the outbox lets nothing more in
		defer close(b.written)
		b.out.run()
	}()
	b.running.Go(b.interests.run)             // ends with Close
	b.running.Go(func() { b.deliver.run(h) }) // ends with Close
	stop := context.AfterFunc(ctx, func() { l.fail(ctx.Err()) })
	err = b.join(ctx, l)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		if l.isDown() {
			err = l.reason // that is the cause
		} else if fault := l.lastFault(); errors.Is(fault, natsgo.ErrPermissionViolation) {
			err = fault // likewise: probes that may not be published are not answered
		}
		b.leave(l, err)
		b.end()
		return startError(err)
	}
	b.state.Store(live)
	run, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	b.running.Go(func() { b.run(run, l) }) // ends with Close
	return nil
}

// check returns why a call can not be carried out, or nil.
func (b *Backend) check(ctx context.Context) error {
	switch b.state.Load() {
	case created:
		return errNotStarted
	case closed:
		return errClosed
	}
	return ctx.Err()
}

// Subscribe implements [backend.Backend]. It waits for a round trip to every
// server that can be reached. If the servers refuse more subscriptions it
// returns [backend.ErrUnavailable] and the connection is made anew.
func (b *Backend) Subscribe(ctx context.Context, filter string, class backend.Class) error {
	if err := b.check(ctx); err != nil {
		return err
	}
	if err := b.out.state(); err != nil {
		return err
	}
	return b.interests.do(ctx, &request{filter: filter, class: class})
}

// Unsubscribe implements [backend.Backend]. It also takes effect when it
// returns [backend.ErrUnavailable]: the next connection is without the
// interest.
func (b *Backend) Unsubscribe(ctx context.Context, filter string, class backend.Class) error {
	if err := b.check(ctx); err != nil {
		return err
	}
	if err := b.interests.do(ctx, &request{filter: filter, class: class, withdraw: true}); err != nil {
		return err
	}
	return b.out.state()
}

// Publish implements [backend.Backend]. It does not wait for the server; it
// waits for room while more is published than the connection takes.
func (b *Backend) Publish(ctx context.Context, m *backend.Message) error {
	return b.publish(ctx, m, false)
}

// PublishSoon implements [backend.Bundler].
func (b *Backend) PublishSoon(ctx context.Context, m *backend.Message) error {
	return b.publish(ctx, m, true)
}

func (b *Backend) publish(ctx context.Context, m *backend.Message, later bool) error {
	if err := b.check(ctx); err != nil {
		return err
	}
	if err := b.fits(m); err != nil {
		return err
	}
	return b.out.publish(ctx, m, later)
}

// Notify implements [backend.Backend]. A gateway may notify itself.
func (b *Backend) Notify(ctx context.Context, to backend.NodeID, n backend.Notice) error {
	return b.notify(ctx, to, n, false)
}

// NotifySoon implements [backend.Bundler].
func (b *Backend) NotifySoon(ctx context.Context, to backend.NodeID, n backend.Notice) error {
	return b.notify(ctx, to, n, true)
}

// Flush implements [backend.Bundler]. It writes what the connection takes at
// once, and leaves the rest to the writer.
func (b *Backend) Flush() { b.out.flush() }

func (b *Backend) notify(ctx context.Context, to backend.NodeID, n backend.Notice, later bool) error {
	if err := b.check(ctx); err != nil {
		return err
	}
	size := 0
	if m := n.Entry.Message; m != nil {
		if err := b.fits(m); err != nil {
			return err
		}
		size = m.Size()
	}
	if to == b.node {
		kept := n
		if n.Entry.Message != nil {
			kept.Entry.Message = n.Entry.Message.Clone()
		}
		kept.Entry.SubscriptionIDs = append([]uint32(nil), n.Entry.SubscriptionIDs...)
		b.queue.push(delivery{notice: &kept, count: 1, size: size})
		return nil
	}
	subject := b.subjects.node(to)
	if len(subject) > maxSubject {
		return nil // no gateway can have that name
	}
	return b.out.notify(ctx, subject, &n, later)
}

// fits refuses what is larger than the option allows.
func (b *Backend) fits(m *backend.Message) error {
	if limit := b.opt.MaxMessage; limit > 0 && m.Size() > limit {
		return fmt.Errorf("nats: %d bytes, allowed are %d: %w", m.Size(), limit, backend.ErrTooLarge)
	}
	return nil
}

// Close implements [backend.Backend]. What was published before is written, if
// the server takes it within a second. What waits for the handler is dropped; a
// handler method that runs is waited for, so Close is not called from one.
func (b *Backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.state.Swap(closed) {
	case live:
		b.queue.close()
		b.cancel()
		b.end()
	}
	return nil
}

// end stops what Start has started.
func (b *Backend) end() {
	b.state.Store(closed)
	b.queue.close()
	b.out.close()
	close(b.interests.quit)
	b.running.Wait()
	<-b.written
	b.posts.close()
}

// Health returns nil while messages flow, and otherwise why they do not.
func (b *Backend) Health() error {
	switch b.state.Load() {
	case created:
		return errNotStarted
	case closed:
		return errClosed
	}
	return b.out.health()
}

// MaxPayload returns the largest size of a message, by [backend.Message.Size],
// that is sure to cross whatever is added to it; 0 before Start.
func (b *Backend) MaxPayload() int {
	if b.opt.MaxMessage > 0 {
		return b.opt.MaxMessage
	}
	return max(0, int(b.maxPayload.Load())-overhead)
}

// Stats are counts since New.
type Stats struct {
	// MessagesOut, MessagesIn, BytesOut and BytesIn are messages and notices
	// to and from other gateways, and the bytes of their envelopes.
	MessagesOut, MessagesIn, BytesOut, BytesIn uint64
	// Gaps that were reported to the handler.
	Gaps uint64
	// Dropped messages and notices were more than the handler took.
	Dropped uint64
	// Lost messages and notices were published and not written, because the
	// connection ended.
	Lost uint64
	// Reconnects is how often the connection was made anew.
	Reconnects uint64
	// Repeated messages came for more than one interest and were handed out
	// once.
	Repeated uint64
	// Malformed, UnknownVersion and Foreign messages on the bus were not for
	// this program: no envelopes, of another version, of another cluster.
	Malformed, UnknownVersion, Foreign uint64
}

// Stats returns the counts. It may be called at any time.
func (b *Backend) Stats() Stats {
	o := b.out.counts()
	s := Stats{
		MessagesOut: o.messages, BytesOut: o.bytes, Lost: o.lost,
		MessagesIn: b.deliver.messages.Load(), BytesIn: b.receiver.bytes.Load(), Repeated: b.receiver.repeated.Load(),
		Malformed: b.foreign.malformed.Load(), UnknownVersion: b.foreign.versions.Load(), Foreign: b.foreign.otherNames.Load(),
		Reconnects: b.reconnects.Load(),
	}
	s.Gaps, s.Dropped = b.queue.counts()
	return s
}
