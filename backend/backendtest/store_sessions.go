package backendtest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

var sessionCases = []storeCase{
	{name: "new", promise: "Open makes the session where there is none", run: openNew},
	{name: "resume", promise: "a durable session that was released is resumed, at any gateway, with all that it had", run: openResume},
	{name: "clean start", promise: "CleanStart drops a session that exists [MQTT-3.1.2-4]; its end is a chore", run: openClean},
	{name: "ephemeral", promise: "an ephemeral session ends with its connection; its end is a chore", run: openEphemeral},
	{name: "ephemeral takeover", promise: "taking over an ephemeral session ends it: the new one is not a resumption", run: takeoverEphemeral},
	{name: "made ephemeral", promise: "a durable session that is resumed with expiry 0 keeps its inbox until the connection ends, and the session with it", run: madeEphemeral},
	{name: "made durable", promise: "an expiry above 0 makes the session durable; Durable says so", run: durableFlag},
	{name: "epoch grows", promise: "the epoch grows with every Open of the client, for ever: past clean starts, ends and operators", run: epochGrows},
	{name: "incarnation", promise: "the incarnation is new for every session that is made and the same for every resumption of it", run: incarnations},
	{name: "takeover", promise: "Open fences the connection that is up and names it as Previous", run: takeover},
	{name: "takeover at the same gateway", promise: "a second connection at the same gateway takes over like any other", run: takeoverSameGateway},
	{name: "two at once", promise: "if two open at once both return, one with the other as Previous, and one of them is fenced", run: twoAtOnce},
	{name: "no previous", promise: "Previous is zero where no connection was up", run: noPrevious},
	{name: "principal", promise: "a session remembers the identity that made it; another gets ErrNotOwner and changes nothing", run: principal},
	{name: "release replaces expiry", promise: "Release may replace the expiry interval: 0 ends the session", run: releaseReplacesExpiry},
	{name: "destroy", promise: "Destroy ends the session of a client, attached or not, and returns the connection as fenced", run: destroy},
	{name: "sent after release", promise: "Sent is the newest entry that Release named: entries above it were never sent", run: sentAfterRelease},
	{name: "sent after a crash", promise: "entries that a connection may have sent before it was lost are never said to be unsent", run: sentAfterCrash},
}

// clientNames returns n client identifiers.
func clientNames(n int) []backend.ClientID {
	list := make([]backend.ClientID, n)
	for i := range list {
		list[i] = backend.ClientID(fmt.Sprintf("client-%d", i))
	}
	return list
}

func openNew(t *testing.T, c *cluster) {
	o := c.a.open(t, "client")
	switch {
	case o.Present:
		t.Error("a new session is said to be present")
	case !o.Durable:
		t.Error("a session with an expiry is not durable")
	case o.Previous != (backend.Lease{}):
		t.Errorf("previous lease %+v", o.Previous)
	case len(o.Subscriptions)+len(o.Received)+len(o.Generations)+len(o.Replays)+len(o.Due) != 0:
		t.Errorf("a new session has something: %+v", o)
	case o.Base != o.Last || o.Sent != o.Last:
		t.Errorf("a new inbox has base %d, last %d, sent %d", o.Base, o.Last, o.Sent)
	}
	if list := c.a.inbox(t, o.Lease); len(list) != 0 {
		t.Errorf("a new inbox has %d entries", len(list))
	}
}

// rich gives a session something of everything that a session can have, and
// returns what a resumption must find.
func rich(t *testing.T, g *gate, l backend.Lease) (subs []backend.Subscription, replays []backend.Replay) {
	t.Helper()
	subs = []backend.Subscription{
		{Filter: "rich/+/x", QoS: 2, NoLocal: true, RetainAsPublished: true, RetainHandling: 2, ID: 268435455},
		{Filter: "rich/#", QoS: 1, ID: 1},
		{Filter: "$share/group/rich/é/#", QoS: 0, RetainHandling: 1},
	}
	existed, err := g.Subscribe(g.ctx, l, subs, subs[:2])
	if err != nil || slices.Contains(existed, true) {
		t.Fatalf("Subscribe: %v, %v", existed, err)
	}
	if err := g.Replayed(g.ctx, l, "rich/#", "rich/5", false); err != nil {
		t.Fatalf("Replayed: %v", err)
	}
	replays = []backend.Replay{{Subscription: subs[0]}, {Subscription: subs[1], After: "rich/5"}}
	g.append(t, text("rich/1", "1", 1), text("rich/2", "2", 1), text("rich/3", "3", 1))
	return subs, replays
}

