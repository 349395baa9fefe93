package gateway

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/protocol"
)

// revoke makes a list of an authority, good until over.
func revoke(t *testing.T, a *authority, number int64, over time.Time, certs ...tls.Certificate) []byte {
	t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: time.Now().Add(time.Duration(number)*time.Second - time.Hour), NextUpdate: over}
	for _, c := range certs {
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: leaf.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// letIn reports whether a client connects. In TLS 1.3 it learns of a refusal only
// after its handshake.
func letIn(t *testing.T, g *Gateway, c *tls.Config) bool {
	t.Helper()
	nc, err := dialTLS(t, g, "tls", c)
	if err != nil {
		return false
	}
	defer nc.Close()
	b, err := protocol.AppendPacket(nil, connectPacket("probe"), protocol.V5)
	if err != nil {
		t.Fatal(err)
	}
	nc.Write(b) // it may be closed already
	nc.SetReadDeadline(time.Now().Add(patience))
	_, err = nc.Read(make([]byte, 1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("neither let in nor refused")
	}
	return err == nil
}

// TestRevocation: a certificate on the list of its authority lets nobody in, by a
// ticket either, and its client is sent away; neither does one whose authority has
// no list, or one that is out of date. A list of anybody else's is no list.
func TestRevocation(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	other := newAuthority(t, "other")
	write(t, p.options.ClientCAFile, append(bytes.Clone(p.pem), other.pem...))
	p.options.ClientCert, p.options.ClientCRLFile = ClientCertRequired, filepath.Join(t.TempDir(), "crl.pem")
	good, bad := p.client(x509.Certificate{Subject: pkix.Name{CommonName: "good"}}), p.client(x509.Certificate{Subject: pkix.Name{CommonName: "bad"}})
	listless := other.client(x509.Certificate{Subject: pkix.Name{CommonName: "listless"}})
	tomorrow := time.Now().Add(24 * time.Hour)
	list := p.options.ClientCRLFile
	write(t, list, revoke(t, p.authority, 1, tomorrow))
	g := newGateway(t, withTLS(p.options), func(o *Options) { o.Timing.Certificates = -1 })
	stays, goes := overTLS(t, g, p.config(good), connectPacket("stays")), overTLS(t, g, p.config(bad), connectPacket("goes"))
	stays.expect("CONNACK")
	goes.expect("CONNACK")
	if letIn(t, g, p.config(listless)) {
		t.Error("an authority without a list is good")
	}
	resumes := p.config(bad)
	resumes.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	first := overTLS(t, g, resumes, connectPacket("first"))
	first.expect("CONNACK")
	first.goodbye()

	// The newer of two lists counts, wherever it is.
	write(t, list, append(revoke(t, p.authority, 3, tomorrow, bad), revoke(t, p.authority, 2, tomorrow)...))
	if err := g.ReloadCertificates(); err != nil {
		t.Fatal(err)
	}
	goes.expect("DISCONNECT 0x87", "closed")
	stays.ping()
	for name, c := range map[string]*tls.Config{"a new connection": p.config(bad), "a ticket": resumes} {
		if letIn(t, g, c) {
			t.Errorf("a revoked certificate lets %s in", name)
		}
	}
	if !letIn(t, g, p.config(good)) {
		t.Error("a good certificate lets nobody in")
	}

	write(t, list, revoke(t, p.authority, 4, time.Now().Add(-time.Minute)))
	if err := g.ReloadCertificates(); err != nil {
		t.Fatal(err)
	}
	if letIn(t, g, p.config(good)) {
		t.Error("a list that is out of date is good")
	}
	stays.ping()
	forged := newAuthority(t, "authority")
	for name, content := range map[string][]byte{
		"of a stranger": revoke(t, newAuthority(t, "stranger"), 5, tomorrow), "of another by that name": revoke(t, forged, 5, tomorrow),
		"no list": p.pem, "nothing": nil, "damaged": []byte("-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n"),
	} {
		write(t, list, content)
		var fault *ConfigError
		if err := g.ReloadCertificates(); !errors.As(err, &fault) || fault.Field != "TLS.ClientCRLFile" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
