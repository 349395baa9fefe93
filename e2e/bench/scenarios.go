package main

import (
	"slices"
	"strings"
)

// group says what a peer stands on, and so with whom it is compared.
type group string

const (
	// alone: one process that keeps everything in its own memory.
	alone group = "one process, in memory"
	// durable: sessions are kept where another process finds them.
	durable group = "durable sessions"
	// pair: two processes that are one broker; every message crosses.
	pair group = "two gateways"
)

// view says which figures of a scenario are worth a column.
type view int

const (
	rates view = iota
	latencies
	connections
	stored   // offline
	retained // like stored, with other names
)

// scenario is one way to use the load generator.
type scenario struct {
	name, title string
	groups      []group
	view        view
	args        string
	// without are peers that do not have what it takes.
	without []string
	// tls: the peer listens with TLS only. The generator has none, so the
	// bench's own command connect takes args.
	tls bool
}

// takes reports whether p takes part.
func (sc *scenario) takes(p *peer) bool {
	return slices.Contains(sc.groups, p.group) && !slices.Contains(sc.without, p.name)
}

// timed reports whether the generator measures for a time, rather than until
// something is done.
func (sc *scenario) timed() bool { return sc.view == rates || sc.view == latencies }

// generator is the name of the binary that takes args.
func (sc *scenario) generator() string {
	if sc.tls {
		return "bench"
	}
	return "mqttload"
}

func (sc *scenario) words() []string { return strings.Fields(sc.args) }

// The load is that of BASELINE: 64 bytes a message.
var scenarios = []*scenario{
	{name: "pairs0", title: "100 pairs, QoS 0", groups: []group{alone, pair},
		args: "pubsub --layout pairs --pubs 100 --qos 0 --window 100"},
	{name: "pairs0w1", title: "100 pairs, QoS 0, one message under way", groups: []group{alone},
		args: "pubsub --layout pairs --pubs 100 --qos 0 --window 1"},
	{name: "fanin0", title: "200 publishers to 1 subscriber, QoS 0", groups: []group{alone},
		args: "pubsub --layout fanin --pubs 200 --subs 1 --qos 0 --window 20"},
	{name: "fanout0", title: "1 publisher to 200 subscribers, QoS 0", groups: []group{alone},
		args: "pubsub --layout fanout --pubs 1 --subs 200 --qos 0 --window 100"},
	{name: "fanout10k", title: "1 publisher to 10,000 subscribers of one topic, QoS 0", groups: []group{alone}, without: []string{"nats"},
		args: "pubsub --layout fanout --pubs 1 --subs 10000 --qos 0 --window 4"},
	{name: "pairs1", title: "50 pairs, QoS 1", groups: []group{alone}, without: []string{"relay"},
		args: "pubsub --layout pairs --pubs 50 --qos 1 --window 20 --inflight 20"},
	{name: "pairs2", title: "20 pairs, QoS 2", groups: []group{alone}, without: []string{"relay"},
		args: "pubsub --layout pairs --pubs 20 --qos 2 --window 20 --inflight 20"},
	{name: "shared1", title: "50 publishers to a shared group of 10, QoS 1", groups: []group{alone}, without: []string{"relay", "nats"},
		args: "pubsub --layout shared --pubs 50 --subs 10 --qos 1 --window 20 --inflight 20"},
	{name: "lat0", title: "latency at 5,000 messages/s, QoS 0", groups: []group{alone, pair}, view: latencies,
		args: "latency --pubs 100 --rate 5000 --qos 0"},
	{name: "lat1", title: "latency at 5,000 messages/s, QoS 1", groups: []group{alone, pair}, view: latencies, without: []string{"relay"},
		args: "latency --pubs 100 --rate 5000 --qos 1"},
	{name: "pairs1d", title: "50 pairs, QoS 1, durable sessions", groups: []group{durable, pair},
		args: "pubsub --layout pairs --pubs 50 --qos 1 --window 20 --inflight 20 --clean=false --expiry 3600"},
	{name: "lat1d", title: "latency at 5,000 messages/s, QoS 1, durable sessions", groups: []group{durable, pair}, view: latencies,
		args: "latency --pubs 100 --rate 5000 --qos 1 --clean=false --expiry 3600"},
	{name: "offline1", title: "1,000 durable sessions, 100 messages each, kept and drained", groups: []group{durable, pair}, view: stored,
		args: "offline --sessions 1000 --messages 100 --qos 1 --concurrency 100"},
	{name: "conn10k", title: "10,000 idle connections", groups: []group{alone, durable}, view: connections,
		args: "connect --conns 10000 --concurrency 200 --hold 3s"},
	{name: "conn19k", title: "19,000 idle connections", groups: []group{alone}, view: connections,
		args: "connect --conns 19000 --concurrency 200 --hold 3s"},
	{name: "connws10k", title: "10,000 idle connections over WebSocket", groups: []group{alone}, view: connections, without: []string{"relay", "mosquitto", "mochi", "nats"},
		args: "connect --conns 10000 --concurrency 200 --hold 3s --ws /mqtt"},
	{name: "conntls3k", title: "3,000 idle connections over TLS", groups: []group{alone}, view: connections, tls: true, without: []string{"relay"},
		args: "connect --conns 3000 --concurrency 20 --hold 5s"},
	{name: "connwss3k", title: "3,000 idle connections over WebSocket over TLS", groups: []group{alone}, view: connections, tls: true, without: []string{"relay", "mosquitto", "mochi", "nats"},
		args: "connect --conns 3000 --concurrency 20 --hold 5s --ws /mqtt"},
	{name: "retained0", title: "100,000 retained messages to one new subscription, QoS 0", groups: []group{alone, durable}, view: retained, without: []string{"relay"},
		args: "retained --topics 100000 --subs 1 --qos 1 --sub-qos 0 --drain 10s"},
	{name: "retained1", title: "100,000 retained messages to one new subscription, QoS 1", groups: []group{alone, durable}, view: retained, without: []string{"relay"},
		args: "retained --topics 100000 --subs 1 --qos 1 --drain 10s"},
}
