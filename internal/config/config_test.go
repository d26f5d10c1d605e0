package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/tomlfile"
)

func load(t *testing.T, text string) (Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "oriel.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file)
	if err == nil {
		err = c.Check()
	}
	return c, err
}

func TestExample(t *testing.T) {
	c, err := Load("../../docs/oriel.example.toml")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	// The example shows every table, and says the truth about the defaults that it repeats.
	if len(c.Images) == 0 || len(c.Subnets) == 0 || len(c.Endpoints) == 0 || len(c.InstanceTypes) == 0 || len(c.Software) == 0 || len(c.Keys) == 0 || c.SMTP.Host == "" {
		t.Errorf("the example leaves a table out: %+v", c)
	}
	d := Default()
	if c.Listen != d.Listen || c.SimDelay != d.SimDelay || c.Account != d.Account || c.LogLevel != d.LogLevel || c.LogFormat != d.LogFormat ||
		c.Rates.Read != d.Rates.Read || c.Rates.Write != d.Rates.Write || c.Rates.Burst != d.Rates.Burst {
		t.Errorf("the example's defaults are not those of Default: %+v", d)
	}
}

// TestExampleHasEveryKey keeps the example in step with the struct.
func TestExampleHasEveryKey(t *testing.T) {
	text, err := os.ReadFile("../../docs/oriel.example.toml")
	if err != nil {
		t.Fatal(err)
	}
	known := strings.Split(strings.TrimPrefix(tomlfile.Hint(reflect.TypeFor[Config](), []string{"zzzzzzzzz"}), "; the keys here are "), ", ")
	for _, table := range []string{"quotas", "rates", "retention", "archives", "objects", "smtp", "image", "subnet", "endpoint", "instance_type", "software", "key"} {
		known = append(known, strings.Split(strings.TrimPrefix(tomlfile.Hint(reflect.TypeFor[Config](), []string{table, "zzzzzzzzz"}), "; the keys here are "), ", ")...)
	}
	if len(known) < 40 {
		t.Fatalf("only %d keys: %v", len(known), known)
	}
	for _, key := range known {
		if !strings.Contains(string(text), key) {
			t.Errorf("docs/oriel.example.toml does not explain %s", key)
		}
	}
}

func TestLoad(t *testing.T) {
	c, err := load(t, `
		listen = ":9000"
		provider = "sim"
		sim_delay = "1m30s"
		region = ["eu-west-1"]
		[quotas]
		image_builders = 3
		[rates]
		read = 0
		[rates.operations]
		CreateFleet = 0.5
		[[image]]
		name = "Base"
		[[subnet]]
		id = "subnet-a"
		ipv4 = "10.9.0.0/24"
		[[instance_type]]
		name = "stream.tiny.small"
		vcpu = 0.5
		memory_mb = 512
		[[key]]
		id = "ABCDEFGHIJKLMNOP"
		secret = "0123456789abcdef"
		policy = '{"Version":"2012-10-17","Statement":[]}'`)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Listen, want.Provider, want.SimDelay, want.Region = ":9000", Sim, Duration{Duration: 90 * time.Second}, []string{"eu-west-1"}
	want.Quotas.ImageBuilders = 3
	want.Rates.Read, want.Rates.Operations = 0, map[string]float64{"CreateFleet": 0.5}
	want.Images = []Image{{Name: "Base", Platform: "DEBIAN_12", State: "AVAILABLE"}}
	want.Subnets = []Subnet{{ID: "subnet-a", IPv4: netip.MustParsePrefix("10.9.0.0/24")}}
	want.InstanceTypes = []InstanceType{{Name: "stream.tiny.small", VCPU: 0.5, MemoryMB: 512}}
	want.Keys = []Key{{ID: "ABCDEFGHIJKLMNOP", Secret: "0123456789abcdef", Account: DefaultAccount,
		Principal: "arn:aws:iam::123456789012:user/ABCDEFGHIJKLMNOP", Policy: `{"Version":"2012-10-17","Statement":[]}`}}
	prefixes := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if diff := cmp.Diff(want, c, prefixes, cmpopts.IgnoreUnexported(Config{})); diff != "" {
		t.Error(diff)
	}
	size := appstream.InstanceType{Name: "stream.tiny.small", Family: "General Purpose", VCPU: 0.5, MemoryMB: 512}
	if got := c.Sizes()["stream.tiny.small"]; got != size {
		t.Errorf("Sizes has %+v, want %+v", got, size)
	}
}

