package nats_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
)

// proxy stands between gateways and a server. It can lose what the server
// delivers while everything else passes, and cut all connections.
type proxy struct {
	listener net.Listener

	mu     sync.Mutex
	target string
	deaf   bool // deliveries are lost
	drop   int  // so many deliveries are lost
	shut   bool // connections are refused
	conns  map[net.Conn]struct{}
	served int // connections in all
	closed bool
}

// startProxy listens until the end of the test.
func startProxy(t *testing.T) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, conns: make(map[net.Conn]struct{})}
	var running sync.WaitGroup
	running.Go(func() { // ends when the listener is closed
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { p.serve(conn) }) // ends when a side closes
		}
	})
	t.Cleanup(func() {
		p.set(func() { p.closed = true })
		_ = l.Close()
		p.cut()
		running.Wait()
	})
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// count returns how many connections there have been.
func (p *proxy) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.served
}

func (p *proxy) to(target string) { p.set(func() { p.target = target }) }

// cut closes all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// track makes cut close c; it reports false if c must not be used.
func (p *proxy) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.shut {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *proxy) forget(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// serve carries one connection.
func (p *proxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	p.mu.Lock()
	target := p.target
	p.served++
	p.mu.Unlock()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	if !p.track(client) || !p.track(server) {
		return
	}
	defer p.forget(client)
	defer p.forget(server)
	done := make(chan struct{})
	go func() { // ends when a side closes
		defer close(done)
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	p.deliver(client, server)
	_ = client.Close()
	_ = server.Close()
	<-done
}

// deliver carries what the server sends, and loses deliveries if it is to.
func (p *proxy) deliver(client io.Writer, server io.Reader) {
	r := bufio.NewReaderSize(server, 1<<16)
	w := bufio.NewWriterSize(client, 1<<16)
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		if fields := bytes.Fields(line); len(fields) > 3 && (string(fields[0]) == "MSG" || string(fields[0]) == "HMSG") {
			size, err := strconv.Atoi(string(fields[len(fields)-1]))
			if err != nil {
				return
			}
			if p.loses() {
				if _, err := r.Discard(size + len("\r\n")); err != nil {
					return
				}
				continue
			}
			if _, err := w.Write(line); err != nil {
				return
			}
			if _, err := io.CopyN(w, r, int64(size)+int64(len("\r\n"))); err != nil {
				return
			}
		} else if _, err := w.Write(line); err != nil {
			return
		}
		if r.Buffered() == 0 {
			if err := w.Flush(); err != nil {
				return
			}
		}
	}
}

// loses reports whether the next delivery is lost.
func (p *proxy) loses() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drop > 0 {
		p.drop--
		return true
	}
	return p.deaf
}
