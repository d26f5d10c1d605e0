// Package docker is the compute provider that runs each machine as a container, through the Docker Engine API. It stays
// inside what Docker since 20.10 and Podman since 4.3 both do.
//
// Everything that it makes in the engine carries the label oriel.installation, so that several installations of Oriel can
// share an engine and none touches what is not its own. Machines are the containers oriel-ID; their images are committed
// containers; their networks are bridges whose traffic is filtered by rules of the host (network.go, firewall.go).
//
// What a machine and the server share is in a directory of its own, DATA/instances/ID (directory.go): run, where the
// agent's socket appears, and bin, with the agent. The machine's owner is root inside and is not trusted: nothing in run is
// followed, it is made anew before every start.
package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/oriel-project/oriel/internal/compute"
)

// Config says which engine to use, and how.
type Config struct {
	// Host is the engine's address, for example unix:///var/run/docker.sock; default FindHost.
	Host string
	// DataDir is where the machines' directories are kept, made when it is missing.
	DataDir string
	// AgentDir is where InstallAgent puts agents; default DataDir/agents.
	AgentDir string
	// Installation tells this installation's machines, images and networks from others' on the same engine; up to 64 of
	// A-Z a-z 0-9 _ . -.
	Installation string
	// Subnets are the networks that machines can be in. The default subnet, with an empty ID, is there in any case, with
	// internet and free addresses unless it is listed with others.
	Subnets []Subnet
	// AllowUnprotected: run machines also when the host's services and the other machines cannot be kept out of their
	// reach. Otherwise nothing is started then.
	AllowUnprotected bool
	// Log gets what an administrator should know; default slog.Default.
	Log *slog.Logger
}

// Labels of what Oriel keeps in an engine. Those of public images are written by who makes the image.
const (
	labelInstallation = "oriel.installation" // on all that Oriel makes
	labelID           = "oriel.id"           // on a container: the machine
	labelResource     = "oriel.resource"     // on a container: the ARN that it belongs to
	labelSubnet       = "oriel.subnet"       // on a container and a network: the subnet's ID
	labelRef          = "oriel.ref"          // on a captured or imported image and its copies: what it was called first
	labelParent       = "oriel.parent"       // on a captured image: the engine's ID of the one that its machine was made from

	labelImageName        = "oriel.image.name" // on a public image
	labelImagePlatform    = "oriel.image.platform"
	labelImageDisplayName = "oriel.image.display-name"
	labelImageDescription = "oriel.image.description"
	labelImageReleased    = "oriel.image.released" // RFC 3339, or the date only
)

// Provider runs machines as containers. It is a compute.Provider and a compute.Dialer.
type Provider struct {
	config   Config
	engine   *client.Client
	log      *slog.Logger
	networks map[string]*network // by subnet ID
	firewall *firewall

	machines keyed // held while a machine is changed
	captures keyed // held while an image is made or removed

	mu   sync.Mutex
	host *host // nil until the engine was asked
}

var (
	_ compute.Provider = (*Provider)(nil)
	_ compute.Dialer   = (*Provider)(nil)
)

// idForm is what may name a machine or an installation. It is part of the names of containers and directories.
var idForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// New makes a provider. It checks the configuration, does not need the engine yet, and makes nothing on the disk.
func New(config Config) (*Provider, error) {
	if !idForm.MatchString(config.Installation) {
		return nil, fmt.Errorf("the installation's name %.70q is not 1 to 64 letters, digits and _ . -", config.Installation)
	}
	if config.Host == "" {
		config.Host = FindHost()
	}
	if config.Log == nil {
		config.Log = slog.Default()
	}
	var err error
	if config.DataDir, err = filepath.Abs(config.DataDir); err != nil { // the engine does not know our working directory
		return nil, err
	}
	if config.AgentDir == "" {
		config.AgentDir = filepath.Join(config.DataDir, "agents")
	}
	networks, err := plan(config.Installation, config.Subnets)
	if err != nil {
		return nil, err
	}
	engine, err := client.New(client.WithHost(config.Host), client.WithUserAgent("oriel"))
	if err != nil {
		return nil, fmt.Errorf("the container engine's address %q: %w", config.Host, err)
	}
	return &Provider{config: config, engine: engine, log: config.Log, networks: networks, firewall: &firewall{run: runCommand, interfaces: net.InterfaceByName}}, nil
}

