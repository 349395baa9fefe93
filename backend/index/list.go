package index

import (
	"slices"
	"strings"
)

// Member is a session that belongs to a shared group.
type Member struct {
	Session *Session
	QoS     byte
}

// Members returns up to max members of the group, connected ones first.
func (g *Group) Members(max int) []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]Member, 0, min(max, len(g.members)))
	for _, m := range g.up {
		if len(list) == max {
			return list
		}
		list = append(list, Member{m.session, m.delivery.QoS})
	}
	for s, m := range g.members {
		if len(list) == max {
			return list
		}
		if s.Conn() == nil && !slices.ContainsFunc(list, func(l Member) bool { return l.Session == s }) {
			list = append(list, Member{s, m.delivery.QoS})
		}
	}
	return list
}

// QoS is the highest that was granted to the session.
func (m *Matched) QoS() byte { return m.all.QoS }

// Covers reports whether a filter without "$share/group/" matches a topic
// [MQTT-4.7.1-2], [MQTT-4.7.2-1]. It is for single questions; Match answers for
// all filters at once.
func Covers(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && (filter == "" || filter[0] != '$') {
		return false
	}
	for {
		level, rest, more := strings.Cut(filter, "/")
		if level == "#" {
			return true
		}
		name, below, deeper := strings.Cut(topic, "/")
		if level != "+" && level != name {
			return false
		}
		if !deeper {
			return !more || rest == "#"
		}
		if !more {
			return false
		}
		filter, topic = rest, below
	}
}
