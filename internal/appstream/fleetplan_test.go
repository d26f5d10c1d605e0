package appstream

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func fleet(state string, desired int, edit ...func(*Fleet)) Fleet {
	f := Fleet{Meta: Meta{Key: Key{"123456789012", "us-east-1", NounFleet, "lab"}, ID: "fleet-1", Version: 1, State: state, Since: t0}, ImageRef: "ref", Desired: desired}
	f.View = types.Fleet{FleetType: types.FleetTypeAlwaysOn, InstanceType: new("stream.standard.small"), ImageArn: new("arn:aws:appstream:us-east-1::image/base")}
	for _, fn := range edit {
		fn(&f)
	}
	return f
}

func onDemand(f *Fleet) { f.View.FleetType = types.FleetTypeOnDemand }
func of(max int) func(*Fleet) {
	return func(f *Fleet) { f.View.MaxSessionsPerInstance = new(int32(max)) }
}

// instance makes one as the fleet would.
func instance(f Fleet, id, state string, edit ...func(*Instance)) Instance {
	i := f.NewInstance(id, "11-21-2026", InstanceTypes(), t0)
	i.Version = 1
	i.Enter(state, t0)
	i.Started = state == InstanceAvailable || state == InstanceInUse || state == InstanceDraining
	for _, fn := range edit {
		fn(&i)
	}
	return i
}

func with(sessions ...string) func(*Instance) {
	return func(i *Instance) { i.Sessions = sessions }
}

func session(f Fleet, id, state string, edit ...func(*Session)) Session {
	s := Session{Meta: Meta{Key: Key{f.Account, f.Region, NounSession, SessionName(f.Name, "ada", id)}, ID: id, Version: 1, State: state, Since: t0, Created: t0},
		Fleet: f.Name, FleetID: f.ID, UserID: "ada", InstanceID: "i-1", AwayTimeout: 20 * time.Minute, MaxEnd: t0.Add(2 * time.Hour), Away: t0}
	if state == SessionPending {
		s.EnterPending(t0)
	}
	if state == SessionExpired {
		s.State = SessionActive
		s.End(EndByUser, t0)
	}
	for _, fn := range edit {
		fn(&s)
	}
	return s
}

// also says what a decision does to other records.
func also(list []Also) []string {
	var out []string
	for _, a := range list {
		h := a.Record.Head()
		out = append(out, fmt.Sprintf("%s %s→%s", h.Noun, a.From, h.State))
	}
	slices.Sort(out)
	return out
}

var (
	runs  = Machine{ID: "i-1", Phase: MachineRunning, IPv4: "10.0.0.2", IPv6: []string{"fd00::2"}, ENI: "eni-0123456789abcdef0", AgentVersion: "11-21-2026"}
	halts = Machine{ID: "i-1", Phase: MachineStopped, AgentVersion: "11-21-2026"}
	able  = Agent{Answers: true, Ready: true}
)

// A fleet whose instance type was taken out of the configuration says so, and makes no machine of no size.
func TestFleetWithoutItsType(t *testing.T) {
	f := fleet(FleetStarting, 2, func(f *Fleet) { f.View.InstanceType = new("stream.once.small") })
	d := PlanFleet(FleetSnapshot{Fleet: f, Sizes: InstanceTypes(), Agent: "11-21-2026", IDs: newIDs(FleetBatch)}, t0)
	if errs := d.Next.View.FleetErrors; len(d.Also) > 0 || len(errs) != 1 || !strings.Contains(*errs[0].ErrorMessage, "stream.once.small") || d.Again.IsZero() {
		t.Errorf("it makes %v and says %+v; it looks again at %s", also(d.Also), errs, d.Again)
	}
}

// A fleet that has what it shall have has nothing to complain of, even if that is because it shall have less.
func TestFleetThatWantsNoMore(t *testing.T) {
	f := fleet(FleetRunning, 1, func(f *Fleet) {
		f.Failures, f.Retry, f.View.FleetErrors = 3, t0.Add(time.Minute), addFleetError(nil, "", "it failed")
	})
	s := FleetSnapshot{Fleet: f, Sizes: InstanceTypes(), Agent: "11-21-2026", IDs: newIDs(FleetBatch)}
	if d := PlanFleet(s, t0); len(d.Next.View.FleetErrors) != 1 || d.Next.Failures != 3 {
		t.Errorf("without an instance: %d errors, %d failures", len(d.Next.View.FleetErrors), d.Next.Failures)
	}
	s.Instances = []Instance{instance(f, "i-1", InstanceInUse, with("s1"))}
	if d := PlanFleet(s, t0); len(d.Next.View.FleetErrors) != 0 || d.Next.Failures != 0 {
		t.Errorf("with the one that it shall have: %d errors, %d failures", len(d.Next.View.FleetErrors), d.Next.Failures)
	}
}

