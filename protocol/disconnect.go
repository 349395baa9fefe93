package protocol

// Disconnect is DISCONNECT [MQTT 5 §3.14]. Before MQTT 5 only a client sends
// it, and all fields are empty.
type Disconnect struct {
	// Code is Success for a normal end.
	Code ReasonCode
	// SessionExpiry in seconds replaces the one of CONNECT; only a client
	// sends it [MQTT-3.14.2-2].
	SessionExpiry    uint32
	HasSessionExpiry bool
	Reason           string
	// ServerReference names another server; only a server sends it.
	ServerReference string
	User            []UserProperty
}

func (*Disconnect) Type() Type { return DISCONNECT }

// Decode parses a DISCONNECT of either side; [ReasonCode.FromClient] tells
// which codes a client may send.
func (d *Disconnect) Decode(_ Header, body []byte, v Version) error {
	*d = Disconnect{}
	c := cursor{b: body}
	if v != V5 || len(body) == 0 {
		return c.end()
	}
	d.Code = ReasonCode(c.uint8())
	if !d.Code.ValidIn(DISCONNECT) {
		return violation("reason code not valid in this packet") // [MQTT-3.14.2-1]
	}
	if len(c.b) == 0 { // a remaining length below 2 has no properties
		return c.end()
	}
	props := c.properties(inDisconnect)
	for props.next() {
		switch props.id {
		case propSessionExpiry:
			d.SessionExpiry, d.HasSessionExpiry = props.uint32(), true
		case propReason:
			d.Reason = props.string()
		case propServerReference:
			d.ServerReference = props.string()
		case propUser:
			d.User = props.user(d.User)
		}
	}
	if err := props.fault(); err != nil {
		return err
	}
	return c.end()
}

// Append appends the packet in its shortest form.
func (d *Disconnect) Append(dst []byte, v Version) ([]byte, error) {
	e := encode(dst, DISCONNECT, 0)
	bare := !d.HasSessionExpiry && d.Reason == "" && d.ServerReference == "" && len(d.User) == 0
	if v != V5 || bare && d.Code == Success {
		return e.end()
	}
	if !d.Code.ValidIn(DISCONNECT) {
		e.fail("reason code not valid in this packet")
	}
	e.uint8(byte(d.Code))
	if bare {
		return e.end()
	}
	at := e.properties()
	if d.HasSessionExpiry {
		e.property32(propSessionExpiry, d.SessionExpiry)
	}
	e.propertyNonEmpty(propReason, d.Reason)
	e.propertyNonEmpty(propServerReference, d.ServerReference)
	e.users(d.User)
	e.fill(at)
	return e.end()
}
