package backend

import (
	"encoding/binary"
	"math"
)

// decoder reads from b. After the first error all that it reads is zero.
// Lengths are checked against what is left before anything is allocated.
type decoder struct {
	b   []byte
	err error
}

func (r *decoder) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

func (r *decoder) byte() byte {
	if len(r.b) == 0 {
		r.fail(ErrMalformed)
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *decoder) version(want byte) {
	if r.byte() != want {
		r.fail(ErrVersion)
	}
}

func (r *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail(ErrMalformed)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *decoder) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail(ErrMalformed)
		return 0
	}
	r.b = r.b[n:]
	return v
}

// atMost reads a number that is no larger than limit.
func (r *decoder) atMost(limit uint64) uint64 {
	v := r.uvarint()
	if v > limit {
		r.fail(ErrMalformed)
		return 0
	}
	return v
}

// length reads the length of something that is still to come.
func (r *decoder) length() int {
	v := r.uvarint()
	if v > uint64(len(r.b)) {
		r.fail(ErrMalformed)
		return 0
	}
	return int(v)
}

// bytes takes the next n bytes; nil for none.
func (r *decoder) bytes(n int) []byte {
	switch {
	case n > len(r.b):
		r.fail(ErrMalformed)
		return nil
	case n == 0:
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *decoder) message(m *Message) {
	switch r.byte() {
	case messageVersion:
	case messageAgain:
		m.Again = true
	default:
		r.fail(ErrVersion)
	}
	flags := r.byte()
	m.QoS = flags & flagQoS
	m.Retain = flags&flagRetain != 0
	own, identity := flags&flagOwn != 0, flags&flagIdentity != 0
	if m.QoS > 2 || own && !identity {
		r.fail(ErrMalformed)
		return
	}
	var publisher, client int
	topic := r.length()
	if flags&flagPublisher != 0 {
		publisher = r.length()
	}
	if identity && !own {
		client = r.length()
	}
	// One string for all three: they live and die together.
	text := string(r.bytes(topic + publisher + client))
	if r.err != nil {
		return
	}
	m.Topic = text[:topic]
	m.Publisher = ClientID(text[topic : topic+publisher])
	if flags&flagExpires != 0 {
		m.Expires = r.varint()
	}
	if identity {
		m.ID.Client = ClientID(text[topic+publisher:])
		if own {
			m.ID.Client = m.Publisher
		}
		m.ID.Incarnation = r.uvarint()
		m.ID.PacketID = uint16(r.atMost(math.MaxUint16))
		m.ID.Generation = uint32(r.atMost(math.MaxUint32))
	}
	if flags&flagProperties != 0 {
		m.Properties = r.bytes(r.length())
	}
	m.Payload = r.bytes(r.length())
}

func (r *decoder) entry(e *Entry) {
	r.version(entryVersion)
	flags := r.byte()
	e.QoS = flags & flagQoS
	e.Retain = flags&entryRetain != 0
	e.State = EntryState(flags >> entryStateShift)
	if e.QoS > 2 || e.State > Done {
		r.fail(ErrMalformed)
		return
	}
	e.Seq = r.uvarint()
	if flags&entryIDs != 0 {
		if n := r.length(); n > 0 { // each has at least one byte
			e.SubscriptionIDs = make([]uint32, n)
		}
		for i := range e.SubscriptionIDs {
			e.SubscriptionIDs[i] = uint32(r.atMost(math.MaxUint32))
		}
	}
	if flags&entryShare != 0 {
		e.Share = string(r.bytes(r.length()))
	}
	if flags&entryMessage != 0 {
		e.Message = &Message{}
		r.message(e.Message)
	}
}
