package backendtest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

var deliveryCases = []backendCase{
	{name: "live on return", promise: "the interest is live when Subscribe returns: a Publish that begins afterwards, at any gateway, is seen", run: liveOnReturn},
	{name: "order", promise: "messages of one caller on one topic arrive in the order of the calls", run: orderPerTopic},
	{name: "soon", promise: "what a Bundler is given has left with Flush, in the order of the calls, those of Publish and Notify among them", run: soonInOrder},
	{name: "no echo", promise: "Publish never gives a message to the caller's own gateway", run: noEcho},
	{name: "every interested gateway", promise: "Publish gives the message to every other gateway that has asked for it", run: everyInterested},
	{name: "classes", promise: "a class that was asked for is delivered; asking for one more and withdrawing one leave the other", run: classes},
	{name: "once each", promise: "overlapping and repeated interests bring a message once", run: onceEach},
	{name: "matching", promise: "every filter brings every topic that it matches: wildcards, '$', empty levels, awkward bytes", run: busMatching},
	{name: "withdrawn interest leaves others", promise: "Unsubscribe withdraws one filter; others that match the topic stay", run: unsubscribeLeavesOthers},
	{name: "unsubscribe without interest", promise: "withdrawing what was not asked for is no error", run: unsubscribeUnknown},
	{name: "content", promise: "a message arrives with every field unchanged", run: content},
	{name: "borrowed", promise: "Publish borrows the message: the caller may change its bytes afterwards", run: busBorrowed},
	{name: "kept", promise: "a message that was handed out is immutable and may be kept", run: kept},
	{name: "largest message", promise: "a message of the largest size crosses unchanged, one byte more is refused with ErrTooLarge and reaches nobody", options: BackendOptions{MaxMessage: largest}, run: largestMessage},
	{name: "runs end", promise: "HandleFlush follows every run of messages and notices, and at the latest after MaxRun of them", run: runsEnd},
	{name: "concurrent use", promise: "all methods may be called concurrently", run: busConcurrent},
}

// liveOnReturn is F26 for the bus; TestF26SubackThenPublish of e2e/cluster is
// that for clients.
func liveOnReturn(t *testing.T, r *room) {
	const tries = 1000
	for i := range tries {
		from, to := i%busGateways, (i+1)%busGateways
		topic := fmt.Sprintf("live/%d/x", i)
		filter := []string{topic, fmt.Sprintf("live/%d/+", i), fmt.Sprintf("live/%d/#", i)}[i%3]
		class, qos := backend.ClassQoS0, byte(0)
		if i%2 == 1 {
			class, qos = backend.ClassAcked, 1
		}
		r.subscribe(t, to, filter, class)
		r.publish(t, from, &backend.Message{Topic: topic, QoS: qos})
	}
	for i := range tries {
		r.ears[(i+1)%busGateways].waitTopic(t, r.h.Patience, fmt.Sprintf("live/%d/x", i), 1)
	}
}

func orderPerTopic(t *testing.T, r *room) {
	const callers, messages = 4, 500
	for i := range busGateways {
		r.subscribe(t, i, "order/#", everyClass)
	}
	var group sync.WaitGroup
	for i := range busGateways {
		for c := range callers {
			group.Go(func() {
				topic := fmt.Sprintf("order/%d/%d", i, c)
				for n := range messages {
					err := r.buses[i].Publish(r.ctx, &backend.Message{Topic: topic, Payload: fmt.Append(nil, n), QoS: byte(n % 3)})
					if err != nil {
						t.Errorf("Publish: %v", err)
						return
					}
				}
			})
		}
	}
	group.Wait()
	for to := range busGateways {
		for from := range busGateways {
			if from == to {
				continue
			}
			for c := range callers {
				topic := fmt.Sprintf("order/%d/%d", from, c)
				r.ears[to].waitTopic(t, r.h.Patience, topic, messages)
				for n, m := range r.ears[to].heard(topic) {
					if want := fmt.Sprint(n); string(m.Payload) != want {
						t.Fatalf("%s heard message %s of %s where %s was due", node(to), m.Payload, topic, want)
					}
				}
			}
		}
	}
}

