package nats

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/sluice-mqtt/sluice/backend"
)

const (
	// maxOutbox is how many bytes wait for the writer before publishers wait
	// for it: some milliseconds of a fast network. The writer, the client
	// library and the kernel hold about as much again.
	maxOutbox = 1 << 20
	// maxShared is up to which size messages for one subject, that wait for
	// the writer one behind the other, share a frame. It bounds what a
	// receiver holds on to that keeps one small message of it.
	maxShared = 4 << 10
	// maxJoined is how many messages share a frame at most: their number is a
	// byte.
	maxJoined = 255
	// maxHeld is from how many bytes on the writer begins before somebody
	// flushes.
	maxHeld = 64 << 10
	// keptOutbox is the largest buffer that is kept for the next batch. One
	// larger has had a message above maxOutbox in it.
	keptOutbox = 2 * maxOutbox
)

// outbox is what waits to be written: frames in the order of the calls. Who has
// published a number of them flushes, which writes as much as the connection
// takes at once. A goroutine, the writer, does the rest, so that no caller ever
// holds or waits for a lock of the client library, and a connection that hangs
// holds up nobody for longer than it is taken for alive.
type outbox struct {
	subjects *subjects
	cluster  uint32
	sender   uint64

	mu sync.Mutex
	// ready is signalled when there is something for the writer, or no more.
	ready sync.Cond
	// hurry: what waits is not left to who flushes.
	hurry bool
	// writing: somebody carries a batch to the connection, which is writer's
	// or flushed.
	writing bool
	flushed batch
	// unfinished: flushed is begun, and the writer is to go on with it.
	unfinished bool
	// room is closed when the writer takes what waits; nil if nobody waits.
	room chan struct{}
	// link is where frames go; nil while there is no connection.
	link *link
	// live: the connection has proved itself, and may be published to.
	live bool
	// why there is no live connection, for callers.
	why  error
	done bool

	pending batch
	names   [2]map[string]string // topic to subject: QoS 0, others
	count   outCounts
	// sequence of the newest frame.
	sequence uint64
}

// batch is frames on their way: their bytes, and where each ends.
type batch struct {
	link  *link
	buf   []byte
	items []item
	wire  []byte // the same as operations of the protocol
	begun bool   // wire is partly written
	// controls is how many items are control frames.
	controls int
}

type item struct {
	subject string
	// messages and notices in the frame.
	messages int
	// number is where the byte with the number of messages is, if more may
	// join them; 0 if not.
	number int
	end    int
	// control: it goes behind the interests that the client library was given
	// before, and so by the library.
	control bool
}

type outCounts struct {
	messages, bytes uint64
	// lost were accepted and did not reach the connection.
	lost uint64
}

func newOutbox(s *subjects, cluster uint32, sender uint64) *outbox {
	o := &outbox{subjects: s, cluster: cluster, sender: sender, why: errNotStarted}
	o.ready.L = &o.mu
	return o
}

// attach makes l the connection. It takes probes at once, all else when it is
// live.
func (o *outbox) attach(l *link) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.link = l
}

// open makes the connection live: what is published goes to it.
func (o *outbox) open() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.live = o.link != nil && !o.done
}

// detach takes the connection away and drops what waits for it. It wakes the
// publishers that wait.
func (o *outbox) detach(why error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.link, o.live, o.why, o.hurry = nil, false, why, false
	o.drop(o.pending.items)
	o.pending.reset()
	o.wake()
}

// drop counts what is not written any more. o.mu is held.
func (o *outbox) drop(items []item) {
	for i := range items {
		o.count.lost += uint64(items[i].messages)
	}
}

// wake lets waiting publishers look again. o.mu is held.
func (o *outbox) wake() {
	if o.room != nil {
		close(o.room)
		o.room = nil
	}
}

// state returns why nothing can be published, or nil.
func (o *outbox) state() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stateLocked()
}

func (o *outbox) stateLocked() error {
	if o.live {
		return nil
	}
	return fmt.Errorf("nats: %w: %w", backend.ErrUnavailable, o.why)
}

// health returns why messages do not flow, or what the server complains of.
func (o *outbox) health() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.stateLocked(); err != nil {
		return err
	}
	if fault := o.link.lastFault(); fault != nil {
		return fmt.Errorf("nats: %w", fault)
	}
	return nil
}

// enter waits, with o.mu held, until there is room for a frame on a live
// connection.
func (o *outbox) enter(ctx context.Context) error {
	for {
		if err := o.stateLocked(); err != nil {
			return err
		}
		if len(o.pending.buf) < maxOutbox {
			return nil
		}
		if o.room == nil {
			o.room = make(chan struct{})
		}
		room := o.room
		o.ask()
		o.mu.Unlock()
		backend.Yield(ctx)
		var err error
		select {
		case <-room:
		case <-ctx.Done():
			err = fmt.Errorf("nats: %w: connection does not keep up: %w", backend.ErrUnavailable, ctx.Err())
		}
		o.mu.Lock()
		if err != nil {
			return err
		}
	}
}

