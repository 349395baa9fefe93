package memory

import (
	"context"
	"slices"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/index"
)

// subscriptions are those of one session, by filter.
type subscriptions struct {
	list []backend.Subscription
	at   map[string]int // in list; nil while the list is short
}

// shortList is up to how many subscriptions are searched one by one.
const shortList = 16

func (l *subscriptions) find(filter string) int {
	if l.at != nil {
		if i, ok := l.at[filter]; ok {
			return i
		}
		return -1
	}
	return slices.IndexFunc(l.list, func(s backend.Subscription) bool { return s.Filter == filter })
}

func (l *subscriptions) set(sub backend.Subscription) (existed bool) {
	if i := l.find(sub.Filter); i >= 0 {
		l.list[i] = sub
		return true
	}
	l.list = append(l.list, sub)
	if l.at != nil {
		l.at[sub.Filter] = len(l.list) - 1
	} else if len(l.list) > shortList {
		l.at = make(map[string]int, 2*shortList)
		for i, s := range l.list {
			l.at[s.Filter] = i
		}
	}
	return false
}

func (l *subscriptions) delete(filter string) (existed bool) {
	i := l.find(filter)
	if i < 0 {
		return false
	}
	last := len(l.list) - 1
	l.list[i] = l.list[last]
	l.list[last] = backend.Subscription{}
	l.list = l.list[:last]
	if l.at == nil {
		return true
	}
	delete(l.at, filter)
	if i < last {
		l.at[l.list[i].Filter] = i
	}
	if last <= shortList/2 {
		l.at, l.list = nil, slices.Clone(l.list)
	}
	return true
}

// growth is by how many subscriptions subs would make the session's more.
func (l *subscriptions) growth(subs []backend.Subscription) int {
	fresh := make(map[string]struct{}, len(subs))
	for _, sub := range subs {
		if l.find(sub.Filter) < 0 {
			fresh[sub.Filter] = struct{}{}
		}
	}
	return len(fresh)
}

// Subscribe implements [backend.Sessions].
func (s *Store) Subscribe(ctx context.Context, l backend.Lease, subs, replay []backend.Subscription) ([]bool, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	ss, err := s.hold(l)
	if err != nil {
		return nil, err
	}
	defer ss.mu.Unlock()
	if len(ss.subs.list)+len(subs) > s.options.Subscriptions &&
		len(ss.subs.list)+ss.subs.growth(subs) > s.options.Subscriptions {
		return nil, errFull
	}
	existed := make([]bool, len(subs))
	for i, sub := range subs {
		existed[i] = ss.subs.set(sub)
		// What is not shared reaches an ephemeral session live.
		if _, _, shared := index.Shared(sub.Filter); shared || ss.Durable {
			s.index.Subscribe(&ss.Session, sub)
		}
	}
	if ss.Durable {
		for _, sub := range replay {
			ss.endReplay(sub.Filter)
			ss.replays = append(ss.replays, backend.Replay{Subscription: sub})
		}
	}
	return existed, nil
}

// Unsubscribe implements [backend.Sessions].
func (s *Store) Unsubscribe(ctx context.Context, l backend.Lease, filters []string) ([]bool, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	ss, err := s.hold(l)
	if err != nil {
		return nil, err
	}
	defer ss.mu.Unlock()
	existed := make([]bool, len(filters))
	for i, filter := range filters {
		if existed[i] = ss.subs.delete(filter); existed[i] {
			s.index.Unsubscribe(&ss.Session, filter)
			ss.endReplay(filter)
		}
	}
	ss.withdrawn = s.index.Generation()
	return existed, nil
}

// Replayed implements [backend.Sessions]. A replay that is not known has been
// ended.
func (s *Store) Replayed(ctx context.Context, l backend.Lease, filter, after string, done bool) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	ss, err := s.hold(l)
	if err != nil {
		return err
	}
	defer ss.mu.Unlock()
	if done {
		ss.endReplay(filter)
		return nil
	}
	for i := range ss.replays {
		if ss.replays[i].Subscription.Filter == filter {
			ss.replays[i].After = after
		}
	}
	return nil
}

func (ss *session) endReplay(filter string) {
	ss.replays = slices.DeleteFunc(ss.replays, func(r backend.Replay) bool { return r.Subscription.Filter == filter })
	if len(ss.replays) == 0 {
		ss.replays = nil
	}
}
