package protocol

import "encoding/binary"

// encoder appends one packet. Its first fault stays, and makes end return the
// bytes that it was given. Lengths in front of what they measure are filled in
// when that is complete.
type encoder struct {
	dst   []byte
	b     []byte
	err   error
	start int
}

func encode(dst []byte, t Type, flags byte) encoder {
	return encoder{dst: dst, b: append(dst, byte(t)<<4|flags, 0), start: len(dst)}
}

func (e *encoder) fail(detail string) {
	if e.err == nil {
		e.err = encodeError(detail)
	}
}

// end completes the fixed header.
func (e *encoder) end() ([]byte, error) {
	e.fill(e.start + 1)
	if e.err != nil {
		return e.dst, e.err
	}
	return e.b, nil
}

// fill puts the number of bytes behind the one at position at in its place.
func (e *encoder) fill(at int) {
	n := len(e.b) - at - 1
	if n > maxVarint {
		e.fail("packet longer than 268,435,455 bytes")
		return
	}
	if n < 0x80 {
		e.b[at] = byte(n)
		return
	}
	size := uvarintSize(n)
	e.b = append(e.b, "   "[:size-1]...)
	copy(e.b[at+size:], e.b[at+1:])
	appendUvarint(e.b[:at], uint32(n))
}

func (e *encoder) uint8(x byte) { e.b = append(e.b, x) }

func (e *encoder) uint16(x uint16) { e.b = binary.BigEndian.AppendUint16(e.b, x) }

func (e *encoder) uint32(x uint32) { e.b = binary.BigEndian.AppendUint32(e.b, x) }

func (e *encoder) packetID(id uint16) {
	if id == 0 {
		e.fail("packet identifier 0")
	}
	e.uint16(id)
}

func (e *encoder) text(s string) {
	if !ValidString(s) {
		e.fail("string too long, not valid UTF-8 or with U+0000")
		return
	}
	e.uint16(uint16(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) binary(b []byte) {
	if len(b) > maxString {
		e.fail("binary data longer than 65,535 bytes")
		return
	}
	e.uint16(uint16(len(b)))
	e.b = append(e.b, b...)
}

// properties starts a property section; fill ends it.
func (e *encoder) properties() (at int) {
	e.uint8(0)
	return len(e.b) - 1
}

func (e *encoder) property8(id, x byte) { e.b = append(e.b, id, x) }

func (e *encoder) propertyFlag(id byte, x bool) { e.property8(id, bit(x, 0)) }

func (e *encoder) property16(id byte, x uint16) {
	e.uint8(id)
	e.uint16(x)
}

func (e *encoder) property32(id byte, x uint32) {
	e.uint8(id)
	e.uint32(x)
}

func (e *encoder) propertyText(id byte, s string) {
	e.uint8(id)
	e.text(s)
}

// propertyNonEmpty leaves an empty string out.
func (e *encoder) propertyNonEmpty(id byte, s string) {
	if s != "" {
		e.propertyText(id, s)
	}
}

func (e *encoder) propertyBinary(id byte, b []byte) {
	e.uint8(id)
	e.binary(b)
}

func (e *encoder) users(us []UserProperty) {
	for i := range us {
		e.propertyText(propUser, us[i].Key)
		e.text(us[i].Value)
	}
}

// bit is 1<<n if x is set.
func bit(x bool, n uint) byte {
	if x {
		return 1 << n
	}
	return 0
}
