package gateway

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/gateway/session"
	"github.com/sluice-mqtt/sluice/protocol"
)

// batch collects what the packets of one read give rise to. It belongs to one
// goroutine and is used again.
type batch struct {
	g  *Gateway
	c  *conn // the publisher, nil for the server itself
	id uint64

	packet protocol.Publish // that came
	out    protocol.Publish // that leaves
	pubs   []pub
	forget []uint16 // QoS 2 identifiers to forget before their PUBCOMP
	pubrel []pubrel // to send when the entries are stored as released
	acked  bool     // deliveries were acknowledged
	// patient: what is sent was measured before, and is not dropped for a
	// full socket.
	patient bool
	// touched are the connections that have something to flush.
	touched []*conn

	// scratch holds encoded packets.
	scratch []byte

	msgs    []*backend.Message
	appends []backend.Append
	index   []int // of msgs in pubs
	retain  []*backend.Message
	// appending is how the append went, where it is traced.
	appending Step

	// What the batch did, by QoS and in payload bytes.
	sent, byQoS              [3]uint64
	sentBytes, receivedBytes uint64
}

// pubrel is a PUBREL that waits for the store, or behind one that does.
type pubrel struct {
	packet uint16
	code   protocol.ReasonCode
}

// pub is one message on its way.
type pub struct {
	msg   backend.Message
	route *route
	// raw is the packet as it came, if it can leave for clients of the same
	// kind of version as it is.
	raw    []byte
	packet uint16
	ack    protocol.Type // 0, PUBACK or PUBREC
	code   protocol.ReasonCode
	// denied is why it was refused, whatever the acknowledgement can say.
	denied protocol.ReasonCode
	begin  time.Duration // when it came, where it is traced
	// done: it is only to be acknowledged.
	done bool
	// taken: it was new to the session, which is to be told of the ack.
	taken bool
	// again: it has been stored before, and perhaps routed; had: it was
	// delivered here then.
	again, had bool
	// early: live sessions got it while it was being stored.
	early bool
	// stored: the store keeps its identity until the client releases it.
	stored bool
	// enc are the encoded forms that exist, by [v5][qos].
	enc  [2][3]encoded
	kept *backend.Message // a copy that may outlive the read
}

// encoded is a packet in a batch's scratch, packet is the place of its packet
// identifier.
type encoded struct{ from, to, packet int }

const maxBatch = 256

var (
	batches  = sync.Pool{New: func() any { return new(batch) }}
	batchIDs atomic.Uint64
)

func newBatch(g *Gateway, c *conn) *batch {
	b := batches.Get().(*batch)
	b.g, b.c = g, c
	b.id = batchIDs.Add(1)
	return b
}

// free counts what the batch did and gives it back.
func (b *batch) free() {
	g := b.g
	for q := range b.sent {
		if b.sent[q] > 0 {
			g.stats.publishSent[q].Add(b.sent[q])
		}
		if b.byQoS[q] > 0 {
			g.stats.publishReceived[q].Add(b.byQoS[q])
		}
	}
	if n := b.sent[0] + b.sent[1] + b.sent[2]; n > 0 {
		g.stats.packetsSent[protocol.PUBLISH].Add(n)
		g.stats.publishBytesSent.Add(b.sentBytes)
	}
	if b.receivedBytes > 0 {
		g.stats.publishBytesReceived.Add(b.receivedBytes)
	}
	b.sent, b.byQoS, b.sentBytes, b.receivedBytes = [3]uint64{}, [3]uint64{}, 0, 0
	b.g, b.c, b.packet, b.out = nil, nil, protocol.Publish{}, protocol.Publish{}
	b.reset()
	clear(b.touched)
	b.touched = b.touched[:0]
	b.forget, b.pubrel, b.acked = b.forget[:0], b.pubrel[:0], false
	if cap(b.scratch) > 4*keptBuffer {
		b.scratch = nil
	}
	batches.Put(b)
}

// reset drops the publishes.
func (b *batch) reset() {
	clear(b.pubs)
	b.pubs = b.pubs[:0]
	clear(b.msgs)
	b.msgs, b.index = b.msgs[:0], b.index[:0]
	b.scratch = b.scratch[:0]
	b.appending = Step{}
}

