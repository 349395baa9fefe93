package security_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// issuer is an identity provider: it signs tokens (EdDSA) and serves its key set.
type issuer struct {
	server *httptest.Server
	keys   map[string]ed25519.PrivateKey

	mu     sync.Mutex
	shown  []string // the keys that are in the set
	asked  int
	broken bool
}

func newIssuer(t *testing.T, keys ...string) *issuer {
	t.Helper()
	s := &issuer{keys: map[string]ed25519.PrivateKey{}}
	for _, kid := range keys {
		_, private, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		s.keys[kid] = private
	}
	s.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked++
		if s.broken {
			http.Error(w, "out of order", http.StatusInternalServerError)
			return
		}
		var set []map[string]string
		for _, kid := range s.shown {
			public := s.keys[kid].Public().(ed25519.PublicKey)
			set = append(set, map[string]string{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid, "x": base64.RawURLEncoding.EncodeToString(public)})
		}
		json.NewEncoder(w).Encode(map[string]any{"keys": set})
	}))
	t.Cleanup(s.server.Close)
	return s
}

func (s *issuer) show(keys ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown, s.broken = keys, len(keys) == 0
}

// sign makes a token of a user that is good for so long.
func (s *issuer) sign(t *testing.T, kid, user string, life time.Duration, publish ...string) string {
	t.Helper()
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := part(map[string]string{"alg": "EdDSA", "typ": "JWT", "kid": kid}) + "." +
		part(map[string]any{"sub": user, "iss": "us", "aud": "mqtt", "exp": time.Now().Add(life).Unix(), "publ": append([]string{}, publish...), "subs": []string{"t/#"}})
	return text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(s.keys[kid], []byte(text)))
}

// jwtGateway takes the tokens of an issuer.
func jwtGateway(t *testing.T, s *issuer) *harness.Gateway {
	return harness.Start(t, "AUTH_JWT_JWKS_URL="+s.server.URL, "AUTH_JWT_ISSUER=us", "AUTH_JWT_AUDIENCE=mqtt",
		"AUTH_JWT_PUBLISH_CLAIM=publ", "AUTH_JWT_SUBSCRIBE_CLAIM=subs", "AUTH_JWT_LEEWAY=0s")
}

// bearer is a CONNECT with a token as password.
func bearer(id, token string, v wire.Version) wire.Connect {
	return wire.Connect{Version: v, ClientID: id, Clean: true, Username: &id, Password: &token}
}

// answer is the code of CONNACK.
func answer(t *testing.T, g *harness.Gateway, c wire.Connect) byte {
	t.Helper()
	w := wire.Dial(t, g.TCP)
	w.Send(c)
	code := wire.Next[wire.Connack](w).Code
	w.Drop()
	return code
}

// TestKeyRotation: a new key is found when the first token comes that it has
// signed, a withdrawn one is good no more; while the key set is away, the keys that
// are known stay good, and a token with another is not let in and not refused for
// good.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	s := newIssuer(t, "one", "two", "three")
	s.show("one")
	g := jwtGateway(t, s)
	token := func(kid string) wire.Connect {
		return bearer(wire.Unique("c"), s.sign(t, kid, "ann", time.Hour, "t/a"), wire.V5)
	}
	pub := func(kid string) (string, error) {
		return run(tool(t, "mosquitto_pub"), mosquitto(g.TCP, "-V", "5", "-q", "1", "-t", "t/a", "-m", "x", "-u", "x", "-P", s.sign(t, kid, "ann", time.Hour, "t/a"))...)
	}
	if out, err := pub("one"); err != nil {
		t.Fatalf("mosquitto_pub: %v\n%s", err, out)
	}
	s.show("two")
	// The set is asked for again when it is seconds old, whatever comes.
	eventually(t, "the new key is known", func() bool { return answer(t, g, token("two")) == 0 })
	if out, err := pub("two"); err != nil {
		t.Errorf("mosquitto_pub: %v\n%s", err, out)
	}
	if code := answer(t, g, token("one")); code != 0x86 {
		t.Errorf("a token of the key that was withdrawn: %#x", code)
	}
	s.show()
	eventually(t, "a key that nobody can look up is 0x88", func() bool { return answer(t, g, token("three")) == 0x88 })
	if code := answer(t, g, token("two")); code != 0 {
		t.Errorf("the known key, while the set is away: %#x", code)
	}
	if code := answer(t, g, bearer("v3", s.sign(t, "three", "ann", time.Hour), wire.V311)); code != 3 {
		t.Errorf("MQTT 3: %d, want 3", code)
	}
	s.show("three")
	eventually(t, "the set is back", func() bool { return answer(t, g, token("three")) == 0 })
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked > 60 {
		t.Errorf("the set was asked for %d times", s.asked)
	}
}

// TestTokenExpires: the connection ends when its token does, unless the client
// brings a new one by AUTH before, whose rights are then in force.
func TestTokenExpires(t *testing.T) {
	t.Parallel()
	s := newIssuer(t, "one")
	s.show("one")
	g := jwtGateway(t, s)
	const life = 12 * time.Second // on a busy machine all have connected by then
	five := dial(t, g, bearer("five", s.sign(t, "one", "ann", life), wire.V5))
	three := dial(t, g, bearer("three", s.sign(t, "one", "ann", life), wire.V311))
	method := func(token string) wire.Props {
		return wire.Props{wire.StringProp(wire.AuthMethodID, "JWT"), wire.StringProp(wire.AuthDataID, token)}
	}
	renewed := dial(t, g, wire.Connect{Version: wire.V5, ClientID: "renewed", Clean: true, Props: method(s.sign(t, "one", "ann", life, "t/old"))})
	publish := func(topic string) byte {
		renewed.Send(wire.Publish{Topic: topic, QoS: 1, ID: 1})
		return wire.Next[wire.Ack](renewed).Code
	}
	if code := publish("t/old"); code >= 0x80 {
		t.Errorf("before: %#x", code)
	}
	renewed.Send(wire.Auth{Code: 0x19, Props: method(s.sign(t, "one", "ann", time.Hour, "t/new"))})
	if a := wire.Next[wire.Auth](renewed); a.Code != 0 {
		t.Fatalf("AUTH %#x", a.Code)
	}
	eventually(t, "the others are gone", func() bool { return g.Metric(t, "sluice_connections") == "1" })
	five.ExpectDisconnect(0xA0)
	three.ExpectClosed()
	for topic, want := range map[string]bool{"t/new": true, "t/old": false} {
		if code := publish(topic); (code < 0x80) != want {
			t.Errorf("%s with the new token: %#x", topic, code)
		}
	}
	// Nor does a token that is no good, or somebody else's, keep it.
	renewed.Send(wire.Auth{Code: 0x19, Props: method(s.sign(t, "one", "bob", time.Hour))})
	renewed.ExpectDisconnect(0x87)
	if code := answer(t, g, bearer("late", s.sign(t, "one", "ann", -time.Second), wire.V5)); code != 0x86 {
		t.Errorf("an expired token: %#x", code)
	}
	for what, token := range map[string]string{"no key of that name": "two", "empty": ""} {
		text := ""
		if token != "" {
			s.keys[token] = ed25519.NewKeyFromSeed([]byte(fmt.Sprintf("%32s", "not of the issuer")))
			text = s.sign(t, token, "ann", time.Hour)
		}
		if code := answer(t, g, bearer("x", text, wire.V5)); code != 0x86 {
			t.Errorf("%s: %#x", what, code)
		}
	}
}
