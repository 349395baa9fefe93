package conformance

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// badText holds strings that are not UTF-8 as MQTT wants it.
var badText = map[string]string{
	"NUL":                    "a\x00b",                   // [MQTT-1.5.3-2]
	"surrogate":              "a\xed\xa0\x80b",           // [MQTT-1.5.3-1], U+D800
	"last surrogate":         "a\xed\xbf\xbfb",           // [MQTT-1.5.3-1], U+DFFF
	"surrogate pair":         "\xed\xa0\xbd\xed\xb8\x80", // CESU-8
	"overlong slash":         "a\xc0\xafb",
	"overlong NUL":           "a\xc0\x80b",
	"three byte overlong":    "a\xe0\x80\xafb",
	"above U+10FFFF":         "a\xf4\x90\x80\x80b",
	"five byte form":         "a\xf8\x88\x80\x80\x80b",
	"lone continuation":      "a\x80b",
	"cut at the end":         "ab\xe2\x82",
	"byte that never occurs": "a\xffb",
}

// everyField is a CONNECT with all there is.
func everyField(v wire.Version, topic string) wire.Connect {
	return wire.Connect{Version: v, ClientID: unique("c"), Clean: true, KeepAlive: 60, Username: new("user"), Password: new("secret"),
		Will: &wire.Will{Topic: topic, Payload: "gone", QoS: 1}}
}

// [MQTT-3.1.3-1], [MQTT-3.1.3-3]: all fields together are taken in their order:
// the will that comes is that of the packet.
func TestV3ConnectEveryField(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.1.3-1", "MQTT-3.1.3-3", "MQTT-3.1.2-9", "MQTT-3.1.2-19", "MQTT-3.1.2-21")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic := unique("t")
		sub := join3(t, v)
		sub.Subscribe(topic, 2)
		dial(t).Connect(everyField(v, topic)).Drop()
		sub.Expect(wire.Publish{Topic: topic, QoS: 1, ID: 1, Payload: "gone"})
	})
}

// [MQTT-3.1.4-1], [MQTT-3.2.2-6]: a CONNECT that breaks the rules is not
// answered, and the connection is closed.
func TestV3ConnectMalformed(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.1.4-1", "MQTT-3.2.2-6", "MQTT-4.8.0-1")
	const flagsAt = 7 // in the body, after the name MQTT and the level
	spoil := func(p wire.Connect, flags byte) wire.Frame {
		b := p.Body()
		b[flagsAt] = flags
		return wire.Frame{First: 0x10, Body: b}
	}
	plain := wire.Connect{ClientID: "x", Clean: true}
	withWill := wire.Connect{ClientID: "x", Clean: true, Will: &wire.Will{Topic: "w", Payload: "w"}}
	tests := []struct {
		name string
		ids  []string
		send wire.Packet
	}{
		{"reserved flag", []string{"MQTT-3.1.2-3"}, spoil(plain, 0x03)},
		{"will QoS without will", []string{"MQTT-3.1.2-11", "MQTT-3.1.2-13"}, spoil(plain, 0x0A)},
		{"will QoS 2 without will", []string{"MQTT-3.1.2-11", "MQTT-3.1.2-13"}, spoil(plain, 0x12)},
		{"will retain without will", []string{"MQTT-3.1.2-11", "MQTT-3.1.2-15"}, spoil(plain, 0x22)},
		{"will fields without will flag", []string{"MQTT-3.1.2-11"}, spoil(withWill, 0x02)},
		{"will QoS 3", []string{"MQTT-3.1.2-14"}, spoil(withWill, 0x1E)},
		{"will flag without will fields", []string{"MQTT-3.1.2-9"}, spoil(plain, 0x06)},
		{"user name without its flag", []string{"MQTT-3.1.2-18"}, spoil(wire.Connect{ClientID: "x", Username: new("u")}, 0x02)},
		{"user name flag without user name", []string{"MQTT-3.1.2-19"}, spoil(plain, 0x82)},
		{"password without its flag", []string{"MQTT-3.1.2-20"}, spoil(wire.Connect{ClientID: "x", Username: new("u"), Password: new("p")}, 0x82)},
		{"password flag without password", []string{"MQTT-3.1.2-21"}, spoil(wire.Connect{ClientID: "x", Username: new("u")}, 0xC2)},
		{"password without user name", []string{"MQTT-3.1.2-22"}, wire.Connect{ClientID: "x", Clean: true, Password: new("p")}},
		{"no client id field", []string{"MQTT-3.1.3-3"}, wire.Frame{First: 0x10, Body: plain.Body()[:10]}},
		{"empty will topic", []string{"MQTT-4.7.3-1"}, wire.Connect{ClientID: "x", Clean: true, Will: &wire.Will{}}},
		{"will topic with +", []string{"MQTT-4.7.1-1"}, wire.Connect{ClientID: "x", Clean: true, Will: &wire.Will{Topic: "a/+"}}},
		{"will topic with #", []string{"MQTT-4.7.1-1"}, wire.Connect{ClientID: "x", Clean: true, Will: &wire.Will{Topic: "#"}}},
		{"bytes at the end", nil, wire.Frame{First: 0x10, Body: append(plain.Body(), 0)}},
		{"fixed header flags 0001", []string{"MQTT-2.2.2-1", "MQTT-2.2.2-2"}, wire.Frame{First: 0x11, Body: plain.Body()}},
		{"fixed header flags 0010", []string{"MQTT-2.2.2-1", "MQTT-2.2.2-2"}, wire.Frame{First: 0x12, Body: plain.Body()}},
		{"fixed header flags 1000", []string{"MQTT-2.2.2-1", "MQTT-2.2.2-2"}, wire.Frame{First: 0x18, Body: plain.Body()}},
		{"name in lower case", []string{"MQTT-3.1.2-1"}, wire.Connect{ClientID: "x", Clean: true, Name: "mqtt"}},
		{"name of five letters", []string{"MQTT-3.1.2-1"}, wire.Connect{ClientID: "x", Clean: true, Name: "MQTTX"}},
		{"another name", []string{"MQTT-3.1.2-1"}, wire.Connect{ClientID: "x", Clean: true, Name: "hj"}},
		{"empty name", []string{"MQTT-3.1.2-1"}, wire.Frame{First: 0x10, Body: plain.Body()[4:]}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			covers311(t, tt.ids...)
			c := dial(t)
			c.Send(tt.send)
			c.ExpectClosed()
		})
	}
}

