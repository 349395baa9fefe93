package gateway

import (
	"time"
	"unsafe"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// deliver gives the publishes that pass the filter to the live sessions of
// this gateway. Consecutive publishes of one topic are a run: each receiver is
// locked once for a run, and its packets are encoded once for all receivers.
func (b *batch) deliver(want func(*pub) bool) {
	for i := 0; i < len(b.pubs); {
		u := &b.pubs[i]
		if u.done || !want(u) || len(u.route.targets) == 0 {
			i++
			continue
		}
		j := i + 1
		for j < len(b.pubs) && u.together(&b.pubs[j]) && want(&b.pubs[j]) {
			j++
		}
		b.deliverRun(u.route, b.pubs[i:j])
		i = j
	}
}

// together reports whether next may be in a run with u: of the same topic, and
// both acknowledged by their receivers or neither.
func (u *pub) together(next *pub) bool {
	return next.route == u.route && !next.done && (next.msg.QoS == 0) == (u.msg.QoS == 0)
}

// runBytes are the packets of a run for one kind of version, ready to be
// appended as one; largest is the size of the largest packet.
type runBytes struct {
	bytes   []byte
	largest uint32
	made    bool
}

func (b *batch) deliverRun(r *route, run []pub) {
	plain := run[0].msg.QoS == 0
	payload := 0
	for i := range run {
		plain = plain && !run[i].msg.Retain
		payload += len(run[i].msg.Payload)
	}
	var whole [2]runBytes
	for i := range r.targets {
		t := r.targets[i].to(string(run[0].msg.Publisher))
		if t == nil {
			continue
		}
		if b.deliverTo(t, run, plain, payload, &whole) {
			t.c.flush()
		}
	}
}

// deliverTo delivers a run to one connection and reports whether its outbox is
// to be flushed before the batch is done.
func (b *batch) deliverTo(t *target, run []pub, plain bool, payload int, whole *[2]runBytes) (early bool) {
	c := t.c
	c.mu.Lock()
	defer c.mu.Unlock() // whatever happens: others deliver to it too
	if !c.up || c.ended {
		return false
	}
	if plain && t.simple {
		w := &whole[versionIndex(c.v5)]
		if !w.made {
			*w = b.encodeRun(run, c.v5)
		}
		if c.maxPacket == 0 || w.largest <= c.maxPacket {
			b.appendRun(c, w, run, payload)
			return false
		}
	}
	for k := range run {
		b.live(t, &run[k])
	}
	return len(c.box.buf) >= flushEarly
}

func versionIndex(v5 bool) int {
	if v5 {
		return 1
	}
	return 0
}

// encodeRun makes the packets of a run of QoS 0. Where they came in one piece
// and can leave as they came, nothing is copied.
func (b *batch) encodeRun(run []pub, v5 bool) runBytes {
	out := runBytes{made: true}
	same := true
	for i := range run {
		u := &run[i]
		if u.raw == nil || b.c == nil || b.c.v5 != v5 {
			same = false
			break
		}
		out.largest = max(out.largest, uint32(len(u.raw)))
		if i > 0 && !follows(run[i-1].raw, u.raw) {
			same = false
			break
		}
	}
	if same {
		n := 0
		for i := range run {
			n += len(run[i].raw)
		}
		out.bytes = run[0].raw[:n]
		return out
	}
	from := len(b.scratch)
	for i := range run {
		u := &run[i]
		at := len(b.scratch)
		if u.raw != nil && b.c != nil && b.c.v5 == v5 {
			b.scratch = append(b.scratch, u.raw...)
		} else if p, err := b.packetOf(&u.msg).Append(b.scratch, version(v5)); err == nil {
			b.scratch = p
		}
		out.largest = max(out.largest, uint32(len(b.scratch)-at))
	}
	out.bytes = b.scratch[from:]
	return out
}

// follows reports whether y begins in memory where x ends: both are parts of
// one read.
func follows(x, y []byte) bool {
	return cap(x) > len(x) && len(y) > 0 && &x[:len(x)+1][len(x)] == &y[0]
}

func version(v5 bool) protocol.Version {
	if v5 {
		return protocol.V5
	}
	return protocol.V311
}

// packetOf is the PUBLISH for a message, without what depends on the receiver. It
// is valid until the next call.
func (b *batch) packetOf(m *backend.Message) *protocol.Publish {
	p := &b.out
	*p = protocol.Publish{Topic: bytesOf(m.Topic), Payload: m.Payload, Properties: m.Properties}
	if m.Expires != 0 {
		p.MessageExpiry, p.HasMessageExpiry = remaining(m, b.g.storeNow()), true
	}
	return p
}

// bytesOf returns the bytes of a string, which are not to be changed.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// remaining is the message expiry interval that is left, in seconds
// [MQTT-3.3.2-6]: never 0 for a message that has not expired, and not more than
// was given for one that comes at once, though two gateways know the store's
// clock to some milliseconds only.
func remaining(m *backend.Message, now time.Time) uint32 {
	left := m.Expires - now.UnixMilli()
	if left <= 0 {
		return 0
	}
	return uint32(min(max((left+500)/1000, 1), 0xFFFFFFFF))
}

// StoreTime is the time on the store's clock, by which messages expire: what
// [backend.Message].Expires of a message to publish is counted from.
func (g *Gateway) StoreTime() time.Time { return g.storeNow() }

func (g *Gateway) storeNow() time.Time {
	if c, ok := g.store.(backend.Clock); ok {
		return c.Now()
	}
	return time.Now()
}

// expired reports whether a message's time is over.
func (g *Gateway) expired(m *backend.Message) bool {
	return m.Expires != 0 && m.Expired(g.storeNow())
}

// appendRun appends a run to a connection's outbox, whose lock is held. Where
// it does not fit, a flush is tried before anything is dropped.
func (b *batch) appendRun(c *conn, whole *runBytes, run []pub, payload int) {
	limit := c.g.opt.Limits.OutboxBytes
	if c.box.size()+len(whole.bytes) > limit && !c.flushLocked(limit-len(whole.bytes)) {
		c.g.drop(DropOutboxFull, &c.client, &run[0].msg, len(run))
		return
	}
	c.grabLocked()
	c.box.buf = append(c.box.buf, whole.bytes...)
	b.sent[0] += uint64(len(run))
	b.sentBytes += uint64(payload)
	b.touchLocked(c)
	if c.g.watched&(EventDelivered|EventPacketSent) != 0 {
		for i := range run {
			c.observeDelivered(&run[i].msg)
		}
	}
}

func (c *conn) observeDelivered(m *backend.Message) {
	c.g.observePacket(EventPacketSent, c, protocol.PUBLISH)
	if c.g.watched&EventDelivered != 0 {
		c.g.observe(Event{Kind: EventDelivered, Client: &c.client, Message: m})
	}
}

// flushLocked writes what is there, if nobody else is at it, and reports
// whether the outbox is down to size. The lock is released meanwhile.
func (c *conn) flushLocked(size int) bool {
	if !c.box.writing && len(c.box.buf) > 0 {
		c.mu.Unlock()
		c.flush()
		c.mu.Lock()
	}
	return c.box.size() <= size && !c.ended
}

// live delivers one message to one live session, whose lock is held.
func (b *batch) live(t *target, u *pub) {
	c := t.c
	qos := min(u.msg.QoS, t.qos) // [MQTT-3.8.4-8]
	if qos > 0 && c.durable {
		return // it comes by the inbox
	}
	retain := t.rap && u.msg.Retain // [MQTT-3.3.1-12], [MQTT-3.3.1-13]
	if qos > 0 {
		if !c.readyLocked() {
			b.queue(c, backend.Entry{Message: u.keep(), QoS: qos, Retain: retain, SubscriptionIDs: t.ids})
			return
		}
		if !t.simple || retain || c.maxPacket != 0 {
			e := backend.Entry{Message: &u.msg, QoS: qos, Retain: retain, SubscriptionIDs: t.ids}
			b.sendEntry(c, &e)
			return
		}
		f := b.encoded(u, c.v5, qos)
		if f.to == f.from {
			return
		}
		c.grabLocked()
		at := len(c.box.buf)
		c.box.buf = append(c.box.buf, b.scratch[f.from:f.to]...)
		e := backend.Entry{QoS: qos}
		id := c.out.Sent(&e)
		c.g.stats.inflight.Add(1)
		c.box.buf[at+f.packet], c.box.buf[at+f.packet+1] = byte(id>>8), byte(id)
		b.sentOne(c, &u.msg, qos)
		return
	}
	e := backend.Entry{Message: &u.msg, Retain: retain, SubscriptionIDs: t.ids}
	b.sendEntry(c, &e)
}

// readyLocked reports whether a QoS 1 or 2 message can be sent at once.
func (c *conn) readyLocked() bool {
	return c.out.Room() > 0 && c.out.Queued() == 0 && c.box.size() <= c.g.opt.Limits.OutboxBytes
}

// keep returns a copy of the message that may be kept.
func (u *pub) keep() *backend.Message {
	if u.kept == nil {
		u.kept = u.msg.Clone()
	}
	return u.kept
}

// encoded returns the packet of a publish for a kind of version and a QoS,
// made once and shared by all receivers but for its packet identifier.
func (b *batch) encoded(u *pub, v5 bool, qos byte) encoded {
	f := &u.enc[versionIndex(v5)][qos]
	if f.to > f.from {
		return *f
	}
	p := b.packetOf(&u.msg)
	p.QoS, p.PacketID = qos, 1
	from := len(b.scratch)
	s, err := p.Append(b.scratch, version(v5))
	if err != nil {
		return encoded{}
	}
	b.scratch = s
	*f = encoded{from: from, to: len(s), packet: identifierAt(s[from:])}
	return *f
}

// identifierAt is where the packet identifier is in an encoded PUBLISH.
func identifierAt(packet []byte) int {
	at := 1
	for packet[at]&0x80 != 0 {
		at++
	}
	at++
	return at + 2 + int(packet[at])<<8 + int(packet[at+1])
}

// queue keeps a message for an ephemeral session whose window is full.
func (b *batch) queue(c *conn, e backend.Entry) {
	if lim := &c.g.opt.Limits; !c.out.Push(e, lim.OutboxMessages, lim.OutboxBytes) {
		c.g.drop(DropQueueFull, &c.client, e.Message, 1)
		return
	}
	c.g.stats.queued.Add(1)
}

// sentOne counts a delivery.
func (b *batch) sentOne(c *conn, m *backend.Message, qos byte) {
	b.sent[qos]++
	b.sentBytes += uint64(len(m.Payload))
	b.touchLocked(c)
	if c.g.watched&(EventDelivered|EventPacketSent) != 0 {
		c.observeDelivered(m)
	}
}

// sendEntry encodes one delivery into a connection's outbox, whose lock is
// held. An entry with QoS 1 or 2 has room in the window. One that can not be
// sent is done with: it has expired [MQTT-3.3.2-5], or is too large for the
// client [MQTT-3.1.2-24], [MQTT-3.1.2-25].
func (b *batch) sendEntry(c *conn, e *backend.Entry) {
	if e.QoS > 0 && e.State == backend.Released {
		id := c.out.Sent(e)
		c.g.stats.inflight.Add(1)
		c.ackLocked(protocol.PUBREL, id, protocol.Success) // [MQTT-4.4.0-1]
		b.touchLocked(c)
		return
	}
	m := e.Message
	again := c.durable && e.QoS > 0 && c.out.Resent(e.Seq)
	if !again && b.g.expired(m) {
		c.g.drop(DropExpired, &c.client, m, 1)
		c.out.Skip(e)
		return
	}
	if e.QoS == 0 && !b.patient && c.box.size()+m.Size() > c.g.opt.Limits.OutboxBytes && !c.flushLocked(c.g.opt.Limits.OutboxBytes-m.Size()) {
		c.g.drop(DropOutboxFull, &c.client, m, 1)
		return
	}
	p := b.packetOf(m)
	p.QoS, p.Retain, p.Dup = e.QoS, e.Retain, again
	if c.v5 {
		p.SubscriptionIDs = e.SubscriptionIDs
	}
	alias, known := uint16(0), false
	if c.aliases.Enabled() {
		if alias, known = c.aliases.Get(m.Topic); alias != 0 {
			p.TopicAlias, p.HasTopicAlias = alias, true
			if known {
				p.Topic = nil
			}
		}
	}
	if e.QoS > 0 {
		p.PacketID = 1
	}
	v := version(c.v5)
	c.grabLocked()
	at := len(c.box.buf)
	if c.maxPacket > 0 && alias != 0 && !known && uint32(p.Size(v)) > c.maxPacket {
		// A new alias makes the packet longer, perhaps too long.
		alias, p.TopicAlias, p.HasTopicAlias = 0, 0, false
	}
	if c.maxPacket > 0 && uint32(p.Size(v)) > c.maxPacket {
		c.g.drop(DropTooLarge, &c.client, m, 1)
		c.out.Skip(e)
		return
	}
	buf, err := p.Append(c.box.buf, v)
	if err != nil {
		c.g.log.Warn("message can not be encoded", "client", string(c.client.ID), "topic", m.Topic, "err", err)
		c.g.drop(DropTooLarge, &c.client, m, 1)
		c.out.Skip(e)
		return
	}
	c.box.buf = buf
	if e.QoS > 0 {
		id := c.out.Sent(e)
		c.g.stats.inflight.Add(1)
		i := at + identifierAt(buf[at:])
		buf[i], buf[i+1] = byte(id>>8), byte(id)
	}
	if alias != 0 && !known {
		c.aliases.Learned(m.Topic, alias)
	}
	b.sentOne(c, m, e.QoS)
}
