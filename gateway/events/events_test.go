package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/protocol"
)

// receiver is an HTTP server that takes events. The first of the answers is
// that of the first request; after the last one it is 204.
type receiver struct {
	*httptest.Server
	answers []int

	mu      sync.Mutex
	bodies  []string
	headers []http.Header
	records []Record
	came    chan struct{}
}

func newReceiver(t *testing.T, answers ...int) *receiver {
	r := &receiver{answers: answers, came: make(chan struct{}, 1000)}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bodies, r.headers = append(r.bodies, string(body)), append(r.headers, q.Header)
	if n := len(r.bodies); n <= len(r.answers) {
		w.WriteHeader(r.answers[n-1])
		return
	}
	var batch struct{ Events []Record }
	if json.Unmarshal(body, &batch) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.records = append(r.records, batch.Events...)
	for range batch.Events {
		r.came <- struct{}{}
	}
	w.WriteHeader(http.StatusNoContent)
}

// await waits until n records have come.
func (r *receiver) await(t *testing.T, n int) []Record {
	t.Helper()
	for range n {
		select {
		case <-r.came:
		case <-time.After(30 * time.Second):
			t.Fatalf("only %d of %d records have come", len(r.taken()), n)
		}
	}
	return r.taken()
}

func (r *receiver) taken() []Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Record(nil), r.records...)
}

func teller(t *testing.T, o Options, sinks ...Sink) *Teller {
	t.Helper()
	o.Gateway = "gw-1"
	told := New(o, sinks...)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		told.Close(ctx)
	})
	return told
}

func post(t *testing.T, o HTTPOptions) *HTTP {
	t.Helper()
	h, err := NewHTTP(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// figure reads one value of the teller's figures.
func figure(t *testing.T, told *Teller, name string, labels ...string) float64 {
	t.Helper()
	for _, f := range told.Figures() {
		for _, v := range f.Values {
			if f.Name == name && strings.Join(v.Labels, ",") == strings.Join(labels, ",") {
				return v.Number
			}
		}
	}
	t.Fatalf("there is no figure %s of %v", name, labels)
	return 0
}

// TestRecords: what each kind of event tells, and never the payload.
func TestRecords(t *testing.T) {
	t.Parallel()
	client := &gateway.Client{ID: "pump", Username: "plant", Principal: "p1", Listener: "tcp", Version: protocol.V5,
		Remote: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 99}}
	message := &backend.Message{Topic: "a/b", Payload: []byte("SECRET"), Properties: []byte("SECRET"), QoS: 1, Retain: true, Publisher: "x"}
	const who = `"client":"pump","user":"plant","principal":"p1","remote":"10.0.0.1:99","listener":"tcp","version":"5.0"`
	const what = `"topic":"a/b","qos":1,"retain":true,"publisher":"x","bytes":6`
	for _, c := range []struct {
		event gateway.Event
		want  string
	}{
		{gateway.Event{Kind: gateway.EventStarted}, `"kind":"started"`},
		{gateway.Event{Kind: gateway.EventConnected, Client: client}, `"kind":"connected",` + who},
		{gateway.Event{Kind: gateway.EventRefused, Client: client, Code: protocol.Banned, Reason: "banned"},
			`"kind":"refused",` + who + `,"code":138,"reason":"banned"`},
		{gateway.Event{Kind: gateway.EventDisconnected, Client: client, Reason: "client disconnected"},
			`"kind":"disconnected",` + who + `,"code":0,"reason":"client disconnected"`},
		{gateway.Event{Kind: gateway.EventTakenOver, Client: client}, `"kind":"taken_over",` + who},
		{gateway.Event{Kind: gateway.EventSubscribed, Client: client, Filter: "a/#"}, `"kind":"subscribed",` + who + `,"filter":"a/#","qos":0`},
		{gateway.Event{Kind: gateway.EventUnsubscribed, Client: client, Filter: "a/#"}, `"kind":"unsubscribed",` + who + `,"filter":"a/#"`},
		{gateway.Event{Kind: gateway.EventDropped, Client: client, Message: message, Drop: gateway.DropQueueFull, Count: 3},
			`"kind":"dropped",` + who + `,"reason":"queue_full",` + what + `,"count":3`},
		{gateway.Event{Kind: gateway.EventSessionEnded, Client: &gateway.Client{ID: "pump"}}, `"kind":"session_ended","client":"pump"`},
		{gateway.Event{Kind: gateway.EventPacketSent, Client: client, Packet: protocol.PINGRESP}, `"kind":"packet_sent",` + who + `,"reason":"PINGRESP"`},
	} {
		text, err := json.Marshal(record(&c.event))
		if err != nil {
			t.Fatal(err)
		}
		want := c.want
		got := strings.Replace(string(text), `"time":"0001-01-01T00:00:00Z","gateway":"",`, "", 1)
		got = strings.Replace(got, `,"time":"0001-01-01T00:00:00Z","gateway":""`, "", 1)
		if want = `{"id":"","seq":0,` + want + `}`; got != want {
			t.Errorf("%v:\n got %s\nwant %s", c.event.Kind, got, want)
		}
	}
}

// TestHTTPDelivers: a receiver that fails at first gets every event in the end,
// once, in order, in batches, with the token.
func TestHTTPDelivers(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, 503, 429)
	told := teller(t, Options{Batch: 7}, post(t, HTTPOptions{URL: r.URL, Token: "the-token"}))
	const n = 50
	for i := range n {
		told.Observe(gateway.Event{Kind: gateway.EventUnsubscribed, Filter: fmt.Sprint(i)})
	}
	ids := map[string]bool{}
	for i, got := range r.await(t, n) {
		if got.Filter != fmt.Sprint(i) || got.Seq != uint64(i+1) || got.Gateway != "gw-1" || got.Time.IsZero() || ids[got.ID] {
			t.Errorf("event %d is %+v", i, got)
		}
		ids[got.ID] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bodies[0] != r.bodies[1] || r.bodies[1] != r.bodies[2] {
		t.Error("what was not taken was not told again as it was")
	}
	for i, h := range r.headers {
		if h.Get("Authorization") != "Bearer the-token" || h.Get("Content-Type") != "application/json" {
			t.Errorf("headers %v", h)
		}
		if n := strings.Count(r.bodies[i], `"seq"`); n > 7 {
			t.Errorf("a batch of %d", n)
		}
	}
}

// TestHTTPRefused: what a receiver does not want is not told again, and what
// comes after it is.
func TestHTTPRefused(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, 400)
	told := teller(t, Options{Batch: 1}, post(t, HTTPOptions{URL: r.URL}))
	told.Observe(gateway.Event{Kind: gateway.EventStarted})
	told.Observe(gateway.Event{Kind: gateway.EventStopping})
	if got := r.await(t, 1); got[0].Kind != "stopping" || got[0].Seq != 2 {
		t.Errorf("got %+v", got)
	}
	if n := figure(t, told, "events_lost_total", "http", "refused"); n != 1 {
		t.Errorf("%v refused, want 1", n)
	}
}

