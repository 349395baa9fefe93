package index

import (
	"math/rand/v2"
	"slices"

	"github.com/sluice-mqtt/sluice/backend"
)

// Outcome is what came of a choice.
type Outcome uint8

const (
	// Nobody: no member is there that could take the message, now or later.
	Nobody Outcome = iota
	// Chosen: a connected member was chosen.
	Chosen
	// Parked: no connected member can take the message, but a durable one may
	// later.
	Parked
	// Busy: there are members, but none has room or all are to be avoided.
	Busy
)

// Choice is a member that was chosen, by the connection that it had.
type Choice struct {
	Session *Session
	Conn    *Conn
	Delivery
}

// ChooseRequest asks for a member of a group.
type ChooseRequest struct {
	Message *backend.Message
	// Local is the publisher's gateway, for LocalFirst.
	Local backend.NodeID
	// Avoid are sessions that are not to be chosen. With any, nothing is
	// parked.
	Avoid []*Session
	// Park is called under the lock of the group if the outcome is Parked:
	// what it puts aside is seen by every member that attaches or joins
	// later. It must not call the index.
	Park func(g *Group)
}

// Choose picks the member of g that gets a message: only connected ones, those
// whose Load is negative only if they are durable and there is no other.
func (x *Index) Choose(g *Group, r ChooseRequest) (Choice, Outcome) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for m := g.pick(x.strategy, &r); m != nil; m = g.pick(x.strategy, &r) {
		if c := m.session.Conn(); c != nil { // else it has just gone
			return Choice{m.session, c, m.delivery}, Chosen
		}
	}
	if r.Message.QoS > 0 && g.keepers > 0 && len(r.Avoid) == 0 {
		r.Park(g)
		return Choice{}, Parked
	}
	if len(g.up) > 0 || len(r.Avoid) > 0 {
		return Choice{}, Busy
	}
	return Choice{}, Nobody
}

// pick returns the member to choose, or nil.
func (g *Group) pick(strategy Strategy, r *ChooseRequest) *member {
	n := uint64(len(g.up))
	if n == 0 {
		return nil
	}
	var start uint64
	switch strategy {
	case LeastInFlight:
		if m := g.least(r); m != nil {
			return m
		}
	case LocalFirst:
		start = g.turn()
		local := func(m *member) bool { c := m.session.Conn(); return c != nil && c.Node == r.Local }
		if m := g.from(start, r, local); m != nil {
			return m
		}
	case Sticky:
		if g.sticky != nil && g.sticky.ready(r) {
			return g.sticky
		}
		start = hash(g.Name)
	case Random:
		start = rand.Uint64N(n)
	case HashClientID:
		start = hash(string(r.Message.Publisher))
	case HashTopic:
		start = hash(r.Message.Topic)
	default:
		start = g.turn()
	}
	m := g.from(start, r, nil)
	if strategy == Sticky {
		g.sticky = m
	}
	if m == nil && r.Message.QoS > 0 {
		m = g.keeper(start, r)
	}
	return m
}

func (g *Group) turn() uint64 {
	g.next++
	return g.next - 1
}

// from returns the first member, counted from start, that is ready and passes
// the filter, which may be nil.
func (g *Group) from(start uint64, r *ChooseRequest, filter func(*member) bool) *member {
	n := uint64(len(g.up))
	for i := range n {
		m := g.up[(start+i)%n]
		if (filter == nil || filter(m)) && m.ready(r) {
			return m
		}
	}
	return nil
}

// mostAsked is how many members LeastInFlight asks for their load, so that a
// message to a group of thousands does not cost thousands of questions. The
// best of so many is as good as the best of all.
const mostAsked = 64

// least returns the ready member with the lowest load; several with the same
// take turns, and so do those that are asked.
func (g *Group) least(r *ChooseRequest) (best *member) {
	n, start, lowest := uint64(len(g.up)), g.turn(), 0
	for i := range min(n, mostAsked) {
		m := g.up[(start+i)%n]
		load := m.load()
		if load < 0 || slices.Contains(r.Avoid, m.session) {
			continue
		}
		if best == nil || load < lowest {
			best, lowest = m, load
		}
		if lowest == 0 {
			break
		}
	}
	return best
}

// keeper returns a connected member that can take nothing now, but whose inbox
// can.
func (g *Group) keeper(start uint64, r *ChooseRequest) *member {
	n := uint64(len(g.up))
	for i := range n {
		m := g.up[(start+i)%n]
		if m.keeps() && m.session.Conn() != nil && !slices.Contains(r.Avoid, m.session) {
			return m
		}
	}
	return nil
}

func (m *member) ready(r *ChooseRequest) bool {
	return m.load() >= 0 && !slices.Contains(r.Avoid, m.session)
}

// load asks the member's gateway how much the client has still to take;
// negative if it is not there or can take nothing.
func (m *member) load() int {
	c := m.session.Conn()
	switch {
	case c == nil:
		return -1
	case c.Load == nil:
		return 0
	default:
		return c.Load(m.session.Client)
	}
}

// hash is FNV-1a with 64 bits: the same at every gateway.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}
