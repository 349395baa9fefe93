package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sluice-mqtt/sluice/backend"
)

// The oldest server that has every command that is used.
const oldestMajor, oldestMinor = 6, 2

// check looks whether the service can keep what it is given. A setting that
// loses data without an error ends the start; see [Options] for what may.
func (s *Store) check(ctx context.Context) error {
	if err := s.client.Ping(ctx).Err(); err != nil {
		return s.failed("ping", err)
	}
	cluster, ok := s.client.(*goredis.ClusterClient)
	if !ok {
		return s.checkServer(ctx, s.client)
	}
	return cluster.ForEachMaster(ctx, func(ctx context.Context, c *goredis.Client) error { return s.checkServer(ctx, c) })
}

func (s *Store) checkServer(ctx context.Context, c goredis.Cmdable) error {
	text, err := c.Info(ctx).Result()
	if err != nil {
		return s.failed("info", err)
	}
	info := parseInfo(text)
	if v := info["redis_version"]; !recent(v) {
		return fmt.Errorf("redis: the server has version %s, needed is %d.%d or later", v, oldestMajor, oldestMinor)
	}
	policy := info["maxmemory_policy"]
	if m, err := c.ConfigGet(ctx, "maxmemory-policy").Result(); err == nil && m["maxmemory-policy"] != "" {
		policy = m["maxmemory-policy"] // INFO repeats it, but not every service's
	}
	if policy != "noeviction" {
		return fmt.Errorf("redis: the setting maxmemory-policy is %q: the server would drop sessions without an error when it is full; it must be noeviction", policy)
	}
	if info["role"] == "slave" {
		return fmt.Errorf("redis: %w: the server is a replica", backend.ErrUnavailable)
	}
	if info["aof_enabled"] == "0" {
		s.log.Warn("redis does not write an append-only file: what is acknowledged is lost when it stops", "setting", "appendonly")
	}
	return nil
}

func parseInfo(text string) map[string]string {
	info := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); ok {
			info[name] = value
		}
	}
	return info
}

func recent(version string) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return errors.Join(err1, err2) == nil && (major > oldestMajor || major == oldestMajor && minor >= oldestMinor)
}
