package redis

import (
	"bytes"
	"net"
	"sync"
	"testing"
)

// proxy stands between clients and a server and loses replies.
type proxy struct {
	listener net.Listener
	group    sync.WaitGroup

	mu     sync.Mutex
	closed bool
	target string
	conns  map[net.Conn]struct{}
	toDrop int
	only   string // what a request has whose reply is lost; empty is any
}

func startProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, target: target, conns: make(map[net.Conn]struct{})}
	p.group.Go(p.accept) // ends when the listener is closed
	t.Cleanup(p.close)
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// drop lets the next n requests that run scripts or transactions pass and loses
// their replies.
func (p *proxy) drop(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.toDrop, p.only = n, ""
}

// dropReplyTo lets the next run of a script pass, which the server must know,
// and loses its reply.
func (p *proxy) dropReplyTo(s *script) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.toDrop, p.only = 1, s.sha
}

// redirect sends everybody to another server: connections end, and new ones go
// there.
func (p *proxy) redirect(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *proxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.group.Wait()
}

func (p *proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = c.Close()
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		target := p.target
		p.mu.Unlock()
		server, err := net.Dial("tcp", target)
		if err != nil {
			_ = client.Close()
			continue
		}
		if !p.keep(client) || !p.keep(server) {
			continue
		}
		l := &link{proxy: p, client: client, server: server}
		p.group.Go(l.requests) // both end when either side is closed
		p.group.Go(l.replies)
	}
}

// link is one connection through the proxy.
type link struct {
	proxy          *proxy
	client, server net.Conn
	mute           bool // replies are lost; guarded by proxy.mu
}

func (l *link) end() {
	_ = l.client.Close()
	_ = l.server.Close()
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	delete(l.proxy.conns, l.client)
	delete(l.proxy.conns, l.server)
}

func (l *link) requests() {
	defer l.end()
	buf := make([]byte, 64<<10)
	for {
		n, err := l.client.Read(buf)
		if n > 0 {
			l.listen(buf[:n])
			if _, err := l.server.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// listen decides whether the replies to a request are lost.
func (l *link) listen(request []byte) {
	writes := bytes.Contains(request, []byte("eval")) || bytes.Contains(request, []byte("multi"))
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	if writes && l.proxy.toDrop > 0 && !l.mute && bytes.Contains(request, []byte(l.proxy.only)) {
		l.proxy.toDrop--
		l.mute = true // what came behind would be taken for the reply
	}
}

func (l *link) replies() {
	defer l.end()
	buf := make([]byte, 64<<10)
	for {
		n, err := l.server.Read(buf)
		l.proxy.mu.Lock()
		mute := l.mute
		l.proxy.mu.Unlock()
		if n > 0 && !mute {
			if _, err := l.client.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
