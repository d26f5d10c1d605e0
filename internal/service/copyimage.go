package service

import (
	"context"
	"slices"
	"strings"
	"time"

	aws "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// CopyImage copies an image of the caller, under another name or into another region or both. Tags and permissions stay behind.
func (s *Service) CopyImage(ctx context.Context, in *aws.CopyImageInput) (*aws.CopyImageOutput, error) {
	c := appstream.CallerFrom(ctx)
	from := key(c, appstream.NounImage, value(in.SourceImageName))
	to := key(c, appstream.NounImage, value(in.DestinationImageName))
	to.Region = value(in.DestinationRegion)
	if err := checkImageName(to.Name); err != nil {
		return nil, err
	}
	if !slices.Contains(s.cfg.Regions, to.Region) {
		return nil, appstream.Errorf(appstream.ResourceNotFound, "The region %s is not served here. DestinationRegion can be %s.", to.Region, strings.Join(s.cfg.Regions, ", "))
	}
	err := s.change(ctx, "appstream:CopyImage", to, func(tx store.Tx, now time.Time) error {
		var source appstream.Image
		if err := get(tx, from, &source); err != nil {
			return err
		}
		if source.State != appstream.ImageAvailable {
			return inState(appstream.ResourceNotAvailable, from, source.State, "an AVAILABLE")
		}
		if err := s.roomForImage(tx, to); err != nil {
			return err
		}
		copies, err := store.List[appstream.Image](tx, store.Query{
			Noun: appstream.NounImage, Region: to.Region, Accounts: []string{to.Account}, States: []string{appstream.ImageCopying}})
		if err != nil {
			return err
		}
		if limit := s.cfg.Quotas.ImageCopies; len(copies) >= limit {
			return appstream.Errorf(appstream.LimitExceeded,
				"The limit of concurrent image copies to %s for account %s was exceeded. Wait until one is AVAILABLE. Limit: %d", to.Region, to.Account, limit)
		}
		image := appstream.Image{Meta: appstream.Meta{Key: to, ID: newID("img-"), Created: now},
			View: source.View, CopyOf: source.Ref, Icons: source.Icons, Software: source.Software, VolumeGB: source.VolumeGB}
		image.Ref = "oriel/image:" + image.ID
		image.View.BaseImageArn = new(source.ARN())
		image.View.Description = in.DestinationImageDescription
		image.View.ImageBuilderName = nil // as in the model: there is no such builder in the other region
		image.Enter(appstream.ImageCopying, now)
		if err := move(tx, &image.Meta, "", now, "CopyImage "+from.ARN()); err != nil {
			return err
		}
		return tx.Insert(&image)
	})
	if err != nil {
		return nil, err
	}
	return &aws.CopyImageOutput{DestinationImageName: in.DestinationImageName}, nil
}

// copyingFrom finds an image that is being copied from another, which is needed for that.
func copyingFrom(tx store.Tx, image appstream.Image) (*appstream.Key, error) {
	return anyLinked(tx, store.Query{Noun: appstream.NounImage, Accounts: []string{image.Account}, LinksTo: image.Ref, States: []string{appstream.ImageCopying}})
}
