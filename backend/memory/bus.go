package memory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/topictree"
)

// Defaults of a [Bus].
const (
	// defaultQueueMessages is a second of stalled handler at a moderate rate.
	// Longer ones are answered by a gap, which costs a look into the inboxes
	// and not the memory of everything that was published meanwhile.
	defaultQueueMessages = 16384
	// defaultQueueBytes bounds what one stalled gateway costs its process.
	defaultQueueBytes = 16 << 20
	// defaultMaxMessage is above the largest packet of MQTT, 256 MiB
	// [MQTT 5 §1.5.5], so that nothing which a client can send is refused.
	defaultMaxMessage = 256 << 20
)

// Bus joins the gateways of one process. A process with one gateway has a Bus
// as well: publishing to nobody costs a few comparisons, no lock, no copy.
//
// It is made by [NewBus]. Its fields may be changed until the first call of
// [Bus.Gateway].
type Bus struct {
	// QueueMessages is how many messages and notices may wait for the handler
	// of one gateway. The next one, and all until the handler has taken those
	// that wait, are dropped, and one gap is reported.
	QueueMessages int
	// QueueBytes is the same by size of message. One message is always let
	// into an empty queue.
	QueueBytes int
	// MaxMessage is the largest size of a message, by [backend.Message.Size];
	// above it Publish and Notify return [backend.ErrTooLarge].
	MaxMessage int

	// interests is what each gateway asked for. Written under the gateway's
	// mu, read by every Publish.
	interests *topictree.Tree[*gateway, backend.Class]

	mu sync.Mutex // serializes changes of nodes
	// nodes are the gateways on the bus; the map is replaced, never changed.
	nodes atomic.Pointer[map[backend.NodeID]*gateway]
}

// NewBus returns a Bus without gateways: queues of 16,384 messages and 16 MiB,
// messages up to 256 MiB.
func NewBus() *Bus {
	return &Bus{
		QueueMessages: defaultQueueMessages,
		QueueBytes:    defaultQueueBytes,
		MaxMessage:    defaultMaxMessage,
		interests:     topictree.New[*gateway, backend.Class](),
	}
}

// Gateway returns the place of one more gateway on the bus. It takes part from
// its Start to its Close.
func (b *Bus) Gateway() backend.Backend {
	return &gateway{
		bus:     b,
		classes: make(map[string]backend.Class),
		queue:   newQueue(b.QueueMessages, b.QueueBytes),
		stopped: make(chan struct{}),
	}
}

// alone reports whether nobody but one gateway could receive anything.
func (b *Bus) alone() bool {
	n := b.nodes.Load()
	return n == nil || len(*n) < 2
}

func (b *Bus) node(id backend.NodeID) *gateway {
	n := b.nodes.Load()
	if n == nil {
		return nil
	}
	return (*n)[id]
}

// add puts g on the bus; it fails if the name is taken.
func (b *Bus) add(id backend.NodeID, g *gateway) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.node(id) != nil {
		return fmt.Errorf("memory: start: node %q is on the bus already", id)
	}
	b.replace(func(n map[backend.NodeID]*gateway) { n[id] = g })
	return nil
}

func (b *Bus) remove(id backend.NodeID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replace(func(n map[backend.NodeID]*gateway) { delete(n, id) })
}

// replace publishes a changed copy of the nodes. b.mu is held.
func (b *Bus) replace(change func(map[backend.NodeID]*gateway)) {
	next := make(map[backend.NodeID]*gateway)
	if n := b.nodes.Load(); n != nil {
		for id, g := range *n {
			next[id] = g
		}
	}
	change(next)
	b.nodes.Store(&next)
}

// Where a gateway is in its life.
const (
	created int32 = iota
	live
	closed
)

var errNotStarted = errors.New("memory: bus: not started")

// gateway is one gateway's place on a Bus: a [backend.Backend].
type gateway struct {
	bus   *Bus
	state atomic.Int32
	queue *queue
	// stopped is closed when the goroutine that calls the handler has ended.
	stopped chan struct{}

	// mu makes Start, Subscribe, Unsubscribe and Close one after the other. It
	// is taken before the locks of bus and queue.
	mu sync.Mutex
	id backend.NodeID
	// classes is what is in bus.interests for this gateway.
	classes map[string]backend.Class
}

// check returns why a call can not be carried out, or nil.
func (g *gateway) check(ctx context.Context) error {
	switch g.state.Load() {
	case created:
		return errNotStarted
	case closed:
		return fmt.Errorf("memory: bus: %w", backend.ErrClosed)
	}
	return ctx.Err()
}

