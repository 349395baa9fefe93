package protocol

import "encoding/binary"

// cursor reads a body from front to back. After its first fault it holds no
// bytes any more, all reads return zero values, and err stays: fields are read
// in a row and the fault is asked for once.
type cursor struct {
	b   []byte
	err *Error
}

// fail notes a fault, if it is the first: what was missing reads as 0, and 0 may
// look like another fault.
func (c *cursor) fail(err *Error) {
	if c.err == nil {
		c.err = err
	}
	c.b = nil
}

func (c *cursor) truncated() { c.fail(malformed("packet ends inside a field")) }

// end returns the fault, bytes left over included.
func (c *cursor) end() error {
	if len(c.b) != 0 {
		c.fail(malformed("bytes after the last field"))
	}
	if c.err != nil {
		return c.err
	}
	return nil
}

func (c *cursor) uint8() byte {
	if len(c.b) < 1 {
		c.truncated()
		return 0
	}
	x := c.b[0]
	c.b = c.b[1:]
	return x
}

func (c *cursor) uint16() uint16 {
	if len(c.b) < 2 {
		c.truncated()
		return 0
	}
	x := binary.BigEndian.Uint16(c.b)
	c.b = c.b[2:]
	return x
}

func (c *cursor) uint32() uint32 {
	if len(c.b) < 4 {
		c.truncated()
		return 0
	}
	x := binary.BigEndian.Uint32(c.b)
	c.b = c.b[4:]
	return x
}

// varint reads a variable byte integer in its shortest form [MQTT-1.5.5-1].
func (c *cursor) varint() uint32 {
	x, n := uvarint(c.b)
	switch {
	case n == 0:
		c.truncated()
		return 0
	case n < 0:
		c.fail(malformed("variable byte integer of more than four bytes"))
		return 0
	case n > 1 && c.b[n-1] == 0:
		c.fail(malformed("variable byte integer not in its shortest form"))
		return 0
	}
	c.b = c.b[n:]
	return x
}

// take returns the next n bytes, never nil unless they are missing. Appending
// to them does not reach the bytes behind.
func (c *cursor) take(n int) []byte {
	if n > len(c.b) {
		c.truncated()
		return nil
	}
	x := c.b[:n:n]
	c.b = c.b[n:]
	return x
}

// binary reads binary data; the result refers to the body.
func (c *cursor) binary() []byte {
	n := int(c.uint16())
	return c.take(n)
}

// text reads a UTF-8 encoded string; the result refers to the body.
func (c *cursor) text() []byte {
	s := c.binary()
	if !validText(s) {
		c.fail(malformed("string is not valid UTF-8 or contains U+0000"))
		return nil
	}
	return s
}

// string is text, copied.
func (c *cursor) string() string { return string(c.text()) }

// packetID reads a packet identifier, which is never 0 [MQTT-2.2.1-3].
func (c *cursor) packetID() uint16 {
	id := c.uint16()
	if id == 0 {
		c.fail(violation("packet identifier 0"))
	}
	return id
}

// countEntries counts the entries of a list at the front of b: each is a string
// followed by extra bytes. The list need not be well-formed; the count is then
// at least that of its well-formed entries.
func countEntries(b []byte, extra int) (n int) {
	for len(b) >= 2 {
		b = b[min(2+int(binary.BigEndian.Uint16(b))+extra, len(b)):]
		n++
	}
	return n
}
