package events

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/gateway"
)

// Sink takes events to a receiver.
type Sink interface {
	// Name of the sink in figures and in the log.
	Name() string
	// Send tells the records, in order, and returns when the receiver has
	// them. It is called one at a time. After an error all are told again, but
	// for a [RefusedError], after which they are lost.
	Send(ctx context.Context, records []Record) error
}

// RefusedError is the error of a receiver that will not take the same thing
// later either.
type RefusedError struct{ Err error }

func (e *RefusedError) Error() string { return "refused: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *RefusedError) Unwrap() error { return e.Err }

// Options of a [Teller].
type Options struct {
	// Gateway is the name that records carry.
	Gateway string
	// Kinds to tell. Default: [Default].
	Kinds gateway.EventKind
	// Queue is how many events may wait for each sink. Default 10,000.
	Queue int
	// Batch is the most records of one Send. Default 100.
	Batch int
	// Retry is how long it is tried to tell a batch, with pauses that grow up
	// to 10 s. Default 1 min.
	Retry  time.Duration
	Logger *slog.Logger
}

const (
	firstPause = 100 * time.Millisecond
	maxPause   = 10 * time.Second
)

// Teller is a [gateway.Observer] that tells sinks. It is made by [New].
type Teller struct {
	o       Options
	run     string
	seq     atomic.Uint64
	outlets []*outlet

	mu     sync.RWMutex // held for reading while a queue is written to
	closed bool
	ctx    context.Context // ended when Close has waited long enough
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// outlet is one sink with what waits for it.
type outlet struct {
	sink  Sink
	queue chan Record

	sent, full, given, refused atomic.Uint64
	took                       *backend.Histogram
	failing                    bool // its goroutine's own
}

// New starts telling. Close ends it.
func New(o Options, sinks ...Sink) *Teller {
	if o.Kinds == 0 {
		o.Kinds = Default
	}
	if o.Queue <= 0 {
		o.Queue = 10_000
	}
	if o.Batch <= 0 {
		o.Batch = 100
	}
	if o.Retry <= 0 {
		o.Retry = time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	t := &Teller{o: o, run: runName(o.Gateway, time.Now())}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	for _, s := range sinks {
		out := &outlet{sink: s, queue: make(chan Record, o.Queue), took: backend.NewDurations()}
		t.outlets = append(t.outlets, out)
		t.done.Go(func() { t.tell(out) }) // until Close
	}
	return t
}

// Events are the kinds that were asked for.
func (t *Teller) Events() gateway.EventKind { return t.o.Kinds }

// Observe queues an event. It does not wait.
func (t *Teller) Observe(e gateway.Event) {
	r := record(&e)
	r.Time, r.Gateway = time.Now().UTC(), t.o.Gateway
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.closed {
		return
	}
	r.Seq = t.seq.Add(1)
	r.ID = t.run + formatSeq(r.Seq)
	for _, out := range t.outlets {
		select {
		case out.queue <- r:
		default:
			out.full.Add(1)
		}
	}
}

// Close takes no more events and tells those that wait, until the context ends;
// what is left then is lost.
func (t *Teller) Close(ctx context.Context) {
	t.mu.Lock()
	if !t.closed {
		t.closed = true
		for _, out := range t.outlets {
			close(out.queue)
		}
	}
	t.mu.Unlock()
	stop := context.AfterFunc(ctx, t.cancel)
	t.done.Wait()
	stop()
	t.cancel()
}

// tell empties the queue of one sink until it is closed.
func (t *Teller) tell(out *outlet) {
	batch := make([]Record, 0, t.o.Batch)
	for r := range out.queue {
		batch = append(batch[:0], r)
		for len(batch) < t.o.Batch {
			more, ok := next(out.queue)
			if !ok {
				break
			}
			batch = append(batch, more)
		}
		t.deliver(out, batch)
	}
}

// next returns what is in the queue, if anything is.
func next(queue chan Record) (Record, bool) {
	select {
	case r, ok := <-queue:
		return r, ok
	default:
		return Record{}, false
	}
}

// deliver tells one batch, again and again if need be.
func (t *Teller) deliver(out *outlet, batch []Record) {
	deadline, pause := time.Now().Add(t.o.Retry), firstPause
	for {
		begin := time.Now()
		err := out.sink.Send(t.ctx, batch)
		out.took.Took(time.Since(begin))
		var refused *RefusedError
		switch {
		case err == nil:
			out.sent.Add(uint64(len(batch)))
			t.wellAgain(out)
			return
		case errors.As(err, &refused):
			out.refused.Add(uint64(len(batch)))
			t.o.Logger.Warn("events were refused", "sink", out.sink.Name(), "count", len(batch), "err", err)
			return
		}
		if !out.failing {
			out.failing = true
			t.o.Logger.Warn("events can not be told", "sink", out.sink.Name(), "err", err)
		}
		if t.ctx.Err() != nil || time.Now().Add(pause).After(deadline) {
			out.given.Add(uint64(len(batch)))
			return
		}
		select {
		case <-time.After(pause):
		case <-t.ctx.Done():
		}
		pause = min(2*pause, maxPause)
	}
}

func (t *Teller) wellAgain(out *outlet) {
	if out.failing {
		out.failing = false
		t.o.Logger.Info("events are told again", "sink", out.sink.Name(), "lost", out.full.Load()+out.given.Load())
	}
}

// Figures are what was told and lost, by sink.
func (t *Teller) Figures() []backend.Figure {
	sent := backend.Figure{Name: "events_sent_total", Help: "Events that their receivers have taken.", Labels: []string{"sink"}}
	lost := backend.Figure{Name: "events_lost_total", Help: "Events that were not told: the queue was full, it was tried for too long, or they were refused.", Labels: []string{"sink", "reason"}}
	waiting := backend.Figure{Name: "events_queued", Help: "Events that wait to be told.", Kind: backend.Gauge, Labels: []string{"sink"}}
	took := backend.Figure{Name: "events_send_duration_seconds", Help: "How long telling a batch of events took, failed ones included.", Kind: backend.Distribution, Labels: []string{"sink"}}
	for _, out := range t.outlets {
		name := out.sink.Name()
		of := func(n float64, labels ...string) backend.Value {
			return backend.Value{Labels: append([]string{name}, labels...), Number: n}
		}
		sent.Values = append(sent.Values, of(float64(out.sent.Load())))
		lost.Values = append(lost.Values, of(float64(out.full.Load()), "queue_full"), of(float64(out.given.Load()), "unreachable"),
			of(float64(out.refused.Load()), "refused"))
		waiting.Values = append(waiting.Values, of(float64(len(out.queue))))
		took.Values = append(took.Values, backend.Value{Labels: []string{name}, Spread: out.took.Spread()})
	}
	return []backend.Figure{sent, lost, waiting, took}
}
