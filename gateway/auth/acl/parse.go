package acl

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/protocol"
)

// List is the content of a file.
//
//	topic [read|write|readwrite|deny|publish|subscribe|receive] FILTER
//	user NAME
//	topic …
//	pattern [read|…] FILTER
//
// Topic lines above the first user are for clients without a user, those below
// a user for that one. Pattern lines are for all; in them %c stands for the
// client identifier and %u for the user. Without an access word it is readwrite.
// Lines that begin with # are comments.
//
// The rules of the user are asked first, then the patterns; in each of the two,
// a deny comes before what allows.
type List struct {
	users    map[string]Rules
	nobody   Rules
	patterns Rules
}

// Decide answers a question. An empty list is silent.
func (l *List) Decide(c Client, a gateway.Access) (Verdict, *Rule) {
	own := l.nobody
	if c.User != "" {
		own = l.users[c.User]
	}
	if v, r := own.Decide(c, a); v != Silent {
		return v, r
	}
	return l.patterns.Decide(c, a)
}

// Parse reads a file. The error names every line that is wrong.
func Parse(content []byte) (*List, error) {
	l := &List{users: make(map[string]Rules)}
	var errs []error
	user, n := "", 0
	for text := range bytes.Lines(content) {
		n++
		line := strings.TrimLeft(strings.TrimRight(string(text), " \t\r\n"), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		fail := func(err error) { errs = append(errs, fmt.Errorf("line %d: %w", n, err)) }
		keyword, rest := cut(line)
		switch keyword {
		case "user":
			if user = rest; user == "" {
				fail(errors.New("user without a name"))
			}
		case "topic", "pattern":
			r, err := parseRule(keyword, rest)
			if err != nil {
				fail(err)
				continue
			}
			r.where, r.text = fmt.Sprintf("line %d", n), line
			switch {
			case r.pattern:
				l.patterns = append(l.patterns, r)
			case user != "":
				r.where += ", user " + user
				l.users[user] = append(l.users[user], r)
			default:
				l.nobody = append(l.nobody, r)
			}
		default:
			fail(fmt.Errorf("%q; allowed is topic, user and pattern", keyword))
		}
	}
	return l, errors.Join(errs...)
}

// ParseRules reads the lines of one user, topic and pattern lines alone; where
// says whose they are.
func ParseRules(lines []string, where string) (Rules, error) {
	var rs Rules
	for _, line := range lines {
		keyword, rest := cut(strings.TrimSpace(line))
		if keyword != "topic" && keyword != "pattern" {
			return nil, fmt.Errorf("%q; allowed is topic and pattern", keyword)
		}
		r, err := parseRule(keyword, rest)
		if err != nil {
			return nil, err
		}
		r.where, r.text = where, line
		rs = append(rs, r)
	}
	return rs, nil
}

// Canonical is a topic or pattern line as rules are kept that are not in a file:
// with its access word, and one blank between the words. Two lines that say the
// same are the same.
func Canonical(line string) (text string, pattern bool, err error) {
	if strings.ContainsAny(line, "\r\n") {
		return "", false, errors.New("a rule is one line")
	}
	rs, err := ParseRules([]string{line}, "")
	if err != nil {
		return "", false, err
	}
	return rs[0].canonical(), rs[0].pattern, nil
}

func (r *Rule) canonical() string {
	keyword := "topic"
	if r.pattern {
		keyword = "pattern"
	}
	// Of two words that mean the same, Mosquitto's.
	for _, word := range []string{"read", "write", "readwrite", "deny", "subscribe", "receive"} {
		if words[word] == r.right {
			return keyword + " " + word + " " + r.filter
		}
	}
	panic("acl: a rule without a word")
}

// Each calls f for the rules of every user, in order, each rule as [Canonical]:
// first those of clients without a user, who is "", then those of users, then the
// patterns.
func (l *List) Each(f func(user string, pattern bool, lines []string)) {
	call := func(user string, pattern bool, rs Rules) {
		lines := make([]string, len(rs))
		for i := range rs {
			lines[i] = rs[i].canonical()
		}
		f(user, pattern, lines)
	}
	call("", false, l.nobody)
	for _, u := range l.Users() {
		call(u, false, l.users[u])
	}
	call("", true, l.patterns)
}

// Granted are the rules of a token that lists filters for each action. With
// everything nil there are none. Where nothing is said of receiving, what may
// be subscribed to may be received.
func Granted(publishTo, subscribeTo, receiveFrom []string, where string) (Rules, error) {
	var rs Rules
	add := func(filters []string, w right, name string) error {
		for _, f := range filters {
			if err := validFilter(f); err != nil {
				return err
			}
			rs = append(rs, Rule{right: w, filter: f, where: where, text: name + " " + f})
		}
		return nil
	}
	sub := subscribeWithin
	if receiveFrom == nil {
		sub |= receive
	}
	err := errors.Join(add(publishTo, publish, "publish"), add(subscribeTo, sub, "subscribe"), add(receiveFrom, receive, "receive"))
	return rs, err
}

// Publishable lists the filters that rules of [Granted] allow to publish to; not
// nil.
func (rs Rules) Publishable() []string {
	list := []string{}
	for _, r := range rs {
		if r.right&publish != 0 {
			list = append(list, r.filter)
		}
	}
	return list
}

func parseRule(keyword, rest string) (Rule, error) {
	r := Rule{right: words["readwrite"], filter: rest, pattern: keyword == "pattern"}
	if word, filter := cut(rest); filter != "" {
		w, ok := words[word]
		if !ok {
			return r, fmt.Errorf("access %q; allowed is read, write, readwrite, deny, publish, subscribe and receive", word)
		}
		r.right, r.filter = w, filter
	}
	r.c, r.u = strings.Contains(r.filter, "%c"), strings.Contains(r.filter, "%u")
	return r, validFilter(r.filter)
}

func validFilter(f string) error {
	if strings.HasPrefix(f, "$share/") {
		return fmt.Errorf("filter %q: rules are for the filter behind $share/group/", f)
	}
	if !utf8.ValidString(f) || protocol.ValidFilter(f) != nil {
		return fmt.Errorf("filter %q: not a topic filter", f)
	}
	return nil
}

// cut splits off the first word; what separates it does not belong to the rest.
func cut(line string) (word, rest string) {
	i := strings.IndexAny(line, " \t")
	if i < 0 {
		return line, ""
	}
	return line[:i], strings.TrimLeft(line[i:], " \t")
}

// Users who have rules of their own, in order.
func (l *List) Users() []string {
	names := make([]string, 0, len(l.users))
	for u := range l.users {
		names = append(names, u)
	}
	slices.Sort(names)
	return names
}
