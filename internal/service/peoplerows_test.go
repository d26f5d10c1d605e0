package service_test

import (
	"fmt"
	"strings"
	"testing"

	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/service"
)

// userRows, userStackRows, entitlementRows and directoryRows are the part of the table that is about people.
func userRows() []row {
	const ann = "ann@example.com"
	one := func(f *fixture) { f.user(ann) }
	create := func(fn func(*api.CreateUserInput)) *api.CreateUserInput {
		return edited(&api.CreateUserInput{UserName: new(ann), AuthenticationType: pool}, fn)
	}
	names := func(out *api.DescribeUsersOutput) (names []*string) {
		for _, u := range out.Users {
			names = append(names, u.UserName)
		}
		return names
	}
	token := func(out *api.DescribeUsersOutput) *string { return out.NextToken }
	enabled := func(want bool) func(*testing.T, *fixture, any) {
		return func(t *testing.T, f *fixture, _ any) {
			if u := f.users()[0]; *u.Enabled != want {
				t.Errorf("Enabled is %v", *u.Enabled)
			}
		}
	}
	return []row{
		{name: "success", in: create(func(*api.CreateUserInput) {}), then: enabled(true)},
		{name: "no address", in: create(func(in *api.CreateUserInput) { in.UserName = new("ann") }), want: appstream.InvalidParameterCombination, says: "e-mail address"},
		{name: "AppStream's quota", given: func(f *fixture) {
			for n := range 50 {
				f.user(fmt.Sprintf("user%d@example.com", n))
			}
		}, in: create(func(*api.CreateUserInput) {}), want: appstream.LimitExceeded, says: "Limit: 50"},
		{name: "resend", in: create(func(in *api.CreateUserInput) { in.MessageAction = types.MessageActionResend }), want: appstream.OperationNotPermitted, says: "does not exist"},
		{name: "resend to a disabled user", given: func(f *fixture) {
			one(f)
			_, err := f.DisableUser(as(me), &api.DisableUserInput{UserName: new(ann), AuthenticationType: pool})
			f.must(err)
		}, in: create(func(in *api.CreateUserInput) { in.MessageAction = types.MessageActionResend }), want: appstream.OperationNotPermitted, says: "EnableUser"},
		{name: "taken", given: one, in: create(func(*api.CreateUserInput) {}), want: appstream.ResourceAlreadyExists, says: ann + " already exists"},
		{name: "type", in: create(func(in *api.CreateUserInput) { in.AuthenticationType = "API" }), want: appstream.InvalidParameterValue, says: "Cannot create a user with 'API' authentication type"},

		{name: "success", given: one, in: &api.DescribeUsersInput{AuthenticationType: pool}, then: lists(names, token, ann, false)},
		{name: "a page", given: func(f *fixture) { f.user("bob@example.com"); one(f) }, in: &api.DescribeUsersInput{AuthenticationType: pool, MaxResults: new(int32(1))}, then: lists(names, token, ann, true)},
		{name: "type", in: &api.DescribeUsersInput{AuthenticationType: "SAML"}, want: appstream.InvalidParameterValue, says: "SAML"},

		{name: "success", given: one, in: &api.DisableUserInput{UserName: new(ann), AuthenticationType: pool}, then: enabled(false)},
		{name: "missing", in: &api.DisableUserInput{UserName: new(ann), AuthenticationType: pool}, want: appstream.ResourceNotFound, says: ann},
		{name: "type", in: &api.DisableUserInput{UserName: new(ann), AuthenticationType: "SAML"}, want: appstream.InvalidParameterValue, says: "SAML"},
		{name: "success", given: one, in: &api.EnableUserInput{UserName: new(ann), AuthenticationType: pool}, then: enabled(true)},
		{name: "missing", in: &api.EnableUserInput{UserName: new(ann), AuthenticationType: pool}, want: appstream.ResourceNotFound, says: ann},
		{name: "type", in: &api.EnableUserInput{UserName: new(ann), AuthenticationType: "SAML"}, want: appstream.InvalidParameterValue, says: "SAML"},
		{name: "success", given: one, in: &api.DeleteUserInput{UserName: new(ann), AuthenticationType: pool}},
		{name: "missing", in: &api.DeleteUserInput{UserName: new(ann), AuthenticationType: pool}, want: appstream.ResourceNotFound, says: ann},
		{name: "type", in: &api.DeleteUserInput{UserName: new(ann), AuthenticationType: "SAML"}, want: appstream.InvalidParameterValue, says: "SAML"},
	}
}

