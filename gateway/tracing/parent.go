package tracing

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/propagation"

	"github.com/sluice-mqtt/sluice/protocol"
)

const (
	traceparent = "traceparent"
	tracestate  = "tracestate"
)

// withParent puts the trace into ctx that a message belongs to, if its user
// properties say so, as the W3C proposes for MQTT 5: traceparent and tracestate. A
// traceparent that is not well formed, or not the only one, is none. The
// properties stay as they are: who receives the message has the same parent.
func withParent(ctx context.Context, properties []byte) context.Context {
	if len(properties) == 0 {
		return ctx
	}
	p, err := protocol.ParseMessageProperties(properties)
	if err != nil {
		return ctx
	}
	var parents, states []string
	for _, u := range p.User {
		switch u.Key {
		case traceparent:
			parents = append(parents, u.Value)
		case tracestate:
			states = append(states, u.Value)
		}
	}
	if len(parents) != 1 {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{
		traceparent: parents[0], tracestate: strings.Join(states, ","),
	})
}
