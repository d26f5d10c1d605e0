package service

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"slices"
	"time"
	"uuid"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/ticket"
)

// What follows is not in AWS's API: it is what the gateway asks for the person at a browser. Callers have checked his ticket.

// OpenSession gives the person of a ticket his session on the fleet: the one that he has, or a new one on an instance that is his
// from then on, claimed in the same transaction. existing tells which. locale is the browser's, like de_DE.UTF-8, or "".
// Errors: InsufficientCapacity when no instance is free; ResourceNotFound, ResourceNotAvailable and OperationNotPermitted with a text
// for the person.
func (s *Service) OpenSession(ctx context.Context, c ticket.Claims, locale string) (session appstream.Session, existing bool, err error) {
	who := appstream.Caller{Account: c.Account, Region: c.Region}
	fleetKey := key(who, appstream.NounFleet, c.Fleet)
	err = s.change(ctx, "oriel:OpenSession", fleetKey, func(tx store.Tx, now time.Time) error {
		var fleet appstream.Fleet
		var stack appstream.Stack
		switch err := tx.Get(fleetKey, &fleet); {
		case errors.Is(err, store.ErrNotFound), err == nil && fleet.ID != c.RecordID:
			return appstream.ErrorFor(appstream.ResourceNotFound, appstream.WhyGone, c.Fleet, "What this link leads to is no longer there. Ask for a new link.")
		case err != nil:
			return err
		}
		switch err := tx.Get(key(who, appstream.NounStack, c.Stack), &stack); {
		case errors.Is(err, store.ErrNotFound), err == nil && !slices.Contains(fleet.Stacks, stack.Name):
			return appstream.ErrorFor(appstream.OperationNotPermitted, appstream.WhyMoved, c.Stack, "This link no longer leads to these applications. Ask for a new link.")
		case err != nil:
			return err
		}
		auth, person := types.AuthenticationType(c.Authentication()), ""
		if c.UserPool {
			if person, err = mayUse(tx, key(who, appstream.NounUser, c.UserID), stack.Name); err != nil {
				return err
			}
		}
		entitled, all := []string(nil), true
		if c.Federated {
			if entitled, all, err = entitledTo(tx, &fleet, &stack, c); err != nil {
				return err
			}
		}
		have, err := sessionsOf(tx, &fleet, c.UserID, person, auth)
		if err != nil {
			return err
		}
		switch {
		case len(have) > 0 && have[0].StackID != stack.ID:
			return appstream.ErrorFor(appstream.OperationNotPermitted, appstream.WhyElsewhere, cmp.Or(have[0].Title, have[0].Stack), "You have a session already, by another link (stack "+have[0].Stack+"). End it first, and open this link again.")
		case len(have) > 0:
			session, existing = have[0], true
			if session.Filtered == !all && slices.Equal(session.Entitled, entitled) {
				return nil
			}
			session.Filtered, session.Entitled = !all, entitled // what he is entitled to has changed
			return tx.Put(&session)
		case fleet.State != appstream.FleetRunning:
			return appstream.ErrorFor(appstream.ResourceNotAvailable, appstream.WhyStopped, fleet.Name, "The fleet "+fleet.Name+" is "+fleet.State+". Try again when it is RUNNING.")
		}
		instance, err := s.place(tx, &fleet, now)
		if err != nil {
			return err
		}
		session = newSession(&fleet, &stack, c, locale, now)
		session.Person, session.AuthType, session.Filtered, session.Entitled = person, auth, !all, entitled
		session.InstanceID = instance.ID
		if err := seat(tx, &instance, session.ID, now); err != nil {
			return err
		}
		return errors.Join(move(tx, &session.Meta, "", now, "a streaming URL was opened"), tx.Insert(&session))
	})
	return session, existing, err
}

// seat puts a session on an instance, which may be a new one.
func seat(tx store.Tx, instance *appstream.Instance, session string, now time.Time) error {
	from, write := instance.State, tx.Put
	if instance.Version == 0 {
		from, write = "", tx.Insert
	}
	instance.Seat(session, now)
	instance.Due = now // the engine starts it, if it does not run
	if instance.State != from {
		if err := move(tx, &instance.Meta, from, now, "a session was put on it"); err != nil {
			return err
		}
	}
	return write(instance)
}

// place finds the instance that a session is put on. That of an Elastic fleet without a spare one is new.
func (s *Service) place(tx store.Tx, fleet *appstream.Fleet, now time.Time) (appstream.Instance, error) {
	if !fleet.Elastic() {
		return freeInstance(tx, fleet)
	}
	sessions, most := 0, fleet.MaxConcurrent()
	err := tx.Scan(store.Query{Noun: appstream.NounSession, Region: fleet.Region, Accounts: []string{fleet.Account}, Heads: true, Limit: most,
		Prefix: appstream.SessionPrefix(fleet.Name, ""), States: []string{appstream.SessionPending, appstream.SessionActive}},
		func(appstream.Meta, func(appstream.Record) error) error {
			sessions++
			return nil
		})
	if err != nil {
		return appstream.Instance{}, err
	}
	if sessions >= most {
		return appstream.Instance{}, appstream.Errorf(appstream.InsufficientCapacity, "All places are taken just now. Try again in a few minutes.")
	}
	if err := tx.Wake(fleet.Key, now); err != nil { // it makes another one to spare
		return appstream.Instance{}, err
	}
	instance, err := freeInstance(tx, fleet)
	if appstream.KindOf(err) != appstream.InsufficientCapacity {
		return instance, err
	}
	var random [9]byte
	rand.Read(random[:])
	return fleet.NewInstance(appstream.InstanceID(random), s.latestAgent(), s.cfg.Sizes, now), nil
}

