package gateway

import (
	"sync/atomic"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// Stats are the gateway's own figures at one moment. Counters only grow.
type Stats struct {
	Started time.Time
	// Connections now, ever, and at most at one time.
	Connections, ConnectionsTotal, ConnectionsMax int64
	// Sessions is how many durable sessions are connected here; AllSessions
	// how many sessions the cluster has, connected or not, counted with the $SYS
	// topics: by the store if it is a [backend.Census], else without those that
	// are neither connected nor subscribed.
	Sessions, AllSessions int64
	// Subscriptions of the clients connected here, without shared ones.
	Subscriptions, Filters int64
	// SharedSubscriptions of the clients connected here.
	SharedSubscriptions int64
	// Connects by the reason code of the answer; closed without one: 0x80.
	Connects map[protocol.ReasonCode]uint64
	// Disconnects by reason code; a connection that just broke: 0x80.
	Disconnects map[protocol.ReasonCode]uint64
	// Packets by type.
	PacketsReceived, PacketsSent [16]uint64
	// Publishes by QoS: received from clients, sent to clients.
	PublishReceived, PublishSent [3]uint64
	BytesReceived, BytesSent     uint64
	// PublishBytes are payload bytes.
	PublishBytesReceived, PublishBytesSent uint64
	// Dropped deliveries by reason.
	Dropped map[Drop]uint64
	// Refused connections, CONNECTs and packets by the limit that they met.
	Refused map[Refusal]uint64
	// InFlight deliveries to clients; Queued ones of ephemeral sessions;
	// InboundInFlight are QoS 2 publishes of clients that are not released.
	InFlight, Queued, InboundInFlight int64
	// Store calls that failed, by error, and took how long.
	StoreErrors uint64
	// StoreRetries are calls that were made again because the store had not
	// answered.
	StoreRetries uint64
	Takeovers    uint64
	Fenced       uint64
	Wills        uint64
	Gaps         uint64
	Panics       uint64
	LeaseLost    uint64
	// InboxDepth is how many messages wait in the inboxes of the clients
	// connected here, InboxDepthMax the most of one of them, counted every few
	// seconds.
	InboxDepth, InboxDepthMax int64
	// AckLatency is how long publishes of QoS 1 and 2 waited for PUBACK and
	// PUBREC, from being read to being answered.
	AckLatency Histogram
	// RetainedCount and RetainedBytes are the store's, read every few
	// seconds.
	RetainedCount, RetainedBytes int64
}

// counters are the live figures behind Stats.
type counters struct {
	connections, connectionsTotal, connectionsMax atomic.Int64
	sessions, allSessions, sharedSubscriptions    atomic.Int64
	inflight, queued, inboundInFlight             atomic.Int64
	retainedCount, retainedBytes                  atomic.Int64

	connects, disconnects                  [256]atomic.Uint64
	packetsReceived, packetsSent           [16]atomic.Uint64
	publishReceived, publishSent           [3]atomic.Uint64
	bytesReceived, bytesSent               atomic.Uint64
	publishBytesReceived, publishBytesSent atomic.Uint64
	dropped                                [dropReasons]atomic.Uint64
	refused                                [refusals]atomic.Uint64

	ackLatency histogram

	inboxDepth, inboxDepthMax atomic.Int64

	storeErrors, storeRetries, takeovers, fenced, wills, gaps, panics, leaseLost atomic.Uint64
}

func (c *counters) connected() {
	n := c.connections.Add(1)
	c.connectionsTotal.Add(1)
	for {
		m := c.connectionsMax.Load()
		if n <= m || c.connectionsMax.CompareAndSwap(m, n) {
			return
		}
	}
}

// What drivers count is told in the terms of package backend.
type (
	Measured   = backend.Measured
	FigureKind = backend.FigureKind
	Value      = backend.Value
)

// Gauge is the kind of figures that go up and down.
const Gauge = backend.Gauge

// Figures returns what is counted besides [Stats]: here, and by store, bus,
// observer, forwarder, tracer and authenticator, as far as they do.
func (g *Gateway) Figures() []backend.Figure {
	all := g.measures.figures()
	for _, driver := range []any{g.store, g.bus, g.opt.Observer, g.opt.Forwarder, g.opt.Tracer, g.opt.Authenticator} {
		if m, ok := driver.(backend.Measured); ok {
			all = append(all, m.Figures()...)
		}
	}
	return all
}

// Stats returns the figures of this gateway.
func (g *Gateway) Stats() Stats {
	c := &g.stats
	s := Stats{
		Started:              g.started,
		Connections:          c.connections.Load(),
		ConnectionsTotal:     c.connectionsTotal.Load(),
		ConnectionsMax:       c.connectionsMax.Load(),
		Sessions:             c.sessions.Load(),
		AllSessions:          c.allSessions.Load(),
		SharedSubscriptions:  c.sharedSubscriptions.Load(),
		Connects:             codes(&c.connects),
		Disconnects:          codes(&c.disconnects),
		BytesReceived:        c.bytesReceived.Load(),
		BytesSent:            c.bytesSent.Load(),
		PublishBytesReceived: c.publishBytesReceived.Load(),
		PublishBytesSent:     c.publishBytesSent.Load(),
		Dropped:              make(map[Drop]uint64, dropReasons),
		Refused:              make(map[Refusal]uint64, refusals),
		InFlight:             c.inflight.Load(),
		Queued:               c.queued.Load(),
		InboundInFlight:      c.inboundInFlight.Load(),
		StoreErrors:          c.storeErrors.Load(),
		StoreRetries:         c.storeRetries.Load(),
		Takeovers:            c.takeovers.Load(),
		Fenced:               c.fenced.Load(),
		Wills:                c.wills.Load(),
		Gaps:                 c.gaps.Load(),
		Panics:               c.panics.Load(),
		LeaseLost:            c.leaseLost.Load(),
		InboxDepth:           c.inboxDepth.Load(),
		InboxDepthMax:        c.inboxDepthMax.Load(),
		AckLatency:           c.ackLatency.read(),
		RetainedCount:        c.retainedCount.Load(),
		RetainedBytes:        c.retainedBytes.Load(),
	}
	filters, subs := g.tree.Len()
	s.Filters, s.Subscriptions = int64(filters), int64(subs)
	for i := range c.packetsReceived {
		s.PacketsReceived[i] = c.packetsReceived[i].Load()
		s.PacketsSent[i] = c.packetsSent[i].Load()
	}
	for i := range c.publishReceived {
		s.PublishReceived[i] = c.publishReceived[i].Load()
		s.PublishSent[i] = c.publishSent[i].Load()
	}
	for i := range c.dropped {
		s.Dropped[Drop(i)] = c.dropped[i].Load()
	}
	for i := range c.refused {
		s.Refused[Refusal(i)] = c.refused[i].Load()
	}
	return s
}

func codes(a *[256]atomic.Uint64) map[protocol.ReasonCode]uint64 {
	m := make(map[protocol.ReasonCode]uint64)
	for i := range a {
		if n := a[i].Load(); n > 0 {
			m[protocol.ReasonCode(i)] = n
		}
	}
	return m
}
