package protocol

import "strings"

// Subscribe is SUBSCRIBE [MQTT 5 §3.8]. Decode checks that filters are
// well-formed strings, not that they are valid filters: the answer to an
// invalid one is a reason code of its own, for which there is [ValidFilter].
type Subscribe struct {
	// PacketID is never 0.
	PacketID uint16
	// ID is the subscription identifier; 0 is none.
	ID      uint32
	User    []UserProperty
	Filters []SubscribeFilter
}

// SubscribeFilter is one subscription that is asked for.
type SubscribeFilter struct {
	Filter string
	// QoS is the highest to deliver with.
	QoS QoS
	// The options of MQTT 5: NoLocal keeps the client's own messages from
	// it, RetainAsPublished keeps the retain flag of messages as it is,
	// RetainHandling says whether to send retained messages: 0 always, 1 if
	// the subscription is new, 2 never.
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte
}

func (*Subscribe) Type() Type { return SUBSCRIBE }

// Decode parses a SUBSCRIBE. It refuses No Local on a shared subscription as
// ProtocolError [MQTT-3.8.3-4].
func (s *Subscribe) Decode(_ Header, body []byte, v Version) error {
	*s = Subscribe{}
	c := cursor{b: body}
	s.PacketID = c.packetID()
	if v == V5 {
		props := c.properties(inSubscribe)
		for props.next() {
			switch props.id {
			case propSubscriptionID:
				s.ID = props.subscriptionID()
			case propUser:
				s.User = props.user(s.User)
			}
		}
		if err := props.fault(); err != nil {
			return err
		}
	}
	if len(c.b) == 0 && c.err == nil { // [MQTT-3.8.3-2]
		return violation("SUBSCRIBE without a topic filter")
	}
	s.Filters = make([]SubscribeFilter, 0, countEntries(c.b, 1))
	for len(c.b) > 0 {
		filter := c.string()
		f, err := subscribeOptions(filter, c.uint8(), v)
		if c.err == nil && err != nil {
			return err
		}
		s.Filters = append(s.Filters, f)
	}
	return c.end()
}

// subscribeOptions parses the byte behind a filter [MQTT 5 §3.8.3.1].
func subscribeOptions(filter string, options byte, v Version) (SubscribeFilter, error) {
	f := SubscribeFilter{Filter: filter, QoS: options & 3}
	if v != V5 {
		if options > 2 { // [MQTT-3-8.3-4] of 3.1.1
			return f, malformed("QoS above 2 or reserved bits set")
		}
		return f, nil
	}
	f.NoLocal = options&4 != 0
	f.RetainAsPublished = options&8 != 0
	f.RetainHandling = options >> 4 & 3
	switch {
	case options&0xC0 != 0: // [MQTT-3.8.3-5]
		return f, malformed("reserved subscription options set")
	case f.QoS == 3:
		return f, violation("maximum QoS 3")
	case f.RetainHandling == 3:
		return f, violation("retain handling 3")
	case f.NoLocal && strings.HasPrefix(filter, sharePrefix): // [MQTT-3.8.3-4]
		return f, violation("no local on a shared subscription")
	}
	return f, nil
}

// Append appends the packet to dst. Versions before 5 have no place for options
// other than the QoS.
func (s *Subscribe) Append(dst []byte, v Version) ([]byte, error) {
	e := encode(dst, SUBSCRIBE, reservedFlags) // [MQTT-3.8.1-1]
	e.packetID(s.PacketID)
	if v == V5 {
		at := e.properties()
		if s.ID > maxVarint {
			e.fail("subscription identifier out of range")
		} else if s.ID != 0 {
			e.b = appendUvarint(append(e.b, propSubscriptionID), s.ID)
		}
		e.users(s.User)
		e.fill(at)
	}
	if len(s.Filters) == 0 { // [MQTT-3.8.3-2]
		e.fail("SUBSCRIBE without a topic filter")
	}
	for i := range s.Filters {
		f := &s.Filters[i]
		e.text(f.Filter)
		options := f.QoS
		if v == V5 {
			options |= bit(f.NoLocal, 2) | bit(f.RetainAsPublished, 3) | f.RetainHandling<<4
		}
		if _, err := subscribeOptions(f.Filter, options, v); err != nil || f.QoS > 2 || f.RetainHandling > 2 {
			e.fail("subscription options out of range")
		}
		e.uint8(options)
	}
	return e.end()
}
