package conformance

import (
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

func TestMain(m *testing.M) { harness.Main(m) }

// covers says that the running test proves these statements of a version,
// "3.1.1" or "5.0". The table of `go run ./conformance/table` is made of these
// calls: a test that fails or is skipped proves nothing.
func covers(t *testing.T, version string, ids ...string) {
	t.Helper()
	for _, id := range ids {
		t.Attr("covers", version+" "+id)
	}
}

// dial opens a connection to the broker under test: of a cluster, to any of
// its gateways.
func dial(t *testing.T) *wire.Client {
	t.Helper()
	return wire.Dial(t, harness.Shared(t).AnyTCP())
}

// dialWS is dial over WebSocket.
func dialWS(t *testing.T) *wire.Client {
	t.Helper()
	return wire.DialWS(t, harness.Shared(t).AnyWS(t))
}

// unique is wire.Unique, for client identifiers and topics.
func unique(prefix string) string { return wire.Unique(prefix) }
