package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/protocol"
)

// withTLS adds listeners "tls" and "wss".
func withTLS(o *TLSOptions) func(*Options) {
	return func(opt *Options) {
		opt.Listeners = append(opt.Listeners,
			Listener{Name: "tls", Address: "127.0.0.1:0", TLS: o},
			Listener{Name: "wss", Address: "127.0.0.1:0", TLS: o, WebSocketPaths: []string{"/mqtt"}})
	}
}

// overTLS connects an MQTT client through the listener "tls".
func overTLS(t *testing.T, g *Gateway, config *tls.Config, p *protocol.Connect) *client {
	t.Helper()
	nc, err := dialTLS(t, g, "tls", config)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, nc, p.Version)
	c.send(p)
	return c
}

// TestTLS: messages of all sizes come through in both directions, whatever the
// version of TLS, and a session of TLS is resumed.
func TestTLS(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	g := newGateway(t, withTLS(p.options))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := p.config()
		config.MinVersion, config.MaxVersion = version, version
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		for _, resumed := range []bool{false, true} {
			nc, err := dialTLS(t, g, "tls", config)
			if err != nil {
				t.Fatal(err)
			}
			c := newClient(t, nc, protocol.V5)
			c.send(connectPacket("c"))
			c.expect("CONNACK")
			c.subscribe(0, "a")
			for _, size := range []int{0, 1, 1000, 20_000, 100_000} {
				c.send(publish("a", strings.Repeat("x", size), 0, 0))
				if m := c.next().(*protocol.Publish); len(m.Payload) != size {
					t.Errorf("%d bytes came of %d", len(m.Payload), size)
				}
			}
			state := nc.ConnectionState()
			if state.DidResume != resumed || state.Version != version {
				t.Errorf("resumed %v, want %v; %s", state.DidResume, resumed, tls.VersionName(state.Version))
			}
			c.goodbye()
		}
	}
}

// TestTLSVersions: no version below the lowest, and no suite without forward
// secrecy, is agreed on.
func TestTLSVersions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		min, max uint16 // the gateway's lowest, the client's highest
		suites   []uint16
		ok       bool
	}{
		{"1.1", 0, tls.VersionTLS11, nil, false},
		{"1.2", 0, tls.VersionTLS12, nil, true},
		{"1.2 where 1.3 is asked for", tls.VersionTLS13, tls.VersionTLS12, nil, false},
		{"1.3", tls.VersionTLS13, tls.VersionTLS13, nil, true},
		{"CBC", 0, tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}, false},
		{"GCM", 0, tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPKI(t)
			p.options.MinVersion = tt.min
			g := newGateway(t, withTLS(p.options))
			config := p.config()
			config.MinVersion, config.MaxVersion, config.CipherSuites = tls.VersionTLS10, tt.max, tt.suites
			_, err := dialTLS(t, g, "tls", config)
			if (err == nil) != tt.ok {
				t.Errorf("handshake: %v", err)
			}
			want := uint64(1)
			if tt.ok {
				want = 0
			}
			eventually(t, "counted", func() bool { return g.Stats().Refused[RefusedTLS] == want })
		})
	}
}

// TestClientCertificate: who gets in with which certificate, and whether the
// authenticator sees it.
func TestClientCertificate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		policy             ClientCertPolicy
		none, own, strange string // "in", "in with certificate", "out"
	}{
		{ClientCertNone, "in", "in", "in"},
		{ClientCertOptional, "in", "in with certificate", "out"},
		{ClientCertRequired, "out", "in with certificate", "out"},
	} {
		t.Run(string(tt.policy), func(t *testing.T) {
			t.Parallel()
			p := newPKI(t)
			p.options.ClientCert = tt.policy
			seen := make(chan *x509.Certificate, 1)
			g := newGateway(t, withTLS(p.options), func(o *Options) {
				o.Authenticator = AuthenticatorFunc(func(_ context.Context, r *ConnectRequest) (Identity, error) {
					seen <- r.Client.Certificate
					return Identity{}, nil
				})
			})
			device := x509.Certificate{Subject: pkix.Name{CommonName: "device"}}
			own, strange := p.client(device), newAuthority(t, "authority").client(device)
			for name, c := range map[string]struct {
				certs []tls.Certificate
				want  string
			}{"none": {nil, tt.none}, "own": {[]tls.Certificate{own}, tt.own}, "strange": {[]tls.Certificate{strange}, tt.strange}} {
				config := p.config()
				// A client shows what it has, whatever the server asks for.
				config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					if len(c.certs) == 0 {
						return &tls.Certificate{}, nil
					}
					return &c.certs[0], nil
				}
				if got := comesIn(t, g, config, seen, own.Leaf); got != c.want {
					t.Errorf("%s: %s, want %s", name, got, c.want)
				}
			}
		})
	}
}

