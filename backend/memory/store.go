package memory

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/index"
)

// Options set up a Store. For each limit, 0 is the default and a negative
// number is none.
type Options struct {
	// InboxMessages and InboxBytes bound what is not done in the inbox of one
	// session, and what waits in the queue of one shared group. Bytes are
	// counted by [backend.Message.Size].
	// Default: 10,000 and 64 MiB.
	InboxMessages int
	InboxBytes    int64

	// InboxFull says which message goes when an inbox is full.
	// Default: DropNewest.
	InboxFull FullPolicy

	// Subscriptions bounds the subscriptions of one session.
	// Default: 1,000.
	Subscriptions int

	// RetainedMessages and RetainedBytes bound all retained messages.
	// Default: 1,000,000 and 1 GiB.
	RetainedMessages int
	RetainedBytes    int64

	// ShareStrategy chooses among the members of shared groups.
	// Default: index.RoundRobin.
	ShareStrategy index.Strategy
}

// FullPolicy says which message goes when an inbox is full.
type FullPolicy uint8

const (
	// DropNewest refuses the new message.
	DropNewest FullPolicy = iota
	// DropOldest gives up the oldest messages that the client has not
	// answered.
	DropOldest
)

func (o *Options) setDefaults() {
	o.InboxMessages = limit(o.InboxMessages, 10_000)
	o.InboxBytes = limit(o.InboxBytes, 64<<20)
	o.Subscriptions = limit(o.Subscriptions, 1000)
	o.RetainedMessages = limit(o.RetainedMessages, 1_000_000)
	o.RetainedBytes = limit(o.RetainedBytes, 1<<30)
}

// limit returns the limit that value stands for.
func limit[N int | int64](value, standard N) N {
	switch {
	case value == 0:
		return standard
	case value < 0:
		return N(math.MaxInt) // none: out of reach
	default:
		return value
	}
}

// Store is a [backend.Store] that keeps everything in the memory of one
// process: it ends with the process. Any number of gateways of the process may
// use it, all through one Store or each through a [Store.Peer].
type Store struct {
	*state
	closed atomic.Bool
	joined atomic.Pointer[backend.NodeID] // the last gateway that joined here
}

// state is what all peers have in common.
//
// Locks, in the order in which they may be taken together:
//
//	shard.mu     which client has which session. Held for writing while a
//	             session is made, attached, detached or ended: who holds it,
//	             even for reading, knows that no lease of the shard changes
//	receipts.mu  the QoS 2 publishes of one client; held during their append
//	session.mu   everything else of one session
//	the index, node.mu, retained.mu and the locks of timers, chores, bans and
//	strangers    their own content; none of them is held while another lock is
//	             taken, but for those inside the index
//
// Two locks of one kind are never held together. Append takes the locks of
// receipts and sessions only, one session after the other.
type state struct {
	options Options
	start   time.Time // times are durations since
	seed    maphash.Seed

	shards    [sessionShards]shard
	index     *index.Index
	nodes     nodes
	timers    timers
	chores    chores
	retained  retained
	strangers strangers
	bans      bans

	epochs       atomic.Uint64 // the last that was given out, to any client
	incarnations atomic.Uint64
}

// sessionShards is how many maps of sessions there are, so that gateways
// seldom wait for each other.
const sessionShards = 64

type shard struct {
	mu       sync.RWMutex
	sessions map[backend.ClientID]*session
	_        [32]byte // fills a cache line, so that shards do not share one
}

var _ backend.Store = (*Store)(nil)

// NewStore returns an empty Store.
func NewStore(o Options) *Store {
	o.setDefaults()
	st := &state{
		options: o,
		start:   time.Now(),
		seed:    maphash.MakeSeed(),
		index:   index.New(index.Options{Strategy: o.ShareStrategy}),
	}
	for i := range st.shards {
		st.shards[i].sessions = make(map[backend.ClientID]*session)
	}
	st.nodes.init()
	st.chores.init()
	st.retained.init(o.RetainedMessages, o.RetainedBytes)
	st.strangers.init()
	return &Store{state: st}
}

// Peer returns a Store on the same state, for another gateway of the process.
// It is closed on its own.
func (s *Store) Peer() *Store { return &Store{state: s.state} }

// Close makes all later calls return ErrClosed. The state lives on in peers.
func (s *Store) Close() error {
	s.closed.Store(true)
	return nil
}

// enter is the first step of every call.
func (s *Store) enter(ctx context.Context) error {
	if s.closed.Load() {
		return fmt.Errorf("memory: %w", backend.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memory: %w: %w", backend.ErrUnavailable, context.Cause(ctx))
	}
	return nil
}

// now is the time since the state was made.
func (s *state) now() time.Duration { return time.Since(s.start) }

func (s *state) shard(c backend.ClientID) *shard {
	return &s.shards[maphash.String(s.seed, string(c))%sessionShards]
}

// find returns the session of a client, or nil.
func (s *state) find(c backend.ClientID) *session {
	sh := s.shard(c)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.sessions[c]
}

// hold returns the session that l gives the right to change, locked. Every
// call under a lease begins with it.
func (s *state) hold(l backend.Lease) (*session, error) {
	ss := s.find(l.Client)
	if ss == nil {
		return nil, errFenced
	}
	ss.mu.Lock()
	if !ss.heldBy(l, s.now()) {
		ss.mu.Unlock()
		return nil, errFenced
	}
	return ss, nil
}

var (
	errFenced  = fmt.Errorf("memory: %w", backend.ErrFenced)
	errFull    = fmt.Errorf("memory: %w", backend.ErrFull)
	errNoInbox = errors.New("memory: the session has no inbox")
)

// Immediate implements [backend.Immediate].
func (s *Store) Immediate() bool { return true }
