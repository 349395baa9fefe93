package protocol

// Connect is CONNECT, the first packet of a connection [MQTT 5 §3.1].
type Connect struct {
	// Version that the client speaks. After a failed Decode it is still set
	// if the client's protocol name was known, and says how to answer:
	//
	//   - V31, V311, V5: the error's reason code fits a CONNACK of that version.
	//   - UnsupportedProtocolVersion: Version holds the level that was asked
	//     for, and a CONNACK says so [MQTT-3.1.2-2].
	//   - 0 with any other code: this is no MQTT; close without a word
	//     [MQTT-3.1.2-1].
	Version Version
	// CleanStart is Clean Session before MQTT 5.
	CleanStart bool
	// KeepAlive in seconds; 0 is off.
	KeepAlive uint16
	// ClientID may be empty; what that means is the server's to say.
	ClientID string

	// Username and Password are set only together with their Has fields. The
	// password refers to the body.
	Username    string
	HasUsername bool
	Password    []byte
	HasPassword bool

	// Will is nil if there is none.
	Will *Will

	// The rest is MQTT 5 only; the comments give the value without the property.

	// SessionExpiry in seconds; 0, the session ends with its connection.
	SessionExpiry    uint32
	HasSessionExpiry bool
	// ReceiveMaximum is how many unacknowledged QoS > 0 publishes the client
	// takes at once; 65,535. Append writes 0 as absent.
	ReceiveMaximum uint16
	// MaximumPacketSize that the client takes, in bytes; 0, no limit.
	MaximumPacketSize uint32
	// TopicAliasMaximum is the highest alias the client takes; 0, none.
	TopicAliasMaximum uint16
	// RequestResponseInfo asks for response information in CONNACK; false.
	RequestResponseInfo bool
	// RequestProblemInfo allows reason strings and user properties in
	// packets other than PUBLISH, CONNACK and DISCONNECT; true.
	RequestProblemInfo bool
	// AuthMethod names the enhanced authentication; absent.
	AuthMethod    string
	HasAuthMethod bool
	// AuthData belongs to AuthMethod and refers to the body; absent.
	AuthData    []byte
	HasAuthData bool
	User        []UserProperty
}

func (*Connect) Type() Type { return CONNECT }

// The bits of the connect flags [MQTT 5 §3.1.2.3].
const (
	connectReserved   = 1 << 0
	connectCleanStart = 1 << 1
	connectWill       = 1 << 2
	connectWillQoS    = 3 << 3
	connectWillRetain = 1 << 5
	connectPassword   = 1 << 6
	connectUsername   = 1 << 7
)

// The protocol names; the first is that of MQTT 3.1.
const (
	nameV31 = "MQIsdp"
	name    = "MQTT"
)

// Decode parses a CONNECT; its last argument is not used. A will topic that is
// empty or has wildcards is TopicNameInvalid.
func (p *Connect) Decode(h Header, body []byte, _ Version) error {
	*p = Connect{ReceiveMaximum: 65535, RequestProblemInfo: true}
	c := cursor{b: body}
	if err := p.decodeVersion(&c); err != nil {
		return err
	}
	if h.padded && p.Version == V5 { // [MQTT-1.5.5-1]
		return malformed("remaining length not in its shortest form")
	}
	flags := c.uint8()
	p.KeepAlive = c.uint16()
	if c.err != nil {
		return c.err
	}
	if p.Version == V31 {
		// §3.1 of 3.1 disregards the bits of a will that is not there, and
		// has no rule for the reserved bit.
		flags &^= connectReserved
		if flags&connectWill == 0 {
			flags &^= connectWillQoS | connectWillRetain
		}
	}
	if err := p.checkFlags(flags); err != nil {
		return err
	}
	p.CleanStart = flags&connectCleanStart != 0
	if p.Version == V5 {
		if err := p.decodeProperties(&c); err != nil {
			return err
		}
	}
	p.ClientID = c.string()
	if flags&connectWill != 0 {
		p.Will = &Will{QoS: flags & connectWillQoS >> 3, Retain: flags&connectWillRetain != 0}
		if err := p.Will.decode(&c, p.Version, len(p.User)); err != nil {
			return err
		}
	}
	// In 3.1 the length decides: credentials that the flags promise may be
	// missing at the end (§3.1 of 3.1).
	missing := func() bool { return p.Version == V31 && len(c.b) == 0 && c.err == nil }
	if flags&connectUsername != 0 && !missing() {
		p.Username, p.HasUsername = c.string(), true
	}
	if flags&connectPassword != 0 && !missing() {
		p.Password, p.HasPassword = c.binary(), true
	}
	return c.end()
}

