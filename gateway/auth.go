package gateway

import (
	"context"
	"crypto/x509"
	"net"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// Client is what is known of a connected client. It does not change while the
// connection lives and may be kept.
type Client struct {
	ID       backend.ClientID
	Username string
	// Principal is the identity that authentication found.
	Principal string
	Listener  string
	Remote    net.Addr
	// Certificate is that of a TLS client, if it has shown one, which was
	// verified. It must not be changed.
	Certificate *x509.Certificate
	// PeerIdentity is what the certificate names the client, as
	// [TLSOptions].Identity says; empty if it does not.
	PeerIdentity string
	Version      protocol.Version
	// Data is whatever the authenticator attached for the authorizer.
	Data any
}

// ConnectRequest is what an authenticator decides on.
type ConnectRequest struct {
	// Client is filled in but for Principal and Data.
	Client Client
	// CleanStart as in CONNECT.
	CleanStart  bool
	HasUsername bool
	Password    []byte
	HasPassword bool
	// TLS and other facts of the connection can be found through Conn. It
	// must not be read, written or closed.
	Conn net.Conn
}

// Identity is who a client was found to be.
type Identity struct {
	// Principal owns the session: no other principal can take it over.
	Principal string
	// ClientID replaces the client identifier, if not empty.
	ClientID backend.ClientID
	// Data goes into [Client].Data.
	Data any
	// Expires ends the connection with 0xA0 at that time; zero is never.
	Expires time.Time
}

// Authenticator decides who may connect by what CONNECT carries. It is called
// concurrently, may block for as long as the connect timeout, and honours the
// context. It refuses with a [RefusalError]; any other error means that it
// does not know, and the client gets Server unavailable (0x88).
type Authenticator interface {
	Authenticate(ctx context.Context, r *ConnectRequest) (Identity, error)
}

// Verifier is an [Authenticator] that can tell whether a client that it let in
// would still be let in. It is asked by [Gateway.Reauthorize], for each client;
// an error ends the connection, with the code of a [RefusalError]. Who can not
// tell answers nil.
type Verifier interface {
	Verify(ctx context.Context, c *Client) error
}

// Renewable is what [Client].Data may implement to learn of a re-authentication
// (MQTT 5 §4.12.1): Data itself stays as it is, since others read it. Renew is
// given that of the new [Identity], and may be called while others use it.
type Renewable interface {
	Renew(with any)
}

// EnhancedAuthenticator is one authentication method of MQTT 5 §4.12.
type EnhancedAuthenticator interface {
	// Begin starts an exchange for a CONNECT, or for a re-authentication of
	// a connected client. It follows the rules of [Authenticator].
	Begin(ctx context.Context, r *ConnectRequest) (Exchange, error)
}

// Exchange is one run of an authentication method.
type Exchange interface {
	// Next takes the client's authentication data and returns the server's.
	// While more is to come, id is nil. The last answer comes with the
	// identity; its data goes out with CONNACK or the final AUTH.
	Next(ctx context.Context, data []byte) (out []byte, id *Identity, err error)
}

// Action is what a client wants to do to a topic.
type Action uint8

const (
	// Publish to a topic; asked for PUBLISH, and for the will at CONNECT and
	// when it is published.
	Publish Action = iota + 1
	// Subscribe to a filter, "$share/group/" removed.
	Subscribe
	// Receive a message of a topic; asked before every kind of delivery:
	// live, retained, from the inbox, shared.
	Receive
)

func (a Action) String() string {
	switch a {
	case Publish:
		return "publish"
	case Subscribe:
		return "subscribe"
	case Receive:
		return "receive"
	}
	return "unknown"
}

// Access is one question to an [Authorizer].
type Access struct {
	Action Action
	// Topic is a topic name, or for Subscribe a filter.
	Topic  string
	QoS    byte
	Retain bool
	// Shared: the subscription is a shared one. What a member may not receive
	// reaches no other member either.
	Shared bool
}

// Authorizer decides what a client may do. Nil allows; a [RefusalError]
// refuses with its code; any other error refuses with Not authorized, since
// who can not tell does not allow. It is called on the path of every message,
// so it should answer from memory, and must not call back into the gateway.
// Answers to Receive, and a yes to Publish, are remembered until
// [Gateway.Reauthorize] or [Gateway.ForgetAnswers] is called.
type Authorizer interface {
	Authorize(ctx context.Context, c *Client, a Access) error
}

// Restorer is an [Authorizer] that needs [Client].Data. Of a client that has left
// a will only what can be written is stored; the gateway that publishes it, which
// may never have seen the client, asks about a [Client] without Certificate, whose
// Data is what Restore made of what [encoding.BinaryMarshaler] of the Data at
// CONNECT had said. Data is nil where either is missing. An error means that the
// will is not published.
type Restorer interface {
	Restore(data []byte) (any, error)
}

// AuthenticatorFunc makes a function an [Authenticator].
type AuthenticatorFunc func(ctx context.Context, r *ConnectRequest) (Identity, error)

// Authenticate calls f.
func (f AuthenticatorFunc) Authenticate(ctx context.Context, r *ConnectRequest) (Identity, error) {
	return f(ctx, r)
}

// AuthorizerFunc makes a function an [Authorizer].
type AuthorizerFunc func(ctx context.Context, c *Client, a Access) error

// Authorize calls f.
func (f AuthorizerFunc) Authorize(ctx context.Context, c *Client, a Access) error {
	return f(ctx, c, a)
}

// allowAll is the authenticator of a gateway that has none. Nobody is known, so
// everybody is the same principal, whatever user name they give.
type allowAll struct{}

func (allowAll) Authenticate(context.Context, *ConnectRequest) (Identity, error) {
	return Identity{}, nil
}
