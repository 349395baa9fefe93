package gateway

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// Options configure a [Gateway]. The zero value of each field means its
// default; [New] checks them and reports every problem at once.
type Options struct {
	// Store keeps sessions, inboxes and retained messages. Required.
	Store backend.Store
	// Backend carries messages to the other gateways. Required.
	Backend backend.Backend
	// ID names this run of this gateway; no two live gateways share one.
	// Default: random.
	ID backend.NodeID
	// Version is what $SYS/broker/version says after the project's name.
	Version string
	// Listeners to open in Start. None is fine for a program that hands over
	// its own connections with ServeConn.
	Listeners []Listener
	// Logger for everything. Default: slog.Default().
	Logger *slog.Logger

	// Authenticator decides who may connect. Default: everybody.
	Authenticator Authenticator
	// Enhanced are the authentication methods of MQTT 5 §4.12, by name.
	Enhanced map[string]EnhancedAuthenticator
	// Authorizer decides who may publish, subscribe and receive what.
	// Default: everybody everything.
	Authorizer Authorizer
	// Observer is told of events. Default: none.
	Observer Observer
	// Forwarder is given what is published, for others than MQTT clients.
	// Default: none.
	Forwarder Forwarder
	// Tracer is told how long things took. Default: none.
	Tracer Tracer

	// TrustedProxies are the networks whose X-Forwarded-For headers, in
	// WebSocket requests, are believed. Default: none.
	TrustedProxies []netip.Prefix

	// ProxyProtocolFrom are the networks of balancers that begin each
	// connection to a listener on TCP with a header of the PROXY protocol,
	// version 1 or 2, which tells the address of their client. From there it
	// must come, within 5 s, before TLS; from anywhere else none is taken.
	// Default: none.
	ProxyProtocolFrom []netip.Prefix

	Limits Limits
	Timing Timing

	// ServerReference is told to MQTT 5 clients that are sent away when the
	// gateway shuts down (with reason code 0x9C). Empty: 0x8B without one.
	ServerReference string
	// ResponseInformation is returned in CONNACK to clients that ask for it
	// [MQTT-3.1.2-28]; the client's identifier is appended. Empty: none.
	ResponseInformation string
	// GapPolicy says what happens to sessions without an inbox when the bus
	// may have lost messages for them. Default: count.
	GapPolicy GapPolicy
	// DeniedPublish says how a PUBLISH is answered that is not allowed and
	// that the protocol version has no reason code for. Default: drop.
	DeniedPublish DeniedPolicy
	// DollarPublish allows clients to publish to topics that begin with '$',
	// other than $SYS. Default: false.
	DollarPublish bool
}

// Listener is an address to accept connections on.
type Listener struct {
	// Name appears in logs, events and authentication requests.
	Name string
	// Network is tcp, the default, or unix.
	Network Network
	// Address is host:port, for a unix socket its path.
	Address string
	// Mode of a unix socket. Default 0660.
	Mode fs.FileMode
	// TLS is spoken if it is not nil, below WebSocket too.
	TLS *TLSOptions
	// WebSocket: MQTT over WebSocket (MQTT 5 §6) on these paths; "*" is
	// any. Empty: plain TCP.
	WebSocketPaths []string
	// Origins allowed for WebSocket; empty or "*" is any. Requests without
	// an Origin header do not come from a browser and are let in.
	Origins []string
}

// Network is what a [Listener] listens on.
type Network string

const (
	NetworkTCP  Network = "tcp"
	NetworkUnix Network = "unix"
)

// GapPolicy is what happens to sessions without an inbox after a gap.
type GapPolicy string

// DeniedPolicy is what happens to a client whose PUBLISH is refused.
type DeniedPolicy string

const (
	GapCount      GapPolicy = "count"
	GapDisconnect GapPolicy = "disconnect"

	DeniedDrop       DeniedPolicy = "drop"
	DeniedDisconnect DeniedPolicy = "disconnect"
)

