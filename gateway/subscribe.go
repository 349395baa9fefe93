package gateway

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// subscribe handles SUBSCRIBE. SUBACK leaves when every subscription that it
// confirms is live: in the store, on the bus, and in the tree.
func (c *conn) subscribe(ctx context.Context, p *protocol.Subscribe) error {
	lim := &c.g.opt.Limits
	if p.ID != 0 && lim.NoSubscriptionIDs {
		return &protocol.Error{Code: protocol.SubscriptionIdentifiersNotSupported, Detail: "subscription identifiers are not available"}
	}
	codes := make([]protocol.ReasonCode, len(p.Filters))
	subs := make([]backend.Subscription, 0, len(p.Filters))
	place := make([]int, 0, len(p.Filters)) // of subs in p.Filters
	for i := range p.Filters {
		f := &p.Filters[i]
		code, err := c.maySubscribe(ctx, f)
		if err != nil {
			return err
		}
		if codes[i] = code; code > protocol.GrantedQoS2 {
			continue
		}
		subs = append(subs, backend.Subscription{
			Filter: f.Filter, QoS: byte(code), NoLocal: f.NoLocal,
			RetainAsPublished: f.RetainAsPublished, RetainHandling: f.RetainHandling, ID: p.ID,
		})
		place = append(place, i)
	}
	existed, failed, err := c.addSubscriptions(ctx, subs)
	if err != nil {
		return err
	}
	for i, at := range place {
		if failed[i] != protocol.Success {
			codes[at] = failed[i]
		}
	}
	if !c.v5 {
		for i := range codes {
			if codes[i] > protocol.GrantedQoS2 {
				codes[i] = protocol.UnspecifiedError // [MQTT-3.9.3-2] of 3.1.1
			}
		}
	}
	c.mu.Lock()
	c.packLocked(&protocol.Suback{PacketID: p.PacketID, Codes: codes})
	for i := range subs {
		if failed[i] == protocol.Success {
			c.startTaskLocked(&subs[i], existed[i])
		}
	}
	c.mu.Unlock()
	if c.g.watched&EventSubscribed != 0 {
		for i := range subs {
			if failed[i] == protocol.Success {
				c.g.observe(Event{Kind: EventSubscribed, Client: &c.client, Filter: subs[i].Filter, QoS: subs[i].QoS})
			}
		}
	}
	// SUBACK leaves with the first page of retained messages: what is published
	// after it is delivered live, and not as retained once more.
	c.pump(ctx)
	c.flush()
	return c.checkOutbox()
}

// maySubscribe checks one filter: the QoS to grant, or why not. An error ends
// the connection.
func (c *conn) maySubscribe(ctx context.Context, f *protocol.SubscribeFilter) (protocol.ReasonCode, error) {
	lim := &c.g.opt.Limits
	if protocol.ValidFilter(f.Filter) != nil {
		return protocol.TopicFilterInvalid, nil
	}
	_, filter, shared := protocol.SplitShare(f.Filter)
	switch {
	case len(f.Filter) > lim.TopicLength, protocol.Levels(filter) > lim.TopicLevels:
		c.g.refuseFor(RefusedTopic)
		return protocol.TopicFilterInvalid, nil
	case shared && lim.NoShared:
		return c.notSupported(protocol.SharedSubscriptionsNotSupported, "shared subscriptions are not available")
	case lim.NoWildcards && strings.ContainsAny(filter, "+#"):
		return c.notSupported(protocol.WildcardSubscriptionsNotSupported, "wildcard subscriptions are not available")
	}
	qos := min(f.QoS, c.g.maximumQoS()) // [MQTT-3.8.4-7]
	if err := c.g.authorize(ctx, &c.client, Access{Action: Subscribe, Topic: filter, QoS: qos, Shared: shared}); err != nil {
		return refusalCode(err, protocol.SUBACK), nil
	}
	return protocol.ReasonCode(qos), nil
}

// notSupported answers the use of a feature that CONNACK said is not there:
// that is a protocol error (MQTT 5 §3.2.2.3.11 and following).
func (c *conn) notSupported(code protocol.ReasonCode, text string) (protocol.ReasonCode, error) {
	if c.v5 {
		return 0, &protocol.Error{Code: code, Detail: text}
	}
	return code, nil
}

