package security_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// limited is a gateway with limits that are reached at once.
type limited struct {
	*testing.T
	*harness.Gateway
}

// limits are those of docs/security.md by what counts them, and how somebody meets
// them. Rows with the same variables share a gateway.
var limits = []struct {
	env  string
	rows []limit
}{
	{"MQTT_MAX_CONNECT_SIZE=600 MQTT_MAX_PACKET_SIZE=512 MQTT_MAX_TOPIC_LENGTH=100 MQTT_MAX_TOPIC_LEVELS=4 MQTT_MAX_SUBSCRIPTIONS=2 " +
		"MQTT_RECEIVE_MAXIMUM=2 MQTT_INBOX_MESSAGES=2 MQTT_RETAINED_MAX=2 MQTT_MAX_KEEPALIVE=7s MQTT_SESSION_EXPIRY_MAX=90s MQTT_MESSAGE_EXPIRY_MAX=50s MQTT_WILL_DELAY_MAX=1s", []limit{
		{"refused connect_size", func(l *limited) { l.closed(wire.Connect{ClientID: strings.Repeat("x", 600), Clean: true}) }},
		{"refused packet_size", func(l *limited) {
			c := l.dial("c")
			c.Send(wire.Publish{Topic: "a", Payload: strings.Repeat("x", 600)})
			c.ExpectDisconnect(0x95)
		}},
		{"refused topic", func(l *limited) { l.topic(strings.Repeat("x", 101)) }}, {"refused topic", func(l *limited) { l.topic("a/b/c/d/e") }},
		{"refused subscriptions", func(l *limited) {
			for _, v := range []wire.Version{wire.V5, wire.V311} {
				c := wire.Dial(l.T, l.TCP).Connect(wire.Connect{Version: v, ClientID: "c", Clean: true})
				c.Subscribe("a", 0)
				c.Subscribe("b", 0)
				c.Subscribe("b", 1) // is there
				c.Send(wire.Sub(9, "c", 0))
				if got, want := wire.Next[wire.Suback](c).Codes[0], map[wire.Version]byte{wire.V5: 0x97, wire.V311: 0x80}[v]; got != want {
					l.Errorf("SUBACK %#x, want %#x", got, want)
				}
			}
		}},
		{"refused receive_maximum", func(l *limited) {
			c := l.dial("c")
			for id := uint16(1); id <= 3; id++ {
				c.Send(wire.Publish{Topic: "a", QoS: 2, ID: id})
			}
			wire.Next[wire.Ack](c)
			wire.Next[wire.Ack](c)
			c.ExpectDisconnect(0x93)
		}},
		{"messages_dropped inbox_full", func(l *limited) { l.inbox("x", "y") }},
		{"messages_dropped retained_full", func(l *limited) { l.retained("x") }},
		{"", func(l *limited) { // told, and not counted
			c := wire.Dial(l.T, l.TCP).Connect(wire.Connect{Version: wire.V5, ClientID: "c", KeepAlive: 60, Props: wire.Props{wire.U32Prop(wire.SessionExpiryID, 1000)}})
			for id, want := range map[byte]int{wire.ServerKeepAliveID: 7, wire.SessionExpiryID: 90} {
				if got, _ := c.Connack.Props.Int(id); got != want {
					l.Errorf("property %#x is %d, want %d", id, got, want)
				}
			}
			c.Subscribe("gone", 0)
			w := as("w", "w")
			w.Username, w.Password = nil, nil
			w.Will = &wire.Will{Topic: "gone", Props: wire.Props{wire.U32Prop(wire.WillDelayID, 3600)}}
			w.Props = wire.Props{wire.U32Prop(wire.SessionExpiryID, 80)}
			wire.Dial(l.T, l.TCP).Connect(w).Drop()
			if m := c.Receive(); m.Topic != "gone" { // after a second, not an hour
				l.Errorf("got %+v", m)
			} else if left, _ := m.Props.Int(wire.MessageExpiryID); left < 40 || left > 50 {
				l.Errorf("message expiry %d, want about 50", left)
			}
		}},
	}},
	{"MQTT_INBOX_BYTES=1KiB MQTT_RETAINED_BYTES=1KiB", []limit{
		{"messages_dropped inbox_full", func(l *limited) { l.inbox(strings.Repeat("x", 500), strings.Repeat("y", 500)) }},
		{"messages_dropped retained_full", func(l *limited) { l.retained(strings.Repeat("x", 450)) }},
	}},
	{"MQTT_MAX_CONNECTIONS=1", []limit{{"refused connections", (*limited).oneConnection}}},
	{"MQTT_MAX_CONNECTIONS_PER_ADDRESS=1", []limit{{"refused address_connections", (*limited).oneConnection}}},
	{"MQTT_ACCEPT_RATE_PER_ADDRESS=1 MQTT_CONNECT_TIMEOUT=60s", []limit{{"refused address_rate", func(l *limited) {
		eventually(l.T, "closed before a word", func() bool {
			c := wire.Dial(l.T, l.TCP)
			defer c.Drop()
			c.Send(wire.Connect{ClientID: "c", Clean: true})
			_, closed := c.NextOrClosed()
			return closed
		})
	}}}},
	{"MQTT_CONNECT_TIMEOUT=4s MQTT_CONNECT_RATE=1", []limit{
		{"refused connect_timeout", func(l *limited) { l.closed(nil) }},
		{"refused connect_rate", func(l *limited) {
			var all []*wire.Client
			for range 10 {
				c := wire.Dial(l.T, l.TCP)
				c.Send(wire.Connect{Version: wire.V5, ClientID: wire.Unique("c"), Clean: true})
				all = append(all, c)
			}
			late := 0
			for _, c := range all {
				if p, closed := c.NextOrClosed(); !closed && p.(wire.Connack).Code == 0x9F {
					late++
				}
			}
			if late == 0 {
				l.Error("nobody is told to come later (0x9F)")
			}
		}},
	}},
	{"MQTT_MAX_FLAPS=2 MQTT_FLAP_BAN=1h", []limit{{"refused flapping", func(l *limited) {
		for range 3 {
			l.dial("c").Disconnect()
		}
		eventually(l.T, "the ban", func() bool {
			c := wire.Dial(l.T, l.TCP)
			defer c.Drop()
			c.Send(wire.Connect{Version: wire.V5, ClientID: "c", Clean: true})
			return wire.Next[wire.Connack](c).Code == 0x9F
		})
		three := wire.Dial(l.T, l.TCP)
		three.Send(wire.Connect{ClientID: "c", Clean: true})
		if code := wire.Next[wire.Connack](three).Code; code != 3 {
			l.Errorf("MQTT 3: %d, want 3", code)
		}
		l.dial("another").Disconnect()
	}}}},
	{"MQTT_PUBLISH_RATE=2", []limit{{"refused publish_rate", func(l *limited) { l.slowed("x") }}}},
	{"MQTT_PUBLISH_BYTES=2000", []limit{{"refused publish_rate", func(l *limited) { l.slowed(strings.Repeat("x", 1000)) }}}},
}

