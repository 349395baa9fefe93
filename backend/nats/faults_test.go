package nats_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/backendtest"
	"github.com/sluice-mqtt/sluice/backend/nats"
)

// TestOneGapForARestart: the server is killed and comes back; each gateway has
// exactly one gap, its health says so meanwhile, and nothing needs help.
func TestOneGapForARestart(t *testing.T) {
	t.Parallel()
	s := startService(t, program(t, "installed"), 1)
	list := gateways(t, s, 3, nil)
	for _, g := range list {
		g.subscribe(t, "a/#")
		if err := g.Health(); err != nil {
			t.Errorf("before: %v", err)
		}
	}
	s.Kill(t)
	for i, g := range list {
		eventually(t, "health is red", func() bool { return g.Health() != nil })
		if err := g.Health(); !errors.Is(err, backend.ErrUnavailable) {
			t.Errorf("health of %d: %v, want ErrUnavailable", i, err)
		}
	}
	s.Start(t)
	begin := time.Now()
	for i, g := range list {
		eventually(t, "health is green", func() bool { return g.Health() == nil })
		g.wait(t, "a gap", func() bool { return len(g.gaps) > 0 })
		hears(t, list[(i+1)%3], g, fmt.Sprint("a/", i))
	}
	t.Logf("back after %v", time.Since(begin))
	// Whatever else the restart causes comes with the next probes.
	for range 2 {
		probes(t, list...)
	}
	for i, g := range list {
		if gaps := g.gapList(); len(gaps) != 1 {
			t.Errorf("gateway %d had %d gaps, want one: %v", i, len(gaps), gaps)
		}
		if st := g.Stats(); st.Gaps != 1 || st.Reconnects != 1 {
			t.Errorf("gateway %d counts %d gaps and %d reconnects, want one each", i, st.Gaps, st.Reconnects)
		}
	}
}

// probes waits for a probe interval of each, in which nothing announces itself.
func probes(t *testing.T, list ...*gateway) {
	t.Helper()
	time.Sleep(time.Second) // of quick
	for i, g := range list {
		settled(t, g, list[(i+1)%len(list)], fmt.Sprintf("probe/%d/%d", i, time.Now().UnixNano()))
	}
}

// TestPartitionOfOne: one gateway loses its way to the bus. It alone is red;
// the others learn that what it sent last may be missing.
func TestPartitionOfOne(t *testing.T) {
	t.Parallel()
	s := startService(t, program(t, "installed"), 1)
	own := startProxy(t)
	own.to(s.servers[0].address)
	n := 0
	list := gateways(t, s, 3, func(o *nats.Options) {
		if n++; n == 1 {
			o.URL = "nats://" + own.address()
		}
	})
	for _, g := range list {
		g.subscribe(t, "a/#")
	}
	own.set(func() { own.shut = true })
	own.cut()
	eventually(t, "the cut gateway is red", func() bool { return list[0].Health() != nil })
	hears(t, list[1], list[2], "a/meanwhile")
	for i, g := range list[1:] {
		if err := g.Health(); err != nil {
			t.Errorf("gateway %d: %v", i+1, err)
		}
		if gaps := g.gapList(); len(gaps) > 0 {
			t.Errorf("gateway %d has a gap while another is away: %v", i+1, gaps)
		}
	}
	own.set(func() { own.shut = false })
	eventually(t, "the cut gateway is green", func() bool { return list[0].Health() == nil })
	for i, g := range list {
		g.wait(t, fmt.Sprintf("a gap at gateway %d", i), func() bool { return len(g.gaps) > 0 })
	}
	hears(t, list[1], list[0], "a/after")
	hears(t, list[0], list[1], "a/back")
	probes(t, list...)
	for i, g := range list {
		gaps := g.gapList()
		if len(gaps) != 1 {
			t.Errorf("gateway %d had %d gaps, want one: %v", i, len(gaps), gaps)
		}
		if i > 0 && !strings.Contains(gaps[0].Error(), "another gateway") {
			t.Errorf("gateway %d: %v does not name the cause", i, gaps[0])
		}
	}
}

