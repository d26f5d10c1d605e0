package service

import (
	"context"
	"errors"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/password"
	"github.com/oriel-project/oriel/internal/store"
)

// CreateInvitationInput asks for a temporary password of a user, to be handed over by other means than mail.
type CreateInvitationInput struct {
	UserName *string // required
}

// CreateInvitationOutput has the password. It is shown here and nowhere else.
type CreateInvitationOutput struct {
	UserName          *string
	TemporaryPassword *string
	Expires           *time.Time
	PortalURL         *string
}

// CreateInvitation gives a user a temporary password. One that he was given before is of no use any more, nor is one that he chose: he is UNCONFIRMED and chooses
// another when he signs in.
func (s *Service) CreateInvitation(ctx context.Context, in *CreateInvitationInput) (*CreateInvitationOutput, error) {
	c := appstream.CallerFrom(ctx)
	k := key(c, appstream.NounUser, value(in.UserName))
	if k.Name == "" || len(k.Name) > 4*appstream.MaxUserName {
		return nil, appstream.Errorf(appstream.Validation, "UserName must be the e-mail address of a user.")
	}
	temporary := password.Temporary()
	hash, err := s.cfg.Passwords.Hash(ctx, temporary)
	if err != nil {
		return nil, appstream.Errorf(appstream.Unavailable, "Many people are signing in just now. Try again. (%w)", err)
	}
	var u appstream.User
	err = s.change(ctx, "oriel:CreateInvitation", k, func(tx store.Tx, now time.Time) error {
		if err := get(tx, k, &u); err != nil {
			return err
		}
		if u.Disabled {
			return appstream.Errorf(appstream.OperationNotPermitted, "The user %s is disabled. Call EnableUser, and ask again.", k.Name)
		}
		u.Invite(hash, now)
		if u.State != appstream.UserUnconfirmed {
			if err := tx.AddEvent(store.Event{At: now, ID: u.ID, Key: k, From: u.State, To: appstream.UserUnconfirmed, Why: "CreateInvitation"}); err != nil {
				return err
			}
			u.EnterUnconfirmed(now)
		}
		// An invitation that is still to be mailed has another password, which would make this one void.
		return errors.Join(unsend(tx, &u, appstream.LetterWelcome, now, "CreateInvitation"), tx.Put(&u))
	})
	if err != nil {
		return nil, err
	}
	s.triesOf.Clear(k.ARN()) // what was guessed was another password
	return &CreateInvitationOutput{UserName: in.UserName, TemporaryPassword: &temporary, Expires: &u.Temporary, PortalURL: new(appstream.PortalURL(c.BaseURL, c.Account, c.Region))}, nil
}
