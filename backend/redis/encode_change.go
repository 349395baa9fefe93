package redis

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/sluice-mqtt/sluice/backend"
)

// change is one step of a session as the index sees it: from version prev to
// version ver. It is immutable.
type change struct {
	client    backend.ClientID
	prev, ver uint64
	gone      bool // the session has ended, or has nothing for the index
	whole     bool // set is all there is; prev does not matter
	durable   bool
	box       string         // the inbox's name
	node      backend.NodeID // of the connection; empty if none
	epoch     uint64
	set       []backend.Subscription
	deleted   []string
}

const changeVersion = 1

// Flags of an encoded change.
const (
	changeGone = 1 << iota
	changeWhole
	changeDurable
)

func (c *change) encode() []byte {
	var flags byte
	if c.gone {
		flags |= changeGone
	}
	if c.whole {
		flags |= changeWhole
	}
	if c.durable {
		flags |= changeDurable
	}
	b := []byte{changeVersion, flags}
	b = binary.AppendUvarint(b, c.prev)
	b = binary.AppendUvarint(b, c.ver)
	b = binary.AppendUvarint(b, c.epoch)
	for _, text := range []string{string(c.client), c.box, string(c.node)} {
		b = appendText(b, text)
	}
	b = binary.AppendUvarint(b, uint64(len(c.set)))
	for _, sub := range c.set {
		b = appendText(b, sub.Filter)
		b = appendText(b, encodeSubscription(sub))
	}
	b = binary.AppendUvarint(b, uint64(len(c.deleted)))
	for _, filter := range c.deleted {
		b = appendText(b, filter)
	}
	return b
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// changeReader reads an encoded change; after a fault all that it reads is
// zero.
type changeReader struct {
	b   string
	bad bool
}

func (r *changeReader) number() uint64 {
	var v uint64
	for i := 0; i < len(r.b) && i < binary.MaxVarintLen64; i++ {
		v |= uint64(r.b[i]&0x7f) << (7 * i)
		if r.b[i] < 0x80 {
			r.b = r.b[i+1:]
			return v
		}
	}
	r.bad, r.b = true, ""
	return 0
}

func (r *changeReader) text() string {
	n := r.number()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, ""
		return ""
	}
	text := r.b[:n]
	r.b = r.b[n:]
	return text
}

func decodeChange(b string) (*change, error) {
	if len(b) < 2 {
		return nil, fmt.Errorf("redis: a change: %w", backend.ErrMalformed)
	}
	if b[0] != changeVersion {
		return nil, fmt.Errorf("redis: a change: %w", backend.ErrVersion)
	}
	flags := b[1]
	r := changeReader{b: b[2:]}
	c := &change{gone: flags&changeGone != 0, whole: flags&changeWhole != 0, durable: flags&changeDurable != 0}
	c.prev, c.ver, c.epoch = r.number(), r.number(), r.number()
	c.client, c.box, c.node = backend.ClientID(r.text()), r.text(), backend.NodeID(r.text())
	for n := r.number(); n > 0 && !r.bad; n-- {
		filter := r.text()
		sub, err := decodeSubscription(strings.Clone(filter), r.text())
		if err != nil {
			return nil, fmt.Errorf("redis: a change: %w", err)
		}
		c.set = append(c.set, sub)
	}
	for n := r.number(); n > 0 && !r.bad; n-- {
		c.deleted = append(c.deleted, r.text())
	}
	if r.bad {
		return nil, fmt.Errorf("redis: a change: %w", backend.ErrMalformed)
	}
	// What is kept must not hold on to all of b.
	c.client, c.box = backend.ClientID(strings.Clone(string(c.client))), strings.Clone(c.box)
	c.node = backend.NodeID(strings.Clone(string(c.node)))
	return c, nil
}

// listing is what the list of clients has for the session: its version, so
// that older changes are known. Empty ends it.
func (c *change) listing() string {
	if c.gone {
		return ""
	}
	return strconv.FormatUint(c.ver, 10)
}
