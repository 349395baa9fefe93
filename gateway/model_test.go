package gateway

import (
	"fmt"
	"maps"
	"slices"

	"github.com/sluice-mqtt/sluice/protocol"
)

// model says what a gateway must answer. It knows one gateway, clients whose
// windows never fill, and nothing of time.
type model struct {
	clients  map[string]*modelClient
	retained map[string]modelMessage
}

type modelMessage struct {
	topic, payload string
	qos            byte
	retain         bool
}

// modelClient is a client identifier with its session and its connection.
type modelClient struct {
	id        string
	session   *modelSession // nil: there is none
	connected bool
	v         protocol.Version
	will      *modelMessage
	// want is what is due, by kind: between kinds there is no order.
	want map[string][]string
	// ended: the connection is to end, after what is due.
	ended bool
}

type modelSession struct {
	durable  bool // has an inbox
	outlives bool // its connection
	resumed  bool
	subs     map[string]byte
	next     uint16 // the last packet identifier in use
	inbox    []*modelDelivery
	received map[uint16]bool // QoS 2 publishes that are not released
}

type modelDelivery struct {
	modelMessage
	id             uint16
	sent, released bool
	seen           bool // by the client, so that it can answer
}

func newModel(ids ...string) *model {
	m := &model{clients: map[string]*modelClient{}, retained: map[string]modelMessage{}}
	for _, id := range ids {
		m.clients[id] = &modelClient{id: id, want: map[string][]string{}}
	}
	return m
}

func (c *modelClient) due(kind, format string, args ...any) {
	c.want[kind] = append(c.want[kind], fmt.Sprintf(format, args...))
}

// ackCode is a reason code as describe writes it, for a version that has them.
func (c *modelClient) ackCode(code protocol.ReasonCode) string {
	if c.v != protocol.V5 {
		return ""
	}
	return withCode("", code)
}

// connect is a CONNECT over a new connection. A connection that is there ends.
func (m *model) connect(c *modelClient, p *protocol.Connect) {
	if c.connected {
		m.end(c, protocol.SessionTakenOver, true)
	}
	lasts := p.SessionExpiry > 0
	if p.Version != protocol.V5 {
		lasts = !p.CleanStart
	}
	present := c.session != nil && !p.CleanStart
	if !present {
		c.session = &modelSession{durable: lasts, subs: map[string]byte{}, received: map[uint16]bool{}}
	}
	c.session.outlives, c.session.resumed = lasts, present
	c.connected, c.ended, c.v, c.will = true, false, p.Version, nil
	if w := p.Will; w != nil {
		c.will = &modelMessage{topic: w.Topic, payload: string(w.Payload), qos: w.QoS, retain: w.Retain}
	}
	c.want = map[string][]string{}
	if present {
		c.due("ack", "CONNACK present")
	} else {
		c.due("ack", "CONNACK")
	}
	for _, d := range c.session.inbox {
		m.send(c, d)
	}
}

// end ends the connection: by the server with a code, or, with Success, by the
// client.
func (m *model) end(c *modelClient, code protocol.ReasonCode, will bool) {
	if code != protocol.Success && c.v == protocol.V5 {
		c.due("end", "%s", withCode("DISCONNECT", code))
	}
	c.due("end", "closed")
	c.connected, c.ended = false, true
	if !c.session.outlives {
		c.session = nil
	}
	if will && c.will != nil {
		m.route(*c.will)
	}
}

// send is a delivery with QoS 1 or 2 to a connected client.
func (m *model) send(c *modelClient, d *modelDelivery) {
	if d.released {
		c.due(release(d.id), "PUBREL #%d", d.id)
		return
	}
	s := fmt.Sprintf("PUBLISH %s=%s q%d #%d", d.topic, d.payload, d.qos, d.id)
	if d.sent {
		s += " dup" // [MQTT-3.3.1-1]
	}
	if d.retain {
		s += " retained"
	}
	d.sent = true
	c.due("acked", "%s", s)
}

// deliver gives a message to a session with an effective QoS.
func (m *model) deliver(c *modelClient, msg modelMessage, qos byte) {
	msg.qos = qos
	switch {
	case qos > 0 && (c.connected || c.session.durable):
		c.session.next++
		d := &modelDelivery{modelMessage: msg, id: c.session.next}
		c.session.inbox = append(c.session.inbox, d)
		if c.connected {
			m.send(c, d)
		}
	case qos == 0 && c.connected:
		s := fmt.Sprintf("PUBLISH %s=%s", msg.topic, msg.payload)
		if msg.retain {
			s += " retained"
		}
		c.due(atMostOnce(msg.payload), "%s", s)
	}
}

