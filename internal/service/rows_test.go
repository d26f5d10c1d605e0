package service_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/service"
)

// The rows of TestOperations, by noun. What an answer looks like in detail is in the tests beside each noun; here is what it is.

const (
	baseARN   = "arn:aws:appstream:us-west-2::image/base"
	arnPrefix = "arn:aws:appstream:us-west-2:" + me + ":"
	theirRole = "arn:aws:iam::" + other + ":role/x"
)

func quota(set func(*service.Quotas)) func(*service.Config) {
	return func(c *service.Config) { set(&c.Quotas) }
}

// images makes images of the caller's: mine, another's that is lent for nothing, and one that is being made.
func images(f *fixture) {
	f.addImage(me, "mine", appstream.ImageAvailable)
	f.addImage(me, "unfinished", appstream.ImagePending)
	f.addImage(other, "lent", appstream.ImageAvailable, func(i *appstream.Image) { i.Permissions = map[string]types.ImagePermissions{me: {}} })
}

const lentARN = "arn:aws:appstream:us-west-2:" + other + ":image/lent"

// edited gives an input, changed.
func edited[T any](in *T, fn func(*T)) *T {
	fn(in)
	return in
}

// state checks one member of an answer.
func state[T any](get func(T) any, want any) func(*testing.T, *fixture, any) {
	return func(t *testing.T, _ *fixture, out any) {
		t.Helper()
		if got := get(out.(T)); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("it is %v, not %v", got, want)
		}
	}
}

// lists checks the names of what an answer lists, and whether there is another page.
func lists[T any](names func(T) []*string, token func(T) *string, want string, more bool) func(*testing.T, *fixture, any) {
	return func(t *testing.T, _ *fixture, out any) {
		t.Helper()
		var got []string
		for _, name := range names(out.(T)) {
			got = append(got, *name)
		}
		if strings.Join(got, " ") != want || (token(out.(T)) != nil) != more {
			t.Errorf("it lists %v, NextToken %v; want %s, %v", got, token(out.(T)), want, more)
		}
	}
}

func builderRows() []row {
	create := func(fn func(*api.CreateImageBuilderInput)) *api.CreateImageBuilderInput { return input("new", fn) }
	runs := func(f *fixture) { f.running("b") }
	pending := func(f *fixture) { _, err := f.CreateImageBuilder(as(me), input("b")); f.must(err) }
	three := func(f *fixture) {
		for _, name := range []string{"a", "b", "c"} {
			_, err := f.CreateImageBuilder(as(me), input(name))
			f.must(err)
		}
	}
	described := func(out *api.DescribeImageBuildersOutput) (names []*string) {
		for _, b := range out.ImageBuilders {
			names = append(names, b.Name)
		}
		return names
	}
	token := func(out *api.DescribeImageBuildersOutput) *string { return out.NextToken }
	describe := func(names ...string) *api.DescribeImageBuildersInput {
		return &api.DescribeImageBuildersInput{Names: names}
	}
	return []row{
		{name: "success", in: input("new"), then: state(func(out *api.CreateImageBuilderOutput) any { return out.ImageBuilder.State }, "PENDING")},
		{name: "neither image", in: create(func(in *api.CreateImageBuilderInput) { in.ImageName = nil }), want: appstream.InvalidParameterCombination, says: "exactly one"},
		{name: "type", in: create(func(in *api.CreateImageBuilderInput) { in.InstanceType = new("stream.huge.small") }), want: appstream.InvalidParameterCombination, says: "stream.huge"},
		{name: "family", in: create(func(in *api.CreateImageBuilderInput) { in.InstanceType = new("stream.graphics.g5.xlarge") }), want: appstream.InvalidParameterCombination,
			says: "The combination of instance type stream.graphics.g5.xlarge and image instance family General Purpose is not supported."},
		{name: "role", in: create(func(in *api.CreateImageBuilderInput) { in.IamRoleArn = new(theirRole) }), want: appstream.InvalidRole, says: "encountered an error because your IAM role"},
		{name: "quota", given: pending, setup: quota(func(q *service.Quotas) { q.ImageBuilders = 1 }), in: input("new"), want: appstream.LimitExceeded, says: "Limit: 1"},
		{name: "AppStream's quota", given: func(f *fixture) {
			for n := range 10 {
				_, err := f.CreateImageBuilder(as(me), input(fmt.Sprint("b", n)))
				f.must(err)
			}
		}, in: input("new"), want: appstream.LimitExceeded, says: "Limit: 10"},
		{name: "permission", given: images, in: create(func(in *api.CreateImageBuilderInput) { in.ImageName, in.ImageArn = nil, new(lentARN) }), want: appstream.OperationNotPermitted, says: "allowImageBuilder"},
		{name: "taken", given: pending, in: input("b"), want: appstream.ResourceAlreadyExists, says: "b already exists"},
		{name: "deprecated image", in: create(func(in *api.CreateImageBuilderInput) { in.ImageName = new("old") }), want: appstream.ResourceNotAvailable, says: "old is DEPRECATED"},
		{name: "no image", in: create(func(in *api.CreateImageBuilderInput) { in.ImageName = new("nope") }), want: appstream.ResourceNotFound, says: "The image nope for account " + me + " does not exist."},
		{name: "name", in: create(func(in *api.CreateImageBuilderInput) { in.Name = new("a b") }), want: appstream.Validation, says: "Value 'a b' at 'name'"},
		{name: "tags", in: create(func(in *api.CreateImageBuilderInput) { in.Tags = manyTags(51) }), want: appstream.Validation, says: "less than or equal to 50"},

		{name: "success", given: three, in: describe("c", "a"), then: lists(described, token, "a c", false)},
		{name: "all", given: three, in: describe(), then: lists(described, token, "a b c", false)},
		{name: "a page", given: three, in: &api.DescribeImageBuildersInput{MaxResults: new(int32(2))}, then: lists(described, token, "a b", true)},
		{name: "the next page", given: three, in: &api.DescribeImageBuildersInput{MaxResults: new(int32(2))}, with: func(f *fixture, in any) {
			out, err := f.DescribeImageBuilders(as(me), &api.DescribeImageBuildersInput{MaxResults: new(int32(1))})
			f.must(err)
			in.(*api.DescribeImageBuildersInput).NextToken = out.NextToken
		}, then: lists(described, token, "b c", false)},
		{name: "missing", in: describe("nope"), want: appstream.ResourceNotFound, says: "nope"},
		{name: "negative", in: &api.DescribeImageBuildersInput{MaxResults: new(int32(-1))}, want: appstream.Validation, says: "MaxResults is -1"},
		{name: "token", in: &api.DescribeImageBuildersInput{NextToken: new("x")}, want: appstream.Validation, says: "NextToken is not one that DescribeImageBuilders returned"},
		{name: "names", in: describe(make([]string, 1001)...), want: appstream.Validation, says: "less than or equal to 1000"},

		{name: "success", given: func(f *fixture) { runs(f); f.setState("b", "STOPPING", "STOPPED") }, in: &api.StartImageBuilderInput{Name: new("b")},
			then: state(func(out *api.StartImageBuilderOutput) any { return out.ImageBuilder.State }, "PENDING")},
		{name: "state", given: runs, in: &api.StartImageBuilderInput{Name: new("b")}, want: appstream.ResourceNotAvailable, says: "The image builder b is RUNNING."},
		{name: "missing", in: &api.StartImageBuilderInput{Name: new("nope")}, want: appstream.ResourceNotFound, says: "nope"},

		{name: "success", given: runs, in: &api.StopImageBuilderInput{Name: new("b")}, then: state(func(out *api.StopImageBuilderOutput) any { return out.ImageBuilder.State }, "STOPPING")},
		{name: "state", given: pending, in: &api.StopImageBuilderInput{Name: new("b")}, want: appstream.OperationNotPermitted, says: "The image builder b is PENDING."},
		{name: "missing", in: &api.StopImageBuilderInput{Name: new("nope")}, want: appstream.ResourceNotFound, says: "nope"},

		{name: "success", given: runs, in: &api.DeleteImageBuilderInput{Name: new("b")}, then: state(func(out *api.DeleteImageBuilderOutput) any { return out.ImageBuilder.State }, "DELETING")},
		{name: "twice", given: func(f *fixture) { runs(f); f.setState("b", "DELETING") }, in: &api.DeleteImageBuilderInput{Name: new("b")}, want: appstream.OperationNotPermitted, says: "already"},
		{name: "missing", in: &api.DeleteImageBuilderInput{Name: new("nope")}, want: appstream.ResourceNotFound, says: "nope"},

		{name: "success", given: runs, in: &api.CreateImageBuilderStreamingURLInput{Name: new("b")}, then: func(t *testing.T, _ *fixture, out any) {
			if o := out.(*api.CreateImageBuilderStreamingURLOutput); !strings.HasPrefix(*o.StreamingURL, "https://oriel.test/authenticate?") || time.Until(*o.Expires) < 59*time.Minute {
				t.Error(*o.Expires)
			}
		}},
		{name: "state", given: pending, in: &api.CreateImageBuilderStreamingURLInput{Name: new("b")}, want: appstream.OperationNotPermitted, says: "must be in a RUNNING state"},
		{name: "missing", in: &api.CreateImageBuilderStreamingURLInput{Name: new("nope")}, want: appstream.ResourceNotFound, says: "nope"},
		{name: "validity", given: runs, in: &api.CreateImageBuilderStreamingURLInput{Name: new("b"), Validity: new(int64(604801))}, want: appstream.Validation, says: "between 1 and 604800"},
	}
}

