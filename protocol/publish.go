package protocol

import "encoding/binary"

// Publish is PUBLISH [MQTT 5 §3.3]. Topic, Payload and Properties refer to the
// body that was decoded and must be copied to outlive it.
type Publish struct {
	Dup    bool
	QoS    QoS
	Retain bool
	// PacketID is 0 with QoS 0 and never 0 otherwise.
	PacketID uint16
	// Topic has no wildcards. It is empty only together with a TopicAlias.
	Topic   []byte
	Payload []byte

	// TopicAlias is never 0 if present [MQTT-3.3.2-8].
	TopicAlias    uint16
	HasTopicAlias bool
	// MessageExpiry in seconds.
	MessageExpiry    uint32
	HasMessageExpiry bool
	// Properties are those that travel with the message: payload format
	// indicator, content type, response topic, correlation data and user
	// properties, validated, in their wire form and order, without a length in
	// front. They refer to the body where they are in one piece there, which
	// they nearly always are, and are a copy where they are not.
	Properties []byte
	// SubscriptionIDs go from server to client only [MQTT-3.3.4-6]; Decode
	// takes them in either direction.
	SubscriptionIDs []uint32
}

func (*Publish) Type() Type { return PUBLISH }

// Decode parses a PUBLISH. Beyond malformed packets it refuses a topic name
// with wildcards as TopicNameInvalid [MQTT-3.3.2-2] and a topic alias of 0 as
// TopicAliasInvalid [MQTT-3.3.2-8]. It does not look into the payload.
func (p *Publish) Decode(h Header, body []byte, v Version) error {
	*p = Publish{Dup: h.Flags&flagDup != 0, QoS: h.Flags >> 1 & 3, Retain: h.Flags&flagRetain != 0}
	// What every PUBLISH has is read without the cursor, which costs calls.
	end := 2
	if len(body) >= 2 {
		end += int(binary.BigEndian.Uint16(body))
	}
	if end > len(body) {
		return malformed("packet ends inside the topic name")
	}
	topic := body[2:end:end]
	state := checkTopic(topic)
	if state > topicEmpty {
		return topicFault(state)
	}
	c := cursor{b: body[end:]}
	p.Topic = topic
	switch {
	case p.QoS == 3: // [MQTT-3.3.1-4]
		return malformed("QoS 3")
	case p.QoS > 0:
		if p.PacketID = c.packetID(); c.err != nil {
			return c.err
		}
	case p.Dup: // [MQTT-3.3.1-2]
		return violation("DUP with QoS 0")
	}
	if v == V5 {
		if len(c.b) > 0 && c.b[0] == 0 { // no properties, the usual case
			c.b = c.b[1:]
		} else if err := p.decodeProperties(&c); err != nil {
			return err
		}
	}
	if state == topicEmpty && !p.HasTopicAlias {
		return violation("empty topic name without a topic alias") // [MQTT-4.7.3-1]
	}
	p.Payload = c.b[:len(c.b):len(c.b)]
	return nil
}

// topicFault is the refusal of a topic name in a packet.
func topicFault(s topicState) *Error {
	switch s {
	case topicEmpty: // [MQTT-4.7.3-1]
		return &Error{TopicNameInvalid, "empty topic name"}
	case topicWildcard: // [MQTT-3.3.2-2]
		return &Error{TopicNameInvalid, "wildcard in topic name"}
	}
	return malformed("topic name is not valid UTF-8 or contains U+0000") // [MQTT-1.5.4-1] [MQTT-1.5.4-2]
}

func (p *Publish) decodeProperties(c *cursor) error {
	props := c.properties(inPublish)
	carried := travelling{section: props.b}
	for {
		from := len(carried.section) - len(props.b)
		if !props.next() {
			break
		}
		switch props.id {
		case propMessageExpiry:
			p.MessageExpiry, p.HasMessageExpiry = props.uint32(), true
		case propTopicAlias:
			p.TopicAlias, p.HasTopicAlias = props.uint16(), true
			if p.TopicAlias == 0 { // [MQTT-3.3.2-8]
				props.fail(&Error{TopicAliasInvalid, "topic alias 0"})
			}
		case propSubscriptionID:
			p.SubscriptionIDs = append(p.SubscriptionIDs, props.subscriptionID())
		default:
			carried.read(&props, from)
		}
	}
	p.Properties = carried.b
	return props.fault()
}

