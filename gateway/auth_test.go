package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mqtt/sluice/protocol"
)

func authenticator(f AuthenticatorFunc) func(*Options) {
	return func(o *Options) { o.Authenticator = f }
}

// TestAuthenticatorAnswers: a refusal reaches the client with its code and
// reason; whoever can not tell does not let in [MQTT-3.1.4-2]. Clients of MQTT 3
// get the return code that comes nearest.
func TestAuthenticatorAnswers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name         string
		answer       AuthenticatorFunc
		five, reason string
		three        string
	}{
		{"bad password", func(context.Context, *ConnectRequest) (Identity, error) {
			return Identity{}, ErrBadCredentials
		}, "CONNACK 0x86", "", "CONNACK 0x04"},
		{"banned, says why", func(context.Context, *ConnectRequest) (Identity, error) {
			return Identity{}, fmt.Errorf("rule 7: %w", &RefusalError{Code: protocol.Banned, Reason: "until Monday"})
		}, "CONNACK 0x8A", "until Monday", "CONNACK 0x05"},
		{"no code", func(context.Context, *ConnectRequest) (Identity, error) {
			return Identity{}, &RefusalError{Reason: "no"}
		}, "CONNACK 0x87", "no", "CONNACK 0x05"},
		{"a code that CONNACK does not have", func(context.Context, *ConnectRequest) (Identity, error) {
			return Identity{}, &RefusalError{Code: protocol.SessionTakenOver}
		}, "CONNACK 0x87", "", "CONNACK 0x05"},
		{"error", func(context.Context, *ConnectRequest) (Identity, error) {
			return Identity{Principal: "somebody"}, errors.New("the directory does not answer")
		}, "CONNACK 0x88", "authentication is not available", "CONNACK 0x03"},
		{"slow", func(ctx context.Context, _ *ConnectRequest) (Identity, error) {
			<-ctx.Done()
			return Identity{}, ctx.Err()
		}, "CONNACK 0x88", "authentication is not available", "CONNACK 0x03"},
		{"panic", func(context.Context, *ConnectRequest) (Identity, error) {
			panic("no directory")
		}, "CONNACK 0x88", "authentication is not available", "CONNACK 0x03"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, authenticator(tt.answer), func(o *Options) {
				if tt.name == "slow" {
					o.Timing.Connect = 2 * time.Second
				}
				o.Listeners = []Listener{{Name: "tcp", Address: "127.0.0.1:0"}}
			})
			for _, v := range []protocol.Version{protocol.V5, protocol.V311} {
				nc, err := net.Dial("tcp", g.Addr("tcp").String())
				if err != nil {
					t.Fatal(err)
				}
				c := newClient(t, nc, v)
				c.send(connectPacket("c", func(p *protocol.Connect) { p.Version = v }))
				p, _ := c.next().(*protocol.Connack)
				want := map[protocol.Version]string{protocol.V5: tt.five, protocol.V311: tt.three}[v]
				if p == nil || describe(p) != want {
					t.Errorf("%v: %v, want %q", v, p, want)
					continue
				}
				if v == protocol.V5 && p.Reason != tt.reason {
					t.Errorf("reason %q, want %q", p.Reason, tt.reason)
				}
				c.expect("closed")
			}
			// What is refused has opened no session.
			if n := g.Stats().Connects[protocol.Success]; n != 0 {
				t.Errorf("%d clients were let in", n)
			}
		})
	}
}

// TestAuthenticatorSees checks what an authenticator is told, and that what it
// finds out goes to the client, the authorizer and the events.
func TestAuthenticatorSees(t *testing.T) {
	t.Parallel()
	var seen ConnectRequest
	var asked []Client
	g := newGateway(t, authenticator(func(_ context.Context, r *ConnectRequest) (Identity, error) {
		seen = *r
		return Identity{Principal: "p", ClientID: "given", Data: 42}, nil
	}), func(o *Options) {
		o.Authorizer = AuthorizerFunc(func(_ context.Context, c *Client, _ Access) error {
			asked = append(asked, *c)
			return nil
		})
	})
	c := dial(t, g, connectPacket("mine", func(p *protocol.Connect) {
		p.Username, p.HasUsername, p.Password, p.HasPassword = "u", true, []byte("secret"), true
	}))
	a := c.next().(*protocol.Connack)
	if a.Code != protocol.Success || a.AssignedClientID != "given" {
		t.Errorf("%+v", a)
	}
	if seen.Client.ID != "mine" || seen.Client.Username != "u" || !seen.HasUsername || string(seen.Password) != "secret" ||
		!seen.HasPassword || !seen.CleanStart || seen.Client.Listener != "pipe" || seen.Client.Version != protocol.V5 ||
		seen.Client.Remote == nil || seen.Conn == nil {
		t.Errorf("the authenticator saw %+v", seen)
	}
	c.subscribe(0, "a")
	if len(asked) == 0 || asked[0].ID != "given" || asked[0].Principal != "p" || asked[0].Data != 42 {
		t.Errorf("the authorizer saw %+v", asked)
	}
	if g.clients.get("given") == nil {
		t.Error("the session is not that of the given identifier")
	}
}

