package service

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	aws "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/picture"
	"github.com/oriel-project/oriel/internal/store"
)

// The instance families of applications.
const generalPurpose, graphicsG4 = "GENERAL_PURPOSE", "GRAPHICS_G4"

// iconLimit is what the icon of an application may be. The catalogue shows it small; AppStream does not say how large it may be.
var iconLimit = picture.Limit{Bytes: 300 << 10, Width: 1024, Height: 1024}

// CreateApplication creates an application of an app block.
func (s *Service) CreateApplication(ctx context.Context, in *aws.CreateApplicationInput) (*aws.CreateApplicationOutput, error) {
	c := appstream.CallerFrom(ctx)
	a := appstream.Application{Meta: appstream.Meta{Key: key(c, appstream.NounApplication, value(in.Name)), ID: newID("app-"), Tags: maps.Clone(in.Tags)}}
	a.View = types.Application{
		AppBlockArn: in.AppBlockArn, Description: in.Description, DisplayName: in.DisplayName, IconS3Location: in.IconS3Location,
		InstanceFamilies: in.InstanceFamilies, LaunchParameters: in.LaunchParameters, LaunchPath: in.LaunchPath, Platforms: in.Platforms,
		WorkingDirectory: in.WorkingDirectory,
	}
	err := checkLaunch(&a.View)
	if err != nil {
		return nil, err
	}
	if a.Icon, err = s.picture(ctx, "IconS3Location", in.IconS3Location, iconLimit); err != nil {
		return nil, err
	}
	err = s.change(ctx, "appstream:CreateApplication", a.Key, func(tx store.Tx, now time.Time) error {
		if err := hasAppBlock(tx, c, &a); err != nil {
			return err
		}
		if err := s.room(tx, a.Key, &appstream.Application{}, s.cfg.Quotas.Applications, "The application %s already exists. Choose another name, or delete it first."); err != nil {
			return err
		}
		a.Created = now
		a.Enter(appstream.ApplicationAvailable, now, 0)
		return insert(tx, &a, now, "CreateApplication")
	})
	if err != nil {
		return nil, err
	}
	return &aws.CreateApplicationOutput{Application: new(s.describeApplication(c, &a))}, nil
}

// checkLaunch checks how an application, new or updated, is started.
func checkLaunch(v *types.Application) error {
	if len(v.Platforms) == 0 {
		return appstream.Errorf(appstream.OperationNotPermitted, "Platforms is empty. Specify the platforms that the application can run on.")
	}
	if len(v.InstanceFamilies) == 0 {
		return appstream.Errorf(appstream.OperationNotPermitted, "InstanceFamilies is empty. Specify %s, or %s, or both.", generalPurpose, graphicsG4)
	}
	for n, family := range v.InstanceFamilies {
		if family != generalPurpose && family != graphicsG4 {
			return appstream.Errorf(appstream.OperationNotPermitted, "InstanceFamilies[%d] is %.100q. It must be %s or %s.", n, family, generalPurpose, graphicsG4)
		}
	}
	for _, m := range []struct {
		member string
		value  *string
		limit  int
	}{{"LaunchPath", v.LaunchPath, 4096}, {"WorkingDirectory", v.WorkingDirectory, 4096}, {"LaunchParameters", v.LaunchParameters, 1024}} {
		if len(value(m.value)) > m.limit {
			return appstream.Errorf(appstream.OperationNotPermitted, "%s has more than %d bytes.", m.member, m.limit)
		}
	}
	return nil
}

// hasAppBlock tells whether the app block of an application is there.
func hasAppBlock(tx store.Tx, c appstream.Caller, a *appstream.Application) error {
	k, err := ownARN(c, appstream.NounAppBlock, value(a.View.AppBlockArn))
	if err != nil {
		return err
	}
	return get(tx, k, &appstream.AppBlock{})
}

