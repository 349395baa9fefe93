package main

import (
	"context"

	"github.com/sluice-mqtt/sluice/backend/redis"
	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/gateway/auth"
	"github.com/sluice-mqtt/sluice/gateway/auth/password"
)

func (c *config) openUsers() (*redis.Users, error) {
	u, err := redis.OpenUsers(redis.Options{URL: c.RedisURL, KeyPrefix: c.RedisKeyPrefix})
	if err != nil {
		return nil, &problem{"REDIS_URL", masked, err.Error()}
	}
	return u, nil
}

func openRedisUsers(c *config, a *authentication) (gateway.Authenticator, error) {
	users, err := c.openUsers()
	if err != nil {
		return nil, err
	}
	r, err := auth.NewRemote(users, a.log)
	if err != nil {
		return nil, err
	}
	a.reloads = append(a.reloads, r.Reload)
	a.directories = append(a.directories, auth.NamedDirectory{Name: "redis", Directory: r})
	return auth.NewPasswords("redis", r, a.hasher), nil
}

// redisUsers are users in Redis as a [userTable]. What is set is kept until save.
type redisUsers struct {
	users   *redis.Users
	changed map[string]string
}

func (r *redisUsers) set(_ context.Context, user, hash string) error {
	if err := password.ValidUser(user); err != nil {
		return err
	}
	r.changed[user] = hash
	return nil
}

func (r *redisUsers) remove(ctx context.Context, user string) (bool, error) {
	return r.users.Delete(ctx, user)
}

func (r *redisUsers) list(ctx context.Context, each func(string, *password.Hash)) error {
	var wrong error
	err := r.users.Each(ctx, func(name, text string) {
		h, err := password.Parse(text)
		if err != nil {
			wrong = err
			return
		}
		each(name, h)
	})
	if err == nil {
		err = wrong
	}
	return err
}

func (r *redisUsers) save(ctx context.Context) error { return r.users.Set(ctx, r.changed) }
