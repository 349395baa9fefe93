package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/memory"
	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/protocol"
)

// quiet keeps the log out of the examples' output.
var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// A complete broker inside a program.
func Example() {
	g, err := gateway.New(gateway.Options{
		Store:     memory.NewStore(memory.Options{}),
		Backend:   memory.NewBus().Gateway(),
		Listeners: []gateway.Listener{{Name: "tcp", Address: "127.0.0.1:0"}},
		Logger:    quiet,
		Timing:    gateway.Timing{Drain: -1},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := g.Start(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	c := dial(g.Addr("tcp"))
	fmt.Println("connected:", c.connect("greeter", "", ""))
	c.conn.Close()
	fmt.Println("stopped:", g.Shutdown(context.Background()))
	// Output:
	// connected: Success
	// stopped: <nil>
}

// A connection that the program accepted itself, here one end of a pipe.
func ExampleGateway_ServeConn() {
	g := start(gateway.Options{})
	defer g.Shutdown(context.Background())
	ours, theirs := net.Pipe()
	done := make(chan error)
	go func() { done <- g.ServeConn(context.Background(), theirs, "pipe") }()
	c := &client{conn: ours}
	fmt.Println(c.connect("piped", "", ""))
	ours.Close()
	fmt.Println(<-done)
	// Output:
	// Success
	// <nil>
}

// Who may connect.
func ExampleAuthenticator() {
	g := start(gateway.Options{
		Authenticator: gateway.AuthenticatorFunc(func(_ context.Context, r *gateway.ConnectRequest) (gateway.Identity, error) {
			if r.Client.Username == "ada" && string(r.Password) == "lovelace" {
				return gateway.Identity{Principal: "ada"}, nil
			}
			return gateway.Identity{}, gateway.ErrBadCredentials
		}),
	})
	defer g.Shutdown(context.Background())
	for _, password := range []string{"lovelace", "byron"} {
		c := dial(g.Addr("tcp"))
		fmt.Println(c.connect("engine", "ada", password))
		c.conn.Close()
	}
	// Output:
	// Success
	// Bad User Name or Password
}

// challenge is an authentication method of two steps: the client is told a
// number and has to answer with the next one.
type challenge struct{}

func (challenge) Begin(context.Context, *gateway.ConnectRequest) (gateway.Exchange, error) {
	return &exchange{}, nil
}

type exchange struct{ asked bool }

func (e *exchange) Next(_ context.Context, data []byte) ([]byte, *gateway.Identity, error) {
	if !e.asked {
		e.asked = true
		return []byte("41"), nil, nil
	}
	if string(data) != "42" {
		return nil, nil, gateway.ErrNotAuthorized
	}
	return []byte("welcome"), &gateway.Identity{Principal: "deep thought"}, nil
}

// An authentication method of MQTT 5.
func ExampleEnhancedAuthenticator() {
	g := start(gateway.Options{Enhanced: map[string]gateway.EnhancedAuthenticator{"NEXT-NUMBER": challenge{}}})
	defer g.Shutdown(context.Background())
	c := dial(g.Addr("tcp"))
	defer c.conn.Close()
	c.send(&protocol.Connect{Version: protocol.V5, CleanStart: true, ClientID: "c", AuthMethod: "NEXT-NUMBER", HasAuthMethod: true, RequestProblemInfo: true})
	asked := c.receive().(*protocol.Auth)
	fmt.Println("asked:", string(asked.Data))
	c.send(&protocol.Auth{Code: protocol.ContinueAuthentication, Method: "NEXT-NUMBER", Data: []byte("42"), HasData: true})
	ack := c.receive().(*protocol.Connack)
	fmt.Println(ack.Code, string(ack.AuthData))
	// Output:
	// asked: 41
	// Success welcome
}

// Who may do what.
func ExampleAuthorizer() {
	g := start(gateway.Options{
		Authorizer: gateway.AuthorizerFunc(func(_ context.Context, c *gateway.Client, a gateway.Access) error {
			if a.Action == gateway.Subscribe && strings.HasPrefix(a.Topic, string(c.ID)+"/") {
				return nil
			}
			return gateway.ErrNotAuthorized
		}),
	})
	defer g.Shutdown(context.Background())
	c := dial(g.Addr("tcp"))
	defer c.conn.Close()
	c.connect("mine", "", "")
	c.send(&protocol.Subscribe{PacketID: 1, Filters: []protocol.SubscribeFilter{{Filter: "mine/#"}, {Filter: "yours/#"}}})
	for i, code := range c.receive().(*protocol.Suback).Codes {
		fmt.Println(i, code)
	}
	// Output:
	// 0 Success
	// 1 Not authorized
}

// watcher writes down who comes and goes.
type watcher struct {
	mu   sync.Mutex
	seen []string
}

func (w *watcher) Events() gateway.EventKind {
	return gateway.EventConnected | gateway.EventSubscribed | gateway.EventReceived
}

func (w *watcher) Observe(e gateway.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e.Kind {
	case gateway.EventConnected:
		w.seen = append(w.seen, "connected "+string(e.Client.ID))
	case gateway.EventSubscribed:
		w.seen = append(w.seen, "subscribed "+e.Filter)
	case gateway.EventReceived:
		w.seen = append(w.seen, "received "+e.Message.Topic+" "+string(e.Message.Payload))
	}
}

// What happens.
func ExampleObserver() {
	w := &watcher{}
	g := start(gateway.Options{Observer: w})
	defer g.Shutdown(context.Background())
	c := dial(g.Addr("tcp"))
	defer c.conn.Close()
	c.connect("c", "", "")
	c.send(&protocol.Subscribe{PacketID: 1, Filters: []protocol.SubscribeFilter{{Filter: "t"}}})
	c.receive()
	c.send(&protocol.Publish{Topic: []byte("t"), Payload: []byte("hello")})
	c.receive()
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Println(strings.Join(w.seen, "\n"))
	// Output:
	// connected c
	// subscribed t
	// received t hello
}

// A message of the program's own.
func ExampleGateway_Publish() {
	g := start(gateway.Options{})
	defer g.Shutdown(context.Background())
	c := dial(g.Addr("tcp"))
	defer c.conn.Close()
	c.connect("c", "", "")
	c.send(&protocol.Subscribe{PacketID: 1, Filters: []protocol.SubscribeFilter{{Filter: "news/#", QoS: 1}}})
	c.receive()
	err := g.Publish(context.Background(), &backend.Message{Topic: "news/today", Payload: []byte("nothing new"), QoS: 1})
	p := c.receive().(*protocol.Publish)
	fmt.Println(err, string(p.Topic), string(p.Payload))
	// Output:
	// <nil> news/today nothing new
}

// What is wrong with a configuration, told apart from what fails.
func ExampleConfigError() {
	_, err := gateway.New(gateway.Options{
		Store:   memory.NewStore(memory.Options{}),
		Backend: memory.NewBus().Gateway(),
		Limits:  gateway.Limits{TopicLength: 70_000},
	})
	var wrong *gateway.ConfigError
	fmt.Println(errors.As(err, &wrong), wrong.Field, wrong.Value, wrong.Allowed)
	// Output:
	// true Limits.TopicLength 70000 1 to 65535
}

// start completes the options and starts a gateway on a free port.
func start(o gateway.Options) *gateway.Gateway {
	o.Store = memory.NewStore(memory.Options{})
	o.Backend = memory.NewBus().Gateway()
	o.Listeners = []gateway.Listener{{Name: "tcp", Address: "127.0.0.1:0"}}
	o.Logger = quiet
	o.Timing.Drain = -1
	g, err := gateway.New(o)
	if err == nil {
		err = g.Start(context.Background())
	}
	if err != nil {
		panic(err)
	}
	return g
}

// client is just enough of one for the examples.
type client struct {
	conn   net.Conn
	reader *protocol.Reader
}

func dial(to net.Addr) *client {
	conn, err := net.Dial(to.Network(), to.String())
	if err != nil {
		panic(err)
	}
	return &client{conn: conn}
}

func (c *client) send(p protocol.Packet) {
	b, err := protocol.AppendPacket(nil, p, protocol.V5)
	if err == nil {
		_, err = c.conn.Write(b)
	}
	if err != nil {
		panic(err)
	}
}

func (c *client) receive() protocol.Packet {
	if c.reader == nil {
		c.reader = protocol.NewReader(c.conn, 0)
	}
	p, err := c.reader.ReadPacket(protocol.V5)
	if err != nil {
		panic(err)
	}
	return p
}

// connect connects and returns the answer.
func (c *client) connect(id, user, password string) protocol.ReasonCode {
	p := &protocol.Connect{Version: protocol.V5, CleanStart: true, ClientID: id, RequestProblemInfo: true}
	if user != "" {
		p.Username, p.HasUsername = user, true
		p.Password, p.HasPassword = []byte(password), true
	}
	c.send(p)
	return c.receive().(*protocol.Connack).Code
}
