package conformance

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// told checks a number in CONNACK.
func told(t *testing.T, c *wire.Client, id byte, want int) {
	t.Helper()
	if n, ok := c.Connack.Props.Int(id); !ok || n != want {
		t.Errorf("property 0x%02x is %d (%v), want %d", id, n, ok, want)
	}
}

// endsWith sends a packet on a connection of its own to g, which must answer
// with a DISCONNECT of that code.
func endsWith(t *testing.T, g *harness.Gateway, p wire.Packet, code byte) {
	t.Helper()
	c := wire.Dial(t, g.AnyTCP()).Connect(clean(unique("c")))
	c.Send(p)
	c.AwaitDisconnect(code)
}

// A server with a Maximum QoS says so, grants no more, takes no more, and
// still accepts subscriptions that ask for more [MQTT-3.2.2-9] to
// [MQTT-3.2.2-12].
func TestV5MaximumQoS(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.2.2-9", "MQTT-3.2.2-10", "MQTT-3.2.2-11", "MQTT-3.2.2-12", "MQTT-3.8.4-7", "MQTT-3.8.4-8")
	for maximum, env := range []string{"MQTT_MAX_QOS=0", "MQTT_MAX_QOS=1"} {
		t.Run(env, func(t *testing.T) {
			t.Parallel()
			g, topic := harness.Start(t, env), unique("t")
			c := wire.Dial(t, g.AnyTCP()).Connect(clean(unique("c")))
			told(t, c, wire.MaximumQoSID, maximum)
			most := byte(maximum)
			c.Send(wire.Subscribe{ID: 1, Filters: []wire.Filter{{Topic: topic, Options: 2}, {Topic: topic + "/1", Options: 1}, {Topic: topic + "/0"}}})
			if s := wire.Next[wire.Suback](c); !bytes.Equal(s.Codes, []byte{most, min(most, 1), 0}) {
				t.Errorf("%+v", s)
			}
			c.Publish(topic, most, "m")
			if m := receives(t, c, "m"); m.QoS != most {
				t.Errorf("%+v", m)
			}
			endsWith(t, g, wire.Publish{Topic: topic, QoS: most + 1, ID: 1}, qosNotSupported)
			p := willTo(topic)
			p.Will.QoS = most + 1
			wire.Dial(t, g.AnyTCP()).RefusedFor(p, qosNotSupported)
			p.Will.QoS = most
			wire.Dial(t, g.AnyTCP()).Connect(p)
		})
	}
}

// A server without retained messages, wildcards, subscription identifiers or
// shared subscriptions says so and refuses them with the code of each
// [MQTT-3.2.2-13] [MQTT-3.2.2-14].
func TestV5FeaturesOff(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.2.2-13", "MQTT-3.2.2-14")
	g := harness.Start(t, "MQTT_RETAIN_AVAILABLE=false", "MQTT_WILDCARD_AVAILABLE=false", "MQTT_SUBSCRIPTION_IDS_AVAILABLE=false",
		"MQTT_SHARED_AVAILABLE=false")
	topic := unique("t")
	c := wire.Dial(t, g.AnyTCP()).Connect(clean(unique("c")))
	for _, id := range []byte{wire.RetainAvailableID, wire.WildcardSubAvailableID, wire.SubscriptionIDAvailableID, wire.SharedSubAvailableID} {
		told(t, c, id, 0)
	}
	c.Subscribe(topic, 1)
	c.Publish(topic, 1, "m")
	receives(t, c, "m")

	endsWith(t, g, wire.Publish{Topic: topic, QoS: 1, ID: 1, Retain: true, Payload: "m"}, retainNotSupported)
	p := willTo(topic)
	p.Will.Retain = true
	wire.Dial(t, g.AnyTCP()).RefusedFor(p, retainNotSupported)
	for _, tc := range []struct {
		packet wire.Subscribe
		code   byte
	}{
		{wire.Sub(1, topic+"/#", 0), wildcardsNotSupported},
		{wire.Sub(1, "+/"+topic, 0), wildcardsNotSupported},
		{wire.Sub(1, "$share/g/"+topic, 0), sharedNotSupported},
		{wire.Subscribe{ID: 1, Props: wire.Props{subscriptionID(1)}, Filters: []wire.Filter{{Topic: topic}}}, subscriptionIDsForbidden},
	} {
		c := wire.Dial(t, g.AnyTCP()).Connect(clean(unique("c")))
		c.Send(tc.packet)
		switch p := c.Next().(type) { // §3.2.2.3 names DISCONNECT, §3.9.3 SUBACK
		case wire.Disconnect:
			if p.Code != tc.code {
				t.Errorf("%+v, want 0x%02x", p, tc.code)
			}
			c.ExpectClosed()
		case wire.Suback:
			if !bytes.Equal(p.Codes, []byte{tc.code}) {
				t.Errorf("%+v, want 0x%02x", p, tc.code)
			}
		default:
			t.Errorf("%+v", p)
		}
	}
}

