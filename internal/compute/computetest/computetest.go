// Package computetest is the suite that every compute provider passes.
package computetest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/oci"
)

// Subject is a provider under test and what the suite needs to know of it.
type Subject struct {
	Provider compute.Provider

	// ImageRef is a public image that machines boot from.
	ImageRef string
	// Ref gives a name for a captured image that nothing else uses.
	Ref func() string
	// Exec runs a shell command in a running machine and gives what it printed; nil for a provider whose machines run nothing.
	Exec func(ctx context.Context, id, command string) (string, error)
	// AnySubnet: the provider accepts any subnet.
	AnySubnet bool
	// Reopen gives another provider of the same installation, as a server that was started again has it; nil: not tested.
	Reopen func() compute.Provider
	// Count tells, by other means than the provider's, how many machines named id exist in any phase; nil: not tested.
	Count func(ctx context.Context, id string) (int, error)
	// Patience bounds how long one change may take; default two minutes.
	Patience time.Duration
	// Steps is how many verbs the random test runs; default 60.
	Steps int
}

var serial struct {
	sync.Mutex
	n int
}

// Run runs the suite. make is called for each part of it, and what it makes must be empty; it cleans up with t.Cleanup.
func Run(t *testing.T, make func(t *testing.T) Subject) {
	for _, part := range []struct {
		name string
		test func(*suite)
	}{
		{"life", (*suite).life},
		{"absent", (*suite).absent},
		{"repeated", (*suite).repeated},
		{"network", (*suite).network},
		{"made", (*suite).made},
		{"started", (*suite).started},
		{"agent", (*suite).agent},
		{"faults", (*suite).faults},
		{"concurrent", (*suite).concurrent},
		{"cancelled", (*suite).cancelled},
		{"capture", (*suite).capture},
		{"captureFaults", (*suite).captureFaults},
		{"copy", (*suite).copy},
		{"save", (*suite).save},
		{"changes", (*suite).changes},
		{"changesFaults", (*suite).changesFaults},
		{"importing", (*suite).importing},
		{"importFaults", (*suite).importFaults},
		{"importCut", (*suite).importCut},
		{"imageInUse", (*suite).imageInUse},
		{"reopened", (*suite).reopened},
		{"list", (*suite).list},
		{"host", (*suite).host},
		{"random", (*suite).random},
	} {
		t.Run(part.name, func(t *testing.T) {
			s := &suite{T: t, Subject: make(t), ctx: t.Context()}
			if s.Patience == 0 {
				s.Patience = 2 * time.Minute
			}
			if s.Steps == 0 {
				s.Steps = 60
			}
			part.test(s)
			s.leavesNothing()
		})
	}
}

type suite struct {
	*testing.T
	Subject
	ctx  context.Context
	ids  []string
	refs []string
}

// spec gives the machine that a new record wants.
func (s *suite) spec() appstream.MachineSpec {
	serial.Lock()
	serial.n++
	id := fmt.Sprintf("ct%d-%d", time.Now().UnixNano(), serial.n)
	serial.Unlock()
	s.ids = append(s.ids, id)
	agents := s.Provider.AgentVersions()
	return appstream.MachineSpec{
		ID:           id,
		Resource:     appstream.Key{Account: "123456789012", Region: "us-west-2", Noun: appstream.NounImageBuilder, Name: "Builder_" + id},
		ImageARN:     "arn:aws:appstream:us-west-2::image/base",
		ImageRef:     s.ImageRef,
		InstanceType: appstream.InstanceType{Name: "stream.standard.small", Family: "General Purpose", VCPU: 1, MemoryMB: 512},
		AgentVersion: agents[len(agents)-1],
	}
}

func (s *suite) ref() string {
	ref := s.Ref()
	s.refs = append(s.refs, ref)
	return ref
}

// leavesNothing removes all and looks whether it is gone.
func (s *suite) leavesNothing() {
	s.Helper()
	for _, id := range s.ids {
		s.gone(id)
	}
	for _, ref := range s.refs {
		s.ok(s.Provider.EnsureImageGone(s.ctx, ref))
		if has, err := s.Provider.HasImage(s.ctx, ref); err != nil || has {
			s.Errorf("after EnsureImageGone, HasImage(%s) = %v, %v", ref, has, err)
		}
	}
	if list, err := s.Provider.List(s.ctx); err != nil || len(list) > 0 {
		s.Errorf("with all machines gone, List() = %v, %v", list, err)
	}
	if refs, err := s.Provider.ListImages(s.ctx); err != nil || len(refs) > 0 {
		s.Errorf("with all images gone, ListImages() = %v, %v", refs, err)
	}
}

func (s *suite) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) observe(id string) appstream.Machine {
	s.Helper()
	m, err := s.Provider.Observe(s.ctx, id)
	s.ok(err)
	if m.ID != id {
		s.Fatalf("Observe(%s) reports %q", id, m.ID)
	}
	return m
}

// settle waits until the machine is in a phase for good.
func (s *suite) settle(id string, phase appstream.Phase) appstream.Machine {
	s.Helper()
	end := time.Now().Add(s.Patience)
	for {
		m := s.observe(id)
		if m.NextChange.IsZero() {
			if m.Phase != phase {
				s.Fatalf("machine %s is %q, want %q: %+v", id, m.Phase, phase, m)
			}
			return m
		}
		s.pause(m.NextChange, end)
	}
}

