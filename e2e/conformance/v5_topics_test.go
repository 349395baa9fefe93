package conformance

import (
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// Which topics a filter matches, live [MQTT-4.7.1-1] [MQTT-4.7.1-2]
// [MQTT-4.7.3-4] [MQTT-3.3.2-3]. Topics and filters are below a level of the
// test's own.
func TestV5Matching(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.7.1-1", "MQTT-4.7.1-2", "MQTT-4.7.3-4", "MQTT-3.3.2-3", "MQTT-4.5.0-1", "MQTT-4.7.0-1")
	for _, tc := range []struct {
		filter    string
		match, no []string
	}{
		{"sport/#", []string{"sport", "sport/", "sport/a", "sport/a/b/c"}, []string{"sports", "Sport", "spor"}},
		{"sport/tennis/+", []string{"sport/tennis/p1", "sport/tennis/"}, []string{"sport/tennis", "sport/tennis/p1/r"}},
		{"sport/+", []string{"sport/", "sport/a"}, []string{"sport", "sport/a/b"}},
		{"+/tennis/#", []string{"a/tennis", "a/tennis/b", "/tennis/c"}, []string{"tennis", "a/b/tennis"}},
		{"sport/+/p1", []string{"sport/tennis/p1", "sport//p1"}, []string{"sport/p1", "sport/a/b/p1"}},
		{"+", []string{"finance", ""}, []string{"/finance", "a/b"}},
		{"+/+", []string{"/finance", "a/b", "/"}, []string{"finance", "a/b/c"}},
		{"/+", []string{"/finance"}, []string{"finance", "//finance"}},
		{"a//b", []string{"a//b"}, []string{"a/b", "a/x/b"}},
		{"a/+/+/b", []string{"a/x/y/b", "a///b"}, []string{"a/x/b"}},
		{"a b/ü", []string{"a b/ü"}, []string{"a b/u\u0308", "a_b/ü", "a b/Ü"}},
		{"\uFEFFa", []string{"\uFEFFa"}, []string{"a"}},
		{"a.b/*/>/?", []string{"a.b/*/>/?"}, []string{"a/b/x/y/z", "a.b/x/y/z"}},
		{"{x}/[y]/(z)/^$/\\d", []string{"{x}/[y]/(z)/^$/\\d"}, []string{"x/y/z/a/1"}},
		{"a/+", []string{"a/\t", "a/ ", "a/$x", "a/\u200B"}, nil},
		{"#", []string{"a", "a/b", "", "/"}, nil},
	} {
		t.Run(tc.filter, func(t *testing.T) {
			t.Parallel()
			for qos := range byte(2) {
				base := unique("t")
				sub, pub := join(t), join(t)
				sub.Subscribe(base+"/"+tc.filter, 1)
				sub.Subscribe(base+"-marker", 1)
				for _, topic := range tc.no {
					pub.Publish(base+"/"+topic, qos, "no match")
				}
				for _, topic := range tc.match {
					pub.Publish(base+"/"+topic, qos, "match")
					if m := receives(t, sub, "match"); m.Topic != base+"/"+topic {
						t.Errorf("%q: got %+v", topic, m)
					}
				}
				pub.Publish(base+"-marker", qos, "marker")
				receives(t, sub, "marker")
			}
		})
	}
}

// A filter that starts with a wildcard does not match topics that start with $
// [MQTT-4.7.2-1]. Whether clients may publish there at all is the server's
// decision; not to $SYS, which is its own. The test is not parallel to others
// because it hears all that they publish.
func TestV5DollarTopics(t *testing.T) {
	covers5(t, "MQTT-4.7.2-1")
	marker := unique("t")
	sub := join(t)
	sub.Ignore = func(m wire.Publish) bool { return m.Topic != marker && m.Topic[0] != '$' }
	for _, filter := range []string{"#", "+/a", "+/#", "+/+"} {
		sub.Subscribe(filter, wire.RetainNever)
	}
	pub := join(t)
	for topic, denied := range map[string]bool{"$" + unique("t") + "/a": false, "$SYS/a": true, "$SYS/broker/uptime": true} {
		pub.Send(message(topic, 0, "m"), wire.Publish{Topic: topic, QoS: 1, ID: 8, Payload: "m"}, wire.Publish{Topic: topic, QoS: 2, ID: 9, Payload: "m"})
		one, two := pub.AwaitAck(wire.PUBACK, 8), pub.AwaitAck(wire.PUBREC, 9)
		if one.Code != two.Code || one.Code >= 0x80 && one.Code != notAuthorized || denied && one.Code < 0x80 {
			t.Errorf("%q: %+v %+v", topic, one, two)
		}
		if two.Code < 0x80 {
			pub.Send(wire.Pubrel(9))
			pub.AwaitAck(wire.PUBCOMP, 9)
		}
	}
	pub.Publish(marker, 1, "marker")
	receives(t, sub, "marker")
}

// Topic names that are none: 0x90, or the packet is at fault [MQTT-3.3.2-1]
// [MQTT-3.3.2-2] [MQTT-4.7.3-1] [MQTT-4.7.3-2]. A subscriber to everything
// sees nothing of them.
func TestV5InvalidTopicNames(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.3.2-1", "MQTT-3.3.2-2", "MQTT-4.7.0-1", "MQTT-4.7.3-1", "MQTT-4.7.3-2", "MQTT-1.5.4-1", "MQTT-1.5.4-2")
	base := unique("t")
	sub := join(t)
	sub.Subscribe(base+"/#", 0)
	for _, topic := range []string{"#", "+", "a/#", "a/+", "+/a", "a#", "a+b"} {
		for qos := range byte(3) {
			t.Run(topic, func(t *testing.T) {
				c := join(t)
				c.Send(wire.Publish{Topic: base + "/" + topic, QoS: qos, ID: 1, Payload: "m"})
				c.AwaitDisconnect(topicNameInvalid, malformedPacket, protocolError)
			})
		}
	}
	for name, s := range badStrings {
		t.Run(name, func(t *testing.T) {
			c := join(t)
			c.Send(wire.Publish{Topic: base + "/" + s, QoS: 1, ID: 1, Payload: "m"})
			c.AwaitDisconnect(malformedPacket)
		})
	}
	join(t).Publish(base+"/marker", 0, "marker")
	receives(t, sub, "marker")
}
