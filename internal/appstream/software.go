package appstream

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// Software is a program that the server can install on image builders.
type Software struct {
	Name        string
	Description string
	License     string               // as what DescribeAppLicenseUsage counts its users; "": it does not
	Installers  map[string]Installer // by platform
}

// Installer has the commands, for /bin/sh -e as root, that install a software on a platform and remove it again. Either may have to be
// done again after it was cut short.
type Installer struct{ Install, Uninstall string }

// Bounds of a software's texts.
const (
	MaxSoftwareName    = 128
	MaxSoftwareLicense = 100
	MaxSoftwareCommand = 60 << 10 // bytes; an agent takes a little more
)

// installTime is how long one command of an Installer may take.
const installTime = 45 * time.Minute

// maxDeploymentError bounds what is kept of the output of a command that failed, in bytes.
const maxDeploymentError = 4 << 10

// MicrosoftSoftware gives the names that the API documents. They have no installers until the configuration gives them some.
func MicrosoftSoftware() map[string]Software {
	list := map[string]Software{}
	for _, product := range []struct{ name, license, series, professional string }{
		{"Office", "Microsoft Office", "_LTSC", "Professional_Plus"},
		{"Visio", "Microsoft Visio", "_LTSC", "Professional"},
		{"Project", "Microsoft Project", "", "Professional"},
	} {
		for _, version := range []string{"2021", "2024"} {
			for _, edition := range []string{product.professional, "Standard"} {
				for _, bits := range []string{"32Bit", "64Bit"} {
					name := "Microsoft_" + product.name + "_" + version + product.series + "_" + edition + "_" + bits
					list[name] = Software{Name: name, License: product.license, Description: strings.ReplaceAll(name, "_", " ")}
				}
			}
		}
	}
	return list
}

// microsoft gives the version and the architecture in a documented name, "" for any other.
func microsoft(name string) (version, bits string) {
	if _, known := MicrosoftSoftware()[name]; !known {
		return "", ""
	}
	part := strings.Split(name, "_")
	return part[2], part[len(part)-1]
}

// InstallerFor gives the installer of a software for a platform. Errors: OperationNotPermitted when it has none at all, IncompatibleImage when it has none
// for the platform.
func (s Software) InstallerFor(platform string) (Installer, error) {
	version, _ := microsoft(s.Name)
	installer, ok := s.Installers[platform]
	switch {
	case len(s.Installers) == 0:
		return Installer{}, Errorf(OperationNotPermitted, "No installer of %s is configured on this server. Its administrator adds one to oriel.toml, as [[software]] with this name "+
			"and install and uninstall commands for the platform %s (docs/software.md).", s.Name, platform)
	case !ok:
		return Installer{}, Errorf(IncompatibleImage, "%s cannot be installed on %s. There are installers of it for %s.", s.Name, platform,
			strings.Join(slices.Sorted(maps.Keys(s.Installers)), ", "))
	case version == "2024" && platform == "WINDOWS_SERVER_2019":
		return Installer{}, Errorf(IncompatibleImage, "%s cannot be installed on %s. Use an image of Windows Server 2022 or 2025.", s.Name, platform)
	}
	return installer, nil
}

// The statuses of a software on an image builder.
const (
	stagedIn     = types.SoftwareDeploymentStatusStagedForInstallation
	pendingIn    = types.SoftwareDeploymentStatusPendingInstallation
	installed    = types.SoftwareDeploymentStatusInstalled
	failedIn     = types.SoftwareDeploymentStatusFailedToInstall
	stagedOut    = types.SoftwareDeploymentStatusStagedForUninstallation
	pendingOut   = types.SoftwareDeploymentStatusPendingUninstallation
	failedOut    = types.SoftwareDeploymentStatusFailedToUninstall
	notInstalled = types.SoftwareDeploymentStatus("")
)

// A Deployment is a software that is associated with an image builder.
//
//	Associate ──▶ STAGED_FOR_INSTALLATION ──Start──▶ PENDING_INSTALLATION ──▶ INSTALLED or FAILED_TO_INSTALL
//	INSTALLED ──Disassociate──▶ STAGED_FOR_UNINSTALLATION ──Start──▶ PENDING_UNINSTALLATION ──▶ (gone) or FAILED_TO_UNINSTALL
//
// Start is StartSoftwareDeploymentToImageBuilder: the image builder goes through PENDING_SYNCING_APPS and SYNCING_APPS, where each pending software is a
// job of its own, the removals first. One that fails does not keep the others from their turn.
type Deployment struct {
	Name   string
	Status types.SoftwareDeploymentStatus
	Job    string               `json:",omitzero"`  // PENDING_…: the ID of its job
	Begun  bool                 `json:",omitzero"`  // PENDING_…: that has begun
	Error  []types.ErrorDetails `json:",omitempty"` // FAILED_TO_…: why
}

// Deployed is the software of an image as a builder that is made of it has it at first.
func Deployed(names []string) []Deployment {
	var list []Deployment
	for _, name := range names {
		list = append(list, Deployment{Name: name, Status: installed})
	}
	return list
}

