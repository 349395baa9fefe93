package gateway

import (
	"context"

	"github.com/sluice-mqtt/sluice/protocol"
)

// process handles every complete packet in b, behind what was held of an
// incomplete one, and keeps the rest. It reports whether to go on reading.
// It is called by the reader only.
//
// Everything that the packets of one read give rise to is done in batches: the
// publishes are stored and routed together, the acknowledgements leave
// together, and each connection that got something is flushed once.
func (c *conn) process(ctx context.Context, b []byte) bool {
	fresh := len(b)
	if len(c.held) > 0 {
		c.held = append(c.held, b...)
		b = c.held
	}
	if len(b) == 0 {
		return true
	}
	c.g.stats.bytesReceived.Add(uint64(fresh))
	batch := newBatch(c.g, c)
	used, err := c.packets(ctx, batch, b)
	if ferr := batch.finish(ctx, err == nil); err == nil {
		err = ferr
	}
	if c.pace != nil {
		c.pace.spend(c.g, batch.byQoS[0]+batch.byQoS[1]+batch.byQoS[2], uint64(used))
	}
	batch.free()
	if n := c.in.InFlight(); n != c.inflight {
		c.g.stats.inboundInFlight.Add(int64(n - c.inflight))
		c.inflight = n
	}
	if err != nil && err != errEnd {
		c.fail(err)
	}
	rest := b[used:]
	switch {
	case len(rest) == 0:
		c.held = nil
	case len(c.held) > 0 && used == 0:
		// A large packet is still coming: c.held has it.
	default:
		c.held = append([]byte(nil), rest...)
	}
	if err != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.ended
}

// errEnd ends the connection in the way that has been arranged already.
var errEnd = &protocol.Error{Code: protocol.Success, Detail: "end"}

// packets handles the complete packets in b and returns how many bytes they
// were. Keep-alive counts complete packets only.
func (c *conn) packets(ctx context.Context, batch *batch, b []byte) (used int, err error) {
	var count [16]uint64
	defer func() {
		n := uint64(0)
		for t := range count {
			if count[t] > 0 {
				n += count[t]
				c.g.stats.packetsReceived[t].Add(count[t])
			}
		}
		if n > 0 {
			c.touch()
		}
	}()
	for used < len(b) {
		h, size, err := protocol.ParseHeader(b[used:], c.client.Version, c.g.opt.Limits.PacketSize)
		if err != nil {
			return used, err
		}
		if size == 0 || len(b)-used < size+h.Length {
			return used, nil
		}
		frame := b[used : used+size+h.Length]
		used += len(frame)
		count[h.Type]++
		if c.traced.Load() {
			c.traceFrames("in", frame)
		}
		if c.g.watched&EventPacketReceived != 0 {
			c.g.observePacket(EventPacketReceived, c, h.Type)
		}
		if h.Type == protocol.PUBLISH {
			err = batch.publish(ctx, h, frame, frame[size:])
		} else {
			err = c.packet(ctx, batch, h, frame[size:])
		}
		if err != nil {
			return used, err
		}
	}
	return used, nil
}

// packet handles anything but PUBLISH.
func (c *conn) packet(ctx context.Context, batch *batch, h protocol.Header, body []byte) error {
	switch h.Type {
	case protocol.PUBACK, protocol.PUBREC, protocol.PUBREL, protocol.PUBCOMP:
		var a protocol.Ack
		if err := a.Decode(h, body, c.client.Version); err != nil {
			return err
		}
		return batch.ack(ctx, &a)
	case protocol.PINGREQ:
		if err := batch.settle(ctx); err != nil {
			return err
		}
		if err := (&protocol.Pingreq{}).Decode(h, body, c.client.Version); err != nil {
			return err
		}
		c.mu.Lock()
		c.packLocked(&protocol.Pingresp{}) // [MQTT-3.12.4-1]
		c.mu.Unlock()
		return c.checkOutbox()
	}
	leave(ctx) // what is rare may take its time
	// The rest sees what came before it done.
	if err := batch.settle(ctx); err != nil {
		return err
	}
	switch h.Type {
	case protocol.SUBSCRIBE:
		var p protocol.Subscribe
		if err := p.Decode(h, body, c.client.Version); err != nil {
			return err
		}
		return c.subscribe(ctx, &p)
	case protocol.UNSUBSCRIBE:
		var p protocol.Unsubscribe
		if err := p.Decode(h, body, c.client.Version); err != nil {
			return err
		}
		return c.unsubscribe(ctx, &p)
	case protocol.DISCONNECT:
		var p protocol.Disconnect
		if err := p.Decode(h, body, c.client.Version); err != nil {
			return err
		}
		return c.disconnected(&p)
	case protocol.AUTH:
		var p protocol.Auth
		if err := p.Decode(h, body, c.client.Version); err != nil {
			return err
		}
		return c.handleAuth(ctx, &p)
	case protocol.CONNECT: // [MQTT-3.1.0-2]
		return &protocol.Error{Code: protocol.ProtocolError, Detail: "second CONNECT"}
	}
	return &protocol.Error{Code: protocol.ProtocolError, Detail: h.Type.String() + " from a client"}
}

// disconnected takes the client's goodbye.
func (c *conn) disconnected(p *protocol.Disconnect) error {
	if c.v5 && !p.Code.FromClient(protocol.DISCONNECT) {
		return &protocol.Error{Code: protocol.ProtocolError, Detail: "DISCONNECT with a reason code that only a server sends"}
	}
	if p.HasSessionExpiry {
		if c.expiry == 0 && p.SessionExpiry != 0 { // MQTT 5 §3.14.2.2.2
			return &protocol.Error{Code: protocol.ProtocolError, Detail: "session expiry set at DISCONNECT that was 0 at CONNECT"}
		}
		expiry := min(p.SessionExpiry, c.g.opt.Limits.SessionExpiry)
		c.newExpiry = &expiry
	}
	c.willless = p.Code == protocol.Success // [MQTT-3.14.4-3]
	c.goodbye, c.hasGoodbye = p.Code, true
	c.mu.Lock()
	if !c.ended {
		c.ended, c.endCode, c.endText = true, p.Code, "client disconnected"
	}
	c.mu.Unlock()
	return errEnd
}

// checkOutbox ends a client that makes the server answer and does not read the
// answers. They may take as much again as the deliveries that wait, which are
// no fault of the client's.
func (c *conn) checkOutbox() error {
	limit := 2 * c.g.opt.Limits.OutboxBytes
	c.mu.Lock()
	size := c.box.size()
	c.mu.Unlock()
	if size <= limit {
		return nil
	}
	c.flush()
	c.mu.Lock()
	size = c.box.size()
	c.mu.Unlock()
	if size <= limit {
		return nil
	}
	return &protocol.Error{Code: protocol.QuotaExceeded, Detail: "client does not read"}
}
