package service

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/lockout"
	"github.com/oriel-project/oriel/internal/password"
	"github.com/oriel-project/oriel/internal/store"
)

// What follows is not in AWS's API: it is what the portal asks for the person at a browser.

// SignInRefusal is why somebody is not signed in, or cannot choose a password. Its texts are the portal's business.
type SignInRefusal struct {
	Why  Refusal
	Wait time.Duration // RefusedForNow: how long
	Weak password.Weakness
}

// Refusal is the reason of a SignInRefusal.
type Refusal string

// The refusals.
const (
	RefusedWrong    Refusal = "wrong"    // there is no such user, or it is not the password
	RefusedForNow   Refusal = "wait"     // too many attempts
	RefusedDisabled Refusal = "disabled" // it is the password, and the user may not sign in
	RefusedOld      Refusal = "old"      // it is the temporary password, and its time is over
	RefusedWeak     Refusal = "weak"     // the password cannot be chosen
	RefusedSame     Refusal = "same"     // it is the password that was to be replaced
	RefusedLink     Refusal = "link"     // the link is not good, or not any more
	RefusedVisit    Refusal = "visit"    // nobody is signed in
)

func (r *SignInRefusal) Error() string { return "refused: " + string(r.Why) }

// Busy is how long somebody is asked to wait when passwords are being checked for too many others.
const busyTime = 5 * time.Second

// guards count attempts to sign in. The address's is wider: many people may share one.
func guards() (user, address *lockout.Guard) {
	user = &lockout.Guard{Free: 5, First: 30 * time.Second, Most: 15 * time.Minute, Forget: time.Hour, Size: 20_000}
	address = &lockout.Guard{Free: 30, First: 30 * time.Second, Most: 15 * time.Minute, Forget: time.Hour, Size: 20_000}
	return user, address
}

// A Visitor is somebody who is signed in.
type Visitor struct {
	User    appstream.User
	Limited bool // he has to choose a password first
}

// SignedIn is what a browser keeps of signing in: two secrets.
type SignedIn struct {
	Visitor
	Cookie string // is signed in with it
	Known  string // is known with it, signed in or not, as one in which the user has proved who he is: others' wrong passwords do not make him wait there
}

// SignIn signs a user of a pool in. known is what the browser has of an earlier time, or "". Errors: *SignInRefusal. A user who does not exist costs the same time and gives
// the same error as a wrong password.
func (s *Service) SignIn(ctx context.Context, account, region, name, given, known string, source netip.Addr) (in SignedIn, err error) {
	k := appstream.Key{Account: account, Region: region, Noun: appstream.NounUser, Name: name}
	now := time.Now().UTC()
	var u appstream.User
	if err := s.cfg.Store.View(ctx, func(tx store.Tx) error { return ignoreMissing(tx.Get(k, &u)) }); err != nil {
		return in, err
	}
	who, where := k.ARN(), lockout.Address(source)
	id, browser, ok := split(known)
	if ok && id == u.ID && u.Knows(hashSecret(browser), now) {
		who, where = who+" by "+hashSecret(browser), "" // it is counted by itself
	} else {
		browser = newSecret()
	}
	if where != "" {
		if wait := s.triesFrom.Try(where, now); wait > 0 {
			return in, &SignInRefusal{Why: RefusedForNow, Wait: wait}
		}
	}
	if wait := s.triesOf.Try(who, now); wait > 0 {
		s.triesFrom.Forgive(where) // it was not looked at
		return in, &SignInRefusal{Why: RefusedForNow, Wait: wait}
	}
	if !u.Temporary.IsZero() {
		given = strings.TrimSpace(given) // who copies it from a mail takes a blank along
	}
	ok, err = s.cfg.Passwords.Check(ctx, u.Password, given)
	if err != nil || ok {
		s.triesFrom.Forgive(where)
	}
	switch {
	case err != nil:
		s.triesOf.Forgive(who)
		return in, busy(err)
	case !ok:
		return in, &SignInRefusal{Why: RefusedWrong}
	}
	s.triesOf.Clear(who)
	checked, secret := u.Password, newSecret()
	err = s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		switch err := tx.Find(u.ID, &u); {
		case errors.Is(err, store.ErrNotFound), err == nil && u.Password != checked: // meanwhile
			return &SignInRefusal{Why: RefusedWrong}
		case err != nil:
			return err
		case u.Disabled:
			return &SignInRefusal{Why: RefusedDisabled}
		case !u.Temporary.IsZero() && !now.Before(u.Temporary):
			return &SignInRefusal{Why: RefusedOld}
		}
		limited := !u.Temporary.IsZero()
		u.SignIn(appstream.Visit{Hash: hashSecret(secret), Until: now.Add(appstream.VisitTime), Limited: limited}, now)
		u.Know(hashSecret(browser), now)
		in = SignedIn{Visitor: Visitor{User: u, Limited: limited}, Cookie: u.ID + "." + secret, Known: u.ID + "." + browser}
		return errors.Join(tx.Put(&u), tx.AddAudit(s.portalAudit(&u, now, "oriel:SignIn", source)))
	})
	if err != nil {
		return SignedIn{}, err
	}
	return in, nil
}

