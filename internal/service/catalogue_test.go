package service_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
)

// withAgent gives every machine an agent whose catalogue is a text in the form of agentapi; "" for an agent that does not answer. asked
// has the IDs of the machines whose agents were asked.
func withAgent(t *testing.T, catalogue string, asked *[]string) func(*service.Config) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), agentapi.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/applications", func(w http.ResponseWriter, r *http.Request) {
		if catalogue == "" {
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, `{"applications":[`+catalogue+`]}`)
	})
	server := &http.Server{Handler: mux}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return func(cfg *service.Config) {
		cfg.Agents = func(id string) *agentapi.Client {
			*asked = append(*asked, id)
			return agentapi.NewClient(agentapi.DialSocket(l.Addr().String()))
		}
	}
}

// iconPNG is a picture of one pixel, and icon the name of its blob.
const (
	iconPNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
	icon    = "497790947d4666760ce38f3c00e852c71fdb66cae849bae8e9ede352719e1581.png"
)

const twoApplications = `
	{"name":"calc","displayName":"Calculator","absoluteAppPath":"/usr/bin/calc","launchParameters":"-v","workingDirectory":"/tmp","iconPng":"` + iconPNG + `","manifest":["/usr/bin/calc"]},
	{"name":"edit","absoluteAppPath":"/usr/bin/edit"}`

var ignoreUnexported = cmpopts.IgnoreUnexported(types.Image{}, types.Application{})

