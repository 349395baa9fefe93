package clients_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// wireCutter is a proxy between a client and the server, whose connections can be
// cut, and which knows when the server has closed one.
type wireCutter struct {
	addr string

	mu      sync.Mutex
	conns   []net.Conn
	carried int        // directions that are open, two a connection
	fewer   *sync.Cond // carried has changed
}

// newWireCutter listens until the test ends.
func newWireCutter(t testing.TB, server string) *wireCutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wireCutter{addr: l.Addr().String()}
	w.fewer = sync.NewCond(&w.mu)
	t.Cleanup(func() { l.Close(); w.cut() })
	go func() { // ends with the listener
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", server)
			if err != nil {
				client.Close()
				continue
			}
			w.mu.Lock()
			w.conns = append(w.conns, client, upstream)
			w.carried += 2
			w.mu.Unlock()
			go w.carry(client, upstream) // both end with the connections
			go w.carry(upstream, client)
		}
	}()
	return w
}

// carry copies one direction until its end, and passes the end on. The other
// direction stays open: the server closes its own when it has read all.
func (w *wireCutter) carry(to, from net.Conn) {
	io.Copy(to, from)
	to.(*net.TCPConn).CloseWrite()
	io.Copy(io.Discard, from) // where the other side was gone already
	w.mu.Lock()
	defer w.mu.Unlock()
	w.carried--
	w.fewer.Broadcast()
}

// cut closes every connection, with whatever is on its way.
func (w *wireCutter) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	w.conns = nil
}

// quiet waits until both sides have closed every connection, so that the server
// has dealt with what the client sent last.
func (w *wireCutter) quiet() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.carried > 0 {
		w.fewer.Wait()
	}
}