// portalAudit is the line of the audit log about what a user did at the portal.
func (s *Service) portalAudit(u *appstream.User, now time.Time, operation string, source netip.Addr) store.Audit {
	line := store.Audit{At: now, Principal: u.ARN(), Operation: operation, Resource: u.ARN()}
	if source.IsValid() {
		line.Source = source.String()
	}
	return line
}

// newSecret makes a secret that cannot be guessed, and hashSecret what is kept of it: for a random text a plain hash is enough.
func newSecret() string { return rand.Text() }

func hashSecret(secret string) string {
	sum := sha256.Sum256([]byte("oriel portal v1\x00" + secret))
	return hex.EncodeToString(sum[:])
}

// maxCookie is more than a cookie, or the text of a link, has.
const maxCookie = 256

// split gives the two parts of a cookie or of a link.
func split(text string) (id, secret string, ok bool) {
	id, secret, ok = strings.Cut(text, ".")
	return id, secret, ok && len(text) <= maxCookie && id != "" && secret != ""
}

// Visitor gives who is signed in with a cookie. Errors: *SignInRefusal RefusedVisit.
func (s *Service) Visitor(ctx context.Context, cookie string) (v Visitor, err error) {
	id, secret, ok := split(cookie)
	if !ok {
		return v, &SignInRefusal{Why: RefusedVisit}
	}
	err = s.cfg.Store.View(ctx, func(tx store.Tx) error { return s.visiting(tx, id, secret, &v, time.Now()) })
	return v, err
}

func (s *Service) visiting(tx store.Tx, id, secret string, v *Visitor, now time.Time) error {
	err := findUser(tx, id, &v.User)
	if appstream.KindOf(err) == appstream.ResourceNotFound {
		return &SignInRefusal{Why: RefusedVisit}
	}
	if err != nil {
		return err
	}
	visit := v.User.Visiting(hashSecret(secret), now)
	if visit == nil {
		return &SignInRefusal{Why: RefusedVisit}
	}
	v.Limited = visit.Limited
	return nil
}

// SignOut makes a cookie worthless. It gives the IDs of the sessions that its user has on fleets: they go on, but the browser that he leaves is not to show them any more.
func (s *Service) SignOut(ctx context.Context, cookie string) (sessions []string, err error) {
	id, secret, ok := split(cookie)
	if !ok {
		return nil, nil
	}
	err = s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		var u appstream.User
		if err := tx.Find(id, &u); err != nil || u.Noun != appstream.NounUser || !u.SignOut(hashSecret(secret)) {
			return ignoreMissing(err)
		}
		list, err := sessionsOfUser(tx, &u)
		for n := range list {
			sessions = append(sessions, list[n].ID)
		}
		return errors.Join(err, tx.Put(&u))
	})
	return sessions, err
}

// ChoosePassword gives the user who is signed in with a cookie another password. He is signed out everywhere, and in here with a new cookie. Somebody who did not come
// by a temporary password says the old one too. Errors: *SignInRefusal.
func (s *Service) ChoosePassword(ctx context.Context, cookie, old, chosen string, source netip.Addr) (next string, err error) {
	v, err := s.Visitor(ctx, cookie)
	if err != nil {
		return "", err
	}
	u := v.User
	if !v.Limited {
		who := u.ARN() + " signed in" // those who are not cannot make him wait
		if wait := s.triesOf.Try(who, time.Now()); wait > 0 {
			return "", &SignInRefusal{Why: RefusedForNow, Wait: wait}
		}
		ok, err := s.cfg.Passwords.Check(ctx, u.Password, old)
		if err != nil {
			s.triesOf.Forgive(who)
			return "", busy(err)
		}
		if !ok {
			return "", &SignInRefusal{Why: RefusedWrong}
		}
		s.triesOf.Clear(who)
	}
	hash, err := s.acceptable(ctx, &u, chosen)
	if err != nil {
		return "", err
	}
	id, secret, _ := split(cookie)
	next = newSecret()
	err = s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		now := time.Now().UTC()
		if err := s.visiting(tx, id, secret, &v, now); err != nil {
			return err
		}
		return s.choose(tx, &v.User, hash, now, source, func(u *appstream.User) {
			u.SignIn(appstream.Visit{Hash: hashSecret(next), Until: now.Add(appstream.VisitTime)}, now)
		})
	})
	return id + "." + next, err
}

