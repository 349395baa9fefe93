package redis

import (
	"context"
	"errors"
	"strconv"

	"github.com/sluice-mqtt/sluice/backend"
)

// reviewAtOnce bounds one pipeline of Review, so that nobody waits long behind
// it.
const reviewAtOnce = 256

// Review implements [backend.Sessions].
func (s *Store) Review(ctx context.Context, leases []backend.Lease, out []backend.Standing) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	for len(leases) > 0 {
		n := min(len(leases), reviewAtOnce)
		if err := s.reviewSome(ctx, leases[:n], out[:n]); err != nil {
			return s.failed("review", err)
		}
		leases, out = leases[n:], out[n:]
	}
	return nil
}

func (s *Store) reviewSome(ctx context.Context, leases []backend.Lease, out []backend.Standing) error {
	calls := make([]*call, 0, len(leases))
	of := make([]int, 0, len(leases)) // calls in leases
	for i, l := range leases {
		until, err := s.until(ctx, l.Node)
		if errors.Is(err, backend.ErrFenced) {
			out[i] = backend.Standing{Fenced: true}
			continue
		}
		if err != nil {
			return err
		}
		at, err := s.seatOf(ctx, l.Client)
		if err != nil {
			return err
		}
		calls = append(calls, &call{
			script: reviewScript,
			keys:   inboxKeys(s.keys.session(l.Client), at),
			args:   []any{strconv.FormatUint(l.Epoch, 10), string(l.Node), until, at.box, at.inc},
		})
		of = append(of, i)
	}
	for len(calls) > 0 {
		if err := s.run(ctx, calls...); err != nil {
			return err
		}
		again, whose := calls[:0], of[:0]
		for k, c := range calls {
			i := of[k]
			switch r := c.reply; r.int(0) {
			case answerFenced:
				out[i] = backend.Standing{Fenced: true}
			case answerMoved:
				at := seat{r.str(1), r.str(2)}
				c.keys = inboxKeys(s.keys.session(leases[i].Client), at)
				c.args[3], c.args[4] = at.box, at.inc
				again, whose = append(again, c), append(whose, i)
			default:
				out[i] = backend.Standing{Last: uint64(r.int(1))}
			}
		}
		calls, of = again, whose
	}
	return nil
}
