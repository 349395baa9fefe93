package backendtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

var busFaultCases = []backendCase{
	{name: "killed", promise: "while the service is away calls fail with ErrUnavailable in time; when it is back every gateway gets a gap and hears again without help", run: busKilled},
	{name: "frozen", promise: "a service that answers nothing is noticed within ten seconds, and all is as after a restart when it answers again", run: busFrozen},
	{name: "deaf", promise: "a service that answers pings and delivers nothing is noticed within fifteen seconds, and all is as after a restart when it delivers again", run: busDeaf},
	{name: "closed while away", promise: "Close returns although the service does not answer", run: busClosedAway},
}

// callLimit is the deadline that the fault cases give a call; callGrace is what
// a busy machine may add.
const (
	callLimit = time.Second
	callGrace = 3 * time.Second
)

// tryPublish publishes with a deadline and fails the test if the call outlives
// it or returns another error than ErrUnavailable.
func (r *room) tryPublish(t *testing.T, from int, topic string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, callLimit)
	defer cancel()
	err := within(t, callLimit+callGrace, "Publish", func() error {
		return r.buses[from].Publish(ctx, &backend.Message{Topic: topic, QoS: 1})
	})
	if err != nil && !errors.Is(err, backend.ErrUnavailable) {
		t.Fatalf("Publish: %v, want ErrUnavailable", err)
	}
	return err
}

// noticed waits until every gateway's Publish fails, at most limit, and keeps
// them failing: none may take silence for success.
func (r *room) noticed(t *testing.T, limit time.Duration) {
	t.Helper()
	for i := range busGateways {
		eventually(t, limit, fmt.Sprintf("Publish at %s fails", node(i)), func() bool {
			return r.tryPublish(t, i, "fault/away") != nil
		})
	}
	for i := range busGateways {
		if r.tryPublish(t, i, "fault/away") == nil {
			t.Errorf("Publish at %s succeeds while the service is away", node(i))
		}
	}
}

// recovered waits until every gateway had a gap and each hears each again.
func (r *room) recovered(t *testing.T) {
	t.Helper()
	for i, e := range r.ears {
		e.wait(t, r.h.Patience, "a gap at "+string(node(i)), func() bool { return len(e.gaps) > 0 })
	}
	for from := range busGateways {
		topic := fmt.Sprintf("fault/back/%d", from)
		for to := range busGateways {
			if from == to {
				continue
			}
			eventually(t, r.h.Patience, fmt.Sprintf("%s hears %s", node(to), node(from)), func() bool {
				_ = r.tryPublish(t, from, topic) // may still fail
				return len(r.ears[to].heard(topic)) > 0
			})
		}
		heard := len(r.waitNotices(t, from, 0))
		r.notify(t, (from+1)%busGateways, node(from), backend.Notice{Kind: backend.NoticeKick})
		r.waitNotices(t, from, heard+1)
	}
}

// listen asks for everything at every gateway and waits until it works.
func (r *room) listen(t *testing.T) {
	t.Helper()
	for i := range busGateways {
		r.subscribe(t, i, "fault/#", everyClass)
	}
	r.settle(t, 0, 1, "fault")
}

func busKilled(t *testing.T, r *room) {
	r.listen(t)
	r.h.Faults.Kill(t)
	back := startOnce(t, r.h.Faults)
	r.noticed(t, r.h.Patience)
	for name, call := range busCalls(r.buses[0]) {
		ctx, cancel := context.WithTimeout(r.ctx, callLimit)
		err := within(t, callLimit+callGrace, name, func() error { return call(ctx) })
		cancel()
		if !errors.Is(err, backend.ErrUnavailable) {
			t.Errorf("%s while the service is away: %v, want ErrUnavailable", name, err)
		}
	}
	back()
	r.recovered(t)
}

func busFrozen(t *testing.T, r *room) {
	r.listen(t)
	r.h.Faults.Pause(t)
	back := resumeOnce(t, r.h.Faults)
	r.noticed(t, 10*time.Second)
	back()
	r.recovered(t)
}

// busDeaf is F24: PING is answered, everything accepted, and nothing delivered.
func busDeaf(t *testing.T, r *room) {
	r.listen(t)
	r.h.Faults.Deafen(t)
	back := undo(t, func() { r.h.Faults.Hear(t) })
	r.noticed(t, 15*time.Second)
	back()
	r.recovered(t)
}

func busClosedAway(t *testing.T, r *room) {
	r.listen(t)
	r.h.Faults.Pause(t)
	resumeOnce(t, r.h.Faults)
	if err := within(t, r.h.Patience, "Close", r.buses[0].Close); err != nil && !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("Close: %v", err)
	}
}

// undo returns a function that calls f once; the end of the test calls it too.
func undo(t *testing.T, f func()) func() {
	done := false
	once := func() {
		if !done {
			done = true
			f()
		}
	}
	t.Cleanup(once)
	return once
}

func startOnce(t *testing.T, f Faults) func()  { return undo(t, func() { f.Start(t) }) }
func resumeOnce(t *testing.T, f Faults) func() { return undo(t, func() { f.Resume(t) }) }
