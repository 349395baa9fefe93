package security_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// target is a gateway under attack: with users, rules, and all limits as they are
// by default.
type target struct {
	*testing.T
	*harness.Gateway
}

// attacks are one for each class of vulnerability (V) and each attack (F) of
// docs/security.md that a client can make; those have tests of every detail beside
// the code. Here they are made against the program as it runs.
var attacks = []struct {
	name string
	run  func(*target)
}{
	{"F34 V3 bytes at random", (*target).randomBytes},
	{"F35 V3 packets out of order", (*target).outOfOrder},
	{"F36 V1 first packets that are none", (*target).firstPackets},
	{"F36 V1 a length and little behind it", (*target).lengthBombs},
	{"F37 V2 silence, and a refusal that is not closed", (*target).refusedAndOpen},
	{"F38 V4 properties without end", (*target).properties},
	{"F39 V5 deep and long topics", (*target).deepTopics},
	{"F39 V8 text that is none", (*target).badText},
	{"F40 V7 QoS 2 that is never released", (*target).hoarding},
	{"F41 V16 aliases", (*target).aliases},
	{"F42 V15 WebSocket", (*target).webSocket},
	{"F43 V9 too large for the receiver", (*target).tooLargeForReceiver},
	{"F44 V10 retained messages", (*target).retainedDenied},
	{"F45 V11 wills", (*target).wills},
	{"F45 V12 shares, $ topics and wildcards", (*target).shares},
	{"F45 V6 names that look like patterns", (*target).patternNames},
	{"F45 V17 names with line ends, and a PROXY header of anybody", (*target).injected},
	{"F46 V13 another's session", (*target).othersSession},
	{"F46 V14 without credentials, and without a rule", (*target).failClosed},
	{"V18 everything at once on one identifier", (*target).races},
	{"F46 V19 secrets in the log", (*target).secrets},
}

// TestAttacks makes each attack, after which the gateway serves others as before.
func TestAttacks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	users, acl := filepath.Join(dir, "users"), filepath.Join(dir, "acl")
	write(t, users, hashed(t, "ann")+hashed(t, "bob")+hashed(t, "+")+hashed(t, ".*")+hashed(t, "%c")+hashed(t, secretName))
	write(t, acl, "user ann\ntopic readwrite a/#\ntopic deny a/secret\ntopic read #\nuser bob\ntopic readwrite #\npattern readwrite own/%u/%c\n")
	g := harness.Start(t, "AUTH_PASSWORD_FILE="+users, "AUTH_ACL_FILE="+acl, "LOG_LEVEL=debug", "MQTT_SYS_INTERVAL=0s")
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			a.run(&target{t, g})
			c := dial(t, g, as("ann", "good"))
			c.Subscribe("a/good", 1)
			c.Publish("a/good", 1, "x")
			if m := c.Receive(); m.Payload != "x" {
				t.Errorf("afterwards: %+v", m)
			}
			c.Disconnect()
		})
	}
	if n := g.Metric(t, "sluice_panics_total"); n != "0" {
		t.Errorf("%s panics", n)
	}
	for n, line := range strings.Split(strings.TrimSpace(g.Logs()), "\n") {
		if !strings.HasPrefix(line, "time=") {
			t.Errorf("line %d of the log is none of the gateway's: %.100q", n+1, line)
			break
		}
	}
}

// raw sends bytes and returns all that comes back until the connection ends.
func (a *target) raw(b []byte) []byte {
	a.Helper()
	nc, err := net.Dial("tcp", a.TCP)
	if err != nil {
		a.Fatal(err)
	}
	defer nc.Close()
	nc.Write(b) // it may be closed before it has taken all
	nc.SetReadDeadline(time.Now().Add(patience))
	answer, err := io.ReadAll(nc)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		a.Fatalf("% .20X: the connection stays open", b)
	}
	return answer
}

