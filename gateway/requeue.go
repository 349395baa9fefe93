package gateway

import (
	"context"

	"github.com/sluice-mqtt/sluice/backend"
)

// maxRequeues bounds the messages that wait to be given to other members of
// their shared groups.
const maxRequeues = 1024

// forsaken is a message in no inbox whose member of a shared group has gone.
type forsaken struct {
	from  backend.ClientID
	entry backend.Entry
}

// requeueLater gives messages of a member that has gone to other members, in
// the background: whoever finds out, the bus above all, does not wait for the
// store. What does not fit is dropped and counted.
func (g *Gateway) requeueLater(from backend.ClientID, entries ...backend.Entry) {
	for _, e := range entries {
		select {
		case g.forsaken <- forsaken{from, e}:
		default:
			g.drop(DropStore, nil, e.Message, 1)
		}
	}
}

// keepRequeuing carries out what requeueLater was told, in order, until the
// context ends. While the store does not answer it tries again, for as long as
// a client would be held.
func (g *Gateway) keepRequeuing(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-g.forsaken:
			g.requeueOne(ctx, f)
		}
	}
}

func (g *Gateway) requeueOne(ctx context.Context, f forsaken) {
	until := g.now() + g.opt.Timing.Hold
	for {
		err := g.requeue(ctx, f.from, []backend.Entry{f.entry})
		if err == nil {
			return
		}
		if !unknownOutcome(err) || g.now() >= until || !sleep(ctx, holdPause) {
			g.drop(DropStore, nil, f.entry.Message, 1)
			return
		}
		g.stats.storeRetries.Add(1)
	}
}
