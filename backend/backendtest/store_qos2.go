package backendtest

import (
	"fmt"
	"maps"
	"testing"

	"github.com/sluice-mqtt/sluice/backend"
)

var qos2Cases = []storeCase{
	{name: "once", promise: "two appends with one identity are one message; the second is a Duplicate", run: qos2Once},
	{name: "fresh", promise: "a message that is said to be fresh is remembered like any other, and a repetition within its batch is the same", run: qos2Fresh},
	{name: "once across gateways", promise: "an identity is known at every gateway", run: qos2Across},
	{name: "once after delivery", promise: "an identity is remembered although the message was delivered and removed", run: qos2AfterDelivery},
	{name: "once after takeover", promise: "an identity survives takeover and resumption of its publisher", run: qos2AfterTakeover},
	{name: "in one batch", promise: "one identity twice in one batch is one message", run: qos2Batch},
	{name: "without identity", promise: "messages without identity are never the same", run: qos2None},
	{name: "without subscriber", promise: "an identity is remembered although nobody wanted the message", run: qos2NoSubscriber},
	{name: "generation", promise: "Forget frees packet identifiers: the next generation is a new message", run: qos2Generation},
	{name: "forget again", promise: "Generations counts how often an identifier was forgotten, not how often Forget was called", run: qos2ForgetAgain},
	{name: "several identifiers", promise: "identifiers are received and forgotten one by one", run: qos2Several},
	{name: "incarnation", promise: "the identifiers of an earlier session mean nothing to the next", run: qos2Incarnation},
	{name: "publishers apart", promise: "the same packet identifier of two publishers is two messages", run: qos2Publishers},
	{name: "ephemeral publisher", promise: "an identity of an ephemeral session is stored once too, while the session lives", run: qos2Ephemeral},
	{name: "late subscriber", promise: "a repeated message does not reach sessions that subscribed after it was appended in full", run: qos2LateSubscriber},
	{name: "all identifiers", promise: "all 65,535 packet identifiers may be received at once", run: qos2All},
}

// identified returns a QoS 2 message as the session o publishes it.
func identified(o *backend.Opened, packet uint16, generation uint32, payload string) *backend.Message {
	m := text("qos2", payload, 2)
	m.Publisher = o.Lease.Client
	m.ID = backend.PublishID{Client: o.Lease.Client, Incarnation: o.Incarnation, PacketID: packet, Generation: generation}
	return m
}

func (g *gate) forget(t *testing.T, l backend.Lease, ids ...uint16) {
	t.Helper()
	if err := g.Forget(g.ctx, l, ids); err != nil {
		t.Fatalf("Forget(%v): %v", ids, err)
	}
}

// wantKnown checks the packet identifiers that a resumption finds.
func wantKnown(t *testing.T, what string, o *backend.Opened, received, generations map[uint16]uint32) {
	t.Helper()
	if !maps.Equal(o.Received, received) {
		t.Errorf("%s: received %v, want %v", what, o.Received, received)
	}
	if !maps.Equal(o.Generations, generations) {
		t.Errorf("%s: generations %v, want %v", what, o.Generations, generations)
	}
}

func qos2Fresh(t *testing.T, c *cluster) {
	publisher, subscriber := c.a.open(t, "publisher"), c.a.member(t, "subscriber", sub("qos2", 2))
	fresh := func(packet uint16, payload string) *backend.Message {
		m := identified(publisher, packet, 0, payload)
		m.Fresh = true
		return m
	}
	for i, again := range []bool{false, true, false} {
		out := c.a.append(t, []*backend.Message{fresh(7, "x"), fresh(7, "x"), fresh(8, "y")}[i])[0]
		if i == 1 { // fresh in error: taken once all the same
			continue
		}
		if out.Duplicate != again || len(out.Targets) != 1 {
			t.Errorf("append %d: %+v", i, out)
		}
	}
	for packet, payload := range map[uint16]string{7: "x", 8: "y"} {
		if out := c.b.append(t, identified(publisher, packet, 0, payload))[0]; !out.Duplicate {
			t.Errorf("%d a second time: %+v, want a duplicate", packet, out)
		}
	}
	if out := c.b.append(t, fresh(9, "z"), fresh(9, "z")); out[0].Duplicate || !out[1].Duplicate {
		t.Errorf("twice in one batch: %+v, want the second to be a duplicate", out)
	}
	wantPayloads(t, "inbox", c.a.inbox(t, subscriber.Lease), []string{"x", "y", "z"})
}

