package cluster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// F30: the old owner wakes up (SIGSTOP) after a takeover, with packets in its
// socket: a subscription, an acknowledgement and a release that it would write
// change nothing of the session, and nothing is acknowledged.
func TestF30OldOwnerWakesUp(t *testing.T) {
	t.Parallel()
	for name, paused := range map[string]time.Duration{"within its lease": lease / 2, "after its lease": 2 * lease} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			versions(t, func(t *testing.T, v wire.Version) { oldOwnerWakesUp(t, v, paused) })
		})
	}
}

func oldOwnerWakesUp(t *testing.T, v wire.Version, paused time.Duration) {
	c := harness.StartCluster(t, harness.ClusterOptions{Env: settings()})
	old := dial(t, c.Gateways[0], durable(v, "c"))
	old.Subscribe("a", 1)
	pub := dial(t, c.Gateways[2], durable(v, "p"))
	pub.Publish("a", 1, "unacknowledged")
	m := wire.Next[wire.Publish](old)
	pub.Subscribe("late", 2)

	c.Gateways[0].Pause(t)
	old.Send(wire.Publish{Topic: "late", QoS: 1, ID: 5, Payload: "late 1"}, wire.Publish{Topic: "late", QoS: 2, ID: 6, Payload: "late 2"})
	old.Send(wire.Puback(m.ID), wire.Sub(99, "b", 1), wire.Unsub(98, "a"))
	next := resume(t, c.Gateways[1], durable(v, "c"))
	m.Dup = true
	next.Expect(m)
	time.Sleep(paused) // that is the fault
	c.Gateways[0].Resume(t)
	for _, p := range old.AwaitClosed() {
		// Taken over, or the lease is gone first.
		if d, ok := p.(wire.Disconnect); !ok || d.Code != 0x8E && d.Code != 0x89 {
			t.Errorf("the old owner still says %T%+v", p, p)
		}
	}

	// The session is as the new owner has it.
	pub.Publish("late", 1, "marker 1")
	for got := pub.Receive(); got.Payload != "marker 1"; got = pub.Receive() {
		t.Errorf("the old owner published %+v", got)
	}
	pub.Publish("b", 1, "not subscribed")
	pub.Publish("a", 1, "next")
	if got := next.Receive(); got.Payload != "next" {
		t.Errorf("got %+v", got)
	}
	next.Disconnect()
	next = resume(t, c.Gateways[2], durable(v, "c"))
	next.Expect(m) // the old owner's PUBACK did not count
	next.ExpectNothing()
}

// F13: one gateway is cut off from Redis only. It acknowledges nothing from
// then on and ends the connection of a publisher after the hold time; its
// clients are served elsewhere; when it is back nothing of what it still writes
// counts, and nothing was lost.
func TestF13CutOffFromRedis(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{Env: settings("GATEWAY_STORE_HOLD=2s"), Proxies: true})
	sub := dial(t, c.Gateways[0], durable(wire.V5, "sub"))
	sub.Subscribe("a", 2)
	pub := dial(t, c.Gateways[0], durable(wire.V5, "pub"))
	run := load(t, c)
	time.Sleep(time.Second) // of load

	c.ToRedis[0].Hold(harness.ToServer, harness.ToClient)
	run.Note("gateway 0 is cut off")
	m := wire.Publish{Topic: "a", QoS: 2, ID: 7, Payload: "x"}
	pub.Send(m)
	for _, p := range pub.AwaitClosed() {
		if d, ok := p.(wire.Disconnect); !ok || d.Code != 0x89 {
			t.Fatalf("got %T%+v", p, p)
		}
	}
	eventually(t, within(5*time.Second), "readiness is red", func() bool { return c.Gateways[0].Readiness() != nil })
	othersReady(t, c)
	pub = resume(t, c.Gateways[1], durable(wire.V5, "pub"))
	m.Dup = true
	pub.Send(m)
	pub.AwaitAck(wire.PUBREC, m.ID)
	pub.Send(wire.Pubrel(m.ID))
	pub.AwaitAck(wire.PUBCOMP, m.ID)
	next := resume(t, c.Gateways[2], durable(wire.V5, "sub"))
	if got := next.Receive(); got.Payload != m.Payload {
		t.Errorf("got %+v", got)
	}
	c.ToRedis[0].Heal()
	run.Note("gateway 0 is back")
	eventually(t, within(10*time.Second), "readiness is green", func() bool { return c.Gateways[0].Readiness() == nil })
	pub.Publish("a", 2, "end")
	if got := next.Receive(); got.Payload != "end" {
		t.Errorf("got %+v", got)
	}
	for _, p := range sub.AwaitClosed() { // from the gateway that was cut off
		if _, ok := p.(wire.Disconnect); !ok {
			t.Errorf("the old connection got %T%+v", p, p)
		}
	}
	zero(t, run, 50)
}

// F05: kill a gateway with clients that have wills, at once or after a delay;
// half of them come back elsewhere before its lease has ended. A will without
// delay comes once, with the return of its client or with the end of the lease;
// one with a delay comes once if its client is not back, and else not at all.
// It does not change that a second gateway is killed meanwhile.
func TestF05WillsOfADeadGateway(t *testing.T) {
	t.Parallel()
	const delay, grace = 10, 8 * time.Second // a lease in which half of them can come back
	c := harness.StartCluster(t, harness.ClusterOptions{Env: settings("GATEWAY_LEASE=" + grace.String())})
	watcher := dial(t, c.Gateways[2], durable(wire.V5, "watcher"))
	watcher.Subscribe("will/#", 2)
	connect := func(i int) wire.Connect {
		p := durable(wire.V5, fmt.Sprint("c", i))
		p.Will = &wire.Will{Topic: fmt.Sprint("will/", i), QoS: byte(1 + i/4%2), Payload: "dead"}
		if i%2 == 1 {
			p.Will.Props = wire.Props{wire.U32Prop(wire.WillDelayID, delay)}
		}
		return p
	}
	clients := pick(24, 200)
	for i := range clients {
		dial(t, c.Gateways[0], connect(i))
	}
	c.Gateways[0].Kill(t)
	missing := map[string]bool{}
	for i := range clients {
		back := i%4 < 2
		if back {
			resume(t, c.Gateways[2], connect(i))
		}
		if !back || i%2 == 0 {
			missing[fmt.Sprint("will/", i)] = true
		}
	}
	c.Gateways[1].Kill(t)
	deadline := time.Now().Add(within(grace + delay*time.Second + 5*time.Second))
	for len(missing) > 0 && time.Now().Before(deadline) {
		if _, ok := watcher.Poll(time.Second).(wire.Publish); !ok {
			watcher.Ping()
			continue
		}
		got := watcher.Receive()
		if !missing[got.Topic] {
			t.Fatalf("got %+v, which came before or is of a client that is back", got)
		}
		delete(missing, got.Topic)
	}
	if len(missing) > 0 {
		t.Errorf("did not come: %v", missing)
	}
	time.Sleep(lease) // for what would come twice
	watcher.ExpectNothing()
}
