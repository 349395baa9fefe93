package protocol

// Disconnect is DISCONNECT [MQTT 5 §3.14]. Before MQTT 5 only a client sends
// it, and all fields are empty.
type Disconnect struct {
	// Code is Success for a normal end.
	Code ReasonCode
	// SessionExpiry in seconds replaces the one of CONNECT; only a client
	// sends it [MQTT-3.14.2-2].
	SessionExpiry    uint32
	HasSessionExpiry bool
	Reason           string
	// ServerReference names another server; only a server sends it.
	ServerReference string
	User            []UserProperty
}

func (*Disconnect) Type() Type { return DISCONNECT }
