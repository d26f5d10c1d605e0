//lint:file-ignore SA1019 old clients send members that are deprecated

package service_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/service"
	"pgregory.net/rapid"
)

func (f *fixture) stack(name string, edit ...func(*api.CreateStackInput)) types.Stack {
	f.t.Helper()
	in := &api.CreateStackInput{Name: &name}
	for _, fn := range edit {
		fn(in)
	}
	out, err := f.CreateStack(as(me), in)
	f.must(err)
	return *out.Stack
}

func (f *fixture) associate(fleet, stack string) {
	f.t.Helper()
	_, err := f.AssociateFleet(as(me), &api.AssociateFleetInput{FleetName: &fleet, StackName: &stack})
	f.must(err)
}

func (f *fixture) describeStack(name string) types.Stack {
	f.t.Helper()
	out, err := f.DescribeStacks(as(me), &api.DescribeStacksInput{Names: []string{name}})
	f.must(err)
	return out.Stacks[0]
}

// A stack that says nothing has seven user settings, all of them enabled, and application settings that are off: what the acceptance
// tests of Terraform's provider expect of AWS.
func TestCreateStackAnswersAsAWSDoes(t *testing.T) {
	f := newFixture(t)
	got := f.stack("least")
	if got.CreatedTime == nil || time.Since(*got.CreatedTime) > time.Minute {
		t.Errorf("CreatedTime = %v", got.CreatedTime)
	}
	enabled := func(actions ...types.Action) (list []types.UserSetting) {
		for _, a := range actions {
			list = append(list, types.UserSetting{Action: a, Permission: types.PermissionEnabled})
		}
		return list
	}
	defaults := enabled("CLIPBOARD_COPY_FROM_LOCAL_DEVICE", "CLIPBOARD_COPY_TO_LOCAL_DEVICE", "FILE_UPLOAD", "FILE_DOWNLOAD", "PRINTING_TO_LOCAL_DEVICE",
		"DOMAIN_PASSWORD_SIGNIN", "DOMAIN_SMART_CARD_SIGNIN")
	want := types.Stack{Name: new("least"), Arn: new("arn:aws:appstream:us-west-2:" + me + ":stack/least"), CreatedTime: got.CreatedTime,
		UserSettings: defaults, ApplicationSettings: &types.ApplicationSettingsResponse{Enabled: new(false)}}
	if diff := cmp.Diff(want, got, noSmithy); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	defaults[2].Permission = types.PermissionDisabled
	defaults[0].MaximumLength = new(int32(100))
	got = f.stack("most", func(in *api.CreateStackInput) {
		in.Description, in.DisplayName, in.Tags = new("for tests"), new("Most"), map[string]string{"team": "lab"}
		in.RedirectURL, in.FeedbackURL = new("https://example.com/bye?x=1"), new("http://example.com/feedback")
		in.EmbedHostDomains = []string{"example.com", "sub.example.com"}
		in.AccessEndpoints = []types.AccessEndpoint{{EndpointType: types.AccessEndpointTypeStreaming, VpceId: new("vpce-1")}}
		in.ApplicationSettings = &types.ApplicationSettings{Enabled: new(true), SettingsGroup: new("group")}
		in.StorageConnectors = []types.StorageConnector{{ConnectorType: types.StorageConnectorTypeHomefolders},
			{ConnectorType: types.StorageConnectorTypeOneDrive, Domains: []string{"example.com"}, DomainsRequireAdminConsent: []string{"example.com"}}}
		in.StreamingExperienceSettings = &types.StreamingExperienceSettings{PreferredProtocol: types.PreferredProtocolUdp}
		in.ContentRedirection = &types.ContentRedirection{HostToClient: &types.UrlRedirectionConfig{Enabled: new(true), AllowedUrls: []string{"*"}}}
		in.UserSettings = []types.UserSetting{{Action: "AUTO_TIME_ZONE_REDIRECTION", Permission: types.PermissionDisabled},
			{Action: types.ActionFileUpload, Permission: types.PermissionDisabled},
			{Action: types.ActionClipboardCopyFromLocalDevice, Permission: types.PermissionEnabled, MaximumLength: new(int32(100))}}
	})
	want = types.Stack{Name: new("most"), Arn: new("arn:aws:appstream:us-west-2:" + me + ":stack/most"), CreatedTime: got.CreatedTime, Description: new("for tests"), DisplayName: new("Most"),
		RedirectURL: new("https://example.com/bye?x=1"), FeedbackURL: new("http://example.com/feedback"), EmbedHostDomains: []string{"example.com", "sub.example.com"},
		AccessEndpoints: []types.AccessEndpoint{{EndpointType: types.AccessEndpointTypeStreaming, VpceId: new("vpce-1")}},
		ApplicationSettings: &types.ApplicationSettingsResponse{Enabled: new(true), SettingsGroup: new("group"),
			S3BucketName: got.ApplicationSettings.S3BucketName},
		StorageConnectors: []types.StorageConnector{{ConnectorType: types.StorageConnectorTypeHomefolders, ResourceIdentifier: new("appstream2-36fb080bb8-us-west-2-" + me)},
			{ConnectorType: types.StorageConnectorTypeOneDrive, Domains: []string{"example.com"}, DomainsRequireAdminConsent: []string{"example.com"}}},
		StreamingExperienceSettings: &types.StreamingExperienceSettings{PreferredProtocol: types.PreferredProtocolUdp},
		ContentRedirection:          &types.ContentRedirection{HostToClient: &types.UrlRedirectionConfig{Enabled: new(true), AllowedUrls: []string{"*"}}},
		UserSettings:                append(defaults, types.UserSetting{Action: "AUTO_TIME_ZONE_REDIRECTION", Permission: types.PermissionDisabled}),
	}
	if diff := cmp.Diff(want, got, noSmithy); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, f.describeStack("most"), noSmithy); diff != "" {
		t.Errorf("described (-want +got):\n%s", diff)
	}
	if bucket := *got.ApplicationSettings.S3BucketName; !strings.HasPrefix(bucket, "appstream-app-settings-us-west-2-"+me+"-") {
		t.Errorf("S3BucketName = %s", bucket)
	}
}

