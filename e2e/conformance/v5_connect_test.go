package conformance

import (
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// The first packet is CONNECT and nothing else; there is no reply to anything
// that is not [MQTT-3.1.0-1] [MQTT-3.14.0-1].
func TestV5FirstPacket(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.0-1", "MQTT-3.14.0-1")
	for name, hex := range map[string]string{
		"type 0":                  "00 00",
		"CONNACK":                 "20 03 00 00 00",
		"PUBLISH":                 "30 05 00 01 61 00 62",
		"PUBACK":                  "40 02 00 01",
		"PUBREC":                  "50 02 00 01",
		"PUBREL":                  "62 02 00 01",
		"PUBCOMP":                 "70 02 00 01",
		"SUBSCRIBE":               "82 07 00 01 00 00 01 61 00",
		"SUBACK":                  "90 04 00 01 00 00",
		"UNSUBSCRIBE":             "a2 06 00 01 00 00 01 61",
		"UNSUBACK":                "b0 04 00 01 00 00",
		"PINGREQ":                 "c0 00",
		"PINGRESP":                "d0 00",
		"DISCONNECT":              "e0 00",
		"AUTH":                    "f0 00",
		"CONNECT with flags 0001": "11 0e 00 04 4d 51 54 54 05 02 00 00 00 00 01 61",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dial(t)
			c.SendHex(hex)
			c.ExpectClosed()
		})
	}
}

// A declared length is refused on the header, before its bytes come.
func TestV5FirstPacketLength(t *testing.T) {
	t.Parallel()
	for name, hex := range map[string]string{
		"256 MiB":    "10 ff ff ff 7f",
		"five bytes": "10 80 80 80 80 01",
		"no end":     "10 ff ff ff ff",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dial(t)
			c.SendHex(hex)
			c.ExpectClosedWithin(5 * time.Second)
		})
	}
}

// A second CONNECT is a protocol error [MQTT-3.1.0-2], and there is no second
// CONNACK [MQTT-3.2.0-2].
func TestV5SecondConnect(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.0-2", "MQTT-3.2.0-2", "MQTT-4.13.1-1", "MQTT-4.13.2-1")
	p := clean(unique("c"))
	c := dial(t).Connect(p)
	c.Send(p)
	c.ExpectDisconnect(protocolError)
}

// A CONNECT with another protocol name or version is not accepted
// [MQTT-3.1.2-1] [MQTT-3.1.2-2]. Who says MQTT and a version that does not
// exist yet is told 0x84, in the form of MQTT 5; those below it that do not
// exist either may be answered by 0x01 in the form of MQTT 3.
func TestV5ProtocolNameAndVersion(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.2-1", "MQTT-3.1.2-2", "MQTT-3.2.2-6", "MQTT-3.2.2-7", "MQTT-3.14.0-1")
	const v5, v3, silent = "20 03 00 84 00", "20 02 00 01", ""
	for _, tc := range []struct {
		what, name string
		version    byte
		answers    []string
	}{
		{"lower case", "mqtt", 5, []string{v5, silent}},
		{"MQIsdp with version 5", "MQIsdp", 5, []string{v5, v3, silent}},
		{"one letter more", "MQTTX", 5, []string{v5, silent}},
		{"one letter less", "MQT", 5, []string{v5, silent}},
		{"NUL", "\x00", 5, []string{v5, silent}},
		{"version 0", "MQTT", 0, []string{v5, v3, silent}},
		{"version 1", "MQTT", 1, []string{v5, v3, silent}},
		{"version 2", "MQTT", 2, []string{v5, v3, silent}},
		{"version 6", "MQTT", 6, []string{v5}},
		{"version 99", "MQTT", 99, []string{v5}},
		{"version 255", "MQTT", 255, []string{v5}},
	} {
		t.Run(tc.what, func(t *testing.T) {
			t.Parallel()
			c := dial(t)
			// A whole packet that would be right but for this.
			body := wire.Connect{Version: wire.V5, Name: tc.name, ClientID: unique("c"), Clean: true}.Body()
			body[2+len(tc.name)] = tc.version
			c.Send(wire.Frame{First: 0x10, Body: body})
			c.Conn().SetReadDeadline(time.Now().Add(wire.Timeout))
			answer, err := io.ReadAll(c.Conn())
			if err != nil {
				t.Fatalf("not closed: % x, %v", answer, err)
			}
			if !slices.Contains(tc.answers, fmt.Sprintf("% x", answer)) {
				t.Errorf("got % x, want one of %q", answer, tc.answers)
			}
		})
	}
}

