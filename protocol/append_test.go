package protocol

import (
	"errors"
	"strings"
	"testing"
)

// checkAppendRefused checks that Append refused and left "front" as it was.
func checkAppendRefused(t *testing.T, got []byte, err error) {
	t.Helper()
	if !errors.Is(err, ErrEncode) {
		t.Errorf("error %v, want one that wraps ErrEncode", err)
	}
	if string(got) != "front" {
		t.Errorf("returned %d bytes that are not what was given", len(got))
	}
}

// What has no form on the wire is refused whole: nothing is cut short, nothing
// spills into the next field.
func TestAppendRefuses(t *testing.T) {
	long := strings.Repeat("x", 65536)
	longBytes := []byte(long)
	huge := make([]byte, maxVarint)
	users := []UserProperty{{Key: long, Value: "v"}}
	filters := []SubscribeFilter{{Filter: "a"}}
	codes := []ReasonCode{Success}
	connect := func(change func(*Connect)) *Connect {
		c := &Connect{Version: V5, ClientID: "c", RequestProblemInfo: true}
		change(c)
		return c
	}
	will := func(w Will) *Connect { return connect(func(c *Connect) { c.Will = &w }) }
	tests := []struct {
		name, clause string
		v            Version
		p            Packet
	}{
		{"connect, no version", "[MQTT-3.1.2-2]", V5, &Connect{}},
		{"connect, client identifier too long", "5 §1.5.4", V5, connect(func(c *Connect) { c.ClientID = long })},
		{"connect, client identifier not UTF-8", "[MQTT-3.1.3-4]", V5, connect(func(c *Connect) { c.ClientID = "\xff" })},
		{"connect, user name too long", "5 §1.5.4", V5, connect(func(c *Connect) { c.Username, c.HasUsername = long, true })},
		{"connect, password too long", "5 §1.5.6", V5, connect(func(c *Connect) { c.Password, c.HasPassword = longBytes, true })},
		{"connect, user property too long", "5 §1.5.7", V5, connect(func(c *Connect) { c.User = users })},
		{"connect, method too long", "5 §1.5.4", V5, connect(func(c *Connect) { c.AuthMethod, c.HasAuthMethod = long, true })},
		{"connect, data without a method", "5 §3.1.2.11.10", V5, connect(func(c *Connect) { c.HasAuthData = true })},
		{"connect 3.1.1, password without a user name", "[MQTT-3.1.2-22]", V311, connect(func(c *Connect) { c.Version, c.HasPassword = V311, true })},
		{"connect, will QoS 3", "[MQTT-3.1.2-12]", V5, will(Will{Topic: "w", QoS: 3})},
		{"connect, will QoS 4", "[MQTT-3.1.2-12]", V5, will(Will{Topic: "w", QoS: 4})},
		{"connect, will topic empty", "[MQTT-4.7.3-1]", V5, will(Will{})},
		{"connect, will topic with a wildcard", "[MQTT-4.7.0-1]", V5, will(Will{Topic: "#"})},
		{"connect, will topic too long", "[MQTT-4.7.3-3]", V5, will(Will{Topic: long})},
		{"connect, will payload too long", "5 §1.5.6", V5, will(Will{Topic: "w", Payload: longBytes})},

		{"connack, session present although refused", "[MQTT-3.2.2-6]", V5, &Connack{SessionPresent: true, Code: NotAuthorized}},
		{"connack, code of SUBACK", "[MQTT-3.2.2-8]", V5, &Connack{Code: GrantedQoS1}},
		{"connack 3.1.1, code of SUBACK", "3.1.1 §3.2.2.3", V311, &Connack{Code: NoSubscriptionExisted}},
		{"connack, receive maximum 0", "5 §3.2.2.3.3", V5, &Connack{ReceiveMaximum: new(uint16(0))}},
		{"connack, maximum QoS 2", "[MQTT-3.2.2-9]", V5, &Connack{MaximumQoS: new(byte(2))}},
		{"connack, maximum packet size 0", "5 §3.2.2.3.6", V5, &Connack{MaximumPacketSize: new(uint32(0))}},
		{"connack, reason too long", "5 §1.5.4", V5, &Connack{Reason: long}},
		{"connack, data too long", "5 §1.5.6", V5, &Connack{AuthData: longBytes}},

		{"publish, QoS 3", "[MQTT-3.3.1-4]", V5, &Publish{Topic: []byte("a"), QoS: 3, PacketID: 1}},
		{"publish, DUP with QoS 0", "[MQTT-3.3.1-2]", V5, &Publish{Topic: []byte("a"), Dup: true}},
		{"publish, QoS 1 without a packet identifier", "[MQTT-2.2.1-4]", V5, &Publish{Topic: []byte("a"), QoS: 1}},
		{"publish, QoS 0 with a packet identifier", "[MQTT-2.2.1-2]", V5, &Publish{Topic: []byte("a"), PacketID: 1}},
		{"publish, topic too long", "[MQTT-4.7.3-3]", V311, &Publish{Topic: longBytes}},
		{"publish, neither topic nor alias", "[MQTT-4.7.3-1]", V5, &Publish{}},
		{"publish 3.1.1, alias without a topic", "[MQTT-4.7.3-1]", V311, &Publish{TopicAlias: 1, HasTopicAlias: true}},
		{"publish, alias 0", "[MQTT-3.3.2-8]", V5, &Publish{Topic: []byte("a"), HasTopicAlias: true}},
		{"publish, subscription identifier 0", "5 §3.3.2.3.8", V5, &Publish{Topic: []byte("a"), SubscriptionIDs: []uint32{0}}},
		{"publish, subscription identifier too great", "5 §3.3.2.3.8", V5, &Publish{Topic: []byte("a"), SubscriptionIDs: []uint32{maxVarint + 1}}},
		{"publish, too long as a whole", "5 §2.1.4", V311, &Publish{Topic: []byte("a"), Payload: huge}},

		{"puback, no packet identifier", "[MQTT-2.2.1-5]", V5, &Ack{Kind: PUBACK}},
		{"ack of no kind", "5 §3.4", V5, &Ack{PacketID: 1}},
		{"ack of another kind", "5 §3.4", V5, &Ack{Kind: SUBACK, PacketID: 1}},
		{"pubrel, code of PUBACK", "[MQTT-3.6.2-1]", V5, &Ack{Kind: PUBREL, PacketID: 1, Code: QuotaExceeded}},
		{"puback, reason too long", "5 §1.5.4", V5, &Ack{Kind: PUBACK, PacketID: 1, Reason: long}},

		{"subscribe, no packet identifier", "[MQTT-2.2.1-3]", V5, &Subscribe{Filters: filters}},
		{"subscribe, no filter", "[MQTT-3.8.3-2]", V5, &Subscribe{PacketID: 1}},
		{"subscribe, filter too long", "[MQTT-4.7.3-3]", V5, &Subscribe{PacketID: 1, Filters: []SubscribeFilter{{Filter: long}}}},
		{"subscribe, QoS 3", "5 §3.8.3.1", V5, &Subscribe{PacketID: 1, Filters: []SubscribeFilter{{Filter: "a", QoS: 3}}}},
		{"subscribe, QoS 4", "5 §3.8.3.1", V5, &Subscribe{PacketID: 1, Filters: []SubscribeFilter{{Filter: "a", QoS: 4}}}},
		{"subscribe 3.1.1, QoS 3", "[MQTT-3-8.3-4]", V311, &Subscribe{PacketID: 1, Filters: []SubscribeFilter{{Filter: "a", QoS: 3}}}},
		{"subscribe, retain handling 3", "5 §3.8.3.1", V5, &Subscribe{PacketID: 1, Filters: []SubscribeFilter{{Filter: "a", RetainHandling: 3}}}},
		{"subscribe, retain handling 16", "5 §3.8.3.1", V5, &Subscribe{PacketID: 1, Filters: []SubscribeFilter{{Filter: "a", RetainHandling: 16}}}},
		{"subscribe, no local on a shared subscription", "[MQTT-3.8.3-4]", V5, &Subscribe{PacketID: 1, Filters: []SubscribeFilter{{Filter: "$share/g/a", NoLocal: true}}}},
		{"subscribe, identifier too great", "5 §3.8.2.1.2", V5, &Subscribe{PacketID: 1, ID: maxVarint + 1, Filters: filters}},
		{"suback, no packet identifier", "5 §2.2.1", V5, &Suback{Codes: codes}},
		{"suback, no codes", "[MQTT-3.8.4-6]", V5, &Suback{PacketID: 1}},
		{"suback, code of UNSUBACK", "[MQTT-3.9.3-2]", V5, &Suback{PacketID: 1, Codes: []ReasonCode{NoSubscriptionExisted}}},
		{"suback, user property too long", "5 §1.5.7", V5, &Suback{PacketID: 1, Codes: codes, User: users}},

		{"unsubscribe, no packet identifier", "[MQTT-2.2.1-3]", V5, &Unsubscribe{Filters: []string{"a"}}},
		{"unsubscribe, no filter", "[MQTT-3.10.3-2]", V5, &Unsubscribe{PacketID: 1}},
		{"unsubscribe, filter not UTF-8", "[MQTT-3.10.3-1]", V5, &Unsubscribe{PacketID: 1, Filters: []string{"\xc0\x80"}}},
		{"unsuback, no codes", "5 §3.11.3", V5, &Unsuback{PacketID: 1}},
		{"unsuback, no packet identifier", "5 §2.2.1", V311, &Unsuback{}},
		{"unsuback, code of SUBACK", "[MQTT-3.11.3-2]", V5, &Unsuback{PacketID: 1, Codes: []ReasonCode{GrantedQoS2}}},

		{"disconnect, code of CONNACK", "[MQTT-3.14.2-1]", V5, &Disconnect{Code: Banned}},
		{"disconnect, reason too long", "5 §1.5.4", V5, &Disconnect{Reason: long}},
		{"auth before MQTT 5", "3.1.1 §2.2.1", V311, &Auth{Code: ContinueAuthentication, Method: "m"}},
		{"auth, code of CONNACK", "[MQTT-3.15.2-1]", V5, &Auth{Code: Banned, Method: "m"}},
		{"auth, data too long", "5 §1.5.6", V5, &Auth{Method: "m", Data: longBytes, HasData: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := AppendPacket([]byte("front"), tt.p, tt.v)
			checkAppendRefused(t, got, err)
		})
	}
}

