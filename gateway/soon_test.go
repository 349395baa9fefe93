package gateway

import (
	"errors"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// slowStore is a service that knows how it is, and whose appends wait.
type slowStore struct {
	*faultyStore
	ill error
}

func (s *slowStore) Health() error { return s.ill }

// TestLiveBeforeStored: a publish of QoS 1 reaches live sessions, here and at
// other gateways, once, while it is being stored; its acknowledgement and its
// inboxes wait. QoS 2, what is to be retained, and what comes while the store is
// away wait with them.
func TestLiveBeforeStored(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		qos    byte
		retain bool
		ill    error
		early  bool
	}{
		{"QoS 1", 1, false, nil, true},
		{"QoS 2", 2, false, nil, false},
		{"retained", 1, true, nil, false},
		{"store away", 1, false, errors.New("away"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			waits, goOn := make(chan struct{}, 1), make(chan struct{})
			cl := newCluster(t, 2, func(i int, o *Options) {
				o.Store = &slowStore{o.Store.(*faultyStore), tt.ill}
			})
			here, there, kept := join(t, cl.nodes[0], "here"), join(t, cl.nodes[1], "there"), join(t, cl.nodes[1], "kept", durable(1000))
			for _, c := range []*client{here, there, kept} {
				c.subscribe(1, "a")
			}
			cl.stores[0].fault(func(call string) error {
				if call == "Append" {
					waits <- struct{}{}
					<-goOn
				}
				return nil
			})
			p := join(t, cl.nodes[0], "p")
			answer := [...]protocol.Type{1: protocol.PUBACK, 2: protocol.PUBREC}[tt.qos]
			m := publish("a", "x", tt.qos, 1)
			m.Retain = tt.retain
			p.send(m)
			<-waits
			live := []*client{here, there}
			if tt.early {
				for _, c := range live {
					c.expect("PUBLISH a=x q1 #1")
				}
			}
			for _, c := range []*client{here, there, kept} {
				c.ping() // and nothing else before it
			}
			close(goOn)
			if !tt.early {
				for _, c := range live {
					c.expect("PUBLISH a=x q1 #1")
				}
			}
			kept.expect("PUBLISH a=x q1 #1")
			p.expect(describe(ack(answer, 1)))
			for _, c := range live {
				c.ping()
			}
		})
	}
}

// TestSoonOfAPlainBus: a bus that can not bundle is given everything at once.
func TestSoonOfAPlainBus(t *testing.T) {
	bus := &faultyBus{}
	var calls []string
	bus.fault(func(call string, _ any) (bool, error) {
		calls = append(calls, call)
		return true, nil
	})
	b := bundler(bus)
	if err := errors.Join(b.PublishSoon(t.Context(), &backend.Message{}), b.NotifySoon(t.Context(), "n", backend.Notice{})); err != nil {
		t.Fatal(err)
	}
	if len(calls) != 2 {
		t.Errorf("called %q before Flush", calls)
	}
	b.Flush()
}
