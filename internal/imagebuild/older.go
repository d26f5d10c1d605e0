package imagebuild

import (
	"cmp"
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/recipe"
)

// removeOlder removes the images that builds of this name have made before, but for the newest ones. One that something uses or that is shared stays; so
// does every one of which that cannot be known. It gives their names.
func (b *Build) removeOlder(ctx context.Context) (removed []string, err error) {
	list, err := b.older(ctx)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	used, err := b.used(ctx)
	if err != nil {
		return nil, err
	}
	for _, image := range list {
		if used[*image.Arn] {
			b.tell("keeping the image "+*image.Name+", which is in use", "", -1)
			continue
		}
		if !b.DryRun {
			b.tell("removing the image "+*image.Name+", which is an older one", "", -1)
			if err := b.patient(ctx, func() error {
				_, err := b.AWS.DeleteImage(ctx, &appstream.DeleteImageInput{Name: image.Name})
				return absent(err)
			}); code(err) != "" { // somebody uses it now
				b.tell("the image "+*image.Name+" could not be removed: "+err.Error(), "", -1)
				continue
			} else if err != nil {
				return removed, err
			}
		}
		removed = append(removed, *image.Name)
	}
	return removed, nil
}

// older lists the images of the name that are AVAILABLE and not shared, without the newest ones. The image that was asked for is the newest of all, whatever its time. An image
// is one of the name when a build has made it and its own digest gives it its name.
func (b *Build) older(ctx context.Context) (list []types.Image, err error) {
	in := &appstream.DescribeImagesInput{Type: types.VisibilityTypePrivate}
	for {
		var out *appstream.DescribeImagesOutput
		if err := b.patient(ctx, func() (err error) { out, err = b.AWS.DescribeImages(ctx, in); return err }); err != nil {
			return nil, err
		}
		for _, image := range out.Images {
			if image.State != types.ImageStateAvailable || *image.Name == b.image || !recipe.MayBeOf(b.name(), *image.Name) {
				continue
			}
			var tags *appstream.ListTagsForResourceOutput
			err := b.patient(ctx, func() (err error) {
				tags, err = b.AWS.ListTagsForResource(ctx, &appstream.ListTagsForResourceInput{ResourceArn: image.Arn})
				return err
			})
			switch {
			case isNotFound(err): // it has just gone
			case err != nil:
				return nil, err
			case recipe.IsOf(b.name(), *image.Name, tags.Tags):
				list = append(list, image)
			}
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			break
		}
	}
	slices.SortFunc(list, func(x, y types.Image) int {
		return cmp.Or(y.CreatedTime.Compare(*x.CreatedTime), cmp.Compare(*x.Name, *y.Name))
	})
	list = list[min(len(list), b.Newest-1):]
	return slices.DeleteFunc(list, func(i types.Image) bool { return i.ImageSharedWithOthers == types.ImageSharedWithOthersTrue }), nil
}

// used gives the ARNs of the images that fleets and image builders have.
func (b *Build) used(ctx context.Context) (map[string]bool, error) {
	used := map[string]bool{}
	note := func(arn *string) {
		if arn != nil {
			used[*arn] = true
		}
	}
	fleets := new(appstream.DescribeFleetsInput)
	for {
		var out *appstream.DescribeFleetsOutput
		if err := b.patient(ctx, func() (err error) { out, err = b.AWS.DescribeFleets(ctx, fleets); return err }); err != nil {
			return nil, err
		}
		for _, f := range out.Fleets {
			note(f.ImageArn)
		}
		if fleets.NextToken = out.NextToken; fleets.NextToken == nil {
			break
		}
	}
	builders := new(appstream.DescribeImageBuildersInput)
	for {
		var out *appstream.DescribeImageBuildersOutput
		if err := b.patient(ctx, func() (err error) { out, err = b.AWS.DescribeImageBuilders(ctx, builders); return err }); err != nil {
			return nil, err
		}
		for _, i := range out.ImageBuilders {
			note(i.ImageArn)
		}
		if builders.NextToken = out.NextToken; builders.NextToken == nil {
			return used, nil
		}
	}
}
