package backendtest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

var inboxCases = []storeCase{
	{name: "pages", promise: "Fetch returns up to max entries above after, oldest first, and says whether there are more", run: fetchPages},
	{name: "pages by bytes", promise: "Fetch returns not more than about maxBytes of messages, but at least one", run: fetchBytes},
	{name: "fetch changes nothing", promise: "what is fetched is still there", run: fetchAgain},
	{name: "advance base", promise: "Base removes all entries up to it; it never moves back, and a lower one changes nothing", run: advanceBase},
	{name: "advance done", promise: "an entry that is done is left out though an older one is not", run: advanceDone},
	{name: "advance released", promise: "an entry that was released stays, and says so", run: advanceReleased},
	{name: "advance beyond the end", promise: "a base above the newest entry is of an inbox that was lost: ErrFenced, and nothing is removed", run: advanceBeyond},
	{name: "advance all at once", promise: "one Advance carries base, released and done", run: advanceTogether},
	{name: "survives resume", promise: "partial progress survives takeover and release, with the same sequences and so the same packet identifiers", run: advanceSurvives},
	{name: "drained", promise: "an inbox that was drained goes on where it was", run: inboxDrained},
	{name: "beyond the packet identifiers", promise: "the sequence grows past 65,535 entries", run: inboxLong},
	{name: "enqueue", promise: "Enqueue puts entries into the session's own inbox, in order among what is appended, and returns the sequence of the first", run: enqueue},
	{name: "enqueue past the limit", promise: "Enqueue goes past the limit of the inbox; Append is refused beyond it", options: StoreOptions{InboxMessages: 3}, run: enqueuePastLimit},
	{name: "enqueue borrowed", promise: "Enqueue borrows messages", run: enqueueBorrowed},
	{name: "ends with the session", promise: "an inbox ends with its session", run: inboxEnds},
}

var limitCases = []storeCase{
	{name: "by messages", promise: "a full inbox refuses the newest message; others keep theirs; the refusal is counted and no error", options: StoreOptions{InboxMessages: 3}, run: limitMessages},
	{name: "by bytes", promise: "an inbox that is full by bytes refuses the newest message", options: StoreOptions{InboxBytes: 10_000}, run: limitBytes},
	{name: "room again", promise: "progress makes room", options: StoreOptions{InboxMessages: 3}, run: limitRoom},
	{name: "in one batch", promise: "a batch that does not fit is stored as far as it fits", options: StoreOptions{InboxMessages: 3}, run: limitBatch},
}

func (g *gate) fetch(t *testing.T, l backend.Lease, after uint64, limit, maxBytes int) ([]backend.Entry, bool) {
	t.Helper()
	page, more, err := g.Fetch(g.ctx, l, after, limit, maxBytes)
	if err != nil {
		t.Fatalf("Fetch(after %d, max %d, %d bytes): %v", after, limit, maxBytes, err)
	}
	return page, more
}

func fetchPages(t *testing.T, c *cluster) {
	const messages = 10
	o := c.a.member(t, "client", sub("a", 1))
	if page, more := c.a.fetch(t, o.Lease, 0, 5, 1<<20); len(page) != 0 || more {
		t.Errorf("an empty inbox: %d entries, more %v", len(page), more)
	}
	c.b.append(t, numbered("a", messages, 1)...)
	for _, tt := range []struct {
		after uint64
		max   int
		want  []string
		more  bool
	}{
		{0, 3, count(0, 3), true},
		{3, 3, count(3, 6), true},
		{3, 1, count(3, 4), true},
		{6, 4, count(6, 10), false},
		{6, 3, count(6, 9), true},
		{9, 1, count(9, 10), false},
		{0, 10, count(0, 10), false},
		{0, 1000, count(0, 10), false},
		{9, 1000, count(9, 10), false},
		{10, 5, nil, false},
		{1000, 5, nil, false},
	} {
		page, more := c.a.fetch(t, o.Lease, tt.after, tt.max, 1<<20)
		wantPayloads(t, fmt.Sprintf("after %d, max %d", tt.after, tt.max), page, tt.want)
		if more != tt.more {
			t.Errorf("after %d, max %d: more %v, want %v", tt.after, tt.max, more, tt.more)
		}
	}
}

