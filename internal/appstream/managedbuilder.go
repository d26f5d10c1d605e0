package appstream

import (
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// Making is what an image builder does that Oriel has made for an image, and removes after it.
//
//	CreateUpdatedImage                      CreateImportedImage
//	        │                                        │
//	        ▼                                        ▼
//	    UPDATING ──▶ PENDING_QUALIFICATION ◀── PENDING_IMAGE_IMPORT
//	        │                  │                     │
//	        └──────────────────┼─────────────────────┘
//	                           ▼
//	                       DELETING ──▶ (gone)
//
// In UPDATING and PENDING_IMAGE_IMPORT its machine, made of the image that there is, does the work, and is stopped; the image's plan captures
// the disk. In PENDING_QUALIFICATION a machine of the new image boots, draws and does the test. The image's plan decides what comes of the
// image, and the builder goes as soon as the image needs it no more, whatever came of that: it has no deadline that ends in FAILED.
type Making struct {
	Work    []JobStep // what the machine does before its disk is captured; empty: it only boots
	Test    []JobStep // what a machine of the new image must be able to do beside booting
	Reads   bool      // the catalogue is that of the machine that tests: it is read first, and its applications are the test
	Step    int       // how many steps of its state's job have begun
	Done    bool      // what the builder does in its state is done: it waits for the image
	Failure string    // why it cannot be done: the image's plan gives the image up

	Catalogue *Catalogue `json:",omitzero"` // that was read
}

// readyLimit is how long a machine may run without being of use: its desktop has not drawn, or its agent does not answer.
const readyLimit = 15 * time.Minute

// ManagedBuilderName names the builder that is made for an image: as the image, with ten digits behind.
func ManagedBuilderName(image string, random uint64) string {
	const longest = 100 - 1 - 10
	return fmt.Sprintf("%s-%010d", image[:min(len(image), longest)], random%1e10)
}

// managedStates are those of builders with a Making, and of no others.
var managedStates = map[string]bool{BuilderUpdating: true, BuilderPendingImageImport: true, BuilderPendingQualification: true}

// steps is what the machine of a builder does in a state, and what the job is called there.
func (m *Making) steps(state string) (id string, steps []JobStep) {
	if state == BuilderPendingQualification {
		if m.Reads && m.Catalogue != nil {
			return "test", LaunchSteps(m.Catalogue.Applications)
		}
		return "test", m.Test
	}
	return "work", m.Work
}

// job is the ID of the job that the machine of a builder in a state shall be doing; "" for none.
func (m *Making) job(state string) string {
	id, steps := m.steps(state)
	if m.Done || m.Failure != "" || len(steps) == 0 || !managedStates[state] {
		return ""
	}
	return id
}

// planMaking decides the next step of a builder that works on an image.
func planMaking(s BuilderSnapshot, now time.Time) Decision[ImageBuilder] {
	b, m, image := s.Builder, s.Machine, s.Capture
	making := Making{}
	if b.Making != nil {
		making = *b.Making
	}
	b.Making = &making // a plan changes no snapshot
	// The platform of an archive is known when that is checked.
	if image != nil && b.View.Platform == "" {
		b.View.Platform = image.View.Platform
	}
	wait := Decision[ImageBuilder]{Next: b, Again: now.Add(5 * time.Second)}
	testing := b.State == BuilderPendingQualification
	switch p := b.Problem; {
	case image == nil || image.ID != b.CapturingID:
		return leave(b, "deleted", now)
	case !image.managed():
		return leave(b, image.State, now)
	case b.Making.Failure != "":
		wait.Wake = b.captureKeys()
		return wait
	case b.State == BuilderPendingImageImport && !image.Loaded:
		b.Deadline = now.Add(builderDeadlines[b.State]) // its own time begins with the archive's image
		b.progress("waiting for the archive")
		return Decision[ImageBuilder]{Next: b, Again: now.Add(5 * time.Second)}
	case p != nil && p.Lasting:
		return failMaking(b, now, p.Message)
	case b.Overdue(now) && !m.NextChange.After(now):
		return failMaking(b, now, fmt.Sprintf("The image builder was %s for more than %s.%s", b.State, builderDeadlines[b.State], lastWords(p, s.Agent)))
	case image.Made && !testing:
		if m.Phase != MachineAbsent {
			return Decision[ImageBuilder]{Next: b, Do: []Action{EnsureGone{b.ID}}, Again: soon(m, now)}
		}
		d := moveBuilder(b, BuilderPendingQualification, now, "the disk is captured")
		d.Do, d.Again = []Action{EnsureGone{b.ID}}, now // once more: what an interrupted pass has left goes too
		d.Next.ImageRef, d.Next.View.ImageArn, d.Next.View.Platform, d.Next.Boots, d.Next.Making.Done = image.Ref, new(image.ARN()), image.View.Platform, nil, false
		d.Next.Making.Step = 0
		return d
	case b.Making.Done && testing:
		wait.Wake = b.captureKeys()
		return wait
	case b.Making.Done && m.Phase == MachineAbsent: // it has vanished before it was captured
		b.Making.Done = false
		return Decision[ImageBuilder]{Next: b, Again: now}
	case b.Making.Done && m.Phase == MachineRunning:
		return Decision[ImageBuilder]{Next: b, Do: []Action{EnsureStopped{b.ID}}, Again: soon(m, now), Wake: b.captureKeys()}
	case b.Making.Done: // the image's plan captures the disk, and wakes the builder
		return wait
	}
	return planWork(b, s, now)
}

// planWork has the machine run and do the job of the builder's state. A machine that ends or vanishes is started or made again, and begins the
// job anew.
func planWork(b ImageBuilder, s BuilderSnapshot, now time.Time) Decision[ImageBuilder] {
	m := s.Machine
	id, steps := b.Making.steps(b.State)
	begun := len(steps) > 0 && s.Job.Known
	switch {
	case m.Phase != MachineRunning:
		if b.bootedTooOften(now) {
			return failMaking(b, now, fmt.Sprintf("The machine of the image builder ended %d times within %s, last with exit code %d.", len(b.Boots), bootWindow, m.ExitCode))
		}
		b.SilentSince = time.Time{}
		b.progress("starting the machine")
		return boot(b, s, now)
	case !begun && !s.Agent.Ready, len(steps) > 0 && !s.Job.Answers:
		if b.SilentSince.IsZero() {
			b.SilentSince = now
		}
		if now.Sub(b.SilentSince) >= readyLimit && !m.NextChange.After(now) {
			return failMaking(b, now, fmt.Sprintf("The machine of the image builder ran for %s and its desktop did not draw, or its agent did not answer.%s", readyLimit, lastWords(nil, s.Agent)))
		}
		again := now.Add(pollAfter(now.Sub(b.SilentSince)))
		if m.NextChange.After(now) {
			again = m.NextChange
		}
		return Decision[ImageBuilder]{Next: b, Again: again}
	}
	b.SilentSince = time.Time{}
	if b.State == BuilderPendingQualification && b.Making.Reads && b.Making.Catalogue == nil {
		b.Making.Catalogue = &Catalogue{}
		return Decision[ImageBuilder]{Next: b, Do: []Action{EnsureCatalogueRead{b.ID, b.View.Platform, b.Making.Catalogue}}, Again: now}
	}
	switch j := s.Job; {
	case len(steps) == 0 || j.Succeeded():
		b.Making.Done, b.Making.Step = true, len(steps)
		b.progress("done")
		return Decision[ImageBuilder]{Next: b, Again: now, Wake: b.captureKeys()}
	case !j.Known:
		b.progress(stepWords(steps, 0))
		b.Making.Step = 1
		return Decision[ImageBuilder]{Next: b, Do: []Action{EnsureJobBegun{b.ID, Job{id, steps}}}, Again: now}
	case j.Ended:
		b.Making.Step = min(j.Step+1, len(steps))
		return failMaking(b, now, jobFailure(j))
	default:
		b.progress(stepWords(steps, j.Step))
		b.Making.Step = max(b.Making.Step, min(j.Step+1, len(steps)))
		return Decision[ImageBuilder]{Next: b, Again: now.Add(time.Second)}
	}
}

// stepWords says how far a job is.
func stepWords(steps []JobStep, at int) string {
	if at < 0 || at >= len(steps) {
		return ""
	}
	if steps[at].Launch != "" {
		return fmt.Sprintf("%d of %d applications have started", at, len(steps))
	}
	return fmt.Sprintf("%s (step %d of %d)", steps[at].Name, at+1, len(steps))
}

// maxWords bounds what is shown of a job's output, in bytes.
const maxWords = 2 << 10

// jobFailure says why a job has failed, with the end of what its last step wrote.
func jobFailure(j JobStatus) string {
	output := strings.TrimSpace(j.Output)
	if output == "" {
		return j.Problem
	}
	return j.Problem + "\nThe end of its output:\n" + tail(output, maxWords)
}

// tail is the end of a text: at most n bytes of it, of whole lines if there are any.
func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	s = s[len(s)-n:]
	if _, rest, ok := strings.Cut(s, "\n"); ok && rest != "" {
		return rest
	}
	return strings.ToValidUTF8(s, "")
}

