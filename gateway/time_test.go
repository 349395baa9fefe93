package gateway

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mqtt/sluice/protocol"
)

// The tests in this file run on a fake clock: what takes a day takes no time,
// and 'at' means at that moment and not a little later.

// inBubble runs a test on a fake clock.
func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

// unhurried is for gateways that live for hours: what they do by the clock
// anyway, they do seldom.
func unhurried(o *Options) { o.Timing.Poll, o.Timing.Lease = 24*time.Hour, 24*time.Hour }

// quiet checks that nothing has come for the client.
func (c *client) quiet() {
	c.t.Helper()
	synctest.Wait()
	select {
	case p := <-c.packets:
		c.t.Fatalf("%q, want nothing", describe(p))
	default:
	}
}

// quietBut checks that what is given has come by now, and nothing else.
func (c *client) quietBut(want ...string) {
	c.t.Helper()
	c.endsAt(0, 0, want...)
	c.quiet()
}

// endsAt checks that nothing comes for d, and then, within slack, what is given.
func (c *client) endsAt(d, slack time.Duration, want ...string) {
	c.t.Helper()
	if d > 0 {
		time.Sleep(d - time.Millisecond)
		c.quiet()
		time.Sleep(slack + 2*time.Millisecond)
	}
	synctest.Wait()
	for _, w := range want {
		select {
		case p := <-c.packets:
			if got := describe(p); got != w {
				c.t.Fatalf("%q, want %q", got, w)
			}
		default:
			c.t.Fatalf("nothing after %v, want %q", d+slack, w)
		}
	}
}

// TestKeepAlive: a client is cut off one and a half times its keep-alive after
// its last packet, and not before [MQTT-3.1.2-22]; the wheel looks four times a
// second.
func TestKeepAlive(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		asked  uint16 // by the client, in seconds
		limit  time.Duration
		v      protocol.Version
		told   uint16        // in CONNACK; 0 is nothing
		lasts  time.Duration // without a packet; 0 is for ever
		answer []string
	}{
		{"1 s", 1, -1, protocol.V5, 0, 1500 * time.Millisecond, []string{"DISCONNECT 0x8D", "closed"}},
		{"odd", 7, -1, protocol.V5, 0, 10500 * time.Millisecond, []string{"DISCONNECT 0x8D", "closed"}},
		{"MQTT 3", 60, -1, protocol.V311, 0, 90 * time.Second, []string{"closed"}},
		{"longer than the wheel", 300, -1, protocol.V311, 0, 450 * time.Second, []string{"closed"}},
		{"no 16-bit arithmetic", 44000, -1, protocol.V311, 0, 66000 * time.Second, []string{"closed"}},
		{"none", 0, -1, protocol.V5, 0, 0, nil},
		{"none in MQTT 3 is none", 0, 10 * time.Second, protocol.V311, 0, 0, nil},
		// [MQTT-3.1.2-21]
		{"the server's for none", 0, 10 * time.Second, protocol.V5, 10, 15 * time.Second, []string{"DISCONNECT 0x8D", "closed"}},
		{"the server's is lower", 11, 10 * time.Second, protocol.V5, 10, 15 * time.Second, []string{"DISCONNECT 0x8D", "closed"}},
		{"the client's is lower", 9, 10 * time.Second, protocol.V5, 0, 13500 * time.Millisecond, []string{"DISCONNECT 0x8D", "closed"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				g := newGateway(t, unhurried, func(o *Options) { o.Limits.KeepAlive = tt.limit })
				time.Sleep(70 * time.Millisecond) // not on a tick of the wheel
				c := dial(t, g, connectPacket("c", keepAlive(tt.asked), func(p *protocol.Connect) { p.Version = tt.v }))
				told := c.next().(*protocol.Connack).ServerKeepAlive
				if (told == nil) != (tt.told == 0) || told != nil && *told != tt.told {
					t.Fatalf("server keep alive %v, want %d", told, tt.told)
				}
				if tt.lasts == 0 {
					time.Sleep(time.Hour)
					c.ping()
					return
				}
				time.Sleep(tt.lasts - time.Millisecond)
				c.ping() // any packet counts, and begins it anew
				c.endsAt(tt.lasts, wheelTick, tt.answer...)
			})
		})
	}
}

