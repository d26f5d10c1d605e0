package docker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	enginenet "github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
)

// Limits of every machine that do not depend on its instance type.
const (
	maxProcesses = 4096
	maxFiles     = 16384     // open ones; engines without CAP_SYS_RESOURCE cannot give more
	sharedMemory = 256 << 20 // browsers need more than the usual 64 MiB
	stopSeconds  = 5
)

// capabilities are what root inside needs to install software and to run programs as others. All else is dropped.
var capabilities = []string{"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETUID", "SETGID", "KILL", "SETFCAP", "SYS_CHROOT", "NET_BIND_SERVICE"}

// ownCapabilities are what the agent needs to hide people's processes from one another, and gives up before it starts anything.
var ownCapabilities = []string{"SYS_ADMIN", "SETPCAP"}

func containerName(id string) string { return "oriel-" + id }

// Observe reports a machine, with one call to the engine.
func (p *Provider) Observe(ctx context.Context, id string) (appstream.Machine, error) {
	c, err := p.inspect(ctx, id)
	if err != nil || c == nil {
		return appstream.Machine{ID: id}, err
	}
	m := p.machine(id, c.State.Status, c.NetworkSettings.Networks)
	if m.Phase == appstream.MachineStopped {
		m.ExitCode = c.State.ExitCode
	}
	return m, nil
}

// List reports all machines of this installation, with one call to the engine.
func (p *Provider) List(ctx context.Context) ([]appstream.Machine, error) {
	r, err := p.engine.ContainerList(ctx, client.ContainerListOptions{All: true,
		Filters: client.Filters{}.Add("label", labelInstallation+"="+p.config.Installation)})
	if err != nil {
		return nil, fail("list machines", err)
	}
	var list []appstream.Machine
	for _, c := range r.Items {
		id := c.Labels[labelID]
		if !idForm.MatchString(id) {
			continue
		}
		var networks map[string]*enginenet.EndpointSettings
		if c.NetworkSettings != nil {
			networks = c.NetworkSettings.Networks
		}
		m := p.machine(id, c.State, networks)
		if m.Phase == appstream.MachineStopped {
			m.ExitCode = exitCode(c.Status)
		}
		list = append(list, m)
	}
	return list, nil
}

var exited = regexp.MustCompile(`^Exited \((\d{1,3})\)`)

// exitCode reads an engine's summary such as "Exited (85) 3 minutes ago", the only place where a list has the code.
func exitCode(status string) int {
	if found := exited.FindStringSubmatch(status); found != nil {
		code, _ := strconv.Atoi(found[1])
		return code
	}
	return 0
}

func (p *Provider) machine(id string, state container.ContainerState, networks map[string]*enginenet.EndpointSettings) appstream.Machine {
	m := appstream.Machine{ID: id, Phase: appstream.MachineStopped, AgentVersion: p.directory(id).agentVersion()}
	switch state {
	case container.StateRunning, container.StatePaused, container.StateRestarting:
		m.Phase = appstream.MachineRunning
	default:
		return m // an engine may still know addresses that are no longer this machine's
	}
	for _, e := range networks {
		if e == nil {
			continue
		}
		if e.IPAddress.IsValid() {
			m.IPv4 = e.IPAddress.String()
		}
		if e.GlobalIPv6Address.IsValid() {
			m.IPv6 = append(m.IPv6, e.GlobalIPv6Address.String())
		}
		m.ENI = interfaceID(e)
	}
	return m
}

var endpointForm = regexp.MustCompile(`^[0-9a-f]{17}`)

// interfaceID is the engine's ID of the endpoint in AWS's form. Podman has none; what tells interfaces apart there is their
// hardware address.
func interfaceID(e *enginenet.EndpointSettings) string {
	if found := endpointForm.FindString(e.EndpointID); found != "" {
		return "eni-" + found
	}
	if len(e.MacAddress) == 0 {
		return ""
	}
	sum := sha256.Sum256([]byte(e.NetworkID + " " + e.MacAddress.String()))
	return "eni-" + hex.EncodeToString(sum[:])[:17]
}