// TestHTTPRedirect: the token goes to the server that it is for.
func TestHTTPRedirect(t *testing.T) {
	t.Parallel()
	other := newReceiver(t)
	s := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer s.Close()
	err := post(t, HTTPOptions{URL: s.URL, Token: "the-token"}).Send(context.Background(), []Record{{}})
	var refused *RefusedError
	if !errors.As(err, &refused) || len(other.taken()) > 0 {
		t.Errorf("got %v", err)
	}
}

// TestErrorsNameNoURL: a URL may carry a key.
func TestErrorsNameNoURL(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	h := post(t, HTTPOptions{URL: "http://" + l.Addr().String() + "/?key=SECRET"})
	if err := h.Send(context.Background(), []Record{{}}); err == nil || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("got %v", err)
	}
}

// blocked is a sink whose receiver never answers.
type blocked struct{ name string }

func (b blocked) Name() string { return b.name }
func (b blocked) Send(ctx context.Context, _ []Record) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestQueueIsBounded: a receiver that stands still costs neither the gateway
// nor the other receivers anything; what it misses is counted.
func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	told := teller(t, Options{Queue: 20, Batch: 5}, blocked{"slow"}, post(t, HTTPOptions{URL: r.URL}))
	const n = 100
	for i := range n {
		told.Observe(gateway.Event{Kind: gateway.EventUnsubscribed, Filter: fmt.Sprint(i)})
		r.await(t, 1)
	}
	// The first batch is under way, and has from one to five of them.
	lost := figure(t, told, "events_lost_total", "slow", "queue_full")
	if queued := figure(t, told, "events_queued", "slow"); queued != 20 || lost < n-25 || lost > n-21 {
		t.Errorf("%v queued, %v lost", queued, lost)
	}
	if n := figure(t, told, "events_lost_total", "http", "queue_full"); n != 0 {
		t.Errorf("the other receiver lost %v", n)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	told.Close(ctx) // returns, though the receiver does not
	if given := figure(t, told, "events_lost_total", "slow", "unreachable"); given+lost != n {
		t.Errorf("%v + %v lost, want all %d", given, lost, n)
	}
	told.Observe(gateway.Event{Kind: gateway.EventStopped}) // harmless
}

// TestCloseTellsTheRest: what waits at the end is told.
func TestCloseTellsTheRest(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, 503)
	told := New(Options{Batch: 3}, post(t, HTTPOptions{URL: r.URL}))
	for range 10 {
		told.Observe(gateway.Event{Kind: gateway.EventConnected})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	told.Close(ctx)
	if n := len(r.taken()); n != 10 {
		t.Errorf("%d told, want 10", n)
	}
}

// TestGivesUp: a batch that can not be told for too long is lost, and the next
// one has its chance.
func TestGivesUp(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, 500, 500, 500, 500)
	told := teller(t, Options{Batch: 1, Retry: 250 * time.Millisecond}, post(t, HTTPOptions{URL: r.URL}))
	for range 20 {
		told.Observe(gateway.Event{Kind: gateway.EventConnected})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	told.Close(ctx)
	lost := figure(t, told, "events_lost_total", "http", "unreachable")
	if n := len(r.taken()); lost < 1 || n+int(lost) != 20 {
		t.Errorf("%d told, %v lost", n, lost)
	}
}

func TestParseKinds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		names string
		want  gateway.EventKind
		bad   bool
	}{
		{"", Default, false},
		{"connected", gateway.EventConnected, false},
		{"connected,taken_over", gateway.EventConnected | gateway.EventTakenOver, false},
		{"all", gateway.EventTakenOver<<1 - 1, false},
		{"connected,nonsense", 0, true},
	} {
		var names []string
		if c.names != "" {
			names = strings.Split(c.names, ",")
		}
		got, err := ParseKinds(names)
		if got != c.want || (err != nil) != c.bad {
			t.Errorf("%q: %b, %v", c.names, got, err)
		}
	}
}

func TestNewHTTP(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "ftp://x", "http://", "x", "http://[::1"} {
		if _, err := NewHTTP(HTTPOptions{URL: bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
