package memory

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/index"
)

var (
	_ backend.Census    = (*Store)(nil)
	_ backend.Directory = (*Store)(nil)
	_ backend.Bans      = (*Store)(nil)
)

// CountSessions implements [backend.Census].
func (s *Store) CountSessions(ctx context.Context) (n int64, err error) {
	if err := s.enter(ctx); err != nil {
		return 0, err
	}
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.RLock()
		n += int64(len(sh.sessions))
		sh.mu.RUnlock()
	}
	return n, nil
}

// ListNodes implements [backend.Directory].
func (s *Store) ListNodes(ctx context.Context) ([]backend.NodeStatus, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	s.nodes.mu.RLock()
	defer s.nodes.mu.RUnlock()
	now := s.now()
	list := make([]backend.NodeStatus, 0, len(s.nodes.byID))
	for id, n := range s.nodes.byID {
		n.mu.Lock()
		attached := int64(len(n.attached))
		n.mu.Unlock()
		list = append(list, backend.NodeStatus{ID: id, Left: time.Duration(n.until.Load()) - now, Sessions: attached})
	}
	slices.SortFunc(list, func(a, b backend.NodeStatus) int { return cmp.Compare(a.ID, b.ID) })
	return list, nil
}

// ListSessions implements [backend.Directory]. A cursor is the number of a
// shard and the client after which to go on in it.
func (s *Store) ListSessions(ctx context.Context, q backend.SessionQuery) (page []backend.SessionStatus, next string, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, "", err
	}
	number, after, _ := strings.Cut(q.Cursor, ":")
	first, _ := strconv.Atoi(number)
	for i := min(max(first, 0), sessionShards); i < sessionShards; i++ {
		for _, ss := range s.selected(i, after, q) {
			if len(page) >= max(q.Max, 1) {
				return page, strconv.Itoa(i) + ":" + string(page[len(page)-1].Client), nil
			}
			if st, ok := ss.status(q); ok {
				page = append(page, st)
			}
		}
		after = ""
		if len(page) >= max(q.Max, 1) && i+1 < sessionShards {
			return page, strconv.Itoa(i+1) + ":", nil
		}
	}
	return page, "", nil
}

// selected returns the sessions of a shard that come after a client, sorted.
func (s *state) selected(shard int, after string, q backend.SessionQuery) []*session {
	sh := &s.shards[shard]
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	var list []*session
	for id, ss := range sh.sessions {
		if string(id) > after && strings.Contains(string(id), q.Contains) {
			list = append(list, ss)
		}
	}
	slices.SortFunc(list, func(a, b *session) int { return cmp.Compare(a.Client, b.Client) })
	return list
}

// status describes the session, unless it has ended or is not asked for.
func (ss *session) status(q backend.SessionQuery) (st backend.SessionStatus, ok bool) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	st = backend.SessionStatus{
		Client: ss.Client, Epoch: ss.epoch, Principal: ss.principal, Durable: ss.Durable, Expiry: ss.expiry,
		Subscriptions: len(ss.subs.list), Backlog: int64(ss.inbox.live), Will: ss.will != nil,
	}
	if ss.node != nil {
		st.Node = ss.node.ID
	}
	switch {
	case ss.ended, q.Node != "" && st.Node != q.Node, q.Attached && ss.node == nil, q.Detached && ss.node != nil:
		return st, false
	}
	return st, true
}

// DescribeSession implements [backend.Directory].
func (s *Store) DescribeSession(ctx context.Context, c backend.ClientID, most int) (*backend.SessionStatus, []backend.Subscription, error) {
	if err := s.enter(ctx); err != nil {
		return nil, nil, err
	}
	ss := s.find(c)
	if ss == nil {
		return nil, nil, nil
	}
	st, ok := ss.status(backend.SessionQuery{})
	if !ok {
		return nil, nil, nil
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.node == nil && ss.endAt != never {
		st.Ends = time.Now().Add(ss.endAt - s.now())
	}
	subs := slices.Clone(ss.subs.list[:min(len(ss.subs.list), most)])
	return &st, subs, nil
}

// Subscribers implements [backend.Directory].
func (s *Store) Subscribers(ctx context.Context, topic string, most int) (found []backend.Subscriber, more bool, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, false, err
	}
	matches := s.index.Match(topic)
	if matches == nil {
		return nil, false, nil
	}
	for i := range matches.Sessions {
		if len(found) == most {
			return found, true, nil
		}
		m := &matches.Sessions[i]
		found = append(found, subscriber(m.Session, m.QoS(), m.Session.Value.(*session).filters(topic)))
	}
	for _, g := range matches.Groups {
		for _, m := range g.Members(most + 1) {
			if len(found) == most {
				return found, true, nil
			}
			found = append(found, subscriber(m.Session, m.QoS, []string{g.Name}))
		}
	}
	return found, false, nil
}

func subscriber(s *index.Session, qos byte, filters []string) backend.Subscriber {
	sub := backend.Subscriber{Client: s.Client, QoS: qos, Filters: filters}
	if c := s.Conn(); c != nil {
		sub.Node = c.Node
	}
	return sub
}

// filters returns those that match a topic, shared ones left out.
func (ss *session) filters(topic string) (found []string) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for _, sub := range ss.subs.list {
		if _, _, shared := index.Shared(sub.Filter); !shared && index.Covers(sub.Filter, topic) {
			found = append(found, sub.Filter)
		}
	}
	return found
}
