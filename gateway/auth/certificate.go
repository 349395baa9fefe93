package auth

import (
	"context"

	"github.com/sluice-mqtt/sluice/gateway"
)

// Certificate lets clients in whose verified TLS certificate names them. The
// principal is that name; a password does not matter.
type Certificate struct{}

// Authenticate ignores clients without such a certificate.
func (Certificate) Authenticate(_ context.Context, r *gateway.ConnectRequest) (gateway.Identity, error) {
	if r.Client.PeerIdentity == "" {
		return gateway.Identity{}, ErrIgnore
	}
	return gateway.Identity{Principal: r.Client.PeerIdentity}, nil
}
