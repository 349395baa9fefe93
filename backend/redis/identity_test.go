package redis

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/backendtest"
)

// TestOtherLayout: data of a version that makes its keys otherwise is left
// alone.
func TestOtherLayout(t *testing.T) {
	srv := startServer(t)
	o := optionsFor(t, srv.url(), backendtest.StoreOptions{})
	s, log := watched(t, o)
	key := s.keys.version()
	if err := srv.direct(t).HSet(t.Context(), key, ownerLayout, "99").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), o); err == nil || !strings.Contains(err.Error(), "layout 99") || !strings.Contains(err.Error(), o.KeyPrefix) {
		t.Errorf("New: %v, want an error that names layout and prefix", err)
	}
	awaitHealth(t, s, "layout 99")
	if lines := log.about("condition=layout"); len(lines) != 1 {
		t.Errorf("the log has %q", log.lines())
	}
}

// TestTwoClustersOnOnePrefix: gateways that would not hear each other do not
// share keys while both kinds live.
func TestTwoClustersOnOnePrefix(t *testing.T) {
	ctx := context.Background()
	srv := startServer(t)
	o := optionsFor(t, srv.url(), backendtest.StoreOptions{})
	o.Bus = "nats one"
	first := open(t, o)
	// A lease that is renewed in time on a busy machine too.
	if err := first.Join(ctx, backend.Node{ID: "first"}, 4*time.Second); err != nil {
		t.Fatal(err)
	}
	renewing, stop := context.WithCancel(ctx)
	renewed := make(chan struct{})
	go func() { // ends with stop
		defer close(renewed)
		for renewing.Err() == nil {
			_ = first.Renew(ctx, "first")
			time.Sleep(50 * time.Millisecond)
		}
	}()
	t.Cleanup(stop)

	same := open(t, o)
	if same.ClusterName() == "" || same.ClusterName() != first.ClusterName() {
		t.Errorf("names of the cluster: %q and %q", first.ClusterName(), same.ClusterName())
	}
	other := o
	other.Bus = "nats two"
	limited, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if _, err := New(limited, other); err == nil || !strings.Contains(err.Error(), `"nats one"`) || !strings.Contains(err.Error(), `"nats two"`) {
		t.Fatalf("New beside a gateway on another bus: %v, want an error that names both", err)
	}
	if limited.Err() != nil {
		t.Error("that it is alive was seen only at the end of all patience")
	}

	// The first dies: who comes waits for the end of its lease, and begins.
	stop()
	<-renewed
	s, log := watched(t, other)
	if lines := log.about("waiting whether it is alive"); len(lines) != 1 {
		t.Errorf("the log has %q, want one line about waiting", log.lines())
	}
	if s.ClusterName() != first.ClusterName() {
		t.Errorf("the name of the cluster is %q, was %q", s.ClusterName(), first.ClusterName())
	}
	// One of the others that comes back knows that it is not wanted.
	awaitHealth(t, first.Store, "would not hear each other")
}

// TestIdentityAfterFlush: gateways that were there before keep their name, by
// which the bus knows them.
func TestIdentityAfterFlush(t *testing.T) {
	srv := startServer(t)
	o := optionsFor(t, srv.url(), backendtest.StoreOptions{})
	s, _ := watched(t, o)
	if err := srv.direct(t).FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the name", func() bool {
		return srv.direct(t).HGet(t.Context(), s.keys.version(), ownerCluster).Val() == s.ClusterName()
	})
	if err := srv.direct(t).HSet(t.Context(), s.keys.version(), ownerCluster, "another").Err(); err != nil {
		t.Fatal(err)
	}
	awaitHealth(t, s, "another cluster of gateways")
}
