package protocol

// Pingreq is PINGREQ, which keeps a connection alive [MQTT 5 §3.12].
type Pingreq struct{}

// Pingresp is PINGRESP, the answer to PINGREQ [MQTT 5 §3.13].
type Pingresp struct{}

func (*Pingreq) Type() Type { return PINGREQ }

func (*Pingresp) Type() Type { return PINGRESP }