// publish takes a PUBLISH from the client.
func (b *batch) publish(ctx context.Context, h protocol.Header, frame, body []byte) error {
	if len(b.forget) > 0 || len(b.pubs) >= maxBatch {
		if err := b.settle(ctx); err != nil {
			return err
		}
	}
	c, g := b.c, b.c.g
	p := &b.packet
	if err := p.Decode(h, body, c.client.Version); err != nil {
		return err
	}
	do, err := c.in.Publish(p)
	if err != nil {
		return err
	}
	b.byQoS[p.QoS]++
	b.receivedBytes += uint64(len(p.Payload))
	b.pubs = append(b.pubs, pub{packet: p.PacketID})
	u := &b.pubs[len(b.pubs)-1]
	switch p.QoS {
	case 1:
		u.ack = protocol.PUBACK
	case 2:
		u.ack = protocol.PUBREC
	}
	switch do {
	case session.Repeat:
		u.done = true
		return nil
	case session.Answer:
		u.done, u.code = true, protocol.PacketIdentifierInUse
		return nil
	case session.Again:
		u.again, u.stored = true, true
	}
	u.taken = true
	if g.opt.Tracer != nil && p.QoS > 0 {
		u.begin = g.now()
	}
	r := c.last
	if r == nil || r.topic != string(p.Topic) || !g.fresh(r) {
		r = g.route(ctx, p.Topic)
		c.last = r
	}
	u.route = r
	u.msg.Topic = r.topic
	u.msg.Payload = p.Payload
	u.msg.Properties = p.Properties
	u.msg.Publisher = c.client.ID
	u.msg.QoS, u.msg.Retain = p.QoS, p.Retain
	if code, why := c.mayPublish(ctx, p, r); code != protocol.Success {
		return b.deny(u, code, why)
	}
	if expiry, has := g.messageExpiry(p.MessageExpiry, p.HasMessageExpiry); has {
		u.msg.Expires = g.storeNow().Add(time.Duration(expiry) * time.Second).UnixMilli()
	}
	switch {
	case p.QoS == 2:
		u.msg.ID, u.msg.Fresh = c.in.ID(p.PacketID), c.in.Fresh(p.Dup)
	case p.QoS == 0 && !p.Retain && !p.HasTopicAlias && (!c.v5 || g.opt.Limits.MessageExpiry == 0):
		u.raw = frame
	}
	if g.watched&EventReceived != 0 {
		g.observe(Event{Kind: EventReceived, Client: &c.client, Message: &u.msg})
	}
	return nil
}

// permit is a publish that the authorizer has said yes to.
type permit struct {
	route  *route
	qos    byte
	retain bool
}

// mayPublish checks a publish against limits and permissions.
func (c *conn) mayPublish(ctx context.Context, p *protocol.Publish, r *route) (protocol.ReasonCode, string) {
	switch {
	case r.fault != protocol.Success:
		c.g.refuseFor(RefusedTopic)
		return r.fault, "topic name too long or too deep"
	case r.reserved:
		return protocol.NotAuthorized, "topic is reserved"
	case c.g.opt.Authorizer == nil:
		return protocol.Success, ""
	}
	want := permit{r, p.QoS, p.Retain}
	if c.permitted == want {
		return protocol.Success, "" // the route is made anew when answers are forgotten
	}
	err := c.g.authorize(ctx, &c.client, Access{Action: Publish, Topic: r.topic, QoS: p.QoS, Retain: p.Retain})
	if err != nil {
		return refusalCode(err, protocol.PUBACK), "not authorized to publish"
	}
	c.permitted = want
	return protocol.Success, ""
}

// deny answers a publish that is refused, as the version allows.
func (b *batch) deny(u *pub, code protocol.ReasonCode, why string) error {
	c := b.c
	u.done, u.code, u.denied = true, code, code
	c.g.drop(DropDenied, &c.client, &u.msg, 1)
	switch {
	case c.v5:
		return nil // a QoS 0 publish has no answer
	case code == protocol.TopicNameInvalid, c.g.opt.DeniedPublish == DeniedDisconnect:
		b.pubs = b.pubs[:len(b.pubs)-1] // it is not acknowledged
		return &protocol.Error{Code: code, Detail: why}
	}
	u.code = protocol.Success // MQTT 3 has no other acknowledgement [MQTT-3.3.5-2]
	return nil
}

// messageExpiry applies the server's cap.
func (g *Gateway) messageExpiry(asked uint32, has bool) (uint32, bool) {
	limit := g.opt.Limits.MessageExpiry
	switch {
	case limit == 0:
		return asked, has
	case !has:
		return limit, true
	}
	return min(asked, limit), true
}

func (g *Gateway) maximumQoS() byte {
	if q := g.opt.Limits.MaximumQoS; q != nil {
		return *q
	}
	return 2
}

// drop counts n deliveries that do not happen.
func (g *Gateway) drop(why Drop, c *Client, m *backend.Message, n int) {
	g.stats.dropped[why].Add(uint64(n))
	if g.watched&EventDropped != 0 {
		g.observe(Event{Kind: EventDropped, Client: c, Message: m, Drop: why, Count: n})
	}
}

