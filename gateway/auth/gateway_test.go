package auth

import (
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/gateway"
	"github.com/sluice-mqtt/sluice/protocol"
)

// guarded starts a gateway with users and an ACL file; revise writes and applies
// other rules.
func guarded(t testing.TB, users map[string]string, rules ...string) (g *gateway.Gateway, revise func(rules ...string)) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "acl")
	var lines []string
	for u, pass := range users {
		h, err := hashFor(u, pass)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, u+":"+h)
	}
	write(t, filepath.Join(dir, "users"), lines...)
	write(t, path, rules...)
	f, err := OpenPasswordFile(filepath.Join(dir, "users"), quiet())
	if err != nil {
		t.Fatal(err)
	}
	a, err := OpenACLFile(path, quiet())
	if err != nil {
		t.Fatal(err)
	}
	g = start(t, func(o *gateway.Options) {
		o.Authenticator = &Chain{Links: []Link{{"file", NewPasswords("file", f, NewHasher(0, time.Hour))}}, Anonymous: true}
		o.Authorizer = Permissions{{"acl", a}}
		o.DollarPublish = true
	})
	return g, func(rules ...string) {
		t.Helper()
		write(t, path, rules...)
		if !a.Reload(true) {
			t.Fatal("the rules are the same")
		}
		g.Reauthorize(t.Context())
	}
}

// TestF44 with a file of rules: a/secret, which is denied, reaches the client by
// none of the paths that messages take, and a/open by all of them.
func TestF44(t *testing.T) {
	t.Parallel()
	const allow, denied = "topic read a/#", "topic deny a/secret"
	users := map[string]string{"sub": "s", "pub": "p"}
	writer := []string{"user pub", "topic readwrite #", "user sub"}
	both := func(c *client, qos byte, retain bool) {
		for _, topic := range []string{"a/secret", "a/open"} {
			c.send(publish(topic, "x", qos, retain))
			if qos > 0 {
				c.next()
			}
			if qos == 2 {
				c.send(&protocol.Ack{Kind: protocol.PUBREL, PacketID: 1})
				c.next()
			}
		}
	}
	for _, tt := range []struct {
		path   string
		filter string
		qos    byte
		retain bool
	}{
		{"live", "a/#", 0, false}, {"live, QoS 1", "a/#", 1, false}, {"retained", "a/#", 1, true}, {"retained, QoS 0", "#", 0, true},
		{"shared", "$share/g/a/#", 0, false}, {"shared, QoS 2", "$share/g/a/#", 2, false},
	} {
		t.Run(tt.path, func(t *testing.T) {
			t.Parallel()
			g, _ := guarded(t, users, append(writer, allow, denied)...)
			p, s := join(t, g, "p", as("pub", "p")), join(t, g, "s", as("sub", "s"))
			if tt.retain {
				both(p, 1, true)
			}
			s.send(subscribe(tt.qos, tt.filter))
			s.expect(fmt.Sprintf("SUBACK %02X", tt.qos))
			want := "PUBLISH a/open x"
			if tt.retain {
				want += " retained"
			} else {
				both(p, tt.qos, false)
			}
			s.expect(want)
			s.quiet()
		})
	}
	for _, qos := range []byte{1, 2} {
		t.Run(fmt.Sprint("inbox after the permission was taken back, QoS ", qos), func(t *testing.T) {
			t.Parallel()
			g, revise := guarded(t, users, append(writer, allow)...)
			p, s := join(t, g, "p", as("pub", "p")), join(t, g, "s", as("sub", "s"), durable)
			s.send(subscribe(qos, "a/#"))
			s.expect(fmt.Sprintf("SUBACK %02X", qos))
			both(p, qos, false) // sent, and not acknowledged
			s.expect("PUBLISH a/secret x", "PUBLISH a/open x")
			s.nc.Close()
			revise(append(writer, allow, denied)...)
			both(p, qos, false) // while it is away
			s = join(t, g, "s", as("sub", "s"), durable)
			s.expect("PUBLISH a/open x", "PUBLISH a/open x")
			s.quiet()
		})
	}
	t.Run("alias of the server", func(t *testing.T) {
		t.Parallel()
		g, revise := guarded(t, users, append(writer, allow)...)
		p := join(t, g, "p", as("pub", "p"))
		s := join(t, g, "s", as("sub", "s"), func(p *protocol.Connect) { p.TopicAliasMaximum = 10 })
		s.send(subscribe(0, "a/#"))
		s.expect("SUBACK 00")
		both(p, 0, false)
		both(p, 0, false)
		s.expect("PUBLISH a/secret x", "PUBLISH a/open x", "PUBLISH  x", "PUBLISH  x")
		revise(append(writer, allow, denied)...)
		both(p, 0, false)
		s.expect("PUBLISH  x")
		s.quiet()
	})
	t.Run("subscription taken back", func(t *testing.T) {
		t.Parallel()
		g, revise := guarded(t, users, append(writer, "topic read b", allow)...)
		p, s := join(t, g, "p", as("pub", "p")), join(t, g, "s", as("sub", "s"), durable)
		s.send(subscribe(1, "a/open", "b"))
		s.expect("SUBACK 01 01")
		revise(append(writer, "topic read b")...)
		both(p, 1, false)
		p.send(publish("b", "x", 1, false))
		s.expect("PUBLISH b x")
		s.quiet()
		// It is gone from the session as well.
		s.nc.Close()
		revise(append(writer, allow, "topic read b")...)
		s = join(t, g, "s", as("sub", "s"), durable)
		s.expect("PUBLISH b x")
		both(p, 1, false)
		s.quiet()
	})
}

