package backendtest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// directoryCases are for stores that are a [backend.Directory]; all of ours
// are.
var directoryCases = []storeCase{
	{name: "nodes", promise: "ListNodes returns every gateway that has joined, with what is left of its lease and its sessions", run: listNodes},
	{name: "sessions in pages", promise: "every session is on a page, with awkward identifiers too, and small pages end", run: listSessions},
	{name: "sessions selected", promise: "a query selects by gateway, by connection and by a part of the identifier", run: selectSessions},
	{name: "one session", promise: "DescribeSession tells owner, expiry, subscriptions, backlog and will; nil if there is none", run: describeSession},
	{name: "backlog", promise: "the backlog is what has not been acknowledged, out of order too", run: describeBacklog},
	{name: "subscribers", promise: "Subscribers returns durable sessions and members of shared groups that match, with filters and gateway", run: listSubscribers},
	{name: "bans", promise: "bans are seen by every gateway, change the revision, are replaced and removed", run: keepBans},
}

// directory is what a store is besides.
type directory interface {
	backend.Directory
	backend.Bans
}

func (g *gate) directory(t *testing.T) directory {
	t.Helper()
	d, ok := g.Store.(directory)
	if !ok {
		t.Fatalf("%T is no backend.Directory with backend.Bans", g.Store)
	}
	return d
}

// sessions collects all pages.
func (g *gate) sessions(t *testing.T, q backend.SessionQuery) map[backend.ClientID]backend.SessionStatus {
	t.Helper()
	found := map[backend.ClientID]backend.SessionStatus{}
	for range 10_000 {
		page, next, err := g.directory(t).ListSessions(g.ctx, q)
		if err != nil {
			t.Fatalf("ListSessions(%+v): %v", q, err)
		}
		for _, s := range page {
			found[s.Client] = s
		}
		if q.Cursor = next; next == "" {
			return found
		}
	}
	t.Fatal("the pages do not end")
	return nil
}

func listNodes(t *testing.T, c *cluster) {
	c.a.open(t, "one")
	c.a.open(t, "two", ephemeral)
	list, err := c.b.directory(t).ListNodes(c.ctx)
	if err != nil || len(list) != 2 || list[0].ID != c.a.id || list[1].ID != c.b.id {
		t.Fatalf("ListNodes: %+v, %v", list, err)
	}
	if list[0].Sessions != 2 || list[1].Sessions != 0 {
		t.Errorf("sessions: %d and %d, want 2 and 0", list[0].Sessions, list[1].Sessions)
	}
	if list[0].Left <= 0 || list[0].Left > aWhile+time.Second {
		t.Errorf("%v is left of a lease of %v", list[0].Left, aWhile)
	}
	if err := c.a.Leave(c.ctx, c.a.id); err != nil {
		t.Fatal(err)
	}
	if list, err = c.b.directory(t).ListNodes(c.ctx); err != nil || len(list) != 1 {
		t.Errorf("after Leave: %+v, %v", list, err)
	}
}

func listSessions(t *testing.T, c *cluster) {
	want := map[backend.ClientID]bool{}
	for i := range 300 {
		id := backend.ClientID(fmt.Sprintf("client-%d", i))
		[]*gate{c.a, c.b}[i%2].open(t, id)
		want[id] = true
	}
	for _, id := range []backend.ClientID{"}:m", "{c:x}:m", "*", "a b/ü", "<script>alert(1)</script>"} {
		c.a.open(t, id)
		want[id] = true
	}
	for _, size := range []int{7, 1000} {
		got := c.b.sessions(t, backend.SessionQuery{Max: size})
		for id := range want {
			if _, ok := got[id]; !ok {
				t.Errorf("pages of %d: %q is on none", size, id)
			}
		}
		if len(got) != len(want) {
			t.Errorf("pages of %d: %d sessions, want %d", size, len(got), len(want))
		}
	}
	if page, _, err := c.a.directory(t).ListSessions(c.ctx, backend.SessionQuery{Cursor: "no cursor", Max: 1000}); err != nil || len(page) == 0 {
		t.Errorf("a cursor that is none: %d sessions, %v", len(page), err)
	}
}

