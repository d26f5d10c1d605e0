package service

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/url"
	"slices"
	"time"

	aws "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// CreateStack creates a stack.
func (s *Service) CreateStack(ctx context.Context, in *aws.CreateStackInput) (*aws.CreateStackOutput, error) {
	c := appstream.CallerFrom(ctx)
	st := appstream.Stack{Meta: appstream.Meta{Key: key(c, appstream.NounStack, value(in.Name)), ID: newID("stack-"), Tags: maps.Clone(in.Tags)}}
	st.View = types.Stack{
		AccessEndpoints: in.AccessEndpoints, AgentAccessConfig: in.AgentAccessConfig, ContentRedirection: in.ContentRedirection,
		Description: in.Description, DisplayName: in.DisplayName, EmbedHostDomains: in.EmbedHostDomains,
		FeedbackURL: notEmpty(in.FeedbackURL), RedirectURL: notEmpty(in.RedirectURL),
		StorageConnectors: in.StorageConnectors, StreamingExperienceSettings: in.StreamingExperienceSettings,
		ApplicationSettings: applicationSettings(&st, in.ApplicationSettings),
		UserSettings:        in.UserSettings,
	}
	if err := completeStack(&st); err != nil {
		return nil, err
	}
	err := s.change(ctx, "appstream:CreateStack", st.Key, func(tx store.Tx, now time.Time) error {
		if err := s.room(tx, st.Key, &appstream.Stack{}, s.cfg.Quotas.Stacks, "The stack %s already exists. Choose another name, or delete it first."); err != nil {
			return err
		}
		st.Created = now
		st.Enter(appstream.StackAvailable, now, 0)
		return insert(tx, &st, now, "CreateStack")
	})
	if err != nil {
		return nil, err
	}
	return &aws.CreateStackOutput{Stack: new(st.Describe())}, nil
}

// completeStack checks a stack, new or updated, and fills in what follows from what was sent.
func completeStack(st *appstream.Stack) error {
	v := &st.View
	if err := checkEndpoints(v.AccessEndpoints); err != nil {
		return err
	}
	for _, u := range []struct {
		member string
		url    *string
	}{{"RedirectURL", v.RedirectURL}, {"FeedbackURL", v.FeedbackURL}} {
		if u.url != nil && !webAddress(*u.url) {
			return appstream.Errorf(appstream.InvalidParameterCombination, "%s is not the address of a web page. Specify one that begins with https:// or http://.", u.member)
		}
	}
	if err := completeConnectors(st); err != nil {
		return err
	}
	if err := checkAgentAccess(v); err != nil {
		return err
	}
	if v.AgentAccessConfig != nil {
		return nil
	}
	settings, err := userSettings(v.UserSettings)
	v.UserSettings = settings
	return err
}

// webAddress tells whether a browser can be sent to an address.
func webAddress(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" && u.User == nil
}

func notEmpty(text *string) *string { return appstream.Optional(value(text)) }

// maxClipboard is the greatest MaximumLength of a clipboard action, in characters.
const maxClipboard = 20 << 20

// userSettings completes the settings that were sent: every action that was not is enabled.
func userSettings(sent []types.UserSetting) ([]types.UserSetting, error) {
	list := appstream.DefaultUserSettings()
	seen := map[types.Action]bool{}
	for n, u := range sent {
		clipboard := u.Action == types.ActionClipboardCopyFromLocalDevice || u.Action == types.ActionClipboardCopyToLocalDevice
		switch length := u.MaximumLength; {
		case seen[u.Action]:
			return nil, appstream.Errorf(appstream.InvalidParameterCombination, "UserSettings[%d] is the second setting of the action %s. Specify each action once.", n, u.Action)
		case length != nil && !clipboard:
			return nil, appstream.Errorf(appstream.InvalidParameterCombination, "UserSettings[%d].MaximumLength cannot be specified for the action %s, only for the two clipboard actions.", n, u.Action)
		case length != nil && u.Permission != types.PermissionEnabled:
			return nil, appstream.Errorf(appstream.InvalidParameterCombination, "UserSettings[%d].MaximumLength cannot be specified while %s is DISABLED.", n, u.Action)
		case length != nil && (*length < 1 || *length > maxClipboard):
			return nil, appstream.Errorf(appstream.InvalidParameterCombination, "UserSettings[%d].MaximumLength is %d. It must be between 1 and %d.", n, *length, maxClipboard)
		}
		seen[u.Action] = true
		if at := slices.IndexFunc(list, func(d types.UserSetting) bool { return d.Action == u.Action }); at >= 0 {
			list[at] = u
		} else {
			list = append(list, u)
		}
	}
	return list, nil
}

