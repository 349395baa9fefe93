// Package auth finds out who clients are and what they may do: the
// [gateway.Authenticator] and [gateway.Authorizer] of a gateway that is
// configured, not embedded. Its parts are sources, which are asked in order.
package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/gateway/auth/acl"
)

// ErrIgnore is the answer of an authenticator that a client is none of its
// business: the next one of the [Chain] is asked.
var ErrIgnore = errors.New("not a client of this authenticator")

// unknownUser ignores a client that did give a user name and a password. If
// nobody else knows it, the password is verified all the same, so that the time
// that the answer takes does not tell whether there is such a user.
type unknownUser struct{ verify func(context.Context) error }

func (unknownUser) Error() string        { return ErrIgnore.Error() }
func (unknownUser) Is(target error) bool { return target == ErrIgnore }

// Link is one authenticator of a chain.
type Link struct {
	// Name of the source, as in AUTH_CHAIN.
	Name string
	gateway.Authenticator
}

// Chain asks its authenticators in order. The first that does not answer
// [ErrIgnore] decides: an identity lets the client in, a refusal or an error
// keeps it out, whatever those behind it would have said. A client that nobody
// knows is refused, with Bad user name or password (0x86) if it gave a user
// name, else with Not authorized (0x87).
type Chain struct {
	Links []Link
	// Anonymous lets clients in that bring no user name, no password and no
	// certificate that names them. They have no principal.
	Anonymous bool

	counts counts
}

var _ gateway.Verifier = (*Chain)(nil)

// Authenticate asks the chain.
func (c *Chain) Authenticate(ctx context.Context, r *gateway.ConnectRequest) (gateway.Identity, error) {
	if c.Anonymous && !r.HasUsername && !r.HasPassword && r.Client.PeerIdentity == "" {
		c.counts.count("anonymous", nil)
		return gateway.Identity{Data: newLogin("anonymous")}, nil
	}
	var verify func(context.Context) error
	for _, l := range c.Links {
		id, err := l.Authenticate(ctx, r)
		if errors.Is(err, ErrIgnore) {
			var unknown unknownUser
			if errors.As(err, &unknown) && verify == nil {
				verify = unknown.verify
			}
			continue
		}
		c.counts.count(l.Name, err)
		if err != nil {
			return gateway.Identity{}, err
		}
		if id.Data == nil {
			id.Data = newLogin(l.Name)
		}
		return id, nil
	}
	if verify != nil {
		if err := verify(ctx); err != nil {
			c.counts.count("none", err)
			return gateway.Identity{}, err
		}
	}
	c.counts.count("none", gateway.ErrNotAuthorized)
	if r.HasUsername {
		return gateway.Identity{}, gateway.ErrBadCredentials
	}
	return gateway.Identity{}, gateway.ErrNotAuthorized
}

// Verify asks the source that let the client in whether it still would.
func (c *Chain) Verify(ctx context.Context, client *gateway.Client) error {
	login := LoginOf(client)
	if login == nil {
		return nil
	}
	for _, l := range c.Links {
		if v, ok := l.Authenticator.(gateway.Verifier); ok && l.Name == login.By {
			return v.Verify(ctx, client)
		}
	}
	return nil
}

// Login is the [gateway.Client].Data of a client that the chain let in.
type Login struct {
	// By is the name of the source that knew it.
	By string
	// proof is what the source keeps of the credentials, to find out whether
	// they are still good.
	proof any
	// grant is what a token allows; nil: it says nothing of topics.
	grant atomic.Pointer[acl.Rules]
}

func newLogin(by string) *Login { return &Login{By: by} }

// LoginOf returns the login of a client, nil if it was let in otherwise.
func LoginOf(c *gateway.Client) *Login {
	l, _ := c.Data.(*Login)
	return l
}

// stored is a login as it is kept beside the will of its client. Nothing but to
// publish it will be asked for.
type stored struct {
	By string `json:"by"`
	// Publish are the filters that the token allows to publish to; nil: it
	// says nothing of topics.
	Publish []string `json:"publish"`
}

// MarshalBinary is for the will of the client; see [gateway.Restorer].
func (l *Login) MarshalBinary() ([]byte, error) {
	s := stored{By: l.By}
	if rules := l.grant.Load(); rules != nil {
		s.Publish = rules.Publishable()
	}
	return json.Marshal(&s)
}

// Restore makes a login of what MarshalBinary said.
func (Permissions) Restore(data []byte) (any, error) {
	var s stored
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("auth: a stored login: %w", err)
	}
	l := newLogin(s.By)
	if s.Publish != nil {
		rules, err := acl.Granted(s.Publish, nil, nil, "token")
		if err != nil {
			return nil, fmt.Errorf("auth: a stored login: %w", err)
		}
		l.grant.Store(&rules)
	}
	return l, nil
}

// Renew takes the grant of a newer login of the same client, which has
// authenticated again.
func (l *Login) Renew(with any) {
	if n, ok := with.(*Login); ok {
		l.grant.Store(n.grant.Load())
	}
}
