package protocol

// Connect is CONNECT, the first packet of a connection [MQTT 5 §3.1].
type Connect struct {
	// Version that the client speaks. After a failed Decode it is still set
	// if the client's protocol name was known, and says how to answer:
	//
	//   - V31, V311, V5: the error's reason code fits a CONNACK of that version.
	//   - UnsupportedProtocolVersion: Version holds the level that was asked
	//     for, and a CONNACK says so [MQTT-3.1.2-2].
	//   - 0 with any other code: this is no MQTT; close without a word
	//     [MQTT-3.1.2-1].
	Version Version
	// CleanStart is Clean Session before MQTT 5.
	CleanStart bool
	// KeepAlive in seconds; 0 is off.
	KeepAlive uint16
	// ClientID may be empty; what that means is the server's to say.
	ClientID string

	// Username and Password are set only together with their Has fields. The
	// password refers to the body.
	Username    string
	HasUsername bool
	Password    []byte
	HasPassword bool

	// Will is nil if there is none.
	Will *Will

	// The rest is MQTT 5 only; the comments give the value without the property.

	// SessionExpiry in seconds; 0, the session ends with its connection.
	SessionExpiry    uint32
	HasSessionExpiry bool
	// ReceiveMaximum is how many unacknowledged QoS > 0 publishes the client
	// takes at once; 65,535. Append writes 0 as absent.
	ReceiveMaximum uint16
	// MaximumPacketSize that the client takes, in bytes; 0, no limit.
	MaximumPacketSize uint32
	// TopicAliasMaximum is the highest alias the client takes; 0, none.
	TopicAliasMaximum uint16
	// RequestResponseInfo asks for response information in CONNACK; false.
	RequestResponseInfo bool
	// RequestProblemInfo allows reason strings and user properties in
	// packets other than PUBLISH, CONNACK and DISCONNECT; true.
	RequestProblemInfo bool
	// AuthMethod names the enhanced authentication; absent.
	AuthMethod    string
	HasAuthMethod bool
	// AuthData belongs to AuthMethod and refers to the body; absent.
	AuthData    []byte
	HasAuthData bool
	User        []UserProperty
}

// Will is the message to be published when the connection ends badly.
type Will struct {
	QoS    QoS
	Retain bool
	Topic  string
	// Payload refers to the body.
	Payload []byte
	// Delay before publication, in seconds.
	Delay uint32
	// MessageExpiry in seconds, counted from publication.
	MessageExpiry    uint32
	HasMessageExpiry bool
	// Properties as in [Publish].
	Properties []byte
}

func (*Connect) Type() Type { return CONNECT }
