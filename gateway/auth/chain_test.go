package auth

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/gateway/auth/acl"
	"github.com/sluice-mqtt/sluice/gateway/auth/password"
	"github.com/sluice-mqtt/sluice/protocol"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// answers is an authenticator that says what it was told to.
func answers(name string, id gateway.Identity, err error) Link {
	return Link{name, gateway.AuthenticatorFunc(func(context.Context, *gateway.ConnectRequest) (gateway.Identity, error) { return id, err })}
}

func request(user, pass string) *gateway.ConnectRequest {
	r := &gateway.ConnectRequest{HasUsername: user != "", Password: []byte(pass), HasPassword: pass != ""}
	r.Client.Username = user
	return r
}

// TestChain: the first that speaks decides, and nobody's word is no.
func TestChain(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	ignore := answers("ignore", gateway.Identity{}, ErrIgnore)
	yes := answers("yes", gateway.Identity{Principal: "p"}, nil)
	no := answers("no", gateway.Identity{}, gateway.ErrBadCredentials)
	fails := answers("fails", gateway.Identity{}, down)
	for _, tt := range []struct {
		name      string
		links     []Link
		anonymous bool
		request   *gateway.ConnectRequest
		by        string
		err       error
	}{
		{"yes", []Link{yes, no}, false, request("u", "p"), "yes", nil},
		{"no before yes", []Link{no, yes}, false, request("u", "p"), "", gateway.ErrBadCredentials},
		{"an error is a no", []Link{fails, yes}, false, request("u", "p"), "", down},
		{"the next may speak", []Link{ignore, ignore, yes}, false, request("u", "p"), "yes", nil},
		{"nobody speaks", []Link{ignore}, false, request("u", "p"), "", gateway.ErrBadCredentials},
		{"nobody speaks for nobody", []Link{ignore}, false, request("", ""), "", gateway.ErrNotAuthorized},
		{"nobody is there", nil, false, request("u", "p"), "", gateway.ErrBadCredentials},
		{"anonymous", []Link{no}, true, request("", ""), "anonymous", nil},
		{"not anonymous", []Link{no}, true, request("u", ""), "", gateway.ErrBadCredentials},
		{"a password alone", []Link{no}, true, request("", "p"), "", gateway.ErrBadCredentials},
		{"not allowed to be anonymous", []Link{ignore}, false, request("", ""), "", gateway.ErrNotAuthorized},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &Chain{Links: tt.links, Anonymous: tt.anonymous}
			id, err := c.Authenticate(t.Context(), tt.request)
			if !errors.Is(err, tt.err) {
				t.Fatalf("%v, want %v", err, tt.err)
			}
			if err != nil {
				if id != (gateway.Identity{}) {
					t.Errorf("refused, but %+v", id)
				}
				return
			}
			if l := LoginOf(&gateway.Client{Data: id.Data}); l == nil || l.By != tt.by {
				t.Errorf("let in by %+v, want %s", l, tt.by)
			}
		})
	}
}

// hashFor makes the cheapest hash.
func hashFor(_, pass string) (string, error) { return password.Make(password.SCRAM, []byte(pass)) }

