package gateway

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"time"
)

// arrival is a connection from accept until it speaks MQTT.
type arrival struct {
	nc       net.Conn
	socket   net.Conn // nc as it was accepted; closing it ends whatever goes on
	listener string
	remote   net.Addr
	// deadline of CONNACK, counted from accept.
	deadline time.Time

	certificate *x509.Certificate // of the client, verified; or nil
	// tls is set if the certificate is to name the client, with identity.
	tls      *TLSOptions
	identity string
	visitor  *visitor // nil where its address has no limits
	span     *Span    // of its CONNECT; nil where nothing is traced
}

// arrived is a connection as the system gives it out.
func (g *Gateway) arrived(nc net.Conn, listener string) *arrival {
	a := &arrival{nc: nc, socket: nc, listener: listener, remote: nc.RemoteAddr(), deadline: time.Now().Add(g.opt.Timing.Connect)}
	nc.SetDeadline(a.deadline)
	return a
}

// admit registers a connection that was just accepted, or closes it.
func (g *Gateway) admit(a *arrival) bool {
	// An address that is a proxy's is none: that comes with the request, or
	// with the PROXY header.
	from := addressOf(a.remote)
	if !trusted(g.opt.TrustedProxies, from) && !trusted(g.opt.ProxyProtocolFrom, from) {
		if why, ok := g.admission.enter(a); !ok {
			g.turnAway(a, why, nil)
			return false
		}
	}
	if err := g.expect(a); err != nil {
		g.admission.leave(a.visitor)
		a.nc.Close()
		return false
	}
	return true
}

// meet serves a connection whose next byte is MQTT. It returns when the client
// is connected or refused.
func (g *Gateway) meet(ctx context.Context, a *arrival) {
	c, err := g.newConn(a)
	if err != nil {
		a.nc.Close()
		return
	}
	if !c.arrive(ctx) {
		return
	}
	c.settleIn()
	if c.moveIn() {
		c.begin(ctx)
		return
	}
	go c.stay(ctx) // until the client is silent or gone
}

// turnAway ends a connection that does not get as far as MQTT.
func (g *Gateway) turnAway(a *arrival, why Refusal, err error) {
	a.nc.Close()
	g.dismiss(a)
	g.refuseFor(why)
	g.log.Debug("turned away", "remote", a.remote, "listener", a.listener, "reason", why.String(), "err", err)
}

// errTooMany: not even a refusal is given to a connection.
var errTooMany = errors.New("gateway: too many connections")

// expect registers a connection that does not speak MQTT yet, unless the
// gateway is not running or has twice as many as it may. Those beyond the
// limit are told so in CONNACK.
func (g *Gateway) expect(a *arrival) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.roomLocked(); err != nil {
		return err
	}
	g.arrivals[a] = struct{}{}
	return nil
}

func (g *Gateway) roomLocked() error {
	if g.state != stateRunning && g.state != stateLeaving {
		return ErrStopped
	}
	if len(g.conns)+len(g.arrivals) >= 2*g.opt.Limits.Connections {
		g.refuseFor(RefusedConnections)
		return errTooMany
	}
	return nil
}

// dismiss ends what expect began.
func (g *Gateway) dismiss(a *arrival) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.arrivals[a]; ok {
		delete(g.arrivals, a)
		g.admission.leave(a.visitor)
	}
}

// newConn registers a connection that speaks MQTT now.
func (g *Gateway) newConn(a *arrival) (*conn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.arrivals, a)
	if err := g.roomLocked(); err != nil {
		g.admission.leave(a.visitor)
		return nil, err
	}
	c := newConn(g, a)
	g.conns[c] = struct{}{}
	g.serving.Add(1)
	g.stats.connected()
	return c, nil
}

func (g *Gateway) forget(c *conn) {
	g.mu.Lock()
	delete(g.conns, c)
	g.mu.Unlock()
	g.admission.leave(c.visitor)
	g.stats.connections.Add(-1)
}
