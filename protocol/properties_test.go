package protocol

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// specProperties is table 2-4 of MQTT 5 §2.2.2.2, written down again: the
// identifier, a value in the notation of wire, and the packets.
var specProperties = []struct {
	id      byte
	value   string
	packets string
}{
	{0x01, "01", "PUBLISH will"},
	{0x02, "00000001", "PUBLISH will"},
	{0x03, `"t"`, "PUBLISH will"},
	{0x08, `"r"`, "PUBLISH will"},
	{0x09, `"d"`, "PUBLISH will"},
	{0x0B, "01", "PUBLISH SUBSCRIBE"},
	{0x11, "00000001", "CONNECT CONNACK DISCONNECT"},
	{0x12, `"c"`, "CONNACK"},
	{0x13, "0001", "CONNACK"},
	{0x15, `"m"`, "CONNECT CONNACK AUTH"},
	{0x16, `"d"`, "CONNECT CONNACK AUTH"},
	{0x17, "01", "CONNECT"},
	{0x18, "00000001", "will"},
	{0x19, "01", "CONNECT"},
	{0x1A, `"i"`, "CONNACK"},
	{0x1C, `"s"`, "CONNACK DISCONNECT"},
	{0x1F, `"r"`, "CONNACK PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK DISCONNECT AUTH"},
	{0x21, "0001", "CONNECT CONNACK"},
	{0x22, "0001", "CONNECT CONNACK"},
	{0x23, "0001", "PUBLISH"},
	{0x24, "01", "CONNACK"},
	{0x25, "01", "CONNACK"},
	{0x26, `"k" "v"`, "CONNECT CONNACK PUBLISH will PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE UNSUBACK DISCONNECT AUTH"},
	{0x27, "00000001", "CONNECT CONNACK"},
	{0x28, "01", "CONNACK"},
	{0x29, "01", "CONNACK"},
	{0x2A, "01", "CONNACK"},
}

// carriers are packets with room for properties at the %s.
var carriers = map[string]string{
	"CONNECT":     `10 [ "MQTT" 05 02 003c [ %s ] "c" ]`,
	"will":        `10 [ "MQTT" 05 06 003c [] "c" [ %s ] "w" 0000 ]`,
	"CONNACK":     `20 [ 00 00 [ %s ] ]`,
	"PUBLISH":     `30 [ "a" [ %s ] ]`,
	"PUBACK":      `40 [ 0001 00 [ %s ] ]`,
	"PUBREC":      `50 [ 0001 00 [ %s ] ]`,
	"PUBREL":      `62 [ 0001 00 [ %s ] ]`,
	"PUBCOMP":     `70 [ 0001 00 [ %s ] ]`,
	"SUBSCRIBE":   `82 [ 0001 [ %s ] "a" 00 ]`,
	"SUBACK":      `90 [ 0001 [ %s ] 00 ]`,
	"UNSUBSCRIBE": `a2 [ 0001 [ %s ] "a" ]`,
	"UNSUBACK":    `b0 [ 0001 [ %s ] 00 ]`,
	"DISCONNECT":  `e0 [ 00 [ %s ] ]`,
	"AUTH":        `f0 [ 18 [ %s ] ]`,
}

// Every property in every packet, once and twice. One that does not belong
// there is malformed (§2.2.2.2); a second one is a protocol error (each of the
// properties' own sections), except for user properties [MQTT-3.3.2-18] and the
// subscription identifiers of a PUBLISH [MQTT-3.3.4-3].
func TestEveryPropertyInEveryPacket(t *testing.T) {
	for carrier, packet := range carriers {
		for _, p := range specProperties {
			t.Run(fmt.Sprintf("%s/%02x", carrier, p.id), func(t *testing.T) {
				property := fmt.Sprintf("%02x %s ", p.id, p.value)
				method := "" // these two packets want one
				if p.id != 0x15 && (carrier == "AUTH" || carrier == "CONNECT" && p.id == 0x16) {
					method = `15 "m" `
				}
				once := fmt.Sprintf(packet, method+property)
				_, err := decodeWhole(wire(t, once), V5)
				if !slices.Contains(strings.Fields(p.packets), carrier) {
					if err == nil || codeOf(t, err) != MalformedPacket {
						t.Fatalf("%s: %v, want it refused as malformed", once, err)
					}
					return
				}
				if err != nil {
					t.Fatalf("%s: %v", once, err)
				}
				twice := fmt.Sprintf(packet, method+property+property)
				_, err = decodeWhole(wire(t, twice), V5)
				if p.id == 0x26 || p.id == 0x0B && carrier == "PUBLISH" {
					if err != nil {
						t.Fatalf("%s: %v", twice, err)
					}
				} else if err == nil || codeOf(t, err) != ProtocolError {
					t.Fatalf("%s: %v, want a protocol error", twice, err)
				}
				// Without the last byte of its value it is malformed.
				b := wire(t, method+property)
				cut := fmt.Sprintf(packet, fmt.Sprintf("%x", b[:len(b)-1]))
				if _, err = decodeWhole(wire(t, cut), V5); err == nil || codeOf(t, err) != MalformedPacket {
					t.Fatalf("%s: %v, want it refused as malformed", cut, err)
				}
			})
		}
	}
}

