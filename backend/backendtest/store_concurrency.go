package backendtest

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

var concurrencyCases = []storeCase{
	{name: "model", promise: "all methods may be called concurrently, and every one keeps its promise meanwhile", run: modelCheck},
	{name: "subscribing while publishing", promise: "a session gets everything whose Append began after Subscribe returned and ended before Unsubscribe began, without a hole, and nothing after", run: subscribeWhilePublishing},
	{name: "order", promise: "the messages of one Append keep their order in an inbox whose session changes meanwhile", run: orderWhileChanging},
	{name: "one client, many connections", promise: "however many fight for one client, each lease is newer than the last and only the newest holds", run: fightForClient},
	{name: "retained", promise: "of messages retained at once one wins, whole", run: retainAtOnce},
	{name: "subscriptions at once", promise: "calls for one session at once are carried out one after the other", run: subscribeAtOnce},
}

// subscribeWhilePublishing watches one stream of messages from sessions that
// come and go.
func subscribeWhilePublishing(t *testing.T, c *cluster) {
	const watchers, rounds = 8, 20
	var begun, ended atomic.Int64 // messages whose Append has begun, has ended
	// A message is published when a watcher asks for one, so that no inbox
	// runs full on a busy machine.
	demand := make(chan struct{})
	var publisher, group sync.WaitGroup
	publisher.Go(func() { // ends when the watchers are done
		out := make([]backend.Append, 1)
		for i := 0; ; i++ {
			if _, more := <-demand; !more {
				return
			}
			begun.Add(1)
			if err := c.a.Append(c.ctx, []*backend.Message{text("stream/x", fmt.Sprint(i), 1)}, out); err != nil {
				t.Errorf("Append: %v", err)
			}
			ended.Add(1)
		}
	})
	for w, id := range clientNames(watchers) {
		group.Go(func() {
			g := []*gate{c.a, c.b}[w%2]
			filter := []string{"stream/x", "stream/+", "stream/#", "+/x"}[w%4]
			o, err := g.Open(c.ctx, g.request(id))
			if err != nil {
				t.Errorf("Open: %v", err)
				return
			}
			after := uint64(0)
			for range rounds {
				if _, err := g.Subscribe(c.ctx, o.Lease, []backend.Subscription{sub(filter, 1)}, nil); err != nil {
					t.Errorf("Subscribe: %v", err)
					return
				}
				from := begun.Load() // the next to begin must come
				for ended.Load() < from+3 {
					demand <- struct{}{}
				}
				until := ended.Load() // all that have ended must have come
				if _, err := g.Unsubscribe(c.ctx, o.Lease, []string{filter}); err != nil {
					t.Errorf("Unsubscribe: %v", err)
					return
				}
				last := begun.Load() // the next to begin must not come
				list, _, err := g.Fetch(c.ctx, o.Lease, after, 1_000_000, 1<<30)
				if err != nil || len(list) == 0 {
					t.Errorf("Fetch: %d entries, %v", len(list), err)
					return
				}
				after = list[len(list)-1].Seq
				if err := g.Advance(c.ctx, o.Lease, backend.Progress{Base: after}); err != nil {
					t.Errorf("Advance: %v", err)
					return
				}
				numbers := make([]int64, len(list))
				for i, e := range list {
					numbers[i], _ = strconv.ParseInt(string(e.Message.Payload), 10, 64)
					if i > 0 && numbers[i] != numbers[i-1]+1 {
						t.Errorf("%s: message %d after %d", id, numbers[i], numbers[i-1])
						return
					}
				}
				if first, final := numbers[0], numbers[len(numbers)-1]; first > from || final < until-1 || final >= last {
					t.Errorf("%s got messages %d to %d; %d to %d were due, none from %d on", id, first, final, from, until-1, last)
					return
				}
			}
		})
	}
	group.Wait()
	close(demand)
	publisher.Wait()
}

// orderWhileChanging watches streams of batches, each from one publisher, in
// inboxes of sessions that subscribe, unsubscribe and move between gateways all
// the time.
func orderWhileChanging(t *testing.T, c *cluster) {
	const publishers, batches, size = 4, 60, 8
	ids := clientNames(4)
	for _, id := range ids {
		c.a.member(t, id, sub("order/#", 1))
	}
	// Each batch allows each session some changes, so that no Append has to
	// run after one that never rests.
	allowed := make([]chan struct{}, len(ids))
	for i := range allowed {
		allowed[i] = make(chan struct{}, 32)
	}
	var sending, changing sync.WaitGroup
	for p := range publishers {
		sending.Go(func() {
			g := []*gate{c.a, c.b}[p%2]
			out := make([]backend.Append, size)
			for n := range batches {
				batch := make([]*backend.Message, size)
				for i := range batch {
					batch[i] = text(fmt.Sprintf("order/%d", p), strconv.Itoa(n*size+i), 1)
				}
				if err := g.Append(c.ctx, batch, out); err != nil {
					t.Errorf("Append: %v", err)
					return
				}
				for i := range 32 * len(allowed) {
					select {
					case allowed[i%len(allowed)] <- struct{}{}:
					default:
					}
				}
			}
		})
	}
	for w, id := range ids {
		changing.Go(func() { // ends when the publishers are done
			var o *backend.Opened
			var g *gate
			n := w
			for range allowed[w] {
				var err error
				if n++; n%5 == 0 || o == nil {
					g = []*gate{c.a, c.b}[n%2]
					o, err = g.Open(c.ctx, g.request(id))
				} else {
					_, err = g.Subscribe(c.ctx, o.Lease, []backend.Subscription{sub("other", byte(n%3))}, nil)
				}
				if err != nil {
					t.Errorf("%s: %v", id, err)
					return
				}
			}
		})
	}
	sending.Wait()
	for _, more := range allowed {
		close(more)
	}
	changing.Wait()
	for _, id := range ids {
		var next [publishers]int
		for _, e := range c.a.inbox(t, c.a.open(t, id).Lease) {
			var p int
			fmt.Sscanf(e.Message.Topic, "order/%d", &p)
			if string(e.Message.Payload) != strconv.Itoa(next[p]) {
				t.Fatalf("%s: message %s of %s came where %d was due", id, e.Message.Payload, e.Message.Topic, next[p])
			}
			next[p]++
		}
		for p, n := range next {
			if n != batches*size {
				t.Errorf("%s: %d messages of publisher %d came, want %d", id, n, p, batches*size)
			}
		}
	}
}

