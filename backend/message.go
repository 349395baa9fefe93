package backend

import "time"

// NodeID names one run of one gateway. A gateway that starts again, or that
// lost its lease, takes a new one.
type NodeID string

// ClientID is an MQTT client identifier: any UTF-8 string of up to 65,535
// bytes, awkward characters included.
type ClientID string

// PublishID is the identity of one QoS 2 publish. Two appends with the same
// identity are one message. The zero value means 'no identity'.
type PublishID struct {
	Client ClientID
	// Incarnation tells sessions of one client apart; see [Opened].
	Incarnation uint64
	PacketID    uint16
	// Generation counts how often the packet identifier was released before.
	Generation uint32
}

// Message is one application message.
//
// A Message passed to a driver is borrowed: the driver keeps neither it nor
// the bytes that it refers to after the call returned; what it wants to keep
// it clones. A Message that a driver hands out is immutable and may be kept
// and shared.
type Message struct {
	Topic   string
	Payload []byte
	// Properties are the MQTT 5 properties that travel with a message
	// (payload format, content type, response topic, correlation data, user
	// properties), encoded as in MQTT 5 §2.2.2 without the length in front.
	// Opaque to drivers.
	Properties []byte
	// Expires is when the message is not worth delivering any more, in Unix
	// milliseconds on the store's clock; 0 is never.
	Expires int64
	// Publisher is the sending client, for No Local; empty for the server.
	Publisher ClientID
	// ID is set for messages published with QoS 2.
	ID     PublishID
	QoS    byte
	Retain bool
	// Again: live sessions may have had the message before, under its ID. A
	// gateway that has delivered it drops it; one that has not delivers it.
	Again bool
	// Fresh: whoever appends the message knows that no Append of its ID was
	// ever called, be it in vain. That spares the store the question whether it
	// has been appended before. It does not travel.
	Fresh bool
}

// Clone returns a copy that shares no memory with m, apart from the topic.
func (m *Message) Clone() *Message {
	c := *m
	n := len(m.Payload) + len(m.Properties)
	if n == 0 {
		c.Payload, c.Properties = nil, nil
		return &c
	}
	b := make([]byte, 0, n)
	b = append(b, m.Payload...)
	b = append(b, m.Properties...)
	c.Payload = b[:len(m.Payload):len(m.Payload)]
	c.Properties = b[len(m.Payload):]
	return &c
}

// Expired reports whether the message's time is over at now.
func (m *Message) Expired(now time.Time) bool {
	return m.Expires != 0 && now.UnixMilli() >= m.Expires
}

// Size is what the message counts for in limits by bytes.
func (m *Message) Size() int { return len(m.Topic) + len(m.Payload) + len(m.Properties) }

// Subscription is one subscription of a session.
type Subscription struct {
	// Filter as the client sent it, "$share/group/" included.
	Filter            string
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte
	// ID is the subscription identifier; 0 is none.
	ID uint32
}

// Entry is a message on its way to one session: an element of its inbox, or,
// with Seq 0, a message for a session that has none.
type Entry struct {
	// Seq is the place in the inbox, from 1. The packet identifier of a
	// delivery is a pure function of it, so that every gateway that resumes
	// the session uses the same one.
	Seq     uint64
	Message *Message
	// QoS is the one to deliver with: the lower of publish and subscription,
	// the highest over all subscriptions that match.
	QoS byte
	// Retain is the flag to deliver with.
	Retain bool
	// State is what the client said of the entry before; see [Inboxes].
	State EntryState
	// SubscriptionIDs of all matching subscriptions that have one.
	SubscriptionIDs []uint32
	// Share is the filter of the shared subscription ("$share/group/filter")
	// that chose this session; empty otherwise.
	Share string
}

// EntryState is how far the delivery of an inbox entry has come, as far as it
// is stored.
type EntryState byte

const (
	// Pending: not acknowledged. It may or may not have been sent.
	Pending EntryState = iota
	// Released: the client answered PUBREC; only PUBREL may be sent for it.
	Released
	// Done: acknowledged, or taken away; nothing is sent for it. It is still
	// there because an older entry is not done.
	Done
)

// PacketID is the packet identifier with which the inbox entry seq is sent.
// It is never 0 [MQTT-2.2.1-3]. At most [MaxInFlight] consecutive entries may
// be in flight, which makes it unique while in use.
func PacketID(seq uint64) uint16 { return uint16((seq-1)%MaxInFlight) + 1 }

// MaxInFlight is how far the newest sent entry of an inbox may be ahead of the
// oldest one that is not done.
const MaxInFlight = 65535
