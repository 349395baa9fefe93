package token

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

// parsePEM reads public keys and certificates.
func parsePEM(text []byte) ([]any, error) {
	var keys []any
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		var key any
		var err error
		switch block.Type {
		case "PUBLIC KEY":
			key, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			key, err = x509.ParsePKCS1PublicKey(block.Bytes)
		case "CERTIFICATE":
			var c *x509.Certificate
			if c, err = x509.ParseCertificate(block.Bytes); err == nil {
				key = c.PublicKey
			}
		default:
			return nil, fmt.Errorf("PEM block %q; allowed are PUBLIC KEY, RSA PUBLIC KEY and CERTIFICATE", block.Type)
		}
		if err != nil {
			return nil, err
		}
		if err := sound(key); err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	if keys == nil {
		return nil, errors.New("no PEM block in it")
	}
	return keys, nil
}

// sound refuses keys that verify nothing, or that are too weak.
func sound(key any) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < 2048 { // RFC 7518 §3.3
			return fmt.Errorf("RSA key of %d bits; allowed is 2048 or more", k.N.BitLen())
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return fmt.Errorf("a key of type %T; allowed are RSA, ECDSA and Ed25519", key)
	}
	return nil
}

// suits reports whether a key is of the kind that a method needs.
func suits(key any, m jwt.SigningMethod) bool {
	switch m := m.(type) {
	case *jwt.SigningMethodRSA, *jwt.SigningMethodRSAPSS:
		_, ok := key.(*rsa.PublicKey)
		return ok
	case *jwt.SigningMethodECDSA:
		k, ok := key.(*ecdsa.PublicKey)
		return ok && k.Curve.Params().BitSize == m.CurveBits
	case *jwt.SigningMethodEd25519:
		_, ok := key.(ed25519.PublicKey)
		return ok
	}
	return false
}

const (
	// refreshAtMost is how soon a key set is asked for again because of a key
	// that is not in it: anybody can make up a name.
	refreshAtMost = 5 * time.Second
	maxKeySet     = 1 << 20
)

// setKey is a key of a set; alg is the one algorithm that it is for, if it says.
type setKey struct {
	kid, alg string
	key      any
}

// keys are a key set as it was at a time.
type keys struct {
	all     []setKey
	fetched time.Time
}

// keySet is a JWK Set behind a URL.
type keySet struct {
	url     string
	client  *http.Client
	refresh time.Duration
	current atomic.Pointer[keys]
	// turn is taken by whoever fetches; tried is when that was last done, and
	// failed what came of it.
	turn   chan struct{}
	tried  time.Time
	failed error
}

func newKeySet(o Options) (*keySet, error) {
	u, err := url.Parse(o.KeySetURL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return nil, errors.New("not a URL of http or https")
	}
	s := &keySet{url: o.KeySetURL, client: o.Client, refresh: o.Refresh, turn: make(chan struct{}, 1)}
	if s.client == nil {
		s.client = &http.Client{Timeout: 5 * time.Second}
	}
	if s.refresh <= 0 {
		s.refresh = 15 * time.Minute
	}
	return s, nil
}

// find returns the keys of that name, or all if the token names none, that suit
// the method. For a name that is not in the set, the set is fetched anew. When it
// is old, that is done by the way, and the old one is good meanwhile.
func (s *keySet) find(ctx context.Context, kid string, m jwt.SigningMethod) ([]jwt.VerificationKey, error) {
	now := s.current.Load()
	if now != nil {
		if found, known := now.find(kid, m); known {
			if time.Since(now.fetched) > s.refresh {
				select {
				case s.turn <- struct{}{}:
					go func() { // ends with the client's time limit
						defer func() { <-s.turn }()
						s.fetchLocked(ctx, now)
					}()
				default: // somebody is at it
				}
			}
			return found, nil
		}
	}
	if err := s.fetch(ctx, now); err != nil {
		return nil, err
	}
	found, known := s.current.Load().find(kid, m)
	if !known {
		return nil, errors.New("no such key")
	}
	return found, nil
}

// find also tells whether there is a key of that name, of whatever kind.
func (k *keys) find(kid string, m jwt.SigningMethod) (found []jwt.VerificationKey, known bool) {
	for _, key := range k.all {
		if kid != "" && key.kid != kid {
			continue
		}
		known = true
		if suits(key.key, m) && (key.alg == "" || key.alg == m.Alg()) {
			found = append(found, key.key)
		}
	}
	return found, known
}

// fetch replaces the set, unless somebody else has done so since it was seen as
// old, or it was tried a moment ago.
func (s *keySet) fetch(ctx context.Context, old *keys) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
	defer func() { <-s.turn }()
	return s.fetchLocked(ctx, old)
}

// fetchLocked is fetch for whoever has the turn. The request does not end with
// the client that it is made for: others wait for it.
func (s *keySet) fetchLocked(ctx context.Context, old *keys) error {
	if s.current.Load() != old {
		return nil
	}
	if time.Since(s.tried) < refreshAtMost {
		return s.failed
	}
	all, err := s.get(context.WithoutCancel(ctx))
	s.tried, s.failed = time.Now(), err
	if err != nil {
		s.failed = fmt.Errorf("%w: %w", ErrUnavailable, err)
		return s.failed
	}
	s.current.Store(&keys{all, time.Now()})
	return nil
}

func (s *keySet) get(ctx context.Context) ([]setKey, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := s.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answer %s", answer.Status)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxKeySet+1))
	if err != nil {
		return nil, err
	}
	var set jwkset.JWKSMarshal
	if len(body) > maxKeySet {
		return nil, fmt.Errorf("more than %d bytes", maxKeySet)
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, fmt.Errorf("not a JWK Set: %w", err)
	}
	var all []setKey
	for _, m := range set.Keys {
		if m.USE != "" && m.USE != jwkset.UseSig {
			continue
		}
		k, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
		if err != nil || sound(k.Key()) != nil {
			continue // of a kind that is not for us; others may be
		}
		all = append(all, setKey{m.KID, string(m.ALG), k.Key()})
	}
	if len(all) == 0 {
		return nil, errors.New("no key in it that verifies signatures")
	}
	return all, nil
}
