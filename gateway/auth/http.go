package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/gateway/auth/acl"
	"github.com/sluice-mqtt/sluice/gateway/auth/callback"
	"github.com/sluice-mqtt/sluice/protocol"
)

// answersMax bounds what is remembered of the answers of one endpoint.
const answersMax = 100_000

// recent remembers for a while. When it is full it begins anew.
type recent[K comparable, V any] struct {
	mu sync.Mutex
	m  map[K]remembered[V]
}

type remembered[V any] struct {
	value V
	until time.Time
}

func (a *recent[K, V]) get(k K) (V, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, ok := a.m[k]
	return r.value, ok && time.Now().Before(r.until)
}

func (a *recent[K, V]) put(k K, v V, keep time.Duration) {
	if keep <= 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.m == nil || len(a.m) >= answersMax {
		a.m = make(map[K]remembered[V])
	}
	a.m[k] = remembered[V]{v, time.Now().Add(keep)}
}

// HTTPUsers authenticates by asking an HTTP server. It sends username, password,
// client_id, remote, listener and protocol. The principal is the user of the
// answer, or else the user name. An answer that is yes is remembered for a
// while, by a keyed digest of what was asked.
type HTTPUsers struct {
	name string
	ask  *callback.Endpoint
	keep time.Duration
	key  [32]byte
	good recent[[32]byte, callback.Answer]
}

// NewHTTPUsers makes an authenticator; name is that of the source.
func NewHTTPUsers(name string, e *callback.Endpoint, keep time.Duration) *HTTPUsers {
	h := &HTTPUsers{name: name, ask: e, keep: keep}
	rand.Read(h.key[:])
	return h
}

// Authenticate asks. It ignores clients with neither user name nor password.
func (h *HTTPUsers) Authenticate(ctx context.Context, r *gateway.ConnectRequest) (gateway.Identity, error) {
	if !r.HasUsername && !r.HasPassword {
		return gateway.Identity{}, ErrIgnore
	}
	remote := ""
	if r.Client.Remote != nil {
		remote = r.Client.Remote.String()
	}
	digest := h.digest(r)
	answer, known := h.good.get(digest)
	if !known {
		var err error
		answer, err = h.ask.Ask(ctx, []callback.Field{
			{Name: "username", Value: r.Client.Username}, {Name: "password", Value: string(r.Password)}, {Name: "client_id", Value: string(r.Client.ID)},
			{Name: "remote", Value: remote}, {Name: "listener", Value: r.Client.Listener}, {Name: "protocol", Value: int(r.Client.Version)},
		})
		if err != nil {
			return gateway.Identity{}, fmt.Errorf("%s: %w", h.name, err)
		}
	}
	switch answer.Result {
	case callback.Ignore:
		return gateway.Identity{}, ErrIgnore
	case callback.Deny:
		return gateway.Identity{}, gateway.ErrBadCredentials
	}
	id, err := h.identity(r, &answer)
	if err == nil && !known {
		h.good.put(digest, answer, h.keep)
	}
	return id, err
}

func (h *HTTPUsers) identity(r *gateway.ConnectRequest, a *callback.Answer) (gateway.Identity, error) {
	login := newLogin(h.name)
	id := gateway.Identity{Principal: a.User, Data: login}
	if id.Principal == "" {
		id.Principal = r.Client.Username
	}
	if id.Principal == "" {
		return gateway.Identity{}, fmt.Errorf("%s: neither CONNECT nor the answer names a user", h.name)
	}
	if a.Expires != 0 {
		id.Expires = time.Unix(a.Expires, 0)
		if !id.Expires.After(time.Now()) {
			return gateway.Identity{}, &gateway.RefusalError{Code: protocol.NotAuthorized, Reason: "permission has expired"}
		}
	}
	if a.Publish != nil || a.Subscribe != nil || a.Receive != nil {
		rules, err := acl.Granted(a.Publish, a.Subscribe, a.Receive, "answer")
		if err != nil {
			return gateway.Identity{}, fmt.Errorf("%s: %w", h.name, err)
		}
		login.grant.Store(&rules)
	}
	return id, nil
}

func (h *HTTPUsers) digest(r *gateway.ConnectRequest) (d [32]byte) {
	m := hmac.New(sha256.New, h.key[:])
	fmt.Fprintf(m, "%q %q %q %v %v %d ", r.Client.Username, r.Client.ID, r.Client.Listener, r.HasUsername, r.HasPassword, r.Client.Version)
	m.Write(r.Password)
	m.Sum(d[:0])
	return d
}

// forgetFailures is for how long a server that did not answer is not asked the
// same again: messages would wait for it, one after the other.
const forgetFailures = time.Second

// HTTPPermissions is a [Source] that asks an HTTP server. It sends username,
// client_id, action (publish, subscribe or receive), topic, acc (2, 4 or 1),
// qos, retain and shared. Answers are remembered for a while.
type HTTPPermissions struct {
	ask  *callback.Endpoint
	keep time.Duration
	// receive: the server is asked of deliveries too. Otherwise a client may
	// receive whatever it could subscribe to.
	receive bool
	known   recent[permission, callback.Result]
	failed  recent[permission, error]
}

type permission struct {
	user, client string
	gateway.Access
}

// NewHTTPPermissions makes a source. Deliveries wait for the server if it is
// asked of them: it should be near, and quick.
func NewHTTPPermissions(e *callback.Endpoint, keep time.Duration, receive bool) *HTTPPermissions {
	return &HTTPPermissions{ask: e, keep: keep, receive: receive}
}

// Decide asks the server, unless it remembers.
func (h *HTTPPermissions) Decide(ctx context.Context, c *gateway.Client, a gateway.Access) (acl.Verdict, fmt.Stringer, error) {
	if a.Action == gateway.Receive && !h.receive {
		return acl.Allow, nil, nil
	}
	if a.Action == gateway.Receive {
		a.QoS, a.Retain = 0, false // they make no difference, and many more questions
	}
	p := permission{c.Principal, string(c.ID), a}
	if r, ok := h.known.get(p); ok {
		return verdicts[r], nil, nil
	}
	if err, ok := h.failed.get(p); ok {
		return acl.Deny, nil, err
	}
	acc := map[gateway.Action]int{gateway.Receive: 1, gateway.Publish: 2, gateway.Subscribe: 4}
	answer, err := h.ask.Ask(ctx, []callback.Field{
		{Name: "username", Value: c.Principal}, {Name: "client_id", Value: string(c.ID)}, {Name: "action", Value: a.Action.String()},
		{Name: "topic", Value: a.Topic}, {Name: "acc", Value: acc[a.Action]}, {Name: "qos", Value: a.QoS}, {Name: "retain", Value: a.Retain},
		{Name: "shared", Value: a.Shared},
	})
	if err != nil {
		err = fmt.Errorf("http: %w", err)
		h.failed.put(p, err, forgetFailures)
		return acl.Deny, nil, err
	}
	h.known.put(p, answer.Result, h.keep)
	return verdicts[answer.Result], nil, nil
}

var verdicts = map[callback.Result]acl.Verdict{callback.Allow: acl.Allow, callback.Deny: acl.Deny, callback.Ignore: acl.Silent}
