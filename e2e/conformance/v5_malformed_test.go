package conformance

import (
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// A PUBLISH that is malformed or breaks a rule ends the connection with the
// code of its fault.
func TestV5MalformedPublish(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.1-2", "MQTT-3.3.1-4", "MQTT-3.3.2-1", "MQTT-3.3.2-13", "MQTT-3.3.2-14", "MQTT-3.3.2-19", "MQTT-3.3.4-6", "MQTT-2.2.1-3",
		"MQTT-1.5.7-1", "MQTT-4.13.1-1")
	malformed, protocol, either := []byte{malformedPacket}, []byte{protocolError}, []byte{malformedPacket, protocolError}
	name := []byte{malformedPacket, protocolError, topicNameInvalid}
	p := func(props ...wire.Prop) wire.Publish {
		return wire.Publish{Topic: "t", QoS: 1, ID: 1, Payload: "m", Props: props}
	}
	frame := func(first byte, body string) wire.Frame { return wire.Frame{First: first, Body: []byte(body)} }
	ends(t, map[string]fault{
		"QoS 3 [MQTT-3.3.1-4]":             {frame(0x36, "\x00\x01t\x00\x01\x00m"), malformed},
		"QoS 3, DUP, RETAIN":               {frame(0x3F, "\x00\x01t\x00\x01\x00m"), malformed},
		"DUP at QoS 0 [MQTT-3.3.1-2]":      {frame(0x38, "\x00\x01t\x00m"), either},
		"empty":                            {frame(0x30, ""), malformed},
		"topic length cut":                 {frame(0x30, "\x00"), malformed},
		"topic cut":                        {frame(0x30, "\x00\x05t"), malformed},
		"topic length of 65,535":           {frame(0x30, "\xff\xfft\x00"), malformed},
		"identifier missing":               {frame(0x32, "\x00\x01t"), malformed},
		"identifier cut":                   {frame(0x32, "\x00\x01t\x00"), malformed},
		"identifier 0 [MQTT-2.2.1-3]":      {frame(0x32, "\x00\x01t\x00\x00\x00m"), either},
		"identifier 0 at QoS 2":            {frame(0x34, "\x00\x01t\x00\x00\x00m"), either},
		"no property length":               {frame(0x30, "\x00\x01t"), malformed},
		"property length over the end":     {frame(0x30, "\x00\x01t\x05\x01\x00"), malformed},
		"property length not the shortest": {frame(0x30, "\x00\x01t\x80\x00m"), malformed},
		"property length of five bytes":    {frame(0x30, "\x00\x01t\x80\x80\x80\x80\x01m"), malformed},
		"property cut":                     {frame(0x30, "\x00\x01t\x03\x02\x00\x00"), malformed},
		"user property of one half":        {p(wire.Prop{ID: wire.UserPropertyID, Value: wire.Str("name")}), malformed},
		"unknown property 0x00":            {p(wire.ByteProp(0x00, 1)), malformed},
		"unknown property 0x7F":            {p(wire.ByteProp(0x7F, 1)), malformed},
		"unknown property 0x2B":            {p(wire.ByteProp(0x2B, 1)), malformed},
		"property number of two bytes":     {frame(0x30, "\x00\x01t\x03\x80\x01\x00m"), malformed},
		"payload format twice":             {p(wire.ByteProp(wire.PayloadFormatID, 0), wire.ByteProp(wire.PayloadFormatID, 0)), protocol},
		"payload format 2":                 {p(wire.ByteProp(wire.PayloadFormatID, 2)), either},
		"message expiry twice":             {p(messageExpiry(9), messageExpiry(9)), protocol},
		"content type twice":               {p(wire.StringProp(wire.ContentTypeID, "a"), wire.StringProp(wire.ContentTypeID, "b")), protocol},
		"response topic twice":             {p(wire.StringProp(wire.ResponseTopicID, "a"), wire.StringProp(wire.ResponseTopicID, "b")), protocol},
		"response topic #":                 {p(wire.StringProp(wire.ResponseTopicID, "a/#")), name},
		"response topic +":                 {p(wire.StringProp(wire.ResponseTopicID, "+")), name},
		"response topic empty":             {p(wire.StringProp(wire.ResponseTopicID, "")), name},
		"correlation data twice":           {p(wire.StringProp(wire.CorrelationDataID, "a"), wire.StringProp(wire.CorrelationDataID, "b")), protocol},
		"subscription identifier":          {p(subscriptionID(1)), protocol},
		"subscription identifiers":         {p(subscriptionID(1), subscriptionID(2)), protocol},
		"will delay":                       {p(wire.U32Prop(wire.WillDelayID, 1)), malformed},
		"session expiry":                   {p(expiry(1)), malformed},
		"reason string":                    {p(wire.StringProp(wire.ReasonStringID, "x")), malformed},
	})
	for what, s := range badStrings {
		ends(t, map[string]fault{
			"content type " + what:        {p(wire.StringProp(wire.ContentTypeID, s)), malformed},
			"response topic " + what:      {p(wire.StringProp(wire.ResponseTopicID, s)), malformed},
			"user property name " + what:  {p(wire.User(s, "")), malformed},
			"user property value " + what: {p(wire.User("", s)), malformed},
		})
	}
}