func imageRows() []row {
	described := func(out *api.DescribeImagesOutput) (names []*string) {
		for _, i := range out.Images {
			names = append(names, i.Name)
		}
		return names
	}
	token := func(out *api.DescribeImagesOutput) *string { return out.NextToken }
	copies := func(n int) func(*fixture) {
		return func(f *fixture) {
			images(f)
			for n := range n {
				_, err := f.CopyImage(as(me), copyInput("mine", fmt.Sprint("copy", n), "eu-west-1"))
				f.must(err)
			}
		}
	}
	odd := func(f *fixture) {
		f.addImage(me, "closed", appstream.ImageAvailable, func(i *appstream.Image) { i.View.ImageBuilderSupported = new(false) })
	}
	updates := func(f *fixture) {
		images(f)
		for n := range 5 {
			_, err := f.CreateUpdatedImage(as(me), updateInput("mine", fmt.Sprint("newer", n)))
			f.must(err)
		}
	}
	remove := func(name string) *api.DeleteImageInput { return &api.DeleteImageInput{Name: &name} }
	return []row{
		{name: "success", given: images, in: &api.DescribeImagesInput{}, then: lists(described, token, "base lent mine old unfinished", false)},
		{name: "by name", given: images, in: &api.DescribeImagesInput{Names: []string{"mine", "base"}}, then: lists(described, token, "base mine", false)},
		{name: "by ARN", given: images, in: &api.DescribeImagesInput{Arns: []string{lentARN}}, then: lists(described, token, "lent", false)},
		{name: "by type", given: images, in: &api.DescribeImagesInput{Type: types.VisibilityTypePrivate}, then: lists(described, token, "mine unfinished", false)},
		{name: "a page", given: images, in: &api.DescribeImagesInput{MaxResults: new(int32(3))}, then: lists(described, token, "base lent mine", true)},
		{name: "a page of names", given: images, in: &api.DescribeImagesInput{Names: []string{"mine", "base"}, MaxResults: new(int32(1))}, then: lists(described, token, "base", true)},
		{name: "both", in: &api.DescribeImagesInput{Names: []string{"base"}, Arns: []string{baseARN}}, want: appstream.InvalidParameterCombination, says: "not both"},
		{name: "missing", in: &api.DescribeImagesInput{Names: []string{"nope"}}, want: appstream.ResourceNotFound, says: "nope"},
		{name: "size", in: &api.DescribeImagesInput{MaxResults: new(int32(26))}, want: appstream.Validation, says: "less than or equal to 25"},
		{name: "token of another type", given: images, in: &api.DescribeImagesInput{Type: types.VisibilityTypePublic}, with: func(f *fixture, in any) {
			out, err := f.DescribeImages(as(me), &api.DescribeImagesInput{MaxResults: new(int32(1))})
			f.must(err)
			in.(*api.DescribeImagesInput).NextToken = out.NextToken
		}, want: appstream.Validation, says: "NextToken is not one that DescribeImages returned for this request"},

		{name: "success", given: images, in: remove("mine"), then: state(func(out *api.DeleteImageOutput) any { return out.Image.State }, "DELETING")},
		{name: "shared", given: func(f *fixture) { f.addImage(me, "mine", appstream.ImageAvailable, sharedBy(1)) }, in: remove("mine"), want: appstream.OperationNotPermitted, says: "DeleteImagePermissions"},
		{name: "fleet", given: func(f *fixture) {
			images(f)
			f.fleet("pool", appstream.FleetStopped, func(in *api.CreateFleetInput) { in.ImageName = new("mine") })
		}, in: remove("mine"), want: appstream.ResourceInUse, says: "the fleet pool"},
		{name: "copy", given: copies(1), in: remove("mine"), want: appstream.ResourceInUse, says: "being copied to copy0 in eu-west-1"},
		{name: "missing", in: remove("nope"), want: appstream.ResourceNotFound, says: "nope"},
		{name: "public", in: remove("base"), want: appstream.ResourceNotFound, says: "base"},

		{name: "success", given: images, in: updateInput("mine", "newer"), then: state(func(out *api.CreateUpdatedImageOutput) any { return out.Image.State }, "CREATING")},
		{name: "dry", given: images, in: updateInput("mine", "newer", dry), then: state(func(out *api.CreateUpdatedImageOutput) any { return out.Image == nil }, true)},
		{name: "unsupported", given: odd, in: updateInput("closed", "newer"), want: appstream.IncompatibleImage, says: "does not support image builders"},
		{name: "AppStream's quota", given: updates, in: updateInput("mine", "newer"), want: appstream.LimitExceeded, says: "Limit: 5"},
		{name: "unfinished", given: images, in: updateInput("unfinished", "newer"), want: appstream.OperationNotPermitted, says: "unfinished is PENDING"},
		{name: "taken", given: images, in: updateInput("mine", "mine"), want: appstream.ResourceAlreadyExists, says: "already exists: mine"},
		{name: "missing", in: updateInput("nope", "newer"), want: appstream.ResourceNotFound, says: "nope"},
		{name: "public", in: updateInput("base", "newer"), want: appstream.ResourceNotFound, says: "base"},
		{name: "tags", in: updateInput("mine", "newer", func(in *api.CreateUpdatedImageInput) { in.NewImageTags = map[string]string{"aws:x": ""} }), want: appstream.Validation, says: "newImageTags"},

		{name: "success", setup: withArchive, in: importInput("new"), then: state(func(out *api.CreateImportedImageOutput) any { return out.Image.State }, "VALIDATING")},
		{name: "dry", setup: withArchive, in: importInput("new", func(in *api.CreateImportedImageInput) { in.DryRun = new(true) }), want: appstream.DryRunOperation, says: "could be imported"},
		{name: "missing", in: importInput("new"), setup: func(c *service.Config) { c.Archives = given{} }, want: appstream.ResourceNotFound, says: ami},
		{name: "taken", setup: withArchive, given: images, in: importInput("mine"), want: appstream.ResourceAlreadyExists, says: "already exists: mine"},
		{name: "quota", given: images, setup: func(c *service.Config) { withArchive(c); c.Quotas.Images = 2 }, in: importInput("new"), want: appstream.LimitExceeded, says: "Limit: 2"},
		{name: "role", setup: withArchive, in: importInput("new", func(in *api.CreateImportedImageInput) { in.IamRoleArn = new(theirRole) }), want: appstream.InvalidRole, says: "must be a role"},
		{name: "no source", setup: withArchive, in: importInput("new", func(in *api.CreateImportedImageInput) { in.SourceAmiId = nil }), want: appstream.InvalidParameterCombination, says: "SourceAmiId"},
		{name: "WorkSpaces", in: importInput("new", func(in *api.CreateImportedImageInput) { in.SourceAmiId, in.WorkspaceImageId = nil, new("wsi-12345678") }), want: appstream.OperationNotPermitted, says: "no WorkSpaces here"},
		{name: "display name", in: importInput("new", func(in *api.CreateImportedImageInput) { in.DisplayName = new("ä") }), want: appstream.Validation, says: "isplayName"},

		{name: "success", given: images, in: copyInput("mine", "copy", "us-west-2"), then: state(func(out *api.CopyImageOutput) any { return *out.DestinationImageName }, "copy")},
		{name: "two at a time", given: copies(2), in: copyInput("mine", "copy", "eu-west-1"), want: appstream.LimitExceeded, says: "Limit: 2"},
		{name: "quota", given: images, setup: quota(func(q *service.Quotas) { q.Images = 2 }), in: copyInput("mine", "copy", "us-west-2"), want: appstream.LimitExceeded, says: "The image limit for account " + me + " in us-west-2 was exceeded."},
		{name: "taken", given: images, in: copyInput("mine", "unfinished", "us-west-2"), want: appstream.ResourceAlreadyExists, says: "unfinished"},
		{name: "public name", given: images, in: copyInput("mine", "base", "us-west-2"), want: appstream.ResourceAlreadyExists, says: "base is a public image"},
		{name: "unfinished", given: images, in: copyInput("unfinished", "copy", "us-west-2"), want: appstream.ResourceNotAvailable, says: "unfinished is PENDING"},
		{name: "missing", in: copyInput("nope", "copy", "us-west-2"), want: appstream.ResourceNotFound, says: "nope"},
		{name: "region", given: images, in: copyInput("mine", "copy", "sa-east-1"), want: appstream.ResourceNotFound, says: "DestinationRegion can be us-west-2, eu-west-1"},
		{name: "reserved", given: images, in: copyInput("mine", "aws-copy", "us-west-2"), want: appstream.Validation, says: "reserved"},
	}
}

