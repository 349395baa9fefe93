package conformance

import (
	"reflect"
	"slices"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// [MQTT-4.8.0-1]: every malformed packet, and every packet that a client may
// not send, ends the connection at once. The will of the connection is
// published: it did not end in order. Nobody else is disturbed.
func TestV3Malformed(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-4.8.0-1", "MQTT-3.1.2-8")
	tests := []struct {
		name string
		ids  []string
		send wire.Packet
	}{
		{"type 0", nil, wire.Frame{First: 0x00}},
		{"type 15", nil, wire.Frame{First: 0xF0}},
		{"type 15 with content", nil, wire.Frame{First: 0xF0, Body: []byte{0, 0}}},
		{"CONNACK", nil, wire.Connack{}},
		{"SUBACK", nil, wire.Suback{ID: 1, Codes: []byte{0}}},
		{"UNSUBACK", nil, wire.Unsuback{ID: 1}},
		{"PINGRESP", nil, wire.Pingresp{}},

		{"PUBLISH QoS 3", []string{"MQTT-3.3.1-4"}, wire.Publish{Topic: "a", QoS: 3, ID: 1}},
		{"PUBLISH QoS 3 with DUP", []string{"MQTT-3.3.1-4"}, wire.Publish{Topic: "a", QoS: 3, Dup: true, ID: 1}},
		{"PUBLISH QoS 1 id 0", []string{"MQTT-2.3.1-1"}, wire.Publish{Topic: "a", QoS: 1}},
		{"PUBLISH QoS 2 id 0", []string{"MQTT-2.3.1-1"}, wire.Publish{Topic: "a", QoS: 2}},
		{"PUBLISH empty", []string{"MQTT-3.3.2-1"}, wire.Frame{First: 0x30}},
		{"PUBLISH of one byte", []string{"MQTT-3.3.2-1"}, wire.Frame{First: 0x30, Body: []byte{0}}},
		{"PUBLISH topic cut", []string{"MQTT-3.3.2-1"}, wire.Frame{First: 0x30, Body: wire.Str("abc")[:4]}},
		{"PUBLISH topic length 65,535", []string{"MQTT-3.3.2-1"}, wire.Frame{First: 0x30, Body: []byte{0xff, 0xff, 'a'}}},
		{"PUBLISH QoS 1 without id", []string{"MQTT-2.3.1-1"}, wire.Frame{First: 0x32, Body: wire.Str("a")}},
		{"PUBLISH QoS 1 id cut", []string{"MQTT-2.3.1-1"}, wire.Frame{First: 0x32, Body: wire.Cat(wire.Str("a"), []byte{1})}},
		{"PUBLISH QoS 2 id cut", []string{"MQTT-2.3.1-1"}, wire.Frame{First: 0x34, Body: wire.Cat(wire.Str("a"), []byte{1})}},
		{"PUBLISH to the empty topic", []string{"MQTT-4.7.3-1"}, wire.Publish{Payload: "x"}},
		{"PUBLISH QoS 1 to the empty topic", []string{"MQTT-4.7.3-1"}, wire.Publish{QoS: 1, ID: 1}},
		{"PUBLISH to #", []string{"MQTT-3.3.2-2", "MQTT-4.7.1-1"}, wire.Publish{Topic: "#"}},
		{"PUBLISH to +", []string{"MQTT-3.3.2-2", "MQTT-4.7.1-1"}, wire.Publish{Topic: "+", QoS: 1, ID: 1}},
		{"PUBLISH to a/#", []string{"MQTT-3.3.2-2", "MQTT-4.7.1-1"}, wire.Publish{Topic: "a/#", QoS: 2, ID: 1}},
		{"PUBLISH to a/+/b", []string{"MQTT-3.3.2-2", "MQTT-4.7.1-1"}, wire.Publish{Topic: "a/+/b"}},
		{"PUBLISH to a#b", []string{"MQTT-3.3.2-2", "MQTT-4.7.1-1"}, wire.Publish{Topic: "a#b"}},
		{"PUBLISH to a+b", []string{"MQTT-3.3.2-2", "MQTT-4.7.1-1"}, wire.Publish{Topic: "a+b", Retain: true}},

		{"PUBACK empty", nil, wire.Frame{First: 0x40}},
		{"PUBACK id cut", nil, wire.Frame{First: 0x40, Body: []byte{0}}},
		{"PUBACK too long", nil, wire.Frame{First: 0x40, Body: []byte{0, 1, 0}}},
		{"PUBACK id 0", nil, wire.Puback(0)},
		{"PUBREC empty", nil, wire.Frame{First: 0x50}},
		{"PUBREC id cut", nil, wire.Frame{First: 0x50, Body: []byte{0}}},
		{"PUBREC too long", nil, wire.Frame{First: 0x50, Body: []byte{0, 1, 0}}},
		{"PUBREC id 0", nil, wire.Pubrec(0)},
		{"PUBREL empty", nil, wire.Frame{First: 0x62}},
		{"PUBREL id cut", nil, wire.Frame{First: 0x62, Body: []byte{0}}},
		{"PUBREL too long", nil, wire.Frame{First: 0x62, Body: []byte{0, 1, 0}}},
		{"PUBREL id 0", nil, wire.Pubrel(0)},
		{"PUBCOMP empty", nil, wire.Frame{First: 0x70}},
		{"PUBCOMP id cut", nil, wire.Frame{First: 0x70, Body: []byte{0}}},
		{"PUBCOMP too long", nil, wire.Frame{First: 0x70, Body: []byte{0, 1, 0}}},
		{"PUBCOMP id 0", nil, wire.Pubcomp(0)},

		{"SUBSCRIBE empty", []string{"MQTT-2.3.1-1"}, wire.Frame{First: 0x82}},
		{"SUBSCRIBE id cut", []string{"MQTT-2.3.1-1"}, wire.Frame{First: 0x82, Body: []byte{0}}},
		{"SUBSCRIBE id 0", []string{"MQTT-2.3.1-1"}, wire.Sub(0, "a", 0)},
		{"SUBSCRIBE without filters", []string{"MQTT-3.8.3-3"}, wire.Subscribe{ID: 1}},
		{"SUBSCRIBE filter length cut", nil, wire.Frame{First: 0x82, Body: wire.Cat(wire.U16(1), []byte{0})}},
		{"SUBSCRIBE filter cut", nil, wire.Frame{First: 0x82, Body: wire.Cat(wire.U16(1), wire.Str("abc")[:4])}},
		{"SUBSCRIBE without QoS", nil, wire.Frame{First: 0x82, Body: wire.Cat(wire.U16(1), wire.Str("a"))}},
		{"SUBSCRIBE second filter cut", nil, wire.Frame{First: 0x82, Body: wire.Cat(wire.U16(1), wire.Str("a"), []byte{0}, wire.Str("b"))}},
		{"SUBSCRIBE one byte more", nil, wire.Frame{First: 0x82, Body: wire.Cat(wire.U16(1), wire.Str("a"), []byte{0, 0})}},
		{"SUBSCRIBE QoS 3", []string{"MQTT-3-8.3-4"}, wire.Sub(1, "a", 3)},
		{"SUBSCRIBE reserved bit 2", []string{"MQTT-3-8.3-4"}, wire.Sub(1, "a", 0x04)},
		{"SUBSCRIBE reserved bit 7", []string{"MQTT-3-8.3-4"}, wire.Sub(1, "a", 0x81)},
		{"SUBSCRIBE second QoS 3", []string{"MQTT-3-8.3-4"}, wire.Subscribe{ID: 1, Filters: []wire.Filter{{Topic: "a"}, {Topic: "b", Options: 3}}}},

		{"UNSUBSCRIBE empty", []string{"MQTT-2.3.1-1"}, wire.Frame{First: 0xA2}},
		{"UNSUBSCRIBE id cut", []string{"MQTT-2.3.1-1"}, wire.Frame{First: 0xA2, Body: []byte{0}}},
		{"UNSUBSCRIBE id 0", []string{"MQTT-2.3.1-1"}, wire.Unsub(0, "a")},
		{"UNSUBSCRIBE without filters", []string{"MQTT-3.10.3-2"}, wire.Unsub(1)},
		{"UNSUBSCRIBE filter length cut", nil, wire.Frame{First: 0xA2, Body: []byte{0, 1, 0}}},
		{"UNSUBSCRIBE filter cut", nil, wire.Frame{First: 0xA2, Body: wire.Cat(wire.U16(1), wire.Str("abc")[:4])}},

		{"PINGREQ with content", nil, wire.Frame{First: 0xC0, Body: []byte{0}}},
		{"DISCONNECT with content", nil, wire.Frame{First: 0xE0, Body: []byte{0}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			covers311(t, tt.ids...)
			eachV3(t, func(t *testing.T, v wire.Version) { expectRefused(t, v, tt.send) })
		})
	}
}

// expectRefused sends a packet from a client with a will, and expects the end
// of the connection, the will, and peace for another client.
func expectRefused(t *testing.T, v wire.Version, p wire.Packet) {
	t.Helper()
	topic := unique("t")
	other := join3(t, v)
	other.Subscribe(topic, 0)
	c := dial(t).Connect(wire.Connect{Version: v, ClientID: unique("c"), Clean: true, Will: &wire.Will{Topic: topic, Payload: "gone"}})
	c.Send(p)
	c.ExpectClosed()
	other.Expect(wire.Publish{Topic: topic, Payload: "gone"})
	other.ExpectNothing()
}

// [MQTT-2.2.2-2]: reserved flags of the fixed header. MQTT 3.1 has no reserved
// flags: see TestV31Flags.
func TestV3ReservedFlags(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-2.2.2-1", "MQTT-2.2.2-2")
	tests := []struct {
		name  string
		ids   []string
		first byte // with the right flags
		body  []byte
	}{
		{"PUBACK", nil, 0x40, wire.U16(1)},
		{"PUBREC", nil, 0x50, wire.U16(1)},
		{"PUBREL", []string{"MQTT-3.6.1-1"}, 0x62, wire.U16(1)},
		{"PUBCOMP", nil, 0x70, wire.U16(1)},
		{"SUBSCRIBE", []string{"MQTT-3.8.1-1"}, 0x82, wire.Cat(wire.U16(1), wire.Str("a"), []byte{0})},
		{"UNSUBSCRIBE", []string{"MQTT-3.10.1-1"}, 0xA2, wire.Cat(wire.U16(1), wire.Str("a"))},
		{"PINGREQ", nil, 0xC0, nil},
		{"DISCONNECT", []string{"MQTT-3.14.1-1"}, 0xE0, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			covers311(t, tt.ids...)
			for flags := range byte(16) {
				if flags == tt.first&0xf {
					continue
				}
				expectRefused(t, wire.V311, wire.Frame{First: tt.first&0xf0 | flags, Body: tt.body})
			}
		})
	}
	// [MQTT-3.3.1-2]: not reserved, but as wrong.
	t.Run("PUBLISH QoS 0 with DUP", func(t *testing.T) {
		t.Parallel()
		covers311(t, "MQTT-3.3.1-2")
		expectRefused(t, wire.V311, wire.Publish{Topic: "a", Dup: true})
	})
}

