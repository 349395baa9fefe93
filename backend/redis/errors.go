package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"

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

// condition is a state of the service that an operator must hear of by name.
type condition string

const (
	unreachable condition = "unreachable"
	refuses     condition = "error"
	full        condition = "full"
	noDisk      condition = "misconf"
	isReplica   condition = "replica"
	loading     condition = "loading"
	noAuth      condition = "auth"
	noRight     condition = "permission"
	fewReplicas condition = "replicas"
	noCluster   condition = "cluster_down"
	evicts      condition = "eviction"
	tooOld      condition = "version"
	otherLayout condition = "layout"
	otherBus    condition = "bus"
	otherData   condition = "data"
)

// answers are the errors of a server that mean one of them.
var answers = []struct {
	prefix string
	condition
	meaning string
}{
	{"OOM", full, "the server is out of memory (maxmemory)"},
	{"MISCONF", noDisk, "the server can not write its append-only file or snapshot: is its disk full?"},
	{"READONLY", isReplica, "the server is a replica"},
	{"LOADING", loading, "the server is still loading its data"},
	{"MASTERDOWN", isReplica, "the server is a replica that has lost its primary"},
	{"NOAUTH", noAuth, "the server wants a password"},
	{"WRONGPASS", noAuth, "user name or password is wrong"},
	{"NOPERM", noRight, "the user may not do this; see docs/redis.md for its rights"},
	{"NOREPLICAS", fewReplicas, "the server has fewer replicas than min-replicas-to-write asks for"},
	{"CLUSTERDOWN", noCluster, "the cluster is down: some of its keys have no server"},
}

// crowded is how a server answers that has as many clients as it takes.
const crowded = "ERR max number of clients"

// lasts reports whether an error of this condition stays until an operator
// changes the settings of one of the two sides.
func (c condition) lasts(err error) bool {
	switch c {
	case noAuth, noRight:
		return true
	case refuses:
		return !goredis.HasErrorPrefix(err, crowded)
	case unreachable:
		return backend.RefusedTLS(err)
	}
	return false
}

// aborted is what a server puts in front of the reason why it refuses the end
// of a transaction.
const aborted = "EXECABORT Transaction discarded because of: "

// meaning returns what an error of a server or of the way to it means.
func meaning(err error) (condition, string) {
	var answer goredis.Error
	if !errors.As(err, &answer) {
		return unreachable, ""
	}
	text := strings.TrimPrefix(answer.Error(), aborted)
	for _, a := range answers {
		if strings.HasPrefix(text, a.prefix+" ") {
			return a.condition, a.meaning
		}
	}
	return refuses, ""
}

// abortReason returns why a transaction was given up: the error of the command
// that the server refused, if that is known.
func abortReason(sent []goredis.Cmder, err error) error {
	const prefix = "EXECABORT"
	for _, cmd := range sent {
		if e := cmd.Err(); goredis.HasErrorPrefix(err, prefix) && e != nil && !goredis.HasErrorPrefix(e, prefix) {
			return e
		}
	}
	return err
}

// failed wraps what a server or the way to it reports. Whatever it is, the
// outcome is unknown, so that it is ErrUnavailable, and ErrRefused if it is so
// until somebody changes settings; cause and name are for the human.
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
	c, text := meaning(err)
	s.figures.failed(c)
	if c == full {
		s.health.refused.Store(true)
	}
	kind := backend.ErrUnavailable
	if c.lasts(err) {
		kind = backend.ErrRefused
	}
	if text != "" {
		return fmt.Errorf("redis: %s: %w: %s: %w", op, kind, text, err)
	}
	return fmt.Errorf("redis: %s: %w: %w", op, kind, err)
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
