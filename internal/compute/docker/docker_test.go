package docker

// Tests that need no engine.

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	enginenet "github.com/moby/moby/api/types/network"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
)

// fakeEngine answers as an engine does in a given case: "METHOD /path" without the version → status and body. With "#2"
// after it, it is the answer to the second such call.
func fakeEngine(t *testing.T, answers map[string]string) (p *Provider, calls func() []string) {
	t.Helper()
	var mu sync.Mutex
	var got []string
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		w.Header().Set("Content-Type", "application/json")
		path := r.URL.Path
		if rest, ok := strings.CutPrefix(path, "/v1."); ok {
			path = rest[strings.Index(rest, "/"):]
		}
		if path == "/_ping" {
			return
		}
		call := r.Method + " " + path
		mu.Lock()
		got = append(got, call)
		nth := 0
		for _, c := range got {
			if c == call {
				nth++
			}
		}
		mu.Unlock()
		answer, special := answers[fmt.Sprint(call, "#", nth)]
		if !special {
			answer = answers[call]
		}
		status, body, ok := strings.Cut(answer, " ")
		if !ok {
			status, body = "404", `{"message":"no such thing"}`
		}
		code := 0
		fmt.Sscan(status, &code)
		w.WriteHeader(code)
		io.WriteString(w, body)
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	p = reopen(t, Config{Host: "unix://" + socket, DataDir: t.TempDir(), Installation: "unit", Log: slog.New(slog.DiscardHandler)})
	p.firewall.run = func(context.Context, string, string, ...string) (string, error) { return "", nil }
	p.firewall.interfaces = func(name string) (*net.Interface, error) { return &net.Interface{Name: name}, nil }
	agent := filepath.Join(t.TempDir(), "agent")
	if err := errors.Join(os.WriteFile(agent, []byte("agent"), 0o700), p.InstallAgent(agent, newAgent)); err != nil {
		t.Fatal(err)
	}
	return p, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return got
	}
}

const (
	fullDisk  = `500 {"message":"write /var/lib/docker/x: no space left on device"}`
	stopped   = `200 {"Id":"c1","Image":"sha256:base","State":{"Status":"exited"},"Config":{"Labels":{"oriel.installation":"unit"}},"NetworkSettings":{"Networks":{}}}`
	half      = `200 [{"Id":"sha256:half","Labels":{"oriel.installation":"unit","oriel.ref":"oriel/image:x"}}]`
	halfImage = `200 {"Id":"sha256:half","Config":{"Labels":{"oriel.installation":"unit","oriel.ref":"oriel/image:x","oriel.parent":"sha256:base"}}}`
)

func wantFault(t *testing.T, err error, text string) {
	t.Helper()
	f, ok := errors.AsType[*compute.Fault](err)
	if !ok || !strings.Contains(f.Message, text) {
		t.Errorf("got %v, want a fault with %q", err, text)
	}
}

func TestCaptureDiskFull(t *testing.T) {
	for name, change := range map[string]map[string]string{
		"at the commit": {"POST /commit": fullDisk},
		"at the name":   {"POST /commit": `201 {"Id":"sha256:half"}`, "POST /images/sha256:half/tag": fullDisk},
	} {
		t.Run(name, func(t *testing.T) {
			answers := map[string]string{
				"GET /containers/oriel-m/json":  stopped,
				"GET /images/json":              half,
				"GET /images/sha256:half/json":  halfImage,
				"DELETE /images/sha256:half":    `200 []`,
				"GET /images/sha256:base/json":  `200 {"Id":"sha256:base","RepoTags":["oriel/base:x"],"Config":{}}`,
				"POST /containers/oriel-m/stop": `204 `,
			}
			for k, v := range change {
				answers[k] = v
			}
			p, calls := fakeEngine(t, answers)
			wantFault(t, p.EnsureCaptured(t.Context(), "m", "oriel/image:x"), "no space left")
			removed := 0
			for _, c := range calls() {
				if c == "DELETE /images/sha256:half" {
					removed++
				}
			}
			if removed != 2 { // what was there before, and what this attempt has left
				t.Errorf("half an image was removed %d times, want 2: %v", removed, calls())
			}
		})
	}
}

