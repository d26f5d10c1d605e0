package service

import (
	"context"
	"slices"
	"time"

	aws "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// AssociateFleet lets people who come by a stack use a fleet. Associating what is associated already is no error.
func (s *Service) AssociateFleet(ctx context.Context, in *aws.AssociateFleetInput) (*aws.AssociateFleetOutput, error) {
	err := s.associate(ctx, "AssociateFleet", value(in.FleetName), value(in.StackName), func(_ store.Tx, f *appstream.Fleet, stack *appstream.Stack) error {
		if n, found := slices.BinarySearch(f.Stacks, stack.Name); !found {
			f.Stacks = slices.Insert(slices.Clone(f.Stacks), n, stack.Name)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &aws.AssociateFleetOutput{}, nil
}

// DisassociateFleet takes a fleet away from a stack, if nobody who came by it is on the fleet. Disassociating what is not associated is
// no error.
func (s *Service) DisassociateFleet(ctx context.Context, in *aws.DisassociateFleetInput) (*aws.DisassociateFleetOutput, error) {
	err := s.associate(ctx, "DisassociateFleet", value(in.FleetName), value(in.StackName), func(tx store.Tx, f *appstream.Fleet, stack *appstream.Stack) error {
		n, found := slices.BinarySearch(f.Stacks, stack.Name)
		if !found {
			return nil
		}
		count := 0
		err := tx.Scan(store.Query{Noun: appstream.NounSession, Region: f.Region, Accounts: []string{f.Account},
			Prefix: appstream.SessionPrefix(f.Name, ""), States: []string{appstream.SessionPending, appstream.SessionActive}},
			func(_ appstream.Meta, decode func(appstream.Record) error) error {
				var session appstream.Session
				err := decode(&session)
				if session.StackID == stack.ID && session.FleetID == f.ID {
					count++
				}
				return err
			})
		if err != nil {
			return err
		}
		if count > 0 {
			return appstream.Errorf(appstream.ResourceInUse, "The fleet %s has %d session(s) of the stack %s. End them with ExpireSession, or stop the fleet, and then disassociate it.",
				f.Name, count, stack.Name)
		}
		f.Stacks = slices.Delete(slices.Clone(f.Stacks), n, n+1)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &aws.DisassociateFleetOutput{}, nil
}

// associate reads a fleet and a stack of the caller, lets fn change the fleet's list of stacks, and writes it if that was done.
func (s *Service) associate(ctx context.Context, op, fleet, stack string, fn func(store.Tx, *appstream.Fleet, *appstream.Stack) error) error {
	c := appstream.CallerFrom(ctx)
	k := key(c, appstream.NounFleet, fleet)
	return s.change(ctx, "appstream:"+op, k, func(tx store.Tx, _ time.Time) error {
		var f appstream.Fleet
		var st appstream.Stack
		if err := get(tx, k, &f); err != nil {
			return err
		}
		if err := get(tx, key(c, appstream.NounStack, stack), &st); err != nil {
			return err
		}
		before := f.Stacks
		if err := fn(tx, &f, &st); err != nil || slices.Equal(before, f.Stacks) {
			return err
		}
		return tx.Put(&f)
	})
}

// ListAssociatedFleets names the fleets that a stack is associated with.
func (s *Service) ListAssociatedFleets(ctx context.Context, in *aws.ListAssociatedFleetsInput) (*aws.ListAssociatedFleetsOutput, error) {
	c := appstream.CallerFrom(ctx)
	p, err := openPage(c, in, listSize, listSize)
	if err != nil {
		return nil, err
	}
	var fleets []appstream.Fleet
	err = s.cfg.Store.View(ctx, func(tx store.Tx) error {
		var stack appstream.Stack
		if err := get(tx, key(c, appstream.NounStack, value(in.StackName)), &stack); err != nil {
			return err
		}
		fleets, err = fleetsOf(tx, stack.Key, p)
		return err
	})
	if err != nil {
		return nil, err
	}
	fleets, next := cut(p, fleets, place)
	var names []string
	for _, f := range fleets {
		names = append(names, f.Name)
	}
	return &aws.ListAssociatedFleetsOutput{Names: names, NextToken: next}, nil
}

// ListAssociatedStacks names the stacks that a fleet is associated with.
func (s *Service) ListAssociatedStacks(ctx context.Context, in *aws.ListAssociatedStacksInput) (*aws.ListAssociatedStacksOutput, error) {
	c := appstream.CallerFrom(ctx)
	p, err := openPage(c, in, listSize, listSize)
	if err != nil {
		return nil, err
	}
	var f appstream.Fleet
	err = s.cfg.Store.View(ctx, func(tx store.Tx) error { return get(tx, key(c, appstream.NounFleet, value(in.FleetName)), &f) })
	if err != nil {
		return nil, err
	}
	names, next := cut(p, namesAfter(f.Stacks, p.after.Name), func(name string) store.Position { return store.Position{Name: name} })
	return &aws.ListAssociatedStacksOutput{Names: names, NextToken: next}, nil
}

// fleetsOf gives a page of the fleets that a stack is associated with, and one more.
func fleetsOf(tx store.Tx, stack appstream.Key, p page) ([]appstream.Fleet, error) {
	return store.List[appstream.Fleet](tx, store.Query{Noun: appstream.NounFleet, Region: stack.Region, Accounts: []string{stack.Account}, LinksTo: stack.ARN(),
		After: p.after, Limit: p.size + 1})
}
