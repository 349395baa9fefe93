package backend

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The errors of decoding. What causes one is dropped and counted: bytes come
// from other programs.
var (
	// ErrMalformed: the bytes are not what the encoder of this version makes.
	ErrMalformed = errors.New("malformed envelope")

	// ErrVersion: the bytes begin with a version that this program does not
	// know. A newer gateway has written them.
	ErrVersion = errors.New("unknown envelope version")
)

// The first byte of each encoding. A change that an older program would read
// wrongly takes a new number.
const (
	messageVersion = 1
	// messageAgain is messageVersion for a message with Again set: a program
	// that does not know of it must not deliver it.
	messageAgain  = 2
	entryVersion  = 1
	noticeVersion = 1
)

// MaxMessageOverhead is the most that [AppendMessage] adds to
// [Message.Size]: the publisher and the client of the identity, which are up
// to 65,535 bytes each, and 64 bytes for lengths and fields.
const MaxMessageOverhead = 2*65535 + 64

// MaxNoticeOverhead is the most that [AppendNotice] adds to the Size of the
// message of its entry, with up to 1,000 subscription identifiers: what the
// message has, the client, the shared filter, and the fields.
const MaxNoticeOverhead = MaxMessageOverhead + 2*65535 + 1000*5 + 64

// Flags of an encoded message. The two lowest bits are the QoS.
const (
	flagQoS        = 0x03
	flagRetain     = 0x04
	flagExpires    = 0x08
	flagPublisher  = 0x10
	flagIdentity   = 0x20
	flagOwn        = 0x40 // the identity's client is the publisher
	flagProperties = 0x80
)

// AppendMessage appends m to dst and returns it. What is appended says where it
// ends. A QoS above 2 and strings above 4 GiB can not be encoded and must not
// occur.
//
//	version, flags,
//	topic [publisher] [client of the identity]   lengths, then bytes
//	[expires] [incarnation, packet id, generation]
//	[properties] payload                          lengths, then bytes
func AppendMessage(dst []byte, m *Message) []byte {
	flags := m.QoS & flagQoS
	if m.Retain {
		flags |= flagRetain
	}
	if m.Expires != 0 {
		flags |= flagExpires
	}
	if m.Publisher != "" {
		flags |= flagPublisher
	}
	if len(m.Properties) > 0 {
		flags |= flagProperties
	}
	if m.ID != (PublishID{}) {
		flags |= flagIdentity
		if m.ID.Client == m.Publisher {
			flags |= flagOwn
		}
	}
	v := byte(messageVersion)
	if m.Again {
		v = messageAgain
	}
	dst = append(dst, v, flags)
	// The strings stand together, so that a reader makes one of all.
	dst = binary.AppendUvarint(dst, uint64(len(m.Topic)))
	if flags&flagPublisher != 0 {
		dst = binary.AppendUvarint(dst, uint64(len(m.Publisher)))
	}
	if flags&(flagIdentity|flagOwn) == flagIdentity {
		dst = binary.AppendUvarint(dst, uint64(len(m.ID.Client)))
	}
	dst = append(dst, m.Topic...)
	dst = append(dst, m.Publisher...)
	if flags&(flagIdentity|flagOwn) == flagIdentity {
		dst = append(dst, m.ID.Client...)
	}
	if flags&flagExpires != 0 {
		dst = binary.AppendVarint(dst, m.Expires)
	}
	if flags&flagIdentity != 0 {
		dst = binary.AppendUvarint(dst, m.ID.Incarnation)
		dst = binary.AppendUvarint(dst, uint64(m.ID.PacketID))
		dst = binary.AppendUvarint(dst, uint64(m.ID.Generation))
	}
	if flags&flagProperties != 0 {
		dst = appendBytes(dst, m.Properties)
	}
	return appendBytes(dst, m.Payload)
}

// DecodeMessage reads what AppendMessage has written and returns what follows
// it. Payload and Properties of the message are parts of b, which must not be
// changed any more. The error is [ErrMalformed] or [ErrVersion].
func DecodeMessage(b []byte) (m *Message, rest []byte, err error) {
	m = &Message{}
	r := decoder{b: b}
	r.message(m)
	if r.err != nil {
		return nil, nil, fmt.Errorf("message: %w", r.err)
	}
	return m, r.b, nil
}

// Flags of an encoded entry. Two bits above them are the state.
const (
	entryRetain     = 0x04
	entryMessage    = 0x08
	entryShare      = 0x10
	entryIDs        = 0x20
	entryStateShift = 6
)

// AppendEntry appends e, its sequence included, to dst and returns it.
//
//	version, flags, sequence [identifiers] [share] [message]
func AppendEntry(dst []byte, e *Entry) []byte {
	flags := e.QoS&flagQoS | byte(e.State)<<entryStateShift
	if e.Retain {
		flags |= entryRetain
	}
	if e.Message != nil {
		flags |= entryMessage
	}
	if e.Share != "" {
		flags |= entryShare
	}
	if len(e.SubscriptionIDs) > 0 {
		flags |= entryIDs
	}
	dst = append(dst, entryVersion, flags)
	dst = binary.AppendUvarint(dst, e.Seq)
	if flags&entryIDs != 0 {
		dst = binary.AppendUvarint(dst, uint64(len(e.SubscriptionIDs)))
		for _, id := range e.SubscriptionIDs {
			dst = binary.AppendUvarint(dst, uint64(id))
		}
	}
	if flags&entryShare != 0 {
		dst = appendString(dst, e.Share)
	}
	if flags&entryMessage != 0 {
		dst = AppendMessage(dst, e.Message)
	}
	return dst
}

// DecodeEntry reads what AppendEntry has written, as DecodeMessage does.
func DecodeEntry(b []byte) (e Entry, rest []byte, err error) {
	r := decoder{b: b}
	r.entry(&e)
	if r.err != nil {
		return Entry{}, nil, fmt.Errorf("entry: %w", r.err)
	}
	return e, r.b, nil
}

// AppendNotice appends n to dst and returns it.
//
//	version, kind, code, epoch, client, entry
func AppendNotice(dst []byte, n *Notice) []byte {
	dst = append(dst, noticeVersion, byte(n.Kind), n.Code)
	dst = binary.AppendUvarint(dst, n.Epoch)
	dst = appendString(dst, string(n.Client))
	return AppendEntry(dst, &n.Entry)
}

// DecodeNotice reads what AppendNotice has written, as DecodeMessage does. A
// kind that is not known is no error; whoever acts on notices skips it.
func DecodeNotice(b []byte) (n Notice, rest []byte, err error) {
	r := decoder{b: b}
	r.version(noticeVersion)
	n.Kind = NoticeKind(r.byte())
	n.Code = r.byte()
	n.Epoch = r.uvarint()
	n.Client = ClientID(r.bytes(r.length()))
	r.entry(&n.Entry)
	if r.err != nil {
		return Notice{}, nil, fmt.Errorf("notice: %w", r.err)
	}
	return n, r.b, nil
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}
