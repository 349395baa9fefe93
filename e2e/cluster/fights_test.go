package cluster_test

import (
	"bufio"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// F29: two devices fight over one identifier on two gateways, each coming back
// as soon as it is sent away. After the tenth there is about one takeover a
// second; that costs the gateways next to nothing, the logs one line in 10 s,
// and other clients of the same gateways notice nothing.
func TestF29Fight(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{Env: settings()})
	sub := dial(t, c.Gateways[1], durable(wire.V5, "sub"))
	sub.Subscribe("a", 1)
	pub := dial(t, c.Gateways[0], durable(wire.V311, "pub"))

	var fought atomic.Int64
	stop := make(chan struct{})
	var devices sync.WaitGroup
	for i, v := range []wire.Version{wire.V5, wire.V311} {
		devices.Go(func() { fight(c.Gateways[i].TCP, durable(v, "one id"), &fought, stop) }) // ends with stop
	}
	t.Cleanup(func() {
		close(stop)
		devices.Wait()
	})
	eventually(t, within(10*time.Second), "it is a fight", func() bool { return fought.Load() > 10 })

	last := pick(6*time.Second, 60*time.Second)
	begin, before, cpu := time.Now(), fought.Load(), seconds(t, c)
	var slowest time.Duration
	for n := 0; time.Since(begin) < last; n++ {
		text := fmt.Sprint(n)
		slowest = max(slowest, took(func() {
			pub.Publish("a", 1, text)
			if got := sub.Receive(); got.Payload != text {
				t.Fatalf("got %+v, want %s", got, text)
			}
		}))
		time.Sleep(200 * time.Millisecond) // a rate of publishing
	}
	took := time.Since(begin).Seconds()
	takeovers := float64(fought.Load() - before)
	cpu = (seconds(t, c) - cpu) / took / float64(len(c.Gateways))
	lines := 0
	for _, g := range c.Gateways {
		lines += strings.Count(g.Logs(), "take their session from each other")
	}
	t.Logf("%v takeovers in %.1f s, %.1f %% of a core each gateway, %d lines, a message to others took up to %v", takeovers, took, 100*cpu, lines, slowest)

	// The two gateways learn of each other's turns a moment late.
	if limit := 1.5*took + 3; takeovers > limit || takeovers < took/4 {
		t.Errorf("%v takeovers in %.1f s, want about one a second", takeovers, took)
	}
	if limit := pick(0.25, 0.05); cpu > limit {
		t.Errorf("a gateway took %.0f %% of a core, want %.0f %%", 100*cpu, 100*limit)
	}
	if limit := 2 + int(took/10); lines < 1 || lines > limit {
		t.Errorf("the logs have %d lines of the fight, want 1 to %d", lines, limit)
	}
	if limit := pick(2*time.Second, 200*time.Millisecond); slowest > limit {
		t.Errorf("a message to others took %v, want %v", slowest, limit)
	}
}

// fight connects again whenever the connection ends, and counts how often it
// was let in.
func fight(address string, p wire.Connect, let *atomic.Int64, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		conn, err := net.DialTimeout("tcp", address, wire.Timeout)
		if err != nil {
			time.Sleep(10 * time.Millisecond) // the gateway is leaving
			continue
		}
		ended := make(chan struct{})
		go func() { // ends with the connection
			select {
			case <-stop:
				conn.Close()
			case <-ended:
			}
		}()
		conn.Write(wire.Encode(p, p.Version))
		for in := bufio.NewReader(conn); ; {
			packet, err := wire.Read(in, p.Version)
			if err != nil {
				break
			}
			if a, ok := packet.(wire.Connack); ok && a.Code == 0 {
				let.Add(1)
			}
		}
		close(ended)
		conn.Close()
	}
}

// seconds is the processor time of all gateways so far.
func seconds(t *testing.T, c *harness.Cluster) float64 {
	t.Helper()
	all := 0.0
	for _, g := range c.Gateways {
		n, err := strconv.ParseFloat(g.Metric(t, "process_cpu_seconds_total"), 64)
		if err != nil {
			t.Fatal(err)
		}
		all += n
	}
	return all
}
