package redis

import (
	"context"

	"github.com/sluice-mqtt/sluice/backend"
)

// Fetch implements [backend.Inboxes].
func (s *Store) Fetch(ctx context.Context, l backend.Lease, after uint64, atMost, maxBytes int) (entries []backend.Entry, more bool, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, false, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	r, _, err := s.leased(ctx, l, fetchScript, inboxKeys, after, atMost, maxBytes)
	if err != nil {
		return nil, false, s.failed("fetch", err)
	}
	if len(r) > 2 {
		entries = make([]backend.Entry, 0, (len(r)-2)/2)
	}
	for i := 2; i+1 < len(r); i += 2 {
		e, err := decodeElement(r.str(i+1), uint64(r.int(i)))
		if err != nil {
			return nil, false, err
		}
		entries = append(entries, e)
	}
	return entries, r.int(1) == 1, nil
}

func inboxKeys(k sessionKeys, at seat) []string { return []string{k.meta(), k.inbox(at.box)} }

// Advance implements [backend.Inboxes].
func (s *Store) Advance(ctx context.Context, l backend.Lease, p backend.Progress) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	// A sequence above what Lua counts exactly is above all that there is.
	args := []any{min(p.Base, 1<<53), len(p.Released)}
	for _, seq := range p.Released {
		args = append(args, seq)
	}
	for _, seq := range p.Done {
		args = append(args, seq)
	}
	_, _, err := s.leasedBy(ctx, s.trims(s.keys.session(l.Client)).run, l, advanceScript, inboxKeys, args...)
	return s.failed("advance", err)
}

// Enqueue implements [backend.Inboxes].
func (s *Store) Enqueue(ctx context.Context, l backend.Lease, entries []backend.Entry) (first uint64, err error) {
	if err := s.enter(ctx); err != nil {
		return 0, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	var args []any
	for i := range entries {
		args = append(args, appendElement(nil, &entries[i]), "", "")
	}
	r, _, err := s.leased(ctx, l, enqueueScript, enqueueKeys, args...)
	if err != nil {
		return 0, s.failed("enqueue", err)
	}
	return uint64(r.int(1)), nil
}

func enqueueKeys(k sessionKeys, at seat) []string {
	newer, older := k.seen()
	return []string{k.meta(), k.inbox(at.box), newer, older}
}