func soonInOrder(t *testing.T, r *room) {
	const callers, messages = 4, 500
	from, ok := r.buses[0].(backend.Bundler)
	if !ok {
		return // it sends everything at once
	}
	r.subscribe(t, 1, "soon/#", everyClass)
	var group sync.WaitGroup
	for c := range callers {
		group.Go(func() {
			for n := range messages {
				m := &backend.Message{Topic: fmt.Sprintf("soon/%d", c), Payload: fmt.Append(nil, n), QoS: byte(n % 3)}
				mail := backend.Notice{Kind: backend.NoticeTakeover, Client: backend.ClientID(fmt.Sprint(c)), Epoch: uint64(n)}
				err, notified := error(nil), error(nil)
				if n%11 == 5 {
					err, notified = r.buses[0].Publish(r.ctx, m), r.buses[0].Notify(r.ctx, node(1), mail)
				} else {
					err, notified = from.PublishSoon(r.ctx, m), from.NotifySoon(r.ctx, node(1), mail)
				}
				if err != nil || notified != nil {
					t.Errorf("PublishSoon: %v; NotifySoon: %v", err, notified)
					return
				}
				if n%7 == 0 || n == messages-1 {
					from.Flush()
				}
			}
		})
	}
	group.Wait()
	for c := range callers {
		topic := fmt.Sprintf("soon/%d", c)
		r.ears[1].waitTopic(t, r.h.Patience, topic, messages)
		for n, m := range r.ears[1].heard(topic) {
			if want := fmt.Sprint(n); string(m.Payload) != want {
				t.Fatalf("heard message %s of %s where %s was due", m.Payload, topic, want)
			}
		}
	}
	next := make(map[backend.ClientID]uint64)
	for _, n := range r.waitNotices(t, 1, callers*messages) {
		if n.Epoch != next[n.Client] {
			t.Fatalf("notice %d of %s came where %d was due", n.Epoch, n.Client, next[n.Client])
		}
		next[n.Client]++
	}
}

func noEcho(t *testing.T, r *room) {
	const messages = 100
	for i := range busGateways {
		r.subscribe(t, i, "#", everyClass)
		r.subscribe(t, i, "echo/+", everyClass)
	}
	for n := range messages {
		for i := range busGateways {
			r.publish(t, i, &backend.Message{Topic: fmt.Sprintf("echo/%d", i), QoS: byte(n % 2)})
		}
	}
	for i := range busGateways {
		for other := range busGateways {
			if other != i {
				// What others publish arrives, so the bus works both ways.
				r.ears[i].waitTopic(t, r.h.Patience, fmt.Sprintf("echo/%d", other), messages)
			}
		}
	}
	for i := range busGateways {
		r.settle(t, (i+1)%busGateways, i, fmt.Sprintf("echo-%d", i))
		if own := r.ears[i].heard(fmt.Sprintf("echo/%d", i)); len(own) != 0 {
			t.Errorf("%s heard %d of its own messages", node(i), len(own))
		}
	}
}

func everyInterested(t *testing.T, r *room) {
	r.subscribe(t, 1, "all/+", everyClass)
	r.subscribe(t, 2, "all/x", everyClass)
	r.publish(t, 0, &backend.Message{Topic: "all/x", QoS: 1})
	r.ears[1].waitTopic(t, r.h.Patience, "all/x", 1)
	r.ears[2].waitTopic(t, r.h.Patience, "all/x", 1)
}

func classes(t *testing.T, r *room) {
	send := func(topic string) {
		r.publish(t, 0, &backend.Message{Topic: topic, QoS: 0})
		r.publish(t, 0, &backend.Message{Topic: topic, QoS: 1})
		r.publish(t, 0, &backend.Message{Topic: topic, QoS: 2})
	}
	steps := []struct {
		name   string
		change func(filter string) error
		want   []byte // qualities of service that must arrive
	}{
		{"asked for QoS 0", func(f string) error { return r.buses[1].Subscribe(r.ctx, f, backend.ClassQoS0) }, []byte{0}},
		{"asked for acked in addition", func(f string) error { return r.buses[1].Subscribe(r.ctx, f, backend.ClassAcked) }, []byte{0, 1, 2}},
		{"withdrew QoS 0", func(f string) error { return r.buses[1].Unsubscribe(r.ctx, f, backend.ClassQoS0) }, []byte{1, 2}},
		{"asked for both", func(f string) error { return r.buses[1].Subscribe(r.ctx, f, everyClass) }, []byte{0, 1, 2}},
		{"withdrew acked", func(f string) error { return r.buses[1].Unsubscribe(r.ctx, f, backend.ClassAcked) }, []byte{0}},
	}
	for i, s := range steps {
		// The same filter all along; the topic tells the steps apart.
		if err := s.change("classes/+"); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		topic := fmt.Sprintf("classes/%d", i)
		send(topic)
		for _, qos := range s.want {
			r.ears[1].wait(t, r.h.Patience, fmt.Sprintf("%s: a message of QoS %d", s.name, qos), func() bool {
				for _, m := range r.ears[1].messages {
					if m.Topic == topic && m.QoS == qos {
						return true
					}
				}
				return false
			})
		}
	}
}

