package gateway

import (
	"testing"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// wrongClock is a store as a gateway sees it whose own clock is behind.
type wrongClock struct {
	backend.Store
	behind time.Duration
}

func (c wrongClock) Now() time.Time { return time.Now().Add(c.behind) }

// TestF31WrongClock: when a message expires is told by the store's clock, not
// by those of the gateways that set and read it.
func TestF31WrongClock(t *testing.T) {
	for _, behind := range []time.Duration{-10 * time.Minute, 10 * time.Minute} {
		t.Run(behind.String(), func(t *testing.T) {
			g := newGateway(t, func(o *Options) { o.Store = wrongClock{o.Store, behind} })
			b := newBatch(g, nil)
			defer b.free()
			m := &backend.Message{Topic: "a", Expires: time.Now().Add(behind + 90*time.Second).UnixMilli()}
			if g.expired(m) {
				t.Error("expired by the gateway's clock")
			}
			if p := b.packetOf(m); p.MessageExpiry < 85 || p.MessageExpiry > 90 {
				t.Errorf("%d s are left, want 90", p.MessageExpiry)
			}
			m.Expires -= (91 * time.Second).Milliseconds()
			if !g.expired(m) {
				t.Error("does not expire by the store's clock")
			}

			s := join(t, g, "s")
			s.subscribe(1, "e")
			p := join(t, g, "p")
			p.send(&protocol.Publish{Topic: []byte("e"), QoS: 1, PacketID: 1, Payload: []byte("x"), MessageExpiry: 60, HasMessageExpiry: true})
			p.expect("PUBACK #1")
			s.expect("PUBLISH e=x q1 #1")
		})
	}
}

// TestRemaining: two gateways whose idea of the store's clock differs a little
// do not add to a message's time.
func TestRemaining(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	for _, tt := range []struct {
		left time.Duration
		want uint32
	}{
		{60 * time.Second, 60}, {60*time.Second + 30*time.Millisecond, 60}, {60*time.Second - 30*time.Millisecond, 60},
		{59 * time.Second, 59}, {400 * time.Millisecond, 1}, {time.Millisecond, 1}, {0, 0}, {-time.Second, 0},
		{backend.NeverExpires * time.Second, backend.NeverExpires}, {2 * backend.NeverExpires * time.Second, backend.NeverExpires},
	} {
		m := &backend.Message{Expires: now.Add(tt.left).UnixMilli()}
		if got := remaining(m, now); got != tt.want {
			t.Errorf("%v left: %d, want %d", tt.left, got, tt.want)
		}
	}
}
