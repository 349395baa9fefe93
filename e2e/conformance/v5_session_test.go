package conformance

import (
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/e2e/wire"
)

// Clean Start and Session Present, with and without a session [MQTT-3.1.2-4]
// [MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.2.2-2] [MQTT-3.2.2-3].
func TestV5SessionPresent(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.2-4", "MQTT-3.1.2-5", "MQTT-3.1.2-6", "MQTT-3.1.4-4", "MQTT-3.2.2-1", "MQTT-3.2.2-2", "MQTT-3.2.2-3",
		"MQTT-3.1.2-23", "MQTT-4.1.0-1")
	id, topic := unique("c"), unique("t")
	restart := clean(id, expiry(600))

	a := dial(t).Connect(resume(id)) // a session without subscriptions is one too
	if a.Connack.SessionPresent {
		t.Fatal("session present before there was one")
	}
	a.Disconnect()
	b := dial(t).Connect(resume(id))
	if !b.Connack.SessionPresent {
		t.Fatal("no session after a connection with session expiry 600")
	}
	b.Subscribe(topic, 1)
	b.Drop()

	pub := join(t)
	pub.Publish(topic, 1, "offline")
	c := dial(t).Connect(resume(id))
	if !c.Connack.SessionPresent {
		t.Fatal("no session after a lost connection")
	}
	receives(t, c, "offline")
	c.Ping()
	c.Disconnect()

	d := dial(t).Connect(restart)
	if d.Connack.SessionPresent {
		t.Fatal("session present with Clean Start")
	}
	pub.Publish(topic, 1, "to the old session")
	d.Subscribe(topic, 1)
	pub.Publish(topic, 1, "to the new session")
	receives(t, d, "to the new session")
	d.Disconnect()
	if e := dial(t).Connect(resume(id)); !e.Connack.SessionPresent {
		t.Fatal("no session after Clean Start with session expiry 600")
	}
}

// The session ends with the connection where its expiry is 0 or absent, in
// CONNECT or in DISCONNECT, and does not where it is 0xFFFFFFFF [MQTT-4.1.0-2].
func TestV5SessionExpiryAtDisconnect(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.1.0-2", "MQTT-3.1.2-23")
	for _, tc := range []struct {
		name                string
		connect, disconnect []wire.Prop
		kept                bool
	}{
		{"absent", nil, nil, false},
		{"0", []wire.Prop{expiry(0)}, nil, false},
		{"0, DISCONNECT 0", []wire.Prop{expiry(0)}, []wire.Prop{expiry(0)}, false},
		{"100", []wire.Prop{expiry(100)}, nil, true},
		{"never", []wire.Prop{expiry(never)}, nil, true},
		{"100, DISCONNECT 0", []wire.Prop{expiry(100)}, []wire.Prop{expiry(0)}, false},
		{"1, DISCONNECT 100", []wire.Prop{expiry(1)}, []wire.Prop{expiry(100)}, true},
		{"never, DISCONNECT 0", []wire.Prop{expiry(never)}, []wire.Prop{expiry(0)}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			id := unique("c")
			a := dial(t).Connect(clean(id, tc.connect...))
			a.Subscribe(unique("t"), 1)
			a.Send(wire.Disconnect{Props: tc.disconnect})
			a.ExpectClosed()
			b := dial(t).Connect(wire.Connect{Version: wire.V5, ClientID: id})
			if b.Connack.SessionPresent != tc.kept {
				t.Errorf("session present %v, want %v", b.Connack.SessionPresent, tc.kept)
			}
		})
	}
}

// The expiry of a session counts from the end of its connection, not while it
// is there [MQTT-4.1.0-1], and then ends it [MQTT-4.1.0-2].
func TestV5SessionExpires(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-4.1.0-2", "MQTT-4.1.0-1")
	p := clean(unique("c"), expiry(1))
	dial(t).Connect(p)
	time.Sleep(1300 * time.Millisecond) // only time could end it
	b := dial(t).Connect(again(p))
	if !b.Connack.SessionPresent {
		t.Fatal("the session ended while its client was connected")
	}
	b.Disconnect()
	time.Sleep(2200 * time.Millisecond) // only time ends it
	if c := dial(t).Connect(again(p)); c.Connack.SessionPresent {
		t.Error("the session was there 2.2 s after it ended with expiry 1")
	}
}

// A DISCONNECT can not make a session outlive its connection that was not to:
// that is a protocol error and no valid DISCONNECT (§3.14.2.2.2).
func TestV5SessionExpiryFromZero(t *testing.T) {
	t.Parallel()
	for name, props := range map[string][]wire.Prop{"absent": nil, "0": {expiry(0)}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topic := unique("w")
			sub := join(t)
			sub.Subscribe(topic, 0)
			p := willTo(topic)
			p.Props = props
			c := dial(t).Connect(p)
			c.Send(wire.Disconnect{Props: wire.Props{expiry(5)}})
			c.ExpectDisconnect(protocolError)
			receives(t, sub, "bye")
			if again := dial(t).Connect(again(p)); again.Connack.SessionPresent {
				t.Error("the session was kept")
			}
		})
	}
}

// The session expiry of the last CONNECT counts.
func TestV5SessionExpiryRenewed(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.2-23", "MQTT-4.1.0-2")
	id := unique("c")
	dial(t).Connect(clean(id, expiry(600))).Disconnect()
	b := dial(t).Connect(again(clean(id)))
	if !b.Connack.SessionPresent {
		t.Fatal("no session")
	}
	b.Disconnect()
	if c := dial(t).Connect(again(clean(id))); c.Connack.SessionPresent {
		t.Error("the session was kept after a connection without session expiry")
	}
}