func exportRows() []row {
	exports := func(n int) func(*fixture) {
		return func(f *fixture) {
			images(f)
			for n := range n {
				_, err := f.CreateExportImageTask(as(me), export("mine", fmt.Sprint("export-", n)))
				f.must(err)
			}
		}
	}
	described := func(out *api.ListExportImageTasksOutput) (names []*string) {
		for _, e := range out.ExportImageTasks {
			names = append(names, e.AmiName)
		}
		return names
	}
	token := func(out *api.ListExportImageTasksOutput) *string { return out.NextToken }
	return []row{
		{name: "success", given: images, in: export("mine", "one"), then: state(func(out *api.CreateExportImageTaskOutput) any { return out.ExportImageTask.State }, "EXPORTING")},
		{name: "role", given: images, in: edited(export("mine", "one"), func(in *api.CreateExportImageTaskInput) { in.IamRoleArn = new(theirRole) }), want: appstream.InvalidRole, says: "encountered an error because your IAM role"},
		{name: "quota", given: exports(2), setup: quota(func(q *service.Quotas) { q.ImageExports = 2 }), in: export("mine", "one"), want: appstream.LimitExceeded, says: "Limit: 2"},
		{name: "taken", given: exports(1), in: export("mine", "export-0"), want: appstream.OperationNotPermitted, says: "The AMI name export-0 is taken"},
		{name: "unfinished", given: images, in: export("unfinished", "one"), want: appstream.ResourceNotAvailable, says: "unfinished is PENDING"},
		{name: "missing", in: export("nope", "one"), want: appstream.ResourceNotFound, says: "nope"},

		{name: "success", given: exports(3), in: &api.ListExportImageTasksInput{}, then: lists(described, token, "export-0 export-1 export-2", false)},
		{name: "a page", given: exports(3), in: &api.ListExportImageTasksInput{MaxResults: new(int32(2))}, then: lists(described, token, "export-0 export-1", true)},
		{name: "filters", given: exports(3), in: &api.ListExportImageTasksInput{Filters: []types.Filter{{Name: new("AmiName"), Values: []string{"export-1"}}}}, then: lists(described, token, "export-1", false)},
		{name: "filter", in: &api.ListExportImageTasksInput{Filters: []types.Filter{{Name: new("Color"), Values: []string{"red"}}}}, want: appstream.Validation, says: "Filters[0]"},
		{name: "size", in: &api.ListExportImageTasksInput{MaxResults: new(int32(501))}, want: appstream.Validation, says: "less than or equal to 500"},

		{name: "success", given: images, in: &api.GetExportImageTaskInput{}, with: func(f *fixture, in any) {
			out, err := f.CreateExportImageTask(as(me), export("mine", "one"))
			f.must(err)
			in.(*api.GetExportImageTaskInput).TaskId = out.ExportImageTask.TaskId
		}, then: state(func(out *api.GetExportImageTaskOutput) any { return *out.ExportImageTask.AmiName }, "one")},
		{name: "missing", in: &api.GetExportImageTaskInput{TaskId: new("00000000-0000-0000-0000-000000000000")}, want: appstream.ResourceNotFound, says: "00000000"},
		{name: "no ID", in: &api.GetExportImageTaskInput{}, want: appstream.Validation, says: "TaskId"},
	}
}

