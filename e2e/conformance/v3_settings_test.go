package conformance

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// own starts a gateway with settings of its own and returns how to connect.
func own(t *testing.T, env ...string) (*harness.Gateway, func(wire.Connect) *wire.Client) {
	t.Helper()
	g := harness.Start(t, env...)
	return g, func(p wire.Connect) *wire.Client {
		t.Helper()
		return wire.Dial(t, g.AnyTCP()).Connect(p)
	}
}

// [MQTT-3.8.3-2]: a server told to do without wildcards refuses filters that
// have them, and only those.
func TestV3NoWildcards(t *testing.T) {
	t.Parallel()
	_, connect := own(t, "MQTT_WILDCARD_AVAILABLE=false")
	covers311(t, "MQTT-3.8.3-2", "MQTT-3.8.4-5")
	c := connect(clean3(wire.V311))
	c.Send(wire.Subscribe{ID: 1, Filters: []wire.Filter{{Topic: "a/+"}, {Topic: "a", Options: 1}, {Topic: "#"}}})
	c.Expect(wire.Suback{ID: 1, Codes: []byte{0x80, 1, 0x80}})
	c.Publish("a", 1, "x")
	c.Publish("a/b", 1, "y")
	if got := c.Receive(); got.Topic != "a" {
		t.Errorf("got %+v", got)
	}
	c.ExpectNothing()
}

// [MQTT-3.8.4-5]: a server with a lower QoS grants that. What is published
// above it can not be answered, and ends the connection.
func TestV3MaximumQoS(t *testing.T) {
	t.Parallel()
	_, connect := own(t, "MQTT_MAX_QOS=1")
	covers311(t, "MQTT-3.8.4-5", "MQTT-3.8.4-6")
	c := connect(clean3(wire.V311))
	c.Send(wire.Subscribe{ID: 1, Filters: []wire.Filter{{Topic: "a", Options: 2}, {Topic: "b", Options: 1}, {Topic: "c"}}})
	c.Expect(wire.Suback{ID: 1, Codes: []byte{1, 1, 0}})
	c.Publish("a", 1, "x")
	if got := c.Receive(); got.QoS != 1 {
		t.Errorf("got %+v", got)
	}
	c.Send(wire.Publish{Topic: "a", QoS: 2, ID: 9})
	c.ExpectClosed()
}

// [MQTT-4.7.2-1] with topics of clients.
func TestV3DollarPublish(t *testing.T) {
	t.Parallel()
	_, connect := own(t, "MQTT_DOLLAR_PUBLISH=true", "MQTT_SYS_INTERVAL=0s")
	covers311(t, "MQTT-4.7.2-1")
	wide, named, pub := connect(clean3(wire.V311)), connect(clean3(wire.V311)), connect(clean3(wire.V311))
	for _, filter := range []string{"#", "+/a", "+/#", "/#", "+/+"} {
		wide.Subscribe(filter, 1)
	}
	for _, filter := range []string{"$x/#", "$x/+", "$x/a"} {
		named.Subscribe(filter, 1)
	}
	pub.PublishPacket(wire.Publish{Topic: "$x/a", QoS: 1, Retain: true, Payload: "x"})
	pub.Publish("x/a", 1, "not $")
	if got := named.Receive(); got.Topic != "$x/a" {
		t.Errorf("got %+v", got)
	}
	named.ExpectNothing()
	if got := wide.Receive(); got.Topic != "x/a" {
		t.Errorf("got %+v", got)
	}
	late := connect(clean3(wire.V311))
	late.Subscribe("#", 1)
	late.Subscribe("+/a", 1)
	late.ExpectNothing()
	late.Subscribe("$x/+", 1)
	if got := late.Receive(); got.Topic != "$x/a" || !got.Retain {
		t.Errorf("got %+v", got)
	}
}

// [MQTT-3.3.5-2]: the other answer to a PUBLISH that is not allowed.
func TestV3PublishNotAllowedCloses(t *testing.T) {
	t.Parallel()
	_, connect := own(t, "AUTH_DENIED_PUBLISH=disconnect")
	covers311(t, "MQTT-3.3.5-2")
	for qos := range byte(3) {
		c := connect(clean3(wire.V311))
		c.Send(wire.Publish{Topic: "$SYS/forged", QoS: qos, ID: 1})
		c.ExpectClosed()
	}
}

