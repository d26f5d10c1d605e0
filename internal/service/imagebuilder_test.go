package service_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/ticket"
)

// A streaming URL is good for an hour, or as long as was asked for, and at least that long: tickets know seconds.
func TestValidityOfStreamingURLs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		b := f.running("hello")
		began := time.Now() // a full second, in a bubble
		for _, test := range []struct {
			validity *int64
			after    time.Duration // when it is asked for
			expires  time.Duration
		}{
			{nil, 0, time.Hour},
			{new(int64(1)), 0, time.Second},
			{new(int64(604800)), 0, 7 * 24 * time.Hour},
			{nil, 300 * time.Millisecond, time.Hour + time.Second},
			{new(int64(60)), 999 * time.Millisecond, 61 * time.Second},
		} {
			time.Sleep(time.Until(began.Add(test.after)))
			out, err := f.CreateImageBuilderStreamingURL(as(me), &api.CreateImageBuilderStreamingURLInput{Name: new("hello"), Validity: test.validity})
			f.must(err)
			if got := out.Expires.Sub(began); got != test.expires {
				t.Errorf("Validity %d: Expires after %s, want %s", aws.ToInt64(test.validity), got, test.expires)
			}
			u, err := url.Parse(*out.StreamingURL)
			f.must(err)
			claims, err := f.cfg.Tickets.Parse(u.Query().Get("parameters"), u.Query().Get("signature"), time.Now())
			f.must(err)
			want := ticket.Claims{Type: ticket.TypeAdmin, Account: me, Region: "us-west-2", Builder: "hello", RecordID: b.ID, UserID: ticket.UserAdmin,
				Expires: began.Add(test.expires).UTC(), Nonce: claims.Nonce}
			if diff := cmp.Diff(want, claims); diff != "" || u.Host != "oriel.test" {
				t.Errorf("%s (-want +got):\n%s", u.Host, diff)
			}
		}
		for _, validity := range []int64{-1, 0, 604801} {
			_, err := f.CreateImageBuilderStreamingURL(as(me), &api.CreateImageBuilderStreamingURLInput{Name: new("hello"), Validity: &validity})
			refused(t, err, appstream.Validation, fmt.Sprintf("Validity is %d.", validity))
		}
	})
}

// An ARN names an image of the caller's region only, even if there is that image in the other region.
func TestImageOfAnotherRegion(t *testing.T) {
	f := newFixture(t)
	f.addImage("", "abroad", appstream.ImageAvailable, func(i *appstream.Image) { i.Region = "eu-west-1" })
	f.addImage(me, "far", appstream.ImageAvailable, func(i *appstream.Image) { i.Region = "eu-west-1" })
	for _, arn := range []string{"arn:aws:appstream:eu-west-1::image/abroad", "arn:aws:appstream:eu-west-1:" + me + ":image/far"} {
		_, err := f.CreateImageBuilder(as(me), input("hello", func(in *api.CreateImageBuilderInput) { in.ImageName, in.ImageArn = nil, &arn }))
		refused(t, err, appstream.ResourceNotFound, "The image "+arn+" for account")
		_, err = f.DescribeImages(as(me), &api.DescribeImagesInput{Arns: []string{arn}})
		refused(t, err, appstream.ResourceNotFound, "The image "+arn+" for account")
	}
	for _, arn := range []string{"arn:aws:appstream:us-west-2:" + me + ":image-builder/x", "base"} {
		_, err := f.DescribeImages(as(me), &api.DescribeImagesInput{Arns: []string{arn}})
		refused(t, err, appstream.InvalidParameterCombination, arn+" is not the ARN of an image.")
	}
}

