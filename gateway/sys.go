package gateway

import (
	"context"
	"fmt"
	"math"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// isSys reports whether a topic or filter is about the server itself.
func isSys(topic string) bool { return topic == "$SYS" || strings.HasPrefix(topic, "$SYS/") }

// sysTopics are the values of the $SYS topics. Every gateway has its own; they
// are kept here, as if retained, and never in the store.
type sysTopics struct {
	mu     sync.Mutex // guards values
	values map[string]*backend.Message

	// The rest belongs to the goroutine that measures.
	counts map[backend.NodeID]map[string]uint64 // of all gateways, the last time
	loads  map[string]*load
	cpu    cpuMeter
	heap   uint64 // the most ever seen
}

// load is the moving average of a counter's growth a minute, over 1, 5 and 15
// minutes.
type load [3]float64

// publishSys publishes the $SYS topics until the context ends.
func (g *Gateway) publishSys(ctx context.Context) {
	if g.opt.Timing.Sys < 0 {
		return
	}
	last := time.Now()
	g.refreshSys(ctx, 0)
	for sleep(ctx, g.opt.Timing.Sys) {
		now := time.Now()
		g.refreshSys(ctx, now.Sub(last))
		last = now
	}
}

// refreshSys measures and delivers what has changed.
func (g *Gateway) refreshSys(ctx context.Context, elapsed time.Duration) {
	g.readStore(ctx)
	stats := g.Stats()
	counts := g.sysCluster(ctx, g.sysCounts(&stats))
	values := g.sysValues(&stats, counts, elapsed)
	g.sys.counts = counts
	b := newBatch(g, nil)
	defer b.free()
	g.sys.mu.Lock()
	if g.sys.values == nil {
		g.sys.values = make(map[string]*backend.Message, len(values))
	}
	for topic, v := range values {
		if old := g.sys.values[topic]; old != nil && string(old.Payload) == v {
			continue
		}
		m := &backend.Message{Topic: topic, Payload: []byte(v), Retain: true}
		g.sys.values[topic] = m
		b.pubs = append(b.pubs, pub{msg: *m, kept: m})
	}
	for topic := range g.sys.values {
		if _, still := values[topic]; !still { // of a gateway that has gone
			delete(g.sys.values, topic)
		}
	}
	g.sys.mu.Unlock()
	for i := range b.pubs {
		b.pubs[i].route = g.route(ctx, bytesOf(b.pubs[i].msg.Topic))
	}
	b.deliver(func(*pub) bool { return true })
	b.flush()
}

// replaySys delivers the $SYS values that a new subscription matches.
func (c *conn) replaySys(b *batch, t task) bool {
	g := c.g
	g.sys.mu.Lock()
	var found []*backend.Message
	for topic, m := range g.sys.values {
		if protocol.Match(t.sub.Filter, topic) {
			found = append(found, m)
		}
	}
	g.sys.mu.Unlock()
	slices.SortFunc(found, func(a, b *backend.Message) int { return strings.Compare(a.Topic, b.Topic) })
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	for _, m := range found {
		if e, ok := c.retainedEntry(m, &t.sub); ok {
			b.release(c, &e)
		}
	}
	if i := slices.Index(c.tasks, t); i >= 0 {
		c.tasks = slices.Delete(c.tasks, i, i+1)
	}
	return true
}

// sysCounts are this gateway's own figures, by the ends of the names of their
// topics. Those of several gateways can be added.
func (g *Gateway) sysCounts(s *Stats) map[string]uint64 {
	received, sent := sum(s.PacketsReceived[:]), sum(s.PacketsSent[:])
	pubIn, pubOut := sum(s.PublishReceived[:]), sum(s.PublishSent[:])
	dropped := uint64(0)
	for _, d := range s.Dropped {
		dropped += d
	}
	connected, queued := uint64(max(s.Connections, 0)), uint64(max(s.Queued, 0))
	in, out := uint64(max(s.InboundInFlight, 0)), uint64(max(s.InFlight, 0))
	return map[string]uint64{
		"clients/connected": connected, "clients/active": connected, "clients/maximum": uint64(s.ConnectionsMax),
		"messages/received": received, "messages/sent": sent,
		"messages/inflight": in + out, "messages/inflight/in": in, "messages/inflight/out": out, "messages/inflight/stored": queued,
		"messages/publish/received": pubIn, "messages/publish/sent": pubOut, "messages/publish/dropped": dropped,
		"publish/messages/received": pubIn, "publish/messages/sent": pubOut, "publish/messages/dropped": dropped,
		"publish/bytes/received": s.PublishBytesReceived, "publish/bytes/sent": s.PublishBytesSent,
		"bytes/received": s.BytesReceived, "bytes/sent": s.BytesSent,
		"load/bytes/received": s.BytesReceived, "load/bytes/sent": s.BytesSent,
		"messages/subscriptions/count": uint64(s.Subscriptions), "subscriptions/count": uint64(s.Subscriptions),
		"shared_subscriptions/count": uint64(s.SharedSubscriptions),
		"heap/current":               heapBytes(),
		sysSockets:                   uint64(s.ConnectionsTotal), sysConnects: s.Connects[protocol.Success],
		sysDurable: uint64(max(g.durable.Load(), 0)),
	}
}

// Counts that are no topics of their own.
const (
	sysSockets  = "!sockets"
	sysConnects = "!connects"
	sysDurable  = "!durable" // sessions with an inbox and subscriptions that are connected
)

// sysCluster asks the other gateways for their counts. One that does not answer
// keeps those that it had, until its lease has ended.
func (g *Gateway) sysCluster(ctx context.Context, own map[string]uint64) map[backend.NodeID]map[string]uint64 {
	all := map[backend.NodeID]map[string]uint64{g.opt.ID: own}
	if g.alone() {
		return all
	}
	nodes, err := g.nodes(ctx)
	if err != nil {
		return all
	}
	others := slices.DeleteFunc(nodes, func(n backend.NodeID) bool { return n == g.opt.ID })
	answers := g.ask(ctx, others, question{What: askSys})
	for _, n := range others {
		if a := answers[n]; a != nil && a.Sys != nil {
			all[n] = a.Sys
		} else if was := g.sys.counts[n]; was != nil {
			all[n] = was
		}
	}
	return all
}

// sysValues are the topics of one moment: $SYS/broker/… is the cluster, the rest
// is by gateway. The names are those that Mosquitto's users know, and those of
// amqtt.
func (g *Gateway) sysValues(s *Stats, counts map[backend.NodeID]map[string]uint64, elapsed time.Duration) map[string]string {
	v := make(map[string]string, 96+64*len(counts))
	total := make(map[string]uint64, 64)
	names := make([]string, 0, len(counts))
	for node, of := range counts {
		names = append(names, string(node))
		root := "$SYS/brokers/" + sysLevel(node) + "/"
		for name, x := range of {
			total[name] += x
			if name[0] != '!' {
				v[root+name] = strconv.FormatUint(x, 10)
			}
		}
	}
	slices.Sort(names)
	v["$SYS/brokers"] = strings.Join(names, ",")
	n := func(topic string, x uint64) { v["$SYS/broker/"+topic] = strconv.FormatUint(x, 10) }
	for name, x := range total {
		if name[0] != '!' {
			n(name, x)
		}
	}
	up := time.Since(s.Started)
	v["$SYS/broker/version"] = "sluice version " + g.opt.Version
	v["$SYS/broker/uptime"] = fmt.Sprintf("%d seconds", int64(up.Seconds()))
	v["$SYS/broker/uptime/formatted"] = up.Truncate(time.Second).String()
	v["$SYS/broker/timestamp"] = s.Started.UTC().Format(time.RFC3339)
	v["$SYS/broker/time"] = time.Now().UTC().Format(time.RFC3339)

	connected := total["clients/connected"]
	sessions := g.sessionCount(s, connected, total[sysDurable])
	away := sessions - min(sessions, connected)
	n("clients/disconnected", away)
	n("clients/inactive", away)
	n("clients/total", connected+away)
	stored := uint64(s.RetainedCount) + total["messages/inflight/stored"]
	n("messages/stored", stored)
	n("store/messages/count", stored)
	n("store/messages/bytes", uint64(s.RetainedBytes))
	n("messages/retained/count", uint64(s.RetainedCount))
	n("retained messages/count", uint64(s.RetainedCount))

	heap := total["heap/current"]
	g.sys.heap = max(g.sys.heap, heap)
	n("heap/size", heap)
	n("heap/maximum", g.sys.heap)
	percent, most := g.sys.cpu.measure(elapsed)
	v["$SYS/broker/cpu/percent"] = strconv.FormatFloat(percent, 'f', 1, 64)
	v["$SYS/broker/cpu/maximum"] = strconv.FormatFloat(most, 'f', 1, 64)
	for name, of := range map[string]string{
		"messages/received": "messages/received", "messages/sent": "messages/sent", "publish/received": "publish/messages/received",
		"publish/sent": "publish/messages/sent", "publish/dropped": "publish/messages/dropped",
		"bytes/received": "bytes/received", "bytes/sent": "bytes/sent", "sockets": sysSockets, "connections": sysConnects,
	} {
		g.sys.loadOf(name, growth(g.sys.counts, counts, of), elapsed, v)
	}
	return v
}

// sysLevel is a gateway's name as a level of a topic.
func sysLevel(node backend.NodeID) string {
	return strings.NewReplacer("/", "_", "+", "_", "#", "_").Replace(string(node))
}

// growth is by how much a count of all gateways has grown. One that was not there
// before has not grown.
func growth(before, now map[backend.NodeID]map[string]uint64, name string) (n float64) {
	for node, of := range now {
		if was, ok := before[node]; ok && of[name] > was[name] {
			n += float64(of[name] - was[name])
		}
	}
	return n
}

// sessionCount is how many sessions there are: what the store says, or else those
// that are connected and those with an inbox that the store has and no gateway.
// The second leaves out those without connection and without a subscription.
func (g *Gateway) sessionCount(s *Stats, connected, attached uint64) uint64 {
	all := uint64(max(s.AllSessions, 0))
	if d, ok := g.store.(interface{ DurableSessions() int64 }); ok {
		durable := uint64(max(d.DurableSessions(), 0))
		all = connected + durable - min(durable, attached)
		g.stats.allSessions.Store(int64(all))
	}
	return all
}

func sum(xs []uint64) (n uint64) {
	for _, x := range xs {
		n += x
	}
	return n
}

// loadOf moves the averages of one counter on, which has grown by so much.
func (t *sysTopics) loadOf(name string, grown float64, elapsed time.Duration, v map[string]string) {
	if t.loads == nil {
		t.loads = make(map[string]*load)
	}
	l := t.loads[name]
	if l == nil {
		l = new(load)
		t.loads[name] = l
	}
	for i, over := range [3]float64{1, 5, 15} {
		if elapsed > 0 {
			rate := grown / elapsed.Minutes()
			l[i] = rate + (l[i]-rate)*math.Exp(-elapsed.Minutes()/over)
		}
		v["$SYS/broker/load/"+name+"/"+[3]string{"1min", "5min", "15min"}[i]] = strconv.FormatFloat(l[i], 'f', 2, 64)
	}
}

// heapBytes is the memory in live and not yet collected objects.
func heapBytes() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// cpuMeter measures the process's use of processors, in percent of one.
type cpuMeter struct {
	last time.Duration
	most float64
}

func (m *cpuMeter) measure(elapsed time.Duration) (percent, most float64) {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0, m.most
	}
	used := time.Duration(r.Utime.Nano() + r.Stime.Nano())
	if elapsed > 0 {
		percent = 100 * float64(used-m.last) / float64(elapsed)
		m.most = max(m.most, percent)
	}
	m.last = used
	return percent, m.most
}
