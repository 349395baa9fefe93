package wire

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"net"
	"strings"
	"testing"
	"time"
)

// Timeout limits every wait for the server. It is long because it only costs
// time when a test fails.
const Timeout = 20 * time.Second

// Client is one connection to a server. It is not safe for concurrent use.
type Client struct {
	// Connack is the server's answer, once Connect has returned.
	Connack Connack
	// Ignore, if not nil, names messages that the other methods do not see
	// (they are acknowledged when read). For subscriptions so wide that they
	// hear what other tests publish.
	Ignore func(Publish) bool

	t       testing.TB
	conn    net.Conn
	in      *bufio.Reader
	version Version
	name    string   // of the client, for messages of failed tests
	early   []Packet // read while waiting for something else, in order
	lastID  uint16
}

// Dial opens a TCP connection, closed when the test ends. Nothing is sent.
func Dial(t testing.TB, addr string) *Client {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, Timeout)
	if err != nil {
		t.Fatalf("wire: %v", err)
	}
	return New(t, conn)
}

// New makes a client of any connection, closed when the test ends.
func New(t testing.TB, conn net.Conn) *Client {
	t.Cleanup(func() { conn.Close() })
	return &Client{t: t, conn: conn, in: bufio.NewReader(conn), version: V311, name: "client"}
}

// Unique returns a name that no other test uses, for client identifiers and
// topics. It is at most 23 bytes long if the prefix is at most 10.
func Unique(prefix string) string {
	return prefix + "-" + strings.ToLower(rand.Text()[:12])
}

// Send writes a packet. The version is that of the last Connect sent.
func (c *Client) Send(packets ...Packet) {
	c.t.Helper()
	var b []byte
	for _, p := range packets {
		switch p := p.(type) {
		case Connect:
			c.version, c.name = p.level(), "client "+p.ClientID
		case Spoiled:
			c.version, c.name = p.level(), "client "+p.ClientID
		}
		b = append(b, Encode(p, c.version)...)
	}
	c.SendRaw(b)
}

// SendRaw writes bytes as they are. That the server has closed the connection
// already is no failure: [Client.ExpectClosed] is there to say so.
func (c *Client) SendRaw(b []byte) {
	c.t.Helper()
	c.conn.SetWriteDeadline(time.Now().Add(Timeout))
	if _, err := c.conn.Write(b); err != nil && !closedByPeer(err) {
		c.t.Fatalf("wire: %s: write: %v", c.name, err)
	}
}

// SendHex writes bytes given in hexadecimal; blanks are for the reader's eye.
func (c *Client) SendHex(s string) {
	c.t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		c.t.Fatalf("wire: %v", err)
	}
	c.SendRaw(b)
}

// Connect opens a session and expects it to be accepted. It returns the
// client, so that it can follow Dial.
func (c *Client) Connect(p Connect) *Client {
	c.t.Helper()
	c.Send(p)
	c.Connack = Next[Connack](c)
	if c.Connack.Code != 0 {
		c.t.Fatalf("wire: %s: refused: %+v", c.name, c.Connack)
	}
	return c
}

// Subscribe asks for one filter and expects it to be granted with the QoS
// asked for. Messages that come meanwhile are kept for later.
func (c *Client) Subscribe(filter string, options byte) {
	c.t.Helper()
	id := c.NextID()
	c.Send(Sub(id, filter, options))
	ack := await(c, func(p Suback) bool { return p.ID == id })
	if len(ack.Codes) != 1 || ack.Codes[0] != options&3 {
		c.t.Fatalf("wire: %s: subscribe %q with options %d: %+v", c.name, filter, options, ack)
	}
}

// Unsubscribe ends a subscription and expects the answer.
func (c *Client) Unsubscribe(filter string) {
	c.t.Helper()
	id := c.NextID()
	c.Send(Unsub(id, filter))
	await(c, func(p Unsuback) bool { return p.ID == id })
}

// Publish sends a message and completes the exchange of its QoS. A 5.0 reason
// code of failure fails the test.
func (c *Client) Publish(topic string, qos byte, payload string) {
	c.t.Helper()
	c.PublishPacket(Publish{Topic: topic, QoS: qos, Payload: payload})
}

// PublishPacket is Publish for a message with more to say. A QoS above 0
// without an identifier is given one.
func (c *Client) PublishPacket(p Publish) {
	c.t.Helper()
	if p.QoS > 0 && p.ID == 0 {
		p.ID = c.NextID()
	}
	c.Send(p)
	switch p.QoS {
	case 1:
		c.awaitAck(PUBACK, p.ID)
	case 2:
		c.awaitAck(PUBREC, p.ID)
		c.Send(Pubrel(p.ID))
		c.awaitAck(PUBCOMP, p.ID)
	}
}

// NextID returns a packet identifier that this client has not used yet.
func (c *Client) NextID() uint16 {
	c.lastID++
	return c.lastID
}

// Receive expects a message next and completes the exchange of its QoS. Other
// messages that come before the PUBREL of a QoS 2 exchange are kept for later.
func (c *Client) Receive() Publish {
	c.t.Helper()
	p := Next[Publish](c)
	c.acknowledge(p)
	return p
}

func (c *Client) acknowledge(p Publish) {
	c.t.Helper()
	switch p.QoS {
	case 1:
		c.Send(Puback(p.ID))
	case 2:
		c.Send(Pubrec(p.ID))
		c.awaitAck(PUBREL, p.ID)
		c.Send(Pubcomp(p.ID))
	}
}

// Ping makes sure that the server has read everything sent so far. Messages
// that come meanwhile are kept for later.
func (c *Client) Ping() {
	c.t.Helper()
	c.Send(Pingreq{})
	await(c, func(Pingresp) bool { return true })
}

// Disconnect ends the connection in order and waits until the server has
// closed it. What the server still sent is lost.
func (c *Client) Disconnect() {
	c.t.Helper()
	c.Send(Disconnect{})
	c.drain()
}

// Drop closes the connection without a word to the server.
func (c *Client) Drop() { c.conn.Close() }

// Conn is the connection below, for tests of deadlines and half-closing.
func (c *Client) Conn() net.Conn { return c.conn }
