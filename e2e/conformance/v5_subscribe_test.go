package conformance

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

func subscriptionID(n int) wire.Prop { return wire.VarintProp(wire.SubscriptionIDID, n) }

// sameIDs reports whether m has exactly these subscription identifiers, in any
// order.
func sameIDs(m wire.Publish, want ...int) bool {
	got := m.Props.Ints(wire.SubscriptionIDID)
	slices.Sort(got)
	return slices.Equal(got, want)
}

// subscribes sends a SUBSCRIBE with an identifier and expects it granted.
func subscribes(t *testing.T, c *wire.Client, filter string, options byte, id int) {
	t.Helper()
	pid := c.NextID()
	c.Send(wire.Subscribe{ID: pid, Props: wire.Props{subscriptionID(id)}, Filters: []wire.Filter{{Topic: filter, Options: options}}})
	if s := wire.Await[wire.Suback](c); s.ID != pid || !bytes.Equal(s.Codes, []byte{options & 3}) {
		t.Fatalf("subscribe %q: %+v", filter, s)
	}
}

// SUBACK has the identifier of its SUBSCRIBE and one code for each filter, in
// their order: the granted QoS or why not [MQTT-3.8.4-1] [MQTT-3.8.4-2]
// [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-3.9.3-1] [MQTT-3.9.3-2].
func TestV5Suback(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.8.4-1", "MQTT-3.8.4-2", "MQTT-3.8.4-5", "MQTT-3.8.4-6", "MQTT-3.8.4-7", "MQTT-3.9.3-1", "MQTT-3.9.3-2", "MQTT-2.2.1-6")
	base, c := unique("t"), join(t)
	c.Send(wire.Subscribe{ID: 65_535, Filters: []wire.Filter{
		{Topic: base + "/2", Options: 2}, {Topic: base + "/0"}, {Topic: "$share//x", Options: 1}, {Topic: base + "/1", Options: 1}, {Topic: base + "/#", Options: 2},
	}})
	s := wire.Next[wire.Suback](c)
	if s.ID != 65_535 || !bytes.Equal(s.Codes, []byte{2, 0, topicFilterInvalid, 1, 2}) {
		t.Errorf("%+v", s)
	}
	c.Publish(base+"/0", 2, "m") // the filters that are right took effect
	if m := receives(t, c, "m"); m.QoS != 2 {
		t.Errorf("%+v", m)
	}
}

// The same filter again replaces the subscription: its QoS, its options and
// its identifier, and there is one copy [MQTT-3.8.4-3].
func TestV5SubscriptionReplaced(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.8.4-3", "MQTT-3.8.4-4")
	c, topic := join(t), unique("t")
	c.Subscribe(topic, 0)
	c.Publish(topic, 2, "1")
	if m := receives(t, c, "1"); m.QoS != 0 || !sameIDs(m) {
		t.Errorf("%+v", m)
	}
	subscribes(t, c, topic, 2|wire.RetainAsPublished, 5)
	c.PublishPacket(wire.Publish{Topic: topic, QoS: 2, Retain: true, Payload: "2"})
	if m := receives(t, c, "2"); m.QoS != 2 || !m.Retain || !sameIDs(m, 5) {
		t.Errorf("%+v", m)
	}
	c.PublishPacket(wire.Publish{Topic: topic, QoS: 2, Retain: true})
	receives(t, c, "")
	subscribes(t, c, topic, 1|wire.NoLocal, 6)
	c.Publish(topic, 1, "own")
	join(t).Publish(topic, 1, "another's")
	if m := receives(t, c, "another's"); m.QoS != 1 || !sameIDs(m, 6) {
		t.Errorf("%+v", m)
	}
	c.Subscribe(topic, 1)
	c.Publish(topic, 1, "own")
	if m := receives(t, c, "own"); !sameIDs(m) {
		t.Errorf("the identifier outlived its subscription: %+v", m)
	}
	c.ExpectNothing()
}