// TestDeafServerIsLeft: one of two servers answers everything and delivers
// nothing. A gateway at it notices and goes to the other (F24).
func TestDeafServerIsLeft(t *testing.T) {
	t.Parallel()
	s := startService(t, program(t, "installed"), 2)
	list := gateways(t, s, 2, nil)
	list[0].subscribe(t, "a/#")
	list[1].subscribe(t, "a/#")
	s.proxies[0].set(func() { s.proxies[0].deaf = true })
	begin := time.Now()
	list[0].wait(t, "a gap", func() bool { return len(list[0].gaps) > 0 })
	t.Logf("left after %v: %v", time.Since(begin), list[0].gapList())
	if limit := 15 * time.Second; time.Since(begin) > limit {
		t.Errorf("noticed after %v, want at most %v", time.Since(begin), limit)
	}
	hears(t, list[0], list[1], "a/there")
	hears(t, list[1], list[0], "a/back")
}

// TestFrozenPeerServer: a server of the cluster at which no gateway is freezes
// and comes back. Interests are taken all the time, and its return is a gap:
// whoever had been there could not be heard.
func TestFrozenPeerServer(t *testing.T) {
	t.Parallel()
	s := startService(t, program(t, "installed"), 3)
	list := gateways(t, s, 2, nil)
	// Frozen servers keep their connections for longer than this test.
	frozen := s.servers[2]
	backendtest.Freeze(t, frozen.pid())
	t.Cleanup(func() { frozen.signal(t, syscall.SIGCONT) })
	for i := range 5 {
		filter := fmt.Sprint("a/", i)
		list[0].subscribe(t, filter)
		list[1].publish(t, filter)
	}
	for i := range 5 {
		list[0].wait(t, "messages of the other", func() bool { return list[0].heard[fmt.Sprint("a/", i)] == 1 })
	}
	for i, g := range list {
		if err := g.Health(); err != nil {
			t.Errorf("gateway %d: %v", i, err)
		}
	}
	frozen.signal(t, syscall.SIGCONT)
	list[0].wait(t, "a gap", func() bool { return len(list[0].gaps) > 0 })
	if gaps := list[0].gapList(); !strings.Contains(gaps[0].Error(), "cut off") {
		t.Errorf("gap: %v", gaps[0])
	}
	if n := list[0].Stats().Reconnects; n != 0 {
		t.Errorf("%d reconnects", n)
	}
}

// TestInterestIsKnownToNewcomers: an interest that is live is known to a
// gateway that starts afterwards at another server.
func TestInterestIsKnownToNewcomers(t *testing.T) {
	t.Parallel()
	s := startService(t, program(t, "installed"), 3)
	list := gateways(t, s, 1, nil)
	for i := range 20 {
		filter := fmt.Sprint("a/", i)
		list[0].subscribe(t, filter)
		late := start(t, list[0].beside(s, i), backend.NodeID(fmt.Sprint("late-", i)))
		late.publish(t, filter)
		if err := late.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		list[0].wait(t, fmt.Sprintf("message of newcomer %d", i), func() bool { return list[0].heard[fmt.Sprint("a/", i)] == 1 })
	}
}

// TestAbandonedSubscribe: a Subscribe whose context ends while the server does
// not answer has no effect.
func TestAbandonedSubscribe(t *testing.T) {
	t.Parallel()
	s := startService(t, program(t, "installed"), 1)
	list := gateways(t, s, 2, func(o *nats.Options) { o.PingInterval, o.ProbeInterval = time.Minute, time.Minute })
	s.Pause(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := list[0].Subscribe(ctx, "a", everyClass); !errors.Is(err, backend.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Subscribe: %v, want ErrUnavailable and the context's error", err)
	}
	s.Resume(t)
	settled(t, list[0], list[1], "first") // what was abandoned has come to its end
	list[1].publish(t, "a")
	settled(t, list[0], list[1], "second")
	if list[0].count("a") != 0 {
		t.Error("an interest that nobody has is heard")
	}
}

// TestUnsubscribeWhileAway: what is withdrawn while there is no server is not
// asked for again, and what is not withdrawn is.
func TestUnsubscribeWhileAway(t *testing.T) {
	t.Parallel()
	s := startService(t, program(t, "installed"), 1)
	list := gateways(t, s, 2, nil)
	list[0].subscribe(t, "gone")
	list[0].subscribe(t, "kept")
	s.Kill(t)
	eventually(t, "health is red", func() bool { return list[0].Health() != nil && list[1].Health() != nil })
	if err := list[0].Unsubscribe(t.Context(), "gone", everyClass); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("Unsubscribe: %v, want ErrUnavailable", err)
	}
	s.Start(t)
	eventually(t, "health is green", func() bool { return list[0].Health() == nil && list[1].Health() == nil })
	hears(t, list[0], list[1], "kept")
	list[1].publish(t, "gone")
	settled(t, list[0], list[1], "after")
	if list[0].count("gone") != 0 {
		t.Error("what was withdrawn is heard")
	}
}