// TestKeepAliveAfterStall: a gateway that was held up reads first what came
// meanwhile, before it takes a client for silent.
func TestKeepAliveAfterStall(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGateway(t, unhurried)
		lively, silent := join(t, g, "lively", keepAlive(10)), join(t, g, "silent", keepAlive(10))
		time.Sleep(15*time.Second - 10*time.Millisecond)
		g.wheel.mu.Lock()
		g.wheel.turned -= 5 * time.Second
		g.wheel.mu.Unlock()
		time.Sleep(wheelTick)
		lively.ping()
		silent.quiet()
		time.Sleep(stalled + wheelTick)
		silent.endsAt(0, 0, "DISCONNECT 0x8D", "closed")
		lively.ping()
	})
}

// TestKeepAliveNeedsWholePackets: bytes that never become a packet do not keep
// a connection alive [MQTT-3.1.2-22].
func TestKeepAliveNeedsWholePackets(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := join(t, newGateway(t), "c", keepAlive(2))
		c.write([]byte{0x30, 100, 0, 90}) // a PUBLISH that takes its time
		for range 11 {
			time.Sleep(250 * time.Millisecond)
			c.write([]byte{'a'})
		}
		c.endsAt(250*time.Millisecond, wheelTick, "DISCONNECT 0x8D", "closed")
	})
}

// TestConnectDeadline: a connection that is not let in within Timing.Connect is
// closed, whatever it does [MQTT-3.1.4-1].
func TestConnectDeadline(t *testing.T) {
	t.Parallel()
	whole, err := protocol.AppendPacket(nil, connectPacket("a client that is in no hurry"), protocol.V5)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		send func(w io.Writer)
	}{
		{"silence", func(io.Writer) {}},
		{"half of a packet", func(w io.Writer) { w.Write(whole[:len(whole)/2]) }},
		{"a byte each second", func(w io.Writer) {
			for i := range whole {
				if _, err := w.Write(whole[i : i+1]); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				g := newGateway(t)
				nc := pipe(t, g)
				start := time.Now()
				var sending sync.WaitGroup
				defer sending.Wait()
				sending.Go(func() { tt.send(nc) })
				if b, err := io.ReadAll(nc); err != nil || len(b) > 0 {
					t.Errorf("read %x, %v", b, err)
				}
				if took := time.Since(start); took != 10*time.Second {
					t.Errorf("closed after %v", took)
				}
				synctest.Wait()
				if n := g.Stats().Connections; n != 0 {
					t.Errorf("%d connections are left", n)
				}
			})
		})
	}
}

// TestConnackNotRead: who does not even take CONNACK is cut off after the time
// to write, though it has no keep-alive.
func TestConnackNotRead(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGateway(t)
		nc := pipe(t, g)
		b, _ := protocol.AppendPacket(nil, connectPacket("c", v311), protocol.V311)
		if _, err := nc.Write(b); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := g.Stats().Connections; n != 0 {
			t.Errorf("it is still there after a minute")
		}
	})
}

