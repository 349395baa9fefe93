package main

import (
	"errors"
	"os"

	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/gateway/auth"
	"github.com/sluice-mqtt/sluice/gateway/auth/token"
)

func (c *config) hasJWT() bool {
	return c.JWTSecret != "" || c.JWTKeyFile != "" || c.JWTKeySetURL != ""
}

// openJWT makes the source of tokens. Each key is tried alone first, so that an
// error names its variable.
func openJWT(c *config, a *authentication) (gateway.Authenticator, error) {
	var pem []byte
	var errs []error
	if c.JWTSecret != "" {
		if _, err := token.New(token.Options{Secret: []byte(c.JWTSecret)}); err != nil {
			errs = append(errs, &problem{"AUTH_JWT_SECRET", masked, err.Error()})
		}
	}
	if c.JWTKeyFile != "" {
		var err error
		if pem, err = os.ReadFile(c.JWTKeyFile); err == nil {
			if len(pem) == 0 {
				pem = []byte("\n")
			}
			_, err = token.New(token.Options{PEM: pem})
		}
		errs = append(errs, opened("AUTH_JWT_KEY_FILE", c.JWTKeyFile, err))
	}
	if c.JWTKeySetURL != "" {
		if _, err := token.New(token.Options{KeySetURL: c.JWTKeySetURL}); err != nil {
			errs = append(errs, &problem{"AUTH_JWT_JWKS_URL", c.JWTKeySetURL, err.Error()})
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	v, err := token.New(token.Options{
		Secret: []byte(c.JWTSecret), PEM: pem, KeySetURL: c.JWTKeySetURL,
		Issuer: c.JWTIssuer, Audience: c.JWTAudience, Leeway: c.JWTLeeway, Endless: c.JWTEndless,
		UserClaim: c.JWTUserClaim, PublishClaim: c.JWTPublishClaim, SubscribeClaim: c.JWTSubscribeClaim, ReceiveClaim: c.JWTReceiveClaim,
	})
	if err != nil {
		return nil, err
	}
	j := auth.NewJWT("jwt", v, c.JWTSameUser)
	a.offer(auth.MethodJWT, j)
	return j, nil
}

// offer adds an authentication method.
func (a *authentication) offer(method string, e gateway.EnhancedAuthenticator) {
	if a.enhanced == nil {
		a.enhanced = make(map[string]gateway.EnhancedAuthenticator)
	}
	a.enhanced[method] = e
}