// ack takes an acknowledgement from the client.
func (b *batch) ack(ctx context.Context, a *protocol.Ack) error {
	c := b.c
	if a.Kind == protocol.PUBREL {
		if len(b.pubs) > 0 {
			if err := b.settle(ctx); err != nil {
				return err
			}
		}
		do, code := c.in.Pubrel(a.PacketID)
		if do == session.Forget {
			b.forget = append(b.forget, a.PacketID)
			return nil
		}
		if err := b.settle(ctx); err != nil { // PUBCOMPs keep their order
			return err
		}
		c.mu.Lock()
		c.ackLocked(protocol.PUBCOMP, a.PacketID, code)
		c.mu.Unlock()
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.out.InFlight()
	defer func() { c.g.stats.inflight.Add(int64(c.out.InFlight() - before)) }()
	b.acked = true
	switch a.Kind {
	case protocol.PUBACK:
		return c.out.Puback(a.PacketID)
	case protocol.PUBCOMP:
		return c.out.Pubcomp(a.PacketID)
	}
	do, code, err := c.out.Pubrec(a.PacketID, a.Code >= protocol.UnspecifiedError)
	switch {
	case do == session.Release, do == session.Answer && len(b.pubrel) > 0:
		b.pubrel = append(b.pubrel, pubrel{a.PacketID, code}) // in order [MQTT-4.6.0-4]
	case do == session.Answer:
		c.ackLocked(protocol.PUBREL, a.PacketID, code) // [MQTT-4.3.3-4]
	}
	return err
}

// settle carries out what has been collected from the client's own publishes.
func (b *batch) settle(ctx context.Context) error {
	if len(b.pubs) > 0 {
		err := b.send(ctx)
		if b.g.opt.Tracer != nil {
			b.trace(err)
		}
		b.reset()
		if err != nil {
			return err
		}
	}
	if len(b.forget) == 0 {
		return nil
	}
	c := b.c
	err := c.hold(ctx, func(ctx context.Context) error { return c.g.store.Forget(ctx, c.lease, b.forget) })
	if err != nil {
		return err
	}
	c.mu.Lock()
	for _, id := range b.forget {
		c.ackLocked(protocol.PUBCOMP, id, protocol.Success)
	}
	c.mu.Unlock()
	b.forget = b.forget[:0]
	return nil
}

// finish carries out everything that has been collected and flushes. What came
// before a fault of the client is carried out too; what the client has
// acknowledged is then stored when the session is released.
func (b *batch) finish(ctx context.Context, sound bool) error {
	c := b.c
	err := b.settle(ctx)
	if err == nil && b.acked && sound {
		err = b.progress(ctx)
	}
	b.flush()
	c.flush()
	if err == nil && sound {
		err = c.checkOutbox()
	}
	return err
}

// progress stores what the client has acknowledged and goes on with what
// waited for it. Acknowledgements alone do not need to wait for the store.
func (b *batch) progress(ctx context.Context) error {
	c := b.c
	if err := c.advance(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	for _, r := range b.pubrel {
		c.ackLocked(protocol.PUBREL, r.packet, r.code)
	}
	c.mu.Unlock()
	b.pubrel = b.pubrel[:0]
	c.pump(ctx)
	return nil
}

// advance tells the store what the client has answered.
func (c *conn) advance(ctx context.Context) error {
	c.mu.Lock()
	p, n, changed := c.out.Progress()
	c.mu.Unlock()
	if !changed {
		return nil
	}
	err := c.hold(ctx, func(ctx context.Context) error { return c.g.store.Advance(ctx, c.lease, p) })
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.out.Stored(n)
	c.mu.Unlock()
	return nil
}

// flush flushes every connection that the batch has written to.
func (b *batch) flush() {
	for i, c := range b.touched {
		c.flush()
		b.touched[i] = nil
	}
	b.touched = b.touched[:0]
	b.id = batchIDs.Add(1) // what is written from now on is to be flushed again
}

// touchLocked remembers to flush a connection; its lock is held.
func (b *batch) touchLocked(c *conn) {
	if c.touched != b.id {
		c.touched = b.id
		b.touched = append(b.touched, c)
	}
}

// holdPause is between two tries of a call that the store did not answer.
const holdPause = 100 * time.Millisecond

// hold makes a call to the store, and again while the store is not available,
// for as long as a client is held (Timing.Hold). Nothing is read from the
// client meanwhile, and nothing acknowledged.
func (c *conn) hold(ctx context.Context, call func(context.Context) error) error {
	until := c.g.now() + c.g.opt.Timing.Hold
	for {
		sctx, cancel := c.g.storeContext(ctx)
		err := call(sctx)
		cancel()
		if err == nil {
			return nil
		}
		c.g.storeFailed(err)
		c.flush()          // what is acknowledged already does not wait too
		over := c.isOver() // taken over, or shut down: nobody waits for an answer
		if over || !unknownOutcome(err) || c.g.now() >= until {
			return err
		}
		if !sleep(ctx, holdPause) {
			return err
		}
		c.g.stats.storeRetries.Add(1)
	}
}

// unknownOutcome reports whether a call may have been carried out although it
// failed, and is worth repeating.
func unknownOutcome(err error) bool {
	return errors.Is(err, backend.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
}

// storeContext bounds one call to the store or the bus.
func (g *Gateway) storeContext(ctx context.Context) (context.Context, context.CancelFunc) {
	if g.waits {
		leave(ctx)
	}
	return context.WithTimeout(ctx, g.opt.Timing.Store)
}

// storeFailed counts an error of the store, and returns it.
func (g *Gateway) storeFailed(err error) error {
	if err != nil && !errors.Is(err, backend.ErrFenced) {
		g.stats.storeErrors.Add(1)
	}
	return err
}