// A CONNECT that is not of the form of §3.1 is answered by the reason code of
// its fault and the end of the connection [MQTT-3.1.4-1].
func TestV5MalformedConnect(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.2-3", "MQTT-3.1.2-9", "MQTT-3.1.2-11", "MQTT-3.1.2-12", "MQTT-3.1.2-13", "MQTT-3.1.2-16", "MQTT-3.1.2-17",
		"MQTT-3.1.2-18", "MQTT-3.1.2-19", "MQTT-3.1.3-1", "MQTT-3.1.3-3", "MQTT-3.1.4-1", "MQTT-3.2.2-6", "MQTT-3.2.2-7", "MQTT-3.2.2-8")
	const flags = 7 // position of the connect flags in the body
	set := func(p wire.Connect, or byte) wire.Frame {
		b := p.Body()
		b[flags] |= or
		return wire.Frame{First: 0x10, Body: b}
	}
	cut := func(p wire.Connect, n int) wire.Frame {
		b := p.Body()
		return wire.Frame{First: 0x10, Body: b[:len(b)-n]}
	}
	frame := func(p wire.Connect, more string) wire.Frame {
		return wire.Frame{First: 0x10, Body: append(p.Body(), more...)}
	}
	text := func(s string) *string { return &s }
	will := clean(unique("c"))
	will.Will = &wire.Will{Topic: "w", Payload: "bye"}
	user := clean(unique("c"))
	user.Username = text("u")
	pass := clean(unique("c"))
	pass.Password = text("p")
	short := clean("")
	const malformed, protocol = malformedPacket, protocolError

	for name, tc := range map[string]struct {
		packet wire.Packet
		codes  []byte
	}{
		"reserved flag [MQTT-3.1.2-3]":        {set(clean(unique("c")), 0x01), []byte{malformed, protocol}},
		"will QoS without will":               {set(clean(unique("c")), 0x08), []byte{malformed, protocol}},
		"will QoS 3":                          {set(will, 0x18), []byte{malformed, protocol}},
		"will retain without will":            {set(clean(unique("c")), 0x20), []byte{malformed, protocol}},
		"will flag, no will":                  {set(clean(unique("c")), 0x04), []byte{malformed}},
		"will flag, payload cut":              {cut(will, 1), []byte{malformed}},
		"will flag, no payload":               {cut(will, 5), []byte{malformed}},
		"user name flag, no user name":        {set(clean(unique("c")), 0x80), []byte{malformed}},
		"user name cut":                       {cut(user, 1), []byte{malformed}},
		"user name without its flag":          {frame(clean(unique("c")), "\x00\x01u"), []byte{malformed}},
		"password flag, no password":          {set(user, 0x40), []byte{malformed}},
		"password cut":                        {cut(pass, 1), []byte{malformed}},
		"password without its flag":           {frame(user, "\x00\x01p"), []byte{malformed}},
		"bytes after the end":                 {frame(clean(unique("c")), "x"), []byte{malformed}},
		"no client identifier [MQTT-3.1.3-3]": {cut(short, 2), []byte{malformed}},
		"client identifier cut":               {cut(clean("abc"), 1), []byte{malformed}},
		"property length cut":                 {cut(short, 3), []byte{malformed}},
		"property length over the end":        {wire.Frame{First: 0x10, Body: append(short.Body()[:10], 0x7f, 0, 0)}, []byte{malformed}},
		"property length of five bytes":       {wire.Frame{First: 0x10, Body: append(short.Body()[:10], 0x80, 0x80, 0x80, 0x80, 1, 0, 0)}, []byte{malformed}},
		"unknown property":                    {clean(unique("c"), wire.ByteProp(0x7e, 1)), []byte{malformed}},
		"property of PUBLISH":                 {clean(unique("c"), wire.U16Prop(wire.TopicAliasID, 1)), []byte{malformed}},
		"property of CONNACK":                 {clean(unique("c"), wire.U16Prop(wire.ServerKeepAliveID, 1)), []byte{malformed}},
		"property of the will":                {clean(unique("c"), wire.U32Prop(wire.WillDelayID, 1)), []byte{malformed}},
		"property cut":                        {clean(unique("c"), wire.Prop{ID: wire.SessionExpiryID, Value: []byte{0, 0}}), []byte{malformed}},
		"user property cut":                   {clean(unique("c"), wire.Prop{ID: wire.UserPropertyID, Value: wire.Str("name")}), []byte{malformed}},
		"session expiry twice":                {clean(unique("c"), expiry(1), expiry(1)), []byte{protocol}},
		"receive maximum twice":               {clean(unique("c"), receiveMaximum(1), receiveMaximum(1)), []byte{protocol}},
		"receive maximum 0":                   {clean(unique("c"), receiveMaximum(0)), []byte{protocol}},
		"maximum packet size twice":           {clean(unique("c"), maximumPacketSize(99), maximumPacketSize(99)), []byte{protocol}},
		"maximum packet size 0":               {clean(unique("c"), maximumPacketSize(0)), []byte{protocol}},
		"topic alias maximum twice":           {clean(unique("c"), aliasMaximum(1), aliasMaximum(1)), []byte{protocol}},
		"request response information twice":  {clean(unique("c"), wire.ByteProp(wire.RequestResponseInfoID, 0), wire.ByteProp(wire.RequestResponseInfoID, 0)), []byte{protocol}},
		"request response information 2":      {clean(unique("c"), wire.ByteProp(wire.RequestResponseInfoID, 2)), []byte{protocol}},
		"request problem information twice":   {clean(unique("c"), wire.ByteProp(wire.RequestProblemInfoID, 1), wire.ByteProp(wire.RequestProblemInfoID, 1)), []byte{protocol}},
		"request problem information 2":       {clean(unique("c"), wire.ByteProp(wire.RequestProblemInfoID, 2)), []byte{protocol}},
		"authentication method twice":         {clean(unique("c"), wire.StringProp(wire.AuthMethodID, "m"), wire.StringProp(wire.AuthMethodID, "m")), []byte{protocol}},
		"authentication data without method":  {clean(unique("c"), wire.StringProp(wire.AuthDataID, "d")), []byte{protocol}},
		"will delay twice":                    {withWill(wire.U32Prop(wire.WillDelayID, 1), wire.U32Prop(wire.WillDelayID, 1)), []byte{protocol}},
		"will payload format twice":           {withWill(wire.ByteProp(wire.PayloadFormatID, 1), wire.ByteProp(wire.PayloadFormatID, 1)), []byte{protocol}},
		"will payload format 2":               {withWill(wire.ByteProp(wire.PayloadFormatID, 2)), []byte{malformed, protocol}},
		"will expiry twice":                   {withWill(wire.U32Prop(wire.MessageExpiryID, 1), wire.U32Prop(wire.MessageExpiryID, 1)), []byte{protocol}},
		"will content type twice":             {withWill(wire.StringProp(wire.ContentTypeID, "a"), wire.StringProp(wire.ContentTypeID, "a")), []byte{protocol}},
		"will response topic twice":           {withWill(wire.StringProp(wire.ResponseTopicID, "a"), wire.StringProp(wire.ResponseTopicID, "a")), []byte{protocol}},
		"will response topic with a wildcard": {withWill(wire.StringProp(wire.ResponseTopicID, "a/#")), []byte{malformed, protocol, topicNameInvalid}},
		"will response topic empty":           {withWill(wire.StringProp(wire.ResponseTopicID, "")), []byte{malformed, protocol, topicNameInvalid}},
		"will correlation data twice":         {withWill(wire.StringProp(wire.CorrelationDataID, "a"), wire.StringProp(wire.CorrelationDataID, "a")), []byte{protocol}},
		"will with a topic alias":             {withWill(wire.U16Prop(wire.TopicAliasID, 1)), []byte{malformed}},
		"will with a subscription identifier": {withWill(wire.VarintProp(wire.SubscriptionIDID, 1)), []byte{malformed}},
		"will with session expiry":            {withWill(expiry(1)), []byte{malformed}},
		"will topic with #":                   {willTo("a/#"), []byte{malformed, protocol, topicNameInvalid}},
		"will topic with +":                   {willTo("+/a"), []byte{malformed, protocol, topicNameInvalid}},
		"will topic empty":                    {willTo(""), []byte{malformed, protocol, topicNameInvalid}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dial(t).RefusedFor(tc.packet, tc.codes...)
		})
	}
}

