package backendtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

// How much the model check does.
const (
	modelActors = 16
	modelCalls  = 1000
	modelGroup  = "$share/model/pool/#"
)

// actor is one client with its own model: what it has, sent and got. Actors
// run concurrently and disturb each other only by sending.
type actor struct {
	c      *cluster
	random *rand.Rand
	number int
	id     backend.ClientID
	g      *gate
	opened *backend.Opened

	base, read uint64             // of the inbox: advanced up to, fetched up to
	got        []*backend.Message // by the shared group and by name, in order
	sent       [modelActors]int   // to each actor, by name
	pooled     int                // to the shared group
	kept       int                // last number retained
	gens       [4]uint32          // generation of the packet identifiers 1 to 4
	live       [4]bool            // the identifier is in use
	toggled    bool               // the subscription that comes and goes
	toggledOut int                // messages sent while it was there
	toggledIn  int                // messages that came by it
}

// modelCheck runs all actors, lets each read the rest of its inbox and
// compares what came with what was sent.
func modelCheck(t *testing.T, c *cluster) {
	seed := rand.Uint64()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	})
	actors := make([]*actor, modelActors)
	for i := range actors {
		a := &actor{c: c, random: rand.New(rand.NewPCG(seed, uint64(i))), number: i, id: backend.ClientID(fmt.Sprintf("actor-%d", i)), g: []*gate{c.a, c.b}[i%2]}
		a.opened = a.g.open(t, a.id)
		a.g.subscribe(t, a.opened.Lease, sub(fmt.Sprintf("to/%d/#", i), 2), sub(modelGroup, 2))
		actors[i] = a
	}
	var group sync.WaitGroup
	for _, a := range actors {
		group.Go(func() {
			for range modelCalls {
				if err := a.act(); err != nil {
					t.Errorf("%s: %v", a.id, err)
					return
				}
			}
		})
	}
	group.Wait()
	if t.Failed() {
		return
	}
	for _, a := range actors {
		a.last(t) // what waits for the group is in an inbox afterwards
	}
	for _, a := range actors {
		for a.read < a.last(t) {
			if err := a.take(); err != nil {
				t.Fatalf("%s: %v", a.id, err)
			}
		}
		a.check(t, actors)
	}
	pooled, came := 0, make(map[string]int)
	for _, a := range actors {
		pooled += a.pooled
		for _, m := range a.got {
			if strings.HasPrefix(m.Topic, "pool/") {
				came[m.Topic+" "+string(m.Payload)]++
			}
		}
	}
	if len(came) != pooled {
		t.Errorf("%d messages to the group came, want %d", len(came), pooled)
	}
	for key, n := range came {
		if n != 1 {
			t.Errorf("message %s to the group came %d times", key, n)
		}
	}
}

// last returns the newest entry of the actor's inbox.
func (a *actor) last(t *testing.T) uint64 {
	t.Helper()
	if err := a.reopen(); err != nil {
		t.Fatalf("%s: %v", a.id, err)
	}
	return a.opened.Last
}

// act does one thing at random and checks its answer.
func (a *actor) act() error {
	switch n := a.random.IntN(100); {
	case n < 35:
		return a.send()
	case n < 45:
		return a.pool()
	case n < 60:
		return a.take()
	case n < 70:
		return a.advance()
	case n < 78:
		return a.exactlyOnce()
	case n < 86:
		return a.toggle()
	case n < 92:
		return a.keep()
	case n < 95:
		return a.reopen()
	case n < 97:
		return a.lookForChores()
	default:
		return a.detach()
	}
}

func (a *actor) other() *gate {
	if a.random.IntN(2) == 0 {
		return a.c.a
	}
	return a.c.b
}

// send appends a batch to several actors, at any gateway.
func (a *actor) send() error {
	var batch []*backend.Message
	for range 1 + a.random.IntN(5) {
		to := a.random.IntN(modelActors)
		batch = append(batch, text(fmt.Sprintf("to/%d/%d", to, a.number), strconv.Itoa(a.sent[to]), byte(1+a.random.IntN(2))))
		a.sent[to]++
	}
	out := make([]backend.Append, len(batch))
	if err := a.other().Append(a.c.ctx, batch, out); err != nil {
		return fmt.Errorf("append: %w", err)
	}
	for i := range out {
		if !out[i].Matched || out[i].Duplicate || out[i].Refused != 0 {
			return fmt.Errorf("append to %s: %+v", batch[i].Topic, out[i])
		}
	}
	return nil
}

