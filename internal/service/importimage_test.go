package service_test

import (
	"context"
	"strings"
	"testing"

	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
)

// given is archives that are there.
type given map[string]bool

func (g given) Count(context.Context, string) (int, error)       { return len(g), nil }
func (g given) Has(_ context.Context, name string) (bool, error) { return g[name], nil }

const ami = "ami-0123456789abcdef0"

func withArchive(cfg *service.Config) { cfg.Archives = given{me + "/" + ami + ".tar": true} }

func importInput(name string, edit ...func(*api.CreateImportedImageInput)) *api.CreateImportedImageInput {
	in := &api.CreateImportedImageInput{Name: &name, SourceAmiId: new(ami), IamRoleArn: new("arn:aws:iam::" + me + ":role/x")}
	for _, fn := range edit {
		fn(in)
	}
	return in
}

// adding has an import add applications of these names and paths.
func adding(pairs ...string) func(*api.CreateImportedImageInput) {
	return func(in *api.CreateImportedImageInput) {
		for n := 0; n < len(pairs); n += 2 {
			in.AppCatalogConfig = append(in.AppCatalogConfig, types.ApplicationConfig{Name: &pairs[n], AbsoluteAppPath: &pairs[n+1]})
		}
	}
}

// validated has an import be tested on a size, "" for none in particular.
func validated(size string) func(*api.CreateImportedImageInput) {
	return func(in *api.CreateImportedImageInput) {
		in.RuntimeValidationConfig = &types.RuntimeValidationConfig{IntendedInstanceType: appstream.Optional(size)}
	}
}

func TestCreateImportedImage(t *testing.T) {
	f := newFixture(t, withArchive)
	out, err := f.CreateImportedImage(as(me), importInput("plain", func(in *api.CreateImportedImageInput) {
		in.Description, in.DisplayName, in.Tags = new("of an archive"), new("Plain"), map[string]string{"stage": "test"}
	}))
	f.must(err)
	view := *out.Image
	view.CreatedTime = nil
	want := types.Image{
		Name: new("plain"), Arn: new("arn:aws:appstream:us-west-2:" + me + ":image/plain"), State: types.ImageStateValidating, Visibility: types.VisibilityTypePrivate,
		ImageSharedWithOthers: types.ImageSharedWithOthersFalse, Description: new("of an archive"), DisplayName: new("Plain"), ImageType: types.ImageTypeNative,
		ImageBuilderSupported: new(true), ManagedSoftwareIncluded: new(false), DynamicAppProvidersEnabled: types.DynamicAppProvidersEnabledDisabled,
		SupportedInstanceFamilies: []string{"General Purpose", "Compute Optimized", "Memory Optimized"},
		AppstreamAgentVersion:     new("11-21-2026"), LatestAppstreamAgentVersion: types.LatestAppstreamAgentVersionTrue,
	}
	if diff := cmp.Diff(want, view, ignoreUnexported); diff != "" {
		t.Errorf("the image (-want +got):\n%s", diff)
	}
	image := f.imageIn(me, "us-west-2", "plain")
	if image.Archive != me+"/"+ami+".tar" || image.ManagedBy != "" || image.LoadedRef != "" || image.Due.IsZero() || image.Deadline.IsZero() || image.Tags["stage"] != "test" {
		t.Errorf("its record: %+v", image)
	}
	if list := f.ownBuilders(me); len(list) > 0 {
		t.Errorf("there is nothing to do, but %d image builders", len(list))
	}
}