// progress says what the builder is doing, for people. It ends with the state.
func (b *ImageBuilder) progress(what string) {
	b.View.StateChangeReason = nil
	if what != "" {
		b.View.StateChangeReason = &types.ImageBuilderStateChangeReason{Message: &what}
	}
}

// said is the progress that is shown; "" for none.
func (b *ImageBuilder) said() string {
	if b.View.StateChangeReason == nil {
		return ""
	}
	return deref(b.View.StateChangeReason.Message)
}

// failMaking says that the builder's work has come to nothing.
func failMaking(b ImageBuilder, now time.Time, why string) Decision[ImageBuilder] {
	b.Making.Failure = why
	return Decision[ImageBuilder]{Next: b, Again: now.Add(5 * time.Second), Wake: b.captureKeys()}
}

// leave removes a builder whose image needs it no more.
func leave(b ImageBuilder, outcome string, now time.Time) Decision[ImageBuilder] {
	d := moveBuilder(b, BuilderDeleting, now, "the image "+b.Capturing+" is "+outcome)
	d.Again = now
	return d
}

// planManaged decides the next step of an image that a builder of its own is made for.
func planManaged(s ImageSnapshot, now time.Time) Decision[Image] {
	i, b := s.Image, s.Builder
	if !s.worked() {
		return failImage(i, now, i.failure(), i.deserted())
	}
	if said := b.said(); said != "" && !b.Making.Done {
		i.progress(said)
	}
	again := now.Add(5 * time.Second) // the builder's plan wakes it when it is done
	switch p := i.Problem; {
	case b.Making.Failure != "":
		d := failImage(i, now, i.failure(), b.Making.Failure)
		d.Why = "the image builder " + b.Name + " did not succeed; the image's errors say why" // not the output: events and logs are for others' eyes
		return d
	case b.State == BuilderPendingQualification && b.Making.Done && s.Exists:
		if c := b.Making.Catalogue; c != nil && len(c.Applications) > 0 {
			i.View.Applications, i.Icons = c.Applications, c.Icons
		}
		d := arrive(i, now, "a machine of it boots, and its applications start")
		d.Wake = i.BuilderKeys()
		return d
	case p != nil && p.Lasting:
		return failImage(i, now, i.failure(), p.Message)
	case i.Overdue(now) && !s.Machine.NextChange.After(now):
		return failImage(i, now, i.failure(), fmt.Sprintf("The image was %s for more than %s.%s", i.State, imageDeadlines[i.State], lastWords(p, Agent{})))
	case i.Made && !s.Exists:
		return failImage(i, now, i.failure(), "The data of the image have vanished from the container engine.")
	case i.Made:
	case s.Exists:
		i.Made = true
		return Decision[Image]{Next: i, Wake: i.BuilderKeys(), Again: again}
	case b.Making.Done && s.Machine.Phase == MachineStopped && !i.says(captureWords):
		i.progress(captureWords)
		return Decision[Image]{Next: i, Again: now}
	case b.Making.Done && s.Machine.Phase == MachineStopped:
		return Decision[Image]{Next: i, Do: []Action{EnsureCaptured{b.ID, i.Ref}}, Again: soon(s.Machine, now)}
	case s.Machine.NextChange.After(now):
		again = s.Machine.NextChange
	}
	return Decision[Image]{Next: i, Again: again}
}

