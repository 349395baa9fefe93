package redis

import (
	"context"
	"encoding/binary"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/index"
)

// share is what a message gives rise to for one shared group.
type share struct {
	group   *index.Group
	avoid   []*index.Session // have no room
	settled bool
	busy    bool // nobody had room
	kept    bool // the choice is remembered, where that is needed
	replace replacement

	chosen index.Choice
	entry  backend.Entry
	parcel *parcel // to the inbox of the one who was chosen, or to the queue
}

// replacement says what a choice does to one that is remembered.
type replacement int

const (
	_ replacement = iota // nothing
	// replaceOwn: the one that was made in this call, as long as nobody has
	// followed it who repeats the message.
	replaceOwn
	// replaceAny: who was chosen can not have the message.
	replaceAny
)

// planShares chooses a member for each matching group that has none yet.
func (s *Store) planShares(l *letter) {
	var groups []*index.Group
	if l.only != "" {
		if g := s.replica.index.Group(l.only); g != nil {
			groups, l.out.Matched = []*index.Group{g}, true
		}
	} else if l.found != nil {
		groups = l.found.Groups
	}
	for _, g := range groups {
		i := slices.IndexFunc(l.shares, func(sh *share) bool { return sh.group.Name == g.Name })
		if i < 0 {
			i = len(l.shares)
			l.shares = append(l.shares, &share{})
		}
		sh := l.shares[i]
		sh.group = g
		if !sh.settled {
			s.choose(l, sh)
		}
	}
	// Groups that are gone have nobody to get it.
	l.shares = slices.DeleteFunc(l.shares, func(sh *share) bool { return !sh.settled && !slices.Contains(groups, sh.group) })
}

// choose picks who gets l of a group. Members to avoid are picked if there is
// no other.
func (s *Store) choose(l *letter, sh *share) {
	sh.settled, sh.busy, sh.kept, sh.parcel, sh.chosen = true, false, false, nil, index.Choice{}
	r := index.ChooseRequest{Message: l.m, Local: s.local(), Avoid: slices.Concat(l.avoid, sh.avoid), Park: func(*index.Group) {}}
	for {
		c, outcome := s.replica.index.Choose(sh.group, r)
		switch outcome {
		case index.Chosen:
			sh.entry = c.Entry(l.m)
			sh.entry.Share = sh.group.Name
			rec := c.Session.Value.(*record)
			if rec.Durable && sh.entry.QoS > 0 {
				at := rec.place.Load()
				if at == nil || rec.Conn() != c.Conn {
					continue // it has just gone, and is not chosen again
				}
				sh.post(l, rec, at, sh.entry)
			}
			sh.chosen = c
		case index.Parked:
			s.park(l, sh)
		case index.Busy:
			if len(l.avoid) > 0 {
				l.avoid, r.Avoid = nil, sh.avoid
				continue
			}
			sh.busy = true
		}
		return
	}
}

// post has the entry go to the inbox of a member.
func (sh *share) post(l *letter, rec *record, at *place, e backend.Entry) {
	sh.entry = e
	sh.parcel = &parcel{to: rec, key: at.key, entry: e, element: appendElement(nil, &e), id: l.id}
}

// park has the message go to the queue of the group.
func (s *Store) park(l *letter, sh *share) {
	e := backend.Entry{Message: l.m, QoS: l.m.QoS}
	sh.chosen = index.Choice{}
	sh.parcel = &parcel{
		group: sh.group.Name, key: s.keys.group(sh.group.Name).queue(),
		entry: e, element: appendElement(nil, &e), id: l.id,
	}
}