type limit struct {
	counted string // the metric and its reason
	meet    func(*limited)
}

// TestLimits meets every limit: the answer is the one that the page says, and it
// is counted by its reason.
func TestLimits(t *testing.T) {
	t.Parallel()
	for _, tt := range limits {
		t.Run(tt.env[:strings.IndexByte(tt.env+" ", ' ')], func(t *testing.T) {
			t.Parallel()
			g := harness.Start(t, append(strings.Fields(tt.env), "MQTT_SYS_INTERVAL=0s", "AUTH_ANONYMOUS=true")...)
			for _, row := range tt.rows {
				t.Run(row.counted, func(t *testing.T) {
					metric, reason, _ := strings.Cut(row.counted, " ")
					count := func() int {
						n, _ := strconv.Atoi(g.Metric(t, "sluice_"+metric+`_total{reason="`+reason+`"}`))
						return n
					}
					before := count()
					row.meet(&limited{t, g})
					if row.counted != "" {
						eventually(t, "counted", func() bool { return count() > before })
					}
				})
			}
		})
	}
}

func (l *limited) dial(id string) *wire.Client {
	l.Helper()
	return wire.Dial(l.T, l.TCP).Connect(wire.Connect{Version: wire.V5, ClientID: id, Clean: true})
}

// closed sends something, or nothing, and wants no answer.
func (l *limited) closed(p wire.Packet) {
	l.Helper()
	c := wire.Dial(l.T, l.TCP)
	if p != nil {
		c.Send(p)
	}
	c.ExpectClosed()
}

