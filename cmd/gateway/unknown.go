package main

import (
	"regexp"
	"slices"
	"strings"
)

// prefixes are those of this program's variables.
var prefixes = []string{"GATEWAY_", "MQTT_", "REDIS_", "NATS_", "HTTP_", "AUTH_", "TLS_", "LOG_", "EVENTS_"}

// foreign are variables with one of our prefixes that others set: the proxy
// of HTTP clients, and what Kubernetes tells a pod about services that happen
// to be called gateway, mqtt, redis or nats.
var foreign = regexp.MustCompile(`^HTTP_PROXY$|_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$|^[A-Z0-9_]+_PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$`)

// unknown is a variable that looks like one of ours and is none.
type unknown struct {
	Name string
	// Nearest is the name that it may have been meant to be; empty if none is
	// near.
	Nearest string
}

func (u unknown) String() string {
	if u.Nearest == "" {
		return u.Name + " is not a variable of this program"
	}
	return u.Name + " is not a variable of this program, " + u.Nearest + " is"
}

// findUnknown looks for misspelt names, the commonest fault in an environment.
func findUnknown(environ []string, known map[string]bool) []unknown {
	candidates := sorted(known)
	var found []unknown
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		ours := slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
		if !ours || known[name] || value == "" || foreign.MatchString(name) {
			continue
		}
		u, least := unknown{Name: name}, (len(name)+2)/3+1
		for _, c := range candidates {
			if d := distance(name, c); d < least {
				u.Nearest, least = c, d
			}
		}
		found = append(found, u)
	}
	slices.SortFunc(found, func(a, b unknown) int { return strings.Compare(a.Name, b.Name) })
	return found
}

// distance is how many bytes have to be inserted, removed or replaced to turn
// a into b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			next := diagonal
			if a[i] != b[j] {
				next = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
