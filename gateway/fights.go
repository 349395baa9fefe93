package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

const (
	// fightAfter is how many takeovers of one client make a fight: two clients
	// with one identifier that come back at once whenever they are sent away.
	fightAfter = 10
	// fightPace is the least between two takeovers in a fight.
	fightPace = time.Second
	// fightMemory is after how long without a takeover it is over, and between
	// two lines of the log about it.
	fightMemory = 10 * time.Second
	// fightWaiters is how many CONNECTs of one client wait for their turn.
	fightWaiters = 4

	// fightTopic tells the other gateways that the client in the payload, which
	// is fought over, was taken over just now; on loudFightTopic that the log
	// has a line about it too.
	fightTopic     = peerRoot + "fight"
	loudFightTopic = fightTopic + "/said"
)

// fights are the clients that were taken over lately.
type fights struct {
	mu    sync.Mutex
	m     map[backend.ClientID]*fight
	purge int // how many there may be before those that are over are dropped
}

type fight struct {
	takeovers int
	last      time.Duration // the last takeover, or turn to make one
	said      time.Duration // the last line of the log, here or elsewhere
	waiting   int
}

// of returns the fight over a client, a new one if the last one is over. The
// lock is held.
func (f *fights) of(id backend.ClientID, now time.Duration) *fight {
	x := f.m[id]
	if x != nil && now-x.last > fightMemory {
		x.takeovers = 0
	}
	if x != nil {
		return x
	}
	if len(f.m) >= f.purge {
		for id, x := range f.m {
			if now-x.last > fightMemory && x.waiting == 0 {
				delete(f.m, id)
			}
		}
		f.purge = 2*len(f.m) + 256
	}
	if f.m == nil {
		f.m = make(map[backend.ClientID]*fight)
	}
	x = &fight{said: -fightMemory}
	f.m[id] = x
	return x
}

// takenOver notes that a session was taken over, from here or by a client here;
// in the latter case others are told, if there is a fight.
func (g *Gateway) takenOver(id backend.ClientID, here bool) {
	now := g.now()
	g.fights.mu.Lock()
	x := g.fights.of(id, now)
	x.takeovers++
	x.last = now
	n := x.takeovers
	say := here && n >= fightAfter && now-x.said >= fightMemory
	if say {
		x.said = now
	}
	g.fights.mu.Unlock()
	if say {
		g.log.Warn("clients with the same identifier take their session from each other; each has to wait", "client", string(id), "takeovers", n)
	}
	if n < fightAfter || !here {
		return
	}
	go func() { // ends with one call to the bus
		ctx, cancel := g.storeContext(context.Background())
		defer cancel()
		m := backend.Message{Topic: fightTopic, Publisher: backend.ClientID(g.opt.ID), Payload: []byte(id)}
		if say {
			m.Topic = loudFightTopic
		}
		_ = g.bus.Publish(ctx, &m) // else they find out for themselves
	}()
}

// hearFight notes a fight that another gateway tells of.
func (g *Gateway) hearFight(id backend.ClientID, said bool) {
	now := g.now()
	g.fights.mu.Lock()
	defer g.fights.mu.Unlock()
	x := g.fights.of(id, now)
	x.takeovers = max(x.takeovers, fightAfter)
	x.last = now
	if said {
		x.said = now
	}
}

// awaitTurn holds up a client whose identifier is fought over, before its
// session is claimed, so that there is no more than one takeover a second. Who
// has the session meanwhile keeps it.
func (c *conn) awaitTurn(ctx context.Context) bool {
	f := &c.g.fights
	f.mu.Lock()
	x := f.m[c.client.ID]
	if x == nil || x.takeovers < fightAfter || c.g.now()-x.last > fightMemory {
		f.mu.Unlock()
		return true
	}
	if x.waiting >= fightWaiters {
		f.mu.Unlock()
		return c.refuse(protocol.ServerBusy, "too many clients with the same identifier")
	}
	x.waiting++
	for {
		now := c.g.now()
		left := x.last + fightPace - now
		if left <= 0 {
			x.last = now
			x.waiting--
			f.mu.Unlock()
			return true
		}
		f.mu.Unlock()
		turn := sleep(ctx, left)
		f.mu.Lock()
		if !turn {
			x.waiting--
			f.mu.Unlock()
			return c.refuse(protocol.ServerBusy, "another client with the same identifier")
		}
	}
}
