package redis

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/index"
)

var (
	_ backend.Directory = (*Store)(nil)
	_ backend.Bans      = (*Store)(nil)
)

const (
	// scanKeys is how many keys the server looks at in one step of a listing,
	// which takes it less than a millisecond.
	scanKeys = 1000
	// scanRounds bounds the steps of one page: who looks for what is rare gets
	// short pages rather than waiting.
	scanRounds = 20
)

// ListNodes implements [backend.Directory].
func (s *Store) ListNodes(ctx context.Context) ([]backend.NodeStatus, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	p := s.client.Pipeline()
	clock := p.Time(ctx)
	all := p.ZRangeWithScores(ctx, s.keys.nodes(), 0, -1)
	if _, err := p.Exec(ctx); err != nil {
		return nil, s.failed("nodes", err)
	}
	list := make([]backend.NodeStatus, 0, len(all.Val()))
	counts := make([]*goredis.IntCmd, 0, len(all.Val()))
	p = s.client.Pipeline()
	for _, z := range all.Val() {
		id := backend.NodeID(fmt.Sprint(z.Member))
		left := time.Duration(int64(z.Score)-clock.Val().UnixMilli()) * time.Millisecond
		list = append(list, backend.NodeStatus{ID: id, Left: left})
		counts = append(counts, p.HLen(ctx, s.keys.clients(id)))
	}
	if len(counts) > 0 {
		if _, err := p.Exec(ctx); err != nil {
			return nil, s.failed("nodes", err)
		}
	}
	for i := range list {
		list[i].Sessions = counts[i].Val()
	}
	slices.SortFunc(list, func(a, b backend.NodeStatus) int { return cmp.Compare(a.ID, b.ID) })
	return list, nil
}

// ListSessions implements [backend.Directory]. The sessions of one gateway are
// read from its own list, all others by walking the keys.
func (s *Store) ListSessions(ctx context.Context, q backend.SessionQuery) (page []backend.SessionStatus, next string, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, "", err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	if q.Node != "" {
		page, next, err = s.listOf(ctx, q)
	} else {
		page, next, err = s.listAll(ctx, q)
	}
	return page, next, s.failed("sessions", err)
}

// listOf lists the sessions of one gateway. The cursor is Redis's.
func (s *Store) listOf(ctx context.Context, q backend.SessionQuery) (page []backend.SessionStatus, next string, err error) {
	at, _ := strconv.ParseUint(q.Cursor, 10, 64)
	for range scanRounds {
		pairs, cursor, err := s.client.HScan(ctx, s.keys.clients(q.Node), at, "", int64(max(q.Max, 10))).Result()
		if err != nil {
			return nil, "", err
		}
		var ids []backend.ClientID
		for i := 0; i+1 < len(pairs); i += 2 {
			ids = append(ids, backend.ClientID(pairs[i]))
		}
		if page, err = s.addStatus(ctx, page, ids, q); err != nil || cursor == 0 {
			return page, "", err
		}
		if at = cursor; len(page) >= q.Max {
			break
		}
	}
	return page, strconv.FormatUint(at, 10), nil
}

// listAll walks the keys of all servers. The cursor is the number of a server
// and that of Redis.
func (s *Store) listAll(ctx context.Context, q backend.SessionQuery) (page []backend.SessionStatus, next string, err error) {
	servers, err := s.servers(ctx)
	if err != nil {
		return nil, "", err
	}
	number, rest, _ := strings.Cut(q.Cursor, ":")
	server, _ := strconv.Atoi(number)
	at, _ := strconv.ParseUint(rest, 10, 64)
	server = max(server, 0)
	for round := 0; server < len(servers); round++ {
		if round == scanRounds || len(page) >= max(q.Max, 1) {
			return page, strconv.Itoa(server) + ":" + strconv.FormatUint(at, 10), nil
		}
		found, cursor, err := servers[server].Scan(ctx, at, s.keys.anySession(), scanKeys).Result()
		if err != nil {
			return nil, "", err
		}
		var ids []backend.ClientID
		for _, key := range found {
			if id, ok := s.keys.clientOf(key); ok {
				ids = append(ids, id)
			}
		}
		if page, err = s.addStatus(ctx, page, ids, q); err != nil {
			return nil, "", err
		}
		if at = cursor; at == 0 {
			server++
		}
	}
	return page, "", nil
}

