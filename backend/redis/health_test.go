package redis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/backendtest"
)

// logBook keeps what is logged at Info and above.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logBook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// lines returns what was logged, without a line's end.
func (l *logBook) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.FieldsFunc(l.text.String(), func(r rune) bool { return r == '\n' })
}

// about returns the lines that have all of parts.
func (l *logBook) about(parts ...string) []string {
	var found []string
	for _, line := range l.lines() {
		has := true
		for _, p := range parts {
			has = has && strings.Contains(line, p)
		}
		if has {
			found = append(found, line)
		}
	}
	return found
}

// watched opens a Store whose log is kept.
func watched(t testing.TB, o Options) (*Store, *logBook) {
	t.Helper()
	log := &logBook{}
	o.Logger = log.logger()
	s := begun(t, o)
	t.Cleanup(func() { _ = s.Close() })
	return s, log
}

// oneLine checks that the log has, or gets at once, one line with all parts:
// health turns a moment before it is written.
func oneLine(t *testing.T, log *logBook, parts ...string) {
	t.Helper()
	for until := time.Now().Add(10 * time.Second); len(log.about(parts...)) == 0 && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
	if lines := log.about(parts...); len(lines) != 1 {
		t.Errorf("the log has %q, want one line with %q", log.lines(), parts)
	}
}

// awaitHealth waits for the health to become err, "" for fit, and returns how long
// that took.
func awaitHealth(t testing.TB, s *Store, err string) time.Duration {
	t.Helper()
	start := time.Now()
	for time.Since(start) < time.Minute {
		got := s.Health()
		if err == "" && got == nil || err != "" && got != nil && strings.Contains(got.Error(), err) {
			return time.Since(start)
		}
		time.Sleep(2 * time.Millisecond) // a caller asks, nothing tells
	}
	t.Fatalf("Health is %v, want %q", s.Health(), err)
	return 0
}

