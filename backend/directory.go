package backend

import (
	"context"
	"time"
)

// Census is implemented by a [Store] that can count its sessions at little
// cost. It is for people to look at, not to decide on.
type Census interface {
	// CountSessions returns how many sessions there are, connected or not.
	CountSessions(ctx context.Context) (int64, error)
}

// Directory is implemented by a [Store] that lets people look at what it
// holds. Every call is bounded in what it reads and returns, whatever the
// store holds; none of them is on the path of a message.
type Directory interface {
	// ListNodes returns the gateways that have joined and have not left,
	// those whose lease has just ended included, in the order of their names.
	ListNodes(ctx context.Context) ([]NodeStatus, error)

	// ListSessions returns a page of sessions, in no particular order. A page
	// may be shorter or somewhat longer than asked for, even empty; only an
	// empty next says that there are no more. A session that is there from
	// the first page to the last is on one of them at least.
	ListSessions(ctx context.Context, q SessionQuery) (page []SessionStatus, next string, err error)

	// DescribeSession returns a session with up to max of its subscriptions;
	// nil without error if there is none.
	DescribeSession(ctx context.Context, c ClientID, max int) (*SessionStatus, []Subscription, error)

	// Subscribers returns up to max of those who get a QoS 1 message of a
	// topic by the store: durable sessions, and the members of shared groups.
	// The subscriptions of ephemeral sessions are known to their gateways
	// only, unless they are shared.
	Subscribers(ctx context.Context, topic string, max int) (found []Subscriber, more bool, err error)
}

// NodeStatus is a gateway as its store sees it.
type NodeStatus struct {
	ID NodeID
	// Left is what is left of its lease; negative if that has ended.
	Left time.Duration
	// Sessions are attached to it, ephemeral ones included.
	Sessions int64
}

// SessionQuery asks for a page of sessions.
type SessionQuery struct {
	// Cursor is the next of the page before; empty for the first. One that is
	// no cursor of this store begins anew.
	Cursor string
	// Max is about how many are wanted.
	Max int
	// Node, if not empty, selects the sessions attached to it.
	Node NodeID
	// Attached selects those that are attached to a gateway, Detached those
	// that are not; neither selects all.
	Attached, Detached bool
	// Contains selects by a part of the client identifier.
	Contains string
}

// SessionStatus is one session.
type SessionStatus struct {
	Client ClientID
	// Node is the gateway that it is attached to; empty if none.
	Node      NodeID
	Epoch     uint64
	Principal string
	Durable   bool
	// Expiry is the session expiry interval in seconds.
	Expiry uint32
	// Ends is when a session without connection expires; zero is never.
	Ends time.Time
	// Subscriptions is how many it has, shared ones included.
	Subscriptions int
	// Backlog is how many messages in its inbox are not acknowledged.
	Backlog int64
	// Will: it has one that has not been published.
	Will bool
}

// Subscriber is a session that gets a message of a topic.
type Subscriber struct {
	Client ClientID
	// Node that it is attached to; empty if none.
	Node NodeID
	// QoS is the highest that was granted.
	QoS byte
	// Filters of the subscriptions that match; those of a shared group begin
	// with "$share/", and one of the group's members gets the message.
	Filters []string
}

// BanKind says what a [Ban] is about.
type BanKind string

const (
	// BanClient bans a client identifier.
	BanClient BanKind = "client"
	// BanUser bans a user name, as it is given in CONNECT.
	BanUser BanKind = "user"
	// BanAddress bans an IP address, or a network in the form of RFC 4632
	// (192.0.2.0/24).
	BanAddress BanKind = "address"
)

// Ban keeps clients out of the whole cluster.
type Ban struct {
	Kind   BanKind
	Value  string
	Reason string
	// Since when, by the clock of the gateway that was asked for it, and
	// until when; zero is for ever.
	Since, Until time.Time
}

// MaxBans is how many bans a cluster may have: every gateway holds all of them
// in memory.
const MaxBans = 10_000

// Bans is implemented by a [Store] that keeps bans for the cluster.
type Bans interface {
	// BanRevision returns a number that changes with every change of the
	// bans, at little cost: gateways ask for it every other second.
	BanRevision(ctx context.Context) (uint64, error)

	// ListBans returns a page of bans and the cursor of the next, as
	// ListSessions does.
	ListBans(ctx context.Context, cursor string, max int) (page []Ban, next string, err error)

	// PutBan adds a ban, or replaces the one of the same kind and value.
	// [ErrFull] if there are [MaxBans].
	PutBan(ctx context.Context, b Ban) error

	// RemoveBan ends a ban and tells whether there was one.
	RemoveBan(ctx context.Context, kind BanKind, value string) (existed bool, err error)
}
