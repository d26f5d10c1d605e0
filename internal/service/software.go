package service

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	aws "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// firstSoftware gives a new builder the software of its image, and makes pending what is to be installed and removed before it is used.
func (s *Service) firstSoftware(b *appstream.ImageBuilder, image *appstream.Image, install, uninstall []string) error {
	b.ImageSoftware, b.Software = image.Software, appstream.Deployed(image.Software)
	for _, name := range uninstall {
		if slices.Contains(install, name) {
			return appstream.Errorf(appstream.InvalidParameterCombination, "SoftwaresToInstall and SoftwaresToUninstall both name %s.", name)
		}
		if !slices.Contains(image.Software, name) {
			has := "It has none."
			if len(image.Software) > 0 {
				has = "It has " + strings.Join(image.Software, ", ") + "."
			}
			return appstream.Errorf(appstream.InvalidParameterCombination, "SoftwaresToUninstall names %s, which the image %s does not have. %s", name, image.Name, has)
		}
	}
	if err := b.Disassociate(uninstall); err != nil {
		return err
	}
	if err := s.stage(b, install); err != nil {
		return err
	}
	b.Deploy(false)
	return nil
}

// stage stages software of the catalogue to be installed on a builder.
func (s *Service) stage(b *appstream.ImageBuilder, names []string) error {
	platform := string(b.View.Platform)
	for _, name := range names {
		software, known := s.cfg.Software[name]
		if !known {
			return s.unknownSoftware(name, platform)
		}
		if _, err := software.InstallerFor(platform); err != nil {
			return err
		}
	}
	b.Associate(names)
	return b.CheckTogether()
}

// unknownSoftware says what can be installed instead.
func (s *Service) unknownSoftware(name, platform string) error {
	var can []string
	for _, other := range slices.Sorted(maps.Keys(s.cfg.Software)) {
		if _, ok := s.cfg.Software[other].Installers[platform]; ok {
			can = append(can, other)
		}
	}
	has := "none at all"
	if len(can) > 0 {
		has = strings.Join(can, ", ")
	}
	return appstream.Errorf(appstream.ResourceNotFound, "There is no software named %.140q. What this server can install on %s: %s.", name, platform, has)
}

// AssociateSoftwareToImageBuilder stages software of the server's catalogue to be installed on an image builder.
func (s *Service) AssociateSoftwareToImageBuilder(ctx context.Context, in *aws.AssociateSoftwareToImageBuilderInput) (*aws.AssociateSoftwareToImageBuilderOutput, error) {
	err := s.changeSoftware(ctx, "AssociateSoftwareToImageBuilder", in.ImageBuilderName, in.SoftwareNames, func(b *appstream.ImageBuilder) error {
		return s.stage(b, in.SoftwareNames)
	})
	if err != nil {
		return nil, err
	}
	return &aws.AssociateSoftwareToImageBuilderOutput{}, nil
}

// DisassociateSoftwareFromImageBuilder stages software to be removed from an image builder.
func (s *Service) DisassociateSoftwareFromImageBuilder(ctx context.Context, in *aws.DisassociateSoftwareFromImageBuilderInput) (*aws.DisassociateSoftwareFromImageBuilderOutput, error) {
	err := s.changeSoftware(ctx, "DisassociateSoftwareFromImageBuilder", in.ImageBuilderName, in.SoftwareNames, func(b *appstream.ImageBuilder) error {
		return b.Disassociate(in.SoftwareNames)
	})
	if err != nil {
		return nil, err
	}
	return &aws.DisassociateSoftwareFromImageBuilderOutput{}, nil
}

// changeSoftware changes what is staged on a builder that runs or is stopped. That is a note only: its state stays.
func (s *Service) changeSoftware(ctx context.Context, op string, name *string, software []string, fn func(*appstream.ImageBuilder) error) error {
	if len(software) == 0 {
		return appstream.Errorf(appstream.InvalidParameterCombination, "SoftwareNames is empty. Name at least one software.")
	}
	k := key(appstream.CallerFrom(ctx), appstream.NounImageBuilder, value(name))
	return s.change(ctx, "appstream:"+op, k, func(tx store.Tx, _ time.Time) error {
		var b appstream.ImageBuilder
		if err := get(tx, k, &b); err != nil {
			return err
		}
		if b.State != appstream.BuilderRunning && b.State != appstream.BuilderStopped {
			return inState(appstream.OperationNotPermitted, k, b.State, "a RUNNING or STOPPED")
		}
		if err := fn(&b); err != nil {
			return err
		}
		return tx.Put(&b)
	})
}