// completeConnectors checks the storage connectors, and names the bucket that AppStream would keep home folders in.
func completeConnectors(st *appstream.Stack) error {
	list := slices.Clone(st.View.StorageConnectors)
	for n := range list {
		connector := &list[n]
		same := func(other types.StorageConnector) bool { return other.ConnectorType == connector.ConnectorType }
		switch {
		case slices.ContainsFunc(list[:n], same):
			return appstream.Errorf(appstream.InvalidParameterCombination, "StorageConnectors[%d] is the second one of the type %s. Specify each type once.", n, connector.ConnectorType)
		case len(connector.DomainsRequireAdminConsent) > 0 && connector.ConnectorType != types.StorageConnectorTypeOneDrive:
			return appstream.Errorf(appstream.InvalidParameterCombination, "StorageConnectors[%d].DomainsRequireAdminConsent can only be specified for the type ONE_DRIVE.", n)
		case connector.ConnectorType == types.StorageConnectorTypeHomefolders && connector.ResourceIdentifier == nil:
			connector.ResourceIdentifier = new("appstream2-36fb080bb8-" + st.Region + "-" + st.Account)
		}
	}
	st.View.StorageConnectors = list
	return nil
}

// applicationSettings is what a stack shows of its application settings. A settings group that is not named is the stack's own.
func applicationSettings(st *appstream.Stack, sent *types.ApplicationSettings) *types.ApplicationSettingsResponse {
	if sent == nil || !value(sent.Enabled) {
		return &types.ApplicationSettingsResponse{Enabled: new(false)}
	}
	group := value(sent.SettingsGroup)
	if group == "" {
		group = st.Name
	}
	sum := sha256.Sum256([]byte(st.Account + st.Region)) // AWS ends the name of the bucket with something random
	return &types.ApplicationSettingsResponse{Enabled: new(true), SettingsGroup: &group,
		S3BucketName: new("appstream-app-settings-" + st.Region + "-" + st.Account + "-" + hex.EncodeToString(sum[:4]))}
}

// checkAgentAccess checks the access of agents. A stack is for agents or for people: the settings of people do not go with it.
func checkAgentAccess(v *types.Stack) error {
	a := v.AgentAccessConfig
	if a == nil {
		return nil
	}
	enabled, seen := map[types.AgentAction]bool{}, map[types.AgentAction]bool{}
	for n, setting := range a.Settings {
		if seen[setting.AgentAction] {
			return appstream.Errorf(appstream.InvalidParameterCombination, "AgentAccessConfig.Settings[%d] is the second setting of the action %s. Specify each action once.", n, setting.AgentAction)
		}
		seen[setting.AgentAction], enabled[setting.AgentAction] = true, setting.Permission == types.PermissionEnabled
	}
	switch {
	case len(a.Settings) == 0, a.ScreenResolution == "", a.ScreenImageFormat == "":
		return appstream.Errorf(appstream.InvalidParameterCombination, "AgentAccessConfig must have Settings, ScreenResolution and ScreenImageFormat.")
	case enabled[types.AgentActionComputerInput] && !enabled[types.AgentActionComputerVision]:
		return appstream.Errorf(appstream.InvalidParameterCombination, "AgentAccessConfig.Settings enables COMPUTER_INPUT. Enable COMPUTER_VISION too.")
	case value(a.ScreenshotsUploadEnabled) && value(a.S3BucketArn) == "":
		return appstream.Errorf(appstream.InvalidParameterCombination, "AgentAccessConfig.ScreenshotsUploadEnabled is true. Specify S3BucketArn too.")
	case len(v.UserSettings) > 0 || v.StreamingExperienceSettings != nil:
		return appstream.Errorf(appstream.InvalidParameterCombination, "AgentAccessConfig cannot be combined with UserSettings or StreamingExperienceSettings. "+
			"Leave them out; on an existing stack, delete them with USER_SETTINGS and STREAMING_EXPERIENCE_SETTINGS in AttributesToDelete.")
	}
	return nil
}

