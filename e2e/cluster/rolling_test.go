package cluster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// F06: a rolling SIGTERM under load, a new process each time. Nothing is lost;
// MQTT 5 clients are told 0x8B and those of MQTT 3 closed without a word;
// readiness is red before the first is sent away, and no gateway that is called
// ready refuses a connection; the exit code is 0 (Stop sees to that).
func TestF06RollingRestart(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{Env: settings("GATEWAY_DRAIN_DELAY="+pick("3s", "1s"), "GATEWAY_DRAIN=500ms")})
	run := load(t, c)
	for i, g := range c.Gateways {
		v5 := dial(t, g, durable(wire.V5, fmt.Sprint("v5-", i)))
		v3 := dial(t, g, durable(wire.V311, fmt.Sprint("v3-", i)))
		red := make(chan bool)
		go func() { // ends when the client has been sent away
			was := false
			for deadline := time.Now().Add(wire.Timeout); !was && time.Now().Before(deadline); {
				was = g.Readiness() != nil
			}
			red <- was
		}()
		run.Note("stop %d", i)
		stopped := make(chan struct{})
		go func() { // ends with the gateway
			defer close(stopped)
			g.Stop(t)
		}()
		if !<-red {
			t.Error("readiness did not change")
		}
		v5.Ping() // not sent away yet
		v5.ExpectDisconnect(0x8B)
		v3.ExpectClosed()
		<-stopped
		g.Restart(t)
		eventually(t, wire.Timeout, "the balancer knows", func() bool { return c.Balancer.Ready() == len(c.Gateways) })
		if !run.AwaitOnline(within(10 * time.Second)) {
			t.Error("not everybody is back")
		}
	}
	if n := c.Balancer.Refused(); n > 0 {
		t.Errorf("ready gateways refused %d connections", n)
	}
	zero(t, run, 50)
}

// F08: kill -9 all gateways, and start them again. Every session, subscription,
// queued and retained message and armed will is there.
func TestF08KillAll(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{Env: settings()})
	sleeper := dial(t, c.Gateways[0], durable(wire.V311, "sleeper"))
	sleeper.Subscribe("mail/#", 2)
	sleeper.Subscribe("will/+", 2)
	sleeper.Disconnect()
	mortal := durable(wire.V5, "mortal")
	mortal.Will = &wire.Will{Topic: "will/mortal", QoS: 2, Payload: "dead"}
	dial(t, c.Gateways[1], mortal)
	pub := dial(t, c.Gateways[2], durable(wire.V5, "pub"))
	pub.Publish("mail/1", 2, "queued")
	pub.PublishPacket(wire.Publish{Topic: "kept", QoS: 1, Retain: true, Payload: "retained"})
	half := wire.Publish{Topic: "mail/2", QoS: 2, ID: 77, Payload: "half done"}
	pub.Send(half)
	pub.AwaitAck(wire.PUBREC, half.ID)
	run := load(t, c)
	time.Sleep(time.Second) // of load

	for _, g := range c.Gateways {
		g.Kill(t)
	}
	for _, g := range c.Gateways {
		g.Launch(t)
	}
	for _, g := range c.Gateways {
		g.AwaitReady(t)
	}

	pub = resume(t, c.Gateways[0], durable(wire.V5, "pub"))
	half.Dup = true
	pub.Send(half)
	pub.AwaitAck(wire.PUBREC, half.ID)
	pub.Send(wire.Pubrel(half.ID))
	pub.AwaitAck(wire.PUBCOMP, half.ID)
	sleeper = resume(t, c.Gateways[1], durable(wire.V311, "sleeper"))
	got := map[string]int{}
	for range 3 {
		got[sleeper.Receive().Payload]++
	}
	if got["queued"] != 1 || got["half done"] != 1 || got["dead"] != 1 {
		t.Errorf("the session that slept got %v", got)
	}
	sleeper.Subscribe("kept", 1)
	if m := sleeper.Receive(); m.Payload != "retained" || !m.Retain {
		t.Errorf("got %+v", m)
	}
	sleeper.ExpectNothing()
	zero(t, run, 50)
}
