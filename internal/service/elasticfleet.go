package service

import (
	"context"
	"slices"
	"strings"
	"time"

	aws "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// checkElastic refuses members that an Elastic fleet does not have; sent tells which are in the request.
func checkElastic(sent map[string]bool) error {
	for _, m := range []struct{ member, instead string }{
		{"ImageName", "Its image is made from the app blocks of its applications: specify Platform."},
		{"ImageArn", "Its image is made from the app blocks of its applications: specify Platform."},
		{"ComputeCapacity", "Specify MaxConcurrentSessions instead."},
	} {
		if sent[m.member] {
			return appstream.Errorf(appstream.InvalidParameterCombination, "%s is not for Elastic fleets. %s", m.member, m.instead)
		}
	}
	return nil
}

// checkElasticFleet checks what an Elastic fleet, new or updated, has or must not have.
func (s *Service) checkElasticFleet(f *appstream.Fleet) error {
	v := &f.View
	most, limit := value(v.MaxConcurrentSessions), s.cfg.Quotas.FleetInstances
	switch {
	case v.MaxConcurrentSessions == nil:
		return appstream.Errorf(appstream.InvalidParameterCombination, "MaxConcurrentSessions is missing. It is required for Elastic fleets.")
	case most < 1:
		return appstream.Errorf(appstream.InvalidParameterCombination, "MaxConcurrentSessions is %d. It must be at least 1.", most)
	case int(most) > limit:
		return appstream.Errorf(appstream.LimitExceeded, "The Instance type '%s' capacity limit for fleet %s' was exceeded. Requested: %d, Limit: %d",
			value(v.InstanceType), f.Name, most, limit)
	case v.MaxSessionsPerInstance != nil:
		return appstream.Errorf(appstream.InvalidParameterCombination, "MaxSessionsPerInstance is not for Elastic fleets: every session has an instance of its own.")
	case v.DomainJoinInfo != nil:
		return appstream.Errorf(appstream.InvalidParameterCombination, "DomainJoinInfo is not for Elastic fleets.")
	}
	return nil
}

// hasScripts refuses session scripts that are not there.
func (s *Service) hasScripts(ctx context.Context, at *types.S3Location) error {
	if at == nil {
		return nil
	}
	return s.hasObject(ctx, "SessionScriptS3Location", at)
}

// platformImage is the public image of a platform; ResourceNotAvailable when there is none.
func platformImage(tx store.Tx, region string, platform types.PlatformType) (*appstream.Image, error) {
	public, err := store.List[appstream.Image](tx, store.Query{Noun: appstream.NounImage, Region: region, Accounts: []string{""}})
	if err != nil {
		return nil, err
	}
	if image := appstream.PublicImageOf(public, platform); image != nil {
		return image, nil
	}
	var have []string
	for _, image := range public {
		if image.State == appstream.ImageAvailable {
			have = append(have, string(image.View.Platform))
		}
	}
	slices.Sort(have)
	return nil, appstream.Errorf(appstream.ResourceNotAvailable, "There is no public image of the platform %s in %s. There are public images of: %v.", platform, region, slices.Compact(have))
}

// setPlatform gives an Elastic fleet its platform, for which there must be a public image that its machines can boot.
func (s *Service) setPlatform(tx store.Tx, f *appstream.Fleet, platform types.PlatformType) error {
	if platform == "" {
		return appstream.Errorf(appstream.InvalidParameterCombination, "Platform is missing. It is required for Elastic fleets.")
	}
	base, err := platformImage(tx, f.Region, platform)
	if err != nil {
		return err
	}
	if err := fits(base, s.cfg.Sizes[value(f.View.InstanceType)]); err != nil {
		return err
	}
	f.View.Platform = platform
	f.VolumeGB = max(f.VolumeGB, base.VolumeGB, leastVolume)
	f.View.RootVolumeConfig = &types.VolumeConfig{VolumeSizeInGb: new(int32(f.VolumeGB))}
	return nil
}

// updateElastic makes the changes of an Elastic fleet that others do not have.
func (s *Service) updateElastic(tx store.Tx, f *appstream.Fleet, in *aws.UpdateFleetInput) error {
	err := checkElastic(map[string]bool{"ImageName": in.ImageName != nil, "ImageArn": in.ImageArn != nil, "ComputeCapacity": in.ComputeCapacity != nil})
	if err != nil {
		return err
	}
	if in.Platform != "" && in.Platform != f.View.Platform || in.InstanceType != nil {
		if err := s.setPlatform(tx, f, or(in.Platform, f.View.Platform)); err != nil {
			return err
		}
		for _, name := range f.Applications {
			var a appstream.Application
			if err := get(tx, appstream.Key{Account: f.Account, Region: f.Region, Noun: appstream.NounApplication, Name: name}, &a); err != nil {
				return err
			}
			if err := s.suits(&a, f); err != nil {
				return err
			}
		}
	}
	wanted := in.RootVolumeConfig
	for _, attribute := range in.AttributesToDelete {
		if attribute == types.FleetAttributeVolumeConfiguration {
			wanted = &types.VolumeConfig{}
		}
	}
	if wanted != nil {
		f.VolumeGB = leastVolume
	}
	return setVolume(f, wanted)
}

// suits refuses an application that does not run on the machines of an Elastic fleet.
func (s *Service) suits(a *appstream.Application, f *appstream.Fleet) error {
	family := generalPurpose
	if strings.HasPrefix(s.cfg.Sizes[value(f.View.InstanceType)].Family, "Graphics") {
		family = graphicsG4
	}
	switch {
	case !slices.Contains(a.View.Platforms, f.View.Platform):
		return appstream.Errorf(appstream.InvalidParameterCombination, "The application %s is for %v, and the fleet %s is %s. Its applications must support the fleet's platform.",
			a.Name, a.View.Platforms, f.Name, f.View.Platform)
	case !slices.Contains(a.View.InstanceFamilies, family):
		return appstream.Errorf(appstream.InvalidParameterCombination, "The application %s is for the instance families %v, and the fleet %s has the instance type %s, which is %s. Its applications must support the fleet's instance type.",
			a.Name, a.View.InstanceFamilies, f.Name, value(f.View.InstanceType), family)
	}
	return nil
}

// fleetCatalogue gives the applications of a fleet, whatever becomes of its image.
func fleetCatalogue(tx store.Tx, f *appstream.Fleet) (appstream.Catalogue, error) {
	if f.Elastic() {
		return f.Catalogue, nil
	}
	image, err := imageOf(tx, f)
	return appstream.Catalogue{Applications: image.View.Applications, Icons: image.Icons}, err
}

// wakeCompositions has the engine remove the images of a fleet that goes.
func wakeCompositions(tx store.Tx, f *appstream.Fleet, now time.Time) error {
	var keys []appstream.Key
	err := tx.Scan(store.Query{Noun: appstream.NounComposition, Region: f.Region, Accounts: []string{f.Account}, Prefix: appstream.CompositionPrefix(f.Name), Heads: true},
		func(head appstream.Meta, _ func(appstream.Record) error) error {
			keys = append(keys, head.Key)
			return nil
		})
	for _, key := range keys {
		if err == nil {
			err = tx.Wake(key, now)
		}
	}
	return err
}

// wakeFleetsOf has the engine look at the fleets that have an application.
func wakeFleetsOf(tx store.Tx, app appstream.Key, now time.Time) error {
	fleets, err := store.List[appstream.Fleet](tx, store.Query{Noun: appstream.NounFleet, Region: app.Region, Accounts: []string{app.Account}})
	if err != nil {
		return err
	}
	for _, f := range fleets {
		if slices.Contains(f.Applications, app.Name) {
			if err := tx.Wake(f.Key, now); err != nil {
				return err
			}
		}
	}
	return nil
}
