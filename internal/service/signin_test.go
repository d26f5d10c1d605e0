package service_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
)

const (
	jane   = "jane@example.com"
	chosen = "a horse of one's own"
)

var home = netip.MustParseAddr("192.0.2.7")

// mails lets the operations write letters.
func mails(c *service.Config) { c.Mail = true }

// invite gives a user a temporary password, as the administrator does it.
func (f *fixture) invite(name string) string {
	f.t.Helper()
	out, err := f.CreateInvitation(as(me), &service.CreateInvitationInput{UserName: &name})
	f.must(err)
	return *out.TemporaryPassword
}

func (f *fixture) signIn(name, password string, from ...netip.Addr) (string, service.Visitor, error) {
	source := home
	if len(from) > 0 {
		source = from[0]
	}
	in, err := f.SignIn(f.t.Context(), me, "us-west-2", name, password, "", source)
	return in.Cookie, in.Visitor, err
}

// confirmed makes a user who has chosen a password, and signs him in.
func (f *fixture) confirmed(name string) (cookie string) {
	f.t.Helper()
	f.user(name)
	cookie, v, err := f.signIn(name, f.invite(name))
	f.must(err)
	if !v.Limited {
		f.t.Error("a temporary password is good for everything")
	}
	cookie, err = f.ChoosePassword(f.t.Context(), cookie, "", chosen, home)
	f.must(err)
	return cookie
}

func why(err error) service.Refusal {
	if r, ok := errors.AsType[*service.SignInRefusal](err); ok {
		return r.Why
	}
	return service.Refusal(fmt.Sprint(err))
}

func wantWhy(t *testing.T, what string, err error, want service.Refusal) {
	t.Helper()
	if got := why(err); got != want {
		t.Errorf("%s: %s, want %s", what, got, want)
	}
}

func (f *fixture) visits(cookie string) service.Refusal {
	_, err := f.Visitor(f.t.Context(), cookie)
	if err == nil {
		return ""
	}
	return why(err)
}

func (f *fixture) readUser(name string) (u appstream.User) {
	f.t.Helper()
	f.must(f.store.View(f.t.Context(), func(tx store.Tx) error {
		return tx.Get(appstream.Key{Account: me, Region: "us-west-2", Noun: appstream.NounUser, Name: name}, &u)
	}))
	return u
}

// From the invitation to the password of one's own: UNCONFIRMED, then CONFIRMED, and what was given is of no use any more.
func TestFirstSignIn(t *testing.T) {
	f := newFixture(t)
	f.user(jane)
	_, _, err := f.signIn(jane, "")
	wantWhy(t, "before the invitation", err, service.RefusedWrong)
	first := f.invite(jane)
	temporary := f.invite(jane)
	_, _, err = f.signIn(jane, first)
	wantWhy(t, "an invitation that was followed by another", err, service.RefusedWrong)
	limited, _, err := f.signIn(jane, " "+temporary+"\n") // as one copies it from a mail
	f.must(err)
	for password, want := range map[string]service.Refusal{"short": service.RefusedWeak, jane: service.RefusedWeak, temporary: service.RefusedSame} {
		_, err := f.ChoosePassword(t.Context(), limited, "", password, home)
		wantWhy(t, "to choose "+password, err, want)
	}
	if status := *f.users()[0].Status; status != "UNCONFIRMED" {
		t.Errorf("Status = %s", status)
	}
	cookie, err := f.ChoosePassword(t.Context(), limited, "", chosen, home)
	f.must(err)
	if status := *f.users()[0].Status; status != "CONFIRMED" {
		t.Errorf("Status = %s", status)
	}
	if f.visits(limited) != service.RefusedVisit || f.visits(cookie) != "" || cookie == limited {
		t.Error("the cookie was not changed for another")
	}
	_, _, err = f.signIn(jane, temporary)
	wantWhy(t, "with the temporary password", err, service.RefusedWrong)
	_, v, err := f.signIn(jane, chosen)
	f.must(err)
	if v.Limited || v.User.Name != jane {
		t.Errorf("signed in: %+v", v)
	}
	_, _, err = f.signIn("Jane@example.com", chosen)
	wantWhy(t, "with another case", err, service.RefusedWrong)
	_, err = f.SignIn(t.Context(), me, "eu-west-1", jane, chosen, "", home)
	wantWhy(t, "in another region", err, service.RefusedWrong)

	u := f.readUser(jane)
	text := fmt.Sprintf("%+v", u)
	_, secret, _ := strings.Cut(cookie, ".")
	if strings.Contains(text, chosen) || strings.Contains(text, secret) || !strings.HasPrefix(u.Password, "$argon2id$") {
		t.Error("the record has the password or the cookie")
	}
	again := f.invite(jane) // the administrator, for somebody who has forgotten it
	if f.visits(cookie) != service.RefusedVisit || *f.users()[0].Status != "UNCONFIRMED" {
		t.Error("an invitation leaves the old password's cookies")
	}
	_, _, err = f.signIn(jane, again)
	f.must(err)
}

func TestTemporaryPasswordsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.user(jane)
		temporary := f.invite(jane)
		time.Sleep(appstream.TemporaryTime - time.Second)
		_, _, err := f.signIn(jane, temporary)
		f.must(err)
		time.Sleep(time.Second)
		_, _, err = f.signIn(jane, temporary)
		wantWhy(t, "after seven days", err, service.RefusedOld)
		f.must(f.store.Close())
	})
}

// Who guesses waits, longer each time: of a user, from wherever; from an address, whomever. Those who do not exist are treated alike.
func TestLockOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.confirmed(jane)
		from := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, byte(n)}) }
		for _, name := range []string{jane, "nobody@example.com"} {
			for n := range 5 {
				_, _, err := f.signIn(name, "wrong", from(n))
				wantWhy(t, name, err, service.RefusedWrong)
			}
			for n := range 3 {
				wait := 30 * time.Second << n
				_, _, err := f.signIn(name, chosen, from(10))
				r, _ := errors.AsType[*service.SignInRefusal](err)
				if r == nil || r.Why != service.RefusedForNow || r.Wait != wait {
					t.Errorf("%s after %d failures: %v %+v", name, 5+n, err, r)
				}
				time.Sleep(wait)
				_, _, err = f.signIn(name, "wrong", from(n))
				wantWhy(t, name, err, service.RefusedWrong)
			}
		}
		time.Sleep(4 * time.Minute)
		_, _, err := f.signIn(jane, chosen, from(11)) // who knows the password gets in, and starts afresh
		f.must(err)
		for range 4 {
			_, _, err := f.signIn(jane, "wrong", from(12))
			wantWhy(t, "afresh", err, service.RefusedWrong)
		}

		// An address that tries many names. Its good attempts do not count, and do not take the bad ones away.
		for n := range 30 {
			_, _, err := f.signIn(fmt.Sprintf("u%d@example.com", n), "wrong")
			wantWhy(t, "one of many", err, service.RefusedWrong)
		}
		_, _, err = f.signIn("another@example.com", "wrong")
		wantWhy(t, "one more from there", err, service.RefusedForNow)
		_, _, err = f.signIn(jane, chosen)
		wantWhy(t, "from there", err, service.RefusedForNow)
		_, _, err = f.signIn(jane, chosen, from(13))
		f.must(err)
		// The administrator's operations are not concerned.
		f.invite(jane)
		f.must(f.store.Close())
	})
}

