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

// trouble is what is wrong with the service.
type trouble struct {
	condition condition
	err       error
}

// finding is what one look at the service has found.
type finding struct {
	// trouble keeps the gateway from being ready; nil is none.
	trouble *trouble
	// full: what needs room is refused, what frees some is not.
	full bool
	// roomy: far enough from full that this is not a matter of a moment.
	roomy bool
	// forgetful: nothing outlives the server's process.
	forgetful bool
	// servers are those that were looked at, and what they say of their data.
	servers []ancestry
}

func (f *finding) add(c condition, err error) {
	if f.trouble == nil {
		f.trouble = &trouble{c, err}
	}
}

// addError adds what a command answered, or that it did not.
func (f *finding) addError(err error) {
	c, text := meaning(err)
	switch {
	case c == full:
		f.full = true
	case text != "":
		f.add(c, fmt.Errorf("redis: %s: %w", text, err))
	case c == unreachable:
		f.add(c, fmt.Errorf("redis: the server can not be reached: %w", err))
	default:
		f.add(c, fmt.Errorf("redis: the server refuses: %w", err))
	}
}

// examine looks whether the service can keep what it is given.
func (s *Store) examine(ctx context.Context) *finding {
	f := &finding{roomy: true}
	cluster, ok := s.probe.(*goredis.ClusterClient)
	if !ok {
		// Refused wherever a write would be, and changes nothing.
		s.examineServer(ctx, s.probe, f, s.keys.version()+":none")
		return f
	}
	err := s.probe.HMGet(ctx, s.keys.version(), versionData).Err()
	if err == nil {
		results := make(chan *finding, maxMasters)
		err = cluster.ForEachMaster(ctx, func(ctx context.Context, c *goredis.Client) error {
			one := &finding{roomy: true}
			s.examineServer(ctx, c, one, "")
			select {
			case results <- one:
			default:
			}
			return nil
		})
		close(results)
		for one := range results {
			f.full, f.roomy, f.forgetful = f.full || one.full, f.roomy && one.roomy, f.forgetful || one.forgetful
			f.servers = append(f.servers, one.servers...)
			if f.trouble == nil {
				f.trouble = one.trouble
			}
		}
	}
	if err != nil {
		f.addError(err)
	}
	return f
}

// maxMasters is how many servers a cluster can have.
const maxMasters = 16384

// examineServer looks at one server. The key is one that does not exist, empty
// if the server may not be the one for it.
func (s *Store) examineServer(ctx context.Context, c goredis.Cmdable, f *finding, key string) {
	p := c.Pipeline()
	text := p.Info(ctx)
	p.Ping(ctx) // refused like a write when the disk is full
	if key != "" {
		p.Del(ctx, key)
	}
	cmds, _ := p.Exec(ctx) // each has its own error
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil {
			f.addError(err)
		}
	}
	if text.Err() != nil {
		return
	}
	info := parseInfo(text.Val())
	policy, known := info["maxmemory_policy"]
	if !known {
		m, err := c.ConfigGet(ctx, "maxmemory-policy").Result()
		if err != nil {
			f.addError(err)
			return
		}
		policy = m["maxmemory-policy"]
	}
	f.judge(info, policy)
	f.servers = append(f.servers, readAncestry(info))
}

// roomShare: a server that was full has room again when this part of its memory
// is free.
const roomShare = 32

// judge reads what a server says of itself.
func (f *finding) judge(info map[string]string, policy string) {
	if v := info["redis_version"]; !recent(v) {
		f.add(tooOld, fmt.Errorf("redis: the server has version %s, needed is %d.%d or later", v, oldestMajor, oldestMinor))
	}
	if info["role"] == "slave" {
		f.add(isReplica, fmt.Errorf("redis: %w: the server is a replica", backend.ErrUnavailable))
	}
	if policy != "noeviction" {
		f.add(evicts, fmt.Errorf("redis: the setting maxmemory-policy is %q: the server would drop sessions without an error when it is full; it must be noeviction", policy))
	}
	used, limit := parseNumber(info["used_memory"]), parseNumber(info["maxmemory"])
	limit += parseNumber(info["mem_not_counted_for_evict"])
	switch bounded := parseNumber(info["maxmemory"]) > 0; {
	case bounded && used >= limit:
		f.full = true
	case bounded && used >= limit-limit/roomShare:
		f.roomy = false
	}
	f.forgetful = f.forgetful || info["aof_enabled"] == "0"
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
