package backendtest

import (
	"math"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

var sentCases = []storeCase{
	{name: "within the window", promise: "a connection that ended unseen has sent no more than its window and what is done: Sent says so after a takeover, and after the end of the gateway", run: sentWithinWindow},
	{name: "window replaced", promise: "the window is that of the connection, and what was sent before stays sent", run: sentWindowReplaced},
	{name: "beyond the end", promise: "an inbox that has lost what was sent goes on behind it: neither sequence nor packet identifier is given out again", run: sentBeyondTheEnd},
	{name: "does not expire", promise: "an entry that may have been sent does not expire, and one that was not does [MQTT-4.3.3-7], [MQTT-3.3.2-5]", run: sentDoesNotExpire},
	{name: "does not expire when full", promise: "nor does it where room is made for another", options: StoreOptions{InboxMessages: 3}, run: sentDoesNotExpireWhenFull},
}

func window(n uint16) change { return func(r *backend.OpenRequest) { r.Window = n } }

// wantSent checks what is known of an inbox.
func wantSent(t *testing.T, o *backend.Opened, base, sent, last uint64) {
	t.Helper()
	if o.Base != base || o.Sent != sent || o.Last != last {
		t.Errorf("base %d, sent %d, last %d; want %d, %d, %d", o.Base, o.Sent, o.Last, base, sent, last)
	}
}

func sentWithinWindow(t *testing.T, c *cluster) {
	o := c.a.open(t, "client", window(2))
	c.a.subscribe(t, o.Lease, sub("a", 2))
	c.a.append(t, numbered("a", 8, 1)...)
	o = c.b.open(t, "client", window(2))
	wantSent(t, o, 0, 2, 8)
	// 1 to 3 were sent, and 4, because 2 and 3 are done.
	c.b.advance(t, o.Lease, backend.Progress{Done: []uint64{2, 3}})
	o = c.a.open(t, "client", window(2))
	wantSent(t, o, 0, 4, 8)
	c.a.advance(t, o.Lease, backend.Progress{Base: 4})
	if err := c.a.Leave(c.ctx, c.a.id); err != nil {
		t.Fatalf("Leave: %v", err)
	}
	wantSent(t, c.b.open(t, "client", window(1)), 4, 6, 8)
}

func sentWindowReplaced(t *testing.T, c *cluster) {
	o := c.a.open(t, "client", window(4))
	c.a.subscribe(t, o.Lease, sub("a", 2))
	c.a.append(t, numbered("a", 3, 1)...)
	o = c.b.open(t, "client", window(1))
	wantSent(t, o, 0, 3, 3)
	c.a.append(t, numbered("a", 5, 1)...)
	o = c.a.open(t, "client", window(5))
	wantSent(t, o, 0, 3, 8)
	o = c.b.open(t, "client")
	wantSent(t, o, 0, 5, 8)
	wantSent(t, c.a.open(t, "client"), 0, 8, 8) // of any number
}

func sentBeyondTheEnd(t *testing.T, c *cluster) {
	const far = 3*backend.MaxInFlight + 7
	for name, tt := range map[string]struct {
		kept int // entries that are left
		sent uint64
		next uint64 // 0: any with the packet identifier that follows on sent
	}{
		"empty": {0, 9, 10}, "some": {3, 9, 10}, "many": {3, 1000, 1001}, "empty, far": {0, far, 0}, "some, far": {2, far, 0},
		"all there": {3, 3, 4}, "less": {3, 2, 4}, "nonsense": {3, math.MaxUint64, 4},
	} {
		id := backend.ClientID(name)
		o := c.a.open(t, id)
		c.a.subscribe(t, o.Lease, sub(name, 1))
		if tt.kept > 0 {
			c.b.append(t, numbered(name, tt.kept, 1)...)
		}
		c.a.release(t, o.Lease, backend.ReleaseRequest{Sent: tt.sent})
		c.b.append(t, text(name, "new", 1))
		o = c.b.open(t, id)
		list := c.b.inbox(t, o.Lease)
		wantPayloads(t, name, list, append(count(0, tt.kept), "new"))
		got := list[len(list)-1].Seq
		if tt.next != 0 && got != tt.next || tt.next == 0 && backend.PacketID(got) != backend.PacketID(tt.sent+1) {
			t.Errorf("%s: the next entry has sequence %d and identifier %d, %d was sent", name, got, backend.PacketID(got), tt.sent)
		}
		if o.Last != got {
			t.Errorf("%s: last %d, want %d", name, o.Last, got)
		}
		for i := range tt.kept {
			if list[i].Seq != uint64(i)+1 {
				t.Errorf("%s: entry %d has moved to %d", name, i+1, list[i].Seq)
			}
		}
		// What is missing is done: all goes away with the rest.
		c.b.advance(t, o.Lease, backend.Progress{Base: got})
		wantPayloads(t, name, c.b.inbox(t, o.Lease), nil)
		c.b.append(t, text(name, "next", 1))
		if list := c.b.inbox(t, o.Lease); len(list) != 1 || list[0].Seq != got+1 {
			t.Errorf("%s: %d entries after all were acknowledged, the first %+v", name, len(list), list)
		}
	}
}

// briefly is for how long those of brief live: a busy machine stores them before that.
const briefly = 3 * time.Second

// brief are messages that expire soon.
func brief(topic string, n int) []*backend.Message {
	list := numbered(topic, n, 2)
	for _, m := range list {
		m.Expires = time.Now().Add(briefly).UnixMilli()
	}
	return list
}

func sentDoesNotExpire(t *testing.T, c *cluster) {
	o := c.a.open(t, "client", window(2))
	c.a.subscribe(t, o.Lease, sub("a", 2))
	c.a.append(t, brief("a", 4)...)
	lapse(briefly + 200*time.Millisecond)
	o = c.b.open(t, "client", window(2))
	wantSent(t, o, 0, 2, 4)
	if got, want := states(c.b.inbox(t, o.Lease)), "1:0 2:0 "; got != want {
		t.Errorf("after a takeover: %q, want %q", got, want)
	}
	c.b.advance(t, o.Lease, backend.Progress{Released: []uint64{1}})
	c.b.release(t, o.Lease, backend.ReleaseRequest{Sent: 2})
	if got, want := states(c.a.inbox(t, c.a.open(t, "client").Lease)), "1:1 2:0 "; got != want {
		t.Errorf("after a release: %q, want %q", got, want)
	}
}

func sentDoesNotExpireWhenFull(t *testing.T, c *cluster) {
	o := c.a.member(t, "client", sub("a", 2))
	c.a.append(t, brief("a", 3)...)
	c.a.release(t, o.Lease, backend.ReleaseRequest{Sent: 2})
	lapse(briefly + 200*time.Millisecond)
	for i, refused := range []int{0, 1} {
		if out := c.b.append(t, numbered("a", 1, 2)...); out[0].Refused != refused {
			t.Errorf("message %d: %d refused, want %d", i, out[0].Refused, refused)
		}
	}
	if got, want := states(c.a.inbox(t, c.a.open(t, "client").Lease)), "1:0 2:0 4:0 "; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
