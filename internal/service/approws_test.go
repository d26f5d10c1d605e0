package service_test

import (
	"strings"
	"testing"

	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/service"
)

// packages puts what app blocks and applications are made of into the bucket.
func packages(f *fixture) {
	f.object(me, "pkg/writer.tar.gz", []byte("package"))
	f.object(me, "pkg/setup.sh", []byte("#!/bin/sh"))
	f.object(me, "icon.png", drawing(f.t, "png", 64, 64))
	f.object(other, "theirs.tar", []byte("package"))
}

func inBucket(key string) *types.S3Location {
	return &types.S3Location{S3Bucket: new("brand"), S3Key: appstream.Optional(key)}
}

func script(key string, seconds int32) *types.ScriptDetails {
	return &types.ScriptDetails{ExecutablePath: new("/bin/sh"), ScriptS3Location: inBucket(key), TimeoutInSeconds: &seconds}
}

func customBlock(name string) *api.CreateAppBlockInput {
	return &api.CreateAppBlockInput{Name: &name, SourceS3Location: inBucket("pkg/writer.tar.gz"), SetupScriptDetails: script("pkg/setup.sh", 60)}
}

func (f *fixture) appBlock(name string) {
	f.t.Helper()
	packages(f)
	_, err := f.CreateAppBlock(as(me), customBlock(name))
	f.must(err)
}

func application(name, block string) *api.CreateApplicationInput {
	return &api.CreateApplicationInput{Name: &name, AppBlockArn: new(arnPrefix + "app-block/" + block), IconS3Location: inBucket("icon.png"), LaunchPath: new("/opt/writer/bin/writer"),
		Platforms: []types.PlatformType{"DEBIAN_12"}, InstanceFamilies: []string{"GENERAL_PURPOSE"}, LaunchParameters: new("--quiet")}
}

func (f *fixture) application(names ...string) {
	f.t.Helper()
	f.appBlock("office")
	for _, name := range names {
		_, err := f.CreateApplication(as(me), application(name, "office"))
		f.must(err)
	}
}

