package protocol

import (
	"errors"
	"fmt"
)

// Version is a protocol version as CONNECT carries it: the protocol level. The
// zero value stands for a connection whose CONNECT was not read yet.
type Version byte

const (
	V31  Version = 3
	V311 Version = 4
	V5   Version = 5
)

// String returns the number that people use: "3.1", "3.1.1" or "5.0".
func (v Version) String() string {
	switch v {
	case V31:
		return "3.1"
	case V311:
		return "3.1.1"
	case V5:
		return "5.0"
	}
	return fmt.Sprintf("level %d", byte(v))
}

// Type is the type of a control packet, 1 to 15 [MQTT 5 §2.1.2].
type Type byte

const (
	CONNECT Type = 1 + iota
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

var typeNames = [16]string{
	CONNECT: "CONNECT", CONNACK: "CONNACK", PUBLISH: "PUBLISH", PUBACK: "PUBACK",
	PUBREC: "PUBREC", PUBREL: "PUBREL", PUBCOMP: "PUBCOMP", SUBSCRIBE: "SUBSCRIBE",
	SUBACK: "SUBACK", UNSUBSCRIBE: "UNSUBSCRIBE", UNSUBACK: "UNSUBACK",
	PINGREQ: "PINGREQ", PINGRESP: "PINGRESP", DISCONNECT: "DISCONNECT", AUTH: "AUTH",
}

// String returns the name in the specification.
func (t Type) String() string {
	if t >= CONNECT && t <= AUTH {
		return typeNames[t]
	}
	return fmt.Sprintf("type %d", byte(t))
}

// QoS is a quality of service: 0, 1 or 2.
type QoS = byte

// UserProperty is a name and a value that MQTT passes on without looking at
// them. Names may repeat and the order counts.
type UserProperty struct{ Key, Value string }

// Packet is a control packet.
type Packet interface {
	// Type is the packet's type.
	Type() Type

	// Decode parses body, the h.Length bytes behind the fixed header h, and
	// replaces all of the receiver. Fields of type []byte refer to body;
	// strings are copies. The error is an [*Error], and the receiver then
	// holds nothing to rely on unless the type says so.
	Decode(h Header, body []byte, v Version) error

	// Append appends the whole packet, fixed header included, to dst. The
	// error wraps [ErrEncode], and dst is then returned as it was.
	Append(dst []byte, v Version) ([]byte, error)
}

// Decode parses the body of a packet of any type into a value of its own; see
// [Packet] for what refers to body.
func Decode(h Header, body []byte, v Version) (Packet, error) {
	p, err := newPacket(h.Type)
	if err != nil {
		return nil, err
	}
	if err := p.Decode(h, body, v); err != nil {
		return nil, err
	}
	return p, nil
}

// AppendPacket appends p to dst; see [Packet].
func AppendPacket(dst []byte, p Packet, v Version) ([]byte, error) { return p.Append(dst, v) }

func newPacket(t Type) (Packet, error) {
	switch t {
	case CONNECT:
		return new(Connect), nil
	case CONNACK:
		return new(Connack), nil
	case PUBLISH:
		return new(Publish), nil
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		return new(Ack), nil
	case SUBSCRIBE:
		return new(Subscribe), nil
	case SUBACK:
		return new(Suback), nil
	case UNSUBSCRIBE:
		return new(Unsubscribe), nil
	case UNSUBACK:
		return new(Unsuback), nil
	case PINGREQ:
		return new(Pingreq), nil
	case PINGRESP:
		return new(Pingresp), nil
	case DISCONNECT:
		return new(Disconnect), nil
	case AUTH:
		return new(Auth), nil
	}
	return nil, malformed("reserved packet type")
}

// Error is a fault of the peer.
type Error struct {
	// Code is the reason code that answers the fault. Where the version has
	// no reason codes the connection is closed.
	Code ReasonCode
	// Detail says what was wrong, in constant words: it never holds bytes of
	// the peer and may go into logs and reason strings.
	Detail string
}

// Error returns the reason code's name and the detail.
func (e *Error) Error() string { return e.Code.String() + ": " + e.Detail }

// ErrEncode is wrapped by every error of Append: the packet has no form on the
// wire in that version. The connection is unharmed.
var ErrEncode = errors.New("protocol: packet can not be encoded")

func encodeError(detail string) error { return fmt.Errorf("%w: %s", ErrEncode, detail) }

func malformed(detail string) *Error { return &Error{MalformedPacket, detail} }

func violation(detail string) *Error { return &Error{ProtocolError, detail} }