// inspect gives the machine's container, or nil when there is none of this installation.
func (p *Provider) inspect(ctx context.Context, id string) (*container.InspectResponse, error) {
	if !idForm.MatchString(id) {
		return nil, nil // such a machine cannot have been made
	}
	r, err := p.engine.ContainerInspect(ctx, containerName(id), client.ContainerInspectOptions{})
	switch {
	case cerrdefs.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fail("look at the machine "+id, err)
	case r.Container.State == nil || r.Container.Config == nil || r.Container.NetworkSettings == nil:
		return nil, fmt.Errorf("look at the machine %s: the container engine's answer is not complete", id)
	case r.Container.Config.Labels[labelInstallation] != p.config.Installation:
		return nil, nil
	}
	return &r.Container, nil
}

// EnsureRunning makes and starts the machine. Of one that runs nothing is changed; its agent is replaced at its next start.
// The size of the root volume is up to the engine: all machines share its disk.
func (p *Provider) EnsureRunning(ctx context.Context, spec appstream.MachineSpec) error {
	if !idForm.MatchString(spec.ID) {
		return badID(spec.ID)
	}
	return p.machines.finish(ctx, spec.ID, func(ctx context.Context) error {
		if p.directory(spec.ID).exists() { // there may be a container; otherwise we need not ask
			if c, err := p.inspect(ctx, spec.ID); c != nil || err != nil {
				return p.restart(ctx, spec, c, err)
			}
		}
		err := p.create(ctx, spec, true)
		if cerrdefs.IsConflict(err) { // a server that was killed had just asked for it, or has lost its directory
			if c, again := p.inspect(ctx, spec.ID); c != nil || again != nil {
				return p.restart(ctx, spec, c, again)
			}
		}
		return err
	})
}

// EnsureStarted starts the machine, if there is one. Of one that runs nothing is changed.
func (p *Provider) EnsureStarted(ctx context.Context, spec appstream.MachineSpec) error {
	return p.machines.finish(ctx, spec.ID, func(ctx context.Context) error {
		c, err := p.inspect(ctx, spec.ID)
		if c == nil {
			return err
		}
		return p.restart(ctx, spec, c, err)
	})
}

// EnsureMade makes the machine without starting it.
func (p *Provider) EnsureMade(ctx context.Context, spec appstream.MachineSpec) error {
	if !idForm.MatchString(spec.ID) {
		return badID(spec.ID)
	}
	return p.machines.finish(ctx, spec.ID, func(ctx context.Context) error {
		if c, err := p.inspect(ctx, spec.ID); c != nil || err != nil {
			return err
		}
		return p.create(ctx, spec, false)
	})
}

// restart starts a machine that exists, unless it runs. It takes what inspect gave.
func (p *Provider) restart(ctx context.Context, spec appstream.MachineSpec, c *container.InspectResponse, err error) error {
	if err != nil || c.State.Running {
		return err
	}
	n, err := p.network(ctx, c.Config.Labels[labelSubnet])
	if err != nil {
		return err
	}
	if err := p.directory(spec.ID).prepare(agentConfig(spec), p.config.AgentDir, spec.AgentVersion); err != nil {
		return err
	}
	return p.start(ctx, spec.ID, n)
}

// create makes a machine and starts it, if start says so. One that cannot be started is not left behind, unless trying again may help.
func (p *Provider) create(ctx context.Context, spec appstream.MachineSpec, start bool) error {
	n, err := p.network(ctx, spec.Subnet)
	if err != nil {
		return err
	}
	h, err := p.about(ctx)
	if err != nil {
		return err
	}
	dir := p.directory(spec.ID)
	if err = dir.prepare(agentConfig(spec), p.config.AgentDir, spec.AgentVersion); err == nil {
		_, err = p.engine.ContainerCreate(ctx, p.container(spec, n, h))
		err = p.createError(spec, n, err)
	}
	if err == nil && start {
		err = p.start(ctx, spec.ID, n)
	}
	if _, lasting := errors.AsType[*compute.Fault](err); lasting {
		return errors.Join(err, p.remove(ctx, spec.ID))
	}
	return err
}

