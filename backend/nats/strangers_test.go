package nats_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	natsgo "github.com/nats-io/nats.go"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/nats"
)

// TestStrangersOnOurSubjects: random bytes, frames that are cut, frames to come
// and another cluster of gateways with the same prefix. All is counted, nothing
// is handed out, and nothing else is disturbed (F27).
func TestStrangersOnOurSubjects(t *testing.T) {
	t.Parallel()
	s := startService(t, program(t, "installed"), 1)
	list := gateways(t, s, 2, func(o *nats.Options) { o.Cluster = "ours" })
	theirs := list[0].beside(s, 0)
	theirs.Cluster = "theirs"
	other := start(t, theirs, "gateway-0") // even the name of the node is the same
	list[0].subscribe(t, "#")

	conn, err := natsgo.Connect(s.url(0))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// A frame of ours, to be damaged.
	frames := make(chan *natsgo.Msg, 1)
	prefix := list[0].options.SubjectPrefix
	sub, err := conn.ChanSubscribe(prefix+".q.1.sample", frames)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	list[1].publish(t, "sample")
	frame := (<-frames).Data
	if err := sub.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	list[0].wait(t, "the sample", func() bool { return list[0].heard["sample"] == 1 })

	const random = 300
	subjects := []string{".q.0.a", ".q.1.a.b", ".all", ".node.gateway-0", ".d.0.$SYS", ".probe.gateway-0"}
	send := func(i int, b []byte) {
		if err := conn.Publish(prefix+subjects[i%len(subjects)], b); err != nil {
			t.Fatal(err)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range random {
		b := make([]byte, r.IntN(100))
		for j := range b {
			b[j] = byte(r.Uint32())
		}
		send(i, b)
	}
	for i := range frame {
		send(i, frame[:i])
	}
	next := append([]byte(nil), frame...)
	next[1]++
	for i := range subjects {
		send(i, next)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := other.Publish(t.Context(), &backend.Message{Topic: "a"}); err != nil {
		t.Fatal(err)
	}
	if err := other.Notify(t.Context(), "gateway-0x", backend.Notice{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all is counted", func() bool {
		st := list[0].Stats()
		// "#" does not reach what is below "$"; nobody hears the probes.
		return st.Malformed >= random/2 && st.UnknownVersion >= 4 && st.Foreign >= 1
	})
	settled(t, list[0], list[1], "after")
	list[0].mu.Lock()
	defer list[0].mu.Unlock()
	if len(list[0].heard) != 2 || len(list[0].notices) != 0 || len(list[0].gaps) != 0 {
		t.Errorf("heard %v, notices %v, gaps %v; want the two that were published", list[0].heard, list[0].notices, list[0].gaps)
	}
	if err := list[0].Health(); err != nil {
		t.Error(err)
	}
}

// TestMaxPayload: a message of the size that MaxPayload promises crosses with
// all that can be added to it, as a message and in a notice (F25).
func TestMaxPayload(t *testing.T) {
	t.Parallel()
	s := startService(t, program(t, "installed"), 1)
	list := gateways(t, s, 2, func(o *nats.Options) { o.QueueBytes = 64 << 20 })
	list[0].subscribe(t, "#")
	id := func(c string) backend.ClientID { return backend.ClientID(strings.Repeat(c, 65535)) }
	m := &backend.Message{
		Topic: strings.Repeat("t", 65535), Publisher: id("p"), QoS: 2, Retain: true, Expires: 1 << 62,
		ID: backend.PublishID{Client: id("c"), Incarnation: 1<<64 - 1, PacketID: 65535, Generation: 1<<32 - 1},
	}
	m.Properties = make([]byte, 1000)
	m.Payload = make([]byte, list[1].MaxPayload()-m.Size())
	n := backend.Notice{Kind: backend.NoticeMail, Client: id("r"), Epoch: 1<<64 - 1, Entry: backend.Entry{
		Seq: 1<<64 - 1, Message: m, QoS: 2, SubscriptionIDs: make([]uint32, 1000), Share: strings.Repeat("s", 65535),
	}}
	for i := range n.Entry.SubscriptionIDs {
		n.Entry.SubscriptionIDs[i] = 268_435_455
	}
	if err := errors.Join(list[1].Publish(t.Context(), m), list[1].Notify(t.Context(), "gateway-0", n)); err != nil {
		t.Fatal(err)
	}
	list[0].wait(t, "message and notice", func() bool { return len(list[0].heard) == 1 && len(list[0].notices) == 1 })
	m.Payload = make([]byte, 1<<20)
	if err := list[1].Publish(t.Context(), m); !errors.Is(err, backend.ErrTooLarge) {
		t.Errorf("above what the server takes: %v, want ErrTooLarge", err)
	}
}

// TestRefusedSubscription: a server that refuses a subscription, by permission
// or by number, does not leave a Subscribe that seems to have worked; others
// go on.
func TestRefusedSubscription(t *testing.T) {
	t.Parallel()
	path := program(t, "installed")
	for name, conf := range map[string]string{
		"permission": `authorization { users = [ { user: u, password: p, permissions: { publish: ">", subscribe: { allow: ">", deny: "*.*.q.*.refused.>" } } } ] }`,
		"number":     `max_subscriptions: 8`,
	} {
		t.Run(name, func(t *testing.T) {
			s := startService(t, path, 1, "-c", config(t, conf))
			list := gateways(t, s, 2, func(o *nats.Options) { o.User, o.Password = "u", "p" })
			list[0].subscribe(t, "taken")
			var err error
			for i := 0; err == nil && i < 10; i++ {
				err = list[0].Subscribe(t.Context(), fmt.Sprint("refused/", i), everyClass)
			}
			if !errors.Is(err, backend.ErrUnavailable) {
				t.Fatalf("Subscribe: %v, want ErrUnavailable", err)
			}
			t.Log(err)
			hears(t, list[0], list[1], "taken")
		})
	}
}

// TestRefusedPublish: a server that does not let the gateway publish makes its
// health red.
func TestRefusedPublish(t *testing.T) {
	t.Parallel()
	s := startService(t, program(t, "installed"), 1, "-c", config(t,
		`authorization { users = [ { user: u, password: p, permissions: { subscribe: ">", publish: { allow: ">", deny: "*.*.q.1.>" } } } ] }`))
	list := gateways(t, s, 1, func(o *nats.Options) { o.User, o.Password = "u", "p" })
	list[0].publish(t, "a")
	eventually(t, "health is red", func() bool { return list[0].Health() != nil })
	if err := list[0].Health(); !strings.Contains(err.Error(), "Permissions Violation for Publish") {
		t.Errorf("health: %v", err)
	}
}
