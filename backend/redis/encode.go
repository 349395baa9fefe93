package redis

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-mqtt/sluice/backend"
)

// Entries in lists have a head that scripts read; see lua/lib_inbox.lua.
const (
	entryHead  = 10
	sharedMark = 4
	// elementWords is room for what an entry has besides texts.
	elementWords = 64

	stateByte   = 'p'
	releaseByte = 'r'
)

// appendElement appends e as it is kept in a list.
func appendElement(dst []byte, e *backend.Entry) []byte {
	mark := e.QoS
	if e.Share != "" {
		mark |= sharedMark
	}
	m := e.Message
	dst = slices.Grow(dst, entryHead+elementWords+len(m.Topic)+len(m.Payload)+len(m.Properties)+len(m.Publisher)+len(e.Share))
	dst = append(dst, stateByte, mark)
	dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(float64(e.Message.Expires)))
	return backend.AppendEntry(dst, e)
}

var errElement = errors.New("an entry in the store is not one")

// decodeElement reads an element with the sequence seq.
func decodeElement(element string, seq uint64) (backend.Entry, error) {
	if len(element) < entryHead {
		return backend.Entry{}, fmt.Errorf("redis: entry %d: %w", seq, errElement)
	}
	e, _, err := backend.DecodeEntry([]byte(element[entryHead:]))
	if err == nil && e.Message == nil {
		err = errElement
	}
	if err != nil {
		return backend.Entry{}, fmt.Errorf("redis: entry %d: %w", seq, err)
	}
	e.Seq, e.State = seq, backend.Pending
	if element[0] == releaseByte {
		e.State = backend.Released
	}
	return e, nil
}

// Flags of an encoded subscription; its QoS is the two lowest bits, its retain
// handling the two highest.
const (
	subNoLocal           = 0x04
	subRetainAsPublished = 0x08
	subHandlingShift     = 6
)

// encodeSubscription writes a subscription without its filter, in up to 6
// bytes: flags and identifier.
func encodeSubscription(sub backend.Subscription) string {
	flags := sub.QoS | sub.RetainHandling<<subHandlingShift
	if sub.NoLocal {
		flags |= subNoLocal
	}
	if sub.RetainAsPublished {
		flags |= subRetainAsPublished
	}
	return string(binary.AppendUvarint([]byte{flags}, uint64(sub.ID)))
}

func decodeSubscription(filter, b string) (backend.Subscription, error) {
	sub := backend.Subscription{Filter: filter}
	if len(b) < 2 {
		return sub, backend.ErrMalformed
	}
	flags := b[0]
	id, n := binary.Uvarint([]byte(b[1:]))
	if n <= 0 || id > math.MaxUint32 || flags&3 > 2 {
		return sub, backend.ErrMalformed
	}
	sub.QoS, sub.RetainHandling = flags&3, flags>>subHandlingShift
	sub.NoLocal, sub.RetainAsPublished = flags&subNoLocal != 0, flags&subRetainAsPublished != 0
	sub.ID = uint32(id)
	return sub, nil
}

func decodeSubscriptions(pairs reply) ([]backend.Subscription, error) {
	var subs []backend.Subscription
	for i := 0; i+1 < len(pairs); i += 2 {
		sub, err := decodeSubscription(pairs.str(i), pairs.str(i+1))
		if err != nil {
			return nil, fmt.Errorf("redis: a subscription: %w", err)
		}
		subs = append(subs, sub)
	}
	return subs, nil
}

// A replay is its subscription, behind the length of that, and the mark.
func encodeReplay(sub backend.Subscription) string {
	b := encodeSubscription(sub)
	return string(rune(len(b))) + b
}

func decodeReplays(pairs reply) ([]backend.Replay, error) {
	var replays []backend.Replay
	for i := 0; i+1 < len(pairs); i += 2 {
		b := pairs.str(i + 1)
		if len(b) == 0 || len(b) <= int(b[0]) {
			return nil, fmt.Errorf("redis: a replay: %w", backend.ErrMalformed)
		}
		end := 1 + int(b[0])
		sub, err := decodeSubscription(pairs.str(i), b[1:end])
		if err != nil {
			return nil, fmt.Errorf("redis: a replay: %w", err)
		}
		replays = append(replays, backend.Replay{Subscription: sub, After: b[end:]})
	}
	return replays, nil
}

// header is the first element of an inbox; see lua/lib_inbox.lua.
type header struct {
	base  uint64
	epoch uint64
	node  backend.NodeID // empty: nobody is connected
}

func decodeHeader(text string) (h header, err error) {
	parts := strings.SplitN(text, " ", 8)
	if len(parts) != 8 {
		return h, fmt.Errorf("redis: header of an inbox: %w", backend.ErrMalformed)
	}
	var errBase, errEpoch error
	h.base, errBase = strconv.ParseUint(parts[0], 10, 64)
	h.epoch, errEpoch = strconv.ParseUint(parts[1], 10, 64)
	h.node = backend.NodeID(parts[7])
	if err := errors.Join(errBase, errEpoch); err != nil {
		return h, fmt.Errorf("redis: header of an inbox: %w", err)
	}
	return h, nil
}