func receiveMaximum(n uint16) wire.Prop    { return wire.U16Prop(wire.ReceiveMaximumID, n) }
func maximumPacketSize(n uint32) wire.Prop { return wire.U32Prop(wire.MaximumPacketSizeID, n) }
func aliasMaximum(n uint16) wire.Prop      { return wire.U16Prop(wire.TopicAliasMaximumID, n) }

// withWill is a CONNECT with a will of these properties.
func withWill(props ...wire.Prop) wire.Connect {
	p := willTo(unique("w"))
	p.Will.Props = props
	return p
}

// willTo is a CONNECT with a will to that topic.
func willTo(topic string) wire.Connect {
	p := clean(unique("c"))
	p.Will = &wire.Will{Topic: topic, Payload: "bye"}
	return p
}

// Every string of CONNECT is UTF-8 without NUL and surrogates [MQTT-1.5.4-1]
// [MQTT-1.5.4-2], the halves of a pair too [MQTT-1.5.7-1].
func TestV5ConnectStrings(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-1.5.4-1", "MQTT-1.5.4-2", "MQTT-1.5.7-1", "MQTT-3.1.3-4", "MQTT-3.1.3-11", "MQTT-3.1.3-12")
	fields := map[string]func(s string) wire.Connect{
		"client identifier": func(s string) wire.Connect { return clean(s) },
		"will topic":        willTo,
		"user name": func(s string) wire.Connect {
			p := clean(unique("c"))
			p.Username = &s
			return p
		},
		"property name":         func(s string) wire.Connect { return clean(unique("c"), wire.User(s, "v")) },
		"property value":        func(s string) wire.Connect { return clean(unique("c"), wire.User("n", s)) },
		"authentication method": func(s string) wire.Connect { return clean(unique("c"), wire.StringProp(wire.AuthMethodID, s)) },
		"will response topic":   func(s string) wire.Connect { return withWill(wire.StringProp(wire.ResponseTopicID, s)) },
		"will content type":     func(s string) wire.Connect { return withWill(wire.StringProp(wire.ContentTypeID, s)) },
		"will property name":    func(s string) wire.Connect { return withWill(wire.User(s, "v")) },
		"will property value":   func(s string) wire.Connect { return withWill(wire.User("n", s)) },
	}
	for field, packet := range fields {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			for _, s := range badStrings {
				dial(t).RefusedFor(packet(s), malformedPacket)
			}
		})
	}
}

