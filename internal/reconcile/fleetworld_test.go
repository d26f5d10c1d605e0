package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	appstreamapi "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/reconcile"
	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/ticket"
)

// crew are the agents of simulated machines. They outlive a server, as real ones do, and take note of what must never be: a second person
// on a machine that is for one, a person on a machine where another has been, more people than a machine is for.
type crew struct {
	*labour
	t  testing.TB
	w  *world
	mu sync.Mutex

	seats map[string]map[string]time.Time // instance → session → since when
	ever  map[string]map[string]bool      // instance → everyone who was ever on it
	users map[string]string               // session → user

	silent  bool          // no agent answers
	stuck   bool          // sessions do not end
	scripts time.Duration // how long a session takes to end
	ending  map[string]time.Time
	ended   map[string]bool // sessions that cannot begin any more
	written string          // what scripts write; "": nobody can tell
	max     int
}

const desktopTime = 300 * time.Millisecond // from the beginning of a session to its desktop

// withCrew gives a world's machines such agents.
func withCrew(max int) func(*world) {
	return func(w *world) {
		c := &crew{t: w.t, w: w, max: max, seats: map[string]map[string]time.Time{}, ever: map[string]map[string]bool{}, users: map[string]string{}, ending: map[string]time.Time{}, ended: map[string]bool{}}
		c.labour = newLabour(c.up)
		w.agents = c
	}
}

var _ reconcile.Agents = (*crew)(nil)

// up tells whether a machine is there for its agent to answer.
func (c *crew) up(id string) bool {
	c.mu.Lock()
	silent := c.silent
	c.mu.Unlock()
	m, err := c.w.provider.Observe(context.Background(), id)
	return !silent && err == nil && m.Phase == appstream.MachineRunning && m.NextChange.IsZero()
}

func (c *crew) Status(_ context.Context, id string, _ time.Duration) appstream.Agent {
	if !c.up(id) {
		c.forget(id)
		return appstream.Agent{Problem: "no answer"}
	}
	return appstream.Agent{Answers: true, Ready: true}
}

func (c *crew) Seat(ctx context.Context, instance, session string, wait time.Duration) appstream.SeatStatus {
	up := c.up(instance)
	c.mu.Lock()
	since, known := c.seats[instance][session]
	if end, ok := c.ending[session]; ok && !time.Now().Before(end) {
		delete(c.seats[instance], session)
		known = false
	}
	c.mu.Unlock()
	switch {
	case !up:
		return appstream.SeatStatus{Problem: "no answer"}
	case !known:
		return appstream.SeatStatus{Answers: true}
	}
	select {
	case <-time.After(min(wait, max(0, time.Until(since.Add(desktopTime))))):
	case <-ctx.Done():
	}
	return appstream.SeatStatus{Answers: true, Known: true, Ready: !time.Now().Before(since.Add(desktopTime))}
}

