package cluster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// The six rules that a cluster of stateless gateways is to keep, each shown by a
// test that kills, pauses or cuts off processes:
//
//	PUBACK only after the message is in shared storage      TestF02KillBetweenAppendAndAck, TestF09RedisDies
//	any gateway resumes a session whose gateway is dead     TestF01KillGateways, TestF08KillAll
//	identifiers under way and QoS 2 state resume too        TestF03KillInQoS2, TestF04KillWithFullWindow
//	wills fire once, seconds after a gateway's death        TestF05WillsOfADeadGateway
//	the old gateway is fenced after a takeover              TestF30OldOwnerWakesUp, TestF13CutOffFromRedis
//	wildcard reads of retained messages cost what matches   TestRuleRetainedCost

// TestRuleRetainedCost measures how long one SUBSCRIBE with wildcards takes until
// its retained messages are there, when hardly anything else is retained and when
// much is that does not match.
func TestRuleRetainedCost(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{Gateways: 2, Env: settings("GATEWAY_LEASE=60s", "GATEWAY_INBOX_POLL=60s")})
	pub := dial(t, c.Gateways[0], wire.Connect{ClientID: "pub", Clean: true})
	for i := range 10 {
		pub.PublishPacket(wire.Publish{Topic: fmt.Sprintf("home/%d/status", i), QoS: 1, Retain: true, Payload: "on"})
	}
	cost := func() time.Duration {
		var all []time.Duration
		for n := range 15 {
			sub := dial(t, c.Gateways[1], wire.Connect{ClientID: fmt.Sprint("sub", n), Clean: true})
			begin := time.Now()
			sub.Subscribe("home/+/status", 0)
			for range 10 {
				if m := sub.Receive(); !m.Retain {
					t.Fatalf("got %+v", m)
				}
			}
			all = append(all, time.Since(begin))
			sub.Disconnect()
		}
		best := all[0]
		for _, d := range all {
			best = min(best, d)
		}
		return best
	}
	few := cost()
	others := pick(5_000, 200_000)
	for i := range others {
		pub.Send(wire.Publish{Topic: fmt.Sprintf("home/%d/sensor/%d", i%10, i), Retain: true, Payload: "x"})
		if i%500 == 499 {
			pub.Ping()
		}
	}
	pub.Ping()
	many := cost()
	t.Logf("ten of ten retained topics in %v, ten of %d in %v", few, others+10, many)
	if many > within(5*few+5*time.Millisecond) {
		t.Errorf("reading ten of %d retained topics took %v, of ten %v", others+10, many, few)
	}
}