func bySubscription(a, b backend.Subscription) int { return strings.Compare(a.Filter, b.Filter) }
func byReplay(a, b backend.Replay) int {
	return bySubscription(a.Subscription, b.Subscription)
}

// sameSet compares two lists without regard to order.
func sameSet[T any](got, want []T, order func(a, b T) int) bool {
	got, want = slices.Clone(got), slices.Clone(want)
	slices.SortFunc(got, order)
	slices.SortFunc(want, order)
	return len(got) == len(want) && (len(got) == 0 || reflect.DeepEqual(got, want))
}

func openResume(t *testing.T, c *cluster) {
	first := c.a.open(t, "client")
	subs, replays := rich(t, c.a, first.Lease)
	c.a.advance(t, first.Lease, backend.Progress{Base: 1})
	due := c.a.release(t, first.Lease, backend.ReleaseRequest{Sent: 2})
	if len(due) != 0 {
		t.Errorf("Release of a durable session without will gives %d chores", len(due))
	}
	o := c.b.open(t, "client")
	switch {
	case !o.Present || !o.Durable:
		t.Error("the session is not said to be present and durable")
	case o.Incarnation != first.Incarnation:
		t.Errorf("incarnation %d, want %d", o.Incarnation, first.Incarnation)
	case o.Lease.Epoch <= first.Lease.Epoch:
		t.Errorf("epoch %d after %d", o.Lease.Epoch, first.Lease.Epoch)
	case o.Previous != (backend.Lease{}):
		t.Errorf("previous lease %+v", o.Previous)
	case !sameSet(o.Subscriptions, subs, bySubscription):
		t.Errorf("subscriptions %+v, want %+v", o.Subscriptions, subs)
	case !sameSet(o.Replays, replays, byReplay):
		t.Errorf("replays %+v, want %+v", o.Replays, replays)
	case o.Base != 1 || o.Last != 3 || o.Sent != 2:
		t.Errorf("base %d, last %d, sent %d; want 1, 3, 2", o.Base, o.Last, o.Sent)
	}
	wantPayloads(t, "inbox", c.b.inbox(t, o.Lease), []string{"2", "3"})
}

// wantNothing fails if anything of an earlier session is left in o.
func wantNothing(t *testing.T, g *gate, o *backend.Opened) {
	t.Helper()
	if o.Present {
		t.Error("the session is said to be present")
	}
	if len(o.Subscriptions)+len(o.Received)+len(o.Generations)+len(o.Replays) != 0 || o.Base != o.Last || o.Sent != o.Last {
		t.Errorf("something is left: %+v", o)
	}
	for _, out := range g.append(t, text("rich/1/x", "late", 1), text("a", "late", 1)) {
		for _, target := range out.Targets {
			if target.Client == o.Lease.Client {
				t.Error("a subscription is left")
			}
		}
	}
	if o.Durable {
		if list := g.inbox(t, o.Lease); len(list) != 0 {
			t.Errorf("%d messages are left: %q", len(list), payloads(list))
		}
	}
}

func openClean(t *testing.T, c *cluster) {
	for i, attached := range []bool{false, true} {
		id := clientNames(2)[i]
		first := c.a.open(t, id)
		rich(t, c.a, first.Lease)
		if !attached {
			c.a.release(t, first.Lease, backend.ReleaseRequest{})
		}
		o := c.b.open(t, id, clean)
		if o.Incarnation == first.Incarnation || o.Lease.Epoch <= first.Lease.Epoch {
			t.Errorf("after a clean start: %+v, before: %+v", o, first)
		}
		if attached && o.Previous != first.Lease {
			t.Errorf("previous lease %+v, want %+v", o.Previous, first.Lease)
		}
		if len(of(o.Due, backend.ChoreEnded, id)) != 1 || len(o.Due) != 1 {
			t.Errorf("chores %+v, want the end of the session", o.Due)
		}
		c.b.finish(t, o.Due...)
		wantNothing(t, c.b, o)
	}
}

