package conformance

import (
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

func alias(n uint16) wire.Prop { return wire.U16Prop(wire.TopicAliasID, n) }

// aliasLimit is the Topic Alias Maximum that the server gave; the test ends
// where it takes none.
func aliasLimit(t *testing.T, c *wire.Client) uint16 {
	t.Helper()
	n, _ := c.Connack.Props.Int(wire.TopicAliasMaximumID)
	if n == 0 {
		t.Skip("the server takes no topic aliases")
	}
	return uint16(n)
}

// Every alias from 1 to the server's maximum is taken, can be used alone and
// be given to another topic, and does not travel to subscribers who did not
// ask for any [MQTT-3.3.2-12] [MQTT-3.1.2-27].
func TestV5AliasFromClient(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.2-12", "MQTT-3.1.2-27", "MQTT-3.2.2-17")
	sub, base := join(t), unique("t")
	sub.Subscribe(base+"/#", 2)
	c := join(t)
	limit := aliasLimit(t, c)
	for _, a := range []uint16{1, limit} {
		for i, tc := range []struct{ topic, want string }{
			{base + "/a", base + "/a"}, {"", base + "/a"}, {base + "/b", base + "/b"}, {"", base + "/b"}, {"", base + "/b"},
		} {
			c.PublishPacket(message(tc.topic, byte(i%3), "m", alias(a)))
			if m := receives(t, sub, "m"); m.Topic != tc.want || m.Props.Has(wire.TopicAliasID) {
				t.Errorf("alias %d, step %d: %+v", a, i, m)
			}
		}
	}
}

// As many aliases as the maximum can be in use at once.
func TestV5AllAliases(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.2-12")
	c, base := join(t), unique("t")
	c.Subscribe(base+"/#", 0)
	limit := aliasLimit(t, c)
	topic := func(a uint16) string { return base + "/" + string(rune('A'+a)) + long(4000) }
	for a := uint16(1); a <= min(limit, 64); a++ {
		c.Send(message(topic(a), 0, "define", alias(a)))
		receives(t, c, "define")
	}
	for a := uint16(1); a <= min(limit, 64); a++ {
		c.Send(message("", 0, "use", alias(a)))
		if m := receives(t, c, "use"); m.Topic != topic(a) {
			t.Errorf("alias %d: %.40s", a, m.Topic)
		}
	}
}

// Alias 0 and aliases above the maximum end the connection with 0x94, an
// unknown one with 0x82 (§3.3.2.3.4).
func TestV5InvalidAlias(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.2-8", "MQTT-3.3.2-9", "MQTT-3.2.2-17", "MQTT-3.2.2-18")
	rounds(t, func(t *testing.T, qos byte) {
		p := func(topic string, props ...wire.Prop) wire.Publish {
			m := message(topic, qos, "m", props...)
			m.ID = 1
			return m
		}
		limit := 0
		if n, ok := join(t).Connack.Props.Int(wire.TopicAliasMaximumID); ok {
			limit = n
		}
		invalid, protocol := []byte{topicAliasInvalid}, []byte{protocolError}
		faults := map[string]fault{
			"0":                  {p("t", alias(0)), invalid},
			"0 without topic":    {p("", alias(0)), []byte{topicAliasInvalid, protocolError}},
			"65,535":             {p("t", alias(65_535)), invalid},
			"above the maximum":  {p("t", alias(uint16(limit+1))), invalid},
			"twice":              {p("t", alias(1), alias(1)), protocol},
			"no topic, no alias": {p(""), []byte{protocolError, topicNameInvalid}},
		}
		if limit > 0 {
			faults["unknown"] = fault{p("", alias(uint16(limit))), protocol}
		}
		if limit == 65_535 {
			delete(faults, "65,535")
			delete(faults, "above the maximum")
		}
		ends(t, faults)
	})
}

// Aliases end with their connection, even where the session does not
// [MQTT-3.3.2-7].
func TestV5AliasEndsWithConnection(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.2-7")
	id, topic := unique("c"), unique("t")
	c := dial(t).Connect(resume(id))
	aliasLimit(t, c)
	c.PublishPacket(message(topic, 1, "m", alias(1)))
	c.Drop()
	c = dial(t).Connect(resume(id))
	c.Send(wire.Publish{QoS: 1, ID: 1, Payload: "m", Props: wire.Props{alias(1)}})
	c.AwaitDisconnect(protocolError)
}

// An alias is set by a PUBLISH that is refused or repeated as well.
func TestV5AliasOfRepeatedPublish(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.2-12")
	sub, topic := watch(t, 2)
	c := join(t)
	aliasLimit(t, c)
	c.Send(wire.Publish{Topic: topic, QoS: 2, ID: 1, Payload: "first"})
	c.AwaitAck(wire.PUBREC, 1)
	c.Send(wire.Publish{Topic: topic, QoS: 2, ID: 1, Payload: "first", Dup: true, Props: wire.Props{alias(1)}})
	c.AwaitAck(wire.PUBREC, 1)
	c.Send(wire.Publish{QoS: 2, ID: 2, Payload: "second", Props: wire.Props{alias(1)}})
	c.AwaitAck(wire.PUBREC, 2)
	receives(t, sub, "first")
	if m := receives(t, sub, "second"); m.Topic != topic {
		t.Errorf("%+v", m)
	}
}

// aliases is what a client knows of the server's aliases.
type aliases struct {
	maximum int
	topics  map[int]string
	used    int // messages that came with an alias alone
}

// topic resolves the topic of a message and checks its alias [MQTT-3.1.2-26]
// [MQTT-3.3.2-8] [MQTT-3.3.2-11].
func (a *aliases) topic(t *testing.T, m wire.Publish) string {
	t.Helper()
	n, has := m.Props.Int(wire.TopicAliasID)
	if !has {
		return m.Topic
	}
	if n < 1 || n > a.maximum {
		t.Fatalf("alias %d with a maximum of %d", n, a.maximum)
	}
	if m.Topic != "" {
		a.topics[n] = m.Topic
	} else {
		a.used++
	}
	return a.topics[n]
}

// The server keeps to the client's Topic Alias Maximum [MQTT-3.1.2-26]
// [MQTT-3.3.2-11] and makes use of it from the first message on.
func TestV5AliasFromServer(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.2-26", "MQTT-3.3.2-11", "MQTT-3.3.2-8")
	for _, maximum := range []int{1, 2, 65_535} {
		base := unique("t")
		c := join(t, aliasMaximum(uint16(maximum)))
		c.Subscribe(base+"/#", 2)
		pub := join(t)
		known := aliases{maximum: maximum, topics: map[int]string{}}
		for qos := range byte(3) {
			pub.Publish(base+"/one", qos, "m")
			m := receives(t, c, "m")
			if got := known.topic(t, m); got != base+"/one" {
				t.Fatalf("%+v is of topic %q", m, got)
			}
			if qos == 0 && (!m.Props.Has(wire.TopicAliasID) || m.Topic == "") {
				t.Errorf("no alias set by the first message: %+v", m)
			}
		}
		if known.used != 2 {
			t.Errorf("maximum %d: %d of 2 messages of a known topic used its alias", maximum, known.used)
		}
		for i := range 40 { // more topics than there are aliases
			topic := base + "/" + string(rune('A'+i%20))
			pub.Publish(topic, byte(i%3), "m")
			if got := known.topic(t, receives(t, c, "m")); got != topic {
				t.Fatalf("got %q, want %q", got, topic)
			}
		}
	}
}

// No alias comes where the client allows none [MQTT-3.1.2-27].
func TestV5NoAliasFromServer(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.2-27", "MQTT-3.3.2-11")
	for name, props := range map[string][]wire.Prop{"absent": nil, "0": {aliasMaximum(0)}} {
		c, topic := join(t, props...), unique("t")
		c.Subscribe(topic, 0)
		for range 3 {
			c.Publish(topic, 0, "m")
			if m := receives(t, c, "m"); m.Topic != topic || m.Props.Has(wire.TopicAliasID) {
				t.Errorf("%s: %+v", name, m)
			}
		}
	}
}

// What is sent again on another connection does not rely on the aliases of the
// first [MQTT-3.3.2-7].
func TestV5AliasOfRedelivery(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.2-7", "MQTT-4.4.0-1")
	id, topic := unique("c"), unique("t")
	c := dial(t).Connect(resume(id, aliasMaximum(1)))
	c.Subscribe(topic, 1)
	pub := join(t)
	for range 3 {
		pub.Publish(topic, 1, "m")
		wire.Next[wire.Publish](c)
	}
	for _, maximum := range []int{1, 0} {
		c.Drop()
		c = dial(t).Connect(resume(id, aliasMaximum(uint16(maximum))))
		known := aliases{maximum: maximum, topics: map[int]string{}}
		for range 3 {
			if got := known.topic(t, wire.Next[wire.Publish](c)); got != topic {
				t.Errorf("got %q, want %q", got, topic)
			}
		}
	}
}

// A message that is skipped, too large for the client, does not take the
// definition of its alias with it.
func TestV5AliasOfSkippedMessage(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.2-25", "MQTT-3.1.2-26")
	c, topic := join(t, aliasMaximum(5), maximumPacketSize(200)), unique("t")
	c.Subscribe(topic, 1)
	pub := join(t)
	known := aliases{maximum: 5, topics: map[int]string{}}
	pub.Publish(topic, 1, long(300))
	for range 2 {
		pub.Publish(topic, 1, "m")
		if got := known.topic(t, receives(t, c, "m")); got != topic {
			t.Errorf("got %q, want %q", got, topic)
		}
	}
}
