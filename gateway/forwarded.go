package gateway

import (
	"net"
	"net/netip"
	"slices"
	"strings"
)

// trusted reports whether an address is in one of the networks.
func trusted(networks []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(a) })
}

// addressOf is the address of a peer without its port; not valid where there is
// none, as on a unix socket.
func addressOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr()
	}
	if a == nil {
		return netip.Addr{}
	}
	p, _ := netip.ParseAddrPort(a.String())
	return p.Addr()
}

// forwardedFor finds the client behind a chain of proxies by X-Forwarded-For,
// to which each appends whom it heard: from the right, the first that is no
// trusted proxy. Whoever is not trusted is the client himself, whatever he
// says of others. A port is not known then, and is 0.
func forwardedFor(proxies []netip.Prefix, remote net.Addr, headers []string) net.Addr {
	if len(headers) == 0 || !trusted(proxies, addressOf(remote)) {
		return remote
	}
	hops := strings.Split(strings.Join(headers, ","), ",")
	for _, hop := range slices.Backward(hops) {
		hop = strings.TrimSpace(hop)
		a, err := netip.ParseAddr(hop)
		if err != nil {
			p, perr := netip.ParseAddrPort(hop)
			if perr != nil {
				return remote // What a trusted proxy has let through is not believed.
			}
			a = p.Addr()
		}
		remote = net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0))
		if !trusted(proxies, a) {
			return remote
		}
	}
	return remote
}
