// Package clients_test has the clients that people use talk to the gateway: the
// Mosquitto commands, MQTT.js in Node and in a Chromium page, and Paho for Go and
// for Python, in every protocol version and over every transport that each has.
//
// A client is a small program of its own, in a directory beside this file, that
// carries out the requests of package line; the tests are tables over [variants].
// A client that is not installed skips its tests, and fails them where CI is set;
// install.sh in the directory above installs them all.
package clients_test

import (
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/harness"
)

// patience bounds every wait for something that must happen. It is long because
// a browser and an interpreter share the machine with the gateway.
const patience = 30 * time.Second

func TestMain(m *testing.M) { harness.Main(m) }
