package cluster_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/chaos"
	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// F14: the primary dies and a replica that is 500 ms behind takes its place.
// What is lost was acknowledged within that lag (or later, where an answer of the
// old primary came late); what is older, and all that is sent afterwards, is there,
// in order, for a session that was away and for one that was connected: every
// gateway finds out before it sends anything to the new primary, says so in one
// line, and drops its connections. No session is gone or damaged. Who wants to lose
// nothing sets REDIS_WAIT_REPLICAS: TestFailover and TestFrozenReplica (F15) of
// backend/redis.
//
// The short form shows the same of what is sent after the promotion; how
// far the replica was behind before is a matter of cores there.
func TestF14FailoverWithLag(t *testing.T) {
	t.Parallel()
	const lag = 500 * time.Millisecond
	replica := harness.StartRedis(t) // outlives the gateways, which leave it in order
	c := harness.StartCluster(t, harness.ClusterOptions{Env: settings(), Proxies: true})
	between := harness.StartProxy(t, c.Redis.Address)
	replicate(t, replica, between)
	run := chaos.NewRun(c.Balancer.Address())
	t.Cleanup(run.Close)
	run.Subscribe(chaos.Subscriber{Name: "online", Version: wire.V5, Filters: []wire.Filter{{Topic: run.Topic("t/#"), Options: pick[byte](1, 2)}}})
	away := dial(t, c.Gateways[0], durable(wire.V5, "away"))
	away.Subscribe(run.Topic("t/#"), 1)
	away.Disconnect()
	if !run.AwaitSubscribed(20 * time.Second) {
		t.Fatal("not everybody could subscribe")
	}
	time.Sleep(2 * lag) // the replica has the sessions
	between.Delay(lag)
	for i, v := range []wire.Version{wire.V5, wire.V311, wire.V5, wire.V311} {
		name := fmt.Sprint("p", i)
		run.Publish(chaos.Publisher{Name: name, Version: v, QoS: []byte{1, 2}, Every: 20 * time.Millisecond, Topics: []string{run.Topic("t/" + name)}})
	}
	time.Sleep(pick(2*time.Second, 5*time.Second)) // of load

	cut := time.Since(run.Begin())
	between.Refuse() // what is on its way is lost
	c.Redis.Kill(t)
	down := time.Since(run.Begin())
	run.Note("the primary is dead")
	replica.Do(t, "REPLICAOF NO ONE")
	for _, p := range c.ToRedis {
		p.Redirect(replica.Address)
	}
	run.Note("the replica is the primary")
	up := time.Since(run.Begin())
	for _, g := range c.Gateways {
		g.AwaitReady(t)
	}
	time.Sleep(pick(2*time.Second, 5*time.Second)) // of load
	r := run.Settle(10*time.Second, 2*time.Second)
	t.Log(r)
	if r.Phantom+r.Disorder+r.Broken > 0 {
		t.Errorf("%v", r.Findings)
	}

	for i, g := range c.Gateways {
		for _, name := range []string{"sluice_store_setbacks_total", "sluice_leases_lost_total"} {
			if n := g.Metric(t, name); n == "0" || soaking && n != "1" { // who gets no core loses a lease too
				t.Errorf("gateway %d: %s is %s, want 1", i, name, n)
			}
		}
	}

	got := map[string]map[string]bool{"away": mail(t, c.Gateways[1], "away"), "online": {}}
	for _, s := range run.History().Receivers {
		for _, m := range s.Receipts {
			got[s.Name][fmt.Sprint(m.Sender, " ", m.N)] = true
		}
	}
	lost, atRisk := map[string]int{}, 0
	for _, s := range run.History().Senders {
		for n, m := range s.Sent {
			// The proxy and the machine add to the lag.
			risky := m.Acked > cut-pick(20*lag, 2*lag) && m.At < up
			if risky {
				atRisk++
			}
			for who, has := range got {
				if m.Acked == 0 || has[fmt.Sprint(s.Name, " ", n)] {
					continue
				}
				if lost[who]++; !risky {
					t.Errorf("%s: %s %d is lost, acknowledged at %v; cut off at %v, dead at %v, the replica serves from %v", who, s.Name, n, m.Acked, cut, down, up)
				}
			}
		}
	}
	t.Logf("messages lost: %v, of %d acknowledged within the lag", lost, atRisk)
	if soaking && lost["away"] == 0 { // who is too busy may have sent nothing just then
		t.Error("nothing is lost: the replica was not behind, and nothing was shown")
	}
}

// replicate makes a Redis the replica of what a proxy leads to, and waits until
// it has its data.
func replicate(t *testing.T, replica *harness.Server, primary *harness.Proxy) {
	t.Helper()
	host, port, err := net.SplitHostPort(primary.Address())
	if err != nil {
		t.Fatal(err)
	}
	replica.Do(t, "REPLICAOF "+host+" "+port)
	eventually(t, 30*time.Second, "the replica has the data", func() bool {
		return strings.Contains(replica.Do(t, "INFO replication"), "master_link_status:up")
	})
}

// mail takes all that waits for a session.
func mail(t *testing.T, g *harness.Gateway, id string) map[string]bool {
	t.Helper()
	got := map[string]bool{}
	p := resume(t, g, durable(wire.V5, id))
	end := wire.Unique("end")
	p.Subscribe(end, 1)
	dial(t, g, wire.Connect{ClientID: wire.Unique("p"), Clean: true}).Publish(end, 1, end)
	for m := p.Receive(); m.Payload != end; m = p.Receive() {
		got[m.Payload] = true
	}
	return got
}
