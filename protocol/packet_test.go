package protocol

import (
	"bytes"
	"reflect"
	"testing"
)

// Each accepted packet means what the table says, and appending that gives the
// packet, or its shortest form, again.
func TestAccepted(t *testing.T) {
	for _, r := range accepted {
		t.Run(r.name, func(t *testing.T) {
			b := wire(t, r.wire)
			before := bytes.Clone(b)
			got, err := decodeWhole(b, r.v)
			if err != nil {
				t.Fatalf("%s: refused: %v", r.clause, err)
			}
			if !reflect.DeepEqual(got, r.want) {
				t.Fatalf("%s:\n got %#v\nwant %#v", r.clause, got, r.want)
			}
			if !bytes.Equal(b, before) {
				t.Fatalf("decoding changed the bytes:\n%x\n%x", before, b)
			}
			want := b
			if r.again != "" {
				want = wire(t, r.again)
			}
			front := []byte("front")
			out, err := AppendPacket(front, r.want, r.v)
			if err != nil {
				t.Fatalf("%s: append: %v", r.clause, err)
			}
			if !bytes.Equal(out, append(front, want...)) {
				t.Errorf("%s: append\n got %x\nwant %x", r.clause, out[len(front):], want)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for _, r := range refused {
		t.Run(r.name, func(t *testing.T) {
			got, err := decodeWhole(wire(t, r.wire), r.v)
			if err == nil {
				t.Fatalf("%s: accepted as %#v", r.clause, got)
			}
			if code := codeOf(t, err); code != r.code {
				t.Errorf("%s: refused with %v (%v), want %v", r.clause, code, err, r.code)
			}
		})
	}
}

// Decode does not lean on ParseHeader for what it has to refuse itself.
func TestDecodeChecksTheHeader(t *testing.T) {
	body := wire(t, `"a" 0001 00`)
	tests := []struct {
		name, clause string
		p            Packet
		h            Header
		code         ReasonCode
	}{
		{"publish, QoS 3", "[MQTT-3.3.1-4]", &Publish{}, Header{Type: PUBLISH, Flags: 6, Length: len(body)}, MalformedPacket},
		{"publish, DUP with QoS 0", "[MQTT-3.3.1-2]", &Publish{}, Header{Type: PUBLISH, Flags: 8, Length: len(body)}, ProtocolError},
		{"ack of another type", "5 §3.4", &Ack{}, Header{Type: SUBACK, Length: len(body)}, ProtocolError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.p.Decode(tt.h, body, V5); err == nil || codeOf(t, err) != tt.code {
				t.Errorf("%s: %v, want %v", tt.clause, err, tt.code)
			}
		})
	}
	for _, typ := range []Type{0, 16} {
		if _, err := Decode(Header{Type: typ}, nil, V5); err == nil || codeOf(t, err) != MalformedPacket {
			t.Errorf("type %d: %v, want it refused as malformed", typ, err)
		}
	}
}

// A refused CONNECT tells how it wants to be answered.
func TestConnectVersionOfRefusal(t *testing.T) {
	tests := []struct {
		name, clause, wire string
		version            Version
		code               ReasonCode
	}{
		{"no MQTT", "[MQTT-3.1.2-1]", `10 [ "HTTP" 05 02 003c [] "" ]`, 0, MalformedPacket},
		{"cut inside the name", "[MQTT-3.1.2-1]", `10 [ 0004 'MQ' ]`, 0, MalformedPacket},
		{"cut behind the name", "[MQTT-3.1.2-1]", `10 [ "MQTT" ]`, 0, MalformedPacket},
		{"level 0", "[MQTT-3.1.2-2]", `10 [ "MQTT" 00 ]`, 0, UnsupportedProtocolVersion},
		{"level 6", "[MQTT-3.1.2-2]", `10 [ "MQTT" 06 ]`, 6, UnsupportedProtocolVersion},
		{"level of a bridge", "[MQTT-3.1.2-2]", `10 [ "MQIsdp" 83 ]`, 0x83, UnsupportedProtocolVersion},
		{"3.1", "3.1 §3.1", `10 [ "MQIsdp" 03 02 ]`, V31, MalformedPacket},
		{"3.1.1", "[MQTT-3.1.2-3]", `10 [ "MQTT" 04 03 003c "c" ]`, V311, MalformedPacket},
		{"5", "5 §3.1.2.11.3", `10 [ "MQTT" 05 02 003c [ 21 0000 ] "c" ]`, V5, ProtocolError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := wire(t, tt.wire)
			h, size, err := ParseHeader(b, 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			var c Connect
			if err = c.Decode(h, b[size:], 0); err == nil {
				t.Fatalf("%s: accepted", tt.clause)
			}
			if code := codeOf(t, err); code != tt.code || c.Version != tt.version {
				t.Errorf("%s: version %d and %v, want %d and %v", tt.clause, c.Version, code, tt.version, tt.code)
			}
		})
	}
}

// Every prefix of a packet's body, declared as the whole, is refused or means
// something that survives a round trip; and so is every body with a byte more.
// Nothing panics.
func TestCutAndStretched(t *testing.T) {
	for _, r := range accepted {
		b := wire(t, r.wire)
		h, size, err := ParseHeader(b, 0, 0)
		if r.v == V31 && err != nil {
			h, size, err = ParseHeader(b, r.v, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		body := b[size:]
		for n := range body {
			checkRoundTrip(t, h, body[:n:n], r.v)
		}
		checkRoundTrip(t, h, append(body[:len(body):len(body)], 0), r.v)
	}
}

// checkRoundTrip decodes body. If that works, the packet can be appended, what
// was appended decodes to the same packet, and appends to the same bytes.
func checkRoundTrip(t testing.TB, h Header, body []byte, v Version) {
	t.Helper()
	h.Length = len(body)
	p, err := Decode(h, body, v)
	if err != nil {
		codeOf(t, err)
		return
	}
	if c, ok := p.(*Connect); ok {
		v = c.Version
	}
	first, err := p.Append(nil, v)
	if err != nil {
		t.Fatalf("%v %x can not be appended: %v", h.Type, body, err)
	}
	again, err := decodeWhole(first, v)
	if err != nil {
		t.Fatalf("%v %x became %x: %v", h.Type, body, first, err)
	}
	if !reflect.DeepEqual(p, again) {
		t.Fatalf("%v %x became another packet\n%#v\n%#v", h.Type, body, p, again)
	}
	second, err := again.Append(nil, v)
	if err != nil || !bytes.Equal(first, second) {
		t.Fatalf("%v %x appended as %x and then %x, %v", h.Type, body, first, second, err)
	}
	if pub, ok := p.(*Publish); ok && pub.Size(v) != len(first) {
		t.Fatalf("%x has Size %d, and %d bytes", body, pub.Size(v), len(first))
	}
}