// [MQTT-1.5.3-1], [MQTT-1.5.3-2] in each string of CONNECT.
func TestV3ConnectBadText(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-1.5.3-1", "MQTT-1.5.3-2", "MQTT-3.1.3-4", "MQTT-3.1.3-10", "MQTT-3.1.3-11")
	for name, text := range badText {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, p := range []wire.Connect{
				{ClientID: text, Clean: true},
				{ClientID: unique("c"), Clean: true, Will: &wire.Will{Topic: text}},
				{ClientID: unique("c"), Clean: true, Username: &text},
			} {
				c := dial(t)
				c.Send(p)
				c.ExpectClosed()
			}
		})
	}
}

// A CONNECT cut at any byte, its length telling the truth, is refused.
func TestV3ConnectTruncated(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.1.4-1")
	eachV3(t, func(t *testing.T, v wire.Version) {
		p := everyField(v, "w")
		body := p.Body()
		optional := len(body) - len(wire.Str(*p.Username)) - len(wire.Str(*p.Password))
		for n := range body {
			if v == wire.V31 && n >= optional && (n == optional || n == len(body)-len(wire.Str(*p.Password))) {
				continue // legal there: see TestV31MissingUserName
			}
			c := dial(t)
			c.Send(wire.Frame{First: 0x10, Body: body[:n]})
			c.ExpectClosed()
		}
	})
}

// [MQTT-3.1.2-2]: a protocol level that is not served is answered by return
// code 1. Above 5 a server may answer in the manner of MQTT 5.
func TestV3ConnectLevel(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.1.2-2", "MQTT-3.2.2-4", "MQTT-3.2.2-5")
	for _, tt := range []struct {
		name  string
		level wire.Version
	}{{"MQTT", 0}, {"MQTT", 1}, {"MQTT", 2}, {"MQTT", 3}, {"MQIsdp", 2}, {"MQIsdp", 4}, {"MQIsdp", 5}} {
		b := wire.Connect{Name: tt.name, Version: wire.V311, ClientID: "x", Clean: true}.Body()
		b[2+len(tt.name)] = byte(tt.level)
		t.Run(fmt.Sprint(tt.name, " ", tt.level), func(t *testing.T) {
			t.Parallel()
			c := dial(t)
			c.Send(wire.Frame{First: 0x10, Body: b})
			c.Expect(wire.Connack{Code: 1})
			c.ExpectClosed()
		})
	}
	for _, level := range []wire.Version{6, 255} {
		c := dial(t)
		c.Send(wire.Connect{Version: level, ClientID: "x", Clean: true})
		c.Conn().SetReadDeadline(time.Now().Add(wire.Timeout))
		b, err := io.ReadAll(c.Conn())
		got := string(b)
		if v5 := len(got) > 4 && got[0] == 0x20 && got[2:4] == "\x00\x84"; err != nil || got != "\x20\x02\x00\x01" && !v5 {
			t.Errorf("level %d: answer % x, %v", level, got, err)
		}
	}
}

