package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/compute/docker"
	"github.com/oriel-project/oriel/internal/compute/sim"
	"github.com/oriel-project/oriel/internal/config"
)

// openProvider makes the provider of the configuration. It does not need the container engine to answer.
func (s *Server) openProvider(installation string) error {
	if s.cfg.Provider == config.Sim {
		p, err := newSim(s.cfg.Config)
		s.provider = p
		return err
	}
	p, err := newDocker(s.cfg, installation)
	if err != nil {
		return err
	}
	s.provider = p
	s.closers = append(s.closers, p.Close)
	return installAgent(p, s.cfg.Config)
}

func newSim(c config.Config) (*sim.Provider, error) {
	images := make([]compute.PublicImage, len(c.Images))
	for i, image := range c.Images {
		images[i] = compute.PublicImage{Name: image.Name, Platform: image.Platform, State: image.State,
			DisplayName: image.DisplayName, Description: image.Description, Released: image.Released}
	}
	if len(images) == 0 { // the one that the docker provider has, so that what was tried on sim works there
		base, err := baseImage("")
		if err != nil {
			return nil, err
		}
		images = []compute.PublicImage{{Name: base.Name, Platform: base.Platform, DisplayName: base.DisplayName,
			Description: base.Description, Released: base.Released}}
	}
	return sim.New(sim.Config{Dir: filepath.Join(c.Data, "sim"), Delay: c.SimDelay.Duration, Images: images})
}

func newDocker(c Config, installation string) (*docker.Provider, error) {
	subnets := []docker.Subnet{{ID: appstream.IsolatedSubnet}}
	for _, n := range c.Subnets {
		subnets = append(subnets, docker.Subnet{ID: n.ID, CIDRv4: n.IPv4, CIDRv6: n.IPv6, Internet: n.Internet})
	}
	return docker.New(docker.Config{Host: c.Engine, DataDir: c.Data, Installation: installation, Subnets: subnets,
		AllowUnprotected: c.AllowUnprotected, Log: c.Log})
}

// installAgent puts the agent that was built with this server on offer. Without its file, one that was installed
// earlier will do.
func installAgent(p *docker.Provider, c config.Config) error {
	file, err := agentFile(c)
	if err == nil {
		err = p.InstallAgent(file, agentapi.Version)
	}
	if !errors.Is(err, fs.ErrNotExist) || c.Agent != "" {
		return err
	}
	if installed, _ := filepath.Glob(filepath.Join(c.Data, "agents", "*", "oriel-agent")); len(installed) > 0 {
		return nil
	}
	return fmt.Errorf("the program oriel-agent, which runs inside machines, is not beside oriel: put it there, or name its file with --agent")
}

// agentFile gives the agent's program: the configured one, or the one beside this program.
func agentFile(c config.Config) (string, error) {
	file := c.Agent
	if file == "" {
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		file = filepath.Join(filepath.Dir(self), "oriel-agent")
	}
	_, err := os.Stat(file)
	return file, err
}
