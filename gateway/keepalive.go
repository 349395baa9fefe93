package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/sluice-mqtt/sluice/protocol"
)

const (
	wheelTick = 250 * time.Millisecond
	wheelSize = 1024
	// A turn that comes stalled late, because the process or its machine was
	// held up, has not seen what clients sent meanwhile: it lies in the sockets.
	stalled = time.Second
)

// wheel finds connections whose keep-alive has run out. Each connection is in
// one bucket, that of the earliest moment at which it can be due. When that
// has come it is looked at, and put where it can be due next: an idle
// connection costs one look in each keep-alive interval, and no timer.
type wheel struct {
	mu      sync.Mutex
	buckets [wheelSize][]*conn
	tick    int64 // the last one that was looked at
	turned  time.Duration
}

// add puts a connection that has a keep-alive into the wheel.
func (w *wheel) add(c *conn) {
	if c.keepAlive <= 0 {
		return
	}
	w.mu.Lock()
	w.put(c, time.Duration(c.seen.Load())+c.keepAlive)
	w.mu.Unlock()
}

func (w *wheel) put(c *conn, due time.Duration) {
	// The first tick at or after due; one further away than the wheel is
	// large is looked at early and put in again.
	t := int64((due + wheelTick - 1) / wheelTick)
	t = min(max(t, w.tick+1), w.tick+wheelSize-1)
	b := &w.buckets[t%wheelSize]
	*b = append(*b, c)
}

// run turns the wheel until the context ends.
func (w *wheel) run(ctx context.Context, g *Gateway) {
	t := time.NewTicker(wheelTick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			w.turn(g)
		}
	}
}

// turn looks at every bucket whose time has come.
func (w *wheel) turn(g *Gateway) {
	now := g.now()
	w.mu.Lock()
	late := now-w.turned > wheelTick+stalled
	w.turned = now
	for w.tick < int64(now/wheelTick) {
		w.tick++
		b := &w.buckets[w.tick%wheelSize]
		look := *b
		*b = nil
		for _, c := range look {
			w.look(c, now, late)
		}
	}
	w.mu.Unlock()
}

// look ends a connection whose time is up, and keeps any other that lives; in a
// turn that comes late nobody's time is up yet, so that what waits is read first.
func (w *wheel) look(c *conn, now time.Duration, late bool) {
	due := time.Duration(c.seen.Load()) + c.keepAlive
	if late {
		due = max(due, now+stalled)
	}
	if due > now {
		if !c.isOver() {
			w.put(c, due)
		}
		return
	}
	// [MQTT-3.1.2-22]; in a goroutine of its own, which ends when the socket
	// has taken the DISCONNECT or not, because the wheel turns for everybody.
	go c.end(protocol.KeepAliveTimeout, "keep-alive timeout")
}
