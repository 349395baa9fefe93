package nats

import (
	"context"
	"fmt"
	"sync/atomic"

	natsgo "github.com/nats-io/nats.go"

	"github.com/sluice-mqtt/sluice/backend"
)

// maxRequests is how many interests share one confirmation by the servers.
const maxRequests = 1024

// interests are what this gateway has asked for. One goroutine owns them and
// carries out requests in batches: the first ones go at once, and those that
// come while the servers confirm share the next confirmation.
type interests struct {
	b        *Backend
	fixed    []string // subjects that are always subscribed
	requests chan *request
	quit     chan struct{} // closed by Close of the Backend

	// Owned by run.
	link    *link
	filters map[string]*interest
	// retired subscriptions have been replaced by others. They are withdrawn
	// when those are confirmed, so that nothing falls between.
	retired []*natsgo.Subscription
}

// interest is one filter.
type interest struct {
	class backend.Class
	subs  []*natsgo.Subscription // on the present link
}

// request asks for a change; with a link, for all interests on that link.
type request struct {
	filter   string
	class    backend.Class
	withdraw bool
	link     *link

	done    chan error // has room for the answer
	settled atomic.Bool
	added   backend.Class // what it has changed, to be undone if it fails
}

func newInterests(b *Backend, fixed []string) *interests {
	return &interests{
		b: b, fixed: fixed,
		requests: make(chan *request, maxRequests),
		quit:     make(chan struct{}),
		filters:  make(map[string]*interest),
	}
}

// do has a request carried out and waits for the answer. If ctx ends first the
// request has no effect, sooner or later.
func (in *interests) do(ctx context.Context, r *request) error {
	r.done = make(chan error, 1)
	var err error
	select {
	case in.requests <- r:
		select {
		case err = <-r.done:
			return err
		case <-ctx.Done():
			err = fmt.Errorf("nats: %w: %w", backend.ErrUnavailable, ctx.Err())
		case <-in.quit:
			err = errClosed
		}
	case <-ctx.Done():
		return fmt.Errorf("nats: %w: %w", backend.ErrUnavailable, ctx.Err())
	case <-in.quit:
		return errClosed
	}
	if r.settled.CompareAndSwap(false, true) {
		return err
	}
	return <-r.done
}

// run carries out requests until Close.
func (in *interests) run() {
	var batch []*request
	for {
		batch = batch[:0]
		select {
		case r := <-in.requests:
			batch = append(batch, r)
		case <-in.quit:
			return
		}
		for n := min(len(in.requests), maxRequests-1); n > 0; n-- {
			batch = append(batch, <-in.requests)
		}
		in.carryOut(batch)
	}
}

// carryOut makes the changes of a batch, has them confirmed once, and answers.
func (in *interests) carryOut(batch []*request) {
	confirm := false
	for _, r := range batch {
		switch {
		case r.link != nil:
			in.move(r.link)
			confirm = true
		case r.withdraw:
			in.withdraw(r.filter, r.class)
		default:
			r.added = in.add(r.filter, r.class)
			confirm = true // what another added may not be confirmed yet
		}
	}
	var err error
	if confirm || len(in.retired) > 0 {
		if err = in.confirm(); err == nil {
			withdraw(in.retired)
			in.retired = nil
		}
	}
	for _, r := range batch {
		switch {
		case r.withdraw, r.link != nil && err == nil:
			r.settle(nil)
		case err != nil || !r.settle(nil):
			in.withdraw(r.filter, r.added)
			r.settle(err)
		}
	}
}

// settle answers, unless the caller has gone.
func (r *request) settle(err error) bool {
	if !r.settled.CompareAndSwap(false, true) {
		return false
	}
	r.done <- err
	return true
}

// confirm returns when the interests are live at every server.
func (in *interests) confirm() error {
	l := in.link
	if l == nil {
		return in.b.out.state()
	}
	var err error
	if in.b.posts.remote(l) {
		err = in.b.posts.spread(l)
	} else {
		err = l.flush()
	}
	if err == nil {
		return nil
	}
	if l.isDown() {
		err = l.reason // that is the cause
	}
	return fmt.Errorf("nats: %w: %w", backend.ErrUnavailable, err)
}

// add asks for class of filter and returns what is new of it.
func (in *interests) add(filter string, class backend.Class) (added backend.Class) {
	i := in.filters[filter]
	if i == nil {
		i = &interest{}
		in.filters[filter] = i
	}
	added = class &^ i.class
	in.set(filter, i, i.class|class)
	return added
}

func (in *interests) withdraw(filter string, class backend.Class) {
	i := in.filters[filter]
	if i == nil {
		return
	}
	in.set(filter, i, i.class&^class)
	if i.class == 0 {
		delete(in.filters, filter)
	}
}

// set makes class the interest in filter. Where one set of classes follows
// another, messages come twice for a while, which their sequence tells.
func (in *interests) set(filter string, i *interest, class backend.Class) {
	if class == i.class {
		return
	}
	old := i.subs
	i.class, i.subs = class, nil
	if class == 0 {
		withdraw(old)
		return
	}
	in.subscribe(filter, i)
	in.retired = append(in.retired, old...)
}

// withdraw ends subscriptions. On a connection that is gone they are gone too.
func withdraw(subs []*natsgo.Subscription) {
	for _, s := range subs {
		_ = s.Unsubscribe()
	}
}

// subscribe makes the subscriptions of an interest on the present link.
func (in *interests) subscribe(filter string, i *interest) {
	for _, subject := range in.b.subjects.filter(filter, i.class) {
		if s := in.listen(subject); s != nil {
			i.subs = append(i.subs, s)
		}
	}
}

// listen subscribes to one subject. All share one channel. A link on which
// that fails is down, and confirm says so.
func (in *interests) listen(subject string) *natsgo.Subscription {
	if in.link == nil {
		return nil
	}
	s, err := in.link.nc.ChanSubscribe(subject, in.link.in)
	if err != nil {
		in.link.fail(fmt.Errorf("subscribe: %w", err))
		return nil
	}
	return s
}

// maxUnconfirmed is how many filters are asked for anew before the server has
// confirmed them: pings must not wait behind more than it does in a fraction of
// their interval, or the link is taken for dead while the server works.
const maxUnconfirmed = 4096

// move makes all interests anew on another link. A link on which that fails is
// down.
func (in *interests) move(l *link) {
	in.link, in.retired = l, nil
	for _, i := range in.filters {
		i.subs = nil // of the link before
	}
	for _, subject := range in.fixed {
		in.listen(subject)
	}
	n := 0
	for filter, i := range in.filters {
		if l.isDown() {
			return
		}
		in.subscribe(filter, i)
		if n++; n%maxUnconfirmed == 0 {
			if err := l.flush(); err != nil {
				l.fail(fmt.Errorf("subscribe: %w", err))
			}
		}
	}
}