// comesIn tries to connect and says what came of it.
func comesIn(t *testing.T, g *Gateway, config *tls.Config, seen chan *x509.Certificate, want *x509.Certificate) string {
	t.Helper()
	// TLS 1.3 tells a client with its first read that it is not welcome.
	nc, err := dialTLS(t, g, "tls", config)
	if err != nil {
		return "out"
	}
	defer nc.Close()
	b, _ := protocol.AppendPacket(nil, connectPacket(""), protocol.V5)
	nc.Write(b)
	nc.SetReadDeadline(time.Now().Add(patience))
	if _, err := nc.Read(b); err != nil {
		return "out"
	}
	cert := <-seen
	switch {
	case cert == nil:
		return "in"
	case cert.Equal(want):
		return "in with certificate"
	}
	return "in as somebody else"
}

// TestCertificateIdentity: what of a certificate becomes user name or client
// identifier, and who is refused.
func TestCertificateIdentity(t *testing.T) {
	t.Parallel()
	uri, err := url.Parse("spiffe://example.org/device/7")
	if err != nil {
		t.Fatal(err)
	}
	full := x509.Certificate{
		Subject: pkix.Name{CommonName: "seven", Organization: []string{"Works"}},
		URIs:    []*url.URL{uri}, DNSNames: []string{"seven.example.org"}, EmailAddresses: []string{"seven@example.org"},
	}
	bare := x509.Certificate{Subject: pkix.Name{Organization: []string{"Works"}}}
	const none = "(none)"
	for _, tt := range []struct {
		name     string
		options  TLSOptions
		cert     *x509.Certificate
		id       string
		code     protocol.ReasonCode
		identity string
		seenID   string // as the authenticator sees it; as sent if empty
		seenUser string
	}{
		{"none", TLSOptions{}, &full, "c", 0, "", "", "user"},
		{"cn", TLSOptions{Identity: CertCN}, &full, "c", 0, "seven", "", "user"},
		{"cn as user name", TLSOptions{Identity: CertCN, IdentityAs: IdentityAsUsername}, &full, "c", 0, "seven", "", "seven"},
		{"cn as client identifier", TLSOptions{Identity: CertCN, IdentityAs: IdentityAsClientID}, &full, "c", 0, "seven", "seven", "user"},
		{"dn", TLSOptions{Identity: CertDN, IdentityAs: IdentityAsUsername}, &full, "c", 0, "CN=seven,O=Works", "", "CN=seven,O=Works"},
		{"uri", TLSOptions{Identity: CertURI, IdentityAs: IdentityAsUsername}, &full, "c", 0, uri.String(), "", uri.String()},
		{"dns", TLSOptions{Identity: CertDNS, IdentityAs: IdentityAsUsername}, &full, "c", 0, "seven.example.org", "", "seven.example.org"},
		{"email", TLSOptions{Identity: CertEmail, IdentityAs: IdentityAsUsername}, &full, "c", 0, "seven@example.org", "", "seven@example.org"},
		{"no cn", TLSOptions{Identity: CertCN}, &bare, "c", protocol.NotAuthorized, none, "", ""},
		{"no uri", TLSOptions{Identity: CertURI}, &bare, "c", protocol.NotAuthorized, none, "", ""},
		{"no dns", TLSOptions{Identity: CertDNS}, &bare, "c", protocol.NotAuthorized, none, "", ""},
		{"no email", TLSOptions{Identity: CertEmail}, &bare, "c", protocol.NotAuthorized, none, "", ""},
		{"spiffe match", TLSOptions{Identity: CertURI, IdentityMatch: true}, &full, uri.String(), 0, uri.String(), "", "user"},
		{"spiffe mismatch", TLSOptions{Identity: CertURI, IdentityMatch: true}, &full, "c", protocol.ClientIdentifierNotValid, none, "", ""},
		{"match without an identifier", TLSOptions{Identity: CertCN, IdentityMatch: true}, &full, "", protocol.ClientIdentifierNotValid, none, "", ""},
		{"match by assignment", TLSOptions{Identity: CertCN, IdentityMatch: true, IdentityAs: IdentityAsClientID}, &full, "", 0, "seven", "seven", "user"},
		{"no certificate", TLSOptions{Identity: CertCN, IdentityMatch: true}, nil, "c", 0, "", "", "user"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPKI(t)
			o := tt.options
			o.CertFile, o.KeyFile, o.ClientCAFile, o.ClientCert = p.options.CertFile, p.options.KeyFile, p.options.ClientCAFile, ClientCertOptional
			seen := make(chan Client, 1)
			g := newGateway(t, withTLS(&o), func(opt *Options) {
				opt.Authenticator = AuthenticatorFunc(func(_ context.Context, r *ConnectRequest) (Identity, error) {
					seen <- r.Client
					return Identity{}, nil
				})
			})
			var certs []tls.Certificate
			if tt.cert != nil {
				certs = append(certs, p.client(*tt.cert))
			}
			c := overTLS(t, g, p.config(certs...), connectPacket(tt.id, func(p *protocol.Connect) { p.HasUsername, p.Username = true, "user" }))
			c.expect(withCode("CONNACK", tt.code))
			if tt.code != 0 {
				c.expect("closed")
				return
			}
			got := <-seen
			if tt.seenID == "" {
				tt.seenID = tt.id
			}
			if got.PeerIdentity != tt.identity || string(got.ID) != tt.seenID || got.Username != tt.seenUser || (got.Certificate != nil) != (tt.cert != nil) {
				t.Errorf("identity %q, client %q, user %q, certificate %v; want %q, %q, %q", got.PeerIdentity, got.ID, got.Username, got.Certificate != nil, tt.identity, tt.seenID, tt.seenUser)
			}
		})
	}
}