// UpdateApplication changes an application. Sessions that begin later have it as it is then.
func (s *Service) UpdateApplication(ctx context.Context, in *aws.UpdateApplicationInput) (*aws.UpdateApplicationOutput, error) {
	c := appstream.CallerFrom(ctx)
	for _, attribute := range in.AttributesToDelete {
		if attribute == types.ApplicationAttributeLaunchParameters && in.LaunchParameters != nil ||
			attribute == types.ApplicationAttributeWorkingDirectory && in.WorkingDirectory != nil {
			return nil, appstream.Errorf(appstream.OperationNotPermitted, "AttributesToDelete has %s, which is also sent. Do one of both.", attribute)
		}
	}
	k := key(c, appstream.NounApplication, value(in.Name))
	if err := s.cfg.Store.View(ctx, func(tx store.Tx) error { return get(tx, k, &appstream.Application{}) }); err != nil {
		return nil, err
	}
	icon := ""
	if in.IconS3Location != nil { // which is too slow for a transaction
		var err error
		if icon, err = s.picture(ctx, "IconS3Location", in.IconS3Location, iconLimit); err != nil {
			return nil, err
		}
	}
	var a appstream.Application
	err := s.change(ctx, "appstream:UpdateApplication", k, func(tx store.Tx, now time.Time) error {
		if err := get(tx, k, &a); err != nil {
			return err
		}
		v := &a.View
		set(&v.AppBlockArn, in.AppBlockArn)
		set(&v.Description, in.Description)
		set(&v.DisplayName, in.DisplayName)
		set(&v.IconS3Location, in.IconS3Location)
		set(&v.LaunchPath, in.LaunchPath)
		set(&v.LaunchParameters, in.LaunchParameters)
		set(&v.WorkingDirectory, in.WorkingDirectory)
		if slices.Contains(in.AttributesToDelete, types.ApplicationAttributeLaunchParameters) {
			v.LaunchParameters = nil
		}
		if slices.Contains(in.AttributesToDelete, types.ApplicationAttributeWorkingDirectory) {
			v.WorkingDirectory = nil
		}
		a.Icon = cmp.Or(icon, a.Icon)
		return errors.Join(checkLaunch(v), hasAppBlock(tx, c, &a), tx.Put(&a), wakeFleetsOf(tx, k, now))
	})
	if err != nil {
		return nil, err
	}
	return &aws.UpdateApplicationOutput{Application: new(s.describeApplication(c, &a))}, nil
}

// DescribeApplications describes the applications of the ARNs, or all of the account in the region.
func (s *Service) DescribeApplications(ctx context.Context, in *aws.DescribeApplicationsInput) (*aws.DescribeApplicationsOutput, error) {
	c := appstream.CallerFrom(ctx)
	p, err := openPage(c, in, listSize, 500)
	if err != nil {
		return nil, err
	}
	names, err := namesOf(c, appstream.NounApplication, in.Arns)
	if err != nil {
		return nil, err
	}
	list, next, err := records[appstream.Application](ctx, s, c, p, appstream.NounApplication, names)
	if err != nil {
		return nil, err
	}
	out := &aws.DescribeApplicationsOutput{Applications: make([]types.Application, len(list)), NextToken: next}
	for n := range list {
		out.Applications[n] = s.describeApplication(c, &list[n])
	}
	return out, nil
}

func (s *Service) describeApplication(c appstream.Caller, a *appstream.Application) types.Application {
	return a.Describe(func(blob string) string { return c.BaseURL + "/icons/" + blob })
}

// DeleteApplication deletes an application that no fleet has.
func (s *Service) DeleteApplication(ctx context.Context, in *aws.DeleteApplicationInput) (*aws.DeleteApplicationOutput, error) {
	k := key(appstream.CallerFrom(ctx), appstream.NounApplication, value(in.Name))
	err := s.change(ctx, "appstream:DeleteApplication", k, func(tx store.Tx, now time.Time) error {
		var a appstream.Application
		if err := get(tx, k, &a); err != nil {
			return err
		}
		p := page{size: 1}
		fleets, err := pick(tx, p, store.Query{Noun: appstream.NounFleet, Region: k.Region, Accounts: []string{k.Account}},
			func(f *appstream.Fleet) bool { return slices.Contains(f.Applications, k.Name) })
		if err != nil {
			return err
		}
		if len(fleets) > 0 {
			return appstream.Errorf(appstream.ResourceInUse, "The application %s is associated with the fleet %s. Call DisassociateApplicationFleet first.", a.Name, fleets[0].Name)
		}
		return remove(tx, &a, now, "DeleteApplication")
	})
	if err != nil {
		return nil, err
	}
	return &aws.DeleteApplicationOutput{}, nil
}

// applicationsOf gives the applications of an app block.
func applicationsOf(tx store.Tx, block appstream.Key) ([]appstream.Application, error) {
	list, err := store.List[appstream.Application](tx, store.Query{Noun: appstream.NounApplication, Region: block.Region, Accounts: []string{block.Account}})
	return slices.DeleteFunc(list, func(a appstream.Application) bool { return value(a.View.AppBlockArn) != block.ARN() }), err
}

