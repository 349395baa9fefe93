package gateway

import (
	"context"
	"encoding"
	"encoding/json"
	"net"
	"net/netip"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// owner is what is stored of a client beside its will. The gateway that
// publishes the will, perhaps long afterwards, asks by it whether it may.
type owner struct {
	Username     string           `json:"u,omitempty"`
	Principal    string           `json:"p,omitempty"`
	Listener     string           `json:"l,omitempty"`
	Remote       string           `json:"r,omitempty"`
	PeerIdentity string           `json:"i,omitempty"`
	Version      protocol.Version `json:"v"`
	// Data is what [Client].Data says of itself.
	Data []byte `json:"d,omitempty"`
}

// owner is the client as an owner of a will.
func (c *Client) owner() []byte {
	o := owner{Username: c.Username, Principal: c.Principal, Listener: c.Listener, PeerIdentity: c.PeerIdentity, Version: c.Version}
	if c.Remote != nil {
		o.Remote = c.Remote.String()
	}
	if d, ok := c.Data.(encoding.BinaryMarshaler); ok {
		o.Data, _ = d.MarshalBinary() // without them it may do less
	}
	text, err := json.Marshal(&o)
	if err != nil {
		return nil // as if nobody knew whose it is
	}
	return text
}

// ownerOf is the client that left a will; nil if that is not known.
func (g *Gateway) ownerOf(ch *backend.Chore) *Client {
	var o owner
	if json.Unmarshal(ch.Owner, &o) != nil {
		return nil
	}
	c := &Client{ID: ch.Client, Username: o.Username, Principal: o.Principal, Listener: o.Listener, PeerIdentity: o.PeerIdentity, Version: o.Version}
	if at, err := netip.ParseAddrPort(o.Remote); err == nil {
		c.Remote = net.TCPAddrFromAddrPort(at)
	}
	if r, ok := g.opt.Authorizer.(Restorer); ok && o.Data != nil {
		data, err := r.Restore(o.Data)
		if err != nil {
			g.log.Warn("what is stored of the owner of a will can not be read", "client", string(ch.Client), "err", err)
			return nil
		}
		c.Data = data
	}
	return c
}

// mayPublishWill asks whether a will that is due may be published: it may have
// been left long ago, and with another gateway. Of is its client, if that was
// connected here until now, else it is asked for as what is stored of it.
func (g *Gateway) mayPublishWill(ctx context.Context, ch *backend.Chore, of *Client) bool {
	if g.opt.Authorizer == nil {
		return true
	}
	if of == nil || of.ID != ch.Client {
		of = g.ownerOf(ch)
	}
	if of != nil && g.authorize(ctx, of, Access{Action: Publish, Topic: ch.Will.Topic, QoS: ch.Will.QoS, Retain: ch.Will.Retain}) == nil {
		return true
	}
	g.drop(DropDenied, of, ch.Will, 1)
	g.log.Info("a will is not allowed any more", "client", string(ch.Client), "topic", ch.Will.Topic)
	return false
}
