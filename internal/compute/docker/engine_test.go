package docker

// Tests on a real engine. They run when ORIEL_TEST_ENGINE names one, for example unix:///var/run/docker.sock. Machines are
// made from a small image of this host's own shell, and their agent is testdata/agent.

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/compute/computetest"
)

const oldAgent, newAgent = "02-28-2025", "01-31-2026"

func testEngine(t testing.TB) string {
	engine := os.Getenv("ORIEL_TEST_ENGINE")
	if engine == "" {
		t.Skip("no container engine to test with: set ORIEL_TEST_ENGINE, for example to unix:///var/run/docker.sock")
	}
	return engine
}

var buildAgent = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "oriel-test-agent")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "agent")
	c := exec.Command("go", "build", "-o", file, "./testdata/agent")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.ReadFile(file)
})

// rootfs is an archive with a shell and a few commands of this host.
var rootfs = sync.OnceValues(func() ([]byte, error) {
	files := map[string]string{} // in the image → here
	for _, name := range []string{"sh", "cat", "rm", "tr", "sleep", "id", "mkdir", "ln"} {
		path, err := exec.LookPath(name)
		if err != nil {
			return nil, err
		}
		files["/bin/"+name] = path
		libs, err := exec.Command("ldd", path).Output()
		if err != nil {
			return nil, err
		}
		for _, lib := range regexp.MustCompile(`/\S+`).FindAllString(string(libs), -1) {
			files[lib] = lib
		}
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, content []byte) error {
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
		_, err := w.Write(content)
		return err
	}
	var errs []error
	for _, dir := range []string{"root/", "opt/", "run/", "tmp/", "etc/"} {
		errs = append(errs, add(tar.Header{Name: dir, Mode: 0o755, Typeflag: tar.TypeDir}, nil))
	}
	// What every image has that can be a machine: here it is only there.
	errs = append(errs, add(tar.Header{Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0::/root:/bin/sh\nImageBuilderAdmin:x:1000:1000::/root:/bin/sh\n")),
		add(tar.Header{Name: "etc/oriel/session", Mode: 0o755}, nil), add(tar.Header{Name: "usr/bin/Xvnc", Mode: 0o755}, nil),
		add(tar.Header{Name: "usr/local/bin/sudo", Typeflag: tar.TypeSymlink, Linkname: agentapi.Binary}, nil))
	for name, path := range files {
		content, err := os.ReadFile(path)
		errs = append(errs, err, add(tar.Header{Name: name[1:], Mode: 0o755}, content))
	}
	errs = append(errs, w.Close())
	return b.Bytes(), errors.Join(errs...)
})

func unique() string { return strings.ToLower(rand.Text()[:10]) }

// open gives a provider with an installation, a directory and a base image of its own. They are removed at the end.
func open(t testing.TB, change ...func(*Config)) (p *Provider, base string) {
	t.Helper()
	engine := testEngine(t)
	agent, err := buildAgent()
	if err != nil {
		t.Fatal(err)
	}
	archive, err := rootfs()
	if err != nil {
		t.Fatal(err)
	}
	name := "test-" + unique()
	config := Config{Host: engine, DataDir: t.TempDir(), Installation: name, Log: slog.New(slog.DiscardHandler)}
	for _, c := range change {
		c(&config)
	}
	p = reopen(t, config)
	for _, version := range []string{newAgent, oldAgent} {
		file := filepath.Join(t.TempDir(), "agent")
		if err := errors.Join(os.WriteFile(file, append(slices.Clone(agent), version...), 0o700), p.InstallAgent(file, version)); err != nil {
			t.Fatal(err)
		}
	}
	base = "oriel/base:" + name
	var last int64
	err = p.ImportImage(t.Context(), bytes.NewReader(archive), []string{
		label(labelImageName, name), label(labelImagePlatform, "DEBIAN_12"), label(labelImageReleased, "2026-01-31"),
	}, base, func(n int64) { last = n })
	if err != nil {
		t.Fatal(err)
	}
	if last < int64(len(archive)) {
		t.Errorf("import of %d bytes: progress ended at %d", len(archive), last)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		if err := p.RemoveAll(ctx); err != nil {
			t.Error(err)
		}
		if _, err := p.engine.ImageRemove(ctx, base, client.ImageRemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
		left, err := p.engine.ImageList(ctx, client.ImageListOptions{All: true, Filters: client.Filters{}.Add("label", labelInstallation+"="+name)})
		if err != nil || len(left.Items) > 0 {
			t.Errorf("images left in the engine: %+v, %v", left.Items, err)
		}
		if rules, err := runCommand(ctx, "", "iptables", "-t", table, "-S"); err == nil {
			for _, n := range p.networks {
				if strings.Contains(rules, n.bridge) {
					t.Errorf("rules left for %s", n.bridge)
				}
			}
		}
	})
	return p, base
}

func reopen(t testing.TB, config Config) *Provider {
	t.Helper()
	p, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func (p *Provider) shell(ctx context.Context, id, command string) (string, error) {
	return p.shellAs(ctx, id, "0", command)
}

func (p *Provider) shellAs(ctx context.Context, id, user, command string) (string, error) {
	e, err := p.engine.ExecCreate(ctx, containerName(id), client.ExecCreateOptions{User: user, Cmd: []string{"/bin/sh", "-c", command}, TTY: true, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return "", err
	}
	c, err := p.engine.ExecAttach(ctx, e.ID, client.ExecAttachOptions{TTY: true})
	if err != nil {
		return "", err
	}
	defer c.Close()
	out, err := io.ReadAll(c.Reader)
	return strings.ReplaceAll(string(out), "\r", ""), err
}

func machineSpec(base string) appstream.MachineSpec {
	return appstream.MachineSpec{
		ID: "t" + unique(), ImageRef: base, AgentVersion: newAgent,
		Resource:     appstream.Key{Account: "123456789012", Region: "us-west-2", Noun: appstream.NounImageBuilder, Name: "My_Builder"},
		InstanceType: appstream.InstanceType{Name: "stream.standard.small", VCPU: 1, MemoryMB: 256},
	}
}

func TestConformance(t *testing.T) {
	testEngine(t)
	computetest.Run(t, func(t *testing.T) computetest.Subject {
		p, base := open(t)
		return computetest.Subject{
			Provider: p,
			ImageRef: base,
			Ref:      func() string { return "oriel/image:" + unique() },
			Exec:     p.shell,
			Reopen:   func() compute.Provider { return reopen(t, p.config) },
			Count: func(ctx context.Context, id string) (int, error) {
				r, err := p.engine.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", labelID+"="+id)})
				return len(r.Items), err
			},
			Steps: 40,
		}
	})
}

func mustRun(t testing.TB, p *Provider, spec appstream.MachineSpec) appstream.Machine {
	t.Helper()
	if err := p.EnsureRunning(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	m, err := p.Observe(t.Context(), spec.ID)
	if err != nil || m.Phase != appstream.MachineRunning {
		t.Fatalf("%+v, %v", m, err)
	}
	return m
}

// dial connects to the agent, which takes a moment to listen.
func dial(t testing.TB, p *Provider, id string) net.Conn {
	t.Helper()
	end := time.Now().Add(time.Minute)
	for {
		conn, err := p.Dial(t.Context(), id)
		if err == nil {
			return conn
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func TestAgent(t *testing.T) {
	// A path that is much too long for a socket's.
	p, base := open(t, func(c *Config) { c.DataDir = filepath.Join(c.DataDir, strings.Repeat("x", 120)) })
	spec := machineSpec(base)
	mustRun(t, p, spec)
	conn := dial(t, p, spec.ID)
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line != "hello My_Builder\n" {
		t.Errorf("the agent says %q, %v", line, err)
	}
	if _, err := fmt.Fprintln(conn, agentapi.ExitReboot); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	var m appstream.Machine
	for end := time.Now().Add(time.Minute); m.Phase != appstream.MachineStopped && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		m, _ = p.Observe(t.Context(), spec.ID)
	}
	if m.Phase != appstream.MachineStopped || m.ExitCode != appstream.ExitReboot {
		t.Errorf("after a reboot from inside: %+v", m)
	}
	if list, err := p.List(t.Context()); err != nil || len(list) != 1 || list[0].ExitCode != appstream.ExitReboot {
		t.Errorf("List: %+v, %v", list, err)
	}
	mustRun(t, p, spec)
	dial(t, p, spec.ID).Close()
	for _, id := range []string{"t-none", "../x"} {
		if _, err := p.Dial(t.Context(), id); err == nil {
			t.Errorf("the agent of %q answers", id)
		}
	}
}

// TestHostileMachine: what the owner of a machine leaves in the shared directory is not followed.
func TestHostileMachine(t *testing.T) {
	p, base := open(t)
	ctx := t.Context()
	spec := machineSpec(base)
	mustRun(t, p, spec)
	dial(t, p, spec.ID).Close()
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", victim+".sock")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	traps := fmt.Sprintf(`cd /run/oriel; rm -f *; for f in config.json config.json.new; do ln -s %s $f; done; ln -s %s.sock agent.sock; mkdir -p a/b; echo trapped`, victim, victim)
	if out, err := p.shell(ctx, spec.ID, traps); err != nil || out != "trapped\n" {
		t.Fatal(out, err)
	}
	if conn, err := p.Dial(ctx, spec.ID); err == nil {
		conn.Close()
		t.Error("a link of the machine led to a socket of the host")
	}
	if out, err := p.shell(ctx, spec.ID, "echo x >/opt/oriel/bin/oriel-agent || echo refused"); err != nil || !strings.Contains(out, "refused") {
		t.Errorf("the machine can write to its agent: %s, %v", out, err)
	}
	if err := p.EnsureStopped(ctx, spec.ID); err != nil {
		t.Fatal(err)
	}
	mustRun(t, p, spec)
	dial(t, p, spec.ID).Close()
	if text, err := os.ReadFile(victim); err != nil || string(text) != "untouched" {
		t.Errorf("a file of the host is now %q, %v", text, err)
	}
}

// TestConfinement looks at a machine's limits from inside.
func TestConfinement(t *testing.T) {
	p, base := open(t)
	spec := machineSpec(base)
	spec.InstanceType.VCPU, spec.InstanceType.MemoryMB = 100_000, 1<<40 // more than there is
	mustRun(t, p, spec)
	out, err := p.shell(t.Context(), spec.ID, "cat /proc/1/status; cat /proc/sys/kernel/hostname; ulimit -n; id -u; cat /proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`CapEff:\s+00000000800404fb\n`, // the ten of capabilities
		`CapBnd:\s+00000000800404fb\n`,
		`NoNewPrivs:\s+1\n`, `Seccomp:\s+2\n`, `\nmy-builder\n`, `\n16384\n0\n`,
		`tmpfs /run tmpfs .*nosuid`, ` /opt/oriel/bin \S+ ro[, ]`, ` /run/oriel \S+ rw[, ]`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	out, err = p.shellAs(t.Context(), spec.ID, "1000", agentapi.Binary+" reach tcp 127.0.0.1:1; id -u")
	if err != nil || !regexp.MustCompile(`^unreachable.*\n1000\n$`).MatchString(out) {
		t.Errorf("as an ordinary user, the agent's program prints %q, %v", out, err)
	}
	c, err := p.inspect(t.Context(), spec.ID)
	if err != nil {
		t.Fatal(err)
	}
	h, err := p.about(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r := c.HostConfig.Resources; r.Memory != h.memory || r.NanoCPUs != int64(h.cpus)*1e9 {
		t.Errorf("memory %d of %d, CPU %d of %d", r.Memory, h.memory, r.NanoCPUs, h.cpus)
	}
}

// TestIsolation: who reaches whom.
func TestIsolation(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: without, machines are refused")
	}
	const closed, other = "subnet-closed", "subnet-other"
	p, base := open(t, func(c *Config) {
		c.Subnets = []Subnet{{ID: closed}, {ID: other, Internet: true}}
	})
	ctx := t.Context()
	specs := map[string]appstream.MachineSpec{}
	machines := map[string]appstream.Machine{}
	for name, subnet := range map[string]string{"a": "", "b": "", "closed": closed, "closed2": closed, "other": other} {
		s := machineSpec(base)
		s.Subnet = subnet
		specs[name], machines[name] = s, mustRun(t, p, s)
		e, err := p.engine.ExecCreate(ctx, containerName(s.ID), client.ExecCreateOptions{Cmd: []string{agentapi.Binary, "listen"}}) // on port 7777
		if err == nil {
			_, err = p.engine.ExecStart(ctx, e.ID, client.ExecStartOptions{Detach: true})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var attempts sync.WaitGroup // most wait for an answer that does not come
	reach := func(from, address string, want bool) {
		attempts.Go(func() {
			out, err := p.shell(ctx, specs[from].ID, agentapi.Binary+" reach tcp "+address)
			if got := strings.HasPrefix(out, "reached"); err != nil || got != want {
				t.Errorf("%s → %s: %s, %v (want %v)", from, address, strings.TrimSpace(out), err, want)
			}
		})
	}
	// The listeners are there: each reaches its own, soon.
	for name, s := range specs {
		for end := time.Now().Add(time.Minute); ; {
			out, err := p.shell(ctx, s.ID, agentapi.Binary+" reach tcp 127.0.0.1:7777")
			if err == nil && strings.HasPrefix(out, "reached") {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s does not reach itself: %s, %v", name, out, err)
			}
		}
	}
	for _, pair := range [][2]string{{"a", "b"}, {"b", "a"}, {"a", "other"}, {"other", "a"}, {"closed", "closed2"}, {"a", "closed"}, {"closed", "a"}} {
		to := machines[pair[1]]
		for _, address := range append([]string{to.IPv4}, to.IPv6...) {
			reach(pair[0], net.JoinHostPort(address, "7777"), false)
		}
	}
	// A service of the host, at every address it has.
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil || prefix.Addr().IsLoopback() || prefix.Addr().IsLinkLocalUnicast() || seen[prefix.String()] {
			continue
		}
		seen[prefix.String()] = true
		address := net.JoinHostPort(prefix.Addr().String(), port)
		c, err := net.Dial("tcp", address)
		if err != nil {
			continue // the network of someone else, which is gone meanwhile
		}
		c.Close()
		for _, n := range p.networks {
			if iface, err := net.InterfaceByName(n.bridge); err == nil {
				if own, err := iface.Addrs(); err == nil && slices.ContainsFunc(own, func(o net.Addr) bool { return o.String() == a.String() }) {
					seen[n.title()] = true
				}
			}
		}
		reach("a", address, false)
		reach("closed", address, false)
	}
	for _, n := range p.networks {
		if !seen[n.title()] {
			t.Errorf("the bridge of the subnet %s was not among the addresses", n.title())
		}
	}
	reach("a", "169.254.169.254:80", false)
	reach("a", "[fe80::1%eth0]:"+port, false)                         // Docker's bridge has this one too
	if internet := os.Getenv("ORIEL_TEST_INTERNET"); internet != "" { // for example deb.debian.org:80, which needs DNS too
		reach("a", internet, true)
		reach("other", internet, true)
		reach("closed", internet, false)
	} else {
		t.Log("the way to the internet is not tested: set ORIEL_TEST_INTERNET, for example to deb.debian.org:80")
	}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err == nil {
		for name, m := range machines {
			if len(m.IPv6) == 0 {
				t.Errorf("machine %s has no IPv6 address", name)
			}
		}
	}
	attempts.Wait()

	if h, err := p.about(ctx); err != nil || h.podman {
		return // Podman keeps networks that stopped containers belong to
	}
	// A network that was removed behind our back is made again, with its wall.
	for _, name := range []string{"a", "b"} {
		if err := p.EnsureStopped(ctx, specs[name].ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.engine.NetworkRemove(ctx, p.networks[""].name, client.NetworkRemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if m := mustRun(t, p, specs["a"]); m.IPv4 == "" {
		t.Errorf("in the new network: %+v", m)
	}
	defer attempts.Wait()
	reach("a", net.JoinHostPort(machines["other"].IPv4, "7777"), false)
}

// TestConfigurationChanges: a subnet becomes what the configuration says as soon as no machine runs in it.
func TestConfigurationChanges(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: without, machines are refused")
	}
	const id = "subnet-changing"
	block := someBlock()
	before, after := netip.PrefixFrom(block, 28), netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 63, block.As4()[2], 128}), 28)
	p, base := open(t, func(c *Config) { c.Subnets = []Subnet{{ID: id, CIDRv4: before, Internet: true}} })
	if h, err := p.about(t.Context()); err != nil || h.podman {
		t.Skip("Podman keeps networks that stopped containers belong to")
	}
	spec := machineSpec(base)
	spec.Subnet = id
	in := func(p *Provider, want netip.Prefix) {
		t.Helper()
		m := mustRun(t, p, spec)
		if a, err := netip.ParseAddr(m.IPv4); err != nil || !want.Contains(a) {
			t.Errorf("address %s is not in %s", m.IPv4, want)
		}
	}
	in(p, before)
	changed := p.config
	changed.Subnets = []Subnet{{ID: id, CIDRv4: after}}
	second := reopen(t, changed)
	if err := second.Prepare(t.Context()); err != nil { // a machine runs: nothing can change yet
		t.Fatal(err)
	}
	in(second, before)
	if err := second.EnsureStopped(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	in(reopen(t, changed), after)
}

// someBlock gives the first of 256 addresses that other tests on the engine hardly have just now.
func someBlock() netip.Addr { return netip.AddrFrom4([4]byte{10, 63, byte(mathrand.IntN(256)), 0}) }

func TestSubnetFull(t *testing.T) {
	p, base := open(t, func(c *Config) {
		c.Subnets = []Subnet{{ID: "subnet-small", CIDRv4: netip.PrefixFrom(someBlock(), 29), Internet: true}}
	})
	for range 20 {
		spec := machineSpec(base)
		spec.Subnet = "subnet-small"
		err := p.EnsureRunning(t.Context(), spec)
		if err == nil {
			continue
		}
		f, ok := errors.AsType[*compute.Fault](err)
		if !ok || f.Code != "SUBNET_HAS_INSUFFICIENT_IP_ADDRESSES" {
			t.Fatal(err)
		}
		if m, err := p.Observe(t.Context(), spec.ID); err != nil || m.Phase != appstream.MachineAbsent {
			t.Errorf("the machine that found no address: %+v, %v", m, err)
		}
		if p.directory(spec.ID).exists() {
			t.Error("the machine that found no address has left its directory")
		}
		return
	}
	t.Error("20 machines found place in a /29")
}

// TestFaultsLeaveNothing: what cannot be made leaves neither a container nor a directory.
func TestFaultsLeaveNothing(t *testing.T) {
	p, base := open(t)
	spec := machineSpec(base)
	spec.AgentVersion = "12-24-2024"
	if _, ok := errors.AsType[*compute.Fault](p.EnsureRunning(t.Context(), spec)); !ok {
		t.Error("an agent that is not installed is not a fault")
	}
	if p.directory(spec.ID).exists() {
		t.Error("a directory is left")
	}
}

func TestUnavailable(t *testing.T) {
	p := reopen(t, Config{Host: "unix://" + filepath.Join(t.TempDir(), "none.sock"), DataDir: t.TempDir(), Installation: "none"})
	ctx := t.Context()
	_, observe := p.Observe(ctx, "m")
	_, list := p.List(ctx)
	_, has := p.HasImage(ctx, "oriel/image:x")
	_, refs := p.ListImages(ctx)
	_, public := p.PublicImages(ctx)
	for name, err := range map[string]error{
		"Observe": observe, "List": list, "HasImage": has, "ListImages": refs, "PublicImages": public,
		"EnsureRunning":   p.EnsureRunning(ctx, machineSpec("oriel/base:x")),
		"EnsureStopped":   p.EnsureStopped(ctx, "m"),
		"EnsureGone":      p.EnsureGone(ctx, "m"),
		"EnsureCaptured":  p.EnsureCaptured(ctx, "m", "oriel/image:x"),
		"EnsureImageGone": p.EnsureImageGone(ctx, "oriel/image:x"),
		"ImportImage":     p.ImportImage(ctx, strings.NewReader(""), nil, "oriel/base:x", nil),
	} {
		if !errors.Is(err, compute.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if f := p.Check(ctx); len(f) != 1 || f[0].OK || f[0].Hint == "" {
		t.Errorf("%+v", f)
	}
}

func TestCheck(t *testing.T) {
	p, base := open(t)
	mustRun(t, p, machineSpec(base))
	for _, f := range p.Check(t.Context()) {
		t.Logf("%+v", f)
		if slices.Contains([]string{"container engine", "isolation", "base image"}, f.What) && !f.OK {
			t.Errorf("%+v", f)
		}
	}
}

func TestPublicImages(t *testing.T) {
	p, base := open(t)
	images, err := p.PublicImages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(images, func(i compute.PublicImage) bool { return i.Ref == base })
	if i < 0 || images[i].Name != p.config.Installation || images[i].Platform != "DEBIAN_12" || !images[i].Released.Equal(time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v", images)
	}
}

// Names that somebody else gives an image in the engine are his: they are not listed, and stay when Oriel's are gone.
func TestForeignNames(t *testing.T) {
	p, base := open(t)
	ctx, spec, ref := t.Context(), machineSpec(base), "oriel/image:"+unique()
	if err := errors.Join(p.EnsureMade(ctx, spec), p.EnsureCaptured(ctx, spec.ID, ref)); err != nil {
		t.Fatal(err)
	}
	backup := "oriel-test/backup:" + unique()
	if _, err := p.engine.ImageTag(ctx, client.ImageTagOptions{Source: ref, Target: backup}); err != nil {
		t.Fatal(err)
	}
	if refs, err := p.ListImages(ctx); err != nil || !slices.Equal(refs, []string{ref}) {
		t.Errorf("ListImages() = %v, %v", refs, err)
	}
	if err := errors.Join(p.EnsureGone(ctx, spec.ID), p.EnsureImageGone(ctx, ref)); err != nil {
		t.Fatal(err)
	}
	if has, err := p.HasImage(ctx, backup); err != nil || !has {
		t.Errorf("HasImage(%s) = %v, %v", backup, has, err)
	}
	r, err := p.engine.ImageInspect(ctx, backup)
	if err == nil {
		_, err = p.engine.ImageRemove(ctx, r.ID, client.ImageRemoveOptions{Force: true})
	}
	if err != nil {
		t.Error(err)
	}
	var fault *compute.Fault
	if err := p.EnsureImageCopied(ctx, base, ref); !errors.As(err, &fault) {
		t.Errorf("an image that this server did not make was copied: %v", err)
	}
}

// An image that was deleted while a machine ran from it goes with the machine, also when that was removed by hand.
func TestLastUserRemovedByHand(t *testing.T) {
	p, base := open(t)
	ctx, spec, ref := t.Context(), machineSpec(base), "oriel/image:"+unique()
	if err := errors.Join(p.EnsureMade(ctx, spec), p.EnsureCaptured(ctx, spec.ID, ref), p.EnsureGone(ctx, spec.ID)); err != nil {
		t.Fatal(err)
	}
	image, err := p.engine.ImageInspect(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	user := machineSpec(ref)
	if err := errors.Join(p.EnsureMade(ctx, user), p.EnsureImageGone(ctx, ref)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.engine.ContainerRemove(ctx, containerName(user.ID), client.ContainerRemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := p.EnsureGone(ctx, user.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := p.engine.ImageInspect(ctx, image.ID); !cerrdefs.IsNotFound(err) {
		t.Errorf("the image is left: %v", err)
	}
}

func TestImportFails(t *testing.T) {
	p, _ := open(t)
	ref := "oriel/base:" + unique()
	for name, tar := range map[string]io.Reader{
		"no archive": strings.NewReader(strings.Repeat("no archive", 1000)),
		"broken off": io.MultiReader(strings.NewReader("root"), iotestErr{}),
	} {
		if err := p.ImportImage(t.Context(), tar, nil, ref, nil); err == nil {
			t.Errorf("%s: imported", name)
		}
		if has, err := p.HasImage(t.Context(), ref); err != nil || has {
			t.Errorf("%s: HasImage = %v, %v", name, has, err)
		}
	}
}

type iotestErr struct{}

func (iotestErr) Read([]byte) (int, error) { return 0, errors.New("the disk is broken") }

// BenchmarkStart compares EnsureRunning with the engine's own create and start of the same image.
func BenchmarkStart(b *testing.B) {
	p, base := open(b)
	ctx := b.Context()
	if err := p.Prepare(ctx); err != nil {
		b.Fatal(err)
	}
	oriel := func() (time.Duration, error) {
		spec := machineSpec(base)
		began := time.Now()
		err := p.EnsureRunning(ctx, spec)
		took := time.Since(began)
		return took, errors.Join(err, p.EnsureGone(ctx, spec.ID))
	}
	bare := func() (time.Duration, error) {
		name := "oriel-test-" + unique()
		began := time.Now()
		_, err := p.engine.ContainerCreate(ctx, client.ContainerCreateOptions{Name: name,
			Config:     &container.Config{Image: base, Cmd: []string{"sleep", "60"}},
			HostConfig: &container.HostConfig{NetworkMode: container.NetworkMode(p.networks[""].name), Resources: container.Resources{Ulimits: p.resources(machineSpec(base), p.host).Ulimits}}})
		if err == nil {
			_, err = p.engine.ContainerStart(ctx, name, client.ContainerStartOptions{})
		}
		took := time.Since(began)
		_, gone := p.engine.ContainerRemove(ctx, name, client.ContainerRemoveOptions{Force: true})
		return took, errors.Join(err, gone)
	}
	compare(b, oriel, bare)
}

// BenchmarkCapture compares EnsureCaptured with the engine's own commit.
func BenchmarkCapture(b *testing.B) {
	p, base := open(b)
	ctx := b.Context()
	spec := machineSpec(base)
	mustRun(b, p, spec)
	if _, err := p.shell(ctx, spec.ID, "cat /bin/* /bin/* /bin/* >/opt/data"); err != nil {
		b.Fatal(err)
	}
	if err := p.EnsureStopped(ctx, spec.ID); err != nil {
		b.Fatal(err)
	}
	oriel := func() (time.Duration, error) {
		ref := "oriel/image:" + unique()
		began := time.Now()
		err := p.EnsureCaptured(ctx, spec.ID, ref)
		took := time.Since(began)
		return took, errors.Join(err, p.EnsureImageGone(ctx, ref))
	}
	bare := func() (time.Duration, error) {
		began := time.Now()
		r, err := p.engine.ContainerCommit(ctx, containerName(spec.ID), client.ContainerCommitOptions{Config: &container.Config{}, Reference: "oriel/bare:" + unique()})
		took := time.Since(began)
		if err != nil {
			return took, err
		}
		_, err = p.engine.ImageRemove(ctx, r.ID, client.ImageRemoveOptions{Force: true})
		return took, err
	}
	compare(b, oriel, bare)
}

// BenchmarkSave compares SaveImage with the engine's own save, both into a file.
func BenchmarkSave(b *testing.B) {
	p, base := open(b)
	ctx := b.Context()
	spec, ref := machineSpec(base), "oriel/image:"+unique()
	mustRun(b, p, spec)
	if _, err := p.shell(ctx, spec.ID, "cat /bin/* >/opt/a; for n in 1 2 3 4 5 6; do cat /opt/a /opt/a >/opt/b; cat /opt/b >/opt/a; done"); err != nil {
		b.Fatal(err)
	}
	if err := errors.Join(p.EnsureStopped(ctx, spec.ID), p.EnsureCaptured(ctx, spec.ID, ref)); err != nil {
		b.Fatal(err)
	}
	var size int64
	into := func(save func(io.Writer) error) (time.Duration, error) {
		f, err := os.Create(filepath.Join(b.TempDir(), "archive"))
		if err != nil {
			return 0, err
		}
		began := time.Now()
		err = errors.Join(save(f), f.Sync())
		took := time.Since(began)
		if info, err := f.Stat(); err == nil {
			size = info.Size()
		}
		return took, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	oriel := func() (time.Duration, error) {
		return into(func(w io.Writer) error { return p.SaveImage(ctx, ref, appstream.ExportNotes{}, w) })
	}
	bare := func() (time.Duration, error) {
		return into(func(w io.Writer) error {
			r, err := p.engine.ImageSave(ctx, []string{ref})
			if err != nil {
				return err
			}
			_, err = io.Copy(w, r)
			return errors.Join(err, r.Close())
		})
	}
	compare(b, oriel, bare)
	b.ReportMetric(float64(size)/(1<<20), "MB")
}

// compare takes turns, and lets neither always be the first: the machine that we measure on has other things to do.
func compare(b *testing.B, oriel, bare func() (time.Duration, error)) {
	var total [2]time.Duration
	n := 0
	for b.Loop() {
		for i := range 2 {
			which := (i + n) % 2
			took, err := []func() (time.Duration, error){oriel, bare}[which]()
			if err != nil {
				b.Fatal(err)
			}
			total[which] += took
		}
		n++
	}
	b.ReportMetric(float64(total[0].Milliseconds())/float64(n), "ms/oriel")
	b.ReportMetric(float64(total[1].Milliseconds())/float64(n), "ms/bare")
	b.ReportMetric(float64(total[0])/float64(total[1]), "ratio")
}