func openEphemeral(t *testing.T, c *cluster) {
	o := c.a.open(t, "client", ephemeral)
	if o.Present || o.Durable {
		t.Errorf("opened: %+v", o)
	}
	c.a.subscribe(t, o.Lease, sub("a", 1))
	if due := c.a.release(t, o.Lease, backend.ReleaseRequest{}); len(due) != 1 || len(of(due, backend.ChoreEnded, "client")) != 1 {
		t.Errorf("chores %+v, want the end of the session", due)
	}
	again := c.b.open(t, "client")
	if again.Incarnation == o.Incarnation || again.Previous != (backend.Lease{}) {
		t.Errorf("opened: %+v after %+v", again, o)
	}
	wantNothing(t, c.b, again)
}

func takeoverEphemeral(t *testing.T, c *cluster) {
	first := c.a.open(t, "client", ephemeral)
	c.a.subscribe(t, first.Lease, sub("a", 1))
	o := c.b.open(t, "client")
	if o.Previous != first.Lease || o.Incarnation == first.Incarnation {
		t.Errorf("opened: %+v after %+v", o, first)
	}
	if len(of(o.Due, backend.ChoreEnded, "client")) != 1 {
		t.Errorf("chores %+v, want the end of the session", o.Due)
	}
	wantNothing(t, c.b, o)
	wantFenced(t, c.a, first.Lease)
	// So does one that was durable until its present connection.
	made := c.a.open(t, "client", ephemeral)
	if !made.Present {
		t.Fatal("a durable session was not resumed")
	}
	o = c.b.open(t, "client")
	if o.Present || o.Previous != made.Lease || o.Incarnation == made.Incarnation {
		t.Errorf("opened: %+v after %+v", o, made)
	}
}

func madeEphemeral(t *testing.T, c *cluster) {
	first := c.a.member(t, "client", sub("a", 1))
	c.a.append(t, text("a", "before", 1))
	c.a.release(t, first.Lease, backend.ReleaseRequest{})
	o := c.b.open(t, "client", ephemeral)
	if !o.Present || !o.Durable {
		t.Errorf("opened: %+v, want present and durable", o)
	}
	wantPayloads(t, "inbox", c.b.inbox(t, o.Lease), []string{"before"})
	due := c.b.release(t, o.Lease, backend.ReleaseRequest{})
	if len(of(due, backend.ChoreEnded, "client")) != 1 {
		t.Errorf("chores %+v, want the end of the session", due)
	}
	wantNothing(t, c.a, c.a.open(t, "client"))
}

func durableFlag(t *testing.T, c *cluster) {
	for _, expiry := range []uint32{1, 3600, backend.NeverExpires} {
		id := backend.ClientID(fmt.Sprint(expiry))
		if o := c.a.open(t, id, expires(expiry)); !o.Durable {
			t.Errorf("expiry %d: not durable", expiry)
		}
	}
	if o := c.a.open(t, "0", ephemeral); o.Durable {
		t.Error("expiry 0: durable")
	}
}

func epochGrows(t *testing.T, c *cluster) {
	last := uint64(0)
	grow := func(what string, o *backend.Opened) {
		t.Helper()
		if o.Lease.Epoch <= last {
			t.Errorf("%s: epoch %d after %d", what, o.Lease.Epoch, last)
		}
		last = o.Lease.Epoch
	}
	o := c.a.open(t, "client")
	grow("made", o)
	grow("taken over", c.b.open(t, "client"))
	o = c.a.open(t, "client", clean)
	grow("clean start", o)
	c.a.release(t, o.Lease, backend.ReleaseRequest{})
	o = c.b.open(t, "client", ephemeral)
	grow("resumed", o)
	c.b.release(t, o.Lease, backend.ReleaseRequest{})
	grow("made after the end", c.a.open(t, "client"))
	if _, _, err := c.a.Destroy(c.ctx, "client"); err != nil {
		t.Fatalf("Destroy: %v", err)
	}
	grow("made after Destroy", c.b.open(t, "client"))
}

func incarnations(t *testing.T, c *cluster) {
	seen := make(map[uint64]bool)
	for range 20 {
		o := c.a.open(t, "client", clean)
		if seen[o.Incarnation] {
			t.Fatalf("incarnation %d again", o.Incarnation)
		}
		seen[o.Incarnation] = true
		if again := c.b.open(t, "client"); again.Incarnation != o.Incarnation {
			t.Fatalf("incarnation %d, resumed %d", o.Incarnation, again.Incarnation)
		}
	}
}