// TestCertificateReload: new files are noticed and taken for new connections;
// old connections go on; files that are of no use change nothing and are
// reported once.
func TestCertificateReload(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	var log lines
	g := newGateway(t, withTLS(p.options), func(o *Options) {
		o.Logger = log.logger()
		o.Timing.Certificates = 5 * time.Millisecond
	})
	shown := func() string {
		nc, err := dialTLS(t, g, "tls", p.config())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		return nc.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	old := overTLS(t, g, p.config(), connectPacket("old"))
	old.expect("CONNACK")
	if got := shown(); got != p.serial.String() {
		t.Fatalf("serial number %s, want %s", got, p.serial)
	}
	second := p.server(p.options.CertFile, p.options.KeyFile)
	eventually(t, "the second certificate", func() bool { return shown() == second.String() })
	old.ping()

	const useless = "the old ones stay in force"
	before := log.count(useless) // The key was exchanged before the certificate.
	write(t, p.options.CertFile, []byte("no certificate"))
	eventually(t, "reported", func() bool { return log.count(useless) > before })
	if got := shown(); got != second.String() {
		t.Errorf("serial number %s, want %s", got, second)
	}
	if err := os.Remove(p.options.CertFile); err != nil {
		t.Fatal(err)
	}
	eventually(t, "missing file reported", func() bool { return log.count(useless) > before+1 })
	time.Sleep(50 * time.Millisecond) // Ten looks more: nothing is to happen.
	if n := log.count(useless); n != before+2 {
		t.Errorf("reported %d times, want twice", n-before)
	}
	if err := g.ReloadCertificates(); err == nil || !strings.Contains(err.Error(), p.options.CertFile) {
		t.Errorf("ReloadCertificates: %v, want an error that names the file", err)
	}
	third := p.server(p.options.CertFile, p.options.KeyFile)
	eventually(t, "the third certificate", func() bool { return shown() == third.String() })
	old.ping()
}

// TestClientCAReload: who was let in by an authority that is none any more
// does not get in by a ticket of its last session.
func TestClientCAReload(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	p.options.ClientCert = ClientCertRequired
	g := newGateway(t, withTLS(p.options), func(o *Options) { o.Timing.Certificates = -1 })
	config := p.config(p.client(x509.Certificate{Subject: pkix.Name{CommonName: "device"}}))
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	c := overTLS(t, g, config, connectPacket("c"))
	c.expect("CONNACK")
	c.goodbye()
	write(t, p.options.ClientCAFile, newAuthority(t, "another").pem)
	if err := g.ReloadCertificates(); err != nil {
		t.Fatal(err)
	}
	if nc, err := dialTLS(t, g, "tls", config); err == nil {
		nc.SetReadDeadline(time.Now().Add(patience))
		if _, err = nc.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("let in")
		}
	}
	eventually(t, "counted", func() bool { return g.Stats().Refused[RefusedTLS] == 1 })
}

