package service_test

import (
	"context"
	"testing"

	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/google/go-cmp/cmp"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/service"
)

// What a policy must allow beside the operation: to tag what is made with tags, and to give a role to machines.
func TestDependentActions(t *testing.T) {
	f := newFixture(t)
	const (
		arn  = "arn:aws:appstream:us-west-2:" + me + ":"
		role = "arn:aws:iam::" + me + ":role/r"
		tag  = "appstream:TagResource"
		pass = "iam:PassRole"
	)
	type needs = []appstream.DependentAction
	also := func(action, resource string) appstream.DependentAction {
		return appstream.DependentAction{Action: action, Resource: resource}
	}
	unless := func(operation, resource string) appstream.DependentAction {
		return appstream.DependentAction{Action: "appstream:" + operation, Resource: resource, DenyOnly: true}
	}
	tags := map[string]string{"team": "blue"}
	for _, test := range []struct {
		operation string
		in        any
		want      needs
	}{
		{"CreateFleet", &api.CreateFleetInput{Name: new("pool"), ImageName: new("base"), Tags: tags, IamRoleArn: new(role)}, needs{also(tag, arn+"fleet/pool"), also(pass, role)}},
		{"CreateFleet", &api.CreateFleetInput{Name: new("pool"), ImageName: new("base"), Tags: map[string]string{}, IamRoleArn: new("")}, nil},
		{"UpdateFleet", &api.UpdateFleetInput{Name: new("pool"), IamRoleArn: new(role)}, needs{also(pass, role)}},
		{"CreateImageBuilder", &api.CreateImageBuilderInput{Name: new("b"), ImageName: new("base"), Tags: tags}, needs{also(tag, arn+"image-builder/b")}},
		{"CreateStack", &api.CreateStackInput{Name: new("desk"), Tags: tags}, needs{also(tag, arn+"stack/desk")}},
		{"CreateImage", &service.CreateImageInput{ImageBuilderName: new("b"), Name: new("i"), Tags: tags}, needs{also(tag, arn+"image/i")}},
		{"CreateUpdatedImage", &api.CreateUpdatedImageInput{ExistingImageName: new("i"), NewImageName: new("j"), NewImageTags: tags}, needs{unless("CreateUpdatedImage", arn+"image/j"), also(tag, arn+"image/j")}},
		{"CreateImportedImage", &api.CreateImportedImageInput{Name: new("j"), Tags: tags, IamRoleArn: new(role)}, needs{unless("CreateImportedImage", arn+"image/j"), also(tag, arn+"image/j"), also(pass, role)}},
		{"CopyImage", &api.CopyImageInput{SourceImageName: new("i"), DestinationImageName: new("j"), DestinationRegion: new("eu-west-1")},
			needs{unless("CopyImage", "arn:aws:appstream:eu-west-1:"+me+":image/j")}},
		{"CreateAppBlock", &api.CreateAppBlockInput{Name: new("a"), Tags: tags}, nil}, // the reference does not have it there
		{"CreateAppBlockBuilder", &api.CreateAppBlockBuilderInput{Name: new("a"), IamRoleArn: new(role)}, needs{also(pass, role)}},
		{"TagResource", &api.TagResourceInput{ResourceArn: new(arn + "fleet/pool"), Tags: tags}, nil},
		{"DescribeFleets", &api.DescribeFleetsInput{}, nil},
	} {
		if diff := cmp.Diff(test.want, f.DependentActions(test.operation, appstream.CallerFrom(as(me)), test.in)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.operation, diff)
		}
	}
}

// Policies see the tags of the caller's own resources, whatever they are, and of public ones; of others they see nothing.
func TestResourceTags(t *testing.T) {
	f := newFixture(t)
	blue := func(i *appstream.Image) { i.Tags = map[string]string{"team": "blue"} }
	f.addImage("", "public", appstream.ImageAvailable, blue)
	f.addImage(me, "mine", appstream.ImageAvailable, blue)
	f.addImage(other, "theirs", appstream.ImageAvailable, blue)
	f.running("plain")
	in := &api.CreateStackInput{Name: new("desk"), Tags: map[string]string{"team": "red"}}
	if _, err := f.CreateStack(as(me), in); err != nil {
		t.Fatal(err)
	}
	for arn, want := range map[string]map[string]string{
		"arn:aws:appstream:us-west-2::image/public":              {"team": "blue"},
		"arn:aws:appstream:us-west-2:" + me + ":image/mine":      {"team": "blue"},
		"arn:aws:appstream:eu-west-1:" + me + ":image/mine":      nil,
		"arn:aws:appstream:us-west-2:" + other + ":image/theirs": nil,
		"arn:aws:appstream:us-west-2:" + me + ":stack/desk":      {"team": "red"},
		"arn:aws:appstream:us-west-2:" + me + ":stack/*":         nil,
		"arn:aws:iam::" + me + ":role/r":                         nil,
		"*":                                                      nil,
	} {
		got, err := f.ResourceTags(context.Background(), appstream.CallerFrom(as(me)), arn)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", arn, err, diff)
		}
	}
	f.must(f.store.Close())
	if _, err := f.ResourceTags(context.Background(), appstream.CallerFrom(as(me)), "arn:aws:appstream:us-west-2::image/public"); err == nil {
		t.Error("a store that fails has no tags")
	}
}
