package admin

import (
	"embed"
	"encoding/json"
	"io/fs"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluice-mqtt/sluice/gateway"
)

//go:embed web
var web embed.FS

// pagePolicy lets the page load what this server sends and nothing else, run
// no script but its own file, and connect to MQTT over WebSocket, which is on
// another port.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' ws: wss:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// chartPolicy is for a chart, which has nothing but attributes of style.
const chartPolicy = "default-src 'none'; style-src 'unsafe-inline'; sandbox"

// registerPage adds the status page to a mux. Its figures are those of
// /metrics, for everybody; what names clients is behind the API's token.
func (a *Admin) registerPage(mux *http.ServeMux) {
	files, err := fs.Sub(web, "web")
	if err != nil {
		panic(err) // the directory is embedded
	}
	kinds := map[string]string{
		"index.html": "text/html; charset=utf-8", "style.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml",
		"app.js": "text/javascript; charset=utf-8", "mqtt.js": "text/javascript; charset=utf-8", "ui.js": "text/javascript; charset=utf-8",
		"views.js": "text/javascript; charset=utf-8",
	}
	for name, kind := range kinds {
		content, err := fs.ReadFile(files, name)
		if err != nil {
			panic(err) // the file is embedded
		}
		pattern := "GET /" + name
		if name == "index.html" {
			pattern = "GET /{$}"
		}
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
			secure(w, pagePolicy)
			w.Header().Set("Content-Type", kind)
			w.Write(content) // its only error is a client that left
		})
	}
	mux.HandleFunc("GET /status.json", func(w http.ResponseWriter, _ *http.Request) {
		a.monitor.watched()
		secure(w, pagePolicy)
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(a.status())
	})
	drawn := &drawn{monitor: a.monitor}
	mux.HandleFunc("GET /charts/{name}", drawn.serve)
}

func secure(w http.ResponseWriter, policy string) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache")
}

// status is what the page shows at the top.
type status struct {
	Version   string `json:"version"`
	Self      string `json:"self"`
	Ready     bool   `json:"ready"`
	NotReady  string `json:"not_ready,omitempty"`
	API       bool   `json:"api"`
	WebSocket string `json:"websocket,omitempty"`
	Revision  uint64 `json:"revision"`
	// Stale: the cluster could not be looked at just now.
	Stale    bool            `json:"stale,omitempty"`
	Totals   totals          `json:"totals"`
	Drops    []dropCount     `json:"drops"`
	Gateways []gatewayStatus `json:"gateways"`
	Events   []event         `json:"events"`
	Charts   []chartTitle    `json:"charts"`
}

// totals are sums over the gateways; rates are a second.
type totals struct {
	Connections   int64   `json:"connections"`
	Sessions      int64   `json:"sessions"`
	Subscriptions int64   `json:"subscriptions"`
	Retained      int64   `json:"retained"`
	RetainedBytes int64   `json:"retained_bytes"`
	InFlight      int64   `json:"in_flight"`
	Queued        int64   `json:"queued"`
	Backlog       int64   `json:"backlog"`
	In            float64 `json:"in"`
	Out           float64 `json:"out"`
	BytesIn       float64 `json:"bytes_in"`
	BytesOut      float64 `json:"bytes_out"`
	Dropped       float64 `json:"dropped"`
	AckSeconds    float64 `json:"ack_seconds"`
}

type dropCount struct {
	Reason string  `json:"reason"`
	Total  uint64  `json:"total"`
	Rate   float64 `json:"rate"`
}

type gatewayStatus struct {
	gatewayJSON
	In  float64 `json:"in"`
	Out float64 `json:"out"`
}

type chartTitle struct {
	Name  string `json:"name"`
	Title string `json:"title"`
}

// chartOrder is how the charts stand on the page.
var chartOrder = []string{"messages", "connections", "latency", "waiting", "drops", "bytes"}

func received(f *gateway.NodeFigures) float64 { return float64(f.Received) }
func sent(f *gateway.NodeFigures) float64     { return float64(f.Sent) }