// Associations gives what the API shows of the software of a resource.
func Associations(list []Deployment) []types.SoftwareAssociations {
	var out []types.SoftwareAssociations
	for _, d := range list {
		out = append(out, types.SoftwareAssociations{SoftwareName: new(d.Name), Status: d.Status, DeploymentError: d.Error})
	}
	return out
}

// Installed names the software that is on the builder's disk, or may still be after a removal that failed.
func (b *ImageBuilder) Installed() []string {
	var names []string
	for _, d := range b.Software {
		switch d.Status {
		case installed, stagedOut, failedOut:
			names = append(names, d.Name)
		}
	}
	return names
}

// status gives the status of a software, "" when it is not associated.
func (b *ImageBuilder) status(name string) types.SoftwareDeploymentStatus {
	for _, d := range b.Software {
		if d.Name == name {
			return d.Status
		}
	}
	return notInstalled
}

// setStatus gives a software another status; "" takes it from the list, which is sorted by name.
func (b *ImageBuilder) setStatus(name string, status types.SoftwareDeploymentStatus, why ...types.ErrorDetails) {
	list := slices.DeleteFunc(slices.Clone(b.Software), func(d Deployment) bool { return d.Name == name })
	if status != notInstalled {
		list = append(list, Deployment{Name: name, Status: status, Error: why})
	}
	slices.SortFunc(list, func(x, y Deployment) int { return cmp.Compare(x.Name, y.Name) })
	b.Software = list
}

// Associate stages software to be installed. It takes back what was staged to be removed, and stages again what failed.
func (b *ImageBuilder) Associate(names []string) {
	for _, name := range names {
		switch b.status(name) {
		case notInstalled, failedIn, failedOut:
			b.setStatus(name, stagedIn)
		case stagedOut:
			b.setStatus(name, installed)
		}
	}
}

// Disassociate stages software to be removed. What was never installed is forgotten at once. The error, of kind ResourceNotFound, names what is not associated.
func (b *ImageBuilder) Disassociate(names []string) error {
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) { // each once: one that is forgotten is not associated any more
		switch b.status(name) {
		case notInstalled:
			return Errorf(ResourceNotFound, "The software %s is not associated with the image builder %s. %s", name, b.Name, associated(b.Software))
		case stagedIn, failedIn:
			b.setStatus(name, notInstalled)
		case installed, failedOut:
			b.setStatus(name, stagedOut)
		}
	}
	return nil
}

func associated(list []Deployment) string {
	if len(list) == 0 {
		return "No software is."
	}
	var names []string
	for _, d := range list {
		names = append(names, d.Name)
	}
	return "Associated are " + strings.Join(names, ", ") + "."
}

// Deploy makes what is staged pending, and what has failed before if it shall be tried again. It tells whether there is anything to do.
func (b *ImageBuilder) Deploy(retry bool) bool {
	b.Software = slices.Clone(b.Software)
	any := false
	for n := range b.Software {
		d := &b.Software[n]
		switch s := d.Status; {
		case s == stagedIn, s == failedIn && retry:
			d.Status = pendingIn
		case s == stagedOut, s == failedOut && retry:
			d.Status = pendingOut
		default:
			continue
		}
		b.Jobs++
		d.Job, d.Begun, d.Error, any = fmt.Sprint("_software-", b.Jobs), false, nil, true // no client may call a job of its own so
	}
	return any
}

// CheckTogether refuses Microsoft software of different versions or architectures on one machine. The error is of kind InvalidParameterCombination.
func (b *ImageBuilder) CheckTogether() error {
	first := ""
	for _, d := range b.Software {
		version, bits := microsoft(d.Name)
		if version == "" || d.Status == stagedOut {
			continue
		}
		if first == "" {
			first = d.Name
		}
		if v, a := microsoft(first); v != version || a != bits {
			return Errorf(InvalidParameterCombination, "%s and %s cannot be on one image builder: Microsoft Office, Visio and Project must be of the same version and architecture. "+
				"Disassociate one of them.", first, d.Name)
		}
	}
	return nil
}

// current finds the software whose turn it is: removals come first, since what is installed may replace what is removed.
func (b *ImageBuilder) current() *Deployment {
	for _, status := range []types.SoftwareDeploymentStatus{pendingOut, pendingIn} {
		for n, d := range b.Software {
			if d.Status == status {
				return &b.Software[n]
			}
		}
	}
	return nil
}

// undeploy leaves a builder that cannot go on without pending software: in SYNCING_APPS the one whose turn it was has failed, the others are staged again.
func (b *ImageBuilder) undeploy(why string) {
	if d := b.current(); d != nil && b.State == BuilderSyncingApps {
		b.failed(d, "It was not finished: "+why)
	}
	b.Software = slices.Clone(b.Software)
	for n := range b.Software {
		switch d := &b.Software[n]; d.Status {
		case pendingIn:
			d.Status, d.Job, d.Begun = stagedIn, "", false
		case pendingOut:
			d.Status, d.Job, d.Begun = stagedOut, "", false
		}
	}
}

