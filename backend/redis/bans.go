package redis

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sluice-mqtt/sluice/backend"
)

// A ban is a field of one hash, named by kind and value, with a value in JSON.
func (k keys) bans() string        { return string(k) + "{b}:m" }
func (k keys) banRevision() string { return string(k) + "{b}:n" }

// banRecord is a ban as it is kept; times are in Unix seconds.
type banRecord struct {
	Kind   backend.BanKind `json:"kind"`
	Value  string          `json:"value"`
	Reason string          `json:"reason,omitempty"`
	Since  int64           `json:"since"`
	Until  int64           `json:"until,omitempty"`
}

func banField(kind backend.BanKind, value string) string { return string(kind) + ":" + value }

// BanRevision implements [backend.Bans].
func (s *Store) BanRevision(ctx context.Context) (uint64, error) {
	if err := s.enter(ctx); err != nil {
		return 0, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	n, err := s.client.Get(ctx, s.keys.banRevision()).Uint64()
	if errors.Is(err, goredis.Nil) {
		return 0, nil
	}
	return n, s.failed("bans", err)
}

// ListBans implements [backend.Bans].
func (s *Store) ListBans(ctx context.Context, cursor string, most int) (page []backend.Ban, next string, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, "", err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	at, _ := strconv.ParseUint(cursor, 10, 64)
	pairs, at, err := s.client.HScan(ctx, s.keys.bans(), at, "", int64(max(most, 10))).Result()
	if err != nil {
		return nil, "", s.failed("bans", err)
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		var r banRecord
		if err := json.Unmarshal([]byte(pairs[i+1]), &r); err != nil {
			s.log.Warn("a ban in the store is not one", "field", pairs[i], "err", err)
			continue
		}
		b := backend.Ban{Kind: r.Kind, Value: r.Value, Reason: r.Reason, Since: time.Unix(r.Since, 0)}
		if r.Until != 0 {
			b.Until = time.Unix(r.Until, 0)
		}
		page = append(page, b)
	}
	if at != 0 {
		next = strconv.FormatUint(at, 10)
	}
	return page, next, nil
}

// PutBan implements [backend.Bans]. The limit is soft by what is being added
// at the moment.
func (s *Store) PutBan(ctx context.Context, b backend.Ban) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	r := banRecord{Kind: b.Kind, Value: b.Value, Reason: b.Reason, Since: b.Since.Unix()}
	if !b.Until.IsZero() {
		r.Until = b.Until.Unix()
	}
	value, err := json.Marshal(r)
	if err != nil {
		return err
	}
	key, field := s.keys.bans(), banField(b.Kind, b.Value)
	p := s.client.Pipeline()
	has, n := p.HExists(ctx, key, field), p.HLen(ctx, key)
	if _, err := p.Exec(ctx); err != nil {
		return s.failed("ban", err)
	}
	if !has.Val() && n.Val() >= backend.MaxBans {
		return errFull
	}
	_, err = s.client.TxPipelined(ctx, func(p goredis.Pipeliner) error {
		p.HSet(ctx, key, field, value)
		p.Incr(ctx, s.keys.banRevision())
		return nil
	})
	return s.failed("ban", err)
}

// RemoveBan implements [backend.Bans].
func (s *Store) RemoveBan(ctx context.Context, kind backend.BanKind, value string) (existed bool, err error) {
	if err := s.enter(ctx); err != nil {
		return false, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	var removed *goredis.IntCmd
	_, err = s.client.TxPipelined(ctx, func(p goredis.Pipeliner) error {
		removed = p.HDel(ctx, s.keys.bans(), banField(kind, value))
		p.Incr(ctx, s.keys.banRevision())
		return nil
	})
	if err != nil {
		return false, s.failed("unban", err)
	}
	return removed.Val() > 0, nil
}