// reviewShare looks at what became of a choice: it is not settled any more if
// another is needed.
func (s *Store) reviewShare(ctx context.Context, sh *share, stale bool) error {
	p := sh.parcel
	switch {
	case p == nil && sh.chosen.Conn == nil:
		sh.settled = !stale // somebody may be there now
	case p == nil:
		sh.settled = sh.chosen.Session.Conn() == sh.chosen.Conn && sh.holds()
	case p.state == nowhere && p.to == nil && !stale:
		// The group has no members left, whatever the index says.
		sh.parcel = nil
	case p.state == nowhere:
		sh.settled = false
	case p.state == refused && p.to != nil:
		sh.avoid = append(sh.avoid, &p.to.Session)
		sh.settled, sh.replace = false, replaceAny
	case p.state == stored && p.to == nil && stale:
		// Somebody may be there now. Who takes it out of the queue gives it
		// on: that member, or this call.
		k := s.keys.group(p.group)
		newer, older := k.seen()
		r, err := s.runOne(ctx, unparkScript, []string{k.queue(), k.figures(), newer, older}, p.seq, p.element, p.id.field)
		if err != nil {
			return err
		}
		sh.settled = r.int(0) == 0
	}
	return nil
}

// holds reports whether the one who was chosen is still the member that it was.
func (sh *share) holds() bool {
	d, ok := sh.group.Delivery(sh.chosen.Session)
	was := sh.chosen.Delivery
	return ok && d.QoS == was.QoS && d.RetainAsPublished == was.RetainAsPublished && slices.Equal(d.IDs, was.IDs)
}

// local returns the gateway that members of shared groups are to be at if
// possible.
func (s *Store) local() backend.NodeID {
	if n := s.nodes.last.Load(); n != nil {
		return n.ID
	}
	return ""
}

// Requeue implements [backend.Inboxes].
func (s *Store) Requeue(ctx context.Context, from backend.ClientID, entries []backend.Entry, out []backend.Append) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	// Who has come just now is preferred to the one that had its turn.
	if err := s.replica.catchUp(ctx); err != nil {
		return s.failed("requeue", err)
	}
	var avoid []*index.Session
	if rec, _ := s.replica.lookUp(from); rec != nil && rec.Conn() != nil {
		avoid = append(avoid, &rec.Session) // it is back, but had its turn
	}
	letters := make([]letter, len(entries))
	for i, e := range entries {
		clearAppend(&out[i])
		letters[i] = letter{m: e.Message, out: &out[i], only: e.Share, avoid: avoid}
	}
	return s.failed("requeue", s.deliver(ctx, letters))
}

// rest are the keys that end with the last member of a group.
func (k groupKeys) rest() []string {
	newer, older := k.seen()
	picked, before := k.picks()
	return []string{k.queue(), k.figures(), newer, older, k.taken(), k.until(), picked, before}
}

func (s *Store) joinGroup(c backend.ClientID, ver uint64, filter string) *call {
	return &call{
		script: joinGroupScript,
		keys:   []string{s.keys.group(filter).members()},
		args:   []any{string(c), strconv.FormatUint(ver, 10)},
	}
}

func (s *Store) leaveGroup(c backend.ClientID, ver uint64, filter string) *call {
	k := s.keys.group(filter)
	return &call{
		script: leaveGroupScript,
		keys:   append([]string{k.members()}, k.rest()...),
		args:   []any{string(c), strconv.FormatUint(ver, 10)},
	}
}

// leaveGroups takes a client out of those of the filters that are shared.
func (s *Store) leaveGroups(ctx context.Context, c backend.ClientID, ver uint64, filters []string) error {
	var calls []*call
	for _, filter := range filters {
		if _, _, shared := index.Shared(filter); shared {
			calls = append(calls, s.leaveGroup(c, ver, filter))
		}
	}
	return s.run(ctx, calls...)
}

// takeClaim is for how long messages that were taken from the queue of a group
// may be on their way to an inbox, or to a gateway.
const takeClaim = 5 * time.Second

// taken is a message that was taken from the queue of a group.
type taken struct {
	number string
	entry  backend.Entry
}

// take takes messages from the queue of a group; left says how many stay. If
// they are not confirmed they go back to the queue.
func (s *Store) take(ctx context.Context, group string, atMost int) (list []taken, left int64, err error) {
	clock, err := s.client.Time(ctx).Result()
	if err != nil {
		return nil, 0, err
	}
	// Somebody looks after them even if this gateway dies.
	err = s.run(ctx, &call{
		script: scheduleScript, keys: []string{s.keys.queues()},
		args: []any{group, clock.Add(takeClaim).UnixMilli()},
	})
	if err != nil {
		return nil, 0, err
	}
	k := s.keys.group(group)
	r, err := s.runOne(ctx, takeScript, []string{k.queue(), k.figures(), k.taken(), k.until()}, atMost, milliseconds(takeClaim))
	if err != nil {
		return nil, 0, err
	}
	for i := 1; i+1 < len(r); i += 2 {
		e, err := decodeElement(r.str(i+1), 0)
		if err != nil {
			return nil, 0, err
		}
		list = append(list, taken{r.str(i), e})
	}
	return list, r.int(0), nil
}

