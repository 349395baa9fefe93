// Package cluster_test breaks clusters of real processes in the ways that
// docs/operations names, and checks that what was acknowledged is kept. Each
// test names the fault it is about (F01 and so on); rules_test.go says which of
// them prove what a cluster of stateless gateways is for.
//
// The tests have a short form, which runs always, and a long one, with
// E2E_SOAK=1 (make soak).
package cluster_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/chaos"
	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

func TestMain(m *testing.M) {
	flag.Set("test.parallel", "8") // unless -parallel says otherwise: each is a cluster of its own
	harness.Main(m)
}

// soaking is whether the long forms run.
var soaking = os.Getenv("E2E_SOAK") == "1"

// pick returns the figure of the short form or that of the long one.
func pick[T any](short, long T) T {
	if soaking {
		return long
	}
	return short
}

// within is a time limit of a promise. The short form, on cores that other tests
// use too and with the race detector, gives it room.
func within(d time.Duration) time.Duration { return pick(5*d, d) }

// lease is that of the gateways in tests where one dies.
const lease = 3 * time.Second

// settings are variables of gateways under fault, with more to add.
func settings(more ...string) []string {
	return append([]string{"GATEWAY_LEASE=" + lease.String(), "GATEWAY_INBOX_POLL=1s", "MQTT_SYS_INTERVAL=0s"}, more...)
}

// eventually waits until something is so.
func eventually(t *testing.T, limit time.Duration, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so within %v: %s", limit, what)
		}
	}
}

// othersReady expects the gateways but the first to be ready. One that did not get a
// core for a while is red for a moment; what is wrong with the first must not last.
func othersReady(t *testing.T, c *harness.Cluster) {
	t.Helper()
	for i, g := range c.Gateways[1:] {
		eventually(t, within(2*time.Second), fmt.Sprintf("gateway %d is ready", i+1), func() bool { return g.Readiness() == nil })
	}
}

// load starts publishers and durable subscribers of both versions, at QoS 1 and
// 2, with exact filters and both wildcards, through the balancer. The publishers
// begin when everybody has subscribed.
func load(t *testing.T, c *harness.Cluster) *chaos.Run {
	t.Helper()
	run := chaos.NewRun(c.Balancer.Address())
	t.Cleanup(func() {
		run.Close()
		if !t.Failed() {
			return
		}
		if f, err := os.CreateTemp("", "sluice-history-*.txt"); err == nil {
			f.Close()
			t.Logf("the history is in %s (%v)", f.Name(), run.History().Save(f.Name()))
		}
	})
	versions := []wire.Version{wire.V5, wire.V311}
	publishers := pick(6, 20)
	for i := range pick(6, 20) {
		s := chaos.Subscriber{Name: fmt.Sprintf("s%d", i), Version: versions[i%2]}
		filter := []string{"t/#", "t/+/0", fmt.Sprintf("t/p%d/1", i%publishers)}[i%3]
		s.Filters = []wire.Filter{{Topic: run.Topic(filter), Options: byte(1 + i/2%2)}}
		run.Subscribe(s)
	}
	if !run.AwaitSubscribed(20 * time.Second) {
		t.Fatal("not everybody could subscribe")
	}
	for i := range publishers {
		name := fmt.Sprintf("p%d", i)
		run.Publish(chaos.Publisher{Name: name, Version: versions[i%2], QoS: []byte{1, 2}, Every: 20 * time.Millisecond,
			Topics: []string{run.Topic("t/" + name + "/0"), run.Topic("t/" + name + "/1")}})
	}
	return run
}

// zero ends the load and expects that nothing acknowledged was lost, nothing
// came that should not, at QoS 2 nothing came twice, and all was in order. At
// least so many messages must have been acknowledged, or nothing was shown.
func zero(t *testing.T, run *chaos.Run, least int) *chaos.Report {
	t.Helper()
	r := run.Settle(60*time.Second, 2*time.Second)
	t.Log(r)
	for _, f := range r.Findings {
		t.Error(f)
	}
	if r.Acked < least {
		t.Errorf("%d messages were acknowledged, want %d", r.Acked, least)
	}
	return r
}

// durable is a CONNECT of a session that outlives its connections.
func durable(v wire.Version, id string) wire.Connect {
	c := wire.Connect{Version: v, ClientID: id}
	if v == wire.V5 {
		c.Props = wire.Props{wire.U32Prop(wire.SessionExpiryID, 3600)}
	}
	return c
}

// dial connects to one gateway.
func dial(t *testing.T, g *harness.Gateway, p wire.Connect) *wire.Client {
	t.Helper()
	return wire.Dial(t, g.TCP).Connect(p)
}

// resume connects to one gateway and expects the session there.
func resume(t *testing.T, g *harness.Gateway, p wire.Connect) *wire.Client {
	t.Helper()
	// As every client, it tries again where the store does not answer yet.
	for end := time.Now().Add(within(5 * time.Second)); ; time.Sleep(100 * time.Millisecond) {
		c := wire.Dial(t, g.TCP)
		c.Send(p)
		c.Connack = wire.Next[wire.Connack](c)
		switch code := c.Connack.Code; {
		case code == 0 && c.Connack.SessionPresent:
			return c
		case code == 0:
			t.Fatalf("client %s: the session is gone", p.ClientID)
		case code != 0x88 && code != 3 || time.Now().After(end):
			t.Fatalf("client %s: refused: %+v", p.ClientID, c.Connack)
		}
		c.Drop()
	}
}

// versions runs a test for MQTT 3.1.1 and 5.
func versions(t *testing.T, test func(t *testing.T, v wire.Version)) {
	t.Helper()
	for name, v := range map[string]wire.Version{"v3.1.1": wire.V311, "v5": wire.V5} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, v)
		})
	}
}
