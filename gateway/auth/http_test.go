package auth

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/gateway/auth/callback"
)

// authServer is an HTTP server that is asked. Its answer can be changed, also
// to none: a status of 0 never answers.
type authServer struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	body   string
	asked  []string // as JSON, the password left out
	stop   chan struct{}
}

func newAuthServer(t testing.TB) *authServer {
	s := &authServer{status: 200, stop: make(chan struct{})}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var question map[string]any
		body, _ := io.ReadAll(r.Body)
		json.Unmarshal(body, &question)
		s.mu.Lock()
		s.asked = append(s.asked, fmt.Sprint(r.URL.Path, " ", question["username"], " ", question["password"], " ", question["action"], " ", question["topic"]))
		status, answer := s.status, s.body
		s.mu.Unlock()
		if status == 0 {
			select {
			case <-r.Context().Done():
			case <-s.stop:
			}
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprint(w, answer)
	}))
	t.Cleanup(func() { close(s.stop); s.Close() })
	return s
}

func (s *authServer) answer(status int, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.body = status, body
}

func (s *authServer) questions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

func endpoint(t testing.TB, url string, timeout time.Duration) *callback.Endpoint {
	t.Helper()
	e, err := callback.New(callback.Options{URL: url, Timeout: timeout, Slots: make(chan struct{}, 4)})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// hasty is how long is waited for a server that does not answer.
const hasty = 200 * time.Millisecond

// TestHTTPUsers: the server decides; while it does not answer, or not sensibly,
// nobody new is let in (F46).
func TestHTTPUsers(t *testing.T) {
	t.Parallel()
	s := newAuthServer(t)
	h := NewHTTPUsers("http", endpoint(t, s.URL, patience), time.Hour)
	f := passwordFile(t, "file:"+hashOf(t, "p"))
	with := func(h *HTTPUsers) *gateway.Gateway {
		return start(t, func(o *gateway.Options) {
			o.Authenticator = &Chain{Links: []Link{{"http", h}, {"file", NewPasswords("file", f, NewHasher(0, 0))}}}
			o.Authorizer = Permissions{{"answer", Grants{}}}
		})
	}
	g := with(h)
	for i, tt := range []struct {
		status            int
		body, five, three string
	}{
		{200, "", "CONNACK 0x00", "CONNACK 0x00"},
		{200, `{"result":"allow"}`, "CONNACK 0x00", "CONNACK 0x00"},
		{200, `{"result":"deny"}`, "CONNACK 0x86", "CONNACK 0x04"},
		{200, `{"ok":false}`, "CONNACK 0x86", "CONNACK 0x04"},
		{200, `{"result":"ignore"}`, "CONNACK 0x86", "CONNACK 0x04"},
		{403, "", "CONNACK 0x86", "CONNACK 0x04"},
		{404, "", "CONNACK 0x86", "CONNACK 0x04"},
		{500, "", "CONNACK 0x88", "CONNACK 0x03"},
		{302, "", "CONNACK 0x88", "CONNACK 0x03"},
		{429, "", "CONNACK 0x88", "CONNACK 0x03"},
		{200, `{"result":"maybe"}`, "CONNACK 0x88", "CONNACK 0x03"},
		{200, `{"result":`, "CONNACK 0x88", "CONNACK 0x03"},
		{200, `{"expires":1}`, "CONNACK 0x87", "CONNACK 0x05"},
		{200, `{"publish":["a/#/b"]}`, "CONNACK 0x88", "CONNACK 0x03"},
	} {
		s.answer(tt.status, tt.body)
		if got := show(connect(t, g, fmt.Sprint("c", i), as(fmt.Sprint("u", i), "p")).next()); got != tt.five {
			t.Errorf("%d %s: %s, want %s", tt.status, tt.body, got, tt.five)
		}
		if got := show(connect(t, g, fmt.Sprint("d", i), as(fmt.Sprint("v", i), "p"), v3).next()); got != tt.three {
			t.Errorf("%d %s, MQTT 3: %s, want %s", tt.status, tt.body, got, tt.three)
		}
	}
	// It does not answer now: what it said yes to is remembered, for the same
	// password alone, and nobody else is asked in its place.
	s.answer(0, "")
	remembers := NewHTTPUsers("http", endpoint(t, s.URL, hasty), time.Hour)
	h.good.mu.Lock()
	remembers.key, remembers.good.m = h.key, maps.Clone(h.good.m)
	h.good.mu.Unlock()
	silent := with(remembers)
	for _, tt := range []struct{ user, pass, want string }{
		{"u0", "p", "CONNACK 0x00"}, {"u0", "q", "CONNACK 0x88"}, {"u2", "p", "CONNACK 0x88"}, {"file", "p", "CONNACK 0x88"},
	} {
		if got := show(connect(t, silent, "c0", as(tt.user, tt.pass)).next()); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.user, got, tt.want)
		}
	}
	if got := show(connect(t, silent, "d0", as("v2", "p"), v3).next()); got != "CONNACK 0x03" {
		t.Errorf("MQTT 3: %s", got)
	}
	s.answer(404, "")
	join(t, g, "f", as("file", "p"))
	n := len(s.questions())
	if got := show(connect(t, g, "c").next()); got != "CONNACK 0x87" || len(s.questions()) != n {
		t.Errorf("without credentials: %s", got)
	}
	s.answer(200, `{"user":"ann","publish":["a/+"]}`)
	c := join(t, g, "a", as("key-17", "p"))
	c.send(publish("a/b", "x", 1, false), publish("b", "x", 1, false))
	c.expect("PUBACK 0x10", "PUBACK 0x87")
	s.Close() // nobody is there at all
	if got := show(connect(t, g, "c", as("new", "p")).next()); got != "CONNACK 0x88" {
		t.Errorf("no server: %s", got)
	}
}

