package acl

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-mqtt/sluice/gateway"
)

func list(t *testing.T, lines string) *List {
	t.Helper()
	l, err := Parse([]byte(lines))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var actions = map[string]gateway.Access{
	"pub": {Action: gateway.Publish}, "sub": {Action: gateway.Subscribe}, "recv": {Action: gateway.Receive},
	"share": {Action: gateway.Subscribe, Shared: true},
}

// TestDecide asks lists questions, each "user client action topic: answer", with
// - for no user.
func TestDecide(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, lines string
		questions   []string
	}{
		{"an empty file says nothing", "# none\n", []string{"ann c pub a: silent", "- c recv a: silent", "ann c sub #: silent"}},
		{"Mosquitto's example", `
# This affects access control for clients with no username.
topic read $SYS/#

# This only affects clients with username "roger".
user roger
topic foo/bar

# This affects all clients.
pattern write $SYS/broker/connection/%c/state
`, []string{
			"- c recv $SYS/broker/uptime: allow", "- c pub $SYS/x: silent", "- c sub $SYS/#: allow", "- c sub #: silent",
			"roger c pub foo/bar: allow", "roger c recv foo/bar: allow", "roger c recv foo: silent", "roger c recv $SYS/x: silent",
			"roger c pub $SYS/broker/connection/c/state: allow", "- c pub $SYS/broker/connection/d/state: silent",
		}},
		{"words", "user u\ntopic read r\ntopic write w\ntopic readwrite rw\ntopic deny rw/x\ntopic  publish\tp\ntopic subscribe s\ntopic receive i\ntopic some", []string{
			"u c sub r: allow", "u c recv r: allow", "u c pub r: silent", "u c pub w: allow", "u c recv w: silent", "u c sub w: silent",
			"u c pub rw: allow", "u c recv rw: allow", "u c pub rw/x: deny", "u c recv rw/x: deny", "u c sub rw/x: deny",
			"u c pub p: allow", "u c recv p: silent", "u c sub s: allow", "u c recv s: silent", "u c recv i: allow", "u c sub i: silent",
			"u c pub some: allow", "u c sub some: allow", "v c pub some: silent", "- c pub some: silent",
		}},
		{"spaces in names and topics, other line ends", "user ann smith\r\n  topic read a b/c d \r\n", []string{"ann+smith c recv a+b/c+d: allow"}},
		{"the end of the file without a line end", "user u\ntopic a", []string{"u c pub a: allow"}},
		{"a user in two parts", "user u\ntopic a\nuser v\ntopic b\nuser u\ntopic c", []string{"u c pub a: allow", "u c pub c: allow", "u c pub b: silent"}},
		{"deny comes first, wherever it is", "user u\ntopic a/#\ntopic deny a/secret\ntopic deny b/#\ntopic b/c", []string{
			"u c recv a/secret: deny", "u c recv a/open: allow", "u c recv a: allow", "u c recv b/c: deny",
			"u c sub a/secret: deny", "u c sub a/#: allow", "u c sub #: allow", "u c sub b/+: deny", "u c sub b: deny", "u c sub c/#: silent",
			"u c share a/#: allow", "u c share #: silent", "u c share a/secret: deny", "u c share +/x: silent",
		}},
		{"the user's rules before the patterns", "user u\ntopic a/b\npattern deny a/#\npattern b/%u", []string{
			"u c pub a/b: allow", "u c pub a/c: deny", "v c pub a/b: deny", "u c pub b/u: allow", "u c pub b/v: silent",
		}},
		{"subscriptions that could bring something", "user u\ntopic read a/+/c\ntopic subscribe x/#", []string{
			"u c sub a/#: allow", "u c sub +/b/#: allow", "u c sub a/b/c: allow", "u c sub a/b/d: silent", "u c sub a/+: silent", "u c sub a: silent",
			"u c sub x/y: allow", "u c sub x/#: allow", "u c sub x: allow", "u c sub +/y: silent", "u c sub a/b/c/#: allow",
		}},
		{"$ topics", "user u\ntopic #\ntopic deny +/secret", []string{
			"u c pub a: allow", "u c pub $SYS/x: silent", "u c recv $SYS/x: silent", "u c sub $SYS/#: silent", "u c sub #: allow",
			"u c sub +/#: allow", "u c recv $x/secret: silent", "u c sub $x/secret: silent", "u c recv a/secret: deny",
		}},
		{"$ topics, named", "user u\ntopic read $SYS/#\ntopic deny $SYS/secret/#", []string{
			"u c recv $SYS/x: allow", "u c recv $SYS/secret: deny", "u c sub $SYS/#: allow", "u c sub #: silent", "u c sub +/x: silent",
		}},
		{"empty levels", "user u\ntopic a//b\ntopic +/x/\ntopic /#", []string{"u c pub a//b: allow", "u c pub a/b: silent", "u c pub /x/: allow", "u c pub y/x/: allow", "u c pub y/x: silent", "u c pub /: allow"}},
		{"placeholders", "pattern d/%c/#\npattern u/%u/x\npattern read m/%u-%c\npattern 100%/%", []string{
			"u c pub d/c/x/y: allow", "u c pub d/c: allow", "u c pub d/e: silent", "u c pub u/u/x: allow", "- c pub u//x: silent",
			"u c recv m/u-c: allow", "u c recv m/u-d: silent", "u c sub m/u-c: allow", "u c sub m/+: allow", "u c pub 100%/%: allow", "- c pub d/c/x: allow",
		}},
		{"topic lines have none", "user u\ntopic d/%c", []string{"u c pub d/c: silent", "u c pub d/%c: allow"}},
		{"names that are wildcards are no pattern", "pattern d/%c/#\npattern e/%u", []string{
			"u # pub d/x: silent", "u + pub d/x: silent", "u + pub d/+/x: silent", "u a/b pub d/a/b: silent", "u # sub d/#: silent", "u + sub d/+/#: silent",
			"# c pub e/x: silent", "+ c sub e/+: silent", "u # pub e/u: allow", "# c pub d/c: allow",
		}},
		{"nor do they evade a deny", "user u\ntopic #\nuser +\ntopic #\npattern deny secret/%c/#\npattern deny x/y-%u\n", []string{
			"v c pub secret/c/1: deny", "v a/b pub secret/a/b/1: deny", "v + pub secret/d: deny", "v + sub secret/+/#: deny", "v + pub open: silent",
			"+/ c recv x/y-z: deny", "+/ c recv z: silent", "- c pub x/y-: silent",
		}},
		{"names are literal", "pattern p/%c/%u", []string{
			"%c %u pub p/%u/%c: allow", "%c %u pub p/%c/%c: silent", ".* .* pub p/.*/.*: allow", ".* .* pub p/a/b: silent", "a[b] ? pub p/?/a[b]: allow",
			"%u %c sub p/%c/%u: allow",
		}},
		{"a name does not make $ topics", "pattern %c/#\npattern %u/x", []string{"u $SYS pub $SYS/x: silent", "u $SYS sub $SYS/#: silent", "$u c recv $u/x: silent", "u c pub c/x: allow"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := list(t, tt.lines)
			for _, q := range tt.questions {
				question, want, _ := strings.Cut(q, ": ")
				f := strings.Fields(question)
				a := actions[f[2]]
				a.Topic = strings.ReplaceAll(f[3], "a+b/c+d", "a b/c d")
				c := Client{ID: f[1], User: strings.ReplaceAll(strings.TrimPrefix(f[0], "-"), "ann+smith", "ann smith")}
				v, r := l.Decide(c, a)
				got := map[Verdict]string{Silent: "silent", Allow: "allow", Deny: "deny"}[v]
				if got != want || (r == nil) != (v == Silent) {
					t.Errorf("%s: %s by %v, want %s", question, got, r, want)
				}
			}
		})
	}
}