// [MQTT-1.5.3-1], [MQTT-1.5.3-2], [MQTT-4.7.3-2] in topic names and filters.
func TestV3BadText(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-1.5.3-1", "MQTT-1.5.3-2", "MQTT-3.3.2-1", "MQTT-3.8.3-1", "MQTT-3.10.3-1", "MQTT-4.7.3-2")
	for name, text := range badText {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachV3(t, func(t *testing.T, v wire.Version) {
				for _, p := range []wire.Packet{
					wire.Publish{Topic: text},
					wire.Publish{Topic: text, QoS: 1, ID: 1, Retain: true},
					wire.Sub(1, text, 0),
					wire.Subscribe{ID: 1, Filters: []wire.Filter{{Topic: "a"}, {Topic: text}}},
					wire.Unsub(1, text),
					wire.Unsub(1, "a", text),
				} {
					c := join3(t, v)
					c.Send(p)
					c.ExpectClosed()
				}
			})
		})
	}
}

// [MQTT-4.7.1-2], [MQTT-4.7.1-3], [MQTT-4.7.3-1]: filters that are well-formed
// text and no filters. Some servers close the connection, some refuse the one
// filter with 0x80: both keep the rule. To end a subscription that can not be
// there does no harm.
func TestV3BadFilters(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-4.7.1-2", "MQTT-4.7.1-3", "MQTT-3.9.3-2")
	tests := []struct{ id, filter string }{
		{"MQTT-4.7.1-2", "a#"}, {"MQTT-4.7.1-2", "#a"}, {"MQTT-4.7.1-2", "#/a"}, {"MQTT-4.7.1-2", "a/#/b"}, {"MQTT-4.7.1-2", "a/#/"},
		{"MQTT-4.7.1-2", "a/b#"}, {"MQTT-4.7.1-2", "##"}, {"MQTT-4.7.1-2", "a/##"}, {"MQTT-4.7.1-2", "#/#"}, {"MQTT-4.7.1-2", "+#"},
		{"MQTT-4.7.1-3", "a+"}, {"MQTT-4.7.1-3", "+a"}, {"MQTT-4.7.1-3", "a/b+"}, {"MQTT-4.7.1-3", "a/+b/c"}, {"MQTT-4.7.1-3", "++"},
		{"MQTT-4.7.1-3", "a/++/b"}, {"MQTT-4.7.1-3", "a/b+/#"}, {"MQTT-4.7.3-1", ""},
	}
	for _, tt := range tests {
		t.Run(tt.filter, func(t *testing.T) {
			t.Parallel()
			covers311(t, tt.id)
			c := join3(t, wire.V311)
			c.Send(wire.Sub(1, tt.filter, 1))
			if p, closed := c.NextOrClosed(); closed {
				return
			} else if s, ok := p.(wire.Suback); !ok || s.ID != 1 || !slices.Equal(s.Codes, []byte{0x80}) {
				t.Errorf("got %T%+v", p, p)
			}
			c.Send(wire.Unsub(2, tt.filter))
			if p, closed := c.NextOrClosed(); !closed && !reflect.DeepEqual(p, wire.Unsuback{ID: 2}) {
				t.Errorf("got %T%+v", p, p)
			}
		})
	}
}