var agents = &types.AgentAccessConfig{ScreenResolution: types.ScreenResolutionW1280xH720, ScreenImageFormat: types.ScreenImageFormatPng,
	Settings: []types.AgentAccessSetting{{AgentAction: types.AgentActionComputerVision, Permission: types.PermissionEnabled}}}

func TestCreateStackRefusals(t *testing.T) {
	f := newFixture(t, func(c *service.Config) { c.Quotas.Stacks = 1 })
	f.stack("taken")
	setting := func(list ...types.UserSetting) func(*api.CreateStackInput) {
		return func(in *api.CreateStackInput) { in.UserSettings = list }
	}
	connectors := func(list ...types.StorageConnector) func(*api.CreateStackInput) {
		return func(in *api.CreateStackInput) { in.StorageConnectors = list }
	}
	redirect := func(url string) func(*api.CreateStackInput) {
		return func(in *api.CreateStackInput) { in.RedirectURL = &url }
	}
	agent := func(edit func(*types.AgentAccessConfig)) func(*api.CreateStackInput) {
		return func(in *api.CreateStackInput) {
			config := *agents
			edit(&config)
			in.AgentAccessConfig = &config
		}
	}
	const combination = appstream.InvalidParameterCombination
	for name, test := range map[string]struct {
		edit func(*api.CreateStackInput)
		kind appstream.Kind
		says string
	}{
		"taken":    {func(in *api.CreateStackInput) { in.Name = new("taken") }, appstream.ResourceAlreadyExists, "The stack taken already exists"},
		"one more": {func(*api.CreateStackInput) {}, appstream.LimitExceeded, "Limit: 1"},
		"endpoint": {func(in *api.CreateStackInput) {
			in.AccessEndpoints = []types.AccessEndpoint{{EndpointType: "STREAMING"}}
		}, combination, "AccessEndpoints[0]"},
		"setting twice":         {setting(types.UserSetting{Action: "FILE_UPLOAD", Permission: "ENABLED"}, types.UserSetting{Action: "FILE_UPLOAD", Permission: "DISABLED"}), combination, "UserSettings[1]"},
		"length of files":       {setting(types.UserSetting{Action: "FILE_UPLOAD", Permission: "ENABLED", MaximumLength: new(int32(1))}), combination, "UserSettings[0].MaximumLength"},
		"length while disabled": {setting(types.UserSetting{Action: "CLIPBOARD_COPY_TO_LOCAL_DEVICE", Permission: "DISABLED", MaximumLength: new(int32(1))}), combination, "DISABLED"},
		"length of nothing":     {setting(types.UserSetting{Action: "CLIPBOARD_COPY_TO_LOCAL_DEVICE", Permission: "ENABLED", MaximumLength: new(int32(0))}), combination, "between 1 and 20971520"},
		"length too much":       {setting(types.UserSetting{Action: "CLIPBOARD_COPY_TO_LOCAL_DEVICE", Permission: "ENABLED", MaximumLength: new(int32(20971521))}), combination, "between 1 and 20971520"},
		"connector twice":       {connectors(types.StorageConnector{ConnectorType: "HOMEFOLDERS"}, types.StorageConnector{ConnectorType: "HOMEFOLDERS"}), combination, "StorageConnectors[1]"},
		"consent":               {connectors(types.StorageConnector{ConnectorType: "GOOGLE_DRIVE", DomainsRequireAdminConsent: []string{"example.com"}}), combination, "ONE_DRIVE"},
		"script":                {redirect("javascript:alert(1)"), combination, "RedirectURL"},
		"file":                  {redirect("file:///etc/passwd"), combination, "RedirectURL"},
		"no host":               {redirect("https:///x"), combination, "RedirectURL"},
		"no scheme":             {redirect("//example.com"), combination, "RedirectURL"},
		"password":              {redirect("https://u:p@example.com"), combination, "RedirectURL"},
		"line":                  {redirect("https://example.com/\r\nX: y"), combination, "RedirectURL"},
		"feedback":              {func(in *api.CreateStackInput) { in.FeedbackURL = new("mailto:x@example.com") }, combination, "FeedbackURL"},
		"agents and settings": {func(in *api.CreateStackInput) {
			in.AgentAccessConfig, in.UserSettings = agents, []types.UserSetting{{Action: "FILE_UPLOAD", Permission: "ENABLED"}}
		}, combination, "UserSettings"},
		"agents and protocol": {func(in *api.CreateStackInput) {
			in.AgentAccessConfig, in.StreamingExperienceSettings = agents, &types.StreamingExperienceSettings{PreferredProtocol: "TCP"}
		}, combination, "StreamingExperienceSettings"},
		"agents that see nothing": {agent(func(a *types.AgentAccessConfig) {
			a.Settings = []types.AgentAccessSetting{{AgentAction: "COMPUTER_INPUT", Permission: "ENABLED"}, {AgentAction: "COMPUTER_VISION", Permission: "DISABLED"}}
		}), combination, "COMPUTER_VISION"},
		"agents twice":         {agent(func(a *types.AgentAccessConfig) { a.Settings = append(slices.Clone(a.Settings), a.Settings...) }), combination, "Settings[1]"},
		"agents, no settings":  {agent(func(a *types.AgentAccessConfig) { a.Settings = nil }), combination, "Settings"},
		"agents, no bucket":    {agent(func(a *types.AgentAccessConfig) { a.ScreenshotsUploadEnabled = new(true) }), combination, "S3BucketArn"},
		"agents, no format":    {agent(func(a *types.AgentAccessConfig) { a.ScreenImageFormat = "" }), combination, "ScreenImageFormat"},
		"agents, no dimension": {agent(func(a *types.AgentAccessConfig) { a.ScreenResolution = "" }), combination, "ScreenResolution"},
	} {
		t.Run(name, func(t *testing.T) {
			in := &api.CreateStackInput{Name: new("new")}
			test.edit(in)
			_, err := f.CreateStack(as(me), in)
			refused(t, err, test.kind, test.says)
		})
	}
}

