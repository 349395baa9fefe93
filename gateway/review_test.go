package gateway

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// TestLostDoorbell: mail whose notice is lost arrives all the same, within
// Timing.Poll if anything hints at the loss: newer mail, a notice that could not
// be sent, a bus that is not well, a gap, a gateway that is not heard any more.
func TestLostDoorbell(t *testing.T) {
	t.Parallel()
	const poll = 5 * time.Second
	lost := func(call string, _ any) (bool, error) { return call == "Notify", nil }
	refused := func(call string, _ any) (bool, error) {
		if call == "Notify" {
			return false, unavailable(call)
		}
		return false, nil
	}
	for _, tt := range []struct {
		name   string
		hook   func(call string, about any) (bool, error)
		then   func(cl *cluster, ill *illBus)
		newer  bool
		within time.Duration
	}{
		{name: "newer mail", hook: lost, newer: true, within: poll},
		{name: "refused", hook: refused, within: poll},
		{name: "bus not well", hook: lost, then: func(_ *cluster, ill *illBus) { ill.set(errors.New("deaf")) }, within: poll},
		{name: "gap", hook: lost, then: func(cl *cluster, _ *illBus) { (&handler{g: cl.nodes[0]}).HandleGap(errors.New("late")) }, within: reviewSpacing},
		{name: "sender killed", hook: lost, then: func(cl *cluster, _ *illBus) { cl.kill(1) }, within: 2 * poll},
		{name: "nothing hints at it", hook: lost, within: calmPolls * poll},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var ill *illBus
				cl := newCluster(t, 3, func(i int, o *Options) {
					if i == 0 {
						ill = newIllBus(o.Backend)
						o.Backend = ill
					}
				})
				s := join(t, cl.nodes[0], "s", durable(1000))
				s.subscribe(1, "a")
				p := join(t, cl.nodes[1], "p")
				time.Sleep(poll + time.Millisecond) // everybody has heard of everybody
				cl.buses[1].fault(tt.hook)
				p.send(publish("a", "lost", 1, 1))
				p.expect("PUBACK #1")
				cl.buses[1].mend()
				want := []string{"PUBLISH a=lost q1 #1"}
				if tt.newer {
					p.send(publish("a", "next", 1, 2))
					p.expect("PUBACK #2")
					want = append(want, "PUBLISH a=next q1 #2")
				}
				s.quiet()
				if tt.then != nil {
					tt.then(cl, ill)
				}
				time.Sleep(tt.within + time.Millisecond)
				s.quietBut(want...)
			})
		})
	}
}

// TestLostTakeover: a connection whose session was taken over and whose gateway
// has not heard of it ends when that learns that it may have missed something,
// whether or not the session has an inbox. Others stay.
func TestLostTakeover(t *testing.T) {
	t.Parallel()
	for _, refuse := range []bool{false, true} {
		t.Run(fmt.Sprintf("refused %v", refuse), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				cl := newCluster(t, 2)
				g := cl.nodes[0]
				stays, alsoStays := join(t, g, "stays"), join(t, g, "also stays", durable(1000))
				short, long := join(t, g, "short"), join(t, g, "long", durable(1000))
				cl.buses[1].fault(func(call string, about any) (bool, error) {
					if n, ok := about.(backend.Notice); !ok || n.Kind != backend.NoticeTakeover {
						return false, nil
					}
					if refuse {
						return false, unavailable(call)
					}
					return true, nil
				})
				join(t, cl.nodes[1], "short")
				rejoin(t, cl.nodes[1], "long")
				short.quiet()
				long.quiet()
				if !refuse {
					(&handler{g: g}).HandleGap(errors.New("late"))
				}
				time.Sleep(g.opt.Timing.Poll / beatsPerPoll)
				short.endsAt(0, 0, "DISCONNECT 0x8E", "closed")
				long.endsAt(0, 0, "DISCONNECT 0x8E", "closed")
				stays.ping()
				alsoStays.ping()
			})
		})
	}
}

// TestCalm: while nothing is in doubt, connections that do nothing cost the
// store nothing but a look at all of them together now and then; in doubt that
// look comes once in every Timing.Poll.
func TestCalm(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var ill *illBus
		cl := newCluster(t, 2, func(i int, o *Options) {
			if i == 0 {
				ill = newIllBus(o.Backend)
				o.Backend = ill
			}
		})
		const sessions = 300
		for i := range sessions {
			join(t, cl.nodes[0], fmt.Sprint("c", i), durable(1000)).subscribe(1, "a")
		}
		var reviews, fetches atomic.Int64
		cl.stores[0].fault(func(call string) error {
			switch call {
			case "Review":
				reviews.Add(1)
			case "Fetch":
				fetches.Add(1)
			}
			return nil
		})
		const calls = 2 // for so many sessions
		during := func(d time.Duration, least, most int64) {
			t.Helper()
			reviews.Store(0)
			time.Sleep(d)
			synctest.Wait()
			if n := reviews.Load() / calls; n < least || n > most {
				t.Errorf("%d reviews in %v, want %d to %d", n, d, least, most)
			}
		}
		during(10*time.Minute, 9, 20)
		ill.set(errors.New("deaf"))
		during(10*time.Minute, 120, 241)
		ill.set(nil)
		time.Sleep(time.Minute)
		during(10*time.Minute, 9, 20)
		if n := fetches.Load(); n > 0 {
			t.Errorf("%d inboxes were read for nothing", n)
		}
	})
}

// TestPeerTopics: what gateways say to each other no client hears or can say.
func TestPeerTopics(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cl := newCluster(t, 2, func(_ int, o *Options) { o.DollarPublish = true })
		c := join(t, cl.nodes[0], "c")
		c.subscribe(1, "#", "$sluice/#", "$sluice/beat")
		d := join(t, cl.nodes[1], "d")
		d.send(publish(beatTopic, "x", 1, 1), publish(doubtTopic, "x", 0, 0))
		d.expect("PUBACK #1 0x87")
		time.Sleep(time.Minute)
		c.quiet()
	})
}
