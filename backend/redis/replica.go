package redis

import (
	"sync"
	"sync/atomic"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/index"
)

// replica is this gateway's copy of what decides who gets a message: the
// subscriptions of durable sessions, and members of shared groups with their
// connections. It follows the changes of all gateways.
type replica struct {
	store *Store
	index *index.Index

	// applied is how many changes of the cluster are certainly in, of the data
	// with this identity; empty is none.
	applied atomic.Uint64
	data    atomic.Pointer[string]

	// durable is how many of the records are of sessions with an inbox.
	durable atomic.Int64

	mu      sync.Mutex // taken by who changes the index and what follows
	records map[backend.ClientID]*record
	read    [indexBuckets]uint64 // the last change of each bucket
	loading indexLoad
}

// record is a session in the index; its Value is the record itself.
type record struct {
	index.Session
	ver     uint64 // guarded by replica.mu, as are filters
	filters []string
	// place is where the inbox is. It is stored after what it belongs to is
	// in the index: who has read it and then finds the index unchanged, or the
	// connection, knows that they go together. Nil when the session has gone.
	place atomic.Pointer[place]

	// What is in the inbox, as the last append has found it, for a guess
	// whether one more will fit.
	held, average atomic.Int64
}

// place is the name of an inbox at one version of its session.
type place struct{ key string }

func newReplica(s *Store) *replica {
	r := &replica{
		store:   s,
		index:   index.New(index.Options{Strategy: s.options.ShareStrategy}),
		records: make(map[backend.ClientID]*record),
	}
	r.data.Store(new(string))
	return r
}

// apply brings a change into the index. It returns false if it does not follow
// on what is known of the session, which then must be read whole. The lock is
// held.
func (r *replica) apply(c *change) bool {
	rec := r.records[c.client]
	if rec != nil && c.ver <= rec.ver {
		return true // known already
	}
	switch {
	case c.gone:
		r.remove(rec)
		return true
	case c.whole, rec == nil && c.prev == 0:
	case rec == nil || rec.ver != c.prev:
		return false
	}
	if rec != nil && (c.durable != rec.Durable || c.prev == 0 && !c.whole) {
		r.remove(rec) // that was another session
		rec = nil
	}
	if rec == nil {
		rec = &record{Session: index.Session{Client: c.client, Durable: c.durable}}
		rec.Value = rec
		r.records[c.client] = rec
		if rec.Durable {
			r.durable.Add(1)
		}
	}
	if c.whole {
		r.keepOnly(rec, c.set)
	}
	for _, filter := range c.deleted {
		r.unsubscribe(rec, filter)
	}
	for _, sub := range c.set {
		r.subscribe(rec, sub)
	}
	r.connect(rec, c)
	rec.ver = c.ver
	if len(rec.filters) == 0 && !rec.Durable {
		r.remove(rec)
		return true
	}
	rec.place.Store(&place{r.store.keys.session(c.client).inbox(c.box)})
	return true
}

// subscribe adds a subscription that is for the index: what is not shared
// reaches an ephemeral session live.
func (r *replica) subscribe(rec *record, sub backend.Subscription) {
	if _, _, shared := index.Shared(sub.Filter); !shared && !rec.Durable {
		return
	}
	if !contains(rec.filters, sub.Filter) {
		rec.filters = append(rec.filters, sub.Filter)
	}
	r.index.Subscribe(&rec.Session, sub)
}

func (r *replica) unsubscribe(rec *record, filter string) {
	for i, f := range rec.filters {
		if f == filter {
			last := len(rec.filters) - 1
			rec.filters[i] = rec.filters[last]
			rec.filters[last] = ""
			rec.filters = rec.filters[:last]
			r.index.Unsubscribe(&rec.Session, filter)
			return
		}
	}
}

// keepOnly ends the subscriptions that are not among subs.
func (r *replica) keepOnly(rec *record, subs []backend.Subscription) {
	stays := make(map[string]struct{}, len(subs))
	for _, sub := range subs {
		stays[sub.Filter] = struct{}{}
	}
	for i := len(rec.filters) - 1; i >= 0; i-- {
		if _, ok := stays[rec.filters[i]]; !ok {
			r.unsubscribe(rec, rec.filters[i])
		}
	}
}

// connect makes the connection of a record that of a change.
func (r *replica) connect(rec *record, c *change) {
	has := rec.Conn()
	switch {
	case c.node == "":
		if has != nil {
			r.index.Detach(&rec.Session)
		}
	case has == nil || has.Node != c.node || has.Epoch != c.epoch:
		conn := &index.Conn{Node: c.node, Epoch: c.epoch}
		if n := r.store.node(c.node); n != nil {
			conn.Load = n.Load
		}
		r.index.Attach(&rec.Session, conn)
	}
}

// remove takes a session out of the index; nil is none.
func (r *replica) remove(rec *record) {
	if rec == nil {
		return
	}
	r.index.Detach(&rec.Session)
	for _, filter := range rec.filters {
		r.index.Unsubscribe(&rec.Session, filter)
	}
	rec.filters = nil
	rec.place.Store(nil)
	if r.records[rec.Client] == rec && rec.Durable {
		r.durable.Add(-1)
	}
	delete(r.records, rec.Client)
}

func contains(list []string, text string) bool {
	for _, t := range list {
		if t == text {
			return true
		}
	}
	return false
}

// lookUp returns the record of a client with its version, nil if there is
// none.
func (r *replica) lookUp(c backend.ClientID) (rec *record, ver uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec = r.records[c]
	if rec == nil {
		return nil, 0
	}
	return rec, rec.ver
}