func hashOf(t testing.TB, pass string) string {
	t.Helper()
	h, err := hashFor("", pass)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func passwordFile(t testing.TB, lines ...string) PasswordFile {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users")
	write(t, path, lines...)
	f, err := OpenPasswordFile(path, quiet())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func write(t testing.TB, path string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestPasswords: who gives the right password is let in, by whatever source
// knows the name first.
func TestPasswords(t *testing.T) {
	t.Parallel()
	h := NewHasher(1, time.Minute)
	one, two := passwordFile(t, "ann:"+hashOf(t, "first"), "empty:"+hashOf(t, "x")), passwordFile(t, "ann:"+hashOf(t, "second"), "bob:"+hashOf(t, "second"))
	c := &Chain{Links: []Link{{"one", NewPasswords("one", one, h)}, {"two", NewPasswords("two", two, h)}}}
	for range 2 { // computed, then remembered
		for _, tt := range []struct {
			user, pass, by string
			err            error
		}{
			{"ann", "first", "one", nil},
			{"ann", "second", "", gateway.ErrBadCredentials},
			{"bob", "second", "two", nil},
			{"bob", "first", "", gateway.ErrBadCredentials},
			{"bob", "", "", gateway.ErrBadCredentials},
			{"cid", "first", "", gateway.ErrBadCredentials},
			{"ANN", "first", "", gateway.ErrBadCredentials},
			{"", "first", "", gateway.ErrNotAuthorized},
		} {
			id, err := c.Authenticate(t.Context(), request(tt.user, tt.pass))
			if !errors.Is(err, tt.err) || err == nil && (id.Principal != tt.user || id.Data.(*Login).By != tt.by) {
				t.Errorf("%s, %s: %+v, %v", tt.user, tt.pass, id, err)
			}
		}
	}
}

// TestUnknownUserCosts: the password of a user whom nobody knows is computed like
// that of one who is known, once, and counts among those that are bounded.
func TestUnknownUserCosts(t *testing.T) {
	t.Parallel()
	h := NewHasher(1, time.Minute)
	f := passwordFile(t, "ann:"+hashOf(t, "first"))
	c := &Chain{Links: []Link{{"file", NewPasswords("file", f, h)}}}
	h.slots <- struct{}{} // somebody else's turn, for good
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, user := range []string{"ann", "nobody"} {
		_, err := c.Authenticate(ctx, request(user, "first"))
		if refusal := (*gateway.RefusalError)(nil); !errors.Is(err, context.Canceled) || errors.As(err, &refusal) {
			t.Errorf("%s: %v, without waiting for a turn", user, err)
		}
	}
	<-h.slots
	if _, err := c.Authenticate(t.Context(), request("nobody", "first")); !errors.Is(err, gateway.ErrBadCredentials) {
		t.Error(err)
	}
	// With the password of the decoy too: it is no login.
	if _, err := c.Authenticate(t.Context(), request("nobody", "first")); !errors.Is(err, gateway.ErrBadCredentials) {
		t.Error("the password of somebody else is good for nobody:", err)
	}
}

// TestHasherRemembers: a right password is not computed again for a while; a
// wrong one, or another user's, or that of another hash, is.
func TestHasherRemembers(t *testing.T) {
	t.Parallel()
	hash, err := password.Parse(hashOf(t, "secret"))
	other, err2 := password.Parse(hashOf(t, "secret"))
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	h := NewHasher(1, time.Hour)
	if ok, err := h.Verify(t.Context(), hash, "ann", []byte("secret")); !ok || err != nil {
		t.Fatal(ok, err)
	}
	h.slots <- struct{}{} // who computes now waits for ever
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	verify := func(hash *password.Hash, user, pass string) bool {
		ok, err := h.Verify(ctx, hash, user, []byte(pass))
		return ok && err == nil
	}
	if !verify(hash, "ann", "secret") {
		t.Error("the password is computed again")
	}
	if verify(hash, "ann", "Secret") || verify(hash, "bob", "secret") || verify(other, "ann", "secret") || verify(hash, "annsecret", "") {
		t.Error("something else is remembered")
	}
	h.mu.Lock()
	for d := range h.good {
		h.good[d] = time.Now().Add(-time.Second)
	}
	h.mu.Unlock()
	if verify(hash, "ann", "secret") {
		t.Error("it is remembered for ever")
	}
	forgetful := NewHasher(1, 0)
	if ok, _ := forgetful.Verify(t.Context(), hash, "ann", []byte("secret")); !ok || len(forgetful.good) != 0 {
		t.Errorf("%v, %d remembered", ok, len(forgetful.good))
	}
}

// TestPasswordFileReload: a changed file is in force at the next look; one that is
// of no use leaves the old one in force; who was let in with what is not in it
// any more is told so.
func TestPasswordFileReload(t *testing.T) {
	t.Parallel()
	ann := "ann:" + hashOf(t, "first")
	f := passwordFile(t, ann, "bob:"+hashOf(t, "first"))
	p := NewPasswords("file", f, NewHasher(1, time.Minute))
	c := &Chain{Links: []Link{{"file", p}}}
	login := func(user, pass string) *gateway.Client {
		id, err := c.Authenticate(t.Context(), request(user, pass))
		if err != nil {
			return nil
		}
		return &gateway.Client{Principal: id.Principal, Data: id.Data}
	}
	one, two := login("ann", "first"), login("bob", "first")
	if one == nil || two == nil || f.Reload(false) || f.Reload(true) {
		t.Fatal("not as it was written")
	}
	write(t, f.Path(), ann, "bob:"+hashOf(t, "second"))
	if !f.Reload(false) || f.Reload(false) {
		t.Error("the change is not noticed, or twice")
	}
	if login("bob", "first") != nil || login("bob", "second") == nil || login("ann", "first") == nil {
		t.Error("the new file is not in force")
	}
	var refusal *gateway.RefusalError
	if err := c.Verify(t.Context(), two); !errors.As(err, &refusal) || refusal.Code != protocol.NotAuthorized {
		t.Errorf("bob with the old password: %v", err)
	}
	if err := c.Verify(t.Context(), one); err != nil {
		t.Errorf("ann: %v", err)
	}
	for _, bad := range []string{"ann:plain", "x"} {
		write(t, f.Path(), bad)
		if f.Reload(true) || login("ann", "first") == nil || login("bob", "second") == nil {
			t.Errorf("%q is in force", bad)
		}
	}
	if err := os.Remove(f.Path()); err != nil {
		t.Fatal(err)
	}
	if f.Reload(true) || login("ann", "first") == nil {
		t.Error("a file that is gone is in force")
	}
	write(t, f.Path(), "# nobody")
	if !f.Reload(true) || login("ann", "first") != nil {
		t.Error("an empty file lets in")
	}
	if err := c.Verify(t.Context(), one); err == nil {
		t.Error("ann is gone and may stay")
	}
}

// TestPasswordsDirectoryFails: who can not tell does not let in, and does not send
// away.
func TestPasswordsDirectoryFails(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	p := NewPasswords("redis", failing{down}, NewHasher(1, 0))
	if _, err := (&Chain{Links: []Link{{"redis", p}}}).Authenticate(t.Context(), request("ann", "x")); !errors.Is(err, down) {
		t.Error(err)
	}
	hash, _ := password.Parse(hashOf(t, "x"))
	if err := p.Verify(t.Context(), &gateway.Client{Principal: "ann", Data: &Login{By: "redis", proof: hash}}); err != nil {
		t.Error(err)
	}
}

type failing struct{ err error }

func (f failing) Lookup(context.Context, string) (*password.Hash, error) { return nil, f.err }
func (failing) Decoy(string) *password.Hash                              { return nil }

// waitFor waits until the condition holds.
func waitFor(t testing.TB, holds func() bool) {
	t.Helper()
	for until := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("it never came to that")
		}
	}
}

// TestCertificate: a name out of a verified certificate is who the client is. It
// is not anonymous then.
func TestCertificate(t *testing.T) {
	t.Parallel()
	c := &Chain{Links: []Link{{"certificate", Certificate{}}}, Anonymous: true}
	r := request("", "")
	r.Client.PeerIdentity = "device-7"
	id, err := c.Authenticate(t.Context(), r)
	if err != nil || id.Principal != "device-7" || id.Data.(*Login).By != "certificate" {
		t.Errorf("%+v, %v", id, err)
	}
	if _, err := c.Authenticate(t.Context(), request("device-7", "x")); !errors.Is(err, gateway.ErrBadCredentials) {
		t.Errorf("without a certificate: %v", err)
	}
}

// TestStoredLogin: what is stored beside a will says what its client may publish.
func TestStoredLogin(t *testing.T) {
	t.Parallel()
	grants := Permissions{{"token", Grants{}}}
	for _, tt := range []struct {
		name      string
		publish   []string
		subscribe []string
		want      bool // may publish to a/b
	}{
		{"a list", []string{"x", "a/+"}, nil, true}, {"another list", []string{"x"}, []string{"a/+"}, false},
		{"an empty list", []string{}, nil, false}, {"no list", nil, nil, false},
	} {
		login := newLogin("jwt")
		if tt.publish != nil {
			rules, err := acl.Granted(tt.publish, tt.subscribe, nil, "token")
			if err != nil {
				t.Fatal(err)
			}
			login.grant.Store(&rules)
		}
		text, err := login.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		data, err := grants.Restore(text)
		if err != nil {
			t.Fatal(err)
		}
		c := &gateway.Client{ID: "c", Data: data}
		if LoginOf(c).By != "jwt" || (LoginOf(c).grant.Load() != nil) != (tt.publish != nil) {
			t.Errorf("%s: restored as %+v", tt.name, LoginOf(c))
		}
		if got := grants.Authorize(t.Context(), c, gateway.Access{Action: gateway.Publish, Topic: "a/b"}) == nil; got != tt.want {
			t.Errorf("%s: may publish %v, want %v", tt.name, got, tt.want)
		}
	}
	for _, text := range []string{"", "{", `{"publish":["a/#/b"]}`} {
		if _, err := grants.Restore([]byte(text)); err == nil {
			t.Errorf("%q is a login", text)
		}
	}
}
