package conformance

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// Topics deeper than the server goes: a PUBLISH can not be answered in 3.x and
// ends the connection.
func TestV3TooDeep(t *testing.T) {
	t.Parallel()
	if harness.Shared(t).External() {
		t.Skip("the limits of another broker are not known")
	}
	watcher := join3(t, wire.V311)
	watcher.Ignore = func(m wire.Publish) bool { return !strings.HasPrefix(m.Topic, "///") }
	watcher.Subscribe("#", 0)
	for qos := range byte(3) {
		c := join3(t, wire.V311)
		c.Send(wire.Publish{Topic: strings.Repeat("/", 65535), QoS: qos, ID: 1})
		c.ExpectClosed()
	}
	p := clean3(wire.V311)
	p.Will = &wire.Will{Topic: strings.Repeat("/", 65535)}
	c := dial(t)
	c.Send(p)
	if got, closed := c.NextOrClosed(); !closed {
		if ack, ok := got.(wire.Connack); !ok || ack.Code == 0 {
			t.Errorf("got %T%+v", got, got)
		}
		c.ExpectClosed()
	}
	watcher.ExpectNothing()
}

// A client of 3.x can not be told a receive maximum: it may have every
// identifier under way at QoS 2, and repeat one without end.
func TestV3EveryIdentifier(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-4.3.3-2", "MQTT-4.6.0-3")
	const chunk = 1000 // sent before the answers are read
	topic, id := unique("t"), unique("c")
	pub := dial(t).Connect(durable(wire.V311, id))
	for first := 1; first <= 65535; first += chunk {
		last := min(first+chunk-1, 65535)
		var send, want []wire.Packet
		for n := first; n <= last; n++ {
			send, want = append(send, wire.Publish{Topic: topic, QoS: 2, ID: uint16(n)}), append(want, wire.Pubrec(uint16(n)))
		}
		pub.Send(send...)
		pub.Expect(want...)
	}
	sub := join3(t, wire.V311)
	sub.Subscribe(topic, 0)
	var send, want []wire.Packet
	for range chunk {
		send, want = append(send, wire.Publish{Topic: topic, QoS: 2, ID: 77, Dup: true}), append(want, wire.Pubrec(77))
	}
	pub.Send(send...)
	pub.Expect(want...)
	pub.Send(wire.Pubrel(77))
	pub.Expect(wire.Pubcomp(77))
	pub.PublishPacket(wire.Publish{Topic: topic, QoS: 2, ID: 77, Payload: "new"})
	if got := sub.Receive(); got.Payload != "new" {
		t.Errorf("got %+v", got)
	}
	sub.ExpectNothing()
	dial(t).Connect(wire.Connect{ClientID: id, Clean: true}).Disconnect()
}

// More messages than fit a window wait and come in order, once, as the client
// takes them; to a client that is connected all the time and to one that was
// away.
func TestV3Window(t *testing.T) {
	t.Parallel()
	covers311(t, "MQTT-4.6.0-6", "MQTT-2.3.1-4", "MQTT-3.1.2-5")
	const n = 700
	for _, away := range []bool{false, true} {
		for qos := byte(1); qos <= 2; qos++ {
			t.Run(fmt.Sprintf("away %v QoS %d", away, qos), func(t *testing.T) {
				t.Parallel()
				topic, id := unique("t"), unique("c")
				sub := dial(t).Connect(durable(wire.V311, id))
				sub.Subscribe(topic, qos)
				if away {
					sub.Disconnect()
				}
				pub := join3(t, wire.V311)
				for i := range n {
					pub.Publish(topic, qos, fmt.Sprint(i))
				}
				if away {
					sub = dial(t).Connect(durable(wire.V311, id))
				}
				for i, got := range payloads(sub, n) {
					if got != fmt.Sprint(i) {
						t.Fatalf("got %q in place of %d", got, i)
					}
				}
				sub.ExpectNothing()
				dial(t).Connect(wire.Connect{ClientID: id, Clean: true}).Disconnect()
			})
		}
	}
}

// [MQTT-2.3.1-4]: identifiers wrap around past those still in use. A message
// is left open for 60,000 others; a server need not wait for it longer than
// there are identifiers.
func TestV3IdentifiersWrap(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("sends 100,000 messages")
	}
	covers311(t, "MQTT-2.3.1-4")
	const chunk, chunks, kept = 500, 200, 120 // a message is kept open for so many chunks
	topic := unique("t")
	sub, pub := join3(t, wire.V311), join3(t, wire.V311)
	sub.Subscribe(topic, 1)
	var open wire.Publish
	for round := range chunks {
		var send, want, acks []wire.Packet
		for n := range chunk {
			send, want = append(send, wire.Publish{Topic: topic, QoS: 1, ID: uint16(n + 1)}), append(want, wire.Puback(uint16(n+1)))
		}
		pub.Send(send...)
		pub.Expect(want...)
		for n := range chunk {
			m := wire.Next[wire.Publish](sub)
			if m.Dup || m.ID == open.ID {
				t.Fatalf("round %d: got %+v while %+v is open", round, m, open)
			}
			if round%kept == 0 && n == 0 {
				if open.ID != 0 {
					acks = append(acks, wire.Puback(open.ID))
				}
				open = m
				continue
			}
			if acks = append(acks, wire.Puback(m.ID)); len(acks) >= 50 || n == chunk-1 {
				sub.Send(acks...)
				acks = nil
			}
		}
	}
	sub.ExpectNothing()
}

// A subscriber that does not read holds up nobody else, and is there again
// when it does read: what did not fit was QoS 0.
func TestV3SlowSubscriber(t *testing.T) {
	t.Parallel()
	// The stuck one may be stuck for longer than anybody here waits.
	_, connect := own(t, fmt.Sprint("MQTT_WRITE_TIMEOUT=", 3*wire.Timeout))
	const n = 300
	stuck, other, pub := connect(clean3(wire.V311)), connect(clean3(wire.V311)), connect(clean3(wire.V311))
	stuck.Subscribe("t", 0)
	other.Subscribe("t", 0)
	payload := strings.Repeat("x", 64<<10)
	for i := range n {
		pub.Publish("t", 0, payload)
		if got := other.Receive(); len(got.Payload) != len(payload) {
			t.Fatalf("message %d has %d bytes", i, len(got.Payload))
		}
	}
	stuck.Ping()
}

// The content of a packet takes memory only as it comes: many connections that
// announce 256 MiB, and stop, cost next to nothing, and all are closed.
func TestV3LengthBombs(t *testing.T) {
	t.Parallel()
	const bombs, limit = 500, 48 << 20 // of growth, with sockets and their goroutines in it
	g, connect := own(t)
	if g.External() {
		t.Skip("the memory of another broker is not ours to judge")
	}
	before := resident(t, g.PID(t))
	var all []*wire.Client
	for range bombs {
		c := wire.Dial(t, g.TCP)
		c.SendRaw(append([]byte{0x10, 0xff, 0xff, 0xff, 0x7f}, make([]byte, 1024)...))
		all = append(all, c)
	}
	start := time.Now()
	connect(clean3(wire.V311)).Ping()
	if d := time.Since(start); d > wire.Timeout/2 {
		t.Errorf("a good client waited for %v", d)
	}
	for _, c := range all {
		c.ExpectClosed()
	}
	if grown := resident(t, g.PID(t)) - before; grown > limit {
		t.Errorf("memory has grown by %d MiB", grown>>20)
	}
}

// resident is the memory of a process in bytes.
func resident(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Skip(err)
	}
	fields := strings.Fields(string(b))
	pages, err := strconv.Atoi(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}
