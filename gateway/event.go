package gateway

import (
	"math/bits"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// EventKind names an event. Kinds are bits, so that an observer can name
// several.
type EventKind uint32

const (
	// EventStarting, EventStarted, EventStopping and EventStopped frame the
	// life of the gateway.
	EventStarting EventKind = 1 << iota
	EventStarted
	EventStopping
	EventStopped
	// EventConnected: CONNACK with success was written. Code is 0.
	EventConnected
	// EventRefused: a CONNECT was answered with Code. Client may be
	// incomplete.
	EventRefused
	// EventDisconnected: the connection ended, for Code; the server's own
	// reason, or the client's.
	EventDisconnected
	// EventSubscribed and EventUnsubscribed: Filter was accepted.
	EventSubscribed
	EventUnsubscribed
	// EventReceived: Message was taken from the client.
	EventReceived
	// EventRetained: Message was stored as retained, or removed one.
	EventRetained
	// EventDelivered: Message was written to Client.
	EventDelivered
	// EventDropped: Message, or one for Client, was dropped for Drop.
	EventDropped
	// EventWill: the will of Client was published.
	EventWill
	// EventSessionEnded: the session of Client is gone, by expiry or else.
	EventSessionEnded
	// EventPacketReceived and EventPacketSent: a packet of type Packet.
	EventPacketReceived
	EventPacketSent
	// EventTakenOver: another connection has the session of Client now. What
	// comes of its connection here is an EventDisconnected of its own.
	EventTakenOver
	eventsEnd
)

var eventNames = [...]string{
	"starting", "started", "stopping", "stopped", "connected", "refused", "disconnected", "subscribed", "unsubscribed",
	"received", "retained", "delivered", "dropped", "will", "session_ended", "packet_received", "packet_sent", "taken_over",
}

// String is the name of a single kind, as others are told it.
func (k EventKind) String() string {
	if k == 0 || k >= eventsEnd || k&(k-1) != 0 {
		return "unknown"
	}
	return eventNames[bits.TrailingZeros32(uint32(k))]
}

// EventKinds lists every kind.
func EventKinds() []EventKind {
	all := make([]EventKind, len(eventNames))
	for i := range all {
		all[i] = 1 << i
	}
	return all
}

// Event is something that happened. Fields that do not belong to the kind are
// zero.
type Event struct {
	Kind   EventKind
	Client *Client
	// Message is valid during the call only.
	Message *backend.Message
	Filter  string
	// QoS is the one that was granted to a subscription.
	QoS  byte
	Code protocol.ReasonCode
	// Reason is Code in words of the gateway, for a refused or ended connection.
	Reason string
	Drop   Drop
	// Count is how many deliveries were dropped at once; Message is the first.
	Count  int
	Packet protocol.Type
}

// Observer is told what happens. Observe is called concurrently, in the
// goroutine where it happens: it must return at once and must not call the
// gateway. A panic in it is counted and ends nothing but the call.
type Observer interface {
	// Events says which kinds are wanted; asked once, by New. Those of single
	// messages and packets cost time on the fast path.
	Events() EventKind
	Observe(e Event)
}

// Drop is why a message was not delivered to a client.
type Drop uint8

const (
	// DropOutboxFull: a QoS 0 message found the client's socket full.
	DropOutboxFull Drop = iota
	// DropQueueFull: a message found an ephemeral session's queue full.
	DropQueueFull
	// DropInboxFull: a message found a durable session's inbox full.
	DropInboxFull
	// DropExpired: the message's time was over before it could be sent.
	DropExpired
	// DropTooLarge: the packet was above the client's maximum packet size.
	DropTooLarge
	// DropDenied: the client may not publish or receive the topic.
	DropDenied
	// DropGone: a member of a shared group was gone and nobody else there.
	DropGone
	// DropRetainedFull: a limit of the store did not allow to retain it.
	DropRetainedFull
	// DropStore: a message for a shared group found the store away: one of QoS 0,
	// or one that was to go to another member.
	DropStore
	// DropBus: a QoS 0 message could not be given to the other gateways.
	DropBus
	// DropForward: a QoS 0 message could not be given to the [Forwarder].
	DropForward
	dropReasons
)

func (d Drop) String() string {
	switch d {
	case DropOutboxFull:
		return "outbox_full"
	case DropQueueFull:
		return "queue_full"
	case DropInboxFull:
		return "inbox_full"
	case DropExpired:
		return "expired"
	case DropTooLarge:
		return "too_large"
	case DropDenied:
		return "denied"
	case DropGone:
		return "no_member"
	case DropRetainedFull:
		return "retained_full"
	case DropStore:
		return "store_unavailable"
	case DropBus:
		return "bus_unavailable"
	case DropForward:
		return "not_forwarded"
	}
	return "unknown"
}

// Drops lists every reason.
func Drops() []Drop {
	all := make([]Drop, dropReasons)
	for i := range all {
		all[i] = Drop(i)
	}
	return all
}
