package bridge

import (
	"context"
	"errors"
	"hash/maphash"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/nats/subject"
	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/protocol"
)

const (
	// group is the queue group of all gateways.
	group = "sluice"
	// workers store messages at one time; those of one topic have the same one,
	// which keeps their order.
	workers = 16
	// waiting messages for one worker; then the subscription waits.
	waiting = 256
	// pendingMessages and pendingBytes are how much may wait in a subscription.
	// What comes on top is lost; who can not have that asks for an answer.
	pendingMessages = 65_536
	pendingBytes    = 64 << 20
	// pause is between two attempts to store a message.
	pause = 100 * time.Millisecond
)

// item is a message with the topic that it is for.
type item struct {
	topic string
	msg   *nats.Msg
}

// Serve takes what applications publish, for the gateway, until Stop. It may be
// called once.
func (b *Bridge) Serve(g Gateway) error {
	b.gateway = g
	for range workers {
		q := make(chan item, waiting)
		b.queues = append(b.queues, q)
		b.workers.Go(func() { // until Stop
			for i := range q {
				b.take(i)
			}
		})
	}
	seed := maphash.MakeSeed()
	for _, s := range []string{b.in, b.in + ".>"} {
		sub, err := b.o.Conn.QueueSubscribe(s, group, func(m *nats.Msg) {
			topic, err := b.topicOf(m)
			if err != nil {
				b.answer(m, err)
				return
			}
			b.queues[maphash.String(seed, topic)%workers] <- item{topic, m}
		})
		if err != nil {
			return err
		}
		sub.SetClosedHandler(func(string) { b.over <- struct{}{} })
		b.subs = append(b.subs, sub)
		if err := sub.SetPendingLimits(pendingMessages, pendingBytes); err != nil {
			return err
		}
	}
	return nil
}

// Stop takes no more messages, publishes those that have come, as far as the
// context allows, and returns. The other gateways get what comes from now on.
func (b *Bridge) Stop(ctx context.Context) {
	for _, s := range b.subs {
		if s.Drain() != nil {
			continue // closed with its connection
		}
		select {
		case <-b.over:
		case <-ctx.Done():
			return
		}
	}
	for _, q := range b.queues {
		close(q)
	}
	done := make(chan struct{})
	go func() { b.workers.Wait(); close(done) }() // ends with the workers
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// topicOf reads the topic from the subject, or from the header where the subject
// has none.
func (b *Bridge) topicOf(m *nats.Msg) (string, error) {
	if tokens, ok := strings.CutPrefix(m.Subject, b.in+"."); ok {
		topic, err := subject.Topic(tokens)
		if err != nil {
			err = &gateway.RefusalError{Code: protocol.TopicNameInvalid, Reason: err.Error()}
		}
		return topic, err
	}
	value := m.Header.Get(headerTopic)
	if value == "" {
		return "", &headerFault{headerTopic, value, "a topic, on the subject " + b.in}
	}
	topic, err := subject.Unescape(nil, value)
	if err != nil {
		return "", &headerFault{headerTopic, value, "text, with % as %25"}
	}
	return string(topic), nil
}

// take publishes one message and answers, if that was asked for.
func (b *Bridge) take(i item) {
	m, err := message(i.topic, i.msg, b.gateway.StoreTime())
	if err == nil {
		name := i.msg.Header.Get(headerIdentity)
		if name == "" && m.QoS == 2 { // for our own repetitions
			name = nats.NewInbox()
		}
		err = b.publish(m, name)
	}
	b.answer(i.msg, err)
}

// publish tries for a while.
func (b *Bridge) publish(m *backend.Message, name string) error {
	until := time.Now().Add(b.o.Hold)
	for {
		ctx, cancel := context.WithDeadline(context.Background(), until.Add(pause))
		err := b.gateway.Inject(ctx, m, name)
		cancel()
		unavailable := errors.Is(err, backend.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
		if !unavailable || time.Now().After(until) {
			return err
		}
		time.Sleep(pause)
	}
}

// answer says what became of a message, to who wants to know, and counts it.
func (b *Bridge) answer(m *nats.Msg, err error) {
	code, text := protocol.Success, ""
	var refused *gateway.RefusalError
	var invalid *protocol.Error
	var fault *headerFault
	switch {
	case err == nil:
		b.taken.Add(1)
	case errors.As(err, &refused):
		code, text = refused.Code, refused.Error()
		b.refused.Add(1)
	case errors.As(err, &fault):
		code, text = protocol.MalformedPacket, fault.Error()
		b.refused.Add(1)
	case errors.As(err, &invalid), errors.Is(err, protocol.ErrEncode):
		code, text = protocol.MalformedPacket, err.Error()
		b.refused.Add(1)
	case errors.Is(err, backend.ErrTooLarge):
		code, text = protocol.PacketTooLarge, "the message is too large for store or bus"
		b.refused.Add(1)
	default:
		// What a driver says of its server is for the log.
		code, text = protocol.ServerUnavailable, "store or bus did not answer"
		b.failed.Add(1)
		b.o.Logger.Warn("message of an application was not published", "subject", m.Subject, "err", err)
	}
	if m.Reply == "" {
		return
	}
	out := nats.NewMsg(m.Reply)
	out.Header.Set(headerCode, strconv.Itoa(int(code)))
	if text != "" {
		out.Header.Set(headerError, escapeLines(text))
	}
	if err := b.o.Conn.PublishMsg(out); err != nil {
		b.o.Logger.Debug("answer was not sent", "subject", m.Reply, "err", err)
	}
}

// escapeLines makes text fit for a header.
func escapeLines(s string) string { return strings.NewReplacer("\r", " ", "\n", " ").Replace(s) }