// The same filter twice in one SUBSCRIBE is as two in a row: two codes, and
// the second counts [MQTT-3.8.4-5].
func TestV5SameFilterTwice(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.8.4-5", "MQTT-3.8.4-6", "MQTT-3.8.4-3")
	c, topic := join(t), unique("t")
	c.Send(wire.Subscribe{ID: 1, Filters: []wire.Filter{{Topic: topic, Options: 2}, {Topic: topic, Options: 1}}})
	if s := wire.Next[wire.Suback](c); !bytes.Equal(s.Codes, []byte{2, 1}) {
		t.Errorf("%+v", s)
	}
	c.Publish(topic, 2, "m")
	if m := receives(t, c, "m"); m.QoS != 1 {
		t.Errorf("%+v", m)
	}
	c.ExpectNothing()
}

// No message is lost while a subscription is replaced again and again
// [MQTT-3.8.4-4].
func TestV5NothingLostByReplacing(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.8.4-4")
	topic, sub, pub := unique("t"), join(t), join(t)
	sub.Subscribe(topic, 1)
	const n = 50
	for i := range n {
		pub.Send(wire.Publish{Topic: topic, QoS: 1, ID: uint16(i + 1), Payload: string(rune('A' + i))})
		sub.Send(wire.Sub(uint16(i+1), topic, 1))
	}
	for i := range n {
		pub.AwaitAck(wire.PUBACK, uint16(i+1))
	}
	got := map[string]bool{}
	for len(got) < n {
		m := wire.Await[wire.Publish](sub)
		if got[m.Payload] {
			t.Fatalf("%+v twice", m)
		}
		got[m.Payload] = true
		sub.Send(wire.Puback(m.ID))
	}
}

// No Local keeps a client's messages from itself, on whatever connection, and
// from nobody else [MQTT-3.8.3-3].
func TestV5NoLocal(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.8.3-3")
	rounds(t, func(t *testing.T, qos byte) {
		topic, id := unique("t"), unique("c")
		a, b := dial(t).Connect(resume(id)), join(t)
		a.Subscribe(topic, 2|wire.NoLocal)
		b.Subscribe(topic, 2|wire.NoLocal)
		a.Publish(topic, qos, "of a")
		b.Publish(topic, qos, "of b")
		receives(t, a, "of b")
		receives(t, b, "of a")
		a.Ping()
		a.Disconnect()
		a = dial(t).Connect(resume(id)) // the identifier counts, not the connection
		a.Publish(topic, qos, "of a")
		b.Publish(topic, qos, "of b")
		receives(t, a, "of b")
		receives(t, b, "of a")
	})
}

// No Local on one of two overlapping subscriptions leaves the other alone.
func TestV5NoLocalOverlap(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.8.3-3", "MQTT-3.3.4-4")
	c, base := join(t), unique("t")
	subscribes(t, c, base+"/#", 2|wire.NoLocal, 1)
	subscribes(t, c, base+"/a", 1, 2)
	c.Publish(base+"/a", 2, "own")
	if m := receives(t, c, "own"); m.QoS != 1 || !sameIDs(m, 2) {
		t.Errorf("%+v", m)
	}
	c.Publish(base+"/b", 2, "own")
	c.ExpectNothing()
}

// Overlapping subscriptions: one copy, at the highest QoS, with all
// identifiers [MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4], whichever of them
// has that QoS, in sessions of every kind. The same identifier of two
// subscriptions may come once or twice.
func TestV5OverlappingSubscriptions(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.4-2", "MQTT-3.3.4-3", "MQTT-3.3.4-4")
	for name, tc := range map[string]struct {
		connect func(id string, props ...wire.Prop) wire.Connect
		away    bool
		least   byte // QoS that is promised to such a session
	}{"ephemeral": {clean, false, 0}, "durable": {resume, false, 0}, "away": {resume, true, 1}} {
		for published := tc.least; published <= 2; published++ {
			for highest := range 3 {
				t.Run(fmt.Sprint(name, " qos", published, " highest ", highest), func(t *testing.T) {
					t.Parallel()
					base, connect := unique("t"), tc.connect(unique("c"))
					c := dial(t).Connect(connect)
					granted := func(i int) byte { return byte((i + 2 - highest + 3) % 3) }
					subscribes(t, c, base+"/#", granted(0), 1)
					subscribes(t, c, base+"/+", granted(1), 268_435_455)
					subscribes(t, c, base+"/a", granted(2), 128)
					c.Subscribe(base+"/a/#", 1)
					subscribes(t, c, base+"/b", granted(2), 9)
					pub := join(t)
					if tc.away {
						c.Disconnect()
					}
					pub.Publish(base+"/a", published, "m")
					if tc.away {
						c = dial(t).Connect(connect)
					}
					if m := receives(t, c, "m"); m.QoS != published || !sameIDs(m, 1, 128, 268_435_455) {
						t.Errorf("%+v with identifiers %d", m, m.Props.Ints(wire.SubscriptionIDID))
					}
					pub.Publish(base+"/b", published, "marker")
					if m := receives(t, c, "marker"); !sameIDs(m, 1, 9, 268_435_455) {
						t.Errorf("a second copy or wrong identifiers: %+v", m)
					}
					c.ExpectNothing()
				})
			}
		}
	}
}

