package redis

import (
	"context"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sluice-mqtt/sluice/backend/backendtest"
)

// startCluster runs a cluster of three servers until the test ends, and returns
// its URL.
func startCluster(t testing.TB) string {
	t.Helper()
	const shards, slots = 3, 16384
	ctx := context.Background()
	var addresses []string
	var clients []*goredis.Client
	for range shards {
		s := startServer(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "10000")
		addresses = append(addresses, s.address)
		clients = append(clients, s.direct(t))
	}
	for i, c := range clients {
		if err := c.ClusterAddSlotsRange(ctx, i*slots/shards, (i+1)*slots/shards-1).Err(); err != nil {
			t.Fatal(err)
		}
		host, port, _ := net.SplitHostPort(addresses[0])
		if err := c.ClusterMeet(ctx, host, port).Err(); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(30 * time.Second)
	for _, c := range clients {
		for {
			info, err := c.ClusterInfo(ctx).Result()
			if err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:"+strconv.Itoa(shards)) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the cluster does not come up: %v\n%s", err, info)
			}
			time.Sleep(10 * time.Millisecond) // nothing announces it
		}
	}
	return "redis://" + strings.Join(addresses, ",")
}

func TestStoreOnCluster(t *testing.T) {
	backendtest.TestStore(t, harness(startCluster(t)))
}