func takeover(t *testing.T, c *cluster) {
	first := c.a.open(t, "client")
	subs, _ := rich(t, c.a, first.Lease)
	o := c.b.open(t, "client")
	if !o.Present || o.Previous != first.Lease || o.Incarnation != first.Incarnation || !sameSet(o.Subscriptions, subs, bySubscription) {
		t.Errorf("opened: %+v after %+v", o, first)
	}
	if len(o.Due) != 0 {
		t.Errorf("chores %+v of a session without will that goes on", o.Due)
	}
	wantFenced(t, c.a, first.Lease)
	wantPayloads(t, "inbox", c.b.inbox(t, o.Lease), []string{"1", "2", "3"})
	for _, target := range c.a.append(t, text("rich/4", "4", 1))[0].Targets {
		if target.Client == "client" && (target.Node != c.b.id || target.Epoch != o.Lease.Epoch) {
			t.Errorf("target %+v, want node %s and epoch %d", target, c.b.id, o.Lease.Epoch)
		}
	}
}

func takeoverSameGateway(t *testing.T, c *cluster) {
	first := c.a.open(t, "client")
	o := c.a.open(t, "client")
	if !o.Present || o.Previous != first.Lease {
		t.Errorf("opened: %+v after %+v", o, first)
	}
	wantFenced(t, c.a, first.Lease)
}

func twoAtOnce(t *testing.T, c *cluster) {
	const rounds = 200
	gates := []*gate{c.a, c.b}
	for i := range rounds {
		id := backend.ClientID(fmt.Sprintf("racer-%d", i))
		if i%2 == 1 { // detached, or none
			o := c.a.open(t, id)
			c.a.release(t, o.Lease, backend.ReleaseRequest{})
		}
		var opened [2]*backend.Opened
		var errs [2]error
		var group sync.WaitGroup
		for k, g := range gates {
			group.Go(func() { opened[k], errs[k] = g.Open(c.ctx, g.request(id)) })
		}
		group.Wait()
		if err := errors.Join(errs[:]...); err != nil {
			t.Fatalf("Open: %v", err)
		}
		loser, winner := 0, 1
		if opened[0].Lease.Epoch > opened[1].Lease.Epoch {
			loser, winner = 1, 0
		}
		if opened[loser].Lease.Epoch == opened[winner].Lease.Epoch {
			t.Fatalf("both got epoch %d", opened[0].Lease.Epoch)
		}
		if opened[loser].Previous != (backend.Lease{}) || opened[winner].Previous != opened[loser].Lease {
			t.Fatalf("the winner has %+v as previous, the loser %+v; the loser's lease is %+v", opened[winner].Previous, opened[loser].Previous, opened[loser].Lease)
		}
		if _, err := gates[loser].Subscribe(c.ctx, opened[loser].Lease, []backend.Subscription{sub("a", 1)}, nil); !errors.Is(err, backend.ErrFenced) {
			t.Fatalf("the loser subscribes: %v, want ErrFenced", err)
		}
		gates[winner].subscribe(t, opened[winner].Lease, sub("a", 1))
	}
}

func noPrevious(t *testing.T, c *cluster) {
	o := c.a.open(t, "client")
	c.a.release(t, o.Lease, backend.ReleaseRequest{KeepWill: true})
	for _, changes := range [][]change{nil, {clean}, {ephemeral}} {
		o := c.b.open(t, "client", changes...)
		if o.Previous != (backend.Lease{}) {
			t.Errorf("previous lease %+v of a released session", o.Previous)
		}
		c.b.release(t, o.Lease, backend.ReleaseRequest{})
	}
}