// TestHTTPPermissions: the server is asked once for each thing, and while it does
// not answer, nothing new is allowed.
func TestHTTPPermissions(t *testing.T) {
	t.Parallel()
	s := newAuthServer(t)
	with := func(timeout time.Duration) (*gateway.Gateway, *client) {
		p := NewHTTPPermissions(endpoint(t, s.URL, timeout), time.Hour, true)
		g := start(t, func(o *gateway.Options) {
			o.Authenticator = gateway.AuthenticatorFunc(func(_ context.Context, r *gateway.ConnectRequest) (gateway.Identity, error) {
				return gateway.Identity{Principal: r.Client.Username}, nil
			})
			o.Authorizer = Permissions{{"http", p}}
		})
		return g, join(t, g, "c", as("u", "p"))
	}
	g, c := with(patience)
	c.send(subscribe(0, "a"))
	c.expect("SUBACK 00")
	for range 3 {
		c.send(publish("a", "x", 0, false))
		c.expect("PUBLISH a x")
		g.ForgetAnswers()
	}
	if got := fmt.Sprint(s.questions()); got != "[/ u <nil> subscribe a / u <nil> publish a / u <nil> receive a]" &&
		got != "[/ u <nil> subscribe a / u <nil> receive a / u <nil> publish a]" {
		t.Errorf("asked %s", got)
	}
	s.answer(403, "")
	c.send(publish("b", "x", 1, false))
	c.expect("PUBACK 0x87")
	s.answer(500, "")
	before, began := len(s.questions()), time.Now()
	for range 10 {
		c.send(publish("c", "x", 1, false))
		c.expect("PUBACK 0x87")
		c.send(publish("a", "x", 0, false))
		c.expect("PUBLISH a x")
	}
	if n, most := len(s.questions())-before, 1+int(time.Since(began)/forgetFailures); n > most {
		t.Errorf("asked %d times in %v though it failed a moment ago, want %d", n, time.Since(began), most)
	}
	s.answer(0, "")
	_, c = with(hasty)
	c.send(publish("d", "x", 1, false), subscribe(0, "d"))
	c.expect("PUBACK 0x87", "SUBACK 87")
	// Not asked of deliveries: what could be subscribed to arrives.
	lax := NewHTTPPermissions(endpoint(t, s.URL, time.Second), time.Hour, false)
	if v, _, err := lax.Decide(t.Context(), &gateway.Client{}, gateway.Access{Action: gateway.Receive, Topic: "a"}); v != 1 || err != nil {
		t.Errorf("%v, %v", v, err)
	}
}
