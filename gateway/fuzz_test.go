package gateway

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/sluice-mqtt/sluice/protocol"
)

// FuzzConnection plays two clients that share topics against a gateway and a
// model of it. Every three bytes of the input are one step: who does what to
// what. Steps of one client go out in one write as long as nothing has to be
// awaited. The gateway must say exactly what the model says, neither more nor
// less, and whatever comes, it must not panic and not hang.
func FuzzConnection(f *testing.F) {
	for _, seed := range fuzzSeeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		input = input[:min(len(input), 3*fuzzSteps)]
		synctest.Test(t, func(t *testing.T) {
			newFuzzer(t).play(input)
		})
	})
}

// fuzzSteps keeps the windows of the clients from filling.
const fuzzSteps = 150

// The seeds are sequences of which each has some trap in it.
var fuzzSeeds = [][]byte{
	// Everything once.
	steps("connect 0 0", "subscribe 0 2", "publish 0 0", "publish 0 4", "publish 0 8", "settle 0 0", "ack 0 0", "ack 0 1", "settle 0 0",
		"ack 0 0", "pubrel 0 0", "pubrel 0 0", "unknown 0 1", "unsubscribe 0 0", "unsubscribe 0 0", "goodbye 0 0"),
	// A durable session is resumed with deliveries in every state, also by a
	// client of another version.
	steps("connect 0 3", "connect 1 0", "subscribe 0 10", "publish 1 4", "publish 1 8", "publish 1 25", "settle 0 0",
		"ack 0 1", "settle 0 0", "cut 0 0", "publish 1 5", "connect 0 6", "ack 0 0", "ack 0 0", "connect 0 3"),
	// A takeover publishes the will, to the own inbox among others.
	steps("connect 0 27", "connect 1 8", "subscribe 0 10", "subscribe 1 18", "connect 0 27", "cut 1 0", "connect 1 0"),
	// The same QoS 2 message again, over a new connection, and its release twice.
	steps("connect 0 3", "publish 0 8", "publish 0 136", "cut 0 0", "connect 0 3", "publish 0 136", "publish 0 4", "pubrel 0 0", "pubrel 0 0", "publish 0 8"),
	// Retained: set, replaced, removed, replayed into an inbox.
	steps("connect 0 3", "retain 0 8", "retain 0 5", "subscribe 0 2", "subscribe 0 9", "cut 0 0", "connect 0 3", "retain 0 64", "subscribe 0 3"),
	// A durable session ends with a connection that wants none.
	steps("connect 0 3", "subscribe 0 2", "cut 0 0", "connect 1 0", "publish 1 4", "connect 0 2", "cut 0 0", "connect 0 3"),
	// What ends a connection, with deliveries under way.
	steps("connect 0 43", "subscribe 0 2", "publish 0 8", "settle 0 0", "wrong 0 0", "connect 0 7", "publish 0 8", "publish 0 4", "connect 0 11", "illegal 0 4"),
}

var stepNames = []string{
	"connect", "subscribe", "unsubscribe", "publish", "retain", "pubrel", "ack",
	"wrong", "unknown", "illegal", "cut", "goodbye", "settle",
}

// steps writes steps as input: the name, the client and the argument of each.
func steps(lines ...string) (input []byte) {
	for _, line := range lines {
		var name string
		var who, arg byte
		fmt.Sscan(line, &name, &who, &arg)
		input = append(input, byte(slices.Index(stepNames, name)), who, arg)
	}
	return input
}

type fuzzer struct {
	t       *testing.T
	g       *Gateway
	model   *model
	conns   map[string]*client
	writer  string // whose steps are in out
	out     []byte
	history []string
	serial  int
	// takeovers of each client, which are made to wait from the tenth on; the
	// model knows nothing of that.
	takeovers map[*modelClient]int
}

func newFuzzer(t *testing.T) *fuzzer {
	return &fuzzer{t: t, g: newGateway(t), model: newModel("x", "y"), conns: map[string]*client{}, takeovers: map[*modelClient]int{}}
}

