// Package wire is a raw MQTT client for tests of a server: versions 3.1, 3.1.1
// and 5.0, over TCP and WebSocket.
//
// It has a codec of its own and shares nothing with the gateway, so that a
// misreading of the standard in one is not repeated in the other. What it
// sends may be as wrong as a test needs ([Frame], [Client.SendRaw],
// [Client.SendHex]); what it receives must be right to the last bit, or the
// test fails.
//
// A [Client] belongs to the goroutine of its test: it starts none, and every
// failed expectation ends the test at once. Waiting is always for an event,
// with [Timeout] as the limit.
//
//	sub := wire.Dial(t, addr).Connect(wire.Connect{ClientID: "s", Clean: true})
//	sub.Subscribe("a/+", 1)
//	pub := wire.Dial(t, addr).Connect(wire.Connect{ClientID: "p", Clean: true})
//	pub.Publish("a/b", 1, "hello")
//	got := sub.Receive() // completes the handshake of its QoS
package wire
