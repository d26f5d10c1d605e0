package service_test

import (
	"reflect"
	"testing"

	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/service"
)

// A policy is asked about exactly these resources. A name of an image stands for the caller's own if there is one, else for the public one;
// what does not exist is the caller's own, so that the answer to a foreign name does not depend on what others have.
func TestResources(t *testing.T) {
	f := newFixture(t)
	f.addImage("", "both", appstream.ImageAvailable)
	f.addImage(me, "both", appstream.ImageAvailable)
	f.addImage(me, "mine", appstream.ImageAvailable)
	f.addImage(other, "theirs", appstream.ImageAvailable)
	f.running("hello")
	const (
		builder = "arn:aws:appstream:us-west-2:" + me + ":image-builder/"
		own     = "arn:aws:appstream:us-west-2:" + me + ":image/"
		fleet   = "arn:aws:appstream:us-west-2:" + me + ":fleet/"
		stack   = "arn:aws:appstream:us-west-2:" + me + ":stack/"
		public  = "arn:aws:appstream:us-west-2::image/"
		foreign = "arn:aws:appstream:eu-west-1:" + other + ":image/theirs"

		block        = "arn:aws:appstream:us-west-2:" + me + ":app-block/"
		blockBuilder = "arn:aws:appstream:us-west-2:" + me + ":app-block-builder/"
		app          = "arn:aws:appstream:us-west-2:" + me + ":application/"
	)
	seen := map[string]bool{}
	for _, test := range []struct {
		operation string
		in        any
		want      []string
	}{
		{"CreateImageBuilder", &api.CreateImageBuilderInput{Name: new("hello"), ImageName: new("base")}, []string{builder + "hello", public + "base"}},
		{"CreateImageBuilder", &api.CreateImageBuilderInput{Name: new("hello"), ImageName: new("mine")}, []string{builder + "hello", own + "mine"}},
		{"CreateImageBuilder", &api.CreateImageBuilderInput{Name: new("hello"), ImageName: new("both")}, []string{builder + "hello", own + "both"}},
		{"CreateImageBuilder", &api.CreateImageBuilderInput{Name: new("hello"), ImageName: new("nope")}, []string{builder + "hello", own + "nope"}},
		{"CreateImageBuilder", &api.CreateImageBuilderInput{Name: new("hello"), ImageName: new("theirs")}, []string{builder + "hello", own + "theirs"}},
		{"CreateImageBuilder", &api.CreateImageBuilderInput{Name: new("hello"), ImageArn: new(foreign)}, []string{builder + "hello", foreign}},
		{"CreateImageBuilder", &api.CreateImageBuilderInput{Name: new("hello"), ImageArn: new(foreign), ImageName: new("base")}, []string{builder + "hello", foreign, public + "base"}},
		{"DescribeImageBuilders", &api.DescribeImageBuildersInput{Names: []string{"hello", "two"}}, []string{builder + "hello", builder + "two"}},
		{"DescribeImageBuilders", &api.DescribeImageBuildersInput{}, []string{builder + "*"}},
		{"StartImageBuilder", &api.StartImageBuilderInput{Name: new("hello")}, []string{builder + "hello"}},
		{"StopImageBuilder", &api.StopImageBuilderInput{Name: new("hello")}, []string{builder + "hello"}},
		{"DeleteImageBuilder", &api.DeleteImageBuilderInput{Name: new("hello")}, []string{builder + "hello"}},
		{"CreateImageBuilderStreamingURL", &api.CreateImageBuilderStreamingURLInput{Name: new("hello")}, []string{builder + "hello"}},
		{"DescribeImages", &api.DescribeImagesInput{Names: []string{"base", "mine", "both", "nope"}}, []string{public + "base", own + "mine", own + "both", own + "nope"}},
		{"DescribeImages", &api.DescribeImagesInput{Arns: []string{foreign, public + "base"}}, []string{foreign, public + "base"}},
		{"DescribeImages", &api.DescribeImagesInput{Arns: []string{foreign}, Names: []string{"base"}}, []string{foreign, public + "base"}},
		{"DescribeImages", &api.DescribeImagesInput{}, []string{own + "*"}},
		{"DeleteImage", &api.DeleteImageInput{Name: new("base")}, []string{own + "base"}}, // nobody deletes a public image
		{"DescribeImagePermissions", &api.DescribeImagePermissionsInput{Name: new("mine")}, []string{own + "mine"}},
		{"UpdateImagePermissions", &api.UpdateImagePermissionsInput{Name: new("mine"), SharedAccountId: new(other)}, []string{own + "mine"}},
		{"DeleteImagePermissions", &api.DeleteImagePermissionsInput{Name: new("mine"), SharedAccountId: new(other)}, []string{own + "mine"}},
		{"TagResource", &api.TagResourceInput{ResourceArn: new(foreign)}, []string{foreign}},
		{"UntagResource", &api.UntagResourceInput{ResourceArn: new(foreign), TagKeys: []string{"k"}}, []string{foreign}},
		{"ListTagsForResource", &api.ListTagsForResourceInput{ResourceArn: new(foreign)}, []string{foreign}},
		{"CreateFederatedStreamingURL", &service.CreateFederatedStreamingURLInput{FleetName: new("pool"), StackName: new("desk")}, []string{fleet + "pool", stack + "desk"}},
		{"CreateInvitation", &service.CreateInvitationInput{UserName: new("jane@example.com")}, []string{"arn:aws:appstream:us-west-2:" + me + ":user/jane@example.com"}},
		{"CreateImage", &service.CreateImageInput{ImageBuilderName: new("hello"), Name: new("base")}, []string{builder + "hello", own + "base"}},
		{"StartImageBuilderJob", &service.StartImageBuilderJobInput{ImageBuilderName: new("hello")}, []string{builder + "hello"}},
		{"DescribeImageBuilderJob", &service.DescribeImageBuilderJobInput{ImageBuilderName: new("hello")}, []string{builder + "hello"}},
		{"StopImageBuilderJob", &service.StopImageBuilderJobInput{ImageBuilderName: new("hello")}, []string{builder + "hello"}},
		{"PutImageBuilderFile", &service.PutImageBuilderFileInput{ImageBuilderName: new("hello")}, []string{builder + "hello"}},
		{"CreateFleet", &api.CreateFleetInput{Name: new("pool"), ImageName: new("base")}, []string{fleet + "pool", public + "base"}},
		{"UpdateFleet", &api.UpdateFleetInput{Name: new("pool"), ImageArn: new(foreign)}, []string{fleet + "pool", foreign}},
		{"UpdateFleet", &api.UpdateFleetInput{Name: new("pool")}, []string{fleet + "pool"}},
		{"DescribeFleets", &api.DescribeFleetsInput{Names: []string{"a", "b"}}, []string{fleet + "a", fleet + "b"}},
		{"DescribeFleets", &api.DescribeFleetsInput{}, []string{fleet + "*"}},
		{"StartFleet", &api.StartFleetInput{Name: new("pool")}, []string{fleet + "pool"}},
		{"StopFleet", &api.StopFleetInput{Name: new("pool")}, []string{fleet + "pool"}},
		{"DeleteFleet", &api.DeleteFleetInput{Name: new("pool")}, []string{fleet + "pool"}},
		{"CreateStack", &api.CreateStackInput{Name: new("desk")}, []string{stack + "desk"}},
		{"UpdateStack", &api.UpdateStackInput{Name: new("desk")}, []string{stack + "desk"}},
		{"DeleteStack", &api.DeleteStackInput{Name: new("desk")}, []string{stack + "desk"}},
		{"DescribeStacks", &api.DescribeStacksInput{Names: []string{"desk"}}, []string{stack + "desk"}},
		{"DescribeStacks", &api.DescribeStacksInput{}, []string{stack + "*"}},
		{"AssociateFleet", &api.AssociateFleetInput{FleetName: new("pool"), StackName: new("desk")}, []string{fleet + "pool", stack + "desk"}},
		{"DisassociateFleet", &api.DisassociateFleetInput{FleetName: new("pool"), StackName: new("desk")}, []string{fleet + "pool", stack + "desk"}},
		{"ListAssociatedFleets", &api.ListAssociatedFleetsInput{StackName: new("desk")}, []string{stack + "desk"}},
		{"ListAssociatedStacks", &api.ListAssociatedStacksInput{FleetName: new("pool")}, []string{fleet + "pool"}},
		{"CreateStreamingURL", &api.CreateStreamingURLInput{FleetName: new("pool"), StackName: new("desk"), UserId: new("ann")}, []string{fleet + "pool", stack + "desk"}},
		{"DescribeSessions", &api.DescribeSessionsInput{FleetName: new("pool"), StackName: new("desk")}, []string{fleet + "pool", stack + "desk"}},
		{"ExpireSession", &api.ExpireSessionInput{SessionId: new("s")}, nil},
		{"DrainSessionInstance", &api.DrainSessionInstanceInput{SessionId: new("s")}, nil},

		{"CopyImage", &api.CopyImageInput{SourceImageName: new("mine"), DestinationImageName: new("copy"), DestinationRegion: new("eu-west-1")}, []string{own + "mine"}},
		{"CreateUpdatedImage", &api.CreateUpdatedImageInput{ExistingImageName: new("mine"), NewImageName: new("newer")}, []string{own + "mine"}},
		{"CreateExportImageTask", &api.CreateExportImageTaskInput{ImageName: new("mine"), AmiName: new("ami")}, []string{own + "mine"}},
		{"GetExportImageTask", &api.GetExportImageTaskInput{TaskId: new("t")}, nil},
		{"ListExportImageTasks", &api.ListExportImageTasksInput{}, nil},
		{"CreateImportedImage", &api.CreateImportedImageInput{Name: new("new")}, nil},
		{"AssociateSoftwareToImageBuilder", &api.AssociateSoftwareToImageBuilderInput{ImageBuilderName: new("hello"), SoftwareNames: []string{"s"}}, []string{builder + "hello"}},
		{"DisassociateSoftwareFromImageBuilder", &api.DisassociateSoftwareFromImageBuilderInput{ImageBuilderName: new("hello")}, []string{builder + "hello"}},
		{"StartSoftwareDeploymentToImageBuilder", &api.StartSoftwareDeploymentToImageBuilderInput{ImageBuilderName: new("hello")}, []string{builder + "hello"}},
		{"DescribeSoftwareAssociations", &api.DescribeSoftwareAssociationsInput{AssociatedResource: new(builder + "hello")}, []string{builder + "hello"}},
		{"DescribeAppLicenseUsage", &api.DescribeAppLicenseUsageInput{BillingPeriod: new("2026-11")}, nil},
		{"CreateEntitlement", &api.CreateEntitlementInput{Name: new("e"), StackName: new("desk")}, []string{stack + "desk"}},
		{"UpdateEntitlement", &api.UpdateEntitlementInput{Name: new("e"), StackName: new("desk")}, []string{stack + "desk"}},
		{"DeleteEntitlement", &api.DeleteEntitlementInput{Name: new("e"), StackName: new("desk")}, []string{stack + "desk"}},
		{"DescribeEntitlements", &api.DescribeEntitlementsInput{StackName: new("desk")}, []string{stack + "desk"}},
		{"ListEntitledApplications", &api.ListEntitledApplicationsInput{EntitlementName: new("e"), StackName: new("desk")}, []string{stack + "desk"}},
		{"AssociateApplicationToEntitlement", &api.AssociateApplicationToEntitlementInput{EntitlementName: new("e"), StackName: new("desk")}, []string{stack + "desk"}},
		{"DisassociateApplicationFromEntitlement", &api.DisassociateApplicationFromEntitlementInput{EntitlementName: new("e"), StackName: new("desk")}, []string{stack + "desk"}},
		{"CreateThemeForStack", &api.CreateThemeForStackInput{StackName: new("desk")}, []string{stack + "desk"}},
		{"UpdateThemeForStack", &api.UpdateThemeForStackInput{StackName: new("desk")}, []string{stack + "desk"}},
		{"DeleteThemeForStack", &api.DeleteThemeForStackInput{StackName: new("desk")}, []string{stack + "desk"}},
		{"DescribeThemeForStack", &api.DescribeThemeForStackInput{StackName: new("desk")}, []string{stack + "desk"}},
		{"BatchAssociateUserStack", &api.BatchAssociateUserStackInput{UserStackAssociations: []types.UserStackAssociation{{StackName: new("desk")}, {StackName: new("other")}, {StackName: new("desk")}}},
			[]string{stack + "desk", stack + "other"}},
		{"BatchDisassociateUserStack", &api.BatchDisassociateUserStackInput{UserStackAssociations: []types.UserStackAssociation{{StackName: new("desk")}}}, []string{stack + "desk"}},
		{"DescribeUserStackAssociations", &api.DescribeUserStackAssociationsInput{StackName: new("desk")}, []string{stack + "desk"}},
		{"DescribeUserStackAssociations", &api.DescribeUserStackAssociationsInput{UserName: new("u")}, nil},
		{"CreateAppBlock", &api.CreateAppBlockInput{Name: new("a")}, nil},
		{"DeleteAppBlock", &api.DeleteAppBlockInput{Name: new("a")}, []string{block + "a"}},
		{"DescribeAppBlocks", &api.DescribeAppBlocksInput{Arns: []string{block + "a", foreign}}, []string{block + "a", foreign}},
		{"DescribeAppBlocks", &api.DescribeAppBlocksInput{}, []string{block + "*"}},
		{"CreateAppBlockBuilder", &api.CreateAppBlockBuilderInput{Name: new("a")}, []string{blockBuilder + "a"}},
		{"UpdateAppBlockBuilder", &api.UpdateAppBlockBuilderInput{Name: new("a")}, []string{blockBuilder + "a"}},
		{"StartAppBlockBuilder", &api.StartAppBlockBuilderInput{Name: new("a")}, []string{blockBuilder + "a"}},
		{"StopAppBlockBuilder", &api.StopAppBlockBuilderInput{Name: new("a")}, []string{blockBuilder + "a"}},
		{"DeleteAppBlockBuilder", &api.DeleteAppBlockBuilderInput{Name: new("a")}, []string{blockBuilder + "a"}},
		{"CreateAppBlockBuilderStreamingURL", &api.CreateAppBlockBuilderStreamingURLInput{AppBlockBuilderName: new("a")}, []string{blockBuilder + "a"}},
		{"DescribeAppBlockBuilders", &api.DescribeAppBlockBuildersInput{Names: []string{"a"}}, []string{blockBuilder + "a"}},
		{"DescribeAppBlockBuilders", &api.DescribeAppBlockBuildersInput{}, []string{blockBuilder + "*"}},
		{"CreateAppBlockPackage", &service.CreateAppBlockPackageInput{AppBlockBuilderName: new("a")}, []string{blockBuilder + "a"}},
		{"AssociateAppBlockBuilderAppBlock", &api.AssociateAppBlockBuilderAppBlockInput{AppBlockArn: new(block + "a"), AppBlockBuilderName: new("b")}, []string{block + "a", blockBuilder + "b"}},
		{"DisassociateAppBlockBuilderAppBlock", &api.DisassociateAppBlockBuilderAppBlockInput{AppBlockArn: new(block + "a"), AppBlockBuilderName: new("b")}, []string{block + "a", blockBuilder + "b"}},
		{"DescribeAppBlockBuilderAppBlockAssociations", &api.DescribeAppBlockBuilderAppBlockAssociationsInput{AppBlockArn: new(block + "a"), AppBlockBuilderName: new("b")}, []string{block + "a", blockBuilder + "b"}},
		{"DescribeAppBlockBuilderAppBlockAssociations", &api.DescribeAppBlockBuilderAppBlockAssociationsInput{}, nil},
		{"CreateApplication", &api.CreateApplicationInput{Name: new("a"), AppBlockArn: new(block + "a")}, []string{block + "a"}},
		{"UpdateApplication", &api.UpdateApplicationInput{Name: new("a"), AppBlockArn: new(block + "a")}, []string{app + "a", block + "a"}},
		{"UpdateApplication", &api.UpdateApplicationInput{Name: new("a")}, []string{app + "a"}},
		{"DeleteApplication", &api.DeleteApplicationInput{Name: new("a")}, []string{app + "a"}},
		{"DescribeApplications", &api.DescribeApplicationsInput{Arns: []string{app + "a"}}, []string{app + "a"}},
		{"DescribeApplications", &api.DescribeApplicationsInput{}, []string{app + "*"}},
		{"AssociateApplicationFleet", &api.AssociateApplicationFleetInput{ApplicationArn: new(app + "a"), FleetName: new("pool")}, []string{app + "a", fleet + "pool"}},
		{"DisassociateApplicationFleet", &api.DisassociateApplicationFleetInput{ApplicationArn: new(app + "a"), FleetName: new("pool")}, []string{app + "a", fleet + "pool"}},
		{"DescribeApplicationFleetAssociations", &api.DescribeApplicationFleetAssociationsInput{FleetName: new("pool")}, []string{fleet + "pool"}},
		{"CreateDirectoryConfig", &api.CreateDirectoryConfigInput{DirectoryName: new("d")}, nil},
		{"UpdateDirectoryConfig", &api.UpdateDirectoryConfigInput{DirectoryName: new("d")}, nil},
		{"DeleteDirectoryConfig", &api.DeleteDirectoryConfigInput{DirectoryName: new("d")}, nil},
		{"DescribeDirectoryConfigs", &api.DescribeDirectoryConfigsInput{}, nil},
		{"CreateUser", &api.CreateUserInput{UserName: new("u")}, nil},
		{"DeleteUser", &api.DeleteUserInput{UserName: new("u")}, nil},
		{"EnableUser", &api.EnableUserInput{UserName: new("u")}, nil},
		{"DisableUser", &api.DisableUserInput{UserName: new("u")}, nil},
		{"DescribeUsers", &api.DescribeUsersInput{}, nil},
		{"CreateUsageReportSubscription", &api.CreateUsageReportSubscriptionInput{}, nil},
		{"DeleteUsageReportSubscription", &api.DeleteUsageReportSubscriptionInput{}, nil},
		{"DescribeUsageReportSubscriptions", &api.DescribeUsageReportSubscriptionsInput{}, nil},
	} {
		seen[test.operation] = true
		if diff := cmp.Diff(test.want, f.Resources(test.operation, appstream.CallerFrom(as(me)), test.in)); diff != "" {
			t.Errorf("%s %+v (-want +got):\n%s", test.operation, test.in, diff)
		}
	}
	for _, operations := range []reflect.Type{reflect.TypeFor[service.API](), reflect.TypeFor[service.Extensions]()} {
		for m := range operations.Methods() {
			if !seen[m.Name] {
				t.Errorf("%s is not in this table: which resources is a policy asked about?", m.Name)
			}
		}
	}
}

// The names that a policy is asked about are not written over those of the input.
func TestResourcesLeavesTheInput(t *testing.T) {
	f := newFixture(t)
	names, arns := []string{"a", "b"}, append(make([]string, 0, 9), "arn")
	f.Resources("DescribeImageBuilders", appstream.CallerFrom(as(me)), &api.DescribeImageBuildersInput{Names: names})
	f.Resources("DescribeImages", appstream.CallerFrom(as(me)), &api.DescribeImagesInput{Arns: arns, Names: names})
	if diff := cmp.Diff([]string{"a", "b", "arn", ""}, append(names, arns[:2]...)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
