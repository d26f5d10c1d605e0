package service

import (
	"context"
	"errors"
	"time"

	aws "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// CreateUser adds a user to the pool; with RESEND it invites one again who has not chosen a password yet.
func (s *Service) CreateUser(ctx context.Context, in *aws.CreateUserInput) (*aws.CreateUserOutput, error) {
	k, err := userKey(ctx, "create", in.AuthenticationType, in.UserName)
	if err != nil {
		return nil, err
	}
	resend := in.MessageAction == types.MessageActionResend
	switch {
	case resend && (value(in.FirstName) != "" || value(in.LastName) != ""):
		return nil, appstream.Errorf(appstream.InvalidParameterCombination, "FirstName and LastName cannot be sent with the MessageAction RESEND. Leave them out.")
	case !resend && !appstream.EmailAddress(k.Name):
		return nil, appstream.Errorf(appstream.InvalidParameterCombination, "UserName is not an e-mail address. Specify one, jane@example.com for example.")
	}
	err = s.change(ctx, "appstream:CreateUser", k, func(tx store.Tx, now time.Time) error {
		var u appstream.User
		if resend {
			switch err := tx.Get(k, &u); {
			case errors.Is(err, store.ErrNotFound):
				return appstream.Errorf(appstream.OperationNotPermitted, "The user %s does not exist, so there is nothing to send again. Leave MessageAction out to create it.", k.Name)
			case err != nil:
				return err
			case u.Disabled:
				return appstream.Errorf(appstream.OperationNotPermitted, "The user %s is disabled. Call EnableUser, and send it again.", k.Name)
			case u.State != appstream.UserUnconfirmed:
				return appstream.Errorf(appstream.OperationNotPermitted, "The user %s is %s: a password was chosen already. A new one can be chosen at the portal.", k.Name, u.State)
			}
			return s.write(tx, &u, appstream.LetterWelcome, "", "", now)
		}
		if err := s.room(tx, k, &u, s.cfg.Quotas.Users, "The user %s already exists."); err != nil {
			return err
		}
		u = appstream.User{Meta: appstream.Meta{Key: k, ID: newID("user-"), Created: now}, FirstName: value(in.FirstName), LastName: value(in.LastName)}
		u.EnterUnconfirmed(now)
		if err := insert(tx, &u, now, "CreateUser"); err != nil || in.MessageAction == types.MessageActionSuppress {
			return err
		}
		return s.write(tx, &u, appstream.LetterWelcome, "", "", now)
	})
	if err != nil {
		return nil, err
	}
	return &aws.CreateUserOutput{}, nil
}

// userKey names a user of the caller's pool. verb is what is to be done, for AWS's own words about other kinds of users.
func userKey(ctx context.Context, verb string, auth types.AuthenticationType, name *string) (appstream.Key, error) {
	return key(appstream.CallerFrom(ctx), appstream.NounUser, value(name)), poolOnly(verb+" a user", auth)
}

func poolOnly(what string, auth types.AuthenticationType) error {
	if auth == types.AuthenticationTypeUserpool {
		return nil
	}
	return appstream.Errorf(appstream.InvalidParameterValue, "Cannot %s with '%s' authentication type", what, auth)
}

// DescribeUsers describes the users of the pool, in the order of their names.
func (s *Service) DescribeUsers(ctx context.Context, in *aws.DescribeUsersInput) (*aws.DescribeUsersOutput, error) {
	c := appstream.CallerFrom(ctx)
	if err := poolOnly("describe users", in.AuthenticationType); err != nil {
		return nil, err
	}
	p, err := openPage(c, in, listSize, 500)
	if err != nil {
		return nil, err
	}
	list, next, err := records[appstream.User](ctx, s, c, p, appstream.NounUser, nil)
	if err != nil {
		return nil, err
	}
	out := &aws.DescribeUsersOutput{Users: make([]types.User, len(list)), NextToken: next}
	for n := range list {
		out.Users[n] = list[n].Describe()
	}
	return out, nil
}

// EnableUser lets a user sign in who was disabled. One who was not is left as he is.
func (s *Service) EnableUser(ctx context.Context, in *aws.EnableUserInput) (*aws.EnableUserOutput, error) {
	if err := s.enable(ctx, "EnableUser", "enable", in.AuthenticationType, in.UserName, true); err != nil {
		return nil, err
	}
	return &aws.EnableUserOutput{}, nil
}

// stayTime is how long sessions go on of a user who is disabled or deleted: about as long as AppStream's cookies.
const stayTime = time.Hour

// DisableUser keeps a user from signing in, and signs him out of the portal. His sessions on fleets end within stayTime.
func (s *Service) DisableUser(ctx context.Context, in *aws.DisableUserInput) (*aws.DisableUserOutput, error) {
	if err := s.enable(ctx, "DisableUser", "disable", in.AuthenticationType, in.UserName, false); err != nil {
		return nil, err
	}
	return &aws.DisableUserOutput{}, nil
}

func (s *Service) enable(ctx context.Context, op, verb string, auth types.AuthenticationType, name *string, enabled bool) error {
	k, err := userKey(ctx, verb, auth, name)
	if err != nil {
		return err
	}
	return s.change(ctx, "appstream:"+op, k, func(tx store.Tx, now time.Time) error {
		var u appstream.User
		if err := get(tx, k, &u); err != nil || u.Disabled == !enabled {
			return err
		}
		if u.Disabled = !enabled; u.Disabled {
			u.Visits, u.Resets = nil, nil // he is signed out everywhere
			if err := dismiss(tx, &u, now); err != nil {
				return err
			}
		}
		return tx.Put(&u)
	})
}

// dismiss has the sessions of a user end within stayTime.
func dismiss(tx store.Tx, u *appstream.User, now time.Time) error {
	sessions, err := sessionsOfUser(tx, u)
	for n := range sessions {
		if sessions[n].Dismiss(now.Add(stayTime)) {
			sessions[n].Due, sessions[n].Person = now, u.ID // the engine looks when its time is over
			err = errors.Join(err, tx.Put(&sessions[n]))
		}
	}
	return err
}

// sessionsOfUser gives the sessions of a user on all fleets that are not over.
func sessionsOfUser(tx store.Tx, u *appstream.User) (sessions []appstream.Session, err error) {
	fleets, err := fleetsIn(tx, u.Key)
	for n := range fleets {
		of, failed := sessionsOf(tx, &fleets[n], u.Name, u.ID, userPool)
		sessions, err = append(sessions, of...), errors.Join(err, failed)
	}
	return sessions, err
}

// fleetsIn gives the fleets of the account and region that a key is of.
func fleetsIn(tx store.Tx, k appstream.Key) ([]appstream.Fleet, error) {
	return store.List[appstream.Fleet](tx, store.Query{Noun: appstream.NounFleet, Region: k.Region, Accounts: []string{k.Account}})
}

// DeleteUser takes a user out of the pool, with his associations and what was to be mailed to him. His sessions on fleets end within stayTime.
func (s *Service) DeleteUser(ctx context.Context, in *aws.DeleteUserInput) (*aws.DeleteUserOutput, error) {
	k, err := userKey(ctx, "delete", in.AuthenticationType, in.UserName)
	if err != nil {
		return nil, err
	}
	err = s.change(ctx, "appstream:DeleteUser", k, func(tx store.Tx, now time.Time) error {
		var u appstream.User
		if err := get(tx, k, &u); err != nil {
			return err
		}
		return errors.Join(dismiss(tx, &u, now), unsendAll(tx, &u, now, "DeleteUser"), remove(tx, &u, now, "DeleteUser"))
	})
	if err != nil {
		return nil, err
	}
	return &aws.DeleteUserOutput{}, nil
}
