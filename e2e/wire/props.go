package wire

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Prop is one property of MQTT 5: an identifier (all that exist fit in a
// byte) and its value as encoded on the wire. Any mixture can be built, so
// that a test reaches unknown identifiers, repeated ones and cut values.
type Prop struct {
	ID    byte
	Value []byte
}

// Props are properties in the order of the wire. An empty list is nil.
type Props []Prop

// Property identifiers (MQTT 5, table 2-4).
const (
	PayloadFormatID           = 0x01
	MessageExpiryID           = 0x02
	ContentTypeID             = 0x03
	ResponseTopicID           = 0x08
	CorrelationDataID         = 0x09
	SubscriptionIDID          = 0x0B
	SessionExpiryID           = 0x11
	AssignedClientIDID        = 0x12
	ServerKeepAliveID         = 0x13
	AuthMethodID              = 0x15
	AuthDataID                = 0x16
	RequestProblemInfoID      = 0x17
	WillDelayID               = 0x18
	RequestResponseInfoID     = 0x19
	ResponseInfoID            = 0x1A
	ServerReferenceID         = 0x1C
	ReasonStringID            = 0x1F
	ReceiveMaximumID          = 0x21
	TopicAliasMaximumID       = 0x22
	TopicAliasID              = 0x23
	MaximumQoSID              = 0x24
	RetainAvailableID         = 0x25
	UserPropertyID            = 0x26
	MaximumPacketSizeID       = 0x27
	WildcardSubAvailableID    = 0x28
	SubscriptionIDAvailableID = 0x29
	SharedSubAvailableID      = 0x2A
)

// kind is how a value is written.
type kind byte

const (
	kindByte kind = iota + 1
	kindU16
	kindU32
	kindVarint
	kindString
	kindBinary
	kindPair
)

var kinds = map[byte]kind{
	PayloadFormatID: kindByte, MessageExpiryID: kindU32, ContentTypeID: kindString, ResponseTopicID: kindString,
	CorrelationDataID: kindBinary, SubscriptionIDID: kindVarint, SessionExpiryID: kindU32, AssignedClientIDID: kindString,
	ServerKeepAliveID: kindU16, AuthMethodID: kindString, AuthDataID: kindBinary, RequestProblemInfoID: kindByte,
	WillDelayID: kindU32, RequestResponseInfoID: kindByte, ResponseInfoID: kindString, ServerReferenceID: kindString,
	ReasonStringID: kindString, ReceiveMaximumID: kindU16, TopicAliasMaximumID: kindU16, TopicAliasID: kindU16,
	MaximumQoSID: kindByte, RetainAvailableID: kindByte, UserPropertyID: kindPair, MaximumPacketSizeID: kindU32,
	WildcardSubAvailableID: kindByte, SubscriptionIDAvailableID: kindByte, SharedSubAvailableID: kindByte,
}

// ByteProp, U16Prop, U32Prop, VarintProp and StringProp build a property of a
// given form whatever its identifier asks for. Binary data is a StringProp.
func ByteProp(id, v byte) Prop          { return Prop{id, []byte{v}} }
func U16Prop(id byte, v uint16) Prop    { return Prop{id, U16(v)} }
func U32Prop(id byte, v uint32) Prop    { return Prop{id, U32(v)} }
func VarintProp(id byte, v int) Prop    { return Prop{id, Varint(v)} }
func StringProp(id byte, v string) Prop { return Prop{id, Str(v)} }

// User is a user property.
func User(name, value string) Prop { return Prop{UserPropertyID, Cat(Str(name), Str(value))} }

// field is the property length and the properties: nothing before MQTT 5.
func (p Props) field(v Version) []byte {
	if v != V5 {
		return nil
	}
	b := p.Bytes()
	return append(Varint(len(b)), b...)
}

// Bytes is the properties without their length, for hand-made packets.
func (p Props) Bytes() []byte {
	var b []byte
	for _, q := range p {
		b = append(append(b, q.ID), q.Value...)
	}
	return b
}

// All returns the values of every property with that identifier, in order.
func (p Props) All(id byte) [][]byte {
	var all [][]byte
	for _, q := range p {
		if q.ID == id {
			all = append(all, q.Value)
		}
	}
	return all
}

// Has says whether a property is there.
func (p Props) Has(id byte) bool { return len(p.All(id)) > 0 }

// Int returns the value of a numeric property, and whether it is there.
func (p Props) Int(id byte) (n int, ok bool) {
	all := p.All(id)
	if len(all) == 0 {
		return 0, false
	}
	if kinds[id] == kindVarint {
		n, _, _ = varint(all[0])
		return n, true
	}
	for _, b := range all[0] {
		n = n<<8 | int(b)
	}
	return n, true
}

// Ints returns the values of every numeric property with that identifier.
func (p Props) Ints(id byte) []int {
	var all []int
	for _, v := range p.All(id) {
		n, _ := Props{{id, v}}.Int(id)
		all = append(all, n)
	}
	return all
}

// Text returns the value of a string or binary property without its length,
// and whether it is there.
func (p Props) Text(id byte) (s string, ok bool) {
	all := p.All(id)
	if len(all) == 0 {
		return "", false
	}
	return string(all[0][2:]), true
}

// Users returns the user properties in order.
func (p Props) Users() [][2]string {
	var all [][2]string
	for _, v := range p.All(UserPropertyID) {
		n := 2 + int(binary.BigEndian.Uint16(v))
		all = append(all, [2]string{string(v[2:n]), string(v[n+2:])})
	}
	return all
}

// allowed says which packets from a server may carry a property (MQTT 5,
// table 2-4), so that a server that sends one in a wrong place is found.
var allowed = map[Type][]byte{
	CONNACK: {SessionExpiryID, AssignedClientIDID, ServerKeepAliveID, AuthMethodID, AuthDataID, ResponseInfoID, ServerReferenceID,
		ReasonStringID, ReceiveMaximumID, TopicAliasMaximumID, MaximumQoSID, RetainAvailableID, UserPropertyID, MaximumPacketSizeID,
		WildcardSubAvailableID, SubscriptionIDAvailableID, SharedSubAvailableID},
	PUBLISH: {PayloadFormatID, MessageExpiryID, ContentTypeID, ResponseTopicID, CorrelationDataID, SubscriptionIDID, TopicAliasID, UserPropertyID},
	PUBACK:  {ReasonStringID, UserPropertyID}, PUBREC: {ReasonStringID, UserPropertyID}, PUBREL: {ReasonStringID, UserPropertyID},
	PUBCOMP: {ReasonStringID, UserPropertyID}, SUBACK: {ReasonStringID, UserPropertyID}, UNSUBACK: {ReasonStringID, UserPropertyID},
	DISCONNECT: {ServerReferenceID, ReasonStringID, UserPropertyID},
	AUTH:       {AuthMethodID, AuthDataID, ReasonStringID, UserPropertyID},
}

// props reads a property field of a packet from a server.
func (r *cursor) props(t Type) (Props, error) {
	n, err := r.varint()
	if err != nil {
		return nil, err
	}
	field, err := r.take(n)
	if err != nil {
		return nil, fmt.Errorf("properties: %w", err)
	}
	var p Props
	in := cursor{field}
	for len(in.b) > 0 {
		id := in.b[0]
		in.b = in.b[1:]
		rest := in.b
		if err := in.skip(kinds[id]); err != nil {
			return nil, fmt.Errorf("property 0x%02x: %w", id, err)
		}
		if !slices.Contains(allowed[t], id) {
			return nil, fmt.Errorf("property 0x%02x is not for packet type %d", id, t)
		}
		// [MQTT-2.2.2-2]: only these two may be there more than once.
		if p.Has(id) && id != UserPropertyID && (id != SubscriptionIDID || t != PUBLISH) {
			return nil, fmt.Errorf("property 0x%02x is there twice", id)
		}
		p = append(p, Prop{id, rest[: len(rest)-len(in.b) : len(rest)-len(in.b)]})
	}
	return p, nil
}

// skip passes over one value.
func (r *cursor) skip(k kind) (err error) {
	switch k {
	case kindByte:
		_, err = r.take(1)
	case kindU16:
		_, err = r.take(2)
	case kindU32:
		_, err = r.take(4)
	case kindVarint:
		_, err = r.varint()
	case kindString:
		_, err = r.str()
	case kindBinary:
		_, err = r.binary()
	case kindPair:
		if _, err = r.str(); err == nil {
			_, err = r.str()
		}
	default:
		err = fmt.Errorf("no such property")
	}
	return err
}