// Append appends the packet to dst. It trusts the Topic and the Properties to
// be valid, as Decode left them, and looks only at sizes and at what the rules
// say of the other fields. Versions before 5 have no place for properties and
// leave them out; a topic that is empty is an error there.
func (p *Publish) Append(dst []byte, v Version) ([]byte, error) {
	if err := p.check(v); err != nil {
		return dst, err
	}
	props, body := p.sizes(v)
	if body > maxVarint {
		return dst, encodeError("packet longer than 268,435,455 bytes")
	}
	dst = append(dst, byte(PUBLISH)<<4|bit(p.Dup, 3)|p.QoS<<1|bit(p.Retain, 0))
	dst = appendUvarint(dst, uint32(body))
	dst = append(dst, byte(len(p.Topic)>>8), byte(len(p.Topic)))
	dst = append(dst, p.Topic...)
	if p.QoS > 0 {
		dst = append(dst, byte(p.PacketID>>8), byte(p.PacketID))
	}
	if v == V5 {
		dst = appendUvarint(dst, uint32(props))
		if props > 0 {
			dst = p.appendProperties(dst)
		}
	}
	return append(dst, p.Payload...), nil
}

func (p *Publish) appendProperties(dst []byte) []byte {
	e := encoder{b: dst}
	if p.HasTopicAlias {
		e.property16(propTopicAlias, p.TopicAlias)
	}
	if p.HasMessageExpiry {
		e.property32(propMessageExpiry, p.MessageExpiry)
	}
	e.b = append(e.b, p.Properties...)
	for _, id := range p.SubscriptionIDs {
		e.b = appendUvarint(append(e.b, propSubscriptionID), id)
	}
	return e.b
}

func (p *Publish) check(v Version) error {
	switch {
	case p.QoS > 2: // [MQTT-3.3.1-4]
		return encodeError("QoS above 2")
	case p.QoS == 0 && p.Dup: // [MQTT-3.3.1-2]
		return encodeError("DUP with QoS 0")
	case (p.QoS > 0) != (p.PacketID != 0): // [MQTT-2.2.1-2] [MQTT-2.2.1-4]
		return encodeError("packet identifier 0 with QoS > 0, or not 0 with QoS 0")
	case len(p.Topic) > maxString: // [MQTT-4.7.3-3]
		return encodeError("topic name longer than 65,535 bytes")
	case len(p.Topic) == 0 && !(v == V5 && p.HasTopicAlias): // [MQTT-4.7.3-1]
		return encodeError("empty topic name without a topic alias")
	case v == V5 && p.HasTopicAlias && p.TopicAlias == 0: // [MQTT-3.3.2-8]
		return encodeError("topic alias 0")
	}
	if v == V5 {
		for _, id := range p.SubscriptionIDs {
			if id == 0 || id > maxVarint { // [MQTT 5 §3.3.2.3.8]
				return encodeError("subscription identifier out of range")
			}
		}
	}
	return nil
}

// sizes are the number of bytes of the properties, without the length in front,
// and of the body.
func (p *Publish) sizes(v Version) (props, body int) {
	body = 2 + len(p.Topic) + len(p.Payload)
	if p.QoS > 0 {
		body += 2
	}
	if v != V5 {
		return 0, body
	}
	props = len(p.Properties)
	if p.HasTopicAlias {
		props += 3
	}
	if p.HasMessageExpiry {
		props += 5
	}
	for _, id := range p.SubscriptionIDs {
		props += 1 + uvarintSize(int(id))
	}
	return props, body + uvarintSize(props) + props
}

// Size is the length of the whole packet in bytes, as Append would write it:
// what counts against the receiver's maximum packet size.
func (p *Publish) Size(v Version) int {
	_, body := p.sizes(v)
	return 1 + uvarintSize(body) + body
}
