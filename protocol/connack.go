package protocol

// Connack is CONNACK, the answer to CONNECT [MQTT 5 §3.2].
//
// A nil pointer, an empty string and nil AuthData are properties that are not
// there; what their absence means is in the specification.
type Connack struct {
	// SessionPresent is not on the wire in MQTT 3.1, and never set with a
	// code other than Success [MQTT-3.2.2-6].
	SessionPresent bool
	// Code is written as [ReasonCode.ConnackV3] before MQTT 5. Decode leaves
	// the return code, 0 to 5, as it came.
	Code ReasonCode

	SessionExpiry           *uint32
	ReceiveMaximum          *uint16
	MaximumQoS              *byte
	RetainAvailable         *bool
	MaximumPacketSize       *uint32
	AssignedClientID        string
	TopicAliasMaximum       *uint16
	Reason                  string
	User                    []UserProperty
	WildcardAvailable       *bool
	SubscriptionIDAvailable *bool
	SharedAvailable         *bool
	ServerKeepAlive         *uint16
	ResponseInfo            string
	ServerReference         string
	AuthMethod              string
	AuthData                []byte
}

func (*Connack) Type() Type { return CONNACK }

// Decode parses a CONNACK.
func (a *Connack) Decode(_ Header, body []byte, v Version) error {
	*a = Connack{}
	c := cursor{b: body}
	flags := c.uint8()
	a.Code = ReasonCode(c.uint8())
	if v != V31 { // §3.2 of 3.1 does not use the first byte
		if flags > 1 { // [MQTT-3.2.2-1]
			return malformed("reserved acknowledge flags set")
		}
		a.SessionPresent = flags == 1
	}
	switch {
	case c.err != nil:
		return c.err
	case v == V5 && !a.Code.ValidIn(CONNACK), v != V5 && a.Code > 5: // [MQTT-3.2.2-8]
		return violation("reason code not valid in this packet")
	case a.SessionPresent && a.Code != Success: // [MQTT-3.2.2-6]
		return violation("session present although refused")
	}
	if v == V5 {
		if err := a.decodeProperties(&c); err != nil {
			return err
		}
	}
	return c.end()
}

func (a *Connack) decodeProperties(c *cursor) error {
	p := c.properties(inConnack)
	for p.next() {
		switch p.id {
		case propSessionExpiry:
			a.SessionExpiry = new(p.uint32())
		case propReceiveMaximum:
			a.ReceiveMaximum = new(p.positive16())
		case propMaximumQoS:
			a.MaximumQoS = new(bit(p.flag(), 0))
		case propRetainAvailable:
			a.RetainAvailable = new(p.flag())
		case propMaximumPacketSize:
			a.MaximumPacketSize = new(p.positive32())
		case propAssignedClientID:
			a.AssignedClientID = p.string()
		case propTopicAliasMaximum:
			a.TopicAliasMaximum = new(p.uint16())
		case propReason:
			a.Reason = p.string()
		case propUser:
			a.User = p.user(a.User)
		case propWildcardAvailable:
			a.WildcardAvailable = new(p.flag())
		case propSubscriptionIDAvailable:
			a.SubscriptionIDAvailable = new(p.flag())
		case propSharedAvailable:
			a.SharedAvailable = new(p.flag())
		case propServerKeepAlive:
			a.ServerKeepAlive = new(p.uint16())
		case propResponseInfo:
			a.ResponseInfo = p.string()
		case propServerReference:
			a.ServerReference = p.string()
		case propAuthMethod:
			a.AuthMethod = p.string()
		case propAuthData:
			a.AuthData = p.binary()
		}
	}
	return p.fault()
}

// Append appends the packet to dst.
func (a *Connack) Append(dst []byte, v Version) ([]byte, error) {
	e := encode(dst, CONNACK, 0)
	if a.SessionPresent && a.Code != Success { // [MQTT-3.2.2-6]
		e.fail("session present although refused")
	}
	e.uint8(bit(a.SessionPresent && v != V31, 0))
	if v != V5 {
		if a.Code > 5 && !a.Code.ValidIn(CONNACK) {
			e.fail("reason code not valid in this packet")
		}
		e.uint8(a.Code.ConnackV3())
		return e.end()
	}
	if !a.Code.ValidIn(CONNACK) {
		e.fail("reason code not valid in this packet")
	}
	e.uint8(byte(a.Code))
	a.appendProperties(&e)
	return e.end()
}

func (a *Connack) appendProperties(e *encoder) {
	at := e.properties()
	e.optional32(propSessionExpiry, a.SessionExpiry)
	if a.ReceiveMaximum != nil && *a.ReceiveMaximum == 0 {
		e.fail("receive maximum 0")
	}
	e.optional16(propReceiveMaximum, a.ReceiveMaximum)
	if a.MaximumQoS != nil {
		if *a.MaximumQoS > 1 {
			e.fail("maximum QoS other than 0 or 1")
		}
		e.property8(propMaximumQoS, *a.MaximumQoS)
	}
	e.optionalFlag(propRetainAvailable, a.RetainAvailable)
	if a.MaximumPacketSize != nil && *a.MaximumPacketSize == 0 {
		e.fail("maximum packet size 0")
	}
	e.optional32(propMaximumPacketSize, a.MaximumPacketSize)
	e.propertyNonEmpty(propAssignedClientID, a.AssignedClientID)
	e.optional16(propTopicAliasMaximum, a.TopicAliasMaximum)
	e.propertyNonEmpty(propReason, a.Reason)
	e.users(a.User)
	e.optionalFlag(propWildcardAvailable, a.WildcardAvailable)
	e.optionalFlag(propSubscriptionIDAvailable, a.SubscriptionIDAvailable)
	e.optionalFlag(propSharedAvailable, a.SharedAvailable)
	e.optional16(propServerKeepAlive, a.ServerKeepAlive)
	e.propertyNonEmpty(propResponseInfo, a.ResponseInfo)
	e.propertyNonEmpty(propServerReference, a.ServerReference)
	e.propertyNonEmpty(propAuthMethod, a.AuthMethod)
	if a.AuthData != nil {
		e.propertyBinary(propAuthData, a.AuthData)
	}
	e.fill(at)
}

func (e *encoder) optionalFlag(id byte, x *bool) {
	if x != nil {
		e.propertyFlag(id, *x)
	}
}

func (e *encoder) optional16(id byte, x *uint16) {
	if x != nil {
		e.property16(id, *x)
	}
}

func (e *encoder) optional32(id byte, x *uint32) {
	if x != nil {
		e.property32(id, *x)
	}
}
