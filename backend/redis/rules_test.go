package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
)

// TestRules: rules are kept by user, every change is noticed, two who edit at once
// lose nothing, and with the server away there is an error and no answer.
func TestRules(t *testing.T) {
	t.Parallel()
	srv := startServer(t)
	r, err := OpenRules(Options{URL: srv.url()})
	other, err2 := OpenRules(Options{URL: srv.url(), KeyPrefix: "other:"})
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	defer r.Close()
	defer other.Close()
	ctx := t.Context()
	last := int64(0)
	changed := func(want bool) {
		t.Helper()
		n, err := r.Changes(ctx)
		if err != nil || (n != last) != want {
			t.Errorf("changes %d after %d, %v", n, last, err)
		}
		last = n
	}
	changed(false)
	add := func(ctx context.Context, set RuleSet, line string) error {
		return r.Edit(ctx, set, func(lines []string) ([]string, error) { return append(lines, line), nil })
	}
	for _, e := range []struct {
		set  RuleSet
		line string
	}{{RulesOf("ann"), "one"}, {RulesOf("ann"), "two"}, {RulesOf(""), "nobody's"}, {RulesOf("p"), "that of a user p"}, {PatternRules, "for all"}} {
		if err := add(ctx, e.set, e.line); err != nil {
			t.Fatal(err)
		}
		changed(true)
	}
	own, patterns, err := r.Rules(ctx, []string{"p", "eve", "ann", ""})
	if got, want := fmt.Sprint(own, patterns, err), "[[that of a user p] [] [one two] [nobody's]] [for all] <nil>"; got != want {
		t.Errorf("rules %s, want %s", got, want)
	}
	if own, patterns, err := other.Rules(ctx, []string{"ann"}); len(own[0]) != 0 || len(patterns) != 0 || err != nil {
		t.Errorf("under another prefix: %v, %v, %v", own, patterns, err)
	}

	no := errors.New("no")
	if err := r.Edit(ctx, PatternRules, func([]string) ([]string, error) { return nil, no }); !errors.Is(err, no) {
		t.Errorf("an edit that was given up: %v", err)
	}
	changed(false)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if err := add(ctx, RulesOf("many"), fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	changed(true)
	if own, _, err := r.Rules(ctx, []string{"many"}); err != nil || len(own[0]) != 8 {
		t.Errorf("of 8 rules that were added at once there are %v, %v", own, err)
	}

	if err := r.Edit(ctx, RulesOf("ann"), func([]string) ([]string, error) { return nil, nil }); err != nil {
		t.Fatal(err)
	}
	changed(true)
	if err := r.Replace(ctx, map[RuleSet][]string{RulesOf("bob"): {"a", "b"}, RulesOf("none"): nil}); err != nil {
		t.Fatal(err)
	}
	changed(true)
	var sets []string
	if err := r.Each(ctx, func(set RuleSet, lines []string) {
		user, ok := set.User()
		sets = append(sets, fmt.Sprint(user, ok, lines))
	}); err != nil || !slices.Equal(sets, []string{"bobtrue [a b]"}) {
		t.Errorf("there are %q, %v", sets, err)
	}
	if _, ok := PatternRules.User(); ok {
		t.Error("patterns have a user")
	}

	srv.Kill(t)
	for name, err := range map[string]error{
		"Edit": add(ctx, PatternRules, "x"), "Replace": r.Replace(ctx, nil), "Each": r.Each(ctx, func(RuleSet, []string) {}),
		"Rules": func() error { _, _, err := r.Rules(ctx, nil); return err }(), "Changes": func() error { _, err := r.Changes(ctx); return err }(),
	} {
		if err == nil {
			t.Errorf("%s without a server: no error", name)
		}
	}
}
