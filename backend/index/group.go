package index

import (
	"slices"
	"sync"
)

// Group is a shared group: everybody who subscribed to the same
// "$share/group/filter".
type Group struct {
	Name string
	// Value is for the store; see [Group.Do].
	Value any

	mu      sync.Mutex
	members map[*Session]*member
	up      []*member // those that are connected
	keepers int       // members for whom messages can wait
	next    uint64    // of RoundRobin and LocalFirst
	sticky  *member   // of Sticky
}

// member is a session's membership of a group.
type member struct {
	session  *Session
	group    *Group
	delivery Delivery
}

// keeps reports whether messages of QoS 1 and 2 can wait for the member.
func (m *member) keeps() bool { return m.session.Durable && m.delivery.QoS > 0 }

// Do runs f under the lock of the group, which guards Value. F must not call
// the index.
func (g *Group) Do(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

// Delivery returns how the member s wants messages of the group
// [MQTT-4.8.2-3]; ok is false if it is no member.
func (g *Group) Delivery(s *Session) (d Delivery, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.members[s]
	if m == nil {
		return Delivery{}, false
	}
	return m.delivery, true
}

func (g grant) delivery() Delivery {
	d := Delivery{QoS: g.qos, RetainAsPublished: g.retainAsPublished}
	if g.id != 0 {
		d.IDs = []uint32{g.id}
	}
	return d
}

func (x *Index) join(s *Session, name, filter string, gr grant) {
	x.mu.Lock()
	defer x.mu.Unlock()
	g := x.groups[name]
	if g == nil {
		g = &Group{Name: name, members: make(map[*Session]*member)}
		x.groups[name] = g
	}
	g.mu.Lock()
	m := g.members[s]
	if m == nil {
		m = &member{session: s, group: g}
		g.members[s] = m
		s.members = append(s.members, m)
	} else if m.keeps() {
		g.keepers--
	}
	m.delivery = gr.delivery()
	if m.keeps() {
		g.keepers++
	}
	if s.Conn() != nil {
		g.raise(m)
	}
	g.mu.Unlock()
	if len(g.members) == 1 {
		x.shared.Set(filter, g, struct{}{})
	}
}

func (x *Index) leave(s *Session, name, filter string) (existed bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	g := x.groups[name]
	if g == nil {
		return false
	}
	g.mu.Lock()
	m := g.members[s]
	if m != nil {
		delete(g.members, s)
		g.lower(m)
		if m.keeps() {
			g.keepers--
		}
		i := slices.Index(s.members, m)
		s.members = slices.Delete(s.members, i, i+1)
	}
	last := len(g.members) == 0
	g.mu.Unlock()
	if last {
		delete(x.groups, name)
		x.shared.Delete(filter, g)
	}
	return m != nil
}
