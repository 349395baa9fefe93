package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mqtt/sluice/protocol"
)

// TLSOptions make a [Listener] one of TLS. Several listeners may share one: the
// files are then read, watched and reported once.
type TLSOptions struct {
	// CertFile and KeyFile are PEM: the server's certificate with what chains
	// it to its authority, and its key. Required.
	CertFile, KeyFile string
	// ClientCAFile is PEM: the authorities of client certificates. Required
	// where these are asked for.
	ClientCAFile string
	// ClientCRLFile is PEM: revocation lists of those authorities. With it, a
	// client gets in only if the authority of its certificate has a list there,
	// which is not out of date and does not name the certificate. Clients whose
	// certificate is on a new list are sent away (0x87).
	ClientCRLFile string
	// ClientCert says whether clients show a certificate. Default: none.
	ClientCert ClientCertPolicy
	// MinVersion is tls.VersionTLS12, the default, or tls.VersionTLS13.
	MinVersion uint16

	// Identity is the part of a client's certificate that names it. Default:
	// none does, and certificates only let clients in. A client with a
	// certificate that lacks the part is refused with 0x87.
	Identity CertIdentity
	// IdentityAs says what the identity replaces of what CONNECT says.
	// Default: nothing; it is in [Client].PeerIdentity only.
	IdentityAs IdentityUse
	// IdentityMatch refuses (0x85) clients with a certificate whose client
	// identifier is not their identity. A SPIFFE ID is Identity CertURI.
	IdentityMatch bool
}

// ClientCertPolicy says whether TLS clients show a certificate.
type ClientCertPolicy string

// CertIdentity is a part of a client's certificate.
type CertIdentity string

// IdentityUse is what a certificate's identity stands in for.
type IdentityUse string

const (
	ClientCertNone     ClientCertPolicy = "none"
	ClientCertOptional ClientCertPolicy = "optional" // checked where shown
	ClientCertRequired ClientCertPolicy = "required"

	CertNothing CertIdentity = "none"
	CertCN      CertIdentity = "cn"        // the subject's common name
	CertDN      CertIdentity = "dn"        // the subject, as RFC 2253 writes it
	CertURI     CertIdentity = "san_uri"   // the first subject alternative name of its kind,
	CertDNS     CertIdentity = "san_dns"   // of which a certificate should
	CertEmail   CertIdentity = "san_email" // have just one

	IdentityAsNothing  IdentityUse = "none"
	IdentityAsUsername IdentityUse = "username"
	IdentityAsClientID IdentityUse = "client_id"
)

var (
	clientCertPolicies = []ClientCertPolicy{ClientCertNone, ClientCertOptional, ClientCertRequired}
	certIdentities     = []CertIdentity{CertNothing, CertCN, CertDN, CertURI, CertDNS, CertEmail}
	identityUses       = []IdentityUse{IdentityAsNothing, IdentityAsUsername, IdentityAsClientID}
)

// cipherSuites of TLS 1.2: forward secret and authenticated, all others have
// known weaknesses. The order is the library's own, as are those of TLS 1.3.
var cipherSuites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

func (o *TLSOptions) check(bad func(field string, value any, allowed string)) {
	orDefault(&o.ClientCert, ClientCertNone)
	orDefault(&o.MinVersion, tls.VersionTLS12)
	orDefault(&o.Identity, CertNothing)
	orDefault(&o.IdentityAs, IdentityAsNothing)
	if o.CertFile == "" {
		bad("TLS.CertFile", "", "a file, since a listener of TLS is on")
	}
	if o.KeyFile == "" {
		bad("TLS.KeyFile", "", "a file, since a listener of TLS is on")
	}
	if !slices.Contains(clientCertPolicies, o.ClientCert) {
		bad("TLS.ClientCert", o.ClientCert, "none, optional, required")
	} else if o.ClientCert != ClientCertNone && o.ClientCAFile == "" {
		bad("TLS.ClientCAFile", "", "a file, since clients are asked for certificates")
	}
	if o.ClientCRLFile != "" && o.ClientCert == ClientCertNone {
		bad("TLS.ClientCRLFile", o.ClientCRLFile, "none, since clients are not asked for certificates")
	}
	if o.MinVersion != tls.VersionTLS12 && o.MinVersion != tls.VersionTLS13 {
		bad("TLS.MinVersion", tls.VersionName(o.MinVersion), "TLS 1.2, TLS 1.3")
	}
	if !slices.Contains(certIdentities, o.Identity) {
		bad("TLS.Identity", o.Identity, "none, cn, dn, san_uri, san_dns, san_email")
	} else if o.Identity != CertNothing && o.ClientCert == ClientCertNone {
		bad("TLS.Identity", o.Identity, "none, since clients are not asked for certificates")
	}
	if !slices.Contains(identityUses, o.IdentityAs) {
		bad("TLS.IdentityAs", o.IdentityAs, "none, username, client_id")
	} else if o.IdentityAs != IdentityAsNothing && o.Identity == CertNothing {
		bad("TLS.IdentityAs", o.IdentityAs, "none, since certificates give no identity")
	}
	if o.IdentityMatch && o.Identity == CertNothing {
		bad("TLS.IdentityMatch", true, "false, since certificates give no identity")
	}
}