func selectSessions(t *testing.T, c *cluster) {
	c.a.open(t, "lamp-1")
	c.b.open(t, "lamp-2")
	c.b.open(t, "door-1", ephemeral)
	gone := c.b.open(t, "door-2")
	c.b.release(t, gone.Lease, backend.ReleaseRequest{})
	for _, test := range []struct {
		q    backend.SessionQuery
		want []backend.ClientID
	}{
		{backend.SessionQuery{}, []backend.ClientID{"door-1", "door-2", "lamp-1", "lamp-2"}},
		{backend.SessionQuery{Node: c.b.id}, []backend.ClientID{"door-1", "lamp-2"}},
		{backend.SessionQuery{Node: "nobody"}, nil},
		{backend.SessionQuery{Attached: true}, []backend.ClientID{"door-1", "lamp-1", "lamp-2"}},
		{backend.SessionQuery{Detached: true}, []backend.ClientID{"door-2"}},
		{backend.SessionQuery{Contains: "amp-"}, []backend.ClientID{"lamp-1", "lamp-2"}},
		{backend.SessionQuery{Contains: "door", Attached: true}, []backend.ClientID{"door-1"}},
	} {
		q := test.q
		q.Max = 100
		got := slices.Sorted(maps.Keys(c.a.sessions(t, q)))
		if !slices.Equal(got, test.want) {
			t.Errorf("%+v: %q, want %q", test.q, got, test.want)
		}
	}
}

func describeSession(t *testing.T, c *cluster) {
	d := c.b.directory(t)
	if s, subs, err := d.DescribeSession(c.ctx, "nobody", 10); s != nil || subs != nil || err != nil {
		t.Errorf("of nobody: %+v, %v, %v", s, subs, err)
	}
	o := c.a.open(t, "client", expires(100), as("me"), leaving("will", 10))
	c.a.subscribe(t, o.Lease, sub("a/+", 1), sub("b", 2), sub("$share/g/c", 1))
	s, subs, err := d.DescribeSession(c.ctx, "client", 10)
	if err != nil || s == nil {
		t.Fatalf("%+v, %v", s, err)
	}
	if s.Node != c.a.id || s.Epoch != o.Lease.Epoch || s.Principal != "me" || !s.Durable || s.Expiry != 100 || !s.Will || s.Subscriptions != 3 || !s.Ends.IsZero() {
		t.Errorf("attached: %+v", s)
	}
	if len(subs) != 3 || !slices.Contains(subs, sub("b", 2)) {
		t.Errorf("subscriptions: %+v", subs)
	}
	if _, subs, _ = d.DescribeSession(c.ctx, "client", 2); len(subs) != 2 {
		t.Errorf("%d subscriptions, want the 2 that were asked for", len(subs))
	}
	before := time.Now()
	c.a.release(t, o.Lease, backend.ReleaseRequest{})
	if s, _, err = d.DescribeSession(c.ctx, "client", 10); err != nil || s == nil {
		t.Fatalf("%+v, %v", s, err)
	}
	if left := s.Ends.Sub(before); s.Node != "" || s.Will || left < 95*time.Second || left > 110*time.Second {
		t.Errorf("detached: %+v, ends in %v", s, left)
	}
	if _, _, err := c.b.Destroy(c.ctx, "client"); err != nil {
		t.Fatal(err)
	}
	if s, _, err := d.DescribeSession(c.ctx, "client", 10); s != nil || err != nil {
		t.Errorf("destroyed: %+v, %v", s, err)
	}
}

func describeBacklog(t *testing.T, c *cluster) {
	o := c.a.member(t, "client", sub("a", 1))
	for range 5 {
		c.b.append(t, text("a", "x", 1))
	}
	want := func(n int64) {
		t.Helper()
		s, _, err := c.b.directory(t).DescribeSession(c.ctx, "client", 0)
		if err != nil || s == nil || s.Backlog != n {
			t.Errorf("%+v, %v, want a backlog of %d", s, err, n)
		}
		if got := c.b.sessions(t, backend.SessionQuery{Max: 10})["client"]; got.Backlog != n {
			t.Errorf("listed with a backlog of %d, want %d", got.Backlog, n)
		}
	}
	want(5)
	c.a.advance(t, o.Lease, backend.Progress{Base: o.Base + 1, Done: []uint64{o.Base + 4}})
	want(3)
	c.a.advance(t, o.Lease, backend.Progress{Base: o.Base + 5})
	want(0)
}

