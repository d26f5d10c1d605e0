package service_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
)

func updateInput(from, to string, edit ...func(*api.CreateUpdatedImageInput)) *api.CreateUpdatedImageInput {
	in := &api.CreateUpdatedImageInput{ExistingImageName: &from, NewImageName: &to}
	for _, fn := range edit {
		fn(in)
	}
	return in
}

func dry(in *api.CreateUpdatedImageInput) { in.DryRun = new(true) }

// ownBuilders gives the image builders of an account.
func (f *fixture) ownBuilders(account string) (list []appstream.ImageBuilder) {
	f.t.Helper()
	f.must(f.store.View(f.t.Context(), func(tx store.Tx) (err error) {
		list, err = store.List[appstream.ImageBuilder](tx, store.Query{Noun: appstream.NounImageBuilder, Region: "us-west-2", Accounts: []string{account}})
		return err
	}))
	return list
}

// An updated image has what the image has, but for what belongs to the image alone; the builder that is made for it is small, and in the default subnet.
func TestCreateUpdatedImage(t *testing.T) {
	f := newFixture(t)
	released := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	f.addImage(me, "mine", appstream.ImageAvailable, func(i *appstream.Image) {
		i.Ref, i.Tags, i.VolumeGB, i.Icons = "mine-ref", map[string]string{"team": "red"}, 300, map[string]string{"xterm": "icon"}
		i.Software = []string{"Geany"}
		i.Permissions = map[string]types.ImagePermissions{other: {AllowFleet: new(true)}}
		i.View.ImageBuilderName, i.View.Description, i.View.DisplayName = new("hello"), new("the first"), new("Mine")
		i.View.Applications = []types.Application{{Name: new("xterm"), LaunchPath: new("/usr/bin/xterm")}}
		i.View.AppstreamAgentVersion, i.View.BaseImageArn, i.View.PublicBaseImageReleasedDate = new("01-01-2026"), new("arn:aws:appstream:us-west-2::image/base"), &released
		i.View.SupportedInstanceFamilies = []string{"Memory Optimized"}
	})
	out, err := f.CreateUpdatedImage(as(me), updateInput("mine", "newer", func(in *api.CreateUpdatedImageInput) {
		in.NewImageDescription, in.NewImageDisplayName, in.NewImageTags = new("the second"), new("Newer"), map[string]string{"stage": "test"}
	}))
	f.must(err)
	if !*out.CanUpdateImage {
		t.Error("canUpdateImage is false beside an image")
	}
	view := *out.Image
	view.CreatedTime = nil
	want := types.Image{
		Name: new("newer"), Arn: new("arn:aws:appstream:us-west-2:" + me + ":image/newer"), State: types.ImageStateCreating,
		Visibility: types.VisibilityTypePrivate, ImageSharedWithOthers: types.ImageSharedWithOthersFalse, Description: new("the second"), DisplayName: new("Newer"),
		Applications: []types.Application{{Name: new("xterm"), LaunchPath: new("/usr/bin/xterm"), IconURL: new("https://oriel.test/icons/icon")}},
		BaseImageArn: new("arn:aws:appstream:us-west-2::image/base"), PublicBaseImageReleasedDate: &released, Platform: "DEBIAN_12", ImageBuilderSupported: new(true),
		SupportedInstanceFamilies: []string{"Memory Optimized"}, AppstreamAgentVersion: new("11-21-2026"), LatestAppstreamAgentVersion: types.LatestAppstreamAgentVersionTrue,
	}
	if diff := cmp.Diff(want, view, ignoreUnexported); diff != "" {
		t.Errorf("the new image (-want +got):\n%s", diff)
	}
	image := f.imageIn(me, "us-west-2", "newer")
	if image.VolumeGB != 300 || image.UpdateOf != "mine-ref" || image.Ref == "mine-ref" || image.Due.IsZero() || image.Deadline.IsZero() || image.Tags["stage"] != "test" || len(image.Tags) != 1 {
		t.Errorf("its record: %+v", image)
	}
	builders := f.ownBuilders(me)
	if len(builders) != 1 {
		t.Fatalf("%d image builders", len(builders))
	}
	b := builders[0]
	digits, ok := strings.CutPrefix(b.Name, "newer-")
	if !ok || len(digits) != 10 || strings.Trim(digits, "0123456789") != "" {
		t.Errorf("the image builder is called %s", b.Name)
	}
	if b.State != appstream.BuilderUpdating || b.Due.IsZero() || b.ImageRef != "mine-ref" || b.ID != image.BuilderID || b.Name != image.ManagedBy || b.CapturingID != image.ID || len(b.Tags) > 0 {
		t.Errorf("its record: %+v", b)
	}
	for _, arn := range []string{image.ARN(), b.ARN()} {
		if got := f.software(arn); !slices.Equal(got, []string{"Geany INSTALLED"}) {
			t.Errorf("%s has the software %v", arn, got)
		}
	}
	wantBuilder := types.ImageBuilder{
		Name: &b.Name, Arn: new(b.ARN()), State: types.ImageBuilderStateUpdating, InstanceType: new("stream.memory.large"), ImageArn: new("arn:aws:appstream:us-west-2:" + me + ":image/mine"),
		AppstreamAgentVersion: new("11-21-2026"), LatestAppstreamAgentVersion: types.LatestAppstreamAgentVersionTrue, Platform: "DEBIAN_12", DisableIMDSV1: new(false),
		EnableDefaultInternetAccess: new(true), RootVolumeConfig: &types.VolumeConfig{VolumeSizeInGb: new(int32(300))}, VpcConfig: &types.VpcConfig{}, NetworkAccessConfiguration: &types.NetworkAccessConfiguration{},
	}
	described, err := f.DescribeImageBuilders(as(me), &api.DescribeImageBuildersInput{})
	f.must(err)
	described.ImageBuilders[0].CreatedTime = nil
	if diff := cmp.Diff(wantBuilder, described.ImageBuilders[0], cmpopts.IgnoreUnexported(types.ImageBuilder{}, types.VolumeConfig{}, types.VpcConfig{}, types.NetworkAccessConfiguration{})); diff != "" {
		t.Errorf("the image builder (-want +got):\n%s", diff)
	}
}

