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
	r := zero(t, run, 100)
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
