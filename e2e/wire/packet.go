package wire

// Version is the protocol level byte of CONNECT.
type Version byte

// The three levels that exist.
const (
	V31  Version = 3
	V311 Version = 4
	V5   Version = 5
)

// Type is a packet type: the high four bits of the first byte.
type Type byte

// The packet types of all versions (AUTH is MQTT 5 only, 0 is forbidden).
const (
	CONNECT Type = iota + 1
	CONNACK
	PUBLISH
	PUBACK
	PUBREC
	PUBREL
	PUBCOMP
	SUBSCRIBE
	SUBACK
	UNSUBSCRIBE
	UNSUBACK
	PINGREQ
	PINGRESP
	DISCONNECT
	AUTH
)

// Packet is anything a test sends or receives.
type Packet interface {
	// frame gives the first byte and what follows the remaining length.
	frame(v Version) (first byte, body []byte)
}

// Connect opens a session. Fields are sent as they stand: an illegal mixture
// is sent, not refused. For what the fields can not say use [Frame].
type Connect struct {
	// Version is the protocol level. Zero means V311.
	Version Version
	// Name is the protocol name. Empty means the right one for Version.
	Name     string
	ClientID string
	// Clean is Clean Session in 3.x and Clean Start in 5.0.
	Clean bool
	// KeepAlive is in seconds. Zero turns it off.
	KeepAlive uint16
	// Username and Password are absent when nil.
	Username, Password *string
	Will               *Will
	// Props is sent in 5.0 only, as in every other packet.
	Props Props
}

// Will is the message a server publishes when the connection is lost.
type Will struct {
	Topic, Payload string
	QoS            byte
	Retain         bool
	Props          Props
}

// Connack answers CONNECT. Code is a return code in 3.x, a reason code in 5.0.
type Connack struct {
	SessionPresent bool
	Code           byte
	Props          Props
}

// Publish carries a message. ID is on the wire only for QoS > 0.
type Publish struct {
	Dup     bool
	QoS     byte
	Retain  bool
	Topic   string
	ID      uint16
	Props   Props
	Payload string
}

// Ack is one of PUBACK, PUBREC, PUBREL and PUBCOMP. In 5.0 the shortest form
// that can hold Code and Props is sent; 3.x has neither.
type Ack struct {
	Type  Type
	ID    uint16
	Code  byte
	Props Props
}

// Puback acknowledges a QoS 1 message.
func Puback(id uint16) Ack { return Ack{Type: PUBACK, ID: id} }

// Pubrec is the first answer to a QoS 2 message.
func Pubrec(id uint16) Ack { return Ack{Type: PUBREC, ID: id} }

// Pubrel releases a QoS 2 message.
func Pubrel(id uint16) Ack { return Ack{Type: PUBREL, ID: id} }

// Pubcomp ends a QoS 2 exchange.
func Pubcomp(id uint16) Ack { return Ack{Type: PUBCOMP, ID: id} }

// With returns the same acknowledgement with a reason code and properties.
func (a Ack) With(code byte, props ...Prop) Ack {
	a.Code, a.Props = code, props
	return a
}

// Filter is one row of SUBSCRIBE. Options is the whole byte: the QoS, and in
// 5.0 No Local (4), Retain As Published (8) and Retain Handling (16, 32).
type Filter struct {
	Topic   string
	Options byte
}

// Subscribe asks for messages.
type Subscribe struct {
	ID      uint16
	Props   Props
	Filters []Filter
}

// Sub is a SUBSCRIBE of one filter.
func Sub(id uint16, filter string, options byte) Subscribe {
	return Subscribe{ID: id, Filters: []Filter{{filter, options}}}
}

// Suback answers SUBSCRIBE with one code a filter.
type Suback struct {
	ID    uint16
	Props Props
	Codes []byte
}

// Unsubscribe ends subscriptions.
type Unsubscribe struct {
	ID      uint16
	Props   Props
	Filters []string
}

// Unsub is an UNSUBSCRIBE.
func Unsub(id uint16, filters ...string) Unsubscribe {
	return Unsubscribe{ID: id, Filters: filters}
}

// Unsuback answers UNSUBSCRIBE. Codes is there in 5.0 only.
type Unsuback struct {
	ID    uint16
	Props Props
	Codes []byte
}

// Pingreq asks the server whether it is there.
type Pingreq struct{}

// Pingresp says that it is.
type Pingresp struct{}

// Disconnect ends a connection. Code and Props exist in 5.0 only, where the
// shortest form that can hold them is sent.
type Disconnect struct {
	Code  byte
	Props Props
}

// Auth carries a step of enhanced authentication (5.0).
type Auth struct {
	Code  byte
	Props Props
}

// Frame is a packet of any content with a correct remaining length. For a
// wrong length use [Client.SendRaw].
type Frame struct {
	First byte
	Body  []byte
}