// pause waits until news are due.
func (s *suite) pause(next, end time.Time) {
	s.Helper()
	if time.Now().After(end) {
		s.Fatalf("a change takes longer than %s", s.Patience)
	}
	time.Sleep(max(time.Until(next), time.Millisecond))
}

func (s *suite) running(spec appstream.MachineSpec) appstream.Machine {
	s.Helper()
	s.ok(s.Provider.EnsureRunning(s.ctx, spec))
	return s.settle(spec.ID, appstream.MachineRunning)
}

func (s *suite) stopped(id string) appstream.Machine {
	s.Helper()
	s.ok(s.Provider.EnsureStopped(s.ctx, id))
	return s.settle(id, appstream.MachineStopped)
}

func (s *suite) gone(id string) {
	s.Helper()
	s.ok(s.Provider.EnsureGone(s.ctx, id))
	s.settle(id, appstream.MachineAbsent)
}

func (s *suite) captured(id, ref string) {
	s.Helper()
	s.ok(s.Provider.EnsureCaptured(s.ctx, id, ref))
	s.settle(id, s.observe(id).Phase)
	s.hasImage(ref, true)
}

func (s *suite) copied(from, to string) {
	s.Helper()
	s.ok(s.Provider.EnsureImageCopied(s.ctx, from, to))
	s.settleImage(to)
}

// settleImage waits until the image is there.
func (s *suite) settleImage(ref string) {
	s.Helper()
	for end := time.Now().Add(s.Patience); ; s.pause(time.Now(), end) {
		if has, err := s.Provider.HasImage(s.ctx, ref); err != nil || has {
			s.ok(err)
			return
		}
	}
}

// listed checks which images there are.
func (s *suite) listed(want ...string) {
	s.Helper()
	refs, err := s.Provider.ListImages(s.ctx)
	s.ok(err)
	slices.Sort(refs)
	slices.Sort(want)
	if !slices.Equal(refs, want) {
		s.Errorf("ListImages() = %v, want %v", refs, want)
	}
}

func (s *suite) hasImage(ref string, want bool) {
	s.Helper()
	has, err := s.Provider.HasImage(s.ctx, ref)
	s.ok(err)
	if has != want {
		s.Fatalf("HasImage(%s) = %v, want %v", ref, has, want)
	}
}

// exec runs a command in a machine and checks what it prints. It does nothing when machines run nothing.
func (s *suite) exec(id, command, want string) {
	s.Helper()
	if s.Exec == nil {
		return
	}
	got, err := s.Exec(s.ctx, id, command)
	s.ok(err)
	if got = strings.TrimSpace(got); got != want {
		s.Fatalf("%s in %s prints %q, want %q", command, id, got, want)
	}
}

func (s *suite) fault(err error, code string) {
	s.Helper()
	f, ok := errors.AsType[*compute.Fault](err)
	if !ok || f.Code != code || f.Message == "" {
		s.Fatalf("got %v, want a fault with code %q and a message", err, code)
	}
}

// life takes one machine through its phases; its disk lives as long as it does.
func (s *suite) life() {
	spec := s.spec()
	if m := s.observe(spec.ID); m.Phase != appstream.MachineAbsent || !m.NextChange.IsZero() {
		s.Fatalf("before it is made: %+v", m)
	}
	m := s.running(spec)
	if m.AgentVersion != spec.AgentVersion {
		s.Errorf("agent version is %q, want %q", m.AgentVersion, spec.AgentVersion)
	}
	s.exec(spec.ID, "echo kept >/root/file; cat /root/file", "kept")
	if m = s.stopped(spec.ID); m.ExitCode == appstream.ExitReboot || m.ExitCode == appstream.ExitPowerOff {
		s.Errorf("a machine that was told to stop has exit code %d", m.ExitCode)
	}
	s.running(spec)
	s.exec(spec.ID, "cat /root/file", "kept")
	s.gone(spec.ID)
	s.running(spec)
	s.exec(spec.ID, "cat /root/file 2>/dev/null || echo new", "new")
}

// absent: what is not there need not be stopped or removed.
func (s *suite) absent() {
	id, ref := s.spec().ID, s.ref()
	s.ok(s.Provider.EnsureStopped(s.ctx, id))
	s.ok(s.Provider.EnsureGone(s.ctx, id))
	s.ok(s.Provider.EnsureImageGone(s.ctx, ref))
	s.hasImage(ref, false)
}

// repeated: each verb may be repeated, and changes nothing then.
func (s *suite) repeated() {
	spec, ref := s.spec(), s.ref()
	first := s.running(spec)
	if again := s.running(spec); !cmp.Equal(first, again) {
		s.Errorf("EnsureRunning changed a running machine:\n%s", cmp.Diff(first, again))
	}
	other := spec
	other.ImageRef, other.Subnet, other.InstanceType.MemoryMB = "oriel/image:no-such", "subnet-none", 1024
	if again := s.running(other); !cmp.Equal(first, again) {
		s.Errorf("EnsureRunning with another spec changed a running machine:\n%s", cmp.Diff(first, again))
	}
	first = s.stopped(spec.ID)
	if again := s.stopped(spec.ID); !cmp.Equal(first, again) {
		s.Errorf("EnsureStopped changed a stopped machine:\n%s", cmp.Diff(first, again))
	}
	s.captured(spec.ID, ref)
	s.captured(spec.ID, ref)
	s.running(other)
	s.gone(spec.ID)
	s.gone(spec.ID)
	s.ok(s.Provider.EnsureCaptured(s.ctx, spec.ID, ref)) // the image is there: it is as it shall be
}