func (p *Provider) createError(spec appstream.MachineSpec, n *network, err error) error {
	switch {
	case err != nil && strings.Contains(err.Error(), n.name): // somebody has removed it; some engines say so only when they start the machine
		n.forget()
	case cerrdefs.IsNotFound(err), err != nil && strings.Contains(strings.ToLower(err.Error()), "no such image"):
		return &compute.Fault{Code: string(types.FleetErrorCodeImageNotFound), Cause: err,
			Message: fmt.Sprintf("the image %s does not exist (any more); use another one", spec.ImageRef)}
	case cerrdefs.IsConflict(err):
		return fmt.Errorf("the container engine already has a container named %s: %w", containerName(spec.ID), err)
	}
	return fail("make the machine "+spec.ID, err)
}

// start starts the machine's container.
func (p *Provider) start(ctx context.Context, id string, n *network) error {
	_, err := p.engine.ContainerStart(ctx, containerName(id), client.ContainerStartOptions{})
	if err != nil && lostNetwork(err) {
		if err = p.reconnect(ctx, id, n); err == nil {
			_, err = p.engine.ContainerStart(ctx, containerName(id), client.ContainerStartOptions{})
		}
	}
	if err != nil && noAddress(err) {
		return &compute.Fault{Code: string(types.FleetErrorCodeSubnetHasInsufficientIpAddresses), Cause: err,
			Message: fmt.Sprintf("the subnet %s has no free address; stop or delete machines in it, or use another one", n.title())}
	}
	return fail("start the machine "+id, err)
}

// lostNetwork: an engine knows a container's network by an ID, and does not find it again when it was made anew.
func lostNetwork(err error) bool {
	text := strings.ToLower(err.Error())
	return strings.Contains(text, "network") && (strings.Contains(text, "not found") || strings.Contains(text, "no such network"))
}

func noAddress(err error) bool {
	text := strings.ToLower(err.Error())
	return strings.Contains(text, "no available ip") || strings.Contains(text, "could not find free ip") || strings.Contains(text, "failed to find free ip")
}

// reconnect makes a network anew that was removed behind our back, and puts a stopped machine into it.
func (p *Provider) reconnect(ctx context.Context, id string, n *network) error {
	n.forget()
	n, err := p.network(ctx, n.ID)
	if err != nil {
		return err
	}
	// What fails here fails again, with a better reason, when the container is connected.
	_, _ = p.engine.NetworkDisconnect(ctx, n.name, client.NetworkDisconnectOptions{Container: containerName(id), Force: true})
	_, err = p.engine.NetworkConnect(ctx, n.name, client.NetworkConnectOptions{Container: containerName(id)})
	return fail("connect the machine "+id+" to its subnet", err)
}

// container is what the engine is asked for.
func (p *Provider) container(spec appstream.MachineSpec, n *network, h *host) client.ContainerCreateOptions {
	dir := p.directory(spec.ID)
	stop := stopSeconds
	host := &container.HostConfig{
		NetworkMode:   container.NetworkMode(n.name),
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
		CapDrop:       []string{"ALL"},
		CapAdd:        capabilities,
		SecurityOpt:   []string{"no-new-privileges"},
		ShmSize:       sharedMemory,
		Tmpfs:         map[string]string{"/run": "rw,nosuid,nodev,mode=755,size=64m"},
		Mounts: []mount.Mount{
			{Type: mount.TypeBind, Source: dir.run(), Target: agentapi.Dir},
			{Type: mount.TypeBind, Source: dir.bin(), Target: filepath.Dir(agentapi.Binary), ReadOnly: true},
		},
		Resources: p.resources(spec, h),
	}
	if spec.Sessions > 1 {
		host.CapAdd = slices.Concat(capabilities, ownCapabilities)
		if h.appArmor { // the engine's profile forbids mounting, whatever the capabilities
			host.SecurityOpt = append(host.SecurityOpt, "apparmor=unconfined")
		}
	}
	if !h.podman { // Podman bounds its logs itself
		host.LogConfig = container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "1m", "max-file": "2"}}
	}
	return client.ContainerCreateOptions{
		Name: containerName(spec.ID),
		Config: &container.Config{
			Image:       spec.ImageRef,
			Hostname:    hostname(spec.Resource.Name),
			User:        "root",
			WorkingDir:  "/",
			Entrypoint:  []string{agentapi.Binary},
			StopSignal:  "SIGTERM",
			StopTimeout: &stop,
			Labels: map[string]string{
				labelInstallation: p.config.Installation,
				labelID:           spec.ID,
				labelResource:     spec.Resource.ARN(),
				labelSubnet:       spec.Subnet,
			},
		},
		HostConfig: host,
	}
}

