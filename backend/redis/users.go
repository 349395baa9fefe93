package redis

import (
	"context"
	"errors"
	"fmt"

	goredis "github.com/redis/go-redis/v9"
)

// Users are users and hashes of their passwords: one hash, <prefix>{users}, from
// user name to the text of the password's hash, and <prefix>{users}:n, which is
// counted up by every change. They have nothing to do with the store but the
// server and the prefix; their format belongs to this package. The methods may be
// called concurrently and end with their context.
type Users struct {
	client      goredis.UniversalClient
	users, turn string
}

// OpenUsers returns the users of a server, which is reached when it is needed.
// Of the options, URL, KeyPrefix and PoolSize count.
func OpenUsers(o Options) (*Users, error) {
	o.setDefaults()
	a, err := parseURL(o.URL)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	k := keys(o.KeyPrefix)
	return &Users{dial(a, &o), k.users(), k.users() + ":n"}, nil
}

// User returns the hash of a user's password, or false.
func (u *Users) User(ctx context.Context, name string) (hash string, ok bool, err error) {
	hash, err = u.client.HGet(ctx, u.users, name).Result()
	if errors.Is(err, goredis.Nil) {
		return "", false, nil
	}
	return hash, err == nil, usersError(err)
}

// Set adds users, or gives them other hashes, all at once.
func (u *Users) Set(ctx context.Context, hashes map[string]string) error {
	if len(hashes) == 0 {
		return nil
	}
	_, err := u.client.TxPipelined(ctx, func(p goredis.Pipeliner) error {
		p.HSet(ctx, u.users, hashes)
		p.Incr(ctx, u.turn)
		return nil
	})
	return usersError(err)
}

// Delete removes a user and reports whether there was one.
func (u *Users) Delete(ctx context.Context, name string) (bool, error) {
	var was *goredis.IntCmd
	_, err := u.client.TxPipelined(ctx, func(p goredis.Pipeliner) error {
		was = p.HDel(ctx, u.users, name)
		p.Incr(ctx, u.turn)
		return nil
	})
	if err != nil {
		return false, usersError(err)
	}
	return was.Val() > 0, nil
}

// usersPage is how many users are read at once.
const usersPage = 1000

// Each calls f for every user, in no order; one that is changed meanwhile may
// come twice.
func (u *Users) Each(ctx context.Context, f func(name, hash string)) error {
	for cursor := uint64(0); ; {
		page, next, err := u.client.HScan(ctx, u.users, cursor, "*", usersPage).Result()
		if err != nil {
			return usersError(err)
		}
		for i := 0; i+1 < len(page); i += 2 {
			f(page[i], page[i+1])
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// Changes is a number that every change makes another one.
func (u *Users) Changes(ctx context.Context) (int64, error) {
	n, err := u.client.Get(ctx, u.turn).Int64()
	if errors.Is(err, goredis.Nil) {
		return 0, nil
	}
	return n, usersError(err)
}

// Close ends the connections.
func (u *Users) Close() error { return u.client.Close() }

func usersError(err error) error {
	if err != nil {
		return fmt.Errorf("redis: users: %w", err)
	}
	return nil
}
