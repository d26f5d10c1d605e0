package main

import (
	"cmp"
	"log/slog"
	"net/netip"
	"os"
	"reflect"

	"github.com/alecthomas/kong"

	"github.com/oriel-project/oriel/internal/config"
	"github.com/oriel-project/oriel/internal/server"
	"github.com/oriel-project/oriel/internal/telemetry"
)

// place is what every command needs to know: which server. A flag that is not given leaves the file's value, or the default.
type place struct {
	Config string   `help:"Settings file, see docs/oriel.example.toml. Flags win over it." type:"existingfile" placeholder:"FILE"`
	Data   *string  `help:"Directory of all that is kept (default: /var/lib/oriel for root, else ~/.local/share/oriel)." placeholder:"DIR"`
	Listen *string  `help:"Address of the API and the streams (default: 127.0.0.1:8080)." placeholder:"ADDR:PORT"`
	Region []string `help:"Regions that are served (default: us-east-1)." placeholder:"REGION"`

	PublicURL *string `help:"Scheme and host by which clients reach the server, for example behind a proxy." placeholder:"URL"`
	TLSCert   *string `help:"Certificate chain for HTTPS (PEM)." placeholder:"FILE"`
	TLSKey    *string `help:"Key of the certificate (PEM)." placeholder:"FILE"`
}

// forClient takes the region of AWS's command line for a command that calls the API at a named endpoint, when none was named. (Without one it is this
// machine's own server, and what is set for AWS has nothing to do with it.)
func (p place) forClient(endpoint string) place {
	if r := cmp.Or(os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION")); r != "" && len(p.Region) == 0 && p.Config == "" && endpoint != "" {
		p.Region = []string{r}
	}
	return p
}

// machines is what those commands need that deal with machines.
type machines struct {
	Provider *string `help:"What machines are: docker, or sim for none at all (default: docker)." placeholder:"NAME"`
	Engine   *string `help:"Container engine, such as unix:///run/docker.sock (default: DOCKER_HOST, else the socket that is found)." placeholder:"URL"`
	Agent    *string `help:"Program that runs inside machines (default: oriel-agent beside oriel)." placeholder:"FILE"`

	AllowUnprotected *bool `help:"Start machines even when nothing keeps them from reaching this host's services."`
}

// serving is what only the server needs.
type serving struct {
	SimDelay       *config.Duration `help:"Provider sim: how long each change takes (default: 2s)." placeholder:"TIME"`
	Metrics        *string          `help:"Another address for /metrics." placeholder:"ADDR:PORT"`
	Account        *string          `help:"Account of the server's own access key (default: 123456789012)." placeholder:"DIGITS"`
	TrustedProxies []netip.Prefix   `help:"Networks of proxies whose X-Forwarded-For is believed." placeholder:"CIDR"`
	LogLevel       *string          `help:"debug, info, warn or error (default: info)." placeholder:"LEVEL"`
	LogFormat      *string          `help:"text, json, or auto: text on a terminal (default: auto)." placeholder:"FORMAT"`
}

// readNetwork reads a flag that is a network as the settings file does.
func readNetwork(flag *kong.DecodeContext, target reflect.Value) error {
	var text string
	if err := flag.Scan.PopValueInto("network", &text); err != nil {
		return err
	}
	network, err := config.ParseNetwork(text)
	if err != nil {
		return err
	}
	target.Set(reflect.ValueOf(network))
	return nil
}

// load reads the file and puts the flags on top.
func load(p place, m machines, s serving) (server.Config, error) {
	c := config.Default()
	if p.Config != "" {
		var err error
		if c, err = config.Load(p.Config); err != nil {
			return server.Config{}, err
		}
	}
	set(&c.Data, p.Data)
	set(&c.Listen, p.Listen)
	setList(&c.Region, p.Region)
	set(&c.PublicURL, p.PublicURL)
	set(&c.TLSCert, p.TLSCert)
	set(&c.TLSKey, p.TLSKey)
	set(&c.Provider, m.Provider)
	set(&c.Engine, m.Engine)
	set(&c.Agent, m.Agent)
	set(&c.AllowUnprotected, m.AllowUnprotected)
	set(&c.SimDelay, s.SimDelay)
	set(&c.Metrics, s.Metrics)
	set(&c.Account, s.Account)
	setList(&c.TrustedProxies, s.TrustedProxies)
	set(&c.LogLevel, s.LogLevel)
	set(&c.LogFormat, s.LogFormat)
	if err := c.Check(); err != nil {
		return server.Config{}, err
	}
	return server.Config{Config: c, Version: version(), Log: telemetry.NewLog(os.Stderr, c.LogLevel, c.LogFormat)}, nil
}

func set[T any](target *T, flag *T) {
	if flag != nil {
		*target = *flag
	}
}

func setList[T any](target *[]T, flag []T) {
	if len(flag) > 0 {
		*target = flag
	}
}

// quiet is for commands whose output is not a log.
func quiet(c server.Config) server.Config {
	c.Log = slog.New(slog.DiscardHandler)
	return c
}
