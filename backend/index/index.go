// Package index answers which sessions get a message: the durable sessions
// with a matching subscription, each with its overlapping subscriptions merged
// into one delivery, and one member of each matching shared group.
//
// It holds subscriptions and who is connected, no messages. Stores use it; it
// decides nothing about what is kept.
package index

import (
	"strings"
	"sync"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/topictree"
)

// Options set up an Index.
type Options struct {
	// Strategy chooses among the members of shared groups.
	// Default: RoundRobin.
	Strategy Strategy

	// CachedTopics is for about how many topics the result of a match is
	// kept, memory allowing. Default: 65,536. Negative: none.
	CachedTopics int
}

// Index is safe for concurrent use, with one rule: calls that change the same
// Session are made one after the other.
type Index struct {
	strategy Strategy
	plain    *topictree.Tree[*Session, grant]
	shared   *topictree.Tree[*Group, struct{}] // by filter without "$share/group/"
	cache    cache
	merging  sync.Mutex // guards Session.slot of all sessions

	mu     sync.RWMutex // taken before any Group's lock
	groups map[string]*Group
}

// New returns an empty index.
func New(o Options) *Index {
	if o.CachedTopics == 0 {
		o.CachedTopics = 65_536
	}
	x := &Index{
		strategy: o.Strategy,
		plain:    topictree.New[*Session, grant](),
		shared:   topictree.New[*Group, struct{}](),
		groups:   make(map[string]*Group),
	}
	x.cache.init(o.CachedTopics)
	return x
}

// Session is a session as far as the index knows it. It is made by its store,
// which may keep what it likes in Value.
type Session struct {
	Client backend.ClientID
	// Durable sessions have an inbox, so that messages can wait for them.
	Durable bool
	Value   any

	conn    connection
	members []*member // of shared groups
	slot    uint32    // where a merge in progress has put the session
}

// grant is what a match has to know of a subscription.
type grant struct {
	id                uint32
	qos               byte
	noLocal           bool
	retainAsPublished bool
}

func grantOf(sub backend.Subscription) grant {
	return grant{sub.ID, sub.QoS, sub.NoLocal, sub.RetainAsPublished}
}

// Shared splits "$share/group/filter" [MQTT-4.8.2-1]; ok is false for a filter
// that is not shared.
func Shared(filter string) (group, rest string, ok bool) {
	s, ok := strings.CutPrefix(filter, "$share/")
	if !ok {
		return "", filter, false
	}
	return strings.Cut(s, "/")
}

// Subscribe adds or replaces a subscription. It takes part in every Match that
// begins after Subscribe has returned. The filter is kept.
func (x *Index) Subscribe(s *Session, sub backend.Subscription) {
	if _, rest, ok := Shared(sub.Filter); ok {
		x.join(s, sub.Filter, rest, grantOf(sub))
		return
	}
	x.plain.Set(sub.Filter, s, grantOf(sub))
}

// Unsubscribe removes a subscription and tells whether it was there. It takes
// part in no Match that begins after Unsubscribe has returned.
func (x *Index) Unsubscribe(s *Session, filter string) (existed bool) {
	if _, rest, ok := Shared(filter); ok {
		return x.leave(s, filter, rest)
	}
	return x.plain.Delete(filter, s)
}

// Group returns the shared group with the given name, which is the whole
// filter "$share/group/filter", or nil if it has no members.
func (x *Index) Group(name string) *Group {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.groups[name]
}

// Len returns the number of subscriptions that are not shared, and of shared
// groups.
func (x *Index) Len() (subscriptions, groups int) {
	_, subscriptions = x.plain.Len()
	groups, _ = x.shared.Len()
	return subscriptions, groups
}