// DescribeStacks describes the named stacks, or all of the account in the region.
func (s *Service) DescribeStacks(ctx context.Context, in *aws.DescribeStacksInput) (*aws.DescribeStacksOutput, error) {
	c := appstream.CallerFrom(ctx)
	p, err := openPage(c, in, listSize, listSize)
	if err != nil {
		return nil, err
	}
	list, next, err := records[appstream.Stack](ctx, s, c, p, appstream.NounStack, in.Names)
	if err != nil {
		return nil, err
	}
	out := &aws.DescribeStacksOutput{Stacks: make([]types.Stack, len(list)), NextToken: next}
	for n := range list {
		out.Stacks[n] = list[n].Describe()
	}
	return out, nil
}

// UpdateStack changes a stack: what is sent replaces what was, what is not sent stays. Sessions that there are keep the settings that
// they began with.
func (s *Service) UpdateStack(ctx context.Context, in *aws.UpdateStackInput) (*aws.UpdateStackOutput, error) {
	k := key(appstream.CallerFrom(ctx), appstream.NounStack, value(in.Name))
	if err := checkStackDeletes(in); err != nil {
		return nil, err
	}
	var st appstream.Stack
	err := s.change(ctx, "appstream:UpdateStack", k, func(tx store.Tx, _ time.Time) error {
		if err := get(tx, k, &st); err != nil {
			return err
		}
		updateStack(&st, in)
		if err := completeStack(&st); err != nil {
			return err
		}
		return tx.Put(&st)
	})
	if err != nil {
		return nil, err
	}
	return &aws.UpdateStackOutput{Stack: new(st.Describe())}, nil
}

func updateStack(st *appstream.Stack, in *aws.UpdateStackInput) {
	v := &st.View
	without := func(connector types.StorageConnectorType) {
		v.StorageConnectors = slices.DeleteFunc(slices.Clone(v.StorageConnectors), func(c types.StorageConnector) bool { return c.ConnectorType == connector })
	}
	for _, attribute := range stackDeletes(in) {
		switch attribute { // THEME_NAME and IAM_ROLE_ARN: stacks have no such attribute any more
		case types.StackAttributeStorageConnectors:
			v.StorageConnectors = nil
		case types.StackAttributeStorageConnectorHomefolders:
			without(types.StorageConnectorTypeHomefolders)
		case types.StackAttributeStorageConnectorGoogleDrive:
			without(types.StorageConnectorTypeGoogleDrive)
		case types.StackAttributeStorageConnectorOneDrive:
			without(types.StorageConnectorTypeOneDrive)
		case types.StackAttributeRedirectUrl:
			v.RedirectURL = nil
		case types.StackAttributeFeedbackUrl:
			v.FeedbackURL = nil
		case types.StackAttributeUserSettings:
			v.UserSettings = nil
		case types.StackAttributeEmbedHostDomains:
			v.EmbedHostDomains = nil
		case types.StackAttributeAccessEndpoints:
			v.AccessEndpoints = nil
		case types.StackAttributeStreamingExperienceSettings:
			v.StreamingExperienceSettings = nil
		case types.StackAttributeContentRedirection:
			v.ContentRedirection = nil
		case types.StackAttributeAgentAccessConfig:
			v.AgentAccessConfig = nil
		}
	}
	set(&v.Description, in.Description)
	set(&v.DisplayName, in.DisplayName)
	set(&v.StreamingExperienceSettings, in.StreamingExperienceSettings)
	set(&v.ContentRedirection, in.ContentRedirection)
	setList(&v.AccessEndpoints, in.AccessEndpoints)
	setList(&v.EmbedHostDomains, in.EmbedHostDomains)
	setList(&v.StorageConnectors, in.StorageConnectors)
	setList(&v.UserSettings, in.UserSettings)
	if in.RedirectURL != nil {
		v.RedirectURL = notEmpty(in.RedirectURL)
	}
	if in.FeedbackURL != nil {
		v.FeedbackURL = notEmpty(in.FeedbackURL)
	}
	if in.ApplicationSettings != nil {
		v.ApplicationSettings = applicationSettings(st, in.ApplicationSettings)
	}
	if a := in.AgentAccessConfig; a != nil {
		next := types.AgentAccessConfig{}
		if v.AgentAccessConfig != nil {
			next = *v.AgentAccessConfig
		}
		set(&next.S3BucketArn, a.S3BucketArn)
		set(&next.ScreenshotsUploadEnabled, a.ScreenshotsUploadEnabled)
		setList(&next.Settings, a.Settings)
		next.ScreenImageFormat, next.ScreenResolution = or(a.ScreenImageFormat, next.ScreenImageFormat), or(a.ScreenResolution, next.ScreenResolution)
		v.AgentAccessConfig = &next
	}
}

