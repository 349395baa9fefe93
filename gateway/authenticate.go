package gateway

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// enhanced is the state of enhanced authentication (MQTT 5 §4.12) of a
// connection whose CONNECT named a method.
type enhanced struct {
	method  string
	auth    EnhancedAuthenticator
	request ConnectRequest
	// running is a re-authentication that is not over.
	running Exchange
}

// randomText is an unguessable name of letters and digits.
func randomText() string {
	var b [15]byte
	rand.Read(b[:])
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

// authenticate finds out who the client is, or refuses it.
func (c *conn) authenticate(ctx context.Context, p *protocol.Connect, ack *protocol.Connack) bool {
	r := ConnectRequest{
		Client: c.client, CleanStart: p.CleanStart, Conn: c.nc,
		HasUsername: p.HasUsername, Password: p.Password, HasPassword: p.HasPassword,
	}
	var id Identity
	var err error
	if p.HasAuthMethod {
		id, err = c.authenticateEnhanced(ctx, p, r, ack)
		c.g.measures.method(p.AuthMethod, err)
	} else {
		id, err = c.g.authenticateSimple(ctx, &r)
	}
	if err != nil {
		var refusal *RefusalError
		var fault *protocol.Error
		switch {
		case errors.As(err, &refusal):
			return c.refuse(refusal.Code, refusal.Reason)
		case errors.As(err, &fault):
			return c.refuse(fault.Code, fault.Detail)
		case errors.Is(err, errGone):
			c.refused(protocol.UnspecifiedError, "gone during authentication")
			return false
		}
		c.g.log.Warn("authentication failed to answer", "client", string(c.client.ID), "err", err)
		return c.refuse(protocol.ServerUnavailable, "authentication is not available")
	}
	if !id.Expires.IsZero() && !id.Expires.After(time.Now()) {
		return c.refuse(protocol.NotAuthorized, "credentials have expired")
	}
	c.take(id)
	if id.ClientID != "" && id.ClientID != c.client.ID {
		c.client.ID = id.ClientID
		ack.AssignedClientID = string(id.ClientID)
	}
	return true
}

// take makes the connection that of an identity.
func (c *conn) take(id Identity) {
	c.client.Principal, c.client.Data = id.Principal, id.Data
	if c.authTimer != nil {
		c.authTimer.Stop()
		c.authTimer = nil
	}
	if !id.Expires.IsZero() {
		c.authTimer = time.AfterFunc(time.Until(id.Expires), func() {
			c.end(protocol.MaximumConnectTime, "credentials have expired")
		})
	}
}

func (g *Gateway) authenticateSimple(ctx context.Context, r *ConnectRequest) (id Identity, err error) {
	defer g.caught("Authenticator", &err)
	return g.opt.Authenticator.Authenticate(ctx, r)
}

func (g *Gateway) beginExchange(ctx context.Context, a EnhancedAuthenticator, r *ConnectRequest) (e Exchange, err error) {
	defer g.caught("Enhanced", &err)
	return a.Begin(ctx, r)
}

func (g *Gateway) nextStep(ctx context.Context, e Exchange, data []byte) (out []byte, id *Identity, err error) {
	defer g.caught("Enhanced", &err)
	return e.Next(ctx, data)
}

// caught makes a panic of an extension its error. It is deferred.
func (g *Gateway) caught(extension string, err *error) {
	if p := recover(); p != nil {
		g.stats.panics.Add(1)
		*err = &ExtensionError{Extension: extension, Err: fmt.Errorf("panic: %v", p)}
	}
}

// errGone: the connection ended while something was awaited from it.
var errGone = errors.New("connection is gone")

func (c *conn) authenticateEnhanced(ctx context.Context, p *protocol.Connect, r ConnectRequest, ack *protocol.Connack) (Identity, error) {
	auth := c.g.opt.Enhanced[p.AuthMethod]
	if auth == nil { // [MQTT-4.12.0-1]
		return Identity{}, &RefusalError{Code: protocol.BadAuthenticationMethod, Reason: "unknown authentication method"}
	}
	c.enhanced = &enhanced{method: p.AuthMethod, auth: auth, request: r}
	run, err := c.g.beginExchange(ctx, auth, &r)
	if err != nil {
		return Identity{}, err
	}
	data := p.AuthData
	for {
		out, id, err := c.g.nextStep(ctx, run, data)
		if err != nil {
			return Identity{}, err
		}
		if id != nil {
			ack.AuthMethod, ack.AuthData = p.AuthMethod, out // [MQTT-4.12.0-5]
			return *id, nil
		}
		c.sendAuth(protocol.ContinueAuthentication, p.AuthMethod, out)
		if data, err = c.awaitAuth(p.AuthMethod); err != nil {
			return Identity{}, err
		}
	}
}

func (c *conn) sendAuth(code protocol.ReasonCode, method string, data []byte) {
	c.mu.Lock()
	c.packLocked(&protocol.Auth{Code: code, Method: method, Data: data, HasData: data != nil})
	c.mu.Unlock()
	c.flush()
}

// awaitAuth reads the client's next step. Nothing else may come now
// [MQTT-3.1.2-30].
func (c *conn) awaitAuth(method string) ([]byte, error) {
	var data []byte
	err := errGone
	look := func(b []byte) bool {
		c.g.stats.bytesReceived.Add(uint64(len(b)))
		c.held = append(c.held, b...)
		h, size, fault := protocol.ParseHeader(c.held, protocol.V5, c.g.opt.Limits.ConnectPacketSize)
		if fault != nil {
			err = fault
			return false
		}
		if size == 0 || len(c.held) < size+h.Length {
			return true
		}
		body := c.held[size : size+h.Length]
		c.g.stats.packetsReceived[h.Type].Add(1)
		c.g.observePacket(EventPacketReceived, c, h.Type)
		switch h.Type {
		case protocol.AUTH:
			var a protocol.Auth
			if err = a.Decode(h, body, protocol.V5); err == nil {
				data, err = a.Data, checkAuth(&a, method, protocol.ContinueAuthentication)
			}
		case protocol.DISCONNECT:
			err = errGone
		default:
			err = &protocol.Error{Code: protocol.ProtocolError, Detail: h.Type.String() + " during authentication"}
		}
		c.held = append([]byte(nil), c.held[size+h.Length:]...)
		return false
	}
	if look(nil) {
		c.readAll(look)
	}
	return data, err
}

// checkAuth checks an AUTH against the exchange that it belongs to.
func checkAuth(a *protocol.Auth, method string, want protocol.ReasonCode) error {
	switch {
	case a.Method != method: // [MQTT-4.12.1-1]
		return &protocol.Error{Code: protocol.ProtocolError, Detail: "AUTH with another authentication method"}
	case a.Code != want: // [MQTT-4.12.0-3], [MQTT-3.15.2-1]
		return &protocol.Error{Code: protocol.ProtocolError, Detail: "AUTH with a reason code that does not fit"}
	}
	return nil
}

// handleAuth takes an AUTH of a connected client: re-authentication
// (MQTT 5 §4.12.1).
func (c *conn) handleAuth(ctx context.Context, a *protocol.Auth) error {
	e := c.enhanced
	if e == nil { // [MQTT-4.12.0-6]: CONNECT named no method
		return &protocol.Error{Code: protocol.ProtocolError, Detail: "AUTH without an authentication method in CONNECT"}
	}
	want := protocol.ContinueAuthentication
	if e.running == nil {
		want = protocol.ReAuthenticate
	}
	if err := checkAuth(a, e.method, want); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.g.opt.Timing.Connect)
	defer cancel()
	if e.running == nil {
		run, err := c.g.beginExchange(ctx, e.auth, &e.request)
		if err != nil {
			return reauthFault(err)
		}
		e.running = run
	}
	out, id, err := c.g.nextStep(ctx, e.running, a.Data)
	switch {
	case err != nil: // [MQTT-4.12.1-2]
		return reauthFault(err)
	case id == nil:
		c.sendAuth(protocol.ContinueAuthentication, e.method, out)
		return nil
	case id.Principal != c.client.Principal:
		return &protocol.Error{Code: protocol.NotAuthorized, Detail: "re-authentication as somebody else"}
	}
	e.running = nil
	c.renew(*id)
	c.sendAuth(protocol.Success, e.method, out)
	c.reauthorize(ctx)
	return nil
}

