package nats_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	roots, pair := certificates(t, dir)
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
	certificates(t, dir)
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

// certificates writes a certificate that signs itself, for 127.0.0.1, to dir.
func certificates(t *testing.T, dir string) (*x509.CertPool, tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private})
	for name, b := range map[string][]byte{"cert.pem": cert, "key.pem": keyPEM} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := tls.X509KeyPair(cert, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cert)
	return roots, pair
}
