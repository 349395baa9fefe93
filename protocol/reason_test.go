package protocol

import (
	"slices"
	"strings"
	"testing"
)

// specReasons is table 2-6 of MQTT 5 §2.4, written down again.
var specReasons = []struct {
	code    byte
	name    string
	packets string
}{
	{0x00, "Success", "CONNACK PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK DISCONNECT AUTH"},
	{0x01, "Granted QoS 1", "SUBACK"},
	{0x02, "Granted QoS 2", "SUBACK"},
	{0x04, "Disconnect with Will Message", "DISCONNECT"},
	{0x10, "No matching subscribers", "PUBACK PUBREC"},
	{0x11, "No subscription existed", "UNSUBACK"},
	{0x18, "Continue authentication", "AUTH"},
	{0x19, "Re-authenticate", "AUTH"},
	{0x80, "Unspecified error", "CONNACK PUBACK PUBREC SUBACK UNSUBACK DISCONNECT"},
	{0x81, "Malformed Packet", "CONNACK DISCONNECT"},
	{0x82, "Protocol Error", "CONNACK DISCONNECT"},
	{0x83, "Implementation specific error", "CONNACK PUBACK PUBREC SUBACK UNSUBACK DISCONNECT"},
	{0x84, "Unsupported Protocol Version", "CONNACK"},
	{0x85, "Client Identifier not valid", "CONNACK"},
	{0x86, "Bad User Name or Password", "CONNACK"},
	{0x87, "Not authorized", "CONNACK PUBACK PUBREC SUBACK UNSUBACK DISCONNECT"},
	{0x88, "Server unavailable", "CONNACK"},
	{0x89, "Server busy", "CONNACK DISCONNECT"},
	{0x8A, "Banned", "CONNACK"},
	{0x8B, "Server shutting down", "DISCONNECT"},
	{0x8C, "Bad authentication method", "CONNACK DISCONNECT"},
	{0x8D, "Keep Alive timeout", "DISCONNECT"},
	{0x8E, "Session taken over", "DISCONNECT"},
	{0x8F, "Topic Filter invalid", "SUBACK UNSUBACK DISCONNECT"},
	{0x90, "Topic Name invalid", "CONNACK PUBACK PUBREC DISCONNECT"},
	{0x91, "Packet Identifier in use", "PUBACK PUBREC SUBACK UNSUBACK"},
	{0x92, "Packet Identifier not found", "PUBREL PUBCOMP"},
	{0x93, "Receive Maximum exceeded", "DISCONNECT"},
	{0x94, "Topic Alias invalid", "DISCONNECT"},
	{0x95, "Packet too large", "CONNACK DISCONNECT"},
	{0x96, "Message rate too high", "DISCONNECT"},
	{0x97, "Quota exceeded", "CONNACK PUBACK PUBREC SUBACK DISCONNECT"},
	{0x98, "Administrative action", "DISCONNECT"},
	{0x99, "Payload format invalid", "CONNACK PUBACK PUBREC DISCONNECT"},
	{0x9A, "Retain not supported", "CONNACK DISCONNECT"},
	{0x9B, "QoS not supported", "CONNACK DISCONNECT"},
	{0x9C, "Use another server", "CONNACK DISCONNECT"},
	{0x9D, "Server moved", "CONNACK DISCONNECT"},
	{0x9E, "Shared Subscriptions not supported", "SUBACK DISCONNECT"},
	{0x9F, "Connection rate exceeded", "CONNACK DISCONNECT"},
	{0xA0, "Maximum connect time", "DISCONNECT"},
	{0xA1, "Subscription Identifiers not supported", "SUBACK DISCONNECT"},
	{0xA2, "Wildcard Subscriptions not supported", "SUBACK DISCONNECT"},
}

