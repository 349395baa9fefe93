package redis

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sluice-mqtt/sluice/backend"
)

// keepReceipts is for how long a QoS 2 publish is remembered whose publisher's
// session has ended: longer than any gateway repeats an append.
const keepReceipts = time.Minute

// forgetAtOnce is how many packet identifiers one script forgets.
const forgetAtOnce = 1024

// receipt is what is known of a packet identifier.
type receipt struct {
	generation uint32 // how often it was forgotten before
	held       bool   // appended and not forgotten since
}

func decodeReceipt(text string) (receipt, error) {
	if text == "" || text[0] != 'h' && text[0] != 'f' {
		return receipt{}, fmt.Errorf("redis: a receipt: %w", backend.ErrMalformed)
	}
	generation, err := strconv.ParseUint(text[1:], 10, 32)
	if err != nil {
		return receipt{}, fmt.Errorf("redis: a receipt: %w", err)
	}
	return receipt{uint32(generation), text[0] == 'h'}, nil
}

// had reports whether the publish was appended, now or in an earlier
// generation of its packet identifier.
func (r receipt) had(id backend.PublishID) bool {
	return id.Generation < r.generation || id.Generation == r.generation && r.held
}

func decodeReceipts(pairs reply) (received, generations map[uint16]uint32, err error) {
	received, generations = make(map[uint16]uint32), make(map[uint16]uint32)
	for i := 0; i+1 < len(pairs); i += 2 {
		id, err := strconv.ParseUint(pairs.str(i), 10, 16)
		if err != nil {
			return nil, nil, fmt.Errorf("redis: a receipt: %w", err)
		}
		known, err := decodeReceipt(pairs.str(i + 1))
		if err != nil {
			return nil, nil, err
		}
		if known.held {
			received[uint16(id)] = known.generation
		} else {
			generations[uint16(id)] = known.generation
		}
	}
	return received, generations, nil
}

func incarnation(id backend.PublishID) string { return strconv.FormatUint(id.Incarnation, 10) }

// identity is a message's in the hashes of what an inbox has seen; see
// lua/lib_seen.lua. Without field it has none.
type identity struct{ field, value string }

// longName is from which length on a name is replaced by its SHA-256.
const longName = 64

// short returns a name, or what stands for it if it is long; no two are the
// same.
func short(name string) string {
	if len(name) < longName {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return string(sum[:]) + strings.Repeat("#", longName)
}

func identityOf(id backend.PublishID) identity {
	if id == (backend.PublishID{}) {
		return identity{}
	}
	return identity{
		field: string(binary.BigEndian.AppendUint16([]byte{'p'}, id.PacketID)) + short(string(id.Client)),
		value: incarnation(id) + "." + strconv.FormatUint(uint64(id.Generation), 10),
	}
}

// markDuplicates finds out which letters with an identity were appended in full
// before. Of several with the same identity in one batch the first counts.
//
// It is not asked about those that are fresh ([backend.Message.Fresh]): of an
// identity that no Append was ever called with, nobody has a receipt. Should one
// be called fresh in error, each inbox still knows it by what it has seen (see
// lua/lib_seen.lua) and takes it once; only that it was routed to live sessions
// would not be known.
func (s *Store) markDuplicates(ctx context.Context, letters []letter) error {
	var p goredis.Pipeliner
	var cmds map[int]*goredis.StringCmd
	first := make(map[backend.PublishID]struct{})
	for i := range letters {
		id := letters[i].m.ID
		if id == (backend.PublishID{}) {
			continue
		}
		if _, again := first[id]; again {
			letters[i].out.Duplicate = true
			continue
		}
		first[id] = struct{}{}
		if letters[i].m.Fresh {
			continue
		}
		if p == nil {
			p, cmds = s.client.Pipeline(), make(map[int]*goredis.StringCmd)
		}
		cmds[i] = p.HGet(ctx, s.keys.session(id.Client).receipts(incarnation(id)), strconv.Itoa(int(id.PacketID)))
	}
	if p == nil {
		return nil
	}
	if _, err := p.Exec(ctx); err != nil && !errors.Is(err, goredis.Nil) {
		return err
	}
	for i, cmd := range cmds {
		text, err := cmd.Result()
		if errors.Is(err, goredis.Nil) {
			continue
		}
		if err != nil {
			return err
		}
		known, err := decodeReceipt(text)
		if err != nil {
			return err
		}
		letters[i].out.Duplicate = known.had(letters[i].m.ID)
	}
	return nil
}

// remember notes that letters with an identity have been appended in full. It
// comes after all that they gave rise to: a repetition that finds it relies on
// that.
func (s *Store) remember(ctx context.Context, letters []letter) error {
	type publisher struct {
		client      backend.ClientID
		incarnation uint64
	}
	calls := make(map[publisher]*call)
	for i := range letters {
		id := letters[i].m.ID
		if id == (backend.PublishID{}) || letters[i].out.Duplicate {
			continue
		}
		who := publisher{id.Client, id.Incarnation}
		c := calls[who]
		if c == nil {
			k := s.keys.session(id.Client)
			c = &call{
				script: receiveScript,
				keys:   []string{k.meta(), k.receipts(incarnation(id))},
				args:   []any{incarnation(id), milliseconds(keepReceipts)},
			}
			calls[who] = c
		}
		c.args = append(c.args, strconv.Itoa(int(id.PacketID)), strconv.FormatUint(uint64(id.Generation), 10))
	}
	list := make([]*call, 0, len(calls))
	for _, c := range calls {
		list = append(list, c)
	}
	return s.run(ctx, list...)
}

// Forget implements [backend.Inboxes].
func (s *Store) Forget(ctx context.Context, l backend.Lease, ids []uint16) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	for first := true; first || len(ids) > 0; first = false {
		part := ids[:min(len(ids), forgetAtOnce)]
		ids = ids[len(part):]
		args := make([]any, len(part))
		for i, id := range part {
			args[i] = strconv.Itoa(int(id))
		}
		_, _, err := s.leased(ctx, l, forgetScript, func(k sessionKeys, at seat) []string {
			return []string{k.meta(), k.receipts(at.inc)}
		}, args...)
		if err != nil {
			return s.failed("forget", err)
		}
	}
	return nil
}