// What the Image Assistant keeps on the builder is the catalogue of its image; the rest comes from the builder and its own image.
func TestCatalogueReachesTheImage(t *testing.T) {
	var asked []string
	f := newFixture(t, withAgent(t, twoApplications, &asked))
	released := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f.addImage("", "new-base", appstream.ImageAvailable, func(i *appstream.Image) { i.View.PublicBaseImageReleasedDate = &released })
	_, err := f.CreateImageBuilder(as(me), input("hello", func(in *api.CreateImageBuilderInput) {
		in.ImageName, in.AppstreamAgentVersion = new("new-base"), new("01-01-2026")
		in.RootVolumeConfig = &types.VolumeConfig{VolumeSizeInGb: new(int32(250))}
	}))
	f.must(err)
	f.setState("hello", "RUNNING")

	in := &service.CreateImageInput{ImageBuilderName: new("hello"), Name: new("img"), DisplayName: new("Image"), Description: new("all in it"),
		Tags: map[string]string{"k": "v"}, DryRun: new(true)}
	want := types.Image{
		Name: new("img"), Arn: new("arn:aws:appstream:us-west-2:" + me + ":image/img"), State: types.ImageStatePending, Visibility: types.VisibilityTypePrivate,
		DisplayName: new("Image"), Description: new("all in it"), Platform: "DEBIAN_12", ImageType: types.ImageTypeNative,
		BaseImageArn: new("arn:aws:appstream:us-west-2::image/new-base"), ImageBuilderName: new("hello"), ImageBuilderSupported: new(true),
		AppstreamAgentVersion: new("01-01-2026"), LatestAppstreamAgentVersion: types.LatestAppstreamAgentVersionFalse,
		DynamicAppProvidersEnabled: types.DynamicAppProvidersEnabledDisabled, ManagedSoftwareIncluded: new(false), ImageSharedWithOthers: types.ImageSharedWithOthersFalse,
		PublicBaseImageReleasedDate: &released, SupportedInstanceFamilies: []string{"General Purpose"},
		Applications: []types.Application{
			{Name: new("calc"), DisplayName: new("Calculator"), LaunchPath: new("/usr/bin/calc"), LaunchParameters: new("-v"), WorkingDirectory: new("/tmp"),
				Enabled: new(true), Platforms: []types.PlatformType{"DEBIAN_12"}, Metadata: map[string]string{}},
			{Name: new("edit"), LaunchPath: new("/usr/bin/edit"), Enabled: new(true), Platforms: []types.PlatformType{"DEBIAN_12"}, Metadata: map[string]string{}},
		},
	}
	check := func(what string, got types.Image) {
		t.Helper()
		if got.CreatedTime == nil || time.Since(*got.CreatedTime) > time.Minute {
			t.Errorf("%s: CreatedTime = %v", what, got.CreatedTime)
		}
		got.CreatedTime = nil
		if diff := cmp.Diff(want, got, ignoreUnexported); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	out, err := f.CreateImage(as(me), in)
	f.must(err)
	check("dry run", *out.Image)
	if _, err := f.cfg.Blobs.Get(icon); err == nil {
		t.Error("the dry run kept an icon")
	}

	in.DryRun, in.EnableDynamicAppCatalog = nil, new(true)
	want.DynamicAppProvidersEnabled = types.DynamicAppProvidersEnabledEnabled
	want.Applications[0].IconURL = new("https://oriel.test/icons/" + icon)
	out, err = f.CreateImage(as(me), in)
	f.must(err)
	check("answer", *out.Image)
	images, err := f.DescribeImages(as(me), &api.DescribeImagesInput{Names: []string{"img"}})
	f.must(err)
	check("DescribeImages", images.Images[0])
	if data, err := f.cfg.Blobs.Get(icon); err != nil || base64.StdEncoding.EncodeToString(data) != iconPNG {
		t.Errorf("the icon is %q, %v", data, err)
	}
	tags, err := f.ListTagsForResource(as(me), &api.ListTagsForResourceInput{ResourceArn: want.Arn})
	f.must(err)
	if diff := cmp.Diff(in.Tags, tags.Tags); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
	b := f.builder(me, "hello")
	if diff := cmp.Diff([]string{b.ID, b.ID}, asked); diff != "" {
		t.Errorf("agents that were asked (-want +got):\n%s", diff)
	}
	if b.State != appstream.BuilderSnapshotting || b.Capturing != "img" || b.CapturingID == "" {
		t.Errorf("the builder is %s, capturing %q %q", b.State, b.Capturing, b.CapturingID)
	}
	var record appstream.Image
	f.must(f.store.View(t.Context(), func(tx store.Tx) error { return tx.Find(b.CapturingID, &record) }))
	if record.Name != "img" || record.BuilderID != b.ID || record.Ref != "oriel/image:"+record.ID || record.Due.IsZero() || record.Deadline.IsZero() {
		t.Errorf("what the engine gets: %q of builder %q as %q, due %v, deadline %v", record.Name, record.BuilderID, record.Ref, record.Due, record.Deadline)
	}
	// A builder of this image has a volume that its disk fits into.
	f.available("img")
	again, err := f.CreateImageBuilder(as(me), input("again", func(in *api.CreateImageBuilderInput) { in.ImageName = new("img") }))
	f.must(err)
	if gb := *again.ImageBuilder.RootVolumeConfig.VolumeSizeInGb; gb != 250 {
		t.Errorf("a builder of the image has %d GB, want 250", gb)
	}
}

// Applications of the request take the place of those on the builder, an empty list included.
func TestCatalogueOfTheRequest(t *testing.T) {
	for _, apps := range [][]types.Application{{}, {{Name: new("own"), LaunchPath: new("/own")}}} {
		var asked []string
		f := newFixture(t, withAgent(t, twoApplications, &asked))
		f.running("hello")
		out, err := f.CreateImage(as(me), &service.CreateImageInput{ImageBuilderName: new("hello"), Name: new("img"), Applications: apps})
		f.must(err)
		if diff := cmp.Diff(apps, out.Image.Applications, ignoreUnexported); diff != "" || len(asked) != 0 {
			t.Errorf("agents %v were asked; (-want +got):\n%s", asked, diff)
		}
	}
}

// Whoever is root on a machine can have its agent say anything: what is no catalogue comes into no image, and what is no icon is not kept.
func TestCatalogueIsNotBelieved(t *testing.T) {
	many := strings.Repeat(`{"name":"x","absoluteAppPath":"/x"},`, 51)
	for name, c := range map[string]struct{ catalogue, says string }{
		"too many":      {many[:len(many)-1], "51 applications"},
		"no name":       {`{"absoluteAppPath":"/x"}`, "Name and LaunchPath are required"},
		"no path":       {`{"name":"x"}`, "Name and LaunchPath are required"},
		"twice":         {`{"name":"x","absoluteAppPath":"/x"},{"name":"x","absoluteAppPath":"/y"}`, "another application named x"},
		"a long name":   {`{"name":"` + strings.Repeat("x", 257) + `","absoluteAppPath":"/x"}`, "Name is longer than 256"},
		"a long path":   {`{"name":"x","absoluteAppPath":"/` + strings.Repeat("x", 1<<20) + `"}`, "LaunchPath is longer than 4096"},
		"a NUL":         {`{"name":"a\u0000b","absoluteAppPath":"/x"}`, "Name has control characters"},
		"a line feed":   {`{"name":"x","absoluteAppPath":"/x","launchParameters":"a\nb"}`, "LaunchParameters has control characters"},
		"no icon":       {`{"name":"x","absoluteAppPath":"/x","iconPng":"PHN2Zz4="}`, ""},
		"a large thing": {`{"name":"x","absoluteAppPath":"/x","iconPng":"` + strings.Repeat("A", 8<<20) + `"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			f := newFixture(t, withAgent(t, c.catalogue, &asked))
			f.running("hello")
			out, err := f.CreateImage(as(me), &service.CreateImageInput{ImageBuilderName: new("hello"), Name: new("img")})
			if c.says != "" {
				refused(t, err, appstream.OperationNotPermitted, c.says)
				if _, err = f.ReadCatalogue(as(me), f.builder(me, "hello").ID, "DEBIAN_12"); err == nil {
					t.Error("the engine takes it")
				}
				return
			}
			f.must(err)
			if url := out.Image.Applications[0].IconURL; url != nil {
				t.Errorf("it has the icon %s", *url)
			}
		})
	}
}

func TestCatalogueOfASilentAgent(t *testing.T) {
	var asked []string
	f := newFixture(t, withAgent(t, "", &asked))
	f.running("hello")
	_, err := f.CreateImage(as(me), &service.CreateImageInput{ImageBuilderName: new("hello"), Name: new("img")})
	refused(t, err, appstream.Unavailable, "The agent of the image builder hello does not answer. Try again, or restart the image builder.")
	if _, err := f.DescribeImages(as(me), &api.DescribeImagesInput{Names: []string{"img"}}); appstream.KindOf(err) != appstream.ResourceNotFound {
		t.Errorf("an image is left: %v", err)
	}
	f.setState("hello", "STOPPING")
	_, err = f.CreateImage(as(me), &service.CreateImageInput{ImageBuilderName: new("hello"), Name: new("img")})
	refused(t, err, appstream.OperationNotPermitted, "hello is STOPPING")
	_, err = f.CreateImage(as(me), &service.CreateImageInput{ImageBuilderName: new("nope"), Name: new("img")})
	refused(t, err, appstream.ResourceNotFound, "nope")
	if len(asked) != 1 {
		t.Errorf("%d agents were asked, want that of the running builder", len(asked))
	}
}

// Without a number, an account has ten images in a region; those of other accounts do not count.
func TestImageQuota(t *testing.T) {
	f := newFixture(t)
	f.running("hello")
	for n := range 9 {
		f.addImage(me, fmt.Sprint("i", n), appstream.ImageAvailable)
		f.addImage(other, fmt.Sprint("i", n), appstream.ImageAvailable)
	}
	_, err := f.CreateImage(as(me), &service.CreateImageInput{ImageBuilderName: new("hello"), Name: new("i9")})
	f.must(err)
	f.running("two")
	_, err = f.CreateImage(as(me), &service.CreateImageInput{ImageBuilderName: new("two"), Name: new("i10")})
	refused(t, err, appstream.LimitExceeded, "Limit: 10")

	f = newFixture(t, func(cfg *service.Config) { cfg.Quotas.Images = 1 })
	f.running("hello")
	f.addImage(me, "mine", appstream.ImageAvailable)
	_, err = f.CreateImage(as(me), &service.CreateImageInput{ImageBuilderName: new("hello"), Name: new("img"), DryRun: new(true)})
	refused(t, err, appstream.LimitExceeded, "Limit: 1")
}

// Each member of CreateImage at its limit, and one beyond.
func TestLimitsOfCreateImage(t *testing.T) {
	f := newFixture(t)
	f.running("hello")
	long := func(n int) *string { return new(strings.Repeat("é", n)) } // limits count characters
	app := func(edit func(*types.Application)) func(*service.CreateImageInput) {
		return func(in *service.CreateImageInput) {
			a := types.Application{Name: new("calc"), LaunchPath: new("/usr/bin/calc")}
			edit(&a)
			in.Applications = []types.Application{a}
		}
	}
	apps := func(n int, name string) func(*service.CreateImageInput) {
		return func(in *service.CreateImageInput) {
			for k := range n {
				in.Applications = append(in.Applications, types.Application{Name: new(strings.ReplaceAll(name, "#", fmt.Sprint(k))), LaunchPath: new("/x")})
			}
		}
	}
	metadata := func(n int) func(*types.Application) {
		return func(a *types.Application) {
			a.Metadata = map[string]string{}
			for k := range n {
				a.Metadata[fmt.Sprint("k", k)] = "v"
			}
		}
	}
	const ok, invalid, limit = appstream.Kind(""), appstream.Validation, appstream.LimitExceeded
	for _, test := range []struct {
		edit func(*service.CreateImageInput)
		kind appstream.Kind
		says string
	}{
		{func(in *service.CreateImageInput) { in.ImageBuilderName = nil }, invalid, "ImageBuilderName is missing"},
		{func(in *service.CreateImageInput) { in.Name = nil }, invalid, `The image name "" is not valid`},
		{func(in *service.CreateImageInput) { in.Name = new("a b") }, invalid, `The image name "a b" is not valid`},
		{func(in *service.CreateImageInput) { in.Name = new("-a") }, invalid, `The image name "-a" is not valid`},
		{func(in *service.CreateImageInput) { in.Name = new("A_z.9-") }, ok, ""},
		{func(in *service.CreateImageInput) { in.Name = new(strings.Repeat("a", 100)) }, ok, ""},
		{func(in *service.CreateImageInput) { in.Name = new(strings.Repeat("a", 101)) }, invalid, "is not valid"},
		{func(in *service.CreateImageInput) { in.Name = new("aws-image") }, invalid, "begins with aws, which is reserved"},
		{func(in *service.CreateImageInput) { in.Name = new("AppStreamImage") }, invalid, "begins with appstream, which is reserved"},
		{func(in *service.CreateImageInput) { in.Name = new("my-aws") }, ok, ""},
		{func(in *service.CreateImageInput) { in.DisplayName = long(256) }, ok, ""},
		{func(in *service.CreateImageInput) { in.DisplayName = long(257) }, invalid, "DisplayName is longer than 256 characters."},
		{func(in *service.CreateImageInput) { in.Description = long(256) }, ok, ""},
		{func(in *service.CreateImageInput) { in.Description = long(257) }, invalid, "Description is longer than 256 characters."},
		{apps(50, "app#"), ok, ""},
		{apps(51, "app#"), limit, "Applications has 51 applications. Limit: 50"},
		{apps(2, "app"), invalid, "Applications[1]: there is another application named app."},
		{app(func(a *types.Application) { a.Name = nil }), invalid, "Applications[0]: Name and LaunchPath are required"},
		{app(func(a *types.Application) { a.LaunchPath = nil }), invalid, "Applications[0]: Name and LaunchPath are required"},
		{app(func(a *types.Application) { a.Name = long(256) }), ok, ""},
		{app(func(a *types.Application) { a.Name = long(257) }), invalid, "Applications[0]: Name is longer than 256 characters"},
		{app(func(a *types.Application) { a.DisplayName = long(256) }), ok, ""},
		{app(func(a *types.Application) { a.DisplayName = long(257) }), invalid, "DisplayName is longer than 256 characters"},
		{app(func(a *types.Application) { a.Description = long(256) }), ok, ""},
		{app(func(a *types.Application) { a.Description = long(257) }), invalid, "Description is longer than 256 characters"},
		{app(func(a *types.Application) { a.LaunchPath = long(4096) }), ok, ""},
		{app(func(a *types.Application) { a.LaunchPath = long(4097) }), invalid, "LaunchPath is longer than 4096 characters"},
		{app(func(a *types.Application) { a.LaunchParameters = long(1024) }), ok, ""},
		{app(func(a *types.Application) { a.LaunchParameters = long(1025) }), invalid, "LaunchParameters is longer than 1024 characters"},
		{app(func(a *types.Application) { a.WorkingDirectory = long(4096) }), ok, ""},
		{app(func(a *types.Application) { a.WorkingDirectory = long(4097) }), invalid, "WorkingDirectory is longer than 4096 characters"},
		{app(func(a *types.Application) { a.IconURL = new("x") }), invalid, "must be absent"},
		{app(func(a *types.Application) { a.Arn = new("x") }), invalid, "must be absent"},
		{app(func(a *types.Application) { a.AppBlockArn = new("x") }), invalid, "must be absent"},
		{app(func(a *types.Application) { a.IconS3Location = &types.S3Location{} }), invalid, "IconS3Location"},
		{app(metadata(50)), ok, ""},
		{app(metadata(51)), invalid, "50 entries of Metadata"},
		{app(func(a *types.Application) {
			a.Metadata = map[string]string{strings.Repeat("k", 128): strings.Repeat("v", 256)}
		}), ok, ""},
		{app(func(a *types.Application) { a.Metadata = map[string]string{strings.Repeat("k", 129): ""} }), invalid, "a key of Metadata"},
		{app(func(a *types.Application) { a.Metadata = map[string]string{"k": strings.Repeat("v", 257)} }), invalid, "a key of Metadata"},
		{app(func(a *types.Application) { a.Platforms = make([]types.PlatformType, 4) }), ok, ""},
		{app(func(a *types.Application) { a.Platforms = make([]types.PlatformType, 5) }), invalid, "4 of Platforms"},
		{app(func(a *types.Application) { a.InstanceFamilies = make([]string, 10) }), ok, ""},
		{app(func(a *types.Application) { a.InstanceFamilies = make([]string, 11) }), invalid, "10 of InstanceFamilies"},
	} {
		in := &service.CreateImageInput{ImageBuilderName: new("hello"), Name: new("img"), DryRun: new(true)}
		test.edit(in)
		_, err := f.CreateImage(as(me), in)
		if test.kind == ok {
			if err != nil {
				t.Errorf("%.200q: %v", fmt.Sprintf("%+v", *in), err)
			}
			continue
		}
		refused(t, err, test.kind, test.says)
	}
}

// Whoever deletes an image makes the engine look at its builder: it may be SNAPSHOTTING for it.
func TestDeleteImageWakesItsBuilder(t *testing.T) {
	f := newFixture(t)
	f.running("hello")
	f.running("two")
	_, err := f.CreateImage(as(me), &service.CreateImageInput{ImageBuilderName: new("hello"), Name: new("img")})
	f.must(err)
	f.addImage(me, "imported", appstream.ImageAvailable)
	for _, name := range []string{"hello", "two"} {
		f.edit(name, func(b *appstream.ImageBuilder) { b.Due = time.Time{} })
	}
	_, err = f.DeleteImage(as(me), &api.DeleteImageInput{Name: new("imported")})
	f.must(err)
	if due := f.builder(me, "hello").Due; !due.IsZero() {
		t.Errorf("an image of no builder woke one: due %v", due)
	}
	out, err := f.DeleteImage(as(me), &api.DeleteImageInput{Name: new("img")})
	f.must(err)
	if out.Image.State != types.ImageStateDeleting {
		t.Errorf("the image is %s", out.Image.State)
	}
	if due := f.builder(me, "hello").Due; due.IsZero() || time.Until(due) > 0 {
		t.Errorf("the builder is due at %v, want now", due)
	}
	if due := f.builder(me, "two").Due; !due.IsZero() {
		t.Errorf("another builder is due at %v", due)
	}
	_, err = f.DeleteImage(as(me), &api.DeleteImageInput{Name: new("img")})
	refused(t, err, appstream.OperationNotPermitted, "The image img is being deleted already.")
}

// An image is kept while a machine is being made of it. Its owner hears by which builder, unless it is another account's.
func TestDeleteImageInUse(t *testing.T) {
	for _, account := range []string{me, other} {
		f := newFixture(t)
		f.addImage(me, "mine", appstream.ImageAvailable)
		_, err := f.UpdateImagePermissions(as(me), &api.UpdateImagePermissionsInput{Name: new("mine"), SharedAccountId: new(other),
			ImagePermissions: &types.ImagePermissions{AllowImageBuilder: new(true)}})
		f.must(err)
		out, err := f.CreateImageBuilder(as(account), input("secret-plans", func(in *api.CreateImageBuilderInput) {
			in.ImageName, in.ImageArn = nil, new("arn:aws:appstream:us-west-2:"+me+":image/mine")
		}))
		f.must(err)
		_, err = f.DeleteImagePermissions(as(me), &api.DeleteImagePermissionsInput{Name: new("mine"), SharedAccountId: new(other)})
		f.must(err)
		_, err = f.DeleteImage(as(me), &api.DeleteImageInput{Name: new("mine")})
		if account == me {
			refused(t, err, appstream.ResourceInUse, "by the image builder "+aws.ToString(out.ImageBuilder.Name)+",")
			f.edit("secret-plans", func(b *appstream.ImageBuilder) { b.Provisioned = true }) // its machine has a disk of its own now
			_, err = f.DeleteImage(as(me), &api.DeleteImageInput{Name: new("mine")})
			f.must(err)
			continue
		}
		refused(t, err, appstream.ResourceInUse, "by an image builder of another account,")
		if strings.Contains(err.Error(), "secret-plans") || strings.Contains(err.Error(), other) {
			t.Errorf("the refusal tells about another account: %v", err)
		}
	}
}