func TestReasonCodes(t *testing.T) {
	known := make(map[byte]bool)
	for _, r := range specReasons {
		known[r.code] = true
		c := ReasonCode(r.code)
		if c.String() != r.name {
			t.Errorf("%#x is called %q, want %q", r.code, c, r.name)
		}
		for typ := range Type(17) {
			want := slices.Contains(strings.Fields(r.packets), typ.String())
			if c.ValidIn(typ) != want {
				t.Errorf("%v valid in %v: %v, want %v", c, typ, !want, want)
			}
			if c.FromClient(typ) && !want {
				t.Errorf("%v from a client in %v, where it is not valid", c, typ)
			}
		}
	}
	for b := range 256 {
		c := ReasonCode(b)
		if known[byte(b)] {
			continue
		}
		for typ := range Type(17) {
			if c.ValidIn(typ) || c.FromClient(typ) {
				t.Errorf("unknown code %#x is valid in %v", b, typ)
			}
		}
	}
	if got := ReasonCode(0xFE).String(); got != "reason code 0xFE" {
		t.Errorf("unknown code is called %q", got)
	}
}

// The column 'sent by' of table 3-10 (§3.14.2.1) and of table 3-11 (§3.15.2.1).
func TestReasonCodesOfClients(t *testing.T) {
	for typ, want := range map[Type][]ReasonCode{
		DISCONNECT: {0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99},
		AUTH:       {0x18, 0x19},
		CONNACK:    nil,
		SUBACK:     nil,
		UNSUBACK:   nil,
	} {
		var got []ReasonCode
		for b := range 256 {
			if ReasonCode(b).FromClient(typ) {
				got = append(got, ReasonCode(b))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%v: %v, want %v", typ, got, want)
		}
	}
	for _, typ := range []Type{PUBACK, PUBREC, PUBREL, PUBCOMP} {
		for b := range 256 {
			c := ReasonCode(b)
			want := c.ValidIn(typ) && c != NoMatchingSubscribers // §3.4.2.1, §3.5.2.1: only a server can tell
			if c.FromClient(typ) != want {
				t.Errorf("%v from a client in %v: %v, want %v", c, typ, !want, want)
			}
		}
	}
}

// Every code that MQTT 5 has for CONNACK becomes one that 3.1.1 has: 0 for
// success and 1 to 5 for refusals (3.1.1 §3.2.2.3).
func TestConnackV3(t *testing.T) {
	want := map[ReasonCode]byte{
		Success:                    0,
		UnsupportedProtocolVersion: 1,
		ClientIdentifierNotValid:   2,
		ServerUnavailable:          3,
		ServerBusy:                 3,
		ServerShuttingDown:         3,
		ConnectionRateExceeded:     3,
		QuotaExceeded:              3,
		UseAnotherServer:           3,
		ServerMoved:                3,
		BadUserNameOrPassword:      4,
		BadAuthenticationMethod:    4,
		NotAuthorized:              5,
		Banned:                     5,
		TopicNameInvalid:           5,
		1:                          1,
		5:                          5,
	}
	for c, w := range want {
		if got := c.ConnackV3(); got != w {
			t.Errorf("%v: %d, want %d", c, got, w)
		}
	}
	for b := 0x80; b < 256; b++ {
		if got := ReasonCode(b).ConnackV3(); got < 1 || got > 5 {
			t.Errorf("%v: %d is no refusal", ReasonCode(b), got)
		}
	}
}

func TestNames(t *testing.T) {
	for v, want := range map[Version]string{V31: "3.1", V311: "3.1.1", V5: "5.0", 0x84: "level 132"} {
		if v.String() != want {
			t.Errorf("version %d is called %q, want %q", byte(v), v, want)
		}
	}
	if got := Type(0).String() + " " + Type(16).String() + " " + PUBREL.String(); got != "type 0 type 16 PUBREL" {
		t.Errorf("types are called %q", got)
	}
	if got := violation("no").Error(); got != "Protocol Error: no" {
		t.Errorf("error reads %q", got)
	}
}
