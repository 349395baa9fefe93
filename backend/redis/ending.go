package redis

import (
	"context"
	"strconv"

	"github.com/sluice-mqtt/sluice/backend"
)

// ending is the way of a session that ends with its connection, if that is all
// there is to do for it: it ends, somebody is to look that this is told, and its
// gateway forgets it.
type ending struct {
	store *Store
	lease backend.Lease
	end   call
	begun bool
	due   []backend.Chore
}

// end ends a session that has no inbox. Done is false, and nothing is, if it is
// not that simple.
func (s *Store) end(ctx context.Context, l backend.Lease, until any, keepWill bool, at seat) (due []backend.Chore, done bool, err error) {
	k := s.keys.session(l.Client)
	what, when := k.chores()
	e := &ending{store: s, lease: l, end: call{
		script: endScript,
		keys:   []string{k.meta(), k.subs(), k.receipts(at.inc), what, when},
		args:   []any{string(l.Node), until, flag(keepWill)},
		more:   []any{strconv.FormatUint(l.Epoch, 10)},
	}}
	if err := s.joinIn(ctx, l.Client, e.next); err != nil {
		return nil, false, err
	}
	if e.end.reply.int(0) == answerFenced {
		return nil, false, errFenced
	}
	return e.due, e.due != nil, nil
}

func (e *ending) next() []*call {
	if !e.begun {
		e.begun = true
		return []*call{&e.end}
	}
	r := e.end.reply.list(0)
	if e.due != nil || len(r) == 0 {
		return nil
	}
	c := e.lease.Client
	e.due = []backend.Chore{{ID: r.str(1), Client: c, Kind: backend.ChoreEnded}}
	e.store.seats.forget(c)
	return []*call{e.store.schedule(c, r.int(2)), e.store.dismiss(e.lease.Node, c, r.str(0))}
}
