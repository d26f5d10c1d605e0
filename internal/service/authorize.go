package service

import (
	"context"
	"errors"
	"reflect"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// Resources names the resources, as ARNs, that an operation's input is about: what a policy must allow the operation on. They are those of AWS's
// service authorization reference, and the ones that a Describe names. Empty means that the operation is about no resource in particular ("*").
func (s *Service) Resources(operation string, c appstream.Caller, in any) []string {
	member := func(name string) []string { return stringsOf(reflect.Indirect(reflect.ValueOf(in)).FieldByName(name)) }
	arns := func(noun appstream.Noun, names ...string) []string {
		for n, name := range names {
			names[n] = key(c, noun, name).ARN()
		}
		return names
	}
	namedOrAll := func(noun appstream.Noun) []string {
		if list := append(member("Arns"), arns(noun, member("Names")...)...); len(list) > 0 {
			return list
		}
		return arns(noun, "*")
	}
	withImage := func(list []string) []string {
		list = append(list, member("ImageArn")...)
		for _, name := range member("ImageName") {
			list = append(list, s.imageNamed(c, name).ARN())
		}
		return list
	}
	switch operation {
	case "CreateImageBuilder":
		return withImage(arns(appstream.NounImageBuilder, member("Name")...))
	case "DescribeImageBuilders":
		return namedOrAll(appstream.NounImageBuilder)
	case "StartImageBuilder", "StopImageBuilder", "DeleteImageBuilder", "CreateImageBuilderStreamingURL":
		return arns(appstream.NounImageBuilder, member("Name")...)
	case "DescribeImages":
		list := member("Arns")
		for _, name := range member("Names") {
			list = append(list, s.imageNamed(c, name).ARN())
		}
		if len(list) > 0 {
			return list
		}
		return arns(appstream.NounImage, "*")
	case "DeleteImage", "DescribeImagePermissions", "UpdateImagePermissions", "DeleteImagePermissions":
		return arns(appstream.NounImage, member("Name")...)
	case "CreateFleet", "UpdateFleet":
		return withImage(arns(appstream.NounFleet, member("Name")...))
	case "DescribeFleets":
		return namedOrAll(appstream.NounFleet)
	case "StartFleet", "StopFleet", "DeleteFleet":
		return arns(appstream.NounFleet, member("Name")...)
	case "DescribeStacks":
		return namedOrAll(appstream.NounStack)
	case "CreateStack", "UpdateStack", "DeleteStack":
		return arns(appstream.NounStack, member("Name")...)
	case "AssociateFleet", "DisassociateFleet", "ListAssociatedFleets", "ListAssociatedStacks", "CreateStreamingURL", "CreateFederatedStreamingURL", "DescribeSessions":
		return append(arns(appstream.NounFleet, member("FleetName")...), arns(appstream.NounStack, member("StackName")...)...)
	case "TagResource", "UntagResource", "ListTagsForResource":
		return member("ResourceArn")
	case "CopyImage":
		return arns(appstream.NounImage, member("SourceImageName")...)
	case "CreateUpdatedImage":
		return arns(appstream.NounImage, member("ExistingImageName")...)
	case "CreateExportImageTask":
		return arns(appstream.NounImage, member("ImageName")...)
	case "StartImageBuilderJob", "DescribeImageBuilderJob", "StopImageBuilderJob", "PutImageBuilderFile",
		"AssociateSoftwareToImageBuilder", "DisassociateSoftwareFromImageBuilder", "StartSoftwareDeploymentToImageBuilder":
		return arns(appstream.NounImageBuilder, member("ImageBuilderName")...)
	case "DescribeSoftwareAssociations":
		return member("AssociatedResource")
	case "CreateEntitlement", "UpdateEntitlement", "DeleteEntitlement", "DescribeEntitlements", "ListEntitledApplications",
		"AssociateApplicationToEntitlement", "DisassociateApplicationFromEntitlement",
		"CreateThemeForStack", "UpdateThemeForStack", "DeleteThemeForStack", "DescribeThemeForStack":
		return arns(appstream.NounStack, member("StackName")...)
	case "BatchAssociateUserStack", "BatchDisassociateUserStack":
		var names []string
		for _, a := range reflect.Indirect(reflect.ValueOf(in)).FieldByName("UserStackAssociations").Interface().([]types.UserStackAssociation) {
			names = append(names, value(a.StackName))
		}
		slices.Sort(names)
		return arns(appstream.NounStack, slices.Compact(names)...)
	case "DescribeUserStackAssociations":
		return arns(appstream.NounStack, member("StackName")...)
	case "DescribeAppBlocks":
		return namedOrAll(appstream.NounAppBlock)
	case "DeleteAppBlock":
		return arns(appstream.NounAppBlock, member("Name")...)
	case "DescribeAppBlockBuilders":
		return namedOrAll(appstream.NounAppBlockBuilder)
	case "CreateAppBlockBuilder", "UpdateAppBlockBuilder", "StartAppBlockBuilder", "StopAppBlockBuilder", "DeleteAppBlockBuilder":
		return arns(appstream.NounAppBlockBuilder, member("Name")...)
	case "CreateAppBlockBuilderStreamingURL", "CreateAppBlockPackage":
		return arns(appstream.NounAppBlockBuilder, member("AppBlockBuilderName")...)
	case "AssociateAppBlockBuilderAppBlock", "DisassociateAppBlockBuilderAppBlock", "DescribeAppBlockBuilderAppBlockAssociations":
		return append(member("AppBlockArn"), arns(appstream.NounAppBlockBuilder, member("AppBlockBuilderName")...)...)
	case "DescribeApplications":
		return namedOrAll(appstream.NounApplication)
	case "CreateApplication":
		return member("AppBlockArn")
	case "UpdateApplication":
		return append(arns(appstream.NounApplication, member("Name")...), member("AppBlockArn")...)
	case "DeleteApplication":
		return arns(appstream.NounApplication, member("Name")...)
	case "AssociateApplicationFleet", "DisassociateApplicationFleet", "DescribeApplicationFleetAssociations":
		return append(member("ApplicationArn"), arns(appstream.NounFleet, member("FleetName")...)...)
	case "CreateInvitation":
		return arns(appstream.NounUser, member("UserName")...)
	case "CreateImage":
		return append(arns(appstream.NounImageBuilder, member("ImageBuilderName")...), arns(appstream.NounImage, member("Name")...)...)
	}
	return nil
}

// imageNamed is the image that a name stands for: the caller's own, else the public one. Policies are asked about that one.
func (s *Service) imageNamed(c appstream.Caller, name string) appstream.Key {
	own := key(c, appstream.NounImage, name)
	public := own
	public.Account = ""
	var image appstream.Image
	err := s.cfg.Store.View(context.Background(), func(tx store.Tx) error {
		if err := tx.Get(own, &image); !errors.Is(err, store.ErrNotFound) {
			return err
		}
		return tx.Get(public, &image)
	})
	if err == nil && image.Account == "" {
		return public
	}
	return own
}

// Repeatable tells whether an operation answers the same to the same account until a record changes.
func Repeatable(operation string) bool {
	switch operation {
	case "DescribeImageBuilders", "DescribeImages", "DescribeImagePermissions", "ListTagsForResource",
		"DescribeFleets", "DescribeStacks", "DescribeThemeForStack", "DescribeUsageReportSubscriptions", "DescribeSessions", "ListAssociatedFleets", "ListAssociatedStacks",
		"DescribeUsers", "DescribeUserStackAssociations", "DescribeEntitlements", "ListEntitledApplications", "DescribeDirectoryConfigs",
		"DescribeSoftwareAssociations", "DescribeAppLicenseUsage", "DescribeAppBlockBuilders", "DescribeAppBlockBuilderAppBlockAssociations":
		return true
	}
	return false
}

// stringsOf gives the strings of a *string or []string member, none for a missing one.
func stringsOf(v reflect.Value) []string {
	if !v.IsValid() {
		return nil
	}
	switch m := v.Interface().(type) {
	case *string:
		if m != nil {
			return []string{*m}
		}
	case []string:
		return append([]string(nil), m...)
	}
	return nil
}
