package chaos_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/chaos"
	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

func TestMain(m *testing.M) { harness.Main(m) }

// The run without variables, which is part of every test.
const (
	usualSeed    = 1
	usualMinutes = 1.1
)

// settings of the gateways: short, so that leases end while something is
// paused.
var settings = []string{"GATEWAY_LEASE=4s", "GATEWAY_INBOX_POLL=1s", "GATEWAY_STORE_HOLD=3s", "MQTT_SYS_INTERVAL=0s"}

// TestChaos breaks a cluster for CHAOS_MINUTES with the random numbers of
// CHAOS_SEED, and checks that nothing acknowledged is lost, nothing comes that
// should not, at QoS 2 nothing comes twice, everything comes in order, and each
// will once.
func TestChaos(t *testing.T) {
	seed, minutes := uint64(usualSeed), usualMinutes
	if text := os.Getenv("CHAOS_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("CHAOS_SEED=%s: a number is needed", text)
		}
		seed = n
	}
	if text := os.Getenv("CHAOS_MINUTES"); text != "" {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || n <= 0 {
			t.Fatalf("CHAOS_MINUTES=%s: a number above 0 is needed", text)
		}
		minutes = n
	}
	c := harness.StartCluster(t, harness.ClusterOptions{Env: settings, Proxies: true})
	run := chaos.NewRun(c.Balancer.Address())
	defer run.Close()
	crowd(t, run)

	b := &breaker{t: t, c: c, run: run, rand: rand.New(rand.NewPCG(seed, seed))}
	end := time.Now().Add(time.Duration(minutes * float64(time.Minute)))
	for n := 0; time.Now().Before(end); n++ {
		b.wait(4 * time.Second)
		b.one()
	}
	report := run.Settle(90*time.Second, 3*time.Second)
	fmt.Printf("%s %v\n", b.summary(seed), report)
	if report.Acked < int(minutes*60) {
		t.Errorf("only %d messages were acknowledged", report.Acked)
	}
	if !report.Failed() {
		return
	}
	for _, f := range report.Findings {
		t.Error(f)
	}
	save(t, c, run.History(), seed)
}

// crowd starts the clients: every version, QoS and kind of subscription.
func crowd(t *testing.T, run *chaos.Run) {
	t.Helper()
	const v3, v5 = wire.V311, wire.V5
	filter := func(topic string, qos byte) []wire.Filter {
		return []wire.Filter{{Topic: run.Topic(topic), Options: qos}}
	}
	run.Subscribe(chaos.Subscriber{Name: "all-v5-2", Version: v5, Filters: filter("t/#", 2), ReceiveMaximum: 16})
	run.Subscribe(chaos.Subscriber{Name: "all-v3-1", Version: v3, Filters: filter("t/#", 1)})
	run.Subscribe(chaos.Subscriber{Name: "plus-v3-2", Version: v3, Filters: filter("t/+/0", 2)})
	run.Subscribe(chaos.Subscriber{Name: "plus-v5-1", Version: v5, Filters: filter("t/+/1", 1), ReceiveMaximum: 1})
	run.Subscribe(chaos.Subscriber{Name: "exact-v5-2", Version: v5, Filters: filter("t/p0/2", 2)})
	run.Subscribe(chaos.Subscriber{Name: "guest-v5-2", Version: v5, Filters: filter("t/#", 2), Home: 2 * time.Second, Away: 4 * time.Second})
	run.Subscribe(chaos.Subscriber{Name: "guest-v3-2", Version: v3, Filters: filter("t/p1/#", 2), Home: time.Second, Away: 3 * time.Second})
	run.Subscribe(chaos.Subscriber{Name: "wills-v5", Version: v5, Filters: filter("will/#", 2)})
	run.Subscribe(chaos.Subscriber{Name: "wills-v3", Version: v3, Filters: filter("will/+", 2)})
	group := []wire.Filter{{Topic: "$share/g/" + run.Topic("t/+/3"), Options: 2}}
	run.SubscribeShared("group",
		chaos.Subscriber{Name: "member-0", Version: v5, Filters: group},
		chaos.Subscriber{Name: "member-1", Version: v3, Filters: group},
		chaos.Subscriber{Name: "member-2", Version: v5, Filters: group, Home: 3 * time.Second, Away: 2 * time.Second})
	if !run.AwaitSubscribed(20 * time.Second) {
		t.Fatal("not everybody could subscribe")
	}
	for i := range 6 {
		p := chaos.Publisher{Name: fmt.Sprintf("p%d", i), Version: v5, QoS: []byte{1, 2}, Every: 50 * time.Millisecond, Forgetful: i == 5}
		if i%2 == 1 {
			p.Version = v3
		}
		for k := range 4 {
			p.Topics = append(p.Topics, run.Topic(fmt.Sprintf("t/%s/%d", p.Name, k)))
		}
		run.Publish(p)
	}
	// One in bursts, with as many under way as identifiers of a window allow.
	run.Publish(chaos.Publisher{Name: "burst", Version: v5, QoS: []byte{1, 2}, Every: time.Second, Burst: 100, Window: 200,
		Topics: []string{run.Topic("t/p0/2"), run.Topic("t/burst/3")}})
	run.Mortals(6, 8*time.Second)
}

// save writes the history and the logs of the gateways to files.
func save(t *testing.T, c *harness.Cluster, h *chaos.History, seed uint64) {
	t.Helper()
	dir, err := os.MkdirTemp("", fmt.Sprintf("sluice-chaos-%d-", seed))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the history and the logs are in %s", dir)
	if err := h.Save(filepath.Join(dir, "history.txt")); err != nil {
		t.Error(err)
	}
	for i, g := range c.Gateways {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("gateway-%d.txt", i)), []byte(g.Logs()), 0o600); err != nil {
			t.Error(err)
		}
	}
}