// The wanted agent comes before the one that the image has pinned, and that before the latest; an image outlives its agent.
func TestAgentVersion(t *testing.T) {
	f := newFixture(t, func(cfg *service.Config) { cfg.Quotas.ImageBuilders = 100 })
	const old, latest, outlived = "01-01-2026", "11-21-2026", "05-05-2020"
	for n, test := range []struct{ wanted, pinned, want string }{
		{"", "", latest}, {"", "LATEST", latest}, {"", old, old}, {"", latest, latest}, {"", outlived, latest},
		{"LATEST", "", latest}, {"LATEST", old, latest}, {"LATEST", outlived, latest},
		{old, "", old}, {old, latest, old}, {old, outlived, old}, {latest, old, latest},
		{outlived, "", ""}, {outlived, outlived, ""}, {outlived, latest, ""},
	} {
		name := fmt.Sprint("n", n)
		f.addImage(me, name, appstream.ImageAvailable, func(i *appstream.Image) { i.View.AppstreamAgentVersion = appstream.Optional(test.pinned) })
		out, err := f.CreateImageBuilder(as(me), input(name, func(in *api.CreateImageBuilderInput) {
			in.ImageName, in.AppstreamAgentVersion = &name, appstream.Optional(test.wanted)
		}))
		if test.want == "" {
			refused(t, err, appstream.ResourceNotAvailable, "The agent version "+outlived+" is not installed. Installed: 01-01-2026, 11-21-2026.")
			continue
		}
		f.must(err)
		if got := aws.ToString(out.ImageBuilder.AppstreamAgentVersion); got != test.want {
			t.Errorf("wanted %q, image has %q: the builder got %s, want %s", test.wanted, test.pinned, got, test.want)
		}
		if isLatest := types.LatestAppstreamAgentVersion(strings.ToUpper(fmt.Sprint(test.want == latest))); out.ImageBuilder.LatestAppstreamAgentVersion != isLatest {
			t.Errorf("agent %s: LatestAppstreamAgentVersion = %s", test.want, out.ImageBuilder.LatestAppstreamAgentVersion)
		}
	}
}

// A start may bring another agent; otherwise the builder keeps its own.
func TestStartWithAgentVersion(t *testing.T) {
	f := newFixture(t)
	f.running("hello")
	for _, test := range []struct{ wanted, want string }{
		{"01-01-2026", "01-01-2026"}, {"", "01-01-2026"}, {"LATEST", "11-21-2026"}, {"05-05-2020", ""}, {"", "11-21-2026"},
	} {
		f.setState("hello", "STOPPING", "STOPPED")
		out, err := f.StartImageBuilder(as(me), &api.StartImageBuilderInput{Name: new("hello"), AppstreamAgentVersion: appstream.Optional(test.wanted)})
		if test.want == "" {
			refused(t, err, appstream.ResourceNotAvailable, "05-05-2020")
			f.setState("hello", "PENDING")
		} else if f.must(err); aws.ToString(out.ImageBuilder.AppstreamAgentVersion) != test.want {
			t.Errorf("a start with %q: %s, want %s", test.wanted, aws.ToString(out.ImageBuilder.AppstreamAgentVersion), test.want)
		}
		f.setState("hello", "RUNNING")
	}
}

// A failed builder that is started again has a clean slate.
func TestStartClearsErrors(t *testing.T) {
	f := newFixture(t)
	f.running("hello")
	f.edit("hello", func(b *appstream.ImageBuilder) {
		b.Enter(appstream.BuilderFailed, time.Now())
		b.Boots = []time.Time{time.Now(), time.Now()}
		b.View.StateChangeReason = &types.ImageBuilderStateChangeReason{Code: types.ImageBuilderStateChangeReasonCodeInternalError, Message: new("it vanished")}
		b.View.ImageBuilderErrors = []types.ResourceError{{ErrorMessage: new("it vanished")}}
		b.Due = time.Time{}
	})
	out, err := f.StartImageBuilder(as(me), &api.StartImageBuilderInput{Name: new("hello")})
	f.must(err)
	if b := out.ImageBuilder; b.State != types.ImageBuilderStatePending || len(b.ImageBuilderErrors) != 0 || b.StateChangeReason != nil {
		t.Errorf("the answer is %s, %v, %v", b.State, b.ImageBuilderErrors, b.StateChangeReason)
	}
	if b := f.builder(me, "hello"); len(b.View.ImageBuilderErrors) != 0 || len(b.Boots) != 0 || b.Due.IsZero() || b.Deadline.IsZero() {
		t.Errorf("the record has errors %v, boots %v, due %v, deadline %v", b.View.ImageBuilderErrors, b.Boots, b.Due, b.Deadline)
	}
}

