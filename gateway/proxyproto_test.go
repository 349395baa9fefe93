package gateway

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pires/go-proxyproto"
)

// v2Header is a header of version 2: command and family as they are on the
// wire, then the rest with its true length.
func v2Header(command, family byte, rest []byte) []byte {
	b := append(bytes.Clone(proxyproto.SIGV2), command, family)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(rest))), rest...)
}

var (
	v4Block = []byte{192, 0, 2, 7, 192, 0, 2, 1, 0xC3, 0x50, 0x07, 0x5B} // 192.0.2.7:50000 to 192.0.2.1:1883
	v6Block = append(append(append([]byte{}, net.ParseIP("2001:db8::7")...), net.ParseIP("2001:db8::1")...), 0xC3, 0x50, 0x07, 0x5B)
)

const (
	v2Local, v2Proxy = 0x20, 0x21
	v2TCP4, v2TCP6   = 0x11, 0x21
	v2UDP4, v2Unix   = 0x12, 0x31
)

func TestProxyHeader(t *testing.T) {
	t.Parallel()
	tlv := func(kind byte, value string) []byte {
		return append([]byte{kind, byte(len(value) >> 8), byte(len(value))}, value...)
	}
	longest := strings.Repeat("f", 107-len("PROXY UNKNOWN \r\n"))
	for _, tt := range []struct {
		name   string
		header []byte
		want   string // the client; empty: the socket's address counts
		err    error  // errors.Is; errAny for any
	}{
		{"v1 IPv4", []byte("PROXY TCP4 192.0.2.7 192.0.2.1 50000 1883\r\n"), "192.0.2.7:50000", nil},
		{"v1 IPv6", []byte("PROXY TCP6 2001:db8::7 2001:db8::1 50000 1883\r\n"), "[2001:db8::7]:50000", nil},
		{"v1 unknown", []byte("PROXY UNKNOWN\r\n"), "", nil},
		{"v1 unknown with addresses", []byte("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"), "", nil},
		{"v1 of 107 bytes", []byte("PROXY UNKNOWN " + longest + "\r\n"), "", nil},
		{"v1 of 108 bytes", []byte("PROXY UNKNOWN f" + longest + "\r\n"), "", errProxyHeaderTooLong},
		{"v1 without end", []byte("PROXY TCP4 " + strings.Repeat("1", 5000)), "", errProxyHeaderTooLong},
		{"v1 cut off", []byte("PROXY TCP4 192.0.2.7 192"), "", io.ErrUnexpectedEOF},
		{"v1 no address", []byte("PROXY TCP4 192.0.2.x 192.0.2.1 50000 1883\r\n"), "", proxyproto.ErrInvalidAddress},
		{"v1 other family", []byte("PROXY TCP4 2001:db8::7 2001:db8::1 50000 1883\r\n"), "", proxyproto.ErrInvalidAddress},
		{"v1 zone", []byte("PROXY TCP6 fe80::1%eth0 fe80::2 50000 1883\r\n"), "", proxyproto.ErrInvalidAddress},
		{"v1 control bytes", []byte("PROXY TCP4 192.0.2.7\x1b[2J 192.0.2.1 50000 1883\r\n"), "", proxyproto.ErrInvalidAddress},
		{"v1 port", []byte("PROXY TCP4 192.0.2.7 192.0.2.1 65536 1883\r\n"), "", proxyproto.ErrInvalidPortNumber},
		{"v1 protocol", []byte("PROXY UDP4 192.0.2.7 192.0.2.1 50000 1883\r\n"), "", errAny},
		{"v1 end at once", []byte("PROXY \r\n.......\r\n"), "", errAny},

		{"v2 IPv4", v2Header(v2Proxy, v2TCP4, v4Block), "192.0.2.7:50000", nil},
		{"v2 IPv6", v2Header(v2Proxy, v2TCP6, v6Block), "[2001:db8::7]:50000", nil},
		{"v2 local", v2Header(v2Local, 0, nil), "", nil},
		{"v2 local with addresses", v2Header(v2Local, v2TCP4, v4Block), "", nil},
		{"v2 local with a short block", v2Header(v2Local, v2TCP4, []byte{1}), "", nil},
		{"v2 datagrams", v2Header(v2Proxy, v2UDP4, v4Block), "", nil},
		{"v2 unix socket", v2Header(v2Proxy, v2Unix, bytes.Repeat([]byte("\x1b"), 216)), "", nil},
		{"v2 control bytes in a TLV", v2Header(v2Proxy, v2TCP4, append(bytes.Clone(v4Block), tlv(0x02, "a\r\nX: \x1b[2J\x00")...)), "192.0.2.7:50000", nil},
		{"v2 TLV without end", v2Header(v2Proxy, v2TCP4, append(bytes.Clone(v4Block), 0x02, 0xFF, 0xFF, 'x')), "192.0.2.7:50000", nil},
		{"v2 of the greatest length", v2Header(v2Proxy, v2TCP4, append(bytes.Clone(v4Block), make([]byte, proxyV2Longest-12)...)), "192.0.2.7:50000", nil},
		{"v2 too long", v2Header(v2Proxy, v2TCP4, append(bytes.Clone(v4Block), make([]byte, proxyV2Longest-11)...)), "", errProxyHeaderTooLong},
		{"v2 of 64 KiB", v2Header(v2Local, 0, make([]byte, 65535)), "", errProxyHeaderTooLong},
		{"v2 block too short", v2Header(v2Proxy, v2TCP6, v4Block), "", errAny},
		{"v2 no family", v2Header(v2Proxy, 0, nil), "", errAny},
		{"v2 unknown family", v2Header(v2Proxy, 0x13, v4Block), "", errAny},
		{"v2 unknown command", v2Header(0x22, v2TCP4, v4Block), "", errAny},
		{"version 3", v2Header(0x31, v2TCP4, v4Block), "", errAny},
		{"v2 cut off before its length", v2Header(v2Proxy, v2TCP4, nil)[:15], "", io.ErrUnexpectedEOF},
		{"v2 cut off", v2Header(v2Proxy, v2TCP4, v4Block)[:20], "", io.ErrUnexpectedEOF},

		{"nothing", nil, "", io.EOF},
		{"CONNECT", []byte("\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00"), "", errNoProxyHeader},
		{"TLS", []byte("\x16\x03\x01\x02\x00"), "", errNoProxyHeader},
		{"HTTP POST", []byte("POST /"), "", errNoProxyHeader},
		{"almost v2", append(bytes.Clone(proxyproto.SIGV2[:11]), 'X'), "", errNoProxyHeader},
		{"two bytes", []byte("PR"), "", io.ErrUnexpectedEOF},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			const behind = "\x10\x00what follows"
			wire := tt.header
			if tt.err == nil {
				wire = append(bytes.Clone(wire), behind...)
			}
			for _, way := range []struct {
				name string
				of   func(io.Reader) io.Reader
			}{
				{"at once", func(r io.Reader) io.Reader { return r }},
				{"byte by byte", iotest.OneByteReader},
				{"halves", iotest.HalfReader},
				{"error with the data", iotest.DataErrReader},
			} {
				source := bytes.NewReader(wire)
				got, err := readProxyHeader(way.of(source))
				text := ""
				if got != nil {
					text = got.String()
				}
				if text != tt.want || (err == nil) != (tt.err == nil) || tt.err != errAny && !errors.Is(err, tt.err) {
					t.Fatalf("%s: %q, %v, want %q, %v", way.name, text, err, tt.want, tt.err)
				}
				if rest, _ := io.ReadAll(source); err == nil && way.name == "at once" && string(rest) != behind {
					t.Errorf("%q is left, want %q", rest, behind)
				}
			}
		})
	}
}

// errAny stands for whatever error comes.
var errAny = errors.New("any error")

// TestProxyHeaderAtFirstByte: what is no header is known as soon as it
// differs, without waiting for as many bytes as a header has.
func TestProxyHeaderAtFirstByte(t *testing.T) {
	t.Parallel()
	open, other := net.Pipe()
	defer other.Close()
	go other.Write([]byte{0x10}) // And no more.
	if _, err := readProxyHeader(open); !errors.Is(err, errNoProxyHeader) {
		t.Error(err)
	}
}
