package gateway

import (
	"context"
	"runtime"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// NodeFigures are what a gateway tells others of itself. Counters are since
// Started.
type NodeFigures struct {
	Version string
	Started time.Time
	// NotReady is what keeps it from serving, empty if nothing does.
	NotReady    string
	Connections int64
	// Subscriptions of the clients there, shared ones included.
	Subscriptions int64
	// Received and Sent are PUBLISH packets from and to clients, and their
	// packets' bytes.
	Received, Sent, BytesReceived, BytesSent uint64
	// Dropped deliveries by reason.
	Dropped map[string]uint64
	// InFlight and Queued deliveries.
	InFlight, Queued int64
	// Backlog is how many messages wait in the inboxes of its clients.
	Backlog int64
	Gaps    uint64
	// AckSeconds is the sum of what publishes waited for their
	// acknowledgement, Acked how many there were.
	AckSeconds float64
	Acked      uint64
	HeapBytes  uint64
	Goroutines int
}

// figures are this gateway's.
func (g *Gateway) figures() NodeFigures {
	s := g.Stats()
	f := NodeFigures{
		Version: g.opt.Version, Started: s.Started, Connections: s.Connections,
		Subscriptions: s.Subscriptions + s.SharedSubscriptions,
		Received:      sum(s.PublishReceived[:]), Sent: sum(s.PublishSent[:]),
		BytesReceived: s.BytesReceived, BytesSent: s.BytesSent,
		Dropped: make(map[string]uint64), InFlight: s.InFlight, Queued: s.Queued, Backlog: s.InboxDepth, Gaps: s.Gaps,
		AckSeconds: s.AckLatency.Sum, Acked: s.AckLatency.Count,
		HeapBytes: heapBytes(), Goroutines: runtime.NumGoroutine(),
	}
	for why, n := range s.Dropped {
		if n > 0 {
			f.Dropped[why.String()] = n
		}
	}
	if err := g.Ready(); err != nil {
		f.NotReady = err.Error()
	}
	return f
}

// measureInterval is between two counts of what waits for the clients here,
// which looks at every one of them.
const measureInterval = 5 * time.Second

// measureInboxes counts what waits in the inboxes of the clients here until
// the context ends.
func (g *Gateway) measureInboxes(ctx context.Context) {
	for sleep(ctx, measureInterval) {
		sum, most, durable := int64(0), int64(0), int64(0)
		for i := range clientShards {
			for _, c := range g.clients.some(i) {
				c.mu.Lock()
				n := int64(c.out.Depth())
				if c.durable && len(c.subs)+len(c.shared) > 0 {
					durable++
				}
				c.mu.Unlock()
				sum, most = sum+n, max(most, n)
			}
		}
		g.durable.Store(durable)
		g.stats.inboxDepth.Store(sum)
		g.stats.inboxDepthMax.Store(most)
	}
}

// LiveClient is what the gateway that a client is connected to knows of it.
type LiveClient struct {
	ID        backend.ClientID
	Username  string
	Principal string
	Listener  string
	Remote    string
	Version   protocol.Version
	// Since is when it connected.
	Since time.Time
	// KeepAlive in seconds, as it is in force; 0 is none.
	KeepAlive int
	// InFlight deliveries are not acknowledged, Queued ones wait for room in
	// the window, OutboxBytes wait for the socket.
	InFlight, Queued, OutboxBytes int
	// Subscriptions, shared ones included.
	Subscriptions int
	// Traced: its packets are logged.
	Traced bool
}

func (g *Gateway) live(c *conn) LiveClient {
	l := LiveClient{
		ID: c.client.ID, Username: c.client.Username, Principal: c.client.Principal, Listener: c.client.Listener,
		Version: c.client.Version, KeepAlive: int(c.keepAlive.Seconds() / 1.5),
		Since: g.started.Add(c.since), Traced: c.traced.Load(),
	}
	if c.client.Remote != nil {
		l.Remote = c.client.Remote.String()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	l.InFlight, l.Queued, l.OutboxBytes = c.out.InFlight(), c.out.Queued(), c.box.size()
	l.Subscriptions = len(c.subs) + len(c.shared)
	return l
}

// subscriptions returns up to max of a connection's.
func (c *conn) subscriptions(max int) []backend.Subscription {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []backend.Subscription
	for _, m := range []map[string]subscription{c.subs, c.shared} {
		for filter, s := range m {
			if len(list) == max {
				return list
			}
			list = append(list, backend.Subscription{Filter: filter, QoS: s.qos, NoLocal: s.noLocal, RetainAsPublished: s.rap, ID: s.id})
		}
	}
	return list
}

// liveSubscribers are the sessions without inbox that get a topic here; those
// with one, and members of shared groups, the store knows.
func (g *Gateway) liveSubscribers(topic string, most int) (found []backend.Subscriber, more bool) {
	seen := make(map[*conn]struct{})
	size := 0
	g.tree.Match(topic, func(c *conn, _ subscription) {
		if _, has := seen[c]; has || c.durable {
			return
		}
		if len(seen) == most || size > answerBytes {
			more = true
			return
		}
		seen[c] = struct{}{}
		size += len(c.client.ID)
	})
	for c := range seen {
		sub := backend.Subscriber{Client: c.client.ID, Node: g.opt.ID}
		c.mu.Lock()
		for filter, s := range c.subs {
			if size < 2*answerBytes && protocol.Match(filter, topic) {
				sub.Filters = append(sub.Filters, filter)
				sub.QoS = max(sub.QoS, s.qos)
				size += len(filter)
			}
		}
		c.mu.Unlock()
		found = append(found, sub)
	}
	return found, more
}
