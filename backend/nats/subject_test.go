package nats

import (
	"strings"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
	tokens "github.com/sluice-mqtt/sluice/backend/nats/subject"
)

func TestSubjectOfTopic(t *testing.T) {
	s := newSubjects("p")
	tests := []struct {
		topic string
		class backend.Class
		want  string
	}{
		{"a", backend.ClassQoS0, "p.q.0.a"},
		{"a", backend.ClassAcked, "p.q.1.a"},
		{"a/b/c", backend.ClassQoS0, "p.q.0.a.b.c"},
		{"/", backend.ClassQoS0, "p.q.0.%.%"},
		{"a//b/", backend.ClassQoS0, "p.q.0.a.%.b.%"},
		{"%", backend.ClassQoS0, "p.q.0.%25"},
		{"a.b/*/>", backend.ClassQoS0, "p.q.0.a%2Eb.%2A.%3E"},
		{" \t\x7f/\n", backend.ClassQoS0, "p.q.0.%20%09%7F.%0A"},
		{"é/日本", backend.ClassQoS0, "p.q.0.é.日本"},
		{"$SYS/a", backend.ClassQoS0, "p.d.0.$SYS.a"}, // [MQTT-4.7.2-1]
		{"$", backend.ClassAcked, "p.d.1.$"},
		{"a/$SYS", backend.ClassQoS0, "p.q.0.a.$SYS"},
		{strings.Repeat("x", maxSubject-len("p.q.0.")), backend.ClassQoS0, "p.q.0." + strings.Repeat("x", maxSubject-len("p.q.0."))},
		{strings.Repeat("x", maxSubject-len("p.q.0.")+1), backend.ClassQoS0, "p.all"},
		{strings.Repeat("/", maxSubject/2), backend.ClassQoS0, "p.all"},
		{strings.Repeat(".", maxSubject/2), backend.ClassQoS0, "p.all"},
		{strings.Repeat("x", 65535), backend.ClassAcked, "p.all"},
	}
	for _, tt := range tests {
		if got := s.topic(tt.topic, tt.class); got != tt.want {
			t.Errorf("topic %.40q: subject %.60q, want %.60q", tt.topic, got, tt.want)
		}
	}
}

func TestSubjectsOfFilter(t *testing.T) {
	s := newSubjects("p")
	long := strings.Repeat("x", maxSubject-len("p.q.0."))
	tests := []struct {
		filter string
		want   string // separated by spaces
	}{
		{"a", "p.q.0.a"},
		{"#", "p.q.0.>"},
		{"+", "p.q.0.*"},
		{"+/#", "p.q.0.* p.q.0.*.>"},
		{"a/#", "p.q.0.a p.q.0.a.>"}, // [MQTT-4.7.1-2]
		{"/#", "p.q.0.% p.q.0.%.>"},
		{"a/+/b/+", "p.q.0.a.*.b.*"},
		{"+/", "p.q.0.*.%"},
		{"*/>", "p.q.0.%2A.%3E"},
		{"$SYS/#", "p.d.0.$SYS p.d.0.$SYS.>"},
		{"$SYS/+", "p.d.0.$SYS.*"},
		{long, "p.q.0." + long},
		{long + "/#", "p.q.0." + long + " p.q.0." + long + ".>"},
		{long + "/+", ""},
		{long + "x", ""},
		{long + "x/#", ""},
	}
	for class, want := range map[backend.Class]string{
		backend.ClassQoS0: "p.q.0.a p.q.0.a.>", backend.ClassAcked: "p.q.1.a p.q.1.a.>", backend.ClassQoS0 | backend.ClassAcked: "p.q.*.a p.q.*.a.>",
	} {
		if got := strings.Join(s.filter("a/#", class), " "); got != want {
			t.Errorf("class %d: %s, want %s", class, got, want)
		}
	}
	for _, tt := range tests {
		if got := strings.Join(s.filter(tt.filter, backend.ClassQoS0), " "); got != tt.want {
			t.Errorf("filter %.40q: subjects %.60q, want %.60q", tt.filter, got, tt.want)
		}
	}
}

// subjectMatches is the rule of NATS: "*" is one token, ">" one or more.
func subjectMatches(pattern, subject string) bool {
	p, s := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i, token := range p {
		switch {
		case token == ">":
			return i < len(s)
		case i >= len(s) || token != "*" && token != s[i]:
			return false
		}
	}
	return len(p) == len(s)
}

// filterMatches is the rule of MQTT 4.7.
func filterMatches(filter, topic string) bool {
	f, n := strings.Split(filter, "/"), strings.Split(topic, "/")
	if strings.HasPrefix(topic, "$") && (f[0] == "#" || f[0] == "+") {
		return false // [MQTT-4.7.2-1]
	}
	for i, level := range f {
		switch {
		case level == "#": // the parent matches too [MQTT-4.7.1-2]
			return len(n) >= i
		case i >= len(n) || level != "+" && level != n[i]:
			return false
		}
	}
	return len(f) == len(n)
}

// FuzzSubjects: a topic comes back from its subject, NATS takes the subject,
// and the subjects of a filter match it exactly if the filter matches the
// topic. What is too long is heard by all.
func FuzzSubjects(f *testing.F) {
	for _, topic := range []string{"a", "a/b", "/", "a//b", "$SYS/x", "%", "%25", "a.b", "é", " ", "*", ">", "a/%2E", strings.Repeat("a/", 600)} {
		for _, filter := range []string{"#", "+", "a/#", "a/+", "+/+", "$SYS/#", "+/#", "/#", "%", "a/b/#", strings.Repeat("+/", 600) + "#"} {
			f.Add(topic, filter)
		}
	}
	s := newSubjects("p.x")
	f.Fuzz(func(t *testing.T, topic, filter string) {
		if topic == "" || filter == "" || strings.ContainsAny(topic, "+#\x00") || !legalFilter(filter) {
			t.Skip()
		}
		subject := s.topic(topic, backend.ClassAcked)
		if len(subject) > maxSubject || strings.ContainsAny(subject, " \t\r\n\x00*>") || strings.Contains(subject, "..") || strings.HasSuffix(subject, ".") {
			t.Fatalf("topic %q: NATS does not take subject %q", topic, subject)
		}
		patterns := s.filter(filter, backend.ClassAcked)
		heard := subject == s.all
		if !heard {
			if got, err := tokens.Topic(strings.TrimPrefix(strings.TrimPrefix(subject, "p.x.q.1."), "p.x.d.1.")); err != nil || got != topic {
				t.Fatalf("topic %q has subject %q, which means %q", topic, subject, got)
			}
		}
		for _, p := range patterns {
			if subject != s.all && subjectMatches(p, subject) {
				heard = true
				if !filterMatches(filter, topic) {
					t.Fatalf("filter %q has subject %q, which matches %q", filter, p, subject)
				}
			}
		}
		if filterMatches(filter, topic) && !heard {
			t.Fatalf("filter %q has subjects %q, which do not match %q", filter, patterns, subject)
		}
	})
}

// legalFilter: wildcards stand alone in their level, "#" in the last
// [MQTT-4.7.1-1] [MQTT-4.7.1-2].
func legalFilter(filter string) bool {
	levels := strings.Split(filter, "/")
	for i, level := range levels {
		if strings.ContainsAny(level, "+#\x00") && level != "+" && (level != "#" || i < len(levels)-1) {
			return false
		}
	}
	return true
}