func (f *fuzzer) play(input []byte) {
	for ; len(input) >= 3; input = input[3:] {
		name := stepNames[int(input[0])%len(stepNames)]
		c := f.model.clients[[]string{"x", "y"}[input[1]%2]]
		if name == "connect" && c.connected {
			if f.takeovers[c]++; f.takeovers[c] >= fightAfter {
				continue
			}
		}
		f.history = append(f.history, fmt.Sprintf("%s %d %d", name, input[1]%2, input[2]))
		f.step(name, c, input[2])
	}
	f.settle()
	if n := f.g.Stats().Panics; n > 0 {
		f.fail("%d panics", n)
	}
}

func (f *fuzzer) fail(format string, args ...any) {
	f.t.Helper()
	f.t.Fatalf("%s\nafter %q", fmt.Sprintf(format, args...), f.history)
}

// queue adds a packet of c to those that go out together.
func (f *fuzzer) queue(c *modelClient, p protocol.Packet) {
	if f.writer != c.id {
		f.settle()
		f.writer = c.id
	}
	var err error
	if f.out, err = protocol.AppendPacket(f.out, p, c.v); err != nil {
		f.fail("%v", err)
	}
}

// settle writes what has been collected, waits until the gateway is at rest,
// and compares.
func (f *fuzzer) settle() {
	f.t.Helper()
	if len(f.out) > 0 {
		f.conns[f.writer].write(f.out)
		f.out = nil
	}
	synctest.Wait()
	for _, id := range slices.Sorted(maps.Keys(f.conns)) {
		c := f.model.clients[id]
		f.compare(c)
		if c.session != nil {
			for _, d := range c.session.inbox {
				d.seen = c.connected
			}
		}
	}
}

// compare checks what has come for a client against what was due.
func (f *fuzzer) compare(c *modelClient) {
	f.t.Helper()
	got := map[string][]string{}
	for more := true; more; {
		select {
		case p := <-f.conns[c.id].packets:
			kind := kindOf(p)
			got[kind] = append(got[kind], describe(p))
			more = p != nil
		default:
			more = false
		}
	}
	for _, words := range []map[string][]string{got, c.want} {
		slices.Sort(words[atMostOnce("")])
	}
	if !maps.EqualFunc(got, c.want, slices.Equal) {
		f.fail("client %s:\n got %q\nwant %q", c.id, got, c.want)
	}
	c.want = map[string][]string{}
	if c.ended {
		delete(f.conns, c.id)
	}
}

func kindOf(p protocol.Packet) string {
	switch p := p.(type) {
	case nil, *protocol.Disconnect:
		return "end"
	case *protocol.Publish:
		if p.QoS == 0 {
			return atMostOnce(string(p.Payload))
		}
		return "acked"
	case *protocol.Ack:
		if p.Kind == protocol.PUBREL {
			return release(p.PacketID)
		}
	}
	return "ack"
}

var (
	fuzzTopics  = []string{"t/0", "t/1", "u"}
	fuzzFilters = []string{"t/0", "t/1", "t/#", "+/0", "#"}
)

