package memory

import (
	"context"
	"slices"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/index"
)

// Append implements [backend.Inboxes]. It has no outcome but success: there is
// nothing that could fail half way.
func (s *Store) Append(ctx context.Context, msgs []*backend.Message, out []backend.Append) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	for i, m := range msgs {
		clearAppend(&out[i])
		if m.ID != (backend.PublishID{}) {
			s.appendOnce(m, &out[i])
			continue
		}
		if found := s.index.Match(m.Topic); found != nil {
			s.append(m, found, s.local(m), &out[i])
		}
	}
	return nil
}

// clearAppend makes a outcome of an earlier call ready for reuse.
func clearAppend(a *backend.Append) {
	clear(a.Targets)
	*a = backend.Append{Targets: a.Targets[:0]}
}

// append gives m to everything that was found for it. However many inboxes
// keep it, it is copied once.
func (s *Store) append(m *backend.Message, found *index.Matches, local backend.NodeID, out *backend.Append) {
	var own *backend.Message
	if m.QoS > 0 {
		for i := range found.Sessions {
			matched := &found.Sessions[i]
			d, wanted := matched.For(m.Publisher)
			if !wanted {
				continue
			}
			out.Matched = true
			if d.QoS == 0 {
				continue
			}
			if own == nil {
				own = m.Clone()
			}
			s.put(matched.Session.Value.(*session), own, d, found.Generation, out)
		}
	}
	for _, g := range found.Groups {
		out.Matched = true
		if own == nil {
			own = m.Clone()
		}
		s.share(g, own, local, nil, out)
	}
}

// put appends m to the inbox of ss, as d says, which was true at the given
// generation of the index.
func (s *Store) put(ss *session, m *backend.Message, d index.Delivery, generation uint64, out *backend.Append) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.ended {
		return
	}
	if ss.withdrawn > generation {
		// Nothing is added once Unsubscribe has returned [MQTT-3.10.4-2].
		var wanted bool
		if d, wanted = s.wanted(ss, m); !wanted || d.QoS == 0 {
			return
		}
	}
	e := d.Entry(m)
	seq, full := ss.inbox.add(e, s.bounds())
	if full {
		out.Refused++
	}
	if c := ss.Conn(); seq != 0 && c != nil {
		e.Seq, ss.inbox.keep = seq, seq
		out.Targets = append(out.Targets, target(ss, c, e))
	}
}

// wanted asks the index once more for one session.
func (s *state) wanted(ss *session, m *backend.Message) (index.Delivery, bool) {
	if found := s.index.Match(m.Topic); found != nil {
		for i := range found.Sessions {
			if found.Sessions[i].Session == &ss.Session {
				return found.Sessions[i].For(m.Publisher)
			}
		}
	}
	return index.Delivery{}, false
}

func (s *state) bounds() bounds {
	return bounds{s.options.InboxMessages, s.options.InboxBytes, s.options.InboxFull}
}

func target(ss *session, c *index.Conn, e backend.Entry) backend.Target {
	return backend.Target{Client: ss.Client, Node: c.Node, Epoch: c.Epoch, Entry: e}
}

// Shares implements [backend.Inboxes].
func (s *Store) Shares(topic string) bool { return s.index.Shares(topic) }

// Enqueue implements [backend.Inboxes].
func (s *Store) Enqueue(ctx context.Context, l backend.Lease, entries []backend.Entry) (first uint64, err error) {
	if err := s.enter(ctx); err != nil {
		return 0, err
	}
	ss, err := s.hold(l)
	if err != nil {
		return 0, err
	}
	defer ss.mu.Unlock()
	if !ss.Durable {
		return 0, errNoInbox
	}
	first = ss.inbox.last() + 1
	for _, e := range entries {
		e.Message, e.SubscriptionIDs = s.retained.own(e.Message), slices.Clone(e.SubscriptionIDs)
		ss.inbox.push(e)
	}
	return first, nil
}

// Fetch implements [backend.Inboxes].
func (s *Store) Fetch(ctx context.Context, l backend.Lease, after uint64, atMost, maxBytes int) (entries []backend.Entry, more bool, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, false, err
	}
	ss, err := s.hold(l)
	if err != nil {
		return nil, false, err
	}
	defer ss.mu.Unlock()
	b := &ss.inbox
	// What is asked for has not been sent on this connection.
	b.expire(time.Now(), max(after, ss.sent))
	bytes := 0
	for seq := max(after, b.base) + 1; seq <= b.last(); seq++ {
		e := b.at(seq)
		if e.state == backend.Done {
			continue
		}
		bytes += e.message.Size()
		if len(entries) >= atMost || len(entries) > 0 && bytes > maxBytes {
			return entries, true, nil
		}
		if entries == nil {
			entries = make([]backend.Entry, 0, min(atMost, b.live))
		}
		entries = append(entries, e.entry(seq))
		b.keep = max(b.keep, seq)
	}
	return entries, false, nil
}

// Review implements [backend.Sessions].
func (s *Store) Review(ctx context.Context, leases []backend.Lease, out []backend.Standing) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	for i, l := range leases {
		ss, err := s.hold(l)
		if err != nil {
			out[i] = backend.Standing{Fenced: true}
			continue
		}
		out[i] = backend.Standing{Last: ss.inbox.last()}
		ss.mu.Unlock()
	}
	return nil
}

// Advance implements [backend.Inboxes].
func (s *Store) Advance(ctx context.Context, l backend.Lease, p backend.Progress) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	ss, err := s.hold(l)
	if err != nil {
		return err
	}
	defer ss.mu.Unlock()
	if p.Base > ss.inbox.last() {
		return errFenced
	}
	ss.inbox.advance(p)
	return nil
}
