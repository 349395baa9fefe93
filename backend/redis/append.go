package redis

import (
	"context"
	"slices"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/index"
)

// letter is one message of an Append with all that it gives rise to.
type letter struct {
	m   *backend.Message
	out *backend.Append
	// only is the shared group that alone is to get it; empty is everybody.
	only string
	// avoid are members that had their turn; others are preferred.
	avoid []*index.Session

	found   *index.Matches
	planned bool
	parcels []*parcel // to sessions
	shares  []*share  // to shared groups
	id      identity
}

// Append implements [backend.Inboxes].
func (s *Store) Append(ctx context.Context, msgs []*backend.Message, out []backend.Append) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	if len(msgs) == 0 {
		return nil
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	letters := make([]letter, len(msgs))
	for i, m := range msgs {
		clearAppend(&out[i])
		letters[i] = letter{m: m, out: &out[i], id: identityOf(m.ID)}
	}
	if err := s.markDuplicates(ctx, letters); err != nil {
		return s.failed("append", err)
	}
	if err := s.deliver(ctx, letters); err != nil {
		return s.failed("append", err)
	}
	return s.failed("append", s.remember(ctx, letters))
}

// clearAppend makes an outcome of an earlier call ready for reuse.
func clearAppend(a *backend.Append) {
	clear(a.Targets)
	*a = backend.Append{Targets: a.Targets[:0]}
}

// Shares implements [backend.Inboxes]. What another gateway has changed it
// knows a moment later.
func (s *Store) Shares(topic string) bool { return s.replica.index.Shares(topic) }

// deliver stores letters for all that they match. It repeats matching until
// that was true at a moment after it was called, and everything is stored by
// what was known then.
func (s *Store) deliver(ctx context.Context, letters []letter) error {
	for {
		known := s.replica.applied.Load()
		data := *s.replica.data.Load()
		s.planAll(letters)
		if err := s.keepChoices(ctx, letters); err != nil {
			return err
		}
		send := unsent(letters)
		v, err := s.post(ctx, send)
		if err == nil && s.clustered && parked(send) {
			// Who is connected now has seen the queue, or is seen here.
			v, err = s.current(ctx)
		}
		if err != nil {
			return err
		}
		stale := v.n > known || v.data != data
		if stale {
			if err := s.replica.reach(ctx, v); err != nil {
				return err
			}
		} else if err := s.mendDisplaced(ctx, send); err != nil {
			return err
		}
		open := false
		for i := range letters {
			l := &letters[i]
			if stale {
				l.planned = false
			}
			again, err := s.review(ctx, l, stale)
			if err != nil {
				return err
			}
			open = again || open
		}
		if !stale && !open {
			break
		}
	}
	for i := range letters {
		letters[i].report()
	}
	return nil
}

func parked(parcels []*parcel) bool {
	return slices.ContainsFunc(parcels, func(p *parcel) bool { return p.to == nil })
}

// mendDisplaced looks after sessions whose inbox was not where the index has
// it, although that is up to date. One that is nowhere else is lost; its
// messages are refused, so that they do not hold up others.
func (s *Store) mendDisplaced(ctx context.Context, parcels []*parcel) error {
	var clients []backend.ClientID
	for _, p := range parcels {
		if p.state == nowhere && p.to != nil && !slices.Contains(clients, p.to.Client) {
			clients = append(clients, p.to.Client)
		}
	}
	if err := s.mend(ctx, clients); err != nil {
		return err
	}
	for _, p := range parcels {
		if p.state != nowhere || p.to == nil {
			continue
		}
		if at := p.to.place.Load(); at != nil && at.key == p.key {
			s.log.Warn("the inbox of a session is missing; what is sent to it is refused", "client", string(p.to.Client))
			p.state = refused
		}
	}
	return nil
}

// planAll decides who gets what, as far as that is open, by one state of the
// index: of two messages for one session the second must not find an inbox that
// the first has not found.
func (s *Store) planAll(letters []letter) {
	for {
		generation := s.replica.index.Generation()
		for i := range letters {
			s.plan(&letters[i])
		}
		again := s.replica.index.Generation() != generation
		for i := range letters {
			l := &letters[i]
			for _, p := range l.parcels {
				again = again || p.outdated()
			}
			for _, sh := range l.shares {
				if sh.parcel != nil && sh.parcel.outdated() {
					sh.settled, again = false, true
				}
			}
		}
		if !again {
			return
		}
		for i := range letters {
			letters[i].planned = false
		}
	}
}

