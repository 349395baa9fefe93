package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/sluice-mqtt/sluice/backend"
)

// outcome is what a script on a whole session did; see answer in
// lua/lib_session.lua.
type outcome struct {
	client backend.ClientID
	next   int64 // when to look after the client again, in ms; 0 is never
	due    []backend.Chore
	change *change // of the index; nil if there is none
	left   []string
	more   reply
}

func (s *Store) readOutcome(c backend.ClientID, r reply) *outcome {
	o := &outcome{client: c, next: r.int(1)}
	if more := r.list(6); more != nil {
		o.more = more
	} else if len(r) > 6 {
		o.more = reply{r[6]}
	}
	for list := r.list(2); len(list) >= 2; list = list[2:] {
		chore, err := decodeChore(c, list.str(0), list.str(1))
		if err != nil {
			// A newer gateway may know it. It comes up again for all.
			s.log.Error("a chore can not be read", "client", string(c), "err", err)
			continue
		}
		o.due = append(o.due, chore)
	}
	if ch := r.list(3); len(ch) > 0 {
		o.change = &change{
			client: c, prev: uint64(ch.int(0)), ver: uint64(ch.int(1)), box: ch.str(2), durable: ch.int(3) == 1,
		}
	}
	if gone := r.list(4); len(gone) > 0 {
		if o.change == nil { // else a new session has taken its place
			o.change = &change{client: c, ver: uint64(gone.int(0)), gone: true}
		}
		for i := 1; i < len(gone); i++ {
			o.left = append(o.left, gone.str(i))
		}
	}
	return o
}

// decodeChore reads a chore as lua/lib_session.lua makes it.
func decodeChore(c backend.ClientID, id, payload string) (backend.Chore, error) {
	chore := backend.Chore{ID: id, Client: c}
	bad := func(err error) (backend.Chore, error) {
		return chore, fmt.Errorf("redis: chore %s: %w", id, err)
	}
	if payload == "" {
		return bad(backend.ErrMalformed)
	}
	kind, rest := payload[0], payload[1:]
	switch kind {
	case 'e':
		chore.Kind = backend.ChoreEnded
	case 'w':
		parts := strings.SplitN(rest, " ", 4)
		if len(parts) != 4 {
			return bad(backend.ErrMalformed)
		}
		size, err := strconv.Atoi(parts[2])
		if err != nil || size < 0 || size > len(parts[3]) {
			return bad(backend.ErrMalformed)
		}
		m, _, err := backend.DecodeMessage([]byte(parts[3][size:]))
		if err != nil {
			return bad(err)
		}
		m.Expires = 0
		if parts[1] != "" { // seconds, counted from when it came due
			at, err1 := strconv.ParseInt(parts[0], 10, 64)
			seconds, err2 := strconv.ParseInt(parts[1], 10, 64)
			if err1 != nil || err2 != nil {
				return bad(backend.ErrMalformed)
			}
			m.Expires = at + seconds*1000
		}
		chore.Kind, chore.Will = backend.ChoreWill, m
		if size > 0 {
			chore.Owner = []byte(parts[3][:size])
		}
	case 'q':
		chore.Kind = backend.ChoreRequeue
		for rest != "" {
			parts := strings.SplitN(rest, " ", 3)
			if len(parts) != 3 {
				return bad(backend.ErrMalformed)
			}
			seq, err1 := strconv.ParseUint(parts[0], 10, 64)
			size, err2 := strconv.Atoi(parts[1])
			if err1 != nil || err2 != nil || size < 0 || size > len(parts[2]) {
				return bad(backend.ErrMalformed)
			}
			e, err := decodeElement(parts[2][:size], seq)
			if err != nil {
				return bad(err)
			}
			chore.Entries = append(chore.Entries, e)
			rest = parts[2][size:]
		}
	default:
		return bad(fmt.Errorf("kind %q: %w", kind, backend.ErrVersion))
	}
	return chore, nil
}

// whole runs a script on whole sessions: first with the seats given, then with
// those that it finds. Args are those behind the seat. Of several, one that is
// damaged has no outcome.
func (s *Store) whole(ctx context.Context, sc *script, clients []backend.ClientID, at []seat, args func(i int) []any) ([]*outcome, []int64, error) {
	outcomes, codes := make([]*outcome, len(clients)), make([]int64, len(clients))
	at = append([]seat(nil), at...)
	open := make([]int, len(clients))
	for i := range open {
		open[i] = i
	}
	for len(open) > 0 {
		calls := make([]*call, len(open))
		for n, i := range open {
			next := s.names.next()
			calls[n] = &call{
				script: sc,
				keys:   s.keys.session(clients[i]).all(at[i], next),
				args:   append([]any{at[i].box, at[i].inc, next}, args(i)...),
			}
		}
		if len(clients) == 1 {
			if err := s.joinIn(ctx, clients[0], only(calls...)); err != nil {
				return nil, nil, err
			}
		} else {
			_ = s.run(ctx, calls...) // each has its own error
		}
		var again []int
		for n, i := range open {
			r := calls[n].reply
			if err := calls[n].err; err != nil {
				if !damaged(err) {
					return nil, nil, err
				}
				// It must not keep others from what is due to them.
				s.log.Error("the session of a client is damaged", "client", string(clients[i]), "err", err)
				codes[i] = answerDamaged
				continue
			}
			switch codes[i] = r.int(0); codes[i] {
			case 0:
				outcomes[i] = s.readOutcome(clients[i], r)
			case answerMoved:
				at[i] = seat{r.str(1), r.str(2)}
				again = append(again, i)
			}
		}
		open = again
	}
	return outcomes, codes, nil
}

// conclude tells the index and the groups what became of sessions, has clients
// come up when there is something to do for them, and then takes them from the
// lists of their gateways.
func (s *Store) conclude(ctx context.Context, schedule bool, dismissed []*call, outcomes ...*outcome) error {
	var changes []*change
	var leaving, timers []*call
	for _, o := range outcomes {
		if o == nil {
			continue
		}
		if o.change != nil {
			changes = append(changes, o.change)
			for _, filter := range o.left {
				leaving = append(leaving, s.leaveGroup(o.client, o.change.ver, filter))
			}
		}
		if schedule && o.next != 0 {
			timers = append(timers, s.schedule(o.client, o.next))
		}
	}
	if err := s.run(ctx, leaving...); err != nil {
		return err
	}
	if err := s.publish(ctx, changes...); err != nil {
		return err
	}
	if len(outcomes) == 1 && !s.clustered {
		return s.joinIn(ctx, outcomes[0].client, only(append(timers, dismissed...)...))
	}
	return s.inOrder(ctx, timers, dismissed)
}

func (s *Store) schedule(c backend.ClientID, at int64) *call {
	return &call{
		script: scheduleScript,
		keys:   []string{s.keys.due(bucketOf(string(c), dueBuckets))},
		more:   []any{string(c), at},
	}
}
