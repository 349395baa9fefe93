package nats

import (
	natsgo "github.com/nats-io/nats.go"
)

// Connect returns a connection of its own, apart from the bus, to the servers of
// the options, for what is no backend but has the same way in. It mends itself
// for ever, from the start: a server that is away now is no error. While it is
// broken Publish fails at once and nothing is kept back, so that the caller
// knows.
func (o Options) Connect(name string) (*natsgo.Conn, error) {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	c, err := o.client()
	if err != nil {
		return nil, err
	}
	c.Servers = o.servers()
	c.Name = name
	c.MaxReconnect = -1
	c.RetryOnFailedConnect = true
	c.ReconnectWait = o.PingInterval / 2
	c.ReconnectBufSize = -1
	log := o.Logger.With("connection", name)
	c.DisconnectedErrCB = func(_ *natsgo.Conn, err error) {
		if err != nil {
			log.Warn("nats: connection lost", "err", explain(err))
		}
	}
	c.ReconnectedCB = func(nc *natsgo.Conn) { log.Info("nats: connected again", "server", hostOf(nc.ConnectedUrl())) }
	c.AsyncErrorCB = func(_ *natsgo.Conn, s *natsgo.Subscription, err error) {
		subject := ""
		if s != nil {
			subject = s.Subject
		}
		log.Warn("nats: the server reports an error", "subject", subject, "err", err)
	}
	return c.Connect()
}
