package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/protocol"
)

// patience is how long a test waits for what must come. It is never waited for
// in a test that passes.
const patience = 20 * time.Second

// client is an MQTT client that does nothing by itself: it sends what the test
// tells it to and hands over what comes, in order, to expect.
type client struct {
	t       testing.TB
	nc      net.Conn
	v       protocol.Version
	packets chan protocol.Packet // closed at the end of the stream
	valve   *valve
}

// maxUnread bounds what comes before the test looks at it.
const maxUnread = 1 << 14

// newClient reads from nc until the end of the stream or of the test.
func newClient(t testing.TB, nc net.Conn, v protocol.Version) *client {
	c := &client{t: t, nc: nc, v: v, packets: make(chan protocol.Packet, maxUnread), valve: newValve(nc)}
	t.Cleanup(func() { c.valve.open(); nc.Close() })
	go func() { // ends with the stream
		defer close(c.packets)
		defer nc.Close()
		r := protocol.NewReader(c.valve, 0)
		for {
			p, err := r.ReadPacket(v)
			if err != nil {
				var fault *protocol.Error
				if errors.As(err, &fault) {
					t.Errorf("the gateway sent what is no packet: %v", err)
				}
				return
			}
			c.packets <- p
		}
	}()
	return c
}

// valve is a stream that can be stopped: then nothing is read from the socket,
// but for a Read that waits already.
type valve struct {
	r  io.Reader
	mu sync.Mutex
	on chan struct{} // closed while open
}

func newValve(r io.Reader) *valve {
	on := make(chan struct{})
	close(on)
	return &valve{r: r, on: on}
}

func (v *valve) stop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.on = make(chan struct{})
}

func (v *valve) open() {
	v.mu.Lock()
	defer v.mu.Unlock()
	select {
	case <-v.on:
	default:
		close(v.on)
	}
}

func (v *valve) Read(b []byte) (int, error) {
	v.mu.Lock()
	on := v.on
	v.mu.Unlock()
	<-on
	return v.r.Read(b)
}

// stop makes the client leave its socket full, resume ends that.
func (c *client) stop()   { c.valve.stop() }
func (c *client) resume() { c.valve.open() }

// send writes packets in one piece.
func (c *client) send(ps ...protocol.Packet) {
	c.t.Helper()
	var b []byte
	for _, p := range ps {
		var err error
		if b, err = protocol.AppendPacket(b, p, c.v); err != nil {
			c.t.Fatalf("%T: %v", p, err)
		}
	}
	c.write(b)
}