// TestRefusals gives wrong files, and what the message must say: where, and what to do.
func TestRefusals(t *testing.T) {
	const secret = "id = 'ABCDEFGHIJKLMNOP'\nsecret = '0123456789abcdef'\n"
	for _, test := range []struct{ name, text, want string }{
		{"syntax", "listen = \n", "oriel.toml:1:"},
		{"type", "\nlisten = 8080", "oriel.toml:2:"},
		{"unknown key", "provider = 'sim'\nlistn = 'x'", "oriel.toml:2: there is no key listn; did you mean listen?"},
		{"dashes", "sim-delay = '1s'", "did you mean sim_delay?"},
		{"plural", "regions = ['us-east-1']", "did you mean region?"},
		{"unknown in a table", "[[subnet]]\nid = 'subnet-a'\ncidr = '10.0.0.0/8'", "oriel.toml:3: there is no key subnet.cidr; the keys here are id, internet, ipv4, ipv6"},
		{"unknown table", "[[whatever]]\nx = 1", "there is no key whatever"},
		{"negative rate", "[rates]\nread = -1", "rates.read: -1 is not between 0 (no limit) and 1000000"},
		{"no rate", "[rates]\nwrite = nan", "rates.write: NaN"},
		{"rate of an operation", "[rates.operations]\nCreateFleet = 1e9", "rates.operations.CreateFleet: 1e+09"},
		{"burst", "[rates]\nburst = '2h'", "rates.burst: 2h0m0s is not between 0s and 1h"},
		{"archives without a bucket", "[archives]\nregion = 'eu-central-1'", "archives.bucket: name the bucket"},
		{"archives: bucket", "[archives]\nbucket = 'My_Bucket'", "archives.bucket: \"My_Bucket\" cannot name a bucket"},
		{"archives: endpoint", "[archives]\nbucket = 'oriel'\nendpoint = 's3.example.com'", "archives.endpoint: this is not a scheme and a host"},
		{"archives: endpoint with a password", "[archives]\nbucket = 'oriel'\nendpoint = 'https://me:secret@s3.example.com'", "archives.endpoint: this is not a scheme and a host"},
		{"archives: prefix", "[archives]\nbucket = 'oriel'\nprefix = '../x'", "archives.prefix: \"../x/\" is not a path"},
		{"archives: region", "[archives]\nbucket = 'oriel'\nregion = 'a b'", "archives.region: "},
		{"objects without a bucket", "[objects]\nregion = 'eu-central-1'", "objects.bucket: name the bucket that the other settings of [objects]"},
		{"objects: bucket", "[objects]\nbucket = 'My_Bucket'", "objects.bucket: \"My_Bucket\" cannot name a bucket"},
		{"objects where archives are", "[archives]\nbucket = 'oriel'\nprefix = 'lab'\n[objects]\nbucket = 'oriel'\nprefix = 'lab/'", "objects.prefix: the archives are in s3://oriel/lab/ too"},
		{"archives: credentials", "[archives]\nbucket = 'oriel'\ncredentials = 'nowhere'", "nowhere: no such file"},
		{"unknown rate", "[rates]\nreads = 1", "there is no key rates.reads; did you mean read?"},
		{"duration", "\n\nsim_delay = '2 parrots'", "oriel.toml:3:"},
		{"prefix", "trusted_proxies = ['10.0.0.1/99']", "oriel.toml:1:"},
		{"host bits", "trusted_proxies = ['10.0.0.1/8']", "trusted_proxies: 10.0.0.1/8 has bits behind its mask; write 10.0.0.0/8"},
		{"listen", "listen = 'localhost'", "listen: \"localhost\" is not ADDRESS:PORT"},
		{"port", "listen = ':99999'", "listen: "},
		{"metrics", "metrics = 'x'", "metrics: "},
		{"public url", "public_url = 'oriel.example.com'", "public_url: "},
		{"public url with path", "public_url = 'https://oriel.example.com/x'", "public_url: "},
		{"half tls", "tls_cert = '/x.pem'", "tls_cert, tls_key: set both"},
		{"provider", "provider = 'qemu'", "provider: \"qemu\" is none of docker, sim"},
		{"engine", "engine = '/run/docker.sock'", "engine: "},
		{"delay", "sim_delay = '-1s'", "sim_delay: -1s"},
		{"no region", "region = []", "region: name at least one"},
		{"region", "region = ['mars']", "region: \"mars\" is not the name of a region"},
		{"region twice", "region = ['us-east-1', 'us-east-1']", "us-east-1 is there twice"},
		{"account", "account = '12'", "account: "},
		{"level", "log_level = 'loud'", "log_level: "},
		{"format", "log_format = 'xml'", "log_format: "},
		{"quota", "[quotas]\nimages = -1", "quotas.images: -1"},
		{"time without a unit", "sim_delay = 5", "oriel.toml:1: sim_delay: 5 has no unit; write \"5s\" for seconds"},
		{"address for a network", "trusted_proxies = [\"10.1.2.3\"]", "oriel.toml:1:20: \"10.1.2.3\" is not a network; write it like \"10.1.2.0/24\", or \"10.1.2.3/32\" for one address"},
		{"time of none", "[rates]\nburst = 0", "oriel.toml:2: rates.burst: 0 has no unit; write \"0s\" for seconds"},
		{"retention", "[retention]\naudit = \"5s\"", "retention.audit: 5s is less than an hour"},
		{"quota of instances", "[quotas]\nfleet_instances = 1000001", "quotas.fleet_instances: 1000001"},
		{"quota of a catalogue", "[quotas]\nfleet_applications = 51", "quotas.fleet_applications: 51 is more than the 50"},
		{"image under docker", "[[image]]\nname = 'x'", "image: images are configured for the provider sim only"},
		{"image name", "provider = 'sim'\n[[image]]\nname = '-'", "[[image]] number 1: name: "},
		{"image state", "provider = 'sim'\n[[image]]\nname = 'a'\nstate = 'PENDING'", "[[image]] number 1: state: "},
		{"image twice", "provider = 'sim'\n[[image]]\nname = 'a'\n[[image]]\nname = 'a'", "[[image]] number 2: name: a is there twice"},
		{"subnet id", "[[subnet]]\nid = 'lab'", "[[subnet]] number 1: id: "},
		{"built-in subnet", "[[subnet]]\nid = 'subnet-isolated'", "subnet-isolated is built in"},
		{"subnet family", "[[subnet]]\nid = 'subnet-a'\nipv4 = 'fd00::/64'", "ipv4: fd00::/64 is not an ipv4 network"},
		{"subnet overlap", "[[subnet]]\nid = 'subnet-a'\nipv4 = '10.0.0.0/16'\n[[subnet]]\nid = 'subnet-b'\nipv4 = '10.0.1.0/24'", "[[subnet]] number 2: ipv4: 10.0.1.0/24 overlaps"},
		{"endpoint", "[[endpoint]]\nid = 'x'\ncidrs = ['10.0.0.0/8']", "[[endpoint]] number 1: id: "},
		{"endpoint without networks", "[[endpoint]]\nid = 'vpce-x'", "cidrs: name the networks"},
		{"type name", "[[instance_type]]\nname = 'tiny'\nvcpu = 1\nmemory_mb = 512", "[[instance_type]] number 1: name: "},
		{"type size", "[[instance_type]]\nname = 'stream.tiny.small'\nvcpu = 0\nmemory_mb = 1", "vcpu: 0 is not"},
		{"software name", "[[software]]\nname = 'A b'", "[[software]] number 1: name: "},
		{"software twice", "[[software]]\nname = 'a'\n[[software]]\nname = 'a'", "[[software]] number 2: name: a is there twice"},
		{"half an installer", "[[software]]\nname = 'a'\ninstall.DEBIAN_12 = 'x'", "uninstall.DEBIAN_12: a platform has commands for both"},
		{"the other half", "[[software]]\nname = 'a'\nuninstall.DEBIAN_12 = 'x'", "install.DEBIAN_12: a platform has commands for both"},
		{"software for no platform", "[[software]]\nname = 'a'\ninstall.debian = 'x'\nuninstall.debian = 'x'", "\"debian\" is not a platform"},
		{"a long command", "[[software]]\nname = 'a'\ninstall.DEBIAN_12 = '" + strings.Repeat("x", 61<<10) + "'\nuninstall.DEBIAN_12 = 'x'", "the command has 62464 bytes"},
		{"a license in two lines", "[[software]]\nname = 'a'\nlicense = \"a\\nb\"", "license: it is not one line"},
		{"unknown key of software", "[[software]]\nname = 'a'\ncommand = 'x'", "there is no key software.command"},
		{"key without policy", "[[key]]\n" + secret, "[[key]] number 1: policy: say what the key may do"},
		{"key with two", "[[key]]\n" + secret + "policy = '{}'\npolicy_file = 'x'", "policy and policy_file are set"},
		{"key with a broken policy", "[[key]]\n" + secret + "policy = '{}'", "[[key]] number 1: policy: iam policy: Statement is missing"},
		{"key with no file", "[[key]]\n" + secret + "policy_file = 'nowhere.json'", "nowhere.json: no such file"},
		{"short secret", "[[key]]\nid = 'ABCDEFGHIJKLMNOP'\nsecret = 'x'\npolicy = '{}'", "secret: it does not have"},
		{"principal", "[[key]]\n" + secret + "principal = 'bob'", "principal: \"bob\" is not the ARN"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := load(t, test.text)
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "oriel.toml") {
				t.Errorf("%v\ndoes not say: %s", err, test.want)
			}
			if strings.Contains(err.Error(), "0123456789abcdef") {
				t.Errorf("the message has the secret: %v", err)
			}
		})
	}
}

