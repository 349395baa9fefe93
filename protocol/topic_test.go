package protocol

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/quick"
	"unicode/utf8"
)

// texts are candidates for strings; valid says what [MQTT-1.5.4-1] and
// [MQTT-1.5.4-2] make of them.
var texts = []struct {
	name, clause, s string
	valid           bool
}{
	{"empty", "5 §1.5.4", "", true},
	{"ASCII", "5 §1.5.4", "plant/7", true},
	{"ASCII of eight", "5 §1.5.4", "12345678", true},
	{"control characters", "5 §1.5.4", "a\x01\x1f\x7fb\u0080\u009f", true},
	{"noncharacters", "5 §1.5.4", "\ufdd0\uffff\U0010ffff", true},
	{"two, three and four bytes", "[MQTT-1.5.4-1]", "æ漢🙂", true},
	{"U+FEFF", "[MQTT-1.5.4-3]", "\ufeffa", true},
	{"greatest length", "5 §1.5.4", strings.Repeat("x", 65535), true},
	{"too long", "5 §1.5.4", strings.Repeat("x", 65536), false},
	{"U+0000", "[MQTT-1.5.4-2]", "a\x00", false},
	{"U+0000 in the first eight", "[MQTT-1.5.4-2]", "abc\x00defgh", false},
	{"U+0000 behind Unicode", "[MQTT-1.5.4-2]", "漢漢漢\x00", false},
	{"overlong slash", "[MQTT-1.5.4-1]", "\xc0\xaf", false},
	{"overlong U+0000", "[MQTT-1.5.4-2]", "\xc0\x80", false},
	{"overlong of three bytes", "[MQTT-1.5.4-1]", "\xe0\x80\xaf", false},
	{"first surrogate", "[MQTT-1.5.4-1]", "\xed\xa0\x80", false},
	{"last surrogate", "[MQTT-1.5.4-1]", "\xed\xbf\xbf", false},
	{"surrogate pair", "[MQTT-1.5.4-1]", "\xed\xa0\xbd\xed\xb8\x80", false},
	{"beyond U+10FFFF", "[MQTT-1.5.4-1]", "\xf4\x90\x80\x80", false},
	{"continuation alone", "[MQTT-1.5.4-1]", "12345678\x80", false},
	{"cut short", "[MQTT-1.5.4-1]", "1234567\xe6\xbc", false},
}

func TestValidString(t *testing.T) {
	for _, tt := range texts {
		if ValidString(tt.s) != tt.valid || ValidString([]byte(tt.s)) != tt.valid {
			t.Errorf("%s: %s: want %v", tt.name, tt.clause, tt.valid)
		}
	}
}

func TestValidTopicName(t *testing.T) {
	tests := []struct {
		clause, topic string
		valid         bool
	}{
		{"[MQTT-4.7.3-1]", "", false},
		{"[MQTT-4.7.3-1]", "/", true},
		{"5 §4.7.3", "a b/ä//.*>", true},
		{"[MQTT-4.7.2-1]", "$SYS/x", true},
		{"[MQTT-4.7.0-1]", "a/+", false},
		{"[MQTT-4.7.0-1]", "a#", false},
		{"[MQTT-4.7.0-1]", "12345678/+", false},
		{"[MQTT-4.7.0-1]", "漢/#", false},
		{"[MQTT-4.7.0-1]", "*+)", false},
		{"5 §4.7.1", `"*,-$%`, true}, // neighbours of the wildcards
		{"[MQTT-4.7.3-3]", strings.Repeat("/", 65535), true},
	}
	for _, tt := range texts {
		tests = append(tests, struct {
			clause, topic string
			valid         bool
		}{tt.clause, tt.s, tt.valid && tt.s != ""})
	}
	for _, tt := range tests {
		for _, err := range []error{ValidTopicName(tt.topic), ValidTopicName([]byte(tt.topic))} {
			if (err == nil) != tt.valid || err != nil && codeOf(t, err) != TopicNameInvalid {
				t.Errorf("%s: %.40q: %v, want valid %v", tt.clause, tt.topic, err, tt.valid)
			}
		}
	}
}

