package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sluice-mqtt/sluice/backend"
)

const (
	// scanSteps and scanBytes bound what one script looks at and returns, so
	// that the server has time for others in between.
	scanSteps = 1024
	scanBytes = 512 << 10
)

// Match implements [backend.Retained]. The store's order is that of the
// buckets, and in each that of the topics with '/' before all other bytes.
func (s *Store) Match(ctx context.Context, filter, after string, atMost int) (page []*backend.Message, more bool, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, false, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	p := newPattern(filter)
	if p.exact() {
		page, err = s.matchExact(ctx, filter, after, atMost)
		return page, false, s.failed("match", err)
	}
	first, last := 0, retainedBuckets-1
	if p.wild > 0 || len(p.levels) > 0 && p.levels[0] != "+" {
		first = retainedBucket(filter)
		last = first
	}
	if after != "" {
		first = max(first, retainedBucket(after))
	}
	for b := first; b <= last && len(page) <= atMost; b++ {
		if page, err = s.scanBucket(ctx, b, &p, after, page, atMost+1); err != nil {
			return nil, false, s.failed("match", err)
		}
	}
	if len(page) > atMost {
		return page[:atMost], true, nil
	}
	return page, false, nil
}

// scanBucket adds to page what matches in a bucket and is behind after, until
// the page is full.
func (s *Store) scanBucket(ctx context.Context, b int, p *pattern, after string, page []*backend.Message, full int) ([]*backend.Message, error) {
	from := "[" + ordered(p.fixed)
	if key := ordered(after); after != "" && retainedBucket(after) == b && key >= ordered(p.fixed) {
		from = "(" + key
	}
	for from != "" && len(page) < full {
		args := []any{from, full - len(page), scanBytes, scanSteps, flag(p.below), p.wild}
		for _, level := range p.levels {
			args = append(args, level)
		}
		r, err := s.runOne(ctx, scanScript, s.keys.retained(b), args...)
		if err != nil {
			return nil, err
		}
		for i := 1; i < len(r); i++ {
			m, err := decodeRetained(r.str(i))
			if err != nil {
				return nil, fmt.Errorf("a retained message: %w", err)
			}
			page = append(page, m)
		}
		from = r.str(0)
	}
	return page, nil
}

// matchExact returns the message of a topic, if it comes after the given one.
func (s *Store) matchExact(ctx context.Context, topic, after string, atMost int) ([]*backend.Message, error) {
	b := retainedBucket(topic)
	if atMost <= 0 || after != "" && (retainedBucket(after) > b || retainedBucket(after) == b && ordered(after) >= ordered(topic)) {
		return nil, nil
	}
	p := s.client.Pipeline()
	clock := p.Time(ctx)
	got := p.HGet(ctx, s.keys.retained(b)[0], topic)
	if _, err := p.Exec(ctx); err != nil && !errors.Is(err, goredis.Nil) {
		return nil, err
	}
	value, err := got.Result()
	if errors.Is(err, goredis.Nil) {
		return nil, nil
	}
	if err = errors.Join(err, clock.Err()); err != nil {
		return nil, err
	}
	m, err := decodeRetained(value)
	if err != nil {
		return nil, fmt.Errorf("a retained message: %w", err)
	}
	if m.Expired(clock.Val()) {
		return nil, nil
	}
	return []*backend.Message{m}, nil
}

// ordered returns a topic as it is sorted: with NUL, which no topic has
// [MQTT-1.5.4-2], for '/'.
func ordered(topic string) string { return strings.ReplaceAll(topic, "/", "\x00") }

// pattern is a filter.
type pattern struct {
	levels []string
	below  bool   // ends with "/#", which is not among the levels
	wild   int    // the first level that is "+"; their number if none is
	fixed  string // what all topics that match begin with, whole levels
}

func newPattern(filter string) pattern {
	p := pattern{levels: strings.Split(filter, "/")}
	if last := len(p.levels) - 1; p.levels[last] == "#" {
		p.levels, p.below = p.levels[:last], true
	}
	for p.wild < len(p.levels) && p.levels[p.wild] != "+" {
		p.wild++
	}
	p.fixed = strings.Join(p.levels[:p.wild], "/")
	return p
}

// exact reports whether the filter has no wildcard.
func (p *pattern) exact() bool { return !p.below && p.wild == len(p.levels) }
