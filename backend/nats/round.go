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
	want    map[uint64]bool // posts that are waited for
	answers map[uint64]bool // posts that have answered
	done    chan struct{}   // closed when nobody is waited for
}

// settle takes what became of one post.
func (r *round) settle(id uint64, answered bool) {
	if !r.want[id] {
		return
	}
	delete(r.want, id)
	if answered {
		r.answers[id] = true
	}
	if len(r.want) == 0 {
		close(r.done)
	}
}

// wait sends the probe until nobody is waited for, at most for limit. More than
// once, because a post that is new may not be known to the server of l yet.
func (r *round) wait(l *link, limit time.Duration, send func()) {
	end := time.NewTimer(limit)
	defer end.Stop()
	pause := sendAgain
	again := time.NewTimer(pause)
	defer again.Stop()
	for {
		send()
		select {
		case <-r.done:
			return
		case <-end.C:
			return
		case <-l.down:
			return
		case <-again.C:
			pause *= 2
			again.Reset(pause)
		}
	}
}

// sendAgain is after how long a probe is sent a second time; it doubles.
const sendAgain = 50 * time.Millisecond

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
	r := &round{want: make(map[uint64]bool), answers: make(map[uint64]bool), done: make(chan struct{})}
	var asked []*post
	p.mu.Lock()
	p.newest++
	number := p.newest
	for _, post := range p.list {
		if post.up && (all || !post.cut) {
			asked = append(asked, post)
			r.want[post.id] = true
		}
	}
	if len(asked) > 0 {
		p.rounds[number] = r
	}
	p.mu.Unlock()
	e := echoes{asked: len(asked)}
	if e.asked == 0 {
		return e
	}

	sent := time.Now()
	r.wait(l, limit, func() { p.b.out.control(p.subject, kindProbe, number) })

	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.rounds, number)
	if len(r.want) == 0 {
		p.b.probes.Took(time.Since(sent))
	}
	if e.heard = len(r.answers); e.heard == 0 {
		return e
	}
	for _, post := range asked {
		if !r.answers[post.id] {
			post.cut = true
			continue
		}
		if post.cut && post.up {
			post.cut = false
			e.returned = e.returned || post.server != l.server
		}
	}
	return e
}

// heard takes an echo.
func (p *posts) heard(number, id uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.rounds[number]; r != nil {
		r.settle(id, true)
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
		} else if post.first {
			return false, p.changed
		}
	}
	return up, p.changed
}
