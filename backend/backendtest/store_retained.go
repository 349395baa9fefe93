package backendtest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

var retainedCases = []storeCase{
	{name: "last wins", promise: "the last message of a topic is the retained one, at every gateway when Retain returns [MQTT-3.3.1-5]", run: retainLast},
	{name: "last in a batch", promise: "the last of several messages on one topic in a batch wins", run: retainBatch},
	{name: "removal", promise: "a message without payload removes what is retained [MQTT-3.3.1-6], and is not kept [MQTT-3.3.1-7]", run: retainRemoval},
	{name: "content", promise: "a retained message has every field unchanged", run: retainContent},
	{name: "borrowed", promise: "Retain borrows messages; what Match hands out is immutable and may be kept", run: retainBorrowed},
	{name: "matching", promise: "Match finds what the filter matches, and nothing else: `a/#` finds `a`, `a/+` finds `a/`, `a/+/b/#` finds `a/x/b`, and '$' is not for wildcards [MQTT-4.7.2-1]", run: retainMatching},
	{name: "pages", promise: "pages continue after any topic, in one order, and more is false at the end", run: retainPages},
	{name: "pages while it changes", promise: "what stays while pages are read comes once, whatever is added and removed meanwhile", run: retainPagesChanging},
	{name: "deep and long", promise: "topics of the greatest length and depth are found", run: retainLong},
	{name: "expired", promise: "a retained message whose time is over is not found any more [MQTT-3.3.2-5]", run: retainExpired},
	{name: "figures", promise: "RetainedStats counts messages and their bytes", run: retainStats},
	{name: "limit by messages", promise: "beyond the limit Retain returns ErrFull, having stored what is within", options: StoreOptions{RetainedMessages: 5}, run: retainLimit},
	{name: "limit by bytes", promise: "beyond the limit by bytes Retain returns ErrFull, having stored what is within", options: StoreOptions{RetainedBytes: 10_000}, run: retainLimitBytes},
	{name: "cost", promise: "the cost of a page does not grow with what does not match", alone: true, run: retainCost},
}

func (g *gate) retain(t *testing.T, msgs ...*backend.Message) {
	t.Helper()
	if err := g.Retain(g.ctx, msgs); err != nil {
		t.Fatalf("Retain of %d messages: %v", len(msgs), err)
	}
}

func retained(topic, payload string) *backend.Message {
	return &backend.Message{Topic: topic, Payload: []byte(payload), QoS: 1, Retain: true}
}

// match reads all pages of at most size messages.
func (g *gate) match(t *testing.T, filter string, size int) []*backend.Message {
	t.Helper()
	var all []*backend.Message
	after := ""
	for {
		page, more, err := g.Match(g.ctx, filter, after, size)
		if err != nil {
			t.Fatalf("Match(%.80q, after %.80q): %v", filter, after, err)
		}
		if len(page) > size {
			t.Fatalf("Match(%.80q) gave %d messages, at most %d were asked for", filter, len(page), size)
		}
		all = append(all, page...)
		if !more {
			return all
		}
		if len(page) == 0 {
			t.Fatalf("Match(%.80q, after %.80q) gave nothing and says that there is more", filter, after)
		}
		after = page[len(page)-1].Topic
	}
}

func topicsOf(msgs []*backend.Message) []string {
	list := make([]string, len(msgs))
	for i, m := range msgs {
		list[i] = m.Topic
	}
	return list
}

// wantOne checks that exactly one message is retained on topic, or none if
// payload is empty.
func (g *gate) wantOne(t *testing.T, topic, payload string) {
	t.Helper()
	switch list := g.match(t, topic, 10); {
	case payload == "" && len(list) != 0:
		t.Errorf("topic %.80q: %q at %s, want nothing", topic, list[0].Payload, g.id)
	case payload != "" && (len(list) != 1 || string(list[0].Payload) != payload):
		t.Errorf("topic %.80q: %d messages at %s, want %q", topic, len(list), g.id, payload)
	}
}

func retainLast(t *testing.T, c *cluster) {
	gates := []*gate{c.a, c.b}
	for i := range 100 {
		gates[i%2].retain(t, retained("a/b", fmt.Sprint(i)))
		gates[(i+1)%2].wantOne(t, "a/b", fmt.Sprint(i))
	}
}

