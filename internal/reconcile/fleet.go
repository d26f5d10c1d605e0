package reconcile

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/objects"
	"github.com/oriel-project/oriel/internal/store"
)

// passFleet is one pass over a fleet.
func (e *Engine) passFleet(ctx context.Context, head appstream.Meta) error {
	versions := e.Provider.AgentVersions()
	s := appstream.FleetSnapshot{Sizes: e.Sizes, Agent: versions[len(versions)-1]}
	err := e.Store.View(ctx, func(tx store.Tx) error {
		if err := tx.Find(head.ID, &s.Fleet); err != nil {
			return err
		}
		var err error
		s.Instances, err = store.List[appstream.Instance](tx, store.Query{Noun: appstream.NounInstance, Region: head.Region,
			Accounts: []string{head.Account}, Prefix: appstream.InstancePrefix(head.Name)})
		if err != nil {
			return err
		}
		switch s.Fleet.State {
		case appstream.FleetStarting, appstream.FleetRunning:
			if s.Fleet.Elastic() {
				s.Elastic, err = elastic(tx, &s.Fleet)
			}
			return err
		case appstream.FleetStopped:
			return nil
		}
		if s.Fleet.Elastic() {
			s.Elastic = &appstream.ElasticSnapshot{}
			if s.Elastic.Compositions, err = compositionsOf(tx, &s.Fleet); err != nil {
				return err
			}
		}
		s.Sessions, err = store.List[appstream.Session](tx, store.Query{Noun: appstream.NounSession, Region: head.Region,
			Accounts: []string{head.Account}, Prefix: appstream.SessionPrefix(head.Name, ""), States: []string{appstream.SessionPending, appstream.SessionActive}})
		return err
	})
	if err != nil {
		return err
	}
	for range appstream.FleetBatch {
		s.IDs = append(s.IDs, instanceID())
	}
	return finish(ctx, e, s.Fleet, func() (appstream.Decision[appstream.Fleet], error) {
		switch s.Fleet.State {
		case appstream.FleetStarting, appstream.FleetRunning:
			if s.Elastic != nil {
				e.measure(ctx, &s.Fleet, s.Elastic)
			}
		default:
			e.forget(s.Fleet.ID)
		}
		return appstream.PlanFleet(s, time.Now().UTC()), nil
	})
}

// instanceID makes the ID of an instance, in the form of AWS's.
func instanceID() string {
	var b [9]byte
	rand.Read(b[:])
	return appstream.InstanceID(b)
}

