package nats

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"

	"github.com/sluice-mqtt/sluice/backend"
)

// A frame is the payload of one NATS message:
//
//	magic, version, kind, cluster (4), sender (8), sequence, body
//
// The sequence grows with every frame of a sender, whatever its kind, and
// names it: overlapping interests bring a frame more than once.

type kind byte

const (
	// kindMessages: a byte with their number, and messages on one subject,
	// oldest first.
	kindMessages kind = iota + 1
	// kindNotice: a notice.
	kindNotice
	// kindProbe: a number that is to come back.
	kindProbe
	// kindEcho: the number of a probe and the post that sent it back.
	kindEcho
	// kindLoss: the sender lost its connection so many milliseconds ago, and
	// perhaps messages with it.
	kindLoss
)

const (
	magic        = 0xE5
	frameVersion = 1
	fixedHeader  = 1 + 1 + 1 + 4 + 8
	maxHeader    = fixedHeader + binary.MaxVarintLen64
)

// errForeign: a frame of another cluster of gateways.
var errForeign = errors.New("envelope of another cluster")

// clusterID is the number for a name of [Options.Cluster].
func clusterID(name string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return h.Sum32()
}

// header is what every frame begins with.
type header struct {
	kind     kind
	cluster  uint32
	sender   uint64
	sequence uint64
}

func (h header) append(dst []byte) []byte {
	dst = append(dst, magic, frameVersion, byte(h.kind))
	dst = binary.BigEndian.AppendUint32(dst, h.cluster)
	dst = binary.BigEndian.AppendUint64(dst, h.sender)
	return binary.AppendUvarint(dst, h.sequence)
}

// readHeader reads the header of a frame of the given cluster. The error is
// one of [backend.ErrMalformed], [backend.ErrVersion] and errForeign.
func readHeader(b []byte, cluster uint32) (h header, body []byte, err error) {
	if len(b) < 2 || b[0] != magic {
		return h, nil, backend.ErrMalformed
	}
	if b[1] != frameVersion {
		return h, nil, fmt.Errorf("frame: %w", backend.ErrVersion)
	}
	if len(b) < fixedHeader {
		return h, nil, backend.ErrMalformed
	}
	h.kind = kind(b[2])
	h.cluster = binary.BigEndian.Uint32(b[3:])
	h.sender = binary.BigEndian.Uint64(b[7:])
	if h.cluster != cluster {
		return h, nil, errForeign
	}
	h.sequence, body, err = readNumber(b[fixedHeader:])
	return h, body, err
}

// readNumber takes a number off the front of b.
func readNumber(b []byte) (v uint64, rest []byte, err error) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, backend.ErrMalformed
	}
	return v, b[n:], nil
}

// window remembers which of the newest 64 sequences of a sender were seen.
// Repeats of a frame come right after it, or nearly so.
type window struct {
	newest uint64
	seen   uint64 // bit i: newest-i
}

// repeated reports whether sequence was seen before, and remembers it. One
// that is too old to know is taken for new: twice is better than never.
func (w *window) repeated(sequence uint64) bool {
	if sequence > w.newest {
		if step := sequence - w.newest; step < 64 {
			w.seen = w.seen<<step | 1
		} else {
			w.seen = 1
		}
		w.newest = sequence
		return false
	}
	back := w.newest - sequence
	if back >= 64 {
		return false
	}
	again := w.seen&(1<<back) != 0
	w.seen |= 1 << back
	return again
}
