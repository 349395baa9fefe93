package subject

import (
	"strings"
	"testing"
)

func TestTopic(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ topic, tokens string }{
		{"a/b/c", "a.b.c"},
		{"a b/c.d", "a%20b.c%2Ed"},
		{"/a//b/", "%.a.%.b.%"},
		{"/", "%.%"},
		{"*/>", "%2A.%3E"},
		{"100%", "100%25"},
		{"%", "%25"},
		{"$SYS/x", "$SYS.x"},
		{"tab\there", "tab%09here"},
		{"Grüße/世界", "Grüße.世界"},
	} {
		if got := string(AppendLevels(nil, c.topic, 1000)); got != "."+c.tokens {
			t.Errorf("%q becomes %q, want %q", c.topic, got, c.tokens)
		}
		if got, err := Topic(c.tokens); got != c.topic || err != nil {
			t.Errorf("%q is read as %q, %v, want %q", c.tokens, got, err, c.topic)
		}
	}
	if got := string(AppendLevels(nil, "a/+", 1000)); got != ".a.*" {
		t.Errorf("a/+ becomes %q", got)
	}
	if got, err := Topic("a%2eb"); got != "a.b" || err != nil {
		t.Errorf("small digits: %q, %v", got, err)
	}
	for _, bad := range []string{"a%", "a.%2", "%%", "%zz", "a%2.b"} {
		if got, err := Topic(bad); err == nil {
			t.Errorf("%q is read as %q", bad, got)
		}
	}
}

// FuzzTopic: every topic has one subject, and every subject that can be read one
// topic.
func FuzzTopic(f *testing.F) {
	for _, s := range []string{"a/b", "", "/", "a b", "%", "a.b/*", "%20", "a/%/c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ContainsAny(s, "+") { // no topic has one
			return
		}
		tokens := string(AppendLevels(nil, s, 1<<20))[1:]
		if strings.ContainsAny(tokens, " \t\r\n*>") || strings.Contains("."+tokens+".", "..") {
			t.Fatalf("%q becomes %q, which is no subject", s, tokens)
		}
		if got, err := Topic(tokens); got != s || err != nil {
			t.Fatalf("%q becomes %q, which is read as %q, %v", s, tokens, got, err)
		}
		value := string(Escape(nil, s))
		if strings.ContainsAny(value, " \t\r\n") {
			t.Fatalf("%q becomes %q, which is no header", s, value)
		}
		if got, err := Unescape(nil, value); string(got) != s || err != nil {
			t.Fatalf("%q becomes %q, which is read as %q, %v", s, value, got, err)
		}
	})
}