// made: a machine is made without being started, started later, and left alone once it is there.
func (s *suite) made() {
	spec := s.spec()
	s.ok(s.Provider.EnsureMade(s.ctx, spec))
	if m := s.settle(spec.ID, appstream.MachineStopped); m.IPv4 != "" || m.ExitCode != 0 {
		s.Errorf("a machine that was never started reports %+v", m)
	}
	s.ok(s.Provider.EnsureMade(s.ctx, spec))
	s.settle(spec.ID, appstream.MachineStopped)
	s.one(spec.ID)
	s.running(spec)
	s.ok(s.Provider.EnsureMade(s.ctx, spec))
	s.settle(spec.ID, appstream.MachineRunning)
	s.stopped(spec.ID)
	s.gone(spec.ID)
	s.ok(s.Provider.EnsureMade(s.ctx, spec))
	s.settle(spec.ID, appstream.MachineStopped)
	s.gone(spec.ID)
	spec.ImageRef = s.ref()
	s.fault(s.Provider.EnsureMade(s.ctx, spec), "IMAGE_NOT_FOUND")
	s.settle(spec.ID, appstream.MachineAbsent)
}

// started: a machine that is there is started with the agent that it shall have, and one that is not is not made.
func (s *suite) started() {
	spec := s.spec()
	start := func(phase appstream.Phase) appstream.Machine {
		s.Helper()
		s.ok(s.Provider.EnsureStarted(s.ctx, spec))
		return s.settle(spec.ID, phase)
	}
	start(appstream.MachineAbsent)
	if list, err := s.Provider.List(s.ctx); err != nil || len(list) > 0 {
		s.Errorf("there shall be no machine: %+v, %v", list, err)
	}
	s.running(spec)
	s.exec(spec.ID, "echo kept > /etc/kept", "")
	s.stopped(spec.ID)
	versions := s.Provider.AgentVersions()
	spec.AgentVersion = versions[len(versions)-1]
	first := start(appstream.MachineRunning)
	if first.AgentVersion != spec.AgentVersion {
		s.Errorf("started with agent %s, reported %s", spec.AgentVersion, first.AgentVersion)
	}
	s.exec(spec.ID, "cat /etc/kept", "kept")
	if again := start(appstream.MachineRunning); !cmp.Equal(first, again) {
		s.Errorf("EnsureStarted changed a running machine:\n%s", cmp.Diff(first, again))
	}
	s.gone(spec.ID)
	start(appstream.MachineAbsent)
}

// network: machines that run have addresses and an interface of their own.
func (s *suite) network() {
	seen := map[string]string{}
	for range 3 {
		spec := s.spec()
		m := s.running(spec)
		if m.IPv4 == "" || !eniForm(m.ENI) {
			s.Errorf("machine %s has address %q and interface %q", spec.ID, m.IPv4, m.ENI)
		}
		for _, v := range append([]string{m.IPv4, m.ENI}, m.IPv6...) {
			if seen[v] != "" {
				s.Errorf("machines %s and %s have both %s", seen[v], spec.ID, v)
			}
			seen[v] = spec.ID
		}
	}
}

func eniForm(eni string) bool {
	hex, ok := strings.CutPrefix(eni, "eni-")
	return ok && len(hex) == 17 && strings.Trim(hex, "0123456789abcdef") == ""
}

// agent: a stopped machine gets the agent that it is started with.
func (s *suite) agent() {
	versions := s.Provider.AgentVersions()
	if len(versions) == 0 {
		s.Fatal("there are no agent versions")
	}
	spec := s.spec()
	for _, v := range versions {
		spec.AgentVersion = v
		if m := s.running(spec); m.AgentVersion != v {
			s.Errorf("started with agent %s, reported %s", v, m.AgentVersion)
		}
		if m := s.stopped(spec.ID); m.AgentVersion != v {
			s.Errorf("stopped with agent %s, reported %s", v, m.AgentVersion)
		}
	}
}

// faults: what trying again cannot mend is said so, and leaves nothing.
func (s *suite) faults() {
	spec := s.spec()
	spec.ImageRef = s.ref()
	s.fault(s.Provider.EnsureRunning(s.ctx, spec), "IMAGE_NOT_FOUND")
	s.settle(spec.ID, appstream.MachineAbsent)
	spec.ImageRef, spec.Subnet = s.ImageRef, "subnet-0123456789abcdef0"
	if s.AnySubnet {
		s.running(spec)
	} else {
		s.fault(s.Provider.EnsureRunning(s.ctx, spec), "SUBNET_NOT_FOUND")
		s.settle(spec.ID, appstream.MachineAbsent)
	}
	for _, id := range []string{"", "../x", "a/b", strings.Repeat("x", 300)} {
		spec.ID, spec.Subnet = id, ""
		if err := s.Provider.EnsureRunning(s.ctx, spec); err == nil {
			s.Errorf("a machine with the ID %q was made", id)
		}
	}
}

