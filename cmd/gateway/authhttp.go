package main

import (
	"time"

	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/gateway/auth"
	"github.com/sluice-mqtt/sluice/gateway/auth/callback"
)

// endpoint is an HTTP server that is asked.
func (c *config) endpoint(variable, url string, a *authentication) (*callback.Endpoint, error) {
	if a.slots == nil {
		a.slots = make(chan struct{}, c.HTTPConcurrency)
	}
	e, err := callback.New(callback.Options{
		URL: url, Form: callback.Form(c.HTTPForm), Response: callback.Response(c.HTTPResponse),
		Token: c.HTTPToken, Timeout: c.HTTPTimeout, Slots: a.slots,
	})
	if err != nil {
		return nil, &problem{variable, url, err.Error()}
	}
	return e, nil
}

func openHTTPUsers(c *config, a *authentication) (gateway.Authenticator, error) {
	e, err := c.endpoint("AUTH_HTTP_USER_URL", c.HTTPUserURL, a)
	if err != nil {
		return nil, err
	}
	return auth.NewHTTPUsers("http", e, c.HTTPCache), nil
}

func openHTTPPermissions(c *config, a *authentication) (auth.Source, error) {
	e, err := c.endpoint("AUTH_HTTP_ACL_URL", c.HTTPACLURL, a)
	if err != nil {
		return nil, err
	}
	// The gateway remembers as well; together it is not much longer.
	a.forget = max(c.HTTPCache/2, time.Second)
	return auth.NewHTTPPermissions(e, c.HTTPCache, c.HTTPACLReceive), nil
}
