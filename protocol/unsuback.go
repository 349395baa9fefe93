package protocol

// Unsuback is UNSUBACK, the answer to UNSUBSCRIBE [MQTT 5 §3.11].
type Unsuback struct {
	PacketID uint16
	// Codes has one code for each filter of the UNSUBSCRIBE, in its order
	// [MQTT-3.11.3-1]. They are not on the wire before MQTT 5.
	Codes  []ReasonCode
	Reason string
	User   []UserProperty
}

func (*Unsuback) Type() Type { return UNSUBACK }