// outdated reports whether a parcel that is still to be sent has been overtaken
// by a move of its inbox.
func (p *parcel) outdated() bool {
	if p.state != waiting || p.to == nil {
		return false
	}
	at := p.to.place.Load()
	return at == nil || at.key != p.key
}

// plan decides who gets what of l, as far as that is open.
func (s *Store) plan(l *letter) {
	if l.out.Duplicate {
		return
	}
	if l.only == "" && !l.planned {
		l.planned = true
		for !s.planSessions(l) {
		}
	}
	s.planShares(l)
}

// planSessions makes a parcel for each matching session that has not got the
// message. It returns false if the index has changed meanwhile.
func (s *Store) planSessions(l *letter) bool {
	x := s.replica.index
	l.found = x.Match(l.m.Topic)
	l.out.Matched = false
	// What found no inbox is decided anew.
	l.parcels = slices.DeleteFunc(l.parcels, func(p *parcel) bool { return p.state == nowhere || p.state == waiting })
	if l.found == nil {
		return true
	}
	l.out.Matched = len(l.found.Groups) > 0
	if l.m.QoS == 0 {
		return true
	}
	had := len(l.parcels)
	var last *parcel
	for i := range l.found.Sessions {
		matched := &l.found.Sessions[i]
		d, wanted := matched.For(l.m.Publisher)
		if !wanted {
			continue
		}
		l.out.Matched = true
		rec := matched.Session.Value.(*record)
		if d.QoS == 0 || slices.ContainsFunc(l.parcels[:had], func(p *parcel) bool { return p.to == rec }) {
			continue
		}
		at := rec.place.Load()
		if at == nil {
			return false // it is just leaving the index
		}
		p := &parcel{to: rec, key: at.key, entry: d.Entry(l.m), id: l.id}
		if last != nil && sameWords(&last.entry, &p.entry) {
			p.element = last.element
		} else {
			p.element = appendElement(nil, &p.entry)
		}
		last = p
		l.parcels = append(l.parcels, p)
	}
	return x.Generation() == l.found.Generation
}

// sameWords reports whether two entries of one message are encoded alike.
func sameWords(a, b *backend.Entry) bool {
	return a.QoS == b.QoS && a.Retain == b.Retain && slices.Equal(a.SubscriptionIDs, b.SubscriptionIDs)
}

// review looks at what became of a letter. It returns true if something is to
// be decided anew.
func (s *Store) review(ctx context.Context, l *letter, stale bool) (open bool, err error) {
	if l.out.Duplicate {
		return false, nil
	}
	for _, p := range l.parcels {
		if p.state == nowhere {
			l.planned, open = false, true
		}
	}
	for _, sh := range l.shares {
		if err := s.reviewShare(ctx, sh, stale); err != nil {
			return false, err
		}
		open = open || !sh.settled
	}
	return open, nil
}

// report fills in the outcome. What is handed out is a copy of the message.
func (l *letter) report() {
	var own *backend.Message
	add := func(client backend.ClientID, node backend.NodeID, epoch uint64, e backend.Entry) {
		if own == nil {
			own = l.m.Clone()
		}
		e.Message = own
		l.out.Targets = append(l.out.Targets, backend.Target{Client: client, Node: node, Epoch: epoch, Entry: e})
	}
	addStored := func(p *parcel) {
		if p.state == refused || p.full {
			l.out.Refused++
		}
		// What was acknowledged already needs nobody to be told.
		if p.state == stored && p.to != nil && p.header.node != "" && p.seq > p.header.base {
			p.entry.Seq = p.seq
			add(p.to.Client, p.header.node, p.header.epoch, p.entry)
		}
	}
	for _, p := range l.parcels {
		addStored(p)
	}
	for _, sh := range l.shares {
		if sh.busy {
			l.out.Refused++
		}
		if sh.parcel != nil {
			addStored(sh.parcel)
		} else if sh.chosen.Conn != nil {
			add(sh.chosen.Session.Client, sh.chosen.Conn.Node, sh.chosen.Conn.Epoch, sh.entry)
		}
	}
}