// Whatever settings are sent, every action is there once, those that were sent as they were sent and all others enabled; and a person
// is allowed what they say.
func TestUserSettings(t *testing.T) {
	f := newFixture(t, func(c *service.Config) { c.Quotas.Stacks = 1_000_000 })
	made := 0
	rapid.Check(t, func(rt *rapid.T) {
		sent := map[types.Action]types.UserSetting{}
		var list []types.UserSetting
		for _, action := range rapid.SliceOfDistinct(rapid.SampledFrom(append(types.Action("").Values(), "AUTO_TIME_ZONE_REDIRECTION")), rapid.ID[types.Action]).Draw(rt, "actions") {
			u := types.UserSetting{Action: action, Permission: rapid.SampledFrom(types.Permission("").Values()).Draw(rt, "permission")}
			if strings.HasPrefix(string(action), "CLIPBOARD") && u.Permission == types.PermissionEnabled && rapid.Bool().Draw(rt, "limited") {
				u.MaximumLength = new(rapid.Int32Range(1, 20971520).Draw(rt, "length"))
			}
			sent[action] = u
			list = append(list, u)
		}
		made++
		got := f.stack(fmt.Sprint("s", made), func(in *api.CreateStackInput) { in.UserSettings = list }).UserSettings
		seen := map[types.Action]bool{}
		for _, u := range got {
			want, ok := sent[u.Action]
			if !ok {
				want = types.UserSetting{Action: u.Action, Permission: types.PermissionEnabled}
			}
			if diff := cmp.Diff(want, u, noSmithy); seen[u.Action] || diff != "" {
				rt.Errorf("%s, seen before: %t\n%s", u.Action, seen[u.Action], diff)
			}
			seen[u.Action] = true
		}
		for _, u := range appstream.DefaultUserSettings() {
			if !seen[u.Action] {
				rt.Errorf("%s is not there", u.Action)
			}
		}
		rules := (&appstream.Stack{View: types.Stack{UserSettings: got}}).Rules()
		allowed := func(a types.Action) bool { u, ok := sent[a]; return !ok || u.Permission == types.PermissionEnabled }
		if rules.Upload != allowed("FILE_UPLOAD") || rules.Download != allowed("FILE_DOWNLOAD") || rules.Print != allowed("PRINTING_TO_LOCAL_DEVICE") ||
			rules.CopyIn != allowed("CLIPBOARD_COPY_FROM_LOCAL_DEVICE") || rules.CopyOut != allowed("CLIPBOARD_COPY_TO_LOCAL_DEVICE") || rules.TimeZone != allowed("AUTO_TIME_ZONE_REDIRECTION") {
			rt.Errorf("%+v of %+v", rules, sent)
		}
	})
}

