package gateway

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/gateway/session"
	"github.com/sluice-mqtt/sluice/protocol"
)

// takeoverPatience is how long a CONNECT waits for the connection it replaces,
// if that is on the same gateway, to hand its session over in an orderly way.
// After that it is fenced like any other.
const takeoverPatience = 250 * time.Millisecond

// bridge is a bit that bridges of some brokers set in the protocol level of
// MQTT 3. They try again without it when they get its return code 1.
const bridge = 0x80

// admit takes the connection from its first byte to CONNACK. It reports
// whether the client is connected.
func (c *conn) admit(ctx context.Context) bool {
	ctx, cancel := context.WithDeadline(ctx, c.came.deadline)
	defer cancel()
	p, ok := c.readConnect()
	if !ok {
		return false
	}
	c.beginSpan()
	ack := protocol.Connack{}
	if !c.certify(p) || !c.identify(p, &ack) || c.refuseBanned() || !c.mayConnect() {
		return false
	}
	will, ok := c.checkWill(p)
	if !ok {
		return false
	}
	if !c.timed(StepAuthenticate, func() bool { return c.authenticate(ctx, p, &ack) }) {
		return false
	}
	if string(c.client.ID) != p.ClientID && c.refuseBanned() { // authentication gave it another
		return false
	}
	if p.Will != nil {
		access := Access{Action: Publish, Topic: p.Will.Topic, QoS: p.Will.QoS, Retain: p.Will.Retain}
		if err := c.g.authorize(ctx, &c.client, access); err != nil {
			return c.refuse(refusalCode(err, protocol.CONNACK), "the will is not allowed")
		}
	}
	c.settle(p, &ack)
	if !c.awaitTurn(ctx) {
		return false
	}
	c.g.clients.opening(c)
	defer c.g.clients.opened(c)
	var opened *backend.Opened
	ok = c.timed(StepOpen, func() (ok bool) {
		opened, ok = c.openSession(ctx, p, will)
		return ok
	})
	if !ok {
		return false
	}
	return c.join(ctx, p, opened, &ack)
}

// refuse answers CONNECT with a code. A client of MQTT 3 gets the return code
// that comes nearest.
func (c *conn) refuse(code protocol.ReasonCode, text string) bool {
	if code < protocol.UnspecifiedError || !code.ValidIn(protocol.CONNACK) {
		code = protocol.NotAuthorized // an extension's no, in a code of another packet
	}
	ack := protocol.Connack{Code: code}
	if c.problems {
		ack.Reason = text
	}
	if code == protocol.UseAnotherServer {
		ack.ServerReference = c.g.opt.ServerReference
	}
	c.mu.Lock()
	if !c.ended {
		c.ended, c.endCode, c.endText = true, code, text
		c.packLocked(&ack)
	}
	c.mu.Unlock()
	c.flush()
	c.refused(code, text)
	return false
}

// refused logs and counts a connection that never came up.
func (c *conn) refused(code protocol.ReasonCode, text string) {
	c.g.stats.connects[code].Add(1)
	c.g.log.Info("refused", "client", string(c.client.ID), "user", c.client.Username, "remote", c.client.Remote, "listener", c.client.Listener, "code", code, "reason", text)
	c.g.observe(Event{Kind: EventRefused, Client: &c.client, Code: code, Reason: text})
	c.endSpan(code, text)
}

