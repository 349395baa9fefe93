package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/memory"
	"github.com/sluice-mqtt/sluice/protocol"
)

// TestOptions: New names every field with a value that is not allowed, all at
// once, and takes the zero value for the default.
func TestOptions(t *testing.T) {
	t.Parallel()
	good := func() Options {
		return plainOptions(memory.NewStore(memory.Options{}), memory.NewBus().Gateway())
	}
	three := byte(3)
	for field, change := range map[string]func(o *Options){
		"Store":                    func(o *Options) { o.Store = nil },
		"Backend":                  func(o *Options) { o.Backend = nil },
		"GapPolicy":                func(o *Options) { o.GapPolicy = "pray" },
		"DeniedPublish":            func(o *Options) { o.DeniedPublish = "ignore" },
		"Listeners[0].Name":        func(o *Options) { o.Listeners = []Listener{{Address: "127.0.0.1:0"}} },
		"Listeners[1].Name":        func(o *Options) { o.Listeners = []Listener{{Name: "a"}, {Name: "a"}} },
		"Limits.Connections":       func(o *Options) { o.Limits.Connections = -1 },
		"Limits.PacketSize":        func(o *Options) { o.Limits.PacketSize = 255 },
		"Limits.ConnectPacketSize": func(o *Options) { o.Limits.ConnectPacketSize = 268_435_461 },
		"Limits.TopicLength":       func(o *Options) { o.Limits.TopicLength = 65_536 },
		"Limits.TopicLevels":       func(o *Options) { o.Limits.TopicLevels = -1 },
		"Limits.TopicAliases":      func(o *Options) { o.Limits.TopicAliases = 65_536 },
		"Limits.TopicAliasesOut":   func(o *Options) { o.Limits.TopicAliasesOut = 65_536 },
		"Limits.OutboxBytes":       func(o *Options) { o.Limits.OutboxBytes = 4095 },
		"Limits.OutboxMessages":    func(o *Options) { o.Limits.OutboxMessages = -1 },
		"Limits.MaximumQoS":        func(o *Options) { o.Limits.MaximumQoS = &three },
		"Limits.KeepAlive":         func(o *Options) { o.Limits.KeepAlive = 65_536 * time.Second },
		"Timing.Connect":           func(o *Options) { o.Timing.Connect = -1 },
		"Timing.Write":             func(o *Options) { o.Timing.Write = -1 },
		"Timing.Lease":             func(o *Options) { o.Timing.Lease = -1 },
		"Timing.DrainDelay":        func(o *Options) { o.Timing.DrainDelay = -1 },
		"Timing.Store":             func(o *Options) { o.Timing.Store = -1 },
		"Timing.Hold":              func(o *Options) { o.Timing.Hold = -1 },
		"Timing.Poll":              func(o *Options) { o.Timing.Poll = -1 },
	} {
		o := good()
		change(&o)
		g, err := New(o)
		var fault *ConfigError
		if g != nil || !errors.As(err, &fault) || fault.Field != field || fault.Allowed == "" {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := New(good()); err != nil {
		t.Errorf("defaults: %v", err)
	}
	all := good()
	all.Store, all.GapPolicy, all.Limits.OutboxBytes, all.Timing.Hold = nil, "pray", -1, -time.Second
	_, err := New(all)
	for _, field := range []string{"Store", "GapPolicy", "Limits.OutboxBytes", "Timing.Hold"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not named in %v", field, err)
		}
	}
}

// brokenBus is a Backend that can not start.
type brokenBus struct{ backend.Backend }

func (brokenBus) Start(context.Context, backend.NodeID, backend.Handler) error {
	return backend.ErrUnavailable
}

// TestStartFails: what keeps a gateway from starting is named by its type, and
// leaves nothing behind: the node has left the store, ports are free.
func TestStartFails(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { busy.Close() })
	for _, tt := range []struct {
		name   string
		change func(o *Options, s *faultyStore)
		field  string // of a ConfigError
		from   string // of an ExtensionError
	}{
		{"port in use", func(o *Options, _ *faultyStore) {
			o.Listeners = []Listener{{Name: "free", Address: "127.0.0.1:0"}, {Name: "busy", Address: busy.Addr().String()}}
		}, "listener busy", ""},
		{"no address", func(o *Options, _ *faultyStore) {
			o.Listeners = []Listener{{Name: "odd", Address: "nowhere"}}
		}, "listener odd", ""},
		{"store", func(_ *Options, s *faultyStore) { s.away() }, "", "Store"},
		{"bus", func(o *Options, _ *faultyStore) { o.Backend = brokenBus{o.Backend} }, "", "Backend"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &faultyStore{Store: memory.NewStore(memory.Options{})}
			o := plainOptions(s, memory.NewBus().Gateway())
			o.ID = "g"
			tt.change(&o, s)
			g, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			err = g.Run(context.Background())
			var config *ConfigError
			var extension *ExtensionError
			switch {
			case tt.field != "" && (!errors.As(err, &config) || config.Field != tt.field || config.Cause == nil):
				t.Errorf("%v, want a ConfigError of %s", err, tt.field)
			case tt.from != "" && (!errors.As(err, &extension) || extension.Extension != tt.from || !errors.Is(err, backend.ErrUnavailable)):
				t.Errorf("%v, want an ExtensionError of %s", err, tt.from)
			}
			s.mend()
			if err := s.Renew(context.Background(), "g"); !errors.Is(err, backend.ErrFenced) {
				t.Errorf("the node is still in the store: %v", err)
			}
			if a := g.Addr("free"); a != nil {
				if l, err := net.Listen("tcp", a.String()); err != nil {
					t.Errorf("a listener is left open: %v", err)
				} else {
					l.Close()
				}
			}
		})
	}
}

