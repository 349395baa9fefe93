package cluster_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// F09: kill -9 Redis, restart after 5 s on the same data. Meanwhile nothing
// that needs the store is acknowledged, QoS 0 between connected clients goes
// on, CONNECT is refused within 2.5 s, and readiness says so within 3 s; it is
// back 3 s after Redis, in the same processes, and nothing is lost.
func TestF09RedisDies(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{Env: settings()})
	ear := dial(t, c.Gateways[0], wire.Connect{ClientID: "ear", Clean: true})
	ear.Subscribe("live/+", 0)
	mouth := dial(t, c.Gateways[1], wire.Connect{ClientID: "mouth", Clean: true})
	asking := dial(t, c.Gateways[2], durable(wire.V5, "asking"))
	run := load(t, c)
	time.Sleep(time.Second) // of load

	c.Redis.Kill(t)
	down := time.Since(run.Begin())
	run.Note("redis killed")
	asking.Send(wire.Sub(1, "a", 1))
	start := time.Now()
	refusal := map[wire.Version]byte{wire.V311: 3, wire.V5: 0x88}
	for v, code := range refusal {
		begin := time.Now()
		wire.Dial(t, c.Gateways[0].TCP).Refused(durable(v, fmt.Sprint("new", v)), code)
		if d := time.Since(begin); d > within(2500*time.Millisecond) {
			t.Errorf("CONNECT was refused after %v, want 2.5 s", d)
		}
	}
	for _, g := range c.Gateways {
		eventually(t, time.Until(start.Add(within(3*time.Second)))+time.Second, "readiness is red", func() bool { return g.Readiness() != nil })
		if err := g.Readiness(); err == nil || !strings.Contains(err.Error(), "503") {
			t.Errorf("readiness: %v", err)
		}
	}
	for n := 0; time.Since(start) < 5*time.Second; n++ {
		text := fmt.Sprint(n)
		mouth.Publish("live/x", 0, text)
		if got := ear.Receive(); got.Payload != text {
			t.Fatalf("got %+v, want %s", got, text)
		}
		time.Sleep(50 * time.Millisecond) // a rate of publishing
	}
	up := time.Since(run.Begin())
	c.Redis.Start(t)
	run.Note("redis back")
	back := time.Now()
	for _, g := range c.Gateways {
		eventually(t, time.Until(back.Add(within(3*time.Second))), "readiness is green", func() bool { return g.Readiness() == nil })
	}
	t.Logf("ready %v after Redis", time.Since(back))

	// What was asked for without a store was not granted then.
	if p, closed := asking.NextOrClosed(); !closed {
		if ack, ok := p.(wire.Suback); ok && len(ack.Codes) == 1 && ack.Codes[0] < 0x80 {
			run.Note("SUBACK came after Redis was back")
		}
	}
	zero(t, run, 50)
	noneAcked(t, run, down, up)
	for _, g := range c.Gateways {
		if n := g.Starts(); n != 1 {
			t.Errorf("a gateway started %d times", n)
		}
	}
}

// F18: FLUSHALL, and a restart with empty data, while clients are connected.
// Within one renewal of the lease every connection that had something in the
// store is closed, and comes back to a session that is not present.
func TestF18RedisForgets(t *testing.T) {
	t.Parallel()
	for name, forget := range map[string]func(t *testing.T, r *harness.Server){
		"flushall": func(t *testing.T, r *harness.Server) { r.Do(t, "FLUSHALL") },
		"restarted empty": func(t *testing.T, r *harness.Server) {
			r.Kill(t)
			r.Empty(t)
			r.Start(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := harness.StartCluster(t, harness.ClusterOptions{Env: settings()})
			var clients []*wire.Client
			connect := func(i int) wire.Connect {
				if i%4 == 3 {
					return wire.Connect{ClientID: fmt.Sprint("c", i), Clean: true}
				}
				return durable([]wire.Version{wire.V5, wire.V311}[i%2], fmt.Sprint("c", i))
			}
			for i := range pick(60, 1000) {
				p := dial(t, c.Gateways[i%3], connect(i))
				p.Subscribe("a/#", 1)
				clients = append(clients, p)
			}
			forget(t, c.Redis)
			deadline := time.Now().Add(within(lease/3 + 3*time.Second))
			for i, p := range clients {
				for closed := false; !closed; {
					var packet wire.Packet
					packet, closed = p.NextOrClosed()
					if _, ok := packet.(wire.Publish); ok {
						t.Fatalf("client %d got %+v", i, packet)
					}
				}
			}
			if time.Now().After(deadline) {
				t.Errorf("the last connection was closed %v too late", time.Since(deadline))
			}
			for _, g := range c.Gateways {
				g.AwaitReady(t)
			}
			for i := range clients {
				p := dial(t, c.Gateways[(i+1)%3], connect(i))
				if p.Connack.SessionPresent {
					t.Fatalf("client %d finds a session", i)
				}
				clients[i] = p
			}
			clients[0].Subscribe("a/b", 1)
			clients[1].Publish("a/b", 1, "new")
			if got := clients[0].Receive(); got.Payload != "new" {
				t.Errorf("got %+v", got)
			}
			clients[3].ExpectNothing() // it has not subscribed again
		})
	}
}