// A new machine in place of one that has vanished is made of the builder's image and type: what may not be used any more is not used. A machine that is there is
// started all the same.
func TestStartMakesNoMachineOfWhatMayNotBeUsed(t *testing.T) {
	f := newFixture(t, func(cfg *service.Config) { cfg.Quotas.ImageBuilders = 100 })
	image := func(owner, name string, change func(tx store.Tx, i *appstream.Image) error) {
		i := f.imageIn(owner, "us-west-2", name)
		f.must(f.store.Update(context.Background(), func(tx store.Tx) error { return change(tx, &i) }))
	}
	for name, test := range map[string]struct {
		owner string
		later func(name string) // before it is started
		says  string            // "" when it is started
	}{
		"mine": {me, func(string) {}, ""},
		"going": {me, func(name string) {
			image(me, name, func(tx store.Tx, i *appstream.Image) error {
				i.Enter(appstream.ImageDeleting, time.Now())
				return tx.Put(i)
			})
		}, "The image going is DELETING."},
		"gone": {me, func(name string) {
			image(me, name, func(tx store.Tx, i *appstream.Image) error {
				i.Enter(appstream.ImageDeleting, time.Now())
				return tx.Put(i)
			})
			image(me, name, func(tx store.Tx, i *appstream.Image) error { return tx.Delete(i) })
		}, "image/gone, of which one would be made, is gone"},
		"lent": {other, func(string) {}, ""},
		"revoked": {other, func(name string) {
			image(other, name, func(tx store.Tx, i *appstream.Image) error { i.Permissions = nil; return tx.Put(i) })
		}, "not shared for image builders any more"},
		"for-fleets": {other, func(name string) {
			image(other, name, func(tx store.Tx, i *appstream.Image) error {
				i.Permissions = map[string]types.ImagePermissions{me: {AllowFleet: new(true)}}
				return tx.Put(i)
			})
		}, "not shared for image builders any more"},
		"type": {me, func(name string) {
			f.edit(name, func(b *appstream.ImageBuilder) { b.View.InstanceType = new("stream.gone.small") })
		}, "The instance type stream.gone.small of the image builder type is not there any more."},
	} {
		f.addImage(test.owner, name, appstream.ImageAvailable, func(i *appstream.Image) {
			if test.owner == other {
				i.Permissions = map[string]types.ImagePermissions{me: {AllowImageBuilder: new(true)}}
			}
		})
		_, err := f.CreateImageBuilder(as(me), input(name, func(in *api.CreateImageBuilderInput) {
			in.ImageName, in.ImageArn = nil, new("arn:aws:appstream:us-west-2:"+test.owner+":image/"+name)
		}))
		f.must(err)
		test.later(name)
		for _, there := range []bool{false, true} {
			f.edit(name, func(b *appstream.ImageBuilder) { b.Provisioned = there; b.Enter(appstream.BuilderFailed, time.Now()) })
			_, err := f.StartImageBuilder(as(me), &api.StartImageBuilderInput{Name: &name})
			if there || test.says == "" {
				f.must(err)
			} else {
				refused(t, err, appstream.ResourceNotAvailable, test.says)
			}
		}
	}
}

