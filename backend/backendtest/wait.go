package backendtest

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// defaultPatience is how long something that must happen may take. It is only
// spent by cases that fail.
const defaultPatience = 30 * time.Second

// between is how often a condition that nothing announces is looked at.
const between = 5 * time.Millisecond

// eventually waits until done reports true.
func eventually(t *testing.T, patience time.Duration, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
		time.Sleep(between)
	}
}

// lapse lets d pass on the store's clock. Nothing announces it.
func lapse(d time.Duration) { time.Sleep(d) }

// within fails the test if call takes longer than limit. A call that hangs is
// left behind.
func within(t *testing.T, limit time.Duration, what string, call func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- call() }() // ends with the call
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		t.Fatalf("%s did not return within %v", what, limit)
		return nil
	}
}

// inTime runs a case that has to be faster than a time which the store counts. try
// returns false if the machine was too busy for that, which says nothing about the
// store; it is tried again then, with other names by what it gets.
func inTime(t *testing.T, try func(attempt string) bool) {
	t.Helper()
	for n := range 20 {
		if try(fmt.Sprint("-", n)) {
			return
		}
	}
	t.Error("the machine is too busy for this case")
}

// atOnce is the most that 'at once' may mean on a busy machine.
const atOnce = 3 * time.Second

// cancelled returns a context that is cancelled.
func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