// addSubscriptions makes subscriptions live and tells for each whether it
// existed before, and the code if it failed. An error ends the connection.
func (c *conn) addSubscriptions(ctx context.Context, subs []backend.Subscription) (existed []bool, failed []protocol.ReasonCode, err error) {
	existed, failed = make([]bool, len(subs)), make([]protocol.ReasonCode, len(subs))
	c.mu.Lock()
	have := len(c.subs) + len(c.shared)
	c.mu.Unlock()
	for i := range subs {
		s := &subs[i]
		_, filter, shared := protocol.SplitShare(s.Filter)
		existed[i] = c.has(s.Filter, shared)
		if limit := c.g.opt.Limits.Subscriptions; !existed[i] && limit > 0 && have >= limit {
			c.g.refuseFor(RefusedSubscriptions)
			failed[i] = protocol.QuotaExceeded
			continue
		}
		// The store first, so that an acked message is never without a
		// mailbox; the tree last, since it delivers at once.
		if c.durable || shared {
			was, err := c.storeSubscription(ctx, s, shared, existed[i])
			if errors.Is(err, backend.ErrFenced) {
				return nil, nil, err
			}
			if err != nil {
				failed[i] = subscribeFault(err)
				if unknownOutcome(err) {
					// The others would wait for as long.
					for k := i + 1; k < len(subs); k++ {
						failed[k] = failed[i]
					}
					break
				}
				continue
			}
			existed[i] = was
		}
		if !shared {
			if err := c.g.interests.add(ctx, c.g, filter, c.classOf(s.QoS)); err != nil {
				failed[i] = protocol.UnspecifiedError
				if c.durable && !existed[i] {
					c.unstore(ctx, s.Filter)
				}
				continue
			}
		}
		c.setLive(s, shared)
		if !existed[i] {
			have++
		}
	}
	return existed, failed, nil
}

// unstore takes back a subscription that could not be made live.
func (c *conn) unstore(ctx context.Context, filter string) {
	sctx, cancel := c.g.storeContext(ctx)
	defer cancel()
	if _, err := c.g.store.Unsubscribe(sctx, c.lease, []string{filter}); err != nil {
		c.g.storeFailed(err)
	}
}

func subscribeFault(err error) protocol.ReasonCode {
	if errors.Is(err, backend.ErrFull) {
		return protocol.QuotaExceeded
	}
	return protocol.UnspecifiedError
}

// storeSubscription stores one subscription, with the mark of its retained
// messages if there will be any to deliver.
func (c *conn) storeSubscription(ctx context.Context, s *backend.Subscription, shared, existed bool) (bool, error) {
	one := []backend.Subscription{*s}
	var replay []backend.Subscription
	if !shared && c.durable && wantsRetained(s, existed) {
		replay = one
	}
	sctx, cancel := c.g.storeContext(ctx)
	defer cancel()
	was, err := c.g.store.Subscribe(sctx, c.lease, one, replay)
	if err != nil {
		c.g.storeFailed(err)
		return false, err
	}
	return was[0], nil
}

// wantsRetained reports whether a subscription brings retained messages
// [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11].
func wantsRetained(s *backend.Subscription, existed bool) bool {
	return s.RetainHandling == 0 || s.RetainHandling == 1 && !existed
}

// startTaskLocked starts what a new subscription has to catch up with.
func (c *conn) startTaskLocked(s *backend.Subscription, existed bool) {
	_, _, shared := protocol.SplitShare(s.Filter)
	if shared || wantsRetained(s, existed) && !c.g.opt.Limits.NoRetain {
		c.replaceTaskLocked(task{sub: *s, shared: shared})
	}
}

// has reports whether the session has a subscription.
func (c *conn) has(filter string, shared bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if shared {
		_, ok := c.shared[filter]
		return ok
	}
	_, ok := c.subs[filter]
	return ok
}

// setLive enters a subscription into the connection and, if it is not shared,
// into the tree. The interest of a replaced one is withdrawn.
func (c *conn) setLive(s *backend.Subscription, shared bool) {
	v := subscription{id: s.ID, qos: s.QoS, noLocal: s.NoLocal, rap: s.RetainAsPublished}
	c.mu.Lock()
	m := &c.subs
	if shared {
		m = &c.shared
	}
	old, had := (*m)[s.Filter]
	if *m == nil {
		*m = make(map[string]subscription)
	}
	(*m)[s.Filter] = v
	if !shared {
		// Under the lock, so that the tree and the connection agree; the
		// tree calls nobody back.
		c.g.tree.Set(s.Filter, c, v)
	} else if !had {
		c.g.stats.sharedSubscriptions.Add(1)
	}
	c.mu.Unlock()
	if had && !shared {
		c.g.interests.remove(c.g, s.Filter, c.classOf(old.qos))
	}
}

// classOf says which messages a subscription of this session needs from the
// bus.
func (c *conn) classOf(qos byte) backend.Class {
	if c.durable && qos > 0 {
		return backend.ClassQoS0
	}
	return backend.ClassQoS0 | backend.ClassAcked
}

