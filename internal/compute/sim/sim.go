// Package sim is a compute provider without machines. Everything that a client can see of a machine is there: phases that
// take their time, addresses, agent versions, images that exist only when their capture is complete. Nothing runs, so a
// thousand machines cost a thousand small files.
//
// A change is only ever a note of what will be so from when on: {from running, to stopped, at 12:00:02}. What Observe
// reports follows from the note and the time of day. So no change needs a goroutine or a timer, a change that is under way
// when the process ends is complete when the next process looks, and all of it works in testing/synctest.
package sim

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/oci"
)

// Config says what to simulate.
type Config struct {
	// Dir is where the machines and images are kept, made when it is missing. It is written without fsync: the state
	// survives the end of the process, however sudden, but not a power cut.
	Dir string
	// Delay is how long each start, stop, capture and removal of a machine and each copy and import of an image takes; 0 is none.
	Delay time.Duration
	// Images are offered to everyone. One whose Ref is empty gets its name as Ref.
	Images []compute.PublicImage
	// Agents are the agent versions on offer; default agentapi.Version. Machines start with whatever they are told to.
	Agents []string
	// Inject, if set, is called before and after the work of each method that takes a context, with the method's name and
	// the machine's ID or the image's ref ("" for List and its like). Its error becomes the method's: before the work, it
	// is left undone; after it, it is done all the same. That is how tests crash an engine around each action.
	Inject func(method, id string, when When) error
}

// When is the moment at which Inject is called.
type When string

// The two moments of Inject.
const (
	Before When = "before"
	After  When = "after"
)

// Provider is a compute.Provider without machines. It has no compute.Dialer: a machine is ready when it is running and has
// no NextChange.
//
// The Ensure methods begin a change and return; Observe tells when it is complete. While it is under way, Machine.Phase is
// running when the machine starts (as that of a machine that boots), otherwise what it was before, and NextChange is when
// the change, or the capture of its disk, will be complete. Calling a method again meanwhile does nothing; asking for
// another phase turns the machine around.
type Provider struct {
	config Config

	mu       sync.Mutex
	machines map[string]*machine
	images   map[string]*image
	taken    map[netip.Addr]bool
}

var _ compute.Provider = (*Provider)(nil)

// machine is the file of one machine.
type machine struct {
	ID      string
	From    appstream.Phase // what it is before At
	To      appstream.Phase // what it is from then on; MachineAbsent: it is being removed
	At      time.Time       // when the change is complete
	Capture time.Time       // when the capture of its disk is complete
	Agent   string
	IPv4    netip.Addr
}

// image is the file of one captured, copied or imported image.
type image struct {
	Ref     string
	Machine string    // that it is captured from; "" for another
	At      time.Time // when it is complete; before, there is no image
}

// New reads what is in config.Dir.
func New(config Config) (*Provider, error) {
	if config.Delay < 0 {
		return nil, fmt.Errorf("the simulated delay %s is negative", config.Delay)
	}
	if len(config.Agents) == 0 {
		config.Agents = []string{agentapi.Version}
	}
	config.Agents = slices.SortedFunc(slices.Values(config.Agents), agentapi.CompareVersions)
	config.Images = slices.Clone(config.Images)
	for i := range config.Images {
		if config.Images[i].Ref == "" {
			config.Images[i].Ref = config.Images[i].Name
		}
	}
	p := &Provider{config: config, taken: map[netip.Addr]bool{}}
	var err error
	if p.machines, err = load(p.path("machines"), func(m *machine) string { return m.ID }); err != nil {
		return nil, err
	}
	if p.images, err = load(p.path("images"), func(i *image) string { return i.Ref }); err != nil {
		return nil, err
	}
	for _, m := range p.machines {
		p.taken[m.IPv4] = true
	}
	return p, nil
}

// Observe reports a machine.
func (p *Provider) Observe(ctx context.Context, id string) (m appstream.Machine, err error) {
	err = p.do(ctx, "Observe", id, func(now time.Time) error {
		m = p.report(id, now)
		return nil
	})
	return m, err
}

