package memory_test

import (
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/backendtest"
	"github.com/sluice-mqtt/sluice/backend/index"
	"github.com/sluice-mqtt/sluice/backend/memory"
)

func TestStore(t *testing.T) {
	backendtest.TestStore(t, backendtest.StoreHarness{
		Lease: 200 * time.Millisecond,
		Open: func(t *testing.T, o backendtest.StoreOptions) backend.Store {
			var strategy index.Strategy
			if o.Share != "" {
				if err := strategy.UnmarshalText([]byte(o.Share)); err != nil {
					t.Fatal(err)
				}
			}
			s := memory.NewStore(memory.Options{
				InboxMessages:    o.InboxMessages,
				InboxBytes:       int64(o.InboxBytes),
				Subscriptions:    o.Subscriptions,
				RetainedMessages: o.RetainedMessages,
				RetainedBytes:    int64(o.RetainedBytes),
				ShareStrategy:    strategy,
			})
			t.Cleanup(func() { s.Close() })
			return s
		},
		Peer: func(t *testing.T, s backend.Store) backend.Store {
			p := s.(*memory.Store).Peer()
			t.Cleanup(func() { p.Close() })
			return p
		},
	})
}
