package appstream

import (
	"cmp"
	"fmt"
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

	ImageID  string   // record ID of its image
	ImageRef string   // what its machines boot, see Image.Ref
	Agent    string   // the agent version that its image has pinned; "" for the latest
	Software []string `json:",omitempty"` // of its image, see Image.Software
	VolumeGB int      // the size of its machines' root volume

	Desired         int      // how many instances it shall have
	DesiredSessions int      // multi-session: how many sessions it shall have room for; Desired follows from it
	Stacks          []string // names of the stacks that it is associated with, in order
	Applications    []string `json:",omitempty"` // ELASTIC: names of the applications that it has, in order

	Failures int       // instances in a row that could not be made
	Young    int       // instances in a row that were ready and ended within youngTime
	Retry    time.Time `json:",omitzero"` // when to try the next one; zero: at once

	// Elastic fleets only. Their image, ImageRef, is that of a Composition.
	Base      string    `json:",omitzero"`  // ARN of the public image that it is made of
	Catalogue Catalogue `json:",omitzero"`  // what it has
	Trouble   string    `json:",omitempty"` // why there is none yet, or no newer one; for people
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

// Links names the fleet's stacks, its image and its directory config.
func (f *Fleet) Links() []string {
	links := machineLinks(f.Key, f.View.ImageArn, f.View.DomainJoinInfo)
	for _, stack := range f.Stacks {
		links = append(links, Key{f.Account, f.Region, NounStack, stack}.ARN())
	}
	return links
}

// machineLinks names what machines are made of.
func machineLinks(k Key, image *string, join *types.DomainJoinInfo) (links []string) {
	if image != nil {
		links = append(links, *image)
	}
	if join != nil && join.DirectoryName != nil && *join.DirectoryName != "" {
		links = append(links, Key{k.Account, k.Region, NounDirectory, *join.DirectoryName}.ARN())
	}
	return links
}

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
	if !f.Elastic() {
		v.ComputeCapacityStatus = &types.ComputeCapacityStatus{Desired: n(f.Desired), Running: n(c.Running), InUse: n(c.InUse), Available: n(c.Available)}
	}
	if f.Multi() {
		s := v.ComputeCapacityStatus
		s.Draining = n(c.Draining)
		s.DesiredUserSessions, s.ActualUserSessions = n(f.DesiredSessions), n(c.ActualSessions)
		s.ActiveUserSessions, s.AvailableUserSessions = n(c.ActiveSessions), n(c.AvailableSessions)
		s.DrainModeActiveUserSessions, s.DrainModeUnusedUserSessions = n(c.DrainingActive), n(c.DrainingUnused)
	}
	v.FleetErrors = slices.Clone(f.View.FleetErrors)
	if f.Trouble != "" {
		v.FleetErrors = addFleetError(v.FleetErrors, "", f.Trouble)
	}
	return v
}

// Spec is the machine that an instance of the fleet is. agent is the version to start with.
func (f *Fleet) Spec(id, agent string, sizes map[string]InstanceType) MachineSpec {
	v := &f.View
	spec := MachineSpec{ID: id, Resource: f.Key, ImageARN: cmp.Or(deref(v.ImageArn), f.Base), ImageRef: f.ImageRef, InstanceType: sizes[deref(v.InstanceType)],
		AgentVersion: agent, VolumeGB: f.VolumeGB, Sessions: max(f.PerInstance(), 1)}
	switch {
	case v.VpcConfig != nil && len(v.VpcConfig.SubnetIds) > 0:
		spec.Subnet = v.VpcConfig.SubnetIds[0]
	case v.EnableDefaultInternetAccess == nil || !*v.EnableDefaultInternetAccess:
		spec.Subnet = IsolatedSubnet
	}
	return spec
}

// FleetSnapshot is the world as PlanFleet sees it.
type FleetSnapshot struct {
	Fleet     Fleet
	Instances []Instance // of it
	Sessions  []Session  // STOPPING: those on it that are not EXPIRED
	Sizes     map[string]InstanceType
	Agent     string   // the newest agent version that is installed
	IDs       []string // for new instances, as many as can be made at a time
	Elastic   *ElasticSnapshot
}

// FleetBatch is how many instances of a fleet are made at a time.
const FleetBatch = 10