// identity finds the name of a client in its certificate; empty if it is not
// there.
func (o *TLSOptions) identity(cert *x509.Certificate) string {
	switch o.Identity {
	case CertCN:
		return cert.Subject.CommonName
	case CertDN:
		return cert.Subject.String()
	case CertURI:
		if len(cert.URIs) > 0 {
			return cert.URIs[0].String()
		}
	case CertDNS:
		if len(cert.DNSNames) > 0 {
			return cert.DNSNames[0]
		}
	case CertEmail:
		if len(cert.EmailAddresses) > 0 {
			return cert.EmailAddresses[0]
		}
	}
	return ""
}

// certificates are the files of a [TLSOptions], as they were when they were
// good last.
type certificates struct {
	options *TLSOptions
	config  atomic.Pointer[tls.Config]
	revoked atomic.Pointer[revocations]

	mu   sync.Mutex
	seen []fileMark // of what was tried last
}

// fileMark tells versions of a file apart.
type fileMark struct {
	size     int64
	modified time.Time
	err      string
}

func (o *TLSOptions) files() []string {
	files := []string{o.CertFile, o.KeyFile}
	if o.ClientCert != ClientCertNone {
		files = append(files, o.ClientCAFile)
		if o.ClientCRLFile != "" {
			files = append(files, o.ClientCRLFile)
		}
	}
	return files
}

// marks looks at the files. It follows links, so that it sees a directory of
// Kubernetes secrets being exchanged as a whole.
func (o *TLSOptions) marks() []fileMark {
	var marks []fileMark
	for _, name := range o.files() {
		info, err := os.Stat(name)
		if err != nil {
			marks = append(marks, fileMark{err: err.Error()})
			continue
		}
		marks = append(marks, fileMark{size: info.Size(), modified: info.ModTime()})
	}
	return marks
}

// load reads the files. An error is a [ConfigError] of one of them, and leaves
// what is in force.
//
// The configuration is a new one each time, with ticket keys of its own: no
// session is resumed that other certificates than those in force have allowed.
func (s *certificates) load() error {
	o := s.options
	cert, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
	if err != nil {
		field, value := "TLS.CertFile", o.CertFile
		var missing *os.PathError
		if errors.As(err, &missing) && missing.Path == o.KeyFile {
			field, value = "TLS.KeyFile", o.KeyFile
		}
		return &ConfigError{Field: field, Value: value, Cause: err}
	}
	c := &tls.Config{
		Certificates: []tls.Certificate{cert},
		MinVersion:   o.MinVersion,
		CipherSuites: cipherSuites,
	}
	if o.ClientCert != ClientCertNone {
		pem, err := os.ReadFile(o.ClientCAFile)
		c.ClientCAs = x509.NewCertPool()
		if err == nil && !c.ClientCAs.AppendCertsFromPEM(pem) {
			err = errors.New("no certificate in it")
		}
		if err != nil {
			return &ConfigError{Field: "TLS.ClientCAFile", Value: o.ClientCAFile, Cause: err}
		}
		c.ClientAuth = tls.VerifyClientCertIfGiven
		if o.ClientCert == ClientCertRequired {
			c.ClientAuth = tls.RequireAndVerifyClientCert
		}
		if o.ClientCRLFile != "" {
			r, err := loadRevocations(o.ClientCRLFile, parseCertificates(pem))
			if err != nil {
				return &ConfigError{Field: "TLS.ClientCRLFile", Value: o.ClientCRLFile, Cause: err}
			}
			c.VerifyConnection = r.verify
			s.revoked.Store(&r)
		}
	}
	s.config.Store(c)
	return nil
}