// Client identifiers of 1 to 23 bytes of letters and digits are accepted
// [MQTT-3.1.3-5], and here also any other string: spaces, what means something
// to stores and patterns, U+FEFF [MQTT-1.5.4-3], 65,000 bytes.
func TestV5ClientIdentifiers(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.3-5", "MQTT-3.1.4-5", "MQTT-1.5.4-3")
	for _, id := range []string{
		"a", "Z", "0", "0123456789abcdefghijklm", "nopqrstuvwxyzABCDEFGHIJ", "KLMNOPQRSTUVWXYZ",
		"with spaces in it ", "a/b", "#", "+", "*", "%c %u", "{a}b{c}", "}", "a\nb", "é ü 漢字 \U0001F600", "\uFEFFbom", long(65_000),
	} {
		t.Run(id[:min(len(id), 20)], func(t *testing.T) {
			t.Parallel()
			c := dial(t).Connect(clean(id))
			c.Ping()
			c.Disconnect()
		})
	}
}

// U+FEFF in front makes another client identifier: it is not stripped
// [MQTT-1.5.4-3] [MQTT-3.1.3-2].
func TestV5IdentifierNamesTheSession(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-1.5.4-3", "MQTT-3.1.3-2")
	id := unique("c")
	a := dial(t).Connect(resume(id))
	for _, other := range []string{"\uFEFF" + id, id + " ", " " + id, id[:1] + "C" + id[1:], id + "/"} {
		b := dial(t).Connect(resume(other))
		if b.Connack.SessionPresent {
			t.Errorf("%q has the session of %q", other, id)
		}
		b.Send(wire.Disconnect{Props: wire.Props{expiry(0)}})
		b.ExpectClosed()
	}
	a.Ping() // and a was not taken over
}