func permissionRows() []row {
	shared := func(n int) func(*fixture) {
		return func(f *fixture) { images(f); f.addImage(me, "shared", appstream.ImageAvailable, sharedBy(n)) }
	}
	accounts := func(out *api.DescribeImagePermissionsOutput) (list []*string) {
		for _, p := range out.SharedImagePermissionsList {
			list = append(list, p.SharedAccountId)
		}
		return list
	}
	token := func(out *api.DescribeImagePermissionsOutput) *string { return out.NextToken }
	unshare := func(name, account string) *api.DeleteImagePermissionsInput {
		return &api.DeleteImagePermissionsInput{Name: &name, SharedAccountId: &account}
	}
	return []row{
		{name: "success", given: images, in: shareWith("mine", other, true), then: func(t *testing.T, f *fixture, _ any) {
			if i := f.imageIn(me, "us-west-2", "mine"); !*i.Permissions[other].AllowFleet {
				t.Errorf("%+v", i.Permissions)
			}
		}},
		{name: "AppStream's quota", given: shared(100), in: shareWith("shared", other, true), want: appstream.LimitExceeded, says: "Limit: 100"},
		{name: "unfinished", given: images, in: shareWith("unfinished", other, true), want: appstream.ResourceNotAvailable, says: "unfinished is PENDING"},
		{name: "missing", in: shareWith("nope", other, true), want: appstream.ResourceNotFound, says: "nope"},
		{name: "oneself", given: images, in: shareWith("mine", me, true), want: appstream.InvalidParameterValue, says: "another account"},
		{name: "no account", given: images, in: shareWith("mine", "everybody", true), want: appstream.Validation, says: "sharedAccountId"},

		{name: "success", given: shared(2), in: &api.DescribeImagePermissionsInput{Name: new("shared")}, then: lists(accounts, token, "000000000001 000000000002", false)},
		{name: "a page", given: shared(2), in: &api.DescribeImagePermissionsInput{Name: new("shared"), MaxResults: new(int32(1))}, then: lists(accounts, token, "000000000001", true)},
		{name: "one account", given: shared(2), in: &api.DescribeImagePermissionsInput{Name: new("shared"), SharedAwsAccountIds: []string{"000000000001"}}, then: lists(accounts, token, "000000000001", false)},
		{name: "missing", in: &api.DescribeImagePermissionsInput{Name: new("nope")}, want: appstream.ResourceNotFound, says: "nope"},
		{name: "accounts", in: &api.DescribeImagePermissionsInput{Name: new("shared"), SharedAwsAccountIds: make([]string, 6)}, want: appstream.Validation, says: "less than or equal to 5"},

		{name: "success", given: shared(1), in: unshare("shared", "000000000001")},
		{name: "not shared", given: images, in: unshare("mine", other), want: appstream.ResourceNotFound, says: "not shared with account " + other},
		{name: "missing", in: unshare("nope", other), want: appstream.ResourceNotFound, says: "nope"},
		{name: "unfinished", given: images, in: unshare("unfinished", other), want: appstream.ResourceNotAvailable, says: "unfinished is PENDING"},
	}
}

