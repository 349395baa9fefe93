// Package acl decides by rules who may publish, subscribe to and receive what.
// It reads the format of Mosquitto's acl_file.
package acl

import (
	"fmt"
	"strings"

	"github.com/sluice-mqtt/sluice/gateway"
)

// Verdict is what rules say to a question.
type Verdict uint8

const (
	// Silent: no rule says anything, which is a no unless somebody else knows.
	Silent Verdict = iota
	Allow
	Deny
)

// right is what a rule is about.
type right uint8

const (
	publish right = 1 << iota
	// subscribe to whatever could bring something that the rule's filter
	// matches.
	subscribe
	// subscribeWithin: to filters all of whose topics the rule's filter
	// matches.
	subscribeWithin
	receive
	deny right = 0
)

// words are the access words of the file. The first four are Mosquitto's.
var words = map[string]right{
	"read":      subscribe | receive,
	"write":     publish,
	"readwrite": publish | subscribe | receive,
	"deny":      deny,
	"publish":   publish,
	"subscribe": subscribeWithin,
	"receive":   receive,
}

// Rule allows or denies something for the topics that a filter matches.
type Rule struct {
	right  right
	filter string
	// pattern: %c and %u in the filter stand for client identifier and user.
	pattern bool
	c, u    bool // the filter has that placeholder
	// where and text are for people.
	where, text string
}

// String is the rule as it was written, and where.
func (r *Rule) String() string { return fmt.Sprintf("%s: %s", r.where, r.text) }

// Client is whom the rules are asked about. They see the user who was
// authenticated, not the user name that CONNECT says.
type Client struct {
	ID, User string
}

// Rules are asked together: one that denies beats those that allow.
type Rules []Rule

// Decide answers a question, and with which rule. It allocates nothing but for
// subscriptions.
func (rs Rules) Decide(c Client, a gateway.Access) (Verdict, *Rule) {
	for i := range rs {
		if r := &rs[i]; r.right == deny && r.denies(c, a) {
			return Deny, r
		}
	}
	for i := range rs {
		if r := &rs[i]; r.right != deny && r.allows(c, a) {
			return Allow, r
		}
	}
	return Silent, nil
}

func (r *Rule) allows(c Client, a gateway.Access) bool {
	if !r.fits(c) {
		return false
	}
	switch a.Action {
	case gateway.Publish:
		return r.right&publish != 0 && r.matches(c, a.Topic)
	case gateway.Receive:
		return r.right&receive != 0 && r.matches(c, a.Topic)
	case gateway.Subscribe:
		switch {
		case r.right&(subscribe|subscribeWithin) == 0:
			return false
		case r.right&subscribeWithin != 0, a.Shared:
			// What a member of a shared subscription may not receive is lost
			// to the others.
			return covers(r.expanded(c), a.Topic)
		}
		return overlaps(r.expanded(c), a.Topic)
	}
	return false
}

// denies reports whether nothing of what is asked for is allowed. A
// subscription that is denied in part is not denied: each message is asked for.
func (r *Rule) denies(c Client, a gateway.Access) bool {
	if !r.fits(c) {
		if !r.pattern || r.lacks(c) {
			return false
		}
		// What the pattern is for this client can not be said. It is denied
		// what the pattern is for anybody.
		return covers(r.forAnybody(), a.Topic)
	}
	if a.Action == gateway.Subscribe {
		return covers(r.expanded(c), a.Topic)
	}
	return r.matches(c, a.Topic)
}

// fits reports whether the rule can be applied to a client: identifiers and
// user names with a + # or / in them never enter a pattern, where they would be
// more than a name, and do not make it one of $ topics.
func (r *Rule) fits(c Client) bool {
	if !r.pattern {
		return true
	}
	if r.lacks(c) {
		return false
	}
	if r.c && strings.ContainsAny(c.ID, "+#/") || r.u && strings.ContainsAny(c.User, "+#/") {
		return false
	}
	first := r.filter
	switch {
	case strings.HasPrefix(first, "%c"):
		first = c.ID
	case strings.HasPrefix(first, "%u"):
		first = c.User
	default:
		return true
	}
	return first[0] != '$'
}

// lacks reports whether the rule is about something that the client has not.
func (r *Rule) lacks(c Client) bool {
	return r.c && c.ID == "" || r.u && c.User == ""
}

// forAnybody is the filter up to the level of its first placeholder, and
// everything below.
func (r *Rule) forAnybody() string {
	i := strings.Index(r.filter, "%c")
	if j := strings.Index(r.filter, "%u"); i < 0 || j >= 0 && j < i {
		i = j
	}
	return r.filter[:strings.LastIndexByte(r.filter[:i], '/')+1] + "#"
}

// expanded is the filter for a client that it fits. Names are put in once, so
// that a client called %u stays that.
func (r *Rule) expanded(c Client) string {
	if !r.pattern {
		return r.filter
	}
	return strings.NewReplacer("%c", c.ID, "%u", c.User).Replace(r.filter)
}
