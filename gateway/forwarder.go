package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// Forwarder gives what is published to others than MQTT clients. Each message is
// forwarded by the gateway that took it, and by no other: those of clients, wills,
// and those of [Gateway.Publish] and [Gateway.Inject], but not the $SYS topics.
type Forwarder interface {
	// Forward gives away the messages, in order; it is called concurrently for
	// those of different publishers. All have QoS 0, or none; what has none is
	// acknowledged to its publisher only after Forward has returned nil. QoS 0
	// must not make it wait.
	//
	// An error that is [backend.ErrUnavailable] means that nothing was given
	// away, and it is tried again for a while. After any other one nobody knows:
	// publishers will repeat what was not acknowledged, QoS 2 with the same ID.
	//
	// The messages are borrowed during the call. now is the time on the store's
	// clock, to which Expires refers.
	Forward(ctx context.Context, now time.Time, messages []*backend.Message) error
}

// forwardAway hands the forwarder what has QoS 0, or what has not.
func (b *batch) forwardAway(ctx context.Context, acked bool) error {
	f := b.g.opt.Forwarder
	if f == nil {
		return nil
	}
	var away []*backend.Message
	for i := range b.pubs {
		// What was forwarded here before is not, though it goes to live
		// sessions elsewhere again.
		if u := &b.pubs[i]; !u.done && !u.had && (u.msg.QoS > 0) == acked {
			away = append(away, &u.msg)
		}
	}
	if len(away) == 0 {
		return nil
	}
	leave(ctx)
	if acked {
		return b.hold(ctx, func(ctx context.Context) error { return f.Forward(ctx, b.g.storeNow(), away) })
	}
	if err := f.Forward(ctx, b.g.storeNow(), away); err != nil {
		for _, m := range away {
			b.g.drop(DropForward, nil, m, 1)
		}
	}
	return nil
}

// Inject publishes a message of somebody who is no MQTT client, within the limits
// that clients have, which it may change in the message: a [RefusalError] says
// which one it does not keep. With QoS 1 and 2 it returns when the message is
// stored; those with the same name, if it is not empty, are one message.
func (g *Gateway) Inject(ctx context.Context, m *backend.Message, name string) error {
	if name != "" && m.QoS > 0 {
		m.ID = oneMessage("nats/" + name)
	}
	refuse := func(code protocol.ReasonCode, reason string) error { return &RefusalError{Code: code, Reason: reason} }
	lim := &g.opt.Limits
	switch {
	case protocol.ValidTopicName(m.Topic) != nil:
		return refuse(protocol.TopicNameInvalid, "not a topic name")
	case !g.mayName(m.Topic):
		return refuse(protocol.TopicNameInvalid, "topic is reserved")
	case m.QoS > g.maximumQoS():
		return refuse(protocol.QoSNotSupported, "")
	case m.Retain && lim.NoRetain:
		return refuse(protocol.RetainNotSupported, "")
	case m.Size() > int(lim.PacketSize):
		return refuse(protocol.PacketTooLarge, "")
	}
	if limit := lim.MessageExpiry; limit > 0 {
		if most := g.storeNow().Add(time.Duration(limit) * time.Second).UnixMilli(); m.Expires == 0 || m.Expires > most {
			m.Expires = most
		}
	}
	return g.Publish(ctx, m)
}

// notRetained is the error of a publish of the server's own that a limit of
// retained messages refuses.
var errNotRetained = &RefusalError{Code: protocol.QuotaExceeded, Reason: "retained messages are at their limit"}

// publishWill publishes a will; one that can not be retained is published without.
func (g *Gateway) publishWill(ctx context.Context, m *backend.Message) error {
	err := g.Publish(ctx, m)
	switch {
	case !errors.Is(err, errNotRetained):
		return err
	case m.QoS == 0: // it was delivered
		return nil
	}
	m.Retain = false
	return g.Publish(ctx, m)
}
