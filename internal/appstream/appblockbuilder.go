package appstream

import (
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// An AppBlockBuilder is a machine on which an administrator installs what an app block shall have. The package of the app block is what the
// installation has added to the machine's disk. Each start begins with a new machine of the platform's public image.
//
//	create ──▶ STOPPED ──Start──▶ STARTING ──▶ RUNNING
//	              ▲                │    ▲         │ Stop, or CreateAppBlockPackage (and then Stop: without a package)
//	              │           fault│    │no       │
//	              │                ▼    │package  ▼
//	              └────────────── STOPPING ◀──────┘
//	STOPPED ──Delete──▶ (gone)
//
// There is no FAILED: a builder that cannot run stops, and says why in its StateChangeReason and errors. When a package cannot be made, the
// machine runs again with all that was installed on it. A reboot inside goes on as RUNNING.
type AppBlockBuilder struct {
	Meta
	View types.AppBlockBuilder // what clients see, but for the members that Describe fills from the rest

	AppBlock string // the name of the app block that it is associated with; "" for none

	ImageARN, ImageRef string      // the public image that its machine boots since the last start, see Image.Ref
	AgentVersion       string      // that the machine has
	Provisioned        bool        // the machine has been made: if it is absent now, its disk is lost
	Boots              []time.Time // when the engine started the machine in the last ten minutes, oldest first
	SilentSince        time.Time   `json:",omitzero"`  // while it runs: since when the agent does not answer; zero while it does
	Packaging          *Packaging  `json:",omitempty"` // the package that is being made, in STOPPING; nil for none
	Abandoned          *Packaging  `json:",omitempty"` // one that was given up meanwhile: what there is of it goes with the machine; nil for none
}

// Packaging is a package that is being made.
type Packaging struct {
	AppBlockID  string // the record of the app block that it is for
	Bucket, Key string // the object that it becomes
	Writing     bool   // the machine is stopped: the object is being written
}

// The states of an app block builder, as in the SDK.
const (
	AppBlockBuilderStarting = string(types.AppBlockBuilderStateStarting)
	AppBlockBuilderRunning  = string(types.AppBlockBuilderStateRunning)
	AppBlockBuilderStopping = string(types.AppBlockBuilderStateStopping)
	AppBlockBuilderStopped  = string(types.AppBlockBuilderStateStopped)
)

// How long an app block builder may stay in each passing state. One that packages has packagingTime.
var packagerDeadlines = map[string]time.Duration{
	AppBlockBuilderStarting: 15 * time.Minute,
	AppBlockBuilderStopping: 15 * time.Minute,
}

const packagingTime = time.Hour

var appBlockBuilderTransitions = []Transition{
	{"", AppBlockBuilderStopped, "CreateAppBlockBuilder"},
	{AppBlockBuilderStopped, AppBlockBuilderStarting, "StartAppBlockBuilder"},
	{AppBlockBuilderStarting, AppBlockBuilderRunning, "the machine runs and its desktop has drawn"},
	{AppBlockBuilderStarting, AppBlockBuilderStopping, fmt.Sprintf("StopAppBlockBuilder, a lasting fault, or longer than %s", packagerDeadlines[AppBlockBuilderStarting])},
	{AppBlockBuilderRunning, AppBlockBuilderStopping, "StopAppBlockBuilder, CreateAppBlockPackage, power off inside the machine, or the machine is broken or has vanished"},
	{AppBlockBuilderStopping, AppBlockBuilderStarting, fmt.Sprintf("the package could not be made, or not within %s: the machine goes on", packagingTime)},
	{AppBlockBuilderStopping, AppBlockBuilderStopped, fmt.Sprintf("the machine is gone, or longer than %s: it is removed from there", packagerDeadlines[AppBlockBuilderStopping])},
	{AppBlockBuilderStopped, "", "DeleteAppBlockBuilder"},
}

// Enter moves the builder to a state, with the deadline that the state has.
func (b *AppBlockBuilder) Enter(state string, now time.Time) {
	limit := packagerDeadlines[state]
	if state == AppBlockBuilderStopping && b.Packaging != nil {
		limit = packagingTime
	}
	b.Meta.Enter(state, now, limit)
	b.SilentSince = time.Time{}
}

// Links names the app block that the builder is associated with.
func (b *AppBlockBuilder) Links() []string {
	if b.AppBlock == "" {
		return nil
	}
	return []string{b.AppBlockKey().ARN()}
}

// AppBlockKey is the app block that the builder is associated with.
func (b *AppBlockBuilder) AppBlockKey() Key {
	return Key{Account: b.Account, Region: b.Region, Noun: NounAppBlock, Name: b.AppBlock}
}

// Describe gives what the API shows of the builder.
func (b *AppBlockBuilder) Describe() types.AppBlockBuilder {
	v := b.View
	v.Name, v.Arn, v.CreatedTime, v.State = new(b.Name), new(b.ARN()), new(b.Created), types.AppBlockBuilderState(b.State)
	v.AppBlockBuilderErrors = slices.Clone(v.AppBlockBuilderErrors)
	if b.Problem != nil {
		v.StateChangeReason = packagerReason(b.Problem.Message)
	}
	return v
}

func packagerReason(message string) *types.AppBlockBuilderStateChangeReason {
	return &types.AppBlockBuilderStateChangeReason{Code: types.AppBlockBuilderStateChangeReasonCodeInternalError, Message: &message}
}

// Start has the builder begin with a new machine of an image.
func (b *AppBlockBuilder) Start(image *Image, agent string, now time.Time) {
	b.ImageARN, b.ImageRef, b.AgentVersion, b.Provisioned, b.Boots = image.ARN(), image.Ref, agent, false, nil
	b.View.StateChangeReason, b.View.AppBlockBuilderErrors = nil, nil
	b.Enter(AppBlockBuilderStarting, now)
}

// Package has the builder make a package of what its disk has beyond its image.
func (b *AppBlockBuilder) Package(of *AppBlock, now time.Time) {
	bucket := ""
	if at := of.View.SourceS3Location; at != nil {
		bucket = deref(at.S3Bucket)
	}
	b.Packaging = &Packaging{AppBlockID: of.ID, Bucket: bucket, Key: fmt.Sprintf("%s-%s.tar", of.Name, now.UTC().Format("20060102T150405.000Z"))}
	b.View.StateChangeReason, b.View.AppBlockBuilderErrors = nil, nil
	b.Enter(AppBlockBuilderStopping, now)
}

// Stop has the machine go, with all that was installed on it. A package that is being made is given up.
func (b *AppBlockBuilder) Stop(now time.Time) {
	if b.Packaging != nil {
		b.Abandoned, b.Packaging = b.Packaging, nil
		b.View.StateChangeReason = &types.AppBlockBuilderStateChangeReason{Message: new("The package was not made: StopAppBlockBuilder has ended it.")}
	}
	b.Enter(AppBlockBuilderStopping, now)
}

// clear removes the machine, and what there is of a package that was given up.
func (b *AppBlockBuilder) clear() []Action {
	do := []Action{EnsureGone{b.ID}}
	if p := b.Abandoned; p != nil {
		do = append(do, EnsureObjectGone{b.Account, p.Bucket, p.Key})
		b.Abandoned = nil
	}
	return do
}

// Spec is the machine that the builder wants.
func (b *AppBlockBuilder) Spec(sizes map[string]InstanceType) MachineSpec {
	spec := MachineSpec{ID: b.ID, Resource: b.Key, ImageARN: b.ImageARN, ImageRef: b.ImageRef, InstanceType: sizes[deref(b.View.InstanceType)],
		AgentVersion: b.AgentVersion, VolumeGB: packagerVolume}
	switch v := &b.View; {
	case v.VpcConfig != nil && len(v.VpcConfig.SubnetIds) > 0:
		spec.Subnet = v.VpcConfig.SubnetIds[0]
	case v.EnableDefaultInternetAccess == nil || !*v.EnableDefaultInternetAccess:
		spec.Subnet = IsolatedSubnet
	}
	return spec
}

// packagerVolume is the size of an app block builder's disk, in GiB. The API has no member for it.
const packagerVolume = 200

// AppBlockBuilderSnapshot is the world as PlanAppBlockBuilder sees it.
type AppBlockBuilderSnapshot struct {
	Builder  AppBlockBuilder
	AppBlock *AppBlock // that it is associated with; nil for none
	Machine  Machine
	Agent    Agent
	Sizes    map[string]InstanceType // the instance types that are configured
}

// PlanAppBlockBuilder decides the next step of an app block builder. It is pure.
func PlanAppBlockBuilder(s AppBlockBuilderSnapshot, now time.Time) Decision[AppBlockBuilder] {
	b, m := s.Builder, s.Machine
	switch b.State {
	case AppBlockBuilderStarting:
		return planPackagerStarting(s, now)
	case AppBlockBuilderRunning:
		return planPackagerRunning(s, now)
	case AppBlockBuilderStopping:
		if b.Packaging != nil {
			return planPackaging(s, now)
		}
		if b.Overdue(now) && (m.Phase != MachineAbsent || b.Problem != nil) {
			b.blame("", fmt.Sprintf("The machine, or what it has left, could not be removed within %s. It is tried again.%s", packagerDeadlines[b.State], lastWords(b.Problem, Agent{})), now)
			d := movePackager(b, AppBlockBuilderStopped, now, "the machine could not be removed in time")
			d.Again = now
			return d
		}
		do := b.clear() // with the machine gone once more: what an interrupted pass has left goes too
		if m.Phase != MachineAbsent {
			return Decision[AppBlockBuilder]{Next: b, Do: do, Again: soon(m, now)}
		}
		d := movePackager(b, AppBlockBuilderStopped, now, "the machine is gone")
		d.Do = do
		return d
	case AppBlockBuilderStopped:
		if m.Phase != MachineAbsent || b.Abandoned != nil {
			do := b.clear()
			return Decision[AppBlockBuilder]{Next: b, Do: do, Again: soon(m, now)}
		}
	}
	return Decision[AppBlockBuilder]{Next: b}
}

func planPackagerStarting(s AppBlockBuilderSnapshot, now time.Time) Decision[AppBlockBuilder] {
	b, m := s.Builder, s.Machine
	switch p := b.Problem; {
	case p != nil && p.Lasting:
		return stopPackager(b, p.Code, p.Message, now)
	case m.Phase != MachineAbsent && !b.Provisioned: // an earlier start's, which could not be removed in time
		return Decision[AppBlockBuilder]{Next: b, Do: []Action{EnsureGone{b.ID}}, Again: soon(m, now)}
	case m.Phase == MachineAbsent && b.Provisioned:
		return packagerVanished(b, now)
	case m.Phase == MachineRunning && s.Agent.Ready:
		return movePackager(b, AppBlockBuilderRunning, now, "the machine runs and its desktop has drawn")
	case b.Overdue(now) && !m.NextChange.After(now):
		return stopPackager(b, "", fmt.Sprintf("The app block builder was %s for more than %s.%s", b.State, packagerDeadlines[b.State], lastWords(p, s.Agent)), now)
	case m.Phase == MachineRunning:
		again := m.NextChange
		if again.IsZero() {
			again = now.Add(pollAfter(now.Sub(b.Since)))
		}
		return Decision[AppBlockBuilder]{Next: b, Again: again}
	}
	return bootPackager(b, s, now)
}

func planPackagerRunning(s AppBlockBuilderSnapshot, now time.Time) Decision[AppBlockBuilder] {
	b, m := s.Builder, s.Machine
	switch {
	case b.Problem != nil && b.Problem.Lasting:
		return stopPackager(b, b.Problem.Code, b.Problem.Message, now)
	case m.Phase == MachineAbsent:
		return packagerVanished(b, now)
	case m.Phase == MachineRunning && s.Agent.Answers:
		b.SilentSince = time.Time{}
		return Decision[AppBlockBuilder]{Next: b}
	case m.Phase == MachineRunning:
		if b.SilentSince.IsZero() {
			b.SilentSince = now
		}
		if until := b.SilentSince.Add(silenceLimit); now.Before(until) {
			return Decision[AppBlockBuilder]{Next: b, Again: until}
		}
		b.SilentSince = time.Time{}
		return Decision[AppBlockBuilder]{Next: b, Do: []Action{EnsureStopped{b.ID}}, Again: now} // and then started again
	case m.ExitCode == ExitPowerOff:
		d := movePackager(b, AppBlockBuilderStopping, now, "the machine was powered off from inside")
		d.Again = now
		return d
	}
	b.SilentSince = time.Time{}
	return bootPackager(b, s, now)
}

// planPackaging has the machine stop, its package written, and the app block named after it.
func planPackaging(s AppBlockBuilderSnapshot, now time.Time) Decision[AppBlockBuilder] {
	b, m, p := s.Builder, s.Machine, s.Builder.Packaging
	switch {
	case m.Phase == MachineAbsent:
		b.Packaging = nil
		return packagerVanished(b, now)
	case b.Problem != nil && b.Problem.Lasting:
		return resumePackager(b, b.Problem.Message, now)
	case b.Overdue(now) && !m.NextChange.After(now):
		return resumePackager(b, fmt.Sprintf("It was not done within %s.%s", packagingTime, lastWords(b.Problem, Agent{})), now)
	case s.AppBlock == nil || s.AppBlock.ID != p.AppBlockID:
		return resumePackager(b, "The app block is not there any more.", now)
	case m.Phase == MachineRunning:
		return Decision[AppBlockBuilder]{Next: b, Do: []Action{EnsureStopped{b.ID}}, Again: soon(m, now)}
	case m.NextChange.After(now):
		return Decision[AppBlockBuilder]{Next: b, Again: m.NextChange}
	case !p.Writing:
		writing := *p
		writing.Writing = true
		b.Packaging = &writing
		return Decision[AppBlockBuilder]{Next: b, Again: now}
	}
	block := *s.AppBlock
	from := block.State
	block.View.SourceS3Location = &types.S3Location{S3Bucket: &p.Bucket, S3Key: &p.Key}
	block.View.AppBlockErrors = nil
	block.Enter(AppBlockActive, now, 0)
	b.Packaging = nil
	b.Enter(AppBlockBuilderStopping, now)
	return Decision[AppBlockBuilder]{Next: b, Do: []Action{EnsurePackaged{Machine: b.ID, Account: b.Account, Bucket: p.Bucket, Key: p.Key}}, Again: now,
		Also: []Also{{Record: &block, From: from, Why: "the app block builder " + b.Name + " has made the package"}}}
}

// resumePackager gives a package up. What was installed is not lost: the machine runs again.
func resumePackager(b AppBlockBuilder, why string, now time.Time) Decision[AppBlockBuilder] {
	b.Packaging, b.Boots = nil, nil
	message := "The package could not be made: " + why
	b.blame("", message, now)
	d := movePackager(b, AppBlockBuilderStarting, now, message)
	d.Again = now
	return d
}

// bootPackager has the machine made, if there is none, and started, unless that has been done too often of late.
func bootPackager(b AppBlockBuilder, s AppBlockBuilderSnapshot, now time.Time) Decision[AppBlockBuilder] {
	b.Boots = recent(b.Boots, now)
	if len(b.Boots) >= bootLimit {
		return stopPackager(b, "", fmt.Sprintf("The machine ended %d times within %s, last with exit code %d.", len(b.Boots), bootWindow, s.Machine.ExitCode), now)
	}
	b.Boots, b.Provisioned = append(b.Boots, now), true
	return Decision[AppBlockBuilder]{Next: b, Do: []Action{s.Machine.start(b.Spec(s.Sizes))}, Again: now}
}

// packagerVanished gives up a machine that was made and is not there.
func packagerVanished(b AppBlockBuilder, now time.Time) Decision[AppBlockBuilder] {
	return stopPackager(b, "", "The machine of the app block builder has vanished from the container engine, and with it what was installed on it. Start it again with StartAppBlockBuilder.", now)
}

// stopPackager stops a builder that cannot run, and says why.
func stopPackager(b AppBlockBuilder, code, message string, now time.Time) Decision[AppBlockBuilder] {
	b.blame(code, message, now)
	if b.State == AppBlockBuilderStopping { // it is on its way already
		b.Enter(AppBlockBuilderStopping, now)
		return Decision[AppBlockBuilder]{Next: b, Again: now}
	}
	d := movePackager(b, AppBlockBuilderStopping, now, message)
	d.Again = now
	return d
}

// blame keeps what went wrong, for people.
func (b *AppBlockBuilder) blame(code, message string, now time.Time) {
	if code == "" {
		code = string(types.FleetErrorCodeInternalServiceError)
	}
	b.View.StateChangeReason = packagerReason(message)
	b.View.AppBlockBuilderErrors = addError(b.View.AppBlockBuilderErrors, code, message, now)
}

// movePackager enters a state and leaves it to events, the deadline and the caller to look again.
func movePackager(b AppBlockBuilder, state string, now time.Time, why string) Decision[AppBlockBuilder] {
	b.Enter(state, now)
	return Decision[AppBlockBuilder]{Next: b, Again: b.Deadline, Why: why}
}
