package main

import (
	"crypto/tls"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/sluice-mqtt/sluice/gateway"
)

// listeners returns those that are on.
func (c *config) listeners() []gateway.Listener {
	secure := c.tls() // One for both, so that its files are watched once.
	all := []struct {
		on bool
		gateway.Listener
	}{
		{c.TCPListen.on(), gateway.Listener{Name: listenerTCP, Address: string(c.TCPListen)}},
		{c.TLSListen.on(), gateway.Listener{Name: listenerTLS, Address: string(c.TLSListen), TLS: secure}},
		{c.WSListen.on(), gateway.Listener{
			Name: listenerWS, Address: string(c.WSListen), WebSocketPaths: c.WSPath, Origins: c.WSOrigins,
		}},
		{c.WSSListen.on(), gateway.Listener{
			Name: listenerWSS, Address: string(c.WSSListen), WebSocketPaths: c.WSPath, Origins: c.WSOrigins, TLS: secure,
		}},
		{c.UnixListen != "", gateway.Listener{
			Name: listenerUnix, Network: gateway.NetworkUnix, Address: c.UnixListen, Mode: fs.FileMode(c.UnixMode),
		}},
	}
	var on []gateway.Listener
	for _, l := range all {
		if l.on {
			on = append(on, l.Listener)
		}
	}
	return on
}

func (c *config) tls() *gateway.TLSOptions {
	version := uint16(tls.VersionTLS12)
	if c.TLSMinVersion == "1.3" {
		version = tls.VersionTLS13
	}
	return &gateway.TLSOptions{
		CertFile:      c.TLSCertFile,
		KeyFile:       c.TLSKeyFile,
		ClientCAFile:  c.TLSClientCAFile,
		ClientCRLFile: c.TLSClientCRL,
		ClientCert:    gateway.ClientCertPolicy(c.TLSClientCert),
		MinVersion:    version,
		Identity:      gateway.CertIdentity(c.TLSIdentity),
		IdentityAs:    gateway.IdentityUse(c.TLSIdentityAs),
		IdentityMatch: c.TLSIdentityMatch,
	}
}

// reloadOnHangup makes the gateway read its certificates again at each SIGHUP,
// until stop is called. The gateway logs what comes of it.
func reloadOnHangup(g *gateway.Gateway) (stop func()) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	done := make(chan struct{})
	go func() { // Ends with stop.
		for {
			select {
			case <-hangup:
				g.ReloadCertificates()
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(hangup)
		close(done)
	}
}

// addresses are those of the listeners, for the log.
func addresses(g *gateway.Gateway) []any {
	var all []any
	for _, name := range []string{listenerTCP, listenerTLS, listenerWS, listenerWSS, listenerUnix} {
		if a := g.Addr(name); a != nil || name == listenerTCP || name == listenerWS {
			all = append(all, slog.String(name, addressText(a)))
		}
	}
	return all
}
