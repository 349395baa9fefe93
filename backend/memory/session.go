package memory

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/index"
)

// session is one incarnation of a client's session. What is not said to be
// otherwise is guarded by mu; what a lease depends on (epoch, node, ended) is
// changed only while shard.mu is held as well.
type session struct {
	index.Session // Value is the session itself
	incarnation   uint64
	principal     string
	receipts      atomic.Pointer[receipts] // nil until there is a QoS 2 publish

	mu    sync.Mutex
	ended bool

	epoch  uint64
	node   *node // nil: detached
	expiry uint32
	will   *backend.Will
	// When the will is due and when the session ends, if it is detached.
	willAt, endAt time.Duration

	subs subscriptions
	// withdrawn is the generation of the index after the last Unsubscribe:
	// older matches may find the session in vain.
	withdrawn uint64
	replays   []backend.Replay
	inbox     inbox
	// sent is the newest entry that may have been sent on an earlier
	// connection.
	sent uint64
	// window is how many entries the connection may have sent that are not
	// done; 0 is any number.
	window uint16

	timer timer // guarded by timers.mu
}

// never is a time that does not come.
const never = time.Duration(1<<63 - 1)

// departure is how a connection ended.
type departure struct {
	at       time.Duration
	keepWill bool
	released bool   // by its gateway, so that sent is known
	sent     uint64 // the newest entry that was sent
}

func (ss *session) heldBy(l backend.Lease, now time.Duration) bool {
	return !ss.ended && ss.node != nil && ss.epoch == l.Epoch && ss.node.ID == l.Node && ss.node.alive(now)
}

func (ss *session) lease() backend.Lease {
	return backend.Lease{Client: ss.Client, Node: ss.node.ID, Epoch: ss.epoch}
}

// attach gives the session to a connection at n, which has it among its own
// already.
func (s *state) attach(ss *session, n *node, r backend.OpenRequest) {
	ss.epoch = s.epochs.Add(1)
	ss.node = n
	ss.expiry = r.Expiry
	ss.window = r.Window
	ss.will = cloneWill(r.Will)
	s.index.Attach(&ss.Session, &index.Conn{Node: n.ID, Epoch: ss.epoch, Load: n.Load})
}

// detach takes the session from its connection and ends it if it is not to
// outlive that. Chores that come of it are added to claimed for the caller, or
// left to Due if that is nil. The session's shard is held.
func (s *state) detach(ss *session, d departure, claimed *[]backend.Chore) {
	ss.node.detach(ss)
	ss.node = nil
	s.index.Detach(&ss.Session)
	ss.noteSent(d.released, d.sent)
	if !d.keepWill {
		ss.will = nil
	}
	if !ss.Durable || ss.expiry == 0 {
		s.end(ss, claimed)
		return
	}
	if ss.will != nil && ss.will.Delay == 0 {
		s.fireWill(ss, claimed)
	}
	s.requeue(ss, unacknowledged, claimed)
	ss.willAt, ss.endAt = never, never
	if ss.will != nil {
		ss.willAt = d.at + seconds(ss.will.Delay)
	}
	if ss.expiry != backend.NeverExpires {
		ss.endAt = d.at + seconds(ss.expiry)
	}
	s.timers.set(ss, min(ss.willAt, ss.endAt))
}

// noteSent moves the mark of what has certainly never been sent. A connection
// that was lost may have sent everything that its window allowed: of the
// entries from the front so many that were not done, and those that were done
// among them.
func (ss *session) noteSent(known bool, sent uint64) {
	if known {
		ss.inbox.reach(sent)
	} else {
		sent = ss.inbox.last()
		if ss.window != 0 {
			b := &ss.inbox
			sent = b.base + uint64(ss.window) + uint64(b.n-b.live)
		}
	}
	ss.sent = min(max(ss.sent, sent), ss.inbox.last())
	ss.inbox.keep = ss.sent
}

// takeOver fences the connection that the session has, if any, for one that
// resumes it; it returns its lease.
func (s *state) takeOver(ss *session, claimed *[]backend.Chore) (previous backend.Lease) {
	if ss.node == nil {
		// A will whose delay has not passed is not published
		// [MQTT-3.1.3-9].
		s.timers.remove(ss)
		return backend.Lease{}
	}
	previous = ss.lease()
	ss.noteSent(false, 0)
	if ss.will != nil && ss.will.Delay == 0 {
		s.fireWill(ss, claimed)
	}
	return previous
}

