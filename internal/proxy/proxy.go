// Package proxy tells where a request really comes from when reverse proxies stand between a client and the server.
package proxy

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Trusted are the networks of the reverse proxies whose headers are believed.
type Trusted []netip.Prefix

// Source gives the address that a request comes from: the peer's, or, if that is a trusted proxy, the last address in
// X-Forwarded-For that is not one. The zero Addr means that it cannot be told, and is in no network.
func (t Trusted) Source(r *http.Request) netip.Addr {
	addr, ok := peer(r)
	if !ok || !t.contains(addr) {
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
		if addr = next; !t.contains(addr) {
			break
		}
	}
	return addr
}

// Secure tells whether the client speaks https: to us, or to a trusted proxy.
func (t Trusted) Secure(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	addr, ok := peer(r)
	return ok && t.contains(addr) && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

// BaseURL is scheme and host by which the client reached us. Proxies must pass the Host header on.
func (t Trusted) BaseURL(r *http.Request) string {
	if t.Secure(r) {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

func (t Trusted) contains(a netip.Addr) bool {
	return slices.ContainsFunc(t, func(p netip.Prefix) bool { return p.Contains(a) })
}

// peer is the other end of the connection.
func peer(r *http.Request) (netip.Addr, bool) {
	p, err := netip.ParseAddrPort(r.RemoteAddr)
	return p.Addr().Unmap().WithZone(""), err == nil
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