func (c *crew) Begin(_ context.Context, instance string, seat appstream.Seat) error {
	if !c.up(instance) {
		return errors.New("no answer")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended[seat.Session] {
		return errors.New("the session has ended")
	}
	if c.seats[instance] == nil {
		c.seats[instance], c.ever[instance] = map[string]time.Time{}, map[string]bool{}
	}
	if _, ok := c.seats[instance][seat.Session]; ok {
		return nil
	}
	c.seats[instance][seat.Session], c.users[seat.Session] = time.Now(), seat.UserID
	c.ever[instance][seat.Session] = true
	if c.max == 1 && len(c.ever[instance]) > 1 {
		c.t.Errorf("%s meets on %s what is left of %s", seat.Session, instance, slices.Collect(maps.Keys(c.ever[instance])))
	}
	if len(c.seats[instance]) > c.max {
		c.t.Errorf("%d people are on %s, which is for %d", len(c.seats[instance]), instance, c.max)
	}
	return nil
}

func (c *crew) ScriptLogs(_ context.Context, instance, session string) ([]appstream.ScriptLog, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.written == "" {
		return nil, errors.New("no answer")
	}
	return []appstream.ScriptLog{{Event: "SessionStart", Number: 2, Text: []byte(c.written + " of " + c.users[session])}}, nil
}

func (c *crew) End(_ context.Context, instance, session string) error {
	up := c.up(instance)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !up || c.stuck {
		return errors.New("no answer")
	}
	c.ended[session] = true
	if c.scripts > 0 {
		if _, ok := c.ending[session]; !ok {
			c.ending[session] = time.Now().Add(c.scripts)
		}
		return nil
	}
	delete(c.seats[instance], session)
	return nil
}

// inFleets runs a test with a world in a bubble, whose machines are for max people at a time.
func inFleets(t *testing.T, max int, fn func(w *world, c *crew)) {
	in(t, func(w *world) { fn(w, w.agents.(*crew)) }, withCrew(max))
}

// fleet makes and starts a fleet that a stack of the same name is associated with. n is its DesiredInstances, or DesiredSessions if it is
// of several sessions an instance.
func (w *world) fleet(name string, kind types.FleetType, n, sessions int, change ...func(*appstreamapi.CreateFleetInput)) {
	w.t.Helper()
	in := &appstreamapi.CreateFleetInput{Name: &name, ImageName: aws.String("base"), InstanceType: aws.String("stream.standard.small"), FleetType: kind,
		ComputeCapacity: &types.ComputeCapacity{DesiredInstances: aws.Int32(int32(n))}}
	if sessions > 1 {
		in.MaxSessionsPerInstance, in.ComputeCapacity = aws.Int32(int32(sessions)), &types.ComputeCapacity{DesiredSessions: aws.Int32(int32(n))}
	}
	for _, fn := range change {
		fn(in)
	}
	_, err := w.svc.CreateFleet(w.ctx(), in)
	w.must(err)
	_, err = w.svc.CreateStack(w.ctx(), &appstreamapi.CreateStackInput{Name: &name})
	w.must(err)
	_, err = w.svc.AssociateFleet(w.ctx(), &appstreamapi.AssociateFleetInput{FleetName: &name, StackName: &name})
	w.must(err)
	w.must(w.startFleet(name))
}

func (w *world) startFleet(name string) error {
	_, err := w.svc.StartFleet(w.ctx(), &appstreamapi.StartFleetInput{Name: &name})
	return err
}

func (w *world) stopFleet(name string) error {
	_, err := w.svc.StopFleet(w.ctx(), &appstreamapi.StopFleetInput{Name: &name})
	return err
}

func (w *world) describeFleet(name string) *types.Fleet {
	w.t.Helper()
	out, err := w.svc.DescribeFleets(w.ctx(), &appstreamapi.DescribeFleetsInput{Names: []string{name}})
	w.must(err)
	return &out.Fleets[0]
}

// reachFleet waits for a fleet to be in a state with as many instances free.
func (w *world) reachFleet(name string, state types.FleetState, available int) time.Duration {
	w.t.Helper()
	return w.wait(fmt.Sprint(name, " → ", state, " with ", available, " available"), 2*time.Hour, func() bool {
		f := w.describeFleet(name)
		return f.State == state && int(*f.ComputeCapacityStatus.Available) == available
	})
}

// open opens a streaming URL of a fleet as a user.
func (w *world) open(fleet, user string) (appstream.Session, error) {
	w.t.Helper()
	var f appstream.Fleet
	w.must(w.store.View(w.ctx(), func(tx store.Tx) error {
		return tx.Get(appstream.Key{Account: caller.Account, Region: caller.Region, Noun: appstream.NounFleet, Name: fleet}, &f)
	}))
	session, _, err := w.svc.OpenSession(w.ctx(), ticket.Claims{Type: ticket.TypeEndUser, Account: caller.Account, Region: caller.Region,
		RecordID: f.ID, UserID: user, Fleet: fleet, Stack: fleet}, "")
	return session, err
}

// sit opens a session and waits for its desktop.
func (w *world) sit(fleet, user string) appstream.Session {
	w.t.Helper()
	session, err := w.open(fleet, user)
	w.must(err)
	w.reachSession(session.ID, appstream.SessionActive)
	return w.session(session.ID)
}

// session gives a session; one that is gone has the state "".
func (w *world) session(id string) appstream.Session {
	w.t.Helper()
	var session appstream.Session
	err := w.store.View(w.ctx(), func(tx store.Tx) error { return tx.Find(id, &session) })
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		w.t.Fatal(err)
	}
	return session
}

func (w *world) reachSession(id, state string) time.Duration {
	w.t.Helper()
	return w.wait(id+" → "+state, 48*time.Hour, func() bool { return w.session(id).State == state })
}