// An update changes what it sends and deletes, and nothing else.
func TestUpdateStackKeepsWhatIsNotSent(t *testing.T) {
	f := newFixture(t)
	f.stack("desk", func(in *api.CreateStackInput) {
		in.Description, in.DisplayName, in.RedirectURL, in.FeedbackURL = new("d"), new("n"), new("https://a.example"), new("https://b.example")
		in.EmbedHostDomains = []string{"example.com"}
		in.StorageConnectors = []types.StorageConnector{{ConnectorType: "HOMEFOLDERS"}, {ConnectorType: "GOOGLE_DRIVE"}, {ConnectorType: "ONE_DRIVE"}}
		in.ApplicationSettings = &types.ApplicationSettings{Enabled: new(true)}
		in.UserSettings = []types.UserSetting{{Action: "FILE_UPLOAD", Permission: "DISABLED"}}
		in.AccessEndpoints = []types.AccessEndpoint{{EndpointType: "STREAMING", VpceId: new("vpce-1")}}
		in.StreamingExperienceSettings = &types.StreamingExperienceSettings{PreferredProtocol: "TCP"}
		in.ContentRedirection = &types.ContentRedirection{}
	})
	want := f.describeStack("desk")
	if *want.ApplicationSettings.SettingsGroup != "desk" {
		t.Errorf("the settings group is %s", *want.ApplicationSettings.SettingsGroup)
	}
	settings := func(disabled ...types.Action) []types.UserSetting {
		list := appstream.DefaultUserSettings()
		for n := range list {
			if slices.Contains(disabled, list[n].Action) {
				list[n].Permission = types.PermissionDisabled
			}
		}
		return list
	}
	del := func(attributes ...types.StackAttribute) *api.UpdateStackInput {
		return &api.UpdateStackInput{AttributesToDelete: attributes}
	}
	for _, step := range []struct {
		in   *api.UpdateStackInput
		want func()
	}{
		{&api.UpdateStackInput{}, func() {}},
		{&api.UpdateStackInput{Description: new("")}, func() { want.Description = new("") }},
		{&api.UpdateStackInput{DisplayName: new("other")}, func() { want.DisplayName = new("other") }},
		{&api.UpdateStackInput{RedirectURL: new("https://c.example")}, func() { want.RedirectURL = new("https://c.example") }},
		{&api.UpdateStackInput{FeedbackURL: new("")}, func() { want.FeedbackURL = nil }},
		{&api.UpdateStackInput{UserSettings: []types.UserSetting{{Action: "FILE_DOWNLOAD", Permission: "DISABLED"}}}, func() { want.UserSettings = settings("FILE_DOWNLOAD") }},
		{&api.UpdateStackInput{EmbedHostDomains: []string{"b.example"}}, func() { want.EmbedHostDomains = []string{"b.example"} }},
		{&api.UpdateStackInput{ApplicationSettings: &types.ApplicationSettings{Enabled: new(false), SettingsGroup: new("x")}},
			func() { want.ApplicationSettings = &types.ApplicationSettingsResponse{Enabled: new(false)} }},
		{&api.UpdateStackInput{StreamingExperienceSettings: &types.StreamingExperienceSettings{PreferredProtocol: "UDP"}},
			func() { want.StreamingExperienceSettings.PreferredProtocol = "UDP" }},
		{&api.UpdateStackInput{AccessEndpoints: []types.AccessEndpoint{{EndpointType: "STREAMING", VpceId: new("vpce-2")}}}, func() { want.AccessEndpoints[0].VpceId = new("vpce-2") }},
		{del(types.StackAttributeStorageConnectorGoogleDrive), func() { want.StorageConnectors = slices.Delete(want.StorageConnectors, 1, 2) }},
		{del(types.StackAttributeStorageConnectorOneDrive), func() { want.StorageConnectors = want.StorageConnectors[:1] }},
		{del(types.StackAttributeStorageConnectorHomefolders), func() { want.StorageConnectors = nil }},
		{&api.UpdateStackInput{StorageConnectors: []types.StorageConnector{{ConnectorType: "ONE_DRIVE"}}}, func() { want.StorageConnectors = []types.StorageConnector{{ConnectorType: "ONE_DRIVE"}} }},
		{&api.UpdateStackInput{DeleteStorageConnectors: new(true)}, func() { want.StorageConnectors = nil }},
		{del(types.StackAttributeStorageConnectors, types.StackAttributeThemeName, types.StackAttributeIamRoleArn, types.StackAttributeAgentAccessConfig), func() {}},
		{del(types.StackAttributeRedirectUrl, types.StackAttributeFeedbackUrl), func() { want.RedirectURL = nil }},
		{del(types.StackAttributeUserSettings), func() { want.UserSettings = settings() }},
		{del(types.StackAttributeEmbedHostDomains, types.StackAttributeAccessEndpoints), func() { want.EmbedHostDomains, want.AccessEndpoints = nil, nil }},
		{del(types.StackAttributeContentRedirection), func() { want.ContentRedirection = nil }},
		{&api.UpdateStackInput{AttributesToDelete: []types.StackAttribute{"USER_SETTINGS", "STREAMING_EXPERIENCE_SETTINGS"}, AgentAccessConfig: &types.AgentAccessConfigForUpdate{
			Settings: agents.Settings, ScreenImageFormat: agents.ScreenImageFormat, ScreenResolution: agents.ScreenResolution}},
			func() {
				want.UserSettings, want.StreamingExperienceSettings, want.AgentAccessConfig = nil, nil, new(*agents)
			}},
		{&api.UpdateStackInput{AgentAccessConfig: &types.AgentAccessConfigForUpdate{ScreenImageFormat: "JPEG"}}, func() { want.AgentAccessConfig.ScreenImageFormat = "JPEG" }},
		{del(types.StackAttributeAgentAccessConfig), func() { want.AgentAccessConfig, want.UserSettings = nil, settings() }},
	} {
		step.in.Name = new("desk")
		out, err := f.UpdateStack(as(me), step.in)
		f.must(err)
		step.want()
		empty := cmp.FilterValues(func(a, b []types.StorageConnector) bool { return len(a)+len(b) == 0 }, cmp.Ignore())
		if diff := cmp.Diff(want, *out.Stack, noSmithy, empty); diff != "" {
			t.Fatalf("%+v (-want +got):\n%s", step.in, diff)
		}
		if diff := cmp.Diff(want, f.describeStack("desk"), noSmithy, empty); diff != "" {
			t.Fatalf("described after %+v (-want +got):\n%s", step.in, diff)
		}
	}
}