func appBlockRows() []row {
	block := func(fn func(*api.CreateAppBlockInput)) *api.CreateAppBlockInput {
		return edited(customBlock("office"), fn)
	}
	isIn := func(want types.AppBlockState) func(*testing.T, *fixture, any) {
		return state(func(out *api.CreateAppBlockOutput) any { return out.AppBlock.State }, want)
	}
	names := func(out *api.DescribeAppBlocksOutput) (names []*string) {
		for _, b := range out.AppBlocks {
			names = append(names, b.Name)
		}
		return names
	}
	token := func(out *api.DescribeAppBlocksOutput) *string { return out.NextToken }
	two := func(f *fixture) { f.appBlock("a"); f.appBlock("b") }
	return []row{
		{name: "success", given: packages, in: customBlock("office"), then: isIn("ACTIVE")},
		{name: "to be packaged here", given: packages, in: block(func(in *api.CreateAppBlockInput) {
			in.PackagingType, in.SetupScriptDetails, in.PostSetupScriptDetails, in.SourceS3Location = types.PackagingTypeAppstream2, nil, script("pkg/setup.sh", 60), inBucket("")
		}), then: isIn("INACTIVE")},
		{name: "to be packaged where no bucket can be", given: packages, in: block(func(in *api.CreateAppBlockInput) {
			in.PackagingType, in.SetupScriptDetails, in.SourceS3Location = types.PackagingTypeAppstream2, nil, &types.S3Location{S3Bucket: new("a..b")}
		}), want: appstream.OperationNotPermitted, says: "SourceS3Location.S3Bucket: \"a..b\" cannot be"},
		{name: "packaged here before", given: packages, in: block(func(in *api.CreateAppBlockInput) {
			in.PackagingType, in.SetupScriptDetails = types.PackagingTypeAppstream2, nil
		}), then: isIn("ACTIVE")},
		{name: "no script", given: packages, in: block(func(in *api.CreateAppBlockInput) { in.SetupScriptDetails = nil }), want: appstream.OperationNotPermitted, says: "SetupScriptDetails is missing"},
		{name: "wrong script", given: packages, in: block(func(in *api.CreateAppBlockInput) { in.PostSetupScriptDetails = script("pkg/setup.sh", 60) }),
			want: appstream.OperationNotPermitted, says: "PostSetupScriptDetails is for"},
		{name: "script of the other packaging", given: packages, in: block(func(in *api.CreateAppBlockInput) { in.PackagingType = types.PackagingTypeAppstream2 }),
			want: appstream.OperationNotPermitted, says: "SetupScriptDetails is for"},
		{name: "timeout", given: packages, in: block(func(in *api.CreateAppBlockInput) { in.SetupScriptDetails = script("pkg/setup.sh", 3601) }),
			want: appstream.OperationNotPermitted, says: "SetupScriptDetails.TimeoutInSeconds is 3601"},
		{name: "no key", given: packages, in: block(func(in *api.CreateAppBlockInput) { in.SourceS3Location = inBucket("") }), want: appstream.OperationNotPermitted, says: "S3Key is missing"},
		{name: "no package", given: packages, in: block(func(in *api.CreateAppBlockInput) { in.SourceS3Location = inBucket("nope") }), want: appstream.OperationNotPermitted, says: "brand/nope of SourceS3Location"},
		{name: "another's package", given: packages, in: block(func(in *api.CreateAppBlockInput) { in.SourceS3Location = inBucket("theirs.tar") }), want: appstream.OperationNotPermitted, says: "does not exist"},
		{name: "script that is not there", given: packages, in: block(func(in *api.CreateAppBlockInput) { in.SetupScriptDetails = script("nope.sh", 60) }),
			want: appstream.OperationNotPermitted, says: "brand/nope.sh of SetupScriptDetails.ScriptS3Location"},
		{name: "quota", given: func(f *fixture) { f.appBlock("one") }, setup: quota(func(q *service.Quotas) { q.AppBlocks = 1 }), in: customBlock("office"), want: appstream.LimitExceeded, says: "Limit: 1"},
		{name: "taken", given: func(f *fixture) { f.appBlock("office") }, in: customBlock("office"), want: appstream.ResourceAlreadyExists, says: "office already exists"},

		{name: "success", given: two, in: &api.DescribeAppBlocksInput{}, then: lists(names, token, "a b", false)},
		{name: "by ARN", given: two, in: &api.DescribeAppBlocksInput{Arns: []string{arnPrefix + "app-block/b"}}, then: lists(names, token, "b", false)},
		{name: "a page", given: two, in: &api.DescribeAppBlocksInput{MaxResults: new(int32(1))}, then: lists(names, token, "a", true)},
		{name: "missing", in: &api.DescribeAppBlocksInput{Arns: []string{arnPrefix + "app-block/b"}}, want: appstream.ResourceNotFound, says: "The app block b"},
		{name: "another's", in: &api.DescribeAppBlocksInput{Arns: []string{strings.Replace(arnPrefix, me, other, 1) + "app-block/b"}}, want: appstream.ResourceNotFound, says: "does not exist"},

		{name: "success", given: two, in: &api.DeleteAppBlockInput{Name: new("a")}, then: func(t *testing.T, f *fixture, _ any) {
			if out, err := f.DescribeAppBlocks(as(me), &api.DescribeAppBlocksInput{}); err != nil || len(out.AppBlocks) != 1 {
				t.Error(out, err)
			}
		}},
		{name: "in use", given: func(f *fixture) { f.application("writer") }, in: &api.DeleteAppBlockInput{Name: new("office")}, want: appstream.ResourceInUse, says: "the application writer"},
		{name: "of a builder", given: func(f *fixture) { f.appBlockBuilder("b", appstream.AppBlockBuilderStopped) }, in: &api.DeleteAppBlockInput{Name: new("suite")}, want: appstream.ResourceInUse, says: "the app block builder b"},
		{name: "missing", in: &api.DeleteAppBlockInput{Name: new("nope")}, want: appstream.ResourceNotFound, says: "nope"},
	}
}