// AssociateApplicationFleet gives an Elastic fleet an application. Associating what is associated already is no error.
func (s *Service) AssociateApplicationFleet(ctx context.Context, in *aws.AssociateApplicationFleetInput) (*aws.AssociateApplicationFleetOutput, error) {
	c := appstream.CallerFrom(ctx)
	app, err := ownARN(c, appstream.NounApplication, value(in.ApplicationArn))
	if err != nil {
		return nil, err
	}
	k := key(c, appstream.NounFleet, value(in.FleetName))
	err = s.change(ctx, "appstream:AssociateApplicationFleet", k, func(tx store.Tx, now time.Time) error {
		var f appstream.Fleet
		var a appstream.Application
		if err := get(tx, k, &f); err != nil {
			return err
		}
		if err := get(tx, app, &a); err != nil {
			return err
		}
		n, found := slices.BinarySearch(f.Applications, a.Name)
		if f.View.FleetType != types.FleetTypeElastic {
			return appstream.Errorf(appstream.OperationNotPermitted, "The fleet %s is %s. Only Elastic fleets have applications associated; those of other fleets are in their image.", f.Name, f.View.FleetType)
		}
		if err := s.suits(&a, &f); err != nil {
			return err
		}
		switch limit := s.cfg.Quotas.FleetApplications; {
		case found:
			return nil
		case len(f.Applications) >= limit:
			return appstream.Errorf(appstream.LimitExceeded, "The limit of applications of the fleet %s was exceeded. Disassociate one that is not needed. Limit: %d", f.Name, limit)
		}
		f.Applications = slices.Insert(slices.Clone(f.Applications), n, a.Name)
		f.Due = now
		return tx.Put(&f)
	})
	if err != nil {
		return nil, err
	}
	return &aws.AssociateApplicationFleetOutput{ApplicationFleetAssociation: &types.ApplicationFleetAssociation{ApplicationArn: in.ApplicationArn, FleetName: in.FleetName}}, nil
}

// DisassociateApplicationFleet takes an application away from a fleet, and from the sessions that begin later. Disassociating what is not associated is
// no error.
func (s *Service) DisassociateApplicationFleet(ctx context.Context, in *aws.DisassociateApplicationFleetInput) (*aws.DisassociateApplicationFleetOutput, error) {
	c := appstream.CallerFrom(ctx)
	app, err := ownARN(c, appstream.NounApplication, value(in.ApplicationArn))
	if err != nil {
		return nil, err
	}
	k := key(c, appstream.NounFleet, value(in.FleetName))
	err = s.change(ctx, "appstream:DisassociateApplicationFleet", k, func(tx store.Tx, now time.Time) error {
		var f appstream.Fleet
		if err := get(tx, k, &f); err != nil {
			return err
		}
		n, found := slices.BinarySearch(f.Applications, app.Name)
		if !found {
			return nil
		}
		f.Applications = slices.Delete(slices.Clone(f.Applications), n, n+1)
		f.Due = now
		return tx.Put(&f)
	})
	if err != nil {
		return nil, err
	}
	return &aws.DisassociateApplicationFleetOutput{}, nil
}

// DescribeApplicationFleetAssociations lists which applications a fleet has, or which fleets have an application, or whether this one has that one.
func (s *Service) DescribeApplicationFleetAssociations(ctx context.Context, in *aws.DescribeApplicationFleetAssociationsInput) (*aws.DescribeApplicationFleetAssociationsOutput, error) {
	c := appstream.CallerFrom(ctx)
	p, err := openPage(c, in, listSize, 500)
	if err != nil {
		return nil, err
	}
	if in.FleetName == nil && in.ApplicationArn == nil {
		return nil, appstream.Errorf(appstream.InvalidParameterCombination, "Specify FleetName or ApplicationArn, or both.")
	}
	var app string
	if in.ApplicationArn != nil {
		k, err := ownARN(c, appstream.NounApplication, *in.ApplicationArn)
		if err != nil {
			return nil, err
		}
		app = k.Name
	}
	var list []types.ApplicationFleetAssociation
	add := func(fleet, app string) {
		list = append(list, types.ApplicationFleetAssociation{FleetName: &fleet, ApplicationArn: new(key(c, appstream.NounApplication, app).ARN())})
	}
	err = s.cfg.Store.View(ctx, func(tx store.Tx) error {
		if in.FleetName == nil {
			fleets, err := pick(tx, p, store.Query{Noun: appstream.NounFleet, Region: c.Region, Accounts: []string{c.Account}},
				func(f *appstream.Fleet) bool { return slices.Contains(f.Applications, app) })
			for _, f := range fleets {
				add(f.Name, app)
			}
			return err
		}
		var f appstream.Fleet
		if err := get(tx, key(c, appstream.NounFleet, *in.FleetName), &f); err != nil {
			return err
		}
		for _, name := range namesAfter(f.Applications, p.after.Name) {
			if app == "" || name == app {
				add(f.Name, name)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	list, next := cut(p, list, func(a types.ApplicationFleetAssociation) store.Position {
		if in.FleetName == nil {
			return store.Position{Name: *a.FleetName, Account: c.Account}
		}
		k, _ := appstream.ParseARN(*a.ApplicationArn)
		return store.Position{Name: k.Name}
	})
	return &aws.DescribeApplicationFleetAssociationsOutput{ApplicationFleetAssociations: list, NextToken: next}, nil
}