// List reports all machines, in the order of their IDs.
func (p *Provider) List(ctx context.Context) (list []appstream.Machine, err error) {
	err = p.do(ctx, "List", "", func(now time.Time) error {
		for id := range p.machines {
			if m := p.report(id, now); m.Phase != appstream.MachineAbsent {
				list = append(list, m)
			}
		}
		slices.SortFunc(list, func(a, b appstream.Machine) int { return strings.Compare(a.ID, b.ID) })
		return nil
	})
	return list, err
}

// EnsureRunning begins to start the machine. Any subnet will do.
func (p *Provider) EnsureRunning(ctx context.Context, spec appstream.MachineSpec) error {
	return p.do(ctx, "EnsureRunning", spec.ID, func(now time.Time) error {
		m := p.at(spec.ID, now)
		if m != nil && m.To == appstream.MachineRunning {
			return nil
		}
		next, err := p.make(m, spec, now)
		if err != nil {
			return err
		}
		return p.change(next, appstream.MachineStopped, appstream.MachineRunning, now)
	})
}

// EnsureStarted begins to start a machine that is there.
func (p *Provider) EnsureStarted(ctx context.Context, spec appstream.MachineSpec) error {
	return p.do(ctx, "EnsureStarted", spec.ID, func(now time.Time) error {
		m := p.at(spec.ID, now)
		switch {
		case m == nil || m.To == appstream.MachineRunning:
			return nil
		case m.To == appstream.MachineAbsent:
			return fmt.Errorf("the machine %s is being removed", spec.ID)
		}
		next := *m
		next.Agent = spec.AgentVersion
		return p.change(next, appstream.MachineStopped, appstream.MachineRunning, now)
	})
}

// EnsureMade begins to make the machine.
func (p *Provider) EnsureMade(ctx context.Context, spec appstream.MachineSpec) error {
	return p.do(ctx, "EnsureMade", spec.ID, func(now time.Time) error {
		m := p.at(spec.ID, now)
		if m != nil && m.To != appstream.MachineAbsent {
			return nil
		}
		next, err := p.make(m, spec, now)
		if err != nil {
			return err
		}
		return p.change(next, appstream.MachineAbsent, appstream.MachineStopped, now)
	})
}

// make gives the machine m as it is when it starts next, or a new one if there is none.
func (p *Provider) make(m *machine, spec appstream.MachineSpec, now time.Time) (machine, error) {
	if m == nil || m.To == appstream.MachineAbsent { // a removal that is under way leaves nothing to start
		if !p.hasImage(spec.ImageRef, now) {
			return machine{}, &compute.Fault{Code: string(types.FleetErrorCodeImageNotFound),
				Message: fmt.Sprintf("the image %s does not exist (any more); use another one", spec.ImageRef)}
		}
		addr, err := p.address(spec.ID)
		if err != nil {
			return machine{}, err
		}
		m = &machine{ID: spec.ID, IPv4: addr}
	}
	next := *m
	next.Agent = spec.AgentVersion
	return next, nil
}

// EnsureStopped begins to stop the machine.
func (p *Provider) EnsureStopped(ctx context.Context, id string) error {
	return p.do(ctx, "EnsureStopped", id, func(now time.Time) error {
		if m := p.at(id, now); m != nil && m.To == appstream.MachineRunning {
			return p.change(*m, appstream.MachineRunning, appstream.MachineStopped, now)
		}
		return nil
	})
}

// EnsureGone begins to remove the machine, and ends a capture of its disk that is under way.
func (p *Provider) EnsureGone(ctx context.Context, id string) error {
	return p.do(ctx, "EnsureGone", id, func(now time.Time) error {
		m := p.at(id, now)
		if m == nil || m.To == appstream.MachineAbsent {
			return nil
		}
		for ref, i := range p.images {
			if i.Machine == id && now.Before(i.At) {
				if err := p.forgetImage(ref); err != nil {
					return err
				}
			}
		}
		next := *m
		next.Capture = time.Time{}
		return p.change(next, p.report(id, now).Phase, appstream.MachineAbsent, now)
	})
}

