package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"

	"github.com/sluice-mqtt/sluice/e2e/clients/line"
)

// plain is the client of package paho: one connection, then over.
type plain struct {
	connection
	client *paho.Client
}

func dialPlain(c line.Connect, event func(line.Report)) (line.Client, line.Report, error) {
	server, err := url.Parse(c.URL)
	if err != nil {
		return nil, line.Report{}, err
	}
	if server.Scheme != "mqtt" {
		return nil, line.Report{}, fmt.Errorf("the plain client has no %s", server.Scheme)
	}
	conn, err := net.Dial("tcp", server.Host)
	if err != nil {
		return nil, line.Report{}, err
	}
	cfg := clientConfig(c, event)
	cfg.Conn = conn
	client := paho.NewClient(cfg)
	packet := &paho.Connect{ClientID: c.ClientID, CleanStart: c.Clean, KeepAlive: uint16(c.KeepAlive)}
	if c.Expiry > 0 {
		expiry := uint32(c.Expiry)
		packet.Properties = &paho.ConnectProperties{SessionExpiryInterval: &expiry}
	}
	packet.WillMessage, packet.WillProperties = will(c)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ack, err := client.Connect(ctx, packet)
	if err != nil {
		return nil, line.Report{}, err
	}
	return &plain{connection{client}, client}, connected(ack), nil
}

func (p *plain) Disconnect(reason int) error {
	err := p.client.Disconnect(&paho.Disconnect{ReasonCode: byte(reason)})
	<-p.client.Done()
	return err
}

// auto is the client of package autopaho, which connects again by itself.
type auto struct {
	connection
	manager *autopaho.ConnectionManager
	reason  atomic.Uint32
}

func dialAuto(c line.Connect, event func(line.Report)) (line.Client, line.Report, error) {
	server, err := url.Parse(c.URL)
	if err != nil {
		return nil, line.Report{}, err
	}
	var a auto
	answer := make(chan line.Report, 1)
	refused := make(chan error, 1)
	first := true
	cfg := autopaho.ClientConfig{
		ServerUrls:                    []*url.URL{server},
		KeepAlive:                     uint16(c.KeepAlive),
		CleanStartOnInitialConnection: c.Clean,
		SessionExpiryInterval:         uint32(c.Expiry),
		ReconnectBackoff:              autopaho.NewConstantBackoff(20 * time.Millisecond),
		OnConnectionUp: func(_ *autopaho.ConnectionManager, ack *paho.Connack) {
			r := connected(ack)
			if first {
				first = false
				answer <- r
				return
			}
			r.Up = true
			event(r)
		},
		OnConnectionDown: func() bool { return c.Reconnect },
		OnConnectError: func(err error) {
			select {
			case refused <- err:
			default:
			}
		},
		DisconnectPacketBuilder: func() *paho.Disconnect { return &paho.Disconnect{ReasonCode: byte(a.reason.Load())} },
		ClientConfig:            clientConfig(c, event),
	}
	cfg.WillMessage, cfg.WillProperties = will(c)
	// The manager's context is its life: Disconnect ends it, or the process.
	if a.manager, err = autopaho.NewConnection(context.Background(), cfg); err != nil {
		return nil, line.Report{}, err
	}
	a.connection = connection{a.manager}
	select {
	case r := <-answer:
		return &a, r, nil
	case err := <-refused:
		return nil, line.Report{}, err
	case <-time.After(patience):
		return nil, line.Report{}, fmt.Errorf("no CONNACK")
	}
}

func (a *auto) Disconnect(reason int) error {
	a.reason.Store(uint32(reason))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return a.manager.Disconnect(ctx)
}

// clientConfig is what both clients are told. Down is said once a connection,
// with the server's reason where it gave one.
func clientConfig(c line.Connect, event func(line.Report)) paho.ClientConfig {
	return paho.ClientConfig{
		ClientID:      c.ClientID,
		PacketTimeout: patience,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
			event(line.Report{Message: received(r.Packet)})
			return true, nil
		}},
		OnServerDisconnect: func(d *paho.Disconnect) { event(line.Report{Down: true, Reason: int(d.ReasonCode)}) },
		OnClientError:      func(error) { event(line.Report{Down: true}) },
	}
}

func connected(ack *paho.Connack) line.Report {
	r := line.Report{SessionPresent: ack.SessionPresent}
	if ack.Properties != nil {
		r.ClientID = ack.Properties.AssignedClientID
	}
	return r
}