// An import with something to do or to test has a builder.
func TestBuildersOfImports(t *testing.T) {
	for name, test := range map[string]struct {
		edit   []func(*api.CreateImportedImageInput)
		kind   types.ImageType
		size   string
		steps  int
		loaded bool
	}{
		"validated":         {[]func(*api.CreateImportedImageInput){validated("stream.memory.large")}, types.ImageTypeNative, "stream.memory.large", 0, false},
		"validated anyhow":  {[]func(*api.CreateImportedImageInput){validated("")}, types.ImageTypeNative, "stream.standard.small", 0, false},
		"with a catalogue":  {[]func(*api.CreateImportedImageInput){adding("a", "/a", "b", "/b")}, types.ImageTypeCustom, "stream.standard.small", 2, true},
		"with everything":   {[]func(*api.CreateImportedImageInput){adding("a", "/a"), validated("stream.compute.large")}, types.ImageTypeCustom, "stream.compute.large", 1, true},
		"with an empty one": {[]func(*api.CreateImportedImageInput){func(in *api.CreateImportedImageInput) { in.AppCatalogConfig = []types.ApplicationConfig{} }, validated("")}, types.ImageTypeNative, "stream.standard.small", 0, false},
		"following the newest": {[]func(*api.CreateImportedImageInput){validated(""), func(in *api.CreateImportedImageInput) {
			in.AgentSoftwareVersion = types.AgentSoftwareVersionAlwaysLatest
		}}, types.ImageTypeNative, "stream.standard.small", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, withArchive)
			out, err := f.CreateImportedImage(as(me), importInput("new", test.edit...))
			f.must(err)
			agent := "11-21-2026"
			if name == "following the newest" {
				agent = "LATEST"
			}
			if out.Image.ImageType != test.kind || *out.Image.AppstreamAgentVersion != agent {
				t.Errorf("the image is %s, with the agent %s", out.Image.ImageType, *out.Image.AppstreamAgentVersion)
			}
			builders, image := f.ownBuilders(me), f.imageIn(me, "us-west-2", "new")
			if len(builders) != 1 {
				t.Fatalf("%d image builders", len(builders))
			}
			b := builders[0]
			if b.State != appstream.BuilderPendingImageImport || *b.View.InstanceType != test.size || len(b.Making.Work) != test.steps || !b.Making.Reads || *b.View.AppstreamAgentVersion != "11-21-2026" {
				t.Errorf("the builder is %+v, %+v", b.View, b.Making)
			}
			if b.ID != image.BuilderID || b.Name != image.ManagedBy || b.ImageRef != image.Awaited() || (image.LoadedRef != "") != test.loaded {
				t.Errorf("the builder works on %s for %+v", b.ImageRef, image)
			}
		})
	}
}

func TestCreateImportedImageIsRefused(t *testing.T) {
	f := newFixture(t, withArchive)
	f.addImage(me, "taken", appstream.ImageAvailable)
	for name, test := range map[string]struct {
		in   *api.CreateImportedImageInput
		kind appstream.Kind
		says string
	}{
		"a reserved name":             {importInput("amazon-1"), appstream.Validation, "begins with amazon, which is reserved"},
		"a name that is":              {importInput("taken"), appstream.ResourceAlreadyExists, "An image with the given name already exists: taken."},
		"a public name":               {importInput("base"), appstream.ResourceAlreadyExists, "base is a public image."},
		"no source":                   {importInput("new", func(in *api.CreateImportedImageInput) { in.SourceAmiId = nil }), appstream.InvalidParameterCombination, "Specify SourceAmiId"},
		"two sources":                 {importInput("new", func(in *api.CreateImportedImageInput) { in.WorkspaceImageId = new("wsi-12345678") }), appstream.InvalidParameterCombination, "Specify SourceAmiId"},
		"a WorkSpace":                 {importInput("new", func(in *api.CreateImportedImageInput) { in.SourceAmiId, in.WorkspaceImageId = nil, new("wsi-12345678") }), appstream.OperationNotPermitted, "The WorkSpaces image wsi-12345678 cannot be imported: there are no WorkSpaces here."},
		"another's role":              {importInput("new", func(in *api.CreateImportedImageInput) { in.IamRoleArn = new("arn:aws:iam::" + other + ":role/x") }), appstream.InvalidRole, "must be a role of the account " + me},
		"no such archive":             {importInput("new", func(in *api.CreateImportedImageInput) { in.SourceAmiId = new("ami-12345678") }), appstream.ResourceNotFound, "The AMI ami-12345678 for account " + me + " does not exist: there is no archive " + me + "/ami-12345678.tar."},
		"no such size":                {importInput("new", validated("huge")), appstream.InvalidParameterCombination, "The instance type huge is not known."},
		"another family":              {importInput("new", validated("stream.graphics.g4dn.xlarge")), appstream.InvalidParameterCombination, "instance type stream.graphics.g4dn.xlarge and image instance family General Purpose"},
		"an application's name twice": {importInput("new", adding("secret", "/a", "secret", "/b")), appstream.InvalidParameterCombination, "AppCatalogConfig[1].Name is that of another"},
		"a relative path":             {importInput("new", adding("a", "secret")), appstream.InvalidParameterCombination, "AppCatalogConfig[0].AbsoluteAppPath is not a path of Linux"},
		"a path of Windows":           {importInput("new", adding("a", `C:\secret.exe`)), appstream.InvalidParameterCombination, "AppCatalogConfig[0].AbsoluteAppPath is not a path of Linux"},
		"an empty path":               {importInput("new", adding("a", "")), appstream.InvalidParameterCombination, "AppCatalogConfig[0].AbsoluteAppPath is empty"},
		"a path too long":             {importInput("new", adding("a", "/"+strings.Repeat("secret", 1000))), appstream.InvalidParameterCombination, "at most 4095 bytes"},
		"a path of two lines":         {importInput("new", adding("a", "/secret\nrm")), appstream.InvalidParameterCombination, "no control characters"},
		"a manifest":                  {importInput("new", adding("a", "/a"), func(in *api.CreateImportedImageInput) { in.AppCatalogConfig[0].AbsoluteManifestPath = new("secret") }), appstream.InvalidParameterCombination, "AppCatalogConfig[0].AbsoluteManifestPath"},
		"an icon":                     {importInput("new", adding("a", "/a"), func(in *api.CreateImportedImageInput) { in.AppCatalogConfig[0].AbsoluteIconPath = new("secret") }), appstream.InvalidParameterCombination, "AppCatalogConfig[0].AbsoluteIconPath"},
		"a directory":                 {importInput("new", adding("a", "/a"), func(in *api.CreateImportedImageInput) { in.AppCatalogConfig[0].WorkingDirectory = new("secret") }), appstream.InvalidParameterCombination, "AppCatalogConfig[0].WorkingDirectory"},
		"long in a shell": {importInput("new", adding("a", "/"+strings.Repeat("'", 4094)), func(in *api.CreateImportedImageInput) {
			app := &in.AppCatalogConfig[0]
			app.AbsoluteIconPath, app.AbsoluteManifestPath, app.WorkingDirectory = app.AbsoluteAppPath, app.AbsoluteAppPath, app.AbsoluteAppPath
		}), appstream.InvalidParameterCombination, "AppCatalogConfig[0] is too long"},
		"parameters in lines": {importInput("new", adding("a", "/a"), func(in *api.CreateImportedImageInput) { in.AppCatalogConfig[0].LaunchParameters = new("secret\n") }), appstream.InvalidParameterCombination, "AppCatalogConfig[0].LaunchParameters"},
	} {
		for _, dry := range []bool{false, true} {
			test.in.DryRun = &dry
			_, err := f.CreateImportedImage(as(me), test.in)
			if refused(t, err, test.kind, test.says); err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: the refusal tells what is sensitive: %v", name, err)
			}
		}
	}
	_, err := f.CreateImportedImage(as(other), importInput("new", func(in *api.CreateImportedImageInput) { in.IamRoleArn = nil }))
	refused(t, err, appstream.ResourceNotFound, "The AMI "+ami+" for account "+other+" does not exist")
	full := newFixture(t, withArchive, func(cfg *service.Config) { cfg.Quotas.Images = 1 })
	full.addImage(me, "mine", appstream.ImageAvailable)
	_, err = full.CreateImportedImage(as(me), importInput("new"))
	refused(t, err, appstream.LimitExceeded, "The image limit for account "+me+" in us-west-2 was exceeded. Delete one that is not needed. Limit: 1")
	_, err = newFixture(t).CreateImportedImage(as(me), importInput("new"))
	refused(t, err, appstream.OperationNotPermitted, "This server has no place for archives")
	if list := f.ownBuilders(me); len(list) > 0 {
		t.Errorf("refused calls have left %d image builders", len(list))
	}
}