// concurrent: however many ask, there is one machine.
func (s *suite) concurrent() {
	spec := s.spec()
	s.all(8, func(int) error { return s.Provider.EnsureRunning(s.ctx, spec) })
	s.settle(spec.ID, appstream.MachineRunning)
	s.one(spec.ID)
	s.all(4, func(int) error { return s.Provider.EnsureStopped(s.ctx, spec.ID) })
	s.settle(spec.ID, appstream.MachineStopped)
	ref := s.ref()
	s.all(3, func(int) error { return s.Provider.EnsureCaptured(s.ctx, spec.ID, ref) })
	s.settle(spec.ID, appstream.MachineStopped)
	s.hasImage(ref, true)
	copied := s.ref()
	s.all(4, func(int) error { return s.Provider.EnsureImageCopied(s.ctx, ref, copied) })
	s.settleImage(copied)
	s.all(6, func(n int) error { // whatever the outcome, it is one
		if n%2 == 0 {
			return s.Provider.EnsureRunning(s.ctx, spec)
		}
		return s.Provider.EnsureStopped(s.ctx, spec.ID)
	})
	s.one(spec.ID)
	s.all(4, func(int) error { return s.Provider.EnsureGone(s.ctx, spec.ID) })
	s.settle(spec.ID, appstream.MachineAbsent)
}

func (s *suite) all(n int, f func(n int) error) {
	s.Helper()
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	s.ok(errors.Join(errs...))
}

func (s *suite) one(id string) {
	s.Helper()
	list, err := s.Provider.List(s.ctx)
	s.ok(err)
	if len(list) != 1 || list[0].ID != id {
		s.Errorf("there shall be one machine, %s: %+v", id, list)
	}
	if s.Count != nil {
		if n, err := s.Count(s.ctx, id); err != nil || n != 1 {
			s.Errorf("%d machines %s, %v", n, id, err)
		}
	}
}

// cancelled: a verb that is cut short at any moment can be repeated, and nothing is left of it in the end.
func (s *suite) cancelled() {
	dead, cancel := context.WithCancel(s.ctx)
	cancel()
	spec, ref := s.spec(), s.ref()
	if err := s.Provider.EnsureRunning(dead, spec); !errors.Is(err, context.Canceled) {
		s.Errorf("EnsureRunning with a cancelled context: %v", err)
	}
	cut := func(verb func(context.Context) error) {
		s.Helper()
		for _, after := range []time.Duration{200 * time.Microsecond, 2 * time.Millisecond, 10 * time.Millisecond, 40 * time.Millisecond, 150 * time.Millisecond} {
			ctx, cancel := context.WithTimeout(s.ctx, after)
			err := verb(ctx)
			cancel()
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				s.Fatal(err)
			}
		}
		s.ok(verb(s.ctx))
	}
	cut(func(ctx context.Context) error { return s.Provider.EnsureRunning(ctx, spec) })
	s.settle(spec.ID, appstream.MachineRunning)
	s.one(spec.ID)
	cut(func(ctx context.Context) error { return s.Provider.EnsureStopped(ctx, spec.ID) })
	s.settle(spec.ID, appstream.MachineStopped)
	cut(func(ctx context.Context) error { return s.Provider.EnsureCaptured(ctx, spec.ID, ref) })
	s.settle(spec.ID, appstream.MachineStopped)
	s.hasImage(ref, true)
	copied := s.ref()
	cut(func(ctx context.Context) error { return s.Provider.EnsureImageCopied(ctx, ref, copied) })
	s.settleImage(copied)
	cut(func(ctx context.Context) error { return s.Provider.EnsureImageGone(ctx, copied) })
	s.hasImage(copied, false)
	s.hasImage(ref, true)
	cut(func(ctx context.Context) error { return s.Provider.EnsureImageGone(ctx, ref) })

	// A capture that is given up leaves no image, not even later.
	given := s.ref()
	ctx, cancel := context.WithTimeout(s.ctx, time.Millisecond)
	_ = s.Provider.EnsureCaptured(ctx, spec.ID, given)
	cancel()
	s.ok(s.Provider.EnsureImageGone(s.ctx, given))
	s.hasImage(given, false)
	cut(func(ctx context.Context) error { return s.Provider.EnsureGone(ctx, spec.ID) })
	s.settle(spec.ID, appstream.MachineAbsent)
}