// A machine that somebody starts while its disk is read has no image made of it, and no package.
func TestStartedWhileItsDiskIsRead(t *testing.T) {
	answers := map[string]string{
		"GET /containers/oriel-m/json#1": stopped,
		"GET /containers/oriel-m/json":   strings.Replace(stopped, `"exited"`, `"running","Running":true`, 1),
		"GET /images/json#1":             `200 []`,
		"GET /images/json":               half,
		"GET /images/sha256:half/json":   halfImage,
		"DELETE /images/sha256:half":     `200 []`,
		"GET /images/sha256:base/json":   `200 {"Id":"sha256:base","RepoTags":["oriel/base:x"],"Config":{}}`,
		"POST /commit":                   `201 {"Id":"sha256:half"}`,
		"POST /images/sha256:half/tag":   `201 `,
		"GET /containers/c1/changes":     `200 []`,
		"GET /containers/c1/export":      `200 ` + strings.Repeat("\x00", 1024),
	}
	for name, read := range map[string]func(p *Provider) error{
		"image":   func(p *Provider) error { return p.EnsureCaptured(t.Context(), "m", "oriel/image:x") },
		"package": func(p *Provider) error { return p.SaveChanges(t.Context(), "m", io.Discard) },
	} {
		t.Run(name, func(t *testing.T) {
			p, calls := fakeEngine(t, answers)
			err := read(p)
			if _, lasting := errors.AsType[*compute.Fault](err); lasting || err == nil || !strings.Contains(err.Error(), "started while its disk was read") {
				t.Errorf("%v", err)
			}
			if name == "image" && (slices.Contains(calls(), "POST /images/sha256:half/tag") || !slices.Contains(calls(), "DELETE /images/sha256:half")) {
				t.Errorf("the image has stayed: %v", calls())
			}
		})
	}
}

// An image whose last user went without our doing goes with what is left of that, or with its own record.
func TestForgottenImageGoes(t *testing.T) {
	image := `{"Id":"sha256:gone","RepoTags":["oriel/removed:gone"],"Labels":{"oriel.installation":"unit"},"Config":{"Labels":{"oriel.installation":"unit"}}}`
	for name, test := range map[string]struct {
		ensure func(p *Provider) error
		want   bool
	}{
		"a machine that somebody has removed": {func(p *Provider) error {
			if err := os.MkdirAll(p.directory("m").run(), 0o700); err != nil {
				return err
			}
			err := p.EnsureGone(t.Context(), "m")
			if p.directory("m").exists() {
				t.Error("its directory is left")
			}
			return err
		}, true},
		"a machine that never was":    {func(p *Provider) error { return p.EnsureGone(t.Context(), "m") }, false},
		"an image whose name is gone": {func(p *Provider) error { return p.EnsureImageGone(t.Context(), "oriel/image:x") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			p, calls := fakeEngine(t, map[string]string{
				"GET /images/json":             `200 [` + image + `]`,
				"GET /images/sha256:gone/json": `200 ` + image,
				"DELETE /images/sha256:gone":   `200 []`,
			})
			if err := test.ensure(p); err != nil {
				t.Fatal(err)
			}
			if got := slices.Contains(calls(), "DELETE /images/sha256:gone"); got != test.want {
				t.Errorf("the image was removed: %v; calls %v", got, calls())
			}
		})
	}
}

func TestCreateDiskFull(t *testing.T) {
	p, calls := fakeEngine(t, map[string]string{
		"GET /version":            `200 {"Version":"20.10"}`,
		"GET /info":               `200 {"NCPU":2,"MemTotal":1073741824,"MemoryLimit":true}`,
		"POST /networks/create":   `201 {"Id":"n"}`,
		"POST /containers/create": fullDisk,
		"GET /images/json":        `200 []`,
	})
	spec := machineSpec("oriel/base:x")
	wantFault(t, p.EnsureRunning(t.Context(), spec), "no space left")
	if p.directory(spec.ID).exists() {
		t.Error("the directory is left")
	}
	if !strings.Contains(strings.Join(calls(), "\n"), "POST /containers/create") {
		t.Error(calls())
	}
}

