package admin

import (
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sluice-mqtt/sluice/gateway"
)

const (
	// requestTimeout bounds reading a request and writing its answer. A
	// scrape takes milliseconds; who takes longer is not a scraper.
	requestTimeout = 10 * time.Second
	// idleTimeout keeps a scraper's connection over the usual minute between
	// two scrapes.
	idleTimeout = 90 * time.Second
	// headerLimit is far above what probes and scrapers send.
	headerLimit = 8 << 10
)

// Gateway is the part of [gateway.Gateway] that is shown. Both methods are
// called concurrently.
type Gateway interface {
	// Ready returns nil, or which part is not ready.
	Ready() error
	Stats() gateway.Stats
}

// NewServer returns a server of [Handler], with time and size limits, that is
// not started. Faults of single connections go to log, at debug level.
func NewServer(g Gateway, version string, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           Handler(g, version),
		ReadHeaderTimeout: requestTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerLimit,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// Handler serves
//
//	/healthz  200 while the process answers, whatever else is broken: to be
//	          asked by what restarts it
//	/readyz   200, or 503 with the part that is not ready: to be asked by what
//	          sends it clients
//	/metrics  the figures, in the formats of Prometheus
//	/         a page with links to these
//
// version is shown on the page and in sluice_build_info.
func Handler(g Gateway, version string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		plain(w, http.StatusOK, "alive\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := g.Ready(); err != nil {
			plain(w, http.StatusServiceUnavailable, "not ready: "+err.Error()+"\n")
			return
		}
		plain(w, http.StatusOK, "ready\n")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry(g, version), promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		s := g.Stats()
		page.Execute(w, struct { // Its only error is a client that left.
			Version     string
			Ready       error
			Started     time.Time
			Connections int64
		}{version, g.Ready(), s.Started.UTC().Truncate(time.Second), s.Connections})
	})
	return mux
}

// plain answers in text. An answer of now is of no use later.
func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	io.WriteString(w, text)
}

var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Sluice</title>
<h1>Sluice {{.Version}}</h1>
<p>{{with .Ready}}Not ready: {{.}}{{else}}Ready{{end}}, {{.Connections}} connections, running since {{.Started.Format "2006-01-02 15:04:05 MST"}}.</p>
<ul>
<li><a href="healthz">/healthz</a>: alive
<li><a href="readyz">/readyz</a>: ready for clients
<li><a href="metrics">/metrics</a>: figures for Prometheus
</ul>
</html>
`))
