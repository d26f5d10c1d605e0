package service_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
)

func copyInput(from, to, region string) *api.CopyImageInput {
	return &api.CopyImageInput{SourceImageName: &from, DestinationImageName: &to, DestinationRegion: &region}
}

// imageIn reads an image of an account from the store.
func (f *fixture) imageIn(account, region, name string) (i appstream.Image) {
	f.t.Helper()
	f.must(f.store.View(context.Background(), func(tx store.Tx) error {
		return tx.Get(appstream.Key{Account: account, Region: region, Noun: appstream.NounImage, Name: name}, &i)
	}))
	return i
}

// A copy has what the image has, but for what belongs to the image alone: tags, permissions, its builder and its description.
func TestCopyImage(t *testing.T) {
	f := newFixture(t)
	apps := []types.Application{{Name: new("xterm"), LaunchPath: new("/usr/bin/xterm")}}
	f.addImage(me, "mine", appstream.ImageAvailable, func(i *appstream.Image) {
		i.Tags = map[string]string{"team": "red"}
		i.Permissions = map[string]types.ImagePermissions{other: {AllowFleet: new(true)}}
		i.BuilderID, i.VolumeGB, i.Icons, i.Software = "ib-1", 300, map[string]string{"xterm": "icon"}, []string{"Geany"}
		i.View.ImageBuilderName, i.View.Description, i.View.DisplayName, i.View.Applications = new("hello"), new("the first"), new("Mine"), apps
		i.View.AppstreamAgentVersion = new("01-01-2026")
	})
	in := copyInput("mine", "copy", "eu-west-1")
	in.DestinationImageDescription = new("the second")
	out, err := f.CopyImage(as(me), in)
	f.must(err)
	if got := *out.DestinationImageName; got != "copy" {
		t.Errorf("DestinationImageName = %s", got)
	}
	far := appstream.WithCaller(context.Background(), appstream.Caller{Account: me, Region: "eu-west-1"})
	described, err := f.DescribeImages(far, &api.DescribeImagesInput{Names: []string{"copy"}})
	f.must(err)
	view := described.Images[0]
	if view.CreatedTime == nil || time.Since(*view.CreatedTime) > time.Minute {
		t.Errorf("CreatedTime = %v", view.CreatedTime)
	}
	view.CreatedTime = nil
	apps[0].IconURL = new("/icons/icon")
	want := types.Image{
		Name: new("copy"), Arn: new("arn:aws:appstream:eu-west-1:" + me + ":image/copy"), State: types.ImageStateCopying,
		Visibility: types.VisibilityTypePrivate, Description: new("the second"), DisplayName: new("Mine"), Applications: apps,
		BaseImageArn: new("arn:aws:appstream:us-west-2:" + me + ":image/mine"), Platform: "DEBIAN_12", ImageBuilderSupported: new(true),
		ImageSharedWithOthers: types.ImageSharedWithOthersFalse, SupportedInstanceFamilies: []string{"General Purpose"},
		AppstreamAgentVersion: new("01-01-2026"), LatestAppstreamAgentVersion: types.LatestAppstreamAgentVersionFalse,
	}
	if diff := cmp.Diff(want, view, ignoreUnexported); diff != "" {
		t.Errorf("the copy (-want +got):\n%s", diff)
	}
	source, image := f.imageIn(me, "us-west-2", "mine"), f.imageIn(me, "eu-west-1", "copy")
	if len(image.Tags) > 0 || image.VolumeGB != 300 || image.CopyOf != source.Ref || image.Ref == source.Ref || image.BuilderID != "" || image.Due.IsZero() || image.Deadline.IsZero() ||
		!slices.Equal(image.Software, source.Software) {
		t.Errorf("the record of the copy: %+v", image)
	}
	if source.State != appstream.ImageAvailable || len(source.Tags) != 1 || len(source.Permissions) != 1 {
		t.Errorf("the source has become %+v", source)
	}
}