func TestUpdateStackRefusals(t *testing.T) {
	f := newFixture(t)
	f.stack("desk", func(in *api.CreateStackInput) { in.RedirectURL = new("https://example.com") })
	before := f.describeStack("desk")
	for name, test := range map[string]struct {
		in   *api.UpdateStackInput
		kind appstream.Kind
		says string
	}{
		"missing":             {&api.UpdateStackInput{Name: new("nope")}, appstream.ResourceNotFound, "The stack nope for account " + me + " does not exist."},
		"set and deleted":     {&api.UpdateStackInput{RedirectURL: new("https://x.example"), AttributesToDelete: []types.StackAttribute{"REDIRECT_URL"}}, appstream.InvalidParameterCombination, "REDIRECT_URL"},
		"connectors":          {&api.UpdateStackInput{StorageConnectors: []types.StorageConnector{{ConnectorType: "ONE_DRIVE"}}, DeleteStorageConnectors: new(true)}, appstream.InvalidParameterCombination, "STORAGE_CONNECTORS"},
		"url":                 {&api.UpdateStackInput{FeedbackURL: new("data:text/html,x")}, appstream.InvalidParameterCombination, "FeedbackURL"},
		"half an agent":       {&api.UpdateStackInput{AgentAccessConfig: &types.AgentAccessConfigForUpdate{ScreenImageFormat: "PNG"}}, appstream.InvalidParameterCombination, "AgentAccessConfig"},
		"agents and settings": {&api.UpdateStackInput{AgentAccessConfig: &types.AgentAccessConfigForUpdate{Settings: agents.Settings, ScreenImageFormat: "PNG", ScreenResolution: "W_1280xH_720"}}, appstream.InvalidParameterCombination, "USER_SETTINGS"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.in.Name == nil {
				test.in.Name = new("desk")
			}
			_, err := f.UpdateStack(as(me), test.in)
			refused(t, err, test.kind, test.says)
		})
	}
	if diff := cmp.Diff(before, f.describeStack("desk"), noSmithy); diff != "" {
		t.Errorf("refused, and changed (-before +after):\n%s", diff)
	}
}