func retainBatch(t *testing.T, c *cluster) {
	c.a.retain(t, retained("a", "1"), retained("b", "1"), retained("a", "2"), retained("c", "1"), retained("c", ""), retained("b", ""), retained("b", "3"))
	c.b.wantOne(t, "a", "2")
	c.b.wantOne(t, "b", "3")
	c.b.wantOne(t, "c", "")
	if err := c.a.Retain(c.ctx, nil); err != nil {
		t.Errorf("Retain of nothing: %v", err)
	}
}

func retainRemoval(t *testing.T, c *cluster) {
	c.a.retain(t, retained("a", "1"), retained("a/b", "1"), retained("a/b/c", "1"))
	c.b.retain(t, retained("a/b", ""))
	if got := topicsOf(c.a.match(t, "#", 10)); len(got) != 2 || slices.Contains(got, "a/b") {
		t.Errorf("left: %q", got)
	}
	c.b.retain(t, retained("a/b", ""), retained("never", "")) // nothing is there
	c.a.wantOne(t, "never", "")
	c.a.retain(t, retained("a/b", "2"))
	c.b.wantOne(t, "a/b", "2")
	c.b.retain(t, retained("a", ""), retained("a/b", ""), retained("a/b/c", ""))
	if got := topicsOf(c.a.match(t, "#", 10)); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}

func retainContent(t *testing.T, c *cluster) {
	full := sample("content/é ")
	full.ID = backend.PublishID{}
	big := retained("content/big", "")
	big.Payload = bytes.Repeat([]byte{0, 0xFF, '\n'}, 70_000)
	zero := &backend.Message{Topic: "content/zero", Payload: []byte{0}, Retain: true}
	for _, m := range []*backend.Message{full, big, zero} {
		c.a.retain(t, m)
		list := c.b.match(t, m.Topic, 10)
		if len(list) != 1 {
			t.Errorf("%s: %d messages", m.Topic, len(list))
			continue
		}
		if diff := sameMessage(list[0], m); diff != "" {
			t.Errorf("%s: %s", m.Topic, diff)
		}
	}
}

func retainBorrowed(t *testing.T, c *cluster) {
	m := retained("a", "")
	var kept []*backend.Message
	for i := range 100 {
		m.Payload = append(m.Payload[:0], fmt.Sprint(i)...)
		m.Properties = append(m.Properties[:0], fmt.Sprint(-i)...)
		c.a.retain(t, m)
		copy(m.Payload, "????")
		copy(m.Properties, "????")
		kept = append(kept, c.b.match(t, "a", 10)...)
	}
	for i, got := range kept {
		if string(got.Payload) != fmt.Sprint(i) || string(got.Properties) != fmt.Sprint(-i) {
			t.Fatalf("message %d has payload %q and properties %q", i, got.Payload, got.Properties)
		}
	}
}

func retainMatching(t *testing.T, c *cluster) {
	for _, topic := range topics {
		c.a.retain(t, retained(topic, "x"))
	}
	for _, filter := range allFilters() {
		var want []string
		for _, topic := range topics {
			if matches(filter, topic) {
				want = append(want, topic)
			}
		}
		slices.Sort(want)
		for _, size := range []int{1, 2, 3, 1000} {
			got := topicsOf(c.b.match(t, filter, size))
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("filter %q in pages of %d: %q, want %q", filter, size, got, want)
			}
		}
	}
}

func retainPages(t *testing.T, c *cluster) {
	const first, second = 20, 15
	var batch []*backend.Message
	for i := range first {
		for k := range second {
			batch = append(batch, retained(fmt.Sprintf("l%d/m%d/x", i, k), "x"), retained(fmt.Sprintf("l%d/m%d", i, k), "x"))
		}
	}
	c.a.retain(t, batch...)
	for filter, want := range map[string]int{
		"#": 2 * first * second, "+/+/x": first * second, "+/m3/x": first, "l4/#": 2 * second, "l4/+": second, "+/+": first * second, "l3/m3/#": 2, "nothing/#": 0,
	} {
		order := topicsOf(c.b.match(t, filter, 10_000))
		if len(order) != want {
			t.Errorf("%s: %d topics, want %d", filter, len(order), want)
		}
		for _, size := range []int{1, 7, want, want + 1} {
			if got := topicsOf(c.b.match(t, filter, max(size, 1))); !slices.Equal(got, order) {
				t.Errorf("%s in pages of %d: another order, or other topics", filter, size)
			}
		}
		// From any topic of the order, whether or not it is still there.
		for i, after := range order {
			page, more, err := c.b.Match(c.ctx, filter, after, 3)
			if err != nil {
				t.Fatalf("Match: %v", err)
			}
			end := min(i+4, len(order))
			if !slices.Equal(topicsOf(page), order[i+1:end]) || more != (end < len(order)) {
				t.Fatalf("%s after %s: %q, more %v; want %q, more %v", filter, after, topicsOf(page), more, order[i+1:end], end < len(order))
			}
		}
		if want > 3 {
			c.a.retain(t, retained(order[2], ""))
			page, _, err := c.b.Match(c.ctx, filter, order[2], 1)
			if err != nil || len(page) != 1 || page[0].Topic != order[3] {
				t.Errorf("%s after a topic that is gone: %q, %v; want %q", filter, topicsOf(page), err, order[3])
			}
			c.a.retain(t, retained(order[2], "x"))
		}
	}
}