func fetchBytes(t *testing.T, c *cluster) {
	const messages, size = 20, 1000
	o := c.a.member(t, "client", sub("a", 1))
	for range messages {
		c.b.append(t, &backend.Message{Topic: "a", Payload: bytes.Repeat([]byte("x"), size), QoS: 1})
	}
	for _, tt := range []struct{ maxBytes, least, most int }{
		{1, 1, 1}, {size / 2, 1, 1}, {5 * size, 4, 6}, {10 * size, 9, 11}, {100 * size, messages, messages},
	} {
		page, more := c.a.fetch(t, o.Lease, 0, 1000, tt.maxBytes)
		if len(page) < tt.least || len(page) > tt.most {
			t.Errorf("%d bytes: %d entries of %d bytes, want %d to %d", tt.maxBytes, len(page), size, tt.least, tt.most)
		}
		if more != (len(page) < messages) {
			t.Errorf("%d bytes: %d entries of %d, more %v", tt.maxBytes, len(page), messages, more)
		}
	}
}

func fetchAgain(t *testing.T, c *cluster) {
	o := c.a.member(t, "client", sub("a", 1))
	c.b.append(t, numbered("a", 5, 1)...)
	first := c.a.inbox(t, o.Lease)
	for i, e := range c.a.inbox(t, o.Lease) {
		if diff := sameEntry(e, first[i]); diff != "" {
			t.Errorf("entry %d the second time: %s", i, diff)
		}
	}
}

func advanceBase(t *testing.T, c *cluster) {
	o := c.a.member(t, "client", sub("a", 1))
	c.b.append(t, numbered("a", 6, 1)...)
	for _, tt := range []struct {
		base uint64
		left []string
	}{{0, count(0, 6)}, {2, count(2, 6)}, {2, count(2, 6)}, {1, count(2, 6)}, {5, count(5, 6)}, {3, count(5, 6)}, {6, nil}, {0, nil}} {
		c.a.advance(t, o.Lease, backend.Progress{Base: tt.base})
		wantPayloads(t, fmt.Sprintf("after base %d", tt.base), c.a.inbox(t, o.Lease), tt.left)
	}
	if o = c.b.open(t, "client"); o.Base != 6 || o.Last != 6 {
		t.Errorf("base %d, last %d; want 6, 6", o.Base, o.Last)
	}
}

func advanceDone(t *testing.T, c *cluster) {
	o := c.a.member(t, "client", sub("a", 1))
	c.b.append(t, numbered("a", 6, 1)...)
	c.a.advance(t, o.Lease, backend.Progress{Done: []uint64{3}})
	c.a.advance(t, o.Lease, backend.Progress{Done: []uint64{5, 2}})
	wantPayloads(t, "2, 3 and 5 done", c.a.inbox(t, o.Lease), []string{"0", "3", "5"})
	page, more := c.a.fetch(t, o.Lease, 1, 1, 1<<20)
	wantPayloads(t, "the first after 1", page, []string{"3"})
	if !more || page[0].Seq != 4 {
		t.Errorf("entry %d, more %v; want 4, true", page[0].Seq, more)
	}
	c.a.advance(t, o.Lease, backend.Progress{Done: []uint64{6}})
	if page, more := c.a.fetch(t, o.Lease, 4, 10, 1<<20); len(page) != 0 || more {
		t.Errorf("only done ones are left after 4: %d entries, more %v", len(page), more)
	}
	c.a.advance(t, o.Lease, backend.Progress{Base: 1})
	wantPayloads(t, "1 done too", c.a.inbox(t, o.Lease), []string{"3"})
	if o = c.b.open(t, "client"); o.Base < 1 || o.Base > 3 || o.Last != 6 {
		t.Errorf("base %d, last %d; want 1 to 3, and 6", o.Base, o.Last)
	}
}

func states(entries []backend.Entry) string {
	s := ""
	for _, e := range entries {
		s += fmt.Sprintf("%d:%d ", e.Seq, e.State)
	}
	return s
}

