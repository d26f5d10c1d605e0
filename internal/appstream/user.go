package appstream

import (
	"crypto/subtle"
	"net/mail"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// A User is a person of an account's user pool, who signs in at the portal with an e-mail address and a password. Its name is the address, as it was
// written: addresses that differ in case are different users.
//
//	CreateUser ──▶ UNCONFIRMED ◀──────┐
//	                    │             │ CreateInvitation
//	                    ▼             │
//	   chose a password CONFIRMED ────┘   ──DeleteUser──▶ (gone)
//
// Whether he may sign in (DisableUser) is no state: it is kept beside.
type User struct {
	Meta
	FirstName, LastName string
	Disabled            bool
	Stacks              []UserStack `json:",omitempty"` // that he is associated with, in the order of their names

	Password   string    `json:",omitempty"` // hash of the password (internal/password); "" for none
	Temporary  time.Time `json:",omitzero"`  // until when Password, which the user was given, is good for choosing another; zero: he chose it
	Resets     []Visit   `json:",omitempty"` // the links that were mailed to choose another password with, the newest last
	ResetAsked time.Time `json:",omitzero"`  // when such a mail was last asked for
	Visits     []Visit   `json:",omitempty"` // the browsers in which he is signed in, the newest last
	Browsers   []Visit   `json:",omitempty"` // the browsers that he has signed in with, the newest last
}

// Links names the user's stacks.
func (u *User) Links() (links []string) {
	for _, stack := range u.Stacks {
		links = append(links, Key{u.Account, u.Region, NounStack, stack.Name}.ARN())
	}
	return links
}

// UserStack is a stack that a user is associated with.
type UserStack struct {
	Name   string
	Notify bool // SendEmailNotification, as it was sent
}

// The states of a user, which are what User.Status shows.
const (
	UserUnconfirmed = "UNCONFIRMED"
	UserConfirmed   = "CONFIRMED"
)

var userTransitions = []Transition{
	{"", UserUnconfirmed, "CreateUser"},
	{UserUnconfirmed, UserConfirmed, "the user chose a password"},
	{UserConfirmed, UserUnconfirmed, "CreateInvitation"},
	{UserUnconfirmed, "", "DeleteUser"},
	{UserConfirmed, "", "DeleteUser"},
}

// MaxUserName is the greatest length of a user's name, in characters.
const MaxUserName = 128

// EmailAddress tells whether a text is an e-mail address and nothing more, as the name of a user must be: it goes into the header of mails.
func EmailAddress(text string) bool {
	if len(text) > 4*MaxUserName || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return false
	}
	a, err := mail.ParseAddress(text)
	return err == nil && a.Name == "" && a.Address == text
}

// Describe gives what the API shows of the user.
func (u *User) Describe() types.User {
	return types.User{Arn: new(u.ARN()), UserName: new(u.Name), AuthenticationType: types.AuthenticationTypeUserpool, CreatedTime: new(u.Created),
		Enabled: new(!u.Disabled), FirstName: Optional(u.FirstName), LastName: Optional(u.LastName), Status: new(u.State)}
}

// Associate associates the user with a stack. An association that there is takes the new notify. told is whether he was to be notified of it before.
func (u *User) Associate(stack string, notify bool) (told bool) {
	n, found := u.findStack(stack)
	u.Stacks = slices.Clone(u.Stacks)
	if !found {
		u.Stacks = slices.Insert(u.Stacks, n, UserStack{Name: stack})
	}
	told, u.Stacks[n].Notify = u.Stacks[n].Notify, notify
	return told
}

// Disassociate takes a stack away from the user, and tells whether he had it.
func (u *User) Disassociate(stack string) bool {
	n, found := u.findStack(stack)
	if found {
		u.Stacks = slices.Delete(slices.Clone(u.Stacks), n, n+1)
	}
	return found
}

// Has tells whether the user is associated with a stack.
func (u *User) Has(stack string) bool {
	_, found := u.findStack(stack)
	return found
}

func (u *User) findStack(stack string) (int, bool) {
	return slices.BinarySearchFunc(u.Stacks, stack, func(s UserStack, name string) int { return strings.Compare(s.Name, name) })
}

// EnterUnconfirmed makes a new user UNCONFIRMED.
func (u *User) EnterUnconfirmed(now time.Time) { u.Enter(UserUnconfirmed, now, 0) }

// A Visit is a browser in which a user is signed in to the portal, or something else that has a secret and its time.
type Visit struct {
	Hash    string // of the secret
	Until   time.Time
	Limited bool `json:",omitzero"` // it came of a temporary password, and is good for choosing another alone
}