// decodeVersion parses the protocol name and level.
func (p *Connect) decodeVersion(c *cursor) error {
	protocol := c.binary()
	v31, later := string(protocol) == nameV31, string(protocol) == name
	level := Version(c.uint8())
	switch {
	case !v31 && !later: // [MQTT-3.1.2-1]
		return malformed("not MQTT: unknown protocol name")
	case c.err != nil:
		return c.err
	}
	p.Version = level
	if v31 && level == V31 || later && (level == V311 || level == V5) {
		return nil
	}
	return &Error{UnsupportedProtocolVersion, "protocol level is not supported"} // [MQTT-3.1.2-2]
}

func (p *Connect) checkFlags(flags byte) error {
	switch {
	case flags&connectReserved != 0: // [MQTT-3.1.2-3]
		return malformed("reserved connect flag set")
	case flags&connectWill == 0 && flags&(connectWillQoS|connectWillRetain) != 0: // [MQTT-3.1.2-11] [MQTT-3.1.2-13]
		return malformed("will QoS or will retain without a will")
	case flags&connectWillQoS == connectWillQoS: // [MQTT-3.1.2-12]
		return malformed("will QoS 3")
	case p.Version != V5 && flags&connectPassword != 0 && flags&connectUsername == 0: // [MQTT-3.1.2-22] of 3.1.1
		return malformed("password without a user name")
	}
	return nil
}

func (p *Connect) decodeProperties(c *cursor) error {
	props := c.properties(inConnect)
	for props.next() {
		switch props.id {
		case propSessionExpiry:
			p.SessionExpiry, p.HasSessionExpiry = props.uint32(), true
		case propReceiveMaximum:
			p.ReceiveMaximum = props.positive16()
		case propMaximumPacketSize:
			p.MaximumPacketSize = props.positive32()
		case propTopicAliasMaximum:
			p.TopicAliasMaximum = props.uint16()
		case propRequestResponseInfo:
			p.RequestResponseInfo = props.flag()
		case propRequestProblemInfo:
			p.RequestProblemInfo = props.flag()
		case propAuthMethod:
			p.AuthMethod, p.HasAuthMethod = props.string(), true
		case propAuthData:
			p.AuthData, p.HasAuthData = props.binary(), true
		case propUser:
			p.User = props.user(p.User)
		}
	}
	if p.HasAuthData && !p.HasAuthMethod { // [MQTT 5 §3.1.2.11.10]
		props.fail(violation("authentication data without a method"))
	}
	return props.fault()
}

// Append appends the packet in the form of p.Version; its last argument is not
// used.
func (p *Connect) Append(dst []byte, _ Version) ([]byte, error) {
	e := encode(dst, CONNECT, 0)
	switch p.Version {
	case V31:
		e.text(nameV31)
	case V311, V5:
		e.text(name)
	default:
		e.fail("unknown protocol version")
	}
	e.uint8(byte(p.Version))
	flags := bit(p.CleanStart, 1) | bit(p.HasPassword, 6) | bit(p.HasUsername, 7)
	if w := p.Will; w != nil {
		flags |= connectWill | w.QoS<<3&connectWillQoS | bit(w.Retain, 5)
	}
	if err := p.checkFlags(flags); err != nil || p.Will != nil && p.Will.QoS > 2 {
		e.fail("will QoS above 2, or a password without a user name")
	}
	e.uint8(flags)
	e.uint16(p.KeepAlive)
	if p.Version == V5 {
		p.appendProperties(&e)
	}
	e.text(p.ClientID)
	if p.Will != nil {
		p.Will.append(&e, p.Version)
	}
	if p.HasUsername {
		e.text(p.Username)
	}
	if p.HasPassword {
		e.binary(p.Password)
	}
	return e.end()
}

func (p *Connect) appendProperties(e *encoder) {
	at := e.properties()
	if p.HasSessionExpiry {
		e.property32(propSessionExpiry, p.SessionExpiry)
	}
	if p.ReceiveMaximum != 0 && p.ReceiveMaximum != 65535 {
		e.property16(propReceiveMaximum, p.ReceiveMaximum)
	}
	if p.MaximumPacketSize != 0 {
		e.property32(propMaximumPacketSize, p.MaximumPacketSize)
	}
	if p.TopicAliasMaximum != 0 {
		e.property16(propTopicAliasMaximum, p.TopicAliasMaximum)
	}
	if p.RequestResponseInfo {
		e.propertyFlag(propRequestResponseInfo, true)
	}
	if !p.RequestProblemInfo {
		e.propertyFlag(propRequestProblemInfo, false)
	}
	if p.HasAuthMethod {
		e.propertyText(propAuthMethod, p.AuthMethod)
	} else if p.HasAuthData {
		e.fail("authentication data without a method")
	}
	if p.HasAuthData {
		e.propertyBinary(propAuthData, p.AuthData)
	}
	e.users(p.User)
	e.fill(at)
}
