package service_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/seal"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
)

// testSecrets makes a box of one key, or reads a key file.
func testSecrets(t testing.TB, lines ...string) *seal.Box {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secrets.key")
	if err := os.WriteFile(file, []byte(strings.Join(append(lines, oldSecret), "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	box, err := seal.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	return box
}

// Two keys of secrets.
const (
	oldSecret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	newSecret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE="
)

const pool = types.AuthenticationTypeUserpool

func (f *fixture) user(name string, edit ...func(*api.CreateUserInput)) {
	f.t.Helper()
	in := &api.CreateUserInput{UserName: &name, AuthenticationType: pool}
	for _, fn := range edit {
		fn(in)
	}
	_, err := f.CreateUser(as(me), in)
	f.must(err)
}

func (f *fixture) users() []types.User {
	f.t.Helper()
	out, err := f.DescribeUsers(as(me), &api.DescribeUsersInput{AuthenticationType: pool})
	f.must(err)
	return out.Users
}

// assigned gives the associations that there are, as user/stack, for what is asked.
func (f *fixture) assigned(in *api.DescribeUserStackAssociationsInput) (list []string) {
	f.t.Helper()
	for {
		out, err := f.DescribeUserStackAssociations(as(me), in)
		f.must(err)
		for _, a := range out.UserStackAssociations {
			list = append(list, *a.UserName+"/"+*a.StackName)
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			return list
		}
	}
}

func (f *fixture) assign(user string, stacks ...string) {
	f.t.Helper()
	in := &api.BatchAssociateUserStackInput{}
	for _, stack := range stacks {
		in.UserStackAssociations = append(in.UserStackAssociations, types.UserStackAssociation{AuthenticationType: pool, UserName: &user, StackName: &stack})
	}
	out, err := f.BatchAssociateUserStack(as(me), in)
	f.must(err)
	if len(out.Errors) > 0 {
		f.t.Fatalf("associate %s: %s", user, *out.Errors[0].ErrorMessage)
	}
}

func TestUsersAreDescribedAsTheyWereCreated(t *testing.T) {
	f := newFixture(t)
	f.user("Jane@example.com", func(in *api.CreateUserInput) { in.FirstName, in.LastName = new("Jane"), new("Doe") })
	f.user("jane@example.com", func(in *api.CreateUserInput) { in.MessageAction = types.MessageActionSuppress }) // another person: case counts
	got := f.users()
	if len(got) != 2 || got[0].CreatedTime == nil {
		t.Fatalf("%d users", len(got))
	}
	want := types.User{Arn: new("arn:aws:appstream:us-west-2:" + me + ":user/Jane@example.com"), UserName: new("Jane@example.com"), AuthenticationType: pool,
		CreatedTime: got[0].CreatedTime, Enabled: new(true), FirstName: new("Jane"), LastName: new("Doe"), Status: new("UNCONFIRMED")}
	if diff := cmp.Diff(want, got[0], noSmithy); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	jane := new("jane@example.com")
	for _, enabled := range []bool{false, false, true, true} { // twice is no error
		if enabled {
			_, err := f.EnableUser(as(me), &api.EnableUserInput{UserName: jane, AuthenticationType: pool})
			f.must(err)
		} else {
			_, err := f.DisableUser(as(me), &api.DisableUserInput{UserName: jane, AuthenticationType: pool})
			f.must(err)
		}
		if got := f.users(); *got[1].Enabled != enabled || !*got[0].Enabled {
			t.Errorf("Enabled = %v and %v, want true and %v", *got[0].Enabled, *got[1].Enabled, enabled)
		}
	}
	_, err := f.DeleteUser(as(me), &api.DeleteUserInput{UserName: jane, AuthenticationType: pool})
	f.must(err)
	if got := f.users(); len(got) != 1 || *got[0].UserName != "Jane@example.com" {
		t.Errorf("after DeleteUser: %d users", len(got))
	}
	if out, err := f.DescribeUsers(as(other), &api.DescribeUsersInput{AuthenticationType: pool}); err != nil || len(out.Users) != 0 {
		t.Errorf("another account sees %d users, %v", len(out.Users), err)
	}
	f.user("jane@example.com") // the name is free again
}

func TestUserPages(t *testing.T) {
	f := newFixture(t, func(c *service.Config) { c.Quotas.Users = 200 })
	for n := range 7 {
		f.user(fmt.Sprintf("u%d@example.com", n))
	}
	var list []string
	for in := (&api.DescribeUsersInput{AuthenticationType: pool, MaxResults: new(int32(3))}); ; {
		out, err := f.DescribeUsers(as(me), in)
		f.must(err)
		for _, u := range out.Users {
			list = append(list, (*u.UserName)[:2])
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			break
		}
		if len(out.Users) != 3 {
			t.Errorf("a page of %d", len(out.Users))
		}
	}
	if got := strings.Join(list, " "); got != "u0 u1 u2 u3 u4 u5 u6" {
		t.Errorf("pages: %s", got)
	}
	_, err := f.DescribeUsers(as(me), &api.DescribeUsersInput{AuthenticationType: pool, NextToken: new("x")})
	refused(t, err, appstream.Validation, "NextToken")
	for n := range 100 {
		f.user(fmt.Sprintf("v%d@example.com", n))
	}
	for size, want := range map[int32]int{0: 100, 500: 107} { // AppStream has at most 500 on a page
		out, err := f.DescribeUsers(as(me), &api.DescribeUsersInput{AuthenticationType: pool, MaxResults: &size})
		f.must(err)
		if len(out.Users) != want {
			t.Errorf("MaxResults %d: a page of %d", size, len(out.Users))
		}
	}
}

func TestUserRefusals(t *testing.T) {
	f := newFixture(t, func(c *service.Config) { c.Quotas.Users = 1 })
	f.user("taken@example.com")
	create := func(edit func(*api.CreateUserInput)) error {
		in := &api.CreateUserInput{UserName: new("new@example.com"), AuthenticationType: pool}
		edit(in)
		_, err := f.CreateUser(as(me), in)
		return err
	}
	named := func(name string) error { return create(func(in *api.CreateUserInput) { in.UserName = &name }) }
	resend := func(name string) error {
		return create(func(in *api.CreateUserInput) { in.UserName, in.MessageAction = &name, types.MessageActionResend })
	}
	f.must(resend("taken@example.com"))
	nobody := new("nobody@example.com")
	_, disable := f.DisableUser(as(me), &api.DisableUserInput{UserName: nobody, AuthenticationType: pool})
	_, enable := f.EnableUser(as(me), &api.EnableUserInput{UserName: nobody, AuthenticationType: pool})
	_, remove := f.DeleteUser(as(me), &api.DeleteUserInput{UserName: nobody, AuthenticationType: pool})
	_, others := f.DeleteUser(as(other), &api.DeleteUserInput{UserName: new("taken@example.com"), AuthenticationType: pool})
	_, saml := f.DisableUser(as(me), &api.DisableUserInput{UserName: nobody, AuthenticationType: types.AuthenticationTypeSaml})
	_, list := f.DescribeUsers(as(me), &api.DescribeUsersInput{AuthenticationType: types.AuthenticationTypeApi})
	for name, test := range map[string]struct {
		err  error
		kind appstream.Kind
		says string
	}{
		"taken":       {named("taken@example.com"), appstream.ResourceAlreadyExists, "taken@example.com already exists"},
		"one more":    {named("new@example.com"), appstream.LimitExceeded, "Limit: 1"},
		"no address":  {named("jane"), appstream.InvalidParameterCombination, "UserName"},
		"with a name": {named("Jane<jane@example.com>"), appstream.InvalidParameterCombination, "UserName"},
		"two":         {named("a@example.com,b@example.com"), appstream.InvalidParameterCombination, "UserName"},
		"quoted":      {named(`"a,b"@example.com,c`), appstream.InvalidParameterCombination, "UserName"},
		"API": {create(func(in *api.CreateUserInput) { in.AuthenticationType = types.AuthenticationTypeApi }), appstream.InvalidParameterValue,
			"Cannot create a user with 'API' authentication type"},
		"resend with a name": {create(func(in *api.CreateUserInput) { in.MessageAction, in.FirstName = types.MessageActionResend, new("x") }), appstream.InvalidParameterCombination, "RESEND"},
		"resend to nobody":   {resend("nobody@example.com"), appstream.OperationNotPermitted, "does not exist"},
		"disable nobody":     {disable, appstream.ResourceNotFound, "The user nobody@example.com"},
		"enable nobody":      {enable, appstream.ResourceNotFound, "The user nobody@example.com"},
		"delete nobody":      {remove, appstream.ResourceNotFound, "The user nobody@example.com"},
		"another account's":  {others, appstream.ResourceNotFound, "The user taken@example.com"},
		"disable SAML":       {saml, appstream.InvalidParameterValue, "SAML"},
		"describe API":       {list, appstream.InvalidParameterValue, "API"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, test.err, test.kind, test.says) })
	}
}

// Each entry of a batch is done or refused by itself.
func TestUserStackAssociations(t *testing.T) {
	f := newFixture(t)
	f.stack("one")
	f.stack("two")
	f.user("a@example.com")
	f.user("b@example.com")
	entry := func(user, stack string) types.UserStackAssociation {
		return types.UserStackAssociation{AuthenticationType: pool, UserName: &user, StackName: &stack, SendEmailNotification: new(user[0] == 'a')}
	}
	for range 2 { // the second time changes nothing
		out, err := f.BatchAssociateUserStack(as(me), &api.BatchAssociateUserStackInput{UserStackAssociations: []types.UserStackAssociation{
			entry("a@example.com", "one"), entry("nobody@example.com", "one"), entry("a@example.com", "three"), entry("a@example.com", "two"), entry("b@example.com", "one")}})
		f.must(err)
		var codes []string
		for _, e := range out.Errors {
			codes = append(codes, string(e.ErrorCode)+" "+*e.UserStackAssociation.UserName+" "+*e.UserStackAssociation.StackName+": "+*e.ErrorMessage)
		}
		want := []string{"USER_NAME_NOT_FOUND nobody@example.com one: The user nobody@example.com for account " + me + " does not exist.",
			"STACK_NOT_FOUND a@example.com three: The stack three for account " + me + " does not exist."}
		if diff := cmp.Diff(want, codes); diff != "" {
			t.Errorf("errors (-want +got):\n%s", diff)
		}
	}
	// The audit log says who was given what, entry by entry.
	var given []string
	for _, l := range f.audits()[:5] {
		given = append(given, strings.ReplaceAll(l.Operation+" "+l.Resource+" "+l.Result, arnPrefix, ""))
	}
	const done = "appstream:BatchAssociateUserStack stack/"
	if diff := cmp.Diff([]string{done + "one user/b@example.com ", done + "two user/a@example.com ", done + "three user/a@example.com STACK_NOT_FOUND",
		done + "one user/nobody@example.com USER_NAME_NOT_FOUND", done + "one user/a@example.com "}, given); diff != "" {
		t.Errorf("the audit log (-want +got):\n%s", diff)
	}
	type query = api.DescribeUserStackAssociationsInput
	check := func(what string, in query, want ...string) {
		t.Helper()
		for size := range int32(3) {
			in := in
			in.MaxResults = &size
			if diff := cmp.Diff(want, f.assigned(&in)); diff != "" {
				t.Errorf("%s by pages of %d (-want +got):\n%s", what, size, diff)
			}
		}
	}
	check("of a stack", query{StackName: new("one")}, "a@example.com/one", "b@example.com/one")
	check("of a user", query{UserName: new("a@example.com"), AuthenticationType: pool}, "a@example.com/one", "a@example.com/two")
	check("of both", query{UserName: new("a@example.com"), AuthenticationType: pool, StackName: new("two")}, "a@example.com/two")
	check("of nobody", query{UserName: new("c@example.com"), AuthenticationType: pool})
	check("of no stack", query{StackName: new("three"), AuthenticationType: pool})
	if none, err := f.DescribeUserStackAssociations(as(me), &query{StackName: new("three")}); err != nil || none.UserStackAssociations == nil {
		t.Errorf("a list without entries is not there: %v", err)
	}
	for _, in := range []query{{}, {UserName: new("a@example.com")}, {UserName: new("a@example.com"), AuthenticationType: "API"}} {
		_, err := f.DescribeUserStackAssociations(as(me), &in)
		refused(t, err, appstream.InvalidParameterCombination, "AuthenticationType")
	}
	_, err := f.BatchAssociateUserStack(as(me), &api.BatchAssociateUserStackInput{UserStackAssociations: []types.UserStackAssociation{
		entry("b@example.com", "two"), {AuthenticationType: "SAML", UserName: new("b@example.com"), StackName: new("one")}}})
	refused(t, err, appstream.InvalidParameterCombination, "UserStackAssociations[1]")
	check("nothing was done of a batch that was refused", query{StackName: new("two")}, "a@example.com/two")

	out, err := f.BatchDisassociateUserStack(as(me), &api.BatchDisassociateUserStackInput{UserStackAssociations: []types.UserStackAssociation{
		entry("a@example.com", "one"), entry("b@example.com", "two"), entry("nobody@example.com", "two")}})
	f.must(err)
	if len(out.Errors) != 1 || out.Errors[0].ErrorCode != types.UserStackAssociationErrorCodeUserNameNotFound {
		t.Errorf("errors: %v", out.Errors)
	}
	check("after BatchDisassociateUserStack", query{StackName: new("one")}, "b@example.com/one")

	// A stack takes its associations with it, and the next of its name does not have them.
	_, err = f.DeleteStack(as(me), &api.DeleteStackInput{Name: new("one")})
	f.must(err)
	f.stack("one")
	check("of a new stack", query{StackName: new("one")})
	check("of its user", query{UserName: new("b@example.com"), AuthenticationType: pool})
}

func (f *fixture) entitlement(stack, name string) types.Entitlement {
	f.t.Helper()
	out, err := f.CreateEntitlement(as(me), &api.CreateEntitlementInput{StackName: &stack, Name: &name, Description: new("d"), AppVisibility: types.AppVisibilityAssociated,
		Attributes: []types.EntitlementAttribute{{Name: new("department"), Value: new("lab")}}})
	f.must(err)
	return *out.Entitlement
}

func TestEntitlements(t *testing.T) {
	f := newFixture(t)
	f.stack("one")
	f.stack("one-more") // its name begins like the other's
	f.entitlement("one-more", "x")
	got := f.entitlement("one", "lab")
	f.entitlement("one", "all")
	want := types.Entitlement{StackName: new("one"), Name: new("lab"), Description: new("d"), AppVisibility: types.AppVisibilityAssociated,
		Attributes: []types.EntitlementAttribute{{Name: new("department"), Value: new("lab")}}, CreatedTime: got.CreatedTime, LastModifiedTime: got.CreatedTime}
	if diff := cmp.Diff(want, got, noSmithy); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	names := func(size int32) (list []string) {
		for in := (&api.DescribeEntitlementsInput{StackName: new("one"), MaxResults: &size}); ; {
			out, err := f.DescribeEntitlements(as(me), in)
			f.must(err)
			for _, e := range out.Entitlements {
				list = append(list, *e.Name)
			}
			if in.NextToken = out.NextToken; in.NextToken == nil {
				return list
			}
		}
	}
	if got := fmt.Sprint(names(0), names(1)); got != "[all lab] [all lab]" {
		t.Errorf("entitlements: %s", got)
	}
	updated, err := f.UpdateEntitlement(as(me), &api.UpdateEntitlementInput{StackName: new("one"), Name: new("lab"), AppVisibility: types.AppVisibilityAll})
	f.must(err)
	want.AppVisibility, want.LastModifiedTime = types.AppVisibilityAll, updated.Entitlement.LastModifiedTime
	if diff := cmp.Diff(want, *updated.Entitlement, noSmithy); diff != "" || !updated.Entitlement.LastModifiedTime.After(*want.CreatedTime) {
		t.Errorf("updated (-want +got):\n%s", diff)
	}
	lab := func() (list []string) {
		for in := (&api.ListEntitledApplicationsInput{StackName: new("one"), EntitlementName: new("lab"), MaxResults: new(int32(1))}); ; {
			out, err := f.ListEntitledApplications(as(me), in)
			f.must(err)
			for _, a := range out.EntitledApplications {
				list = append(list, *a.ApplicationIdentifier)
			}
			if in.NextToken = out.NextToken; in.NextToken == nil {
				return list
			}
		}
	}
	for _, app := range []string{"Writer", "Calc", "Writer"} {
		_, err := f.AssociateApplicationToEntitlement(as(me), &api.AssociateApplicationToEntitlementInput{StackName: new("one"), EntitlementName: new("lab"), ApplicationIdentifier: &app})
		f.must(err)
	}
	if got := fmt.Sprint(lab()); got != "[Calc Writer]" {
		t.Errorf("applications: %s", got)
	}
	withdraw := &api.DisassociateApplicationFromEntitlementInput{StackName: new("one"), EntitlementName: new("lab"), ApplicationIdentifier: new("Calc")}
	_, err = f.DisassociateApplicationFromEntitlement(as(me), withdraw)
	f.must(err)
	_, err = f.DisassociateApplicationFromEntitlement(as(me), withdraw)
	refused(t, err, appstream.ResourceNotFound, "Calc")
	if got := fmt.Sprint(lab()); got != "[Writer]" {
		t.Errorf("applications: %s", got)
	}
	_, err = f.DeleteEntitlement(as(me), &api.DeleteEntitlementInput{StackName: new("one"), Name: new("all")})
	f.must(err)
	if got := fmt.Sprint(names(0)); got != "[lab]" {
		t.Errorf("entitlements: %s", got)
	}
	// A stack takes its entitlements with it.
	_, err = f.DeleteStack(as(me), &api.DeleteStackInput{Name: new("one")})
	f.must(err)
	f.stack("one")
	if got := names(0); len(got) != 0 {
		t.Errorf("a new stack has the entitlements %v", got)
	}
}

func TestEntitlementRefusals(t *testing.T) {
	f := newFixture(t, func(c *service.Config) { c.Quotas.Entitlements, c.Quotas.EntitledApplications = 1, 1 })
	f.stack("one")
	f.entitlement("one", "taken")
	create := func(edit func(*api.CreateEntitlementInput)) error {
		in := &api.CreateEntitlementInput{StackName: new("one"), Name: new("new"), AppVisibility: types.AppVisibilityAll, Attributes: []types.EntitlementAttribute{{Name: new("roles"), Value: new("x")}}}
		edit(in)
		_, err := f.CreateEntitlement(as(me), in)
		return err
	}
	attribute := func(name, value string) error {
		return create(func(in *api.CreateEntitlementInput) {
			in.Attributes = append(in.Attributes, types.EntitlementAttribute{Name: &name, Value: &value})
		})
	}
	associate := func(stack, name, app string) error {
		_, err := f.AssociateApplicationToEntitlement(as(me), &api.AssociateApplicationToEntitlementInput{StackName: &stack, EntitlementName: &name, ApplicationIdentifier: &app})
		return err
	}
	f.must(associate("one", "taken", "Calc"))
	_, update := f.UpdateEntitlement(as(me), &api.UpdateEntitlementInput{StackName: new("one"), Name: new("none")})
	_, bad := f.UpdateEntitlement(as(me), &api.UpdateEntitlementInput{StackName: new("one"), Name: new("taken"), Attributes: []types.EntitlementAttribute{{Name: new("team"), Value: new("x")}}})
	_, remove := f.DeleteEntitlement(as(me), &api.DeleteEntitlementInput{StackName: new("one"), Name: new("none")})
	_, stack := f.DeleteEntitlement(as(me), &api.DeleteEntitlementInput{StackName: new("none"), Name: new("taken")})
	_, describe := f.DescribeEntitlements(as(me), &api.DescribeEntitlementsInput{StackName: new("one"), Name: new("none")})
	_, all := f.DescribeEntitlements(as(me), &api.DescribeEntitlementsInput{StackName: new("none")})
	_, list := f.ListEntitledApplications(as(me), &api.ListEntitledApplicationsInput{StackName: new("one"), EntitlementName: new("none")})
	_, others := f.DescribeEntitlements(as(other), &api.DescribeEntitlementsInput{StackName: new("one")})
	const missing = appstream.EntitlementNotFound
	for name, test := range map[string]struct {
		err  error
		kind appstream.Kind
		says string
	}{
		"taken":                  {create(func(in *api.CreateEntitlementInput) { in.Name = new("taken") }), appstream.EntitlementAlreadyExists, "taken already exists"},
		"one more":               {create(func(*api.CreateEntitlementInput) {}), appstream.LimitExceeded, "Limit: 1"},
		"no stack":               {create(func(in *api.CreateEntitlementInput) { in.StackName = new("none") }), appstream.ResourceNotFound, "The stack none"},
		"unknown attribute":      {attribute("team", "x"), appstream.Validation, "Attributes[1].Name"},
		"no value":               {attribute("roles", " "), appstream.Validation, "Attributes[1].Value"},
		"much value":             {attribute("roles", strings.Repeat("x", 2049)), appstream.Validation, "Attributes[1].Value"},
		"update none":            {update, missing, "none"},
		"update to unknown":      {bad, appstream.Validation, "costCenter"},
		"delete none":            {remove, missing, "none"},
		"delete on no stack":     {stack, appstream.ResourceNotFound, "The stack none"},
		"describe none":          {describe, missing, "none"},
		"describe of no stack":   {all, appstream.ResourceNotFound, "The stack none"},
		"list of none":           {list, missing, "none"},
		"another account's":      {others, appstream.ResourceNotFound, "The stack one"},
		"associate to none":      {associate("one", "none", "Calc"), missing, "none"},
		"associate on no stack":  {associate("none", "taken", "Calc"), appstream.ResourceNotFound, "The stack none"},
		"associate one more":     {associate("one", "taken", "Writer"), appstream.LimitExceeded, "Limit: 1"},
		"associate nothing":      {associate("one", "taken", ""), appstream.Validation, "ApplicationIdentifier"},
		"associate far too much": {associate("one", "taken", strings.Repeat("x", 257)), appstream.Validation, "ApplicationIdentifier"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, test.err, test.kind, test.says) })
	}
}

