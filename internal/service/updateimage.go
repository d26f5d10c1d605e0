package service

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"strings"
	"time"

	aws "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// CreateUpdatedImage makes a new image of an image of the caller, with the newest packages of its platform and the newest agent. A builder of its own
// does that, and tests the new image before it is AVAILABLE. A dry run does all checks and tells whether there may be something to update.
func (s *Service) CreateUpdatedImage(ctx context.Context, in *aws.CreateUpdatedImageInput) (*aws.CreateUpdatedImageOutput, error) {
	const op = "appstream:CreateUpdatedImage"
	c := appstream.CallerFrom(ctx)
	from := key(c, appstream.NounImage, value(in.ExistingImageName))
	image := appstream.Image{Meta: appstream.Meta{Key: key(c, appstream.NounImage, value(in.NewImageName)), ID: newID("img-"), Tags: maps.Clone(in.NewImageTags)}}
	if err := checkImageName(image.Name); err != nil {
		return nil, err
	}
	outdated := true
	err := s.change(ctx, op, image.Key, func(tx store.Tx, now time.Time) error {
		var source appstream.Image
		if err := get(tx, from, &source); err != nil {
			return err
		}
		if source.State != appstream.ImageAvailable {
			return inState(appstream.OperationNotPermitted, from, source.State, "an AVAILABLE")
		}
		if !value(source.View.ImageBuilderSupported) {
			return appstream.Errorf(appstream.IncompatibleImage, "The image %s does not support image builders, so it cannot be updated.", from.Name)
		}
		if err := s.roomForImage(tx, image.Key); err != nil {
			return err
		}
		if err := s.roomForUpdate(tx, image.Key); err != nil {
			return err
		}
		steps := appstream.UpdateSteps(source.View.Platform)
		if outdated = len(steps) > 0 || s.outdated(source.View.AppstreamAgentVersion); !outdated && !value(in.DryRun) {
			return appstream.Errorf(appstream.OperationNotPermitted, "There is nothing to update in the image %s: it has the newest agent, and how the packages of %s are updated is not known.", from.Name, source.View.Platform)
		}
		image.Created, image.UpdateOf, image.Icons, image.Software, image.VolumeGB = now, source.Ref, source.Icons, source.Software, source.VolumeGB
		image.Ref = "oriel/image:" + image.ID
		image.View = source.View
		image.View.Description, image.View.DisplayName = in.NewImageDescription, in.NewImageDisplayName
		image.View.ImageBuilderName = nil // as in the model: its builder is nobody's
		if source.View.AppstreamAgentVersion != nil && *source.View.AppstreamAgentVersion != "LATEST" {
			image.View.AppstreamAgentVersion = new(s.latestAgent())
		}
		image.Enter(appstream.ImageCreating, now)
		size, ok := appstream.SmallestType(s.cfg.Sizes, source.View.SupportedInstanceFamilies)
		if !ok {
			return appstream.Errorf(appstream.IncompatibleImage, "There is no instance type for the image %s, which supports %s.", from.Name, strings.Join(source.View.SupportedInstanceFamilies, ", "))
		}
		making := appstream.Making{Work: steps, Test: appstream.LaunchSteps(source.View.Applications)}
		if err := s.addManaged(tx, &image, source, size, making, appstream.BuilderUpdating, now); err != nil {
			return err
		}
		if err := move(tx, &image.Meta, "", now, "CreateUpdatedImage "+from.ARN()); err != nil {
			return err
		}
		if err := tx.Insert(&image); err != nil {
			return err
		}
		if value(in.DryRun) {
			return errDry
		}
		return nil
	})
	if err == errDry {
		return &aws.CreateUpdatedImageOutput{CanUpdateImage: &outdated}, s.auditDry(ctx, op, image.Key, image.Created)
	}
	if err != nil {
		return nil, err
	}
	return &aws.CreateUpdatedImageOutput{CanUpdateImage: &outdated, Image: new(s.describe(c, &image))}, nil
}

// outdated tells whether an image is held at an agent that is older than the newest.
func (s *Service) outdated(agent *string) bool {
	return agent != nil && *agent != "LATEST" && agentapi.CompareVersions(*agent, s.latestAgent()) < 0
}

// roomForUpdate refuses one more update when as many are under way as may be.
func (s *Service) roomForUpdate(tx store.Tx, k appstream.Key) error {
	updates, err := store.List[appstream.Image](tx, store.Query{
		Noun: appstream.NounImage, Region: k.Region, Accounts: []string{k.Account}, States: []string{appstream.ImageCreating}})
	if err != nil {
		return err
	}
	if limit := s.cfg.Quotas.ImageUpdates; len(updates) >= limit {
		return appstream.Errorf(appstream.LimitExceeded,
			"The limit of concurrent image updates for account %s in %s was exceeded. Wait until one is AVAILABLE. Limit: %d", k.Account, k.Region, limit)
	}
	return nil
}

// addManaged adds the builder that is made for an image, and works on the disk of source: in the default subnet, with the newest agent.
func (s *Service) addManaged(tx store.Tx, image *appstream.Image, source appstream.Image, size appstream.InstanceType, making appstream.Making, state string, now time.Time) error {
	b := appstream.ImageBuilder{Meta: appstream.Meta{Key: image.Key, ID: newID("ib-"), Created: now}, ImageRef: source.Ref,
		Capturing: image.Name, CapturingID: image.ID, Making: &making, ImageSoftware: source.Software, Software: appstream.Deployed(source.Software)}
	b.Noun = appstream.NounImageBuilder
	for b.Name = ""; b.Name == ""; {
		b.Name = appstream.ManagedBuilderName(image.Name, rand.Uint64())
		if err := tx.Get(b.Key, &appstream.ImageBuilder{}); err == nil {
			b.Name = "" // taken: another
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	volume, err := volume(nil, source.VolumeGB)
	if err != nil {
		return err
	}
	b.View = types.ImageBuilder{
		AppstreamAgentVersion:       new(s.latestAgent()),
		DisableIMDSV1:               new(false),
		EnableDefaultInternetAccess: new(true),
		ImageArn:                    new(source.ARN()),
		InstanceType:                &size.Name,
		Platform:                    source.View.Platform,
		RootVolumeConfig:            volume,
		VpcConfig:                   &types.VpcConfig{},
	}
	image.BuilderID, image.ManagedBy = b.ID, b.Name
	b.Enter(state, now)
	if err := move(tx, &b.Meta, "", now, "made for the image "+image.Name); err != nil {
		return err
	}
	return tx.Insert(&b)
}

// managedBuilders counts the builders that are made for images, which are not the account's own.
func managedBuilders(tx store.Tx, k appstream.Key) (n int, err error) {
	list, err := store.List[appstream.ImageBuilder](tx, store.Query{Noun: appstream.NounImageBuilder, Region: k.Region, Accounts: []string{k.Account}})
	for _, b := range list {
		if b.Making != nil {
			n++
		}
	}
	return n, err
}

// updatingFrom finds an image that another is an update of, which is needed for that.
func updatingFrom(tx store.Tx, image appstream.Image) (*appstream.Key, error) {
	return anyLinked(tx, store.Query{Noun: appstream.NounImage, Region: image.Region, Accounts: []string{image.Account}, LinksTo: image.Ref, States: []string{appstream.ImageCreating}})
}