// reset makes the list that of a machine that is made anew from the image, and stages what was on the old one beside it.
func (b *ImageBuilder) reset() {
	list := Deployed(b.ImageSoftware)
	for _, d := range b.Software {
		switch d.Status {
		case installed, stagedIn, failedIn:
			if !slices.Contains(b.ImageSoftware, d.Name) {
				list = append(list, Deployment{Name: d.Name, Status: stagedIn})
			}
		}
	}
	slices.SortFunc(list, func(x, y Deployment) int { return cmp.Compare(x.Name, y.Name) })
	b.Software = list
}

// began notes that the job of a software has begun.
func (b *ImageBuilder) began(name string) {
	b.Software = slices.Clone(b.Software)
	for n := range b.Software {
		if d := &b.Software[n]; d.Name == name {
			d.Begun = true
		}
	}
}

// failed notes why a software could not be installed or removed.
func (b *ImageBuilder) failed(d *Deployment, why string) {
	status, code := failedIn, "INSTALLATION_FAILED"
	if d.Status == pendingOut {
		status, code = failedOut, "UNINSTALLATION_FAILED"
	}
	b.setStatus(d.Name, status, types.ErrorDetails{ErrorCode: &code, ErrorMessage: &why})
}

// planPendingSyncing waits for the agent that will do the jobs.
func planPendingSyncing(s BuilderSnapshot, now time.Time) Decision[ImageBuilder] {
	if s.Machine.Phase == MachineRunning && s.Agent.Answers {
		d := moveBuilder(s.Builder, BuilderSyncingApps, now, "its agent is ready for the software")
		d.Again = now
		return d
	}
	return awaitAgent(s, now)
}

// planSyncing has the pending software installed and removed, one after another.
func planSyncing(s BuilderSnapshot, now time.Time) Decision[ImageBuilder] {
	b := s.Builder
	current := b.current()
	if current == nil {
		d := moveBuilder(b, BuilderRunning, now, "its software is installed and removed, as far as that was possible")
		d.Next.View.NetworkAccessConfiguration = network(s.Machine)
		return d
	}
	// The next software has as much time as this one had.
	next := func() Decision[ImageBuilder] {
		b.Deadline = now.Add(builderDeadlines[b.State])
		return Decision[ImageBuilder]{Next: b, Again: now}
	}
	if s.Machine.Phase != MachineRunning || !s.Job.Answers {
		return awaitAgent(s, now)
	}
	b.SilentSince = time.Time{}
	switch job := s.Job; {
	case job.Succeeded():
		status := installed
		if current.Status == pendingOut {
			status = notInstalled
		}
		b.setStatus(current.Name, status)
		return next()
	case job.Ended:
		b.failed(current, b.deploymentError(job))
		return next()
	case job.Known:
		b.began(current.Name)
		return Decision[ImageBuilder]{Next: b, Again: now.Add(pollAfter(now.Sub(b.Since)))}
	}
	installer, err := s.Software[current.Name].InstallerFor(string(b.View.Platform))
	step := JobStep{Name: "install " + current.Name, Command: installer.Install, Time: installTime}
	if current.Status == pendingOut {
		step.Name, step.Command = "uninstall "+current.Name, installer.Uninstall
	}
	if err != nil { // the configuration has changed since it was asked for
		b.failed(current, fmt.Sprintf("There is no command any more to %s on %s.", step.Name, b.View.Platform))
		return next()
	}
	b.began(current.Name)
	return Decision[ImageBuilder]{Next: b, Do: []Action{EnsureJobBegun{b.ID, Job{ID: current.Job, Steps: []JobStep{step}}}}, Again: now}
}

// awaitAgent starts a machine that has gone down during its work, and one anew whose agent is silent. The job is then begun again.
func awaitAgent(s BuilderSnapshot, now time.Time) Decision[ImageBuilder] {
	b, m := s.Builder, s.Machine
	switch {
	case m.Phase == MachineAbsent:
		return vanished(b, now)
	case m.Phase == MachineStopped:
		b.SilentSince = time.Time{}
		return bootBuilder(b, s, now)
	case m.NextChange.After(now):
		return Decision[ImageBuilder]{Next: b, Again: m.NextChange}
	case b.SilentSince.IsZero():
		b.SilentSince = now
	case now.Sub(b.SilentSince) >= silenceLimit:
		b.SilentSince = time.Time{}
		return Decision[ImageBuilder]{Next: b, Do: []Action{EnsureStopped{b.ID}}, Again: soon(m, now)}
	}
	return Decision[ImageBuilder]{Next: b, Again: now.Add(pollAfter(now.Sub(b.SilentSince)))}
}

// deploymentError says why a job failed, with the end of what it wrote.
func (b *ImageBuilder) deploymentError(job JobStatus) string {
	text := job.Problem
	if b.isolated() {
		text += " (The image builder has no way to the internet: EnableDefaultInternetAccess is false.)"
	}
	if output := strings.TrimSpace(job.Output); output != "" {
		text += "\n" + tail(output, maxDeploymentError)
	}
	return text
}