func applicationRows() []row {
	office := func(f *fixture) { f.appBlock("office") }
	one := func(f *fixture) { f.application("writer") }
	create := func(fn func(*api.CreateApplicationInput)) *api.CreateApplicationInput {
		return edited(application("writer", "office"), fn)
	}
	update := func(fn func(*api.UpdateApplicationInput)) *api.UpdateApplicationInput {
		return edited(&api.UpdateApplicationInput{Name: new("writer")}, fn)
	}
	names := func(out *api.DescribeApplicationsOutput) (names []*string) {
		for _, a := range out.Applications {
			names = append(names, a.Name)
		}
		return names
	}
	token := func(out *api.DescribeApplicationsOutput) *string { return out.NextToken }
	two := func(f *fixture) { f.application("calc", "writer") }
	return []row{
		{name: "success", given: office, in: application("writer", "office"), then: func(t *testing.T, _ *fixture, out any) {
			a := out.(*api.CreateApplicationOutput).Application
			if *a.Arn != arnPrefix+"application/writer" || !strings.HasPrefix(*a.IconURL, "https://oriel.test/icons/") || !*a.Enabled || *a.LaunchParameters != "--quiet" {
				t.Error(*a.Arn, *a.IconURL, *a.LaunchParameters)
			}
		}},
		{name: "no platform", given: office, in: create(func(in *api.CreateApplicationInput) { in.Platforms = []types.PlatformType{} }), want: appstream.OperationNotPermitted, says: "Platforms is empty"},
		{name: "no family", given: office, in: create(func(in *api.CreateApplicationInput) { in.InstanceFamilies = []string{} }), want: appstream.OperationNotPermitted, says: "InstanceFamilies is empty"},
		{name: "family", given: office, in: create(func(in *api.CreateApplicationInput) { in.InstanceFamilies = []string{"GENERAL_PURPOSE", "G5"} }), want: appstream.OperationNotPermitted, says: `InstanceFamilies[1] is "G5"`},
		{name: "long path", given: office, in: create(func(in *api.CreateApplicationInput) { in.LaunchPath = new(strings.Repeat("/a", 2049)) }), want: appstream.OperationNotPermitted, says: "LaunchPath has more than 4096"},
		{name: "no icon", given: office, in: create(func(in *api.CreateApplicationInput) { in.IconS3Location = inBucket("nope.png") }), want: appstream.ResourceNotFound, says: "brand/nope.png of IconS3Location"},
		{name: "icon that is none", given: office, in: create(func(in *api.CreateApplicationInput) { in.IconS3Location = inBucket("pkg/setup.sh") }), want: appstream.OperationNotPermitted, says: "IconS3Location"},
		{name: "no app block", given: office, in: application("writer", "nope"), want: appstream.ResourceNotFound, says: "The app block nope"},
		{name: "quota", given: one, setup: quota(func(q *service.Quotas) { q.Applications = 1 }), in: application("calc", "office"), want: appstream.LimitExceeded, says: "Limit: 1"},
		{name: "taken", given: one, in: application("writer", "office"), want: appstream.ResourceAlreadyExists, says: "writer already exists"},
		{name: "platform", given: office, in: create(func(in *api.CreateApplicationInput) { in.Platforms = []types.PlatformType{"BEOS"} }), want: appstream.Validation, says: "BEOS"},

		{name: "success", given: one, in: update(func(in *api.UpdateApplicationInput) {
			in.DisplayName = new("Writer")
			in.AttributesToDelete = []types.ApplicationAttribute{types.ApplicationAttributeLaunchParameters}
		}), then: func(t *testing.T, _ *fixture, out any) {
			a := out.(*api.UpdateApplicationOutput).Application
			if *a.DisplayName != "Writer" || a.LaunchParameters != nil || *a.LaunchPath != "/opt/writer/bin/writer" || *a.IconS3Location.S3Key != "icon.png" {
				t.Errorf("%+v", *a)
			}
		}},
		{name: "both", given: one, in: update(func(in *api.UpdateApplicationInput) {
			in.WorkingDirectory, in.AttributesToDelete = new("/tmp"), []types.ApplicationAttribute{types.ApplicationAttributeWorkingDirectory}
		}), want: appstream.OperationNotPermitted, says: "AttributesToDelete has WORKING_DIRECTORY"},
		{name: "another app block", given: one, in: update(func(in *api.UpdateApplicationInput) { in.AppBlockArn = new(arnPrefix + "app-block/nope") }), want: appstream.ResourceNotFound, says: "The app block nope"},
		{name: "missing", in: update(func(*api.UpdateApplicationInput) {}), want: appstream.ResourceNotFound, says: "The application writer"},

		{name: "success", given: two, in: &api.DescribeApplicationsInput{}, then: lists(names, token, "calc writer", false)},
		{name: "a page", given: two, in: &api.DescribeApplicationsInput{MaxResults: new(int32(1))}, then: lists(names, token, "calc", true)},
		{name: "missing", in: &api.DescribeApplicationsInput{Arns: []string{arnPrefix + "application/nope"}}, want: appstream.ResourceNotFound, says: "The application nope"},

		{name: "success", given: one, in: &api.DeleteApplicationInput{Name: new("writer")}, then: func(t *testing.T, f *fixture, _ any) {
			if _, err := f.DeleteAppBlock(as(me), &api.DeleteAppBlockInput{Name: new("office")}); err != nil {
				t.Error(err)
			}
		}},
		{name: "in use", given: func(f *fixture) { one(f); f.elastic("e", "writer") }, in: &api.DeleteApplicationInput{Name: new("writer")}, want: appstream.ResourceInUse, says: "the fleet e"},
		{name: "missing", in: &api.DeleteApplicationInput{Name: new("nope")}, want: appstream.ResourceNotFound, says: "nope"},
	}
}

// elastic makes an Elastic fleet with applications.
func (f *fixture) elastic(name string, apps ...string) {
	f.t.Helper()
	f.fleet(name, appstream.FleetStopped)
	f.editFleet(name, func(fleet *appstream.Fleet) {
		fleet.View.FleetType, fleet.View.Platform, fleet.Applications = types.FleetTypeElastic, "DEBIAN_12", apps
	})
}

