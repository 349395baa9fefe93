package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/nats/subject"
	"github.com/sluice-mqtt/sluice/protocol"
)

// Options of a [Bridge].
type Options struct {
	// Conn is used, and not closed. It should fail a publish at once while it is
	// broken, rather than keep it back. Required.
	Conn *nats.Conn
	// Prefix of all subjects, one or more tokens. Required.
	Prefix string
	// Topics are filters of what is forwarded. Default: everything.
	Topics []string
	// Hold is how long a message that can not be stored is held before it is
	// refused or lost. Default 5 s.
	Hold   time.Duration
	Logger *slog.Logger
}

// Gateway is the part of [gateway.Gateway] that takes messages.
type Gateway interface {
	Inject(ctx context.Context, m *backend.Message, name string) error
	// StoreTime is the time by which messages expire.
	StoreTime() time.Time
}

// maxSubject is the longest subject in bytes; see package backend/nats.
const maxSubject = 1024

// Bridge is a [gateway.Forwarder], and takes what applications publish once
// Serve was called.
type Bridge struct {
	o       Options
	out, in string // subjects without the levels of a topic

	gateway Gateway
	subs    []*nats.Subscription
	over    chan struct{} // has an element for each subscription that has ended
	queues  []chan item
	workers sync.WaitGroup

	forwarded, taken, refused, failed, large atomic.Uint64
}

// New checks the options.
func New(o Options) (*Bridge, error) {
	for token := range strings.SplitSeq(o.Prefix, ".") {
		if token == "" || string(subject.AppendToken(nil, token)) != token || strings.HasPrefix(token, "$") || len(o.Prefix) > 128 {
			return nil, errors.New("allowed are tokens separated by dots, up to 128 bytes, that are not empty and have no space, *, >, % and no $ in front")
		}
	}
	for _, f := range o.Topics {
		if err := protocol.ValidFilter(f); err != nil {
			return nil, fmt.Errorf("%q is no topic filter", f)
		}
	}
	if o.Hold <= 0 {
		o.Hold = 5 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Bridge{o: o, out: o.Prefix + ".message", in: o.Prefix + ".publish", over: make(chan struct{}, 2)}, nil
}

// wanted reports whether a topic is forwarded.
func (b *Bridge) wanted(topic string) bool {
	if len(b.o.Topics) == 0 {
		return true
	}
	for _, f := range b.o.Topics {
		if protocol.Match(f, topic) {
			return true
		}
	}
	return false
}

// Forward publishes the messages. Where they have to be acknowledged it waits
// until the server has them.
func (b *Bridge) Forward(ctx context.Context, now time.Time, messages []*backend.Message) error {
	nc := b.o.Conn
	reconnects := nc.Stats().Reconnects
	given := uint64(0)
	for _, m := range messages {
		if !b.wanted(m.Topic) {
			continue
		}
		out := &nats.Msg{Data: m.Payload, Header: headers(m, now)}
		out.Subject = b.subjectOf(m.Topic)
		if out.Subject == b.out {
			out.Header[headerTopic] = []string{escaped(m.Topic)}
		}
		switch err := nc.PublishMsg(out); {
		case err == nil:
			given++
		case errors.Is(err, nats.ErrMaxPayload):
			// It is delivered to every MQTT client, and no reason to hold them up.
			b.large.Add(1)
			b.o.Logger.Debug("message is too large for NATS", "topic", m.Topic, "bytes", len(m.Payload))
		case given == 0:
			return fmt.Errorf("%w: NATS: %w", backend.ErrUnavailable, err)
		default:
			return fmt.Errorf("NATS: %w", err)
		}
	}
	b.forwarded.Add(given)
	if given == 0 || messages[0].QoS == 0 {
		return nil
	}
	if err := nc.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("NATS has not confirmed: %v", err) // not one that is tried again
	}
	if nc.Stats().Reconnects != reconnects {
		return errors.New("NATS has not confirmed: the connection was lost meanwhile")
	}
	return nil
}

// subjectOf returns the subject of a topic, without levels if it would be too
// long.
func (b *Bridge) subjectOf(topic string) string {
	if len(topic) > maxSubject {
		return b.out
	}
	s := subject.AppendLevels(append(make([]byte, 0, len(b.out)+len(topic)+16), b.out...), topic, maxSubject)
	if len(s) > maxSubject {
		return b.out
	}
	return string(s)
}

// Health returns why nothing can be forwarded now.
func (b *Bridge) Health() error {
	if !b.o.Conn.IsConnected() {
		return errors.New("NATS is not connected")
	}
	return nil
}

// Figures are what went both ways.
func (b *Bridge) Figures() []backend.Figure {
	counter := func(name, help string, n *atomic.Uint64) backend.Figure {
		return backend.Figure{Name: name, Help: help, Values: backend.Single(float64(n.Load()))}
	}
	return []backend.Figure{
		counter("bridge_forwarded_total", "Messages that were given to applications on NATS.", &b.forwarded),
		counter("bridge_too_large_total", "Messages that were not, because NATS does not take so large ones.", &b.large),
		{Name: "bridge_taken_total", Help: "Messages of applications on NATS, by what became of them.", Labels: []string{"result"}, Values: []backend.Value{
			{Labels: []string{"published"}, Number: float64(b.taken.Load())},
			{Labels: []string{"refused"}, Number: float64(b.refused.Load())},
			{Labels: []string{"failed"}, Number: float64(b.failed.Load())},
		}},
	}
}