const directoryPassword = "correct horse battery"

func (f *fixture) directory(name string, edit ...func(*api.CreateDirectoryConfigInput)) (types.DirectoryConfig, error) {
	in := &api.CreateDirectoryConfigInput{DirectoryName: &name, OrganizationalUnitDistinguishedNames: []string{"OU=Streaming,DC=corp,DC=example,DC=com"},
		ServiceAccountCredentials: &types.ServiceAccountCredentials{AccountName: new(`corp\joiner`), AccountPassword: new(directoryPassword)}}
	for _, fn := range edit {
		fn(in)
	}
	out, err := f.CreateDirectoryConfig(as(me), in)
	if err != nil {
		return types.DirectoryConfig{}, err
	}
	return *out.DirectoryConfig, nil
}

// The password of a directory's account is in no answer and not in the database, and can be read with the key.
func TestDirectoryConfigsKeepThePassword(t *testing.T) {
	f := newFixture(t)
	got, err := f.directory("corp.example.com")
	f.must(err)
	want := types.DirectoryConfig{DirectoryName: new("corp.example.com"), OrganizationalUnitDistinguishedNames: []string{"OU=Streaming,DC=corp,DC=example,DC=com"},
		ServiceAccountCredentials: &types.ServiceAccountCredentials{AccountName: new(`corp\joiner`)}, CreatedTime: got.CreatedTime}
	if diff := cmp.Diff(want, got, noSmithy); diff != "" {
		t.Errorf("created (-want +got):\n%s", diff)
	}
	arn := new("arn:aws:acm-pca:us-west-2:" + me + ":certificate-authority/x")
	updated, err := f.UpdateDirectoryConfig(as(me), &api.UpdateDirectoryConfigInput{DirectoryName: new("corp.example.com"),
		CertificateBasedAuthProperties: &types.CertificateBasedAuthProperties{Status: types.CertificateBasedAuthStatusEnabled, CertificateAuthorityArn: arn}})
	f.must(err)
	want.CertificateBasedAuthProperties = &types.CertificateBasedAuthProperties{Status: types.CertificateBasedAuthStatusEnabled, CertificateAuthorityArn: arn}
	if diff := cmp.Diff(want, *updated.DirectoryConfig, noSmithy); diff != "" {
		t.Errorf("updated (-want +got):\n%s", diff)
	}
	described, err := f.DescribeDirectoryConfigs(as(me), &api.DescribeDirectoryConfigsInput{})
	f.must(err)
	if diff := cmp.Diff([]types.DirectoryConfig{want}, described.DirectoryConfigs, noSmithy); diff != "" {
		t.Errorf("described (-want +got):\n%s", diff)
	}
	read := func() (d appstream.DirectoryConfig) {
		f.must(f.store.View(t.Context(), func(tx store.Tx) error {
			return tx.Get(appstream.Key{Account: me, Region: "us-west-2", Noun: appstream.NounDirectory, Name: "corp.example.com"}, &d)
		}))
		return d
	}
	kept := read()
	if strings.Contains(kept.Password, directoryPassword) || strings.Contains(fmt.Sprint(kept), "battery") {
		t.Error("the record has the password")
	}
	if text, err := f.cfg.Secrets.Open(kept.SealedFor(), kept.Password); err != nil || text != directoryPassword {
		t.Errorf("sealed: %q, %v", text, err)
	}

	// With a new key in front of the file, what was sealed is sealed anew, and the old key is not needed any more.
	rotated := testSecrets(t, newSecret)
	cfg := f.cfg
	cfg.Secrets = rotated
	f.must(service.New(cfg).SealAnew(context.Background()))
	anew := read()
	if anew.Password == kept.Password || rotated.Stale(anew.Password) {
		t.Error("the password was not sealed anew")
	}
	if text, err := rotated.Open(anew.SealedFor(), anew.Password); err != nil || text != directoryPassword {
		t.Errorf("sealed anew: %q, %v", text, err)
	}
	f.must(service.New(cfg).SealAnew(context.Background()))
	if again := read(); again.Version != anew.Version {
		t.Error("it was sealed anew without need")
	}
}

