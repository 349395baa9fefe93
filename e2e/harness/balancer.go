package harness

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	checkEvery = 100 * time.Millisecond
	checkLimit = time.Second // a gateway that is paused does not answer
)

// Balancer is what stands in front of a cluster: it gives each TCP connection
// to the next gateway that /readyz calls ready. Connections that are open stay
// when their gateway is no longer ready.
type Balancer struct {
	listener net.Listener
	backends []*balanced
	next     atomic.Uint64
	refused  atomic.Int64
	running  sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
}

// balanced is a gateway as the balancer sees it.
type balanced struct {
	tcp, http string
	ready     atomic.Bool
}

// StartBalancer listens until the end of the test.
func StartBalancer(t testing.TB, gateways ...*Gateway) *Balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &Balancer{listener: l, conns: make(map[net.Conn]struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	for _, g := range gateways {
		to := &balanced{tcp: g.TCP, http: g.HTTP}
		b.backends = append(b.backends, to)
		to.check(ctx)
		b.running.Go(func() { to.watch(ctx) }) // ends with ctx
	}
	b.running.Go(b.accept) // ends when the listener is closed
	t.Cleanup(func() {
		cancel()
		l.Close()
		b.mu.Lock()
		b.closed = true
		for c := range b.conns {
			c.Close()
		}
		b.mu.Unlock()
		b.running.Wait()
	})
	return b
}

// Address is where clients connect.
func (b *Balancer) Address() string { return b.listener.Addr().String() }

// Refused is how many times a gateway that was called ready did not accept.
func (b *Balancer) Refused() int { return int(b.refused.Load()) }

// Ready is how many gateways are ready at present.
func (b *Balancer) Ready() int {
	n := 0
	for _, to := range b.backends {
		if to.ready.Load() {
			n++
		}
	}
	return n
}

// watch asks a gateway again and again.
func (b *balanced) watch(ctx context.Context) {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			b.check(ctx)
		}
	}
}

func (b *balanced) check(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	b.ready.Store(readyAt(ctx, b.http) == nil)
}

func (b *Balancer) accept() {
	for {
		client, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.running.Go(func() { b.serve(client) }) // ends when a side closes
	}
}

// serve carries one connection.
func (b *Balancer) serve(client net.Conn) {
	defer client.Close()
	server := b.dial()
	if server == nil {
		return
	}
	defer server.Close()
	if !b.track(client, server) {
		return
	}
	defer b.forget(client, server)
	done := make(chan struct{})
	go func() { // ends when a side closes
		defer close(done)
		io.Copy(server, client)
		server.Close()
	}()
	io.Copy(client, server)
	client.Close()
	<-done
}

// dial connects to the next gateway that is ready, or to none.
func (b *Balancer) dial() net.Conn {
	first := b.next.Add(1)
	for i := range uint64(len(b.backends)) {
		to := b.backends[(first+i)%uint64(len(b.backends))]
		if !to.ready.Load() {
			continue
		}
		if server, err := net.DialTimeout("tcp", to.tcp, checkLimit); err == nil {
			return server
		}
		b.refused.Add(1)
		to.ready.Store(false) // until it is asked again
	}
	return nil
}

func (b *Balancer) track(conns ...net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range conns {
		b.conns[c] = struct{}{}
	}
	return !b.closed
}

func (b *Balancer) forget(conns ...net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range conns {
		delete(b.conns, c)
	}
}

// web keeps no connections: their ends come and go.
var web = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// readyAt asks a gateway whether it is ready.
func readyAt(ctx context.Context, base string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := web.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	why, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // for the reader only
	return &notReady{resp.Status, string(why)}
}

// notReady is what a gateway answers that is not ready.
type notReady struct{ status, why string }

func (e *notReady) Error() string { return "/readyz: " + e.status + ": " + e.why }
