package protocol

// Pingreq is PINGREQ, which keeps a connection alive [MQTT 5 §3.12].
type Pingreq struct{}

// Pingresp is PINGRESP, the answer to PINGREQ [MQTT 5 §3.13].
type Pingresp struct{}

func (*Pingreq) Type() Type { return PINGREQ }

func (*Pingreq) Decode(_ Header, body []byte, _ Version) error { return decodeEmpty(body) }

func (*Pingreq) Append(dst []byte, _ Version) ([]byte, error) {
	return append(dst, byte(PINGREQ)<<4, 0), nil
}

func (*Pingresp) Type() Type { return PINGRESP }

func (*Pingresp) Decode(_ Header, body []byte, _ Version) error { return decodeEmpty(body) }

func (*Pingresp) Append(dst []byte, _ Version) ([]byte, error) {
	return append(dst, byte(PINGRESP)<<4, 0), nil
}

// decodeEmpty parses the body of a packet that has none.
func decodeEmpty(body []byte) error {
	c := cursor{b: body}
	return c.end()
}
