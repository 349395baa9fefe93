package redis

import (
	"context"
	"strconv"
	"sync"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sluice-mqtt/sluice/backend"
)

// seat is what names of a session's keys depend on: the name of its inbox,
// empty without one, and its incarnation, "0" without session.
type seat struct{ box, inc string }

// noSeat is that of a client without session.
var noSeat = seat{inc: "0"}

// seats are those of the sessions that were opened here, as they were when last
// seen. Scripts check them, so they may be wrong.
type seats struct{ byClient sync.Map } // ClientID → seat

func (s *seats) get(c backend.ClientID) (seat, bool) {
	v, ok := s.byClient.Load(c)
	if !ok {
		return noSeat, false
	}
	return v.(seat), true
}

func (s *seats) set(c backend.ClientID, at seat) { s.byClient.Store(c, at) }

// replace is set for a session that is known here.
func (s *seats) replace(c backend.ClientID, old, at seat) { s.byClient.CompareAndSwap(c, old, at) }

func (s *seats) forget(c backend.ClientID) { s.byClient.Delete(c) }

// seatOf returns the seat of a client, from memory if it was opened here.
func (s *Store) seatOf(ctx context.Context, c backend.ClientID) (seat, error) {
	if at, ok := s.seats.get(c); ok {
		return at, nil
	}
	at, _, err := s.look(ctx, c)
	return at, err
}

// look reads the seat of a client and the gateway that it is connected to.
func (s *Store) look(ctx context.Context, c backend.ClientID) (seat, backend.NodeID, error) {
	v, err := s.client.HMGet(ctx, s.keys.session(c).meta(), seatFields...).Result()
	if err != nil {
		return noSeat, "", err
	}
	at, n := readSeat(reply(v))
	return at, n, nil
}

// lookAll is look for several clients, without their gateways.
func (s *Store) lookAll(ctx context.Context, clients []backend.ClientID) ([]seat, error) {
	p := s.client.Pipeline()
	cmds := make([]*goredis.SliceCmd, len(clients))
	for i, c := range clients {
		cmds[i] = p.HMGet(ctx, s.keys.session(c).meta(), "box", "inc")
	}
	if _, err := p.Exec(ctx); err != nil {
		return nil, err
	}
	at := make([]seat, len(clients))
	for i, cmd := range cmds {
		at[i], _ = readSeat(reply(cmd.Val()))
	}
	return at, nil
}

// seatFields are the fields of meta that readSeat reads.
var seatFields = []string{"box", "inc", "node"}

// seatArgs are the same, for a script.
var seatArgs = []any{"box", "inc", "node"}

// readSeat reads a seat and a gateway as they are in meta.
func readSeat(r reply) (seat, backend.NodeID) {
	at := seat{r.str(0), r.str(1)}
	if at.inc == "" {
		at.inc = noSeat.inc
	}
	return at, backend.NodeID(r.str(2))
}

// leased runs a script under a lease: ErrFenced if that does not hold. Keys
// tells which it needs for a seat. It returns the seat that they were taken
// for.
func (s *Store) leased(ctx context.Context, l backend.Lease, sc *script, keysFor func(sessionKeys, seat) []string, args ...any) (reply, seat, error) {
	return s.leasedBy(ctx, s.runOne, l, sc, keysFor, args...)
}

// runner runs a script.
type runner func(ctx context.Context, sc *script, keys []string, args ...any) (reply, error)

// leasedBy is leased by another runner than the plain one.
func (s *Store) leasedBy(ctx context.Context, run runner, l backend.Lease, sc *script, keysFor func(sessionKeys, seat) []string, args ...any) (reply, seat, error) {
	until, err := s.until(ctx, l.Node)
	if err != nil {
		return nil, noSeat, err
	}
	at, err := s.seatOf(ctx, l.Client)
	if err != nil {
		return nil, noSeat, err
	}
	k := s.keys.session(l.Client)
	all := append([]any{strconv.FormatUint(l.Epoch, 10), string(l.Node), until, nil, nil}, args...)
	for {
		all[3], all[4] = at.box, at.inc
		r, err := run(ctx, sc, keysFor(k, at), all...)
		if err != nil {
			return nil, at, err
		}
		switch r.int(0) {
		case answerFenced:
			return nil, at, errFenced
		case answerFull:
			return nil, at, errFull
		case answerNoInbox:
			return nil, at, errNoInbox
		case answerMoved:
			// Somebody else changed the session under this lease: another
			// call of its gateway.
			now := seat{r.str(1), r.str(2)}
			s.seats.replace(l.Client, at, now)
			at = now
			continue
		}
		return r, at, nil
	}
}
