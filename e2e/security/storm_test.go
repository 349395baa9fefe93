package security_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// soaking is whether the long forms run.
var soaking = os.Getenv("E2E_SOAK") == "1"

// perAddress is how many connections a second one address may open.
const perAddress = 20

// device is a client that connects again when it has lost its connection, as
// docs/operations.md asks: after a random pause that doubles up to a limit.
type device struct {
	id   string
	from net.IP
	to   func() string // an address to try
	// refused counts the CONNACK that told it to come later.
	refused *atomic.Int64
	up      *atomic.Int64
}

// connect tries once. The code is that of CONNACK.
func (d *device) connect(ctx context.Context) (net.Conn, byte, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: d.from}, Timeout: patience}
	nc, err := dialer.DialContext(ctx, "tcp", d.to())
	if err != nil {
		return nil, 0, err
	}
	nc.SetDeadline(time.Now().Add(patience))
	nc.Write(wire.Encode(wire.Connect{Version: wire.V5, ClientID: d.id, Clean: true}, wire.V5))
	var head [4]byte
	if _, err := io.ReadFull(nc, head[:]); err != nil {
		nc.Close()
		return nil, 0, err
	}
	if head[3] != 0 {
		nc.Close()
		return nil, head[3], errors.New("refused")
	}
	nc.SetDeadline(time.Time{})
	return nc, 0, nil
}

// run keeps the device connected until the context ends.
func (d *device) run(ctx context.Context) {
	pause := 250 * time.Millisecond
	for ctx.Err() == nil {
		nc, code, err := d.connect(ctx)
		if err != nil {
			if code == 0x9F {
				d.refused.Add(1)
			}
			select {
			case <-time.After(rand.N(pause)):
			case <-ctx.Done():
			}
			pause = min(2*pause, 8*time.Second)
			continue
		}
		pause = 250 * time.Millisecond
		d.up.Add(1)
		stop := context.AfterFunc(ctx, func() { nc.Close() })
		io.Copy(io.Discard, nc) // ends with the connection
		stop()
		nc.Close()
		d.up.Add(-1)
	}
}

// TestF47Storm: a gateway is killed and its clients come back all at once to the
// others, while one address connects as fast as it can. The others let in no more
// than their rate, nobody new is asked who he is beyond it, those who are connected
// hardly notice, and in the end all are there. The short form has few clients, the
// long one, of 8,000, is for make soak.
func TestF47Storm(t *testing.T) {
	t.Parallel()
	n, rate, limit := 300, 50, 3*time.Minute
	if soaking {
		n, rate = 8000, 500
		limit = time.Duration(n/rate)*time.Second*3/2 + 60*time.Second
	}
	c := harness.StartCluster(t, harness.ClusterOptions{Env: []string{fmt.Sprint("MQTT_CONNECT_RATE=", rate), fmt.Sprint("MQTT_ACCEPT_RATE_PER_ADDRESS=", perAddress),
		"MQTT_CONNECT_TIMEOUT=2s", "MQTT_SYS_INTERVAL=0s"}})
	var refused, up atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	t.Cleanup(func() { cancel(); all.Wait() })
	for i := range n {
		first := true
		d := &device{id: fmt.Sprint("d", i), from: net.IPv4(127, 0, 2, byte(1+i%200)), refused: &refused, up: &up, to: func() string {
			if first {
				first = false
				return c.Gateways[i%3].TCP // evenly, as behind a balancer
			}
			return c.Gateways[rand.IntN(3)].TCP
		}}
		all.Go(func() { d.run(ctx) }) // until cancel
	}
	there := func() bool { return up.Load() == int64(n) }
	for until := time.Now().Add(limit); !there(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%d of %d are connected after %v", up.Load(), n, limit)
		}
	}
	sub := dial(t, c.Gateways[0], wire.Connect{Version: wire.V5, ClientID: "sub", Clean: true})
	sub.Subscribe("tick", 0)
	latency := func(times int) time.Duration {
		var took []time.Duration
		for range times {
			begin := time.Now()
			sub.Send(wire.Publish{Topic: "tick", Payload: "x"})
			sub.Receive()
			took = append(took, time.Since(begin))
			time.Sleep(5 * time.Millisecond) // the pace of the measurement
		}
		slices.Sort(took)
		return took[len(took)*99/100]
	}
	calm := latency(100)

	c.Gateways[2].Kill(t)
	hammer, stop := context.WithCancel(ctx)
	var hammered atomic.Int64
	all.Go(func() { // until stop
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 66)}}
		for pace := time.NewTicker(time.Millisecond); hammer.Err() == nil; <-pace.C {
			if nc, err := dialer.DialContext(hammer, "tcp", c.Gateways[0].TCP); err == nil {
				hammered.Add(1)
				nc.Write(wire.Encode(wire.Connect{ClientID: "hammer", Clean: true}, wire.V311))
				nc.Close()
			}
		}
	})
	begin := time.Now()
	storm := latency(100)
	for until := begin.Add(limit); !there(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%d of %d are back after %v", up.Load(), n, limit)
		}
	}
	took := time.Since(begin)
	stop()
	// A busy machine is late with those that wait to be accepted.
	let, most := int64(0), int64(perAddress*(took.Seconds()+4))
	for until := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		turned, _ := strconv.ParseInt(c.Gateways[0].Metric(t, `sluice_refused_total{reason="address_rate"}`), 10, 64)
		if let = hammered.Load() - turned; let <= most || time.Now().After(until) {
			break
		}
	}
	t.Logf("%d clients, a third of them back after %v, told to come later %d times; p99 of a message %v, in the storm %v; the hammering address came %d times and was let in %d times",
		n, took, refused.Load(), calm, storm, hammered.Load(), let)
	if bound := 2*calm + 5*time.Second; storm > bound {
		t.Errorf("p99 of a message was %v in the storm, %v before", storm, calm)
	}
	if let > most {
		t.Errorf("the hammering address was let in %d times, %d a second are", let, perAddress)
	}
}