// atMostOnce is the kind of a delivery with QoS 0. Order is kept among those
// that were published with the same QoS [MQTT-4.6.0-5]. The fuzzer's payloads
// end with that; of those that are empty the order is not known.
func atMostOnce(payload string) string {
	return "at most once, " + payload[max(0, len(payload)-1):]
}

// granted is the highest QoS of the subscriptions that match [MQTT-3.3.4-2].
func (s *modelSession) granted(topic string) (qos byte, ok bool) {
	for filter, q := range s.subs {
		if protocol.Match(filter, topic) {
			qos, ok = max(qos, q), true
		}
	}
	return qos, ok
}

// route gives a message to everybody who is to get it and reports whether
// there is anybody.
func (m *model) route(msg modelMessage) (matched bool) {
	if msg.retain {
		if msg.payload == "" {
			delete(m.retained, msg.topic) // [MQTT-3.3.1-6]
		} else {
			m.retained[msg.topic] = msg
		}
		msg.retain = false // [MQTT-3.3.1-12]
	}
	for _, id := range slices.Sorted(maps.Keys(m.clients)) {
		c := m.clients[id]
		if c.session == nil {
			continue
		}
		if qos, ok := c.session.granted(msg.topic); ok {
			matched = true
			m.deliver(c, msg, min(qos, msg.qos))
		}
	}
	return matched
}

// publish is a PUBLISH from a client.
func (m *model) publish(c *modelClient, p *protocol.Publish) {
	received := c.session.received
	if p.QoS == 1 && received[p.PacketID] { // the identifier is in use
		if c.v != protocol.V5 {
			m.end(c, protocol.ProtocolError, true)
			return
		}
		c.due("ack", "PUBACK #%d 0x91", p.PacketID)
		return
	}
	if p.QoS == 2 && received[p.PacketID] { // [MQTT-4.3.3-10]
		c.due("ack", "PUBREC #%d", p.PacketID)
		return
	}
	code := protocol.NoMatchingSubscribers
	if m.route(modelMessage{topic: string(p.Topic), payload: string(p.Payload), qos: p.QoS, retain: p.Retain}) {
		code = protocol.Success
	}
	switch p.QoS {
	case 1:
		c.due("ack", "PUBACK #%d%s", p.PacketID, c.ackCode(code))
	case 2:
		received[p.PacketID] = true
		c.due("ack", "PUBREC #%d%s", p.PacketID, c.ackCode(code))
	}
}

func (m *model) pubrel(c *modelClient, id uint16) {
	code := protocol.Success
	if !c.session.received[id] && !c.session.resumed {
		code = protocol.PacketIdentifierNotFound
	}
	delete(c.session.received, id)
	c.due("ack", "PUBCOMP #%d%s", id, c.ackCode(code))
}

func (m *model) subscribe(c *modelClient, id uint16, filter string, qos byte) {
	c.session.subs[filter] = qos
	c.due("ack", "SUBACK #%d 0x%02X", id, qos)
	for _, topic := range slices.Sorted(maps.Keys(m.retained)) {
		if msg := m.retained[topic]; protocol.Match(filter, topic) {
			m.deliver(c, msg, min(qos, msg.qos))
		}
	}
}

func (m *model) unsubscribe(c *modelClient, id uint16, filter string) {
	_, had := c.session.subs[filter]
	delete(c.session.subs, filter)
	switch {
	case c.v != protocol.V5:
		c.due("ack", "UNSUBACK #%d", id)
	case had:
		c.due("ack", "UNSUBACK #%d 0x00", id)
	default:
		c.due("ack", "UNSUBACK #%d 0x11", id)
	}
}

// answer is an acknowledgement of the client for a packet identifier.
func (m *model) answer(c *modelClient, kind protocol.Type, id uint16) {
	i := slices.IndexFunc(c.session.inbox, func(d *modelDelivery) bool { return d.id == id })
	if i < 0 { // unknown ones are ignored, but PUBREC wants an answer
		if kind == protocol.PUBREC {
			c.due(release(id), "PUBREL #%d%s", id, c.ackCode(protocol.PacketIdentifierNotFound))
		}
		return
	}
	d := c.session.inbox[i]
	fits := map[protocol.Type]bool{protocol.PUBACK: d.qos == 1, protocol.PUBREC: d.qos == 2, protocol.PUBCOMP: d.released}
	switch {
	case !fits[kind]:
		m.end(c, protocol.ProtocolError, true)
	case kind == protocol.PUBREC:
		d.released = true
		c.due(release(id), "PUBREL #%d", id)
	default:
		c.session.inbox = slices.Delete(c.session.inbox, i, i+1)
	}
}

// unknownID is a packet identifier that no delivery has.
const unknownID = 60000

// release is the kind of a PUBREL. One that answers a PUBREC for nothing need
// not wait for the store as the others do.
func release(id uint16) string {
	if id == unknownID {
		return "release of nothing"
	}
	return "release"
}
