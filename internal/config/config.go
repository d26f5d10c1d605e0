// Package config is what the operator of a server can set: the file oriel.toml, and on top of it flags and environment
// variables, which package main reads into the same struct. Everything is checked before anything is started, and every
// complaint names the key and what to do. docs/oriel.example.toml explains each key.
package config

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/tomlfile"
)

// The providers.
const (
	Docker = "docker" // machines are containers of a Docker or Podman engine
	Sim    = "sim"    // no machines, but everything that a client of the API sees of them
)

// DefaultAccount is the account of the server's own access key. It is the number that AWS's documentation uses for nobody's
// account. It is the same on every installation on purpose: examples work as they are printed, and scripts and Terraform
// states that hold ARNs can move from one server to another.
const DefaultAccount = "123456789012"

// Config is everything that can be set. Its zero value is not usable: begin with Default.
type Config struct {
	Listen         string         `toml:"listen"`          // address and port of the API and the streams
	Metrics        string         `toml:"metrics"`         // address and port of /metrics; "" for the same as Listen
	PublicURL      string         `toml:"public_url"`      // scheme and host by which clients reach the server; "": as they say
	TLSCert        string         `toml:"tls_cert"`        // file with the certificate chain in PEM; "" for plain HTTP
	TLSKey         string         `toml:"tls_key"`         // file with its private key
	TrustedProxies []netip.Prefix `toml:"trusted_proxies"` // whose X-Forwarded-For and X-Forwarded-Proto are believed

	Data     string   `toml:"data"`      // directory of all that is kept
	Provider string   `toml:"provider"`  // Docker or Sim
	Engine   string   `toml:"engine"`    // docker: unix:///path or tcp://host:port; "": DOCKER_HOST, or the socket that is found
	Agent    string   `toml:"agent"`     // docker: the oriel-agent program; "": beside the server's own
	SimDelay Duration `toml:"sim_delay"` // sim: how long each change of a machine takes

	// AllowUnprotected, docker: start machines even when nothing can keep them from reaching the host's services and one another.
	AllowUnprotected bool `toml:"allow_unprotected"`

	Region  []string `toml:"region"`  // the regions that are served; the first is written into the credentials file
	Account string   `toml:"account"` // of the server's own access key; twelve digits

	LogLevel  string `toml:"log_level"`  // debug, info, warn or error
	LogFormat string `toml:"log_format"` // auto, text or json

	Quotas        Quotas         `toml:"quotas"`
	Rates         Rates          `toml:"rates"`
	Retention     Retention      `toml:"retention"`
	Archives      Bucket         `toml:"archives"` // where exported images are kept
	Objects       Bucket         `toml:"objects"`  // where what S3 locations name is kept
	SMTP          SMTP           `toml:"smtp"`
	Images        []Image        `toml:"image"`
	Subnets       []Subnet       `toml:"subnet"`
	Endpoints     []Endpoint     `toml:"endpoint"`
	InstanceTypes []InstanceType `toml:"instance_type"`
	Software      []Software     `toml:"software"`
	Keys          []Key          `toml:"key"`

	file string // where it was read from, for messages
}

// Quotas limits what one account may have in one region.
type Quotas struct {
	ImageBuilders        int `toml:"image_builders"`        // default 10
	Images               int `toml:"images"`                // default 10
	ImageShares          int `toml:"image_shares"`          // accounts that one image may be shared with; default 100
	ImageExports         int `toml:"image_exports"`         // archives of exported images, in all regions; default 10
	ImageCopies          int `toml:"image_copies"`          // that are under way at a time to one region; default 2
	ImageUpdates         int `toml:"image_updates"`         // that are under way at a time; default 5
	Fleets               int `toml:"fleets"`                // default 10
	FleetInstances       int `toml:"fleet_instances"`       // instances that one fleet may have; default 100
	Stacks               int `toml:"stacks"`                // default 10
	Users                int `toml:"users"`                 // in the user pool; default 50
	Entitlements         int `toml:"entitlements"`          // of one stack; default 50
	EntitledApplications int `toml:"entitled_applications"` // of one entitlement; default 50
	DirectoryConfigs     int `toml:"directory_configs"`     // default 10
	AppBlocks            int `toml:"app_blocks"`            // default 50
	AppBlockBuilders     int `toml:"app_block_builders"`    // default 10
	Applications         int `toml:"applications"`          // default 50
	FleetApplications    int `toml:"fleet_applications"`    // of one Elastic fleet; default 50
}

