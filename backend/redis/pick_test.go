package redis

import (
	"errors"
	"fmt"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

// TestRepeatedToMovedInbox: a QoS 2 message for a shared group was stored, its
// publisher does not know, the member that has it is left, and another gateway,
// whose index has the inbox where it was before, gets the message again. It
// stays with that member [MQTT-4.3.3-13].
func TestRepeatedToMovedInbox(t *testing.T) {
	p := newPair(t, nil)
	for n := range 3 { // the index is behind in some of them only
		topic := fmt.Sprint("t", n)
		sub := backend.Subscription{Filter: "$share/g/" + topic, QoS: 2}
		leases := map[backend.ClientID]backend.Lease{}
		for _, c := range []string{"x", "y", "z"} {
			c := backend.ClientID(c + topic)
			leases[c] = openSession(t, p.b, "b", c, sub).Lease
		}
		m := message(topic, "once")
		m.QoS, m.Publisher = 2, "p"
		m.ID = backend.PublishID{Client: "p", Incarnation: 1, PacketID: uint16(n + 1)}
		p.lose(t, appendScript)
		if err := p.b.Append(t.Context(), []*backend.Message{m}, make([]backend.Append, 1)); !errors.Is(err, backend.ErrUnavailable) {
			t.Fatalf("an append whose reply was lost: %v, want ErrUnavailable", err)
		}
		var has backend.ClientID
		for c, l := range leases {
			if len(inboxOf(t, p.b, l)) > 0 {
				has = c
			}
		}
		if err := p.a.replica.catchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := p.b.Release(t.Context(), leases[has], backend.ReleaseRequest{}); err != nil {
			t.Fatal(err)
		}
		appendTo(t, p.a, m)
		leases[has] = openSession(t, p.b, "b", has).Lease
		for c, l := range leases {
			want := []string{}
			if c == has {
				want = append(want, "once")
			}
			wantInbox(t, p.b, l, want...)
		}
	}
}
