package index

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

// TestCovers: it says what the tree says.
func TestCovers(t *testing.T) {
	levels := []string{"", "a", "b", "$x", "+", "#"}
	var filters, topics []string
	var build func(prefix string, depth int)
	build = func(prefix string, depth int) {
		for i, l := range levels {
			f := prefix + l
			if f != "" {
				filters = append(filters, f)
				if i < 4 {
					topics = append(topics, f)
				}
			}
			if l != "#" && depth < 2 {
				build(f+"/", depth+1)
			}
		}
	}
	build("", 0)
	names := topics[:0]
	for _, topic := range topics {
		if !strings.ContainsAny(topic, "+#") {
			names = append(names, topic)
		}
	}
	for _, filter := range filters {
		x := New(Options{CachedTopics: -1})
		s := &Session{Client: "c", Durable: true}
		x.Subscribe(s, backend.Subscription{Filter: filter, QoS: 1})
		for _, topic := range names {
			if got, want := Covers(filter, topic), x.Match(topic) != nil; got != want {
				t.Errorf("Covers(%q, %q) is %v, the tree says %v", filter, topic, got, want)
			}
		}
	}
}

func TestMembers(t *testing.T) {
	x := New(Options{})
	for i := range 6 {
		s := &Session{Client: backend.ClientID(fmt.Sprint(i)), Durable: true}
		x.Subscribe(s, backend.Subscription{Filter: "$share/g/t", QoS: byte(i % 3)})
		if i%2 == 1 {
			x.Attach(s, &Conn{Node: "n"})
		}
	}
	list := x.Group("$share/g/t").Members(100)
	if len(list) != 6 {
		t.Fatalf("%d members, want 6", len(list))
	}
	for i, m := range list {
		if up := m.Session.Conn() != nil; up != (i < 3) {
			t.Errorf("member %d: connected is %v", i, up)
		}
	}
	if n := len(x.Group("$share/g/t").Members(2)); n != 2 {
		t.Errorf("%d members, want the 2 that were asked for", n)
	}
}