func (a *target) randomBytes() {
	r := rand.New(rand.NewPCG(34, 3))
	good := wire.Encode(as("ann", "fuzz"), wire.V5)
	packets := [][]byte{
		wire.Encode(wire.Publish{Topic: "a/x", QoS: 2, ID: 7, Payload: "x", Props: wire.Props{wire.User("a", "b")}}, wire.V5),
		wire.Encode(wire.Sub(1, "a/#", 2), wire.V5), wire.Encode(wire.Pubrel(7), wire.V5), wire.Encode(wire.Unsub(2, "a/#"), wire.V5),
		wire.Encode(wire.Auth{Code: 0x18, Props: scramStep("n,,")}, wire.V5),
	}
	for range 300 {
		b := bytes.Clone(good)
		for range 4 {
			b = append(b, packets[r.IntN(len(packets))]...)
		}
		for range 1 + r.IntN(4) {
			b[r.IntN(len(b))] = byte(r.Uint32())
		}
		nc, err := net.Dial("tcp", a.TCP)
		if err != nil {
			a.Fatal(err)
		}
		nc.Write(b[:1+r.IntN(len(b))])
		nc.(*net.TCPConn).CloseWrite()
		nc.SetReadDeadline(time.Now().Add(patience))
		io.Copy(io.Discard, nc) // ends when the gateway closes it, as it must
		nc.Close()
	}
}

