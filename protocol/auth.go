package protocol

// Auth is AUTH, a step of an enhanced authentication [MQTT 5 §3.15]. It does
// not exist before MQTT 5.
type Auth struct {
	// Code is Success, ContinueAuthentication or ReAuthenticate.
	Code ReasonCode
	// Method is empty only in the shortest form of the packet: Success, and
	// nothing else.
	Method string
	// Data refers to the body.
	Data    []byte
	HasData bool
	Reason  string
	User    []UserProperty
}

func (*Auth) Type() Type { return AUTH }

// Decode parses an AUTH of either side; [ReasonCode.FromClient] tells which
// codes a client may send. Without a method it is a ProtocolError, unless it
// says nothing but Success [MQTT 5 §3.15.2].
func (a *Auth) Decode(_ Header, body []byte, v Version) error {
	*a = Auth{}
	if v != V5 {
		return malformed("AUTH before MQTT 5")
	}
	if len(body) == 0 {
		return nil
	}
	c := cursor{b: body}
	a.Code = ReasonCode(c.uint8())
	if !a.Code.ValidIn(AUTH) {
		return violation("reason code not valid in this packet") // [MQTT-3.15.2-1]
	}
	props := c.properties(inAuth)
	empty := len(props.b) == 0
	for props.next() {
		switch props.id {
		case propAuthMethod:
			a.Method = props.string()
		case propAuthData:
			a.Data, a.HasData = props.binary(), true
		case propReason:
			a.Reason = props.string()
		case propUser:
			a.User = props.user(a.User)
		}
	}
	if err := props.fault(); err != nil {
		return err
	}
	if !props.has(propAuthMethod) && !(empty && a.Code == Success) {
		c.fail(violation("AUTH without an authentication method"))
	}
	return c.end()
}

// Append appends the packet to dst.
func (a *Auth) Append(dst []byte, v Version) ([]byte, error) {
	if v != V5 {
		return dst, encodeError("AUTH before MQTT 5")
	}
	e := encode(dst, AUTH, 0)
	if a.Code == Success && a.Method == "" && !a.HasData && a.Reason == "" && len(a.User) == 0 {
		return e.end()
	}
	if !a.Code.ValidIn(AUTH) {
		e.fail("reason code not valid in this packet")
	}
	e.uint8(byte(a.Code))
	at := e.properties()
	e.propertyText(propAuthMethod, a.Method)
	if a.HasData {
		e.propertyBinary(propAuthData, a.Data)
	}
	e.propertyNonEmpty(propReason, a.Reason)
	e.users(a.User)
	e.fill(at)
	return e.end()
}
