package appstream

import "time"

// Phase is how far a machine is.
type Phase string

// The phases of a machine. A machine that was never made or was removed is Absent.
const (
	MachineAbsent  Phase = ""
	MachineRunning Phase = "running"
	MachineStopped Phase = "stopped" // made, with its disk, not running
)

// Machine is what compute reports of one machine.
type Machine struct {
	ID           string // the ID of the record that it belongs to
	Phase        Phase
	ExitCode     int       // of a stopped machine: how its agent ended; ExitReboot and ExitPowerOff are requests from inside
	IPv4         string    // address of the network interface, "" when it has none
	IPv6         []string  // global addresses of the same interface
	ENI          string    // "eni-" and 17 hexadecimal digits that belong to the real interface
	AgentVersion string    // of the agent that the machine starts with, MM-DD-YYYY
	NextChange   time.Time // when a change that is under way will be complete; zero when none is, or when nobody can know
}

// How a machine's agent says why it ended.
const (
	ExitReboot   = 85 // someone inside asked for a reboot
	ExitPowerOff = 86 // someone inside asked for power off
)

// Agent is what the agent inside a machine reports; the zero value is an agent that does not answer.
type Agent struct {
	Answers bool
	Ready   bool   // the display is up and has drawn
	Version string // MM-DD-YYYY
	Problem string // what keeps it from being ready, for people
}

// MachineSpec says what a machine shall be like. The same spec always means the same machine.
type MachineSpec struct {
	ID           string // of the record
	Resource     Key    // what the machine is part of
	ImageARN     string
	ImageRef     string // what the provider boots, see Image.Ref
	InstanceType InstanceType
	Subnet       string // "" for the default subnet, which has a way to the internet
	AgentVersion string // MM-DD-YYYY: the agent to start with
	VolumeGB     int    // size of the root volume, in GiB
	Sessions     int    // of a fleet's instance: how many people it is for at a time, 1 to 50; 0 for one that is an image builder inside
}

// start has a machine made that is absent, and started.
func (m Machine) start(spec MachineSpec) Action {
	if m.Phase == MachineAbsent {
		return EnsureRunning{spec}
	}
	return EnsureStarted{spec}
}

// IsolatedSubnet is the subnet of machines that name no subnet and have no EnableDefaultInternetAccess. It has no way to the
// internet. (In a subnet of the configuration, the subnet decides, as on AWS its routes do.)
const IsolatedSubnet = "subnet-isolated"

// EnsureMade makes the machine of Spec if there is none, and leaves it stopped. One that runs goes on.
type EnsureMade struct{ Spec MachineSpec }

// EnsureRunning makes the machine of Spec if there is none and starts it if it does not run.
type EnsureRunning struct{ Spec MachineSpec }

// EnsureStarted starts the machine of Spec if it does not run. One that is gone by now stays so: a new one would not have what was on its disk.
type EnsureStarted struct{ Spec MachineSpec }

// EnsureStopped stops the machine and keeps its disk. Nothing to do when there is no machine.
type EnsureStopped struct{ ID string }

// EnsureGone removes the machine with its disk, whatever it is doing.
type EnsureGone struct{ ID string }

// EnsureCaptured makes the image Ref of the disk of a stopped machine. Either the whole image exists afterwards or none.
type EnsureCaptured struct{ ID, Ref string }

// EnsureImageCopied makes the image To of the image From. Each lasts as long as it is wanted, whatever becomes of the other.
type EnsureImageCopied struct{ From, To string }

// EnsureExported writes the image Ref as the archive, whole or not at all.
type EnsureExported struct {
	Ref, Archive string
	Notes        ExportNotes
}

// ExportNotes is what an archive says of itself.
type ExportNotes struct {
	Name        string            // NAME:TAG that an engine gives the image when it loads the archive
	Annotations map[string]string // for example org.opencontainers.image.title
}

// EnsureArchiveGone removes an archive.
type EnsureArchiveGone struct{ Archive string }

// EnsureImageGone removes an image, and what is left of one that was only half made.
type EnsureImageGone struct{ Ref string }

// EnsureArchiveValid reads an archive to its end: whether it is whole, and whether the image in it can be a machine. What it is goes into Facts,
// which is a part of the record that the decision writes.
type EnsureArchiveValid struct {
	Archive string
	Facts   *ArchiveFacts
}

// EnsureImported makes the image Ref of an archive. Either the whole image exists afterwards or none.
type EnsureImported struct{ Archive, Ref string }

// ArchiveFacts is what a provider has found out about the image in an archive.
type ArchiveFacts struct {
	Platform           string    // for example DEBIAN_12
	Size               int64     // of the layers, not compressed, in bytes
	Created            time.Time // zero when the archive does not say it
	Title, Description string    // the annotations org.opencontainers.image.title and .description
}

// EnsurePackaged writes what the disk of a stopped machine has beyond its image as an object of the account, whole or not at all.
type EnsurePackaged struct{ Machine, Account, Bucket, Key string }

// EnsureObjectGone removes an object of the account. One that is not there is gone.
type EnsureObjectGone struct{ Account, Bucket, Key string }

// EnsureJobBegun has the agent of a running machine begin a job. One that it knows goes on, or has ended.
type EnsureJobBegun struct {
	Machine string
	Job     Job
}

func (a EnsureMade) String() string         { return "EnsureMade " + a.Spec.ID }
func (a EnsureRunning) String() string      { return "EnsureRunning " + a.Spec.ID }
func (a EnsureStarted) String() string      { return "EnsureStarted " + a.Spec.ID }
func (a EnsureStopped) String() string      { return "EnsureStopped " + a.ID }
func (a EnsureGone) String() string         { return "EnsureGone " + a.ID }
func (a EnsureCaptured) String() string     { return "EnsureCaptured " + a.ID + " " + a.Ref }
func (a EnsureImageCopied) String() string  { return "EnsureImageCopied " + a.From + " " + a.To }
func (a EnsureExported) String() string     { return "EnsureExported " + a.Ref + " " + a.Archive }
func (a EnsureArchiveGone) String() string  { return "EnsureArchiveGone " + a.Archive }
func (a EnsureArchiveValid) String() string { return "EnsureArchiveValid " + a.Archive }
func (a EnsureImported) String() string     { return "EnsureImported " + a.Archive + " " + a.Ref }
func (a EnsurePackaged) String() string {
	return "EnsurePackaged " + a.Machine + " " + a.Bucket + "/" + a.Key
}
func (a EnsureObjectGone) String() string { return "EnsureObjectGone " + a.Bucket + "/" + a.Key }
func (a EnsureJobBegun) String() string   { return "EnsureJobBegun " + a.Machine + " " + a.Job.ID }
func (a EnsureImageGone) String() string  { return "EnsureImageGone " + a.Ref }
