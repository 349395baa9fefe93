package redis

import (
	"context"
	"slices"
	"strings"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/index"
)

// A choice as it is remembered: a member behind pickMember, or the queue.
const (
	pickMember = "m"
	pickQueue  = "q"
)

// keepChoices makes the choices for messages with an identity those that were
// made for the same message before, if it is repeated: it would be in two
// inboxes otherwise [MQTT-4.3.3-13].
func (s *Store) keepChoices(ctx context.Context, letters []letter) error {
	for {
		var calls []*call
		var apply []func(held string)
		for i := range letters {
			l := &letters[i]
			if l.id.field == "" {
				continue
			}
			for _, sh := range l.shares {
				made := sh.choice()
				if sh.kept || made == "" {
					continue
				}
				k := s.keys.group(sh.group.Name)
				newer, older := k.picks()
				calls = append(calls, &call{
					script: pickScript, keys: []string{newer, older},
					args: []any{l.id.field, l.id.value, made, int(sh.replace)},
				})
				apply = append(apply, func(held string) { s.keep(l, sh, made, held) })
			}
		}
		if len(calls) == 0 {
			return nil
		}
		if err := s.run(ctx, calls...); err != nil {
			return err
		}
		for i, c := range calls {
			apply[i](c.reply.str(0))
		}
	}
}

// keep takes note of the choice that holds. If it can not be followed any more
// the one that was made is to replace it.
func (s *Store) keep(l *letter, sh *share, made, held string) {
	if held != made && !s.follow(l, sh, held) {
		sh.replace = replaceAny
		return
	}
	sh.kept, sh.replace = true, replaceOwn
}

// choice returns what is to be remembered; empty if nobody was chosen.
func (sh *share) choice() string {
	switch {
	case sh.chosen.Conn != nil:
		return pickMember + string(sh.chosen.Session.Client)
	case sh.parcel != nil:
		return pickQueue
	default:
		return ""
	}
}

// follow makes a choice the one that was made before, where that still can be:
// an inbox knows whether it has the message, and stays the right one although
// its client is away. It reports false if the session has ended, or is no member.
func (s *Store) follow(l *letter, sh *share, held string) bool {
	client, member := strings.CutPrefix(held, pickMember)
	if !member {
		s.park(l, sh)
		return true
	}
	rec, _ := s.replica.lookUp(backend.ClientID(client))
	if rec == nil {
		return false // its session has ended; what it had was given to others
	}
	d, ok := sh.group.Delivery(&rec.Session)
	at, conn := rec.place.Load(), rec.Conn()
	if !ok || at == nil {
		return false
	}
	e := d.Entry(l.m)
	e.Share = sh.group.Name
	switch {
	case rec.Durable && e.QoS > 0:
		sh.post(l, rec, at, e)
	case conn != nil:
		sh.parcel, sh.entry = nil, e
	default:
		return false
	}
	sh.chosen = index.Choice{Session: &rec.Session, Conn: conn, Delivery: d}
	return true
}

// unsent returns the parcels of letters that are to be appended now.
func unsent(letters []letter) (send []*parcel) {
	for i := range letters {
		for _, p := range letters[i].parcels {
			if p.state == waiting {
				send = append(send, p)
			}
		}
		for _, sh := range letters[i].shares {
			if sh.parcel != nil && sh.parcel.state == waiting {
				send = append(send, sh.parcel)
			}
		}
	}
	return slices.Clip(send)
}
