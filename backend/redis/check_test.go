package redis

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

func TestRecent(t *testing.T) {
	for version, want := range map[string]bool{
		"7.0.15": true, "6.2.0": true, "6.2": true, "10.0.1": true, "8.0-rc1.2": false, "6.0.16": false, "5.9.9": false, "": false, "x.y": false,
	} {
		if got := recent(version); got != want {
			t.Errorf("%q: %v", version, got)
		}
	}
}

// TestJudge: what a server says of itself is judged by name.
func TestJudge(t *testing.T) {
	good := map[string]string{"redis_version": "7.0.15", "role": "master", "used_memory": "100", "maxmemory": "0", "aof_enabled": "1"}
	for _, tt := range []struct {
		name, field, value string
		policy             string
		condition          condition
		text               string
		full, forgetful    bool
	}{
		{name: "good", policy: "noeviction"},
		{name: "old", field: "redis_version", value: "6.0.9", policy: "noeviction", condition: tooOld, text: "6.0.9, needed is 6.2"},
		{name: "replica", field: "role", value: "slave", policy: "noeviction", condition: isReplica, text: "replica"},
		{name: "evicts", policy: "volatile-ttl", condition: evicts, text: `maxmemory-policy is "volatile-ttl"`},
		{name: "room", field: "maxmemory", value: "101", policy: "noeviction"},
		{name: "full", field: "maxmemory", value: "100", policy: "noeviction", full: true},
		{name: "forgets", field: "aof_enabled", value: "0", policy: "noeviction", forgetful: true},
	} {
		info := maps.Clone(good)
		info[tt.field] = tt.value
		f := &finding{}
		f.judge(info, tt.policy)
		if f.full != tt.full || f.forgetful != tt.forgetful || (f.trouble != nil) != (tt.condition != "") {
			t.Errorf("%s: %+v", tt.name, f)
		} else if f.trouble != nil && (f.trouble.condition != tt.condition || !strings.Contains(f.trouble.err.Error(), tt.text)) {
			t.Errorf("%s: %+v", tt.name, f.trouble)
		}
	}
}

// TestStartChecks: what a gateway can not begin with ends the start, with a
// line that says why; a server that loses data without an error leaves it
// not ready, with a reason that names the setting; one that has no append-only
// file is told of.
func TestStartChecks(t *testing.T) {
	for _, tt := range []struct {
		name             string
		settings         []string
		err, health, log string
	}{
		{"good", nil, "", "", ""},
		{"evicts", []string{"--maxmemory-policy", "allkeys-lru"}, "", `maxmemory-policy is "allkeys-lru"`, "condition=eviction"},
		{"evicts what expires", []string{"--maxmemory-policy", "volatile-lru"}, "", "must be noeviction", "condition=eviction"},
		{"CONFIG is forbidden", []string{"--maxmemory-policy", "allkeys-lru", "--rename-command", "CONFIG", ""}, "", `maxmemory-policy is "allkeys-lru"`, "condition=eviction"},
		{"no append-only file", []string{"--appendonly", "no"}, "", "", "setting=appendonly"},
		{"replica", []string{"--replicaof", "127.0.0.1 1"}, "replica", "", ""},
		{"password", []string{"--requirepass", "x"}, "wants a password", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			log := &logBook{}
			s, err := New(t.Context(), Options{URL: startServer(t, tt.settings...).url(), Logger: log.logger(), patience: suitePatience})
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("New: %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatalf("New: %v", err)
			}
			defer s.Close()
			if err := s.Health(); (err != nil) != (tt.health != "") || err != nil && !strings.Contains(err.Error(), tt.health) {
				t.Errorf("Health: %v, want %q", err, tt.health)
			}
			if lines := log.lines(); tt.log == "" && len(lines) > 0 || tt.log != "" && (len(lines) != 1 || !strings.Contains(lines[0], tt.log)) {
				t.Errorf("the log has %q, want one line with %q", lines, tt.log)
			}
		})
	}
}

// TestNobodyThere: an address that nobody answers at is ErrUnavailable, in
// time.
func TestNobodyThere(t *testing.T) {
	start := time.Now()
	_, err := New(t.Context(), Options{URL: "redis://" + freeAddress(t)})
	if !errors.Is(err, backend.ErrUnavailable) || time.Since(start) > callTimeout {
		t.Errorf("New: %v after %v, want ErrUnavailable within %v", err, time.Since(start), callTimeout)
	}
}

// join makes a gateway on s with a lease that nobody waits for.
func join(t testing.TB, s peered, id backend.NodeID) {
	t.Helper()
	if err := s.Join(context.Background(), backend.Node{ID: id}, time.Hour); err != nil {
		t.Fatalf("Join: %v", err)
	}
}

// openSession opens a durable session and subscribes it.
func openSession(t testing.TB, s peered, node backend.NodeID, c backend.ClientID, subs ...backend.Subscription) *backend.Opened {
	t.Helper()
	ctx := context.Background()
	o, err := s.Open(ctx, backend.OpenRequest{Client: c, Node: node, Expiry: 3600})
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	if len(subs) > 0 {
		if _, err := s.Subscribe(ctx, o.Lease, subs, nil); err != nil {
			t.Fatalf("Subscribe: %v", err)
		}
	}
	return o
}