// fleetPoll is how often a fleet looks at itself while it has less than it shall have.
const fleetPoll = 5 * time.Second

// fleetBackoff is how long to wait after instances that could not be made, failures of them in a row: 1 s, doubling, at most a minute.
func fleetBackoff(failures int) time.Duration {
	return min(time.Second<<min(max(failures, 1)-1, 10), time.Minute)
}

// PlanFleet decides the next step of a fleet: which instances are to be made, drained and let go. It is pure.
func PlanFleet(s FleetSnapshot, now time.Time) Decision[Fleet] {
	f := s.Fleet
	d := Decision[Fleet]{Next: f}
	switch f.State {
	case FleetStarting, FleetRunning:
		if f.Elastic() && s.Elastic != nil {
			return planElastic(s, now)
		}
		return planCapacity(s, now)
	case FleetStopping:
		for _, session := range s.Sessions {
			from := session.State
			session.End(EndFleetStopped, now)
			session.Due = now
			d.Also = append(d.Also, Also{Record: &session, From: from, Why: EndFleetStopped.Words()})
		}
		if len(s.Instances) == 0 && len(s.Sessions) == 0 {
			d.Next.Enter(FleetStopped, now, 0)
			d.Why = "its sessions are over and its machines gone"
			if s.Elastic != nil { // it starts with the image that it has
				d.Also = s.tidy("", f.ImageRef, now)
			}
			return d
		}
		d.Again = now.Add(fleetPoll) // instances wake it when they go
	}
	// What is left of a fleet that does not run goes when nobody is on it any more.
	for _, i := range s.Instances {
		if i.State != InstanceDeleting && len(i.Sessions) == 0 {
			d.Also = append(d.Also, i.letGo("its fleet is stopped", now))
		}
	}
	return d
}

func planCapacity(s FleetSnapshot, now time.Time) Decision[Fleet] {
	f := s.Fleet
	d := Decision[Fleet]{Next: f}
	var unused [2][]Instance      // the fleet's own, and those that are made as it was before a change
	var count, ready, pending int // instances that count as capacity; of these, those that are ready or in use, and those that are not yet
	var problem *Problem          // of an instance that cannot be made
	tries := 0                    // those that were made after others had ended young
	lasting := false              // one of these has been ready for long enough
	_, known := s.Sizes[deref(f.View.InstanceType)]
	outdated := func(i *Instance) bool {
		return known && (i.Spec != f.Spec(i.ID, i.Spec.AgentVersion, s.Sizes) || i.OnDemand != f.onDemand())
	}
	for _, i := range s.Instances {
		old := 0
		if outdated(&i) {
			old = 1
		}
		switch i.State {
		case InstancePending:
			if old == 1 {
				d.Also = append(d.Also, i.letGo("the fleet has changed", now))
				continue
			}
			count, pending = count+1, pending+1
			unused[0] = append(unused[0], i)
			if i.Problem != nil {
				problem = i.Problem
			}
		case InstancePrepared, InstanceAvailable:
			count, ready = count+1, ready+1
			unused[old] = append(unused[old], i)
			if f.Young > 0 && !i.Created.Before(f.Retry) {
				tries++
				lasting = lasting || now.Sub(i.Since) >= youngTime
			}
		case InstanceInUse:
			if i.Multi() && old == 1 { // nobody else shall come to it
				next := i
				next.Enter(InstanceDraining, now)
				next.Due = now
				d.Also = append(d.Also, Also{Record: &next, From: i.State, Why: "the fleet has changed"})
				continue
			}
			count, ready = count+1, ready+1
			lasting = lasting || f.Young > 0 && !i.Created.Before(f.Retry) // somebody works on it
		}
	}

	// Too many: first those of an earlier form, as soon as others are ready in their place, then those that are not ready yet.
	drop := func(list *[]Instance, n int, why string) {
		slices.SortStableFunc(*list, func(a, b Instance) int { return readiness(a.State) - readiness(b.State) })
		for ; n > 0 && len(*list) > 0; n-- {
			i := (*list)[0]
			*list = (*list)[1:]
			d.Also = append(d.Also, i.letGo(why, now))
			count--
			if i.State == InstancePending {
				pending--
			} else {
				ready--
			}
		}
	}
	drop(&unused[1], ready-f.Desired, "an instance of the fleet's new form is ready")
	spare := 0 // instances above Desired, for a change without a gap
	if len(unused[1]) > 0 {
		spare = max(1, f.Desired/5)
	}
	drop(&unused[0], count-f.Desired-spare, "the fleet has more than it shall have")

	// Too few.
	more := min(f.Desired+spare-count, FleetBatch-pending, len(s.IDs))
	if spare > 0 {
		more = min(more, len(unused[1]))
		more = max(more, min(f.Desired-count, FleetBatch-pending, len(s.IDs)))
	}
	if f.Failures+f.Young > 0 {
		more = min(more, 1-pending-tries) // a probe, which must have lasted before there is another
		if now.Before(f.Retry) {
			more, d.Again = 0, f.Retry
		}
	}
	if !known && more > 0 { // what it has goes on
		more, problem = 0, &Problem{Message: fmt.Sprintf("The instance type %s is not there any more. Configure it again, or stop the fleet and give it another.", deref(f.View.InstanceType))}
	}
	for n := range max(more, 0) {
		i := f.NewInstance(s.IDs[n], s.Agent, s.Sizes, now)
		d.Also = append(d.Also, Also{Record: &i, Why: "the fleet has less than it shall have"})
	}
	if lasting { // the others are made as usual
		d.Next.Young, d.Next.Retry = 0, time.Time{}
	}
	switch {
	case pending > 0 || count < f.Desired:
	case d.Next.Young > 0:
		d.Again = now.Add(fleetPoll)
	default: // perhaps because less is wanted than before
		d.Next.Failures, d.Next.Retry, d.Next.View.FleetErrors = 0, time.Time{}, nil
	}
	if problem != nil {
		d.Next.View.FleetErrors = addFleetError(nil, problem.Code, problem.Message)
	}
	if f.State == FleetStarting && (ready > 0 || f.Desired == 0) {
		d.Next.Enter(FleetRunning, now, 0)
		d.Why = "it is ready for sessions"
	}
	if d.Again.IsZero() && count < f.Desired || pending > 0 {
		d.Again = now.Add(fleetPoll)
	}
	if spare > 0 && d.Again.IsZero() {
		d.Again = now.Add(fleetPoll)
	}
	return d
}

