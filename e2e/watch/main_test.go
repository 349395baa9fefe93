// Package watch holds the tests of what a gateway tells others by itself: events,
// messages for NATS applications, figures for Prometheus.
package watch_test

import (
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
