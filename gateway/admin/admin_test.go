package admin

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/protocol"
)

// fixed is a gateway that shows what it is told to.
type fixed struct {
	ready error
	stats gateway.Stats
	reads atomic.Int64
}

func (f *fixed) Ready() error { return f.ready }

func (f *fixed) Stats() gateway.Stats {
	f.reads.Add(1)
	return f.stats
}

func get(t *testing.T, g Gateway, method, target string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	New(Options{Gateway: g, Version: "1.2.3"}).Handler().ServeHTTP(w, httptest.NewRequest(method, target, nil))
	return w.Code, w.Body.String()
}

func TestProbes(t *testing.T) {
	away := &fixed{ready: errors.New("store: connection refused")}
	tests := []struct {
		name           string
		g              *fixed
		method, target string
		status         int
		contains       string
	}{
		{"alive", &fixed{}, "GET", "/healthz", 200, "alive"},
		{"alive without a store", away, "GET", "/healthz", 200, "alive"},
		{"ready", &fixed{}, "GET", "/readyz", 200, "ready\n"},
		{"not ready, and which part", away, "GET", "/readyz", 503, "not ready: store: connection refused\n"},
		{"by HEAD", away, "HEAD", "/readyz", 503, ""},
		{"not by POST", &fixed{}, "POST", "/readyz", 405, ""},
		{"page", &fixed{}, "GET", "/", 200, `<script type="module" src="app.js">`},
		{"not ready, to the page", away, "GET", "/status.json", 200, `"not_ready":"store: connection refused"`},
		{"page of another name", &fixed{}, "GET", "/index.php", 404, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			status, body := get(t, test.g, test.method, test.target)
			if status != test.status || !strings.Contains(body, test.contains) {
				t.Errorf("%d %q, want %d with %q", status, body, test.status, test.contains)
			}
		})
	}
}

// everything sets each counter of Stats to a different number.
func everything() gateway.Stats {
	var s gateway.Stats
	next := int64(1000)
	var set func(v reflect.Value)
	set = func(v reflect.Value) {
		next++
		switch v.Kind() {
		case reflect.Int64:
			v.SetInt(next)
		case reflect.Uint64:
			v.SetUint(uint64(next))
		case reflect.Array:
			for i := range v.Len() {
				set(v.Index(i))
			}
		case reflect.Struct, reflect.Map: // Started; the maps are filled below.
		default:
			panic("new kind of figure: " + v.Type().String())
		}
	}
	v := reflect.ValueOf(&s).Elem()
	for i := range v.NumField() {
		set(v.Field(i))
	}
	s.Connects = map[protocol.ReasonCode]uint64{protocol.Success: 1, protocol.NotAuthorized: 2, 0xFE: 3, 0xFF: 4}
	s.Disconnects = map[protocol.ReasonCode]uint64{protocol.Success: 5, protocol.KeepAliveTimeout: 6}
	s.Dropped = map[gateway.Drop]uint64{}
	s.Refused = map[gateway.Refusal]uint64{}
	for i, r := range gateway.Refusals() {
		s.Refused[r] = uint64(40 + i)
	}
	for i, d := range gateway.Drops() {
		s.Dropped[d] = uint64(10 + i)
	}
	return s
}

func TestMetrics(t *testing.T) {
	g := &fixed{stats: everything()}
	status, body := get(t, g, "GET", "/metrics")
	if status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	if n := g.reads.Load(); n != 1 {
		t.Errorf("the gateway's figures were read %d times for one scrape", n)
	}
	for _, want := range []string{
		"\nsluice_connects_total{code=\"0x87\",reason=\"" + protocol.NotAuthorized.String() + "\"} 2\n",
		"\nsluice_disconnects_total{code=\"0x8D\",reason=\"" + protocol.KeepAliveTimeout.String() + "\"} 6\n",
		"\nsluice_packets_received_total{type=\"connect\"} ",
		"\nsluice_packets_sent_total{type=\"auth\"} ",
		"\nsluice_publishes_received_total{qos=\"2\"} ",
		"\nsluice_messages_dropped_total{reason=\"outbox_full\"} 10\n",
		"\nsluice_refused_total{reason=\"connections\"} 40\n",
		"\nsluice_build_info{goversion=\"go",
		"\nsluice_ready 1\n",
		"\ngo_goroutines ",
		"\nprocess_open_fds ",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q", want)
		}
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "sluice_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	// Each of the different numbers is shown, so no field was forgotten and
	// none is shown twice.
	v := reflect.ValueOf(g.stats)
	for i := range v.NumField() {
		if n := v.Field(i); n.CanInt() && n.Type() == reflect.TypeFor[int64]() {
			shown(t, body, v.Type().Field(i).Name, n.Int())
		} else if n.CanUint() {
			shown(t, body, v.Type().Field(i).Name, int64(n.Uint()))
		}
	}
}

func shown(t *testing.T, body, field string, value int64) {
	t.Helper()
	text := " " + strconv.FormatInt(value, 10) + "\n"
	if n := strings.Count(body, text); n != 1 {
		t.Errorf("%s is shown %d times", field, n)
	}
}

func TestMetricsNotReady(t *testing.T) {
	_, body := get(t, &fixed{ready: errors.New("draining")}, "GET", "/metrics")
	if !strings.Contains(body, "\nsluice_ready 0\n") {
		t.Error("sluice_ready is not 0")
	}
}

// TestServerLimits: neither a header without end nor one that never comes
// holds on to the server.
func TestServerLimits(t *testing.T) {
	s := New(Options{Gateway: &fixed{}}).NewServer()
	if s.ReadHeaderTimeout <= 0 || s.ReadTimeout <= 0 || s.WriteTimeout <= 0 || s.IdleTimeout <= 0 {
		t.Error("a time limit is missing")
	}
	serve := func(s *http.Server) string {
		t.Helper()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go s.Serve(l) // Ends with Close.
		t.Cleanup(func() { s.Close() })
		return l.Addr().String()
	}
	r, err := http.NewRequest("GET", "http://"+serve(s)+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X", strings.Repeat("x", 512<<10))
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("512 KiB of header: %s, want 431", answer.Status)
	}

	s = New(Options{Gateway: &fixed{}}).NewServer()
	s.ReadHeaderTimeout = 50 * time.Millisecond
	c, err := net.Dial("tcp", serve(s))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: ")
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("half a header: %v, want the connection closed", err)
	}
}
