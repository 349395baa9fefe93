package backend

import (
	"context"
	"io"
	"time"
)

// Store keeps what outlives a gateway. All methods may be called
// concurrently. Each returns [ErrUnavailable] within the context's deadline
// when the service does not answer, and returns at once for a cancelled
// context. Time is the store's own clock, never the caller's.
type Store interface {
	Nodes
	Sessions
	Inboxes
	Retained
	Chores
	io.Closer
}

// Clock is implemented by a [Store] whose clock is not that of the process. A
// gateway sets and reads [Message.Expires] by it, so that its own clock may be
// wrong by any amount, or jump.
type Clock interface {
	// Now returns the store's time as far as it is known, at once.
	Now() time.Time
}

// Nodes are the leases of gateways.
type Nodes interface {
	// Join registers a gateway with a lease of ttl. It comes before every
	// other call for that node.
	Join(ctx context.Context, n Node, ttl time.Duration) error

	// Renew extends the lease by the ttl of Join. It returns [ErrFenced] if
	// the lease had ended: the node's sessions may have been given away, so
	// the gateway drops all its connections and joins anew, under another
	// NodeID or, after Leave, under the same.
	//
	// The lease also ends when the service behind the store goes on with older
	// data than it has answered from: a replica that was behind was promoted,
	// or a server was started from an older disk. Then inboxes give sequences
	// out again that connections have read past. What is acknowledged from
	// then on is kept all the same: from the first call that reaches such a
	// service on, all calls under leases of that node return ErrFenced, except
	// Release.
	Renew(ctx context.Context, id NodeID) error

	// Leave ends the lease. Sessions that are still attached are detached
	// with their wills due, as if the gateway had died.
	Leave(ctx context.Context, id NodeID) error
}

// Node describes a gateway to the store.
type Node struct {
	ID NodeID
	// Load tells how many messages a client connected to this gateway has
	// still to take, for the choice of a member of a shared group; negative
	// if it can take none. It must not block and must not call the store.
	// Nil means that every client can always take more.
	Load func(ClientID) int
	// Fenced is called, if it is not nil, when the store finds by itself that
	// the node's lease has ended though it was renewed in time, because the
	// service behind it has lost what it had answered. Renew says so from then
	// on. It must not block and must not call the store.
	Fenced func()
}

// Lease is the right to change one session. It is valid until a newer one is
// given out for the same client; every call under an older one returns
// [ErrFenced] and changes nothing.
type Lease struct {
	Client ClientID
	Node   NodeID
	// Epoch grows with every Open of the client, for ever.
	Epoch uint64
}

// NeverExpires is the session expiry interval for a session that does not
// expire, in seconds [MQTT 5 §3.1.2.11.2].
const NeverExpires = 0xFFFFFFFF

// Will is what is published when a session's connection ends badly.
type Will struct {
	Message *Message
	// Delay in seconds between the end of the connection and the publication,
	// which the end of the session cuts short [MQTT-3.1.3-9].
	Delay uint32
	// MessageExpiry in seconds, counted from publication; nil is never.
	MessageExpiry *uint32
	// Owner is what the gateway notes of the client, so that whoever publishes
	// the will can ask whether it may. Opaque to drivers; see [Chore].
	Owner []byte
}

// OpenRequest asks for a session.
type OpenRequest struct {
	Client ClientID
	Node   NodeID
	// Principal is the identity that was authenticated. A session remembers
	// the one that made it; another gets [ErrNotOwner].
	Principal string
	// CleanStart drops a session that exists [MQTT-3.1.2-4].
	CleanStart bool
	// Expiry is the session expiry interval in seconds: 0 makes the session
	// ephemeral (it ends with its connection and has no inbox), anything
	// else durable.
	Expiry uint32
	Will   *Will
	// Window is how many inbox entries the caller will have sent at most, at
	// any time, that [Inboxes.Advance] has not recorded as done. From that the
	// store knows what may have been sent by a gateway that did not live to
	// say it (see Opened.Sent). 0 is any number.
	Window uint16
}

// Opened is what Open found and did.
type Opened struct {
	Lease Lease
	// Present: a session existed and was resumed.
	Present bool
	// Durable: the session has an inbox, because its expiry interval is above
	// 0, or was when it was made: one that is resumed with 0 keeps its inbox
	// until the connection ends, and the session with it.
	Durable bool
	// Incarnation is new for every session that is made, and the same for
	// every resumption of it.
	Incarnation uint64
	// Previous is the lease that was fenced by this one while its connection
	// was up; the caller tells Previous.Node. Zero if there was none.
	Previous Lease
	// Subscriptions of the resumed session.
	Subscriptions []Subscription
	// Base: every inbox entry up to it is done. Last is the newest entry.
	// Sent: entries above it have certainly never been sent to the client.
	Base, Last, Sent uint64
	// Received are the packet identifiers of QoS 2 publishes that were
	// appended and not yet forgotten, with their generation.
	Received map[uint16]uint32
	// Generations holds, for packet identifiers not in Received, how often
	// each was forgotten before, where that is not 0.
	Generations map[uint16]uint32
	// Replays are deliveries of retained messages that had not been finished.
	Replays []Replay
	// Due is work that this Open made due at once (the will of the fenced
	// connection, the end of a session), claimed by the caller, who carries
	// it out and calls Finish. If it dies, [Chores.Due] hands it out again.
	Due []Chore
}

