package redis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	goredis "github.com/redis/go-redis/v9"
)

// Rules are the rules of topics of users: one hash, <prefix>{rules}, whose field
// u<user> holds the rules of a user, u those of clients without one and p the
// patterns for all, one a line; <prefix>{rules}:n is another number after every
// change. What a rule says is nothing of this package's; the format of the hash
// is. The methods may be called concurrently and end with their context.
type Rules struct {
	client      goredis.UniversalClient
	rules, turn string
}

// RuleSet names the rules that belong together.
type RuleSet string

// PatternRules are those for all.
const PatternRules RuleSet = "p"

// RulesOf are those of a user; of clients without one if that is empty.
func RulesOf(user string) RuleSet { return RuleSet("u" + user) }

// User is whose rules they are; ok is false for those for all.
func (s RuleSet) User() (user string, ok bool) { return strings.CutPrefix(string(s), "u") }

// OpenRules returns the rules of a server, which is reached when it is needed. Of
// the options, URL, KeyPrefix and PoolSize count.
func OpenRules(o Options) (*Rules, error) {
	o.setDefaults()
	a, err := parseURL(o.URL)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	k := keys(o.KeyPrefix)
	return &Rules{dial(a, &o), k.rules(), k.rules() + ":n"}, nil
}

// Rules returns the rules of users, in their order, and those for all. All are
// of one moment.
func (r *Rules) Rules(ctx context.Context, users []string) (own [][]string, patterns []string, err error) {
	fields := make([]string, 0, len(users)+1)
	for _, u := range users {
		fields = append(fields, string(RulesOf(u)))
	}
	values, err := r.client.HMGet(ctx, r.rules, append(fields, string(PatternRules))...).Result()
	if err != nil {
		return nil, nil, rulesError(err)
	}
	for _, v := range values {
		text, _ := v.(string)
		own = append(own, ruleLines(text))
	}
	return own[:len(users)], own[len(users)], nil
}

// editTries bounds how often an edit begins anew because somebody else was
// quicker.
const editTries = 50

// Edit changes one set of rules: change is given its lines and returns those to
// be there, none to remove the set. It may be called more than once.
func (r *Rules) Edit(ctx context.Context, set RuleSet, change func(lines []string) ([]string, error)) error {
	edit := func(tx *goredis.Tx) error {
		text, err := tx.HGet(ctx, r.rules, string(set)).Result()
		if err != nil && !errors.Is(err, goredis.Nil) {
			return err
		}
		lines, err := change(ruleLines(text))
		if err != nil {
			return err
		}
		_, err = tx.TxPipelined(ctx, func(p goredis.Pipeliner) error {
			if len(lines) == 0 {
				p.HDel(ctx, r.rules, string(set))
			} else {
				p.HSet(ctx, r.rules, string(set), strings.Join(lines, "\n"))
			}
			r.changed(ctx, p)
			return nil
		})
		return err
	}
	for range editTries {
		err := r.client.Watch(ctx, edit, r.rules)
		if !errors.Is(err, goredis.TxFailedErr) {
			return rulesError(err)
		}
	}
	return rulesError(errors.New("others change them all the time"))
}

// Replace puts these in the place of all rules, at once.
func (r *Rules) Replace(ctx context.Context, all map[RuleSet][]string) error {
	_, err := r.client.TxPipelined(ctx, func(p goredis.Pipeliner) error {
		p.Del(ctx, r.rules)
		for set, lines := range all {
			if len(lines) > 0 {
				p.HSet(ctx, r.rules, string(set), strings.Join(lines, "\n"))
			}
		}
		r.changed(ctx, p)
		return nil
	})
	return rulesError(err)
}

// changed notes that something has changed. The number is a random one: if it
// were counted, one that was lost with all data could come again.
func (r *Rules) changed(ctx context.Context, p goredis.Pipeliner) {
	p.Set(ctx, r.turn, rand.Int64(), 0)
}

// Each calls f for every set of rules, in no order; one that is changed meanwhile
// may come twice.
func (r *Rules) Each(ctx context.Context, f func(set RuleSet, lines []string)) error {
	for cursor := uint64(0); ; {
		page, next, err := r.client.HScan(ctx, r.rules, cursor, "*", usersPage).Result()
		if err != nil {
			return rulesError(err)
		}
		for i := 0; i+1 < len(page); i += 2 {
			f(RuleSet(page[i]), ruleLines(page[i+1]))
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// Changes is a number that every change makes another one.
func (r *Rules) Changes(ctx context.Context) (int64, error) {
	n, err := r.client.Get(ctx, r.turn).Int64()
	if errors.Is(err, goredis.Nil) {
		return 0, nil
	}
	return n, rulesError(err)
}

// Close ends the connections.
func (r *Rules) Close() error { return r.client.Close() }

func ruleLines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

func rulesError(err error) error {
	if err != nil {
		return fmt.Errorf("redis: rules: %w", err)
	}
	return nil
}
