package wire

import (
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"syscall"
	"time"
)

// Next expects a packet of a certain type and returns it.
func Next[P Packet](c *Client) P {
	c.t.Helper()
	got := c.Next()
	p, ok := got.(P)
	if !ok {
		var want P
		c.t.Fatalf("wire: %s: got %T%+v, want %T", c.name, got, got, want)
	}
	return p
}

// Next expects a packet of any type and returns it.
func (c *Client) Next() Packet {
	c.t.Helper()
	if len(c.early) > 0 {
		p := c.early[0]
		c.early = c.early[1:]
		return p
	}
	return c.fresh()
}

// Expect expects exactly these packets next, in this order.
func (c *Client) Expect(want ...Packet) {
	c.t.Helper()
	for _, w := range want {
		if got := c.Next(); !reflect.DeepEqual(got, w) {
			c.t.Fatalf("wire: %s: got  %T%+v\nwant %T%+v", c.name, got, got, w, w)
		}
	}
}

// ExpectNothing expects that the server has nothing to say but the answer to a
// PINGREQ, which costs one round trip and no waiting. A message on its way
// from another connection is caught only if it was there first: publish
// another one behind it and expect that instead.
func (c *Client) ExpectNothing() {
	c.t.Helper()
	c.Send(Pingreq{})
	c.Expect(Pingresp{})
}

// ExpectClosed expects that the server closes the connection without sending
// anything more.
func (c *Client) ExpectClosed() {
	c.t.Helper()
	c.ExpectClosedWithin(Timeout)
}

// ExpectClosedWithin is ExpectClosed with a limit of its own.
func (c *Client) ExpectClosedWithin(limit time.Duration) {
	c.t.Helper()
	if len(c.early) > 0 {
		c.t.Fatalf("wire: %s: got %T%+v, want the connection closed", c.name, c.early[0], c.early[0])
	}
	if p, err := c.read(limit); err == nil {
		c.t.Fatalf("wire: %s: got %T%+v, want the connection closed", c.name, p, p)
	} else if !closedByPeer(err) {
		c.t.Fatalf("wire: %s: want the connection closed: %v", c.name, err)
	}
}

// ExpectDisconnect expects a 5.0 DISCONNECT with that reason code and then the
// end of the connection, and returns the packet.
func (c *Client) ExpectDisconnect(code byte) Disconnect {
	c.t.Helper()
	d := Next[Disconnect](c)
	if d.Code != code {
		c.t.Fatalf("wire: %s: got %T%+v, want reason code 0x%02x", c.name, d, d, code)
	}
	c.ExpectClosed()
	return d
}

// Refused sends a CONNECT and expects it to be refused with that code and the
// connection to be closed. It returns the answer.
func (c *Client) Refused(p Connect, code byte) Connack {
	c.t.Helper()
	c.Send(p)
	ack := Next[Connack](c)
	if ack.Code != code || ack.SessionPresent {
		c.t.Fatalf("wire: %s: got %+v, want code 0x%02x and no session", c.name, ack, code)
	}
	c.ExpectClosed()
	return ack
}

// await reads until a packet fits, and keeps the others for later.
func await[P Packet](c *Client, fits func(P) bool) P {
	c.t.Helper()
	for i, e := range c.early {
		if p, ok := e.(P); ok && fits(p) {
			c.early = append(c.early[:i:i], c.early[i+1:]...)
			return p
		}
	}
	for {
		got := c.fresh()
		if p, ok := got.(P); ok && fits(p) {
			return p
		}
		c.early = append(c.early, got)
	}
}

func (c *Client) awaitAck(t Type, id uint16) {
	c.t.Helper()
	a := await(c, func(a Ack) bool { return a.Type == t && a.ID == id })
	if a.Code >= 0x80 {
		c.t.Fatalf("wire: %s: got %+v", c.name, a)
	}
}

// fresh reads a packet off the connection that is not to be ignored.
func (c *Client) fresh() Packet {
	c.t.Helper()
	for {
		p, err := c.read(Timeout)
		if err != nil {
			c.t.Fatalf("wire: %s: read: %v", c.name, err)
		}
		m, ok := p.(Publish)
		if !ok || c.Ignore == nil || !c.Ignore(m) {
			return p
		}
		c.acknowledge(m)
	}
}

func (c *Client) read(limit time.Duration) (Packet, error) {
	c.conn.SetReadDeadline(time.Now().Add(limit))
	p, err := Read(c.in, c.version)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, &timeout{limit}
	}
	return p, err
}

// drain reads until the server closes the connection.
func (c *Client) drain() {
	c.t.Helper()
	for {
		if _, err := c.read(Timeout); closedByPeer(err) {
			c.early = nil
			return
		} else if err != nil {
			c.t.Fatalf("wire: %s: want the connection closed: %v", c.name, err)
		}
	}
}

type timeout struct{ limit time.Duration }

func (t *timeout) Error() string { return "nothing came for " + t.limit.String() }

// closedByPeer tells the end of a connection from a fault in what was read. A
// reset counts: a server may close while bytes of ours are still unread.
func closedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed)
}

// NextOrClosed expects a packet of any type or the end of the connection.
func (c *Client) NextOrClosed() (p Packet, closed bool) {
	c.t.Helper()
	if len(c.early) > 0 {
		return c.Next(), false
	}
	p, err := c.read(Timeout)
	if closedByPeer(err) {
		return nil, true
	}
	if err != nil {
		c.t.Fatalf("wire: %s: read: %v", c.name, err)
	}
	return p, false
}
