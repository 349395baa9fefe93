package gateway

import (
	"context"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

const (
	// followers is how many goroutines without a lead a loop keeps.
	followers = 8
	// readsAtOnce bounds what one connection is read while others wait.
	readsAtOnce = 8
	// yieldTime is how long a leader goes without the scheduler, which takes
	// whoever does for 10 ms for a goroutine that does not give way.
	yieldTime = 5 * time.Millisecond
)

// loops read for connections that are sockets of the system's, with or without TLS
// and WebSocket frames, where the system has a poller. A connection in a loop has
// no goroutine and no buffer of its own: it costs what it says, not that it is
// there. Anything else is read by a goroutine a connection, which does the same
// with what it reads ([conn.process]).
//
// A loop waits until connections have something to read, reads one, handles
// that in place, and goes on to the next. The goroutine that does so leads the
// loop. Before it does what may wait for anything but memory, the store above
// all, it leaves the lead to another ([leave]) and goes on with its one
// connection; done with that, it waits until the lead is left to it again.
type loops struct {
	all  func() []*loop // opens them the first time
	next atomic.Uint32
}

// loop is one of them.
type loop struct {
	g    *Gateway
	life context.Context
	poll *poller

	mu    sync.Mutex
	conns []*conn // by file descriptor

	follow chan struct{} // whoever waits here gets the lead
	places chan struct{} // one for each that may wait there

	// What follows is the leader's own.
	n, at   int     // events taken, and handled
	again   []*conn // have more to read, which is not announced anew
	yielded time.Duration
}

// prepare makes the loops ones that are opened when they are needed. Life ends
// them.
func (ls *loops) prepare(life context.Context, g *Gateway) {
	ls.all = sync.OnceValue(func() (all []*loop) {
		// One processor is left to those who do not wait in a system call.
		for range max(1, runtime.GOMAXPROCS(0)-1) {
			p, err := newPoller()
			if err != nil {
				g.log.Debug("connections are read by goroutines", "err", err)
				return all
			}
			l := &loop{
				g: g, life: context.WithoutCancel(life), poll: p,
				follow: make(chan struct{}), places: make(chan struct{}, followers),
			}
			context.AfterFunc(life, func() {
				p.stop()
				close(l.follow)
			})
			g.background.Go(l.lead) // until life ends
			all = append(all, l)
		}
		return all
	})
}

// turn is what a goroutine has that may lead a loop. It is the context of all
// that it does for connections, by which [leave] finds it.
type turn struct {
	context.Context
	loop *loop // that it leads, or nil
}

// Value implements [context.Context].
func (t *turn) Value(key any) any {
	if key == backend.YieldKey {
		return t
	}
	return t.Context.Value(key)
}

// leave is called before what may wait: if the caller leads a loop, which the
// context tells, another goroutine does from now on.
func leave(ctx context.Context) {
	if t, ok := ctx.(*turn); ok {
		t.Yield()
		return
	}
	backend.Yield(ctx)
}

// Yield implements [backend.Yielder].
func (t *turn) Yield() {
	l := t.loop
	if l == nil {
		return
	}
	t.loop = nil
	select {
	case l.follow <- struct{}{}:
	default:
		l.g.background.Go(l.lead) // until life ends, or there are enough
	}
}

// lead leads the loop, and again each time that the lead comes to it.
func (l *loop) lead() {
	t := &turn{Context: l.life}
	buf := readBuffers.Get().(*[readBuffer]byte)
	defer readBuffers.Put(buf)
	for {
		for t.loop = l; t.loop != nil; {
			if !l.step(t, buf[:]) {
				l.poll.close()
				return
			}
		}
		select {
		case l.places <- struct{}{}:
		default:
			return
		}
		_, lead := <-l.follow
		<-l.places
		if !lead {
			return
		}
	}
}

// step handles one event. It returns false when that was the last one.
func (l *loop) step(t *turn, buf []byte) bool {
	if l.at == l.n {
		if len(l.again) == 0 {
			return l.wait(true)
		}
		// One of these, and then those that have something new.
		c := l.again[0]
		l.again = append(l.again[:0], l.again[1:]...)
		if !l.wait(false) {
			return false
		}
		c.attend(t, buf, true)
		return true
	}
	e := l.poll.event(l.at)
	l.at++
	if e.stop {
		return false
	}
	l.mu.Lock()
	c := l.conns[e.fd]
	l.mu.Unlock()
	if c == nil {
		return true // it has gone meanwhile
	}
	if e.writable {
		c.writable()
	}
	if e.readable && c.takeRole() {
		c.attend(t, buf, e.hungUp)
	}
	return true
}

// wait takes the next events; without patience only those that are there.
func (l *loop) wait(patient bool) bool {
	n, err := l.poll.poll()
	if n == 0 && err == nil && patient {
		if now := l.g.now(); now-l.yielded > yieldTime {
			l.yielded = now
			runtime.Gosched()
		}
		n, err = l.poll.wait()
	}
	if err != nil {
		l.g.setTrouble("poller", err) // its connections are not served any more
		return false
	}
	l.at, l.n = 0, n
	return true
}

// moveIn gives a connection that is up to a loop. The reader's role, which is
// the caller's, is still to be given up.
func (c *conn) moveIn() bool {
	if c.raw == nil || c.hosted {
		return false
	}
	all := c.g.loops.all()
	if len(all) == 0 {
		return false
	}
	fd, err := duplicate(c.raw)
	if err != nil {
		return false
	}
	l := all[int(c.g.loops.next.Add(1))%len(all)]
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || !l.take(c, fd) {
		syscall.Close(fd)
		return false
	}
	c.loop, c.fd = l, fd
	if was := c.socket(); c.box.writing {
		c.box.shed = was
	} else {
		was.Close()
	}
	c.nc, c.raw = nil, nil
	switch {
	case c.tls != nil:
		c.tls.Conn = nil
	case c.frames != nil:
		c.frames.Conn = nil
	}
	return true
}

// take begins to look after a connection.
func (l *loop) take(c *conn, fd int) bool {
	l.mu.Lock()
	if fd >= len(l.conns) {
		l.conns = append(l.conns, make([]*conn, fd+1-len(l.conns))...)
	}
	l.conns[fd] = c
	l.mu.Unlock()
	c.role.Store(somebodyReads)
	if err := l.poll.add(fd); err != nil {
		l.drop(fd)
		return false
	}
	return true
}

func (l *loop) drop(fd int) {
	l.mu.Lock()
	l.conns[fd] = nil
	l.mu.Unlock()
}

// moveOut takes a connection that is over out of its loop, and closes its
// socket, or makes it the runtime's again, for the last words.
func (c *conn) moveOut(linger bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fd := c.fd
	c.fd = -1
	c.loop.drop(fd)
	if !linger {
		if c.tls != nil && c.tls.conn.CloseWrite() == nil {
			farewell, _ := c.tls.seal(nil)
			writeNow(fd, farewell)
		}
		syscall.Close(fd)
		return
	}
	c.loop.poll.remove(fd) // closing would not, while there is another descriptor
	f := os.NewFile(uintptr(fd), "")
	defer f.Close()
	nc, err := net.FileConn(f)
	if err != nil {
		return
	}
	if c.tls != nil {
		c.tls.Conn, nc = nc, c.tls.conn
	}
	if c.frames != nil {
		c.frames.Conn, nc = nc, c.frames
	}
	c.nc = nc
}

// Who reads for a connection in a loop.
const (
	nobodyReads = iota
	somebodyReads
	// readAgain: more has come meanwhile, or somebody wants it looked at.
	readAgain
)

// takeRole makes the caller the connection's reader, unless there is one: that
// looks again before it stops.
func (c *conn) takeRole() bool {
	for {
		switch c.role.Load() {
		case nobodyReads:
			if c.role.CompareAndSwap(nobodyReads, somebodyReads) {
				return true
			}
		case somebodyReads:
			if c.role.CompareAndSwap(somebodyReads, readAgain) {
				return false
			}
		default:
			return false
		}
	}
}

// giveRole ends what takeRole began. It returns false if the reader has to look
// again first.
func (c *conn) giveRole() bool {
	if c.role.CompareAndSwap(somebodyReads, nobodyReads) {
		return true
	}
	c.role.Store(somebodyReads)
	return false
}

// begin is the reader's first part in a loop: what came behind CONNECT.
func (c *conn) begin(ctx context.Context) {
	t := &turn{Context: ctx}
	goOn := func() bool {
		defer c.recovered()
		process := func(b []byte) bool { return c.process(t, b) }
		return process(nil) && c.readEarly(process)
	}()
	if !goOn || !c.giveRole() {
		c.attend(t, make([]byte, smallRead), true)
	}
}

// attend reads what has come for a connection, whose reader the caller is, and
// ends it if it is over.
func (c *conn) attend(t *turn, buf []byte, hungUp bool) {
	if c.readReady(t, buf, hungUp) {
		leave(t)
		c.finish(t)
	}
}

// readReady handles what is in the socket. It returns true if the connection is
// over, else the reader's role has been given up, or is with the loop. An event
// is used up by a read that does not fill buf, but for one that told of the
// end too.
func (c *conn) readReady(t *turn, buf []byte, hungUp bool) (over bool) {
	over = true // where it panics
	defer c.recovered()
	for reads := 1; ; reads++ {
		n, err := readNow(c.fd, buf)
		if err != nil {
			c.lost(err)
			return true
		}
		if n > 0 && !c.unwrap(func(b []byte) bool { return c.process(t, b) }, buf[:n]) {
			return true
		}
		if c.pace != nil {
			c.pace.rest(t, c)
		}
		if n == len(buf) || n > 0 && hungUp {
			if l := t.loop; l != nil && reads >= readsAtOnce {
				l.again = append(l.again, c)
				return false
			}
			continue
		}
		if n == 0 && c.isOver() {
			return true
		}
		if c.giveRole() {
			return false
		}
		hungUp = true
	}
}

// isOver reports whether somebody has ended the connection.
func (c *conn) isOver() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// longAgo is a deadline that interrupts whoever reads.
var longAgo = time.Unix(1, 0)

// interrupt makes the reader look whether the connection is over.
func (c *conn) interrupt() {
	c.mu.Lock()
	nc, l := c.socket(), c.loop
	c.mu.Unlock()
	switch {
	case l == nil:
		nc.SetReadDeadline(longAgo)
	case c.takeRole():
		go c.attend(&turn{Context: l.life}, make([]byte, smallRead), true) // until the connection is over
	}
}

// hangUp closes the socket by force.
func (c *conn) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.nc != nil:
		c.socket().Close()
	case c.fd >= 0:
		syscall.Shutdown(c.fd, syscall.SHUT_RDWR)
	}
}
