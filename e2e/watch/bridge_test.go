package watch_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// bridged is three gateways that let applications on NATS take part, and one of
// those.
type bridged struct {
	*harness.Cluster
	application *nats.Conn
}

func startBridged(t *testing.T) *bridged {
	t.Helper()
	c := harness.StartCluster(t, harness.ClusterOptions{Env: []string{"NATS_BRIDGE_PREFIX=mqtt"}})
	return &bridged{c, dialNATS(t, c.NATS.Address)}
}

// listen subscribes an application.
func (b *bridged) listen(t *testing.T, subject string) <-chan *nats.Msg {
	t.Helper()
	in := make(chan *nats.Msg, 1000)
	if _, err := b.application.ChanSubscribe(subject, in); err != nil {
		t.Fatal(err)
	}
	if err := b.application.Flush(); err != nil {
		t.Fatal(err)
	}
	return in
}

// publish is an application's publish, with the answer.
func (b *bridged) publish(t *testing.T, subject, payload string, header ...string) *nats.Msg {
	t.Helper()
	m := nats.NewMsg(subject)
	m.Data = []byte(payload)
	for i := 0; i < len(header); i += 2 {
		m.Header.Add(header[i], header[i+1])
	}
	answer, err := b.application.RequestMsg(m, patience)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	return answer
}

// published is publish that must succeed.
func (b *bridged) published(t *testing.T, subject, payload string, header ...string) {
	t.Helper()
	if e := b.publish(t, subject, payload, header...).Header.Get("Mqtt-Error"); e != "" {
		t.Fatalf("%s: %s", subject, e)
	}
}

// durable connects a client whose session outlives its connection.
func durable(t *testing.T, g *harness.Gateway, id string, clean bool) *wire.Client {
	t.Helper()
	return wire.Dial(t, g.TCP).Connect(wire.Connect{Version: wire.V5, ClientID: id, Clean: clean,
		Props: wire.Props{wire.U32Prop(wire.SessionExpiryID, 3600)}})
}

// topics are some that mean something else, or nothing, in NATS.
var topics = []string{"a/b", "a b/c.d", "/", "a//b/", "*/>", "100%/%20", "tab\there", "Grüße/世界", "a.b/c", "x/" + strings.Repeat("long/", 30)}

// long is a topic that no subject can hold.
var long = "l/" + strings.Repeat("ä b", 2000)