// acceptable checks a password that somebody wants to have, and hashes it.
func (s *Service) acceptable(ctx context.Context, u *appstream.User, chosen string) (hash string, err error) {
	if weak := password.Weak(chosen, u.Name); weak != "" {
		return "", &SignInRefusal{Why: RefusedWeak, Weak: weak}
	}
	same, err := s.cfg.Passwords.Check(ctx, u.Password, chosen)
	if err != nil {
		return "", busy(err)
	}
	if same {
		return "", &SignInRefusal{Why: RefusedSame}
	}
	hash, err = s.cfg.Passwords.Hash(ctx, chosen)
	return hash, busy(err)
}

func busy(err error) error {
	if errors.Is(err, password.ErrBusy) {
		return &SignInRefusal{Why: RefusedForNow, Wait: busyTime}
	}
	return err
}

func (s *Service) choose(tx store.Tx, u *appstream.User, hash string, now time.Time, source netip.Addr, then func(*appstream.User)) error {
	from := u.State
	u.Choose(hash, now)
	then(u)
	if u.State != from {
		if err := tx.AddEvent(store.Event{At: now, ID: u.ID, Key: u.Key, From: from, To: u.State, Why: "a password was chosen"}); err != nil {
			return err
		}
	}
	return errors.Join(tx.Put(u), tx.AddAudit(s.portalAudit(u, now, "oriel:ChoosePassword", source)))
}

// ForgotPassword has a link sent to a user of a pool by which he can choose another password. Whether there is such a user, nobody is told. One who has asked a while
// ago gets no other link, and nobody does where no mails are sent.
func (s *Service) ForgotPassword(ctx context.Context, account, region, name, language string, source netip.Addr) error {
	k := appstream.Key{Account: account, Region: region, Noun: appstream.NounUser, Name: name}
	return s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		var u appstream.User
		now := time.Now().UTC()
		if err := tx.Get(k, &u); err != nil || u.Disabled || !s.cfg.Mail || !u.AskReset(now) {
			return ignoreMissing(err)
		}
		return errors.Join(tx.Put(&u), s.write(tx, &u, appstream.LetterReset, "", language, now), tx.AddAudit(s.portalAudit(&u, now, "oriel:ForgotPassword", source)))
	})
}

// CheckReset tells whether a link is good by which another password can be chosen. Errors: *SignInRefusal RefusedLink.
func (s *Service) CheckReset(ctx context.Context, link string) (u appstream.User, err error) {
	err = s.cfg.Store.View(ctx, func(tx store.Tx) error { return reset(tx, link, &u, time.Now()) })
	return u, err
}

func reset(tx store.Tx, link string, u *appstream.User, now time.Time) error {
	id, secret, ok := split(link)
	if !ok {
		return &SignInRefusal{Why: RefusedLink}
	}
	err := findUser(tx, id, u)
	if appstream.KindOf(err) == appstream.ResourceNotFound || err == nil && !u.Resetting(hashSecret(secret), now) {
		return &SignInRefusal{Why: RefusedLink}
	}
	return err
}

// ResetPassword chooses another password by a link, which is of no use any more then. The user is signed out everywhere; his browser is known from then on
// (SignedIn.Known). Errors: *SignInRefusal.
func (s *Service) ResetPassword(ctx context.Context, link, chosen string, source netip.Addr) (known string, err error) {
	u, err := s.CheckReset(ctx, link)
	if err != nil {
		return "", err
	}
	hash, err := s.acceptable(ctx, &u, chosen)
	if err != nil {
		return "", err
	}
	browser := newSecret()
	err = s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		now := time.Now().UTC()
		if err := reset(tx, link, &u, now); err != nil {
			return err
		}
		return s.choose(tx, &u, hash, now, source, func(u *appstream.User) { u.Know(hashSecret(browser), now) })
	})
	if err != nil {
		return "", err
	}
	s.triesOf.Clear(u.ARN())
	return u.ID + "." + browser, nil
}

