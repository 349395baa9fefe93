package topictree

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// matched returns what Match visits, sorted, as "subscriber=value".
func matched(t *Tree[string, int], topic string) []string {
	var got []string
	t.Match(topic, func(s string, v int) { got = append(got, fmt.Sprintf("%s=%d", s, v)) })
	slices.Sort(got)
	return got
}

// naiveMatch compares level by level, as the standard words it.
func naiveMatch(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	if strings.HasPrefix(topic, "$") && (f[0] == "+" || f[0] == "#") {
		return false
	}
	for i, level := range f {
		if level == "#" {
			return true
		}
		if i >= len(t) || level != "+" && level != t[i] {
			return false
		}
	}
	return len(f) == len(t)
}

func TestMatch(t *testing.T) {
	tests := []struct {
		clause        string
		filter, topic string
		want          bool
	}{
		{"MQTT-4.7.1-1", "sport/tennis/player1/#", "sport/tennis/player1", true},
		{"MQTT-4.7.1-1", "sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
		{"MQTT-4.7.1-1", "sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"MQTT-4.7.1-1", "sport/#", "sport", true},
		{"MQTT-4.7.1-1", "sport/#", "sports", false},
		{"MQTT-4.7.1-1", "#", "a", true},
		{"MQTT-4.7.1-1", "#", "/", true},
		{"MQTT-4.7.1-1", "a/#", "a/", true},
		{"MQTT-4.7.1-2", "sport/tennis/+", "sport/tennis/player1", true},
		{"MQTT-4.7.1-2", "sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"MQTT-4.7.1-2", "sport/+", "sport", false},
		{"MQTT-4.7.1-2", "sport/+", "sport/", true},
		{"MQTT-4.7.1-2", "+/+", "/finance", true},
		{"MQTT-4.7.1-2", "/+", "/finance", true},
		{"MQTT-4.7.1-2", "+", "/finance", false},
		{"MQTT-4.7.1-2", "+", "a", true},
		{"MQTT-4.7.1-2", "a/+/b/#", "a/x/b", true},
		{"MQTT-4.7.1-2", "a/+/b/#", "a//b/c/d", true},
		{"MQTT-4.7.1-2", "a/+/b/#", "a/x/c", false},
		{"MQTT-4.7.1-2", "+/tennis/#", "x/tennis", true},
		{"MQTT-4.7.1-2", "+//+", "a//b", true},
		{"MQTT-4.7.2-1", "#", "$SYS/monitor", false},
		{"MQTT-4.7.2-1", "+/monitor", "$SYS/monitor", false},
		{"MQTT-4.7.2-1", "+", "$SYS", false},
		{"MQTT-4.7.2-1", "$SYS/#", "$SYS/monitor", true},
		{"MQTT-4.7.2-1", "$SYS/#", "$SYS", true},
		{"MQTT-4.7.2-1", "$SYS/+", "$SYS/monitor", true},
		{"MQTT-4.7.2-1", "a/#", "a/$SYS", true},
		{"MQTT-4.7.2-1", "a/+", "a/$SYS", true},
		{"MQTT-4.7.3-4", "ACCOUNTS", "Accounts", false},
		{"MQTT-4.7.3-4", "a/b", "a/b", true},
		{"MQTT-4.7.3-4", "/a", "a", false},
		{"MQTT-4.7.3-4", "a", "a/", false},
		{"MQTT-4.7.3-4", "a b/é", "a b/é", true},
	}
	for _, tt := range tests {
		t.Run(tt.clause+" "+tt.filter+" "+tt.topic, func(t *testing.T) {
			tree := New[string, int]()
			tree.Set(tt.filter, "s", 1)
			if got := len(matched(tree, tt.topic)) == 1; got != tt.want {
				t.Errorf("match is %v, want %v", got, tt.want)
			}
			if got := naiveMatch(tt.filter, tt.topic); got != tt.want {
				t.Errorf("the naive matcher says %v, want %v", got, tt.want)
			}
			tree.Delete(tt.filter, "s")
			if got := matched(tree, tt.topic); got != nil {
				t.Errorf("after Delete: %v", got)
			}
		})
	}
}

func TestSetAndDeleteTell(t *testing.T) {
	for _, filter := range []string{"a/b", "a/+", "a/#", "#", "+/b"} {
		tree := New[string, int]()
		gen := tree.Generation()
		changed := func(what string) {
			t.Helper()
			if g := tree.Generation(); g == gen {
				t.Errorf("%s: %s left the generation", filter, what)
			} else {
				gen = g
			}
		}
		if tree.Set(filter, "s", 1) {
			t.Errorf("%s: first Set says replaced", filter)
		}
		changed("Set")
		if !tree.Set(filter, "s", 2) {
			t.Errorf("%s: second Set does not say replaced", filter)
		}
		changed("replacing")
		if got := matched(tree, "a/b"); !slices.Equal(got, []string{"s=2"}) {
			t.Errorf("%s: %v", filter, got)
		}
		tree.Set(filter, "r", 3)
		if f, s := tree.Len(); f != 1 || s != 2 {
			t.Errorf("%s: %d filters, %d subscriptions", filter, f, s)
		}
		if tree.Delete(filter, "x") || tree.Delete("b/"+filter, "s") || tree.Delete("a/b/+/c", "s") {
			t.Errorf("%s: deleted what was not there", filter)
		}
		changed("Set of another")
		if !tree.Delete(filter, "s") || tree.Delete(filter, "s") {
			t.Errorf("%s: Delete tells wrongly", filter)
		}
		changed("Delete")
		tree.Delete(filter, "r")
		if f, s := tree.Len(); f != 0 || s != 0 {
			t.Errorf("%s: %d filters, %d subscriptions are left", filter, f, s)
		}
		if !tree.trie.root.empty() {
			t.Errorf("%s: nodes are left in the trie", filter)
		}
	}
}

// TestAgainstNaive makes random changes and compares every match with one that
// looks at each subscription.
func TestAgainstNaive(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	levels := []string{"a", "b", "", "$x", "long" + strings.Repeat("g", longFilter)}
	topic := func() string {
		n := 1 + rnd.IntN(4)
		l := make([]string, n)
		for i := range l {
			l[i] = levels[rnd.IntN(len(levels))]
		}
		return strings.Join(l, "/")
	}
	filter := func() string {
		l := strings.Split(topic(), "/")
		for i := range l {
			if rnd.IntN(3) == 0 {
				l[i] = "+"
			}
		}
		if rnd.IntN(4) == 0 {
			l[len(l)-1] = "#"
		}
		return strings.Join(l, "/")
	}
	tree := New[string, int]()
	type key struct{ filter, s string }
	model := map[key]int{}
	for i := range 20_000 {
		k := key{filter(), fmt.Sprint("s", rnd.IntN(60))}
		_, had := model[k]
		if rnd.IntN(5) < 3 {
			if got := tree.Set(k.filter, k.s, i); got != had {
				t.Fatalf("seed %d: Set(%q) says %v", seed, k, got)
			}
			model[k] = i
		} else {
			if got := tree.Delete(k.filter, k.s); got != had {
				t.Fatalf("seed %d: Delete(%q) says %v", seed, k, got)
			}
			delete(model, k)
		}
		if i%50 != 0 {
			continue
		}
		at := topic()
		var want []string
		for k, v := range model {
			if naiveMatch(k.filter, at) {
				want = append(want, fmt.Sprintf("%s=%d", k.s, v))
			}
		}
		slices.Sort(want)
		if got := matched(tree, at); !slices.Equal(got, want) {
			t.Fatalf("seed %d: match of %q\n got %v\nwant %v", seed, at, got, want)
		}
		if _, n := tree.Len(); n != len(model) {
			t.Fatalf("seed %d: %d subscriptions, want %d", seed, n, len(model))
		}
	}
	for k := range model {
		tree.Delete(k.filter, k.s)
	}
	if f, s := tree.Len(); f != 0 || s != 0 || !tree.trie.root.empty() {
		t.Errorf("seed %d: %d filters, %d subscriptions are left", seed, f, s)
	}
}

// TestManySubscribers takes one filter through all sizes, up and down.
func TestManySubscribers(t *testing.T) {
	for _, filter := range []string{"t", "+"} {
		tree := New[int, int]()
		const n = 5 * chunkSize * chunkSize
		check := func(lo, hi int) {
			t.Helper()
			seen := make(map[int]bool)
			tree.Match("t", func(s, v int) {
				if s != v || s < lo || s >= hi || seen[s] {
					t.Fatalf("%s: visited %d=%d again or not in [%d,%d)", filter, s, v, lo, hi)
				}
				seen[s] = true
			})
			if len(seen) != hi-lo {
				t.Fatalf("%s: visited %d, want %d", filter, len(seen), hi-lo)
			}
		}
		for i := range n {
			tree.Set(filter, i, -1)
			if !tree.Set(filter, i, i) {
				t.Fatalf("%s: %d is not there", filter, i)
			}
			if i < 200 || i%1000 == 0 {
				check(0, i+1)
			}
		}
		for i := range n {
			if !tree.Delete(filter, i) || tree.Delete(filter, i) {
				t.Fatalf("%s: Delete of %d tells wrongly", filter, i)
			}
			if i > n-200 || i%1000 == 0 {
				check(i+1, n)
			}
		}
	}
}

// TestMatchWhileChanging checks the promise to readers: what is there all the
// time is visited exactly once, whatever happens around it.
func TestMatchWhileChanging(t *testing.T) {
	tree := New[int, int]()
	filters := []string{"a/b", "a/+", "a/#", "+/b", "#"}
	const stay = 200
	for _, f := range filters {
		for i := range stay {
			tree.Set(f, 3*i, 0)
		}
	}
	stop := make(chan struct{})
	var writers, readers sync.WaitGroup
	for w := 1; w <= 2; w++ {
		writers.Go(func() { // ends when stop is closed
			rnd := rand.New(rand.NewPCG(uint64(w), 2))
			for {
				select {
				case <-stop:
					return
				default:
				}
				f := filters[rnd.IntN(len(filters))]
				base := 3 * rnd.IntN(stay)
				tree.Set(f, base, rnd.IntN(9)) // replaces one that stays
				for i := range 100 {
					tree.Set(f, 3*i+w, 1)
				}
				for i := range 100 {
					tree.Delete(f, 3*i+w)
				}
				tree.Set(fmt.Sprintf("a/%d/#", rnd.IntN(40)), w, 1)
				tree.Delete(fmt.Sprintf("a/%d/#", rnd.IntN(40)), w)
			}
		})
	}
	for range 2 {
		readers.Go(func() {
			var seen [3 * stay]int
			for range 300 {
				clear(seen[:])
				tree.Match("a/b", func(s, _ int) { seen[s]++ })
				for i := range stay {
					if seen[3*i] != len(filters) {
						t.Errorf("%d was visited %d times, want %d", 3*i, seen[3*i], len(filters))
						return
					}
				}
			}
		})
	}
	readers.Wait()
	close(stop)
	writers.Wait()
}

func TestVisitMayChangeTheTree(t *testing.T) {
	tree := New[int, int]()
	for i := range 100 {
		tree.Set("a", i, 0)
		tree.Set("+", i, 0)
	}
	tree.Match("a", func(s, _ int) { tree.Delete("a", s); tree.Delete("+", s) })
	if _, n := tree.Len(); n != 0 {
		t.Errorf("%d subscriptions are left", n)
	}
}

// TestDeepTopics has as many levels as a topic can have [MQTT-1.5.4-1].
func TestDeepTopics(t *testing.T) {
	tree := New[string, int]()
	slashes := strings.Repeat("/", 65_534)
	tree.Set(slashes+"+", "deep", 1)
	tree.Set(strings.Repeat("+/", 32_767)+"+", "wild", 2)
	tree.Set("#", "all", 3)
	if got := matched(tree, slashes+"x"); !slices.Equal(got, []string{"all=3", "deep=1"}) {
		t.Errorf("65,535 levels: %v", got)
	}
	if got := matched(tree, slashes[:32_767]); !slices.Equal(got, []string{"all=3", "wild=2"}) {
		t.Errorf("32,768 levels: %v", got)
	}
	tree.Delete(slashes+"+", "deep")
	tree.Delete(strings.Repeat("+/", 32_767)+"+", "wild")
	tree.Delete("#", "all")
	if !tree.trie.root.empty() {
		t.Error("nodes are left in the trie")
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	tree := New[int, int]()
	for i := range 1000 {
		tree.Set("a/b/c", i, 0)
		tree.Set("a/+/c", i, 0)
		tree.Set(fmt.Sprintf("a/%d/#", i), i, 0)
		tree.Set("+/+/+/#", i, 0)
	}
	n := 0
	visit := func(_, _ int) { n++ }
	for _, topic := range []string{"a/b/c", "a/7/c/d", "nothing"} {
		if a := testing.AllocsPerRun(100, func() { tree.Match(topic, visit) }); a != 0 {
			t.Errorf("a match of %q allocates %v times", topic, a)
		}
	}
}

// TestMemoryIsGivenBack fills and nearly empties a tree.
func TestMemoryIsGivenBack(t *testing.T) {
	for _, format := range []string{"dev/%d/state", "dev/%d/+", "dev/%d/x/#"} {
		tree := New[int, int]()
		before := heap()
		const n = 100_000
		for i := range n {
			tree.Set(fmt.Sprintf(format, i), i, 0)
		}
		full := heap() - before
		for i := range n - 10 {
			tree.Delete(fmt.Sprintf(format, i), i)
		}
		if left := heap() - before; left > full/20 {
			t.Errorf("%s: %d of %d bytes are left", format, left, full)
		}
		runtime.KeepAlive(tree)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
