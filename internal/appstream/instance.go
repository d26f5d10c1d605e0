package appstream

import (
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// An Instance is one machine of a fleet. The API shows it only by its sessions and by the numbers of its fleet.
//
//	                 ┌─▶ PREPARED ─┐ session   ┌──── session (multi-session)
//	PENDING ─ready──▶┤ (ON_DEMAND) ├─────────▶ IN_USE ──▶ AVAILABLE  when the last session of several has ended
//	                 └─▶ AVAILABLE ┘              │
//	                                              └─ drain ─▶ DRAINING
//	every state ──▶ DELETING ──▶ (gone)
//
// The instance of a single session is DELETING as soon as the session is over: the next person never meets it. The fleet makes a
// new one. A multi-session instance is used by one after the other, each under an account of his own that is removed afterwards.
type Instance struct {
	Meta // Name is InstanceName; ID, "i-" and 17 hexadecimal digits, is the machine's and what the API calls InstanceId

	Fleet, FleetID string // name and record ID
	Spec           MachineSpec
	OnDemand       bool     // it is stopped while nobody uses it
	Max            int      // how many sessions it may have at a time; 0 for a single one that it is made for
	Sessions       []string // IDs of the sessions that are on it; those that are EXPIRED and not yet cleared too
	Provisioned    bool     // the machine has been made: if it is absent now, it is lost
	Tainted        bool     // a session could not be cleared: nobody else may be put on it
	Network        *types.NetworkAccessConfiguration
	SilentSince    time.Time `json:",omitzero"` // since when the agent does not answer; zero while it does
}

// The states of an instance.
const (
	InstancePending   = "PENDING"
	InstancePrepared  = "PREPARED"  // made and stopped: ON_DEMAND
	InstanceAvailable = "AVAILABLE" // running, nobody on it
	InstanceInUse     = "IN_USE"    // at least one session is on it
	InstanceDraining  = "DRAINING"  // sessions are on it and no others come
	InstanceDeleting  = "DELETING"
)

// How long an instance may stay in each passing state.
var instanceDeadlines = map[string]time.Duration{
	InstancePending:  10 * time.Minute,
	InstanceDeleting: 15 * time.Minute,
}

var instanceTransitions = func() []Transition {
	table := []Transition{
		{"", InstancePending, "the fleet has less than it shall have"},
		{InstancePending, InstancePrepared, "the machine is made (ON_DEMAND)"},
		{InstancePending, InstanceAvailable, "the machine runs and is ready for a session"},
		{InstancePrepared, InstanceInUse, "a session was put on it; the machine starts"},
		{InstanceAvailable, InstanceInUse, "a session was put on it"},
		{InstanceInUse, InstanceAvailable, "its last session is over (multi-session)"},
		{InstanceInUse, InstanceDraining, "DrainSessionInstance, a newer image of the fleet, or a session that could not be cleared"},
		{InstanceDeleting, "", "the machine is gone"},
	}
	for _, from := range []string{InstancePending, InstancePrepared, InstanceAvailable, InstanceInUse, InstanceDraining} {
		table = append(table, Transition{from, InstanceDeleting, "its sessions are over, the machine failed, or the fleet has no use for it"})
	}
	return table
}()

// InstanceName is the name of an instance's record: names of one fleet have the prefix InstancePrefix(fleet).
func InstanceName(fleet, id string) string { return InstancePrefix(fleet) + id }

// InstancePrefix is what the names of a fleet's instances begin with.
func InstancePrefix(fleet string) string { return fleet + "/" }

// Enter moves the instance to a state, with the deadline that the state has.
func (i *Instance) Enter(state string, now time.Time) {
	i.Meta.Enter(state, now, instanceDeadlines[state])
	i.SilentSince = time.Time{}
}

// Multi tells whether several people may use the instance.
func (i *Instance) Multi() bool { return i.Max > 0 }

// Room is how many more sessions may be put on the instance now.
func (i *Instance) Room() int {
	switch {
	case i.Tainted:
		return 0
	case i.State == InstancePrepared || i.State == InstanceAvailable:
		return max(i.Max, 1)
	case i.State == InstanceInUse:
		return max(i.Max-len(i.Sessions), 0)
	}
	return 0
}

// Seat puts a session on the instance. There must be room.
func (i *Instance) Seat(session string, now time.Time) {
	i.Sessions = append(slices.Clone(i.Sessions), session)
	if i.State != InstanceInUse {
		i.Enter(InstanceInUse, now)
	}
}

// DrainStatus is what the API says of the instance in its sessions.
func (i *Instance) DrainStatus() types.InstanceDrainStatus {
	switch {
	case !i.Multi():
		return types.InstanceDrainStatusNotApplicable
	case i.State == InstanceDraining:
		return types.InstanceDrainStatusDraining
	}
	return types.InstanceDrainStatusActive
}
