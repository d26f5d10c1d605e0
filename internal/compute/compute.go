// Package compute is the contract for machines: what internal/reconcile and internal/gateway need of whatever runs
// instances. internal/compute/docker and internal/compute/sim implement it; internal/compute/computetest is what every
// provider passes.
package compute

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
)

// ErrUnavailable: the provider cannot be reached now. Nothing is known about machines; nothing was changed for good.
var ErrUnavailable = errors.New("the compute provider is unavailable")

// Fault is a failure that trying again cannot mend.
type Fault struct {
	Code    string // an ErrorCode of the API such as SUBNET_NOT_FOUND, IMAGE_NOT_FOUND; "" when none fits
	Message string // for people: what is wrong and what to do
	Cause   error
}

// Error gives the message.
func (f *Fault) Error() string { return f.Message }

// Unwrap gives the cause.
func (f *Fault) Unwrap() error { return f.Cause }

// Provider runs machines. A machine is named by the ID of the record that it belongs to. The Ensure methods are idempotent, may
// be called again after any failure, and return when what they ensure is so, or when it is under way and Machine.NextChange tells when it will be. Errors: ErrUnavailable, *Fault, the context's; any other error is worth another try.
// What was begun may go on after the context has ended; a later call for the same machine or image waits for it.
type Provider interface {
	// Observe reports a machine; its Phase is MachineAbsent when there is none.
	Observe(ctx context.Context, id string) (appstream.Machine, error)
	// List reports all machines that this installation of Oriel has made.
	List(ctx context.Context) ([]appstream.Machine, error)

	// EnsureRunning makes the machine if there is none, gives it the agent version that spec asks for, and starts it. Of an existing
	// machine nothing but the agent is changed. Faults: IMAGE_NOT_FOUND, SUBNET_NOT_FOUND, SUBNET_HAS_INSUFFICIENT_IP_ADDRESSES.
	EnsureRunning(ctx context.Context, spec appstream.MachineSpec) error
	// EnsureStarted is EnsureRunning of a machine that is there. One that is not, because someone has removed it since it was observed, stays
	// absent, and that is no error; one that is being removed is worth another try.
	EnsureStarted(ctx context.Context, spec appstream.MachineSpec) error
	// EnsureMade makes the machine if there is none, and leaves it stopped, for a quick start later. Of an existing machine nothing is
	// changed, whether it runs or not. Faults as EnsureRunning.
	EnsureMade(ctx context.Context, spec appstream.MachineSpec) error
	// EnsureStopped stops the machine and keeps its disk.
	EnsureStopped(ctx context.Context, id string) error
	// EnsureGone removes the machine, its disk and everything that was kept for it.
	EnsureGone(ctx context.Context, id string) error

	// EnsureCaptured makes the image ref of the disk of the stopped machine id; all of it or nothing. Faults: the machine is
	// absent; there is no space left.
	EnsureCaptured(ctx context.Context, id, ref string) error
	// EnsureImageCopied makes the image to, which nothing else is called, of the image from. Either can be removed afterwards without
	// the other. Nothing is done when to is there. Faults: from is absent; there is no space left.
	EnsureImageCopied(ctx context.Context, from, to string) error
	// SaveChanges writes what the disk of the stopped machine id has beyond its image as a tar with paths from /, without what is of use on this
	// machine alone: caches, logs, temporary files, the host's own (compute.Volatile). What was removed of the image cannot be in it. It can
	// take long, and ends when w refuses. Faults: the machine is absent; nothing was added.
	SaveChanges(ctx context.Context, id string, w io.Writer) error
	// SaveImage writes the image ref to w as an OCI archive, with constant memory. It can take long, and ends when w refuses. Faults: ref is absent.
	SaveImage(ctx context.Context, ref string, notes appstream.ExportNotes, w io.Writer) error
	// InspectArchive reads an image's archive to its end, and tells what is in it. Faults: it is damaged, or the image in it can be no machine here.
	InspectArchive(ctx context.Context, archive *io.SectionReader) (appstream.ArchiveFacts, error)
	// EnsureImageImported makes the image ref, which nothing else is called, of an archive; all of it or nothing. Names and labels that the
	// archive has do not count. Nothing is done when ref is there. Faults: those of InspectArchive; there is no space left.
	EnsureImageImported(ctx context.Context, archive *io.SectionReader, ref string) error
	// HasImage tells whether the whole image ref is there.
	HasImage(ctx context.Context, ref string) (bool, error)
	// EnsureImageGone removes the image ref. Machines that run from it are not disturbed.
	EnsureImageGone(ctx context.Context, ref string) error
	// ListImages gives the refs of all images that EnsureCaptured, EnsureImageCopied and EnsureImageImported of this installation made.
	ListImages(ctx context.Context) ([]string, error)
	// PublicImages gives the images that everyone may use.
	PublicImages(ctx context.Context) ([]PublicImage, error)

	// AgentVersions gives the agent versions that can be put into machines, the newest last; never empty.
	AgentVersions() []string
	// Check tells what is missing on this host for the provider to work, and how to get it.
	Check(ctx context.Context) []Finding
}

// Dialer is the ability to reach the agent inside a machine. A provider without it has machines that are ready as soon as they run
// and that cannot be streamed.
type Dialer interface {
	// Dial connects to the agent of a running machine. The connection speaks internal/agentapi.
	Dial(ctx context.Context, id string) (net.Conn, error)
}

// PublicImage is an image that a provider offers to all accounts.
type PublicImage struct {
	Name        string
	Ref         string
	Platform    string // for example DEBIAN_12
	DisplayName string
	Description string
	State       string // "" for AVAILABLE
	Released    time.Time
}

// Finding is one result of a check of the host.
type Finding struct {
	OK   bool
	What string // for example "container engine"
	Info string // what was found
	Hint string // how to mend it, when not OK
}