// pool appends a message to the shared group.
func (a *actor) pool() error {
	out := make([]backend.Append, 1)
	m := text(fmt.Sprintf("pool/%d", a.number), strconv.Itoa(a.pooled), 2)
	a.pooled++
	if err := a.other().Append(a.c.ctx, []*backend.Message{m}, out); err != nil {
		return fmt.Errorf("append to the group: %w", err)
	}
	if !out[0].Matched || out[0].Refused != 0 || len(out[0].Targets) > 1 {
		return fmt.Errorf("append to the group: %+v", out[0])
	}
	return nil
}

// take reads a page of the inbox; sequences have no holes.
func (a *actor) take() error {
	list, _, err := a.g.Fetch(a.c.ctx, a.opened.Lease, a.read, 1+a.random.IntN(50), 1<<20)
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	for _, e := range list {
		if e.Seq != a.read+1 {
			return fmt.Errorf("fetch: entry %d after %d", e.Seq, a.read)
		}
		a.read = e.Seq
		if strings.HasPrefix(e.Message.Topic, "toggle/") {
			a.toggledIn++
			continue
		}
		a.got = append(a.got, e.Message)
	}
	return nil
}

// advance gives up some of what was read.
func (a *actor) advance() error {
	if a.base == a.read {
		return nil
	}
	a.base += 1 + a.random.Uint64N(a.read-a.base)
	if err := a.g.Advance(a.c.ctx, a.opened.Lease, backend.Progress{Base: a.base}); err != nil {
		return fmt.Errorf("advance: %w", err)
	}
	return nil
}

// exactlyOnce publishes with an identity, repeats it, or forgets it.
func (a *actor) exactlyOnce() error {
	i := a.random.IntN(len(a.gens))
	packet := uint16(i + 1)
	if a.live[i] && a.random.IntN(2) == 0 {
		a.live[i] = false
		a.gens[i]++
		if err := a.g.Forget(a.c.ctx, a.opened.Lease, []uint16{packet}); err != nil {
			return fmt.Errorf("forget: %w", err)
		}
		return nil
	}
	to := a.random.IntN(modelActors)
	m := identified(a.opened, packet, a.gens[i], strconv.Itoa(a.sent[to]))
	m.Topic = fmt.Sprintf("to/%d/%d", to, a.number)
	again := a.live[i]
	if !again {
		a.live[i] = true
		a.sent[to]++
	}
	out := make([]backend.Append, 1)
	if err := a.other().Append(a.c.ctx, []*backend.Message{m}, out); err != nil {
		return fmt.Errorf("append with identity: %w", err)
	}
	if out[0].Duplicate != again {
		return fmt.Errorf("append of %+v: duplicate %v, want %v", m.ID, out[0].Duplicate, again)
	}
	return nil
}

// toggle comes or goes as a subscriber of a topic of its own, and publishes to
// it: the message comes exactly if the subscription is there.
func (a *actor) toggle() error {
	topic := fmt.Sprintf("toggle/%d", a.number)
	var existed []bool
	var err error
	if a.toggled {
		existed, err = a.g.Unsubscribe(a.c.ctx, a.opened.Lease, []string{topic})
	} else {
		existed, err = a.g.Subscribe(a.c.ctx, a.opened.Lease, []backend.Subscription{sub(topic, 1)}, nil)
	}
	if err != nil || existed[0] != a.toggled {
		return fmt.Errorf("toggle: existed %v, want %v; %w", existed, a.toggled, err)
	}
	a.toggled = !a.toggled
	out := make([]backend.Append, 1)
	if err := a.other().Append(a.c.ctx, []*backend.Message{text(topic, "x", 1)}, out); err != nil {
		return fmt.Errorf("append to itself: %w", err)
	}
	if out[0].Matched != a.toggled {
		return fmt.Errorf("append to itself: %+v, the subscription is there: %v", out[0], a.toggled)
	}
	if a.toggled {
		a.toggledOut++
	}
	return nil
}

// keep retains the next number and finds it.
func (a *actor) keep() error {
	a.kept++
	topic := fmt.Sprintf("kept/%d", a.number)
	if err := a.other().Retain(a.c.ctx, []*backend.Message{retained(topic, strconv.Itoa(a.kept))}); err != nil {
		return fmt.Errorf("retain: %w", err)
	}
	page, more, err := a.other().Match(a.c.ctx, topic, "", 2)
	if err != nil || more || len(page) != 1 || string(page[0].Payload) != strconv.Itoa(a.kept) {
		return fmt.Errorf("match: %d messages, more %v; %w", len(page), more, err)
	}
	return nil
}

