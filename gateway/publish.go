package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// send stores, routes and acknowledges the publishes of the batch:
//
//  1. QoS 0 publishes are delivered at once, here and on other gateways: they
//     never wait for the store.
//  2. Retained ones are stored.
//  3. QoS 1 and 2 publishes are appended to the inboxes that match. Until that
//     has succeeded, nothing is acknowledged.
//  4. They are delivered to live sessions, here and on other gateways; those of
//     QoS 1, while there are few, as soon as they are on their way to the store. A QoS 2
//     publish that was stored before goes there again, since nobody knows
//     whether it did then; who has had it drops it.
//  5. The acknowledgements leave, in the order of the packets.
//  6. The owners of the inboxes are told.
func (b *batch) send(ctx context.Context) error {
	b.collect()
	if b.isLong() {
		leave(ctx)
	}
	var begin time.Duration
	if len(b.msgs) > 0 {
		begin = b.g.now()
	}
	b.deliver(func(u *pub) bool { return u.msg.QoS == 0 })
	b.forwardLive(ctx)
	b.forwardAway(ctx, false) // counts what it loses
	if len(b.touched) > 0 && (len(b.msgs) > 0 || len(b.retain) > 0) {
		b.flush()
	}
	if b.c != nil && (len(b.msgs) > 0 || len(b.retain) > 0) {
		if err := b.c.reassure(ctx); err != nil {
			return err
		}
		b.hasten(ctx)
	}
	if len(b.retain) > 0 {
		if err := b.storeRetained(ctx); err != nil {
			return err
		}
	}
	if len(b.msgs) > 0 {
		if err := b.appendTimed(ctx); err != nil {
			return err
		}
	}
	b.g.remember(b.pubs)
	b.deliver(func(u *pub) bool { return u.msg.QoS > 0 && !u.had && !u.early })
	err := b.forward(ctx)
	if b.g.opt.Forwarder != nil {
		b.g.soon.Flush()
	}
	if err == nil {
		err = b.forwardAway(ctx, true)
	}
	if err == nil {
		err = b.forgetRefused(ctx)
	}
	if err == nil {
		b.acknowledge()
		if n := len(b.msgs); n > 0 && b.c != nil {
			b.g.stats.ackLatency.observe(b.g.now()-begin, n)
		}
	}
	b.tell(ctx) // what is in an inbox is delivered, acknowledged or not
	b.g.soon.Flush()
	return err
}

// manyTargets is from how many deliveries on others do not wait for a batch.
const manyTargets = 2000

// isLong reports whether the batch keeps its goroutine for some time.
func (b *batch) isLong() bool {
	n := 0
	for i := range b.pubs {
		if !b.pubs[i].done {
			n += len(b.pubs[i].route.targets)
		}
	}
	return n > len(b.pubs) && n > manyTargets
}

// collect finds what has to be stored.
func (b *batch) collect() {
	b.retain = b.retain[:0]
	for i := range b.pubs {
		u := &b.pubs[i]
		if u.done || u.again {
			continue
		}
		if u.msg.Retain {
			b.retain = append(b.retain, &u.msg)
		}
		if u.msg.QoS > 0 || b.g.store.Shares(u.msg.Topic) {
			b.msgs = append(b.msgs, &u.msg)
			b.index = append(b.index, i)
		}
	}
}

// storeRetained stores retained messages. One that a limit refuses is answered
// with Quota exceeded and goes no further, if it can be answered.
func (b *batch) storeRetained(ctx context.Context) error {
	acked := false
	for _, m := range b.retain {
		acked = acked || m.QoS > 0
	}
	store := func(ctx context.Context) error { return b.g.store.Retain(ctx, b.retain) }
	var err error
	if acked {
		err = b.hold(ctx, store)
	} else {
		sctx, cancel := b.g.storeContext(ctx)
		err = b.g.storeFailed(store(sctx))
		cancel()
	}
	switch {
	case errors.Is(err, backend.ErrFull), errors.Is(err, backend.ErrTooLarge):
		return b.retainOneByOne(ctx)
	case err != nil && acked:
		return err
	case err != nil:
		b.g.log.Warn("retained messages of QoS 0 were not stored", "count", len(b.retain), "err", err)
		return nil
	}
	if b.g.watched&EventRetained != 0 {
		for _, m := range b.retain {
			b.g.observe(Event{Kind: EventRetained, Client: b.client(), Message: m})
		}
	}
	return nil
}

