package appstream

import (
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
//	CreateUser ──▶ UNCONFIRMED ──chose a password──▶ CONFIRMED ──DeleteUser──▶ (gone)
//
// Whether he may sign in (DisableUser) is no state: it is kept beside.
type User struct {
	Meta
	FirstName, LastName string
	Disabled            bool
	Stacks              []UserStack `json:",omitempty"` // that he is associated with, in the order of their names
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
	{UserUnconfirmed, "", "DeleteUser"},
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

// Associate associates the user with a stack. An association that there is takes the new notify.
func (u *User) Associate(stack string, notify bool) {
	n, found := u.findStack(stack)
	u.Stacks = slices.Clone(u.Stacks)
	if !found {
		u.Stacks = slices.Insert(u.Stacks, n, UserStack{Name: stack})
	}
	u.Stacks[n].Notify = notify
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
