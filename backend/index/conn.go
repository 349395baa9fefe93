package index

import (
	"slices"
	"strings"
	"sync/atomic"

	"github.com/sluice-mqtt/sluice/backend"
)

// Conn is the connection of a session. It is immutable; that two pointers are
// the same means that it is the same connection.
type Conn struct {
	Node  backend.NodeID
	Epoch uint64
	// Load is that of [backend.Node]; nil means that the client can always
	// take more.
	Load func(backend.ClientID) int
}

type connection struct{ p atomic.Pointer[Conn] }

// Conn returns the connection of the session, nil if it has none.
func (s *Session) Conn() *Conn { return s.conn.p.Load() }

// Attach makes c the connection of s: its memberships of shared groups can be
// chosen from now on.
func (x *Index) Attach(s *Session, c *Conn) {
	s.conn.p.Store(c)
	for _, m := range s.members {
		m.group.mu.Lock()
		m.group.raise(m)
		m.group.mu.Unlock()
	}
}

// Detach takes the connection of s away. No Choose that begins afterwards
// returns it.
func (x *Index) Detach(s *Session) {
	s.conn.p.Store(nil)
	for _, m := range s.members {
		m.group.mu.Lock()
		m.group.lower(m)
		m.group.mu.Unlock()
	}
}

// raise puts m among the connected members, which are in the order of their
// client identifiers so that all gateways count them alike.
func (g *Group) raise(m *member) {
	i, found := slices.BinarySearchFunc(g.up, m, byClient)
	if !found {
		g.up = slices.Insert(g.up, i, m)
	}
}

func (g *Group) lower(m *member) {
	if g.sticky == m {
		g.sticky = nil
	}
	if i, found := slices.BinarySearchFunc(g.up, m, byClient); found && g.up[i] == m {
		g.up = slices.Delete(g.up, i, i+1)
	}
}

func byClient(a, b *member) int {
	return strings.Compare(string(a.session.Client), string(b.session.Client))
}
