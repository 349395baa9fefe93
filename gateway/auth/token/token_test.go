package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

const secret = "0123456789abcdef0123456789abcdef"

// pairs are private keys, made once: RSA takes its time.
var pairs = sync.OnceValue(func() map[string]crypto.Signer {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	e384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		panic(err)
	}
	_, d, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return map[string]crypto.Signer{"RS256": r, "PS512": r, "ES256": e, "ES384": e384, "EdDSA": d}
})

func public(t testing.TB, k crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// sign makes a token; header changes apply before signing.
func sign(t testing.TB, alg string, key any, claims jwt.MapClaims, header ...string) string {
	t.Helper()
	if claims["exp"] == nil {
		claims["exp"] = time.Now().Add(time.Hour).Unix()
	}
	if claims["sub"] == nil {
		claims["sub"] = "ann"
	}
	token := jwt.NewWithClaims(jwt.GetSigningMethod(alg), claims)
	for i := 0; i+1 < len(header); i += 2 {
		token.Header[header[i]] = header[i+1]
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func verifier(t testing.TB, o Options) *Verifier {
	t.Helper()
	v, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// wantInvalid wants a refusal with that reason.
func wantInvalid(t *testing.T, v *Verifier, text, reason string) {
	t.Helper()
	c, err := v.Verify(t.Context(), text)
	var bad *InvalidError
	if !errors.As(err, &bad) || bad.Reason != reason {
		t.Errorf("%+v, %v; want %q", c, err, reason)
	}
}

const unknown = "is not signed by a known key"

// TestAlgorithms: every algorithm works with its key, and with no other one.
func TestAlgorithms(t *testing.T) {
	t.Parallel()
	var everything []byte
	for _, alg := range []string{"RS256", "ES256", "ES384", "EdDSA"} {
		everything = append(everything, public(t, pairs()[alg])...)
	}
	all := verifier(t, Options{Secret: []byte(secret), PEM: everything})
	for alg, key := range pairs() {
		text := sign(t, alg, key, jwt.MapClaims{})
		for name, v := range map[string]*Verifier{"its key": verifier(t, Options{PEM: public(t, key)}), "all keys": all} {
			if c, err := v.Verify(t.Context(), text); err != nil || c.User != "ann" {
				t.Errorf("%s with %s: %+v, %v", alg, name, c, err)
			}
		}
		wantInvalid(t, verifier(t, Options{Secret: []byte(secret)}), text, unknown)
		for other, k := range pairs() {
			if fmt.Sprintf("%T", k) != fmt.Sprintf("%T", key) || strings.HasPrefix(alg, "ES") && alg != other {
				wantInvalid(t, verifier(t, Options{PEM: public(t, k)}), text, unknown)
			}
		}
	}
	for _, alg := range []string{"HS256", "HS384", "HS512"} {
		text := sign(t, alg, []byte(secret), jwt.MapClaims{})
		if c, err := all.Verify(t.Context(), text); err != nil || c.User != "ann" {
			t.Errorf("%s: %+v, %v", alg, c, err)
		}
		wantInvalid(t, verifier(t, Options{Secret: []byte(secret + "x")}), text, unknown)
	}
}

// TestConfusion: a token can not choose how it is verified.
func TestConfusion(t *testing.T) {
	t.Parallel()
	key := pairs()["RS256"]
	text := public(t, key)
	onlyPublic, both := verifier(t, Options{PEM: text}), verifier(t, Options{PEM: text, Secret: []byte(secret)})
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []*Verifier{onlyPublic, both} {
		// The public key is known to everybody; as a secret it is none.
		for _, forged := range [][]byte{text, []byte(strings.TrimSpace(string(text))), der, {}} {
			wantInvalid(t, v, sign(t, "HS256", forged, jwt.MapClaims{}), unknown)
		}
		wantInvalid(t, v, sign(t, "none", jwt.UnsafeAllowNoneSignatureType, jwt.MapClaims{}), unknown)
		good := sign(t, "RS256", key, jwt.MapClaims{})
		parts := strings.Split(good, ".")
		forged := base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"root","exp":99999999999}`))
		wantInvalid(t, v, parts[0]+"."+forged+"."+parts[2], unknown)
		wantInvalid(t, v, parts[0]+"."+parts[1]+".", unknown)
	}
	wantInvalid(t, onlyPublic, sign(t, "HS256", []byte(secret), jwt.MapClaims{}), unknown)
	// Nor does it bring its own key along.
	_, own, _ := ed25519.GenerateKey(rand.Reader)
	wantInvalid(t, both, sign(t, "EdDSA", own, jwt.MapClaims{}, "jku", "http://127.0.0.1:1/keys", "jwk", "x", "x5u", "http://127.0.0.1:1/"), unknown)
}

// TestClaims checks what a token must say, and what comes of it.
func TestClaims(t *testing.T) {
	t.Parallel()
	v := verifier(t, Options{
		Secret: []byte(secret), Issuer: "us", Audience: "mqtt", Leeway: time.Minute,
		PublishClaim: "pub", SubscribeClaim: "subs", ReceiveClaim: "recv",
	})
	now := time.Now()
	good := func() jwt.MapClaims { return jwt.MapClaims{"iss": "us", "aud": []string{"web", "mqtt"}} }
	with := func(name string, value any) string {
		c := good()
		c[name] = value
		return sign(t, "HS256", []byte(secret), c)
	}
	for _, tt := range []struct{ name, text, reason string }{
		{"good", with("x", 1), ""},
		{"expired within the leeway", with("exp", now.Add(-30*time.Second).Unix()), ""},
		{"expired", with("exp", now.Add(-2*time.Minute).Unix()), "has expired"},
		{"not yet, within the leeway", with("nbf", now.Add(30*time.Second).Unix()), ""},
		{"not yet", with("nbf", now.Add(time.Hour).Unix()), "is not valid yet"},
		{"another issuer", with("iss", "them"), "has another issuer"},
		{"another audience", with("aud", "web"), "is for another audience"},
		{"no user", with("sub", ""), "lacks the claim sub"},
		{"user is a number", with("sub", 7), "lacks the claim sub"},
		{"a filter that is none", with("pub", 7), "has a claim pub that is no list of topic filters"},
		{"filters that are none", with("subs", []any{"a", 7}), "has a claim subs that is no list of topic filters"},
	} {
		if tt.reason != "" {
			wantInvalid(t, v, tt.text, tt.reason)
		} else if _, err := v.Verify(t.Context(), tt.text); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	endless := good()
	endless["sub"] = "ann"
	text, _ := jwt.NewWithClaims(jwt.SigningMethodHS256, endless).SignedString([]byte(secret))
	wantInvalid(t, v, text, "lacks a claim")
	if c, err := verifier(t, Options{Secret: []byte(secret), Endless: true}).Verify(t.Context(), text); err != nil || !c.Expires.IsZero() {
		t.Errorf("endless: %+v, %v", c, err)
	}
	full := good()
	full["pub"], full["subs"], full["exp"] = "a/#", []string{"b", "c/+"}, now.Add(time.Hour).Unix()
	c, err := v.Verify(t.Context(), sign(t, "HS256", []byte(secret), full))
	if err != nil || !slices.Equal(c.Publish, []string{"a/#"}) || !slices.Equal(c.Subscribe, []string{"b", "c/+"}) || c.Receive != nil ||
		c.Expires.Unix() != now.Add(time.Hour+time.Minute).Unix() {
		t.Errorf("%+v, %v", c, err)
	}
	for _, text := range []string{"", "secret", "a.b.c", "eyJ.x", strings.Repeat("eyJ.", 3), "eyJ" + strings.Repeat("x", maxToken) + ".."} {
		if _, err := v.Verify(t.Context(), text); !errors.Is(err, ErrNone) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	wantInvalid(t, v, "eyJ.eyJ.x", "is malformed")
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skip(err) // the library itself refuses
	}
	for _, o := range []Options{
		{}, {Secret: []byte("short")}, {PEM: []byte("x")}, {PEM: public(t, weak)}, {KeySetURL: "file:///etc/passwd"}, {KeySetURL: "://"}, {KeySetURL: "http:"},
		{PEM: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})},
		{PEM: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")})},
	} {
		if v, err := New(o); err == nil {
			t.Errorf("%+v", v)
		}
	}
}

// jwksServer serves a key set that can be changed.
type jwksServer struct {
	*httptest.Server
	body  atomic.Value
	asked atomic.Int64
}

func newServer(t *testing.T) *jwksServer {
	s := &jwksServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.asked.Add(1)
		body, _ := s.body.Load().(string)
		if body == "" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	return s
}

// serve sets the keys, by name; "alg@name" also says their algorithm.
func (s *jwksServer) serve(t *testing.T, keys map[string]any) {
	t.Helper()
	var set jwkset.JWKSMarshal
	for name, key := range keys {
		alg, kid, ok := strings.Cut(name, "@")
		if !ok {
			alg, kid = "", name
		}
		k, err := jwkset.NewJWKFromKey(key, jwkset.JWKOptions{
			Metadata: jwkset.JWKMetadataOptions{KID: kid, ALG: jwkset.ALG(alg), USE: jwkset.UseSig},
			Marshal:  jwkset.JWKMarshalOptions{Private: true},
		})
		if err != nil {
			t.Fatal(err)
		}
		set.Keys = append(set.Keys, k.Marshal())
	}
	body, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	s.body.Store(string(body))
}

// TestKeySet: keys come from a server, which may change them at any time.
func TestKeySet(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	v := verifier(t, Options{KeySetURL: s.URL})
	rs, es, ed := pairs()["RS256"], pairs()["ES256"], pairs()["EdDSA"]
	token := func(alg string, key any, kid ...string) string {
		if len(kid) > 0 {
			return sign(t, alg, key, jwt.MapClaims{}, "kid", kid[0])
		}
		return sign(t, alg, key, jwt.MapClaims{})
	}
	check := func(what, text string, want error) {
		t.Helper()
		if _, err := v.Verify(t.Context(), text); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	later := func() { v.set.turn <- struct{}{}; v.set.tried = time.Time{}; <-v.set.turn }

	check("no server", token("RS256", rs, "1"), ErrUnavailable)
	n := s.asked.Load()
	check("no server, again at once", token("RS256", rs, "1"), ErrUnavailable)
	if s.asked.Load() != n {
		t.Error("the server is asked for each token")
	}
	s.serve(t, map[string]any{"1": rs.Public(), "PS512@ps": rs.Public(), "oct": []byte(secret)})
	later()
	check("key 1", token("RS256", rs, "1"), nil)
	check("key 1, not named", token("RS256", rs), nil)
	wantInvalid(t, v, token("RS256", rs, "ps"), unknown) // it is for another algorithm
	check("for its own", token("PS512", rs, "ps"), nil)
	wantInvalid(t, v, token("RS256", otherRSA(t), "1"), unknown)
	wantInvalid(t, v, token("HS256", []byte(secret), "oct"), unknown) // no shared secrets from there

	// Rotation: the new key works at once, the old one goes with the set.
	s.serve(t, map[string]any{"2": es.Public(), "3": ed.Public()})
	later()
	check("key 2, right after the rotation", token("ES256", es, "2"), nil)
	check("key 3", token("EdDSA", ed, "3"), nil)
	wantInvalid(t, v, token("RS256", rs, "1"), unknown)

	// Made-up names do not reach the server each.
	later()
	n = s.asked.Load()
	for i := range 50 {
		wantInvalid(t, v, token("ES256", es, fmt.Sprint("made up ", i)), unknown)
	}
	if s.asked.Load() > n+1 {
		t.Errorf("asked %d times", s.asked.Load()-n)
	}

	// What is known is known while the server is down; what is not can not be told.
	for _, body := range []string{"", "no JSON", `{"keys":[]}`, `{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`, strings.Repeat(" ", maxKeySet+1)} {
		s.body.Store(body)
		later()
		check("known", token("ES256", es, "2"), nil)
		check("not known", token("ES256", es, "4"), ErrUnavailable)
	}
}

// otherRSA is some other RSA key.
func otherRSA(t *testing.T) crypto.Signer {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestKeySetRefresh: an old set is asked for again by the way.
func TestKeySetRefresh(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	es, ed := pairs()["ES256"], pairs()["EdDSA"]
	s.serve(t, map[string]any{"1": es.Public()})
	v := verifier(t, Options{KeySetURL: s.URL, Refresh: time.Nanosecond})
	text := sign(t, "ES256", es, jwt.MapClaims{}, "kid", "1")
	if _, err := v.Verify(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	s.serve(t, map[string]any{"1": ed.Public()}) // another key of the same name
	v.set.turn <- struct{}{}
	v.set.tried = time.Time{}
	<-v.set.turn
	if _, err := v.Verify(t.Context(), text); err != nil {
		t.Error("the old set is not good meanwhile:", err)
	}
	for until := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := v.Verify(t.Context(), text); err != nil {
			break
		}
		if time.Now().After(until) {
			t.Fatal("the set is never asked for again")
		}
	}
}
