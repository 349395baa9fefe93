package protocol

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"unicode"
)

// wire turns the notation of the tables into bytes:
//
//	3a 003c     hexadecimal digits
//	"abc"       a string with its two byte length in front
//	'abc'       the bare characters
//	[ ... ]     a variable byte integer with the length of what is inside,
//	            and then that
//	(n*xx)      n times the byte xx
//
// It shares no code with the package.
func wire(t testing.TB, s string) []byte {
	t.Helper()
	b, rest := wireGroup(t, s)
	if rest != "" {
		t.Fatalf("unbalanced ] in %q", s)
	}
	return b
}

func wireGroup(t testing.TB, s string) (b []byte, rest string) {
	t.Helper()
	for {
		s = strings.TrimLeftFunc(s, unicode.IsSpace)
		if s == "" {
			return b, ""
		}
		switch s[0] {
		case ']':
			return b, s[1:] + " "
		case '[':
			var inner []byte
			inner, s = wireGroup(t, s[1:])
			b = append(binary.AppendUvarint(b, uint64(len(inner))), inner...)
		case '"', '\'':
			text, after, ok := strings.Cut(s[1:], s[:1])
			if !ok {
				t.Fatalf("open quote in %q", s)
			}
			if s[0] == '"' {
				b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
			}
			b, s = append(b, text...), after
		case '(':
			inner, after, _ := strings.Cut(s[1:], ")")
			var n int
			var x byte
			for i, part := range strings.Split(inner, "*") {
				if i == 0 {
					for _, d := range part {
						n = n*10 + int(d-'0')
					}
					continue
				}
				x = fromHex(t, part)[0]
			}
			b, s = append(b, strings.Repeat(string([]byte{x}), n)...), after
		default:
			end := strings.IndexAny(s, " \t\n[]\"'(")
			if end < 0 {
				end = len(s)
			}
			b, s = append(b, fromHex(t, s[:end])...), s[end:]
		}
	}
}

func fromHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return b
}

// decodeWhole decodes b, which must be one packet and no more.
func decodeWhole(b []byte, v Version) (Packet, error) {
	at := v
	if len(b) > 0 && Type(b[0]>>4) == CONNECT {
		at = 0
	}
	h, size, err := ParseHeader(b, at, 0)
	if err != nil {
		return nil, err
	}
	if size == 0 || size+h.Length != len(b) {
		return nil, errors.New("not one whole packet")
	}
	return Decode(h, b[size:], v)
}

// codeOf is the reason code of an *Error; it fails the test for other errors.
func codeOf(t testing.TB, err error) ReasonCode {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v (%T) is not an *Error", err, err)
	}
	if e.Detail == "" {
		t.Fatalf("error %v has no detail", err)
	}
	return e.Code
}

// The notation is itself checked, against bytes written out in full: the
// CONNECT of MQTT 3.1.1 §3.1.2, and a length of two bytes.
func TestWireNotation(t *testing.T) {
	for in, want := range map[string]string{
		`10 [ "MQTT" 04 02 003c "a" ]`: "100d00044d515454040200" + "3c000161",
		`30 [ "a" (200*78) ]`:          "30cb01000161" + strings.Repeat("78", 200),
		`'ab' [ [ 01 ] ]`:              "6162020101",
	} {
		if got := hex.EncodeToString(wire(t, in)); got != want {
			t.Errorf("%s\n got %s\nwant %s", in, got, want)
		}
	}
}
