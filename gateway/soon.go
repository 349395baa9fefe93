package gateway

import (
	"context"

	"github.com/sluice-mqtt/sluice/backend"
)

// bundler is the bus for those who have several things for it at once.
func bundler(bus backend.Backend) backend.Bundler {
	if b, ok := bus.(backend.Bundler); ok {
		return b
	}
	return eachAlone{bus}
}

// eachAlone is a bus that sends everything at once.
type eachAlone struct{ bus backend.Backend }

func (e eachAlone) PublishSoon(ctx context.Context, m *backend.Message) error {
	return e.bus.Publish(ctx, m)
}

func (e eachAlone) NotifySoon(ctx context.Context, to backend.NodeID, n backend.Notice) error {
	return e.bus.Notify(ctx, to, n)
}

func (e eachAlone) Flush() {}

// fewEarly is up to how many publishes that are stored go to live sessions
// before that: then a wait for the store counts, and not what a write more
// costs. Of more than that one waits for the other anyway.
const fewEarly = 4

// hasten gives publishes of QoS 1 to live sessions here and at other gateways
// while they wait for the store, which promises those nothing: they get them
// whether or not it takes them. Not so QoS 2, which it may know from before, nor
// retained ones, which may be refused.
//
// Nor while the store is known to be away. Its publishers repeat what they get
// no answer to, and these sessions would get it as often.
func (b *batch) hasten(ctx context.Context) {
	if len(b.msgs) == 0 || len(b.msgs) > fewEarly || !b.g.storeAnswers() {
		return
	}
	sent := false
	for i := range b.pubs {
		u := &b.pubs[i]
		if u.done || u.msg.QoS != 1 || u.msg.Retain {
			continue
		}
		// What the bus does not take is tried again when it is stored.
		u.early = b.g.soon.PublishSoon(ctx, &u.msg) == nil
		sent = sent || u.early
	}
	if sent {
		b.g.soon.Flush()
		b.deliver(func(u *pub) bool { return u.early })
		b.flush()
	}
}

// storeAnswers reports whether the store is a service, and works. One in memory
// has nobody wait.
func (g *Gateway) storeAnswers() bool {
	h, ok := g.store.(backend.Healthy)
	return ok && h.Health() == nil
}
