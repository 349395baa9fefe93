package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/gateway/auth/acl"
)

// RuleStore keeps rules, in the words of the file of rules, where several
// gateways reach them. It owns the format in which it does so.
type RuleStore interface {
	// Rules returns the lines of users, in the order of users, and those for
	// all. The user "" is a client without one.
	Rules(ctx context.Context, users []string) (own [][]string, patterns []string, err error)
	// Changes is a number that every change makes another one.
	Changes(ctx context.Context) (int64, error)
}

const (
	// rulesPatience is how long a question waits for the store.
	rulesPatience = 2 * time.Second
	// rulesAtOnce is how many users are read at once when rules have changed.
	rulesAtOnce = 1000
)

// RemoteRules is a [Source] out of a [RuleStore]. The rules of a user are read
// when they are first asked for and kept in memory; Reload finds out what has
// changed. While the store does not answer, what was read stays in force, and
// whose rules were not read is denied everything.
type RemoteRules struct {
	name    string
	store   RuleStore
	log     *slog.Logger
	changes atomic.Int64
	failed  recent[string, error]

	mu    sync.RWMutex
	known map[string]ruleset
	// turn counts reloads: what was read before one is not kept after it.
	turn uint64
}

// ruleset is what one user may do, by his own rules and those for all.
type ruleset struct {
	own, patterns     acl.Rules
	lines, everybodys []string
	// fault is not nil where one of them can not be read: it might be one that
	// denies.
	fault error
}

var _ Source = (*RemoteRules)(nil)

// NewRemoteRules makes a source; name is that of the store, for explanations.
func NewRemoteRules(name string, s RuleStore, log *slog.Logger) *RemoteRules {
	r := &RemoteRules{name: name, store: s, log: log, known: make(map[string]ruleset)}
	r.changes.Store(-1)
	return r
}

// Decide asks the rules of the client's user, then those for all.
func (r *RemoteRules) Decide(ctx context.Context, c *gateway.Client, a gateway.Access) (acl.Verdict, fmt.Stringer, error) {
	rules, err := r.of(ctx, c.Principal)
	switch {
	case err != nil:
		return acl.Deny, nil, err
	case rules.fault != nil:
		return acl.Deny, nil, rules.fault
	}
	v, by := rules.own.Decide(asked(c), a)
	if v == acl.Silent {
		v, by = rules.patterns.Decide(asked(c), a)
	}
	if by == nil {
		return v, nil, nil
	}
	return v, by, nil
}

// of returns the rules of a user, from memory if they are there.
func (r *RemoteRules) of(ctx context.Context, user string) (ruleset, error) {
	r.mu.RLock()
	rules, ok := r.known[user]
	turn := r.turn
	r.mu.RUnlock()
	if ok {
		return rules, nil
	}
	// A store that does not answer is not asked the same for each message.
	if err, ok := r.failed.get(user); ok {
		return ruleset{}, err
	}
	read, err := r.read(ctx, []string{user})
	if err != nil {
		r.failed.put(user, err, forgetFailures)
		return ruleset{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.turn == turn {
		if len(r.known) >= rememberedMax {
			clear(r.known) // some are read once more
		}
		r.known[user] = read[user]
	}
	return read[user], nil
}

// read asks the store.
func (r *RemoteRules) read(ctx context.Context, users []string) (map[string]ruleset, error) {
	ctx, cancel := context.WithTimeout(ctx, rulesPatience)
	defer cancel()
	own, everybodys, err := r.store.Rules(ctx, users)
	if err != nil {
		return nil, err
	}
	patterns, fault := acl.ParseRules(everybodys, r.name)
	if fault != nil {
		fault = fmt.Errorf("%s: %w", r.name, fault)
		r.log.Error("rules can not be read, nothing is allowed", "err", fault)
	}
	read := make(map[string]ruleset, len(users))
	for i, u := range users {
		where := r.name + ", user " + u
		if u == "" {
			where = r.name
		}
		rules, err := acl.ParseRules(own[i], where)
		if err != nil {
			err = fmt.Errorf("%s: %w", where, err)
			r.log.Error("rules can not be read, the user is allowed nothing", "err", err)
		}
		read[u] = ruleset{rules, patterns, own[i], everybodys, errors.Join(fault, err)}
	}
	return read, nil
}

// Reload reports whether rules that are in memory have changed since it was asked
// last; with force it compares them in any case. A store that does not answer has not changed.
func (r *RemoteRules) Reload(ctx context.Context, force bool) bool {
	n, err := r.store.Changes(ctx)
	if err != nil {
		r.log.Debug("changes of rules are not known", "err", err)
		return false
	}
	if n == r.changes.Load() && !force {
		return false
	}
	r.mu.Lock()
	r.turn++
	users := make([]string, 0, len(r.known))
	for u := range r.known {
		users = append(users, u)
	}
	r.mu.Unlock()
	changed := false
	for page := range slices.Chunk(users, rulesAtOnce) {
		read, err := r.read(ctx, page)
		if err != nil {
			r.log.Debug("changes of rules can not be read", "err", err)
			return changed // the rest when it is looked at again
		}
		changed = r.keep(read) || changed
	}
	r.changes.Store(n)
	return changed
}

// keep puts what was read of users into memory, and reports whether anything is
// different from what was there.
func (r *RemoteRules) keep(read map[string]ruleset) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := false
	for u, now := range read {
		was := r.known[u]
		changed = changed || !slices.Equal(was.lines, now.lines) || !slices.Equal(was.everybodys, now.everybodys)
		r.known[u] = now
	}
	return changed
}
