package protocol

// Suback is SUBACK, the answer to SUBSCRIBE [MQTT 5 §3.9].
type Suback struct {
	PacketID uint16
	// Codes has one code for each filter of the SUBSCRIBE, in its order
	// [MQTT-3.9.3-1]. Before MQTT 5 every failure is written as 0x80.
	Codes  []ReasonCode
	Reason string
	User   []UserProperty
}

func (*Suback) Type() Type { return SUBACK }
