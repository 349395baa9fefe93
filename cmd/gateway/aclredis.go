package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/sluice-mqtt/sluice/backend/redis"
	"github.com/sluice-mqtt/sluice/gateway/auth"
	"github.com/sluice-mqtt/sluice/gateway/auth/acl"
	"github.com/sluice-mqtt/sluice/gateway/auth/password"
)

func (c *config) openRules() (*redis.Rules, error) {
	r, err := redis.OpenRules(redis.Options{URL: c.RedisURL, KeyPrefix: c.RedisKeyPrefix})
	if err != nil {
		return nil, &problem{"REDIS_URL", masked, err.Error()}
	}
	return r, nil
}

// openRedisRules makes the rules in Redis a source of permissions.
func (c *config) openRedisRules(a *authentication) error {
	rules, err := c.openRules()
	if err != nil {
		return err
	}
	r := auth.NewRemoteRules("redis", rules, a.log)
	a.permit("redis", r)
	a.reloads = append(a.reloads, r.Reload)
	return nil
}

// aclEdit carries out what is about the rules in Redis.
func (p process) aclEdit(f aclFlags) int {
	what, rest := f.words[0], f.words[1:]
	do, err := aclAction(f.user, what, rest)
	if err == nil && (f.client != "" || f.file != "" || f.token != "") {
		err = errors.New("--client, --file and --token are for test")
	}
	if err != nil {
		return p.aclUsage(err)
	}
	var c config
	if _, errs := load(p.environ, &c); len(errs) > 0 {
		return p.fail(errs...)
	}
	rules, err := c.openRules()
	if err != nil {
		return p.fail(err)
	}
	defer rules.Close()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	if err := do(ctx, p, rules); err != nil {
		return p.fail(flatten(err)...)
	}
	return exitOK
}

// aclAction reads the words of a command. The error is one of usage.
func aclAction(user, what string, rest []string) (func(context.Context, process, *redis.Rules) error, error) {
	if user != "" {
		if err := password.ValidUser(user); err != nil {
			return nil, err
		}
	}
	switch {
	case what == "list" && len(rest) == 0:
		return func(ctx context.Context, p process, r *redis.Rules) error { return p.listRules(ctx, r, user) }, nil
	case what == "import" && len(rest) == 1 && user == "":
		return func(ctx context.Context, _ process, r *redis.Rules) error { return importRules(ctx, r, rest[0]) }, nil
	case what == "clear" && len(rest) == 0 && user != "":
		return func(ctx context.Context, _ process, r *redis.Rules) error {
			return r.Edit(ctx, redis.RulesOf(user), func(lines []string) ([]string, error) {
				if len(lines) == 0 {
					return nil, fmt.Errorf("there is no rule of user %q", user)
				}
				return nil, nil
			})
		}, nil
	case what == "add" || what == "remove":
		line, pattern, err := acl.Canonical(strings.Join(rest, " "))
		set := redis.RulesOf(user)
		switch {
		case err != nil:
			return nil, err
		case pattern && user != "":
			return nil, errors.New("pattern rules are for all, and not for one user")
		case pattern:
			set = redis.PatternRules
		}
		return func(ctx context.Context, _ process, r *redis.Rules) error {
			return editRule(ctx, r, set, line, what == "add")
		}, nil
	case what == "clear" && len(rest) == 0:
		return nil, errors.New("clear needs --user")
	case what == "list" || what == "import" || what == "clear":
		return nil, fmt.Errorf("%s with arguments that do not fit", what)
	}
	return nil, fmt.Errorf("no command %q; allowed is test, list, add, remove, clear and import", what)
}

// editRule adds a rule to a set or removes it. It is an error if that changes
// nothing by a misspelling: one to remove that is not there.
func editRule(ctx context.Context, r *redis.Rules, set redis.RuleSet, line string, add bool) error {
	return r.Edit(ctx, set, func(lines []string) ([]string, error) {
		at := slices.Index(lines, line)
		switch {
		case add && at < 0:
			lines = append(lines, line)
		case !add && at < 0:
			return nil, fmt.Errorf("there is no such rule: %s", line)
		case !add:
			lines = slices.Delete(lines, at, at+1)
		}
		return lines, nil
	})
}

// listRules prints rules in the form of the file: all, or those of one user.
func (p process) listRules(ctx context.Context, r *redis.Rules, user string) error {
	all := make(map[redis.RuleSet][]string)
	if err := r.Each(ctx, func(set redis.RuleSet, lines []string) { all[set] = lines }); err != nil {
		return err
	}
	print := func(lines []string) {
		for _, l := range lines {
			fmt.Fprintln(p.stdout, l)
		}
	}
	var users []string
	for set := range all {
		if u, ok := set.User(); ok && u != "" && (user == "" || u == user) {
			users = append(users, u)
		}
	}
	if user == "" {
		print(all[redis.RulesOf("")])
	}
	slices.Sort(users)
	for _, u := range users {
		fmt.Fprintf(p.stdout, "user %s\n", u)
		print(all[redis.RulesOf(u)])
	}
	if user == "" {
		print(all[redis.PatternRules])
	}
	return nil
}

// importRules puts the rules of a file in the place of all.
func importRules(ctx context.Context, r *redis.Rules, file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	list, err := acl.Parse(content)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	all := make(map[redis.RuleSet][]string)
	list.Each(func(user string, pattern bool, lines []string) {
		set := redis.RulesOf(user)
		if pattern {
			set = redis.PatternRules
		}
		all[set] = lines
	})
	return r.Replace(ctx, all)
}