// Limits of the server are told and enforced.
func TestV5Limits(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.2.2-15", "MQTT-3.2.2-17", "MQTT-3.2.2-18", "MQTT-3.3.4-7", "MQTT-3.1.2-28", "MQTT-4.1.0-2")
	g := harness.Start(t, "MQTT_RECEIVE_MAXIMUM=2", "MQTT_TOPIC_ALIAS_MAXIMUM=0", "MQTT_MAX_PACKET_SIZE=1KiB", "MQTT_SESSION_EXPIRY_MAX=1s",
		"MQTT_RESPONSE_INFORMATION=replies/", "MQTT_MAX_SUBSCRIPTIONS=2", "MQTT_WILL_DELAY_MAX=1s")
	topic := unique("t")
	p := clean(unique("c"), expiry(600), wire.ByteProp(wire.RequestResponseInfoID, 1))
	c := wire.Dial(t, g.AnyTCP()).Connect(p)
	told(t, c, wire.ReceiveMaximumID, 2)
	told(t, c, wire.MaximumPacketSizeID, 1024)
	told(t, c, wire.SessionExpiryID, 1)
	if n, _ := c.Connack.Props.Int(wire.TopicAliasMaximumID); n != 0 {
		t.Errorf("topic alias maximum %d, want 0", n)
	}
	if s, _ := c.Connack.Props.Text(wire.ResponseInfoID); s != "replies/"+p.ClientID {
		t.Errorf("response information %q", s)
	}
	if c := wire.Dial(t, g.AnyTCP()).Connect(clean(unique("c"))); c.Connack.Props.Has(wire.ResponseInfoID) {
		t.Errorf("response information without a request: %+v", c.Connack)
	}
	c.Subscribe(topic+"/1", 0)
	c.Subscribe(topic+"/2", 0)
	c.Send(wire.Sub(9, topic+"/3", 0))
	if s := wire.Next[wire.Suback](c); !bytes.Equal(s.Codes, []byte{0x97}) {
		t.Errorf("third subscription of two: %+v", s)
	}
	c.Subscribe(topic+"/1", 1) // replaces one

	for id := uint16(1); id <= 3; id++ {
		c.Send(wire.Publish{Topic: topic, QoS: 2, ID: id, Payload: "m"})
	}
	c.AwaitDisconnect(receiveMaximumExceeded)
	endsWith(t, g, message(topic, 0, "m", alias(1)), topicAliasInvalid)
	endsWith(t, g, message(topic, 0, long(1024)), packetTooLarge)
	time.Sleep(2200 * time.Millisecond) // only time ends the session
	if c := wire.Dial(t, g.AnyTCP()).Connect(again(p)); c.Connack.SessionPresent {
		t.Error("the session outlived the longest session expiry")
	}
}

// A keep alive above the server's is replaced by that, which is told and
// counts [MQTT-3.2.2-21]; so is none at all.
func TestV5KeepAliveReplaced(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.2.2-21", "MQTT-3.1.2-22")
	g := harness.Start(t, "MQTT_MAX_KEEPALIVE=1s")
	for _, asked := range []uint16{0, 60} {
		t.Run(fmt.Sprint(asked), func(t *testing.T) {
			t.Parallel()
			p := clean(unique("c"))
			p.KeepAlive = asked
			start := time.Now() // before the gateway's clock starts
			c := wire.Dial(t, g.AnyTCP()).Connect(p)
			told(t, c, wire.ServerKeepAliveID, 1)
			c.ExpectDisconnect(keepAliveTimeout)
			if d := time.Since(start); d < 1400*time.Millisecond || d > 15*time.Second {
				t.Errorf("closed after %v, want 1.5 s", d)
			}
		})
	}
}

// A connection that does not become one of MQTT is closed in time, however
// busy it is.
func TestV5ConnectTimeout(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.4-1")
	g := harness.Start(t, "MQTT_CONNECT_TIMEOUT=300ms")
	start := time.Now() // before the gateway's clock starts
	silent, slow := wire.Dial(t, g.AnyTCP()), wire.Dial(t, g.TCP)
	silent.ExpectClosedWithin(15 * time.Second)
	if d := time.Since(start); d < 250*time.Millisecond {
		t.Errorf("closed after %v, want 300 ms", d)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for _, b := range wire.Encode(clean(unique("c")), wire.V5)[:10] { // half a second
		<-tick.C
		slow.SendRaw([]byte{b})
	}
	slow.ExpectClosedWithin(15 * time.Second)
}

// Clients are told of a shutdown: 0x8B, or 0x9C with the server to use
// instead; what they had is published or kept as the standard says.
func TestV5Shutdown(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.14.2-1", "MQTT-3.14.4-2")
	for env, code := range map[string]byte{"MQTT_SERVER_REFERENCE=": 0x8B, "MQTT_SERVER_REFERENCE=other.example.com:1883": 0x9C} {
		t.Run(env, func(t *testing.T) {
			t.Parallel()
			g := harness.Start(t, env, "GATEWAY_DRAIN=100ms")
			c := wire.Dial(t, g.AnyTCP()).Connect(clean(unique("c")))
			g.Stop(t)
			d := c.AwaitDisconnect(code)
			if s, _ := d.Props.Text(wire.ServerReferenceID); code == 0x9C && s != "other.example.com:1883" {
				t.Errorf("server reference %q", s)
			}
		})
	}
}