func fleetRows() []row {
	create := func(fn func(*api.CreateFleetInput)) *api.CreateFleetInput { return fleetInput("new", fn) }
	is := func(state string) func(*fixture) { return func(f *fixture) { images(f); f.fleet("pool", state) } }
	update := func(fn func(*api.UpdateFleetInput)) *api.UpdateFleetInput {
		return edited(&api.UpdateFleetInput{Name: new("pool")}, fn)
	}
	described := func(out *api.DescribeFleetsOutput) (names []*string) {
		for _, fleet := range out.Fleets {
			names = append(names, fleet.Name)
		}
		return names
	}
	token := func(out *api.DescribeFleetsOutput) *string { return out.NextToken }
	becomes := func(want string) func(*testing.T, *fixture, any) {
		return func(t *testing.T, f *fixture, _ any) {
			if got := f.describeFleet("pool").State; string(got) != want {
				t.Errorf("it is %s, not %s", got, want)
			}
		}
	}
	return []row{
		{name: "success", in: fleetInput("new"), then: state(func(out *api.CreateFleetOutput) any { return out.Fleet.State }, "STOPPED")},
		{name: "no capacity", in: create(func(in *api.CreateFleetInput) { in.ComputeCapacity = nil }), want: appstream.InvalidParameterCombination, says: "ComputeCapacity is missing"},
		{name: "timeout", in: create(func(in *api.CreateFleetInput) { in.DisconnectTimeoutInSeconds = new(int32(59)) }), want: appstream.InvalidParameterCombination, says: "between 60 and 36000"},
		{name: "role", in: create(func(in *api.CreateFleetInput) { in.IamRoleArn = new(theirRole) }), want: appstream.InvalidRole, says: "encountered an error because your IAM role"},
		{name: "quota", given: is("STOPPED"), setup: quota(func(q *service.Quotas) { q.Fleets = 1 }), in: fleetInput("new"), want: appstream.LimitExceeded, says: "Limit: 1"},
		{name: "capacity", in: create(func(in *api.CreateFleetInput) { in.ComputeCapacity.DesiredInstances = new(int32(150)) }), want: appstream.LimitExceeded,
			says: "The Instance type 'stream.standard.medium' capacity limit for fleet new' was exceeded. Requested: 150, Limit: 100"},
		{name: "permission", given: images, in: create(func(in *api.CreateFleetInput) { in.ImageName, in.ImageArn = nil, new(lentARN) }), want: appstream.OperationNotPermitted, says: "allowFleet"},
		{name: "taken", given: is("STOPPED"), in: fleetInput("pool"), want: appstream.ResourceAlreadyExists, says: "pool already exists"},
		{name: "unfinished image", given: images, in: create(func(in *api.CreateFleetInput) { in.ImageName = new("unfinished") }), want: appstream.ResourceNotAvailable, says: "unfinished is PENDING"},
		{name: "no image", in: create(func(in *api.CreateFleetInput) { in.ImageName = new("nope") }), want: appstream.ResourceNotFound, says: "nope"},

		{name: "success", given: is("STOPPED"), in: &api.DescribeFleetsInput{}, then: lists(described, token, "pool", false)},
		{name: "a page", given: func(f *fixture) {
			for n := range 101 {
				f.fleet(fmt.Sprintf("f%03d", n), "STOPPED")
			}
		}, setup: quota(func(q *service.Quotas) { q.Fleets = 200 }), in: &api.DescribeFleetsInput{}, then: func(t *testing.T, _ *fixture, out any) {
			if o := out.(*api.DescribeFleetsOutput); len(o.Fleets) != 100 || o.NextToken == nil {
				t.Errorf("%d fleets", len(o.Fleets))
			}
		}},
		{name: "missing", in: &api.DescribeFleetsInput{Names: []string{"nope"}}, want: appstream.ResourceNotFound, says: "nope"},

		{name: "success", given: is("STOPPED"), in: update(func(in *api.UpdateFleetInput) { in.DisplayName = new("Pool") }), then: state(func(out *api.UpdateFleetOutput) any { return *out.Fleet.DisplayName }, "Pool")},
		{name: "no name", in: &api.UpdateFleetInput{}, want: appstream.InvalidParameterCombination, says: "Name is missing"},
		{name: "role", given: is("STOPPED"), in: update(func(in *api.UpdateFleetInput) { in.IamRoleArn = new(theirRole) }), want: appstream.InvalidRole, says: "encountered an error because your IAM role"},
		{name: "capacity", given: is("STOPPED"), in: update(func(in *api.UpdateFleetInput) {
			in.ComputeCapacity = &types.ComputeCapacity{DesiredInstances: new(int32(101))}
		}), want: appstream.LimitExceeded, says: "Requested: 101, Limit: 100"},
		{name: "permission", given: is("STOPPED"), in: update(func(in *api.UpdateFleetInput) { in.ImageArn = new(lentARN) }), want: appstream.OperationNotPermitted, says: "allowFleet"},
		{name: "running", given: is("RUNNING"), in: update(func(in *api.UpdateFleetInput) { in.Description = new("x") }), want: appstream.ResourceInUse, says: "Cannot update the attribute for fleet pool when it is ACTIVE."},
		{name: "unfinished image", given: is("STOPPED"), in: update(func(in *api.UpdateFleetInput) { in.ImageName = new("unfinished") }), want: appstream.ResourceNotAvailable, says: "unfinished is PENDING"},
		{name: "missing", in: update(func(*api.UpdateFleetInput) {}), want: appstream.ResourceNotFound, says: "pool"},

		{name: "success", given: is("STOPPED"), in: &api.StartFleetInput{Name: new("pool")}, then: becomes("STARTING")},
		{name: "capacity", given: func(f *fixture) { is("STOPPED")(f); f.editFleet("pool", func(r *appstream.Fleet) { r.Desired = 101 }) }, // the quota was greater then
			in: &api.StartFleetInput{Name: new("pool")}, want: appstream.LimitExceeded, says: "Limit: 100"},
		{name: "state", given: is("RUNNING"), in: &api.StartFleetInput{Name: new("pool")}, want: appstream.OperationNotPermitted, says: "The fleet pool is RUNNING."},
		{name: "type", given: func(f *fixture) {
			is("STOPPED")(f)
			f.editFleet("pool", func(r *appstream.Fleet) { r.View.InstanceType = new("stream.gone.small") })
		}, in: &api.StartFleetInput{Name: new("pool")}, want: appstream.ResourceNotAvailable, says: "stream.gone.small"},
		{name: "missing", in: &api.StartFleetInput{Name: new("nope")}, want: appstream.ResourceNotFound, says: "nope"},

		{name: "success", given: is("RUNNING"), in: &api.StopFleetInput{Name: new("pool")}, then: becomes("STOPPING")},
		{name: "twice", given: is("STOPPING"), in: &api.StopFleetInput{Name: new("pool")}, then: becomes("STOPPING")},
		{name: "missing", in: &api.StopFleetInput{Name: new("nope")}, want: appstream.ResourceNotFound, says: "nope"},

		{name: "success", given: is("STOPPED"), in: &api.DeleteFleetInput{Name: new("pool")}},
		{name: "running", given: is("RUNNING"), in: &api.DeleteFleetInput{Name: new("pool")}, want: appstream.ResourceInUse, says: "The fleet pool is RUNNING."},
		{name: "associated", given: func(f *fixture) { is("STOPPED")(f); f.stack("desk"); f.associate("pool", "desk") }, in: &api.DeleteFleetInput{Name: new("pool")},
			want: appstream.ResourceInUse, says: "The fleet pool is associated with a stack. To delete the fleet, you must dissociate it from the stack."},
		{name: "missing", in: &api.DeleteFleetInput{Name: new("nope")}, want: appstream.ResourceNotFound, says: "nope"},
	}
}

