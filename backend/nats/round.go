package nats

import (
	"context"
	"errors"
	"time"
)

var (
	errNoEcho = errors.New("self-probe not answered")
	errCutOff = errors.New("a server of the NATS cluster was cut off")
)

// round is one probe on its way to the posts.
type round struct {
	want map[uint64]*post // that have not answered yet
	done chan struct{}    // closed when all have
}

// echoes is the outcome of a round.
type echoes struct {
	asked, heard int
	// returned: a post at another server answers again that was cut off.
	returned bool
}

// probe sends a probe over l and waits until all posts that are connected have
// sent it back, at most limit. Posts that are cut off are asked only if all is
// set. Those that do not answer are cut off, unless none does: then it is the
// link.
func (p *posts) probe(l *link, limit time.Duration, all bool) echoes {
	r := &round{want: make(map[uint64]*post), done: make(chan struct{})}
	p.mu.Lock()
	p.newest++
	number := p.newest
	for _, post := range p.list {
		if post.up && (all || !post.cut) {
			r.want[post.id] = post
		}
	}
	e := echoes{asked: len(r.want)}
	if e.asked > 0 {
		p.rounds[number] = r
	}
	p.mu.Unlock()
	if e.asked == 0 {
		return e
	}

	asked := make([]*post, 0, e.asked)
	for _, post := range r.want {
		asked = append(asked, post)
	}
	p.b.out.control(p.subject, kindProbe, number)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-r.done:
	case <-timer.C:
	case <-l.down:
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.rounds, number)
	e.heard = e.asked - len(r.want)
	if e.heard == 0 {
		return e
	}
	for _, post := range asked {
		if r.want[post.id] != nil {
			post.cut = true
			continue
		}
		if post.cut && post.up {
			post.cut = false
			e.returned = e.returned || post.server != l.server
		}
		post.answered = true
	}
	return e
}

// heard takes an echo.
func (p *posts) heard(number, id uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.rounds[number]
	if r == nil || r.want[id] == nil {
		return
	}
	if delete(r.want, id); len(r.want) == 0 {
		close(r.done)
	}
}

// remote reports whether a post is at another server than l. Then a round trip
// to the server of l does not say that others know an interest.
func (p *posts) remote(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, post := range p.list {
		if post.up && !post.cut && post.server != l.server {
			return true
		}
	}
	return false
}

// spread returns when every server that has a post knows the interests asked
// for on l. One that is cut off is not waited for: a gap will tell of it.
func (p *posts) spread(l *link) error {
	if e := p.probe(l, p.b.opt.ConnectTimeout, false); e.heard == 0 {
		if l.isDown() {
			return l.reason
		}
		return errNoEcho
	}
	return l.refusal()
}

// prove returns nil when messages flow over l to and from every server that
// can be reached, after waiting for posts on their way. If no post can connect,
// which a server that is full may cause, the link is taken as it is.
func (p *posts) prove(ctx context.Context, l *link) error {
	timer := time.NewTimer(p.b.opt.ConnectTimeout)
	defer timer.Stop()
	for waiting := true; waiting; {
		settled, changed := p.settled()
		if settled {
			break
		}
		select {
		case <-changed:
		case <-timer.C:
			waiting = false
		case <-l.down:
			return l.reason
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for range 2 {
		e := p.probe(l, p.b.opt.ConnectTimeout, true)
		if e.heard > 0 {
			return nil
		}
		if l.isDown() {
			return l.reason
		}
		if e.asked == 0 {
			p.b.log.Warn("no second connection to the bus: it can not be probed")
			return nil
		}
	}
	p.renew()
	return errNoEcho
}

// settled reports whether one post is up and all others have had an attempt;
// if not, changed is closed when that may have changed.
func (p *posts) settled() (ok bool, changed chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	up := false
	for _, post := range p.list {
		if post.up {
			up = true
		} else if post.nc == nil {
			return false, p.changed
		}
	}
	return up, p.changed
}