// TestWillDelay: a will waits for its delay or the end of the session,
// whichever comes first, and is not published if the session is resumed before
// [MQTT-3.1.3-9].
func TestWillDelay(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		delay, expiry uint32
		end           func(c *client)
		back          time.Duration // when the client comes back; 0 is never
		clean         bool          // then, with clean start
		after         time.Duration // when the will is to come; < 0 is never
	}{
		{"no delay", 0, 100, (*client).cut, 0, false, 0},
		{"delay", 30, 100, (*client).cut, 0, false, 30 * time.Second},
		{"session ends first", 30, 20, (*client).cut, 0, false, 20 * time.Second},
		{"session ends with the connection", 30, 0, (*client).cut, 0, false, 0},
		{"resumed in time", 30, 100, (*client).cut, 29 * time.Second, false, -1},
		{"resumed too late", 30, 100, (*client).cut, 32 * time.Second, false, 30 * time.Second},
		{"clean start ends the session", 30, 100, (*client).cut, 10 * time.Second, true, 10 * time.Second},
		{"goodbye", 0, 100, (*client).goodbye, 0, false, -1}, // [MQTT-3.14.4-3]
		{"goodbye with will", 30, 100, func(c *client) {
			c.send(&protocol.Disconnect{Code: protocol.DisconnectWithWill})
			c.expect("closed")
		}, 0, false, 30 * time.Second},
		{"goodbye with will and without session", 30, 100, func(c *client) {
			c.send(&protocol.Disconnect{Code: protocol.DisconnectWithWill, HasSessionExpiry: true})
			c.expect("closed")
		}, 0, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				g := newGateway(t, unhurried)
				watch := join(t, g, "watch")
				watch.subscribe(0, "will")
				c := join(t, g, "c", durable(tt.expiry), will(protocol.Will{Topic: "will", Payload: []byte("gone"), Delay: tt.delay}))
				tt.end(c)
				if tt.back > 0 {
					back := connectPacket("c", durable(100))
					back.CleanStart = tt.clean
					time.AfterFunc(tt.back, func() { dial(t, g, back) })
				}
				if tt.after < 0 {
					time.Sleep(time.Hour)
					watch.quiet()
					return
				}
				if tt.after > 0 {
					time.Sleep(tt.after - time.Millisecond)
					watch.quiet()
				}
				// Due is asked once a second at least.
				time.Sleep(1100 * time.Millisecond)
				synctest.Wait()
				watch.expect("PUBLISH will=gone")
				time.Sleep(time.Hour)
				watch.quiet()
				if n := g.Stats().Wills; n != 1 {
					t.Errorf("%d wills are counted", n)
				}
			})
		})
	}
}

// TestWillExpiry: the message expiry interval of a will begins when it is
// published.
func TestWillExpiry(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGateway(t)
		watch := join(t, g, "watch", durable(1000))
		watch.subscribe(1, "will")
		watch.goodbye()
		join(t, g, "c", durable(1000), will(protocol.Will{
			Topic: "will", QoS: 1, Delay: 100, MessageExpiry: 60, HasMessageExpiry: true,
		})).cut()
		time.Sleep(140 * time.Second)
		p := rejoin(t, g, "watch").next().(*protocol.Publish)
		if !p.HasMessageExpiry || p.MessageExpiry < 20 || p.MessageExpiry > 22 {
			t.Errorf("expiry of %d s, want about 20", p.MessageExpiry)
		}
	})
}

// TestSessionExpiry: a session is there until its time is over, and then it is
// not [MQTT-3.1.2-23].
func TestSessionExpiry(t *testing.T) {
	t.Parallel()
	say := func(d protocol.Disconnect) func(c *client) {
		return func(c *client) {
			c.send(&d)
			c.expect("closed")
		}
	}
	for _, tt := range []struct {
		name    string
		connect func(*protocol.Connect)
		end     func(c *client)
		lasts   time.Duration
	}{
		{"in CONNECT", durable(60), (*client).cut, 60 * time.Second},
		{"longer at DISCONNECT", durable(60), say(protocol.Disconnect{SessionExpiry: 90, HasSessionExpiry: true}), 90 * time.Second},
		{"shorter at DISCONNECT", durable(60), say(protocol.Disconnect{SessionExpiry: 10, HasSessionExpiry: true}), 10 * time.Second},
		{"capped", durable(7000), (*client).cut, 5000 * time.Second},
		{"MQTT 3", func(p *protocol.Connect) { v311(p); p.CleanStart = false }, func(c *client) {
			c.send(&protocol.Disconnect{})
			c.expect("closed")
		}, 600 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				g := newGateway(t, func(o *Options) { o.Limits.SessionExpiry, o.Limits.SessionExpiryV3 = 5000, 600 })
				connect := func() *client { return dial(t, g, connectPacket("c", tt.connect)) }
				c := connect()
				c.expect("CONNACK")
				tt.end(c)
				time.Sleep(tt.lasts - time.Second)
				c = connect()
				c.expect("CONNACK present")
				tt.end(c)
				time.Sleep(tt.lasts + time.Second)
				connect().expect("CONNACK")
			})
		})
	}
}