// A key file that is lost takes the passwords with it and nothing else: the server starts, says which are to be sent again, and they can be.
func TestLostKeys(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{"corp.example.com", "lab.example.com"} {
		_, err := f.directory(name)
		f.must(err)
	}
	var log strings.Builder
	cfg := f.cfg
	box, err := seal.Ensure(filepath.Join(t.TempDir(), "secrets.key"))
	f.must(err)
	cfg.Secrets, cfg.Log = box, slog.New(slog.NewTextHandler(&log, nil))
	later := service.New(cfg)
	f.must(later.SealAnew(t.Context()))
	for _, says := range []string{"level=ERROR", "directory-config/corp.example.com", "directory-config/lab.example.com", "secrets.key", "update-directory-config"} {
		if !strings.Contains(log.String(), says) {
			t.Errorf("the log does not say %s:\n%s", says, log.String())
		}
	}
	described, err := later.DescribeDirectoryConfigs(as(me), &api.DescribeDirectoryConfigsInput{})
	f.must(err)
	if len(described.DirectoryConfigs) != 2 {
		t.Errorf("described: %v", described.DirectoryConfigs)
	}
	_, err = later.UpdateDirectoryConfig(as(me), &api.UpdateDirectoryConfigInput{DirectoryName: new("corp.example.com"),
		ServiceAccountCredentials: &types.ServiceAccountCredentials{AccountName: new("joiner"), AccountPassword: new(directoryPassword)}})
	f.must(err)
	_, err = later.DeleteDirectoryConfig(as(me), &api.DeleteDirectoryConfigInput{DirectoryName: new("lab.example.com")})
	f.must(err)
	log.Reset()
	f.must(later.SealAnew(t.Context()))
	if log.Len() > 0 {
		t.Errorf("with all sent again: %s", log.String())
	}
}