// An image that follows the newest agent goes on following it.
func TestUpdatedImageKeepsLatest(t *testing.T) {
	f := newFixture(t)
	f.addImage(me, "mine", appstream.ImageAvailable, func(i *appstream.Image) { i.View.AppstreamAgentVersion = new("LATEST") })
	out, err := f.CreateUpdatedImage(as(me), updateInput("mine", "newer"))
	f.must(err)
	if got := *out.Image.AppstreamAgentVersion; got != "LATEST" {
		t.Errorf("the agent of the new image is %s", got)
	}
}

func TestCreateUpdatedImageIsRefused(t *testing.T) {
	f := newFixture(t, func(cfg *service.Config) { cfg.Quotas.Images = 8 })
	f.addImage(me, "mine", appstream.ImageAvailable)
	f.addImage(me, "taken", appstream.ImageAvailable)
	f.addImage(me, "pending", appstream.ImagePending)
	f.addImage(me, "failed", appstream.ImageFailed)
	f.addImage(me, "closed", appstream.ImageAvailable, func(i *appstream.Image) { i.View.ImageBuilderSupported = new(false) })
	f.addImage(me, "quantum", appstream.ImageAvailable, func(i *appstream.Image) { i.View.SupportedInstanceFamilies = []string{"Quantum"} })
	f.addImage(me, "windows", appstream.ImageAvailable, func(i *appstream.Image) {
		i.View.Platform, i.View.AppstreamAgentVersion = types.PlatformTypeWindowsServer2022, new("11-21-2026")
	})
	f.addImage(other, "theirs", appstream.ImageAvailable, func(i *appstream.Image) {
		i.Permissions = map[string]types.ImagePermissions{me: {AllowFleet: new(true), AllowImageBuilder: new(true)}}
	})
	rows := []struct {
		from, to string
		kind     appstream.Kind
		says     string
	}{
		{"none", "newer", appstream.ResourceNotFound, "The image none for account " + me + " does not exist."},
		{"base", "newer", appstream.ResourceNotFound, "The image base for account " + me + " does not exist."},     // public
		{"theirs", "newer", appstream.ResourceNotFound, "The image theirs for account " + me + " does not exist."}, // shared
		{"pending", "newer", appstream.OperationNotPermitted, "The image pending is PENDING. The image must be in an AVAILABLE state for this action to succeed."},
		{"failed", "newer", appstream.OperationNotPermitted, "The image failed is FAILED."},
		{"closed", "newer", appstream.IncompatibleImage, "The image closed does not support image builders"},
		{"quantum", "newer", appstream.IncompatibleImage, "no instance type for the image quantum, which supports Quantum"},
		{"mine", "taken", appstream.ResourceAlreadyExists, "An image with the given name already exists: taken."},
		{"mine", "mine", appstream.ResourceAlreadyExists, "An image with the given name already exists: mine."},
		{"mine", "base", appstream.ResourceAlreadyExists, "base is a public image."},
		{"mine", "aws-1", appstream.Validation, "begins with aws, which is reserved"},
	}
	for _, test := range rows {
		_, err := f.CreateUpdatedImage(as(me), updateInput(test.from, test.to))
		refused(t, err, test.kind, test.says)
		_, err = f.CreateUpdatedImage(as(me), updateInput(test.from, test.to, dry))
		refused(t, err, test.kind, test.says)
	}
	_, err := f.CreateUpdatedImage(as(me), updateInput("windows", "newer"))
	refused(t, err, appstream.OperationNotPermitted, "There is nothing to update in the image windows: it has the newest agent, and how the packages of WINDOWS_SERVER_2022 are updated is not known.")
	f.addImage(me, "eighth", appstream.ImageAvailable)
	_, err = f.CreateUpdatedImage(as(me), updateInput("mine", "newer"))
	refused(t, err, appstream.LimitExceeded, "The image limit for account "+me+" in us-west-2 was exceeded. Delete one that is not needed. Limit: 8")
	if list := f.ownBuilders(me); len(list) > 0 {
		t.Errorf("refused calls have left %d image builders", len(list))
	}
}