func advanceReleased(t *testing.T, c *cluster) {
	o := c.a.member(t, "client", sub("a", 2))
	c.b.append(t, numbered("a", 4, 2)...)
	c.a.advance(t, o.Lease, backend.Progress{Released: []uint64{1, 3}})
	if got := states(c.a.inbox(t, o.Lease)); got != "1:1 2:0 3:1 4:0 " {
		t.Errorf("sequences and states %q", got)
	}
	o = c.b.open(t, "client")
	if got := states(c.b.inbox(t, o.Lease)); got != "1:1 2:0 3:1 4:0 " {
		t.Errorf("sequences and states after a takeover %q", got)
	}
	c.b.advance(t, o.Lease, backend.Progress{Released: []uint64{1}}) // once more
	c.b.advance(t, o.Lease, backend.Progress{Done: []uint64{3}})
	if got := states(c.b.inbox(t, o.Lease)); got != "1:1 2:0 4:0 " {
		t.Errorf("sequences and states %q", got)
	}
	c.b.advance(t, o.Lease, backend.Progress{Base: 1})
	if got := states(c.b.inbox(t, o.Lease)); got != "2:0 4:0 " {
		t.Errorf("sequences and states %q", got)
	}
}

func advanceTogether(t *testing.T, c *cluster) {
	o := c.a.member(t, "client", sub("a", 2))
	c.b.append(t, numbered("a", 6, 2)...)
	c.a.advance(t, o.Lease, backend.Progress{Base: 2, Released: []uint64{3, 5}, Done: []uint64{4}})
	if got := states(c.a.inbox(t, o.Lease)); got != "3:1 5:1 6:0 " {
		t.Errorf("sequences and states %q", got)
	}
	// What a slow gateway says of entries that are gone already is ignored.
	c.a.advance(t, o.Lease, backend.Progress{Base: 1, Released: []uint64{1, 6}, Done: []uint64{2}})
	if got := states(c.a.inbox(t, o.Lease)); got != "3:1 5:1 6:1 " {
		t.Errorf("sequences and states %q", got)
	}
}

func advanceBeyond(t *testing.T, c *cluster) {
	o := c.a.member(t, "client", sub("a", 1))
	beyond := func(p backend.Progress) {
		t.Helper()
		if err := c.a.Advance(c.ctx, o.Lease, p); !errors.Is(err, backend.ErrFenced) {
			t.Errorf("Advance to %d: %v, want ErrFenced", p.Base, err)
		}
	}
	beyond(backend.Progress{Base: 1})
	c.b.append(t, numbered("a", 3, 1)...)
	beyond(backend.Progress{Base: 4, Done: []uint64{2}})
	beyond(backend.Progress{Base: 1 << 60})
	wantPayloads(t, "inbox", c.a.inbox(t, o.Lease), count(0, 3))
	c.a.advance(t, o.Lease, backend.Progress{Base: 3})
	beyond(backend.Progress{Base: 4})
}

func advanceSurvives(t *testing.T, c *cluster) {
	o := c.a.member(t, "client", sub("a", 2))
	c.b.append(t, numbered("a", 8, 2)...)
	c.a.advance(t, o.Lease, backend.Progress{Base: 3, Released: []uint64{4}, Done: []uint64{6}})
	const want = "4:1 5:0 7:0 8:0 "
	c.a.release(t, o.Lease, backend.ReleaseRequest{Sent: 7})
	o = c.b.open(t, "client")
	if got := states(c.b.inbox(t, o.Lease)); got != want || o.Base != 3 || o.Last != 8 || o.Sent != 7 {
		t.Errorf("after a release: base %d, last %d, sent %d, %q; want 3, 8, 7, %q", o.Base, o.Last, o.Sent, got, want)
	}
	o = c.a.open(t, "client")
	list := c.a.inbox(t, o.Lease)
	if got := states(list); got != want || o.Base != 3 || o.Last != 8 {
		t.Errorf("after a takeover: base %d, last %d, %q; want 3, 8, %q", o.Base, o.Last, got, want)
	}
	wantPayloads(t, "inbox", list, []string{"3", "4", "6", "7"})
}

func inboxDrained(t *testing.T, c *cluster) {
	o := c.a.member(t, "client", sub("a", 1))
	for round := range 20 {
		last := uint64(round * 3)
		c.b.append(t, numbered("a", 3, 1)...)
		list := c.a.inbox(t, o.Lease)
		wantPayloads(t, fmt.Sprintf("round %d", round), list, count(0, 3))
		if list[0].Seq != last+1 {
			t.Fatalf("round %d begins with sequence %d, want %d", round, list[0].Seq, last+1)
		}
		c.a.advance(t, o.Lease, backend.Progress{Base: last + 3})
		if round%5 == 4 { // the numbers go on for the next connection
			c.a.release(t, o.Lease, backend.ReleaseRequest{Sent: last + 3})
			o = c.a.open(t, "client")
			if o.Base != last+3 || o.Last != last+3 || o.Sent != last+3 {
				t.Fatalf("base %d, last %d, sent %d of an inbox that was drained at %d", o.Base, o.Last, o.Sent, last+3)
			}
		}
	}
}