// managed tells whether the image is one that a builder of its own is made for.
func (i *Image) managed() bool {
	return i.ManagedBy != "" && (i.State == ImageCreating || i.State == ImageValidating || i.State == ImageImporting)
}

// worked tells whether the builder that is made for the image is there and at work.
func (s *ImageSnapshot) worked() bool {
	b := s.Builder
	return b != nil && b.Making != nil && b.CapturingID == s.Image.ID && managedStates[b.State]
}

// deserted says that it is not.
func (i *Image) deserted() string {
	return "The image builder " + i.ManagedBy + " was deleted before it was done."
}

// Awaited is the image that the provider is making: Ref, or the one that a builder is to work on first.
func (i *Image) Awaited() string {
	if i.LoadedRef != "" && !i.Loaded {
		return i.LoadedRef
	}
	return i.Ref
}

// planValidating has the archive checked.
func planValidating(s ImageSnapshot, now time.Time) Decision[Image] {
	i := s.Image
	switch p := i.Problem; {
	case i.ManagedBy != "" && !s.worked():
		return failImage(i, now, i.failure(), i.deserted())
	case p != nil && p.Lasting:
		return failImage(i, now, i.failure(), p.Message)
	case i.Overdue(now):
		return failImage(i, now, i.failure(), fmt.Sprintf("The archive was not checked within %s.%s", imageDeadlines[i.State], lastWords(p, Agent{})))
	}
	i.Enter(ImageImporting, now)
	i.Facts = &ArchiveFacts{}
	return Decision[Image]{Next: i, Do: []Action{EnsureArchiveValid{i.Archive, i.Facts}}, Again: now, Why: "the archive is whole"}
}

