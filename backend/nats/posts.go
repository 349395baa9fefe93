package nats

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"

	natsgo "github.com/nats-io/nats.go"
)

// posts are small connections of this gateway, one to each server of the NATS
// cluster that is known, which send back what they get on the probe subject.
// NATS gives a connection that takes no echo nothing of its own, so proving
// that messages flow takes a second one.
//
// What comes back from a post proves that this gateway's connection and the
// post's server carry messages both ways. It also proves that every interest
// asked for before is known at that server: interest and message take the same
// way, one behind the other.
type posts struct {
	b       *Backend
	subject string // of probes
	back    string // of echoes

	mu      sync.Mutex
	list    map[string]*post  // by URL
	changed chan struct{}     // closed and replaced when a post comes up or fails
	newest  uint64            // number of the newest round
	rounds  map[uint64]*round // that are running
	ids     uint64
	closed  bool
	running sync.WaitGroup // goroutines that make connections
}

// post is one such connection. The client library mends it.
type post struct {
	id     uint64
	dialer *dialer
	// Under posts.mu:
	nc     *natsgo.Conn // nil while the first attempt runs
	first  bool         // the first attempt has not come to its end
	up     bool
	server string // identity of the server to which it is, or was last, connected
	// cut: it did not answer a probe, or lost its connection, and has not
	// answered since.
	cut bool
}

func newPosts(b *Backend) *posts {
	return &posts{
		b: b, subject: b.subjects.probe(b.node), back: b.subjects.node(b.node),
		list: make(map[string]*post), changed: make(chan struct{}), rounds: make(map[uint64]*round),
	}
}

// reach makes posts at servers that have none, hurries those that are not
// connected, and gives up those at servers that are gone.
func (p *posts) reach(servers []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	for url, post := range p.list {
		switch {
		case post.up || post.nc == nil:
		case slices.Contains(servers, url):
			p.running.Go(func() { _ = post.nc.ForceReconnect() }) // waits for the attempt that runs
		default:
			p.drop(url, post)
		}
	}
	for _, url := range servers {
		if p.list[url] == nil {
			p.ids++
			post := &post{id: p.ids, first: true, dialer: &dialer{ctx: context.Background()}}
			post.dialer.base.Timeout = p.b.opt.ConnectTimeout
			p.list[url] = post
			p.running.Go(func() { p.connect(url, post) }) // ends with the first attempt
		}
	}
}

// connect makes the connection of a post.
func (p *posts) connect(url string, post *post) {
	c, err := p.b.opt.client()
	var nc *natsgo.Conn
	if err == nil {
		c.Servers = []string{url}
		c.IgnoreDiscoveredServers = true
		c.Name = "sluice post " + string(p.b.node)
		c.CustomDialer = post.dialer
		c.RetryOnFailedConnect = true
		c.MaxReconnect = -1
		c.ReconnectBufSize = -1
		c.ReconnectWait = retryMost
		c.ConnectedCB = func(nc *natsgo.Conn) {
			if _, err := nc.Subscribe(p.subject, func(m *natsgo.Msg) { p.answer(nc, post, m.Data) }); err == nil {
				p.came(nc, post)
			}
		}
		c.ReconnectedCB = func(nc *natsgo.Conn) { p.came(nc, post) }
		c.DisconnectedErrCB = func(*natsgo.Conn, error) { p.went(post) }
		c.ClosedCB = func(*natsgo.Conn) { p.ended(url, post) }
		c.AsyncErrorCB = func(_ *natsgo.Conn, _ *natsgo.Subscription, err error) {
			p.b.log.Debug("bus reports an error to the self-probe", "err", err)
		}
		nc, err = c.Connect()
	}
	if err != nil {
		p.b.log.Debug("no self-probe by way of a server", "err", explain(err))
		p.ended(url, post)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	post.nc = nc
	if !nc.IsConnected() {
		post.first = false // the library tries again; else came ends it
	}
	if p.list[url] != post { // dropped meanwhile
		p.running.Go(nc.Close)
	}
	p.tell()
}

// renew has all posts connect anew: perhaps it is they that hear nothing.
func (p *posts) renew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, post := range p.list {
		if post.up && !p.closed {
			p.running.Go(func() { _ = post.nc.ForceReconnect() }) // waits for an attempt that runs
		}
	}
}

// tell wakes those that wait for a change. p.mu is held.
func (p *posts) tell() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// answer sends a probe back.
func (p *posts) answer(nc *natsgo.Conn, post *post, frame []byte) {
	h, body, err := readHeader(frame, p.b.out.cluster)
	if err != nil || h.kind != kindProbe {
		return // not ours; the receiver counts what comes on its own subjects
	}
	number, _, err := readNumber(body)
	if err != nil {
		return
	}
	h.kind = kindEcho
	echo := binary.AppendUvarint(h.append(nil), number)
	_ = nc.Publish(p.back, binary.AppendUvarint(echo, post.id)) // an echo that fails is one that does not come
}

// came: the post is connected. It is up when the server knows what it asked
// for.
func (p *posts) came(nc *natsgo.Conn, post *post) {
	err := nc.FlushTimeout(p.b.opt.ConnectTimeout)
	server := nc.ConnectedServerId()
	p.mu.Lock()
	defer p.mu.Unlock()
	post.first = false
	if err == nil { // else it has lost the connection, and will come again
		post.up, post.server = true, server
	}
	p.tell()
}

// went: the post has lost its connection.
func (p *posts) went(post *post) {
	p.mu.Lock()
	defer p.mu.Unlock()
	post.up, post.first, post.cut = false, false, true
	for _, r := range p.rounds {
		r.settle(post.id, false)
	}
	p.tell()
}

// ended: the client library gave up. The next reach makes a new post.
func (p *posts) ended(url string, post *post) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.list[url] == post {
		delete(p.list, url)
		p.tell()
	}
}

// drop ends a post. p.mu is held.
func (p *posts) drop(url string, post *post) {
	delete(p.list, url)
	post.dialer.end()
	if post.nc != nil {
		p.running.Go(post.nc.Close)
	}
}

// close ends all posts and waits for them.
func (p *posts) close() {
	p.mu.Lock()
	p.closed = true
	for url, post := range p.list {
		p.drop(url, post)
	}
	p.mu.Unlock()
	p.running.Wait()
}
