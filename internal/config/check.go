package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oriel-project/oriel/internal/api/iam"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/language"
)

var (
	regionForm = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-\d$`)
	// Other servers have regions with names of their own, such as garage.
	awsRegionForm = regexp.MustCompile(`^[a-zA-Z0-9-]{1,64}$`)
	bucketForm    = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	prefixForm    = regexp.MustCompile(`^([A-Za-z0-9_-][A-Za-z0-9._-]*/)+$`)
	accountForm   = regexp.MustCompile(`^\d{12}$`)
	nameForm      = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,100}$`)
	platformForm  = regexp.MustCompile(`^[A-Z0-9_]{1,64}$`)
	subnetForm    = regexp.MustCompile(`^subnet-[a-z0-9-]{1,48}$`)
	endpointForm  = regexp.MustCompile(`^vpce-[a-z0-9-]{1,48}$`)
	typeForm      = regexp.MustCompile(`^stream(\.[a-z0-9-]+)+\.(small|medium|large|xlarge|\d+xlarge|metal)$`)
	keyForm       = regexp.MustCompile(`^\w{16,128}$`)
	arnForm       = regexp.MustCompile(`^arn:aws[a-z-]*:(iam|sts)::\d{12}:\S{1,900}$`)
)

// checker collects complaints.
type checker struct{ list []error }