// Limits bound what clients can ask for. In fields that are not said to have
// a special value, 0 is the default.
type Limits struct {
	// Connections at one time. Default 50,000.
	Connections int
	// AddressConnections: connections at one time from one address, or from
	// one /64 network of IPv6. Default: any number, as behind a balancer that
	// does not tell them apart all clients have one address.
	AddressConnections int
	// AcceptRate: connections accepted in one second, twice as many after a
	// calm time; more wait in the system's queue. Default: no limit.
	AcceptRate int
	// AddressRate: the same from one address; more are closed at once, before
	// TLS. Default: no limit, for the same reason.
	AddressRate int
	// ConnectRate: CONNECTs in one second, twice as many after a calm time.
	// More wait for their turn, up to half of the time to connect, and are
	// refused then (0x9F), before they are authenticated. Default 1,000;
	// negative: no limit.
	ConnectRate int
	// Flaps: how often in a minute a client may disconnect before it is kept
	// out (0x9F) for FlapBan, by default a minute. Default: any number.
	Flaps   int
	FlapBan time.Duration
	// PublishRate and PublishBytes: publishes and bytes of packets that one
	// client may send in one second. More stay in its socket until they may
	// come; nothing is lost. Default: no limit.
	PublishRate  int
	PublishBytes int64
	// Handshakes of TLS that are computed at one time; those that wait for
	// their client do not count. Default: half of the processors, so that a
	// storm of new clients leaves the other half to those that are there.
	Handshakes int
	// PacketSize is the largest packet taken after CONNECT, in bytes, header
	// included; announced as Maximum Packet Size. Default 512 KiB.
	PacketSize uint32
	// ConnectPacketSize is the largest packet taken before CONNACK, in bytes.
	// Default 192 KiB: a client identifier, a user name and a password of the
	// greatest length fit. Memory is taken as the bytes come.
	ConnectPacketSize uint32
	// TopicLength of names and filters, in bytes. Default 65,535.
	TopicLength int
	// TopicLevels of names and filters. Default 64.
	TopicLevels int
	// Subscriptions of one session. Default 1,000; negative: any number.
	Subscriptions int
	// ReceiveMaximum: QoS 1 and 2 publishes under way from a client. Default
	// 1,024. Only MQTT 5 clients can be told and held to it.
	ReceiveMaximum uint16
	// InFlight: QoS 1 and 2 publishes under way to a client; the client's
	// own Receive Maximum may lower it. Default 256.
	InFlight uint16
	// TopicAliases that a client may define. Default 32; negative: none.
	TopicAliases int
	// TopicAliasesOut that the gateway defines, if the client allows it.
	// Default 32; negative: none.
	TopicAliasesOut int
	// OutboxBytes: encoded bytes that wait for a slow socket. More QoS 0
	// messages are dropped; anything else closes it. Default 1 MiB.
	OutboxBytes int
	// OutboxMessages: QoS 1 and 2 messages of an ephemeral session that wait
	// for its client. Newer ones are dropped. Default 1,000.
	OutboxMessages int
	// KeepAlive is the longest accepted, and what a client without one gets:
	// MQTT 5 clients are told [MQTT-3.1.2-21], others are held to their own.
	// Default 5 min; negative: any.
	KeepAlive time.Duration
	// SessionExpiry caps the session expiry interval of MQTT 5 clients, in
	// seconds. Default: none.
	SessionExpiry uint32
	// SessionExpiryV3 is the session expiry of clients of MQTT 3 with clean
	// session 0, in seconds. Default 7 days.
	SessionExpiryV3 uint32
	// MessageExpiry caps the message expiry interval of publishes, in
	// seconds, and is given to those without one. Default: none.
	MessageExpiry uint32
	// WillDelay caps the will delay interval, in seconds. Default 1 day.
	WillDelay uint32

	// MaximumQoS granted and taken. Nil is 2.
	MaximumQoS *byte
	// The features that a server may do without (MQTT 5 §3.2.2.3).
	NoRetain, NoWildcards, NoSubscriptionIDs, NoShared bool
}