func userStackRows() []row {
	const ann = "ann@example.com"
	both := func(f *fixture) { f.user(ann); f.stack("desk"); f.stack("other") }
	entry := func(user, stack string) types.UserStackAssociation {
		return types.UserStackAssociation{AuthenticationType: pool, UserName: &user, StackName: &stack}
	}
	batch := []types.UserStackAssociation{entry(ann, "desk"), entry("bob@example.com", "desk"), entry(ann, "nope"), entry(ann, "other")}
	saml := []types.UserStackAssociation{{AuthenticationType: "SAML", UserName: new(ann), StackName: new("desk")}}
	failures := func(list []types.UserStackAssociationError) string {
		var codes []string
		for _, e := range list {
			codes = append(codes, string(e.ErrorCode)+" "+*e.UserStackAssociation.UserName+" "+*e.UserStackAssociation.StackName)
		}
		return strings.Join(codes, ", ")
	}
	const want = "USER_NAME_NOT_FOUND bob@example.com desk, STACK_NOT_FOUND ann@example.com nope" // each entry by itself
	stacks := func(out *api.DescribeUserStackAssociationsOutput) (names []*string) {
		for _, a := range out.UserStackAssociations {
			names = append(names, a.StackName)
		}
		return names
	}
	token := func(out *api.DescribeUserStackAssociationsOutput) *string { return out.NextToken }
	assigned := func(f *fixture) { both(f); f.assign(ann, "desk", "other") }
	return []row{
		{name: "success", given: both, in: &api.BatchAssociateUserStackInput{UserStackAssociations: batch}, then: func(t *testing.T, f *fixture, out any) {
			if got := failures(out.(*api.BatchAssociateUserStackOutput).Errors); got != want {
				t.Error(got)
			}
			if got := f.assigned(&api.DescribeUserStackAssociationsInput{UserName: new(ann), AuthenticationType: pool}); len(got) != 2 {
				t.Error(got)
			}
		}},
		{name: "type", given: both, in: &api.BatchAssociateUserStackInput{UserStackAssociations: saml}, want: appstream.InvalidParameterCombination, says: "UserStackAssociations[0].AuthenticationType is SAML"},
		{name: "a fleet in a directory", given: func(f *fixture) {
			both(f)
			_, err := f.directory("corp.example.com")
			f.must(err)
			f.fleet("joined", appstream.FleetStopped, func(in *api.CreateFleetInput) {
				in.DomainJoinInfo = &types.DomainJoinInfo{DirectoryName: new("corp.example.com")}
			})
			f.associate("joined", "other")
		}, in: &api.BatchAssociateUserStackInput{UserStackAssociations: []types.UserStackAssociation{entry(ann, "desk"), entry(ann, "other")}},
			want: appstream.OperationNotPermitted, says: "The stack other has the fleet joined, which is joined to the directory corp.example.com"},
		{name: "entries", in: &api.BatchAssociateUserStackInput{UserStackAssociations: slicesOf(26, batch[0])}, want: appstream.Validation, says: "less than or equal to 25"},
		{name: "success", given: assigned, in: &api.BatchDisassociateUserStackInput{UserStackAssociations: batch}, then: func(t *testing.T, f *fixture, out any) {
			if got := failures(out.(*api.BatchDisassociateUserStackOutput).Errors); got != want {
				t.Error(got)
			}
			if got := f.assigned(&api.DescribeUserStackAssociationsInput{UserName: new(ann), AuthenticationType: pool}); len(got) != 0 {
				t.Error(got)
			}
		}},
		{name: "type", in: &api.BatchDisassociateUserStackInput{UserStackAssociations: saml}, want: appstream.InvalidParameterCombination, says: "USERPOOL"},
		{name: "entries", in: &api.BatchDisassociateUserStackInput{UserStackAssociations: slicesOf(26, batch[0])}, want: appstream.Validation, says: "less than or equal to 25"},
		{name: "success", given: assigned, in: &api.DescribeUserStackAssociationsInput{UserName: new(ann), AuthenticationType: pool}, then: lists(stacks, token, "desk other", false)},
		{name: "a page", given: assigned, in: &api.DescribeUserStackAssociationsInput{UserName: new(ann), AuthenticationType: pool, MaxResults: new(int32(1))}, then: lists(stacks, token, "desk", true)},
		{name: "of nothing", in: &api.DescribeUserStackAssociationsInput{}, want: appstream.InvalidParameterCombination, says: "Specify StackName"},
	}
}

// slicesOf gives a list of so many of the same.
func slicesOf[T any](n int, v T) []T {
	list := make([]T, n)
	for i := range list {
		list[i] = v
	}
	return list
}

