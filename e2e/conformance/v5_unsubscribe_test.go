package conformance

import (
	"bytes"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// UNSUBACK has the identifier of its UNSUBSCRIBE and one code for each filter
// in their order: 0x00 or 0x11 [MQTT-3.10.4-4] [MQTT-3.10.4-5]
// [MQTT-3.10.4-6] [MQTT-3.11.3-1] [MQTT-3.11.3-2]. Filters are compared as they
// are written [MQTT-3.10.4-1].
func TestV5Unsuback(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.10.4-1", "MQTT-3.10.4-4", "MQTT-3.10.4-5", "MQTT-3.10.4-6", "MQTT-3.11.3-1", "MQTT-3.11.3-2", "MQTT-2.2.1-6")
	c, base := join(t), unique("t")
	c.Subscribe(base+"/a", 1)
	c.Subscribe(base+"/+", 1)
	c.Subscribe("$share/g/"+base+"/s", 1)
	c.Send(wire.Unsub(77, base+"/none", base+"/#", base+"/A", base+"/a", base+"/a", base+"/s", "$share/h/"+base+"/s", "$share/g/"+base+"/s"))
	u := wire.Next[wire.Unsuback](c)
	no := byte(noSubscriptionExisted)
	if u.ID != 77 || !bytes.Equal(u.Codes, []byte{no, no, no, 0, no, no, no, 0}) {
		t.Errorf("%+v", u)
	}
	c.Publish(base+"/a", 1, "by the wildcard") // base/+ is still there
	receives(t, c, "by the wildcard")
	c.Unsubscribe(base + "/+")
	c.Publish(base+"/a", 1, "to nobody")
	c.Publish(base+"/s", 1, "to nobody")
	c.ExpectNothing()
}

// After UNSUBACK nothing new is delivered, to those who are there and those
// who come back [MQTT-3.10.4-2].
func TestV5NothingAfterUnsuback(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.10.4-2")
	rounds(t, func(t *testing.T, qos byte) {
		id, topic, other := unique("c"), unique("t"), unique("t")
		c, pub := dial(t).Connect(resume(id)), join(t)
		c.Subscribe(topic, qos)
		c.Subscribe(other, max(qos, 1))
		c.Unsubscribe(topic)
		pub.Publish(topic, qos, "after UNSUBACK")
		pub.Publish(other, qos, "marker")
		receives(t, c, "marker")
		c.Ping()
		c.Disconnect()
		pub.Publish(topic, qos, "after UNSUBACK")
		pub.Publish(other, max(qos, 1), "marker")
		receives(t, dial(t).Connect(resume(id)), "marker")
	})
}

// What was being delivered at QoS 1 or 2 when UNSUBSCRIBE came is completed,
// over a reconnection too [MQTT-3.10.4-3].
func TestV5DeliveryCompletedAfterUnsubscribe(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.10.4-3")
	for qos := byte(1); qos <= 2; qos++ {
		id, topic := unique("c"), unique("t")
		c := dial(t).Connect(resume(id))
		c.Subscribe(topic, qos)
		join(t).Publish(topic, qos, "m")
		m := wire.Next[wire.Publish](c)
		c.Unsubscribe(topic)
		c.Drop()
		c = dial(t).Connect(resume(id))
		if again := receives(t, c, "m"); !again.Dup || again.ID != m.ID {
			t.Errorf("first %+v, then %+v", m, again)
		}
		c.ExpectNothing()
	}
}

// An UNSUBSCRIBE that is wrong ends the connection.
func TestV5MalformedUnsubscribe(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.10.1-1", "MQTT-3.10.3-1", "MQTT-3.10.3-2", "MQTT-2.1.3-1", "MQTT-2.2.1-3")
	malformed, either := []byte{malformedPacket}, []byte{malformedPacket, protocolError}
	frame := func(first byte, cut int) wire.Frame {
		b := wire.Encode(wire.Unsub(1, "abc"), wire.V5)[2:]
		return wire.Frame{First: first, Body: b[:len(b)-cut]}
	}
	ends(t, map[string]fault{
		"flags 0000 [MQTT-3.10.1-1]": {frame(0xA0, 0), malformed},
		"flags 0011":                 {frame(0xA3, 0), malformed},
		"flags 1010":                 {frame(0xAA, 0), malformed},
		"identifier 0":               {wire.Unsub(0, "a"), either},
		"no filters [MQTT-3.10.3-2]": {wire.Unsub(1), either},
		"empty":                      {wire.Frame{First: 0xA2}, malformed},
		"filter cut":                 {frame(0xA2, 1), malformed},
		"subscription identifier":    {wire.Unsubscribe{ID: 1, Props: wire.Props{subscriptionID(1)}, Filters: []string{"a"}}, malformed},
		"unknown property":           {wire.Unsubscribe{ID: 1, Props: wire.Props{wire.ByteProp(0x2B, 1)}, Filters: []string{"a"}}, malformed},
	})
	for name, s := range badStrings {
		ends(t, map[string]fault{
			"filter " + name:        {wire.Unsub(1, s), malformed},
			"user property " + name: {wire.Unsubscribe{ID: 1, Props: wire.Props{wire.User("n", s)}, Filters: []string{"a"}}, malformed},
		})
	}
}

// User properties of SUBSCRIBE and UNSUBSCRIBE are taken and do no harm.
func TestV5UserPropertiesOfRequests(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-2.2.2-1")
	c, topic := join(t, wire.User("a", "b"), wire.User("a", "b")), unique("t")
	users := wire.Props{wire.User("a", "b"), wire.User("a", "b")}
	c.Send(wire.Subscribe{ID: 1, Props: users, Filters: []wire.Filter{{Topic: topic}}})
	if s := wire.Next[wire.Suback](c); s.Codes[0] != 0 {
		t.Errorf("%+v", s)
	}
	c.Send(wire.Unsubscribe{ID: 2, Props: users, Filters: []string{topic}})
	if u := wire.Next[wire.Unsuback](c); u.Codes[0] != 0 {
		t.Errorf("%+v", u)
	}
	c.Send(wire.Disconnect{Props: users})
	c.ExpectClosed()
}
