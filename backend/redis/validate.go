package redis

import (
	"errors"
	"fmt"
)

// Validate checks what can be checked without asking Redis.
func (o Options) Validate() error {
	o.setDefaults()
	_, err := o.address()
	return err
}

// address returns what the options say of the way to Redis.
func (o *Options) address() (*address, error) {
	a, err := parseURL(o.URL)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	if a.clustered && o.WaitReplicas > 0 {
		return nil, errors.New("redis: replicas of a cluster can not be waited for")
	}
	if o.Username != "" {
		a.client.Username = o.Username
	}
	if o.Password != "" {
		a.client.Password = o.Password
	}
	if o.TLS != nil {
		if a.client.TLSConfig == nil {
			return nil, errors.New("redis: there are settings for TLS, but the URL does not ask for it: rediss://, or tls=true for a Sentinel group")
		}
		own := o.TLS.Clone()
		own.MinVersion = max(own.MinVersion, a.client.TLSConfig.MinVersion)
		if own.ServerName == "" {
			own.ServerName = a.client.TLSConfig.ServerName
		}
		a.client.TLSConfig = own
	}
	return a, nil
}