// renew takes what a re-authentication changed: when the credentials expire.
// The client's facts stay as they are, since others read them.
func (c *conn) renew(id Identity) {
	if r, ok := c.client.Data.(Renewable); ok {
		r.Renew(id.Data)
		c.g.authRevision.Add(1)
	}
	id.Principal, id.Data = c.client.Principal, c.client.Data
	c.take(id)
}

func reauthFault(err error) error {
	var refusal *RefusalError
	if errors.As(err, &refusal) {
		return &protocol.Error{Code: refusalCode(err, protocol.DISCONNECT), Detail: refusal.Reason}
	}
	return &protocol.Error{Code: protocol.NotAuthorized, Detail: "re-authentication is not available"}
}

// stillAllowed drops the subscriptions of a resumed session that its client may
// not have any more, from the store too. Nobody loses a subscription because it
// can not be told whether he may have it: the client is refused, and comes again.
func (c *conn) stillAllowed(ctx context.Context, subs []backend.Subscription) ([]backend.Subscription, bool) {
	if c.g.opt.Authorizer == nil {
		return subs, true
	}
	var kept []backend.Subscription
	var gone []string
	for _, s := range subs {
		_, filter, shared := protocol.SplitShare(s.Filter)
		err := c.g.authorize(ctx, &c.client, Access{Action: Subscribe, Topic: filter, QoS: s.QoS, Shared: shared})
		switch {
		case err == nil:
			kept = append(kept, s)
		case isRefusal(err):
			gone = append(gone, s.Filter)
		default:
			c.g.log.Warn("permissions can not be told", "client", string(c.client.ID), "err", err)
			return nil, c.refuse(protocol.ServerUnavailable, "permissions are not available")
		}
	}
	if len(gone) == 0 {
		return kept, true
	}
	c.g.log.Info("subscriptions not allowed any more", "client", string(c.client.ID), "filters", len(gone))
	sctx, cancel := c.g.storeContext(ctx)
	defer cancel()
	if _, err := c.g.store.Unsubscribe(sctx, c.lease, gone); err != nil {
		c.g.storeFailed(err)
	}
	return kept, true
}

// isRefusal tells a no of an authorizer from its not knowing.
func isRefusal(err error) bool {
	var r *RefusalError
	return errors.As(err, &r)
}
