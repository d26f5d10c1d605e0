package service

import (
	"context"
	"reflect"

	aws "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/oriel-project/oriel/internal/appstream"
)

// pending has the operations that Oriel does not perform yet. Whoever gives one to Service removes it here and from the
// list in docs/aws-divergences.md.
type pending struct{}

// Pending names the operations that Oriel does not perform yet, in alphabetical order.
func Pending() []string {
	var names []string
	for m := range reflect.TypeFor[pending]().Methods() {
		names = append(names, m.Name)
	}
	return names
}

func pendingOperation(name string) error {
	return appstream.Errorf(appstream.NotImplemented,
		"Oriel does not perform %s yet. docs/aws-divergences.md lists the operations that it performs.", name)
}

func (pending) AssociateAppBlockBuilderAppBlock(context.Context, *aws.AssociateAppBlockBuilderAppBlockInput) (*aws.AssociateAppBlockBuilderAppBlockOutput, error) {
	return nil, pendingOperation("AssociateAppBlockBuilderAppBlock")
}

func (pending) AssociateApplicationFleet(context.Context, *aws.AssociateApplicationFleetInput) (*aws.AssociateApplicationFleetOutput, error) {
	return nil, pendingOperation("AssociateApplicationFleet")
}

func (pending) AssociateApplicationToEntitlement(context.Context, *aws.AssociateApplicationToEntitlementInput) (*aws.AssociateApplicationToEntitlementOutput, error) {
	return nil, pendingOperation("AssociateApplicationToEntitlement")
}

func (pending) AssociateSoftwareToImageBuilder(context.Context, *aws.AssociateSoftwareToImageBuilderInput) (*aws.AssociateSoftwareToImageBuilderOutput, error) {
	return nil, pendingOperation("AssociateSoftwareToImageBuilder")
}

func (pending) BatchAssociateUserStack(context.Context, *aws.BatchAssociateUserStackInput) (*aws.BatchAssociateUserStackOutput, error) {
	return nil, pendingOperation("BatchAssociateUserStack")
}

func (pending) BatchDisassociateUserStack(context.Context, *aws.BatchDisassociateUserStackInput) (*aws.BatchDisassociateUserStackOutput, error) {
	return nil, pendingOperation("BatchDisassociateUserStack")
}

func (pending) CreateAppBlock(context.Context, *aws.CreateAppBlockInput) (*aws.CreateAppBlockOutput, error) {
	return nil, pendingOperation("CreateAppBlock")
}

func (pending) CreateAppBlockBuilder(context.Context, *aws.CreateAppBlockBuilderInput) (*aws.CreateAppBlockBuilderOutput, error) {
	return nil, pendingOperation("CreateAppBlockBuilder")
}

func (pending) CreateAppBlockBuilderStreamingURL(context.Context, *aws.CreateAppBlockBuilderStreamingURLInput) (*aws.CreateAppBlockBuilderStreamingURLOutput, error) {
	return nil, pendingOperation("CreateAppBlockBuilderStreamingURL")
}

func (pending) CreateApplication(context.Context, *aws.CreateApplicationInput) (*aws.CreateApplicationOutput, error) {
	return nil, pendingOperation("CreateApplication")
}

func (pending) CreateDirectoryConfig(context.Context, *aws.CreateDirectoryConfigInput) (*aws.CreateDirectoryConfigOutput, error) {
	return nil, pendingOperation("CreateDirectoryConfig")
}

func (pending) CreateEntitlement(context.Context, *aws.CreateEntitlementInput) (*aws.CreateEntitlementOutput, error) {
	return nil, pendingOperation("CreateEntitlement")
}

func (pending) CreateImportedImage(context.Context, *aws.CreateImportedImageInput) (*aws.CreateImportedImageOutput, error) {
	return nil, pendingOperation("CreateImportedImage")
}

func (pending) CreateThemeForStack(context.Context, *aws.CreateThemeForStackInput) (*aws.CreateThemeForStackOutput, error) {
	return nil, pendingOperation("CreateThemeForStack")
}

func (pending) CreateUpdatedImage(context.Context, *aws.CreateUpdatedImageInput) (*aws.CreateUpdatedImageOutput, error) {
	return nil, pendingOperation("CreateUpdatedImage")
}

func (pending) CreateUsageReportSubscription(context.Context, *aws.CreateUsageReportSubscriptionInput) (*aws.CreateUsageReportSubscriptionOutput, error) {
	return nil, pendingOperation("CreateUsageReportSubscription")
}