// Replay is an unfinished delivery of retained messages for one filter.
type Replay struct {
	Subscription Subscription
	// After is the last topic that was delivered; empty is none.
	After string
}

// ReleaseRequest says how a connection ended.
type ReleaseRequest struct {
	// KeepWill: the will is to be published, after its delay.
	KeepWill bool
	// Expiry replaces the session's expiry interval; nil keeps it.
	Expiry *uint32
	// Sent is the newest inbox entry that was sent to the client. If the inbox
	// does not reach that far (the service behind the store has lost what came
	// last), it does from now on, with entries that are done: no sequence, and
	// no packet identifier, is given out again that the client may still
	// connect with another message.
	Sent uint64
}

// Standing is how things are with a lease that was given out.
type Standing struct {
	// Fenced: calls under the lease return [ErrFenced].
	Fenced bool
	// Last is the newest entry of the session's inbox; 0 if there is none, or
	// the lease is fenced.
	Last uint64
}

// Sessions are the clients' sessions.
type Sessions interface {
	// Open claims the session of a client under a new epoch and fences all
	// earlier ones; it makes the session where there is none. If two call at
	// once both return, one with the other as Previous.
	//
	// The will of a connection that is fenced while up becomes due: at once
	// if its delay is 0 or its session ends here, never if it has a delay
	// and the session is resumed before that has passed [MQTT-3.1.3-9].
	Open(ctx context.Context, r OpenRequest) (*Opened, error)

	// Subscribe adds or replaces subscriptions, all or none, and tells for
	// each whether it existed before. A durable session's subscriptions, and
	// every shared one, take part in Append of every gateway when it returns.
	// Subscriptions whose retained messages are to be delivered are named in
	// replay: for a durable session they come back as Opened.Replays until
	// Replayed says that they are finished. [ErrFull] if the session would
	// have too many.
	Subscribe(ctx context.Context, l Lease, subs []Subscription, replay []Subscription) (existed []bool, err error)

	// Unsubscribe removes subscriptions by filter and tells for each whether
	// it existed. Nothing published afterwards is matched to them; what is in
	// the inbox stays.
	Unsubscribe(ctx context.Context, l Lease, filters []string) (existed []bool, err error)

	// Replayed moves the mark of a replay to after, or ends it.
	Replayed(ctx context.Context, l Lease, filter, after string, done bool) error

	// Release detaches the session from its connection. An ephemeral session
	// ends. It returns work that became due at once, as [Opened].Due does.
	Release(ctx context.Context, l Lease, r ReleaseRequest) ([]Chore, error)

	// Review fills out[i] for leases[i]; out has their length. It is one call
	// for many sessions, and cheaper for each than any other: who may have
	// missed a notice finds out by it which sessions were lost and which
	// inboxes have more than was heard of.
	Review(ctx context.Context, leases []Lease, out []Standing) error

	// Destroy ends the session of a client, attached or not, as an operator
	// asks; the connection, if any, is returned as fenced. Its will is
	// treated as at any end of a session.
	Destroy(ctx context.Context, c ClientID) (previous Lease, due []Chore, err error)
}

// Progress is what has become of the entries of an inbox.
type Progress struct {
	// Base: all entries up to it are done and are removed. It never moves
	// back; a lower one than stored changes nothing. One above the newest
	// entry is of an inbox that was lost: [ErrFenced].
	Base uint64
	// Released entries were answered with PUBREC: from now on [Released].
	Released []uint64
	// Done entries above Base are done, though an older one is not.
	Done []uint64
}

// Target is one delivery that an append gave rise to.
type Target struct {
	Client ClientID
	// Node is the gateway to which the client is connected; empty if none,
	// in which case nobody needs to be told.
	Node NodeID
	// Epoch of the connection.
	Epoch uint64
	// Entry to deliver. With Seq 0 it is in no inbox: the client is an
	// ephemeral member that was chosen for a shared group.
	Entry Entry
}

// Append is the outcome of one message of [Inboxes.Append]. The caller reuses
// the slices.
type Append struct {
	// Duplicate: the message had been appended before in full, by its
	// identity. Whether it was routed to live sessions then nobody knows:
	// that is done again, as [Message.Again].
	Duplicate bool
	// Refused counts inboxes and groups that were full. The newest message
	// is refused, the others keep theirs.
	Refused int
	// Matched reports whether any durable or shared subscription matched.
	Matched bool
	Targets []Target
}

