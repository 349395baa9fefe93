package auth

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-mqtt/sluice/gateway"
)

// ruleTable is a RuleStore in memory that can be taken away.
type ruleTable struct {
	mu       sync.Mutex
	own      map[string][]string
	patterns []string
	n        int64
	away     error
	asked    int
	// during is called once while rules are read, after they have been.
	during func()
}

func (s *ruleTable) Rules(_ context.Context, users []string) (own [][]string, patterns []string, err error) {
	s.mu.Lock()
	s.asked++
	for _, u := range users {
		own = append(own, s.own[u])
	}
	patterns, err = s.patterns, s.away
	during := s.during
	s.during = nil
	s.mu.Unlock()
	if during != nil {
		during()
	}
	return own, patterns, err
}

func (s *ruleTable) Changes(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n, s.away
}

func (s *ruleTable) set(user string, lines ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.own == nil {
		s.own = make(map[string][]string)
	}
	s.own[user] = lines
	s.n++
}

func (s *ruleTable) leave(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = err
}

// may asks whether a user may publish to a topic.
func may(t *testing.T, r *RemoteRules, user, topic string) (bool, string) {
	t.Helper()
	return Permissions{{"redis", r}}.Explain(t.Context(), &gateway.Client{ID: "c", Principal: user}, gateway.Access{Action: gateway.Publish, Topic: topic})
}

// TestRemoteRules: rules are read once a user, are those of the user and of all,
// and follow changes when Reload is called, which tells whether there were any.
func TestRemoteRules(t *testing.T) {
	t.Parallel()
	s := &ruleTable{patterns: []string{"pattern write c/%c"}}
	s.set("ann", "topic write a/#", "topic deny a/secret", "topic deny c/c")
	s.set("", "topic write open")
	r := NewRemoteRules("redis", s, quiet())
	check := func(user, topic string, want bool, why string) {
		t.Helper()
		if got, by := may(t, r, user, topic); got != want || by != why {
			t.Errorf("%q, %s: %v, %s", user, topic, got, by)
		}
	}
	check("ann", "a/b", true, "redis: redis, user ann: topic write a/#")
	check("ann", "a/secret", false, "redis: redis, user ann: topic deny a/secret")
	check("ann", "c/c", false, "redis: redis, user ann: topic deny c/c")
	check("bob", "c/c", true, "redis: redis: pattern write c/%c")
	check("bob", "a/b", false, "no rule speaks of it")
	check("", "open", true, "redis: redis: topic write open")
	if s.asked != 3 {
		t.Errorf("asked %d times for three users", s.asked)
	}
	if r.Reload(t.Context(), false) {
		t.Error("the first look finds changes")
	}
	if r.Reload(t.Context(), true) {
		t.Error("a forced look finds changes where there are none")
	}
	s.set("eve", "topic write e") // nobody has asked for her
	if r.Reload(t.Context(), false) {
		t.Error("rules that nobody uses are a change")
	}
	s.set("ann", "topic write a/b")
	check("ann", "a/c", true, "redis: redis, user ann: topic write a/#") // not looked yet
	if !r.Reload(t.Context(), false) || r.Reload(t.Context(), false) {
		t.Error("a change is not noticed once")
	}
	check("ann", "a/c", false, "no rule speaks of it")
	check("eve", "e", true, "redis: redis, user eve: topic write e")
	s.set("eve")
	if !r.Reload(t.Context(), false) {
		t.Error("rules that are gone are no change")
	}
	check("eve", "e", false, "no rule speaks of it")
}

// TestRemoteRulesAway: without the store, what was read stays in force, everybody
// else is denied everything, and changes are found when it is back.
func TestRemoteRulesAway(t *testing.T) {
	t.Parallel()
	s := &ruleTable{}
	s.set("ann", "topic write a")
	s.set("bob", "topic write b")
	r := NewRemoteRules("redis", s, quiet())
	if ok, _ := may(t, r, "ann", "a"); !ok {
		t.Fatal("ann may not")
	}
	r.Reload(t.Context(), false)
	s.set("ann")
	s.leave(errors.New("connection refused"))
	if r.Reload(t.Context(), false) || r.Reload(t.Context(), true) {
		t.Error("a store that is away has changed")
	}
	if ok, _ := may(t, r, "ann", "a"); !ok {
		t.Error("what was read is not in force any more")
	}
	for range 3 {
		if ok, why := may(t, r, "bob", "b"); ok || why != "redis: connection refused" {
			t.Errorf("bob: %v, %s", ok, why)
		}
	}
	if s.asked != 3 {
		t.Errorf("asked %d times, of which 3 were due: a store that is away is asked for every message", s.asked)
	}
	s.leave(nil)
	if !r.Reload(t.Context(), false) {
		t.Error("the change is not found")
	}
	if ok, _ := may(t, r, "ann", "a"); ok {
		t.Error("ann still may")
	}
}

// TestRemoteRulesRace: what was read before a change is not kept after it.
func TestRemoteRulesRace(t *testing.T) {
	t.Parallel()
	s := &ruleTable{}
	s.set("ann", "topic write a")
	r := NewRemoteRules("redis", s, quiet())
	r.Reload(t.Context(), false)
	s.during = func() {
		s.set("ann")
		r.Reload(t.Context(), false)
	}
	may(t, r, "ann", "a") // may be either
	if ok, _ := may(t, r, "ann", "a"); ok {
		t.Error("ann may by rules that were gone before she asked")
	}
}

// TestRemoteRulesUnreadable: a rule that is none might have been one that denies:
// nothing is allowed, to its user or, if it is for all, to anybody.
func TestRemoteRulesUnreadable(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := &ruleTable{}
	s.set("ann", "topic write a", "topic refuse a/secret")
	s.set("bob", "topic write a")
	r := NewRemoteRules("redis", s, slog.New(slog.NewTextHandler(&log, nil)))
	if ok, why := may(t, r, "ann", "a"); ok || !strings.Contains(why, "refuse") {
		t.Errorf("ann: %v, %s", ok, why)
	}
	if ok, _ := may(t, r, "bob", "a"); !ok {
		t.Error("bob may not, though his rules are good")
	}
	s.mu.Lock()
	s.patterns, s.n = []string{"user bob"}, 9
	s.mu.Unlock()
	if !r.Reload(t.Context(), false) {
		t.Error("no change")
	}
	if ok, _ := may(t, r, "bob", "a"); ok {
		t.Error("bob may, though nobody knows what is denied to all")
	}
	if !strings.Contains(log.String(), "user ann") {
		t.Errorf("the log: %s", log.String())
	}
}
