package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"unicode/utf8"

	"github.com/xdg-go/scram"

	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/gateway/auth/password"
)

// MethodSCRAM is the authentication method (MQTT 5 §4.12) of RFC 7677: neither
// side learns the password from the other. Channel binding is not offered.
const MethodSCRAM = "SCRAM-SHA-256"

// SCRAM authenticates by [MethodSCRAM] the users of directories whose passwords
// are kept in that form ([password.SCRAM]). The directories are asked in order.
type SCRAM struct {
	users []NamedDirectory
	key   [32]byte // for what is made up about unknown users
}

// NamedDirectory is a directory with the name of its source.
type NamedDirectory struct {
	Name string
	Directory
}

var _ gateway.EnhancedAuthenticator = (*SCRAM)(nil)

// NewSCRAM makes an authenticator.
func NewSCRAM(users ...NamedDirectory) *SCRAM {
	s := &SCRAM{users: users}
	rand.Read(s.key[:])
	return s
}

// Begin starts an exchange.
func (s *SCRAM) Begin(context.Context, *gateway.ConnectRequest) (gateway.Exchange, error) {
	return &scramExchange{s: s}, nil
}

type scramExchange struct {
	s            *SCRAM
	ctx          context.Context // of the step that is being made
	conversation *scram.ServerConversation
	login        *Login // of the user that was found
	failed       error  // of a directory
}

// Next takes the client's first or final message.
func (e *scramExchange) Next(ctx context.Context, data []byte) ([]byte, *gateway.Identity, error) {
	e.ctx = ctx
	if e.conversation == nil {
		server, err := scram.SHA256.NewServer(e.find)
		if err != nil {
			return nil, nil, fmt.Errorf("scram: %w", err)
		}
		e.conversation = server.NewConversation()
	}
	if len(data) > 4*password.MaxLength || !utf8.Valid(data) {
		return nil, nil, gateway.ErrBadCredentials
	}
	out, err := e.conversation.Step(string(data))
	switch {
	case e.failed != nil:
		return nil, nil, e.failed
	case err != nil:
		return nil, nil, gateway.ErrBadCredentials
	case !e.conversation.Done():
		return []byte(out), nil, nil
	}
	user := e.conversation.Username()
	if !e.conversation.Valid() || e.login == nil {
		return nil, nil, gateway.ErrBadCredentials
	}
	if as := e.conversation.AuthzID(); as != "" && as != user {
		return nil, nil, gateway.ErrNotAuthorized
	}
	return []byte(out), &gateway.Identity{Principal: user, Data: e.login}, nil
}

// find looks a user up. For one who is unknown, it makes something up that is the
// same each time, and that no password fits.
func (e *scramExchange) find(user string) (scram.StoredCredentials, error) {
	for _, d := range e.s.users {
		h, err := d.Lookup(e.ctx, user)
		if err != nil {
			e.failed = fmt.Errorf("%s: %w", d.Name, err)
			return scram.StoredCredentials{}, e.failed
		}
		if h == nil {
			continue
		}
		salt, iterations, stored, server, ok := h.SCRAMKeys()
		if !ok {
			break // known here, with another kind of hash
		}
		e.login = &Login{By: d.Name, proof: h}
		return scram.StoredCredentials{KeyFactors: scram.KeyFactors{Salt: string(salt), Iters: iterations}, StoredKey: stored, ServerKey: server}, nil
	}
	m := hmac.New(sha256.New, e.s.key[:])
	m.Write([]byte(user))
	salt := m.Sum(nil)[:password.SaltSize]
	none := make([]byte, sha256.Size)
	rand.Read(none)
	return scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(salt), Iters: password.SCRAMIterations}, StoredKey: none, ServerKey: none,
	}, nil
}