// userPool is how those have signed in who come by the portal.
const userPool = types.AuthenticationTypeUserpool

// sessionsOf gives the sessions of a user on a fleet that are not over. Two kinds of users may have the same name, and of the pool one after the other. A session
// that began before servers noted its Person is that of whoever has the name.
func sessionsOf(tx store.Tx, fleet *appstream.Fleet, user, person string, auth types.AuthenticationType) ([]appstream.Session, error) {
	list, err := store.List[appstream.Session](tx, store.Query{Noun: appstream.NounSession, Region: fleet.Region, Accounts: []string{fleet.Account},
		Prefix: appstream.SessionPrefix(fleet.Name, user), States: []string{appstream.SessionPending, appstream.SessionActive}})
	return slices.DeleteFunc(list, func(s appstream.Session) bool {
		return s.UserID != user || s.Person != person && s.Person != "" || s.FleetID != fleet.ID || s.AuthType != auth
	}), err
}

// freeInstance finds an instance that a session can be put on: of those that people share the fullest, so that the others can be let
// go, then one that runs, then one that must be started. One whose agent is silent is taken only when there is no other.
func freeInstance(tx store.Tx, fleet *appstream.Fleet) (best appstream.Instance, err error) {
	room := 0 // on the best
	good := func() bool { return room > 0 && best.SilentSince.IsZero() }
	look := func(state string, limit int) error {
		return tx.Scan(store.Query{Noun: appstream.NounInstance, Region: fleet.Region, Accounts: []string{fleet.Account},
			Prefix: appstream.InstancePrefix(fleet.Name), States: []string{state}, Limit: limit},
			func(_ appstream.Meta, decode func(appstream.Record) error) error {
				var i appstream.Instance
				if err := decode(&i); err != nil {
					return err
				}
				free := i.Room()
				if i.FleetID != fleet.ID || free == 0 || fleet.Elastic() && i.Spec.ImageRef != fleet.ImageRef { // one of the newer form can be made at once
					return nil
				}
				if answers := i.SilentSince.IsZero(); room == 0 || answers && (!good() || free < room) {
					best, room = i, free
				}
				return nil
			})
	}
	if fleet.Multi() {
		if err := look(appstream.InstanceInUse, 0); err != nil || good() {
			return best, err
		}
	}
	for _, state := range []string{appstream.InstanceAvailable, appstream.InstancePrepared} {
		for _, limit := range []int{1, 0} { // nearly always, the first will do
			if err := look(state, limit); err != nil || good() {
				return best, err
			}
		}
	}
	if room > 0 {
		return best, nil
	}
	return best, appstream.Errorf(appstream.InsufficientCapacity, "All places are taken just now. Try again in a few minutes.")
}

func newSession(fleet *appstream.Fleet, stack *appstream.Stack, c ticket.Claims, locale string, now time.Time) appstream.Session {
	seconds := func(n *int32, otherwise int) time.Duration {
		if n != nil {
			otherwise = int(*n)
		}
		return time.Duration(otherwise) * time.Second
	}
	f, v := &fleet.View, &stack.View
	id := uuid.New().String()
	session := appstream.Session{
		Meta:  appstream.Meta{Key: appstream.Key{Account: fleet.Account, Region: fleet.Region, Noun: appstream.NounSession, Name: appstream.SessionName(fleet.Name, c.UserID, id)}, ID: id, Created: now},
		Fleet: fleet.Name, FleetID: fleet.ID, Stack: stack.Name, StackID: stack.ID, UserID: c.UserID,
		Application: c.Application, Context: c.Context, Locale: locale, View: f.StreamView, Rules: stack.Rules(),
		// AppStream counts idle time in minutes.
		IdleTimeout: seconds(f.IdleDisconnectTimeoutInSeconds, 0).Round(time.Minute),
		AwayTimeout: seconds(f.DisconnectTimeoutInSeconds, appstream.DefaultDisconnectTimeout),
		MaxEnd:      now.Add(seconds(f.MaxUserDurationInSeconds, appstream.DefaultMaxUserDuration)), Away: now,
		EmbedDomains: v.EmbedHostDomains, AccessEndpoints: v.AccessEndpoints, RedirectURL: value(v.RedirectURL), FeedbackURL: value(v.FeedbackURL),
	}
	session.Title = titleOf(stack)
	session.Terms = terms(f, v)
	if session.View == "" {
		session.View = types.StreamViewApp
	}
	if session.Application == Desktop {
		session.Application = ""
	}
	session.EnterPending(now)
	return session
}

