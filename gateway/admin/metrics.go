package admin

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/protocol"
)

// registry returns a registry of its own, so that an embedding program's
// default registry stays as it is.
func registry(g Gateway, version string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "sluice_build_info",
			Help:        "1; the labels tell what is running.",
			ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
		}, func() float64 { return 1 }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sluice_ready",
			Help: "1 while the gateway is ready for clients, as /readyz says, else 0.",
		}, func() float64 {
			if g.Ready() != nil {
				return 0
			}
			return 1
		}),
		collector{g},
		drivers{g},
	)
	return r
}

// collector reads the gateway's figures once a scrape. No figure is kept for
// it, so that counting costs the gateway nothing beyond its own counters.
type collector struct{ gateway Gateway }

// Describe sends the fixed list of figures.
func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, f := range figures {
		to <- f.desc
	}
}

// Collect sends the values of one moment.
func (c collector) Collect(to chan<- prometheus.Metric) {
	s := c.gateway.Stats()
	for _, f := range figures {
		if f.histogram != nil {
			h := f.histogram(&s)
			to <- prometheus.MustNewConstHistogram(f.desc, h.Count, h.Sum, h.Buckets)
			continue
		}
		f.read(&s, func(value float64, labels ...string) {
			to <- prometheus.MustNewConstMetric(f.desc, f.kind, value, labels...)
		})
	}
}

// emit takes one value with the values of its labels.
type emit func(value float64, labels ...string)

// figure is one metric family.
type figure struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(s *gateway.Stats, out emit)
	// histogram is there instead of kind and read.
	histogram func(s *gateway.Stats) gateway.Histogram
}

func latency(name, help string, read func(s *gateway.Stats) gateway.Histogram) figure {
	return figure{desc: prometheus.NewDesc("sluice_"+name, help, nil, nil), histogram: read}
}

func gauge(name, help string, read func(s *gateway.Stats) int64) figure {
	return family(name, help, prometheus.GaugeValue, nil,
		func(s *gateway.Stats, out emit) { out(float64(read(s))) })
}

func counter(name, help string, read func(s *gateway.Stats) uint64) figure {
	return family(name, help, prometheus.CounterValue, nil,
		func(s *gateway.Stats, out emit) { out(float64(read(s))) })
}

func counters(name, help string, labels []string, read func(s *gateway.Stats, out emit)) figure {
	return family(name, help, prometheus.CounterValue, labels, read)
}

func family(name, help string, kind prometheus.ValueType, labels []string, read func(s *gateway.Stats, out emit)) figure {
	return figure{desc: prometheus.NewDesc("sluice_"+name, help, labels, nil), kind: kind, read: read}
}

// byCode emits a counter by reason code. The code is a label beside its name,
// so that two codes without a name stay two.
func byCode(m map[protocol.ReasonCode]uint64, out emit) {
	for code, n := range m {
		out(float64(n), fmt.Sprintf("0x%02X", byte(code)), code.String())
	}
}

func byType(counts *[16]uint64, out emit) {
	for t := protocol.CONNECT; t <= protocol.AUTH; t++ {
		out(float64(counts[t]), strings.ToLower(t.String()))
	}
}

func byQoS(counts *[3]uint64, out emit) {
	for qos, n := range counts {
		out(float64(n), strconv.Itoa(qos))
	}
}

var (
	codeLabels = []string{"code", "reason"}
	typeLabels = []string{"type"}
	qosLabels  = []string{"qos"}
)