// A length has four bytes at most [MQTT 5 §1.5.5].
func TestEncoderTooLong(t *testing.T) {
	e := encoder{dst: []byte("front"), b: make([]byte, 2+maxVarint+1)}
	got, err := e.end()
	checkAppendRefused(t, got, err)
}

// The longest things that fit do fit.
func TestAppendLimits(t *testing.T) {
	longest := strings.Repeat("x", 65535)
	for name, p := range map[string]Packet{
		"publish":    &Publish{Topic: []byte(longest), Payload: make([]byte, 1<<21)},
		"disconnect": &Disconnect{Reason: longest, User: []UserProperty{{longest, longest}}},
		"subscribe":  &Subscribe{PacketID: 65535, ID: maxVarint, Filters: []SubscribeFilter{{Filter: longest}, {Filter: longest}}},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := p.Append(nil, V5)
			if err != nil {
				t.Fatal(err)
			}
			h, size, err := ParseHeader(b, V5, uint32(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			checkRoundTrip(t, h, b[size:], V5)
		})
	}
}

// Versions before 5 have no place for properties and codes: a message crosses
// from a newer client to an older one without them.
func TestAppendLeavesOutWhatTheVersionHasNot(t *testing.T) {
	tests := []struct {
		name, wire string
		p          Packet
	}{
		{"publish", `30 [ "a" 'x' ]`, &Publish{Topic: []byte("a"), Payload: []byte("x"), HasMessageExpiry: true,
			Properties: []byte{1, 1}, SubscriptionIDs: []uint32{1}, TopicAlias: 1, HasTopicAlias: true}},
		{"puback", `40 02 0001`, &Ack{Kind: PUBACK, PacketID: 1, Code: QuotaExceeded, Reason: "r"}},
		{"connack", `20 02 00 03`, &Connack{Code: ServerBusy, Reason: "r", ReceiveMaximum: new(uint16(1))}},
		{"subscribe", `82 [ 0001 "a" 01 ]`, &Subscribe{PacketID: 1, ID: 3, Filters: []SubscribeFilter{{Filter: "a", QoS: 1, NoLocal: true, RetainHandling: 2}}}},
		{"suback", `90 [ 0001 02 80 80 ]`, &Suback{PacketID: 1, Codes: []ReasonCode{GrantedQoS2, ImplementationSpecificError, WildcardSubscriptionsNotSupported}, Reason: "r"}},
		{"unsuback", `b0 02 0001`, &Unsuback{PacketID: 1, Codes: []ReasonCode{NoSubscriptionExisted}}},
		{"disconnect", `e0 00`, &Disconnect{Code: SessionTakenOver, Reason: "r"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, v := range []Version{V31, V311} {
				got, err := tt.p.Append(nil, v)
				if err != nil || string(got) != string(wire(t, tt.wire)) {
					t.Errorf("%v: %x, %v; want %s", v, got, err, tt.wire)
				}
			}
		})
	}
}

