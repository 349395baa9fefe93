package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/gateway/admin"
)

// closeLimit is what the shutdown may take beyond the time that the
// configuration gives it: connections that do not end, and the goodbye to
// the store.
const closeLimit = 5 * time.Second

// serve runs the gateway. It is ready when the log says "serving", with the
// addresses; health, readiness and metrics are served before.
func serve(p process) int {
	c, settings, errs := loadConfig(p.environ)
	if len(errs) > 0 {
		return p.fail(errs...)
	}
	log := newLogger(p.stderr, c.LogLevel, c.LogFormat)
	a, errs := c.openAuth(log)
	if len(errs) > 0 {
		return p.fail(flatten(errors.Join(errs...))...)
	}
	for _, u := range findUnknown(p.environ, names(settings)) {
		log.Warn("unknown variable", "name", u.Name, "nearest", u.Nearest)
	}
	begin := &start{config: &c, log: log, options: c.options()}
	begin.options.Logger = log
	a.apply(&begin.options)
	x, err := c.openExtras(&begin.options, log)
	if err != nil {
		return p.fail(named(err, settings)...)
	}
	defer x.close()
	if errs := c.checkOptions(begin.options, settings); len(errs) > 0 {
		return p.fail(errs...)
	}
	web, err := listenHTTP(c.HTTPListen, admin.New(admin.Options{Gateway: &begin.shown, Version: versionText(), Logger: log}), log)
	if err != nil {
		return p.fail(&problem{"HTTP_LISTEN", string(c.HTTPListen), err.Error()})
	}
	defer web.close()

	g, signal, err := begin.run(p.signals) // A signal during the start ends it.
	if err == nil && g == nil {
		return exitOK
	}
	if err == nil {
		err = x.serve(g)
	}
	if err != nil {
		return p.fail(named(err, settings)...)
	}
	shown := admin.New(admin.Options{
		Gateway: g, Cluster: g, Version: versionText(), Token: string(c.APIToken), Logger: log,
		WebSocket: func() string { return c.webSocketURL(g) },
	})
	web.show(shown)
	log.With(addresses(g)...).Info("serving", "version", versionText(), "backend", c.Backend, "store", c.Store, "anonymous", c.Anonymous,
		"http", addressText(web.address()))
	defer reloadOnHangup(g)()
	defer a.watch(g, c.AuthReload)()

	measuring, stop := context.WithCancel(context.Background())
	defer stop()
	go shown.Run(measuring) // Ends with stop.
	if signal == nil {
		signal = <-p.signals
		log.Info("stopping", "signal", signal.String())
	}
	return p.shutdown(g, x, &c, log)
}

// shutdown drains, unless a second signal comes.
func (p process) shutdown(g *gateway.Gateway, x *extras, c *config, log *slog.Logger) int {
	ctx, cancel := context.WithTimeout(context.Background(), c.Drain+c.DrainDelay+closeLimit)
	defer cancel()
	done := make(chan error, 1)
	go func() { x.stop(); done <- g.Shutdown(ctx) }() // Ends with ctx, or with the process.
	select {
	case err := <-done:
		if err != nil {
			log.Error("stopped", "err", err)
			return exitFailed
		}
		log.Info("stopped")
		return exitOK
	case s := <-p.signals:
		log.Warn("stopped at once", "signal", s.String())
		return exitFailed
	}
}

// httpServer is the admin server with its listener; without one it is off.
type httpServer struct {
	server   *http.Server
	listener net.Listener
	shown    atomic.Pointer[admin.Admin]
}

// listenHTTP serves on the address until close: first what waits for the gateway
// to start, later what show is given.
func listenHTTP(at address, first *admin.Admin, log *slog.Logger) (*httpServer, error) {
	h := &httpServer{server: first.NewServer()}
	if !at.on() {
		return h, nil
	}
	h.show(first)
	h.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.shown.Load().Handler().ServeHTTP(w, r)
	})
	var err error
	if h.listener, err = net.Listen("tcp", string(at)); err != nil {
		return nil, err
	}
	go func() { // Ends with close.
		if err := h.server.Serve(h.listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("http server failed", "err", err)
		}
	}()
	return h, nil
}

// show puts another Admin in the place of the one before.
func (h *httpServer) show(a *admin.Admin) { h.shown.Store(a) }

// webSocketURL is where the page's MQTT client connects to. The host is the
// page's own, unless a certain one is listened on.
func (c *config) webSocketURL(g *gateway.Gateway) string {
	scheme := "ws://"
	tcp, ok := g.Addr(listenerWS).(*net.TCPAddr)
	if !ok {
		scheme = "wss://"
		if tcp, ok = g.Addr(listenerWSS).(*net.TCPAddr); !ok {
			return ""
		}
	}
	host := ""
	if !tcp.IP.IsUnspecified() && !tcp.IP.IsLoopback() {
		host = tcp.IP.String()
	}
	path := "/mqtt"
	if len(c.WSPath) > 0 && c.WSPath[0] != "*" {
		path = c.WSPath[0]
	}
	return scheme + net.JoinHostPort(host, strconv.Itoa(tcp.Port)) + path
}

func (h *httpServer) close() { h.server.Close() }

func (h *httpServer) address() net.Addr {
	if h.listener == nil {
		return nil
	}
	return h.listener.Addr()
}

func addressText(a net.Addr) string {
	if a == nil {
		return "off"
	}
	return a.String()
}

func newLogger(to io.Writer, level slog.Level, format string) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(to, o))
	}
	return slog.New(slog.NewTextHandler(to, o))
}