// retainOneByOne finds out which messages a limit refuses.
func (b *batch) retainOneByOne(ctx context.Context) error {
	for i := range b.pubs {
		u := &b.pubs[i]
		if u.done || u.again || !u.msg.Retain {
			continue
		}
		one := func(ctx context.Context) error { return b.g.store.Retain(ctx, []*backend.Message{&u.msg}) }
		var err error
		if u.ack == 0 {
			sctx, cancel := b.g.storeContext(ctx)
			err = b.g.storeFailed(one(sctx))
			cancel()
		} else {
			err = b.hold(ctx, one)
		}
		switch {
		case err == nil:
		case b.c == nil && !errors.Is(err, backend.ErrFull) && !errors.Is(err, backend.ErrTooLarge):
			return err
		case u.ack == 0 && !errors.Is(err, backend.ErrFull) && !errors.Is(err, backend.ErrTooLarge):
			b.g.log.Warn("retained message of QoS 0 was not stored", "err", err)
		case !errors.Is(err, backend.ErrFull) && !errors.Is(err, backend.ErrTooLarge):
			return err
		default:
			b.g.log.Debug("retained message refused", "topic", u.msg.Topic, "err", err)
			b.g.drop(DropRetainedFull, b.client(), &u.msg, 1)
			u.msg.Retain = false
			switch {
			case b.c == nil: // who called Publish is told
				u.done, u.code = u.msg.QoS > 0, protocol.QuotaExceeded
			case u.ack == 0:
			case b.c.v5:
				u.done, u.code = true, protocol.QuotaExceeded
			case b.g.opt.DeniedPublish == DeniedDisconnect:
				return &protocol.Error{Code: protocol.QuotaExceeded, Detail: "retained messages are at their limit"}
			}
		}
	}
	// The refused ones are not to be appended.
	b.msgs, b.index = b.msgs[:0], b.index[:0]
	b.collect()
	return nil
}

// hold is conn.hold, or one call for the server's own publishes.
func (b *batch) hold(ctx context.Context, call func(context.Context) error) error {
	if b.c != nil {
		return b.c.hold(ctx, call)
	}
	sctx, cancel := b.g.storeContext(ctx)
	defer cancel()
	return b.g.storeFailed(call(sctx))
}

func (b *batch) client() *Client {
	if b.c == nil {
		return nil
	}
	return &b.c.client
}

// append puts the messages into the inboxes of the sessions that match.
func (b *batch) append(ctx context.Context) error {
	for len(b.appends) < len(b.msgs) {
		b.appends = append(b.appends, backend.Append{})
	}
	out := b.appends[:len(b.msgs)]
	acked := false
	for _, m := range b.msgs {
		acked = acked || m.QoS > 0
	}
	calls := 0
	call := func(ctx context.Context) error {
		for i := range out {
			out[i] = backend.Append{Targets: out[i].Targets[:0]}
		}
		if calls++; calls == 2 {
			// What the first one has stored nobody was told of.
			b.g.unsure("the outcome of an append is not known")
			for _, m := range b.msgs {
				m.Fresh = false
			}
		}
		return b.g.store.Append(ctx, b.msgs, out)
	}
	if acked {
		if err := b.hold(ctx, call); err != nil {
			if calls < 2 && unknownOutcome(err) {
				b.g.unsure("the outcome of an append is not known")
			}
			return err
		}
	} else {
		sctx, cancel := b.g.storeContext(ctx)
		err := b.g.storeFailed(call(sctx))
		cancel()
		if err != nil { // QoS 0 for shared groups: at most once
			for i := range out {
				out[i] = backend.Append{}
				b.g.drop(DropStore, nil, b.msgs[i], 1)
			}
			return nil
		}
	}
	for i := range out {
		u := &b.pubs[b.index[i]]
		if out[i].Refused > 0 {
			b.g.drop(DropInboxFull, nil, &u.msg, out[i].Refused)
		}
		u.stored = u.msg.QoS == 2
		if out[i].Duplicate {
			u.again = true
			continue
		}
		if !out[i].Matched && u.msg.QoS > 0 && !u.route.anyFor(string(u.msg.Publisher)) && b.g.alone() {
			u.code = protocol.NoMatchingSubscribers
		}
	}
	return nil
}

// alone reports whether no other gateway can have subscribers.
func (g *Gateway) alone() bool {
	s, ok := g.bus.(backend.Solitary)
	return ok && s.Alone()
}

// forwardLive gives the QoS 0 messages to the other gateways. One that the bus
// does not take is lost, which is counted.
func (b *batch) forwardLive(ctx context.Context) {
	for i := range b.pubs {
		u := &b.pubs[i]
		if u.done || u.msg.QoS > 0 {
			continue
		}
		switch err := b.g.soon.PublishSoon(ctx, &u.msg); {
		case err == nil:
		case errors.Is(err, backend.ErrTooLarge):
			b.g.drop(DropTooLarge, nil, &u.msg, 1)
		default:
			b.g.drop(DropBus, nil, &u.msg, 1)
		}
	}
	if len(b.msgs) > 0 || len(b.retain) > 0 { // they are waited for
		b.g.soon.Flush()
	}
}