// planImporting has the archive's image loaded. If a builder is made for the image, that goes on with it.
func planImporting(s ImageSnapshot, now time.Time) Decision[Image] {
	i := s.Image
	if i.Facts != nil {
		i.View.Platform = types.PlatformType(i.Facts.Platform)
	}
	switch p := i.Problem; {
	case i.Loaded:
		s.Image = i
		return planManaged(s, now)
	case i.ManagedBy != "" && !s.worked():
		return failImage(i, now, i.failure(), i.deserted())
	case s.Exists && i.ManagedBy == "":
		return arrive(i, now, "the archive is loaded")
	case s.Exists:
		i.Loaded, i.Made = true, i.LoadedRef == ""
		return Decision[Image]{Next: i, Wake: i.BuilderKeys(), Again: now.Add(5 * time.Second)}
	case p != nil && p.Lasting:
		return failImage(i, now, i.failure(), p.Message)
	case i.Overdue(now):
		return failImage(i, now, i.failure(), fmt.Sprintf("The archive was not loaded within %s.%s", imageDeadlines[i.State], lastWords(p, Agent{})))
	}
	return Decision[Image]{Next: i, Do: []Action{EnsureImported{i.Archive, i.Awaited()}}, Again: now.Add(pollAfter(now.Sub(i.Since)))}
}

// arrive makes an image AVAILABLE. What was only needed to make it is removed.
func arrive(i Image, now time.Time, why string) Decision[Image] {
	d := Decision[Image]{Next: i, Why: why}
	if i.LoadedRef != "" {
		d.Do = []Action{EnsureImageGone{i.LoadedRef}}
		d.Next.LoadedRef = ""
	}
	d.Next.Enter(ImageAvailable, now)
	return d
}