func (a *target) outOfOrder() {
	connect := func() *wire.Client { return dial(a.T, a.Gateway, as("ann", wire.Unique("o"))) }
	for _, tt := range []struct {
		name string
		p    wire.Packet
		code byte
	}{
		{"second CONNECT", as("ann", "again"), 0x82}, {"CONNACK", wire.Connack{}, 0x82}, {"SUBACK", wire.Suback{ID: 1, Codes: []byte{0}}, 0x82},
		{"PINGRESP", wire.Pingresp{}, 0x82}, {"AUTH without a method", wire.Auth{Code: 0x19}, 0x82}, {"packet type 0", wire.Frame{First: 0x00}, 0x81},
		{"SUBSCRIBE with other flags", wire.Frame{First: 0x80, Body: []byte("\x00\x01\x00\x00\x01a\x00")}, 0x81},
	} {
		c := connect()
		c.Send(tt.p)
		if d := wire.Next[wire.Disconnect](c); d.Code != tt.code && d.Code != 0x81 {
			a.Errorf("%s: %#x, want %#x", tt.name, d.Code, tt.code)
		}
		c.ExpectClosed()
	}
	c := connect()
	c.Send(wire.Pubrel(9), wire.Puback(9), wire.Pubrec(10))
	for _, want := range []wire.Ack{wire.Pubcomp(9).With(0x92), wire.Pubrel(10).With(0x92)} {
		if got := wire.Next[wire.Ack](c); got.Type != want.Type || got.Code != want.Code {
			a.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func (a *target) firstPackets() {
	for first := range 16 {
		if first == 1 {
			continue
		}
		if b := a.raw([]byte{byte(first << 4), 2, 0, 1}); len(b) != 0 {
			a.Errorf("packet type %d is answered % X", first, b)
		}
	}
	for name, b := range map[string][]byte{
		"greatest length": {0x10, 0xFF, 0xFF, 0xFF, 0x7F}, "length of five bytes": {0x10, 0x80, 0x80, 0x80, 0x80, 0x01}, "256 MiB": append([]byte{0x10, 0xFF, 0xFF, 0xFF, 0x7F}, make([]byte, 1024)...),
		"HTTP": []byte("GET / HTTP/1.1\r\n\r\n"), "TLS": {0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0},
	} {
		if b := a.raw(b); len(b) != 0 {
			a.Errorf("%s is answered % X", name, b)
		}
	}
}

// lengthBombs: what is declared is not taken before it has come.
func (a *target) lengthBombs() {
	heap := func() float64 {
		n, err := strconv.ParseFloat(a.Metric(a.T, "go_memstats_heap_inuse_bytes"), 64)
		if err != nil {
			a.Fatal(err)
		}
		return n / (1 << 20)
	}
	before, n := heap(), 500
	var open []net.Conn
	bomb := append([]byte{0x10}, wire.Varint(190<<10)...)
	bomb = append(bomb, []byte("\x00\x04MQTT\x05\x02\x00\x3c\x00\xff\xff")...)
	for range n {
		nc, err := net.Dial("tcp", a.TCP)
		if err != nil {
			a.Fatal(err)
		}
		defer nc.Close()
		nc.Write(append(bytes.Clone(bomb), make([]byte, 1024)...))
		open = append(open, nc)
	}
	eventually(a.T, "all are there", func() bool {
		c, _ := strconv.Atoi(a.Metric(a.T, "sluice_connections"))
		return c >= n
	})
	dial(a.T, a.Gateway, as("ann", "meanwhile")).Disconnect()
	a.Logf("the heap has grown by %.1f MiB", heap()-before)
	if grown := heap() - before; grown > 40 { // MiB; they declare 93
		a.Errorf("%d connections made the heap grow by %.1f MiB", n, grown)
	}
	for _, nc := range open {
		nc.Close()
	}
}

func (a *target) refusedAndOpen() {
	b := wire.Encode(as("nobody", "c"), wire.V5)
	if answer := a.raw(append(b, wire.Encode(wire.Publish{Topic: "a/x"}, wire.V5)...)); len(answer) < 4 || answer[0] != 0x20 || answer[3] != 0x86 {
		a.Errorf("answer % X", answer)
	}
	// One of its own, that has not the patience of the default.
	g := harness.Start(a.T, "MQTT_CONNECT_TIMEOUT=2s")
	slow := &target{a.T, g}
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() { // ends when the gateway closes it
			switch i % 3 {
			case 0:
				slow.raw(nil)
			case 1:
				slow.raw(wire.Encode(as("x", "c"), wire.V5)[:5])
			case 2:
				u := strings.TrimSuffix(strings.TrimPrefix(g.WS, "ws://"), "/mqtt")
				nc, err := net.Dial("tcp", u)
				if err != nil {
					a.Error(err)
					return
				}
				defer nc.Close()
				fmt.Fprintf(nc, "GET /mqtt HTTP/1.1\r\nHost: %s\r\nX-Slow: ", u)
				nc.SetReadDeadline(time.Now().Add(patience))
				if _, err := io.Copy(io.Discard, nc); err != nil && strings.Contains(err.Error(), "timeout") {
					a.Error("half an upgrade stays open")
				}
			}
		})
	}
	all.Wait()
	eventually(a.T, "their places are free", func() bool { return g.Metric(a.T, "sluice_connections") == "0" })
}

func (a *target) properties() {
	for _, tt := range []struct {
		name  string
		props wire.Props
		codes []byte
	}{
		{"many", func() (p wire.Props) {
			for range 8000 {
				p = append(p, wire.User("a", "b"))
			}
			return p
		}(), []byte{0x83, 0x97}},
		{"twice", wire.Props{wire.U32Prop(wire.MessageExpiryID, 1), wire.U32Prop(wire.MessageExpiryID, 1)}, []byte{0x82}},
		{"unknown", wire.Props{wire.ByteProp(0x7A, 1)}, []byte{0x81}},
		{"of another packet", wire.Props{wire.U16Prop(wire.ReceiveMaximumID, 1)}, []byte{0x81, 0x82}},
	} {
		c := dial(a.T, a.Gateway, as("ann", wire.Unique("p")))
		c.Send(wire.Publish{Topic: "a/x", QoS: 1, ID: 1, Props: tt.props})
		if d := wire.Next[wire.Disconnect](c); !bytes.Contains(tt.codes, []byte{d.Code}) {
			a.Errorf("%s: %#x, want one of % X", tt.name, d.Code, tt.codes)
		}
	}
}

func (a *target) deepTopics() {
	watch := dial(a.T, a.Gateway, as("bob", "watch"))
	watch.Subscribe("#", 0)
	deep := strings.Repeat("/", 65_535)
	c := dial(a.T, a.Gateway, as("bob", "deep"))
	for _, topic := range []string{deep, strings.Repeat("a/", 65)} {
		c.Send(wire.Publish{Topic: topic, QoS: 1, ID: 1}, wire.Sub(2, topic, 0), wire.Sub(3, "$share/g/"+topic[:65_000%len(topic)]+"/#", 0))
		if code := wire.Next[wire.Ack](c).Code; code != 0x90 {
			a.Errorf("PUBACK %#x", code)
		}
		if code := wire.Next[wire.Suback](c).Codes[0]; code != 0x8F {
			a.Errorf("SUBACK %#x", code)
		}
		wire.Next[wire.Suback](c)
	}
	three := as("bob", "three")
	three.Version = wire.V311
	c = dial(a.T, a.Gateway, three)
	c.Send(wire.Sub(1, deep, 0))
	if code := wire.Next[wire.Suback](c).Codes[0]; code != 0x80 {
		a.Errorf("MQTT 3: SUBACK %#x", code)
	}
	c.Send(wire.Publish{Topic: deep, QoS: 1, ID: 1})
	c.ExpectClosed()
	watch.Ping()
	watch.ExpectNothing()
}

func (a *target) badText() {
	for name, topic := range map[string]string{
		"NUL": "a/\x00", "surrogate": "a/\xED\xA0\x80", "overlong": "a/\xC0\xAF", "cut": "a/\xE2\x82", "wildcard": "a/#", "empty": "",
	} {
		c := dial(a.T, a.Gateway, as("bob", wire.Unique("b")))
		c.Send(wire.Publish{Topic: topic, QoS: 1, ID: 1})
		if d := wire.Next[wire.Disconnect](c); d.Code != 0x81 && d.Code != 0x82 && d.Code != 0x90 {
			a.Errorf("topic with %s: %#x", name, d.Code)
		}
		if name == "wildcard" || name == "empty" {
			continue
		}
		p := as("bob", wire.Unique("b"))
		p.Will = &wire.Will{Topic: topic}
		b := a.raw(wire.Encode(p, wire.V5))
		if len(b) > 3 && b[3] < 0x80 {
			a.Errorf("will with %s: CONNACK %#x", name, b[3])
		}
		c = dial(a.T, a.Gateway, as("bob", wire.Unique("b")))
		c.Send(wire.Publish{Topic: "a/x", Props: wire.Props{wire.User("name", topic)}})
		if d := wire.Next[wire.Disconnect](c); d.Code != 0x81 {
			a.Errorf("user property with %s: %#x", name, d.Code)
		}
	}
}

func (a *target) hoarding() {
	watch := dial(a.T, a.Gateway, as("ann", "watch"))
	watch.Subscribe("a/hoard", 0)
	three := as("ann", "hoard")
	three.Version = wire.V311
	c := dial(a.T, a.Gateway, three)
	for range 2000 { // one identifier, again and again, and one delivery
		c.Send(wire.Publish{Topic: "a/hoard", QoS: 2, ID: 1, Dup: true})
		wire.Next[wire.Ack](c)
	}
	watch.Receive()
	watch.Ping()
	watch.ExpectNothing()
	five := dial(a.T, a.Gateway, as("ann", "five"))
	limit, _ := five.Connack.Props.Int(wire.ReceiveMaximumID)
	if limit == 0 || limit > 65_534 {
		a.Fatalf("receive maximum %d", limit)
	}
	for id := 1; id <= limit+1; id++ {
		five.Send(wire.Publish{Topic: "a/other", QoS: 2, ID: uint16(id)})
	}
	for range limit {
		wire.Next[wire.Ack](five)
	}
	five.ExpectDisconnect(0x93)
}

func (a *target) aliases() {
	for _, tt := range []struct {
		name  string
		topic string
		alias uint16
		code  byte
	}{{"0", "a/x", 0, 0x94}, {"above the maximum", "a/x", 1000, 0x94}, {"unknown", "", 1, 0x82}} {
		c := dial(a.T, a.Gateway, as("ann", wire.Unique("al")))
		c.Send(wire.Publish{Topic: tt.topic, QoS: 1, ID: 1, Props: wire.Props{wire.U16Prop(wire.TopicAliasID, tt.alias)}})
		if d := wire.Next[wire.Disconnect](c); d.Code != tt.code {
			a.Errorf("alias %s: %#x, want %#x", tt.name, d.Code, tt.code)
		}
	}
	c := dial(a.T, a.Gateway, as("ann", "al"))
	for range 2 { // an alias of a denied topic is set, and is denied
		c.Send(wire.Publish{Topic: "a/secret", QoS: 1, ID: 1, Props: wire.Props{wire.U16Prop(wire.TopicAliasID, 1)}},
			wire.Publish{QoS: 1, ID: 2, Props: wire.Props{wire.U16Prop(wire.TopicAliasID, 1)}})
		for range 2 {
			if code := wire.Next[wire.Ack](c).Code; code != 0x87 {
				a.Errorf("denied topic by alias: %#x", code)
			}
		}
	}
}

func (a *target) webSocket() {
	for name, header := range map[string]http.Header{
		"foreign subprotocol": {"Sec-Websocket-Protocol": {"soap"}}, "64 KiB of headers": {"Sec-Websocket-Protocol": {"mqtt"}, "X": {strings.Repeat("x", 64<<10)}},
	} {
		ws, answer, err := wire.OpenWS(a.WS, header)
		if err != nil || ws != nil || answer.StatusCode < 400 || answer.StatusCode > 499 {
			a.Errorf("%s: %v, %v", name, answer, err)
		}
	}
	mqtt := http.Header{"Sec-Websocket-Protocol": {"mqtt"}, "Sec-Websocket-Extensions": {"permessage-deflate"}}
	ws, answer, err := wire.OpenWS(a.WS, mqtt)
	if err != nil || answer.Header.Get("Sec-Websocket-Extensions") != "" {
		a.Fatalf("compression: %v, %v", answer, err)
	}
	ws.Close()
	for name, frame := range map[string][]byte{"text": append([]byte{0x81, 0x85, 0, 0, 0, 0}, "hello"...), "2^63 bytes": {0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}} {
		ws, _, err := wire.OpenWS(a.WS, mqtt)
		if err != nil {
			a.Fatal(err)
		}
		ws.Conn.Write(frame)
		ws.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, ws.Conn); err != nil && strings.Contains(err.Error(), "timeout") {
			a.Errorf("%s: the connection stays open", name)
		}
		ws.Close()
	}
	ws, _, err = wire.OpenWS(a.WS, mqtt)
	if err != nil {
		a.Fatal(err)
	}
	wire.New(a.T, split{ws}).Connect(as("ann", "bytes")).Ping()
}

// split writes a byte a frame, and empty frames between.
type split struct{ *wire.WebSocket }

func (s split) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := s.WebSocket.Write(b[i : i+1]); err != nil {
			return i, err
		}
		if err := s.WriteFrame(0x80|wire.WSBinary, nil); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

func (a *target) tooLargeForReceiver() {
	small := dial(a.T, a.Gateway, as("ann", "small", wire.U32Prop(wire.MaximumPacketSizeID, 200)))
	small.Subscribe("a/size", 1)
	p := dial(a.T, a.Gateway, as("ann", "p"))
	for _, size := range []int{10, 60_000, 20} {
		p.Publish("a/size", 1, strings.Repeat("x", size))
	}
	for _, size := range []int{10, 20} {
		if m := small.Receive(); len(m.Payload) != size {
			a.Errorf("%d bytes, want %d", len(m.Payload), size)
		}
	}
	p.Send(wire.Publish{Topic: "a/size", QoS: 1, ID: 9, Payload: strings.Repeat("x", 600<<10)})
	p.ExpectDisconnect(0x95)
}