// A subscription above the limit is refused; to repeat one is not above it.
func TestV3TooManySubscriptions(t *testing.T) {
	t.Parallel()
	_, connect := own(t, "MQTT_MAX_SUBSCRIPTIONS=2")
	covers311(t, "MQTT-3.8.4-5")
	c := connect(clean3(wire.V311))
	c.Subscribe("a", 1)
	c.Send(wire.Subscribe{ID: 9, Filters: []wire.Filter{{Topic: "b", Options: 1}, {Topic: "c", Options: 1}, {Topic: "a", Options: 2}}})
	c.Expect(wire.Suback{ID: 9, Codes: []byte{1, 0x80, 2}})
	c.Unsubscribe("b")
	c.Subscribe("c", 1)
}

// A session of 3.x has no expiry of its own: the server's setting ends it.
func TestV3SessionExpiry(t *testing.T) {
	t.Parallel()
	_, connect := own(t, "MQTT_SESSION_EXPIRY_V3=3s")
	covers311(t, "MQTT-4.1.0-2")
	id := unique("c")
	connect(durable(wire.V311, id)).Disconnect()
	if c := connect(durable(wire.V311, id)); !c.Connack.SessionPresent {
		t.Fatal("the session is gone at once")
	} else {
		time.Sleep(3200 * time.Millisecond) // longer than the expiry: [MQTT-4.1.0-2] wants the session to live as long as its connection
		c.Disconnect()
	}
	if c := connect(durable(wire.V311, id)); !c.Connack.SessionPresent {
		t.Error("the session did not last as long as its connection")
	} else {
		c.Disconnect()
	}
	time.Sleep(3200 * time.Millisecond)
	if c := connect(durable(wire.V311, id)); c.Connack.SessionPresent {
		t.Error("the session outlived its expiry")
	}
}

// Who does not say CONNECT in time is closed, however busy he is about it, and
// gives his place back.
func TestV3SlowConnect(t *testing.T) {
	t.Parallel()
	const limit = 1500 * time.Millisecond
	g, connect := own(t, fmt.Sprint("MQTT_CONNECT_TIMEOUT=", limit), "MQTT_MAX_CONNECTIONS=6")
	ws := strings.TrimSuffix(strings.TrimPrefix(g.WS, "ws://"), "/mqtt")
	hello := wire.Encode(clean3(wire.V311), wire.V311)
	tests := map[string]struct {
		addr string
		send func(conn net.Conn, i int) // again and again
	}{
		"silence":            {g.TCP, func(net.Conn, int) {}},
		"one byte at a time": {g.TCP, func(c net.Conn, i int) { c.Write(hello[min(i, len(hello)-2):][:1]) }},
		"slow upgrade": {ws, func(c net.Conn, i int) {
			c.Write([]byte("GET /mqtt HTTP/1.1\r\nX-Very-Long-Header: xxxxxxxx")[i%40:][:1])
		}},
		"upgraded, silence": {"", func(net.Conn, int) {}},
	}
	t.Run("all", func(t *testing.T) {
		for name, tt := range tests {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				start := time.Now()
				var c *wire.Client
				if tt.addr == "" {
					c = wire.DialWS(t, g.AnyWS(t))
				} else {
					c = wire.Dial(t, tt.addr)
				}
				tick := time.NewTicker(limit / 20)
				defer tick.Stop()
				closed := make(chan struct{})
				go func() { // ends with the connection
					defer close(closed)
					b := make([]byte, 512)
					for {
						if _, err := c.Conn().Read(b); err != nil {
							return
						}
					}
				}()
				for i := 0; ; i++ {
					select {
					case <-tick.C:
						tt.send(c.Conn(), i)
						if time.Since(start) > limit+wire.Timeout {
							t.Fatal("still open")
						}
						continue
					case <-closed:
					}
					break
				}
				if d := time.Since(start); d < limit-50*time.Millisecond {
					t.Errorf("closed after %v", d)
				}
			})
		}
	})
	for range 6 {
		connect(clean3(wire.V311))
	}
}