// failure is the reason that the API has for the failure of such an image.
func (i *Image) failure() types.ImageStateChangeReasonCode {
	if i.Archive != "" {
		return types.ImageStateChangeReasonCodeImageImportFailure
	}
	return types.ImageStateChangeReasonCodeImageUpdateFailure
}

// progress says what is being done for the image, for people. It ends with the state.
func (i *Image) progress(what string) {
	i.View.StateChangeReason = &types.ImageStateChangeReason{Message: &what}
}

// says tells whether that is the progress which is shown.
func (i *Image) says(what string) bool {
	return i.View.StateChangeReason != nil && deref(i.View.StateChangeReason.Message) == what
}

// packageUpdates are the commands by which the administrators of a platform bring its packages up to date. They ask nothing, leave
// configuration files that somebody has changed as they are, and fail when they cannot see what is newer.
var packageUpdates = map[types.PlatformType]string{
	"DEBIAN_12":                     aptUpdate,
	types.PlatformTypeUbuntuPro2404: aptUpdate,
	types.PlatformTypeAmazonLinux2:  "yum -y update\nyum clean all",
	types.PlatformTypeRhel8:         "dnf -y upgrade\ndnf clean all",
	types.PlatformTypeRockyLinux8:   "dnf -y upgrade\ndnf clean all",
}

const aptUpdate = `export DEBIAN_FRONTEND=noninteractive
dpkg --force-confdef --force-confold --configure -a
apt-get -o APT::Update::Error-Mode=any update
apt-get -y -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold dist-upgrade
apt-get clean`

// UpdateSteps is how a machine of a platform is brought up to date; none when that is not known.
func UpdateSteps(platform types.PlatformType) []JobStep {
	command, ok := packageUpdates[platform]
	if !ok {
		return nil
	}
	return []JobStep{{Name: "update the packages", Command: command, Time: 3 * time.Hour}}
}

// LaunchSteps has every application of a catalogue start.
func LaunchSteps(catalogue []types.Application) []JobStep {
	var steps []JobStep
	for _, app := range catalogue {
		steps = append(steps, JobStep{Name: "start " + deref(app.Name), Launch: deref(app.Name)})
	}
	return steps
}

// CatalogueSteps has applications added to the catalogue of a machine by its Image Assistant. One of the same name that is there is replaced. The steps'
// names tell nothing of what is added.
func CatalogueSteps(list []types.ApplicationConfig) []JobStep {
	const assistant = "AppStreamImageAssistant "
	var steps []JobStep
	for n, app := range list {
		var add strings.Builder
		for _, flag := range []struct {
			name  string
			value *string
		}{{"name", app.Name}, {"absolute-app-path", app.AbsoluteAppPath}, {"display-name", app.DisplayName}, {"absolute-icon-path", app.AbsoluteIconPath},
			{"absolute-manifest-path", app.AbsoluteManifestPath}, {"working-directory", app.WorkingDirectory}} {
			if deref(flag.value) != "" {
				add.WriteString(" " + shellWord("--"+flag.name+"="+*flag.value))
			}
		}
		if deref(app.LaunchParameters) != "" { // the assistant takes quotation marks off, see its documentation
			add.WriteString(" " + shellWord(`--launch-parameters="`+strings.ReplaceAll(*app.LaunchParameters, `"`, `\"`)+`"`))
		}
		command := assistant + "remove-application " + shellWord("--name="+deref(app.Name)) + " >/dev/null || true\n" + assistant + "add-application" + add.String()
		steps = append(steps, JobStep{Name: fmt.Sprintf("add application %d of %d", n+1, len(list)), Command: command, Time: 5 * time.Minute})
	}
	return steps
}

// shellWord makes any text without NUL one word of a shell's command.
func shellWord(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