// FindHost gives the engine that the environment names with DOCKER_HOST, or else the first socket of Docker or Podman that
// is there, or else Docker's.
func FindHost() string {
	if host := os.Getenv("DOCKER_HOST"); host != "" {
		return host
	}
	const docker = "/var/run/docker.sock"
	sockets := []string{docker, "/run/podman/podman.sock"}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		sockets = append(sockets, filepath.Join(dir, "docker.sock"), filepath.Join(dir, "podman", "podman.sock"))
	}
	for _, socket := range sockets {
		if info, err := os.Stat(socket); err == nil && info.Mode().Type() == os.ModeSocket {
			return "unix://" + socket
		}
	}
	return "unix://" + docker
}

// Close ends the connections to the engine. Machines go on.
func (p *Provider) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, n := range p.networks { // one that is being made is finished first, unless the engine hangs
		if release, err := n.lock.acquire(ctx, ""); err == nil {
			release()
		}
	}
	return p.engine.Close()
}

// host is what the engine says of itself and the machine that it runs on.
type host struct {
	version      string
	api          string
	podman       bool
	architecture string // as Go calls it
	driver       string
	root         string
	cpus         int
	memory       int64 // bytes
	limitMemory  bool
	limitSwap    bool
	limitPIDs    bool
	limitCPU     bool
	appArmor     bool
	warnings     []string
}

// about asks the engine about itself, once.
func (p *Provider) about(ctx context.Context) (*host, error) {
	p.mu.Lock()
	h := p.host
	p.mu.Unlock()
	if h != nil {
		return h, nil
	}
	v, err := p.engine.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return nil, fail("ask the container engine for its version", err)
	}
	r, err := p.engine.Info(ctx, client.InfoOptions{})
	if err != nil {
		return nil, fail("ask the container engine about its host", err)
	}
	i := r.Info
	h = &host{
		version: v.Version, architecture: v.Arch, api: p.engine.ClientVersion(), driver: i.Driver, root: i.DockerRootDir,
		cpus: i.NCPU, memory: i.MemTotal,
		limitMemory: i.MemoryLimit, limitSwap: i.SwapLimit, limitPIDs: i.PidsLimit, limitCPU: i.CPUCfsPeriod && i.CPUCfsQuota,
		appArmor: slices.ContainsFunc(i.SecurityOptions, func(s string) bool { return strings.Contains(s, "apparmor") }),
		warnings: i.Warnings,
	}
	for _, c := range v.Components {
		h.podman = h.podman || strings.Contains(c.Name, "Podman")
	}
	p.mu.Lock()
	p.host = h
	p.mu.Unlock()
	return h, nil
}

// fail turns an error of the engine, met while doing what, into one of the contract.
func fail(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", what, err)
	case noSpace(err):
		return &compute.Fault{Message: "there is no space left on the container engine's disk to " + what + "; make room and try again", Cause: err}
	case cerrdefs.IsUnavailable(err), client.IsErrConnectionFailed(err),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("%s: %w: %w", what, compute.ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// noSpace: an engine passes the system's error on as text.
func noSpace(err error) bool {
	text := err.Error()
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
		strings.Contains(text, "no space left on device") || strings.Contains(text, "disk quota exceeded")
}

// keyed is a set of locks with names. Its zero value is ready.
type keyed struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed on release
}

// acquire waits for the lock and gives its release.
func (k *keyed) acquire(ctx context.Context, key string) (release func(), err error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		k.mu.Lock()
		wait, taken := k.held[key]
		if !taken {
			done := make(chan struct{})
			if k.held == nil {
				k.held = map[string]chan struct{}{}
			}
			k.held[key] = done
			k.mu.Unlock()
			return func() {
				k.mu.Lock()
				delete(k.held, key)
				k.mu.Unlock()
				close(done)
			}, nil
		}
		k.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
		}
	}
}

// longest bounds one change of a machine or image: the capture of a big disk.
const longest = 2 * time.Hour

// finish does work under the lock. When the caller gives up meanwhile, finish returns, but the work goes on and keeps the
// lock: an engine does not undo what it was asked for because nobody waits any more, so what is asked for next must wait.
func (k *keyed) finish(ctx context.Context, key string, work func(context.Context) error) error {
	release, err := k.acquire(ctx, key)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), longest)
		defer cancel()
		err := work(ctx)
		release()
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