func qos2Once(t *testing.T, c *cluster) {
	publisher, subscriber := c.a.open(t, "publisher"), c.a.member(t, "subscriber", sub("qos2", 2))
	m := identified(publisher, 7, 0, "x")
	if out := c.a.append(t, m)[0]; out.Duplicate || !out.Matched || len(out.Targets) != 1 {
		t.Errorf("the first time: %+v", out)
	}
	for range 3 {
		if out := c.a.append(t, m)[0]; !out.Duplicate {
			t.Errorf("again: %+v, want a duplicate", out)
		}
	}
	wantPayloads(t, "inbox", c.a.inbox(t, subscriber.Lease), []string{"x"})
}

func qos2Across(t *testing.T, c *cluster) {
	const tries = 100
	publisher, subscriber := c.a.open(t, "publisher"), c.b.member(t, "subscriber", sub("qos2", 2))
	for i := range tries {
		m := identified(publisher, uint16(i+1), 0, fmt.Sprint(i))
		c.a.append(t, m)
		if out := c.b.append(t, m)[0]; !out.Duplicate {
			t.Fatalf("message %d at the other gateway: %+v, want a duplicate", i, out)
		}
	}
	wantPayloads(t, "inbox", c.b.inbox(t, subscriber.Lease), count(0, tries))
}

func qos2AfterDelivery(t *testing.T, c *cluster) {
	publisher, subscriber := c.a.open(t, "publisher"), c.a.member(t, "subscriber", sub("qos2", 2))
	m := identified(publisher, 7, 0, "x")
	c.a.append(t, m)
	c.a.advance(t, subscriber.Lease, backend.Progress{Base: 1})
	if out := c.b.append(t, m)[0]; !out.Duplicate {
		t.Errorf("again: %+v, want a duplicate", out)
	}
	wantPayloads(t, "inbox", c.a.inbox(t, subscriber.Lease), nil)
}

func qos2AfterTakeover(t *testing.T, c *cluster) {
	publisher, subscriber := c.a.open(t, "publisher"), c.a.member(t, "subscriber", sub("qos2", 2))
	m := identified(publisher, 7, 0, "x")
	c.a.append(t, m)
	publisher = c.b.open(t, "publisher")
	wantKnown(t, "after a takeover", publisher, map[uint16]uint32{7: 0}, nil)
	if out := c.b.append(t, m)[0]; !out.Duplicate {
		t.Errorf("after a takeover: %+v, want a duplicate", out)
	}
	c.b.release(t, publisher.Lease, backend.ReleaseRequest{})
	publisher = c.a.open(t, "publisher")
	wantKnown(t, "after a release", publisher, map[uint16]uint32{7: 0}, nil)
	if out := c.a.append(t, m)[0]; !out.Duplicate {
		t.Errorf("after a release: %+v, want a duplicate", out)
	}
	wantPayloads(t, "inbox", c.a.inbox(t, subscriber.Lease), []string{"x"})
}

func qos2Batch(t *testing.T, c *cluster) {
	publisher, subscriber := c.a.open(t, "publisher"), c.a.member(t, "subscriber", sub("qos2", 2))
	out := c.a.append(t, identified(publisher, 7, 0, "x"), identified(publisher, 8, 0, "y"), identified(publisher, 7, 0, "x"))
	if out[0].Duplicate || out[1].Duplicate || !out[2].Duplicate {
		t.Errorf("duplicates %v, %v, %v; want the third alone", out[0].Duplicate, out[1].Duplicate, out[2].Duplicate)
	}
	wantPayloads(t, "inbox", c.a.inbox(t, subscriber.Lease), []string{"x", "y"})
}