// capture: an image has the disk of its machine as it was, and makes machines, of which images can be made.
func (s *suite) capture() {
	first, second, third := s.spec(), s.spec(), s.spec()
	one, two := s.ref(), s.ref()
	s.running(first)
	s.exec(first.ID, "echo one >/opt/one; rm /etc/hostname.oriel 2>/dev/null; cat /opt/one", "one")
	s.stopped(first.ID)
	s.captured(first.ID, one)
	s.running(first)
	s.exec(first.ID, "echo later >/opt/one; cat /opt/one", "later")
	s.gone(first.ID)

	second.ImageRef = one
	s.running(second)
	s.exec(second.ID, "cat /opt/one; echo two >/opt/two", "one")
	s.stopped(second.ID)
	s.captured(second.ID, two)
	s.gone(second.ID)

	s.listed(one, two)
	public, err := s.Provider.PublicImages(s.ctx)
	s.ok(err)
	if slices.ContainsFunc(public, func(i compute.PublicImage) bool { return i.Ref == one || i.Ref == two || i.Name == "" }) {
		s.Errorf("captured images are public: %+v", public)
	}

	s.ok(s.Provider.EnsureImageGone(s.ctx, one)) // the one that the other is made from
	s.hasImage(one, false)
	s.hasImage(two, true)
	third.ImageRef = two
	s.running(third)
	s.exec(third.ID, "cat /opt/one /opt/two | tr '\\n' ' '", "one two")
}

// copy: a copy has what the image has, and neither needs the other.
func (s *suite) copy() {
	maker, user := s.spec(), s.spec()
	one, two, three := s.ref(), s.ref(), s.ref()
	s.fault(s.Provider.EnsureImageCopied(s.ctx, one, two), "")
	s.hasImage(two, false)
	s.running(maker)
	s.exec(maker.ID, "echo one >/opt/one; cat /opt/one", "one")
	s.stopped(maker.ID)
	s.captured(maker.ID, one)
	s.copied(one, two)
	s.copied(one, two)
	s.listed(one, two)
	if err := s.Provider.EnsureImageCopied(s.ctx, one, "not a/../reference:"+strings.Repeat("x", 600)); err == nil {
		s.Error("an impossible image reference was accepted")
	}

	s.ok(s.Provider.EnsureImageGone(s.ctx, one))
	s.hasImage(one, false)
	s.listed(two)
	s.ok(s.Provider.EnsureImageCopied(s.ctx, one, two)) // the copy is there: it is as it shall be
	s.gone(maker.ID)
	user.ImageRef = two
	s.running(user)
	s.exec(user.ID, "cat /opt/one", "one")
	s.copied(two, three) // of a copy
	s.ok(s.Provider.EnsureImageGone(s.ctx, two))
	s.hasImage(two, false)
	if m := s.observe(user.ID); m.Phase != appstream.MachineRunning {
		s.Errorf("the machine is %q when its image is removed", m.Phase)
	}
	s.listed(three)
	if s.Reopen != nil {
		s.Provider = s.Reopen()
		s.listed(three)
	}
}

// save: what is written is an OCI archive with the image's disk, and it ends when its writer does.
func (s *suite) save() {
	spec, ref := s.spec(), s.ref()
	notes := appstream.ExportNotes{Name: "oriel/export:x", Annotations: map[string]string{"org.opencontainers.image.title": "my export"}}
	s.fault(s.Provider.SaveImage(s.ctx, ref, notes, io.Discard), "")
	s.running(spec)
	s.exec(spec.ID, "echo 'the mark' >/opt/one; cat /opt/one", "the mark")
	s.stopped(spec.ID)
	s.captured(spec.ID, ref)
	s.gone(spec.ID)

	var archive bytes.Buffer
	s.ok(s.Provider.SaveImage(s.ctx, ref, notes, &archive))
	blobs, index := 0, ""
	for in := tar.NewReader(bytes.NewReader(archive.Bytes())); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		s.ok(err)
		content, err := io.ReadAll(in)
		s.ok(err)
		if digest, ok := strings.CutPrefix(h.Name, "blobs/sha256/"); ok {
			if blobs++; oci.Digest(content) != "sha256:"+digest {
				s.Errorf("the blob %s has the digest %s", digest, oci.Digest(content))
			}
		}
		if h.Name == "index.json" {
			index = string(content)
		}
	}
	if blobs < 2 || !strings.Contains(index, "my export") {
		s.Errorf("an archive with %d blobs and the index %s", blobs, index)
	}
	if s.Exec != nil && !bytes.Contains(archive.Bytes(), []byte("the mark\n")) {
		s.Error("the archive has not what was on the disk")
	}
	full := errors.New("no space left")
	if err := s.Provider.SaveImage(s.ctx, ref, notes, writer(func([]byte) (int, error) { return 0, full })); !errors.Is(err, full) {
		s.Errorf("to a writer that is full: %v", err)
	}
	dead, cancel := context.WithCancel(s.ctx)
	cancel()
	if err := s.Provider.SaveImage(dead, ref, notes, io.Discard); !errors.Is(err, context.Canceled) {
		s.Errorf("SaveImage with a cancelled context: %v", err)
	}
}