// TestCloseWritesWhatWaits: what was published before Close arrives.
func TestCloseWritesWhatWaits(t *testing.T) {
	t.Parallel()
	const messages = 5000
	s := startService(t, program(t, "installed"), 1)
	list := gateways(t, s, 2, nil)
	list[0].subscribe(t, "#")
	for i := range messages {
		list[1].publish(t, fmt.Sprint("last/", i%7))
	}
	if err := list[1].Close(); err != nil {
		t.Fatal(err)
	}
	list[0].wait(t, "all messages", func() bool {
		n := 0
		for _, c := range list[0].heard {
			n += c
		}
		return n == messages
	})
	if err := list[1].Health(); !errors.Is(err, backend.ErrClosed) {
		t.Errorf("health after Close: %v", err)
	}
}

// TestDeafServerStaysDown: a connection to a server that delivers nothing is
// made as often as one likes and never passes for live.
func TestDeafServerStaysDown(t *testing.T) {
	t.Parallel()
	s := startService(t, program(t, "installed"), 1)
	// A link is taken as it is where no post connects in this time: not for want of
	// a core.
	list := gateways(t, s, 2, func(o *nats.Options) { o.ConnectTimeout = 1500 * time.Millisecond })
	s.Deafen(t)
	for i, g := range list {
		eventually(t, fmt.Sprintf("gateway %d is red", i), func() bool { return g.Health() != nil })
	}
	accepted := s.proxies[0].count()
	eventually(t, "it was tried again", func() bool {
		for i, g := range list {
			if err := g.Publish(t.Context(), &backend.Message{Topic: "a"}); !errors.Is(err, backend.ErrUnavailable) {
				t.Fatalf("gateway %d publishes to nobody: %v", i, err)
			}
		}
		return s.proxies[0].count() >= accepted+6
	})
	s.Hear(t)
	for i, g := range list {
		g.wait(t, fmt.Sprintf("a gap at gateway %d", i), func() bool { return len(g.gaps) > 0 })
		if gaps := g.gapList(); len(gaps) != 1 || !strings.Contains(gaps[0].Error(), "self-probe") {
			t.Errorf("gateway %d: gaps %v, want one for the self-probe", i, gaps)
		}
	}
}

// TestManyInterests: tens of thousands of interests are live again after a
// restart, on a link that is not taken for dead while the server takes them.
func TestManyInterests(t *testing.T) {
	t.Parallel()
	const filters, callers = 20_000, 100
	s := startService(t, program(t, "installed"), 1)
	list := gateways(t, s, 2, nil)
	name := func(i int) string { return fmt.Sprintf("site/%d/device/%d", i%100, i) }
	var group sync.WaitGroup
	for c := range callers {
		group.Go(func() {
			for i := c; i < filters; i += callers {
				if err := list[0].Subscribe(t.Context(), name(i)+"/+", everyClass); err != nil {
					t.Errorf("Subscribe: %v", err)
					return
				}
			}
		})
	}
	group.Wait()
	for _, when := range []string{"before", "after"} {
		if when == "after" {
			s.Kill(t)
			for _, g := range list {
				eventually(t, "health is red", func() bool { return g.Health() != nil })
			}
			s.Start(t)
			for _, g := range list {
				eventually(t, "health is green", func() bool { return g.Health() == nil })
			}
		}
		for i := range filters {
			list[1].publish(t, name(i)+"/"+when)
		}
		list[0].wait(t, "a message for each "+when, func() bool {
			n := 0
			for topic := range list[0].heard {
				if strings.HasSuffix(topic, when) {
					n++
				}
			}
			return n == filters
		})
	}
}
