package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// description is the API's, as a gateway serves it.
type description struct {
	doc    *openapi3.T
	router routers.Router

	mu   sync.Mutex
	used map[string]bool // operations that were asked for and did what they are for
}

func describe(t *testing.T, base string) *description {
	t.Helper()
	answer, err := http.Get(base + "/api/v1/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Fatalf("openapi.yaml: %v", err)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return &description{doc: doc, router: router, used: map[string]bool{}}
}

// client asks one gateway.
type client struct {
	base string
	d    *description
}

// ask sends a request that the description allows, and holds the answer against
// it.
func (c client) ask(t *testing.T, method, path string, query url.Values, body string) (int, []byte) {
	t.Helper()
	r := c.request(t, method, path, query, body)
	return c.do(t, r, true)
}

func (c client) request(t *testing.T, method, path string, query url.Values, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, c.base+"/api/v1"+path+"?"+query.Encode(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

func (c client) do(t *testing.T, r *http.Request, valid bool) (int, []byte) {
	t.Helper()
	described := r.Clone(context.Background())
	described.URL = &url.URL{Path: r.URL.Path, RawQuery: r.URL.RawQuery}
	route, params, err := c.d.router.FindRoute(described)
	if err != nil {
		t.Fatalf("%s %s is not described: %v", r.Method, r.URL.Path, err)
	}
	sent, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	described.Body, r.Body = io.NopCloser(bytes.NewReader(sent)), io.NopCloser(bytes.NewReader(sent))
	input := &openapi3filter.RequestValidationInput{
		Request: described, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	if err := openapi3filter.ValidateRequest(context.Background(), input); (err == nil) != valid {
		t.Fatalf("%s %s, by its description: %v", r.Method, r.URL, err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	output := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: answer.StatusCode, Header: answer.Header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	if err := openapi3filter.ValidateResponse(context.Background(), output.SetBodyBytes(text)); err != nil {
		t.Fatalf("%s %s: the answer %d is not as described: %v\n%s", r.Method, r.URL, answer.StatusCode, err, text)
	}
	if answer.StatusCode < 300 {
		c.d.mu.Lock()
		c.d.used[route.Operation.OperationID] = true
		c.d.mu.Unlock()
	}
	return answer.StatusCode, text
}

// want asks and expects a status; the answer is decoded.
func want[T any](t *testing.T, c client, status int, method, path string, query url.Values, body string) (v T) {
	t.Helper()
	got, text := c.ask(t, method, path, query, body)
	if got != status {
		t.Fatalf("%s %s %v: %d, want %d\n%s", method, path, query, got, status, text)
	}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

type nothing struct{}

type apiClient struct {
	ID            string `json:"id"`
	Connected     bool   `json:"connected"`
	Gateway       string `json:"gateway"`
	Durable       bool   `json:"durable"`
	Subscriptions int    `json:"subscriptions"`
	Backlog       int64  `json:"backlog"`
	Connection    *struct {
		User    string `json:"user"`
		Remote  string `json:"remote"`
		Version string `json:"version"`
		Traced  bool   `json:"traced"`
	} `json:"connection"`
}

func id(client string) url.Values { return url.Values{"id": {client}} }

// eventually asks until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// TestAPI uses every operation of the description, at one gateway of a cluster
// about clients of another, and once more at a gateway alone.
func TestAPI(t *testing.T) {
	t.Run("cluster", func(t *testing.T) {
		c := harness.StartCluster(t, harness.ClusterOptions{Gateways: 2, Env: []string{"HTTP_TOKEN=" + token, "AUTH_ANONYMOUS=true"}})
		testAPI(t, c.Gateways[0], c.Gateways[1], 2)
	})
	t.Run("alone", func(t *testing.T) {
		g := harness.Start(t, "HTTP_TOKEN="+token)
		testAPI(t, g, g, 1)
	})
}

// awkward is a client identifier that a page must not run, and that a path
// could not hold.
const awkward = `../<script>alert("x")</script>/ü%2F`

func testAPI(t *testing.T, asked, other *harness.Gateway, gateways int) {
	d := describe(t, asked.HTTP)
	c := client{asked.HTTP, d}
	lamp := wire.Dial(t, other.TCP).Connect(wire.Connect{ClientID: awkward, Version: wire.V5, Props: wire.Props{wire.U32Prop(wire.SessionExpiryID, 600)}})
	lamp.Subscribe("room/+/light", 1)
	live := wire.Dial(t, other.TCP).Connect(wire.Connect{ClientID: "live", Clean: true})
	live.Subscribe("room/#", 0)

	testGateways(t, c, gateways)
	testClients(t, c)
	testMessages(t, c, live, lamp)
	testTrace(t, c, other, live)
	testBans(t, c, other)
	testDisconnect(t, c, lamp)
	testRefusals(t, c)

	for path, item := range d.doc.Paths.Map() {
		for method, op := range item.Operations() {
			if !d.used[op.OperationID] {
				t.Errorf("%s %s (%s) was not used", method, path, op.OperationID)
			}
		}
	}
	if n := len(d.used); n != 13 {
		t.Errorf("%d operations: %q", n, slices.Sorted(maps.Keys(d.used)))
	}
}

func testGateways(t *testing.T, c client, n int) {
	list := want[struct {
		Gateways []struct {
			Self, Answered, Ready bool
			Connections           int
		}
	}](t, c, 200, "GET", "/gateways", nil, "").Gateways
	self, answered := 0, 0
	for _, g := range list {
		if g.Self {
			self++
		}
		if g.Answered && g.Ready {
			answered++
		}
	}
	if len(list) != n || self != 1 || answered != n {
		t.Errorf("%+v", list)
	}
}

func testClients(t *testing.T, c client) {
	page := func(query url.Values) []apiClient {
		t.Helper()
		var all []apiClient
		for range 1000 {
			p := want[struct {
				Clients []apiClient
				Next    string
			}](t, c, 200, "GET", "/clients", query, "")
			all = append(all, p.Clients...)
			if p.Next == "" {
				return all
			}
			query.Set("cursor", p.Next)
		}
		t.Fatal("the pages do not end")
		return nil
	}
	if all := page(url.Values{"contains": {"<script>"}, "limit": {"1"}}); len(all) != 1 || all[0].ID != awkward || !all[0].Connected || all[0].Connection == nil || all[0].Connection.Version != "5.0" {
		t.Errorf("search: %+v", all)
	}
	if all := page(url.Values{"state": {"connected"}}); len(all) != 2 {
		t.Errorf("connected: %+v", all)
	}
	if all := page(url.Values{"state": {"disconnected"}}); len(all) != 0 {
		t.Errorf("not connected: %+v", all)
	}
	one := want[struct {
		Client        apiClient
		Subscriptions []struct{ Filter string }
	}](t, c, 200, "GET", "/client", id("live"), "")
	if one.Client.Durable || one.Client.Connection == nil || !strings.HasPrefix(one.Client.Connection.Remote, "127.0.0.1:") ||
		one.Client.Subscriptions != 1 || len(one.Subscriptions) != 1 || one.Subscriptions[0].Filter != "room/#" {
		t.Errorf("%+v", one)
	}
	if all := page(url.Values{"gateway": {one.Client.Gateway}}); len(all) != 2 {
		t.Errorf("of a gateway: %+v", all)
	}
	want[nothing](t, c, 404, "GET", "/client", id("nobody"), "")
}

func testMessages(t *testing.T, c client, live, lamp *wire.Client) {
	subs := want[struct {
		Subscribers []struct {
			Client    string
			Connected bool
			Filters   []string
		}
		Missing []string
	}](t, c, 200, "GET", "/subscribers", url.Values{"topic": {"room/1/light"}}, "")
	if got := fmt.Sprintf("%+v", subs.Subscribers); len(subs.Subscribers) != 2 || len(subs.Missing) != 0 ||
		!strings.Contains(got, "[room/+/light]") || !strings.Contains(got, "[room/#]") {
		t.Errorf("who gets it: %+v", subs)
	}
	want[nothing](t, c, 202, "POST", "/publish", nil, `{"topic":"room/1/light","payload":"on","qos":1,"retain":true}`)
	for _, w := range []*wire.Client{live, lamp} {
		if p := w.Receive(); p.Topic != "room/1/light" || p.Payload != "on" {
			t.Errorf("%+v", p)
		}
	}
	want[nothing](t, c, 202, "POST", "/publish", nil, `{"topic":"bytes","payload_base64":"/wA=","retain":true,"expiry_seconds":60}`)
	list := want[struct {
		Messages []struct {
			Topic, Payload, PayloadBase64 string
			B64                           string `json:"payload_base64"`
		}
	}](t, c, 200, "GET", "/retained", nil, "").Messages
	got := map[string]string{}
	for _, m := range list {
		got[m.Topic] = m.Payload + m.B64
	}
	if len(got) != 2 || got["room/1/light"] != "on" || got["bytes"] != "/wA=" {
		t.Errorf("retained: %+v", list)
	}
	want[nothing](t, c, 204, "DELETE", "/retained", url.Values{"topic": {"bytes"}}, "")
	want[nothing](t, c, 404, "DELETE", "/retained", url.Values{"topic": {"bytes"}}, "")
}

// testTrace: the packets of the client are in the log of its gateway, without
// what is in them.
func testTrace(t *testing.T, c client, at *harness.Gateway, live *wire.Client) {
	want[struct{ Missing []string }](t, c, 200, "PUT", "/client/trace", id("live"), `{"seconds":60}`)
	live.Publish("traced/topic", 1, "a secret payload")
	eventually(t, "the packet is in the log", func() bool {
		return strings.Contains(at.Logs(), "topic=traced/topic payload_bytes=16") && strings.Contains(at.Logs(), "direction=out type=PUBACK")
	})
	want[struct{ Missing []string }](t, c, 200, "PUT", "/client/trace", id("live"), `{"seconds":0}`)
	live.Publish("untraced/topic", 1, "a secret payload")
	if log := at.Logs(); strings.Contains(log, "untraced") || strings.Contains(log, "secret payload") || strings.Contains(log, token) {
		t.Errorf("in the log: more than what is traced, a payload, or the token:\n%s", log)
	}
}

func testBans(t *testing.T, c client, other *harness.Gateway) {
	bad := wire.Dial(t, other.TCP).Connect(wire.Connect{ClientID: "bad", Version: wire.V5, Clean: true})
	want[nothing](t, c, 204, "PUT", "/bans", nil, `{"kind":"client","value":"bad","reason":"it floods","seconds":600}`)
	bad.ExpectDisconnect(0x98)
	wire.Dial(t, other.TCP).Refused(wire.Connect{ClientID: "bad", Version: wire.V5, Clean: true}, 0x8A)
	want[nothing](t, c, 204, "PUT", "/bans", nil, `{"kind":"address","value":"10.0.0.0/8"}`)
	list := want[struct {
		Bans []struct{ Kind, Value, Reason string }
	}](t, c, 200, "GET", "/bans", nil, "").Bans
	if len(list) != 2 {
		t.Errorf("bans: %+v", list)
	}
	want[nothing](t, c, 204, "DELETE", "/bans", url.Values{"kind": {"client"}, "value": {"bad"}}, "")
	want[nothing](t, c, 404, "DELETE", "/bans", url.Values{"kind": {"client"}, "value": {"bad"}}, "")
	wire.Dial(t, other.TCP).Connect(wire.Connect{ClientID: "bad", Version: wire.V5, Clean: true}).Disconnect()
	want[nothing](t, c, 204, "DELETE", "/bans", url.Values{"kind": {"address"}, "value": {"10.0.0.0/8"}}, "")
}

func testDisconnect(t *testing.T, c client, lamp *wire.Client) {
	want[nothing](t, c, 202, "POST", "/client/disconnect", id(awkward), "")
	lamp.ExpectDisconnect(0x98)
	one := func() apiClient {
		return want[struct{ Client apiClient }](t, c, 200, "GET", "/client", id(awkward), "").Client
	}
	eventually(t, "it is not connected", func() bool { return !one().Connected })
	want[nothing](t, c, 202, "POST", "/publish", nil, `{"topic":"room/2/light","payload":"off","qos":1}`)
	if got := one(); got.Backlog != 1 || !got.Durable {
		t.Errorf("%+v", got)
	}
	want[nothing](t, c, 404, "POST", "/client/disconnect", id(awkward), "")
	want[nothing](t, c, 204, "DELETE", "/client", id(awkward), "")
	want[nothing](t, c, 404, "DELETE", "/client", id(awkward), "")
	want[nothing](t, c, 404, "GET", "/client", id(awkward), "")
}

// testRefusals: what is wrong is said, in the form that is described.
func testRefusals(t *testing.T, c client) {
	for _, test := range []struct {
		name, method, path, query, body string
		change                          func(*http.Request)
		status                          int
	}{
		{name: "no token", method: "GET", path: "/clients", change: func(r *http.Request) { r.Header.Del("Authorization") }, status: 401},
		{name: "wrong token", method: "GET", path: "/clients", change: func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, status: 401},
		{name: "another site's page", method: "POST", path: "/publish", body: `{"topic":"a"}`, change: func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, status: 403},
		{name: "a form", method: "POST", path: "/publish", body: `{"topic":"a"}`, change: func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, status: 415},
		{name: "large body", method: "POST", path: "/publish", body: `{"topic":"a","payload":"` + strings.Repeat("x", 2<<20) + `"}`, status: 413},
		{name: "no JSON", method: "POST", path: "/publish", body: `{"topic":`, status: 400},
		{name: "unknown field", method: "POST", path: "/publish", body: `{"topic":"a","colour":"red"}`, status: 400},
		{name: "wildcard", method: "POST", path: "/publish", body: `{"topic":"a/#"}`, status: 400},
		{name: "reserved topic", method: "POST", path: "/publish", body: `{"topic":"$SYS/x"}`, status: 400},
		{name: "QoS 3", method: "POST", path: "/publish", body: `{"topic":"a","qos":3}`, status: 400},
		{name: "limit", method: "GET", path: "/clients", query: "limit=0", status: 400},
		{name: "state", method: "GET", path: "/clients", query: "state=asleep", status: 400},
		{name: "filter", method: "GET", path: "/retained", query: "filter=a%2F%23%2Fb", status: 400},
		{name: "no id", method: "GET", path: "/client", status: 400},
		{name: "no address", method: "PUT", path: "/bans", body: `{"kind":"address","value":"here"}`, status: 400},
		{name: "expiry of 0", method: "POST", path: "/publish", body: `{"topic":"a","expiry_seconds":0}`, status: 400},
		{name: "no ban of that kind", method: "DELETE", path: "/bans", query: "kind=foo&value=x", status: 400},
		{name: "no address to unban", method: "DELETE", path: "/bans", query: "kind=address&value=here", status: 400},
		{name: "too deep", method: "POST", path: "/publish", body: `{"topic":"` + strings.Repeat("a/", 70) + `"}`, status: 400},
		{name: "trace", method: "PUT", path: "/client/trace", query: "id=x", body: `{"seconds":-1}`, status: 400},
	} {
		t.Run(test.name, func(t *testing.T) {
			query, _ := url.ParseQuery(test.query)
			r := c.request(t, test.method, test.path, query, test.body)
			if test.change != nil {
				test.change(r)
			}
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			var p struct {
				Title, Detail string
				Status        int
			}
			if err := json.NewDecoder(answer.Body).Decode(&p); err != nil || answer.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%v, %v", err, answer.Header)
			}
			if answer.StatusCode != test.status || p.Status != test.status || p.Detail == "" || p.Title == "" {
				t.Errorf("%d %+v, want %d", answer.StatusCode, p, test.status)
			}
		})
	}
}

// TestOff: without a token there is no API, and the rest is there.
func TestOff(t *testing.T) {
	g := harness.Shared(t)
	for path, status := range map[string]int{"/api/v1/clients": 404, "/api/v1/openapi.yaml": 200, "/metrics": 200, "/readyz": 200, "/status.json": 200, "/": 200} {
		answer, err := http.Get(g.HTTP + path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != status {
			t.Errorf("%s: %s, want %d", path, answer.Status, status)
		}
	}
}