func stackRows() []row {
	desk := func(f *fixture) { f.stack("desk") }
	described := func(out *api.DescribeStacksOutput) (names []*string) {
		for _, st := range out.Stacks {
			names = append(names, st.Name)
		}
		return names
	}
	token := func(out *api.DescribeStacksOutput) *string { return out.NextToken }
	return []row{
		{name: "success", in: &api.CreateStackInput{Name: new("desk"), Tags: map[string]string{"Team": "α/β"}}, then: state(func(out *api.CreateStackOutput) any { return *out.Stack.Name }, "desk")},
		{name: "twice", in: &api.CreateStackInput{Name: new("desk"), UserSettings: []types.UserSetting{{Action: "FILE_UPLOAD", Permission: "ENABLED"}, {Action: "FILE_UPLOAD", Permission: "DISABLED"}}},
			want: appstream.InvalidParameterCombination, says: "UserSettings[1]"},
		{name: "AppStream's quota", given: func(f *fixture) {
			for n := range 10 {
				f.stack(fmt.Sprint("s", n))
			}
		}, in: &api.CreateStackInput{Name: new("desk")}, want: appstream.LimitExceeded, says: "Limit: 10"},
		{name: "taken", given: desk, in: &api.CreateStackInput{Name: new("desk")}, want: appstream.ResourceAlreadyExists, says: "desk already exists"},
		{name: "tag of AWS", in: &api.CreateStackInput{Name: new("desk"), Tags: map[string]string{"aws:x": ""}}, want: appstream.Validation, says: "Map keys must satisfy constraint"},

		{name: "success", given: desk, in: &api.DescribeStacksInput{Names: []string{"desk", "desk"}}, then: lists(described, token, "desk", false)},
		{name: "a page", given: func(f *fixture) {
			for n := range 101 {
				f.stack(fmt.Sprintf("s%03d", n))
			}
		}, setup: quota(func(q *service.Quotas) { q.Stacks = 200 }), in: &api.DescribeStacksInput{}, then: func(t *testing.T, _ *fixture, out any) {
			if o := out.(*api.DescribeStacksOutput); len(o.Stacks) != 100 || o.NextToken == nil {
				t.Errorf("%d stacks", len(o.Stacks))
			}
		}},
		{name: "missing", in: &api.DescribeStacksInput{Names: []string{"nope"}}, want: appstream.ResourceNotFound, says: "nope"},

		{name: "success", given: desk, in: &api.UpdateStackInput{Name: new("desk"), DisplayName: new("Desk")}, then: state(func(out *api.UpdateStackOutput) any { return *out.Stack.DisplayName }, "Desk")},
		{name: "set and deleted", given: desk, in: &api.UpdateStackInput{Name: new("desk"), RedirectURL: new("https://example.com"), AttributesToDelete: []types.StackAttribute{"REDIRECT_URL"}},
			want: appstream.InvalidParameterCombination, says: "REDIRECT_URL is to be deleted"},
		{name: "missing", in: &api.UpdateStackInput{Name: new("nope")}, want: appstream.ResourceNotFound, says: "nope"},

		{name: "success", given: desk, in: &api.DeleteStackInput{Name: new("desk")}},
		{name: "associated", given: func(f *fixture) { desk(f); f.fleet("pool", "STOPPED"); f.associate("pool", "desk") }, in: &api.DeleteStackInput{Name: new("desk")}, want: appstream.ResourceInUse,
			says: "Cannot delete stack desk. This stack has fleets associated with it. Only stacks with no fleets associated with it can be deleted."},
		{name: "missing", in: &api.DeleteStackInput{Name: new("nope")}, want: appstream.ResourceNotFound, says: "nope"},
	}
}

