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

// CreateEntitlement adds an entitlement to a stack.
func (s *Service) CreateEntitlement(ctx context.Context, in *aws.CreateEntitlementInput) (*aws.CreateEntitlementOutput, error) {
	if err := appstream.CheckEntitlementAttributes(in.Attributes); err != nil {
		return nil, err
	}
	stack, k := entitlementKeys(ctx, in.StackName, in.Name)
	e := appstream.Entitlement{Meta: appstream.Meta{Key: k, ID: newID("entitlement-")}, Stack: stack.Name, Title: value(in.Name), Description: in.Description,
		Visibility: in.AppVisibility, Attributes: in.Attributes}
	err := s.change(ctx, "appstream:CreateEntitlement", stack, func(tx store.Tx, now time.Time) error {
		if err := get(tx, stack, &appstream.Stack{}); err != nil {
			return err
		}
		switch err := tx.Get(k, &appstream.Entitlement{}); {
		case err == nil:
			return appstream.Errorf(appstream.EntitlementAlreadyExists, "The entitlement %s already exists on the stack %s. Choose another name, or delete it first.", e.Title, e.Stack)
		case !errors.Is(err, store.ErrNotFound):
			return err
		}
		have, err := entitlementsOf(tx, stack, store.Position{}, 0)
		if err != nil {
			return err
		}
		if limit := s.cfg.Quotas.Entitlements; len(have) >= limit {
			return appstream.Errorf(appstream.LimitExceeded, "The entitlement limit for stack %s was exceeded. Delete one that is not needed. Limit: %d", stack.Name, limit)
		}
		e.Created, e.Modified = now, now
		e.Enter(appstream.EntitlementAvailable, now, 0)
		return insert(tx, &e, now, "CreateEntitlement")
	})
	if err != nil {
		return nil, err
	}
	return &aws.CreateEntitlementOutput{Entitlement: new(e.Describe())}, nil
}

// entitlementKeys names a stack of the caller and an entitlement of it.
func entitlementKeys(ctx context.Context, stack, name *string) (stackKey, k appstream.Key) {
	c := appstream.CallerFrom(ctx)
	return key(c, appstream.NounStack, value(stack)), key(c, appstream.NounEntitlement, appstream.EntitlementName(value(stack), value(name)))
}

// entitlement reads an entitlement of a stack. The error says which of the two is missing.
func entitlement(tx store.Tx, stack, k appstream.Key) (e appstream.Entitlement, err error) {
	if err := get(tx, stack, &appstream.Stack{}); err != nil {
		return e, err
	}
	err = tx.Get(k, &e)
	if errors.Is(err, store.ErrNotFound) {
		err = appstream.Errorf(appstream.EntitlementNotFound, "The entitlement %s does not exist on the stack %s.", k.Name[len(stack.Name)+1:], stack.Name)
	}
	return e, err
}

// entitlementsOf reads the entitlements of a stack behind a position, in the order of their names.
func entitlementsOf(tx store.Tx, stack appstream.Key, after store.Position, limit int) ([]appstream.Entitlement, error) {
	return store.List[appstream.Entitlement](tx, store.Query{Noun: appstream.NounEntitlement, Region: stack.Region, Accounts: []string{stack.Account},
		Prefix: appstream.EntitlementName(stack.Name, ""), After: after, Limit: limit})
}

// changeEntitlement reads an entitlement, lets fn change it, and writes it.
func (s *Service) changeEntitlement(ctx context.Context, op string, stackName, name *string, fn func(e *appstream.Entitlement, now time.Time) error) (e appstream.Entitlement, err error) {
	stack, k := entitlementKeys(ctx, stackName, name)
	err = s.change(ctx, "appstream:"+op, stack, func(tx store.Tx, now time.Time) error {
		if e, err = entitlement(tx, stack, k); err != nil {
			return err
		}
		if err := fn(&e, now); err != nil {
			return err
		}
		return tx.Put(&e)
	})
	return e, err
}

