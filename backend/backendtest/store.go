package backendtest

import (
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// StoreHarness tells the suite how to reach an implementation of
// [backend.Store].
type StoreHarness struct {
	// Open returns a Store on fresh, empty state and closes it in t.Cleanup;
	// the case may have closed it before.
	Open func(t *testing.T, o StoreOptions) backend.Store
	// Peer returns a second Store on the state of s, with its options:
	// another gateway. It is closed in t.Cleanup too. A store that many
	// gateways share may return s.
	Peer func(t *testing.T, s backend.Store) backend.Store
	// Faults breaks the service behind what Open returns. Nil if there is
	// none: the cases that need it are skipped then.
	Faults Faults
	// Lease is the lease of gateways whose end a case waits for: as short as
	// the implementation can keep on a busy machine. 0 is one second.
	Lease time.Duration
	// Patience is how long what must happen may take; 0 is 30 seconds.
	Patience time.Duration
}

// StoreOptions are limits and choices that a case needs; the harness maps them
// to the driver's own. Zero is the driver's default, which is far above what a
// case without options uses.
type StoreOptions struct {
	// InboxMessages and InboxBytes bound the inbox of a session, and the
	// queue of a shared group. The newest message is refused.
	InboxMessages, InboxBytes int
	// Subscriptions bounds how many a session has.
	Subscriptions int
	// RetainedMessages and RetainedBytes bound the retained messages of the
	// cluster; bytes are counted by [backend.Message.Size].
	RetainedMessages, RetainedBytes int
	// Share is how the member of a shared group is chosen.
	Share ShareStrategy
}

// ShareStrategy is how the member of a shared group is chosen for a message.
type ShareStrategy string

// The strategies. Empty is RoundRobin.
const (
	// RoundRobin: one member after the other.
	RoundRobin ShareStrategy = "round_robin"
	// Random: any.
	Random ShareStrategy = "random"
	// LeastInFlight: the one with the least still to take, see
	// [backend.Node.Load].
	LeastInFlight ShareStrategy = "least_in_flight"
	// LocalFirst: one at the gateway that appends, if there is one.
	LocalFirst ShareStrategy = "local_first"
	// Sticky: the same until it goes.
	Sticky ShareStrategy = "sticky"
	// HashClientID: the same for all messages of a publisher.
	HashClientID ShareStrategy = "hash_client_id"
	// HashTopic: the same for all messages on a topic.
	HashTopic ShareStrategy = "hash_topic"
)

type storeCase struct {
	name    string
	promise string
	options StoreOptions
	alone   bool // not beside other cases: it measures
	run     func(t *testing.T, c *cluster)
}

// TestStore checks that a Store keeps its promises. Much of its time is waiting
// for the store's clock: with -parallel 16 it takes a third of what it takes
// with two. Fault cases run when
// h.Faults is set, and are reported as skipped when it is not.
func TestStore(t *testing.T, h StoreHarness) {
	h.setDefaults()
	groups := []struct {
		name  string
		cases []storeCase
	}{
		{"nodes", nodeCases},
		{"sessions", sessionCases},
		{"fencing", fencingCases},
		{"review", reviewCases},
		{"sent", sentCases},
		{"expiry", expiryCases},
		{"wills", willCases},
		{"subscriptions", subscriptionCases},
		{"replays", replayCases},
		{"append", appendCases},
		{"inboxes", inboxCases},
		{"limits", limitCases},
		{"qos2", qos2Cases},
		{"shared", sharedCases},
		{"strategies", strategyCases},
		{"group queue", groupQueueCases},
		{"requeue", requeueCases},
		{"retained", retainedCases},
		{"chores", choreCases},
		{"any input", inputCases},
		{"calls", callCases},
		{"concurrency", concurrencyCases},
		{"directory", directoryCases},
	}
	t.Run("alone", func(t *testing.T) {
		for _, g := range groups {
			for _, c := range g.cases {
				if c.alone {
					t.Run(g.name+"/"+c.name, func(t *testing.T) { c.check(t, h) })
				}
			}
		}
	})
	t.Run("promises", func(t *testing.T) {
		for _, g := range groups {
			t.Run(g.name, func(t *testing.T) {
				t.Parallel()
				for _, c := range g.cases {
					if c.alone {
						continue
					}
					t.Run(c.name, func(t *testing.T) {
						t.Parallel()
						c.check(t, h)
					})
				}
			})
		}
	})
	t.Run("faults", func(t *testing.T) { storeFaults(t, h) })
}

// storeFaults runs the cases that break the service, one after the other.
func storeFaults(t *testing.T, h StoreHarness) {
	h.setDefaults()
	for _, c := range storeFaultCases {
		t.Run(c.name, func(t *testing.T) {
			if h.Faults == nil {
				t.Skip("the harness has no faults")
			}
			c.check(t, h)
		})
	}
}

func (h *StoreHarness) setDefaults() {
	if h.Lease == 0 {
		h.Lease = time.Second
	}
	if h.Patience == 0 {
		h.Patience = defaultPatience
	}
}

func (c storeCase) check(t *testing.T, h StoreHarness) {
	explain(t, c.promise)
	c.run(t, gather(t, h, c.options))
}
