package service

import (
	"context"
	"errors"
	"slices"
	"time"

	aws "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// image finds an image that the caller may see: by name among his own and the public ones, his own first, or by ARN
// also among those that are shared with him.
func (s *Service) image(tx store.Tx, c appstream.Caller, name, arn *string) (appstream.Image, error) {
	var image appstream.Image
	if name != nil {
		own := key(c, appstream.NounImage, *name)
		err := get(tx, own, &image)
		if appstream.KindOf(err) == appstream.ResourceNotFound {
			public := own
			public.Account = ""
			if found := tx.Get(public, &image); !errors.Is(found, store.ErrNotFound) {
				err = found
			}
		}
		return image, err
	}
	k, err := appstream.ParseARN(*arn)
	if err != nil || k.Noun != appstream.NounImage {
		return image, appstream.Errorf(appstream.InvalidParameterCombination, "%s is not the ARN of an image.", *arn)
	}
	missing := appstream.Errorf(appstream.ResourceNotFound, "The image %s for account %s does not exist.", *arn, c.Account)
	if k.Region != c.Region {
		return image, missing
	}
	if err := get(tx, k, &image); err != nil {
		if appstream.KindOf(err) == appstream.ResourceNotFound {
			err = missing
		}
		return image, err
	}
	if _, visible := image.Visible(c.Account); !visible {
		return appstream.Image{}, missing
	}
	return image, nil
}

// DescribeImages describes the named images, or all that the account may see in the region.
func (s *Service) DescribeImages(ctx context.Context, in *aws.DescribeImagesInput) (*aws.DescribeImagesOutput, error) {
	c := appstream.CallerFrom(ctx)
	if len(in.Names) > 0 && len(in.Arns) > 0 {
		return nil, appstream.Errorf(appstream.InvalidParameterCombination, "Specify Names or Arns, not both.")
	}
	p, err := openPage(c, in, 25, 25)
	if err != nil {
		return nil, err
	}
	var list []appstream.Image
	err = s.cfg.Store.View(ctx, func(tx store.Tx) error {
		if len(in.Names)+len(in.Arns) == 0 {
			list, err = store.List[appstream.Image](tx, imageQuery(c, in.Type, p.after, p.size+1))
			return err
		}
		for _, text := range namesAfter(slices.Concat(in.Names, in.Arns), p.after.Name) { // one of the two is empty
			name, arn := &text, (*string)(nil)
			if len(in.Arns) > 0 {
				name, arn = nil, &text
			}
			image, err := s.image(tx, c, name, arn)
			if err != nil {
				return err
			}
			if v, _ := image.Visible(c.Account); in.Type == "" || in.Type == v {
				list = append(list, image)
			}
			if len(list) > p.size {
				break
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	list, next := cut(p, list, func(i appstream.Image) store.Position {
		if len(in.Arns) > 0 {
			return store.Position{Name: i.ARN()}
		}
		return place(i)
	})
	out := &aws.DescribeImagesOutput{Images: make([]types.Image, len(list)), NextToken: next}
	for n := range list {
		out.Images[n] = s.describe(c, &list[n])
	}
	return out, nil
}

// imageQuery selects what an account may see of a visibility ("" for all).
func imageQuery(c appstream.Caller, visibility types.VisibilityType, after store.Position, limit int) store.Query {
	q := store.Query{Noun: appstream.NounImage, Region: c.Region, After: after, Limit: limit}
	switch visibility {
	case types.VisibilityTypePublic:
		q.Accounts = []string{""}
	case types.VisibilityTypePrivate:
		q.Accounts = []string{c.Account}
	case types.VisibilityTypeShared:
		q.GrantedTo = c.Account
	default:
		q.Accounts, q.GrantedTo = []string{c.Account, ""}, c.Account
	}
	return q
}

func (s *Service) describe(c appstream.Caller, i *appstream.Image) types.Image {
	return i.DescribeTo(c.Account, s.latestAgent(), func(blob string) string { return c.BaseURL + "/icons/" + blob })
}

// DeleteImage deletes an image. One that is still being made is given up, and its builder becomes STOPPED (AWS
// refuses that). Exports of it that are under way are given up too.
func (s *Service) DeleteImage(ctx context.Context, in *aws.DeleteImageInput) (*aws.DeleteImageOutput, error) {
	c := appstream.CallerFrom(ctx)
	k := key(c, appstream.NounImage, value(in.Name))
	var image appstream.Image
	err := s.change(ctx, "appstream:DeleteImage", k, func(tx store.Tx, now time.Time) error {
		if err := get(tx, k, &image); err != nil {
			return err
		}
		if image.State == appstream.ImageDeleting {
			return appstream.Errorf(appstream.OperationNotPermitted, "The image %s is being deleted already.", k.Name)
		}
		if n := len(image.Permissions); n > 0 {
			return appstream.Errorf(appstream.OperationNotPermitted, "The image %s is shared with %d account(s). Call DeleteImagePermissions for each of them first.", k.Name, n)
		}
		if user, err := bootingFrom(tx, k); err != nil {
			return err
		} else if user != nil {
			who := "the image builder " + user.Name
			if user.Account != k.Account {
				who = "an image builder of another account"
			}
			return appstream.Errorf(appstream.ResourceInUse, "The image %s is in use by %s, which is being made of it. Wait until it is RUNNING.", k.Name, who)
		}
		if user, err := fleetFrom(tx, k); err != nil {
			return err
		} else if user != nil {
			who, end := "the fleet "+user.Name, "Give"
			if user.Account != k.Account {
				who, end = "a fleet of another account", "That account must give"
			}
			return appstream.Errorf(appstream.ResourceInUse, "The image %s is in use by %s. %s the fleet another image, or delete it.", k.Name, who, end)
		}
		if user, err := copyingFrom(tx, image); err != nil {
			return err
		} else if user != nil {
			return appstream.Errorf(appstream.ResourceInUse, "The image %s is being copied to %s in %s. Wait until the copy is AVAILABLE, or delete the copy.", k.Name, user.Name, user.Region)
		}
		if user, err := updatingFrom(tx, image); err != nil {
			return err
		} else if user != nil {
			return appstream.Errorf(appstream.ResourceInUse, "The image %s is being updated to %s. Wait until that is AVAILABLE, or delete it.", k.Name, user.Name)
		}
		if err := cancelExports(tx, image, now); err != nil {
			return err
		}
		from := image.State
		image.Enter(appstream.ImageDeleting, now)
		if err := move(tx, &image.Meta, from, now, "DeleteImage"); err != nil {
			return err
		}
		for _, builder := range image.BuilderKeys() {
			if err := tx.Wake(builder, now); err != nil {
				return err
			}
		}
		return tx.Put(&image)
	})
	if err != nil {
		return nil, err
	}
	return &aws.DeleteImageOutput{Image: new(s.describe(c, &image))}, nil
}

// bootingFrom finds an image builder whose machine is not made yet and needs the image for that.
func bootingFrom(tx store.Tx, image appstream.Key) (user *appstream.Key, err error) {
	err = walk(tx, store.Query{Noun: appstream.NounImageBuilder, Region: image.Region, LinksTo: image.ARN(), States: []string{appstream.BuilderPending}},
		func(b *appstream.ImageBuilder) bool {
			if !b.Provisioned {
				user = &b.Key
			}
			return user == nil
		})
	return user, err
}

// fleetFrom finds a fleet, of any account, whose machines are made from the image.
func fleetFrom(tx store.Tx, image appstream.Key) (*appstream.Key, error) {
	return anyLinked(tx, store.Query{Noun: appstream.NounFleet, Region: image.Region, LinksTo: image.ARN()})
}

// anyLinked finds a record that a query selects.
func anyLinked(tx store.Tx, q store.Query) (found *appstream.Key, err error) {
	q.Limit = 1
	err = tx.Scan(q, func(head appstream.Meta, _ func(appstream.Record) error) error {
		found = &head.Key
		return nil
	})
	return found, err
}
