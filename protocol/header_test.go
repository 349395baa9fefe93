package protocol

import (
	"math/rand/v2"
	"testing"
)

func TestParseHeader(t *testing.T) {
	tests := []struct {
		name, clause string
		wire         string
		v            Version
		limit        uint32
		want         Header
		size         int
		code         ReasonCode // Success: no error
	}{
		{"nothing yet", "5 §2.1.1", ``, V5, 0, Header{}, 0, Success},
		{"half a header", "5 §2.1.1", `30`, V5, 0, Header{}, 0, Success},
		{"length goes on", "5 §1.5.5", `30 80`, V5, 0, Header{}, 0, Success},
		{"length goes on further", "5 §1.5.5", `30 ffffff`, V5, 0, Header{}, 0, Success},
		{"no body", "5 §2.1.4", `c000`, V5, 0, Header{Type: PINGREQ}, 2, Success},
		{"more behind it", "5 §2.1.4", `3d 7f 00 00 00`, V5, 0, Header{Type: PUBLISH, Flags: 0xD, Length: 127}, 2, Success},
		{"two bytes", "5 §1.5.5", `30 8001`, V5, 0, Header{Type: PUBLISH, Length: 128}, 3, Success},
		{"three bytes", "5 §1.5.5", `30 ffff7f`, V5, 0, Header{Type: PUBLISH, Length: 2097151}, 4, Success},
		{"four bytes", "5 §1.5.5", `30 ffffff7f`, V5, 0, Header{Type: PUBLISH, Length: maxVarint}, 5, Success},
		{"five bytes", "5 §1.5.5", `30 8080808001`, V5, 0, Header{}, 0, MalformedPacket},
		{"five bytes, seen after four", "5 §1.5.5", `30 80808080`, V311, 0, Header{}, 0, MalformedPacket},
		{"padded", "[MQTT-1.5.5-1]", `30 8500`, V5, 0, Header{}, 0, MalformedPacket},
		{"padded in 3.1.1", "3.1.1 §2.2.3", `30 8500`, V311, 0, Header{Type: PUBLISH, Length: 5, padded: true}, 3, Success},
		{"at the limit", "[MQTT-3.1.2-24]", `30 0a`, V5, 12, Header{Type: PUBLISH, Length: 10}, 2, Success},
		{"above the limit", "[MQTT-3.1.2-24]", `30 0b`, V5, 12, Header{}, 0, PacketTooLarge},
		{"length alone at the limit", "[MQTT-3.1.2-24]", `30 0c`, V5, 12, Header{}, 0, PacketTooLarge},
		{"256 MiB before login", "5 §3.1.4", `10 ffffff7f`, 0, 65536, Header{}, 0, PacketTooLarge},
		{"greatest limit", "[MQTT-3.1.2-24]", `30 ffffff7f`, V5, 1<<32 - 1, Header{Type: PUBLISH, Length: maxVarint}, 5, Success},
		{"type 0, seen at once", "5 §2.1.2", `0f`, 0, 0, Header{}, 0, MalformedPacket},
		{"AUTH in 3.1.1, seen at once", "3.1.1 §2.2.1", `f0`, V311, 0, Header{}, 0, MalformedPacket},
		{"AUTH before the version is known", "5 §2.1.2", `f000`, 0, 0, Header{Type: AUTH}, 2, Success},
		{"TLS handshake", "[MQTT-2.1.3-1]", `16 0301`, 0, 0, Header{}, 0, MalformedPacket},
		{"HTTP", "[MQTT-2.1.3-1]", `'GET / HTTP/1.1'`, 0, 0, Header{}, 0, MalformedPacket},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, size, err := ParseHeader(wire(t, tt.wire), tt.v, tt.limit)
			if tt.code != Success {
				if err == nil || codeOf(t, err) != tt.code || size != 0 {
					t.Fatalf("%s: size %d, %v; want %v", tt.clause, size, err, tt.code)
				}
				return
			}
			if err != nil || h != tt.want || size != tt.size {
				t.Fatalf("%s: %+v, size %d, %v; want %+v, %d", tt.clause, h, size, err, tt.want, tt.size)
			}
		})
	}
}

// Table 2-2 of MQTT 5 [MQTT-2.1.3-1] for each of the 256 first bytes, with what
// §3.3.1 says of PUBLISH and MQTT 3.1 of DUP.
func TestFirstByte(t *testing.T) {
	for b := range 256 {
		typ, flags := Type(b>>4), byte(b&0xF)
		for _, v := range []Version{0, V31, V311, V5} {
			want := MalformedPacket
			switch typ {
			case 0:
			case PUBLISH:
				dup, qos := flags>>3, flags>>1&3
				switch {
				case qos == 3: // [MQTT-3.3.1-4]
				case dup == 1 && qos == 0: // [MQTT-3.3.1-2]
					want = ProtocolError
				default:
					want = Success
				}
			case PUBREL, SUBSCRIBE, UNSUBSCRIBE:
				if flags == 2 || v == V31 && flags == 0xA {
					want = Success
				}
			case AUTH:
				if flags == 0 && (v == V5 || v == 0) {
					want = Success
				}
			default:
				if flags == 0 {
					want = Success
				}
			}
			_, _, err := ParseHeader([]byte{byte(b)}, v, 0)
			if want == Success && err != nil || want != Success && (err == nil || codeOf(t, err) != want) {
				t.Errorf("%02x in %v: %v, want %v", b, v, err, want)
			}
		}
	}
}

// Every number comes back from its shortest form, which has the length that
// uvarintSize says [MQTT-1.5.5-1].
func TestVarint(t *testing.T) {
	check := func(x uint32) {
		b := appendUvarint(nil, x)
		got, n := uvarint(append(b, 0xFF))
		if got != x || n != len(b) || n != uvarintSize(int(x)) || n > 1 && b[n-1] == 0 {
			t.Errorf("%d: % x reads as %d in %d bytes", x, b, got, n)
		}
		for i := range b {
			if _, n := uvarint(b[:i]); n != 0 {
				t.Errorf("%d: % x cut to %d bytes reads as %d bytes", x, b, i, n)
			}
		}
	}
	for _, x := range []uint32{0, 1, 127, 128, 16383, 16384, 2097151, 2097152, maxVarint} {
		check(x)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 10000 {
		check(rnd.Uint32N(maxVarint+1) >> rnd.UintN(28))
	}
}