// TestApplicationsReceive: what clients publish at any gateway comes to an
// application once, whatever the topic, the QoS and the payload, and so do
// retained messages and wills.
func TestApplicationsReceive(t *testing.T) {
	t.Parallel()
	b := startBridged(t)
	in := b.listen(t, "mqtt.message.>")
	without := b.listen(t, "mqtt.message")
	want := map[string]int{}
	for i, g := range b.Gateways {
		c := durable(t, g, wire.Unique("pub"), true)
		for _, topic := range topics {
			for qos := range byte(3) {
				payload := fmt.Sprintf("\x00\xff %d %d %s", i, qos, topic)
				c.Publish(topic, qos, payload)
				want[payload]++
			}
		}
		c.Publish(long, 1, fmt.Sprint("long ", i))
	}
	for range len(want) {
		m := receive(t, in)
		want[string(m.Data)]--
		parts := strings.SplitN(string(m.Data), " ", 4)
		if len(parts) != 4 || m.Header.Get("Mqtt-Qos") != parts[2] || m.Header.Get("Mqtt-Publisher") == "" {
			t.Errorf("got %q of %q with %v", m.Data, m.Subject, m.Header)
		}
		if (parts[2] == "2") != (m.Header.Get("Nats-Msg-Id") != "") {
			t.Errorf("QoS %s with %v", parts[2], m.Header)
		}
	}
	for payload, n := range want {
		if n != 0 {
			t.Errorf("%q is %d times missing", payload, n)
		}
	}
	for range b.Gateways {
		if m := receive(t, without); m.Header.Get("Mqtt-Topic") != strings.ReplaceAll(long, " ", "%20") {
			t.Errorf("the long topic is %.50q", m.Header.Get("Mqtt-Topic"))
		}
	}

	// Properties, and what a will is.
	c := wire.Dial(t, b.Gateways[0].TCP).Connect(wire.Connect{Version: wire.V5, ClientID: wire.Unique("will"), Clean: true,
		Will: &wire.Will{Topic: "gone", Payload: "gone", QoS: 1}})
	c.PublishPacket(wire.Publish{QoS: 1, Retain: true, Topic: "full", Payload: "x", ID: c.NextID(), Props: wire.Props{
		wire.ByteProp(wire.PayloadFormatID, 1), wire.U32Prop(wire.MessageExpiryID, 600), wire.StringProp(wire.ContentTypeID, "text/plain; x"),
		wire.StringProp(wire.ResponseTopicID, "re/ply"), wire.StringProp(wire.CorrelationDataID, "\x00\x01"),
		wire.User("na=me", "val=ue"), wire.User("na=me", "line\nbreak"),
	}})
	h := receive(t, in).Header
	for name, value := range map[string]string{"Mqtt-Retain": "true", "Mqtt-Payload-Format": "1", "Mqtt-Content-Type": "text/plain;%20x",
		"Mqtt-Response-Topic": "re/ply", "Mqtt-Correlation-Data": "AAE="} {
		if h.Get(name) != value {
			t.Errorf("%s = %q, want %q", name, h.Get(name), value)
		}
	}
	if e := h.Get("Mqtt-Message-Expiry"); e == "" || e > "600" || len(e) != 3 {
		t.Errorf("expires in %q", e)
	}
	if u := h.Values("Mqtt-User-Property"); len(u) != 2 || u[0] != "na%3Dme=val=ue" || u[1] != "na%3Dme=line%0Abreak" {
		t.Errorf("user properties %q", u)
	}
	c.Drop()
	if m := receive(t, in); m.Subject != "mqtt.message.gone" {
		t.Errorf("instead of the will came %q", m.Subject)
	}
	select {
	case m := <-in:
		t.Errorf("%q came as well", m.Data)
	case <-time.After(200 * time.Millisecond):
	}
}