// forward gives the messages that are to be acknowledged to the other gateways,
// and waits for the bus as it does for the store.
func (b *batch) forward(ctx context.Context) error {
	for i := range b.pubs {
		u := &b.pubs[i]
		if u.done || u.msg.QoS == 0 || u.early {
			continue
		}
		u.msg.Again = u.again
		err := b.g.soon.PublishSoon(ctx, &u.msg)
		if err == nil {
			continue
		}
		if !errors.Is(err, backend.ErrTooLarge) {
			err = b.hold(ctx, func(ctx context.Context) error { return b.g.soon.PublishSoon(ctx, &u.msg) })
			if err != nil {
				return err
			}
			continue
		}
		b.g.drop(DropTooLarge, nil, &u.msg, 1)
		switch {
		case b.c == nil:
			return err // who called Publish is told
		case u.ack == 0:
		case b.c.v5:
			u.code = protocol.ImplementationSpecificError // 0x95 is not for acknowledgements
		default: // MQTT 3 has no acknowledgement that says no
			return &protocol.Error{Code: protocol.PacketTooLarge, Detail: "message is too large for the bus"}
		}
	}
	return nil
}

// forgetRefused frees the packet identifiers of QoS 2 publishes that are
// answered with an error though they have been stored: the client may use them
// for other messages at once (MQTT 5 §4.3.3).
func (b *batch) forgetRefused(ctx context.Context) error {
	var ids []uint16
	for i := range b.pubs {
		u := &b.pubs[i]
		if u.stored && u.ack == protocol.PUBREC && u.code >= protocol.UnspecifiedError {
			ids = append(ids, u.packet)
		}
	}
	if len(ids) == 0 || !b.c.durable {
		return nil
	}
	b.g.soon.Flush()
	return b.hold(ctx, func(ctx context.Context) error { return b.g.store.Forget(ctx, b.c.lease, ids) })
}

// acknowledge writes PUBACK and PUBREC, the only place that does.
func (b *batch) acknowledge() {
	c := b.c
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range b.pubs {
		u := &b.pubs[i]
		if u.ack == 0 {
			continue
		}
		switch {
		case !u.taken:
		case u.ack == protocol.PUBACK:
			c.in.Acked()
		case u.code >= protocol.UnspecifiedError:
			c.in.Refused(u.packet, u.stored)
		}
		if !c.ended {
			c.ackLocked(u.ack, u.packet, u.code)
		}
	}
}

// tell delivers what was appended: to connections here with the message in
// hand, to those elsewhere by a notice.
func (b *batch) tell(ctx context.Context) {
	for i := range b.msgs {
		a := &b.appends[i]
		if !a.Duplicate {
			b.tellTargets(ctx, a.Targets)
		}
		clear(a.Targets)
		a.Targets = a.Targets[:0]
	}
}

func (b *batch) tellTargets(ctx context.Context, targets []backend.Target) {
	for j := range targets {
		t := &targets[j]
		if t.Entry.Share != "" {
			b.g.measures.shared.Add(1)
		}
		if t.Node == "" {
			continue
		}
		if t.Node == b.g.opt.ID {
			b.hand(ctx, t.Client, t.Epoch, &t.Entry)
			continue
		}
		n := backend.Notice{Kind: backend.NoticeMail, Client: t.Client, Epoch: t.Epoch, Entry: t.Entry}
		if t.Entry.Seq == 0 {
			n.Kind = backend.NoticeDeliver
		}
		if err := b.g.soon.NotifySoon(ctx, t.Node, n); err != nil {
			// The doorbell is lost, not the mail; a message without an inbox
			// goes to another member.
			b.g.log.Debug("notice not sent", "client", string(t.Client), "err", err)
			b.g.unsure("a notice could not be sent")
			if t.Entry.Seq == 0 {
				b.g.requeue(ctx, t.Client, []backend.Entry{t.Entry})
			}
		}
	}
}

// hand gives an entry to a client of this gateway.
func (b *batch) hand(ctx context.Context, client backend.ClientID, epoch uint64, e *backend.Entry) {
	c := b.g.clients.get(client)
	if c == nil || c.lease.Epoch != epoch {
		if e.Seq == 0 {
			b.g.requeueLater(client, *e)
		}
		return
	}
	if e.Seq == 0 {
		b.offer(c, e)
		return
	}
	b.mail(c, e)
}

// Publish publishes a message of the server's own, or of an embedding program,
// as if a client had. With QoS 1 and 2 it returns when the message is stored. A
// [RefusalError] says that a limit does not allow its topic, or to retain it; then
// nobody gets it, or with QoS 0 only who is connected.
func (g *Gateway) Publish(ctx context.Context, m *backend.Message) error {
	if err := protocol.ValidTopicName(m.Topic); err != nil {
		return err
	}
	g.mu.Lock()
	st := g.state
	g.mu.Unlock()
	if st == stateNew || st == stateStopped {
		return ErrStopped
	}
	r := g.route(ctx, []byte(m.Topic))
	if r.fault != protocol.Success {
		return &RefusalError{Code: r.fault, Reason: "topic name too long or too deep"}
	}
	b := newBatch(g, nil)
	defer b.free()
	b.pubs = append(b.pubs, pub{msg: *m, route: r})
	err := b.send(ctx)
	b.flush()
	if err == nil && b.pubs[0].code == protocol.QuotaExceeded {
		return errNotRetained
	}
	return err
}