func entitlementRows() []row {
	desk := func(f *fixture) { f.stack("desk") }
	lab := func(f *fixture) { desk(f); f.entitlement("desk", "lab") }
	calc := func(f *fixture) {
		lab(f)
		_, err := f.AssociateApplicationToEntitlement(as(me), &api.AssociateApplicationToEntitlementInput{StackName: new("desk"), EntitlementName: new("lab"), ApplicationIdentifier: new("Calc")})
		f.must(err)
	}
	create := func(stack string) *api.CreateEntitlementInput {
		return &api.CreateEntitlementInput{StackName: &stack, Name: new("lab"), AppVisibility: types.AppVisibilityAll, Attributes: []types.EntitlementAttribute{{Name: new("roles"), Value: new("x")}}}
	}
	names := func(out *api.DescribeEntitlementsOutput) (names []*string) {
		for _, e := range out.Entitlements {
			names = append(names, e.Name)
		}
		return names
	}
	token := func(out *api.DescribeEntitlementsOutput) *string { return out.NextToken }
	associate := func(stack, name, app string) *api.AssociateApplicationToEntitlementInput {
		return &api.AssociateApplicationToEntitlementInput{StackName: &stack, EntitlementName: &name, ApplicationIdentifier: &app}
	}
	disassociate := func(stack, name string) *api.DisassociateApplicationFromEntitlementInput {
		return &api.DisassociateApplicationFromEntitlementInput{StackName: &stack, EntitlementName: &name, ApplicationIdentifier: new("Calc")}
	}
	list := func(stack, name string) *api.ListEntitledApplicationsInput {
		return &api.ListEntitledApplicationsInput{StackName: &stack, EntitlementName: &name}
	}
	const none = appstream.EntitlementNotFound
	return []row{
		{name: "success", given: desk, in: create("desk"), then: state(func(out *api.CreateEntitlementOutput) any { return *out.Entitlement.Name }, "lab")},
		{name: "taken", given: lab, in: create("desk"), want: appstream.EntitlementAlreadyExists, says: "lab already exists"},
		{name: "quota", given: func(f *fixture) { desk(f); f.entitlement("desk", "one") }, setup: quota(func(q *service.Quotas) { q.Entitlements = 1 }), in: create("desk"), want: appstream.LimitExceeded, says: "Limit: 1"},
		{name: "no stack", in: create("desk"), want: appstream.ResourceNotFound, says: "The stack desk"},

		{name: "success", given: lab, in: &api.DescribeEntitlementsInput{StackName: new("desk")}, then: lists(names, token, "lab", false)},
		{name: "a page", given: func(f *fixture) { lab(f); f.entitlement("desk", "one") }, in: &api.DescribeEntitlementsInput{StackName: new("desk"), MaxResults: new(int32(1))}, then: lists(names, token, "lab", true)},
		{name: "missing", given: desk, in: &api.DescribeEntitlementsInput{StackName: new("desk"), Name: new("nope")}, want: none, says: "nope"},
		{name: "no stack", in: &api.DescribeEntitlementsInput{StackName: new("desk")}, want: appstream.ResourceNotFound, says: "The stack desk"},

		{name: "success", given: lab, in: &api.UpdateEntitlementInput{StackName: new("desk"), Name: new("lab"), Description: new("new")}, then: state(func(out *api.UpdateEntitlementOutput) any { return *out.Entitlement.Description }, "new")},
		{name: "missing", given: desk, in: &api.UpdateEntitlementInput{StackName: new("desk"), Name: new("lab")}, want: none, says: "lab"},
		{name: "no stack", in: &api.UpdateEntitlementInput{StackName: new("desk"), Name: new("lab")}, want: appstream.ResourceNotFound, says: "The stack desk"},
		{name: "success", given: lab, in: &api.DeleteEntitlementInput{StackName: new("desk"), Name: new("lab")}},
		{name: "missing", given: desk, in: &api.DeleteEntitlementInput{StackName: new("desk"), Name: new("lab")}, want: none, says: "lab"},
		{name: "no stack", in: &api.DeleteEntitlementInput{StackName: new("desk"), Name: new("lab")}, want: appstream.ResourceNotFound, says: "The stack desk"},

		{name: "success", given: lab, in: associate("desk", "lab", "Calc")},
		{name: "quota", given: calc, setup: quota(func(q *service.Quotas) { q.EntitledApplications = 1 }), in: associate("desk", "lab", "Writer"), want: appstream.LimitExceeded, says: "Limit: 1"},
		{name: "missing", given: desk, in: associate("desk", "lab", "Calc"), want: none, says: "lab"},
		{name: "no stack", in: associate("desk", "lab", "Calc"), want: appstream.ResourceNotFound, says: "The stack desk"},
		{name: "success", given: calc, in: disassociate("desk", "lab")},
		{name: "missing", given: desk, in: disassociate("desk", "lab"), want: none, says: "lab"},
		{name: "no stack", in: disassociate("desk", "lab"), want: appstream.ResourceNotFound, says: "The stack desk"},
		{name: "success", given: calc, in: list("desk", "lab"), then: state(func(out *api.ListEntitledApplicationsOutput) any {
			return *out.EntitledApplications[0].ApplicationIdentifier
		}, "Calc")},
		{name: "missing", given: desk, in: list("desk", "lab"), want: none, says: "lab"},
		{name: "no stack", in: list("desk", "lab"), want: appstream.ResourceNotFound, says: "The stack desk"},
	}
}

