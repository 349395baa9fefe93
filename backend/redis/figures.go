package redis

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sluice-mqtt/sluice/backend"
)

// figures are what the Store counts.
type figures struct {
	calls  sync.Map // durations of calls to the service: operation to *backend.Histogram
	errors sync.Map // by what they mean: condition to *atomic.Uint64
	// batch: messages that were appended in one go.
	batch *backend.Histogram
	// reloads: buckets of the index that were read whole.
	reloads atomic.Uint64
	// behind is how many changes the index was behind when it was looked at
	// last; followed is when it was known to be complete, in nanoseconds of
	// Unix time.
	behind, followed atomic.Int64
}

func newFigures() *figures {
	return &figures{batch: backend.NewHistogram(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)}
}

func (f *figures) took(operation string, d time.Duration) {
	h, ok := f.calls.Load(operation)
	if !ok {
		h, _ = f.calls.LoadOrStore(operation, backend.NewDurations())
	}
	h.(*backend.Histogram).Took(d)
}

func (f *figures) failed(c condition) {
	n, ok := f.errors.Load(c)
	if !ok {
		n, _ = f.errors.LoadOrStore(c, new(atomic.Uint64))
	}
	n.(*atomic.Uint64).Add(1)
}

// appending counts what goes to the service in one go.
func (f *figures) appending(bundles []*bundle) {
	n := 0
	for _, b := range bundles {
		n += len(b.parcels)
	}
	if n > 0 {
		f.batch.Observe(float64(n))
	}
}

// stopwatch is the hook of the client that measures calls.
type stopwatch struct{ figures *figures }

func (w stopwatch) DialHook(next goredis.DialHook) goredis.DialHook {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		return next(ctx, network, address)
	}
}

func (w stopwatch) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error {
		start := time.Now()
		err := next(ctx, cmd)
		w.figures.took(operation(cmd), time.Since(start))
		return err
	}
}

func (w stopwatch) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []goredis.Cmder) error {
		start := time.Now()
		err := next(ctx, cmds)
		w.figures.took(operationOf(cmds), time.Since(start))
		return err
	}
}

// operation names a command: a script by its file.
func operation(cmd goredis.Cmder) string {
	name := cmd.Name()
	if name != "evalsha" && name != "eval" {
		return name
	}
	if args := cmd.Args(); len(args) > 1 {
		if text, ok := args[1].(string); ok && scriptNames[text] != "" {
			return scriptNames[text]
		}
	}
	return name
}

// operationOf names a pipeline: by its first command, unless it appends.
func operationOf(cmds []goredis.Cmder) string {
	name := ""
	for _, cmd := range cmds {
		switch n := operation(cmd); {
		case n == "rpushx":
			return "append"
		case name == "" && n != "multi":
			name = n
		}
	}
	return name
}

// conditions are all that a Store can report, in the order of the page for
// operators.
var conditions = []condition{
	unreachable, noAuth, noRight, tooOld, isReplica, loading, noDisk, fewReplicas, noCluster, evicts,
	otherLayout, otherBus, otherData, refuses, full,
}

var _ backend.Measured = (*Store)(nil)

// Figures implements [backend.Measured].
func (s *Store) Figures() []backend.Figure {
	pool := s.client.PoolStats()
	subscriptions, groups := s.replica.index.Len()
	lag := 0.0
	if at := s.figures.followed.Load(); at != 0 && s.nodes.last.Load() != nil {
		lag = time.Since(time.Unix(0, at)).Seconds()
	}
	return []backend.Figure{
		{Name: "store_condition", Help: "1 for what is wrong with Redis, else 0.", Kind: backend.Gauge, Labels: []string{"condition"}, Values: s.conditions()},
		{Name: "store_call_duration_seconds", Help: "Round trips to Redis by operation, failed ones included.", Kind: backend.Distribution, Labels: []string{"operation"}, Values: s.figures.durations()},
		{Name: "store_call_errors_total", Help: "Calls that failed by what that means.", Kind: backend.Counter, Labels: []string{"condition"}, Values: s.figures.failures()},
		{Name: "store_append_batch_messages", Help: "Copies of messages that were appended to inboxes in one go.", Kind: backend.Distribution, Values: []backend.Value{{Spread: s.figures.batch.Spread()}}},
		{Name: "store_index_subscriptions", Help: "Subscriptions of durable sessions of the whole cluster in this gateway's index.", Kind: backend.Gauge, Values: backend.Single(float64(subscriptions))},
		{Name: "store_index_groups", Help: "Shared groups of the whole cluster in this gateway's index.", Kind: backend.Gauge, Values: backend.Single(float64(groups))},
		{Name: "store_index_behind_changes", Help: "Changes that the index was behind when it was looked at last.", Kind: backend.Gauge, Values: backend.Single(float64(s.figures.behind.Load()))},
		{Name: "store_index_lag_seconds", Help: "How long ago the index was last known to be complete.", Kind: backend.Gauge, Values: backend.Single(lag)},
		{Name: "store_index_reloads_total", Help: "Sixteenths of the index that were read whole: at the start, and when they could not be followed.", Kind: backend.Counter, Values: backend.Single(float64(s.figures.reloads.Load()))},
		{Name: "store_connections", Help: "Connections to Redis by what they do.", Kind: backend.Gauge, Labels: []string{"state"}, Values: []backend.Value{
			{Labels: []string{"idle"}, Number: float64(pool.IdleConns)}, {Labels: []string{"busy"}, Number: float64(pool.TotalConns) - float64(pool.IdleConns)}}},
		{Name: "store_connection_timeouts_total", Help: "Calls that got no connection in time, because all were busy.", Kind: backend.Counter, Values: backend.Single(float64(pool.Timeouts))},
		{Name: "store_setbacks_total", Help: "Times that Redis went on with data that may be older than what it had answered: a replica was promoted, or it was started with older data. All connections are dropped then.", Kind: backend.Counter, Values: backend.Single(float64(s.lineage.broken.Load()))},
		{Name: "store_condition_changes_total", Help: "Times that Redis became unfit, or fit again.", Kind: backend.Counter, Values: backend.Single(float64(s.health.changes.Load()))},
	}
}

func (s *Store) conditions() []backend.Value {
	t, values := s.health.trouble.Load(), make([]backend.Value, 0, len(conditions))
	for _, c := range conditions {
		v := backend.Value{Labels: []string{string(c)}}
		if t != nil && t.condition == c || c == full && s.health.full.Load() {
			v.Number = 1
		}
		values = append(values, v)
	}
	return values
}

func (f *figures) durations() []backend.Value {
	var values []backend.Value
	f.calls.Range(func(operation, h any) bool {
		values = append(values, backend.Value{Labels: []string{operation.(string)}, Spread: h.(*backend.Histogram).Spread()})
		return true
	})
	slices.SortFunc(values, func(a, b backend.Value) int { return strings.Compare(a.Labels[0], b.Labels[0]) })
	return values
}

func (f *figures) failures() []backend.Value {
	values := make([]backend.Value, 0, len(conditions))
	for _, c := range conditions {
		v := backend.Value{Labels: []string{string(c)}}
		if n, ok := f.errors.Load(c); ok {
			v.Number = float64(n.(*atomic.Uint64).Load())
		}
		values = append(values, v)
	}
	return values
}

// DurableSessions is how many sessions with an inbox have subscriptions, in the
// whole cluster, as far as the index has followed.
func (s *Store) DurableSessions() int64 { return s.replica.durable.Load() }