// Packets that are wrong whatever they say: reserved types and flags
// [MQTT-2.1.3-1], lengths [MQTT-1.5.5-1], and what only a server sends.
func TestV5MalformedPackets(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-2.1.3-1", "MQTT-1.5.5-1", "MQTT-4.13.1-1", "MQTT-4.13.2-1", "MQTT-3.14.1-1", "MQTT-3.15.1-1")
	const m, p = malformedPacket, protocolError
	for name, tc := range map[string]struct {
		hex   string
		codes []byte
	}{
		"type 0":                         {"00 00", []byte{m, p}},
		"type 0 with flags":              {"0f 00", []byte{m, p}},
		"PINGREQ, flags":                 {"c1 00", []byte{m}},
		"PINGREQ, content":               {"c0 01 00", []byte{m}},
		"DISCONNECT, flags":              {"e1 00", []byte{m}},
		"AUTH, flags":                    {"f1 00", []byte{m, p}},
		"remaining length of five bytes": {"30 80 80 80 80 01", []byte{m}},
		"remaining length without end":   {"c0 ff ff ff ff ff", []byte{m}},
		"remaining length, not shortest": {"c0 80 00", []byte{m}},
		"CONNACK":                        {"20 03 00 00 00", []byte{p}},
		"SUBACK":                         {"90 04 00 01 00 00", []byte{p}},
		"UNSUBACK":                       {"b0 04 00 01 00 00", []byte{p}},
		"PINGRESP":                       {"d0 00", []byte{p}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := join(t)
			c.SendHex(tc.hex)
			c.AwaitDisconnect(tc.codes...)
		})
	}
}

// User properties beyond what the server takes end the connection with 0x83,
// or are taken; 64 KiB of them cost no more than that.
func TestV5ManyUserProperties(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.2-17")
	sub, topic := watch(t, 1)
	c := join(t)
	var few, many wire.Props
	for range 60 {
		few = append(few, wire.User("n", "v"))
	}
	for range 64 << 10 / 7 {
		many = append(many, wire.User("n", "v"))
	}
	c.PublishPacket(message(topic, 1, "few", few...))
	if m := receives(t, sub, "few"); len(m.Props.Users()) != 60 {
		t.Errorf("%d user properties of 60", len(m.Props.Users()))
	}
	c.Send(wire.Publish{Topic: topic, QoS: 1, ID: 99, Payload: "many", Props: many})
	switch p := c.Next().(type) {
	case wire.Disconnect:
		if p.Code != implementationError {
			t.Errorf("%+v", p)
		}
		c.ExpectClosed()
	case wire.Ack:
		if p.Code == 0 {
			receives(t, sub, "many")
		}
	default:
		t.Errorf("%+v", p)
	}
}

// A fault on one connection leaves all others and the server alone: after
// every kind of it a good client is served.
func TestV5FaultsDisturbNobody(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.13.1-1")
	good, topic := watch(t, 1)
	for _, hex := range []string{
		"82 ff 01 00",                         // cut SUBSCRIBE, then the end of the connection
		"82 07 00 01 00 00 05 61 62",          // filter cut
		"30 08 00 01 74 03 08 00 00 6d",       // empty response topic
		"36 06 00 01 74 00 01 00",             // QoS 3
		"30 ff ff ff 7f",                      // far too long
		"10 10 00 04 4d 51 54 54 05 02 00 00", // CONNECT, cut
	} {
		c := join(t)
		c.SendHex(hex)
		closeWrite(c)
		good.Publish(topic, 1, "still here")
		receives(t, good, "still here")
	}
}