// A second connection of a client takes the session over; the first is told
// 0x8E and closed [MQTT-3.1.4-3].
func TestV5TakeOver(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.4-3", "MQTT-3.1.3-2")
	id, topic := unique("c"), unique("t")
	a := dial(t).Connect(resume(id))
	a.Subscribe(topic, 1)
	b := dial(t).Connect(resume(id))
	a.ExpectDisconnect(sessionTakenOver)
	if !b.Connack.SessionPresent {
		t.Error("the session did not come along")
	}
	join(t).Publish(topic, 1, "m")
	receives(t, b, "m")
	c := dial(t).Connect(clean(id))
	b.ExpectDisconnect(sessionTakenOver)
	if c.Connack.SessionPresent {
		t.Error("session present with Clean Start")
	}
	c.Ping()
}

// However quickly connections of one client follow each other, each takes over
// and the last one stays.
func TestV5QuickReconnections(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.4-3")
	id, topic := unique("c"), unique("t")
	last := dial(t).Connect(resume(id))
	last.Subscribe(topic, 1)
	for i := range 8 {
		next := dial(t).Connect(resume(id))
		if !next.Connack.SessionPresent {
			t.Fatalf("no session at reconnection %d", i+1)
		}
		last.ExpectDisconnect(sessionTakenOver)
		last = next
	}
	join(t).Publish(topic, 1, "m")
	receives(t, last, "m")
	last.ExpectNothing()
}

// An empty client identifier is replaced by a new one, told in CONNACK, which
// is as good as one that the client chose [MQTT-3.1.3-6] [MQTT-3.1.3-7]
// [MQTT-3.2.2-16]. Others are told none.
func TestV5AssignedClientIdentifier(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.3-6", "MQTT-3.1.3-7", "MQTT-3.2.2-16")
	for name, cleanStart := range map[string]bool{"clean": true, "not clean": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seen := map[string]bool{}
			for range 5 {
				c := dial(t).Connect(wire.Connect{Version: wire.V5, Clean: cleanStart, Props: wire.Props{expiry(600)}})
				id, ok := c.Connack.Props.Text(wire.AssignedClientIDID)
				if !ok || id == "" || seen[id] || c.Connack.SessionPresent {
					t.Fatalf("CONNACK %+v, with identifiers %v before", c.Connack, seen)
				}
				seen[id] = true
				c.Disconnect()
				d := dial(t).Connect(again(clean(id)))
				if !d.Connack.SessionPresent || d.Connack.Props.Has(wire.AssignedClientIDID) {
					t.Errorf("with the assigned identifier: %+v", d.Connack)
				}
			}
		})
	}
}

// A keep alive that the server does not accept is answered by its own, which
// counts from then on; where none is told the client's counts (§3.2.2.3.14).
func TestV5ServerKeepAlive(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.2.2-21", "MQTT-3.2.2-22")
	for _, asked := range []uint16{0, 10, 60, 65_535} {
		p := clean(unique("c"))
		p.KeepAlive = asked
		c := dial(t).Connect(p)
		n, told := c.Connack.Props.Int(wire.ServerKeepAliveID)
		if told && asked > 0 && n > int(asked) {
			t.Errorf("server keep alive %d for %d", n, asked)
		}
		if told && n == 0 && asked > 0 {
			t.Errorf("server keep alive 0 for %d", asked)
		}
	}
}

// Response information comes only to those who ask, if at all [MQTT-3.1.2-28].
func TestV5ResponseInformation(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.2-28")
	for name, props := range map[string][]wire.Prop{"absent": nil, "0": {wire.ByteProp(wire.RequestResponseInfoID, 0)}} {
		if c := join(t, props...); c.Connack.Props.Has(wire.ResponseInfoID) {
			t.Errorf("%s: %+v", name, c.Connack)
		}
	}
	c := join(t, wire.ByteProp(wire.RequestResponseInfoID, 1))
	if s, ok := c.Connack.Props.Text(wire.ResponseInfoID); ok && s == "" {
		t.Error("empty response information")
	}
}

// What CONNACK says of the server's abilities is well-formed and consistent:
// none of the values is one that the standard forbids (§3.2.2.3).
func TestV5ConnackLimits(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.2.2-8", "MQTT-3.1.4-5")
	c := join(t, expiry(77))
	for id, forbidden := range map[byte]func(n int) bool{
		wire.ReceiveMaximumID:          func(n int) bool { return n == 0 },
		wire.MaximumPacketSizeID:       func(n int) bool { return n == 0 },
		wire.MaximumQoSID:              func(n int) bool { return n > 1 },
		wire.RetainAvailableID:         func(n int) bool { return n > 1 },
		wire.WildcardSubAvailableID:    func(n int) bool { return n > 1 },
		wire.SubscriptionIDAvailableID: func(n int) bool { return n > 1 },
		wire.SharedSubAvailableID:      func(n int) bool { return n > 1 },
		wire.SessionExpiryID:           func(n int) bool { return n > 77 },
	} {
		if n, ok := c.Connack.Props.Int(id); ok && forbidden(n) {
			t.Errorf("property 0x%02x is %d", id, n)
		}
	}
}

// User name and password in all their mixtures: a password alone is legal.
func TestV5UserNameAndPassword(t *testing.T) {
	t.Parallel()
	covers5(t, "MQTT-3.1.2-16", "MQTT-3.1.2-17", "MQTT-3.1.2-18", "MQTT-3.1.2-19")
	text := func(s string) *string { return &s }
	for _, p := range []struct{ user, password *string }{
		{text("u"), nil}, {text(""), nil}, {nil, text("p")}, {nil, text("")}, {text("u"), text("p")}, {text("u"), text("\x00\xff binary")},
	} {
		c := clean(unique("c"))
		c.Username, c.Password = p.user, p.password
		dial(t).Connect(c).Ping()
	}
}