// Nobody can lock somebody else out: not of a browser that he has signed in with, nor of the one in which he opens a link for another password, nor when he changes his
// password, and an invitation lets him in anywhere.
func TestLockOutOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, mails)
		f.confirmed(jane)
		id := f.readUser(jane).ID
		in := func(password, known string) (service.SignedIn, error) {
			return f.SignIn(t.Context(), me, "us-west-2", jane, password, known, home)
		}
		mine, err := in(chosen, "")
		f.must(err)
		lockOut := func() {
			t.Helper()
			for n := range 40 { // from her own address too
				f.signIn(jane, "wrong", netip.AddrFrom4([4]byte{198, 51, 100, byte(n)}))
				f.signIn(fmt.Sprintf("u%d@example.com", n), "wrong")
			}
			_, err := in(chosen, "")
			wantWhy(t, "an unknown browser", err, service.RefusedForNow)
		}
		lockOut()
		for _, forged := range []string{id + ".", id + "." + strings.Repeat("A", 26), "x." + mine.Known, mine.Cookie} {
			_, err = in(chosen, forged)
			wantWhy(t, "a browser that says it is known", err, service.RefusedForNow)
		}
		again, err := in(chosen, mine.Known)
		f.must(err)
		if again.Known != mine.Known || again.Cookie == mine.Cookie {
			t.Errorf("the browser is known as another: %+v", again)
		}
		_, err = in(chosen, "")
		wantWhy(t, "an unknown browser still", err, service.RefusedForNow)
		_, err = f.SignIn(t.Context(), me, "us-west-2", "john@example.com", chosen, mine.Known, home)
		wantWhy(t, "her browser with another name", err, service.RefusedForNow)
		for range 4 {
			_, err := f.ChoosePassword(t.Context(), again.Cookie, "wrong", "another horse", home)
			wantWhy(t, "a wrong old password", err, service.RefusedWrong)
		}
		cookie, err := f.ChoosePassword(t.Context(), again.Cookie, chosen, "another horse", home)
		f.must(err)
		for range 5 { // who is signed in guesses no faster
			_, err := f.ChoosePassword(t.Context(), cookie, "wrong", "a third horse", home)
			wantWhy(t, "a wrong old password", err, service.RefusedWrong)
		}
		_, err = f.ChoosePassword(t.Context(), cookie, "another horse", "a third horse", home)
		wantWhy(t, "the sixth", err, service.RefusedForNow)

		// A known browser guesses no faster than others.
		for range 5 {
			_, err = in("wrong", mine.Known)
			wantWhy(t, "a known browser", err, service.RefusedWrong)
		}
		_, err = in("another horse", mine.Known)
		wantWhy(t, "a known browser after five", err, service.RefusedForNow)

		_, link, err := f.MakeReset(t.Context(), id)
		f.must(err)
		known, err := f.ResetPassword(t.Context(), link, "a third horse", home)
		f.must(err)
		lockOut()
		_, err = in("a third horse", known)
		f.must(err)

		temporary := f.invite(jane)
		last, err := f.SignIn(t.Context(), me, "us-west-2", jane, temporary, "", netip.MustParseAddr("203.0.113.9"))
		f.must(err)
		lockOut()
		time.Sleep(appstream.BrowserTime)
		lockOut()
		_, err = in(temporary, last.Known)
		wantWhy(t, "a browser of long ago", err, service.RefusedForNow)
		f.must(f.store.Close())
	})
}

// What ends a visit: signing out, its time, another password, DisableUser, DeleteUser. It does so at once.
func TestVisitsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		cookie := f.confirmed(jane)
		other, _, err := f.signIn(jane, chosen)
		f.must(err)
		_, err = f.SignOut(t.Context(), cookie)
		f.must(err)
		if f.visits(cookie) == "" || f.visits(other) != "" {
			t.Error("signing out ends another visit than one's own")
		}
		id, _, _ := strings.Cut(other, ".")
		for _, forged := range []string{"", ".", id + ".", id, id + "." + strings.Repeat("A", 26), "x." + other, other + "A", strings.Repeat("A", 1000)} {
			if f.visits(forged) != service.RefusedVisit {
				t.Errorf("a forged cookie %q lets in", forged)
			}
			_, err = f.SignOut(t.Context(), forged)
			f.must(err)
		}
		time.Sleep(appstream.VisitTime - time.Second)
		if f.visits(other) != "" {
			t.Error("the visit is over too early")
		}
		time.Sleep(time.Second)
		if f.visits(other) != service.RefusedVisit {
			t.Error("the visit is never over")
		}
		sign := func() string {
			cookie, _, err := f.signIn(jane, chosen)
			f.must(err)
			return cookie
		}
		one, two := sign(), sign()
		_, err = f.ChoosePassword(t.Context(), one, "wrong", "another horse", home)
		wantWhy(t, "with a wrong old password", err, service.RefusedWrong)
		next, err := f.ChoosePassword(t.Context(), one, chosen, "another horse", home)
		f.must(err)
		if f.visits(one) == "" || f.visits(two) == "" || f.visits(next) != "" {
			t.Error("another password leaves visits")
		}
		_, err = f.DisableUser(as(me), &api.DisableUserInput{UserName: new(jane), AuthenticationType: pool})
		f.must(err)
		_, _, err = f.signIn(jane, "another horse")
		wantWhy(t, "a disabled user", err, service.RefusedDisabled)
		_, _, err = f.signIn(jane, "a wrong horse")
		wantWhy(t, "a disabled user's wrong password", err, service.RefusedWrong)
		if f.visits(next) != service.RefusedVisit {
			t.Error("a disabled user visits")
		}
		_, err = f.EnableUser(as(me), &api.EnableUserInput{UserName: new(jane), AuthenticationType: pool})
		f.must(err)
		if f.visits(next) != service.RefusedVisit {
			t.Error("a user who was disabled goes on where he was")
		}
		last, _, err := f.signIn(jane, "another horse")
		f.must(err)
		for range 10 {
			_, _, err := f.signIn(jane, "another horse")
			f.must(err)
		}
		if f.visits(last) != service.RefusedVisit || len(f.readUser(jane).Visits) != 10 {
			t.Error("visits are without number")
		}
		newest, _, err := f.signIn(jane, "another horse")
		f.must(err)
		_, err = f.DeleteUser(as(me), &api.DeleteUserInput{UserName: new(jane), AuthenticationType: pool})
		f.must(err)
		if f.visits(newest) != service.RefusedVisit {
			t.Error("a deleted user visits")
		}
		f.must(f.store.Close())
	})
}

