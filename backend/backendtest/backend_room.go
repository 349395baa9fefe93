package backendtest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// room is a bus with some gateways on it, started, each with an ear.
type room struct {
	h     BackendHarness
	ctx   context.Context
	buses []backend.Backend
	ears  []*ear
}

func node(i int) backend.NodeID { return backend.NodeID(fmt.Sprintf("gateway-%d", i)) }

func enter(t *testing.T, h BackendHarness, o BackendOptions) *room {
	t.Helper()
	r := &room{h: h, ctx: t.Context(), buses: h.Open(t, busGateways, o)}
	for i, b := range r.buses {
		e := newEar()
		if err := b.Start(r.ctx, node(i), e); err != nil {
			t.Fatalf("Start of %s: %v", node(i), err)
		}
		r.ears = append(r.ears, e)
	}
	return r
}

const everyClass = backend.ClassQoS0 | backend.ClassAcked

func (r *room) subscribe(t *testing.T, i int, filter string, class backend.Class) {
	t.Helper()
	if err := r.buses[i].Subscribe(r.ctx, filter, class); err != nil {
		t.Fatalf("Subscribe(%.80q) at %s: %v", filter, node(i), err)
	}
}

func (r *room) publish(t *testing.T, i int, m *backend.Message) {
	t.Helper()
	if err := r.buses[i].Publish(r.ctx, m); err != nil {
		t.Fatalf("Publish(%.80q) at %s: %v", m.Topic, node(i), err)
	}
}

func (r *room) notify(t *testing.T, i int, to backend.NodeID, n backend.Notice) {
	t.Helper()
	if err := r.buses[i].Notify(r.ctx, to, n); err != nil {
		t.Fatalf("Notify(%s) at %s: %v", to, node(i), err)
	}
}

// settle waits until gateway 'to' has heard all that 'from' published to it
// before on any topic, as far as that can be known: a message of its own class
// and topic, published last.
func (r *room) settle(t *testing.T, from, to int, id string) {
	t.Helper()
	topic := "settle/" + id
	r.subscribe(t, to, topic, everyClass)
	r.publish(t, from, &backend.Message{Topic: topic})
	r.ears[to].waitTopic(t, r.h.Patience, topic, 1)
}

// ear is a handler that keeps what it hears and watches that it is called one
// at a time.
type ear struct {
	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at each change
	messages []*backend.Message
	copies   []backend.Message // of messages, taken on arrival
	counts   map[string]int    // of messages, by topic
	notices  []backend.Notice
	gaps     []error
	run      int // messages and notices since the last flush
	longest  int // run
	inside   int // calls that are running
	overlaps int // calls that began while another ran
	// gate, if set, is run inside of every call, before it is recorded.
	gate func()
}

func newEar() *ear { return &ear{changed: make(chan struct{}), counts: make(map[string]int)} }

func (e *ear) enter() {
	e.mu.Lock()
	e.inside++
	if e.inside > 1 {
		e.overlaps++
	}
	gate := e.gate
	e.mu.Unlock()
	if gate != nil {
		gate()
	}
}

// leave records what was heard and ends the call.
func (e *ear) leave(record func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	record()
	e.inside--
	close(e.changed)
	e.changed = make(chan struct{})
}

func (e *ear) HandleMessage(m *backend.Message) {
	e.enter()
	e.leave(func() {
		e.messages = append(e.messages, m)
		e.copies = append(e.copies, *m.Clone())
		e.counts[m.Topic]++
		e.collect()
	})
}

func (e *ear) HandleNotice(n backend.Notice) {
	e.enter()
	e.leave(func() {
		e.notices = append(e.notices, n)
		e.collect()
	})
}

// collect counts what a flush is due for. e.mu is held.
func (e *ear) collect() {
	e.run++
	e.longest = max(e.longest, e.run)
}

func (e *ear) HandleFlush() {
	e.enter()
	e.leave(func() { e.run = 0 })
}

func (e *ear) HandleGap(reason error) {
	e.enter()
	e.leave(func() { e.gaps = append(e.gaps, reason) })
}

// setGate changes what the calls that begin from now on do first.
func (e *ear) setGate(gate func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.gate = gate
}

// wait waits until done, which is called with e.mu held, reports true.
func (e *ear) wait(t *testing.T, patience time.Duration, what string, done func() bool) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		e.mu.Lock()
		ok, changed := done(), e.changed
		messages, notices, gaps := len(e.messages), len(e.notices), len(e.gaps)
		e.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			t.Fatalf("waited %v in vain: %s; heard %d messages, %d notices, %d gaps", patience, what, messages, notices, gaps)
		}
	}
}

// waitTopic waits until n messages on topic were heard.
func (e *ear) waitTopic(t *testing.T, patience time.Duration, topic string, n int) {
	t.Helper()
	e.wait(t, patience, fmt.Sprintf("%d messages on topic %.80q", n, topic), func() bool { return e.counts[topic] >= n })
}

// heard returns the messages on topic, in order.
func (e *ear) heard(topic string) []*backend.Message {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []*backend.Message
	for _, m := range e.messages {
		if m.Topic == topic {
			list = append(list, m)
		}
	}
	return list
}
