package gateway

import (
	"context"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// Tracer is told how long things took, each when it is over: a CONNECT, from the
// packet to CONNACK, and a PUBLISH of QoS 1 or 2 of a client, from the packet to
// its PUBACK or PUBREC. Deliveries are not traced one by one, nor is QoS 0, nor
// are wills and what the embedding program publishes.
//
// Trace is called concurrently, in the goroutine that serves the client: it must
// return at once and must not call the gateway. The span and all in it are
// borrowed during the call. A panic in it is counted and ends nothing but the call.
type Tracer interface {
	Trace(s *Span)
}

// SpanKind is what a [Span] is about.
type SpanKind uint8

const (
	// SpanConnect: a CONNECT was answered, or its client was gone before. One
	// that could not be read has no span.
	SpanConnect SpanKind = iota
	// SpanPublish: the acknowledgement of Message was written, or, with an error
	// that ends the connection, was not.
	SpanPublish
)

// Span is something that took its time.
type Span struct {
	Kind   SpanKind
	Client *Client
	// Message is nil for a CONNECT.
	Message *backend.Message
	// Begin is when the packet was complete.
	Begin, End time.Time
	// Code is the answer, or the reason why there is none. For MQTT 3 it may be
	// one that its answer can not say.
	Code protocol.ReasonCode
	// Reason is Code in words of the gateway, if there is more to say.
	Reason string
	// Steps are those that were taken, in order.
	Steps []Step
}

// Failed reports whether the code is an error.
func (s *Span) Failed() bool { return s.Code >= protocol.UnspecifiedError }

// Step is a part of a [Span].
type Step struct {
	Kind       StepKind
	Begin, End time.Time
	Failed     bool
	// Messages were appended together, this one among them.
	Messages int
}

// StepKind is what a [Step] was.
type StepKind uint8

const (
	// StepAuthenticate: the authenticator was asked, with the packets of
	// enhanced authentication.
	StepAuthenticate StepKind = iota
	// StepOpen: the session was opened in the store.
	StepOpen
	// StepAppend: the message was appended to the inboxes in the store,
	// repetitions included while it was away.
	StepAppend
)

// trace gives a span away.
func (g *Gateway) trace(s *Span) {
	defer func() {
		if p := recover(); p != nil {
			g.stats.panics.Add(1)
			g.log.Error("tracer panicked", "panic", p)
		}
	}()
	g.opt.Tracer.Trace(s)
}

// beginSpan begins the span of a CONNECT that has just come.
func (c *conn) beginSpan() {
	if c.g.opt.Tracer != nil {
		c.came.span = &Span{Kind: SpanConnect, Client: &c.client, Begin: time.Now()}
	}
}

// timed does one step of CONNECT.
func (c *conn) timed(kind StepKind, do func() bool) bool {
	s := c.came.span
	if s == nil {
		return do()
	}
	// In place before it is done: a refusal ends the span.
	s.Steps = append(s.Steps, Step{Kind: kind, Begin: time.Now(), Failed: true})
	last := &s.Steps[len(s.Steps)-1]
	ok := do()
	if last.End.IsZero() {
		last.End = time.Now()
	}
	last.Failed = !ok
	return ok
}

// endSpan ends the span of CONNECT, if there is one.
func (c *conn) endSpan(code protocol.ReasonCode, text string) {
	if c.came == nil || c.came.span == nil {
		return
	}
	s := c.came.span
	c.came.span = nil
	s.End, s.Code, s.Reason = time.Now(), code, text
	if n := len(s.Steps); n > 0 && s.Steps[n-1].End.IsZero() {
		s.Steps[n-1].End = s.End
	}
	c.g.trace(s)
}

// trace tells of the publishes of the batch, which are acknowledged, or not for
// the error. It writes the acknowledgements first.
func (b *batch) trace(err error) {
	c := b.c
	c.flush()
	failed, text := protocol.Success, ""
	if err != nil {
		failed, text = ending(err)
	}
	end := time.Now()
	var s Span
	var steps [1]Step
	index := b.index
	for i := range b.pubs {
		u := &b.pubs[i]
		if u.ack == 0 || !u.taken {
			continue
		}
		s = Span{
			Kind: SpanPublish, Client: &c.client, Message: &u.msg, End: end,
			Begin: c.g.started.Add(u.begin), Code: max(u.code, u.denied), Reason: text,
		}
		if err != nil {
			s.Code = failed
		}
		for len(index) > 0 && index[0] < i {
			index = index[1:]
		}
		if b.appending.Messages > 0 && len(index) > 0 && index[0] == i {
			steps[0] = b.appending
			s.Steps = steps[:]
		}
		c.g.trace(&s)
	}
}

// appendTimed is append, timed if anybody wants to know.
func (b *batch) appendTimed(ctx context.Context) error {
	if b.g.opt.Tracer == nil {
		return b.append(ctx)
	}
	begin := time.Now()
	err := b.append(ctx)
	b.appending = Step{Kind: StepAppend, Begin: begin, End: time.Now(), Failed: err != nil, Messages: len(b.msgs)}
	return err
}
