package redis

import (
	"sync/atomic"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
)

// clock follows that of the server, by the process's monotonic clock: nobody
// who sets the time of the gateway's machine moves it.
type clock struct {
	began time.Time    // of the process's life, with its monotonic reading
	ahead atomic.Int64 // what the server's clock said at began, in ms; 0: not heard yet
}

var _ backend.Clock = (*Store)(nil)

// heard notes what the server's clock said a moment ago, in ms.
func (c *clock) heard(now int64) {
	c.ahead.Store(now - time.Since(c.began).Milliseconds())
}

func (c *clock) now() time.Time {
	at := c.ahead.Load()
	if at == 0 {
		return time.Now()
	}
	return time.UnixMilli(at + time.Since(c.began).Milliseconds())
}

// Now implements [backend.Clock]: the server's time, as heard with the last
// renewal of a lease, late by the way of that reply.
func (s *Store) Now() time.Time { return s.clock.now() }