func (l *limited) topic(name string) {
	l.Helper()
	c := l.dial("c")
	c.Send(wire.Publish{Topic: name, QoS: 1, ID: 1}, wire.Sub(2, name, 0))
	if code := wire.Next[wire.Ack](c).Code; code != 0x90 {
		l.Errorf("PUBACK %#x", code)
	}
	if code := wire.Next[wire.Suback](c).Codes[0]; code != 0x8F {
		l.Errorf("SUBACK %#x", code)
	}
}

// inbox: of messages for somebody who is away the first stay, and their publisher
// hears nothing of it.
func (l *limited) inbox(first, second string) {
	l.Helper()
	away := wire.Connect{Version: wire.V5, ClientID: "away", Props: wire.Props{wire.U32Prop(wire.SessionExpiryID, 60)}}
	s := wire.Dial(l.T, l.TCP).Connect(away)
	s.Subscribe("in", 1)
	s.Disconnect()
	p := l.dial("p")
	for _, text := range []string{first, second, "third", strings.Repeat("z", 400)} {
		p.Publish("in", 1, text)
	}
	s = wire.Dial(l.T, l.TCP).Connect(away)
	for _, want := range []string{first, second} {
		if m := s.Receive(); m.Payload != want {
			l.Errorf("got %.10q, want %.10q", m.Payload, want)
		}
	}
}

// retained: two messages of that size fit.
func (l *limited) retained(payload string) {
	l.Helper()
	c := l.dial("c")
	for i, want := range []byte{0x10, 0x10, 0x97} { // nobody subscribes
		c.Send(wire.Publish{Topic: "r/" + strconv.Itoa(i), QoS: 1, ID: 1, Retain: true, Payload: payload})
		if code := wire.Next[wire.Ack](c).Code; code != want {
			l.Errorf("retained message %d: %#x, want %#x", i+1, code, want)
		}
	}
	c.Publish("r/0", 0, "")
	c.PublishPacket(wire.Publish{Topic: "r/1", QoS: 1, Retain: true, Payload: "another"}) // in the place of one that is there
}

func (l *limited) oneConnection() {
	l.dial("first")
	wire.Dial(l.T, l.TCP).Refused(wire.Connect{Version: wire.V5, ClientID: "second", Clean: true}, 0x97)
	eventually(l.T, "the second is gone", func() bool { return l.Metric(l.T, "sluice_connections") == "1" })
	wire.Dial(l.T, l.TCP).Refused(wire.Connect{ClientID: "third", Clean: true}, 3)
}

// slowed: of six messages all come, and nothing more is read for two seconds.
func (l *limited) slowed(payload string) {
	s, p := l.dial("s"), l.dial("p")
	s.Subscribe("a", 0)
	begin := time.Now()
	for range 6 {
		p.Send(wire.Publish{Topic: "a", Payload: payload})
	}
	for range 6 {
		s.Receive()
	}
	p.Ping()
	if took := time.Since(begin); took < 1500*time.Millisecond {
		l.Errorf("six messages took %v", took)
	}
}
