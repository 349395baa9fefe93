package protocol

import (
	"encoding/binary"
	"unicode/utf8"
)

// maxString is the greatest length of a string or of binary data, in bytes: it
// has a 16-bit length in front [MQTT 5 §1.5.4, §1.5.6].
const maxString = 1<<16 - 1

// ValidString reports whether s may be sent as a UTF-8 encoded string: at most
// 65,535 bytes of well-formed UTF-8 without surrogates [MQTT-1.5.4-1] and
// without U+0000 [MQTT-1.5.4-2]. Control characters and noncharacters, which
// senders should avoid but receivers may let pass, are let pass, and so is
// U+FEFF, which is never stripped [MQTT-1.5.4-3].
func ValidString[T ~string | ~[]byte](s T) bool {
	return len(s) <= maxString && validText([]byte(s))
}

// Eight bytes at a time: a byte of 0x80 or more has its high bit set, and taking
// 1 from each byte sets the high bit of one that is 0. The last eight may overlap
// those before them.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

func validText(b []byte) bool {
	if len(b) < 8 {
		for _, c := range b {
			if c-1 >= 0x7F { // 0, or not ASCII
				return validUnicode(b)
			}
		}
		return true
	}
	for rest := b; ; rest = rest[8:] {
		if len(rest) < 8 {
			rest = b[len(b)-8:]
		}
		x := binary.LittleEndian.Uint64(rest)
		if (x|(x-ones))&highs != 0 {
			return validUnicode(b)
		}
		if len(rest) == 8 {
			return true
		}
	}
}

func validUnicode(b []byte) bool {
	zero, _ := findAny(b)
	return !zero && utf8.Valid(b)
}

// findAny looks for U+0000 and for the wildcards. It is a plain loop because a
// string is given to it without a copy only where the compiler sees that all it
// meets leaves its bytes alone, and it does not see into assembly.
func findAny(b []byte) (zero, wildcard bool) {
	for _, c := range b {
		zero = zero || c == 0
		wildcard = wildcard || c == '+' || c == '#'
	}
	return zero, wildcard
}