// A dry run of what would succeed says so, and makes nothing.
func TestDryRunOfAnImport(t *testing.T) {
	f := newFixture(t, withArchive)
	_, err := f.CreateImportedImage(as(me), importInput("new", adding("a", "/secret"), func(in *api.CreateImportedImageInput) { in.DryRun = new(true) }))
	refused(t, err, appstream.DryRunOperation, "The image new could be imported")
	_, err = f.DescribeImages(as(me), &api.DescribeImagesInput{Names: []string{"new"}})
	refused(t, err, appstream.ResourceNotFound, "The image new")
	if list := f.ownBuilders(me); len(list) > 0 {
		t.Errorf("the dry run has left %d image builders", len(list))
	}
	f.must(f.store.View(t.Context(), func(tx store.Tx) error {
		lines, err := tx.Audits(store.LogQuery{Limit: 10})
		if err == nil && (len(lines) != 1 || lines[0].Operation != "appstream:CreateImportedImage" || lines[0].Result != "DryRun") {
			t.Errorf("audit = %+v", lines)
		}
		return err
	}))
}

// An import can be given up while it is checked, loaded or tested.
func TestDeleteOfAnImport(t *testing.T) {
	f := newFixture(t, withArchive)
	_, err := f.CreateImportedImage(as(me), importInput("new", adding("a", "/a")))
	f.must(err)
	_, err = f.UpdateImagePermissions(as(me), &api.UpdateImagePermissionsInput{Name: new("new"), SharedAccountId: new(other), ImagePermissions: &types.ImagePermissions{}})
	refused(t, err, appstream.ResourceNotAvailable, "The image new is VALIDATING.")
	out, err := f.DeleteImage(as(me), &api.DeleteImageInput{Name: new("new")})
	f.must(err)
	if out.Image.State != types.ImageStateDeleting {
		t.Errorf("after DeleteImage: %s", out.Image.State)
	}
}
