package backendtest

import (
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

var willCases = []storeCase{
	{name: "when due", promise: "a will is published at the end of the connection or session as MQTT 3.1.2.5 and 3.1.3.2.2 say, and no other time", run: willWhenDue},
	{name: "delay", promise: "a delayed will comes due after its delay, not before, whoever polls", run: willDelayed},
	{name: "cut short", promise: "the end of the session cuts the delay of the will short [MQTT-3.1.3-9]", run: willCutShort},
	{name: "resumed in time", promise: "a delayed will is not published if the session is resumed before [MQTT-3.1.3-9]", run: willResumed},
	{name: "pending at clean start", promise: "a delayed will that is pending is published when a clean start ends its session", run: willPendingCleanStart},
	{name: "pending at destroy", promise: "a delayed will that is pending is published when an operator ends its session", run: willPendingDestroy},
	{name: "new will", promise: "each connection has its own will: the newer one's neither replaces nor is replaced", run: willOfEachConnection},
	{name: "delay after a gateway", promise: "the delay of a will whose gateway died is counted from the end of the lease", run: willAfterGateway},
	{name: "message", promise: "the will's message is complete, its expiry counted from publication, and it is known whose it is", run: willMessage},
	{name: "borrowed", promise: "Open borrows the will: the caller may change its bytes afterwards", run: willBorrowed},
}

// willTopics returns the topics of wills among chores.
func willTopics(chores []backend.Chore) []string {
	var list []string
	for _, c := range chores {
		if c.Kind == backend.ChoreWill {
			list = append(list, c.Will.Topic)
		}
	}
	return list
}

// willWhenDue goes through everything that can end a connection whose will
// has, and has not, a delay; the answer is at once or not at all.
func willWhenDue(t *testing.T, c *cluster) {
	zero := uint32(0)
	release := func(r backend.ReleaseRequest) func(*testing.T, *backend.Opened) []backend.Chore {
		return func(t *testing.T, o *backend.Opened) []backend.Chore { return c.a.release(t, o.Lease, r) }
	}
	open := func(changes ...change) func(*testing.T, *backend.Opened) []backend.Chore {
		return func(t *testing.T, o *backend.Opened) []backend.Chore {
			return c.b.open(t, o.Lease.Client, changes...).Due
		}
	}
	destroy := func(t *testing.T, o *backend.Opened) []backend.Chore {
		_, due, err := c.b.Destroy(c.ctx, o.Lease.Client)
		if err != nil {
			t.Fatalf("Destroy: %v", err)
		}
		return due
	}
	cases := []struct {
		name      string
		delay     uint32
		ephemeral bool
		end       func(*testing.T, *backend.Opened) []backend.Chore
		want      bool
	}{
		{"clean disconnect", 0, false, release(backend.ReleaseRequest{}), false},
		{"clean disconnect, delay", 3600, false, release(backend.ReleaseRequest{}), false},
		{"clean disconnect, ephemeral", 0, true, release(backend.ReleaseRequest{}), false},
		{"clean disconnect, delay, session ends", 3600, false, release(backend.ReleaseRequest{Expiry: &zero}), false},
		{"connection lost", 0, false, release(backend.ReleaseRequest{KeepWill: true}), true},
		{"connection lost, delay", 3600, false, release(backend.ReleaseRequest{KeepWill: true}), false},
		{"connection lost, ephemeral", 0, true, release(backend.ReleaseRequest{KeepWill: true}), true},
		{"connection lost, delay, ephemeral", 3600, true, release(backend.ReleaseRequest{KeepWill: true}), true},
		{"disconnect with will, delay, session ends", 3600, false, release(backend.ReleaseRequest{KeepWill: true, Expiry: &zero}), true},
		{"takeover", 0, false, open(), true},
		{"takeover, delay, resumed", 3600, false, open(), false},
		{"takeover, delay, clean start", 3600, false, open(clean), true},
		{"takeover, clean start", 0, false, open(clean), true},
		{"takeover, ephemeral", 0, true, open(), true},
		{"takeover, delay, ephemeral", 3600, true, open(), true},
		{"destroyed", 0, false, destroy, true},
		{"destroyed, delay", 3600, false, destroy, true},
		{"destroyed, ephemeral", 0, true, destroy, true},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			changes := []change{leaving("will/"+tt.name, tt.delay)}
			if tt.ephemeral {
				changes = append(changes, ephemeral)
			}
			o := c.a.open(t, backend.ClientID(tt.name), changes...)
			due := tt.end(t, o)
			wills := of(due, backend.ChoreWill, o.Lease.Client)
			switch {
			case tt.want && len(wills) != 1:
				t.Errorf("%d wills due at once, want the one", len(wills))
			case !tt.want && len(wills) != 0:
				t.Errorf("%d wills due, want none", len(wills))
			case tt.want && wills[0].Will.Topic != "will/"+tt.name:
				t.Errorf("the will's topic is %q", wills[0].Will.Topic)
			}
			c.a.finish(t, due...)
			if again := willTopics(c.b.due(t)); len(again) != 0 {
				t.Errorf("Due gives the wills %q besides", again)
			}
		})
	}
}