// TestF41: an alias does not stand for the permission that its topic once had.
func TestF41(t *testing.T) {
	t.Parallel()
	g, revise := guarded(t, nil, "topic write a", "topic write b")
	c := join(t, g, "c")
	aliased := func(topic string) *protocol.Publish {
		p := publish(topic, "x", 1, false)
		p.TopicAlias, p.HasTopicAlias = 1, true
		return p
	}
	c.send(aliased("a"), aliased(""))
	c.expect("PUBACK 0x10", "PUBACK 0x10") // nobody subscribes
	revise("topic write b")
	c.send(aliased(""), aliased("a"), aliased("b"), aliased(""))
	c.expect("PUBACK 0x87", "PUBACK 0x87", "PUBACK 0x10", "PUBACK 0x10")
}

// TestF45: share names, $ topics, wills and odd names are no way around a rule.
func TestF45(t *testing.T) {
	t.Parallel()
	users := map[string]string{"u": "p", "x#": "p", "+": "p", ".*": "p", "%c": "p"}
	g, revise := guarded(t, users, "topic readwrite own/#", "user u", "topic readwrite a/#", "topic deny a/secret", "pattern readwrite c/%c", "pattern readwrite u/%u/#")
	t.Run("subscriptions", func(t *testing.T) {
		c := join(t, g, "c", as("u", "p"))
		for _, tt := range []struct{ filter, want string }{
			{"$share/g/a/secret", "87"}, {"a/secret", "87"}, {"$share/g", "8F"}, {"$share//x", "8F"}, {"$share/+/a", "8F"},
			{"$SYS/#", "87"}, {"$SYS/broker/uptime", "87"}, {"$x/y", "87"}, {"b/#", "87"}, {"$share/g/#", "87"}, {"$share/g/a/#", "00"},
			{"#", "00"}, {"+/#", "00"}, {"c/c", "00"}, {"c/d", "87"}, {"u/u/#", "00"}, {"u/v", "87"},
		} {
			c.send(subscribe(0, tt.filter))
			if got := show(c.next()); got != "SUBACK "+tt.want {
				t.Errorf("%s: %s, want %s", tt.filter, got, tt.want)
			}
		}
		if err := g.Publish(t.Context(), message("$SYS/x")); err != nil {
			t.Fatal(err)
		}
		if err := g.Publish(t.Context(), message("$x/y")); err != nil {
			t.Fatal(err)
		}
		c.quiet()
	})
	t.Run("wills", func(t *testing.T) {
		for _, tt := range []struct{ topic, five string }{
			{"a/secret", "CONNACK 0x87"}, {"b", "CONNACK 0x87"}, {"$x/y", "CONNACK 0x87"}, {"$SYS/x", "CONNACK 0x90"}, {"a/x", "CONNACK 0x00"}, {"c/w", "CONNACK 0x00"},
		} {
			will := func(p *protocol.Connect) { p.Will = &protocol.Will{Topic: tt.topic, Payload: []byte("x")} }
			if got := show(connect(t, g, "w", as("u", "p"), will).next()); got != tt.five {
				t.Errorf("will to %s: %s, want %s", tt.topic, got, tt.five)
			}
		}
	})
	t.Run("names", func(t *testing.T) {
		for _, name := range []string{"#", "+", ".*", "%c"} {
			user := name
			if name == "#" { // a line of the file can not begin with it
				user = "x#"
			}
			for _, c := range []*client{join(t, g, name, as("u", "p")), join(t, g, "c-"+user, as(user, "p"))} {
				for _, filter := range []string{"c/c", "c/x/y", "u/x/#", "u/c"} {
					c.send(subscribe(0, filter))
					if got := show(c.next()); got != "SUBACK 87" {
						t.Errorf("%s, %s: %s", name, filter, got)
					}
				}
				c.nc.Close()
			}
		}
		c := join(t, g, ".*", as("u", "p"))
		c.send(subscribe(0, "c/.*"))
		c.expect("SUBACK 00")
	})
	t.Run("will, when it is published", func(t *testing.T) {
		revise("user u", "topic readwrite a/#")
		s := join(t, g, "s", as("u", "p"))
		s.send(subscribe(0, "a/#"))
		s.expect("SUBACK 00")
		w := join(t, g, "w", as("u", "p"), func(p *protocol.Connect) {
			p.Will = &protocol.Will{Topic: "a/will", Payload: []byte("x")}
		})
		revise("user u", "topic read a/#")
		w.nc.Close()
		waitFor(t, func() bool { return g.Stats().Connections == 1 })
		s.quiet()
	})
}

