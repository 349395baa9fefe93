package protocol

// Unsubscribe is UNSUBSCRIBE [MQTT 5 §3.10]. As with [Subscribe], the form of
// the filters is for the caller to check.
type Unsubscribe struct {
	// PacketID is never 0.
	PacketID uint16
	Filters  []string
	User     []UserProperty
}

func (*Unsubscribe) Type() Type { return UNSUBSCRIBE }

// Decode parses an UNSUBSCRIBE.
func (u *Unsubscribe) Decode(_ Header, body []byte, v Version) error {
	*u = Unsubscribe{}
	c := cursor{b: body}
	u.PacketID = c.packetID()
	if v == V5 {
		props := c.properties(inUnsubscribe)
		for props.next() { // user properties are all there are
			u.User = props.user(u.User)
		}
		if err := props.fault(); err != nil {
			return err
		}
	}
	if len(c.b) == 0 && c.err == nil { // [MQTT-3.10.3-2]
		return violation("UNSUBSCRIBE without a topic filter")
	}
	u.Filters = make([]string, 0, countEntries(c.b, 0))
	for len(c.b) > 0 {
		u.Filters = append(u.Filters, c.string())
	}
	return c.end()
}

// Append appends the packet to dst.
func (u *Unsubscribe) Append(dst []byte, v Version) ([]byte, error) {
	e := encode(dst, UNSUBSCRIBE, reservedFlags) // [MQTT-3.10.1-1]
	e.packetID(u.PacketID)
	if v == V5 {
		at := e.properties()
		e.users(u.User)
		e.fill(at)
	}
	if len(u.Filters) == 0 { // [MQTT-3.10.3-2]
		e.fail("UNSUBSCRIBE without a topic filter")
	}
	for _, f := range u.Filters {
		e.text(f)
	}
	return e.end()
}
