package main

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/sluice-mqtt/sluice/backend/nats"
	"github.com/sluice-mqtt/sluice/backend/redis"
)

// redisOptions returns what a store in Redis is to be made of.
func (c *config) redisOptions(log *slog.Logger) (redis.Options, error) {
	secure, err := clientTLS("REDIS", c.RedisTLSCA, c.RedisTLSCert, c.RedisTLSKey, c.RedisTLSInsecure)
	return redis.Options{
		URL:              c.RedisURL,
		Username:         c.RedisUsername,
		Password:         c.RedisPassword,
		TLS:              secure,
		KeyPrefix:        c.RedisKeyPrefix,
		Bus:              c.busName(),
		Logger:           log,
		InboxMessages:    orNegative(c.InboxMessages),
		InboxBytes:       int64(orNegative(c.InboxBytes)),
		InboxFull:        redis.FullPolicy(c.InboxFull),
		Subscriptions:    orNegative(c.MaxSubscriptions),
		RetainedMessages: orNegative(c.RetainedMax),
		RetainedBytes:    int64(orNegative(c.RetainedBytes)),
		ShareStrategy:    c.SharedStrategy,
		WaitReplicas:     c.RedisWaitReplicas,
		PoolSize:         c.RedisPoolSize,
	}, err
}

// busName says what carries messages to other gateways. A bus in memory reaches
// none, so that every process has its own.
func (c *config) busName() string {
	switch {
	case c.Backend == "nats":
		return "nats, " + c.NATSSubjectPrefix
	case c.ID != "":
		return c.Backend + ", of " + c.ID
	}
	return c.Backend + ", of " + rand.Text()[:8]
}

// natsOptions returns what a backend over NATS is to be made of. The cluster is
// anything that is the same for all gateways of it, and for no others.
func (c *config) natsOptions(cluster string, log *slog.Logger) (nats.Options, error) {
	secure, err := clientTLS("NATS", c.NATSTLSCA, c.NATSTLSCert, c.NATSTLSKey, c.NATSTLSInsecure)
	return nats.Options{
		URL:             c.NATSURL,
		SubjectPrefix:   c.NATSSubjectPrefix,
		Cluster:         cluster,
		User:            c.NATSUser,
		Password:        c.NATSPassword,
		Token:           c.NATSToken,
		CredentialsFile: c.NATSCredentials,
		NKeySeedFile:    c.NATSNKey,
		TLS:             secure,
		MaxMessage:      int(c.MaxPacketSize),
		Logger:          log,
	}, err
}

// clientTLS returns how connections to a service are encrypted, nil for the
// defaults. The errors name the variables, whose names begin with service.
func clientTLS(service, ca, cert, key string, insecure bool) (*tls.Config, error) {
	if ca == "" && cert == "" && key == "" && !insecure {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure}
	var errs []error
	if ca != "" {
		if pem, err := os.ReadFile(ca); err != nil {
			errs = append(errs, &problem{service + "_TLS_CA_FILE", ca, err.Error()})
		} else if t.RootCAs = x509.NewCertPool(); !t.RootCAs.AppendCertsFromPEM(pem) {
			errs = append(errs, &problem{service + "_TLS_CA_FILE", ca, "no certificate in it; allowed is PEM"})
		}
	}
	switch {
	case cert != "" && key != "":
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			errs = append(errs, &problem{service + "_TLS_CERT_FILE", cert, fmt.Sprintf("with %s_TLS_KEY_FILE %q: %v", service, key, err)})
		}
		t.Certificates = []tls.Certificate{pair}
	case cert != "" || key != "":
		errs = append(errs, &problem{service + "_TLS_CERT_FILE", cert, "set it together with " + service + "_TLS_KEY_FILE, or neither"})
	}
	return t, errors.Join(errs...)
}