// SMTP is the mail server that mails to users go through. Without a host, none are sent.
type SMTP struct {
	Host         string `toml:"host"`
	Port         int    `toml:"port"`          // 0: the usual one of Security
	Security     string `toml:"security"`      // starttls (default), tls, opportunistic or none
	CAFile       string `toml:"ca_file"`       // PEM file with the authorities of its certificate; "": the system's
	Username     string `toml:"username"`      // "": it asks for none
	PasswordFile string `toml:"password_file"` // has the password in its first line
	From         string `toml:"from"`          // address, or Name <address>
	Language     string `toml:"language"`      // of mails to those who have not chosen one: en (default) or de
}

// Rates limits how often one account may call one operation in one region.
type Rates struct {
	Read       float64            `toml:"read"`       // calls each second of Describe…, List… and Get…; 0: no limit
	Write      float64            `toml:"write"`      // calls each second of every other operation; 0: no limit
	Burst      Duration           `toml:"burst"`      // so long a rest saves calls up, which may then come at once
	Operations map[string]float64 `toml:"operations"` // of particular operations, by name
}

// Retention says how long the lines of the logs are kept. Zero is for ever.
type Retention struct {
	Events Duration `toml:"events"` // default 2160h: 90 days
	Audit  Duration `toml:"audit"`  // default 0
}

// Bucket says where something is kept when not in the data directory: in a bucket of Amazon S3 or of a server that speaks its protocol.
type Bucket struct {
	Bucket      string `toml:"bucket"`      // "" for the data directory
	Endpoint    string `toml:"endpoint"`    // scheme and host of the server; "" for Amazon's
	Region      string `toml:"region"`      // default us-east-1
	Prefix      string `toml:"prefix"`      // of the names of all objects
	PathStyle   bool   `toml:"path_style"`  // the bucket is in the path, not in the host's name
	Credentials string `toml:"credentials"` // file in AWS's form; "": what AWS's tools find. Relative to the file that names it
}

// Image is a public image of the sim provider.
type Image struct {
	Name        string    `toml:"name"`
	Platform    string    `toml:"platform"` // such as WINDOWS_SERVER_2022; default DEBIAN_12
	State       string    `toml:"state"`    // AVAILABLE (default), DEPRECATED or FAILED
	DisplayName string    `toml:"display_name"`
	Description string    `toml:"description"`
	Released    time.Time `toml:"released"`
}

// Subnet is a network that machines can be put into, by its ID in VpcConfig.SubnetIds.
type Subnet struct {
	ID       string       `toml:"id"`       // subnet-…
	IPv4     netip.Prefix `toml:"ipv4"`     // default: chosen by the engine
	IPv6     netip.Prefix `toml:"ipv6"`     // default: chosen by the engine
	Internet bool         `toml:"internet"` // whether there is a way to the internet
}

// Endpoint is a streaming VPC endpoint: a name for networks, for the AccessEndpoints of image builders.
type Endpoint struct {
	ID    string         `toml:"id"` // vpce-…
	CIDRs []netip.Prefix `toml:"cidrs"`
}

// InstanceType is a size of machines beside the documented ones, or in place of one of them.
type InstanceType struct {
	Name     string  `toml:"name"`      // stream.FAMILY.SIZE
	VCPU     float64 `toml:"vcpu"`      // may be a fraction
	MemoryMB int     `toml:"memory_mb"` // in MiB
	Family   string  `toml:"family"`    // as in an image's SupportedInstanceFamilies; default: from the name
}

