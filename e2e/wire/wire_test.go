package wire

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The bytes are written by hand from the standards.
func TestEncode(t *testing.T) {
	tests := []struct {
		name string
		v    Version
		p    Packet
		want string
	}{
		{"3.1", V31, Connect{Version: V31, ClientID: "a", Clean: true, KeepAlive: 10}, "10 0f 0006 4d5149736470 03 02 000a 0001 61"},
		{"3.1.1", V311, Connect{ClientID: "a"}, "10 0d 0004 4d515454 04 00 0000 0001 61"},
		{"5.0", V5, Connect{Version: V5, Props: Props{U32Prop(SessionExpiryID, 5)}}, "10 12 0004 4d515454 05 00 0000 05 11 00000005 0000"},
		{"all fields", V311, Connect{ClientID: "a", Username: new("u"), Password: new(""), Will: &Will{Topic: "w", Payload: "xy", QoS: 2, Retain: true}},
			"10 19 0004 4d515454 04 f4 0000 0001 61 0001 77 0002 7879 0001 75 0000"},
		{"will of 5.0", V5, Connect{Version: V5, Will: &Will{Topic: "w", Props: Props{U32Prop(WillDelayID, 1)}}},
			"10 18 0004 4d515454 05 04 0000 00 0000 05 18 00000001 0001 77 0000"},
		{"PUBLISH 0", V311, Publish{Topic: "a", ID: 9, Payload: "x"}, "30 04 0001 61 78"},
		{"PUBLISH 2", V311, Publish{Topic: "a", QoS: 2, ID: 9, Dup: true, Retain: true}, "3d 05 0001 61 0009"},
		{"PUBLISH of 5.0", V5, Publish{Topic: "a", QoS: 1, ID: 9, Props: Props{User("k", "v"), VarintProp(SubscriptionIDID, 200)}, Payload: "x"},
			"32 11 0001 61 0009 0a 26 0001 6b 0001 76 0b c801 78"},
		{"PUBREL", V311, Pubrel(258), "62 02 0102"},
		{"PUBACK of 5.0, short", V5, Puback(1), "40 02 0001"},
		{"PUBACK of 5.0, code", V5, Puback(1).With(0x10), "40 03 0001 10"},
		{"PUBREC of 5.0, all", V5, Pubrec(1).With(0, StringProp(ReasonStringID, "r")), "50 08 0001 00 04 1f 0001 72"},
		{"SUBSCRIBE", V311, Subscribe{ID: 1, Filters: []Filter{{"a", 1}, {"b", 0xff}}}, "82 0a 0001 0001 61 01 0001 62 ff"},
		{"SUBSCRIBE of 5.0", V5, Sub(1, "a", 1), "82 07 0001 00 0001 61 01"},
		{"UNSUBSCRIBE", V311, Unsub(1, "a"), "a2 05 0001 0001 61"},
		{"PINGREQ", V311, Pingreq{}, "c0 00"},
		{"DISCONNECT", V311, Disconnect{Code: 4}, "e0 00"},
		{"DISCONNECT of 5.0", V5, Disconnect{Code: 4}, "e0 01 04"},
		{"AUTH", V5, Auth{Code: 0x18, Props: Props{StringProp(AuthMethodID, "m")}}, "f0 06 18 04 15 0001 6d"},
		{"frame", V311, Frame{First: 0xff, Body: make([]byte, 200)}, "ff c801" + strings.Repeat("00", 200)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Encode(tt.p, tt.v); !bytes.Equal(got, unhex(t, tt.want)) {
				t.Errorf("got  % x\nwant % x", got, unhex(t, tt.want))
			}
		})
	}
}

