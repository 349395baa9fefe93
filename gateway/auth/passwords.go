package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/gateway/auth/password"
)

// Directory knows users and the hashes of their passwords. It is called
// concurrently.
type Directory interface {
	// Lookup returns the hash of a user's password, nil for a user that it
	// does not know. An error means that it can not tell.
	Lookup(ctx context.Context, user string) (*password.Hash, error)
	// Decoy returns a hash that costs what those of known users do, nil if
	// there is none.
	Decoy(user string) *password.Hash
}

// Passwords authenticates by user name and password. The principal is the user
// name.
type Passwords struct {
	name   string
	users  Directory
	hasher *Hasher
}

// NewPasswords makes an authenticator for the users of a directory; name is
// that of the source. Several share one hasher.
func NewPasswords(name string, users Directory, h *Hasher) *Passwords {
	return &Passwords{name, users, h}
}

// Authenticate ignores clients without a user name, and users that the
// directory does not know.
func (p *Passwords) Authenticate(ctx context.Context, r *gateway.ConnectRequest) (gateway.Identity, error) {
	user := r.Client.Username
	if !r.HasUsername || user == "" {
		return gateway.Identity{}, ErrIgnore
	}
	h, err := p.users.Lookup(ctx, user)
	if err != nil {
		return gateway.Identity{}, fmt.Errorf("%s: %w", p.name, err)
	}
	if h == nil {
		decoy := p.users.Decoy(user)
		if decoy == nil {
			return gateway.Identity{}, ErrIgnore
		}
		return gateway.Identity{}, unknownUser{func(ctx context.Context) error {
			_, err := p.hasher.Verify(ctx, decoy, user, r.Password)
			return err
		}}
	}
	ok, err := p.hasher.Verify(ctx, h, user, r.Password)
	if err != nil {
		return gateway.Identity{}, fmt.Errorf("%s: %w", p.name, err)
	}
	if !ok || !r.HasPassword {
		return gateway.Identity{}, gateway.ErrBadCredentials
	}
	return gateway.Identity{Principal: user, Data: &Login{By: p.name, proof: h}}, nil
}

// Verify reports whether a client that was let in still has the same password
// in the directory.
func (p *Passwords) Verify(ctx context.Context, c *gateway.Client) error {
	login := LoginOf(c)
	if login == nil {
		return nil
	}
	was, ok := login.proof.(*password.Hash)
	if !ok {
		return nil
	}
	now, err := p.users.Lookup(ctx, c.Principal)
	switch {
	case err != nil: // nobody is sent away because a server is down
		return nil
	case now == nil:
		return &gateway.RefusalError{Code: gateway.ErrNotAuthorized.Code, Reason: "user is gone"}
	case !now.Same(was):
		return &gateway.RefusalError{Code: gateway.ErrNotAuthorized.Code, Reason: "password has changed"}
	}
	return nil
}

const (
	// rememberedMax bounds what a Hasher remembers, about 100 bytes each.
	rememberedMax = 100_000
)

// Hasher verifies passwords, a bounded number at one time, so that a storm of
// logins leaves the processors something for messages. It remembers for a while
// which passwords were right: clients that come back all at once need not be
// computed again. What it keeps is a keyed digest that is of no use elsewhere.
type Hasher struct {
	slots chan struct{}
	keep  time.Duration
	key   [32]byte

	mu   sync.Mutex
	good map[[32]byte]time.Time // until when
}

// NewHasher makes one that computes so many hashes at one time; 0: half as many
// as there are processors, at least one. It remembers right passwords for keep.
func NewHasher(atOnce int, keep time.Duration) *Hasher {
	if atOnce <= 0 {
		atOnce = max(1, runtime.GOMAXPROCS(0)/2)
	}
	h := &Hasher{slots: make(chan struct{}, atOnce), keep: keep, good: make(map[[32]byte]time.Time)}
	rand.Read(h.key[:])
	return h
}

// Verify waits for its turn and verifies a password. The only error is that of
// the context, if that ends first.
func (h *Hasher) Verify(ctx context.Context, hash *password.Hash, user string, pass []byte) (bool, error) {
	digest := h.digest(hash, user, pass)
	if h.remembers(digest) {
		return true, nil
	}
	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		return false, fmt.Errorf("waiting for other logins: %w", ctx.Err())
	}
	defer func() { <-h.slots }()
	ok := hash.Verify(pass)
	if ok {
		h.remember(digest)
	}
	return ok, nil
}

func (h *Hasher) digest(hash *password.Hash, user string, pass []byte) (d [32]byte) {
	m := hmac.New(sha256.New, h.key[:])
	fmt.Fprintf(m, "%d:%s%d:%s", len(user), user, len(hash.Fingerprint()), hash.Fingerprint())
	m.Write(pass)
	m.Sum(d[:0])
	return d
}

func (h *Hasher) remembers(d [32]byte) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	until, ok := h.good[d]
	return ok && time.Now().Before(until)
}

func (h *Hasher) remember(d [32]byte) {
	if h.keep <= 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.good) >= rememberedMax {
		clear(h.good) // some are computed once more
	}
	h.good[d] = time.Now().Add(h.keep)
}