// TestTLSOptions: every fault is named by its field.
func TestTLSOptions(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	for _, tt := range []struct {
		field  string
		change func(*TLSOptions)
	}{
		{"TLS.CertFile", func(o *TLSOptions) { o.CertFile = "" }},
		{"TLS.CertFile", func(o *TLSOptions) { o.CertFile = "no/such/file" }},
		{"TLS.CertFile", func(o *TLSOptions) { o.CertFile = o.KeyFile }},
		{"TLS.KeyFile", func(o *TLSOptions) { o.KeyFile = "" }},
		{"TLS.KeyFile", func(o *TLSOptions) { o.KeyFile = "no/such/file" }},
		{"TLS.ClientCert", func(o *TLSOptions) { o.ClientCert = "maybe" }},
		{"TLS.ClientCAFile", func(o *TLSOptions) { o.ClientCert, o.ClientCAFile = ClientCertRequired, "" }},
		{"TLS.ClientCAFile", func(o *TLSOptions) { o.ClientCert, o.ClientCAFile = ClientCertRequired, o.KeyFile }},
		{"TLS.MinVersion", func(o *TLSOptions) { o.MinVersion = tls.VersionTLS11 }},
		{"TLS.Identity", func(o *TLSOptions) { o.Identity = CertCN }},
		{"TLS.Identity", func(o *TLSOptions) { o.ClientCert, o.Identity = ClientCertRequired, "shoe size" }},
		{"TLS.IdentityAs", func(o *TLSOptions) { o.IdentityAs = IdentityAsUsername }},
		{"TLS.IdentityAs", func(o *TLSOptions) { o.ClientCert, o.Identity, o.IdentityAs = ClientCertRequired, CertCN, "friend" }},
		{"TLS.IdentityMatch", func(o *TLSOptions) { o.IdentityMatch = true }},
	} {
		secure := *p.options
		tt.change(&secure)
		o := plainOptions(newCluster(t, 1).store.Peer(), newCluster(t, 1).bus.Gateway())
		withTLS(&secure)(&o)
		_, err := New(o)
		var wrong *ConfigError
		if !errors.As(err, &wrong) || wrong.Field != tt.field || strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("%v, want one ConfigError of %s", err, tt.field)
		}
	}
}

// TestHandshakePlaces: clients in the middle of a handshake that say nothing
// take no place from those who do.
func TestHandshakePlaces(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	g := newGateway(t, withTLS(p.options), func(o *Options) { o.Limits.Handshakes = 1 })
	hello := clientHello(t, p.config())
	for _, piece := range [][]byte{nil, hello[:1], hello[:100], hello} {
		nc, err := net.Dial("tcp", g.Addr("tls").String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.Write(piece)
		if len(piece) == len(hello) { // The server's answer has come: it waits for ours.
			nc.SetReadDeadline(time.Now().Add(patience))
			if _, err := nc.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			nc, err := dialTLS(t, g, "tls", p.config())
			if err != nil {
				t.Error(err)
				return
			}
			nc.Close()
		})
	}
	all.Wait()
}

// clientHello is the first flight of a handshake.
func clientHello(t *testing.T, config *tls.Config) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	config.ServerName = "127.0.0.1"
	go tls.Client(theirs, config).Handshake() // ends with the pipe
	defer ours.Close()
	b := make([]byte, 4096)
	n, err := ours.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}