// TestRuleString: the rule that decided is named as it was written.
func TestRuleString(t *testing.T) {
	t.Parallel()
	_, r := list(t, "# rules\nuser ann\n  topic read  a/#\n").Decide(Client{User: "ann"}, gateway.Access{Action: gateway.Receive, Topic: "a/b"})
	if want := "line 3, user ann: topic read  a/#"; r == nil || r.String() != want {
		t.Errorf("%v, want %s", r, want)
	}
}

// TestParseErrors names each wrong line.
func TestParseErrors(t *testing.T) {
	t.Parallel()
	_, err := Parse([]byte("topic a\ntopics b\ntopic\ntopic all a\ntopic read a/#/b\nuser\nuser \npattern read $share/g/%c\ntopic read \xff\n"))
	if err == nil {
		t.Fatal("no error")
	}
	var lines []string
	for l := range strings.Lines(err.Error()) {
		n, _, _ := strings.Cut(l, ": ")
		lines = append(lines, n)
	}
	if want := []string{"line 2", "line 3", "line 4", "line 5", "line 6", "line 7", "line 8", "line 9"}; !slices.Equal(lines, want) {
		t.Errorf("%q: %v", lines, err)
	}
}

// TestMosquittosFile: the file that Mosquitto's package comes with can be read.
func TestMosquittosFile(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("/usr/share/doc/mosquitto/examples/aclfile.example")
	if err != nil {
		t.Skip(err)
	}
	if l := list(t, string(content)); !slices.Equal(l.Users(), []string{"roger"}) {
		t.Errorf("users %q", l.Users())
	}
}

