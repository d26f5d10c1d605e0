package gateway

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/oriel-project/oriel/internal/appstream"
)

// source gives the address that a request comes from: the peer's, or, if that is a trusted proxy, the last address in
// X-Forwarded-For that is not one. The zero Addr means that it cannot be told, and is in no network.
func (g *Gateway) source(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := peer.Addr().Unmap().WithZone("")
	if !g.trusts(addr) {
		return addr
	}
	// Each proxy appends the address it saw, so the list is read from its end, as long as proxies of ours wrote it.
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		hop = strings.TrimSpace(hop)
		if hop == "" {
			continue
		}
		next, ok := parseHop(hop)
		if !ok {
			return netip.Addr{} // a proxy of ours passed on something that is no address: nobody knows who this is
		}
		if addr = next; !g.trusts(addr) {
			break
		}
	}
	return addr
}

// parseHop reads an address with or without a port; some proxies add one.
func parseHop(hop string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(strings.Trim(hop, "[]")); err == nil {
		return a.Unmap().WithZone(""), true
	}
	if ap, err := netip.ParseAddrPort(hop); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}

func (g *Gateway) trusts(a netip.Addr) bool { return contains(g.TrustedProxies, a) }

func contains(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// secure tells whether the browser speaks https: to us, or to a trusted proxy.
func (g *Gateway) secure(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && g.trusts(peer.Addr().Unmap().WithZone("")) && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

// baseURL is scheme and host by which the browser reached us.
func (g *Gateway) baseURL(r *http.Request) string {
	if g.secure(r) {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// admits tells whether the builder's AccessEndpoints let an address in. A builder without any lets everyone in.
func (g *Gateway) admits(b *appstream.ImageBuilder, a netip.Addr) bool {
	if len(b.View.AccessEndpoints) == 0 {
		return true
	}
	for _, e := range b.View.AccessEndpoints {
		if e.VpceId != nil && contains(g.Endpoints[*e.VpceId], a) {
			return true
		}
	}
	return false
}
