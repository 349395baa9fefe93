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

// The bits of Header.Flags of PUBLISH [MQTT 5 §3.3.1].
const (
	flagRetain = 1 << 0
	flagDup    = 1 << 3
)

// reservedFlags is what the flags of PUBREL, SUBSCRIBE and UNSUBSCRIBE must be;
// those of all other types but PUBLISH must be 0 [MQTT-2.1.3-1].
const reservedFlags = 2

// flagsAllowed has a bit for each value that the flags of a type may have. For
// PUBLISH these are all but QoS 3 [MQTT-3.3.1-4] and DUP with QoS 0
// [MQTT-3.3.1-2].
var flagsAllowed = [16]uint16{
	CONNECT: 1, CONNACK: 1, PUBACK: 1, PUBREC: 1, PUBCOMP: 1, SUBACK: 1, UNSUBACK: 1,
	PINGREQ: 1, PINGRESP: 1, DISCONNECT: 1, AUTH: 1,
	PUBREL: 1 << reservedFlags, SUBSCRIBE: 1 << reservedFlags, UNSUBSCRIBE: 1 << reservedFlags,
	PUBLISH: 0x3C3F,
}

// ParseHeader reads the fixed header at the start of b. size is its length in
// bytes; size 0 without an error means that b ends inside it, which is never so
// with five bytes. v is 0 for the first packet of a connection.
//
// Faults are found as early as the bytes allow: a wrong type or wrong flags with
// the first byte. A packet of more than limit bytes, header included, is
// PacketTooLarge; limit 0 is none. The error is an [*Error].
func ParseHeader(b []byte, v Version, limit uint32) (h Header, size int, err error) {
	if len(b) == 0 {
		return h, 0, nil
	}
	t, flags := Type(b[0]>>4), b[0]&0xF
	if flagsAllowed[t]>>flags&1 == 0 || t == AUTH && (v == V31 || v == V311) {
		if err := firstByteFault(t, flags, v); err != nil {
			return h, 0, err
		}
	}
	n, used := uint32(0), 0
	if len(b) >= 2 && b[1] < 0x80 {
		n, used = uint32(b[1]), 1
	} else if n, used = uvarint(b[1:]); used == 0 {
		return h, 0, nil
	} else if used < 0 {
		return h, 0, malformed("remaining length of more than four bytes")
	}
	padded := used > 1 && b[used] == 0
	if padded && v == V5 { // [MQTT-1.5.5-1]
		return h, 0, malformed("remaining length not in its shortest form")
	}
	size = 1 + used
	if limit != 0 && uint64(n)+uint64(size) > uint64(limit) {
		return h, 0, &Error{PacketTooLarge, "packet longer than allowed"}
	}
	return Header{Type: t, Flags: flags, Length: int(n), padded: padded}, size, nil
}

// firstByteFault says what is wrong with a first byte that is not of the usual
// ones, if anything is.
func firstByteFault(t Type, flags byte, v Version) error {
	switch t {
	case 0: // [MQTT 5 §2.1.2]
		return malformed("reserved packet type")
	case AUTH:
		if v == V31 || v == V311 {
			return malformed("reserved packet type")
		}
	case PUBLISH:
		if flags>>1&3 == 3 {
			return malformed("QoS 3") // [MQTT-3.3.1-4]
		}
		return violation("DUP with QoS 0") // [MQTT-3.3.1-2]
	case PUBREL, SUBSCRIBE, UNSUBSCRIBE:
		// MQTT 3.1 §2.1 lets these be sent again with DUP.
		if v == V31 && flags == reservedFlags|flagDup {
			return nil
		}
	}
	return malformed("reserved flags") // [MQTT-2.1.3-1]
}