// A dry run tells whether there may be something to update, and makes nothing.
func TestDryRunOfAnUpdate(t *testing.T) {
	f := newFixture(t)
	for _, test := range []struct {
		name, platform string
		agent          *string
		can            bool
	}{
		{"packages", "DEBIAN_12", new("11-21-2026"), true},
		{"following", "DEBIAN_12", new("LATEST"), true},
		{"pinned", "WINDOWS_SERVER_2022", new("01-01-2026"), true},
		{"newest", "WINDOWS_SERVER_2022", new("11-21-2026"), false},
		{"latest", "WINDOWS_SERVER_2022", new("LATEST"), false},
		{"none", "WINDOWS_SERVER_2022", nil, false},
	} {
		f.addImage(me, test.name, appstream.ImageAvailable, func(i *appstream.Image) {
			i.View.Platform, i.View.AppstreamAgentVersion = types.PlatformType(test.platform), test.agent
		})
		out, err := f.CreateUpdatedImage(as(me), updateInput(test.name, "newer", dry))
		f.must(err)
		if *out.CanUpdateImage != test.can || out.Image != nil {
			t.Errorf("%s: canUpdateImage %v, image %+v", test.name, *out.CanUpdateImage, out.Image)
		}
	}
	_, err := f.DescribeImages(as(me), &api.DescribeImagesInput{Names: []string{"newer"}})
	refused(t, err, appstream.ResourceNotFound, "The image newer")
	if list := f.ownBuilders(me); len(list) > 0 {
		t.Errorf("dry runs have left %d image builders", len(list))
	}
	f.must(f.store.View(t.Context(), func(tx store.Tx) error {
		lines, err := tx.Audits(store.LogQuery{Limit: 1})
		if err == nil && (lines[0].Operation != "appstream:CreateUpdatedImage" || lines[0].Result != "DryRun") {
			t.Errorf("audit = %+v", lines[0])
		}
		return err
	}))
}

