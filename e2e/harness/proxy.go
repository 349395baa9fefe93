package harness

import (
	"bytes"
	"net"
	"sync"
	"testing"
	"time"
)

// Direction is one half of the connections of a [Proxy].
type Direction int

const (
	ToServer Direction = iota // what the gateway sends
	ToClient                  // what it receives
)

// Proxy stands between one gateway and a server and breaks what passes.
type Proxy struct {
	listener net.Listener
	running  sync.WaitGroup

	mu      sync.Mutex
	changed *sync.Cond
	target  string
	closed  bool
	refuse  bool
	held    [2]bool
	delay   time.Duration
	traps   []*trap
	conns   map[net.Conn]struct{}
}

// trap waits for a request.
type trap struct {
	text   []byte
	before bool          // the request is lost, not the answer
	sprung chan struct{} // closed when it has happened
}

// StartProxy listens until the end of the test.
func StartProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: l, target: target, conns: make(map[net.Conn]struct{})}
	p.changed = sync.NewCond(&p.mu)
	p.running.Go(p.accept) // ends when the listener is closed
	t.Cleanup(func() {
		l.Close()
		p.set(func() { p.closed = true })
		p.Cut()
		p.running.Wait()
	})
	return p
}

// Address is host:port of the proxy.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

func (p *Proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	p.changed.Broadcast()
}

// Hold keeps back what goes in these directions, as a network does that loses
// packets, until Heal. Connections stay open and new ones are accepted.
func (p *Proxy) Hold(directions ...Direction) {
	p.set(func() {
		for _, d := range directions {
			p.held[d] = true
		}
	})
}

// Refuse cuts all connections and closes new ones at once, until Heal.
func (p *Proxy) Refuse() {
	p.set(func() { p.refuse = true })
	p.Cut()
}

// Delay lets every piece arrive that much later. Pieces do not wait for each
// other.
func (p *Proxy) Delay(d time.Duration) { p.set(func() { p.delay = d }) }

// Heal ends Hold, Refuse and Delay, and what Swallow and Lose still wait for.
func (p *Proxy) Heal() {
	p.set(func() { p.held, p.refuse, p.delay, p.traps = [2]bool{}, false, 0, nil })
}

// Redirect sends everybody to another server: connections are cut, and new ones
// go there.
func (p *Proxy) Redirect(target string) {
	p.set(func() { p.target = target })
	p.Cut()
}

// Cut closes all connections; what was on its way is lost.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

// Swallow lets the next request pass that has this text in it, and loses its
// answer and all others on that connection. The channel is closed when the
// server has answered.
func (p *Proxy) Swallow(text string) <-chan struct{} { return p.trap(text, false) }

// Lose loses the next request that has this text in it, and whatever comes
// after it on that connection. The channel is closed when that has happened.
func (p *Proxy) Lose(text string) <-chan struct{} { return p.trap(text, true) }

func (p *Proxy) trap(text string, before bool) <-chan struct{} {
	t := &trap{text: []byte(text), before: before, sprung: make(chan struct{})}
	p.set(func() { p.traps = append(p.traps, t) })
	return t.sprung
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(client) }) // ends when a side closes
	}
}

// proxied is one connection.
type proxied struct {
	proxy  *Proxy
	caught *trap // guarded by proxy.mu
}

func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	var target string
	p.set(func() { target = p.target })
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	refused := false
	p.set(func() {
		if refused = p.closed || p.refuse; !refused {
			p.conns[client], p.conns[server] = struct{}{}, struct{}{}
		}
	})
	if refused {
		return
	}
	defer p.set(func() {
		delete(p.conns, client)
		delete(p.conns, server)
	})
	c := &proxied{proxy: p}
	var both sync.WaitGroup
	both.Go(func() { c.carry(server, client, ToServer) }) // both end when a side closes
	both.Go(func() { c.carry(client, server, ToClient) })
	both.Wait()
}

// piece is what one read brought, and when it is to leave.
type piece struct {
	b   []byte
	due time.Time
}

// carry moves one direction.
func (c *proxied) carry(dst, src net.Conn, d Direction) {
	pieces := make(chan piece, 1024)
	var writing sync.WaitGroup
	writing.Go(func() { // ends with pieces
		defer dst.Close()
		for p := range pieces {
			if wait := time.Until(p.due); wait > 0 {
				time.Sleep(wait)
			}
			dst.Write(p.b) // an error shows at the next read of the other direction
		}
	})
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 && c.pass(buf[:n], d) {
			pieces <- piece{bytes.Clone(buf[:n]), time.Now().Add(c.delay())}
		}
		if err != nil {
			break
		}
	}
	close(pieces)
	writing.Wait()
	src.Close()
}

func (c *proxied) delay() time.Duration {
	c.proxy.mu.Lock()
	defer c.proxy.mu.Unlock()
	return c.proxy.delay
}

// pass waits while the direction is held, and reports whether a piece goes on.
func (c *proxied) pass(b []byte, d Direction) bool {
	p := c.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.held[d] && !p.refuse && !p.closed {
		p.changed.Wait()
	}
	if c.caught == nil && d == ToServer {
		c.spring(b)
	}
	switch {
	case c.caught == nil:
		return true
	case d == ToServer:
		return !c.caught.before
	}
	if !c.caught.before {
		c.caught.spring()
	}
	return false
}

// spring looks for a trap that a request sets off.
func (c *proxied) spring(request []byte) {
	for i, t := range c.proxy.traps {
		if bytes.Contains(request, t.text) {
			c.proxy.traps = append(c.proxy.traps[:i:i], c.proxy.traps[i+1:]...)
			c.caught = t
			if t.before {
				t.spring()
			}
			return
		}
	}
}

func (t *trap) spring() {
	select {
	case <-t.sprung:
	default:
		close(t.sprung)
	}
}
