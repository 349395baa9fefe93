package tracing

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/gateway"
)

// scope names the instrumentation in what is sent.
const scope = "github.com/sluice-mqtt/sluice/gateway"

// maxAttribute bounds each attribute, in characters, where
// OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT says nothing: a topic may be 64 KiB, and
// a queue of spans with such would take more memory than the clients.
const maxAttribute = 1024

// Options are those of a [Tracer] that the standard's variables do not give.
type Options struct {
	// Service is the default of service.name; OTEL_SERVICE_NAME and
	// OTEL_RESOURCE_ATTRIBUTES go before it. Version is service.version.
	Service, Version string
	// Gateway is service.instance.id.
	Gateway string
	// Headers go with every request. They replace OTEL_EXPORTER_OTLP_HEADERS.
	Headers map[string]string
	// Logger is told when spans are lost. Default: slog.Default().
	Logger *slog.Logger
}

// Tracer sends spans. It is a [gateway.Tracer], and a [backend.Measured].
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	out      *exporter
	sampled  atomic.Uint64
}

// New makes a tracer that sends to where the standard's variables say, and reads
// all of them that the SDK knows. It does not wait for the collector. The SDK has
// one log for the whole process, which New makes Logger.
func New(o Options) (*Tracer, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	otel.SetLogger(logr.FromSlogHandler(o.Logger.Handler()))
	var with []otlptracehttp.Option
	if len(o.Headers) > 0 {
		with = append(with, otlptracehttp.WithHeaders(o.Headers))
	}
	e, err := otlptracehttp.New(context.Background(), with...)
	if err != nil {
		return nil, err
	}
	out := &exporter{to: e, log: o.Logger}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { out.complain(0, err) }))
	return newTracer(o, out, sdk.NewBatchSpanProcessor(out))
}

// newTracer makes a tracer with a given end.
func newTracer(o Options, out *exporter, p sdk.SpanProcessor, with ...sdk.TracerProviderOption) (*Tracer, error) {
	r, err := resource.New(context.Background(), // what comes later goes before
		resource.WithAttributes(semconv.ServiceName(o.Service), semconv.ServiceVersion(o.Version), semconv.ServiceInstanceID(o.Gateway)),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, err
	}
	limits := sdk.NewSpanLimits()
	if limits.AttributeValueLengthLimit < 0 {
		limits.AttributeValueLengthLimit = maxAttribute
	}
	provider := sdk.NewTracerProvider(append([]sdk.TracerProviderOption{
		sdk.WithSpanProcessor(p), sdk.WithResource(r), sdk.WithRawSpanLimits(limits)}, with...)...)
	return &Tracer{provider: provider, tracer: provider.Tracer(scope, trace.WithInstrumentationVersion(o.Version)), out: out}, nil
}

// Close sends what waits, until ctx ends, and gives up the rest.
func (t *Tracer) Close(ctx context.Context) { t.out.end(t.provider.Shutdown(ctx)) }

// Trace implements [gateway.Tracer].
func (t *Tracer) Trace(s *gateway.Span) {
	ctx, name := context.Background(), "connect"
	if s.Kind == gateway.SpanPublish {
		ctx, name = withParent(ctx, s.Message.Properties), "publish"
	}
	ctx, span := t.tracer.Start(ctx, name, trace.WithTimestamp(s.Begin), trace.WithSpanKind(trace.SpanKindServer))
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(attributes(s, name)...)
	for i := range s.Steps {
		t.step(ctx, &s.Steps[i])
	}
	if s.Failed() {
		span.SetAttributes(semconv.ErrorTypeKey.String(s.Code.String()))
		span.SetStatus(codes.Error, describe(s))
	}
	t.sampled.Add(uint64(1 + len(s.Steps)))
	span.End(trace.WithTimestamp(s.End))
}

// step makes a span of a step, below the one in ctx.
func (t *Tracer) step(ctx context.Context, s *gateway.Step) {
	name := stepNames[s.Kind]
	_, span := t.tracer.Start(ctx, name, trace.WithTimestamp(s.Begin), trace.WithSpanKind(trace.SpanKindInternal))
	if s.Messages > 0 {
		span.SetAttributes(semconv.MessagingBatchMessageCount(s.Messages))
	}
	if s.Failed {
		span.SetStatus(codes.Error, "")
	}
	span.End(trace.WithTimestamp(s.End))
}

var stepNames = [...]string{
	gateway.StepAuthenticate: "authenticate", gateway.StepOpen: "open session", gateway.StepAppend: "append",
}

// describe says what went wrong.
func describe(s *gateway.Span) string {
	if s.Reason == "" {
		return s.Code.String()
	}
	return s.Code.String() + ": " + s.Reason
}

// attributes are those of the semantic conventions for messaging, as far as they
// fit, and with mqtt. those that have none there. There is neither payload nor
// user name nor address among them.
func attributes(s *gateway.Span, name string) []attribute.KeyValue {
	all := []attribute.KeyValue{
		semconv.MessagingSystemKey.String("mqtt"),
		semconv.MessagingOperationName(name),
		semconv.MessagingClientID(string(s.Client.ID)),
		semconv.NetworkProtocolName("mqtt"),
		semconv.NetworkProtocolVersion(s.Client.Version.String()),
		attribute.Int("mqtt.reason_code", int(s.Code)),
	}
	if m := s.Message; m != nil {
		all = append(all,
			semconv.MessagingOperationTypeSend,
			semconv.MessagingDestinationName(m.Topic),
			semconv.MessagingMessageBodySize(len(m.Payload)),
			attribute.Int("mqtt.qos", int(m.QoS)),
		)
	}
	return all
}

// Figures implements [backend.Measured].
func (t *Tracer) Figures() []backend.Figure {
	count := func(name, help string, n uint64) backend.Figure {
		return backend.Figure{Name: name, Help: help, Values: []backend.Value{{Number: float64(n)}}}
	}
	return []backend.Figure{
		count("trace_spans_total", "Spans that were sampled.", t.sampled.Load()),
		count("trace_spans_sent_total", "Spans that the collector has taken; what is neither sent nor failed waits, or found the queue full.", t.out.sent.Load()),
		count("trace_spans_failed_total", "Spans that the collector did not take.", t.out.failed.Load()),
	}
}