// filters are candidates for filters, some of them shared.
var filters = []struct {
	clause, filter string
	valid          bool
	group, rest    string
}{
	{"[MQTT-4.7.3-1]", "", false, "", ""},
	{"5 §4.7.1.2", "#", true, "", "#"},
	{"5 §4.7.1.2", "sport/#", true, "", "sport/#"},
	{"[MQTT-4.7.1-1]", "sport#", false, "", ""},
	{"[MQTT-4.7.1-1]", "sport/#/ranking", false, "", ""},
	{"[MQTT-4.7.1-1]", "#/", false, "", ""},
	{"[MQTT-4.7.1-1]", "a/##", false, "", ""},
	{"[MQTT-4.7.1-2]", "+", true, "", "+"},
	{"[MQTT-4.7.1-2]", "+/tennis/#", true, "", "+/tennis/#"},
	{"[MQTT-4.7.1-2]", "sport+", false, "", ""},
	{"[MQTT-4.7.1-2]", "+sport", false, "", ""},
	{"[MQTT-4.7.1-2]", "a/+b/c", false, "", ""},
	{"[MQTT-4.7.1-2]", "++", false, "", ""},
	{"[MQTT-4.7.1-2]", "+#", false, "", ""},
	{"[MQTT-4.7.1-2]", "/+", true, "", "/+"},
	{"5 §4.7.3", "/", true, "", "/"},
	{"5 §4.7.3", "a b/*/>", true, "", "a b/*/>"},
	{"[MQTT-4.7.3-3]", strings.Repeat("/", 65535), true, "", strings.Repeat("/", 65535)},
	{"[MQTT-4.7.3-3]", strings.Repeat("/", 65536), false, "", ""},
	{"[MQTT-4.7.3-2]", "a\x00", false, "", ""},
	{"[MQTT-1.5.4-1]", "a/\xed\xa0\x80", false, "", ""},
	{"[MQTT-4.8.2-1]", "$share/g/a", true, "g", "a"},
	{"[MQTT-4.8.2-1]", "$share/g/#", true, "g", "#"},
	{"[MQTT-4.8.2-1]", "$share/g//", true, "g", "/"},
	{"[MQTT-4.8.2-1]", "$share/ä b/+/x", true, "ä b", "+/x"},
	{"[MQTT-4.8.2-1]", "$share//a", false, "", ""},
	{"[MQTT-4.8.2-2]", "$share/g", false, "", ""},
	{"[MQTT-4.8.2-2]", "$share/g/", false, "", ""},
	{"[MQTT-4.8.2-2]", "$share/", false, "", ""},
	{"[MQTT-4.8.2-2]", "$share/+/a", false, "", ""},
	{"[MQTT-4.8.2-2]", "$share/g#/a", false, "", ""},
	{"[MQTT-4.7.1-1]", "$share/g/a#", false, "", ""},
	{"5 §4.8.2", "$share", true, "", "$share"},
	{"5 §4.8.2", "$shared/g/a", true, "", "$shared/g/a"},
	{"5 §4.8.2", "a/$share/g/a", true, "", "a/$share/g/a"},
}

func TestFilters(t *testing.T) {
	for _, tt := range filters {
		err := ValidFilter(tt.filter)
		if (err == nil) != tt.valid || err != nil && codeOf(t, err) != TopicFilterInvalid {
			t.Errorf("%s: %.40q: %v, want valid %v", tt.clause, tt.filter, err, tt.valid)
		}
		if !tt.valid {
			continue
		}
		group, rest, shared := SplitShare(tt.filter)
		if group != tt.group || rest != tt.rest || shared != (tt.group != "") {
			t.Errorf("%s: %.40q splits into %q, %.40q, %v", tt.clause, tt.filter, group, rest, shared)
		}
	}
}

