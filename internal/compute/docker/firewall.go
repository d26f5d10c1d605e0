package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
)

// firewall keeps machines away from the host's services, from each other and from the metadata services of clouds, with
// rules of the host's kernel. Its rules are in the table mangle, which is asked before the table filter and which engines
// and firewall managers leave alone: nobody can put a permission before them or flush them by restarting.
//
// The rules of one bridge are in three chains, named after it:
//
//	ORIEL-IN-x   from a machine to the host itself:  INPUT -i x
//	ORIEL-OUT-x  from a machine to anywhere else:    FORWARD -i x
//	ORIEL-TO-x   from anywhere to a machine:         FORWARD -o x
//
// Connections between two machines on one bridge pass FORWARD too, as long as the kernel's br_netfilter is on.
type firewall struct {
	run        func(ctx context.Context, input, name string, args ...string) (output string, err error)
	interfaces func(name string) (*net.Interface, error)

	mu sync.Mutex // iptables-restore is not for two at once
}

// wall says what a bridge's machines may do.
type wall struct {
	bridge    string
	internet  bool
	resolvers []netip.Addr // name servers that the host uses: the engine asks them in the name of machines
	gateways  []netip.Addr // the host's addresses on the bridge, where the engine itself answers DNS; empty for Docker
}

const table = "mangle"

// tools are the programs for IPv4 and IPv6.
func tool(v6 bool) string {
	if v6 {
		return "ip6tables"
	}
	return "iptables"
}

// raise makes or renews the wall. It is done before the first machine is on the bridge. The rules name the bridge, which
// need not exist yet.
func (f *firewall) raise(ctx context.Context, w wall, v6 bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.seeBridges(ctx, v6); err != nil {
		return err
	}
	there, err := f.run(ctx, "", tool(v6), "-w", "60", "-t", table, "-S")
	if err != nil {
		return err
	}
	_, err = f.run(ctx, w.script(v6, there), tool(v6)+"-restore", "-w", "60", "--noflush")
	return err
}

// raze removes the wall of a bridge that is gone.
func (f *firewall) raze(ctx context.Context, bridge string, v6 bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	there, err := f.run(ctx, "", tool(v6), "-w", "60", "-t", table, "-S")
	if err != nil {
		return err
	}
	script := "*" + table + "\n"
	for _, j := range jumps(bridge) {
		if lines := strings.Split(there, "\n"); slices.Contains(lines, "-A "+j.rule()) {
			script += "-D " + j.rule() + "\n"
		}
	}
	for _, j := range jumps(bridge) {
		if strings.Contains(there, "-N "+j.chain+"\n") {
			script += "-F " + j.chain + "\n-X " + j.chain + "\n"
		}
	}
	_, err = f.run(ctx, script+"COMMIT\n", tool(v6)+"-restore", "-w", "60", "--noflush")
	return err
}

// jump leads from a chain of the kernel to one of ours.
type jump struct{ hook, match, chain string }

func (j jump) rule() string { return j.hook + " " + j.match + " -j " + j.chain }

func jumps(bridge string) []jump {
	return []jump{
		{"INPUT", "-i " + bridge, "ORIEL-IN-" + bridge},
		{"FORWARD", "-i " + bridge, "ORIEL-OUT-" + bridge},
		{"FORWARD", "-o " + bridge, "ORIEL-TO-" + bridge},
	}
}

// script is what iptables-restore shall do, all at once: make our chains or empty them, fill them, and lead to them unless
// there, the rules in force, do so already.
func (w wall) script(v6 bool, there string) string {
	var s strings.Builder
	s.WriteString("*" + table + "\n")
	lines := strings.Split(there, "\n")
	for _, j := range jumps(w.bridge) {
		fmt.Fprintf(&s, ":%s - [0:0]\n", j.chain)
	}
	in, out, to := w.rules(v6)
	for i, rules := range [][]string{in, out, to} {
		j := jumps(w.bridge)[i]
		for _, rule := range rules {
			fmt.Fprintf(&s, "-A %s %s\n", j.chain, rule)
		}
		if !slices.Contains(lines, "-A "+j.rule()) {
			fmt.Fprintf(&s, "-I %s\n", j.rule())
		}
	}
	s.WriteString("COMMIT\n")
	return s.String()
}