// reopen takes the session over, at any gateway, and compares what is found.
func (a *actor) reopen() error { return a.resume(a.opened.Lease) }

// detach releases the session and opens it again. Chores of the requeue that
// follows are carried out, so that nothing of the group is lost.
func (a *actor) detach() error {
	due, err := a.g.Release(a.c.ctx, a.opened.Lease, backend.ReleaseRequest{Sent: a.read})
	if err != nil {
		return fmt.Errorf("release: %w", err)
	}
	if len(due) != 0 {
		return fmt.Errorf("release: %d chores, though all of the group is QoS 2", len(due))
	}
	return a.resume(backend.Lease{})
}

func (a *actor) resume(previous backend.Lease) error {
	old, was := a.opened, a.g
	a.g = a.other()
	o, err := a.g.Open(a.c.ctx, a.g.request(a.id))
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	a.opened = o
	received, generations, subscriptions := 0, 0, 2
	for i := range a.gens {
		packet := uint16(i + 1)
		switch generation, ok := o.Received[packet]; {
		case ok != a.live[i], ok && generation != a.gens[i]:
			return fmt.Errorf("open: received %v, want identifier %d: %v, generation %d", o.Received, packet, a.live[i], a.gens[i])
		case ok:
			received++
		case o.Generations[packet] != a.gens[i]:
			return fmt.Errorf("open: generations %v, want %d for identifier %d", o.Generations, a.gens[i], packet)
		case a.gens[i] != 0:
			generations++
		}
	}
	if a.toggled {
		subscriptions++
	}
	switch {
	case !o.Present || o.Incarnation != old.Incarnation || o.Lease.Epoch <= old.Lease.Epoch || o.Previous != previous:
		return fmt.Errorf("open: %+v after %+v, want previous %+v", o, old.Lease, previous)
	case len(o.Received) != received || len(o.Generations) != generations || len(o.Subscriptions) != subscriptions:
		return fmt.Errorf("open: received %v, generations %v, subscriptions %v", o.Received, o.Generations, o.Subscriptions)
	case o.Base != a.base || o.Last < a.read || o.Sent < a.read:
		return fmt.Errorf("open: base %d, sent %d, last %d; advanced to %d, read to %d", o.Base, o.Sent, o.Last, a.base, a.read)
	}
	if err := was.Advance(a.c.ctx, old.Lease, backend.Progress{Base: a.read + 1}); !errors.Is(err, backend.ErrFenced) {
		return fmt.Errorf("advance under the old lease: %v, want ErrFenced", err)
	}
	return a.takeFromGroup()
}

// takeFromGroup moves what waits for the group, if anything does, into the
// inbox: for a moment no member may have been connected.
func (a *actor) takeFromGroup() error {
	for more := true; more; {
		var err error
		if _, more, err = a.g.TakeShared(a.c.ctx, a.opened.Lease, modelGroup, 100); err != nil {
			return fmt.Errorf("take shared: %w", err)
		}
	}
	return nil
}

// lookForChores asks for chores; nobody gives cause for any.
func (a *actor) lookForChores() error {
	list, _, err := a.g.Due(a.c.ctx, a.g.id, 10)
	if err != nil || len(list) != 0 {
		return fmt.Errorf("due: %+v, %w", list, err)
	}
	return nil
}

// check compares what came to a with what all sent.
func (a *actor) check(t *testing.T, all []*actor) {
	t.Helper()
	next := make([]int, modelActors)
	for _, m := range a.got {
		var to, from int
		if n, _ := fmt.Sscanf(m.Topic, "to/%d/%d", &to, &from); n != 2 {
			continue
		}
		if to != a.number || string(m.Payload) != strconv.Itoa(next[from]) {
			t.Fatalf("%s: message %s of %s came where %d was due", a.id, m.Payload, m.Topic, next[from])
		}
		next[from]++
	}
	for from, sender := range all {
		if next[from] != sender.sent[a.number] {
			t.Errorf("%s: %d messages of %s came, %d were sent", a.id, next[from], sender.id, sender.sent[a.number])
		}
	}
	if a.toggledIn != a.toggledOut {
		t.Errorf("%s: %d messages came by the subscription that comes and goes, want %d", a.id, a.toggledIn, a.toggledOut)
	}
	if a.kept > 0 {
		a.g.wantOne(t, fmt.Sprintf("kept/%d", a.number), strconv.Itoa(a.kept))
	}
}