// ask has the writer take what waits. o.mu is held.
func (o *outbox) ask() {
	if !o.hurry {
		o.hurry = true
		if !o.writing { // else who writes looks again
			o.ready.Signal()
		}
	}
}

// publish adds a message, which may wait to be flushed if later is set.
func (o *outbox) publish(ctx context.Context, m *backend.Message, later bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !later {
		defer o.ask()
	}
	if err := o.enter(ctx); err != nil {
		return err
	}
	p := &o.pending
	subject := o.name(m)
	start := len(p.buf)
	if !o.join(subject, m) {
		p.buf = append(o.begin(p.buf, kindMessages), 1)
		number := len(p.buf) - 1
		p.buf = backend.AppendMessage(p.buf, m)
		if err := o.end(item{subject: subject, messages: 1, number: number}, start); err != nil {
			return err
		}
	}
	o.count.messages++
	o.count.bytes += uint64(len(p.buf) - start)
	return nil
}

// join adds m to the frame in front of it, if that is for the same subject and
// stays small.
func (o *outbox) join(subject string, m *backend.Message) bool {
	p := &o.pending
	last := p.last()
	if last == nil || last.number == 0 || last.messages == maxJoined || last.subject != subject {
		return false
	}
	start, limit := len(p.buf), p.start(len(p.items)-1)+min(maxShared, o.link.maxPayload)
	if start+m.Size() > limit {
		return false
	}
	if p.buf = backend.AppendMessage(p.buf, m); len(p.buf) > limit {
		p.buf = p.buf[:start]
		return false
	}
	last.messages++
	p.buf[last.number]++
	last.end = len(p.buf)
	return true
}

// notify adds a notice, as publish does a message.
func (o *outbox) notify(ctx context.Context, subject string, n *backend.Notice, later bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !later {
		defer o.ask()
	}
	if err := o.enter(ctx); err != nil {
		return err
	}
	p := &o.pending
	start := len(p.buf)
	p.buf = backend.AppendNotice(o.begin(p.buf, kindNotice), n)
	if err := o.end(item{subject: subject, messages: 1}, start); err != nil {
		return err
	}
	o.count.messages++
	o.count.bytes += uint64(len(p.buf) - start)
	return nil
}

// control adds a frame that is a number, whether or not the connection is
// live. Without a connection it is dropped. What comes back of it proves that the
// server knows the interests which the client library was given before.
func (o *outbox) control(subject string, k kind, number uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.link == nil {
		return
	}
	start := len(o.pending.buf)
	o.pending.buf = binary.AppendUvarint(o.begin(o.pending.buf, k), number)
	_ = o.end(item{subject: subject, control: true}, start) // never too large
	o.pending.controls++
	o.ask()
}

// begin appends the header of the next frame.
func (o *outbox) begin(dst []byte, k kind) []byte {
	o.sequence++
	return header{kind: k, cluster: o.cluster, sender: o.sender, sequence: o.sequence}.append(dst)
}

// end adds the frame that begins at start, or takes it back.
func (o *outbox) end(it item, start int) error {
	p := &o.pending
	if size := len(p.buf) - start; size > o.link.maxPayload {
		p.buf = p.buf[:start]
		return fmt.Errorf("nats: %d bytes, the server takes %d: %w", size, o.link.maxPayload, backend.ErrTooLarge)
	}
	it.end = len(p.buf)
	p.items = append(p.items, it)
	if len(p.buf) >= maxHeld {
		o.ask()
	}
	return nil
}

// Limits of the cache of subjects.
const (
	maxNames    = 4096
	maxNameSize = 256
)

// name returns the subject of a message. Topics come again: most subjects are
// found, not made.
func (o *outbox) name(m *backend.Message) string {
	i, class := 0, backend.ClassQoS0
	if m.QoS > 0 {
		i, class = 1, backend.ClassAcked
	}
	if s, ok := o.names[i][m.Topic]; ok {
		return s
	}
	s := o.subjects.topic(m.Topic, class)
	if len(m.Topic) > maxNameSize {
		return s
	}
	if o.names[i] == nil || len(o.names[i]) >= maxNames {
		o.names[i] = make(map[string]string)
	}
	o.names[i][string([]byte(m.Topic))] = s // the message is borrowed
	return s
}

// close lets nothing more in. The writer ends when it has written what waits.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.live, o.why, o.done = false, backend.ErrClosed, true
	o.wake()
	o.ready.Signal()
}

func (o *outbox) counts() outCounts {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.count
}

func (b *batch) last() *item {
	if len(b.items) == 0 {
		return nil
	}
	return &b.items[len(b.items)-1]
}

// start returns where item i begins.
func (b *batch) start(i int) int {
	if i == 0 {
		return 0
	}
	return b.items[i-1].end
}

func (b *batch) reset() {
	if cap(b.buf) > keptOutbox {
		b.items, b.buf = nil, nil
	}
	if cap(b.wire) > keptOutbox {
		b.wire = nil
	}
	clear(b.items)
	b.items, b.buf, b.wire, b.link, b.begun = b.items[:0], b.buf[:0], b.wire[:0], nil, false
	b.controls = 0
}