const known = "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"

func (w wall) rules(v6 bool) (in, out, to []string) {
	in, out, to = []string{known}, []string{known}, []string{known}
	dns := func(addrs []netip.Addr) (rules []string) {
		for _, a := range addrs {
			if a.Is6() == v6 {
				for _, protocol := range []string{"udp", "tcp"} {
					rules = append(rules, fmt.Sprintf("-d %s -p %s -m %s --dport 53 -j RETURN", a, protocol, protocol))
				}
			}
		}
		return rules
	}
	metadata := []string{"-d 169.254.0.0/16 -j DROP"}
	if v6 {
		// Neighbours must find one another, or the machine cannot even reach its gateway.
		in = append(in, "-p ipv6-icmp -m icmp6 --icmpv6-type 135 -j RETURN", "-p ipv6-icmp -m icmp6 --icmpv6-type 136 -j RETURN")
		metadata = []string{"-d fd00:ec2::/32 -j DROP", "-d fd20:ce::/32 -j DROP"} // AWS, Google
	}
	in = append(in, dns(w.gateways)...)
	if w.internet {
		in = append(in, dns(w.resolvers)...)
		out = append(out, dns(w.resolvers)...)
		// An address of the host whose port is another container's leads there before we see it.
		out = append(out, "-m conntrack --ctstate DNAT -j DROP")
		out = append(out, metadata...)
	} else {
		out = append(out, "-j DROP")
	}
	in, to = append(in, "-j DROP"), append(to, "-j DROP")
	return in, out, to
}

// seeBridges makes sure that the rules also see what stays on one bridge.
func (f *firewall) seeBridges(ctx context.Context, v6 bool) error {
	file := "/proc/sys/net/bridge/bridge-nf-call-" + tool(v6)
	if _, err := os.Stat(file); err != nil {
		if _, err := f.run(ctx, "", "modprobe", "br_netfilter"); err != nil {
			return fmt.Errorf("the kernel does not filter what stays on one bridge; load its module br_netfilter: %w", err)
		}
	}
	value, err := os.ReadFile(file)
	if err == nil && string(bytes.TrimSpace(value)) != "1" {
		err = os.WriteFile(file, []byte("1\n"), 0o644)
	}
	if err != nil {
		return fmt.Errorf("the kernel does not filter what stays on one bridge; set net.bridge.bridge-nf-call-%s to 1: %w", tool(v6), err)
	}
	return nil
}

// runCommand runs a program of the system, wherever systems have such.
func runCommand(ctx context.Context, input, name string, args ...string) (string, error) {
	if os.Geteuid() != 0 {
		return "", fmt.Errorf("%s needs root: run the server as root", name)
	}
	path := name
	for _, dir := range []string{"/usr/sbin/", "/sbin/", "/usr/bin/", "/bin/", "/usr/local/sbin/"} {
		if _, err := os.Stat(dir + name); err == nil {
			path = dir + name
			break
		}
	}
	var out, errs bytes.Buffer
	c := exec.CommandContext(ctx, path, args...)
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(input), &out, &errs
	err := c.Run()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("the program %s is missing: install it (Debian: iptables)", name)
	case err != nil:
		return "", fmt.Errorf("%s: %w: %.300s", name, err, bytes.TrimSpace(errs.Bytes()))
	}
	return out.String(), nil
}

// hostResolvers gives the name servers in the text of /etc/resolv.conf, but for those of the host itself.
func hostResolvers(text string) []netip.Addr {
	var addrs []netip.Addr
	for line := range strings.Lines(text) {
		if word := strings.Fields(line); len(word) >= 2 && word[0] == "nameserver" {
			if a, err := netip.ParseAddr(word[1]); err == nil && !a.IsLoopback() && len(addrs) < 8 {
				addrs = append(addrs, a.Unmap().WithZone(""))
			}
		}
	}
	return addrs
}
