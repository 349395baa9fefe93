package nats

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

const (
	// retryLeast and retryMost are between attempts to connect, spread by
	// half to either side so that gateways do not come in step.
	retryLeast = 50 * time.Millisecond
	retryMost  = time.Second
	// lastWrites is for what was published just before Close.
	lastWrites = time.Second
)

var (
	errConnectionLost = errors.New("connection lost")
	errPeerLoss       = errors.New("nats: another gateway lost its connection and what it had published")
)

// join makes l the connection: interests are live and messages flow when it
// returns nil.
func (b *Backend) join(ctx context.Context, l *link) error {
	b.maxPayload.Store(int64(l.maxPayload))
	b.found = l.nc.DiscoveredServers()
	b.posts.reach(b.servers())
	b.out.attach(l)
	if err := b.interests.do(ctx, &request{link: l}); err != nil {
		return err
	}
	if err := b.posts.prove(ctx, l); err != nil {
		return err
	}
	b.out.open()
	return nil
}

// leave ends the connection. Nothing of it comes any more when it returns.
func (b *Backend) leave(l *link, why error) {
	b.left = l.host
	l.fail(why)
	b.out.detach(why)
	l.nc.Close() // nothing is put into in any more
	b.receiver.drain(l)
}

// servers are all that are known.
func (b *Backend) servers() []string {
	list := b.opt.servers()
	for _, s := range b.found {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// order is servers in the order in which to try them: any, but the one that was
// left last comes last. It may answer and yet not work.
func (b *Backend) order() []string {
	list := b.servers()
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	slices.SortStableFunc(list, func(x, y string) int {
		switch {
		case hostOf(x) == b.left && hostOf(y) != b.left:
			return 1
		case hostOf(x) != b.left && hostOf(y) == b.left:
			return -1
		}
		return 0
	})
	return list
}

// hostOf returns host and port of a URL.
func hostOf(server string) string {
	u, err := url.Parse(server)
	if err != nil {
		return ""
	}
	return u.Host
}

// run keeps the bus connected until ctx ends.
func (b *Backend) run(ctx context.Context, l *link) {
	for {
		b.watch(ctx, l)
		if ctx.Err() != nil {
			b.finish(l)
			return
		}
		lost := time.Now()
		b.log.Warn("bus connection lost", "err", l.reason)
		reason := fmt.Errorf("nats: %w: %w", errConnectionLost, l.reason)
		b.leave(l, l.reason)
		if l = b.rejoin(ctx); l == nil {
			return
		}
		b.reconnects.Add(1)
		b.peerLost.Store(false)
		b.queue.gap(reason)
		b.out.control(b.subjects.all, kindLoss, uint64(time.Since(lost).Milliseconds()))
		b.log.Info("bus connected again", "after", time.Since(lost).Round(time.Millisecond), "lost", b.out.counts().lost)
	}
}

// watch returns when l is down or ctx ends. It probes l and ends it if nothing
// comes back twice in a row.
func (b *Backend) watch(ctx context.Context, l *link) {
	tick := time.NewTicker(b.opt.ProbeInterval)
	defer tick.Stop()
	for {
		select {
		case <-l.down:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		b.found = l.nc.DiscoveredServers()
		b.posts.reach(b.servers())
		e := b.posts.probe(l, b.opt.ConnectTimeout, true)
		if e.asked > 0 && e.heard == 0 {
			e = b.posts.probe(l, b.opt.ConnectTimeout, true)
		}
		switch {
		case e.asked > 0 && e.heard == 0:
			l.fail(errNoEcho)
		case e.returned:
			b.peerLost.Store(false)
			b.queue.gap(fmt.Errorf("nats: %w", errCutOff))
		case b.peerLost.Swap(false):
			b.queue.gap(errPeerLoss)
		}
	}
}

// rejoin connects until it succeeds; nil if ctx ends first.
func (b *Backend) rejoin(ctx context.Context) *link {
	wait := retryLeast
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait/2 + rand.N(wait)):
		}
		wait = min(2*wait, retryMost)
		l, err := b.connect(ctx)
		if err == nil {
			if err = b.join(ctx, l); err == nil {
				return l
			}
			b.leave(l, err)
		}
		b.out.detach(err)
		b.log.Debug("bus not connected yet", "err", err)
	}
}

// finish ends the last connection: what was published is written, if the
// server takes it in time.
func (b *Backend) finish(l *link) {
	b.out.close()
	late := time.AfterFunc(lastWrites, func() { l.fail(backend.ErrClosed) })
	defer late.Stop()
	<-b.written
	l.close()
	b.leave(l, backend.ErrClosed)
}

// peerLoss: another gateway lost its connection so long ago. If this one has
// reported a gap since, or is about to, that covers it: mostly they lost the
// same server. Many such losses in a short time make one gap.
func (b *Backend) peerLoss(ago time.Duration) {
	now, last := time.Now(), b.queue.newestGap()
	switch {
	case b.out.state() != nil, now.Add(-ago).Before(last):
	case now.Sub(last) < b.opt.ProbeInterval:
		b.peerLost.Store(true)
	default:
		b.queue.gap(errPeerLoss)
	}
}