func qos2None(t *testing.T, c *cluster) {
	subscriber := c.a.member(t, "subscriber", sub("qos2", 2))
	for range 3 {
		if out := c.b.append(t, text("qos2", "x", 2))[0]; out.Duplicate {
			t.Errorf("a message without identity is a duplicate: %+v", out)
		}
	}
	wantPayloads(t, "inbox", c.a.inbox(t, subscriber.Lease), []string{"x", "x", "x"})
}

func qos2NoSubscriber(t *testing.T, c *cluster) {
	publisher := c.a.open(t, "publisher")
	m := identified(publisher, 65535, 0, "x")
	if out := c.a.append(t, m)[0]; out.Duplicate || out.Matched {
		t.Errorf("outcome %+v", out)
	}
	if out := c.a.append(t, m)[0]; !out.Duplicate {
		t.Errorf("again: %+v, want a duplicate", out)
	}
	wantKnown(t, "after a takeover", c.b.open(t, "publisher"), map[uint16]uint32{65535: 0}, nil)
}

func qos2Generation(t *testing.T, c *cluster) {
	publisher, subscriber := c.a.open(t, "publisher"), c.a.member(t, "subscriber", sub("qos2", 2))
	gates := []*gate{c.a, c.b}
	const generations = 10
	for i := range generations {
		g := gates[i%2]
		m := identified(publisher, 7, uint32(i), fmt.Sprint(i))
		if out := g.append(t, m)[0]; out.Duplicate {
			t.Fatalf("generation %d is a duplicate", i)
		}
		if out := gates[(i+1)%2].append(t, m)[0]; !out.Duplicate {
			t.Fatalf("generation %d again: no duplicate", i)
		}
		g.forget(t, publisher.Lease, 7)
		if i%3 == 0 {
			lease := publisher.Lease
			publisher = gates[(i+1)%2].open(t, "publisher")
			wantKnown(t, fmt.Sprintf("generation %d forgotten under %+v", i, lease), publisher, nil, map[uint16]uint32{7: uint32(i + 1)})
		}
	}
	wantPayloads(t, "inbox", c.a.inbox(t, subscriber.Lease), count(0, generations))
}

func qos2ForgetAgain(t *testing.T, c *cluster) {
	publisher := c.a.open(t, "publisher")
	c.a.append(t, identified(publisher, 7, 0, "x"))
	for range 3 {
		c.a.forget(t, publisher.Lease, 7, 8) // 8 was never received
	}
	wantKnown(t, "forgotten three times", c.b.open(t, "publisher"), nil, map[uint16]uint32{7: 1})
}

func qos2Several(t *testing.T, c *cluster) {
	publisher, subscriber := c.a.open(t, "publisher"), c.a.member(t, "subscriber", sub("qos2", 2))
	for i := range 5 {
		c.a.append(t, identified(publisher, uint16(i+1), 0, fmt.Sprint(i)))
	}
	c.a.forget(t, publisher.Lease, 4, 2)
	publisher = c.b.open(t, "publisher")
	wantKnown(t, "two forgotten", publisher, map[uint16]uint32{1: 0, 3: 0, 5: 0}, map[uint16]uint32{2: 1, 4: 1})
	c.b.append(t, identified(publisher, 2, 1, "5"))
	publisher = c.a.open(t, "publisher")
	wantKnown(t, "one used again", publisher, map[uint16]uint32{1: 0, 2: 1, 3: 0, 5: 0}, map[uint16]uint32{4: 1})
	wantPayloads(t, "inbox", c.a.inbox(t, subscriber.Lease), count(0, 6))
}

