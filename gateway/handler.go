package gateway

import (
	"context"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// handler takes what the bus brings, one call at a time. What it gives rise to
// is collected until the bus has nothing more at hand: a client that gets many
// messages is written to once.
type handler struct {
	g *Gateway
	b *batch // nil when nothing is collected
}

var _ backend.Handler = (*handler)(nil)

// batch is what collects.
func (h *handler) batch() *batch {
	if h.b == nil {
		h.b = newBatch(h.g, nil)
	}
	return h.b
}

// HandleMessage delivers a message of another gateway to the live sessions
// here. Its inboxes were seen to where it was published.
func (h *handler) HandleMessage(m *backend.Message) {
	if isPeerTopic(m.Topic) {
		h.g.hearPeer(m)
		return
	}
	b := h.batch()
	b.pubs = append(b.pubs, pub{msg: *m, kept: m, route: h.g.route(context.Background(), bytesOf(m.Topic)), again: m.Again})
}

// HandleFlush delivers and writes what was collected.
func (h *handler) HandleFlush() {
	if h.b == nil {
		return
	}
	h.deliver()
	h.b.flush()
	h.b.free()
	h.b = nil
}

// deliver gives the messages that were collected to the live sessions, before
// anything that came after them.
func (h *handler) deliver() {
	if h.b != nil && len(h.b.pubs) > 0 {
		h.g.remember(h.b.pubs)
		h.b.deliver(func(u *pub) bool { return !u.had })
		h.b.reset()
	}
}

// HandleNotice does what another gateway asks for one client.
func (h *handler) HandleNotice(n backend.Notice) {
	h.deliver()
	switch n.Kind {
	case backend.NoticeMail, backend.NoticeDeliver:
		h.batch().hand(context.Background(), n.Client, n.Epoch, &n.Entry)
	case backend.NoticeTakeover:
		if c := h.g.clients.overtake(n.Client, n.Epoch); c != nil {
			h.g.takenOver(n.Client, false)
			c.kick()
		}
	case backend.NoticeKick:
		if c := h.g.clients.get(n.Client); c != nil {
			c.end(protocol.ReasonCode(n.Code), "administrative action")
		}
	case backend.NoticeAsk:
		h.g.asked(&n)
	case backend.NoticeAnswer:
		h.g.answered(&n)
	}
}

// HandleGap finds out what of the sessions here was taken over unheard, and
// looks into their inboxes. What sessions without one may have missed is gone;
// they are told by being disconnected, if the policy says so.
func (h *handler) HandleGap(reason error) {
	h.HandleFlush()
	g := h.g
	g.stats.gaps.Add(1)
	all := g.clients.all()
	g.log.Warn("messages from other gateways may have been missed", "err", reason, "clients", len(all))
	if g.opt.GapPolicy == GapDisconnect {
		for _, c := range all {
			if !c.durable {
				c.end(protocol.UnspecifiedError, "messages may have been missed")
			}
		}
	}
	g.doubt("gap")
	g.reviewSoon()
}
