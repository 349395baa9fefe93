package backendtest

import "testing"

// Faults breaks the service behind an implementation: one process, reached
// through a proxy in which single replies can be lost. Every method returns
// when the fault is in effect, and fails the test if it can not bring it about.
// The suite undoes what it does, also in a test that fails.
type Faults interface {
	// Kill ends the service without warning, as SIGKILL does.
	Kill(t *testing.T)
	// Start runs the service again on the same data and address, and returns
	// when it accepts connections.
	Start(t *testing.T)
	// Pause freezes the service: connections stay open, nothing is answered.
	Pause(t *testing.T)
	// Resume ends Pause.
	Resume(t *testing.T)
	// Drop lets the next n requests of every implementation through to the
	// service and swallows their replies.
	Drop(t *testing.T, n int)
	// Flush makes the service lose what it may lose without losing data, such
	// as its cache of scripts.
	Flush(t *testing.T)
	// Deafen makes the service answer the implementation's pings, accept what
	// is published and deliver none of it.
	Deafen(t *testing.T)
	// Hear ends Deafen.
	Hear(t *testing.T)
}