// EnsureCaptured begins to make the image. The machine may be started meanwhile.
func (p *Provider) EnsureCaptured(ctx context.Context, id, ref string) error {
	return p.do(ctx, "EnsureCaptured", id, func(now time.Time) error {
		if p.images[ref] != nil {
			return nil
		}
		m := p.at(id, now)
		switch {
		case m == nil || m.To == appstream.MachineAbsent:
			return &compute.Fault{Message: "the machine " + id + " does not exist (any more): there is no disk to make an image of"}
		case m.To == appstream.MachineRunning || now.Before(m.At):
			return fmt.Errorf("the machine %s is not stopped: stop it, and make the image then", id)
		}
		next := *m
		next.Capture = now.Add(p.config.Delay)
		if err := p.putImage(image{Ref: ref, Machine: id, At: next.Capture}); err != nil {
			return err
		}
		return p.put(next)
	})
}

// EnsureImageCopied begins to make the image to. What becomes of from meanwhile is all the same.
func (p *Provider) EnsureImageCopied(ctx context.Context, from, to string) error {
	return p.do(ctx, "EnsureImageCopied", to, func(now time.Time) error {
		if p.images[to] != nil {
			return nil
		}
		if !p.hasImage(from, now) {
			return &compute.Fault{Message: fmt.Sprintf("the image %s does not exist (any more): there is nothing to copy", from)}
		}
		return p.putImage(image{Ref: to, At: now.Add(p.config.Delay)})
	})
}

// SaveChanges writes a tar without files, after the delay: nothing can be installed on a simulated machine.
func (p *Provider) SaveChanges(ctx context.Context, id string, w io.Writer) error {
	return p.do(ctx, "SaveChanges", id, func(now time.Time) error {
		m := p.at(id, now)
		switch {
		case m == nil || m.To == appstream.MachineAbsent:
			return &compute.Fault{Message: "the machine " + id + " does not exist (any more): there is no disk to make a package of"}
		case m.To == appstream.MachineRunning || now.Before(m.At):
			return fmt.Errorf("the machine %s is not stopped: stop it, and make the package then", id)
		}
		return nil
	}, func() error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(p.config.Delay):
		}
		return tar.NewWriter(w).Close()
	})
}

// architecture is what simulated machines are of, wherever they are simulated: so archives fit everywhere.
const architecture = "amd64"

// SaveImage writes an archive without layers, after the delay.
func (p *Provider) SaveImage(ctx context.Context, ref string, notes appstream.ExportNotes, w io.Writer) error {
	return p.do(ctx, "SaveImage", ref, func(now time.Time) error {
		if !p.hasImage(ref, now) {
			return &compute.Fault{Message: fmt.Sprintf("the image %s does not exist (any more): there is nothing to export", ref)}
		}
		return nil
	}, func() error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(p.config.Delay):
		}
		platform := oci.Platform{Architecture: architecture, OS: "linux"}
		config := fmt.Sprintf(`{"architecture":%q,"os":%q,"config":{},"rootfs":{"type":"layers","diff_ids":[]}}`, platform.Architecture, platform.OS)
		return oci.Write(w, oci.Image{Config: []byte(config), Platform: platform, Annotations: notes.Annotations, Name: notes.Name})
	})
}

// InspectArchive verifies the archive's digests. Any image can be a simulated machine.
func (p *Provider) InspectArchive(ctx context.Context, archive *io.SectionReader) (facts appstream.ArchiveFacts, err error) {
	err = p.do(ctx, "InspectArchive", "", func(time.Time) error { return nil }, func() error {
		facts, err = inspect(archive)
		return err
	})
	return facts, err
}

func inspect(archive *io.SectionReader) (appstream.ArchiveFacts, error) {
	var contents oci.Contents
	image, err := oci.Open(archive, archive.Size(), architecture)
	if err == nil {
		contents, err = image.Inspect()
	}
	if wrong, ok := errors.AsType[*oci.Error](err); ok {
		return appstream.ArchiveFacts{}, &compute.Fault{Message: wrong.Message, Cause: err}
	}
	if err != nil {
		return appstream.ArchiveFacts{}, err
	}
	return appstream.ArchiveFacts{Platform: "DEBIAN_12", Size: contents.Size, Created: image.Created,
		Title: image.Annotations["org.opencontainers.image.title"], Description: image.Annotations["org.opencontainers.image.description"]}, nil
}

