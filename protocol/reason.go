package protocol

import "fmt"

// ReasonCode is the outcome of an operation [MQTT 5 §2.4]. 0x80 and above are
// failures.
type ReasonCode byte

// The reason codes. Success is also 'granted QoS 0' in SUBACK and 'normal
// disconnection' in DISCONNECT.
const (
	Success                             ReasonCode = 0x00
	GrantedQoS1                         ReasonCode = 0x01
	GrantedQoS2                         ReasonCode = 0x02
	DisconnectWithWill                  ReasonCode = 0x04
	NoMatchingSubscribers               ReasonCode = 0x10
	NoSubscriptionExisted               ReasonCode = 0x11
	ContinueAuthentication              ReasonCode = 0x18
	ReAuthenticate                      ReasonCode = 0x19
	UnspecifiedError                    ReasonCode = 0x80
	MalformedPacket                     ReasonCode = 0x81
	ProtocolError                       ReasonCode = 0x82
	ImplementationSpecificError         ReasonCode = 0x83
	UnsupportedProtocolVersion          ReasonCode = 0x84
	ClientIdentifierNotValid            ReasonCode = 0x85
	BadUserNameOrPassword               ReasonCode = 0x86
	NotAuthorized                       ReasonCode = 0x87
	ServerUnavailable                   ReasonCode = 0x88
	ServerBusy                          ReasonCode = 0x89
	Banned                              ReasonCode = 0x8A
	ServerShuttingDown                  ReasonCode = 0x8B
	BadAuthenticationMethod             ReasonCode = 0x8C
	KeepAliveTimeout                    ReasonCode = 0x8D
	SessionTakenOver                    ReasonCode = 0x8E
	TopicFilterInvalid                  ReasonCode = 0x8F
	TopicNameInvalid                    ReasonCode = 0x90
	PacketIdentifierInUse               ReasonCode = 0x91
	PacketIdentifierNotFound            ReasonCode = 0x92
	ReceiveMaximumExceeded              ReasonCode = 0x93
	TopicAliasInvalid                   ReasonCode = 0x94
	PacketTooLarge                      ReasonCode = 0x95
	MessageRateTooHigh                  ReasonCode = 0x96
	QuotaExceeded                       ReasonCode = 0x97
	AdministrativeAction                ReasonCode = 0x98
	PayloadFormatInvalid                ReasonCode = 0x99
	RetainNotSupported                  ReasonCode = 0x9A
	QoSNotSupported                     ReasonCode = 0x9B
	UseAnotherServer                    ReasonCode = 0x9C
	ServerMoved                         ReasonCode = 0x9D
	SharedSubscriptionsNotSupported     ReasonCode = 0x9E
	ConnectionRateExceeded              ReasonCode = 0x9F
	MaximumConnectTime                  ReasonCode = 0xA0
	SubscriptionIdentifiersNotSupported ReasonCode = 0xA1
	WildcardSubscriptionsNotSupported   ReasonCode = 0xA2
)

type reason struct {
	name string
	// in are the packets that may carry the code; client are those in which
	// a client may send it.
	in, client packetSet
}

// packetSet holds packet types, one bit each.
type packetSet uint16

func (s packetSet) has(t Type) bool { return t < 16 && s>>t&1 != 0 }

const (
	inConnack    packetSet = 1 << CONNACK
	inPuback     packetSet = 1 << PUBACK
	inPubrec     packetSet = 1 << PUBREC
	inPubrel     packetSet = 1 << PUBREL
	inPubcomp    packetSet = 1 << PUBCOMP
	inSuback     packetSet = 1 << SUBACK
	inUnsuback   packetSet = 1 << UNSUBACK
	inDisconnect packetSet = 1 << DISCONNECT
	inAuth       packetSet = 1 << AUTH
	inPubs                 = inPuback | inPubrec
	inSubs                 = inSuback | inUnsuback
)

