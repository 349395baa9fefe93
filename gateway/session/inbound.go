package session

import (
	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// Rules are what the server announced to a client in CONNACK, or would have.
type Rules struct {
	Version           protocol.Version
	MaximumQoS        byte
	RetainAvailable   bool
	ReceiveMaximum    uint16
	TopicAliasMaximum uint16
}

// Do is what is to be done with a packet.
type Do uint8

const (
	// Take: a new message. It is stored and routed, then acknowledged.
	Take Do = iota
	// Repeat: a QoS 2 message that was taken before and not released. It is
	// acknowledged again, and nothing else [MQTT-4.3.3-10].
	Repeat
	// Again: the same, but it was taken over an earlier connection, which may
	// have ended before it was routed. It is in every inbox that it belongs
	// to; live sessions that have not had it get it now.
	Again
	// Forget: the packet identifier is stored as free, then PUBCOMP leaves.
	Forget
	// Release: the entry is stored as released, then PUBREL leaves.
	Release
	// Answer: the packet is answered with the code, nothing is stored.
	Answer
	// Ignore: nothing is sent and nothing stored.
	Ignore
)

// Inbound are the rules for what a client publishes.
type Inbound struct {
	rules   Rules
	durable bool
	resumed bool

	client      backend.ClientID
	incarnation uint64

	// aliases holds the topic of each alias, from 1; nil is unknown. It lasts
	// as long as the connection [MQTT-3.3.2-7].
	aliases [][]byte
	// received are the QoS 2 packet identifiers taken and not yet released.
	received idSet
	earlier  *earlier // nil if there was nothing
	// unacked counts QoS 1 publishes taken and not yet acknowledged.
	unacked int
	// generations counts the releases of each packet identifier of a durable
	// session; the store does the same. Ephemeral sessions, which nobody
	// resumes, only need identities that differ: they use serial.
	generations *generations
	serial      uint32
}

// earlier are the packet identifiers in received that an earlier connection
// took.
type earlier struct {
	// held do not count for the receive maximum of this connection (MQTT 5
	// §4.9).
	held idSet
	// unrouted have not been repeated on this connection.
	unrouted idSet
}

// NewInbound returns the inbound half of a session that was opened.
func NewInbound(r Rules, o *backend.Opened) Inbound {
	s := Inbound{
		rules:       r,
		durable:     o.Durable,
		resumed:     o.Present,
		client:      o.Lease.Client,
		incarnation: o.Incarnation,
	}
	if !o.Durable {
		// Unlike a durable session, an ephemeral one may be followed by
		// another of the same incarnation number in stores that count them
		// by client; the epoch never repeats.
		s.incarnation = o.Lease.Epoch
		return s
	}
	if len(o.Received) > 0 {
		s.earlier = new(earlier)
	}
	for id := range o.Received {
		s.received.add(id)
		s.earlier.held.add(id)
		s.earlier.unrouted.add(id)
	}
	for id, g := range o.Received {
		*s.generation(id) = g
	}
	for id, g := range o.Generations {
		*s.generation(id) = g
	}
	return s
}

// Publish decides on a PUBLISH from the client. On return p.Topic is the
// topic, whether or not an alias stood for it. An error ends the connection.
func (s *Inbound) Publish(p *protocol.Publish) (Do, error) {
	if len(p.SubscriptionIDs) > 0 { // [MQTT-3.3.4-6]
		return Ignore, &protocol.Error{Code: protocol.ProtocolError, Detail: "PUBLISH from a client with a subscription identifier"}
	}
	if p.QoS > s.rules.MaximumQoS { // [MQTT-3.2.2-11]
		return Ignore, &protocol.Error{Code: protocol.QoSNotSupported, Detail: "QoS above the maximum"}
	}
	if p.Retain && !s.rules.RetainAvailable { // [MQTT-3.2.2-14]
		return Ignore, &protocol.Error{Code: protocol.RetainNotSupported, Detail: "retained messages are not available"}
	}
	if p.HasTopicAlias {
		if err := s.alias(p); err != nil {
			return Ignore, err
		}
	}
	switch p.QoS {
	case 1:
		if s.received.has(p.PacketID) { // [MQTT-2.2.1-3]
			return s.inUse()
		}
		s.unacked++
	case 2:
		if s.received.has(p.PacketID) {
			if s.earlier != nil && s.earlier.unrouted.has(p.PacketID) {
				s.earlier.unrouted.remove(p.PacketID)
				return Again, nil
			}
			return Repeat, nil
		}
		s.received.add(p.PacketID)
	}
	if p.QoS > 0 && s.rules.Version == protocol.V5 && s.unacked+s.received.len()-s.held() > int(s.rules.ReceiveMaximum) {
		// [MQTT-3.3.4-9] is broken by the client.
		return Ignore, &protocol.Error{Code: protocol.ReceiveMaximumExceeded, Detail: "more publishes under way than the receive maximum"}
	}
	return Take, nil
}

// held is how many identifiers do not count for the receive maximum.
func (s *Inbound) held() int {
	if s.earlier == nil {
		return 0
	}
	return s.earlier.held.len()
}

// inUse answers a QoS 1 PUBLISH whose packet identifier belongs to a QoS 2
// exchange that is not over.
func (s *Inbound) inUse() (Do, error) {
	if s.rules.Version == protocol.V5 {
		return Answer, nil // PUBACK 0x91
	}
	return Ignore, &protocol.Error{Code: protocol.ProtocolError, Detail: "packet identifier in use"}
}

// alias replaces an alias by its topic, or learns it (MQTT 5 §3.3.2.3.4).
func (s *Inbound) alias(p *protocol.Publish) error {
	if p.TopicAlias == 0 || p.TopicAlias > s.rules.TopicAliasMaximum { // [MQTT-3.3.2-8], [MQTT-3.3.2-9]
		return &protocol.Error{Code: protocol.TopicAliasInvalid, Detail: "topic alias out of range"}
	}
	i := int(p.TopicAlias) - 1
	if len(p.Topic) > 0 {
		if s.aliases == nil {
			s.aliases = make([][]byte, s.rules.TopicAliasMaximum)
		}
		s.aliases[i] = append(s.aliases[i][:0], p.Topic...)
		return nil
	}
	if s.aliases == nil || len(s.aliases[i]) == 0 {
		return &protocol.Error{Code: protocol.ProtocolError, Detail: "topic alias without a topic"}
	}
	p.Topic = s.aliases[i]
	return nil
}

// ID is the identity of a QoS 2 publish that Publish said to take.
func (s *Inbound) ID(packet uint16) backend.PublishID {
	id := backend.PublishID{Client: s.client, Incarnation: s.incarnation, PacketID: packet}
	if s.durable {
		id.Generation = *s.generation(packet)
	} else {
		s.serial++
		id.Generation = s.serial
	}
	return id
}

// Fresh reports whether a QoS 2 publish that Publish said to take is certainly
// the first with its identity. On one connection it is: what was taken is
// repeated without being taken again. Of an earlier connection, one that ended
// before its PUBREC may have been appended without a receipt that the session
// came with, or by a call that is still under way; the client then repeats it
// with DUP [MQTT-3.3.1-1], and it is in doubt. A new session has a new
// incarnation, and an ephemeral one is its connection's own.
func (s *Inbound) Fresh(dup bool) bool { return !dup || !s.resumed || !s.durable }

// InFlight is how many QoS 2 publishes were taken and not released.
func (s *Inbound) InFlight() int { return s.received.len() }

// Acked tells that the PUBACK for a QoS 1 publish is on its way.
func (s *Inbound) Acked() { s.unacked-- }

// Refused tells that a QoS 2 publish was answered with an error: its packet
// identifier is free again (MQTT 5 §4.3.3). If it had been stored, the store has
// forgotten it.
func (s *Inbound) Refused(packet uint16, stored bool) {
	s.free(packet)
	if stored && s.durable {
		s.released(packet)
	}
}

func (s *Inbound) free(packet uint16) {
	s.received.remove(packet)
	if s.earlier != nil {
		s.earlier.held.remove(packet)
		s.earlier.unrouted.remove(packet)
	}
}

// released counts one more release of a packet identifier.
func (s *Inbound) released(packet uint16) { *s.generation(packet)++ }

// generations are those of all packet identifiers, in pages of which there are as
// many as the client uses: clients go through all identifiers, or stay with a few.
type generations [256]*[256]uint32

func (s *Inbound) generation(packet uint16) *uint32 {
	if s.generations == nil {
		s.generations = new(generations)
	}
	page := &s.generations[packet>>8]
	if *page == nil {
		*page = new([256]uint32)
	}
	return &(*page)[packet&0xFF]
}

// Pubrel decides on a PUBREL: Forget, after which PUBCOMP leaves, or Answer,
// a PUBCOMP with the code at once.
func (s *Inbound) Pubrel(packet uint16) (Do, protocol.ReasonCode) {
	if !s.received.has(packet) {
		if s.resumed || s.rules.Version != protocol.V5 {
			// The PUBCOMP of an earlier connection was lost on its way.
			return Answer, protocol.Success
		}
		return Answer, protocol.PacketIdentifierNotFound
	}
	s.free(packet)
	if !s.durable {
		return Answer, protocol.Success
	}
	s.released(packet)
	return Forget, protocol.Success
}
