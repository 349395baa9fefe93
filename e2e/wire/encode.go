package wire

import (
	"encoding/binary"
	"slices"
)

// Encode returns the bytes of a packet, remaining length included.
func Encode(p Packet, v Version) []byte {
	first, body := p.frame(v)
	return slices.Concat([]byte{first}, Varint(len(body)), body)
}

// U16 is a two byte integer.
func U16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

// U32 is a four byte integer.
func U32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// Str is a string or binary field with its two byte length, which wraps above
// 65,535. The content is not checked.
func Str(s string) []byte { return append(U16(uint16(len(s))), s...) }

// Varint is a variable byte integer in the shortest form.
func Varint(n int) []byte {
	var b []byte
	for {
		d := byte(n & 0x7f)
		if n >>= 7; n == 0 {
			return append(b, d)
		}
		b = append(b, d|0x80)
	}
}

// Cat joins the pieces of a hand-made body.
func Cat(parts ...[]byte) []byte { return slices.Concat(parts...) }

func bit(b bool, n uint) byte {
	if b {
		return 1 << n
	}
	return 0
}

func (p Frame) frame(Version) (byte, []byte) { return p.First, p.Body }

func (p Connect) level() Version {
	if p.Version == 0 {
		return V311
	}
	return p.Version
}

// Body is the variable header and payload, for tests that spoil a byte of it.
func (p Connect) Body() []byte {
	v, name := p.level(), p.Name
	if name == "" {
		if name = "MQTT"; v == V31 {
			name = "MQIsdp"
		}
	}
	flags := bit(p.Clean, 1) | bit(p.Password != nil, 6) | bit(p.Username != nil, 7)
	if w := p.Will; w != nil {
		flags |= 1<<2 | w.QoS<<3 | bit(w.Retain, 5)
	}
	b := Cat(Str(name), []byte{byte(v), flags}, U16(p.KeepAlive), p.Props.field(v), Str(p.ClientID))
	if w := p.Will; w != nil {
		b = Cat(b, w.Props.field(v), Str(w.Topic), Str(w.Payload))
	}
	if p.Username != nil {
		b = append(b, Str(*p.Username)...)
	}
	if p.Password != nil {
		b = append(b, Str(*p.Password)...)
	}
	return b
}

func (p Connect) frame(Version) (byte, []byte) { return 0x10, p.Body() }

func (p Connack) frame(v Version) (byte, []byte) {
	return 0x20, Cat([]byte{bit(p.SessionPresent, 0), p.Code}, p.Props.field(v))
}

func (p Publish) frame(v Version) (byte, []byte) {
	b := Str(p.Topic)
	if p.QoS > 0 {
		b = append(b, U16(p.ID)...)
	}
	return 0x30 | bit(p.Dup, 3) | p.QoS<<1 | bit(p.Retain, 0), Cat(b, p.Props.field(v), []byte(p.Payload))
}

func (p Ack) frame(v Version) (byte, []byte) {
	first := byte(p.Type) << 4
	if p.Type == PUBREL {
		first |= 2
	}
	return first, append(U16(p.ID), ending(p.Code, p.Props, v)...)
}

// ending is the reason code and properties of a 5.0 packet that may leave out
// either.
func ending(code byte, props Props, v Version) []byte {
	switch {
	case v != V5 || code == 0 && len(props) == 0:
		return nil
	case len(props) == 0:
		return []byte{code}
	}
	return append([]byte{code}, props.field(v)...)
}

func (p Subscribe) frame(v Version) (byte, []byte) {
	b := append(U16(p.ID), p.Props.field(v)...)
	for _, f := range p.Filters {
		b = append(append(b, Str(f.Topic)...), f.Options)
	}
	return 0x82, b
}

func (p Suback) frame(v Version) (byte, []byte) {
	return 0x90, Cat(U16(p.ID), p.Props.field(v), p.Codes)
}

func (p Unsubscribe) frame(v Version) (byte, []byte) {
	b := append(U16(p.ID), p.Props.field(v)...)
	for _, f := range p.Filters {
		b = append(b, Str(f)...)
	}
	return 0xA2, b
}

func (p Unsuback) frame(v Version) (byte, []byte) {
	return 0xB0, Cat(U16(p.ID), p.Props.field(v), p.Codes)
}

func (Pingreq) frame(Version) (byte, []byte)  { return 0xC0, nil }
func (Pingresp) frame(Version) (byte, []byte) { return 0xD0, nil }

func (p Disconnect) frame(v Version) (byte, []byte) { return 0xE0, ending(p.Code, p.Props, v) }
func (p Auth) frame(v Version) (byte, []byte)       { return 0xF0, ending(p.Code, p.Props, v) }

// Spoiled is a CONNECT with a hand-made body. Answers are read as those to
// the version it came from.
type Spoiled struct {
	Connect
	body []byte
}

// WithBody replaces the body, see [Connect.Body].
func (p Connect) WithBody(body []byte) Spoiled { return Spoiled{p, body} }

func (p Spoiled) frame(Version) (byte, []byte) { return 0x10, p.body }
