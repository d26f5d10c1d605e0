package appstream

import (
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// A Fleet runs machines made from an image, for people to stream from.
//
//	CreateFleet ──▶ STOPPED ──StartFleet──▶ STARTING ──first machine ready──▶ RUNNING
//	                   ▲                        │                                │
//	      all machines │                        └────────── StopFleet ───────────┤
//	          are gone └──────────────── STOPPING ◀──────────────────────────────┘
//	STOPPED ──DeleteFleet──▶ (gone)
//
// A fleet that cannot have machines stays STARTING, or RUNNING with less than it shall have, tries again ever more seldom (at most
// each minute) and says why in its FleetErrors. Its machines are records of their own (instance.go).
type Fleet struct {
	Meta
	View types.Fleet // what clients see, but for the members that Describe fills from the rest

	ImageID  string // record ID of its image
	ImageRef string // what its machines boot, see Image.Ref
	Agent    string // the agent version that its image has pinned; "" for the latest
	VolumeGB int    // the size of its machines' root volume

	Desired         int      // how many instances it shall have
	DesiredSessions int      // multi-session: how many sessions it shall have room for; Desired follows from it
	Stacks          []string // names of the stacks that it is associated with, in order

	Failures int       // instances in a row that could not be made
	Retry    time.Time `json:",omitzero"` // when to try the next one; zero: at once
}

// The states of a fleet.
const (
	FleetStarting = string(types.FleetStateStarting)
	FleetRunning  = string(types.FleetStateRunning)
	FleetStopping = string(types.FleetStateStopping)
	FleetStopped  = string(types.FleetStateStopped)
)

var fleetTransitions = []Transition{
	{"", FleetStopped, "CreateFleet"},
	{FleetStopped, FleetStarting, "StartFleet"},
	{FleetStarting, FleetRunning, "a first machine is ready, or none is wanted"},
	{FleetStarting, FleetStopping, "StopFleet"},
	{FleetRunning, FleetStopping, "StopFleet"},
	{FleetStopping, FleetStopped, "its sessions are over and its machines gone"},
	{FleetStopped, "", "DeleteFleet"},
}

// AppStream's defaults of a fleet.
const (
	DefaultMaxUserDuration   = 57600 // seconds
	DefaultDisconnectTimeout = 900
)

// Multi tells whether several people share an instance.
func (f *Fleet) Multi() bool { return f.PerInstance() > 0 }

// PerInstance is MaxSessionsPerInstance, 0 for a fleet of single sessions.
func (f *Fleet) PerInstance() int {
	if f.View.MaxSessionsPerInstance == nil {
		return 0
	}
	return int(*f.View.MaxSessionsPerInstance)
}

// Capacity is what a fleet has: the numbers of ComputeCapacityStatus and of AppStream's metrics.
type Capacity struct {
	Pending, Available, InUse, Running, Draining int // instances; Available: ready for a session, Running: machines that run

	// Multi-session only, in sessions: on instances, and what could still be put on those that are not draining.
	ActiveSessions, AvailableSessions, ActualSessions int
	DrainingActive, DrainingUnused                    int
}

// Count adds an instance to the capacity.
func (c *Capacity) Count(i *Instance) {
	used := len(i.Sessions)
	switch i.State {
	case InstancePending:
		c.Pending++
		return
	case InstancePrepared:
		c.Available++
	case InstanceAvailable:
		c.Available++
		c.Running++
	case InstanceInUse:
		c.InUse++
		c.Running++
	case InstanceDraining:
		c.Draining++
		c.Running++
		c.DrainingActive += used
		c.DrainingUnused += max(i.Max-used, 0)
		return
	default:
		return
	}
	if i.Multi() {
		c.ActiveSessions += used
		c.AvailableSessions += i.Room()
		c.ActualSessions += i.Max
	}
}

// Describe gives what the API shows of the fleet.
func (f *Fleet) Describe(c Capacity) types.Fleet {
	v := f.View
	v.Name, v.Arn, v.CreatedTime, v.State = new(f.Name), new(f.ARN()), new(f.Created), types.FleetState(f.State)
	n := func(n int) *int32 { return new(int32(n)) }
	v.ComputeCapacityStatus = &types.ComputeCapacityStatus{Desired: n(f.Desired), Running: n(c.Running), InUse: n(c.InUse), Available: n(c.Available)}
	if f.Multi() {
		s := v.ComputeCapacityStatus
		s.Draining = n(c.Draining)
		s.DesiredUserSessions, s.ActualUserSessions = n(f.DesiredSessions), n(c.ActualSessions)
		s.ActiveUserSessions, s.AvailableUserSessions = n(c.ActiveSessions), n(c.AvailableSessions)
		s.DrainModeActiveUserSessions, s.DrainModeUnusedUserSessions = n(c.DrainingActive), n(c.DrainingUnused)
	}
	v.FleetErrors = slices.Clone(f.View.FleetErrors)
	return v
}

// Spec is the machine that an instance of the fleet is. agent is the version to start with.
func (f *Fleet) Spec(id, agent string, sizes map[string]InstanceType) MachineSpec {
	v := &f.View
	spec := MachineSpec{ID: id, Resource: f.Key, ImageARN: deref(v.ImageArn), ImageRef: f.ImageRef, InstanceType: sizes[deref(v.InstanceType)],
		AgentVersion: agent, VolumeGB: f.VolumeGB, Sessions: max(f.PerInstance(), 1)}
	switch {
	case v.VpcConfig != nil && len(v.VpcConfig.SubnetIds) > 0:
		spec.Subnet = v.VpcConfig.SubnetIds[0]
	case v.EnableDefaultInternetAccess == nil || !*v.EnableDefaultInternetAccess:
		spec.Subnet = IsolatedSubnet
	}
	return spec
}
