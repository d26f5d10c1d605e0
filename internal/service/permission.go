package service

import (
	"context"
	"slices"
	"time"

	aws "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// DescribeImagePermissions tells which accounts an image of the caller is shared with, in the order of their numbers.
func (s *Service) DescribeImagePermissions(ctx context.Context, in *aws.DescribeImagePermissionsInput) (*aws.DescribeImagePermissionsOutput, error) {
	c := appstream.CallerFrom(ctx)
	p, err := openPage(c, in, 500, 500)
	if err != nil {
		return nil, err
	}
	var image appstream.Image
	err = s.cfg.Store.View(ctx, func(tx store.Tx) error {
		return get(tx, key(c, appstream.NounImage, value(in.Name)), &image)
	})
	if err != nil {
		return nil, err
	}
	var list []types.SharedImagePermissions
	for _, account := range image.Grants() {
		if account <= p.after.Account || len(in.SharedAwsAccountIds) > 0 && !slices.Contains(in.SharedAwsAccountIds, account) {
			continue
		}
		list = append(list, types.SharedImagePermissions{SharedAccountId: &account, ImagePermissions: new(image.Permissions[account])})
	}
	list, next := cut(p, list, func(p types.SharedImagePermissions) store.Position {
		return store.Position{Account: *p.SharedAccountId}
	})
	return &aws.DescribeImagePermissionsOutput{Name: in.Name, SharedImagePermissionsList: list, NextToken: next}, nil
}

// UpdateImagePermissions shares an image with an account, or changes what that account may do with it.
func (s *Service) UpdateImagePermissions(ctx context.Context, in *aws.UpdateImagePermissionsInput) (*aws.UpdateImagePermissionsOutput, error) {
	err := s.changePermissions(ctx, "UpdateImagePermissions", value(in.Name), func(image *appstream.Image) error {
		account := value(in.SharedAccountId)
		if account == image.Account {
			return appstream.Errorf(appstream.InvalidParameterValue, "The image %s belongs to account %s. Share it with another account.", image.Name, account)
		}
		if _, known := image.Permissions[account]; !known && len(image.Permissions) >= s.cfg.Quotas.ImageShares {
			return appstream.Errorf(appstream.LimitExceeded, "The image %s is shared with as many accounts as it may be. Limit: %d", image.Name, s.cfg.Quotas.ImageShares)
		}
		if image.Permissions == nil {
			image.Permissions = map[string]types.ImagePermissions{}
		}
		image.Permissions[account] = types.ImagePermissions{
			AllowFleet: new(value(in.ImagePermissions.AllowFleet)), AllowImageBuilder: new(value(in.ImagePermissions.AllowImageBuilder))}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &aws.UpdateImagePermissionsOutput{}, nil
}

// DeleteImagePermissions ends the sharing of an image with an account.
func (s *Service) DeleteImagePermissions(ctx context.Context, in *aws.DeleteImagePermissionsInput) (*aws.DeleteImagePermissionsOutput, error) {
	err := s.changePermissions(ctx, "DeleteImagePermissions", value(in.Name), func(image *appstream.Image) error {
		account := value(in.SharedAccountId)
		if _, ok := image.Permissions[account]; !ok {
			return appstream.Errorf(appstream.ResourceNotFound, "The image %s is not shared with account %s.", image.Name, account)
		}
		delete(image.Permissions, account)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &aws.DeleteImagePermissionsOutput{}, nil
}

func (s *Service) changePermissions(ctx context.Context, op, name string, fn func(*appstream.Image) error) error {
	k := key(appstream.CallerFrom(ctx), appstream.NounImage, name)
	return s.change(ctx, "appstream:"+op, k, func(tx store.Tx, _ time.Time) error {
		var image appstream.Image
		if err := get(tx, k, &image); err != nil {
			return err
		}
		if image.State != appstream.ImageAvailable {
			return inState(appstream.ResourceNotAvailable, k, image.State, "an AVAILABLE")
		}
		if err := fn(&image); err != nil {
			return err
		}
		return tx.Put(&image)
	})
}
