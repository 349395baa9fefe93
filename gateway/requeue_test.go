package gateway

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// TestRequeueDoesNotBlock: a message for a member of a shared group that has gone
// goes to another member, once, and whoever brings it does not wait for the
// store, which may not answer for a while. What waits is bounded.
func TestRequeueDoesNotBlock(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cl := newCluster(t, 2)
		g, store := cl.nodes[0], cl.stores[0]
		other := join(t, cl.nodes[1], "other")
		other.subscribe(1, "$share/g/a")
		notice := func(payload string) backend.Notice {
			m := &backend.Message{Topic: "a", Payload: []byte(payload), QoS: 1}
			return backend.Notice{Kind: backend.NoticeDeliver, Client: "gone", Epoch: 1,
				Entry: backend.Entry{Message: m, QoS: 1, Share: "$share/g/a"}}
		}
		answers := make(chan struct{})
		store.fault(func(call string) error {
			if call == "Requeue" {
				<-answers
			}
			return nil
		})
		h := &handler{g: g}
		begin := time.Now()
		for i := range maxRequeues + 11 {
			h.HandleNotice(notice(fmt.Sprint(i)))
			if i == 0 {
				synctest.Wait() // it is under way
			}
		}
		h.HandleFlush()
		if d := time.Since(begin); d > 0 {
			t.Errorf("the bus has waited for %v", d)
		}
		if n := g.Stats().Dropped[DropStore]; n != 10 {
			t.Errorf("%d dropped, want what is above %d", n, maxRequeues)
		}
		// The store is away for a moment; then it answers.
		tries := 0
		store.fault(func(call string) error {
			if call == "Requeue" {
				if tries++; tries < 4 {
					return unavailable(call)
				}
			}
			return nil
		})
		close(answers)
		for i := range 100 {
			other.expect(fmt.Sprintf("PUBLISH a=%d q1 #%d", i, i+1))
			other.send(ack(protocol.PUBACK, uint16(i+1)))
		}
	})
}