func TestPlanInstance(t *testing.T) {
	f := fleet(FleetRunning, 1)
	ill := fleet(FleetStarting, 1, func(f *Fleet) { f.Failures = 3 })
	demand := fleet(FleetRunning, 1, onDemand)
	multi := fleet(FleetRunning, 1, of(2))
	lasting := func(i *Instance) {
		i.Problem = &Problem{Code: "SUBNET_NOT_FOUND", Message: "no such subnet", Lasting: true}
	}
	silentSince := func(i *Instance) { i.SilentSince = t0 }
	active := session(f, "s1", SessionActive)
	for name, test := range map[string]struct {
		snapshot InstanceSnapshot
		after    time.Duration
		state    string
		do       []string
		also     []string
		remove   bool
	}{
		"a new one gets a machine":              {InstanceSnapshot{Instance: instance(f, "i-1", InstancePending), Fleet: &f}, 0, InstancePending, []string{"EnsureRunning"}, nil, false},
		"a starting machine is waited for":      {InstanceSnapshot{Instance: instance(f, "i-1", InstancePending), Fleet: &f, Machine: runs}, 0, InstancePending, nil, nil, false},
		"a ready one is AVAILABLE":              {InstanceSnapshot{Instance: instance(f, "i-1", InstancePending), Fleet: &f, Machine: runs, Agent: able}, 0, InstanceAvailable, nil, nil, false},
		"a ready one heals its fleet":           {InstanceSnapshot{Instance: instance(f, "i-1", InstancePending), Fleet: &ill, Machine: runs, Agent: able}, 0, InstanceAvailable, nil, []string{"fleet STARTING→STARTING"}, false},
		"ON_DEMAND is made":                     {InstanceSnapshot{Instance: instance(demand, "i-1", InstancePending), Fleet: &demand}, 0, InstancePending, []string{"EnsureMade"}, nil, false},
		"ON_DEMAND is PREPARED":                 {InstanceSnapshot{Instance: instance(demand, "i-1", InstancePending), Fleet: &demand, Machine: halts}, 0, InstancePrepared, nil, nil, false},
		"PREPARED keeps its machine down":       {InstanceSnapshot{Instance: instance(demand, "i-1", InstancePrepared), Fleet: &demand, Machine: runs}, 0, InstancePrepared, []string{"EnsureStopped"}, nil, false},
		"a session starts it":                   {InstanceSnapshot{Instance: instance(demand, "i-1", InstanceInUse, with("s1"), func(i *Instance) { i.Started = false }), Fleet: &demand, Machine: halts, Sessions: []Session{active}}, 0, InstanceInUse, []string{"EnsureRunning"}, nil, false},
		"a machine that cannot be started":      {InstanceSnapshot{Instance: instance(demand, "i-1", InstanceInUse, with("s1"), lasting, func(i *Instance) { i.Started = false }), Fleet: &demand, Machine: halts, Sessions: []Session{active}}, 0, InstanceDeleting, nil, []string{"fleet RUNNING→RUNNING", "session ACTIVE→EXPIRED"}, false},
		"a fault gives it up and is told":       {InstanceSnapshot{Instance: instance(f, "i-1", InstancePending, lasting), Fleet: &f}, 0, InstanceDeleting, nil, []string{"fleet RUNNING→RUNNING"}, false},
		"too long gives it up and is told":      {InstanceSnapshot{Instance: instance(f, "i-1", InstancePending), Fleet: &f, Machine: runs}, 11 * time.Minute, InstanceDeleting, nil, []string{"fleet RUNNING→RUNNING"}, false},
		"says what is wrong":                    {InstanceSnapshot{Instance: instance(f, "i-1", InstancePending), Fleet: &f, Machine: runs, Agent: Agent{Answers: true, Problem: "no display"}}, hopeless - 1, InstancePending, nil, nil, false},
		"goes on saying what is wrong":          {InstanceSnapshot{Instance: instance(f, "i-1", InstancePending), Fleet: &f, Machine: runs, Agent: Agent{Answers: true, Problem: "no display"}}, hopeless, InstanceDeleting, nil, []string{"fleet RUNNING→RUNNING"}, false},
		"ready, and something was wrong":        {InstanceSnapshot{Instance: instance(f, "i-1", InstancePending), Fleet: &f, Machine: runs, Agent: Agent{Answers: true, Ready: true, Problem: "a display ended"}}, hopeless, InstanceAvailable, nil, nil, false},
		"ended while starting":                  {InstanceSnapshot{Instance: instance(f, "i-1", InstancePending, func(i *Instance) { i.Started = true }), Fleet: &f, Machine: halts}, 0, InstanceDeleting, nil, []string{"fleet RUNNING→RUNNING"}, false},
		"AVAILABLE stays":                       {InstanceSnapshot{Instance: instance(f, "i-1", InstanceAvailable), Fleet: &f, Machine: runs, Agent: able}, 1000 * time.Hour, InstanceAvailable, nil, nil, false},
		"a machine that ended":                  {InstanceSnapshot{Instance: instance(f, "i-1", InstanceAvailable), Fleet: &f, Machine: halts}, youngTime, InstanceDeleting, nil, nil, false},
		"a machine that ended young":            {InstanceSnapshot{Instance: instance(f, "i-1", InstanceAvailable), Fleet: &f, Machine: halts}, youngTime - 1, InstanceDeleting, nil, []string{"fleet RUNNING→RUNNING"}, false},
		"a machine that ended under a session":  {InstanceSnapshot{Instance: instance(f, "i-1", InstanceInUse, with("s1")), Fleet: &f, Machine: halts, Sessions: []Session{active}}, 0, InstanceDeleting, nil, []string{"session ACTIVE→EXPIRED"}, false},
		"a machine that vanished":               {InstanceSnapshot{Instance: instance(f, "i-1", InstanceInUse, with("s1")), Fleet: &f, Sessions: []Session{active}}, 0, InstanceDeleting, nil, []string{"session ACTIVE→EXPIRED"}, false},
		"a silent agent is given time":          {InstanceSnapshot{Instance: instance(f, "i-1", InstanceAvailable), Fleet: &f, Machine: runs}, 0, InstanceAvailable, nil, nil, false},
		"an agent silent for a while":           {InstanceSnapshot{Instance: instance(f, "i-1", InstanceAvailable, silentSince), Fleet: &f, Machine: runs}, instanceSilence - 1, InstanceAvailable, nil, nil, false},
		"an agent silent for too long":          {InstanceSnapshot{Instance: instance(f, "i-1", InstanceAvailable, silentSince), Fleet: &f, Machine: runs}, instanceSilence, InstanceDeleting, nil, nil, false},
		"the one session is over":               {InstanceSnapshot{Instance: instance(f, "i-1", InstanceInUse), Fleet: &f, Machine: runs, Agent: able}, 0, InstanceDeleting, nil, nil, false},
		"the last of several sessions is over":  {InstanceSnapshot{Instance: instance(multi, "i-1", InstanceInUse), Fleet: &multi, Machine: runs, Agent: able}, 0, InstanceAvailable, nil, nil, false},
		"the last session of a draining one":    {InstanceSnapshot{Instance: instance(multi, "i-1", InstanceDraining), Fleet: &multi, Machine: runs, Agent: able}, 0, InstanceDeleting, nil, nil, false},
		"a session that is gone holds no seat":  {InstanceSnapshot{Instance: instance(multi, "i-1", InstanceInUse, with("s1", "gone")), Fleet: &multi, Machine: runs, Agent: able, Sessions: []Session{active}}, 0, InstanceInUse, nil, nil, false},
		"without its fleet":                     {InstanceSnapshot{Instance: instance(f, "i-1", InstanceAvailable), Machine: runs, Agent: able}, 0, InstanceDeleting, nil, nil, false},
		"PENDING without its fleet":             {InstanceSnapshot{Instance: instance(f, "i-1", InstancePending)}, 0, InstanceDeleting, nil, nil, false},
		"DELETING removes the machine":          {InstanceSnapshot{Instance: instance(f, "i-1", InstanceDeleting), Fleet: &f, Machine: runs}, 0, InstanceDeleting, []string{"EnsureGone"}, nil, false},
		"DELETING without a machine ends":       {InstanceSnapshot{Instance: instance(f, "i-1", InstanceDeleting), Fleet: &f}, 0, InstanceDeleting, []string{"EnsureGone"}, nil, true},
		"DELETING ends what came in the moment": {InstanceSnapshot{Instance: instance(f, "i-1", InstanceDeleting, with("s1")), Fleet: &f, Machine: runs, Sessions: []Session{active}}, 0, InstanceDeleting, []string{"EnsureGone"}, []string{"session ACTIVE→EXPIRED"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := PlanInstance(test.snapshot, t0.Add(test.after))
			if d.Next.State != test.state || d.Remove != test.remove {
				t.Errorf("state %s, remove %v; want %s, %v (why: %s)", d.Next.State, d.Remove, test.state, test.remove, d.Why)
			}
			if diff := cmp.Diff(test.do, verbs(d.Do)); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.also, also(d.Also)); diff != "" {
				t.Errorf("other records (-want +got):\n%s", diff)
			}
			if d.Next.State != test.snapshot.Instance.State && (d.Why == "" || len(d.Wake) == 0) {
				t.Error("a change of state without a reason, or that its fleet does not hear of")
			}
			if !test.remove && d.Next.State != InstanceDeleting && len(d.Next.Sessions) != len(test.snapshot.Sessions) {
				t.Errorf("the sessions %v are on it, and %d there are", d.Next.Sessions, len(test.snapshot.Sessions))
			}
		})
	}
}

