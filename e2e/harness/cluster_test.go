package harness_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// eventually waits until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so: %s", what)
		}
	}
}

// A session that was made on one gateway is there on another after all of it
// was killed: gateways, NATS, and Redis, which keeps what it had.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{Gateways: 2, Proxies: true, Env: []string{"GATEWAY_LEASE=1s"}})
	durable := wire.Connect{ClientID: "c"}
	first := wire.Dial(t, c.Balancer.Address()).Connect(durable)
	first.Subscribe("a", 1)
	for _, g := range c.Gateways {
		g.Kill(t)
	}
	first.ExpectClosed()
	c.Redis.Kill(t)
	c.NATS.Kill(t)
	c.Redis.Start(t)
	c.NATS.Start(t)
	for _, g := range c.Gateways {
		g.Launch(t)
	}
	for _, g := range c.Gateways {
		g.AwaitReady(t) // the balancer may not have seen yet that they were away
	}
	eventually(t, "all are ready", func() bool { return c.Balancer.Ready() == 2 })
	if again := wire.Dial(t, c.Balancer.Address()).Connect(durable); !again.Connack.SessionPresent {
		t.Error("the session is gone")
	}
	if c.Redis.Do(t, "DBSIZE") == "0" {
		t.Error("nothing in Redis")
	}
	c.Redis.Kill(t)
	c.Redis.Empty(t)
	c.Redis.Start(t)
	if n := c.Redis.Do(t, "EXISTS sluice:{c:Yw}:m"); n != "0" {
		t.Error("something is left in Redis")
	}
}

// The balancer gives each gateway its turn, and none to one that is not ready.
func TestBalancer(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{Gateways: 2})
	connections := func(i int) int {
		n := 0
		fmt.Sscan(c.Gateways[i].Metric(t, "sluice_connections"), &n)
		return n
	}
	var a, b int
	for tries := 0; tries < 10 && (a != 3 || b != 3); tries++ { // one that gets no core for a while has no turn
		a, b = connections(0), connections(1)
		for range 6 {
			wire.Dial(t, c.Balancer.Address()).Connect(wire.Connect{ClientID: wire.Unique("c"), Clean: true})
		}
		a, b = connections(0)-a, connections(1)-b
	}
	if a != 3 || b != 3 {
		t.Errorf("%d and %d connections, want 3 and 3", a, b)
	}
	before := connections(1)
	c.Gateways[0].Signal(t, syscall.SIGSTOP)
	eventually(t, "one is ready", func() bool { return c.Balancer.Ready() == 1 })
	for n := range 4 {
		wire.Dial(t, c.Balancer.Address()).Connect(wire.Connect{ClientID: fmt.Sprint("d", n), Clean: true})
	}
	c.Gateways[0].Signal(t, syscall.SIGCONT)
	eventually(t, "both are ready", func() bool { return c.Balancer.Ready() == 2 })
	if n := connections(1) - before; n != 4 {
		t.Errorf("%d connections, want 4", n)
	}
}

// echo is a server that answers each line with the same.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends when the listener is closed
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends when the other side closes
				defer conn.Close()
				io.Copy(conn, conn)
			}()
		}
	}()
	return l.Addr().String()
}

// line is a client of echo.
type line struct {
	net.Conn
	in *bufio.Reader
}

func dialLine(t *testing.T, p *harness.Proxy) *line {
	t.Helper()
	conn, err := net.Dial("tcp", p.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &line{conn, bufio.NewReader(conn)}
}

// says sends a line and expects an answer within a time, or none.
func (l *line) says(t *testing.T, text string, limit time.Duration, want error) {
	t.Helper()
	fmt.Fprintln(l, text)
	l.hears(t, text, limit, want)
}

func (l *line) hears(t *testing.T, text string, limit time.Duration, want error) {
	t.Helper()
	l.SetReadDeadline(time.Now().Add(limit))
	got, err := l.in.ReadString('\n')
	if want == nil && (err != nil || got != text+"\n") || want != nil && err == nil {
		t.Fatalf("%q, %v for %q", got, err, text)
	}
}

func TestProxy(t *testing.T) {
	t.Parallel()
	const moment = 50 * time.Millisecond
	p := harness.StartProxy(t, echo(t))
	c := dialLine(t, p)
	c.says(t, "a", wire.Timeout, nil)
	for _, d := range []harness.Direction{harness.ToServer, harness.ToClient} {
		p.Hold(d)
		c.says(t, "held", moment, io.EOF)
		p.Heal()
		c.hears(t, "held", wire.Timeout, nil)
	}
	p.Delay(2 * moment)
	begin := time.Now()
	fmt.Fprintln(c, "late")
	fmt.Fprintln(c, "too")
	c.hears(t, "late", wire.Timeout, nil)
	c.hears(t, "too", wire.Timeout, nil)
	if d := time.Since(begin); d < 4*moment {
		t.Errorf("back after %v", d)
	}
	p.Heal()
	swallowed := p.Swallow("bite")
	c.says(t, "no", wire.Timeout, nil)
	c.says(t, "a bite", moment, io.EOF)
	<-swallowed
	c.says(t, "more", moment, io.EOF)
	lost := p.Lose("away")
	d := dialLine(t, p)
	d.says(t, "away", moment, io.EOF)
	<-lost
	p.Cut()
	d.says(t, "x", wire.Timeout, io.EOF)
	p.Refuse()
	dialLine(t, p).says(t, "x", wire.Timeout, io.EOF)
	p.Heal()
	dialLine(t, p).says(t, "x", wire.Timeout, nil)
}
