package auth

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/memory"
	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/protocol"
)

// patience is what a client waits for an answer on a busy machine.
const patience = 30 * time.Second

// start starts a gateway with a listener "tcp".
func start(t testing.TB, change ...func(*gateway.Options)) *gateway.Gateway {
	t.Helper()
	o := gateway.Options{
		Store: memory.NewStore(memory.Options{}), Backend: memory.NewBus().Gateway(), Logger: slog.New(slog.DiscardHandler),
		Listeners: []gateway.Listener{{Name: "tcp", Address: "127.0.0.1:0"}},
		Timing:    gateway.Timing{Sys: -1, Drain: -1},
	}
	for _, f := range change {
		f(&o)
	}
	g, err := gateway.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := g.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
	return g
}

// client speaks MQTT to a gateway.
type client struct {
	t  testing.TB
	nc net.Conn
	r  *protocol.Reader
	v  protocol.Version
}

// connect sends CONNECT; its answer is the next packet.
func connect(t testing.TB, g *gateway.Gateway, id string, change ...func(*protocol.Connect)) *client {
	t.Helper()
	nc, err := net.Dial("tcp", g.Addr("tcp").String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	p := &protocol.Connect{Version: protocol.V5, CleanStart: true, ClientID: id, RequestProblemInfo: true}
	for _, f := range change {
		f(p)
	}
	c := &client{t: t, nc: nc, r: protocol.NewReader(nc, 0), v: p.Version}
	c.send(p)
	return c
}

// join connects and wants to be let in.
func join(t testing.TB, g *gateway.Gateway, id string, change ...func(*protocol.Connect)) *client {
	t.Helper()
	c := connect(t, g, id, change...)
	if a, ok := c.next().(*protocol.Connack); !ok || a.Code != protocol.Success {
		t.Fatalf("%s is not let in: %+v", id, a)
	}
	return c
}

func as(user, pass string) func(*protocol.Connect) {
	return func(p *protocol.Connect) {
		p.Username, p.HasUsername = user, true
		p.Password, p.HasPassword = []byte(pass), pass != ""
	}
}

func v3(p *protocol.Connect) { p.Version, p.RequestProblemInfo = protocol.V311, false }

func durable(p *protocol.Connect) {
	p.CleanStart, p.SessionExpiry, p.HasSessionExpiry = false, 1000, true
}

func (c *client) send(packets ...protocol.Packet) {
	c.t.Helper()
	for _, p := range packets {
		b, err := protocol.AppendPacket(nil, p, c.v)
		if err != nil {
			c.t.Fatal(err)
		}
		if _, err := c.nc.Write(b); err != nil {
			c.t.Fatal(err)
		}
	}
}

// next is the next packet, nil if the connection is closed.
func (c *client) next() protocol.Packet {
	c.t.Helper()
	c.nc.SetReadDeadline(time.Now().Add(patience))
	p, err := c.r.ReadPacket(c.v)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		c.t.Fatal("nothing came")
	}
	if err != nil {
		return nil
	}
	return p
}

// expect wants these packets, as show shows them.
func (c *client) expect(want ...string) {
	c.t.Helper()
	for _, w := range want {
		if got := show(c.next()); got != w {
			c.t.Fatalf("got %s, want %s", got, w)
		}
	}
}

// quiet wants nothing to have been sent: what comes next is the answer to this.
func (c *client) quiet() {
	c.t.Helper()
	c.send(&protocol.Pingreq{})
	c.expect("PINGRESP")
}

func show(p protocol.Packet) string {
	switch p := p.(type) {
	case nil:
		return "closed"
	case *protocol.Publish:
		s := fmt.Sprintf("PUBLISH %s %s", p.Topic, p.Payload)
		if p.Retain {
			s += " retained"
		}
		return s
	case *protocol.Ack:
		return fmt.Sprintf("%v 0x%02X", p.Kind, byte(p.Code))
	case *protocol.Connack:
		return fmt.Sprintf("CONNACK 0x%02X", byte(p.Code))
	case *protocol.Disconnect:
		return fmt.Sprintf("DISCONNECT 0x%02X", byte(p.Code))
	case *protocol.Suback:
		return fmt.Sprintf("SUBACK % X", p.Codes)
	case *protocol.Auth:
		return fmt.Sprintf("AUTH 0x%02X %s", byte(p.Code), p.Data)
	}
	return p.Type().String()
}

func publish(topic, payload string, qos byte, retain bool) *protocol.Publish {
	return &protocol.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: qos, PacketID: uint16(min(qos, 1)), Retain: retain}
}

func subscribe(qos byte, filters ...string) *protocol.Subscribe {
	p := &protocol.Subscribe{PacketID: 1}
	for _, f := range filters {
		p.Filters = append(p.Filters, protocol.SubscribeFilter{Filter: f, QoS: qos})
	}
	return p
}

func message(topic string) *backend.Message {
	return &backend.Message{Topic: topic, Payload: []byte("x")}
}
