package protocol

// Ack is a step in the acknowledgement of a PUBLISH: PUBACK, PUBREC, PUBREL or
// PUBCOMP [MQTT 5 §3.4 to §3.7]. The four have one form.
type Ack struct {
	// Kind is one of the four types.
	Kind Type
	// PacketID is never 0.
	PacketID uint16
	// Code and what follows are not on the wire before MQTT 5. No code on
	// the wire means Success.
	Code   ReasonCode
	Reason string
	User   []UserProperty
}

func (a *Ack) Type() Type { return a.Kind }
