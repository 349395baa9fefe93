package protocol

// Connack is CONNACK, the answer to CONNECT [MQTT 5 §3.2].
//
// A nil pointer, an empty string and nil AuthData are properties that are not
// there; what their absence means is in the specification.
type Connack struct {
	// SessionPresent is not on the wire in MQTT 3.1, and never set with a
	// code other than Success [MQTT-3.2.2-6].
	SessionPresent bool
	// Code is written as [ReasonCode.ConnackV3] before MQTT 5. Decode leaves
	// the return code, 0 to 5, as it came.
	Code ReasonCode

	SessionExpiry           *uint32
	ReceiveMaximum          *uint16
	MaximumQoS              *byte
	RetainAvailable         *bool
	MaximumPacketSize       *uint32
	AssignedClientID        string
	TopicAliasMaximum       *uint16
	Reason                  string
	User                    []UserProperty
	WildcardAvailable       *bool
	SubscriptionIDAvailable *bool
	SharedAvailable         *bool
	ServerKeepAlive         *uint16
	ResponseInfo            string
	ServerReference         string
	AuthMethod              string
	AuthData                []byte
}

func (*Connack) Type() Type { return CONNACK }
