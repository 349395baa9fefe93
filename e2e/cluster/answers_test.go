package cluster_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/chaos"
	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// F19, NOSCRIPT: the scripts that Redis has cached are flushed again and again
// under load, as its restart or a failover does. Nobody notices: nothing is
// refused, no connection ends, nothing comes twice.
//
// That client identifiers such as "}x", "{", "*", "a b", "é" and one of 4 KiB
// work on a cluster of three servers, where a first call is answered MOVED, and
// that no two share a key, is shown by TestStoreOnCluster of backend/redis with
// the case "client identifiers" of backend/backendtest.
func TestF19ScriptsFlushed(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{Env: settings()})
	run := load(t, c)
	for range pick(20, 200) {
		time.Sleep(100 * time.Millisecond) // of load
		c.Redis.Do(t, "SCRIPT FLUSH")
		run.Note("scripts flushed")
	}
	// What has no load calls its scripts now.
	p := dial(t, c.Gateways[0], durable(wire.V5, "late"))
	p.Subscribe("a", 1)
	c.Redis.Do(t, "SCRIPT FLUSH")
	p.Publish("a", 1, "x")
	if got := p.Receive(); got.Payload != "x" {
		t.Errorf("got %+v", got)
	}
	c.Redis.Do(t, "SCRIPT FLUSH")
	p.Disconnect()
	c.Redis.Do(t, "SCRIPT FLUSH")
	resume(t, c.Gateways[1], durable(wire.V5, "late"))
	if r := zero(t, run, 100); r.Dup > 0 {
		t.Errorf("%d messages of QoS 1 came again, and nobody was to reconnect", r.Dup)
	}
	for i, g := range c.Gateways {
		if n := g.Metric(t, storeErrors); n != "0" {
			t.Errorf("gateway %d has %s errors of the store", i, n)
		}
	}
}

// F19, READONLY and LOADING: a Redis that was made a replica, and one that
// reads its data after a restart, answer and take nothing. For clients that is
// an outage as in F09: nothing is acknowledged, CONNECT is refused, readiness
// says why; it heals by itself, in the same processes, and nothing is lost.
func TestF19RedisTakesNothing(t *testing.T) {
	t.Parallel()
	const perKey = 100 * time.Microsecond         // that reading one takes; Redis answers after every thousand
	outage := pick(6*time.Second, 10*time.Second) // in which all gateways see why
	for name, fault := range map[string]struct {
		why      string // in the answer of readiness
		settings []string
		run      func(t *testing.T, r *harness.Server, during func())
	}{
		"readonly": {
			why: "replica",
			run: func(t *testing.T, r *harness.Server, during func()) {
				begin := time.Now()
				r.Do(t, "REPLICAOF 127.0.0.1 1")
				during()
				time.Sleep(time.Until(begin.Add(outage)))
				r.Do(t, "REPLICAOF NO ONE")
			},
		},
		"loading": {
			why:      "loading",
			settings: []string{"--key-load-delay", fmt.Sprint(perKey.Microseconds())},
			run: func(t *testing.T, r *harness.Server, during func()) {
				r.Do(t, fmt.Sprintf(`EVAL "for i=1,%d do redis.call('SET','filler'..i,i) end" 0`, outage/perKey))
				r.Kill(t)
				loaded := make(chan struct{})
				go func() { // ends when all is read
					defer close(loaded)
					r.Start(t)
				}()
				during()
				<-loaded
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := harness.StartCluster(t, harness.ClusterOptions{Env: settings(), Redis: fault.settings})
			run := load(t, c)
			time.Sleep(time.Second) // of load
			takesNothing(t, c, run, fault.why, func(during func()) { fault.run(t, c.Redis, during) })
		})
	}
}

// takesNothing has a fault happen in which Redis takes nothing, and checks what
// is to be seen of it; during is to be called when it has begun. Readiness must
// say why.
func takesNothing(t *testing.T, c *harness.Cluster, run *chaos.Run, why string, fault func(during func())) {
	t.Helper()
	pub := dial(t, c.Gateways[0], durable(wire.V5, "pub"))
	pub.Subscribe("a", 1)
	m := wire.Publish{Topic: "a", QoS: 1, ID: 99, Payload: "x"}
	var down time.Duration
	fault(func() {
		down = time.Since(run.Begin())
		run.Note("redis takes nothing: %s", why)
		pub.Send(m)
		for _, g := range c.Gateways {
			eventually(t, wire.Timeout, "readiness says "+why, func() bool {
				err := g.Readiness()
				return err != nil && strings.Contains(err.Error(), why)
			})
		}
		wire.Dial(t, c.Gateways[1].TCP).Refused(durable(wire.V5, "new"), 0x88)
	})
	// It may have healed a moment before that was seen.
	up := time.Since(run.Begin()) - within(500*time.Millisecond)
	run.Note("over")
	for _, g := range c.Gateways {
		g.AwaitReady(t)
	}
	pub = resume(t, c.Gateways[2], durable(wire.V5, "pub"))
	m.Dup = true
	pub.Send(m)
	pub.AwaitAck(wire.PUBACK, m.ID)
	zero(t, run, 50)
	noneAcked(t, run, down, up)
	for _, g := range c.Gateways {
		if n := g.Starts(); n != 1 {
			t.Errorf("a gateway started %d times", n)
		}
	}
}

// noneAcked expects that nothing was acknowledged while Redis took nothing, at
// most what it had taken before, later: the acknowledgement of a message waits for
// those that were read with it, until the gateway gives up that Redis takes them.
func noneAcked(t *testing.T, run *chaos.Run, down, up time.Duration) {
	t.Helper()
	const moment = time.Second
	if up-down < 2*moment {
		t.Errorf("the fault lasted %v only", up-down)
	}
	for _, s := range run.History().Senders {
		for n, m := range s.Sent {
			late := down
			if m.At < down {
				late += within(moment)
			}
			if m.Acked > late && m.Acked < up {
				t.Errorf("%s %d was acknowledged at %v, without Redis from %v to %v", s.Name, n, m.Acked, down, up)
			}
		}
	}
}
