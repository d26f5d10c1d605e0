package gateway

import (
	"net/netip"
	"slices"

	"github.com/oriel-project/oriel/internal/appstream"
)

// admits tells whether the builder's AccessEndpoints let an address in. A builder without any lets everyone in.
func (g *Gateway) admits(b *appstream.ImageBuilder, a netip.Addr) bool {
	if len(b.View.AccessEndpoints) == 0 {
		return true
	}
	for _, e := range b.View.AccessEndpoints {
		if e.VpceId != nil && slices.ContainsFunc(g.Endpoints[*e.VpceId], func(p netip.Prefix) bool { return p.Contains(a) }) {
			return true
		}
	}
	return false
}