func inboxLong(t *testing.T, c *cluster) {
	const batch, batches = 1000, 67
	o := c.a.member(t, "client", sub("a", 1))
	list := numbered("a", batch, 1)
	out := make([]backend.Append, batch)
	for i := range uint64(batches) {
		if err := c.b.Append(c.ctx, list, out); err != nil {
			t.Fatalf("Append: %v", err)
		}
		page, _ := c.a.fetch(t, o.Lease, i*batch, batch, 1<<20)
		if len(page) == 0 || page[0].Seq != i*batch+1 {
			t.Fatalf("batch %d: %d entries", i, len(page))
		}
		c.a.advance(t, o.Lease, backend.Progress{Base: (i + 1) * batch})
	}
	c.b.append(t, text("a", "last", 1))
	o = c.b.open(t, "client")
	if o.Base != batch*batches || o.Last != batch*batches+1 {
		t.Errorf("base %d, last %d; want %d and one more", o.Base, o.Last, batch*batches)
	}
	wantPayloads(t, "inbox", c.b.inbox(t, o.Lease), []string{"last"})
}

func enqueue(t *testing.T, c *cluster) {
	o := c.a.member(t, "client", sub("a", 1))
	c.b.append(t, text("a", "live 1", 1))
	entries := []backend.Entry{
		{Message: sample("retained/1"), QoS: 1, Retain: true, SubscriptionIDs: []uint32{4, 5}},
		{Message: text("retained/2", "stored 2", 1), QoS: 1, Retain: true},
		{Message: text("retained/3", "stored 3", 2), QoS: 2},
	}
	first, err := c.a.Enqueue(c.ctx, o.Lease, entries)
	if err != nil || first != 2 {
		t.Fatalf("Enqueue: first %d, %v; want 2", first, err)
	}
	c.b.append(t, text("a", "live 2", 1))
	if first, err = c.a.Enqueue(c.ctx, o.Lease, entries[1:2]); err != nil || first != 6 {
		t.Fatalf("Enqueue: first %d, %v; want 6", first, err)
	}
	o = c.b.open(t, "client")
	list := c.b.inbox(t, o.Lease)
	wantPayloads(t, "inbox", list, []string{"live 1", string(entries[0].Message.Payload), "stored 2", "stored 3", "live 2", "stored 2"})
	for i, want := range entries {
		want.Seq = uint64(2 + i)
		if diff := sameEntry(list[1+i], want); diff != "" {
			t.Errorf("entry %d: %s", want.Seq, diff)
		}
	}
	if o.Last != 6 {
		t.Errorf("last %d, want 6", o.Last)
	}
}

func enqueuePastLimit(t *testing.T, c *cluster) {
	o := c.a.member(t, "client", sub("a", 1))
	c.b.append(t, numbered("a", 3, 1)...)
	for i := range 5 {
		entry := backend.Entry{Message: text("stored", fmt.Sprint(3+i), 1), QoS: 1, Retain: true}
		if first, err := c.a.Enqueue(c.ctx, o.Lease, []backend.Entry{entry}); err != nil || first != uint64(4+i) {
			t.Fatalf("Enqueue: first %d, %v; want %d", first, err, 4+i)
		}
	}
	if out := c.b.append(t, text("a", "refused", 1))[0]; out.Refused != 1 {
		t.Errorf("outcome %+v, want one refusal", out)
	}
	wantPayloads(t, "inbox", c.a.inbox(t, o.Lease), count(0, 8))
}

func enqueueBorrowed(t *testing.T, c *cluster) {
	o := c.a.open(t, "client")
	m, ids := text("stored", "kept", 1), []uint32{7}
	entries := []backend.Entry{{Message: m, QoS: 1, SubscriptionIDs: ids}}
	if _, err := c.a.Enqueue(c.ctx, o.Lease, entries); err != nil {
		t.Fatalf("Enqueue: %v", err)
	}
	copy(m.Payload, "????")
	ids[0], entries[0].QoS = 8, 2
	list := c.a.inbox(t, o.Lease)
	wantPayloads(t, "inbox", list, []string{"kept"})
	if list[0].QoS != 1 || !slices.Equal(list[0].SubscriptionIDs, []uint32{7}) {
		t.Errorf("entry %+v", list[0])
	}
}

