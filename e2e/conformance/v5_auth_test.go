package conformance

import (
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

func method(s string) wire.Prop { return wire.StringProp(wire.AuthMethodID, s) }

// An authentication method that the server does not have is refused with 0x8C,
// before anything of a session is touched [MQTT-4.12.0-1] [MQTT-4.12.0-4].
func TestV5UnknownAuthenticationMethod(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.12.0-1", "MQTT-4.12.0-4", "MQTT-3.1.4-2", "MQTT-3.2.2-6", "MQTT-3.2.2-7")
	id := unique("c")
	good := dial(t).Connect(resume(id))
	for _, props := range [][]wire.Prop{
		{method("no such method")}, {method("no such method"), wire.StringProp(wire.AuthDataID, "\x00\xff")}, {method("")},
	} {
		dial(t).RefusedFor(clean(id, props...), badAuthMethod)
	}
	good.Ping() // not taken over
	good.Disconnect()
	if again := dial(t).Connect(resume(id)); !again.Connack.SessionPresent {
		t.Error("a refused CONNECT with Clean Start ended the session")
	}
}

// Without a method in CONNECT there is none in CONNACK [MQTT-4.12.0-6], and an
// AUTH from the client is a protocol error [MQTT-4.12.0-7].
func TestV5AuthWithoutMethod(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.12.0-6", "MQTT-4.12.0-7", "MQTT-4.12.1-1")
	if c := join(t); c.Connack.Props.Has(wire.AuthMethodID) || c.Connack.Props.Has(wire.AuthDataID) {
		t.Errorf("%+v", c.Connack)
	}
	for name, p := range map[string]wire.Packet{
		"success":            wire.Auth{},
		"continue":           wire.Auth{Code: 0x18, Props: wire.Props{method("m")}},
		"re-authenticate":    wire.Auth{Code: reauthenticate, Props: wire.Props{method("m")}},
		"without any method": wire.Frame{First: 0xF0, Body: []byte{reauthenticate, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := join(t)
			c.Send(p)
			c.AwaitDisconnect(protocolError)
		})
	}
}

// An AUTH that is malformed.
func TestV5MalformedAuth(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.15.1-1", "MQTT-3.15.2-1")
	frame := func(first byte, body ...byte) wire.Frame { return wire.Frame{First: first, Body: body} }
	ends(t, map[string]fault{
		"flags":               {frame(0xF2), []byte{malformedPacket, protocolError}},
		"unknown reason code": {frame(0xF0, 0x42), []byte{malformedPacket, protocolError}},
		"properties cut":      {frame(0xF0, 0x19, 9), []byte{malformedPacket, protocolError}},
		"unknown property":    {frame(0xF0, 0x19, 2, 0x7F, 0), []byte{malformedPacket, protocolError}},
	})
}