// TestSessionOwner: a session belongs to the principal that made it, whether it
// is connected here, elsewhere or not at all; another one is refused with 0x87
// and disturbs nothing.
func TestSessionOwner(t *testing.T) {
	t.Parallel()
	cl := newCluster(t, 2, func(_ int, o *Options) {
		o.Authenticator = AuthenticatorFunc(func(_ context.Context, r *ConnectRequest) (Identity, error) {
			return Identity{Principal: r.Client.Username}, nil
		})
	})
	as := func(user string) func(*protocol.Connect) {
		return func(p *protocol.Connect) { p.Username, p.HasUsername = user, true }
	}
	alice := join(t, cl.nodes[0], "c", durable(1000), as("alice"))
	for _, g := range cl.nodes {
		dial(t, g, connectPacket("c", durable(1000), as("bob"))).expect("CONNACK 0x87", "closed")
		dial(t, g, connectPacket("c", as("bob"))).expect("CONNACK 0x87", "closed") // clean start
		alice.ping()
	}
	alice.cut()
	dial(t, cl.nodes[1], connectPacket("c", durable(1000), as("bob"))).expect("CONNACK 0x87", "closed")
	rejoin(t, cl.nodes[1], "c", as("alice"))
}

// TestEmptyCredentials: an absent password and an empty one are told apart.
func TestEmptyCredentials(t *testing.T) {
	t.Parallel()
	got := make(chan ConnectRequest, 1)
	g := newGateway(t, authenticator(func(_ context.Context, r *ConnectRequest) (Identity, error) {
		got <- *r
		return Identity{}, nil
	}))
	for _, has := range []bool{false, true} {
		join(t, g, "c", func(p *protocol.Connect) { p.HasUsername, p.HasPassword = has, has })
		if r := <-got; r.HasUsername != has || r.HasPassword != has {
			t.Errorf("has %v: %+v", has, r)
		}
	}
}

// riddle is an authentication method: the server asks as many riddles as the
// client's first data has bytes, and the answer to each is the riddle itself.
type riddle struct{ expires time.Duration }

func (r riddle) Begin(_ context.Context, q *ConnectRequest) (Exchange, error) {
	if q.Client.ID == "stranger" {
		return nil, &RefusalError{Code: protocol.NotAuthorized, Reason: "who are you?"}
	}
	return &riddles{riddle: r, who: string(q.Client.ID)}, nil
}

type riddles struct {
	riddle
	who  string
	left []byte
}

func (r *riddles) Next(_ context.Context, data []byte) ([]byte, *Identity, error) {
	switch {
	case string(data) == "panic":
		panic("a riddle without an answer")
	case string(data) == "broken":
		return nil, nil, errors.New("out of riddles")
	case r.left == nil:
		r.left = append([]byte{}, data...)
	case len(r.left) > 0 && string(data) == string(r.left[:1]):
		r.left = r.left[1:]
	default:
		return nil, nil, &RefusalError{Code: protocol.NotAuthorized, Reason: "wrong"}
	}
	if len(r.left) > 0 {
		return r.left[:1], nil, nil
	}
	id := &Identity{Principal: r.who}
	if string(data) == "z" {
		id.Principal = "somebody else"
	}
	if r.expires > 0 {
		id.Expires = time.Now().Add(r.expires)
	}
	return []byte("welcome"), id, nil
}