// servers returns the clients of all servers that hold keys, in a fixed order.
func (s *Store) servers(ctx context.Context) ([]goredis.Cmdable, error) {
	cluster, ok := s.client.(*goredis.ClusterClient)
	if !ok {
		return []goredis.Cmdable{s.client}, nil
	}
	var mu sync.Mutex
	var masters []*goredis.Client
	err := cluster.ForEachMaster(ctx, func(_ context.Context, c *goredis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		masters = append(masters, c)
		return nil
	})
	slices.SortFunc(masters, func(a, b *goredis.Client) int { return cmp.Compare(a.Options().Addr, b.Options().Addr) })
	all := make([]goredis.Cmdable, len(masters))
	for i, c := range masters {
		all[i] = c
	}
	return all, err
}

// anySession is a pattern that the keys of all sessions match.
func (k keys) anySession() string {
	prefix := strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(string(k))
	return prefix + "{c:*}:m"
}

// clientOf returns the client whose session a key is of.
func (k keys) clientOf(key string) (backend.ClientID, bool) {
	text, ok := strings.CutPrefix(key, string(k)+"{c:")
	text, is := strings.CutSuffix(text, "}:m")
	id, err := base64.RawURLEncoding.DecodeString(text)
	return backend.ClientID(id), ok && is && err == nil
}

// statusFields are the fields of meta that a status is made of.
var statusFields = []string{"epoch", "node", "principal", "durable", "expiry", "eat", "box", "wdelay"}

// addStatus adds to page those of the clients that are asked for.
func (s *Store) addStatus(ctx context.Context, page []backend.SessionStatus, ids []backend.ClientID, q backend.SessionQuery) ([]backend.SessionStatus, error) {
	ids = slices.DeleteFunc(ids, func(id backend.ClientID) bool { return !strings.Contains(string(id), q.Contains) })
	if len(ids) == 0 {
		return page, nil
	}
	p := s.client.Pipeline()
	metas := make([]*goredis.SliceCmd, len(ids))
	counts := make([]*goredis.IntCmd, len(ids))
	for i, id := range ids {
		k := s.keys.session(id)
		metas[i], counts[i] = p.HMGet(ctx, k.meta(), statusFields...), p.HLen(ctx, k.subs())
	}
	if _, err := p.Exec(ctx); err != nil {
		return nil, err
	}
	var boxes []func()
	p = s.client.Pipeline()
	first := len(page)
	page = slices.Grow(page, len(ids)) // what is noted below must not move
	for i, id := range ids {
		m := reply(metas[i].Val())
		st := backend.SessionStatus{
			Client: id, Node: backend.NodeID(m.str(1)), Epoch: parseNumber(m.str(0)), Principal: m.str(2),
			Durable: m.str(3) == "1", Expiry: uint32(parseNumber(m.str(4))), Will: m.str(7) != "",
			Subscriptions: int(counts[i].Val()),
		}
		if at := parseNumber(m.str(5)); at != 0 && st.Node == "" {
			st.Ends = time.UnixMilli(int64(at))
		}
		switch {
		case st.Epoch == 0, q.Node != "" && st.Node != q.Node, q.Attached && st.Node == "", q.Detached && st.Node != "":
			continue
		}
		page = append(page, st)
		if box := m.str(6); box != "" {
			key, to := s.keys.session(id).inbox(box), &page[len(page)-1]
			head, length := p.LIndex(ctx, key, 0), p.LLen(ctx, key)
			boxes = append(boxes, func() { to.Backlog = backlog(head.Val(), length.Val()) })
		}
	}
	if len(page) == first || len(boxes) == 0 {
		return page, nil
	}
	// An inbox that has moved since has no header: it counts as empty.
	if _, err := p.Exec(ctx); err != nil && !errors.Is(err, goredis.Nil) {
		return nil, err
	}
	for _, fill := range boxes {
		fill()
	}
	return page, nil
}