// Identifiers that the specification does not have are malformed in every
// packet (§2.2.2.2), and so are those that it has in a longer form
// [MQTT-1.5.5-1].
func TestUnknownProperties(t *testing.T) {
	var known [128]bool
	for _, p := range specProperties {
		known[p.id] = true
	}
	ids := []string{"8001", "ffffff7f", "8101", "a600 \"k\" \"v\"", "8080808001", "ff"}
	for id, k := range known {
		if !k {
			ids = append(ids, fmt.Sprintf("%02x 00", id))
		}
	}
	for carrier, packet := range carriers {
		for _, id := range ids {
			s := fmt.Sprintf(packet, id)
			_, err := decodeWhole(wire(t, s), V5)
			if err == nil || codeOf(t, err) != MalformedPacket {
				t.Errorf("%s: %s: %v, want it refused as malformed", carrier, s, err)
			} else if len(id) == 5 && err.Error() != "Malformed Packet: unknown property" {
				t.Errorf("%s: %s: %v, want it called unknown", carrier, s, err)
			}
		}
	}
}

// MaxUserProperties is counted over the whole packet, a will included.
func TestTooManyUserProperties(t *testing.T) {
	users := func(n int) string { return strings.Repeat(`26 "k" "v" `, n) }
	tests := []struct {
		name, wire string
		refused    bool
	}{
		{"publish, as many as allowed", fmt.Sprintf(carriers["PUBLISH"], users(MaxUserProperties)), false},
		{"publish, one more", fmt.Sprintf(carriers["PUBLISH"], users(MaxUserProperties+1)), true},
		{"publish, 64 KiB of them", fmt.Sprintf(carriers["PUBLISH"], users(9362)), true},
		{"disconnect, one more", fmt.Sprintf(carriers["DISCONNECT"], users(MaxUserProperties+1)), true},
		{"connect and will, as many as allowed", `10 [ "MQTT" 05 06 003c [ ` + users(60) + ` ] "c" [ ` + users(4) + ` ] "w" 0000 ]`, false},
		{"connect and will, one more", `10 [ "MQTT" 05 06 003c [ ` + users(60) + ` ] "c" [ ` + users(5) + ` ] "w" 0000 ]`, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := decodeWhole(wire(t, tt.wire), V5)
			if tt.refused != (err != nil) {
				t.Fatalf("got %v, want refused %v", err, tt.refused)
			}
			if err != nil && codeOf(t, err) != ImplementationSpecificError {
				t.Fatalf("got %v, want %v", err, ImplementationSpecificError)
			}
		})
	}
}

func TestMessageProperties(t *testing.T) {
	tests := []struct {
		name, clause, wire string
		code               ReasonCode // Success: accepted
	}{
		{"none", "5 §3.3.2.3", ``, Success},
		{"all", "[MQTT-3.3.2-4]", `01 01 03 "t" 08 "r" 09 0001 00 26 "b" "2" 26 "a" "1" 26 "b" "2"`, Success},
		{"empty ones", "5 §3.3.2.3", `01 00 03 "" 09 0000 26 "" ""`, Success},
		{"message expiry", "5 §2.2.2.2", `02 00000001`, MalformedPacket},
		{"topic alias", "5 §2.2.2.2", `23 0001`, MalformedPacket},
		{"subscription identifier", "5 §2.2.2.2", `0b 01`, MalformedPacket},
		{"will delay", "5 §2.2.2.2", `18 00000001`, MalformedPacket},
		{"truncated", "5 §2.2.2.2", `03 0002 61`, MalformedPacket},
		{"twice", "5 §3.3.2.3.2", `01 00 01 00`, ProtocolError},
		{"response topic with a wildcard", "[MQTT-3.3.2-14]", `08 "+"`, ProtocolError},
		{"response topic empty", "[MQTT-4.7.3-1]", `08 ""`, ProtocolError},
		{"payload format 255", "5 §3.3.2.3.2", `01 ff`, ProtocolError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := wire(t, tt.wire)
			m, err := ParseMessageProperties(b)
			if tt.code != Success {
				if err == nil || codeOf(t, err) != tt.code {
					t.Fatalf("%s: %v, want %v", tt.clause, err, tt.code)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s: %v", tt.clause, err)
			}
			if again, err := AppendMessageProperties(nil, &m); err != nil || string(again) != string(b) {
				t.Fatalf("%s: appended as %x, %v; want %x", tt.clause, again, err, b)
			}
		})
	}
}

func TestAppendMessagePropertiesRefuses(t *testing.T) {
	long := strings.Repeat("x", 65536)
	tests := map[string]MessageProperties{
		"payload format":      {PayloadFormat: 2, HasPayloadFormat: true},
		"content type":        {ContentType: long, HasContentType: true},
		"response topic":      {ResponseTopic: long, HasResponseTopic: true},
		"response wildcard":   {ResponseTopic: "a/#", HasResponseTopic: true},
		"correlation":         {Correlation: []byte(long), HasCorrelation: true},
		"user property name":  {User: []UserProperty{{Key: long}}},
		"user property value": {User: []UserProperty{{Value: "\x00"}}},
	}
	for name, m := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := AppendMessageProperties([]byte("front"), &m)
			checkAppendRefused(t, got, err)
		})
	}
}