func willDelayed(t *testing.T, c *cluster) {
	o := c.a.open(t, "client", leaving("will", 1))
	released := time.Now()
	due := c.a.release(t, o.Lease, backend.ReleaseRequest{KeepWill: true})
	if len(due) != 0 {
		t.Errorf("chores %+v at once", due)
	}
	all := c.b.collect(t, nil, "the will", has(backend.ChoreWill, "client"))
	if passed := time.Since(released); passed < time.Second-clockSlack {
		t.Errorf("a will with delay 1 s came after %v", passed)
	}
	if len(all) != 1 {
		t.Errorf("%d chores, want the will alone", len(all))
	}
	if !c.a.open(t, "client").Present {
		t.Error("the session ended with its will")
	}
}

func willCutShort(t *testing.T, c *cluster) {
	o := c.a.open(t, "client", expires(1), leaving("will", 3600))
	released := time.Now()
	c.a.release(t, o.Lease, backend.ReleaseRequest{KeepWill: true})
	all := c.b.collect(t, nil, "will and end of the session", func(all []backend.Chore) bool {
		return has(backend.ChoreWill, "client")(all) && has(backend.ChoreEnded, "client")(all)
	})
	if passed := time.Since(released); passed < time.Second-clockSlack {
		t.Errorf("a session with expiry 1 s ended after %v", passed)
	}
	if len(all) != 2 {
		t.Errorf("%d chores, want two", len(all))
	}
}

func willResumed(t *testing.T, c *cluster) {
	inTime(t, func(attempt string) bool {
		client := backend.ClientID("client" + attempt)
		o := c.a.open(t, client, leaving("will", 1))
		released := time.Now()
		c.a.release(t, o.Lease, backend.ReleaseRequest{KeepWill: true})
		o = c.b.open(t, client)
		if time.Since(released) >= time.Second-clockSlack {
			return false
		}
		all := c.afterExpiry(t, o.Due)
		if len(of(all, backend.ChoreWill, client)) != 0 {
			t.Error("the will of a session that was resumed in time came due")
		}
		// Nor is it kept for the next time.
		c.b.release(t, o.Lease, backend.ReleaseRequest{KeepWill: true})
		if all = c.afterExpiry(t, nil); len(of(all, backend.ChoreWill, client)) != 0 {
			t.Error("a connection without will left one")
		}
		return true
	})
}

func willPendingCleanStart(t *testing.T, c *cluster) {
	o := c.a.open(t, "client", leaving("will", 3600))
	c.a.release(t, o.Lease, backend.ReleaseRequest{KeepWill: true})
	o = c.b.open(t, "client", clean, leaving("new", 3600))
	if topics := willTopics(o.Due); len(topics) != 1 || topics[0] != "will" {
		t.Errorf("wills %q due, want the pending one", topics)
	}
}

func willPendingDestroy(t *testing.T, c *cluster) {
	o := c.a.open(t, "client", leaving("will", 3600))
	c.a.release(t, o.Lease, backend.ReleaseRequest{KeepWill: true})
	_, due, err := c.b.Destroy(c.ctx, "client")
	if err != nil {
		t.Fatalf("Destroy: %v", err)
	}
	if topics := willTopics(due); len(topics) != 1 || topics[0] != "will" {
		t.Errorf("wills %q due, want the pending one", topics)
	}
}