func fightForClient(t *testing.T, c *cluster) {
	const fighters, rounds = 8, 50
	var mu sync.Mutex
	leases := make(map[uint64]backend.Lease)
	previous := make(map[uint64]uint64) // epoch → the epoch that it fenced
	var group sync.WaitGroup
	for f := range fighters {
		group.Go(func() {
			g := []*gate{c.a, c.b}[f%2]
			for n := range rounds {
				o, err := g.Open(c.ctx, g.request("prize"))
				if err != nil {
					t.Errorf("Open: %v", err)
					return
				}
				mu.Lock()
				if _, ok := leases[o.Lease.Epoch]; ok {
					t.Errorf("epoch %d was given out twice", o.Lease.Epoch)
				}
				leases[o.Lease.Epoch] = o.Lease
				previous[o.Lease.Epoch] = o.Previous.Epoch
				mu.Unlock()
				_, err = g.Subscribe(c.ctx, o.Lease, []backend.Subscription{sub(fmt.Sprint(f, n%3), 1)}, nil)
				if err != nil && !errors.Is(err, backend.ErrFenced) {
					t.Errorf("Subscribe: %v", err)
				}
			}
		})
	}
	group.Wait()
	if len(leases) != fighters*rounds {
		t.Fatalf("%d leases, want %d", len(leases), fighters*rounds)
	}
	newest := uint64(0)
	fenced := make(map[uint64]int)
	for epoch := range leases {
		newest = max(newest, epoch)
		fenced[previous[epoch]]++
	}
	for epoch := range leases {
		// Nobody released: each was fenced by exactly one, but the newest.
		if want := 1; epoch != newest && fenced[epoch] != want {
			t.Errorf("epoch %d is the previous one of %d others", epoch, fenced[epoch])
		}
		err := c.a.Replayed(c.ctx, leases[epoch], "none", "", true)
		if epoch == newest && err != nil {
			t.Errorf("under the newest lease: %v", err)
		}
		if epoch != newest && !errors.Is(err, backend.ErrFenced) {
			t.Errorf("under epoch %d, the newest is %d: %v, want ErrFenced", epoch, newest, err)
		}
	}
}

func retainAtOnce(t *testing.T, c *cluster) {
	const writers, rounds, shared = 8, 50, 5
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			g := []*gate{c.a, c.b}[w%2]
			for n := range rounds {
				payload := fmt.Sprintf("%d %d", w, n)
				m := retained(fmt.Sprintf("at once/%d", n%shared), payload)
				m.Properties, m.Publisher = []byte(payload), backend.ClientID(payload)
				own := retained(fmt.Sprintf("own/%d", w), fmt.Sprint(n))
				if n%7 == 3 {
					m.Payload, own.Payload = nil, nil
				}
				if err := g.Retain(c.ctx, []*backend.Message{m, own}); err != nil {
					t.Errorf("Retain: %v", err)
					return
				}
			}
		})
	}
	group.Wait()
	for _, m := range c.a.match(t, "at once/+", 2) {
		if string(m.Payload) != string(m.Properties) || string(m.Payload) != string(m.Publisher) {
			t.Errorf("%s: payload %q, properties %q, publisher %q", m.Topic, m.Payload, m.Properties, m.Publisher)
		}
	}
	for w := range writers {
		c.b.wantOne(t, fmt.Sprintf("own/%d", w), fmt.Sprint(rounds-1))
	}
	for i := range shared {
		at, bt := c.a.match(t, fmt.Sprintf("at once/%d", i), 2), c.b.match(t, fmt.Sprintf("at once/%d", i), 2)
		if len(at) != len(bt) || len(at) == 1 && sameMessage(at[0], bt[0]) != "" {
			t.Errorf("topic %d differs between gateways", i)
		}
	}
	count := len(c.a.match(t, "#", 100))
	if n, _, err := c.a.RetainedStats(c.ctx); err != nil || n != int64(count) {
		t.Errorf("%d messages are counted, %d found, %v", n, count, err)
	}
}

func subscribeAtOnce(t *testing.T, c *cluster) {
	const workers, rounds = 8, 40
	o := c.a.open(t, "client")
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			filter := fmt.Sprintf("worker/%d", w)
			for n := range rounds {
				existed, err := c.a.Subscribe(c.ctx, o.Lease, []backend.Subscription{sub(filter, byte(n%3)), sub("worker/all", byte(w%3))}, nil)
				if err != nil || existed[0] {
					t.Errorf("Subscribe: existed %v, %v", existed, err)
					return
				}
				if n == rounds-1 {
					return
				}
				removed, err := c.a.Unsubscribe(c.ctx, o.Lease, []string{filter})
				if err != nil || !removed[0] {
					t.Errorf("Unsubscribe: existed %v, %v", removed, err)
					return
				}
			}
		})
	}
	group.Wait()
	if o = c.b.open(t, "client"); len(o.Subscriptions) != workers+1 {
		t.Errorf("%d subscriptions, want %d", len(o.Subscriptions), workers+1)
	}
}
