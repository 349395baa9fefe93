package nats

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sluice-mqtt/sluice/backend"
)

// ready returns an outbox that is live on a link that is not connected: what
// is written is read with taken.
func ready(maxPayload int) *outbox {
	s := newSubjects("p")
	o := newOutbox(&s, 1, 2)
	o.attach(&link{maxPayload: maxPayload, dialer: &dialer{}, down: make(chan struct{})})
	o.open()
	return o
}

// taken returns what waits: subject, kind and topics of each frame.
func taken(t *testing.T, o *outbox) []string {
	t.Helper()
	var b batch
	if !o.take(&b) {
		t.Fatal("nothing waits")
	}
	o.wrote()
	var list []string
	start, sequence := 0, uint64(0)
	for _, it := range b.items {
		h, body, err := readHeader(b.buf[start:it.end], o.cluster)
		if err != nil {
			t.Fatal(err)
		}
		if h.sequence <= sequence || h.sender != o.sender {
			t.Errorf("sequence %d of %d after %d", h.sequence, h.sender, sequence)
		}
		start, sequence = it.end, h.sequence
		line := fmt.Sprintf("%s %d", it.subject, h.kind)
		if h.kind == kindMessages {
			count := int(body[0])
			for body = body[1:]; len(body) > 0; count-- {
				m, rest, err := backend.DecodeMessage(body)
				if err != nil {
					t.Fatal(err)
				}
				body = rest
				line += fmt.Sprintf(" %.10s", m.Topic)
			}
			if count != 0 {
				t.Errorf("the number of messages is wrong by %d", count)
			}
		}
		list = append(list, line)
	}
	return list
}