func willOfEachConnection(t *testing.T, c *cluster) {
	c.a.open(t, "client", leaving("first", 0))
	o := c.b.open(t, "client", leaving("second", 0))
	if topics := willTopics(o.Due); len(topics) != 1 || topics[0] != "first" {
		t.Errorf("wills %q due at the takeover, want the first", topics)
	}
	c.b.finish(t, o.Due...)
	if topics := willTopics(c.b.release(t, o.Lease, backend.ReleaseRequest{KeepWill: true})); len(topics) != 1 || topics[0] != "second" {
		t.Errorf("wills %q due at the end, want the second", topics)
	}
}

func willMessage(t *testing.T, c *cluster) {
	const lifetime = 100 // seconds
	seconds := uint32(lifetime)
	full := sample("will/full")
	full.ID, full.Expires = backend.PublishID{}, 0
	for name, w := range map[backend.ClientID]*backend.Will{
		"forever":        {Message: full},
		"limited":        {Message: full, MessageExpiry: &seconds, Owner: []byte("7 \x00 of anybody \xFF ")},
		"delayed":        {Message: full, MessageExpiry: &seconds, Delay: 1, Owner: []byte("somebody")},
		"empty retained": {Message: &backend.Message{Topic: "will/empty", Retain: true}},
	} {
		t.Run(string(name), func(t *testing.T) {
			o := c.a.open(t, name, leavingWill(w))
			due := c.a.release(t, o.Lease, backend.ReleaseRequest{KeepWill: true})
			from := time.Now().Add(time.Duration(w.Delay) * time.Second)
			due = c.a.collect(t, due, "the will", has(backend.ChoreWill, name))
			chore := of(due, backend.ChoreWill, name)[0]
			got := chore.Will
			if string(chore.Owner) != string(w.Owner) {
				t.Errorf("it is the will of %q, want %q", chore.Owner, w.Owner)
			}
			if w.MessageExpiry == nil {
				if got.Expires != 0 {
					t.Errorf("expires %d, want never", got.Expires)
				}
			} else {
				// On the store's clock, which may differ from ours by a
				// little; a delay that is not counted by a second.
				early, late := from.Add((lifetime-1)*time.Second+clockSlack), time.Now().Add((lifetime+1)*time.Second)
				if at := time.UnixMilli(got.Expires); at.Before(early) || at.After(late) {
					t.Errorf("expires %v, want between %v and %v", at, early, late)
				}
			}
			want := *w.Message
			want.Expires = got.Expires
			if diff := sameMessage(got, &want); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func willBorrowed(t *testing.T, c *cluster) {
	w := will("will", 0)
	w.Owner = []byte("owner")
	o := c.a.open(t, "client", leavingWill(w))
	copy(w.Message.Payload, "????")
	copy(w.Owner, "?????")
	w.Delay = 3600
	wills := of(c.a.release(t, o.Lease, backend.ReleaseRequest{KeepWill: true}), backend.ChoreWill, "client")
	if len(wills) != 1 || string(wills[0].Will.Payload) != "gone" || string(wills[0].Owner) != "owner" {
		t.Errorf("the will is %+v", wills)
	}
}

func willAfterGateway(t *testing.T, c *cluster) {
	joined := time.Now()
	g := c.mortal(t, "dying")
	owned := will("will", 1)
	owned.Owner = []byte("owner")
	g.open(t, "stays away", leavingWill(owned))
	g.open(t, "returns", leaving("will", 5))
	all := c.a.collect(t, nil, "the will", has(backend.ChoreWill, "stays away"))
	if passed := time.Since(joined); passed < c.h.Lease+time.Second-clockSlack {
		t.Errorf("the will came %v after the gateway joined; its lease is %v, the delay 1 s", passed, c.h.Lease)
	}
	if w := of(all, backend.ChoreWill, "stays away")[0]; string(w.Owner) != "owner" {
		t.Errorf("it is the will of %q", w.Owner)
	}
	o := c.b.open(t, "returns")
	if !o.Present {
		t.Error("the session is gone")
	}
	late := c.a.open(t, "later", leaving("will", 5))
	c.a.release(t, late.Lease, backend.ReleaseRequest{KeepWill: true})
	all = append(all, c.a.collect(t, o.Due, "a will that comes later", has(backend.ChoreWill, "later"))...)
	if len(of(all, backend.ChoreWill, "returns")) != 0 {
		t.Error("the will of a session that was resumed in time came due")
	}
}