// TestLife goes through the states of a gateway.
func TestLife(t *testing.T) {
	t.Parallel()
	o := plainOptions(memory.NewStore(memory.Options{}), memory.NewBus().Gateway())
	o.Listeners = []Listener{{Name: "tcp", Address: "127.0.0.1:0"}}
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	serve := func() error {
		ours, theirs := net.Pipe()
		defer ours.Close()
		err := g.ServeConn(context.Background(), theirs, "x")
		if _, werr := ours.Write([]byte{0}); werr == nil {
			t.Error("the connection is open")
		}
		return err
	}
	if g.Ready() == nil || g.Addr("tcp") != nil || !errors.Is(serve(), ErrStopped) || !errors.Is(g.Shutdown(context.Background()), ErrStopped) {
		t.Error("a gateway that was not started does something")
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }() // ends with stop
	eventually(t, "ready", func() bool { return g.Ready() == nil })
	if err := g.Start(context.Background()); err == nil {
		t.Error("started twice")
	}
	if g.Addr("udp") != nil {
		t.Error("an address of a listener that is not there")
	}
	address := g.Addr("tcp").String()
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, nc, protocol.V5)
	c.send(connectPacket("c"))
	c.expect("CONNACK")
	// One that says nothing does not delay the end.
	silent, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	eventually(t, "two connections", func() bool { return g.Stats().Connections == 2 })

	stop()
	c.expect("DISCONNECT 0x8B", "closed")
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, err := net.Dial("tcp", address); err == nil {
		t.Error("the port is still open")
	}
	if !errors.Is(g.Ready(), ErrStopped) || !errors.Is(serve(), ErrStopped) || g.Shutdown(context.Background()) != nil || g.Start(context.Background()) == nil {
		t.Error("a gateway that was stopped does something")
	}
	if n := g.Stats().Connections; n != 0 {
		t.Errorf("%d connections are left", n)
	}
}

// TestServeConnContext: the end of its context ends a connection.
func TestServeConnContext(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	ours, theirs := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.ServeConn(ctx, theirs, "mine") }() // ends with cancel
	c := newClient(t, ours, protocol.V5)
	c.send(connectPacket("c"))
	c.expect("CONNACK")
	cancel()
	c.expect("DISCONNECT 0x8B", "closed")
	if err := <-done; err != nil {
		t.Errorf("ServeConn: %v", err)
	}
}

// TestShutdownDeadline: when the context of Shutdown ends, the rest is closed at
// once, whatever it is waiting for.
func TestShutdownDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGateway(t, func(o *Options) { o.Timing.Drain = time.Hour })
		var all []*client
		for _, id := range []string{"a", "b", "c"} {
			all = append(all, join(t, g, id))
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		start := time.Now()
		if err := g.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if took := time.Since(start); took > 5*time.Second+2*lingerTime {
			t.Errorf("Shutdown took %v", took)
		}
		for _, c := range all {
			c.cut()
		}
	})
}

// TestShutdownTwice: a second call returns when everything is over, not before.
func TestShutdownTwice(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cl := newCluster(t, 1, func(_ int, o *Options) { o.Timing.Drain = 10 * time.Second })
		g := cl.nodes[0]
		for _, id := range []string{"a", "b", "c"} {
			join(t, g, id)
		}
		cl.stores[0].fault(func(call string) error {
			if call == "Leave" {
				time.Sleep(time.Second)
			}
			return nil
		})
		start := time.Now()
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				if err := g.Shutdown(context.Background()); err != nil || !errors.Is(g.Ready(), ErrStopped) {
					t.Errorf("Shutdown returned %v after %v, and the gateway is %v", err, time.Since(start), g.Ready())
				}
			})
		}
		both.Wait()
	})
}