// A network that somebody has removed is made again, whichever call the engine misses it at.
func TestNetworkRemoved(t *testing.T) {
	spec := machineSpec("oriel/base:x")
	answers := map[string]string{
		"GET /version":              `200 {"Version":"20.10"}`,
		"GET /info":                 `200 {"NCPU":2,"MemTotal":1073741824}`,
		"POST /networks/create":     `201 {"Id":"n"}`,
		"POST /containers/create#2": `201 {"Id":"c"}`,
		"POST /containers/oriel-" + spec.ID + "/start": `204 `,
	}
	p, calls := fakeEngine(t, answers)
	answers["POST /containers/create"] = `404 {"message":"unable to find network with name or ID ` + p.networks[""].name + `: network not found"}`
	if err := p.EnsureRunning(t.Context(), spec); err == nil {
		t.Fatal("the machine was made without a network")
	} else if fault, ok := errors.AsType[*compute.Fault](err); ok {
		t.Fatalf("a fault: %v", fault)
	}
	if err := p.EnsureRunning(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	made := 0
	for _, c := range calls() {
		if c == "POST /networks/create" {
			made++
		}
	}
	if made != 2 {
		t.Errorf("the network was made %d times: %v", made, calls())
	}
}

// TestStartCalls: once the network is there, a new machine costs the engine two calls, as it does by hand.
func TestStartCalls(t *testing.T) {
	spec := machineSpec("oriel/base:x")
	p, calls := fakeEngine(t, map[string]string{
		"GET /version":            `200 {"Version":"20.10"}`,
		"GET /info":               `200 {"NCPU":2,"MemTotal":1073741824}`,
		"POST /networks/create":   `201 {"Id":"n"}`,
		"POST /containers/create": `201 {"Id":"c"}`,
		"POST /containers/oriel-" + spec.ID + "/start": `204 `,
	})
	if err := p.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := len(calls())
	if err := p.EnsureRunning(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	want := []string{"POST /containers/create", "POST /containers/oriel-" + spec.ID + "/start"}
	if diff := cmp.Diff(want, calls()[before:]); diff != "" {
		t.Error(diff)
	}
	if got := p.directory(spec.ID).agentVersion(); got != newAgent {
		t.Errorf("agent %q", got)
	}
	if c, err := agentapi.ReadConfig(filepath.Join(p.directory(spec.ID).run(), agentapi.ConfigName)); err != nil || c.ResourceName != "My_Builder" || c.Role != agentapi.RoleImageBuilder {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestUnprotectedIsRefused(t *testing.T) {
	answers := map[string]string{
		"GET /version":          `200 {"Version":"20.10"}`,
		"GET /info":             `200 {"NCPU":2,"MemTotal":1073741824}`,
		"POST /networks/create": `201 {"Id":"n"}`,
	}
	p, _ := fakeEngine(t, answers)
	broken := func(context.Context, string, string, ...string) (string, error) {
		return "", errors.New("iptables is missing")
	}
	p.firewall.run = broken
	_, err := p.network(t.Context(), "")
	wantFault(t, err, "iptables is missing")
	p.config.AllowUnprotected = true
	if _, err := p.network(t.Context(), ""); err != nil {
		t.Error(err)
	}
	p, _ = fakeEngine(t, answers)
	p.firewall.interfaces = func(string) (*net.Interface, error) { return nil, errors.New("no such interface") }
	_, err = p.network(t.Context(), "")
	wantFault(t, err, "does not see")
	p.config.Host = "tcp://192.0.2.1:2375"
	if err := p.hostIsHere(); err == nil {
		t.Error("an engine elsewhere is taken for one here")
	}
}

// TestWithoutIPv6: where the rules for IPv6 cannot be had, or networks with it, machines have IPv4.
func TestWithoutIPv6(t *testing.T) {
	p, _ := fakeEngine(t, map[string]string{
		"GET /version":          `200 {"Version":"20.10"}`,
		"GET /info":             `200 {"NCPU":2,"MemTotal":1073741824}`,
		"POST /networks/create": `201 {"Id":"n"}`,
	})
	p.firewall.run = func(_ context.Context, _, name string, _ ...string) (string, error) {
		if strings.HasPrefix(name, "ip6") {
			return "", errors.New("no ip6tables")
		}
		return "", nil
	}
	n, err := p.network(t.Context(), "")
	if err != nil || n.noV6 != "no ip6tables" {
		t.Fatalf("%q, %v", n.noV6, err)
	}
	for _, f := range p.Check(t.Context()) {
		if f.What == "IPv6" && (f.OK || f.Hint == "") {
			t.Errorf("%+v", f)
		}
	}
}

// TestEngineWithoutIPv6: an engine that cannot make such a network makes one without.
func TestEngineWithoutIPv6(t *testing.T) {
	p, calls := fakeEngine(t, map[string]string{
		"GET /version":            `200 {"Version":"20.10"}`,
		"GET /info":               `200 {"NCPU":2,"MemTotal":1073741824}`,
		"POST /networks/create":   `201 {"Id":"n"}`,
		"POST /networks/create#1": `500 {"message":"IPv6 is not supported"}`,
	})
	n, err := p.network(t.Context(), "")
	if err != nil || !strings.Contains(n.noV6, "IPv6 is not supported") {
		t.Errorf("%+v, %v", n, err)
	}
	if created := strings.Count(strings.Join(calls(), "\n"), "POST /networks/create"); created != 2 {
		t.Errorf("%v", calls())
	}
}

// TestAddressesTaken: the next free network is tried when the engine knows one that we do not see.
func TestAddressesTaken(t *testing.T) {
	taken := `403 {"message":"Pool overlaps with other one on this address space"}`
	p, calls := fakeEngine(t, map[string]string{
		"GET /version":            `200 {"Version":"20.10"}`,
		"GET /info":               `200 {"NCPU":2,"MemTotal":1073741824}`,
		"POST /networks/create#1": taken, "POST /networks/create#2": taken,
		"POST /networks/create": `201 {"Id":"n"}`,
	})
	if n, err := p.network(t.Context(), ""); err != nil || n.noV6 != "" {
		t.Errorf("%+v, %v", n, err)
	}
	if created := strings.Count(strings.Join(calls(), "\n"), "POST /networks/create"); created != 3 {
		t.Errorf("%v", calls())
	}
}

func TestInterfaceID(t *testing.T) {
	for _, c := range []struct {
		endpoint, network, mac, want string
	}{
		{strings.Repeat("0123456789abcdef", 4), "n", "02:42:0a:00:00:02", "eni-0123456789abcdef0"},
		{"", "n", "", ""},
		{"not hex", "n", "", ""},
	} {
		e := &enginenet.EndpointSettings{EndpointID: c.endpoint, NetworkID: c.network}
		if err := e.MacAddress.UnmarshalText([]byte(c.mac)); err != nil {
			t.Fatal(err)
		}
		if got := interfaceID(e); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
	seen := map[string]bool{}
	for _, c := range [][2]string{{"n", "02:42:0a:00:00:02"}, {"n", "02:42:0a:00:00:03"}, {"m", "02:42:0a:00:00:02"}} { // as Podman has them
		e := &enginenet.EndpointSettings{NetworkID: c[0]}
		if err := e.MacAddress.UnmarshalText([]byte(c[1])); err != nil {
			t.Fatal(err)
		}
		id := interfaceID(e)
		if len(id) != len("eni-")+17 || seen[id] || id != interfaceID(e) {
			t.Errorf("%v: %q", c, id)
		}
		seen[id] = true
	}
}

func TestFail(t *testing.T) {
	for _, c := range []struct {
		err         error
		fault, down bool
		is          error
	}{
		{err: context.Canceled, is: context.Canceled},
		{err: fmt.Errorf("x: %w", context.DeadlineExceeded), is: context.DeadlineExceeded},
		{err: io.ErrUnexpectedEOF, down: true},
		{err: errors.New("mkdir: no space left on device"), fault: true},
		{err: errors.New("write: disk quota exceeded"), fault: true},
		{err: errors.New("something else")},
	} {
		got := fail("do it", c.err)
		_, fault := errors.AsType[*compute.Fault](got)
		if fault != c.fault || errors.Is(got, compute.ErrUnavailable) != c.down || c.is != nil && !errors.Is(got, c.is) {
			t.Errorf("%v → %v", c.err, got)
		}
	}
	if fail("do it", nil) != nil {
		t.Error("no error became one")
	}
}

func TestNew(t *testing.T) {
	ok := netip.MustParsePrefix
	for name, c := range map[string]Config{
		"no installation":   {},
		"bad installation":  {Installation: "a/b"},
		"bad host":          {Installation: "i", Host: "nonsense"},
		"bad subnet":        {Installation: "i", Subnets: []Subnet{{ID: "a b"}}},
		"twice":             {Installation: "i", Subnets: []Subnet{{ID: "a"}, {ID: "a"}}},
		"called default":    {Installation: "i", Subnets: []Subnet{{ID: "default"}}},
		"host bits":         {Installation: "i", Subnets: []Subnet{{ID: "a", CIDRv4: ok("10.0.0.1/24")}}},
		"too small":         {Installation: "i", Subnets: []Subnet{{ID: "a", CIDRv4: ok("10.0.0.0/30")}}},
		"IPv6 as IPv4":      {Installation: "i", Subnets: []Subnet{{ID: "a", CIDRv4: ok("fd00::/64")}}},
		"IPv4 as IPv6":      {Installation: "i", Subnets: []Subnet{{ID: "a", CIDRv6: ok("10.0.0.0/24")}}},
		"IPv6 too small":    {Installation: "i", Subnets: []Subnet{{ID: "a", CIDRv6: ok("fd00::/112")}}},
		"overlap":           {Installation: "i", Subnets: []Subnet{{ID: "a", CIDRv4: ok("10.0.0.0/16")}, {ID: "b", CIDRv4: ok("10.0.1.0/24")}}},
		"overlap (default)": {Installation: "i", Subnets: []Subnet{{CIDRv4: ok("10.0.0.0/16")}, {ID: "b", CIDRv4: ok("10.0.1.0/24")}}},
	} {
		c.DataDir = t.TempDir()
		if p, err := New(c); err == nil {
			p.Close()
			t.Errorf("%s: accepted", name)
		}
	}
	p := reopen(t, Config{Installation: "i", DataDir: t.TempDir(), Subnets: []Subnet{{ID: "", CIDRv4: ok("10.9.0.0/16")}, {ID: "subnet-1"}}})
	if d := p.networks[""]; d == nil || d.CIDRv4 != ok("10.9.0.0/16") || d.Internet || p.networks["subnet-1"] == nil {
		t.Errorf("%+v", p.networks)
	}
	bridges := map[string]bool{}
	for _, n := range p.networks {
		if len(n.bridge) > 15 || bridges[n.bridge] || !n.CIDRv6.Addr().IsPrivate() {
			t.Errorf("%+v", n)
		}
		bridges[n.bridge] = true
	}
}

func TestFreeNetworks(t *testing.T) {
	networks, err := plan("i", nil)
	if err != nil {
		t.Fatal(err)
	}
	n := networks[""]
	first := n.free(nil)
	if len(first) != 16 || !netip.MustParsePrefix("10.64.0.0/10").Overlaps(first[0]) || first[0] != first[0].Masked() {
		t.Fatal(first)
	}
	for _, prefix := range n.free(first[:1]) {
		if prefix.Overlaps(first[0]) {
			t.Errorf("%s is taken", prefix)
		}
	}
	if all := n.free([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}); len(all) > 0 {
		t.Error(all)
	}
}

func TestWall(t *testing.T) {
	w := wall{bridge: "orl-1", internet: true, resolvers: []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("2001:db8::53")}}
	there := "-P INPUT ACCEPT\n-A INPUT -i orl-1 -j ORIEL-IN-orl-1\n"
	want := `*mangle
:ORIEL-IN-orl-1 - [0:0]
:ORIEL-OUT-orl-1 - [0:0]
:ORIEL-TO-orl-1 - [0:0]
-A ORIEL-IN-orl-1 -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
-A ORIEL-IN-orl-1 -d 192.0.2.53 -p udp -m udp --dport 53 -j RETURN
-A ORIEL-IN-orl-1 -d 192.0.2.53 -p tcp -m tcp --dport 53 -j RETURN
-A ORIEL-IN-orl-1 -j DROP
-A ORIEL-OUT-orl-1 -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
-A ORIEL-OUT-orl-1 -d 192.0.2.53 -p udp -m udp --dport 53 -j RETURN
-A ORIEL-OUT-orl-1 -d 192.0.2.53 -p tcp -m tcp --dport 53 -j RETURN
-A ORIEL-OUT-orl-1 -m conntrack --ctstate DNAT -j DROP
-A ORIEL-OUT-orl-1 -d 169.254.0.0/16 -j DROP
-I FORWARD -i orl-1 -j ORIEL-OUT-orl-1
-A ORIEL-TO-orl-1 -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
-A ORIEL-TO-orl-1 -j DROP
-I FORWARD -o orl-1 -j ORIEL-TO-orl-1
COMMIT
`
	if diff := cmp.Diff(want, w.script(false, there)); diff != "" {
		t.Error(diff)
	}
	for _, v6 := range []bool{false, true} { // whatever else there is, each chain that keeps out ends with that
		for _, internet := range []bool{false, true} {
			w.internet = internet
			in, out, to := w.rules(v6)
			if in[len(in)-1] != "-j DROP" || to[len(to)-1] != "-j DROP" || !internet && out[len(out)-1] != "-j DROP" {
				t.Errorf("v6 %v, internet %v: %q %q %q", v6, internet, in, out, to)
			}
		}
	}
}

func TestRaze(t *testing.T) {
	var script string
	f := &firewall{run: func(_ context.Context, input, name string, _ ...string) (string, error) {
		if name == "iptables" {
			return "-N ORIEL-IN-b\n-N ORIEL-IN-bb\n-A INPUT -i b -j ORIEL-IN-b\n-A INPUT -i bb -j ORIEL-IN-bb\n", nil
		}
		script = input
		return "", nil
	}}
	if err := f.raze(t.Context(), "b", false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("*mangle\n-D INPUT -i b -j ORIEL-IN-b\n-F ORIEL-IN-b\n-X ORIEL-IN-b\nCOMMIT\n", script); diff != "" {
		t.Error(diff)
	}
}

func TestPublicImagesOnce(t *testing.T) {
	image := func(id, created, tags, labels string) string {
		return `{"Id":"` + id + `","Created":` + created + `,"RepoTags":[` + tags + `],"Labels":{` + labels + `}}`
	}
	p, _ := fakeEngine(t, map[string]string{"GET /images/json": "200 [" + strings.Join([]string{
		image("1", "100", `"oriel/base:old"`, `"oriel.image.name":"a"`),
		image("2", "200", `"docker.io/oriel/base:new"`, `"oriel.image.name":"a","oriel.image.platform":"DEBIAN_12","oriel.image.released":"2026-01-02"`),
		image("3", "300", ``, `"oriel.image.name":"a"`),
		image("4", "400", `"oriel/image:x"`, `"oriel.image.name":"a","oriel.ref":"oriel/image:x"`),
		image("5", "500", `"oriel/image:y"`, `"oriel.image.name":""`),
	}, ",") + "]"})
	got, err := p.PublicImages(t.Context())
	want := []compute.PublicImage{{Name: "a", Ref: "oriel/base:new", Platform: "DEBIAN_12", Released: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// TestConflict: a container that nobody remembers to have made is taken over when it is ours.
func TestConflict(t *testing.T) {
	spec := machineSpec("oriel/base:x")
	answers := map[string]string{
		"GET /version":            `200 {"Version":"20.10"}`,
		"GET /info":               `200 {"NCPU":2,"MemTotal":1073741824}`,
		"POST /networks/create":   `201 {"Id":"n"}`,
		"POST /containers/create": `409 {"message":"Conflict. The container name is already in use"}`,
		"GET /images/json":        `200 []`,
		"POST /containers/oriel-" + spec.ID + "/start": `204 `,
		"GET /containers/oriel-" + spec.ID + "/json":   stopped,
	}
	p, _ := fakeEngine(t, answers)
	if err := p.EnsureRunning(t.Context(), spec); err != nil {
		t.Error(err)
	}
	answers["GET /containers/oriel-"+spec.ID+"/json"] = strings.ReplaceAll(stopped, `"unit"`, `"other"`)
	p, calls := fakeEngine(t, answers)
	if err := p.EnsureRunning(t.Context(), spec); err == nil {
		t.Error("a container of someone else was taken over")
	}
	if err := p.EnsureGone(t.Context(), spec.ID); err != nil || strings.Contains(strings.Join(calls(), "\n"), "DELETE") {
		t.Errorf("%v, %v", err, calls())
	}
}

func TestHostname(t *testing.T) {
	for name, want := range map[string]string{
		"hello": "hello", "My_Builder.2": "my-builder-2", "___": "oriel", "": "oriel", "x-": "x",
		strings.Repeat("a", 62) + "._b": strings.Repeat("a", 62),
	} {
		if got := hostname(name); got != want {
			t.Errorf("hostname(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestExitCode(t *testing.T) {
	for status, want := range map[string]int{
		"Exited (85) 3 minutes ago": 85, "Exited (0) About a minute ago": 0, "Exited (137) 1 second ago": 137, "Created": 0, "Up (85)": 0, "Exited (9999)": 0,
	} {
		if got := exitCode(status); got != want {
			t.Errorf("%q: %d, want %d", status, got, want)
		}
	}
}

func TestCheckRef(t *testing.T) {
	for ref, ok := range map[string]bool{
		"oriel/image:x": true, "localhost:5000/a/b:1": true, "oriel/image": false, "": false, "A:b": false, "a b:c": false,
		"oriel/image:x@sha256:" + strings.Repeat("0", 64): true, "a/" + strings.Repeat("b", 300) + ":c": false,
	} {
		if err := checkRef(ref); (err == nil) != ok {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

// What a machine is for is what its agent, and its desktop, say it is.
func TestRoles(t *testing.T) {
	for _, test := range []struct {
		noun     appstream.Noun
		sessions int
		want     agentapi.Role
	}{{appstream.NounImageBuilder, 0, agentapi.RoleImageBuilder}, {appstream.NounAppBlockBuilder, 0, agentapi.RoleAppBlockBuilder}, {appstream.NounFleet, 1, agentapi.RoleFleet},
		{appstream.NounFleet, 0, agentapi.RoleImageBuilder}} { // the last is that of a composition
		if got := agentConfig(appstream.MachineSpec{Resource: appstream.Key{Noun: test.noun}, Sessions: test.sessions}); got.Role != test.want || got.Role.Builds() == (test.want == agentapi.RoleFleet) {
			t.Errorf("%s with %d sessions: it is %s", test.noun, test.sessions, got.Role)
		}
	}
}

func TestAgents(t *testing.T) {
	p := reopen(t, Config{Host: "unix:///none", Installation: "i", DataDir: t.TempDir()})
	if diff := cmp.Diff([]string{agentapi.Version}, p.AgentVersions()); diff != "" {
		t.Error(diff)
	}
	file := filepath.Join(t.TempDir(), "agent")
	install := func(content, version string) {
		t.Helper()
		if err := errors.Join(os.WriteFile(file, []byte(content), 0o600), p.InstallAgent(file, version)); err != nil {
			t.Fatal(err)
		}
	}
	install("new", newAgent)
	install("old", oldAgent)
	if err := p.InstallAgent(file, "../../etc"); err == nil {
		t.Error("a version that is none was installed")
	}
	if diff := cmp.Diff([]string{oldAgent, newAgent}, p.AgentVersions()); diff != "" {
		t.Error(diff)
	}
	d := p.directory("m")
	content := func() string {
		t.Helper()
		if err := d.prepare(agentConfig(machineSpec("x")), p.config.AgentDir, newAgent); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(d.bin(), agentName))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if got := content(); got != "new" {
		t.Errorf("got %q", got)
	}
	install("rebuilt", newAgent)
	if got := content(); got != "rebuilt" {
		t.Errorf("after the version was installed again: %q", got)
	}
	if err := os.RemoveAll(filepath.Join(p.config.AgentDir, newAgent)); err != nil {
		t.Fatal(err)
	}
	if got := content(); got != "rebuilt" { // a machine keeps an agent that is no longer on offer
		t.Errorf("got %q", got)
	}
	if info, err := os.Stat(string(d)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestKeyed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k keyed
		ctx := t.Context()
		running, runs := 0, 0
		work := func(context.Context) error {
			if running++; running > 1 {
				t.Error("two at once")
			}
			time.Sleep(time.Second)
			running--
			runs++
			return nil
		}
		var wg sync.WaitGroup
		began := time.Now()
		for range 3 {
			wg.Go(func() {
				if err := k.finish(ctx, "a", work); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); took != 3*time.Second || runs != 3 {
			t.Errorf("%d runs in %s", runs, took)
		}

		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		if err := k.finish(short, "a", work); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		began = time.Now()
		if err := k.finish(ctx, "a", work); err != nil || time.Since(began) != 1900*time.Millisecond {
			t.Errorf("the next one did not wait for the one that was given up: %s, %v", time.Since(began), err)
		}
		if err := k.finish(short, "b", work); !errors.Is(err, context.DeadlineExceeded) || runs != 5 {
			t.Errorf("%d runs, %v: work began for someone who had given up", runs, err)
		}
		if len(k.held) > 0 {
			t.Errorf("still held: %v", k.held)
		}
	})
}

func TestParseRoutes(t *testing.T) {
	const text = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n" +
		"eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\n" +
		"eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n" +
		"br\tzz\t0\t0\t0\t0\t0\tFF\nshort\n"
	want := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	if diff := cmp.Diff(want, parseRoutes(text), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestHostResolvers(t *testing.T) {
	got := hostResolvers("# comment\nnameserver 127.0.0.53\nsearch x\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nnameserver\nnameserver nonsense\n")
	if want := "[192.0.2.53 fe80::1]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}

func FuzzHostFiles(f *testing.F) {
	f.Add("nameserver 192.0.2.1\nnameserver ::1")
	f.Add("eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, a := range hostResolvers(text) {
			if a.IsLoopback() || !a.IsValid() || a.Zone() != "" || strings.ContainsAny(a.String(), " \n") {
				t.Errorf("%v", a)
			}
		}
		for _, r := range parseRoutes(text) {
			if !r.IsValid() {
				t.Errorf("%v", r)
			}
		}
	})
}

func FuzzImportOutcome(f *testing.F) {
	f.Add(`{"status":"sha256:1"}` + "\r\n")
	f.Add(`{"status":"x"}{"errorDetail":{"message":"bad"},"error":"bad"}`)
	f.Add(`{"status":`)
	f.Fuzz(func(t *testing.T, text string) {
		err := importOutcome(strings.NewReader(text))
		var one struct {
			Error string `json:"error"`
		}
		if json.Unmarshal([]byte(text), &one) == nil && one.Error != "" && err == nil {
			t.Errorf("%q is a success", text)
		}
	})
}

func TestResourcesWithoutControllers(t *testing.T) {
	p := reopen(t, Config{Host: "unix:///none", Installation: "i", DataDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	spec := appstream.MachineSpec{InstanceType: appstream.InstanceType{VCPU: 4, MemoryMB: 4096}}
	r := p.resources(spec, &host{cpus: 2, memory: 1 << 30})
	if r.Memory != 0 || r.NanoCPUs != 0 || r.PidsLimit != nil {
		t.Errorf("asked for limits that the engine would refuse: %+v", r)
	}
	r = p.resources(spec, &host{cpus: 2, memory: 1 << 30, limitMemory: true, limitCPU: true, limitPIDs: true})
	if r.Memory != 1<<30 || r.MemorySwap != 1<<30 || r.NanoCPUs != 2e9 || *r.PidsLimit != maxProcesses {
		t.Errorf("%+v", r)
	}
}

// An instance for several people has what the agent needs to keep them apart, and no other has it.
func TestRightsOfSharedInstances(t *testing.T) {
	p := reopen(t, Config{Host: "unix:///none", Installation: "i", DataDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	for sessions, want := range map[int]bool{0: false, 1: false, 2: true, 50: true} {
		for _, appArmor := range []bool{false, true} {
			spec := appstream.MachineSpec{ID: "x", Resource: appstream.Key{Name: "fleet"}, Sessions: sessions}
			h := p.container(spec, &network{}, &host{cpus: 1, memory: 1 << 30, appArmor: appArmor}).HostConfig
			if got := slices.Contains(h.CapAdd, "SYS_ADMIN"); got != want || len(capabilities) != 10 {
				t.Errorf("%d sessions: %v", sessions, h.CapAdd)
			}
			if got := slices.Contains(h.SecurityOpt, "apparmor=unconfined"); got != (want && appArmor) || h.SecurityOpt[0] != "no-new-privileges" {
				t.Errorf("%d sessions: %v", sessions, h.SecurityOpt)
			}
		}
	}
}
