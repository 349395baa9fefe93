package gateway

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// Gateways talk to each other about themselves on topics of the bus that no
// client can publish to or receive. The publisher of such a message is the
// gateway that sent it.
const (
	peerRoot = "$sluice/"
	// beatTopic: the sender lives.
	beatTopic = peerRoot + "beat"
	// doubtTopic: notices of the sender may have been lost, so that others
	// have mail that they do not know of.
	doubtTopic = peerRoot + "doubt"
)

// beatsPerPoll is how often a gateway says that it lives while an inbox poll
// would wait once. One that was not heard for a whole Timing.Poll is missed: it
// has been killed, perhaps between an append and its notice.
const beatsPerPoll = 4

// peers are the other gateways that were heard of lately.
type peers struct {
	mu    sync.Mutex
	heard map[backend.NodeID]time.Duration // on the gateway's clock
	// owed: the others are to be told that notices may have been lost.
	owed bool
}

// isPeerTopic reports whether a topic is for gateways only.
func isPeerTopic(topic string) bool { return strings.HasPrefix(topic, peerRoot) }

// hearPeer takes a message of another gateway about itself.
func (g *Gateway) hearPeer(m *backend.Message) {
	g.peers.mu.Lock()
	if g.peers.heard == nil {
		g.peers.heard = make(map[backend.NodeID]time.Duration)
	}
	g.peers.heard[backend.NodeID(m.Publisher)] = g.now()
	g.peers.mu.Unlock()
	switch m.Topic {
	case doubtTopic:
		g.doubt("another gateway could not send notices")
	case fightTopic, loudFightTopic:
		g.hearFight(backend.ClientID(m.Payload), m.Topic == loudFightTopic)
	}
}

// beat tells the others that this gateway lives, looks which of them do not,
// and whether the bus is well, until the context ends.
func (g *Gateway) beat(ctx context.Context) {
	for {
		g.tellPeers(ctx)
		if g.missPeers() {
			g.doubt("another gateway is not heard any more")
		}
		if g.busTrouble() != nil {
			g.doubt("the bus is not well")
		}
		if !sleep(ctx, g.opt.Timing.Poll/beatsPerPoll) {
			return
		}
	}
}

func (g *Gateway) tellPeers(ctx context.Context) {
	if g.alone() {
		return
	}
	g.peers.mu.Lock()
	owed := g.peers.owed
	g.peers.mu.Unlock()
	m := backend.Message{Topic: beatTopic, Publisher: backend.ClientID(g.opt.ID)}
	if owed {
		m.Topic = doubtTopic
	}
	sctx, cancel := g.storeContext(ctx)
	defer cancel()
	if g.bus.Publish(sctx, &m) == nil && owed {
		g.peers.mu.Lock()
		g.peers.owed = false
		g.peers.mu.Unlock()
	}
}

// missPeers forgets the gateways that are not heard any more and reports
// whether there were any.
func (g *Gateway) missPeers() (missed bool) {
	now := g.now()
	g.peers.mu.Lock()
	defer g.peers.mu.Unlock()
	for id, heard := range g.peers.heard {
		if now-heard > g.opt.Timing.Poll {
			delete(g.peers.heard, id)
			missed = true
		}
	}
	return missed
}

// busTrouble is what is wrong with the bus, if it knows.
func (g *Gateway) busTrouble() error {
	if h, ok := g.bus.(backend.Healthy); ok {
		return h.Health()
	}
	return nil
}

// unsure notes that something may be in inboxes, here or elsewhere, whose
// owners have not been told.
func (g *Gateway) unsure(why string) {
	g.peers.mu.Lock()
	g.peers.owed = true
	g.peers.mu.Unlock()
	g.doubt(why)
}
