package protocol

// Auth is AUTH, a step of an enhanced authentication [MQTT 5 §3.15]. It does
// not exist before MQTT 5.
type Auth struct {
	// Code is Success, ContinueAuthentication or ReAuthenticate.
	Code ReasonCode
	// Method is empty only in the shortest form of the packet: Success, and
	// nothing else.
	Method string
	// Data refers to the body.
	Data    []byte
	HasData bool
	Reason  string
	User    []UserProperty
}

func (*Auth) Type() Type { return AUTH }