func TestRead(t *testing.T) {
	tests := []struct {
		v    Version
		in   string
		want Packet
	}{
		{V311, "20 02 01 00", Connack{SessionPresent: true}},
		{V5, "20 08 00 87 05 11 00000001", Connack{Code: 0x87, Props: Props{U32Prop(SessionExpiryID, 1)}}},
		{V311, "3b 05 0001 61 0007", Publish{Dup: true, QoS: 1, Retain: true, Topic: "a", ID: 7}},
		{V5, "30 0d 0001 61 06 0b 01 0b 02 23 00 78", nil}, // cut alias
		{V5, "30 0a 0001 61 04 0b 01 0b 02 78 79", Publish{Topic: "a", Props: Props{VarintProp(SubscriptionIDID, 1), VarintProp(SubscriptionIDID, 2)}, Payload: "xy"}},
		{V5, "30 06 0000 03 23 0001", Publish{Props: Props{U16Prop(TopicAliasID, 1)}}},
		{V311, "62 02 0001", Pubrel(1)},
		{V5, "50 03 0001 92", Pubrec(1).With(0x92)},
		{V5, "70 04 0001 92 00", Pubcomp(1).With(0x92)},
		{V311, "90 04 0001 02 80", Suback{ID: 1, Codes: []byte{2, 0x80}}},
		{V5, "b0 04 0001 00 11", Unsuback{ID: 1, Codes: []byte{0x11}}},
		{V311, "b0 02 0001", Unsuback{ID: 1}},
		{V311, "d0 00", Pingresp{}},
		{V5, "e0 00", Disconnect{}},
		{V5, "e0 01 8e", Disconnect{Code: 0x8e}},
		{V5, "f0 06 18 04 15 0001 6d", Auth{Code: 0x18, Props: Props{StringProp(AuthMethodID, "m")}}},

		// What no server may send.
		{V311, "10 00", nil},                    // CONNECT
		{V311, "c0 00", nil},                    // PINGREQ
		{V311, "e0 00", nil},                    // DISCONNECT before 5.0
		{V311, "f0 00", nil},                    // AUTH before 5.0
		{V311, "21 02 00 00", nil},              // reserved flags
		{V311, "60 02 0001", nil},               // PUBREL without its flags
		{V311, "20 02 02 00", nil},              // reserved acknowledge flags
		{V31, "20 02 01 00", nil},               // session present before 3.1.1
		{V311, "20 03 00 00 00", nil},           // a byte too many
		{V311, "20 01 00", nil},                 // a byte too few
		{V311, "36 05 0001 61 0007", nil},       // QoS 3
		{V311, "38 03 0001 61", nil},            // DUP at QoS 0
		{V311, "32 05 0001 61 0000", nil},       // identifier 0
		{V311, "30 03 0001 2b", nil},            // topic +
		{V311, "30 02 0000", nil},               // empty topic
		{V311, "30 03 0001 00", nil},            // NUL
		{V311, "30 05 0003 eda080", nil},        // surrogate
		{V311, "90 02 0001", nil},               // no codes
		{V311, "d0 80 00", nil},                 // remaining length not shortest
		{V311, "d0 80 80 80 80 00", nil},        // and too long
		{V5, "20 05 00 00 02 0b 01", nil},       // property of another packet
		{V5, "20 07 00 00 04 24 00 24 00", nil}, // property twice
		{V5, "20 05 00 00 02 7f 00", nil},       // unknown property
		{V5, "20 04 00 00 05 24", nil},          // property length too large
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%d %s", tt.v, tt.in), func(t *testing.T) {
			got, err := Read(bytes.NewReader(unhex(t, tt.in)), tt.v)
			if (err == nil) != (tt.want != nil) {
				t.Fatalf("got %+v and error %v", got, err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %#v\nwant %#v", got, tt.want)
			}
		})
	}
}

func TestProps(t *testing.T) {
	p := Props{User("a", "1"), U16Prop(ReceiveMaximumID, 300), VarintProp(SubscriptionIDID, 70000), User("a", "2"), StringProp(ReasonStringID, "why"), VarintProp(SubscriptionIDID, 1)}
	if n, ok := p.Int(ReceiveMaximumID); n != 300 || !ok {
		t.Errorf("receive maximum %d, %v", n, ok)
	}
	if n := p.Ints(SubscriptionIDID); !reflect.DeepEqual(n, []int{70000, 1}) {
		t.Errorf("subscription identifiers %v", n)
	}
	if s, ok := p.Text(ReasonStringID); s != "why" || !ok {
		t.Errorf("reason string %q, %v", s, ok)
	}
	if u := p.Users(); !reflect.DeepEqual(u, [][2]string{{"a", "1"}, {"a", "2"}}) {
		t.Errorf("user properties %v", u)
	}
	if _, ok := p.Int(MaximumQoSID); ok || p.Has(MaximumQoSID) {
		t.Error("a maximum QoS that is not there")
	}
	r := cursor{p.field(V5)}
	if got, err := r.props(PUBLISH); err == nil {
		t.Errorf("PUBLISH with a receive maximum is accepted: %v", got)
	}
}