// Retain As Published of any overlapping subscription counts for the single
// copy; a message has RETAIN 0 only where none asks for it.
func TestV5OverlappingRetainAsPublished(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.1-13")
	c, base := join(t), unique("t")
	c.Subscribe(base+"/#", 1)
	c.Subscribe(base+"/a", 1|wire.RetainAsPublished)
	c.PublishPacket(wire.Publish{Topic: base + "/a", QoS: 1, Retain: true, Payload: "m"})
	if m := receives(t, c, "m"); !m.Retain {
		t.Errorf("%+v", m)
	}
	c.PublishPacket(wire.Publish{Topic: base + "/a", QoS: 1, Retain: true})
}

// A SUBSCRIBE that is wrong ends the connection with the code of its fault, or
// is answered for the filter in question.
func TestV5MalformedSubscribe(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.8.1-1", "MQTT-3.8.3-1", "MQTT-3.8.3-2", "MQTT-3.8.3-4", "MQTT-3.8.3-5", "MQTT-2.1.3-1", "MQTT-2.2.1-3", "MQTT-4.13.1-1")
	sub := func(filter string, options byte, props ...wire.Prop) wire.Packet {
		return wire.Subscribe{ID: 1, Props: props, Filters: []wire.Filter{{Topic: filter, Options: options}}}
	}
	body := func(first byte, p wire.Packet, cut int) wire.Frame {
		b := wire.Encode(p, wire.V5)[2:]
		return wire.Frame{First: first, Body: b[:len(b)-cut]}
	}
	malformed, protocol, either := []byte{malformedPacket}, []byte{protocolError}, []byte{malformedPacket, protocolError}
	ends(t, map[string]fault{
		"flags 0000 [MQTT-3.8.1-1]":          {body(0x80, sub("a", 0), 0), malformed},
		"flags 0011":                         {body(0x83, sub("a", 0), 0), malformed},
		"flags 1111":                         {body(0x8F, sub("a", 0), 0), malformed},
		"identifier 0 [MQTT-2.2.1-3]":        {wire.Sub(0, "a", 0), either},
		"no filters [MQTT-3.8.3-2]":          {wire.Subscribe{ID: 1}, either},
		"empty":                              {wire.Frame{First: 0x82}, malformed},
		"identifier cut":                     {wire.Frame{First: 0x82, Body: []byte{0}}, malformed},
		"no property length":                 {wire.Frame{First: 0x82, Body: []byte{0, 1}}, malformed},
		"options missing":                    {body(0x82, sub("a", 0), 1), malformed},
		"filter cut":                         {body(0x82, sub("abc", 0), 2), malformed},
		"second filter cut":                  {wire.Frame{First: 0x82, Body: append(wire.Encode(sub("a", 0), wire.V5)[2:], 0, 5, 'x')}, malformed},
		"QoS 3":                              {sub("a", 3), either},
		"reserved bit 6 [MQTT-3.8.3-5]":      {sub("a", 0x40), malformed},
		"reserved bit 7":                     {sub("a", 0x80), malformed},
		"retain handling 3":                  {sub("a", 0x30), either},
		"No Local shared [MQTT-3.8.3-4]":     {sub("$share/g/a", wire.NoLocal), protocol},
		"subscription identifier 0":          {sub("a", 0, subscriptionID(0)), protocol},
		"subscription identifier twice":      {sub("a", 0, subscriptionID(1), subscriptionID(2)), protocol},
		"subscription identifier of 5 bytes": {sub("a", 0, wire.Prop{ID: wire.SubscriptionIDID, Value: []byte{0x80, 0x80, 0x80, 0x80, 1}}), malformed},
		"subscription identifier cut":        {sub("a", 0, wire.Prop{ID: wire.SubscriptionIDID, Value: []byte{0x80}}), malformed},
		"property of PUBLISH":                {sub("a", 0, wire.U16Prop(wire.TopicAliasID, 1)), malformed},
		"reason string":                      {sub("a", 0, wire.StringProp(wire.ReasonStringID, "x")), malformed},
		"unknown property":                   {sub("a", 0, wire.ByteProp(0x7f, 1)), malformed},
	})
	for name, s := range badStrings {
		ends(t, map[string]fault{
			"filter " + name:        {sub(s, 0), malformed},
			"user property " + name: {sub("a", 0, wire.User(s, "")), malformed},
		})
	}
}

