package acl

import "strings"

// matches reports whether the rule's filter matches a topic name, for a client
// that it fits. Topics that begin with $ are matched by filters that do
// (MQTT 5 §4.7.2).
func (r *Rule) matches(c Client, topic string) bool {
	filter := r.filter
	if topic != "" && topic[0] == '$' && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	for {
		f, fs, fMore := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, ts, tMore := strings.Cut(topic, "/")
		if f != "+" && !r.matchesLevel(c, f, t) {
			return false
		}
		switch {
		case !fMore || !tMore:
			return fMore == tMore || fMore && fs == "#" // "a/#" matches "a"
		}
		filter, topic = fs, ts
	}
}

// matchesLevel compares a level of the filter, with what its placeholders stand
// for, byte by byte.
func (r *Rule) matchesLevel(c Client, filter, level string) bool {
	if !r.pattern {
		return filter == level
	}
	for {
		i := strings.IndexByte(filter, '%')
		if i < 0 || i+1 == len(filter) {
			return filter == level
		}
		name := filter[i : i+1] // a % that is just that
		next := i + 1
		switch filter[i+1] {
		case 'c':
			name, next = c.ID, i+2
		case 'u':
			name, next = c.User, i+2
		}
		rest, ok := strings.CutPrefix(level, filter[:i])
		if !ok {
			return false
		}
		if level, ok = strings.CutPrefix(rest, name); !ok {
			return false
		}
		filter = filter[next:]
	}
}

// apart reports whether one of two filters is of $ topics and the other, which
// begins with a wildcard, is not.
func apart(a, b string) bool {
	wild := func(s string) bool { return s[0] == '+' || s[0] == '#' }
	return a != "" && b != "" && (a[0] == '$' && wild(b) || b[0] == '$' && wild(a))
}

// covers reports whether every topic that inner matches is matched by outer
// too. Both are topic filters; a topic name is one.
func covers(outer, inner string) bool {
	if apart(outer, inner) {
		return false
	}
	for {
		o, os, oMore := strings.Cut(outer, "/")
		i, is, iMore := strings.Cut(inner, "/")
		switch {
		case o == "#":
			return true
		case i == "#", o != "+" && o != i:
			return false
		case !oMore || !iMore:
			return oMore == iMore || oMore && os == "#"
		}
		outer, inner = os, is
	}
}

// overlaps reports whether there is a topic that both filters match.
func overlaps(a, b string) bool {
	if apart(a, b) {
		return false
	}
	for {
		x, xs, xMore := strings.Cut(a, "/")
		y, ys, yMore := strings.Cut(b, "/")
		switch {
		case x == "#", y == "#":
			return true
		case x != "+" && y != "+" && x != y:
			return false
		case !xMore || !yMore:
			return xMore == yMore || xMore && xs == "#" || yMore && ys == "#"
		}
		a, b = xs, ys
	}
}
