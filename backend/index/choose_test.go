package index

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

const group = "$share/g/jobs/#"

// connected returns a session that is connected to node and has joined group.
func connected(x *Index, client, node string, load func(backend.ClientID) int) *Session {
	s := session(client)
	x.Attach(s, &Conn{Node: backend.NodeID(node), Epoch: 1, Load: load})
	x.Subscribe(s, backend.Subscription{Filter: group, QoS: 1})
	return s
}

// choose returns the client that is chosen, or the outcome in capitals.
func choose(x *Index, m backend.Message, local string) string {
	c, outcome := x.Choose(x.Group(group), ChooseRequest{Message: &m, Local: backend.NodeID(local), Park: func(*Group) {}})
	switch outcome {
	case Chosen:
		return string(c.Session.Client)
	case Parked:
		return "PARKED"
	case Busy:
		return "BUSY"
	default:
		return "NOBODY"
	}
}

// TestStrategies makes a row of choices with each.
func TestStrategies(t *testing.T) {
	loads := map[backend.ClientID]int{"a1": 5, "a2": 2, "b1": 4, "b2": -1}
	load := func(c backend.ClientID) int { return loads[c] }
	tests := []struct {
		strategy Strategy
		check    func(t *testing.T, x *Index)
	}{
		{RoundRobin, func(t *testing.T, x *Index) {
			want := "a1 a2 b1 a1 a1 a2 b1 a1" // a1 also stands in for b2, which can take nothing
			if got := row(x, 8, "p", "jobs/1"); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}},
		{Random, func(t *testing.T, x *Index) {
			got := strings.Fields(row(x, 1000, "p", "jobs/1"))
			for _, c := range []string{"a1", "a2", "b1"} {
				if !slices.Contains(got, c) {
					t.Errorf("%s is never chosen", c)
				}
			}
			if slices.Contains(got, "b2") {
				t.Error("b2 is chosen, which can take nothing")
			}
		}},
		{LeastInFlight, func(t *testing.T, x *Index) {
			if got := row(x, 3, "p", "jobs/1"); got != "a2 a2 a2" {
				t.Errorf("got %s", got)
			}
		}},
		{LocalFirst, func(t *testing.T, x *Index) {
			var got []string
			for range 6 {
				got = append(got, choose(x, backend.Message{Topic: "jobs/1", QoS: 1}, "nodeA"))
			}
			if only := slices.Compact(sorted(got)); !slices.Equal(only, []string{"a1", "a2"}) {
				t.Errorf("chosen at node A: %v", only)
			}
			if got := choose(x, backend.Message{Topic: "jobs/1", QoS: 1}, "nodeB"); got != "b1" {
				t.Errorf("chosen at node B: %s", got)
			}
			if got := choose(x, backend.Message{Topic: "jobs/1", QoS: 1}, "nodeC"); !slices.Contains([]string{"a1", "a2", "b1"}, got) {
				t.Errorf("chosen at a node without members: %s", got)
			}
		}},
		{Sticky, func(t *testing.T, x *Index) {
			first := choose(x, backend.Message{QoS: 1}, "")
			if got := strings.Fields(row(x, 5, "q", "jobs/2")); slices.ContainsFunc(got, func(s string) bool { return s != first }) {
				t.Errorf("after %s: %v", first, got)
			}
			x.Unsubscribe(x.find(first), group)
			if second := choose(x, backend.Message{QoS: 1}, ""); second == first || second == "b2" {
				t.Errorf("after %s went: %s", first, second)
			}
		}},
		{HashClientID, func(t *testing.T, x *Index) {
			seen := map[string]bool{}
			for i := range 50 {
				p := fmt.Sprint("publisher", i)
				if got := row(x, 1, p, "jobs/1"); got != row(x, 1, p, "jobs/2") {
					t.Errorf("%s: not always %s", p, got)
				} else {
					seen[got] = true
				}
			}
			if len(seen) != 3 {
				t.Errorf("publishers use %v", seen)
			}
		}},
		{HashTopic, func(t *testing.T, x *Index) {
			seen := map[string]bool{}
			for i := range 50 {
				topic := fmt.Sprint("jobs/", i)
				if got := row(x, 1, "p", topic); got != row(x, 1, "q", topic) {
					t.Errorf("%s: not always %s", topic, got)
				} else {
					seen[got] = true
				}
			}
			if len(seen) != 3 {
				t.Errorf("topics use %v", seen)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.strategy.String(), func(t *testing.T) {
			x := New(Options{Strategy: tt.strategy})
			connected(x, "b1", "nodeB", load)
			connected(x, "a2", "nodeA", load)
			connected(x, "b2", "nodeB", load)
			connected(x, "a1", "nodeA", load)
			tt.check(t, x)
		})
	}
}

// TestLeastInFlightAsksABoundedNumber has more members than are asked, all but
// one of them unable to take anything.
func TestLeastInFlightAsksABoundedNumber(t *testing.T) {
	x := New(Options{Strategy: LeastInFlight})
	asked := 0
	load := func(c backend.ClientID) int {
		asked++
		if c == "s0500" {
			return 7
		}
		return -1
	}
	for i := range 1000 {
		connected(x, fmt.Sprintf("s%04d", i), "n", load)
	}
	g, m := x.Group(group), backend.Message{QoS: 1}
	if m := g.least(&ChooseRequest{Message: &m}); m != nil || asked != mostAsked {
		t.Errorf("asked %d, chosen %v", asked, m)
	}
	if got := choose(x, m, ""); got != "s0500" {
		t.Errorf("chosen %s: whoever is ready, if none of those asked is", got)
	}
}

// row makes n choices and names who was chosen.
func row(x *Index, n int, publisher, topic string) string {
	var got []string
	for range n {
		got = append(got, choose(x, backend.Message{Topic: topic, Publisher: backend.ClientID(publisher), QoS: 1}, ""))
	}
	return strings.Join(got, " ")
}

func (x *Index) find(client string) *Session {
	for s := range x.Group(group).members {
		if string(s.Client) == client {
			return s
		}
	}
	return nil
}

// TestChooseOutcomes goes through who is there and what they can take.
func TestChooseOutcomes(t *testing.T) {
	full := func(backend.ClientID) int { return -1 }
	type who struct {
		durable, connected, full bool
		qos                      byte
	}
	tests := []struct {
		name    string
		members []who
		qos     byte
		want    string
	}{
		{"ephemeral", []who{{false, true, false, 1}}, 1, "m0"},
		{"durable", []who{{true, true, false, 1}}, 1, "m0"},
		{"connected before gone", []who{{true, false, false, 1}, {false, true, false, 0}}, 1, "m1"},
		{"all gone, one durable", []who{{true, false, false, 1}}, 1, "PARKED"},
		{"all gone, QoS 0 does not wait", []who{{true, false, false, 1}}, 0, "NOBODY"},
		{"all gone, granted QoS 0 does not wait", []who{{true, false, false, 0}}, 1, "NOBODY"},
		{"room before full", []who{{true, true, true, 1}, {false, true, false, 1}}, 1, "m1"},
		{"full, but has an inbox", []who{{true, true, true, 1}}, 1, "m0"},
		{"full, QoS 0 is not for the inbox", []who{{true, true, true, 1}}, 0, "BUSY"},
		{"full and ephemeral", []who{{false, true, true, 1}}, 1, "BUSY"},
		{"full and ephemeral, a durable one gone", []who{{false, true, true, 1}, {true, false, false, 1}}, 1, "PARKED"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := New(Options{})
			for i, w := range tt.members {
				s := session(fmt.Sprint("m", i))
				s.Durable = w.durable
				x.Subscribe(s, backend.Subscription{Filter: group, QoS: w.qos})
				if w.connected {
					c := &Conn{Node: "n"}
					if w.full {
						c.Load = full
					}
					x.Attach(s, c)
				}
			}
			for range 3 {
				if got := choose(x, backend.Message{QoS: tt.qos}, ""); got != tt.want {
					t.Errorf("got %s, want %s", got, tt.want)
				}
			}
		})
	}
}

func TestAvoid(t *testing.T) {
	x := New(Options{})
	a, b := connected(x, "a", "n", nil), connected(x, "b", "n", nil)
	g := x.Group(group)
	m := backend.Message{QoS: 1}
	park := func(*Group) { t.Error("parked while members are connected") }
	for range 3 {
		if c, outcome := x.Choose(g, ChooseRequest{Message: &m, Avoid: []*Session{a}, Park: park}); outcome != Chosen || c.Session != b {
			t.Errorf("avoiding a: %v %v", c.Session, outcome)
		}
	}
	if _, outcome := x.Choose(g, ChooseRequest{Message: &m, Avoid: []*Session{a, b}, Park: park}); outcome != Busy {
		t.Errorf("avoiding all: %v", outcome)
	}
	x.Detach(a)
	x.Detach(b)
	if _, outcome := x.Choose(g, ChooseRequest{Message: &m, Avoid: []*Session{a}, Park: park}); outcome != Busy {
		t.Errorf("avoiding one that has gone: %v, so that the caller asks again", outcome)
	}
}

func TestMembership(t *testing.T) {
	x := New(Options{})
	s := session("s")
	sub := backend.Subscription{Filter: group, QoS: 0, ID: 5, RetainAsPublished: true}
	x.Subscribe(s, sub)
	if got := choose(x, backend.Message{QoS: 1}, ""); got != "NOBODY" {
		t.Errorf("detached with QoS 0: %s", got)
	}
	sub.QoS = 2
	x.Subscribe(s, sub)
	if got := choose(x, backend.Message{QoS: 1}, ""); got != "PARKED" {
		t.Errorf("detached with QoS 2: %s", got)
	}
	g := x.Group(group)
	if d, ok := g.Delivery(s); !ok || d.QoS != 2 || !d.RetainAsPublished || !slices.Equal(d.IDs, []uint32{5}) {
		t.Errorf("delivery %+v", d)
	}
	first := &Conn{Node: "n", Epoch: 1}
	x.Attach(s, first)
	if got := choose(x, backend.Message{QoS: 1}, ""); got != "s" || s.Conn() != first {
		t.Errorf("attached: %s", got)
	}
	x.Detach(s)
	if got := choose(x, backend.Message{QoS: 1}, ""); got != "PARKED" {
		t.Errorf("detached again: %s", got)
	}
	x.Attach(s, &Conn{Node: "n", Epoch: 2})
	if !x.Unsubscribe(s, group) || x.Unsubscribe(s, group) {
		t.Error("Unsubscribe tells wrongly")
	}
	if x.Group(group) != nil || len(s.members) != 0 {
		t.Error("the group is still there")
	}
	if _, ok := g.Delivery(s); ok {
		t.Error("still a member")
	}
	if _, outcome := x.Choose(g, ChooseRequest{Message: &backend.Message{QoS: 1}, Park: func(*Group) {}}); outcome != Nobody {
		t.Errorf("a group that is gone: %v", outcome)
	}
}

// TestNothingIsParkedPastAnAttach races choices with a member that comes and
// goes: what was parked before it attached it finds, and nothing else is there
// when it looks.
func TestNothingIsParkedPastAnAttach(t *testing.T) {
	x := New(Options{})
	s := session("s")
	x.Subscribe(s, backend.Subscription{Filter: group, QoS: 1})
	g := x.Group(group)
	parked, chosen, taken := 0, 0, 0 // parked is guarded by the group
	const n = 20_000
	var wg sync.WaitGroup
	wg.Go(func() {
		for range n {
			_, outcome := x.Choose(g, ChooseRequest{Message: &backend.Message{QoS: 1}, Park: func(*Group) { parked++ }})
			if outcome == Chosen {
				chosen++
			}
		}
	})
	wg.Go(func() {
		for i := range 2000 {
			x.Attach(s, &Conn{Node: "n", Epoch: uint64(i)})
			g.Do(func() { taken, parked = taken+parked, 0 })
			g.Do(func() {
				if parked != 0 {
					t.Errorf("%d were parked although a member was attached", parked)
				}
			})
			x.Detach(s)
		}
	})
	wg.Wait()
	g.Do(func() { taken += parked })
	if taken+chosen != n {
		t.Errorf("%d taken and %d chosen, want %d together", taken, chosen, n)
	}
}

func TestStrategyText(t *testing.T) {
	for s := RoundRobin; s <= HashTopic; s++ {
		text, _ := s.MarshalText()
		var back Strategy
		if err := back.UnmarshalText(text); err != nil || back != s {
			t.Errorf("%v: %v, %v", s, back, err)
		}
	}
	var s Strategy
	if err := s.UnmarshalText([]byte("roundrobin")); err == nil || !strings.Contains(err.Error(), "round_robin") {
		t.Errorf("unknown name: %v", err)
	}
	if got := Strategy(99).String(); got != "Strategy(99)" {
		t.Error(got)
	}
}

func BenchmarkChoose(b *testing.B) {
	for _, strategy := range []Strategy{RoundRobin, LeastInFlight, HashTopic} {
		b.Run(strategy.String(), func(b *testing.B) {
			x := New(Options{Strategy: strategy})
			for i := range 100 {
				connected(x, fmt.Sprint("s", i), "n", func(backend.ClientID) int { return 1 })
			}
			g := x.Group(group)
			m := backend.Message{Topic: "jobs/1", QoS: 1}
			b.ReportAllocs()
			for b.Loop() {
				x.Choose(g, ChooseRequest{Message: &m, Park: func(*Group) {}})
			}
		})
	}
}