// TestGranted: lists of a token.
func TestGranted(t *testing.T) {
	t.Parallel()
	rs, err := Granted([]string{"p/#"}, []string{"s/+"}, nil, "token")
	all, err2 := Granted(nil, []string{"s/#"}, []string{}, "token")
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	ask := func(rs Rules, action, topic string) Verdict {
		a := actions[action]
		a.Topic = topic
		v, _ := rs.Decide(Client{ID: "c", User: "u"}, a)
		return v
	}
	for _, q := range []struct {
		rs            Rules
		action, topic string
		want          Verdict
	}{
		{rs, "pub", "p/x", Allow}, {rs, "recv", "p/x", Silent}, {rs, "sub", "s/x", Allow}, {rs, "sub", "s/#", Silent}, {rs, "recv", "s/x", Allow},
		{rs, "pub", "s/x", Silent}, {all, "sub", "s/x", Allow}, {all, "recv", "s/x", Silent}, {nil, "pub", "a", Silent},
	} {
		if v := ask(q.rs, q.action, q.topic); v != q.want {
			t.Errorf("%s %s: %v, want %v", q.action, q.topic, v, q.want)
		}
	}
	if _, err := Granted([]string{"a/#/b"}, nil, nil, "token"); err == nil {
		t.Error("a filter that is none")
	}
	if rs, err := ParseRules([]string{"topic read a", " pattern write b/%c"}, "user ann"); err != nil || ask(rs, "pub", "b/c") != Allow || ask(rs, "recv", "a") != Allow {
		t.Errorf("%v, %v", rs, err)
	}
	for _, wrong := range []string{"user x", "topic", "", "# x", "topic a/#/b"} {
		if _, err := ParseRules([]string{wrong}, "user ann"); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}

// TestFilters compares covers and overlaps with what they mean, over every topic
// of a small world.
func TestFilters(t *testing.T) {
	t.Parallel()
	levels := []string{"", "a", "b", "$x"}
	var topics []string
	for _, x := range levels {
		topics = append(topics, x)
		for _, y := range levels {
			topics = append(topics, x+"/"+y)
			for _, z := range levels {
				topics = append(topics, x+"/"+y+"/"+z)
			}
		}
	}
	random := func() string {
		var f []string
		for range 1 + rand.IntN(3) {
			f = append(f, []string{"", "a", "b", "$x", "+", "+", "#"}[rand.IntN(7)])
			if f[len(f)-1] == "#" {
				break
			}
		}
		if len(f) == 1 && f[0] == "" {
			return "a"
		}
		return strings.Join(f, "/")
	}
	for range 20_000 {
		a, b := random(), random()
		all, any := true, false
		for _, topic := range topics {
			ra, rb := Rule{filter: a}, Rule{filter: b}
			inA, inB := ra.matches(Client{}, topic), rb.matches(Client{}, topic)
			all = all && (inA || !inB)
			any = any || inA && inB
		}
		if got := overlaps(a, b); got != any {
			t.Fatalf("overlaps(%q, %q) = %v", a, b, got)
		}
		// "a/+/#" says nothing of a world of three levels that is not so of
		// four: covers may say no where there is just no room.
		if got := covers(a, b); got && !all || !got && all && !strings.Contains(b, "#") && any {
			t.Fatalf("covers(%q, %q) = %v", a, b, got)
		}
	}
}

// TestNoAllocation: a message costs no allocation, whatever rule decides.
func TestNoAllocation(t *testing.T) {
	var lines strings.Builder
	for i := range 50 {
		fmt.Fprintf(&lines, "user u%d\ntopic read x/%d/#\n", i, i)
	}
	l := list(t, lines.String()+"user u\ntopic deny a/secret\ntopic read a/+/c\npattern write d/%c/%u/#")
	c := Client{ID: "client", User: "u"}
	for _, a := range []gateway.Access{
		{Action: gateway.Publish, Topic: "d/client/u/x"}, {Action: gateway.Publish, Topic: "nothing/of/it"}, {Action: gateway.Receive, Topic: "a/b/c"}, {Action: gateway.Receive, Topic: "a/secret"},
	} {
		if n := testing.AllocsPerRun(100, func() { l.Decide(c, a) }); n != 0 {
			t.Errorf("%v: %v allocations", a, n)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	l, err := Parse([]byte("user u\ntopic deny a/secret\ntopic read a/+/c\ntopic write w/#\npattern write d/%c/%u/#"))
	if err != nil {
		b.Fatal(err)
	}
	c := Client{ID: "client", User: "u"}
	a := gateway.Access{Action: gateway.Publish, Topic: "d/client/u/x"}
	b.ReportAllocs()
	for b.Loop() {
		l.Decide(c, a)
	}
}

// TestCanonical: two lines that say the same are one.
func TestCanonical(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		line, want string
		pattern    bool
	}{
		{"topic a", "topic readwrite a", false}, {"  topic \t readwrite\ta ", "topic readwrite a", false},
		{"topic write a b", "topic write a b", false}, {"topic publish a", "topic write a", false}, {"topic deny", "topic readwrite deny", false},
		{"pattern read %c/#", "pattern read %c/#", true}, {"pattern subscribe u/%u", "pattern subscribe u/%u", true}, {"topic receive $x", "topic receive $x", false},
		{"topic deny a", "topic deny a", false},
	} {
		for range 5 {
			if got, pattern, err := Canonical(tt.line); got != tt.want || pattern != tt.pattern || err != nil {
				t.Errorf("%q: %q, %v, %v", tt.line, got, pattern, err)
			}
		}
	}
	for _, line := range []string{"", "user ann", "topic", "topic allow a", "topic read a/#/b", "topic read a\ntopic read b", "# comment"} {
		if got, _, err := Canonical(line); err == nil {
			t.Errorf("%q is a rule: %q", line, got)
		}
	}
}
