package conformance

import (
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// PINGREQ is answered by PINGRESP [MQTT-3.12.4-1], however many come.
func TestV5Ping(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.12.4-1")
	c := join(t)
	for range 100 {
		c.Send(wire.Pingreq{})
	}
	for range 100 {
		c.Expect(wire.Pingresp{})
	}
	c.ExpectNothing()
}

// A DISCONNECT of a client is the end: nothing after it is done or answered,
// and the server closes [MQTT-3.14.4-1] [MQTT-3.14.4-2].
func TestV5NothingAfterDisconnect(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.14.4-1", "MQTT-3.14.4-2")
	sub, topic := watch(t, 1)
	c := join(t)
	c.Send(wire.Disconnect{}, wire.Publish{Topic: topic, QoS: 1, ID: 1, Payload: "after the end"}, wire.Pingreq{})
	c.ExpectClosed()
	join(t).Publish(topic, 1, "marker")
	receives(t, sub, "marker")
}

// What was published before a DISCONNECT, or before the connection was closed
// without one, is delivered.
func TestV5PublishedBeforeTheEnd(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.5.0-1", "MQTT-3.14.4-2")
	sub, topic := watch(t, 2)
	c := join(t)
	c.Send(message(topic, 0, "before DISCONNECT"), wire.Disconnect{})
	c.ExpectClosed()
	receives(t, sub, "before DISCONNECT")
	c = join(t)
	c.Send(message(topic, 0, "before the end"))
	closeWrite(c)
	receives(t, sub, "before the end")
}

// Every reason code that a client may send ends the connection without an
// answer [MQTT-3.14.2-1]; others are errors.
func TestV5DisconnectReasonCodes(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.14.2-1", "MQTT-3.14.4-2")
	for _, code := range []byte{0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99} {
		c := join(t)
		c.Send(wire.Disconnect{Code: code, Props: wire.Props{wire.StringProp(wire.ReasonStringID, "why"), wire.User("a", "b")}})
		c.ExpectClosed()
	}
	either := []byte{malformedPacket, protocolError}
	ends(t, map[string]fault{
		"0x01": {wire.Disconnect{Code: 0x01}, either},
		"0x7F": {wire.Disconnect{Code: 0x7F}, either},
		"0x92": {wire.Disconnect{Code: 0x92}, either},
		"0xFF": {wire.Disconnect{Code: 0xFF}, either},
	})
}

// A DISCONNECT that is malformed is answered [MQTT-3.14.1-1].
func TestV5MalformedDisconnect(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.14.1-1", "MQTT-3.14.2-1")
	frame := func(first byte, body ...byte) wire.Frame { return wire.Frame{First: first, Body: body} }
	malformed := []byte{malformedPacket}
	ends(t, map[string]fault{
		"flags 0001":             {frame(0xE1), malformed},
		"flags 1000":             {frame(0xE8), malformed},
		"property length cut":    {frame(0xE0, 0, 0x80), malformed},
		"properties cut":         {frame(0xE0, 0, 5), malformed},
		"bytes after the end":    {frame(0xE0, 0, 0, 0), malformed},
		"unknown property":       {frame(0xE0, 0, 2, 0x7F, 1), malformed},
		"property of PUBLISH":    {frame(0xE0, 0, 3, 0x23, 0, 1), malformed},
		"session expiry twice":   {wire.Disconnect{Props: wire.Props{expiry(0), expiry(0)}}, []byte{protocolError}},
		"reason string twice":    {wire.Disconnect{Props: wire.Props{wire.StringProp(wire.ReasonStringID, "a"), wire.StringProp(wire.ReasonStringID, "b")}}, []byte{protocolError}},
		"NUL in reason string":   {wire.Disconnect{Props: wire.Props{wire.StringProp(wire.ReasonStringID, "a\x00b")}}, malformed},
		"server reference twice": {wire.Disconnect{Props: wire.Props{wire.StringProp(wire.ServerReferenceID, "a"), wire.StringProp(wire.ServerReferenceID, "a")}}, []byte{malformedPacket, protocolError}},
	})
}

// A DISCONNECT of the server is its last packet and says why; it arrives even
// where the client had sent more than the server cared to read, and it has no
// session expiry [MQTT-3.14.2-2].
func TestV5ServerDisconnectArrives(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.14.2-1", "MQTT-3.14.2-2", "MQTT-3.14.4-1", "MQTT-3.14.4-2")
	for range 10 {
		c := join(t, expiry(600))
		var b []byte
		b = append(b, wire.Encode(wire.Sub(1, "a", 3), wire.V5)...) // QoS 3
		for range 2000 {
			b = append(b, wire.Encode(message("t", 0, long(100)), wire.V5)...)
		}
		c.SendRaw(b)
		c.AwaitDisconnect(malformedPacket, protocolError)
	}
}