// reasons is table 2-6 of MQTT 5 §2.4, with the column 'sent by' of the tables
// in §3.14.2.1 and §3.15.2.1.
var reasons = [256]reason{
	Success:                             {"Success", inConnack | inPubs | inPubrel | inPubcomp | inSubs | inDisconnect | inAuth, inPubs | inPubrel | inPubcomp | inDisconnect},
	GrantedQoS1:                         {"Granted QoS 1", inSuback, 0},
	GrantedQoS2:                         {"Granted QoS 2", inSuback, 0},
	DisconnectWithWill:                  {"Disconnect with Will Message", inDisconnect, inDisconnect},
	NoMatchingSubscribers:               {"No matching subscribers", inPubs, 0},
	NoSubscriptionExisted:               {"No subscription existed", inUnsuback, 0},
	ContinueAuthentication:              {"Continue authentication", inAuth, inAuth},
	ReAuthenticate:                      {"Re-authenticate", inAuth, inAuth},
	UnspecifiedError:                    {"Unspecified error", inConnack | inPubs | inSubs | inDisconnect, inPubs | inDisconnect},
	MalformedPacket:                     {"Malformed Packet", inConnack | inDisconnect, inDisconnect},
	ProtocolError:                       {"Protocol Error", inConnack | inDisconnect, inDisconnect},
	ImplementationSpecificError:         {"Implementation specific error", inConnack | inPubs | inSubs | inDisconnect, inPubs | inDisconnect},
	UnsupportedProtocolVersion:          {"Unsupported Protocol Version", inConnack, 0},
	ClientIdentifierNotValid:            {"Client Identifier not valid", inConnack, 0},
	BadUserNameOrPassword:               {"Bad User Name or Password", inConnack, 0},
	NotAuthorized:                       {"Not authorized", inConnack | inPubs | inSubs | inDisconnect, inPubs},
	ServerUnavailable:                   {"Server unavailable", inConnack, 0},
	ServerBusy:                          {"Server busy", inConnack | inDisconnect, 0},
	Banned:                              {"Banned", inConnack, 0},
	ServerShuttingDown:                  {"Server shutting down", inDisconnect, 0},
	BadAuthenticationMethod:             {"Bad authentication method", inConnack | inDisconnect, 0},
	KeepAliveTimeout:                    {"Keep Alive timeout", inDisconnect, 0},
	SessionTakenOver:                    {"Session taken over", inDisconnect, 0},
	TopicFilterInvalid:                  {"Topic Filter invalid", inSubs | inDisconnect, 0},
	TopicNameInvalid:                    {"Topic Name invalid", inConnack | inPubs | inDisconnect, inPubs | inDisconnect},
	PacketIdentifierInUse:               {"Packet Identifier in use", inPubs | inSubs, inPubs},
	PacketIdentifierNotFound:            {"Packet Identifier not found", inPubrel | inPubcomp, inPubrel | inPubcomp},
	ReceiveMaximumExceeded:              {"Receive Maximum exceeded", inDisconnect, inDisconnect},
	TopicAliasInvalid:                   {"Topic Alias invalid", inDisconnect, inDisconnect},
	PacketTooLarge:                      {"Packet too large", inConnack | inDisconnect, inDisconnect},
	MessageRateTooHigh:                  {"Message rate too high", inDisconnect, inDisconnect},
	QuotaExceeded:                       {"Quota exceeded", inConnack | inPubs | inSuback | inDisconnect, inPubs | inDisconnect},
	AdministrativeAction:                {"Administrative action", inDisconnect, inDisconnect},
	PayloadFormatInvalid:                {"Payload format invalid", inConnack | inPubs | inDisconnect, inPubs | inDisconnect},
	RetainNotSupported:                  {"Retain not supported", inConnack | inDisconnect, 0},
	QoSNotSupported:                     {"QoS not supported", inConnack | inDisconnect, 0},
	UseAnotherServer:                    {"Use another server", inConnack | inDisconnect, 0},
	ServerMoved:                         {"Server moved", inConnack | inDisconnect, 0},
	SharedSubscriptionsNotSupported:     {"Shared Subscriptions not supported", inSuback | inDisconnect, 0},
	ConnectionRateExceeded:              {"Connection rate exceeded", inConnack | inDisconnect, 0},
	MaximumConnectTime:                  {"Maximum connect time", inDisconnect, 0},
	SubscriptionIdentifiersNotSupported: {"Subscription Identifiers not supported", inSuback | inDisconnect, 0},
	WildcardSubscriptionsNotSupported:   {"Wildcard Subscriptions not supported", inSuback | inDisconnect, 0},
}

// String returns the name in the specification, or the number of a code that
// the specification does not have.
func (c ReasonCode) String() string {
	if n := reasons[c].name; n != "" {
		return n
	}
	return fmt.Sprintf("reason code 0x%02X", byte(c))
}

// ValidIn reports whether packets of type t may carry the code, in whatever
// direction they go.
func (c ReasonCode) ValidIn(t Type) bool { return reasons[c].in.has(t) }

// FromClient reports whether a client may send the code in a packet of type t:
// SessionTakenOver, for example, is valid in DISCONNECT, but only a server can
// mean it [MQTT 5 §3.14.2.1].
func (c ReasonCode) FromClient(t Type) bool { return reasons[c].client.has(t) }

// ConnackV3 returns the CONNACK return code of MQTT 3.1 and 3.1.1 that comes
// nearest [MQTT 3.1.1 §3.2.2.3]: 1 for the protocol version, 2 for the client
// identifier, 4 for credentials, 5 for what this client may not do, and 3 for
// what may well succeed later or elsewhere. Codes below 0x80 are returned as
// they are, so that a return code which was received can be sent on.
func (c ReasonCode) ConnackV3() byte {
	switch c {
	case UnsupportedProtocolVersion:
		return 1
	case ClientIdentifierNotValid:
		return 2
	case BadUserNameOrPassword, BadAuthenticationMethod:
		return 4
	case NotAuthorized, Banned, TopicNameInvalid, PacketTooLarge, PayloadFormatInvalid,
		RetainNotSupported, QoSNotSupported, MalformedPacket, ProtocolError:
		return 5
	}
	if c < UnspecifiedError {
		return byte(c)
	}
	return 3
}