// Key is an access key beside the server's own.
type Key struct {
	ID         string `toml:"id"`
	Secret     string `toml:"secret"`
	Account    string `toml:"account"`     // default: the server's account
	Principal  string `toml:"principal"`   // ARN that the audit log names; default: the user ID of Account
	Policy     string `toml:"policy"`      // IAM policy, JSON; exactly one of Policy
	PolicyFile string `toml:"policy_file"` // and PolicyFile must be set. Relative to the file that names it
}

// Duration is a time.Duration that is written as "2s" or "1m30s".
type Duration = tomlfile.Duration

// ParseNetwork reads a flag that is a network as Load reads one of the file.
func ParseNetwork(text string) (netip.Prefix, error) { return tomlfile.ParseNetwork(text) }

// Default is what holds where nothing is set.
func Default() Config {
	return Config{
		Listen:    "127.0.0.1:8080",
		Data:      defaultData(),
		Provider:  Docker,
		SimDelay:  Duration{Duration: 2 * time.Second},
		Region:    []string{"us-east-1"},
		Account:   DefaultAccount,
		LogLevel:  "info",
		LogFormat: "auto",
		Retention: Retention{Events: Duration{Duration: 90 * 24 * time.Hour}},
		Rates:     Rates{Read: 1000, Write: 200, Burst: Duration{Duration: 10 * time.Second}},
	}
}

// defaultData is /var/lib/oriel for root, else a directory of the user's own.
func defaultData() string {
	if os.Geteuid() == 0 {
		return "/var/lib/oriel"
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "oriel")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "" // Check asks for one
	}
	return filepath.Join(home, ".local", "share", "oriel")
}

// maxFile is the size of the largest file that Load reads, in bytes.
const maxFile = 4 << 20

// Load reads a file on top of Default. Keys that do not exist are refused. It does not check values: flags may still
// replace some, so that Check comes after them.
func Load(file string) (Config, error) {
	f, err := os.Open(file)
	if err != nil {
		return Config{}, fmt.Errorf("read the configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Config{}, fmt.Errorf("read the configuration: %w", err)
	}
	if len(text) > maxFile {
		return Config{}, fmt.Errorf("%s has more than %d bytes", file, maxFile)
	}
	c, err := parse(text, file)
	if err != nil {
		return Config{}, err
	}
	paths := []*string{&c.Archives.Credentials, &c.Objects.Credentials, &c.SMTP.CAFile, &c.SMTP.PasswordFile}
	for i := range c.Keys {
		paths = append(paths, &c.Keys[i].PolicyFile)
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(filepath.Dir(file), *p)
		}
	}
	return c, nil
}

// parse reads a file's text. file is for messages.
func parse(text []byte, file string) (Config, error) {
	c := Default()
	c.file = file
	if err := tomlfile.Decode(text, file, &c); err != nil {
		return Config{}, err
	}
	return c, nil
}

// Sizes gives the documented instance types and those of the configuration, by name.
func (c *Config) Sizes() map[string]appstream.InstanceType {
	sizes := appstream.InstanceTypes()
	for _, t := range c.InstanceTypes {
		if t.Family == "" {
			t.Family = appstream.InstanceFamily(t.Name)
		}
		sizes[t.Name] = appstream.InstanceType{Name: t.Name, Family: t.Family, VCPU: t.VCPU, MemoryMB: t.MemoryMB}
	}
	return sizes
}

// URL is the address of the API for programs on this machine: PublicURL, or else what Listen stands for.
func (c *Config) URL() string {
	if c.PublicURL != "" {
		return strings.TrimSuffix(c.PublicURL, "/")
	}
	return LocalURL(c.Listen, c.TLSCert != "")
}

// LocalURL is the address by which programs on this machine reach what listens at ADDRESS:PORT.
func LocalURL(listen string, secure bool) string {
	scheme := "http://"
	if secure {
		scheme = "https://"
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return scheme + listen
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return scheme + net.JoinHostPort(host, port)
}
