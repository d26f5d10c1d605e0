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

// BatchAssociateUserStack lets users of the pool use stacks. Each entry is done or refused by itself; associating what is associated already is no
// error. A stack with a fleet that is joined to a directory is not for users of the pool, and nothing of a batch with one is done.
func (s *Service) BatchAssociateUserStack(ctx context.Context, in *aws.BatchAssociateUserStackInput) (*aws.BatchAssociateUserStackOutput, error) {
	failed, err := s.eachUserStack(ctx, "BatchAssociateUserStack", in.UserStackAssociations, func(tx store.Tx, u *appstream.User, a types.UserStackAssociation, now time.Time) error {
		if err := joined(tx, key(appstream.CallerFrom(ctx), appstream.NounStack, value(a.StackName))); err != nil {
			return err
		}
		told := u.Associate(value(a.StackName), value(a.SendEmailNotification))
		if err := tx.Put(u); err != nil || told || !value(a.SendEmailNotification) {
			return err
		}
		return s.write(tx, u, appstream.LetterStack, value(a.StackName), "", now)
	})
	if err != nil {
		return nil, err
	}
	return &aws.BatchAssociateUserStackOutput{Errors: failed}, nil
}

// joined refuses a stack with a fleet that is joined to a directory.
func joined(tx store.Tx, stack appstream.Key) error {
	fleets, err := store.List[appstream.Fleet](tx, store.Query{Noun: appstream.NounFleet, Region: stack.Region, Accounts: []string{stack.Account}, LinksTo: stack.ARN()})
	for n := range fleets {
		if join := fleets[n].View.DomainJoinInfo; err == nil && join != nil && value(join.DirectoryName) != "" {
			err = appstream.Errorf(appstream.OperationNotPermitted, "The stack %s has the fleet %s, which is joined to the directory %s. Users of the user pool cannot be associated with it.",
				stack.Name, fleets[n].Name, *join.DirectoryName)
		}
	}
	return err
}

// BatchDisassociateUserStack takes stacks away from users of the pool. Disassociating what is not associated is no error.
func (s *Service) BatchDisassociateUserStack(ctx context.Context, in *aws.BatchDisassociateUserStackInput) (*aws.BatchDisassociateUserStackOutput, error) {
	failed, err := s.eachUserStack(ctx, "BatchDisassociateUserStack", in.UserStackAssociations, func(tx store.Tx, u *appstream.User, a types.UserStackAssociation, _ time.Time) error {
		if !u.Disassociate(value(a.StackName)) {
			return nil
		}
		return tx.Put(u)
	})
	if err != nil {
		return nil, err
	}
	return &aws.BatchDisassociateUserStackOutput{Errors: failed}, nil
}

// eachUserStack does something for each entry whose user and stack are there, all of it in one transaction, and gives the errors of the others. Each entry has its line in the
// audit log, which says who was given what.
func (s *Service) eachUserStack(ctx context.Context, op string, list []types.UserStackAssociation,
	do func(store.Tx, *appstream.User, types.UserStackAssociation, time.Time) error) (failed []types.UserStackAssociationError, err error) {
	c := appstream.CallerFrom(ctx)
	for n, a := range list {
		if a.AuthenticationType != types.AuthenticationTypeUserpool {
			return nil, appstream.Errorf(appstream.InvalidParameterCombination, "UserStackAssociations[%d].AuthenticationType is %s. It must be USERPOOL.", n, a.AuthenticationType)
		}
	}
	now := time.Now().UTC()
	err = s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		failed = []types.UserStackAssociationError{}
		for _, a := range list {
			var u appstream.User
			userKey, stackKey := key(c, appstream.NounUser, value(a.UserName)), key(c, appstream.NounStack, value(a.StackName))
			code, err := types.UserStackAssociationErrorCodeStackNotFound, get(tx, stackKey, &appstream.Stack{})
			if err == nil {
				code, err = types.UserStackAssociationErrorCodeUserNameNotFound, get(tx, userKey, &u)
			}
			line := AuditLine(ctx, now, "appstream:"+op, stackKey.ARN()+" "+userKey.ARN(), "")
			switch missing, ok := errors.AsType[*appstream.Error](err); {
			case err == nil:
				err = do(tx, &u, a, now)
			case ok:
				failed = append(failed, types.UserStackAssociationError{UserStackAssociation: &a, ErrorCode: code, ErrorMessage: &missing.Message})
				line.Result, err = string(code), nil
			}
			if err = errors.Join(err, tx.AddAudit(line)); err != nil {
				return err
			}
		}
		return nil
	})
	return failed, err
}

// DescribeUserStackAssociations describes the associations of a user, or of a stack, or that of both.
func (s *Service) DescribeUserStackAssociations(ctx context.Context, in *aws.DescribeUserStackAssociationsInput) (*aws.DescribeUserStackAssociationsOutput, error) {
	c := appstream.CallerFrom(ctx)
	stack, user := value(in.StackName), value(in.UserName)
	switch {
	case stack == "" && user == "":
		return nil, appstream.Errorf(appstream.InvalidParameterCombination, "Specify StackName, or UserName with AuthenticationType USERPOOL, or all of them.")
	case (user != "" || in.AuthenticationType != "") && in.AuthenticationType != types.AuthenticationTypeUserpool:
		return nil, appstream.Errorf(appstream.InvalidParameterCombination, "AuthenticationType must be USERPOOL. Specify it together with UserName.")
	}
	p, err := openPage(c, in, 500, 500)
	if err != nil {
		return nil, err
	}
	list := []types.UserStackAssociation{}
	// An association's place is that of its user, and among his that of its stack. The user of the last page may have more.
	of := func(u *appstream.User) {
		for _, a := range u.Stacks {
			if stack != "" && a.Name != stack || u.Name == p.after.Name && a.Name <= p.after.Account {
				continue
			}
			list = append(list, types.UserStackAssociation{AuthenticationType: types.AuthenticationTypeUserpool, StackName: new(a.Name), UserName: new(u.Name),
				SendEmailNotification: new(a.Notify)})
		}
	}
	err = s.cfg.Store.View(ctx, func(tx store.Tx) error {
		var u appstream.User
		if user != "" {
			if err := tx.Get(key(c, appstream.NounUser, user), &u); err != nil {
				return ignoreMissing(err)
			}
			of(&u)
			return nil
		}
		q := store.Query{Noun: appstream.NounUser, Region: c.Region, Accounts: []string{c.Account}, After: store.Position{Name: p.after.Name},
			LinksTo: key(c, appstream.NounStack, stack).ARN()}
		return walk(tx, q, func(u *appstream.User) bool {
			of(u)
			return len(list) <= p.size
		})
	})
	if err != nil {
		return nil, err
	}
	list, next := cut(p, list, func(a types.UserStackAssociation) store.Position {
		return store.Position{Name: *a.UserName, Account: *a.StackName}
	})
	return &aws.DescribeUserStackAssociationsOutput{UserStackAssociations: list, NextToken: next}, nil
}

// ignoreMissing turns the error about a record that is not there into none.
func ignoreMissing(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// forgetStack takes a stack that goes away from the users who have it.
func forgetStack(tx store.Tx, stack appstream.Key) error {
	users, err := store.List[appstream.User](tx, store.Query{Noun: appstream.NounUser, Region: stack.Region, Accounts: []string{stack.Account}, LinksTo: stack.ARN()})
	for n := range users {
		if err == nil && users[n].Disassociate(stack.Name) {
			err = tx.Put(&users[n])
		}
	}
	return err
}