func TestMatch(t *testing.T) {
	tests := []struct {
		clause, filter, topic string
		want                  bool
	}{
		{"5 §4.7.1.2", "sport/tennis/player1/#", "sport/tennis/player1", true},
		{"5 §4.7.1.2", "sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
		{"5 §4.7.1.2", "sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"5 §4.7.1.2", "sport/tennis/player1/#", "sport/tennis/player10", false},
		{"5 §4.7.1.2", "#", "/", true},
		{"5 §4.7.1.2", "a/#", "a/", true},
		{"5 §4.7.1.2", "a/+/#", "a", false},
		{"5 §4.7.1.2", "a/+/#", "a/", true},
		{"5 §4.7.1.3", "sport/tennis/+", "sport/tennis/player1", true},
		{"5 §4.7.1.3", "sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"5 §4.7.1.3", "sport/+", "sport", false},
		{"5 §4.7.1.3", "sport/+", "sport/", true},
		{"5 §4.7.1.3", "+/+", "/finance", true},
		{"5 §4.7.1.3", "/+", "/finance", true},
		{"5 §4.7.1.3", "+", "/finance", false},
		{"5 §4.7.1.3", "+/+/+", "//", true},
		{"[MQTT-4.7.2-1]", "#", "$SYS/x", false},
		{"[MQTT-4.7.2-1]", "+/monitor/Clients", "$SYS/monitor/Clients", false},
		{"[MQTT-4.7.2-1]", "$SYS/#", "$SYS/", true},
		{"[MQTT-4.7.2-1]", "$SYS/monitor/+", "$SYS/monitor/Clients", true},
		{"[MQTT-4.7.2-1]", "a/+", "a/$b", true},
		{"[MQTT-4.7.2-1]", "+", "$", false},
		{"[MQTT-4.7.3-4]", "ACCOUNTS", "Accounts", false},
		{"[MQTT-4.7.3-4]", "Accounts payable", "Accounts payable", true},
		{"5 §4.7.3", "finance", "/finance", false},
		{"5 §4.7.3", "a/b", "a/b/", false},
		{"5 §4.7.3", "a/b/", "a/b", false},
	}
	for _, tt := range tests {
		if got := Match(tt.filter, tt.topic); got != tt.want {
			t.Errorf("%s: %q and %q: %v", tt.clause, tt.filter, tt.topic, got)
		}
	}
}

// naiveMatch follows the words of MQTT 5 §4.7.1 level by level.
func naiveMatch(filter, topic string) bool {
	if topic[0] == '$' && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	var match func(f, t []string) bool
	match = func(f, t []string) bool {
		switch {
		case len(f) == 0:
			return len(t) == 0
		case f[0] == "#":
			return true
		case len(t) == 0:
			return false
		}
		return (f[0] == "+" || f[0] == t[0]) && match(f[1:], t[1:])
	}
	return match(strings.Split(filter, "/"), strings.Split(topic, "/"))
}

// fromLevels joins a few levels out of a small choice, so that matches happen.
func fromLevels(rnd *rand.Rand, choice ...string) string {
	levels := make([]string, 1+rnd.IntN(5))
	for i := range levels {
		levels[i] = choice[rnd.IntN(len(choice))]
	}
	return strings.Join(levels, "/")
}

func TestMatchAgainstNaive(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	matched := 0
	for range 200000 {
		filter := fromLevels(rnd, "a", "b", "", "$x", "+", "+", "#")
		topic := fromLevels(rnd, "a", "b", "", "$x")
		if topic == "" || ValidFilter(filter) != nil {
			continue
		}
		want := naiveMatch(filter, topic)
		if got := Match(filter, topic); got != want {
			t.Fatalf("%q and %q: %v, want %v", filter, topic, got, want)
		}
		if want {
			matched++
		}
	}
	if matched < 1000 {
		t.Fatalf("only %d pairs matched: the test says little", matched)
	}
}

// For any bytes: the checks agree with plain ones from the standard library,
// and a topic name is a filter that matches itself.
func TestTopicProperties(t *testing.T) {
	alphabet := []string{"a", "/", "+", "#", "$", "*", "\x00", "\x01", "\x7f", "ä", "漢", "\xff", "\x80", "bcdefgh", "$share/"}
	check := func(picks []byte) bool {
		var s string
		for _, p := range picks {
			s += alphabet[int(p)%len(alphabet)]
		}
		text := utf8.ValidString(s) && !strings.Contains(s, "\x00")
		name := text && s != "" && !strings.ContainsAny(s, "+#")
		if ValidString(s) != text || (ValidTopicName(s) == nil) != name {
			return false
		}
		if name && !strings.HasPrefix(s, sharePrefix) && (ValidFilter(s) != nil || !Match(s, s)) {
			return false
		}
		return Levels(s) == len(strings.Split(s, "/")) && Levels([]byte(s)) == Levels(s)
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 20000}); err != nil {
		t.Error(err)
	}
}

// None of the checks copies what it checks.
func TestTopicChecksDoNotAllocate(t *testing.T) {
	topic := strings.Repeat("level/", 50)
	raw := bytes.Repeat([]byte("level/"), 50)
	if n := testing.AllocsPerRun(100, func() {
		if ValidTopicName(topic) != nil || ValidTopicName(raw) != nil || !ValidString(topic) || !ValidString(raw) ||
			ValidFilter(topic) != nil || Levels(topic) != 51 || Levels(raw) != 51 || !Match("level/#", topic) {
			t.Error("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
