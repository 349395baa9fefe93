package auth

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/gateway/auth/acl"
)

// Source is one that permissions come from. It is called concurrently, on the
// path of every message.
type Source interface {
	// Decide answers, or is silent. Why says what decided, and may be nil. An
	// error refuses.
	Decide(ctx context.Context, c *gateway.Client, a gateway.Access) (v acl.Verdict, why fmt.Stringer, err error)
}

// Permissions asks its sources in order: the first that is not silent decides.
// What nobody speaks of is denied.
type Permissions []NamedSource

// NamedSource is a source with the name that it has in explanations.
type NamedSource struct {
	Name string
	Source
}

var (
	_ gateway.Authorizer = Permissions(nil)
	_ gateway.Restorer   = Permissions(nil)
)

// Authorize asks the sources.
func (p Permissions) Authorize(ctx context.Context, c *gateway.Client, a gateway.Access) error {
	for _, s := range p {
		switch v, _, err := s.Decide(ctx, c, a); {
		case err != nil:
			return err
		case v == acl.Allow:
			return nil
		case v == acl.Deny:
			return gateway.ErrNotAuthorized
		}
	}
	return gateway.ErrNotAuthorized
}

// Explain answers like Authorize, and says why.
func (p Permissions) Explain(ctx context.Context, c *gateway.Client, a gateway.Access) (allowed bool, why string) {
	for _, s := range p {
		v, by, err := s.Decide(ctx, c, a)
		switch {
		case err != nil:
			return false, fmt.Sprintf("%s: %v", s.Name, err)
		case v == acl.Silent:
			continue
		case by != nil:
			return v == acl.Allow, fmt.Sprintf("%s: %v", s.Name, by)
		}
		return v == acl.Allow, s.Name
	}
	return false, "no rule speaks of it"
}

// ACLFile is a [Source] out of a file in Mosquitto's format.
type ACLFile struct{ *File[*acl.List] }

// OpenACLFile reads a file for the first time.
func OpenACLFile(path string, log *slog.Logger) (ACLFile, error) {
	f, err := OpenFile(path, log, acl.Parse)
	return ACLFile{f}, err
}

// Decide asks the file in force.
func (f ACLFile) Decide(_ context.Context, c *gateway.Client, a gateway.Access) (acl.Verdict, fmt.Stringer, error) {
	v, r := f.Value().Decide(asked(c), a)
	if r == nil {
		return v, nil, nil
	}
	return v, r, nil
}

// asked is a client as rules see it.
func asked(c *gateway.Client) acl.Client { return acl.Client{ID: string(c.ID), User: c.Principal} }