func onceEach(t *testing.T, r *room) {
	const messages = 100
	for range 2 {
		for _, filter := range []string{"once/x", "once/+", "once/#", "#", "+/x", "+/+"} {
			r.subscribe(t, 1, filter, backend.ClassQoS0)
			r.subscribe(t, 1, filter, everyClass)
		}
	}
	for n := range messages {
		r.publish(t, 0, &backend.Message{Topic: "once/x", QoS: byte(n % 3), Payload: fmt.Append(nil, n)})
	}
	r.ears[1].waitTopic(t, r.h.Patience, "once/x", messages)
	r.settle(t, 0, 1, "once")
	if n := len(r.ears[1].heard("once/x")); n != messages {
		t.Errorf("heard %d messages of %d", n, messages)
	}
}

func busMatching(t *testing.T, r *room) {
	// One gateway asks, another publishes every topic, the filter is
	// withdrawn. The payload says for which filter the message was.
	for _, filter := range allFilters() {
		r.subscribe(t, 1, filter, everyClass)
		want := make(map[string]bool)
		for n, topic := range topics {
			r.publish(t, 0, &backend.Message{Topic: topic, Payload: []byte(filter), QoS: byte(n % 3)})
			if matches(filter, topic) {
				want[topic] = true
			}
		}
		e := r.ears[1]
		read := 0
		e.wait(t, r.h.Patience, fmt.Sprintf("filter %q: %d topics", filter, len(want)), func() bool {
			for ; read < len(e.messages); read++ {
				if string(e.messages[read].Payload) == filter {
					delete(want, e.messages[read].Topic)
				}
			}
			return len(want) == 0
		})
		if err := r.buses[1].Unsubscribe(r.ctx, filter, everyClass); err != nil {
			t.Fatalf("Unsubscribe(%q): %v", filter, err)
		}
	}
	for _, name := range append(awkward, strings.Repeat("/", 65535), strings.Repeat("x", 65535)) {
		r.subscribe(t, 2, name, everyClass)
		r.publish(t, 0, &backend.Message{Topic: name, Payload: []byte("1")})
		r.ears[2].waitTopic(t, r.h.Patience, name, 1)
		r.subscribe(t, 2, "deep/"+name[:min(len(name), 65000)]+"/+", everyClass)
		topic := "deep/" + name[:min(len(name), 65000)] + "/x"
		r.publish(t, 0, &backend.Message{Topic: topic, Payload: []byte("1"), QoS: 1})
		r.ears[2].waitTopic(t, r.h.Patience, topic, 1)
	}
}

func unsubscribeLeavesOthers(t *testing.T, r *room) {
	r.subscribe(t, 1, "left/x", everyClass)
	r.subscribe(t, 1, "left/#", everyClass)
	r.subscribe(t, 2, "left/x", everyClass)
	if err := r.buses[1].Unsubscribe(r.ctx, "left/x", everyClass); err != nil {
		t.Fatalf("Unsubscribe: %v", err)
	}
	r.publish(t, 0, &backend.Message{Topic: "left/x"})
	r.ears[1].waitTopic(t, r.h.Patience, "left/x", 1)
	r.ears[2].waitTopic(t, r.h.Patience, "left/x", 1)
}

func unsubscribeUnknown(t *testing.T, r *room) {
	if err := r.buses[1].Unsubscribe(r.ctx, "never/asked", everyClass); err != nil {
		t.Errorf("Unsubscribe: %v", err)
	}
}

