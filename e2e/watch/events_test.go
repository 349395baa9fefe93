package watch_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// patience is how long a test waits for what has to come.
const patience = 30 * time.Second

// event is the part of an event that the tests look at.
type event struct {
	ID, Kind, Gateway, Client, User, Remote, Version, Filter, Reason string
	Seq                                                              uint64
	Code                                                             *int
}

// TestEvents: what happens to clients of two gateways is told to an HTTP server
// and on NATS alike, and names neither payload nor password.
func TestEvents(t *testing.T) {
	t.Parallel()
	posted := make(chan event, 1000)
	bodies := make(chan string, 1000)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var batch struct{ Events []event }
		if err != nil || r.Header.Get("Authorization") != "Bearer told-to-nobody" || json.Unmarshal(body, &batch) != nil {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		bodies <- string(body)
		for _, e := range batch.Events {
			posted <- e
		}
	}))
	defer receiver.Close()
	secret := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(secret, []byte("told-to-nobody\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := harness.StartCluster(t, harness.ClusterOptions{Gateways: 2, Env: []string{
		"EVENTS_HTTP_URL=" + receiver.URL, "EVENTS_HTTP_TOKEN_FILE=" + secret, "EVENTS_NATS=true",
	}})
	application := dialNATS(t, c.NATS.Address)
	published := make(chan *nats.Msg, 1000)
	if _, err := application.ChanSubscribe("sluice.events.>", published); err != nil {
		t.Fatal(err)
	}
	if err := application.Flush(); err != nil {
		t.Fatal(err)
	}

	id := wire.Unique("told")
	user, password := "me", "PASSWORD"
	connect := wire.Connect{Version: wire.V5, ClientID: id, Clean: true, Username: &user, Password: &password}
	first := wire.Dial(t, c.Gateways[0].TCP).Connect(connect)
	first.Subscribe("events/+", 1)
	first.Publish("events/x", 1, "PAYLOAD")
	first.Receive()
	first.Unsubscribe("events/+")
	second := wire.Dial(t, c.Gateways[1].TCP).Connect(connect)
	first.ExpectDisconnect(0x8E)
	second.Disconnect()

	want := []string{
		"connected", "subscribed events/+", "unsubscribed events/+", "taken_over", "disconnected 142", "connected", "disconnected 0",
		"session_ended", "session_ended", // clean start ends the first one
	}
	slices.Sort(want)
	gather := func(next func() event) []string {
		var got []string
		gateways := map[string]bool{}
		for len(got) < len(want) {
			e := next()
			if e.Client != id {
				continue
			}
			if e.ID == "" || e.Seq == 0 || e.Kind != "session_ended" && (e.User != "me" || e.Version != "5.0" || e.Remote == "") {
				t.Errorf("got %+v", e)
			}
			gateways[e.Gateway] = true
			text := strings.TrimSpace(e.Kind + " " + e.Filter)
			if e.Code != nil {
				text += " " + map[int]string{0: "0", 0x8E: "142"}[*e.Code]
			}
			got = append(got, text)
		}
		if len(gateways) != 2 {
			t.Errorf("events of %d gateways", len(gateways))
		}
		slices.Sort(got)
		return got
	}
	if got := gather(func() event { return receive(t, posted) }); !slices.Equal(got, want) {
		t.Errorf("by HTTP:\n got %q\nwant %q", got, want)
	}
	got := gather(func() event {
		m := receive(t, published)
		var e event
		if err := json.Unmarshal(m.Data, &e); err != nil {
			t.Fatalf("%s: %v", m.Data, err)
		}
		if m.Subject != "sluice.events."+e.Kind {
			t.Errorf("a %s on %s", e.Kind, m.Subject)
		}
		return e
	})
	if !slices.Equal(got, want) {
		t.Errorf("by NATS:\n got %q\nwant %q", got, want)
	}
	for range len(bodies) {
		if b := <-bodies; strings.Contains(b, "PAYLOAD") || strings.Contains(b, "PASSWORD") {
			t.Errorf("told: %s", b)
		}
	}
	figures := read(t, c.Gateways[0].HTTP+"/metrics")
	for _, name := range []string{`sluice_events_sent_total{sink="http"}`, `sluice_events_sent_total{sink="nats"}`,
		`sluice_events_lost_total{reason="queue_full",sink="http"} 0`} {
		if !strings.Contains(figures, name) {
			t.Errorf("/metrics has no %s", name)
		}
	}
}

// receive returns what comes next.
func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatal("nothing comes")
		panic("unreachable")
	}
}

func dialNATS(t *testing.T, address string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect("nats://" + address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func read(t *testing.T, url string) string {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, answer.Status, err)
	}
	return string(text)
}
