package index

import (
	"slices"
	"sync"

	"github.com/sluice-mqtt/sluice/backend"
)

// Matches are what matches a topic. They are immutable and shared.
type Matches struct {
	// Generation is that of the index at which they were taken.
	Generation uint64

	Sessions []Matched // each once
	Groups   []*Group
}

// Matched is a session with at least one matching subscription that is not
// shared.
type Matched struct {
	Session *Session

	all   Delivery
	own   *Delivery // for the session's own messages, if that is another
	quiet bool      // its own messages are not for it at all
}

// Delivery is how a session wants a message: all its matching subscriptions
// taken together.
type Delivery struct {
	// QoS is the highest that was granted [MQTT-3.3.4-2].
	QoS               byte
	RetainAsPublished bool
	// IDs are the subscription identifiers, in ascending order
	// [MQTT-3.3.4-3], [MQTT-3.3.4-4]. They are immutable and shared.
	IDs []uint32
}

// Entry returns the inbox entry or live delivery of m: with the lower of both
// QoS [MQTT-3.8.4-8], and with the retain flag only where it is wanted
// [MQTT-3.3.1-12], [MQTT-3.3.1-13].
func (d Delivery) Entry(m *backend.Message) backend.Entry {
	return backend.Entry{
		Message:         m,
		QoS:             min(d.QoS, m.QoS),
		Retain:          m.Retain && d.RetainAsPublished,
		SubscriptionIDs: d.IDs,
	}
}

// For returns how the session wants a message of publisher. It is false if the
// publisher is the session's own client and all its matching subscriptions
// are No Local [MQTT-3.8.3-3].
func (m *Matched) For(publisher backend.ClientID) (d Delivery, wanted bool) {
	if (m.own == nil && !m.quiet) || m.Session.Client != publisher {
		return m.all, true
	}
	if m.quiet {
		return Delivery{}, false
	}
	return *m.own, true
}

// Match returns what matches topic, nil if nothing does. It reflects every
// change that was complete when it began. A topic that nothing matches costs
// no allocation.
func (x *Index) Match(topic string) *Matches {
	sessions, _ := x.plain.Len()
	groups, _ := x.shared.Len()
	if sessions == 0 && groups == 0 {
		return nil
	}
	generation := x.Generation()
	if found, ok := x.cache.get(topic, generation); ok {
		return found
	}
	found := x.match(topic)
	if found != nil {
		found.Generation = generation
	}
	x.cache.put(topic, generation, found)
	return found
}

// Shares reports whether any shared group matches topic. It does not allocate.
func (x *Index) Shares(topic string) bool {
	if groups, _ := x.shared.Len(); groups == 0 {
		return false
	}
	if found, ok := x.cache.get(topic, x.Generation()); ok {
		return found != nil && len(found.Groups) > 0
	}
	shares := false
	x.shared.Match(topic, func(*Group, struct{}) { shares = true })
	return shares
}

// Generation returns a number that grows with every change of what matches.
// Matches of a generation that was read after a change reflect it.
func (x *Index) Generation() uint64 { return x.plain.Generation() + x.shared.Generation() }

// hit is one matching subscription.
type hit struct {
	s *Session
	g grant
}

// scratch is what a match collects into.
type scratch struct {
	hits       []hit
	groups     []*Group
	addSession func(*Session, grant)
	addGroup   func(*Group, struct{})
}

var scratches = sync.Pool{New: func() any {
	c := new(scratch)
	c.addSession = func(s *Session, g grant) { c.hits = append(c.hits, hit{s, g}) }
	c.addGroup = func(g *Group, _ struct{}) { c.groups = append(c.groups, g) }
	return c
}}

func (x *Index) match(topic string) *Matches {
	c := scratches.Get().(*scratch)
	defer func() {
		clear(c.hits)
		clear(c.groups)
		c.hits, c.groups = c.hits[:0], c.groups[:0]
		scratches.Put(c)
	}()
	x.plain.Match(topic, c.addSession)
	x.shared.Match(topic, c.addGroup)
	if len(c.hits) == 0 && len(c.groups) == 0 {
		return nil
	}
	return &Matches{Sessions: x.merge(c.hits), Groups: slices.Clone(c.groups)}
}

// merge makes one Matched of all hits of a session.
func (x *Index) merge(hits []hit) []Matched {
	if len(hits) == 0 {
		return nil
	}
	x.merging.Lock()
	defer x.merging.Unlock()
	ids, anyNoLocal := 0, false
	for i := range hits {
		if hits[i].g.id != 0 {
			ids++
		}
		anyNoLocal = anyNoLocal || hits[i].g.noLocal
	}
	room := make([]uint32, 0, ids) // the identifiers of sessions with one hit
	out := make([]Matched, 0, len(hits))
	for i := range hits {
		s, g := hits[i].s, hits[i].g
		m := lookUp(out, s)
		if m == nil {
			s.slot = uint32(len(out))
			out = append(out, Matched{Session: s})
			m = &out[len(out)-1]
			if g.id != 0 {
				room = append(room, g.id)
				m.all.IDs = room[len(room)-1 : len(room) : len(room)]
			}
		} else if g.id != 0 {
			m.all.IDs = append(m.all.IDs, g.id)
			slices.Sort(m.all.IDs)
		}
		m.all.widen(g)
	}
	if anyNoLocal {
		mergeOwn(out, hits)
	}
	return out
}

// lookUp finds the entry of s in out, if it has one. The slot may be left over
// from another merge, so what is there is checked.
func lookUp(out []Matched, s *Session) *Matched {
	if int(s.slot) < len(out) && out[s.slot].Session == s {
		return &out[s.slot]
	}
	return nil
}

// mergeOwn fills in what sessions with No Local subscriptions want of their
// own messages.
func mergeOwn(out []Matched, hits []hit) {
	for i := range hits {
		if hits[i].g.noLocal {
			lookUp(out, hits[i].s).quiet = true
		}
	}
	for i := range hits {
		m, g := lookUp(out, hits[i].s), hits[i].g
		if g.noLocal || !m.quiet && m.own == nil {
			continue
		}
		if m.own == nil {
			m.own, m.quiet = new(Delivery), false
		}
		if g.id != 0 {
			m.own.IDs = append(m.own.IDs, g.id)
			slices.Sort(m.own.IDs)
		}
		m.own.widen(g)
	}
}

// widen takes one more subscription into account, save for its identifier.
func (d *Delivery) widen(g grant) {
	d.QoS = max(d.QoS, g.qos)
	d.RetainAsPublished = d.RetainAsPublished || g.retainAsPublished
}
