package gateway

import (
	"net/netip"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// admits tells whether the AccessEndpoints of a builder or a stack let an address in. Without any, everyone is let in.
func (g *Gateway) admits(endpoints []types.AccessEndpoint, a netip.Addr) bool {
	if len(endpoints) == 0 {
		return true
	}
	for _, e := range endpoints {
		if e.VpceId != nil && slices.ContainsFunc(g.Endpoints[*e.VpceId], func(p netip.Prefix) bool { return p.Contains(a) }) {
			return true
		}
	}
	return false
}
