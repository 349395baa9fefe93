package gateway

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// spanBook is a tracer that writes spans down in words.
type spanBook struct {
	mu    sync.Mutex
	lines []string
	bad   []string
}

func (b *spanBook) Trace(s *Span) {
	line := fmt.Sprintf("connect %s", s.Client.ID)
	if s.Kind == SpanPublish {
		line = fmt.Sprintf("publish %s %s:%s", s.Client.ID, s.Message.Topic, s.Message.Payload)
	}
	if s.Code != 0 {
		line += fmt.Sprintf(" code=0x%02X", byte(s.Code))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.Begin.IsZero() || s.End.Before(s.Begin) {
		b.bad = append(b.bad, fmt.Sprint(line, " from ", s.Begin, " to ", s.End))
	}
	for _, p := range s.Steps {
		line += " " + map[StepKind]string{StepAuthenticate: "authenticate", StepOpen: "open", StepAppend: "append"}[p.Kind]
		if p.Failed {
			line += "!"
		}
		if p.Begin.Before(s.Begin) || p.End.Before(p.Begin) || s.End.Before(p.End) {
			b.bad = append(b.bad, fmt.Sprint(line, ": step from ", p.Begin, " to ", p.End, " in ", s.Begin, " to ", s.End))
		}
	}
	b.lines = append(b.lines, line)
	if strings.Contains(line, "panic") {
		panic("tracer")
	}
}

// await waits for as many spans, which are all.
func (b *spanBook) await(t *testing.T, want ...string) {
	t.Helper()
	eventually(t, "the spans", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.lines) >= len(want)
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.lines, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(b.lines, "\n"), strings.Join(want, "\n"))
	}
	for _, s := range b.bad {
		t.Error(s)
	}
	b.lines, b.bad = nil, nil
}

// refuser lets in everybody but "stranger", and lets nobody publish to "forbidden".
type refuser struct{}

func (refuser) Authenticate(_ context.Context, r *ConnectRequest) (Identity, error) {
	if r.Client.ID == "stranger" {
		return Identity{}, ErrBadCredentials
	}
	return Identity{}, nil
}

func (refuser) Authorize(_ context.Context, _ *Client, a Access) error {
	if a.Topic == "forbidden" {
		return ErrNotAuthorized
	}
	return nil
}

// TestTracer: every CONNECT and every PUBLISH of QoS 1 and 2 has a span, with its
// steps and its answer, in either version, and nothing else has.
func TestTracer(t *testing.T) {
	t.Parallel()
	book := &spanBook{}
	cl := newCluster(t, 1, func(_ int, o *Options) {
		o.Tracer, o.Authenticator, o.Authorizer = book, refuser{}, refuser{}
	})
	g := cl.nodes[0]
	dial(t, g, connectPacket("stranger")).next()
	book.await(t, "connect stranger code=0x86 authenticate!")
	c := join(t, g, "c")
	book.await(t, "connect c authenticate open")
	c.subscribe(0, "live")
	c.send(publish("live", "0", 0, 0), publish("a", "1", 1, 1), publish("forbidden", "2", 1, 2), publish("a", "3", 2, 3), ack(protocol.PUBREL, 3))
	book.await(t, "publish c a:1 code=0x10 append", "publish c forbidden:2 code=0x87", "publish c a:3 code=0x10 append")
	c.send(publish("panic", "", 1, 4), publish("a", "5", 1, 5))
	book.await(t, "publish c panic: code=0x10 append", "publish c a:5 code=0x10 append")
	old := join(t, g, "old", v311)
	old.send(publish("forbidden", "6", 1, 1))
	book.await(t, "connect old authenticate open", "publish old forbidden:6 code=0x87")
}

// TestTracerStoreAway: what is not acknowledged has a span that says why.
func TestTracerStoreAway(t *testing.T) {
	t.Parallel()
	book := &spanBook{}
	cl := newCluster(t, 1, func(_ int, o *Options) { o.Tracer, o.Timing.Hold = book, 1 })
	c := join(t, cl.nodes[0], "c")
	book.await(t, "connect c authenticate open")
	cl.stores[0].fault(func(call string) error {
		if call == "Append" {
			return backend.ErrUnavailable
		}
		return nil
	})
	c.send(publish("a", "1", 1, 1))
	book.await(t, "publish c a:1 code=0x89 append!")
}
