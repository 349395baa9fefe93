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
	mu     sync.Mutex
	values map[string]*backend.Message
	loads  map[string]*load
	cpu    cpuMeter
	heap   uint64 // the most ever seen
}

// load is the moving average of a counter's growth a minute, over 1, 5 and 15
// minutes.
type load struct {
	last float64
	avg  [3]float64
}

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
	values := g.sysValues(elapsed)
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

// sysValues measures everything. The names are those that Mosquitto's users
// know, and those of amqtt.
func (g *Gateway) sysValues(elapsed time.Duration) map[string]string {
	s := g.Stats()
	v := make(map[string]string, 96)
	n := func(topic string, x uint64) { v["$SYS/broker/"+topic] = strconv.FormatUint(x, 10) }
	up := time.Since(s.Started)
	v["$SYS/broker/version"] = "sluice version " + g.opt.Version
	v["$SYS/broker/uptime"] = fmt.Sprintf("%d seconds", int64(up.Seconds()))
	v["$SYS/broker/uptime/formatted"] = up.Truncate(time.Second).String()
	v["$SYS/broker/timestamp"] = s.Started.UTC().Format(time.RFC3339)
	v["$SYS/broker/time"] = time.Now().UTC().Format(time.RFC3339)

	received, sent := sum(s.PacketsReceived[:]), sum(s.PacketsSent[:])
	pubIn, pubOut := sum(s.PublishReceived[:]), sum(s.PublishSent[:])
	dropped := uint64(0)
	for _, d := range s.Dropped {
		dropped += d
	}
	connected := uint64(max(s.Connections, 0))
	n("clients/connected", connected)
	n("clients/active", connected)
	away := uint64(max(s.AllSessions-s.Connections, 0))
	n("clients/disconnected", away)
	n("clients/inactive", away)
	n("clients/total", connected+away)
	n("clients/maximum", uint64(s.ConnectionsMax))
	n("messages/received", received)
	n("messages/sent", sent)
	n("messages/inflight", uint64(max(s.InFlight, 0)+max(s.InboundInFlight, 0)))
	n("messages/inflight/in", uint64(max(s.InboundInFlight, 0)))
	n("messages/inflight/out", uint64(max(s.InFlight, 0)))
	n("messages/inflight/stored", uint64(max(s.Queued, 0)))
	n("messages/stored", uint64(s.RetainedCount)+uint64(max(s.Queued, 0)))
	n("store/messages/count", uint64(s.RetainedCount)+uint64(max(s.Queued, 0)))
	n("store/messages/bytes", uint64(s.RetainedBytes))
	n("messages/publish/received", pubIn)
	n("messages/publish/sent", pubOut)
	n("messages/publish/dropped", dropped)
	n("publish/messages/received", pubIn)
	n("publish/messages/sent", pubOut)
	n("publish/messages/dropped", dropped)
	n("publish/bytes/received", s.PublishBytesReceived)
	n("publish/bytes/sent", s.PublishBytesSent)
	n("bytes/received", s.BytesReceived)
	n("bytes/sent", s.BytesSent)
	n("load/bytes/received", s.BytesReceived)
	n("load/bytes/sent", s.BytesSent)
	n("messages/retained/count", uint64(s.RetainedCount))
	n("retained messages/count", uint64(s.RetainedCount))
	n("messages/subscriptions/count", uint64(s.Subscriptions))
	n("subscriptions/count", uint64(s.Subscriptions))
	n("shared_subscriptions/count", uint64(s.SharedSubscriptions))

	heap := heapBytes()
	g.sys.mu.Lock()
	defer g.sys.mu.Unlock()
	g.sys.heap = max(g.sys.heap, heap)
	n("heap/current", heap)
	n("heap/size", heap)
	n("heap/maximum", g.sys.heap)
	percent, most := g.sys.cpu.measure(elapsed)
	v["$SYS/broker/cpu/percent"] = strconv.FormatFloat(percent, 'f', 1, 64)
	v["$SYS/broker/cpu/maximum"] = strconv.FormatFloat(most, 'f', 1, 64)
	for name, x := range map[string]uint64{
		"messages/received": received, "messages/sent": sent,
		"publish/received": pubIn, "publish/sent": pubOut, "publish/dropped": dropped,
		"bytes/received": s.BytesReceived, "bytes/sent": s.BytesSent,
		"sockets": uint64(s.ConnectionsTotal), "connections": s.Connects[protocol.Success],
	} {
		g.sys.loadOf(name, float64(x), elapsed, v)
	}
	return v
}

func sum(xs []uint64) (n uint64) {
	for _, x := range xs {
		n += x
	}
	return n
}

// loadOf moves the averages of one counter on. The lock is held.
func (t *sysTopics) loadOf(name string, now float64, elapsed time.Duration, v map[string]string) {
	if t.loads == nil {
		t.loads = make(map[string]*load)
	}
	l := t.loads[name]
	if l == nil {
		l = &load{last: now}
		t.loads[name] = l
	}
	if elapsed > 0 {
		rate := (now - l.last) / elapsed.Minutes()
		for i, over := range [3]float64{1, 5, 15} {
			keep := math.Exp(-elapsed.Minutes() / over)
			l.avg[i] = rate + (l.avg[i]-rate)*keep
		}
		l.last = now
	}
	for i, over := range [3]string{"1min", "5min", "15min"} {
		v["$SYS/broker/load/"+name+"/"+over] = strconv.FormatFloat(l.avg[i], 'f', 2, 64)
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
