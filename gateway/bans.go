package gateway

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/sluice-mqtt/sluice/backend"
	"github.com/sluice-mqtt/sluice/protocol"
)

// banInterval is how late a gateway may hear of a ban that another one was
// asked for, if the bus does not bring word of it.
const banInterval = 2 * time.Second

// banList is all bans of the cluster. It is immutable.
type banList struct {
	revision uint64
	clients  map[string]backend.Ban
	users    map[string]backend.Ban
	// networks are few different sizes; each is a map by its network.
	networks map[int]map[netip.Prefix]backend.Ban
}

// bans is the list in force, nil where the store keeps none.
type bans struct{ list atomic.Pointer[banList] }

// banned returns the ban that keeps a client out, nil if there is none. It is
// asked for every CONNECT, before anything that costs.
func (g *Gateway) banned(c *Client) *backend.Ban {
	l := g.bans.list.Load()
	if l == nil {
		return nil
	}
	now := time.Now()
	in := func(b backend.Ban, has bool) *backend.Ban {
		if !has || !b.Until.IsZero() && now.After(b.Until) {
			return nil
		}
		return &b
	}
	b, has := l.clients[string(c.ID)]
	if found := in(b, has); found != nil {
		return found
	}
	if c.Username != "" {
		b, has = l.users[c.Username]
		if found := in(b, has); found != nil {
			return found
		}
	}
	addr := addressOf(c.Remote).Unmap().WithZone("")
	if !addr.IsValid() {
		return nil
	}
	for bits, nets := range l.networks {
		p, err := addr.Prefix(bits)
		if err != nil {
			continue // of the other family
		}
		b, has := nets[p]
		if found := in(b, has); found != nil {
			return found
		}
	}
	return nil
}

// refuseBanned answers the CONNECT of a client that is banned.
func (c *conn) refuseBanned() (refused bool) {
	b := c.g.banned(&c.client)
	if b == nil {
		return false
	}
	text := "banned"
	if b.Reason != "" {
		text += ": " + b.Reason
	}
	c.refuse(protocol.Banned, text)
	return true
}

func newBanList(revision uint64) *banList {
	return &banList{
		revision: revision, clients: map[string]backend.Ban{}, users: map[string]backend.Ban{},
		networks: map[int]map[netip.Prefix]backend.Ban{},
	}
}

// loadBans reads all bans.
func (g *Gateway) loadBans(ctx context.Context, store backend.Bans, revision uint64) (*banList, error) {
	l := newBanList(revision)
	for cursor, pages := "", 0; pages < backend.MaxBans; pages++ {
		page, next, err := store.ListBans(ctx, cursor, 1000)
		if err != nil {
			return nil, err
		}
		for _, b := range page {
			l.add(b)
		}
		if cursor = next; next == "" {
			break
		}
	}
	return l, nil
}

func (l *banList) add(b backend.Ban) {
	switch b.Kind {
	case backend.BanClient:
		l.clients[b.Value] = b
	case backend.BanUser:
		l.users[b.Value] = b
	case backend.BanAddress:
		p, err := parseNetwork(b.Value)
		if err != nil {
			return
		}
		if l.networks[p.Bits()] == nil {
			l.networks[p.Bits()] = map[netip.Prefix]backend.Ban{}
		}
		l.networks[p.Bits()][p] = b
	}
}

// parseNetwork reads an address or a network.
func parseNetwork(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		addr = addr.Unmap().WithZone("")
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, err
	}
	return p.Masked(), nil
}

// followBans keeps the list fresh until the context ends.
func (g *Gateway) followBans(ctx context.Context) {
	if _, ok := g.store.(backend.Bans); !ok {
		return
	}
	for sleep(ctx, banInterval) {
		g.refreshBans(ctx)
	}
}

