package auth

import (
	"context"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/gateway/auth/token"
	"github.com/sluice-mqtt/sluice/protocol"
)

const jwtSecret = "0123456789abcdef0123456789abcdef"

// soon is when tokens end whose end is waited for: not before a busy machine has let
// their clients in.
const soon = 8 * time.Second

// signed is a token that is good for a while, with more claims.
func signed(t testing.TB, user string, life time.Duration, more ...any) string {
	t.Helper()
	claims := jwt.MapClaims{"sub": user, "exp": float64(time.Now().Add(life).UnixMilli()) / 1000}
	for i := 0; i+1 < len(more); i += 2 {
		claims[more[i].(string)] = more[i+1]
	}
	text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(jwtSecret))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Times of tokens are more exact than a second. Set here, as tests run at the same
// time.
func init() { jwt.TimePrecision = time.Millisecond }

func jwtGateway(t testing.TB, same bool) *gateway.Gateway {
	v, err := token.New(token.Options{Secret: []byte(jwtSecret), PublishClaim: "pub", SubscribeClaim: "subs", ReceiveClaim: "recv"})
	if err != nil {
		t.Fatal(err)
	}
	j := NewJWT("jwt", v, same)
	f := passwordFile(t, "ann:"+hashOf(t, "a"))
	return start(t, func(o *gateway.Options) {
		o.Authenticator = &Chain{Links: []Link{{"jwt", j}, {"file", NewPasswords("file", f, NewHasher(0, 0))}}}
		o.Enhanced = map[string]gateway.EnhancedAuthenticator{MethodJWT: j}
		o.Authorizer = Permissions{{"jwt", Grants{}}}
	})
}

// TestJWT: the token decides who a client is and what it may do; what is no token
// is left to others.
func TestJWT(t *testing.T) {
	t.Parallel()
	g, strict := jwtGateway(t, false), jwtGateway(t, true)
	good := signed(t, "ann", time.Hour, "pub", []string{"a/#"}, "subs", "b/+")
	for _, tt := range []struct {
		name, user, pass string
		want             string
		strict           bool
	}{
		{"token", "anything", good, "CONNACK 0x00", false},
		{"token of the user", "ann", good, "CONNACK 0x00", true},
		{"token of another user", "bob", good, "CONNACK 0x86", true},
		{"expired", "ann", signed(t, "ann", -time.Hour), "CONNACK 0x86", false},
		{"forged", "ann", good + "x", "CONNACK 0x86", false},
		{"filter that is none", "ann", signed(t, "ann", time.Hour, "pub", "a/#/b"), "CONNACK 0x86", false},
		{"a password", "ann", "a", "CONNACK 0x00", false},
		{"a wrong one", "ann", "b", "CONNACK 0x86", false},
	} {
		at := g
		if tt.strict {
			at = strict
		}
		if got := show(connect(t, at, "c", as(tt.user, tt.pass)).next()); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	// A token alone, without a user name (MQTT 5 only).
	c := join(t, g, "c", func(p *protocol.Connect) { p.Password, p.HasPassword = []byte(good), true })
	c.send(publish("a/x", "x", 1, false), publish("b/x", "x", 1, false), subscribe(0, "b/+", "b/#", "a/x"))
	c.expect("PUBACK 0x10", "PUBACK 0x87", "SUBACK 00 87 87")
	if err := g.Publish(t.Context(), message("b/x")); err != nil {
		t.Fatal(err)
	}
	c.expect("PUBLISH b/x x")
	// The session is the user's, however she proves it.
	join(t, g, "s", as("x", good), durable)
	if a := connect(t, g, "s", as("x", signed(t, "ann", time.Hour)), durable).next().(*protocol.Connack); !a.SessionPresent {
		t.Errorf("%+v", a)
	}
	if got := show(connect(t, g, "s", as("x", signed(t, "bob", time.Hour)), durable).next()); got != "CONNACK 0x87" {
		t.Error(got)
	}
	// Nothing is allowed by a token that says nothing.
	c = join(t, g, "n", as("x", signed(t, "ann", time.Hour)))
	c.send(publish("a/x", "x", 1, false))
	c.expect("PUBACK 0x87")
}

// TestJWTExpires: the connection ends with the token.
func TestJWTExpires(t *testing.T) {
	t.Parallel()
	g := jwtGateway(t, false)
	five := connect(t, g, "5", as("x", signed(t, "ann", soon)))
	three := connect(t, g, "3", as("x", signed(t, "ann", soon)), v3)
	lasting := join(t, g, "6", as("x", signed(t, "ann", time.Hour)))
	five.expect("CONNACK 0x00", "DISCONNECT 0xA0", "closed")
	three.expect("CONNACK 0x00", "closed")
	lasting.quiet()
}

// TestJWTRenewed: with the authentication method a client brings a new token, and
// with it other rights, while it stays connected.
func TestJWTRenewed(t *testing.T) {
	t.Parallel()
	g := jwtGateway(t, false)
	method := func(text string) func(*protocol.Connect) {
		return func(p *protocol.Connect) {
			p.AuthMethod, p.HasAuthMethod, p.AuthData = MethodJWT, true, []byte(text)
			p.HasAuthData = true
		}
	}
	renew := func(text string) *protocol.Auth {
		return &protocol.Auth{Code: protocol.ReAuthenticate, Method: MethodJWT, Data: []byte(text), HasData: true}
	}
	// The first token ends within this test, whose client stays.
	began := time.Now()
	c := join(t, g, "c", method(signed(t, "ann", soon, "pub", "a", "subs", "a")))
	c.send(publish("a", "x", 1, false), publish("b", "x", 1, false), subscribe(0, "a"))
	c.expect("PUBACK 0x10", "PUBACK 0x87", "SUBACK 00")
	c.send(renew(signed(t, "ann", time.Hour, "pub", "b", "subs", "b")))
	c.expect("AUTH 0x00 ")
	c.send(publish("a", "x", 1, false), publish("b", "x", 1, false), subscribe(0, "b"))
	c.expect("PUBACK 0x87", "PUBACK 0x10", "SUBACK 00")
	if err := g.Publish(t.Context(), message("a")); err != nil { // the subscription went with the right
		t.Fatal(err)
	}
	time.Sleep(time.Until(began.Add(soon + 100*time.Millisecond))) // the first token's end
	c.quiet()
	for name, text := range map[string]string{"another user": signed(t, "bob", time.Hour), "expired": signed(t, "ann", -time.Hour), "no token": "x"} {
		c := join(t, g, name, method(signed(t, "ann", time.Hour)))
		c.send(renew(text))
		if d, ok := c.next().(*protocol.Disconnect); !ok || d.Code != protocol.NotAuthorized {
			t.Errorf("%s: %+v", name, d)
		}
		c.expect("closed")
	}
	if got := show(connect(t, g, "d", method("x")).next()); got != "CONNACK 0x86" {
		t.Error(got)
	}
}

// TestGrantsSilent: clients without a token are somebody else's business.
func TestGrantsSilent(t *testing.T) {
	t.Parallel()
	for _, c := range []*gateway.Client{{}, {Data: 7}, {Data: newLogin("file")}} {
		if v, _, err := (Grants{}).Decide(context.Background(), c, gateway.Access{Action: gateway.Publish, Topic: "a"}); v != 0 || err != nil {
			t.Errorf("%+v: %v, %v", c, v, err)
		}
	}
}