// letters gives the letters that are to be sent: kind and stack.
func (f *fixture) letters() (list []string) {
	f.t.Helper()
	f.must(f.store.View(f.t.Context(), func(tx store.Tx) error {
		letters, err := store.List[appstream.Letter](tx, store.Query{Noun: appstream.NounLetter})
		for _, l := range letters {
			list = append(list, strings.TrimSpace(string(l.Kind)+" "+l.Stack))
		}
		return err
	}))
	slices.Sort(list)
	return list
}

// dropLetters has all letters be sent.
func (f *fixture) dropLetters() {
	f.t.Helper()
	f.must(f.store.Update(f.t.Context(), func(tx store.Tx) error {
		letters, err := store.List[appstream.Letter](tx, store.Query{Noun: appstream.NounLetter})
		for n := range letters {
			err = errors.Join(err, tx.AddEvent(store.Event{At: time.Now(), ID: letters[n].ID, Key: letters[n].Key, From: letters[n].State}), tx.Delete(&letters[n]))
		}
		return err
	}))
}

func TestLetters(t *testing.T) {
	f := newFixture(t, mails)
	f.stack("one")
	f.user("quiet@example.com", func(in *api.CreateUserInput) { in.MessageAction = types.MessageActionSuppress })
	if got := f.letters(); len(got) != 0 {
		t.Errorf("SUPPRESS writes %v", got)
	}
	f.user(jane)
	for range 3 { // one that is still to be sent is enough
		f.user(jane, func(in *api.CreateUserInput) { in.MessageAction = types.MessageActionResend })
	}
	associate := func(stack string, notify bool) {
		_, err := f.BatchAssociateUserStack(as(me), &api.BatchAssociateUserStackInput{UserStackAssociations: []types.UserStackAssociation{
			{AuthenticationType: pool, UserName: new(jane), StackName: &stack, SendEmailNotification: &notify}}})
		f.must(err)
	}
	f.stack("two")
	associate("one", true)
	associate("one", true)
	associate("two", false)
	f.must(f.ForgotPassword(t.Context(), me, "us-west-2", jane, "de", home))
	f.must(f.ForgotPassword(t.Context(), me, "us-west-2", jane, "de", home))
	f.must(f.ForgotPassword(t.Context(), me, "us-west-2", "nobody@example.com", "", home))
	if got := strings.Join(f.letters(), ", "); got != "reset, stack one, welcome" {
		t.Errorf("letters: %s", got)
	}
	// A notification that was not wanted at first can be had later, once.
	f.dropLetters()
	associate("two", true)
	associate("two", true)
	associate("one", true)
	if got := strings.Join(f.letters(), ", "); got != "stack two" {
		t.Errorf("letters after another notification: %s", got)
	}
	f.dropLetters()
	f.user(jane, func(in *api.CreateUserInput) { in.MessageAction = types.MessageActionResend })
	f.must(f.store.Update(t.Context(), func(tx store.Tx) error { // the mail server did not take it
		letters, err := store.List[appstream.Letter](tx, store.Query{Noun: appstream.NounLetter})
		letters[0].Due = time.Now().Add(15 * time.Minute)
		return errors.Join(err, tx.Put(&letters[0]))
	}))
	f.user(jane, func(in *api.CreateUserInput) { in.MessageAction = types.MessageActionResend })
	if due, err := f.store.NextDue(t.Context()); err != nil || due.After(time.Now()) {
		t.Errorf("RESEND waits until %s, %v", due, err)
	}
	f.must(f.ForgotPassword(t.Context(), me, "us-west-2", "quiet@example.com", "de", home))
	f.invite(jane) // what would be mailed later must not make it void
	if got := strings.Join(f.letters(), ", "); got != "reset" {
		t.Errorf("letters after an invitation: %s", got)
	}
	_, err := f.DeleteUser(as(me), &api.DeleteUserInput{UserName: new("quiet@example.com"), AuthenticationType: pool})
	f.must(err)
	if got := f.letters(); len(got) != 0 {
		t.Errorf("letters to a user who is gone: %v", got)
	}
	silent := newFixture(t)
	silent.user(jane)
	silent.must(silent.ForgotPassword(t.Context(), me, "us-west-2", jane, "", home))
	if got := silent.letters(); len(got) != 0 {
		t.Errorf("without a mail server: %v", got)
	}
}