func setList[T any](member *[]T, sent []T) {
	if sent != nil {
		*member = sent
	}
}

// stackDeletes gives the attributes that an update deletes.
func stackDeletes(in *aws.UpdateStackInput) []types.StackAttribute {
	//lint:ignore SA1019 clients may still send it
	if value(in.DeleteStorageConnectors) {
		return append(slices.Clone(in.AttributesToDelete), types.StackAttributeStorageConnectors)
	}
	return in.AttributesToDelete
}

// checkStackDeletes refuses an attribute that is to be deleted and set at the same time.
func checkStackDeletes(in *aws.UpdateStackInput) error {
	return checkDeletes(stackDeletes(in), map[types.StackAttribute]any{
		types.StackAttributeStorageConnectors:           in.StorageConnectors,
		types.StackAttributeRedirectUrl:                 in.RedirectURL,
		types.StackAttributeFeedbackUrl:                 in.FeedbackURL,
		types.StackAttributeUserSettings:                in.UserSettings,
		types.StackAttributeEmbedHostDomains:            in.EmbedHostDomains,
		types.StackAttributeAccessEndpoints:             in.AccessEndpoints,
		types.StackAttributeStreamingExperienceSettings: in.StreamingExperienceSettings,
		types.StackAttributeContentRedirection:          in.ContentRedirection,
		types.StackAttributeAgentAccessConfig:           in.AgentAccessConfig,
	})
}

// DeleteStack deletes a stack that is associated with no fleet, with its associations with users and its entitlements.
func (s *Service) DeleteStack(ctx context.Context, in *aws.DeleteStackInput) (*aws.DeleteStackOutput, error) {
	k := key(appstream.CallerFrom(ctx), appstream.NounStack, value(in.Name))
	err := s.change(ctx, "appstream:DeleteStack", k, func(tx store.Tx, now time.Time) error {
		var st appstream.Stack
		if err := get(tx, k, &st); err != nil {
			return err
		}
		fleet, err := anyLinked(tx, store.Query{Noun: appstream.NounFleet, Region: k.Region, Accounts: []string{k.Account}, LinksTo: k.ARN()})
		if err != nil {
			return err
		}
		if fleet != nil {
			return appstream.Errorf(appstream.ResourceInUse, "Cannot delete stack %s. This stack has fleets associated with it. Only stacks with no fleets associated with it can be deleted.", k.Name)
		}
		if err := forgetStack(tx, k); err != nil {
			return err
		}
		if err := removeTheme(tx, k, now); err != nil {
			return err
		}
		if err := removeEntitlements(tx, k, now); err != nil {
			return err
		}
		return remove(tx, &st, now, "DeleteStack")
	})
	if err != nil {
		return nil, err
	}
	return &aws.DeleteStackOutput{}, nil
}