// end ends the session, attached or not, with its will. The session's shard
// is held.
func (s *state) end(ss *session, claimed *[]backend.Chore) {
	if ss.node != nil {
		ss.node.detach(ss)
		ss.node = nil
		s.index.Detach(&ss.Session)
		ss.noteSent(false, 0)
	}
	s.timers.remove(ss)
	s.fireWill(ss, claimed)
	s.requeue(ss, untaken, claimed)
	for _, sub := range ss.subs.list {
		s.index.Unsubscribe(&ss.Session, sub.Filter)
	}
	ss.ended = true
	if r := ss.receipts.Load(); r != nil {
		s.strangers.add(publisher{ss.Client, ss.incarnation}, r, s.now())
	}
	ss.subs, ss.replays, ss.inbox = subscriptions{}, nil, inbox{}
	delete(s.shard(ss.Client).sessions, ss.Client)
	s.chores.add(backend.Chore{Kind: backend.ChoreEnded, Client: ss.Client}, s.now(), claimed)
}

// settle does what is overdue for the session: it takes it from a gateway
// whose lease has ended, fires its will, ends it. The session's shard is held.
func (s *state) settle(ss *session, now time.Duration) {
	if ss.ended {
		return
	}
	if ss.node != nil {
		if ss.node.alive(now) {
			return
		}
		s.detach(ss, departure{at: time.Duration(ss.node.until.Load()), keepWill: true}, nil)
		if ss.ended {
			return
		}
	}
	if ss.endAt <= now {
		s.end(ss, nil)
		return
	}
	if ss.willAt <= now {
		s.fireWill(ss, nil)
		ss.willAt = never
	}
	s.timers.set(ss, min(ss.willAt, ss.endAt))
}

// fireWill makes a chore of the will, if there still is one: it fires once.
func (s *state) fireWill(ss *session, claimed *[]backend.Chore) {
	w := ss.will
	if w == nil {
		return
	}
	ss.will = nil
	m := *w.Message
	m.Expires = 0
	if w.MessageExpiry != nil {
		m.Expires = time.Now().Add(seconds(*w.MessageExpiry)).UnixMilli()
	}
	s.chores.add(backend.Chore{Kind: backend.ChoreWill, Client: ss.Client, Will: &m, Owner: w.Owner}, s.now(), claimed)
}

func cloneWill(w *backend.Will) *backend.Will {
	if w == nil {
		return nil
	}
	c := *w
	c.Message = w.Message.Clone()
	c.Owner = bytes.Clone(w.Owner)
	if w.MessageExpiry != nil {
		expiry := *w.MessageExpiry
		c.MessageExpiry = &expiry
	}
	return &c
}

func seconds(n uint32) time.Duration { return time.Duration(n) * time.Second }

// unacknowledged selects what another member of a shared group gets when the
// connection is gone: QoS 1. A message of QoS 2 stays with its member
// [MQTT-4.8.2-4].
func unacknowledged(e *item, _ bool) bool { return e.qos == 1 }

// untaken selects what another member gets when the session has ended: QoS 2
// only if it was never sent [MQTT-4.8.2-5].
func untaken(e *item, sent bool) bool { return e.qos == 1 || !sent }

// requeue moves selected entries, which came to the session as the member of
// a shared group and which the client has not answered, from the inbox to a
// chore. In the inbox they are done.
func (s *state) requeue(ss *session, selected func(e *item, sent bool) bool, claimed *[]backend.Chore) {
	var entries []backend.Entry
	b := &ss.inbox
	if b.shared == 0 {
		return
	}
	for seq := b.base + 1; seq <= b.last(); seq++ {
		e := b.at(seq)
		if e.state == backend.Pending && e.share != "" && selected(e, seq <= ss.sent) {
			entries = append(entries, e.entry(seq))
			b.finish(seq)
		}
	}
	b.trim()
	if len(entries) > 0 {
		s.chores.add(backend.Chore{Kind: backend.ChoreRequeue, Client: ss.Client, Entries: slices.Clip(entries)}, s.now(), claimed)
	}
}