func qos2Incarnation(t *testing.T, c *cluster) {
	subscriber := c.a.member(t, "subscriber", sub("qos2", 2))
	for i := range 3 {
		publisher := c.a.open(t, "publisher", clean)
		wantKnown(t, "a new session", publisher, nil, nil)
		m := identified(publisher, 7, 0, fmt.Sprint(i))
		if out := c.a.append(t, m)[0]; out.Duplicate {
			t.Errorf("session %d: a duplicate of an earlier session's message", i)
		}
		if out := c.b.append(t, m)[0]; !out.Duplicate {
			t.Errorf("session %d: no duplicate", i)
		}
	}
	wantPayloads(t, "inbox", c.a.inbox(t, subscriber.Lease), count(0, 3))
}

func qos2Publishers(t *testing.T, c *cluster) {
	subscriber := c.a.member(t, "subscriber", sub("qos2", 2))
	for i, id := range clientNames(10) {
		publisher := c.a.open(t, id)
		if out := c.a.append(t, identified(publisher, 7, 0, fmt.Sprint(i)))[0]; out.Duplicate {
			t.Errorf("%s: a duplicate of another publisher's message", id)
		}
	}
	wantPayloads(t, "inbox", c.b.inbox(t, subscriber.Lease), count(0, 10))
}

func qos2Ephemeral(t *testing.T, c *cluster) {
	publisher, subscriber := c.a.open(t, "publisher", ephemeral), c.a.member(t, "subscriber", sub("qos2", 2))
	m := identified(publisher, 7, 0, "0")
	c.a.append(t, m)
	c.a.append(t, m)
	wantPayloads(t, "inbox", c.a.inbox(t, subscriber.Lease), count(0, 1))
	c.a.forget(t, publisher.Lease, 7)
	c.a.append(t, identified(publisher, 7, 1, "1"))
	wantPayloads(t, "inbox", c.a.inbox(t, subscriber.Lease), count(0, 2))
}

func qos2LateSubscriber(t *testing.T, c *cluster) {
	publisher := c.a.open(t, "publisher")
	early := c.a.member(t, "early", sub("qos2", 2))
	m := identified(publisher, 7, 0, "x")
	c.a.append(t, m)
	late := c.a.member(t, "late", sub("qos2", 2))
	if out := c.a.append(t, m)[0]; !out.Duplicate || len(out.Targets) != 0 {
		t.Errorf("again: %+v, want a duplicate that is not routed", out)
	}
	wantPayloads(t, "the early inbox", c.a.inbox(t, early.Lease), []string{"x"})
	wantPayloads(t, "the late inbox", c.a.inbox(t, late.Lease), nil)
}

func qos2All(t *testing.T, c *cluster) {
	publisher := c.a.open(t, "publisher")
	const batch = 1000
	var list []*backend.Message
	flush := func() {
		for i, out := range c.a.append(t, list...) {
			if out.Duplicate {
				t.Fatalf("packet identifier %d: a duplicate the first time", list[i].ID.PacketID)
			}
		}
		list = list[:0]
	}
	for id := 1; id <= 65535; id++ {
		if list = append(list, identified(publisher, uint16(id), 0, "x")); len(list) == batch {
			flush()
		}
	}
	flush()
	publisher = c.b.open(t, "publisher")
	if len(publisher.Received) != 65535 || len(publisher.Generations) != 0 {
		t.Errorf("%d identifiers received, %d generations; want all and none", len(publisher.Received), len(publisher.Generations))
	}
	ids := make([]uint16, 0, 65535)
	for id := range publisher.Received {
		ids = append(ids, id)
	}
	c.b.forget(t, publisher.Lease, ids...)
	publisher = c.a.open(t, "publisher")
	if len(publisher.Received) != 0 || len(publisher.Generations) != 65535 {
		t.Errorf("%d identifiers received, %d generations; want none and all", len(publisher.Received), len(publisher.Generations))
	}
}
