package backendtest

import (
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// BackendHarness tells the suite how to reach an implementation of
// [backend.Backend].
type BackendHarness struct {
	// Open returns n gateways' places on one bus of their own, none started,
	// and closes them in t.Cleanup. A Close by the case itself comes first.
	Open func(t *testing.T, n int, o BackendOptions) []backend.Backend
	// Faults breaks the service behind what Open returns. Nil if there is
	// none: the cases that need it are skipped then.
	Faults Faults
	// Patience is how long what must happen may take; 0 is 30 seconds.
	Patience time.Duration
}

// BackendOptions are limits that a case needs; the harness maps them to the
// driver's own. Zero is the driver's default.
type BackendOptions struct {
	// MaxMessage is the largest size of a message, by
	// [backend.Message.Size], that is carried. One byte more is refused.
	MaxMessage int
	// QueueMessages is about how many messages wait for a handler that is
	// slow before they are dropped.
	QueueMessages int
}

// busGateways is how many gateways every case has.
const busGateways = 3

type backendCase struct {
	name    string
	promise string
	options BackendOptions
	run     func(t *testing.T, r *room)
}

// TestBackend checks that a Backend keeps its promises, always with three
// gateways. Fault cases run when h.Faults is set, and are reported as skipped
// when it is not.
func TestBackend(t *testing.T, h BackendHarness) {
	h.setDefaults()
	var cases []backendCase
	cases = append(cases, deliveryCases...)
	cases = append(cases, noticeCases...)
	cases = append(cases, busLifeCases...)
	t.Run("promises", func(t *testing.T) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.check(t, h)
			})
		}
	})
	t.Run("faults", func(t *testing.T) { busFaults(t, h) })
}

// busFaults runs the cases that break the service, one after the other.
func busFaults(t *testing.T, h BackendHarness) {
	h.setDefaults()
	for _, c := range busFaultCases {
		t.Run(c.name, func(t *testing.T) {
			if h.Faults == nil {
				t.Skip("the harness has no faults")
			}
			c.check(t, h)
		})
	}
}

func (h *BackendHarness) setDefaults() {
	if h.Patience == 0 {
		h.Patience = defaultPatience
	}
}

func (c backendCase) check(t *testing.T, h BackendHarness) {
	explain(t, c.promise)
	c.run(t, enter(t, h, c.options))
}

// explain logs what was promised if the test fails.
func explain(t *testing.T, promise string) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("promise: " + promise)
		}
	})
}