func inboxEnds(t *testing.T, c *cluster) {
	c.a.member(t, "client", sub("a", 1))
	c.b.append(t, numbered("a", 5, 1)...)
	o := c.b.open(t, "client", clean)
	if list := c.b.inbox(t, o.Lease); len(list) != 0 || o.Last != o.Base {
		t.Errorf("%d entries after a clean start, base %d, last %d", len(list), o.Base, o.Last)
	}
	c.b.subscribe(t, o.Lease, sub("a", 1))
	c.a.append(t, text("a", "new", 1))
	list := c.b.inbox(t, o.Lease)
	wantPayloads(t, "inbox", list, []string{"new"})
	if list[0].Seq != o.Last+1 {
		t.Errorf("sequence %d after last %d", list[0].Seq, o.Last)
	}
}

func limitMessages(t *testing.T, c *cluster) {
	full := c.a.member(t, "full", sub("a/#", 1))
	other := c.a.member(t, "other", sub("a/x", 1))
	c.b.append(t, numbered("a", 3, 1)...)
	for i := range 3 {
		out := c.b.append(t, text("a/x", fmt.Sprint(i), 1))[0]
		if out.Refused != 1 || !out.Matched {
			t.Errorf("outcome %+v, want matched and one refusal", out)
		}
		if targetOf(t, out, "full") != nil {
			t.Errorf("the full inbox is a target: %+v", out.Targets)
		}
		if targetOf(t, out, "other") == nil {
			t.Errorf("the other inbox is no target: %+v", out.Targets)
		}
	}
	wantPayloads(t, "the full inbox", c.a.inbox(t, full.Lease), count(0, 3))
	wantPayloads(t, "the other inbox", c.a.inbox(t, other.Lease), count(0, 3))
	if out := c.b.append(t, text("a/x", "x", 1))[0]; out.Refused != 2 {
		t.Errorf("outcome %+v, want two refusals", out)
	}
}

func limitBytes(t *testing.T, c *cluster) {
	const size = 1000
	o := c.a.member(t, "client", sub("a", 1))
	stored := 0
	for range 20 {
		out := c.b.append(t, &backend.Message{Topic: "a", Payload: bytes.Repeat([]byte("x"), size-1), QoS: 1})[0]
		if out.Refused == 0 {
			stored++
		}
	}
	if list := c.a.inbox(t, o.Lease); len(list) != stored || stored < 8 || stored > 11 {
		t.Errorf("%d entries in the inbox, %d not refused; want the same, about 10", len(list), stored)
	}
	c.a.advance(t, o.Lease, backend.Progress{Base: uint64(stored)})
	if out := c.b.append(t, text("a", "x", 1))[0]; out.Refused != 0 {
		t.Errorf("an inbox that was drained refuses: %+v", out)
	}
}

func limitRoom(t *testing.T, c *cluster) {
	o := c.a.member(t, "client", sub("a", 1))
	refused := func(want int) {
		t.Helper()
		if out := c.b.append(t, text("a", "x", 1))[0]; out.Refused != want {
			t.Fatalf("outcome %+v, want %d refusals", out, want)
		}
	}
	c.b.append(t, numbered("a", 3, 1)...)
	refused(1)
	c.a.advance(t, o.Lease, backend.Progress{Base: 1})
	refused(0)
	refused(1)
	c.a.advance(t, o.Lease, backend.Progress{Base: 4})
	for range 3 {
		refused(0)
	}
	refused(1)
	// The limit holds for the session, not for the connection.
	o = c.b.open(t, "client")
	refused(1)
	if list := c.b.inbox(t, o.Lease); len(list) != 3 || list[0].Seq != 5 {
		t.Errorf("%d entries, %s", len(list), states(list))
	}
}

func limitBatch(t *testing.T, c *cluster) {
	o := c.a.member(t, "client", sub("a", 1))
	out := c.b.append(t, numbered("a", 5, 1)...)
	for i, a := range out {
		if refused := i >= 3; (a.Refused == 1) != refused {
			t.Errorf("message %d: %d refusals", i, a.Refused)
		}
	}
	wantPayloads(t, "inbox", c.a.inbox(t, o.Lease), count(0, 3))
}
