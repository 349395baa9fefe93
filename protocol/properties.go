package protocol

// MaxUserProperties is how many user properties one packet may have before
// Decode refuses it with ImplementationSpecificError. The specification sets no
// limit; without one, a single packet of some kilobytes costs its receiver
// thousands of allocations, and every subscriber the same again.
const MaxUserProperties = 64

// The property identifiers [MQTT 5 §2.2.2.2, table 2-4].
const (
	propPayloadFormat           = 0x01
	propMessageExpiry           = 0x02
	propContentType             = 0x03
	propResponseTopic           = 0x08
	propCorrelation             = 0x09
	propSubscriptionID          = 0x0B
	propSessionExpiry           = 0x11
	propAssignedClientID        = 0x12
	propServerKeepAlive         = 0x13
	propAuthMethod              = 0x15
	propAuthData                = 0x16
	propRequestProblemInfo      = 0x17
	propWillDelay               = 0x18
	propRequestResponseInfo     = 0x19
	propResponseInfo            = 0x1A
	propServerReference         = 0x1C
	propReason                  = 0x1F
	propReceiveMaximum          = 0x21
	propTopicAliasMaximum       = 0x22
	propTopicAlias              = 0x23
	propMaximumQoS              = 0x24
	propRetainAvailable         = 0x25
	propUser                    = 0x26
	propMaximumPacketSize       = 0x27
	propWildcardAvailable       = 0x28
	propSubscriptionIDAvailable = 0x29
	propSharedAvailable         = 0x2A
)

const (
	// inWill stands for the will properties inside CONNECT, in the place of
	// the packet type 0 that does not exist.
	inWill        packetSet = 1 << 0
	inConnect     packetSet = 1 << CONNECT
	inPublish     packetSet = 1 << PUBLISH
	inSubscribe   packetSet = 1 << SUBSCRIBE
	inUnsubscribe packetSet = 1 << UNSUBSCRIBE
	inAcks                  = inPuback | inPubrec | inPubrel | inPubcomp
	inMessages              = inPublish | inWill
)

// propertyIn says which packets may have a property [MQTT 5 §2.2.2.2, table
// 2-4]. No packets: there is no such property.
var propertyIn = [...]packetSet{
	propPayloadFormat:           inMessages,
	propMessageExpiry:           inMessages,
	propContentType:             inMessages,
	propResponseTopic:           inMessages,
	propCorrelation:             inMessages,
	propSubscriptionID:          inPublish | inSubscribe,
	propSessionExpiry:           inConnect | inConnack | inDisconnect,
	propAssignedClientID:        inConnack,
	propServerKeepAlive:         inConnack,
	propAuthMethod:              inConnect | inConnack | inAuth,
	propAuthData:                inConnect | inConnack | inAuth,
	propRequestProblemInfo:      inConnect,
	propWillDelay:               inWill,
	propRequestResponseInfo:     inConnect,
	propResponseInfo:            inConnack,
	propServerReference:         inConnack | inDisconnect,
	propReason:                  inConnack | inAcks | inSubs | inDisconnect | inAuth,
	propReceiveMaximum:          inConnect | inConnack,
	propTopicAliasMaximum:       inConnect | inConnack,
	propTopicAlias:              inPublish,
	propMaximumQoS:              inConnack,
	propRetainAvailable:         inConnack,
	propUser:                    inConnect | inConnack | inMessages | inAcks | inSubscribe | inUnsubscribe | inSubs | inDisconnect | inAuth,
	propMaximumPacketSize:       inConnect | inConnack,
	propWildcardAvailable:       inConnack,
	propSubscriptionIDAvailable: inConnack,
	propSharedAvailable:         inConnack,
}

// properties reads a property section: next finds an identifier and checks that
// it may stand here, then the caller reads the value with the method of its
// type.
type properties struct {
	cursor
	// id is the property that next found.
	id    uint32
	in    packetSet
	seen  uint64
	users int
}

// properties takes the property section at the front of c, of a packet in in.
func (c *cursor) properties(in packetSet) properties {
	n := c.varint()
	return properties{cursor: cursor{b: c.take(int(n)), err: c.err}, in: in}
}

// next reads the identifier of the next property and reports whether there is
// one. It refuses identifiers that do not exist or do not belong into this
// packet [MQTT 5 §2.2.2.2], and those that must not be repeated.
func (p *properties) next() bool {
	if len(p.b) == 0 {
		return false
	}
	p.id = p.varint()
	switch {
	case p.err != nil:
		return false
	case p.id >= uint32(len(propertyIn)) || propertyIn[p.id] == 0:
		p.fail(malformed("unknown property"))
		return false
	case propertyIn[p.id]&p.in == 0:
		p.fail(malformed("property not allowed in this packet"))
		return false
	case p.id == propUser:
		if p.users++; p.users > MaxUserProperties {
			p.fail(&Error{ImplementationSpecificError, "too many user properties"})
			return false
		}
		return true
	}
	bit := uint64(1) << p.id
	if p.seen&bit != 0 && (p.id != propSubscriptionID || p.in != inPublish) {
		p.fail(violation("property repeated"))
		return false
	}
	p.seen |= bit
	return true
}

// has reports whether a property was found before, other than user properties.
func (p *properties) has(id uint32) bool { return p.seen>>id&1 != 0 }

// flag reads a byte that is 0 or 1.
func (p *properties) flag() bool {
	x := p.uint8()
	if x > 1 {
		p.fail(violation("property other than 0 or 1"))
	}
	return x == 1
}

// positive16 reads a two byte integer that is not 0.
func (p *properties) positive16() uint16 {
	x := p.uint16()
	if x == 0 {
		p.fail(violation("property must not be 0"))
	}
	return x
}

// positive32 reads a four byte integer that is not 0.
func (p *properties) positive32() uint32 {
	x := p.uint32()
	if x == 0 {
		p.fail(violation("property must not be 0"))
	}
	return x
}

// subscriptionID reads a subscription identifier: 1 to 268,435,455
// [MQTT 5 §3.8.2.1.2].
func (p *properties) subscriptionID() uint32 {
	x := p.varint()
	if x == 0 {
		p.fail(violation("subscription identifier 0"))
	}
	return x
}

// user reads a user property and appends it to dst.
func (p *properties) user(dst []UserProperty) []UserProperty {
	key := p.string()
	value := p.string()
	if p.err != nil {
		return dst
	}
	return append(dst, UserProperty{key, value})
}

// fault returns what was wrong, or nil.
func (p *properties) fault() error {
	if p.err != nil {
		return p.err
	}
	return nil
}
