package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// logBook is a logger whose lines can be read.
type logBook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logBook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// openStore is for gateways whose store is to be looked into: one of which calls
// can be made to fail shows its calls only.
func openStore(_ int, o *Options) { o.Store = o.Store.(*faultyStore).Store }

// TestLookAround: any gateway knows of all gateways, and of clients wherever they
// are, with what only their gateway knows.
func TestLookAround(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	cl := newCluster(t, 2, openStore)
	c := join(t, cl.nodes[1], "far", durable(100))
	c.subscribe(1, "a", "b/+")
	join(t, cl.nodes[1], "live").subscribe(0, "a")
	join(t, cl.nodes[0], "near").subscribe(2, "$share/g/a")
	g := cl.nodes[0]
	nodes, err := g.Cluster(ctx)
	if err != nil || len(nodes) != 2 {
		t.Fatalf("%+v, %v", nodes, err)
	}
	for i, n := range nodes {
		if n.Figures == nil || n.Figures.Connections != int64(2-(1-i)) || n.Figures.NotReady != "" {
			t.Errorf("%s: %+v", n.ID, n.Figures)
		}
	}
	s, subs, err := g.DescribeClient(ctx, "far", 10)
	if err != nil || s == nil || s.Live == nil || s.Node != "g1" || s.Live.Subscriptions != 2 || len(subs) != 2 {
		t.Errorf("%+v %+v, %v", s, subs, err)
	}
	// The subscriptions of a session without inbox only its gateway knows.
	if _, subs, err := g.DescribeClient(ctx, "live", 10); err != nil || len(subs) != 1 || subs[0].Filter != "a" {
		t.Errorf("%+v, %v", subs, err)
	}
	if s, _, err := g.DescribeClient(ctx, "nobody", 10); s != nil || err != nil {
		t.Errorf("%+v, %v", s, err)
	}
	found, more, missing, err := g.Subscribers(ctx, "a", 10)
	var who []string
	for _, f := range found {
		who = append(who, fmt.Sprintf("%s at %s q%d %s", f.Client, f.Node, f.QoS, f.Filters))
	}
	slices.Sort(who)
	if want := []string{"far at g1 q1 [a]", "live at g1 q0 [a]", "near at g0 q2 [$share/g/a]"}; !slices.Equal(who, want) || more || len(missing) > 0 || err != nil {
		t.Errorf("got %q %v %v %v, want %q", who, more, missing, err, want)
	}
	if found, more, _, _ := g.Subscribers(ctx, "a", 2); len(found) != 2 || !more {
		t.Errorf("of at most two: %d, more %v", len(found), more)
	}
	if ok, err := g.Kick(ctx, "far"); !ok || err != nil {
		t.Errorf("Kick: %v, %v", ok, err)
	}
	c.expect("DISCONNECT 0x98", "closed")
	if ok, err := g.Kick(ctx, "nobody"); ok || err != nil {
		t.Errorf("Kick of nobody: %v, %v", ok, err)
	}
	if ok, err := g.DestroySession(ctx, "far"); !ok || err != nil {
		t.Errorf("DestroySession: %v, %v", ok, err)
	}
	if ok, err := g.DestroySession(ctx, "far"); ok || err != nil {
		t.Errorf("DestroySession again: %v, %v", ok, err)
	}
}

// TestAskDeaf: a gateway that does not hear makes the answer poorer, and takes no
// more than the time that is given to it.
func TestAskDeaf(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cl := newCluster(t, 2, openStore)
		join(t, cl.nodes[1], "far", durable(100)).subscribe(1, "a")
		cl.buses[0].fault(func(call string, about any) (bool, error) {
			n, ok := about.(backend.Notice)
			return call == "Notify" && ok && n.Kind == backend.NoticeAsk, nil
		})
		begin := time.Now()
		nodes, err := cl.nodes[0].Cluster(context.Background())
		if took := time.Since(begin); err != nil || took != askPatience {
			t.Errorf("after %v: %v", took, err)
		}
		for _, n := range nodes {
			if (n.Figures != nil) != (n.ID == "g0") {
				t.Errorf("%s: %+v", n.ID, n.Figures)
			}
		}
		if s, _, err := cl.nodes[0].DescribeClient(context.Background(), "far", 1); err != nil || s == nil || s.Live != nil || s.Node != "g1" {
			t.Errorf("%+v, %v", s, err)
		}
		_, _, missing, err := cl.nodes[0].Subscribers(context.Background(), "a", 10)
		if err != nil || !slices.Equal(missing, []backend.NodeID{"g1"}) {
			t.Errorf("missing %v, %v", missing, err)
		}
		if n := len(cl.nodes[0].asking.waiting); n > 0 {
			t.Errorf("%d questions are still waited for", n)
		}
	})
}

