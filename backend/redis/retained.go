package redis

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sluice-mqtt/sluice/backend"
)

// retainedTotal is how much is retained, as last counted.
type retainedTotal struct {
	mu           sync.Mutex
	at           time.Time // zero: never
	count, bytes int64
}

// recount is how long a count of retained messages is good for while they are
// far below the limits.
const recount = time.Second

// retainedBucket returns the bucket of a topic, which is that of its first
// level.
func retainedBucket(topic string) int {
	level, _, _ := strings.Cut(topic, "/")
	return bucketOf(level, retainedBuckets)
}

// encodeRetained writes a message as lua/lib_retained.lua has it.
func encodeRetained(m *backend.Message) []byte {
	b := strconv.AppendInt(nil, max(m.Expires, 0), 10)
	b = strconv.AppendInt(append(b, ' '), int64(m.Size()), 10)
	return backend.AppendMessage(append(b, ' '), m)
}

func decodeRetained(value string) (*backend.Message, error) {
	parts := strings.SplitN(value, " ", 3)
	if len(parts) != 3 {
		return nil, backend.ErrMalformed
	}
	m, _, err := backend.DecodeMessage([]byte(parts[2]))
	return m, err
}

// Retain implements [backend.Retained].
func (s *Store) Retain(ctx context.Context, msgs []*backend.Message) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	if len(msgs) == 0 {
		return nil
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	refused, err := s.retain(ctx, msgs)
	if err != nil {
		return s.failed("retain", err)
	}
	if refused > 0 {
		return errFull
	}
	return nil
}

func (s *Store) retain(ctx context.Context, msgs []*backend.Message) (refused int64, err error) {
	var size int64
	for _, m := range msgs {
		size += int64(m.Size())
	}
	s.held.mu.Lock()
	far := time.Since(s.held.at) < recount && s.held.count+int64(len(msgs)) <= int64(s.options.RetainedMessages)/2 &&
		s.held.bytes+size <= s.options.RetainedBytes/2
	s.held.mu.Unlock()
	if far {
		return s.retainAll(ctx, msgs, noLimit, noLimit)
	}
	count, bytes, err := s.retainedStats(ctx)
	if err != nil {
		return 0, err
	}
	room, bytesRoom := int64(s.options.RetainedMessages)-count, s.options.RetainedBytes-bytes
	if int64(len(msgs)) <= room/2 && size <= bytesRoom/2 {
		return s.retainAll(ctx, msgs, noLimit, noLimit)
	}
	// Near a limit each must know what the one before has used.
	for _, m := range msgs {
		n, err := s.retainAll(ctx, []*backend.Message{m}, room, bytesRoom)
		if err != nil {
			return 0, err
		}
		refused += n
		s.held.mu.Lock()
		room, bytesRoom = int64(s.options.RetainedMessages)-s.held.count, s.options.RetainedBytes-s.held.bytes
		s.held.mu.Unlock()
	}
	return refused, nil
}

// retainAll stores messages, and removes, as far as there is room.
func (s *Store) retainAll(ctx context.Context, msgs []*backend.Message, room, bytesRoom int64) (refused int64, err error) {
	byBucket := make(map[int]*call, 1)
	var calls []*call
	for _, m := range msgs {
		b := retainedBucket(m.Topic)
		c := byBucket[b]
		if c == nil {
			c = &call{script: retainScript, keys: s.keys.retained(b), args: []any{room, bytesRoom}}
			byBucket[b] = c
			calls = append(calls, c)
		}
		if len(m.Payload) == 0 {
			c.args = append(c.args, m.Topic, "", 0) // [MQTT-3.3.1-6]
		} else {
			c.args = append(c.args, m.Topic, encodeRetained(m), m.Expires)
		}
	}
	if err := s.run(ctx, calls...); err != nil {
		return 0, err
	}
	s.held.mu.Lock()
	defer s.held.mu.Unlock()
	for _, c := range calls {
		refused += c.reply.int(0)
		s.held.count += c.reply.int(1)
		s.held.bytes += c.reply.int(2)
	}
	return refused, nil
}

// RetainedStats implements [backend.Retained].
func (s *Store) RetainedStats(ctx context.Context) (count, bytes int64, err error) {
	if err := s.enter(ctx); err != nil {
		return 0, 0, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	count, bytes, err = s.retainedStats(ctx)
	return count, bytes, s.failed("retained", err)
}

// retainedStats counts what is retained.
func (s *Store) retainedStats(ctx context.Context) (count, bytes int64, err error) {
	p := s.client.Pipeline()
	var counts [retainedBuckets]*goredis.IntCmd
	var sizes [retainedBuckets]*goredis.StringCmd
	for b := range retainedBuckets {
		k := s.keys.retained(b)
		counts[b], sizes[b] = p.HLen(ctx, k[0]), p.Get(ctx, k[3])
	}
	if _, err := p.Exec(ctx); err != nil && !errors.Is(err, goredis.Nil) {
		return 0, 0, err
	}
	for b := range retainedBuckets {
		n, err := counts[b].Result()
		if err != nil {
			return 0, 0, err
		}
		size, err := sizes[b].Int64()
		if err != nil && !errors.Is(err, goredis.Nil) {
			return 0, 0, err
		}
		count, bytes = count+n, bytes+size
	}
	s.held.mu.Lock()
	defer s.held.mu.Unlock()
	s.held.at, s.held.count, s.held.bytes = time.Now(), count, bytes
	return count, bytes, nil
}

// purge removes retained messages that have expired.
func (s *Store) purge(ctx context.Context) error {
	calls := make([]*call, retainedBuckets)
	for b := range calls {
		calls[b] = &call{script: purgeScript, keys: s.keys.retained(b), args: []any{purgeAtOnce}}
	}
	return s.run(ctx, calls...)
}
