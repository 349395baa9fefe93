package tracing

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/protocol"
)

const (
	traceID  = "0af7651916cd43dd8448eb211c80319c"
	parentID = "b7ad6b7169203331"
	parent   = "00-" + traceID + "-" + parentID + "-01"
)

var begin = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// inMemory is a tracer whose spans are kept here.
func inMemory(t *testing.T, with ...sdk.TracerProviderOption) (*Tracer, func() tracetest.SpanStubs) {
	t.Helper()
	kept := tracetest.NewInMemoryExporter()
	out := &exporter{to: kept, log: slog.New(slog.DiscardHandler)}
	tr, err := newTracer(Options{Service: "sluice", Version: "1.2", Gateway: "g0"}, out, sdk.NewSimpleSpanProcessor(out), with...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close(context.Background()) })
	return tr, kept.GetSpans
}

func published(t *testing.T, user ...protocol.UserProperty) *gateway.Span {
	t.Helper()
	properties, err := protocol.AppendMessageProperties(nil, &protocol.MessageProperties{User: user})
	if err != nil {
		t.Fatal(err)
	}
	return &gateway.Span{
		Kind:    gateway.SpanPublish,
		Client:  &gateway.Client{ID: "me", Username: "USER", Version: protocol.V5},
		Message: &backend.Message{Topic: "a/b", Payload: []byte("PAYLOAD"), QoS: 1, Properties: properties},
		Begin:   begin, End: begin.Add(3 * time.Millisecond),
		Steps: []gateway.Step{{Kind: gateway.StepAppend, Begin: begin.Add(time.Millisecond), End: begin.Add(2 * time.Millisecond), Messages: 7}},
	}
}

func texts(s tracetest.SpanStub) map[string]string {
	all := map[string]string{}
	for _, a := range s.Attributes {
		all[string(a.Key)] = a.Value.String()
	}
	return all
}

// TestTree: a publish and its step are one trace, with their own times and the
// attributes of the conventions, and nothing else that the client has said.
func TestTree(t *testing.T) {
	tr, spans := inMemory(t)
	tr.Trace(published(t))
	got := spans()
	if len(got) != 2 {
		t.Fatalf("%d spans", len(got))
	}
	step, root := got[0], got[1]
	if root.Name != "publish" || step.Name != "append" || root.SpanKind != trace.SpanKindServer || root.Parent.IsValid() ||
		step.Parent.SpanID() != root.SpanContext.SpanID() || step.SpanContext.TraceID() != root.SpanContext.TraceID() {
		t.Errorf("got %q in %v below %q in %v", step.Name, step.Parent, root.Name, root.SpanContext)
	}
	if !root.StartTime.Equal(begin) || root.EndTime.Sub(begin) != 3*time.Millisecond || step.StartTime.Sub(begin) != time.Millisecond || step.EndTime.Sub(begin) != 2*time.Millisecond {
		t.Errorf("from %v to %v, step from %v to %v", root.StartTime, root.EndTime, step.StartTime, step.EndTime)
	}
	if root.Status.Code != codes.Unset || step.Status.Code != codes.Unset {
		t.Errorf("status %v, %v", root.Status, step.Status)
	}
	want := map[string]string{
		"messaging.system": "mqtt", "messaging.operation.name": "publish", "messaging.operation.type": "send", "messaging.client.id": "me",
		"messaging.destination.name": "a/b", "messaging.message.body.size": "7", "network.protocol.name": "mqtt", "network.protocol.version": "5.0",
		"mqtt.qos": "1", "mqtt.reason_code": "0",
	}
	has := texts(root)
	for k, v := range want {
		if has[k] != v {
			t.Errorf("%s is %q, want %q", k, has[k], v)
		}
	}
	if len(has) != len(want) {
		t.Errorf("attributes %v", has)
	}
	if n := texts(step)["messaging.batch.message_count"]; n != "7" {
		t.Errorf("batch of %q", n)
	}
	resource := root.Resource.Set()
	for k, v := range map[attribute.Key]string{"service.name": "sluice", "service.version": "1.2", "service.instance.id": "g0"} {
		if a, _ := resource.Value(k); a.AsString() != v {
			t.Errorf("%s is %q, want %q", k, a.AsString(), v)
		}
	}
}

func TestParent(t *testing.T) {
	user := func(pairs ...string) (all []protocol.UserProperty) {
		for i := 0; i < len(pairs); i += 2 {
			all = append(all, protocol.UserProperty{Key: pairs[i], Value: pairs[i+1]})
		}
		return all
	}
	for _, c := range []struct {
		name  string
		user  []protocol.UserProperty
		child bool
		state string
		spans int
	}{
		{"none", nil, false, "", 2},
		{"parent", user("other", "x", "traceparent", parent), true, "", 2},
		{"with state", user("traceparent", parent, "tracestate", "a=1", "tracestate", "b=2"), true, "a=1,b=2", 2},
		{"not sampled", user("traceparent", parent[:len(parent)-1]+"0"), true, "", 0},
		{"malformed", user("traceparent", "00-x"), false, "", 2},
		{"twice", user("traceparent", parent, "traceparent", parent), false, "", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr, spans := inMemory(t)
			tr.Trace(published(t, c.user...))
			got := spans()
			if len(got) != c.spans {
				t.Fatalf("%d spans, want %d", len(got), c.spans)
			}
			if c.spans == 0 {
				return
			}
			root := got[1]
			if child := root.SpanContext.TraceID().String() == traceID && root.Parent.SpanID().String() == parentID && root.Parent.IsRemote(); child != c.child {
				t.Errorf("span %v of parent %v", root.SpanContext, root.Parent)
			}
			if s := root.SpanContext.TraceState().String(); s != c.state {
				t.Errorf("state %q, want %q", s, c.state)
			}
		})
	}
}