func associationRows() []row {
	apart := func(f *fixture) { f.fleet("pool", "STOPPED"); f.stack("desk") }
	together := func(f *fixture) { apart(f); f.associate("pool", "desk") }
	pointers := func(names []string) (list []*string) {
		for _, name := range names {
			list = append(list, &name)
		}
		return list
	}
	return []row{
		{name: "success", given: apart, in: &api.AssociateFleetInput{FleetName: new("pool"), StackName: new("desk")}},
		{name: "again", given: together, in: &api.AssociateFleetInput{FleetName: new("pool"), StackName: new("desk")}},
		{name: "no fleet", given: apart, in: &api.AssociateFleetInput{FleetName: new("nope"), StackName: new("desk")}, want: appstream.ResourceNotFound, says: "The fleet nope"},
		{name: "no stack", given: apart, in: &api.AssociateFleetInput{FleetName: new("pool"), StackName: new("nope")}, want: appstream.ResourceNotFound, says: "The stack nope"},

		{name: "success", given: together, in: &api.DisassociateFleetInput{FleetName: new("pool"), StackName: new("desk")}},
		{name: "in use", given: func(f *fixture) { f.pool(1, 0); f.open("ann") }, in: &api.DisassociateFleetInput{FleetName: new("pool"), StackName: new("desk")}, want: appstream.ResourceInUse, says: "1 session(s) of the stack desk"},
		{name: "no stack", given: apart, in: &api.DisassociateFleetInput{FleetName: new("pool"), StackName: new("nope")}, want: appstream.ResourceNotFound, says: "The stack nope"},

		{name: "success", given: together, in: &api.ListAssociatedFleetsInput{StackName: new("desk")}, then: lists(func(out *api.ListAssociatedFleetsOutput) []*string { return pointers(out.Names) },
			func(out *api.ListAssociatedFleetsOutput) *string { return out.NextToken }, "pool", false)},
		{name: "missing", in: &api.ListAssociatedFleetsInput{StackName: new("nope")}, want: appstream.ResourceNotFound, says: "nope"},
		{name: "success", given: together, in: &api.ListAssociatedStacksInput{FleetName: new("pool")}, then: lists(func(out *api.ListAssociatedStacksOutput) []*string { return pointers(out.Names) },
			func(out *api.ListAssociatedStacksOutput) *string { return out.NextToken }, "desk", false)},
		{name: "missing", in: &api.ListAssociatedStacksInput{FleetName: new("nope")}, want: appstream.ResourceNotFound, says: "nope"},
	}
}

func sessionRows() []row {
	pool := func(f *fixture) { f.pool(1, 0) }
	open := func(f *fixture) { pool(f); f.open("ann") }
	stream := func(fn func(*api.CreateStreamingURLInput)) *api.CreateStreamingURLInput { return streamInput(fn) }
	describe := func(fn func(*api.DescribeSessionsInput)) *api.DescribeSessionsInput {
		return edited(&api.DescribeSessionsInput{FleetName: new("pool"), StackName: new("desk")}, fn)
	}
	users := func(out *api.DescribeSessionsOutput) (names []*string) {
		for _, s := range out.Sessions {
			names = append(names, s.UserId)
		}
		return names
	}
	token := func(out *api.DescribeSessionsOutput) *string { return out.NextToken }
	return []row{
		{name: "success", given: pool, in: stream(func(*api.CreateStreamingURLInput) {}), then: func(t *testing.T, _ *fixture, out any) {
			if o := out.(*api.CreateStreamingURLOutput); !strings.HasPrefix(*o.StreamingURL, "https://oriel.test/authenticate?") || time.Until(*o.Expires) > time.Minute+time.Second {
				t.Error(*o.Expires)
			}
		}},
		{name: "not associated", given: func(f *fixture) { pool(f); f.stack("lonely") }, in: stream(func(in *api.CreateStreamingURLInput) { in.StackName = new("lonely") }), want: appstream.OperationNotPermitted, says: "AssociateFleet"},
		{name: "stopped", given: func(f *fixture) { f.fleet("pool", "STOPPED"); f.stack("desk"); f.associate("pool", "desk") }, in: stream(func(*api.CreateStreamingURLInput) {}), want: appstream.ResourceNotAvailable, says: "The fleet pool is STOPPED."},
		{name: "missing", in: stream(func(*api.CreateStreamingURLInput) {}), want: appstream.ResourceNotFound, says: "The fleet pool"},
		{name: "application", given: pool, in: stream(func(in *api.CreateStreamingURLInput) { in.ApplicationId = new("nope") }), want: appstream.ResourceNotFound, says: "The application nope"},
		{name: "validity", given: pool, in: stream(func(in *api.CreateStreamingURLInput) { in.Validity = new(int64(0)) }), want: appstream.Validation, says: "between 1 and 604800"},
		{name: "user", given: pool, in: stream(func(in *api.CreateStreamingURLInput) { in.UserId = new("x") }), want: appstream.Validation, says: "userId"},

		{name: "success", given: open, in: describe(func(*api.DescribeSessionsInput) {}), then: lists(users, token, "ann", false)},
		{name: "one user", given: open, in: describe(func(in *api.DescribeSessionsInput) { in.UserId = new("bob") }), then: lists(users, token, "", false)},
		{name: "a page", given: func(f *fixture) {
			f.pool(1, 40)
			for n := range 21 {
				f.open(fmt.Sprint("user", n))
			}
		}, in: describe(func(*api.DescribeSessionsInput) {}), then: func(t *testing.T, _ *fixture, out any) {
			if o := out.(*api.DescribeSessionsOutput); len(o.Sessions) != 20 || o.NextToken == nil {
				t.Errorf("%d sessions", len(o.Sessions))
			}
		}},
		{name: "size", given: pool, in: describe(func(in *api.DescribeSessionsInput) { in.Limit = new(int32(51)) }), want: appstream.InvalidParameterCombination, says: "between 0 and 50"},
		{name: "missing", in: describe(func(*api.DescribeSessionsInput) {}), want: appstream.ResourceNotFound, says: "The fleet pool"},

		{name: "success", given: pool, in: &api.ExpireSessionInput{}, with: func(f *fixture, in any) {
			in.(*api.ExpireSessionInput).SessionId = new(f.open("ann").ID)
		}, then: func(t *testing.T, f *fixture, _ any) {
			out, err := f.DescribeSessions(as(me), describe(func(*api.DescribeSessionsInput) {}))
			if f.must(err); out.Sessions[0].State != types.SessionStateExpired {
				t.Error(out.Sessions[0].State)
			}
		}},
		{name: "nobody's", in: &api.ExpireSessionInput{SessionId: new("nobody's")}},

		{name: "success", given: func(f *fixture) { f.pool(1, 2) }, in: &api.DrainSessionInstanceInput{}, with: func(f *fixture, in any) {
			in.(*api.DrainSessionInstanceInput).SessionId = new(f.open("ann").ID)
		}},
		{name: "single", given: pool, in: &api.DrainSessionInstanceInput{}, with: func(f *fixture, in any) {
			in.(*api.DrainSessionInstanceInput).SessionId = new(f.open("ann").ID)
		}, want: appstream.OperationNotPermitted, says: "not a multi-session fleet"},
		{name: "missing", in: &api.DrainSessionInstanceInput{SessionId: new("00000000-0000-0000-0000-000000000000")}, want: appstream.ResourceNotFound, says: "00000000"},
	}
}

