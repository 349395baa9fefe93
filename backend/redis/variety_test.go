package redis

import (
	"crypto/tls"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/backendtest"
)

// TestWaysIn: each way to reach a server and to say who one is; the whole of the
// store works over it, or it is said why not.
func TestWaysIn(t *testing.T) {
	dir := t.TempDir()
	roots, pair := backendtest.Certificates(t, dir)
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	secured := []string{"--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert}
	for _, tt := range []struct {
		name     string
		settings []string
		tls      bool // over the port for TLS
		change   func(s *server, o *Options)
		err      string
	}{
		{name: "password", settings: []string{"--requirepass", "p w"}, change: func(_ *server, o *Options) { o.Password = "p w" }},
		{name: "password in the URL", settings: []string{"--requirepass", "p w"}, change: func(_ *server, o *Options) {
			o.URL = strings.Replace(o.URL, "//", "//:"+url.PathEscape("p w")+"@", 1)
		}},
		{name: "wrong password", settings: []string{"--requirepass", "right"}, change: func(_ *server, o *Options) { o.Password = "wrong" },
			err: "user name or password is wrong"},
		{name: "socket", change: func(s *server, o *Options) { o.URL = "unix://" + s.socket() }},
		{name: "TLS", settings: append(secured, "--tls-auth-clients", "no"), tls: true, change: func(_ *server, o *Options) {
			o.TLS = &tls.Config{RootCAs: roots}
		}},
		{name: "TLS with a certificate of the gateway", settings: secured, tls: true, change: func(_ *server, o *Options) {
			o.TLS = &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}
		}},
		{name: "TLS without the certificate that is asked for", settings: secured, tls: true, change: func(_ *server, o *Options) {
			o.TLS = &tls.Config{RootCAs: roots}
		}, err: "can not be reached"},
		{name: "TLS of nobody that is known", settings: secured, tls: true, change: func(*server, *Options) {}, err: "can not be reached"},
		{name: "TLS of anybody", settings: append(secured, "--tls-auth-clients", "no"), tls: true, change: func(_ *server, o *Options) {
			o.TLS = &tls.Config{InsecureSkipVerify: true}
		}},
		{name: "no TLS where it is asked for", settings: secured, tls: true, change: func(_ *server, o *Options) {
			o.URL = strings.Replace(o.URL, "rediss:", "redis:", 1)
		}, err: "can not be reached"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var address string
			if tt.tls {
				address = freeAddress(t)
				_, port, _ := net.SplitHostPort(address)
				tt.settings = append(tt.settings[:len(tt.settings):len(tt.settings)], "--tls-port", port)
			}
			srv := startServer(t, tt.settings...)
			o := optionsFor(t, srv.url(), backendtest.StoreOptions{})
			if tt.tls {
				o.URL = "rediss://" + address
			}
			o.patience = suitePatience // a busy machine takes its time for a handshake
			tt.change(srv, &o)
			if tt.err == "" {
				everyCommand(t, o)
				return
			}
			s, err := New(t.Context(), o)
			if err == nil {
				_ = s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("New: %v, want %q", err, tt.err)
			}
			if err != nil && strings.Contains(err.Error(), "p w") {
				t.Errorf("the error has the password: %v", err)
			}
		})
	}
}

// documentedUser returns the line of the operator's page that makes the user
// for the gateways, as arguments.
func documentedUser(t *testing.T, prefix, password string) []any {
	t.Helper()
	page, err := os.ReadFile("../../docs/redis.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^ACL SETUSER .*$`).FindString(string(page))
	if line == "" {
		t.Fatal("the page has no line for the user")
	}
	line = strings.NewReplacer("PASSWORD", password, "sluice:*", prefix+"*").Replace(line)
	var args []any
	for _, word := range strings.Fields(line) {
		args = append(args, word)
	}
	return args
}

// TestDocumentedUser: a user with no more rights than the page says passes the
// whole suite, and can neither see other keys nor change the server.
func TestDocumentedUser(t *testing.T) {
	srv := startServer(t)
	direct := srv.direct(t)
	if err := direct.Do(t.Context(), documentedUser(t, "test-", "secret")...).Err(); err != nil {
		t.Fatal(err)
	}
	u := strings.Replace(srv.url(), "//", "//sluice:secret@", 1)
	backendtest.TestStore(t, harness(u))
	s := open(t, optionsFor(t, u, backendtest.StoreOptions{}))
	for _, not := range [][]any{{"get", "other"}, {"set", "other", "1"}, {"flushall"}, {"config", "get", "*"}, {"keys", "*"}, {"shutdown"}, {"acl", "list"}} {
		if err := s.client.Do(t.Context(), not...).Err(); err == nil || !strings.Contains(err.Error(), "NOPERM") {
			t.Errorf("%v: %v, want NOPERM", not, err)
		}
	}
}

// everyCommand has a store do something of each kind.
func everyCommand(t *testing.T, o Options) {
	t.Helper()
	s := open(t, o)
	ctx := t.Context()
	join(t, s, "node")
	at := openSession(t, s, "node", "c", subscription("a/#"), subscription("$share/g/b"))
	appendTo(t, s, message("a/1", "one"), message("b", "two"))
	wantInbox(t, s, at.Lease, "one", "two")
	if err := s.Retain(ctx, []*backend.Message{{Topic: "a/1", Payload: []byte("kept"), Retain: true}}); err != nil {
		t.Errorf("Retain: %v", err)
	}
	if page, _, err := s.Match(ctx, "+/1", "", 10); err != nil || len(page) != 1 {
		t.Errorf("Match: %d messages, %v", len(page), err)
	}
	if err := s.Advance(ctx, at.Lease, backend.Progress{Base: 2}); err != nil {
		t.Errorf("Advance: %v", err)
	}
	if _, _, err := s.Due(ctx, "node", 10); err != nil {
		t.Errorf("Due: %v", err)
	}
	if _, err := s.Release(ctx, at.Lease, backend.ReleaseRequest{}); err != nil {
		t.Errorf("Release: %v", err)
	}
	if err := s.Leave(ctx, "node"); err != nil {
		t.Errorf("Leave: %v", err)
	}
	if err := s.Health(); err != nil {
		t.Errorf("Health: %v", err)
	}
}