// TestMessageExpiry: what waits in an inbox or as retained carries the time that
// is left [MQTT-3.3.2-6], and is not delivered when that is over [MQTT-3.3.2-5].
func TestMessageExpiry(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGateway(t)
		s := join(t, g, "s", durable(1000))
		s.subscribe(1, "mail")
		s.goodbye()
		p := join(t, g, "p")
		for i, seconds := range []uint32{60, 10, 0xFFFFFFFF} {
			m := publish("mail", string(rune('a'+i)), 1, uint16(i+1))
			m.MessageExpiry, m.HasMessageExpiry = seconds, true
			p.send(m)
			p.expect(describe(ack(protocol.PUBACK, uint16(i+1))))
		}
		r := retained("kept", "r", 0, 0)
		r.MessageExpiry, r.HasMessageExpiry = 60, true
		p.send(r)
		p.ping()

		time.Sleep(25500 * time.Millisecond)
		s = rejoin(t, g, "s")
		for _, want := range []struct {
			payload string
			left    uint32
		}{{"a", 35}, {"c", 0xFFFFFFFF - 25}} {
			m := s.next().(*protocol.Publish)
			if string(m.Payload) != want.payload || m.MessageExpiry != want.left {
				t.Errorf("%s with %d s left, want %s with %d", m.Payload, m.MessageExpiry, want.payload, want.left)
			}
		}
		s.send(subscribePacket(2, 0, "kept"))
		s.expect("SUBACK #2 0x00")
		if m := s.next().(*protocol.Publish); m.MessageExpiry != 35 {
			t.Errorf("retained with %d s left, want 35", m.MessageExpiry)
		}
		time.Sleep(35 * time.Second)
		s.send(subscribePacket(3, 0, "kept"))
		s.expect("SUBACK #3 0x00")
		s.ping()
	})
}

// TestMessageExpiryCap: the server's cap holds for messages with a longer
// interval and for those without one.
func TestMessageExpiryCap(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGateway(t, func(o *Options) { o.Limits.MessageExpiry = 100 })
		s := join(t, g, "s")
		s.subscribe(0, "#")
		p := join(t, g, "p")
		for _, tt := range []struct{ asked, want uint32 }{{0, 100}, {200, 100}, {99, 99}} {
			m := publish("a", "", 0, 0)
			m.MessageExpiry, m.HasMessageExpiry = tt.asked, tt.asked > 0
			p.send(m)
			if got := s.next().(*protocol.Publish).MessageExpiry; got != tt.want {
				t.Errorf("asked for %d, got %d, want %d", tt.asked, got, tt.want)
			}
		}
	})
}

// TestCredentialsExpire: a connection ends with its credentials.
func TestCredentialsExpire(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGateway(t, func(o *Options) {
			o.Authenticator = AuthenticatorFunc(func(context.Context, *ConnectRequest) (Identity, error) {
				return Identity{Principal: "somebody", Expires: time.Now().Add(30 * time.Second)}, nil
			})
		})
		five, three := join(t, g, "five"), join(t, g, "three", v311)
		time.Sleep(30*time.Second - time.Millisecond)
		five.ping()
		three.ping()
		five.endsAt(time.Millisecond, 0, "DISCONNECT 0xA0", "closed")
		three.expect("closed")
	})
}
