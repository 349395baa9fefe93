package clients_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/clients/line"
)

// connection is what every client can do. A method blocks until the server has
// acknowledged; events come from event.
type connection interface {
	// subscribe sends the filters in one packet, with a subscription identifier
	// if id is not 0, and returns the codes of the SUBACK.
	subscribe(id int, filters []line.Filter) ([]int, error)
	unsubscribe(filters []line.Filter) error
	publish(messages []line.Message) error
	// disconnect sends DISCONNECT. The reason is for MQTT 5.
	disconnect(reason int) error
	// kill ends the connection's process without warning.
	kill()
	event() (line.Report, error)
}

// client is a connection in a test: what must not fail ends the test.
type client struct {
	t       testing.TB
	variant variant
	conn    connection
	id      string
	answer  line.Report // of connect
}

// subscribe subscribes and expects every filter to be granted at its QoS.
func (c *client) subscribe(filters ...line.Filter) {
	c.t.Helper()
	c.subscribeAs(0, filters...)
}

// subscribeAs is subscribe with a subscription identifier.
func (c *client) subscribeAs(id int, filters ...line.Filter) {
	c.t.Helper()
	var want []int
	for _, f := range filters {
		want = append(want, f.QoS)
	}
	if got, err := c.conn.subscribe(id, filters); err != nil || !slices.Equal(got, want) {
		c.t.Fatalf("%s: subscribe %v: granted %v, want %v; error %v", c.variant, filters, got, want, err)
	}
}

func (c *client) unsubscribe(filters ...line.Filter) {
	c.t.Helper()
	if err := c.conn.unsubscribe(filters); err != nil {
		c.t.Fatalf("%s: unsubscribe: %v", c.variant, err)
	}
}

func (c *client) publish(messages ...line.Message) {
	c.t.Helper()
	if err := c.conn.publish(messages); err != nil {
		c.t.Fatalf("%s: publish: %v", c.variant, err)
	}
}

func (c *client) disconnect() {
	c.t.Helper()
	if err := c.conn.disconnect(0); err != nil {
		c.t.Fatalf("%s: disconnect: %v", c.variant, err)
	}
}

func (c *client) event() line.Report {
	c.t.Helper()
	r, err := c.conn.event()
	if err != nil {
		c.t.Fatalf("%s (%s): %v", c.variant, c.id, err)
	}
	return r
}

// receive waits for the next message.
func (c *client) receive() line.Message {
	c.t.Helper()
	r := c.event()
	if r.Message == nil {
		c.t.Fatalf("%s (%s): got event up=%v down=%v reason=%d, want a message", c.variant, c.id, r.Up, r.Down, r.Reason)
	}
	return *r.Message
}

// expect waits for the next messages, which must be these, properties aside.
func (c *client) expect(want ...line.Message) {
	c.t.Helper()
	for i, w := range want {
		got := c.receive()
		got.Properties, w.Properties = nil, nil
		if !same(got, w) {
			c.t.Fatalf("%s (%s): message %d of %d is %s, want %s", c.variant, c.id, i+1, len(want), show(got), show(w))
		}
	}
}

// expectDown waits for the connection's end and returns the server's reason.
func (c *client) expectDown() int {
	c.t.Helper()
	r := c.event()
	if !r.Down {
		c.t.Fatalf("%s (%s): got %+v, want the end of the connection", c.variant, c.id, r)
	}
	return r.Reason
}

func same(a, b line.Message) bool {
	return a.Topic == b.Topic && a.QoS == b.QoS && a.Retain == b.Retain && a.Dup == b.Dup && bytes.Equal(a.Payload, b.Payload)
}