// step does one thing, or nothing if it makes no sense now. Before what may end
// a connection it settles: how much of what came in the same write is still
// carried out is the gateway's own affair.
func (f *fuzzer) step(name string, c *modelClient, arg byte) {
	f.t.Helper()
	if name == "connect" {
		f.connect(c, arg)
		return
	}
	if !c.connected {
		return
	}
	m := f.model
	id := uint16(arg>>4&3) + 1
	switch name {
	case "subscribe":
		filter, qos := fuzzFilters[arg>>2%5], arg&3%3
		f.queue(c, subscribePacket(id, qos, filter))
		m.subscribe(c, id, filter, qos)
	case "unsubscribe":
		filter := fuzzFilters[arg>>2%5]
		f.queue(c, &protocol.Unsubscribe{PacketID: id, Filters: []string{filter}})
		m.unsubscribe(c, id, filter)
	case "publish", "retain":
		f.publish(c, arg, name == "retain")
	case "pubrel":
		f.queue(c, ack(protocol.PUBREL, id))
		m.pubrel(c, id)
	case "ack", "wrong":
		f.answer(c, arg, name == "wrong")
	case "unknown":
		kind := []protocol.Type{protocol.PUBACK, protocol.PUBREC, protocol.PUBCOMP}[arg%3]
		f.queue(c, ack(kind, unknownID))
		m.answer(c, kind, unknownID)
	case "illegal":
		f.settle()
		i := illegal[int(arg)%len(illegal)]
		b, code := i.five, i.code
		if c.v != protocol.V5 {
			b = i.three
		}
		if b == "" {
			return
		}
		f.out, f.writer = []byte(b), c.id
		m.end(c, code, true)
		f.settle()
	case "cut":
		f.settle()
		f.conns[c.id].nc.Close()
		m.end(c, protocol.Success, true)
		f.settle()
	case "goodbye":
		f.settle()
		f.queue(c, &protocol.Disconnect{})
		m.end(c, protocol.Success, false)
		f.settle()
	case "settle":
		f.settle()
	}
}

// connect opens a new connection. What the arg's bits say: 1 the session lasts,
// 2 an old one is resumed, 4 MQTT 3.1.1, 8 a will with the QoS in the next two.
func (f *fuzzer) connect(c *modelClient, arg byte) {
	f.t.Helper()
	f.settle()
	p := connectPacket(c.id)
	p.CleanStart = arg&2 == 0
	if arg&1 != 0 {
		p.SessionExpiry, p.HasSessionExpiry = 1000, true
	}
	if arg&4 != 0 {
		p.Version, p.SessionExpiry, p.HasSessionExpiry = protocol.V311, 0, false
	}
	if arg&8 != 0 {
		f.serial++
		p.Will = &protocol.Will{Topic: "t/0", QoS: arg >> 4 & 3 % 3, Retain: arg&64 != 0}
		p.Will.Payload = fmt.Appendf(nil, "will %d, published with %d", f.serial, p.Will.QoS)
	}
	fresh := dial(f.t, f.g, p)
	if c.connected { // [MQTT-3.1.4-3]
		f.model.end(c, protocol.SessionTakenOver, true)
		f.settle()
	}
	f.conns[c.id] = fresh
	f.model.connect(c, p)
	f.settle()
}

// publish publishes. What the arg's bits say: two for the topic, two for the
// QoS, two for the identifier, 64 an empty payload, 128 DUP.
func (f *fuzzer) publish(c *modelClient, arg byte, retain bool) {
	f.t.Helper()
	f.serial++
	p := publish(fuzzTopics[arg&3%3], "", arg>>2&3%3, uint16(arg>>4&3)+1)
	p.Payload = fmt.Appendf(nil, "%d, published with %d", f.serial, p.QoS)
	p.Retain = retain
	if arg&64 != 0 {
		p.Payload = nil
	}
	if p.QoS == 0 {
		p.PacketID = 0
	} else {
		p.Dup = arg&128 != 0
	}
	if p.QoS == 1 && c.session.received[p.PacketID] {
		f.settle()
		defer f.settle()
	}
	f.queue(c, p)
	f.model.publish(c, p)
}

// answer acknowledges a delivery that the client has seen, in the right way or
// in a wrong one.
func (f *fuzzer) answer(c *modelClient, arg byte, wrong bool) {
	f.t.Helper()
	var seen []*modelDelivery
	for _, d := range c.session.inbox {
		if d.seen {
			seen = append(seen, d)
		}
	}
	if len(seen) == 0 {
		return
	}
	d := seen[int(arg)%len(seen)]
	kind := protocol.PUBACK
	if (d.qos == 2) != wrong {
		kind = protocol.PUBREC
		if d.released && !wrong {
			kind = protocol.PUBCOMP
		}
	}
	if wrong {
		f.settle()
		defer f.settle()
	}
	d.seen = false
	f.queue(c, ack(kind, d.id))
	f.model.answer(c, kind, d.id)
}