// [MQTT-3.1.0-1]: nothing but CONNECT opens a connection. The packets are
// well-formed, so that the order is their only fault.
func TestV3FirstPacket(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.1.0-1", "MQTT-3.2.0-1", "MQTT-4.8.0-1")
	tests := map[string]wire.Packet{
		"type 0":      wire.Frame{First: 0x00},
		"CONNACK":     wire.Connack{},
		"PUBLISH":     wire.Publish{Topic: "a", Payload: "x"},
		"PUBLISH 1":   wire.Publish{Topic: "a", QoS: 1, ID: 1},
		"PUBACK":      wire.Puback(1),
		"PUBREC":      wire.Pubrec(1),
		"PUBREL":      wire.Pubrel(1),
		"PUBCOMP":     wire.Pubcomp(1),
		"SUBSCRIBE":   wire.Sub(1, "a", 0),
		"SUBACK":      wire.Suback{ID: 1, Codes: []byte{0}},
		"UNSUBSCRIBE": wire.Unsub(1, "a"),
		"UNSUBACK":    wire.Unsuback{ID: 1},
		"PINGREQ":     wire.Pingreq{},
		"PINGRESP":    wire.Pingresp{},
		"DISCONNECT":  wire.Disconnect{},
		"AUTH":        wire.Frame{First: 0xF0},
	}
	for name, p := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dial(t)
			c.Send(p)
			c.ExpectClosed()
		})
	}
	t.Run("HTTP", func(t *testing.T) {
		t.Parallel()
		c := dial(t)
		c.SendRaw([]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		c.ExpectClosed()
	})
}

// [MQTT-3.1.0-2]: a second CONNECT ends the connection, not in order: the will
// is published.
func TestV3SecondConnect(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.1.0-2", "MQTT-3.1.2-8")
	eachV3(t, func(t *testing.T, v wire.Version) {
		topic := unique("t")
		sub := join3(t, v)
		sub.Subscribe(topic, 0)
		p := everyField(v, topic)
		c := dial(t).Connect(p)
		c.Send(p)
		c.ExpectClosed()
		sub.Expect(wire.Publish{Topic: topic, Payload: "gone"})
	})
}

// [MQTT-3.1.3-5] asks for up to 23 letters and digits. This server takes any
// text of any length, as a filter or format character means nothing in it.
func TestV3ClientIDs(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.1.3-5", "MQTT-3.1.3-2", "MQTT-3.1.3-4")
	const letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	random := strings.ReplaceAll(unique(""), "-", "")
	tests := map[string]string{
		"one character":  "Z",
		"23 characters":  (random + letters)[:23],
		"letters, begin": letters[:23],
		"letters, mid":   letters[23:46],
		"letters, end":   letters[len(letters)-23:],
		"24 characters":  (random + letters)[:24],
		"spaces":         random + " a  b ",
		"wildcards":      random + "+/#$",
		"format":         random + "%c%s%d.*\n{}[]",
		"Unicode":        random + "é\u65e5\U0001f600\ufeff",
		"65,535 bytes":   random + strings.Repeat("x", 65535-len(random)),
	}
	for name, id := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topic := unique("t")
			c := dial(t).Connect(wire.Connect{ClientID: id, Clean: true})
			c.Disconnect()
			c = dial(t).Connect(durable(wire.V311, id))
			c.Subscribe(topic, 1)
			c.Disconnect()
			join3(t, wire.V311).Publish(topic, 1, "kept")
			c = dial(t).Connect(durable(wire.V311, id))
			if got := c.Receive(); !c.Connack.SessionPresent || got.Payload != "kept" {
				t.Errorf("session present %v, got %+v", c.Connack.SessionPresent, got)
			}
			c.Disconnect()
			dial(t).Connect(wire.Connect{ClientID: id, Clean: true}).Disconnect()
		})
	}
}

// [MQTT-3.1.3-6], [MQTT-3.1.3-7]: clients without an identifier are different
// clients: the second does not take over from the first.
func TestV3EmptyClientID(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.1.3-6", "MQTT-3.1.3-7", "MQTT-3.2.2-1")
	topic := unique("t")
	a := dial(t).Connect(wire.Connect{Clean: true})
	a.Subscribe(topic, 1)
	b := dial(t).Connect(wire.Connect{Clean: true})
	b.Publish(topic, 1, "x")
	if got := a.Receive(); got.Payload != "x" {
		t.Errorf("got %+v", got)
	}
	b.Ping()
}

// [MQTT-3.1.3-8], [MQTT-3.1.3-9]: an empty identifier needs clean session 1.
// [MQTT-3.1.4-5]: what is sent behind a refused CONNECT is not processed.
func TestV3ConnectRefused(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.1.3-8", "MQTT-3.1.3-9", "MQTT-3.1.4-5", "MQTT-3.2.2-4", "MQTT-3.2.2-5")
	topic := unique("t")
	sub := join3(t, wire.V311)
	sub.Subscribe(topic, 1)
	c := dial(t)
	c.Send(wire.Connect{Will: &wire.Will{Topic: topic, Payload: "will"}}, wire.Publish{Topic: topic, QoS: 1, ID: 1, Payload: "behind"}, wire.Pingreq{})
	c.Expect(wire.Connack{Code: 2})
	c.ExpectClosed()
	join3(t, wire.V311).Publish(topic, 1, "next")
	if got := sub.Receive(); got.Payload != "next" {
		t.Errorf("got %+v", got)
	}
}
