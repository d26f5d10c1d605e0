package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
)

const agentName = "oriel-agent"

// directory is what the server and one machine share. Only run can be written from inside.
//
//	run/          at agentapi.Dir: config.json, agent.sock
//	bin/          at the directory of agentapi.Binary, read-only: oriel-agent
//	agent-version the version of bin/oriel-agent
type directory string

func (p *Provider) directory(id string) directory {
	return directory(filepath.Join(p.config.DataDir, "instances", id))
}

func (d directory) run() string { return filepath.Join(string(d), "run") }
func (d directory) bin() string { return filepath.Join(string(d), "bin") }

func (d directory) versionFile() string { return filepath.Join(string(d), "agent-version") }

func (d directory) exists() bool {
	_, err := os.Lstat(string(d))
	return err == nil
}

// agentVersion gives the version of the agent that the machine starts with, "" when there is none.
func (d directory) agentVersion() string {
	text, err := os.ReadFile(d.versionFile())
	if err != nil || len(text) > 32 {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// prepare makes the directory ready for a start, while the machine is not running. run is made anew: what the machine's
// owner may have put there, such as a link to a file of the host, must not be written through.
func (d directory) prepare(c agentapi.Config, agents, version string) error {
	// The machine's users run what is in bin (sudo, the Image Assistant). On the host, the directory around it keeps others out.
	err := os.MkdirAll(d.bin(), 0o700)
	if err = errors.Join(err, os.Chmod(d.bin(), 0o755)); err != nil {
		return fmt.Errorf("make the machine's directory: %w", err)
	}
	if err := os.RemoveAll(d.run()); err != nil {
		return fmt.Errorf("clear the machine's directory: %w", err)
	}
	if err := os.Mkdir(d.run(), 0o700); err != nil {
		return fmt.Errorf("make the machine's directory: %w", err)
	}
	if err := c.Write(filepath.Join(d.run(), agentapi.ConfigName)); err != nil {
		return err
	}
	if d.agentVersion() == version && sameFile(filepath.Join(d.bin(), agentName), filepath.Join(agents, version, agentName)) {
		return nil
	}
	return d.installAgent(agents, version)
}

func sameFile(a, b string) bool {
	ia, ea := os.Stat(a)
	ib, eb := os.Stat(b)
	return ea == nil && (eb != nil || os.SameFile(ia, ib)) // a version that is no longer on offer stays
}

// installAgent puts an agent in place. Until the version is written too, the machine counts as having the old one, and
// this is done again.
func (d directory) installAgent(agents, version string) error {
	if _, err := agentapi.ParseVersion(version); err != nil {
		return &compute.Fault{Message: err.Error()}
	}
	source, target := filepath.Join(agents, version, agentName), filepath.Join(d.bin(), agentName)
	if err := os.Remove(target + ".new"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("install the agent: %w", err)
	}
	err := os.Link(source, target+".new")
	if errors.Is(err, fs.ErrNotExist) {
		return &compute.Fault{Message: fmt.Sprintf("the agent version %s is not installed on this server; use another one, or install it and try again", version), Cause: err}
	}
	if err != nil { // another file system, for example
		err = copyFile(source, target+".new")
	}
	if err == nil {
		err = os.Rename(target+".new", target)
	}
	if err == nil {
		err = writeFile(d.versionFile(), version)
	}
	if err != nil {
		return fmt.Errorf("install the agent: %w", err)
	}
	return nil
}

func (d directory) remove() error {
	if err := os.RemoveAll(string(d)); err != nil {
		return fmt.Errorf("remove the machine's directory: %w", err)
	}
	return nil
}

// Dial connects to the agent of a running machine. The socket is opened without following links, since the machine's
// owner could have put one there that leads to a socket of the host, and reached through /proc/self/fd, since paths of
// sockets must be shorter than those of files.
func (p *Provider) Dial(ctx context.Context, id string) (net.Conn, error) {
	if !idForm.MatchString(id) {
		return nil, badID(id)
	}
	run, err := unix.Open(p.directory(id).run(), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("the machine %s has no agent: %w", id, err)
	}
	defer unix.Close(run)
	socket, err := unix.Openat(run, agentapi.SocketName, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("the agent of the machine %s does not listen (yet): %w", id, err)
	}
	defer unix.Close(socket)
	var stat unix.Stat_t
	if err := unix.Fstat(socket, &stat); err != nil {
		return nil, fmt.Errorf("the agent's socket of the machine %s: %w", id, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, fmt.Errorf("the agent's socket of the machine %s is not a socket", id)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d", socket))
	if err != nil {
		return nil, fmt.Errorf("reach the agent of the machine %s: %w", id, errors.Unwrap(err))
	}
	return conn, nil
}

func badID(id string) error {
	return &compute.Fault{Message: fmt.Sprintf("%.70q cannot name a machine", id)}
}

// agentConfig is what a machine's agent is told.
func agentConfig(spec appstream.MachineSpec) agentapi.Config {
	role := agentapi.RoleFleet
	switch {
	case spec.Resource.Noun == appstream.NounAppBlockBuilder:
		role = agentapi.RoleAppBlockBuilder
	case spec.Sessions == 0:
		role = agentapi.RoleImageBuilder
	}
	return agentapi.Config{
		Role: role, ResourceName: spec.Resource.Name, ImageARN: spec.ImageARN, InstanceType: spec.InstanceType.Name,
		Region: spec.Resource.Region, Account: spec.Resource.Account, SocketUID: os.Getuid(), SocketGID: os.Getgid(),
		MaxSessions: spec.Sessions, Width: 1280, Height: 720, // until a viewer asks for another size
	}
}

// InstallAgent puts the agent program in the file binary on offer as version (MM-DD-YYYY). Machines get it when they are
// started with that version. To install a version again replaces it.
func (p *Provider) InstallAgent(binary, version string) error {
	if _, err := agentapi.ParseVersion(version); err != nil {
		return err
	}
	target := filepath.Join(p.config.AgentDir, version, agentName)
	if same, err := sameContent(binary, target); err != nil {
		return fmt.Errorf("install the agent: %w", err)
	} else if same {
		return nil
	}
	err := os.MkdirAll(filepath.Dir(target), 0o700)
	if err == nil {
		err = copyFile(binary, target+".new")
	}
	if err == nil {
		err = os.Rename(target+".new", target)
	}
	if err != nil {
		return fmt.Errorf("install the agent: %w", err)
	}
	return nil
}

// AgentVersions gives the installed versions, the newest last; before the first is installed, the one that the server was
// built with.
func (p *Provider) AgentVersions() []string {
	found, _ := filepath.Glob(filepath.Join(p.config.AgentDir, "*", agentName))
	var versions []string
	for _, file := range found {
		v := filepath.Base(filepath.Dir(file))
		if _, err := agentapi.ParseVersion(v); err == nil {
			versions = append(versions, v)
		}
	}
	if len(versions) == 0 {
		return []string{agentapi.Version}
	}
	slices.SortFunc(versions, agentapi.CompareVersions)
	return versions
}

// sameContent compares a file that must be there with one that need not.
func sameContent(must, may string) (bool, error) {
	a, err := os.Open(must)
	if err != nil {
		return false, err
	}
	defer a.Close()
	b, err := os.Open(may)
	if err != nil {
		return false, nil
	}
	defer b.Close()
	bufA, bufB := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		na, ea := io.ReadFull(a, bufA)
		nb, eb := io.ReadFull(b, bufB)
		if !bytes.Equal(bufA[:na], bufB[:nb]) {
			return false, nil
		}
		if ea != nil || eb != nil { // both at the end, or one cannot be read
			end := func(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
			return end(ea) && end(eb), nil
		}
	}
}

// copyFile makes the program target a copy of source, on the disk when it returns.
func copyFile(source, target string) error {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY|os.O_TRUNC|syscall.O_NOFOLLOW, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chmod(0o755), out.Sync(), out.Close())
}

// writeFile writes a file whole or not at all.
func writeFile(file, text string) error {
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}
