package appstream

import (
	"fmt"
	"time"
)

// A Letter is a mail to a user that is to be sent. It has no secret: a temporary password, or the secret of a link, is made when it is sent, so that it is
// nowhere but in the mail.
//
//	CreateUser, … ──▶ QUEUED ──sent, refused, too late──▶ (gone)
type Letter struct {
	Meta
	Kind     LetterKind
	UserID   string // of the user's record
	Stack    string // LetterStack: its name
	Language string // of the person, as far as it is known: de; "" when it is not
}

// LetterKind is what a letter is about.
type LetterKind string

// The kinds of letters.
const (
	LetterWelcome LetterKind = "welcome" // a temporary password
	LetterReset   LetterKind = "reset"   // a link to choose another password
	LetterStack   LetterKind = "stack"   // a stack that can be used
)

// LetterQueued is the one state of a letter.
const LetterQueued = "QUEUED"

// letterTime is how long a letter is tried to be sent.
const letterTime = 48 * time.Hour

var letterTransitions = []Transition{
	{"", LetterQueued, "CreateUser, BatchAssociateUserStack, a forgotten password"},
	{LetterQueued, "", fmt.Sprintf("it was sent or refused, or could not be sent within %s", letterTime)},
}

// EnterQueued makes a new letter QUEUED.
func (l *Letter) EnterQueued(now time.Time) { l.Enter(LetterQueued, now, letterTime) }

// EnsureDelivered hands a letter to the mail server.
type EnsureDelivered struct{ Letter Letter }

func (a EnsureDelivered) String() string { return "send the mail " + a.Letter.ID }

// PlanLetter decides the next step of a letter. It is pure.
func PlanLetter(l Letter, now time.Time) Decision[Letter] {
	switch p := l.Problem; {
	case p != nil && p.Lasting:
		return Decision[Letter]{Next: l, Remove: true, Why: p.Message}
	case l.Overdue(now):
		return Decision[Letter]{Next: l, Remove: true, Why: fmt.Sprintf("not sent within %s.%s", letterTime, lastWords(p, Agent{}))}
	}
	return Decision[Letter]{Next: l, Do: []Action{EnsureDelivered{l}}, Remove: true, Why: "sent"}
}
