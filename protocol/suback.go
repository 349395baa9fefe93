package protocol

// Suback is SUBACK, the answer to SUBSCRIBE [MQTT 5 §3.9].
type Suback struct {
	PacketID uint16
	// Codes has one code for each filter of the SUBSCRIBE, in its order
	// [MQTT-3.9.3-1]. Before MQTT 5 every failure is written as 0x80.
	Codes  []ReasonCode
	Reason string
	User   []UserProperty
}

func (*Suback) Type() Type { return SUBACK }

// Decode parses a SUBACK.
func (s *Suback) Decode(_ Header, body []byte, v Version) (err error) {
	*s = Suback{}
	c := cursor{b: body}
	s.PacketID = c.packetID()
	if v == V5 {
		if s.Reason, s.User, err = decodeReason(&c, inSuback); err != nil {
			return err
		}
	}
	s.Codes, err = decodeCodes(&c, SUBACK, v)
	return err
}

// Append appends the packet to dst.
func (s *Suback) Append(dst []byte, v Version) ([]byte, error) {
	e := encode(dst, SUBACK, 0)
	e.packetID(s.PacketID)
	if v == V5 {
		e.reason(s.Reason, s.User)
	}
	e.codes(s.Codes, SUBACK, v)
	return e.end()
}

// decodeReason parses the properties of SUBACK and UNSUBACK.
func decodeReason(c *cursor, in packetSet) (reason string, user []UserProperty, err error) {
	props := c.properties(in)
	for props.next() {
		switch props.id {
		case propReason:
			reason = props.string()
		case propUser:
			user = props.user(user)
		}
	}
	return reason, user, props.fault()
}

// reason appends the properties of SUBACK and UNSUBACK.
func (e *encoder) reason(reason string, user []UserProperty) {
	at := e.properties()
	e.propertyNonEmpty(propReason, reason)
	e.users(user)
	e.fill(at)
}

// decodeCodes parses the rest of a SUBACK or UNSUBACK: one code a filter, and
// there is never none.
func decodeCodes(c *cursor, t Type, v Version) ([]ReasonCode, error) {
	if c.err != nil {
		return nil, c.err
	}
	if len(c.b) == 0 {
		return nil, violation("no reason codes")
	}
	codes := make([]ReasonCode, len(c.b))
	for i, x := range c.b {
		codes[i] = ReasonCode(x)
		if !codes[i].ValidIn(t) || v != V5 && x > 2 && x != 0x80 { // [MQTT-3.9.3-2]
			return nil, violation("reason code not valid in this packet")
		}
	}
	return codes, nil
}

// codes appends the codes of a SUBACK or UNSUBACK.
func (e *encoder) codes(codes []ReasonCode, t Type, v Version) {
	if len(codes) == 0 {
		e.fail("no reason codes")
	}
	for _, c := range codes {
		if !c.ValidIn(t) {
			e.fail("reason code not valid in this packet")
		}
		if v != V5 && c >= UnspecifiedError {
			c = UnspecifiedError // the one failure that 3.1.1 has, §3.9.3
		}
		e.uint8(byte(c))
	}
}
