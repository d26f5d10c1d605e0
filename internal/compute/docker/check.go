package docker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/oriel-project/oriel/internal/compute"
)

// minFree is how much room on a disk is too little for work with images, in bytes.
const minFree = 5 << 30

// Check looks at the engine, its disk, and what keeps machines apart from the host. It changes nothing but may ask the
// kernel to filter bridges.
func (p *Provider) Check(ctx context.Context) []compute.Finding {
	p.mu.Lock()
	p.host = nil // what we remember does not tell that it is still so
	p.mu.Unlock()
	h, err := p.about(ctx)
	if err != nil {
		hint := "start it (Debian: apt-get install docker.io, systemctl start docker), or name another one with DOCKER_HOST"
		if errors.Is(err, os.ErrPermission) || strings.Contains(err.Error(), "permission denied") {
			hint = "run the server as root, or as a user who may use " + p.config.Host
		}
		return []compute.Finding{{What: "container engine", Info: err.Error(), Hint: hint}}
	}
	name := "Docker"
	if h.podman {
		name = "Podman"
	}
	findings := []compute.Finding{
		{OK: true, What: "container engine", Info: fmt.Sprintf("%s %s at %s, API %s", name, h.version, p.config.Host, h.api)},
		p.checkDriver(h),
		p.checkDisk("container engine's disk", h.root),
		p.checkDisk("server's disk", existing(p.config.DataDir)),
		p.checkLimits(h),
		p.checkWall(ctx, false),
		p.checkWall(ctx, true),
		p.checkBase(ctx),
	}
	return findings
}

func (p *Provider) checkDriver(h *host) compute.Finding {
	f := compute.Finding{OK: true, What: "storage driver", Info: h.driver}
	if h.driver == "vfs" {
		f.OK, f.Hint = false, "vfs copies the whole disk for each machine: use overlay2, on a disk with ext4 or xfs"
	}
	return f
}

func (p *Provider) checkDisk(what, dir string) compute.Finding {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil { // the engine's may be elsewhere
		return compute.Finding{OK: true, What: what, Info: "not visible from here: " + dir}
	}
	free := int64(s.Bavail) * s.Bsize
	f := compute.Finding{OK: free >= minFree, What: what, Info: fmt.Sprintf("%d GiB free in %s", free>>30, dir)}
	if !f.OK {
		f.Hint = fmt.Sprintf("make room: images and machines need at least %d GiB", minFree>>30)
	}
	return f
}

// existing gives the directory itself, or the one in which it will be made.
func existing(dir string) string {
	for dir != filepath.Dir(dir) {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		dir = filepath.Dir(dir)
	}
	return dir
}

func (p *Provider) checkLimits(h *host) compute.Finding {
	f := compute.Finding{OK: true, What: "limits", Info: fmt.Sprintf("%d CPUs and %d MiB for all machines", h.cpus, h.memory>>20)}
	for _, l := range []struct {
		ok   bool
		what string
	}{{h.limitMemory, "memory"}, {h.limitCPU, "CPU time"}, {h.limitPIDs, "processes"}} {
		if !l.ok {
			f.OK, f.Info, f.Hint = false, f.Info+"; "+l.what+" of a machine cannot be limited", "enable the kernel's cgroup controllers memory, cpu and pids for the container engine"
		}
	}
	if h.limitMemory && !h.limitSwap {
		f.Info += "; swap of a machine cannot be limited"
	}
	return f
}

// checkWall tries the tools without changing rules.
func (p *Provider) checkWall(ctx context.Context, v6 bool) compute.Finding {
	f := compute.Finding{OK: true, What: "isolation", Info: "machines cannot reach this host's services or each other"}
	if v6 {
		f.What, f.Info = "IPv6", "machines have IPv6 addresses"
		if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
			f.OK, f.Info, f.Hint = false, "the host's kernel has no IPv6: machines have IPv4 only", "do not boot with ipv6.disable=1 if you need IPv6"
			return f
		}
	}
	err := p.hostIsHere()
	if err == nil {
		_, err = p.firewall.run(ctx, "", tool(v6), "-w", "10", "-t", table, "-S")
	}
	if err == nil {
		err = p.firewall.seeBridges(ctx, v6)
	}
	switch {
	case err == nil && v6:
		for _, n := range p.networks {
			if release, err := n.lock.acquire(ctx, ""); err == nil {
				if n.noV6 != "" {
					f.OK, f.Info, f.Hint = false, "machines in the subnet "+n.title()+" have no IPv6: "+n.noV6, "let the container engine make IPv6 networks, then remove the network "+n.name
				}
				release()
			}
		}
	case err != nil && v6:
		f.OK, f.Info, f.Hint = false, "machines have IPv4 only: "+err.Error(), "see the finding before"
	case err != nil:
		f.OK, f.Info, f.Hint = false, err.Error(), "run the server as root on the container engine's host, with iptables installed; or allow unprotected machines in the configuration"
	}
	return f
}

func (p *Provider) checkBase(ctx context.Context) compute.Finding {
	f := compute.Finding{OK: true, What: "base image"}
	images, err := p.PublicImages(ctx)
	switch {
	case err != nil:
		f.OK, f.Info, f.Hint = false, err.Error(), "see the finding about the container engine"
	case len(images) == 0:
		f.OK, f.Info, f.Hint = false, "there is none", "make it: oriel image bootstrap"
	default:
		for i, image := range images {
			if i > 0 {
				f.Info += ", "
			}
			f.Info += image.Name
		}
	}
	return f
}
