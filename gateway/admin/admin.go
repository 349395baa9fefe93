package admin

import (
	"context"
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
	// headerLimit has room for a client identifier in a query, percent
	// encoded, and is far above what probes and scrapers send.
	headerLimit = 256 << 10
)

// Gateway is the part of [gateway.Gateway] that is shown. Both methods are
// called concurrently.
type Gateway interface {
	// Ready returns nil, or which part is not ready.
	Ready() error
	Stats() gateway.Stats
}

// Options set up an Admin.
type Options struct {
	Gateway Gateway
	// Cluster is what the API and the status page look into. Nil: there is no
	// API, and the page shows this gateway alone.
	Cluster Cluster
	// Version is shown on the page and in sluice_build_info.
	Version string
	// Token opens the API. Empty: there is no API.
	Token string
	// WebSocket returns the URL that the page's MQTT client suggests; a URL
	// without a host means the page's own. Nil or empty: none.
	WebSocket func() string
	// Logger hears of faults of single connections, at debug level.
	// Default: nobody.
	Logger *slog.Logger
}

// Admin serves what operators see of a gateway.
type Admin struct {
	options Options
	handler http.Handler
	monitor *monitor
}

// New makes an Admin. The page has something to show from when Run is called.
func New(o Options) *Admin {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Admin{options: o, monitor: newMonitor(o)}
	a.handler = a.routes()
	return a
}

// Run measures, for the charts of the page, until the context ends.
func (a *Admin) Run(ctx context.Context) { a.monitor.run(ctx) }

// NewServer returns a server of [Admin.Handler], with time and size limits,
// that is not started.
func (a *Admin) NewServer() *http.Server {
	return &http.Server{
		Handler:           a.handler,
		ReadHeaderTimeout: requestTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerLimit,
		ErrorLog:          slog.NewLogLogger(a.options.Logger.Handler(), slog.LevelDebug),
	}
}

// Handler serves
//
//	/healthz  200 while the process answers, whatever else is broken: to be
//	          asked by what restarts it
//	/readyz   200, or 503 with the part that is not ready: to be asked by what
//	          sends it clients
//	/metrics  the figures, in the formats of Prometheus
//	/api/v1/  the API, for who has the token; openapi.yaml there describes it
//	/         the status page
func (a *Admin) Handler() http.Handler { return a.handler }

func (a *Admin) routes() http.Handler {
	mux := http.NewServeMux()
	g := a.options.Gateway
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
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry(g, a.options.Version), promhttp.HandlerOpts{}))
	registerAPI(mux, a.options)
	a.registerPage(mux)
	return mux
}

// plain answers in text. An answer of now is of no use later.
func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	io.WriteString(w, text)
}