// TestAllComplaints: someone with three mistakes need not try four times.
func TestAllComplaints(t *testing.T) {
	_, err := load(t, "provider = 'x'\nlisten = 'y'\naccount = 'z'")
	if n := len(strings.Split(err.Error(), "\n")); n != 3 {
		t.Errorf("%d complaints, want 3:\n%v", n, err)
	}
}

func TestPolicyFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "policy.json"), []byte(allowAll), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "oriel.toml")
	text := "[[key]]\nid = 'ABCDEFGHIJKLMNOP'\nsecret = '0123456789abcdef'\npolicy_file = 'policy.json'\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	// Twice: the check may be repeated after flags were laid over the file.
	for range 2 {
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
	}
	if c.Keys[0].Policy != allowAll {
		t.Errorf("policy is %q", c.Keys[0].Policy)
	}
}

func TestDefaultIsValid(t *testing.T) {
	c := Default()
	if err := c.Check(); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	text, err := os.ReadFile("../../docs/oriel.example.toml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("[[key]]\nid = 1"))
	f.Add([]byte("[quotas]\nimages = 99999999999999999999"))
	f.Add([]byte("[[subnet]]\nipv4 = ''"))
	f.Add([]byte("[[software]]\nname = 'a'\ninstall.DEBIAN_12 = 'x'\nuninstall = {DEBIAN_12 = 'y'}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parse(text, "oriel.toml")
		if err != nil {
			return
		}
		for i := range c.Keys {
			c.Keys[i].PolicyFile = "" // must not read what happens to lie around
		}
		if c.Check() == nil {
			if err := c.Check(); err != nil {
				t.Errorf("good at first, then not: %v", err)
			}
		}
	})
}
