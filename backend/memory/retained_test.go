package memory

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

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

// TestRetainedAgainstNaive compares pages with a look at every topic.
func TestRetainedAgainstNaive(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 4))
	levels := []string{"a", "b", "ab", "a!", "", "$x", "é", "status", "~"}
	join := func(wild bool) string {
		l := make([]string, 1+rnd.IntN(5))
		for i := range l {
			if l[i] = levels[rnd.IntN(len(levels))]; wild && rnd.IntN(3) == 0 {
				l[i] = "+"
			}
		}
		if wild && rnd.IntN(3) == 0 {
			l[len(l)-1] = "#"
		}
		return strings.Join(l, "/")
	}
	g := newGate(t, Options{})
	model := map[string]string{}
	for i := range 6000 {
		m := text(join(false), fmt.Sprint(i), 1)
		if rnd.IntN(3) == 0 {
			m.Payload = nil // removes [MQTT-3.3.1-6]
			delete(model, m.Topic)
		} else {
			model[m.Topic] = string(m.Payload)
		}
		if m.Topic == "" {
			continue
		}
		g.must(g.Retain(t.Context(), []*backend.Message{m}))
		if i%3 != 0 {
			continue
		}
		filter, after, atMost := join(true), "", 1+rnd.IntN(20)
		if rnd.IntN(2) == 0 {
			after = join(false)
		}
		var want, got []string
		for topic, payload := range model {
			if naiveMatch(filter, topic) && topic != "" && (after == "" || compareTopics(topic, after) > 0) {
				want = append(want, topic+"="+payload)
			}
		}
		slices.SortFunc(want, func(a, b string) int {
			return compareTopics(a[:strings.LastIndex(a, "=")], b[:strings.LastIndex(b, "=")])
		})
		from := after
		for more := true; more; {
			var page []*backend.Message
			var err error
			page, more, err = g.Match(t.Context(), filter, from, atMost)
			g.must(err)
			if len(page) > atMost || more && len(page) < atMost {
				t.Fatalf("seed %d: a page of %d, at most %d, more %v", seed, len(page), atMost, more)
			}
			for _, m := range page {
				got = append(got, m.Topic+"="+string(m.Payload))
				from = m.Topic
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: %q after %q, %d a page\n got %q\nwant %q", seed, filter, after, atMost, got, want)
		}
	}
	count, _, err := g.RetainedStats(t.Context())
	if g.must(err); int(count) != len(model) && int(count) != len(model)-1 {
		t.Errorf("%d messages, want %d", count, len(model))
	}
}

// TestOrder checks that the topics below a level stand right behind it.
func TestOrder(t *testing.T) {
	topics := []string{"/", "//a", "/a", "$x/y", "a", "a/", "a//", "a/b", "a/b/c", "a/b!", "a/~", "a\x01", "a b", "a!", "ab", "é"}
	for i, a := range topics {
		for j, b := range topics {
			if got := compareTopics(a, b); got < 0 != (i < j) || got == 0 != (i == j) {
				t.Errorf("%q and %q compare as %d", a, b, got)
			}
		}
	}
}

// TestOrderedBlocks fills and empties the order in ways that split and join
// blocks.
func TestOrderedBlocks(t *testing.T) {
	rnd := rand.New(rand.NewPCG(rand.Uint64(), 5))
	for _, way := range []string{"ascending", "descending", "random"} {
		t.Run(way, func(t *testing.T) {
			const n = 20_000
			order := rnd.Perm(n)
			if way != "random" {
				slices.Sort(order)
			}
			if way == "descending" {
				slices.Reverse(order)
			}
			var o ordered
			check := func(want int) {
				t.Helper()
				got, last := 0, ""
				for p := o.seek(edge{"", before}); o.at(p) != nil; p = o.next(p) {
					topic := o.at(p).message.Topic
					if compareTopics(last, topic) >= 0 {
						t.Fatalf("%q comes before %q", last, topic)
					}
					got, last = got+1, topic
				}
				if got != want || len(o.blocks) > 1+8*want/fullBlock {
					t.Fatalf("%d topics in %d blocks, want %d", got, len(o.blocks), want)
				}
			}
			for _, i := range order {
				o.insert(&kept{message: text(fmt.Sprintf("t/%05d", i), "x", 0)})
			}
			check(n)
			for i, j := range rnd.Perm(n) {
				o.remove(fmt.Sprintf("t/%05d", j))
				if i%2500 == 0 {
					check(n - i - 1)
				}
			}
			if check(0); len(o.blocks) != 0 {
				t.Errorf("%d blocks are left", len(o.blocks))
			}
		})
	}
}

// TestMatchSkips counts what a scan looks at where most topics do not match.
func TestMatchSkips(t *testing.T) {
	var r retained
	r.init(1<<30, 1<<40)
	const devices, each = 50, 2000
	for d := range devices {
		for i := range each {
			r.set(text(fmt.Sprintf("dev%02d/%05d/x", d, i), "x", 0))
			r.set(text(fmt.Sprintf("/%02d/%05d", d, i), "x", 0))
		}
		r.set(text(fmt.Sprintf("dev%02d/status", d), "x", 0))
		r.set(text(fmt.Sprintf("dev%02d/00007/y/z", d), "x", 0))
	}
	for _, tt := range []struct {
		filter string
		want   int
	}{
		{"+/status", devices}, {"+/00007/y/z", devices}, {"+/00007/#", 2 * devices}, {"+/+/y/z", devices},
		{"dev07/+", 1}, {"nothing/#", 0}, {"+", 0}, {"+/07/00001", 1},
	} {
		p := newPattern(tt.filter)
		from, looks, left := edge{p.fixed, before}, 0, true
		var page []*backend.Message
		for left {
			page, from, left = r.scan(&p, from, page, 1<<30)
			looks++
		}
		if len(page) != tt.want {
			t.Errorf("%s: %d match, want %d", tt.filter, len(page), tt.want)
		}
		// Of 200,000 topics. Below "+" every level has to be visited.
		allowed := 1
		switch tt.filter {
		case "+/+/y/z":
			allowed += 4 * devices * each / stretch
		case "dev07/+":
			allowed += each / stretch
		}
		if looks > allowed {
			t.Errorf("%s: %d stretches, want %d", tt.filter, looks, allowed)
		}
	}
}