func principal(t *testing.T, c *cluster) {
	refused := func(what string, g *gate, changes ...change) {
		t.Helper()
		if _, err := g.Open(g.ctx, g.request("client", changes...)); !errors.Is(err, backend.ErrNotOwner) {
			t.Errorf("%s: %v, want ErrNotOwner", what, err)
		}
	}
	first := c.a.open(t, "client", as("alice"), leaving("will", 0))
	refused("another identity, session attached", c.b, as("mallory"))
	refused("another identity, clean start", c.b, as("mallory"), clean)
	refused("no identity", c.b, as(""))
	c.a.subscribe(t, first.Lease, sub("a", 1)) // not fenced
	if list := c.b.due(t); len(list) != 0 {
		t.Errorf("%d chores of a session that was not touched", len(list))
	}
	c.a.release(t, first.Lease, backend.ReleaseRequest{})
	refused("another identity, session detached", c.b, as("mallory"))
	refused("another identity, detached, clean start", c.b, as("mallory"), clean)
	o := c.b.open(t, "client", as("alice"))
	if !o.Present || len(o.Subscriptions) != 1 || o.Previous != (backend.Lease{}) {
		t.Errorf("the owner resumes: %+v", o)
	}
	zero := uint32(0)
	c.b.release(t, o.Lease, backend.ReleaseRequest{Expiry: &zero})
	if o := c.a.open(t, "client", as("bob")); o.Present {
		t.Error("bob got alice's session after its end")
	}
}

func releaseReplacesExpiry(t *testing.T, c *cluster) {
	zero := uint32(0)
	first := c.a.open(t, "client")
	rich(t, c.a, first.Lease)
	due := c.a.release(t, first.Lease, backend.ReleaseRequest{Expiry: &zero})
	if len(of(due, backend.ChoreEnded, "client")) != 1 {
		t.Errorf("chores %+v, want the end of the session", due)
	}
	c.a.finish(t, due...)
	wantNothing(t, c.b, c.b.open(t, "client"))
}

func destroy(t *testing.T, c *cluster) {
	for i, attached := range []bool{true, false} {
		id := clientNames(2)[i]
		first := c.a.open(t, id)
		rich(t, c.a, first.Lease)
		want := first.Lease
		if !attached {
			c.a.release(t, first.Lease, backend.ReleaseRequest{})
			want = backend.Lease{}
		}
		previous, due, err := c.b.Destroy(c.ctx, id)
		if err != nil {
			t.Fatalf("Destroy: %v", err)
		}
		if previous != want {
			t.Errorf("attached %v: previous lease %+v, want %+v", attached, previous, want)
		}
		if len(of(due, backend.ChoreEnded, id)) != 1 {
			t.Errorf("attached %v: chores %+v, want the end of the session", attached, due)
		}
		wantFenced(t, c.a, first.Lease)
		wantNothing(t, c.b, c.b.open(t, id))
	}
}

func sentAfterRelease(t *testing.T, c *cluster) {
	o := c.a.member(t, "client", sub("a", 1))
	c.a.append(t, numbered("a", 3, 1)...)
	c.a.release(t, o.Lease, backend.ReleaseRequest{Sent: 2})
	c.b.append(t, numbered("a", 2, 1)...)
	o = c.b.open(t, "client")
	if o.Base != 0 || o.Sent != 2 || o.Last != 5 {
		t.Errorf("base %d, sent %d, last %d; want 0, 2, 5", o.Base, o.Sent, o.Last)
	}
	c.b.release(t, o.Lease, backend.ReleaseRequest{Sent: 2})
	if o := c.a.open(t, "client"); o.Sent != 2 {
		t.Errorf("sent %d, want 2", o.Sent)
	}
}

func sentAfterCrash(t *testing.T, c *cluster) {
	c.a.member(t, "client", sub("a", 1))
	c.a.append(t, numbered("a", 3, 1)...)
	o := c.b.open(t, "client") // the first connection may have sent all three
	if o.Last != 3 || o.Sent < 3 {
		t.Errorf("after a takeover: sent %d, last %d; three may have been sent", o.Sent, o.Last)
	}
	c.b.append(t, numbered("a", 2, 1)...)
	c.b.release(t, o.Lease, backend.ReleaseRequest{Sent: 4})
	if o = c.a.open(t, "client"); o.Sent != 4 || o.Last != 5 {
		t.Errorf("after a release: sent %d, last %d; want 4, 5", o.Sent, o.Last)
	}
	if err := c.a.Leave(c.ctx, c.a.id); err != nil {
		t.Fatalf("Leave: %v", err)
	}
	c.b.append(t, numbered("a", 1, 1)...)
	if o = c.b.open(t, "client"); o.Sent < 5 || o.Sent > o.Last || o.Last != 6 {
		t.Errorf("after the end of the gateway: sent %d, last %d; five may have been sent of six", o.Sent, o.Last)
	}
}