// Start implements [backend.Backend]. It fails if another gateway on the bus
// has the same name.
func (g *gateway) Start(ctx context.Context, node backend.NodeID, h backend.Handler) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch g.state.Load() {
	case live:
		return errors.New("memory: bus: started before")
	case closed:
		return fmt.Errorf("memory: bus: %w", backend.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := g.bus.add(node, g); err != nil {
		return err
	}
	g.id = node
	g.state.Store(live)
	go g.run(h) // ends when Close closes the queue
	return nil
}

// Subscribe implements [backend.Backend].
func (g *gateway) Subscribe(ctx context.Context, filter string, class backend.Class) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.check(ctx); err != nil {
		return err
	}
	if had := g.classes[filter]; had|class != had {
		g.classes[filter] = had | class
		g.bus.interests.Set(filter, g, had|class)
	}
	return nil
}

// Unsubscribe implements [backend.Backend].
func (g *gateway) Unsubscribe(ctx context.Context, filter string, class backend.Class) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.check(ctx); err != nil {
		return err
	}
	had := g.classes[filter]
	switch left := had &^ class; {
	case left == had:
	case left == 0:
		delete(g.classes, filter)
		g.bus.interests.Delete(filter, g)
	default:
		g.classes[filter] = left
		g.bus.interests.Set(filter, g, left)
	}
	return nil
}

// fewGateways is how many receivers a Publish finds without allocating.
const fewGateways = 8

// Publish implements [backend.Backend]. The message is copied once, and only
// if there is a gateway to take it.
func (g *gateway) Publish(ctx context.Context, m *backend.Message) error {
	if err := g.check(ctx); err != nil {
		return err
	}
	if m.Size() > g.bus.MaxMessage {
		return fmt.Errorf("memory: publish: %d bytes: %w", m.Size(), backend.ErrTooLarge)
	}
	if g.bus.alone() {
		return nil
	}
	class := backend.ClassAcked
	if m.QoS == 0 {
		class = backend.ClassQoS0
	}
	var few [fewGateways]*gateway
	to := few[:0]
	g.bus.interests.Match(m.Topic, func(other *gateway, asked backend.Class) {
		if other != g && asked&class != 0 && !slices.Contains(to, other) {
			to = append(to, other)
		}
	})
	if len(to) == 0 {
		return nil
	}
	kept := m.Clone()
	for _, other := range to {
		other.queue.push(delivery{message: kept, size: kept.Size()})
	}
	return nil
}

// Alone implements [backend.Solitary].
func (g *gateway) Alone() bool { return g.bus.alone() }

// Notify implements [backend.Backend]. A gateway may notify itself.
func (g *gateway) Notify(ctx context.Context, to backend.NodeID, n backend.Notice) error {
	if err := g.check(ctx); err != nil {
		return err
	}
	size := 0
	if m := n.Entry.Message; m != nil {
		if size = m.Size(); size > g.bus.MaxMessage {
			return fmt.Errorf("memory: notify: %d bytes: %w", size, backend.ErrTooLarge)
		}
	}
	other := g.bus.node(to)
	if other == nil {
		return nil
	}
	kept := n
	if n.Entry.Message != nil {
		kept.Entry.Message = n.Entry.Message.Clone()
	}
	kept.Entry.SubscriptionIDs = append([]uint32(nil), n.Entry.SubscriptionIDs...)
	other.queue.push(delivery{notice: &kept, size: size})
	return nil
}

// Close implements [backend.Backend]. What waits for the handler is dropped; a
// handler method that runs is waited for, so Close is not called from one.
func (g *gateway) Close() error {
	g.leave()
	<-g.stopped
	return nil
}

// leave ends the gateway's part in the bus, once.
func (g *gateway) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch g.state.Swap(closed) {
	case created:
		close(g.stopped)
	case live:
		g.bus.remove(g.id)
		for filter := range g.classes {
			g.bus.interests.Delete(filter, g)
		}
		g.classes = nil
		g.queue.close()
	}
}

// run calls the handler with what comes, one at a time, until the queue is
// closed.
func (g *gateway) run(h backend.Handler) {
	defer close(g.stopped)
	for run := 1; ; run++ {
		d, more, ok := g.queue.pop()
		switch {
		case !ok:
			return
		case d.gap != nil:
			h.HandleGap(d.gap)
		case d.notice != nil:
			h.HandleNotice(*d.notice)
		default:
			h.HandleMessage(d.message)
		}
		if !more || run == backend.MaxRun {
			h.HandleFlush()
			run = 0
		}
	}
}