// readConnect reads the first packet. Whoever sends anything but CONNECT gets
// no answer [MQTT-3.1.0-1].
func (c *conn) readConnect() (*protocol.Connect, bool) {
	var p protocol.Connect
	var fault error
	got := false
	c.readAll(func(b []byte) bool {
		c.g.stats.bytesReceived.Add(uint64(len(b)))
		c.held = append(c.held, b...)
		h, size, err := protocol.ParseHeader(c.held, 0, c.g.opt.Limits.ConnectPacketSize)
		switch {
		case err != nil:
			fault = err
			return false
		case len(c.held) > 0 && protocol.Type(c.held[0]>>4) != protocol.CONNECT:
			fault = &protocol.Error{Code: protocol.ProtocolError, Detail: "first packet is not CONNECT"}
			return false
		case size == 0 || len(c.held) < size+h.Length:
			return true
		}
		fault = p.Decode(h, c.held[size:size+h.Length], 0)
		p.Password, p.AuthData = bytes.Clone(p.Password), bytes.Clone(p.AuthData)
		if w := p.Will; w != nil {
			w.Payload, w.Properties = bytes.Clone(w.Payload), bytes.Clone(w.Properties)
		}
		c.held = bytes.Clone(c.held[size+h.Length:])
		got = true
		return false
	})
	if got {
		c.client.ID = backend.ClientID(p.ClientID)
		c.g.stats.packetsReceived[protocol.CONNECT].Add(1)
		c.g.observePacket(EventPacketReceived, c, protocol.CONNECT)
	}
	if fault != nil && len(c.held) >= proxyShortest && beginsProxyHeader(c.held) {
		fault = &protocol.Error{Code: protocol.ProtocolError, Detail: "PROXY header from an address that is not trusted to send one"}
	}
	var pe *protocol.Error
	switch {
	case fault == nil && got:
		c.client.Version, c.v5 = p.Version, p.Version == protocol.V5
		c.problems, c.maxPacket = p.RequestProblemInfo, p.MaximumPacketSize
		return &p, true
	case fault == nil:
		c.mu.Lock()
		text := c.endText
		c.mu.Unlock()
		if text == noConnect {
			c.g.refuseFor(RefusedTimeout)
		}
		if len(c.held) == 0 {
			// Somebody who only looks whether the port is open.
			c.g.stats.connects[protocol.UnspecifiedError].Add(1)
			c.g.log.Debug("nothing came", "remote", c.client.Remote, "listener", c.client.Listener, "reason", text)
			return nil, false
		}
		c.refused(protocol.UnspecifiedError, text)
		return nil, false
	case !errors.As(fault, &pe):
		pe = &protocol.Error{Code: protocol.MalformedPacket, Detail: fault.Error()}
	}
	if pe.Code == protocol.PacketTooLarge {
		c.g.refuseFor(RefusedConnectSize)
	}
	switch {
	case pe.Code == protocol.UnsupportedProtocolVersion:
		// No version is common: whoever is older than 5 expects the answer of
		// MQTT 3, whoever is newer knows that of 5 [MQTT-3.1.2-2].
		c.client.Version, c.problems = protocol.V311, false
		if p.Version > protocol.V5 && p.Version != bridge|protocol.V31 && p.Version != bridge|protocol.V311 {
			c.client.Version, c.v5 = protocol.V5, true
		}
		return nil, c.refuse(pe.Code, pe.Detail)
	case got && p.Version == protocol.V5: // [MQTT-3.1.4-1]
		c.client.Version, c.v5, c.maxPacket = protocol.V5, true, p.MaximumPacketSize
		return nil, c.refuse(pe.Code, pe.Detail)
	}
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.refused(pe.Code, pe.Detail)
	return nil, false
}

// identify finds the client's identifier, or gives it one.
func (c *conn) identify(p *protocol.Connect, ack *protocol.Connack) bool {
	c.client.ID = backend.ClientID(p.ClientID)
	c.client.Username = p.Username
	if p.ClientID != "" {
		return true
	}
	if p.Version == protocol.V31 || p.Version == protocol.V311 && !p.CleanStart { // [MQTT-3.1.3-8]
		return c.refuse(protocol.ClientIdentifierNotValid, "no client identifier")
	}
	c.client.ID = backend.ClientID("auto-" + randomText()) // [MQTT-3.1.3-6]
	ack.AssignedClientID = string(c.client.ID)             // [MQTT-3.2.2-16]
	return true
}

// checkWill looks at what the will asks for, before anything is done.
func (c *conn) checkWill(p *protocol.Connect) (*backend.Will, bool) {
	w, lim := p.Will, &c.g.opt.Limits
	if w == nil {
		return nil, true
	}
	switch {
	case lim.MaximumQoS != nil && w.QoS > *lim.MaximumQoS: // [MQTT-3.2.2-12]
		return nil, c.refuse(protocol.QoSNotSupported, "will QoS above the maximum")
	case w.Retain && lim.NoRetain: // [MQTT-3.2.2-13]
		return nil, c.refuse(protocol.RetainNotSupported, "retained messages are not available")
	case len(w.Topic) > lim.TopicLength || protocol.Levels(w.Topic) > lim.TopicLevels:
		c.g.refuseFor(RefusedTopic)
		return nil, c.refuse(protocol.TopicNameInvalid, "will topic too long")
	case !c.g.mayName(w.Topic):
		return nil, c.refuse(protocol.TopicNameInvalid, "will topic is reserved")
	}
	will := &backend.Will{
		Message: &backend.Message{
			Topic: w.Topic, Payload: w.Payload, Properties: w.Properties,
			QoS: w.QoS, Retain: w.Retain,
		},
		Delay: min(w.Delay, lim.WillDelay),
	}
	if expiry, has := c.g.messageExpiry(w.MessageExpiry, w.HasMessageExpiry); has {
		will.MessageExpiry = &expiry
	}
	return will, true
}

