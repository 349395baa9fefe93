package redis

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/backendtest"
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

// TestStartChecks: a server that loses data without an error ends the start,
// with a line that names the setting; one that has no append-only file is told
// of.
func TestStartChecks(t *testing.T) {
	for _, tt := range []struct {
		name     string
		settings []string
		err, log string
	}{
		{"good", nil, "", ""},
		{"evicts", []string{"--maxmemory-policy", "allkeys-lru"}, `maxmemory-policy is "allkeys-lru"`, ""},
		{"evicts what expires", []string{"--maxmemory-policy", "volatile-lru"}, "must be noeviction", ""},
		{"CONFIG is forbidden", []string{"--maxmemory-policy", "allkeys-lru", "--rename-command", "CONFIG", ""}, `maxmemory-policy is "allkeys-lru"`, ""},
		{"no append-only file", []string{"--appendonly", "no"}, "", "appendonly"},
		{"replica", []string{"--replicaof", "127.0.0.1 1"}, "replica", ""},
		{"password", []string{"--requirepass", "x"}, "wants a password", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			o := Options{URL: startServer(t, tt.settings...).url(), Logger: slog.New(slog.NewTextHandler(&log, nil))}
			s, err := New(t.Context(), o)
			if err == nil {
				defer s.Close()
			}
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("New: %v, want %q", err, tt.err)
			}
			if !strings.Contains(log.String(), tt.log) || tt.log == "" && log.Len() > 0 {
				t.Errorf("the log has %q, want %q", log.String(), tt.log)
			}
		})
	}
}

// TestNobodyThere: an address that nobody answers at is ErrUnavailable, in
// time.
func TestNobodyThere(t *testing.T) {
	start := time.Now()
	_, err := New(t.Context(), Options{URL: "redis://" + freeAddress(t)})
	if !errors.Is(err, backend.ErrUnavailable) || time.Since(start) > 2*time.Second {
		t.Errorf("New: %v after %v, want ErrUnavailable within two seconds", err, time.Since(start))
	}
}

// TestOutOfMemory: a full server refuses what needs room, says why, loses
// nothing, and is well again when it was drained.
func TestOutOfMemory(t *testing.T) {
	srv := startServer(t)
	s := open(t, optionsFor(t, srv.url(), backendtest.StoreOptions{}))
	ctx := context.Background()
	join(t, s, "node")
	o := openSession(t, s, "node", "c", backend.Subscription{Filter: "a", QoS: 1})
	direct := srv.direct(t)
	used := parseInfo(direct.Info(ctx, "memory").Val())["used_memory"]
	if err := direct.ConfigSet(ctx, "maxmemory", used).Err(); err != nil {
		t.Fatal(err)
	}
	out := make([]backend.Append, 1)
	message := func() []*backend.Message {
		return []*backend.Message{{Topic: "a", Payload: make([]byte, 100_000), QoS: 1}}
	}
	stored := 0
	var err error
	for err == nil && stored < 1000 {
		if err = s.Append(ctx, message(), out); err == nil {
			stored++
		}
	}
	if !errors.Is(err, backend.ErrUnavailable) || !strings.Contains(err.Error(), "maxmemory") {
		t.Fatalf("Append to a full server: %v, want ErrUnavailable that names maxmemory", err)
	}
	list, _, err := s.Fetch(ctx, o.Lease, 0, 1000, 1<<30)
	if err != nil || len(list) != stored {
		t.Errorf("%d entries, %v; want %d", len(list), err, stored)
	}
	if err := direct.ConfigSet(ctx, "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(ctx, message(), out); err != nil {
		t.Errorf("Append when there is room again: %v", err)
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
