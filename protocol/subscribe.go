package protocol

// Subscribe is SUBSCRIBE [MQTT 5 §3.8]. Decode checks that filters are
// well-formed strings, not that they are valid filters: the answer to an
// invalid one is a reason code of its own, for which there is [ValidFilter].
type Subscribe struct {
	// PacketID is never 0.
	PacketID uint16
	// ID is the subscription identifier; 0 is none.
	ID      uint32
	User    []UserProperty
	Filters []SubscribeFilter
}

// SubscribeFilter is one subscription that is asked for.
type SubscribeFilter struct {
	Filter string
	// QoS is the highest to deliver with.
	QoS QoS
	// The options of MQTT 5: NoLocal keeps the client's own messages from
	// it, RetainAsPublished keeps the retain flag of messages as it is,
	// RetainHandling says whether to send retained messages: 0 always, 1 if
	// the subscription is new, 2 never.
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte
}

func (*Subscribe) Type() Type { return SUBSCRIBE }
