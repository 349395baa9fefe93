package wire

import (
	"errors"
	"slices"
	"time"
)

// Bits of the subscription options byte of MQTT 5 (§3.8.3.1), beside the QoS.
// Without either of the last two, retained messages are sent at every
// SUBSCRIBE.
const (
	NoLocal           = 0x04
	RetainAsPublished = 0x08
	RetainIfNew       = 0x10
	RetainNever       = 0x20
)

// Await reads until a packet of a certain type comes and returns it. What
// comes before it is kept for later.
func Await[P Packet](c *Client) P {
	c.t.Helper()
	return await(c, func(P) bool { return true })
}

// AwaitAck reads until the acknowledgement of that type and identifier comes
// and returns it, whatever its reason code. What comes before it is kept for
// later.
func (c *Client) AwaitAck(t Type, id uint16) Ack {
	c.t.Helper()
	return await(c, func(a Ack) bool { return a.Type == t && a.ID == id })
}

// AwaitDisconnect expects a DISCONNECT with one of these reason codes, whatever
// the server sends before it, and then the end of the connection.
func (c *Client) AwaitDisconnect(codes ...byte) Disconnect {
	c.t.Helper()
	d := Await[Disconnect](c)
	if !slices.Contains(codes, d.Code) {
		c.t.Fatalf("wire: %s: got %T%+v, want a reason code of % x", c.name, d, d, codes)
	}
	c.early = nil
	c.ExpectClosed()
	return d
}

// Collect returns the messages that have come up to now, and completes their
// exchanges. It costs one round trip and does not wait for more.
func (c *Client) Collect() []Publish {
	c.t.Helper()
	c.Ping()
	var got []Publish
	c.early = slices.DeleteFunc(c.early, func(p Packet) bool {
		m, ok := p.(Publish)
		if ok {
			got = append(got, m)
		}
		return ok
	})
	for _, m := range got {
		c.acknowledge(m)
	}
	return got
}

// Speak sets the version of what follows, for a client that sends its CONNECT
// as raw bytes. It returns the client.
func (c *Client) Speak(v Version) *Client {
	c.version = v
	return c
}

// RefusedFor sends a CONNECT of MQTT 5, or a frame that stands for one, and
// does what ExpectRefused does.
func (c *Client) RefusedFor(p Packet, codes ...byte) Connack {
	c.t.Helper()
	c.Speak(V5).Send(p)
	return c.ExpectRefused(codes...)
}

// ExpectRefused expects a CONNACK with one of these reason codes and then the
// end of the connection. It returns the answer.
func (c *Client) ExpectRefused(codes ...byte) Connack {
	c.t.Helper()
	ack := Next[Connack](c)
	if !slices.Contains(codes, ack.Code) || ack.SessionPresent { // [MQTT-3.2.2-6]
		c.t.Fatalf("wire: %s: got %+v, want a reason code of % x and no session", c.name, ack, codes)
	}
	c.ExpectClosed() // [MQTT-3.2.2-7]
	return ack
}

// Poll waits for a packet for that long, and returns it without taking it; nil
// if none came.
func (c *Client) Poll(limit time.Duration) Packet {
	c.t.Helper()
	if len(c.early) == 0 {
		p, err := c.read(limit)
		if t := (*timeout)(nil); errors.As(err, &t) {
			return nil
		} else if err != nil {
			c.t.Fatalf("wire: %s: read: %v", c.name, err)
		}
		c.early = append(c.early, p)
	}
	return c.early[0]
}

// AwaitClosed reads until the server closes the connection, and returns what
// came before.
func (c *Client) AwaitClosed() []Packet {
	c.t.Helper()
	got := c.early
	c.early = nil
	for {
		p, closed := c.NextOrClosed()
		if closed {
			return got
		}
		got = append(got, p)
	}
}