// StartSoftwareDeploymentToImageBuilder has what is staged on a running image builder installed and removed.
func (s *Service) StartSoftwareDeploymentToImageBuilder(ctx context.Context, in *aws.StartSoftwareDeploymentToImageBuilderInput) (*aws.StartSoftwareDeploymentToImageBuilderOutput, error) {
	const op = "StartSoftwareDeploymentToImageBuilder"
	_, err := s.moveBuilder(ctx, op, value(in.ImageBuilderName), func(_ store.Tx, b *appstream.ImageBuilder, now time.Time) error {
		switch {
		case b.State != appstream.BuilderRunning:
			return inState(appstream.OperationNotPermitted, b.Key, b.State, "a RUNNING")
		case !b.Deploy(value(in.RetryFailedDeployments)):
			return appstream.Errorf(appstream.OperationNotPermitted, "No software is staged on the image builder %s. Call AssociateSoftwareToImageBuilder or "+
				"DisassociateSoftwareFromImageBuilder first, or set RetryFailedDeployments to try again what has failed.", b.Name)
		}
		b.Enter(appstream.BuilderPendingSyncingApps, now)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &aws.StartSoftwareDeploymentToImageBuilderOutput{}, nil
}

// DescribeSoftwareAssociations describes the software of an image builder, or what an image has.
func (s *Service) DescribeSoftwareAssociations(ctx context.Context, in *aws.DescribeSoftwareAssociationsInput) (*aws.DescribeSoftwareAssociationsOutput, error) {
	c := appstream.CallerFrom(ctx)
	p, err := openPage(c, in, 500, 500)
	if err != nil {
		return nil, err
	}
	k, err := appstream.ParseARN(value(in.AssociatedResource))
	if err != nil || k.Noun != appstream.NounImage && k.Noun != appstream.NounImageBuilder {
		return nil, appstream.Errorf(appstream.OperationNotPermitted, "%s is not the ARN of an image or an image builder, which alone have software.", value(in.AssociatedResource))
	}
	var list []appstream.Deployment
	err = s.cfg.Store.View(ctx, func(tx store.Tx) error {
		if k.Noun == appstream.NounImage {
			image, err := s.image(tx, c, nil, in.AssociatedResource)
			list = appstream.Deployed(image.Software)
			return err
		}
		if k.Account != c.Account || k.Region != c.Region {
			return appstream.Errorf(appstream.ResourceNotFound, "The image builder %s for account %s does not exist.", k.ARN(), c.Account)
		}
		var b appstream.ImageBuilder
		err := get(tx, k, &b)
		list = b.Software
		return err
	})
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(slices.Clone(list), func(d appstream.Deployment) bool { return d.Name <= p.after.Name })
	list, next := cut(p, list, func(d appstream.Deployment) store.Position { return store.Position{Name: d.Name} })
	return &aws.DescribeSoftwareAssociationsOutput{AssociatedResource: in.AssociatedResource, SoftwareAssociations: appstream.Associations(list), NextToken: next}, nil
}

var billingPeriod = regexp.MustCompile(`^\d{4}-(0[1-9]|1[0-2])$`)

// DescribeAppLicenseUsage describes who of the account's users had licensed software at hand in a month.
func (s *Service) DescribeAppLicenseUsage(ctx context.Context, in *aws.DescribeAppLicenseUsageInput) (*aws.DescribeAppLicenseUsageOutput, error) {
	c := appstream.CallerFrom(ctx)
	p, err := openPage(c, in, 500, 500)
	if err != nil {
		return nil, err
	}
	month := value(in.BillingPeriod)
	if !billingPeriod.MatchString(month) {
		return nil, appstream.Errorf(appstream.InvalidParameterCombination, "BillingPeriod is %.40q. Write it as yyyy-mm, for example 2026-11.", month)
	}
	var list []appstream.LicenseUsage
	err = s.cfg.Store.View(ctx, func(tx store.Tx) (err error) {
		list, err = store.List[appstream.LicenseUsage](tx, store.Query{Noun: appstream.NounLicenseUsage, Region: c.Region, Accounts: []string{c.Account},
			Prefix: month + "/", After: p.after, Limit: p.size + 1})
		return err
	})
	if err != nil {
		return nil, err
	}
	list, next := cut(p, list, place)
	out := &aws.DescribeAppLicenseUsageOutput{AppLicenseUsages: make([]types.AdminAppLicenseUsageRecord, len(list)), NextToken: next}
	for n := range list {
		out.AppLicenseUsages[n] = list[n].Describe()
	}
	return out, nil
}
