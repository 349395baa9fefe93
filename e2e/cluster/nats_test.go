package cluster_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// gaps is how many times a gateway may have missed something.
func gaps(t *testing.T, g *harness.Gateway) int {
	t.Helper()
	text := g.Metric(t, "sluice_bus_gaps_total")
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatalf("sluice_bus_gaps_total %q", text)
	}
	return int(n)
}

// F20: kill -9 NATS under load, restart after 1 s. Nothing is lost, every
// gateway says once that it may have missed something, no message to a
// connected session is late by more than 5 s, and live delivery works within
// 3 s of the restart without a client noticing.
func TestF20NATSDies(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{Env: settings()})
	ear := dial(t, c.Gateways[0], wire.Connect{ClientID: "ear", Clean: true})
	ear.Subscribe("live/+", 0)
	mouth := dial(t, c.Gateways[1], wire.Connect{ClientID: "mouth", Clean: true})
	run := load(t, c)
	time.Sleep(time.Second) // of load
	before := make([]int, len(c.Gateways))
	for i, g := range c.Gateways {
		before[i] = gaps(t, g)
	}
	c.NATS.Kill(t)
	run.Note("nats killed")
	time.Sleep(time.Second) // that is the fault
	c.NATS.Start(t)
	run.Note("nats back")
	back := time.Now()
	for heard := false; !heard; {
		mouth.Publish("live/x", 0, "x")
		mouth.Ping()
		time.Sleep(20 * time.Millisecond) // a rate of publishing
		heard = len(ear.Collect()) > 0
		if time.Since(back) > 20*time.Second {
			t.Fatal("no live delivery within 20 s of the restart")
		}
	}
	if d := time.Since(back); d > within(3*time.Second) {
		t.Errorf("live delivery again after %v, want 3 s", d)
	}
	for i, g := range c.Gateways {
		eventually(t, 10*time.Second, fmt.Sprintf("gateway %d tells of a gap", i), func() bool { return gaps(t, g) > before[i] })
	}
	time.Sleep(time.Second) // of load
	r := zero(t, run, 50)
	if r.MaxLag > within(5*time.Second) {
		t.Errorf("a message was late by %v, want 5 s", r.MaxLag)
	}
	for i, g := range c.Gateways {
		if n := gaps(t, g) - before[i]; n != 1 {
			t.Errorf("gateway %d told of %d gaps, want 1", i, n)
		}
	}
	ear.Ping() // still connected
}

// F21: SIGSTOP NATS. It is noticed within 10 s and readiness says so; what was
// acknowledged reaches sessions all the same; when NATS goes on nothing was
// lost.
func TestF21NATSStandsStill(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{Env: settings()})
	run := load(t, c)
	time.Sleep(time.Second) // of load
	c.NATS.Pause(t)
	run.Note("nats paused")
	begin := time.Now()
	for i, g := range c.Gateways {
		eventually(t, time.Until(begin.Add(within(10*time.Second))), fmt.Sprintf("gateway %d is not ready", i), func() bool { return g.Readiness() != nil })
	}
	t.Logf("noticed after %v", time.Since(begin))
	time.Sleep(pick[time.Duration](2, 20) * time.Second) // that is the fault
	c.NATS.Resume(t)
	run.Note("nats goes on")
	for _, g := range c.Gateways {
		g.AwaitReady(t)
	}
	time.Sleep(time.Second) // of load
	zero(t, run, 50)
}

// F22: one gateway is cut off from NATS, in both directions or in one. Only its
// readiness is red, messages that others' clients exchange are not late, it
// heals by itself, and nothing is lost.
func TestF22CutOffFromNATS(t *testing.T) {
	t.Parallel()
	for name, directions := range map[string][]harness.Direction{
		"both": {harness.ToServer, harness.ToClient}, "hears nothing": {harness.ToClient}, "says nothing": {harness.ToServer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := harness.StartCluster(t, harness.ClusterOptions{Env: settings(), Proxies: true})
			run := load(t, c)
			sub := dial(t, c.Gateways[1], durable(wire.V5, "sub"))
			sub.Subscribe("a", 1)
			pub := dial(t, c.Gateways[2], durable(wire.V5, "pub"))
			c.ToNATS[0].Hold(directions...)
			run.Note("gateway 0 is cut off")
			eventually(t, within(10*time.Second), "readiness is red", func() bool { return c.Gateways[0].Readiness() != nil })
			othersReady(t, c)
			begin := time.Now()
			pub.Publish("a", 1, "x")
			if got := sub.Receive(); got.Payload != "x" {
				t.Errorf("got %+v", got)
			}
			if d := time.Since(begin); d > within(time.Second) {
				t.Errorf("late by %v among gateways that reach NATS", d)
			}
			c.ToNATS[0].Heal()
			run.Note("gateway 0 is back")
			c.Gateways[0].AwaitReady(t)
			zero(t, run, 50)
		})
	}
}