const (
	// TemporaryTime is how long a temporary password is good.
	TemporaryTime = 7 * 24 * time.Hour
	// ResetTime is how long the link is good by which another password can be chosen.
	ResetTime = 24 * time.Hour
	// ResetPause is how long after such a link the next one can be asked for; with each that is still good it is twice as long.
	ResetPause = 2 * time.Minute
	// VisitTime is how long one stays signed in.
	VisitTime = 12 * time.Hour
	// BrowserTime is how long a browser is known after it was signed in with.
	BrowserTime = 180 * 24 * time.Hour

	maxVisits = 10
	maxResets = 5
)

// Invite gives the user a temporary password, of that hash. Another one that he had, and the browsers that he came by, are of no use any more.
func (u *User) Invite(hash string, now time.Time) {
	u.Password, u.Temporary, u.Resets, u.Visits = hash, now.Add(TemporaryTime), nil, nil
}

// Choose gives the user the password that he chose, of that hash.
func (u *User) Choose(hash string, now time.Time) {
	u.Password, u.Temporary, u.Resets, u.Visits = hash, time.Time{}, nil, nil
	if u.State == UserUnconfirmed {
		u.Enter(UserConfirmed, now, 0)
	}
}

// SignIn adds a browser. The oldest goes when there are too many.
func (u *User) SignIn(v Visit, now time.Time) { u.Visits = add(u.Visits, v, maxVisits, now) }

// SignOut takes a browser away, and tells whether it was there.
func (u *User) SignOut(hash string) bool {
	n := slices.IndexFunc(u.Visits, func(v Visit) bool { return v.Hash == hash })
	if n >= 0 {
		u.Visits = slices.Delete(slices.Clone(u.Visits), n, n+1)
	}
	return n >= 0
}

// Visiting finds the browser whose cookie has a secret of that hash; nil when there is none, or the user may not sign in.
func (u *User) Visiting(hash string, now time.Time) *Visit {
	if u.Disabled {
		return nil
	}
	return find(u.Visits, hash, now)
}

// Know notes that the user has signed in with a browser, whose secret has that hash.
func (u *User) Know(hash string, now time.Time) {
	u.Browsers = slices.DeleteFunc(slices.Clone(u.Browsers), func(v Visit) bool { return v.Hash == hash })
	u.Browsers = add(u.Browsers, Visit{Hash: hash, Until: now.Add(BrowserTime)}, maxVisits, now)
}

// Knows tells whether the user has signed in with a browser before.
func (u *User) Knows(hash string, now time.Time) bool { return find(u.Browsers, hash, now) != nil }

// AskReset tells whether a link to choose another password with may be sent now, and notes that one is. Whoever asks for many must neither flood the user's mailbox nor push the
// link out that he wants to use: several are good, and the pause between them grows.
func (u *User) AskReset(now time.Time) bool {
	u.Resets = good(u.Resets, now)
	if now.Sub(u.ResetAsked) < ResetPause<<len(u.Resets) {
		return false
	}
	u.ResetAsked = now
	return true
}

// AddReset adds such a link, whose secret has that hash.
func (u *User) AddReset(hash string, now time.Time) {
	u.Resets = add(u.Resets, Visit{Hash: hash, Until: now.Add(ResetTime)}, maxResets, now)
}

// Resetting tells whether a link is good whose secret has that hash.
func (u *User) Resetting(hash string, now time.Time) bool { return find(u.Resets, hash, now) != nil }

// good gives those whose time is not over; add adds one to them, and leaves out the oldest when there are too many.
func good(list []Visit, now time.Time) []Visit {
	return slices.DeleteFunc(slices.Clone(list), func(v Visit) bool { return !now.Before(v.Until) })
}

func add(list []Visit, v Visit, most int, now time.Time) []Visit {
	list = append(good(list, now), v)
	return list[max(0, len(list)-most):]
}

// find finds the one of a hash whose time is not over; nil when there is none.
func find(list []Visit, hash string, now time.Time) *Visit {
	n := slices.IndexFunc(list, func(v Visit) bool {
		return subtle.ConstantTimeCompare([]byte(v.Hash), []byte(hash)) == 1 && now.Before(v.Until)
	})
	if n < 0 {
		return nil
	}
	return &list[n]
}

// PortalURL is where the users of an account and region sign in. base is scheme and host of the server; "" for an address on it.
func PortalURL(base, account, region string) string {
	return strings.TrimSuffix(base, "/") + "/portal/" + account + "/" + region
}
