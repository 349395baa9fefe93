package nats_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/nats"
)

func TestOptions(t *testing.T) {
	seed := filepath.Join(t.TempDir(), "seed")
	if err := os.WriteFile(seed, []byte("not a seed"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		options nats.Options
		want    string // in the error; empty for none
	}{
		{"zero", nats.Options{}, ""},
		{"servers", nats.Options{URL: "nats://a:1, tls://b,ws://c:80,wss://d"}, ""},
		{"prefix of parts", nats.Options{SubjectPrefix: "a.b-c.é"}, ""},
		{"no URL", nats.Options{URL: "%zz:hunter2@"}, "can not be read"},
		{"scheme", nats.Options{URL: "http://a"}, `scheme "http"`},
		{"no scheme", nats.Options{URL: "localhost"}, `scheme ""`},
		{"no host", nats.Options{URL: "nats://:4222"}, "no host"},
		{"second server", nats.Options{URL: "nats://a,redis://b"}, `scheme "redis"`},
		{"empty part", nats.Options{SubjectPrefix: "a..b"}, "SubjectPrefix"},
		{"wildcard", nats.Options{SubjectPrefix: "a.*"}, "SubjectPrefix"},
		{"space", nats.Options{SubjectPrefix: "a b"}, "SubjectPrefix"},
		{"system", nats.Options{SubjectPrefix: "$SYS"}, "SubjectPrefix"},
		{"long prefix", nats.Options{SubjectPrefix: strings.Repeat("x", 200)}, "200 bytes"},
		{"two ways", nats.Options{User: "u", Token: "t"}, "allowed is one"},
		{"negative", nats.Options{QueueBytes: -1}, "QueueBytes is negative"},
		{"no seed", nats.Options{NKeySeedFile: seed}, "NKeySeedFile"},
		{"no credentials", nats.Options{CredentialsFile: "/nonexistent"}, "CredentialsFile"},
		{"no file", nats.Options{NKeySeedFile: "/nonexistent"}, "NKeySeedFile"},
	}
	for _, tt := range tests {
		_, err := nats.New(tt.options)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "nats: ")):
			t.Errorf("%s: %v, want %q in it", tt.name, err, tt.want)
		case err != nil && strings.Contains(err.Error(), "hunter2"):
			t.Errorf("%s: %v has the password in it", tt.name, err)
		}
	}
	_, err := nats.New(nats.Options{URL: "http://a", SubjectPrefix: ".", QueueBytes: -1})
	if n := strings.Count(err.Error(), "\n") + 1; n != 3 {
		t.Errorf("%d of 3 problems are named: %v", n, err)
	}
}

// TestStartFails: what Start finds is one line that says what to do about it.
func TestStartFails(t *testing.T) {
	t.Parallel()
	path := program(t, "installed")
	open := startService(t, path, 1)
	locked := startService(t, path, 1, "--user", "gateway", "--pass", "hunter2")
	silent := startProxy(t) // accepts and says nothing
	frozen := startService(t, path, 1)
	frozen.Pause(t)
	t.Cleanup(func() { frozen.Resume(t) })
	silent.to(frozen.servers[0].address)
	few := startService(t, path, 1, "-c", config(t, `authorization { users = [
		{ user: u, password: p, permissions: { publish: "sluice.>", subscribe: { allow: ["sluice.q.0.>"] } } } ] }`))
	tests := []struct {
		name        string
		options     nats.Options
		want        string
		unavailable bool
	}{
		{"nobody listens", nats.Options{URL: "nats://" + freeAddress(t)}, "connection refused", true},
		{"server says nothing", nats.Options{URL: "nats://" + silent.address(), ConnectTimeout: 200 * time.Millisecond}, "timeout", true},
		{"no such host", nats.Options{URL: "nats://host.invalid:4222"}, "host.invalid", true},
		{"no credentials", nats.Options{URL: locked.url(0)}, "credentials refused", true},
		{"wrong password", nats.Options{URL: strings.Replace(locked.url(0), "//", "//gateway:secret9@", 1)}, "credentials refused", true},
		{"wrong token", nats.Options{URL: locked.url(0), Token: "secret9"}, "credentials refused", true},
		{"max_payload", nats.Options{URL: open.url(0), MaxMessage: 1 << 20}, "max_payload of the server is too small: it is 1048576 bytes, messages of 1048576 bytes need 1", false},
		{"permissions", nats.Options{URL: few.url(0), User: "u", Password: "p"}, "Permissions Violation for Subscription", true},
		{"node", nats.Options{URL: open.url(0)}, "name of the node", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			node := backend.NodeID("n")
			if tt.name == "node" {
				node = backend.NodeID(strings.Repeat("n", 1024))
			}
			b := newBackend(t, tt.options)
			begin := time.Now()
			err := b.Start(t.Context(), node, newEar())
			if err == nil {
				t.Fatal("no error")
			}
			if text := err.Error(); !strings.Contains(text, tt.want) || strings.Contains(text, "\n") || strings.Contains(text, "secret9") || !strings.HasPrefix(text, "nats: start: ") {
				t.Errorf("%q, want one line with %q in it and no secret", text, tt.want)
			}
			if got := errors.Is(err, backend.ErrUnavailable); got != tt.unavailable {
				t.Errorf("%v: is ErrUnavailable: %v, want %v", err, got, tt.unavailable)
			}
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
			if err := b.Publish(t.Context(), &backend.Message{Topic: "a"}); err == nil {
				t.Error("Publish works")
			}
		})
	}
}

// TestStartIsCancelled: Start heeds its context while the server is silent.
func TestStartIsCancelled(t *testing.T) {
	t.Parallel()
	s := startService(t, program(t, "installed"), 1)
	s.Pause(t)
	t.Cleanup(func() { s.Resume(t) })
	b := newBackend(t, nats.Options{URL: s.url(0), ConnectTimeout: time.Minute})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if err := b.Start(ctx, "n", newEar()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Start: %v, want the context's error", err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

// config writes a configuration file for a server.
func config(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "server.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