func (pending) CreateUser(context.Context, *aws.CreateUserInput) (*aws.CreateUserOutput, error) {
	return nil, pendingOperation("CreateUser")
}

func (pending) DeleteAppBlock(context.Context, *aws.DeleteAppBlockInput) (*aws.DeleteAppBlockOutput, error) {
	return nil, pendingOperation("DeleteAppBlock")
}

func (pending) DeleteAppBlockBuilder(context.Context, *aws.DeleteAppBlockBuilderInput) (*aws.DeleteAppBlockBuilderOutput, error) {
	return nil, pendingOperation("DeleteAppBlockBuilder")
}

func (pending) DeleteApplication(context.Context, *aws.DeleteApplicationInput) (*aws.DeleteApplicationOutput, error) {
	return nil, pendingOperation("DeleteApplication")
}

func (pending) DeleteDirectoryConfig(context.Context, *aws.DeleteDirectoryConfigInput) (*aws.DeleteDirectoryConfigOutput, error) {
	return nil, pendingOperation("DeleteDirectoryConfig")
}

func (pending) DeleteEntitlement(context.Context, *aws.DeleteEntitlementInput) (*aws.DeleteEntitlementOutput, error) {
	return nil, pendingOperation("DeleteEntitlement")
}

func (pending) DeleteThemeForStack(context.Context, *aws.DeleteThemeForStackInput) (*aws.DeleteThemeForStackOutput, error) {
	return nil, pendingOperation("DeleteThemeForStack")
}

func (pending) DeleteUsageReportSubscription(context.Context, *aws.DeleteUsageReportSubscriptionInput) (*aws.DeleteUsageReportSubscriptionOutput, error) {
	return nil, pendingOperation("DeleteUsageReportSubscription")
}

func (pending) DeleteUser(context.Context, *aws.DeleteUserInput) (*aws.DeleteUserOutput, error) {
	return nil, pendingOperation("DeleteUser")
}

func (pending) DescribeAppBlockBuilderAppBlockAssociations(context.Context, *aws.DescribeAppBlockBuilderAppBlockAssociationsInput) (*aws.DescribeAppBlockBuilderAppBlockAssociationsOutput, error) {
	return nil, pendingOperation("DescribeAppBlockBuilderAppBlockAssociations")
}

func (pending) DescribeAppBlockBuilders(context.Context, *aws.DescribeAppBlockBuildersInput) (*aws.DescribeAppBlockBuildersOutput, error) {
	return nil, pendingOperation("DescribeAppBlockBuilders")
}

func (pending) DescribeAppBlocks(context.Context, *aws.DescribeAppBlocksInput) (*aws.DescribeAppBlocksOutput, error) {
	return nil, pendingOperation("DescribeAppBlocks")
}

func (pending) DescribeAppLicenseUsage(context.Context, *aws.DescribeAppLicenseUsageInput) (*aws.DescribeAppLicenseUsageOutput, error) {
	return nil, pendingOperation("DescribeAppLicenseUsage")
}

func (pending) DescribeApplicationFleetAssociations(context.Context, *aws.DescribeApplicationFleetAssociationsInput) (*aws.DescribeApplicationFleetAssociationsOutput, error) {
	return nil, pendingOperation("DescribeApplicationFleetAssociations")
}

func (pending) DescribeApplications(context.Context, *aws.DescribeApplicationsInput) (*aws.DescribeApplicationsOutput, error) {
	return nil, pendingOperation("DescribeApplications")
}

func (pending) DescribeDirectoryConfigs(context.Context, *aws.DescribeDirectoryConfigsInput) (*aws.DescribeDirectoryConfigsOutput, error) {
	return nil, pendingOperation("DescribeDirectoryConfigs")
}

func (pending) DescribeEntitlements(context.Context, *aws.DescribeEntitlementsInput) (*aws.DescribeEntitlementsOutput, error) {
	return nil, pendingOperation("DescribeEntitlements")
}

func (pending) DescribeSoftwareAssociations(context.Context, *aws.DescribeSoftwareAssociationsInput) (*aws.DescribeSoftwareAssociationsOutput, error) {
	return nil, pendingOperation("DescribeSoftwareAssociations")
}