// TestApplicationsPublish: what an application publishes comes to live and to
// durable sessions of all gateways, once, is stored for those that are away when
// the answer comes, and is retained.
func TestApplicationsPublish(t *testing.T) {
	t.Parallel()
	b := startBridged(t)
	var away []string
	live := make([]*wire.Client, len(b.Gateways))
	for i, g := range b.Gateways {
		id := wire.Unique("away")
		c := durable(t, g, id, true)
		c.Subscribe("#", 2)
		c.Disconnect()
		away = append(away, id)
		live[i] = wire.Dial(t, g.TCP).Connect(wire.Connect{Version: wire.V5, ClientID: wire.Unique("live"), Clean: true})
		live[i].Subscribe("#", 2)
	}
	subjects := map[string]string{
		"a/b": "a.b", "a b/c.d": "a%20b.c%2Ed", "/": "%.%", "a//b/": "a.%.b.%", "*/>": "%2A.%3E", "100%/%20": "100%25.%2520", "Grüße/世界": "Grüße.世界",
	}
	want := map[string]string{}
	for topic, subject := range subjects {
		for _, qos := range []string{"1", "2"} {
			payload := "\x00\xff " + qos + topic
			want[payload] = topic
			b.published(t, "mqtt.publish."+subject, payload, "Mqtt-Qos", qos)
			if qos == "1" {
				continue
			}
			// The answer was lost, say: the same again is the same message.
			for range 3 {
				b.published(t, "mqtt.publish."+subject, "again "+topic, "Mqtt-Qos", "2", "Nats-Msg-Id", "id of "+topic)
			}
			want["again "+topic] = topic
		}
	}
	want["long"] = long
	b.published(t, "mqtt.publish", "long", "Mqtt-Topic", long)

	check := func(name string, c *wire.Client) {
		t.Helper()
		got := map[string]bool{}
		for range want {
			p := c.Receive()
			if want[p.Payload] != p.Topic || got[p.Payload] {
				t.Errorf("%s got %q of %.50q", name, p.Payload, p.Topic)
			}
			got[p.Payload] = true
		}
		if more := c.Collect(); len(more) > 0 {
			t.Errorf("%s got %d more", name, len(more))
		}
	}
	for i := range b.Gateways {
		check(fmt.Sprint("live client ", i), live[i])
		other := b.Gateways[(i+1)%len(b.Gateways)]
		check(fmt.Sprint("durable client ", i), durable(t, other, away[i], false))
	}

	b.published(t, "mqtt.publish.state.one", "retained", "Mqtt-Retain", "true", "Mqtt-Message-Expiry", "600", "Mqtt-Content-Type", "text/plain",
		"Mqtt-Response-Topic", "re/ply", "Mqtt-Correlation-Data", "AAE=", "Mqtt-Payload-Format", "1", "Mqtt-User-Property", "na%3Dme=val%0Aue")
	late := wire.Dial(t, b.Gateways[2].TCP).Connect(wire.Connect{Version: wire.V5, ClientID: wire.Unique("late"), Clean: true})
	late.Subscribe("state/+", 1)
	p := late.Receive()
	expiry, _ := p.Props.Int(wire.MessageExpiryID)
	kind, _ := p.Props.Text(wire.ContentTypeID)
	reply, _ := p.Props.Text(wire.ResponseTopicID)
	if u := p.Props.Users(); p.Topic != "state/one" || !p.Retain || expiry < 590 || expiry > 600 || kind != "text/plain" || reply != "re/ply" ||
		len(u) != 1 || u[0] != [2]string{"na=me", "val\nue"} {
		t.Errorf("got %+v", p)
	}
}

// TestApplicationsAreRefused: what can not be published is answered with the
// reason, and what is published without a wish for an answer comes all the same.
func TestApplicationsAreRefused(t *testing.T) {
	t.Parallel()
	b := startBridged(t)
	for _, c := range []struct {
		subject string
		header  []string
		code    string
		names   string
	}{
		{"mqtt.publish.$SYS.x", nil, "144", "reserved"},
		{"mqtt.publish.a%2Bb", nil, "144", "topic"},
		{"mqtt.publish.a%zz", nil, "144", "hexadecimal"},
		{"mqtt.publish." + strings.Repeat("x.", 70) + "x", nil, "144", "deep"},
		{"mqtt.publish", nil, "129", "Mqtt-Topic"},
		{"mqtt.publish.a", []string{"Mqtt-Qos", "3"}, "129", "Mqtt-Qos"},
		{"mqtt.publish.a", []string{"Mqtt-Retain", "yes"}, "129", "Mqtt-Retain"},
		{"mqtt.publish.a", []string{"Mqtt-Message-Expiry", "soon"}, "129", "Mqtt-Message-Expiry"},
		{"mqtt.publish.a", []string{"Mqtt-Correlation-Data", "?"}, "129", "base64"},
		{"mqtt.publish.a", []string{"Mqtt-Response-Topic", "a/#"}, "129", "response topic"},
		{"mqtt.publish.a", []string{"Mqtt-User-Property", "none"}, "129", "name=value"},
	} {
		answer := b.publish(t, c.subject, "x", c.header...)
		if got := answer.Header; got.Get("Mqtt-Reason-Code") != c.code || !strings.Contains(got.Get("Mqtt-Error"), c.names) {
			t.Errorf("%s %q: %v", c.subject, c.header, got)
		}
	}
	c := wire.Dial(t, b.Gateways[0].TCP).Connect(wire.Connect{Version: wire.V5, ClientID: wire.Unique("live"), Clean: true})
	c.Subscribe("quiet", 0)
	if err := b.application.Publish("mqtt.publish.quiet", []byte("x")); err != nil {
		t.Fatal(err)
	}
	c.Receive()
}

