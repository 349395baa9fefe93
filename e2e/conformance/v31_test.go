package conformance

import (
	"strings"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// MQTT 3.1 has its own protocol name. That the rest works the same is what
// eachV3 is for; here is what differs.

// MQTT 3.1 lets the remaining length decide whether a user name or password is
// there: a flag without its field is legal (3.1 section "User name and
// password").
func TestV31MissingUserName(t *testing.T) {
	t.Parallel()
	p := wire.Connect{Version: wire.V31, ClientID: unique("c"), Clean: true}
	const flagsAt = 9 // after the name MQIsdp and the level
	for _, flags := range []byte{0x82, 0xC2} {
		body := p.Body()
		body[flagsAt] = flags
		c := dial(t)
		c.Send(p.WithBody(body))
		c.Expect(wire.Connack{})
		c.ExpectNothing()
		c.Disconnect()
	}
}

// In MQTT 3.1 bit 3 of SUBSCRIBE, UNSUBSCRIBE and PUBREL is DUP: a client that
// repeats the packet sets it.
func TestV31Flags(t *testing.T) {
	t.Parallel()
	topic := unique("t")
	c := join3(t, wire.V31)
	c.Send(wire.Frame{First: 0x8A, Body: wire.Cat(wire.U16(1), wire.Str(topic), []byte{1})})
	c.Expect(wire.Suback{ID: 1, Codes: []byte{1}})
	c.Send(wire.Publish{Topic: topic + "/x", QoS: 2, ID: 2})
	c.Expect(wire.Pubrec(2))
	c.Send(wire.Frame{First: 0x6A, Body: wire.U16(2)})
	c.Expect(wire.Pubcomp(2))
	c.Send(wire.Frame{First: 0xAA, Body: wire.Cat(wire.U16(3), wire.Str(topic))})
	c.Expect(wire.Unsuback{ID: 3})
}

// MQTT 3.1 wants an identifier of 1 to 23 characters, and return code 2 for
// others. Servers take longer ones; none is refused as the text says.
func TestV31ClientID(t *testing.T) {
	t.Parallel()
	for _, clean := range []bool{true, false} {
		dial(t).Refused(wire.Connect{Version: wire.V31, Clean: clean}, 2)
	}
	long := unique("c") + strings.Repeat("x", 50)
	c := dial(t).Connect(wire.Connect{Version: wire.V31, Clean: true, ClientID: long})
	c.Ping()
}

// A session belongs to the client identifier, not to the version: a client
// that moves from 3.1 to 3.1.1 keeps its messages.
func TestV31Upgrade(t *testing.T) {
	t.Parallel()
	id, topic := unique("c"), unique("t")
	c := dial(t).Connect(durable(wire.V31, id))
	c.Subscribe(topic, 2)
	c.Disconnect()
	join3(t, wire.V31).Publish(topic, 2, "kept")
	c = dial(t).Connect(durable(wire.V311, id))
	if got := c.Receive(); !c.Connack.SessionPresent || got.Payload != "kept" {
		t.Errorf("session present %v, got %+v", c.Connack.SessionPresent, got)
	}
	dial(t).Connect(wire.Connect{Version: wire.V31, ClientID: id, Clean: true}).Disconnect()
}
