package gateway

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// admission decides who may come in by what happened lately: on this gateway,
// from an address, with a client. What it remembers of addresses and clients
// it forgets when that makes no difference any more.
type admission struct {
	limits   *Limits
	accepts  *rate.Limiter // nil: no limit
	connects *rate.Limiter

	mu       sync.Mutex
	visitors map[netip.Addr]*visitor
	sweepAt  int // size of visitors at which the idle are dropped
	restless map[backend.ClientID]*flapping
	calmAt   int // the same of restless
}

// visitor is an address from which somebody is or was connected.
type visitor struct {
	connections int
	rate        *rate.Limiter
}

// flapping is what is remembered of a client that disconnected lately.
type flapping struct {
	rate   *rate.Limiter // of its disconnections
	banned time.Time     // until then; zero is not
}

const (
	// leastSweep keeps small maps from being swept all the time.
	leastSweep = 1024
	// burstSeconds is how much of a rate may come at once after a calm time.
	burstSeconds = 2
	// networkBits of an IPv6 address are one subscriber's, who can choose the
	// rest freely: that is what counts as one address.
	networkBits = 64
)

func newAdmission(l *Limits) *admission {
	return &admission{
		limits:   l,
		accepts:  limiter(int64(l.AcceptRate), burstSeconds),
		connects: limiter(int64(l.ConnectRate), burstSeconds),
		visitors: make(map[netip.Addr]*visitor), sweepAt: leastSweep,
		restless: make(map[backend.ClientID]*flapping), calmAt: leastSweep,
	}
}

// enter counts a connection for its address, or says why the address may not
// have it. An address that is refused costs others nothing: none of the
// gateway's own rates is spent on it.
func (m *admission) enter(a *arrival) (why Refusal, ok bool) {
	l := m.limits
	if l.AddressConnections <= 0 && l.AddressRate <= 0 {
		return 0, true
	}
	from := addressOf(a.remote).Unmap().WithZone("")
	if !from.IsValid() {
		return 0, true // a unix socket
	}
	if from.Is6() {
		p, _ := from.Prefix(networkBits)
		from = p.Addr()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.visitors[from]
	if v == nil {
		if len(m.visitors) >= m.sweepAt {
			m.sweepLocked()
		}
		v = &visitor{rate: limiter(int64(l.AddressRate), burstSeconds)}
		m.visitors[from] = v
	}
	switch {
	case l.AddressConnections > 0 && v.connections >= 2*l.AddressConnections:
		return RefusedAddressConnections, false
	case v.rate != nil && !v.rate.Allow():
		return RefusedAddressRate, false
	}
	v.connections++
	a.visitor = v
	return 0, true
}

// sweepLocked forgets addresses that might as well never have been here.
func (m *admission) sweepLocked() {
	for from, v := range m.visitors {
		if v.connections == 0 && full(v.rate) {
			delete(m.visitors, from)
		}
	}
	m.sweepAt = max(leastSweep, 2*len(m.visitors))
}

func full(r *rate.Limiter) bool { return r == nil || r.Tokens() >= float64(r.Burst()) }

// leave ends what enter counted.
func (m *admission) leave(v *visitor) {
	if v == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	v.connections--
}

// crowded reports whether an address has more connections than it may.
func (m *admission) crowded(v *visitor) bool {
	if v == nil || m.limits.AddressConnections <= 0 {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return v.connections > m.limits.AddressConnections
}

// pause waits until one more connection may be accepted; new ones wait in the
// system's queue. It reports false at the end of the context.
func (m *admission) pause(ctx context.Context) bool {
	return m.accepts == nil || m.accepts.Wait(ctx) == nil
}

// turn waits until it is a CONNECT's turn. It reports false if that would take
// longer than half of what is left until the deadline, the other half being
// for authentication and the store.
func (m *admission) turn(deadline time.Time) bool {
	if m.connects == nil {
		return true
	}
	now := time.Now()
	r := m.connects.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 && wait > deadline.Sub(now)/2 {
		r.CancelAt(now)
		return false
	}
	time.Sleep(wait)
	return true
}

// banned reports whether a client has to stay away for now.
func (m *admission) banned(id backend.ClientID) bool {
	if m.limits.Flaps <= 0 {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.restless[id]
	return f != nil && time.Now().Before(f.banned)
}

// disconnected counts the end of a client's connection, and reports whether
// the client has to stay away from now on.
func (m *admission) disconnected(id backend.ClientID) bool {
	if m.limits.Flaps <= 0 {
		return false
	}
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.restless[id]
	if f == nil {
		if len(m.restless) >= m.calmAt {
			m.calmLocked(now)
		}
		f = &flapping{rate: rate.NewLimiter(rate.Limit(m.limits.Flaps)/60, m.limits.Flaps)}
		m.restless[id] = f
	}
	if f.rate.AllowN(now, 1) || now.Before(f.banned) {
		return false
	}
	f.banned = now.Add(m.limits.FlapBan)
	return true
}

// calmLocked forgets clients that have been calm for long enough.
func (m *admission) calmLocked(now time.Time) {
	for id, f := range m.restless {
		if full(f.rate) && !now.Before(f.banned) {
			delete(m.restless, id)
		}
	}
	m.calmAt = max(leastSweep, 2*len(m.restless))
}

// mayConnect applies the limits that a CONNECT meets before anybody is asked
// who its client is.
func (c *conn) mayConnect() bool {
	g := c.g
	switch {
	case g.stats.connections.Load() > int64(g.opt.Limits.Connections):
		g.refuseFor(RefusedConnections)
		return c.refuse(protocol.QuotaExceeded, "too many connections")
	case g.admission.crowded(c.visitor):
		g.refuseFor(RefusedAddressConnections)
		return c.refuse(protocol.QuotaExceeded, "too many connections from this address")
	case g.admission.banned(c.client.ID):
		g.refuseFor(RefusedFlapping)
		return c.refuse(protocol.ConnectionRateExceeded, "connected and disconnected too often")
	case !g.admission.turn(c.came.deadline):
		g.refuseFor(RefusedConnectRate)
		return c.refuse(protocol.ConnectionRateExceeded, "too many clients connect")
	}
	return true
}

// wasHere notes that a client that was connected is so no more.
func (c *conn) wasHere() {
	if c.g.admission.disconnected(c.client.ID) {
		c.g.log.Warn("client flaps, it is kept out for a while", "client", string(c.client.ID), "remote", c.client.Remote, "for", c.g.opt.Limits.FlapBan)
	}
}
