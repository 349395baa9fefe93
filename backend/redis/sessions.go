package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sluice-mqtt/sluice/backend"
)

// Open implements [backend.Sessions].
func (s *Store) Open(ctx context.Context, r backend.OpenRequest) (*backend.Opened, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	n := s.node(r.Node)
	if n == nil {
		return nil, errFenced
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	o, err := s.open(ctx, n, r)
	if errors.Is(err, backend.ErrNotOwner) {
		return nil, err
	}
	return o, s.failed("open", err)
}

func (s *Store) open(ctx context.Context, n *node, r backend.OpenRequest) (*backend.Opened, error) {
	a := s.approach(n, r)
	err := s.joinIn(ctx, r.Client, a.next)
	var o *backend.Opened
	if err == nil {
		o, err = a.opened()
	}
	if o == nil && err == nil {
		o, err = s.claim(ctx, n, r, a)
	}
	if err != nil && !a.claims.CompareAndSwap(notYet, gaveUp) && !errors.Is(err, backend.ErrFenced) && !errors.Is(err, backend.ErrNotOwner) {
		// The connection is refused, though it may own the session.
		s.unfinished.add(r.Client, farewell{lease: backend.Lease{Client: r.Client, Node: n.ID}, ticket: a.ticket})
	}
	return o, err
}

func (s *Store) claim(ctx context.Context, n *node, r backend.OpenRequest, a *approach) (*backend.Opened, error) {
	at, owner := readSeat(a.look.reply)
	lost, err := s.deadOwner(ctx, owner, r.Node)
	if err != nil {
		return nil, err
	}
	a.claims.Store(maybe)
	args := claimArgs(n, a.ticket, r, lost, s.epochs.Load()+1)
	outcomes, codes, err := s.whole(ctx, claimScript, []backend.ClientID{r.Client}, []seat{at}, func(int) []any { return args })
	if err != nil {
		return nil, err
	}
	switch codes[0] {
	case answerFenced:
		return nil, errFenced
	case answerNotOwner:
		return nil, fmt.Errorf("redis: %w", backend.ErrNotOwner)
	}
	return s.opened(ctx, n, r, outcomes[0])
}

// dead is a gateway whose lease has ended, and when, in ms; the zero value is
// none. Tickets from newer on are of a run that has begun since.
type dead struct {
	id    backend.NodeID
	at    int64
	newer int64
}

// deadOwner tells whether the owner of a session is dead. Until somebody has
// reaped it the session does not know.
func (s *Store) deadOwner(ctx context.Context, owner, asks backend.NodeID) (dead, error) {
	if owner == "" || owner == asks {
		return dead{}, nil
	}
	p := s.client.Pipeline()
	clock := p.Time(ctx)
	score := p.ZScore(ctx, s.keys.nodes(), string(owner))
	if _, err := p.Exec(ctx); err != nil && !errors.Is(err, goredis.Nil) {
		return dead{}, err
	}
	if err := errors.Join(clock.Err()); err != nil {
		return dead{}, err
	}
	now := clock.Val().UnixMilli()
	switch ends, err := score.Result(); {
	case errors.Is(err, goredis.Nil):
		return dead{owner, now, anyTicket}, nil
	case err != nil:
		return dead{}, err
	case int64(ends) <= now:
		return dead{owner, int64(ends), firstTicket(int64(ends))}, nil
	}
	return dead{}, nil
}

// claimArgs are the arguments of the claim script behind the seat.
func claimArgs(n *node, ticket string, r backend.OpenRequest, lost dead, least uint64) []any {
	will, has := willArgs(r.Will), 1
	if will == nil {
		will, has = []any{nil, 0, "", nil}, 0
	}
	return []any{
		string(n.ID), leaseEnd{n}, ticket, r.Principal, flag(r.CleanStart), r.Expiry,
		has, will[0], will[1], will[2], string(lost.id), lost.at, least, r.Window, will[3],
	}
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// opened does what follows on a claim, and says what was found.
func (s *Store) opened(ctx context.Context, n *node, r backend.OpenRequest, out *outcome) (*backend.Opened, error) {
	m := out.more
	o := &backend.Opened{
		Present:     m.int(0) == 1,
		Durable:     m.int(1) == 1,
		Incarnation: uint64(m.int(2)),
		Lease:       backend.Lease{Client: r.Client, Node: n.ID, Epoch: uint64(m.int(3))},
		Base:        uint64(m.int(7)),
		Last:        uint64(m.int(8)),
		Sent:        uint64(m.int(9)),
		Due:         out.due,
	}
	raise(&s.epochs, o.Lease.Epoch)
	if epoch := uint64(m.int(4)); epoch != 0 {
		o.Previous = backend.Lease{Client: r.Client, Node: backend.NodeID(m.str(5)), Epoch: epoch}
	}
	var err error
	if o.Subscriptions, err = decodeSubscriptions(m.list(13)); err != nil {
		return nil, err
	}
	if o.Replays, err = decodeReplays(m.list(14)); err != nil {
		return nil, err
	}
	if o.Received, o.Generations, err = decodeReceipts(m.list(15)); err != nil {
		return nil, err
	}
	if out.change != nil && !out.change.gone {
		out.change.node, out.change.epoch = n.ID, o.Lease.Epoch
	}
	var dismissed []*call
	if o.Previous.Epoch != 0 && o.Previous.Node != n.ID {
		dismissed = append(dismissed, s.dismiss(o.Previous.Node, r.Client, m.str(6)))
	}
	if err := s.conclude(ctx, true, dismissed, out); err != nil {
		return nil, err
	}
	if ver := uint64(m.int(11)); ver != 0 {
		if err := s.assureIndexed(ctx, r.Client, ver); err != nil {
			return nil, err
		}
	}
	s.seats.set(r.Client, seat{m.str(10), strconv.FormatUint(o.Incarnation, 10)})
	return o, nil
}

// assureIndexed makes sure that the index has a session at the version given:
// the gateway that changed it may have died before it had told anybody.
func (s *Store) assureIndexed(ctx context.Context, c backend.ClientID, ver uint64) error {
	if _, has := s.replica.lookUp(c); has >= ver {
		return nil
	}
	if err := s.replica.catchUp(ctx); err != nil {
		return err
	}
	if _, has := s.replica.lookUp(c); has >= ver {
		return nil
	}
	return s.mend(ctx, []backend.ClientID{c})
}

// Release implements [backend.Sessions].
func (s *Store) Release(ctx context.Context, l backend.Lease, r backend.ReleaseRequest) ([]backend.Chore, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	due, err := s.release(ctx, l, r)
	switch {
	case err == nil:
	case !errors.Is(err, backend.ErrFenced):
		s.unfinished.add(l.Client, farewell{lease: l, release: r})
	case s.clustered:
		// The client of a cluster repeats commands: it may have been this
		// very call that took the lease away.
		s.unfinished.add(l.Client, farewell{})
	}
	return due, s.failed("release", err)
}

func (s *Store) release(ctx context.Context, l backend.Lease, r backend.ReleaseRequest) ([]backend.Chore, error) {
	until, err := s.until(ctx, l.Node)
	if err != nil {
		return nil, err
	}
	if n := s.node(l.Node); n != nil {
		// Also when the lease is void: what was sent is to be known, and the
		// session is the connection's as long as the service says so.
		until = n.until.Load()
	}
	at, err := s.seatOf(ctx, l.Client)
	if err != nil {
		return nil, err
	}
	expiry := ""
	if r.Expiry != nil {
		expiry = strconv.FormatUint(uint64(*r.Expiry), 10)
	} else if at.box == "" && at != noSeat && !s.clustered { // there what follows goes to other servers, step by step
		if due, done, err := s.end(ctx, l, until, r.KeepWill, at); done || err != nil {
			return due, err
		}
	}
	args := []any{strconv.FormatUint(l.Epoch, 10), string(l.Node), until, flag(r.KeepWill), expiry, r.Sent}
	outcomes, codes, err := s.whole(ctx, releaseScript, []backend.ClientID{l.Client}, []seat{at}, func(int) []any { return args })
	if err != nil {
		return nil, err
	}
	if codes[0] == answerFenced {
		return nil, errFenced
	}
	s.seats.forget(l.Client)
	out := outcomes[0]
	dismissed := []*call{s.dismiss(l.Node, l.Client, out.more.str(0))}
	return out.due, s.conclude(ctx, true, dismissed, out)
}

// Destroy implements [backend.Sessions].
func (s *Store) Destroy(ctx context.Context, c backend.ClientID) (previous backend.Lease, due []backend.Chore, err error) {
	if err := s.enter(ctx); err != nil {
		return backend.Lease{}, nil, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	previous, due, err = s.destroy(ctx, c)
	if err != nil {
		s.unfinished.add(c, farewell{})
	}
	return previous, due, s.failed("destroy", err)
}

func (s *Store) destroy(ctx context.Context, c backend.ClientID) (previous backend.Lease, due []backend.Chore, err error) {
	at, owner, err := s.look(ctx, c)
	if err != nil {
		return backend.Lease{}, nil, err
	}
	lost, err := s.deadOwner(ctx, owner, "")
	if err != nil {
		return backend.Lease{}, nil, err
	}
	// The client comes up even if this gateway dies half way through.
	clock, err := s.client.Time(ctx).Result()
	if err != nil {
		return backend.Lease{}, nil, err
	}
	if err := s.run(ctx, s.schedule(c, clock.Add(backend.ChoreClaim).UnixMilli())); err != nil {
		return backend.Lease{}, nil, err
	}
	outcomes, _, err := s.whole(ctx, destroyScript, []backend.ClientID{c}, []seat{at}, func(int) []any { return []any{string(lost.id), lost.at} })
	if err != nil {
		return backend.Lease{}, nil, err
	}
	out := outcomes[0]
	var dismissed []*call
	if epoch := uint64(out.more.int(0)); epoch != 0 {
		previous = backend.Lease{Client: c, Node: backend.NodeID(out.more.str(1)), Epoch: epoch}
		dismissed = append(dismissed, s.dismiss(previous.Node, c, out.more.str(2)))
	}
	return previous, out.due, s.conclude(ctx, true, dismissed, out)
}