// TestQuestionsAreBounded: questions that come faster than they are answered are
// dropped, and neither they nor nonsense hold up the bus.
func TestQuestionsAreBounded(t *testing.T) {
	t.Parallel()
	g := &Gateway{}
	g.asking.questions = make(chan question, 2)
	ask := func(text string) {
		g.asked(&backend.Notice{Entry: backend.Entry{Message: &backend.Message{Payload: []byte(text)}}})
	}
	for range 5 {
		ask(`{"What":"status","From":"x"}`)
	}
	ask("nonsense")
	g.asked(&backend.Notice{})
	g.answered(&backend.Notice{})
	g.answered(&backend.Notice{Entry: backend.Entry{Message: &backend.Message{Payload: []byte(`{"ID":7}`)}}}) // nobody waits for it
	if n := len(g.asking.questions); n != 2 {
		t.Errorf("%d questions wait", n)
	}
}

// TestTrace: the packets of a traced client are in the log, of whatever gateway
// it is connected to, without payloads and passwords, until the trace ends.
func TestTrace(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	book := &logBook{}
	cl := newCluster(t, 2, openStore, func(_ int, o *Options) { o.Logger = slog.New(slog.NewTextHandler(book, nil)) })
	if missing, err := cl.nodes[0].Trace(ctx, "c", time.Minute); err != nil || len(missing) > 0 {
		t.Fatalf("missing %v, %v", missing, err)
	}
	c := join(t, cl.nodes[1], "c", func(p *protocol.Connect) {
		p.HasUsername, p.Username, p.HasPassword, p.Password = true, "u", true, []byte("PASSWORD")
	})
	c.subscribe(1, "topic/+")
	c.send(publish("topic/1", "PAYLOAD", 1, 9))
	got := []string{describe(c.next()), describe(c.next())}
	slices.Sort(got)
	c.send(ack(protocol.PUBACK, 1))
	c.ping()
	for _, want := range []string{"direction=in type=SUBSCRIBE", "filters=[topic/+]", "direction=in type=PUBLISH", "topic=topic/1 payload_bytes=7 qos=1 packet_id=9",
		"direction=out type=PUBACK", "direction=out type=PINGRESP"} {
		if !strings.Contains(book.String(), want) {
			t.Errorf("the log has no %q:\n%s", want, book)
		}
	}
	if s := book.String(); strings.Contains(s, "PAYLOAD") || strings.Contains(s, "PASSWORD") {
		t.Errorf("the log has a secret:\n%s", s)
	}
	if _, err := cl.nodes[0].Trace(ctx, "c", 0); err != nil {
		t.Fatal(err)
	}
	before := strings.Count(book.String(), "msg=trace")
	c.ping()
	if n := strings.Count(book.String(), "msg=trace"); n != before {
		t.Errorf("%d lines after the end", n-before)
	}
}

// TestTraceEnds: a trace ends when its time is over, also one of an hour that was
// asked for longer.
func TestTraceEnds(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		book := &logBook{}
		g := newCluster(t, 1, openStore, func(_ int, o *Options) { o.Logger = slog.New(slog.NewTextHandler(book, nil)) }).nodes[0]
		c := join(t, g, "c")
		if _, err := g.Trace(context.Background(), "c", 100*time.Hour); err != nil {
			t.Fatal(err)
		}
		c.ping()
		time.Sleep(maxTrace + time.Second)
		before := strings.Count(book.String(), "msg=trace")
		c.ping()
		if n := strings.Count(book.String(), "msg=trace"); before == 0 || n != before {
			t.Errorf("%d lines before the end, %d after", before, n-before)
		}
	})
}

