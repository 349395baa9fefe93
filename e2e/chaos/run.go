// Package chaos has clients that outlive their connections and everything
// behind them, writes down what each of them saw, and says which promises of
// the cluster were kept.
//
// [Load] is the clients, [History] what they saw, [Check] the verdict. The run
// itself, with faults at random, is the test of this package:
//
//	make chaos SEED=1 MINUTES=30
package chaos

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// Run is a run of clients against one address.
type Run struct {
	address string
	begin   time.Time
	prefix  string // of client identifiers and topics
	ctx     context.Context
	cancel  context.CancelFunc
	clients sync.WaitGroup

	mu       sync.Mutex
	broken   []string
	notes    []string
	senders  []*publisher
	mortals  *mortals
	sessions []*subscriber
	groups   map[string][]*subscriber

	online atomic.Int64 // clients that are to be connected, and are
}

// NewRun makes a run without clients. Clients connect to the address again and
// again until Close.
func NewRun(address string) *Run {
	r := &Run{address: address, begin: time.Now(), prefix: wire.Unique("run"), groups: map[string][]*subscriber{}}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// Topic returns a topic or filter of this run.
func (r *Run) Topic(rest string) string { return r.prefix + "/" + rest }

// now is the time of a history.
func (r *Run) now() time.Duration { return time.Since(r.begin) }

// break writes down that a promise was broken.
func (r *Run) breaks(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = append(r.broken, fmt.Sprintf("%v ", r.now().Round(time.Millisecond))+fmt.Sprintf(format, args...))
}

// Note writes down what was done to the cluster.
func (r *Run) Note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, fmt.Sprintf("%v ", r.now().Round(time.Millisecond))+fmt.Sprintf(format, args...))
}

// AwaitOnline waits until all clients are connected that always want to be, and
// reports whether they are.
func (r *Run) AwaitOnline(limit time.Duration) bool {
	want := int64(len(r.senders))
	for _, s := range r.sessions {
		if s.Home == 0 {
			want++
		}
	}
	for _, members := range r.groups {
		want += int64(len(members))
	}
	for deadline := time.Now().Add(limit); r.online.Load() < want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// Close ends all clients.
func (r *Run) Close() {
	r.cancel()
	r.clients.Wait()
}

// History is what was seen so far.
func (r *Run) History() *History {
	r.mu.Lock()
	h := &History{Broken: append([]string(nil), r.broken...), Faults: append([]string(nil), r.notes...)}
	r.mu.Unlock()
	for _, p := range r.senders {
		h.Senders = append(h.Senders, p.history())
	}
	if r.mortals != nil {
		h.Senders = append(h.Senders, r.mortals.history())
	}
	for _, s := range r.sessions {
		h.Receivers = append(h.Receivers, s.history())
	}
	for name, members := range r.groups {
		all := Receiver{Name: name, Unordered: true}
		for _, s := range members {
			one := s.history()
			all.Subscriptions = append(all.Subscriptions, one.Subscriptions...)
			all.Receipts = append(all.Receipts, one.Receipts...)
		}
		all.Subscriptions = all.Subscriptions[:min(1, len(all.Subscriptions))] // of the first member: the others are later
		h.Receivers = append(h.Receivers, all)
	}
	return h
}

// Settle ends publishing and waits until every publisher has its
// acknowledgements, every session what it is to have, and nothing more comes
// for a while. After the limit it gives up waiting; the check will say why.
func (r *Run) Settle(limit, quiet time.Duration) *Report {
	deadline := time.Now().Add(limit)
	for _, p := range r.senders {
		p.finish()
	}
	if r.mortals != nil {
		r.mortals.finish()
	}
	for _, p := range r.senders {
		select {
		case <-p.finished:
		case <-time.After(time.Until(deadline)):
			r.breaks("%s did not get its acknowledgements within %v: %s", p.name, limit, p.waiting())
		}
	}
	for time.Now().Before(deadline) {
		if report := Check(r.History()); report.Lost == 0 {
			break
		}
		time.Sleep(200 * time.Millisecond) // a poll of our own records
	}
	time.Sleep(quiet) // for what comes a second time
	return Check(r.History())
}

// Begin is the zero of the times in the history.
func (r *Run) Begin() time.Time { return r.begin }
