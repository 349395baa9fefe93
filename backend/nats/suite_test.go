package nats_test

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/backendtest"
	"github.com/sluice-mqtt/sluice/backend/nats"
)

func TestBackend(t *testing.T) {
	for _, p := range programs {
		for _, servers := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s/%d", p.name, servers), func(t *testing.T) {
				t.Parallel()
				s := startService(t, program(t, p.name), servers)
				backendtest.TestBackend(t, backendtest.BackendHarness{
					Open: func(t *testing.T, n int, o backendtest.BackendOptions) []backend.Backend {
						return open(t, s, n, o)
					},
					Faults: s,
				})
			})
		}
	}
}

// buses counts buses, each of which has subjects of its own.
var buses atomic.Int64

// quick are options with which losses are noticed sooner than by default.
func quick(s *service, i int) nats.Options {
	return nats.Options{
		URL: s.url(i), SubjectPrefix: fmt.Sprintf("test.%d", buses.Add(1)),
		PingInterval: time.Second, ProbeInterval: time.Second,
	}
}

// open returns n gateways on one bus, each at another server of the service.
func open(t *testing.T, s *service, n int, o backendtest.BackendOptions) []backend.Backend {
	t.Helper()
	prefix := quick(s, 0).SubjectPrefix
	list := make([]backend.Backend, n)
	for i := range list {
		opt := quick(s, i)
		opt.SubjectPrefix = prefix
		opt.MaxMessage, opt.QueueMessages = o.MaxMessage, o.QueueMessages
		list[i] = newBackend(t, opt)
	}
	return list
}

// newBackend returns a Backend that is closed at the end of the test.
func newBackend(t *testing.T, o nats.Options) *nats.Backend {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	b, err := nats.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return b
}
