package service

import (
	"context"

	aws "github.com/aws/aws-sdk-go-v2/service/appstream"
)

// API is the AppStream API: the method set of AWS's own client without its option functions. Service has it, so that a
// missing operation does not compile; internal/api serves whatever has such methods.
type API interface {
	AssociateAppBlockBuilderAppBlock(context.Context, *aws.AssociateAppBlockBuilderAppBlockInput) (*aws.AssociateAppBlockBuilderAppBlockOutput, error)
	AssociateApplicationFleet(context.Context, *aws.AssociateApplicationFleetInput) (*aws.AssociateApplicationFleetOutput, error)
	AssociateApplicationToEntitlement(context.Context, *aws.AssociateApplicationToEntitlementInput) (*aws.AssociateApplicationToEntitlementOutput, error)
	AssociateFleet(context.Context, *aws.AssociateFleetInput) (*aws.AssociateFleetOutput, error)
	AssociateSoftwareToImageBuilder(context.Context, *aws.AssociateSoftwareToImageBuilderInput) (*aws.AssociateSoftwareToImageBuilderOutput, error)
	BatchAssociateUserStack(context.Context, *aws.BatchAssociateUserStackInput) (*aws.BatchAssociateUserStackOutput, error)
	BatchDisassociateUserStack(context.Context, *aws.BatchDisassociateUserStackInput) (*aws.BatchDisassociateUserStackOutput, error)
	CopyImage(context.Context, *aws.CopyImageInput) (*aws.CopyImageOutput, error)
	CreateAppBlock(context.Context, *aws.CreateAppBlockInput) (*aws.CreateAppBlockOutput, error)
	CreateAppBlockBuilder(context.Context, *aws.CreateAppBlockBuilderInput) (*aws.CreateAppBlockBuilderOutput, error)
	CreateAppBlockBuilderStreamingURL(context.Context, *aws.CreateAppBlockBuilderStreamingURLInput) (*aws.CreateAppBlockBuilderStreamingURLOutput, error)
	CreateApplication(context.Context, *aws.CreateApplicationInput) (*aws.CreateApplicationOutput, error)
	CreateDirectoryConfig(context.Context, *aws.CreateDirectoryConfigInput) (*aws.CreateDirectoryConfigOutput, error)
	CreateEntitlement(context.Context, *aws.CreateEntitlementInput) (*aws.CreateEntitlementOutput, error)
	CreateExportImageTask(context.Context, *aws.CreateExportImageTaskInput) (*aws.CreateExportImageTaskOutput, error)
	CreateFleet(context.Context, *aws.CreateFleetInput) (*aws.CreateFleetOutput, error)
	CreateImageBuilder(context.Context, *aws.CreateImageBuilderInput) (*aws.CreateImageBuilderOutput, error)
	CreateImageBuilderStreamingURL(context.Context, *aws.CreateImageBuilderStreamingURLInput) (*aws.CreateImageBuilderStreamingURLOutput, error)
	CreateImportedImage(context.Context, *aws.CreateImportedImageInput) (*aws.CreateImportedImageOutput, error)
	CreateStack(context.Context, *aws.CreateStackInput) (*aws.CreateStackOutput, error)
	CreateStreamingURL(context.Context, *aws.CreateStreamingURLInput) (*aws.CreateStreamingURLOutput, error)
	CreateThemeForStack(context.Context, *aws.CreateThemeForStackInput) (*aws.CreateThemeForStackOutput, error)
	CreateUpdatedImage(context.Context, *aws.CreateUpdatedImageInput) (*aws.CreateUpdatedImageOutput, error)
	CreateUsageReportSubscription(context.Context, *aws.CreateUsageReportSubscriptionInput) (*aws.CreateUsageReportSubscriptionOutput, error)
	CreateUser(context.Context, *aws.CreateUserInput) (*aws.CreateUserOutput, error)
	DeleteAppBlock(context.Context, *aws.DeleteAppBlockInput) (*aws.DeleteAppBlockOutput, error)
	DeleteAppBlockBuilder(context.Context, *aws.DeleteAppBlockBuilderInput) (*aws.DeleteAppBlockBuilderOutput, error)
	DeleteApplication(context.Context, *aws.DeleteApplicationInput) (*aws.DeleteApplicationOutput, error)
	DeleteDirectoryConfig(context.Context, *aws.DeleteDirectoryConfigInput) (*aws.DeleteDirectoryConfigOutput, error)
	DeleteEntitlement(context.Context, *aws.DeleteEntitlementInput) (*aws.DeleteEntitlementOutput, error)
	DeleteFleet(context.Context, *aws.DeleteFleetInput) (*aws.DeleteFleetOutput, error)
	DeleteImage(context.Context, *aws.DeleteImageInput) (*aws.DeleteImageOutput, error)
	DeleteImageBuilder(context.Context, *aws.DeleteImageBuilderInput) (*aws.DeleteImageBuilderOutput, error)
	DeleteImagePermissions(context.Context, *aws.DeleteImagePermissionsInput) (*aws.DeleteImagePermissionsOutput, error)
	DeleteStack(context.Context, *aws.DeleteStackInput) (*aws.DeleteStackOutput, error)
	DeleteThemeForStack(context.Context, *aws.DeleteThemeForStackInput) (*aws.DeleteThemeForStackOutput, error)
	DeleteUsageReportSubscription(context.Context, *aws.DeleteUsageReportSubscriptionInput) (*aws.DeleteUsageReportSubscriptionOutput, error)
	DeleteUser(context.Context, *aws.DeleteUserInput) (*aws.DeleteUserOutput, error)
	DescribeAppBlockBuilderAppBlockAssociations(context.Context, *aws.DescribeAppBlockBuilderAppBlockAssociationsInput) (*aws.DescribeAppBlockBuilderAppBlockAssociationsOutput, error)
	DescribeAppBlockBuilders(context.Context, *aws.DescribeAppBlockBuildersInput) (*aws.DescribeAppBlockBuildersOutput, error)
	DescribeAppBlocks(context.Context, *aws.DescribeAppBlocksInput) (*aws.DescribeAppBlocksOutput, error)
	DescribeAppLicenseUsage(context.Context, *aws.DescribeAppLicenseUsageInput) (*aws.DescribeAppLicenseUsageOutput, error)
	DescribeApplicationFleetAssociations(context.Context, *aws.DescribeApplicationFleetAssociationsInput) (*aws.DescribeApplicationFleetAssociationsOutput, error)
	DescribeApplications(context.Context, *aws.DescribeApplicationsInput) (*aws.DescribeApplicationsOutput, error)
	DescribeDirectoryConfigs(context.Context, *aws.DescribeDirectoryConfigsInput) (*aws.DescribeDirectoryConfigsOutput, error)
	DescribeEntitlements(context.Context, *aws.DescribeEntitlementsInput) (*aws.DescribeEntitlementsOutput, error)
	DescribeFleets(context.Context, *aws.DescribeFleetsInput) (*aws.DescribeFleetsOutput, error)
	DescribeImageBuilders(context.Context, *aws.DescribeImageBuildersInput) (*aws.DescribeImageBuildersOutput, error)
	DescribeImagePermissions(context.Context, *aws.DescribeImagePermissionsInput) (*aws.DescribeImagePermissionsOutput, error)
	DescribeImages(context.Context, *aws.DescribeImagesInput) (*aws.DescribeImagesOutput, error)
	DescribeSessions(context.Context, *aws.DescribeSessionsInput) (*aws.DescribeSessionsOutput, error)
	DescribeSoftwareAssociations(context.Context, *aws.DescribeSoftwareAssociationsInput) (*aws.DescribeSoftwareAssociationsOutput, error)
	DescribeStacks(context.Context, *aws.DescribeStacksInput) (*aws.DescribeStacksOutput, error)
	DescribeThemeForStack(context.Context, *aws.DescribeThemeForStackInput) (*aws.DescribeThemeForStackOutput, error)
	DescribeUsageReportSubscriptions(context.Context, *aws.DescribeUsageReportSubscriptionsInput) (*aws.DescribeUsageReportSubscriptionsOutput, error)
	DescribeUserStackAssociations(context.Context, *aws.DescribeUserStackAssociationsInput) (*aws.DescribeUserStackAssociationsOutput, error)
	DescribeUsers(context.Context, *aws.DescribeUsersInput) (*aws.DescribeUsersOutput, error)
	DisableUser(context.Context, *aws.DisableUserInput) (*aws.DisableUserOutput, error)
	DisassociateAppBlockBuilderAppBlock(context.Context, *aws.DisassociateAppBlockBuilderAppBlockInput) (*aws.DisassociateAppBlockBuilderAppBlockOutput, error)
	DisassociateApplicationFleet(context.Context, *aws.DisassociateApplicationFleetInput) (*aws.DisassociateApplicationFleetOutput, error)
	DisassociateApplicationFromEntitlement(context.Context, *aws.DisassociateApplicationFromEntitlementInput) (*aws.DisassociateApplicationFromEntitlementOutput, error)
	DisassociateFleet(context.Context, *aws.DisassociateFleetInput) (*aws.DisassociateFleetOutput, error)
	DisassociateSoftwareFromImageBuilder(context.Context, *aws.DisassociateSoftwareFromImageBuilderInput) (*aws.DisassociateSoftwareFromImageBuilderOutput, error)
	DrainSessionInstance(context.Context, *aws.DrainSessionInstanceInput) (*aws.DrainSessionInstanceOutput, error)
	EnableUser(context.Context, *aws.EnableUserInput) (*aws.EnableUserOutput, error)
	ExpireSession(context.Context, *aws.ExpireSessionInput) (*aws.ExpireSessionOutput, error)
	GetExportImageTask(context.Context, *aws.GetExportImageTaskInput) (*aws.GetExportImageTaskOutput, error)
	ListAssociatedFleets(context.Context, *aws.ListAssociatedFleetsInput) (*aws.ListAssociatedFleetsOutput, error)
	ListAssociatedStacks(context.Context, *aws.ListAssociatedStacksInput) (*aws.ListAssociatedStacksOutput, error)
	ListEntitledApplications(context.Context, *aws.ListEntitledApplicationsInput) (*aws.ListEntitledApplicationsOutput, error)
	ListExportImageTasks(context.Context, *aws.ListExportImageTasksInput) (*aws.ListExportImageTasksOutput, error)
	ListTagsForResource(context.Context, *aws.ListTagsForResourceInput) (*aws.ListTagsForResourceOutput, error)
	StartAppBlockBuilder(context.Context, *aws.StartAppBlockBuilderInput) (*aws.StartAppBlockBuilderOutput, error)
	StartFleet(context.Context, *aws.StartFleetInput) (*aws.StartFleetOutput, error)
	StartImageBuilder(context.Context, *aws.StartImageBuilderInput) (*aws.StartImageBuilderOutput, error)
	StartSoftwareDeploymentToImageBuilder(context.Context, *aws.StartSoftwareDeploymentToImageBuilderInput) (*aws.StartSoftwareDeploymentToImageBuilderOutput, error)
	StopAppBlockBuilder(context.Context, *aws.StopAppBlockBuilderInput) (*aws.StopAppBlockBuilderOutput, error)
	StopFleet(context.Context, *aws.StopFleetInput) (*aws.StopFleetOutput, error)
	StopImageBuilder(context.Context, *aws.StopImageBuilderInput) (*aws.StopImageBuilderOutput, error)
	TagResource(context.Context, *aws.TagResourceInput) (*aws.TagResourceOutput, error)
	UntagResource(context.Context, *aws.UntagResourceInput) (*aws.UntagResourceOutput, error)
	UpdateAppBlockBuilder(context.Context, *aws.UpdateAppBlockBuilderInput) (*aws.UpdateAppBlockBuilderOutput, error)
	UpdateApplication(context.Context, *aws.UpdateApplicationInput) (*aws.UpdateApplicationOutput, error)
	UpdateDirectoryConfig(context.Context, *aws.UpdateDirectoryConfigInput) (*aws.UpdateDirectoryConfigOutput, error)
	UpdateEntitlement(context.Context, *aws.UpdateEntitlementInput) (*aws.UpdateEntitlementOutput, error)
	UpdateFleet(context.Context, *aws.UpdateFleetInput) (*aws.UpdateFleetOutput, error)
	UpdateImagePermissions(context.Context, *aws.UpdateImagePermissionsInput) (*aws.UpdateImagePermissionsOutput, error)
	UpdateStack(context.Context, *aws.UpdateStackInput) (*aws.UpdateStackOutput, error)
	UpdateThemeForStack(context.Context, *aws.UpdateThemeForStackInput) (*aws.UpdateThemeForStackOutput, error)
}

var _ API = (*Service)(nil)

// Limits are constraints of inputs that AWS's model does not have, in the form of api.Service.Limits: what a list names is looked up one by one,
// the tags of Oriel's own operations are as those of AWS's, and there is a platform that AWS does not have.
const Limits = `
list StringList String - 1000
list ArnList Arn - 1000
enum PlatformType WINDOWS WINDOWS_SERVER_2016 WINDOWS_SERVER_2019 WINDOWS_SERVER_2022 WINDOWS_SERVER_2025 AMAZON_LINUX2 RHEL8 ROCKY_LINUX8 UBUNTU_PRO_2404 DEBIAN_12
enum AppBlockBuilderPlatformType WINDOWS_SERVER_2019 DEBIAN_12
structure CreateImageInput Tags:Tags
`