// UpdateEntitlement changes an entitlement: what is sent replaces what was, what is not sent stays.
func (s *Service) UpdateEntitlement(ctx context.Context, in *aws.UpdateEntitlementInput) (*aws.UpdateEntitlementOutput, error) {
	if err := appstream.CheckEntitlementAttributes(in.Attributes); err != nil {
		return nil, err
	}
	e, err := s.changeEntitlement(ctx, "UpdateEntitlement", in.StackName, in.Name, func(e *appstream.Entitlement, now time.Time) error {
		set(&e.Description, in.Description)
		setList(&e.Attributes, in.Attributes)
		e.Visibility, e.Modified = or(in.AppVisibility, e.Visibility), now
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &aws.UpdateEntitlementOutput{Entitlement: new(e.Describe())}, nil
}

// DeleteEntitlement removes an entitlement from a stack.
func (s *Service) DeleteEntitlement(ctx context.Context, in *aws.DeleteEntitlementInput) (*aws.DeleteEntitlementOutput, error) {
	stack, k := entitlementKeys(ctx, in.StackName, in.Name)
	err := s.change(ctx, "appstream:DeleteEntitlement", stack, func(tx store.Tx, now time.Time) error {
		e, err := entitlement(tx, stack, k)
		if err != nil {
			return err
		}
		return remove(tx, &e, now, "DeleteEntitlement")
	})
	if err != nil {
		return nil, err
	}
	return &aws.DeleteEntitlementOutput{}, nil
}

// removeEntitlements removes the entitlements of a stack that goes.
func removeEntitlements(tx store.Tx, stack appstream.Key, now time.Time) error {
	list, err := entitlementsOf(tx, stack, store.Position{}, 0)
	for n := range list {
		if err == nil {
			err = remove(tx, &list[n], now, "DeleteStack")
		}
	}
	return err
}

// DescribeEntitlements describes an entitlement of a stack, or all of them.
func (s *Service) DescribeEntitlements(ctx context.Context, in *aws.DescribeEntitlementsInput) (*aws.DescribeEntitlementsOutput, error) {
	p, err := openPage(appstream.CallerFrom(ctx), in, listSize, 500)
	if err != nil {
		return nil, err
	}
	stack, k := entitlementKeys(ctx, in.StackName, in.Name)
	var list []appstream.Entitlement
	err = s.cfg.Store.View(ctx, func(tx store.Tx) error {
		if in.Name != nil {
			e, err := entitlement(tx, stack, k)
			list = append(list, e)
			return err
		}
		if err := get(tx, stack, &appstream.Stack{}); err != nil {
			return err
		}
		list, err = entitlementsOf(tx, stack, p.after, p.size+1)
		return err
	})
	if err != nil {
		return nil, err
	}
	list, next := cut(p, list, place)
	out := &aws.DescribeEntitlementsOutput{Entitlements: make([]types.Entitlement, len(list)), NextToken: next}
	for n := range list {
		out.Entitlements[n] = list[n].Describe()
	}
	return out, nil
}

// maxIdentifier is the greatest length of an application's identifier, in bytes.
const maxIdentifier = 256

// AssociateApplicationToEntitlement adds an application to an entitlement. One that it has is no error. Whether a fleet of the stack has the application is
// not asked: fleets come and go, and images change.
func (s *Service) AssociateApplicationToEntitlement(ctx context.Context, in *aws.AssociateApplicationToEntitlementInput) (*aws.AssociateApplicationToEntitlementOutput, error) {
	id := value(in.ApplicationIdentifier)
	if id == "" || len(id) > maxIdentifier {
		return nil, appstream.Errorf(appstream.Validation, "ApplicationIdentifier has %d bytes. It must have between 1 and %d.", len(id), maxIdentifier)
	}
	_, err := s.changeEntitlement(ctx, "AssociateApplicationToEntitlement", in.StackName, in.EntitlementName, func(e *appstream.Entitlement, _ time.Time) error {
		e.Entitle(id)
		if limit := s.cfg.Quotas.EntitledApplications; len(e.Applications) > limit {
			return appstream.Errorf(appstream.LimitExceeded, "The application limit for entitlement %s was exceeded. Disassociate one that is not needed. Limit: %d", e.Title, limit)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &aws.AssociateApplicationToEntitlementOutput{}, nil
}

// DisassociateApplicationFromEntitlement takes an application away from an entitlement.
func (s *Service) DisassociateApplicationFromEntitlement(ctx context.Context, in *aws.DisassociateApplicationFromEntitlementInput) (*aws.DisassociateApplicationFromEntitlementOutput, error) {
	_, err := s.changeEntitlement(ctx, "DisassociateApplicationFromEntitlement", in.StackName, in.EntitlementName, func(e *appstream.Entitlement, _ time.Time) error {
		if id := value(in.ApplicationIdentifier); !e.Withdraw(id) {
			return appstream.Errorf(appstream.ResourceNotFound, "The application %.256s is not associated with the entitlement %s.", id, e.Title)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &aws.DisassociateApplicationFromEntitlementOutput{}, nil
}

// ListEntitledApplications lists the applications of an entitlement.
func (s *Service) ListEntitledApplications(ctx context.Context, in *aws.ListEntitledApplicationsInput) (*aws.ListEntitledApplicationsOutput, error) {
	p, err := openPage(appstream.CallerFrom(ctx), in, listSize, 500)
	if err != nil {
		return nil, err
	}
	stack, k := entitlementKeys(ctx, in.StackName, in.EntitlementName)
	var e appstream.Entitlement
	err = s.cfg.Store.View(ctx, func(tx store.Tx) error {
		e, err = entitlement(tx, stack, k)
		return err
	})
	if err != nil {
		return nil, err
	}
	names, next := cut(p, namesAfter(e.Applications, p.after.Name), func(name string) store.Position { return store.Position{Name: name} })
	out := &aws.ListEntitledApplicationsOutput{EntitledApplications: make([]types.EntitledApplication, len(names)), NextToken: next}
	for n := range names {
		out.EntitledApplications[n].ApplicationIdentifier = &names[n]
	}
	return out, nil
}