func TestFailed(t *testing.T) {
	tr, spans := inMemory(t)
	s := published(t)
	s.Code, s.Reason, s.Steps[0].Failed = protocol.ServerBusy, "store is not available", true
	tr.Trace(s)
	tr.Trace(&gateway.Span{Kind: gateway.SpanConnect, Client: s.Client, Begin: begin, End: begin, Code: protocol.NotAuthorized,
		Steps: []gateway.Step{{Kind: gateway.StepAuthenticate, Begin: begin, End: begin, Failed: true}}})
	got := spans()
	if len(got) != 4 {
		t.Fatalf("%d spans", len(got))
	}
	for _, s := range got {
		if s.Status.Code != codes.Error {
			t.Errorf("%s: status %v", s.Name, s.Status)
		}
	}
	if d := got[1].Status.Description; d != protocol.ServerBusy.String()+": store is not available" {
		t.Errorf("said %q", d)
	}
	connect := texts(got[3])
	if got[3].Name != "connect" || got[2].Name != "authenticate" || connect["error.type"] != protocol.NotAuthorized.String() || connect["mqtt.reason_code"] != "135" {
		t.Errorf("%s: %v", got[3].Name, connect)
	}
}

// TestSampling: what is not sampled is not sent, and what is counts.
func TestSampling(t *testing.T) {
	tr, spans := inMemory(t, sdk.WithSampler(sdk.ParentBased(sdk.NeverSample())))
	tr.Trace(published(t))
	if n := len(spans()); n != 0 {
		t.Errorf("%d spans", n)
	}
	tr.Trace(published(t, protocol.UserProperty{Key: "traceparent", Value: parent}))
	if n := len(spans()); n != 2 {
		t.Errorf("%d spans of a parent that is sampled", n)
	}
	var figures []string
	for _, f := range tr.Figures() {
		figures = append(figures, f.Name+"="+texts(tracetest.SpanStub{Attributes: []attribute.KeyValue{attribute.Int("n", int(f.Values[0].Number))}})["n"])
	}
	if want := []string{"trace_spans_total=2", "trace_spans_sent_total=2", "trace_spans_failed_total=0"}; !slices.Equal(figures, want) {
		t.Errorf("got %q, want %q", figures, want)
	}
}

// TestLongTopic: no attribute is longer than its limit.
func TestLongTopic(t *testing.T) {
	tr, spans := inMemory(t)
	s := published(t)
	s.Message.Topic = strings.Repeat("x", 60_000)
	tr.Trace(s)
	if n := len(texts(spans()[1])["messaging.destination.name"]); n != maxAttribute {
		t.Errorf("%d characters", n)
	}
}

type refusing struct{}

func (refusing) ExportSpans(context.Context, []sdk.ReadOnlySpan) error { return errors.New("no") }
func (refusing) Shutdown(context.Context) error                        { return nil }

// TestLost: of lost spans there is one line, and the figures.
func TestLost(t *testing.T) {
	var log strings.Builder
	out := &exporter{to: refusing{}, log: slog.New(slog.NewTextHandler(&log, nil))}
	tr, err := newTracer(Options{}, out, sdk.NewSimpleSpanProcessor(out))
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		tr.Trace(published(t))
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), "spans=1 err=no") {
		t.Errorf("logged:\n%s", log.String())
	}
	if n := out.failed.Load(); n != 20 {
		t.Errorf("%d lost", n)
	}
}

// BenchmarkTrace is what a publish costs the goroutine that serves the client.
func BenchmarkTrace(b *testing.B) {
	for name, sampler := range map[string]sdk.Sampler{"sampled": sdk.AlwaysSample(), "not": sdk.NeverSample()} {
		b.Run(name, func(b *testing.B) {
			out := &exporter{to: tracetest.NewNoopExporter(), log: slog.New(slog.DiscardHandler)}
			tr, err := newTracer(Options{}, out, sdk.NewBatchSpanProcessor(out), sdk.WithSampler(sampler))
			if err != nil {
				b.Fatal(err)
			}
			defer tr.Close(context.Background())
			s := &gateway.Span{Kind: gateway.SpanPublish, Client: &gateway.Client{ID: "me"}, Message: &backend.Message{Topic: "a/b", QoS: 1},
				Begin: begin, End: begin, Steps: []gateway.Step{{Kind: gateway.StepAppend, Begin: begin, End: begin}}}
			b.ReportAllocs()
			for b.Loop() {
				tr.Trace(s)
			}
		})
	}
}