// settle fills in what the connection's properties come to, both ways.
func (c *conn) settle(p *protocol.Connect, ack *protocol.Connack) {
	lim := &c.g.opt.Limits
	seconds := time.Duration(p.KeepAlive) * time.Second
	if c.v5 && lim.KeepAlive > 0 && (seconds == 0 || seconds > lim.KeepAlive) { // [MQTT-3.1.2-21]
		seconds = lim.KeepAlive.Truncate(time.Second)
		told := uint16(seconds / time.Second)
		ack.ServerKeepAlive = &told
	}
	c.keepAlive = seconds + seconds/2
	if !c.v5 {
		if !p.CleanStart {
			c.expiry = lim.SessionExpiryV3
		}
		return
	}
	c.expiry = min(p.SessionExpiry, lim.SessionExpiry)
	if c.expiry != p.SessionExpiry {
		ack.SessionExpiry = &c.expiry
	}
	if lim.ReceiveMaximum != 65_535 {
		ack.ReceiveMaximum = &lim.ReceiveMaximum
	}
	if lim.MaximumQoS != nil && *lim.MaximumQoS < 2 {
		ack.MaximumQoS = lim.MaximumQoS // [MQTT-3.2.2-9]
	}
	ack.MaximumPacketSize = &lim.PacketSize
	if n := uint16(max(lim.TopicAliases, 0)); n > 0 {
		ack.TopicAliasMaximum = &n
	}
	no := new(bool)
	if lim.NoRetain {
		ack.RetainAvailable = no
	}
	if lim.NoWildcards {
		ack.WildcardAvailable = no
	}
	if lim.NoSubscriptionIDs {
		ack.SubscriptionIDAvailable = no
	}
	if lim.NoShared {
		ack.SharedAvailable = no
	}
	if p.RequestResponseInfo && c.g.opt.ResponseInformation != "" { // [MQTT-3.1.2-28]
		ack.ResponseInfo = c.g.opt.ResponseInformation + string(c.client.ID)
	}
}

// openSession claims the session in the store.
func (c *conn) openSession(ctx context.Context, p *protocol.Connect, will *backend.Will) (*backend.Opened, bool) {
	// One deadline for all, so that a refusal comes in time.
	sctx, cancel := c.g.storeContext(ctx)
	defer cancel()
	if old := c.g.clients.get(c.client.ID); old != nil {
		if old.client.Principal != c.client.Principal {
			return nil, c.refuse(protocol.NotAuthorized, "session belongs to another identity")
		}
		// A store that does not answer must not cost the old connection.
		if err := c.g.store.Renew(sctx, c.g.opt.ID); err != nil {
			c.g.storeFailed(err)
			return nil, c.refuse(protocol.ServerUnavailable, "store is not available")
		}
		c.g.takenOver(c.client.ID, true)
		select {
		case <-old.kick():
		case <-time.After(takeoverPatience):
		case <-ctx.Done():
		}
	}
	if will != nil {
		will.Message.Publisher, will.Owner = c.client.ID, c.client.owner()
	}
	c.window = min(p.ReceiveMaximum, c.g.opt.Limits.InFlight)
	opened, err := c.g.store.Open(sctx, backend.OpenRequest{
		Client: c.client.ID, Node: c.g.opt.ID, Principal: c.client.Principal,
		CleanStart: p.CleanStart, Expiry: c.expiry, Will: will, Window: c.window,
	})
	switch {
	case err == nil:
	case errors.Is(err, backend.ErrNotOwner):
		return nil, c.refuse(protocol.NotAuthorized, "session belongs to another identity")
	case errors.Is(err, backend.ErrFull):
		return nil, c.refuse(protocol.QuotaExceeded, "too many sessions")
	default:
		c.g.storeFailed(err)
		if errors.Is(err, backend.ErrFenced) {
			c.g.renewSoon() // the gateway's own lease: it finds out, and begins anew
		}
		return nil, c.refuse(protocol.ServerUnavailable, "store is not available")
	}
	c.open, c.lease, c.durable = true, opened.Lease, opened.Durable
	c.hasWill = will != nil
	c.willless = true // until the client is connected, it has no will
	if prev := opened.Previous; prev.Node != "" && prev.Node != c.g.opt.ID {
		c.g.takenOver(c.client.ID, true)
		nctx, cancel := c.g.storeContext(ctx)
		// It is fenced already; this only makes it notice sooner.
		err := c.g.bus.Notify(nctx, prev.Node, backend.Notice{Kind: backend.NoticeTakeover, Client: c.client.ID, Epoch: opened.Lease.Epoch})
		cancel()
		if err != nil {
			c.g.log.Debug("takeover notice not sent", "client", string(c.client.ID), "err", err)
			c.g.unsure("a takeover notice could not be sent")
		}
	}
	return opened, true
}

