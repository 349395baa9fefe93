package nats

import (
	"context"
	"net"
	"sync"
)

// dialer dials until its context ends, and then cuts the connection, so that
// nothing that the client library waits for lasts longer.
type dialer struct {
	ctx  context.Context // for the life of one connection
	base net.Dialer
	wrap func(net.Conn) net.Conn // if not nil, goes around each connection

	mu   sync.Mutex
	conn net.Conn
	cut  bool
}

func (d *dialer) Dial(network, address string) (net.Conn, error) {
	conn, err := d.base.DialContext(d.ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cut {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	d.conn = conn
	if d.wrap != nil {
		return d.wrap(conn), nil
	}
	return conn, nil
}

// end cuts the connection, now or when it is made.
func (d *dialer) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cut = true
	if d.conn != nil {
		_ = d.conn.Close()
	}
}