func TestCopyImageIsRefused(t *testing.T) {
	f := newFixture(t)
	f.addImage(me, "mine", appstream.ImageAvailable)
	f.addImage(me, "taken", appstream.ImageAvailable)
	f.addImage(me, "pending", appstream.ImagePending)
	f.addImage(me, "failed", appstream.ImageFailed)
	f.addImage(other, "theirs", appstream.ImageAvailable, func(i *appstream.Image) {
		i.Permissions = map[string]types.ImagePermissions{me: {AllowFleet: new(true), AllowImageBuilder: new(true)}}
	})
	for _, test := range []struct {
		from, to, region string
		kind             appstream.Kind
		says             string
	}{
		{"none", "copy", "us-west-2", appstream.ResourceNotFound, "The image none for account " + me + " does not exist."},
		{"base", "copy", "us-west-2", appstream.ResourceNotFound, "The image base for account " + me + " does not exist."},     // public
		{"theirs", "copy", "us-west-2", appstream.ResourceNotFound, "The image theirs for account " + me + " does not exist."}, // shared
		{"pending", "copy", "us-west-2", appstream.ResourceNotAvailable, "The image pending is PENDING. The image must be in an AVAILABLE state for this action to succeed."},
		{"failed", "copy", "us-west-2", appstream.ResourceNotAvailable, "The image failed is FAILED."},
		{"mine", "taken", "us-west-2", appstream.ResourceAlreadyExists, "An image with the given name already exists: taken."},
		{"mine", "mine", "us-west-2", appstream.ResourceAlreadyExists, "An image with the given name already exists: mine."},
		{"mine", "base", "us-west-2", appstream.ResourceAlreadyExists, "base is a public image."},
		{"mine", "amazon-1", "us-west-2", appstream.Validation, "begins with amazon, which is reserved"},
		{"mine", "copy", "ap-south-1", appstream.ResourceNotFound, "The region ap-south-1 is not served here. DestinationRegion can be us-west-2, eu-west-1."},
	} {
		_, err := f.CopyImage(as(me), copyInput(test.from, test.to, test.region))
		refused(t, err, test.kind, test.says)
	}
}

// Two copies can be under way to a region; those to another one, and those that are done, do not count.
func TestConcurrentCopies(t *testing.T) {
	f := newFixture(t)
	f.addImage(me, "mine", appstream.ImageAvailable)
	for _, to := range []string{"a", "b"} {
		_, err := f.CopyImage(as(me), copyInput("mine", to, "us-west-2"))
		f.must(err)
	}
	_, err := f.CopyImage(as(me), copyInput("mine", "c", "us-west-2"))
	refused(t, err, appstream.LimitExceeded, "The limit of concurrent image copies to us-west-2 for account "+me+" was exceeded.")
	if !strings.HasSuffix(err.Error(), "Limit: 2") {
		t.Errorf("clients look for the limit at the end of %q", err)
	}
	_, err = f.CopyImage(as(me), copyInput("mine", "c", "eu-west-1"))
	f.must(err)
	f.available("a")
	_, err = f.CopyImage(as(me), copyInput("mine", "c", "us-west-2"))
	f.must(err)
}

// Copies count as images where they are, and not where they come from.
func TestCopiesCountAsImages(t *testing.T) {
	f := newFixture(t, func(cfg *service.Config) { cfg.Quotas.Images = 1 })
	f.addImage(me, "mine", appstream.ImageAvailable)
	_, err := f.CopyImage(as(me), copyInput("mine", "copy", "us-west-2"))
	refused(t, err, appstream.LimitExceeded, "The image limit for account "+me+" in us-west-2 was exceeded. Delete one that is not needed. Limit: 1")
	_, err = f.CopyImage(as(me), copyInput("mine", "copy", "eu-west-1"))
	f.must(err)
	_, err = f.CopyImage(as(me), copyInput("mine", "another", "eu-west-1"))
	refused(t, err, appstream.LimitExceeded, "The image limit for account "+me+" in eu-west-1")
}

func TestDeleteOfWhatIsBeingCopied(t *testing.T) {
	f := newFixture(t)
	f.addImage(me, "mine", appstream.ImageAvailable)
	_, err := f.CopyImage(as(me), copyInput("mine", "copy", "us-west-2"))
	f.must(err)
	_, err = f.DeleteImage(as(me), &api.DeleteImageInput{Name: new("mine")})
	refused(t, err, appstream.ResourceInUse, "The image mine is being copied to copy in us-west-2. Wait until the copy is AVAILABLE, or delete the copy.")
	_, err = f.UpdateImagePermissions(as(me), &api.UpdateImagePermissionsInput{Name: new("copy"), SharedAccountId: new(other), ImagePermissions: &types.ImagePermissions{}})
	refused(t, err, appstream.ResourceNotAvailable, "The image copy is COPYING.")
	out, err := f.DeleteImage(as(me), &api.DeleteImageInput{Name: new("copy")})
	f.must(err)
	if out.Image.State != types.ImageStateDeleting {
		t.Errorf("the copy is %s", out.Image.State)
	}
	_, err = f.DeleteImage(as(me), &api.DeleteImageInput{Name: new("mine")})
	f.must(err)
}
