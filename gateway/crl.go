package gateway

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sluice-mqtt/sluice/protocol"
)

// revocations are the certificates that their authorities have taken back, by
// authority; nil where nobody is asked.
type revocations map[string]*revocationList

// revocationList is one of RFC 5280 §5.
type revocationList struct {
	made, over time.Time
	serials    map[string]struct{}
}

// loadRevocations reads a file of lists, each of which must be signed by one of
// the authorities. Of two of one authority the newer counts.
func loadRevocations(file string, authorities []*x509.Certificate) (revocations, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	all := make(revocations)
	for {
		var block *pem.Block
		if block, content = pem.Decode(content); block == nil {
			break
		}
		list, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return nil, err
		}
		if !signedByOne(list, authorities) {
			return nil, fmt.Errorf("the list of %s is not signed by an authority of clients", list.Issuer)
		}
		if was := all[string(list.RawIssuer)]; was != nil && !list.ThisUpdate.After(was.made) {
			continue
		}
		l := &revocationList{made: list.ThisUpdate, over: list.NextUpdate, serials: make(map[string]struct{}, len(list.RevokedCertificateEntries))}
		for _, e := range list.RevokedCertificateEntries {
			l.serials[string(e.SerialNumber.Bytes())] = struct{}{}
		}
		all[string(list.RawIssuer)] = l
	}
	if len(all) == 0 {
		return nil, errors.New("no revocation list in it")
	}
	return all, nil
}

func signedByOne(list *x509.RevocationList, authorities []*x509.Certificate) bool {
	for _, ca := range authorities {
		if bytes.Equal(ca.RawSubject, list.RawIssuer) && list.CheckSignatureFrom(ca) == nil {
			return true
		}
	}
	return false
}

// parseCertificates reads the certificates of a PEM file, and skips what is none.
func parseCertificates(content []byte) (all []*x509.Certificate) {
	for {
		var block *pem.Block
		if block, content = pem.Decode(content); block == nil {
			return all
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			all = append(all, c)
		}
	}
}

// check refuses a certificate that is on the list of its authority, and a client's
// where the authority has no list here, or none that is of today: as long as
// nobody knows that it is good it is not.
func (r revocations) check(cert *x509.Certificate, client bool) error {
	l := r[string(cert.RawIssuer)]
	switch {
	case l == nil && !client:
		return nil
	case l == nil:
		return fmt.Errorf("gateway: no revocation list of %s", cert.Issuer)
	case !l.over.IsZero() && time.Now().After(l.over):
		return fmt.Errorf("gateway: the revocation list of %s was good until %v", cert.Issuer, l.over)
	}
	if r.names(cert) {
		return fmt.Errorf("gateway: certificate %x has been revoked", cert.SerialNumber)
	}
	return nil
}

// names reports whether a certificate is on the list of its authority.
func (r revocations) names(cert *x509.Certificate) bool {
	l := r[string(cert.RawIssuer)]
	if l == nil {
		return false
	}
	_, ok := l.serials[string(cert.SerialNumber.Bytes())]
	return ok
}

// verify is for tls.Config.VerifyConnection, which resumed sessions meet as well.
func (r revocations) verify(state tls.ConnectionState) error {
	for _, chain := range state.VerifiedChains {
		for i, cert := range chain[:len(chain)-1] { // not the root
			if err := r.check(cert, i == 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// endRevoked sends the clients away whose certificates have been revoked since
// they connected.
func (g *Gateway) endRevoked(s *certificates) {
	r := s.revoked.Load()
	if r == nil {
		return
	}
	for _, c := range g.clients.all() {
		if cert := c.client.Certificate; cert != nil && r.names(cert) {
			c.end(protocol.NotAuthorized, "certificate has been revoked")
		}
	}
}