// terms gives what a usage report says of the fleet and the stack that a session begins with.
func terms(f *types.Fleet, v *types.Stack) appstream.Terms {
	t := appstream.Terms{InstanceType: value(f.InstanceType), FleetType: f.FleetType, Multi: value(f.MaxSessionsPerInstance) > 0,
		MaxDuration: time.Duration(valueOr(f.MaxUserDurationInSeconds, appstream.DefaultMaxUserDuration)) * time.Second}
	for _, connector := range v.StorageConnectors {
		switch connector.ConnectorType {
		case types.StorageConnectorTypeGoogleDrive:
			t.GoogleDrive = true
		case types.StorageConnectorTypeOneDrive:
			t.OneDrive = true
		case types.StorageConnectorTypeHomefolders:
			t.HomeFolders = value(connector.ResourceIdentifier)
		}
	}
	t.ApplicationSettings = v.ApplicationSettings != nil && value(v.ApplicationSettings.Enabled)
	return t
}

// Desktop is the ApplicationId that stands for no application: the desktop itself.
const Desktop = "Desktop"

// SessionConnected notes that a browser at an address shows the session; SessionDisconnected that none does any more. A session that is
// over or gone is no error: whoever shows it learns of that from the store.
func (s *Service) SessionConnected(ctx context.Context, id string, source netip.Addr) error {
	return s.note(ctx, id, func(session *appstream.Session, now time.Time) bool {
		seen := session.SeenFrom(source)
		return connect(session, true, now) || seen
	})
}

// SessionDisconnected: see SessionConnected.
func (s *Service) SessionDisconnected(ctx context.Context, id string) error {
	return s.note(ctx, id, func(session *appstream.Session, now time.Time) bool { return connect(session, false, now) })
}

// ApplicationLaunched notes that a session's person has launched an application of the catalogue.
func (s *Service) ApplicationLaunched(ctx context.Context, id, application string) error {
	return s.note(ctx, id, func(session *appstream.Session, _ time.Time) bool {
		session.Launch(application)
		return true
	})
}

// connect notes whether a browser shows the session, and tells whether that is another than before.
func connect(session *appstream.Session, connected bool, now time.Time) bool {
	if session.Connected == connected {
		return false
	}
	session.Connected, session.ConnectedOnce, session.Away = connected, session.ConnectedOnce || connected, now
	session.Due = now // the engine looks when its time is over
	return true
}

// note changes a session that is not over; edit tells whether there is something to write.
func (s *Service) note(ctx context.Context, id string, edit func(session *appstream.Session, now time.Time) bool) error {
	return s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		var session appstream.Session
		switch err := tx.Find(id, &session); {
		case errors.Is(err, store.ErrNotFound):
			return nil
		case err != nil:
			return err
		}
		if session.State == appstream.SessionExpired || !edit(&session, time.Now().UTC()) {
			return nil
		}
		return tx.Put(&session)
	})
}

// EndSession ends a session at its person's wish.
func (s *Service) EndSession(ctx context.Context, id string) error {
	return s.endSession(ctx, "oriel:EndSession", id, appstream.EndByUser, func(*appstream.Session) bool { return true })
}

// endSession ends a session that may be ended by the caller; one that is not there, or over, is left alone.
func (s *Service) endSession(ctx context.Context, op, id string, why appstream.EndCode, may func(*appstream.Session) bool) error {
	var session appstream.Session
	err := s.cfg.Store.View(ctx, func(tx store.Tx) error { return tx.Find(id, &session) })
	if errors.Is(err, store.ErrNotFound) || err == nil && !may(&session) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.change(ctx, op, session.Key, func(tx store.Tx, now time.Time) error {
		switch err := tx.Find(id, &session); {
		case errors.Is(err, store.ErrNotFound):
			return nil
		case err != nil:
			return err
		case session.State == appstream.SessionExpired:
			return nil
		}
		from := session.State
		session.End(why, now)
		return errors.Join(move(tx, &session.Meta, from, now, op), tx.Put(&session))
	})
}

// ForgetConnections notes that no browser shows any session: what a server does that has just started.
func (s *Service) ForgetConnections(ctx context.Context) error {
	var connected []string
	err := s.cfg.Store.View(ctx, func(tx store.Tx) error {
		return tx.Scan(store.Query{Noun: appstream.NounSession, States: []string{appstream.SessionPending, appstream.SessionActive}},
			func(head appstream.Meta, decode func(appstream.Record) error) error {
				var session appstream.Session
				if err := decode(&session); err != nil {
					return err
				}
				if session.Connected {
					connected = append(connected, head.ID)
				}
				return nil
			})
	})
	for _, id := range connected {
		err = errors.Join(err, s.SessionDisconnected(ctx, id))
	}
	return err
}