func listSubscribers(t *testing.T, c *cluster) {
	c.a.member(t, "durable", sub("t/+", 1))
	d := c.a.open(t, "both")
	c.a.subscribe(t, d.Lease, sub("t/#", 1), sub("t/x", 2), sub("other", 1))
	c.b.member(t, "sharer", sub("$share/g/t/x", 1))
	c.b.member(t, "live sharer", sub("$share/g/t/x", 0), ephemeral)
	c.b.member(t, "elsewhere", sub("z", 1))
	away := c.b.member(t, "away", sub("t/x", 1))
	c.b.release(t, away.Lease, backend.ReleaseRequest{})

	found, more, err := c.b.directory(t).Subscribers(c.ctx, "t/x", 100)
	if err != nil || more {
		t.Fatalf("more %v, %v", more, err)
	}
	got := map[backend.ClientID]backend.Subscriber{}
	for _, s := range found {
		slices.Sort(s.Filters)
		got[s.Client] = s
	}
	want := []backend.Subscriber{
		{Client: "durable", Node: c.a.id, QoS: 1, Filters: []string{"t/+"}},
		{Client: "both", Node: c.a.id, QoS: 2, Filters: []string{"t/#", "t/x"}},
		{Client: "sharer", Node: c.b.id, QoS: 1, Filters: []string{"$share/g/t/x"}},
		{Client: "live sharer", Node: c.b.id, QoS: 0, Filters: []string{"$share/g/t/x"}},
		{Client: "away", QoS: 1, Filters: []string{"t/x"}},
	}
	for _, w := range want {
		if g := got[w.Client]; g.Node != w.Node || g.QoS != w.QoS || !slices.Equal(g.Filters, w.Filters) {
			t.Errorf("%+v, want %+v", g, w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d subscribers, want %d: %+v", len(got), len(want), found)
	}
	if found, more, err = c.b.directory(t).Subscribers(c.ctx, "t/x", 2); len(found) != 2 || !more || err != nil {
		t.Errorf("%d of 2, more %v, %v", len(found), more, err)
	}
	if found, _, err = c.b.directory(t).Subscribers(c.ctx, "nobody/there", 2); len(found) != 0 || err != nil {
		t.Errorf("to a topic of nobody: %+v, %v", found, err)
	}
}

func keepBans(t *testing.T, c *cluster) {
	a, b := c.a.directory(t), c.b.directory(t)
	revision := func() uint64 {
		t.Helper()
		n, err := b.BanRevision(c.ctx)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	listed := func() map[string]backend.Ban {
		t.Helper()
		all := map[string]backend.Ban{}
		for cursor, pages := "", 0; ; pages++ {
			page, next, err := b.ListBans(c.ctx, cursor, 2)
			if err != nil || pages > 100 {
				t.Fatalf("page %d: %v", pages, err)
			}
			for _, ban := range page {
				all[string(ban.Kind)+" "+ban.Value] = ban
			}
			if cursor = next; next == "" {
				return all
			}
		}
	}
	now := time.Now().Truncate(time.Second)
	before := revision()
	for i := range 5 {
		ban := backend.Ban{Kind: backend.BanClient, Value: fmt.Sprintf("c:%d", i), Reason: "why", Since: now, Until: now.Add(time.Hour)}
		if err := a.PutBan(c.ctx, ban); err != nil {
			t.Fatal(err)
		}
	}
	put := backend.Ban{Kind: backend.BanAddress, Value: "2001:db8::/32", Since: now}
	if err := errors.Join(a.PutBan(c.ctx, put), a.PutBan(c.ctx, put)); err != nil {
		t.Fatal(err)
	}
	all := listed()
	if len(all) != 6 || revision() == before {
		t.Errorf("%d bans, want 6; revision %d, before %d", len(all), revision(), before)
	}
	got := all["client c:3"]
	if got.Reason != "why" || !got.Since.Equal(now) || !got.Until.Equal(now.Add(time.Hour)) {
		t.Errorf("%+v", got)
	}
	if got := all["address 2001:db8::/32"]; !got.Until.IsZero() || got.Kind != backend.BanAddress {
		t.Errorf("%+v", got)
	}
	before = revision()
	if existed, err := a.RemoveBan(c.ctx, backend.BanClient, "c:3"); !existed || err != nil {
		t.Errorf("removed: %v, %v", existed, err)
	}
	if existed, err := a.RemoveBan(c.ctx, backend.BanClient, "c:3"); existed || err != nil {
		t.Errorf("removed again: %v, %v", existed, err)
	}
	if all := listed(); len(all) != 5 || revision() == before {
		t.Errorf("%d bans, want 5; revision %d, before %d", len(all), revision(), before)
	}
}