func retainPagesChanging(t *testing.T, c *cluster) {
	const stays, page = 200, 7
	for i := range stays {
		c.a.retain(t, retained(fmt.Sprintf("p/%d/stays", i), "x"), retained(fmt.Sprintf("p/%d/goes", i), "x"))
	}
	got := make(map[string]int)
	after, n := "", 0
	for more := true; more; n++ {
		var list []*backend.Message
		var err error
		list, more, err = c.b.Match(c.ctx, "p/+/+", after, page)
		if err != nil {
			t.Fatalf("Match: %v", err)
		}
		for _, m := range list {
			if strings.HasSuffix(m.Topic, "/stays") {
				got[m.Topic]++
			}
			after = m.Topic
		}
		for k := range 5 {
			i := (n*5 + k) * 37 % stays
			c.a.retain(t, retained(fmt.Sprintf("p/%d/goes", i), ""), retained(fmt.Sprintf("p/%d/new", i), "x"), retained(fmt.Sprintf("p/%d/stays", i), "y"))
		}
		if n > 10*stays {
			t.Fatal("the pages do not end")
		}
	}
	for i := range stays {
		if topic := fmt.Sprintf("p/%d/stays", i); got[topic] != 1 {
			t.Errorf("%s came %d times", topic, got[topic])
		}
	}
}

func retainLong(t *testing.T, c *cluster) {
	long := []string{
		strings.Repeat("x", 65535),
		strings.Repeat("/", 65535),
		strings.Repeat("a/", 32767),
		strings.Repeat("語", 21845),
	}
	for _, topic := range long {
		c.a.retain(t, retained(topic, "x"))
		c.b.wantOne(t, topic, "x")
	}
	if got := topicsOf(c.b.match(t, "#", 2)); len(got) != len(long) {
		t.Errorf("%d topics under #, want %d", len(got), len(long))
	}
	if got := topicsOf(c.b.match(t, "a/#", 2)); len(got) != 1 || got[0] != long[2] {
		t.Errorf("%d topics under a/#, want one", len(got))
	}
	for _, topic := range long {
		c.a.retain(t, retained(topic, ""))
		c.b.wantOne(t, topic, "")
	}
}

func retainExpired(t *testing.T, c *cluster) {
	short, long, past := retained("short", "x"), retained("long", "x"), retained("past", "x")
	short.Expires = time.Now().Add(time.Second).UnixMilli()
	long.Expires = time.Now().Add(aWhile).UnixMilli()
	past.Expires = time.Now().Add(-aWhile).UnixMilli()
	c.a.retain(t, short, long, past, retained("forever", "x"))
	eventually(t, c.h.Patience, "what has expired is not found", func() bool {
		got := topicsOf(c.b.match(t, "#", 1))
		slices.Sort(got)
		return slices.Equal(got, []string{"forever", "long"})
	})
	c.b.wantOne(t, "short", "")
	c.a.retain(t, retained("short", "y")) // without an end
	c.b.wantOne(t, "short", "y")
	// Its place in the limits is given back, by chores or at once.
	eventually(t, c.h.Patience, "what has expired is not counted", func() bool {
		c.a.due(t)
		n, _, err := c.a.RetainedStats(c.ctx)
		return err == nil && n == 3
	})
}

func retainStats(t *testing.T, c *cluster) {
	want := func(what string, count, bytes int64) {
		t.Helper()
		n, b, err := c.b.RetainedStats(c.ctx)
		if err != nil || n != count || b != bytes {
			t.Errorf("%s: %d messages, %d bytes, %v; want %d, %d", what, n, b, err, count, bytes)
		}
	}
	want("nothing", 0, 0)
	m := retained("a/b", "12345")
	m.Properties = []byte{1, 2}
	c.a.retain(t, m, retained("c", "x"))
	want("two", 2, 3+5+2+1+1)
	c.a.retain(t, retained("a/b", "1"))
	want("one replaced", 2, 3+1+1+1)
	c.a.retain(t, retained("c", ""), retained("d", ""))
	want("one removed", 1, 3+1)
	c.a.retain(t, retained("a/b", ""))
	want("all removed", 0, 0)
}

