package redis

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/backendtest"
	"github.com/sluice-mqtt/sluice/backend/index"
)

// peered is a Store that knows how another one on the same state is made.
type peered struct {
	*Store
	with Options
}

// optionsFor maps those of the suite.
func optionsFor(t testing.TB, url string, o backendtest.StoreOptions) Options {
	t.Helper()
	var strategy index.Strategy
	if o.Share != "" {
		if err := strategy.UnmarshalText([]byte(o.Share)); err != nil {
			t.Fatal(err)
		}
	}
	return Options{
		URL:              url,
		KeyPrefix:        freshPrefix(),
		Logger:           slog.New(slog.NewTextHandler(t.Output(), nil)),
		InboxMessages:    o.InboxMessages,
		InboxBytes:       int64(o.InboxBytes),
		Subscriptions:    o.Subscriptions,
		RetainedMessages: o.RetainedMessages,
		RetainedBytes:    int64(o.RetainedBytes),
		ShareStrategy:    strategy,
	}
}

// begun makes a Store on a server that is there. On a busy machine that may take
// longer than a connection is waited for.
func begun(t testing.TB, o Options) *Store {
	t.Helper()
	for tries := 1; ; tries++ {
		s, err := New(context.Background(), o)
		if err == nil {
			return s
		}
		if !errors.Is(err, backend.ErrUnavailable) || tries == 20 {
			t.Fatal(err)
		}
	}
}

func open(t testing.TB, o Options) peered {
	t.Helper()
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	s := begun(t, o)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return peered{s, o}
}

// suitePatience is how long the suite waits for one reply, but for its fault
// cases.
const suitePatience = 20 * time.Second

func harness(url string) backendtest.StoreHarness {
	return backendtest.StoreHarness{
		// Long enough for a busy machine to renew in time.
		Lease: 1500 * time.Millisecond,
		Open: func(t *testing.T, o backendtest.StoreOptions) backend.Store {
			with := optionsFor(t, url, o)
			if !strings.Contains(t.Name(), "/faults/") {
				with.patience = suitePatience
			}
			return open(t, with)
		},
		Peer: func(t *testing.T, s backend.Store) backend.Store {
			return open(t, s.(peered).with)
		},
	}
}

func TestStore(t *testing.T) {
	s := startServer(t)
	h := harness(s.url())
	h.Faults = s
	backendtest.TestStore(t, h)
}