// illegal are packets that end the connection whatever came before, with the
// code for MQTT 5. An empty one does not exist in that version.
var illegal = []struct {
	what        string
	five, three string
	code        protocol.ReasonCode
}{
	{"type 0", "\x00\x00", "\x00\x00", protocol.MalformedPacket},
	{"a length of five bytes", "\x30\xFF\xFF\xFF\xFF\x7F", "\x30\xFF\xFF\xFF\xFF\x7F", protocol.MalformedPacket},
	{"above the maximum packet size", "\x30\xFF\xFF\xFF\x7F", "\x30\xFF\xFF\xFF\x7F", protocol.PacketTooLarge},
	{"QoS 3", "\x36\x06\x00\x01a\x00\x01\x00", "\x36\x05\x00\x01a\x00\x01", protocol.MalformedPacket},                                  // [MQTT-3.3.1-4]
	{"DUP with QoS 0", "\x38\x04\x00\x01a\x00", "\x38\x03\x00\x01a", protocol.ProtocolError},                                           // [MQTT-3.3.1-2]
	{"wildcard in a topic name", "\x30\x04\x00\x01#\x00", "\x30\x03\x00\x01#", protocol.TopicNameInvalid},                              // [MQTT-3.3.2-2]
	{"topic that is no UTF-8", "\x30\x04\x00\x01\xFF\x00", "\x30\x03\x00\x01\xFF", protocol.MalformedPacket},                           // [MQTT-1.5.4-1]
	{"topic alias 0", "\x30\x07\x00\x01a\x03\x23\x00\x00", "", protocol.TopicAliasInvalid},                                             // [MQTT-3.3.2-8]
	{"topic alias above the maximum", "\x30\x07\x00\x01a\x03\x23\x00\x21", "", protocol.TopicAliasInvalid},                             // [MQTT-3.3.2-9]
	{"topic alias that is not known", "\x30\x06\x00\x00\x03\x23\x00\x20", "", protocol.ProtocolError},                                  // MQTT 5 §3.3.2.3.4
	{"subscription identifier from a client", "\x30\x06\x00\x01a\x02\x0B\x01", "", protocol.ProtocolError},                             // [MQTT-3.3.4-6]
	{"SUBSCRIBE without filters", "\x82\x03\x00\x01\x00", "\x82\x02\x00\x01", protocol.ProtocolError},                                  // [MQTT-3.8.3-2]
	{"SUBSCRIBE with the wrong flags", "\x80\x07\x00\x01\x00\x00\x01a\x00", "\x80\x06\x00\x01\x00\x01a\x00", protocol.MalformedPacket}, // [MQTT-3.8.1-1]
	{"UNSUBSCRIBE without filters", "\xA2\x03\x00\x01\x00", "\xA2\x02\x00\x01", protocol.ProtocolError},                                // [MQTT-3.10.3-2]
	{"PINGREQ with a body", "\xC0\x01\x00", "\xC0\x01\x00", protocol.MalformedPacket},
	{"CONNACK", "\x20\x03\x00\x00\x00", "\x20\x02\x00\x00", protocol.ProtocolError},
	{"a second CONNECT", "\x10\x0E\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01x", "\x10\x0D\x00\x04MQTT\x04\x02\x00\x00\x00\x01x", protocol.ProtocolError}, // [MQTT-3.1.0-2]
	{"AUTH without a method in CONNECT", "\xF0\x00", "\xF0\x00", protocol.ProtocolError},                                                               // [MQTT-4.12.0-6]
	{"a reason code that PUBACK does not have", "\x40\x03\x00\x01\x81", "", protocol.ProtocolError},
	{"a DISCONNECT that only servers send", "\xE0\x01\x8B", "", protocol.ProtocolError},
}