// A machine that was started by a pass which could not note it is not started again when it ends: what people left is on it.
func TestMachineStartedUnnoted(t *testing.T) {
	f := fleet(FleetRunning, 2, of(2), onDemand)
	i := instance(f, "i-1", InstanceInUse, with("s1"), func(i *Instance) { i.Started = false })
	s := InstanceSnapshot{Instance: i, Fleet: &f, Machine: runs, Agent: able, Sessions: []Session{session(f, "s1", SessionActive)}}
	s.Instance = PlanInstance(s, t0).Next
	s.Machine, s.Agent = halts, Agent{}
	if d := PlanInstance(s, t0); d.Next.State != InstanceDeleting {
		t.Errorf("a machine that has ended makes its instance %s, and %v is done", d.Next.State, verbs(d.Do))
	}
}

func TestPlanSession(t *testing.T) {
	f, multi := fleet(FleetRunning, 1), fleet(FleetRunning, 1, of(2))
	i := instance(f, "i-1", InstanceInUse, with("s1"))
	shared := instance(multi, "i-1", InstanceInUse, with("s1", "s2"))
	going := instance(f, "i-1", InstanceDeleting, with("s1"))
	known := SeatStatus{Answers: true, Known: true}
	ready := SeatStatus{Answers: true, Known: true, Ready: true}
	empty := SeatStatus{Answers: true}
	connected := func(s *Session) { s.Connected, s.ConnectedOnce = true, true }
	left := func(s *Session) { s.ConnectedOnce = true }
	clear := func(s *Session) { s.clear(t0) }
	told := func(s *Session) { s.Unseated = true }
	for name, test := range map[string]struct {
		snapshot SessionSnapshot
		after    time.Duration
		state    string
		end      EndCode
		cleared  bool
		do       []string
		also     []string
		remove   bool
	}{
		"waits for its machine":               {seen(session(f, "s1", SessionPending), &i, halts, SeatStatus{}), 0, SessionPending, "", false, nil, nil, false},
		"takes its seat":                      {seen(session(f, "s1", SessionPending), &i, runs, empty), 0, SessionPending, "", false, []string{"EnsureSeated"}, nil, false},
		"waits for its desktop":               {seen(session(f, "s1", SessionPending), &i, runs, known), 0, SessionPending, "", false, nil, nil, false},
		"its desktop is there":                {seen(session(f, "s1", SessionPending), &i, runs, ready), 0, SessionActive, "", false, nil, nil, false},
		"its desktop is there at last":        {seen(session(f, "s1", SessionPending), &i, runs, ready), 6 * time.Minute, SessionActive, "", false, nil, nil, false},
		"its desktop does not come":           {seen(session(f, "s1", SessionPending), &i, runs, known), 5 * time.Minute, SessionExpired, EndNotStarted, false, nil, nil, false},
		"its machine takes long to start":     {seen(session(f, "s1", SessionPending), &i, Machine{Phase: MachineRunning, NextChange: t0.Add(time.Hour)}, SeatStatus{}), 5 * time.Minute, SessionPending, "", false, nil, nil, false},
		"PENDING and its instance is going":   {seen(session(f, "s1", SessionPending), &going, Machine{}, SeatStatus{}), 0, SessionExpired, EndInstanceLost, false, nil, nil, false},
		"its instance is gone":                {seen(session(f, "s1", SessionActive), nil, Machine{}, SeatStatus{}), 0, SessionExpired, EndInstanceLost, false, nil, nil, false},
		"its instance does not know it":       {seen(session(f, "s1", SessionActive), &i, runs, empty), 0, SessionExpired, EndInstanceLost, false, nil, nil, false},
		"never connected, not yet over":       {seen(session(f, "s1", SessionActive), &i, runs, ready), connectTime - 1, SessionActive, "", false, nil, nil, false},
		"never connected":                     {seen(session(f, "s1", SessionActive), &i, runs, ready), connectTime, SessionExpired, EndAway, false, nil, nil, false},
		"away, not yet over":                  {seen(session(f, "s1", SessionActive, left), &i, runs, ready), 20*time.Minute - 1, SessionActive, "", false, nil, nil, false},
		"away for too long":                   {seen(session(f, "s1", SessionActive, left), &i, runs, ready), 20 * time.Minute, SessionExpired, EndAway, false, nil, nil, false},
		"connected":                           {seen(session(f, "s1", SessionActive, connected), &i, runs, ready), 2*time.Hour - 1, SessionActive, "", false, nil, nil, false},
		"connected for the longest time":      {seen(session(f, "s1", SessionActive, connected), &i, runs, ready), 2 * time.Hour, SessionExpired, EndDuration, false, nil, nil, false},
		"over: ends on its instance":          {seen(session(f, "s1", SessionExpired), &i, runs, ready), 0, SessionExpired, EndByUser, false, []string{"EnsureUnseated"}, nil, false},
		"over: its scripts run":               {seen(session(f, "s1", SessionExpired), &i, runs, known), 30 * time.Second, SessionExpired, EndByUser, false, []string{"EnsureUnseated"}, nil, false},
		"over: not there, or not yet":         {seen(session(f, "s1", SessionExpired), &i, runs, empty), 0, SessionExpired, EndByUser, false, []string{"EnsureUnseated"}, nil, false},
		"over: the instance goes too":         {seen(session(f, "s1", SessionExpired, told), &i, runs, empty), 0, SessionExpired, EndByUser, true, []string{"EnsureScriptLogsKept"}, []string{"instance IN_USE→DELETING"}, false},
		"over: others stay":                   {seen(session(multi, "s1", SessionExpired, told), &shared, runs, empty), 0, SessionExpired, EndByUser, true, []string{"EnsureScriptLogsKept"}, []string{"instance IN_USE→IN_USE"}, false},
		"over: cannot be cleared":             {seen(session(multi, "s1", SessionExpired), &shared, runs, known), sessionClearTime, SessionExpired, EndByUser, true, nil, []string{"instance IN_USE→DRAINING"}, false},
		"over: an agent that does not answer": {seen(session(f, "s1", SessionExpired), &i, runs, SeatStatus{}), sessionClearTime, SessionExpired, EndByUser, true, nil, []string{"instance IN_USE→DELETING"}, false},
		"over: with its instance":             {seen(session(f, "s1", SessionExpired), nil, Machine{}, SeatStatus{}), 0, SessionExpired, EndByUser, true, nil, nil, false},
		"over: remembered":                    {seen(session(f, "s1", SessionExpired, clear), &i, runs, empty), sessionMemory - 1, SessionExpired, EndByUser, true, nil, nil, false},
		"over: forgotten":                     {seen(session(f, "s1", SessionExpired, clear), &i, runs, empty), sessionMemory, SessionExpired, EndByUser, true, nil, nil, true},
		"over before its machine was started": {seen(session(f, "s1", SessionExpired), &i, halts, SeatStatus{}), 0, SessionExpired, EndByUser, true, nil, []string{"instance IN_USE→DELETING"}, false},
		"over while its machine is starting":  {seen(session(f, "s1", SessionExpired), &i, Machine{Phase: MachineStopped, NextChange: t0.Add(time.Second)}, SeatStatus{}), 0, SessionExpired, EndByUser, false, []string{"EnsureUnseated"}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := PlanSession(test.snapshot, t0.Add(test.after))
			if d.Next.State == SessionExpired && d.Next.Connected {
				t.Error("a session that is over counts as connected")
			}
			if d.Next.State != test.state || d.Remove != test.remove || d.Next.EndCode != test.end || d.Next.Cleared != test.cleared {
				t.Errorf("state %s %q, cleared %v, remove %v; want %s %q, %v, %v (why: %s)", d.Next.State, d.Next.EndCode, d.Next.Cleared, d.Remove,
					test.state, test.end, test.cleared, test.remove, d.Why)
			}
			if diff := cmp.Diff(test.do, verbs(d.Do)); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.also, also(d.Also)); diff != "" {
				t.Errorf("other records (-want +got):\n%s", diff)
			}
			if d.Again.IsZero() && !d.Remove {
				t.Error("nobody will look at it again")
			}
		})
	}
}