// TestTraceLimit: one client too many is refused, and is traced nowhere; one that
// is traced already may be asked for again.
func TestTraceLimit(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	cl := newCluster(t, 2, openStore)
	for i := range maxTraced {
		if !cl.nodes[1].traceHere(backend.ClientID(fmt.Sprint(i)), time.Minute) {
			t.Fatalf("client %d is not traced", i)
		}
	}
	if _, err := cl.nodes[0].Trace(ctx, "more", time.Minute); !errors.Is(err, backend.ErrFull) {
		t.Errorf("got %v", err)
	}
	if !cl.nodes[0].tracedUntil("more").IsZero() {
		t.Error("it is traced all the same")
	}
	if _, err := cl.nodes[0].Trace(ctx, "7", time.Hour); err != nil {
		t.Errorf("again: %v", err)
	}
}

// TestBans: who is banned is kept out of every gateway, by any of the three
// kinds, until the ban ends or is taken back; who is there is disconnected.
func TestBans(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	cl := newCluster(t, 2, openStore)
	there := join(t, cl.nodes[1], "bad")
	user := func(name string) func(*protocol.Connect) {
		return func(p *protocol.Connect) { p.HasUsername, p.Username = true, name }
	}
	for _, b := range []backend.Ban{
		{Kind: backend.BanClient, Value: "bad", Reason: "it floods"},
		{Kind: backend.BanUser, Value: "mallory"},
		{Kind: backend.BanClient, Value: "past", Until: time.Now().Add(-time.Minute)},
	} {
		if err := cl.nodes[0].Ban(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	there.expect("DISCONNECT 0x98", "closed")
	for i, g := range cl.nodes {
		dial(t, g, connectPacket("bad")).expect("CONNACK 0x8A", "closed")
		dial(t, g, connectPacket(fmt.Sprint("x", i), user("mallory"))).expect("CONNACK 0x8A", "closed")
		join(t, g, "past")
		join(t, g, fmt.Sprint("y", i), user("alice"))
	}
	page, _, err := cl.nodes[1].Bans(ctx, "", 10)
	if err != nil || len(page) != 3 {
		t.Errorf("%+v, %v", page, err)
	}
	if existed, err := cl.nodes[1].Unban(ctx, backend.BanClient, "bad"); !existed || err != nil {
		t.Errorf("Unban: %v, %v", existed, err)
	}
	join(t, cl.nodes[0], "bad")
	if existed, err := cl.nodes[1].Unban(ctx, backend.BanClient, "bad"); existed || err != nil {
		t.Errorf("Unban again: %v, %v", existed, err)
	}
}

// TestBanNetworks: an address, or a network that it is in, whatever the form.
func TestBanNetworks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ban, from string
		in        bool
	}{
		{"192.0.2.1", "192.0.2.1:5", true},
		{"192.0.2.1", "192.0.2.2:5", false},
		{"192.0.2.99/24", "192.0.2.2:5", true},
		{"192.0.2.0/24", "[::ffff:192.0.2.2]:5", true},
		{"::ffff:192.0.2.1", "192.0.2.1:5", true},
		{"2001:db8::/32", "[2001:db8::1]:5", true},
		{"2001:db8::/32", "192.0.2.1:5", false},
		{"0.0.0.0/0", "203.0.113.9:5", true},
	} {
		l := newBanList(1)
		l.add(backend.Ban{Kind: backend.BanAddress, Value: c.ban})
		g := &Gateway{}
		g.bans.list.Store(l)
		if got := g.banned(&Client{Remote: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.from))}) != nil; got != c.in {
			t.Errorf("%s with %s banned: %v", c.from, c.ban, got)
		}
	}
}

// TestWrongBans: what can be no ban is refused with what is allowed, put or taken
// back.
func TestWrongBans(t *testing.T) {
	t.Parallel()
	g := newCluster(t, 1, openStore).nodes[0]
	for _, b := range []backend.Ban{
		{Kind: "foo", Value: "x"}, {Kind: backend.BanAddress, Value: "here"}, {Kind: backend.BanClient}, {Kind: backend.BanUser, Value: strings.Repeat("x", 65_536)},
	} {
		var wrong *ConfigError
		if err := g.Ban(context.Background(), b); !errors.As(err, &wrong) {
			t.Errorf("%s %.9q: %v", b.Kind, b.Value, err)
		}
	}
	for _, b := range []backend.Ban{{Kind: "foo", Value: "x"}, {Kind: backend.BanAddress, Value: "here"}} {
		var wrong *ConfigError
		if _, err := g.Unban(context.Background(), b.Kind, b.Value); !errors.As(err, &wrong) {
			t.Errorf("%s %q is taken back: %v", b.Kind, b.Value, err)
		}
	}
}