// reload loads the files if they have changed since they were tried, or in any
// case with force. It reports whether it tried.
func (s *certificates) reload(force bool) (tried bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	marks := s.options.marks()
	if !force && slices.Equal(marks, s.seen) {
		return false, nil
	}
	s.seen = marks
	return true, s.load()
}

// certificatesFor returns what a listener's options were loaded into, nil for
// a listener without TLS.
func (g *Gateway) certificatesFor(l *Listener) *certificates {
	i := slices.IndexFunc(g.certificates, func(s *certificates) bool { return s.options == l.TLS })
	if l.TLS == nil || i < 0 {
		return nil
	}
	return g.certificates[i]
}

// loadCertificates reads the files of all listeners of TLS.
func (g *Gateway) loadCertificates() error {
	var errs []error
	for i := range g.opt.Listeners {
		l := &g.opt.Listeners[i]
		if l.TLS == nil || g.certificatesFor(l) != nil {
			continue
		}
		s := &certificates{options: l.TLS}
		_, err := s.reload(true)
		errs = append(errs, err)
		g.certificates = append(g.certificates, s)
	}
	return errors.Join(errs...)
}

// ReloadCertificates reads the certificate files of all listeners again,
// whether they have changed or not; the gateway does so by itself when it sees
// a change (Timing.Certificates). Connections go on with what they began with.
// Where the new files are of no use, the old certificates stay in force, and
// the error, which is logged too, says why.
func (g *Gateway) ReloadCertificates() error { return g.reloadCertificates(true) }

func (g *Gateway) reloadCertificates(force bool) error {
	var errs []error
	for _, s := range g.certificates {
		tried, err := s.reload(force)
		switch {
		case err != nil:
			g.log.Error("certificates are not usable, the old ones stay in force", "err", err)
		case tried:
			g.log.Info("certificates loaded", "file", s.options.CertFile)
			g.endRevoked(s)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// watchCertificates looks for changed files until the context ends. It looks
// instead of being told by the system, since that does not tell of everything:
// network file systems, mounts and exchanged directories are not heard of.
func (g *Gateway) watchCertificates(ctx context.Context) {
	for len(g.certificates) > 0 && g.opt.Timing.Certificates > 0 && sleep(ctx, g.opt.Timing.Certificates) {
		g.reloadCertificates(false) // It logs.
	}
}

// secure does the TLS handshake of a connection, within its deadline, and
// notes who the peer is.
func (g *Gateway) secure(s *certificates, a *arrival) error {
	over := time.NewTimer(time.Until(a.deadline))
	defer over.Stop()
	socket := &tlsSocket{Conn: a.nc, places: g.handshakes, over: over.C}
	socket.conn = tls.Server(socket, s.config.Load())
	err := socket.conn.Handshake()
	socket.leave()
	socket.places, socket.over = nil, nil
	if err != nil {
		return err
	}
	a.nc = socket.conn
	a.identify(socket.conn, s.options)
	return nil
}

// identify notes the certificate that the peer of a TLS connection has shown
// and that was verified.
func (a *arrival) identify(conn *tls.Conn, o *TLSOptions) {
	state := conn.ConnectionState()
	if len(state.VerifiedChains) == 0 {
		return
	}
	a.certificate = state.PeerCertificates[0]
	if o != nil && o.Identity != CertNothing {
		a.tls, a.identity = o, o.identity(a.certificate)
	}
}

// certify applies the identity of the client's certificate, if it is to have
// one, to what CONNECT says.
func (c *conn) certify(p *protocol.Connect) bool {
	o := c.came.tls
	switch {
	case o == nil:
		return true
	case c.came.identity == "" || !protocol.ValidString(c.came.identity):
		return c.refuse(protocol.NotAuthorized, "certificate without an identity")
	case o.IdentityMatch && p.ClientID != c.came.identity && (p.ClientID != "" || o.IdentityAs != IdentityAsClientID):
		return c.refuse(protocol.ClientIdentifierNotValid, "client identifier is not that of the certificate")
	}
	switch o.IdentityAs {
	case IdentityAsUsername:
		p.Username, p.HasUsername = c.came.identity, true
	case IdentityAsClientID:
		p.ClientID = c.came.identity
	}
	return true
}
