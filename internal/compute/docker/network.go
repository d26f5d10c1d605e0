package docker

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	cerrdefs "github.com/containerd/errdefs"
	enginenet "github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/oriel-project/oriel/internal/compute"
)

// Subnet is a network for machines.
type Subnet struct {
	ID       string       // as clients name it, for example subnet-0123456789abcdef0; "" for the default subnet
	CIDRv4   netip.Prefix // at least a /29; zero: a free one is found
	CIDRv6   netip.Prefix // at least a /96; zero: a unique local one is made up
	Internet bool         // machines reach what the host reaches; otherwise only the server reaches them
}

var subnetForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,63}$`)

// network is a subnet as the engine has it.
type network struct {
	Subnet
	name   string // of the engine's network
	bridge string // its interface on the host
	seed   [32]byte

	lock  keyed
	ready bool   // the engine has it and its wall stands; guarded by lock
	noV6  string // why it has no IPv6; guarded by lock
}

const (
	optionBridge = "com.docker.network.bridge.name"
	bridgePrefix = "orl-"
)

// plan checks the subnets, adds the default one, and names what they will be in the engine.
func plan(installation string, subnets []Subnet) (map[string]*network, error) {
	networks := map[string]*network{}
	for _, s := range append([]Subnet{{Internet: true}}, subnets...) {
		switch {
		case s.ID != "" && !subnetForm.MatchString(s.ID):
			return nil, fmt.Errorf("the subnet ID %.70q is not 1 to 64 letters, digits and -", s.ID)
		case s.ID == "default", s.ID != "" && networks[s.ID] != nil:
			return nil, fmt.Errorf("there is already a subnet %q", s.ID)
		case s.CIDRv4.IsValid() && (!s.CIDRv4.Addr().Is4() || s.CIDRv4 != s.CIDRv4.Masked() || s.CIDRv4.Bits() < 8 || s.CIDRv4.Bits() > 29):
			return nil, fmt.Errorf("the subnet %q: %s is not an IPv4 network of 8 to 29 bits such as 10.1.0.0/20", s.ID, s.CIDRv4)
		case s.CIDRv6.IsValid() && (!s.CIDRv6.Addr().Is6() || s.CIDRv6.Addr().Is4In6() || s.CIDRv6 != s.CIDRv6.Masked() || s.CIDRv6.Bits() < 32 || s.CIDRv6.Bits() > 96):
			return nil, fmt.Errorf("the subnet %q: %s is not an IPv6 network of 32 to 96 bits such as fd00:1::/64", s.ID, s.CIDRv6)
		}
		for _, other := range networks {
			if other.ID != s.ID && (overlap(other.CIDRv4, s.CIDRv4) || overlap(other.CIDRv6, s.CIDRv6)) {
				return nil, fmt.Errorf("the subnets %q and %q overlap", other.ID, s.ID)
			}
		}
		n := &network{Subnet: s, seed: sha256.Sum256([]byte(installation + "/" + s.ID))}
		of := sha256.Sum256([]byte(installation))
		n.name = "oriel-" + hex.EncodeToString(of[:4]) + "-" + n.title()
		n.bridge = bridgePrefix + hex.EncodeToString(n.seed[:5]) // an interface's name has at most 15 bytes
		if !s.CIDRv6.IsValid() {
			six := netip.MustParseAddr("fd00::").As16()
			copy(six[1:6], of[:5])
			copy(six[6:8], n.seed[:2])
			n.CIDRv6 = netip.PrefixFrom(netip.AddrFrom16(six), 64)
		}
		networks[s.ID] = n
	}
	return networks, nil
}

func overlap(a, b netip.Prefix) bool { return a.IsValid() && b.IsValid() && a.Overlaps(b) }

func (n *network) title() string {
	if n.ID == "" {
		return "default"
	}
	return n.ID
}

// network gives the network of a subnet, ready for machines: the engine has it and its wall stands. The first use in the
// life of the server makes or checks both.
func (p *Provider) network(ctx context.Context, subnet string) (*network, error) {
	n := p.networks[subnet]
	if n == nil {
		return nil, &compute.Fault{Code: string(types.FleetErrorCodeSubnetNotFound),
			Message: fmt.Sprintf("there is no subnet %.70q on this server; use one of its configuration, or none for the default subnet", subnet)}
	}
	// Whoever asked may give up meanwhile; the engine does not. It is finished all the same, and Close waits for it, so that
	// there is no network that nobody knows of.
	return n, n.lock.finish(ctx, "", func(ctx context.Context) error { return p.makeReady(ctx, n) })
}

// makeReady does the work of network. Its caller holds the network's lock.
func (p *Provider) makeReady(ctx context.Context, n *network) error {
	if n.ready {
		return nil
	}
	h, err := p.about(ctx)
	if err != nil {
		return err
	}
	v6, err := p.protect(ctx, n, nil)
	if err != nil {
		return err
	}
	gateways, err := p.ensureNetwork(ctx, n, v6)
	switch {
	case err == nil && h.podman: // it answers DNS at its own addresses
		_, err = p.protect(ctx, n, gateways)
	case err == nil && !p.config.AllowUnprotected: // Docker makes the bridge with the network, Podman with the first machine
		if _, missing := p.firewall.interfaces(n.bridge); missing != nil {
			err = &compute.Fault{Cause: missing, Message: "no machine is started, because the server does not see the container engine's networks: run both on one host, and neither in a container of its own"}
		}
	}
	n.ready = err == nil
	return err
}

// Prepare makes all subnets ready, which otherwise happens when the first machine in one is started. It saves that machine
// some time.
func (p *Provider) Prepare(ctx context.Context) error {
	var errs []error
	for id := range p.networks {
		_, err := p.network(ctx, id)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// forget has the network checked at its next use.
func (n *network) forget() {
	if release, err := n.lock.acquire(context.Background(), ""); err == nil {
		n.ready = false
		release()
	}
}

// protect puts the walls of a network up. Without that for IPv6, the network does without IPv6.
func (p *Provider) protect(ctx context.Context, n *network, gateways []netip.Addr) (v6 bool, err error) {
	w := wall{bridge: n.bridge, internet: n.Internet, gateways: gateways}
	if text, err := os.ReadFile("/etc/resolv.conf"); err == nil {
		w.resolvers = hostResolvers(string(text))
	}
	err = p.hostIsHere()
	if err == nil {
		err = p.firewall.raise(ctx, w, false)
	}
	if err != nil {
		if !p.config.AllowUnprotected {
			return false, &compute.Fault{Cause: err, Message: "no machine is started, because this host's services could not be kept out of its reach: " + err.Error()}
		}
		p.log.Warn("machines reach this host's services and each other", "subnet", n.title(), "error", err)
		return true, nil
	}
	n.noV6 = ""
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		n.noV6 = "the host's kernel has no IPv6"
	} else if err := p.firewall.raise(ctx, w, true); err != nil {
		n.noV6 = err.Error()
	}
	return n.noV6 == "", nil
}

// hostIsHere refuses an engine on another host, where our rules would be of no use.
func (p *Provider) hostIsHere() error {
	if !strings.HasPrefix(p.config.Host, "unix://") {
		return fmt.Errorf("the container engine %s may be on another host: use its socket there", p.config.Host)
	}
	return nil
}

// ensureNetwork finds or makes the network in the engine, and gives the host's addresses in it.
func (p *Provider) ensureNetwork(ctx context.Context, n *network, v6 bool) ([]netip.Addr, error) {
	r, err := p.engine.NetworkInspect(ctx, n.name, client.NetworkInspectOptions{})
	switch {
	case err == nil && p.fits(n, r.Network.Network):
		if v6 && !r.Network.EnableIPv6 {
			n.noV6 = "the container engine made the network without IPv6"
		}
		return gateways(r.Network.IPAM), nil
	case err == nil: // the configuration has changed
		if _, err := p.engine.NetworkRemove(ctx, n.name, client.NetworkRemoveOptions{}); err != nil && !cerrdefs.IsNotFound(err) {
			p.log.Warn("the subnet stays as it was until no machine runs in it", "subnet", n.title(), "error", err)
			return gateways(r.Network.IPAM), nil
		}
	case !cerrdefs.IsNotFound(err):
		return nil, fail("look for the network of the subnet "+n.title(), err)
	}
	ipam, err := p.makeNetwork(ctx, n, v6)
	if err != nil && v6 && !errors.Is(err, compute.ErrUnavailable) && ctx.Err() == nil {
		why := err
		if ipam, err = p.makeNetwork(ctx, n, false); err == nil {
			n.noV6 = why.Error()
			p.log.Warn("machines have no IPv6", "subnet", n.title(), "error", why)
		}
	}
	return gateways(ipam), err
}

func gateways(ipam enginenet.IPAM) []netip.Addr {
	var addrs []netip.Addr
	for _, c := range ipam.Config {
		if c.Gateway.IsValid() {
			addrs = append(addrs, c.Gateway)
		}
	}
	return addrs
}

// fits tells whether the engine's network is the one that is configured.
func (p *Provider) fits(n *network, got enginenet.Network) bool {
	if got.Labels[labelInstallation] != p.config.Installation || got.Internal == n.Internet {
		return false
	}
	for _, c := range got.IPAM.Config {
		switch {
		case c.Subnet.Addr().Is4() && n.CIDRv4.IsValid() && c.Subnet != n.CIDRv4,
			c.Subnet.Addr().Is6() && c.Subnet != n.CIDRv6:
			return false
		}
	}
	return true
}

func (p *Provider) makeNetwork(ctx context.Context, n *network, v6 bool) (ipam enginenet.IPAM, err error) {
	candidates := []netip.Prefix{n.CIDRv4}
	if !n.CIDRv4.IsValid() {
		candidates = n.free(routes())
	}
	for _, v4 := range candidates {
		ipam = enginenet.IPAM{Driver: "default", Config: []enginenet.IPAMConfig{{Subnet: v4, Gateway: v4.Addr().Next()}}}
		if v6 {
			ipam.Config = append(ipam.Config, enginenet.IPAMConfig{Subnet: n.CIDRv6, Gateway: n.CIDRv6.Addr().Next()})
		}
		options := client.NetworkCreateOptions{
			Driver: "bridge", Internal: !n.Internet, EnableIPv6: &v6,
			IPAM: &ipam,
			Options: map[string]string{
				optionBridge:                           n.bridge,
				"com.docker.network.bridge.enable_icc": "false",
			},
			Labels: map[string]string{labelInstallation: p.config.Installation, labelSubnet: n.ID},
		}
		_, err = p.engine.NetworkCreate(ctx, n.name, options)
		if err == nil || !strings.Contains(strings.ToLower(err.Error()), "overlap") && !strings.Contains(err.Error(), "already used") {
			break
		}
	}
	return ipam, fail("make the network of the subnet "+n.title(), err)
}

// free gives some /20 networks of 10.64.0.0/10 that nothing on this host has a route to. Where they begin depends on the
// subnet, so that it is likely to get the same one again.
func (n *network) free(taken []netip.Prefix) []netip.Prefix {
	var free []netip.Prefix
	start := int(binary.BigEndian.Uint16(n.seed[:]))
	for i := range 1024 {
		block := (start + i) % 1024
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(64 + block>>4), byte(block << 4), 0}), 20)
		clash := false
		for _, t := range taken {
			clash = clash || t.Overlaps(prefix)
		}
		if !clash {
			if free = append(free, prefix); len(free) == 16 {
				break
			}
		}
	}
	return free
}

// routes gives the IPv4 networks that this host has addresses in or routes to, but for the way to everywhere.
func routes() []netip.Prefix {
	var taken []netip.Prefix
	if addrs, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addrs {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Is4() {
				taken = append(taken, prefix.Masked())
			}
		}
	}
	if text, err := os.ReadFile("/proc/net/route"); err == nil {
		taken = append(taken, parseRoutes(string(text))...)
	}
	return taken
}

// parseRoutes reads /proc/net/route: destination and mask are the second and eighth column, in the host's byte order.
func parseRoutes(text string) []netip.Prefix {
	var found []netip.Prefix
	for line := range strings.Lines(text) {
		word := strings.Fields(line)
		if len(word) < 8 {
			continue
		}
		to, err1 := strconv.ParseUint(word[1], 16, 32)
		mask, err2 := strconv.ParseUint(word[7], 16, 32)
		if err1 != nil || err2 != nil || mask == 0 {
			continue
		}
		var a [4]byte
		binary.NativeEndian.PutUint32(a[:], uint32(to))
		found = append(found, netip.PrefixFrom(netip.AddrFrom4(a), bits.OnesCount32(uint32(mask))))
	}
	return found
}

// removeNetworks removes all networks of this installation, also those that are no longer configured, and their walls.
func (p *Provider) removeNetworks(ctx context.Context) error {
	bridges := map[string]bool{}
	for _, n := range p.networks {
		bridges[n.bridge] = true
		n.forget()
	}
	r, err := p.engine.NetworkList(ctx, client.NetworkListOptions{Filters: client.Filters{}.Add("label", labelInstallation+"="+p.config.Installation)})
	if err != nil {
		return fail("list networks", err)
	}
	var errs []error
	for _, n := range r.Items {
		if _, err := p.engine.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{}); err != nil && !cerrdefs.IsNotFound(err) {
			errs = append(errs, fail("remove the network "+n.Name, err))
		} else if bridge := n.Options[optionBridge]; strings.HasPrefix(bridge, bridgePrefix) {
			bridges[bridge] = true
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	for bridge := range bridges {
		for _, v6 := range []bool{false, true} {
			if err := p.firewall.raze(ctx, bridge, v6); err != nil { // where walls cannot be put up there are none
				p.log.Debug("the wall of a network could not be removed", "bridge", bridge, "error", err)
			}
		}
	}
	return nil
}