func directoryRows() []row {
	const corp = "corp.example.com"
	one := func(f *fixture) { _, err := f.directory(corp); f.must(err) }
	used := func(f *fixture) {
		one(f)
		_, err := f.CreateImageBuilder(as(me), input("joined", func(in *api.CreateImageBuilderInput) {
			in.DomainJoinInfo = &types.DomainJoinInfo{DirectoryName: new(corp)}
		}))
		f.must(err)
	}
	units := []string{"OU=Streaming,DC=corp,DC=example,DC=com"}
	create := func(name string) *api.CreateDirectoryConfigInput {
		return &api.CreateDirectoryConfigInput{DirectoryName: &name, OrganizationalUnitDistinguishedNames: units}
	}
	incomplete := &types.CertificateBasedAuthProperties{Status: types.CertificateBasedAuthStatusEnabled}
	names := func(out *api.DescribeDirectoryConfigsOutput) (names []*string) {
		for _, d := range out.DirectoryConfigs {
			names = append(names, d.DirectoryName)
		}
		return names
	}
	token := func(out *api.DescribeDirectoryConfigsOutput) *string { return out.NextToken }
	return []row{
		{name: "success", in: create(corp), then: state(func(out *api.CreateDirectoryConfigOutput) any { return *out.DirectoryConfig.DirectoryName }, corp)},
		{name: "quota", given: one, setup: quota(func(q *service.Quotas) { q.DirectoryConfigs = 1 }), in: create("other.example.com"), want: appstream.LimitExceeded, says: "Limit: 1"},
		{name: "authority", in: edited(create(corp), func(in *api.CreateDirectoryConfigInput) { in.CertificateBasedAuthProperties = incomplete }), want: appstream.OperationNotPermitted, says: "CertificateAuthorityArn"},
		{name: "taken", given: one, in: create(corp), want: appstream.ResourceAlreadyExists, says: corp + " already exists"},

		{name: "success", given: one, in: &api.DescribeDirectoryConfigsInput{}, then: lists(names, token, corp, false)},
		{name: "a page", given: func(f *fixture) { one(f); _, err := f.directory("other.example.com"); f.must(err) }, in: &api.DescribeDirectoryConfigsInput{MaxResults: new(int32(1))}, then: lists(names, token, corp, true)},
		{name: "missing", in: &api.DescribeDirectoryConfigsInput{DirectoryNames: []string{corp}}, want: appstream.ResourceNotFound, says: corp},

		{name: "success", given: one, in: &api.UpdateDirectoryConfigInput{DirectoryName: new(corp), OrganizationalUnitDistinguishedNames: []string{"OU=New"}},
			then: state(func(out *api.UpdateDirectoryConfigOutput) any {
				return out.DirectoryConfig.OrganizationalUnitDistinguishedNames
			}, "[OU=New]")},
		{name: "authority", given: one, in: &api.UpdateDirectoryConfigInput{DirectoryName: new(corp), CertificateBasedAuthProperties: incomplete}, want: appstream.OperationNotPermitted, says: "CertificateAuthorityArn"},
		{name: "missing", in: &api.UpdateDirectoryConfigInput{DirectoryName: new(corp)}, want: appstream.ResourceNotFound, says: corp},

		{name: "success", given: one, in: &api.DeleteDirectoryConfigInput{DirectoryName: new(corp)}},
		{name: "in use", given: used, in: &api.DeleteDirectoryConfigInput{DirectoryName: new(corp)}, want: appstream.ResourceInUse, says: "the image builder joined"},
		{name: "missing", in: &api.DeleteDirectoryConfigInput{DirectoryName: new(corp)}, want: appstream.ResourceNotFound, says: corp},
	}
}