// changes: what was installed on a machine can be put onto another one, and nothing else is in it.
func (s *suite) changes() {
	spec, other := s.spec(), s.spec()
	s.running(spec)
	s.exec(spec.ID, "mkdir -p /opt/prog /tmp/x /var/log/prog && umask 077 && echo 'the mark' >/opt/prog/run && ln /opt/prog/run /opt/prog/again && ln -s run /opt/prog/soft &&"+
		" echo now >/tmp/x/now && ln /tmp/x/now /opt/prog/kept && echo log >/var/log/prog/log && echo user >>/etc/passwd && rm /etc/oriel/session; cat /opt/prog/kept", "now")
	s.stopped(spec.ID)
	for range 2 { // it changes nothing
		var b bytes.Buffer
		s.ok(s.Provider.SaveChanges(s.ctx, spec.ID, &b))
		files := map[string]string{}
		for in := tar.NewReader(&b); ; {
			h, err := in.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			s.ok(err)
			content, err := io.ReadAll(in)
			s.ok(err)
			files[h.Name] = strings.TrimSpace(fmt.Sprintf("%c %o %s %s", h.Typeflag, h.Mode&0o777, h.Linkname, content))
		}
		if s.Exec == nil {
			break
		}
		want := map[string]string{"opt/": "5 755", "opt/prog/": "5 755", "opt/prog/kept": "0 600  now", "opt/prog/soft": "2 777 run", "var/log/prog/": "5 755"}
		for name, entry := range want {
			if files[name] != entry {
				s.Errorf("%s is %q, want %q", name, files[name], entry)
			}
		}
		if one, two := files["opt/prog/again"], files["opt/prog/run"]; one != "0 600  the mark" || two != "1 600 opt/prog/again" {
			s.Errorf("a file with two names is %q and %q", one, two)
		}
		if !strings.HasSuffix(files["etc/passwd"], "user") {
			s.Errorf("what was changed is %q", files["etc/passwd"])
		}
		for name := range files {
			for _, no := range []string{"tmp", "bin", "run", "etc/oriel/session", "var/log/prog/log", "opt/oriel", ".dockerenv", "etc/hostname"} {
				if name == no || strings.HasPrefix(name, no+"/") {
					s.Errorf("%s is in it", name)
				}
			}
		}
	}
	s.running(spec)
	s.exec(spec.ID, "cat /opt/prog/run", "the mark")
	s.running(other) // the image is as it was
	s.exec(other.ID, "cat /opt/prog/run 2>/dev/null || echo none", "none")
}

func (s *suite) changesFaults() {
	spec := s.spec()
	s.fault(s.Provider.SaveChanges(s.ctx, spec.ID, io.Discard), "")
	s.running(spec)
	if err := s.Provider.SaveChanges(s.ctx, spec.ID, io.Discard); err == nil {
		s.Error("the changes of a running machine were saved")
	}
	s.stopped(spec.ID)
	if s.Exec != nil {
		s.fault(s.Provider.SaveChanges(s.ctx, spec.ID, io.Discard), "") // nothing was installed
	}
	full := errors.New("it is full")
	s.running(spec)
	s.exec(spec.ID, "echo 'the mark' >/opt/one; cat /opt/one", "the mark")
	s.stopped(spec.ID)
	if err := s.Provider.SaveChanges(s.ctx, spec.ID, writer(func([]byte) (int, error) { return 0, full })); !errors.Is(err, full) {
		s.Errorf("to a writer that is full: %v", err)
	}
	dead, cancel := context.WithCancel(s.ctx)
	cancel()
	if err := s.Provider.SaveChanges(dead, spec.ID, io.Discard); !errors.Is(err, context.Canceled) {
		s.Errorf("SaveChanges with a cancelled context: %v", err)
	}
}

// archive gives the archive of an image whose disk has a mark, and leaves nothing else behind.
func (s *suite) archive() []byte {
	s.Helper()
	spec, ref := s.spec(), s.ref()
	s.running(spec)
	s.exec(spec.ID, "echo 'the mark' >/opt/one; cat /opt/one", "the mark")
	s.stopped(spec.ID)
	s.captured(spec.ID, ref)
	s.gone(spec.ID)
	b := s.saved(ref)
	s.ok(s.Provider.EnsureImageGone(s.ctx, ref))
	return b
}

func (s *suite) saved(ref string) []byte {
	s.Helper()
	var b bytes.Buffer
	s.ok(s.Provider.SaveImage(s.ctx, ref, appstream.ExportNotes{Name: "oriel/export:x", Annotations: map[string]string{
		"org.opencontainers.image.title": "my export", "org.opencontainers.image.description": "all of it"}}, &b))
	return b.Bytes()
}

func section(archive []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(archive), 0, int64(len(archive)))
}

// layers gives the digests of an archive's layers.
func (s *suite) layers(archive []byte) (digests []string) {
	s.Helper()
	image, err := oci.Open(bytes.NewReader(archive), int64(len(archive)), "")
	s.ok(err)
	list, err := image.Layers()
	s.ok(err)
	for _, l := range list {
		digests = append(digests, l.Digest)
	}
	return digests
}