// backlog is how many entries of an inbox are not done; see lua/lib_inbox.lua
// for its header.
func backlog(header string, length int64) int64 {
	fields := strings.SplitN(header, " ", 4)
	if len(fields) < 4 {
		return 0
	}
	return max(length-1-int64(parseNumber(fields[2])), 0)
}

// DescribeSession implements [backend.Directory].
func (s *Store) DescribeSession(ctx context.Context, c backend.ClientID, most int) (*backend.SessionStatus, []backend.Subscription, error) {
	if err := s.enter(ctx); err != nil {
		return nil, nil, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	page, err := s.addStatus(ctx, nil, []backend.ClientID{c}, backend.SessionQuery{})
	if err != nil || len(page) == 0 {
		return nil, nil, s.failed("session", err)
	}
	var subs []backend.Subscription
	for cursor, round := uint64(0), 0; len(subs) < most && round < scanRounds; round++ {
		var pairs []string
		if pairs, cursor, err = s.client.HScan(ctx, s.keys.session(c).subs(), cursor, "", scanKeys).Result(); err != nil {
			return nil, nil, s.failed("session", err)
		}
		for i := 0; i+1 < len(pairs) && len(subs) < most; i += 2 {
			sub, err := decodeSubscription(pairs[i], pairs[i+1])
			if err != nil {
				return nil, nil, fmt.Errorf("redis: a subscription: %w", err)
			}
			subs = append(subs, sub)
		}
		if cursor == 0 {
			break
		}
	}
	return &page[0], subs, nil
}

// Subscribers implements [backend.Directory], by the index.
func (s *Store) Subscribers(ctx context.Context, topic string, most int) (found []backend.Subscriber, more bool, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, false, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := s.replica.catchUp(ctx); err != nil {
		return nil, false, s.failed("subscribers", err)
	}
	matches := s.replica.index.Match(topic)
	if matches == nil {
		return nil, false, nil
	}
	for i := range matches.Sessions {
		if len(found) == most {
			return s.withNodes(ctx, found, true)
		}
		m := &matches.Sessions[i]
		filters := s.replica.covering(m.Session.Value.(*record), topic)
		found = append(found, backend.Subscriber{Client: m.Session.Client, QoS: m.QoS(), Filters: filters})
	}
	for _, g := range matches.Groups {
		for _, m := range g.Members(most + 1) {
			if len(found) == most {
				return s.withNodes(ctx, found, true)
			}
			found = append(found, backend.Subscriber{Client: m.Session.Client, QoS: m.QoS, Filters: []string{g.Name}})
		}
	}
	return s.withNodes(ctx, found, false)
}

// withNodes fills in the gateways of the sessions: the index knows those of
// members of shared groups only.
func (s *Store) withNodes(ctx context.Context, found []backend.Subscriber, more bool) ([]backend.Subscriber, bool, error) {
	p := s.client.Pipeline()
	cmds := make([]*goredis.SliceCmd, len(found))
	for i := range found {
		cmds[i] = p.HMGet(ctx, s.keys.session(found[i].Client).meta(), "node")
	}
	if len(cmds) > 0 {
		if _, err := p.Exec(ctx); err != nil {
			return nil, false, s.failed("subscribers", err)
		}
	}
	for i := range found {
		found[i].Node = backend.NodeID(reply(cmds[i].Val()).str(0))
	}
	return found, more, nil
}

// covering returns the filters of a session that match a topic, shared ones
// left out.
func (r *replica) covering(rec *record, topic string) (found []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, filter := range rec.filters {
		if _, _, shared := index.Shared(filter); !shared && index.Covers(filter, topic) {
			found = append(found, filter)
		}
	}
	return found
}