func withRiddle(expires time.Duration) func(*Options) {
	return func(o *Options) {
		o.Enhanced = map[string]EnhancedAuthenticator{"RIDDLE": riddle{expires: expires}}
		o.Authenticator = AuthenticatorFunc(func(context.Context, *ConnectRequest) (Identity, error) { return Identity{}, ErrNotAuthorized })
	}
}

func method(name, data string) func(*protocol.Connect) {
	return func(p *protocol.Connect) {
		p.AuthMethod, p.HasAuthMethod, p.AuthData, p.HasAuthData = name, true, []byte(data), true
	}
}

func authPacket(code protocol.ReasonCode, data string) *protocol.Auth {
	return &protocol.Auth{Code: code, Method: "RIDDLE", Data: []byte(data), HasData: true}
}

// TestEnhancedAuthentication goes through exchanges before CONNACK
// (MQTT 5 §4.12).
func TestEnhancedAuthentication(t *testing.T) {
	t.Parallel()
	goOn := func(data string) *protocol.Auth { return authPacket(protocol.ContinueAuthentication, data) }
	for _, tt := range []struct {
		name    string
		id      string
		connect func(*protocol.Connect)
		talk    []any // packets that are sent, and words of what comes
	}{
		{"one step", "c", method("RIDDLE", ""), []any{"CONNACK"}},
		{"three steps", "c", method("RIDDLE", "ab"), []any{"AUTH 0x18 a", goOn("a"), "AUTH 0x18 b", goOn("b"), "CONNACK"}},
		{"wrong answer", "c", method("RIDDLE", "ab"), []any{"AUTH 0x18 a", goOn("b"), "CONNACK 0x87", "closed"}},
		{"refused at the start", "stranger", method("RIDDLE", "ab"), []any{"CONNACK 0x87", "closed"}},
		{"unknown method", "c", method("GUESS", "ab"), []any{"CONNACK 0x8C", "closed"}}, // [MQTT-4.12.0-1]
		{"does not know", "c", method("RIDDLE", "broken"), []any{"CONNACK 0x88", "closed"}},
		{"panics", "c", method("RIDDLE", "panic"), []any{"CONNACK 0x88", "closed"}},
		{"no method", "c", func(*protocol.Connect) {}, []any{"CONNACK 0x87", "closed"}},
		{"method changes", "c", method("RIDDLE", "ab"), []any{"AUTH 0x18 a", // [MQTT-4.12.0-5]
			&protocol.Auth{Code: protocol.ContinueAuthentication, Method: "GUESS"}, "CONNACK 0x82", "closed"}},
		{"re-authentication out of turn", "c", method("RIDDLE", "ab"), []any{"AUTH 0x18 a",
			authPacket(protocol.ReAuthenticate, "a"), "CONNACK 0x82", "closed"}}, // [MQTT-4.12.0-3]
		{"something else meanwhile", "c", method("RIDDLE", "ab"), []any{"AUTH 0x18 a", // [MQTT-3.1.2-30]
			&protocol.Pingreq{}, "CONNACK 0x82", "closed"}},
		{"gives up", "c", method("RIDDLE", "ab"), []any{"AUTH 0x18 a", &protocol.Disconnect{}, "closed"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, withRiddle(0))
			c := dial(t, g, connectPacket(tt.id, tt.connect))
			c.talk(tt.talk)
		})
	}
}

// talk plays a conversation: packets are sent, words are expected.
func (c *client) talk(talk []any) {
	c.t.Helper()
	for _, line := range talk {
		switch line := line.(type) {
		case string:
			c.expect(line)
		case protocol.Packet:
			c.send(line)
		}
	}
}

// TestEnhancedConnack: the last data of the server and the method are in
// CONNACK [MQTT-4.12.0-5].
func TestEnhancedConnack(t *testing.T) {
	t.Parallel()
	c := dial(t, newGateway(t, withRiddle(0)), connectPacket("c", method("RIDDLE", "")))
	if a := c.next().(*protocol.Connack); a.AuthMethod != "RIDDLE" || string(a.AuthData) != "welcome" {
		t.Errorf("%+v", a)
	}
}

