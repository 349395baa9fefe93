package gateway

import (
	"context"
	"log/slog"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

const (
	// maxTraced bounds the clients that are traced at one time: a trace is for
	// looking into one case.
	maxTraced = 100
	// maxTrace is the longest that a trace goes on unless it is asked for
	// again, so that one that was forgotten does not fill a disk.
	maxTrace = time.Hour
)

// traces are the clients whose packets are logged, until when.
type traces struct {
	until map[backend.ClientID]time.Time
}

// traceHere has the packets of a client logged from now on for so long, here;
// 0 ends it. It returns false if there are too many already.
func (g *Gateway) traceHere(id backend.ClientID, d time.Duration) bool {
	g.mu.Lock()
	_, has := g.traces.until[id]
	now := time.Now()
	for other, until := range g.traces.until {
		if now.After(until) {
			delete(g.traces.until, other)
		}
	}
	switch {
	case d <= 0:
		delete(g.traces.until, id)
	case !has && len(g.traces.until) >= maxTraced:
		g.mu.Unlock()
		return false
	default:
		if g.traces.until == nil {
			g.traces.until = make(map[backend.ClientID]time.Time)
		}
		g.traces.until[id] = now.Add(min(d, maxTrace))
	}
	g.mu.Unlock()
	if c := g.clients.get(id); c != nil {
		c.traced.Store(d > 0)
	}
	return true
}

// tracedUntil is when the trace of a client ends; zero if there is none.
func (g *Gateway) tracedUntil(id backend.ClientID) time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.traces.until[id]
}

// traceFrames logs the packets in b, which begins with one: type, sizes, topic
// and identifiers, never a payload and nothing that authenticates. It ends the
// trace when its time is over.
func (c *conn) traceFrames(direction string, b []byte) {
	until := c.g.tracedUntil(c.client.ID)
	if time.Now().After(until) {
		c.traced.Store(false)
		return
	}
	for len(b) > 0 {
		h, size, err := protocol.ParseHeader(b, c.client.Version, 0)
		if err != nil || size == 0 || len(b) < size+h.Length {
			return
		}
		body := b[size : size+h.Length]
		b = b[size+h.Length:]
		attrs := []slog.Attr{
			slog.String("client", string(c.client.ID)), slog.String("direction", direction),
			slog.String("type", h.Type.String()), slog.Int("bytes", size+h.Length),
		}
		attrs = append(attrs, traceDetail(h, body, c.client.Version)...)
		c.g.log.LogAttrs(context.Background(), slog.LevelInfo, "trace", attrs...)
	}
}

// traceDetail is what there is to say of single types.
func traceDetail(h protocol.Header, body []byte, v protocol.Version) []slog.Attr {
	switch h.Type {
	case protocol.PUBLISH:
		var p protocol.Publish
		if p.Decode(h, body, v) == nil {
			return []slog.Attr{
				slog.String("topic", string(p.Topic)), slog.Int("payload_bytes", len(p.Payload)), slog.Int("qos", int(p.QoS)),
				slog.Int("packet_id", int(p.PacketID)), slog.Bool("retain", p.Retain), slog.Bool("dup", p.Dup),
			}
		}
	case protocol.PUBACK, protocol.PUBREC, protocol.PUBREL, protocol.PUBCOMP:
		var a protocol.Ack
		if a.Decode(h, body, v) == nil {
			return []slog.Attr{slog.Int("packet_id", int(a.PacketID)), slog.String("code", a.Code.String())}
		}
	case protocol.SUBSCRIBE:
		var p protocol.Subscribe
		if p.Decode(h, body, v) == nil {
			filters := make([]string, len(p.Filters))
			for i, f := range p.Filters {
				filters[i] = f.Filter
			}
			return []slog.Attr{slog.Any("filters", filters), slog.Int("packet_id", int(p.PacketID))}
		}
	case protocol.DISCONNECT:
		var p protocol.Disconnect
		if p.Decode(h, body, v) == nil {
			return []slog.Attr{slog.String("code", p.Code.String())}
		}
	}
	return nil
}
