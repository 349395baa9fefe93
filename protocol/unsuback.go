package protocol

// Unsuback is UNSUBACK, the answer to UNSUBSCRIBE [MQTT 5 §3.11].
type Unsuback struct {
	PacketID uint16
	// Codes has one code for each filter of the UNSUBSCRIBE, in its order
	// [MQTT-3.11.3-1]. They are not on the wire before MQTT 5.
	Codes  []ReasonCode
	Reason string
	User   []UserProperty
}

func (*Unsuback) Type() Type { return UNSUBACK }

// Decode parses an UNSUBACK.
func (u *Unsuback) Decode(_ Header, body []byte, v Version) (err error) {
	*u = Unsuback{}
	c := cursor{b: body}
	u.PacketID = c.packetID()
	if v != V5 {
		return c.end()
	}
	if u.Reason, u.User, err = decodeReason(&c, inUnsuback); err != nil {
		return err
	}
	u.Codes, err = decodeCodes(&c, UNSUBACK, v)
	return err
}

// Append appends the packet to dst.
func (u *Unsuback) Append(dst []byte, v Version) ([]byte, error) {
	e := encode(dst, UNSUBACK, 0)
	e.packetID(u.PacketID)
	if v == V5 {
		e.reason(u.Reason, u.User)
		e.codes(u.Codes, UNSUBACK, v)
	}
	return e.end()
}