func TestAssociations(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{"b", "a"} {
		f.fleet("fleet-"+name, appstream.FleetStopped)
		f.stack("stack-" + name)
	}
	f.associate("fleet-a", "stack-b")
	f.associate("fleet-a", "stack-a")
	f.associate("fleet-a", "stack-a") // again
	f.associate("fleet-b", "stack-a")
	list := func(fleet, stack string, wantStacks, wantFleets []string) {
		t.Helper()
		stacks, err := f.ListAssociatedStacks(as(me), &api.ListAssociatedStacksInput{FleetName: &fleet})
		f.must(err)
		fleets, err := f.ListAssociatedFleets(as(me), &api.ListAssociatedFleetsInput{StackName: &stack})
		f.must(err)
		if !slices.Equal(stacks.Names, wantStacks) || !slices.Equal(fleets.Names, wantFleets) || stacks.NextToken != nil || fleets.NextToken != nil {
			t.Errorf("%s has %v, %s has %v", fleet, stacks.Names, stack, fleets.Names)
		}
	}
	list("fleet-a", "stack-a", []string{"stack-a", "stack-b"}, []string{"fleet-a", "fleet-b"})
	list("fleet-b", "stack-b", []string{"stack-a"}, []string{"fleet-a"})
	_, err := f.DeleteFleet(as(me), &api.DeleteFleetInput{Name: new("fleet-b")})
	refused(t, err, appstream.ResourceInUse, "The fleet fleet-b is associated with a stack. To delete the fleet, you must dissociate it from the stack.")
	_, err = f.DeleteStack(as(me), &api.DeleteStackInput{Name: new("stack-a")})
	refused(t, err, appstream.ResourceInUse, "Cannot delete stack stack-a. This stack has fleets associated with it. Only stacks with no fleets associated with it can be deleted.")
	for range 2 {
		_, err = f.DisassociateFleet(as(me), &api.DisassociateFleetInput{FleetName: new("fleet-a"), StackName: new("stack-a")})
		f.must(err)
	}
	list("fleet-a", "stack-a", []string{"stack-b"}, []string{"fleet-b"})
	_, err = f.DisassociateFleet(as(me), &api.DisassociateFleetInput{FleetName: new("fleet-b"), StackName: new("stack-a")})
	f.must(err)
	list("fleet-b", "stack-a", nil, nil)
	_, err = f.DeleteStack(as(me), &api.DeleteStackInput{Name: new("stack-a")})
	f.must(err)
	_, err = f.DeleteFleet(as(me), &api.DeleteFleetInput{Name: new("fleet-b")})
	f.must(err)
	for name, call := range map[string]func() error{
		"fleet fleet-b": func() error {
			_, err := f.AssociateFleet(as(me), &api.AssociateFleetInput{FleetName: new("fleet-b"), StackName: new("stack-b")})
			return err
		},
		"stack stack-a": func() error {
			_, err := f.AssociateFleet(as(me), &api.AssociateFleetInput{FleetName: new("fleet-a"), StackName: new("stack-a")})
			return err
		},
		"stack nope": func() error {
			_, err := f.DisassociateFleet(as(me), &api.DisassociateFleetInput{FleetName: new("fleet-a"), StackName: new("nope")})
			return err
		},
		"stack stack-a ": func() error {
			_, err := f.ListAssociatedFleets(as(me), &api.ListAssociatedFleetsInput{StackName: new("stack-a")})
			return err
		},
		"fleet fleet-b ": func() error {
			_, err := f.ListAssociatedStacks(as(me), &api.ListAssociatedStacksInput{FleetName: new("fleet-b")})
			return err
		},
		"fleet fleet-a": func() error { // of another account
			_, err := f.ListAssociatedStacks(as(other), &api.ListAssociatedStacksInput{FleetName: new("fleet-a")})
			return err
		},
		"stack stack-a  ": func() error {
			_, err := f.DescribeStacks(as(me), &api.DescribeStacksInput{Names: []string{"stack-b", "stack-a"}})
			return err
		},
		"stack stack-a   ": func() error {
			_, err := f.DeleteStack(as(me), &api.DeleteStackInput{Name: new("stack-a")})
			return err
		},
	} {
		refused(t, call(), appstream.ResourceNotFound, strings.TrimSpace(name))
	}
}

