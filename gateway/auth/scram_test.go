package auth

import (
	"errors"
	"strings"
	"testing"

	"github.com/xdg-go/scram"

	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/gateway/auth/password"
	"github.com/sluice-mqtt/sluice/protocol"
)

// scramConnect goes through the exchange and returns the last answer; reauth
// does so on a client that is connected.
func scramConnect(t *testing.T, g *gateway.Gateway, user, pass, authz string) (*client, protocol.Packet) {
	t.Helper()
	side, err := scram.SHA256.NewClientUnprepped(user, pass, authz)
	if err != nil {
		t.Fatal(err)
	}
	talk := side.NewConversation()
	first, _ := talk.Step("")
	c := connect(t, g, "c-"+user, func(p *protocol.Connect) {
		p.AuthMethod, p.HasAuthMethod, p.AuthData, p.HasAuthData = MethodSCRAM, true, []byte(first), true
	})
	p := c.next()
	challenge, ok := p.(*protocol.Auth)
	if !ok {
		return c, p
	}
	final, err := talk.Step(string(challenge.Data))
	if err != nil {
		t.Fatal(err)
	}
	c.send(&protocol.Auth{Code: protocol.ContinueAuthentication, Method: MethodSCRAM, Data: []byte(final), HasData: true})
	p = c.next()
	if ack, ok := p.(*protocol.Connack); ok && ack.Code == protocol.Success {
		if _, err := talk.Step(string(ack.AuthData)); err != nil || !talk.Valid() {
			t.Errorf("the server does not prove that it knows the password: %v", err)
		}
	}
	return c, p
}

// TestSCRAM: a client of the scheme's own library connects with the right
// password alone, and may authenticate again.
func TestSCRAM(t *testing.T) {
	t.Parallel()
	other, err := password.Make(password.PBKDF2, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	f := passwordFile(t, "ann:"+hashOf(t, "secret"), "bob:"+other, "o=o,o:"+hashOf(t, "secret"))
	g := start(t, func(o *gateway.Options) {
		o.Authenticator = &Chain{}
		o.Enhanced = map[string]gateway.EnhancedAuthenticator{MethodSCRAM: NewSCRAM(NamedDirectory{"file", f})}
	})
	for _, tt := range []struct{ user, pass, authz, want string }{
		{"ann", "secret", "", "CONNACK 0x00"}, {"ann", "secret", "ann", "CONNACK 0x00"}, {"o=o,o", "secret", "", "CONNACK 0x00"},
		{"ann", "Secret", "", "CONNACK 0x86"}, {"ann", "secret", "root", "CONNACK 0x87"},
		{"bob", "secret", "", "CONNACK 0x86"}, {"eve", "secret", "", "CONNACK 0x86"},
	} {
		c, p := scramConnect(t, g, tt.user, tt.pass, tt.authz)
		if got := show(p); got != tt.want {
			t.Errorf("%s as %q: %s, want %s", tt.user, tt.authz, got, tt.want)
		}
		c.nc.Close()
	}
	for _, data := range []string{"", "x", "p=tls-unique,,n=ann,r=x", "n,,n=ann", strings.Repeat("n", 1<<14), "\xff"} {
		c := connect(t, g, "d", func(p *protocol.Connect) {
			p.AuthMethod, p.HasAuthMethod, p.AuthData, p.HasAuthData = MethodSCRAM, true, []byte(data), true
		})
		if got := show(c.next()); got != "CONNACK 0x86" {
			t.Errorf("%.30q: %s", data, got)
		}
	}
	// The password in CONNECT is another matter, and nobody is asked here.
	if got := show(connect(t, g, "e", as("ann", "secret")).next()); got != "CONNACK 0x86" {
		t.Error(got)
	}
}

// TestSCRAMUnknown: the first answer does not tell who is unknown: it is the same
// for the same name, another one for another.
func TestSCRAMUnknown(t *testing.T) {
	t.Parallel()
	f := passwordFile(t, "ann:"+hashOf(t, "secret"))
	s := NewSCRAM(NamedDirectory{"file", f})
	find := func(user string) string {
		e := &scramExchange{s: s, ctx: t.Context()}
		c, err := e.find(user)
		if err != nil || c.Iters != password.SCRAMIterations || len(c.Salt) != password.SaltSize {
			t.Errorf("%s: %+v, %v", user, c.KeyFactors, err)
		}
		return c.Salt
	}
	eve, again := find("eve"), find("eve")
	if eve != again || eve == find("mal") || eve == find("ann") {
		t.Error("unknown users can be told from known ones")
	}
	down := errors.New("down")
	e, _ := NewSCRAM(NamedDirectory{"redis", failing{down}}).Begin(t.Context(), nil)
	if _, _, err := e.Next(t.Context(), []byte("n,,n=ann,r=abc")); !errors.Is(err, down) {
		t.Error(err)
	}
}