// figures are all of [gateway.Stats].
var figures = []figure{
	gauge("connections", "Connections that are open.",
		func(s *gateway.Stats) int64 { return s.Connections }),
	counter("connections_opened_total", "Connections accepted since the start.",
		func(s *gateway.Stats) uint64 { return uint64(s.ConnectionsTotal) }),
	gauge("connections_peak", "Most connections open at one time since the start.",
		func(s *gateway.Stats) int64 { return s.ConnectionsMax }),
	gauge("sessions_attached", "Durable sessions whose client is connected here.",
		func(s *gateway.Stats) int64 { return s.Sessions }),
	gauge("sessions_all", "Sessions of the whole cluster, connected or not; with Redis without those that are neither connected nor subscribed. 0 with MQTT_SYS_INTERVAL=0s.",
		func(s *gateway.Stats) int64 { return s.AllSessions }),
	gauge("inbound_in_flight", "QoS 2 publishes of clients that are not released yet.",
		func(s *gateway.Stats) int64 { return s.InboundInFlight }),
	gauge("subscriptions", "Subscriptions of the clients connected here, shared ones excepted.",
		func(s *gateway.Stats) int64 { return s.Subscriptions }),
	gauge("shared_subscriptions", "Shared subscriptions of the clients connected here.",
		func(s *gateway.Stats) int64 { return s.SharedSubscriptions }),
	gauge("filters", "Different topic filters of the subscriptions, shared ones excepted.",
		func(s *gateway.Stats) int64 { return s.Filters }),
	counters("connects_total", "CONNECTs by the reason code of the answer; 0x80 includes those closed without one.", codeLabels,
		func(s *gateway.Stats, out emit) { byCode(s.Connects, out) }),
	counters("disconnects_total", "Ends of connections by reason code; 0x80 includes those that just broke.", codeLabels,
		func(s *gateway.Stats, out emit) { byCode(s.Disconnects, out) }),
	counter("takeovers_total", "Connections ended because their client connected again.",
		func(s *gateway.Stats) uint64 { return s.Takeovers }),
	counter("sessions_fenced_total", "Sessions found to belong to another gateway by now.",
		func(s *gateway.Stats) uint64 { return s.Fenced }),

	counters("packets_received_total", "Control packets from clients by type.", typeLabels,
		func(s *gateway.Stats, out emit) { byType(&s.PacketsReceived, out) }),
	counters("packets_sent_total", "Control packets to clients by type.", typeLabels,
		func(s *gateway.Stats, out emit) { byType(&s.PacketsSent, out) }),
	counter("received_bytes_total", "Bytes of control packets from clients.",
		func(s *gateway.Stats) uint64 { return s.BytesReceived }),
	counter("sent_bytes_total", "Bytes of control packets to clients.",
		func(s *gateway.Stats) uint64 { return s.BytesSent }),
	counters("publishes_received_total", "PUBLISH packets from clients by QoS.", qosLabels,
		func(s *gateway.Stats, out emit) { byQoS(&s.PublishReceived, out) }),
	counters("publishes_sent_total", "PUBLISH packets to clients by QoS.", qosLabels,
		func(s *gateway.Stats, out emit) { byQoS(&s.PublishSent, out) }),
	counter("payload_received_bytes_total", "Payload bytes of PUBLISH packets from clients.",
		func(s *gateway.Stats) uint64 { return s.PublishBytesReceived }),
	counter("payload_sent_bytes_total", "Payload bytes of PUBLISH packets to clients.",
		func(s *gateway.Stats) uint64 { return s.PublishBytesSent }),
	counters("messages_dropped_total", "Deliveries that were given up, by reason.", []string{"reason"},
		func(s *gateway.Stats, out emit) {
			for why, n := range s.Dropped {
				out(float64(n), why.String())
			}
		}),
	counters("refused_total", "Connections and requests of clients that were refused because of a limit, by limit.", []string{"reason"},
		func(s *gateway.Stats, out emit) {
			for why, n := range s.Refused {
				out(float64(n), why.String())
			}
		}),
	gauge("messages_inflight", "QoS 1 and 2 deliveries under way to clients.",
		func(s *gateway.Stats) int64 { return s.InFlight }),
	gauge("messages_queued", "Messages of sessions without an inbox that wait for their client.",
		func(s *gateway.Stats) int64 { return s.Queued }),
	gauge("inbox_messages", "Messages in the inboxes of the clients connected here, counted every few seconds.",
		func(s *gateway.Stats) int64 { return s.InboxDepth }),
	gauge("inbox_messages_max", "Most messages in the inbox of one client connected here.",
		func(s *gateway.Stats) int64 { return s.InboxDepthMax }),
	latency("publish_ack_duration_seconds", "From a QoS 1 or 2 publish being read to its PUBACK or PUBREC.",
		func(s *gateway.Stats) gateway.Histogram { return s.AckLatency }),
	counter("wills_published_total", "Wills published here.",
		func(s *gateway.Stats) uint64 { return s.Wills }),

	counter("store_errors_total", "Calls of the store that failed.",
		func(s *gateway.Stats) uint64 { return s.StoreErrors }),
	counter("store_retries_total", "Calls made again because the store had not answered.",
		func(s *gateway.Stats) uint64 { return s.StoreRetries }),
	counter("bus_gaps_total", "Times that the bus may have lost messages for this gateway.",
		func(s *gateway.Stats) uint64 { return s.Gaps }),
	counter("leases_lost_total", "Times that this gateway's lease in the store ran out.",
		func(s *gateway.Stats) uint64 { return s.LeaseLost }),
	counter("panics_total", "Faults of this program that ended one connection.",
		func(s *gateway.Stats) uint64 { return s.Panics }),
	gauge("retained_messages", "Retained messages in the store.",
		func(s *gateway.Stats) int64 { return s.RetainedCount }),
	gauge("retained_bytes", "Size of the retained messages in the store.",
		func(s *gateway.Stats) int64 { return s.RetainedBytes }),
}
