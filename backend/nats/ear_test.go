package nats_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/nats"
)

const (
	everyClass = backend.ClassQoS0 | backend.ClassAcked
	// patience is how long what must happen may take.
	patience = 30 * time.Second
)

// ear is a handler that keeps what it hears.
type ear struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change
	heard   map[string]int
	notices []backend.Notice
	gaps    []error
}

func newEar() *ear { return &ear{changed: make(chan struct{}), heard: make(map[string]int)} }

func (e *ear) note(change func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change()
	close(e.changed)
	e.changed = make(chan struct{})
}

func (e *ear) HandleMessage(m *backend.Message) { e.note(func() { e.heard[m.Topic]++ }) }
func (e *ear) HandleNotice(n backend.Notice)    { e.note(func() { e.notices = append(e.notices, n) }) }
func (e *ear) HandleFlush()                     {}
func (e *ear) HandleGap(reason error)           { e.note(func() { e.gaps = append(e.gaps, reason) }) }

// wait waits until done, which is called with e.mu held, reports true.
func (e *ear) wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		e.mu.Lock()
		ok, changed := done(), e.changed
		heard, gaps := len(e.heard), e.gaps
		e.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			t.Fatalf("waited %v in vain: %s; heard %d topics, gaps %v", patience, what, heard, gaps)
		}
	}
}

func (e *ear) count(topic string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heard[topic]
}

func (e *ear) gapList() []error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]error(nil), e.gaps...)
}

// gateway is a started backend with its ear.
type gateway struct {
	*nats.Backend
	*ear
	options nats.Options
}

// beside returns options for one more gateway on the same bus, at server i.
func (g *gateway) beside(s *service, i int) nats.Options {
	o := g.options
	o.URL = s.url(i)
	return o
}

// gateways starts n on one bus, each at another server of s, with change made
// to the options of each.
func gateways(t *testing.T, s *service, n int, change func(o *nats.Options)) []*gateway {
	t.Helper()
	prefix := quick(s, 0).SubjectPrefix
	var list []*gateway
	for i := range n {
		o := quick(s, i)
		o.SubjectPrefix = prefix
		if change != nil {
			change(&o)
		}
		list = append(list, start(t, o, backend.NodeID(fmt.Sprint("gateway-", i))))
	}
	return list
}

// start starts a gateway on a server that is there. On a busy machine that may
// take longer than a test's ConnectTimeout.
func start(t *testing.T, o nats.Options, node backend.NodeID) *gateway {
	t.Helper()
	for tries := 1; ; tries++ {
		g := &gateway{newBackend(t, o), newEar(), o}
		err := g.Start(t.Context(), node, g.ear)
		if err == nil {
			return g
		}
		if !errors.Is(err, backend.ErrUnavailable) || tries == 20 {
			t.Fatalf("Start of %s: %v", node, err)
		}
	}
}

func (g *gateway) subscribe(t *testing.T, filter string) {
	t.Helper()
	if err := g.Subscribe(t.Context(), filter, everyClass); err != nil {
		t.Fatalf("Subscribe(%.80q): %v", filter, err)
	}
}

func (g *gateway) publish(t *testing.T, topic string) {
	t.Helper()
	if err := g.Publish(t.Context(), &backend.Message{Topic: topic, QoS: 1}); err != nil {
		t.Fatalf("Publish(%.80q): %v", topic, err)
	}
}

// hears waits until to hears a message that from publishes now and again.
func hears(t *testing.T, to, from *gateway, topic string) {
	t.Helper()
	eventually(t, topic+" is heard", func() bool {
		_ = from.Publish(t.Context(), &backend.Message{Topic: topic}) // may fail for a while
		return to.count(topic) > 0
	})
}

// settled waits until to has heard all that from published before.
func settled(t *testing.T, to, from *gateway, topic string) {
	t.Helper()
	to.subscribe(t, topic)
	from.publish(t, topic)
	to.wait(t, topic, func() bool { return to.heard[topic] > 0 })
}

// eventually waits until done, which nothing announces, reports true.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}
