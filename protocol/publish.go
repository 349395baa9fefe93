package protocol

// Publish is PUBLISH [MQTT 5 §3.3]. Topic, Payload and Properties refer to the
// body that was decoded and must be copied to outlive it.
type Publish struct {
	Dup    bool
	QoS    QoS
	Retain bool
	// PacketID is 0 with QoS 0 and never 0 otherwise.
	PacketID uint16
	// Topic has no wildcards. It is empty only together with a TopicAlias.
	Topic   []byte
	Payload []byte

	// TopicAlias is never 0 if present [MQTT-3.3.2-8].
	TopicAlias    uint16
	HasTopicAlias bool
	// MessageExpiry in seconds.
	MessageExpiry    uint32
	HasMessageExpiry bool
	// Properties are those that travel with the message: payload format
	// indicator, content type, response topic, correlation data and user
	// properties, validated, in their wire form and order, without a length in
	// front. They refer to the body where they are in one piece there, which
	// they nearly always are, and are a copy where they are not.
	Properties []byte
	// SubscriptionIDs go from server to client only [MQTT-3.3.4-6]; Decode
	// takes them in either direction.
	SubscriptionIDs []uint32
}

func (*Publish) Type() Type { return PUBLISH }
