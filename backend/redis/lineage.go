package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	goredis "github.com/redis/go-redis/v9"
)

// lineage is what is known of the histories of the servers. A server that goes
// on with data which may be older than what it has answered (a replica that was
// promoted, a server that restarted from an older disk) gives sequences of
// inboxes out again that connections have read past, and has index changes
// under numbers that were seen before. So nothing is sent over a connection
// before it is known whose history it leads to; when that is a new one, the
// leases of this gateway are void first, and the index has another name.
type lineage struct {
	mu sync.Mutex
	// own is, for each server by its run, the replication history that it
	// writes as a primary.
	own map[string]string
	// histories are all that were seen.
	histories map[string]struct{}
	// announced are names of the data that were logged when they began.
	announced map[string]struct{}
	// beat is the newest number of versionBeat that was seen.
	beat uint64
	// broken counts how often a history was left for another.
	broken atomic.Uint64
}

// versionBeat is a field of the version's key that every gateway counts up
// twice a second: a server where it is lower than before has lost what it had.
const versionBeat = "beat"

// ancestry is what a server says of its history.
type ancestry struct {
	run     string // names this run of the process
	primary bool
	history string // master_replid
	before  string // master_replid2: the one that it took over, or zeros
}

func readAncestry(info map[string]string) ancestry {
	return ancestry{info["run_id"], info["role"] == "master", info["master_replid"], info["master_replid2"]}
}

// greet is called for every new connection before anything else is sent over
// it. Without an answer the connection is not used.
func (s *Store) greet(ctx context.Context, c *goredis.Conn) error {
	p := c.Pipeline()
	server, replication := p.Info(ctx, "server"), p.Info(ctx, "replication")
	if _, err := p.Exec(ctx); err != nil {
		return err
	}
	return s.meet(ctx, readAncestry(parseInfo(server.Val()+replication.Val())))
}

// meet takes what a server says of itself. If its data may be older than what
// was seen, it is dealt with when meet returns without error.
func (s *Store) meet(ctx context.Context, a ancestry) error {
	if a.run == "" || a.history == "" {
		return nil // a server that does not tell
	}
	l := &s.lineage
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.own == nil {
		l.own, l.histories = make(map[string]string), make(map[string]struct{})
		l.announced = make(map[string]struct{})
	}
	if !a.primary {
		// It writes nothing. Having followed another, its data is not its own.
		if l.own[a.run] != a.history {
			delete(l.own, a.run)
		}
		l.histories[a.history] = struct{}{}
		return nil
	}
	own := l.own[a.run]
	_, follows := l.histories[a.before]
	switch {
	case own == a.history:
		return nil
	case own != "" && (own == a.before || !follows):
		// Its own data under another name: it was told to be a replica for a
		// while and has followed nobody, or had no replicas for long.
	case follows:
		if err := s.breakWith(ctx, a.run, "a replica was promoted, or it was started from a snapshot"); err != nil {
			return err
		}
	case len(l.own) > 0:
		if err := s.meetStranger(ctx, a); err != nil {
			return err
		}
	}
	l.own[a.run] = a.history
	l.histories[a.history] = struct{}{}
	return nil
}

// meetStranger looks whether a server that was not known, most likely because
// it was restarted, has what was there before. The lineage is locked.
func (s *Store) meetStranger(ctx context.Context, a ancestry) error {
	text, err := s.probe.HGet(ctx, s.keys.version(), versionBeat).Result()
	if err != nil && !errors.Is(err, goredis.Nil) {
		return err
	}
	if parseNumber(text) >= s.lineage.beat {
		return nil
	}
	return s.breakWith(ctx, a.run, "it was started with older data")
}

// lookBack looks whether servers have the data that they had before.
func (s *Store) lookBack(ctx context.Context, servers []ancestry) error {
	var runs []string
	for _, a := range servers {
		if err := s.meet(ctx, a); err != nil {
			return err
		}
		runs = append(runs, a.run)
	}
	slices.Sort(runs)
	return s.keepBeat(ctx, strings.Join(runs, "+"))
}

// keepBeat counts the beat up, and notices where it has gone back.
func (s *Store) keepBeat(ctx context.Context, runs string) error {
	n, err := s.probe.HIncrBy(ctx, s.keys.version(), versionBeat, 1).Result()
	if err != nil {
		return nil // what is wrong is found elsewhere, or the server is full
	}
	l := &s.lineage
	l.mu.Lock()
	defer l.mu.Unlock()
	if beat := uint64(n); beat > l.beat {
		l.beat = beat
		return nil
	}
	return s.breakWith(ctx, runs, "it has older data than before")
}

// forgetBeat begins anew with data of which nothing was known: who joins from
// now on has seen nothing else.
func (s *Store) forgetBeat() {
	s.lineage.mu.Lock()
	defer s.lineage.mu.Unlock()
	s.lineage.beat = 0
}

// breakWith ends what relied on the history so far: the leases of this gateway
// are void, and the data has another name, so that every gateway loads the
// index anew before it acknowledges anything. That name is the same whoever
// notices. The lineage is locked.
func (s *Store) breakWith(ctx context.Context, name, why string) error {
	nodes := s.voidLeases()
	named, err := s.probe.HMGet(ctx, s.keys.version(), versionData, versionBeat).Result()
	if err != nil {
		return fmt.Errorf("the history of the server is another: %w", err)
	}
	r := reply(named)
	if data := r.str(0); data != "" { // else it was emptied, which the index notices
		if err := s.probe.HSet(ctx, s.keys.version(), versionData, name).Err(); err != nil {
			return fmt.Errorf("the history of the server is another: %w", err)
		}
		s.lineage.announced[name] = struct{}{}
		s.log.Warn("redis goes on with data that may be older than what was acknowledged: all connections are dropped and come back to what is there", "because", why)
	}
	s.lineage.beat = parseNumber(r.str(1))
	s.lineage.broken.Add(1)
	for _, n := range nodes {
		if n.Fenced != nil {
			n.Fenced()
		}
	}
	return nil
}

// wasAnnounced reports whether the log has said why the data has this name.
func (s *Store) wasAnnounced(data string) bool {
	s.lineage.mu.Lock()
	defer s.lineage.mu.Unlock()
	_, was := s.lineage.announced[data]
	return was
}

// voidLeases ends the leases of the gateways that joined here, whatever the
// service says of them, and returns those that had one.
func (s *Store) voidLeases() []*node {
	s.nodes.mu.Lock()
	defer s.nodes.mu.Unlock()
	var ended []*node
	for _, n := range s.nodes.byID {
		if !n.void.Swap(true) {
			ended = append(ended, n)
		}
	}
	return ended
}

// leaseEnd is the end of a gateway's lease as an argument of a script. It is
// looked up when the script is sent, which is after the server at the other end
// has been met: a call that was on its way when its lease became void is
// fenced.
type leaseEnd struct{ n *node }

// MarshalBinary implements encoding.BinaryMarshaler, for go-redis.
func (e leaseEnd) MarshalBinary() ([]byte, error) {
	if e.n.void.Load() {
		return []byte("0"), nil
	}
	return strconv.AppendInt(nil, e.n.until.Load(), 10), nil
}
