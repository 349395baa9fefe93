package auth

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/sluice-mqtt/sluice/gateway/auth/password"
)

// UserStore keeps users and the texts of their hashes where several gateways
// reach them. It owns the format in which it does so.
type UserStore interface {
	// User returns the text of a hash, or false.
	User(ctx context.Context, name string) (hash string, ok bool, err error)
	// Changes is a number that every change makes another one.
	Changes(ctx context.Context) (int64, error)
}

// Remote is a [Directory] out of a [UserStore], which is asked for each login.
type Remote struct {
	store   UserStore
	decoy   *password.Hash
	changes atomic.Int64
	log     *slog.Logger
}

// NewRemote makes a directory. Unknown users cost what [password.Make] does by
// default.
func NewRemote(s UserStore, log *slog.Logger) (*Remote, error) {
	nobody := make([]byte, 32)
	rand.Read(nobody)
	text, err := password.Make(password.Argon2id, []byte(hex.EncodeToString(nobody)))
	if err != nil {
		return nil, err
	}
	decoy, err := password.Parse(text)
	if err != nil {
		return nil, err
	}
	r := &Remote{store: s, decoy: decoy, log: log}
	r.changes.Store(-1)
	return r, nil
}

// Lookup asks the store. A hash that can not be read is an error.
func (r *Remote) Lookup(ctx context.Context, user string) (*password.Hash, error) {
	text, ok, err := r.store.User(ctx, user)
	if err != nil || !ok {
		return nil, err
	}
	h, err := password.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("user %q: %w", user, err)
	}
	return h, nil
}

// Decoy is a hash that no password fits.
func (r *Remote) Decoy(string) *password.Hash { return r.decoy }

// Reload reports whether users have changed since it was asked last; with force
// it says so in any case. A store that does not answer has not changed.
func (r *Remote) Reload(ctx context.Context, force bool) bool {
	n, err := r.store.Changes(ctx)
	if err != nil {
		r.log.Debug("changes of users are not known", "err", err)
		return false
	}
	was := r.changes.Swap(n)
	return was != n || force
}