func TestDirectoryConfigRefusals(t *testing.T) {
	f := newFixture(t, func(c *service.Config) { c.Quotas.DirectoryConfigs = 2 })
	for _, name := range []string{"taken.example.com", "used.example.com"} {
		_, err := f.directory(name)
		f.must(err)
	}
	_, err := f.CreateImageBuilder(as(me), input("joined", func(in *api.CreateImageBuilderInput) {
		in.DomainJoinInfo = &types.DomainJoinInfo{DirectoryName: new("used.example.com")}
	}))
	f.must(err)
	certificate := func(in *api.CreateDirectoryConfigInput) {
		in.CertificateBasedAuthProperties = &types.CertificateBasedAuthProperties{Status: types.CertificateBasedAuthStatusEnabled}
	}
	create := func(name string, edit ...func(*api.CreateDirectoryConfigInput)) error {
		_, err := f.directory(name, edit...)
		return err
	}
	remove := func(name string) error {
		_, err := f.DeleteDirectoryConfig(as(me), &api.DeleteDirectoryConfigInput{DirectoryName: &name})
		return err
	}
	_, update := f.UpdateDirectoryConfig(as(me), &api.UpdateDirectoryConfigInput{DirectoryName: new("none.example.com")})
	_, describe := f.DescribeDirectoryConfigs(as(me), &api.DescribeDirectoryConfigsInput{DirectoryNames: []string{"taken.example.com", "none.example.com"}})
	for name, test := range map[string]struct {
		err  error
		kind appstream.Kind
		says string
	}{
		"taken":        {create("taken.example.com"), appstream.ResourceAlreadyExists, "taken.example.com already exists"},
		"one more":     {create("more.example.com"), appstream.LimitExceeded, "Limit: 2"},
		"no name":      {create("corp/example"), appstream.Validation, "DirectoryName"},
		"no authority": {create("new.example.com", certificate), appstream.OperationNotPermitted, "CertificateAuthorityArn"},
		"many units": {create("new.example.com", func(in *api.CreateDirectoryConfigInput) {
			in.OrganizationalUnitDistinguishedNames = make([]string, 101)
		}), appstream.Validation, "OrganizationalUnit"},
		"long account": {create("new.example.com", func(in *api.CreateDirectoryConfigInput) {
			in.ServiceAccountCredentials.AccountName = new(strings.Repeat("x", 513))
		}), appstream.Validation, "AccountName"},
		"update none":   {update, appstream.ResourceNotFound, "The directory config none.example.com"},
		"describe none": {describe, appstream.ResourceNotFound, "The directory config none.example.com"},
		"delete none":   {remove("none.example.com"), appstream.ResourceNotFound, "The directory config none.example.com"},
		"in use":        {remove("used.example.com"), appstream.ResourceInUse, "the image builder joined"},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, test.err, test.kind, test.says)
			if strings.Contains(fmt.Sprint(test.err), directoryPassword) {
				t.Error("the error has the password")
			}
		})
	}
	f.must(remove("taken.example.com"))
}