// A CONNECT that fails its checks gets nothing of what follows it done
// [MQTT-3.1.4-6].
func TestV5NothingAfterRefusal(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.4-6", "MQTT-3.1.4-2")
	topic := unique("t")
	sub := join(t)
	sub.Subscribe(topic, 1)
	c := dial(t)
	refused := clean(unique("c"), wire.StringProp(wire.AuthMethodID, "no such method"))
	c.Send(refused, message(topic, 0, "smuggled"))
	c.ExpectRefused(badAuthMethod)
	pub := join(t)
	pub.Publish(topic, 0, "next")
	receives(t, sub, "next")
}

// Packets may follow CONNECT without waiting for CONNACK, which is still the
// first answer [MQTT-3.2.0-1].
func TestV5PipelinedConnect(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.2.0-1")
	c, topic := dial(t), unique("t")
	c.Send(clean(unique("c")), wire.Sub(1, topic, 1), wire.Publish{Topic: topic, QoS: 1, ID: 2, Payload: "m"}, wire.Pingreq{})
	wire.Next[wire.Connack](c)
	if s := wire.Next[wire.Suback](c); s.ID != 1 {
		t.Errorf("%+v", s)
	}
	c.AwaitAck(wire.PUBACK, 2)
	if p := wire.Await[wire.Publish](c); p.Payload != "m" {
		t.Errorf("%+v", p)
	}
	wire.Await[wire.Pingresp](c)
}

// A CONNECT may come a byte at a time.
func TestV5ConnectInPieces(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.2.0-1")
	c := dial(t).Speak(wire.V5)
	for _, b := range wire.Encode(clean(unique("c"), wire.User("a", "b")), wire.V5) {
		c.SendRaw([]byte{b})
	}
	if a := wire.Next[wire.Connack](c); a.Code != 0 {
		t.Errorf("%+v", a)
	}
	c.Ping()
}

// 1.5 times the keep alive without a packet ends the connection with 0x8D, as
// if the network had failed: the will is published [MQTT-3.1.2-22].
func TestV5KeepAlive(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.2-22", "MQTT-3.2.2-22")
	topic := unique("w")
	sub := join(t)
	sub.Subscribe(topic, 0)
	p := willTo(topic)
	p.KeepAlive = 1
	start := time.Now() // before the gateway's clock starts
	c := dial(t).Connect(p)
	if n, ok := c.Connack.Props.Int(wire.ServerKeepAliveID); ok && n != 1 {
		t.Fatalf("server keep alive %d for 1", n)
	}
	c.ExpectDisconnect(keepAliveTimeout)
	if d := time.Since(start); d < 1400*time.Millisecond || d > 15*time.Second {
		t.Errorf("closed after %v, want 1.5 s", d)
	}
	receives(t, sub, "bye")
}

// Any packet counts as a sign of life, not only PINGREQ.
func TestV5KeepAliveByAnyPacket(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.2-22")
	p := clean(unique("c"))
	p.KeepAlive = 3
	c := dial(t).Connect(p)
	topic, tick := unique("t"), time.NewTicker(time.Second)
	defer tick.Stop()
	for range 6 { // beyond the grace
		<-tick.C
		c.Send(message(topic, 0, "alive"))
	}
	c.Ping()
}

// A packet that does not end is no sign of life.
func TestV5KeepAliveNotByHalfAPacket(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.2-22")
	p := clean(unique("c"))
	p.KeepAlive = 1
	c := dial(t).Connect(p)
	c.SendHex("30 7f 00 05")
	start, tick := time.Now(), time.NewTicker(300*time.Millisecond)
	defer tick.Stop()
	for range 7 { // 2.1 s in all
		<-tick.C
		c.SendRaw([]byte{'x'})
	}
	c.AwaitDisconnect(keepAliveTimeout)
	if d := time.Since(start); d > 15*time.Second {
		t.Errorf("closed after %v, want 1.5 s", d)
	}
}
