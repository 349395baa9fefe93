package protocol

// Header is the fixed header in front of every packet [MQTT 5 §2.1].
type Header struct {
	Type Type
	// Flags are the low four bits of the first byte.
	Flags byte
	// Length is how many bytes of body follow the header.
	Length int
	// padded: the length was not encoded in its shortest form. MQTT 5
	// forbids that, but the version of a CONNECT is known only later.
	padded bool
}