// What goes wrong beside a session is kept for its person, also what is only known later.
func TestSessionNotes(t *testing.T) {
	f := fleet(FleetRunning, 1)
	i := instance(f, "i-1", InstanceInUse, with("s1"))
	seat := SeatStatus{Answers: true, Known: true, Ready: true, Notes: []string{"a script failed"}}
	d := PlanSession(seen(session(f, "s1", SessionPending), &i, runs, seat), t0)
	if d.Next.State != SessionActive || !slices.Equal(d.Next.Notes, seat.Notes) {
		t.Errorf("%s, %q", d.Next.State, d.Next.Notes)
	}
	seat.Notes = append(seat.Notes, "no such application")
	if d = PlanSession(seen(d.Next, &i, runs, seat), t0); !slices.Equal(d.Next.Notes, seat.Notes) {
		t.Errorf("later: %q", d.Next.Notes)
	}
	if d = PlanSession(seen(d.Next, &i, runs, SeatStatus{}), t0); !slices.Equal(d.Next.Notes, seat.Notes) {
		t.Errorf("from a silent agent: %q", d.Next.Notes)
	}
}

func TestPlanFleet(t *testing.T) {
	f, multi := fleet(FleetRunning, 2), fleet(FleetRunning, 2, of(2))
	old := func(i *Instance) { i.Spec.ImageRef = "an earlier one" }
	free := func(id string, edit ...func(*Instance)) Instance { return instance(f, id, InstanceAvailable, edit...) }
	many := func(n int, make func(id string) Instance) (list []Instance) {
		for k := range n {
			list = append(list, make(fmt.Sprint("i-", k)))
		}
		return list
	}
	made, gone := "instance →PENDING", "instance AVAILABLE→DELETING"
	typeless := func(f *Fleet) { f.View.InstanceType = new("stream.once.small") }
	failing := func(retry time.Duration) func(*Fleet) {
		return func(f *Fleet) { f.Failures, f.Retry = 2, t0.Add(retry) }
	}
	for name, test := range map[string]struct {
		fleet     Fleet
		instances []Instance
		sessions  []Session
		state     string
		also      []string
	}{
		"a starting one makes machines":             {fleet(FleetStarting, 2), nil, nil, FleetStarting, []string{made, made}},
		"not too many at a time":                    {fleet(FleetStarting, 100), nil, nil, FleetStarting, slices.Repeat([]string{made}, FleetBatch)},
		"those on their way count":                  {fleet(FleetStarting, 100), many(FleetBatch-1, func(id string) Instance { return instance(f, id, InstancePending) }), nil, FleetStarting, []string{made}},
		"the first one makes it RUNNING":            {fleet(FleetStarting, 2), []Instance{free("i-0"), instance(f, "i-1", InstancePending)}, nil, FleetRunning, nil},
		"one that wants none is RUNNING":            {fleet(FleetStarting, 0), nil, nil, FleetRunning, nil},
		"enough":                                    {f, many(2, func(id string) Instance { return free(id) }), nil, FleetRunning, nil},
		"a used one counts":                         {f, []Instance{free("i-0"), instance(f, "i-1", InstanceInUse, with("s1"))}, nil, FleetRunning, nil},
		"one that is going does not":                {f, []Instance{free("i-0"), instance(f, "i-1", InstanceDeleting)}, nil, FleetRunning, []string{made}},
		"a draining one does not":                   {multi, []Instance{instance(multi, "i-0", InstanceAvailable), instance(multi, "i-1", InstanceDraining, with("s1"))}, nil, FleetRunning, []string{made}},
		"too many":                                  {f, many(4, func(id string) Instance { return free(id) }), nil, FleetRunning, []string{gone, gone}},
		"too many: first those on their way":        {f, []Instance{free("i-0"), free("i-1"), instance(f, "i-2", InstancePending)}, nil, FleetRunning, []string{"instance PENDING→DELETING"}},
		"too many, all in use":                      {fleet(FleetRunning, 0), []Instance{instance(f, "i-0", InstanceInUse, with("s1"))}, nil, FleetRunning, nil},
		"failed: waits":                             {fleet(FleetStarting, 2, failing(time.Second)), nil, nil, FleetStarting, nil},
		"failed: tries one":                         {fleet(FleetStarting, 2, failing(0)), nil, nil, FleetStarting, []string{made}},
		"failed: tries one at a time":               {fleet(FleetStarting, 2, failing(0)), []Instance{instance(f, "i-0", InstancePending)}, nil, FleetStarting, nil},
		"changed: a spare one first":                {f, many(2, func(id string) Instance { return free(id, old) }), nil, FleetRunning, []string{made}},
		"changed: a fifth of them first":            {fleet(FleetRunning, 15), many(15, func(id string) Instance { return free(id, old) }), nil, FleetRunning, []string{made, made, made}},
		"changed: no more than there are old ones":  {fleet(FleetRunning, 15), append(many(14, func(id string) Instance { return instance(f, "u"+id, InstanceInUse, with("s"+id)) }), free("i-0", old)), nil, FleetRunning, []string{made}},
		"changed: and too few anyway":               {fleet(FleetRunning, 4), []Instance{free("i-0", old)}, nil, FleetRunning, []string{made, made, made}},
		"changed: made for the other type":          {f, many(2, func(id string) Instance { return free(id, func(i *Instance) { i.OnDemand = true }) }), nil, FleetRunning, []string{made}},
		"changed: then an old one goes":             {f, append(many(2, func(id string) Instance { return free(id, old) }), free("i-9")), nil, FleetRunning, []string{gone, made}},
		"changed: those on their way go at once":    {f, []Instance{instance(f, "i-0", InstancePending, old), free("i-1")}, nil, FleetRunning, []string{made, "instance PENDING→DELETING"}},
		"changed: a used one stays":                 {f, []Instance{instance(f, "i-0", InstanceInUse, with("s1"), old), free("i-1")}, nil, FleetRunning, nil},
		"changed: a shared one takes nobody else":   {multi, []Instance{instance(multi, "i-0", InstanceInUse, with("s1"), old), instance(multi, "i-1", InstanceAvailable)}, nil, FleetRunning, []string{made, "instance IN_USE→DRAINING"}},
		"a type that is gone: has what it has":      {fleet(FleetRunning, 3, typeless), many(2, func(id string) Instance { return free(id) }), nil, FleetRunning, nil},
		"stopping: sessions end, unused ones go":    {fleet(FleetStopping, 2), []Instance{free("i-0"), instance(f, "i-1", InstanceInUse, with("s1"))}, []Session{session(f, "s1", SessionActive)}, FleetStopping, []string{gone, "session ACTIVE→EXPIRED"}},
		"stopping: waits for what is being cleared": {fleet(FleetStopping, 2), []Instance{instance(f, "i-1", InstanceInUse, with("s1"))}, nil, FleetStopping, nil},
		"stopping: nothing is left":                 {fleet(FleetStopping, 2), nil, nil, FleetStopped, nil},
		"stopped":                                   {fleet(FleetStopped, 2), nil, nil, FleetStopped, nil},
	} {
		t.Run(name, func(t *testing.T) {
			d := PlanFleet(FleetSnapshot{Fleet: test.fleet, Instances: test.instances, Sessions: test.sessions, Sizes: InstanceTypes(), Agent: "11-21-2026", IDs: newIDs(FleetBatch)}, t0)
			if d.Next.State != test.state || len(d.Do) > 0 || d.Remove {
				t.Errorf("state %s, want %s; %v, %v (why: %s)", d.Next.State, test.state, d.Do, d.Remove, d.Why)
			}
			slices.Sort(test.also)
			if diff := cmp.Diff(test.also, also(d.Also)); diff != "" {
				t.Errorf("other records (-want +got):\n%s", diff)
			}
			if d.Next.State != test.fleet.State && d.Why == "" {
				t.Error("a change of state without a reason")
			}
		})
	}
}