// manyTags gives so many tags.
func manyTags(n int) map[string]string {
	tags := map[string]string{}
	for k := range n {
		tags[fmt.Sprint("key", k)] = "value"
	}
	return tags
}

// tagRows has rows for each noun that can have tags.
func tagRows() (rows []row) {
	all := func(f *fixture) {
		f.running("b")
		f.addImage(me, "mine", appstream.ImageAvailable)
		f.fleet("pool", "STOPPED")
		f.stack("desk")
		for _, noun := range []string{"image-builder/b", "image/mine", "fleet/pool", "stack/desk"} {
			_, err := f.TagResource(as(me), &api.TagResourceInput{ResourceArn: new(arnPrefix + noun), Tags: manyTags(49)})
			f.must(err)
		}
	}
	has := func(arn string, want int, key, value string) func(*testing.T, *fixture, any) {
		return func(t *testing.T, f *fixture, _ any) {
			t.Helper()
			out, err := f.ListTagsForResource(as(me), &api.ListTagsForResourceInput{ResourceArn: &arn})
			if err != nil || len(out.Tags) != want || out.Tags[key] != value {
				t.Errorf("%d tags, %s is %q, %v", len(out.Tags), key, out.Tags[key], err)
			}
		}
	}
	for _, noun := range []string{"image-builder/b", "image/mine", "fleet/pool", "stack/desk"} {
		arn := arnPrefix + noun
		tag := func(tags map[string]string) *api.TagResourceInput {
			return &api.TagResourceInput{ResourceArn: &arn, Tags: tags}
		}
		rows = append(rows,
			row{name: noun + "/success", given: all, in: tag(map[string]string{"Key0": "v", "key0": "new"}), then: has(arn, 50, "key0", "new")}, // keys differ in case
			row{name: noun + "/fifty", given: all, in: tag(map[string]string{"a": "", "b": ""}), want: appstream.LimitExceeded, says: "would have 51 tags. Limit: 50"},
			row{name: noun + "/same", given: all, in: tag(manyTags(49)), then: has(arn, 49, "key7", "value")},
			row{name: noun + "/success", given: all, in: &api.UntagResourceInput{ResourceArn: &arn, TagKeys: []string{"key1", "key2", "none"}}, then: has(arn, 47, "key1", "")},
			row{name: noun + "/success", given: all, in: &api.ListTagsForResourceInput{ResourceArn: &arn}, then: state(func(out *api.ListTagsForResourceOutput) any { return len(out.Tags) }, 49)},
		)
	}
	mine := arnPrefix + "stack/desk"
	for name, tags := range map[string]map[string]string{
		"none": {}, "too many": manyTags(51), "of AWS": {"aws:x": "v"}, "long key": {strings.Repeat("k", 129): "v"}, "long value": {"k": strings.Repeat("v", 257)},
		"key": {"a?": "v"}, "value": {"k": "v?"},
	} {
		rows = append(rows, row{name: name, given: all, in: &api.TagResourceInput{ResourceArn: &mine, Tags: tags}, want: appstream.Validation, says: "at 'tags' failed to satisfy constraint"})
	}
	for name, arn := range map[string]string{
		"missing": arnPrefix + "stack/nope", "another account": "arn:aws:appstream:us-west-2:" + other + ":stack/desk", "another region": "arn:aws:appstream:eu-west-1:" + me + ":stack/desk",
		"public": baseARN, "no such noun": arnPrefix + "session/desk",
	} {
		rows = append(rows,
			row{name: name, given: all, in: &api.TagResourceInput{ResourceArn: &arn, Tags: manyTags(1)}, want: appstream.ResourceNotFound, says: "does not exist"},
			row{name: name, given: all, in: &api.UntagResourceInput{ResourceArn: &arn, TagKeys: []string{"k"}}, want: appstream.ResourceNotFound, says: "does not exist"},
			row{name: name, given: all, in: &api.ListTagsForResourceInput{ResourceArn: &arn}, want: appstream.ResourceNotFound, says: "does not exist"})
	}
	return append(rows, row{name: "of AWS", given: all, in: &api.UntagResourceInput{ResourceArn: &mine, TagKeys: []string{"aws:x"}}, want: appstream.Validation, says: "tagKeys"})
}