// fault is a packet and the reason codes that answer it.
type fault struct {
	packet wire.Packet
	codes  []byte
}

// ends sends each packet on a connection of its own, which must end with a
// DISCONNECT of one of its codes.
func ends(t *testing.T, faults map[string]fault) {
	t.Helper()
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := join(t)
			c.Send(f.packet)
			c.AwaitDisconnect(f.codes...)
		})
	}
}

// Filters that are no filters: refused with 0x8F, each for itself, or as a
// fault of the packet; never granted [MQTT-4.7.1-1] [MQTT-4.7.1-2]
// [MQTT-4.7.3-1] [MQTT-4.8.2-1] [MQTT-4.8.2-2].
func TestV5InvalidFilters(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.7.0-1", "MQTT-4.7.1-1", "MQTT-4.7.1-2", "MQTT-4.7.3-1")
	for _, filter := range []string{
		"", "a#", "#/a", "a/#/b", "##", "a/##", "a/b#", "+a", "a+", "a/+b", "a/b+/c", "++", "a/++/b", "+#", "#+",
	} {
		t.Run(filter, func(t *testing.T) {
			t.Parallel()
			c := join(t)
			c.Send(wire.Sub(1, filter, 0))
			switch p := c.Next().(type) {
			case wire.Suback:
				if !bytes.Equal(p.Codes, []byte{topicFilterInvalid}) {
					t.Errorf("%+v", p)
				}
				c.Ping()
			case wire.Disconnect:
				if p.Code != malformedPacket && p.Code != protocolError && p.Code != topicFilterInvalid {
					t.Errorf("%+v", p)
				}
				c.ExpectClosed()
			default:
				t.Errorf("%+v", p)
			}
		})
	}
}

// A filter that is legal but too deep is refused with 0x8F, and the connection
// lives; a topic of that kind is refused with 0x90.
func TestV5TooDeep(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.7.3-3")
	slashes := long(65_535)
	b := []byte(slashes)
	for i := range b {
		b[i] = '/'
	}
	c := join(t)
	c.Send(wire.Sub(1, string(b), 0))
	if s := wire.Next[wire.Suback](c); !bytes.Equal(s.Codes, []byte{topicFilterInvalid}) {
		t.Errorf("%+v", s)
	}
	c.Send(wire.Publish{Topic: string(b), QoS: 1, ID: 2, Payload: "m"})
	if a := c.AwaitAck(wire.PUBACK, 2); a.Code != topicNameInvalid {
		t.Errorf("%+v", a)
	}
	c.Send(wire.Publish{Topic: string(b), QoS: 2, ID: 3, Payload: "m"})
	if a := c.AwaitAck(wire.PUBREC, 3); a.Code != topicNameInvalid {
		t.Errorf("%+v", a)
	}
	c.ExpectNothing()
}

// The longest topic that there is, 65,535 bytes, crosses unchanged
// [MQTT-4.7.3-3].
func TestV5LongestTopic(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.7.3-3")
	prefix := unique("t")
	topic := prefix + "/" + long(65_535-len(prefix)-1)
	for _, filter := range []string{prefix + "/+", topic} {
		c := join(t)
		c.Subscribe(filter, 1)
		join(t).Publish(topic, 1, "m")
		if m := receives(t, c, "m"); m.Topic != topic {
			t.Errorf("topic of %d bytes", len(m.Topic))
		}
	}
}