func (pending) DescribeThemeForStack(context.Context, *aws.DescribeThemeForStackInput) (*aws.DescribeThemeForStackOutput, error) {
	return nil, pendingOperation("DescribeThemeForStack")
}

func (pending) DescribeUsageReportSubscriptions(context.Context, *aws.DescribeUsageReportSubscriptionsInput) (*aws.DescribeUsageReportSubscriptionsOutput, error) {
	return nil, pendingOperation("DescribeUsageReportSubscriptions")
}

func (pending) DescribeUserStackAssociations(context.Context, *aws.DescribeUserStackAssociationsInput) (*aws.DescribeUserStackAssociationsOutput, error) {
	return nil, pendingOperation("DescribeUserStackAssociations")
}

func (pending) DescribeUsers(context.Context, *aws.DescribeUsersInput) (*aws.DescribeUsersOutput, error) {
	return nil, pendingOperation("DescribeUsers")
}

func (pending) DisableUser(context.Context, *aws.DisableUserInput) (*aws.DisableUserOutput, error) {
	return nil, pendingOperation("DisableUser")
}

func (pending) DisassociateAppBlockBuilderAppBlock(context.Context, *aws.DisassociateAppBlockBuilderAppBlockInput) (*aws.DisassociateAppBlockBuilderAppBlockOutput, error) {
	return nil, pendingOperation("DisassociateAppBlockBuilderAppBlock")
}

func (pending) DisassociateApplicationFleet(context.Context, *aws.DisassociateApplicationFleetInput) (*aws.DisassociateApplicationFleetOutput, error) {
	return nil, pendingOperation("DisassociateApplicationFleet")
}

func (pending) DisassociateApplicationFromEntitlement(context.Context, *aws.DisassociateApplicationFromEntitlementInput) (*aws.DisassociateApplicationFromEntitlementOutput, error) {
	return nil, pendingOperation("DisassociateApplicationFromEntitlement")
}

func (pending) DisassociateSoftwareFromImageBuilder(context.Context, *aws.DisassociateSoftwareFromImageBuilderInput) (*aws.DisassociateSoftwareFromImageBuilderOutput, error) {
	return nil, pendingOperation("DisassociateSoftwareFromImageBuilder")
}

func (pending) EnableUser(context.Context, *aws.EnableUserInput) (*aws.EnableUserOutput, error) {
	return nil, pendingOperation("EnableUser")
}

func (pending) ListEntitledApplications(context.Context, *aws.ListEntitledApplicationsInput) (*aws.ListEntitledApplicationsOutput, error) {
	return nil, pendingOperation("ListEntitledApplications")
}

func (pending) StartAppBlockBuilder(context.Context, *aws.StartAppBlockBuilderInput) (*aws.StartAppBlockBuilderOutput, error) {
	return nil, pendingOperation("StartAppBlockBuilder")
}

func (pending) StartSoftwareDeploymentToImageBuilder(context.Context, *aws.StartSoftwareDeploymentToImageBuilderInput) (*aws.StartSoftwareDeploymentToImageBuilderOutput, error) {
	return nil, pendingOperation("StartSoftwareDeploymentToImageBuilder")
}

func (pending) StopAppBlockBuilder(context.Context, *aws.StopAppBlockBuilderInput) (*aws.StopAppBlockBuilderOutput, error) {
	return nil, pendingOperation("StopAppBlockBuilder")
}

func (pending) UpdateAppBlockBuilder(context.Context, *aws.UpdateAppBlockBuilderInput) (*aws.UpdateAppBlockBuilderOutput, error) {
	return nil, pendingOperation("UpdateAppBlockBuilder")
}

func (pending) UpdateApplication(context.Context, *aws.UpdateApplicationInput) (*aws.UpdateApplicationOutput, error) {
	return nil, pendingOperation("UpdateApplication")
}

func (pending) UpdateDirectoryConfig(context.Context, *aws.UpdateDirectoryConfigInput) (*aws.UpdateDirectoryConfigOutput, error) {
	return nil, pendingOperation("UpdateDirectoryConfig")
}

func (pending) UpdateEntitlement(context.Context, *aws.UpdateEntitlementInput) (*aws.UpdateEntitlementOutput, error) {
	return nil, pendingOperation("UpdateEntitlement")
}

func (pending) UpdateThemeForStack(context.Context, *aws.UpdateThemeForStackInput) (*aws.UpdateThemeForStackOutput, error) {
	return nil, pendingOperation("UpdateThemeForStack")
}