// Lists that are longer than a page come whole, in order, each name once.
func TestAssociationPages(t *testing.T) {
	f := newFixture(t, func(c *service.Config) { c.Quotas.Fleets, c.Quotas.Stacks = 1000, 1000 })
	const many = 230
	f.fleet("hub", appstream.FleetStopped)
	f.stack("hub")
	name := func(n int) string { return string(rune('a'+n/26)) + string(rune('a'+n%26)) }
	for n := range many {
		f.fleet(name(n), appstream.FleetStopped)
		f.stack(name(n))
		f.associate(name(n), "hub")
		f.associate("hub", name(n))
	}
	pages := func(what string, page func(token *string) ([]string, *string)) {
		t.Helper()
		var all []string
		var token *string
		for n := 0; n == 0 || token != nil; n++ {
			var names []string
			names, token = page(token)
			all = append(all, names...)
		}
		if len(all) != many || !slices.IsSorted(all) || len(slices.Compact(all)) != many {
			t.Errorf("%s: %d: %v", what, len(all), all)
		}
	}
	pages("fleets", func(token *string) ([]string, *string) {
		out, err := f.ListAssociatedFleets(as(me), &api.ListAssociatedFleetsInput{StackName: new("hub"), NextToken: token})
		f.must(err)
		return out.Names, out.NextToken
	})
	pages("stacks", func(token *string) ([]string, *string) {
		out, err := f.ListAssociatedStacks(as(me), &api.ListAssociatedStacksInput{FleetName: new("hub"), NextToken: token})
		f.must(err)
		return out.Names, out.NextToken
	})
	pages("all stacks", func(token *string) (names []string, next *string) {
		out, err := f.DescribeStacks(as(me), &api.DescribeStacksInput{NextToken: token})
		f.must(err)
		for _, s := range out.Stacks {
			if *s.Name != "hub" {
				names = append(names, *s.Name)
			}
		}
		return names, out.NextToken
	})
	_, err := f.ListAssociatedStacks(as(me), &api.ListAssociatedStacksInput{FleetName: new("hub"), NextToken: new("forged")})
	refused(t, err, appstream.Validation, "NextToken")
}