// Session present came with 3.1.1 [MQTT-3.2.2-2]: 3.1 does not use that byte.
func TestAppendSessionPresent(t *testing.T) {
	for v, want := range map[Version]string{V31: `20 02 00 00`, V311: `20 02 01 00`, V5: `20 03 01 00 00`} {
		got, err := (&Connack{SessionPresent: true}).Append(nil, v)
		if err != nil || string(got) != string(wire(t, want)) {
			t.Errorf("%v: %x, %v; want %s", v, got, err, want)
		}
	}
}

func TestAppendAck(t *testing.T) {
	tests := []struct {
		name, clause string
		v            Version
		kind         Type
		code         ReasonCode
		wire         string
	}{
		{"success has no code", "5 §3.4.2.1", V5, PUBACK, Success, `40 02 0102`},
		{"code", "5 §3.5.2.1", V5, PUBREC, QuotaExceeded, `50 03 0102 97`},
		{"pubrel", "[MQTT-3.6.1-1]", V5, PUBREL, PacketIdentifierNotFound, `62 03 0102 92`},
		{"no codes in 3.1.1", "3.1.1 §3.7", V311, PUBCOMP, PacketIdentifierNotFound, `70 02 0102`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := AppendAck(nil, tt.kind, 0x102, tt.code, tt.v); string(got) != string(wire(t, tt.wire)) {
				t.Errorf("%s: %x, want %s", tt.clause, got, tt.wire)
			}
		})
	}
}