// passInstance is one pass over an instance of a fleet.
func (e *Engine) passInstance(ctx context.Context, head appstream.Meta) error {
	var s appstream.InstanceSnapshot
	err := e.Store.View(ctx, func(tx store.Tx) error {
		if err := tx.Find(head.ID, &s.Instance); err != nil {
			return err
		}
		var fleet appstream.Fleet
		err := tx.Get(appstream.Key{Account: head.Account, Region: head.Region, Noun: appstream.NounFleet, Name: s.Instance.Fleet}, &fleet)
		if err := ignore(err, store.ErrNotFound); err != nil {
			return err
		}
		if fleet.ID == s.Instance.FleetID {
			s.Fleet = &fleet
		}
		for _, id := range s.Instance.Sessions {
			var session appstream.Session
			switch err := tx.Find(id, &session); {
			case err == nil:
				s.Sessions = append(s.Sessions, session)
			case !errors.Is(err, store.ErrNotFound):
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.Instance.Excuse(time.Since(head.Due), time.Now())
	return finish(ctx, e, s.Instance, func() (appstream.Decision[appstream.Instance], error) {
		if s.Machine, err = e.observe(ctx, s.Instance.ID); err != nil {
			return appstream.Decision[appstream.Instance]{}, err
		}
		if s.Machine.Phase == appstream.MachineRunning {
			switch s.Instance.State {
			case appstream.InstancePending:
				s.Agent = e.agent(ctx, s.Instance.ID, s.Machine, agentWait)
			case appstream.InstanceAvailable, appstream.InstanceInUse, appstream.InstanceDraining:
				s.Agent = e.agent(ctx, s.Instance.ID, s.Machine, 0)
			}
		}
		return appstream.PlanInstance(s, time.Now().UTC()), nil
	})
}

// passSession is one pass over a session.
func (e *Engine) passSession(ctx context.Context, head appstream.Meta) error {
	s := appstream.SessionSnapshot{Software: e.Software}
	err := e.Store.View(ctx, func(tx store.Tx) error {
		if err := tx.Find(head.ID, &s.Session); err != nil {
			return err
		}
		var instance appstream.Instance
		err := tx.Find(s.Session.InstanceID, &instance)
		if err == nil {
			s.Instance = &instance
		}
		if err := ignore(err, store.ErrNotFound); err != nil {
			return err
		}
		if s.Session.State == appstream.SessionExpired && !s.Session.Recorded {
			if s.Subscription, err = subscription(tx, head); err != nil {
				return err
			}
		}
		s.Usages, err = usages(tx, &s, time.Now())
		return err
	})
	if err != nil {
		return err
	}
	s.Session.Excuse(time.Since(head.Due), time.Now())
	return finish(ctx, e, s.Session, func() (appstream.Decision[appstream.Session], error) {
		if s.Instance != nil && s.Instance.State != appstream.InstanceDeleting && !s.Session.Cleared && !s.Session.ToRecord(s.Subscription) {
			if s.Machine, err = e.observe(ctx, s.Instance.ID); err != nil {
				return appstream.Decision[appstream.Session]{}, err
			}
			if s.Machine.Phase == appstream.MachineRunning {
				s.Seat = e.seat(ctx, &s)
			}
		}
		return appstream.PlanSession(s, time.Now().UTC()), nil
	})
}

// logsTime is how long it may take to keep what a session's scripts have written.
const logsTime = 10 * time.Second

// keepScriptLogs has what a session's scripts have written kept, as far as it can be.
func (e *Engine) keepScriptLogs(ctx context.Context, a appstream.EnsureScriptLogsKept) {
	if e.Agents == nil || e.Objects == nil {
		return
	}
	limited, cancel := context.WithTimeout(ctx, logsTime)
	defer cancel()
	logs, err := e.Agents.ScriptLogs(limited, a.Instance, a.Session)
	for _, l := range logs {
		at := objects.Location{Account: a.Account, Bucket: a.Bucket, Key: fmt.Sprintf("%s%s/%d.log", a.Prefix, l.Event, l.Number)}
		err = errors.Join(err, e.Objects.Put(limited, at, bytes.NewReader(l.Text)))
	}
	if err != nil && ctx.Err() == nil {
		e.Log.Warn("what session scripts have written is lost", "session", a.Session, "err", err)
	}
}

// usages reads what is recorded of the licenses that a session's person uses, at the two moments when something is added to that: the session's beginning,
// and its end.
func usages(tx store.Tx, s *appstream.SessionSnapshot, now time.Time) ([]appstream.LicenseUsage, error) {
	session := &s.Session
	switch {
	case session.State == appstream.SessionPending && s.Instance != nil && len(appstream.Licenses(s.Instance.Software, s.Software)) > 0:
	case session.State == appstream.SessionExpired && !session.Cleared && len(session.Licenses) > 0:
		now = session.Ended
	default:
		return nil, nil
	}
	return store.List[appstream.LicenseUsage](tx, store.Query{Noun: appstream.NounLicenseUsage, Region: session.Region, Accounts: []string{session.Account},
		Prefix: appstream.UsagePrefix(now, session.AuthType, session.UserID)})
}

// passLicenseUsage is one pass over the usage of a license.
func (e *Engine) passLicenseUsage(ctx context.Context, head appstream.Meta) error {
	var u appstream.LicenseUsage
	if err := e.Store.View(ctx, func(tx store.Tx) error { return tx.Find(head.ID, &u) }); err != nil {
		return err
	}
	return finish(ctx, e, u, func() (appstream.Decision[appstream.LicenseUsage], error) {
		return appstream.PlanLicenseUsage(u, time.Now().UTC()), nil
	})
}

// seat asks the agent of a running machine for a session. Where machines have no agents, a session is on its machine from its beginning
// to its end.
func (e *Engine) seat(ctx context.Context, s *appstream.SessionSnapshot) (status appstream.SeatStatus) {
	if e.Agents == nil {
		there := s.Session.State != appstream.SessionExpired
		return appstream.SeatStatus{Answers: true, Known: there, Ready: there && s.Machine.NextChange.IsZero()}
	}
	var wait time.Duration
	if s.Session.State == appstream.SessionPending {
		wait = agentWait
	}
	e.aside(func() { status = e.Agents.Seat(ctx, s.Instance.ID, s.Session.ID, wait) })
	return status
}
