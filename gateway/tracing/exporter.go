package tracing

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// complainEvery is between two lines of the log about lost spans.
const complainEvery = time.Minute

// exporter counts what becomes of spans, and logs what is lost.
type exporter struct {
	to  sdk.SpanExporter
	log *slog.Logger

	sent, failed atomic.Uint64

	mu   sync.Mutex
	lost uint64    // since the last line
	said time.Time // when that was
}

// ExportSpans implements [sdk.SpanExporter]. It has no error, since the SDK would
// log every one.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := e.to.ExportSpans(ctx, spans)
	if err == nil {
		e.sent.Add(uint64(len(spans)))
		return nil
	}
	e.failed.Add(uint64(len(spans)))
	e.complain(len(spans), err)
	return nil
}

// complain logs that spans are lost, or whatever else the SDK has to say, not
// oftener than complainEvery.
func (e *exporter) complain(spans int, err error) {
	e.mu.Lock()
	e.lost += uint64(spans)
	lost, now := e.lost, time.Now()
	quiet := !e.said.IsZero() && now.Sub(e.said) < complainEvery
	if !quiet {
		e.lost, e.said = 0, now
	}
	e.mu.Unlock()
	if !quiet {
		e.log.Warn("tracing: the collector did not take everything", "spans", lost, "err", err)
	}
}

// Shutdown implements [sdk.SpanExporter].
func (e *exporter) Shutdown(ctx context.Context) error { return e.to.Shutdown(ctx) }

// end says what was given up at the end.
func (e *exporter) end(err error) {
	if err != nil {
		e.log.Warn("tracing: the last spans were not sent", "err", err)
	}
}