// However associations and removals race, no fleet is left with a stack that is gone, and quotas hold.
func TestAssociationRace(t *testing.T) {
	f := newFixture(t)
	f.fleet("pool", appstream.FleetStopped)
	for range 20 {
		f.stack("desk")
		var wg sync.WaitGroup
		begin := make(chan struct{})
		var associated, deleted error
		wg.Go(func() {
			<-begin
			_, associated = f.AssociateFleet(as(me), &api.AssociateFleetInput{FleetName: new("pool"), StackName: new("desk")})
		})
		wg.Go(func() {
			<-begin
			_, deleted = f.DeleteStack(as(me), &api.DeleteStackInput{Name: new("desk")})
		})
		close(begin)
		wg.Wait()
		stacks := f.editFleet("pool", func(*appstream.Fleet) {}).Stacks
		switch {
		case associated == nil && appstream.KindOf(deleted) == appstream.ResourceInUse && slices.Equal(stacks, []string{"desk"}):
			_, err := f.DisassociateFleet(as(me), &api.DisassociateFleetInput{FleetName: new("pool"), StackName: new("desk")})
			f.must(err)
			_, err = f.DeleteStack(as(me), &api.DeleteStackInput{Name: new("desk")})
			f.must(err)
		case appstream.KindOf(associated) == appstream.ResourceNotFound && deleted == nil && len(stacks) == 0:
		default:
			t.Fatalf("associated: %v, deleted: %v, the fleet has %v", associated, deleted, stacks)
		}
	}
	made := make([]error, 40)
	var wg sync.WaitGroup
	for n := range made {
		wg.Go(func() { _, made[n] = f.CreateStack(as(me), &api.CreateStackInput{Name: new(fmt.Sprint("s", n))}) })
	}
	wg.Wait()
	if n := len(slices.DeleteFunc(made, func(err error) bool { return appstream.KindOf(err) == appstream.LimitExceeded })); n != 10 {
		t.Errorf("%d stacks were made of 10 that there may be", n)
	}
}
