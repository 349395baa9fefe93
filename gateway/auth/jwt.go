package auth

import (
	"context"
	"errors"
	"fmt"

	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/gateway/auth/acl"
	"github.com/sluice-mqtt/sluice/gateway/auth/token"
	"github.com/sluice-mqtt/sluice/protocol"
)

// MethodJWT is the authentication method (MQTT 5 §4.12) whose authentication
// data is a token. It is one step, and allows to bring a new token before the
// old one expires.
const MethodJWT = "JWT"

// JWT authenticates clients whose password is a token, or who use [MethodJWT].
// The principal is the user that the token names; the connection ends when the
// token does.
type JWT struct {
	name     string
	verifier *token.Verifier
	// same: the user name in CONNECT must be the user of the token.
	same bool
}

// NewJWT makes an authenticator; name is that of the source. With sameUser a user
// name in CONNECT that is not the user of the token is refused; otherwise it
// is of no consequence.
func NewJWT(name string, v *token.Verifier, sameUser bool) *JWT { return &JWT{name, v, sameUser} }

var (
	_ gateway.Authenticator         = (*JWT)(nil)
	_ gateway.EnhancedAuthenticator = (*JWT)(nil)
)

// Authenticate ignores passwords that are no token.
func (j *JWT) Authenticate(ctx context.Context, r *gateway.ConnectRequest) (gateway.Identity, error) {
	if !r.HasPassword {
		return gateway.Identity{}, ErrIgnore
	}
	return j.identity(ctx, r, string(r.Password))
}

func (j *JWT) identity(ctx context.Context, r *gateway.ConnectRequest, text string) (gateway.Identity, error) {
	claims, err := j.verifier.Verify(ctx, text)
	var bad *token.InvalidError
	switch {
	case errors.Is(err, token.ErrNone):
		return gateway.Identity{}, ErrIgnore
	case errors.As(err, &bad):
		return gateway.Identity{}, &gateway.RefusalError{Code: protocol.BadUserNameOrPassword, Reason: bad.Error()}
	case err != nil:
		return gateway.Identity{}, fmt.Errorf("%s: %w", j.name, err)
	case j.same && r.HasUsername && r.Client.Username != claims.User:
		return gateway.Identity{}, &gateway.RefusalError{Code: protocol.BadUserNameOrPassword, Reason: "token is that of another user"}
	}
	login := newLogin(j.name)
	if claims.Publish != nil || claims.Subscribe != nil || claims.Receive != nil {
		rules, err := acl.Granted(claims.Publish, claims.Subscribe, claims.Receive, "token")
		if err != nil {
			return gateway.Identity{}, &gateway.RefusalError{Code: protocol.BadUserNameOrPassword, Reason: "token: " + err.Error()}
		}
		login.grant.Store(&rules)
	}
	return gateway.Identity{Principal: claims.User, Data: login, Expires: claims.Expires}, nil
}

// Begin starts an exchange of [MethodJWT].
func (j *JWT) Begin(_ context.Context, r *gateway.ConnectRequest) (gateway.Exchange, error) {
	return jwtExchange{j, r}, nil
}

type jwtExchange struct {
	j *JWT
	r *gateway.ConnectRequest
}

// Next takes the token and is done.
func (e jwtExchange) Next(ctx context.Context, data []byte) ([]byte, *gateway.Identity, error) {
	id, err := e.j.identity(ctx, e.r, string(data))
	if errors.Is(err, ErrIgnore) {
		err = gateway.ErrBadCredentials
	}
	if err != nil {
		return nil, nil, err
	}
	return nil, &id, nil
}

// Grants is a [Source]: what the token of a client allows. It is silent for
// clients without a token, and for tokens that do not speak of topics.
type Grants struct{}

// Decide asks the client's token.
func (Grants) Decide(_ context.Context, c *gateway.Client, a gateway.Access) (acl.Verdict, fmt.Stringer, error) {
	login := LoginOf(c)
	if login == nil {
		return acl.Silent, nil, nil
	}
	rules := login.grant.Load()
	if rules == nil {
		return acl.Silent, nil, nil
	}
	v, r := rules.Decide(asked(c), a)
	if r == nil {
		return v, nil, nil
	}
	return v, r, nil
}