// A link for another password is good once, for a day; of several any, and then none is.
func TestReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, mails)
		cookie := f.confirmed(jane)
		id := f.readUser(jane).ID
		link := func() string {
			_, link, err := f.MakeReset(t.Context(), id)
			f.must(err)
			return link
		}
		reset := func(link, password string) error {
			_, err := f.ResetPassword(t.Context(), link, password, home)
			return err
		}
		old := link()
		good := link()
		if _, err := f.CheckReset(t.Context(), old); err != nil {
			t.Errorf("an older link: %v", err)
		}
		for _, forged := range []string{"", ".", id + ".", id + ".A", strings.ToLower(good), good + "A"} {
			wantWhy(t, "the link "+forged, reset(forged, "another horse"), service.RefusedLink)
		}
		wantWhy(t, "a weak password", reset(good, "short"), service.RefusedWeak)
		f.must(reset(good, "another horse"))
		wantWhy(t, "the link again", reset(good, "a third horse"), service.RefusedLink)
		wantWhy(t, "an older link then", reset(old, "a third horse"), service.RefusedLink)
		if f.visits(cookie) != service.RefusedVisit {
			t.Error("a reset leaves visits")
		}
		_, _, err := f.signIn(jane, chosen)
		wantWhy(t, "with the old password", err, service.RefusedWrong)
		_, _, err = f.signIn(jane, "another horse")
		f.must(err)
		late := link()
		time.Sleep(appstream.ResetTime)
		wantWhy(t, "after a day", reset(late, "a third horse"), service.RefusedLink)
		disabled := link()
		_, err = f.DisableUser(as(me), &api.DisableUserInput{UserName: new(jane), AuthenticationType: pool})
		f.must(err)
		wantWhy(t, "of a disabled user", reset(disabled, "a third horse"), service.RefusedLink)
		_, _, err = f.MakeReset(t.Context(), id)
		refused(t, err, appstream.ResourceNotFound, "disabled")
		f.must(f.store.Close())
	})
}

// Whoever has links sent to somebody all the time neither fills his mailbox nor makes the link void that he is about to use.
func TestResetFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, mails)
		f.user(jane)
		f.dropLetters()
		id, mine, sent := f.readUser(jane).ID, "", 0
		for start := time.Now(); time.Since(start) < appstream.ResetTime; time.Sleep(time.Minute) {
			f.must(f.ForgotPassword(t.Context(), me, "us-west-2", jane, "", home))
			if len(f.letters()) == 0 {
				continue
			}
			f.dropLetters()
			_, link, err := f.MakeReset(t.Context(), id)
			f.must(err)
			if sent++; sent == 1 {
				mine = link
			}
			if _, err := f.CheckReset(t.Context(), mine); err != nil && time.Since(start) < time.Hour {
				t.Fatalf("the link is void after %s", time.Since(start))
			}
		}
		if sent > 30 {
			t.Errorf("%d mails in a day", sent)
		}
		f.must(f.store.Close())
	})
}

