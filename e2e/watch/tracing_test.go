package watch_test

import (
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// soon has spans sent at once, and given up soon.
var soon = []string{"OTEL_BSP_SCHEDULE_DELAY=50", "OTEL_BSP_EXPORT_TIMEOUT=200"}

// received is a span with what was said of the process.
type received struct {
	*otlp.Span
	resource map[string]string
}

func (r received) text(key string) string {
	for _, a := range r.Attributes {
		if a.Key == key {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

// startCollector receives spans over OTLP/HTTP. A request of theirs has the same
// form as [otlp.TracesData].
func startCollector(t *testing.T, bodies chan<- string) (*httptest.Server, <-chan received) {
	t.Helper()
	spans := make(chan received, 1000)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var data otlp.TracesData
		if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("X-Key") != "told to nobody" || proto.Unmarshal(body, &data) != nil {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		bodies <- string(body)
		for _, rs := range data.ResourceSpans {
			about := map[string]string{}
			for _, a := range rs.Resource.Attributes {
				about[a.Key] = a.Value.GetStringValue()
			}
			for _, ss := range rs.ScopeSpans {
				for _, one := range ss.Spans {
					spans <- received{one, about}
				}
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf") // an empty answer is one
	}))
	t.Cleanup(s.Close)
	return s, spans
}

// TestTracing: CONNECT and PUBLISH reach a collector as spans of the publisher's
// trace, with neither payload nor password, the last ones at the end of the
// gateway; and subscribers get the publisher's context unchanged.
func TestTracing(t *testing.T) {
	t.Parallel()
	bodies := make(chan string, 1000)
	server, spans := startCollector(t, bodies)
	g := harness.Start(t, append([]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + server.URL, "OTEL_EXPORTER_OTLP_HEADERS=x-key=told%20to%20nobody",
		"OTEL_SERVICE_NAME=under-test", "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=e2e",
	}, soon...)...)
	next := func(client, name string) received {
		t.Helper()
		for {
			s := receive(t, spans)
			if s.Name == name && (client == "" || s.text("messaging.client.id") == client) {
				return s
			}
		}
	}
	id, user, password := wire.Unique("traced"), "USER", "PASSWORD"
	c := wire.Dial(t, g.TCP).Connect(wire.Connect{Version: wire.V5, ClientID: id, Clean: true, Username: &user, Password: &password})
	if s := next(id, "connect"); s.text("messaging.system") != "mqtt" || s.resource["service.name"] != "under-test" ||
		s.resource["deployment.environment.name"] != "e2e" || s.resource["service.instance.id"] == "" {
		t.Errorf("got %v of %v", s.Span, s.resource)
	}

	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	topic := wire.Unique("traced/a")
	c.Subscribe(topic, 1)
	c.PublishPacket(wire.Publish{Topic: topic, QoS: 1, Payload: "PAYLOAD", Props: wire.Props{
		wire.User("traceparent", "00-"+trace+"-"+parent+"-01"), wire.User("tracestate", "a=1")}})
	if got := c.Receive().Props.Users(); len(got) != 2 || got[0] != [2]string{"traceparent", "00-" + trace + "-" + parent + "-01"} || got[1] != [2]string{"tracestate", "a=1"} {
		t.Errorf("delivered with %q", got)
	}
	step := next("", "append")
	publish := next(id, "publish")
	if hex.EncodeToString(publish.TraceId) != trace || hex.EncodeToString(publish.ParentSpanId) != parent || publish.TraceState != "a=1" || publish.text("messaging.destination.name") != topic {
		t.Errorf("got %v", publish.Span)
	}
	if hex.EncodeToString(step.TraceId) != trace || string(step.ParentSpanId) != string(publish.SpanId) {
		t.Errorf("step %v of %v", step.Span, publish.Span)
	}
	if v := g.Metric(t, "sluice_trace_spans_total"); v == "" || v == "0" {
		t.Errorf("sluice_trace_spans_total is %q", v)
	}
	c.Publish(topic, 2, "PAYLOAD")
	g.Stop(t)
	next(id, "publish")
	for range len(bodies) {
		if b := <-bodies; strings.Contains(b, "PAYLOAD") || strings.Contains(b, "PASSWORD") || strings.Contains(b, "USER") {
			t.Errorf("told: %q", b)
		}
	}
	if strings.Contains(g.Logs(), "told to nobody") {
		t.Error("the log has the header")
	}
}

// TestTracingAway: a collector that takes connections and never answers holds up
// neither clients nor the end, and is in the log, once a minute.
func TestTracingAway(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // nobody accepts
	g := harness.Start(t, append([]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + l.Addr().String(), "OTEL_BSP_MAX_QUEUE_SIZE=10"}, soon...)...)
	c := wire.Dial(t, g.TCP).Connect(wire.Connect{Version: wire.V5, ClientID: wire.Unique("away"), Clean: true})
	begin := time.Now()
	for g.Metric(t, "sluice_trace_spans_failed_total") == "0" {
		if time.Since(begin) > patience {
			t.Fatalf("nothing was lost:\n%s", g.Logs())
		}
		c.Publish("away", 1, "x")
	}
	for range 200 { // many times the queue
		c.Publish("away", 2, "x")
	}
	g.Stop(t)
	most := 1 + int(time.Since(begin)/time.Minute)
	if n := strings.Count(g.Logs(), "the collector did not take everything"); n < 1 || n > most {
		t.Errorf("%d lines in\n%s", n, g.Logs())
	}
}

// TestTracingVariables: a wrong variable stops the start with a line, if there is a
// collector.
func TestTracingVariables(t *testing.T) {
	t.Parallel()
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318"
	for _, c := range []struct{ env, line string }{
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=127.0.0.1:4318", `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT = "127.0.0.1:4318": allowed is a URL, as http://127.0.0.1:4318`},
		{"OTEL_EXPORTER_OTLP_PROTOCOL=grpc", `OTEL_EXPORTER_OTLP_PROTOCOL = "grpc": allowed is http/protobuf, http/json`},
		{"OTEL_EXPORTER_OTLP_HEADERS=HIDDEN", `OTEL_EXPORTER_OTLP_HEADERS = "***": item 1 is not name=value, with the value as in URLs`},
		{"OTEL_TRACES_SAMPLER=some", `OTEL_TRACES_SAMPLER = "some": allowed is always_on, `},
		{"OTEL_TRACES_EXPORTER=zipkin", `OTEL_TRACES_EXPORTER = "zipkin": allowed is otlp, none`},
	} {
		code, out := harness.Run(t, []string{"check-config"}, endpoint, c.env)
		if code != 1 || !strings.Contains(out, "\n"+c.line) || strings.Contains(out, "HIDDEN") {
			t.Errorf("%s: exit %d\n%s", c.env, code, out)
		}
		if strings.Contains(c.env, "ENDPOINT") {
			continue
		}
		if code, out := harness.Run(t, []string{"check-config"}, c.env); code != 0 {
			t.Errorf("%s alone: exit %d\n%s", c.env, code, out)
		}
	}
}