// join makes the session live on this gateway and sends CONNACK.
func (c *conn) join(ctx context.Context, p *protocol.Connect, o *backend.Opened, ack *protocol.Connack) bool {
	lim := &c.g.opt.Limits
	c.in = session.NewInbound(session.Rules{
		Version: p.Version, MaximumQoS: c.g.maximumQoS(), RetainAvailable: !lim.NoRetain,
		ReceiveMaximum: lim.ReceiveMaximum, TopicAliasMaximum: uint16(max(lim.TopicAliases, 0)),
	}, o)
	subs, ok := c.stillAllowed(ctx, o.Subscriptions)
	if !ok {
		return false
	}
	if err := c.express(ctx, subs); err != nil {
		return c.refuse(protocol.ServerUnavailable, "bus is not available")
	}
	ack.SessionPresent = o.Present

	c.mu.Lock()
	if c.ended { // the gateway is shutting down
		c.mu.Unlock()
		c.unexpress(subs)
		return false
	}
	c.out = session.NewOutbound(o, c.window)
	c.aliases = session.NewAliases(uint16(max(min(int(p.TopicAliasMaximum), lim.TopicAliasesOut), 0)))
	c.tasksFor(subs, o.Replays)
	c.resync = o.Present && o.Durable
	if !c.packLocked(ack) {
		c.ended, c.endCode, c.endText = true, protocol.PacketTooLarge, "CONNACK is above the client's maximum packet size"
		c.mu.Unlock()
		c.unexpress(subs)
		c.refused(protocol.PacketTooLarge, c.endText)
		return false
	}
	c.up = true
	c.mu.Unlock()

	replaced, ok := c.g.clients.put(c)
	c.mu.Lock()
	ok = ok && c.overtaken <= c.lease.Epoch
	c.mu.Unlock()
	if !ok {
		c.end(protocol.SessionTakenOver, "session was taken over")
		c.unexpress(subs)
		c.refused(protocol.SessionTakenOver, "session was taken over")
		return false
	}
	if replaced != nil {
		replaced.kick()
	}
	c.enroll(subs)
	c.willless, c.since = false, c.g.now()
	c.traced.Store(!c.g.tracedUntil(c.client.ID).IsZero())
	if c.g.banned(&c.client) != nil { // since it was admitted
		defer c.end(protocol.AdministrativeAction, "banned")
	}
	c.flush()
	c.counted = true
	if c.durable {
		c.g.stats.sessions.Add(1)
	}
	c.g.stats.connects[protocol.Success].Add(1)
	c.g.log.Info("connected", "client", string(c.client.ID), "user", c.client.Username, "remote", c.client.Remote, "listener", c.client.Listener, "version", p.Version, "clean", p.CleanStart, "present", o.Present, "expiry", c.expiry, "keepalive", p.KeepAlive)
	c.g.observe(Event{Kind: EventConnected, Client: &c.client})
	c.endSpan(protocol.Success, "")
	c.g.carryOut(context.WithoutCancel(ctx), o.Due, nil, willTakenOver)
	c.pump(context.WithoutCancel(ctx))
	return true
}