func TestOutboxFrames(t *testing.T) {
	big := strings.Repeat("b", maxShared)
	tests := []struct {
		name    string
		publish []string // topics; "!" is a notice, "?" a probe
		qos     byte
		want    []string
	}{
		{"one", []string{"a"}, 0, []string{"p.q.0.a 1 a"}},
		{"acked", []string{"a"}, 2, []string{"p.q.1.a 1 a"}},
		{"same subject", []string{"a", "a", "a"}, 0, []string{"p.q.0.a 1 a a a"}},
		{"others between", []string{"a", "b", "a", "a"}, 0, []string{"p.q.0.a 1 a", "p.q.0.b 1 b", "p.q.0.a 1 a a"}},
		{"a notice between", []string{"a", "!", "a", "?", "a"}, 0, []string{"p.q.0.a 1 a", "p.node.n 2", "p.q.0.a 1 a", "p.probe 3", "p.q.0.a 1 a"}},
		{"too large to share", []string{"a", big, big, "a"}, 0, []string{"p.q.0.a 1 a", "p.all 1 bbbbbbbbbb", "p.all 1 bbbbbbbbbb", "p.q.0.a 1 a"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := ready(1 << 20)
			for _, topic := range tt.publish {
				var err error
				switch topic {
				case "!":
					err = o.notify(t.Context(), "p.node.n", &backend.Notice{}, false)
				case "?":
					o.control("p.probe", kindProbe, 1)
				default:
					err = o.publish(t.Context(), &backend.Message{Topic: topic, QoS: tt.qos}, false)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if got := taken(t, o); !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestOutboxSharesUpToLimits(t *testing.T) {
	for _, tt := range []struct {
		name           string
		maxPayload     int
		messages, size int
		frames         int
	}{
		{"by number", 1 << 20, 2*maxJoined + 1, 0, 3},
		{"by bytes", 1 << 20, 8, maxShared / 4, 3}, // three fit, with what is around them
		{"by payload of the server", 300, 8, 100, 4},
	} {
		o := ready(tt.maxPayload)
		for range tt.messages {
			if err := o.publish(t.Context(), &backend.Message{Topic: "a", Payload: make([]byte, tt.size)}, false); err != nil {
				t.Fatal(err)
			}
		}
		if got := len(taken(t, o)); got != tt.frames {
			t.Errorf("%s: %d frames, want %d", tt.name, got, tt.frames)
		}
	}
}

func TestOutboxTooLarge(t *testing.T) {
	o := ready(1000)
	fits := &backend.Message{Topic: "a", Payload: make([]byte, 900)}
	over := &backend.Message{Topic: "a", Payload: make([]byte, 1000)}
	if err := o.publish(t.Context(), over, false); !errors.Is(err, backend.ErrTooLarge) {
		t.Errorf("publish: %v, want ErrTooLarge", err)
	}
	if err := o.notify(t.Context(), "p.node.n", &backend.Notice{Entry: backend.Entry{Message: over}}, false); !errors.Is(err, backend.ErrTooLarge) {
		t.Errorf("notify: %v, want ErrTooLarge", err)
	}
	if err := o.publish(t.Context(), fits, false); err != nil {
		t.Error(err)
	}
	if got := taken(t, o); !slices.Equal(got, []string{"p.q.0.a 1 a"}) {
		t.Errorf("wrote %q", got)
	}
}

func TestOutboxWithoutConnection(t *testing.T) {
	s := newSubjects("p")
	o := newOutbox(&s, 1, 2)
	away := func(when string) {
		t.Helper()
		if err := o.publish(t.Context(), &backend.Message{Topic: "a"}, false); !errors.Is(err, backend.ErrUnavailable) {
			t.Errorf("%s: %v, want ErrUnavailable", when, err)
		}
		if err := o.health(); !errors.Is(err, backend.ErrUnavailable) {
			t.Errorf("%s: health %v, want ErrUnavailable", when, err)
		}
	}
	away("at first")
	o.control("p.probe", kindProbe, 1)
	o.attach(&link{maxPayload: 1000, down: make(chan struct{})})
	away("not proved")
	o.control("p.probe", kindProbe, 1) // to be proved by
	if got := taken(t, o); len(got) != 1 {
		t.Errorf("wrote %q, want the second probe", got)
	}
	o.open()
	if err := o.health(); err != nil {
		t.Error(err)
	}
	for range 3 {
		if err := o.publish(t.Context(), &backend.Message{Topic: "a"}, false); err != nil {
			t.Fatal(err)
		}
	}
	o.detach(errors.New("cause"))
	away("lost")
	if err := o.state(); !strings.Contains(err.Error(), "cause") {
		t.Errorf("%v does not say why", err)
	}
	if n := o.counts().lost; n != 3 {
		t.Errorf("%d counted as lost, want 3", n)
	}
}

func TestOutboxFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := ready(2 * maxOutbox)
		m := &backend.Message{Topic: "a", Payload: make([]byte, maxOutbox)}
		publish := func(ctx context.Context) chan error {
			done := make(chan error, 1)
			go func() { done <- o.publish(ctx, m, false) }() // ends with the outbox at the latest
			synctest.Wait()
			return done
		}
		ended := func(done chan error) bool { return len(done) == 1 }
		if first := publish(t.Context()); !ended(first) {
			t.Fatal("one message above the limit waits though nothing else does")
		}
		ctx, cancel := context.WithCancel(t.Context())
		second, third := publish(ctx), publish(t.Context())
		if ended(second) || ended(third) {
			t.Fatal("more is let in than there is room")
		}
		cancel()
		if err := <-second; !errors.Is(err, backend.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		taken(t, o)
		if err := <-third; err != nil {
			t.Errorf("with room: %v", err)
		}
		fourth := publish(t.Context())
		o.detach(errors.New("gone"))
		if err := <-fourth; !errors.Is(err, backend.ErrUnavailable) {
			t.Errorf("connection lost: %v", err)
		}
	})
}

func TestOutboxKeepsSubjects(t *testing.T) {
	o := ready(1 << 20)
	for i := range 3 * maxNames {
		m := &backend.Message{Topic: fmt.Sprint("t", i), QoS: byte(i % 2)}
		want := o.subjects.topic(m.Topic, backend.ClassQoS0<<(i%2))
		for _, when := range []string{"made", "kept"} {
			if got := o.name(m); got != want {
				t.Fatalf("%s: subject %q, want %q", when, got, want)
			}
		}
	}
	for i, names := range o.names {
		if len(names) > maxNames || len(names) == 0 {
			t.Errorf("class %d: %d subjects are kept", i, len(names))
		}
	}
}