var idCount int

func newIDs(n int) (ids []string) {
	for range n {
		idCount++
		ids = append(ids, fmt.Sprint("i-new-", idCount))
	}
	return ids
}

// From wherever a fleet is, its plan comes to what it shall have and then rests, and never takes an instance away from a session.
func TestFleetPlanConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := fleet(FleetRunning, rapid.IntRange(0, 25).Draw(t, "desired"))
		if rapid.Bool().Draw(t, "multi") {
			of(3)(&f)
		}
		world := map[string]Instance{}
		for n, state := range rapid.SliceOfN(rapid.SampledFrom([]string{InstancePending, InstanceAvailable, InstanceInUse, InstanceDraining, InstanceDeleting}), 0, 30).Draw(t, "states") {
			i := instance(f, fmt.Sprint("i-", n), state)
			if state == InstanceInUse || state == InstanceDraining {
				i.Sessions = []string{fmt.Sprint("s", n)}
			}
			if rapid.Bool().Draw(t, "old") {
				i.Spec.ImageRef = "an earlier one"
			}
			world[i.ID] = i
		}
		count := func() (c Capacity) {
			for _, i := range world {
				c.Count(&i)
			}
			return c
		}
		before := count()
		for pass := 0; ; pass++ {
			if pass > 200 {
				t.Fatalf("no rest after %d passes: %+v", pass, count())
			}
			var list []Instance
			for _, i := range world {
				list = append(list, i)
			}
			slices.SortFunc(list, func(a, b Instance) int { return len(a.ID) - len(b.ID) })
			d := PlanFleet(FleetSnapshot{Fleet: f, Instances: list, Sizes: InstanceTypes(), Agent: "11-21-2026", IDs: newIDs(FleetBatch)}, t0)
			for _, a := range d.Also {
				i := *a.Record.(*Instance)
				was, had := world[i.ID]
				if had && was.State != a.From || !had && a.From != "" {
					t.Fatalf("%s goes from %q, it is %q", i.ID, a.From, was.State)
				}
				if i.State == InstanceDeleting && len(i.Sessions) > 0 {
					t.Fatalf("%s is deleted under %v", i.ID, i.Sessions)
				}
				world[i.ID] = i
			}
			// The world goes on: one of those on their way arrives, those that are to go are gone.
			moved := len(d.Also) > 0
			for id, i := range world {
				switch i.State {
				case InstanceDeleting:
					delete(world, id)
					moved = true
				}
			}
			for id, i := range world {
				if i.State == InstancePending {
					i.Enter(InstanceAvailable, t0)
					world[id] = i
					moved = true
					break
				}
			}
			if c := count(); before.Available+before.InUse >= f.Desired && c.Available+c.InUse < min(f.Desired, before.Available+before.InUse) && !f.Multi() {
				t.Fatalf("on the way there are only %d of %d: %+v", c.Available+c.InUse, f.Desired, c)
			}
			if !moved {
				break
			}
		}
		c := count()
		if n := c.Available + c.InUse + c.Pending; n < f.Desired || n > f.Desired && c.Available > 0 {
			t.Fatalf("at rest there are %+v, there shall be %d", c, f.Desired)
		}
		for _, i := range world {
			if i.Spec.ImageRef != "ref" && len(i.Sessions) == 0 {
				t.Fatalf("%s is %s and still as the fleet was", i.ID, i.State)
			}
		}
	})
}

// seen is a snapshot of a session on a machine without licensed software.
func seen(session Session, i *Instance, m Machine, seat SeatStatus) SessionSnapshot {
	return SessionSnapshot{Session: session, Instance: i, Machine: m, Seat: seat}
}
