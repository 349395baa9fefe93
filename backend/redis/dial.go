package redis

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// address is what a URL says.
type address struct {
	client    goredis.UniversalOptions
	clustered bool
	unix      bool
}

// parseURL reads the URL of [Options]. Errors do not repeat it: it may hold a
// password.
func parseURL(text string) (*address, error) {
	text, hosts := cutHosts(text)
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("the URL is not one")
	}
	a := &address{}
	q := u.Query()
	for name := range q {
		switch name {
		case "cluster", "tls", "sentinel_username", "sentinel_password", "pool_size":
		default:
			return nil, fmt.Errorf("the parameter %q is not known", name)
		}
	}
	path := strings.Trim(u.Path, "/")
	secure, port := q.Get("tls") == "true", "6379"
	switch u.Scheme {
	case "redis":
	case "rediss":
		secure = true
	case "unix":
		a.unix, path = true, ""
		a.client.Addrs = []string{u.Path}
	case "redis+sentinel":
		port = "26379"
		a.client.MasterName, path, _ = strings.Cut(path, "/")
		if a.client.MasterName == "" {
			return nil, errors.New("the name of the primary is missing: redis+sentinel://host:26379/name")
		}
		a.client.SentinelUsername, a.client.SentinelPassword = q.Get("sentinel_username"), q.Get("sentinel_password")
	default:
		return nil, fmt.Errorf("the scheme %q is none of redis, rediss, unix and redis+sentinel", u.Scheme)
	}
	if !a.unix {
		a.client.Addrs, err = hostsOf(hosts, port)
		if err != nil {
			return nil, err
		}
	}
	if u.User != nil {
		a.client.Username = u.User.Username()
		a.client.Password, _ = u.User.Password()
	}
	if path != "" {
		if a.client.DB, err = strconv.Atoi(path); err != nil || a.client.DB < 0 {
			return nil, fmt.Errorf("the database %q is not a number", path)
		}
	}
	a.clustered = q.Get("cluster") == "true" || a.client.MasterName == "" && len(a.client.Addrs) > 1
	if a.clustered && a.client.DB != 0 {
		return nil, errors.New("a cluster has no database but 0")
	}
	if secure {
		a.client.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		if len(a.client.Addrs) == 1 {
			a.client.TLSConfig.ServerName, _, _ = net.SplitHostPort(a.client.Addrs[0])
		}
	}
	if size := q.Get("pool_size"); size != "" {
		if a.client.PoolSize, err = strconv.Atoi(size); err != nil || a.client.PoolSize < 1 {
			return nil, fmt.Errorf("the pool size %q is not a number above 0", size)
		}
	}
	return a, nil
}

// cutHosts takes the list of hosts out of a URL, which may have but one.
func cutHosts(text string) (rest, hosts string) {
	scheme, after, ok := strings.Cut(text, "://")
	if !ok {
		return text, ""
	}
	end := strings.IndexAny(after, "/?#")
	if end < 0 {
		end = len(after)
	}
	start := strings.LastIndexByte(after[:end], '@') + 1
	return scheme + "://" + after[:start] + after[end:], after[start:end]
}

// hostsOf splits a list of hosts and adds the port where there is none.
func hostsOf(list, port string) (hosts []string, err error) {
	for host := range strings.SplitSeq(list, ",") {
		if host == "" {
			return nil, errors.New("a host is missing")
		}
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(strings.Trim(host, "[]"), port)
		}
		hosts = append(hosts, host)
	}
	return hosts, nil
}

// probePool: one connection to look with, one for what a client of a cluster asks
// by itself.
const probePool = 2

// dialProbe returns a client for one call at a time.
func dialProbe(a *address, o Options) goredis.UniversalClient {
	own := *a
	own.client.PoolSize = probePool
	return dial(&own, &o)
}

// dial returns a client that connects when it is used.
func dial(a *address, with *Options) goredis.UniversalClient {
	o := a.client
	if o.PoolSize == 0 {
		o.PoolSize = with.PoolSize
	}
	o.ClientName = "sluice"
	o.Protocol = 2
	// A command whose reply is lost may have been carried out. Whether it can
	// be repeated is known here, not there.
	o.MaxRetries = -1
	o.DialerRetries = 1
	o.ContextTimeoutEnabled = true
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = dialTimeout, replyTimeout, replyTimeout
	if with.patience != 0 {
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout = with.patience, with.patience, with.patience
	}
	o.PoolTimeout = o.ReadTimeout
	o.MaxActiveConns = o.PoolSize
	o.DisableIdentity = true
	o.IsClusterMode = a.clustered
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	if !a.unix {
		return goredis.NewUniversalClient(&o)
	}
	simple := o.Simple()
	simple.Network = "unix"
	return goredis.NewClient(simple)
}