// resources are the instance type's, as far as the host has them and can limit them.
func (p *Provider) resources(spec appstream.MachineSpec, h *host) container.Resources {
	r := container.Resources{Ulimits: []*container.Ulimit{{Name: "nofile", Soft: maxFiles, Hard: maxFiles}}}
	if h.podman { // its own default is more than it can give; Docker has none, which is better: the limit is per user, not per machine
		r.Ulimits = append(r.Ulimits, &container.Ulimit{Name: "nproc", Soft: maxFiles, Hard: maxFiles})
	}
	if h.limitPIDs {
		r.PidsLimit = new(int64(maxProcesses))
	}
	cpus, memory := spec.InstanceType.VCPU, int64(spec.InstanceType.MemoryMB)<<20
	if cpus <= 0 || cpus > float64(h.cpus) {
		cpus = float64(h.cpus)
	}
	if memory <= 0 || memory > h.memory {
		memory = h.memory
	}
	if cpus != spec.InstanceType.VCPU || memory != int64(spec.InstanceType.MemoryMB)<<20 {
		p.log.Info("the machine gets what the host has", "machine", spec.ID, "resource", spec.Resource.ARN(), "instanceType", spec.InstanceType.Name,
			"vcpu", spec.InstanceType.VCPU, "hostVCPU", h.cpus, "memoryMB", spec.InstanceType.MemoryMB, "hostMemoryMB", h.memory>>20)
	}
	if h.limitCPU {
		r.NanoCPUs = int64(cpus * 1e9)
	}
	if h.limitMemory {
		r.Memory = memory
		r.MemorySwap = memory
	}
	return r
}

var notHostname = regexp.MustCompile(`[^a-z0-9-]+`)

// hostname makes a resource's name a host's.
func hostname(name string) string {
	name = notHostname.ReplaceAllString(strings.ToLower(name), "-")
	name = strings.Trim(name[:min(len(name), 63)], "-")
	if name == "" {
		return "oriel"
	}
	return name
}

// EnsureStopped asks the agent to end, and ends it after five seconds.
func (p *Provider) EnsureStopped(ctx context.Context, id string) error {
	if !idForm.MatchString(id) {
		return nil
	}
	return p.machines.finish(ctx, id, func(ctx context.Context) error {
		_, err := p.engine.ContainerStop(ctx, containerName(id), client.ContainerStopOptions{Timeout: new(stopSeconds)})
		if cerrdefs.IsNotFound(err) {
			return nil
		}
		return fail("stop the machine "+id, err)
	})
}

// EnsureGone removes the machine's container, its volumes and its directory, and an image that only it still used.
func (p *Provider) EnsureGone(ctx context.Context, id string) error {
	if !idForm.MatchString(id) {
		return nil
	}
	return p.machines.finish(ctx, id, func(ctx context.Context) error { return p.remove(ctx, id) })
}

func (p *Provider) remove(ctx context.Context, id string) error {
	c, err := p.inspect(ctx, id)
	if err != nil {
		return err
	}
	switch {
	case c != nil:
		_, err = p.engine.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		if err != nil && !cerrdefs.IsNotFound(err) {
			return fail("remove the machine "+id, err)
		}
		err = p.removeUnused(ctx, c.Image)
	case p.directory(id).exists(): // somebody else has removed the container, or we have, and were ended then
		err = p.removeForgotten(ctx)
	}
	if err != nil {
		return err
	}
	return p.directory(id).remove() // last: while it is there, there may be more to remove
}

// RemoveAll removes all machines, captured images and networks of this installation, for good.
func (p *Provider) RemoveAll(ctx context.Context) error {
	machines, err := p.List(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range machines {
		errs = append(errs, p.EnsureGone(ctx, m.ID))
	}
	images, err := p.ListImages(ctx)
	errs = append(errs, err)
	for _, ref := range images {
		errs = append(errs, p.EnsureImageGone(ctx, ref))
	}
	errs = append(errs, p.removeNetworks(ctx))
	return errors.Join(slices.DeleteFunc(errs, func(err error) bool { return err == nil })...)
}
