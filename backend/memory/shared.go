package memory

import (
	"context"
	"slices"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/index"
)

// share gives a message of the store's own to one member of g: into its inbox
// if it is durable, as a target with Seq 0 otherwise, and into the queue of
// the group if only members that are away could keep it. Sessions to avoid are
// chosen only if there is no other.
func (s *Store) share(g *index.Group, m *backend.Message, local backend.NodeID, avoid []*index.Session, out *backend.Append) {
	r := index.ChooseRequest{Message: m, Local: local, Avoid: avoid}
	r.Park = func(g *index.Group) {
		if parkedOf(g).add(m, s.bounds()) {
			out.Refused++
		}
	}
	for {
		c, outcome := s.index.Choose(g, r)
		switch outcome {
		case index.Chosen:
			e := c.Entry(m)
			e.Share = g.Name
			switch s.give(g, c, e, out) {
			case taken:
				return
			case noRoom:
				r.Avoid = append(slices.Clip(r.Avoid), c.Session)
			case gone: // so it is not chosen again
			}
		case index.Busy:
			if len(avoid) > 0 {
				r.Avoid, avoid = r.Avoid[len(avoid):], nil
				continue
			}
			out.Refused++
			return
		default: // Parked, or nobody is left
			return
		}
	}
}

// answer is what a chosen member did with a message.
type answer uint8

const (
	taken answer = iota
	noRoom
	gone
)

// give hands e to a member of g that was chosen.
func (s *Store) give(g *index.Group, c index.Choice, e backend.Entry, out *backend.Append) answer {
	ss := c.Session.Value.(*session)
	if ss.Durable && e.QoS > 0 {
		ss.mu.Lock()
		defer ss.mu.Unlock()
		// A message is not parked with a member that has gone, nor added once
		// Unsubscribe has returned [MQTT-3.10.4-2].
		if _, member := g.Delivery(&ss.Session); !member || ss.Conn() != c.Conn {
			return gone
		}
		seq, full := ss.inbox.add(e, s.bounds())
		if seq == 0 {
			return noRoom
		}
		if full {
			out.Refused++
		}
		e.Seq, ss.inbox.keep = seq, seq
	}
	out.Targets = append(out.Targets, target(ss, c.Conn, e))
	return taken
}

// local returns the gateway that members of shared groups are to be at if
// possible: that of this Store, or, where several use it, the publisher's.
func (s *Store) local(m *backend.Message) backend.NodeID {
	if s.options.ShareStrategy != index.LocalFirst {
		return ""
	}
	if ss := s.find(m.Publisher); ss != nil {
		if c := ss.Conn(); c != nil {
			return c.Node
		}
	}
	if id := s.joined.Load(); id != nil {
		return *id
	}
	return ""
}

// Requeue implements [backend.Inboxes].
func (s *Store) Requeue(ctx context.Context, from backend.ClientID, entries []backend.Entry, out []backend.Append) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	var avoid []*index.Session
	if ss := s.find(from); ss != nil && ss.Conn() != nil {
		avoid = append(avoid, &ss.Session) // it is back, but had its turn
	}
	for i, e := range entries {
		clearAppend(&out[i])
		g := s.index.Group(e.Share)
		if g == nil {
			continue
		}
		out[i].Matched = true
		s.share(g, e.Message.Clone(), s.local(e.Message), avoid, &out[i])
	}
	return nil
}

// TakeShared implements [backend.Inboxes]. Who is no member gets nothing.
func (s *Store) TakeShared(ctx context.Context, l backend.Lease, filter string, atMost int) (entries []backend.Entry, more bool, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, false, err
	}
	ss, err := s.hold(l)
	if err != nil {
		return nil, false, err
	}
	defer ss.mu.Unlock()
	g := s.index.Group(filter)
	if g == nil {
		return nil, false, nil
	}
	d, member := g.Delivery(&ss.Session)
	if !member {
		return nil, false, nil
	}
	var taken []*backend.Message
	g.Do(func() { taken, more = parkedOf(g).take(atMost) })
	for _, m := range taken {
		e := d.Entry(m)
		e.Share = filter
		if ss.Durable && e.QoS > 0 {
			ss.inbox.push(e) // it was let in when the group took it
		} else {
			entries = append(entries, e)
		}
	}
	return entries, more, nil
}
