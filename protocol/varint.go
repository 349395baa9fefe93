package protocol

// maxVarint is the greatest variable byte integer, and so the greatest
// remaining length: four bytes of seven bits [MQTT 5 §1.5.5].
const maxVarint = 1<<28 - 1

// uvarint reads a variable byte integer from the start of b. n is its length in
// bytes, 0 if b ends before it does, and -1 if it goes on after four bytes.
func uvarint(b []byte) (x uint32, n int) {
	for i, c := range b {
		if i == 4 {
			return 0, -1
		}
		x |= uint32(c&0x7F) << (7 * i)
		if c < 0x80 {
			return x, i + 1
		}
	}
	if len(b) >= 4 {
		return 0, -1
	}
	return 0, 0
}

// appendUvarint appends x, at most [maxVarint], in its shortest form
// [MQTT-1.5.5-1].
func appendUvarint(dst []byte, x uint32) []byte {
	for x >= 0x80 {
		dst = append(dst, byte(x)|0x80)
		x >>= 7
	}
	return append(dst, byte(x))
}

// uvarintSize is the length of x in its shortest form.
func uvarintSize(x int) int {
	switch {
	case x < 1<<7:
		return 1
	case x < 1<<14:
		return 2
	case x < 1<<21:
		return 3
	}
	return 4
}
