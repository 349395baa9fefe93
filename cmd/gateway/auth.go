package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/gateway/auth"
)

// userSource is a source of users: what it is called in AUTH_CHAIN, the
// variable that configures it, and how it is opened. They are asked in this
// order: first what is cheap and leaves no doubt.
type userSource struct {
	name, variable string
	on             func(*config) bool
	open           func(*config, *authentication) (gateway.Authenticator, error)
}

func userSources() []userSource {
	return []userSource{
		{"certificate", "TLS_CLIENT_CERT and TLS_IDENTITY", (*config).hasCertificates, openCertificates},
		{"jwt", "AUTH_JWT_SECRET, AUTH_JWT_KEY_FILE or AUTH_JWT_JWKS_URL", (*config).hasJWT, openJWT},
		{"file", "AUTH_PASSWORD_FILE", func(c *config) bool { return c.PasswordFile != "" }, openPasswordFile},
		{"redis", "AUTH_REDIS_USERS", func(c *config) bool { return c.RedisUsers }, openRedisUsers},
		{"http", "AUTH_HTTP_USER_URL", func(c *config) bool { return c.HTTPUserURL != "" }, openHTTPUsers},
	}
}

func sourceNames() []string {
	var names []string
	for _, s := range userSources() {
		names = append(names, s.name)
	}
	return names
}

// chain returns the sources to ask, in order.
func (c *config) chain() ([]userSource, error) {
	all := userSources()
	if len(c.AuthChain) == 0 {
		return slices.DeleteFunc(all, func(s userSource) bool { return !s.on(c) }), nil
	}
	known := sourceNames()
	wrong := func(text string) error { return &problem{"AUTH_CHAIN", strings.Join(c.AuthChain, ","), text} }
	var chain []userSource
	for i, name := range c.AuthChain {
		at := slices.Index(known, name)
		switch {
		case at < 0:
			return nil, wrong("no source " + name + "; allowed is a list of " + strings.Join(known, ", "))
		case slices.Contains(c.AuthChain[:i], name):
			return nil, wrong(name + " is in it twice")
		case !all[at].on(c):
			return nil, wrong(name + " needs " + all[at].variable)
		}
		chain = append(chain, all[at])
	}
	return chain, nil
}

// authentication is what the variables AUTH_… come to.
type authentication struct {
	log    *slog.Logger
	hasher *auth.Hasher
	chain  *auth.Chain // nil: everybody is let in
	// directories are those whose users may use SCRAM, in the order of the chain.
	directories []auth.NamedDirectory
	// enhanced are the authentication methods of MQTT 5, by name.
	enhanced map[string]gateway.EnhancedAuthenticator
	// permissions are nil if everybody may do everything.
	permissions auth.Permissions
	// slots bound the questions to HTTP servers; forget is how long the gateway
	// may remember answers of theirs, 0 if there are none.
	slots  chan struct{}
	forget time.Duration
	// reloads look for what has changed, and report it. Forced, they look at
	// what seems to be the same as well.
	reloads []func(ctx context.Context, force bool) bool
}

// openAuth opens the sources of users.
func (c *config) openAuth(log *slog.Logger) (*authentication, []error) {
	a := &authentication{log: log, hasher: auth.NewHasher(c.HashConcurrency, c.PasswordMemory)}
	sources, err := c.chain()
	if err != nil {
		return nil, []error{err}
	}
	var errs []error
	for _, s := range sources {
		source, err := s.open(c, a)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if a.chain == nil {
			a.chain = &auth.Chain{Anonymous: c.Anonymous == "true"}
		}
		a.chain.Links = append(a.chain.Links, auth.Link{Name: s.name, Authenticator: source})
	}
	if len(a.directories) > 0 {
		a.offer(auth.MethodSCRAM, auth.NewSCRAM(a.directories...))
	}
	return a, append(errs, c.openPermissions(a)...)
}

// openPermissions opens the sources of permissions.
func (c *config) openPermissions(a *authentication) []error {
	var errs []error
	if c.ACLFile != "" {
		f, err := auth.OpenACLFile(c.ACLFile, a.log)
		if err != nil {
			errs = append(errs, opened("AUTH_ACL_FILE", c.ACLFile, err))
		} else {
			a.permit(c.ACLFile, f)
			a.reloads = append(a.reloads, func(_ context.Context, force bool) bool { return f.Reload(force) })
		}
	}
	if c.RedisACL {
		if err := c.openRedisRules(a); err != nil {
			errs = append(errs, err)
		}
	}
	if c.JWTPublishClaim != "" || c.JWTSubscribeClaim != "" || c.JWTReceiveClaim != "" {
		a.permit("token", auth.Grants{})
	}
	if c.HTTPACLURL != "" {
		p, err := openHTTPPermissions(c, a)
		if err != nil {
			errs = append(errs, err)
		} else {
			a.permit("http", p)
		}
	}
	return errs
}

func (a *authentication) permit(name string, s auth.Source) {
	a.permissions = append(a.permissions, auth.NamedSource{Name: name, Source: s})
}

// apply puts it into the options of a gateway.
func (a *authentication) apply(o *gateway.Options) {
	if a.chain != nil {
		o.Authenticator = a.chain
	}
	o.Enhanced = a.enhanced
	if a.permissions != nil {
		o.Authorizer = a.permissions
	}
}

// opened is a file that can not be used, as an error about its variable.
func opened(variable, path string, err error) error {
	if err == nil {
		return nil
	}
	var all []error
	for _, err := range flatten(err) {
		all = append(all, &problem{variable, path, strings.ReplaceAll(strings.TrimPrefix(err.Error(), path+": "), "\n", "; ")})
	}
	return errors.Join(all...)
}

func openPasswordFile(c *config, a *authentication) (gateway.Authenticator, error) {
	f, err := auth.OpenPasswordFile(c.PasswordFile, a.log)
	if err != nil {
		return nil, opened("AUTH_PASSWORD_FILE", c.PasswordFile, err)
	}
	a.reloads = append(a.reloads, func(_ context.Context, force bool) bool { return f.Reload(force) })
	a.directories = append(a.directories, auth.NamedDirectory{Name: "file", Directory: f})
	return auth.NewPasswords("file", f, a.hasher), nil
}

func (c *config) hasCertificates() bool { return c.TLSClientCert != "none" && c.TLSIdentity != "none" }

func openCertificates(*config, *authentication) (gateway.Authenticator, error) {
	return auth.Certificate{}, nil
}

// watch looks every interval, and on SIGHUP, for changes of users and
// permissions, which the gateway then applies to those who are connected, until
// stop is called.
func (a *authentication) watch(g *gateway.Gateway, every time.Duration) (stop func()) {
	if len(a.reloads) == 0 && a.forget == 0 {
		return func() {}
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	tick, forget := ticks(every), ticks(a.forget)
	go func() { // Ends with stop.
		defer close(done)
		for {
			force := false
			select {
			case <-ctx.Done():
				return
			case <-forget:
				g.ForgetAnswers()
				continue
			case <-hangup:
				force = true
			case <-tick:
			}
			changed := false
			for _, reload := range a.reloads {
				changed = reload(ctx, force) || changed
			}
			if changed {
				g.Reauthorize(ctx)
			}
		}
	}()
	return func() {
		signal.Stop(hangup)
		cancel()
		<-done
	}
}

// ticks come every so often, or never if that is 0.
func ticks(every time.Duration) <-chan time.Time {
	if every <= 0 {
		return nil
	}
	return time.NewTicker(every).C
}
