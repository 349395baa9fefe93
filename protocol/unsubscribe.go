package protocol

// Unsubscribe is UNSUBSCRIBE [MQTT 5 §3.10]. As with [Subscribe], the form of
// the filters is for the caller to check.
type Unsubscribe struct {
	// PacketID is never 0.
	PacketID uint16
	Filters  []string
	User     []UserProperty
}

func (*Unsubscribe) Type() Type { return UNSUBSCRIBE }