func TestImageWithoutSupportForImageBuilders(t *testing.T) {
	f := newFixture(t)
	f.addImage(me, "fleets", appstream.ImageAvailable, func(i *appstream.Image) { i.View.ImageBuilderSupported = new(false) })
	f.addImage(me, "unsaid", appstream.ImageAvailable, func(i *appstream.Image) { i.View.ImageBuilderSupported = nil })
	for _, name := range []string{"fleets", "unsaid"} {
		_, err := f.CreateImageBuilder(as(me), input("hello", func(in *api.CreateImageBuilderInput) { in.ImageName = &name }))
		refused(t, err, appstream.OperationNotPermitted, "The image "+name+" does not support image builders.")
	}
}

// The root volume has 200 to 500 GB and never less than the image.
func TestRootVolume(t *testing.T) {
	f := newFixture(t, func(cfg *service.Config) { cfg.Quotas.ImageBuilders = 100 })
	for n, test := range []struct {
		wanted *int32
		least  int // GB of the image
		want   int32
		says   string
	}{
		{nil, 0, 200, ""}, {nil, 100, 200, ""}, {nil, 300, 300, ""},
		{new(int32(200)), 0, 200, ""}, {new(int32(500)), 0, 500, ""}, {new(int32(200)), 150, 200, ""},
		{new(int32(300)), 300, 300, ""}, {new(int32(400)), 300, 400, ""},
		{new(int32(299)), 300, 0, "is 299. It must be between 300 and 500."},
		{new(int32(199)), 0, 0, "is 199. It must be between 200 and 500."},
		{new(int32(150)), 150, 0, "is 150. It must be between 200 and 500."},
		{new(int32(501)), 0, 0, "is 501. It must be between 200 and 500."},
	} {
		name := fmt.Sprint("n", n)
		f.addImage(me, name, appstream.ImageAvailable, func(i *appstream.Image) { i.VolumeGB = test.least })
		out, err := f.CreateImageBuilder(as(me), input(name, func(in *api.CreateImageBuilderInput) {
			in.ImageName = &name
			if test.wanted != nil {
				in.RootVolumeConfig = &types.VolumeConfig{VolumeSizeInGb: test.wanted}
			}
		}))
		if test.says != "" {
			refused(t, err, appstream.InvalidParameterCombination, test.says)
		} else if f.must(err); *out.ImageBuilder.RootVolumeConfig.VolumeSizeInGb != test.want {
			t.Errorf("wanted %d of an image with %d: got %d, want %d", aws.ToInt32(test.wanted), test.least, *out.ImageBuilder.RootVolumeConfig.VolumeSizeInGb, test.want)
		}
	}
}

// A name that is taken is said to be taken, also when there is no room for another one.
func TestTakenNameAtTheQuota(t *testing.T) {
	f := newFixture(t, func(cfg *service.Config) { cfg.Quotas.ImageBuilders, cfg.Quotas.Images = 1, 1 })
	f.running("hello")
	_, err := f.CreateImageBuilder(as(me), input("hello"))
	refused(t, err, appstream.ResourceAlreadyExists, "The image builder hello already exists.")
	_, err = f.CreateImageBuilder(as(me), input("two"))
	refused(t, err, appstream.LimitExceeded, "The image builder limit for account "+me+" in us-west-2 was exceeded. Delete one that is not needed. Limit: 1")
	f.addImage(me, "mine", appstream.ImageAvailable)
	_, err = f.CreateImage(as(me), &service.CreateImageInput{ImageBuilderName: new("hello"), Name: new("mine")})
	refused(t, err, appstream.ResourceAlreadyExists, "An image with the given name already exists: mine.")
	_, err = f.CreateImage(as(me), &service.CreateImageInput{ImageBuilderName: new("hello"), Name: new("two")})
	refused(t, err, appstream.LimitExceeded, "The image limit for account "+me+" in us-west-2 was exceeded. Delete one that is not needed. Limit: 1")
	if b := f.builder(me, "hello"); b.State != appstream.BuilderRunning {
		t.Errorf("after refusals the builder is %s", b.State)
	}
}