func (c *client) write(b []byte) {
	c.t.Helper()
	c.nc.SetWriteDeadline(time.Now().Add(patience))
	if _, err := c.nc.Write(b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// next returns the next packet, nil at the end of the stream.
func (c *client) next() protocol.Packet {
	c.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case p := <-c.packets:
		return p
	case <-timeout.C:
		c.t.Fatal("nothing comes")
		return nil
	}
}

// expect checks what comes next, in the words of [describe].
func (c *client) expect(want ...string) {
	c.t.Helper()
	for i, w := range want {
		if got := describe(c.next()); got != w {
			c.t.Fatalf("packet %d is %q, want %q", i, got, w)
		}
	}
}

// ping proves that nothing else was on its way: what the gateway had for the
// client when it answers came before the answer.
func (c *client) ping() {
	c.t.Helper()
	c.send(&protocol.Pingreq{})
	c.expect("PINGRESP")
}

// goodbye ends the connection as a client does.
func (c *client) goodbye() {
	c.t.Helper()
	c.send(&protocol.Disconnect{})
	c.expect("closed")
}

// cut ends the connection without a word and waits until the gateway knows.
func (c *client) cut() {
	c.t.Helper()
	c.nc.Close()
	for range c.packets {
	}
}

// describe puts a packet into a few words: what a test of the gateway wants to
// know of it. The end of the stream is "closed".
func describe(p protocol.Packet) string {
	switch p := p.(type) {
	case nil:
		return "closed"
	case *protocol.Publish:
		s := fmt.Sprintf("PUBLISH %s=%s", p.Topic, short(p.Payload))
		if p.QoS > 0 {
			s += fmt.Sprintf(" q%d #%d", p.QoS, p.PacketID)
		}
		if p.Dup {
			s += " dup"
		}
		if p.Retain {
			s += " retained"
		}
		return s
	case *protocol.Ack:
		return withCode(fmt.Sprintf("%v #%d", p.Kind, p.PacketID), p.Code)
	case *protocol.Connack:
		s := "CONNACK"
		if p.SessionPresent {
			s += " present"
		}
		return withCode(s, p.Code)
	case *protocol.Suback:
		return fmt.Sprintf("SUBACK #%d%s", p.PacketID, codeList(p.Codes))
	case *protocol.Unsuback:
		return fmt.Sprintf("UNSUBACK #%d%s", p.PacketID, codeList(p.Codes))
	case *protocol.Disconnect:
		return withCode("DISCONNECT", p.Code)
	case *protocol.Auth:
		return fmt.Sprintf("AUTH 0x%02X %s", byte(p.Code), p.Data)
	}
	return p.Type().String()
}

// short is a payload, or its length if it is long.
func short(payload []byte) string {
	if len(payload) > 40 {
		return fmt.Sprintf("(%d bytes)", len(payload))
	}
	return string(payload)
}

func withCode(s string, code protocol.ReasonCode) string {
	if code == protocol.Success {
		return s
	}
	return fmt.Sprintf("%s 0x%02X", s, byte(code))
}

func codeList(codes []protocol.ReasonCode) string {
	var s strings.Builder
	for _, c := range codes {
		fmt.Fprintf(&s, " 0x%02X", byte(c))
	}
	return s.String()
}

// connectPacket is a CONNECT with clean start and without anything else.
func connectPacket(id string, change ...func(*protocol.Connect)) *protocol.Connect {
	p := &protocol.Connect{Version: protocol.V5, CleanStart: true, ClientID: id, RequestProblemInfo: true}
	for _, f := range change {
		f(p)
	}
	return p
}

// durable asks for a session that lives for the given seconds, and resumes one.
func durable(expiry uint32) func(*protocol.Connect) {
	return func(p *protocol.Connect) {
		p.CleanStart = false
		p.SessionExpiry, p.HasSessionExpiry = expiry, true
	}
}

// v311 makes it a client of MQTT 3.1.1.
func v311(p *protocol.Connect) { p.Version = protocol.V311 }

func keepAlive(seconds uint16) func(*protocol.Connect) {
	return func(p *protocol.Connect) { p.KeepAlive = seconds }
}

func receiveMaximum(n uint16) func(*protocol.Connect) {
	return func(p *protocol.Connect) { p.ReceiveMaximum = n }
}

func will(w protocol.Will) func(*protocol.Connect) {
	return func(p *protocol.Connect) { p.Will = &w }
}

// publish is a PUBLISH; one with QoS 1 or 2 has the identifier id.
func publish(topic, payload string, qos byte, id uint16) *protocol.Publish {
	return &protocol.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: qos, PacketID: id}
}

func retained(topic, payload string, qos byte, id uint16) *protocol.Publish {
	p := publish(topic, payload, qos, id)
	p.Retain = true
	return p
}

func subscribePacket(id uint16, qos byte, filters ...string) *protocol.Subscribe {
	p := &protocol.Subscribe{PacketID: id}
	for _, f := range filters {
		p.Filters = append(p.Filters, protocol.SubscribeFilter{Filter: f, QoS: qos})
	}
	return p
}

func ack(kind protocol.Type, id uint16) *protocol.Ack { return &protocol.Ack{Kind: kind, PacketID: id} }

// subscribe subscribes and waits for success.
func (c *client) subscribe(qos byte, filters ...string) {
	c.t.Helper()
	c.send(subscribePacket(1, qos, filters...))
	c.expect("SUBACK #1" + strings.Repeat(fmt.Sprintf(" 0x%02X", qos), len(filters)))
}

// pipe hands one end of a connection in memory to the gateway and returns the
// other.
func pipe(t testing.TB, g *Gateway) net.Conn {
	ours, theirs := net.Pipe()
	go g.ServeConn(context.Background(), theirs, "pipe") // ends with the connection
	t.Cleanup(func() { ours.Close() })
	return ours
}

// dial connects and returns the client before CONNACK has come.
func dial(t testing.TB, g *Gateway, p *protocol.Connect) *client {
	t.Helper()
	c := newClient(t, pipe(t, g), p.Version)
	c.send(p)
	return c
}

// join connects a client and waits for CONNACK with success.
func join(t testing.TB, g *Gateway, id string, change ...func(*protocol.Connect)) *client {
	t.Helper()
	c := dial(t, g, connectPacket(id, change...))
	c.expect("CONNACK")
	return c
}

// rejoin connects a client and waits for the CONNACK of a resumed session.
func rejoin(t testing.TB, g *Gateway, id string, change ...func(*protocol.Connect)) *client {
	t.Helper()
	c := dial(t, g, connectPacket(id, append([]func(*protocol.Connect){durable(3600)}, change...)...))
	c.expect("CONNACK present")
	return c
}