// EnsureImageImported begins to make the image of an archive, whose digests it verifies. Nothing of it is kept.
func (p *Provider) EnsureImageImported(ctx context.Context, archive *io.SectionReader, ref string) error {
	there := false
	return p.do(ctx, "EnsureImageImported", ref, func(time.Time) error {
		there = p.images[ref] != nil
		return nil
	}, func() error {
		if there {
			return nil
		}
		if _, err := inspect(archive); err != nil {
			return err
		}
		return p.locked(func(now time.Time) error {
			if p.images[ref] != nil {
				return nil
			}
			return p.putImage(image{Ref: ref, At: now.Add(p.config.Delay)})
		})
	})
}

// HasImage tells whether the capture, copy or import ref is complete, or ref is a public image.
func (p *Provider) HasImage(ctx context.Context, ref string) (has bool, err error) {
	err = p.do(ctx, "HasImage", ref, func(now time.Time) error {
		has = p.hasImage(ref, now)
		return nil
	})
	return has, err
}

// EnsureImageGone removes the image, or ends its capture, copy or import. It takes no time.
func (p *Provider) EnsureImageGone(ctx context.Context, ref string) error {
	return p.do(ctx, "EnsureImageGone", ref, func(time.Time) error { return p.forgetImage(ref) })
}

// ListImages gives the refs of the images whose capture, copy or import is complete, in order.
func (p *Provider) ListImages(ctx context.Context) (refs []string, err error) {
	err = p.do(ctx, "ListImages", "", func(now time.Time) error {
		for ref, i := range p.images {
			if !now.Before(i.At) {
				refs = append(refs, ref)
			}
		}
		slices.Sort(refs)
		return nil
	})
	return refs, err
}

// PublicImages gives the images of the configuration.
func (p *Provider) PublicImages(ctx context.Context) (images []compute.PublicImage, err error) {
	err = p.do(ctx, "PublicImages", "", func(time.Time) error {
		images = slices.Clone(p.config.Images)
		return nil
	})
	return images, err
}

// AgentVersions gives the versions of the configuration, the newest last.
func (p *Provider) AgentVersions() []string { return slices.Clone(p.config.Agents) }

// Check tells whether the directory can be written.
func (p *Provider) Check(context.Context) []compute.Finding {
	f := compute.Finding{OK: true, What: "simulated machines", Info: fmt.Sprintf("%s, %s for each change", p.config.Dir, p.config.Delay)}
	probe := filepath.Join(p.config.Dir, ".probe")
	if err := errors.Join(os.WriteFile(probe, nil, 0o600), os.Remove(probe)); err != nil {
		f.OK, f.Info, f.Hint = false, err.Error(), "make "+p.config.Dir+" writable for the server"
	}
	return []compute.Finding{f}
}

