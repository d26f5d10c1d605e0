package appstream

import (
	"encoding/hex"
	"fmt"
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
	OnDemand       bool      // it is stopped while nobody uses it
	Max            int       // how many sessions it may have at a time; 0 for a single one that it is made for
	Sessions       []string  // IDs of the sessions that are on it; those that are EXPIRED and not yet cleared too
	Software       []string  `json:",omitempty"` // of the image that it is made of
	Started        bool      // the machine has been started: if it is stopped now, it has ended
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
		{"", InstanceInUse, "a session on an Elastic fleet that has no instance to spare; the machine is made"},
		{InstancePending, InstancePrepared, "the machine is made (ON_DEMAND, ELASTIC)"},
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

// InstanceID makes the ID of an instance, in the form of AWS's, of random bytes.
func InstanceID(random [9]byte) string { return "i-" + hex.EncodeToString(random[:])[:17] }

// InstanceName is the name of an instance's record: names of one fleet have the prefix InstancePrefix(fleet).
func InstanceName(fleet, id string) string { return InstancePrefix(fleet) + id }

// InstancePrefix is what the names of a fleet's instances begin with.
func InstancePrefix(fleet string) string { return fleet + "/" }

// Enter moves the instance to a state, with the deadline that the state has.
func (i *Instance) Enter(state string, now time.Time) {
	i.Meta.Enter(state, now, instanceDeadlines[state])
}

// Multi tells whether several people may use the instance.
func (i *Instance) Multi() bool { return i.Max > 0 }

// Room is how many more sessions may be put on the instance now.
func (i *Instance) Room() int {
	switch {
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

// InstanceSnapshot is the world as PlanInstance sees it.
type InstanceSnapshot struct {
	Instance Instance
	Fleet    *Fleet    // nil when it is gone, or is another one of that name
	Sessions []Session // of Instance.Sessions, those that there still are
	Machine  Machine
	Agent    Agent
}

// PlanInstance decides the next step of an instance. It is pure. How many instances there shall be is for PlanFleet.
func PlanInstance(s InstanceSnapshot, now time.Time) Decision[Instance] {
	i := s.Instance
	switch i.State {
	case InstancePending:
		return planPendingInstance(s, now)
	case InstanceDeleting:
		d := Decision[Instance]{Next: i, Do: []Action{EnsureGone{i.ID}}, Wake: i.fleetKey(), Why: "the machine is gone", Also: s.endSessions(now)}
		switch {
		case s.Machine.Phase == MachineAbsent: // once more even when nothing is seen: what an interrupted pass left behind goes too
			d.Remove = true
		default:
			d.Again = soon(s.Machine, now)
		}
		return d
	}
	switch {
	case s.Fleet == nil:
		return discard(s, now, "its fleet is gone")
	case s.Machine.Phase == MachineAbsent && !(i.State == InstanceInUse && i.OnDemand && !i.Started):
		return s.lost("its machine vanished", now)
	}
	if i.State == InstancePrepared {
		if s.Machine.Phase == MachineRunning { // someone started it behind our back
			return Decision[Instance]{Next: i, Do: []Action{EnsureStopped{i.ID}}, Again: soon(s.Machine, now)}
		}
		return Decision[Instance]{Next: i}
	}
	if s.Machine.Phase != MachineRunning { // one that was never started may still have to be made
		switch p := i.Problem; {
		case i.Started:
			return s.lost("its machine ended", now)
		case p != nil && p.Lasting: // its person would wait for nothing
			return s.failed(p.Code, p.Message, now)
		}
		i.Started = true
		return Decision[Instance]{Next: i, Do: []Action{EnsureRunning{i.Spec}}, Again: now, Wake: s.sessionKeys()}
	}
	i.Started = true                        // whoever started it: a pass may have ended before it could note that
	if len(s.Sessions) != len(i.Sessions) { // a session that is no longer there holds no seat
		i.Sessions = nil
		for _, session := range s.Sessions {
			i.Sessions = append(i.Sessions, session.ID)
		}
		return Decision[Instance]{Next: i, Again: now}
	}
	if i.State != InstanceAvailable && len(i.Sessions) == 0 {
		if !i.Multi() || i.State == InstanceDraining {
			return discard(s, now, "its sessions are over")
		}
		i.Enter(InstanceAvailable, now)
		return Decision[Instance]{Next: i, Wake: i.fleetKey(), Why: "its last session is over"}
	}
	return planUsedInstance(i, s, now)
}

// planUsedInstance looks after a machine that runs.
func planUsedInstance(i Instance, s InstanceSnapshot, now time.Time) Decision[Instance] {
	d := Decision[Instance]{Next: i}
	switch {
	case s.Agent.Answers:
		d.Next.SilentSince = time.Time{}
	case s.Machine.NextChange.After(now): // it is still starting
		d.Again = s.Machine.NextChange
		return d
	case i.SilentSince.IsZero():
		d.Next.SilentSince, d.Again = now, now.Add(instanceSilence)
	case now.Sub(i.SilentSince) < instanceSilence:
		d.Again = i.SilentSince.Add(instanceSilence)
	default:
		return discard(s, now, "its agent has not answered for "+instanceSilence.String())
	}
	return d
}

// instanceSilence is how long an agent may not answer until its instance is given up. A machine that was just started is given as long.
const instanceSilence = time.Minute

// hopeless is how long an agent may say what keeps its instance from being ready until that is believed.
const hopeless = time.Minute

func planPendingInstance(s InstanceSnapshot, now time.Time) Decision[Instance] {
	i, m := s.Instance, s.Machine
	ready := func(state, why string) Decision[Instance] {
		d := Decision[Instance]{Next: i, Wake: i.fleetKey(), Why: why}
		d.Next.Enter(state, now)
		if f := s.Fleet; f.Failures > 0 || len(f.View.FleetErrors) > 0 {
			healed := *f
			healed.Failures, healed.Due = 0, now
			if f.Young == 0 { // else it has yet to last
				healed.Retry, healed.View.FleetErrors = time.Time{}, nil
			}
			d.Also = []Also{{Record: &healed, From: healed.State}}
		}
		return d
	}
	switch p := i.Problem; {
	case s.Fleet == nil:
		return discard(s, now, "its fleet is gone")
	case p != nil && p.Lasting:
		return s.failed(p.Code, p.Message, now)
	case i.Overdue(now) && !m.NextChange.After(now):
		return s.failed("", "An instance was not ready within "+instanceDeadlines[InstancePending].String()+"."+lastWords(p, s.Agent), now)
	case s.Agent.Answers && !s.Agent.Ready && s.Agent.Problem != "" && now.Sub(i.Since) >= hopeless:
		return s.failed("", "An instance does not get ready: "+s.Agent.Problem, now)
	case i.OnDemand && m.Phase == MachineAbsent:
		return Decision[Instance]{Next: i, Do: []Action{EnsureMade{i.Spec}}, Again: soon(m, now)}
	case i.OnDemand && m.NextChange.After(now):
		return Decision[Instance]{Next: i, Again: m.NextChange}
	case i.OnDemand && m.Phase == MachineStopped:
		return ready(InstancePrepared, "the machine is made")
	case i.OnDemand: // someone started it behind our back
		return Decision[Instance]{Next: i, Do: []Action{EnsureStopped{i.ID}}, Again: soon(m, now)}
	case m.Phase == MachineRunning && s.Agent.Ready:
		i.Started = true
		return ready(InstanceAvailable, "the machine runs and is ready for a session")
	case m.Phase == MachineRunning:
		d := Decision[Instance]{Next: i, Again: m.NextChange}
		if d.Again.IsZero() {
			d.Again = now.Add(pollAfter(now.Sub(i.Since)))
		}
		return d
	case i.Started && m.Phase == MachineStopped:
		return s.failed("", "An instance ended while it was starting."+lastWords(nil, s.Agent), now)
	}
	i.Started = true
	return Decision[Instance]{Next: i, Do: []Action{EnsureRunning{i.Spec}}, Again: now}
}

// lost gives up an instance whose machine is gone. If it had just become ready, its fleet is told: the next one may do the same.
func (s InstanceSnapshot) lost(why string, now time.Time) Decision[Instance] {
	if s.Instance.State != InstanceAvailable || s.Instance.OnDemand || now.Sub(s.Instance.Since) >= youngTime {
		return discard(s, now, why)
	}
	return s.blame(0, 1, "", fmt.Sprintf("An instance was given up less than %s after it was ready: %s.", youngTime, why), now)
}

// failed gives up an instance that cannot be had, and tells its fleet.
func (s InstanceSnapshot) failed(code, message string, now time.Time) Decision[Instance] {
	return s.blame(1, 0, code, message, now)
}

// blame gives up an instance and counts that against its fleet, which waits longer with each until it makes another.
func (s InstanceSnapshot) blame(failures, young int, code, message string, now time.Time) Decision[Instance] {
	d := discard(s, now, message)
	worse := *s.Fleet
	worse.Failures, worse.Young = worse.Failures+failures, worse.Young+young
	worse.Retry = now.Add(fleetBackoff(worse.Failures + worse.Young))
	worse.View.FleetErrors = addFleetError(worse.View.FleetErrors, code, message)
	worse.Due = now
	d.Also = append(d.Also, Also{Record: &worse, From: worse.State})
	return d
}

// discard gives an instance up, and with it the sessions that are on it.
func discard(s InstanceSnapshot, now time.Time, why string) Decision[Instance] {
	i := s.Instance
	i.Enter(InstanceDeleting, now)
	return Decision[Instance]{Next: i, Again: now, Wake: i.fleetKey(), Also: s.endSessions(now), Why: why}
}

// endSessions ends what is on an instance that is going: there is nothing to be cleared on it any more.
func (s *InstanceSnapshot) endSessions(now time.Time) []Also {
	var also []Also
	for _, session := range s.Sessions {
		if session.Cleared {
			continue
		}
		from := session.State
		if from != SessionExpired {
			session.End(EndInstanceLost, now)
		}
		session.clear(now)
		also = append(also, Also{Record: &session, From: from, Why: "its instance is gone"})
	}
	return also
}

func (s *InstanceSnapshot) sessionKeys() []Key {
	keys := make([]Key, len(s.Sessions))
	for n := range s.Sessions {
		keys[n] = s.Sessions[n].Key
	}
	return keys
}

func (i *Instance) fleetKey() []Key {
	return []Key{{i.Account, i.Region, NounFleet, i.Fleet}}
}
