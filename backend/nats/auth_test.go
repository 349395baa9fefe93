package nats_test

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-mqtt/sluice/backend/backendtest"
	"github.com/sluice-mqtt/sluice/backend/nats"
)

// A pair of keys made for these tests.
const (
	nkeySeed   = "SUAK5ZOYMSPKHX7KBVC2YO4EJAHVSWMKUNDBJ75EEQ2LV265DNU24OHX64"
	nkeyPublic = "UCMMC7KH2PPXSQYWOH3M3RNBFJLECTORI2IICMAO7DABIFQSQJRC4BTC"
)

// TestWaysIn: each way to authenticate, and TLS with and without a certificate
// of the gateway; messages cross.
func TestWaysIn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	seed := filepath.Join(dir, "seed")
	if err := os.WriteFile(seed, []byte(nkeySeed), 0o600); err != nil {
		t.Fatal(err)
	}
	roots, pair := backendtest.Certificates(t, dir)
	tlsConfig := func(verify bool) string {
		return fmt.Sprintf(`tls { cert_file: %q, key_file: %q, ca_file: %q, verify: %v }`,
			filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.pem"), verify)
	}
	tests := []struct {
		name   string
		config string
		change func(o *nats.Options)
	}{
		{"user in the URL", `authorization { user: u, password: "p w" }`, func(o *nats.Options) { o.URL = strings.Replace(o.URL, "//", "//u:p%20w@", 1) }},
		{"user", `authorization { user: u, password: p }`, func(o *nats.Options) { o.User, o.Password = "u", "p" }},
		{"token in the URL", `authorization { token: secret }`, func(o *nats.Options) { o.URL = strings.Replace(o.URL, "//", "//secret@", 1) }},
		{"token", `authorization { token: secret }`, func(o *nats.Options) { o.Token = "secret" }},
		{"key", `authorization { users = [ { nkey: ` + nkeyPublic + ` } ] }`, func(o *nats.Options) { o.NKeySeedFile = seed }},
		{"TLS", tlsConfig(false), func(o *nats.Options) {
			o.URL = strings.Replace(o.URL, "nats:", "tls:", 1)
			o.TLS = &tls.Config{RootCAs: roots}
		}},
		{"TLS with a certificate", tlsConfig(true), func(o *nats.Options) {
			o.TLS = &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}
		}},
	}
	path := program(t, "installed")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &service{servers: []*server{startServer(t, path, "-c", config(t, tt.config))}}
			list := gateways(t, s, 2, tt.change)
			list[0].subscribe(t, "a")
			list[1].publish(t, "a")
			list[0].wait(t, "a message", func() bool { return list[0].heard["a"] > 0 })
		})
	}
}

// TestTLSIsNotLeftOut: a gateway that was told to encrypt does not talk to a
// server that can not, and not to one whose certificate it does not know.
func TestTLSIsNotLeftOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	backendtest.Certificates(t, dir)
	path := program(t, "installed")
	plain := startServer(t, path)
	unknown := startServer(t, path, "-c", config(t, fmt.Sprintf(`tls { cert_file: %q, key_file: %q }`, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))))
	for name, o := range map[string]nats.Options{
		"plain server":        {URL: "nats://" + plain.address, TLS: &tls.Config{}},
		"unknown certificate": {URL: "nats://" + unknown.address},
	} {
		if err := newBackend(t, o).Start(t.Context(), "n", newEar()); err == nil {
			t.Errorf("%s: no error", name)
		} else {
			t.Log(err)
		}
	}
}