// youngTime is how long an instance must have been ready to be more than a try.
const youngTime = time.Minute

// readiness orders unused instances: those that are least useful first.
func readiness(state string) int {
	switch state {
	case InstancePending:
		return 0
	case InstancePrepared:
		return 1
	}
	return 2
}

// onDemand tells whether an instance runs only while somebody uses it.
func (f *Fleet) onDemand() bool { return f.View.FleetType == types.FleetTypeOnDemand || f.Elastic() }

// NewInstance makes the record of an instance. agent is the newest version that is installed.
func (f *Fleet) NewInstance(id, agent string, sizes map[string]InstanceType, now time.Time) Instance {
	if f.Agent != "" && f.Agent != "LATEST" {
		agent = f.Agent
	}
	i := Instance{
		Meta:  Meta{Key: Key{f.Account, f.Region, NounInstance, InstanceName(f.Name, id)}, ID: id, Created: now, Due: now},
		Fleet: f.Name, FleetID: f.ID, Spec: f.Spec(id, agent, sizes), OnDemand: f.onDemand(), Max: f.PerInstance(), Software: f.Software,
	}
	i.Enter(InstancePending, now)
	return i
}

// letGo makes an instance that nobody uses DELETING.
func (i Instance) letGo(why string, now time.Time) Also {
	from := i.State
	i.Enter(InstanceDeleting, now)
	i.Due = now
	return Also{Record: &i, From: from, Why: why}
}

// addFleetError appends to a fleet's list of errors, without repeating one, and keeps the ten newest.
func addFleetError(list []types.FleetError, code, message string) []types.FleetError {
	if code == "" {
		code = string(types.FleetErrorCodeFleetInstanceProvisioningFailure)
	}
	list = slices.DeleteFunc(slices.Clone(list), func(e types.FleetError) bool { return string(e.ErrorCode) == code && deref(e.ErrorMessage) == message })
	list = append(list, types.FleetError{ErrorCode: types.FleetErrorCode(code), ErrorMessage: new(message)})
	return list[max(0, len(list)-10):]
}