// Offer is a stack that a user can use, with a fleet of it.
type Offer struct {
	Stack, Fleet string
	FleetID      string // of its record
	FleetTitle   string
	Title        string // the stack's; of a stack with several fleets, the fleet's too
	Description  string
	Desktop      bool // the fleet shows a desktop
	Open         bool // the fleet runs
	Session      bool // the user has a session there, by this stack
	Applications []OfferedApplication
}

// Has tells whether a session can begin with an application; "" and, on a desktop, Desktop stand for none.
func (o *Offer) Has(application string) bool {
	return application == "" || application == Desktop && o.Desktop ||
		slices.ContainsFunc(o.Applications, func(a OfferedApplication) bool { return a.Name == application })
}

// OfferedApplication is an application of an Offer.
type OfferedApplication struct{ Name, Title, Icon string } // Icon: of the blob store; "" for none

// Offers gives what a user can use, in the order of the stacks' titles.
func (s *Service) Offers(ctx context.Context, u appstream.User) (list []Offer, err error) {
	err = s.cfg.Store.View(ctx, func(tx store.Tx) error {
		fleets, err := fleetsIn(tx, u.Key)
		if err != nil {
			return err
		}
		for _, a := range u.Stacks {
			k := u.Key
			k.Noun, k.Name = appstream.NounStack, a.Name
			var stack appstream.Stack
			if err := tx.Get(k, &stack); errors.Is(err, store.ErrNotFound) {
				continue
			} else if err != nil {
				return err
			}
			var offers []Offer
			for n := range fleets {
				f := &fleets[n]
				if !slices.Contains(f.Stacks, stack.Name) {
					continue
				}
				o, err := s.offer(tx, &u, &stack, f)
				if err != nil {
					return err
				}
				offers = append(offers, o)
			}
			for _, o := range offers {
				if o.Title = titleOf(&stack); len(offers) > 1 { // or they would be called the same
					o.Title += " – " + o.FleetTitle
				}
				list = append(list, o)
			}
		}
		return nil
	})
	slices.SortStableFunc(list, func(a, b Offer) int { return strings.Compare(strings.ToLower(a.Title), strings.ToLower(b.Title)) })
	return list, err
}

func (s *Service) offer(tx store.Tx, u *appstream.User, stack *appstream.Stack, f *appstream.Fleet) (o Offer, err error) {
	o = Offer{Stack: stack.Name, Fleet: f.Name, FleetID: f.ID, FleetTitle: cmp.Or(value(f.View.DisplayName), f.Name), Description: value(stack.View.Description), Desktop: f.View.StreamView == "DESKTOP",
		Open: f.State == appstream.FleetRunning}
	have, err := sessionsOf(tx, f, u.Name, u.ID, userPool)
	if err != nil {
		return o, err
	}
	o.Session = slices.ContainsFunc(have, func(s appstream.Session) bool { return s.StackID == stack.ID })
	catalogue, err := fleetCatalogue(tx, f)
	if err != nil {
		return o, ignoreKind(err, appstream.ResourceNotFound)
	}
	for _, a := range catalogue.Applications {
		app := OfferedApplication{Name: value(a.Name), Title: value(a.DisplayName), Icon: catalogue.Icons[value(a.Name)]}
		if app.Title == "" {
			app.Title = app.Name
		}
		o.Applications = append(o.Applications, app)
	}
	return o, nil
}

func ignoreKind(err error, kind appstream.Kind) error {
	if appstream.KindOf(err) == kind {
		return nil
	}
	return err
}

// mayUse refuses a user who may not use a stack, and gives the ID of one who may.
func mayUse(tx store.Tx, k appstream.Key, stack string) (id string, err error) {
	var u appstream.User
	if err := tx.Get(k, &u); err != nil && !errors.Is(err, store.ErrNotFound) {
		return "", fmt.Errorf("read the user: %w", err)
	} else if err != nil || u.Disabled || !u.Has(stack) {
		return "", appstream.ErrorFor(appstream.OperationNotPermitted, appstream.WhyWithdrawn, stack, "These applications are not yours to use any more. Ask your administrator.")
	}
	return u.ID, nil
}
