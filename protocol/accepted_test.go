package protocol

// row is a packet that is accepted, and its meaning.
type row struct {
	name   string
	clause string
	v      Version
	wire   string
	want   Packet
	// again is what Append makes of want where that is not wire: packets
	// have longer forms that say the same.
	again string
}

var accepted = []row{
	// CONNECT
	{name: "connect 3.1", clause: "3.1 §3.1", v: V31,
		wire: `10 [ "MQIsdp" 03 02 003c "c" ]`,
		want: &Connect{Version: V31, CleanStart: true, KeepAlive: 60, ClientID: "c", ReceiveMaximum: 65535, RequestProblemInfo: true}},
	{name: "connect 3.1, credentials promised and missing", clause: "3.1 §3.1", v: V31,
		wire: `10 [ "MQIsdp" 03 c0 003c "c" ]`, again: `10 [ "MQIsdp" 03 00 003c "c" ]`,
		want: &Connect{Version: V31, KeepAlive: 60, ClientID: "c", ReceiveMaximum: 65535, RequestProblemInfo: true}},
	{name: "connect 3.1, password promised and missing", clause: "3.1 §3.1", v: V31,
		wire: `10 [ "MQIsdp" 03 c0 003c "c" "u" ]`, again: `10 [ "MQIsdp" 03 80 003c "c" "u" ]`,
		want: &Connect{Version: V31, KeepAlive: 60, ClientID: "c", Username: "u", HasUsername: true, ReceiveMaximum: 65535, RequestProblemInfo: true}},
	{name: "connect 3.1, bits of a will that is not there", clause: "3.1 §3.1", v: V31,
		wire: `10 [ "MQIsdp" 03 3b 003c "c" ]`, again: `10 [ "MQIsdp" 03 02 003c "c" ]`,
		want: &Connect{Version: V31, CleanStart: true, KeepAlive: 60, ClientID: "c", ReceiveMaximum: 65535, RequestProblemInfo: true}},
	{name: "connect 3.1.1, everything", clause: "[MQTT-3.1.3-1]", v: V311,
		wire: `10 [ "MQTT" 04 f6 ffff "client" "w/t" 0002 00ff "user" 0002 0001 ]`,
		want: &Connect{Version: V311, CleanStart: true, KeepAlive: 65535, ClientID: "client",
			Will:     &Will{QoS: 2, Retain: true, Topic: "w/t", Payload: []byte{0, 0xFF}},
			Username: "user", HasUsername: true, Password: []byte{0, 1}, HasPassword: true,
			ReceiveMaximum: 65535, RequestProblemInfo: true}},
	{name: "connect 3.1.1, bytes written out", clause: "[MQTT-3.1.2-1]", v: V311,
		wire: `10 0c 00 04 4d 51 54 54 04 02 00 0a 00 00`,
		want: &Connect{Version: V311, CleanStart: true, KeepAlive: 10, ReceiveMaximum: 65535, RequestProblemInfo: true}},
	{name: "connect 5, least", clause: "[MQTT-3.1.2-1]", v: V5,
		wire: `10 0d 00 04 4d 51 54 54 05 02 00 0a 00 00 00`,
		want: &Connect{Version: V5, CleanStart: true, KeepAlive: 10, ReceiveMaximum: 65535, RequestProblemInfo: true}},
	{name: "connect 5, all properties", clause: "5 §3.1.2.11", v: V5,
		wire: `10 [ "MQTT" 05 02 003c
			[ 11 ffffffff  21 000a  27 00010000  22 0005  19 01  17 00  15 "SCRAM"  16 0002 0102  26 "k" "v"  26 "k" "" ]
			"c" ]`,
		want: &Connect{Version: V5, CleanStart: true, KeepAlive: 60, ClientID: "c",
			SessionExpiry: 0xFFFFFFFF, HasSessionExpiry: true, ReceiveMaximum: 10, MaximumPacketSize: 65536,
			TopicAliasMaximum: 5, RequestResponseInfo: true, RequestProblemInfo: false,
			AuthMethod: "SCRAM", HasAuthMethod: true, AuthData: []byte{1, 2}, HasAuthData: true,
			User: []UserProperty{{"k", "v"}, {"k", ""}}}},
	{name: "connect 5, defaults spelled out", clause: "5 §3.1.2.11", v: V5,
		wire: `10 [ "MQTT" 05 00 0000 [ 21 ffff 22 0000 19 00 17 01 ] "" ]`, again: `10 [ "MQTT" 05 00 0000 [] "" ]`,
		want: &Connect{Version: V5, ReceiveMaximum: 65535, RequestProblemInfo: true}},
	{name: "connect 5, will with all properties", clause: "5 §3.1.3.2", v: V5,
		wire: `10 [ "MQTT" 05 0c 0000 [] "c"
			[ 18 00000005  02 0000000a  01 01  03 "text"  08 "re/ply"  09 0001 ff  26 "a" "b" ]
			"w" 0002 'hi' ]`,
		want: &Connect{Version: V5, ClientID: "c", ReceiveMaximum: 65535, RequestProblemInfo: true,
			Will: &Will{QoS: 1, Topic: "w", Payload: []byte("hi"), Delay: 5, MessageExpiry: 10, HasMessageExpiry: true,
				Properties: []byte("\x01\x01\x03\x00\x04text\x08\x00\x06re/ply\x09\x00\x01\xff\x26\x00\x01a\x00\x01b")}}},
	{name: "connect 5, will properties in pieces", clause: "5 §2.2.2.2", v: V5,
		wire:  `10 [ "MQTT" 05 04 0000 [] "c" [ 01 01 18 00000005 26 "a" "b" ] "w" 0000 ]`,
		again: `10 [ "MQTT" 05 04 0000 [] "c" [ 18 00000005 01 01 26 "a" "b" ] "w" 0000 ]`,
		want: &Connect{Version: V5, ClientID: "c", ReceiveMaximum: 65535, RequestProblemInfo: true,
			Will: &Will{Topic: "w", Payload: []byte{}, Delay: 5, Properties: []byte("\x01\x01\x26\x00\x01a\x00\x01b")}}},
	{name: "connect 5, password without a user name", clause: "5 §3.1.2.9", v: V5,
		wire: `10 [ "MQTT" 05 40 0000 [] "" 0001 ff ]`,
		want: &Connect{Version: V5, Password: []byte{0xFF}, HasPassword: true, ReceiveMaximum: 65535, RequestProblemInfo: true}},
	{name: "connect 3.1.1, empty user name and password", clause: "[MQTT-3.1.3-11]", v: V311,
		wire: `10 [ "MQTT" 04 c0 0000 "c" "" "" ]`,
		want: &Connect{Version: V311, ClientID: "c", HasUsername: true, Password: []byte{}, HasPassword: true, ReceiveMaximum: 65535, RequestProblemInfo: true}},
	{name: "connect 3.1.1, length not in its shortest form", clause: "3.1.1 §2.2.3", v: V311,
		wire: `10 8c00 "MQTT" 04 02 000a "" `, again: `10 0c "MQTT" 04 02 000a ""`,
		want: &Connect{Version: V311, CleanStart: true, KeepAlive: 10, ReceiveMaximum: 65535, RequestProblemInfo: true}},

	// CONNACK
	{name: "connack 3.1 has no session present", clause: "3.1 §3.2", v: V31,
		wire: `20 02 ff 00`, again: `20 02 00 00`, want: &Connack{}},
	{name: "connack 3.1.1", clause: "[MQTT-3.2.2-1]", v: V311, wire: `20 02 01 00`, want: &Connack{SessionPresent: true}},
	{name: "connack 3.1.1 refusal", clause: "[MQTT-3.2.2-4]", v: V311, wire: `20 02 00 05`, want: &Connack{Code: 5}},
	{name: "connack 5, least", clause: "5 §3.2.2", v: V5, wire: `20 03 00 87 00`, want: &Connack{Code: NotAuthorized}},
	{name: "connack 5, all properties", clause: "5 §3.2.2.3", v: V5,
		wire: `20 [ 01 00 [ 11 00000001  21 0002  24 01  25 00  27 00000003  12 "id"  22 0004  1f "why"  26 "k" "v"
			28 01  29 00  2a 01  13 0005  1a "info"  1c "other:1883"  15 "m"  16 0000 ] ]`,
		want: &Connack{SessionPresent: true, SessionExpiry: new(uint32(1)), ReceiveMaximum: new(uint16(2)),
			MaximumQoS: new(byte(1)), RetainAvailable: new(false), MaximumPacketSize: new(uint32(3)), AssignedClientID: "id",
			TopicAliasMaximum: new(uint16(4)), Reason: "why", User: []UserProperty{{"k", "v"}},
			WildcardAvailable: new(true), SubscriptionIDAvailable: new(false), SharedAvailable: new(true),
			ServerKeepAlive: new(uint16(5)), ResponseInfo: "info", ServerReference: "other:1883", AuthMethod: "m", AuthData: []byte{}}},

	// PUBLISH
	{name: "publish 3.1.1 QoS 0", clause: "[MQTT-2.3.1-5]", v: V311, wire: `30 05 00 01 61 68 69`,
		want: &Publish{Topic: []byte("a"), Payload: []byte("hi")}},
	{name: "publish 3.1.1 all flags", clause: "3.1.1 §3.3.1", v: V311, wire: `3d [ "a/b" 0102 ]`,
		want: &Publish{Dup: true, QoS: 2, Retain: true, PacketID: 0x102, Topic: []byte("a/b"), Payload: []byte{}}},
	{name: "publish 5 without properties", clause: "[MQTT-2.2.2-1]", v: V5, wire: `32 [ "a" 0007 00 'x' ]`,
		want: &Publish{QoS: 1, PacketID: 7, Topic: []byte("a"), Payload: []byte("x")}},
	{name: "publish 5, all properties", clause: "5 §3.3.2.3", v: V5,
		wire: `30 [ "a" [ 23 0001  02 0000003c  01 01  03 "t"  08 "r"  09 0001 00  26 "k" "v"  0b 01  0b ffffff7f ] 'x' ]`,
		want: &Publish{Topic: []byte("a"), Payload: []byte("x"), TopicAlias: 1, HasTopicAlias: true, MessageExpiry: 60, HasMessageExpiry: true,
			Properties:      []byte("\x01\x01\x03\x00\x01t\x08\x00\x01r\x09\x00\x01\x00\x26\x00\x01k\x00\x01v"),
			SubscriptionIDs: []uint32{1, maxVarint}}},
	{name: "publish 5, properties in pieces keep their order", clause: "[MQTT-3.3.2-18]", v: V5,
		wire:  `30 [ "a" [ 26 "1" "a"  02 00000000  26 "2" "b"  0b 05  26 "1" "c" ] ]`,
		again: `30 [ "a" [ 02 00000000  26 "1" "a"  26 "2" "b"  26 "1" "c"  0b 05 ] ]`,
		want: &Publish{Topic: []byte("a"), Payload: []byte{}, HasMessageExpiry: true, SubscriptionIDs: []uint32{5},
			Properties: []byte("\x26\x00\x011\x00\x01a\x26\x00\x012\x00\x01b\x26\x00\x011\x00\x01c")}},
	{name: "publish 5, properties in pieces, the last two side by side", clause: "[MQTT-3.3.2-18]", v: V5,
		wire:  `30 [ "a" [ 26 "1" "a"  02 00000000  26 "2" "b"  03 "t" ] ]`,
		again: `30 [ "a" [ 02 00000000  26 "1" "a"  26 "2" "b"  03 "t" ] ]`,
		want: &Publish{Topic: []byte("a"), Payload: []byte{}, HasMessageExpiry: true,
			Properties: []byte("\x26\x00\x011\x00\x01a\x26\x00\x012\x00\x01b\x03\x00\x01t")}},
	{name: "publish 5, alias alone", clause: "5 §3.3.2.3.4", v: V5, wire: `30 [ 0000 [ 23 ffff ] ]`,
		want: &Publish{Topic: []byte{}, Payload: []byte{}, TopicAlias: 65535, HasTopicAlias: true}},
	{name: "publish, topic with spaces and empty levels", clause: "5 §4.7.3", v: V5, wire: `30 [ "/ a//*>" 00 ]`,
		want: &Publish{Topic: []byte("/ a//*>"), Payload: []byte{}}},
	{name: "publish, U+FEFF", clause: "[MQTT-1.5.4-3]", v: V311, wire: `30 [ 0003 efbbbf ]`,
		want: &Publish{Topic: []byte("\uFEFF"), Payload: []byte{}}},

	// PUBACK, PUBREC, PUBREL, PUBCOMP
	{name: "puback 3.1.1", clause: "3.1.1 §3.4", v: V311, wire: `40 02 0001`, want: &Ack{Kind: PUBACK, PacketID: 1}},
	{name: "pubrel 3.1.1", clause: "[MQTT-3.6.1-1]", v: V311, wire: `62 02 ffff`, want: &Ack{Kind: PUBREL, PacketID: 65535}},
	{name: "pubrel 3.1, sent again", clause: "3.1 §2.1", v: V31, wire: `6a 02 0001`, again: `62 02 0001`, want: &Ack{Kind: PUBREL, PacketID: 1}},
	{name: "puback 5, shortest", clause: "5 §3.4.2.1", v: V5, wire: `40 02 0001`, want: &Ack{Kind: PUBACK, PacketID: 1}},
	{name: "pubrec 5, code only", clause: "5 §3.5.2.1", v: V5, wire: `50 03 0001 10`, want: &Ack{Kind: PUBREC, PacketID: 1, Code: NoMatchingSubscribers}},
	{name: "pubcomp 5, code and no properties", clause: "5 §3.7.2.2.1", v: V5, wire: `70 04 0001 92 00`, again: `70 03 0001 92`,
		want: &Ack{Kind: PUBCOMP, PacketID: 1, Code: PacketIdentifierNotFound}},
	{name: "pubrel 5, properties", clause: "5 §3.6.2.2", v: V5, wire: `62 [ 0001 92 [ 1f "no" 26 "k" "v" ] ]`,
		want: &Ack{Kind: PUBREL, PacketID: 1, Code: PacketIdentifierNotFound, Reason: "no", User: []UserProperty{{"k", "v"}}}},

	// SUBSCRIBE and SUBACK
	{name: "subscribe 3.1.1", clause: "3.1.1 §3.8", v: V311, wire: `82 [ 000a "a/b" 01 "c/#" 02 ]`,
		want: &Subscribe{PacketID: 10, Filters: []SubscribeFilter{{Filter: "a/b", QoS: 1}, {Filter: "c/#", QoS: 2}}}},
	{name: "subscribe 3.1, sent again", clause: "3.1 §2.1", v: V31, wire: `8a [ 000a "a" 00 ]`, again: `82 [ 000a "a" 00 ]`,
		want: &Subscribe{PacketID: 10, Filters: []SubscribeFilter{{Filter: "a"}}}},
	{name: "subscribe 5, all options", clause: "5 §3.8.3.1", v: V5, wire: `82 [ 0001 [ 0b 8001 26 "k" "v" ] "$share/g/a" 2a "b" 1d ]`,
		want: &Subscribe{PacketID: 1, ID: 128, User: []UserProperty{{"k", "v"}}, Filters: []SubscribeFilter{
			{Filter: "$share/g/a", QoS: 2, RetainAsPublished: true, RetainHandling: 2},
			{Filter: "b", QoS: 1, NoLocal: true, RetainAsPublished: true, RetainHandling: 1}}}},
	{name: "subscribe, a filter that is none is left to the caller", clause: "[MQTT-4.7.1-1]", v: V5, wire: `82 [ 0001 [] "a#" 00 "" 00 ]`,
		want: &Subscribe{PacketID: 1, Filters: []SubscribeFilter{{Filter: "a#"}, {}}}},
	{name: "suback 3.1.1", clause: "[MQTT-3.9.3-2]", v: V311, wire: `90 06 0001 00 01 02 80`,
		want: &Suback{PacketID: 1, Codes: []ReasonCode{0, 1, 2, 0x80}}},
	{name: "suback 5", clause: "[MQTT-3.9.3-2]", v: V5, wire: `90 [ 0001 [ 1f "r" 26 "k" "v" ] 00 9e ]`,
		want: &Suback{PacketID: 1, Codes: []ReasonCode{Success, SharedSubscriptionsNotSupported}, Reason: "r", User: []UserProperty{{"k", "v"}}}},

	// UNSUBSCRIBE and UNSUBACK
	{name: "unsubscribe 3.1.1", clause: "3.1.1 §3.10", v: V311, wire: `a2 [ 0001 "a" "b" ]`, want: &Unsubscribe{PacketID: 1, Filters: []string{"a", "b"}}},
	{name: "unsubscribe 3.1, sent again", clause: "3.1 §2.1", v: V31, wire: `aa [ 0001 "a" ]`, again: `a2 [ 0001 "a" ]`,
		want: &Unsubscribe{PacketID: 1, Filters: []string{"a"}}},
	{name: "unsubscribe 5", clause: "5 §3.10", v: V5, wire: `a2 [ 0001 [ 26 "k" "v" ] "a" ]`,
		want: &Unsubscribe{PacketID: 1, Filters: []string{"a"}, User: []UserProperty{{"k", "v"}}}},
	{name: "unsuback 3.1.1", clause: "[MQTT-3.10.4-4]", v: V311, wire: `b0 02 0001`, want: &Unsuback{PacketID: 1}},
	{name: "unsuback 5", clause: "[MQTT-3.11.3-2]", v: V5, wire: `b0 [ 0001 [ 1f "r" ] 00 11 ]`,
		want: &Unsuback{PacketID: 1, Codes: []ReasonCode{Success, NoSubscriptionExisted}, Reason: "r"}},

	// PINGREQ, PINGRESP, DISCONNECT, AUTH
	{name: "pingreq", clause: "[MQTT-3.12.4-1]", v: V5, wire: `c0 00`, want: &Pingreq{}},
	{name: "pingresp", clause: "[MQTT-3.12.4-1]", v: V311, wire: `d0 00`, want: &Pingresp{}},
	{name: "disconnect 3.1.1", clause: "3.1.1 §3.14", v: V311, wire: `e0 00`, want: &Disconnect{}},
	{name: "disconnect 5, shortest", clause: "5 §3.14.2.1", v: V5, wire: `e0 00`, want: &Disconnect{}},
	{name: "disconnect 5, code only", clause: "5 §3.14.2.2.1", v: V5, wire: `e0 01 04`, want: &Disconnect{Code: DisconnectWithWill}},
	{name: "disconnect 5, all properties", clause: "5 §3.14.2.2", v: V5,
		wire: `e0 [ 9d [ 11 00000000 1f "r" 1c "s" 26 "k" "v" ] ]`,
		want: &Disconnect{Code: ServerMoved, HasSessionExpiry: true, Reason: "r", ServerReference: "s", User: []UserProperty{{"k", "v"}}}},
	{name: "auth, shortest", clause: "5 §3.15.2.1", v: V5, wire: `f0 00`, want: &Auth{}},
	{name: "auth, Success and no properties", clause: "5 §3.15.2.1", v: V5, wire: `f0 02 00 00`, again: `f0 00`, want: &Auth{}},
	{name: "auth, method without a name", clause: "5 §3.15.2.2.2", v: V5, wire: `f0 [ 18 [ 15 "" ] ]`, want: &Auth{Code: ContinueAuthentication}},
	{name: "auth, all properties", clause: "5 §3.15.2.2", v: V5,
		wire: `f0 [ 18 [ 15 "m" 16 0001 00 1f "r" 26 "k" "v" ] ]`,
		want: &Auth{Code: ContinueAuthentication, Method: "m", Data: []byte{0}, HasData: true, Reason: "r", User: []UserProperty{{"k", "v"}}}},
}