func TestConcurrentUpdates(t *testing.T) {
	f := newFixture(t, func(cfg *service.Config) { cfg.Quotas.ImageBuilders = 1 })
	f.addImage(me, "mine", appstream.ImageAvailable)
	for _, to := range []string{"a", "b", "c", "d", "e"} {
		_, err := f.CreateUpdatedImage(as(me), updateInput("mine", to))
		f.must(err)
	}
	_, err := f.CreateUpdatedImage(as(me), updateInput("mine", "f"))
	refused(t, err, appstream.LimitExceeded, "The limit of concurrent image updates for account "+me+" in us-west-2 was exceeded.")
	if !strings.HasSuffix(err.Error(), "Limit: 5") {
		t.Errorf("clients look for the limit at the end of %q", err)
	}
	// Their builders are not the account's.
	_, err = f.CreateImageBuilder(as(me), input("hello"))
	f.must(err)
	_, err = f.CreateImageBuilder(as(me), input("second"))
	refused(t, err, appstream.LimitExceeded, "Limit: 1")
}

func TestDeleteOfWhatIsBeingUpdated(t *testing.T) {
	f := newFixture(t)
	f.addImage(me, "mine", appstream.ImageAvailable)
	_, err := f.CreateUpdatedImage(as(me), updateInput("mine", "newer"))
	f.must(err)
	_, err = f.DeleteImage(as(me), &api.DeleteImageInput{Name: new("mine")})
	refused(t, err, appstream.ResourceInUse, "The image mine is being updated to newer. Wait until that is AVAILABLE, or delete it.")
	_, err = f.DeleteImage(as(me), &api.DeleteImageInput{Name: new("newer")})
	f.must(err)
	_, err = f.DeleteImage(as(me), &api.DeleteImageInput{Name: new("mine")})
	f.must(err)
}

// Nobody uses the builder of an image; it can be deleted.
func TestManagedBuildersAreNotForUse(t *testing.T) {
	f := newFixture(t)
	f.addImage(me, "mine", appstream.ImageAvailable)
	_, err := f.CreateUpdatedImage(as(me), updateInput("mine", "newer"))
	f.must(err)
	name := f.ownBuilders(me)[0].Name
	_, err = f.StartImageBuilder(as(me), &api.StartImageBuilderInput{Name: &name})
	refused(t, err, appstream.ResourceNotAvailable, "was made for an image")
	_, err = f.StopImageBuilder(as(me), &api.StopImageBuilderInput{Name: &name})
	refused(t, err, appstream.OperationNotPermitted, "is UPDATING")
	_, err = f.CreateImageBuilderStreamingURL(as(me), &api.CreateImageBuilderStreamingURLInput{Name: &name})
	refused(t, err, appstream.OperationNotPermitted, "is UPDATING")
	_, err = f.CreateImage(as(me), &service.CreateImageInput{ImageBuilderName: &name, Name: new("third"), Applications: []types.Application{}})
	refused(t, err, appstream.OperationNotPermitted, "is UPDATING")
	out, err := f.DeleteImageBuilder(as(me), &api.DeleteImageBuilderInput{Name: &name})
	f.must(err)
	if out.ImageBuilder.State != types.ImageBuilderStateDeleting {
		t.Errorf("after DeleteImageBuilder: %s", out.ImageBuilder.State)
	}
}