// status makes it of the last samples.
func (a *Admin) status() status {
	own := a.options.Gateway.Stats()
	s := status{
		Version: a.options.Version, API: a.options.Token != "" && a.options.Cluster != nil,
		Ready: true, Events: orEmpty(a.monitor.eventList()), Gateways: []gatewayStatus{}, Drops: []dropCount{},
		Totals: totals{Retained: own.RetainedCount, RetainedBytes: own.RetainedBytes, Sessions: own.AllSessions},
	}
	if a.options.WebSocket != nil {
		s.WebSocket = a.options.WebSocket()
	}
	if a.options.Cluster != nil {
		s.Self = string(a.options.Cluster.ID())
	}
	if err := a.options.Gateway.Ready(); err != nil {
		s.Ready, s.NotReady = false, err.Error()
	}
	for _, name := range chartOrder {
		s.Charts = append(s.Charts, chartTitle{name, chartsByName[name].title})
	}
	samples, revision := a.monitor.history()
	s.Revision = revision
	if len(samples) == 0 {
		s.Stale = true
		return s
	}
	now := &samples[len(samples)-1]
	s.Stale = time.Since(now.at) > 3*idleInterval
	before := now
	if len(samples) > 1 {
		before = &samples[len(samples)-2]
	}
	s.add(before, now)
	return s
}

// add adds the figures of the newest sample and what grew before it.
func (s *status) add(before, now *sample) {
	t := &s.Totals
	t.In, t.Out = rate(before, now, received), rate(before, now, sent)
	t.BytesIn = rate(before, now, func(f *gateway.NodeFigures) float64 { return float64(f.BytesReceived) })
	t.BytesOut = rate(before, now, func(f *gateway.NodeFigures) float64 { return float64(f.BytesSent) })
	t.AckSeconds = meanAck(before, now)
	drops, attached := map[string]uint64{}, int64(0)
	for i := range now.nodes {
		n := &now.nodes[i]
		g := gatewayStatus{gatewayJSON: showGateway(n, "")}
		g.Self = string(n.ID) == s.Self
		if f := n.Figures; f != nil {
			t.Connections += f.Connections
			attached += n.Sessions
			t.Subscriptions += f.Subscriptions
			t.InFlight += f.InFlight
			t.Queued += f.Queued
			t.Backlog += f.Backlog
			for why, n := range f.Dropped {
				drops[why] += n
			}
			if seconds := now.at.Sub(before.at).Seconds(); seconds > 0 {
				g.In, g.Out = grown(before, now, n.ID, received)/seconds, grown(before, now, n.ID, sent)/seconds
			}
		}
		s.Gateways = append(s.Gateways, g)
	}
	t.Sessions = max(t.Sessions, attached) // not every store counts the others
	for _, why := range slices.Sorted(maps.Keys(drops)) {
		r := rate(before, now, func(f *gateway.NodeFigures) float64 { return float64(f.Dropped[why]) })
		s.Drops = append(s.Drops, dropCount{why, drops[why], r})
		t.Dropped += r
	}
}

// drawn keeps the charts of the newest sample, so that many who look at them
// cost one drawing.
type drawn struct {
	monitor  *monitor
	mu       sync.Mutex // held while drawing: one at a time
	revision uint64
	charts   map[string][]byte
}

const (
	minChart, maxChart = 240, 1200
	// keptCharts bounds the sizes that are kept of one sample.
	keptCharts = 64
)

// serve answers with a chart: charts/messages.svg?width=640&dark=1.
func (d *drawn) serve(w http.ResponseWriter, r *http.Request) {
	name, isSVG := strings.CutSuffix(r.PathValue("name"), ".svg")
	if _, ok := chartsByName[name]; !ok || !isSVG {
		http.NotFound(w, r)
		return
	}
	width, err := strconv.Atoi(r.URL.Query().Get("width"))
	if err != nil {
		width = 640
	}
	width = min(max(width/20*20, minChart), maxChart)
	svg, err := d.draw(name, width, r.URL.Query().Get("dark") == "1")
	if err != nil {
		http.Error(w, "the chart can not be drawn", http.StatusInternalServerError)
		return
	}
	secure(w, chartPolicy)
	w.Header().Set("Content-Type", "image/svg+xml")
	w.Write(svg) // its only error is a client that left
}

func (d *drawn) draw(name string, width int, dark bool) ([]byte, error) {
	samples, revision := d.monitor.history()
	d.mu.Lock()
	defer d.mu.Unlock()
	if revision > d.revision || d.charts == nil || len(d.charts) >= keptCharts {
		d.revision, d.charts = revision, map[string][]byte{}
	}
	key := name + " " + strconv.Itoa(width) + " " + strconv.FormatBool(dark)
	if svg, ok := d.charts[key]; ok {
		return svg, nil
	}
	for len(samples) < 3 { // the library wants a line, not a point
		s := sample{at: time.Now()}
		if len(samples) > 0 {
			s = sample{at: samples[0].at.Add(-watchedInterval), nodes: samples[0].nodes}
		}
		samples = slices.Insert(samples, 0, s)
	}
	svg, err := drawChart(name, samples, width, dark)
	if err == nil {
		d.charts[key] = svg
	}
	return svg, err
}