// refreshBans reads the bans if they have changed, and disconnects who is
// banned by now. While the store is away the old list holds.
func (g *Gateway) refreshBans(ctx context.Context) {
	store, ok := g.store.(backend.Bans)
	if !ok {
		return
	}
	sctx, cancel := g.storeContext(ctx)
	defer cancel()
	revision, err := store.BanRevision(sctx)
	if err != nil {
		g.storeFailed(err)
		return
	}
	if l := g.bans.list.Load(); l != nil && l.revision == revision {
		return
	}
	l, err := g.loadBans(sctx, store, revision)
	if err != nil {
		g.storeFailed(err)
		return
	}
	g.bans.list.Store(l)
	for i := range clientShards {
		for _, c := range g.clients.some(i) {
			if g.banned(&c.client) != nil {
				c.end(protocol.AdministrativeAction, "banned")
			}
		}
	}
}

// Ban keeps clients out of the whole cluster from now on, and disconnects
// those that are there. The error is a [ConfigError] for a ban that says
// nothing, ErrFull for too many.
func (g *Gateway) Ban(ctx context.Context, b backend.Ban) error {
	store, ok := g.store.(backend.Bans)
	if !ok {
		return ErrNoDirectory
	}
	switch b.Kind {
	case backend.BanClient, backend.BanUser:
		if b.Value == "" || len(b.Value) > 65_535 {
			return &ConfigError{Field: "value", Value: fmt.Sprintf("%.40s", b.Value), Allowed: "1 to 65535 bytes"}
		}
	case backend.BanAddress:
		p, err := parseNetwork(b.Value)
		if err != nil {
			return &ConfigError{Field: "value", Value: fmt.Sprintf("%.40s", b.Value), Allowed: "an IP address or a network"}
		}
		b.Value = p.String()
		if p.IsSingleIP() {
			b.Value = p.Addr().String()
		}
	default:
		return &ConfigError{Field: "kind", Value: string(b.Kind), Allowed: "client, user, address"}
	}
	b.Since = time.Now().Truncate(time.Second)
	sctx, cancel := g.storeContext(ctx)
	err := store.PutBan(sctx, b)
	cancel()
	if err != nil {
		return g.storeFailed(err)
	}
	g.spreadBans(ctx)
	return nil
}

// Unban ends a ban and tells whether there was one. The error is a [ConfigError]
// for what can be no ban.
func (g *Gateway) Unban(ctx context.Context, kind backend.BanKind, value string) (existed bool, err error) {
	store, ok := g.store.(backend.Bans)
	if !ok {
		return false, ErrNoDirectory
	}
	switch kind {
	case backend.BanClient, backend.BanUser:
	case backend.BanAddress:
		p, err := parseNetwork(value)
		if err != nil {
			return false, &ConfigError{Field: "value", Value: fmt.Sprintf("%.40s", value), Allowed: "an IP address or a network"}
		}
		if value = p.String(); p.IsSingleIP() {
			value = p.Addr().String()
		}
	default:
		return false, &ConfigError{Field: "kind", Value: fmt.Sprintf("%.40s", kind), Allowed: "client, user, address"}
	}
	sctx, cancel := g.storeContext(ctx)
	existed, err = store.RemoveBan(sctx, kind, value)
	cancel()
	if err == nil {
		g.spreadBans(ctx)
	}
	return existed, g.storeFailed(err)
}

// Bans returns a page of bans.
func (g *Gateway) Bans(ctx context.Context, cursor string, most int) ([]backend.Ban, string, error) {
	store, ok := g.store.(backend.Bans)
	if !ok {
		return nil, "", ErrNoDirectory
	}
	sctx, cancel := g.storeContext(ctx)
	defer cancel()
	page, next, err := store.ListBans(sctx, cursor, most)
	return page, next, g.storeFailed(err)
}

// spreadBans has every gateway look at once. One that does not hear of it
// looks by itself before long.
func (g *Gateway) spreadBans(ctx context.Context) {
	nodes, err := g.nodes(ctx)
	if err != nil {
		g.refreshBans(ctx)
		return
	}
	g.ask(ctx, nodes, question{What: askBans})
}
