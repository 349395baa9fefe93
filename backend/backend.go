package backend

import "context"

// Class tells apart the messages that a gateway wants to hear for a filter.
// It saves the bus from carrying to a gateway what reaches it as mail anyway.
type Class uint8

const (
	// ClassQoS0 are messages published with QoS 0.
	ClassQoS0 Class = 1 << iota
	// ClassAcked are messages published with QoS 1 or 2. A gateway needs
	// them for sessions that have no inbox and for subscriptions of QoS 0.
	ClassAcked
)

// Backend carries messages and notices between gateways, at most once each.
// All methods may be called concurrently. A call that can not reach the
// service returns [ErrUnavailable] rather than queueing: silence is never
// success.
type Backend interface {
	// Start joins the bus as node and begins to call h. The bus is live when
	// Start returns. It is called once, before any other method.
	Start(ctx context.Context, node NodeID, h Handler) error

	// Subscribe makes messages of class that match filter reach the handler.
	// The interest is live, at every gateway, when it returns: a Publish
	// that begins afterwards is seen. Over-delivery is allowed, messages
	// that were not asked for included; under-delivery is not. The filter
	// has no "$share" prefix. Repeated calls are one interest.
	Subscribe(ctx context.Context, filter string, class Class) error

	// Unsubscribe withdraws class from the interest in filter.
	Unsubscribe(ctx context.Context, filter string, class Class) error

	// Publish gives m to every other gateway that has asked for it, never to
	// the caller's. Messages of one caller on one topic arrive in the order
	// of the calls. The message is borrowed for the call.
	Publish(ctx context.Context, m *Message) error

	// Notify gives n to one gateway. Notices of one caller to one gateway
	// arrive in order. A notice to a gateway that is gone is no error.
	Notify(ctx context.Context, to NodeID, n Notice) error

	// Close leaves the bus. No handler method runs after it returned.
	Close() error
}

// Handler receives what the bus brings. Its methods are called one at a time
// and must not block: a handler that is too slow makes the driver drop and
// report a gap.
//
// Messages and notices come in runs. A handler may collect what it makes of
// them until HandleFlush, so that a client which gets many messages is written
// to once.
type Handler interface {
	// HandleMessage takes a live message. It is immutable and may be kept.
	HandleMessage(m *Message)

	// HandleNotice takes a notice for this gateway.
	HandleNotice(n Notice)

	// HandleFlush ends a run: nothing more is at hand just now, or there have
	// been [MaxRun] calls since the last one.
	HandleFlush()

	// HandleGap says that something may have been missed before now: the
	// gateway looks into the inboxes of the sessions that it serves.
	HandleGap(reason error)
}

// MaxRun bounds how many messages and notices a driver hands on before it calls
// [Handler.HandleFlush]: what is collected meanwhile is memory, and the first
// of them waits for the last.
const MaxRun = 256

// NoticeKind says what a [Notice] is about.
type NoticeKind uint8

const (
	// NoticeMail: Entry was appended to the inbox of Client.
	NoticeMail NoticeKind = iota + 1
	// NoticeTakeover: a newer owner claimed Client. Every connection of
	// Client with an epoch below Epoch is to be ended with 0x8E.
	NoticeTakeover
	// NoticeDeliver: Entry is for Client, an ephemeral member of a shared
	// group that was chosen for it; it is in no inbox.
	NoticeDeliver
	// NoticeKick: an operator asks for the connection of Client to be ended
	// with reason code Code.
	NoticeKick
	// NoticeAsk and NoticeAnswer: a gateway asks another what that alone
	// knows. The payload of Entry's message is theirs, and nobody is harmed
	// if either is lost.
	NoticeAsk
	NoticeAnswer
)

// Notice is a message from one gateway to another about one client.
type Notice struct {
	Kind   NoticeKind
	Client ClientID
	Epoch  uint64
	Code   byte
	Entry  Entry
}

// Solitary is implemented by a [Backend] that can tell whether there is any
// other gateway. Only then can a publisher be told that nobody subscribes to
// its topic (MQTT 5, reason code 0x10).
type Solitary interface {
	// Alone reports whether no other gateway can receive anything now.
	Alone() bool
}

// Bundler is implemented by a [Backend] that sends with less effort what it is
// given together. What is given by these methods arrives in the order of the
// calls, among them and with those of Publish and Notify.
type Bundler interface {
	// PublishSoon is [Backend.Publish] of a message that may wait for Flush.
	PublishSoon(ctx context.Context, m *Message) error

	// NotifySoon is [Backend.Notify] of a notice that may wait for Flush.
	NotifySoon(ctx context.Context, to NodeID, n Notice) error

	// Flush sends what waits, whoever gave it. It does not block. Whoever
	// gave something calls it before waiting for anything else: until then
	// it may not have left.
	Flush()
}

// Immediate is implemented by a [Store] that may never have to wait for anything
// but memory, so that a goroutine which serves many clients may call it.
type Immediate interface {
	// Immediate reports whether that is so.
	Immediate() bool
}

// Healthy is implemented by a driver that knows whether it is any use just now.
type Healthy interface {
	// Health returns nil, or what is wrong in a few words, at once.
	Health() error
}