// express makes the interests of resumed subscriptions known to the bus.
func (c *conn) express(ctx context.Context, subs []backend.Subscription) error {
	for i, s := range subs {
		if _, _, shared := protocol.SplitShare(s.Filter); shared {
			continue
		}
		if err := c.g.interests.add(ctx, c.g, s.Filter, c.classOf(s.QoS)); err != nil {
			c.unexpress(subs[:i])
			return err
		}
	}
	return nil
}

// unexpress takes express back, for a connection that did not come up.
func (c *conn) unexpress(subs []backend.Subscription) {
	for _, s := range subs {
		if _, _, shared := protocol.SplitShare(s.Filter); !shared {
			c.g.interests.remove(c.g, s.Filter, c.classOf(s.QoS))
		}
	}
}

// enroll enters resumed subscriptions, whose interests are known already.
func (c *conn) enroll(subs []backend.Subscription) {
	for i := range subs {
		_, _, shared := protocol.SplitShare(subs[i].Filter)
		c.setLive(&subs[i], shared)
	}
}

// withdraw takes the subscriptions of a connection that ends out of the tree
// and off the bus. The session keeps them.
func (g *Gateway) withdraw(c *conn) {
	c.mu.Lock()
	subs, shared := c.subs, len(c.shared)
	c.subs, c.shared = nil, nil
	c.mu.Unlock()
	g.stats.sharedSubscriptions.Add(-int64(shared))
	for f, s := range subs {
		g.tree.Delete(f, c)
		g.interests.remove(g, f, c.classOf(s.qos))
	}
}

// unsubscribe handles UNSUBSCRIBE.
func (c *conn) unsubscribe(ctx context.Context, p *protocol.Unsubscribe) error {
	codes := make([]protocol.ReasonCode, len(p.Filters))
	for i, f := range p.Filters {
		if protocol.ValidFilter(f) != nil {
			codes[i] = protocol.TopicFilterInvalid
			continue
		}
		existed, err := c.removeSubscription(ctx, f)
		switch {
		case errors.Is(err, backend.ErrFenced):
			return err
		case err != nil && !c.v5: // an UNSUBACK of MQTT 3 can not say no
			return err
		case err != nil:
			codes[i] = protocol.UnspecifiedError
		case !existed:
			codes[i] = protocol.NoSubscriptionExisted
		default:
			c.g.observe(Event{Kind: EventUnsubscribed, Client: &c.client, Filter: f})
		}
	}
	c.mu.Lock()
	c.packLocked(&protocol.Unsuback{PacketID: p.PacketID, Codes: codes}) // [MQTT-3.10.4-4]
	c.mu.Unlock()
	return c.checkOutbox()
}

// removeSubscription ends one subscription: in the store first, so that nothing
// is appended that would not be delivered.
func (c *conn) removeSubscription(ctx context.Context, f string) (existed bool, err error) {
	_, _, shared := protocol.SplitShare(f)
	existed = c.has(f, shared)
	if existed && (c.durable || shared) {
		err := c.hold(ctx, func(ctx context.Context) error {
			_, err := c.g.store.Unsubscribe(ctx, c.lease, []string{f})
			return err
		})
		if err != nil {
			return false, err
		}
	}
	c.mu.Lock()
	c.dropTaskLocked(f)
	s, live := c.subs[f]
	delete(c.subs, f)
	if _, was := c.shared[f]; was {
		delete(c.shared, f)
		c.g.stats.sharedSubscriptions.Add(-1)
	}
	if live {
		c.g.tree.Delete(f, c)
	}
	c.mu.Unlock()
	if live {
		c.g.interests.remove(c.g, f, c.classOf(s.qos))
	}
	return existed, nil
}

// reauthorize ends the subscriptions that the client may not have any more. One
// of whom that can not be told is sent away.
func (c *conn) reauthorize(ctx context.Context) {
	c.mu.Lock()
	filters := make([]string, 0, len(c.subs)+len(c.shared))
	for f := range c.subs {
		filters = append(filters, f)
	}
	for f := range c.shared {
		filters = append(filters, f)
	}
	c.mu.Unlock()
	slices.Sort(filters)
	for _, f := range filters {
		_, filter, shared := protocol.SplitShare(f)
		err := c.g.authorize(ctx, &c.client, Access{Action: Subscribe, Topic: filter, Shared: shared})
		if err == nil {
			continue
		}
		if !isRefusal(err) { // it keeps the subscription, and does not use it
			c.g.log.Warn("permissions can not be told", "client", string(c.client.ID), "err", err)
			c.end(protocol.ServerBusy, "permissions are not available")
			return
		}
		if _, err := c.removeSubscription(ctx, f); err != nil {
			c.fail(err)
			return
		}
		c.g.observe(Event{Kind: EventUnsubscribed, Client: &c.client, Filter: f})
	}
}