// TestF46: sessions belong to who made them, whoever knows their name; without
// rules nothing is allowed.
func TestF46(t *testing.T) {
	t.Parallel()
	g, _ := guarded(t, map[string]string{"ann": "a", "bob": "b"}, "user ann", "topic readwrite #")
	ann := join(t, g, "device", as("ann", "a"), durable)
	for _, tt := range []struct {
		who         string
		user, pass  string
		five, three string
	}{
		{"another user", "bob", "b", "CONNACK 0x87", "CONNACK 0x05"},
		{"her without a password", "ann", "", "CONNACK 0x86", "CONNACK 0x04"},
		{"with a wrong password", "ann", "b", "CONNACK 0x86", "CONNACK 0x04"},
		{"with a password that is there and empty", "ann", "\x00empty", "CONNACK 0x86", "CONNACK 0x04"},
		{"nobody", "eve", "a", "CONNACK 0x86", "CONNACK 0x04"},
	} {
		change := as(tt.user, tt.pass)
		if tt.pass == "\x00empty" {
			change = func(p *protocol.Connect) { as(tt.user, "")(p); p.HasPassword = true }
		}
		if got := show(connect(t, g, "device", change, durable).next()); got != tt.five {
			t.Errorf("%s: %s, want %s", tt.who, got, tt.five)
		}
		if got := show(connect(t, g, "device", change, v3).next()); got != tt.three {
			t.Errorf("%s, MQTT 3: %s, want %s", tt.who, got, tt.three)
		}
		ann.quiet() // she stays
	}
	if got := show(connect(t, g, "device").next()); got != "CONNACK 0x87" {
		t.Errorf("an anonymous client: %s", got)
	}
	// Not while she is away either.
	ann.nc.Close()
	waitFor(t, func() bool { return g.Stats().Connections == 0 })
	if got := show(connect(t, g, "device", as("bob", "b")).next()); got != "CONNACK 0x87" {
		t.Errorf("while she is away: %s", got)
	}
	if a := connect(t, g, "device", as("ann", "a"), durable).next().(*protocol.Connack); a.Code != protocol.Success || !a.SessionPresent {
		t.Errorf("she herself: %+v", a)
	}

	empty, _ := guarded(t, map[string]string{"ann": "a"}, "# none")
	c := join(t, empty, "c", as("ann", "a"))
	c.send(publish("a", "x", 1, false), subscribe(0, "a", "#"))
	c.expect("PUBACK 0x87", "SUBACK 87 87")
}

// TestReauthorizeSendsAway: who would not be let in any more is told so.
func TestReauthorizeSendsAway(t *testing.T) {
	t.Parallel()
	f := passwordFile(t, "ann:"+hashOf(t, "a"), "bob:"+hashOf(t, "b"))
	g := start(t, func(o *gateway.Options) {
		o.Authenticator = &Chain{Links: []Link{{"file", NewPasswords("file", f, NewHasher(0, 0))}}}
	})
	ann, bob := join(t, g, "1", as("ann", "a")), join(t, g, "2", as("bob", "b"))
	write(t, f.Path(), "bob:"+strings.TrimSpace(hashOf(t, "b")))
	f.Reload(true)
	g.Reauthorize(t.Context())
	ann.expect("DISCONNECT 0x87", "closed")
	bob.expect("DISCONNECT 0x87", "closed") // the password was set anew
	join(t, g, "2", as("bob", "b"))
}

// TestNoAllocation: rules do not make a QoS 0 message allocate, from socket to
// socket. It counts for the whole process, so it does not run in parallel.
func TestNoAllocation(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	g, _ := guarded(t, map[string]string{"pub": "p", "sub": "s"}, "user pub", "topic deny x", "topic write a/#", "user sub", "topic read a/#", "pattern write c/%c/%u")
	p, s := join(t, g, "p", as("pub", "p")), join(t, g, "s", as("sub", "s"))
	s.send(subscribe(0, "a/#"))
	s.expect("SUBACK 00")
	const each = 50
	var packets []byte
	for i := range each { // of several topics, so that not all is remembered
		b, err := protocol.AppendPacket(packets, publish(fmt.Sprint("a/", i%5), "sixteen bytes...", 0, false), protocol.V5)
		if err != nil {
			t.Fatal(err)
		}
		packets = b
	}
	buf := make([]byte, len(packets))
	run := func(messages int) {
		for range messages / each {
			if _, err := p.nc.Write(packets); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(s.nc, buf); err != nil {
				t.Fatal(err)
			}
		}
	}
	run(2000)
	const messages = 20_000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	run(messages)
	runtime.ReadMemStats(&after)
	if each := float64(after.Mallocs-before.Mallocs) / messages; each >= 0.01 {
		t.Errorf("%.3f allocations a message", each)
	}
}