func TestRetainedLimits(t *testing.T) {
	ctx := context.Background()
	g := newGate(t, Options{RetainedMessages: 3, RetainedBytes: 20})
	steps := []struct {
		name         string
		msgs         []*backend.Message
		full         bool
		count, bytes int64
	}{
		{"within", []*backend.Message{text("a", "1", 0), text("b", "12", 0)}, false, 2, 5},
		{"replaced", []*backend.Message{text("a", "123", 0)}, false, 2, 7},
		{"the last one wins", []*backend.Message{text("c", "1", 0), text("c", "12", 0)}, false, 3, 10},
		{"too many", []*backend.Message{text("d", "1", 0)}, true, 3, 10},
		{"some of a batch", []*backend.Message{text("d", "1", 0), text("a", "", 0), text("e", "1", 0)}, true, 3, 8},
		{"too large", []*backend.Message{text("e", strings.Repeat("x", 20), 0)}, true, 3, 8},
		{"removed", []*backend.Message{text("b", "", 0), text("c", "", 0), text("e", "", 0), text("none", "", 0)}, false, 0, 0},
	}
	for _, tt := range steps {
		err := g.Retain(ctx, tt.msgs)
		if errors.Is(err, backend.ErrFull) != tt.full || !tt.full && err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if count, bytes, err := g.RetainedStats(ctx); count != tt.count || bytes != tt.bytes || err != nil {
			t.Errorf("%s: %d messages, %d bytes, %v; want %d, %d", tt.name, count, bytes, err, tt.count, tt.bytes)
		}
	}
}

func TestRetainedMessagesExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, Options{})
		inSeconds := func(topic string, n int) *backend.Message {
			m := text(topic, "x", 0)
			m.Expires = time.Now().Add(time.Duration(n) * time.Second).UnixMilli()
			return m
		}
		check := func(want ...string) {
			t.Helper()
			page, _, err := g.Match(t.Context(), "#", "", 100)
			g.must(err)
			var got []string
			for _, m := range page {
				got = append(got, m.Topic)
			}
			if !slices.Equal(got, want) {
				t.Errorf("matched %q, want %q", got, want)
			}
			for _, topic := range []string{"a", "b", "c", "d"} {
				page, _, _ := g.Match(t.Context(), topic, "", 100)
				if (len(page) == 1) != slices.Contains(want, topic) {
					t.Errorf("%s: %d match", topic, len(page))
				}
			}
		}
		g.must(g.Retain(t.Context(), []*backend.Message{inSeconds("a", 1), inSeconds("b", 2), inSeconds("c", 3), text("d", "x", 0), inSeconds("b", 5)}))
		check("a", "b", "c", "d")
		time.Sleep(1 * time.Second)
		check("b", "c", "d")
		time.Sleep(2 * time.Second)
		check("b", "d") // b was replaced by one that lasts longer
		g.must(g.Retain(t.Context(), []*backend.Message{text("b", "x", 0)}))
		time.Sleep(time.Hour - time.Minute)
		check("b", "d")
		if count, bytes, _ := g.RetainedStats(t.Context()); count != 2 || bytes != 4 || len(g.retained.expiring) != 0 {
			t.Errorf("left: %d messages, %d bytes, %d that expire", count, bytes, len(g.retained.expiring))
		}
	})
}

// TestMatchWhileRetaining pages through what stays while the rest changes.
func TestMatchWhileRetaining(t *testing.T) {
	g := newGate(t, Options{})
	const stay = 3000
	var list []*backend.Message
	for i := range stay {
		list = append(list, text(fmt.Sprintf("s/%05d/stay", i), "x", 0))
	}
	g.must(g.Retain(t.Context(), list))
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for w := range 2 {
		writers.Go(func() { // ends when stop is closed
			rnd := rand.New(rand.NewPCG(uint64(w), 6))
			for {
				select {
				case <-stop:
					return
				default:
				}
				m := text(fmt.Sprintf("s/%05d/%d", rnd.IntN(stay), rnd.IntN(9)), "x", 0)
				if rnd.IntN(2) == 0 {
					m.Payload = nil
				}
				if err := g.Retain(t.Context(), []*backend.Message{m}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 20 {
		next, after := 0, ""
		for more := true; more; {
			var page []*backend.Message
			var err error
			page, more, err = g.Match(t.Context(), "s/+/stay", after, 100)
			g.must(err)
			for _, m := range page {
				if m.Topic != list[next].Topic {
					t.Fatalf("got %s, want %s", m.Topic, list[next].Topic)
				}
				next, after = next+1, m.Topic
			}
		}
		if next != stay {
			t.Fatalf("%d of %d match", next, stay)
		}
	}
	close(stop)
	writers.Wait()
}