// idForm is what may name a machine. It is also the name of the machine's file.
var idForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$`)

// do runs one method's work under the lock, and then what is slow without it, between the calls of Inject.
func (p *Provider) do(ctx context.Context, method, id string, work func(now time.Time) error, slow ...func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if p.config.Inject != nil {
		if err := p.config.Inject(method, id, Before); err != nil {
			return err
		}
	}
	if err := p.locked(work); err != nil {
		return err
	}
	for _, work := range slow {
		if err := work(); err != nil {
			return err
		}
	}
	if p.config.Inject != nil {
		return p.config.Inject(method, id, After)
	}
	return nil
}

func (p *Provider) locked(work func(now time.Time) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	// Without the monotonic clock, which a file does not keep either.
	return work(time.Now().Round(0))
}

// at gives the machine, and forgets it first when its removal is complete. A file that cannot be removed now is removed
// the next time that someone looks.
func (p *Provider) at(id string, now time.Time) *machine {
	m := p.machines[id]
	if m == nil || m.To != appstream.MachineAbsent || now.Before(m.At) {
		return m
	}
	if err := os.Remove(p.machineFile(id)); err == nil || errors.Is(err, fs.ErrNotExist) {
		delete(p.machines, id)
		delete(p.taken, m.IPv4)
	}
	return nil
}

func (p *Provider) report(id string, now time.Time) appstream.Machine {
	r := appstream.Machine{ID: id}
	m := p.at(id, now)
	if m == nil {
		return r
	}
	r.Phase, r.AgentVersion = m.To, m.Agent
	if now.Before(m.At) {
		r.NextChange = m.At
		if m.To != appstream.MachineRunning {
			r.Phase = m.From
		}
	}
	if now.Before(m.Capture) && (r.NextChange.IsZero() || m.Capture.Before(r.NextChange)) {
		r.NextChange = m.Capture
	}
	if r.Phase == appstream.MachineRunning {
		sum := sha256.Sum256([]byte(id))
		six := netip.MustParseAddr("2001:db8:0:1::").As16() // RFC 3849: for documentation
		copy(six[8:], sum[8:16])
		r.IPv4, r.IPv6, r.ENI = m.IPv4.String(), []string{netip.AddrFrom16(six).String()}, "eni-"+hex.EncodeToString(sum[:])[:17]
	}
	return r
}

func (p *Provider) change(m machine, from, to appstream.Phase, now time.Time) error {
	m.From, m.To, m.At = from, to, now.Add(p.config.Delay)
	return p.put(m)
}

func (p *Provider) put(m machine) error {
	if !idForm.MatchString(m.ID) {
		return &compute.Fault{Message: fmt.Sprintf("%.60q cannot name a machine", m.ID)}
	}
	if err := save(p.machineFile(m.ID), &m); err != nil {
		return err
	}
	p.machines[m.ID] = &m
	p.taken[m.IPv4] = true
	return nil
}

func (p *Provider) putImage(i image) error {
	if i.Ref == "" || len(i.Ref) > 512 {
		return &compute.Fault{Message: fmt.Sprintf("the image reference %.60q is empty or too long", i.Ref)}
	}
	if err := save(p.imageFile(i.Ref), &i); err != nil {
		return err
	}
	p.images[i.Ref] = &i
	return nil
}

func (p *Provider) hasImage(ref string, now time.Time) bool {
	i := p.images[ref]
	return i != nil && !now.Before(i.At) ||
		slices.ContainsFunc(p.config.Images, func(i compute.PublicImage) bool { return i.Ref == ref })
}

func (p *Provider) forgetImage(ref string) error {
	if p.images[ref] == nil {
		return nil
	}
	if err := os.Remove(p.imageFile(ref)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the simulated image %s: %w", ref, err)
	}
	delete(p.images, ref)
	return nil
}

// address picks a free address of 172.31.0.0/16, the network of a default VPC, near the one that the ID stands for. As in
// a real one, the first four and the last address are not for machines.
func (p *Provider) address(id string) (netip.Addr, error) {
	const first, count = 4, 1<<16 - 5
	sum := sha256.Sum256([]byte(id))
	start := int(sum[0])<<8 | int(sum[1])
	for i := range count {
		n := first + (start+i)%count
		if a := netip.AddrFrom4([4]byte{172, 31, byte(n >> 8), byte(n)}); !p.taken[a] {
			return a, nil
		}
	}
	return netip.Addr{}, &compute.Fault{Code: string(types.FleetErrorCodeSubnetHasInsufficientIpAddresses),
		Message: "all addresses of the simulated network are taken; delete machines"}
}

func (p *Provider) path(elem ...string) string {
	return filepath.Join(append([]string{p.config.Dir}, elem...)...)
}

func (p *Provider) machineFile(id string) string { return p.path("machines", id+".json") }

// imageFile names an image's file by a hash, because a ref may have slashes.
func (p *Provider) imageFile(ref string) string {
	sum := sha256.Sum256([]byte(ref))
	return p.path("images", hex.EncodeToString(sum[:16])+".json")
}

// load reads all files of dir, which it makes. What an interrupted save left behind goes.
func load[T any](dir string, key func(*T) string) (map[string]*T, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keep simulated machines: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the simulated machines: %w", err)
	}
	all := make(map[string]*T, len(entries))
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		if strings.HasSuffix(file, ".new") {
			if err := os.Remove(file); err != nil {
				return nil, fmt.Errorf("clean up the simulated machines: %w", err)
			}
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read a simulated machine: %w", err)
		}
		v := new(T)
		if err := json.Unmarshal(text, v); err != nil {
			return nil, fmt.Errorf("the simulated machine or image in %s is not readable; repair or remove the file: %w", file, err)
		}
		all[key(v)] = v
	}
	return all, nil
}

// save writes v to file, whole or not at all.
func save(file string, v any) error {
	text, err := json.Marshal(v)
	if err == nil {
		err = os.WriteFile(file+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		return fmt.Errorf("write a simulated machine: %w", err)
	}
	return nil
}