// TestPanicOfStore: a panic while one client's packets are handled ends that
// connection and no other; it is counted, and logged with the stack (F07).
func TestPanicOfStore(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	cl := newCluster(t, 1, func(_ int, o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError}))
	})
	g := cl.nodes[0]
	good := join(t, g, "good")
	good.subscribe(0, "a")
	for i, tt := range []struct {
		call   string
		packet protocol.Packet
	}{
		{"Append", publish("a", "x", 1, 1)},
		{"Retain", retained("a", "", 1, 1)},
		{"Subscribe", subscribePacket(1, 1, "b")},
		{"Forget", ack(protocol.PUBREL, 1)},
	} {
		c := join(t, g, "c", durable(1000))
		if tt.call == "Forget" {
			c.send(publish("b", "", 2, 1))
			c.expect("PUBREC #1 0x10")
		}
		cl.stores[0].fault(func(call string) error {
			if call == tt.call {
				panic("the store has a fault")
			}
			return nil
		})
		c.send(tt.packet)
		c.expect("DISCONNECT 0x80", "closed")
		cl.stores[0].mend()
		eventually(t, "the session is released", func() bool { return g.clients.get("c") == nil })
		good.send(publish("a", "fine", 0, 0))
		good.expect("PUBLISH a=fine")
		if n := g.Stats().Panics; n != uint64(i+1) {
			t.Errorf("%s: %d panics are counted, want %d", tt.call, n, i+1)
		}
		back := dial(t, g, connectPacket("c", func(p *protocol.Connect) { p.CleanStart = true }))
		back.expect("CONNACK")
		back.goodbye()
	}
	if s := log.String(); strings.Count(s, "panic while serving a client") != 4 || !strings.Contains(s, "life_test.go") {
		t.Errorf("the log does not tell where: %s", s)
	}
}

// TestPanicOfPump: the same holds for what goes on behind the packets of a
// client: its inbox and its retained messages are read in other goroutines (F07).
func TestPanicOfPump(t *testing.T) {
	t.Parallel()
	cl := newCluster(t, 2)
	g := cl.nodes[0]
	good := join(t, g, "good")
	c := join(t, g, "c", durable(1000))
	c.subscribe(1, "a")
	cl.stores[0].fault(func(call string) error {
		if call == "Fetch" {
			panic("the store has a fault")
		}
		return nil
	})
	cl.buses[1].fault(func(call string, _ any) (bool, error) { return call == "Notify", nil })
	p := join(t, cl.nodes[1], "p")
	p.send(publish("a", "x", 1, 1))
	p.expect("PUBACK #1")
	(&handler{g: g}).HandleGap(errors.New("too slow"))
	c.expect("DISCONNECT 0x80", "closed")
	cl.stores[0].mend()
	good.ping()
	eventually(t, "the session is released", func() bool { return g.clients.get("c") == nil })
	rejoin(t, g, "c").expect("PUBLISH a=x q1 #1")
	if n := g.Stats().Panics; n != 1 {
		t.Errorf("%d panics are counted", n)
	}
}

// TestPublishOfProgram: messages of the embedding program take the same way as
// those of clients; with QoS 1 they are stored when Publish returns.
func TestPublishOfProgram(t *testing.T) {
	t.Parallel()
	cl := newCluster(t, 2)
	s := join(t, cl.nodes[1], "s", durable(1000))
	s.subscribe(1, "a", "r")
	s.cut()
	eventually(t, "its session is released", func() bool { return cl.nodes[1].clients.get("s") == nil })
	live := join(t, cl.nodes[1], "live")
	live.subscribe(2, "a")
	ctx := context.Background()
	for _, m := range []*backend.Message{{Topic: "a", Payload: []byte("1"), QoS: 1}, {Topic: "r", Payload: []byte("2"), QoS: 1, Retain: true}} {
		if err := cl.nodes[0].Publish(ctx, m); err != nil {
			t.Errorf("Publish: %v", err)
		}
	}
	live.expect("PUBLISH a=1 q1 #1")
	s = rejoin(t, cl.nodes[0], "s")
	s.expect("PUBLISH a=1 q1 #1", "PUBLISH r=2 q1 #2")
	var fault *protocol.Error
	if err := cl.nodes[0].Publish(ctx, &backend.Message{Topic: "a/#"}); !errors.As(err, &fault) {
		t.Errorf("a topic with a wildcard: %v", err)
	}
	cl.stores[0].away()
	if err := cl.nodes[0].Publish(ctx, &backend.Message{Topic: "a", QoS: 1}); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("with the store away: %v", err)
	}
}