// sample returns a message in which every field is set.
func sample(topic string) *backend.Message {
	return &backend.Message{
		Topic:      topic,
		Payload:    []byte("\x00payload\xff"),
		Properties: []byte{0x26, 0, 1, 'k', 0, 1, 'v'},
		Expires:    4102444800000, // the year 2100
		Publisher:  "publisher {}é",
		ID:         backend.PublishID{Client: "publisher {}é", Incarnation: 1<<63 + 1, PacketID: 65535, Generation: 1<<32 - 1},
		QoS:        2,
		Retain:     true,
	}
}

// sameMessage reports how got differs from want, or returns "".
func sameMessage(got, want *backend.Message) string {
	switch {
	case got == nil:
		return "no message"
	case got.Topic != want.Topic:
		return fmt.Sprintf("topic %.80q, want %.80q", got.Topic, want.Topic)
	case !bytes.Equal(got.Payload, want.Payload):
		return fmt.Sprintf("payload %.80q, want %.80q", got.Payload, want.Payload)
	case !bytes.Equal(got.Properties, want.Properties):
		return fmt.Sprintf("properties %.80x, want %.80x", got.Properties, want.Properties)
	case got.Expires != want.Expires:
		return fmt.Sprintf("expires %d, want %d", got.Expires, want.Expires)
	case got.Publisher != want.Publisher:
		return fmt.Sprintf("publisher %.80q, want %.80q", got.Publisher, want.Publisher)
	case got.ID != want.ID:
		return fmt.Sprintf("identity %v, want %v", got.ID, want.ID)
	case got.QoS != want.QoS:
		return fmt.Sprintf("QoS %d, want %d", got.QoS, want.QoS)
	case got.Retain != want.Retain:
		return fmt.Sprintf("retain %v, want %v", got.Retain, want.Retain)
	}
	return ""
}

func content(t *testing.T, r *room) {
	r.subscribe(t, 1, "content/#", everyClass)
	messages := []*backend.Message{
		sample("content/full"),
		{Topic: "content/empty", QoS: 1},
		{Topic: "content/zero", Payload: make([]byte, 1000)},
		{Topic: "content/properties", Properties: bytes.Repeat([]byte{0x26, 0, 1, 'k', 0, 1, 'v'}, 1000), QoS: 1},
		{Topic: "content/negative", Expires: -1},
	}
	for _, m := range messages {
		r.publish(t, 0, m)
		r.ears[1].waitTopic(t, r.h.Patience, m.Topic, 1)
		if diff := sameMessage(r.ears[1].heard(m.Topic)[0], m); diff != "" {
			t.Errorf("%s: %s", m.Topic, diff)
		}
	}
}

func busBorrowed(t *testing.T, r *room) {
	const messages = 200
	r.subscribe(t, 1, "borrowed", everyClass)
	m := sample("borrowed")
	for n := range messages {
		m.Payload = append(m.Payload[:0], fmt.Sprint(n)...)
		m.Properties = append(m.Properties[:0], fmt.Sprint(-n)...)
		r.publish(t, 0, m)
		copy(m.Payload, "????")
		copy(m.Properties, "????")
	}
	r.ears[1].waitTopic(t, r.h.Patience, "borrowed", messages)
	for n, got := range r.ears[1].heard("borrowed") {
		if string(got.Payload) != fmt.Sprint(n) || string(got.Properties) != fmt.Sprint(-n) {
			t.Fatalf("message %d has payload %q and properties %q", n, got.Payload, got.Properties)
		}
	}
}

func kept(t *testing.T, r *room) {
	const messages = 2000
	r.subscribe(t, 1, "kept/+", everyClass)
	for n := range messages {
		r.publish(t, 0, &backend.Message{
			Topic: fmt.Sprintf("kept/%d", n), Payload: bytes.Repeat([]byte{byte(n)}, n), Properties: fmt.Append(nil, n), Publisher: backend.ClientID(fmt.Sprint(n)),
		})
	}
	r.settle(t, 0, 1, "kept")
	e := r.ears[1]
	e.wait(t, r.h.Patience, "all messages", func() bool { return len(e.messages) >= messages+1 })
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, m := range e.messages {
		if diff := sameMessage(m, &e.copies[i]); diff != "" {
			t.Fatalf("a message that was kept has changed: %s", diff)
		}
	}
}

// largest is the limit for the case of that name.
const largest = 100_000

