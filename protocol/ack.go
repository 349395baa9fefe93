package protocol

// Ack is a step in the acknowledgement of a PUBLISH: PUBACK, PUBREC, PUBREL or
// PUBCOMP [MQTT 5 §3.4 to §3.7]. The four have one form.
type Ack struct {
	// Kind is one of the four types.
	Kind Type
	// PacketID is never 0.
	PacketID uint16
	// Code and what follows are not on the wire before MQTT 5. No code on
	// the wire means Success.
	Code   ReasonCode
	Reason string
	User   []UserProperty
}

func (a *Ack) Type() Type { return a.Kind }

// Decode parses one of the four; h.Type says which.
func (a *Ack) Decode(h Header, body []byte, v Version) error {
	*a = Ack{Kind: h.Type}
	if !inAcks.has(a.Kind) {
		return violation("not an acknowledgement")
	}
	c := cursor{b: body}
	a.PacketID = c.packetID()
	if v != V5 || len(c.b) == 0 {
		return c.end()
	}
	a.Code = ReasonCode(c.uint8())
	if !a.Code.ValidIn(a.Kind) {
		return violation("reason code not valid in this packet") // [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
	}
	if len(c.b) == 0 { // a remaining length below 4 has no properties
		return c.end()
	}
	props := c.properties(1 << a.Kind)
	for props.next() {
		switch props.id {
		case propReason:
			a.Reason = props.string()
		case propUser:
			a.User = props.user(a.User)
		}
	}
	if err := props.fault(); err != nil {
		return err
	}
	return c.end()
}

// Append appends the packet in its shortest form. Versions before 5 have no
// place for the code.
func (a *Ack) Append(dst []byte, v Version) ([]byte, error) {
	switch {
	case !inAcks.has(a.Kind):
		return dst, encodeError("not an acknowledgement")
	case a.PacketID == 0:
		return dst, encodeError("packet identifier 0")
	case v == V5 && !a.Code.ValidIn(a.Kind):
		return dst, encodeError("reason code not valid in this packet")
	case v != V5 || a.Reason == "" && len(a.User) == 0:
		return AppendAck(dst, a.Kind, a.PacketID, a.Code, v), nil
	}
	e := encode(dst, a.Kind, ackFlags(a.Kind))
	e.uint16(a.PacketID)
	e.uint8(byte(a.Code))
	at := e.properties()
	e.propertyNonEmpty(propReason, a.Reason)
	e.users(a.User)
	e.fill(at)
	return e.end()
}

// AppendAck appends an acknowledgement without properties. It checks nothing:
// kind must be one of the four types of [Ack], id not 0, and code valid in it.
func AppendAck(dst []byte, kind Type, id uint16, code ReasonCode, v Version) []byte {
	first := byte(kind)<<4 | ackFlags(kind)
	if v != V5 || code == Success {
		return append(dst, first, 2, byte(id>>8), byte(id))
	}
	return append(dst, first, 3, byte(id>>8), byte(id), byte(code))
}

func ackFlags(kind Type) byte {
	if kind == PUBREL {
		return reservedFlags // [MQTT-3.6.1-1]
	}
	return 0
}
