// Package protocol puts MQTT 3.1, 3.1.1 and 5.0 control packets on the wire and
// takes them off it. It knows bytes, not gateways, and imports nothing but the
// standard library.
//
// [ParseHeader] frames a stream and enforces the packet limit before a body is
// held in memory ([Reader] does so for programs that can block); the Decode
// method of each packet type parses the body. Decode
// refuses everything that the bytes of one packet alone prove wrong: truncated
// fields, bytes left over, reserved bits, strings that are not UTF-8, properties
// that are unknown, repeated or in the wrong packet, values out of range. A
// refusal is an [*Error] with the reason code that answers it.
//
// What depends on anything but the packet is left to the caller: whether this
// packet is due now and from this side, whether a packet identifier or topic
// alias is in use, whether a client identifier, topic or filter is acceptable
// here, and the form of topic filters, which MQTT 5 answers one by one
// ([ValidFilter]).
//
// Append writes a packet behind the bytes it is given. It never truncates: what
// has no form on the wire is an error that wraps [ErrEncode], and no byte of it
// is appended. Fields without a place in the version that is written (in
// versions before 5 all properties, and the reason codes of most packets) are
// left out; that is how a message crosses from a newer client to an older one.
//
// The functions keep no state. Packets may be decoded and appended from many
// goroutines at once, each packet by one at a time.
package protocol
