package memory

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

const pool = "$share/pool/work/#"

// members makes durable members of the pool.
func members(g *gate, names ...string) (leases []backend.Lease) {
	for _, n := range names {
		o := g.open(n)
		g.subscribe(o.Lease, pool)
		leases = append(leases, o.Lease)
	}
	return leases
}

func TestFullMemberIsPassedOver(t *testing.T) {
	g := newGate(t, Options{InboxMessages: 4})
	l := members(g, "a", "b")
	_, err := g.Enqueue(t.Context(), l[0], []backend.Entry{{Message: text("x", "x", 1)}, {Message: text("x", "x", 1)}, {Message: text("x", "x", 1)}})
	g.must(err)
	refused := 0
	for _, out := range g.append(numbered("work/1", 0, 8)...) {
		refused += out.Refused
	}
	if a, b := g.inbox(l[0]), g.inbox(l[1]); len(a) != 4 || len(b) != 4 || refused != 3 {
		t.Errorf("a has %q, b has %q, %d refused; room was for one and four", a, b, refused)
	}
}

// TestRequeueToOneThatIsBack gives a message back only where nobody else is.
func TestRequeueToOneThatIsBack(t *testing.T) {
	g := newGate(t, Options{})
	l := members(g, "gone")
	g.append(text("work/1", "0", 1))
	due := g.release(l[0])
	if names(due) != "requeue:gone(1)" {
		t.Fatalf("chores %s", names(due))
	}
	back := g.open("gone")
	out := make([]backend.Append, 1)
	g.must(g.Requeue(t.Context(), "gone", due[0].Entries, out))
	if got := g.inbox(back.Lease); !slices.Equal(got, []string{"0"}) || len(out[0].Targets) != 1 {
		t.Errorf("alone: %q, %+v", got, out[0])
	}
	other := members(g, "other")
	for range 4 {
		g.must(g.Requeue(t.Context(), "gone", due[0].Entries, out))
	}
	if got := g.inbox(other[0]); len(got) != 4 {
		t.Errorf("the other has %q", got)
	}
}

// TestSharedMessagesAreConserved publishes to a group whose members come and
// go, are taken over and die with their gateway. In the end every message is
// in exactly one place.
func TestSharedMessagesAreConserved(t *testing.T) {
	g := newGate(t, Options{InboxMessages: -1})
	const clients, publishers, each = 6, 3, 4000
	keep := g.open("keeper") // is never connected again, so that messages can wait
	g.subscribe(keep.Lease, pool)
	g.release(keep.Lease)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	carry := func(due []backend.Chore) {
		for _, c := range due {
			if c.Kind == backend.ChoreRequeue {
				out := make([]backend.Append, len(c.Entries))
				if err := g.Requeue(t.Context(), c.Client, c.Entries, out); err != nil {
					t.Error(err)
				}
				for _, o := range out {
					if !o.Matched || o.Refused != 0 {
						t.Errorf("Requeue: %+v", o)
					}
				}
			}
		}
		if err := g.Finish(t.Context(), due); err != nil {
			t.Error(err)
		}
	}
	for i := range clients {
		wg.Go(func() { // ends when stop is closed
			rnd := rand.New(rand.NewPCG(uint64(i), 7))
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				p := g.Peer()
				node := backend.NodeID(fmt.Sprintf("n%d-%d", i, n))
				if err := p.Join(t.Context(), backend.Node{ID: node}, 1<<40); err != nil {
					t.Error(err)
				}
				o, err := p.Open(t.Context(), backend.OpenRequest{Client: backend.ClientID(fmt.Sprint("c", i)), Node: node, Expiry: 3600})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := p.Subscribe(t.Context(), o.Lease, []backend.Subscription{{Filter: pool, QoS: 1}}, nil); err != nil {
					t.Error(err)
				}
				for more := true; more; {
					if _, more, err = p.TakeShared(t.Context(), o.Lease, pool, 10); err != nil {
						t.Error(err)
						return
					}
				}
				switch rnd.IntN(3) {
				case 0:
					due, err := p.Release(t.Context(), o.Lease, backend.ReleaseRequest{})
					if err != nil {
						t.Error(err)
					}
					carry(due)
				case 1:
					if err := p.Leave(t.Context(), node); err != nil {
						t.Error(err)
					}
				default: // the next one takes over
				}
			}
		})
	}
	wg.Go(func() { // ends when stop is closed
		for {
			select {
			case <-stop:
				return
			default:
			}
			due, _, err := g.Due(t.Context(), g.id, 10)
			if err != nil {
				t.Error(err)
			}
			carry(due)
		}
	})
	var publishing sync.WaitGroup
	for i := range publishers {
		publishing.Go(func() {
			out := make([]backend.Append, 1)
			for j := range each {
				if err := g.Append(t.Context(), []*backend.Message{text("work/x", fmt.Sprint(i*each+j), 1)}, out); err != nil || !out[0].Matched || out[0].Refused != 0 {
					t.Errorf("Append: %+v, %v", out[0], err)
				}
			}
		})
	}
	publishing.Wait()
	close(stop)
	wg.Wait()

	seen := make(map[string]int)
	last := members(g, "last")[0]
	for i := range clients {
		o := g.open(fmt.Sprint("c", i))
		_, err := g.Unsubscribe(t.Context(), o.Lease, []string{pool})
		g.must(err)
		for _, p := range g.inbox(o.Lease) {
			seen[p]++
		}
	}
	carry(g.chores.take(1<<62, 1<<30)) // what nobody did
	for more := true; more; {
		var err error
		_, more, err = g.TakeShared(t.Context(), last, pool, 1000)
		g.must(err)
	}
	for _, p := range g.inbox(last) {
		seen[p]++
	}
	for i := range publishers * each {
		if n := seen[fmt.Sprint(i)]; n != 1 {
			t.Fatalf("message %d is there %d times", i, n)
		}
	}
}

