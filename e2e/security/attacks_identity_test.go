package security_test

import (
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/harness"
	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// The attacks on who may do what.

func (a *target) retainedDenied() {
	p := dial(a.T, a.Gateway, as("bob", "p"))
	for _, topic := range []string{"a/secret", "a/zend"} {
		p.PublishPacket(wire.Publish{Topic: topic, QoS: 1, Retain: true, Payload: "x"})
	}
	s := dial(a.T, a.Gateway, as("ann", "s"))
	s.Subscribe("#", 1)
	if m := s.Receive(); m.Topic != "a/zend" {
		a.Errorf("got %+v", m)
	}
	for _, topic := range []string{"a/secret", "a/zend"} {
		p.PublishPacket(wire.Publish{Topic: topic, QoS: 1, Retain: true})
	}
}

func (a *target) wills() {
	for topic, want := range map[string]byte{"a/secret": 0x87, "b": 0x87, "$SYS/x": 0x90, "a/#": 0x90, "a/fine": 0} {
		p := as("ann", "will")
		p.Will = &wire.Will{Topic: topic, Payload: "x"}
		c := wire.Dial(a.T, a.TCP)
		c.Send(p)
		switch ack := wire.Next[wire.Connack](c); {
		case ack.Code != want && !(topic == "a/#" && ack.Code >= 0x80):
			a.Errorf("will to %s: %#x, want %#x", topic, ack.Code, want)
		case want == 0:
			c.Disconnect()
		}
	}
}

func (a *target) shares() {
	c := dial(a.T, a.Gateway, as("ann", "shares"))
	for filter, want := range map[string]byte{
		"$share/g/a/secret": 0x87, "$share/g": 0x8F, "$share//a": 0x8F, "$share/+/a": 0x8F, "$share/g/$SYS/#": 0x87,
		"$SYS/#": 0x87, "$x/y": 0x87, "$share/g/a/x": 0, "#": 0, "+/#": 0,
	} {
		c.Send(wire.Sub(1, filter, 0))
		if code := wire.Next[wire.Suback](c).Codes[0]; code != want {
			a.Errorf("%s: %#x, want %#x", filter, code, want)
		}
	}
	p := dial(a.T, a.Gateway, as("bob", "p"))
	for topic, want := range map[string]bool{"$SYS/broker/x": false, "$x/y": false, "a/secret": true} { // he may, she may not
		p.Send(wire.Publish{Topic: topic, QoS: 1, ID: 1})
		if code := wire.Next[wire.Ack](p).Code; (code < 0x80) != want {
			a.Errorf("publish to %s: %#x", topic, code)
		}
	}
	c.Ping()
	c.ExpectNothing()
}

func (a *target) patternNames() {
	for _, user := range []string{"+", ".*", "%c"} {
		for _, id := range []string{"#", "+", ".*", "a/b", "%u"} {
			c := dial(a.T, a.Gateway, as(user, id))
			c.Send(wire.Sub(1, "own/ann/c", 0), wire.Sub(2, "own/#", 0), wire.Sub(3, "own/"+user+"/x", 0))
			for range 3 {
				if code := wire.Next[wire.Suback](c).Codes[0]; code == 0 && user == "+" {
					a.Errorf("%s as %s may subscribe", user, id)
				}
			}
			c.Send(wire.Publish{Topic: "own/ann/good", QoS: 1, ID: 1})
			if code := wire.Next[wire.Ack](c).Code; code != 0x87 {
				a.Errorf("%s as %s may publish: %#x", user, id, code)
			}
			c.Disconnect()
		}
	}
}

func (a *target) injected() {
	// Line ends are legal in a client identifier, so it is let in.
	dial(a.T, a.Gateway, as("ann", "line\nlevel=ERROR msg=forged\x1b[2J")).Disconnect()
	if b := a.raw([]byte("PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n")); len(b) != 0 {
		a.Errorf("a PROXY header is answered % X", b)
	}
	if strings.Contains(a.Logs(), "\nlevel=ERROR msg=forged") {
		a.Error("a client has written a line of the log")
	}
}

func (a *target) othersSession() {
	ann := dial(a.T, a.Gateway, durable(as("ann", "device")))
	wire.Dial(a.T, a.TCP).Refused(as("bob", "device"), 0x87)
	ann.Ping()
	ann.Drop()
	wire.Dial(a.T, a.TCP).Refused(durable(as("bob", "device")), 0x87)
	if c := dial(a.T, a.Gateway, durable(as("ann", "device"))); !c.Connack.SessionPresent {
		a.Error("her session is gone")
	}
}

func (a *target) failClosed() {
	empty, ann := "", "ann"
	for name, tt := range map[string]struct {
		p    wire.Connect
		want byte
	}{
		"nobody": {wire.Connect{Version: wire.V5, ClientID: "c", Clean: true}, 0x87}, "no password": {wire.Connect{Version: wire.V5, ClientID: "c", Clean: true, Username: &ann}, 0x86},
		"empty password": {wire.Connect{Version: wire.V5, ClientID: "c", Clean: true, Username: &ann, Password: &empty}, 0x86}, "unknown method": {wire.Connect{Version: wire.V5, ClientID: "c", Clean: true, Props: wire.Props{wire.StringProp(wire.AuthMethodID, "PLAIN")}}, 0x8C},
	} {
		c := wire.Dial(a.T, a.TCP)
		c.Send(tt.p)
		if ack := wire.Next[wire.Connack](c); ack.Code != tt.want {
			a.Errorf("%s: %#x, want %#x", name, ack.Code, tt.want)
		}
	}
	file := filepath.Join(a.TempDir(), "acl")
	write(a.T, file, "# none\n")
	g := harness.Start(a.T, "AUTH_ACL_FILE="+file)
	c := wire.Dial(a.T, g.TCP).Connect(wire.Connect{Version: wire.V5, ClientID: "c", Clean: true})
	c.Send(wire.Publish{Topic: "a", QoS: 1, ID: 1}, wire.Sub(2, "a", 0))
	if code := wire.Next[wire.Ack](c).Code; code != 0x87 {
		a.Errorf("with an empty file: PUBACK %#x", code)
	}
	if code := wire.Next[wire.Suback](c).Codes[0]; code != 0x87 {
		a.Errorf("with an empty file: SUBACK %#x", code)
	}
}

// races has clients take one identifier from each other while they do all there
// is; where the gateway is built with the race detector, the end of the test fails
// if it has found something.
func (a *target) races() {
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() { // ends after so many connections
			for n := range 15 {
				nc, err := net.Dial("tcp", a.TCP)
				if err != nil {
					a.Error(err)
					return
				}
				b := wire.Encode(durable(as("ann", "one")), wire.V5)
				for _, p := range []wire.Packet{wire.Sub(1, "a/#", 2), wire.Publish{Topic: "a/r", QoS: byte(n % 3), ID: uint16(n % 3), Retain: n%2 == 0, Payload: "x"}, wire.Unsub(2, "a/#"), wire.Pubrel(2), wire.Pingreq{}} {
					if pub, ok := p.(wire.Publish); ok && pub.QoS == 0 {
						pub.ID = 0
						p = pub
					}
					b = append(b, wire.Encode(p, wire.V5)...)
				}
				nc.Write(b)
				nc.SetReadDeadline(time.Now().Add(50 * time.Millisecond * time.Duration(1+i%2)))
				io.Copy(io.Discard, nc)
				nc.Close()
			}
		})
	}
	all.Wait()
	bob := dial(a.T, a.Gateway, as("bob", "cleaner"))
	bob.PublishPacket(wire.Publish{Topic: "a/r", QoS: 1, Retain: true})
}

// secretName is user, password and payload: what must not be in the log is the
// last two, so the user connects by none of his names.
const secretName = "kX9pQ2vL7"

func (a *target) secrets() {
	user, wrong := "bob", "wrong-"+secretName
	wire.Dial(a.T, a.TCP).Refused(wire.Connect{Version: wire.V5, ClientID: "c", Clean: true, Username: &user, Password: &wrong}, 0x86)
	c := dial(a.T, a.Gateway, as("bob", "c"))
	c.Subscribe("x", 1)
	c.Publish("x", 1, secretName)
	c.Receive()
	c.Send(wire.Auth{Code: 0x19, Props: scramStep(secretName)})
	c.ExpectDisconnect(0x82)
	if strings.Contains(a.Logs(), secretName) {
		a.Error("a password or a payload is in the log")
	}
}
