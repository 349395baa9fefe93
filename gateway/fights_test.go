package gateway

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mqtt/sluice/protocol"
)

// TestFight: two devices with one client identifier, which come back at once
// whenever they are sent away, take each other's session over at most once a
// second after the tenth time, whether they are at one gateway or go from one to
// the next; the log has a line about it every ten seconds, and nobody else is
// held up.
func TestFight(t *testing.T) {
	t.Parallel()
	for _, gateways := range []int{1, 2, 5} {
		t.Run(fmt.Sprint(gateways, " gateways"), func(t *testing.T) {
			inBubble(t, func(t *testing.T) { testFight(t, gateways) })
		})
	}
}

func testFight(t *testing.T, gateways int) {
	var log lines
	cl := newCluster(t, gateways, func(_ int, o *Options) { o.Logger = log.logger() })
	takeovers := func() (n uint64) {
		for _, g := range cl.nodes {
			n += g.Stats().Takeovers
		}
		return n
	}
	stop := make(chan struct{})
	var devices sync.WaitGroup
	for d := range 2 {
		devices.Go(func() {
			for k := d; ; k++ {
				g := cl.nodes[k%gateways]
				c := dial(t, g, connectPacket("same", durable(100)))
				for {
					select {
					case p, open := <-c.packets:
						if open {
							if ack, ok := p.(*protocol.Connack); ok && ack.Code != protocol.Success {
								t.Errorf("refused with %v", ack.Code)
							}
							continue
						}
					case <-stop:
						c.nc.Close()
						return
					}
					break
				}
				time.Sleep(10 * time.Millisecond) // the network
			}
		})
	}
	time.Sleep(5 * time.Second)
	before := takeovers()
	start := time.Now()
	for range 30 {
		time.Sleep(time.Second)
		asked := time.Now()
		for i, g := range cl.nodes {
			c := join(t, g, fmt.Sprint("other", i))
			c.goodbye()
		}
		if d := time.Since(asked); d > 0 {
			t.Fatalf("others wait %v", d)
		}
	}
	synctest.Wait()
	n := takeovers() - before
	if n < 20 || n > uint64(time.Since(start)/time.Second)+1 {
		t.Errorf("%d takeovers in %v", n, time.Since(start))
	}
	if before > uint64(fightAfter*gateways+6) {
		t.Errorf("%d takeovers in the first 5 s at %d gateways", before, gateways)
	}
	close(stop)
	devices.Wait()
	if n := log.count("level=WARN"); n < 3 || n > 4+gateways {
		t.Errorf("%d warnings in 35 s:\n%s", n, &log.b)
	}
	time.Sleep(fightMemory + time.Second)
	// It is over: the next ones are as quick as ever.
	asked := time.Now()
	for range 3 {
		dial(t, cl.nodes[0], connectPacket("same", durable(100))).expect("CONNACK present")
	}
	if d := time.Since(asked); d > 0 {
		t.Errorf("after the fight takeovers take %v", d)
	}
}

// TestFightCrowd: of many clients with one identifier that wait, those beyond a
// few are refused at once, and so is one whose time for CONNECT runs out.
func TestFightCrowd(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGateway(t)
		var last *client
		for range fightAfter + 1 {
			last = dial(t, g, connectPacket("same"))
			last.expect("CONNACK")
		}
		waiting := make([]*client, fightWaiters)
		for i := range waiting {
			waiting[i] = dial(t, g, connectPacket("same"))
			synctest.Wait()
		}
		dial(t, g, connectPacket("same")).expect("CONNACK 0x89", "closed")
		dial(t, g, connectPacket("same", v311)).expect("CONNACK 0x03", "closed")
		last.ping()
		time.Sleep(time.Second + time.Millisecond)
		last.endsAt(0, 0, "DISCONNECT 0x8E", "closed")
		time.Sleep(fightWaiters * time.Second)
		for _, c := range waiting {
			if got := describe(c.next()); got != "CONNACK" {
				t.Errorf("%q after waiting", got)
			}
		}
	})
}