// Timing holds the durations; 0 is the default of each.
type Timing struct {
	// Connect: from accept to CONNACK, all in. Default 10 s.
	Connect time.Duration
	// Write: how long a client may leave its socket full. Default 10 s.
	Write time.Duration
	// Lease of the gateway in the store, renewed every third. Default 15 s.
	Lease time.Duration
	// Drain: how long Shutdown spreads the disconnections over. Default 20 s;
	// negative: none.
	Drain time.Duration
	// DrainDelay: from 'not ready' to the first refusal, so that balancers
	// notice. Default 0.
	DrainDelay time.Duration
	// Store: one call to the store or the bus. Default 2 s.
	Store time.Duration
	// Hold: how long a publish that can not be stored holds its connection
	// before it is closed. Default 5 s.
	Hold time.Duration
	// Poll: how often inboxes are looked into while notices may be getting
	// lost; a gateway that is not heard for so long is missed. Default 5 s.
	Poll time.Duration
	// Certificates: between two looks at the certificate files, and so the
	// most that a renewed certificate waits. Default 10 s; negative: no look.
	Certificates time.Duration
	// Sys: between two publications of the $SYS topics. Default 10 s;
	// negative: never.
	Sys time.Duration
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// withDefaults returns o completed, or everything that is wrong with it.
func (o Options) withDefaults() (Options, error) {
	var errs []error
	bad := func(field string, value any, allowed string) {
		errs = append(errs, &ConfigError{Field: field, Value: fmt.Sprint(value), Allowed: allowed})
	}
	if o.Store == nil {
		bad("Store", "nil", "a backend.Store")
	}
	if o.Backend == nil {
		bad("Backend", "nil", "a backend.Backend")
	}
	if o.ID == "" {
		var b [8]byte
		rand.Read(b[:])
		o.ID = backend.NodeID(hex.EncodeToString(b[:]))
	}
	orDefault(&o.Version, "dev")
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	orDefault(&o.GapPolicy, GapCount)
	if o.GapPolicy != GapCount && o.GapPolicy != GapDisconnect {
		bad("GapPolicy", o.GapPolicy, "count, disconnect")
	}
	orDefault(&o.DeniedPublish, DeniedDrop)
	if o.DeniedPublish != DeniedDrop && o.DeniedPublish != DeniedDisconnect {
		bad("DeniedPublish", o.DeniedPublish, "drop, disconnect")
	}
	names := map[string]bool{}
	for i, l := range o.Listeners {
		if l.Name == "" || names[l.Name] {
			bad(fmt.Sprintf("Listeners[%d].Name", i), l.Name, "a name of its own")
		}
		names[l.Name] = true
		orDefault(&o.Listeners[i].Network, NetworkTCP)
		orDefault(&o.Listeners[i].Mode, 0o660)
		if n := o.Listeners[i].Network; n != NetworkTCP && n != NetworkUnix {
			bad(fmt.Sprintf("Listeners[%d].Network", i), n, "tcp, unix")
		}
		if l.TLS != nil && !slices.ContainsFunc(o.Listeners[:i], func(p Listener) bool { return p.TLS == l.TLS }) {
			l.TLS.check(bad)
		}
	}
	o.Limits.check(bad)
	o.Timing.check(bad)
	return o, errors.Join(errs...)
}

func (l *Limits) check(bad func(field string, value any, allowed string)) {
	orDefault(&l.Connections, 50_000)
	orDefault(&l.ConnectRate, 1000)
	orDefault(&l.FlapBan, time.Minute)
	orDefault(&l.Handshakes, max(1, runtime.GOMAXPROCS(0)/2))
	orDefault(&l.PacketSize, 512<<10)
	orDefault(&l.ConnectPacketSize, 192<<10)
	orDefault(&l.TopicLength, 65_535)
	orDefault(&l.TopicLevels, 64)
	orDefault(&l.Subscriptions, 1000)
	orDefault(&l.ReceiveMaximum, 1024)
	orDefault(&l.InFlight, 256)
	orDefault(&l.TopicAliases, 32)
	orDefault(&l.TopicAliasesOut, 32)
	orDefault(&l.OutboxBytes, 1<<20)
	orDefault(&l.OutboxMessages, 1000)
	orDefault(&l.KeepAlive, 5*time.Minute)
	orDefault(&l.SessionExpiry, backend.NeverExpires)
	orDefault(&l.SessionExpiryV3, 7*24*3600)
	orDefault(&l.WillDelay, 24*3600)
	if l.Connections < 0 {
		bad("Limits.Connections", l.Connections, "1 or more")
	}
	if l.Handshakes < 0 {
		bad("Limits.Handshakes", l.Handshakes, "1 or more")
	}
	if l.PacketSize < 256 || l.PacketSize > 268_435_460 {
		bad("Limits.PacketSize", l.PacketSize, "256 to 268435460")
	}
	if l.ConnectPacketSize < 256 || l.ConnectPacketSize > 268_435_460 {
		bad("Limits.ConnectPacketSize", l.ConnectPacketSize, "256 to 268435460")
	}
	if l.TopicLength < 1 || l.TopicLength > 65_535 {
		bad("Limits.TopicLength", l.TopicLength, "1 to 65535")
	}
	if l.TopicLevels < 1 || l.TopicLevels > 65_536 {
		bad("Limits.TopicLevels", l.TopicLevels, "1 to 65536")
	}
	if l.TopicAliases > 65_535 {
		bad("Limits.TopicAliases", l.TopicAliases, "-1 to 65535")
	}
	if l.TopicAliasesOut > 65_535 {
		bad("Limits.TopicAliasesOut", l.TopicAliasesOut, "-1 to 65535")
	}
	if l.OutboxBytes < 4096 {
		bad("Limits.OutboxBytes", l.OutboxBytes, "4096 or more")
	}
	if l.OutboxMessages < 1 {
		bad("Limits.OutboxMessages", l.OutboxMessages, "1 or more")
	}
	if l.MaximumQoS != nil && *l.MaximumQoS > 2 {
		bad("Limits.MaximumQoS", *l.MaximumQoS, "0, 1, 2")
	}
	if l.KeepAlive > 65_535*time.Second || (l.KeepAlive > 0 && l.KeepAlive < time.Second) {
		bad("Limits.KeepAlive", l.KeepAlive, "1s to 65535s, or negative")
	}
}

func (t *Timing) check(bad func(field string, value any, allowed string)) {
	for _, d := range []struct {
		name     string
		v        *time.Duration
		def      time.Duration
		negative bool
	}{
		{"Connect", &t.Connect, 10 * time.Second, false},
		{"Write", &t.Write, 10 * time.Second, false},
		{"Lease", &t.Lease, 15 * time.Second, false},
		{"Drain", &t.Drain, 20 * time.Second, true},
		{"DrainDelay", &t.DrainDelay, 0, false},
		{"Store", &t.Store, 2 * time.Second, false},
		{"Hold", &t.Hold, 5 * time.Second, false},
		{"Poll", &t.Poll, 5 * time.Second, false},
		{"Certificates", &t.Certificates, 10 * time.Second, true},
		{"Sys", &t.Sys, 10 * time.Second, true},
	} {
		orDefault(d.v, d.def)
		if *d.v < 0 && !d.negative {
			bad("Timing."+d.name, *d.v, "a positive duration")
		}
	}
}
