package session

// Aliases are the topic aliases that the server uses towards one client
// (MQTT 5 §3.3.2.3.4). The first topics get one; the table does not churn, so
// that a topic is never worth less than a plain one.
type Aliases struct {
	max uint16
	m   map[string]uint16
}

// NewAliases returns a table for as many aliases as the client and the server
// allow [MQTT-3.1.2-26].
func NewAliases(max uint16) Aliases { return Aliases{max: max} }

// Enabled reports whether the client allows aliases at all.
func (a *Aliases) Enabled() bool { return a.max > 0 }

// Get returns the alias for topic, 0 if it has none and gets none. If it is
// not known yet, the packet carries the topic too, and [Aliases.Learned] is
// called when the packet is certain to be sent.
func (a *Aliases) Get(topic string) (alias uint16, known bool) {
	if a.max == 0 {
		return 0, false
	}
	if alias, known = a.m[topic]; known {
		return alias, true
	}
	if len(a.m) >= int(a.max) {
		return 0, false
	}
	return uint16(len(a.m)) + 1, false
}

// Learned tells that the packet with a new alias is on its way.
func (a *Aliases) Learned(topic string, alias uint16) {
	if a.m == nil {
		a.m = make(map[string]uint16)
	}
	a.m[topic] = alias
}
