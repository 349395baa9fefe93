package conformance

import (
	"net"
	"strings"
	"testing"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// The reason codes that the tests name (MQTT 5, table 2-6).
const (
	disconnectWithWill       = 0x04
	noMatchingSubscribers    = 0x10
	noSubscriptionExisted    = 0x11
	reauthenticate           = 0x19
	unspecifiedError         = 0x80
	malformedPacket          = 0x81
	protocolError            = 0x82
	implementationError      = 0x83
	notAuthorized            = 0x87
	badAuthMethod            = 0x8C
	keepAliveTimeout         = 0x8D
	sessionTakenOver         = 0x8E
	topicFilterInvalid       = 0x8F
	topicNameInvalid         = 0x90
	packetIDInUse            = 0x91
	packetIDNotFound         = 0x92
	receiveMaximumExceeded   = 0x93
	topicAliasInvalid        = 0x94
	packetTooLarge           = 0x95
	retainNotSupported       = 0x9A
	qosNotSupported          = 0x9B
	sharedNotSupported       = 0x9E
	subscriptionIDsForbidden = 0xA1
	wildcardsNotSupported    = 0xA2
)

// never is the session expiry interval of a session that does not expire.
const never = 0xFFFFFFFF

// covers5 says that the running test proves these statements of MQTT 5.0.
func covers5(t *testing.T, ids ...string) {
	t.Helper()
	covers(t, "5.0", ids...)
}

// join connects a new client of MQTT 5 whose session ends with its connection.
func join(t *testing.T, props ...wire.Prop) *wire.Client {
	t.Helper()
	return dial(t).Connect(clean(unique("c"), props...))
}

// clean is a CONNECT with Clean Start.
func clean(id string, props ...wire.Prop) wire.Connect {
	return wire.Connect{Version: wire.V5, ClientID: id, Clean: true, Props: props}
}

// resume is a CONNECT without Clean Start for a session that is kept for as
// long as any test takes.
func resume(id string, props ...wire.Prop) wire.Connect {
	return wire.Connect{Version: wire.V5, ClientID: id, Props: append([]wire.Prop{expiry(600)}, props...)}
}

// again is the same CONNECT without Clean Start.
func again(p wire.Connect) wire.Connect {
	p.Clean = false
	return p
}

// expiry is the Session Expiry Interval in seconds.
func expiry(seconds uint32) wire.Prop { return wire.U32Prop(wire.SessionExpiryID, seconds) }

// message is a PUBLISH.
func message(topic string, qos byte, payload string, props ...wire.Prop) wire.Publish {
	return wire.Publish{Topic: topic, QoS: qos, Payload: payload, Props: props}
}

// receives expects a message with that payload next, completes its exchange and
// returns it.
func receives(t *testing.T, c *wire.Client, payload string) wire.Publish {
	t.Helper()
	p := c.Receive()
	if p.Payload != payload {
		t.Fatalf("got %+v, want payload %q", p, payload)
	}
	return p
}

// rounds runs a test of its own, in parallel, for each QoS.
func rounds(t *testing.T, f func(t *testing.T, qos byte)) {
	t.Helper()
	for qos := range byte(3) {
		t.Run("qos"+string('0'+rune(qos)), func(t *testing.T) {
			t.Parallel()
			f(t, qos)
		})
	}
}

// meter finds the largest packet that is read from a connection.
type meter struct {
	net.Conn
	unseen  []byte // read, and not yet a whole packet
	largest int
}

func (m *meter) Read(b []byte) (int, error) {
	n, err := m.Conn.Read(b)
	m.unseen = append(m.unseen, b[:n]...)
	for {
		length, header := 0, 1
		for shift := 0; ; shift += 7 {
			if header == len(m.unseen) || len(m.unseen) == 0 {
				return n, err
			}
			d := m.unseen[header]
			length |= int(d&0x7f) << shift
			if header++; d < 0x80 {
				break
			}
		}
		if len(m.unseen) < header+length {
			return n, err
		}
		m.largest = max(m.largest, header+length)
		m.unseen = m.unseen[header+length:]
	}
}

// dialLimited is dial for a client whose Maximum Packet Size is to be kept
// [MQTT-3.1.2-24]: the test fails when anything larger comes.
func dialLimited(t *testing.T, maximum int) *wire.Client {
	t.Helper()
	conn, err := net.DialTimeout("tcp", harness.Shared(t).AnyTCP(), wire.Timeout)
	if err != nil {
		t.Fatal(err)
	}
	m := &meter{Conn: conn}
	c := wire.New(t, m)
	t.Cleanup(func() {
		if m.largest > maximum {
			t.Errorf("a packet of %d bytes came for a maximum of %d", m.largest, maximum)
		}
	})
	return c
}

// clustered reports whether clients are spread over several gateways.
func clustered(t *testing.T) bool {
	t.Helper()
	g := harness.Shared(t)
	for range 50 {
		if g.AnyTCP() != g.TCP {
			return true
		}
	}
	return false
}

// badStrings are byte sequences that no UTF-8 string may hold
// [MQTT-1.5.4-1] [MQTT-1.5.4-2].
var badStrings = map[string]string{
	"NUL":               "a\x00b",
	"overlong slash":    "a\xc0\xafb",
	"overlong NUL":      "a\xc0\x80b",
	"low surrogate":     "a\xed\xa0\x80b",
	"high surrogate":    "a\xed\xbf\xbfb",
	"lone continuation": "a\x80b",
	"cut sequence":      "a\xe2\x82",
	"above U+10FFFF":    "a\xf4\x90\x80\x80b",
	"five bytes":        "a\xf8\x88\x80\x80\x80b",
	"0xFF":              "a\xffb",
}

// long is a text of n bytes.
func long(n int) string { return strings.Repeat("x", n) }
