package nats

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/backend/nats/subject"
)

// Options say where the bus is and what it may cost. The zero value is a
// server on this machine without authentication.
type Options struct {
	// URL of the servers, several separated by commas: nats://host:port,
	// tls://, ws:// or wss://, with user:password@ if need be. Servers of the
	// same NATS cluster are found from any one of them.
	// Default: nats://127.0.0.1:4222.
	URL string
	// SubjectPrefix is what all subjects begin with, one or more tokens. Two
	// clusters of gateways on one NATS need different ones.
	// Default: sluice.
	SubjectPrefix string
	// Cluster is anything that is the same for all gateways of a cluster and
	// different for others, such as the name of their store. What comes from
	// another cluster is counted, logged and dropped.
	Cluster string

	// User and Password, or Token, or CredentialsFile (a .creds file), or
	// NKeySeedFile: at most one of the four ways.
	User, Password  string
	Token           string
	CredentialsFile string
	NKeySeedFile    string
	// TLS makes every connection encrypted, and says how.
	// Default: encrypted if the server asks for it or the URL is tls:// or
	// wss://, with the roots of the system.
	TLS *tls.Config

	// MaxMessage is the largest size of a message, by [backend.Message.Size],
	// that has to cross. Start fails if the server's max_payload does not let
	// one pass with all that may be added to it, up to 256 KiB.
	// Default: what fits, which [Backend.MaxPayload] tells.
	MaxMessage int
	// QueueMessages and QueueBytes are how much may wait for the handler.
	// What comes on top is dropped, and one gap is reported.
	// Default: 16,384 messages, 16 MiB.
	QueueMessages, QueueBytes int

	// ConnectTimeout is for one attempt at one server.
	// Default: 2 s.
	ConnectTimeout time.Duration
	// PingInterval is between the pings of a connection; one whose last three
	// were not answered is left.
	// Default: 2 s.
	PingInterval time.Duration
	// ProbeInterval is between the messages that must come back.
	// Default: 5 s.
	ProbeInterval time.Duration

	// Logger hears of lost and remade connections.
	// Default: none.
	Logger *slog.Logger
}

const (
	defaultQueueMessages = 16384
	defaultQueueBytes    = 16 << 20
	defaultTimeout       = 2 * time.Second
	defaultPing          = 2 * time.Second
	defaultProbe         = 5 * time.Second
	// pingsOut unanswered pings end a connection with the next tick: a frozen
	// server is left after three intervals.
	pingsOut = 2
	// maxPrefix leaves most of a subject to the topic.
	maxPrefix = 128
)

func (o *Options) setDefaults() {
	if o.URL == "" {
		o.URL = natsgo.DefaultURL
	}
	if o.SubjectPrefix == "" {
		o.SubjectPrefix = "sluice"
	}
	orDefault(&o.QueueMessages, defaultQueueMessages)
	orDefault(&o.QueueBytes, defaultQueueBytes)
	orDefault(&o.ConnectTimeout, defaultTimeout)
	orDefault(&o.PingInterval, defaultPing)
	orDefault(&o.ProbeInterval, defaultProbe)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

func orDefault[T ~int | ~int64](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// validate returns all that is wrong, joined.
func (o *Options) validate() error {
	var wrong []error
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf("nats: "+format, args...)) }
	for _, s := range o.servers() {
		if err := checkURL(s); err != nil {
			bad("URL: %w", err)
		}
	}
	if len(o.SubjectPrefix) > maxPrefix {
		bad("SubjectPrefix has %d bytes; allowed are %d", len(o.SubjectPrefix), maxPrefix)
	}
	for token := range strings.SplitSeq(o.SubjectPrefix, ".") {
		if token == "" || string(subject.AppendToken(nil, token)) != token || strings.HasPrefix(token, "$") {
			bad("SubjectPrefix = %q: its parts, separated by dots, are not empty and have no space, *, >, %% and no $ in front", o.SubjectPrefix)
			break
		}
	}
	ways := 0
	for _, set := range []bool{o.User != "" || o.Password != "", o.Token != "", o.CredentialsFile != "", o.NKeySeedFile != ""} {
		if set {
			ways++
		}
	}
	if ways > 1 {
		bad("of User, Token, CredentialsFile and NKeySeedFile %d are set; allowed is one", ways)
	}
	for name, n := range map[string]int64{
		"MaxMessage": int64(o.MaxMessage), "QueueMessages": int64(o.QueueMessages), "QueueBytes": int64(o.QueueBytes),
		"ConnectTimeout": int64(o.ConnectTimeout), "PingInterval": int64(o.PingInterval), "ProbeInterval": int64(o.ProbeInterval),
	} {
		if n < 0 {
			bad("%s is negative", name)
		}
	}
	return errors.Join(wrong...)
}

func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil {
		// The error of Parse quotes all of it, the password included.
		return errors.New("can not be read; expected is nats://host:port")
	}
	switch u.Scheme {
	case "nats", "tls", "ws", "wss":
	default:
		return fmt.Errorf("scheme %q; allowed are nats, tls, ws and wss", u.Scheme)
	}
	if u.Hostname() == "" {
		return errors.New("no host; expected is nats://host:port")
	}
	return nil
}

// servers are the URLs of the option.
func (o *Options) servers() []string {
	var list []string
	for s := range strings.SplitSeq(o.URL, ",") {
		if s = strings.TrimSpace(s); s != "" {
			list = append(list, s)
		}
	}
	return list
}

// redacted is o.URL without what is secret in it.
func (o *Options) redacted() string {
	list := o.servers()
	for i, s := range list {
		if u, err := url.Parse(s); err == nil {
			u.User = nil
			list[i] = u.String()
		}
	}
	return strings.Join(list, ",")
}

// client returns the options of the library that all connections share.
func (o *Options) client() (natsgo.Options, error) {
	c := natsgo.GetDefaultOptions()
	c.Timeout = o.ConnectTimeout
	c.PingInterval = o.PingInterval
	c.MaxPingsOut = pingsOut
	// A write that does not end is an end of the connection, not a minute of
	// silence.
	c.FlusherTimeout = o.ConnectTimeout
	c.ReconnectOnFlusherError = true
	c.IgnoreAuthErrorAbort = true
	c.SkipSubjectValidation = true // subjects are escaped
	c.User, c.Password, c.Token = o.User, o.Password, o.Token
	// Servers that are found later have URLs without credentials.
	for _, s := range o.servers() {
		if u, err := url.Parse(s); err == nil && u.User != nil && c.User == "" && c.Token == "" {
			if password, ok := u.User.Password(); ok {
				c.User, c.Password = u.User.Username(), password
			} else {
				c.Token = u.User.Username()
			}
		}
	}
	c.TLSConfig, c.Secure = o.TLS, o.TLS != nil
	var use natsgo.Option
	switch {
	case o.CredentialsFile != "":
		if _, err := os.Stat(o.CredentialsFile); err != nil {
			return c, fmt.Errorf("nats: CredentialsFile: %w", err)
		}
		use = natsgo.UserCredentials(o.CredentialsFile)
	case o.NKeySeedFile != "":
		var err error
		if use, err = natsgo.NkeyOptionFromSeed(o.NKeySeedFile); err != nil {
			return c, fmt.Errorf("nats: NKeySeedFile: %w", err)
		}
	default:
		return c, nil
	}
	return c, use(&c)
}

// overhead is the most that is put around a message on the bus.
const overhead = maxHeader + backend.MaxNoticeOverhead
