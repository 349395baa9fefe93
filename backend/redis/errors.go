package redis

import (
	"context"
	"errors"
	"fmt"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sluice-mqtt/sluice/backend"
)

// Answers of scripts instead of a result; see lua/lib_lease.lua.
const (
	answerFenced   = -1
	answerMoved    = -2
	answerFull     = -3
	answerNotOwner = -4
	answerNoInbox  = -5

	answerDamaged = -100 // no script answers it
)

var (
	errFenced  = fmt.Errorf("redis: %w", backend.ErrFenced)
	errFull    = fmt.Errorf("redis: %w", backend.ErrFull)
	errClosed  = fmt.Errorf("redis: %w", backend.ErrClosed)
	errNoInbox = errors.New("redis: the session has no inbox")
)

// conditions are errors of a server that an operator must hear of by name.
var conditions = []struct{ prefix, meaning string }{
	{"OOM", "the server is out of memory (maxmemory)"},
	{"MISCONF", "the server can not write its append-only file or snapshot: is its disk full?"},
	{"READONLY", "the server is a replica"},
	{"LOADING", "the server is still loading its data"},
	{"NOAUTH", "the server wants a password"},
	{"WRONGPASS", "user name or password is wrong"},
	{"NOPERM", "the user may not do this; see the operations page for its rights"},
}

// failed wraps what a server or the way to it reports. Whatever it is, the
// outcome is unknown, so that it is ErrUnavailable; cause and name are for the
// human.
func (s *Store) failed(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, backend.ErrFenced), errors.Is(err, backend.ErrFull),
		errors.Is(err, backend.ErrUnavailable), errors.Is(err, backend.ErrClosed):
		return err
	case errors.Is(err, goredis.ErrClosed), s.closed.Load():
		return errClosed
	}
	for _, c := range conditions {
		if goredis.HasErrorPrefix(err, c.prefix) {
			return fmt.Errorf("redis: %s: %w: %s: %w", op, backend.ErrUnavailable, c.meaning, err)
		}
	}
	return fmt.Errorf("redis: %s: %w: %w", op, backend.ErrUnavailable, err)
}

// enter is the first step of every call.
func (s *Store) enter(ctx context.Context) error {
	if s.closed.Load() {
		return errClosed
	}
	if ctx.Err() != nil {
		return fmt.Errorf("redis: %w: %w", backend.ErrUnavailable, context.Cause(ctx))
	}
	return nil
}

// damaged reports whether err is about what is in a key, not about the way to
// the service or its state.
func damaged(err error) bool {
	return goredis.HasErrorPrefix(err, "WRONGTYPE") || goredis.HasErrorPrefix(err, "ERR")
}
