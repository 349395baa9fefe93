package gateway

import (
	"context"
	"time"

	"golang.org/x/time/rate"

	"github.com/sluice-mqtt/sluice/protocol"
)

// Refusal names the limit for which something was refused to a client.
type Refusal uint8

const (
	// RefusedConnections: too many connections at one time. Those above the
	// limit get 0x97, above twice the limit they are closed.
	RefusedConnections Refusal = iota
	// RefusedAddressConnections: the same for one address.
	RefusedAddressConnections
	// RefusedAddressRate: an address connected too often; closed at once.
	RefusedAddressRate
	// RefusedConnectRate: too many CONNECTs came to this gateway; 0x9F.
	RefusedConnectRate
	// RefusedFlapping: a client connects and disconnects again and again; 0x9F.
	RefusedFlapping
	// RefusedTLS: a TLS handshake that failed, or did not end in time.
	RefusedTLS
	// RefusedProxy: no PROXY header, or a wrong one, from an address that has
	// to send it; closed.
	RefusedProxy
	// RefusedTimeout: a connection that did not get to CONNECT in time.
	RefusedTimeout
	// RefusedConnectSize: a CONNECT above its limit; closed.
	RefusedConnectSize
	// RefusedPacketSize: a packet above the limit; 0x95.
	RefusedPacketSize
	// RefusedTopic: a topic name or filter too long or too deep; 0x90, 0x8F.
	RefusedTopic
	// RefusedSubscriptions: a session has as many as it may; 0x97.
	RefusedSubscriptions
	// RefusedReceiveMaximum: more publishes under way than allowed; 0x93.
	RefusedReceiveMaximum
	// RefusedPublishRate: a client published faster than it may, and was made
	// to wait; nothing is lost.
	RefusedPublishRate
	refusals
)

var refusalNames = [refusals]string{
	RefusedConnections:        "connections",
	RefusedAddressConnections: "address_connections",
	RefusedAddressRate:        "address_rate",
	RefusedConnectRate:        "connect_rate",
	RefusedFlapping:           "flapping",
	RefusedTLS:                "tls_handshake",
	RefusedProxy:              "proxy_header",
	RefusedTimeout:            "connect_timeout",
	RefusedConnectSize:        "connect_size",
	RefusedPacketSize:         "packet_size",
	RefusedTopic:              "topic",
	RefusedSubscriptions:      "subscriptions",
	RefusedReceiveMaximum:     "receive_maximum",
	RefusedPublishRate:        "publish_rate",
}

// String is the name of the reason in metrics.
func (r Refusal) String() string {
	if r < refusals {
		return refusalNames[r]
	}
	return "unknown"
}

// Refusals lists every one.
func Refusals() []Refusal {
	all := make([]Refusal, refusals)
	for i := range all {
		all[i] = Refusal(i)
	}
	return all
}

// refuseFor counts a refusal.
func (g *Gateway) refuseFor(why Refusal) { g.stats.refused[why].Add(1) }

// countFault counts an error that ends a connection, if it is a limit's.
func (g *Gateway) countFault(code protocol.ReasonCode) {
	switch code {
	case protocol.PacketTooLarge:
		g.refuseFor(RefusedPacketSize)
	case protocol.ReceiveMaximumExceeded:
		g.refuseFor(RefusedReceiveMaximum)
	}
}

// limiter is a token bucket for n events a second, which holds those of burst
// seconds; nil, which is no limit, for n of 0 or less.
func limiter(n int64, burst int64) *rate.Limiter {
	if n <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(n), int(n*burst))
}

// pace holds a client to its rates of publishes and bytes. It belongs to the
// connection's reader; a connection without rates has none.
type pace struct {
	messages, bytes *rate.Limiter
	until           time.Duration // nothing is read before, on the gateway's clock
}

// pausedLook is how often a reader that waits looks whether its connection has
// ended, and says that the client, whose life signs it does not see, lives.
const pausedLook = 50 * time.Millisecond

// newPace makes a pace by the limits; nil if there are none.
func (l *Limits) newPace() *pace {
	p := &pace{messages: limiter(int64(l.PublishRate), 1), bytes: limiter(l.PublishBytes, 1)}
	if p.messages == nil && p.bytes == nil {
		return nil
	}
	return p
}

// spend notes what one read has brought.
func (p *pace) spend(g *Gateway, messages, bytes uint64) {
	now := time.Now()
	wait := max(reserve(p.messages, now, int(messages)), reserve(p.bytes, now, int(bytes)))
	if wait > 0 {
		p.until = g.now() + wait
		g.refuseFor(RefusedPublishRate)
	}
}

// reserve takes n tokens, more than the bucket holds too, and returns how long
// it takes until they are there.
func reserve(l *rate.Limiter, now time.Time, n int) (wait time.Duration) {
	for l != nil && n > 0 {
		part := min(n, l.Burst())
		wait = l.ReserveN(now, part).DelayFrom(now)
		n -= part
	}
	return wait
}

// rest leaves the client's bytes in its socket until it may send more, so that
// its own TCP slows it down. It holds no buffer meanwhile.
func (p *pace) rest(ctx context.Context, c *conn) {
	for {
		wait := p.until - c.g.now()
		if wait <= 0 {
			return
		}
		leave(ctx)
		time.Sleep(min(wait, pausedLook))
		c.touch()
		if c.isOver() {
			return
		}
	}
}
