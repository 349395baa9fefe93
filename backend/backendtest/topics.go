package backendtest

import "strings"

// matches reports whether filter, without a "$share" prefix, matches topic, by
// the letter of MQTT 4.7: level by level, nothing clever.
func matches(filter, topic string) bool {
	f, n := strings.Split(filter, "/"), strings.Split(topic, "/")
	// A wildcard at the first level does not match '$' [MQTT-4.7.2-1].
	if strings.HasPrefix(topic, "$") && (f[0] == "#" || f[0] == "+") {
		return false
	}
	for i, level := range f {
		switch {
		case level == "#": // parent level included [MQTT-4.7.1-2]
			return true
		case i >= len(n):
			return false
		case level != "+" && level != n[i]:
			return false
		}
		// "a/#" matches "a" [MQTT-4.7.1-2].
		if i == len(n)-1 && len(f) == len(n)+1 && f[i+1] == "#" {
			return true
		}
	}
	return len(f) == len(n)
}

// topics has every shape a wildcard can meet: a parent and its subtree, empty
// levels at each place, '$' at the first level and elsewhere, names that are
// prefixes of each other as strings, bytes that sort before and after '/', and
// what has a meaning in the wildcards, globs and subjects of services.
var topics = []string{
	"a", "a/", "a//", "/a", "/", "//", "a/b", "a/b/", "a/b/c", "a/x/b", "a/x/b/c/d", "a/y/b", "a//b",
	"a/b/b", "ab", "ab/c", "a!", "a!/b", "a-b", "a.b", "a.b/c", "b", "b/a", "b/status", "c/status", "c/d/status",
	"$SYS", "$SYS/a", "$SYS/broker/uptime", "$SYS/broker/x/y", "$a/b", "a/$SYS", "a/$b/c", "$",
	"a b/c d", " ", " /a", "a*/b", "*", "a/*", ">", "a/>", "a.*.>", "{x}", "}x/{}", "[ab]/c", "a?c", `a\b`, "%s/%d",
	"é/ü", "日本/語", "\U0001F600/x", "a\nb", "a\tb", "a\x01", "a/\x7f", "\uffff",
}

// filters are the shapes of filters that are tried on topics; together with
// each topic as a filter of its own.
var filters = []string{
	"#", "+", "+/+", "+/#", "/#", "/+", "+/", "//+", "+//+",
	"a/#", "a/+", "a/+/#", "a/+/b", "a/+/b/#", "a/b/#", "a/+/+", "a/+/", "a/x/#", "+/b", "+/b/#", "+/+/b", "+/status", "+/+/status",
	"+/x/+", "+/x/+/#", "a//#", "a/+/c", "b/+", "zzz/#", "+/zzz", "a/b/c/#", "a/b/c/d/#",
	"$SYS/#", "$SYS/+", "$SYS/+/+", "$SYS/broker/#", "$SYS/broker/+", "$a/#", "$/#", "+/$SYS", "a/$SYS/#",
	"a b/#", "a b/+", "*/#", "a/*/#", ">/#", "+/>", "{x}/#", "}x/+", "é/+", "日本/#", "[ab]/+",
}

// allFilters returns filters and the topics as filters.
func allFilters() []string { return append(append([]string(nil), filters...), topics...) }

// awkward are client identifiers and topic levels that have broken drivers:
// what closes a hash tag, globs, separators, formats, control characters, and
// the longest that MQTT has.
var awkward = []string{
	"}x", "{}", "{", "}", "{a}", "*", "a b", " ", "a:b", "a:", ":a", "a", "A", "é", "日本語", "\U0001F600", "e\u0301", "a\nb", "a\r\nb", "\x01", "\x7f",
	"%s", "[a-z]", "a?", `\`, `"`, `'`, ".", "..", ">", "a.b", "$SYS", "$share", "inbox", "meta", "0", "-1", "null", "true",
	strings.Repeat("k", 4096), strings.Repeat("L", 65000), strings.Repeat("語", 21000), strings.Repeat("}", 300),
}

// awkwardIDs are those that are identifiers only, because they can not be a
// topic level.
var awkwardIDs = []string{"#", "+", "/", "a/b", "a/#", "$share/g/a", "//"}
