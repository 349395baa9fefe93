package memory_test

import (
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/backendtest"
	"github.com/sluice-mqtt/sluice/backend/memory"
)

func TestBus(t *testing.T) {
	backendtest.TestBackend(t, backendtest.BackendHarness{
		Open: func(t *testing.T, n int, o backendtest.BackendOptions) []backend.Backend {
			bus := memory.NewBus()
			if o.MaxMessage != 0 {
				bus.MaxMessage = o.MaxMessage
			}
			if o.QueueMessages != 0 {
				bus.QueueMessages = o.QueueMessages
			}
			gateways := make([]backend.Backend, n)
			for i := range gateways {
				gateways[i] = bus.Gateway()
				t.Cleanup(func() {
					if err := gateways[i].Close(); err != nil {
						t.Errorf("Close: %v", err)
					}
				})
			}
			return gateways
		},
	})
}
