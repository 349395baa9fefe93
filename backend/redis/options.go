package redis

import (
	"crypto/tls"
	"log/slog"
	"math"
	"time"

	"github.com/sluice-mqtt/sluice/backend/index"
)

// Options set up a Store. All gateways of a cluster use the same ones. For
// each limit, 0 is the default and a negative number is none.
type Options struct {
	// URL says where Redis is:
	//
	//	redis://user:password@host:6379/0
	//	rediss://…                             with TLS
	//	unix:///run/redis.sock
	//	redis://host1:6379,host2:6379/         a cluster, as is ?cluster=true
	//	redis+sentinel://host1:26379,host2:26379/name-of-the-primary/0
	//
	// Query parameters: cluster; sentinel_username and sentinel_password;
	// tls=true for a Sentinel group; pool_size.
	// Default: redis://127.0.0.1:6379/0.
	URL string

	// Username and Password go before those of the URL.
	// Default: those of the URL.
	Username, Password string

	// TLS says how connections are encrypted, if URL says that they are. With
	// one host in URL the server's name is that one unless it is set here.
	// Default: the roots of the system, no certificate of our own.
	TLS *tls.Config

	// KeyPrefix is in front of every key. Two clusters of gateways on one
	// Redis need two. Default: "sluice:".
	KeyPrefix string

	// Bus says, in a few words, what carries messages between the gateways of
	// this cluster. Gateways with another one would not hear these, so that
	// New fails while such a gateway is alive on the same keys.
	// Default: not checked.
	Bus string

	// Logger hears of what is wrong with the service or the data.
	// Default: nothing is logged.
	Logger *slog.Logger

	// InboxMessages and InboxBytes bound what is not done in the inbox of one
	// session, and what waits in the queue of one shared group. Bytes are
	// those of the encoded entries. The bounds are soft by what is being
	// appended at the moment.
	// Default: 10,000 and 64 MiB.
	InboxMessages int
	InboxBytes    int64

	// InboxFull says which message goes when an inbox is full.
	// Default: DropNewest.
	InboxFull FullPolicy

	// Subscriptions bounds the subscriptions of one session.
	// Default: 1,000.
	Subscriptions int

	// RetainedMessages and RetainedBytes bound all retained messages.
	// Default: 1,000,000 and 1 GiB.
	RetainedMessages int
	RetainedBytes    int64

	// ShareStrategy chooses among the members of shared groups.
	// Default: index.RoundRobin.
	ShareStrategy index.Strategy

	// WaitReplicas is how many replicas must have what was appended before
	// Append returns. Not with a cluster.
	// Default: 0.
	WaitReplicas int

	// PoolSize is how many connections are used at most, to each server.
	// Default: 32.
	PoolSize int

	// patience is for how long one reply is waited for; 0 is replyTimeout.
	// Tests that are not about it have more, on a machine that is busy.
	patience time.Duration
}

// FullPolicy says which message goes when an inbox is full.
type FullPolicy uint8

const (
	// DropNewest refuses the new message.
	DropNewest FullPolicy = iota
	// DropOldest gives up the oldest messages that the client has not
	// answered.
	DropOldest
)

const (
	// replyTimeout is for how long one reply is waited for: a server that is
	// frozen is noticed within it, and a caller with two seconds can try
	// again.
	replyTimeout = time.Second
	dialTimeout  = 500 * time.Millisecond

	// callTimeout bounds a call whose context has no deadline.
	callTimeout = 5 * time.Second

	// tailInterval is how often a gateway that appends nothing looks for
	// changes of the index, and so how late a publish of QoS 0 may see a new
	// shared group of another gateway.
	tailInterval = 100 * time.Millisecond

	// logLength is how many changes of each bucket of the index are kept for
	// gateways that are behind; one that is further behind reads the bucket
	// anew.
	logLength = 4096
)

func (o *Options) setDefaults() {
	if o.URL == "" {
		o.URL = "redis://127.0.0.1:6379/0"
	}
	if o.KeyPrefix == "" {
		o.KeyPrefix = "sluice:"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.InboxMessages = limit(o.InboxMessages, 10_000)
	o.InboxBytes = limit(o.InboxBytes, 64<<20)
	o.Subscriptions = limit(o.Subscriptions, 1000)
	o.RetainedMessages = limit(o.RetainedMessages, 1_000_000)
	o.RetainedBytes = limit(o.RetainedBytes, 1<<30)
	if o.PoolSize <= 0 {
		o.PoolSize = 32
	}
}

// noLimit is out of reach, and a number that Lua has.
const noLimit = math.MaxInt32 << 16

// limit returns the limit that value stands for.
func limit[N int | int64](value, standard N) N {
	switch {
	case value == 0:
		return standard
	case value < 0:
		return noLimit
	default:
		return value
	}
}
