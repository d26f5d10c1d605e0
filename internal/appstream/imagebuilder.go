package appstream

import (
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// An ImageBuilder is a machine on which an administrator installs applications and of which images are made.
//
//	            create                 Start
//	              │                      │
//	              ▼        agent older   ▼
//	           PENDING ───────────▶ UPDATING_AGENT
//	              │                      │
//	              └──────▶ RUNNING ◀─────┘──── REBOOTING
//	         CreateImage │   │ Stop               ▲
//	     SNAPSHOTTING ◀──┘   ▼                    └── machine ended
//	           │          STOPPING ──▶ STOPPED ──Start──▶ PENDING
//	           └─────────────────────────▲
//	PENDING with SoftwaresToInstall, RUNNING with StartSoftwareDeployment ──▶ PENDING_SYNCING_APPS ──▶ SYNCING_APPS ──▶ RUNNING
//	every state ──Delete──▶ DELETING ──▶ (gone)
//	every passing state ──deadline or lasting fault──▶ FAILED ──Start──▶ PENDING
//
// SNAPSHOTTING lasts as long as the image that is being made is PENDING; image.go has that side. software.go has what happens in SYNCING_APPS. Builders that
// Oriel makes for an image have states of their own, see Making.
type ImageBuilder struct {
	Meta
	View types.ImageBuilder // what clients see, but for the members that Describe fills from the rest

	ImageRef    string      // what the machine boots, see Image.Ref
	Provisioned bool        // the machine has been made: if it is absent now, its disk is lost
	Boots       []time.Time // when the engine started the machine in the last ten minutes, oldest first
	SilentSince time.Time   `json:",omitzero"` // while it runs: since when the agent does not answer; zero while it does
	Capturing   string      // the name of the image that is being made of it, in SNAPSHOTTING, or by a builder that is made for that
	CapturingID string      // and that image's record ID
	Making      *Making     `json:",omitzero"` // of a builder that is made for an image; nil for those that people make

	Software      []Deployment `json:",omitempty"` // that is associated with it, by name
	ImageSoftware []string     `json:",omitempty"` // what its image has
	Jobs          int          // how many software jobs were asked of its machine
	ClientJob     *ClientJob   `json:",omitzero"` // the last job that a client began on it since it runs; nil for none
}

// Links names the image builder's image and its directory config.
func (b *ImageBuilder) Links() []string {
	return machineLinks(b.Key, b.View.ImageArn, b.View.DomainJoinInfo)
}

// The states of an image builder, as in the SDK. Those that belong to managed updates and
// import have a deadline and a way out like all others.
const (
	BuilderPending              = string(types.ImageBuilderStatePending)
	BuilderUpdatingAgent        = string(types.ImageBuilderStateUpdatingAgent)
	BuilderRunning              = string(types.ImageBuilderStateRunning)
	BuilderStopping             = string(types.ImageBuilderStateStopping)
	BuilderStopped              = string(types.ImageBuilderStateStopped)
	BuilderRebooting            = string(types.ImageBuilderStateRebooting)
	BuilderSnapshotting         = string(types.ImageBuilderStateSnapshotting)
	BuilderDeleting             = string(types.ImageBuilderStateDeleting)
	BuilderFailed               = string(types.ImageBuilderStateFailed)
	BuilderUpdating             = string(types.ImageBuilderStateUpdating)
	BuilderPendingQualification = string(types.ImageBuilderStatePendingQualification)
	BuilderPendingSyncingApps   = string(types.ImageBuilderStatePendingSyncingApps)
	BuilderSyncingApps          = string(types.ImageBuilderStateSyncingApps)
	BuilderPendingImageImport   = string(types.ImageBuilderStatePendingImageImport)
)

// How long an image builder may stay in each passing state.
var builderDeadlines = map[string]time.Duration{
	BuilderPending:              15 * time.Minute,
	BuilderUpdatingAgent:        15 * time.Minute,
	BuilderRebooting:            10 * time.Minute,
	BuilderStopping:             5 * time.Minute,
	BuilderSnapshotting:         imagePendingTime + 15*time.Minute, // after the image has given up
	BuilderDeleting:             15 * time.Minute,
	BuilderUpdating:             4 * time.Hour,
	BuilderPendingQualification: 4 * time.Hour,
	BuilderPendingSyncingApps:   time.Hour,
	BuilderSyncingApps:          2 * time.Hour,
	BuilderPendingImageImport:   4 * time.Hour,
}

var imageBuilderTransitions = builderTable([]Transition{
	{"", BuilderPending, "CreateImageBuilder"},
	{BuilderPending, BuilderRunning, "the machine runs and its desktop has drawn"},
	{BuilderPending, BuilderUpdatingAgent, "the machine was made with another agent version than is wanted now"},
	{BuilderUpdatingAgent, BuilderRunning, "the machine runs with the wanted agent and its desktop has drawn"},
	{BuilderPending, BuilderPendingSyncingApps, "the machine runs and its desktop has drawn, and there is software to be installed or removed"},
	{BuilderUpdatingAgent, BuilderPendingSyncingApps, "the machine runs and its desktop has drawn, and there is software to be installed or removed"},
	{BuilderRunning, BuilderPendingSyncingApps, "StartSoftwareDeploymentToImageBuilder"},
	{BuilderPendingSyncingApps, BuilderSyncingApps, "the machine's agent answers"},
	{BuilderSyncingApps, BuilderRunning, "every software has had its turn"},
	{BuilderRunning, BuilderStopping, "StopImageBuilder, or power off inside the machine"},
	{BuilderStopping, BuilderStopped, "the machine is down"},
	{BuilderRunning, BuilderRebooting, "reboot inside the machine, the machine ended by itself, or its agent is silent"},
	{BuilderRebooting, BuilderRunning, "the machine runs again and its desktop has drawn"},
	{BuilderRunning, BuilderFailed, "the machine vanished"},
	{BuilderStopped, BuilderPending, "StartImageBuilder"},
	{BuilderFailed, BuilderPending, "StartImageBuilder: repair, with a new machine if the old one vanished"},
	{BuilderStopped, BuilderFailed, "the machine vanished"},
	{BuilderRunning, BuilderSnapshotting, "CreateImage"},
	{BuilderSnapshotting, BuilderStopped, "the image is AVAILABLE, FAILED or deleted"},
	{"", BuilderUpdating, "CreateUpdatedImage"},
	{BuilderUpdating, BuilderPendingQualification, "the disk is captured"},
	{"", BuilderPendingImageImport, "CreateImportedImage, with something to do or to test"},
	{BuilderPendingImageImport, BuilderPendingQualification, "the disk is captured, or the archive loaded and there is nothing to do"},
	{BuilderDeleting, "", "the machine is gone"},
})

// builderTable completes the table with what holds for every state: Delete, and the deadline of passing states.
func builderTable(table []Transition) []Transition {
	for _, state := range types.ImageBuilderState("").Values() {
		from := string(state)
		switch {
		case managedStates[from]:
			table = append(table, Transition{from, BuilderDeleting, "DeleteImageBuilder, or its image is AVAILABLE, FAILED or deleted"})
			continue
		case from != BuilderDeleting:
			table = append(table, Transition{from, BuilderDeleting, "DeleteImageBuilder"})
		}
		if builderDeadlines[from] > 0 {
			table = append(table, Transition{from, BuilderFailed, givingUp(from, BuilderDeleting, builderDeadlines[from])})
		}
	}
	return table
}

// givingUp says when a passing state ends in FAILED. A removal is tried until its deadline, whatever the fault.
func givingUp(state, deleting string, after time.Duration) string {
	if state == deleting {
		return fmt.Sprintf("longer than %s", after)
	}
	return fmt.Sprintf("a lasting fault, or longer than %s", after)
}

// Enter moves the builder to a state, with the deadline that the state has.
func (b *ImageBuilder) Enter(state string, now time.Time) {
	b.Meta.Enter(state, now, builderDeadlines[state])
	if state != BuilderFailed {
		b.View.StateChangeReason = nil
	}
	b.SilentSince = time.Time{}
	switch state {
	case BuilderRunning, BuilderRebooting, BuilderPendingSyncingApps, BuilderSyncingApps:
	default:
		b.View.NetworkAccessConfiguration = &types.NetworkAccessConfiguration{}
	}
}

// Describe gives what the API shows of the builder. latestAgent is the newest agent version that is installed.
func (b *ImageBuilder) Describe(latestAgent string) types.ImageBuilder {
	v := b.View
	v.Name, v.Arn, v.CreatedTime = new(b.Name), new(b.ARN()), new(b.Created)
	v.State = types.ImageBuilderState(b.State)
	v.LatestAppstreamAgentVersion = types.LatestAppstreamAgentVersionFalse
	if v.AppstreamAgentVersion != nil && *v.AppstreamAgentVersion == latestAgent {
		v.LatestAppstreamAgentVersion = types.LatestAppstreamAgentVersionTrue
	}
	if b.Problem != nil && b.State != BuilderFailed {
		v.StateChangeReason = &types.ImageBuilderStateChangeReason{
			Code: types.ImageBuilderStateChangeReasonCodeInternalError, Message: new(b.Problem.Message)}
	}
	return v
}

// Spec is the machine that the builder wants.
func (b *ImageBuilder) Spec(sizes map[string]InstanceType) MachineSpec {
	spec := MachineSpec{ID: b.ID, Resource: b.Key, ImageRef: b.ImageRef}
	v := &b.View
	if v.ImageArn != nil {
		spec.ImageARN = *v.ImageArn
	}
	if v.InstanceType != nil {
		spec.InstanceType = sizes[*v.InstanceType]
	}
	switch {
	case v.VpcConfig != nil && len(v.VpcConfig.SubnetIds) > 0:
		spec.Subnet = v.VpcConfig.SubnetIds[0]
	case b.isolated():
		spec.Subnet = IsolatedSubnet
	}
	if v.AppstreamAgentVersion != nil {
		spec.AgentVersion = *v.AppstreamAgentVersion
	}
	if v.RootVolumeConfig != nil && v.RootVolumeConfig.VolumeSizeInGb != nil {
		spec.VolumeGB = int(*v.RootVolumeConfig.VolumeSizeInGb)
	}
	return spec
}

// isolated tells whether the builder's machine is where there is no way to the internet.
func (b *ImageBuilder) isolated() bool {
	v := &b.View
	return (v.VpcConfig == nil || len(v.VpcConfig.SubnetIds) == 0) && (v.EnableDefaultInternetAccess == nil || !*v.EnableDefaultInternetAccess)
}

// Job is the ID of the job that the builder's machine shall be doing; "" for none.
func (b *ImageBuilder) Job() string {
	switch {
	case b.Making != nil:
		return b.Making.job(b.State)
	case b.State == BuilderSyncingApps:
		if d := b.current(); d != nil {
			return d.Job
		}
	case b.State == BuilderRunning && b.ClientJob.Running():
		return b.ClientJob.ID
	}
	return ""
}

// BuilderSnapshot is the world as PlanImageBuilder sees it.
type BuilderSnapshot struct {
	Builder  ImageBuilder
	Machine  Machine
	Agent    Agent
	Job      JobStatus               // of the builder's current job, see ImageBuilder.Job; zero when it has none
	Capture  *Image                  // the image that is being made of it; nil when there is none (any more)
	Sizes    map[string]InstanceType // the instance types that are configured
	Software map[string]Software     // what can be installed
}

// A machine that had to be started more often than bootLimit in bootWindow is broken.
const (
	bootLimit  = 8
	bootWindow = 10 * time.Minute
)

// A RUNNING machine whose agent has not answered for silenceLimit is of no use to anyone.
const silenceLimit = 3 * time.Minute

// PlanImageBuilder decides the next step of an image builder. It is pure.
func PlanImageBuilder(s BuilderSnapshot, now time.Time) Decision[ImageBuilder] {
	b := s.Builder
	if managedStates[b.State] {
		d := planMaking(s, now)
		if d.Next.said() != b.said() {
			d.Wake = b.captureKeys() // the image says it too
		}
		return d
	}
	if b.ClientJob.Running() && jobless(b.State) {
		b.ClientJob = b.ClientJob.follow(JobStatus{Answers: true})
		s.Builder = b
	}
	d := planBuilder(s, now)
	if d.Next.State != b.State || d.Remove || builderDeadlines[b.State] == 0 || d.Next.Deadline.After(b.Deadline) {
		return d
	}
	// It is on its way and has not arrived: is there still hope?
	switch p := b.Problem; {
	case p != nil && p.Lasting && b.State != BuilderDeleting:
		reason := types.ImageBuilderStateChangeReasonCodeInternalError
		if p.Code == string(types.FleetErrorCodeImageNotFound) {
			reason = types.ImageBuilderStateChangeReasonCodeImageUnavailable
		}
		return failBuilder(b, now, reason, p.Code, p.Message)
	case b.Overdue(now) && !s.Machine.NextChange.After(now):
		return failBuilder(b, now, types.ImageBuilderStateChangeReasonCodeInternalError, "",
			fmt.Sprintf("The image builder was %s for more than %s.%s", b.State, builderDeadlines[b.State], lastWords(p, s.Agent)))
	}
	return d
}

func planBuilder(s BuilderSnapshot, now time.Time) Decision[ImageBuilder] {
	b := s.Builder
	switch b.State {
	case BuilderPending, BuilderUpdatingAgent, BuilderRebooting:
		return planStarting(s, now)
	case BuilderRunning:
		return planRunning(s, now)
	case BuilderStopping:
		switch s.Machine.Phase {
		case MachineRunning:
			return Decision[ImageBuilder]{Next: b, Do: []Action{EnsureStopped{b.ID}}, Again: soon(s.Machine, now)}
		case MachineStopped:
			return moveBuilder(b, BuilderStopped, now, "the machine is down")
		}
		return vanished(b, now)
	case BuilderStopped:
		switch {
		case s.Machine.Phase == MachineRunning: // someone started it behind our back
			return Decision[ImageBuilder]{Next: b, Do: []Action{EnsureStopped{b.ID}}, Again: soon(s.Machine, now)}
		case s.Machine.Phase == MachineAbsent && b.Provisioned:
			return vanished(b, now)
		}
	case BuilderPendingSyncingApps:
		return planPendingSyncing(s, now)
	case BuilderSyncingApps:
		return planSyncing(s, now)
	case BuilderSnapshotting:
		return planSnapshotting(s, now)
	case BuilderFailed:
		if s.Machine.Phase == MachineRunning {
			return Decision[ImageBuilder]{Next: b, Do: []Action{EnsureStopped{b.ID}}, Again: soon(s.Machine, now)}
		}
	case BuilderDeleting:
		if s.Machine.Phase != MachineAbsent {
			return Decision[ImageBuilder]{Next: b, Do: []Action{EnsureGone{b.ID}}, Again: soon(s.Machine, now), Wake: b.captureKeys()}
		}
		// Once more even when nothing is seen: what an interrupted pass left behind goes too.
		return Decision[ImageBuilder]{Next: b, Do: []Action{EnsureGone{b.ID}}, Remove: true, Wake: b.captureKeys(), Why: "the machine is gone"}
	default: // a state that a later kind of job will drive; its deadline is its way out
		return Decision[ImageBuilder]{Next: b, Again: b.Deadline}
	}
	return Decision[ImageBuilder]{Next: b}
}

func planStarting(s BuilderSnapshot, now time.Time) Decision[ImageBuilder] {
	b, m := s.Builder, s.Machine
	switch {
	case m.Phase == MachineAbsent && b.Provisioned:
		return vanished(b, now)
	case b.State == BuilderPending && m.Phase == MachineStopped && m.AgentVersion != "" && m.AgentVersion != deref(b.View.AppstreamAgentVersion):
		d := moveBuilder(b, BuilderUpdatingAgent, now, "the agent "+m.AgentVersion+" is replaced by "+deref(b.View.AppstreamAgentVersion))
		d.Again = now
		return d
	case b.State != BuilderRebooting && m.Phase == MachineRunning && m.AgentVersion != "" && m.AgentVersion != deref(b.View.AppstreamAgentVersion):
		return Decision[ImageBuilder]{Next: b, Do: []Action{EnsureStopped{b.ID}}, Again: soon(m, now)} // the agent is replaced while it is down
	case m.Phase == MachineRunning && s.Agent.Ready:
		state, why := BuilderRunning, "the machine runs and its desktop has drawn"
		if b.State != BuilderRebooting && b.current() != nil {
			state, why = BuilderPendingSyncingApps, why+", and there is software to be installed or removed"
		}
		d := moveBuilder(b, state, now, why)
		if state != BuilderRunning {
			d.Again = now
		}
		d.Next.Provisioned = true
		d.Next.View.NetworkAccessConfiguration = network(m)
		return d
	case m.Phase == MachineRunning:
		d := Decision[ImageBuilder]{Next: b, Again: m.NextChange}
		if d.Again.IsZero() {
			d.Again = now.Add(pollAfter(now.Sub(b.Since)))
		}
		return d
	}
	return bootBuilder(b, s, now)
}

// bootBuilder starts the machine, unless that has been done too often of late.
func bootBuilder(b ImageBuilder, s BuilderSnapshot, now time.Time) Decision[ImageBuilder] {
	m := s.Machine
	if b.bootedTooOften(now) {
		return failBuilder(b, now, types.ImageBuilderStateChangeReasonCodeInternalError, "",
			fmt.Sprintf("The machine ended %d times within %s, last with exit code %d. Look at the machine's log, or delete the image builder.", len(b.Boots), bootWindow, m.ExitCode))
	}
	return boot(b, s, now)
}

// boot has the machine made, if there is none, and started.
func boot(b ImageBuilder, s BuilderSnapshot, now time.Time) Decision[ImageBuilder] {
	b.Boots = append(slices.Clone(b.Boots), now)
	b.Provisioned = true
	return Decision[ImageBuilder]{Next: b, Do: []Action{s.Machine.start(b.Spec(s.Sizes))}, Again: now}
}

func planRunning(s BuilderSnapshot, now time.Time) Decision[ImageBuilder] {
	b, m := s.Builder, s.Machine
	switch {
	case m.Phase == MachineAbsent:
		return vanished(b, now)
	case m.Phase == MachineRunning && s.Agent.Answers:
		b.View.NetworkAccessConfiguration = network(m)
		b.SilentSince = time.Time{}
		d := Decision[ImageBuilder]{Next: b}
		if b.ClientJob.Running() {
			if d.Next.ClientJob = b.ClientJob.follow(s.Job); d.Next.ClientJob.Running() {
				d.Again = now.Add(time.Second)
			}
		}
		return d
	case m.Phase == MachineRunning && b.SilentSince.IsZero():
		b.SilentSince = now
		return Decision[ImageBuilder]{Next: b, Again: now.Add(silenceLimit)}
	case m.Phase == MachineRunning && now.Sub(b.SilentSince) < silenceLimit:
		return Decision[ImageBuilder]{Next: b, Again: b.SilentSince.Add(silenceLimit)}
	case m.Phase == MachineRunning:
		d := moveBuilder(b, BuilderRebooting, now, fmt.Sprintf("its agent has not answered for %s", silenceLimit))
		d.Do, d.Again = []Action{EnsureStopped{b.ID}}, now
		return d
	case m.ExitCode == ExitPowerOff:
		d := moveBuilder(b, BuilderStopping, now, "the machine was powered off from inside")
		d.Again = now
		return d
	}
	why := fmt.Sprintf("the machine ended by itself with exit code %d", m.ExitCode)
	if m.ExitCode == ExitReboot {
		why = "a reboot was asked for inside the machine"
	}
	d := moveBuilder(b, BuilderRebooting, now, why)
	d.Again = now
	return d
}

func planSnapshotting(s BuilderSnapshot, now time.Time) Decision[ImageBuilder] {
	b := s.Builder
	pending := s.Capture != nil && s.Capture.ID == b.CapturingID && s.Capture.State == ImagePending
	switch {
	case s.Machine.Phase == MachineRunning:
		return Decision[ImageBuilder]{Next: b, Do: []Action{EnsureStopped{b.ID}}, Again: soon(s.Machine, now), Wake: b.captureKeys()}
	case s.Machine.Phase == MachineAbsent:
		return vanished(b, now)
	case pending: // the image's own plan takes the capture from here and wakes the builder
		return Decision[ImageBuilder]{Next: b, Again: now.Add(5 * time.Second)}
	}
	outcome := "deleted"
	if s.Capture != nil && s.Capture.ID == b.CapturingID {
		outcome = s.Capture.State
	}
	d := moveBuilder(b, BuilderStopped, now, "the image "+b.Capturing+" is "+outcome)
	d.Next.Capturing, d.Next.CapturingID = "", ""
	return d
}

// moveBuilder enters a state and leaves it to events, the deadline and the caller of the plan to look again.
func moveBuilder(b ImageBuilder, state string, now time.Time, why string) Decision[ImageBuilder] {
	b.Enter(state, now)
	return Decision[ImageBuilder]{Next: b, Again: b.Deadline, Why: why}
}

func failBuilder(b ImageBuilder, now time.Time, reason types.ImageBuilderStateChangeReasonCode, code, message string) Decision[ImageBuilder] {
	wake := b.captureKeys()
	b.undeploy(message)
	b.Enter(BuilderFailed, now)
	b.Capturing, b.CapturingID = "", ""
	if code == "" {
		code = string(types.FleetErrorCodeInternalServiceError)
	}
	b.View.StateChangeReason = &types.ImageBuilderStateChangeReason{Code: reason, Message: new(message)}
	b.View.ImageBuilderErrors = addError(b.View.ImageBuilderErrors, code, message, now)
	return Decision[ImageBuilder]{Next: b, Again: now, Wake: wake, Why: message}
}

// vanished gives up a machine that was made and is not there. Start may make a new one.
func vanished(b ImageBuilder, now time.Time) Decision[ImageBuilder] {
	b.Provisioned = false
	d := failBuilder(b, now, types.ImageBuilderStateChangeReasonCodeInternalError, "",
		"The machine of the image builder has vanished from the container engine, and with it what was installed on it. "+
			"StartImageBuilder makes a new machine from "+deref(b.View.ImageArn)+"; DeleteImageBuilder removes the image builder.")
	d.Next.reset()
	return d
}

func (b *ImageBuilder) captureKeys() []Key {
	if b.Capturing == "" {
		return nil
	}
	return []Key{{b.Account, b.Region, NounImage, b.Capturing}}
}

func (b *ImageBuilder) bootedTooOften(now time.Time) bool {
	b.Boots = recent(b.Boots, now)
	return len(b.Boots) >= bootLimit
}

// recent gives those of a machine's starts that count against bootLimit.
func recent(boots []time.Time, now time.Time) []time.Time {
	return slices.DeleteFunc(slices.Clone(boots), func(t time.Time) bool { return now.Sub(t) > bootWindow })
}

func network(m Machine) *types.NetworkAccessConfiguration {
	n := &types.NetworkAccessConfiguration{EniIpv6Addresses: m.IPv6}
	if m.IPv4 != "" {
		n.EniPrivateIpAddress = new(m.IPv4)
	}
	if m.ENI != "" {
		n.EniId = new(m.ENI)
	}
	return n
}

// soon is when to look again after an action: at once, or when the provider has announced that a change will be complete.
func soon(m Machine, now time.Time) time.Time {
	if m.NextChange.After(now) {
		return m.NextChange
	}
	return now
}

// pollAfter is how long to wait before looking again at something that has been under way for d.
func pollAfter(d time.Duration) time.Duration {
	return min(max(d/8, 20*time.Millisecond), 2*time.Second)
}

func lastWords(p *Problem, a Agent) string {
	switch {
	case p != nil:
		return " Last problem: " + p.Message
	case a.Problem != "":
		return " Last problem: " + a.Problem
	}
	return ""
}

// addError appends to a noun's list of errors and keeps the ten newest.
func addError(list []types.ResourceError, code, message string, now time.Time) []types.ResourceError {
	list = append(slices.Clone(list), types.ResourceError{
		ErrorCode: types.FleetErrorCode(code), ErrorMessage: new(message), ErrorTimestamp: new(now)})
	return list[max(0, len(list)-10):]
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
