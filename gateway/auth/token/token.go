// Package token verifies JSON Web Tokens (RFC 7519) and reads out of them who a
// client is and what it may do.
package token

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Options say which tokens are good.
type Options struct {
	// Secret verifies HS256, HS384 and HS512. At least 32 bytes (RFC 7518
	// §3.2).
	Secret []byte
	// PEM holds public keys or certificates: RSA for RS… and PS…, ECDSA for
	// ES…, Ed25519 for EdDSA.
	PEM []byte
	// KeySetURL is where a JWK Set is (RFC 7517); public keys alone count.
	KeySetURL string
	// Refresh is how old a key set may become before it is asked for again,
	// and Client what asks. Defaults: 15 min, a client with a time limit of
	// 5 s.
	Refresh time.Duration
	Client  *http.Client

	// Issuer and Audience are what iss must be and aud must contain, if not
	// empty.
	Issuer, Audience string
	// Leeway is by how much clocks may differ.
	Leeway time.Duration
	// Endless lets tokens without exp in, which are good for ever.
	Endless bool
	// UserClaim is the claim that is the user. Default: sub.
	UserClaim string
	// The claims that list topic filters; none if empty.
	PublishClaim, SubscribeClaim, ReceiveClaim string
}

// Claims are what a good token says.
type Claims struct {
	User string
	// Expires is when it ends, leeway included; zero: never.
	Expires time.Time
	// What it allows: nil where the token has no such claim.
	Publish, Subscribe, Receive []string
}

var (
	// ErrNone: this is no token at all.
	ErrNone = errors.New("not a token")
	// ErrUnavailable: the key set that would have to be asked does not answer.
	ErrUnavailable = errors.New("key set is not available")
)

// InvalidError is a token that is not good. Reason may be told to its owner.
type InvalidError struct{ Reason string }

func (e *InvalidError) Error() string { return "token " + e.Reason }

// The algorithms by the key that they need: a token never chooses another kind
// of key than the one that was configured, and none at all is no algorithm.
var (
	hmacs      = []string{"HS256", "HS384", "HS512"}
	signatures = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)

// Verifier verifies tokens. It may be used concurrently.
type Verifier struct {
	o      Options
	static []any // public keys out of PEM
	set    *keySet
	parser *jwt.Parser
}

// New checks the options. It asks nobody: a key set is fetched when it is needed
// first.
func New(o Options) (*Verifier, error) {
	v := &Verifier{o: o}
	if v.o.UserClaim == "" {
		v.o.UserClaim = "sub"
	}
	var methods []string
	if len(o.Secret) > 0 {
		if len(o.Secret) < 32 {
			return nil, fmt.Errorf("secret has %d bytes; allowed is 32 or more", len(o.Secret))
		}
		methods = append(methods, hmacs...)
	}
	if len(o.PEM) > 0 {
		var err error
		if v.static, err = parsePEM(o.PEM); err != nil {
			return nil, err
		}
	}
	if o.KeySetURL != "" {
		set, err := newKeySet(o)
		if err != nil {
			return nil, err
		}
		v.set = set
	}
	if v.static != nil || v.set != nil {
		methods = append(methods, signatures...)
	}
	if methods == nil {
		return nil, errors.New("no key to verify tokens with")
	}
	with := []jwt.ParserOption{jwt.WithValidMethods(methods), jwt.WithLeeway(o.Leeway)}
	if !o.Endless {
		with = append(with, jwt.WithExpirationRequired())
	}
	if o.Issuer != "" {
		with = append(with, jwt.WithIssuer(o.Issuer))
	}
	if o.Audience != "" {
		with = append(with, jwt.WithAudience(o.Audience))
	}
	v.parser = jwt.NewParser(with...)
	return v, nil
}

// maxToken is the longest token that is looked at.
const maxToken = 16 << 10

// Verify reads a token. The error is [ErrNone], an [InvalidError], or wraps
// [ErrUnavailable].
func (v *Verifier) Verify(ctx context.Context, text string) (Claims, error) {
	if strings.Count(text, ".") != 2 || !strings.HasPrefix(text, "eyJ") || len(text) > maxToken {
		return Claims{}, ErrNone
	}
	claims := jwt.MapClaims{}
	_, err := v.parser.ParseWithClaims(text, claims, func(t *jwt.Token) (any, error) { return v.key(ctx, t) })
	if err != nil {
		return Claims{}, invalid(err)
	}
	return v.read(claims)
}

// key finds what may verify a token.
func (v *Verifier) key(ctx context.Context, t *jwt.Token) (any, error) {
	if strings.HasPrefix(t.Method.Alg(), "HS") {
		return v.o.Secret, nil // it is not empty, or the method would not be valid
	}
	var keys jwt.VerificationKeySet
	for _, k := range v.static {
		if suits(k, t.Method) {
			keys.Keys = append(keys.Keys, k)
		}
	}
	if v.set != nil {
		kid, _ := t.Header["kid"].(string)
		found, err := v.set.find(ctx, kid, t.Method)
		if err != nil && len(keys.Keys) == 0 {
			return nil, err
		}
		keys.Keys = append(keys.Keys, found...)
	}
	if len(keys.Keys) == 0 {
		return nil, errors.New("no such key")
	}
	return keys, nil
}

// invalid turns an error of the parser into one that says no more than the
// owner of the token may know.
func invalid(err error) error {
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	for _, e := range []struct {
		is   error
		text string
	}{
		{jwt.ErrTokenExpired, "has expired"}, {jwt.ErrTokenNotValidYet, "is not valid yet"}, {jwt.ErrTokenUsedBeforeIssued, "is not valid yet"},
		{jwt.ErrTokenInvalidIssuer, "has another issuer"}, {jwt.ErrTokenInvalidAudience, "is for another audience"},
		{jwt.ErrTokenRequiredClaimMissing, "lacks a claim"}, {jwt.ErrTokenMalformed, "is malformed"},
	} {
		if errors.Is(err, e.is) {
			return &InvalidError{e.text}
		}
	}
	return &InvalidError{"is not signed by a known key"}
}

func (v *Verifier) read(m jwt.MapClaims) (Claims, error) {
	var c Claims
	c.User, _ = m[v.o.UserClaim].(string)
	if c.User == "" {
		return Claims{}, &InvalidError{"lacks the claim " + v.o.UserClaim}
	}
	if exp, err := m.GetExpirationTime(); err == nil && exp != nil {
		c.Expires = exp.Add(v.o.Leeway)
	}
	for _, f := range []struct {
		claim string
		into  *[]string
	}{{v.o.PublishClaim, &c.Publish}, {v.o.SubscribeClaim, &c.Subscribe}, {v.o.ReceiveClaim, &c.Receive}} {
		value, has := m[f.claim]
		if f.claim == "" || !has {
			continue
		}
		list, ok := filters(value)
		if !ok {
			return Claims{}, &InvalidError{"has a claim " + f.claim + " that is no list of topic filters"}
		}
		*f.into = list
	}
	return c, nil
}

// filters reads a string, or a list of them.
func filters(value any) ([]string, bool) {
	switch v := value.(type) {
	case string:
		return []string{v}, true
	case []any:
		list := make([]string, 0, len(v))
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, false
			}
			list = append(list, s)
		}
		return list, true
	}
	return nil, false
}