// importing: an image comes back from its archive as it was, under the name that was asked for and no other.
func (s *suite) importing() {
	archive, one, two := s.archive(), s.ref(), s.ref()
	facts, err := s.Provider.InspectArchive(s.ctx, section(archive))
	s.ok(err)
	if facts.Platform == "" || facts.Title != "my export" || facts.Description != "all of it" || facts.Size < 0 {
		s.Errorf("InspectArchive() = %+v", facts)
	}
	s.listed()
	s.hasImage("oriel/export:x", false)
	s.all(3, func(int) error { return s.Provider.EnsureImageImported(s.ctx, section(archive), one) })
	s.settleImage(one)
	s.listed(one)
	s.hasImage("oriel/export:x", false)
	s.ok(s.Provider.EnsureImageImported(s.ctx, section([]byte("what is there needs no archive")), one))
	if got, want := s.layers(s.saved(one)), s.layers(archive); !slices.Equal(got, want) {
		s.Errorf("the layers came back as %v, were %v", got, want)
	}
	user := s.spec()
	user.ImageRef = one
	s.running(user)
	s.exec(user.ID, "cat /opt/one", "the mark")
	s.ok(s.Provider.EnsureImageImported(s.ctx, section(archive), two))
	s.settleImage(two)
	s.copied(two, s.ref())
	s.ok(s.Provider.EnsureImageGone(s.ctx, one)) // one of three that have the same layers
	if m := s.observe(user.ID); m.Phase != appstream.MachineRunning {
		s.Errorf("the machine is %q when its image is removed", m.Phase)
	}
	if s.Reopen != nil {
		s.Provider = s.Reopen()
	}
	s.hasImage(one, false)
	s.hasImage(two, true)
}

// importFaults: of an archive that is not whole nothing is made, and it is said that trying again does not help. What cannot be read now may be later.
func (s *suite) importFaults() {
	archive, ref := s.archive(), s.ref()
	damaged := bytes.Clone(archive)
	damaged[bytes.Index(damaged, []byte(`"rootfs"`))+1]++
	archives := map[string][]byte{"empty": nil, "no archive": bytes.Repeat([]byte("no archive "), 1000), "damaged": damaged,
		"cut in the middle": archive[:len(archive)/2], "cut early": archive[:1500]}
	if s.Exec != nil {
		damaged := bytes.Clone(archive)
		damaged[bytes.Index(damaged, []byte("the mark\n"))]++
		archives["damaged in a layer"] = damaged
	}
	for name, archive := range archives {
		s.Log(name)
		_, err := s.Provider.InspectArchive(s.ctx, section(archive))
		s.fault(err, "")
		s.fault(s.Provider.EnsureImageImported(s.ctx, section(archive), ref), "")
		s.hasImage(ref, false)
	}
	broken := errors.New("the disk is broken")
	for at := int64(0); at < int64(len(archive))-1024; at += int64(len(archive))/5 + 1 {
		in := io.NewSectionReader(reader(func(b []byte, off int64) (int, error) {
			if off+int64(len(b)) > at {
				return 0, broken
			}
			return bytes.NewReader(archive).ReadAt(b, off)
		}), 0, int64(len(archive)))
		err := s.Provider.EnsureImageImported(s.ctx, in, ref)
		if _, lasting := errors.AsType[*compute.Fault](err); lasting || !errors.Is(err, broken) {
			s.Errorf("an archive that cannot be read from %d on: %v", at, err)
		}
		s.hasImage(ref, false)
	}
	if err := s.Provider.EnsureImageImported(s.ctx, section(archive), "not a/../reference:"+strings.Repeat("x", 600)); err == nil {
		s.Error("an impossible image reference was accepted")
	}
}

type reader func([]byte, int64) (int, error)

func (r reader) ReadAt(b []byte, off int64) (int, error) { return r(b, off) }

// importCut: an import that is cut short at any moment can be repeated, and one that is given up leaves nothing.
func (s *suite) importCut() {
	archive, one, two := s.archive(), s.ref(), s.ref()
	try := func(ref string, after time.Duration) error {
		ctx, cancel := context.WithTimeout(s.ctx, after)
		defer cancel()
		return s.Provider.EnsureImageImported(ctx, io.NewSectionReader(reader(func(b []byte, off int64) (int, error) {
			if err := ctx.Err(); err != nil { // as an archive that was closed
				return 0, err
			}
			return bytes.NewReader(archive).ReadAt(b, off)
		}), 0, int64(len(archive))), ref)
	}
	for _, after := range []time.Duration{200 * time.Microsecond, 2 * time.Millisecond, 10 * time.Millisecond, 40 * time.Millisecond, 150 * time.Millisecond} {
		if err := try(one, after); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			s.Fatal(err)
		}
	}
	s.ok(s.Provider.EnsureImageImported(s.ctx, section(archive), one))
	s.settleImage(one)
	_ = try(two, 20*time.Millisecond)
	s.ok(s.Provider.EnsureImageGone(s.ctx, two))
	s.hasImage(two, false)
	s.listed(one)
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func (s *suite) captureFaults() {
	spec, ref := s.spec(), s.ref()
	s.fault(s.Provider.EnsureCaptured(s.ctx, spec.ID, ref), "")
	s.running(spec)
	if err := s.Provider.EnsureCaptured(s.ctx, spec.ID, ref); err == nil {
		s.Error("a running machine was captured")
	}
	s.hasImage(ref, false)
	s.stopped(spec.ID)
	if err := s.Provider.EnsureCaptured(s.ctx, spec.ID, "not a/../reference:"+strings.Repeat("x", 600)); err == nil {
		s.Error("an impossible image reference was accepted")
	}
}