// Inboxes hold the messages of durable sessions, in the order of appending.
type Inboxes interface {
	// Append matches each message against the subscriptions of all durable
	// sessions and all shared groups of the cluster, puts it into the inbox
	// of each that is to get it with QoS 1 or 2, chooses the member for each
	// shared group, and fills out[i] for msgs[i]; out has the length of msgs.
	// Only messages with QoS 1 or 2 are put into inboxes; a message of QoS 0
	// is matched against shared groups only.
	//
	// When it returns nil everything is stored. Otherwise no message of the
	// batch may be acknowledged; repeating the call stores messages with an
	// identity once, others perhaps twice. Messages keep their order in every
	// inbox. Messages are borrowed; those in out are the store's own.
	Append(ctx context.Context, msgs []*Message, out []Append) error

	// Shares reports whether a message published to topic might go to a
	// shared group, from memory and without allocating: it is asked for every
	// QoS 0 publish, which needs Append only then. It may say yes in doubt.
	Shares(topic string) bool

	// Requeue gives messages that a departed member of a shared group had not
	// acknowledged to other members, as Append does for that group alone.
	// Entries carry Share. Those whose group has no member left are dropped.
	Requeue(ctx context.Context, from ClientID, entries []Entry, out []Append) error

	// Enqueue puts entries into the session's own inbox past its limit, in
	// order, and returns the sequence of the first: retained messages at the
	// pace of the client.
	Enqueue(ctx context.Context, l Lease, entries []Entry) (first uint64, err error)

	// Fetch returns up to max entries with a sequence above after, oldest
	// first, those that are done left out, and not more than about maxBytes
	// of messages, but at least one. More is false if nothing is left.
	Fetch(ctx context.Context, l Lease, after uint64, max, maxBytes int) (entries []Entry, more bool, err error)

	// Advance records progress.
	Advance(ctx context.Context, l Lease, p Progress) error

	// Forget ends QoS 2 publishes of this client: their packet identifiers
	// are free for new messages when it returns. PUBCOMP waits for it.
	Forget(ctx context.Context, l Lease, ids []uint16) error

	// TakeShared moves up to max messages that wait for a shared group, of
	// which the session is a member, to it: into its inbox if it is durable,
	// else into the returned entries, which have Seq 0. More is false if
	// nothing is left.
	TakeShared(ctx context.Context, l Lease, filter string, max int) (entries []Entry, more bool, err error)
}

// Retained are the retained messages.
type Retained interface {
	// Retain stores messages by topic, the last one wins; one without
	// payload removes [MQTT-3.3.1-6]. Messages are borrowed. [ErrFull] if a
	// limit does not allow one of them: then out of the batch only those
	// within the limits were stored.
	Retain(ctx context.Context, msgs []*Message) error

	// Match returns up to max retained messages that match filter and whose
	// topic is after the given one in the store's order, in that order.
	// More is false if nothing is left. The cost of a page does not grow
	// with what does not match. Wildcards at the first level do not match
	// topics that begin with '$' [MQTT-4.7.2-1].
	Match(ctx context.Context, filter, after string, max int) (page []*Message, more bool, err error)

	// RetainedStats returns how many retained messages there are and their
	// bytes.
	RetainedStats(ctx context.Context) (count, bytes int64, err error)
}

// ChoreKind says what is to be done.
type ChoreKind uint8

const (
	// ChoreWill: publish Will.
	ChoreWill ChoreKind = iota + 1
	// ChoreEnded: the session of Client has ended; tell observers.
	ChoreEnded
	// ChoreRequeue: give Entries of Client to other members of their groups.
	ChoreRequeue
)

// Chore is a piece of work that outlives the gateway that it was given to.
type Chore struct {
	ID     string
	Kind   ChoreKind
	Client ClientID
	// Will is complete: its Message.Expires is set as from publication. Owner is
	// that of the [Will].
	Will    *Message
	Owner   []byte
	Entries []Entry
}

// Chores are what must happen later, whether or not the gateway that knew of
// it lives.
type Chores interface {
	// Due hands up to max chores to node, which has [ChoreClaim] to finish
	// each before it is handed out again. It also detaches the sessions of
	// gateways whose lease has ended, and ends sessions that have expired.
	// Wait is how long until there may be more, at most a second or so.
	Due(ctx context.Context, node NodeID, max int) (due []Chore, wait time.Duration, err error)

	// Finish ends chores. Unknown ones are no error.
	Finish(ctx context.Context, done []Chore) error
}

// ChoreClaim is for how long a chore belongs to the gateway that it was handed
// to: long enough for a publication that waits for a busy store, short enough
// for a will to be 'within seconds'.
const ChoreClaim = 5 * time.Second
