package conformance

import (
	"slices"
	"strings"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// matching lists filters with the topics of the same row that they match and
// those they do not. The letter P stands for a level that no other test uses.
var matching = []struct {
	filter   string
	yes, not []string
}{
	{"P/a/#", []string{"P/a", "P/a/", "P/a/b", "P/a/b/c", "P/a//"}, []string{"P/ab", "P", "P/b/a", "P/A", "/P/a"}},
	{"P/#", []string{"P", "P/", "P/a", "P//", "P/a/b/c/d/e/f"}, []string{"/P", "P1", "a/P"}},
	{"P/+", []string{"P/a", "P/", "P/$a"}, []string{"P", "P/a/", "P/a/b", "P//", "/P/a"}},
	{"P/+/c", []string{"P/a/c", "P//c"}, []string{"P/c", "P/a/b/c", "P/a/c/", "P/a/C"}},
	{"P/a/+/b/#", []string{"P/a/x/b", "P/a/x/b/", "P/a/x/b/c/d", "P/a//b"}, []string{"P/a/b", "P/a/x/c", "P/a/x/y/b"}},
	{"P/+/+", []string{"P/a/b", "P//", "P/a/", "P//b"}, []string{"P/a", "P", "P/a/b/c"}},
	{"P/+/#", []string{"P/a", "P/", "P/a/b", "P//"}, []string{"P", "/P/a"}},
	{"+/P", []string{"/P", "a/P"}, []string{"P", "a/b/P", "a/P/", "$a/P"}},
	{"/+/P", []string{"/a/P", "//P"}, []string{"a/P", "/P", "/a/b/P"}},
	{"+/+/P", []string{"a/b/P", "/a/P", "//P"}, []string{"a/P", "/P", "$a/b/P"}},
	{"+/P/#", []string{"a/P", "/P", "a/P/b/c"}, []string{"P", "a/b/P", "$a/P/b"}},
	{"/P", []string{"/P"}, []string{"P", "//P", "/P/"}},
	{"P/", []string{"P/"}, []string{"P", "P//", "/P"}},
	{"P//a", []string{"P//a"}, []string{"P/a", "P///a", "P/x/a"}},
	{"P/a b/c*", []string{"P/a b/c*"}, []string{"P/ab/c*", "P/a b/cd", "P/a  b/c*"}},
	{"P/.>/*", []string{"P/.>/*"}, []string{"P/./*", "P/.>/x", "P/x/*"}},
	{"P/\u00e9", []string{"P/\u00e9"}, []string{"P/e\u0301", "P/\u00c9", "P/e"}},
	{"P/\ufeffa", []string{"P/\ufeffa"}, []string{"P/a", "P/\ufeff\ufeffa"}},
	{"P/a/../b", []string{"P/a/../b"}, []string{"P/b", "P/a/b"}},
	{"P/%41", []string{"P/%41"}, []string{"P/A", "P/%2541"}},
}

// [MQTT-3.3.2-3], [MQTT-4.7.1-2], [MQTT-4.7.1-3], [MQTT-4.7.3-4]: matching
// character by character. [MQTT-1.5.3-3]: U+FEFF is a character like others.
func TestV3Matching(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.3.2-3", "MQTT-4.7.1-2", "MQTT-4.7.1-3", "MQTT-4.7.3-4", "MQTT-1.5.3-3", "MQTT-4.7.2-1", "MQTT-3.3.2-1")
	for _, tt := range matching {
		t.Run(tt.filter, func(t *testing.T) {
			t.Parallel()
			level := unique("p")
			named := func(s string) string { return strings.ReplaceAll(s, "P", level) }
			end := unique("end")
			sub, pub := join3(t, wire.V311), join3(t, wire.V311)
			sub.Subscribe(named(tt.filter), 1)
			sub.Subscribe(end, 1)
			var want []string
			for _, topic := range slices.Concat(tt.not, tt.yes) {
				pub.PublishPacket(wire.Publish{Topic: named(topic), QoS: 1, Payload: topic})
				if slices.Contains(tt.yes, topic) {
					want = append(want, named(topic))
				}
			}
			pub.Publish(end, 1, "end")
			var got []string
			for m := sub.Receive(); m.Topic != end; m = sub.Receive() {
				got = append(got, m.Topic)
			}
			if !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

// [MQTT-3.3.1-6] by the same rows: what is retained is found by each filter.
func TestV3MatchingRetained(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-3.3.1-6", "MQTT-3.3.2-3", "MQTT-4.7.2-1")
	for _, tt := range matching {
		t.Run(tt.filter, func(t *testing.T) {
			t.Parallel()
			level := unique("p")
			named := func(s string) string { return strings.ReplaceAll(s, "P", level) }
			pub := join3(t, wire.V311)
			var want []string
			for _, topic := range slices.Concat(tt.not, tt.yes) {
				pub.PublishPacket(wire.Publish{Topic: named(topic), QoS: 1, Retain: true, Payload: "x"})
				if slices.Contains(tt.yes, topic) {
					want = append(want, named(topic))
				}
			}
			sub := join3(t, wire.V311)
			if clustered(t) { // a message may still be on its way from another gateway
				sub.Ignore = func(m wire.Publish) bool { return !m.Retain }
			}
			sub.Subscribe(named(tt.filter), 1)
			var got []string
			for range want {
				got = append(got, sub.Receive().Topic)
			}
			sub.ExpectNothing()
			for _, topic := range slices.Concat(tt.not, tt.yes) {
				pub.PublishPacket(wire.Publish{Topic: named(topic), QoS: 1, Retain: true})
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

// [MQTT-4.7.2-1]: the server's own topics are not under # and +, and are there
// for who names them.
func TestV3DollarTopics(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-4.7.2-1")
	eachV3(t, func(t *testing.T, v wire.Version) {
		named := join3(t, v)
		named.Subscribe("$SYS/broker/version", 0)
		if got := named.Receive(); got.Topic != "$SYS/broker/version" || got.Payload == "" {
			t.Errorf("got %+v", got)
		}
		wide := join3(t, v)
		wide.Ignore = func(m wire.Publish) bool { return !strings.HasPrefix(m.Topic, "$") }
		for _, filter := range []string{"#", "+/broker/version", "+/#", "+/broker/#", "+/+/version"} {
			wide.Subscribe(filter, 0)
		}
		wide.ExpectNothing()
		under := join3(t, v)
		under.Subscribe("$SYS/#", 0)
		if got := under.Receive(); !strings.HasPrefix(got.Topic, "$SYS/") {
			t.Errorf("got %+v", got)
		}
	})
}

// [MQTT-4.7.3-3]: names and filters of 65,535 bytes are legal, of one
// character too.
func TestV3TopicLength(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-4.7.3-3", "MQTT-4.7.3-1")
	eachV3(t, func(t *testing.T, v wire.Version) {
		long := unique("t") + "/"
		long += strings.Repeat("x", 65535-len(long))
		c := join3(t, v)
		c.Subscribe(long, 1)
		c.Publish(long, 1, "x")
		if got := c.Receive(); got.Topic != long {
			t.Errorf("got a topic of %d bytes", len(got.Topic))
		}
		short := join3(t, v)
		short.Ignore = func(m wire.Publish) bool { return m.Payload != long[:20] }
		short.Subscribe("/", 1)
		short.Publish("/", 1, long[:20])
		if got := short.Receive(); got.Topic != "/" {
			t.Errorf("got %+v", got)
		}
	})
}
