package cluster_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/chaos"
	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// F12: every answer of Redis comes 200 ms late, as from another region. A
// gateway answers PINGREQ within 1 s, also behind a PUBLISH; at a modest rate a
// PUBLISH is acknowledged within 1 s (p99), one of QoS 2, which takes two round
// trips and may wait for one that is under way before each, within 1.5 s; nothing
// times out, nobody loses the connection, nothing comes twice. Twenty publishers
// with twenty messages under way share round trips: one for each would be five
// messages a second.
func TestF12SlowRedis(t *testing.T) {
	t.Parallel()
	const late = 200 * time.Millisecond
	c := harness.StartCluster(t, harness.ClusterOptions{Env: settings("GATEWAY_LEASE=15s"), Proxies: true})
	run := chaos.NewRun(c.Balancer.Address())
	t.Cleanup(run.Close)
	for i, v := range []wire.Version{wire.V5, wire.V311, wire.V5} {
		run.Subscribe(chaos.Subscriber{Name: fmt.Sprint("s", i), Version: v,
			Filters: []wire.Filter{{Topic: run.Topic([]string{"t/#", "t/+", "t/p0"}[i]), Options: byte(1 + i%2)}}})
	}
	if !run.AwaitSubscribed(20 * time.Second) {
		t.Fatal("not everybody could subscribe")
	}
	pinging := make([]*wire.Client, len(c.Gateways))
	for i, g := range c.Gateways {
		pinging[i] = dial(t, g, durable(wire.V5, fmt.Sprint("pinging", i)))
	}
	publish := func(kind string, p chaos.Publisher) {
		for i := range 20 {
			p.Name = fmt.Sprint(kind, i)
			p.Version, p.Topics = []wire.Version{wire.V5, wire.V311}[i%2], []string{run.Topic("t/" + p.Name)}
			run.Publish(p)
		}
		if !run.AwaitOnline(20 * time.Second) {
			t.Fatal("not everybody could connect")
		}
	}
	failed := make([]string, len(c.Gateways))
	for i, g := range c.Gateways {
		failed[i] = g.Metric(t, storeErrors)
	}
	for _, p := range c.ToRedis {
		p.Delay(late / 2) // on each of the two ways
	}
	run.Note("redis is late")
	last := pick(3*time.Second, 30*time.Second)

	publish("modest", chaos.Publisher{QoS: []byte{1, 2}, Every: time.Second})
	const enough = 10 // messages of each QoS, to speak of times
	few := func() bool { return min(len(times(run, "modest", 1)), len(times(run, "modest", 2))) < enough }
	var idle, behind time.Duration
	for begin := time.Now(); time.Since(begin) < last || few() && time.Since(begin) < last+wire.Timeout; {
		for _, p := range pinging {
			idle = max(idle, took(p.Ping))
			p.Send(wire.Publish{Topic: "nobody", QoS: 1, ID: p.NextID(), Payload: "x"})
			behind = max(behind, took(p.Ping))
		}
	}
	t.Logf("PINGRESP within %v, behind a PUBLISH within %v", idle, behind)
	// The short form shares its cores with other tests.
	limit := within(time.Second)
	took := map[string]time.Duration{"PINGRESP": idle, "PINGRESP behind a PUBLISH": behind}
	for qos := byte(1); qos <= 2; qos++ {
		acks := times(run, "modest", qos)
		if len(acks) < enough {
			t.Fatalf("%d messages of QoS %d were acknowledged", len(acks), qos)
		}
		slices.Sort(acks)
		p99 := acks[len(acks)*99/100]
		t.Logf("QoS %d: %d acknowledged, p50 %v p99 %v", qos, len(acks), acks[len(acks)/2], p99)
		if most := limit * time.Duration(1+qos) / 2; p99 > most {
			t.Errorf("acknowledgements at QoS %d: p99 %v, want %v", qos, p99, most)
		}
	}
	for what, d := range took {
		if d > limit {
			t.Errorf("%s: %v, want %v", what, d, limit)
		}
	}

	publish("busy", chaos.Publisher{QoS: []byte{1}, Every: 5 * time.Millisecond, Window: 20})
	rate, least := 0.0, pick(10.0, 20.0)                          // one for each round trip is 5
	for tries := 0; tries < pick(5, 1) && rate < least; tries++ { // others may have the cores for a while
		before, begin := len(times(run, "busy", 1)), time.Now()
		time.Sleep(pick(2*time.Second, last)) // under load
		rate = max(rate, float64(len(times(run, "busy", 1))-before)/time.Since(begin).Seconds()/20)
	}
	t.Logf("a publisher with 20 messages under way: %.0f messages/s", rate)
	if rate < least {
		t.Errorf("a publisher with 20 messages under way: %.1f messages/s, want %v", rate, least)
	}
	r := zero(t, run, 200)
	repeated := false // a call whose outcome is not known, and with it messages
	for i, g := range c.Gateways {
		errs := g.Metric(t, storeErrors)
		t.Logf("gateway %d: %s errors of the store, %s before Redis was late", i, errs, failed[i])
		repeated = repeated || errs != failed[i]
		if soaking && errs != failed[i] { // a process that does not get a core times out
			t.Errorf("gateway %d has %s errors of the store, had %s", i, errs, failed[i])
		}
	}
	if r.Dup > 0 && !repeated {
		t.Errorf("%d messages of QoS 1 came again, and nobody was to reconnect", r.Dup)
	}
	for _, p := range c.ToRedis {
		p.Heal()
	}
}

// storeErrors counts calls of the store that failed.
const storeErrors = "sluice_store_errors_total"

// took is how long something takes.
func took(do func()) time.Duration {
	begin := time.Now()
	do()
	return time.Since(begin)
}

// times are how long messages of publishers of a kind took to be acknowledged,
// those that are.
func times(run *chaos.Run, kind string, qos byte) []time.Duration {
	var all []time.Duration
	for _, s := range run.History().Senders {
		if !strings.HasPrefix(s.Name, kind) {
			continue
		}
		for _, m := range s.Sent {
			if m.QoS == qos && m.Acked != 0 {
				all = append(all, m.Acked-m.At)
			}
		}
	}
	return all
}
