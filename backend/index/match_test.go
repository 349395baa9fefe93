package index

import (
	"fmt"
	"slices"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

func session(client string) *Session {
	return &Session{Client: backend.ClientID(client), Durable: true}
}

// wants tells what Match gives session s for a message of publisher:
// "qos 1 rap ids [2 3]", or "nothing".
func wants(x *Index, topic, publisher string, s *Session) string {
	found := x.Match(topic)
	if found == nil {
		return "nothing"
	}
	for i := range found.Sessions {
		if m := &found.Sessions[i]; m.Session == s {
			d, ok := m.For(backend.ClientID(publisher))
			if !ok {
				return "nothing"
			}
			rap := ""
			if d.RetainAsPublished {
				rap = " rap"
			}
			return fmt.Sprintf("qos %d%s ids %v", d.QoS, rap, d.IDs)
		}
	}
	return "nothing"
}

func TestOverlappingSubscriptionsAreMerged(t *testing.T) {
	type sub = backend.Subscription
	tests := []struct {
		clause    string
		subs      []sub
		publisher string
		want      string
	}{
		{"none matches", []sub{{Filter: "x", QoS: 1}}, "p", "nothing"},
		{"one", []sub{{Filter: "a/b", QoS: 1}}, "p", "qos 1 ids []"},
		{"one with all options [MQTT-3.3.1-13]", []sub{{Filter: "a/+", QoS: 2, RetainAsPublished: true, ID: 7}}, "p", "qos 2 rap ids [7]"},
		{"the highest QoS [MQTT-3.3.4-2]", []sub{{Filter: "a/b", QoS: 0}, {Filter: "a/+", QoS: 2}, {Filter: "#", QoS: 1}}, "p", "qos 2 ids []"},
		{"all identifiers [MQTT-3.3.4-4]", []sub{{Filter: "a/b", ID: 9}, {Filter: "a/+"}, {Filter: "#", ID: 3}, {Filter: "x", ID: 4}}, "p", "qos 0 ids [3 9]"},
		{"one identifier twice", []sub{{Filter: "a/b", ID: 3}, {Filter: "#", ID: 3}}, "p", "qos 0 ids [3 3]"},
		{"any that wants the flag", []sub{{Filter: "a/b"}, {Filter: "#", RetainAsPublished: true}}, "p", "qos 0 rap ids []"},
		{"No Local from another [MQTT-3.8.3-3]", []sub{{Filter: "a/b", QoS: 1, NoLocal: true}}, "p", "qos 1 ids []"},
		{"No Local from itself [MQTT-3.8.3-3]", []sub{{Filter: "a/b", QoS: 1, NoLocal: true}}, "me", "nothing"},
		{"No Local counts by subscription", []sub{{Filter: "a/b", QoS: 2, NoLocal: true, ID: 1, RetainAsPublished: true}, {Filter: "#", QoS: 1, ID: 2}}, "me", "qos 1 ids [2]"},
		{"No Local of an overlap, from another", []sub{{Filter: "a/b", QoS: 2, NoLocal: true, ID: 1}, {Filter: "#", QoS: 1, ID: 2}}, "p", "qos 2 ids [1 2]"},
		{"No Local in all of several", []sub{{Filter: "a/b", NoLocal: true}, {Filter: "#", NoLocal: true}}, "me", "nothing"},
		{"replaced", []sub{{Filter: "a/b", QoS: 2, ID: 1}, {Filter: "a/b", QoS: 1, ID: 5}}, "p", "qos 1 ids [5]"},
	}
	for _, tt := range tests {
		t.Run(tt.clause, func(t *testing.T) {
			x := New(Options{})
			me, other := session("me"), session("other")
			for _, sub := range tt.subs {
				x.Subscribe(me, sub)
			}
			x.Subscribe(other, sub{Filter: "a/#", QoS: 1, ID: 100, NoLocal: true})
			for range 2 { // the second time from the cache
				if got := wants(x, "a/b", tt.publisher, me); got != tt.want {
					t.Errorf("got %s, want %s", got, tt.want)
				}
				if got := wants(x, "a/b", tt.publisher, other); got != "qos 1 ids [100]" {
					t.Errorf("the other session: %s", got)
				}
			}
			for _, sub := range tt.subs {
				x.Unsubscribe(me, sub.Filter)
			}
			if got := wants(x, "a/b", tt.publisher, me); got != "nothing" {
				t.Errorf("after Unsubscribe: %s", got)
			}
		})
	}
}

func TestEntry(t *testing.T) {
	tests := []struct {
		clause  string
		m       backend.Message
		d       Delivery
		qos     byte
		retains bool
	}{
		{"MQTT-3.8.4-8 lower grant", backend.Message{QoS: 2}, Delivery{QoS: 1}, 1, false},
		{"MQTT-3.8.4-8 lower publish", backend.Message{QoS: 1}, Delivery{QoS: 2}, 1, false},
		{"MQTT-3.3.1-12", backend.Message{Retain: true}, Delivery{}, 0, false},
		{"MQTT-3.3.1-13 set", backend.Message{Retain: true}, Delivery{RetainAsPublished: true}, 0, true},
		{"MQTT-3.3.1-13 clear", backend.Message{}, Delivery{RetainAsPublished: true}, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.clause, func(t *testing.T) {
			if e := tt.d.Entry(&tt.m); e.QoS != tt.qos || e.Retain != tt.retains || e.Message != &tt.m {
				t.Errorf("got %+v", e)
			}
		})
	}
}

// TestManySessionsAreMerged has more sessions than merge slots that are left
// over from other merges.
func TestManySessionsAreMerged(t *testing.T) {
	for _, cached := range []int{0, -1} {
		x := New(Options{CachedTopics: cached})
		const n = 300
		sessions := make([]*Session, n)
		for i := range sessions {
			sessions[i] = session(fmt.Sprint("c", i))
			x.Subscribe(sessions[i], backend.Subscription{Filter: "a", QoS: 1, ID: uint32(i + 1)})
			if i%2 == 0 {
				x.Subscribe(sessions[i], backend.Subscription{Filter: "+", QoS: 2, ID: 1000})
			}
			if i%3 == 0 {
				x.Subscribe(sessions[i], backend.Subscription{Filter: "b", QoS: 0})
			}
		}
		for range 3 {
			for i, s := range sessions {
				want := fmt.Sprintf("qos 1 ids [%d]", i+1)
				if i%2 == 0 {
					want = fmt.Sprintf("qos 2 ids [%d 1000]", i+1)
				}
				if got := wants(x, "a", "p", s); got != want {
					t.Fatalf("session %d: got %s, want %s", i, got, want)
				}
			}
			if got := len(x.Match("a").Sessions); got != n {
				t.Fatalf("%d sessions match, want %d", got, n)
			}
			if got := len(x.Match("b").Sessions); got != n/2+n/6 {
				t.Fatalf("%d sessions match b", got)
			}
		}
	}
}

// TestCacheFollowsChanges asks, after every kind of change, for a topic whose
// result is cached.
func TestCacheFollowsChanges(t *testing.T) {
	x := New(Options{CachedTopics: cacheShards})
	s, r := session("s"), session("r")
	check := func(step string, plain, groups int) {
		t.Helper()
		for range 2 {
			var gotPlain, gotGroups int
			if found := x.Match("a"); found != nil {
				gotPlain, gotGroups = len(found.Sessions), len(found.Groups)
			}
			if gotPlain != plain || gotGroups != groups {
				t.Errorf("%s: %d sessions and %d groups match, want %d and %d", step, gotPlain, gotGroups, plain, groups)
			}
		}
	}
	check("empty", 0, 0)
	x.Subscribe(r, backend.Subscription{Filter: "b"})
	check("another topic", 0, 0)
	x.Subscribe(s, backend.Subscription{Filter: "a"})
	check("subscribe", 1, 0)
	x.Subscribe(r, backend.Subscription{Filter: "$share/g/+"})
	check("join", 1, 1)
	x.Subscribe(s, backend.Subscription{Filter: "$share/g/+"})
	x.Subscribe(s, backend.Subscription{Filter: "$share/h/+"})
	check("another group", 1, 2)
	for i := range 1000 { // more topics than the cache has room for
		x.Match(fmt.Sprint("t", i))
	}
	check("overflow", 1, 2)
	x.Unsubscribe(s, "$share/h/+")
	x.Unsubscribe(s, "$share/g/+")
	check("one member less", 1, 1)
	x.Unsubscribe(r, "$share/g/+")
	check("last member", 1, 0)
	x.Unsubscribe(s, "a")
	check("unsubscribe", 0, 0)
	if subs, groups := x.Len(); subs != 1 || groups != 0 || len(x.groups) != 0 {
		t.Errorf("left: %d subscriptions, %d groups, %d names", subs, groups, len(x.groups))
	}
}

func TestCacheIsBounded(t *testing.T) {
	x := New(Options{CachedTopics: 2 * cacheShards})
	for i := range 1000 {
		x.Subscribe(session(fmt.Sprint("s", i)), backend.Subscription{Filter: "#"})
	}
	for i := range 5000 {
		x.Match(fmt.Sprint("t", i))
	}
	for i := range x.cache.shards {
		s := &x.cache.shards[i]
		if len(s.results) > 2 || s.sessions > sessionsInShard {
			t.Errorf("shard %d holds %d topics, %d sessions", i, len(s.results), s.sessions)
		}
	}
}

func TestNoMatchDoesNotAllocate(t *testing.T) {
	for _, cached := range []int{0, -1} {
		x := New(Options{CachedTopics: cached})
		for i := range 100 {
			x.Subscribe(session(fmt.Sprint("s", i)), backend.Subscription{Filter: fmt.Sprintf("dev/%d/#", i)})
		}
		topics := make([]string, 200_000)
		for i := range topics {
			topics[i] = fmt.Sprintf("other/%d", i)
		}
		for _, topic := range topics { // lets the maps of the cache grow
			x.Match(topic)
		}
		i := 0
		if got := testing.AllocsPerRun(10_000, func() { x.Match(topics[i]); i++ }); got != 0 {
			t.Errorf("cache %d: a match of nothing allocates %v times", cached, got)
		}
	}
}

func TestShares(t *testing.T) {
	x := New(Options{})
	s := session("s")
	x.Subscribe(s, backend.Subscription{Filter: "#"})
	if x.Shares("jobs/1") {
		t.Error("shares without a group")
	}
	x.Subscribe(s, backend.Subscription{Filter: group})
	for _, tt := range []struct {
		topic string
		want  bool
	}{{"jobs", true}, {"jobs/1", true}, {"job", false}, {"$share/g/jobs/1", false}} {
		for range 2 { // the second time from the cache
			if got := x.Shares(tt.topic); got != tt.want {
				t.Errorf("Shares(%q) is %v", tt.topic, got)
			}
			if a := testing.AllocsPerRun(100, func() { x.Shares(tt.topic) }); a != 0 {
				t.Errorf("Shares(%q) allocates %v times", tt.topic, a)
			}
			x.Match(tt.topic)
		}
	}
	x.Unsubscribe(s, group)
	if x.Shares("jobs/1") {
		t.Error("shares after the last member left")
	}
}

func TestShared(t *testing.T) {
	tests := []struct {
		filter, group, rest string
		ok                  bool
	}{
		{"$share/g/a/b", "g", "a/b", true},
		{"$share/g//", "g", "/", true},
		{"a/b", "", "a/b", false},
		{"$shared/g/a", "", "$shared/g/a", false},
		{"$share/g", "g", "", false},
	}
	for _, tt := range tests {
		if group, rest, ok := Shared(tt.filter); ok != tt.ok || rest != tt.rest || group != tt.group {
			t.Errorf("Shared(%q) = %q, %q, %v", tt.filter, group, rest, ok)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	x := New(Options{})
	for i := range 100_000 {
		s := session(fmt.Sprint("s", i))
		x.Subscribe(s, backend.Subscription{Filter: fmt.Sprintf("dev/%d/#", i), QoS: 1})
		x.Subscribe(s, backend.Subscription{Filter: "all", QoS: 1, ID: 1})
	}
	changing := session("changing")
	for _, bm := range []struct {
		name, topic string
		change      bool
	}{
		{"nothing", "other/topic", false},
		{"one session", "dev/77/state", false},
		{"one session not cached", "dev/77/state", true},
		{"100k sessions", "all", true},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if bm.change {
					x.Subscribe(changing, backend.Subscription{Filter: "elsewhere"})
				}
				x.Match(bm.topic)
			}
		})
	}
}

func sorted(names []string) []string { slices.Sort(names); return names }