// TestHealth: whatever happens to a server, the store says so by name within
// three seconds, in one line, and is well again within three after the end of
// it, in one more. Nothing of that is a matter of the gateway's doing.
func TestHealth(t *testing.T) {
	config := func(name, value string) func(*testing.T, *server) {
		return func(t *testing.T, s *server) {
			if err := s.direct(t).ConfigSet(t.Context(), name, value).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tt := range []struct {
		name         string
		settings     []string
		begin, end   func(*testing.T, *server)
		condition    condition
		health, line string
	}{
		{
			name: "killed", begin: func(t *testing.T, s *server) { s.Kill(t) }, end: func(t *testing.T, s *server) { s.Start(t) },
			condition: unreachable, health: "can not be reached",
		},
		{
			name: "frozen", begin: func(t *testing.T, s *server) { s.Pause(t) }, end: func(t *testing.T, s *server) { s.Resume(t) },
			condition: unreachable, health: "can not be reached",
		},
		{
			name: "evicts", begin: config("maxmemory-policy", "allkeys-lru"), end: config("maxmemory-policy", "noeviction"),
			condition: evicts, health: `maxmemory-policy is "allkeys-lru"`,
		},
		{
			name:      "replica",
			begin:     func(t *testing.T, s *server) { s.direct(t).ReplicaOf(t.Context(), "127.0.0.1", "1") },
			end:       func(t *testing.T, s *server) { s.direct(t).ReplicaOf(t.Context(), "NO", "ONE") },
			condition: isReplica, health: "the server is a replica",
		},
		{
			name: "snapshot fails", settings: []string{"--appendonly", "no", "--save", "3600 1000000"},
			begin: func(t *testing.T, s *server) {
				if err := os.RemoveAll(s.dir); err != nil {
					t.Fatal(err)
				}
				s.direct(t).BgSave(t.Context())
			},
			end:       config("stop-writes-on-bgsave-error", "no"),
			condition: noDisk, health: "is its disk full?",
		},
		{
			name: "too few replicas", begin: config("min-replicas-to-write", "1"), end: config("min-replicas-to-write", "0"),
			condition: fewReplicas, health: "min-replicas-to-write",
		},
		{
			name: "no right any more",
			begin: func(t *testing.T, s *server) {
				s.direct(t).Do(t.Context(), "acl", "setuser", "default", "-info")
			},
			end:       func(t *testing.T, s *server) { s.direct(t).Do(t.Context(), "acl", "setuser", "default", "+info") },
			condition: noRight, health: "the user may not do this",
		},
		{
			name: "loading", settings: []string{"--appendonly", "no", "--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"},
			begin: func(t *testing.T, s *server) {
				p := s.direct(t).Pipeline()
				for i := range 5000 {
					p.Set(t.Context(), fmt.Sprint(i), i, 0)
				}
				if _, err := p.Exec(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := s.direct(t).Save(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				s.Kill(t)
				s.loads = true
				s.Start(t)
			},
			end:       func(*testing.T, *server) {},
			condition: loading, health: "still loading",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := startServer(t, tt.settings...)
			s, log := watched(t, Options{URL: srv.url()})
			awaitHealth(t, s, "")
			tt.begin(t, srv)
			red := awaitHealth(t, s, tt.health)
			oneLine(t, log, "level=WARN", "not fit for use", "condition="+string(tt.condition))
			tt.end(t, srv)
			green := awaitHealth(t, s, "")
			oneLine(t, log, "level=INFO", "fit for use again")
			t.Logf("red after %v, green after %v", red, green)
		})
	}
}

// limitMemory leaves room for so many bytes.
func limitMemory(t *testing.T, s *server, room int) {
	t.Helper()
	direct := s.direct(t)
	used := parseNumber(parseInfo(direct.Info(t.Context(), "memory").Val())["used_memory"])
	if err := direct.ConfigSet(t.Context(), "maxmemory", fmt.Sprint(int(used)+room)).Err(); err != nil {
		t.Fatal(err)
	}
}

// TestFull: a full server acknowledges nothing that needs room and says why; it
// loses nothing; gateways keep their leases, start and stop; clients come, take
// what is theirs and go; by which it is well again.
func TestFull(t *testing.T) {
	srv := startServer(t)
	o := optionsFor(t, srv.url(), backendtest.StoreOptions{})
	st, log := watched(t, o)
	s, ctx := peered{st, o}, context.Background()
	join(t, s, "node")
	at := openSession(t, s, "node", "here", subscription("a"))
	away := openSession(t, s, "node", "away", subscription("a"))
	if _, err := s.Release(ctx, away.Lease, backend.ReleaseRequest{}); err != nil {
		t.Fatal(err)
	}
	limitMemory(t, srv, 2<<20)
	out := make([]backend.Append, 1)
	large := []*backend.Message{{Topic: "a", Payload: make([]byte, 100_000), QoS: 1}}
	stored := 0
	var err error
	for err == nil && stored < 1000 {
		if err = s.Append(ctx, large, out); err == nil {
			stored++
		}
	}
	if !errors.Is(err, backend.ErrUnavailable) || !strings.Contains(err.Error(), "maxmemory") {
		t.Fatalf("Append to a full server: %v, want ErrUnavailable that names maxmemory", err)
	}
	limitMemory(t, srv, -1<<20) // no room for anything
	waitFor(t, "the line about it", func() bool { return len(log.about("level=WARN", "redis is full", "maxmemory")) == 1 })
	if err := s.Health(); err != nil {
		t.Errorf("Health: %v: who drains it could not connect", err)
	}
	if err := s.Renew(ctx, "node"); err != nil {
		t.Errorf("Renew: %v", err)
	}
	if _, err := s.Open(ctx, backend.OpenRequest{Client: "new", Node: "node", Expiry: 3600}); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("a new session: %v, want ErrUnavailable", err)
	}
	another := open(t, o)
	join(t, another, "another")
	back, err := another.Open(ctx, backend.OpenRequest{Client: "away", Node: "another", Expiry: 3600})
	if err != nil {
		t.Fatalf("Open of a session that is there: %v", err)
	}
	for _, l := range []struct {
		store peered
		lease backend.Lease
	}{{s, at.Lease}, {another, back.Lease}} {
		list, _, err := l.store.Fetch(ctx, l.lease, 0, 1000, 1<<30)
		if err != nil || len(list) < stored {
			t.Fatalf("%s has %d entries, %v; acknowledged were %d", l.lease.Client, len(list), err, stored)
		}
		if err := l.store.Advance(ctx, l.lease, backend.Progress{Base: list[len(list)-1].Seq}); err != nil {
			t.Fatalf("Advance: %v", err)
		}
		if _, err := l.store.Release(ctx, l.lease, backend.ReleaseRequest{}); err != nil {
			t.Errorf("Release: %v", err)
		}
	}
	if err := s.Append(ctx, large, out); err != nil {
		t.Errorf("Append after clients have taken all: %v", err)
	}
	waitFor(t, "the line about room", func() bool { return len(log.about("level=INFO", "room again")) == 1 })
	if err := another.Leave(ctx, "another"); err != nil {
		t.Errorf("Leave: %v", err)
	}
}
