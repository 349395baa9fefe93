package memory

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/sluice-mqtt/sluice/backend"
)

// bans are those of the cluster.
type bans struct {
	mu       sync.Mutex
	byKey    map[string]backend.Ban
	revision uint64
}

// banKey names a ban; no kind has a colon.
func banKey(kind backend.BanKind, value string) string { return string(kind) + ":" + value }

// BanRevision implements [backend.Bans].
func (s *Store) BanRevision(ctx context.Context) (uint64, error) {
	if err := s.enter(ctx); err != nil {
		return 0, err
	}
	s.bans.mu.Lock()
	defer s.bans.mu.Unlock()
	return s.bans.revision, nil
}

// ListBans implements [backend.Bans]. The cursor is the key of the last one.
func (s *Store) ListBans(ctx context.Context, cursor string, most int) (page []backend.Ban, next string, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, "", err
	}
	s.bans.mu.Lock()
	defer s.bans.mu.Unlock()
	for key, b := range s.bans.byKey {
		if key > cursor {
			page = append(page, b)
		}
	}
	slices.SortFunc(page, func(a, b backend.Ban) int {
		return cmp.Compare(banKey(a.Kind, a.Value), banKey(b.Kind, b.Value))
	})
	if most = max(most, 1); len(page) > most {
		last := page[most-1]
		return slices.Clone(page[:most]), banKey(last.Kind, last.Value), nil
	}
	return page, "", nil
}

// PutBan implements [backend.Bans].
func (s *Store) PutBan(ctx context.Context, b backend.Ban) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	s.bans.mu.Lock()
	defer s.bans.mu.Unlock()
	key := banKey(b.Kind, b.Value)
	if _, has := s.bans.byKey[key]; !has && len(s.bans.byKey) >= backend.MaxBans {
		return errFull
	}
	if s.bans.byKey == nil {
		s.bans.byKey = make(map[string]backend.Ban)
	}
	s.bans.byKey[key] = b
	s.bans.revision++
	return nil
}

// RemoveBan implements [backend.Bans].
func (s *Store) RemoveBan(ctx context.Context, kind backend.BanKind, value string) (existed bool, err error) {
	if err := s.enter(ctx); err != nil {
		return false, err
	}
	s.bans.mu.Lock()
	defer s.bans.mu.Unlock()
	key := banKey(kind, value)
	if _, existed = s.bans.byKey[key]; existed {
		delete(s.bans.byKey, key)
		s.bans.revision++
	}
	return existed, nil
}