func retainLimit(t *testing.T, c *cluster) {
	c.a.retain(t, retained("1", "x"), retained("2", "x"), retained("3", "x"))
	batch := []*backend.Message{retained("4", "x"), retained("1", "y"), retained("5", "x"), retained("6", "x"), retained("2", "y"), retained("7", "x")}
	if err := c.a.Retain(c.ctx, batch); !errors.Is(err, backend.ErrFull) {
		t.Errorf("a sixth message: %v, want ErrFull", err)
	}
	got := topicsOf(c.b.match(t, "#", 100))
	if slices.Sort(got); !slices.Equal(got, []string{"1", "2", "3", "4", "5"}) {
		t.Errorf("retained: %q, want the first five", got)
	}
	c.b.wantOne(t, "1", "y")
	c.b.wantOne(t, "2", "y")
	// Replacing and removing is allowed at the limit; removing makes room.
	c.a.retain(t, retained("3", "z"))
	c.a.retain(t, retained("6", ""), retained("4", ""))
	c.a.retain(t, retained("6", "x"))
	if err := c.b.Retain(c.ctx, []*backend.Message{retained("7", "x")}); !errors.Is(err, backend.ErrFull) {
		t.Errorf("a sixth message at the other gateway: %v, want ErrFull", err)
	}
	if n, _, err := c.a.RetainedStats(c.ctx); err != nil || n != 5 {
		t.Errorf("%d retained, %v; want 5", n, err)
	}
}

func retainLimitBytes(t *testing.T, c *cluster) {
	big := func(topic string, size int) *backend.Message {
		return &backend.Message{Topic: topic, Payload: bytes.Repeat([]byte("x"), size-len(topic)), Retain: true}
	}
	c.a.retain(t, big("1", 4000), big("2", 4000))
	if err := c.a.Retain(c.ctx, []*backend.Message{big("3", 4000)}); !errors.Is(err, backend.ErrFull) {
		t.Errorf("12,000 bytes: %v, want ErrFull", err)
	}
	if err := c.a.Retain(c.ctx, []*backend.Message{big("1", 7000)}); !errors.Is(err, backend.ErrFull) {
		t.Errorf("a replacement that makes 11,000 bytes: %v, want ErrFull", err)
	}
	if list := c.b.match(t, "1", 10); len(list) != 1 || list[0].Size() != 4000 {
		t.Errorf("a replacement that was refused has changed the message")
	}
	c.a.retain(t, big("1", 1000), big("3", 4000))
	if _, size, err := c.a.RetainedStats(c.ctx); err != nil || size != 9000 {
		t.Errorf("%d bytes, %v; want 9000", size, err)
	}
}

func retainCost(t *testing.T, c *cluster) {
	const others, batch = 30_000, 1000
	for i := range 10 {
		c.a.retain(t, retained(fmt.Sprintf("few/%d/state", i), "x"))
	}
	// The best of some tries: the machine has other things to do.
	best := func(filter string) time.Duration {
		shortest := time.Hour
		for range 20 {
			start := time.Now()
			page, _, err := c.b.Match(c.ctx, filter, "", 10)
			if err != nil || len(page) != 10 {
				t.Fatalf("Match(%q): %d messages, %v", filter, len(page), err)
			}
			shortest = min(shortest, time.Since(start))
		}
		return shortest
	}
	patterns := []string{"few/+/state", "few/#"}
	before := make([]time.Duration, len(patterns))
	for i, filter := range patterns {
		before[i] = best(filter)
	}
	for i := 0; i < others; i += batch {
		var list []*backend.Message
		for k := range batch {
			list = append(list, retained(fmt.Sprintf("%s/%d/x", []string{"aaa", "few!", "zzz"}[k%3], i+k), "x"))
		}
		c.a.retain(t, list...)
	}
	// Reading 30,000 messages takes a service a multiple of this.
	for i, filter := range patterns {
		if after, limit := best(filter), 10*before[i]+2*time.Millisecond; after > limit {
			t.Errorf("%s: a page took %v among 10 messages and %v among %d", filter, before[i], after, others)
		}
	}
}