func (w *world) instances(fleet string) (list []appstream.Instance) {
	w.t.Helper()
	w.must(w.store.View(w.ctx(), func(tx store.Tx) (err error) {
		list, err = store.List[appstream.Instance](tx, store.Query{Noun: appstream.NounInstance, Prefix: appstream.InstancePrefix(fleet)})
		return err
	}))
	return list
}

func (w *world) sessions(fleet string) (list []appstream.Session) {
	w.t.Helper()
	w.must(w.store.View(w.ctx(), func(tx store.Tx) (err error) {
		list, err = store.List[appstream.Session](tx, store.Query{Noun: appstream.NounSession, Prefix: appstream.SessionPrefix(fleet, "")})
		return err
	}))
	return list
}

// checkSeats looks for what must never be, at any moment: a session without its instance or on two, an instance that counts sessions that
// it does not have or has more than it may, two sessions of one user.
func (w *world) checkSeats(fleet string) {
	w.t.Helper()
	var instances []appstream.Instance
	var sessions []appstream.Session
	w.must(w.store.View(w.ctx(), func(tx store.Tx) (err error) { // both in one moment
		if instances, err = store.List[appstream.Instance](tx, store.Query{Noun: appstream.NounInstance, Prefix: appstream.InstancePrefix(fleet)}); err != nil {
			return err
		}
		sessions, err = store.List[appstream.Session](tx, store.Query{Noun: appstream.NounSession, Prefix: appstream.SessionPrefix(fleet, "")})
		return err
	}))
	seats := map[string]string{}
	for _, i := range instances {
		if len(i.Sessions) > max(i.Max, 1) {
			w.t.Errorf("%s has %d sessions, it is for %d", i.ID, len(i.Sessions), i.Max)
		}
		if len(i.Sessions) > 0 && (i.State == appstream.InstancePending || i.State == appstream.InstancePrepared || i.State == appstream.InstanceAvailable) {
			w.t.Errorf("%s is %s and has the sessions %v", i.ID, i.State, i.Sessions)
		}
		for _, s := range i.Sessions {
			if was := seats[s]; was != "" {
				w.t.Errorf("%s is on %s and on %s", s, was, i.ID)
			}
			seats[s] = i.ID
		}
	}
	users := map[string]string{}
	for _, s := range sessions {
		if !s.Cleared && seats[s.ID] != s.InstanceID {
			w.t.Errorf("%s (%s) says it is on %s, and is on %q", s.ID, s.State, s.InstanceID, seats[s.ID])
		}
		if s.State == appstream.SessionExpired {
			continue
		}
		if was := users[s.UserID]; was != "" {
			w.t.Errorf("%s has the sessions %s and %s", s.UserID, was, s.ID)
		}
		users[s.UserID] = s.ID
	}
}

// checkFleets looks, at rest, for machines without an instance and instances without a machine, and at the histories.
func (w *world) checkFleets() {
	w.t.Helper()
	machines, err := w.provider.List(context.Background())
	w.must(err)
	phase := map[string]appstream.Phase{}
	for _, m := range machines {
		phase[m.ID] = m.Phase
	}
	allowed := map[string]bool{}
	for noun, table := range appstream.Transitions() {
		for _, tr := range table {
			allowed[fmt.Sprint(noun, tr.From, "→", tr.To)] = true
		}
	}
	w.must(w.store.View(context.Background(), func(tx store.Tx) error {
		for _, noun := range []appstream.Noun{appstream.NounFleet, appstream.NounInstance, appstream.NounSession} {
			err := tx.Scan(store.Query{Noun: noun}, func(head appstream.Meta, _ func(appstream.Record) error) error {
				w.history(tx, head, allowed)
				if noun == appstream.NounInstance {
					want := appstream.MachineRunning
					if head.State == appstream.InstancePrepared {
						want = appstream.MachineStopped
					}
					if phase[head.ID] != want {
						w.t.Errorf("%s is %s, its machine %q", head.ID, head.State, phase[head.ID])
					}
					delete(phase, head.ID)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	}))
	maps.DeleteFunc(phase, func(id string, _ appstream.Phase) bool { return strings.HasPrefix(id, "ib-") })
	if len(phase) > 0 {
		w.t.Errorf("machines without an instance: %v", phase)
	}
}