// TestNATSAway: while applications can not be reached, what has to be
// acknowledged is not, the gateways say that they are not ready, and QoS 0 is
// counted; afterwards all goes on. The bus of the gateways is another NATS.
func TestNATSAway(t *testing.T) {
	t.Parallel()
	server := harness.StartNATS(t)
	g := harness.Start(t, "NATS_BRIDGE_PREFIX=mqtt", "NATS_URL=nats://"+server.Address, "GATEWAY_STORE_HOLD=1s", "MQTT_RETAINED_MAX=1")
	c := wire.Dial(t, g.TCP).Connect(wire.Connect{Version: wire.V5, ClientID: wire.Unique("c"), Clean: true})
	c.Publish("a", 1, "x")
	alone := &bridged{application: dialNATS(t, server.Address)}
	alone.published(t, "mqtt.publish.r.1", "x", "Mqtt-Retain", "true")
	if answer := alone.publish(t, "mqtt.publish.r.2", "x", "Mqtt-Retain", "true"); answer.Header.Get("Mqtt-Reason-Code") != "151" {
		t.Errorf("a retained message too many: %v", answer.Header)
	}
	server.Kill(t)
	for deadline := time.Now().Add(patience); g.Readiness() == nil; {
		if time.Now().After(deadline) {
			t.Fatal("the gateway says that it is ready")
		}
	}
	c.PublishPacket(wire.Publish{Topic: "a", Payload: "lost"})
	c.Send(wire.Publish{Topic: "a", QoS: 1, ID: 77, Payload: "held"})
	c.AwaitDisconnect(0x80, 0x88, 0x89)
	if !strings.Contains(read(t, g.HTTP+"/metrics"), `sluice_messages_dropped_total{reason="not_forwarded"} 1`) {
		t.Error("the lost message was not counted")
	}
	server.Start(t)
	g.AwaitReady(t)
	in := make(chan *nats.Msg, 10)
	nc := dialNATS(t, server.Address)
	if _, err := nc.ChanSubscribe("mqtt.message.a", in); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	c = wire.Dial(t, g.TCP).Connect(wire.Connect{Version: wire.V5, ClientID: wire.Unique("c"), Clean: true})
	c.Publish("a", 1, "again")
	if m := receive(t, in); string(m.Data) != "again" {
		t.Errorf("got %q", m.Data)
	}
}

// TestExample runs the program that docs/nats.md shows.
func TestExample(t *testing.T) {
	t.Parallel()
	b := startBridged(t)
	path := filepath.Join(t.TempDir(), "natsapp")
	build := exec.Command("go", "build", "-o", path, "./docs/natsapp")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	app := exec.Command(path)
	app.Env = append(os.Environ(), "NATS_URL=nats://"+b.NATS.Address)
	said, err := app.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { app.Process.Kill(); app.Wait() })
	lines := make(chan string, 100)
	go func() { // Ends with the program.
		for s := bufio.NewScanner(said); s.Scan(); {
			lines <- s.Text()
		}
	}()
	await := func(text string) {
		t.Helper()
		for line := receive(t, lines); !strings.Contains(line, text); line = receive(t, lines) {
		}
	}
	await("listening")
	fan := durable(t, b.Gateways[0], wire.Unique("fan"), true)
	fan.Subscribe("greenhouse/7/fan", 1)
	sensor := durable(t, b.Gateways[1], wire.Unique("sensor"), true)
	// The application subscribes and says so; its server may not know it yet.
	deadline := time.Now().Add(patience)
	for fan.Poll(100*time.Millisecond) == nil {
		if time.Now().After(deadline) {
			t.Fatal("the fan was not switched on")
		}
		sensor.Publish("greenhouse/7/temperature", 1, "31.5")
	}
	await("house 7: fan on")
}
