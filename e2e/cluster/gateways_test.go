package cluster_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// F01: kill -9 a random gateway every 2 s, ten times, QoS 1 and 2. Nothing is
// lost, every session is there at every return, and all clients are back within
// 10 s of each kill. A repeated QoS 1 message is one that was under way.
func TestF01KillGateways(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{Env: settings()})
	run := load(t, c)
	kills := pick(4, 10)
	for range kills {
		if !run.AwaitOnline(within(10 * time.Second)) {
			t.Error("not everybody was back within 10 s")
		}
		time.Sleep(time.Second) // under load
		i := rand.IntN(3)
		run.Note("kill %d", i)
		c.Gateways[i].Kill(t)
		c.Gateways[i].Launch(t)
	}
	if !run.AwaitOnline(within(10 * time.Second)) {
		t.Error("not everybody was back within 10 s")
	}
	r := zero(t, run, kills*50)
	if limit := kills * 1024 * pick(6, 20); r.Dup > limit {
		t.Errorf("%d messages of QoS 1 came again, above %d", r.Dup, limit)
	}
}

// F02: kill -9 between Append and PUBACK: the store has the message and the
// gateway does not know. The publisher resends with DUP elsewhere; a QoS 1
// subscriber gets one or two copies, a QoS 2 subscriber exactly one.
func TestF02KillBetweenAppendAndAck(t *testing.T) {
	t.Parallel()
	for qos := byte(1); qos <= 2; qos++ {
		t.Run(fmt.Sprint("qos", qos), func(t *testing.T) {
			t.Parallel()
			versions(t, func(t *testing.T, v wire.Version) { killBeforeAck(t, v, qos) })
		})
	}
}

func killBeforeAck(t *testing.T, v wire.Version, qos byte) {
	c := harness.StartCluster(t, harness.ClusterOptions{Env: settings(), Proxies: true})
	sub := dial(t, c.Gateways[2], durable(v, "sub"))
	sub.Subscribe("a/+", qos)
	pub := dial(t, c.Gateways[0], durable(v, "pub"))
	m := wire.Publish{Topic: "a/b", QoS: qos, ID: 7, Payload: "the one message"}

	stored := c.ToRedis[0].Swallow(m.Payload)
	pub.Send(m)
	await(t, stored, "the append")
	c.Gateways[0].Kill(t)
	pub.ExpectClosed() // and no acknowledgement

	pub = resume(t, c.Gateways[1], durable(v, "pub"))
	m.Dup = true
	pub.Send(m)
	if qos == 1 {
		pub.AwaitAck(wire.PUBACK, m.ID)
	} else {
		pub.AwaitAck(wire.PUBREC, m.ID)
		pub.Send(wire.Pubrel(m.ID))
		pub.AwaitAck(wire.PUBCOMP, m.ID)
	}
	pub.Publish("a/end", qos, "end")
	copies := 0
	for got := sub.Receive(); got.Payload != "end"; got = sub.Receive() {
		if got.Payload != m.Payload || got.Topic != m.Topic || got.Dup {
			t.Fatalf("got %+v", got)
		}
		copies++
	}
	if copies != 1 && !(qos == 1 && copies == 2) {
		t.Errorf("%d copies", copies)
	}
	sub.ExpectNothing()
}

// await waits for an event that a proxy tells of.
func await(t *testing.T, event <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-event:
	case <-time.After(wire.Timeout):
		t.Fatalf("%s did not happen within %v", what, wire.Timeout)
	}
}
