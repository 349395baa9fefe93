// Package admin_test asks the gateways' API, with every answer held against its
// OpenAPI description, and uses the status page in Chromium.
package admin_test

import (
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/harness"
)

// token opens the API of all gateways here.
const token = "a token of the end-to-end tests"

// patience bounds every wait for something that must happen.
const patience = 30 * time.Second

func TestMain(m *testing.M) { harness.Main(m) }
