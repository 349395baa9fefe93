package harness

import (
	"fmt"
	"sync"
	"testing"
)

// ClusterOptions say what a cluster is made of. The zero value is three
// gateways.
type ClusterOptions struct {
	// Gateways is how many; 0 is 3.
	Gateways int
	// Env are variables of all gateways.
	Env []string
	// Proxies has each gateway reach Redis and NATS through a proxy of its
	// own.
	Proxies bool
	// Redis are settings of Redis, in pairs.
	Redis []string
}

// Cluster is gateways on one Redis and one NATS, with a balancer in front.
type Cluster struct {
	Redis, NATS *Server
	Gateways    []*Gateway
	Balancer    *Balancer
	// ToRedis and ToNATS are the proxies, one a gateway, if there are any.
	ToRedis, ToNATS []*Proxy
}

// StartCluster starts a cluster of the test's own and waits until all of it is
// ready. At the end of the test the gateways are stopped, and every one that
// runs must leave with exit code 0; one that has ended by itself, or in which
// the race detector has found something, fails the test.
func StartCluster(t testing.TB, o ClusterOptions) *Cluster {
	t.Helper()
	if external() != nil {
		t.Skip("needs a cluster of its own, and E2E_TCP is set")
	}
	if o.Gateways == 0 {
		o.Gateways = 3
	}
	c := &Cluster{Redis: StartRedis(t, o.Redis...), NATS: StartNATS(t)}
	for range o.Gateways {
		redis, nats := c.Redis.Address, c.NATS.Address
		if o.Proxies {
			toRedis, toNATS := StartProxy(t, redis), StartProxy(t, nats)
			c.ToRedis, c.ToNATS = append(c.ToRedis, toRedis), append(c.ToNATS, toNATS)
			redis, nats = toRedis.Address(), toNATS.Address()
		}
		g, err := prepare(append(drivers(redis, nats), o.Env...))
		if err != nil {
			t.Fatal(err)
		}
		c.Gateways = append(c.Gateways, g)
	}
	for _, g := range c.Gateways {
		g.launch()
		t.Cleanup(func() { g.finish(t) })
	}
	for _, g := range c.Gateways {
		g.AwaitReady(t)
	}
	c.Balancer = StartBalancer(t, c.Gateways...)
	return c
}

// drivers are the variables of a gateway in a cluster.
func drivers(redis, nats string) []string {
	return []string{"GATEWAY_BACKEND=nats", "GATEWAY_STORE=redis", "REDIS_URL=redis://" + redis, "NATS_URL=nats://" + nats}
}

// services are the Redis and the NATS of all clusters that Start and Shared
// make where E2E_CLUSTER is set; each cluster has prefixes of its own.
var services struct {
	sync.Mutex
	redis, nats *Server
	dir         string
	clusters    int
}

// startMembers starts n gateways that tests use as one.
func startMembers(n int, env []string) (*Gateway, error) {
	own, err := share()
	if err != nil {
		return nil, err
	}
	all := &Gateway{}
	for range n {
		g, err := prepare(append(own, env...))
		if err != nil {
			return nil, err
		}
		g.launch()
		all.members = append(all.members, g)
		all.cluster, all.clusterW = append(all.cluster, g.TCP), append(all.clusterW, g.WS)
	}
	first := all.members[0]
	all.TCP, all.WS, all.HTTP, all.process = first.TCP, first.WS, first.HTTP, first.process
	for _, g := range all.members {
		if err := g.ready(); err != nil {
			text := g.process.log.tail()
			for _, g := range all.members {
				g.process.kill()
			}
			return nil, fmt.Errorf("harness: a gateway of a cluster is not ready: %w\n%s", err, text)
		}
	}
	return all, nil
}

// share starts the services at the first call and returns the variables of a
// new cluster on them.
func share() ([]string, error) {
	services.Lock()
	defer services.Unlock()
	var err error
	if services.nats == nil {
		if services.nats, err = startNATS(); err != nil {
			return nil, err
		}
	}
	if services.redis == nil {
		if services.dir, err = memoryDir(); err != nil {
			return nil, err
		}
		if services.redis, err = startRedis(services.dir, nil); err != nil {
			return nil, err
		}
	}
	services.clusters++
	return append(drivers(services.redis.Address, services.nats.Address),
		fmt.Sprintf("REDIS_KEY_PREFIX=c%d:", services.clusters), fmt.Sprintf("NATS_SUBJECT_PREFIX=c%d", services.clusters)), nil
}