func TestInvitationRefusals(t *testing.T) {
	f := newFixture(t)
	f.user(jane)
	for name, test := range map[string]struct {
		name *string
		kind appstream.Kind
	}{"none": {nil, appstream.Validation}, "nobody": {new("nobody@example.com"), appstream.ResourceNotFound}, "long": {new(strings.Repeat("x", 600)), appstream.Validation}} {
		_, err := f.CreateInvitation(as(me), &service.CreateInvitationInput{UserName: test.name})
		if appstream.KindOf(err) != test.kind {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := f.DisableUser(as(me), &api.DisableUserInput{UserName: new(jane), AuthenticationType: pool})
	f.must(err)
	_, err = f.CreateInvitation(as(me), &service.CreateInvitationInput{UserName: new(jane)})
	refused(t, err, appstream.OperationNotPermitted, "EnableUser")
	_, err = f.EnableUser(as(me), &api.EnableUserInput{UserName: new(jane), AuthenticationType: pool})
	f.must(err)
	_, err = f.CreateInvitation(as(other), &service.CreateInvitationInput{UserName: new(jane)})
	refused(t, err, appstream.ResourceNotFound, jane)
	out, err := f.CreateInvitation(as(me), &service.CreateInvitationInput{UserName: new(jane)})
	f.must(err)
	if *out.PortalURL != "https://oriel.test/portal/"+me+"/us-west-2" || time.Until(*out.Expires) < 6*24*time.Hour {
		t.Errorf("the invitation: %+v", out)
	}
	f.must(f.store.View(t.Context(), func(tx store.Tx) error {
		lines, err := tx.Audits(store.LogQuery{Limit: 1})
		if len(lines) != 1 || lines[0].Operation != "oriel:CreateInvitation" || lines[0].Resource != "arn:aws:appstream:us-west-2:"+me+":user/"+jane ||
			strings.Contains(fmt.Sprint(lines), *out.TemporaryPassword) {
			t.Errorf("audit: %+v", lines)
		}
		return err
	}))
}

// A user of the pool has sessions of his own, even beside somebody of the same name who came by a streaming URL, and begins one only as long as he may.
func TestSessionsOfUsers(t *testing.T) {
	f := newFixture(t)
	f.pool(3, 0)
	cookie := f.confirmed(jane)
	f.assign(jane, "desk")
	claims := f.claims(jane)
	claims.UserPool = true
	mine, existing, err := f.OpenSession(t.Context(), claims, "")
	f.must(err)
	if existing || mine.AuthType != types.AuthenticationTypeUserpool {
		t.Errorf("the session: %+v", mine)
	}
	byURL := claims
	byURL.UserPool = false
	other, existing, err := f.OpenSession(t.Context(), byURL, "")
	f.must(err)
	if existing || other.ID == mine.ID || other.AuthType != types.AuthenticationTypeApi {
		t.Error("two people of one name share a session")
	}
	again, existing, err := f.OpenSession(t.Context(), claims, "")
	f.must(err)
	if !existing || again.ID != mine.ID {
		t.Error("the user does not find his session again")
	}
	for _, test := range []struct{ cookie, want string }{{cookie + "x", ""}, {cookie, mine.ID}, {cookie, ""}} {
		sessions, err := f.SignOut(t.Context(), test.cookie)
		f.must(err)
		if got := strings.Join(sessions, " "); got != test.want {
			t.Errorf("who signs out has the sessions %q, not %q", got, test.want)
		}
	}
	offers, err := f.Offers(t.Context(), f.readUser(jane))
	f.must(err)
	if len(offers) != 1 || !offers[0].Open || !offers[0].Session || offers[0].Stack != "desk" || offers[0].FleetID != claims.RecordID {
		t.Errorf("offers: %+v", offers)
	}
	f.stack("other") // of the same fleet
	f.associate("pool", "other")
	f.assign(jane, "other")
	offers, err = f.Offers(t.Context(), f.readUser(jane))
	f.must(err)
	if len(offers) != 2 || !offers[0].Session || offers[1].Stack != "other" || offers[1].Session {
		t.Errorf("a session is offered by a stack that does not lead to it: %+v", offers)
	}
	f.fleet("fast", appstream.FleetStopped, func(in *api.CreateFleetInput) { in.DisplayName = new("Fast machines") })
	f.associate("fast", "desk") // which has two now
	offers, err = f.Offers(t.Context(), f.readUser(jane))
	f.must(err)
	var titles []string
	for _, o := range offers {
		titles = append(titles, o.Title)
	}
	if got := strings.Join(titles, ", "); got != "desk – Fast machines, desk – pool, other" {
		t.Errorf("what the fleets of a stack offer is called %s", got)
	}
	_, err = f.DisableUser(as(me), &api.DisableUserInput{UserName: new(jane), AuthenticationType: pool})
	f.must(err)
	_, _, err = f.OpenSession(t.Context(), claims, "")
	refused(t, err, appstream.OperationNotPermitted, "not yours")
	_, err = f.EnableUser(as(me), &api.EnableUserInput{UserName: new(jane), AuthenticationType: pool})
	f.must(err)
	_, err = f.BatchDisassociateUserStack(as(me), &api.BatchDisassociateUserStackInput{UserStackAssociations: []types.UserStackAssociation{
		{AuthenticationType: pool, UserName: new(jane), StackName: new("desk")}, {AuthenticationType: pool, UserName: new(jane), StackName: new("other")}}})
	f.must(err)
	_, _, err = f.OpenSession(t.Context(), claims, "")
	refused(t, err, appstream.OperationNotPermitted, "not yours")
	if offers, _ := f.Offers(t.Context(), f.readUser(jane)); len(offers) != 0 {
		t.Errorf("offers: %+v", offers)
	}
}

// Who is disabled or deleted can go on with what he has for an hour, and one who is created again in his name is another person.
func TestSessionsOfUsersWhoGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.pool(4, 0)
		other := "john@example.com"
		open := func(name string) appstream.Session {
			claims := f.claims(name)
			claims.UserPool, claims.Expires = true, time.Now().Add(time.Minute)
			session, _, err := f.OpenSession(t.Context(), claims, "")
			f.must(err)
			return session
		}
		read := func(id string) appstream.Session { return f.editSession(id, func(*appstream.Session) {}) }
		for _, name := range []string{jane, other} {
			f.user(name)
			f.assign(name, "desk")
		}
		johns, byURL := open(other), f.open(jane)
		mine := open(jane)
		f.editSession(mine.ID, func(s *appstream.Session) { s.Person = "" }) // as sessions were that began before servers noted it
		if open(jane).ID != mine.ID {
			t.Error("the user does not find a session again that an older server has begun")
		}
		if left := time.Until(mine.MaxEnd); left < 2*time.Hour {
			t.Fatalf("the session ends in %s anyway", left)
		}
		_, err := f.DeleteUser(as(me), &api.DeleteUserInput{UserName: new(jane), AuthenticationType: pool})
		f.must(err)
		gone := read(mine.ID)
		if left := time.Until(gone.MaxEnd); left != time.Hour || gone.Due.After(time.Now()) {
			t.Errorf("the session of a user who is gone ends in %s; looked at in %s", left, time.Until(gone.Due))
		}
		if read(johns.ID).MaxEnd != johns.MaxEnd || read(byURL.ID).MaxEnd != byURL.MaxEnd {
			t.Error("other people's sessions end")
		}
		f.user(jane)
		f.assign(jane, "desk")
		again := open(jane)
		if again.ID == mine.ID {
			t.Error("another person of the same name has the session of the one who is gone")
		}
		time.Sleep(30 * time.Minute)
		for range 2 { // the second time changes nothing
			_, err = f.DisableUser(as(me), &api.DisableUserInput{UserName: new(jane), AuthenticationType: pool})
			f.must(err)
			if left := time.Until(read(again.ID).MaxEnd); left != time.Hour {
				t.Errorf("the session of a user who is disabled ends in %s", left)
			}
			if left := time.Until(read(mine.ID).MaxEnd); left != 30*time.Minute {
				t.Errorf("the session that was to end in half an hour ends in %s", left)
			}
		}
		d := appstream.PlanSession(appstream.SessionSnapshot{Session: read(again.ID), Instance: new(f.findInstance(again.InstanceID))}, time.Now().Add(time.Hour))
		if d.Next.State != appstream.SessionExpired || d.Next.EndCode != appstream.EndByAdmin {
			t.Errorf("after the hour: %s %s", d.Next.State, d.Next.EndCode)
		}
		f.must(f.store.Close())
	})
}

// No text of a cookie or a link lets anybody in but the one that was given out.
func FuzzCookie(f *testing.F) {
	w := newFixture(f, mails)
	w.user(jane)
	cookie, _, err := w.signIn(jane, w.invite(jane))
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{"", ".", cookie, cookie + ".", strings.ToLower(cookie), w.readUser(jane).ID + ".", strings.Repeat("A", 300)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := w.Visitor(t.Context(), text); (err == nil) != (text == cookie) {
			t.Errorf("%q: %v", text, err)
		}
		if _, err := w.CheckReset(t.Context(), text); why(err) != service.RefusedLink {
			t.Errorf("the link %q: %v", text, err)
		}
	})
}