// F10: SIGSTOP Redis. A publisher whose message can not be stored is closed
// after the hold time, MQTT 5 with 0x89; CONNECT is refused; goroutines are
// bounded; after SIGCONT nothing was lost.
func TestF10RedisStandsStill(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{Env: settings("GATEWAY_STORE_HOLD=2s")})
	sub := dial(t, c.Gateways[1], durable(wire.V5, "sub"))
	sub.Subscribe("a", 1)
	pub := dial(t, c.Gateways[0], durable(wire.V5, "pub"))
	old := dial(t, c.Gateways[0], durable(wire.V311, "old"))
	run := load(t, c)
	time.Sleep(time.Second) // of load

	c.Redis.Pause(t)
	run.Note("redis paused")
	begin := time.Now()
	m := wire.Publish{Topic: "a", QoS: 1, ID: 7, Payload: "x"}
	pub.Send(m)
	old.Send(m)
	if d := pub.AwaitDisconnect(0x89); len(d.Props) > 0 && time.Since(begin) < 2*time.Second {
		t.Errorf("closed after %v", time.Since(begin))
	}
	if got := old.AwaitClosed(); len(got) > 0 {
		t.Errorf("the client of MQTT 3 got %+v", got)
	}
	if d := time.Since(begin); d > within(5*time.Second) {
		t.Errorf("closed after %v", d)
	}
	wire.Dial(t, c.Gateways[2].TCP).Refused(durable(wire.V5, "new"), 0x88)
	for i, g := range c.Gateways {
		n := 0.0
		fmt.Sscan(g.Metric(t, "go_goroutines"), &n)
		if limit := 3.0*30 + 200; n == 0 || n > limit {
			t.Errorf("gateway %d has %v goroutines, want up to %v", i, n, limit)
		}
	}
	time.Sleep(pick[time.Duration](2, 15) * time.Second) // that is the fault
	c.Redis.Resume(t)
	run.Note("redis goes on")
	for _, g := range c.Gateways {
		g.AwaitReady(t)
	}
	pub = resume(t, c.Gateways[2], durable(wire.V5, "pub"))
	m.Dup = true
	pub.Send(m)
	pub.AwaitAck(wire.PUBACK, m.ID)
	zero(t, run, 50)
}

// F16: a Redis that is full takes no message that is to be acknowledged, keeps
// what it has, and heals by room; one that evicts what it likes is refused with
// a line that names the setting.
func TestF16RedisFull(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{Env: settings("GATEWAY_STORE_HOLD=1s")})
	sub := dial(t, c.Gateways[0], durable(wire.V5, "sub"))
	sub.Subscribe("a", 1)
	sub.Disconnect()
	pub := dial(t, c.Gateways[1], durable(wire.V5, "pub"))
	pub.Publish("a", 1, "before")
	c.Redis.Do(t, "CONFIG SET maxmemory 1")
	m := wire.Publish{Topic: "a", QoS: 1, ID: 99, Payload: "x"}
	pub.Send(m)
	for _, p := range pub.AwaitClosed() {
		if a, ok := p.(wire.Ack); ok && a.Code < 0x80 {
			t.Errorf("a full Redis, and the answer is %+v", a)
		}
	}
	c.Redis.Do(t, "CONFIG SET maxmemory 0")
	for _, g := range c.Gateways {
		g.AwaitReady(t)
	}
	pub = resume(t, c.Gateways[2], durable(wire.V5, "pub"))
	m.Dup = true
	pub.Send(m)
	pub.AwaitAck(wire.PUBACK, m.ID)
	sub = resume(t, c.Gateways[0], durable(wire.V5, "sub"))
	for _, want := range []string{"before", "x"} {
		if got := sub.Receive(); got.Payload != want {
			t.Errorf("got %+v, want %s", got, want)
		}
	}

	c.Redis.Do(t, "CONFIG SET maxmemory-policy allkeys-lru")
	c.Gateways[0].Kill(t)
	c.Gateways[0].Launch(t)
	eventually(t, wire.Timeout, "the log names the setting", func() bool {
		return strings.Contains(c.Gateways[0].Logs(), "maxmemory-policy")
	})
	if err := c.Gateways[0].Readiness(); err == nil {
		t.Error("the gateway is ready on a Redis that evicts")
	}
	c.Redis.Do(t, "CONFIG SET maxmemory-policy noeviction")
	select {
	case <-c.Gateways[0].Exited(t):
		c.Gateways[0].Forgive()
	default:
		c.Gateways[0].AwaitReady(t)
	}
}