// TestClientsThatPublishToEachOther has every lock of Append and of the calls
// under a lease in use at once, by clients that are publishers and receivers
// of QoS 2 in all directions, themselves included.
func TestClientsThatPublishToEachOther(t *testing.T) {
	g := newGate(t, Options{})
	const clients, rounds = 4, 300
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			me := backend.ClientID(fmt.Sprint("c", i))
			appended, received := 0, 0
			for n := range rounds {
				o, err := g.Open(t.Context(), backend.OpenRequest{Client: me, Node: g.id, Expiry: 3600})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := g.Subscribe(t.Context(), o.Lease, []backend.Subscription{{Filter: "all", QoS: 2}}, nil); err != nil {
					t.Error(err)
				}
				m := text("all", "x", 2)
				m.Publisher = me
				m.ID = backend.PublishID{Client: me, Incarnation: o.Incarnation, PacketID: 1, Generation: uint32(n)}
				for range 2 {
					out := make([]backend.Append, 1)
					if err := g.Append(t.Context(), []*backend.Message{m}, out); err != nil {
						t.Error(err)
					}
					if !out[0].Duplicate {
						appended++
					}
				}
				if err := g.Forget(t.Context(), o.Lease, []uint16{1}); err != nil {
					t.Error(err)
				}
				if again, err := g.Open(t.Context(), backend.OpenRequest{Client: me, Node: g.id, Expiry: 3600}); err != nil || again.Generations[1] != uint32(n+1) {
					t.Errorf("round %d: generations %v, %v", n, again.Generations, err)
				} else {
					o = again
				}
				page, _, err := g.Fetch(t.Context(), o.Lease, 0, 1000, 1<<20)
				if err != nil {
					t.Error(err)
				}
				received += len(page)
				if len(page) > 0 {
					if err := g.Advance(t.Context(), o.Lease, backend.Progress{Base: page[len(page)-1].Seq}); err != nil {
						t.Error(err)
					}
				}
				if _, err := g.Release(t.Context(), o.Lease, backend.ReleaseRequest{}); err != nil {
					t.Error(err)
				}
			}
			if appended != rounds || received < rounds {
				t.Errorf("%s: %d of %d publishes appended, %d received", me, appended, rounds, received)
			}
		})
	}
	wg.Wait()
}

// TestNothingIsAddedAfterUnsubscribe races publishers with a session that
// subscribes and unsubscribes, alone and as a member of a group: once
// Unsubscribe has returned nothing is added [MQTT-3.10.4-2].
func TestNothingIsAddedAfterUnsubscribe(t *testing.T) {
	for _, filter := range []string{"work/x", "work/+", pool} {
		t.Run(filter, func(t *testing.T) {
			g := newGate(t, Options{InboxMessages: 1000})
			stop := make(chan struct{})
			var publishers sync.WaitGroup
			for range 2 {
				publishers.Go(func() { // ends when stop is closed
					out := make([]backend.Append, 1)
					for {
						select {
						case <-stop:
							return
						default:
						}
						if err := g.Append(t.Context(), []*backend.Message{text("work/x", "x", 1)}, out); err != nil {
							t.Error(err)
						}
					}
				})
			}
			o := g.open("client")
			// Another subscription to the same topics, of another session.
			g.subscribe(g.open("other").Lease, filter)
			ss := g.find("client")
			last := func() uint64 {
				ss.mu.Lock()
				defer ss.mu.Unlock()
				return ss.inbox.last()
			}
			for range 100 {
				before := last()
				g.subscribe(o.Lease, filter)
				for last() == before {
					runtime.Gosched()
				}
				_, err := g.Unsubscribe(t.Context(), o.Lease, []string{filter})
				g.must(err)
				at := last()
				for range 3 { // give those that are on their way a chance
					runtime.Gosched()
				}
				if now := last(); now != at {
					t.Errorf("%d messages were added after Unsubscribe", now-at)
				}
				g.must(g.Advance(t.Context(), o.Lease, backend.Progress{Base: last()})) // makes room
			}
			close(stop)
			publishers.Wait()
		})
	}
}