// confirm ends the claims on messages that are stored elsewhere.
func (s *Store) confirm(ctx context.Context, group string, list []taken) error {
	if len(list) == 0 {
		return nil
	}
	k := s.keys.group(group)
	_, err := s.runOne(ctx, tookScript, []string{k.taken(), k.until()}, numbers(list)...)
	return err
}

// giveBack puts messages back to the front of the queue, with those whose claim
// has ended. It returns how many are in the queue and when the next claim ends,
// in ms, 0 for none.
func (s *Store) giveBack(ctx context.Context, group string, list []taken) (queued, next int64, err error) {
	k := s.keys.group(group)
	r, err := s.runOne(ctx, giveBackScript, []string{k.members(), k.queue(), k.figures(), k.taken(), k.until()}, numbers(list)...)
	return r.int(0), r.int(1), err
}

func numbers(list []taken) []any {
	args := make([]any, len(list))
	for i, t := range list {
		args[i] = t.number
	}
	return args
}

// queueIdentity names a message that came from the queue of a group, so that an
// inbox gets it once though it may be taken twice.
func queueIdentity(group, number string) identity {
	n, _ := strconv.ParseUint(number, 10, 64) // ours
	return identity{field: string(binary.AppendUvarint([]byte{'q'}, n)) + short(group), value: number}
}

// TakeShared implements [backend.Inboxes]. Who is no member gets nothing.
func (s *Store) TakeShared(ctx context.Context, l backend.Lease, filter string, atMost int) (entries []backend.Entry, more bool, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, false, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	entries, more, err = s.takeShared(ctx, l, filter, atMost)
	return entries, more, s.failed("take shared", err)
}

func (s *Store) takeShared(ctx context.Context, l backend.Lease, filter string, atMost int) (entries []backend.Entry, more bool, err error) {
	if _, _, err := s.leased(ctx, l, checkScript, func(k sessionKeys, _ seat) []string { return []string{k.meta()} }); err != nil {
		return nil, false, err
	}
	rec, d, err := s.membership(ctx, l.Client, filter)
	if err != nil || rec == nil {
		return nil, false, err
	}
	list, left, err := s.take(ctx, filter, atMost)
	if err != nil {
		return nil, false, err
	}
	var args []any
	for _, t := range list {
		e := d.Entry(t.entry.Message)
		e.Share = filter
		if rec.Durable && e.QoS > 0 {
			id := queueIdentity(filter, t.number)
			args = append(args, appendElement(nil, &e), id.field, id.value)
		} else {
			entries = append(entries, e)
		}
	}
	if len(args) > 0 {
		if _, _, err := s.leased(ctx, l, enqueueScript, enqueueKeys, args...); err != nil {
			return nil, false, err
		}
	}
	if err := s.confirm(ctx, filter, list); err != nil && len(entries) == 0 {
		return nil, false, err
	}
	// What is in hand is not lost because of a claim: it may come twice.
	return entries, left > 0, nil
}

// membership returns the record of a member of a group and how it wants its
// messages, nil if it is no member.
func (s *Store) membership(ctx context.Context, c backend.ClientID, filter string) (*record, index.Delivery, error) {
	for first := true; ; first = false {
		rec, _ := s.replica.lookUp(c)
		if g := s.replica.index.Group(filter); g != nil && rec != nil {
			if d, ok := g.Delivery(&rec.Session); ok {
				return rec, d, nil
			}
		}
		if !first {
			return nil, index.Delivery{}, nil
		}
		if err := s.replica.catchUp(ctx); err != nil {
			return nil, index.Delivery{}, err
		}
	}
}
