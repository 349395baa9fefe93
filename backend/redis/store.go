package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sluice-mqtt/sluice/backend"
)

// Store is a [backend.Store] in Redis. A gateway has one of its own.
type Store struct {
	options Options
	log     *slog.Logger
	client  goredis.UniversalClient
	// probe is for looking at the servers: that all connections of client are
	// busy says nothing about them.
	probe     goredis.UniversalClient
	clustered bool
	keys      keys

	replica *replica
	writers []*writer
	// trimmers run Advance.
	trimmers []*together
	// porters open and release sessions.
	porters []*together
	clock   clock
	nodes   nodes
	seats   seats
	names   names
	held    retainedTotal
	health  health
	lineage lineage
	figures *figures
	cluster string // identity of the data, for ever

	unfinished unfinished
	purged     atomic.Int64 // when retained messages were, in nanoseconds of Unix time

	// epochs is the newest epoch that was seen: the next is newer, even if
	// the server's clock went back.
	epochs atomic.Uint64

	closed atomic.Bool
	done   chan struct{}  // closed by Close
	tailer sync.WaitGroup // for all goroutines that run until Close
}

var _ backend.Store = (*Store)(nil)

// New returns a Store on the service that o.URL names. It is an error that says
// so if the service is too old, refuses writes, or keeps the data of another
// version or of gateways on another bus; [backend.ErrUnavailable] if it does not
// answer, and [backend.ErrRefused] if it is in vain to wait until it does. One that evicts keys is no error, but [Store.Health] is.
func New(ctx context.Context, o Options) (*Store, error) {
	o.setDefaults()
	a, err := o.address()
	if err != nil {
		return nil, err
	}
	s := &Store{
		options:   o,
		log:       o.Logger,
		probe:     dialProbe(a, o),
		clustered: a.clustered,
		keys:      keys(o.KeyPrefix),
		done:      make(chan struct{}),
	}
	s.figures = newFigures()
	greeted := *a
	greeted.client.OnConnect = s.greet
	s.client = dial(&greeted, &o)
	s.client.AddHook(stopwatch{s.figures})
	s.replica = newReplica(s)
	s.clock.began = time.Now()
	s.nodes.byID = make(map[backend.NodeID]*node)
	s.names.own = newName()[:12]
	writers := 1
	if a.clustered {
		writers = clusterWriters
	}
	for range writers {
		s.writers = append(s.writers, &writer{store: s})
		s.trimmers = append(s.trimmers, &together{store: s})
	}
	for range porters {
		s.porters = append(s.porters, &together{store: s})
	}
	if err := s.begin(ctx); err != nil {
		return nil, errors.Join(err, s.client.Close(), s.probe.Close())
	}
	s.tailer.Go(s.tail)  // ends with Close
	s.tailer.Go(s.watch) // ends with Close
	return s, nil
}

// Close ends all connections; later calls return ErrClosed. Leases are left to
// end by themselves: a gateway that wants them to end at once calls Leave
// before.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	close(s.done)
	err := errors.Join(s.client.Close(), s.probe.Close())
	s.tailer.Wait()
	return err
}

// bounded gives ctx a deadline if it has none.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, callTimeout)
}

// newName returns a name that nobody has used before.
func newName() string { return rand.Text()[:16] }

// names gives out names of inboxes. They are short: they are part of keys, and
// every gateway has them in its index.
type names struct {
	own  string // no other Store's names begin with it
	last atomic.Uint64
}

// next returns a name that nobody has used before, at a fraction of the cost of
// a random one.
func (n *names) next() string { return n.own + strconv.FormatUint(n.last.Add(1), 36) }

func milliseconds(d time.Duration) int64 { return d.Milliseconds() }