// TestReauthentication: a connected client proves itself anew, and publishes
// meanwhile (MQTT 5 §4.12.1); a failure ends the connection [MQTT-4.12.1-2].
func TestReauthentication(t *testing.T) {
	t.Parallel()
	again := func(data string) *protocol.Auth { return authPacket(protocol.ReAuthenticate, data) }
	goOn := func(data string) *protocol.Auth { return authPacket(protocol.ContinueAuthentication, data) }
	for _, tt := range []struct {
		name string
		talk []any
	}{
		{"good", []any{again("ab"), "AUTH 0x18 a", goOn("a"), "AUTH 0x18 b", &protocol.Pingreq{}, "PINGRESP", goOn("b"), "AUTH 0x00 welcome",
			again(""), "AUTH 0x00 welcome"}},
		{"wrong answer", []any{again("ab"), "AUTH 0x18 a", goOn("x"), "DISCONNECT 0x87", "closed"}},
		{"does not know", []any{again("broken"), "DISCONNECT 0x87", "closed"}},
		{"panics", []any{again("panic"), "DISCONNECT 0x87", "closed"}},
		{"as somebody else", []any{again("z"), "AUTH 0x18 z", goOn("z"), "DISCONNECT 0x87", "closed"}},
		{"out of turn", []any{goOn("a"), "DISCONNECT 0x82", "closed"}},
		{"begins twice", []any{again("ab"), "AUTH 0x18 a", again("ab"), "DISCONNECT 0x82", "closed"}},
		{"another method", []any{&protocol.Auth{Code: protocol.ReAuthenticate, Method: "GUESS"}, "DISCONNECT 0x82", "closed"}}, // [MQTT-4.12.1-1]
		{"a code of the server's", []any{authPacket(protocol.Success, ""), "DISCONNECT 0x82", "closed"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, withRiddle(0))
			c := join(t, g, "c", method("RIDDLE", ""))
			c.talk(tt.talk)
		})
	}
	t.Run("without a method in CONNECT", func(t *testing.T) { // [MQTT-4.12.0-6]
		t.Parallel()
		c := join(t, newGateway(t), "c")
		c.talk([]any{again(""), "DISCONNECT 0x82", "closed"})
	})
}

// TestReauthenticationExtends: new credentials, new time.
func TestReauthenticationExtends(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGateway(t, withRiddle(30*time.Second))
		c := join(t, g, "c", method("RIDDLE", ""))
		for range 3 {
			time.Sleep(29 * time.Second)
			c.talk([]any{authPacket(protocol.ReAuthenticate, ""), "AUTH 0x00 welcome"})
		}
		c.endsAt(30*time.Second, 0, "DISCONNECT 0xA0", "closed")
	})
}

// TestAuthenticationDeadline: an exchange that is not finished ends with the
// time to connect.
func TestAuthenticationDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGateway(t, withRiddle(0))
		c := dial(t, g, connectPacket("c", method("RIDDLE", "ab")))
		c.expect("AUTH 0x18 a")
		c.endsAt(10*time.Second, 0, "closed")
	})
}

// TestExpiredCredentials: credentials whose time is over already let nobody in,
// and the client is told.
func TestExpiredCredentials(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGateway(t, authenticator(func(context.Context, *ConnectRequest) (Identity, error) {
			return Identity{Expires: time.Now().Add(-time.Second)}, nil
		}))
		c := dial(t, g, connectPacket("c"))
		synctest.Wait()
		switch got := describe(c.next()); got {
		case "CONNACK": // and then at once
			c.expect("DISCONNECT 0xA0", "closed")
		case "CONNACK 0x87", "CONNACK 0x86":
			c.expect("closed")
		default:
			t.Errorf("%q", got)
		}
	})
}

// TestWillRefused: the will's topic is checked before the client is let in, and
// nothing of a session is touched when it is not allowed.
func TestWillRefused(t *testing.T) {
	t.Parallel()
	g := newGateway(t, func(o *Options) {
		o.Authorizer = AuthorizerFunc(func(_ context.Context, c *Client, a Access) error {
			if a.Action == Publish && a.Topic == "secret" {
				return ErrNotAuthorized
			}
			return nil
		})
	})
	dial(t, g, connectPacket("c", will(protocol.Will{Topic: "secret"}))).expect("CONNACK 0x87", "closed")
	dial(t, g, connectPacket("c", will(protocol.Will{Topic: "$SYS/x"}))).expect("CONNACK 0x90", "closed")
	join(t, g, "c", will(protocol.Will{Topic: "open"}))
	if n := g.Stats().Connects[protocol.NotAuthorized]; n != 1 {
		t.Errorf("%d refusals are counted", n)
	}
}