// must complains unless ok.
func (c *checker) must(ok bool, key, format string, args ...any) {
	if !ok {
		c.list = append(c.list, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
}

// Check completes the configuration (paths become absolute, entries get their defaults) and checks all of it. The error lists every
// complaint, one a line, each with its key; a key has the same name in the file and as a flag.
func (c *Config) Check() error {
	var k checker
	c.checkServer(&k)
	c.checkData(&k)
	for _, q := range []struct {
		key   string
		value int
	}{{"image_builders", c.Quotas.ImageBuilders}, {"images", c.Quotas.Images}, {"image_shares", c.Quotas.ImageShares}, {"image_copies", c.Quotas.ImageCopies}, {"image_updates", c.Quotas.ImageUpdates}, {"image_exports", c.Quotas.ImageExports},
		{"fleets", c.Quotas.Fleets}, {"fleet_instances", c.Quotas.FleetInstances}, {"stacks", c.Quotas.Stacks},
		{"users", c.Quotas.Users}, {"entitlements", c.Quotas.Entitlements}, {"entitled_applications", c.Quotas.EntitledApplications}, {"directory_configs", c.Quotas.DirectoryConfigs}, {"app_blocks", c.Quotas.AppBlocks}, {"app_block_builders", c.Quotas.AppBlockBuilders},
		{"applications", c.Quotas.Applications}, {"fleet_applications", c.Quotas.FleetApplications}} {
		k.must(q.value >= 0 && q.value <= 1e6, "quotas."+q.key, "%d is not between 0 (AppStream's default) and 1000000", q.value)
	}
	k.must(c.Quotas.FleetApplications <= appstream.CatalogueSize, "quotas.fleet_applications", "%d is more than the %d applications that a catalogue can have", c.Quotas.FleetApplications, appstream.CatalogueSize)
	c.checkRates(&k)
	for _, r := range []struct {
		key  string
		kept Duration
	}{{"events", c.Retention.Events}, {"audit", c.Retention.Audit}} {
		k.must(r.kept.Duration == 0 || r.kept.Duration >= time.Hour, "retention."+r.key, "%s is less than an hour; \"0s\" keeps all", r.kept)
	}
	c.Archives.check(&k, "archives")
	c.Objects.check(&k, "objects")
	same := c.Objects.Bucket == c.Archives.Bucket && c.Objects.Endpoint == c.Archives.Endpoint && c.Objects.Prefix == c.Archives.Prefix
	k.must(c.Objects.Bucket == "" || !same, "objects.prefix", "the archives are in s3://%s/%s too; give one of them another prefix", c.Objects.Bucket, c.Objects.Prefix)
	c.checkImages(&k)
	c.checkNetworks(&k)
	c.checkTypes(&k)
	c.checkSoftware(&k)
	c.checkKeys(&k)
	c.checkSMTP(&k)
	if len(k.list) > 0 && c.file != "" {
		for i, err := range k.list {
			k.list[i] = fmt.Errorf("%s: %w", c.file, err)
		}
	}
	return errors.Join(k.list...)
}

func (c *Config) checkServer(k *checker) {
	k.must(isAddress(c.Listen), "listen", "%q is not ADDRESS:PORT; for example 127.0.0.1:8080, or :8080 for all of the machine's addresses", c.Listen)
	k.must(c.Metrics == "" || isAddress(c.Metrics), "metrics", "%q is not ADDRESS:PORT; for example 127.0.0.1:9090", c.Metrics)
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		ok := err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && (u.Path == "" || u.Path == "/") &&
			u.User == nil && u.RawQuery == "" && u.Fragment == ""
		k.must(ok, "public_url", "%q is not a scheme and a host; for example https://oriel.example.com", c.PublicURL)
	}
	k.must((c.TLSCert == "") == (c.TLSKey == ""), "tls_cert, tls_key", "set both for HTTPS, or neither")
	for _, p := range c.TrustedProxies {
		k.must(p == p.Masked(), "trusted_proxies", "%s has bits behind its mask; write %s", p, p.Masked())
	}
	k.must(slices.Contains([]string{"debug", "info", "warn", "error"}, c.LogLevel), "log_level", "%q is none of debug, info, warn, error", c.LogLevel)
	k.must(slices.Contains([]string{"auto", "text", "json"}, c.LogFormat), "log_format", "%q is none of auto, text, json", c.LogFormat)
}

func isAddress(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n > 65535 {
		return false
	}
	_, err = netip.ParseAddr(host)
	return host == "" || host == "localhost" || err == nil
}

func (c *Config) checkData(k *checker) {
	k.must(c.Data != "", "data", "there is no home directory to make the default of; name a directory")
	for _, path := range []*string{&c.Data, &c.TLSCert, &c.TLSKey, &c.Agent} {
		if *path == "" {
			continue
		}
		abs, err := filepath.Abs(*path)
		k.must(err == nil, "data", "%v", err)
		*path = abs
	}
	k.must(c.Provider == Docker || c.Provider == Sim, "provider", "%q is none of docker, sim", c.Provider)
	k.must(c.SimDelay.Duration >= 0 && c.SimDelay.Duration <= time.Hour, "sim_delay", "%s is not between 0s and 1h", c.SimDelay)
	if c.Engine != "" {
		u, err := url.Parse(c.Engine)
		k.must(err == nil && (u.Scheme == "unix" && u.Path != "" || u.Scheme == "tcp" && u.Host != ""), "engine",
			"%q is not the address of an engine; for example unix:///run/docker.sock", c.Engine)
	}
	k.must(len(c.Region) > 0, "region", "name at least one region, for example us-east-1")
	for i, r := range c.Region {
		k.must(regionForm.MatchString(r), "region", "%q is not the name of a region; for example us-east-1", r)
		k.must(!slices.Contains(c.Region[:i], r), "region", "%s is there twice", r)
	}
	k.must(accountForm.MatchString(c.Account), "account", "%q does not have twelve digits", c.Account)
}

func (c *Config) checkRates(k *checker) {
	rate := func(key string, v float64) {
		k.must(v >= 0 && v <= 1e6, "rates."+key, "%v is not between 0 (no limit) and 1000000 each second", v)
	}
	rate("read", c.Rates.Read)
	rate("write", c.Rates.Write)
	for _, name := range slices.Sorted(maps.Keys(c.Rates.Operations)) {
		rate("operations."+name, c.Rates.Operations[name])
	}
	k.must(c.Rates.Burst.Duration >= 0 && c.Rates.Burst.Duration <= time.Hour, "rates.burst", "%s is not between 0s and 1h", c.Rates.Burst)
}

// check checks a bucket of the table of that name.
func (a *Bucket) check(k *checker, table string) {
	if a.Bucket == "" {
		k.must(*a == Bucket{}, table+".bucket", "name the bucket that the other settings of [%s] are about", table)
		return
	}
	a.Region = cmp.Or(a.Region, "us-east-1")
	if a.Prefix != "" && !strings.HasSuffix(a.Prefix, "/") {
		a.Prefix += "/"
	}
	k.must(bucketForm.MatchString(a.Bucket), table+".bucket", "%.80q cannot name a bucket; use 3 to 63 lower-case letters, digits, dots and hyphens", a.Bucket)
	k.must(awsRegionForm.MatchString(a.Region), table+".region", "%.80q is not the name of a region; for example eu-central-1", a.Region)
	k.must(a.Prefix == "" || len(a.Prefix) <= 200 && prefixForm.MatchString(a.Prefix), table+".prefix", "%.80q is not a path of at most 200 letters, digits and - _ . such as oriel/lab/", a.Prefix)
	if a.Endpoint != "" {
		u, err := url.Parse(a.Endpoint)
		k.must(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && (u.Path == "" || u.Path == "/") &&
			u.User == nil && u.RawQuery == "" && u.Fragment == "", table+".endpoint", "this is not a scheme and a host; for example https://s3.example.com")
	}
	if a.Credentials != "" {
		abs, err := filepath.Abs(a.Credentials)
		if err == nil {
			_, err = os.Stat(abs)
		}
		k.must(err == nil, table+".credentials", "%v", err)
		a.Credentials = abs
	}
}

func (c *Config) checkImages(k *checker) {
	k.must(len(c.Images) == 0 || c.Provider == Sim, "image", "images are configured for the provider sim only; "+
		"under docker, oriel image bootstrap makes the first one")
	seen := map[string]bool{}
	for i := range c.Images {
		image, at := &c.Images[i], entry("image", i)
		image.Platform, image.State = cmp.Or(image.Platform, "DEBIAN_12"), cmp.Or(image.State, appstream.ImageAvailable)
		k.must(nameForm.MatchString(image.Name), at+"name", "%q does not match %s", image.Name, nameForm)
		k.must(!seen[image.Name], at+"name", "%s is there twice", image.Name)
		k.must(platformForm.MatchString(image.Platform), at+"platform", "%q is not a platform; for example WINDOWS_SERVER_2022", image.Platform)
		k.must(slices.Contains([]string{appstream.ImageAvailable, appstream.ImageDeprecated, appstream.ImageFailed}, image.State), at+"state",
			"%q is none of AVAILABLE, DEPRECATED, FAILED", image.State)
		k.must(len(image.DisplayName) <= 100, at+"display_name", "it is longer than 100 bytes")
		k.must(len(image.Description) <= 256, at+"description", "it is longer than 256 bytes")
		seen[image.Name] = true
	}
}

func (c *Config) checkNetworks(k *checker) {
	seen := map[string]bool{appstream.IsolatedSubnet: true}
	var taken []netip.Prefix
	for i, s := range c.Subnets {
		at := entry("subnet", i)
		k.must(subnetForm.MatchString(s.ID), at+"id", "%q does not match %s", s.ID, subnetForm)
		k.must(s.ID != appstream.IsolatedSubnet, at+"id", "%s is built in; choose another ID", s.ID)
		k.must(s.ID == appstream.IsolatedSubnet || !seen[s.ID], at+"id", "%s is there twice", s.ID)
		seen[s.ID] = true
		for _, p := range []struct {
			key         string
			prefix      netip.Prefix
			is          bool
			least, most int
		}{{"ipv4", s.IPv4, s.IPv4.Addr().Is4(), 16, 28}, {"ipv6", s.IPv6, s.IPv6.Addr().Is6() && !s.IPv6.Addr().Is4In6(), 48, 96}} {
			if p.prefix == (netip.Prefix{}) {
				continue
			}
			k.must(p.is && p.prefix.Bits() >= p.least && p.prefix.Bits() <= p.most, at+p.key, "%s is not an %s network of /%d to /%d",
				p.prefix, p.key, p.least, p.most)
			k.must(p.prefix == p.prefix.Masked(), at+p.key, "%s has bits behind its mask; write %s", p.prefix, p.prefix.Masked())
			k.must(!slices.ContainsFunc(taken, p.prefix.Overlaps), at+p.key, "%s overlaps with another subnet", p.prefix)
			taken = append(taken, p.prefix)
		}
	}
	clear(seen)
	for i, e := range c.Endpoints {
		at := entry("endpoint", i)
		k.must(endpointForm.MatchString(e.ID), at+"id", "%q does not match %s", e.ID, endpointForm)
		k.must(!seen[e.ID], at+"id", "%s is there twice", e.ID)
		k.must(len(e.CIDRs) > 0, at+"cidrs", "name the networks that it admits; for example [\"10.0.0.0/8\"]")
		for _, p := range e.CIDRs {
			k.must(p == p.Masked(), at+"cidrs", "%s has bits behind its mask; write %s", p, p.Masked())
		}
		seen[e.ID] = true
	}
}

func (c *Config) checkTypes(k *checker) {
	seen := map[string]bool{}
	for i, t := range c.InstanceTypes {
		at := entry("instance_type", i)
		k.must(typeForm.MatchString(t.Name), at+"name", "%q does not match %s", t.Name, typeForm)
		k.must(!seen[t.Name], at+"name", "%s is there twice", t.Name)
		k.must(t.VCPU >= 0.1 && t.VCPU <= 1024, at+"vcpu", "%v is not between 0.1 and 1024", t.VCPU)
		k.must(t.MemoryMB >= 256 && t.MemoryMB <= 16<<20, at+"memory_mb", "%d is not between 256 and %d", t.MemoryMB, 16<<20)
		seen[t.Name] = true
	}
}

func (c *Config) checkSMTP(k *checker) {
	m := &c.SMTP
	if m.Host == "" {
		k.must(*m == (SMTP{}), "smtp.host", "name the mail server, or leave [smtp] out")
		return
	}
	m.Security, m.Language = cmp.Or(m.Security, "starttls"), cmp.Or(m.Language, language.Fallback)
	k.must(c.PublicURL != "", "public_url", "mails have links: say by which address people reach the server; for example https://oriel.example.com")
	k.must(m.Port >= 0 && m.Port <= 65535, "smtp.port", "%d is not a port", m.Port)
	k.must(slices.Contains([]string{"starttls", "tls", "opportunistic", "none"}, m.Security), "smtp.security", "%q is none of starttls, tls, opportunistic, none", m.Security)
	k.must(m.Username == "" || m.Security == "starttls" || m.Security == "tls", "smtp.security", "a password needs starttls or tls")
	k.must((m.Username == "") == (m.PasswordFile == ""), "smtp.username, smtp.password_file", "set both, or neither")
	_, err := mail.ParseAddress(m.From)
	k.must(err == nil, "smtp.from", "%q is not an address; for example Applications <oriel@example.com>", m.From)
	k.must(language.Known(m.Language), "smtp.language", "%q is none of %s", m.Language, strings.Join(language.Codes(), ", "))
	for _, path := range []*string{&m.CAFile, &m.PasswordFile} {
		if *path != "" {
			_, err := os.Stat(*path)
			k.must(err == nil, "smtp.ca_file, smtp.password_file", "%v", err)
		}
	}
}

// allowAll is the policy that a complaint about a missing one offers.
const allowAll = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`

// maxPolicy is more than iam.Parse takes.
const maxPolicy = 1 << 20

func (c *Config) checkKeys(k *checker) {
	seen := map[string]bool{}
	for i := range c.Keys {
		key, at := &c.Keys[i], entry("key", i)
		key.Account = cmp.Or(key.Account, c.Account)
		key.Principal = cmp.Or(key.Principal, "arn:aws:iam::"+key.Account+":user/"+key.ID)
		k.must(keyForm.MatchString(key.ID), at+"id", "%q does not have 16 to 128 letters and digits, as AWS's clients want", key.ID)
		k.must(!seen[key.ID], at+"id", "%s is there twice", key.ID)
		k.must(len(key.Secret) >= 16 && len(key.Secret) <= 256, at+"secret", "it does not have 16 to 256 characters")
		k.must(accountForm.MatchString(key.Account), at+"account", "%q does not have twelve digits", key.Account)
		k.must(arnForm.MatchString(key.Principal), at+"principal", "%q is not the ARN of a user or role; for example arn:aws:iam::%s:user/ci", key.Principal, key.Account)
		seen[key.ID] = true
		switch {
		case key.Policy == "" && key.PolicyFile == "":
			k.must(false, at+"policy", "say what the key may do, here or in policy_file; this allows everything: policy = '%s'", allowAll)
			continue
		case key.Policy != "" && key.PolicyFile != "":
			k.must(false, at+"policy", "policy and policy_file are set; keep one")
			continue
		case key.PolicyFile != "":
			info, err := os.Stat(key.PolicyFile)
			if err == nil && info.Size() > maxPolicy {
				err = fmt.Errorf("%s has more than %d bytes", key.PolicyFile, maxPolicy)
			}
			var text []byte
			if err == nil {
				text, err = os.ReadFile(key.PolicyFile)
			}
			if err != nil {
				k.must(false, at+"policy_file", "%v", err)
				continue
			}
			key.Policy, key.PolicyFile = string(text), ""
		}
		_, err := iam.Parse([]byte(key.Policy))
		k.must(err == nil, at+"policy", "%v", err)
	}
}

// entry names the entry of a list, counted from 1 as in the file, in front of its key.
func entry(table string, i int) string { return fmt.Sprintf("[[%s]] number %d: ", table, i+1) }