func applicationFleetRows() []row {
	const writer, calc = arnPrefix + "application/writer", arnPrefix + "application/calc"
	given := func(f *fixture) {
		f.application("calc", "writer")
		f.elastic("e", "calc")
		f.elastic("f", "calc", "writer")
	}
	associate := func(fleet, app string) *api.AssociateApplicationFleetInput {
		return &api.AssociateApplicationFleetInput{FleetName: &fleet, ApplicationArn: &app}
	}
	pairs := func(out *api.DescribeApplicationFleetAssociationsOutput) (list []*string) {
		for _, a := range out.ApplicationFleetAssociations {
			list = append(list, new(*a.FleetName+"/"+strings.TrimPrefix(*a.ApplicationArn, arnPrefix+"application/")))
		}
		return list
	}
	token := func(out *api.DescribeApplicationFleetAssociationsOutput) *string { return out.NextToken }
	describe := func(fleet, app string, size int32) *api.DescribeApplicationFleetAssociationsInput {
		return &api.DescribeApplicationFleetAssociationsInput{FleetName: appstream.Optional(fleet), ApplicationArn: appstream.Optional(app), MaxResults: &size}
	}
	has := func(want string) func(*testing.T, *fixture, any) {
		return func(t *testing.T, f *fixture, _ any) {
			t.Helper()
			if fleet := f.editFleet("e", func(*appstream.Fleet) {}); strings.Join(fleet.Applications, " ") != want {
				t.Errorf("the fleet has %v", fleet.Applications)
			}
		}
	}
	return []row{
		{name: "success", given: given, in: associate("e", writer), then: has("calc writer")},
		{name: "twice", given: given, in: associate("e", calc), then: has("calc")},
		{name: "another type", given: func(f *fixture) { given(f); f.fleet("always", appstream.FleetStopped) }, in: associate("always", writer), want: appstream.OperationNotPermitted, says: "Only Elastic fleets"},
		{name: "platform", given: func(f *fixture) {
			given(f)
			f.editFleet("e", func(fleet *appstream.Fleet) { fleet.View.Platform = types.PlatformTypeRhel8 })
		}, in: associate("e", writer), want: appstream.InvalidParameterCombination, says: "the fleet e is RHEL8"},
		{name: "family", given: func(f *fixture) {
			given(f)
			_, err := f.CreateApplication(as(me), edited(application("render", "office"), func(in *api.CreateApplicationInput) { in.InstanceFamilies = []string{"GRAPHICS_G4"} }))
			f.must(err)
		}, in: associate("e", arnPrefix+"application/render"), want: appstream.InvalidParameterCombination, says: "is for the instance families [GRAPHICS_G4]"},
		{name: "limit", given: given, setup: quota(func(q *service.Quotas) { q.FleetApplications = 1 }), in: associate("e", writer), want: appstream.LimitExceeded, says: "Limit: 1"},
		{name: "no fleet", given: given, in: associate("nope", writer), want: appstream.ResourceNotFound, says: "The fleet nope"},
		{name: "no application", given: given, in: associate("e", writer+"s"), want: appstream.ResourceNotFound, says: "The application writers"},

		{name: "success", given: given, in: &api.DisassociateApplicationFleetInput{FleetName: new("e"), ApplicationArn: new(calc)}, then: has("")},
		{name: "not associated", given: given, in: &api.DisassociateApplicationFleetInput{FleetName: new("e"), ApplicationArn: new(writer)}, then: has("calc")},
		{name: "no fleet", in: &api.DisassociateApplicationFleetInput{FleetName: new("e"), ApplicationArn: new(calc)}, want: appstream.ResourceNotFound, says: "The fleet e"},

		{name: "success", given: given, in: describe("f", "", 0), then: lists(pairs, token, "f/calc f/writer", false)},
		{name: "of an application", given: given, in: describe("", calc, 0), then: lists(pairs, token, "e/calc f/calc", false)},
		{name: "of both", given: given, in: describe("f", writer, 0), then: lists(pairs, token, "f/writer", false)},
		{name: "a page", given: given, in: describe("f", "", 1), then: lists(pairs, token, "f/calc", true)},
		{name: "a page of fleets", given: given, in: describe("", calc, 1), then: lists(pairs, token, "e/calc", true)},
		{name: "neither", in: &api.DescribeApplicationFleetAssociationsInput{}, want: appstream.InvalidParameterCombination, says: "FleetName or ApplicationArn"},
		{name: "no fleet", in: describe("nope", "", 0), want: appstream.ResourceNotFound, says: "The fleet nope"},
	}
}