// A remaining length of more than four bytes, before and after CONNECT.
func TestV3RemainingLength(t *testing.T) {
	t.Parallel()
	for _, length := range []string{"ff ff ff ff 01", "80 80 80 80 00", "ff ff ff ff ff"} {
		for _, first := range []string{"10", "30"} {
			c := dial(t)
			if first == "30" {
				c.Connect(clean3(wire.V311))
			}
			c.SendHex(first + length)
			c.ExpectClosed()
		}
	}
}

// [MQTT-4.8.0-2]: a packet that the server has no room for ends the
// connection, on its header, before its content has come.
func TestV3TooLarge(t *testing.T) {
	t.Parallel()
	if harness.Shared(t).External() {
		t.Skip("the limits of another broker are not known")
	}
	covers311(t, "MQTT-4.8.0-2")
	c := dial(t)
	c.SendHex("10 ff ff ff 7f")
	c.ExpectClosed()
	c = join3(t, wire.V311)
	c.SendHex("30 ff ff ff 7f")
	c.ExpectClosed()
}

// An acknowledgement that names nothing is no violation in 3.x: it may be late.
// PUBREL is answered all the same [MQTT-4.3.3-2].
func TestV3StrayAcks(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-4.3.3-2")
	eachV3(t, func(t *testing.T, v wire.Version) {
		c := join3(t, v)
		c.Send(wire.Puback(7), wire.Pubcomp(7))
		c.ExpectNothing()
		c.Send(wire.Pubrel(7))
		c.Expect(wire.Pubcomp(7))
		c.ExpectNothing()
	})
}

// An acknowledgement of the wrong kind for a message under way is a violation,
// and the message is not lost by it.
func TestV3WrongAck(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		qos  byte
		ack  func(uint16) wire.Ack
	}{
		{"PUBREC for QoS 1", 1, wire.Pubrec},
		{"PUBCOMP for QoS 1", 1, wire.Pubcomp},
		{"PUBACK for QoS 2", 2, wire.Puback},
		{"PUBCOMP before PUBREC", 2, wire.Pubcomp},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			eachV3(t, func(t *testing.T, v wire.Version) {
				topic, id := unique("t"), unique("c")
				c := dial(t).Connect(durable(v, id))
				c.Subscribe(topic, 2)
				join3(t, v).Publish(topic, tt.qos, "x")
				first := wire.Next[wire.Publish](c)
				c.Send(tt.ack(first.ID))
				c.ExpectClosed()
				c = dial(t).Connect(durable(v, id))
				again := c.Receive()
				if first.Dup = true; !samePublish(again, first) {
					t.Errorf("got  %+v\nwant %+v", again, first)
				}
				c.Disconnect()
			})
		})
	}
}
