package redis

import (
	"strconv"
	"sync/atomic"

	"github.com/sluice-mqtt/sluice/backend"
)

// approach is the way of a connection to its session, as far as it goes without
// its caller: the client is noted at the gateway, and its session looked for.
// One that ends with its connection is begun, if there is none: that is what
// most of those want that come by the thousand.
type approach struct {
	store  *Store
	node   *node
	r      backend.OpenRequest
	ticket string
	stage  stage
	step   [2]*call
	// claims is whether the session may be the connection's.
	claims atomic.Int32

	enlist, begin, look call
}

// What approach.claims can be.
const (
	notYet int32 = iota
	maybe        // before a call is sent that may have that effect
	gaveUp       // no such call is sent any more
)

type stage int

const (
	enlisting stage = iota
	beginning
	looking
	over
)

func (s *Store) approach(n *node, r backend.OpenRequest) *approach {
	return &approach{store: s, node: n, r: r, ticket: n.ticket()}
}

// next returns the calls of the next stage.
func (a *approach) next() []*call {
	switch a.stage {
	case enlisting:
		a.enlist = a.store.enlist(a.node, a.r.Client, a.ticket)
		if a.stage = beginning; a.r.Expiry != 0 {
			return a.lookUp(&a.enlist)
		}
		return append(a.step[:0], &a.enlist)
	case beginning:
		if a.stage = looking; a.enlist.reply.int(0) == 1 && a.claims.CompareAndSwap(notYet, maybe) {
			a.begin = a.store.beginSession(a.node, a.r, a.ticket)
			return append(a.step[:0], &a.begin)
		}
	case looking:
		if a.begin.reply.int(0) == 0 {
			return a.lookUp()
		}
	}
	a.stage = over
	return nil
}

// lookUp ends with a look at the session that there is.
func (a *approach) lookUp(calls ...*call) []*call {
	a.stage = over
	a.look = call{keys: []string{a.store.keys.session(a.r.Client).meta()}, args: seatArgs}
	return append(append(a.step[:0], calls...), &a.look)
}

// opened returns the session that was begun. Without one and without error
// there is one to claim.
func (a *approach) opened() (*backend.Opened, error) {
	epoch := a.begin.reply.int(0)
	switch {
	case a.enlist.reply.int(0) == 0 || epoch < 0:
		return nil, errFenced
	case epoch == 0:
		return nil, nil
	}
	raise(&a.store.epochs, uint64(epoch))
	a.store.seats.set(a.r.Client, seat{"", strconv.FormatInt(epoch, 10)})
	return &backend.Opened{
		Lease:       backend.Lease{Client: a.r.Client, Node: a.node.ID, Epoch: uint64(epoch)},
		Incarnation: uint64(epoch),
	}, nil
}

// beginSession makes a session that ends with its connection, if there is none.
func (s *Store) beginSession(n *node, r backend.OpenRequest, ticket string) call {
	will := willArgs(r.Will)
	return call{
		script: beginScript,
		keys:   []string{s.keys.session(r.Client).meta()},
		args:   []any{leastEpoch{s}, leaseEnd{n}, string(n.ID), 3 + len(will)},
		more:   append([]any{ticket, r.Principal, r.Window}, will...),
	}
}

// willArgs are what a script must know of a will: nothing without one, or its
// message, delay, message expiry, and whose it is.
func willArgs(w *backend.Will) []any {
	if w == nil {
		return nil
	}
	expiry := ""
	if w.MessageExpiry != nil {
		expiry = strconv.FormatUint(uint64(*w.MessageExpiry), 10)
	}
	return []any{backend.AppendMessage(nil, w.Message), w.Delay, expiry, w.Owner}
}

// leastEpoch is the least that an epoch may be, as an argument of a script: newer
// than all that were seen when it is sent.
type leastEpoch struct{ s *Store }

// MarshalBinary implements encoding.BinaryMarshaler, for go-redis.
func (e leastEpoch) MarshalBinary() ([]byte, error) {
	return strconv.AppendUint(nil, e.s.epochs.Load()+1, 10), nil
}