// imageInUse: a machine goes on when its image is removed, also over a restart.
func (s *suite) imageInUse() {
	maker, user, ref := s.spec(), s.spec(), s.ref()
	s.running(maker)
	s.stopped(maker.ID)
	s.captured(maker.ID, ref)
	user.ImageRef = ref
	s.running(user)
	s.ok(s.Provider.EnsureImageGone(s.ctx, ref))
	s.hasImage(ref, false)
	if m := s.observe(user.ID); m.Phase != appstream.MachineRunning {
		s.Errorf("the machine is %q when its image is removed", m.Phase)
	}
	s.stopped(user.ID)
	s.running(user)
	late := s.spec()
	late.ImageRef = ref
	s.fault(s.Provider.EnsureRunning(s.ctx, late), "IMAGE_NOT_FOUND")
}

// reopened: a server that was started again finds what its predecessor left.
func (s *suite) reopened() {
	if s.Reopen == nil {
		s.Skip("the provider cannot be opened twice")
	}
	up, down, ref := s.spec(), s.spec(), s.ref()
	wantUp := s.running(up)
	s.running(down)
	wantDown := s.stopped(down.ID)
	s.captured(down.ID, ref)
	s.Provider = s.Reopen()
	if diff := cmp.Diff(wantUp, s.observe(up.ID)); diff != "" {
		s.Errorf("the running machine has changed:\n%s", diff)
	}
	if diff := cmp.Diff(wantDown, s.observe(down.ID)); diff != "" {
		s.Errorf("the stopped machine has changed:\n%s", diff)
	}
	s.hasImage(ref, true)
	s.running(down)
}

// list: List reports what Observe reports.
func (s *suite) list() {
	want := map[string]appstream.Machine{}
	for n := range 3 {
		spec := s.spec()
		s.running(spec)
		if n == 1 {
			s.stopped(spec.ID)
		}
		want[spec.ID] = s.observe(spec.ID)
	}
	list, err := s.Provider.List(s.ctx)
	s.ok(err)
	got := map[string]appstream.Machine{}
	for _, m := range list {
		got[m.ID] = m
	}
	if diff := cmp.Diff(want, got); diff != "" || len(list) != len(want) {
		s.Errorf("List and Observe differ (-observe +list):\n%s", diff)
	}
}

// host: what is not about one machine.
func (s *suite) host() {
	public, err := s.Provider.PublicImages(s.ctx)
	s.ok(err)
	if !slices.ContainsFunc(public, func(i compute.PublicImage) bool { return i.Ref == s.ImageRef && i.Name != "" }) {
		s.Errorf("the image %s is not among the public images %+v", s.ImageRef, public)
	}
	s.hasImage(s.ImageRef, true)
	for _, f := range s.Provider.Check(s.ctx) {
		if f.What == "" || !f.OK && f.Hint == "" {
			s.Errorf("a finding without subject or hint: %+v", f)
		}
	}
}

// random: after any sequence of verbs, the machine is what the last ones asked for.
func (s *suite) random() {
	rapid.Check(limited{s.T}, func(t *rapid.T) {
		if s.Steps <= 0 {
			return
		}
		spec := s.spec()
		phase := appstream.MachineAbsent
		image, ref := false, s.ref()
		second, copied := false, s.ref()
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			s.Steps--
			switch rapid.SampledFrom([]string{"make", "run", "stop", "gone", "capture", "image gone", "copy", "copy gone"}).Draw(t, "verb") {
			case "make":
				s.ok(s.Provider.EnsureMade(s.ctx, spec))
				if phase == appstream.MachineAbsent {
					phase = appstream.MachineStopped
				}
			case "run":
				s.ok(s.Provider.EnsureRunning(s.ctx, spec))
				phase = appstream.MachineRunning
			case "stop":
				s.ok(s.Provider.EnsureStopped(s.ctx, spec.ID))
				if phase == appstream.MachineRunning {
					phase = appstream.MachineStopped
				}
			case "gone":
				s.ok(s.Provider.EnsureGone(s.ctx, spec.ID))
				phase = appstream.MachineAbsent
			case "capture":
				s.settle(spec.ID, phase)
				err := s.Provider.EnsureCaptured(s.ctx, spec.ID, ref)
				if can := image || phase == appstream.MachineStopped; can != (err == nil) {
					t.Fatalf("capture of a machine that is %q, with image %v: %v", phase, image, err)
				} else if can {
					image = true
				}
				s.settle(spec.ID, phase)
			case "image gone":
				s.ok(s.Provider.EnsureImageGone(s.ctx, ref))
				image = false
			case "copy":
				err := s.Provider.EnsureImageCopied(s.ctx, ref, copied)
				if can := second || image; can != (err == nil) {
					t.Fatalf("copy of an image that is there: %v, with copy %v: %v", image, second, err)
				} else if can {
					second = true
					s.settleImage(copied)
				}
			case "copy gone":
				s.ok(s.Provider.EnsureImageGone(s.ctx, copied))
				second = false
			}
			if rapid.Bool().Draw(t, "wait") {
				s.settle(spec.ID, phase)
				s.hasImage(ref, image)
				s.hasImage(copied, second)
			}
		}
		s.settle(spec.ID, phase)
		s.hasImage(ref, image)
	})
}

// limited is a test without the details that rapid would print for each example.
type limited struct{ *testing.T }

func (limited) Log(...any)          {}
func (limited) Logf(string, ...any) {}