// largestMessage is F25 for the bus; TestV5ServerMaximumPacketSize of
// e2e/conformance is that for clients.
func largestMessage(t *testing.T, r *room) {
	const topic = "largest/é/ "
	r.subscribe(t, 1, "largest/#", everyClass)
	fit := &backend.Message{Topic: topic, Payload: bytes.Repeat([]byte{0xA5}, largest-len(topic)-1000), Properties: bytes.Repeat([]byte{1}, 1000), QoS: 1}
	if fit.Size() != largest {
		t.Fatalf("the case is wrong: size %d", fit.Size())
	}
	over := fit.Clone()
	over.Payload = append(over.Payload, 1)
	if err := r.buses[0].Publish(r.ctx, over); !errors.Is(err, backend.ErrTooLarge) {
		t.Errorf("Publish of %d bytes: %v, want ErrTooLarge", over.Size(), err)
	}
	notice := backend.Notice{Kind: backend.NoticeMail, Client: "c", Entry: backend.Entry{Message: over}}
	if err := r.buses[0].Notify(r.ctx, node(1), notice); !errors.Is(err, backend.ErrTooLarge) {
		t.Errorf("Notify with %d bytes: %v, want ErrTooLarge", over.Size(), err)
	}
	r.publish(t, 0, fit)
	r.ears[1].waitTopic(t, r.h.Patience, topic, 1)
	if diff := sameMessage(r.ears[1].heard(topic)[0], fit); diff != "" {
		t.Error(diff)
	}
	notice.Entry.Message = fit
	r.notify(t, 0, node(1), notice)
	e := r.ears[1]
	e.wait(t, r.h.Patience, "the notice", func() bool { return len(e.notices) > 0 })
	if n := len(e.heard(topic)); n != 1 {
		t.Errorf("heard %d messages, want one", n)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if diff := sameMessage(e.notices[0].Entry.Message, fit); diff != "" || len(e.notices) != 1 {
		t.Errorf("heard %d notices, want one; the first: %s", len(e.notices), diff)
	}
}

func runsEnd(t *testing.T, r *room) {
	const messages, notices = 2000, 300
	e := r.ears[1]
	r.subscribe(t, 1, "run/#", everyClass)
	for i := range messages {
		r.publish(t, 0, &backend.Message{Topic: fmt.Sprintf("run/%d", i%5), QoS: byte(i % 3)})
	}
	for range notices {
		r.notify(t, 0, node(1), backend.Notice{Kind: backend.NoticeKick, Client: "c"})
	}
	e.wait(t, r.h.Patience, "everything, flushed", func() bool {
		return len(e.messages) == messages && len(e.notices) == notices && e.run == 0
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.longest > backend.MaxRun {
		t.Errorf("a run of %d, want at most %d", e.longest, backend.MaxRun)
	}
}

func busConcurrent(t *testing.T, r *room) {
	const workers, rounds = 16, 200
	for i := range busGateways {
		r.subscribe(t, i, "steady/#", everyClass)
	}
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			b := r.buses[w%busGateways]
			for n := range rounds {
				own := fmt.Sprintf("own/%d/%d", w, n%7)
				err := errors.Join(
					b.Subscribe(r.ctx, own, everyClass),
					b.Publish(r.ctx, &backend.Message{Topic: own, QoS: byte(n % 3)}),
					b.Publish(r.ctx, &backend.Message{Topic: fmt.Sprintf("steady/%d", w), QoS: byte(n % 3)}),
					b.Notify(r.ctx, node(n%busGateways), backend.Notice{Kind: backend.NoticeKick, Client: backend.ClientID(own)}),
					b.Unsubscribe(r.ctx, own, backend.Class(1+n%3)),
				)
				if err != nil {
					t.Errorf("worker %d: %v", w, err)
					return
				}
			}
		})
	}
	group.Wait()
	for w := range workers {
		for to := range busGateways {
			if to != w%busGateways {
				r.ears[to].waitTopic(t, r.h.Patience, fmt.Sprintf("steady/%d", w), rounds)
			}
		}
	}
	for i, e := range r.ears {
		want := 0
		for range workers {
			for n := range rounds {
				if n%busGateways == i {
					want++
				}
			}
		}
		e.wait(t, r.h.Patience, fmt.Sprintf("%d notices", want), func() bool { return len(e.notices) >= want })
	}
}
